//! Puts packets back into the order of their sequence numbers, within a window.
//!
//! Implements: GB/T 28181-2022 C.1
//! After: RFC 3550 A.1 (a jump counts as a restart only when the packet after it agrees)
//!
//! A packet that comes in order passes through untouched: no copy, no allocation. One that comes early is copied into a slot
//! of its own until the gap before it closes, the window is full, or the caller's timer says `flush`.

/// A step ahead larger than this is not loss but another stream (RFC 3550 MAX_DROPOUT).
pub const RESTART_AHEAD: i16 = 3000;
/// A step back larger than this, and than the window, is not a late packet but another stream (RFC 3550 MAX_MISORDER).
pub const RESTART_BACK: i16 = 100;
/// The largest window; slots are a table that grows.
pub const WINDOW_MAX: usize = 1024;

/// What comes out, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<'a> {
    Packet(&'a [u8]),
    /// So many packets are missing here.
    Loss(u32),
    /// The sender began anew; what follows has nothing to do with what came before.
    Restart,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReorderStats {
    pub lost: u64,
    pub duplicates: u64,
    pub reordered: u64,
    /// Came after their gap had been given up; part of `lost`.
    pub late: u64,
    pub restarts: u64,
}

#[derive(Debug, Default)]
struct Slot {
    is_held: bool,
    packet: Vec<u8>,
}

#[derive(Debug)]
pub struct Reorderer {
    window: usize,
    is_started: bool,
    ssrc: u32,
    /// The next sequence number to hand out.
    next: u16,
    highest: u16,
    /// Bit n: sequence `next - 1 - n` was handed out. Tells a duplicate from a late packet.
    recent: u64,
    slots: Vec<Slot>,
    held: usize,
    /// A packet far away, kept until its successor proves that the sender restarted.
    suspect: Option<(u16, Vec<u8>)>,
    stats: ReorderStats,
}

impl Reorderer {
    /// A window of 0 hands everything out as it comes and only counts.
    pub fn new(window: usize) -> Reorderer {
        Reorderer {
            window: window.min(WINDOW_MAX),
            is_started: false,
            ssrc: 0,
            next: 0,
            highest: 0,
            recent: 0,
            slots: Vec::new(),
            held: 0,
            suspect: None,
            stats: ReorderStats::default(),
        }
    }

    /// Packets waiting for a gap before them to close; while this is not 0 the caller's timer should run.
    pub fn held(&self) -> usize {
        self.held
    }

    pub fn stats(&self) -> ReorderStats {
        self.stats
    }

    /// Take one packet (any bytes; only its number matters) and hand out what is in order now.
    pub fn push(&mut self, sequence: u16, ssrc: u32, packet: &[u8], out: &mut impl FnMut(Arrival<'_>)) {
        if !self.is_started || ssrc != self.ssrc {
            return self.restart(sequence, ssrc, packet, out);
        }
        let ahead = sequence.wrapping_sub(self.next) as i16;
        if ahead == 0 {
            self.stats.reordered += u64::from(self.held > 0);
            self.suspect = None;
            self.deliver(packet, out);
            if self.held > 0 {
                self.drain(out);
            }
        } else if ahead > RESTART_AHEAD || ahead < -RESTART_BACK.max(self.window as i16) {
            self.suspect(sequence, packet, out);
        } else if ahead < 0 {
            self.count_old(ahead);
        } else {
            self.hold(sequence, packet, out);
        }
    }

    /// Give up every gap: hand out all that is held, with the losses between.
    pub fn flush(&mut self, out: &mut impl FnMut(Arrival<'_>)) {
        while self.held > 0 {
            self.skip_gap(out);
            self.drain(out);
        }
    }

    fn restart(&mut self, sequence: u16, ssrc: u32, packet: &[u8], out: &mut impl FnMut(Arrival<'_>)) {
        if self.is_started {
            self.flush(out);
            self.stats.restarts += 1;
            out(Arrival::Restart);
        }
        self.is_started = true;
        self.suspect = None;
        self.ssrc = ssrc;
        self.next = sequence;
        self.recent = 0;
        self.deliver(packet, out);
    }

    fn suspect(&mut self, sequence: u16, packet: &[u8], out: &mut impl FnMut(Arrival<'_>)) {
        match self.suspect.take() {
            Some((before, first)) if sequence == before.wrapping_add(1) => {
                self.restart(before, self.ssrc, &first, out);
                self.deliver(packet, out);
            }
            Some((_, mut slot)) => {
                slot.clear();
                slot.extend_from_slice(packet);
                self.suspect = Some((sequence, slot));
            }
            None => self.suspect = Some((sequence, packet.to_vec())),
        }
    }

    fn count_old(&mut self, ahead: i16) {
        let back = u32::from(ahead.unsigned_abs()) - 1;
        let was_delivered = back >= u64::BITS || self.recent >> back & 1 == 1;
        if was_delivered {
            self.stats.duplicates += 1;
        } else {
            self.stats.late += 1;
        }
    }

    fn hold(&mut self, sequence: u16, packet: &[u8], out: &mut impl FnMut(Arrival<'_>)) {
        while usize::from(sequence.wrapping_sub(self.next)) >= self.window {
            if self.held > 0 {
                self.skip_gap(out);
                self.drain(out);
            } else {
                // Nothing waits behind the gap, so there is nothing to keep the gap open for.
                let gap = sequence.wrapping_sub(self.next) as usize + 1 - self.window.max(1);
                self.lose(gap.max(1) as u32, out);
            }
            if sequence == self.next {
                self.deliver(packet, out);
                return self.drain(out);
            }
        }
        if self.slots.is_empty() {
            self.slots.resize_with(self.window.next_power_of_two(), Slot::default);
        }
        let index = self.index(sequence);
        let slot = &mut self.slots[index];
        if slot.is_held {
            self.stats.duplicates += 1;
            return;
        }
        slot.is_held = true;
        slot.packet.clear();
        slot.packet.extend_from_slice(packet);
        self.held += 1;
        if self.held > 1 && (sequence.wrapping_sub(self.highest) as i16) < 0 {
            self.stats.reordered += 1;
        } else {
            self.highest = sequence;
        }
    }

    fn index(&self, sequence: u16) -> usize {
        usize::from(sequence) & (self.slots.len() - 1)
    }

    fn deliver(&mut self, packet: &[u8], out: &mut impl FnMut(Arrival<'_>)) {
        self.next = self.next.wrapping_add(1);
        self.recent = self.recent << 1 | 1;
        out(Arrival::Packet(packet));
    }

    /// Hand out what is held directly behind the last packet handed out.
    fn drain(&mut self, out: &mut impl FnMut(Arrival<'_>)) {
        while self.held > 0 {
            let index = self.index(self.next);
            if !self.slots[index].is_held {
                return;
            }
            self.held -= 1;
            self.slots[index].is_held = false;
            let packet = std::mem::take(&mut self.slots[index].packet);
            self.deliver(&packet, out);
            self.slots[index].packet = packet;
        }
    }

    /// Move `next` to the first packet held, counting what is missing before it.
    fn skip_gap(&mut self, out: &mut impl FnMut(Arrival<'_>)) {
        let gap = (0..self.slots.len() as u16)
            .find(|gap| self.slots[self.index(self.next.wrapping_add(*gap))].is_held)
            .unwrap_or(0);
        self.lose(u32::from(gap), out);
    }

    fn lose(&mut self, count: u32, out: &mut impl FnMut(Arrival<'_>)) {
        if count == 0 {
            return;
        }
        self.stats.lost += u64::from(count);
        self.next = self.next.wrapping_add(count as u16);
        self.recent = self.recent.checked_shl(count).unwrap_or(0);
        out(Arrival::Loss(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Got {
        Packet(u16),
        Loss(u32),
        Restart,
    }
    use Got::{Loss, Packet, Restart};

    fn note(got: &mut Vec<Got>, arrival: Arrival<'_>) {
        got.push(match arrival {
            Arrival::Packet(packet) => Packet(u16::from_be_bytes([packet[0], packet[1]])),
            Arrival::Loss(count) => Loss(count),
            Arrival::Restart => Restart,
        });
    }

    fn run(window: usize, sequences: &[u16]) -> (Vec<Got>, Reorderer) {
        let (mut reorderer, mut got) = (Reorderer::new(window), Vec::new());
        for sequence in sequences {
            reorderer.push(*sequence, 1, &sequence.to_be_bytes(), &mut |arrival| note(&mut got, arrival));
        }
        (got, reorderer)
    }

    #[test]
    fn a_packet_in_order_passes_where_it_lies() {
        let mut reorderer = Reorderer::new(64);
        for sequence in 65_500..65_800_u32 {
            let packet = [sequence as u8; 4];
            let mut count = 0;
            reorderer.push(sequence as u16, 1, &packet, &mut |arrival| {
                assert!(matches!(arrival, Arrival::Packet(same) if same.as_ptr() == packet.as_ptr()));
                count += 1;
            });
            assert_eq!(count, 1);
        }
        assert_eq!(reorderer.stats(), ReorderStats::default());
        assert!(reorderer.slots.is_empty());
    }

    #[test]
    fn swapped_packets_come_out_in_order_across_the_wrap() {
        let (got, reorderer) = run(8, &[65_534, 0, 65_535, 2, 3, 1, 4]);
        assert_eq!(got, [65_534, 65_535, 0, 1, 2, 3, 4].map(Packet));
        assert_eq!(reorderer.stats(), ReorderStats { reordered: 2, ..ReorderStats::default() });
        assert_eq!(reorderer.held(), 0);
    }

    #[test]
    fn a_gap_is_given_up_when_the_window_is_full() {
        let (got, reorderer) = run(4, &[1, 3, 4, 5, 6]);
        assert_eq!(got, [Packet(1), Loss(1), Packet(3), Packet(4), Packet(5), Packet(6)]);
        assert_eq!(reorderer.stats().lost, 1);
    }

    #[test]
    fn a_gap_is_given_up_when_the_timer_says_so() {
        let (mut got, mut reorderer) = run(64, &[1, 4, 7]);
        assert_eq!((got.len(), reorderer.held()), (1, 2));
        reorderer.flush(&mut |arrival| note(&mut got, arrival));
        assert_eq!(got, [Packet(1), Loss(2), Packet(4), Loss(2), Packet(7)]);
        assert_eq!((reorderer.stats().lost, reorderer.held()), (4, 0));
    }

    #[test]
    fn a_gap_wider_than_the_window_is_lost_and_the_packet_is_kept() {
        let (mut got, mut reorderer) = run(4, &[1, 101]);
        reorderer.flush(&mut |arrival| note(&mut got, arrival));
        let lost: u32 = got.iter().map(|got| if let Loss(count) = got { *count } else { 0 }).sum();
        assert_eq!((lost, got.last()), (99, Some(&Packet(101))));
    }

    #[test]
    fn duplicates_and_late_packets_are_dropped_and_told_apart() {
        let (got, reorderer) = run(2, &[1, 1, 4, 4, 5, 6, 3, 2, 5]);
        assert_eq!(got.iter().filter(|got| matches!(got, Packet(_))).count(), 4);
        let stats = reorderer.stats();
        assert_eq!((stats.lost, stats.late), (2, 2));
        assert_eq!(stats.duplicates, 3);
    }

    #[test]
    fn without_a_window_nothing_waits() {
        let (got, reorderer) = run(0, &[1, 3, 2, 4]);
        assert_eq!(got, [Packet(1), Loss(1), Packet(3), Packet(4)]);
        assert_eq!(reorderer.stats().late, 1);
    }

    #[test]
    fn a_restart_needs_two_packets_that_agree_and_a_stray_one_changes_nothing() {
        let (got, reorderer) = run(8, &[1, 30_000, 2, 3]);
        assert_eq!(got, [1, 2, 3].map(Packet));
        assert_eq!(reorderer.stats().restarts, 0);
        let (got, reorderer) = run(8, &[1, 30_000, 30_001, 30_002]);
        assert_eq!(got, [Packet(1), Restart, Packet(30_000), Packet(30_001), Packet(30_002)]);
        assert_eq!(reorderer.stats().restarts, 1);
    }

    #[test]
    fn a_sender_that_starts_over_a_little_lower_is_not_taken_for_late_packets() {
        let (got, reorderer) = run(64, &[500, 501, 2, 3, 4]);
        assert_eq!(got, [Packet(500), Packet(501), Restart, Packet(2), Packet(3), Packet(4)]);
        assert_eq!(reorderer.stats().restarts, 1);
        let (_, reorderer) = run(64, &[500, 501, 450, 451, 502]);
        assert_eq!((reorderer.stats().restarts, reorderer.stats().late), (0, 2));
    }

    #[test]
    fn another_ssrc_restarts_at_once() {
        let (mut got, mut reorderer) = run(8, &[10]);
        reorderer.push(5, 2, &5_u16.to_be_bytes(), &mut |arrival| note(&mut got, arrival));
        assert_eq!(got, [Packet(10), Restart, Packet(5)]);
    }

    #[test]
    fn any_shuffle_within_the_window_comes_out_complete_and_in_order() {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % bound
        };
        for _ in 0..200 {
            let mut order: Vec<u16> = (0..256).map(|n| 65_400_u16.wrapping_add(n)).collect();
            for group in order[1..].chunks_mut(16) {
                for index in (1..group.len()).rev() {
                    group.swap(index, random(index + 1));
                }
            }
            let (got, _) = run(32, &order);
            order.sort_by_key(|sequence| sequence.wrapping_sub(65_400));
            assert_eq!(got, order.into_iter().map(Packet).collect::<Vec<_>>());
        }
    }
}
