//! NAL units in Annex B bytes: where they lie, what kind of frame they make, which codec they are.
//!
//! Implements: GB/T 28181-2022 Annex F
//! After: ITU-T H.264 Annex B

pub mod records;
pub mod sps;

use memchr::memmem;

use crate::frame::Codec;

/// How many NAL units are looked at to tell what a frame is; parameter sets and SEI stand before the first slice.
const LOOK_MAX: usize = 32;
/// So much of a unit tells what it is.
const HEAD: usize = 64;
/// Parameter sets that prove a codec are smaller than this; noise of packet size is not taken for one.
const SET_USUAL_MAX: usize = 512;

const START_CODE: [u8; 3] = [0, 0, 1];

pub mod h264 {
    pub const SLICE: u8 = 1;
    pub const IDR: u8 = 5;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const AUD: u8 = 9;

    pub fn kind(nal: &[u8]) -> u8 {
        nal.first().map_or(0, |byte| byte & 0x1F)
    }
}

pub mod h265 {
    pub const IRAP_FIRST: u8 = 16;
    pub const IRAP_LAST: u8 = 23;
    pub const VCL_LAST: u8 = 31;
    pub const VPS: u8 = 32;
    pub const SPS: u8 = 33;
    pub const PPS: u8 = 34;
    pub const AUD: u8 = 35;

    pub fn kind(nal: &[u8]) -> u8 {
        nal.first().map_or(0, |byte| byte >> 1 & 0x3F)
    }
}

/// The NAL units of Annex B data, without start codes and without the zeros behind them.
pub fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    heads(data, usize::MAX)
}

/// The same units, each cut to its first `most` bytes. Who stops at a slice has not searched it for its end.
pub fn heads(data: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    let start_code = memmem::Finder::new(&START_CODE);
    let mut rest = data;
    std::iter::from_fn(move || {
        let unit = &rest[start_code.find(rest)? + START_CODE.len()..];
        let near = &unit[..unit.len().min(most.saturating_add(START_CODE.len()))];
        let end = start_code.find(near);
        // Without an end in sight the next start code may begin in the last two bytes that were looked at.
        rest = &unit[end.unwrap_or(near.len().saturating_sub(START_CODE.len() - 1))..];
        Some(trim_zeros(&unit[..end.unwrap_or(near.len().min(most))]))
    })
    .filter(|nal| !nal.is_empty())
}

fn trim_zeros(nal: &[u8]) -> &[u8] {
    let zeros = nal.iter().rev().take_while(|byte| **byte == 0).count();
    &nal[..nal.len() - zeros]
}

/// Whether a decoder can start at the frame, and whether it carries parameter sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    pub key: bool,
    pub config: bool,
}

/// Look at a frame up to its first slice. For a codec we cannot read, `hint` (the container's word) stands.
pub fn inspect(codec: Codec, data: &[u8], hint: bool) -> Kind {
    match codec {
        Codec::H264 => inspect_h264(data),
        Codec::H265 => inspect_h265(data),
        Codec::Mpeg4 => inspect_mpeg4(data),
        _ => Kind { key: hint && codec.is_video(), config: false },
    }
}

pub fn is_key(codec: Codec, data: &[u8]) -> bool {
    inspect(codec, data, false).key
}

fn inspect_h264(data: &[u8]) -> Kind {
    let mut config = false;
    for nal in heads(data, HEAD).take(LOOK_MAX) {
        match h264::kind(nal) {
            h264::SPS => config = true,
            h264::IDR => return Kind { key: true, config },
            // An encoder that never sends IDR still lets us in where it repeats its SPS before an I slice.
            h264::SLICE => return Kind { key: config && sps::is_intra_slice(nal), config },
            2..=4 => break,
            _ => {}
        }
    }
    Kind { key: false, config }
}

fn inspect_h265(data: &[u8]) -> Kind {
    let mut config = false;
    for nal in heads(data, HEAD).take(LOOK_MAX) {
        match h265::kind(nal) {
            h265::SPS => config = true,
            h265::IRAP_FIRST..=h265::IRAP_LAST => return Kind { key: true, config },
            0..=h265::VCL_LAST => break,
            _ => {}
        }
    }
    Kind { key: false, config }
}

fn inspect_mpeg4(data: &[u8]) -> Kind {
    let mut config = false;
    for unit in heads(data, HEAD).take(LOOK_MAX) {
        match unit {
            [0xB0, ..] | [0x20..=0x2F, ..] => config = true,
            [0xB6, coding, ..] => return Kind { key: coding >> 6 == 0, config },
            _ => {}
        }
    }
    Kind { key: false, config }
}

/// Tell H.264 from H.265 by parameter sets that can be read; `None` when the data shows neither.
pub fn sniff(data: &[u8]) -> Option<Codec> {
    heads(data, SET_USUAL_MAX + 1).take(LOOK_MAX).find_map(sniff_nal)
}

/// The same for one NAL unit. A set of usual size with a picture size that makes sense is the proof; two bytes are not.
pub fn sniff_nal(nal: &[u8]) -> Option<Codec> {
    if nal.len() > SET_USUAL_MAX {
        return None;
    }
    let is_h264 = match nal {
        [first, 66 | 77 | 88 | 100 | 110 | 122 | 244 | 44 | 118 | 128, ..] => {
            first & 0x9F == h264::SPS && sps::parse_h264(nal).is_some()
        }
        _ => false,
    };
    let is_h265 = match nal {
        [0x42, 0x01, ..] => sps::parse_h265(nal).is_some(),
        // VPS: base layer flags set, and the reserved 16 bits all ones.
        [0x40, 0x01, first, _, 0xFF, 0xFF, ..] => first & 0x0C == 0x0C,
        _ => false,
    };
    match (is_h264, is_h265) {
        (true, _) => Some(Codec::H264),
        (_, true) => Some(Codec::H265),
        _ => None,
    }
}

/// Whether the first slice of the frame is the first of its picture; false when there is none.
pub fn has_first_slice(codec: Codec, data: &[u8]) -> bool {
    let first = heads(data, HEAD).take(LOOK_MAX).find(|nal| match codec {
        Codec::H264 => matches!(h264::kind(nal), 1..=h264::IDR),
        _ => h265::kind(nal) <= h265::VCL_LAST,
    });
    // H.264: first_mb_in_slice is 0, which Exp-Golomb writes as a single 1. H.265: the flag of that name.
    let header = if codec == Codec::H264 { 1 } else { 2 };
    first.and_then(|nal| nal.get(header)).is_some_and(|byte| byte & 0x80 != 0)
}

/// Append the frame as MP4 and FLV hold it: NAL units behind lengths of four bytes. Parameter sets and delimiters are left
/// out, since they travel in the configuration record.
pub fn write_sample(codec: Codec, data: &[u8], out: &mut Vec<u8>) {
    for nal in nals(data).filter(|nal| is_in_sample(codec, nal)) {
        out.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        out.extend_from_slice(nal);
    }
}

fn is_in_sample(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::H264 => !matches!(h264::kind(nal), h264::SPS | h264::PPS | h264::AUD),
        _ => !matches!(h265::kind(nal), h265::VPS | h265::SPS | h265::PPS | h265::AUD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS_H264: &[u8] = &[
        0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47, 0xFE, 0xC8, 0x00, 0x00, 0x03, 0x00, 0x08, 0x00, 0x00,
        0x03, 0x01, 0x90, 0x78, 0xB1, 0x64, 0x90,
    ];

    fn annexb(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
    }

    #[test]
    fn units_are_found_behind_short_and_long_start_codes() {
        let data = [0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 2, 0, 0, 0, 0, 1, 0x65, 0, 0, 0, 1];
        let got: Vec<_> = nals(&data).collect();
        assert_eq!(got, [&[0x67, 1][..], &[0x68, 2, 2], &[0x65]]);
        assert_eq!(nals(&[0x67, 0, 0]).count(), 0);
        assert_eq!(nals(&[0, 0, 1]).count(), 0);
    }

    #[test]
    fn heads_are_the_units_cut_short_wherever_the_next_start_code_lies() {
        for length in 1..40 {
            let (unit, next) = ([vec![0x41], vec![7; length - 1]].concat(), vec![0x42; 9]);
            for zeros in [2, 3] {
                let data = [&vec![0; zeros], &[1][..], &unit, &vec![0; zeros], &[1], &next].concat();
                for most in 1..50 {
                    let got: Vec<_> = heads(&data, most).collect();
                    assert_eq!(got, [&unit[..length.min(most)], &next[..most.min(9)]], "{length} {most}");
                }
                assert_eq!(nals(&data).collect::<Vec<_>>(), [&unit[..], &next[..]]);
            }
        }
    }

    #[test]
    fn a_frame_is_key_by_its_first_slice() {
        let pps: &[u8] = &[0x68, 0xCE, 1];
        let key = annexb(&[&[9, 0x10], SPS_H264, pps, &[6, 1, 1, 0x80], &[0x65, 0x88, 1]]);
        assert_eq!(inspect(Codec::H264, &key, false), Kind { key: true, config: true });
        let intra_without_idr = annexb(&[SPS_H264, pps, &[0x41, 0x88, 1]]);
        assert!(is_key(Codec::H264, &intra_without_idr));
        let predicted = annexb(&[&[9, 0x30], &[0x41, 0x9A, 1]]);
        assert_eq!(inspect(Codec::H264, &predicted, true), Kind::default());
        let key265 = annexb(&[&[0x40, 1, 1], &[0x42, 1, 1], &[0x44, 1, 1], &[0x26, 1, 0xAF]]);
        assert_eq!(inspect(Codec::H265, &key265, false), Kind { key: true, config: true });
        assert!(!is_key(Codec::H265, &annexb(&[&[2, 1, 0xD0]])));
        assert!(is_key(Codec::Mpeg4, &[0, 0, 1, 0xB6, 0x10]));
        assert!(!is_key(Codec::Mpeg4, &[0, 0, 1, 0xB6, 0x50]));
        assert!(inspect(Codec::Svac, &key, true).key);
    }

    #[test]
    fn a_codec_is_recognised_by_parameter_sets_that_make_sense() {
        assert_eq!(sniff(&annexb(&[&[9, 0x10], SPS_H264])), Some(Codec::H264));
        assert_eq!(sniff(&annexb(&[&[0x40, 1, 0x0C, 1, 0xFF, 0xFF, 1]])), Some(Codec::H265));
        assert_eq!(sniff(&annexb(&[&[0x67, 0x42], &[0x40, 1, 0, 0, 0, 0]])), None);
        assert_eq!(sniff(b"no start code at all"), None);
    }

    #[test]
    fn a_sample_has_lengths_for_start_codes_and_no_parameter_sets() {
        let mut out = Vec::new();
        write_sample(Codec::H264, &annexb(&[&[9, 1], &[0x68, 1], &[0x65, 7, 7]]), &mut out);
        assert_eq!(out, [0, 0, 0, 3, 0x65, 7, 7]);
    }
}
