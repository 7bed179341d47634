//! A frame as RTP payloads, made once and shared by every peer of the stream.
//!
//! After: RFC 6184 5.6, 5.8 (H.264: single units and FU-A), RFC 7798 4.4 (H.265: single units and FU), RFC 3551 4.5.14
//! (G.711)
//!
//! A key frame without its parameter sets gets those of the stream before it, since a browser wants them in each.

use crate::frame::{Codec, Frame};
use crate::gop::{GopCache, FRAMES_MAX};
use crate::nal::{self, h264, h265};
use std::collections::VecDeque;
use std::sync::Arc;

/// Largest payload: with RTP, SRTP, UDP and IPv6 around it the packet stays below 1280 bytes, which every path carries.
pub const PAYLOAD_MAX: usize = 1150;

/// Sound of one packet, 20 ms as every receiver expects.
const SOUND_BYTES: usize = 160;

/// One frame in packets.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    pub codec: Codec,
    pub key: bool,
    /// 90 kHz ticks.
    pub pts: u64,
    pub parts: Vec<Arc<[u8]>>,
    pub bytes: usize,
}

/// Packs the frames of one stream and keeps the pictures since the last key frame.
#[derive(Debug)]
pub struct Packer {
    /// The stream's parameter sets, behind start codes.
    sets: Vec<u8>,
    recent: VecDeque<Arc<Packed>>,
    recent_bytes: usize,
    cap_bytes: usize,
}

impl Packer {
    /// Begin with the frames of the cache.
    pub fn new(gop: &GopCache, cap_bytes: usize) -> Self {
        let mut packer = Self { sets: Vec::new(), recent: VecDeque::new(), recent_bytes: 0, cap_bytes };
        for frame in gop.frames() {
            packer.pack(frame);
        }
        packer
    }

    /// The pictures since the last key frame.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = &Arc<Packed>> {
        self.recent.iter()
    }

    /// Pack one frame; None when it is of a codec that WebRTC does not carry.
    pub fn pack(&mut self, frame: &Frame) -> Option<Arc<Packed>> {
        let mut parts = Vec::new();
        match frame.codec {
            Codec::H264 | Codec::H265 => self.pack_picture(frame, &mut parts),
            Codec::G711A | Codec::G711U => parts.extend(frame.data.chunks(SOUND_BYTES).map(Arc::from)),
            _ => return None,
        }
        let bytes = parts.iter().map(|part| part.len()).sum();
        let packed = Arc::new(Packed { codec: frame.codec, key: frame.key, pts: frame.pts, parts, bytes });
        if packed.parts.is_empty() {
            return None;
        }
        if packed.codec.is_video() {
            self.keep(&packed);
        }
        Some(packed)
    }

    fn pack_picture(&mut self, frame: &Frame, parts: &mut Vec<Arc<[u8]>>) {
        if frame.config {
            self.learn(frame);
        } else if frame.key {
            nal::nals(&self.sets).for_each(|unit| parts.push(unit.into()));
        }
        for unit in nal::nals(&frame.data).filter(|unit| !is_delimiter(frame.codec, unit)) {
            if unit.len() <= PAYLOAD_MAX {
                parts.push(unit.into());
            } else if frame.codec == Codec::H264 {
                split_h264(unit, parts);
            } else {
                split_h265(unit, parts);
            }
        }
    }

    fn learn(&mut self, frame: &Frame) {
        self.sets.clear();
        for unit in nal::nals(&frame.data).filter(|unit| is_set(frame.codec, unit)) {
            self.sets.extend_from_slice(&[0, 0, 1]);
            self.sets.extend_from_slice(unit);
        }
    }

    fn keep(&mut self, packed: &Arc<Packed>) {
        if packed.key {
            self.forget();
        } else if self.recent.is_empty() {
            return;
        }
        self.recent_bytes += packed.bytes;
        self.recent.push_back(packed.clone());
        if self.recent_bytes > self.cap_bytes || self.recent.len() > FRAMES_MAX {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }
}

fn is_delimiter(codec: Codec, unit: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::kind(unit) == h264::AUD,
        _ => h265::kind(unit) == h265::AUD || unit.len() < 2,
    }
}

fn is_set(codec: Codec, unit: &[u8]) -> bool {
    match codec {
        Codec::H264 => matches!(h264::kind(unit), h264::SPS | h264::PPS),
        _ => matches!(h265::kind(unit), h265::VPS | h265::SPS | h265::PPS),
    }
}

/// FU-A: the header byte is split into an indicator and a header that tells first and last.
fn split_h264(unit: &[u8], parts: &mut Vec<Arc<[u8]>>) {
    let Some((&head, body)) = unit.split_first() else { return };
    split(body, &[head & 0xE0 | 28], head & 0x1F, parts);
}

/// FU: two header bytes with the type 49, then the header that tells first and last.
fn split_h265(unit: &[u8], parts: &mut Vec<Arc<[u8]>>) {
    let Some((&[first, second], body)) = unit.split_first_chunk() else { return };
    split(body, &[first & 0x81 | 49 << 1, second], first >> 1 & 0x3F, parts);
}

fn split(body: &[u8], indicator: &[u8], kind: u8, parts: &mut Vec<Arc<[u8]>>) {
    let room = PAYLOAD_MAX - indicator.len() - 1;
    let count = body.len().div_ceil(room);
    for (index, piece) in body.chunks(room).enumerate() {
        let mut part = Vec::with_capacity(indicator.len() + 1 + piece.len());
        part.extend_from_slice(indicator);
        part.push(u8::from(index == 0) << 7 | u8::from(index + 1 == count) << 6 | kind);
        part.extend_from_slice(piece);
        parts.push(part.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(codec: Codec, units: &[&[u8]], key: bool, config: bool) -> Frame {
        let data: Vec<u8> = units.iter().flat_map(|unit| [&[0, 0, 0, 1], *unit].concat()).collect();
        Frame { codec, pts: 0, dts: 0, key, config, data: Bytes::from(data) }
    }

    fn packer() -> Packer {
        Packer::new(&GopCache::new(0), 1 << 20)
    }

    #[test]
    fn small_units_go_as_they_are_and_delimiters_stay_behind() {
        let got = packer().pack(&frame(Codec::H264, &[&[9, 1], &[0x67, 1], &[0x65, 2]], true, true)).unwrap();
        let parts: Vec<&[u8]> = got.parts.iter().map(|part| &part[..]).collect();
        assert_eq!(parts, [&[0x67, 1][..], &[0x65, 2]]);
    }

    #[test]
    fn a_large_unit_is_split_and_comes_together_again() {
        let body: Vec<u8> = (0..3000u32).map(|n| (n % 251 + 1) as u8).collect();
        for (codec, head, lead) in [(Codec::H264, vec![0x65], 1), (Codec::H265, vec![0x26, 0x01], 2)] {
            let unit = [&head[..], &body].concat();
            let got = packer().pack(&frame(codec, &[&unit], true, false)).unwrap();
            assert!(got.parts.iter().all(|part| part.len() <= PAYLOAD_MAX));
            let marks: Vec<u8> = got.parts.iter().map(|part| part[lead] >> 6).collect();
            assert_eq!(marks, [2, 0, 1]);
            let kind = if codec == Codec::H264 { 5 } else { 19 };
            assert!(got.parts.iter().all(|part| part[lead] & 0x3F == kind));
            let joined: Vec<u8> = got.parts.iter().flat_map(|part| part[lead + 1..].to_vec()).collect();
            assert_eq!(joined, body);
        }
    }

    #[test]
    fn a_key_frame_without_parameter_sets_gets_those_of_the_stream() {
        let mut packer = packer();
        packer.pack(&frame(Codec::H264, &[&[0x67, 1], &[0x68, 2], &[0x65, 3]], true, true));
        let got = packer.pack(&frame(Codec::H264, &[&[0x65, 4]], true, false)).unwrap();
        let parts: Vec<&[u8]> = got.parts.iter().map(|part| &part[..]).collect();
        assert_eq!(parts, [&[0x67, 1][..], &[0x68, 2], &[0x65, 4]]);
    }

    #[test]
    fn pictures_since_the_last_key_frame_are_kept_within_the_bound() {
        let mut packer = Packer::new(&GopCache::new(0), 10);
        packer.pack(&frame(Codec::H264, &[&[0x41, 1]], false, false));
        assert_eq!(packer.recent().len(), 0);
        packer.pack(&frame(Codec::H264, &[&[0x65, 1]], true, false));
        packer.pack(&frame(Codec::H264, &[&[0x41, 1]], false, false));
        assert_eq!(packer.recent().len(), 2);
        packer.pack(&frame(Codec::H264, &[&[0x41, 1, 1, 1, 1, 1, 1, 1]], false, false));
        assert_eq!(packer.recent().len(), 0);
    }

    #[test]
    fn sound_goes_in_pieces_of_20_ms_and_other_codecs_not_at_all() {
        let sound = Frame { data: Bytes::from(vec![0xD5; 400]), ..frame(Codec::G711A, &[], false, false) };
        let sizes: Vec<usize> = packer().pack(&sound).unwrap().parts.iter().map(|part| part.len()).collect();
        assert_eq!(sizes, [160, 160, 80]);
        assert!(packer().pack(&frame(Codec::Aac, &[&[1]], false, false)).is_none());
        assert!(packer().pack(&frame(Codec::H264, &[], false, false)).is_none());
    }
}
