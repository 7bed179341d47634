#![no_main]
//! Program stream, however it is cut: the first byte says the size of the pieces and where markers and losses are.

use libfuzzer_sys::fuzz_target;
use tongshi_media::ps_demux::{PsDemuxer, FRAME_MAX};

fuzz_target!(|data: &[u8]| {
    let Some((control, stream)) = data.split_first() else { return };
    let mut demuxer = PsDemuxer::new();
    let mut check = |frame: tongshi_media::frame::Frame| {
        assert!(!frame.data.is_empty() && frame.data.len() <= FRAME_MAX);
    };
    for (index, payload) in stream.chunks(usize::from(*control) + 1).enumerate() {
        let rtp_ts = (index as u32 / (1 + u32::from(control & 7))) * 3600;
        demuxer.push(payload, rtp_ts, index % 5 == usize::from(control & 3), &mut check);
        if index % 64 == 63 {
            demuxer.loss();
        }
    }
    demuxer.flush(&mut check);
});
