//! Viewers of a stream: shared tags, one bounded queue a viewer, and who is slow skips ahead.
//!
//! A frame is wrapped once a container ([`Track`]) and every viewer queues a reference to the same bytes. A viewer
//! whose queue is full gets no more until the next key frame, which then takes the place of what is still queued; the
//! tag that was sent in part is finished first, so that the bytes stay a valid file. Nobody waits for anybody: sockets do not block.
//!
//! An RTSP client may have its packets by UDP ([`datagrams`]): its connection then carries words alone.
//!
//! Over a WebSocket each tag is one message: its head is kept beside the shared bytes and never copied into them.

pub mod datagrams;
pub mod rtsp;
mod track;
pub mod websocket;

pub use track::{Container, Track};

use crate::net;
use bytes::Bytes;
use datagrams::{Datagrams, Reported};
use socket2::Socket;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::os::fd::RawFd;
use track::Tag;
use websocket::{CloseCode, Prefix};

/// Pieces given to one writev.
const VECTORS: usize = 64;

/// What a viewer may say in one turn; who says more than this much at once is no viewer.
const LISTEN_READS: usize = 16;
const LISTEN_BYTES: usize = 2048;

/// Answers that may wait for a viewer who asks and does not read.
const WORDS_WAITING: usize = 16;

/// Unsent bytes the kernel keeps for one viewer; more would only be delay.
const KERNEL_QUEUE_BYTES: i32 = 1 << 20;

/// Why a viewer ended, for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Eof,
    Reset,
    Stalled,
    /// It gave no sign of life for longer than it was told.
    Silent,
    Detached,
    StreamClosed,
    /// It broke the rules of its dialogue.
    Protocol,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Stalled => "stalled",
            Self::Silent => "silent",
            Self::Detached => "detached",
            Self::StreamClosed => "stream closed",
            Self::Protocol => "protocol",
        }
    }
}

/// How a viewer's bytes are framed, and what it may say.
#[derive(Debug)]
pub enum Dialogue {
    /// The bytes as they are; what it says is not read.
    Silent,
    WebSocket(websocket::Reader),
    /// The bytes as they are, which are interleaved already; a playing client's requests are answered between them.
    Rtsp(rtsp::Reader),
    /// The same requests, while the packets go to the client's own ports.
    RtspOverUdp(rtsp::Reader, Datagrams),
}

impl Dialogue {
    fn prefix(&self, length: usize) -> Prefix {
        match self {
            Self::Silent | Self::Rtsp(_) | Self::RtspOverUdp(..) => Prefix::default(),
            Self::WebSocket(_) => Prefix::of_message(length),
        }
    }

    fn datagrams(&self) -> Option<&Datagrams> {
        if let Self::RtspOverUdp(_, datagrams) = self {
            Some(datagrams)
        } else {
            None
        }
    }

    fn datagrams_mut(&mut self) -> Option<&mut Datagrams> {
        if let Self::RtspOverUdp(_, datagrams) = self {
            Some(datagrams)
        } else {
            None
        }
    }
}

/// What waits; only frames may be left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// The answer's head, or the container's.
    Head,
    Frame,
    /// A word of the dialogue.
    Word,
}

struct Queued {
    prefix: Prefix,
    bytes: Bytes,
    piece: Piece,
}

impl Queued {
    fn len(&self) -> usize {
        self.prefix.as_bytes().len() + self.bytes.len()
    }
}

/// One connected socket that receives a stream.
pub struct Viewer {
    pub id: u64,
    pub token: u64,
    /// What else of it is watched.
    pub report_tokens: Vec<(RawFd, u64)>,
    pub container: Container,
    socket: Socket,
    dialogue: Dialogue,
    /// The number that a close frame gives as the reason, when it is not that of the ending.
    close_code: Option<CloseCode>,
    queue: VecDeque<Queued>,
    /// Bytes of the front that were sent already.
    front_sent: usize,
    pub queued_bytes: usize,
    cap_bytes: usize,
    /// What the cached group puts into the queue at the start; it may exceed the cap until it has been sent.
    burst_bytes: usize,
    has_header: bool,
    awaits_key: bool,
    is_blocked: bool,
    /// When bytes last went out, or began to wait.
    progress_ms: Option<f64>,
    pub sent_bytes: u64,
    pub frames: u64,
    pub skipped: u64,
}

impl Viewer {
    pub fn new(
        id: u64,
        container: Container,
        socket: Socket,
        head: Bytes,
        dialogue: Dialogue,
        cap_bytes: usize,
    ) -> Self {
        let mut viewer = Self {
            id,
            token: 0,
            report_tokens: Vec::new(),
            container,
            socket,
            dialogue,
            close_code: None,
            queue: VecDeque::new(),
            front_sent: 0,
            queued_bytes: 0,
            cap_bytes,
            burst_bytes: 0,
            has_header: false,
            awaits_key: true,
            is_blocked: false,
            progress_ms: None,
            sent_bytes: 0,
            frames: 0,
            skipped: 0,
        };
        net::limit_unsent(net::fd(&viewer.socket), KERNEL_QUEUE_BYTES);
        if !head.is_empty() {
            viewer.queue(Prefix::default(), head, Piece::Head);
        }
        viewer
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Start from what the track has.
    pub fn join(&mut self, track: &mut Track, now_ms: f64) {
        if let Some(datagrams) = self.dialogue.datagrams_mut() {
            datagrams.heard(now_ms);
        }
        track.greet(self, now_ms);
    }

    fn queue(&mut self, prefix: Prefix, bytes: Bytes, piece: Piece) {
        let queued = Queued { prefix, bytes, piece };
        self.queued_bytes += queued.len();
        self.queue.push_back(queued);
    }

    /// Queue a piece of the container.
    fn queue_media(&mut self, bytes: Bytes, piece: Piece) {
        if let Some(datagrams) = self.dialogue.datagrams_mut() {
            self.queued_bytes += bytes.len();
            datagrams.push(bytes);
        } else if !bytes.is_empty() {
            self.queue(self.dialogue.prefix(bytes.len()), bytes, piece);
        }
    }

    /// Queue a frame, or leave it out while the viewer is behind.
    fn offer(&mut self, tag: &Tag, header: Option<&Bytes>, now_ms: f64) {
        if self.awaits_key && !tag.key {
            self.skipped += u64::from(self.has_header);
            return;
        }
        if self.has_no_room(tag) {
            // A burst may fill the queue within one tick; the socket may take it all the same. Its errors come
            // again with the flush at the tick's end.
            let _ = self.flush(now_ms);
        }
        if tag.key && (self.awaits_key || self.has_no_room(tag)) {
            // What is still queued is older than this picture.
            self.skip_queued();
        } else if self.has_no_room(tag) {
            self.awaits_key = true;
            self.skipped += 1;
            return;
        }
        if !self.has_header {
            let Some(header) = header else { return };
            self.has_header = true;
            self.queue_media(header.clone(), Piece::Head);
        }
        self.awaits_key = false;
        self.frames += 1;
        self.queue_media(tag.bytes.clone(), Piece::Frame);
    }

    fn has_no_room(&self, tag: &Tag) -> bool {
        !self.is_empty() && self.queued_bytes + tag.bytes.len() > self.cap_bytes + self.burst_bytes
    }

    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.dialogue.datagrams().is_none_or(Datagrams::is_empty)
    }

    /// Drop the frames that have not begun to be sent.
    fn skip_queued(&mut self) {
        let mut is_begun = self.front_sent > 0;
        let mut dropped = 0;
        self.queue.retain(|queued| {
            let keep = is_begun || queued.piece != Piece::Frame;
            is_begun = false;
            dropped += u64::from(!keep);
            keep
        });
        self.queued_bytes = self.queue.iter().map(Queued::len).sum::<usize>() - self.front_sent;
        if let Some(datagrams) = self.dialogue.datagrams_mut() {
            dropped += datagrams.skip();
            self.queued_bytes += datagrams.queued_bytes();
        }
        self.skipped += dropped;
        self.frames -= dropped;
        self.burst_bytes = 0;
    }

    /// Whether what the viewer says is read.
    pub fn listens(&self) -> bool {
        !matches!(self.dialogue, Dialogue::Silent)
    }

    /// Read what it said, and queue what that asks for. An error ends it.
    pub fn listen(&mut self) -> Result<(), Ending> {
        let mut heard = [0; LISTEN_BYTES];
        for _ in 0..LISTEN_READS {
            match (&self.socket).read(&mut heard) {
                Ok(0) => return Err(Ending::Eof),
                Ok(count) => self.hear(&heard[..count])?,
                Err(e) if net::is_blocked(&e) => return Ok(()),
                Err(_) => return Err(Ending::Reset),
            }
        }
        self.close_code = Some(CloseCode::Policy);
        Err(Ending::Protocol)
    }

    fn hear(&mut self, heard: &[u8]) -> Result<(), Ending> {
        let (mut said, mut has_left) = (Vec::new(), false);
        let read = match &mut self.dialogue {
            Dialogue::Silent => Ok(()),
            Dialogue::WebSocket(reader) => reader
                .feed(heard, &mut |word| match word {
                    websocket::Word::Pong(frame) => said = vec![frame], // the last is answered (RFC 6455 5.5.3)
                    websocket::Word::Close => has_left = true,
                })
                .map_err(|code| self.close_code = Some(code)),
            Dialogue::Rtsp(reader) | Dialogue::RtspOverUdp(reader, _) => reader
                .feed(heard, &mut |word| {
                    has_left |= matches!(word, rtsp::Word::Leave(_));
                    let (rtsp::Word::Answer(answer) | rtsp::Word::Leave(answer)) = word;
                    said.push(answer);
                })
                .map_err(|rtsp::Broken| ()),
        };
        for word in said {
            self.say(Bytes::from(word))?;
        }
        if read.is_err() {
            return Err(Ending::Protocol);
        }
        if has_left {
            self.close_code = Some(CloseCode::Normal);
            return Err(Ending::Eof);
        }
        Ok(())
    }

    /// Read the reports that came to its other ports.
    pub fn listen_to_reports(&mut self, now_ms: f64) {
        if let Some(datagrams) = self.dialogue.datagrams_mut() {
            datagrams.hear(now_ms);
        }
    }

    /// It said something by its connection.
    pub fn heard(&mut self, now_ms: f64) {
        if let Some(datagrams) = self.dialogue.datagrams_mut() {
            datagrams.heard(now_ms);
        }
    }

    /// When it is given up unless it is heard before; None when its connection tells.
    pub fn silent_at_ms(&self) -> Option<f64> {
        self.dialogue.datagrams().map(Datagrams::silent_at_ms)
    }

    pub fn report_fds(&self) -> Vec<RawFd> {
        self.dialogue.datagrams().map_or_else(Vec::new, Datagrams::report_fds)
    }

    /// What it told of its reception last.
    pub fn reported(&self) -> Option<Reported> {
        self.dialogue.datagrams().and_then(|datagrams| datagrams.reported)
    }

    /// Put a word in front of what waits, behind what was begun and behind other words.
    fn say(&mut self, bytes: Bytes) -> Result<(), Ending> {
        let begun = usize::from(self.front_sent > 0);
        let heads = self.queue.iter().take_while(|q| q.piece == Piece::Head).count().max(begun);
        let words = self.queue.iter().skip(heads).take_while(|q| q.piece == Piece::Word).count();
        if words >= WORDS_WAITING {
            return Err(Ending::Protocol);
        }
        let word = Queued { prefix: Prefix::default(), bytes, piece: Piece::Word };
        self.queued_bytes += word.len();
        self.queue.insert(heads + words, word);
        Ok(())
    }

    /// Say why it ends, to who understands it; what the socket does not take at once is left.
    pub fn take_leave(&mut self, ending: Ending, now_ms: f64) {
        if !self.listens() || ending == Ending::Reset {
            return;
        }
        let code = self.close_code.unwrap_or(match ending {
            Ending::Stalled | Ending::Silent => CloseCode::Policy,
            Ending::Protocol => CloseCode::Protocol,
            Ending::Eof | Ending::Reset | Ending::Detached | Ending::StreamClosed => CloseCode::GoingAway,
        });
        if matches!(self.dialogue, Dialogue::WebSocket(_)) {
            let frame = Bytes::copy_from_slice(&websocket::close_frame(code));
            self.queue(Prefix::default(), frame, Piece::Word);
        }
        let _ = self.flush(now_ms);
        if let (Some(datagrams), true) = (self.dialogue.datagrams(), ending != Ending::Eof) {
            datagrams.bye();
        }
    }

    /// The socket can take bytes again.
    pub fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Has bytes and a socket that may take them.
    pub fn wants_flush(&self) -> bool {
        self.may_write() || self.is_paced()
    }

    fn may_write(&self) -> bool {
        !self.is_blocked && !self.queue.is_empty()
    }

    /// Datagrams wait for their turn.
    pub fn is_paced(&self) -> bool {
        self.dialogue.datagrams().is_some_and(|datagrams| !datagrams.is_empty())
    }

    /// Bytes wait for a socket that takes none.
    pub fn is_waiting(&self) -> bool {
        self.is_blocked && !self.queue.is_empty()
    }

    pub fn has_stalled(&self, now_ms: f64, stall_ms: f64) -> bool {
        self.is_waiting() && self.progress_ms.is_some_and(|since| now_ms - since >= stall_ms)
    }

    /// Write until the queue is empty or the socket full.
    pub fn flush(&mut self, now_ms: f64) -> Result<(), Ending> {
        // The clock of a stall starts with the first bytes that wait, and again with each that go out.
        self.progress_ms.get_or_insert(now_ms);
        while self.may_write() {
            let mut slices = [IoSlice::new(&[]); VECTORS];
            let (mut wanted, mut count, mut skip) = (0, 0, self.front_sent);
            for part in self.queue.iter().flat_map(|queued| [queued.prefix.as_bytes(), &queued.bytes[..]]) {
                if skip >= part.len() {
                    skip -= part.len();
                    continue;
                }
                if count == VECTORS {
                    break;
                }
                slices[count] = IoSlice::new(&part[skip..]);
                wanted += part.len() - skip;
                (skip, count) = (0, count + 1);
            }
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            match self.socket.send_vectored_with_flags(&slices[..count], flags) {
                Ok(sent) => {
                    self.is_blocked = sent < wanted;
                    self.progress_ms = Some(now_ms);
                    self.consume(sent);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if net::is_blocked(&e) => self.is_blocked = true,
                Err(_) => return Err(Ending::Reset),
            }
        }
        if let Some(datagrams) = self.dialogue.datagrams_mut() {
            let flushed = datagrams.flush(now_ms);
            self.queued_bytes -= flushed.taken;
            self.sent_bytes += flushed.sent as u64;
            if datagrams.is_empty() {
                self.burst_bytes = 0;
            }
        }
        Ok(())
    }

    fn consume(&mut self, sent: usize) {
        self.sent_bytes += sent as u64;
        self.queued_bytes -= sent;
        let mut left = sent + self.front_sent;
        while let Some(front) = self.queue.front() {
            if left < front.len() {
                break;
            }
            left -= front.len();
            self.queue.pop_front();
        }
        self.front_sent = left;
        if self.queue.is_empty() {
            self.burst_bytes = if self.is_paced() { self.burst_bytes } else { 0 };
            self.progress_ms = None;
        }
    }
}
