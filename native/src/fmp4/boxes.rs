//! The MP4 boxes we write: an init segment, and the head of a fragment.
//!
//! After: ISO/IEC 14496-12 8 (boxes), 14496-14 5.6 (esds), 14496-15 5.4.2, 8.4.1 (avc1, hvc1)

use crate::adts::AacConfig;
use crate::frame::Codec;

use super::{AUDIO_TRACK, VIDEO_TRACK};

const VIDEO_TIMESCALE: u32 = 90_000;
/// The unity matrix of movie and track headers.
const MATRIX: [u32; 9] = [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000];

/// A sample that depends on no other, and one that does (14496-12 8.8.3.1).
const FLAGS_KEY: u32 = 0x0200_0000;
const FLAGS_INTER: u32 = 0x0101_0000;

#[derive(Clone, Debug)]
pub struct VideoEntry {
    pub codec: Codec,
    pub width: u16,
    pub height: u16,
    /// avcC or hvcC.
    pub record: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub duration: u32,
    pub size: u32,
    pub key: bool,
    /// Presentation minus decoding time.
    pub shift: i32,
}

/// ftyp and moov for the tracks given.
pub fn init(video: Option<&VideoEntry>, audio: Option<AacConfig>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    put(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso5\x00\x00\x02\x00iso5iso6mp41");
    });
    put(&mut out, b"moov", |out| {
        write_movie_header(out);
        if let Some(entry) = video {
            write_video_track(entry, out);
        }
        if let Some(config) = audio {
            write_audio_track(config, out);
        }
        put(out, b"mvex", |out| {
            let tracks = [video.map(|_| VIDEO_TRACK), audio.map(|_| AUDIO_TRACK)];
            for track in tracks.into_iter().flatten() {
                put_full(out, b"trex", 0, 0, |out| words(out, &[track, 1, 0, 0, 0]));
            }
        });
    });
    out
}

/// Where in the head of a fragment the sizes stand that are known only behind the media.
pub struct Patch {
    sample_size: usize,
    mdat: usize,
}

impl Patch {
    /// The one sample ends at the end of `out` and began at `media`.
    pub fn set_size(&self, media: usize, out: &mut [u8]) {
        let size = (out.len() - media) as u32;
        out[self.sample_size..self.sample_size + 4].copy_from_slice(&size.to_be_bytes());
        self.set_mdat(media, out);
    }

    pub fn set_mdat(&self, media: usize, out: &mut [u8]) {
        let size = (out.len() - media + 8) as u32;
        out[self.mdat..self.mdat + 4].copy_from_slice(&size.to_be_bytes());
    }
}

/// moof and the head of mdat; the media follows.
pub fn moof(sequence: u32, track: u32, time: u64, samples: &[Sample], out: &mut Vec<u8>) -> Patch {
    let start = out.len();
    let (mut offset, mut sample_size) = (0, 0);
    put(out, b"moof", |out| {
        put_full(out, b"mfhd", 0, 0, |out| words(out, &[sequence]));
        put(out, b"traf", |out| {
            put_full(out, b"tfhd", 0, 0x02_0000, |out| words(out, &[track])); // offsets count from the moof
            put_full(out, b"tfdt", 1, 0, |out| out.extend_from_slice(&time.to_be_bytes()));
            // data offset; duration, size, flags and signed composition offset for each sample
            put_full(out, b"trun", 1, 0xF01, |out| {
                words(out, &[samples.len() as u32]);
                offset = out.len();
                words(out, &[0]);
                sample_size = out.len() + 4;
                for sample in samples {
                    let flags = if sample.key { FLAGS_KEY } else { FLAGS_INTER };
                    words(out, &[sample.duration, sample.size, flags, sample.shift as u32]);
                }
            });
        });
    });
    let data_offset = (out.len() - start + 8) as u32;
    out[offset..offset + 4].copy_from_slice(&data_offset.to_be_bytes());
    let mdat = out.len();
    out.extend_from_slice(b"\0\0\0\0mdat");
    Patch { sample_size, mdat }
}

fn write_movie_header(out: &mut Vec<u8>) {
    put_full(out, b"mvhd", 0, 0, |out| {
        words(out, &[0, 0, 1000, 0, 0x10000, 0x0100_0000, 0, 0]);
        words(out, &MATRIX);
        words(out, &[0, 0, 0, 0, 0, 0, AUDIO_TRACK + 1]);
    });
}

fn write_video_track(entry: &VideoEntry, out: &mut Vec<u8>) {
    let size = [u32::from(entry.width) << 16, u32::from(entry.height) << 16];
    let header = TrackHeader { id: VIDEO_TRACK, timescale: VIDEO_TIMESCALE, size, kind: b"vide", volume: 0 };
    write_track(&header, out, |out| {
        let (name, record) = if entry.codec == Codec::H264 { (b"avc1", b"avcC") } else { (b"hvc1", b"hvcC") };
        put(out, name, |out| {
            out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]); // data reference 1
            words(out, &[0, 0, 0, 0]);
            out.extend_from_slice(&entry.width.to_be_bytes());
            out.extend_from_slice(&entry.height.to_be_bytes());
            words(out, &[0x48_0000, 0x48_0000, 0]); // 72 dpi
            out.extend_from_slice(&[0, 1]); // one frame a sample
            out.extend_from_slice(&[0; 32]); // no compressor name
            out.extend_from_slice(&[0, 24, 0xFF, 0xFF]); // 24 bits deep, no colour table
            put(out, record, |out| out.extend_from_slice(&entry.record));
        });
    });
}

fn write_audio_track(config: AacConfig, out: &mut Vec<u8>) {
    let rate_hz = config.rate_hz();
    let header =
        TrackHeader { id: AUDIO_TRACK, timescale: rate_hz, size: [0, 0], kind: b"soun", volume: 0x100 };
    write_track(&header, out, |out| {
        put(out, b"mp4a", |out| {
            out.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 1]); // data reference 1
            words(out, &[0, 0]);
            out.extend_from_slice(&[0, config.channels, 0, 16, 0, 0, 0, 0]); // 16 bit samples
            words(out, &[(rate_hz & 0xFFFF) << 16]);
            put_full(out, b"esds", 0, 0, |out| write_elementary_descriptor(config, out));
        });
    });
}

/// ES descriptor, decoder configuration (MPEG-4 audio), AudioSpecificConfig, SL configuration.
fn write_elementary_descriptor(config: AacConfig, out: &mut Vec<u8>) {
    out.extend_from_slice(&[3, 25, 0, AUDIO_TRACK as u8, 0]);
    out.extend_from_slice(&[4, 17, 0x40, 0x15, 0, 0, 0]);
    words(out, &[0, 0]); // bit rates unknown
    out.extend_from_slice(&[5, 2]);
    out.extend_from_slice(&config.audio_specific_config());
    out.extend_from_slice(&[6, 1, 2]);
}

struct TrackHeader<'a> {
    id: u32,
    timescale: u32,
    size: [u32; 2],
    kind: &'a [u8; 4],
    volume: u16,
}

fn write_track(track: &TrackHeader<'_>, out: &mut Vec<u8>, sample_entry: impl FnOnce(&mut Vec<u8>)) {
    put(out, b"trak", |out| {
        put_full(out, b"tkhd", 0, 3, |out| {
            words(out, &[0, 0, track.id, 0, 0, 0, 0, 0, u32::from(track.volume) << 16]);
            words(out, &MATRIX);
            words(out, &track.size);
        });
        put(out, b"mdia", |out| {
            put_full(out, b"mdhd", 0, 0, |out| words(out, &[0, 0, track.timescale, 0, 0x55C4_0000])); // und
            put_full(out, b"hdlr", 0, 0, |out| {
                words(out, &[0]);
                out.extend_from_slice(track.kind);
                out.extend_from_slice(&[0; 13]); // reserved, and an empty name
            });
            put(out, b"minf", |out| {
                match track.kind {
                    b"vide" => put_full(out, b"vmhd", 0, 1, |out| words(out, &[0, 0])),
                    _ => put_full(out, b"smhd", 0, 0, |out| words(out, &[0])),
                }
                put(out, b"dinf", |out| {
                    put_full(out, b"dref", 0, 0, |out| {
                        words(out, &[1]);
                        put_full(out, b"url ", 0, 1, |_| {}); // the media is in this file
                    });
                });
                put(out, b"stbl", |out| write_sample_table(out, sample_entry));
            });
        });
    });
}

/// The sample table of a fragmented file: an entry, and no samples.
fn write_sample_table(out: &mut Vec<u8>, sample_entry: impl FnOnce(&mut Vec<u8>)) {
    put_full(out, b"stsd", 0, 0, |out| {
        words(out, &[1]);
        sample_entry(out);
    });
    put_full(out, b"stts", 0, 0, |out| words(out, &[0]));
    put_full(out, b"stsc", 0, 0, |out| words(out, &[0]));
    put_full(out, b"stsz", 0, 0, |out| words(out, &[0, 0]));
    put_full(out, b"stco", 0, 0, |out| words(out, &[0]));
}

fn put(out: &mut Vec<u8>, name: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(name);
    body(out);
    let size = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

fn put_full(out: &mut Vec<u8>, name: &[u8; 4], version: u8, flags: u32, body: impl FnOnce(&mut Vec<u8>)) {
    put(out, name, |out| {
        words(out, &[u32::from(version) << 24 | flags]);
        body(out);
    });
}

fn words(out: &mut Vec<u8>, values: &[u32]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}
