//! Every parser against bent input, the same in each run: nothing panics, nothing grows past its bound. The open-ended
//! search is in `native/fuzz`; this is the part of it that runs on the stable toolchain with every `cargo test`.

mod common;

use bytes::Bytes;
use common::{pictures, send, Random};
use tongshi_media::demux::Demuxer;
use tongshi_media::es::{EsDepacketizer, EsKind};
use tongshi_media::flv::FlvMuxer;
use tongshi_media::fmp4::Fmp4Muxer;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::gop::GopCache;
use tongshi_media::nal::{self, records::ParameterSets, sps};
use tongshi_media::packetizer::{Packetizer, Rewriter};
use tongshi_media::ps_demux::{PsDemuxer, FRAME_MAX};
use tongshi_media::ps_mux::PsMuxer;
use tongshi_media::reorder::{Arrival, Reorderer};
use tongshi_media::rtp::{self, RtpPacket};
use tongshi_media::tcp_framing::Deframer;
use tongshi_media::viewer::{datagrams, rtsp, websocket};
use tongshi_media::webrtc::Offer;
use tongshi_media::{adts, timeline};

const ROUNDS: usize = 20_000;

/// Bytes that mean something to one parser or another.
const MAGIC: [&[u8]; 14] = [
    &[0, 0, 1, 0xBA, 0x44],
    &[0, 0, 1, 0xBB, 0, 12],
    &[0, 0, 1, 0xBC, 0, 18],
    &[0, 0, 1, 0xE0, 0, 0, 0x80, 0x80, 5],
    &[0, 0, 1, 0xE0, 0xFF, 0xFF],
    &[0, 0, 1, 0xC0, 0, 9],
    &[0, 0, 1, 0xBD, 0, 1],
    &[0, 0, 1],
    &[0, 0, 1, 0xB9],
    &[0x67, 0x42, 0xC0],
    &[0x7C, 0x85],
    &[0x62, 0x01, 0x93],
    &[b'$', 0, 5, 0x84, 0x80, 0x60],
    &[0xFF, 0xF1, 0x6C, 0x40],
];

/// A copy of `seed` with a few changes: bits turned, pieces cut out, doubled, or replaced by something that means something.
fn bend(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(data.len());
        match random.below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << random.below(8),
            1 => data.truncate(at),
            2 => {
                let end = (at + random.below(40)).min(data.len());
                data.drain(at..end);
            }
            3 => {
                let piece = data[at..(at + random.below(60)).min(data.len())].to_vec();
                data.splice(at..at, piece);
            }
            4 => {
                let piece = MAGIC[random.below(MAGIC.len())].to_vec();
                data.splice(at..at, piece);
            }
            _ => {
                let noise = random.payload(20);
                data.splice(at..at, noise);
            }
        }
    }
    data
}

fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random::new(99);
    let mut seeds = Vec::new();
    for codec in [Codec::H264, Codec::H265] {
        let frames = pictures(codec, 3, 400, &mut random);
        let mut muxer = PsMuxer::new(Some(codec), Some(Codec::Aac));
        seeds.extend(send(&frames, &mut muxer, 700).into_iter().map(|sent| sent.payload));
        seeds.extend(frames.iter().map(|frame| frame.data.to_vec()));
    }
    let config = adts::AacConfig { object_type: 2, rate_index: 11, channels: 1 };
    seeds.push([&config.header(20)[..], &[3; 20]].concat().repeat(4));
    seeds
}

fn each_round(seed: u64, mut check: impl FnMut(&[u8], &mut Random)) {
    let (seeds, mut random) = (seeds(), Random::new(seed));
    for _ in 0..ROUNDS {
        let data = bend(&seeds[random.below(seeds.len())], &mut random);
        check(&data, &mut random);
    }
}

fn packet<'a>(payload: &'a [u8], random: &mut Random) -> RtpPacket<'a> {
    RtpPacket {
        marker: random.below(4) == 0,
        payload_type: [96, 98, 100, 8, 0, 102, 97, 99, 9, 105][random.below(10)],
        sequence: random.next() as u16,
        timestamp: (random.below(8) * 3600) as u32,
        ssrc: 1,
        payload,
    }
}

#[test]
fn rtp_headers() {
    each_round(1, |data, random| {
        let mut packet = rtp::write_header(false, 96, 1, 2, 3).to_vec();
        packet[0] = random.next() as u8;
        packet.extend(&data[..data.len().min(random.below(40))]);
        if let Ok(parsed) = rtp::parse(&packet) {
            assert!(parsed.payload.len() <= packet.len() - rtp::HEADER_SIZE);
        }
        let _ = rtp::parse(data);
        Rewriter::new(1, 96, 1).rewrite(&mut packet);
    });
}

#[test]
fn tcp_framing() {
    let mut deframer = Deframer::new();
    each_round(2, |data, random| {
        let mut framed = Vec::new();
        Packetizer::new(96, random.below(2) as u32, 1, 300).packetize_tcp(data, 0, &mut framed);
        let framed = bend(&framed, random);
        if deframer.push(&framed, &mut |packet| assert!(packet.len() <= 65_535)).is_err() {
            deframer = Deframer::new();
        }
    });
}

#[test]
fn reordering() {
    let mut reorderer = Reorderer::new(64);
    let mut base = 0_u16;
    each_round(3, |data, random| {
        base = base.wrapping_add([1, 1, 1, 2, 40, 5000][random.below(6)]);
        let sequence = base.wrapping_sub(random.below(6) as u16);
        let ssrc = u32::from(random.below(500) == 0);
        reorderer.push(sequence, ssrc, &data[..data.len().min(20)], &mut |arrival| {
            if let Arrival::Packet(packet) = arrival {
                assert!(packet.len() <= 20);
            }
        });
        assert!(reorderer.held() <= 64);
        if random.below(100) == 0 {
            reorderer.flush(&mut |_| {});
            assert_eq!(reorderer.held(), 0);
        }
    });
}

#[test]
fn program_stream() {
    let mut demuxer = PsDemuxer::new();
    each_round(4, |data, random| {
        let packet = packet(data, random);
        demuxer.push(packet.payload, packet.timestamp, packet.marker, &mut |frame| {
            assert!(!frame.data.is_empty() && frame.data.len() <= FRAME_MAX);
        });
        match random.below(200) {
            0 => demuxer.loss(),
            1 => demuxer.flush(&mut |_| {}),
            2 => demuxer = PsDemuxer::new(),
            _ => {}
        }
    });
}

#[test]
fn elementary_streams_and_their_recognition() {
    let config = adts::AacConfig { object_type: 2, rate_index: 11, channels: 1 };
    let kinds = [
        EsKind::Opaque(Codec::Svac),
        EsKind::H264,
        EsKind::H265,
        EsKind::AnnexB(Codec::H264),
        EsKind::Aac(config),
        EsKind::Audio { codec: Codec::G711A, clock_hz: 8000 },
    ];
    let mut depacketizers = kinds.map(EsDepacketizer::new);
    let mut demuxer = Demuxer::new();
    each_round(5, |data, random| {
        let packet = packet(data, random);
        let mut check = |frame: Frame| assert!(frame.data.len() <= FRAME_MAX + 65_536);
        let chosen = &mut depacketizers[random.below(6)];
        chosen.push(&packet, &mut check);
        demuxer.push(&packet, &mut check);
        match random.below(100) {
            0 => chosen.loss(),
            1 => demuxer.loss(),
            2 => demuxer = Demuxer::new(),
            _ => {}
        }
    });
}

#[test]
fn parameter_sets_and_sound_headers() {
    let mut sets = ParameterSets::default();
    each_round(6, |data, random| {
        for codec in [Codec::H264, Codec::H265, Codec::Mpeg4] {
            let _ = (nal::inspect(codec, data, false), nal::has_first_slice(codec, data));
            sets.update(codec, data);
            let _ = (sets.record(codec), sets.codec_string(codec));
        }
        let _ = nal::sniff(data);
        let cut = &data[random.below(data.len())..];
        let _ = (sps::parse_h264(cut), sps::parse_h265(cut), sps::is_intra_slice(cut));
        assert!(adts::frames(cut).map(|(_, raw)| raw.len()).sum::<usize>() <= cut.len());
    });
}

#[test]
fn muxers_of_bent_frames() {
    let (mut flv, mut fmp4, mut gop) = (FlvMuxer::new(), Fmp4Muxer::new(), GopCache::new(10_000));
    each_round(7, |data, random| {
        let codec = [Codec::H264, Codec::H265, Codec::Aac, Codec::G711A, Codec::Unknown(9)][random.below(5)];
        let pts = random.next() & [0xFFFF, 0x1_FFFF_FFFF][random.below(2)];
        let dts = pts.saturating_sub(random.below(9000) as u64);
        let kind = nal::inspect(codec, data, false);
        let data = Bytes::copy_from_slice(data);
        let frame = Frame { codec, pts, dts, key: kind.key, config: kind.config, data };
        if let Some(tag) = flv.tag(&frame) {
            assert!(tag.len() < 16_384);
        }
        fmp4.fragment(&frame);
        if random.below(50) == 0 {
            let _ = (flv.header(), fmp4.init(), fmp4.mime());
            (flv, fmp4) = (FlvMuxer::new(), Fmp4Muxer::new());
        }
        gop.push(frame);
        assert!(gop.bytes() <= 10_000);
    });
}

#[test]
fn times() {
    let mut random = Random::new(8);
    let (mut timeline, mut track) = (timeline::Timeline::default(), timeline::Track::default());
    for _ in 0..ROUNDS {
        let raw = random.next() & ((1 << 33) - 1) >> random.below(33);
        let _ = timeline.unwrap(&mut track, raw);
        let _ = track.extrapolate(random.next() as u32 as i64);
    }
}

/// The seeds of a fuzz target, bent.
fn each_bent(folder: &str, seed: u64, mut check: impl FnMut(&[u8], &mut Random)) {
    let path = format!("{}/../tests/data/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.into_iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut random = Random::new(seed);
    for _ in 0..ROUNDS {
        let data = bend(&seeds[random.below(seeds.len())], &mut random);
        check(&data, &mut random);
    }
}

#[test]
fn what_rtsp_clients_say() {
    each_bent("rtsp", 9, |data, random| {
        let read = |size: usize| {
            let (mut reader, mut words) = (rtsp::Reader::new(), Vec::new());
            let ended = data.chunks(size).try_for_each(|part| {
                let read = reader.feed(part, &mut |word| words.push(word));
                assert!(reader.held_bytes() <= rtsp::REQUEST_MAX);
                read
            });
            (words, ended)
        };
        let whole = read(data.len().max(1));
        for rtsp::Word::Answer(answer) | rtsp::Word::Leave(answer) in &whole.0 {
            let text = std::str::from_utf8(answer).unwrap().replace("\r\n", "");
            assert!(text.starts_with("RTSP/1.0 ") && !text.contains(['\r', '\n']));
        }
        assert_eq!(read(1 + random.below(40)), whole);
        let _ = datagrams::read_report(data.get(1..).unwrap_or_default());
    });
}

#[test]
fn what_viewers_say_over_a_websocket() {
    each_bent("websocket", 10, |data, random| {
        let read = |size: usize| {
            let (mut reader, mut words) = (websocket::Reader::new(), Vec::new());
            let ended =
                data.chunks(size).try_for_each(|part| reader.feed(part, &mut |word| words.push(word)));
            (words, ended)
        };
        assert_eq!(read(1 + random.below(40)), read(data.len().max(1)));
    });
}

/// Our own reading; that str0m answers bent offers without a panic is tested in `webrtc.rs`.
#[test]
fn offers_of_browsers() {
    each_bent("webrtc", 11, |data, _| {
        let text = String::from_utf8_lossy(data);
        for codec in [Codec::H264, Codec::H265] {
            let _ = Offer::read(&text).map(|offer| offer.format(codec, Some(100)).map(|f| f.profile_level()));
        }
    });
}
