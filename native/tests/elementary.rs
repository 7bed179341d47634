//! Elementary streams in RTP, with and without a payload type that says so.

mod common;

use common::{annexb, picture, sets, Random};
use tongshi_media::demux::Demuxer;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::nal;
use tongshi_media::ps_mux::PsMuxer;
use tongshi_media::rtp::RtpPacket;

fn packet(payload_type: u8, timestamp: u32, marker: bool, payload: &[u8]) -> RtpPacket<'_> {
    RtpPacket { marker, payload_type, sequence: 0, timestamp, ssrc: 1, payload }
}

/// Payloads of one picture: units as they are, large ones as fragments of `size`.
fn payloads(codec: Codec, frame: &Frame, size: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for nal in nal::nals(&frame.data) {
        if nal.len() <= size {
            out.push(nal.to_vec());
            continue;
        }
        let head = if codec == Codec::H264 { 1 } else { 2 };
        let count = (nal.len() - head).div_ceil(size);
        for (index, part) in nal[head..].chunks(size).enumerate() {
            let edge = u8::from(index == 0) << 7 | u8::from(index + 1 == count) << 6;
            let start = if codec == Codec::H264 {
                vec![nal[0] & 0xE0 | 28, edge | nal[0] & 0x1F]
            } else {
                vec![nal[0] & 0x81 | 49 << 1, nal[1], edge | nal[0] >> 1 & 0x3F]
            };
            out.push([&start[..], part].concat());
        }
    }
    out
}

fn stream(codec: Codec, count: u64, random: &mut Random) -> Vec<Frame> {
    (0..count).map(|n| picture(codec, n % 4 == 0, 3000, 900_000 + n * 3600, random)).collect()
}

#[test]
fn units_and_fragments_become_pictures_under_either_payload_type() {
    for (codec, own_type) in [(Codec::H264, 98), (Codec::H265, 100)] {
        for payload_type in [own_type, 96] {
            for has_marker in [true, false] {
                let frames = stream(codec, 8, &mut Random::new(1));
                let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
                for frame in &frames {
                    let payloads = payloads(codec, frame, 1000);
                    for (index, payload) in payloads.iter().enumerate() {
                        let marker = has_marker && index + 1 == payloads.len();
                        let packet = packet(payload_type, frame.pts as u32, marker, payload);
                        demuxer.push(&packet, &mut |frame| got.push(frame));
                    }
                }
                demuxer.flush(&mut |frame| got.push(frame));
                assert_eq!(got, frames, "{codec:?} {payload_type} {has_marker}");
            }
        }
    }
}

#[test]
fn aggregated_parameter_sets_are_taken_apart() {
    for (codec, head) in [(Codec::H264, vec![24]), (Codec::H265, vec![0x60, 1])] {
        let mut aggregate = head;
        for set in sets(codec) {
            aggregate.extend((set.len() as u16).to_be_bytes());
            aggregate.extend(set);
        }
        aggregate.extend([0xFF, 9, 1]); // a size that claims too much
        let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
        demuxer.push(&packet(96, 0, true, &aggregate), &mut |frame: Frame| got.push(frame));
        let refs = sets(codec);
        let refs: Vec<&[u8]> = refs.iter().map(Vec::as_slice).collect();
        assert_eq!((got[0].codec, &got[0].data[..]), (codec, &annexb(&refs)[..]));
    }
}

#[test]
fn a_lost_fragment_costs_its_picture_only() {
    let frames = stream(Codec::H264, 6, &mut Random::new(2));
    let all: Vec<_> = frames
        .iter()
        .enumerate()
        .flat_map(|(index, frame)| {
            payloads(Codec::H264, frame, 700).into_iter().map(move |part| (index, part))
        })
        .collect();
    let first_of_second = all.iter().position(|(index, _)| *index == 1).unwrap();
    for lost in first_of_second..all.len() {
        let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
        for (place, (index, payload)) in all.iter().enumerate() {
            if place == lost {
                demuxer.loss();
                continue;
            }
            let marker = all.get(place + 1).is_none_or(|(next, _)| next != index);
            let packet = packet(98, frames[*index].pts as u32, marker, payload);
            demuxer.push(&packet, &mut |frame| got.push(frame));
        }
        let mut want: Vec<_> = frames.iter().map(|frame| frame.data.to_vec()).collect();
        let hit = all[lost].0;
        let got: Vec<_> = got.iter().map(|frame| frame.data.to_vec()).collect();
        if matches!(all[lost].1[0], 0x67 | 0x68) && got.len() == frames.len() {
            want[hit] = got[hit].clone(); // a parameter set: the decoder has it from before
        } else {
            want.remove(hit);
        }
        assert!(got == want, "lost {lost}: {} of {}", got.len(), frames.len());
    }
}

#[test]
fn a_picture_that_lost_its_first_slice_is_dropped_and_the_next_is_not() {
    let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
    let mut first = sets(Codec::H264);
    first.extend([vec![0x65, 0x88, 1], vec![0x65, 0x44, 1]]); // the second slice begins at another macroblock
    let others =
        [vec![vec![0x41, 0x9A, 1], vec![0x41, 0x5A, 1]], vec![vec![0x41, 0x9A, 2], vec![0x41, 0x5A, 2]]];
    for (picture, time) in std::iter::once(&first).chain(&others).zip(0..) {
        for (index, nal) in picture.iter().enumerate() {
            if time == 1 && index == 0 {
                demuxer.loss();
                continue;
            }
            let packet = packet(98, time * 3600, index + 1 == picture.len(), nal);
            demuxer.push(&packet, &mut |frame: Frame| got.push((frame.pts, frame.key)));
        }
    }
    assert_eq!(got, [(0, true), (7200, false)]);
    assert_eq!(demuxer.stats().dropped, 1);
}

#[test]
fn annex_b_under_a_ps_payload_type_is_recognised() {
    let frames = stream(Codec::H264, 5, &mut Random::new(3));
    let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
    for frame in &frames {
        let count = frame.data.len().div_ceil(1000);
        for (index, payload) in frame.data.chunks(1000).enumerate() {
            let packet = packet(96, frame.pts as u32, index + 1 == count, payload);
            demuxer.push(&packet, &mut |frame| got.push(frame));
        }
    }
    assert_eq!(got, frames);
}

#[test]
fn program_stream_is_recognised_under_any_payload_type_even_late() {
    let frames = stream(Codec::H264, 5, &mut Random::new(4));
    for payload_type in [96, 98, 100, 40, 8] {
        let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
        let mut muxer = PsMuxer::new(Some(Codec::H264), None);
        demuxer.push(&packet(payload_type, 1, false, &[0xAB, 0xCD, 0xEF]), &mut |_| {});
        for frame in &frames {
            let mut ps = Vec::new();
            muxer.write(frame, &mut ps);
            demuxer.push(&packet(payload_type, frame.pts as u32, true, &ps), &mut |frame| got.push(frame));
        }
        assert_eq!(got, frames, "{payload_type}");
    }
}

#[test]
fn program_stream_cut_without_regard_to_frames_is_recognised() {
    let frames = stream(Codec::H264, 5, &mut Random::new(6));
    let mut ps = vec![7; 100];
    let mut muxer = PsMuxer::new(Some(Codec::H264), None);
    frames.iter().for_each(|frame| muxer.write(frame, &mut ps));
    let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
    for payload in ps.chunks(1400) {
        demuxer.push(&packet(96, 0, false, payload), &mut |frame| got.push(frame));
    }
    demuxer.flush(&mut |frame| got.push(frame));
    assert_eq!(got, frames);
}

#[test]
fn noise_is_no_format() {
    let mut random = Random::new(5);
    let mut demuxer = Demuxer::new();
    for n in 0..2000 {
        let noise = random.payload(1000);
        demuxer.push(&packet(96, n, n % 3 == 0, &noise), &mut |_| panic!("a frame out of noise"));
    }
}

#[test]
fn g711_and_aac_have_clocks_of_their_own() {
    let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
    for n in 0..3 {
        demuxer.push(&packet(8, 8000 + n * 160, false, &[0xD5; 160]), &mut |frame: Frame| got.push(frame));
    }
    assert_eq!(got.iter().map(|frame| frame.pts).collect::<Vec<_>>(), [90_000, 91_800, 93_600]);
    assert_eq!((got[0].codec, got[0].data.len()), (Codec::G711A, 160));
    let (mut demuxer, mut got) = (Demuxer::new(), Vec::new());
    // Two access units of 3 and 2 bytes: 32 bits of headers.
    let payload = [0, 32, 0, 3 << 3, 0, 2 << 3, 1, 2, 3, 4, 5];
    demuxer.push(&packet(102, 8000, true, &payload), &mut |frame: Frame| got.push(frame));
    assert_eq!(got.iter().map(|frame| frame.pts).collect::<Vec<_>>(), [90_000, 90_000 + 1024 * 90 / 8]);
    assert_eq!((&got[0].data[7..], &got[1].data[7..]), (&[1, 2, 3][..], &[4, 5][..]));
}
