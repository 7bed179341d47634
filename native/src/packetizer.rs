//! Program stream into RTP packets; and a relayed packet into our own numbering.
//!
//! Implements: GB/T 28181-2022 C.1
//! Implements: GB/T 28181-2022 Annex D
//!
//! All packets of one access unit but the last have the same size and lie behind each other, which is the shape UDP
//! segmentation offload takes in one call.

use crate::rtp::{self, HEADER_SIZE};

/// How the packets just written lie in the buffer: `count` of them, each `size` bytes, the last one perhaps shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packets {
    pub size: usize,
    pub count: usize,
}

#[derive(Debug)]
pub struct Packetizer {
    payload_type: u8,
    ssrc: u32,
    sequence: u16,
    payload_max: usize,
}

impl Packetizer {
    /// `mtu` is the largest RTP packet with its header; the standard advises no more than 1400 to 1460 over UDP.
    pub fn new(payload_type: u8, ssrc: u32, sequence: u16, mtu: usize) -> Packetizer {
        let mtu = mtu.clamp(HEADER_SIZE + 1, usize::from(u16::MAX));
        Packetizer { payload_type, ssrc, sequence, payload_max: mtu - HEADER_SIZE }
    }

    /// The sequence number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Append the packets of one access unit to `out`, the marker on the last.
    pub fn packetize(&mut self, ps: &[u8], rtp_ts: u32, out: &mut Vec<u8>) -> Packets {
        let count = self.write(ps, rtp_ts, false, out);
        Packets { size: HEADER_SIZE + self.payload_max.min(ps.len()), count }
    }

    /// The same, each packet behind its two length bytes (RFC 4571). Returns the number of packets.
    pub fn packetize_tcp(&mut self, ps: &[u8], rtp_ts: u32, out: &mut Vec<u8>) -> usize {
        self.write(ps, rtp_ts, true, out)
    }

    fn write(&mut self, ps: &[u8], rtp_ts: u32, is_framed: bool, out: &mut Vec<u8>) -> usize {
        let count = ps.len().div_ceil(self.payload_max);
        out.reserve(ps.len() + count * (HEADER_SIZE + 2));
        for (index, payload) in ps.chunks(self.payload_max).enumerate() {
            let is_last = index + 1 == count;
            if is_framed {
                out.extend_from_slice(&((HEADER_SIZE + payload.len()) as u16).to_be_bytes());
            }
            let header = rtp::write_header(is_last, self.payload_type, self.sequence, rtp_ts, self.ssrc);
            out.extend_from_slice(&header);
            out.extend_from_slice(payload);
            self.sequence = self.sequence.wrapping_add(1);
        }
        count
    }
}

/// Gives relayed packets the identity the receiver negotiated. Time stamps pass unchanged.
#[derive(Debug)]
pub struct Rewriter {
    ssrc: u32,
    payload_type: u8,
    sequence: u16,
}

impl Rewriter {
    pub fn new(ssrc: u32, payload_type: u8, sequence: u16) -> Rewriter {
        Rewriter { ssrc, payload_type: payload_type & 0x7F, sequence }
    }

    /// The sequence number of the next packet.
    pub fn sequence(&self) -> u16 {
        self.sequence
    }

    /// Give the packet the next sequence number, our SSRC and payload type, in place.
    pub fn rewrite(&mut self, packet: &mut [u8]) {
        let Some(header) = packet.first_chunk_mut::<HEADER_SIZE>() else { return };
        header[1] = header[1] & 0x80 | self.payload_type;
        header[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Leave a gap: what was lost before us must be seen as lost behind us.
    pub fn skip(&mut self, count: u32) {
        self.sequence = self.sequence.wrapping_add(count as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_equal_in_size_and_the_marker_is_on_the_last() {
        let ps: Vec<u8> = (0..3000).map(|n| n as u8).collect();
        let mut out = Vec::new();
        let packets = Packetizer::new(96, 7, 65_535, 1400).packetize(&ps, 9000, &mut out);
        assert_eq!(packets, Packets { size: 1400, count: 3 });
        let parsed: Vec<_> = out.chunks(1400).map(|packet| rtp::parse(packet).unwrap()).collect();
        assert_eq!(parsed.iter().map(|p| p.sequence).collect::<Vec<_>>(), [65_535, 0, 1]);
        assert_eq!(parsed.iter().map(|p| p.marker).collect::<Vec<_>>(), [false, false, true]);
        assert!(parsed.iter().all(|p| (p.timestamp, p.ssrc, p.payload_type) == (9000, 7, 96)));
        assert_eq!(parsed.iter().flat_map(|p| p.payload).copied().collect::<Vec<_>>(), ps);
    }

    #[test]
    fn over_tcp_each_packet_has_its_length_before_it() {
        let mut out = Vec::new();
        assert_eq!(Packetizer::new(96, 7, 1, 1412).packetize_tcp(&[5; 1500], 0, &mut out), 2);
        assert_eq!(out[..2], [0x05, 0x84]);
        assert_eq!(out[2 + 1412..][..2], [0, 112]);
        assert_eq!(out.len(), 1412 + 112 + 4);
    }

    #[test]
    fn nothing_in_gives_nothing_out() {
        let mut out = Vec::new();
        assert_eq!(Packetizer::new(96, 7, 1, 1400).packetize(&[], 0, &mut out).count, 0);
        assert!(out.is_empty());
    }

    #[test]
    fn a_rewritten_packet_keeps_marker_time_and_payload() {
        let mut packet = rtp::write_header(true, 98, 40_000, 900_000, 1).to_vec();
        packet.extend(b"media");
        let mut rewriter = Rewriter::new(7, 96, 65_535);
        rewriter.rewrite(&mut packet);
        let got = rtp::parse(&packet).unwrap();
        assert_eq!((got.marker, got.payload_type, got.sequence, got.ssrc), (true, 96, 65_535, 7));
        assert_eq!((got.timestamp, got.payload), (900_000, &b"media"[..]));
        rewriter.skip(2);
        rewriter.rewrite(&mut packet);
        assert_eq!(rtp::parse(&packet).unwrap().sequence, 2);
        rewriter.rewrite(&mut [0; 5]);
    }
}
