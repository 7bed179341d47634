//! Frames as RTP of elementary streams, each packet behind the four bytes that interleave it into an RTSP connection.
//!
//! After: RFC 3551 4.5.14 (G.711), RFC 3640 3.3.6 (AAC), RFC 3550 6.4.1 (sender reports), RFC 2326 10.12 (interleaving);
//! `rtp_payload` cuts the pictures, `viewer/datagrams.rs` takes the packets apart for UDP
//!
//! Video is on channels 0 and 1, sound on 2 and 3. All viewers share the packets, so they share sequence numbers and SSRC too;
//! what a slow one is spared is a gap to it. A report goes before each key frame, and before the next sound, so that a viewer has
//! one from the beginning. MPEG-4, SVAC and G.722.1 are left out.

use crate::adts;
use crate::frame::{Codec, Frame};
use crate::rtp;
use crate::rtp_payload;

pub const VIDEO_CHANNEL: u8 = 0;
pub const AUDIO_CHANNEL: u8 = 2;
pub const VIDEO_TYPE: u8 = 96;
pub const AAC_TYPE: u8 = 97;
const PCMA_TYPE: u8 = 8;
const PCMU_TYPE: u8 = 0;

/// Payload of one packet: it fits into an Ethernet frame, as a datagram too.
const PAYLOAD_MAX: usize = 1388;
/// Seconds from 1900 to 1970.
const NTP_OFFSET_S: u64 = 2_208_988_800;

/// Which tracks a viewer set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracks {
    All,
    Video,
    Audio,
}

#[derive(Debug)]
struct Sender {
    channel: u8,
    ssrc: u32,
    sequence: u16,
    packets: u32,
    octets: u32,
    owes_report: bool,
}

impl Sender {
    fn new(channel: u8, ssrc: u32) -> Self {
        Self { channel, ssrc, sequence: 0, packets: 0, octets: 0, owes_report: true }
    }

    /// Append one packet: `head` and `body` behind each other are its payload.
    fn packet(
        &mut self,
        marker: bool,
        kind: u8,
        timestamp: u32,
        head: &[u8],
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        let payload = head.len() + body.len();
        interleave(self.channel, rtp::HEADER_SIZE + payload, out);
        out.extend_from_slice(&rtp::write_header(marker, kind, self.sequence, timestamp, self.ssrc));
        out.extend_from_slice(head);
        out.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
    }

    /// Append a sender report that ties `timestamp` to a time of the wall clock.
    fn report(&mut self, ntp: u64, timestamp: u32, out: &mut Vec<u8>) {
        self.owes_report = false;
        interleave(self.channel + 1, 28, out);
        out.extend_from_slice(&[0x80, 200, 0, 6]);
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&ntp.to_be_bytes());
        for value in [timestamp, self.packets, self.octets] {
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// The SSRC of what goes out on a channel.
pub fn ssrc_of(channel: u8) -> u32 {
    1 + u32::from(channel >> 1)
}

fn interleave(channel: u8, length: usize, out: &mut Vec<u8>) {
    let [high, low] = (length as u16).to_be_bytes();
    out.extend_from_slice(&[b'$', channel, high, low]);
}

#[derive(Debug)]
pub struct RtpMuxer {
    tracks: Tracks,
    video: Sender,
    audio: Sender,
    /// Wall clock in milliseconds since 1970 at the first frame, and that frame's time.
    wall_ms: u64,
    first_pts: Option<u64>,
}

impl RtpMuxer {
    pub fn new(tracks: Tracks, wall_ms: u64) -> Self {
        let sender = |channel: u8| Sender::new(channel, ssrc_of(channel));
        let (video, audio) = (sender(VIDEO_CHANNEL), sender(AUDIO_CHANNEL));
        Self { tracks, video, audio, wall_ms, first_pts: None }
    }

    /// Whether a frame is of a track that is wanted.
    fn wants(&self, frame: &Frame) -> bool {
        match self.tracks {
            Tracks::All => true,
            Tracks::Video => frame.codec.is_video(),
            Tracks::Audio => frame.codec.is_audio(),
        }
    }

    /// The interleaved packets of one frame; None for what is not carried.
    pub fn packets(&mut self, frame: &Frame) -> Option<Vec<u8>> {
        if frame.key {
            self.video.owes_report = true;
            self.audio.owes_report = true;
        }
        if !self.wants(frame) {
            return None;
        }
        let mut out = Vec::with_capacity(frame.data.len() + frame.data.len() / 64 + 256);
        match frame.codec {
            Codec::H264 | Codec::H265 => self.video(frame, &mut out),
            Codec::G711A => self.g711(PCMA_TYPE, frame, &mut out),
            Codec::G711U => self.g711(PCMU_TYPE, frame, &mut out),
            Codec::Aac => self.aac(frame, &mut out),
            Codec::Svac | Codec::Mpeg4 | Codec::G7221 | Codec::Unknown(_) => {}
        }
        (!out.is_empty()).then_some(out)
    }

    /// NTP time of a frame: both tracks are told by the same clock.
    fn ntp(&mut self, pts: u64) -> u64 {
        let passed = pts as i64 - *self.first_pts.get_or_insert(pts) as i64;
        let ms = (self.wall_ms as i64 + passed / 90).max(0) as u64;
        ((ms / 1000 + NTP_OFFSET_S) << 32) + ((ms % 1000) << 32) / 1000
    }

    fn video(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        let (timestamp, ntp) = (frame.pts as u32, self.ntp(frame.pts));
        if self.video.owes_report {
            self.video.report(ntp, timestamp, out);
        }
        let mut units = rtp_payload::units(frame.codec, &frame.data).peekable();
        while let Some(unit) = units.next() {
            let is_last = units.peek().is_none();
            rtp_payload::cut(frame.codec, unit, PAYLOAD_MAX, &mut |head, part, is_end| {
                self.video.packet(is_last && is_end, VIDEO_TYPE, timestamp, head, part, out);
            });
        }
    }

    fn g711(&mut self, kind: u8, frame: &Frame, out: &mut Vec<u8>) {
        let start = rtp_payload::sound_ticks(frame.pts);
        self.audio_report(frame.pts, start, out);
        for (index, part) in frame.data.chunks(PAYLOAD_MAX).enumerate() {
            let timestamp = start.wrapping_add((index * PAYLOAD_MAX) as u32);
            self.audio.packet(false, kind, timestamp, &[], part, out);
        }
    }

    fn aac(&mut self, frame: &Frame, out: &mut Vec<u8>) {
        for (index, (config, raw)) in adts::frames(&frame.data).enumerate() {
            let start = (frame.pts * u64::from(config.rate_hz()) / 90_000) as u32;
            let timestamp = start.wrapping_add(index as u32 * adts::SAMPLES);
            self.audio_report(frame.pts, timestamp, out);
            // One AU header of 16 bits: the size in 13, the index in 3.
            let [high, low] = ((raw.len() as u16) << 3).to_be_bytes();
            for part in raw.chunks(PAYLOAD_MAX) {
                let is_end = std::ptr::eq(part.as_ptr_range().end, raw.as_ptr_range().end);
                self.audio.packet(is_end, AAC_TYPE, timestamp, &[0, 16, high, low], part, out);
            }
        }
    }

    fn audio_report(&mut self, pts: u64, timestamp: u32, out: &mut Vec<u8>) {
        if self.audio.owes_report {
            let ntp = self.ntp(pts);
            self.audio.report(ntp, timestamp, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn frame(codec: Codec, pts: u64, key: bool, data: Vec<u8>) -> Frame {
        Frame { codec, pts, dts: pts, key, config: false, data: Bytes::from(data) }
    }

    /// (channel, packet) of each piece; checks that the lengths add up.
    fn pieces(mut data: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut got = Vec::new();
        while !data.is_empty() {
            assert_eq!(data[0], b'$');
            let length = usize::from(u16::from_be_bytes([data[2], data[3]]));
            got.push((data[1], data[4..4 + length].to_vec()));
            data = &data[4 + length..];
        }
        got
    }

    fn annexb(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
    }

    #[test]
    fn a_large_picture_is_cut_and_can_be_put_together_again() {
        for (codec, small, mut large) in [
            (Codec::H264, vec![0x67, 1, 2, 3], vec![0x65]),
            (Codec::H265, vec![0x40, 1, 2, 3], vec![0x26, 1]),
        ] {
            large.extend((0..5000).map(|n| n as u8 | 1));
            let mut muxer = RtpMuxer::new(Tracks::All, 0);
            let out = muxer.packets(&frame(codec, 9000, true, annexb(&[&small, &large]))).unwrap();
            let got = pieces(&out);
            assert_eq!(got[0].0, 1);
            let packets: Vec<_> = got[1..].iter().map(|(_, packet)| rtp::parse(packet).unwrap()).collect();
            assert_eq!(packets[0].payload, small);
            let markers: Vec<_> = packets.iter().map(|p| p.marker).collect();
            assert_eq!(markers, [false, false, false, false, true]);
            assert!(packets.iter().all(|p| p.timestamp == 9000 && p.payload.len() <= PAYLOAD_MAX));
            let sequence: Vec<_> = packets.iter().map(|p| p.sequence).collect();
            assert_eq!(sequence, [0, 1, 2, 3, 4]);
            let head = if codec == Codec::H264 { 2 } else { 3 };
            let flags: Vec<_> = packets[1..].iter().map(|p| p.payload[head - 1] & 0xC0).collect();
            assert_eq!(flags, [0x80, 0, 0, 0x40]);
            let first = packets[1].payload;
            let mut whole = match codec {
                Codec::H264 => vec![first[0] & 0xE0 | first[1] & 0x1F],
                _ => vec![first[0] & 0x81 | (first[2] & 0x3F) << 1, first[1]],
            };
            packets[1..].iter().for_each(|p| whole.extend_from_slice(&p.payload[head..]));
            assert_eq!(whole, large);
        }
    }

    #[test]
    fn sound_has_the_clock_of_its_codec() {
        let mut muxer = RtpMuxer::new(Tracks::All, 1000);
        let got = pieces(&muxer.packets(&frame(Codec::G711A, 90_000, false, vec![0xD5; 1500])).unwrap());
        assert_eq!(got.iter().map(|one| one.0).collect::<Vec<_>>(), [3, 2, 2]);
        assert_eq!(got[0].1[8..20], [0x83, 0xAA, 0x7E, 0x81, 0, 0, 0, 0, 0, 0, 0x1F, 0x40]);
        let packets: Vec<_> = got[1..].iter().map(|(_, packet)| rtp::parse(packet).unwrap()).collect();
        let heads: Vec<_> = packets.iter().map(|p| (p.payload_type, p.timestamp)).collect();
        assert_eq!(heads, [(8, 8000), (8, 8000 + PAYLOAD_MAX as u32)]);
        let config = adts::AacConfig { object_type: 2, rate_index: 3, channels: 1 };
        let data = [&config.header(2)[..], &[7, 8]].concat().repeat(2);
        let got = pieces(&muxer.packets(&frame(Codec::Aac, 90_000, false, data)).unwrap());
        let packets: Vec<_> = got.iter().map(|(_, packet)| rtp::parse(packet).unwrap()).collect();
        assert_eq!(packets[0].payload, [0, 16, 0, 16, 7, 8]);
        assert_eq!(packets.iter().map(|p| p.timestamp).collect::<Vec<_>>(), [48_000, 49_024]);
    }

    #[test]
    fn only_the_tracks_that_were_set_up_are_sent() {
        let (picture, sound) = (annexb(&[&[0x65, 1]]), vec![0xD5; 160]);
        let count = |tracks: Tracks, codec: Codec, data: &[u8]| {
            let mut muxer = RtpMuxer::new(tracks, 0);
            muxer.packets(&frame(codec, 0, false, data.to_vec())).is_some()
        };
        assert!(count(Tracks::Video, Codec::H264, &picture) && !count(Tracks::Video, Codec::G711A, &sound));
        assert!(count(Tracks::Audio, Codec::G711A, &sound) && !count(Tracks::Audio, Codec::H264, &picture));
        assert!(!count(Tracks::All, Codec::Svac, &picture));
    }

    #[test]
    fn each_key_frame_brings_a_report_of_both_tracks() {
        let mut muxer = RtpMuxer::new(Tracks::All, 0);
        let mut channels = Vec::new();
        for n in 0..4_u64 {
            let picture = frame(Codec::H264, n * 3600, n % 2 == 0, annexb(&[&[0x65, 1]]));
            let sound = frame(Codec::G711A, n * 3600, false, vec![0xD5; 160]);
            for one in [picture, sound] {
                channels.extend(pieces(&muxer.packets(&one).unwrap()).into_iter().map(|piece| piece.0));
            }
        }
        assert_eq!(channels, [1, 0, 3, 2, 0, 2].repeat(2));
        // The key frames of a picture that was not set up count too.
        let mut muxer = RtpMuxer::new(Tracks::Audio, 0);
        let mut sound = |n: u64| {
            assert!(muxer.packets(&frame(Codec::H264, n * 3600, true, annexb(&[&[0x65, 1]]))).is_none());
            pieces(&muxer.packets(&frame(Codec::G711A, n * 3600, false, vec![0xD5; 160])).unwrap()).len()
        };
        assert_eq!([sound(0), sound(1)], [2, 2]);
    }
}
