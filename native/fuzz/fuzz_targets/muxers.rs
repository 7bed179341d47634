#![no_main]
//! What FLV and fMP4 promise whatever the frames hold: tags and boxes whose sizes fit, and video times that never go back.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tongshi_media::flv::FlvMuxer;
use tongshi_media::fmp4::Fmp4Muxer;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::nal;

/// Walk whole tags; the newest video time so far goes on.
fn check_tags(mut data: &[u8], newest_ms: &mut u32) {
    while !data.is_empty() {
        let size = usize::from(data[1]) << 16 | usize::from(data[2]) << 8 | usize::from(data[3]);
        let end = 11 + size;
        let told = u32::from_be_bytes([data[end], data[end + 1], data[end + 2], data[end + 3]]);
        assert_eq!(told as usize, end);
        assert!(matches!(data[0], 8 | 9));
        if data[0] == 9 {
            let time_ms = u32::from_be_bytes([data[7], data[4], data[5], data[6]]);
            assert!(time_ms >= *newest_ms);
            *newest_ms = time_ms;
        }
        data = &data[end + 4..];
    }
}

/// Walk whole boxes.
fn check_boxes(mut data: &[u8]) {
    while !data.is_empty() {
        let size = u32::from_be_bytes([data[0], data[1], data[2], data[3]]) as usize;
        assert!((8..=data.len()).contains(&size));
        data = &data[size..];
    }
}

fuzz_target!(|data: &[u8]| {
    let (mut flv, mut fmp4) = (FlvMuxer::new(), Fmp4Muxer::new());
    let (mut rest, mut pts, mut newest_ms) = (data, 90_000_u64, 0);
    while let [control, length, step, behind @ ..] = rest {
        let (unit, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        let codec = [Codec::H264, Codec::H265, Codec::Aac, Codec::G711A][usize::from(control & 3)];
        // Up to 127 x 40 ms ahead or back; well below the 49 days after which FLV times wrap.
        pts = pts.saturating_add_signed(i64::from(*step as i8) * 3600);
        let dts = pts.saturating_sub(u64::from(control >> 4) * 3600);
        let kind = nal::inspect(codec, unit, false);
        let data = Bytes::copy_from_slice(unit);
        let frame = Frame { codec, pts, dts, key: kind.key, config: kind.config, data };
        if let Some(tags) = flv.tag(&frame) {
            check_tags(&tags, &mut newest_ms);
        }
        if let Some(fragment) = fmp4.fragment(&frame) {
            check_boxes(&fragment);
        }
    }
    check_tags(&flv.header()[13..], &mut 0);
    if let Some(init) = fmp4.init() {
        check_boxes(&init);
    }
});
