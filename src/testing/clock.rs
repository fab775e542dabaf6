//! The time a server lives by: real, or moved by a test.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::timestamp;

/// The clock of a [`Server`](super::Server): leases, expiry, conflation, heartbeats and time stamps follow it.
///
/// The default is the real one. A [manual](Clock::manual) clock stands still until [`advance`](Clock::advance) moves
/// it, which makes everything that depends on time repeatable. A clone is the same clock, and several servers may
/// share one.
///
/// ```
/// use std::time::Duration;
/// use amps_client::testing::{Clock, Server};
///
/// # fn main() -> amps_client::Result<()> {
/// let clock = Clock::manual();
/// let server = Server::builder().listen_tcp().clock(clock.clone()).start()?;
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600))?; // an hour of the server's life in no time
/// assert_eq!(clock.now(), before + Duration::from_secs(3600));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    Real { start: Time, since: Instant },
    Manual(Manual),
}

struct Manual {
    /// Nanoseconds since 1970.
    now: AtomicU64,
    /// Everything that has deadlines on this clock. Held while time moves, so that two advances do not interleave.
    driven: Mutex<Vec<Weak<dyn Driven>>>,
}

/// Where a manual clock begins: 1 January 2025, midnight UTC.
const MANUAL_START: Duration = Duration::from_secs(1_735_689_600);

impl Clock {
    /// The clock of the machine. It never goes backwards, even if the machine's does.
    pub fn real() -> Clock {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock(Arc::new(Source::Real { start: Time(start), since: Instant::now() }))
    }

    /// A clock that stands at midnight UTC of 1 January 2025 until it is advanced.
    pub fn manual() -> Clock {
        let now = AtomicU64::new(Time(MANUAL_START).nanos());
        Clock(Arc::new(Source::Manual(Manual { now, driven: Mutex::default() })))
    }

    /// The time on this clock.
    pub fn now(&self) -> SystemTime {
        self.time().system()
    }

    /// Moves a manual clock on. Everything that falls due on the way happens in its order and at its own time, on
    /// this thread, and what it sends is queued for writing before the call returns.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) for the real clock, which nobody can move.
    pub fn advance(&self, by: Duration) -> Result<()> {
        match &*self.0 {
            Source::Real { .. } => {
                Err(Error::new(ErrorKind::Usage, "the real clock cannot be advanced; use Clock::manual()"))
            }
            Source::Manual(manual) => {
                manual.advance(by);
                Ok(())
            }
        }
    }

    pub(crate) fn is_manual(&self) -> bool {
        matches!(*self.0, Source::Manual(_))
    }

    pub(crate) fn time(&self) -> Time {
        match &*self.0 {
            Source::Real { start, since } => start.plus(since.elapsed()),
            Source::Manual(manual) => manual.time(),
        }
    }

    /// Lets a manual clock run the deadlines of `driven` from now on.
    pub(crate) fn drive(&self, driven: Weak<dyn Driven>) {
        if let Source::Manual(manual) = &*self.0 {
            let mut list = manual.driven.lock();
            list.retain(|known| known.strong_count() > 0);
            list.push(driven);
        }
    }
}

impl Manual {
    fn time(&self) -> Time {
        Time(Duration::from_nanos(self.now.load(Ordering::SeqCst)))
    }

    fn advance(&self, by: Duration) {
        let list = self.driven.lock();
        let driven: Vec<_> = list.iter().filter_map(Weak::upgrade).collect();
        let end = self.time().plus(by);
        while let Some(due) = driven.iter().filter_map(|d| d.next_deadline()).min().filter(|due| *due <= end)
        {
            let now = due.max(self.time());
            self.now.store(now.nanos(), Ordering::SeqCst);
            driven.iter().for_each(|d| d.run_due());
        }
        self.now.store(end.nanos(), Ordering::SeqCst);
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_manual() { "manual" } else { "real" };
        write!(f, "Clock({kind}, {})", self.time().text())
    }
}

/// Something with deadlines that a clock drives.
pub(crate) trait Driven: Send + Sync {
    fn next_deadline(&self) -> Option<Time>;

    /// Does everything due at the clock's present time; afterwards no deadline lies at or before it.
    fn run_due(&self);
}

/// A moment on a clock: the time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Time(Duration);

impl Time {
    pub(crate) fn plus(self, by: Duration) -> Time {
        Time(self.0.saturating_add(by))
    }

    /// Zero if `earlier` is not earlier.
    pub(crate) fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn system(self) -> SystemTime {
        UNIX_EPOCH.checked_add(self.0).unwrap_or(UNIX_EPOCH)
    }

    pub(crate) fn of_system(time: SystemTime) -> Time {
        Time(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// The same in whole microseconds, as headers show it.
    pub(crate) fn micros(self) -> Time {
        Time(Duration::new(self.0.as_secs(), self.0.subsec_micros() * 1_000))
    }

    /// As a header shows it (B-7).
    pub(crate) fn text(self) -> String {
        timestamp::format(self.system())
    }

    /// Good until the year 2554.
    fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Alarms {
        clock: Clock,
        due: Mutex<Vec<Time>>,
        rung: Mutex<Vec<(Time, Time)>>,
    }

    impl Driven for Alarms {
        fn next_deadline(&self) -> Option<Time> {
            self.due.lock().iter().min().copied()
        }

        fn run_due(&self) {
            let now = self.clock.time();
            let mut due = self.due.lock();
            self.rung.lock().extend(due.iter().filter(|t| **t <= now).map(|t| (*t, now)));
            due.retain(|t| *t > now);
        }
    }

    /// A-7.
    #[test]
    fn an_advance_runs_what_falls_due_in_order_and_at_its_own_time() {
        let clock = Clock::manual();
        let start = clock.time();
        let at = |seconds| start.plus(Duration::from_secs(seconds));
        let alarms = Arc::new(Alarms {
            clock: clock.clone(),
            due: Mutex::new(vec![at(3), at(1), at(9)]),
            rung: Mutex::default(),
        });
        let driven: Weak<Alarms> = Arc::downgrade(&alarms);
        clock.drive(driven);
        clock.advance(Duration::from_secs(5)).unwrap();
        assert_eq!(*alarms.rung.lock(), [(at(1), at(1)), (at(3), at(3))]);
        assert_eq!(clock.time(), at(5));
        assert_eq!(clock.time().text(), "20250101T000005.000000Z");
    }

    #[test]
    fn the_real_clock_moves_by_itself_only() {
        let clock = Clock::real();
        let before = clock.now();
        assert_eq!(clock.advance(Duration::from_secs(1)).unwrap_err().kind(), ErrorKind::Usage);
        assert!(clock.now() >= before && !clock.is_manual());
    }
}
