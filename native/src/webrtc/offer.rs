//! What a browser's offer wants and can, as far as the answer depends on it.
//!
//! After: RFC 8866, RFC 6184 8.1, RFC 7798 7.1, RFC 4588 8.1, draft-ietf-wish-whep 4.2
//!
//! str0m reads the offer too, and answers it. It matches H.264 profiles strictly, though, and browsers decode more than
//! they name; so the format is chosen here and given to it.

use crate::frame::Codec;

/// Largest offer; browsers send 3 to 8 KiB.
pub const OFFER_MAX: usize = 64 << 10;

/// Most lines that are looked at.
const LINES_MAX: usize = 2000;

/// Most payload types of one medium.
const FORMATS_MAX: usize = 128;

/// Why an offer gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This engine has no port for WebRTC.
    Off,
    /// No SDP, too large, or without what WebRTC needs.
    Malformed,
    /// Not one picture and at most one sound, to be received.
    Media,
    /// The stream's picture is of a codec that the offer does not have.
    Video(Codec),
    /// The stream has a picture that is not known yet, or none.
    NoVideo,
}

impl Refusal {
    /// One word for it, and the codec where it matters.
    pub fn word(self) -> String {
        match self {
            Self::Off => "off".into(),
            Self::Malformed => "malformed".into(),
            Self::Media => "media".into(),
            Self::Video(codec) => format!("codec {}", codec.name()),
            Self::NoVideo => "no video".into(),
        }
    }
}

/// One payload type of the picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    pub payload_type: u8,
    /// The payload type that resends go by.
    pub resend: Option<u8>,
    name: String,
    parameters: String,
}

impl Format {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.split(';').find_map(|one| {
            let (key, value) = one.trim().split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    fn number(&self, name: &str, otherwise: u8) -> u8 {
        self.parameter(name).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    }

    /// `profile-level-id` as one number; what a missing one means stands in RFC 6184 8.1.
    pub fn profile_level(&self) -> u32 {
        let text = self.parameter("profile-level-id").unwrap_or("42000a");
        u32::from_str_radix(text, 16).unwrap_or(0x42_000A)
    }

    /// Profile, tier and level of H.265.
    pub fn profile_tier_level(&self) -> (u8, u8, u8) {
        (self.number("profile-id", 1), self.number("tier-flag", 0), self.number("level-id", 93))
    }

    fn is_of(&self, codec: Codec) -> bool {
        match codec {
            // Mode 1 lets a unit be split over packets.
            Codec::H264 => {
                self.name.eq_ignore_ascii_case("H264/90000") && self.number("packetization-mode", 0) == 1
            }
            Codec::H265 => self.name.eq_ignore_ascii_case("H265/90000"),
            _ => false,
        }
    }
}

/// What the offer wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    formats: Vec<Format>,
    pub wants_video: bool,
    pub wants_audio: bool,
    pub has_pcma: bool,
    pub has_pcmu: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Medium {
    Session,
    Video,
    Audio,
}

impl Offer {
    /// Read an offer.
    pub fn read(text: &str) -> Result<Self, Refusal> {
        if text.len() > OFFER_MAX || !text.starts_with("v=0") || text.lines().count() > LINES_MAX {
            return Err(Refusal::Malformed);
        }
        let (mut offer, mut medium) = (Self::default(), Medium::Session);
        for line in text.lines() {
            if let Some(description) = line.strip_prefix("m=") {
                medium = offer.begin(description)?;
            } else if let Some(attribute) = line.strip_prefix("a=") {
                offer.take(medium, attribute)?;
            }
        }
        if offer.wants_video || offer.wants_audio {
            Ok(offer)
        } else {
            Err(Refusal::Media)
        }
    }

    fn begin(&mut self, description: &str) -> Result<Medium, Refusal> {
        let mut words = description.split_whitespace();
        let (kind, types) = (words.next(), words.skip(2));
        match kind {
            Some("video") if !self.wants_video => {
                self.wants_video = true;
                for one in types.take(FORMATS_MAX) {
                    let payload_type = one.parse().map_err(|_| Refusal::Malformed)?;
                    self.formats.push(Format { payload_type, ..Format::default() });
                }
                Ok(Medium::Video)
            }
            Some("audio") if !self.wants_audio => {
                self.wants_audio = true;
                for one in types.take(FORMATS_MAX) {
                    // Both have fixed numbers (RFC 3551 6).
                    self.has_pcmu |= one == "0";
                    self.has_pcma |= one == "8";
                }
                Ok(Medium::Audio)
            }
            _ => Err(Refusal::Media),
        }
    }

    fn take(&mut self, medium: Medium, attribute: &str) -> Result<(), Refusal> {
        if medium != Medium::Session && matches!(attribute, "sendonly" | "inactive") {
            return Err(Refusal::Media);
        }
        let Some((name, value)) = attribute.split_once(':') else { return Ok(()) };
        let Some((number, rest)) = value.split_once(' ') else { return Ok(()) };
        let Ok(payload_type) = number.parse::<u8>() else { return Ok(()) };
        if medium != Medium::Video {
            return Ok(());
        }
        let Some(at) = self.formats.iter().position(|f| f.payload_type == payload_type) else {
            return Ok(());
        };
        match name {
            "rtpmap" => self.formats[at].name = rest.trim().to_owned(),
            "fmtp" => {
                self.formats[at].parameters = rest.trim().to_owned();
                self.note_resend(at);
            }
            _ => {}
        }
        Ok(())
    }

    /// `apt` names the payload type that this one resends.
    fn note_resend(&mut self, at: usize) {
        let Some(of) = self.formats[at].parameter("apt").and_then(|v| v.parse::<u8>().ok()) else { return };
        let by = self.formats[at].payload_type;
        if let Some(format) = self.formats.iter_mut().find(|f| f.payload_type == of) {
            format.resend = Some(by);
        }
    }

    /// The format for a stream's picture: that of its profile, or else any of the codec, the first one first. Browsers
    /// name one profile and decode the others too.
    pub fn format(&self, codec: Codec, profile_idc: Option<u8>) -> Result<&Format, Refusal> {
        let mut fitting = self.formats.iter().filter(|f| f.is_of(codec));
        let first = fitting.next().ok_or(Refusal::Video(codec))?;
        let same = |f: &&Format| profile_idc.is_some_and(|idc| f.profile_level() >> 16 == u32::from(idc));
        Ok(std::iter::once(first).chain(fitting).find(same).unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 106 107 108 109 39 40\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\n\
        a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
        a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f\r\na=rtpmap:103 rtx/90000\r\n\
        a=fmtp:103 apt=102\r\na=rtpmap:106 H264/90000\r\n\
        a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=640034\r\n\
        a=rtpmap:108 H264/90000\r\na=fmtp:108 packetization-mode=1; Profile-Level-Id=640034\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n";

    #[test]
    fn the_format_of_the_profile_is_chosen_with_its_resend() {
        let offer = Offer::read(CHROMIUM).unwrap();
        assert!(offer.wants_audio && offer.has_pcma && offer.has_pcmu);
        let high = offer.format(Codec::H264, Some(100)).unwrap();
        assert_eq!((high.payload_type, high.resend, high.profile_level()), (108, None, 0x64_0034));
        let base = offer.format(Codec::H264, Some(66)).unwrap();
        assert_eq!((base.payload_type, base.resend), (102, Some(103)));
        // Main is not offered; the first that can split units stands in.
        assert_eq!(offer.format(Codec::H264, Some(77)).unwrap().payload_type, 102);
        assert_eq!(offer.format(Codec::H265, None), Err(Refusal::Video(Codec::H265)));
        assert_eq!(Refusal::Video(Codec::H265).word(), "codec h265");
    }

    #[test]
    fn what_no_viewer_offers_is_refused() {
        let read = |text: &str| Offer::read(text).unwrap_err();
        assert_eq!(read(""), Refusal::Malformed);
        assert_eq!(read("v=0\r\n"), Refusal::Media);
        assert_eq!(read(&CHROMIUM.replace("a=recvonly", "a=sendonly")), Refusal::Media);
        assert_eq!(read(&CHROMIUM.replace("m=audio", "m=video")), Refusal::Media);
        assert_eq!(read(&CHROMIUM.replace("m=audio", "m=application")), Refusal::Media);
        assert_eq!(read(&CHROMIUM.replace(" 39 40", " 39 400")), Refusal::Malformed);
        assert_eq!(read(&format!("v=0\r\n{}", "a=x\r\n".repeat(LINES_MAX))), Refusal::Malformed);
        assert_eq!(read(&format!("v=0{}", " ".repeat(OFFER_MAX))), Refusal::Malformed);
    }

    #[test]
    fn any_cut_of_an_offer_is_read_or_refused() {
        for length in 0..CHROMIUM.len() {
            let _ = Offer::read(&CHROMIUM[..length]);
        }
    }
}
