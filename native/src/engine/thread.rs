//! The packet thread: wait, take everything that is ready, hand it on, sleep out the tick.
//!
//! A wake-up for every packet is what costs; so after a wake-up the thread drains all sockets, and sleeps until the
//! tick's end while the kernel gathers what comes; the tick is longer where nobody waits for a picture. With nothing to
//! do it waits in epoll without any tick.
//!
//! A panic, which no input should reach, ends the stream it happened in and not the thread.

use super::context::{Context, Keyed, Part, MAILBOX_TOKEN, RTC_TOKEN};
use super::figures::{Description, StreamStats, ViewerStats};
use super::peers::RtcPort;
use super::ports::SharedPort;
use super::source::{Source, Transport};
use super::stream::Stream;
use super::{EngineError, Options, RelayTarget, Result};
use crate::demux::PayloadType;
use crate::events::{EventRing, Kind};
use crate::net::{self, EventFd, SocketMemory};
use crate::relay::Numbers;
use crate::viewer::{Container, Dialogue, Ending, Viewer};
use bytes::Bytes;
use socket2::Socket;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Work for a packet thread.
pub type Command = Box<dyn FnOnce(&mut PacketThread) + Send>;

/// Commands on their way to a packet thread.
pub struct Mailbox {
    commands: Mutex<Option<VecDeque<Command>>>,
    wake: EventFd,
}

impl Mailbox {
    pub fn new() -> io::Result<Self> {
        Ok(Self { commands: Mutex::new(Some(VecDeque::new())), wake: EventFd::new()? })
    }

    /// False when the thread takes no more commands.
    pub fn post(&self, command: Command) -> bool {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = commands.as_mut() else { return false };
        queue.push_back(command);
        self.wake.signal();
        true
    }

    /// Make the thread end.
    pub fn close(&self) {
        *self.commands.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.wake.signal();
    }

    /// What waits; None when the thread should end.
    fn take(&self) -> Option<VecDeque<Command>> {
        self.wake.clear();
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.as_mut().map(std::mem::take)
    }
}

/// State of one packet thread.
pub struct PacketThread {
    pub(super) context: Context,
    mailbox: Arc<Mailbox>,
    pub(super) streams: Keyed<Stream>,
    names: HashMap<Arc<str>, u64>,
    /// Ports that streams share, by their own keys.
    pub(super) ports: Keyed<SharedPort>,
    /// Streams that took part in this tick.
    touched: Vec<u64>,
}

impl PacketThread {
    pub fn new(
        options: Options,
        epoch: Instant,
        events: Arc<EventRing>,
        mailbox: Arc<Mailbox>,
        viewers: Arc<AtomicUsize>,
        rtc: Option<RtcPort>,
    ) -> io::Result<Self> {
        let mut context = Context::new(options, epoch, events, viewers)?;
        context.poll().watch_input(mailbox.wake.fd(), MAILBOX_TOKEN)?;
        if let Some(port) = rtc {
            context.poll().watch_input(port.fd(), RTC_TOKEN)?;
            context.rtc = Some(Box::new(port));
        }
        Ok(Self {
            context,
            mailbox,
            streams: Keyed::default(),
            names: HashMap::new(),
            ports: Keyed::default(),
            touched: Vec::new(),
        })
    }

    /// Run until the mailbox is closed.
    pub fn run(mut self) {
        let mut ready = Vec::new();
        let mut is_running = true;
        while is_running {
            let idle = self.context.idle_time();
            ready.append(&mut self.context.unfinished);
            let woken = self.context.poll().wait(idle, &mut ready);
            let woken_at = Instant::now();
            self.context.update_clock();
            let has_media = ready.iter().any(|r| r.token != MAILBOX_TOKEN);
            for one in ready.drain(..) {
                if one.token == MAILBOX_TOKEN {
                    is_running = self.run_commands();
                } else if one.token == RTC_TOKEN {
                    self.read_rtc(one);
                } else if let Some((owner, part)) = self.context.owner(one.token) {
                    match part {
                        Part::Port(part) => self.on_port_ready(owner, one, part),
                        _ => self.guarded(owner, |s, context| s.on_ready(context, one, part)),
                    }
                }
            }
            if self.context.takes_care_now() {
                self.care();
            }
            self.flush_touched();
            let is_all_taken = self.context.unfinished.is_empty() && !matches!(woken, Ok(true));
            if woken.is_err() {
                std::thread::sleep(self.context.options.tick); // a broken epoll must not spin
            } else if is_running && has_media && is_all_taken {
                self.rest(woken_at);
            }
        }
        let keys: Vec<u64> = self.streams.keys().copied().collect();
        for key in keys {
            self.close_key(key);
        }
    }

    /// Let the kernel gather until the tick is over; who has a command does not wait for that.
    fn rest(&self, woken_at: Instant) {
        net::wait_readable(self.mailbox.wake.fd(), self.context.tick().saturating_sub(woken_at.elapsed()));
    }

    fn run_commands(&mut self) -> bool {
        let Some(commands) = self.mailbox.take() else { return false };
        for command in commands {
            // The caller of a command that panicked gets `Gone`, since its channel is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| command(self)));
        }
        true
    }

    /// Let a stream work; a panic closes it.
    pub(super) fn guarded(&mut self, key: u64, work: impl FnOnce(&mut Stream, &mut Context)) {
        let Self { context, streams, touched, .. } = self;
        let Some(stream) = streams.get_mut(&key) else { return };
        touched.push(key);
        if catch_unwind(AssertUnwindSafe(|| work(stream, context))).is_err() {
            let name = stream.name.clone();
            self.context.announce(Kind::Error, &name, 0, "internal error");
            self.close_key(key);
        }
    }

    fn care(&mut self) {
        let keys: Vec<u64> = self.streams.keys().copied().collect();
        for key in keys {
            self.guarded(key, |stream, context| stream.care(context));
        }
        self.care_for_ports();
    }

    fn flush_touched(&mut self) {
        let mut keys = std::mem::take(&mut self.touched);
        keys.sort_unstable();
        keys.dedup();
        for &key in &keys {
            self.guarded(key, |stream, context| stream.flush(context));
        }
        keys.clear();
        self.touched = keys;
    }

    fn close_key(&mut self, key: u64) -> Option<StreamStats> {
        let stream = self.streams.remove(&key)?;
        self.names.remove(&stream.name);
        if let Some(port) = stream.shared_port() {
            self.leave_port(port, key, stream.pipeline.ssrc());
        }
        Some(stream.close(&mut self.context))
    }

    pub(super) fn insert(&mut self, stream: Stream) {
        self.context.stream_opened();
        self.names.insert(stream.name.clone(), stream.key);
        self.streams.insert(stream.key, stream);
    }

    pub(super) fn find(&mut self, name: &str) -> Result<(&mut Stream, &mut Context)> {
        let key = self.names.get(name).ok_or(EngineError::Unknown)?;
        let stream = self.streams.get_mut(key).ok_or(EngineError::Unknown)?;
        Ok((stream, &mut self.context))
    }

    // Commands

    pub fn open_ingest(
        &mut self,
        name: Arc<str>,
        transport: Transport,
        local: SocketAddr,
        ssrc: Option<u32>,
    ) -> Result<u16> {
        let key = self.context.new_token();
        let (source, port) = Source::open(&mut self.context, key, transport, local)?;
        self.insert(Stream::new(&self.context, name, key, source, ssrc));
        Ok(port)
    }

    pub fn set_ssrc(&mut self, name: &str, ssrc: Option<u32>, is_hint: bool) -> Result<()> {
        let (stream, _) = self.find(name)?;
        stream.set_ssrc(ssrc.filter(|_| !is_hint));
        if let (key, Some(port)) = (stream.key, stream.shared_port()) {
            self.set_shared_ssrc(port, key, ssrc);
        }
        Ok(())
    }

    pub fn hold(&mut self, name: &str) -> Result<Option<u64>> {
        Ok(self.find(name)?.0.hold())
    }

    pub fn step(&mut self, name: &str) -> Result<Option<u64>> {
        self.show(name, |stream, context| stream.step(context))
    }

    pub fn let_go(&mut self, name: &str, forget: bool) -> Result<()> {
        self.show(name, |stream, context| stream.let_go(context, forget))
    }

    /// What shows pictures outside of the packets' way; viewers get them with this tick.
    fn show<T>(&mut self, name: &str, work: impl FnOnce(&mut Stream, &mut Context) -> T) -> Result<T> {
        let (stream, context) = self.find(name)?;
        context.update_clock();
        let (key, shown) = (stream.key, work(stream, context));
        self.touched.push(key);
        Ok(shown)
    }

    pub fn relay_numbers(&mut self, id: u64) -> Result<Option<Numbers>> {
        let key = self.context.stream_of(id).ok_or(EngineError::Unknown)?;
        let stream = self.streams.get_mut(&key).ok_or(EngineError::Unknown)?;
        Ok(stream.outlets.relay(id).ok_or(EngineError::Unknown)?.numbers())
    }

    pub fn set_payload_types(&mut self, name: &str, types: Vec<PayloadType>) -> Result<()> {
        self.find(name)?.0.set_payload_types(types);
        Ok(())
    }

    pub fn connect_ingest(&mut self, name: &str, peer: SocketAddr) -> Result<()> {
        let (stream, context) = self.find(name)?;
        stream.connect(context, peer)
    }

    pub fn close_stream(&mut self, name: &str) -> Result<StreamStats> {
        let key = *self.names.get(name).ok_or(EngineError::Unknown)?;
        self.close_key(key).ok_or(EngineError::Unknown)
    }

    pub fn add_relay(&mut self, name: &str, id: u64, target: RelayTarget) -> Result<u16> {
        let (stream, context) = self.find(name)?;
        stream.add_relay(context, id, target)
    }

    pub fn remove_relay(&mut self, id: u64) -> Result<()> {
        let key = self.context.stream_of(id).ok_or(EngineError::Unknown)?;
        let stream = self.streams.get_mut(&key).ok_or(EngineError::Unknown)?;
        stream.remove_relay(&mut self.context, id).then_some(()).ok_or(EngineError::Unknown)
    }

    pub fn attach(
        &mut self,
        name: &str,
        id: u64,
        container: Container,
        socket: Socket,
        head: Bytes,
        dialogue: Dialogue,
    ) -> Result<()> {
        let (stream, context) = self.find(name)?;
        let viewer = Viewer::new(id, container, socket, head, dialogue, context.options.viewer_queue_bytes);
        stream.attach(context, viewer)
    }

    pub fn add_peer(&mut self, name: &str, id: u64, offer: &str) -> Result<String> {
        let (stream, context) = self.find(name)?;
        stream.add_peer(context, id, offer)
    }

    pub fn detach(&mut self, id: u64) -> Result<()> {
        let key = self.context.stream_of(id).ok_or(EngineError::Unknown)?;
        let outlets = &self.streams.get(&key).ok_or(EngineError::Unknown)?.outlets;
        if outlets.peers.has(id) {
            self.guarded(key, |stream, context| stream.end_peer(context, id, Ending::Detached.name()));
        } else if outlets.viewers().any(|viewer| viewer.id == id) {
            self.guarded(key, |stream, context| stream.end_viewer(context, id, Ending::Detached));
        } else {
            return Err(EngineError::Unknown);
        }
        Ok(())
    }

    pub fn stats(&mut self, name: &str) -> Result<StreamStats> {
        let (stream, context) = self.find(name)?;
        context.update_clock();
        Ok(stream.stats(context.now_ms))
    }

    pub fn describe(&mut self, name: &str) -> Result<Description> {
        Ok(self.find(name)?.0.describe())
    }

    pub fn viewer_stats(&mut self, id: u64) -> Result<ViewerStats> {
        let key = self.context.stream_of(id).ok_or(EngineError::Unknown)?;
        let stream = self.streams.get(&key).ok_or(EngineError::Unknown)?;
        stream.viewer_stats(id).ok_or(EngineError::Unknown)
    }

    pub fn memory(&self) -> SocketMemory {
        self.streams.values().map(Stream::memory).chain(self.ports_memory()).fold(
            SocketMemory::default(),
            |a, b| SocketMemory {
                backlog_bytes: a.backlog_bytes + b.backlog_bytes,
                drops: a.drops + b.drops,
            },
        )
    }

    pub fn snapshot_gop(&mut self, name: &str) -> Result<Vec<u8>> {
        Ok(self.find(name)?.0.snapshot_gop())
    }
}
