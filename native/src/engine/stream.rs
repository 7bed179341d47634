//! One stream on its packet thread: source, pipeline, outlets, and what they tell each other.

use super::context::{Context, Interest, Part};
use super::outlets::{Delivery, Outlets};
use super::pipeline::Pipeline;
use super::quality::Figures;
use super::source::{Connection, Outcome, Source, Transport};
use super::Result;
use crate::adts::{self, AacConfig};
use crate::demux::PayloadType;
use crate::events::Kind;
use crate::frame::Codec;
use crate::nal::records::ParameterSets;
use crate::net::{self, Ready};
use crate::viewer::datagrams::PACE_MS;
use crate::viewer::{Ending, Viewer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How often a viewer that takes nothing is looked at.
const STALL_CHECK_MS: f64 = 500.0;

/// Who joined and found no key frame waits so long for one before the sender should be asked, and then again.
const DARK_MS: f64 = 1_000.0;

/// Wishes for a key frame are told at most once in this time, however many watch.
const WISH_MS: f64 = 500.0;

/// A stream's figures at one moment. Times are engine milliseconds, -1 until they happened.
#[derive(Clone, Debug)]
pub struct StreamStats {
    pub stream: String,
    pub transport: Transport,
    pub ssrc: u32,
    pub video_codec: &'static str,
    pub audio_codec: &'static str,
    /// 0 while it is not known.
    pub audio_rate_hz: u32,
    pub width: u32,
    pub height: u32,
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicates: u64,
    pub malformed: u64,
    pub foreign_ssrc: u64,
    pub frames: u64,
    pub key_frames: u64,
    pub viewers: usize,
    pub relays: usize,
    pub opened_ms: f64,
    pub first_packet_ms: f64,
    pub first_key_frame_ms: f64,
    pub last_packet_ms: f64,
    /// Rates of the last seconds.
    pub quality: Figures,
    pub gop_bytes: usize,
    /// Datagrams the kernel dropped because we were late, and bytes that wait in its queue.
    pub kernel_drops: u32,
    pub backlog_bytes: u32,
}

/// What a client must know of a stream before it plays it by RTP: parameter sets and the configuration of AAC.
#[derive(Clone, Debug, Default)]
pub struct Description {
    pub video_codec: &'static str,
    /// VPS, SPS and PPS, as many as there are.
    pub parameter_sets: Vec<Vec<u8>>,
    pub audio_codec: &'static str,
    pub aac: Option<AacConfig>,
}

fn wall_clock_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// One stream.
pub struct Stream {
    pub name: Arc<str>,
    pub(super) key: u64,
    source: Source,
    pub(super) pipeline: Pipeline,
    pub(super) outlets: Outlets,
    opened_ms: f64,
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
        pipeline.step(&mut Delivery { outlets, send: &mut context.send, now_ms })
    }

    /// Hold nothing back any more; what is held is shown, or forgotten.
    pub fn let_go(&mut self, context: &mut Context, forget: bool) {
        let Self { pipeline, outlets, .. } = self;
        let now_ms = context.now_ms;
        pipeline.let_go(forget, &mut Delivery { outlets, send: &mut context.send, now_ms });
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
                let outcome = self.source.accept(context, self.pipeline.counters().last_packet_ms);
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
        self.outlets.forward(&mut context.send);
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
        let next = pipeline.close_gap(now_ms, &mut Delivery { outlets, send: &mut context.send, now_ms });
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

    fn drop_lost(&mut self, context: &mut Context) {
        let stall_ms = context.options.viewer_stall_ms;
        let is_silent = |v: &Viewer| v.silent_at_ms().is_some_and(|at| at <= context.now_ms);
        let lost: Vec<(u64, Ending)> = self
            .outlets
            .viewers()
            .filter_map(|v| match v.has_stalled(context.now_ms, stall_ms) {
                true => Some((v.id, Ending::Stalled)),
                false => is_silent(v).then_some((v.id, Ending::Silent)),
            })
            .collect();
        for (id, ending) in lost {
            self.end_viewer(context, id, ending);
        }
        if let Some(at_ms) = self.outlets.viewers().filter_map(Viewer::silent_at_ms).reduce(f64::min) {
            context.care_at(at_ms);
        }
        if self.outlets.viewers().any(Viewer::is_waiting) {
            context.care_in(STALL_CHECK_MS.min(stall_ms));
        }
    }

    /// Give viewers and relays what was gathered in this tick.
    pub fn flush(&mut self, context: &mut Context) {
        let mut ended = Vec::new();
        let (mut is_waiting, mut is_paced) = (false, false);
        for viewer in self.outlets.viewers_mut().filter(|v| v.wants_flush()) {
            if let Err(ending) = viewer.flush(context.now_ms) {
                ended.push((viewer.id, ending));
            }
            is_waiting |= viewer.is_waiting();
            is_paced |= viewer.is_paced();
        }
        if is_paced {
            context.care_in(PACE_MS);
        }
        if is_waiting {
            context.care_in(STALL_CHECK_MS.min(context.options.viewer_stall_ms));
        }
        for (id, ending) in ended {
            self.end_viewer(context, id, ending);
        }
        self.flush_relays(context);
        self.flush_peers(context);
    }

    /// Serve one viewer. The socket is closed when this fails.
    pub fn attach(&mut self, context: &mut Context, mut viewer: Viewer) -> Result<()> {
        let id = viewer.id;
        let interest = if viewer.listens() { Interest::Both } else { Interest::Output };
        viewer.token = context.watch(net::fd(viewer.socket()), interest, self.key, Part::Viewer(id))?;
        for fd in viewer.report_fds() {
            match context.watch(fd, Interest::Input, self.key, Part::Viewer(id)) {
                Ok(token) => viewer.report_tokens.push((fd, token)),
                Err(error) => {
                    forget(context, &viewer);
                    return Err(error.into());
                }
            }
        }
        if let Some(at_ms) = viewer.silent_at_ms() {
            context.care_at(context.now_ms + at_ms);
        }
        context.viewer_joined();
        let gop_bytes = context.options.gop_bytes;
        let (now_ms, wall_ms) = (context.now_ms, wall_clock_ms());
        self.outlets.join(viewer, self.pipeline.gop(), gop_bytes, now_ms, wall_ms);
        self.await_picture(context);
        self.flush(context);
        Ok(())
    }

    pub fn viewers(&self) -> impl Iterator<Item = &Viewer> {
        self.outlets.viewers()
    }

    fn on_viewer_ready(&mut self, context: &mut Context, ready: Ready, id: u64) {
        let Some(viewer) = self.outlets.viewers_mut().find(|v| v.id == id) else { return };
        if ready.token != viewer.token {
            return viewer.listen_to_reports(context.now_ms);
        }
        viewer.unblock();
        if ready.readable {
            viewer.heard(context.now_ms);
        }
        let heard = if ready.readable && viewer.listens() { viewer.listen() } else { Ok(()) };
        if let Err(ending) = heard {
            self.end_viewer(context, id, ending);
        } else if ready.hung_up {
            self.end_viewer(context, id, Ending::Eof);
        }
    }

    /// Close a viewer and tell why.
    pub fn end_viewer(&mut self, context: &mut Context, id: u64, ending: Ending) {
        let Some(mut viewer) = self.outlets.leave(id) else { return };
        viewer.take_leave(ending, context.now_ms);
        forget(context, &viewer);
        context.viewer_left();
        context.announce(Kind::ViewerClosed, &self.name, id, ending.name());
    }

    pub fn stats(&self, now_ms: f64) -> StreamStats {
        let counters = self.pipeline.counters();
        let order = self.pipeline.reorder_stats();
        let memory = self.source.memory();
        StreamStats {
            stream: self.name.to_string(),
            transport: self.source.transport(),
            ssrc: self.pipeline.ssrc().unwrap_or(0),
            video_codec: counters.video.map_or("", |c| c.name()),
            audio_codec: counters.audio.map_or("", |c| c.name()),
            audio_rate_hz: counters.audio_rate_hz,
            width: counters.width,
            height: counters.height,
            packets: counters.packets,
            bytes: counters.bytes,
            lost: order.lost,
            reordered: order.reordered,
            duplicates: order.duplicates,
            malformed: counters.malformed,
            foreign_ssrc: counters.foreign_ssrc,
            frames: counters.frames,
            key_frames: counters.key_frames,
            viewers: self.outlets.viewers().count() + self.outlets.peers.len(),
            relays: self.outlets.relays.len(),
            opened_ms: self.opened_ms,
            first_packet_ms: counters.first_packet_ms,
            first_key_frame_ms: counters.first_key_frame_ms,
            last_packet_ms: counters.last_packet_ms,
            quality: self.pipeline.figures(now_ms),
            gop_bytes: self.pipeline.gop().bytes(),
            kernel_drops: memory.drops,
            backlog_bytes: memory.backlog_bytes,
        }
    }

    /// What the cached group says of the stream.
    pub fn describe(&self) -> Description {
        let counters = self.pipeline.counters();
        let (mut sets, mut aac) = (ParameterSets::default(), None);
        for frame in self.pipeline.gop().frames() {
            if frame.config {
                sets.update(frame.codec, &frame.data);
            }
            if frame.codec == Codec::Aac && aac.is_none() {
                aac = adts::frames(&frame.data).next().map(|(config, _)| config);
            }
        }
        Description {
            video_codec: counters.video.map_or("", |c| c.name()),
            parameter_sets: sets.all().map(<[u8]>::to_vec).collect(),
            audio_codec: counters.audio.map_or("", |c| c.name()),
            aac,
        }
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

/// Stop watching what belongs to a viewer.
fn forget(context: &mut Context, viewer: &Viewer) {
    context.forget(net::fd(viewer.socket()), viewer.token);
    for &(fd, token) in &viewer.report_tokens {
        context.forget(fd, token);
    }
}

fn receive(pipeline: &mut Pipeline, outlets: &mut Outlets, context: &mut Context, packet: &[u8]) {
    let now_ms = context.now_ms;
    if pipeline.receive(packet, now_ms, &mut Delivery { outlets, send: &mut context.send, now_ms }) {
        pipeline.take_report(packet, now_ms, net::wall_ms());
    }
}
