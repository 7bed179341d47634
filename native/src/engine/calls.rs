//! The engine as its callers have it: each call is run by the thread that owns the stream, and answers in bounded time.

use super::figures::{Description, StreamStats, ViewerStats};
use super::options::{EngineError, Options, RelayTarget, Result};
use super::peers::RtcPort;
use super::ports::PortStats;
use super::source::Transport;
use super::thread::{Command, Mailbox, PacketThread};
use crate::demux::PayloadType;
use crate::events::EventRing;
use crate::net::SocketMemory;
use crate::relay::Numbers;
use crate::viewer::{Container, Dialogue};
use crate::webrtc::Identity;
use bytes::Bytes;
use socket2::Socket;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A packet thread that does not answer for this long is broken.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Viewer and relay ids carry their thread in the low bits.
const THREAD_BITS: u32 = 4;

/// Most packet threads.
pub const MAX_THREADS: usize = 1 << THREAD_BITS;

struct Worker {
    mailbox: Arc<Mailbox>,
    join: JoinHandle<()>,
}

/// One engine with its threads.
pub struct Engine {
    options: Options,
    epoch: Instant,
    events: Arc<EventRing>,
    workers: Mutex<Vec<Worker>>,
    mailboxes: Vec<Arc<Mailbox>>,
    /// The thread of each stream.
    streams: Mutex<HashMap<String, usize>>,
    /// The thread of each port that streams share; at most one entry a port of the machine.
    ports: Mutex<HashMap<(Transport, SocketAddr), usize>>,
    viewers: Arc<AtomicUsize>,
    next_id: AtomicU64,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// Start the threads.
    pub fn start(options: Options) -> Result<Self> {
        if !(1..=MAX_THREADS).contains(&options.threads) {
            return Err(EngineError::Invalid("threads"));
        }
        crate::net::keep_freed_memory();
        let epoch = Instant::now();
        let events = Arc::new(EventRing::new()?);
        let viewers = Arc::new(AtomicUsize::new(0));
        let webrtc = match options.webrtc {
            Some(webrtc) => Some((webrtc, Identity::new().ok_or(io::Error::other("no randomness"))?)),
            None => None,
        };
        let mut workers = Vec::new();
        for index in 0..options.threads {
            let mailbox = Arc::new(Mailbox::new()?);
            let rtc = match &webrtc {
                Some((webrtc, identity)) => Some(RtcPort::open(*webrtc, index, identity.clone())?),
                None => None,
            };
            let packet_thread = PacketThread::new(
                options.clone(),
                epoch,
                events.clone(),
                mailbox.clone(),
                viewers.clone(),
                rtc,
            )?;
            let join = std::thread::Builder::new()
                .name(format!("media-{index}"))
                .spawn(move || packet_thread.run())?;
            workers.push(Worker { mailbox, join });
        }
        let mailboxes = workers.iter().map(|w| w.mailbox.clone()).collect();
        Ok(Self {
            options,
            epoch,
            events,
            workers: Mutex::new(workers),
            mailboxes,
            streams: Mutex::new(HashMap::new()),
            ports: Mutex::new(HashMap::new()),
            viewers,
            next_id: AtomicU64::new(1),
        })
    }

    pub fn now_ms(&self) -> f64 {
        self.epoch.elapsed().as_secs_f64() * 1000.0
    }

    pub fn events(&self) -> &EventRing {
        &self.events
    }

    /// Run `work` on a packet thread and wait for its answer.
    fn call<T, F>(&self, thread: usize, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut PacketThread) -> T + Send + 'static,
    {
        let mailbox = self.mailboxes.get(thread).ok_or(EngineError::Unknown)?;
        let (answer, answered) = sync_channel(1);
        let command: Command = Box::new(move |packet_thread| {
            // Nobody listens any more when the caller's time ran out.
            let _ = answer.send(work(packet_thread));
        });
        if !mailbox.post(command) {
            return Err(EngineError::Gone);
        }
        answered.recv_timeout(CALL_TIMEOUT).map_err(|e| match e {
            RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => EngineError::Gone,
        })
    }

    fn thread_of(&self, stream: &str) -> Result<usize> {
        locked(&self.streams).get(stream).copied().ok_or(EngineError::Unknown)
    }

    fn new_id(&self, thread: usize) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) << THREAD_BITS | thread as u64
    }

    fn thread_of_id(id: u64) -> usize {
        (id & (MAX_THREADS as u64 - 1)) as usize
    }

    /// Reserve a name and give it to a thread: the one asked for, or the one with the fewest streams.
    fn place(&self, stream: &str, wanted: Option<usize>) -> Result<usize> {
        let mut streams = locked(&self.streams);
        if streams.contains_key(stream) {
            return Err(EngineError::Exists);
        }
        if streams.len() >= self.options.max_streams {
            return Err(EngineError::Limit);
        }
        let mut loads = vec![0usize; self.options.threads];
        streams.values().for_each(|&thread| loads[thread] += 1);
        let thread = wanted.or((0..loads.len()).min_by_key(|&i| loads[i])).unwrap_or(0);
        streams.insert(stream.to_owned(), thread);
        Ok(thread)
    }

    /// Open a stream's receiving socket; returns the local port.
    pub fn open_ingest(
        &self,
        stream: &str,
        transport: Transport,
        local: SocketAddr,
        ssrc: Option<u32>,
    ) -> Result<u16> {
        let thread = self.place(stream, None)?;
        let name: Arc<str> = stream.into();
        let opened = self.call(thread, move |t| t.open_ingest(name, transport, local, ssrc)).and_then(|r| r);
        if opened.is_err() {
            locked(&self.streams).remove(stream);
        }
        opened
    }

    /// Open a stream on a port that others may share; port 0 begins a new one. Returns the port.
    pub fn open_shared(
        &self,
        stream: &str,
        transport: Transport,
        local: SocketAddr,
        ssrc: Option<u32>,
    ) -> Result<u16> {
        // Held until the port is known, so that two who begin it together meet on one thread.
        let mut ports = locked(&self.ports);
        let thread = self.place(stream, ports.get(&(transport, local)).copied())?;
        let name: Arc<str> = stream.into();
        let opened = self.call(thread, move |t| t.open_shared(name, transport, local, ssrc)).and_then(|r| r);
        match opened {
            Ok(port) => drop(ports.insert((transport, SocketAddr::new(local.ip(), port)), thread)),
            Err(_) => drop(locked(&self.streams).remove(stream)),
        }
        opened
    }

    /// Of a shared port: packets from there belong to the stream when no SSRC says otherwise; port 0 is any port.
    pub fn set_source(&self, stream: &str, source: SocketAddr) -> Result<()> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.set_source(&name, source))?
    }

    pub fn port_stats(&self, transport: Transport, local: SocketAddr) -> Result<PortStats> {
        let thread = locked(&self.ports).get(&(transport, local)).copied().ok_or(EngineError::Unknown)?;
        self.call(thread, move |t| t.port_stats(transport, local))?
    }

    /// What the session description says of the stream's payload types.
    pub fn set_payload_types(&self, stream: &str, types: Vec<PayloadType>) -> Result<()> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.set_payload_types(&name, types))?
    }

    /// Take only this SSRC from now on; a hint brings a shared port's packets to the stream, which takes any.
    pub fn set_ssrc(&self, stream: &str, ssrc: Option<u32>, is_hint: bool) -> Result<()> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.set_ssrc(&name, ssrc, is_hint))?
    }

    /// Hold pictures back from now on; the time of the last one shown, when there is one.
    pub fn hold(&self, stream: &str) -> Result<Option<u64>> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.hold(&name))?
    }

    /// Show the next picture that is held back; its time, None when there is none.
    pub fn step(&self, stream: &str) -> Result<Option<u64>> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.step(&name))?
    }

    /// Hold nothing back any more; what is held is shown, or forgotten.
    pub fn let_go(&self, stream: &str, forget: bool) -> Result<()> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.let_go(&name, forget))?
    }

    /// How a relay numbers what it sends; None while it does not pass on packets as they come.
    pub fn relay_numbers(&self, relay: u64) -> Result<Option<Numbers>> {
        self.call(Self::thread_of_id(relay), move |t| t.relay_numbers(relay))?
    }

    pub fn connect_ingest(&self, stream: &str, peer: SocketAddr) -> Result<()> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.connect_ingest(&name, peer))?
    }

    pub fn close_stream(&self, stream: &str) -> Result<StreamStats> {
        let name = stream.to_owned();
        let closed = self.call(self.thread_of(stream)?, move |t| t.close_stream(&name))?;
        locked(&self.streams).remove(stream);
        closed
    }

    /// Add a relay; returns its id and local port.
    pub fn add_relay(&self, stream: &str, target: RelayTarget) -> Result<(u64, u16)> {
        let thread = self.thread_of(stream)?;
        let (name, id) = (stream.to_owned(), self.new_id(thread));
        let port = self.call(thread, move |t| t.add_relay(&name, id, target))??;
        Ok((id, port))
    }

    pub fn remove_relay(&self, relay: u64) -> Result<()> {
        self.call(Self::thread_of_id(relay), move |t| t.remove_relay(relay))?
    }

    /// Serve one viewer on a connected socket.
    pub fn attach(
        &self,
        stream: &str,
        container: Container,
        socket: Socket,
        head: Bytes,
        dialogue: Dialogue,
    ) -> Result<u64> {
        let thread = self.thread_of(stream)?;
        if self.viewers.load(Ordering::Relaxed) >= self.options.max_viewers {
            return Err(EngineError::Limit);
        }
        let (name, id) = (stream.to_owned(), self.new_id(thread));
        self.call(thread, move |t| t.attach(&name, id, container, socket, head, dialogue))??;
        Ok(id)
    }

    /// Serve one browser by WebRTC; returns its id, which is that of a viewer, and the answer to its offer.
    pub fn add_peer(&self, stream: &str, offer: String) -> Result<(u64, String)> {
        let thread = self.thread_of(stream)?;
        if self.viewers.load(Ordering::Relaxed) >= self.options.max_viewers {
            return Err(EngineError::Limit);
        }
        let (name, id) = (stream.to_owned(), self.new_id(thread));
        let answer = self.call(thread, move |t| t.add_peer(&name, id, &offer))??;
        Ok((id, answer))
    }

    pub fn detach(&self, viewer: u64) -> Result<()> {
        self.call(Self::thread_of_id(viewer), move |t| t.detach(viewer))?
    }

    pub fn stats(&self, stream: &str) -> Result<StreamStats> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.stats(&name))?
    }

    /// What a client must know before it plays the stream by RTP.
    pub fn describe(&self, stream: &str) -> Result<Description> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.describe(&name))?
    }

    pub fn viewer_stats(&self, viewer: u64) -> Result<ViewerStats> {
        self.call(Self::thread_of_id(viewer), move |t| t.viewer_stats(viewer))?
    }

    pub fn streams(&self) -> Vec<String> {
        let mut names: Vec<String> = locked(&self.streams).keys().cloned().collect();
        names.sort();
        names
    }

    /// The cached group of pictures as Annex B bytes.
    pub fn snapshot_gop(&self, stream: &str) -> Result<Vec<u8>> {
        let name = stream.to_owned();
        self.call(self.thread_of(stream)?, move |t| t.snapshot_gop(&name))?
    }

    /// CPU time of all packet threads so far.
    pub fn cpu(&self) -> Result<Duration> {
        (0..self.mailboxes.len()).map(|thread| self.call(thread, |_| crate::net::thread_cpu())).sum()
    }

    /// What the kernel holds for all receiving sockets together.
    pub fn memory(&self) -> Result<SocketMemory> {
        let mut sum = SocketMemory::default();
        for thread in 0..self.mailboxes.len() {
            let part = self.call(thread, |t| t.memory())?;
            sum.backlog_bytes += part.backlog_bytes;
            sum.drops += part.drops;
        }
        Ok(sum)
    }

    /// Keep the packet threads on one core; used by measurements.
    pub fn pin(&self, core: usize) -> Result<()> {
        for thread in 0..self.mailboxes.len() {
            self.call(thread, move |_| crate::net::pin_to_core(core))??;
        }
        Ok(())
    }

    /// Close everything and join the threads; later calls answer `Gone`.
    pub fn shutdown(&self) {
        let workers = std::mem::take(&mut *locked(&self.workers));
        for worker in &workers {
            worker.mailbox.close();
        }
        for worker in workers {
            // A panic that ended the thread was reported when it happened.
            let _ = worker.join.join();
        }
        locked(&self.streams).clear();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shutdown();
    }
}
