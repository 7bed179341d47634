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
    // Sound that is named and passed on, and that nothing here looks into.
    pub const G7231: Codec = Codec::Unknown(0x93);
    pub const G729: Codec = Codec::Unknown(0x99);
    pub const SVAC_AUDIO: Codec = Codec::Unknown(0x9B);

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
            Codec::G7231 => "g723.1",
            Codec::G729 => "g729",
            Codec::SVAC_AUDIO => "svac-audio",
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
            Codec::G7231,
            Codec::G729,
            Codec::SVAC_AUDIO,
        ]
        .into_iter()
        .find(|codec| codec.name() == name)
    }

    /// Stream types 90H to 9FH are sound, also those that nobody here has a name for.
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
    /// A decoder can start here. Of sound: viewers of a stream without any picture may start here.
    pub key: bool,
    /// Carries parameter sets (SPS and what goes with it).
    pub config: bool,
    pub data: Bytes,
}
