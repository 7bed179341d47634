//! Packets in order to frames: finds out whether a stream is program stream or bare elementary stream.
//!
//! Implements: GB/T 28181-2022 C.1
//! Implements: GB/T 28181-2022 C.2
//!
//! The payload type is only a hint. Devices send PS under any number, and H.264 under 96 although PS was agreed; what they
//! cannot fake is a pack header, or a parameter set that gives a picture size.

use memchr::memmem;

use crate::es::{EsDepacketizer, EsKind};
use crate::frame::Frame;
use crate::ps_demux::{PsDemuxer, PsStats};
use crate::rtp::RtpPacket;

#[derive(Debug, Default)]
enum Format {
    #[default]
    Unknown,
    Ps(Box<PsDemuxer>),
    Es(EsDepacketizer),
}

#[derive(Debug, Default)]
pub struct Demuxer {
    format: Format,
}

impl Demuxer {
    pub fn new() -> Demuxer {
        Demuxer::default()
    }

    /// Take the next packet in order; every frame that is complete now goes to `out`.
    pub fn push(&mut self, packet: &RtpPacket<'_>, out: &mut impl FnMut(Frame)) {
        let is_settled = match &self.format {
            Format::Ps(_) => true,
            Format::Es(_) => !begins_pack(packet.payload),
            Format::Unknown => false,
        };
        if !is_settled {
            if begins_pack(packet.payload) || self.is_unknown() && holds_pack(packet.payload) {
                self.format = Format::Ps(Box::default());
            } else if let Some(kind) = EsKind::recognise(packet) {
                self.format = Format::Es(EsDepacketizer::new(kind));
            }
        }
        match &mut self.format {
            Format::Ps(demuxer) => demuxer.push(packet.payload, packet.timestamp, packet.marker, out),
            Format::Es(depacketizer) => depacketizer.push(packet, out),
            Format::Unknown => {}
        }
    }

    fn is_unknown(&self) -> bool {
        matches!(self.format, Format::Unknown)
    }

    /// Packets are missing before the next one.
    pub fn loss(&mut self) {
        match &mut self.format {
            Format::Ps(demuxer) => demuxer.loss(),
            Format::Es(depacketizer) => depacketizer.loss(),
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
            Format::Es(depacketizer) => depacketizer.flush(out),
            Format::Unknown => {}
        }
    }

    pub fn stats(&self) -> PsStats {
        match &self.format {
            Format::Ps(demuxer) => demuxer.stats(),
            Format::Es(depacketizer) => depacketizer.stats(),
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
