//! A stream passed on to another platform, as RTP with an SSRC of its own.
//!
//! Packets are forwarded as they come, in order, with SSRC, payload type and sequence number rewritten; gaps in the
//! sequence are kept, so that the receiver can see what was lost before us. A relay that joins a running stream would
//! start in the middle of a group of pictures: it is first given the cached group, multiplexed anew and spread over
//! ticks, then each frame as it completes, and changes to forwarding at the next key frame. A stream whose codec we
//! cannot multiplex (SVAC, unknown) is forwarded at once.
//!
//! Over TCP the queue is bounded: when it is full whole packets are left out until the next key frame begins.
//!
//! Implements: GB/T 28181-2022 C.1 (RTP), D (RTP over TCP, both roles)

mod burst;
mod remux;
mod run;
mod tcp_queue;

pub use run::{Run, Sending, Start};

use crate::frame::{Codec, Frame};
use crate::gop::GopCache;
use crate::net::{self, Group, SendBatch};
use crate::packetizer::Rewriter;
use burst::Burst;
use remux::Remux;
use run::Packet;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use tcp_queue::TcpQueue;

/// What the relay sends at present.
enum Mode {
    /// Nobody is connected yet.
    Idle,
    Remux(Box<Remux>),
    Forward,
}

/// How the relay's packets leave.
pub enum Link {
    Udp(Socket),
    Listening(Socket),
    Connecting {
        socket: Socket,
        target: Target,
    },
    /// A connection failed; the next attempt begins at the time given.
    Resting {
        target: Target,
        until_ms: f64,
    },
    Connected(Socket),
}

/// Where a TCP relay connects, and how often that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub local: SocketAddr,
    pub peer: SocketAddr,
    pub failures: u32,
}

/// How a relay numbers what it passes on: its next sequence number, and that of the sender's packet that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub own: u16,
    pub sender: u16,
}

/// One relay of a stream.
pub struct Relay {
    pub id: u64,
    pub token: u64,
    pub link: Link,
    mode: Mode,
    rewriter: Rewriter,
    /// The sender's number that is expected next, once packets are passed on.
    next_sequence: Option<u16>,
    /// Packets of the cached group, and of what follows it, that wait for their tick.
    burst: Burst,
    out: Output,
}

impl Relay {
    pub fn new(id: u64, link: Link, ssrc: u32, payload_type: u8) -> Self {
        Self {
            id,
            token: 0,
            link,
            mode: Mode::Idle,
            rewriter: Rewriter::new(ssrc, payload_type, 0),
            next_sequence: None,
            burst: Burst::default(),
            out: Output { has_gso: true, tcp: TcpQueue::default() },
        }
    }

    /// Start sending on a link that can: from the cached group, or with the next packet when there is none.
    pub fn begin(&mut self, gop: &GopCache, last_timestamp: u32) {
        self.out.tcp = TcpQueue::default();
        self.next_sequence = None;
        self.mode = match Remux::new(gop, last_timestamp) {
            None => Mode::Forward,
            Some(mut remux) => {
                for frame in gop.frames() {
                    remux.packets(frame, &mut |packet, start| self.burst.push(packet, start));
                }
                Mode::Remux(remux)
            }
        };
    }

    pub fn is_remuxing(&self) -> bool {
        matches!(self.mode, Mode::Remux(_))
    }

    /// A frame completed while the relay does not forward yet.
    pub fn push_frame(&mut self, frame: &Frame) {
        let Mode::Remux(remux) = &mut self.mode else { return };
        if self.burst.takes(frame) {
            remux.packets(frame, &mut |packet, start| self.burst.push(packet, start));
        }
    }

    /// The next packet begins a key frame: from here on packets are forwarded as they are.
    pub fn change_to_forward(&mut self, send: &mut SendBatch) {
        if self.is_remuxing() {
            while self.has_burst() {
                self.pump(send);
            }
            self.mode = Mode::Forward;
        }
    }

    /// The stream is a bare elementary one, which nobody agreed to: from this key frame on it is multiplexed.
    pub fn change_to_frames(&mut self, video: Codec) {
        if matches!(self.mode, Mode::Forward) && matches!(video, Codec::H264 | Codec::H265) {
            self.mode = Mode::Remux(Remux::of(video, None, 0));
        }
    }

    /// How packets are numbered; None while none are passed on as they come.
    pub fn numbers(&self) -> Option<Numbers> {
        let sender = self.next_sequence.filter(|_| matches!(self.mode, Mode::Forward))?;
        Some(Numbers { own: self.rewriter.sequence(), sender })
    }

    pub fn has_burst(&self) -> bool {
        !self.burst.is_empty()
    }

    /// Send a part of the cached group; called once a tick.
    pub fn pump(&mut self, send: &mut SendBatch) {
        let part = self.burst.next(&mut self.rewriter);
        self.out.emit(&self.link, part.bytes, part.packets, &part.groups, send);
        self.burst.let_go();
    }

    /// Forward a run of the stream's packets; their headers are overwritten.
    pub fn forward(&mut self, run: &mut Run, send: &mut SendBatch) {
        if !matches!(self.mode, Mode::Forward) {
            return;
        }
        let Run { bytes, packets, groups } = run;
        let mut at = 0;
        for packet in packets.iter() {
            self.rewriter.skip(packet.gap);
            self.rewriter.rewrite(&mut bytes[at..at + packet.length]);
            at += packet.length;
            self.next_sequence = Some(packet.sequence.wrapping_add(1));
        }
        self.out.emit(&self.link, bytes, packets, groups, send);
    }

    /// The TCP socket can take bytes again.
    pub fn unblock(&mut self) {
        self.out.tcp.is_blocked = false;
    }

    /// Write what is queued for a TCP peer.
    pub fn flush(&mut self) -> io::Result<()> {
        match &self.link {
            Link::Connected(socket) => self.out.tcp.flush(socket),
            _ => Ok(()),
        }
    }

    /// The socket of the link, when it has one.
    pub fn socket(&self) -> Option<&Socket> {
        match &self.link {
            Link::Udp(socket) | Link::Listening(socket) | Link::Connected(socket) => Some(socket),
            Link::Connecting { socket, .. } => Some(socket),
            Link::Resting { .. } => None,
        }
    }
}

/// What a relay's packets pass on their way out.
struct Output {
    has_gso: bool,
    tcp: TcpQueue,
}

impl Output {
    fn emit(
        &mut self,
        link: &Link,
        bytes: &[u8],
        packets: &[Packet],
        groups: &[Group],
        send: &mut SendBatch,
    ) {
        match link {
            // What the kernel refuses is lost as on any network; the receiver sees the gap.
            Link::Udp(socket) => {
                send.send(net::fd(socket), bytes, groups, &mut self.has_gso);
            }
            Link::Connected(_) => {
                let mut at = 0;
                for packet in packets {
                    self.tcp.push(&bytes[at..at + packet.length], packet.start);
                    at += packet.length;
                }
            }
            Link::Listening(_) | Link::Connecting { .. } | Link::Resting { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp;

    /// What a relay in forwarding mode sends for a run, received on a socket of its own.
    fn forwarded(relay: &mut Relay, receiver: &Socket, run: &mut Run) -> Vec<Vec<u8>> {
        relay.forward(run, &mut SendBatch::new());
        let mut batch = net::RecvBatch::new();
        let (count, _) = batch.receive(net::fd(receiver)).unwrap();
        (0..count).map(|i| batch.get(i).0.to_vec()).collect()
    }

    #[test]
    fn forwarded_packets_carry_our_identity_and_keep_the_gaps_of_theirs() {
        let (receiver, port) = net::bind_udp(([127, 0, 0, 1], 0).into()).unwrap();
        let (socket, _) = net::bind_udp(([127, 0, 0, 1], 0).into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        let mut relay = Relay::new(1, Link::Udp(socket), 77, 98);
        relay.begin(&GopCache::new(0), 0);
        let mut run = Run::default();
        for (sequence, gap) in [(500, 0), (501, 0), (504, 2)] {
            let packet = [&rtp::write_header(true, 96, sequence, 9, 5)[..], b"payload"].concat();
            run.push(&packet, gap, Start::Frame);
        }
        let received = forwarded(&mut relay, &receiver, &mut run);
        let parsed: Vec<_> = received.iter().map(|p| rtp::parse(p).unwrap()).collect();
        assert_eq!(parsed.iter().map(|p| p.sequence).collect::<Vec<_>>(), [0, 1, 4]);
        assert!(parsed.iter().all(|p| (p.ssrc, p.payload_type, p.timestamp, p.marker) == (77, 98, 9, true)));
        assert_eq!(relay.numbers(), Some(Numbers { own: 5, sender: 505 }));
    }
}
