//! WebRTC towards browsers: an offer is read and answered, frames become RTP payloads, and a [`Peer`] sends them.
//!
//! After: RFC 8825 to 8835 as far as a sender that never asks needs them; ICE lite (RFC 8445 2.5), DTLS-SRTP
//! (RFC 5764), H.264 (RFC 6184) and H.265 (RFC 7798) payloads, G.711 (RFC 3551 4.5.14)
//!
//! No sockets here and no clock: packets and times come in, packets go out to a closure. `engine/peers.rs` owns the
//! port. The protocols below the payloads are str0m's; the certificate and the ciphers stand in `crypto`.

mod answer;
pub mod crypto;
pub mod offer;
pub mod payload;
pub mod peer;
pub mod stun;

pub use answer::Content;
pub use crypto::Identity;
pub use offer::{Offer, Refusal};
pub use peer::{Peer, PeerEnd};
