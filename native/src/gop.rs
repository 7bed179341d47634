//! The group of pictures a new viewer starts from: everything since the last key frame.

use std::collections::VecDeque;

use crate::frame::Frame;

/// A group with more frames than this is a sender without key frames; nobody can start from it sensibly.
pub const FRAMES_MAX: usize = 8192;

/// Keeps from the last key frame on, within `cap_bytes`; a group that outgrows it is dropped as a whole.
#[derive(Debug)]
pub struct GopCache {
    cap_bytes: usize,
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl GopCache {
    pub fn new(cap_bytes: usize) -> GopCache {
        GopCache { cap_bytes, frames: VecDeque::new(), bytes: 0 }
    }

    /// Add a frame. Frames before the first key frame, or after a group outgrew the cap, are not kept.
    pub fn push(&mut self, frame: Frame) {
        if frame.key {
            self.clear();
        } else if self.frames.is_empty() {
            return;
        }
        if self.bytes + frame.data.len() > self.cap_bytes || self.frames.len() >= FRAMES_MAX {
            self.clear();
            return;
        }
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
    }

    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    pub fn len(&self) -> usize {
        self.frames.len()
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Codec;
    use bytes::Bytes;

    fn frame(pts: u64, key: bool, size: usize) -> Frame {
        let data = Bytes::from(vec![0; size]);
        Frame { codec: Codec::H264, pts, dts: pts, key, config: key, data }
    }

    #[test]
    fn the_cache_starts_at_the_last_key_frame() {
        let mut gop = GopCache::new(100);
        gop.push(frame(0, false, 10));
        assert!(gop.is_empty());
        for (pts, key) in [(1, true), (2, false), (3, true), (4, false)] {
            gop.push(frame(pts, key, 10));
        }
        assert_eq!(gop.frames().map(|frame| frame.pts).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((gop.len(), gop.bytes()), (2, 20));
    }

    #[test]
    fn a_group_that_outgrows_the_cap_is_dropped_until_the_next_key_frame() {
        let mut gop = GopCache::new(25);
        for (pts, key) in [(1, true), (2, false), (3, false), (4, false)] {
            gop.push(frame(pts, key, 10));
        }
        assert_eq!((gop.len(), gop.bytes()), (0, 0));
        gop.push(frame(5, true, 10));
        assert_eq!(gop.len(), 1);
    }

    #[test]
    fn a_key_frame_larger_than_the_cap_is_not_kept() {
        let mut gop = GopCache::new(25);
        gop.push(frame(1, true, 26));
        assert_eq!((gop.len(), gop.bytes()), (0, 0));
    }
}
