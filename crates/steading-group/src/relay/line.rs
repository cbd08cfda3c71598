//! One direction of a lengthened wire: what frame leaves it when. It reads no clock and moves no bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use steading_plan::Effect;
use steading_plan::fault::wiring::Impairment;

/// Where the source's address is: behind the virtio header and the destination's (IEEE Std 802.3, 3.1).
const SOURCE: std::ops::Range<usize> = 16..22;

/// The length of the virtio header in front of each frame (`linux/virtio_net.h`).
const HEADER: usize = 10;

/// How much may be on a line. What comes on top is lost, as where any buffer is full.
const CAPACITY: usize = 64 << 20;

/// What may wait for room where there is a rate: a tenth of a second of it, and never less than some
/// twenty frames, as in a small router.
const WAITING: Duration = Duration::from_millis(100);
const WAITING_MIN_BYTES: u64 = 32 << 10;

/// One direction of a wire.
pub(super) struct Line {
    stages: Vec<Stage>,
    held: BinaryHeap<Reverse<Held>>,
    /// Bytes on it.
    bytes: usize,
    /// How many frames it has taken: those that leave at the same time leave in this order.
    taken: u64,
    chance: Chance,
}

struct Stage {
    impairment: Impairment,
    /// When what has passed is through, where there is a rate.
    free_at: Option<Instant>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    leaves: Instant,
    number: u64,
    frame: Vec<u8>,
}

impl Line {
    pub(super) fn new(chance: Chance) -> Self {
        Self { stages: Vec::new(), held: BinaryHeap::new(), bytes: 0, taken: 0, chance }
    }

    /// From now on these happen to frames, one after the other; to those on it, what was so before.
    pub(super) fn set(&mut self, impairments: Vec<Impairment>) {
        let stage = |impairment| Stage { impairment, free_at: None };
        self.stages = impairments.into_iter().map(stage).collect();
    }

    /// Takes a frame.
    pub(super) fn take(&mut self, frame: &[u8], now: Instant) {
        let source: Option<[u8; 6]> = frame.get(SOURCE).and_then(|bytes| bytes.try_into().ok());
        let (mut leaves, mut copies) = (now, 1);
        for stage in &mut self.stages {
            let Impairment { sources, effect } = &stage.impairment;
            let is_meant = sources.is_empty()
                || source.is_some_and(|source| sources.iter().any(|mac| mac.bytes() == source));
            if !is_meant {
                continue;
            }
            match *effect {
                Effect::Delay { microseconds, jitter } => {
                    let spread = self.chance.below(2 * jitter + 1);
                    leaves += Duration::from_micros((microseconds + spread).saturating_sub(jitter));
                }
                Effect::Reorder { percent, microseconds } => {
                    if self.chance.falls(percent) {
                        leaves += Duration::from_micros(microseconds);
                    }
                }
                Effect::Duplicate { percent } => copies += u32::from(self.chance.falls(percent)),
                Effect::Rate { bits_per_second } => {
                    let bytes = frame.len().saturating_sub(HEADER);
                    let Some(through) = through(bytes, bits_per_second, leaves, stage.free_at) else {
                        return;
                    };
                    stage.free_at = Some(through);
                    leaves = through;
                }
                // The bridge does those.
                Effect::Cut | Effect::Loss { .. } => {}
            }
        }
        for _ in 0..copies {
            if self.bytes + frame.len() > CAPACITY {
                return;
            }
            self.bytes += frame.len();
            self.held.push(Reverse(Held { leaves, number: self.taken, frame: frame.to_vec() }));
            self.taken += 1;
        }
    }

    /// The next frame that leaves until now.
    pub(super) fn leaving(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.deadline()? > now {
            return None;
        }
        self.next()
    }

    /// The next frame, whenever it should leave.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let Reverse(held) = self.held.pop()?;
        self.bytes -= held.frame.len();
        Some(held.frame)
    }

    /// When the next frame leaves.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse(held)| held.leaves)
    }
}

/// When a frame that comes at this time is through; none if too much waits already.
fn through(bytes: usize, bits_per_second: u64, comes: Instant, free_at: Option<Instant>) -> Option<Instant> {
    let takes = |bytes: u64| {
        let nanos = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(bits_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    let begins = free_at.map_or(comes, |free_at| free_at.max(comes));
    let may_wait = WAITING.max(takes(WAITING_MIN_BYTES));
    (begins.duration_since(comes) <= may_wait)
        .then(|| begins + takes(u64::try_from(bytes).unwrap_or(u64::MAX)))
}

/// Chance (splitmix64).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn falls(&mut self, percent: f64) -> bool {
        // 32 bits are exact in a double.
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(u32::MAX)) < percent / 100.0 * 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use steading_plan::MacAddr;

    use super::*;

    const A: &str = "6a:01:00:00:00:0a";
    const B: &str = "6a:01:00:00:00:0b";

    fn line(effects: &[Effect]) -> Line {
        let mut line = Line::new(Chance::new(7));
        line.set(effects.iter().map(|&effect| Impairment { sources: BTreeSet::new(), effect }).collect());
        line
    }

    fn frame(from: &str, number: u32, length: usize) -> Vec<u8> {
        let mac: MacAddr = from.parse().unwrap();
        let mut frame = [&[0; HEADER + 6], &mac.bytes()[..], &number.to_be_bytes()].concat();
        frame.resize(HEADER + length, 0);
        frame
    }

    fn number(frame: &[u8]) -> u32 {
        u32::from_be_bytes(frame[22..26].try_into().unwrap())
    }

    /// All frames, with the milliseconds at which they leave.
    fn leave(line: &mut Line, began: Instant) -> Vec<(u32, u128)> {
        std::iter::from_fn(|| {
            let at = line.deadline()?;
            assert!(line.leaving(at.checked_sub(Duration::from_nanos(1)).unwrap()).is_none(), "too early");
            let frame = line.leaving(at).expect("one leaves at its time");
            Some((number(&frame), (at - began).as_millis()))
        })
        .collect()
    }

    const MS: u64 = 1_000;

    #[test]
    fn delays_add_up_and_keep_the_order() {
        let delay = |ms| Effect::Delay { microseconds: ms * MS, jitter: 0 };
        let mut line = line(&[delay(20), delay(5)]);
        let now = Instant::now();
        for number in 0..3 {
            line.take(&frame(A, number, 64), now);
        }
        assert_eq!(leave(&mut line, now), [(0, 25), (1, 25), (2, 25)]);
    }

    #[test]
    fn only_frames_of_its_sources_are_delayed() {
        let mut line = line(&[]);
        let sources = BTreeSet::from([A.parse().unwrap()]);
        line.set(vec![Impairment { sources, effect: Effect::Delay { microseconds: 9 * MS, jitter: 0 } }]);
        let now = Instant::now();
        line.take(&frame(A, 1, 64), now);
        line.take(&frame(B, 2, 64), now);
        line.take(&[0; 3], now);
        assert_eq!(line.leaving(now).map(|frame| number(&frame)), Some(2));
        assert_eq!(line.leaving(now), Some(vec![0; 3]), "what is no frame passes");
        assert_eq!(leave(&mut line, now), [(1, 9)]);
    }

    #[test]
    fn jitter_is_within_its_bounds_and_on_both_sides() {
        let mut line = line(&[Effect::Delay { microseconds: 20 * MS, jitter: 10 * MS }]);
        let now = Instant::now();
        (0..1000).for_each(|number| line.take(&frame(A, number, 64), now));
        let at: Vec<u128> = leave(&mut line, now).into_iter().map(|(_, at)| at).collect();
        assert!(at.iter().all(|at| (10..=30).contains(at)), "{at:?}");
        let early = at.iter().filter(|at| **at < 20).count();
        assert!((300..=700).contains(&early), "{early} of 1000 came early");
    }

    #[test]
    fn a_share_is_doubled_and_a_share_is_overtaken() {
        let reorder = Effect::Reorder { percent: 25.0, microseconds: 5 * MS };
        let mut line = line(&[Effect::Duplicate { percent: 50.0 }, reorder]);
        let now = Instant::now();
        (0..1000).for_each(|number| line.take(&frame(A, number, 64), now));
        let all = leave(&mut line, now);
        // Ten standard deviations are on either side.
        assert!((1340..=1660).contains(&all.len()), "{} left", all.len());
        let late = all.iter().filter(|(_, at)| *at == 5).map(|(number, _)| number).collect::<BTreeSet<_>>();
        assert!((115..=385).contains(&late.len()), "{} were late", late.len());
    }

    #[test]
    fn a_rate_spaces_frames_and_loses_what_waits_too_long() {
        // A frame of 1,000 bytes takes a millisecond.
        let mut line = line(&[Effect::Rate { bits_per_second: 8_000_000 }]);
        let now = Instant::now();
        (0..1000).for_each(|number| line.take(&frame(A, number, 1_000), now));
        let all = leave(&mut line, now);
        let first: Vec<_> = all.iter().take(3).copied().collect();
        assert_eq!(first, [(0, 1), (1, 2), (2, 3)]);
        // What may wait, for a tenth of a second, and the frame that is on its way.
        assert_eq!(all.len(), 101);
        line.take(&frame(A, 1, 1_000), now + Duration::from_secs(9));
        assert_eq!(leave(&mut line, now), [(1, 9_001)], "it is free again");
    }

    #[test]
    fn what_does_not_fit_is_lost() {
        let mut line = line(&[Effect::Delay { microseconds: MS, jitter: 0 }]);
        let now = Instant::now();
        (0..2_000).for_each(|number| line.take(&frame(A, number, 65_526), now));
        assert_eq!(leave(&mut line, now).len(), CAPACITY / 65_536);
        line.take(&frame(A, 1, 64), now);
        assert_eq!(leave(&mut line, now).len(), 1, "there is room again");
    }

    fn any_effect() -> impl Strategy<Value = Effect> {
        prop_oneof![
            (0..5_000u64, 0..5_000u64)
                .prop_map(|(a, b)| Effect::Delay { microseconds: a.max(b), jitter: a.min(b) }),
            (0.0..100.0, 0..5_000u64)
                .prop_map(|(percent, microseconds)| Effect::Reorder { percent, microseconds }),
            (8_000..u64::MAX).prop_map(|bits_per_second| Effect::Rate { bits_per_second }),
            (0.0..100.0).prop_map(|percent| Effect::Duplicate { percent }),
        ]
    }

    proptest! {
        /// Whatever frames are and whatever happens to them, none leaves before it came, and none stays.
        #[test]
        fn every_frame_that_is_taken_leaves_whole(
            effects in proptest::collection::vec(any_effect(), 0..4),
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..40),
        ) {
            let mut line = line(&effects);
            let now = Instant::now();
            for frame in &frames {
                line.take(frame, now);
            }
            let far = now + Duration::from_secs(1 << 30);
            while let Some(at) = line.deadline() {
                prop_assert!(at >= now);
                let Some(frame) = line.leaving(far) else { break };
                prop_assert!(frames.contains(&frame));
            }
            prop_assert_eq!(line.bytes, 0);
        }
    }
}
