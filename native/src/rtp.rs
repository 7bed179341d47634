//! The RTP header: read with everything devices put into it, written in its plain 12-byte form.
//!
//! Implements: GB/T 28181-2022 C.1
//! After: RFC 3550 5.1

/// The size of the header we write: no CSRC, no extension.
pub const HEADER_SIZE: usize = 12;

/// One parsed packet; the payload has its padding, CSRC list and extension already taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RtpError {
    /// Shorter than the fixed header, or than its CSRC list and extension say.
    Short,
    /// The version is not 2.
    Version,
    /// The padding count is zero or larger than what is there.
    Padding,
    /// An RTCP packet (RFC 5761 4) came on the RTP port; legal, and not media.
    Rtcp,
}

/// Parse one packet, honouring P, X and CC, all of which are met in the field.
pub fn parse(packet: &[u8]) -> Result<RtpPacket<'_>, RtpError> {
    if is_rtcp(packet) {
        return Err(RtpError::Rtcp); // may be shorter than an RTP header
    }
    let (header, mut payload) = packet.split_first_chunk::<HEADER_SIZE>().ok_or(RtpError::Short)?;
    if header[0] >> 6 != 2 {
        return Err(RtpError::Version);
    }
    payload = payload.get(usize::from(header[0] & 0x0F) * 4..).ok_or(RtpError::Short)?;
    if header[0] & 0x10 != 0 {
        let (extension, _) = payload.split_first_chunk::<4>().ok_or(RtpError::Short)?;
        let words = usize::from(u16::from_be_bytes([extension[2], extension[3]]));
        payload = payload.get(4 + words * 4..).ok_or(RtpError::Short)?;
    }
    if header[0] & 0x20 != 0 {
        let count = usize::from(*payload.last().ok_or(RtpError::Padding)?);
        if count == 0 || count > payload.len() {
            return Err(RtpError::Padding);
        }
        payload = &payload[..payload.len() - count];
    }
    Ok(RtpPacket {
        marker: header[1] & 0x80 != 0,
        payload_type: header[1] & 0x7F,
        sequence: u16::from_be_bytes([header[2], header[3]]),
        timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
        ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        payload,
    })
}

/// Whether the second byte is one of the RTCP packet types 192 to 223.
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.len() >= 2 && packet[0] >> 6 == 2 && (192..=223).contains(&packet[1])
}

/// What a sender says of its clocks in an RTCP sender report (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SenderReport {
    pub ssrc: u32,
    /// Seconds since 1900.
    pub ntp_s: f64,
    /// The same moment on the clock of the RTP times.
    pub rtp_ts: u32,
}

/// The sender report at the front of an RTCP packet, if there is one.
pub fn sender_report(packet: &[u8]) -> Option<SenderReport> {
    const SENDER_REPORT: u8 = 200;
    if packet.first()? >> 6 != 2 || *packet.get(1)? != SENDER_REPORT {
        return None;
    }
    let word = |at: usize| packet.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let ntp_s = f64::from(word(8)?) + f64::from(word(12)?) / 4_294_967_296.0;
    Some(SenderReport { ssrc: word(4)?, ntp_s, rtp_ts: word(16)? })
}

/// The SSRC of an RTP or RTCP packet long enough to have one; nothing else is checked.
pub fn ssrc(packet: &[u8]) -> Option<u32> {
    let at = if is_rtcp(packet) { 4 } else { 8 };
    packet.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// The 12 header bytes of a packet without CSRC, extension or padding.
pub fn write_header(
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
) -> [u8; HEADER_SIZE] {
    let mut header = [0; HEADER_SIZE];
    header[0] = 0x80;
    header[1] = u8::from(marker) << 7 | payload_type & 0x7F;
    header[2..4].copy_from_slice(&sequence.to_be_bytes());
    header[4..8].copy_from_slice(&timestamp.to_be_bytes());
    header[8..12].copy_from_slice(&ssrc.to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 200_000_001;

    #[test]
    fn the_worked_header_of_the_dossier_is_written_and_read() {
        let first = [0x80, 0x60, 0, 1, 0, 0x0d, 0xbb, 0xa0, 0x0b, 0xeb, 0xc2, 0x01];
        let last = [0x80, 0xe0, 0, 2, 0, 0x0d, 0xbb, 0xa0, 0x0b, 0xeb, 0xc2, 0x01];
        assert_eq!(write_header(false, 96, 1, 900_000, SSRC), first);
        assert_eq!(write_header(true, 96, 2, 900_000, SSRC), last);
        let packet = parse(&last).unwrap();
        assert_eq!((packet.marker, packet.payload_type, packet.sequence), (true, 96, 2));
        assert_eq!((packet.timestamp, packet.ssrc, packet.payload.len()), (900_000, SSRC, 0));
    }

    #[test]
    fn padding_extension_and_csrc_are_taken_off_the_payload() {
        let mut packet = write_header(false, 96, 1, 0, SSRC).to_vec();
        packet[0] |= 0x20 | 0x10 | 2;
        packet.extend([9; 8]); // two CSRC
        packet.extend([0xBE, 0xDE, 0, 1, 7, 7, 7, 7]); // one word of extension
        packet.extend(b"media");
        packet.extend([0, 0, 3]); // three bytes of padding
        assert_eq!(parse(&packet).unwrap().payload, b"media");
    }

    #[test]
    fn lengths_that_lie_are_errors() {
        let plain = write_header(false, 96, 1, 0, SSRC);
        assert_eq!(parse(&plain[..11]), Err(RtpError::Short));
        assert_eq!(parse(&[]), Err(RtpError::Short));
        let with = |first: u8, tail: &[u8]| {
            let mut packet = plain.to_vec();
            packet[0] = first;
            packet.extend(tail);
            parse(&packet).map(|packet| packet.payload.len())
        };
        assert_eq!(with(0x40, b""), Err(RtpError::Version));
        assert_eq!(with(0x81, b"abc"), Err(RtpError::Short));
        assert_eq!(with(0x90, &[0, 0, 0, 9, 1]), Err(RtpError::Short));
        assert_eq!(with(0xA0, &[1, 2, 4]), Err(RtpError::Padding));
        assert_eq!(with(0xA0, &[1, 2, 0]), Err(RtpError::Padding));
        assert_eq!(with(0xA0, b""), Err(RtpError::Padding));
        assert_eq!(with(0xA0, &[1, 2, 3]), Ok(0));
    }

    #[test]
    fn rtcp_on_the_media_port_is_recognised() {
        let mut report = write_header(false, 0, 1, 0, SSRC);
        report[1] = 200;
        assert_eq!(parse(&report), Err(RtpError::Rtcp));
    }

    #[test]
    fn a_sender_report_tells_its_clocks_and_any_other_rtcp_packet_does_not() {
        let mut report =
            vec![0x80, 200, 0, 6, 0x0b, 0xeb, 0xc2, 0x01, 0xE0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0x0d, 0xbb, 0xa0];
        assert_eq!(
            sender_report(&report),
            Some(SenderReport { ssrc: SSRC, ntp_s: 3_758_096_384.5, rtp_ts: 900_000 })
        );
        assert_eq!(sender_report(&report[..19]), None);
        report[1] = 201;
        assert_eq!(sender_report(&report), None);
        assert_eq!(sender_report(&[]), None);
    }
}
