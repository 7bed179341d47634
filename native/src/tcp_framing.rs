//! RTP over TCP: two length bytes and a packet, again and again.
//!
//! Implements: GB/T 28181-2022 Annex D
//! After: RFC 4571
//!
//! In step, a packet lying whole in the received bytes is handed out where it lies; only one cut by the end of a segment is
//! copied. Each header must show RTP version 2 and the SSRC of the one before. When it does not, we are out of step and
//! search: for the known SSRC at its place in a header, or for two headers of one SSRC, the second where the length of the
//! first says. That search also finds the RTSP form (`$`, channel, length), a vendor's preamble, and a sender that changes
//! its SSRC. It gives up after `SEARCH_MAX` bytes, and the connection is closed.

use memchr::memmem;

use crate::rtp;

/// Bytes thrown away without finding a header before the connection is given up.
pub const SEARCH_MAX: usize = 1 << 20;

/// How often the SSRC may change within what one read brought, before the connection is given up: each change is searched
/// for in all of it, and no sender has so many.
const SENDERS_MAX: usize = 32;

const RTP_HEADER: usize = rtp::HEADER_SIZE;

/// The connection carries nothing that looks like framed RTP; close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramingLost;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Two bytes of length (RFC 4571).
    Plain,
    /// `$`, channel 0 to 3, two bytes of length (RFC 2326 10.12); some devices send it without RTSP.
    Interleaved,
}

impl Form {
    const fn prefix(self) -> usize {
        match self {
            Form::Plain => 2,
            Form::Interleaved => 4,
        }
    }
}

/// What stands at a position that should be the start of a frame.
enum Step {
    /// Not enough bytes to tell; that many are needed from the position on.
    Need(usize),
    /// A whole frame: its packet begins after `prefix` and ends before `end`.
    Whole {
        prefix: usize,
        end: usize,
    },
    Lost,
}

/// A header that could be genuine.
struct Candidate {
    form: Form,
    end: usize,
    ssrc: u32,
}

/// Cuts a TCP byte stream into packets; holds at most one frame, or what a search has not decided yet.
#[derive(Debug)]
pub struct Deframer {
    form: Form,
    ssrc: Option<u32>,
    is_searching: bool,
    partial: Vec<u8>,
    skipped: usize,
    resyncs: u64,
}

impl Default for Deframer {
    fn default() -> Self {
        Deframer::new()
    }
}

impl Deframer {
    pub fn new() -> Deframer {
        Deframer {
            form: Form::Plain,
            ssrc: None,
            is_searching: false,
            partial: Vec::new(),
            skipped: 0,
            resyncs: 0,
        }
    }

    /// How often the framing was lost and found again.
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// Take received bytes and hand out each whole RTP or RTCP packet, in order.
    pub fn push(&mut self, data: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(), FramingLost> {
        let mut data = data;
        while !self.partial.is_empty() && !self.is_searching {
            match self.step(&self.partial) {
                Step::Need(total) => {
                    if data.is_empty() {
                        return Ok(());
                    }
                    let wanted = total.saturating_sub(self.partial.len());
                    let (now, later) = data.split_at(wanted.min(data.len()));
                    self.partial.extend_from_slice(now);
                    data = later;
                }
                Step::Whole { prefix, end } => {
                    let mut frame = std::mem::take(&mut self.partial);
                    self.accept(&frame[prefix..end], out);
                    frame.clear();
                    self.partial = frame;
                }
                Step::Lost => self.is_searching = true,
            }
        }
        if !self.is_searching {
            let used = self.drain(data, out);
            data = &data[used..];
        }
        self.partial.extend_from_slice(data);
        self.search(out)
    }

    /// Hand out whole frames from the front of `data`; returns the bytes used. Sets `is_searching` when out of step.
    fn drain(&mut self, data: &[u8], out: &mut impl FnMut(&[u8])) -> usize {
        let mut used = 0;
        loop {
            match self.step(&data[used..]) {
                Step::Whole { prefix, end } => {
                    self.accept(&data[used + prefix..used + end], out);
                    used += end;
                }
                Step::Need(_) => return used,
                Step::Lost => {
                    self.is_searching = true;
                    return used;
                }
            }
        }
    }

    fn accept(&mut self, packet: &[u8], out: &mut impl FnMut(&[u8])) {
        if self.ssrc.is_none() && packet.len() >= RTP_HEADER && !rtp::is_rtcp(packet) {
            self.ssrc = Some(ssrc_of(packet));
        }
        if !packet.is_empty() {
            out(packet);
        }
    }

    /// Judge the front of `bytes` by the form and SSRC we are in step with.
    fn step(&self, bytes: &[u8]) -> Step {
        let prefix = self.form.prefix();
        let Some(length) = self.length_at(bytes) else {
            return if bytes.len() < prefix { Step::Need(prefix) } else { Step::Lost };
        };
        if length == 0 {
            return Step::Whole { prefix, end: prefix }; // RFC 4571 2: a null packet
        }
        let Some(packet) = bytes.get(prefix..prefix + 2) else { return Step::Need(prefix + 2) };
        let end = prefix + length;
        if !rtp::is_rtcp(packet) {
            if packet[0] >> 6 != 2 || length < RTP_HEADER {
                return Step::Lost;
            }
            let Some(header) = bytes.get(prefix..prefix + RTP_HEADER) else {
                return Step::Need(prefix + RTP_HEADER);
            };
            if self.ssrc.is_some_and(|known| known != ssrc_of(header)) {
                return Step::Lost;
            }
        }
        if bytes.len() < end {
            return Step::Need(end);
        }
        Step::Whole { prefix, end }
    }

    fn length_at(&self, bytes: &[u8]) -> Option<usize> {
        match (self.form, bytes) {
            (Form::Plain, [high, low, ..]) => Some(usize::from(u16::from_be_bytes([*high, *low]))),
            (Form::Interleaved, [b'$', 0..=3, high, low, ..]) => {
                Some(usize::from(u16::from_be_bytes([*high, *low])))
            }
            _ => None,
        }
    }

    /// Look for the next believable header in what is held, and go on from there.
    fn search(&mut self, out: &mut impl FnMut(&[u8])) -> Result<(), FramingLost> {
        if !self.is_searching {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.partial);
        let (mut at, mut senders, mut is_lost) = (0, 0, false);
        while self.is_searching {
            let (skip, found) = self.find(&held[at..]);
            self.skipped += skip;
            at += skip;
            let Some(found) = found else {
                is_lost = self.skipped > SEARCH_MAX;
                break;
            };
            senders += usize::from(self.ssrc.is_some_and(|known| known != found.ssrc));
            if senders > SENDERS_MAX {
                is_lost = true;
                break;
            }
            self.is_searching = false;
            self.skipped = 0;
            self.resyncs += 1;
            self.form = found.form;
            self.ssrc = Some(found.ssrc);
            at += self.drain(&held[at..], out);
        }
        held.drain(..at);
        self.partial = held;
        if is_lost {
            Err(FramingLost)
        } else {
            Ok(())
        }
    }

    /// How many bytes to throw away, and the header that stands behind them if one was found.
    fn find(&self, bytes: &[u8]) -> (usize, Option<Candidate>) {
        if let Some(known) = self.ssrc {
            for place in memmem::find_iter(bytes, &known.to_be_bytes()) {
                // The RTSP form first: without its first two bytes it would pass for the plain one.
                for form in [Form::Interleaved, Form::Plain] {
                    let Some(start) = place.checked_sub(8 + form.prefix()) else { continue };
                    if let Some(found) = candidate(&bytes[start..], form) {
                        return (start, Some(found));
                    }
                }
            }
        }
        let mut start = 0;
        while start + Form::Interleaved.prefix() + RTP_HEADER <= bytes.len() {
            for form in [Form::Plain, Form::Interleaved] {
                let Some(first) = candidate(&bytes[start..], form) else { continue };
                let behind = &bytes[(start + first.end).min(bytes.len())..];
                if behind.len() < form.prefix() + RTP_HEADER {
                    return (start, None); // undecided until the next header is here
                }
                if candidate(behind, form).is_some_and(|second| second.ssrc == first.ssrc) {
                    return (start, Some(first));
                }
            }
            start += 1;
        }
        (start, None)
    }
}

/// A header at the front of `bytes`, if it could be one: no CSRC, no RTCP, a length that holds a header.
fn candidate(bytes: &[u8], form: Form) -> Option<Candidate> {
    let length = match (form, bytes) {
        (Form::Plain, [high, low, ..]) | (Form::Interleaved, [b'$', 0..=3, high, low, ..]) => {
            usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => return None,
    };
    let header = bytes.get(form.prefix()..form.prefix() + RTP_HEADER)?;
    if header[0] & 0xCF != 0x80 || length < RTP_HEADER || rtp::is_rtcp(header) {
        return None;
    }
    Some(Candidate { form, end: form.prefix() + length, ssrc: ssrc_of(header) })
}

fn ssrc_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(sequence: u16, ssrc: u32, size: usize) -> Vec<u8> {
        let mut packet = rtp::write_header(false, 96, sequence, 900_000, ssrc).to_vec();
        packet.resize(size, sequence as u8);
        packet
    }

    fn plain(packet: &[u8]) -> Vec<u8> {
        let mut framed = (packet.len() as u16).to_be_bytes().to_vec();
        framed.extend(packet);
        framed
    }

    fn interleaved(packet: &[u8]) -> Vec<u8> {
        let mut framed = vec![b'$', 0];
        framed.extend(plain(packet));
        framed
    }

    fn cut(bytes: &[u8], piece: usize) -> Vec<Vec<u8>> {
        let (mut deframer, mut got) = (Deframer::new(), Vec::new());
        for data in bytes.chunks(piece) {
            deframer.push(data, &mut |packet| got.push(packet.to_vec())).unwrap();
        }
        got
    }

    #[test]
    fn packets_come_out_whole_however_the_stream_is_cut() {
        let packets: Vec<_> = [13, 1412, 12, 700].iter().zip(1..).map(|(s, n)| packet(n, 7, *s)).collect();
        assert_eq!(plain(&packets[1])[..2], [0x05, 0x84]);
        let stream: Vec<u8> = packets.iter().flat_map(|packet| plain(packet)).collect();
        for piece in 1..stream.len() + 1 {
            assert_eq!(cut(&stream, piece), packets, "pieces of {piece}");
        }
        for split in 0..stream.len() {
            let (mut deframer, mut got) = (Deframer::new(), Vec::new());
            for data in [&stream[..split], &stream[split..]] {
                deframer.push(data, &mut |packet| got.push(packet.to_vec())).unwrap();
            }
            assert_eq!(got, packets, "split at {split}");
        }
    }

    #[test]
    fn whole_packets_are_handed_out_where_they_lie() {
        let stream: Vec<u8> = (1..4).flat_map(|sequence| plain(&packet(sequence, 7, 100))).collect();
        let range = stream.as_ptr_range();
        let mut count = 0;
        let mut check = |packet: &[u8]| {
            assert!(range.contains(&packet.as_ptr()));
            count += 1;
        };
        Deframer::new().push(&stream, &mut check).unwrap();
        assert_eq!(count, 3);
    }

    #[test]
    fn the_largest_frame_passes_and_a_null_packet_is_skipped() {
        let large = packet(1, 7, 65_535);
        let stream = [plain(&large), vec![0, 0], plain(&packet(2, 7, 20))].concat();
        assert_eq!(cut(&stream, 1000), [large, packet(2, 7, 20)]);
    }

    #[test]
    fn rtcp_among_the_packets_passes() {
        let mut report = packet(0, 99, 28);
        report[1] = 200;
        let stream = [plain(&packet(1, 7, 50)), plain(&report), plain(&packet(2, 7, 50))].concat();
        assert_eq!(cut(&stream, 9), [packet(1, 7, 50), report, packet(2, 7, 50)]);
    }

    #[test]
    fn the_rtsp_form_is_recognised_but_a_length_of_24_hex_is_not_mistaken_for_it() {
        let packets: Vec<_> = (1..5).map(|sequence| packet(sequence, 7, 80)).collect();
        let stream: Vec<u8> = packets.iter().flat_map(|packet| interleaved(packet)).collect();
        for piece in [1, 7, 84, 1000] {
            assert_eq!(cut(&stream, piece), packets);
        }
        let legal: Vec<_> = (1..3).map(|sequence| packet(sequence, 7, 0x2401)).collect();
        let stream: Vec<u8> = legal.iter().flat_map(|packet| plain(packet)).collect();
        assert_eq!(cut(&stream, 1000), legal);
    }

    #[test]
    fn a_vendor_preamble_is_stepped_over() {
        let packets: Vec<_> = (1..6).map(|sequence| packet(sequence, 7, 300)).collect();
        let mut stream = b"VENDOR".to_vec();
        stream.resize(256, 0xA5);
        stream.extend(packets.iter().flat_map(|packet| plain(packet)));
        assert_eq!(cut(&stream, 100), packets);
    }

    #[test]
    fn after_a_corrupted_length_the_next_genuine_header_is_found() {
        for wrong in [[0, 1], [0, 40], [0x01, 0x40], [0xFF, 0xFF]] {
            let packets: Vec<_> = (1..300).map(|sequence| packet(sequence, 7, 600)).collect();
            let mut stream: Vec<u8> = packets.iter().flat_map(|packet| plain(packet)).collect();
            stream[602 * 2..602 * 2 + 2].copy_from_slice(&wrong);
            let got = cut(&stream, 1000);
            assert_eq!(got[..2], packets[..2]);
            let last = got.len() - 150;
            assert_eq!(got[last..], packets[299 - 150..]);
        }
    }

    #[test]
    fn the_rtsp_form_is_kept_after_a_corrupted_length() {
        let packets: Vec<_> = (1..60).map(|sequence| packet(sequence, 7, 600)).collect();
        let mut stream: Vec<u8> = packets.iter().flat_map(|packet| interleaved(packet)).collect();
        stream[604 * 2 + 2..604 * 2 + 4].copy_from_slice(&[0, 40]);
        let (mut deframer, mut got) = (Deframer::new(), Vec::new());
        deframer.push(&stream, &mut |packet| got.push(packet.to_vec())).unwrap();
        assert_eq!(got[3..], packets[3..]);
        assert_eq!(deframer.resyncs(), 2); // finding the form at first, and once after the damage
    }

    #[test]
    fn a_sender_that_changes_its_ssrc_is_followed() {
        let packets: Vec<_> = (1..9).map(|n| packet(n, if n < 4 { 7 } else { 8 }, 200)).collect();
        let stream: Vec<u8> = packets.iter().flat_map(|packet| plain(packet)).collect();
        assert_eq!(cut(&stream, 150), packets);
    }

    #[test]
    fn a_sender_that_changes_its_ssrc_all_the_time_is_given_up() {
        let pair = |n: u16| [plain(&packet(n, n.into(), 12)), plain(&packet(n + 1, n.into(), 12))].concat();
        let stream: Vec<u8> = (0..5000).flat_map(pair).collect();
        let mut count = 0;
        assert_eq!(Deframer::new().push(&stream, &mut |_| count += 1), Err(FramingLost));
        assert!(count <= 2 * (SENDERS_MAX + 1), "{count}");
        // One SSRC each packet is never in step; it is stepped over, in one pass.
        let stream: Vec<u8> = (0..20_000).flat_map(|n| plain(&packet(n, n.into(), 12))).collect();
        let mut deframer = Deframer::new();
        assert_eq!(deframer.push(&stream, &mut |_| {}), Ok(()));
        assert!(deframer.partial.len() < 66_000); // what could be one packet
    }

    #[test]
    fn two_senders_on_one_connection_are_no_reason_to_end_it() {
        let packets: Vec<_> = (0..2000).map(|n| packet(n, 7 + u32::from(n % 2), 100)).collect();
        let stream: Vec<u8> = packets.iter().flat_map(|packet| plain(packet)).collect();
        let got = cut(&stream, stream.len());
        assert_eq!(got.len(), 1000);
        assert!(got.iter().all(|packet| ssrc_of(packet) == 7));
    }

    #[test]
    fn a_stream_that_is_not_rtp_is_given_up_and_nothing_piles_up() {
        let mut deframer = Deframer::new();
        let noise = [0x11; 4096];
        let mut answer = Ok(());
        for _ in 0..1000 {
            answer = deframer.push(&noise, &mut |_| panic!("no packet is in there"));
            assert!(deframer.partial.capacity() < 300_000);
            if answer.is_err() {
                break;
            }
        }
        assert_eq!(answer, Err(FramingLost));
    }
}
