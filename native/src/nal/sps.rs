//! What sequence parameter sets say of the picture: size, profile, depth.
//!
//! Implements: GB/T 28181-2022 Annex F
//! After: ITU-T H.264 7.3.2.1, ITU-T H.265 7.3.2.2

/// As much of a parameter set as is ever read; scaling lists are the longest part before the size.
const READ_MAX: usize = 1024;
const SIDE_MAX: u32 = 16_384;

/// What MP4 and FLV, and the person in front of the picture, want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    pub width: u32,
    pub height: u32,
    /// H.264: profile_idc, constraint flags, level_idc. H.265: the 12 bytes of general_profile_tier_level.
    pub profile: Vec<u8>,
    pub chroma_format: u8,
    pub depth_luma: u8,
    pub depth_chroma: u8,
    /// H.265 only: temporal layers and whether they are nested.
    pub layers: u8,
    pub is_nested: bool,
}

/// Read an H.264 SPS (with its NAL header byte). `None` when it cannot be one.
pub fn parse_h264(nal: &[u8]) -> Option<Sps> {
    let rbsp = unescape(nal.get(1..)?);
    let mut bits = Bits::new(&rbsp);
    let profile = [bits.take(8)? as u8, bits.take(8)? as u8, bits.take(8)? as u8];
    bits.ue()?;
    let (mut chroma_format, mut depth_luma, mut depth_chroma) = (1, 8, 8);
    if matches!(profile[0], 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma_format = bits.ue_below(4)?;
        if chroma_format == 3 {
            bits.take(1)?;
        }
        depth_luma = 8 + bits.ue_below(7)?;
        depth_chroma = 8 + bits.ue_below(7)?;
        bits.take(1)?;
        if bits.flag()? {
            skip_scaling_lists(&mut bits, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    bits.ue_below(13)?; // log2_max_frame_num_minus4
    skip_picture_order(&mut bits)?;
    bits.ue_below(17)?; // max_num_ref_frames
    bits.take(1)?;
    let width = (bits.ue()?.checked_add(1)?).checked_mul(16)?;
    let map_units = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let is_frame_only = bits.flag()?;
    if !is_frame_only {
        bits.take(1)?;
    }
    let fields = if is_frame_only { 1 } else { 2 };
    let height = map_units.checked_mul(fields)?;
    bits.take(1)?;
    let crop = crop(&mut bits)?;
    let step_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let step_y = fields * if chroma_format == 1 { 2 } else { 1 };
    let (width, height) = cropped(width, height, crop, step_x, step_y)?;
    Some(Sps {
        width,
        height,
        profile: profile.to_vec(),
        chroma_format: chroma_format as u8,
        depth_luma: depth_luma as u8,
        depth_chroma: depth_chroma as u8,
        layers: 1,
        is_nested: false,
    })
}

/// Read an H.265 SPS (with its two NAL header bytes). `None` when it cannot be one.
pub fn parse_h265(nal: &[u8]) -> Option<Sps> {
    let rbsp = unescape(nal.get(2..)?);
    let mut bits = Bits::new(&rbsp);
    bits.take(4)?;
    let sub_layers = bits.take(3)?;
    let is_nested = bits.flag()?;
    let profile = rbsp.get(1..13)?.to_vec();
    bits.skip(96)?;
    skip_sub_layers(&mut bits, sub_layers)?;
    bits.ue_below(16)?;
    let chroma_format = bits.ue_below(4)?;
    if chroma_format == 3 {
        bits.take(1)?;
    }
    let (width, height) = (bits.ue()?, bits.ue()?);
    let crop = crop(&mut bits)?;
    let step_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let step_y = if chroma_format == 1 { 2 } else { 1 };
    let (width, height) = cropped(width, height, crop, step_x, step_y)?;
    Some(Sps {
        width,
        height,
        profile,
        chroma_format: chroma_format as u8,
        depth_luma: (8 + bits.ue_below(9)?) as u8,
        depth_chroma: (8 + bits.ue_below(9)?) as u8,
        layers: sub_layers as u8 + 1,
        is_nested,
    })
}

/// Whether an H.264 slice says that it is of intra type (2 or 7).
pub fn is_intra_slice(nal: &[u8]) -> bool {
    let head = unescape(&nal[1.min(nal.len())..nal.len().min(16)]);
    let mut bits = Bits::new(&head);
    let slice_type = bits.ue().and_then(|_| bits.ue());
    matches!(slice_type, Some(2 | 7))
}

fn skip_scaling_lists(bits: &mut Bits<'_>, count: usize) -> Option<()> {
    for list in 0..count {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8_i32, 8_i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.se()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue_below(3)? {
        0 => {
            bits.ue_below(13)?;
        }
        1 => {
            bits.take(1)?;
            bits.ue()?;
            bits.ue()?;
            for _ in 0..bits.ue_below(256)? {
                bits.ue()?;
            }
        }
        _ => {}
    }
    Some(())
}

fn skip_sub_layers(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    if sub_layers == 0 {
        return Some(());
    }
    let mut present = 0;
    for _ in 0..sub_layers {
        let (has_profile, has_level) = (bits.flag()?, bits.flag()?);
        present += usize::from(has_profile) * 88 + usize::from(has_level) * 8;
    }
    bits.skip(2 * (8 - sub_layers as usize) + present)
}

/// The four offsets of the cropping (conformance) window: left, right, top, bottom.
fn crop(bits: &mut Bits<'_>) -> Option<[u32; 4]> {
    if !bits.flag()? {
        return Some([0; 4]);
    }
    Some([bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?])
}

fn cropped(width: u32, height: u32, crop: [u32; 4], step_x: u32, step_y: u32) -> Option<(u32, u32)> {
    let [left, right, top, bottom] = crop;
    let width = width.checked_sub(left.checked_add(right)?.checked_mul(step_x)?)?;
    let height = height.checked_sub(top.checked_add(bottom)?.checked_mul(step_y)?)?;
    let is_sane = (16..=SIDE_MAX).contains(&width) && (16..=SIDE_MAX).contains(&height);
    is_sane.then_some((width, height))
}

/// Take the emulation prevention bytes (00 00 03) out.
fn unescape(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len().min(READ_MAX));
    let mut zeros = 0;
    for byte in data.iter().take(READ_MAX) {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

struct Bits<'a> {
    data: &'a [u8],
    place: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Bits<'a> {
        Bits { data, place: 0 }
    }

    fn flag(&mut self) -> Option<bool> {
        let byte = *self.data.get(self.place / 8)?;
        let bit = byte >> (7 - self.place % 8) & 1;
        self.place += 1;
        Some(bit == 1)
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.place += count;
        (self.place <= self.data.len() * 8).then_some(())
    }

    /// Exp-Golomb, unsigned.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some(((1_u64 << zeros) - 1) as u32 + self.take(zeros)?)
    }

    fn ue_below(&mut self, bound: u32) -> Option<u32> {
        self.ue().filter(|value| *value < bound)
    }

    /// Exp-Golomb, signed.
    fn se(&mut self) -> Option<i32> {
        let code = i64::from(self.ue()?);
        let value = (code + 1) / 2 * if code % 2 == 1 { 1 } else { -1 };
        i32::try_from(value).ok().filter(|value| value.abs() <= 1 << 16)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    // From x264 and x265 at 1920x1080; the second is field coded, all three are cropped from 1088 lines.
    const X264_BASELINE: &str = "6742c028da01e0089f961000000300100000030320f1832a";
    const X264_FIELDS: &str = "674d4028f403c0227ee1000003000100000300321f162ea0";
    pub const X265_1080P: &str =
        "420101016000000300900000030000030078a003c0801107cb96e92930b9a02000000300200000030321";

    pub fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_size_is_read_from_sets_of_real_encoders() {
        let baseline = parse_h264(&hex(X264_BASELINE)).unwrap();
        assert_eq!((baseline.width, baseline.height), (1920, 1080));
        assert_eq!(baseline.profile, [0x42, 0xC0, 0x28]);
        let fields = parse_h264(&hex(X264_FIELDS)).unwrap();
        assert_eq!((fields.width, fields.height), (1920, 1080));
        let h265 = parse_h265(&hex(X265_1080P)).unwrap();
        assert_eq!((h265.width, h265.height, h265.depth_luma), (1920, 1080, 8));
        assert_eq!(h265.profile, hex("016000000090000000000078"));
    }

    #[test]
    fn a_high_profile_set_with_scaling_lists_is_read() {
        // profile 100, chroma 4:2:0, 8 bit, matrix present with one list of equal values; then 320x240.
        let mut bits = String::from("1 010 1 1 0 1").replace(' ', "");
        bits += "1"; // list 0 is present: sixteen deltas of 0
        bits += &"1".repeat(16);
        bits += "0000000"; // lists 1 to 7 are not
        bits += "1 1 1 010 0 000010100 0001111 1 1 0".replace(' ', "").as_str();
        bits += "10000000";
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|bits| bits.iter().enumerate().map(|(at, bit)| (bit - b'0') << (7 - at)).sum())
            .collect();
        let sps = parse_h264(&[&[0x67, 100, 0, 30], &bytes[..]].concat()).unwrap();
        assert_eq!((sps.width, sps.height, sps.chroma_format), (320, 240, 1));
    }

    #[test]
    fn cut_and_impossible_sets_are_refused() {
        assert!(parse_h264(&[]).is_none());
        assert!(parse_h264(&[0x67, 0x42, 0xC0, 0x1E]).is_none());
        assert!(parse_h264(&[0x67; 40]).is_none());
        assert!(parse_h265(&[0x42, 1]).is_none());
        assert!(parse_h265(&[0; 64]).is_none());
        assert!(parse_h264(&[0; 4096]).is_none());
    }

    #[test]
    fn exp_golomb_reads_its_table() {
        let data = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut bits = Bits::new(&data);
        assert_eq!(
            [bits.ue(), bits.ue(), bits.ue(), bits.ue(), bits.ue()].map(Option::unwrap),
            [0, 1, 2, 3, 4]
        );
        let mut signed = Bits::new(&[0b0100_1100, 0b1000_0101, 0]);
        assert_eq!([signed.se(), signed.se(), signed.se(), signed.se()].map(Option::unwrap), [1, -1, 2, -2]);
    }
}
