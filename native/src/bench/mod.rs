//! Measurements of the engine beside the bare system calls that do the same, in the same run.
//!
//! Cases: `raw_recv` (epoll and recvmmsg, woken for every arrival), `ingest` (the engine: demultiplexed and cached),
//! `raw_relay` (recvmmsg and sendmmsg), `relay` (the engine), `raw_fanout` (writev of the same bytes to every
//! socket), `fanout` (the engine, HTTP-FLV). Load comes from a thread on another core: cameras of real PS over RTP,
//! each frame in one segmented send (`gso` 1) or packet by packet, spread over time (`gso` 0). CPU is that of the
//! receiving threads alone.
//!
//! Without a bare loop beside them: `delay` (a frame's last packet in to its last byte at a viewer), `idle` (streams
//! open, nothing sent), `memory` (what a stream with its group of pictures adds), `slow_viewer` (one that never reads
//! among those that do).
//!
//! Figures: `cpu_s`, `gbit`, `cpu_s_per_gbit`, `seconds`, `packets`, `kernel_drops`, `backlog_start_bytes`,
//! `backlog_end_bytes`, `offered_gbit`, and of the engine `frames`, `lost`, `skipped`.

mod bare;
mod cases;
mod generator;
mod latency;

pub use cases::run;

use std::collections::HashMap;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    RawRecv,
    Ingest,
    RawRelay,
    Relay,
    RawFanout,
    Fanout,
    Delay,
    Idle,
    Memory,
    SlowViewer,
}

impl Case {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "raw_recv" => Self::RawRecv,
            "ingest" => Self::Ingest,
            "raw_relay" => Self::RawRelay,
            "relay" => Self::Relay,
            "raw_fanout" => Self::RawFanout,
            "fanout" => Self::Fanout,
            "delay" => Self::Delay,
            "idle" => Self::Idle,
            "memory" => Self::Memory,
            "slow_viewer" => Self::SlowViewer,
            _ => return None,
        })
    }
}

/// Size and length of one round.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    pub streams: usize,
    pub rate_mbps: f64,
    pub seconds: f64,
    pub viewers: usize,
    pub tick_ms: u64,
    pub gso: bool,
    /// Gather as if somebody watched.
    pub watched: bool,
    /// The core measured, and the core of generator and receivers.
    pub core: usize,
    pub load_core: usize,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            streams: 200,
            rate_mbps: 4.0,
            seconds: 3.0,
            viewers: 100,
            tick_ms: 6,
            gso: true,
            watched: false,
            core: 0,
            load_core: 1,
        }
    }
}

impl BenchOptions {
    /// Options by name over the defaults; an unknown name is the error.
    pub fn from_map(map: &HashMap<String, f64>) -> Result<Self, String> {
        let mut options = Self::default();
        for (name, &value) in map {
            match name.as_str() {
                "streams" => options.streams = (value as usize).clamp(1, 2000),
                "rate_mbps" => options.rate_mbps = value.clamp(0.1, 100.0),
                "seconds" => options.seconds = value.clamp(0.1, 60.0),
                "viewers" => options.viewers = (value as usize).clamp(1, 5000),
                "tick_ms" => options.tick_ms = (value as u64).clamp(1, 20),
                "gso" => options.gso = value != 0.0,
                "watched" => options.watched = value != 0.0,
                "core" => options.core = value as usize,
                "load_core" => options.load_core = value as usize,
                _ => return Err(name.clone()),
            }
        }
        Ok(options)
    }
}
