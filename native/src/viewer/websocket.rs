//! A viewer's half of a WebSocket, as far as somebody who only watches needs it; and the heads of our own frames.
//!
//! After: RFC 6455 5.2 (framing), 5.5 (control frames), 7.4.1 (close codes)
//!
//! A viewer closes and pings; small messages are read and mean nothing. Whatever it sends, at most one frame of
//! [`PAYLOAD_MAX`] bytes is held. Our own messages are not masked and not cut: each tag is one.

/// What a control frame may carry; a message of a viewer may not be longer either.
pub const PAYLOAD_MAX: usize = 125;

const HEAD_MAX: usize = 2 + 4;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a connection ends, in the close frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    Protocol = 1002,
    Policy = 1008,
    TooBig = 1009,
}

/// The bytes before a message of ours: two, four or ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    bytes: [u8; 10],
    length: u8,
}

impl Prefix {
    /// The head of a binary message of `length` bytes.
    pub fn of_message(length: usize) -> Self {
        let mut bytes = [0; 10];
        bytes[0] = FIN | BINARY;
        let used = if length <= PAYLOAD_MAX {
            bytes[1] = length as u8;
            2
        } else if let Ok(length) = u16::try_from(length) {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&length.to_be_bytes());
            4
        } else {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(length as u64).to_be_bytes());
            10
        };
        Self { bytes, length: used }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The frame that ends a connection.
pub fn close_frame(code: CloseCode) -> [u8; 4] {
    let [high, low] = (code as u16).to_be_bytes();
    [FIN | CLOSE, 2, high, low]
}

/// What a viewer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// The answer that a ping asks for, ready to be sent.
    Pong(Vec<u8>),
    Close,
}

/// Reads a viewer's frames.
#[derive(Debug)]
pub struct Reader {
    buffer: [u8; HEAD_MAX + PAYLOAD_MAX],
    filled: usize,
}

impl Reader {
    pub fn new() -> Self {
        Self { buffer: [0; HEAD_MAX + PAYLOAD_MAX], filled: 0 }
    }

    /// Take what came, however it is cut; after an error the connection must end with its code.
    pub fn feed(&mut self, mut data: &[u8], take: &mut impl FnMut(Word)) -> Result<(), CloseCode> {
        while !data.is_empty() {
            let wanted = self.wanted()?;
            let step = data.len().min(wanted - self.filled);
            self.buffer[self.filled..self.filled + step].copy_from_slice(&data[..step]);
            self.filled += step;
            data = &data[step..];
            if self.filled >= HEAD_MAX && self.filled == self.wanted()? {
                if let Some(word) = self.word() {
                    take(word);
                }
                self.filled = 0;
            }
        }
        Ok(())
    }

    /// How long the frame is as far as is known: head first, then all of it.
    fn wanted(&self) -> Result<usize, CloseCode> {
        let [first, second, ..] = self.buffer;
        if self.filled < 2 {
            return Ok(2);
        }
        let (opcode, length) = (first & 0x0F, usize::from(second & !MASKED));
        let is_known = matches!(opcode, 0..=BINARY | CLOSE..=PONG);
        let is_cut_control = opcode >= CLOSE && first & FIN == 0;
        if first & 0x70 != 0 || !is_known || is_cut_control || second & MASKED == 0 {
            return Err(CloseCode::Protocol);
        }
        if length > PAYLOAD_MAX {
            return Err(if opcode >= CLOSE { CloseCode::Protocol } else { CloseCode::TooBig });
        }
        Ok(HEAD_MAX + length)
    }

    fn word(&self) -> Option<Word> {
        match self.buffer[0] & 0x0F {
            CLOSE => Some(Word::Close),
            PING => {
                let (mask, payload) = (&self.buffer[2..HEAD_MAX], &self.buffer[HEAD_MAX..self.filled]);
                let mut pong = vec![FIN | PONG, payload.len() as u8];
                pong.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
                Some(Word::Pong(pong))
            }
            _ => None,
        }
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let body = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [first, MASKED | payload.len() as u8].into_iter().chain(MASK).chain(body).collect()
    }

    fn read(parts: &[&[u8]]) -> (Vec<Word>, Result<(), CloseCode>) {
        let (mut reader, mut words) = (Reader::new(), Vec::new());
        let ended = parts.iter().try_for_each(|part| reader.feed(part, &mut |word| words.push(word)));
        (words, ended)
    }

    #[test]
    fn a_message_has_the_shortest_head_that_holds_its_length() {
        assert_eq!(Prefix::of_message(125).as_bytes(), [0x82, 125]);
        assert_eq!(Prefix::of_message(126).as_bytes(), [0x82, 126, 0, 126]);
        assert_eq!(Prefix::of_message(65_535).as_bytes(), [0x82, 126, 0xFF, 0xFF]);
        assert_eq!(Prefix::of_message(65_536).as_bytes(), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert!(Prefix::default().as_bytes().is_empty());
    }

    #[test]
    fn a_ping_is_answered_with_what_it_brought_and_a_close_is_seen() {
        let all = [masked(0x89, b"hello"), masked(0x81, b"text"), masked(0x88, &[3, 232])].concat();
        let (words, ended) = read(&[&all]);
        assert_eq!(words, [Word::Pong(b"\x8A\x05hello".to_vec()), Word::Close]);
        assert_eq!(ended, Ok(()));
        let one_by_one: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(read(&one_by_one).0, words);
    }

    #[test]
    fn a_viewer_that_breaks_the_rules_is_told_which() {
        assert_eq!(read(&[&[0x82, 0x05]]).1, Ok(()));
        assert_eq!(read(&[&[0x82, 0x05, 0]]).1, Err(CloseCode::Protocol)); // not masked
        assert_eq!(read(&[&[0x82, 0xFE, 0]]).1, Err(CloseCode::TooBig));
        assert_eq!(read(&[&[0x89, 0xFE, 0]]).1, Err(CloseCode::Protocol)); // a long ping
        assert_eq!(read(&[&[0x09, 0x80, 0]]).1, Err(CloseCode::Protocol)); // a ping in parts
        assert_eq!(read(&[&[0xC2, 0x80, 0]]).1, Err(CloseCode::Protocol)); // an extension
        assert_eq!(read(&[&[0x83, 0x80, 0]]).1, Err(CloseCode::Protocol)); // no such opcode
        assert_eq!(close_frame(CloseCode::TooBig), [0x88, 2, 3, 0xF1]);
    }

    #[test]
    fn any_bytes_are_read_alike_however_they_are_cut() {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for _ in 0..3000 {
            let mut data = Vec::new();
            for _ in 0..next() % 4 {
                let payload: Vec<u8> = (0..next() % 126).map(|_| next()).collect();
                data.extend(masked(0x80 | [0, 1, 2, 8, 9, 10][usize::from(next() % 6)], &payload));
            }
            data.extend((0..next() % 32).map(|_| next()));
            let size = usize::from(next() % 40) + 1;
            let parts: Vec<&[u8]> = data.chunks(size).collect();
            assert_eq!(read(&parts), read(&[&data]));
        }
    }
}
