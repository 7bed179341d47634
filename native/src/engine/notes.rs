//! What is counted of a stream, and remembered about the frames that passed.

use super::quality::{Quality, Totals};
use crate::adts;
use crate::events::Kind;
use crate::frame::{Codec, Frame};
use crate::nal::records::ParameterSets;

/// Sound that came for this long without any picture is a stream of its own, and can be joined once in this time.
const SOUND_ALONE_TICKS: u64 = 90_000;

/// What was counted. Times are engine milliseconds, -1 until they happened.
#[derive(Clone, Debug)]
pub struct Counters {
    pub packets: u64,
    pub bytes: u64,
    pub malformed: u64,
    pub foreign_ssrc: u64,
    pub frames: u64,
    pub key_frames: u64,
    pub first_packet_ms: f64,
    pub first_key_frame_ms: f64,
    pub last_packet_ms: f64,
    /// Frames of video among `frames`.
    pub pictures: u64,
    pub video: Option<Codec>,
    pub audio: Option<Codec>,
    /// What the sound says of itself, or its codec has by nature; 0 is not known.
    pub audio_rate_hz: u32,
    pub width: u32,
    pub height: u32,
}

impl Counters {
    fn new() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            malformed: 0,
            foreign_ssrc: 0,
            frames: 0,
            key_frames: 0,
            first_packet_ms: -1.0,
            first_key_frame_ms: -1.0,
            last_packet_ms: -1.0,
            pictures: 0,
            video: None,
            audio: None,
            audio_rate_hz: 0,
            width: 0,
            height: 0,
        }
    }

    /// What the figures are made from.
    pub(super) fn totals(&self, lost: u64) -> Totals {
        Totals { packets: self.packets, bytes: self.bytes, lost, pictures: self.pictures }
    }
}

/// What is remembered about the frames that passed.
pub(super) struct Notes {
    pub counters: Counters,
    parameters: ParameterSets,
    pub quality: Quality,
    /// Where sound began, or could be joined last.
    sound_start: Option<u64>,
    pub news: Vec<(Kind, &'static str)>,
}

impl Notes {
    pub fn new() -> Self {
        Self {
            counters: Counters::new(),
            parameters: ParameterSets::default(),
            quality: Quality::default(),
            sound_start: None,
            news: Vec::new(),
        }
    }

    /// A packet of the stream came; `lost` are missing so far.
    pub fn note_packet(&mut self, length: usize, timestamp: u32, clock_hz: u32, lost: u64, now_ms: f64) {
        let Self { counters, quality, news, .. } = self;
        if counters.first_packet_ms < 0.0 {
            counters.first_packet_ms = now_ms;
            news.push((Kind::FirstPacket, ""));
        }
        if quality.is_new_frame(timestamp) {
            quality.set_clock(clock_hz);
            quality.note_frame_start(timestamp, now_ms, || counters.totals(lost));
        }
        counters.packets += 1;
        counters.bytes += length as u64;
        counters.last_packet_ms = now_ms;
    }

    /// Note a frame; it comes back as one that viewers may start from when they may.
    pub fn take(&mut self, mut frame: Frame, now_ms: f64) -> Frame {
        frame.key |= self.is_start_of_sound(&frame);
        self.note_frame(&frame, now_ms);
        self.note_parameters(&frame);
        frame
    }

    /// Whether viewers of a stream without any picture may start here. Nobody could ever start otherwise.
    fn is_start_of_sound(&mut self, frame: &Frame) -> bool {
        if self.counters.video.is_some() || !frame.codec.is_audio() {
            return false;
        }
        let since = *self.sound_start.get_or_insert(frame.pts);
        let is_start = frame.pts.saturating_sub(since) >= SOUND_ALONE_TICKS;
        if is_start {
            self.sound_start = Some(frame.pts);
        }
        is_start
    }

    fn note_frame(&mut self, frame: &Frame, now_ms: f64) {
        let counters = &mut self.counters;
        counters.frames += 1;
        let known = if frame.codec.is_audio() { &mut counters.audio } else { &mut counters.video };
        if *known != Some(frame.codec) {
            // Of a track that changes with each frame the last is told: news are taken once a turn.
            if let Some(before) = known.replace(frame.codec) {
                self.news.retain(|news| *news != (Kind::Codec, before.name()));
            }
            self.news.push((Kind::Codec, frame.codec.name()));
        }
        counters.pictures += u64::from(frame.codec.is_video());
        counters.audio_rate_hz = match frame.codec {
            Codec::G711A | Codec::G711U => 8_000,
            Codec::G7221 => 16_000,
            Codec::Aac => adts::frames(&frame.data).next().map_or(0, |(config, _)| config.rate_hz()),
            _ => counters.audio_rate_hz,
        };
        if !frame.key {
            return;
        }
        if frame.codec.is_video() {
            counters.key_frames += 1;
            self.quality.note_key_frame(frame.pts);
        }
        if counters.first_key_frame_ms < 0.0 {
            counters.first_key_frame_ms = now_ms;
            self.news.push((Kind::FirstKeyFrame, frame.codec.name()));
        }
    }

    fn note_parameters(&mut self, frame: &Frame) {
        if !frame.config || !self.parameters.update(frame.codec, &frame.data) {
            return;
        }
        if let Some(sps) = self.parameters.sps(frame.codec) {
            self.counters.width = sps.width;
            self.counters.height = sps.height;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_sender_that_changes_its_codec_with_each_frame_is_told_of_once_a_turn() {
        let mut notes = Notes::new();
        for n in 0..10_001 {
            let codec = if n % 2 == 0 { Codec::H264 } else { Codec::H265 };
            let data = Bytes::from_static(&[0, 0, 1, 0x41]);
            notes.take(Frame { codec, pts: n, dts: n, key: false, config: false, data }, 0.0);
        }
        let sound =
            Frame { codec: Codec::G711A, pts: 0, dts: 0, key: false, config: false, data: Bytes::new() };
        notes.take(sound, 0.0);
        assert_eq!(notes.news, [(Kind::Codec, "h264"), (Kind::Codec, "g711a")]);
    }
}
