//! Frames multiplexed anew, as packets that go on like the stream's own.

use super::run::Start;
use crate::frame::{Codec, Frame};
use crate::gop::GopCache;
use crate::packetizer::Packetizer;
use crate::ps_mux::PsMuxer;

/// Largest RTP packet of a group multiplexed anew.
const MTU: usize = 1400;

/// Frames multiplexed anew until the relay can change to forwarding.
pub(super) struct Remux {
    muxer: PsMuxer,
    packetizer: Packetizer,
    /// Added to a frame's time it gives RTP timestamps that go on like the stream's own.
    timestamp_offset: u32,
    ps: Vec<u8>,
    rtp: Vec<u8>,
}

impl Remux {
    /// None when the group is empty or holds what our multiplexer does not carry.
    pub fn new(gop: &GopCache, last_timestamp: u32) -> Option<Box<Self>> {
        let video = gop.frames().find(|f| f.codec.is_video())?.codec;
        let audio = gop.frames().find(|f| f.codec.is_audio()).map(|f| f.codec);
        if !matches!(video, Codec::H264 | Codec::H265) {
            return None;
        }
        let newest = gop.frames().filter(|f| f.codec.is_video()).last()?.pts;
        Some(Self::of(video, audio, last_timestamp.wrapping_sub(newest as u32)))
    }

    pub fn of(video: Codec, audio: Option<Codec>, timestamp_offset: u32) -> Box<Self> {
        Box::new(Self {
            muxer: PsMuxer::new(Some(video), audio),
            packetizer: Packetizer::new(96, 0, 0, MTU),
            timestamp_offset,
            ps: Vec::new(),
            rtp: Vec::new(),
        })
    }

    /// One frame as packets whose identity is still to be written.
    pub fn packets(&mut self, frame: &Frame, take: &mut impl FnMut(&[u8], Start)) {
        self.ps.clear();
        self.rtp.clear();
        self.muxer.write(frame, &mut self.ps);
        let timestamp = (frame.pts as u32).wrapping_add(self.timestamp_offset);
        let made = self.packetizer.packetize(&self.ps, timestamp, &mut self.rtp);
        let mut start = if frame.key { Start::KeyFrame } else { Start::Frame };
        for packet in self.rtp.chunks(made.size.max(1)) {
            take(packet, start);
            start = Start::Nothing;
        }
    }
}
