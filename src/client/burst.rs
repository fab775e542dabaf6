//! When a frame is written at once and when it waits a moment for company.
//!
//! A lone frame is written by the publishing call itself. Only when calls follow each other faster than a write takes
//! do frames collect; they then leave together when they are many or the oldest of them is old. Nothing here is a
//! setting: the decision comes from what the publisher does.
//!
//! Pure: the clock is read by the caller and only when asked for, because reading it costs as much as a frame.

use std::time::{Duration, Instant};

/// The largest buffer that is collected: a little over 64 KiB would halve the throughput of large payloads.
pub(crate) const FULL: usize = 60_000;
/// The age at which the oldest frame is sent, however few there are.
pub(crate) const OLD: Duration = Duration::from_micros(50);

/// So many frames in a row, each sooner after a write than that write took, make a burst.
const STREAK: u32 = 8;
/// Frames further apart than this are no burst, however slow writes are.
const CLOSE: Duration = Duration::from_micros(5);
/// On average further apart than this, a burst is over.
const APART: Duration = Duration::from_micros(10);
/// How often the clock is read in a burst, in time and at most in frames.
const LOOK: Duration = Duration::from_micros(10);
const LOOK_FRAMES: u32 = 64;

/// What to do with the frames collected so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Write,
    Hold,
}

/// The pace of one connection's outgoing frames.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    active: bool,
    /// Frames in a row that came close behind a write.
    streak: u32,
    /// End and duration of the last write.
    last_write: Option<(Instant, Duration)>,
    /// Frames collected since then.
    frames: u32,
    /// Frames until the clock is read again.
    until_look: u32,
}

impl Burst {
    /// True while frames are collected.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Ends the burst: the next frame is written at once.
    pub(crate) fn end(&mut self) {
        *self = Burst { last_write: self.last_write, ..Burst::default() };
    }

    /// A frame joined the others; `buffered` is their size. `now` is called for few frames only.
    #[inline]
    pub(crate) fn added(&mut self, buffered: usize, now: impl FnOnce() -> Instant) -> Verdict {
        self.frames += 1;
        if !self.active || buffered > FULL {
            return Verdict::Write;
        }
        self.until_look = self.until_look.saturating_sub(1);
        if self.until_look > 0 {
            return Verdict::Hold;
        }
        self.look(now())
    }

    fn look(&mut self, now: Instant) -> Verdict {
        let age = self.age(now);
        if age >= OLD {
            return Verdict::Write;
        }
        let gap = age / self.frames.max(1);
        self.until_look = frames_in(LOOK.min(OLD - age), gap);
        Verdict::Hold
    }

    /// How long the oldest frame may have waited: since the last write, which is never too short.
    fn age(&self, now: Instant) -> Duration {
        self.last_write.map_or(OLD, |(ended, _)| now.saturating_duration_since(ended))
    }

    /// Everything collected was written between these two instants. True if that begins a burst.
    pub(crate) fn wrote(&mut self, began: Instant, ended: Instant) -> bool {
        let since = self.last_write.map(|(end, took)| (began.saturating_duration_since(end), took));
        let frames = std::mem::take(&mut self.frames).max(1);
        self.last_write = Some((ended, ended.saturating_duration_since(began)));
        let Some((since, took)) = since else { return false };
        let gap = since / frames;
        if self.active {
            if gap > APART {
                self.end();
            }
            self.until_look = frames_in(LOOK, gap);
            return false;
        }
        self.streak = if gap < took.min(CLOSE) { self.streak + 1 } else { 0 };
        self.active = self.streak >= STREAK;
        self.until_look = frames_in(LOOK, gap);
        self.active
    }
}

/// How many frames at this distance come in a time, within bounds.
fn frames_in(time: Duration, gap: Duration) -> u32 {
    let frames = time.as_nanos() / gap.as_nanos().max(1);
    u32::try_from(frames).unwrap_or(LOOK_FRAMES).clamp(1, LOOK_FRAMES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// A publisher in virtual time: a frame every `gap`, a write that takes `cost`.
    struct Publisher {
        burst: Burst,
        now: Instant,
        waiting: Vec<Instant>,
        oldest: Duration,
        writes: u32,
        looks: u32,
    }

    impl Publisher {
        fn new() -> Publisher {
            let now = Instant::now();
            Publisher {
                burst: Burst::default(),
                now,
                waiting: vec![],
                oldest: Duration::ZERO,
                writes: 0,
                looks: 0,
            }
        }

        fn publish(&mut self, gap: Duration, cost: Duration, size: usize) {
            self.now += gap;
            self.waiting.push(self.now);
            let (now, looks) = (self.now, &mut self.looks);
            let clock = || {
                *looks += 1;
                now
            };
            if self.burst.added(self.waiting.len() * size, clock) == Verdict::Write {
                let began = self.now;
                self.oldest = self.oldest.max(began - self.waiting[0]);
                self.now += cost;
                self.burst.wrote(began, self.now);
                self.waiting.clear();
                self.writes += 1;
            }
        }
    }

    #[test]
    fn frames_that_come_one_by_one_are_written_one_by_one() {
        let mut p = Publisher::new();
        for _ in 0..1000 {
            p.publish(20 * US, 6 * US, 100);
            assert!(p.waiting.is_empty());
        }
    }

    #[test]
    fn the_ninth_frame_of_a_row_waits_for_company() {
        let mut p = Publisher::new();
        for _ in 0..9 {
            p.publish(US / 10, US, 100);
            assert!(p.waiting.is_empty());
        }
        p.publish(US / 10, US, 100);
        assert_eq!(p.waiting.len(), 1);
    }

    #[test]
    fn a_fast_burst_is_written_in_full_buffers_and_reads_the_clock_rarely() {
        let mut p = Publisher::new();
        for _ in 0..100_000 {
            p.publish(US / 20, 25 * US, 90);
        }
        assert!(p.writes < 100_000 / 500, "{}", p.writes);
        assert!(p.looks < 100_000 / 50, "{}", p.looks);
    }

    #[test]
    fn steady_publishing_never_holds_a_frame_for_long() {
        for gap in [2, 3, 4] {
            let mut p = Publisher::new();
            for _ in 0..100_000 {
                p.publish(gap * US, 6 * US, 100);
            }
            assert!(p.writes < 100_000 / 5, "collects at {gap} us: {}", p.writes);
            assert!(p.oldest <= 65 * US, "{:?} at {gap} us", p.oldest);
        }
    }

    #[test]
    fn a_publisher_that_slows_down_leaves_the_burst() {
        let mut p = Publisher::new();
        for _ in 0..1000 {
            p.publish(US / 10, 5 * US, 100);
        }
        assert!(p.burst.is_active());
        for _ in 0..70 {
            p.publish(30 * US, 5 * US, 100);
        }
        assert!(!p.burst.is_active() && p.waiting.is_empty());
    }

    #[test]
    fn ending_a_burst_makes_the_next_frame_direct() {
        let mut p = Publisher::new();
        for _ in 0..100 {
            p.publish(US / 10, 5 * US, 100);
        }
        p.burst.end();
        p.waiting.clear();
        p.publish(US / 10, 5 * US, 100);
        assert!(p.waiting.is_empty());
    }
}
