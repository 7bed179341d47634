//! A stream's quality over the last seconds: rates, loss, delay, distance of key frames.
//!
//! Nothing is done for a packet. Once a frame the clock is looked at, and once a second a mark notes the running
//! counters; a figure is the difference between now and the mark that is the window old. So the memory is fixed,
//! and a stream that stops shows rates that fall to zero.
//!
//! Delay: two clocks that do not know each other tell no absolute delay. What can be told honestly is how much later
//! than at best a frame comes ([`Quality::delay_ms`]): queues on the way show in it, the length of the way does not.
//! A sender that sends RTCP reports says its wall clock; then the difference to ours is told beside it, and is a
//! delay only as far as both clocks are set.
//!
//! After: RFC 3550 6.4.1 (sender reports, jitter)
//! Implements: DB31DSJ/Z 001-2024 Table E.2

use crate::rtp;

/// The window of all rates.
pub const WINDOW_MS: f64 = 5000.0;
const MARK_EVERY_MS: f64 = 1000.0;
/// Marks cover the window with room for one that is late.
const MARKS: usize = 8;

/// A deviation larger than this is a jump of the sender's clock and no delay.
const JUMP_MS: f64 = 1000.0;
/// How fast the best transit time is forgotten, so that drifting clocks (100 ppm) do not pass for a growing queue.
const DRIFT_MS_PER_S: f64 = 0.1;
/// Weight of one frame in the smoothed figures (RFC 3550 A.8).
const SMOOTHING: f64 = 1.0 / 16.0;
/// Wall clocks further apart than this are not set, and their difference says nothing.
const CLOCKS_APART_MS: f64 = 60_000.0;

/// Seconds from 1900, which NTP counts from, to 1970.
const NTP_TO_UNIX_S: f64 = 2_208_988_800.0;

/// Counters since the stream began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub pictures: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at_ms: f64,
    totals: Totals,
}

/// The sender's wall clock beside its media clock, and ours beside the engine's.
#[derive(Clone, Copy, Debug)]
struct Report {
    sent_unix_ms: f64,
    rtp_ts: u32,
    /// Added to engine time it gives our wall clock.
    wall_offset_ms: f64,
}

/// Figures of one moment. Rates are those of the window; -1 where nothing can be told yet.
/// Arrivals are told to the tick in which work is gathered, and so are jitter and delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    pub window_ms: f64,
    pub bitrate_kbps: f64,
    pub frame_rate: f64,
    /// Lost of those that should have come, 0 to 1.
    pub loss_rate: f64,
    pub jitter_ms: f64,
    pub delay_ms: f64,
    pub report_delay_ms: f64,
    pub key_interval_ms: f64,
}

/// What is remembered of a stream for its figures.
#[derive(Debug)]
pub struct Quality {
    marks: [Mark; MARKS],
    /// Marks made so far; the newest stands at `made - 1` modulo the ring.
    made: usize,
    jitter_ms: f64,
    /// How much later than the first frame frames come, by both clocks; and the least of it.
    transit_ms: f64,
    least_transit_ms: f64,
    delay_ms: f64,
    last_timestamp: u32,
    last_frame_ms: Option<f64>,
    clock_hz: f64,
    key_pts: Option<u64>,
    key_interval_ms: f64,
    report: Option<Report>,
}

impl Default for Quality {
    fn default() -> Self {
        Self {
            marks: [Mark::default(); MARKS],
            made: 0,
            jitter_ms: 0.0,
            transit_ms: 0.0,
            least_transit_ms: 0.0,
            delay_ms: 0.0,
            last_timestamp: 0,
            last_frame_ms: None,
            clock_hz: 90_000.0,
            key_pts: None,
            key_interval_ms: -1.0,
            report: None,
        }
    }
}

impl Quality {
    pub fn last_timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// The clock of the RTP times, when it is not 90 kHz.
    pub fn set_clock(&mut self, clock_hz: u32) {
        self.clock_hz = f64::from(clock_hz.max(1));
    }

    /// Whether a packet begins another frame than the one before.
    pub fn is_new_frame(&self, timestamp: u32) -> bool {
        self.last_frame_ms.is_none() || timestamp != self.last_timestamp
    }

    /// A frame's first packet came: its packets share a time and leave together, so that one a frame is enough.
    pub fn note_frame_start(&mut self, timestamp: u32, now_ms: f64, totals: impl FnOnce() -> Totals) {
        if let Some(last_ms) = self.last_frame_ms {
            let elapsed_ms = now_ms - last_ms;
            let ticks = timestamp.wrapping_sub(self.last_timestamp) as i32;
            let deviation_ms = elapsed_ms - f64::from(ticks) * 1000.0 / self.clock_hz;
            if deviation_ms.abs() < JUMP_MS {
                self.jitter_ms += (deviation_ms.abs() - self.jitter_ms) * SMOOTHING;
                self.transit_ms += deviation_ms;
                let forgiven = self.least_transit_ms + elapsed_ms * DRIFT_MS_PER_S / 1000.0;
                self.least_transit_ms = forgiven.min(self.transit_ms);
                self.delay_ms += (self.transit_ms - self.least_transit_ms - self.delay_ms) * SMOOTHING;
            }
        }
        self.last_timestamp = timestamp;
        self.last_frame_ms = Some(now_ms);
        if self.made == 0 || now_ms - self.newest().at_ms >= MARK_EVERY_MS {
            self.marks[self.made % MARKS] = Mark { at_ms: now_ms, totals: totals() };
            self.made += 1;
        }
    }

    /// A key frame of this presentation time (90 kHz) came.
    pub fn note_key_frame(&mut self, pts: u64) {
        if let Some(before) = self.key_pts.replace(pts) {
            self.key_interval_ms = pts.saturating_sub(before) as f64 / 90.0;
        }
    }

    /// An RTCP packet of the stream came; anything but a sender report of its SSRC is passed over.
    pub fn take_report(&mut self, packet: &[u8], ssrc: Option<u32>, now_ms: f64, wall_ms: f64) {
        let Some(report) = rtp::sender_report(packet) else { return };
        if ssrc.is_some_and(|known| known != report.ssrc) {
            return;
        }
        let sent_unix_ms = (report.ntp_s - NTP_TO_UNIX_S) * 1000.0;
        let is_set = (wall_ms - sent_unix_ms).abs() < CLOCKS_APART_MS;
        self.report = is_set.then_some(Report {
            sent_unix_ms,
            rtp_ts: report.rtp_ts,
            wall_offset_ms: wall_ms - now_ms,
        });
    }

    fn newest(&self) -> &Mark {
        &self.marks[self.made.wrapping_sub(1) % MARKS]
    }

    /// The youngest mark that is the window old, or the oldest there is.
    fn mark_before(&self, now_ms: f64) -> Option<&Mark> {
        let kept = self.made.min(MARKS);
        let from_newest = (1..=kept).map(|back| &self.marks[(self.made - back) % MARKS]);
        let mut oldest = None;
        for mark in from_newest {
            oldest = Some(mark);
            if now_ms - mark.at_ms >= WINDOW_MS {
                break;
            }
        }
        oldest
    }

    /// The delay by both wall clocks of the newest frame.
    fn report_delay_ms(&self) -> Option<f64> {
        let (report, arrived_ms) = (self.report?, self.last_frame_ms?);
        let ticks = self.last_timestamp.wrapping_sub(report.rtp_ts) as i32;
        let sampled_unix_ms = report.sent_unix_ms + f64::from(ticks) * 1000.0 / self.clock_hz;
        Some(report.wall_offset_ms + arrived_ms - sampled_unix_ms)
    }

    pub fn figures(&self, totals: Totals, now_ms: f64) -> Figures {
        let is_silent = self.last_frame_ms.is_some_and(|last_ms| now_ms - last_ms >= WINDOW_MS);
        let mark = self.mark_before(now_ms).copied().unwrap_or(Mark { at_ms: now_ms, totals });
        // What came behind the newest mark is older than the window too.
        let mark = if is_silent { Mark { totals, ..mark } } else { mark };
        let window_ms = now_ms - mark.at_ms;
        let since = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let packets = since(totals.packets, mark.totals.packets);
        let lost = since(totals.lost, mark.totals.lost);
        let (bytes, pictures) =
            (since(totals.bytes, mark.totals.bytes), since(totals.pictures, mark.totals.pictures));
        // Less than a mark's distance is too short for a rate.
        let rate = |amount: f64| if window_ms >= MARK_EVERY_MS { amount * 1000.0 / window_ms } else { -1.0 };
        let has_frames = self.last_frame_ms.is_some();
        Figures {
            window_ms,
            bitrate_kbps: rate(bytes * 8.0 / 1000.0),
            frame_rate: rate(pictures),
            loss_rate: if packets + lost > 0.0 { lost / (packets + lost) } else { -1.0 },
            jitter_ms: self.jitter_ms,
            delay_ms: if has_frames { self.delay_ms } else { -1.0 },
            report_delay_ms: self.report_delay_ms().unwrap_or(-1.0),
            key_interval_ms: self.key_interval_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten packets of 1000 bytes a frame, 25 frames a second, one packet in a hundred lost; `late` delays a frame.
    fn run(seconds: u64, late: impl Fn(u64) -> f64) -> (Quality, Totals, f64) {
        let mut quality = Quality::default();
        let (mut totals, mut now_ms) = (Totals::default(), 0.0);
        for n in 0..seconds * 25 {
            now_ms = n as f64 * 40.0 + late(n);
            let timestamp = (n * 3600) as u32;
            totals.packets += 10;
            totals.bytes += 10_000;
            totals.pictures += 1;
            totals.lost = totals.packets / 99;
            assert!(quality.is_new_frame(timestamp));
            quality.note_frame_start(timestamp, now_ms, || totals);
            assert!(!quality.is_new_frame(timestamp));
            if n % 50 == 0 {
                quality.note_key_frame(n * 3600);
            }
        }
        (quality, totals, now_ms)
    }

    #[test]
    fn rates_and_loss_are_those_of_the_last_seconds() {
        let (quality, totals, now_ms) = run(60, |_| 0.0);
        let figures = quality.figures(totals, now_ms);
        assert!((5000.0..6100.0).contains(&figures.window_ms), "{figures:?}");
        assert!((figures.bitrate_kbps - 2000.0).abs() < 40.0, "{figures:?}");
        assert!((figures.frame_rate - 25.0).abs() < 0.5, "{figures:?}");
        assert!((figures.loss_rate - 0.01).abs() < 0.002, "{figures:?}");
        assert_eq!((figures.key_interval_ms, figures.delay_ms, figures.jitter_ms), (2000.0, 0.0, 0.0));
    }

    #[test]
    fn a_stream_that_stopped_has_rates_of_zero() {
        let (quality, totals, now_ms) = run(20, |_| 0.0);
        let figures = quality.figures(totals, now_ms + 20_000.0);
        assert_eq!((figures.bitrate_kbps, figures.frame_rate, figures.loss_rate), (0.0, 0.0, -1.0));
    }

    #[test]
    fn nothing_is_told_of_a_stream_without_packets_or_of_its_first_moment() {
        let figures = Quality::default().figures(Totals::default(), 5.0);
        assert_eq!((figures.bitrate_kbps, figures.delay_ms, figures.loss_rate), (-1.0, -1.0, -1.0));
        let (quality, totals, now_ms) = run(1, |_| 0.0);
        assert_eq!(quality.figures(totals, now_ms).frame_rate, -1.0);
    }

    #[test]
    fn a_queue_on_the_way_shows_as_delay_and_a_jump_of_the_clock_does_not() {
        let (quality, totals, now_ms) = run(30, |n| if n > 200 { 80.0 } else { 0.0 });
        let delay_ms = quality.figures(totals, now_ms).delay_ms;
        assert!((76.0..81.0).contains(&delay_ms), "{delay_ms}");
        let mut quality = quality;
        quality.note_frame_start(7, now_ms + 40.0, || totals);
        let after = quality.figures(totals, now_ms + 40.0);
        assert!((after.delay_ms - delay_ms).abs() < 0.1, "{after:?}");
    }

    #[test]
    fn jitter_is_that_of_the_frames_arrival() {
        let (quality, totals, now_ms) = run(30, |n| if n % 2 == 0 { 10.0 } else { 0.0 });
        let jitter_ms = quality.figures(totals, now_ms).jitter_ms;
        assert!((9.0..11.0).contains(&jitter_ms), "{jitter_ms}");
    }

    #[test]
    fn a_senders_report_gives_the_delay_by_both_wall_clocks() {
        let (mut quality, totals, now_ms) = run(10, |_| 0.0);
        let unix_s = 1_700_000_000.0;
        let ntp = ((unix_s + NTP_TO_UNIX_S) as u64) << 32;
        let mut packet = [0x80, 200, 0, 6].to_vec();
        packet.extend(5_u32.to_be_bytes());
        packet.extend(ntp.to_be_bytes());
        packet.extend(quality.last_timestamp().to_be_bytes());
        packet.extend([0; 8]);
        quality.take_report(&packet, Some(6), now_ms, unix_s * 1000.0 + 120.0);
        assert_eq!(quality.figures(totals, now_ms).report_delay_ms, -1.0);
        quality.take_report(&packet, Some(5), now_ms, unix_s * 1000.0 + 120.0);
        assert!((quality.figures(totals, now_ms).report_delay_ms - 120.0).abs() < 0.5);
        quality.take_report(&packet, Some(5), now_ms, unix_s * 1000.0 + 1e7);
        assert_eq!(quality.figures(totals, now_ms).report_delay_ms, -1.0);
    }
}
