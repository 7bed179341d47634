//! What a packet thread lends to its streams: readiness, time, buffers, events.

use super::peers::RtcPort;
use super::Options;
use crate::events::{Event, EventRing, Kind};
use crate::net::{Poll, Ready, RecvBatch};
use crate::relay::Sending;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One read of a TCP socket.
const TCP_READ_BYTES: usize = 256 << 10;

/// The token of the thread's own mailbox.
pub const MAILBOX_TOKEN: u64 = 0;

/// The token of the thread's WebRTC port.
pub const RTC_TOKEN: u64 = 1;

/// Who has a stream opened wants to see it: as if somebody watched, until the first picture must have come.
const OPENING_MS: f64 = 2000.0;

/// Which part of which stream or shared port a descriptor belongs to.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Source,
    /// The listener of a TCP passive ingest.
    Listener,
    /// Of a port that several streams share, which then is the owner.
    Port(PortPart),
    Viewer(u64),
    Relay(u64),
}

/// Which part of a shared port a descriptor is.
#[derive(Clone, Copy, Debug)]
pub enum PortPart {
    Socket,
    Listener,
    /// A connection that has not shown whose it is.
    Arrived,
}

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Input,
    Output,
    Both,
}

/// A map by our own running numbers, which nobody outside chooses.
pub type Keyed<T> = HashMap<u64, T, BuildHasherDefault<KeyHasher>>;

/// One multiplication (Fibonacci hashing): a number is looked up three times for each socket that is ready.
#[derive(Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

pub struct Context {
    pub options: Options,
    /// Taken while it is read from, so that the reader may use the rest of the context.
    pub recv: Option<Box<RecvBatch>>,
    /// The same for shared ports, which must know where packets come from; made when there is one.
    pub recv_sources: Option<Box<RecvBatch>>,
    pub sending: Sending,
    pub rtc: Option<Box<RtcPort>>,
    pub tcp_buffer: Vec<u8>,
    /// Milliseconds since the engine started, taken once a wake-up.
    pub now_ms: f64,
    /// Descriptors with more input than one turn may take; they come again without a new edge.
    pub unfinished: Vec<Ready>,
    /// A socket got a smaller receive buffer than it needs while work is gathered for long.
    pub is_short_of_room: bool,
    /// The end of the time in which a stream that was opened must have shown its first picture.
    opening_until_ms: f64,
    poll: Poll,
    events: Arc<EventRing>,
    epoch: Instant,
    parts: Keyed<(u64, Part)>,
    next_token: u64,
    care_at_ms: Option<f64>,
    /// The stream of each viewer, browser and relay, by its id.
    outlets: Keyed<u64>,
    /// Viewers of the whole engine.
    viewers: Arc<AtomicUsize>,
}

impl Context {
    pub fn new(
        options: Options,
        epoch: Instant,
        events: Arc<EventRing>,
        viewers: Arc<AtomicUsize>,
    ) -> io::Result<Self> {
        Ok(Self {
            options,
            recv: Some(Box::default()),
            recv_sources: None,
            sending: Sending::default(),
            rtc: None,
            tcp_buffer: vec![0; TCP_READ_BYTES],
            now_ms: 0.0,
            unfinished: Vec::new(),
            is_short_of_room: false,
            opening_until_ms: 0.0,
            poll: Poll::new()?,
            events,
            epoch,
            parts: Keyed::default(),
            next_token: RTC_TOKEN + 1,
            care_at_ms: None,
            outlets: Keyed::default(),
            viewers,
        })
    }

    pub fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    pub fn update_clock(&mut self) {
        self.now_ms = self.epoch.elapsed().as_secs_f64() * 1000.0;
    }

    /// A number that is never given again, so that a late readiness cannot meet a wrong owner.
    pub fn new_token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }

    /// Watch a descriptor of a stream; returns its token.
    pub fn watch(&mut self, fd: RawFd, interest: Interest, stream: u64, part: Part) -> io::Result<u64> {
        let token = self.new_token();
        match interest {
            Interest::Input => self.poll.watch_input(fd, token)?,
            Interest::Output => self.poll.watch_output(fd, token)?,
            Interest::Both => self.poll.watch_both(fd, token)?,
        }
        self.parts.insert(token, (stream, part));
        Ok(token)
    }

    /// Stop watching, before the descriptor is closed: another process may hold a copy of it.
    pub fn forget(&mut self, fd: RawFd, token: u64) {
        self.poll.forget(fd);
        self.parts.remove(&token);
    }

    /// A descriptor that is watched already belongs to another owner from now on.
    pub fn hand_over(&mut self, token: u64, stream: u64, part: Part) {
        self.parts.insert(token, (stream, part));
    }

    pub fn owner(&self, token: u64) -> Option<(u64, Part)> {
        self.parts.get(&token).copied()
    }

    /// The moment of `now_ms`.
    pub fn instant(&self) -> Instant {
        self.epoch + Duration::from_secs_f64(self.now_ms / 1000.0)
    }

    /// Have the streams looked after at a time, even when nothing arrives.
    pub fn care_at(&mut self, at_ms: f64) {
        self.care_at_ms = Some(self.care_at_ms.map_or(at_ms, |sooner| sooner.min(at_ms)));
    }

    pub fn care_in(&mut self, delay_ms: f64) {
        self.care_at(self.now_ms + delay_ms);
    }

    /// How long the thread may sleep; None when only a descriptor can wake it.
    pub fn idle_time(&self) -> Option<Duration> {
        if !self.unfinished.is_empty() {
            return Some(Duration::ZERO);
        }
        self.care_at_ms.map(|at| Duration::from_secs_f64((at - self.now_ms).max(0.0) / 1000.0))
    }

    /// Whether it is time to look after the streams; they ask for the next time themselves.
    pub fn takes_care_now(&mut self) -> bool {
        let is_due = self.care_at_ms.is_some_and(|at| at <= self.now_ms);
        if is_due {
            self.care_at_ms = None;
        }
        is_due
    }

    pub fn stream_opened(&mut self) {
        self.update_clock();
        self.opening_until_ms = self.now_ms + OPENING_MS;
    }

    /// How long work is gathered now.
    ///
    /// What only goes into the caches nobody waits for, and each turn of a socket costs more than what it brings.
    pub fn tick(&self) -> Duration {
        let is_awaited = !self.outlets.is_empty() || self.now_ms < self.opening_until_ms;
        if is_awaited || self.is_short_of_room {
            self.options.tick
        } else {
            self.options.unwatched_tick.max(self.options.tick)
        }
    }

    pub fn viewer_joined(&mut self, id: u64, stream: u64) {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        self.outlets.insert(id, stream);
    }

    pub fn viewer_left(&mut self, id: u64) {
        self.viewers.fetch_sub(1, Ordering::Relaxed);
        self.outlets.remove(&id);
    }

    pub fn relay_added(&mut self, id: u64, stream: u64) {
        self.outlets.insert(id, stream);
    }

    pub fn relay_removed(&mut self, id: u64) {
        self.outlets.remove(&id);
    }

    /// The stream that a viewer, browser or relay is of.
    pub fn stream_of(&self, id: u64) -> Option<u64> {
        self.outlets.get(&id).copied()
    }

    pub fn announce(&self, kind: Kind, stream: &Arc<str>, id: u64, detail: impl Into<Cow<'static, str>>) {
        let stream = stream.clone();
        self.events.push(Event { kind, stream, id, at_ms: self.now_ms, detail: detail.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_gathered_for_long_only_while_nobody_waits_for_a_picture() {
        let options = Options::default();
        let (short, long) = (options.tick, options.unwatched_tick);
        let events = Arc::new(EventRing::new().unwrap());
        let mut context = Context::new(options, Instant::now(), events, Arc::default()).unwrap();
        assert_eq!(context.tick(), long);

        context.stream_opened();
        assert_eq!(context.tick(), short);
        context.now_ms += OPENING_MS;
        assert_eq!(context.tick(), long);

        context.viewer_joined(1, 7);
        context.relay_added(2, 7);
        context.viewer_left(1);
        assert_eq!(context.tick(), short);
        context.relay_removed(2);
        assert_eq!(context.tick(), long);

        context.is_short_of_room = true;
        assert_eq!(context.tick(), short);
    }
}
