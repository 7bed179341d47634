#![no_main]
//! RFC 4571 framing, however it is cut: the first byte says the size of the pieces.

use libfuzzer_sys::fuzz_target;
use tongshi_media::tcp_framing::Deframer;

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let mut deframer = Deframer::new();
    for part in stream.chunks(usize::from(*piece) + 1) {
        if deframer.push(part, &mut |packet| assert!(packet.len() <= 65_535)).is_err() {
            return;
        }
    }
});
