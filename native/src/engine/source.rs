//! Where a stream comes from: a UDP socket, or a TCP connection in either role.
//!
//! Implements: GB/T 28181-2022 D (connection roles, retries)

use super::connection::{Connection, TURNS};
use super::context::{Context, Interest, Part};
use super::{EngineError, Result};
use crate::net::{self, Ready};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;

/// After a failed connect: at least one second, three times (Annex D).
pub const RETRY_MS: f64 = 1000.0;
pub const RETRIES: u32 = 3;

/// A connected sender that was silent for this long may be replaced by a new one: it lost its power or its route.
const SILENCE_MS: f64 = 5000.0;

/// Connections taken in one turn of one listener; somebody may connect as fast as they are hung up.
pub(super) const ACCEPTS: usize = 64;

/// How media travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    TcpPassive,
    TcpActive,
}

impl Transport {
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Udp, Self::TcpPassive, Self::TcpActive].into_iter().find(|t| t.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::TcpPassive => "tcp-passive",
            Self::TcpActive => "tcp-active",
        }
    }
}

/// What a readiness of the source came to.
pub enum Outcome {
    Nothing,
    Connected,
    /// The connection ended; the word says how.
    Closed(&'static str),
}

/// Connecting to a sender that listens.
enum Active {
    Bound(Socket),
    Connecting {
        socket: Socket,
        token: u64,
        peer: SocketAddr,
        failures: u32,
    },
    Resting {
        peer: SocketAddr,
        failures: u32,
        until_ms: f64,
    },
    /// Connected once; the connection stands beside.
    Done,
}

enum Kind {
    Udp {
        socket: Socket,
        token: u64,
    },
    Passive {
        listener: Socket,
        token: u64,
    },
    Active {
        local: SocketAddr,
        state: Active,
    },
    /// Packets, or a connection, come from a port that other streams have too.
    Shared {
        transport: Transport,
        port: u64,
    },
}

/// The receiving sockets of one stream.
pub struct Source {
    stream: u64,
    kind: Kind,
    connection: Option<Connection>,
}

impl Source {
    /// Bind what the transport needs; returns the source and its port.
    pub fn open(
        context: &mut Context,
        stream: u64,
        transport: Transport,
        local: SocketAddr,
    ) -> Result<(Self, u16)> {
        let (kind, port) = match transport {
            Transport::Udp => {
                let (socket, port) = net::bind_udp(local)?;
                context.is_short_of_room |= !net::enlarge_receive_buffer(&socket, net::UDP_RECEIVE_BYTES);
                // Without GRO every datagram comes in a buffer of its own: slower, not different.
                net::enable_gro(net::fd(&socket));
                let token = context.watch(net::fd(&socket), Interest::Input, stream, Part::Source)?;
                (Kind::Udp { socket, token }, port)
            }
            Transport::TcpPassive => {
                let (listener, port) = net::bind_tcp(local)?;
                listener.listen(4)?;
                let token = context.watch(net::fd(&listener), Interest::Input, stream, Part::Listener)?;
                (Kind::Passive { listener, token }, port)
            }
            Transport::TcpActive => {
                let (socket, port) = net::bind_tcp(local)?;
                let local = SocketAddr::new(local.ip(), port);
                (Kind::Active { local, state: Active::Bound(socket) }, port)
            }
        };
        Ok((Self { stream, kind, connection: None }, port))
    }

    /// A stream of a port that others share; what is its own is given to it.
    pub fn shared(stream: u64, transport: Transport, port: u64) -> Self {
        Self { stream, kind: Kind::Shared { transport, port }, connection: None }
    }

    pub fn shared_port(&self) -> Option<u64> {
        match self.kind {
            Kind::Shared { port, .. } => Some(port),
            _ => None,
        }
    }

    pub fn transport(&self) -> Transport {
        match self.kind {
            Kind::Shared { transport, .. } => transport,
            Kind::Udp { .. } => Transport::Udp,
            Kind::Passive { .. } => Transport::TcpPassive,
            Kind::Active { .. } => Transport::TcpActive,
        }
    }

    /// What the kernel holds for the receiving socket.
    pub fn memory(&self) -> net::SocketMemory {
        match &self.kind {
            Kind::Udp { socket, .. } => net::socket_memory(net::fd(socket)),
            _ => net::SocketMemory::default(),
        }
    }

    /// Begin to connect; only for TCP active, and only once.
    pub fn connect(&mut self, context: &mut Context, peer: SocketAddr) -> Result<Outcome> {
        let Kind::Active { state, .. } = &mut self.kind else {
            return Err(EngineError::Invalid("not a tcp-active stream"));
        };
        match std::mem::replace(state, Active::Done) {
            Active::Bound(socket) => Ok(self.attempt(context, socket, peer, 0)),
            other => {
                *state = other;
                Err(EngineError::Invalid("connected already"))
            }
        }
    }

    fn set_state(&mut self, next: Active) {
        if let Kind::Active { state, .. } = &mut self.kind {
            *state = next;
        }
    }

    fn attempt(&mut self, context: &mut Context, socket: Socket, peer: SocketAddr, failures: u32) -> Outcome {
        match net::begin_connect(&socket, peer) {
            Ok(_) => match context.watch(net::fd(&socket), Interest::Both, self.stream, Part::Source) {
                Ok(token) => {
                    // Completion shows as an edge of writability, also when it was immediate.
                    self.set_state(Active::Connecting { socket, token, peer, failures });
                    Outcome::Nothing
                }
                Err(e) => Outcome::Closed(net::reason(&e)),
            },
            Err(e) => self.rest(context, peer, failures + 1, &e),
        }
    }

    fn rest(&mut self, context: &mut Context, peer: SocketAddr, failures: u32, error: &io::Error) -> Outcome {
        if failures > RETRIES {
            self.set_state(Active::Done);
            return Outcome::Closed(net::reason(error));
        }
        let until_ms = context.now_ms + RETRY_MS;
        context.care_at(until_ms);
        self.set_state(Active::Resting { peer, failures, until_ms });
        Outcome::Nothing
    }

    /// Try again when the time has come.
    pub fn care(&mut self, context: &mut Context) -> Outcome {
        let Kind::Active { local, state: Active::Resting { peer, failures, until_ms } } = self.kind else {
            return Outcome::Nothing;
        };
        if context.now_ms < until_ms {
            context.care_at(until_ms);
            return Outcome::Nothing;
        }
        match net::bind_tcp(local) {
            Ok((socket, _)) => self.attempt(context, socket, peer, failures),
            Err(e) => self.rest(context, peer, failures + 1, &e),
        }
    }

    /// The connection attempt ended one way or the other.
    fn finish_connect(&mut self, context: &mut Context) -> Outcome {
        let Kind::Active { state, .. } = &mut self.kind else { return Outcome::Nothing };
        let Active::Connecting { socket, token, peer, failures } = std::mem::replace(state, Active::Done)
        else {
            return Outcome::Nothing;
        };
        match socket.take_error() {
            Ok(None) if socket.peer_addr().is_ok() => {
                self.connection = Some(Connection::new(socket, token, context.now_ms));
                Outcome::Connected
            }
            Ok(None) => {
                self.set_state(Active::Connecting { socket, token, peer, failures });
                Outcome::Nothing
            }
            Ok(Some(error)) | Err(error) => {
                context.forget(net::fd(&socket), token);
                drop(socket);
                self.rest(context, peer, failures + 1, &error)
            }
        }
    }

    fn is_connecting(&self) -> bool {
        matches!(self.kind, Kind::Active { state: Active::Connecting { .. }, .. })
    }

    /// Somebody connects to our listener. A second sender replaces the first only when that one is dead.
    pub fn accept(&mut self, context: &mut Context, ready: Ready, last_packet_ms: f64) -> Outcome {
        let mut outcome = Outcome::Nothing;
        for _ in 0..ACCEPTS {
            let Kind::Passive { listener, .. } = &self.kind else { return outcome };
            let socket = match net::accept(listener) {
                Ok(Some(socket)) => socket,
                Ok(None) => return outcome,
                Err(e) => return Outcome::Closed(net::reason(&e)),
            };
            if self.has_living_sender(context, last_packet_ms) {
                continue;
            }
            self.hang_up(context);
            let Ok(token) = context.watch(net::fd(&socket), Interest::Input, self.stream, Part::Source)
            else {
                continue;
            };
            self.connection = Some(Connection::new(socket, token, context.now_ms));
            outcome = Outcome::Connected;
        }
        context.unfinished.push(ready);
        outcome
    }

    /// A connection of the shared port showed that it is ours; false when a living sender keeps its place.
    pub fn adopt(&mut self, context: &mut Context, connection: Connection, last_packet_ms: f64) -> bool {
        if self.has_living_sender(context, last_packet_ms) {
            connection.forget(context);
            return false;
        }
        self.hang_up(context);
        context.hand_over(connection.token, self.stream, Part::Source);
        self.connection = Some(connection);
        true
    }

    fn has_living_sender(&self, context: &Context, last_packet_ms: f64) -> bool {
        self.connection
            .as_ref()
            .is_some_and(|c| context.now_ms - last_packet_ms.max(c.opened_ms) < SILENCE_MS)
    }

    /// Read what the source is ready for and hand every packet to `take`.
    pub fn read(
        &mut self,
        context: &mut Context,
        ready: Ready,
        take: &mut impl FnMut(&mut Context, &[u8]),
    ) -> Outcome {
        if self.is_connecting() {
            let outcome = self.finish_connect(context);
            if !matches!(outcome, Outcome::Connected) {
                return outcome;
            }
            // What came with the connection is read at the next turn, so that its event goes first.
            context.unfinished.push(ready);
            return outcome;
        }
        if let Kind::Udp { socket, .. } = &self.kind {
            read_udp(net::fd(socket), context, ready, take);
            return Outcome::Nothing;
        }
        match self.read_connection(context, ready, take) {
            Ok(()) => Outcome::Nothing,
            Err(word) => {
                self.hang_up(context);
                Outcome::Closed(word)
            }
        }
    }

    fn read_connection(
        &mut self,
        context: &mut Context,
        ready: Ready,
        take: &mut impl FnMut(&mut Context, &[u8]),
    ) -> std::result::Result<(), &'static str> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if connection.token != ready.token {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut context.tcp_buffer);
        let result = connection.read(context, &mut buffer, ready, take);
        context.tcp_buffer = buffer;
        result
    }

    fn hang_up(&mut self, context: &mut Context) {
        if let Some(connection) = self.connection.take() {
            connection.forget(context);
        }
    }

    /// Close every socket.
    pub fn close(mut self, context: &mut Context) {
        self.hang_up(context);
        match &self.kind {
            Kind::Udp { socket, token } => context.forget(net::fd(socket), *token),
            Kind::Passive { listener, token } => context.forget(net::fd(listener), *token),
            Kind::Active { state: Active::Connecting { socket, token, .. }, .. } => {
                context.forget(net::fd(socket), *token);
            }
            Kind::Active { .. } | Kind::Shared { .. } => {}
        }
    }
}

fn read_udp(fd: i32, context: &mut Context, ready: Ready, take: &mut impl FnMut(&mut Context, &[u8])) {
    let mut batch = context.recv.take().unwrap_or_default();
    let mut has_more = true;
    for _ in 0..TURNS {
        match batch.receive(fd) {
            Ok((count, more)) => {
                for index in 0..count {
                    let (bytes, segment) = batch.get(index);
                    bytes.chunks(segment).for_each(|packet| take(context, packet));
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
        context.unfinished.push(ready);
    }
    context.recv = Some(batch);
}
