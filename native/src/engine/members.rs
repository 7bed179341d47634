//! Whose a packet of a shared port is: by its SSRC, and by where it comes from.
//!
//! An SSRC says more than a source, which a NAT may share. Two domains may choose the same SSRC, as each numbers its own
//! streams (G note 16): then the source decides, and what comes from neither is nobody's. Where the packets of a stream
//! really come from is learnt, since session descriptions name addresses that no packet carries (quirk 80). The SSRC
//! of a stream that is over stays nobody's as long as its packets do not pause (quirk 41): they never become another's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// A sender that was silent for this long has ended; who uses its SSRC now is another.
const ORPHAN_PAUSE_MS: f64 = 1000.0;
/// SSRCs remembered of streams that are over.
const ORPHANS_MAX: usize = 4096;

/// The streams of one port.
#[derive(Default)]
pub(super) struct Members {
    pub count: usize,
    by_ssrc: HashMap<u32, Vec<u64>>,
    by_host: HashMap<IpAddr, Vec<(u64, u16)>>,
    sources: HashMap<u64, SocketAddr>,
    /// SSRC of streams that are over, and when a packet of it came last.
    orphans: HashMap<u32, f64>,
}

impl Members {
    /// The stream of a packet.
    pub fn owner(&mut self, ssrc: Option<u32>, source: Option<SocketAddr>, now_ms: f64) -> Option<u64> {
        let of_ssrc = ssrc.and_then(|ssrc| self.by_ssrc.get(&ssrc)).map_or(&[][..], Vec::as_slice);
        if let [one] = *of_ssrc {
            return match source {
                Some(source) if self.sources.get(&one) != Some(&source) => Some(self.settle(one, source)),
                _ => Some(one),
            };
        }
        if !of_ssrc.is_empty() {
            return pick(self.on_host(source?.ip()).filter(|(key, _)| of_ssrc.contains(key)), source?.port());
        }
        if self.is_orphan(ssrc, now_ms) {
            return None;
        }
        self.of_source(source?)
    }

    fn on_host(&self, host: IpAddr) -> impl Iterator<Item = (u64, u16)> + Clone + '_ {
        self.by_host.get(&host).into_iter().flatten().copied()
    }

    /// Who comes exactly from there; else the only one that may come from any port of the host.
    fn of_source(&self, source: SocketAddr) -> Option<u64> {
        let on_host = self.on_host(source.ip());
        pick(on_host.filter(|(_, port)| *port == source.port() || *port == 0), source.port())
    }

    /// A packet has the SSRC of `one` and comes from elsewhere: another's, when that one alone is known to be there.
    fn settle(&mut self, one: u64, source: SocketAddr) -> u64 {
        let mut exact = self.on_host(source.ip()).filter(|(_, port)| *port == source.port());
        let is_elsewhere = self.sources.get(&one).is_some_and(|known| known.ip() != source.ip());
        match exact.next() {
            Some((other, _)) if is_elsewhere => other,
            Some(_) => one,
            None => {
                drop(exact);
                self.expect_source(one, source);
                one
            }
        }
    }

    fn is_orphan(&mut self, ssrc: Option<u32>, now_ms: f64) -> bool {
        let Some(seen_ms) = ssrc.and_then(|ssrc| self.orphans.get_mut(&ssrc)) else { return false };
        let is_orphan = now_ms - *seen_ms < ORPHAN_PAUSE_MS;
        *seen_ms = if is_orphan { now_ms } else { f64::NEG_INFINITY };
        is_orphan
    }

    /// The stream takes this SSRC from now on; None leaves it its source alone.
    pub fn expect_ssrc(&mut self, stream: u64, ssrc: Option<u32>) {
        self.forget_ssrc(stream);
        if let Some(ssrc) = ssrc {
            self.orphans.remove(&ssrc);
            self.by_ssrc.entry(ssrc).or_default().push(stream);
        }
    }

    /// Packets from there are the stream's when no SSRC says otherwise.
    pub fn expect_source(&mut self, stream: u64, source: SocketAddr) {
        self.forget_source(stream);
        self.by_host.entry(source.ip()).or_default().push((stream, source.port()));
        self.sources.insert(stream, source);
    }

    /// A stream is over; `heard` is the SSRC that it really had.
    pub fn leave(&mut self, stream: u64, heard: Option<u32>, now_ms: f64) {
        let left = self.forget_ssrc(stream).or(heard);
        self.forget_source(stream);
        self.count -= 1;
        if self.orphans.len() >= ORPHANS_MAX {
            self.orphans.retain(|_, seen_ms| now_ms - *seen_ms < ORPHAN_PAUSE_MS);
        }
        for ssrc in left.into_iter().chain(heard) {
            if self.orphans.len() < ORPHANS_MAX && !self.by_ssrc.contains_key(&ssrc) {
                self.orphans.insert(ssrc, now_ms);
            }
        }
    }

    fn forget_ssrc(&mut self, stream: u64) -> Option<u32> {
        let ssrc = self.by_ssrc.iter().find(|(_, keys)| keys.contains(&stream)).map(|(&ssrc, _)| ssrc)?;
        let keys = self.by_ssrc.get_mut(&ssrc)?;
        keys.retain(|key| *key != stream);
        if keys.is_empty() {
            self.by_ssrc.remove(&ssrc);
        }
        Some(ssrc)
    }

    fn forget_source(&mut self, stream: u64) {
        let Some(source) = self.sources.remove(&stream) else { return };
        let Some(keys) = self.by_host.get_mut(&source.ip()) else { return };
        keys.retain(|(key, _)| *key != stream);
        if keys.is_empty() {
            self.by_host.remove(&source.ip());
        }
    }
}

/// The one whose port it is, else the only one there is.
fn pick(on_host: impl Iterator<Item = (u64, u16)> + Clone, port: u16) -> Option<u64> {
    let mut exact = on_host.clone().filter(|(_, known)| *known == port);
    let mut all = on_host;
    match (exact.next(), exact.next(), all.next(), all.next()) {
        (Some((key, _)), None, _, _) | (None, _, Some((key, _)), None) => Some(key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(host: u8, port: u16) -> Option<SocketAddr> {
        Some(([10, 0, 0, host], port).into())
    }

    fn members(streams: &[(u64, Option<u32>, Option<SocketAddr>)]) -> Members {
        let mut members = Members::default();
        for (key, ssrc, source) in streams {
            members.count += 1;
            members.expect_ssrc(*key, *ssrc);
            if let Some(source) = source {
                members.expect_source(*key, *source);
            }
        }
        members
    }

    #[test]
    fn two_of_one_ssrc_are_told_apart_by_their_source_and_a_third_is_nobodys() {
        let mut two = members(&[(1, Some(7), from(1, 5000)), (2, Some(7), from(2, 6000))]);
        assert_eq!(two.owner(Some(7), from(1, 5000), 0.0), Some(1));
        assert_eq!(two.owner(Some(7), from(2, 6000), 0.0), Some(2));
        assert_eq!(two.owner(Some(7), from(2, 9000), 0.0), Some(2));
        assert_eq!(two.owner(Some(7), from(3, 5000), 0.0), None);
    }

    #[test]
    fn the_source_that_packets_really_have_is_learnt() {
        let mut two = members(&[(1, Some(7), from(9, 1))]);
        assert_eq!(two.owner(Some(7), from(1, 5000), 0.0), Some(1));
        two.count += 1;
        two.expect_ssrc(2, Some(7));
        two.expect_source(2, from(2, 6000).unwrap());
        assert_eq!(two.owner(Some(7), from(1, 5000), 0.0), Some(1));
        assert_eq!(two.owner(Some(7), from(2, 6000), 0.0), Some(2));
    }

    #[test]
    fn one_that_names_no_ssrc_and_takes_anothers_is_known_by_its_source() {
        let mut two = members(&[(1, Some(7), from(1, 5000)), (2, None, from(2, 6000))]);
        assert_eq!(two.owner(Some(7), from(2, 6000), 0.0), Some(2));
        assert_eq!(two.owner(Some(7), from(1, 5000), 0.0), Some(1));
        assert_eq!(two.owner(Some(8), from(2, 6000), 0.0), Some(2));
        assert_eq!(two.owner(Some(8), from(2, 6001), 0.0), None);
    }

    #[test]
    fn any_port_of_a_host_is_the_streams_while_it_is_the_only_one() {
        let mut two = members(&[(1, None, from(1, 0))]);
        assert_eq!(two.owner(Some(3), from(1, 4000), 0.0), Some(1));
        two.expect_source(2, from(1, 0).unwrap());
        assert_eq!(two.owner(Some(3), from(1, 4000), 0.0), None);
    }

    #[test]
    fn packets_of_a_stream_that_is_over_reach_nobody_until_they_pause() {
        let mut two = members(&[(1, Some(7), from(1, 5000))]);
        two.leave(1, Some(7), 0.0);
        two.count += 1;
        two.expect_source(2, from(1, 5000).unwrap());
        assert_eq!(two.owner(Some(7), from(1, 5000), 900.0), None);
        assert_eq!(two.owner(Some(7), from(1, 5000), 1800.0), None);
        assert_eq!(two.owner(Some(7), from(1, 5000), 2900.0), Some(2));
        assert_eq!(two.owner(Some(7), from(1, 5000), 2901.0), Some(2));
        assert_eq!((two.count, two.sources.len(), two.by_ssrc.len()), (1, 1, 0));
    }

    #[test]
    fn who_changes_ssrc_and_port_with_each_packet_makes_nothing_grow() {
        let mut two = members(&[(1, Some(7), from(1, 5000)), (2, None, from(2, 0))]);
        for n in 0..10_000_u16 {
            assert_eq!(two.owner(Some(1000 + u32::from(n)), from(3, n), 0.0), None);
            assert_eq!(two.owner(Some(7), from((n % 100 + 10) as u8, n), 0.0), Some(1));
            assert_eq!(two.owner(Some(1000 + u32::from(n)), from(2, n), 0.0), Some(2));
        }
        assert_eq!(
            (two.by_ssrc.len(), two.by_host.len(), two.sources.len(), two.orphans.len()),
            (1, 2, 2, 0)
        );
    }
}
