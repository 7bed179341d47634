//! Frames as parts of HLS segments: fragments gathered over a fraction of a second.
//!
//! After: RFC 8216bis 3.3 (media segments in fMP4), 6.2.2 (partial segments)
//!
//! A part ends where the next frame would make it longer than the target, and before each key frame, so that a segment
//! can begin there. Its length is known when the next frame comes, so it goes out one frame late; the last one when the stream
//! ends. Segments and playlists are the reader's business; for it eight bytes stand before each part.

use bytes::Bytes;

use super::Fmp4Muxer;
use crate::frame::Frame;

/// Length of a part that is not cut short by a key frame: what a player is told to count on.
pub const TARGET_TICKS: u64 = 45_000;

/// Flags before a part: a decoder can start with it; an init segment stands before its fragments.
pub const FLAG_KEY: u32 = 1;
pub const FLAG_INIT: u32 = 2;

/// A part, behind its length in 90 kHz ticks and its flags, four bytes each.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub bytes: Bytes,
    pub key: bool,
}

#[derive(Debug)]
struct Open {
    bytes: Vec<u8>,
    start: u64,
    newest: u64,
    flags: u32,
}

#[derive(Debug)]
pub struct PartMuxer {
    inner: Fmp4Muxer,
    open: Option<Open>,
    has_video: bool,
}

impl PartMuxer {
    pub fn new() -> PartMuxer {
        PartMuxer { inner: Fmp4Muxer::new(), open: None, has_video: false }
    }

    pub fn init(&mut self) -> Option<Bytes> {
        self.inner.init()
    }

    /// Take a frame; `key` says that a viewer can start with it. The part that it ends, if it ends one.
    pub fn push(&mut self, frame: &Frame, key: bool) -> Option<Part> {
        let fragment = self.inner.fragment(frame)?;
        let (is_video, brings_init) = (frame.codec.is_video(), fragment.get(4..8) == Some(b"ftyp"));
        // Pictures tell the time; sound does while there are none.
        let is_cut = brings_init || is_video && (key || !self.has_video);
        self.has_video |= is_video;
        let is_clock = is_video || !self.has_video;
        let time = if is_video { self.inner.last_dts.unwrap_or(frame.dts) } else { frame.pts };
        let is_ended = is_clock && (is_cut || self.open.as_ref().is_some_and(|open| open.is_full(time)));
        let ended = if is_ended { self.open.take().map(|open| open.finish(time)) } else { None };
        let flags = u32::from(key) * FLAG_KEY + u32::from(brings_init) * FLAG_INIT;
        let open =
            self.open.get_or_insert_with(|| Open { bytes: vec![0; 8], start: time, newest: time, flags });
        if !is_video && key {
            open.flags |= FLAG_KEY; // of sound any frame will do
        }
        open.bytes.extend_from_slice(&fragment);
        if is_clock {
            open.newest = time;
        }
        ended
    }

    /// The part that is open when the stream ends; its last picture lasts as long as the one before.
    pub fn finish(&mut self) -> Option<Part> {
        let lasts = self.inner.duration;
        self.open.take().map(|open| {
            let end = open.newest.saturating_add(lasts);
            open.finish(end)
        })
    }
}

impl Open {
    /// Whether a frame at `time` that lasts as long as the one before would make it too long.
    fn is_full(&self, time: u64) -> bool {
        time.saturating_sub(self.start) + time.saturating_sub(self.newest) > TARGET_TICKS
    }

    fn finish(mut self, end: u64) -> Part {
        let length = end.saturating_sub(self.start) as u32;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.bytes[4..8].copy_from_slice(&self.flags.to_be_bytes());
        Part { bytes: Bytes::from(self.bytes), key: self.flags & FLAG_KEY != 0 }
    }
}

impl Default for PartMuxer {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{aac, names, video, SPS, SPS_FIELDS};
    use super::*;

    /// (length, flags, boxes) of each part.
    fn parts(frames: &[Frame]) -> Vec<(u32, u32, Vec<String>)> {
        let mut muxer = PartMuxer::new();
        let mut got = Vec::new();
        for frame in frames {
            let Some(part) = muxer.push(frame, frame.key) else { continue };
            muxer.init();
            let word = |at: usize| u32::from_be_bytes(part.bytes[at..at + 4].try_into().unwrap());
            assert_eq!(part.key, word(4) & FLAG_KEY != 0);
            got.push((word(0), word(4), names(&part.bytes[8..])));
        }
        got
    }

    fn pictures(count: u64, group: u64, step: u64) -> Vec<Frame> {
        let sps = |n: u64| (n % group == 0).then_some(SPS);
        (0..count).map(|n| video(900_000 + n * step, n % group == 0, sps(n))).collect()
    }

    #[test]
    fn parts_are_as_long_as_the_target_allows_and_end_before_key_frames() {
        let got = parts(&pictures(51, 25, 3600));
        let lengths: Vec<_> = got.iter().map(|part| (part.0, part.1)).collect();
        assert_eq!(lengths, [(43_200, 1), (43_200, 0), (3600, 0)].repeat(2));
        assert!(got.iter().all(|part| part.2.len() == 2 * (part.0 / 3600) as usize));
    }

    #[test]
    fn what_is_open_at_the_end_is_given_with_the_length_of_its_pictures() {
        let mut muxer = PartMuxer::new();
        assert_eq!(muxer.finish(), None);
        let given = pictures(15, 25, 3600).iter().filter_map(|one| muxer.push(one, one.key)).count();
        let last = muxer.finish().unwrap();
        assert_eq!((given, &last.bytes[..8]), (1, &[0, 0, 0x2A, 0x30, 0, 0, 0, 0][..]));
        assert_eq!(names(&last.bytes[8..]), ["moof", "mdat"].repeat(3));
    }

    #[test]
    fn a_slow_camera_has_parts_of_one_picture() {
        let lengths: Vec<_> = parts(&pictures(5, 2, 90_000)).into_iter().map(|part| part.0).collect();
        assert_eq!(lengths, [90_000; 4]);
    }

    #[test]
    fn changed_parameter_sets_begin_a_part_that_says_so() {
        let mut frames = pictures(4, 25, 3600);
        frames.push(video(914_400, true, Some(SPS)));
        frames.push(video(918_000, true, Some(SPS_FIELDS)));
        frames.push(video(921_600, true, Some(SPS_FIELDS)));
        let got = parts(&frames);
        assert_eq!(got.iter().map(|part| part.1).collect::<Vec<_>>(), [1, 1, 3]);
        assert_eq!(got[2].2, ["ftyp", "moov", "moof", "mdat"]);
    }

    #[test]
    fn sound_goes_with_the_pictures_and_keeps_the_time_without_them() {
        let mut frames = pictures(13, 25, 3600);
        frames.insert(6, aac(921_600, 1));
        assert_eq!(parts(&frames).iter().map(|part| part.0).collect::<Vec<_>>(), [43_200]);
        let sound: Vec<Frame> = (0..8).map(|n| aac(900_000 + n * 11_520, 1)).collect();
        let lengths: Vec<_> = parts(&sound).into_iter().map(|part| part.0).collect();
        assert_eq!(lengths, [34_560, 34_560]);
    }
}
