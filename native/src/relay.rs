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

use crate::frame::{Codec, Frame};
use crate::gop::GopCache;
use crate::net::{self, Group, SendBatch};
use crate::packetizer::{Packetizer, Rewriter};
use crate::ps_mux::PsMuxer;
use crate::rtp;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;

/// Largest RTP packet of a group multiplexed anew.
const MTU: usize = 1400;

/// Bytes of the cached group sent in one tick over UDP: within what a receiver with the usual 208 KiB buffer holds.
const BURST_BYTES: usize = 48 << 10;

/// Bytes queued for a TCP peer that does not read.
const TCP_QUEUE_BYTES: usize = 4 << 20;

/// A TCP relay that left packets out goes on at any frame after this many without a recognisable key frame.
const FRAMES_WITHOUT_KEY: u32 = 250;

/// What begins with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Nothing,
    Frame,
    KeyFrame,
}

impl Start {
    /// Look at the first bytes of a payload. `is_new_time` tells a frame from its continuation in elementary streams.
    pub fn of(payload: &[u8], is_new_time: bool) -> Self {
        if payload.starts_with(&[0, 0, 1, 0xBA]) {
            let stuffing = payload.get(13).map_or(0, |b| usize::from(b & 7));
            let next = payload.get(14 + stuffing..18 + stuffing).unwrap_or(&[]);
            // A key frame brings the system header and the stream map (15.2 of the dossier, C.1 of the standard).
            return if matches!(next, [0, 0, 1, 0xBB | 0xBC]) { Self::KeyFrame } else { Self::Frame };
        }
        match payload.first() {
            // An H.264 sequence parameter set, an H.265 video parameter set.
            Some(&b) if is_new_time && (b & 0x9F == 0x07 || b == 0x40) => Self::KeyFrame,
            Some(_) if is_new_time => Self::Frame,
            _ => Self::Nothing,
        }
    }
}

#[derive(Clone, Copy)]
struct Packet {
    length: usize,
    /// The sender's number.
    sequence: u16,
    /// Packets that were lost before this one.
    gap: u32,
    start: Start,
}

/// Packets in order, back to back, to be sent by every relay of a stream.
#[derive(Default)]
pub struct Run {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
    groups: Vec<Group>,
}

impl Run {
    /// Append a packet; shorter than an RTP header it is left out.
    pub fn push(&mut self, packet: &[u8], gap: u32, start: Start) {
        if packet.len() < rtp::HEADER_SIZE {
            return;
        }
        self.bytes.extend_from_slice(packet);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        self.packets.push(Packet { length: packet.len(), sequence, gap, start });
        Group::append(&mut self.groups, packet.len());
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
        self.groups.clear();
    }
}

/// Frames multiplexed anew until the relay can change to forwarding.
struct Remux {
    muxer: PsMuxer,
    packetizer: Packetizer,
    /// Added to a frame's time it gives RTP timestamps that go on like the stream's own.
    timestamp_offset: u32,
    ps: Vec<u8>,
    rtp: Vec<u8>,
}

impl Remux {
    /// None when the group is empty or holds what our multiplexer does not carry.
    fn new(gop: &GopCache, last_timestamp: u32) -> Option<Box<Self>> {
        let video = gop.frames().find(|f| f.codec.is_video())?.codec;
        let audio = gop.frames().find(|f| f.codec.is_audio()).map(|f| f.codec);
        if !matches!(video, Codec::H264 | Codec::H265) {
            return None;
        }
        let newest = gop.frames().filter(|f| f.codec.is_video()).last()?.pts;
        Some(Self::of(video, audio, last_timestamp.wrapping_sub(newest as u32)))
    }

    fn of(video: Codec, audio: Option<Codec>, timestamp_offset: u32) -> Box<Self> {
        Box::new(Self {
            muxer: PsMuxer::new(Some(video), audio),
            packetizer: Packetizer::new(96, 0, 0, MTU),
            timestamp_offset,
            ps: Vec::new(),
            rtp: Vec::new(),
        })
    }

    /// One frame as packets whose identity is still to be written.
    fn packets(&mut self, frame: &Frame, into: &mut Run) {
        self.ps.clear();
        self.rtp.clear();
        self.muxer.write(frame, &mut self.ps);
        let timestamp = (frame.pts as u32).wrapping_add(self.timestamp_offset);
        let made = self.packetizer.packetize(&self.ps, timestamp, &mut self.rtp);
        let mut start = if frame.key { Start::KeyFrame } else { Start::Frame };
        for packet in self.rtp.chunks(made.size.max(1)) {
            into.push(packet, 0, start);
            start = Start::Nothing;
        }
    }
}

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
    /// Packets of the cached group that wait for their tick, and how many of them went.
    burst: Run,
    burst_sent: usize,
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
            burst: Run::default(),
            burst_sent: 0,
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
                    remux.packets(frame, &mut self.burst);
                }
                Mode::Remux(remux)
            }
        };
    }

    /// Take the relay out of service until `begin`.
    pub fn pause(&mut self) {
        self.mode = Mode::Idle;
        self.burst.clear();
        self.burst_sent = 0;
    }

    pub fn is_remuxing(&self) -> bool {
        matches!(self.mode, Mode::Remux(_))
    }

    /// A frame completed while the relay does not forward yet.
    pub fn push_frame(&mut self, frame: &Frame) {
        if let Mode::Remux(remux) = &mut self.mode {
            remux.packets(frame, &mut self.burst);
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
        self.burst_sent < self.burst.packets.len()
    }

    /// Send a part of the cached group; called once a tick.
    pub fn pump(&mut self, send: &mut SendBatch) {
        if !self.has_burst() {
            return;
        }
        let first = self.burst_sent;
        let start: usize = self.burst.packets[..first].iter().map(|p| p.length).sum();
        let (mut end, mut groups) = (start, Vec::new());
        while self.burst_sent < self.burst.packets.len() && end - start < BURST_BYTES {
            let length = self.burst.packets[self.burst_sent].length;
            self.rewriter.rewrite(&mut self.burst.bytes[end..end + length]);
            Group::append(&mut groups, length);
            end += length;
            self.burst_sent += 1;
        }
        let packets = &self.burst.packets[first..self.burst_sent];
        self.out.emit(&self.link, &self.burst.bytes[start..end], packets, &groups, send);
        if !self.has_burst() {
            self.burst.clear();
            self.burst_sent = 0;
        }
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

/// Framed packets that a TCP socket did not take yet.
#[derive(Default)]
struct TcpQueue {
    bytes: Vec<u8>,
    sent: usize,
    is_blocked: bool,
    is_dropping: bool,
    frames_dropped: u32,
}

impl TcpQueue {
    /// Queue one packet behind its RFC 4571 length, or leave it out while the peer is behind.
    fn push(&mut self, packet: &[u8], start: Start) {
        let Ok(length) = u16::try_from(packet.len()) else { return };
        let queued = self.bytes.len() - self.sent;
        if self.is_dropping {
            self.frames_dropped += u32::from(start != Start::Nothing);
            let may_resume =
                start == Start::KeyFrame || start == Start::Frame && self.frames_dropped > FRAMES_WITHOUT_KEY;
            self.is_dropping = !may_resume || queued > TCP_QUEUE_BYTES / 2;
        } else if queued + packet.len() > TCP_QUEUE_BYTES {
            self.is_dropping = true;
            self.frames_dropped = 0;
        }
        if !self.is_dropping {
            self.bytes.extend_from_slice(&length.to_be_bytes());
            self.bytes.extend_from_slice(packet);
        }
    }

    fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while !self.is_blocked && self.sent < self.bytes.len() {
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            match socket.send_with_flags(&self.bytes[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if net::is_blocked(&e) => self.is_blocked = true,
                Err(e) => return Err(e),
            }
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent > TCP_QUEUE_BYTES / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_key_frame_is_known_by_its_system_header() {
        let mut pack = vec![0, 0, 1, 0xBA, 0x44, 0, 4, 0, 4, 1, 0, 0, 3, 0xF8];
        assert_eq!(Start::of(&pack, true), Start::Frame);
        pack.extend([0, 0, 1, 0xBB]);
        assert_eq!(Start::of(&pack, true), Start::KeyFrame);
        assert_eq!(Start::of(&[0, 0, 1, 0xBA], true), Start::Frame);
        assert_eq!(Start::of(&[1, 2, 3], false), Start::Nothing);
        assert_eq!(Start::of(&[], true), Start::Nothing);
    }

    #[test]
    fn a_tcp_peer_that_does_not_read_is_given_whole_packets_from_the_next_key_frame() {
        let mut queue = TcpQueue::default();
        let packet = [7u8; 1400];
        while !queue.is_dropping {
            queue.push(&packet, Start::Frame);
        }
        assert!(queue.bytes.len() <= TCP_QUEUE_BYTES + 1500);
        assert_eq!(queue.bytes.len() % 1402, 0);
        queue.sent = queue.bytes.len();
        let before = queue.bytes.len();
        queue.push(&packet, Start::Frame);
        assert_eq!(queue.bytes.len(), before);
        queue.push(&packet, Start::KeyFrame);
        assert_eq!(queue.bytes.len(), before + 1402);
    }
}
