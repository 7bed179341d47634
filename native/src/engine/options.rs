//! What the engine is told, and why it refuses.

use super::peers::WebrtcOptions;
use super::source::Transport;
use crate::webrtc::Refusal;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Bounds and times of one engine.
#[derive(Clone, Debug)]
pub struct Options {
    pub threads: usize,
    /// How long work is gathered.
    pub tick: Duration,
    /// The same while nobody waits for a picture.
    pub unwatched_tick: Duration,
    pub reorder_window: usize,
    pub gop_bytes: usize,
    pub viewer_queue_bytes: usize,
    pub viewer_stall_ms: f64,
    pub max_streams: usize,
    pub max_viewers: usize,
    /// Without it no browser is served by WebRTC.
    pub webrtc: Option<WebrtcOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 1,
            tick: Duration::from_millis(6),
            unwatched_tick: Duration::from_millis(20),
            // More than a key frame's packets: one that is overtaken by all of its frame is not lost.
            reorder_window: 512,
            gop_bytes: 8 << 20,
            viewer_queue_bytes: 4 << 20,
            viewer_stall_ms: 10_000.0,
            max_streams: 4096,
            max_viewers: 20_000,
            webrtc: None,
        }
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum EngineError {
    Io(io::Error),
    /// An argument is wrong, or does not fit the state.
    Invalid(&'static str),
    /// A stream of this name exists.
    Exists,
    /// No such stream, viewer or relay.
    Unknown,
    /// A bound of the engine is reached.
    Limit,
    /// A browser's offer gets no answer.
    Refused(Refusal),
    /// The engine was shut down, or its thread does not answer.
    Gone,
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub type Result<T> = std::result::Result<T, EngineError>;

/// How to relay a stream.
#[derive(Clone, Copy, Debug)]
pub struct RelayTarget {
    pub transport: Transport,
    pub peer: Option<SocketAddr>,
    pub local: SocketAddr,
    pub ssrc: u32,
    pub payload_type: u8,
}
