//! A camera's sending half: elementary frames in, program stream over RTP out.
//!
//! It is called from the threads of its owner and never blocks for long: UDP is sent in segmented batches, TCP waits
//! at most [`PATIENCE`] for a peer that does not read.
//!
//! Implements: GB/T 28181-2022 C.1 (PS over RTP), D (TCP, both roles), 4.3.6 (spreading of one frame's packets)

use crate::engine::Transport;
use crate::frame::Codec;
use crate::net::{self, Group, SendBatch};
use crate::packetizer::Packetizer;
use crate::ps_mux::PsMuxer;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A TCP peer that takes nothing for this long is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// After a failed connect: at least one second, three times (Annex D).
const RETRY: Duration = Duration::from_secs(1);
const RETRIES: u32 = 3;

/// Bytes that leave together when packets are spread: what the rate allows in this time.
const SPREAD_STEP_S: f64 = 0.002;

/// How to send.
#[derive(Clone, Copy, Debug)]
pub struct SenderOptions {
    pub transport: Transport,
    pub local: SocketAddr,
    pub ssrc: u32,
    pub video: Codec,
    pub audio: Option<Codec>,
    pub payload_type: u8,
    /// Peak rate in bits per second within a frame; 0 sends at once.
    pub rate_bps: u64,
    pub mtu: usize,
}

enum Link {
    /// UDP without a peer, or TCP active before `connect`.
    Bound(Socket),
    Udp(Socket),
    Listening(Socket),
    Connecting {
        socket: Socket,
        peer: SocketAddr,
        failures: u32,
    },
    Resting {
        peer: SocketAddr,
        failures: u32,
        until: Instant,
    },
    Connected(Socket),
    Closed,
}

/// One sender with its socket.
pub struct PsSender {
    options: SenderOptions,
    local_port: u16,
    link: Link,
    muxer: PsMuxer,
    packetizer: Packetizer,
    send: SendBatch,
    has_gso: bool,
    ps: Vec<u8>,
    out: Vec<u8>,
}

impl PsSender {
    pub fn new(options: SenderOptions) -> io::Result<Self> {
        let (socket, local_port) = match options.transport {
            Transport::Udp => net::bind_udp(options.local)?,
            Transport::TcpPassive | Transport::TcpActive => net::bind_tcp(options.local)?,
        };
        let link = match options.transport {
            Transport::TcpPassive => {
                socket.listen(1)?;
                Link::Listening(socket)
            }
            Transport::Udp | Transport::TcpActive => Link::Bound(socket),
        };
        Ok(Self {
            options,
            local_port,
            link,
            muxer: PsMuxer::new(Some(options.video), options.audio),
            packetizer: Packetizer::new(options.payload_type, options.ssrc, 0, options.mtu),
            send: SendBatch::new(),
            has_gso: true,
            ps: Vec::new(),
            out: Vec::new(),
        })
    }

    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    /// Name the receiver. Over TCP the connection comes about in the background, with the retries of Annex D.
    pub fn connect(&mut self, peer: SocketAddr) -> io::Result<()> {
        match (self.options.transport, std::mem::replace(&mut self.link, Link::Closed)) {
            (Transport::Udp, Link::Bound(socket) | Link::Udp(socket)) => {
                socket.connect(&peer.into())?;
                self.link = Link::Udp(socket);
                Ok(())
            }
            (Transport::TcpActive, Link::Bound(socket)) => self.attempt(socket, peer, 0),
            (_, link) => {
                self.link = link;
                Err(io::Error::new(io::ErrorKind::InvalidInput, "not a sender that connects"))
            }
        }
    }

    fn attempt(&mut self, socket: Socket, peer: SocketAddr, failures: u32) -> io::Result<()> {
        match net::begin_connect(&socket, peer) {
            Ok(_) => {
                self.link = Link::Connecting { socket, peer, failures };
                Ok(())
            }
            Err(e) => self.rest(peer, failures + 1, &e),
        }
    }

    fn rest(&mut self, peer: SocketAddr, failures: u32, error: &io::Error) -> io::Result<()> {
        if failures > RETRIES {
            self.link = Link::Closed;
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, net::reason(error)));
        }
        self.link = Link::Resting { peer, failures, until: Instant::now() + RETRY };
        Ok(())
    }

    /// Bring the connection forward; true when bytes can be sent.
    fn advance(&mut self) -> io::Result<bool> {
        match std::mem::replace(&mut self.link, Link::Closed) {
            Link::Listening(listener) => match net::accept(&listener)? {
                Some(peer) => self.link = Link::Connected(peer),
                None => self.link = Link::Listening(listener),
            },
            Link::Connecting { socket, peer, failures } => match socket.take_error()? {
                Some(error) => self.rest(peer, failures + 1, &error)?,
                None if socket.peer_addr().is_ok() => {
                    socket.set_tcp_nodelay(true)?;
                    self.link = Link::Connected(socket);
                }
                None => self.link = Link::Connecting { socket, peer, failures },
            },
            Link::Resting { peer, failures, until } => {
                if Instant::now() < until {
                    self.link = Link::Resting { peer, failures, until };
                } else {
                    let local = SocketAddr::new(self.options.local.ip(), self.local_port);
                    let (socket, _) = net::bind_tcp(local)?;
                    self.attempt(socket, peer, failures)?;
                }
            }
            Link::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
            link => self.link = link,
        }
        Ok(matches!(self.link, Link::Udp(_) | Link::Connected(_)))
    }

    /// Send one video access unit; returns the count of packets, 0 while nobody is connected.
    pub fn send_video(&mut self, annexb: &[u8], pts: u64, key: bool) -> io::Result<usize> {
        if !self.advance()? {
            return Ok(0);
        }
        self.ps.clear();
        self.muxer.write_video(annexb, pts, key, &mut self.ps);
        self.send_ps(pts)
    }

    /// Send one piece of audio.
    pub fn send_audio(&mut self, payload: &[u8], pts: u64) -> io::Result<usize> {
        if !self.advance()? {
            return Ok(0);
        }
        self.ps.clear();
        self.muxer.write_audio(payload, pts, &mut self.ps);
        self.send_ps(pts)
    }

    fn send_ps(&mut self, pts: u64) -> io::Result<usize> {
        self.out.clear();
        let timestamp = pts as u32;
        if matches!(self.link, Link::Connected(_)) {
            let count = self.packetizer.packetize_tcp(&self.ps, timestamp, &mut self.out);
            let sent = self.write_tcp();
            if sent.is_err() {
                self.link = Link::Closed;
            }
            return sent.map(|()| count);
        }
        let packets = self.packetizer.packetize(&self.ps, timestamp, &mut self.out);
        self.write_udp(packets.size.max(1));
        Ok(packets.count)
    }

    fn write_udp(&mut self, size: usize) {
        let Link::Udp(socket) = &self.link else { return };
        let fd = net::fd(socket);
        let step = match self.options.rate_bps {
            0 => self.out.len().max(1),
            rate => ((rate as f64 / 8.0 * SPREAD_STEP_S) as usize / size).max(1) * size,
        };
        let begun = Instant::now();
        for (index, part) in self.out.chunks(step).enumerate() {
            if index > 0 {
                let due_s = (index * step) as f64 * 8.0 / self.options.rate_bps as f64;
                std::thread::sleep(Duration::from_secs_f64(due_s).saturating_sub(begun.elapsed()));
            }
            let mut groups = Vec::new();
            part.chunks(size).for_each(|packet| Group::append(&mut groups, packet.len()));
            self.send.send(fd, part, &groups, &mut self.has_gso);
        }
    }

    fn write_tcp(&self) -> io::Result<()> {
        let Link::Connected(socket) = &self.link else { return Err(io::ErrorKind::BrokenPipe.into()) };
        if net::has_closed(socket) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            match socket.send_with_flags(rest, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) {
                Ok(count) => rest = &rest[count..],
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if net::is_blocked(&e) => net::wait_writable(net::fd(socket), PATIENCE)?,
                Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        Ok(())
    }

    pub fn close(&mut self) {
        self.link = Link::Closed;
    }
}
