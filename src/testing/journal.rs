//! The transaction log: every message on a journaled topic, in one order (T-1).

use std::collections::hash_map::Entry::Occupied;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::clock::Time;
use super::pattern::Pattern;
use super::payload::PayloadType;
use super::sow::Record;
use super::state::TopicInfo;

/// Which topics are journaled besides those that are configured so, and how much is kept.
#[derive(Debug, Clone)]
pub(crate) struct JournalRules {
    pub(crate) patterns: Vec<Pattern>,
    /// The most entries that are kept.
    pub(crate) limit: usize,
}

/// The last messages on journaled topics.
///
/// The place of an entry is its number since the journal began, from 0; it stays the same while older entries give way.
#[derive(Debug)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    /// The place of the first entry that is kept.
    first: u64,
    /// The place of each message that is kept.
    places: BTreeMap<Mark, u64>,
    /// How many entries each topic has.
    topics: HashMap<(PayloadType, String), usize>,
    /// Bytes of all payloads.
    bytes: usize,
    limit: usize,
}

/// A message at its place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) topic: Arc<TopicInfo>,
    /// The message as it was delivered, a delta merged.
    pub(crate) record: Arc<Record>,
    /// The publisher's user, if subscribers may see it; else empty.
    pub(crate) user_id: String,
}

/// The bookmark of one message: the number of its publisher, and the publisher's number for it (T-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark {
    pub(crate) publisher: u64,
    pub(crate) sequence: u64,
}

/// How many bytes of payloads are kept at most; the last entry is kept in any case.
const MAX_BYTES: usize = 128 << 20;

impl JournalRules {
    pub(crate) fn covers(&self, topic: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_in(topic.as_bytes()))
    }
}

impl Journal {
    pub(crate) fn new(limit: usize) -> Journal {
        Journal {
            entries: VecDeque::new(),
            first: 0,
            places: BTreeMap::new(),
            topics: HashMap::new(),
            bytes: 0,
            limit,
        }
    }

    /// Adds an entry at the end, and gives its place; the oldest give way.
    pub(crate) fn add(&mut self, entry: Entry) -> u64 {
        let place = self.end();
        self.bytes += entry.record.payload.len();
        self.places.insert(entry.mark, place);
        *self.topics.entry(entry.topic_key()).or_default() += 1;
        self.entries.push_back(entry);
        while self.entries.len() > self.limit || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            self.drop_oldest();
        }
        place
    }

    /// Forgets the oldest entries until no more than so many are left.
    pub(crate) fn keep(&mut self, count: usize) {
        while self.entries.len() > count {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some(oldest) = self.entries.pop_front() else { return };
        self.bytes -= oldest.record.payload.len();
        if self.places.get(&oldest.mark) == Some(&self.first) {
            self.places.remove(&oldest.mark);
        }
        if let Occupied(mut count) = self.topics.entry(oldest.topic_key()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        self.first += 1;
    }

    /// The place of the first entry that is kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The place of the entry that comes next.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(place.checked_sub(self.first)?).ok()?)
    }

    /// The bookmark of the entry before a place.
    pub(crate) fn mark_before(&self, place: u64) -> Option<Mark> {
        self.get(place.checked_sub(1)?).map(|entry| entry.mark)
    }

    /// The place of a message.
    pub(crate) fn place_of(&self, mark: Mark) -> Option<u64> {
        self.places.get(&mark).copied()
    }

    /// The first message of a publisher that has this number or a higher one, and its place.
    pub(crate) fn at_or_after(&self, mark: Mark) -> Option<(Mark, u64)> {
        let later = mark..=Mark { sequence: u64::MAX, ..mark };
        self.places.range(later).next().map(|(mark, place)| (*mark, *place))
    }

    /// The place of the first entry at this time or later, in microseconds as clients see them.
    pub(crate) fn since(&self, time: Time) -> u64 {
        self.first + self.entries.partition_point(|entry| entry.record.time.micros() < time) as u64
    }

    /// The place of the first entry later than this time.
    pub(crate) fn after(&self, time: Time) -> u64 {
        self.first + self.entries.partition_point(|entry| entry.record.time.micros() <= time) as u64
    }

    /// The entries kept, the oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The names of the topics of a message type that have an entry.
    pub(crate) fn topics(&self, payload_type: PayloadType) -> impl Iterator<Item = &str> {
        let of_type = move |(kind, _): &&(PayloadType, String)| *kind == payload_type;
        self.topics.keys().filter(of_type).map(|(_, name)| name.as_str())
    }
}

impl Entry {
    fn topic_key(&self) -> (PayloadType, String) {
        (self.topic.payload_type, self.topic.name.clone())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}|{}|", self.publisher, self.sequence)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(sequence: u64, bytes: usize) -> Entry {
        let topic =
            TopicInfo { payload_type: PayloadType::Json, name: "t".into(), sow: None, is_journaled: true };
        let record = Record { payload: vec![b'x'; bytes], ..Record::default() };
        let mark = Mark { publisher: 9, sequence };
        Entry { mark, topic: Arc::new(topic), record: Arc::new(record), user_id: String::new() }
    }

    /// T-1.
    #[test]
    fn the_oldest_entries_give_way() {
        let mut journal = Journal::new(2);
        let sequences =
            |journal: &Journal| journal.entries().map(|entry| entry.mark.sequence).collect::<Vec<_>>();
        for sequence in 1..=3 {
            journal.add(entry(sequence, 1));
        }
        assert_eq!(sequences(&journal), [2, 3]);
        assert_eq!(journal.add(entry(4, MAX_BYTES + 1)), 3);
        assert_eq!(sequences(&journal), [4]);
        journal.add(entry(5, 1));
        assert_eq!((sequences(&journal), journal.bytes), (vec![5], 1));
        assert_eq!((journal.first(), journal.end(), journal.places.len()), (4, 5, 1));
        journal.keep(0);
        assert!(journal.topics.is_empty() && journal.places.is_empty() && journal.bytes == 0);
        assert_eq!((journal.first(), journal.end()), (5, 5));
    }

    #[test]
    fn a_place_stays_the_same_while_older_entries_give_way() {
        let mut journal = Journal::new(3);
        for sequence in 1..=5 {
            journal.add(entry(2 * sequence, 1));
        }
        let mark = |sequence| Mark { publisher: 9, sequence };
        assert_eq!((journal.place_of(mark(4)), journal.place_of(mark(8))), (None, Some(3)));
        assert_eq!(journal.at_or_after(mark(7)), Some((mark(8), 3)));
        assert_eq!(journal.at_or_after(mark(11)), None);
        assert_eq!(journal.get(3).map(|entry| entry.mark), Some(mark(8)));
        assert!(journal.get(1).is_none() && journal.get(5).is_none());
        assert_eq!((journal.mark_before(4), journal.mark_before(0)), (Some(mark(8)), None));
        assert_eq!(mark(8).to_string(), "9|8|");
        assert_eq!(journal.topics(PayloadType::Json).collect::<Vec<_>>(), ["t"]);
    }
}
