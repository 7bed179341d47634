//! Frames as FLV tags; one buffer a frame for all viewers.
//!
//! After: Adobe FLV 10.1 Annex E, Enhanced RTMP v1 (H.265 as `hvc1`)
//!
//! Times are those of the stream, not of the viewer, so that every viewer gets the same bytes. A tag buffer may hold more than
//! one tag: changed parameter sets come as a sequence header before the frame that brought them.

use bytes::Bytes;

use crate::adts::{self, AacConfig};
use crate::frame::{Codec, Frame};
use crate::nal::{self, records::ParameterSets};

const TAG_AUDIO: u8 = 8;
const TAG_VIDEO: u8 = 9;
const TAG_HEADER: usize = 11;
const KEY: u8 = 1 << 4;
const INTER: u8 = 2 << 4;
const AVC: u8 = 7;
/// Enhanced RTMP: the rest of the byte is a packet type, and a FourCC follows.
const EXTENDED: u8 = 0x80;
const HVC1: &[u8; 4] = b"hvc1";
/// AAC, 44 kHz, 16 bit, stereo: fixed values, the truth is in the AudioSpecificConfig.
const AAC: u8 = 0xAF;
/// G.711 A-law and mu-law, 16 bit, mono; the rate field has no value for 8 kHz.
const G711A: u8 = 0x72;
const G711U: u8 = 0x82;

#[derive(Debug, Default)]
pub struct FlvMuxer {
    video: Option<Codec>,
    sets: ParameterSets,
    record: Option<Vec<u8>>,
    aac: Option<AacConfig>,
    has_audio: bool,
    /// Time of the newest key frame: when a viewer who starts there gets the sequence headers.
    key_ms: u32,
    last_video_dts: u64,
}

impl FlvMuxer {
    pub fn new() -> FlvMuxer {
        FlvMuxer::default()
    }

    /// The file header and the sequence headers in force. Feed the cached group through `tag` first: the header names the
    /// tracks seen so far, and players wait for every track it names.
    pub fn header(&self) -> Bytes {
        let tracks = u8::from(self.has_audio) << 2 | u8::from(self.record.is_some());
        let mut out = [b"FLV\x01".as_slice(), &[tracks, 0, 0, 0, 9, 0, 0, 0, 0]].concat();
        self.write_video_header(&mut out);
        self.write_aac_header(self.key_ms, &mut out);
        Bytes::from(out)
    }

    /// The tags of one frame; `None` for what FLV cannot carry or nobody could decode yet.
    pub fn tag(&mut self, frame: &Frame) -> Option<Bytes> {
        let mut out = Vec::with_capacity(frame.data.len() + 64);
        self.on_frame(frame, &mut out);
        (!out.is_empty()).then(|| Bytes::from(out))
    }

    /// Append the tags of one frame.
    pub fn on_frame(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        match frame.codec {
            Codec::H264 | Codec::H265 => self.on_video(frame, out),
            Codec::Aac => self.on_aac(frame, out),
            Codec::G711A => self.on_g711(G711A, frame, out),
            Codec::G711U => self.on_g711(G711U, frame, out),
            Codec::Svac | Codec::Mpeg4 | Codec::G7221 | Codec::Unknown(_) => {}
        }
    }

    fn on_video(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let dts = self.decoding_time(frame);
        let time_ms = to_ms(dts);
        if frame.key {
            self.key_ms = time_ms;
        }
        if frame.config && self.take_sets(frame) {
            self.key_ms = time_ms;
            self.write_video_header(out);
        }
        if self.record.is_none() || self.video != Some(frame.codec) {
            return;
        }
        let kind = if frame.key { KEY } else { INTER };
        let shift_ms = (frame.pts as i64 - dts as i64) / 90;
        let start = begin_tag(TAG_VIDEO, time_ms, out);
        match (frame.codec, shift_ms) {
            (Codec::H264, _) => {
                out.extend_from_slice(&[kind | AVC, 1]);
                out.extend_from_slice(&(shift_ms as i32).to_be_bytes()[1..]);
            }
            (_, 0) => {
                out.push(EXTENDED | kind | 3);
                out.extend_from_slice(HVC1);
            }
            _ => {
                out.push(EXTENDED | kind | 1);
                out.extend_from_slice(HVC1);
                out.extend_from_slice(&(shift_ms as i32).to_be_bytes()[1..]);
            }
        }
        let head = out.len();
        nal::write_sample(frame.codec, &frame.data, out);
        if out.len() == head {
            out.truncate(start); // parameter sets alone
        } else {
            end_tag(start, out);
        }
    }

    /// Decoding times never go back: a sender with B pictures that gives no DTS must not run the player's clock backwards.
    fn decoding_time(&mut self, frame: &Frame) -> u64 {
        self.last_video_dts = self.last_video_dts.max(frame.dts);
        self.last_video_dts
    }

    fn take_sets(&mut self, frame: &Frame) -> bool {
        if self.video != Some(frame.codec) {
            self.video = Some(frame.codec);
            self.sets = ParameterSets::default();
        }
        if !self.sets.update(frame.codec, &frame.data) {
            return false;
        }
        self.record = self.sets.record(frame.codec);
        self.record.is_some()
    }

    fn write_video_header(&self, out: &mut Vec<u8>) {
        let Some(record) = &self.record else { return };
        let start = begin_tag(TAG_VIDEO, self.key_ms, out);
        if self.video == Some(Codec::H264) {
            out.extend_from_slice(&[KEY | AVC, 0, 0, 0, 0]);
        } else {
            out.push(EXTENDED | KEY);
            out.extend_from_slice(HVC1);
        }
        out.extend_from_slice(record);
        end_tag(start, out);
    }

    fn write_aac_header(&self, time_ms: u32, out: &mut Vec<u8>) {
        let Some(config) = self.aac else { return };
        let start = begin_tag(TAG_AUDIO, time_ms, out);
        out.extend_from_slice(&[AAC, 0]);
        out.extend_from_slice(&config.audio_specific_config());
        end_tag(start, out);
    }

    fn on_aac(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        for (index, (config, raw)) in adts::frames(&frame.data).enumerate() {
            let ahead = index as u64 * u64::from(adts::SAMPLES) * 90_000 / u64::from(config.rate_hz());
            let time_ms = to_ms(frame.pts + ahead);
            self.note_sound(time_ms);
            if self.aac.replace(config) != Some(config) {
                self.write_aac_header(time_ms, out);
            }
            self.has_audio = true;
            let start = begin_tag(TAG_AUDIO, time_ms, out);
            out.extend_from_slice(&[AAC, 1]);
            out.extend_from_slice(raw);
            end_tag(start, out);
        }
    }

    /// Without a picture a viewer starts at any sound.
    fn note_sound(&mut self, time_ms: u32) {
        if self.video.is_none() {
            self.key_ms = time_ms;
        }
    }

    fn on_g711(&mut self, form: u8, frame: &Frame, out: &mut Vec<u8>) {
        self.has_audio = true;
        self.aac = None;
        let start = begin_tag(TAG_AUDIO, to_ms(frame.pts), out);
        out.push(form);
        out.extend_from_slice(&frame.data);
        end_tag(start, out);
    }
}

fn to_ms(ticks: u64) -> u32 {
    (ticks / 90) as u32 // wraps after 49 days, as the format does
}

/// Begin a tag; returns where it begins. Its size is filled in by `end_tag`.
fn begin_tag(kind: u8, time_ms: u32, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let [extended, time @ ..] = time_ms.to_be_bytes();
    out.extend_from_slice(&[kind, 0, 0, 0, time[0], time[1], time[2], extended, 0, 0, 0]);
    start
}

fn end_tag(start: usize, out: &mut Vec<u8>) {
    let size = (out.len() - start) as u32;
    let body = size - TAG_HEADER as u32;
    out[start + 1..start + 4].copy_from_slice(&body.to_be_bytes()[1..]);
    out.extend_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47, 0xFE, 0xC8];
    const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];

    fn video(pts: u64, key: bool, nals: &[&[u8]]) -> Frame {
        let data: Vec<u8> = nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect();
        let config = nals.contains(&SPS);
        Frame { codec: Codec::H264, pts, dts: pts, key, config, data: Bytes::from(data) }
    }

    fn audio(codec: Codec, pts: u64, data: Vec<u8>) -> Frame {
        Frame { codec, pts, dts: pts, key: false, config: false, data: Bytes::from(data) }
    }

    /// (kind, time, body) of each tag; checks all sizes on the way.
    fn tags(mut data: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let mut got = Vec::new();
        while !data.is_empty() {
            let size = u32::from_be_bytes([0, data[1], data[2], data[3]]) as usize;
            let time = u32::from_be_bytes([data[7], data[4], data[5], data[6]]);
            got.push((data[0], time, data[11..11 + size].to_vec()));
            assert_eq!(data[11 + size..15 + size], (11 + size as u32).to_be_bytes());
            data = &data[15 + size..];
        }
        got
    }

    #[test]
    fn a_key_frame_brings_its_sequence_header_once() {
        let mut flv = FlvMuxer::new();
        let key = video(90_000, true, &[SPS, PPS, &[0x65, 1, 2]]);
        let first = tags(&flv.tag(&key).unwrap());
        assert_eq!(first.len(), 2);
        assert_eq!((first[0].0, first[0].1, &first[0].2[..6]), (9, 1000, &[0x17, 0, 0, 0, 0, 1][..]));
        assert_eq!(first[1].2, [0x17, 1, 0, 0, 0, 0, 0, 0, 3, 0x65, 1, 2]);
        assert_eq!(tags(&flv.tag(&key).unwrap()).len(), 1);
        let inter = tags(&flv.tag(&video(93_600, false, &[&[0x41, 9]])).unwrap());
        assert_eq!(inter, [(9, 1040, vec![0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 9])]);
    }

    #[test]
    fn the_header_names_the_tracks_seen_and_brings_their_configuration() {
        let mut flv = FlvMuxer::new();
        assert_eq!(flv.header()[..], *b"FLV\x01\x00\x00\x00\x00\x09\x00\x00\x00\x00");
        flv.tag(&video(90_000, true, &[SPS, PPS, &[0x65, 1, 2]]));
        assert_eq!(flv.header()[4], 1);
        let mut adts = AacConfig { object_type: 2, rate_index: 11, channels: 1 }.header(4).to_vec();
        adts.extend([1, 2, 3, 4]);
        flv.tag(&audio(Codec::Aac, 90_000, adts));
        let header = flv.header();
        assert_eq!(header[4], 5);
        let configuration = tags(&header[13..]);
        assert_eq!(configuration[1], (8, 1000, vec![0xAF, 0, 0x15, 0x88]));
    }

    #[test]
    fn nothing_goes_out_before_it_can_be_decoded() {
        let mut flv = FlvMuxer::new();
        assert_eq!(flv.tag(&video(0, true, &[&[0x65, 1, 2]])), None);
        assert_eq!(flv.tag(&audio(Codec::G7221, 0, vec![1])), None);
        assert_eq!(flv.tag(&audio(Codec::Aac, 0, vec![1, 2, 3])), None);
    }

    #[test]
    fn several_aac_frames_in_one_become_tags_with_times_of_their_own() {
        let mut flv = FlvMuxer::new();
        let config = AacConfig { object_type: 2, rate_index: 11, channels: 1 };
        let one = [&config.header(2)[..], &[7, 7]].concat();
        let got = tags(&flv.tag(&audio(Codec::Aac, 90_000, one.repeat(3))).unwrap());
        let times: Vec<_> = got.iter().map(|tag| tag.1).collect();
        assert_eq!(times, [1000, 1000, 1128, 1256]);
        assert_eq!(got[3].2, [0xAF, 1, 7, 7]);
    }

    #[test]
    fn g711_and_pictures_shown_later_are_marked_so() {
        let mut flv = FlvMuxer::new();
        let got = tags(&flv.tag(&audio(Codec::G711A, 9000, vec![5])).unwrap());
        assert_eq!(got, [(8, 100, vec![0x72, 5])]);
        let mut shown_later = video(90_000, true, &[SPS, PPS, &[0x65, 1]]);
        shown_later.pts += 7200;
        let got = tags(&flv.tag(&shown_later).unwrap());
        assert_eq!(got[1].2[..5], [0x17, 1, 0, 0, 80]);
    }
}
