//! How long a gap in the sequence is waited for, as the link needs it.

/// A gap is waited for this long; then what came after it goes on. A late packet on a local network is later by a
/// few milliseconds at most, and each waiting millisecond is delay in the picture. A packet that comes after its gap
/// was given up shows that the link needs longer: the wait grows by a half, up to its most, and shrinks again slowly.
pub(super) const GAP_WAIT_MS: f64 = 40.0;
pub(super) const GAP_WAIT_MOST_MS: f64 = 200.0;
const GAP_WAIT_GROWTH: f64 = 1.5;
/// What is left of the additional wait after a second without late packets.
const GAP_WAIT_DECAY: f64 = 0.98;

/// The present wait of one stream.
pub(super) struct GapWait {
    ms: f64,
    seen_late: u64,
    changed_ms: f64,
}

impl GapWait {
    pub fn new() -> Self {
        Self { ms: GAP_WAIT_MS, seen_late: 0, changed_ms: 0.0 }
    }

    pub fn ms(&self) -> f64 {
        self.ms
    }

    /// Whether packets came late since this was last adapted.
    pub fn has_not_seen(&self, late: u64) -> bool {
        late != self.seen_late
    }

    /// Look at the count of late packets; called with each packet that is not in order.
    pub fn adapt(&mut self, late: u64, now_ms: f64) {
        let elapsed_ms = now_ms - self.changed_ms;
        if late > self.seen_late && elapsed_ms >= self.ms {
            // Once a wait: all that one gap lost too early comes late.
            self.ms = (self.ms * GAP_WAIT_GROWTH).min(GAP_WAIT_MOST_MS);
            self.changed_ms = now_ms;
        } else if elapsed_ms >= 1000.0 {
            self.ms = GAP_WAIT_MS + (self.ms - GAP_WAIT_MS) * GAP_WAIT_DECAY.powf(elapsed_ms / 1000.0);
            self.changed_ms = now_ms;
        }
        self.seen_late = late;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_packets_make_the_wait_longer_once_a_wait_and_time_makes_it_shorter_again() {
        let (mut wait, mut now_ms) = (GapWait::new(), 0.0);
        for late in 1..100 {
            now_ms += 10.0;
            wait.adapt(late, now_ms);
            assert!(wait.ms() <= GAP_WAIT_MS * GAP_WAIT_GROWTH.powf(now_ms / GAP_WAIT_MS));
        }
        assert_eq!(wait.ms(), GAP_WAIT_MOST_MS);
        assert!(!wait.has_not_seen(99) && wait.has_not_seen(100));
        wait.adapt(99, now_ms + 300_000.0);
        assert!((GAP_WAIT_MS..GAP_WAIT_MS + 1.0).contains(&wait.ms()));
    }
}
