//! How far a bookmark subscription has got in this process: where it goes on after a loss if no store knows better.

use std::time::{Duration, SystemTime};

use super::{Bookmark, BookmarkKind, bookmark_parts};

/// A subscription entered at NOW and lost before anything came goes on so much before it was accepted (`resilience.md` SM-7):
/// clocks differ, and a message may have been under way.
const BEFORE_ACCEPTANCE: Duration = Duration::from_secs(10);

/// What one subscription has delivered.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// When the server accepted it, if it was entered at NOW.
    accepted_at_now: Option<SystemTime>,
    /// The highest sequence of each publisher, ordered by publisher.
    last: Vec<(u64, u64)>,
    /// Where the last publisher stands in the list: most messages come from the one before.
    recent: usize,
}

impl Progress {
    /// The subscription is placed anew, at a starting point of the application.
    pub(crate) fn restart(&mut self) {
        *self = Progress::default();
    }

    /// The server has accepted the subscription at NOW. The first time counts.
    pub(crate) fn accepted_at_now(&mut self, time: SystemTime) {
        self.accepted_at_now.get_or_insert(time);
    }

    /// A message with this bookmark is about to be delivered.
    #[inline]
    pub(crate) fn delivered(&mut self, bookmark: &[u8]) {
        let Some((publisher, sequence)) = bookmark_parts(bookmark) else { return };
        match self.last.get_mut(self.recent) {
            Some((known, last)) if *known == publisher => *last = sequence.max(*last),
            _ => self.delivered_by_another(publisher, sequence),
        }
    }

    fn delivered_by_another(&mut self, publisher: u64, sequence: u64) {
        self.recent = match self.last.binary_search_by_key(&publisher, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, last)) = self.last.get_mut(at) {
                    *last = sequence.max(*last);
                }
                at
            }
            Err(at) => {
                self.last.insert(at, (publisher, sequence));
                at
            }
        };
    }

    /// Where a subscription at NOW goes on of which nothing came, if the server has accepted it.
    pub(crate) fn since_acceptance(&self) -> Option<Bookmark> {
        let accepted = self.accepted_at_now.filter(|_| self.last.is_empty())?;
        Some(Bookmark::time(accepted.checked_sub(BEFORE_ACCEPTANCE).unwrap_or(accepted)))
    }

    /// Where a subscription goes on that was placed here: behind the last message of each publisher.
    pub(crate) fn resume_point(&self, placed: &Bookmark) -> Bookmark {
        if self.last.is_empty() {
            return self.since_acceptance().unwrap_or_else(|| beginning(placed));
        }
        let places = self.last.iter().map(|(publisher, sequence)| Bookmark::at(*publisher, *sequence));
        match Bookmark::list(places) {
            Ok(list) if matches!(placed.kind(), BookmarkKind::Range { .. }) => placed.resumed_after(&list),
            Ok(list) => list,
            // A list of places is one.
            Err(_) => beginning(placed),
        }
    }
}

/// Where it was placed; most recent, with nothing known, is the beginning of the log (BS-4).
fn beginning(placed: &Bookmark) -> Bookmark {
    if *placed == Bookmark::MOST_RECENT { Bookmark::EPOCH } else { placed.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn bookmark(text: &str) -> Bookmark {
        Bookmark::parse(text).unwrap()
    }

    fn after(bookmarks: &[&str], placed: &str) -> String {
        let mut progress = Progress::default();
        bookmarks.iter().for_each(|text| progress.delivered(text.as_bytes()));
        progress.resume_point(&bookmark(placed)).into()
    }

    /// SM-7, decision 17.
    #[test]
    fn it_goes_on_behind_the_last_message_of_each_publisher() {
        assert_eq!(after(&["7|1|", "7|2|", "3|9|", "7|3|", "3|8|"], "0"), "3|9|,7|3|");
        assert_eq!(after(&["1|4|"], "0|1|"), "1|4|");
        assert_eq!(after(&["1|4|20260102T030405Z|"], "recent"), "1|4|");
    }

    #[test]
    fn a_range_keeps_its_end() {
        assert_eq!(after(&["1|4|"], "[1|1|:1|9|]"), "(1|4|:1|9|]");
        assert_eq!(after(&[], "[1|1|:1|9|]"), "[1|1|:1|9|]");
    }

    #[test]
    fn where_nothing_came_it_goes_on_as_it_was_placed() {
        assert_eq!(after(&[], "1|7|,2|9|"), "1|7|,2|9|");
        assert_eq!(after(&["0", "0|1|", "nonsense", ""], "recent"), "0");
    }

    /// SM-7: the first acceptance counts.
    #[test]
    fn at_now_it_goes_on_ten_seconds_before_it_was_accepted() {
        let mut progress = Progress::default();
        assert_eq!(progress.resume_point(&Bookmark::NOW), Bookmark::NOW);
        let accepted = UNIX_EPOCH + Duration::from_secs(1_704_164_645);
        progress.accepted_at_now(accepted);
        progress.accepted_at_now(accepted + Duration::from_secs(60));
        assert_eq!(progress.resume_point(&Bookmark::NOW).as_str(), "20240102T030355Z");
        progress.delivered(b"5|6|");
        assert_eq!(
            (progress.since_acceptance(), progress.resume_point(&Bookmark::NOW).as_str()),
            (None, "5|6|")
        );
        progress.restart();
        assert_eq!(progress.resume_point(&Bookmark::NOW), Bookmark::NOW);
    }
}
