//! Ports that several streams share, told apart by SSRC, or by where the packets come from.
//!
//! A firewall is then opened for one port. What belongs to no stream is counted and dropped: the orphans of a call
//! that is over (quirk 41) reach nobody. A TCP connection is given to its stream when its first packet shows whose it
//! is; who connects and says nothing is hung up.
//!
//! Implements: GB/T 28181-2022 C.1 (RTP reception), D (the media server listens)

use super::connection::{Connection, TURNS};
use super::context::{Context, Interest, Part, PortPart};
use super::members::Members;
use super::source::{Source, Transport, ACCEPTS};
use super::stream::Stream;
use super::thread::PacketThread;
use super::{EngineError, Result};
use crate::net::{self, Ready, RecvBatch, SocketMemory};
use crate::rtp;
use socket2::Socket;
use std::net::SocketAddr;
use std::sync::Arc;

/// Connections of one port that have not shown whose they are.
const ARRIVED_MAX: usize = 64;
/// How long they may take.
const ARRIVED_MS: f64 = 5000.0;
/// Connections that may wait in the kernel: a district's cameras come together after a power cut.
const BACKLOG: i32 = 128;

/// A connection without a stream.
struct Arrived {
    connection: Connection,
    peer: Option<SocketAddr>,
}

/// A port's figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct PortStats {
    pub streams: usize,
    /// Packets that belonged to no stream.
    pub unknown: u64,
    /// Connections that have not shown whose they are.
    pub arrived: usize,
    pub memory: SocketMemory,
}

/// One socket for many streams.
pub struct SharedPort {
    transport: Transport,
    local: SocketAddr,
    /// Receives datagrams, or listens.
    socket: Socket,
    token: u64,
    members: Members,
    arrived: Vec<Arrived>,
    unknown: u64,
}

impl SharedPort {
    fn open(context: &mut Context, key: u64, transport: Transport, local: SocketAddr) -> Result<Self> {
        let (socket, port, part) = match transport {
            Transport::Udp => {
                let (socket, port) = net::bind_udp(local)?;
                let has_room = net::enlarge_receive_buffer(&socket, net::UDP_SHARED_RECEIVE_BYTES);
                context.is_short_of_room |= !has_room;
                net::enable_gro(net::fd(&socket));
                (socket, port, Part::Port(PortPart::Socket))
            }
            Transport::TcpPassive => {
                let (listener, port) = net::bind_tcp(local)?;
                listener.listen(BACKLOG)?;
                (listener, port, Part::Port(PortPart::Listener))
            }
            Transport::TcpActive => return Err(EngineError::Invalid("tcp-active streams share no port")),
        };
        let token = context.watch(net::fd(&socket), Interest::Input, key, part)?;
        let local = SocketAddr::new(local.ip(), port);
        Ok(Self {
            transport,
            local,
            socket,
            token,
            members: Members::default(),
            arrived: Vec::new(),
            unknown: 0,
        })
    }

    fn memory(&self) -> SocketMemory {
        match self.transport {
            Transport::Udp => net::socket_memory(net::fd(&self.socket)),
            _ => SocketMemory::default(),
        }
    }

    fn stats(&self) -> PortStats {
        PortStats {
            streams: self.members.count,
            unknown: self.unknown,
            arrived: self.arrived.len(),
            memory: self.memory(),
        }
    }

    fn close(self, context: &mut Context) {
        context.forget(net::fd(&self.socket), self.token);
        for one in self.arrived {
            one.connection.forget(context);
        }
    }
}

impl PacketThread {
    /// Open a stream on a port that others may have opened; returns the port. Port 0 begins a new one.
    pub fn open_shared(
        &mut self,
        name: Arc<str>,
        transport: Transport,
        local: SocketAddr,
        ssrc: Option<u32>,
    ) -> Result<u16> {
        let found = self.ports.iter().find(|(_, p)| p.transport == transport && p.local == local);
        let port_key = match found {
            Some((&key, _)) => key,
            None => {
                let key = self.context.new_token();
                let port = SharedPort::open(&mut self.context, key, transport, local)?;
                self.ports.insert(key, port);
                key
            }
        };
        let stream_key = self.context.new_token();
        let Some(port) = self.ports.get_mut(&port_key) else { return Err(EngineError::Unknown) };
        port.members.count += 1;
        port.members.expect_ssrc(stream_key, ssrc);
        let number = port.local.port();
        let source = Source::shared(stream_key, transport, port_key);
        self.insert(Stream::new(&self.context, name, stream_key, source, ssrc));
        Ok(number)
    }

    /// A stream of a shared port takes another SSRC from now on; None leaves it its source alone.
    pub fn set_shared_ssrc(&mut self, port: u64, stream: u64, ssrc: Option<u32>) {
        if let Some(port) = self.ports.get_mut(&port) {
            port.members.expect_ssrc(stream, ssrc);
        }
    }

    /// Packets from there belong to the stream when no SSRC says otherwise; port 0 is any port of the host.
    pub fn set_source(&mut self, name: &str, source: SocketAddr) -> Result<()> {
        let (stream, _) = self.find(name)?;
        let (key, port) = (stream.key, stream.shared_port());
        let port = port.ok_or(EngineError::Invalid("not on a shared port"))?;
        self.ports.get_mut(&port).ok_or(EngineError::Unknown)?.members.expect_source(key, source);
        Ok(())
    }

    pub fn port_stats(&self, transport: Transport, local: SocketAddr) -> Result<PortStats> {
        let found = self.ports.values().find(|p| p.transport == transport && p.local == local);
        found.map(SharedPort::stats).ok_or(EngineError::Unknown)
    }

    pub(super) fn ports_memory(&self) -> impl Iterator<Item = SocketMemory> + '_ {
        self.ports.values().map(SharedPort::memory)
    }

    /// A stream of the port is gone; the port goes with the last.
    pub(super) fn leave_port(&mut self, port_key: u64, stream: u64, heard: Option<u32>) {
        let now_ms = self.context.now_ms;
        let Some(port) = self.ports.get_mut(&port_key) else { return };
        port.members.leave(stream, heard, now_ms);
        if port.members.count == 0 {
            if let Some(port) = self.ports.remove(&port_key) {
                port.close(&mut self.context);
            }
        }
    }

    /// A descriptor of a shared port is ready.
    pub(super) fn on_port_ready(&mut self, port: u64, ready: Ready, part: PortPart) {
        match part {
            PortPart::Socket => self.read_shared(port, ready),
            PortPart::Listener => self.accept_shared(port, ready),
            PortPart::Arrived => self.read_arrived(port, ready),
        }
    }

    fn read_shared(&mut self, port_key: u64, ready: Ready) {
        let Some(fd) = self.ports.get(&port_key).map(|p| net::fd(&p.socket)) else { return };
        let mut batch =
            self.context.recv_sources.take().unwrap_or_else(|| Box::new(RecvBatch::with_sources()));
        let mut fed = Vec::new();
        let mut has_more = true;
        for _ in 0..TURNS {
            match batch.receive(fd) {
                Ok((count, more)) => {
                    for index in 0..count {
                        let source = batch.source(index);
                        let (bytes, segment) = batch.get(index);
                        self.distribute(port_key, bytes, segment, source, &mut fed);
                    }
                    has_more = more;
                }
                Err(e) if net::is_blocked(&e) => has_more = false,
                // An ICMP error of an unconnected socket concerns nobody; the queue behind it does.
                Err(_) => {}
            }
            if !has_more {
                break;
            }
        }
        if has_more {
            self.context.unfinished.push(ready);
        }
        self.context.recv_sources = Some(batch);
        for key in fed {
            self.guarded(key, |stream, context| stream.after_input(context));
        }
    }

    /// Give the datagrams of one buffer to their streams, as many at once as belong together.
    fn distribute(
        &mut self,
        port_key: u64,
        bytes: &[u8],
        segment: usize,
        source: Option<SocketAddr>,
        fed: &mut Vec<u64>,
    ) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let ssrc = rtp::ssrc(&rest[..segment.min(rest.len())]);
            let count = rest.chunks(segment).take_while(|packet| rtp::ssrc(packet) == ssrc).count().max(1);
            let (run, behind) = rest.split_at((count * segment).min(rest.len()));
            rest = behind;
            let now_ms = self.context.now_ms;
            let Some(port) = self.ports.get_mut(&port_key) else { return };
            match port.members.owner(ssrc, source, now_ms) {
                Some(key) => {
                    if fed.last() != Some(&key) && !fed.contains(&key) {
                        fed.push(key);
                    }
                    self.guarded(key, |stream, context| {
                        run.chunks(segment).for_each(|packet| stream.take_packet(context, packet));
                    });
                }
                None => port.unknown += count as u64,
            }
        }
    }

    fn accept_shared(&mut self, port_key: u64, ready: Ready) {
        let Self { context, ports, .. } = self;
        let Some(port) = ports.get_mut(&port_key) else { return };
        // Who waits on after an error comes with the next readiness.
        for _ in 0..ACCEPTS {
            let Ok(Some(socket)) = net::accept(&port.socket) else { return };
            if port.arrived.len() >= ARRIVED_MAX {
                port.unknown += 1;
                continue;
            }
            let peer = socket.peer_addr().ok().and_then(|address| address.as_socket());
            let Ok(token) =
                context.watch(net::fd(&socket), Interest::Input, port_key, Part::Port(PortPart::Arrived))
            else {
                continue;
            };
            let connection = Connection::new(socket, token, context.now_ms);
            port.arrived.push(Arrived { connection, peer });
            context.care_in(ARRIVED_MS);
        }
        context.unfinished.push(ready);
    }

    /// A connection without a stream has something to read: its first packet says whose it is.
    fn read_arrived(&mut self, port_key: u64, ready: Ready) {
        let Self { context, ports, .. } = self;
        let Some(port) = ports.get_mut(&port_key) else { return };
        let Some(at) = port.arrived.iter().position(|a| a.connection.token == ready.token) else { return };
        let mut packets: Vec<Vec<u8>> = Vec::new();
        let arrived = &mut port.arrived[at];
        let read = arrived.connection.read_once(context, ready, &mut |packet| packets.push(packet.to_vec()));
        let ssrc = packets.iter().find(|p| !rtp::is_rtcp(p)).and_then(|p| rtp::ssrc(p));
        if read.is_ok() && ssrc.is_none() {
            return; // nothing yet
        }
        let Arrived { connection, peer } = port.arrived.swap_remove(at);
        let owner = if read.is_ok() { port.members.owner(ssrc, peer, context.now_ms) } else { None };
        let Some(stream) = owner else {
            port.unknown += packets.len() as u64;
            return connection.forget(context);
        };
        self.guarded(stream, move |stream, context| {
            if stream.adopt(context, connection) {
                packets.iter().for_each(|packet| stream.take_packet(context, packet));
                stream.after_input(context);
            }
        });
    }

    /// Hang up who has said nothing for too long.
    pub(super) fn care_for_ports(&mut self) {
        let Self { context, ports, .. } = self;
        for port in ports.values_mut() {
            let (late, waiting) = std::mem::take(&mut port.arrived)
                .into_iter()
                .partition(|a| context.now_ms - a.connection.opened_ms >= ARRIVED_MS);
            port.arrived = waiting;
            for one in late {
                let one: Arrived = one;
                port.unknown += 1;
                one.connection.forget(context);
            }
            if !port.arrived.is_empty() {
                context.care_in(ARRIVED_MS);
            }
        }
    }
}
