#![no_main]
//! A playing RTSP client's half of its connection, however it is cut: the first byte says the size of the pieces.
//! And what it reports, when that comes by UDP.

use libfuzzer_sys::fuzz_target;
use tongshi_media::viewer::datagrams::read_report;
use tongshi_media::viewer::rtsp::{Reader, Word, REQUEST_MAX};

/// What is said at once and then piece by piece must be understood alike.
fn read<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Word>, bool) {
    let (mut reader, mut words) = (Reader::new(), Vec::new());
    for part in parts {
        if reader.feed(part, &mut |word| words.push(word)).is_err() {
            return (words, false);
        }
        assert!(reader.held_bytes() <= REQUEST_MAX);
    }
    (words, true)
}

fuzz_target!(|data: &[u8]| {
    let Some((piece, stream)) = data.split_first() else { return };
    let _ = read_report(stream);
    let whole = read(std::iter::once(stream));
    for word in &whole.0 {
        let (Word::Answer(answer) | Word::Leave(answer)) = word;
        let text = std::str::from_utf8(answer).expect("an answer is text");
        // Nothing that a client says may add a line of its own to what it is answered.
        assert!(text.starts_with("RTSP/1.0 ") && text.ends_with("\r\n\r\n"));
        assert!(text.matches("\r\n").count() <= 5 && !text.replace("\r\n", "").contains(['\r', '\n']));
    }
    assert_eq!(read(stream.chunks(usize::from(*piece) + 1)), whole);
});
