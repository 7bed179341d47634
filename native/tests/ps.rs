//! Program stream there and back, and everything devices do to it on the way (dossier 15.4 and quirks 40 to 48).

mod common;

use bytes::Bytes;
use common::{annexb, demux, picture, pictures, receive, send, sets, Random};
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::ps_demux::{PsDemuxer, FRAME_MAX};
use tongshi_media::ps_mux::PsMuxer;

const MAP_H264: &[u8] = &[
    0, 0, 1, 0xBC, 0, 0x12, 0xE0, 0xFF, 0, 0, 0, 8, 0x1B, 0xE0, 0, 0, 0x90, 0xC0, 0, 0, 0xFE, 0xDF, 0xB1,
    0xD7,
];
const SYSTEM_SIZE: usize = 18;
const PACK_SIZE: usize = 14;

fn muxed(frames: &[Frame]) -> Vec<u8> {
    let mut ps = Vec::new();
    let mut muxer = PsMuxer::new(Some(Codec::H264), Some(Codec::G711A));
    frames.iter().for_each(|frame| muxer.write(frame, &mut ps));
    ps
}

/// Pack header, then a video PES with the flags and length given.
fn raw_picture(length: u16, pts: Option<u64>, data: &[u8]) -> Vec<u8> {
    let mut ps = muxed(&[])[..0].to_vec();
    PsMuxer::new(None, None).write_video(&[], pts.unwrap_or(0), false, &mut ps);
    ps.truncate(PACK_SIZE);
    ps.extend([0, 0, 1, 0xE0]);
    ps.extend(length.to_be_bytes());
    match pts {
        Some(pts) => {
            let byte = |shift: u64| (pts >> shift) as u8;
            ps.extend([
                0x80,
                0x80,
                5,
                0x21 | byte(29) & 0x0E,
                byte(22),
                byte(14) | 1,
                byte(7),
                byte(0) << 1 | 1,
            ]);
        }
        None => ps.extend([0x80, 0, 0]),
    }
    ps.extend(data);
    ps
}

#[test]
fn what_goes_in_comes_out_for_both_codecs_any_size_and_any_mtu() {
    let mut random = Random::new(1);
    for codec in [Codec::H264, Codec::H265] {
        for mtu in [40, 576, 1400, 9000, 65_535] {
            let frames = pictures(codec, 12, if mtu < 100 { 2_000 } else { 200_000 }, &mut random);
            let sent = send(&frames, &mut PsMuxer::new(Some(codec), None), mtu);
            let mut demuxer = PsDemuxer::new();
            assert_eq!(receive(&mut demuxer, &sent), frames, "{codec:?} {mtu}");
            let stats = demuxer.stats();
            assert_eq!((stats.frames, stats.key_frames, stats.malformed, stats.dropped), (12, 3, 0, 0));
        }
    }
}

#[test]
fn a_frame_is_out_with_its_last_packet_when_the_marker_is_true() {
    let frames = pictures(Codec::H264, 8, 5000, &mut Random::new(2));
    let sent = send(&frames, &mut PsMuxer::new(Some(Codec::H264), None), 1400);
    let (mut demuxer, mut got) = (PsDemuxer::new(), 0);
    for packet in &sent {
        demuxer.push(&packet.payload, packet.rtp_ts, packet.marker, &mut |_| got += 1);
        assert_eq!(got, packet.frame + usize::from(packet.marker));
    }
}

#[test]
fn markers_that_are_missing_or_everywhere_do_no_harm() {
    let frames = pictures(Codec::H264, 12, 100_000, &mut Random::new(3));
    for marker in [false, true] {
        // An MTU at which the first PES of a large picture ends with a packet makes the lie look true.
        for mtu in [1400, 12 + (PACK_SIZE + 65_541) / 5] {
            let mut sent = send(&frames, &mut PsMuxer::new(Some(Codec::H264), None), mtu);
            sent.iter_mut().for_each(|packet| packet.marker = marker);
            let got = receive(&mut PsDemuxer::new(), &sent);
            assert_eq!(got[got.len() - 6..], frames[6..], "{marker} {mtu}");
        }
    }
}

#[test]
fn with_open_lengths_a_marker_is_believed_only_until_it_lies() {
    let mut random = Random::new(21);
    let (mut demuxer, mut got) = (PsDemuxer::new(), Vec::new());
    let frames: Vec<_> = (0..12)
        .map(|n| {
            picture(Codec::H264, n == 0, if n < 4 { 300 } else { 3000 }, 900_000 + n * 3600, &mut random)
        })
        .collect();
    for (frame, index) in frames.iter().zip(0..) {
        let ps = raw_picture(0, Some(frame.pts), &frame.data);
        for payload in ps.chunks(1000) {
            demuxer.push(payload, frame.pts as u32, true, &mut |frame| got.push(frame));
        }
        if index == 3 {
            assert_eq!(got, frames[..4], "true so far, so the last one is out already");
        }
    }
    demuxer.flush(&mut |frame| got.push(frame));
    assert_eq!(got[got.len() - 7..], frames[5..]);
}

#[test]
fn without_marker_a_picture_is_out_when_only_sound_of_a_later_time_follows() {
    let frames = pictures(Codec::H264, 1, 500, &mut Random::new(22));
    let (mut demuxer, mut got) = (PsDemuxer::new(), Vec::new());
    let mut muxer = PsMuxer::new(Some(Codec::H264), Some(Codec::G711A));
    let (mut seen, mut heard) = (Vec::new(), Vec::new());
    muxer.write(&frames[0], &mut seen);
    muxer.write_audio(&[5; 160], frames[0].pts + 1800, &mut heard);
    demuxer.push(&seen, 1, false, &mut |frame| got.push(frame));
    assert!(got.is_empty());
    demuxer.push(&heard, 2, false, &mut |frame| got.push(frame));
    assert_eq!((got.len(), &got[0]), (2, &frames[0]));
}

#[test]
fn one_rtp_time_for_everything_still_gives_frames() {
    let frames = pictures(Codec::H265, 12, 100_000, &mut Random::new(4));
    let mut sent = send(&frames, &mut PsMuxer::new(Some(Codec::H265), None), 1400);
    for packet in &mut sent {
        packet.rtp_ts = 77;
        packet.marker = false;
    }
    assert_eq!(receive(&mut PsDemuxer::new(), &sent), frames);
}

#[test]
fn a_lost_packet_costs_its_frame_and_no_other_one() {
    let frames = pictures(Codec::H264, 9, 6000, &mut Random::new(5));
    let sent = send(&frames, &mut PsMuxer::new(Some(Codec::H264), None), 1400);
    for lost in 0..sent.len() {
        let (mut demuxer, mut got) = (PsDemuxer::new(), Vec::new());
        for (index, packet) in sent.iter().enumerate() {
            if index == lost {
                demuxer.loss();
                continue;
            }
            demuxer.push(&packet.payload, packet.rtp_ts, packet.marker, &mut |frame| got.push(frame));
        }
        let mut want = frames.clone();
        let hit = want.remove(sent[lost].frame);
        // Without the first packet nobody knows the codec yet; the map comes again with the next key frame.
        if hit.pts == frames[0].pts {
            assert_eq!(got[got.len() - 4..], want[want.len() - 4..], "lost {lost}");
            assert_eq!(got.len(), want.len());
        } else {
            assert_eq!(got, want, "lost {lost}");
        }
    }
}

#[test]
fn a_stream_joined_in_the_middle_begins_at_the_next_pack() {
    let frames = pictures(Codec::H264, 6, 4000, &mut Random::new(6));
    let sent = send(&frames, &mut PsMuxer::new(Some(Codec::H264), None), 500);
    let first = sent.iter().position(|packet| packet.frame == 4).unwrap() + 1;
    let got = receive(&mut PsDemuxer::new(), &sent[first..]);
    assert_eq!(got, frames[5..]);
}

#[test]
fn payloads_may_be_cut_anywhere() {
    let mut random = Random::new(7);
    let mut frames = pictures(Codec::H264, 4, 200, &mut random);
    let sound = Bytes::from(random.payload(160));
    let sound =
        Frame { codec: Codec::G711A, pts: 903_600, dts: 903_600, key: false, config: false, data: sound };
    frames.insert(2, sound);
    let ps = muxed(&frames);
    let mut want = frames.clone();
    want.sort_by_key(|frame| (frame.codec.is_audio(), frame.pts));
    for piece in 1..ps.len() {
        let mut got = demux(&ps, piece);
        got.sort_by_key(|frame| (frame.codec.is_audio(), frame.pts));
        assert_eq!(got, want, "pieces of {piece}");
    }
}

#[test]
fn an_open_length_ends_at_the_next_start_code_wherever_it_is_cut() {
    let mut random = Random::new(8);
    let frames: Vec<_> =
        (0..5).map(|n| picture(Codec::H264, n == 0, 300, 900_000 + n * 3600, &mut random)).collect();
    let ps: Vec<u8> = frames.iter().flat_map(|frame| raw_picture(0, Some(frame.pts), &frame.data)).collect();
    for piece in 1..400 {
        assert_eq!(demux(&ps, piece), frames, "pieces of {piece}");
    }
}

#[test]
fn a_false_pack_header_inside_an_open_length_is_stepped_over() {
    let frames = pictures(Codec::H264, 4, 300, &mut Random::new(20));
    let mut ps = raw_picture(0, Some(frames[0].pts), &frames[0].data);
    ps.extend([0, 0, 1, 0xBA, 0xFF, 1, 2, 3]);
    ps.extend(muxed(&frames[1..]));
    for piece in [1, 3, 1400] {
        assert_eq!(demux(&ps, piece), frames, "pieces of {piece}");
    }
}

#[test]
fn a_length_that_counts_modulo_65536_is_read_to_the_end() {
    let mut random = Random::new(9);
    let frames: Vec<_> =
        (0..3).map(|n| picture(Codec::H264, n == 0, 150_000, 900_000 + n * 3600, &mut random)).collect();
    let wrapped = |frame: &Frame| raw_picture((8 + frame.data.len()) as u16, Some(frame.pts), &frame.data);
    let ps: Vec<u8> = frames.iter().flat_map(wrapped).collect();
    assert_eq!(demux(&ps, 1400), frames);
}

#[test]
fn a_length_that_claims_too_much_ends_with_the_rtp_time() {
    let mut random = Random::new(10);
    let (mut demuxer, mut got) = (PsDemuxer::new(), Vec::new());
    let frames: Vec<_> =
        (0..4).map(|n| picture(Codec::H264, n == 0, 300, 900_000 + n * 3600, &mut random)).collect();
    for frame in &frames {
        let ps = raw_picture(40_000, Some(frame.pts), &frame.data);
        demuxer.push(&ps, frame.pts as u32, true, &mut |frame| got.push(frame));
    }
    assert_eq!(got, frames[..3]);
    assert_eq!(demuxer.stats().malformed, 3);
}

#[test]
fn without_pts_the_rtp_time_stands_in() {
    let mut random = Random::new(11);
    let (mut demuxer, mut got) = (PsDemuxer::new(), Vec::new());
    for n in 0..5 {
        let frame = picture(Codec::H264, n == 0, 300, 0, &mut random);
        let ps = raw_picture(3 + frame.data.len() as u16, None, &frame.data);
        demuxer.push(&ps, 5000 + n * 3600, false, &mut |frame: Frame| got.push(frame.pts));
    }
    assert_eq!(got, [5000, 8600, 12_200, 15_800]);
}

#[test]
fn the_payload_is_believed_over_a_map_that_is_wrong_or_missing() {
    for (codec, declared) in [(Codec::H264, Codec::H265), (Codec::H265, Codec::H264)] {
        let frames = pictures(codec, 6, 500, &mut Random::new(12));
        let mut ps = Vec::new();
        let mut muxer = PsMuxer::new(Some(declared), None);
        frames.iter().for_each(|frame| muxer.write_video(&frame.data, frame.pts, frame.key, &mut ps));
        assert_eq!(demux(&ps, 700), frames);
        let bare: Vec<u8> = frames
            .iter()
            .flat_map(|frame| raw_picture(8 + frame.data.len() as u16, Some(frame.pts), &frame.data))
            .collect();
        assert_eq!(demux(&bare, 700), frames);
    }
}

#[test]
fn a_map_with_sound_only_does_not_hide_the_picture() {
    let frames = pictures(Codec::H264, 6, 500, &mut Random::new(13));
    let mut ps = Vec::new();
    let mut muxer = PsMuxer::new(None, Some(Codec::G711A));
    frames.iter().for_each(|frame| muxer.write_video(&frame.data, frame.pts, frame.key, &mut ps));
    assert_eq!(demux(&ps, 700), frames);
}

#[test]
fn strange_units_between_are_passed_over_by_their_length() {
    let frames = pictures(Codec::H264, 3, 500, &mut Random::new(14));
    let mut ps = muxed(&frames[..1]);
    for id in [0xBD, 0xBE, 0xBF, 0xF2, 0xFF] {
        let body = [0, 0, 1, 0xBA, 0x44, 0, 0, 1, 0xE0]; // looks like a pack, and is not
        ps.extend([0, 0, 1, id, 0, body.len() as u8]);
        ps.extend(body);
    }
    ps.extend([0, 0, 1, 0xB9]);
    ps.extend(muxed(&frames[1..]));
    assert_eq!(demux(&ps, 64), frames);
}

#[test]
fn maps_with_wrong_crc_absurd_size_or_cut_entries_do_not_stop_the_stream() {
    let frames = pictures(Codec::H264, 5, 500, &mut Random::new(15));
    let map_at = PACK_SIZE + SYSTEM_SIZE;
    let ps = muxed(&frames);
    assert_eq!(&ps[map_at..map_at + MAP_H264.len()], MAP_H264);
    for (at, value) in [(23, 0), (11, 0xFF), (9, 0xFF), (10, 0xFF), (15, 0xFF)] {
        let mut bent = ps.clone();
        bent[map_at + at] = value;
        let got: Vec<_> = demux(&bent, 1400).into_iter().map(|frame| frame.data).collect();
        assert_eq!(got, frames.iter().map(|frame| frame.data.clone()).collect::<Vec<_>>(), "byte {at}");
    }
}

#[test]
fn pack_stuffing_is_honoured() {
    let frames = pictures(Codec::H264, 3, 500, &mut Random::new(16));
    let ps: Vec<u8> = frames
        .iter()
        .flat_map(|frame| {
            let mut ps = muxed(std::slice::from_ref(frame));
            ps[13] |= 7;
            ps.splice(14..14, [0xFF; 7]);
            ps
        })
        .collect();
    for piece in [1, 15, 1400] {
        assert_eq!(demux(&ps, piece), frames);
    }
}

#[test]
fn a_picture_past_the_bound_is_dropped_and_the_next_one_is_not() {
    let mut random = Random::new(17);
    let mut frames = pictures(Codec::H264, 3, 500, &mut random);
    frames[1] = picture(Codec::H264, false, FRAME_MAX + 1, frames[1].pts, &mut random);
    let sent = send(&frames, &mut PsMuxer::new(Some(Codec::H264), None), 60_000);
    let mut demuxer = PsDemuxer::new();
    let got = receive(&mut demuxer, &sent);
    assert_eq!(got, [frames[0].clone(), frames[2].clone()]);
    assert_eq!(demuxer.stats().oversized, 1);
}

#[test]
fn decoding_times_pass_and_pictures_keep_the_order_they_came_in() {
    let mut frames = pictures(Codec::H264, 4, 500, &mut Random::new(18));
    for (frame, shown) in frames.iter_mut().zip([2, 5, 3, 4]) {
        frame.pts = 900_000 + shown * 3600;
    }
    let ps = muxed(&frames);
    assert_eq!(demux(&ps, 1400), frames);
}

#[test]
fn sound_stamped_in_samples_is_recognised_and_follows_the_picture() {
    let mut random = Random::new(19);
    let mut muxer = PsMuxer::new(Some(Codec::H264), Some(Codec::G711A));
    let (mut demuxer, mut seen, mut heard) = (PsDemuxer::new(), Vec::new(), Vec::new());
    for n in 0..50_u64 {
        let mut ps = Vec::new();
        let frame = picture(Codec::H264, n % 25 == 0, 300, 900_000 + n * 3600, &mut random);
        muxer.write(&frame, &mut ps);
        muxer.write_audio(&random.payload(320), 40_000_000 + n * 320, &mut ps); // 40 ms of samples
        demuxer.push(&ps, frame.pts as u32, true, &mut |frame: Frame| {
            if frame.codec.is_audio() {
                heard.push(frame.pts)
            } else {
                seen.push(frame.pts)
            }
        });
    }
    assert!(heard[10..].windows(2).all(|pair| pair[1] - pair[0] == 3600), "{heard:?}");
    assert!(heard[49].abs_diff(seen[49]) <= 2 * 3600, "{} {}", heard[49], seen[49]);
}

#[test]
fn aac_without_a_map_shows_itself() {
    let config = tongshi_media::adts::AacConfig { object_type: 2, rate_index: 11, channels: 1 };
    let sound = [&config.header(4)[..], &[1, 2, 3, 4]].concat();
    let mut ps = Vec::new();
    PsMuxer::new(Some(Codec::H264), None).write_audio(&sound, 9000, &mut ps);
    let got = demux(&ps, 1400);
    assert_eq!((got[0].codec, &got[0].data[..], got[0].pts), (Codec::Aac, &sound[..], 9000));
}

#[test]
fn parameter_sets_in_a_pes_of_their_own_join_their_picture() {
    let all = sets(Codec::H264);
    let parts = [annexb(&[&all[0]]), annexb(&[&all[1]]), annexb(&[&[0x65, 0x88, 1]])];
    let mut ps = Vec::new();
    for part in &parts {
        let pes = raw_picture(8 + part.len() as u16, Some(9000), part);
        ps.extend(&pes[if ps.is_empty() { 0 } else { PACK_SIZE }..]);
    }
    let got = demux(&ps, 1400);
    assert_eq!((got.len(), got[0].key, got[0].config), (1, true, true));
    assert_eq!(got[0].data, parts.concat());
}

#[test]
fn unknown_and_chinese_codecs_pass_untouched_with_the_containers_word_for_key() {
    for codec in [Codec::Svac, Codec::Unknown(0x42)] {
        let mut ps = Vec::new();
        let mut muxer = PsMuxer::new(Some(codec), None);
        for (pts, key) in [(0, true), (3600, false)] {
            muxer.write_video(&[0, 0, 1, 0x11, 0x22, 0x33], pts, key, &mut ps);
        }
        let got: Vec<_> = demux(&ps, 1400).iter().map(|frame| (frame.codec, frame.key)).collect();
        assert_eq!(got, [(codec, true), (codec, false)]);
    }
}
