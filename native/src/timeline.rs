//! Times that wrap, jump or stay away, made into one continuous count of 90 kHz ticks.
//!
//! Implements: GB/T 28181-2022 C.1
//! After: ISO/IEC 13818-1 2.4.3.7 (33-bit PTS)
//!
//! Sound and picture share one `Timeline`, so that a jump moves both by the same amount and they stay together.

/// A step larger than this is not time passing but another clock.
pub const JUMP_MAX: i64 = 10 * 90_000;
/// Neither is a step back of one track that pictures out of display order do not make.
const BACK_MAX: i64 = 90_000;
/// The step assumed across a jump until a real one was seen: 25 pictures a second.
const STEP_DEFAULT: i64 = 3600;

/// The part of the time that each track keeps for itself.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    last: Option<i64>,
    step: i64,
}

impl Default for Track {
    fn default() -> Self {
        Track { last: None, step: STEP_DEFAULT }
    }
}

impl Track {
    /// The last time given out on this track.
    pub fn last(&self) -> Option<u64> {
        self.last.map(to_ticks)
    }

    /// The time `ticks` after the last one, for a frame that brings none of its own.
    pub fn extrapolate(&mut self, ticks: i64) -> u64 {
        let ticks = if (0..=JUMP_MAX).contains(&ticks) { ticks } else { self.step };
        self.note(self.last.unwrap_or(0) + ticks)
    }

    fn note(&mut self, time: i64) -> u64 {
        if let Some(last) = self.last {
            if (1..=90_000).contains(&(time - last)) {
                self.step = time - last;
            }
        }
        self.last = Some(time);
        to_ticks(time)
    }
}

#[derive(Debug, Default)]
pub struct Timeline {
    /// Added to a sender's time to make it ours; changes at each jump.
    offset: i64,
    /// The newest time given out on any track: where a track that joins late belongs.
    newest: Option<i64>,
    jumps: u64,
}

impl Timeline {
    /// A timeline whose first track joins at `time`, whatever its own clock says.
    pub fn starting_at(time: u64) -> Timeline {
        Timeline { newest: Some(time as i64), ..Timeline::default() }
    }

    /// How often the sender's clock jumped.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Our time for a raw PTS of 33 bits. Some devices wrap at 32 bits instead; that is recognised.
    pub fn unwrap(&mut self, track: &mut Track, raw: u64) -> u64 {
        let raw = raw as i64;
        let Some(reference) = track.last.or(self.newest) else {
            return self.note(track, raw);
        };
        let expected = reference - self.offset;
        // A track that joins may lie behind another by more.
        let back_max = if track.last.is_some() { BACK_MAX } else { JUMP_MAX };
        for bits in [33, 32] {
            let step = nearest(raw - expected, bits);
            if (-back_max..=JUMP_MAX).contains(&step) {
                return self.note(track, reference + step);
            }
        }
        self.jumps += 1;
        let resumed = self.newest.unwrap_or(reference) + track.step;
        self.offset = resumed - raw;
        self.note(track, resumed)
    }

    fn note(&mut self, track: &mut Track, time: i64) -> u64 {
        self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
        track.note(time)
    }
}

/// `difference` folded into the range around zero of a counter of `bits` bits.
fn nearest(difference: i64, bits: u32) -> i64 {
    let shift = 64 - bits;
    difference << shift >> shift
}

fn to_ticks(time: i64) -> u64 {
    u64::try_from(time).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(raw: &[u64]) -> (Vec<u64>, u64) {
        let (mut timeline, mut track) = (Timeline::default(), Track::default());
        let got = raw.iter().map(|raw| timeline.unwrap(&mut track, *raw)).collect();
        (got, timeline.jumps())
    }

    #[test]
    fn time_goes_on_when_the_counter_wraps_at_33_or_at_32_bits() {
        for bits in [33, 32] {
            let top = 1_u64 << bits;
            let raw: Vec<_> = (0..6).map(|n| (top - 9000 + n * 3600) % top).collect();
            let want: Vec<_> = (0..6).map(|n| top - 9000 + n * 3600).collect();
            assert_eq!(run(&raw), (want, 0), "{bits} bits");
        }
    }

    #[test]
    fn pictures_out_of_display_order_keep_their_times() {
        let raw = [900_000, 910_800, 903_600, 907_200];
        assert_eq!(run(&raw), (raw.to_vec(), 0));
    }

    #[test]
    fn a_jump_goes_on_with_the_usual_step() {
        let raw = [0, 1800, 3600, 5_000_000, 5_001_800];
        assert_eq!(run(&raw), (vec![0, 1800, 3600, 5400, 7200], 1));
        let back = [5_000_000, 5_003_600, 100, 3700];
        let a_little_back = [5_000_000, 5_003_600, 5_003_600 - 270_000, 5_007_200 - 270_000];
        assert_eq!(run(&a_little_back), run(&back));
        assert_eq!(run(&back), (vec![5_000_000, 5_003_600, 5_007_200, 5_010_800], 1));
    }

    #[test]
    fn sound_and_picture_stay_together_across_wrap_and_jump() {
        let (mut timeline, mut video, mut audio) = (Timeline::default(), Track::default(), Track::default());
        let top = 1_u64 << 32;
        let (mut first, mut last) = (None, 0);
        for n in 0..200_u64 {
            let base = if n < 100 { top - 180_000 } else { 7_000_000 };
            let raw = (base + n * 3600) % top;
            let seen = timeline.unwrap(&mut video, raw);
            let heard = timeline.unwrap(&mut audio, (raw + 90) % top);
            assert_eq!(heard, seen + 90, "frame {n}");
            assert!(seen > last);
            last = seen;
            first.get_or_insert(seen);
        }
        assert_eq!((timeline.jumps(), last - first.unwrap()), (1, 199 * 3600 - 3600 + 3690));
    }
}
