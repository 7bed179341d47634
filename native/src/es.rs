//! Elementary streams straight in RTP: H.264, H.265, MPEG-4, SVAC, AAC, G.711, G.722.1 and other sound.
//!
//! Implements: GB/T 28181-2022 C.2
//! After: RFC 6184, RFC 7798, RFC 6416 (MPEG-4), RFC 3640 (AAC-hbr), RFC 3551
//!
//! Video is put together as Annex B; a picture ends with its marker or when the RTP time changes. Sound is one frame a packet.
//! SVAC is gathered by its RTP time and never read: it is counted and passed on.

use bytes::Bytes;

use crate::adts::AacConfig;
use crate::frame::{Codec, Frame};
use crate::frame_buffer::FrameBuffer;
use crate::nal;
use crate::ps_demux::{PsStats, FRAME_MAX};
use crate::rtp::RtpPacket;
use crate::timeline::{Timeline, Track};

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What the packets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EsKind {
    H264,
    H265,
    /// Annex B bytes cut anywhere, as some devices send them under a PS payload type.
    AnnexB(Codec),
    /// Payloads of one RTP time, one behind the other, of a codec nobody here can read.
    Opaque(Codec),
    /// RTP clock in Hz; sound has its own.
    Audio {
        codec: Codec,
        clock_hz: u32,
    },
    /// RFC 3640 in AAC-hbr mode: sizes of 13 bits, indices of 3.
    Aac(AacConfig),
}

/// What the session description says of one payload type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadType {
    pub number: u8,
    pub codec: Codec,
    pub clock_hz: u32,
}

/// The numbers of the standard (14.2 of the dossier; Annex G, C.2.4): what they mean when no session description says otherwise.
const USUAL_TYPES: [PayloadType; 11] = [
    usual(0, Codec::G711U, 8000),
    usual(4, Codec::G7231, 8000),
    usual(8, Codec::G711A, 8000),
    usual(9, Codec::G7221, 8000),
    usual(18, Codec::G729, 8000),
    usual(20, Codec::SVAC_AUDIO, 8000),
    usual(97, Codec::Mpeg4, 90_000),
    usual(98, Codec::H264, 90_000),
    usual(99, Codec::Svac, 90_000),
    usual(100, Codec::H265, 90_000),
    usual(102, Codec::Aac, 8000),
];

const fn usual(number: u8, codec: Codec, clock_hz: u32) -> PayloadType {
    PayloadType { number, codec, clock_hz }
}

impl EsKind {
    /// Tell the kind from one packet, and whether its bytes prove it; `None` until one comes that says anything.
    ///
    /// A number is a promise that devices break; a parameter set that gives a picture size is proof (quirks 42 and 45).
    pub fn recognise(packet: &RtpPacket<'_>, declared: &[PayloadType]) -> Option<(EsKind, bool)> {
        if packet.payload.starts_with(&[0, 0]) {
            if let Some(codec) = nal::sniff(packet.payload) {
                return Some((EsKind::AnnexB(codec), true));
            }
        }
        let of_number =
            |types: &[PayloadType]| types.iter().find(|t| t.number == packet.payload_type).copied();
        let promised = of_number(declared).or_else(|| of_number(&USUAL_TYPES));
        if let Some(sound) = promised.filter(|t| t.codec.is_audio()) {
            return EsKind::of_sound(sound).map(|kind| (kind, false));
        }
        match parts(packet.payload).and_then(|mut nals| nals.find_map(nal::sniff_nal)) {
            Some(Codec::H264) => return Some((EsKind::H264, true)),
            Some(_) => return Some((EsKind::H265, true)),
            None => {}
        }
        let kind = match promised?.codec {
            Codec::H264 if h264_shape(packet.payload) => EsKind::H264,
            Codec::H265 if h265_shape(packet.payload) => EsKind::H265,
            Codec::Mpeg4 => EsKind::AnnexB(Codec::Mpeg4),
            Codec::Svac => EsKind::Opaque(Codec::Svac),
            _ => return None,
        };
        Some((kind, false))
    }

    fn of_sound(sound: PayloadType) -> Option<EsKind> {
        if sound.codec == Codec::Aac {
            // The standard's own example: AAC-LC, one channel (config=1588 at 8 kHz).
            return AacConfig::of_rate(sound.clock_hz).map(EsKind::Aac);
        }
        Some(EsKind::Audio { codec: sound.codec, clock_hz: sound.clock_hz.max(1) })
    }

    pub fn is_audio(self) -> bool {
        matches!(self, EsKind::Audio { .. } | EsKind::Aac(_))
    }

    /// The clock of the RTP times.
    pub fn clock_hz(self) -> u32 {
        match self {
            EsKind::Audio { clock_hz, .. } => clock_hz,
            EsKind::Aac(config) => config.rate_hz(),
            _ => 90_000,
        }
    }
}

/// The NAL units of a single or aggregation packet of either codec.
fn parts(payload: &[u8]) -> Option<Box<dyn Iterator<Item = &[u8]> + '_>> {
    match payload {
        [24 | 0x38 | 0x58 | 0x78, rest @ ..] | [0x60, 0x01, rest @ ..] => Some(Box::new(aggregated(rest))),
        [first, ..] if first & 0x80 == 0 => Some(Box::new(std::iter::once(payload))),
        _ => None,
    }
}

fn aggregated(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (size, behind) = rest.split_first_chunk::<2>()?;
        let (nal, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = behind;
        Some(nal)
    })
    .filter(|nal| !nal.is_empty())
}

fn h264_shape(payload: &[u8]) -> bool {
    matches!(payload, [first, ..] if first & 0x80 == 0 && matches!(first & 0x1F, 1..=24 | 28))
}

fn h265_shape(payload: &[u8]) -> bool {
    matches!(payload, [first, second, ..] if first & 0x81 == 0 && second & 0xF8 == 0 && second & 7 != 0
        && (first >> 1) <= 49)
}

/// Puts one elementary stream together; follows one SSRC.
#[derive(Debug)]
pub struct EsDepacketizer {
    kind: EsKind,
    buffer: FrameBuffer,
    rtp_ts: Option<u32>,
    /// After a loss: nothing more of this RTP time is worth keeping.
    is_spoilt: bool,
    /// The picture that follows a loss may lack its beginning; its first slice tells.
    is_doubtful: bool,
    is_in_fragment: bool,
    timeline: Timeline,
    track: Track,
    stats: PsStats,
}

impl EsDepacketizer {
    pub fn new(kind: EsKind) -> EsDepacketizer {
        EsDepacketizer::joining(kind, None)
    }

    /// A track that begins beside one that stands at `pts` (90 kHz), whatever its own clock says.
    pub fn joining(kind: EsKind, pts: Option<u64>) -> EsDepacketizer {
        let ticks = |pts: u64| pts * u64::from(kind.clock_hz()) / 90_000;
        EsDepacketizer {
            kind,
            buffer: FrameBuffer::default(),
            rtp_ts: None,
            is_spoilt: false,
            is_doubtful: false,
            is_in_fragment: false,
            timeline: pts.map(ticks).map_or_else(Timeline::default, Timeline::starting_at),
            track: Track::default(),
            stats: PsStats::default(),
        }
    }

    pub fn kind(&self) -> EsKind {
        self.kind
    }

    pub fn stats(&self) -> PsStats {
        PsStats { jumps: self.timeline.jumps(), ..self.stats }
    }

    pub fn push(&mut self, packet: &RtpPacket<'_>, out: &mut impl FnMut(Frame)) {
        match self.kind {
            EsKind::Audio { codec, clock_hz } => {
                self.emit_audio(codec, clock_hz, packet, Bytes::copy_from_slice(packet.payload), 0, out);
            }
            EsKind::Aac(config) => self.push_aac(config, packet, out),
            EsKind::H264 | EsKind::H265 | EsKind::AnnexB(_) | EsKind::Opaque(_) => {
                self.push_video(packet, out)
            }
        }
    }

    pub fn loss(&mut self) {
        self.stats.dropped += u64::from(!self.buffer.is_empty());
        self.buffer.clear();
        self.is_spoilt = true;
        self.is_doubtful = true;
        self.is_in_fragment = false;
    }

    pub fn flush(&mut self, out: &mut impl FnMut(Frame)) {
        if !self.is_in_fragment {
            self.end_picture(out);
        }
    }

    fn push_video(&mut self, packet: &RtpPacket<'_>, out: &mut impl FnMut(Frame)) {
        if self.rtp_ts != Some(packet.timestamp) {
            self.is_in_fragment = false;
            self.end_picture(out);
            self.is_spoilt = false;
            self.rtp_ts = Some(packet.timestamp);
        }
        if !self.is_spoilt {
            match self.kind {
                EsKind::H264 => self.push_h264(packet.payload),
                EsKind::H265 => self.push_h265(packet.payload),
                _ => self.append(&[packet.payload]),
            }
        }
        if packet.marker {
            self.is_in_fragment = false;
            self.end_picture(out);
            self.is_spoilt = false;
        }
    }

    fn push_h264(&mut self, payload: &[u8]) {
        match payload {
            [first, ..] if matches!(first & 0x1F, 1..=23) => self.append(&[&START_CODE, payload]),
            [first, rest @ ..] if first & 0x1F == 24 => self.append_aggregated(rest),
            [first, header, rest @ ..] if first & 0x1F == 28 => {
                let rebuilt = [first & 0xE0 | header & 0x1F];
                self.append_fragment(*header, &rebuilt, rest);
            }
            _ => self.stats.malformed += 1,
        }
    }

    fn push_h265(&mut self, payload: &[u8]) {
        match payload {
            [first, _, rest @ ..] if first >> 1 & 0x3F == 48 => self.append_aggregated(rest),
            [first, second, header, rest @ ..] if first >> 1 & 0x3F == 49 => {
                let rebuilt = [first & 0x81 | (header & 0x3F) << 1, *second];
                self.append_fragment(*header, &rebuilt, rest);
            }
            [first, _, ..] if first >> 1 & 0x3F < 48 => self.append(&[&START_CODE, payload]),
            _ => self.stats.malformed += 1,
        }
    }

    fn append_aggregated(&mut self, data: &[u8]) {
        for nal in aggregated(data) {
            self.append(&[&START_CODE, nal]);
        }
    }

    /// One fragment of a NAL unit; bit 7 of `header` begins it, bit 6 ends it.
    fn append_fragment(&mut self, header: u8, rebuilt: &[u8], rest: &[u8]) {
        let begins = header & 0x80 != 0;
        if begins {
            self.append(&[&START_CODE, rebuilt, rest]);
        } else if self.is_in_fragment {
            self.append(&[rest]);
        } else {
            self.stats.malformed += u64::from(!self.is_doubtful);
            return;
        }
        self.is_in_fragment = header & 0x40 == 0;
    }

    fn append(&mut self, pieces: &[&[u8]]) {
        if self.buffer.is_empty() {
            self.buffer.begin(None);
        }
        for piece in pieces {
            if self.buffer.len() + piece.len() > FRAME_MAX {
                self.stats.oversized += 1;
                self.buffer.clear();
                self.is_spoilt = true;
                return;
            }
            self.buffer.append(piece);
        }
    }

    fn end_picture(&mut self, out: &mut impl FnMut(Frame)) {
        let (Some(rtp_ts), false) = (self.rtp_ts, self.buffer.is_empty()) else { return };
        let data = self.buffer.take();
        let codec = match self.kind {
            EsKind::H264 => Codec::H264,
            EsKind::AnnexB(codec) | EsKind::Opaque(codec) => codec,
            _ => Codec::H265,
        };
        if std::mem::take(&mut self.is_doubtful) && !nal::has_first_slice(codec, &data) {
            self.stats.dropped += 1;
            return;
        }
        let kind = nal::inspect(codec, &data, false);
        let pts = self.timeline.unwrap(&mut self.track, u64::from(rtp_ts));
        self.stats.frames += 1;
        self.stats.key_frames += u64::from(kind.key);
        out(Frame { codec, pts, dts: pts, key: kind.key, config: kind.config, data });
    }

    fn push_aac(&mut self, config: AacConfig, packet: &RtpPacket<'_>, out: &mut impl FnMut(Frame)) {
        let Some((sizes, mut data)) = split_au_headers(packet.payload) else {
            self.stats.malformed += 1;
            return;
        };
        for (index, size) in sizes.enumerate() {
            let Some((unit, behind)) = data.split_at_checked(size) else {
                self.stats.malformed += 1;
                return;
            };
            data = behind;
            if size == 0 {
                self.stats.malformed += 1; // thousands fit into a packet, and none is sound
                continue;
            }
            let framed = [&config.header(unit.len())[..], unit].concat();
            let ahead = index as u32 * crate::adts::SAMPLES;
            self.emit_audio(Codec::Aac, config.rate_hz(), packet, Bytes::from(framed), ahead, out);
        }
    }

    /// `ahead`: samples between the packet's time and this frame.
    fn emit_audio(
        &mut self,
        codec: Codec,
        clock_hz: u32,
        packet: &RtpPacket<'_>,
        data: Bytes,
        ahead: u32,
        out: &mut impl FnMut(Frame),
    ) {
        if data.is_empty() {
            return;
        }
        let samples = self.timeline.unwrap(&mut self.track, u64::from(packet.timestamp.wrapping_add(ahead)));
        let pts = samples * 90_000 / u64::from(clock_hz.max(1));
        self.stats.frames += 1;
        out(Frame { codec, pts, dts: pts, key: false, config: false, data });
    }
}

/// The sizes of the access units and the bytes behind their headers (RFC 3640 3.2.1, 16 bits a header).
fn split_au_headers(payload: &[u8]) -> Option<(impl Iterator<Item = usize> + '_, &[u8])> {
    let (bits, rest) = payload.split_first_chunk::<2>()?;
    let size = usize::from(u16::from_be_bytes(*bits)).div_ceil(8);
    let (headers, data) = rest.split_at_checked(size)?;
    let sizes = headers.chunks_exact(2).map(|pair| usize::from(u16::from_be_bytes([pair[0], pair[1]]) >> 3));
    Some((sizes, data))
}
