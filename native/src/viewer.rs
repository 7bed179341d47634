//! Viewers of a stream: shared tags, one bounded queue a viewer, and who is slow skips ahead.
//!
//! A frame is wrapped once a container ([`Track`]) and every viewer queues a reference to the same bytes. A viewer
//! whose queue is full gets no more until the next key frame, which then takes the place of what is still queued; the
//! tag that was sent in part is finished first, so that the bytes stay a valid file. Nobody waits for anybody: sockets do not block.

use crate::flv::FlvMuxer;
use crate::fmp4::Fmp4Muxer;
use crate::frame::Frame;
use crate::gop::{GopCache, FRAMES_MAX};
use crate::net;
use bytes::Bytes;
use socket2::Socket;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Tags given to one writev.
const VECTORS: usize = 64;

/// Unsent bytes the kernel keeps for one viewer; more would only be delay.
const KERNEL_QUEUE_BYTES: i32 = 1 << 20;

/// What the viewer's bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    Flv,
    Fmp4,
}

impl Container {
    pub const ALL: [Container; 2] = [Container::Flv, Container::Fmp4];

    pub fn name(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Fmp4 => "fmp4",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

enum Muxer {
    Flv(FlvMuxer),
    Fmp4(Fmp4Muxer),
}

/// One wrapped frame.
#[derive(Clone)]
struct Tag {
    bytes: Bytes,
    key: bool,
}

/// A stream in one container, with what a new viewer starts from. Lives while somebody watches.
pub struct Track {
    muxer: Muxer,
    /// The tags since the last key frame; bounded like the GOP cache beside it.
    recent: VecDeque<Tag>,
    recent_bytes: usize,
    cap_bytes: usize,
}

impl Track {
    /// Begin with the frames of the cache, so that the first viewer has a picture at once.
    pub fn new(container: Container, gop: &GopCache, cap_bytes: usize) -> Self {
        let muxer = match container {
            Container::Flv => Muxer::Flv(FlvMuxer::new()),
            Container::Fmp4 => Muxer::Fmp4(Fmp4Muxer::new()),
        };
        let mut track = Self { muxer, recent: VecDeque::new(), recent_bytes: 0, cap_bytes };
        for frame in gop.frames() {
            track.push(frame, &mut [], 0.0);
        }
        track
    }

    /// Wrap one frame and queue it for all viewers of this container.
    pub fn push(&mut self, frame: &Frame, viewers: &mut [Viewer], now_ms: f64) {
        let made = match &mut self.muxer {
            Muxer::Flv(muxer) => muxer.tag(frame),
            Muxer::Fmp4(muxer) => muxer.fragment(frame),
        };
        let Some(bytes) = made else { return };
        let tag = Tag { bytes, key: frame.key };
        if tag.key {
            self.recent.clear();
            self.recent_bytes = 0;
        }
        let is_start = tag.key && viewers.iter().any(|v| !v.has_header);
        let header = if is_start { self.header() } else { Bytes::new() };
        for viewer in viewers.iter_mut() {
            viewer.offer(&tag, &header, now_ms);
        }
        self.keep(tag);
    }

    fn keep(&mut self, tag: Tag) {
        if !tag.key && self.recent.is_empty() {
            return;
        }
        self.recent_bytes += tag.bytes.len();
        self.recent.push_back(tag);
        if self.recent_bytes > self.cap_bytes || self.recent.len() > FRAMES_MAX {
            self.recent.clear();
            self.recent_bytes = 0;
        }
    }

    /// What stands before the first frame. Made when it is needed, because it fixes the tracks of an fMP4.
    fn header(&mut self) -> Bytes {
        match &mut self.muxer {
            Muxer::Flv(muxer) => muxer.header(),
            Muxer::Fmp4(muxer) => muxer.init().unwrap_or_default(),
        }
    }

    /// Queue what a new viewer starts from.
    fn greet(&mut self, viewer: &mut Viewer, now_ms: f64) {
        if self.recent.is_empty() {
            return;
        }
        let header = self.header();
        viewer.burst_bytes = self.recent_bytes + header.len();
        for tag in &self.recent {
            viewer.offer(tag, &header, now_ms);
        }
    }
}

/// Why a viewer ended, for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Eof,
    Reset,
    Stalled,
    Detached,
    StreamClosed,
}

impl Ending {
    pub fn name(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Stalled => "stalled",
            Self::Detached => "detached",
            Self::StreamClosed => "stream closed",
        }
    }
}

/// Bytes that wait; only frames may be left out.
struct Queued {
    bytes: Bytes,
    is_frame: bool,
}

/// One connected socket that receives a stream.
pub struct Viewer {
    pub id: u64,
    pub token: u64,
    pub container: Container,
    socket: Socket,
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
    pub fn new(id: u64, container: Container, socket: Socket, head: Bytes, cap_bytes: usize) -> Self {
        let mut viewer = Self {
            id,
            token: 0,
            container,
            socket,
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
            viewer.queue(head, false);
        }
        viewer
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Start from what the track has.
    pub fn join(&mut self, track: &mut Track, now_ms: f64) {
        track.greet(self, now_ms);
    }

    fn queue(&mut self, bytes: Bytes, is_frame: bool) {
        self.queued_bytes += bytes.len();
        self.queue.push_back(Queued { bytes, is_frame });
    }

    /// Queue a frame, or leave it out while the viewer is behind.
    fn offer(&mut self, tag: &Tag, header: &Bytes, now_ms: f64) {
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
            if header.is_empty() {
                return;
            }
            self.has_header = true;
            self.queue(header.clone(), false);
        }
        self.awaits_key = false;
        self.frames += 1;
        self.queue(tag.bytes.clone(), true);
    }

    fn has_no_room(&self, tag: &Tag) -> bool {
        !self.queue.is_empty() && self.queued_bytes + tag.bytes.len() > self.cap_bytes + self.burst_bytes
    }

    /// Drop the frames that have not begun to be sent.
    fn skip_queued(&mut self) {
        let mut is_begun = self.front_sent > 0;
        let mut dropped = 0;
        self.queue.retain(|queued| {
            let keep = is_begun || !queued.is_frame;
            is_begun = false;
            dropped += u64::from(!keep);
            keep
        });
        self.skipped += dropped;
        self.frames -= dropped;
        self.queued_bytes = self.queue.iter().map(|q| q.bytes.len()).sum::<usize>() - self.front_sent;
        self.burst_bytes = 0;
    }

    /// The socket can take bytes again.
    pub fn unblock(&mut self) {
        self.is_blocked = false;
    }

    /// Has bytes and a socket that may take them.
    pub fn wants_flush(&self) -> bool {
        !self.is_blocked && !self.queue.is_empty()
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
        while self.wants_flush() {
            let mut slices = [IoSlice::new(&[]); VECTORS];
            let mut wanted = 0;
            let count = self.queue.len().min(VECTORS);
            for (i, (slice, queued)) in slices.iter_mut().zip(&self.queue).enumerate() {
                let part = if i == 0 { &queued.bytes[self.front_sent..] } else { &queued.bytes[..] };
                wanted += part.len();
                *slice = IoSlice::new(part);
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
        Ok(())
    }

    fn consume(&mut self, sent: usize) {
        self.sent_bytes += sent as u64;
        self.queued_bytes -= sent;
        let mut left = sent + self.front_sent;
        while let Some(front) = self.queue.front() {
            if left < front.bytes.len() {
                break;
            }
            left -= front.bytes.len();
            self.queue.pop_front();
        }
        self.front_sent = left;
        if self.queue.is_empty() {
            self.burst_bytes = 0;
            self.progress_ms = None;
        }
    }
}
