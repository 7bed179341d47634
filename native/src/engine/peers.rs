//! The browsers of a stream by WebRTC: one UDP port a packet thread, and who it belongs to.
//!
//! A datagram's peer is known by its source address, or, while that is new, by the user name of its STUN request. An
//! address is learnt only from a request that proved the peer's password. A fault in one peer ends that peer.

use super::context::Context;
use super::figures::ViewerStats;
use super::stream::Stream;
use super::thread::PacketThread;
use super::{EngineError, Result};
use crate::events::Kind;
use crate::frame::{Codec, Frame};
use crate::nal;
use crate::net::{self, Group, Ready};
use crate::webrtc::payload::Packer;
use crate::webrtc::{stun, Content, Identity, Peer, Refusal};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::time::Instant;

/// Datagrams taken in one turn; browsers send a few a second, so more is a flood that must not hold the pictures.
const TURN_DATAGRAMS: usize = 256;

/// Largest datagram that WebRTC sends; a longer one is cut and then not authentic.
const DATAGRAM_MAX: usize = 2_048;

/// Addresses one peer may have shown.
const SOURCES_MAX: usize = 8;

/// Peers' timers are looked at on this grid, so that many of them wake the thread together.
const GRID_MS: f64 = 20.0;

/// Spacing of the parts of a queue.
const PACE_MS: f64 = 4.0;

/// Where WebRTC is received, and what browsers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebrtcOptions {
    /// The first thread's port; the next ones follow. 0 lets the system choose each.
    pub bind: SocketAddr,
    /// The address in our answers, when it is another one: that of a router that forwards the ports.
    pub public: IpAddr,
}

/// A stream and a peer of it.
type Owner = (u64, u64);

/// The length of a datagram, where it came from, and whose it is when that is known.
type Received = (usize, SocketAddr, Option<Owner>);

/// The port of one packet thread.
pub struct RtcPort {
    socket: UdpSocket,
    /// What browsers are told.
    local: SocketAddr,
    identity: Identity,
    by_source: HashMap<SocketAddr, Owner>,
    by_name: HashMap<String, Owner>,
    out: Outbox,
    buffer: Vec<u8>,
}

impl RtcPort {
    pub fn open(options: WebrtcOptions, thread: usize, identity: Identity) -> io::Result<Self> {
        let mut bind = options.bind;
        if bind.port() != 0 {
            let port = u16::try_from(thread).ok().and_then(|n| bind.port().checked_add(n));
            bind.set_port(port.ok_or(io::ErrorKind::InvalidInput)?);
        }
        let (socket, port) = net::bind_udp(bind)?;
        let _ = socket.set_send_buffer_size(net::UDP_SEND_BYTES);
        Ok(Self {
            socket: socket.into(),
            local: SocketAddr::new(options.public, port),
            identity,
            by_source: HashMap::new(),
            by_name: HashMap::new(),
            out: Outbox { has_gso: true, ..Outbox::default() },
            buffer: vec![0; DATAGRAM_MAX],
        })
    }

    pub fn fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.socket)
    }

    /// One datagram into `buffer`. None when nothing waits.
    fn receive(&self, buffer: &mut [u8]) -> Option<Received> {
        match self.socket.recv_from(buffer) {
            Ok((length, source)) => {
                let known = self.by_source.get(&source);
                let owner = known.or_else(|| self.by_name.get(stun::local_name(&buffer[..length])?));
                Some((length, source, owner.copied()))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            // What an earlier datagram of ours brought back.
            Err(_) => Some((0, self.local, None)),
        }
    }

    fn learn(&mut self, source: SocketAddr, owner: Owner) {
        if !self.by_source.contains_key(&source)
            && self.by_source.values().filter(|of| **of == owner).count() < SOURCES_MAX
        {
            self.by_source.insert(source, owner);
        }
    }

    fn forget(&mut self, owner: Owner) {
        self.by_source.retain(|_, of| *of != owner);
        self.by_name.retain(|_, of| *of != owner);
    }
}

/// Packets on their way to one address.
#[derive(Default)]
struct Outbox {
    to: Option<SocketAddr>,
    bytes: Vec<u8>,
    groups: Vec<Group>,
    has_gso: bool,
}

/// The browsers of one stream. The packer lives while there is one.
#[derive(Default)]
pub struct Peers {
    packer: Option<Packer>,
    list: Vec<Peer>,
}

impl Peers {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn has(&self, id: u64) -> bool {
        self.list.iter().any(|peer| peer.id == id)
    }

    pub fn stats(&self, id: u64, stream: &str) -> Option<ViewerStats> {
        let peer = self.list.iter().find(|p| p.id == id)?;
        Some(ViewerStats {
            id,
            stream: stream.to_owned(),
            container: "webrtc",
            bytes: peer.sent_bytes,
            frames: peer.frames,
            skipped: peer.skipped,
            queued_bytes: peer.queued_bytes,
            reported: None,
        })
    }

    /// A new frame of the stream, packed once for all.
    pub fn take(&mut self, frame: &Frame) {
        let Some(packed) = self.packer.as_mut().and_then(|packer| packer.pack(frame)) else { return };
        self.list.iter_mut().for_each(|peer| peer.offer(&packed));
    }
}

/// Let one peer work on the port; what it sends goes out. None when it panicked, which ends it.
fn run<T>(
    context: &mut Context,
    work: impl FnOnce((Instant, f64), &mut dyn FnMut(SocketAddr, &[u8])) -> T,
) -> Option<T> {
    let now = (context.instant(), context.now_ms);
    let Context { rtc, sending, .. } = context;
    let RtcPort { socket, out, .. } = rtc.as_deref_mut()?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
    let mut deliver = |out: &mut Outbox| {
        if let Some(to) = out.to.take() {
            // What the kernel refuses is lost as on any network; the browser asks for it again.
            sending.batch.send_to(fd, to, &out.bytes, &out.groups, &mut out.has_gso);
        }
        out.bytes.clear();
        out.groups.clear();
    };
    let worked = catch_unwind(AssertUnwindSafe(|| {
        work(now, &mut |to, packet| {
            if out.to != Some(to) {
                deliver(out);
                out.to = Some(to);
            }
            out.bytes.extend_from_slice(packet);
            Group::append(&mut out.groups, packet.len());
        })
    }));
    deliver(out);
    worked.ok()
}

impl Stream {
    /// Answer a browser's offer.
    pub fn add_peer(&mut self, context: &mut Context, id: u64, offer: &str) -> Result<String> {
        let content = self.content();
        let cap_bytes = context.options.viewer_queue_bytes;
        let port = context.rtc.as_deref().ok_or(EngineError::Refused(Refusal::Off))?;
        let (identity, local) = (port.identity.clone(), port.local);
        let accepted =
            run(context, |now, _| Peer::accept(id, offer, content, &identity, local, cap_bytes, now));
        // A panic there is the offer's doing.
        let accepted = accepted.unwrap_or(Err(Refusal::Malformed));
        let (peer, answer) = accepted.map_err(EngineError::Refused)?;
        if let Some(port) = context.rtc.as_deref_mut() {
            port.by_name.insert(peer.name().to_owned(), (self.key, id));
        }
        let gop_bytes = context.options.gop_bytes;
        self.outlets.peers.packer.get_or_insert_with(|| Packer::new(self.pipeline.gop(), gop_bytes));
        self.outlets.peers.list.push(peer);
        context.viewer_joined(id, self.key);
        self.await_picture(context);
        self.care_for_peers(context);
        Ok(answer)
    }

    fn content(&self) -> Content {
        let counters = self.pipeline.counters();
        let (video, audio) = (counters.video, counters.audio);
        let key_frame = self.pipeline.gop().frames().find(|f| f.codec == Codec::H264);
        let profile_idc = key_frame.and_then(|frame| {
            let sps = nal::nals(&frame.data).find(|unit| nal::h264::kind(unit) == nal::h264::SPS)?;
            sps.get(1).copied()
        });
        Content { video, audio, profile_idc }
    }

    pub(super) fn on_peer_datagram(
        &mut self,
        context: &mut Context,
        id: u64,
        source: SocketAddr,
        bytes: &[u8],
    ) {
        let Peers { packer, list } = &mut self.outlets.peers;
        let (Some(packer), Some(peer)) = (packer, list.iter_mut().find(|p| p.id == id)) else { return };
        let was_connected = peer.is_connected();
        let Some(taken) = run(context, |now, emit| peer.receive(source, bytes, packer, now, emit)) else {
            return self.end_peer(context, id, "error");
        };
        let is_new = peer.is_connected() && !was_connected;
        let has_asked = peer.take_wish();
        if taken {
            if let Some(port) = context.rtc.as_deref_mut() {
                port.learn(source, (self.key, id));
            }
            self.after_peer(context, id);
        }
        if is_new {
            context.announce(Kind::Connected, &self.name, id, "");
        }
        if has_asked {
            self.tell_wish(context, id, "asked");
        }
    }

    /// Ask for the peer's next turn, or take it out.
    fn after_peer(&mut self, context: &mut Context, id: u64) {
        let Some(peer) = self.outlets.peers.list.iter().find(|p| p.id == id) else { return };
        if let Some(why) = peer.ending() {
            return self.end_peer(context, id, why.word());
        }
        let wait_ms = peer.timeout().saturating_duration_since(context.instant()).as_secs_f64() * 1000.0;
        // Far timers are no timers: a peer is looked at every second in any case.
        let at_ms = context.now_ms + wait_ms.min(1_000.0);
        context.care_at((at_ms / GRID_MS).ceil() * GRID_MS);
    }

    fn for_each_peer(
        &mut self,
        context: &mut Context,
        mut work: impl FnMut(&mut Peer, (Instant, f64), &mut dyn FnMut(SocketAddr, &[u8])),
    ) {
        let mut faulty = Vec::new();
        for peer in &mut self.outlets.peers.list {
            if run(context, |now, emit| work(peer, now, emit)).is_none() {
                faulty.push(peer.id);
            }
        }
        for id in faulty {
            self.end_peer(context, id, "error");
        }
        let ids: Vec<u64> = self.outlets.peers.list.iter().map(|p| p.id).collect();
        for id in ids {
            self.after_peer(context, id);
        }
    }

    pub(super) fn care_for_peers(&mut self, context: &mut Context) {
        if self.outlets.peers.len() > 0 {
            self.for_each_peer(context, |peer, now, emit| peer.care(now, emit));
        }
    }

    pub(super) fn flush_peers(&mut self, context: &mut Context) {
        if !self.outlets.peers.list.iter().any(Peer::has_queue) {
            return;
        }
        self.for_each_peer(context, |peer, now, emit| {
            if peer.has_queue() {
                peer.flush(now, emit);
            }
        });
        if self.outlets.peers.list.iter().any(Peer::has_queue) {
            context.care_in(PACE_MS);
        }
    }

    /// Take a peer out and tell why.
    pub fn end_peer(&mut self, context: &mut Context, id: u64, word: &'static str) {
        let peers = &mut self.outlets.peers;
        let Some(at) = peers.list.iter().position(|p| p.id == id) else { return };
        peers.list.swap_remove(at);
        if peers.list.is_empty() {
            peers.packer = None;
        }
        if let Some(port) = context.rtc.as_deref_mut() {
            port.forget((self.key, id));
        }
        context.viewer_left(id);
        context.announce(Kind::ViewerClosed, &self.name, id, word);
    }

    pub(super) fn end_peers(&mut self, context: &mut Context) {
        let ids: Vec<u64> = self.outlets.peers.list.iter().map(|p| p.id).collect();
        for id in ids {
            self.end_peer(context, id, "stream closed");
        }
    }
}

impl PacketThread {
    /// Take what waits at the port of WebRTC.
    pub(super) fn read_rtc(&mut self, ready: Ready) {
        let Some(port) = self.context.rtc.as_deref_mut() else { return };
        let mut buffer = std::mem::take(&mut port.buffer);
        let mut is_empty = false;
        for _ in 0..TURN_DATAGRAMS {
            let Some(port) = self.context.rtc.as_deref() else { break };
            match port.receive(&mut buffer) {
                None => {
                    is_empty = true;
                    break;
                }
                Some((length, source, Some((key, id)))) => {
                    let bytes = &buffer[..length];
                    self.guarded(key, |stream, context| stream.on_peer_datagram(context, id, source, bytes));
                }
                // Nobody's.
                Some((_, _, None)) => {}
            }
        }
        if let Some(port) = self.context.rtc.as_deref_mut() {
            port.buffer = buffer;
        }
        if !is_empty {
            self.context.unfinished.push(ready);
        }
    }
}
