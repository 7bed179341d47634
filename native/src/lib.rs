//! The native media engine: it moves bytes and decides nothing.
//!
//! Pure codecs (plain functions and state machines over byte slices, no I/O, no clock) stand in the first group;
//! the second group owns sockets and threads. Arrows point from the second group to the first.

// Codecs: no I/O, no clock, no threads.
pub mod adts;
pub mod demux;
pub mod es;
pub mod flv;
pub mod fmp4;
pub mod frame;
mod frame_buffer;
pub mod gop;
pub mod nal;
pub mod packetizer;
pub mod ps_demux;
pub mod ps_mux;
pub mod reorder;
pub mod rtp;
pub mod rtp_payload;
pub mod rtp_tracks;
pub mod tcp_framing;
pub mod timeline;
pub mod webrtc;

// Engine: sockets and threads.
pub mod bench;
pub mod engine;
pub mod events;
pub mod net;
pub mod relay;
pub mod sender;
pub mod viewer;

#[cfg(feature = "pyo3")]
mod py;
