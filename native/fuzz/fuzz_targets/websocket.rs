#![no_main]
//! A viewer's half of a WebSocket, however it is cut: the first byte says the size of the pieces.

use libfuzzer_sys::fuzz_target;
use tongshi_media::viewer::websocket::{CloseCode, Prefix, Reader, Word, PAYLOAD_MAX};

fn read<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Word>, Option<CloseCode>) {
    let (mut reader, mut words) = (Reader::new(), Vec::new());
    for part in parts {
        if let Err(code) = reader.feed(part, &mut |word| words.push(word)) {
            return (words, Some(code));
        }
    }
    (words, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let whole = read(std::iter::once(stream));
    for word in &whole.0 {
        if let Word::Pong(frame) = word {
            // Not masked, not cut, as long as it says.
            assert!(frame.len() <= 2 + PAYLOAD_MAX && frame[0] == 0x8A);
            assert_eq!(usize::from(frame[1]), frame.len() - 2);
        }
    }
    assert_eq!(read(stream.chunks(usize::from(*piece) + 1)), whole);
    assert!(matches!(Prefix::of_message(data.len()).as_bytes().len(), 2 | 4 | 10));
});
