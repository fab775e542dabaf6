//! Which part of the journal a bookmark means (T-2, T-4).

use std::collections::HashMap;
use std::ops::Bound;

use crate::bookmark::{Bookmark, BookmarkKind};
use crate::testing::clock::Time;
use crate::testing::journal::{Entry, Journal, Mark};
use crate::testing::refusal::Refusal;

/// The part of the journal that a replay is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// `None`: it goes on for ever.
    pub(crate) until: Option<Until>,
}

/// Where a replay starts if the journal knows none of its bookmarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum NotFound {
    Epoch,
    #[default]
    Now,
    Fail,
}

impl Span {
    /// Reads a bookmark of any form.
    pub(crate) fn read(text: &str, not_found: NotFound, journal: &Journal) -> Result<Span, Refusal> {
        let bookmark = Bookmark::parse(text).map_err(|_| Refusal::InvalidBookmark)?;
        let (start, until) = match bookmark.kind() {
            BookmarkKind::Range { start: Bound::Included(start), end } => {
                (first(start, Side::Before, journal)?, Some(Until::new(end, journal)?))
            }
            BookmarkKind::Range { start: Bound::Excluded(start), end } => {
                (first(start, Side::After, journal)?, Some(Until::new(end, journal)?))
            }
            _ => (first(&bookmark, Side::Usual, journal)?, None),
        };
        let start = match (start, not_found) {
            (Some(start), _) => start,
            (None, NotFound::Epoch) => journal.first(),
            (None, NotFound::Now) => journal.end(),
            (None, NotFound::Fail) => return Err(Refusal::InvalidBookmark),
        };
        Ok(Span { start, until })
    }
}

/// Whether a replay begins with the message or time that is named, or behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
    /// Behind a message, and with a time.
    Usual,
}

/// The earliest of the places that are found.
fn first(bookmark: &Bookmark, side: Side, journal: &Journal) -> Result<Option<u64>, Refusal> {
    let mut earliest = None;
    for kind in entries(bookmark) {
        let place = match kind {
            BookmarkKind::Epoch => Some(journal.first()),
            BookmarkKind::Now => Some(journal.end()),
            BookmarkKind::At { publisher, sequence } => {
                let mark = Mark { publisher: *publisher, sequence: *sequence };
                journal.place_of(mark).map(|place| place + u64::from(side != Side::Before))
            }
            BookmarkKind::Time(time) if side == Side::After => Some(journal.after(Time::of_system(*time))),
            BookmarkKind::Time(time) => Some(journal.since(Time::of_system(*time))),
            _ => return Err(Refusal::InvalidBookmark),
        };
        earliest = match (earliest, place) {
            (Some(one), Some(other)) => Some(other.min(one)),
            (one, other) => one.or(other),
        };
    }
    Ok(earliest)
}

fn entries(bookmark: &Bookmark) -> Vec<&BookmarkKind> {
    match bookmark.kind() {
        BookmarkKind::List(list) => list.iter().map(Bookmark::kind).collect(),
        kind => vec![kind],
    }
}

/// The end of a range, of which parts may lie in the future: it is reached when all of them are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Until {
    /// No entry from here on belongs to the range, unless something below is still to come.
    place: u64,
    /// Messages that are to come: the number of each publisher.
    awaited: HashMap<u64, u64>,
    time: Option<Time>,
    is_inclusive: bool,
}

impl Until {
    fn new(end: &Bound<Box<Bookmark>>, journal: &Journal) -> Result<Until, Refusal> {
        let (bookmark, is_inclusive) = match end {
            Bound::Included(bookmark) => (bookmark, true),
            Bound::Excluded(bookmark) => (bookmark, false),
            Bound::Unbounded => return Err(Refusal::InvalidBookmark),
        };
        let mut until = Until { place: 0, awaited: HashMap::new(), time: None, is_inclusive };
        for kind in entries(bookmark) {
            match kind {
                BookmarkKind::Epoch => {}
                BookmarkKind::Now => until.place = until.place.max(journal.end()),
                BookmarkKind::Time(time) => until.time = until.time.max(Some(Time::of_system(*time))),
                BookmarkKind::At { publisher, sequence } => {
                    until.await_mark(Mark { publisher: *publisher, sequence: *sequence }, journal);
                }
                _ => return Err(Refusal::InvalidBookmark),
            }
        }
        Ok(until)
    }

    fn await_mark(&mut self, mark: Mark, journal: &Journal) {
        match journal.at_or_after(mark) {
            Some((found, place)) => self.reach(found == mark, place),
            None => {
                let awaited = self.awaited.entry(mark.publisher).or_default();
                *awaited = mark.sequence.max(*awaited);
            }
        }
    }

    fn reach(&mut self, is_the_end: bool, place: u64) {
        self.place = self.place.max(place + u64::from(is_the_end && self.is_inclusive));
    }

    /// Looks at the entry at a place before it is delivered; true if the range ends before it.
    pub(super) fn ends_before(&mut self, place: u64, entry: &Entry) -> bool {
        let Mark { publisher, sequence } = entry.mark;
        if let Some(awaited) = self.awaited.get(&publisher).copied().filter(|awaited| *awaited <= sequence) {
            self.awaited.remove(&publisher);
            self.reach(awaited == sequence, place);
        }
        self.awaited.is_empty() && place >= self.place && self.is_past(entry.record.time.micros())
    }

    /// True if nothing that is added at this time or later belongs to the range.
    pub(super) fn is_over(&self, place: u64, now: Time) -> bool {
        self.awaited.is_empty() && place >= self.place && self.is_past(now.micros())
    }

    /// When it is over by itself.
    pub(super) fn alarm(&self) -> Option<Time> {
        let tick = std::time::Duration::from_micros(1);
        self.time.filter(|_| self.awaited.is_empty()).map(|time| match self.is_inclusive {
            true => time.plus(tick),
            false => time,
        })
    }

    fn is_past(&self, time: Time) -> bool {
        self.time.is_none_or(|end| if self.is_inclusive { time > end } else { time >= end })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::journal::tests::entry;
    use crate::testing::sow::Record;

    const START: &str = "20200101T000000Z";

    /// Entries of publisher 9 at places 0 to 4: numbers 10 to 50, one a second.
    fn journal() -> Journal {
        let start = crate::timestamp::parse(START).unwrap();
        let mut journal = Journal::new(100);
        for n in 0..5 {
            let mut entry = entry(10 * (n + 1), 1);
            let time = Time::of_system(start + Duration::from_secs(n));
            entry.record = Record { time, ..Record::default() }.into();
            journal.add(entry);
        }
        journal
    }

    fn start(text: &str) -> Option<u64> {
        Span::read(text, NotFound::Fail, &journal()).ok().map(|span| span.start)
    }

    /// T-2, T-4.
    #[test]
    fn every_form_has_its_place() {
        let table = [
            ("0", Some(0)),
            ("0|1|", Some(5)),
            ("0|1", Some(5)),
            ("9|20|", Some(2)),
            ("9|20", Some(2)),
            ("9|21|", None),
            ("8|20|", None),
            ("8|20|,9|40|,9|20|", Some(2)),
            ("9|40|,0", Some(0)),
            ("8|1|,0|1|", Some(5)),
            ("20200101T000002Z", Some(2)),
            ("20200101T000002", Some(2)),
            ("20200101T000001.5Z", Some(2)),
            ("19990101T000000Z", Some(0)),
            ("20300101T000000Z", Some(5)),
            ("[9|20|:9|40|]", Some(1)),
            ("(9|20|:9|40|]", Some(2)),
            ("[20200101T000002Z:9|40|]", Some(2)),
            ("(20200101T000002Z:9|40|]", Some(3)),
            ("[0:0|1|)", Some(0)),
            ("[8|1|:0|1|)", None),
            ("recent", None),
            ("nonsense", None),
            ("", None),
            ("9|20|,recent", None),
            ("[9|20|:recent]", None),
        ];
        for (text, expected) in table {
            assert_eq!(start(text), expected, "{text}");
        }
        let unknown = |not_found| Span::read("8|1|", not_found, &journal()).unwrap().start;
        assert_eq!((unknown(NotFound::Epoch), unknown(NotFound::Now)), (0, 5));
    }

    /// The numbers of what a range yields from the journal, and whether it is over at its end.
    fn yields(range: &str) -> (Vec<u64>, bool) {
        let journal = journal();
        let span = Span::read(range, NotFound::Fail, &journal).unwrap();
        let mut until = span.until.unwrap();
        let now = journal.get(4).unwrap().record.time;
        let mut place = span.start;
        let mut found = Vec::new();
        while let Some(entry) = journal.get(place) {
            if until.ends_before(place, entry) {
                return (found, true);
            }
            found.push(entry.mark.sequence);
            place += 1;
        }
        (found, until.is_over(place, now))
    }

    #[test]
    fn a_range_ends_where_it_says() {
        let table = [
            ("[9|20|:9|40|]", vec![20, 30, 40], true),
            ("(9|20|:9|40|)", vec![30], true),
            ("[0:9|25|]", vec![10, 20], true),
            ("[0:9|50|]", vec![10, 20, 30, 40, 50], true),
            ("[0:9|60|]", vec![10, 20, 30, 40, 50], false),
            ("[9|40|:8|1|]", vec![40, 50], false),
            ("[0:9|10|,9|30|)", vec![10, 20], true),
            ("[9|40|:9|10|]", vec![], true),
            ("[0:20200101T000001Z]", vec![10, 20], true),
            ("[0:20200101T000001Z)", vec![10], true),
            ("[9|40|:20300101T000000Z]", vec![40, 50], false),
            ("[0:0|1|)", vec![10, 20, 30, 40, 50], true),
            ("[0:9|20|,20200101T000003Z)", vec![10, 20, 30], true),
        ];
        for (range, expected, is_over) in table {
            assert_eq!(yields(range), (expected, is_over), "{range}");
        }
    }

    #[test]
    fn a_range_whose_end_is_to_come_ends_when_it_has_come() {
        let journal = journal();
        let mut until = Span::read("[0:9|60|]", NotFound::Fail, &journal).unwrap().until.unwrap();
        assert!(!until.ends_before(5, &entry(59, 1)));
        assert!(!until.ends_before(6, &entry(60, 1)));
        assert!(until.is_over(7, Time::default()));
        let mut skipped = Span::read("[0:9|60|]", NotFound::Fail, &journal).unwrap().until.unwrap();
        assert!(skipped.ends_before(5, &entry(61, 1)));
    }
}
