//! Turns an Annex B file into every container we write, so that an independent demultiplexer can look at them.
//!
//! Usage: containers <h264|h265> <input.annexb> <output folder>; frames are taken to be 25 a second and end at a slice.

use std::path::Path;
use std::{env, fs, io};

use bytes::Bytes;
use tongshi_media::adts::AacConfig;
use tongshi_media::flv::FlvMuxer;
use tongshi_media::fmp4::Fmp4Muxer;
use tongshi_media::frame::{Codec, Frame};
use tongshi_media::nal;
use tongshi_media::ps_mux::PsMuxer;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, codec, input, folder] = arguments.as_slice() else {
        return Err(io::Error::other("usage: containers <h264|h265> <input.annexb> <output folder>"));
    };
    let codec = Codec::from_name(codec).ok_or_else(|| io::Error::other("unknown codec"))?;
    let frames = frames(codec, &fs::read(input)?);
    let (mut ps, mut flv, mut fmp4) = (Vec::new(), Vec::new(), Vec::new());
    let mut ps_muxer = PsMuxer::new(Some(codec), Some(Codec::Aac));
    let (mut flv_muxer, mut fmp4_muxer) = (FlvMuxer::new(), Fmp4Muxer::new());
    for frame in &frames {
        ps_muxer.write(frame, &mut ps);
        flv_muxer.on_frame(frame, &mut flv);
        fmp4.extend(fmp4_muxer.fragment(frame).into_iter().flatten());
    }
    flv.splice(0..0, flv_muxer.header());
    fmp4.splice(0..0, fmp4_muxer.init().unwrap_or_default());
    let folder = Path::new(folder);
    fs::write(folder.join("out.ps"), ps)?;
    fs::write(folder.join("out.flv"), flv)?;
    fs::write(folder.join("out.mp4"), fmp4)?;
    println!("{} {}", frames.len(), fmp4_muxer.mime());
    Ok(())
}

/// Pictures of one slice each, and after each a frame of silent AAC.
fn frames(codec: Codec, data: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut picture = Vec::new();
    let mut pts = 900_000;
    for unit in nal::nals(data) {
        picture.extend([0, 0, 0, 1]);
        picture.extend(unit);
        let is_slice = match codec {
            Codec::H264 => matches!(nal::h264::kind(unit), 1..=5),
            _ => nal::h265::kind(unit) <= nal::h265::VCL_LAST,
        };
        if is_slice {
            let data = Bytes::from(std::mem::take(&mut picture));
            let kind = nal::inspect(codec, &data, false);
            frames.push(Frame { codec, pts, dts: pts, key: kind.key, config: kind.config, data });
            frames.push(silence(pts));
            pts += 3600;
        }
    }
    frames
}

fn silence(pts: u64) -> Frame {
    // 48 kHz mono; a raw frame of one channel element with nothing in it.
    let raw = [0x00, 0xC8, 0x00, 0x80, 0x23, 0x80];
    let config = AacConfig { object_type: 2, rate_index: 3, channels: 1 };
    let data = Bytes::from([&config.header(raw.len())[..], &raw].concat());
    Frame { codec: Codec::Aac, pts, dts: pts, key: false, config: false, data }
}
