//! AAC in ADTS frames: the header read, written, and turned into the configuration that FLV and MP4 want.
//!
//! Implements: GB/T 28181-2022 Annex F
//! After: ISO/IEC 14496-3 1.A.2.2, 1.6.2.1

const RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];

/// Samples in one AAC frame.
pub const SAMPLES: u32 = 1024;
pub const HEADER_SIZE: usize = 7;

/// What a decoder must be told about an AAC stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AacConfig {
    /// 2 is AAC-LC.
    pub object_type: u8,
    pub rate_index: u8,
    /// 1 to 7; 7 means eight speakers.
    pub channels: u8,
}

impl AacConfig {
    pub fn rate_hz(&self) -> u32 {
        RATES_HZ[usize::from(self.rate_index).min(RATES_HZ.len() - 1)]
    }

    /// The two bytes of AudioSpecificConfig.
    pub fn audio_specific_config(&self) -> [u8; 2] {
        let bits = u16::from(self.object_type) << 11
            | u16::from(self.rate_index) << 7
            | u16::from(self.channels) << 3;
        bits.to_be_bytes()
    }

    pub fn from_audio_specific_config(config: u16) -> Option<AacConfig> {
        let [object_type, rate_index, channels] =
            [config >> 11, config >> 7 & 0x0F, config >> 3 & 0x0F].map(|field| field as u8);
        let is_known = (1..=4).contains(&object_type) && usize::from(rate_index) < RATES_HZ.len();
        (is_known && (1..=7).contains(&channels)).then_some(AacConfig { object_type, rate_index, channels })
    }

    /// AAC-LC in one channel at a sampling rate; None for a rate that AAC has not.
    pub fn of_rate(rate_hz: u32) -> Option<AacConfig> {
        let rate_index = RATES_HZ.iter().position(|known| *known == rate_hz)? as u8;
        Some(AacConfig { object_type: 2, rate_index, channels: 1 })
    }

    /// The ADTS header of a frame with `payload` bytes, without checksum. Payloads over 8184 bytes are not AAC.
    pub fn header(&self, payload: usize) -> [u8; HEADER_SIZE] {
        let length = (payload + HEADER_SIZE) & 0x1FFF;
        [
            0xFF,
            0xF1,
            (self.object_type - 1) << 6 | self.rate_index << 2 | self.channels >> 2,
            self.channels << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1F,
            0xFC,
        ]
    }
}

/// Whether the bytes begin like an ADTS frame.
pub fn is_adts(data: &[u8]) -> bool {
    split_first(data).is_some()
}

/// The ADTS frames in `data`: configuration and raw AAC of each. Ends at the first byte that is not one.
pub fn frames(data: &[u8]) -> impl Iterator<Item = (AacConfig, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (config, payload, behind) = split_first(rest)?;
        rest = behind;
        Some((config, payload))
    })
}

fn split_first(data: &[u8]) -> Option<(AacConfig, &[u8], &[u8])> {
    let header = data.first_chunk::<HEADER_SIZE>()?;
    if header[0] != 0xFF || header[1] & 0xF6 != 0xF0 {
        return None;
    }
    let config = AacConfig {
        object_type: (header[2] >> 6) + 1,
        rate_index: header[2] >> 2 & 0x0F,
        channels: (header[2] & 1) << 2 | header[3] >> 6,
    };
    let length = usize::from(header[3] & 3) << 11 | usize::from(header[4]) << 3 | usize::from(header[5]) >> 5;
    let head = if header[1] & 1 == 1 { HEADER_SIZE } else { HEADER_SIZE + 2 };
    if usize::from(config.rate_index) >= RATES_HZ.len() || config.channels == 0 {
        return None;
    }
    Some((config, data.get(head..length)?, &data[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: AacConfig = AacConfig { object_type: 2, rate_index: 11, channels: 1 };

    #[test]
    fn the_configuration_of_the_standards_example_is_read_and_written() {
        assert_eq!(AacConfig::from_audio_specific_config(0x1588), Some(CONFIG));
        assert_eq!(CONFIG.audio_specific_config(), [0x15, 0x88]);
        assert_eq!(CONFIG.rate_hz(), 8000);
    }

    #[test]
    fn frames_behind_each_other_are_told_apart() {
        let mut data = Vec::new();
        for size in [1, 300, 8000] {
            data.extend(CONFIG.header(size));
            data.resize(data.len() + size, 5);
        }
        let got: Vec<_> = frames(&data).map(|(config, raw)| (config, raw.len())).collect();
        assert_eq!(got, [(CONFIG, 1), (CONFIG, 300), (CONFIG, 8000)]);
    }

    #[test]
    fn a_frame_that_is_cut_or_reserved_is_none() {
        let mut data = CONFIG.header(10).to_vec();
        data.extend([1; 9]);
        assert!(!is_adts(&data));
        data.push(1);
        assert!(is_adts(&data));
        data[2] |= 0x3C; // rate index 15
        assert!(!is_adts(&data));
        let mut short = CONFIG.header(0);
        short[4] = 0; // a length below its own header
        short[5] = 0x1F;
        assert!(!is_adts(&short));
    }
}
