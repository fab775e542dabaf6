//! The records of one SOW topic.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::clock::Time;
use super::journal::Mark;
use super::payload::{Document, PayloadType};

/// The last message for each key, in the order in which the keys first came.
#[derive(Debug, Default)]
pub(crate) struct Sow {
    by_age: BTreeMap<u64, Arc<Record>>,
    ages: HashMap<String, u64>,
    next_age: u64,
}

/// One message as it is kept and delivered. On a topic that keeps none it has no key and is gone after delivery.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) correlation_id: String,
    /// When the publish was processed.
    pub(crate) time: Time,
    pub(crate) expires: Option<Time>,
    /// Its bookmark, if it is journaled.
    pub(crate) mark: Option<Mark>,
}

impl Record {
    pub(crate) fn document(&self, payload_type: PayloadType) -> Document<'_> {
        Document::new(payload_type, &self.payload)
    }
}

impl Sow {
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Record>> {
        self.by_age.get(self.ages.get(key)?)
    }

    /// Inserts or replaces a record and gives back the one before. A replaced record keeps its place.
    pub(crate) fn put(&mut self, record: Arc<Record>) -> Option<Arc<Record>> {
        let age = *self.ages.entry(record.key.clone()).or_insert(self.next_age);
        self.next_age += 1;
        self.by_age.insert(age, record)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Record>> {
        self.by_age.remove(&self.ages.remove(key)?)
    }

    /// All records, the oldest key first.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.by_age.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, payload: &str) -> Arc<Record> {
        Arc::new(Record { key: key.into(), payload: payload.into(), ..Record::default() })
    }

    /// S-3, and the stable order of S-8.
    #[test]
    fn a_publish_replaces_the_whole_record_and_keeps_its_place() {
        let mut sow = Sow::default();
        assert!(sow.put(record("a", "1")).is_none());
        assert!(sow.put(record("b", "2")).is_none());
        assert_eq!(sow.put(record("a", "3")).unwrap().payload, b"1");
        let payloads: Vec<_> = sow.records().map(|r| r.payload.clone()).collect();
        assert_eq!(payloads, [b"3", b"2"]);
        assert_eq!(sow.remove("a").unwrap().payload, b"3");
        assert!(sow.get("a").is_none() && sow.remove("a").is_none());
        sow.put(record("a", "4"));
        assert_eq!(sow.records().last().unwrap().payload, b"4");
    }
}
