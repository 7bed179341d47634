//! A frame as RTP payloads, made once and shared by every peer of the stream.
//!
//! After: RFC 3551 4.5.14 (G.711); `rtp_payload` cuts the pictures
//!
//! A key frame without its parameter sets gets those of the stream before it, since a browser wants them in each.

use crate::frame::{Codec, Frame};
use crate::gop::{GopCache, FRAMES_MAX};
use crate::nal::records::ParameterSets;
use crate::rtp_payload;
use std::collections::VecDeque;
use std::sync::Arc;

/// Largest payload: with RTP, SRTP, UDP and IPv6 around it the packet stays below 1280 bytes, which every path carries.
pub const PAYLOAD_MAX: usize = 1150;

/// Sound of one packet, 20 ms as every receiver expects.
const SOUND_BYTES: usize = 160;

/// What a packet costs beside its payload: the heads of RTP and UDP on its way, and its place in memory.
const PACKET_BYTES: usize = 48;

/// One frame in packets.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    pub codec: Codec,
    pub key: bool,
    /// 90 kHz ticks.
    pub pts: u64,
    pub parts: Vec<Arc<[u8]>>,
    /// Of the payloads, with [`PACKET_BYTES`] for each: many small ones are no small frame.
    pub bytes: usize,
}

/// Packs the frames of one stream and keeps the pictures since the last key frame.
#[derive(Debug)]
pub struct Packer {
    sets: ParameterSets,
    /// The stream's parameter sets, cut once for all key frames.
    set_parts: Vec<Arc<[u8]>>,
    recent: VecDeque<Arc<Packed>>,
    recent_bytes: usize,
    cap_bytes: usize,
}

impl Packer {
    /// Begin with the frames of the cache.
    pub fn new(gop: &GopCache, cap_bytes: usize) -> Self {
        let mut packer = Self {
            sets: ParameterSets::default(),
            set_parts: Vec::new(),
            recent: VecDeque::new(),
            recent_bytes: 0,
            cap_bytes,
        };
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
        let bytes = parts.iter().map(|part| part.len() + PACKET_BYTES).sum();
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
            parts.extend_from_slice(&self.set_parts);
        }
        for unit in rtp_payload::units(frame.codec, &frame.data) {
            cut(frame.codec, unit, parts);
        }
    }

    fn learn(&mut self, frame: &Frame) {
        if self.sets.update(frame.codec, &frame.data) {
            self.set_parts.clear();
            for set in self.sets.all() {
                cut(frame.codec, set, &mut self.set_parts);
            }
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

fn cut(codec: Codec, unit: &[u8], parts: &mut Vec<Arc<[u8]>>) {
    rtp_payload::cut(codec, unit, PAYLOAD_MAX, &mut |head, part, _| parts.push([head, part].concat().into()));
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
    fn a_key_frame_without_parameter_sets_gets_those_of_the_stream() {
        let mut packer = packer();
        packer.pack(&frame(Codec::H264, &[&[0x67, 1], &[0x68, 2], &[0x65, 3]], true, true));
        let got = packer.pack(&frame(Codec::H264, &[&[0x65, 4]], true, false)).unwrap();
        let parts: Vec<&[u8]> = got.parts.iter().map(|part| &part[..]).collect();
        assert_eq!(parts, [&[0x67, 1][..], &[0x68, 2], &[0x65, 4]]);
    }

    #[test]
    fn pictures_since_the_last_key_frame_are_kept_within_the_bound() {
        let mut packer = Packer::new(&GopCache::new(0), 10 + 3 * PACKET_BYTES);
        packer.pack(&frame(Codec::H264, &[&[0x41, 1]], false, false));
        assert_eq!(packer.recent().len(), 0);
        packer.pack(&frame(Codec::H264, &[&[0x65, 1]], true, false));
        packer.pack(&frame(Codec::H264, &[&[0x41, 1]], false, false));
        assert_eq!(packer.recent().len(), 2);
        packer.pack(&frame(Codec::H264, &[&[0x41, 1, 1, 1, 1, 1, 1, 1]], false, false));
        assert_eq!(packer.recent().len(), 0);
    }

    #[test]
    fn what_a_key_frame_is_given_is_bounded_and_fits_into_packets() {
        let mut packer = packer();
        let large: Vec<u8> = [0x67].into_iter().chain([1; 3000]).collect();
        packer.pack(&frame(Codec::H264, &[&large, &[0x68, 2], &[0x65, 3]], true, true));
        let got = packer.pack(&frame(Codec::H264, &[&[0x65, 4]], true, false)).unwrap();
        assert_eq!(got.parts.len(), 3 + 1 + 1);
        assert!(got.parts.iter().all(|part| part.len() <= PAYLOAD_MAX));
        // A set of a megabyte is none, and is not repeated with each picture.
        let huge: Vec<u8> = [0x67].into_iter().chain(vec![1; 1 << 20]).collect();
        packer.pack(&frame(Codec::H264, &[&huge, &[0x65, 3]], true, true));
        assert_eq!(packer.pack(&frame(Codec::H264, &[&[0x65, 4]], true, false)).unwrap().parts, got.parts);
    }

    #[test]
    fn a_picture_of_start_codes_alone_is_bounded_and_counts_for_what_it_costs() {
        let many: Vec<&[u8]> = vec![&[0x65]; 100_000];
        let got = packer().pack(&frame(Codec::H264, &many, true, false)).unwrap();
        assert_eq!(got.parts.len(), rtp_payload::UNITS_MAX);
        assert_eq!(got.bytes, rtp_payload::UNITS_MAX * (1 + PACKET_BYTES));
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
