//! Where a stream goes: viewers by container, browsers by WebRTC, and relays.

use super::peers::Peers;
use super::pipeline::Sink;
use crate::frame::Frame;
use crate::gop::GopCache;
use crate::relay::{Relay, Run, Sending, Start};
use crate::rtp::{self, RtpPacket};
use crate::viewer::{Container, Track, Viewer};

/// Everybody in one container.
struct Audience {
    container: Container,
    track: Track,
    viewers: Vec<Viewer>,
}

/// All outlets of a stream.
#[derive(Default)]
pub struct Outlets {
    audiences: Vec<Audience>,
    pub relays: Vec<Relay>,
    pub peers: Peers,
    /// What is gathered for the relays; None when all is sent.
    run: Option<Run>,
    /// Packets missing before the next one of the run.
    gap: u32,
    last_timestamp: Option<u32>,
    /// A bare elementary stream: relays have agreed to program stream, and are given frames to multiplex.
    is_elementary: bool,
}

impl Outlets {
    pub fn viewers(&self) -> impl Iterator<Item = &Viewer> {
        self.audiences.iter().flat_map(|a| a.viewers.iter())
    }

    pub fn viewers_mut(&mut self) -> impl Iterator<Item = &mut Viewer> {
        self.audiences.iter_mut().flat_map(|a| a.viewers.iter_mut())
    }

    pub fn relay(&mut self, id: u64) -> Option<&mut Relay> {
        self.relays.iter_mut().find(|r| r.id == id)
    }

    /// Let a viewer in; it starts with the cached group.
    pub fn join(&mut self, mut viewer: Viewer, gop: &GopCache, gop_bytes: usize, now_ms: f64, wall_ms: u64) {
        let container = viewer.container;
        let index = self.audiences.iter().position(|a| a.container == container).unwrap_or_else(|| {
            let track = Track::new(container, gop, gop_bytes, wall_ms);
            self.audiences.push(Audience { container, track, viewers: Vec::new() });
            self.audiences.len() - 1
        });
        let audience = &mut self.audiences[index];
        viewer.join(&mut audience.track, now_ms);
        audience.viewers.push(viewer);
    }

    /// The stream ends: viewers get what was held back for them.
    pub fn finish(&mut self, now_ms: f64) {
        for audience in &mut self.audiences {
            audience.track.finish(&mut audience.viewers, now_ms);
        }
    }

    /// Take a viewer out; with the last of a container its track goes too.
    pub fn leave(&mut self, id: u64) -> Option<Viewer> {
        for (index, audience) in self.audiences.iter_mut().enumerate() {
            if let Some(at) = audience.viewers.iter().position(|v| v.id == id) {
                let viewer = audience.viewers.swap_remove(at);
                if audience.viewers.is_empty() {
                    self.audiences.swap_remove(index);
                }
                return Some(viewer);
            }
        }
        None
    }

    /// Send what has been gathered to all relays.
    pub fn forward(&mut self, sending: &mut Sending) {
        let Some(mut run) = self.run.take() else { return };
        for relay in &mut self.relays {
            relay.forward(&mut run, &mut sending.batch);
        }
        sending.take_back(run);
    }

    fn start_of(&self, packet: &RtpPacket<'_>) -> Start {
        Start::of(packet.payload, self.last_timestamp != Some(packet.timestamp))
    }

    fn gather(&mut self, packet: &[u8], sending: &mut Sending) {
        let Ok(header) = rtp::parse(packet) else { return };
        let start = self.start_of(&header);
        self.last_timestamp = Some(header.timestamp);
        let run = self.run.get_or_insert_with(|| sending.lend());
        run.push(packet, std::mem::take(&mut self.gap), start);
        if run.is_full() {
            self.forward(sending);
        }
    }
}

/// Outlets in the act of taking what the pipeline gives.
pub struct Delivery<'a> {
    pub outlets: &'a mut Outlets,
    pub sending: &'a mut Sending,
    pub now_ms: f64,
}

impl Sink for Delivery<'_> {
    /// A relay that sends frames multiplexed anew goes over to packets where a key frame of program stream begins.
    fn turns_at(&mut self, packet: &RtpPacket<'_>) -> bool {
        packet.payload.starts_with(&[0, 0, 1, 0xBA])
            && self.outlets.relays.iter().any(Relay::is_remuxing)
            && self.outlets.start_of(packet) == Start::KeyFrame
    }

    fn turn(&mut self) {
        // What was gathered belongs to the relays that forward already.
        self.outlets.forward(self.sending);
        self.outlets.relays.iter_mut().for_each(|r| r.change_to_forward(&mut self.sending.batch));
    }

    fn packet(&mut self, packet: &[u8], is_elementary: bool) {
        self.outlets.is_elementary = is_elementary;
        if !is_elementary && !self.outlets.relays.is_empty() {
            self.outlets.gather(packet, self.sending);
        }
    }

    fn loss(&mut self, count: u32) {
        self.outlets.gap = self.outlets.gap.saturating_add(count);
    }

    fn frame(&mut self, frame: &Frame) {
        for audience in &mut self.outlets.audiences {
            audience.track.push(frame, &mut audience.viewers, self.now_ms);
        }
        for relay in &mut self.outlets.relays {
            if self.outlets.is_elementary && frame.key && frame.codec.is_video() {
                relay.change_to_frames(frame.codec);
            }
            relay.push_frame(frame);
        }
        self.outlets.peers.take(frame);
    }
}
