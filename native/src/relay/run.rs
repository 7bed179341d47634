//! Packets of a stream on their way to its relays, and what begins with each.

use crate::net::{Group, SendBatch};
use crate::rtp;

/// A run is sent when it has grown to this, or when the socket it came from is empty.
const RUN_BYTES: usize = 256 << 10;

/// Empty runs that are kept: the streams of a shared port gather side by side.
const SPARE_RUNS: usize = 8;

/// What begins with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Nothing,
    Frame,
    KeyFrame,
}

impl Start {
    /// Look at the first bytes of a payload. `is_new_time` tells a frame from its continuation in elementary streams.
    pub fn of(payload: &[u8], is_new_time: bool) -> Self {
        if payload.starts_with(&[0, 0, 1, 0xBA]) {
            let stuffing = payload.get(13).map_or(0, |b| usize::from(b & 7));
            let next = payload.get(14 + stuffing..18 + stuffing).unwrap_or(&[]);
            // A key frame brings the system header and the stream map (15.2 of the dossier, C.1 of the standard).
            return if matches!(next, [0, 0, 1, 0xBB | 0xBC]) { Self::KeyFrame } else { Self::Frame };
        }
        match payload.first() {
            // An H.264 sequence parameter set, an H.265 video parameter set.
            Some(&b) if is_new_time && (b & 0x9F == 0x07 || b == 0x40) => Self::KeyFrame,
            Some(_) if is_new_time => Self::Frame,
            _ => Self::Nothing,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Packet {
    pub length: usize,
    /// The sender's number.
    pub sequence: u16,
    /// Packets that were lost before this one.
    pub gap: u32,
    pub start: Start,
}

/// Packets in order, back to back, to be sent by every relay of a stream.
#[derive(Default)]
pub struct Run {
    pub(super) bytes: Vec<u8>,
    pub(super) packets: Vec<Packet>,
    pub(super) groups: Vec<Group>,
}

impl Run {
    /// Append a packet; shorter than an RTP header it is left out.
    pub fn push(&mut self, packet: &[u8], gap: u32, start: Start) {
        if packet.len() < rtp::HEADER_SIZE {
            return;
        }
        self.bytes.extend_from_slice(packet);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        self.packets.push(Packet { length: packet.len(), sequence, gap, start });
        Group::append(&mut self.groups, packet.len());
    }

    pub fn is_full(&self) -> bool {
        self.bytes.len() >= RUN_BYTES
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.groups.clear();
    }
}

/// What the relays of all streams of a thread send with.
#[derive(Default)]
pub struct Sending {
    pub batch: SendBatch,
    /// Empty runs. The last one used goes first, for it still lies in the processor's caches.
    runs: Vec<Run>,
}

impl Sending {
    /// A run for a stream of which nothing was gathered yet.
    pub fn lend(&mut self) -> Run {
        self.runs.pop().unwrap_or_default()
    }

    /// What was gathered is sent.
    pub fn take_back(&mut self, mut run: Run) {
        if self.runs.len() < SPARE_RUNS {
            run.clear();
            self.runs.push(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_lent_empty_and_few_are_kept() {
        let mut sending = Sending::default();
        let mut runs: Vec<Run> = (0..SPARE_RUNS + 3).map(|_| sending.lend()).collect();
        for run in &mut runs {
            while !run.is_full() {
                run.push(&[0; 1400], 0, Start::Nothing);
            }
        }
        runs.into_iter().for_each(|run| sending.take_back(run));
        assert_eq!(sending.runs.len(), SPARE_RUNS);
        let run = sending.lend();
        assert!(run.bytes.is_empty() && run.packets.is_empty() && run.groups.is_empty());
        assert!(run.bytes.capacity() >= RUN_BYTES);
    }

    #[test]
    fn a_key_frame_is_known_by_its_system_header() {
        let mut pack = vec![0, 0, 1, 0xBA, 0x44, 0, 4, 0, 4, 1, 0, 0, 3, 0xF8];
        assert_eq!(Start::of(&pack, true), Start::Frame);
        pack.extend([0, 0, 1, 0xBB]);
        assert_eq!(Start::of(&pack, true), Start::KeyFrame);
        assert_eq!(Start::of(&[0, 0, 1, 0xBA], true), Start::Frame);
        assert_eq!(Start::of(&[1, 2, 3], false), Start::Nothing);
        assert_eq!(Start::of(&[], true), Start::Nothing);
    }
}
