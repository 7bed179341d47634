//! Decoder configuration records: the parameter sets of a stream in the form FLV and MP4 carry them.
//!
//! Implements: GB/T 28181-2022 Annex F
//! After: ISO/IEC 14496-15 5.3.3.1 (avcC), 8.3.3.1 (hvcC)

use std::fmt::Write;

use super::{h264, h265, heads, sps};
use crate::frame::Codec;

/// Parameter sets of one kind that are kept; a real encoder has one or two.
const SETS_MAX: usize = 8;
const SET_BYTES_MAX: usize = 4096;

/// The parameter sets in force, newest of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterSets {
    vps: Vec<Vec<u8>>,
    sps: Vec<Vec<u8>>,
    pps: Vec<Vec<u8>>,
}

impl ParameterSets {
    /// Take over the sets a frame carries; true when that changed something.
    pub fn update(&mut self, codec: Codec, data: &[u8]) -> bool {
        let mut new = ParameterSets::default();
        for nal in heads(data, SET_BYTES_MAX + 1).take(64) {
            let kept = match (codec, h264::kind(nal), h265::kind(nal)) {
                (Codec::H264, h264::SPS, _) | (Codec::H265, _, h265::SPS) => &mut new.sps,
                (Codec::H264, h264::PPS, _) | (Codec::H265, _, h265::PPS) => &mut new.pps,
                (Codec::H265, _, h265::VPS) => &mut new.vps,
                (Codec::H264, 1..=5, _) | (Codec::H265, _, 0..=h265::VCL_LAST) => break,
                _ => continue,
            };
            if kept.len() < SETS_MAX && nal.len() <= SET_BYTES_MAX && !kept.iter().any(|set| set == nal) {
                kept.push(nal.to_vec());
            }
        }
        let mut is_changed = false;
        if codec == Codec::H264 {
            self.vps.clear(); // of an H.265 that the stream was before
        }
        for (kept, new) in [(&mut self.vps, new.vps), (&mut self.sps, new.sps), (&mut self.pps, new.pps)] {
            if !new.is_empty() && *kept != new {
                *kept = new;
                is_changed = true;
            }
        }
        is_changed
    }

    /// All of them, VPS first.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.vps.iter().chain(&self.sps).chain(&self.pps).map(Vec::as_slice)
    }

    /// What the first SPS says, if there is one that can be read.
    pub fn sps(&self, codec: Codec) -> Option<sps::Sps> {
        let nal = self.sps.first()?;
        match codec {
            Codec::H264 => sps::parse_h264(nal),
            Codec::H265 => sps::parse_h265(nal),
            _ => None,
        }
    }

    /// avcC or hvcC; `None` while a set is missing or cannot be read.
    pub fn record(&self, codec: Codec) -> Option<Vec<u8>> {
        let sps = self.sps(codec)?;
        if self.pps.is_empty() {
            return None;
        }
        match codec {
            Codec::H264 => Some(self.avcc(&sps)),
            _ => Some(self.hvcc(&sps)),
        }
    }

    fn avcc(&self, sps: &sps::Sps) -> Vec<u8> {
        let mut record = vec![1, sps.profile[0], sps.profile[1], sps.profile[2], 0xFF];
        record.push(0xE0 | self.sps.len() as u8);
        write_sets(&self.sps, &mut record);
        record.push(self.pps.len() as u8);
        write_sets(&self.pps, &mut record);
        if !matches!(sps.profile[0], 66 | 77 | 88) {
            let depths = [sps.depth_luma, sps.depth_chroma].map(|depth| 0xF8 | (depth - 8));
            record.extend([0xFC | sps.chroma_format, depths[0], depths[1], 0]);
        }
        record
    }

    fn hvcc(&self, sps: &sps::Sps) -> Vec<u8> {
        let mut record = vec![1];
        record.extend_from_slice(&sps.profile);
        // No spatial segmentation, parallelism unknown, no frame rate; lengths of four bytes.
        record.extend([0xF0, 0, 0xFC, 0xFC | sps.chroma_format]);
        record.extend([0xF8 | (sps.depth_luma - 8), 0xF8 | (sps.depth_chroma - 8), 0, 0]);
        record.push(sps.layers << 3 | u8::from(sps.is_nested) << 2 | 3);
        let kinds = [(h265::VPS, &self.vps), (h265::SPS, &self.sps), (h265::PPS, &self.pps)];
        record.push(kinds.iter().filter(|(_, sets)| !sets.is_empty()).count() as u8);
        for (kind, sets) in kinds.into_iter().filter(|(_, sets)| !sets.is_empty()) {
            record.push(0x80 | kind);
            record.extend_from_slice(&(sets.len() as u16).to_be_bytes());
            write_sets(sets, &mut record);
        }
        record
    }

    /// The name a browser asks for (RFC 6381): `avc1.42C01E`, `hvc1.1.6.L93.B0`.
    pub fn codec_string(&self, codec: Codec) -> Option<String> {
        let profile = self.sps(codec)?.profile;
        if codec == Codec::H264 {
            return Some(format!("avc1.{:02X}{:02X}{:02X}", profile[0], profile[1], profile[2]));
        }
        let space = ["", "A", "B", "C"][usize::from(profile[0] >> 6)];
        let compatibility = u32::from_be_bytes([profile[1], profile[2], profile[3], profile[4]]);
        let tier = if profile[0] & 0x20 == 0 { 'L' } else { 'H' };
        let mut name = format!("hvc1.{space}{}.{:X}", profile[0] & 0x1F, compatibility.reverse_bits());
        let _ = write!(name, ".{tier}{}", profile[11]);
        let used = profile[5..11].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for byte in &profile[5..5 + used] {
            let _ = write!(name, ".{byte:X}");
        }
        Some(name)
    }
}

fn write_sets(sets: &[Vec<u8>], out: &mut Vec<u8>) {
    for set in sets {
        out.extend_from_slice(&(set.len() as u16).to_be_bytes());
        out.extend_from_slice(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x47, 0xFE, 0xC8];
    const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];

    fn annexb(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 1], *nal].concat()).collect()
    }

    #[test]
    fn an_h264_record_holds_profile_and_sets() {
        let mut sets = ParameterSets::default();
        assert_eq!(sets.record(Codec::H264), None);
        assert!(sets.update(Codec::H264, &annexb(&[SPS, PPS, &[0x65, 1]])));
        assert!(!sets.update(Codec::H264, &annexb(&[SPS, PPS])));
        let want = [&[1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0, 10], SPS, &[1, 0, 4], PPS].concat();
        assert_eq!(sets.record(Codec::H264), Some(want));
        assert_eq!(sets.codec_string(Codec::H264).unwrap(), "avc1.42C01E");
    }

    #[test]
    fn an_h265_record_holds_tier_level_and_the_three_kinds_of_sets() {
        let sps = sps::tests::hex(sps::tests::X265_1080P);
        let vps = sps::tests::hex("40010c01ffff016000000300900000030000030078ba0240");
        let pps = sps::tests::hex("4401c073c189");
        let mut sets = ParameterSets::default();
        assert!(sets.update(Codec::H265, &annexb(&[&vps, &sps, &pps])));
        let record = sets.record(Codec::H265).unwrap();
        assert_eq!(record[..13], sps::tests::hex("01016000000090000000000078")[..]);
        assert_eq!(record[13..23], [0xF0, 0, 0xFC, 0xFD, 0xF8, 0xF8, 0, 0, 0x0F, 3]);
        assert_eq!(record[23..28], [0x80 | 32, 0, 1, 0, 24]);
        assert_eq!(record.len(), 23 + 3 * 5 + vps.len() + sps.len() + pps.len());
        assert_eq!(sets.codec_string(Codec::H265).unwrap(), "hvc1.1.6.L120.90");
    }

    #[test]
    fn sets_in_a_frame_of_their_own_change_only_their_kind() {
        let mut sets = ParameterSets::default();
        sets.update(Codec::H264, &annexb(&[SPS]));
        assert_eq!(sets.record(Codec::H264), None);
        assert!(sets.update(Codec::H264, &annexb(&[PPS])));
        assert!(sets.record(Codec::H264).is_some());
    }

    #[test]
    fn a_flood_of_different_sets_is_bounded() {
        let mut sets = ParameterSets::default();
        let flood: Vec<Vec<u8>> = (1..60).map(|n| vec![0x68, n, n]).collect();
        let refs: Vec<&[u8]> = flood.iter().map(Vec::as_slice).collect();
        sets.update(Codec::H264, &annexb(&refs));
        assert_eq!(sets.pps.len(), SETS_MAX);
    }
}
