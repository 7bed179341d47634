//! One browser that watches a stream: its connection, its queue, and where its picture begins.
//!
//! After: RFC 8834, RFC 4585 6.3 (picture loss, resends)
//!
//! A peer starts with the pictures since the last key frame, sent in pieces and with times close behind each other, so
//! that the browser decodes through them at once instead of playing two seconds behind. The same is done at once when it
//! asks for a key frame, and its wish is told besides: a GB/T 28181 camera makes one only on a command. A peer that is
//! behind gets no more until the next key frame. Sound is never sent late.

use super::answer::{self, Content};
use super::offer::{Offer, Refusal};
use super::payload::{Packed, Packer};
use super::Identity;
use crate::frame::Codec;
use crate::rtp_payload;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::change::SdpOffer;
use str0m::media::{MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, RtpWrite, Ssrc};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc};

/// Bytes of the queue sent in one tick: 32 Mbit/s at a tick of 6 ms, within what a browser's socket holds.
const BURST_BYTES: usize = 24 << 10;

/// A browser that has not connected after this long does not come any more.
const CONNECT_MS: f64 = 15_000.0;

/// A browser asks every few seconds whether we are still there, and reports each second; silence for so long is its end.
const SILENCE_MS: f64 = 12_000.0;

/// At most one answer to requests for a key frame in this time; a lossy path is not helped by more.
const REPLAY_MS: f64 = 1_000.0;

/// Ticks between two pictures that are sent again, and what all of them may take: less than a picture lasts.
const STEP_TICKS: u64 = 90;
const REPLAY_TICKS: u64 = 1_800;

/// Sound whose time is this far from where the sound before it ended begins anew there.
const SOUND_GAP: u32 = rtp_payload::SOUND_HZ / 5;

/// Header (8), tag (16) and index (4) of the shortest encrypted RTCP (RFC 7714 9.2).
const RTCP_MIN: usize = 28;

/// More than one call of str0m ever gives; the bound is against a fault.
const OUTPUTS_MAX: usize = 100_000;

/// Pictures kept for resends.
const RESEND_PACKETS: usize = 1_000;

/// Why a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerEnd {
    /// It said goodbye.
    Left,
    /// It never connected, or fell silent.
    Timeout,
    /// It broke the protocol.
    Violation,
}

impl PeerEnd {
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "eof",
            Self::Timeout => "timeout",
            Self::Violation => "protocol",
        }
    }
}

/// One medium that is sent.
struct Line {
    ssrc: Ssrc,
    payload_type: Pt,
    codec: Codec,
    sequence: u64,
}

/// One browser.
pub struct Peer {
    pub id: u64,
    rtc: Rtc,
    local: SocketAddr,
    name: String,
    /// What was negotiated; the lines come with the connection.
    codecs: Vec<(MediaKind, Pt, Codec)>,
    video: Option<Line>,
    audio: Option<Line>,
    is_connected: bool,
    queue: VecDeque<Arc<Packed>>,
    /// Times of the queue's pictures; sound has its own.
    times: VecDeque<u64>,
    cap_bytes: usize,
    pub queued_bytes: usize,
    awaits_key: bool,
    wants_key: bool,
    /// It asked for a key frame, and nobody was told yet.
    has_asked: bool,
    last_time: Option<u64>,
    last_replay_ms: Option<f64>,
    next_sound: Option<u32>,
    /// The moment that stands for a time of the stream, so that sound and picture come together.
    anchor: Option<(Instant, u64)>,
    opened_ms: f64,
    heard_ms: f64,
    timeout: Instant,
    ended: Option<PeerEnd>,
    pub sent_bytes: u64,
    pub frames: u64,
    pub skipped: u64,
}

/// How packets leave: where to, and what.
pub type Emit<'a> = &'a mut dyn FnMut(SocketAddr, &[u8]);

impl Peer {
    /// Answer an offer.
    ///
    /// `local` is the address that the browser is told. Returns the peer and the answer.
    pub fn accept(
        id: u64,
        offer_text: &str,
        content: Content,
        identity: &Identity,
        local: SocketAddr,
        cap_bytes: usize,
        now: (Instant, f64),
    ) -> Result<(Self, String), Refusal> {
        let offer = Offer::read(offer_text)?;
        let sdp = SdpOffer::from_sdp_string(offer_text).map_err(|_| Refusal::Malformed)?;
        let mut config = Rtc::builder()
            .set_crypto_provider(identity.provider.clone())
            .set_dtls_cert(identity.certificate.clone())
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .set_send_buffer_video(RESEND_PACKETS)
            .clear_codecs()
            .clear_extension_map()
            .set_extension(1, Extension::RtpMid);
        let codecs = answer::choose(&offer, content, config.codec_config())?;
        let mut rtc = config.build(now.0);
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).map_err(|_| Refusal::Off)?);
        let text = rtc.sdp_api().accept_offer(sdp).map_err(|_| Refusal::Malformed)?.to_sdp_string();
        let name = rtc.direct_api().local_ice_credentials().ufrag;
        let mut peer = Self {
            id,
            rtc,
            local,
            name,
            codecs,
            video: None,
            audio: None,
            is_connected: false,
            queue: VecDeque::new(),
            times: VecDeque::new(),
            cap_bytes,
            queued_bytes: 0,
            awaits_key: true,
            wants_key: false,
            has_asked: false,
            last_time: None,
            last_replay_ms: None,
            next_sound: None,
            anchor: None,
            opened_ms: now.1,
            heard_ms: now.1,
            timeout: now.0,
            ended: None,
            sent_bytes: 0,
            frames: 0,
            skipped: 0,
        };
        peer.drain(&mut |_, _| {});
        let is_answered = |(_, number, _): &(_, Pt, _)| text.contains(&format!("a=rtpmap:{} ", **number));
        if peer.ended.is_some() || !peer.codecs.iter().all(is_answered) {
            return Err(Refusal::Malformed);
        }
        Ok((peer, answer::adapted(&text, content)))
    }

    /// The name by which its first packets are known.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub fn ending(&self) -> Option<PeerEnd> {
        self.ended
    }

    /// Whether there is something to send in the next tick.
    pub fn has_queue(&self) -> bool {
        self.is_connected && !self.queue.is_empty()
    }

    /// Whether it asked for a key frame since this was last called.
    pub fn take_wish(&mut self) -> bool {
        std::mem::take(&mut self.has_asked)
    }

    /// When [`Self::care`] wants to be called.
    pub fn timeout(&self) -> Instant {
        self.timeout
    }

    /// Take one datagram. False when it is not this peer's: unauthentic, or no packet of WebRTC.
    pub fn receive(
        &mut self,
        source: SocketAddr,
        bytes: &[u8],
        packer: &Packer,
        now: (Instant, f64),
        emit: Emit,
    ) -> bool {
        if !may_be_for_us(bytes) {
            return false;
        }
        let Ok(received) = Receive::new(Protocol::Udp, source, self.local, bytes) else { return false };
        let input = Input::Receive(now.0, received);
        if self.ended.is_some() || !self.rtc.accepts(&input) {
            return false;
        }
        self.heard_ms = now.1;
        if self.rtc.handle_input(input).is_err() {
            self.end(PeerEnd::Violation);
        }
        self.drain(emit);
        self.answer_wishes(packer, now.1);
        true
    }

    /// What depends on time: handshakes, resends, and whether it is still there.
    pub fn care(&mut self, now: (Instant, f64), emit: Emit) {
        let (since, patience) =
            if self.is_connected { (self.heard_ms, SILENCE_MS) } else { (self.opened_ms, CONNECT_MS) };
        if now.1 - since >= patience {
            self.end(PeerEnd::Timeout);
        }
        if self.ended.is_none() && self.timeout <= now.0 {
            if self.rtc.handle_input(Input::Timeout(now.0)).is_err() {
                self.end(PeerEnd::Violation);
            }
            self.drain(emit);
        }
    }

    /// A new frame of the stream.
    pub fn offer(&mut self, packed: &Arc<Packed>) {
        if !self.is_connected || self.line(packed.codec).is_none() {
            return;
        }
        if packed.codec.is_audio() {
            // While pictures are behind, sound would be ahead of them.
            if self.video.is_none() || !self.awaits_key && self.queued_bytes < BURST_BYTES {
                self.push(packed, packed.pts);
            }
            return;
        }
        if packed.key && (self.awaits_key || self.has_no_room(packed)) {
            // What still waits is older than this picture.
            self.clear();
        } else if self.awaits_key || self.has_no_room(packed) {
            self.awaits_key = true;
            self.skipped += 1;
            return;
        }
        self.awaits_key = false;
        self.push(packed, packed.pts);
    }

    /// Send a part of what waits; called once a tick.
    pub fn flush(&mut self, now: (Instant, f64), emit: Emit) {
        let mut sent = 0;
        while self.is_connected && self.ended.is_none() && sent < BURST_BYTES {
            let (Some(packed), Some(time)) = (self.queue.pop_front(), self.times.pop_front()) else { break };
            self.queued_bytes -= packed.bytes;
            sent += packed.bytes;
            self.write(&packed, time, now.0);
            if self.rtc.handle_input(Input::Timeout(now.0)).is_err() {
                self.end(PeerEnd::Violation);
            }
            self.drain(emit);
        }
    }

    fn has_no_room(&self, packed: &Packed) -> bool {
        !self.queue.is_empty() && self.queued_bytes + packed.bytes > self.cap_bytes
    }

    fn clear(&mut self) {
        self.skipped += self.queue.iter().filter(|packed| packed.codec.is_video()).count() as u64;
        self.queue.clear();
        self.times.clear();
        self.queued_bytes = 0;
    }

    fn push(&mut self, packed: &Arc<Packed>, time: u64) {
        self.queued_bytes += packed.bytes;
        self.queue.push_back(packed.clone());
        self.times.push_back(time);
    }

    fn line(&mut self, codec: Codec) -> Option<&mut Line> {
        let line = if codec.is_audio() { &mut self.audio } else { &mut self.video };
        line.as_mut().filter(|line| line.codec == codec)
    }

    /// Begin, or begin again, at the last key frame.
    fn answer_wishes(&mut self, packer: &Packer, now_ms: f64) {
        let is_due = self.last_replay_ms.is_none_or(|at| now_ms - at >= REPLAY_MS);
        // While a burst is still on its way, the key frame asked for may be in it.
        if !self.wants_key || !self.is_connected || !is_due || self.queued_bytes >= BURST_BYTES {
            return;
        }
        self.wants_key = false;
        self.last_replay_ms = Some(now_ms);
        let (count, Some(newest)) = (packer.recent().len() as u64, packer.recent().last()) else {
            self.awaits_key = true;
            return;
        };
        self.clear();
        self.awaits_key = false;
        let (from, step) = match self.last_time {
            None => (newest.pts.saturating_sub(count * STEP_TICKS), STEP_TICKS),
            Some(last) => (last, (REPLAY_TICKS / (count + 1)).max(1)),
        };
        for (index, packed) in packer.recent().enumerate() {
            self.push(packed, from + (index as u64 + 1) * step);
        }
    }

    fn write(&mut self, packed: &Packed, time: u64, now: Instant) {
        let time = if packed.codec.is_audio() {
            time
        } else {
            // Never back: a picture that was sent again stands before this one.
            let time = self.last_time.map_or(time, |last| time.max(last + 1));
            self.last_time = Some(time);
            self.frames += 1;
            time
        };
        let wallclock = self.wallclock(time, now);
        let mut sound_time = self.sound_time(packed, time);
        let Some(line) = self.line(packed.codec) else { return };
        let (ssrc, payload_type) = (line.ssrc, line.payload_type);
        let first = line.sequence;
        line.sequence += packed.parts.len() as u64;
        let mut direct = self.rtc.direct_api();
        let Some(stream) = direct.stream_tx(&ssrc) else { return };
        let last = packed.parts.len() - 1;
        let is_video = packed.codec.is_video();
        for (index, part) in packed.parts.iter().enumerate() {
            let rtp_ts = if is_video { time as u32 } else { sound_time };
            let sequence = (first + index as u64).into();
            let write = RtpWrite::new(payload_type, sequence, rtp_ts, wallclock, part.clone());
            stream.write_rtp(write.marker(is_video && index == last).nackable(is_video));
            sound_time = sound_time.wrapping_add(part.len() as u32);
        }
        if !is_video {
            self.next_sound = Some(sound_time);
        }
    }

    /// One sample a byte: sound goes on where it ended, unless it says that time has passed.
    fn sound_time(&self, packed: &Packed, time: u64) -> u32 {
        if packed.codec.is_video() {
            return 0;
        }
        let said = rtp_payload::sound_ticks(time);
        match self.next_sound {
            Some(next) if (said.wrapping_sub(next) as i32).unsigned_abs() < SOUND_GAP => next,
            _ => said,
        }
    }

    fn wallclock(&mut self, time: u64, now: Instant) -> Instant {
        let (at, from) = *self.anchor.get_or_insert((now, time));
        let ticks = |count: u64| Duration::from_nanos(count * 100_000 / 9);
        match time.checked_sub(from) {
            Some(after) => at + ticks(after),
            None => at.checked_sub(ticks(from - time)).unwrap_or(at),
        }
    }

    fn end(&mut self, why: PeerEnd) {
        self.ended.get_or_insert(why);
    }

    /// Take everything str0m has to give, until it only waits.
    fn drain(&mut self, emit: Emit) {
        for _ in 0..OUTPUTS_MAX {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.timeout = at;
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    self.sent_bytes += transmit.contents.len() as u64;
                    emit(transmit.destination, &transmit.contents);
                }
                Ok(Output::Event(event)) => self.note(&event),
                // It closes with an alert that str0m has no event for.
                Err(_) => {
                    return self.end(if self.is_connected { PeerEnd::Left } else { PeerEnd::Violation })
                }
            }
        }
        self.end(PeerEnd::Violation);
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                self.is_connected = true;
                self.wants_key = self.codecs.iter().any(|(kind, _, _)| *kind == MediaKind::Video);
            }
            Event::MediaAdded(added) => self.add_line(added.mid, added.kind),
            Event::KeyframeRequest(_) => {
                self.wants_key = true;
                self.has_asked = true;
            }
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => self.end(PeerEnd::Timeout),
            _ => {}
        }
    }

    fn add_line(&mut self, mid: Mid, kind: MediaKind) {
        let Some(&(_, payload_type, codec)) = self.codecs.iter().find(|(of, _, _)| *of == kind) else {
            return;
        };
        let Some(ssrc) = self.rtc.direct_api().stream_tx_by_mid(mid, None).map(|tx| tx.ssrc()) else {
            return;
        };
        let line = Some(Line { ssrc, payload_type, codec, sequence: 1 });
        match kind {
            MediaKind::Video => self.video = line,
            MediaKind::Audio => self.audio = line,
        }
    }
}

/// Whether a datagram is worth a look: a viewer sends no media, and str0m takes no encrypted RTCP that is shorter than
/// its header, authentication tag and index together.
fn may_be_for_us(bytes: &[u8]) -> bool {
    match bytes {
        [128..=191, kind, ..] => matches!(kind & 0x7F, 64..=95) && bytes.len() >= RTCP_MIN,
        _ => true,
    }
}
