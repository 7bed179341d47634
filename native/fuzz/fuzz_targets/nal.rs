#![no_main]
//! Parameter sets, configuration records, and the muxers that use them.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tongshi_media::flv::FlvMuxer;
use tongshi_media::fmp4::Fmp4Muxer;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::nal;

fuzz_target!(|data: &[u8]| {
    let _ = nal::sniff(data);
    let (mut flv, mut fmp4) = (FlvMuxer::new(), Fmp4Muxer::new());
    for codec in [Codec::H264, Codec::H265, Codec::Mpeg4, Codec::Aac] {
        let kind = nal::inspect(codec, data, false);
        let data = Bytes::copy_from_slice(data);
        let frame = Frame { codec, pts: 3600, dts: 0, key: kind.key, config: kind.config, data };
        let _ = (flv.tag(&frame), fmp4.fragment(&frame));
    }
    let _ = (flv.header(), fmp4.init(), fmp4.mime());
});
