#![no_main]
//! RTP headers, and their rewriting in place.

use libfuzzer_sys::fuzz_target;
use tongshi_media::packetizer::Rewriter;
use tongshi_media::rtp;

fuzz_target!(|data: &[u8]| {
    if let Ok(packet) = rtp::parse(data) {
        assert!(packet.payload.len() <= data.len() - rtp::HEADER_SIZE);
    }
    Rewriter::new(1, 96, 1).rewrite(&mut data.to_vec());
});
