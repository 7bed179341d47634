//! Program stream out of RTP payloads into frames.
//!
//! Implements: GB/T 28181-2022 C.1
//! After: ISO/IEC 13818-1 2.5
//!
//! Bytes go through a small machine. `Unit` expects a start code, `Body` copies a PES payload to its track, `Skip` passes
//! what concerns nobody, `Open` copies video until the next system start code, and `Resync` looks for a pack header. A header
//! that lies whole in the payload is read there; one that is cut is gathered in `head` first. So a payload is copied once.
//!
//! A picture is complete when the RTP time changes, when a PES with another PTS begins, or, earliest, when the marker says so
//! and all PES lengths are used up. A sender whose markers prove wrong is not believed again.
//!
//! A PES with a PTS begins its picture (C.1: one pack a picture). Packs of fixed size that cut through pictures, as on DVD, are
//! not GB/T 28181 and come out in the wrong pieces.
//!
//! Lengths lie in the field. A video PES of length 0, or whose length counts modulo 65,536, goes on to the next system start
//! code (H.264 and H.265 have none inside); one that claims too much ends where the RTP time changes at a pack header.

mod tracks;
pub mod units;

use memchr::memmem;

use crate::frame::Frame;
use tracks::{AudioTrack, Clock, VideoTrack};
use units::{Pes, Unit};

/// A picture or sound larger than this is dropped: no encoder of this field makes one.
pub const FRAME_MAX: usize = 4 << 20;

const PACK_START: [u8; 4] = [0, 0, 1, units::PACK];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PsStats {
    pub frames: u64,
    pub key_frames: u64,
    /// Frames given up because of loss.
    pub dropped: u64,
    /// Headers, lengths and maps that contradict themselves.
    pub malformed: u64,
    /// Frames past `FRAME_MAX`.
    pub oversized: u64,
    /// Jumps of the sender's clock.
    pub jumps: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Resync,
    Unit,
    Body { is_video: bool, left: usize },
    Skip { left: usize },
    Open,
}

/// Whether the marker bit of this sender means the end of a picture.
#[derive(Clone, Copy, Debug, Default)]
struct MarkerTrust {
    was_set: bool,
    proofs: u8,
    is_broken: bool,
    /// The RTP time of a picture we closed on the marker's word.
    closed_at: Option<u32>,
}

#[derive(Debug)]
pub struct PsDemuxer {
    state: State,
    head: Vec<u8>,
    rtp_ts: Option<u32>,
    marker: MarkerTrust,
    clock: Clock,
    video: VideoTrack,
    audio: AudioTrack,
    /// A system header was seen since the last picture: the sender's word for a key frame.
    has_system_header: bool,
    /// A pack began since the last video PES.
    is_new_pack: bool,
    stats: PsStats,
}

impl Default for PsDemuxer {
    fn default() -> Self {
        PsDemuxer::new()
    }
}

impl PsDemuxer {
    pub fn new() -> PsDemuxer {
        PsDemuxer {
            state: State::Resync,
            head: Vec::new(),
            rtp_ts: None,
            marker: MarkerTrust::default(),
            clock: Clock::default(),
            video: VideoTrack::default(),
            audio: AudioTrack::default(),
            has_system_header: false,
            is_new_pack: false,
            stats: PsStats::default(),
        }
    }

    pub fn stats(&self) -> PsStats {
        PsStats { jumps: self.clock.jumps(), ..self.stats }
    }

    /// Take the next payload in order; every frame that is complete now goes to `out`.
    pub fn push(&mut self, payload: &[u8], rtp_ts: u32, marker: bool, out: &mut impl FnMut(Frame)) {
        if self.rtp_ts != Some(rtp_ts) {
            self.on_new_time(payload, out);
            self.rtp_ts = Some(rtp_ts);
        } else if self.marker.closed_at == Some(rtp_ts) && self.expects_unit() && !begins_unit(payload) {
            self.marker.is_broken = true; // an open length went on behind the marker
        }
        self.marker.was_set = marker;
        let mut rest = payload;
        while !rest.is_empty() {
            rest = match self.state {
                State::Resync => self.resync(rest),
                State::Unit => self.unit(rest, out),
                State::Body { is_video, left } => self.body(rest, is_video, left, out),
                State::Skip { left } => self.skip(rest, left),
                State::Open => self.open(rest),
            };
        }
        if marker {
            self.on_marker(rtp_ts, out);
        }
    }

    /// Packets are missing before the next one: give up the frames in progress and wait for the next pack.
    pub fn loss(&mut self) {
        let had_video = self.video.clear();
        let had_audio = self.audio.clear();
        self.stats.dropped += u64::from(had_video) + u64::from(had_audio);
        self.state = State::Resync;
        self.head.clear();
        self.marker.was_set = false;
        self.has_system_header = false;
    }

    /// The stream ended or paused: hand out what is complete as far as anybody can tell.
    pub fn flush(&mut self, out: &mut impl FnMut(Frame)) {
        if matches!(self.state, State::Unit | State::Open | State::Resync) && self.head.is_empty() {
            self.end_video(out);
        }
    }

    /// Everything up to here is used up, to the byte.
    fn expects_unit(&self) -> bool {
        self.state == State::Unit && self.head.is_empty()
    }

    fn on_new_time(&mut self, payload: &[u8], out: &mut impl FnMut(Frame)) {
        if self.marker.was_set {
            self.marker.proofs = self.marker.proofs.saturating_add(1);
        }
        let begins_pack = payload.starts_with(&PACK_START);
        match self.state {
            State::Body { .. } | State::Skip { .. } if begins_pack => {
                self.stats.malformed += 1; // a length that claimed more than there was
                self.end_audio(out);
            }
            State::Open if begins_pack => {}
            State::Unit if self.expects_unit() && !begins_video(payload) => {}
            _ => return,
        }
        self.state = State::Unit;
        self.head.clear();
        self.end_video(out);
    }

    fn on_marker(&mut self, rtp_ts: u32, out: &mut impl FnMut(Frame)) {
        let is_complete = match self.state {
            State::Unit => self.expects_unit() && !self.marker.is_broken,
            State::Open => !self.marker.is_broken && self.marker.proofs >= 2,
            _ => false,
        };
        if is_complete && !self.video.is_empty() {
            self.state = State::Unit;
            self.marker.closed_at = Some(rtp_ts);
            self.end_video(out);
        }
    }

    /// Look for a pack header; one cut by the end of the payload is completed from the next.
    fn resync<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if let Some(place) = memmem::find(data, &PACK_START) {
            self.state = State::Unit;
            return &data[place..];
        }
        let cut = (1..PACK_START.len()).rev().find(|size| data.ends_with(&PACK_START[..*size]));
        if let Some(size) = cut {
            self.head.extend_from_slice(&PACK_START[..size]);
            self.state = State::Unit;
        }
        &[]
    }

    fn unit<'a>(&mut self, data: &'a [u8], out: &mut impl FnMut(Frame)) -> &'a [u8] {
        if self.head.is_empty() {
            let parsed = units::parse(data);
            return match parsed {
                Ok(unit) => {
                    self.enter(unit, out);
                    &data[unit.size()..]
                }
                Err(units::Incomplete::Need(_)) => {
                    self.head.extend_from_slice(data);
                    &[]
                }
                Err(units::Incomplete::NotAUnit) => self.out_of_step(data),
            };
        }
        self.unit_from_head(data, out)
    }

    /// Complete the header begun in an earlier payload, taking no more than it needs.
    fn unit_from_head<'a>(&mut self, data: &'a [u8], out: &mut impl FnMut(Frame)) -> &'a [u8] {
        let mut rest = data;
        loop {
            match units::parse(&self.head) {
                Ok(unit) => {
                    self.head.clear();
                    self.enter(unit, out);
                    return rest;
                }
                Err(units::Incomplete::Need(total)) => {
                    if rest.is_empty() {
                        return rest;
                    }
                    let wanted = total.saturating_sub(self.head.len()).clamp(1, rest.len());
                    self.head.extend_from_slice(&rest[..wanted]);
                    rest = &rest[wanted..];
                }
                Err(units::Incomplete::NotAUnit) => {
                    let head = std::mem::take(&mut self.head);
                    let mut held = self.out_of_step(&head);
                    while !held.is_empty() && self.state != State::Unit {
                        held = if self.state == State::Open { self.open(held) } else { self.resync(held) };
                    }
                    self.head.extend_from_slice(held);
                    return rest;
                }
            }
        }
    }

    /// No start code where one belongs: the video went on past its length, or we have lost our place.
    fn out_of_step<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        self.stats.malformed += 1;
        if data.starts_with(&PACK_START) {
            self.state = State::Resync;
            return &data[1..]; // a pack header that is none; do not find it again
        }
        let goes_on = self.video.is_last && !self.video.is_empty();
        self.state = if goes_on { State::Open } else { State::Resync };
        data
    }

    fn enter(&mut self, unit: Unit, out: &mut impl FnMut(Frame)) {
        self.state = State::Unit;
        match unit {
            Unit::Pack { .. } => self.is_new_pack = true,
            Unit::End => {}
            Unit::SystemHeader { body } => {
                self.has_system_header = true;
                self.skip_body(body);
            }
            Unit::Map { map, .. } => {
                self.video.declare(map.video);
                self.audio.declare(map.audio);
            }
            Unit::Other { body } => self.skip_body(body),
            Unit::BadMap { .. } => self.stats.malformed += 1,
            Unit::Video(pes) => self.begin_video(pes, out),
            Unit::Audio(pes) => self.begin_audio(pes, out),
        }
    }

    fn skip_body(&mut self, body: usize) {
        if body > 0 {
            self.state = State::Skip { left: body };
        }
    }

    fn begin_video(&mut self, pes: Pes, out: &mut impl FnMut(Frame)) {
        if !self.video.takes(pes.stream_id) {
            return self.skip_body(pes.body.unwrap_or(0));
        }
        if self.video.is_next_picture(&pes, self.is_new_pack) {
            self.end_video(out);
        }
        if self.marker.closed_at.is_some() && self.marker.closed_at == self.rtp_ts && !self.is_new_pack {
            self.marker.is_broken = true;
        }
        self.marker.closed_at = None;
        self.is_new_pack = false;
        self.video.begin(&pes, self.rtp_ts.unwrap_or(0), self.has_system_header);
        self.has_system_header = false;
        self.video.is_last = true;
        self.state = match pes.body {
            None => State::Open,
            Some(0) => State::Unit,
            Some(left) => State::Body { is_video: true, left },
        };
    }

    fn begin_audio(&mut self, pes: Pes, out: &mut impl FnMut(Frame)) {
        if !self.audio.takes(pes.stream_id) {
            return self.skip_body(pes.body.unwrap_or(0));
        }
        let left = pes.body.unwrap_or(0); // only video may leave its length open
        self.audio.begin(&pes, self.rtp_ts.unwrap_or(0), left);
        self.video.is_last = false;
        self.state = State::Body { is_video: false, left };
        if left == 0 {
            self.state = State::Unit;
            self.end_audio(out);
        }
    }

    fn body<'a>(
        &mut self,
        data: &'a [u8],
        is_video: bool,
        left: usize,
        out: &mut impl FnMut(Frame),
    ) -> &'a [u8] {
        let (now, later) = data.split_at(left.min(data.len()));
        let left = left - now.len();
        self.state = if left == 0 { State::Unit } else { State::Body { is_video, left } };
        if !is_video {
            self.audio.append(now);
            if left == 0 {
                self.end_audio(out);
            }
        } else if !self.video.append(now) {
            self.drop_oversized();
        }
        later
    }

    fn skip<'a>(&mut self, data: &'a [u8], left: usize) -> &'a [u8] {
        let (now, later) = data.split_at(left.min(data.len()));
        let left = left - now.len();
        self.state = if left == 0 { State::Unit } else { State::Skip { left } };
        later
    }

    /// Copy video up to the next system start code, which may have begun in the payload before.
    fn open<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if let Some(place) = self.video.code_across(data) {
            self.state = State::Unit;
            self.head.extend_from_slice(&self.video.data()[place..]);
            self.video.truncate(place);
            return data;
        }
        // Looked for before it is copied: a payload of nothing but start codes is then read once and not once for each.
        let place = units::find_system_code(data);
        let (video, behind) = data.split_at(place.unwrap_or(data.len()));
        if !self.video.append(video) {
            self.drop_oversized();
            return &[];
        }
        if place.is_some() {
            self.state = State::Unit;
        }
        behind
    }

    fn drop_oversized(&mut self) {
        self.stats.oversized += 1;
        self.video.clear();
        self.state = State::Resync;
    }

    fn end_video(&mut self, out: &mut impl FnMut(Frame)) {
        if let Some(frame) = self.video.end(&mut self.clock) {
            self.stats.frames += 1;
            self.stats.key_frames += u64::from(frame.key);
            out(frame);
        }
    }

    fn end_audio(&mut self, out: &mut impl FnMut(Frame)) {
        if let Some(frame) = self.audio.end(&mut self.clock) {
            self.stats.frames += 1;
            out(frame);
        }
    }
}

fn begins_unit(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, units::FIRST..=0xFF, ..])
}

fn begins_video(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, 0xE0..=0xEF, ..])
}
