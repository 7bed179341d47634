//! A playing RTSP client's half of its connection: requests between interleaved packets, and what is answered.
//!
//! After: RFC 2326 10 (methods), 10.12 (interleaved data)
//!
//! Only what a client may say once it plays: it asks whether we live, tells what it received (not read), and leaves. At most
//! [`REQUEST_MAX`] bytes of a request are held; its body is passed over.

/// A request with its header fields.
pub const REQUEST_MAX: usize = 4096;
const BODY_MAX: usize = 4096;
const ANSWER_FIELD_MAX: usize = 128;

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    Answer(Vec<u8>),
    /// The last answer; then the connection ends.
    Leave(Vec<u8>),
}

/// The client does not speak RTSP, or without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Reads a playing client's side.
#[derive(Debug, Default)]
pub struct Reader {
    held: Vec<u8>,
    /// Bytes still to come of a packet or a body.
    skip: usize,
}

impl Reader {
    pub fn new() -> Self {
        Self::default()
    }

    /// What is held of an unfinished head.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Take what came, however it is cut.
    pub fn feed(&mut self, data: &[u8], take: &mut impl FnMut(Word)) -> Result<(), Broken> {
        for &byte in data {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.held.push(byte);
            if self.held[0] == b'$' {
                if let [_, _, high, low] = self.held[..] {
                    self.skip = usize::from(u16::from_be_bytes([high, low]));
                    self.held.clear();
                }
            } else if self.held == b"\r\n" {
                self.held.clear(); // between requests
            } else if self.held.ends_with(b"\r\n\r\n") {
                let head = std::mem::take(&mut self.held);
                take(self.request(&head)?);
            } else if self.held.len() >= REQUEST_MAX {
                return Err(Broken);
            }
        }
        Ok(())
    }

    fn request(&mut self, head: &[u8]) -> Result<Word, Broken> {
        let text = std::str::from_utf8(head).map_err(|_| Broken)?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap_or("").split(' ');
        let (method, version) = (words.next().unwrap_or(""), words.nth(1).unwrap_or(""));
        if !version.starts_with("RTSP/1.") {
            return Err(Broken);
        }
        let (mut sequence, mut session, mut length) = ("", "", 0);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "cseq" if may_be_answered(value) => sequence = value,
                "session" if may_be_answered(value) => session = value,
                "content-length" => length = value.parse().map_err(|_| Broken)?,
                _ => {}
            }
        }
        if length > BODY_MAX {
            return Err(Broken);
        }
        self.skip = length;
        let status = match method {
            "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER" | "TEARDOWN" => "200 OK",
            "PLAY" | "PAUSE" | "SETUP" | "DESCRIBE" => "455 Method Not Valid in This State",
            _ => "501 Not Implemented",
        };
        let mut answer = format!("RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n");
        if !session.is_empty() {
            answer += &format!("Session: {session}\r\n");
        }
        if method == "OPTIONS" {
            answer += "Public: OPTIONS, GET_PARAMETER, SET_PARAMETER, TEARDOWN\r\n";
        }
        let answer = (answer + "\r\n").into_bytes();
        Ok(if method == "TEARDOWN" { Word::Leave(answer) } else { Word::Answer(answer) })
    }
}

/// What comes back in an answer is short and printable, so that it adds no line of its own.
fn may_be_answered(value: &str) -> bool {
    value.len() <= ANSWER_FIELD_MAX && value.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]]) -> (Vec<Word>, Result<(), Broken>) {
        let (mut reader, mut words) = (Reader::new(), Vec::new());
        let ended = parts.iter().try_for_each(|part| reader.feed(part, &mut |word| words.push(word)));
        (words, ended)
    }

    #[test]
    fn requests_are_answered_between_packets_however_they_are_cut() {
        let said = [
            b"$\x01\x00\x04GET ".as_slice(),
            b"GET_PARAMETER rtsp://h/live/x RTSP/1.0\r\nCSeq: 7\r\nSession: s\r\nContent-Length: 3\r\n\r\nabc",
            b"$\x01\x00\x00PAUSE rtsp://h/live/x RTSP/1.0\r\nCSeq: 8\r\n\r\n",
            b"TEARDOWN rtsp://h/live/x RTSP/1.0\r\nCSeq: 9\r\n\r\n",
        ]
        .concat();
        let (words, ended) = read(&[&said]);
        assert_eq!(ended, Ok(()));
        let wanted = [
            Word::Answer(b"RTSP/1.0 200 OK\r\nCSeq: 7\r\nSession: s\r\n\r\n".to_vec()),
            Word::Answer(b"RTSP/1.0 455 Method Not Valid in This State\r\nCSeq: 8\r\n\r\n".to_vec()),
            Word::Leave(b"RTSP/1.0 200 OK\r\nCSeq: 9\r\n\r\n".to_vec()),
        ];
        assert_eq!(words, wanted);
        let one_by_one: Vec<&[u8]> = said.chunks(1).collect();
        assert_eq!(read(&one_by_one).0, words);
    }

    #[test]
    fn what_is_no_request_ends_it() {
        for said in [
            b"GET / HTTP/1.1\r\n\r\n".as_slice(),
            b"x\r\n\r\n",
            b"OPTIONS * RTSP/1.0\r\nContent-Length: x\r\n\r\n",
            b"OPTIONS * RTSP/1.0\r\nContent-Length: 99999\r\n\r\n",
            &[b'x'; REQUEST_MAX],
            b"OPTIONS * RTSP/1.0\r\nCSeq: \xFF\r\n\r\n",
        ] {
            assert_eq!(read(&[said]).1, Err(Broken));
        }
    }

    #[test]
    fn nothing_that_is_said_adds_a_line_to_its_answer() {
        let said = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\nPublic: X\r\nSession: a\rb\r\n\r\n";
        let wanted =
            b"RTSP/1.0 200 OK\r\nCSeq: \r\nPublic: OPTIONS, GET_PARAMETER, SET_PARAMETER, TEARDOWN\r\n\r\n";
        assert_eq!(read(&[said]).0, [Word::Answer(wanted.to_vec())]);
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut_and_held_within_bounds() {
        let pieces: [&[u8]; 8] = [
            b"$",
            b"\0",
            b"\r\n",
            b"\r\n\r\n",
            b"OPTIONS * RTSP/1.0",
            b"CSeq: 1",
            b"Content-Length: 5",
            b"\xFFx",
        ];
        let mut state = 9u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as usize
        };
        for _ in 0..3000 {
            let data: Vec<u8> = (0..next() % 24).flat_map(|_| pieces[next() % 8].to_vec()).collect();
            let size = next() % 9 + 1;
            let parts: Vec<&[u8]> = data.chunks(size).collect();
            assert_eq!(read(&parts), read(&[&data]));
            let mut reader = Reader::new();
            let _ = reader.feed(&data, &mut |_| {});
            assert!(reader.held.len() <= REQUEST_MAX);
        }
    }
}
