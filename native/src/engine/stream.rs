//! One stream on its packet thread: source, pipeline, outlets, and what they tell each other.

use super::connection::Connection;
use super::context::{Context, Part};
use super::figures::StreamStats;
use super::outlets::{Delivery, Outlets};
use super::pipeline::Pipeline;
use super::source::{Outcome, Source};
use super::Result;
use crate::demux::PayloadType;
use crate::events::Kind;
use crate::net::{self, Ready};
use crate::viewer::Ending;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who joined and found no key frame waits so long for one before the sender should be asked, and then again.
const DARK_MS: f64 = 1_000.0;

/// Wishes for a key frame are told at most once in this time, however many watch.
const WISH_MS: f64 = 500.0;

/// One stream.
pub struct Stream {
    pub name: Arc<str>,
    pub(super) key: u64,
    pub(super) source: Source,
    pub(super) pipeline: Pipeline,
    pub(super) outlets: Outlets,
    pub(super) opened_ms: f64,
    /// Since when somebody watches who had no key frame to start from.
    dark_since_ms: Option<f64>,
    last_wish_ms: Option<f64>,
}

impl Stream {
    /// A stream of a source that is open.
    pub fn new(context: &Context, name: Arc<str>, key: u64, source: Source, ssrc: Option<u32>) -> Self {
        let options = &context.options;
        let pipeline = Pipeline::new(ssrc, options.reorder_window, options.gop_bytes);
        let opened_ms = context.now_ms;
        let outlets = Outlets::default();
        Self { name, key, source, pipeline, outlets, opened_ms, dark_since_ms: None, last_wish_ms: None }
    }

    /// The port it shares with others.
    pub fn shared_port(&self) -> Option<u64> {
        self.source.shared_port()
    }

    pub fn set_payload_types(&mut self, types: Vec<PayloadType>) {
        self.pipeline.set_payload_types(types);
    }

    pub fn set_ssrc(&mut self, ssrc: Option<u32>) {
        self.pipeline.set_ssrc(ssrc);
    }

    /// Hold pictures back from now on; the time of the last one shown.
    pub fn hold(&mut self) -> Option<u64> {
        self.pipeline.hold()
    }

    /// Show the next picture that is held back; its time.
    pub fn step(&mut self, context: &mut Context) -> Option<u64> {
        let Self { pipeline, outlets, .. } = self;
        let now_ms = context.now_ms;
        pipeline.step(&mut Delivery { outlets, sending: &mut context.sending, now_ms })
    }

    /// Hold nothing back any more; what is held is shown, or forgotten.
    pub fn let_go(&mut self, context: &mut Context, forget: bool) {
        let Self { pipeline, outlets, .. } = self;
        let now_ms = context.now_ms;
        pipeline.let_go(forget, &mut Delivery { outlets, sending: &mut context.sending, now_ms });
    }

    pub fn connect(&mut self, context: &mut Context, peer: SocketAddr) -> Result<()> {
        let outcome = self.source.connect(context, peer)?;
        self.report(context, &outcome);
        Ok(())
    }

    fn report(&self, context: &Context, outcome: &Outcome) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Connected => context.announce(Kind::Connected, &self.name, 0, ""),
            Outcome::Closed(word) => context.announce(Kind::PeerClosed, &self.name, 0, *word),
        }
    }

    /// A descriptor of this stream is ready.
    pub fn on_ready(&mut self, context: &mut Context, ready: Ready, part: Part) {
        match part {
            Part::Source => self.read_source(context, ready),
            Part::Listener => {
                let outcome = self.source.accept(context, ready, self.pipeline.counters().last_packet_ms);
                self.report(context, &outcome);
            }
            // Goes to the port, which is the owner.
            Part::Port(_) => {}
            Part::Viewer(id) => self.on_viewer_ready(context, ready, id),
            Part::Relay(id) => self.on_relay_ready(context, ready, id),
        }
    }

    fn read_source(&mut self, context: &mut Context, ready: Ready) {
        let Self { source, pipeline, outlets, .. } = self;
        let outcome = source.read(context, ready, &mut |context: &mut Context, packet: &[u8]| {
            receive(pipeline, outlets, context, packet);
        });
        self.report(context, &outcome);
        self.after_input(context);
    }

    /// One packet of a shared port that belongs to this stream.
    pub(super) fn take_packet(&mut self, context: &mut Context, packet: &[u8]) {
        let Self { pipeline, outlets, .. } = self;
        receive(pipeline, outlets, context, packet);
    }

    /// Take over a connection of the shared port; false when a living sender keeps its place.
    pub(super) fn adopt(&mut self, context: &mut Context, connection: Connection) -> bool {
        let is_ours = self.source.adopt(context, connection, self.pipeline.counters().last_packet_ms);
        if is_ours {
            self.report(context, &Outcome::Connected);
        }
        is_ours
    }

    pub(super) fn after_input(&mut self, context: &mut Context) {
        self.outlets.forward(&mut context.sending);
        if let Some(at_ms) = self.pipeline.gap_deadline_ms() {
            context.care_at(at_ms);
        }
        for (kind, detail) in self.pipeline.take_news() {
            context.announce(kind, &self.name, 0, detail);
        }
    }

    /// What depends on time: gaps, retries, paced bursts, viewers that take nothing. Asks for its next turn.
    pub fn care(&mut self, context: &mut Context) {
        let outcome = self.source.care(context);
        self.report(context, &outcome);
        let Self { pipeline, outlets, .. } = self;
        let now_ms = context.now_ms;
        let next =
            pipeline.close_gap(now_ms, &mut Delivery { outlets, sending: &mut context.sending, now_ms });
        if let Some(at_ms) = next {
            context.care_at(at_ms);
        }
        self.after_input(context);
        self.care_for_relays(context);
        self.care_for_peers(context);
        self.drop_lost(context);
        self.look_for_picture(context);
    }

    /// Somebody begins to watch.
    pub(super) fn await_picture(&mut self, context: &mut Context) {
        if self.pipeline.gop().is_empty() && self.dark_since_ms.is_none() {
            self.dark_since_ms = Some(context.now_ms);
            context.care_in(DARK_MS);
        }
    }

    fn look_for_picture(&mut self, context: &mut Context) {
        let Some(since) = self.dark_since_ms else { return };
        let is_watched = self.outlets.viewers().next().is_some() || self.outlets.peers.len() > 0;
        if !self.pipeline.gop().is_empty() || !is_watched {
            self.dark_since_ms = None;
        } else if context.now_ms - since >= DARK_MS {
            self.dark_since_ms = Some(context.now_ms);
            context.care_in(DARK_MS);
            self.tell_wish(context, 0, "dark");
        } else {
            context.care_at(since + DARK_MS);
        }
    }

    /// Tell that a key frame is wanted, by a viewer who asked or by whoever sees nothing (0).
    pub(super) fn tell_wish(&mut self, context: &Context, id: u64, why: &'static str) {
        if self.last_wish_ms.is_none_or(|at| context.now_ms - at >= WISH_MS) {
            self.last_wish_ms = Some(context.now_ms);
            context.announce(Kind::KeyWanted, &self.name, id, why);
        }
    }

    /// Give viewers and relays what was gathered in this tick.
    pub fn flush(&mut self, context: &mut Context) {
        self.flush_viewers(context);
        self.flush_relays(context);
        self.flush_peers(context);
    }

    pub fn memory(&self) -> net::SocketMemory {
        self.source.memory()
    }

    /// The cached group's video as Annex B bytes.
    pub fn snapshot_gop(&self) -> Vec<u8> {
        self.pipeline
            .gop()
            .frames()
            .filter(|f| f.codec.is_video())
            .flat_map(|f| f.data.iter().copied())
            .collect()
    }

    /// Close every socket of the stream.
    pub fn close(mut self, context: &mut Context) -> StreamStats {
        let stats = self.stats(context.now_ms);
        self.outlets.finish(context.now_ms);
        let viewers: Vec<u64> = self.outlets.viewers().map(|v| v.id).collect();
        for id in viewers {
            self.end_viewer(context, id, Ending::StreamClosed);
        }
        self.end_peers(context);
        let relays: Vec<u64> = self.outlets.relays.iter().map(|r| r.id).collect();
        for id in relays {
            self.remove_relay(context, id);
        }
        self.source.close(context);
        stats
    }
}

fn receive(pipeline: &mut Pipeline, outlets: &mut Outlets, context: &mut Context, packet: &[u8]) {
    let now_ms = context.now_ms;
    if pipeline.receive(packet, now_ms, &mut Delivery { outlets, sending: &mut context.sending, now_ms }) {
        pipeline.take_report(packet, now_ms, net::wall_ms());
    }
}
