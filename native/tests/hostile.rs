//! Senders and viewers who want us to work or to remember without end: each costs what it sends, and no more.

mod common;

use bytes::Bytes;
use common::picture;
use socket2::Socket;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use tongshi_media::adts::AacConfig;
use tongshi_media::engine::{Engine, Options, Transport};
use tongshi_media::es::{EsDepacketizer, EsKind};
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::ps_demux::PsDemuxer;
use tongshi_media::rtp::RtpPacket;
use tongshi_media::rtp_tracks::{RtpMuxer, Tracks};
use tongshi_media::viewer::{rtsp, websocket, Container, Dialogue, Ending, Viewer};

/// What took minutes when a payload was copied once for each start code in it, and takes milliseconds now.
const LONG: Duration = Duration::from_secs(10);

fn demuxed(payload: &[u8]) -> Vec<Frame> {
    let (mut demuxer, mut frames) = (PsDemuxer::new(), Vec::new());
    demuxer.push(payload, 0, false, &mut |frame| frames.push(frame));
    demuxer.flush(&mut |frame| frames.push(frame));
    frames
}

const PACK: [u8; 14] = [0, 0, 1, 0xBA, 0x44, 0, 4, 0, 4, 1, 0, 0, 3, 0xF8];

#[test]
fn start_codes_alone_are_read_once() {
    let begun = Instant::now();
    // Open lengths with nothing in them, and lengths that end too early.
    for unit in [&[0, 0, 1, 0xE0, 0, 0, 0x80, 0, 0][..], &[0, 0, 1, 0xE0, 0, 4, 0x80, 0, 0, 7, 7]] {
        let payload = [&PACK[..], &unit.repeat(3_000_000 / unit.len())].concat();
        assert!(demuxed(&payload).len() <= 1);
    }
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}

#[test]
fn ten_thousand_start_codes_in_one_pes_make_one_picture_of_bounded_packets() {
    let mut payload = [&PACK[..], &[0, 0, 1, 0xE0, 0xC3, 0x56, 0x80, 0x80, 5, 0x21, 0, 1, 0, 1]].concat();
    payload.extend([0, 0, 1, 0x67, 0x42].repeat(10_000));
    let frames = demuxed(&payload);
    assert_eq!((frames.len(), frames[0].data.len()), (1, 50_000));
    let frame = Frame { codec: Codec::H264, ..frames[0].clone() };
    let sent = RtpMuxer::new(Tracks::All, 0).packets(&frame).unwrap();
    assert!(sent.len() < 4096 * 20, "{}", sent.len());
}

#[test]
fn a_header_that_claims_much_keeps_no_more_memory_than_came() {
    let mut large = picture(Codec::H264, true, 900_000, 0, &mut common::Random::new(1)).data.to_vec();
    let open = |pts: u8| [0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5, 0x21, 0, 1, 0, pts << 1 | 1];
    let claim = |pts: u8| [0, 0, 1, 0xE0, 0xEA, 0x60, 0x80, 0x80, 5, 0x21, 0, 1, 0, pts << 1 | 1];
    let mut stream = [&PACK[..], &open(1)].concat();
    stream.append(&mut large);
    let (mut demuxer, mut frames) = (PsDemuxer::new(), Vec::new());
    demuxer.push(&stream, 1, false, &mut |frame| frames.push(frame));
    for n in 2..60_u8 {
        let head = if n % 2 == 0 { open(n) } else { claim(n) };
        let payload = [&PACK[..], &head, &[0, 0, 0, 1, 0x41, n]].concat();
        demuxer.push(&payload, n.into(), false, &mut |frame| frames.push(frame));
    }
    assert!(frames.len() > 50, "{}", frames.len());
    // Frames share a block, and the last one of each answers for it. The large one grew by doubling, and what is expected
    // next is an eighth more than it.
    drop(demuxer);
    let came: usize = frames.iter().map(|frame| frame.data.len()).sum();
    let held: usize = frames.into_iter().map(|frame| Vec::from(frame.data).capacity()).sum();
    assert!(held < 4 * came, "{held} for {came}");
}

#[test]
fn sound_of_no_bytes_is_no_sound() {
    let payload = [&[0x80, 0][..], &[0; 4096]].concat();
    let config = AacConfig { object_type: 2, rate_index: 11, channels: 1 };
    let packet =
        RtpPacket { marker: true, payload_type: 97, sequence: 1, timestamp: 0, ssrc: 1, payload: &payload };
    let (mut depacketizer, mut count) = (EsDepacketizer::new(EsKind::Aac(config)), 0);
    depacketizer.push(&packet, &mut |_| count += 1);
    assert_eq!((count, depacketizer.stats().malformed), (0, 2048));
}

fn viewer(dialogue: Dialogue) -> (Viewer, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let socket = Socket::from(std::os::fd::OwnedFd::from(ours));
    (Viewer::new(1, Container::Flv, socket, Bytes::new(), dialogue, 1 << 20), theirs)
}

/// Say it again and again without reading; how the viewer ends, and the most that waited for him meanwhile.
fn say_for_ever(dialogue: Dialogue, words: &[u8]) -> (Result<(), Ending>, usize) {
    let (mut viewer, mut theirs) = viewer(dialogue);
    let (mut at, mut most) = (0, 0);
    let all = words.repeat(10_000);
    loop {
        while at < all.len() {
            let Ok(count) = theirs.write(&all[at..]) else { break };
            at += count;
        }
        let heard = viewer.listen();
        most = most.max(viewer.queued_bytes);
        if heard.is_err() || at == all.len() {
            return (heard, most);
        }
    }
}

#[test]
fn a_client_of_rtsp_that_asks_ten_thousand_times_is_ended() {
    let (end, most) =
        say_for_ever(Dialogue::Rtsp(rtsp::Reader::new()), b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    assert_eq!(end, Err(Ending::Protocol));
    assert!(most < 17 * 128, "{most}");
}

#[test]
fn pings_without_end_are_ended() {
    let ping = [0x89, 0x84, 1, 2, 3, 4, 5, 6, 7, 8];
    let (end, most) = say_for_ever(Dialogue::WebSocket(websocket::Reader::new()), &ping);
    assert_eq!(end, Err(Ending::Protocol));
    assert!(most <= 16 * (2 + 125), "{most}");
}

#[test]
fn who_sends_bytes_without_end_is_ended_and_nothing_is_kept_of_them() {
    let data = [&[b'$', 1, 0x03, 0xE8][..], &[0; 1000]].concat();
    let (end, most) = say_for_ever(Dialogue::Rtsp(rtsp::Reader::new()), &data);
    assert_eq!((end, most), (Err(Ending::Protocol), 0));
    let text = [&[0x81, 0xFD, 1, 2, 3, 4][..], &[0; 125]].concat();
    let (end, most) = say_for_ever(Dialogue::WebSocket(websocket::Reader::new()), &text);
    assert_eq!((end, most), (Err(Ending::Protocol), 0));
    assert!(!viewer(Dialogue::Silent).0.listens(), "the kernel holds what it is not asked for");
}

#[test]
fn a_storm_of_connections_is_taken_in_turns_and_most_are_hung_up() {
    let engine = Engine::start(Options::default()).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let port = engine.open_shared("a", Transport::TcpPassive, local, Some(1)).unwrap();
    let shared = SocketAddr::new(local.ip(), port);
    // More than one turn takes, and fewer than the kernel lets wait.
    let storm: Vec<_> = (0..120).map(|_| TcpStream::connect(shared).unwrap()).collect();
    let begun = Instant::now();
    loop {
        let stats = engine.port_stats(Transport::TcpPassive, shared).unwrap();
        assert!(stats.arrived <= 64 && begun.elapsed() < Duration::from_secs(15), "{stats:?}");
        if stats.arrived as u64 + stats.unknown == 120 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(storm);
    engine.shutdown();
}

#[test]
fn ids_are_known_by_the_stream_they_are_of_and_forgotten_with_it() {
    let engine = Engine::start(Options::default()).unwrap();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    for name in ["a", "b"] {
        engine.open_ingest(name, Transport::Udp, local, None).unwrap();
    }
    let mut held = Vec::new();
    let mut attach = |stream: &str| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        held.push(theirs);
        let socket = Socket::from(std::os::fd::OwnedFd::from(ours));
        engine.attach(stream, Container::Flv, socket, Bytes::new(), Dialogue::Silent).unwrap()
    };
    let (one, two, three) = (attach("a"), attach("a"), attach("b"));
    assert_eq!(engine.viewer_stats(three).unwrap().stream, "b");
    engine.detach(one).unwrap();
    assert!(engine.detach(one).is_err() && engine.viewer_stats(one).is_err());
    assert!(engine.remove_relay(two).is_err() && engine.relay_numbers(two).is_err());
    assert_eq!(engine.viewer_stats(two).unwrap().stream, "a");
    engine.close_stream("a").unwrap();
    assert!(engine.viewer_stats(two).is_err() && engine.detach(two).is_err());
    assert_eq!(engine.stats("b").unwrap().viewers, 1);
    engine.shutdown();
}
