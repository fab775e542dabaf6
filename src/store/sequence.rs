//! Which number comes next, and how far the server has come.
//!
//! Pure: the clock is a value that the caller hands in.

use std::time::Duration;

/// The sequence numbers of one publish store.
#[derive(Debug, Clone)]
pub(crate) struct Sequences {
    history: History,
}

/// What a store has to remember of its numbers over a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The highest number ever given out; 0 before the first.
    pub(crate) assigned: u64,
    /// The number before the first one, taken from the clock; 0 before that was necessary.
    pub(crate) start: u64,
    /// The highest number discarded; 0 before the first time.
    pub(crate) persisted: u64,
    /// A server has said so, rather than that it knows nothing of us.
    pub(crate) confirmed: bool,
}

/// A server has seen less than was discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server has this client's messages up to {told}, but those up to {persisted} are discarded already"
)]
pub(crate) struct Gap {
    pub(crate) told: u64,
    pub(crate) persisted: u64,
}

/// The last number was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sequence numbers are used up")]
pub(crate) struct Exhausted;

impl Sequences {
    /// Goes on where a store left off; [`History::default`] for a store without history.
    pub(crate) fn new(history: History) -> Sequences {
        Sequences { history }
    }

    pub(crate) fn history(&self) -> History {
        self.history
    }

    pub(crate) fn persisted(&self) -> u64 {
        self.history.persisted
    }

    /// True until [`Sequences::begin`] on a store without history.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        self.history.assigned == 0 && self.history.start == 0
    }

    /// Starts above every number that an earlier run can have used.
    pub(crate) fn begin(&mut self, since_1970: Duration) {
        self.history.start = number_of(since_1970);
    }

    /// The number of the next message: above everything assigned, discarded, or told by a server.
    #[inline]
    pub(crate) fn upcoming(&self) -> Result<u64, Exhausted> {
        let History { assigned, start, persisted, .. } = self.history;
        let next = assigned.max(start).max(persisted).saturating_add(1);
        // There is always a number above those in use, which saves many a question.
        if next == u64::MAX { Err(Exhausted) } else { Ok(next) }
    }

    /// The upcoming number belongs to a message now.
    #[inline]
    pub(crate) fn assign(&mut self, upcoming: u64) {
        self.history.assigned = upcoming;
    }

    /// A server knows nothing of us: makes sure that there is a last persisted number. True if there was none.
    pub(crate) fn settle(&mut self, lowest_kept: Option<u64>) -> bool {
        let History { assigned, start, persisted, .. } = self.history;
        if persisted == 0 {
            self.history.persisted =
                lowest_kept.map_or(assigned.max(start), |lowest| lowest.saturating_sub(1));
        }
        persisted != self.history.persisted
    }

    /// A server has everything up to `sequence`. False if that is nothing new.
    pub(crate) fn discard(&mut self, sequence: u64, gap_is_error: bool) -> Result<bool, Gap> {
        let before = self.history;
        let sequence = sequence.min(u64::MAX - 1);
        if sequence < before.persisted {
            let gap = gap_is_error && before.confirmed;
            return if gap { Err(Gap { told: sequence, persisted: before.persisted }) } else { Ok(false) };
        }
        self.history = History { persisted: sequence, confirmed: true, ..before };
        Ok(self.history != before)
    }
}

impl History {
    /// The same, if numbers may have been given out that were not recorded.
    #[cfg(feature = "file-store")]
    pub(crate) fn with_forgotten(self, since_1970: Duration) -> History {
        if self == History::default() {
            return self;
        }
        History { assigned: self.assigned.max(number_of(since_1970)), ..self }
    }
}

/// The milliseconds since 1970 times a million.
fn number_of(since_1970: Duration) -> u64 {
    let milliseconds = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
    milliseconds.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_795_337_320_826);
    const START: u64 = 1_795_337_320_826_000_000;

    fn fresh() -> Sequences {
        Sequences::new(History::default())
    }

    fn next(sequences: &mut Sequences) -> u64 {
        if sequences.is_fresh() {
            sequences.begin(NOW);
        }
        let number = sequences.upcoming().unwrap();
        sequences.assign(number);
        number
    }

    /// PS-4, PS-5.
    #[test]
    fn numbers_start_at_the_clock_and_grow_by_one() {
        let mut sequences = fresh();
        assert!(sequences.is_fresh());
        assert_eq!([(); 3].map(|()| next(&mut sequences)), [START + 1, START + 2, START + 3]);
        assert_eq!(sequences.persisted(), 0);
    }

    #[test]
    fn a_number_that_no_message_got_is_not_used_up() {
        let mut sequences = fresh();
        sequences.begin(NOW);
        assert_eq!(sequences.upcoming(), Ok(START + 1));
        assert_eq!(sequences.upcoming(), Ok(START + 1));
        assert_eq!(next(&mut sequences), START + 1);
    }

    /// 100, PS-6.
    #[test]
    fn the_next_number_is_above_what_the_server_tells() {
        let mut sequences = fresh();
        next(&mut sequences);
        assert_eq!(sequences.discard(START + 500, false), Ok(true));
        assert_eq!(next(&mut sequences), START + 501);

        let mut restarted = fresh();
        restarted.discard(42, false).unwrap();
        assert_eq!(next(&mut restarted), START + 1, "above what an earlier run may have sent after 42");
    }

    #[test]
    fn numbers_go_on_after_a_restart() {
        let history = History { assigned: 7, start: 2, persisted: 5, confirmed: true };
        assert_eq!(next(&mut Sequences::new(history)), 8);
        assert_eq!(next(&mut Sequences::new(History { persisted: 9, ..history })), 10);
    }

    #[cfg(feature = "file-store")]
    #[test]
    fn forgotten_numbers_are_not_used_again() {
        assert!(Sequences::new(History::default().with_forgotten(NOW)).is_fresh());
        let recorded = History { assigned: START - 5, ..History::default() };
        assert_eq!(next(&mut Sequences::new(recorded.with_forgotten(NOW))), START + 1);
        let ahead = History { assigned: START + 5, ..History::default() };
        assert_eq!(next(&mut Sequences::new(ahead.with_forgotten(NOW))), START + 6);
    }

    /// PS-10.
    #[test]
    fn the_discard_point_only_grows() {
        let mut sequences = fresh();
        for (told, news, persisted) in [(5, true, 5), (3, false, 5), (5, false, 5), (8, true, 8)] {
            assert_eq!(sequences.discard(told, false), Ok(news), "{told}");
            assert_eq!(sequences.persisted(), persisted, "{told}");
        }
    }

    /// 108, 109, PS-10, PS-11.
    #[test]
    fn a_gap_is_an_error_only_if_wanted_and_only_with_history() {
        let mut sequences = fresh();
        assert_eq!(sequences.discard(100, true), Ok(true));
        assert_eq!(sequences.discard(100, true), Ok(false));
        assert_eq!(sequences.discard(99, true), Err(Gap { told: 99, persisted: 100 }));
        assert_eq!(sequences.discard(99, false), Ok(false));
        assert_eq!(sequences.persisted(), 100);
    }

    /// PS-10.
    #[test]
    fn a_server_without_history_only_fixes_the_point_to_count_from() {
        let mut sequences = fresh();
        sequences.begin(NOW);
        assert!(sequences.settle(None));
        assert_eq!(sequences.persisted(), START);
        assert!(!sequences.settle(None));
        assert_eq!(sequences.discard(7, true), Ok(false), "no server has confirmed anything yet");
        assert_eq!(next(&mut sequences), START + 1);

        let mut kept = Sequences::new(History { assigned: 30, ..History::default() });
        assert!(kept.settle(Some(28)));
        assert_eq!(kept.persisted(), 27);
        assert_eq!(next(&mut kept), 31);
    }

    #[test]
    fn when_the_numbers_are_used_up_there_is_none() {
        let mut sequences = fresh();
        sequences.begin(NOW);
        sequences.discard(u64::MAX - 2, false).unwrap();
        assert_eq!(next(&mut sequences), u64::MAX - 1);
        assert_eq!(sequences.upcoming(), Err(Exhausted));
    }
}
