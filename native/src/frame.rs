//! One access unit of one track, shared by everybody who needs it.
//!
//! Implements: GB/T 28181-2022 C.1
//! Implements: GB/T 28181-2022 Annex F

use bytes::Bytes;

/// A codec as the program stream map names it; `Unknown` keeps the stream type nobody has a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    H265,
    Svac,
    Mpeg4,
    G711A,
    G711U,
    Aac,
    G7221,
    Unknown(u8),
}

impl Codec {
    /// The codec of a `stream_type` byte.
    pub fn from_stream_type(stream_type: u8) -> Codec {
        match stream_type {
            0x10 => Codec::Mpeg4,
            0x1B => Codec::H264,
            0x24 => Codec::H265,
            0x80 => Codec::Svac,
            0x90 => Codec::G711A,
            0x91 => Codec::G711U,
            0x92 => Codec::G7221,
            0x0F => Codec::Aac,
            other => Codec::Unknown(other),
        }
    }

    /// The `stream_type` byte of this codec.
    pub fn stream_type(self) -> u8 {
        match self {
            Codec::Mpeg4 => 0x10,
            Codec::H264 => 0x1B,
            Codec::H265 => 0x24,
            Codec::Svac => 0x80,
            Codec::G711A => 0x90,
            Codec::G711U => 0x91,
            Codec::G7221 => 0x92,
            Codec::Aac => 0x0F,
            Codec::Unknown(stream_type) => stream_type,
        }
    }

    /// The name used towards Python and in log fields; empty for an unknown codec.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Svac => "svac",
            Codec::Mpeg4 => "mpeg4",
            Codec::G711A => "g711a",
            Codec::G711U => "g711u",
            Codec::Aac => "aac",
            Codec::G7221 => "g722.1",
            Codec::Unknown(_) => "",
        }
    }

    pub fn from_name(name: &str) -> Option<Codec> {
        [
            Codec::H264,
            Codec::H265,
            Codec::Svac,
            Codec::Mpeg4,
            Codec::G711A,
            Codec::G711U,
            Codec::Aac,
            Codec::G7221,
        ]
        .into_iter()
        .find(|codec| codec.name() == name)
    }

    /// G.723.1 (93H), G.729 (99H) and SVAC audio (9BH) have no name here but are sound all the same.
    pub fn is_audio(self) -> bool {
        match self {
            Codec::G711A | Codec::G711U | Codec::Aac | Codec::G7221 => true,
            Codec::Unknown(stream_type) => (0x90..=0x9F).contains(&stream_type),
            _ => false,
        }
    }

    pub fn is_video(self) -> bool {
        !self.is_audio()
    }
}

/// One access unit. `data` is Annex B for H.264 and H.265, ADTS for AAC, and as received for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub codec: Codec,
    /// Presentation time in 90 kHz ticks, unwrapped and continuous over the life of the stream.
    pub pts: u64,
    /// Decoding time in 90 kHz ticks; equals `pts` unless the sender uses B pictures and says so.
    pub dts: u64,
    /// A decoder can start here. Always false for audio.
    pub key: bool,
    /// Carries parameter sets (SPS and what goes with it).
    pub config: bool,
    pub data: Bytes,
}
