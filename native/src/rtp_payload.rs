//! A picture as RTP payloads: its NAL units as they are, and those that are too large in fragments.
//!
//! After: RFC 6184 5.6, 5.8 (H.264: single units and FU-A), RFC 7798 4.4.1, 4.4.3 (H.265: single units and FU),
//! RFC 3551 4.5.14 (the clock of G.711)
//!
//! Both ways to a viewer who takes RTP go through here: RTSP (`rtp_tracks`) and WebRTC (`webrtc/payload`). Access unit
//! delimiters stay behind, since RTP marks the last packet of a picture itself.

use crate::frame::Codec;
use crate::nal::{self, h264, h265};

/// Units of one picture that are sent. A key frame of 4 MiB in slices of one packet each has fewer; who makes a picture
/// of start codes alone would have us make a packet of 60 bytes from each 4 of his.
pub const UNITS_MAX: usize = 4096;

/// Samples of G.711 in a second.
pub const SOUND_HZ: u32 = 8_000;

const FU_A: u8 = 28;
const FU_H265: u8 = 49;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The units of a picture that are sent, in order.
pub fn units(codec: Codec, data: &[u8]) -> impl Iterator<Item = &[u8]> {
    nal::nals(data).filter(move |unit| !is_left_out(codec, unit)).take(UNITS_MAX)
}

/// Delimiters, and what is shorter than its own header.
fn is_left_out(codec: Codec, unit: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::kind(unit) == h264::AUD,
        _ => h265::kind(unit) == h265::AUD || unit.len() < 2,
    }
}

/// The payloads of one unit, each of at most `most` bytes, in order.
///
/// `take` is given what goes before, a part of the unit, and whether that ends it.
pub fn cut<'a>(codec: Codec, unit: &'a [u8], most: usize, take: &mut impl FnMut(&[u8], &'a [u8], bool)) {
    match (codec, unit) {
        _ if unit.len() <= most => take(&[], unit, true),
        (Codec::H264, [head, body @ ..]) => {
            fragments([head & 0xE0 | FU_A, head & 0x1F], body, most, take);
        }
        (_, [first, second, body @ ..]) => {
            fragments([first & 0x81 | FU_H265 << 1, *second, first >> 1 & 0x3F], body, most, take);
        }
        _ => {}
    }
}

/// The last byte of `head` is the FU header, whose first bits tell begin and end.
fn fragments<'a, const N: usize>(
    mut head: [u8; N],
    body: &'a [u8],
    most: usize,
    take: &mut impl FnMut(&[u8], &'a [u8], bool),
) {
    let kind = head[N - 1];
    let mut parts = body.chunks(most - N).peekable();
    let mut mark = FU_START;
    while let Some(part) = parts.next() {
        let is_end = parts.peek().is_none();
        head[N - 1] = kind | mark | if is_end { FU_END } else { 0 };
        take(&head, part, is_end);
        mark = 0;
    }
}

/// A time of the stream (90 kHz) in samples of G.711.
pub fn sound_ticks(pts: u64) -> u32 {
    (pts * 4 / 45) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_unit_is_cut_and_comes_together_again() {
        let body: Vec<u8> = (0..3000u32).map(|n| (n % 251 + 1) as u8).collect();
        for (codec, head, lead, kind) in
            [(Codec::H264, vec![0x65], 1, 5), (Codec::H265, vec![0x26, 1], 2, 19)]
        {
            let unit = [&head[..], &body].concat();
            let (mut joined, mut marks, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            cut(codec, &unit, 1150, &mut |before, part, is_end| {
                assert!(before.len() + part.len() <= 1150 && before.len() == lead + 1);
                assert_eq!(before[lead] & 0x3F, kind);
                marks.push(before[lead] >> 6);
                ends.push(is_end);
                joined.extend_from_slice(part);
            });
            assert_eq!((marks, ends, joined), (vec![2, 0, 1], vec![false, false, true], body.clone()));
        }
    }

    #[test]
    fn a_unit_that_fits_goes_as_it_is() {
        let mut got = Vec::new();
        cut(Codec::H264, &[0x65; 10], 10, &mut |before, part, is_end| {
            got.push((before.to_vec(), part.to_vec(), is_end));
        });
        assert_eq!(got, [(vec![], vec![0x65; 10], true)]);
    }

    #[test]
    fn delimiters_stay_behind_and_a_picture_of_start_codes_alone_has_an_end() {
        let data = [0, 0, 1, 9, 0xF0, 0, 0, 1, 0x65, 1];
        assert_eq!(units(Codec::H264, &data).collect::<Vec<_>>(), [&[0x65, 1]]);
        assert_eq!(units(Codec::H265, &[0, 0, 1, 0x46, 1, 0, 0, 1, 0x26]).count(), 0);
        let many = [0, 0, 1, 0x65].repeat(100_000);
        assert_eq!(units(Codec::H264, &many).count(), UNITS_MAX);
    }

    #[test]
    fn sound_is_counted_in_samples() {
        assert_eq!([0, 90_000, 90_001].map(sound_ticks), [0, SOUND_HZ, SOUND_HZ]);
    }
}
