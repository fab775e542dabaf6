//! Bookmarks: where in a server's transaction log something is, or where a replay starts and ends.
//!
//! ```text
//! 0                                       EPOCH: the beginning of the log
//! 0|1|                                    NOW: what comes from now on
//! recent                                  MOST_RECENT: where this client left off; never sent
//! 7094790850998930143|42|                 after message 42 of one publisher
//! 20240102T030405.123456Z                 from a time on, UTC
//! 1|7|,2|9|                               a list: at the earliest of them
//! [20240102T000000Z:20240103T000000Z)     a range: `[` and `]` include the end point, `(` and `)` do not
//! ```

mod lowest;
mod parse;
mod progress;

use std::borrow::Cow;
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};
use crate::timestamp;

pub(crate) use lowest::lowest_of_each;
pub(crate) use parse::{bookmark_parts, bookmark_place, eight_digits};
pub(crate) use progress::Progress;

/// A place in a transaction log: where a replay starts, or which message one is.
///
/// Make one with a constant or a constructor, or [parse](Bookmark::parse) the text that came with a message; match on
/// [`kind`](Bookmark::kind) to look inside. To an application a bookmark is otherwise opaque: sequences of different
/// publishers cannot be compared.
///
/// A bookmark keeps the text it was read from, and [`Display`](fmt::Display) gives it back, tidied in two ways: blanks
/// and empty entries of a list are dropped, and a time outside a range gets the `Z` it may lack. Equality looks at the
/// meaning: `1|2|` and `1|2` are equal.
///
/// ```
/// use amps_client::{Bookmark, BookmarkKind};
///
/// # fn main() -> amps_client::Result<()> {
/// let bookmark = Bookmark::parse("7094790850998930143|42|")?;
/// assert_eq!(bookmark, Bookmark::at(7_094_790_850_998_930_143, 42));
/// assert!(matches!(bookmark.kind(), BookmarkKind::At { sequence: 42, .. }));
/// assert_eq!(bookmark.to_string(), "7094790850998930143|42|");
///
/// assert_eq!(Bookmark::EPOCH.to_string(), "0");
/// assert_eq!(Bookmark::parse("0|1|")?, Bookmark::NOW);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bookmark {
    text: Cow<'static, str>,
    kind: BookmarkKind,
}

impl Bookmark {
    /// The beginning of the transaction log.
    pub const EPOCH: Bookmark = Bookmark { text: Cow::Borrowed("0"), kind: BookmarkKind::Epoch };

    /// The moment the server processes the request: nothing old, and still a bookmark subscription.
    pub const NOW: Bookmark = Bookmark { text: Cow::Borrowed("0|1|"), kind: BookmarkKind::Now };

    /// Where this client left off, according to its bookmark store; [`EPOCH`](Bookmark::EPOCH) without a store.
    ///
    /// It stands for the store's recovery point and is never sent itself.
    pub const MOST_RECENT: Bookmark =
        Bookmark { text: Cow::Borrowed("recent"), kind: BookmarkKind::MostRecent };

    /// Reads a bookmark; the same as [`str::parse`]. Blanks around it do not matter.
    ///
    /// # Errors
    ///
    /// [`Command`](ErrorKind::Command) if the text has none of the known forms, such as a range without one of its ends,
    /// or a time that no calendar has; the text names it.
    ///
    /// ```
    /// use amps_client::{Bookmark, ErrorKind};
    ///
    /// assert_eq!(Bookmark::parse("1|2|, 3|4|")?.to_string(), "1|2|,3|4|");
    /// assert_eq!(Bookmark::parse("[1|2|:]").unwrap_err().kind(), ErrorKind::Command);
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Bookmark> {
        parse::read(text).map_err(|why| {
            Error::new(ErrorKind::Command, format!("`{}` is no bookmark: {why}", text.escape_debug()))
        })
    }

    /// The place of one message: its publisher, and its sequence there. A replay starts after it. Sequence 1 of
    /// publisher 0 belongs to no message: it is [`NOW`](Bookmark::NOW).
    ///
    /// ```
    /// assert_eq!(amps_client::Bookmark::at(17, 3).to_string(), "17|3|");
    /// ```
    pub fn at(publisher: u64, sequence: u64) -> Bookmark {
        Bookmark {
            text: format!("{publisher}|{sequence}|").into(),
            kind: parse::position_kind(publisher, sequence),
        }
    }

    /// A time, counted in whole microseconds. A time outside the years 1970 to 9999 becomes the nearest one within.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    /// use amps_client::Bookmark;
    ///
    /// let time = UNIX_EPOCH + Duration::from_millis(1_704_164_645_250);
    /// assert_eq!(Bookmark::time(time).to_string(), "20240102T030405.250000Z");
    /// ```
    pub fn time(time: SystemTime) -> Bookmark {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST_TIME);
        let micros = Duration::new(since.as_secs(), since.subsec_micros() * 1_000);
        let time = UNIX_EPOCH + micros;
        Bookmark {
            text: timestamp::format(time).replace(".000000", "").into(),
            kind: BookmarkKind::Time(time),
        }
    }

    /// Several places: a replay starts at the earliest of them. Lists among them are taken apart, and a list of one is
    /// that one.
    ///
    /// # Errors
    ///
    /// [`Command`](ErrorKind::Command) for no bookmarks at all, and if [`MOST_RECENT`](Bookmark::MOST_RECENT) or a range
    /// is among several.
    ///
    /// ```
    /// use amps_client::Bookmark;
    ///
    /// let list = Bookmark::list([Bookmark::at(1, 7), Bookmark::at(2, 9)])?;
    /// assert_eq!(list.to_string(), "1|7|,2|9|");
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    pub fn list(bookmarks: impl IntoIterator<Item = Bookmark>) -> Result<Bookmark> {
        parse::join(bookmarks)
            .map_err(|why| Error::new(ErrorKind::Command, format!("a bookmark list: {why}")))
    }

    /// A replay with an end: `start..end` leaves the end point out, `start..=end` includes it. The ends are times,
    /// places, or lists of them; of a list the earliest start and the latest end count. An end in the future is fine.
    ///
    /// A range knows whole seconds only: a start in between is moved down and an end is moved up.
    ///
    /// # Errors
    ///
    /// [`Command`](ErrorKind::Command) if an end is missing, or is itself a range or
    /// [`MOST_RECENT`](Bookmark::MOST_RECENT).
    ///
    /// ```
    /// use std::ops::Bound;
    /// use amps_client::Bookmark;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let day = Bookmark::parse("20200604T000000Z")?..Bookmark::parse("20200605T000000Z")?;
    /// assert_eq!(Bookmark::range(day)?.to_string(), "[20200604T000000Z:20200605T000000Z)");
    ///
    /// let after = (Bound::Excluded(Bookmark::at(1, 7)), Bound::Included(Bookmark::at(1, 9)));
    /// assert_eq!(Bookmark::range(after)?.to_string(), "(1|7|:1|9|]");
    /// # Ok(())
    /// # }
    /// ```
    pub fn range(ends: impl RangeBounds<Bookmark>) -> Result<Bookmark> {
        let (start, end) = (ends.start_bound(), ends.end_bound());
        let text = match (opened(start), closed(end)) {
            (Some(start), Some(end)) => format!("{start}:{end}"),
            _ => {
                return Err(Error::new(
                    ErrorKind::Command,
                    "a bookmark range needs two ends that are places",
                ));
            }
        };
        Bookmark::parse(&text)
    }

    /// What the bookmark says.
    pub fn kind(&self) -> &BookmarkKind {
        &self.kind
    }

    /// The text, as a command carries it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The range that goes on where something has been seen already: from `start`, excluded, to the old end. If this is
    /// no range, or `start` is EPOCH (nothing has been seen) or cannot start a range, the bookmark stays as it is. For a
    /// bookmark store.
    ///
    /// ```
    /// use amps_client::Bookmark;
    ///
    /// let range: Bookmark = "[1|1|:1|9|]".parse()?;
    /// assert_eq!(range.resumed_after(&Bookmark::at(1, 4)).as_str(), "(1|4|:1|9|]");
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    #[must_use]
    pub fn resumed_after(&self, start: &Bookmark) -> Bookmark {
        self.with_start(start).unwrap_or_else(|| self.clone())
    }

    fn with_start(&self, start: &Bookmark) -> Option<Bookmark> {
        if !matches!(self.kind, BookmarkKind::Range { .. }) || start.kind == BookmarkKind::Epoch {
            return None;
        }
        let start = opened(Bound::Excluded(start))?;
        let (_, end) = self.text.split_once(':')?;
        Bookmark::parse(&format!("{start}:{}", end.trim_start())).ok()
    }
}

impl FromStr for Bookmark {
    type Err = Error;

    /// The same as [`Bookmark::parse`].
    fn from_str(text: &str) -> Result<Bookmark> {
        Bookmark::parse(text)
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Bookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bookmark").field(&self.text).finish()
    }
}

impl From<Bookmark> for String {
    /// The text of the bookmark.
    fn from(bookmark: Bookmark) -> String {
        bookmark.text.into_owned()
    }
}

impl PartialEq for Bookmark {
    fn eq(&self, other: &Bookmark) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Bookmark {}

/// What a [`Bookmark`] says.
///
/// ```
/// use amps_client::{Bookmark, BookmarkKind};
///
/// fn publishers(bookmark: &Bookmark) -> Vec<u64> {
///     match bookmark.kind() {
///         BookmarkKind::At { publisher, .. } => vec![*publisher],
///         BookmarkKind::List(entries) => entries.iter().flat_map(publishers).collect(),
///         _ => Vec::new(),
///     }
/// }
/// assert_eq!(publishers(&"1|7|,2|9|".parse()?), [1, 2]);
/// # Ok::<(), amps_client::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BookmarkKind {
    /// The beginning of the transaction log.
    Epoch,
    /// The moment the server processes the request.
    Now,
    /// What the bookmark store of the client says.
    MostRecent,
    /// One message.
    At {
        /// Who published it: the server's hash of the client name.
        publisher: u64,
        /// Its number; increases within one publisher only.
        sequence: u64,
    },
    /// A time.
    Time(SystemTime),
    /// At least two bookmarks; none of them is itself a list or a range.
    List(Vec<Bookmark>),
    /// A replay with an end. Neither bound is ever [`Unbounded`](Bound::Unbounded).
    Range {
        /// Where it starts.
        start: Bound<Box<Bookmark>>,
        /// Where it ends.
        end: Bound<Box<Bookmark>>,
    },
}

/// The last second of the year 9999: later times do not fit into the text.
const LAST_TIME: Duration = Duration::from_secs(253_402_300_799);

/// The text of the start of a range.
fn opened(start: Bound<&Bookmark>) -> Option<String> {
    match start {
        Bound::Included(start) => Some(format!("[{}", end_point(start, whole_second)?)),
        Bound::Excluded(start) => Some(format!("({}", end_point(start, whole_second)?)),
        Bound::Unbounded => None,
    }
}

/// The text of the end of a range.
fn closed(end: Bound<&Bookmark>) -> Option<String> {
    match end {
        Bound::Included(end) => Some(format!("{}]", end_point(end, next_whole_second)?)),
        Bound::Excluded(end) => Some(format!("{})", end_point(end, next_whole_second)?)),
        Bound::Unbounded => None,
    }
}

/// An end point in the few characters that a range may hold: no fractions, and nothing after a position.
fn end_point(bookmark: &Bookmark, rounded: fn(SystemTime) -> SystemTime) -> Option<String> {
    match &bookmark.kind {
        BookmarkKind::Epoch | BookmarkKind::Now => Some(bookmark.text.to_string()),
        BookmarkKind::At { publisher, sequence } => Some(format!("{publisher}|{sequence}|")),
        BookmarkKind::Time(time) => Some(Bookmark::time(rounded(*time)).into()),
        BookmarkKind::List(entries) => {
            let texts: Option<Vec<_>> = entries.iter().map(|entry| end_point(entry, rounded)).collect();
            Some(texts?.join(","))
        }
        BookmarkKind::MostRecent | BookmarkKind::Range { .. } => None,
    }
}

fn whole_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn next_whole_second(time: SystemTime) -> SystemTime {
    let whole = whole_second(time);
    if whole < time { whole + Duration::from_secs(1) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn parsed(text: &str) -> Bookmark {
        Bookmark::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn seconds(text: &str) -> SystemTime {
        timestamp::parse(text).unwrap()
    }

    /// `api-surface` 12, `wire-protocol` 10.1: the text of each kind.
    #[test]
    fn each_kind_writes_its_text_and_reads_it_again() {
        let at = Bookmark::at;
        let time = |text| Bookmark::time(seconds(text));
        let list = Bookmark::list([at(1, 2), Bookmark::EPOCH, time("20240102T030405Z")]).unwrap();
        let table = [
            (Bookmark::EPOCH, "0"),
            (Bookmark::NOW, "0|1|"),
            (Bookmark::MOST_RECENT, "recent"),
            (at(7_094_790_850_998_930_143, 42), "7094790850998930143|42|"),
            (at(u64::MAX, u64::MAX), "18446744073709551615|18446744073709551615|"),
            (at(0, 1), "0|1|"),
            (at(0, 0), "0|0|"),
            (time("20150102T123500Z"), "20150102T123500Z"),
            (time("20260102T030405.678Z"), "20260102T030405.678000Z"),
            (list, "1|2|,0,20240102T030405Z"),
            (Bookmark::range(at(1, 2)..at(1, 9)).unwrap(), "[1|2|:1|9|)"),
            (Bookmark::range(at(1, 2)..=at(1, 9)).unwrap(), "[1|2|:1|9|]"),
            (Bookmark::range(Bookmark::EPOCH..=Bookmark::NOW).unwrap(), "[0:0|1|]"),
        ];
        for (bookmark, text) in table {
            assert_eq!(bookmark.as_str(), text);
            assert_eq!(parsed(text), bookmark);
            assert_eq!(parsed(text).to_string(), text);
            assert_eq!(String::from(bookmark), text);
        }
        assert!(at(u64::MAX, u64::MAX).as_str().len() <= 42);
    }

    #[test]
    fn a_time_outside_the_calendar_of_the_protocol_becomes_the_nearest_one() {
        let far = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(Bookmark::time(far).as_str(), "99991231T235959Z");
        assert_eq!(Bookmark::time(UNIX_EPOCH - Duration::from_secs(1)).as_str(), "19700101T000000Z");
        let nanos = UNIX_EPOCH + Duration::from_nanos(1_999);
        assert_eq!(Bookmark::time(nanos).as_str(), "19700101T000000.000001Z");
        assert_eq!(Bookmark::time(nanos), parsed("19700101T000000.000001Z"));
    }

    #[test]
    fn lists_are_flat_and_hold_places_only() {
        let (one, two, three) = (Bookmark::at(1, 1), Bookmark::at(2, 2), Bookmark::at(3, 3));
        let inner = Bookmark::list([one.clone(), two]).unwrap();
        assert_eq!(Bookmark::list([inner, three]).unwrap().as_str(), "1|1|,2|2|,3|3|");
        assert_eq!(Bookmark::list([one.clone()]).unwrap(), one);
        assert_eq!(Bookmark::list([Bookmark::MOST_RECENT]).unwrap(), Bookmark::MOST_RECENT);
        let range = parsed("[1|1|:1|9|]");
        for bad in [vec![], vec![one.clone(), Bookmark::MOST_RECENT], vec![range, one]] {
            assert_eq!(Bookmark::list(bad).unwrap_err().kind(), ErrorKind::Command);
        }
    }

    #[test]
    fn a_range_that_is_put_together_holds_only_what_a_range_may() {
        let time = |text| Bookmark::time(seconds(text));
        let (from, to) = (time("20240102T030405.25Z"), time("20240102T030405.75Z"));
        assert_eq!(
            Bookmark::range(from.clone()..to.clone()).unwrap().as_str(),
            "[20240102T030405Z:20240102T030406Z)"
        );
        let list = Bookmark::list([parsed("1|2|later.on|"), from]).unwrap();
        assert_eq!(
            Bookmark::range((Bound::Excluded(list), Bound::Included(to))).unwrap().as_str(),
            "(1|2|,20240102T030405Z:20240102T030406Z]"
        );
        let whole = time("20240102T030405Z");
        assert_eq!(
            Bookmark::range(whole.clone()..=whole).unwrap().as_str(),
            "[20240102T030405Z:20240102T030405Z]"
        );
    }

    #[test]
    fn a_range_needs_two_ends_that_are_places() {
        let (one, range) = (Bookmark::at(1, 1), parsed("[1|1|:1|9|]"));
        let results = [
            Bookmark::range(..),
            Bookmark::range(one.clone()..),
            Bookmark::range(..=one.clone()),
            Bookmark::range(Bookmark::MOST_RECENT..one.clone()),
            Bookmark::range(one.clone()..range.clone()),
            Bookmark::range(range..one),
        ];
        for result in results {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Command);
        }
    }

    /// `wire-protocol` 10.1, `resilience` BS-13.5 and its vectors: the start moves to the recovery point, excluded.
    #[test]
    fn a_range_is_resumed_after_what_was_seen() {
        let table = [
            ("[1|1|:1|9|]", "1|1|", "(1|1|:1|9|]"),
            ("(1|5|,2|7|:1|9|)", "2|1|,1|1|", "(2|1|,1|1|:1|9|)"),
            ("[ 20200604T000000 : 20200605T000000 )", "1|2|x", "(1|2|:20200605T000000 )"),
            ("[1|1|:1|9|]", "20240102T030405.5Z", "(20240102T030405Z:1|9|]"),
            ("[1|1|:1|9|]", "0", "[1|1|:1|9|]"),
            ("[1|1|:1|9|]", "recent", "[1|1|:1|9|]"),
            ("[1|1|:1|9|]", "[1|1|:1|9|]", "[1|1|:1|9|]"),
            ("1|1|", "1|2|", "1|1|"),
        ];
        for (bookmark, start, expected) in table {
            assert_eq!(parsed(bookmark).resumed_after(&parsed(start)).as_str(), expected, "{bookmark}");
        }
    }

    #[test]
    fn equality_looks_at_the_meaning_and_debug_shows_the_text() {
        assert_eq!(parsed("1|2|"), parsed("01|2|20240102T030405Z|"));
        assert_eq!(parsed("20240102T030405"), parsed("20240102T030405.0Z"));
        assert_ne!(parsed("[1|2|:1|3|]"), parsed("[1|2|:1|3|)"));
        assert_eq!(format!("{:?}", parsed("1|2|x")), "Bookmark(\"1|2|x\")");
    }

    fn any_place(random: &mut Random) -> Bookmark {
        match random.below(4) {
            0 => Bookmark::EPOCH,
            1 => Bookmark::time(UNIX_EPOCH + Duration::from_micros(random.next() >> 12)),
            _ => Bookmark::at(random.next() >> random.below(64), random.next() >> random.below(64)),
        }
    }

    fn any_list(random: &mut Random) -> Bookmark {
        Bookmark::list((0..=random.below(4)).map(|_| any_place(random)).collect::<Vec<_>>()).unwrap()
    }

    fn any_bookmark(random: &mut Random) -> Bookmark {
        let (one, other) = (any_list(random), any_list(random));
        match random.below(4) {
            0 => Bookmark::range(one..other).unwrap(),
            1 => Bookmark::range((Bound::Excluded(one), Bound::Included(other))).unwrap(),
            _ => one,
        }
    }

    #[test]
    fn any_bookmark_is_read_back_from_its_text() {
        let mut random = Random::new(0x5EED_0006);
        for _ in 0..5_000 {
            let bookmark = any_bookmark(&mut random);
            let again = parsed(bookmark.as_str());
            assert_eq!(again, bookmark, "{bookmark}");
            assert_eq!(again.as_str(), bookmark.as_str());
            let padded = bookmark.as_str().replace(',', " ,, ");
            assert_eq!(parsed(&format!(" {padded} ")), bookmark, "{padded}");
        }
    }
}
