//! A peer against a browser of the same library, in memory and with hand-moved time.

use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use str0m::change::SdpAnswer;
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc};
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::gop::GopCache;
use tongshi_media::webrtc::payload::{Packed, Packer};
use tongshi_media::webrtc::Content;
use tongshi_media::webrtc::{Identity, Peer, PeerEnd, Refusal};

const SPS: [u8; 4] = [0x67, 0x42, 0xC0, 0x1F];
const CONTENT: Content =
    Content { video: Some(Codec::H264), audio: Some(Codec::G711A), profile_idc: Some(66) };

fn address(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn picture(pts: u64, key: bool) -> Frame {
    let mut data = Vec::new();
    if key {
        data.extend([0, 0, 0, 1]);
        data.extend(SPS);
        data.extend([0, 0, 0, 1, 0x68, 1, 2, 0, 0, 0, 1, 0x65]);
    } else {
        data.extend([0, 0, 0, 1, 0x41]);
    }
    data.resize(data.len() + 3000, 0xAB);
    Frame { codec: Codec::H264, pts, dts: pts, key, config: key, data: Bytes::from(data) }
}

fn sound(pts: u64) -> Frame {
    let data = Bytes::from(vec![0xD5; 320]);
    Frame { codec: Codec::G711A, pts, dts: pts, key: false, config: false, data }
}

/// A browser and our peer, joined by a link that may cut.
struct Pair {
    now: Instant,
    began: Instant,
    browser: Rtc,
    peer: Peer,
    packer: Packer,
    video: Mid,
    is_cut: bool,
    /// Times and markers of the pictures, and bytes of the sound, as the browser got them.
    pictures: Vec<(u32, bool)>,
    sound_bytes: usize,
    to_peer: Vec<Vec<u8>>,
    to_browser: Vec<Vec<u8>>,
}

fn browser(identity: &Identity, now: Instant) -> (Rtc, Mid, String, str0m::change::SdpPendingOffer) {
    let mut browser = Rtc::builder()
        .set_crypto_provider(identity.provider.clone())
        .set_rtp_mode(true)
        .clear_codecs()
        .enable_h264(true)
        .enable_pcma(true)
        .enable_pcmu(true)
        .build(now);
    browser.add_local_candidate(Candidate::host(address(2000), Protocol::Udp).unwrap());
    let mut changes = browser.sdp_api();
    let video = changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    changes.add_media(MediaKind::Audio, Direction::RecvOnly, None, None, None);
    let (offer, pending) = changes.apply().unwrap();
    (browser, video, offer.to_sdp_string(), pending)
}

impl Pair {
    fn new(packer: Packer) -> Self {
        let (now, identity) = (Instant::now(), Identity::new().unwrap());
        let (mut browser, video, offer, pending) = browser(&identity, now);
        let (peer, answer) =
            Peer::accept(1, &offer, CONTENT, &identity, address(1000), 1 << 20, (now, 0.0)).unwrap();
        let answer = SdpAnswer::from_sdp_string(&answer).unwrap();
        browser.sdp_api().accept_answer(pending, answer).unwrap();
        Self {
            now,
            began: now,
            browser,
            peer,
            packer,
            video,
            is_cut: false,
            pictures: Vec::new(),
            sound_bytes: 0,
            to_peer: Vec::new(),
            to_browser: Vec::new(),
        }
    }

    fn clock(&self) -> (Instant, f64) {
        (self.now, (self.now - self.began).as_secs_f64() * 1000.0)
    }

    fn drain_browser(&mut self) {
        loop {
            match self.browser.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(t) => self.to_peer.push(t.contents.to_vec()),
                Output::Event(Event::RtpPacket(packet)) if *packet.header.payload_type == 8 => {
                    self.sound_bytes += packet.payload.len();
                }
                Output::Event(Event::RtpPacket(packet)) => {
                    self.pictures.push((packet.header.timestamp, packet.header.marker));
                }
                Output::Event(_) => {}
            }
        }
    }

    /// Let time pass in steps of a tick.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 4 {
            self.now += Duration::from_millis(4);
            self.browser.handle_input(Input::Timeout(self.now)).unwrap();
            self.drain_browser();
            let clock = self.clock();
            let mut out = Vec::new();
            for bytes in std::mem::take(&mut self.to_peer) {
                if !self.is_cut {
                    let emit = &mut |_, packet: &[u8]| out.push(packet.to_vec());
                    assert!(self.peer.receive(address(2000), &bytes, &self.packer, clock, emit));
                }
            }
            self.peer.care(clock, &mut |_, packet| out.push(packet.to_vec()));
            self.peer.flush(clock, &mut |_, packet| out.push(packet.to_vec()));
            self.to_browser.append(&mut out);
            for bytes in std::mem::take(&mut self.to_browser) {
                let receive = Receive::new(Protocol::Udp, address(1000), address(2000), &bytes).unwrap();
                if !self.is_cut {
                    self.browser.handle_input(Input::Receive(self.now, receive)).unwrap();
                    self.drain_browser();
                }
            }
        }
    }

    fn connect(&mut self) {
        for _ in 0..200 {
            self.pass(20);
            if self.peer.is_connected() {
                return;
            }
        }
        panic!("not connected");
    }

    fn send(&mut self, frame: &Frame) -> Arc<Packed> {
        let packed = self.packer.pack(frame).unwrap();
        self.peer.offer(&packed);
        packed
    }

    fn times(&self) -> Vec<u32> {
        self.pictures.iter().filter(|(_, is_last)| *is_last).map(|(time, _)| *time).collect()
    }
}

fn cached(count: u64) -> Packer {
    let mut gop = GopCache::new(1 << 20);
    for n in 0..count {
        gop.push(picture(900_000 + n * 3600, n == 0));
        gop.push(sound(900_000 + n * 3600));
    }
    Packer::new(&gop, 1 << 20)
}

#[test]
fn a_browser_starts_with_the_cached_pictures_close_together_and_goes_on_live() {
    let mut pair = Pair::new(cached(10));
    pair.connect();
    pair.pass(200);
    let newest = 900_000 + 9 * 3600;
    assert_eq!(pair.times(), (0..10).map(|n| newest - (9 - n) * 90).collect::<Vec<u32>>());
    assert_eq!(pair.sound_bytes, 0, "sound of the past is not played");
    for n in 10..13u64 {
        pair.send(&picture(900_000 + n * 3600, false));
        pair.send(&sound(900_000 + n * 3600));
        pair.pass(40);
    }
    pair.pass(40);
    assert_eq!(pair.times()[10..], [936_000, 939_600, 943_200]);
    assert_eq!(pair.sound_bytes, 3 * 320);
    assert_eq!(pair.peer.frames, 13);
}

#[test]
fn a_request_for_a_key_frame_is_answered_from_the_cache_and_times_never_go_back() {
    let mut pair = Pair::new(cached(5));
    pair.connect();
    pair.pass(1200);
    let got = pair.times().len();
    assert!(!pair.peer.take_wish(), "joining asks for nothing of the sender");
    let mut direct = pair.browser.direct_api();
    let stream = direct.stream_rx_by_mid(pair.video, None).unwrap();
    stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
    pair.pass(100);
    assert!(pair.peer.take_wish() && !pair.peer.take_wish(), "one wish is told once");
    assert_eq!(pair.times().len(), got + 5);
    pair.send(&picture(900_000 + 5 * 3600, false));
    pair.pass(40);
    let times = pair.times();
    assert_eq!(times.last(), Some(&918_000));
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
}

#[test]
fn a_peer_that_is_behind_skips_to_the_next_key_frame() {
    let mut pair = Pair::new(cached(0));
    pair.connect();
    pair.send(&picture(0, false));
    assert_eq!((pair.peer.queued_bytes, pair.peer.skipped), (0, 1), "nothing begins without a key frame");
    for n in 1..500 {
        pair.send(&picture(n * 3600, n == 1));
        assert!(pair.peer.queued_bytes <= 1 << 20);
    }
    assert!(pair.peer.skipped > 100);
    let key = pair.send(&picture(500 * 3600, true));
    assert_eq!(pair.peer.queued_bytes, key.bytes);
}

#[test]
fn silence_ends_a_peer_and_one_that_never_comes_too() {
    let mut pair = Pair::new(cached(1));
    pair.connect();
    pair.pass(10_000);
    assert_eq!(pair.peer.ending(), None, "a browser keeps telling that it is there");
    pair.is_cut = true;
    pair.pass(13_000);
    assert_eq!(pair.peer.ending(), Some(PeerEnd::Timeout));

    let mut never = Pair::new(cached(1));
    never.is_cut = true;
    never.pass(16_000);
    assert_eq!(never.peer.ending(), Some(PeerEnd::Timeout));
}

#[test]
fn what_no_peer_sent_changes_nothing() {
    let mut pair = Pair::new(cached(1));
    pair.connect();
    let (clock, mut state) = (pair.clock(), 1u32);
    for length in 0..2000usize {
        let mut bytes: Vec<u8> = (0..length % 300)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        if let Some(first) = bytes.first_mut() {
            *first = [0, 1, 22, 23, 128, 144][length % 6];
        }
        // From where the browser is, and from elsewhere.
        pair.peer.receive(address(2000), &bytes, &pair.packer, clock, &mut |_, _| {});
        assert!(!pair.peer.receive(address(3000), &bytes, &pair.packer, clock, &mut |_, _| {}));
    }
    assert_eq!(pair.peer.ending(), None);
    pair.send(&picture(2_000_000, true));
    pair.pass(100);
    assert_eq!(pair.times().last(), Some(&2_000_000));
}

#[test]
fn sound_that_is_no_g711_is_answered_as_silent_and_foreign_pictures_are_refused() {
    let (now, identity) = (Instant::now(), Identity::new().unwrap());
    let accept = |content: Content| {
        let (_, _, offer, _) = browser(&identity, now);
        Peer::accept(1, &offer, content, &identity, address(1000), 1 << 20, (now, 0.0))
            .map(|(_, answer)| answer)
    };
    let answer = accept(CONTENT).unwrap();
    assert_eq!(answer.matches("a=sendonly").count(), 2);
    assert!(answer.contains("a=ice-lite") && answer.contains("127.0.0.1 1000 typ host"), "{answer}");
    let silent = accept(Content { audio: Some(Codec::Aac), ..CONTENT }).unwrap();
    let (video, audio) = silent.split_once("m=audio").unwrap();
    assert!(video.contains("a=sendonly") && audio.contains("a=inactive"), "{silent}");
    let refused = |video| accept(Content { video, ..CONTENT }).unwrap_err();
    assert_eq!(refused(Some(Codec::H265)), Refusal::Video(Codec::H265));
    assert_eq!(refused(Some(Codec::Svac)), Refusal::Video(Codec::Svac));
    assert_eq!(refused(None), Refusal::NoVideo);
    let (_, _, offer, _) = browser(&identity, now);
    for bad in [
        offer.replace("a=fingerprint", "a=finger"),
        offer.replace("a=ice-ufrag", "a=ice-x"),
        "v=0\r\nm=video".into(),
    ] {
        assert!(Peer::accept(1, &bad, CONTENT, &identity, address(1000), 1, (now, 0.0)).is_err());
    }
}

#[test]
fn what_browsers_offer_is_answered_and_what_was_made_of_it_never_panics() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/webrtc/chromium-offer.sdp");
    let offer = std::fs::read(path).unwrap();
    let (now, identity) = (Instant::now(), Identity::new().unwrap());
    let accept = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        Peer::accept(1, &text, CONTENT, &identity, address(1000), 1 << 20, (now, 0.0))
            .map(|(_, answer)| answer)
    };
    let answer = accept(&offer).unwrap();
    assert!(answer.contains("a=rtpmap:8 PCMA/8000") && answer.contains(" H264/90000"), "{answer}");
    let mut state = 7u32;
    let mut chance = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for _ in 0..150 {
        let mut bad = offer.clone();
        for _ in 0..=chance(4) {
            let at = chance(bad.len());
            match chance(4) {
                0 => bad[at] = chance(256) as u8,
                1 => bad.truncate(at + 1),
                2 => drop(bad.drain(at..(at + chance(200)).min(bad.len()))),
                _ => {
                    let piece = bad[at..(at + chance(200)).min(bad.len())].to_vec();
                    bad.splice(at..at, piece);
                }
            }
            if bad.is_empty() {
                break;
            }
        }
        let _ = accept(&bad);
    }
}
