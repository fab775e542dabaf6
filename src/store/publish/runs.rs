//! Where each kept message lies: runs of consecutive numbers, found by arithmetic.
//!
//! ```text
//!   front                                        back
//!   ┌ run ────────┐ ┌ run ────────┐ ┌ run ────┐
//!   │ 11 12 13 14 │ │ 15 16 17 18 │ │ 19 20   │ ◄── new messages
//!   └─────────────┘ └─────────────┘ └─────────┘
//!          ▲ floor 13: what is below is discarded; a run goes when its last message does
//! ```

use std::collections::VecDeque;
use std::ops::Range;

/// So many lists of starts are kept for runs to come.
const SPARE_LISTS: usize = 16;

/// The kept messages in order of their numbers; `P` says where the bytes of a run are.
#[derive(Debug)]
pub(crate) struct Runs<P> {
    /// Runs that take no more messages; none is empty.
    full: VecDeque<Run<P>>,
    /// The run behind them, which takes new messages.
    active: Option<Run<P>>,
    /// The lowest number that is not discarded.
    floor: u64,
    /// Numbers at or above the floor that no message can be found for: in order, apart from each other, and mostly none.
    lost: Vec<Range<u64>>,
    spare: Vec<Vec<u32>>,
}

/// Messages with consecutive numbers that lie in one place.
#[derive(Debug)]
pub(crate) struct Run<P> {
    pub(crate) place: P,
    first: u64,
    starts: Vec<u32>,
}

impl<P> Default for Runs<P> {
    fn default() -> Runs<P> {
        Runs { full: VecDeque::new(), active: None, floor: 0, lost: Vec::new(), spare: Vec::new() }
    }
}

impl<P> Runs<P> {
    /// The run that takes new messages.
    #[inline]
    pub(crate) fn active(&mut self) -> Option<&mut Run<P>> {
        self.active.as_mut()
    }

    /// Begins the run that takes new messages from now on. Returns the place of the one before it if that is empty.
    pub(crate) fn begin(&mut self, place: P, first: u64) -> Option<P> {
        let starts = self.spare.pop().unwrap_or_default();
        let before = self.active.replace(Run { place, first, starts })?;
        if before.starts.is_empty() {
            return Some(before.place);
        }
        self.full.push_back(before);
        None
    }

    #[cfg(any(feature = "file-store", test))]
    /// The place of the active run, which ends with it, if everything in it is discarded.
    pub(crate) fn take_finished(&mut self) -> Option<P> {
        let floor = self.floor;
        self.active.take_if(|run| run.end() <= floor).map(|run| run.place)
    }

    #[cfg(any(feature = "file-store", test))]
    /// Whether everything is discarded.
    pub(crate) fn is_finished(&self) -> bool {
        self.full.is_empty() && self.active.as_ref().is_none_or(|run| run.end() <= self.floor)
    }

    #[cfg(any(feature = "file-store", test))]
    /// Numbers between the runs, or in one, that no message can be found for.
    pub(crate) fn lose(&mut self, numbers: Range<u64>) {
        if !numbers.is_empty() {
            let at = self.lost.partition_point(|lost| lost.end <= numbers.start);
            self.lost.insert(at, numbers);
        }
    }

    /// The run with this place in the order, the front being 0.
    pub(crate) fn get(&self, run: usize) -> Option<&Run<P>> {
        if run == self.full.len() { self.active.as_ref() } else { self.full.get(run) }
    }

    fn front(&self) -> Option<&Run<P>> {
        self.get(0)
    }

    /// The number after the last message.
    fn end(&self) -> u64 {
        let last = self.active.as_ref().filter(|run| !run.starts.is_empty()).or(self.full.back());
        last.map_or(0, Run::end)
    }

    /// The first run that ends above this number, or else the last.
    fn run_of(&self, number: u64) -> usize {
        self.full.partition_point(|run| run.end() <= number)
    }

    /// The numbers around this one that no message can be found for.
    fn lost_around(&self, number: u64) -> Option<&Range<u64>> {
        let at = self.lost.partition_point(|lost| lost.end <= number);
        self.lost.get(at).filter(|lost| lost.contains(&number))
    }

    /// The lowest number from `from` on that is kept.
    pub(crate) fn at_or_after(&self, from: u64) -> Option<u64> {
        let mut number = from.max(self.floor);
        loop {
            let run = self.get(self.run_of(number))?;
            number = number.max(run.first);
            match self.lost_around(number) {
                Some(lost) => number = lost.end,
                None => return (number < run.end()).then_some(number),
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn lowest(&self) -> Option<u64> {
        self.at_or_after(0)
    }

    pub(crate) fn highest(&self) -> Option<u64> {
        let mut number = self.end().checked_sub(1)?;
        while let Some(lost) = self.lost_around(number) {
            number = lost.start.checked_sub(1)?;
        }
        (number >= self.floor).then_some(number)
    }

    pub(crate) fn count(&self) -> usize {
        let Some(front) = self.front() else { return 0 };
        let (start, end) = (self.floor.max(front.first), self.end());
        let within = |lost: &Range<u64>| lost.end.min(end).saturating_sub(lost.start.max(start));
        let lost: u64 = self.lost.iter().map(within).sum();
        end.saturating_sub(start).saturating_sub(lost) as usize
    }

    /// Where a kept message begins: its run, counted from the front, and its index there.
    pub(crate) fn find(&self, number: u64) -> Option<(usize, usize)> {
        if number < self.floor || self.lost_around(number).is_some() {
            return None;
        }
        let at = self.run_of(number);
        let run = self.get(at)?;
        let index = number.checked_sub(run.first)? as usize;
        (index < run.starts.len()).then_some((at, index))
    }

    /// Forgets everything up to this number. `freed` gets the places of the full runs that are gone with it.
    pub(crate) fn discard_up_to(&mut self, number: u64, freed: impl FnMut(P)) {
        self.floor = self.floor.max(number.saturating_add(1));
        let floor = self.floor;
        self.lost.drain(..self.lost.partition_point(|lost| lost.end <= floor));
        self.drop_finished(freed);
    }

    /// Gives up the full runs in which everything is discarded.
    pub(crate) fn drop_finished(&mut self, mut freed: impl FnMut(P)) {
        let floor = self.floor;
        while self.full.front().is_some_and(|run| run.end() <= floor) {
            let Some(Run { place, mut starts, .. }) = self.full.pop_front() else { return };
            freed(place);
            if self.spare.len() < SPARE_LISTS {
                starts.clear();
                self.spare.push(starts);
            }
        }
    }

    /// Where the first message that is not discarded begins in the front run, and that run's place. `None` for the start
    /// if everything in it is discarded.
    pub(crate) fn floor_mark(&mut self) -> Option<(&mut P, Option<u32>)> {
        let run = self.full.front_mut().or(self.active.as_mut())?;
        let start = run.start(self.floor.saturating_sub(run.first) as usize);
        Some((&mut run.place, start))
    }
}

impl<P> Run<P> {
    /// The number after its last message.
    #[inline]
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.starts.len() as u64)
    }

    /// Whether a message with this number can go on it.
    #[inline]
    pub(crate) fn continues_with(&self, number: u64) -> bool {
        self.end() == number || self.starts.is_empty()
    }

    /// Adds the message with this number, for which [`Run::continues_with`] holds.
    #[inline]
    pub(crate) fn push(&mut self, number: u64, start: u32) {
        if self.starts.is_empty() {
            self.first = number;
        }
        self.starts.push(start);
    }

    /// Where a message begins within the place.
    pub(crate) fn start(&self, index: usize) -> Option<u32> {
        self.starts.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs 10..13, 13..15 and 20..22, the numbers 15..20 lost.
    fn runs() -> Runs<char> {
        let mut runs = Runs::default();
        for (place, numbers) in [('a', 10..13), ('b', 13..15), ('c', 20..22)] {
            assert_eq!(runs.begin(place, numbers.start), None);
            let run = runs.active().unwrap();
            numbers.clone().zip([0, 100, 200]).for_each(|(number, start)| run.push(number, start));
        }
        runs.lose(15..20);
        runs
    }

    fn place(runs: &Runs<char>, number: u64) -> Option<(char, u32)> {
        let (run, index) = runs.find(number)?;
        let run = runs.get(run)?;
        Some((run.place, run.start(index)?))
    }

    #[test]
    fn a_message_is_found_by_its_number() {
        let runs = runs();
        assert_eq!(place(&runs, 10), Some(('a', 0)));
        assert_eq!(place(&runs, 12), Some(('a', 200)));
        assert_eq!(place(&runs, 14), Some(('b', 100)));
        assert_eq!(place(&runs, 20), Some(('c', 0)));
        assert_eq!([9, 15, 19, 22].map(|number| place(&runs, number)), [None; 4]);
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (7, Some(10), Some(21)));
        assert_eq!(runs.at_or_after(15), Some(20));
        assert_eq!(runs.at_or_after(22), None);
    }

    #[test]
    fn a_discard_frees_whole_runs_but_never_the_last() {
        let mut runs = runs();
        let mut freed = Vec::new();
        for (number, gone, count, lowest) in [
            (9, "", 7, Some(10)),
            (11, "", 5, Some(12)),
            (12, "a", 4, Some(13)),
            (16, "ab", 2, Some(20)),
            (20, "ab", 1, Some(21)),
            (40, "ab", 0, None),
        ] {
            runs.discard_up_to(number, |place| freed.push(place));
            assert_eq!(String::from_iter(&freed), gone, "{number}");
            assert_eq!((runs.count(), runs.lowest()), (count, lowest), "{number}");
        }
        assert_eq!(runs.highest(), None);
    }

    #[test]
    fn lost_numbers_at_either_end_do_not_count() {
        let mut runs = Runs::default();
        runs.begin('a', 5);
        let run = runs.active().unwrap();
        (5..9).for_each(|number| run.push(number, number as u32));
        runs.lose(8..9);
        runs.lose(5..6);
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (2, Some(6), Some(7)));
        runs.discard_up_to(6, |_| ());
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (1, Some(7), Some(7)));
        assert_eq!(runs.floor_mark(), Some((&mut 'a', Some(7))));
        runs.discard_up_to(7, |_| ());
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (0, None, None));
    }

    #[test]
    fn an_empty_run_begins_where_its_first_message_does() {
        let mut runs: Runs<char> = Runs::default();
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (0, None, None));
        runs.begin('a', 3);
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (0, None, None));
        let run = runs.active().unwrap();
        assert!(run.continues_with(70));
        run.push(70, 0);
        assert!(run.continues_with(71) && !run.continues_with(72));
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (1, Some(70), Some(70)));
        assert_eq!(runs.begin('b', 71), None);
        assert_eq!(runs.begin('c', 71), Some('b'), "it is empty");
    }

    #[test]
    fn the_active_run_is_given_up_once_it_is_finished() {
        let mut runs = runs();
        assert!(runs.take_finished().is_none() && !runs.is_finished());
        runs.discard_up_to(20, |_| ());
        assert!(runs.take_finished().is_none() && !runs.is_finished());
        runs.discard_up_to(21, |_| ());
        assert!(runs.is_finished());
        assert_eq!(runs.take_finished(), Some('c'));
        assert_eq!((runs.count(), runs.lowest(), runs.highest()), (0, None, None));
        assert!(runs.is_finished());
    }
}
