//! Packets made from frames that wait for their tick: the cached group, spread over time, and what follows it.
//!
//! A stream that is faster than the pace for long leaves frames out, up to the next key frame; what was sent is let go
//! before all has gone.

use super::run::{Packet, Start};
use crate::frame::Frame;
use crate::net::Group;
use crate::packetizer::Rewriter;

/// Bytes sent in one tick over UDP: within what a receiver with the usual 208 KiB buffer holds.
const TICK_BYTES: usize = 48 << 10;

/// Bytes that may wait before another frame is taken.
const WAITING_BYTES: usize = 16 << 20;

/// Bytes sent that are kept, so that what waits is not moved each time.
const SENT_BYTES: usize = 4 << 20;

/// What waits.
#[derive(Default)]
pub(super) struct Burst {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    sent_bytes: usize,
    sent_packets: usize,
    /// Frames are left out until the next key frame.
    is_behind: bool,
}

/// A part of the burst, its identity written.
pub(super) struct Part<'a> {
    pub bytes: &'a [u8],
    pub packets: &'a [Packet],
    pub groups: Vec<Group>,
}

impl Burst {
    pub fn is_empty(&self) -> bool {
        self.sent_packets == self.packets.len()
    }

    /// Whether a frame that follows may be taken.
    pub fn takes(&mut self, frame: &Frame) -> bool {
        if self.is_behind && !(frame.key && frame.codec.is_video()) {
            return false;
        }
        self.is_behind = self.bytes.len() - self.sent_bytes + frame.data.len() > WAITING_BYTES;
        !self.is_behind
    }

    pub fn push(&mut self, packet: &[u8], start: Start) {
        self.bytes.extend_from_slice(packet);
        self.packets.push(Packet { length: packet.len(), sequence: 0, gap: 0, start });
    }

    /// What goes in this tick.
    pub fn next(&mut self, rewriter: &mut Rewriter) -> Part<'_> {
        let (start, first) = (self.sent_bytes, self.sent_packets);
        let mut groups = Vec::new();
        while self.sent_packets < self.packets.len() && self.sent_bytes - start < TICK_BYTES {
            let length = self.packets[self.sent_packets].length;
            rewriter.rewrite(&mut self.bytes[self.sent_bytes..self.sent_bytes + length]);
            Group::append(&mut groups, length);
            self.sent_bytes += length;
            self.sent_packets += 1;
        }
        let packets = &self.packets[first..self.sent_packets];
        Part { bytes: &self.bytes[start..self.sent_bytes], packets, groups }
    }

    /// Let go of what was sent, when it is all or much.
    pub fn let_go(&mut self) {
        if self.is_empty() || self.sent_bytes >= SENT_BYTES {
            self.bytes.drain(..self.sent_bytes);
            self.packets.drain(..self.sent_packets);
            self.sent_bytes = 0;
            self.sent_packets = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Codec;
    use bytes::Bytes;

    fn frame(key: bool, size: usize) -> Frame {
        Frame { codec: Codec::H264, pts: 0, dts: 0, key, config: key, data: Bytes::from(vec![0; size]) }
    }

    #[test]
    fn a_stream_that_outruns_the_pace_waits_within_bounds_and_goes_on_at_a_key_frame() {
        let (mut burst, mut rewriter) = (Burst::default(), Rewriter::new(1, 96, 0));
        let (packet, small) = ([0u8; 1400], frame(false, 1400));
        let mut taken = 0;
        for _ in 0..60_000 {
            // Two packets come for each that goes.
            for _ in 0..2 * TICK_BYTES / 1400 {
                if burst.takes(&small) {
                    burst.push(&packet, Start::Frame);
                    taken += 1;
                }
            }
            burst.next(&mut rewriter);
            burst.let_go();
            assert!(burst.bytes.len() <= WAITING_BYTES + SENT_BYTES + TICK_BYTES + 1400);
            if burst.is_behind {
                break;
            }
        }
        assert!(burst.is_behind && taken > WAITING_BYTES / 1400);
        while !burst.is_empty() {
            burst.next(&mut rewriter);
        }
        assert!(!burst.takes(&small) && burst.takes(&frame(true, 1400)) && burst.takes(&small));
    }

    #[test]
    fn packets_leave_in_order_and_in_parts() {
        let (mut burst, mut rewriter) = (Burst::default(), Rewriter::new(1, 96, 0));
        for n in 0..100_u8 {
            burst.push(&[n; 1000], Start::Frame);
        }
        let mut got = Vec::new();
        while !burst.is_empty() {
            let part = burst.next(&mut rewriter);
            assert_eq!(part.groups.iter().map(|group| group.length).sum::<usize>(), part.bytes.len());
            assert!(part.bytes.len() < TICK_BYTES + 1000);
            got.extend(part.bytes.chunks(1000).map(|packet| packet[999]));
        }
        assert_eq!(got, (0..100).collect::<Vec<u8>>());
    }
}
