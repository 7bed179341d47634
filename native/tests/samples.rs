//! The samples of `tests/data/media`, which our own multiplexer had no part in.

mod common;

use std::fs;
use std::path::PathBuf;

use common::demux;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::nal::records::ParameterSets;

fn sample(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/media");
    fs::read(folder.join(name)).unwrap()
}

fn pictures(frames: &[Frame]) -> Vec<&Frame> {
    frames.iter().filter(|frame| frame.codec.is_video()).collect()
}

/// The pictures of a sample, checked against the Annex B file they were made of.
fn check(name: &str, codec: Codec) -> Vec<Frame> {
    let truth = sample(if codec == Codec::H264 { "good/h264.annexb" } else { "good/h265.annexb" });
    for piece in [1, 100, 1400, 100_000] {
        let frames = demux(&sample(name), piece);
        let pictures = pictures(&frames);
        assert_eq!(pictures.len(), 10, "{name} in pieces of {piece}");
        assert!(pictures.iter().all(|frame| frame.codec == codec), "{name}");
        let all: Vec<u8> = pictures.iter().flat_map(|frame| frame.data.to_vec()).collect();
        assert!(truth == all, "{name} in pieces of {piece}");
        let keys = pictures.iter().filter(|frame| frame.key && frame.config).count();
        assert_eq!(keys, 2, "{name}");
    }
    demux(&sample(name), 1400)
}

#[test]
fn good_streams_give_every_picture_at_its_time() {
    for (name, codec, sound) in
        [("good/h264_g711a.ps", Codec::H264, Codec::G711A), ("good/h265_aac.ps", Codec::H265, Codec::Aac)]
    {
        let frames = check(name, codec);
        let times: Vec<_> = pictures(&frames).iter().map(|frame| frame.pts).collect();
        assert_eq!(times, (0..10).map(|n| 900_000 + n * 3600).collect::<Vec<_>>());
        assert_eq!(frames.iter().filter(|frame| frame.codec == sound).count(), 10);
    }
}

#[test]
fn bad_streams_give_every_picture_too() {
    for (name, codec) in [
        ("map_crc_wrong", Codec::H264),
        ("map_lists_sound_only", Codec::H264),
        ("map_missing", Codec::H265),
        ("map_says_h264_for_h265", Codec::H265),
        ("pes_length_zero", Codec::H264),
        ("private_stream_like_a_pack", Codec::H264),
        ("pts_missing", Codec::H264),
    ] {
        check(&format!("bad/{name}.ps"), codec);
    }
}

#[test]
fn the_picture_size_is_read() {
    for (name, codec) in [("good/h264.annexb", Codec::H264), ("good/h265.annexb", Codec::H265)] {
        let mut sets = ParameterSets::default();
        assert!(sets.update(codec, &sample(name)));
        let sps = sets.sps(codec).unwrap();
        assert_eq!((sps.width, sps.height), (320, 240));
    }
}

#[test]
fn a_stream_joined_in_the_middle_gives_the_whole_pictures_that_follow() {
    let frames = demux(&sample("bad/begins_in_the_middle.ps"), 1400);
    let pictures = pictures(&frames);
    assert_eq!(pictures.len(), 9);
    assert_eq!(pictures[0].pts, 900_000 + 3600);
    assert!(pictures[4].key && pictures[4].codec == Codec::H264);
}
