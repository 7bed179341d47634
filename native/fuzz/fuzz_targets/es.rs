#![no_main]
//! Elementary streams and their recognition; each payload is preceded by its length, type and marker.

use libfuzzer_sys::fuzz_target;
use tongshi_media::demux::{Demuxer, PayloadType};
use tongshi_media::frame::Codec;
use tongshi_media::rtp::RtpPacket;

fuzz_target!(|data: &[u8]| {
    let Some((declared, data)) = data.split_first() else { return };
    let mut demuxer = Demuxer::new();
    // What a session description may say, right or wrong.
    let codec = Codec::from_stream_type(*declared);
    demuxer.set_payload_types(vec![PayloadType { number: declared & 0x7F, codec, clock_hz: 8000 }]);
    let mut rest = data;
    let mut sequence = 0_u16;
    while let [length, control, behind @ ..] = rest {
        let (payload, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        sequence = sequence.wrapping_add(1);
        let packet = RtpPacket {
            marker: control & 0x80 != 0,
            payload_type: control & 0x7F,
            sequence,
            timestamp: u32::from(sequence / 3) * 3600,
            ssrc: 1,
            payload,
        };
        demuxer.push(&packet, &mut |frame| assert!(!frame.data.is_empty()));
    }
    demuxer.flush(&mut |_| {});
});
