//! The two tracks of a program stream: payload gathered into one buffer, then frozen into a frame.
//!
//! Implements: GB/T 28181-2022 C.1

use bytes::Bytes;

use super::units::{self, Declared, Pes};
use super::FRAME_MAX;
use crate::adts;
use crate::frame::{Codec, Frame};
use crate::frame_buffer::FrameBuffer;
use crate::nal;
use crate::timeline::{Timeline, Track, JUMP_MAX};

/// A PES this large is probably not the only one of its picture.
const PES_NEARLY_FULL: u16 = 60_000;
/// Frames of sound that must agree before its clock is called 8 kHz.
const SLOPE_VOTES: i8 = 3;

/// The shared time of both tracks.
#[derive(Debug, Default)]
pub struct Clock {
    shared: Timeline,
    /// Sound stamped in samples has nothing in common with the picture's clock but the moment it began.
    samples: Timeline,
    newest: u64,
}

impl Clock {
    pub fn jumps(&self) -> u64 {
        self.shared.jumps()
    }
}

#[derive(Debug, Default)]
pub struct VideoTrack {
    /// The last unit that had a payload was ours, so bytes out of place may be its continuation.
    pub is_last: bool,
    stream_id: Option<u8>,
    declared: Option<Codec>,
    /// What the payload itself shows; stronger than the map.
    sniffed: Option<Codec>,
    buffer: FrameBuffer,
    pts: Option<u64>,
    dts: Option<u64>,
    rtp_ts: u32,
    last_rtp_ts: u32,
    key_hint: bool,
    has_seen_pts: bool,
    track: Track,
}

impl VideoTrack {
    pub fn declare(&mut self, declared: Option<Declared>) {
        // A map without video proves nothing: some devices list only their sound.
        let Some(declared) = declared else { return };
        if self.declared != Some(declared.codec) {
            self.declared = Some(declared.codec);
            self.sniffed = None;
        }
        self.stream_id = Some(declared.stream_id);
    }

    pub fn takes(&mut self, stream_id: u8) -> bool {
        *self.stream_id.get_or_insert(stream_id) == stream_id
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub fn data(&mut self) -> &[u8] {
        self.buffer.data()
    }

    /// Whether this PES begins another picture than the one in the buffer.
    pub fn is_next_picture(&self, pes: &Pes, is_new_pack: bool) -> bool {
        match (self.pts, pes.pts) {
            (Some(ours), Some(theirs)) => ours != theirs,
            (None, Some(_)) => is_new_pack,
            // A sender that stamps its pictures stamps each one; a sender that never does gives one pack each.
            (_, None) => is_new_pack && !self.has_seen_pts,
        }
    }

    pub fn begin(&mut self, pes: &Pes, rtp_ts: u32, key_hint: bool) {
        if self.buffer.is_empty() {
            let body = pes.body.and_then(|body| u16::try_from(body).ok());
            self.buffer.begin(body.filter(|&body| body <= PES_NEARLY_FULL));
            self.rtp_ts = rtp_ts;
            self.pts = None;
            self.dts = None;
            self.key_hint = false;
        }
        self.key_hint |= key_hint;
        self.has_seen_pts |= pes.pts.is_some();
        self.pts = self.pts.or(pes.pts);
        self.dts = self.dts.or(pes.dts);
    }

    /// False when the picture would grow past its bound.
    pub fn append(&mut self, data: &[u8]) -> bool {
        if self.buffer.len() + data.len() > FRAME_MAX {
            return false;
        }
        self.buffer.append(data);
        true
    }

    pub fn truncate(&mut self, size: usize) {
        self.buffer.truncate(size);
    }

    /// Where a start code of the program stream begins in the buffer that ends in `next`.
    pub fn code_across(&mut self, next: &[u8]) -> Option<usize> {
        let from = self.buffer.len().saturating_sub(units::CODE_BYTES - 1);
        let tail = &self.buffer.data()[from..];
        let mut joint = [0; 2 * (units::CODE_BYTES - 1)];
        let head = &next[..next.len().min(units::CODE_BYTES - 1)];
        joint[..tail.len()].copy_from_slice(tail);
        joint[tail.len()..tail.len() + head.len()].copy_from_slice(head);
        let place = units::find_system_code(&joint[..tail.len() + head.len()])?;
        (place < tail.len()).then_some(from + place)
    }

    /// Drop the picture in progress; true when there was one.
    pub fn clear(&mut self) -> bool {
        self.is_last = false;
        self.buffer.clear()
    }

    /// Close the picture in the buffer.
    pub fn end(&mut self, clock: &mut Clock) -> Option<Frame> {
        if self.buffer.is_empty() {
            return None;
        }
        let data = self.buffer.take();
        let codec = self.codec(&data);
        let kind = nal::inspect(codec, &data, self.key_hint);
        let pts = self.time(clock);
        clock.newest = clock.newest.max(pts);
        let dts = self.decoding_time(pts);
        Some(Frame { codec, pts, dts, key: kind.key, config: kind.config, data })
    }

    fn codec(&mut self, data: &[u8]) -> Codec {
        let is_doubtful = match self.sniffed.or(self.declared) {
            None | Some(Codec::Unknown(_)) => true,
            Some(Codec::H264 | Codec::H265) => self.key_hint,
            Some(_) => false,
        };
        if is_doubtful {
            self.sniffed = nal::sniff(data).or(self.sniffed);
        }
        self.sniffed.or(self.declared).unwrap_or(Codec::Unknown(0))
    }

    fn time(&mut self, clock: &mut Clock) -> u64 {
        let elapsed = self.rtp_ts.wrapping_sub(std::mem::replace(&mut self.last_rtp_ts, self.rtp_ts));
        match (self.pts, self.track.last()) {
            (Some(pts), _) => clock.shared.unwrap(&mut self.track, pts),
            (None, Some(_)) => self.track.extrapolate(i64::from(elapsed)),
            (None, None) => clock.shared.unwrap(&mut self.track, u64::from(self.rtp_ts)),
        }
    }

    fn decoding_time(&self, pts: u64) -> u64 {
        let (Some(presented), Some(decoded)) = (self.pts, self.dts) else { return pts };
        let lead = presented.wrapping_sub(decoded) & ((1 << 33) - 1);
        if lead <= JUMP_MAX as u64 {
            pts.saturating_sub(lead)
        } else {
            pts
        }
    }
}

#[derive(Debug, Default)]
pub struct AudioTrack {
    stream_id: Option<u8>,
    declared: Option<Codec>,
    buffer: Vec<u8>,
    pts: Option<u64>,
    rtp_ts: u32,
    last_rtp_ts: u32,
    slope: Slope,
    track: Track,
}

impl AudioTrack {
    pub fn declare(&mut self, declared: Option<Declared>) {
        let Some(declared) = declared else { return };
        self.declared = Some(declared.codec);
        self.stream_id = Some(declared.stream_id);
    }

    pub fn takes(&mut self, stream_id: u8) -> bool {
        *self.stream_id.get_or_insert(stream_id) == stream_id
    }

    pub fn begin(&mut self, pes: &Pes, rtp_ts: u32, size: usize) {
        self.buffer = Vec::with_capacity(size);
        self.pts = pes.pts;
        self.rtp_ts = rtp_ts;
    }

    pub fn append(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data); // bounded by the 16-bit length of one PES
    }

    pub fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.buffer).is_empty()
    }

    pub fn end(&mut self, clock: &mut Clock) -> Option<Frame> {
        if self.buffer.is_empty() {
            return None;
        }
        let mut data = std::mem::take(&mut self.buffer);
        if data.capacity() / 2 > data.len() {
            data.shrink_to_fit();
        }
        let codec = match self.declared {
            Some(codec) => codec,
            // Without a map: AAC shows itself, and G.711 A-law is what the standard requires of all others.
            None if adts::is_adts(&data) => Codec::Aac,
            None => Codec::G711A,
        };
        let pts = self.time(clock, codec, data.len());
        clock.newest = clock.newest.max(pts);
        Some(Frame { codec, pts, dts: pts, key: false, config: false, data: Bytes::from(data) })
    }

    fn time(&mut self, clock: &mut Clock, codec: Codec, size: usize) -> u64 {
        let elapsed = self.rtp_ts.wrapping_sub(std::mem::replace(&mut self.last_rtp_ts, self.rtp_ts));
        let Some(pts) = self.pts else {
            return match self.track.last() {
                Some(_) => self.track.extrapolate(i64::from(elapsed)),
                None => clock.shared.unwrap(&mut self.track, u64::from(self.rtp_ts)),
            };
        };
        if matches!(codec, Codec::G711A | Codec::G711U) && self.slope.judge(pts, size) {
            self.track = Track::default();
            clock.samples = Timeline::starting_at(clock.newest);
        }
        if self.slope.is_samples {
            clock.samples.unwrap(&mut self.track, pts * 45 / 4)
        } else {
            clock.shared.unwrap(&mut self.track, pts)
        }
    }
}

/// Finds out whether G.711 is stamped in samples (8 kHz) instead of 90 kHz ticks: by how fast its PTS grows.
#[derive(Debug, Default)]
struct Slope {
    is_samples: bool,
    votes: i8,
    last: Option<(u64, usize)>,
}

impl Slope {
    /// Take one frame's stamp and its size in samples; true when the judgement turns to 8 kHz.
    fn judge(&mut self, pts: u64, samples: usize) -> bool {
        let Some((before, size)) = self.last.replace((pts, samples)) else { return false };
        let (step, size) = (pts.wrapping_sub(before), size as u64);
        let is_near = |want: u64| step.abs_diff(want) <= want / 8;
        if is_near(size) {
            self.votes = (self.votes + 1).min(SLOPE_VOTES);
        } else if is_near(size * 45 / 4) {
            self.votes = (self.votes - 1).max(-SLOPE_VOTES);
        }
        let turns = !self.is_samples && self.votes == SLOPE_VOTES;
        self.is_samples |= turns;
        turns
    }
}
