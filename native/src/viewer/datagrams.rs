//! A viewer's packets over UDP: what was interleaved is taken apart, one datagram each, a little at a time.
//!
//! After: RFC 2326 10.12, 12.39 (transport), RFC 3550 6.4.2, 6.6 (receiver reports, BYE)
//!
//! Each pair of sockets is connected to the viewer's ports, so that nothing goes anywhere else and nothing comes from
//! anywhere else. A datagram that the kernel does not take is lost as on any network: nobody waits. Who falls silent, by
//! his reports and by his requests, is gone.

use crate::net;
use bytes::Bytes;
use socket2::Socket;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::RawFd;

/// How often what waits is sent on.
pub const PACE_MS: f64 = 4.0;

/// A cached group is sent at 64 Mbit/s, in bursts that the socket of a player holds.
const PACE_BYTES_A_MS: f64 = 8192.0;
const BURST_BYTES: f64 = 32_768.0;

/// Reports taken from one socket in one turn; a player sends one every few seconds.
const REPORT_READS: usize = 16;
const REPORT_BYTES: usize = 1500;

/// Magic, channel and length before each packet.
const INTERLEAVED_HEAD: usize = 4;
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;

/// The sockets of one track.
#[derive(Debug)]
pub struct PortPair {
    /// The channel of its RTP; RTCP is on the next one.
    pub channel: u8,
    pub rtp: Socket,
    pub rtcp: Socket,
}

/// What a viewer told of its reception last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reported {
    /// Of the packets since its report before, 0 to 1.
    pub loss_rate: f64,
    /// Of all packets; negative when some came twice.
    pub lost: i32,
    /// In ticks of the track's clock.
    pub jitter: u32,
}

/// A viewer's ports, and what waits for them.
#[derive(Debug)]
pub struct Datagrams {
    pairs: Vec<PortPair>,
    /// Frames as interleaved packets; of the first, so much has gone.
    queue: VecDeque<Bytes>,
    front_sent: usize,
    allowance: f64,
    paced_ms: Option<f64>,
    silence_ms: f64,
    heard_ms: f64,
    pub reported: Option<Reported>,
}

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Bytes that wait no more.
    pub taken: usize,
    /// Bytes of the datagrams that the kernel took.
    pub sent: usize,
}

impl Datagrams {
    pub fn new(pairs: Vec<PortPair>, silence_ms: f64) -> Self {
        Self {
            pairs,
            queue: VecDeque::new(),
            front_sent: 0,
            allowance: BURST_BYTES,
            paced_ms: None,
            silence_ms,
            heard_ms: 0.0,
            reported: None,
        }
    }

    /// The descriptors that reports come by.
    pub fn report_fds(&self) -> Vec<RawFd> {
        self.pairs.iter().map(|pair| net::fd(&pair.rtcp)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Queue a frame's packets.
    pub fn push(&mut self, packets: Bytes) {
        self.queue.push_back(packets);
    }

    /// Drop the frames that have not begun to be sent; how many.
    pub fn skip(&mut self) -> u64 {
        let kept = usize::from(self.front_sent > 0);
        let dropped = self.queue.len().saturating_sub(kept);
        self.queue.truncate(kept);
        dropped as u64
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.queue.iter().map(Bytes::len).sum::<usize>() - self.front_sent
    }

    /// The viewer said something.
    pub fn heard(&mut self, now_ms: f64) {
        self.heard_ms = now_ms;
    }

    /// When the viewer is given up, unless it says something before.
    pub fn silent_at_ms(&self) -> f64 {
        self.heard_ms + self.silence_ms
    }

    /// Send as much as may go by now.
    pub fn flush(&mut self, now_ms: f64) -> Flushed {
        let passed_ms = now_ms - self.paced_ms.replace(now_ms).unwrap_or(now_ms);
        self.allowance = (self.allowance + passed_ms.max(0.0) * PACE_BYTES_A_MS).min(BURST_BYTES);
        let mut flushed = Flushed::default();
        while self.allowance > 0.0 {
            let Some(front) = self.queue.front() else { break };
            let Some((channel, packet)) = first_packet(&front[self.front_sent..]) else {
                flushed.taken += front.len() - self.front_sent;
                self.front_sent = 0;
                self.queue.pop_front();
                continue;
            };
            if self.send(channel, packet) {
                flushed.sent += packet.len();
            }
            let step = INTERLEAVED_HEAD + packet.len();
            self.allowance -= step as f64;
            flushed.taken += step;
            self.front_sent += step;
        }
        flushed
    }

    /// Whether the kernel took it.
    fn send(&self, channel: u8, packet: &[u8]) -> bool {
        let Some(pair) = self.pairs.iter().find(|pair| pair.channel == channel & !1) else { return false };
        let socket = if channel & 1 == 0 { &pair.rtp } else { &pair.rtcp };
        match socket.send_with_flags(packet, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
            Ok(_) => true,
            // It tells of a datagram before: this one was not tried.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                socket.send_with_flags(packet, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).is_ok()
            }
            Err(_) => false,
        }
    }

    /// Read what the viewer reported.
    pub fn hear(&mut self, now_ms: f64) {
        let mut data = [0; REPORT_BYTES];
        for pair in &self.pairs {
            for _ in 0..REPORT_READS {
                match (&pair.rtcp).read(&mut data) {
                    Ok(length) => {
                        if let Some(reported) = read_report(&data[..length]) {
                            self.heard_ms = now_ms;
                            self.reported = reported.or(self.reported);
                        }
                    }
                    Err(e) if net::is_blocked(&e) => break,
                    Err(_) => {} // what an earlier datagram of ours brought back
                }
            }
        }
    }

    /// Tell that no more will come: a player then ends in order.
    pub fn bye(&self) {
        for pair in &self.pairs {
            let ssrc = crate::rtp_tracks::ssrc_of(pair.channel).to_be_bytes();
            let packet = [&[0x80, RECEIVER_REPORT, 0, 1][..], &ssrc, &[0x81, 203, 0, 1], &ssrc].concat();
            self.send(pair.channel + 1, &packet);
        }
    }
}

/// The first of some interleaved packets, with its channel.
fn first_packet(data: &[u8]) -> Option<(u8, &[u8])> {
    let [b'$', channel, high, low, rest @ ..] = data else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    rest.get(..length).map(|packet| (*channel, packet))
}

/// Read one datagram of RTCP: None when it is none, Some(None) when it reports on nothing.
pub fn read_report(data: &[u8]) -> Option<Option<Reported>> {
    let (mut rest, mut reported, mut is_first) = (data, None, true);
    while !rest.is_empty() {
        let [flags, kind, high, low, ..] = *rest else { return None };
        let length = 4 * (1 + usize::from(u16::from_be_bytes([high, low])));
        if flags >> 6 != 2 || length > rest.len() || (is_first && !matches!(kind, 200 | 201)) {
            return None;
        }
        let (packet, behind) = rest.split_at(length);
        let head = if kind == SENDER_REPORT { 28 } else { 8 };
        if matches!(kind, SENDER_REPORT | RECEIVER_REPORT) && flags & 0x1F > 0 {
            if let Some([_, _, _, _, fraction, lost @ .., _, _, _, _, j0, j1, j2, j3]) =
                packet.get(head..head + 16)
            {
                let [a, b, c, ..] = *lost else { return None };
                reported = Some(Reported {
                    loss_rate: f64::from(*fraction) / 256.0,
                    lost: i32::from_be_bytes([a, b, c, 0]) >> 8,
                    jitter: u32::from_be_bytes([*j0, *j1, *j2, *j3]),
                });
            }
        }
        (rest, is_first) = (behind, false);
    }
    (!is_first).then_some(reported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bind_udp;
    use std::net::SocketAddr;

    fn joined() -> (PortPair, Socket, Socket) {
        let bound = || bind_udp(([127, 0, 0, 1], 0).into()).unwrap();
        let ((rtp, a), (rtcp, b), (their_rtp, c), (their_rtcp, d)) = (bound(), bound(), bound(), bound());
        let join =
            |socket: &Socket, port: u16| socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into());
        join(&rtp, c).unwrap();
        join(&rtcp, d).unwrap();
        join(&their_rtp, a).unwrap();
        join(&their_rtcp, b).unwrap();
        (PortPair { channel: 0, rtp, rtcp }, their_rtp, their_rtcp)
    }

    fn interleaved(channel: u8, length: usize, count: usize) -> Bytes {
        let [high, low] = (length as u16).to_be_bytes();
        let mut packet = vec![b'$', channel, high, low];
        packet.resize(INTERLEAVED_HEAD + length, 7);
        Bytes::from(packet.repeat(count))
    }

    fn lengths(socket: &Socket) -> Vec<usize> {
        let mut data = [0; 2000];
        std::iter::from_fn(|| (&*socket).read(&mut data).ok()).collect()
    }

    #[test]
    fn each_packet_goes_to_the_port_of_its_channel_and_no_more_than_the_pace_allows() {
        let (pair, their_rtp, their_rtcp) = joined();
        let mut datagrams = Datagrams::new(vec![pair], 1000.0);
        datagrams.push(interleaved(1, 28, 1));
        datagrams.push(interleaved(0, 1000, 40));
        datagrams.push(interleaved(2, 100, 1)); // a track that was not set up
        let all = datagrams.queued_bytes();
        let first = datagrams.flush(0.0);
        assert_eq!((lengths(&their_rtcp), lengths(&their_rtp)), (vec![28], vec![1000; 33]));
        assert_eq!(first, Flushed { taken: 32 + 33 * 1004, sent: 28 + 33_000 });
        assert_eq!(datagrams.flush(0.0), Flushed::default());
        assert_eq!(datagrams.skip(), 1, "what was begun is finished");
        assert_eq!(datagrams.queued_bytes(), all - first.taken - 104);
        let rest = datagrams.flush(4.0);
        assert_eq!((rest.sent, datagrams.is_empty(), lengths(&their_rtp)), (7000, true, vec![1000; 7]));
    }

    #[test]
    fn a_port_that_nobody_has_costs_nothing_but_its_datagrams() {
        let (pair, their_rtp, _their_rtcp) = joined();
        drop(their_rtp);
        let mut datagrams = Datagrams::new(vec![pair], 1000.0);
        for n in 0..50 {
            datagrams.push(interleaved(0, 1000, 1));
            datagrams.flush(f64::from(n));
        }
        assert!(datagrams.is_empty());
    }

    #[test]
    fn reports_are_heard_and_silence_is_noticed() {
        let (pair, _their_rtp, their_rtcp) = joined();
        let mut datagrams = Datagrams::new(vec![pair], 1000.0);
        datagrams.heard(500.0);
        assert_eq!(datagrams.silent_at_ms(), 1500.0);
        their_rtcp.send(b"no report").unwrap();
        datagrams.hear(800.0);
        assert_eq!((datagrams.silent_at_ms(), datagrams.reported), (1500.0, None));
        their_rtcp.send(&report()).unwrap();
        datagrams.hear(900.0);
        assert_eq!(datagrams.silent_at_ms(), 1900.0);
        assert_eq!(datagrams.reported, Some(Reported { loss_rate: 0.25, lost: -2, jitter: 10 }));
        datagrams.bye();
        assert_eq!(lengths(&their_rtcp), [16]);
    }

    fn report() -> Vec<u8> {
        let mut packet = vec![0x81, RECEIVER_REPORT, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1, 64, 0xFF, 0xFF, 0xFE];
        packet.extend([0, 0, 0, 100, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([0x81, 202, 0, 1, 0, 0, 0, 9]); // a description behind it
        packet
    }

    #[test]
    fn what_is_no_report_is_told_from_one_that_says_nothing() {
        assert_eq!(read_report(&[0x80, RECEIVER_REPORT, 0, 1, 0, 0, 0, 0]), Some(None));
        for bad in [&[][..], &[0x80], &[0x80, 201, 0, 2, 0, 0, 0, 0], &[0x40, 201, 0, 0], &[0x80, 203, 0, 0]]
        {
            assert_eq!(read_report(bad), None);
        }
        let report = report();
        for length in 0..report.len() {
            assert!(!matches!(read_report(&report[..length]), Some(None)), "{length}");
        }
    }
}
