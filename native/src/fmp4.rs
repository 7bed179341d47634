//! Frames as fragmented MP4 for Media Source Extensions; one buffer a frame for all viewers.
//!
//! After: ISO/IEC 14496-12 (moov, moof, trun), 14496-14 (mp4a), 14496-15 (avc1, hvc1)
//!
//! One `moof` and `mdat` a frame, so that nothing waits. The duration of a picture is not known when it goes out; it is
//! taken from the one before, and the absolute `tfdt` of the next sets it right. G.711 has no place in browsers' MP4 and is left out.

mod boxes;
pub mod parts;

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

#[cfg(test)]
mod tests {
    use super::*;

    pub const SPS: &str = "6742c028da01e0089f961000000300100000030320f1832a";
    pub const SPS_FIELDS: &str = "674d4028f403c0227ee1000003000100000300321f162ea0";

    pub fn video(dts: u64, key: bool, sps: Option<&str>) -> Frame {
        let mut data = Vec::new();
        if let Some(sps) = sps {
            data.extend(
                [&[0, 0, 1], &crate::nal::sps::tests::hex(sps)[..], &[0, 0, 1, 0x68, 0xCE, 0x0F, 0xC8]]
                    .concat(),
            );
        }
        data.extend([0, 0, 1, if key { 0x65 } else { 0x41 }, 0x88, 1]);
        let data = Bytes::from(data);
        Frame { codec: Codec::H264, pts: dts, dts, key, config: sps.is_some(), data }
    }

    pub fn aac(pts: u64, count: usize) -> Frame {
        let config = AacConfig { object_type: 2, rate_index: 11, channels: 1 };
        let data = Bytes::from([&config.header(2)[..], &[7, 7]].concat().repeat(count));
        Frame { codec: Codec::Aac, pts, dts: pts, key: false, config: false, data }
    }

    /// Names and bodies of the boxes at this level; checks that their sizes add up.
    fn boxes(mut data: &[u8]) -> Vec<(String, &[u8])> {
        let mut got = Vec::new();
        while !data.is_empty() {
            let size = u32::from_be_bytes(data[..4].try_into().unwrap()) as usize;
            got.push((String::from_utf8(data[4..8].to_vec()).unwrap(), &data[8..size]));
            data = &data[size..];
        }
        got
    }

    pub fn names(data: &[u8]) -> Vec<String> {
        boxes(data).into_iter().map(|(name, _)| name).collect()
    }

    /// (track, decoding time, samples of duration, size, flags, shift) of a fragment; checks the data offset.
    fn fragment(data: &[u8]) -> (u32, u64, Vec<[u32; 4]>) {
        let top = boxes(data);
        assert_eq!(names(data), ["moof", "mdat"]);
        let moof = boxes(top[0].1);
        let traf = boxes(moof[1].1);
        let word = |body: &[u8], at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        let (tfhd, tfdt, trun) = (traf[0].1, traf[1].1, traf[2].1);
        assert_eq!(word(trun, 8) as usize, data.len() - top[1].1.len());
        let samples: Vec<_> =
            trun[12..].chunks(16).map(|one| [0, 4, 8, 12].map(|at| word(one, at))).collect();
        assert_eq!(samples.len(), word(trun, 4) as usize);
        assert_eq!(samples.iter().map(|one| one[1] as usize).sum::<usize>(), top[1].1.len());
        (word(tfhd, 4), u64::from(word(tfdt, 4)) << 32 | u64::from(word(tfdt, 8)), samples)
    }

    #[test]
    fn a_fragment_has_its_time_size_and_flags() {
        let mut muxer = Fmp4Muxer::new();
        let far = (1 << 33) + 5; // needs more than 32 bits
        let first = muxer.fragment(&video(far, true, Some(SPS))).unwrap();
        assert_eq!(fragment(&first), (1, far, vec![[3600, 7, 0x0200_0000, 0]]));
        let mut shown_later = video(far + 1800, false, None);
        shown_later.pts += 90;
        let second = muxer.fragment(&shown_later).unwrap();
        assert_eq!(fragment(&second), (1, far + 1800, vec![[1800, 7, 0x0101_0000, 90]]));
    }

    #[test]
    fn decoding_times_grow_even_when_the_senders_do_not() {
        let mut muxer = Fmp4Muxer::new();
        let times: Vec<_> = [900_000, 903_600, 903_600, 902_000, 907_200]
            .into_iter()
            .map(|dts| fragment(&muxer.fragment(&video(dts, true, Some(SPS))).unwrap()).1)
            .collect();
        assert_eq!(times, [900_000, 903_600, 903_601, 903_602, 907_200]);
    }

    #[test]
    fn the_init_segment_has_the_tracks_seen_before_it_and_keeps_them() {
        let mut muxer = Fmp4Muxer::new();
        assert_eq!(muxer.init(), None);
        assert_eq!(muxer.fragment(&video(0, true, None)), None);
        muxer.fragment(&video(3600, true, Some(SPS))).unwrap();
        let init = muxer.init().unwrap();
        assert_eq!(names(&init), ["ftyp", "moov"]);
        assert_eq!(names(boxes(&init)[1].1), ["mvhd", "trak", "mvex"]);
        assert_eq!(muxer.fragment(&aac(3600, 1)), None);
        assert_eq!(muxer.mime(), "video/mp4; codecs=\"avc1.42C028\"");
        let changed = muxer.fragment(&video(7200, true, Some(SPS_FIELDS))).unwrap();
        assert_eq!(names(&changed), ["ftyp", "moov", "moof", "mdat"]);
        let same = muxer.fragment(&video(10_800, true, Some(SPS_FIELDS))).unwrap();
        assert_eq!(names(&same), ["moof", "mdat"]);
    }

    #[test]
    fn sound_has_its_own_clock_without_gaps() {
        let mut muxer = Fmp4Muxer::new();
        let first = fragment(&muxer.fragment(&aac(90_000, 2)).unwrap());
        assert_eq!((first.0, first.1, first.2.len()), (2, 8000, 2));
        let jittered = fragment(&muxer.fragment(&aac(90_000 + 23_040 + 300, 1)).unwrap());
        assert_eq!(jittered.1, 8000 + 2048);
        let after_a_pause = fragment(&muxer.fragment(&aac(900_000, 1)).unwrap());
        assert_eq!(after_a_pause.1, 80_000);
        muxer.fragment(&video(0, true, Some(SPS)));
        assert_eq!(names(boxes(&muxer.init().unwrap())[1].1), ["mvhd", "trak", "trak", "mvex"]);
        assert_eq!(muxer.mime(), "video/mp4; codecs=\"avc1.42C028,mp4a.40.2\"");
    }
}
