//! What the engine tells Python: a bounded ring and an eventfd, so that no packet thread ever calls Python.

use crate::net::EventFd;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Events kept for a reader that is late; the oldest go first, since the newest state counts.
const RING_EVENTS: usize = 16_384;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    FirstPacket,
    FirstKeyFrame,
    /// Somebody who watches needs a key frame that only the sender can make.
    KeyWanted,
    Codec,
    Connected,
    PeerClosed,
    ViewerClosed,
    RelayClosed,
    Error,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstPacket => "first_packet",
            Self::FirstKeyFrame => "first_key_frame",
            Self::KeyWanted => "key_frame_wanted",
            Self::Codec => "codec",
            Self::Connected => "connected",
            Self::PeerClosed => "peer_closed",
            Self::ViewerClosed => "viewer_closed",
            Self::RelayClosed => "relay_closed",
            Self::Error => "error",
        }
    }
}

/// One event of a stream, a viewer or a relay.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: Kind,
    pub stream: Arc<str>,
    /// Viewer or relay; 0 for the stream itself.
    pub id: u64,
    pub at_ms: f64,
    pub detail: Cow<'static, str>,
}

/// Bounded queue of events, written by packet threads, read by Python.
pub struct EventRing {
    queue: Mutex<VecDeque<Event>>,
    wake: EventFd,
}

impl EventRing {
    pub fn new() -> io::Result<Self> {
        Ok(Self { queue: Mutex::new(VecDeque::new()), wake: EventFd::new()? })
    }

    /// Descriptor that is readable while events wait.
    pub fn fd(&self) -> RawFd {
        self.wake.fd()
    }

    pub fn push(&self, event: Event) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() == RING_EVENTS {
            queue.pop_front();
        }
        queue.push_back(event);
        self.wake.signal();
    }

    /// Take up to `limit` events, oldest first.
    pub fn take(&self, limit: usize) -> Vec<Event> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = limit.min(queue.len());
        let taken = queue.drain(..count).collect();
        // Cleared under the lock, so that an event pushed meanwhile cannot lose its signal.
        if queue.is_empty() {
            self.wake.clear();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_nobody_reads_keeps_the_newest_events() {
        let ring = EventRing::new().unwrap();
        let stream: Arc<str> = "a".into();
        for id in 0..RING_EVENTS as u64 + 10 {
            ring.push(Event { kind: Kind::Error, stream: stream.clone(), id, at_ms: 0.0, detail: "".into() });
        }
        let taken = ring.take(usize::MAX);
        assert_eq!(taken.len(), RING_EVENTS);
        assert_eq!(taken.last().unwrap().id, RING_EVENTS as u64 + 9);
    }
}
