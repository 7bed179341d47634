//! What an offer is answered: the codecs that are chosen, and the text as it goes out.

use super::offer::{Offer, Refusal};
use crate::frame::Codec;
use str0m::format::CodecConfig;
use str0m::media::{MediaKind, Pt};

/// What the stream has when somebody wants to watch it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Content {
    pub video: Option<Codec>,
    pub audio: Option<Codec>,
    /// Of H.264: the profile the pictures need.
    pub profile_idc: Option<u8>,
}

/// The payload types that are answered, one for the picture and one for the sound.
pub(super) fn choose(
    offer: &Offer,
    content: Content,
    config: &mut CodecConfig,
) -> Result<Vec<(MediaKind, Pt, Codec)>, Refusal> {
    let mut codecs = Vec::new();
    if offer.wants_video {
        let codec = content.video.ok_or(Refusal::NoVideo)?;
        let format = offer.format(codec, content.profile_idc)?;
        let (number, resend) = (Pt::from(format.payload_type), format.resend.map(Pt::from));
        if codec == Codec::H264 {
            config.add_h264(number, resend, true, format.profile_level());
        } else {
            let (profile, tier, level) = format.profile_tier_level();
            config.add_h265(number, resend, profile, tier, level);
        }
        codecs.push((MediaKind::Video, number, codec));
    }
    if offer.wants_audio {
        // Sound that is no G.711 has no place here; its line is answered all the same, as one that stays silent.
        let codec = content.audio.filter(|codec| is_g711(*codec)).unwrap_or(Codec::G711A);
        let (is_offered, number) = match codec {
            Codec::G711A => (offer.has_pcma, 8),
            _ => (offer.has_pcmu, 0),
        };
        if !is_offered {
            return Err(Refusal::Media);
        }
        config.enable_pcma(codec == Codec::G711A);
        config.enable_pcmu(codec == Codec::G711U);
        codecs.push((MediaKind::Audio, Pt::from(number), codec));
    }
    Ok(codecs)
}

/// The answer as it goes out: reports in full, which are never shorter than we take, and sound that is not sent marked as
/// such.
pub(super) fn adapted(answer: &str, content: Content) -> String {
    let sends_sound = content.audio.is_none_or(is_g711);
    let mut is_audio = false;
    let mut out = String::with_capacity(answer.len());
    for line in answer.split_inclusive("\r\n").filter(|line| !line.starts_with("a=rtcp-rsize")) {
        if line.starts_with("m=") {
            is_audio = line.starts_with("m=audio");
        }
        let is_silent = is_audio && !sends_sound && line.starts_with("a=sendonly");
        out.push_str(if is_silent { "a=inactive\r\n" } else { line });
    }
    out
}

fn is_g711(codec: Codec) -> bool {
    matches!(codec, Codec::G711A | Codec::G711U)
}
