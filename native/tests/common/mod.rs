//! What the codec tests share: a small random source, frames that look real enough, and RTP around PS.
#![allow(dead_code)] // each test binary uses its part

use bytes::Bytes;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::packetizer::Packetizer;
use tongshi_media::ps_demux::PsDemuxer;
use tongshi_media::ps_mux::PsMuxer;
use tongshi_media::rtp;

/// xorshift64: the same numbers in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Bytes without zeros, so that no start code arises by chance.
    pub fn payload(&mut self, size: usize) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8 | 1).collect()
    }
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn annexb(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
}

/// SPS and PPS of x264, VPS, SPS and PPS of x265.
pub fn sets(codec: Codec) -> Vec<Vec<u8>> {
    match codec {
        Codec::H264 => vec![hex("6742c028da01e0089f961000000300100000030320f1832a"), hex("68ce0fc8")],
        _ => vec![
            hex("40010c01ffff016000000300900000030000030078ba0240"),
            hex("420101016000000300900000030000030078a003c0801107cb96e92930b9a02000000300200000030321"),
            hex("4401c073c189"),
        ],
    }
}

/// One picture with a slice of `size` bytes; a key frame has its parameter sets.
pub fn picture(codec: Codec, key: bool, size: usize, pts: u64, random: &mut Random) -> Frame {
    let head: &[u8] = match (codec, key) {
        (Codec::H264, true) => &[0x65, 0x88],
        (Codec::H264, false) => &[0x41, 0x9A],
        (_, true) => &[0x26, 0x01, 0xAF],
        (_, false) => &[0x02, 0x01, 0xD0],
    };
    let slice = [head, &random.payload(size)].concat();
    let mut nals = if key { sets(codec) } else { Vec::new() };
    nals.push(slice);
    let refs: Vec<&[u8]> = nals.iter().map(Vec::as_slice).collect();
    Frame { codec, pts, dts: pts, key, config: key, data: Bytes::from(annexb(&refs)) }
}

/// `count` pictures, a key frame every fifth, 25 a second.
pub fn pictures(codec: Codec, count: u64, size_max: usize, random: &mut Random) -> Vec<Frame> {
    (0..count)
        .map(|n| {
            let size = 20 + random.below(size_max);
            picture(codec, n % 5 == 0, size, 900_000 + n * 3600, random)
        })
        .collect()
}

pub struct Sent {
    pub payload: Vec<u8>,
    pub rtp_ts: u32,
    pub marker: bool,
    pub frame: usize,
}

/// The RTP payloads a sender makes of the frames.
pub fn send(frames: &[Frame], muxer: &mut PsMuxer, mtu: usize) -> Vec<Sent> {
    let mut packetizer = Packetizer::new(96, 1, 0, mtu);
    let mut sent = Vec::new();
    for (frame, index) in frames.iter().zip(0..) {
        let (mut ps, mut packets) = (Vec::new(), Vec::new());
        muxer.write(frame, &mut ps);
        let shape = packetizer.packetize(&ps, frame.pts as u32, &mut packets);
        for packet in packets.chunks(shape.size) {
            let packet = rtp::parse(packet).unwrap();
            sent.push(Sent {
                payload: packet.payload.to_vec(),
                rtp_ts: packet.timestamp,
                marker: packet.marker,
                frame: index,
            });
        }
    }
    sent
}

pub fn receive(demuxer: &mut PsDemuxer, sent: &[Sent]) -> Vec<Frame> {
    let mut got = Vec::new();
    for packet in sent {
        demuxer.push(&packet.payload, packet.rtp_ts, packet.marker, &mut |frame| got.push(frame));
    }
    demuxer.flush(&mut |frame| got.push(frame));
    got
}

/// Demultiplex bytes without RTP, cut into pieces.
pub fn demux(ps: &[u8], piece: usize) -> Vec<Frame> {
    let (mut demuxer, mut got) = (PsDemuxer::new(), Vec::new());
    for payload in ps.chunks(piece.max(1)) {
        demuxer.push(payload, 0, false, &mut |frame| got.push(frame));
    }
    demuxer.flush(&mut |frame| got.push(frame));
    got
}
