//! Queries: which records they find, and how the result leaves in batches.

use std::collections::HashSet;
use std::iter::Peekable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::vec;

use super::entitlement::Verdict;
use super::filter::Filter;
use super::frames::{Batch, Outgoing};
use super::order::OrderBy;
use super::payload::Document;
use super::sow::Record;
use super::state::{Place, State, TopicInfo};
use crate::wire::Field;

/// What a `sow` command, or the query part of another, asks for (8.2).
#[derive(Debug, Default)]
pub(crate) struct Query {
    pub(crate) filter: Option<Arc<Filter>>,
    /// Only these keys.
    pub(crate) sow_keys: Option<HashSet<String>>,
    pub(crate) order: Option<OrderBy>,
    pub(crate) skip_n: u64,
    pub(crate) top_n: Option<u64>,
}

/// What a query found.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) found: Vec<Found>,
    /// Records that match, before `top_n`.
    pub(crate) matches: u64,
    /// Records compared.
    pub(crate) topic_matches: u64,
}

/// A record, and the topic it was found in.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) topic: Arc<TopicInfo>,
    pub(crate) record: Arc<Record>,
}

impl Found {
    pub(crate) fn document(&self) -> Document<'_> {
        self.record.document(self.topic.payload_type)
    }
}

impl Query {
    /// Looks at the records of these topics, each with what the user may see of it, and leaves out those to skip.
    pub(crate) fn select(
        &self,
        state: &State,
        topics: &[(Place, Verdict)],
        skips: impl Fn(&Found) -> bool,
    ) -> Selection {
        let mut selection = Selection::default();
        for (place, verdict) in topics {
            if let (Some(sow), false) = (state.sow(*place), verdict.is_deny()) {
                for record in sow.records.records().filter(|r| self.wants_key(&r.key)) {
                    selection.topic_matches += 1;
                    let found = Found { topic: sow.topic.clone(), record: record.clone() };
                    let document = found.document();
                    if verdict.shows(&document) && self.filter.as_ref().is_none_or(|f| f.matches(&document)) {
                        selection.found.push(found);
                    }
                }
            }
        }
        selection.found.retain(|found| !skips(found));
        selection.matches = selection.found.len() as u64;
        self.arrange(&mut selection.found);
        selection
    }

    fn wants_key(&self, key: &str) -> bool {
        self.sow_keys.as_ref().is_none_or(|wanted| wanted.contains(key))
    }

    /// Orders and cuts what was found (S-8).
    fn arrange(&self, found: &mut Vec<Found>) {
        if let Some(order) = &self.order {
            *found = sorted(found, order);
        }
        let skipped = usize::try_from(self.skip_n).unwrap_or(usize::MAX).min(found.len());
        found.drain(..skipped);
        if let Some(top_n) = self.top_n {
            found.truncate(usize::try_from(top_n).unwrap_or(usize::MAX));
        }
    }
}

fn sorted(found: &[Found], order: &OrderBy) -> Vec<Found> {
    let mut documents: Vec<_> = found.iter().map(|f| (f.document(), f)).collect();
    documents.sort_by(|(left, _), (right, _)| order.compare(left, right));
    documents.into_iter().map(|(_, found)| found.clone()).collect()
}

/// What of a record a client wants to be told beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shown {
    pub(crate) sow_key: bool,
    pub(crate) timestamp: bool,
    pub(crate) bookmark: bool,
}

/// The records of a result, made into `sow` frames one at a time.
#[derive(Debug)]
pub(crate) struct Results {
    query_id: String,
    batch_size: u64,
    shown: Shown,
    rest: Peekable<vec::IntoIter<Found>>,
    /// Set to give up the records not yet sent.
    stop: Arc<AtomicBool>,
}

/// No batch grows past this by another record, whatever the batch size.
const MAX_BATCH: usize = 64 << 20;

impl Results {
    pub(crate) fn new(query_id: &str, batch_size: u64, shown: Shown, found: Vec<Found>) -> Results {
        let rest = found.into_iter().peekable();
        Results { query_id: query_id.to_owned(), batch_size, shown, rest, stop: Arc::default() }
    }

    pub(crate) fn query_id(&self) -> &str {
        &self.query_id
    }

    /// What stops the production of further records.
    pub(crate) fn stop(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// The next batch: records of one topic, and either all of them or none with a correlation id (W-6).
    pub(crate) fn next_frame(&mut self) -> Option<Outgoing> {
        if self.stop.load(Ordering::SeqCst) {
            return None;
        }
        let first = self.rest.next()?;
        let mut batch = Batch::default();
        self.add(&mut batch, &first.record);
        while batch.len() < self.batch_size && batch.size() < MAX_BATCH {
            let Some(next) = self.rest.next_if(|next| goes_with(next, &first)) else { break };
            self.add(&mut batch, &next.record);
        }
        Some(batch.frame(&self.query_id, &first.topic.name))
    }

    fn add(&self, batch: &mut Batch, record: &Record) {
        let key = if self.shown.sow_key { record.key.as_str() } else { "" };
        let time = if self.shown.timestamp { record.time.text() } else { String::new() };
        let mark = record.mark.filter(|_| self.shown.bookmark).map(|mark| mark.to_string());
        let texts = [
            (Field::SowKey, key),
            (Field::Timestamp, &time),
            (Field::Bookmark, mark.as_deref().unwrap_or_default()),
            (Field::CorrelationId, &record.correlation_id),
        ];
        batch.push(&texts, &record.payload);
    }
}

fn goes_with(next: &Found, first: &Found) -> bool {
    Arc::ptr_eq(&next.topic, &first.topic)
        && next.record.correlation_id.is_empty() == first.record.correlation_id.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::clock::Time;
    use crate::testing::payload::PayloadType;

    fn found(topic: &Arc<TopicInfo>, key: &str, correlation_id: &str) -> Found {
        let record = Record {
            key: key.into(),
            payload: key.into(),
            correlation_id: correlation_id.into(),
            time: Time::default(),
            expires: None,
            mark: None,
        };
        Found { topic: topic.clone(), record: Arc::new(record) }
    }

    fn topic(name: &str) -> Arc<TopicInfo> {
        let payload_type = PayloadType::of("json").unwrap();
        Arc::new(TopicInfo { payload_type, name: name.into(), sow: None, is_journaled: false })
    }

    fn frames(batch_size: u64, found: Vec<Found>) -> Vec<String> {
        let shown = Shown { sow_key: true, ..Shown::default() };
        let mut results = Results::new("q", batch_size, shown, found);
        std::iter::from_fn(|| results.next_frame())
            .map(|f| String::from_utf8(f.bytes[4..].to_vec()).unwrap())
            .collect()
    }

    /// S-7 and vector 17.6.
    #[test]
    fn frames_are_filled_in_order_and_the_last_may_be_short() {
        let t = topic("t");
        let seven = (0..7).map(|i| found(&t, &i.to_string(), "")).collect();
        let sizes: Vec<_> = frames(3, seven).iter().map(|f| f.matches("\"l\":1").count()).collect();
        assert_eq!(sizes, [3, 3, 1]);
        assert!(frames(3, Vec::new()).is_empty());
    }

    /// W-6.
    #[test]
    fn a_frame_holds_one_topic_and_never_mixes_records_with_and_without_a_correlation_id() {
        let (a, b) = (topic("a"), topic("b"));
        let mixed = vec![
            found(&a, "1", ""),
            found(&a, "2", ""),
            found(&a, "3", "x"),
            found(&b, "4", "x"),
            found(&b, "5", "y"),
        ];
        let frames = frames(10, mixed);
        assert_eq!(frames.len(), 3, "{frames:?}");
        assert!(frames[0].starts_with(r#"{"c":"sow","t":"a","query_id":"q","bs":2}{"l":1,"k":"1"}1{"l""#));
        assert!(
            frames[2].starts_with(r#"{"c":"sow","t":"b","query_id":"q","bs":2}{"l":1,"k":"4","x":"x"}4"#)
        );
    }

    #[test]
    fn a_cancelled_result_yields_nothing_more() {
        let t = topic("t");
        let shown = Shown { timestamp: true, ..Shown::default() };
        let mut results = Results::new("q", 1, shown, vec![found(&t, "1", ""), found(&t, "2", "")]);
        let first = String::from_utf8(results.next_frame().unwrap().bytes[4..].to_vec()).unwrap();
        assert!(first.ends_with(r#"{"l":1,"ts":"19700101T000000.000000Z"}1"#), "{first}");
        results.stop().store(true, Ordering::SeqCst);
        assert!(results.next_frame().is_none());
    }
}
