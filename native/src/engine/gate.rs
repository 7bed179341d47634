//! Pictures held back, so that a recording is seen one picture at a time.
//!
//! MANSRTSP has no word for a single step (GB/T 28181-2022 B.1). While the gate is closed whatever the sender still
//! sends is kept here, and each step lets one picture through. What outgrows the bounds is left out up to the next key
//! frame, because nothing that builds on it could be shown.

use crate::frame::Frame;
use std::collections::VecDeque;

/// About ten seconds of a camera's picture.
const HELD_BYTES_MAX: usize = 16 << 20;
const HELD_FRAMES_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Gate {
    is_closed: bool,
    held: VecDeque<Frame>,
    bytes: usize,
    /// A picture is missing, and what follows builds on it.
    is_broken: bool,
    /// The time of the last picture shown.
    shown: Option<u64>,
}

impl Gate {
    /// Hold back from now on; the time of the last picture shown.
    pub fn close(&mut self) -> Option<u64> {
        self.is_closed = true;
        self.shown
    }

    /// A frame comes; given back when it is to be shown now.
    pub fn pass(&mut self, frame: Frame) -> Option<Frame> {
        let is_picture = frame.codec.is_video();
        if self.is_broken {
            if !(is_picture && frame.key) {
                return None;
            }
            self.is_broken = false;
        }
        if !self.is_closed {
            if is_picture {
                self.shown = Some(frame.pts);
            }
            return Some(frame);
        }
        if self.held.len() >= HELD_FRAMES_MAX || self.bytes + frame.data.len() > HELD_BYTES_MAX {
            self.is_broken = true;
            return None;
        }
        self.bytes += frame.data.len();
        self.held.push_back(frame);
        None
    }

    /// The next picture that is held; the sound before it is not heard.
    pub fn next(&mut self) -> Option<Frame> {
        let at = self.held.iter().position(|frame| frame.codec.is_video())?;
        let picture = self.held.drain(..=at).next_back()?;
        self.bytes = self.held.iter().map(|frame| frame.data.len()).sum();
        self.shown = Some(picture.pts);
        Some(picture)
    }

    /// Hold nothing back any more; what was held, unless it is to be forgotten.
    pub fn open(&mut self, forget: bool) -> VecDeque<Frame> {
        self.is_closed = false;
        self.bytes = 0;
        let held = std::mem::take(&mut self.held);
        if forget {
            self.is_broken = true;
            return VecDeque::new();
        }
        if let Some(picture) = held.iter().rev().find(|frame| frame.codec.is_video()) {
            self.shown = Some(picture.pts);
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Codec;
    use bytes::Bytes;

    fn frame(codec: Codec, pts: u64, key: bool, size: usize) -> Frame {
        Frame { codec, pts, dts: pts, key, config: key, data: Bytes::from(vec![0; size]) }
    }

    fn picture(pts: u64) -> Frame {
        frame(Codec::H264, pts, false, 10)
    }

    #[test]
    fn a_closed_gate_lets_one_picture_through_at_a_time_and_no_sound() {
        let mut gate = Gate::default();
        assert_eq!(gate.pass(picture(1)).map(|f| f.pts), Some(1));
        assert_eq!(gate.close(), Some(1));
        for held in [picture(2), frame(Codec::G711A, 3, false, 10), picture(4), picture(5)] {
            assert_eq!(gate.pass(held), None);
        }
        assert_eq!(gate.next().map(|f| f.pts), Some(2));
        assert_eq!(gate.next().map(|f| f.pts), Some(4));
        assert_eq!(gate.close(), Some(4));
        assert_eq!(gate.open(false).iter().map(|f| f.pts).collect::<Vec<_>>(), [5]);
        assert_eq!(gate.close(), Some(5));
        assert_eq!(gate.next(), None);
        assert_eq!(gate.bytes, 0);
    }

    #[test]
    fn after_what_is_forgotten_a_key_frame_goes_first() {
        let mut gate = Gate::default();
        gate.close();
        gate.pass(picture(1));
        assert!(gate.open(true).is_empty());
        assert_eq!(gate.pass(picture(2)), None);
        assert!(gate.pass(frame(Codec::H264, 3, true, 10)).is_some());
        assert!(gate.pass(picture(4)).is_some());
    }

    #[test]
    fn what_outgrows_the_bound_is_left_out_up_to_the_next_key_frame() {
        let mut gate = Gate::default();
        gate.close();
        for pts in 0..HELD_FRAMES_MAX as u64 + 5 {
            gate.pass(picture(pts));
        }
        assert_eq!(gate.held.len(), HELD_FRAMES_MAX);
        gate.next();
        gate.pass(picture(9000));
        gate.pass(frame(Codec::H264, 9001, true, 10));
        assert_eq!(gate.held.back().map(|f| f.pts), Some(9001));
        gate.open(false);
        gate.close();
        gate.pass(frame(Codec::H264, 1, true, HELD_BYTES_MAX + 1));
        assert!(gate.held.is_empty());
    }
}
