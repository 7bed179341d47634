//! Frames into program stream: one pack a picture, maps with each key frame.
//!
//! Implements: GB/T 28181-2022 C.1
//! Implements: GB/T 28181-2022 6.3
//! After: ISO/IEC 13818-1 2.5.3, 2.5.4, 2.4.3.6

use crate::frame::{Codec, Frame};

/// Written into pack and system headers, in units of 50 bytes a second: 10 Mbit/s.
const MUX_RATE: u32 = 25_000;
const VIDEO_ID: u8 = 0xE0;
const AUDIO_ID: u8 = 0xC0;
/// What a PES packet can hold behind its length field.
const PES_MAX: usize = 65_535;
/// First flag byte of a PES header: priority, and alignment to an access unit where one begins.
const PES_ALIGNED: u8 = 0x8C;
const PES_CONTINUED: u8 = 0x88;

#[derive(Debug)]
pub struct PsMuxer {
    video: Option<Codec>,
    audio: Option<Codec>,
}

impl PsMuxer {
    pub fn new(video: Option<Codec>, audio: Option<Codec>) -> PsMuxer {
        PsMuxer { video, audio }
    }

    /// Append one frame of either track. A track that was not announced joins the map from here on; sound brings the map
    /// at once, because without it G.711 is taken for something else.
    pub fn write(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        if frame.codec.is_audio() {
            let is_new = self.audio.replace(frame.codec) != Some(frame.codec);
            self.write_sound(&frame.data, frame.pts, is_new, out);
        } else {
            self.video = Some(frame.codec);
            self.write_picture(&frame.data, frame.pts, frame.dts, frame.key, out);
        }
    }

    /// Append one picture: pack header, system header and map when it is a key frame, PES packets.
    pub fn write_video(&mut self, annexb: &[u8], pts: u64, key: bool, out: &mut Vec<u8>) {
        self.write_picture(annexb, pts, pts, key, out);
    }

    /// Append one frame of sound in a pack of its own.
    pub fn write_audio(&mut self, payload: &[u8], pts: u64, out: &mut Vec<u8>) {
        self.write_sound(payload, pts, false, out);
    }

    fn write_sound(&mut self, payload: &[u8], pts: u64, is_new: bool, out: &mut Vec<u8>) {
        write_pack_header(pts, out);
        if is_new || self.video.is_none() {
            self.write_maps(out); // sound alone has no key frames to carry them
        }
        write_pes(AUDIO_ID, payload, pts, pts, out);
    }

    fn write_picture(&mut self, annexb: &[u8], pts: u64, dts: u64, key: bool, out: &mut Vec<u8>) {
        out.reserve(annexb.len() + 128 + annexb.len() / PES_MAX * 16);
        write_pack_header(dts, out);
        if key {
            self.write_maps(out);
        }
        write_pes(VIDEO_ID, annexb, pts, dts, out);
    }

    fn write_maps(&self, out: &mut Vec<u8>) {
        write_system_header(self.video.is_some(), self.audio.is_some(), out);
        write_stream_map(self.video, self.audio, out);
    }
}

fn write_pack_header(scr: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 1, 0xBA]);
    let scr = scr & ((1 << 33) - 1);
    // 01, base 32..30, 1, base 29..15, 1, base 14..0, 1, extension (9 bits, 0), 1
    let fields = 1 << 46
        | (scr >> 30) << 43
        | 1 << 42
        | (scr >> 15 & 0x7FFF) << 27
        | 1 << 26
        | (scr & 0x7FFF) << 11
        | 1 << 10
        | 1;
    out.extend_from_slice(&fields.to_be_bytes()[2..]);
    out.extend_from_slice(&(MUX_RATE << 2 | 3).to_be_bytes()[1..]);
    out.push(0xF8);
}

fn write_system_header(has_video: bool, has_audio: bool, out: &mut Vec<u8>) {
    let streams = u16::from(has_video) + u16::from(has_audio);
    out.extend_from_slice(&[0, 0, 1, 0xBB]);
    out.extend_from_slice(&(6 + 3 * streams).to_be_bytes());
    out.extend_from_slice(&(1 << 23 | MUX_RATE << 1 | 1).to_be_bytes()[1..]);
    // audio_bound, not fixed, not constrained; audio and video locked, marker, video_bound; no rate restriction
    out.extend_from_slice(&[u8::from(has_audio) << 2, 0xE0 | u8::from(has_video), 0x7F]);
    if has_video {
        out.extend_from_slice(&[VIDEO_ID, 0xE0, 0x80]); // a buffer of 128 KiB
    }
    if has_audio {
        out.extend_from_slice(&[AUDIO_ID, 0xC0, 0x20]); // a buffer of 4 KiB
    }
}

fn write_stream_map(video: Option<Codec>, audio: Option<Codec>, out: &mut Vec<u8>) {
    let start = out.len();
    let entries: Vec<[u8; 4]> = [(video, VIDEO_ID), (audio, AUDIO_ID)]
        .into_iter()
        .filter_map(|(codec, id)| codec.map(|codec| [codec.stream_type(), id, 0, 0]))
        .collect();
    let length = 4 * entries.len() as u16;
    out.extend_from_slice(&[0, 0, 1, 0xBC]);
    out.extend_from_slice(&(10 + length).to_be_bytes());
    out.extend_from_slice(&[0xE0, 0xFF, 0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend(entries.iter().flatten());
    let crc = crc32(&out[start..]);
    out.extend_from_slice(&crc.to_be_bytes());
}

/// One access unit as PES packets; the first carries its times, the others continue it.
fn write_pes(stream_id: u8, data: &[u8], pts: u64, dts: u64, out: &mut Vec<u8>) {
    let mut times = [0; 10];
    let times = if dts == pts {
        times[..5].copy_from_slice(&time(2, pts));
        &times[..5]
    } else {
        times[..5].copy_from_slice(&time(3, pts));
        times[5..].copy_from_slice(&time(1, dts));
        &times[..]
    };
    let first_max = PES_MAX - 3 - times.len();
    let (first, rest) = data.split_at(data.len().min(first_max));
    write_pes_packet(stream_id, PES_ALIGNED, times, first, out);
    for part in rest.chunks(PES_MAX - 3) {
        write_pes_packet(stream_id, PES_CONTINUED, &[], part, out);
    }
}

fn write_pes_packet(stream_id: u8, flags: u8, times: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let length = (3 + times.len() + data.len()) as u16;
    let which = match times.len() {
        0 => 0,
        5 => 0x80,
        _ => 0xC0,
    };
    out.extend_from_slice(&[0, 0, 1, stream_id]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&[flags, which, times.len() as u8]);
    out.extend_from_slice(times);
    out.extend_from_slice(data);
}

/// A 33-bit time in five bytes behind a four-bit mark.
fn time(mark: u8, ticks: u64) -> [u8; 5] {
    [
        mark << 4 | (ticks >> 29) as u8 & 0x0E | 1,
        (ticks >> 22) as u8,
        (ticks >> 14) as u8 | 1,
        (ticks >> 7) as u8,
        (ticks << 1) as u8 | 1,
    ]
}

/// CRC-32 of MPEG systems: polynomial 04C11DB7H, all ones to begin with, nothing reflected. Over maps only, so bit by bit.
fn crc32(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn headers_match_the_worked_bytes() {
        let pack = written(|out| write_pack_header(900_000, out));
        assert_eq!(pack, hex("00 00 01 ba 44 00 dd dd 04 01 01 86 a3 f8"));
        let system = written(|out| write_system_header(true, true, out));
        assert_eq!(system, hex("00 00 01 bb 00 0c 80 c3 51 04 e1 7f e0 e0 80 c0 c0 20"));
    }

    #[test]
    fn stream_maps_match_the_worked_bytes_with_their_crc() {
        let map = |video, audio| written(|out| write_stream_map(Some(video), Some(audio), out));
        let first = hex("00 00 01 bc 00 12 e0 ff 00 00 00 08 1b e0 00 00 90 c0 00 00 fe df b1 d7");
        let second = hex("00 00 01 bc 00 12 e0 ff 00 00 00 08 24 e0 00 00 0f c0 00 00 ea c5 e4 1d");
        assert_eq!(map(Codec::H264, Codec::G711A), first);
        assert_eq!(map(Codec::H265, Codec::Aac), second);
    }

    #[test]
    fn a_pes_header_matches_the_worked_bytes() {
        let pes = written(|out| write_pes(VIDEO_ID, &[7; 1000], 900_000, 900_000, out));
        assert_eq!(pes[..14], hex("00 00 01 e0 03 f0 8c 80 05 21 00 37 77 41"));
        assert_eq!(pes.len(), 14 + 1000);
    }

    #[test]
    fn times_of_33_bits_keep_their_markers() {
        assert_eq!(time(2, (1 << 33) - 1), [0x2F, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(time(2, 1 << 33), [0x21, 0, 1, 0, 1]);
    }

    #[test]
    fn a_large_picture_is_split_and_only_its_first_part_has_a_time() {
        let mut out = Vec::new();
        let mut muxer = PsMuxer::new(Some(Codec::H264), None);
        muxer.write_video(&[7; 200_000], 900_000, false, &mut out);
        let mut at = 14;
        let mut parts = Vec::new();
        while at < out.len() {
            assert_eq!(out[at..at + 4], [0, 0, 1, VIDEO_ID]);
            let length = usize::from(u16::from_be_bytes([out[at + 4], out[at + 5]]));
            parts.push((length, out[at + 7]));
            at += 6 + length;
        }
        assert_eq!(at, out.len());
        assert_eq!(parts[..3], [(65_535, 0x80), (65_535, 0), (65_535, 0)]);
        assert_eq!(parts.len(), 4);
    }

    #[test]
    fn maps_come_with_key_frames_only() {
        let mut muxer = PsMuxer::new(Some(Codec::H264), Some(Codec::G711A));
        let sizes = [true, false].map(|key| written(|out| muxer.write_video(&[7; 10], 0, key, out)).len());
        assert_eq!(sizes, [14 + 18 + 24 + 24, 14 + 24]);
    }
}
