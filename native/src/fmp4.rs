//! Frames as fragmented MP4 for Media Source Extensions; one buffer a frame for all viewers.
//!
//! Implements: ISO/IEC 14496-12 (moov, moof, trun), 14496-14 (mp4a), 14496-15 (avc1, hvc1)
//!
//! One `moof` and `mdat` a frame, so that nothing waits. The duration of a picture is not known when it goes out; it is
//! taken from the one before, and the absolute `tfdt` of the next sets it right. G.711 has no place in browsers' MP4 and is left out.

mod boxes;

use bytes::Bytes;

use crate::adts::{self, AacConfig};
use crate::frame::{Codec, Frame};
use crate::nal::{self, records::ParameterSets};
use boxes::{Sample, VideoEntry};

const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;
const DURATION_DEFAULT: u64 = 3600;
const DURATION_MAX: u64 = 10 * 90_000;

#[derive(Debug, Default)]
pub struct Fmp4Muxer {
    video: Option<Codec>,
    sets: ParameterSets,
    entry: Option<VideoEntry>,
    aac: Option<AacConfig>,
    /// An init segment went out: its tracks stay, because a player cannot take another set of them.
    is_frozen: bool,
    sequence: u32,
    last_dts: Option<u64>,
    duration: u64,
    audio_end: u64,
}

impl Fmp4Muxer {
    pub fn new() -> Fmp4Muxer {
        Fmp4Muxer { duration: DURATION_DEFAULT, ..Fmp4Muxer::default() }
    }

    /// The init segment for the tracks seen so far; `None` before the first parameter sets. Feed the cached group through
    /// `fragment` first: from this call on the set of tracks is fixed.
    pub fn init(&mut self) -> Option<Bytes> {
        if self.entry.is_none() && self.aac.is_none() {
            return None;
        }
        self.is_frozen = true;
        Some(Bytes::from(boxes::init(self.entry.as_ref(), self.aac)))
    }

    /// What a player must be told to accept the init segment: `video/mp4; codecs="avc1.42C01E,mp4a.40.2"`.
    pub fn mime(&self) -> String {
        let video = self.video.and_then(|codec| self.sets.codec_string(codec));
        let audio = self.aac.map(|config| format!("mp4a.40.{}", config.object_type));
        let codecs: Vec<_> = video.into_iter().chain(audio).collect();
        format!("video/mp4; codecs=\"{}\"", codecs.join(","))
    }

    /// The fragment of one frame; `None` for what MP4 does not carry here or nobody could decode yet. When parameter sets
    /// change on the way, the new init segment stands before the fragment.
    pub fn fragment(&mut self, frame: &Frame) -> Option<Bytes> {
        match frame.codec {
            Codec::H264 | Codec::H265 => self.video_fragment(frame),
            Codec::Aac => self.audio_fragment(frame),
            _ => None,
        }
    }

    fn video_fragment(&mut self, frame: &Frame) -> Option<Bytes> {
        let mut out = Vec::with_capacity(frame.data.len() + 192);
        if frame.config && self.take_sets(frame) && self.is_frozen {
            out.extend_from_slice(&boxes::init(self.entry.as_ref(), self.aac));
        }
        self.entry.as_ref().filter(|_| self.video == Some(frame.codec))?;
        let dts = self.decoding_time(frame.dts);
        let shift = frame.pts as i64 - dts as i64;
        self.sequence = self.sequence.wrapping_add(1);
        let sample = Sample { duration: self.duration as u32, size: 0, key: frame.key, shift: shift as i32 };
        let start = out.len();
        let patch = boxes::moof(self.sequence, VIDEO_TRACK, dts, &[sample], &mut out);
        let media = out.len();
        nal::write_sample(frame.codec, &frame.data, &mut out);
        if out.len() == media {
            out.truncate(start); // parameter sets alone
        } else {
            patch.set_size(media, &mut out);
        }
        (!out.is_empty()).then(|| Bytes::from(out))
    }

    /// Decoding times must grow; a sender with B pictures and no DTS, or a repeated stamp, is put right by the least step.
    fn decoding_time(&mut self, dts: u64) -> u64 {
        let dts = self.last_dts.map_or(dts, |last| dts.max(last + 1));
        if let Some(last) = self.last_dts.replace(dts) {
            if (2..=DURATION_MAX).contains(&(dts - last)) {
                self.duration = dts - last;
            }
        }
        dts
    }

    fn take_sets(&mut self, frame: &Frame) -> bool {
        if self.video != Some(frame.codec) {
            self.video = Some(frame.codec);
            self.sets = ParameterSets::default();
        }
        if !self.sets.update(frame.codec, &frame.data) {
            return false;
        }
        let (record, sps) = (self.sets.record(frame.codec), self.sets.sps(frame.codec));
        self.entry = record.zip(sps).map(|(record, sps)| VideoEntry {
            codec: frame.codec,
            width: sps.width as u16,
            height: sps.height as u16,
            record,
        });
        self.entry.is_some()
    }

    fn audio_fragment(&mut self, frame: &Frame) -> Option<Bytes> {
        let (config, _) = adts::frames(&frame.data).next()?;
        if self.is_frozen && self.aac != Some(config) {
            return None;
        }
        self.aac = Some(config);
        let units: Vec<&[u8]> =
            adts::frames(&frame.data).take_while(|(same, _)| *same == config).map(|(_, raw)| raw).collect();
        let samples: Vec<Sample> = units
            .iter()
            .map(|raw| Sample { duration: adts::SAMPLES, size: raw.len() as u32, key: true, shift: 0 })
            .collect();
        let time = self.audio_time(frame.pts, config.rate_hz(), units.len() as u64);
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = Vec::with_capacity(frame.data.len() + 160 + 16 * units.len());
        let patch = boxes::moof(self.sequence, AUDIO_TRACK, time, &samples, &mut out);
        let media = out.len();
        units.iter().for_each(|raw| out.extend_from_slice(raw));
        patch.set_mdat(media, &mut out);
        Some(Bytes::from(out))
    }

    /// Frames of sound follow each other without a gap; only a difference of more than two of them is real.
    fn audio_time(&mut self, pts: u64, rate_hz: u32, frames: u64) -> u64 {
        let stamped = pts * u64::from(rate_hz) / 90_000;
        let is_near = stamped.abs_diff(self.audio_end) <= 2 * u64::from(adts::SAMPLES);
        let time = if is_near { self.audio_end } else { stamped };
        self.audio_end = time + frames * u64::from(adts::SAMPLES);
        time
    }
}
