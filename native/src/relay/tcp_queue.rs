//! The bounded queue of a relay over TCP: whole packets, each behind its length.
//!
//! Implements: GB/T 28181-2022 D (RTP over TCP)

use super::run::Start;
use crate::net;
use socket2::Socket;
use std::io;

/// Bytes queued for a TCP peer that does not read.
const TCP_QUEUE_BYTES: usize = 4 << 20;

/// A TCP relay that left packets out goes on at any frame after this many without a recognisable key frame.
const FRAMES_WITHOUT_KEY: u32 = 250;

/// Framed packets that a TCP socket did not take yet.
#[derive(Default)]
pub(super) struct TcpQueue {
    bytes: Vec<u8>,
    sent: usize,
    pub is_blocked: bool,
    is_dropping: bool,
    frames_dropped: u32,
}

impl TcpQueue {
    /// Queue one packet behind its RFC 4571 length, or leave it out while the peer is behind.
    pub fn push(&mut self, packet: &[u8], start: Start) {
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

    pub fn flush(&mut self, socket: &Socket) -> io::Result<()> {
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
