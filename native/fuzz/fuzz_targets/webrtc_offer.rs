#![no_main]
//! A browser's offer: our own reading of it, and str0m's, which answers it. The last byte says what the stream has:
//! a line's end is H.264 with A-law, so that offers of browsers are seeds as they are.

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use std::time::Instant;
use tongshi_media::frame::Codec;
use tongshi_media::webrtc::offer::OFFER_MAX;
use tongshi_media::webrtc::Content;
use tongshi_media::webrtc::{Identity, Offer, Peer};

static IDENTITY: OnceLock<Identity> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let Some(control) = data.last() else { return };
    let Ok(offer) = std::str::from_utf8(data) else { return };
    let video = [None, Some(Codec::H265), Some(Codec::H264), Some(Codec::Svac)][usize::from(control & 3)];
    let audio = [None, Some(Codec::G711U), Some(Codec::G711A), Some(Codec::Aac)][usize::from(control >> 2 & 3)];
    let content = Content { video, audio, profile_idc: (control & 16 != 0).then_some(100) };
    let is_read = Offer::read(offer).is_ok();
    let identity = IDENTITY.get_or_init(|| Identity::new().expect("randomness"));
    let local = ([127, 0, 0, 1], 1000).into();
    let accepted = Peer::accept(1, offer, content, identity, local, 1 << 20, (Instant::now(), 0.0));
    if let Ok((_, answer)) = accepted {
        assert!(is_read && offer.len() <= OFFER_MAX);
        assert!(answer.starts_with("v=0\r\n") && answer.contains("a=ice-lite"));
        assert!(answer.contains("a=sendonly") && !answer.contains("a=recvonly"));
    }
});
