//! One stream's way from received packets to frames: SSRC check, order, demultiplexing, cache, counters.
//!
//! No socket and no clock: packets and times come in, packets in order and frames go out to a [`Sink`]. What is lost
//! is counted and costs a frame, never the stream.
//!
//! Implements: GB/T 28181-2022 C.1 (RTP reception), D (the same packets over TCP)

use super::gap_wait::GapWait;
use super::gate::Gate;
use super::notes::{Counters, Notes};
use super::quality::Figures;
use crate::demux::{Demuxer, PayloadType};
use crate::events::Kind;
use crate::frame::Frame;
use crate::gop::GopCache;
use crate::reorder::{Arrival, ReorderStats, Reorderer};
use crate::rtp::{self, RtpError, RtpPacket};

/// A stream that takes any SSRC keeps the first; after this long without it another sender may have begun (quirk 38).
const SSRC_SILENCE_MS: f64 = 2000.0;

/// Who takes what comes out. `frame` is called before `packet` for the packet that completed it.
pub trait Sink {
    /// Whether the next packet begins something new for the sink; if so the frame before it is given first, then
    /// `turn` is called, and then the packet takes its way.
    fn turns_at(&mut self, packet: &RtpPacket<'_>) -> bool;
    fn turn(&mut self);
    /// A packet in order, whole with its header; of a bare elementary stream whose frames we can multiplex, or not.
    fn packet(&mut self, packet: &[u8], is_elementary: bool);
    /// So many packets are missing before the next one.
    fn loss(&mut self, count: u32);
    fn frame(&mut self, frame: &Frame);
}

/// From packets in order to frames.
struct Decoding {
    demuxer: Demuxer,
    gop: GopCache,
    gate: Gate,
    notes: Notes,
}

impl Decoding {
    fn arrive(&mut self, arrival: Arrival<'_>, now_ms: f64, sink: &mut impl Sink) {
        let bytes = match arrival {
            Arrival::Packet(bytes) => bytes,
            Arrival::Loss(count) => {
                self.demuxer.loss();
                return sink.loss(count);
            }
            Arrival::Restart => return self.demuxer.restart(),
        };
        if let Ok(packet) = rtp::parse(bytes) {
            let Self { demuxer, gop, gate, notes } = self;
            let take = &mut |frame: Frame, sink: &mut _| {
                if let Some(frame) = gate.pass(notes.take(frame, now_ms)) {
                    show(frame, gop, sink);
                }
            };
            if sink.turns_at(&packet) {
                demuxer.flush(&mut |frame| take(frame, sink));
                sink.turn();
            }
            demuxer.push(&packet, &mut |frame| take(frame, sink));
        }
        sink.packet(bytes, self.demuxer.is_elementary());
    }
}

fn show(frame: Frame, gop: &mut GopCache, sink: &mut impl Sink) {
    sink.frame(&frame);
    gop.push(frame);
}

/// The receiving half of a stream.
pub struct Pipeline {
    wanted_ssrc: Option<u32>,
    latched_ssrc: Option<u32>,
    reorderer: Reorderer,
    decoding: Decoding,
    gap_since_ms: Option<f64>,
    gap_wait: GapWait,
}

impl Pipeline {
    pub fn new(ssrc: Option<u32>, reorder_window: usize, gop_bytes: usize) -> Self {
        Self {
            wanted_ssrc: ssrc,
            latched_ssrc: None,
            reorderer: Reorderer::new(reorder_window),
            decoding: Decoding {
                demuxer: Demuxer::new(),
                gop: GopCache::new(gop_bytes),
                gate: Gate::default(),
                notes: Notes::new(),
            },
            gap_since_ms: None,
            gap_wait: GapWait::new(),
        }
    }

    /// The SSRC that is accepted; None before the first packet of a stream that takes any.
    pub fn ssrc(&self) -> Option<u32> {
        self.wanted_ssrc.or(self.latched_ssrc)
    }

    /// Accept another SSRC from now on; None takes the next one seen.
    pub fn set_ssrc(&mut self, ssrc: Option<u32>) {
        self.wanted_ssrc = ssrc;
        self.latched_ssrc = None;
    }

    /// What the session description says of payload types.
    pub fn set_payload_types(&mut self, types: Vec<PayloadType>) {
        self.decoding.demuxer.set_payload_types(types);
    }

    /// Hold pictures back from now on; the time of the last one shown.
    pub fn hold(&mut self) -> Option<u64> {
        self.decoding.gate.close()
    }

    /// Show the next picture that is held back; its time.
    pub fn step(&mut self, sink: &mut impl Sink) -> Option<u64> {
        let picture = self.decoding.gate.next()?;
        let pts = picture.pts;
        show(picture, &mut self.decoding.gop, sink);
        Some(pts)
    }

    /// Hold nothing back any more; what is held is shown, or forgotten.
    pub fn let_go(&mut self, forget: bool, sink: &mut impl Sink) {
        for frame in self.decoding.gate.open(forget) {
            show(frame, &mut self.decoding.gop, sink);
        }
    }

    pub fn gop(&self) -> &GopCache {
        &self.decoding.gop
    }

    pub fn counters(&self) -> &Counters {
        &self.decoding.notes.counters
    }

    pub fn reorder_stats(&self) -> ReorderStats {
        self.reorderer.stats()
    }

    /// The RTP timestamp of the last packet taken.
    pub fn last_timestamp(&self) -> u32 {
        self.decoding.notes.quality.last_timestamp()
    }

    /// Rates of the last seconds.
    pub fn figures(&self, now_ms: f64) -> Figures {
        let Notes { counters, quality, .. } = &self.decoding.notes;
        quality.figures(counters.totals(self.reorderer.stats().lost), now_ms)
    }

    /// An RTCP packet of the sender; `wall_ms` is our wall clock (Unix).
    pub fn take_report(&mut self, packet: &[u8], now_ms: f64, wall_ms: f64) {
        let ssrc = self.ssrc();
        self.decoding.notes.quality.take_report(packet, ssrc, now_ms, wall_ms);
    }

    /// What the caller should announce; a handful in the life of a stream.
    pub fn take_news(&mut self) -> Vec<(Kind, &'static str)> {
        std::mem::take(&mut self.decoding.notes.news)
    }

    /// Take one packet as it came from the network. True for RTCP, which is no media: see [`Self::take_report`].
    pub fn receive(&mut self, packet: &[u8], now_ms: f64, sink: &mut impl Sink) -> bool {
        let header = match rtp::parse(packet) {
            Ok(header) => header,
            Err(RtpError::Rtcp) => return true,
            Err(_) => {
                self.decoding.notes.counters.malformed += 1;
                return false;
            }
        };
        if self.wanted_ssrc.is_none() && self.latched_ssrc != Some(header.ssrc) && self.may_latch(now_ms) {
            self.latched_ssrc = Some(header.ssrc);
        }
        if self.ssrc() != Some(header.ssrc) {
            self.decoding.notes.counters.foreign_ssrc += 1;
            return false;
        }
        let (lost, clock_hz) = (self.reorderer.stats().lost, self.decoding.demuxer.clock_hz());
        self.decoding.notes.note_packet(packet.len(), header.timestamp, clock_hz, lost, now_ms);
        let decoding = &mut self.decoding;
        self.reorderer.push(header.sequence, header.ssrc, packet, &mut |arrival: Arrival<'_>| {
            decoding.arrive(arrival, now_ms, sink);
        });
        self.note_gap(now_ms);
        false
    }

    fn may_latch(&self, now_ms: f64) -> bool {
        self.latched_ssrc.is_none() || now_ms - self.counters().last_packet_ms >= SSRC_SILENCE_MS
    }

    /// Give up a gap that has been open for too long. Returns when to ask again, None when there is no gap.
    pub fn close_gap(&mut self, now_ms: f64, sink: &mut impl Sink) -> Option<f64> {
        let since = self.gap_since_ms?;
        if now_ms - since < self.gap_wait.ms() {
            return Some(since + self.gap_wait.ms());
        }
        let decoding = &mut self.decoding;
        self.reorderer.flush(&mut |arrival: Arrival<'_>| decoding.arrive(arrival, now_ms, sink));
        self.gap_since_ms = None;
        None
    }

    /// When a gap is open: the time to call [`Self::close_gap`].
    pub fn gap_deadline_ms(&self) -> Option<f64> {
        self.gap_since_ms.map(|since| since + self.gap_wait.ms())
    }

    fn note_gap(&mut self, now_ms: f64) {
        let late = self.reorderer.stats().late;
        if self.reorderer.held() > 0 || self.gap_wait.has_not_seen(late) {
            self.gap_wait.adapt(late, now_ms);
        }
        if self.reorderer.held() == 0 {
            self.gap_since_ms = None;
        } else if self.gap_since_ms.is_none() {
            self.gap_since_ms = Some(now_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::gap_wait::{GAP_WAIT_MOST_MS, GAP_WAIT_MS};
    use crate::frame::Codec;
    use crate::packetizer::Packetizer;
    use crate::ps_mux::PsMuxer;

    #[derive(Default)]
    struct Taken {
        packets: usize,
        frames: Vec<Frame>,
    }

    impl Sink for Taken {
        fn turns_at(&mut self, _: &RtpPacket<'_>) -> bool {
            false
        }
        fn turn(&mut self) {}
        fn packet(&mut self, _: &[u8], _: bool) {
            self.packets += 1;
        }
        fn loss(&mut self, _: u32) {}
        fn frame(&mut self, frame: &Frame) {
            self.frames.push(frame.clone());
        }
    }

    /// Packets of `count` H.264 frames, the first of them a key frame.
    fn packets(ssrc: u32, count: u64) -> Vec<Vec<u8>> {
        let mut muxer = PsMuxer::new(Some(Codec::H264), None);
        let mut packetizer = Packetizer::new(96, ssrc, 0, 1400);
        let mut all = Vec::new();
        for n in 0..count {
            let mut unit = vec![0, 0, 0, 1];
            unit.extend(if n == 0 { [0x65] } else { [0x41] });
            unit.extend(vec![0xAB; 4000]);
            let (mut ps, mut out) = (Vec::new(), Vec::new());
            muxer.write_video(&unit, n * 3600, n == 0, &mut ps);
            let made = packetizer.packetize(&ps, (n * 3600) as u32, &mut out);
            all.extend(out.chunks(made.size).map(<[u8]>::to_vec));
        }
        all
    }

    fn run(pipeline: &mut Pipeline, packets: &[Vec<u8>], sink: &mut Taken) {
        for (i, packet) in packets.iter().enumerate() {
            pipeline.receive(packet, i as f64, sink);
        }
    }

    #[test]
    fn a_stream_that_takes_any_ssrc_keeps_the_first() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 64, 1 << 20), Taken::default());
        run(&mut pipeline, &packets(7, 3), &mut sink);
        run(&mut pipeline, &packets(8, 3), &mut sink);
        assert_eq!(pipeline.ssrc(), Some(7));
        assert_eq!(pipeline.counters().foreign_ssrc, packets(8, 3).len() as u64);
        assert_eq!(sink.packets, packets(7, 3).len());
    }

    #[test]
    fn a_sender_that_begins_anew_with_another_ssrc_is_taken_once_the_first_is_silent() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 64, 1 << 20), Taken::default());
        run(&mut pipeline, &packets(7, 50), &mut sink);
        let later = pipeline.counters().last_packet_ms + SSRC_SILENCE_MS;
        for packet in packets(8, 3) {
            pipeline.receive(&packet, later, &mut sink);
        }
        assert_eq!((pipeline.ssrc(), pipeline.counters().foreign_ssrc), (Some(8), 0));
        assert_eq!(pipeline.counters().frames, 53);
        assert!(sink.frames.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    }

    #[test]
    fn sound_alone_can_be_joined_once_a_second_and_sound_beside_a_picture_never() {
        for with_picture in [false, true] {
            let (mut pipeline, mut sink) = (Pipeline::new(Some(1), 64, 1 << 20), Taken::default());
            let mut now_ms = 0.0;
            if with_picture {
                for packet in packets(1, 1) {
                    pipeline.receive(&packet, now_ms, &mut sink);
                }
            }
            let mut muxer = PsMuxer::new(None, Some(Codec::G711A));
            let mut packetizer = Packetizer::new(96, 1, 1000, 1400);
            for n in 0..100_u64 {
                let (mut ps, mut out) = (Vec::new(), Vec::new());
                muxer.write_audio(&[0xD5; 320], 90_000 + n * 3600, &mut ps);
                packetizer.packetize(&ps, (90_000 + n * 3600) as u32, &mut out);
                now_ms += 40.0;
                pipeline.receive(&out, now_ms, &mut sink);
            }
            let starts = sink.frames.iter().filter(|f| f.codec.is_audio() && f.key).count();
            assert_eq!(starts, if with_picture { 0 } else { 3 });
            assert_eq!(pipeline.counters().key_frames, u64::from(with_picture));
            let told = pipeline.take_news().iter().filter(|(kind, _)| *kind == Kind::FirstKeyFrame).count();
            assert_eq!(told, 1);
            assert!(!pipeline.gop().is_empty());
        }
    }

    #[test]
    fn a_foreign_ssrc_is_counted_and_leaves_no_frame() {
        let (mut pipeline, mut sink) = (Pipeline::new(Some(1), 64, 1 << 20), Taken::default());
        run(&mut pipeline, &packets(2, 3), &mut sink);
        assert!(sink.frames.is_empty());
        assert_eq!(pipeline.counters().packets, 0);
        assert!(pipeline.take_news().is_empty());
    }

    #[test]
    fn a_sender_that_changes_its_ssrc_with_each_packet_costs_a_look_at_each() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 64, 1 << 20), Taken::default());
        for n in 0..10_000_u32 {
            pipeline.receive(&rtp::write_header(true, 96, n as u16, n, n), 1.0, &mut sink);
        }
        assert_eq!((pipeline.ssrc(), pipeline.counters().foreign_ssrc, sink.packets), (Some(0), 9_999, 1));
        assert_eq!((pipeline.reorder_stats().restarts, pipeline.take_news().len()), (0, 1));
    }

    #[test]
    fn a_lost_packet_costs_frames_and_not_the_stream() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 4, 1 << 20), Taken::default());
        let mut all = packets(1, 10);
        all.remove(5);
        run(&mut pipeline, &all, &mut sink);
        assert_eq!(pipeline.reorder_stats().lost, 1);
        assert!(sink.frames.len() >= 8, "{}", sink.frames.len());
    }

    #[test]
    fn a_gap_is_given_up_after_its_time() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 1024, 1 << 20), Taken::default());
        let mut all = packets(1, 4);
        let count = all.len();
        all.remove(2);
        for packet in &all {
            pipeline.receive(packet, 0.0, &mut sink);
        }
        assert_eq!(sink.packets, 2);
        assert_eq!(pipeline.close_gap(1.0, &mut sink), Some(GAP_WAIT_MS));
        assert_eq!(pipeline.close_gap(GAP_WAIT_MS, &mut sink), None);
        assert_eq!(sink.packets, count - 1);
    }

    #[test]
    fn a_link_whose_packets_come_late_is_given_longer_and_shorter_again_when_it_is_better() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 1024, 1 << 20), Taken::default());
        let (mut now_ms, mut waits) = (0.0, Vec::new());
        let all = packets(1, 60);
        for pair in all.chunks_exact(2) {
            // The first of two comes 90 ms after the second.
            pipeline.receive(&pair[1], now_ms, &mut sink);
            for _ in 0..9 {
                now_ms += 10.0;
                pipeline.close_gap(now_ms, &mut sink);
            }
            pipeline.receive(&pair[0], now_ms, &mut sink);
            waits.push(pipeline.gap_wait.ms());
        }
        assert!((90.0..=GAP_WAIT_MOST_MS).contains(waits.last().unwrap()), "{waits:?}");
        let lost = pipeline.reorder_stats().lost;
        assert!(lost <= 4, "{lost}");
    }

    #[test]
    fn the_first_packet_and_key_frame_are_announced_once() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 64, 1 << 20), Taken::default());
        run(&mut pipeline, &packets(1, 5), &mut sink);
        let kinds: Vec<Kind> = pipeline.take_news().into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::FirstPacket, Kind::Codec, Kind::FirstKeyFrame]);
    }

    #[test]
    fn any_bytes_are_counted_and_survived() {
        let (mut pipeline, mut sink) = (Pipeline::new(None, 64, 1 << 20), Taken::default());
        let mut state = 1u32;
        for length in 0..2000usize {
            let bytes: Vec<u8> = (0..length % 97)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            pipeline.receive(&bytes, 0.0, &mut sink);
        }
        assert!(pipeline.counters().malformed > 0);
    }
}
