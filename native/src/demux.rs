//! Packets in order to frames: finds out whether a stream is program stream or bare elementary stream.
//!
//! Implements: GB/T 28181-2022 C.1
//! Implements: GB/T 28181-2022 C.2
//!
//! The payload type is only a hint. Devices send PS under any number, and H.264 under 96 although PS was agreed; what they
//! cannot fake is a pack header, or a parameter set that gives a picture size.

//!
//! Elementary streams of one SSRC may be a picture and a sound, told apart by payload type; each has a lane of its own.

use memchr::memmem;

pub use crate::es::PayloadType;
use crate::es::{EsDepacketizer, EsKind};
use crate::frame::{Codec, Frame};
use crate::ps_demux::{PsDemuxer, PsStats};
use crate::rtp::RtpPacket;

/// Payload types below this are static and of sound (RFC 3551); they never continue a picture.
const STATIC_SOUND_END: u8 = 24;

#[derive(Debug, Default)]
enum Format {
    #[default]
    Unknown,
    Ps(Box<PsDemuxer>),
    Es(Box<Lanes>),
}

/// One track of elementary streams.
#[derive(Debug)]
struct Lane {
    payload_type: u8,
    depacketizer: EsDepacketizer,
    /// Its bytes showed what it is; a picture that only its number speaks for is looked at again with each packet.
    is_proved: bool,
}

#[derive(Debug, Default)]
struct Lanes {
    video: Option<Lane>,
    audio: Option<Lane>,
    newest: Option<u64>,
}

impl Lanes {
    fn push(&mut self, packet: &RtpPacket<'_>, declared: &[PayloadType], out: &mut impl FnMut(Frame)) {
        let Some(is_audio) = self.choose(packet, declared, out) else { return };
        let Self { video, audio, newest } = self;
        let Some(lane) = (if is_audio { audio } else { video }) else { return };
        lane.depacketizer.push(packet, &mut |frame| {
            *newest = (*newest).max(Some(frame.pts));
            out(frame);
        });
    }

    /// The lane of a packet (true: sound), made or changed when the packet shows something new.
    fn choose(
        &mut self,
        packet: &RtpPacket<'_>,
        declared: &[PayloadType],
        out: &mut impl FnMut(Frame),
    ) -> Option<bool> {
        let number = packet.payload_type;
        let is_of =
            |lane: &Option<Lane>| lane.as_ref().is_some_and(|l| l.payload_type == number && l.is_proved);
        if is_of(&self.video) || is_of(&self.audio) {
            return Some(is_of(&self.audio));
        }
        let Some((kind, is_proved)) = EsKind::recognise(packet, declared) else {
            return (self.video.is_some() && number >= STATIC_SOUND_END).then_some(false);
        };
        self.settle(kind, is_proved || kind.is_audio(), number, out);
        Some(kind.is_audio())
    }

    fn settle(&mut self, kind: EsKind, is_proved: bool, payload_type: u8, out: &mut impl FnMut(Frame)) {
        let slot = if kind.is_audio() { &mut self.audio } else { &mut self.video };
        match slot {
            Some(lane) if lane.depacketizer.kind() == kind => {
                lane.payload_type = payload_type;
                lane.is_proved |= is_proved;
            }
            // A number does not outweigh what the bytes showed.
            Some(lane) if lane.is_proved && !is_proved => {}
            _ => {
                if let Some(before) = slot {
                    before.depacketizer.flush(out);
                }
                let depacketizer = EsDepacketizer::joining(kind, self.newest);
                *slot = Some(Lane { payload_type, depacketizer, is_proved });
            }
        }
    }

    fn each(&mut self) -> impl Iterator<Item = &mut Lane> {
        self.video.iter_mut().chain(self.audio.iter_mut())
    }

    fn clock_hz(&self) -> u32 {
        let lane = self.video.as_ref().or(self.audio.as_ref());
        lane.map_or(90_000, |lane| lane.depacketizer.kind().clock_hz())
    }

    fn stats(&self) -> PsStats {
        let lanes = self.video.iter().chain(&self.audio).map(|lane| lane.depacketizer.stats());
        lanes.fold(PsStats::default(), |sum, one| PsStats {
            frames: sum.frames + one.frames,
            key_frames: sum.key_frames + one.key_frames,
            dropped: sum.dropped + one.dropped,
            malformed: sum.malformed + one.malformed,
            oversized: sum.oversized + one.oversized,
            jumps: sum.jumps + one.jumps,
        })
    }
}

#[derive(Debug, Default)]
pub struct Demuxer {
    format: Format,
    declared: Vec<PayloadType>,
}

impl Demuxer {
    pub fn new() -> Demuxer {
        Demuxer::default()
    }

    /// What the session description says of payload types; a hint that the bytes outweigh.
    pub fn set_payload_types(&mut self, declared: Vec<PayloadType>) {
        self.declared = declared;
    }

    /// Take the next packet in order; every frame that is complete now goes to `out`.
    pub fn push(&mut self, packet: &RtpPacket<'_>, out: &mut impl FnMut(Frame)) {
        if !matches!(self.format, Format::Ps(_)) {
            self.recognise(packet);
        }
        match &mut self.format {
            Format::Ps(demuxer) => demuxer.push(packet.payload, packet.timestamp, packet.marker, out),
            Format::Es(lanes) => lanes.push(packet, &self.declared, out),
            Format::Unknown => {}
        }
    }

    fn recognise(&mut self, packet: &RtpPacket<'_>) {
        let is_unknown = matches!(self.format, Format::Unknown);
        if begins_pack(packet.payload) || is_unknown && holds_pack(packet.payload) {
            self.format = Format::Ps(Box::default());
        } else if is_unknown && EsKind::recognise(packet, &self.declared).is_some() {
            self.format = Format::Es(Box::default());
        }
    }

    /// A bare elementary stream whose picture we can put into program stream.
    pub fn is_elementary(&self) -> bool {
        matches!(&self.format, Format::Es(lanes) if lanes.video.as_ref().is_some_and(|lane| {
            matches!(lane.depacketizer.kind(), EsKind::H264 | EsKind::H265 | EsKind::AnnexB(Codec::H264 | Codec::H265))
        }))
    }

    /// The clock of the RTP times.
    pub fn clock_hz(&self) -> u32 {
        match &self.format {
            Format::Es(lanes) => lanes.clock_hz(),
            _ => 90_000,
        }
    }

    /// Packets are missing before the next one.
    pub fn loss(&mut self) {
        match &mut self.format {
            Format::Ps(demuxer) => demuxer.loss(),
            Format::Es(lanes) => lanes.each().for_each(|lane| lane.depacketizer.loss()),
            Format::Unknown => {}
        }
    }

    /// The sender began anew: what is in progress is lost; its format, codecs and times carry on until it shows others.
    pub fn restart(&mut self) {
        self.loss();
    }

    /// Hand out a frame that only waits for its successor.
    pub fn flush(&mut self, out: &mut impl FnMut(Frame)) {
        match &mut self.format {
            Format::Ps(demuxer) => demuxer.flush(out),
            Format::Es(lanes) => lanes.each().for_each(|lane| lane.depacketizer.flush(out)),
            Format::Unknown => {}
        }
    }

    pub fn stats(&self) -> PsStats {
        match &self.format {
            Format::Ps(demuxer) => demuxer.stats(),
            Format::Es(lanes) => lanes.stats(),
            Format::Unknown => PsStats::default(),
        }
    }
}

/// A pack header anywhere: some senders cut their PS into packets without regard to frames.
fn holds_pack(payload: &[u8]) -> bool {
    memmem::find(payload, &[0, 0, 1, 0xBA]).is_some_and(|place| begins_pack(&payload[place..]))
}

fn begins_pack(payload: &[u8]) -> bool {
    matches!(payload, [0, 0, 1, 0xBA, mark, ..] if mark & 0xC4 == 0x44)
}
