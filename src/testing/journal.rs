//! The transaction log: every message on a journaled topic, in one order (T-1).

use std::collections::VecDeque;
use std::sync::Arc;

use super::pattern::Pattern;
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
#[derive(Debug)]
pub(crate) struct Journal {
    entries: VecDeque<Entry>,
    /// Bytes of all payloads.
    bytes: usize,
    limit: usize,
}

/// A message at its place in the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The number of its publisher, and the publisher's number for it: together its bookmark.
    pub(crate) publisher: u64,
    pub(crate) sequence: u64,
    pub(crate) topic: Arc<TopicInfo>,
    /// The message as it was delivered, a delta merged.
    pub(crate) record: Arc<Record>,
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
        Journal { entries: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds an entry at the end; the oldest give way.
    pub(crate) fn add(&mut self, entry: Entry) {
        self.bytes += entry.record.payload.len();
        self.entries.push_back(entry);
        while self.entries.len() > self.limit || (self.bytes > MAX_BYTES && self.entries.len() > 1) {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.record.payload.len();
        }
    }

    /// The entries kept, the oldest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

impl Entry {
    pub(crate) fn bookmark(&self) -> String {
        format!("{}|{}|", self.publisher, self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::payload::PayloadType;

    fn entry(sequence: u64, bytes: usize) -> Entry {
        let topic =
            TopicInfo { payload_type: PayloadType::Json, name: "t".into(), sow: None, is_journaled: true };
        let record = Record { payload: vec![b'x'; bytes], ..Record::default() };
        Entry { publisher: 9, sequence, topic: Arc::new(topic), record: Arc::new(record) }
    }

    /// T-1.
    #[test]
    fn the_oldest_entries_give_way() {
        let mut journal = Journal::new(2);
        (1..=3).for_each(|sequence| journal.add(entry(sequence, 1)));
        let bookmarks: Vec<_> = journal.entries().map(Entry::bookmark).collect();
        assert_eq!(bookmarks, ["9|2|", "9|3|"]);
        journal.add(entry(4, MAX_BYTES + 1));
        assert_eq!(journal.entries().map(|entry| entry.sequence).collect::<Vec<_>>(), [4]);
        journal.add(entry(5, 1));
        assert_eq!(
            (journal.entries().map(|entry| entry.sequence).collect::<Vec<_>>(), journal.bytes),
            (vec![5], 1)
        );
    }
}
