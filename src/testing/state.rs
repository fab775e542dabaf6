//! What a server remembers: its topics and their records. Several instances can share one state.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::clock::Time;
use super::journal::{Entry, Journal, JournalRules, Mark};
use super::payload::{Document, Identifier, PayloadType, merge};
use super::queue::{Queue, QueueRules};
use super::record_key::record_key;
use super::refusal::Refusal;
use super::sequences::{Sequences, publisher_number};
use super::sow::{Record, Sow};
use super::topic::{Rule, SowRules, Store};

/// Topics and records, with nothing of connections, sessions or subscriptions.
#[derive(Debug)]
pub(crate) struct State {
    rules: Arc<[Rule]>,
    /// The SOW topics used so far.
    sows: Vec<SowTopic>,
    queues: Vec<Queue>,
    /// The SOW topics and queues by their names.
    places: HashMap<(PayloadType, String), Place>,
    /// The records that will expire: when, in which topic, with which key.
    expiries: BTreeSet<(Time, usize, String)>,
    pub(crate) sequences: Sequences,
    pub(crate) journal: Journal,
    journaled: JournalRules,
    has_journal: bool,
    /// The number of this state among those of linked instances.
    home: usize,
}

/// A SOW topic and its records.
#[derive(Debug)]
pub(crate) struct SowTopic {
    pub(crate) topic: Arc<TopicInfo>,
    pub(crate) records: Sow,
    /// Its turn in a query over several topics: configured ones first, then those that came by themselves (P-5).
    order: usize,
}

/// The settled facts about a topic.
#[derive(Debug)]
pub(crate) struct TopicInfo {
    pub(crate) payload_type: PayloadType,
    pub(crate) name: String,
    /// `None` for a topic that keeps no records.
    pub(crate) sow: Option<SowRules>,
    pub(crate) is_journaled: bool,
}

impl TopicInfo {
    /// The fields that make up the key of a record.
    pub(crate) fn keys(&self) -> &[Identifier] {
        self.sow.as_ref().map_or(&[], |rules| &rules.keys)
    }

    /// True if updates can be told from first sights and sent as differences (B-9).
    pub(crate) fn has_deltas(&self) -> bool {
        self.sow.is_some() && self.payload_type.has_deltas()
    }
}

/// Something that happened to a record, or a message on a topic that keeps none.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) topic: Arc<TopicInfo>,
    pub(crate) cause: Cause,
    /// The record before.
    pub(crate) old: Option<Arc<Record>>,
    /// The record after; `None` if it is gone.
    pub(crate) new: Option<Arc<Record>>,
    /// The publisher's user, if subscribers may see it; else empty.
    pub(crate) user_id: String,
    /// When it happened.
    pub(crate) time: Time,
    /// Its place in the journal, if it has one.
    pub(crate) place: Option<u64>,
    /// The queue it went to, and its number there.
    pub(crate) queued: Option<(usize, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Publish,
    Delete,
    Expiry,
}

/// What a publisher sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Publication<'a> {
    pub(crate) payload_type: PayloadType,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) is_delta: bool,
    pub(crate) sow_key: &'a str,
    pub(crate) correlation_id: &'a str,
    /// The lifetime in seconds that the publisher asks for.
    pub(crate) lifetime: Option<u64>,
    pub(crate) user_id: &'a str,
    pub(crate) client_name: &'a str,
    /// The instance that took it in.
    pub(crate) instance: usize,
    /// The publisher's number for it, if it has one.
    pub(crate) sequence: Option<u64>,
    /// For a message that was published on a linked instance: its bookmark, and which.
    pub(crate) copied: Option<(Mark, usize)>,
}

impl<'a> Publication<'a> {
    /// A plain publication of a nameless publisher on the first instance.
    pub(crate) fn new(payload_type: PayloadType, topic: &'a str, payload: &'a [u8]) -> Publication<'a> {
        Publication {
            payload_type,
            topic,
            payload,
            is_delta: false,
            sow_key: "",
            correlation_id: "",
            lifetime: None,
            user_id: "",
            client_name: "",
            instance: 0,
            sequence: None,
            copied: None,
        }
    }
}

/// A publication that is ready to be applied: what it will make of its record, before it has done so.
#[derive(Debug)]
pub(crate) struct Prepared {
    place: Place,
    topic: Arc<TopicInfo>,
    old: Option<Arc<Record>>,
    new: Record,
    user_id: String,
    origin: Origin,
}

/// Whose message it is, and which.
#[derive(Debug)]
struct Origin {
    client_name: String,
    instance: usize,
    sequence: Option<u64>,
    copied: Option<(Mark, usize)>,
}

impl Prepared {
    /// The message as it will be stored and delivered, a delta merged.
    pub(crate) fn document(&self) -> Document<'_> {
        self.new.document(self.topic.payload_type)
    }
}

/// Where the messages of a topic go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Plain,
    /// The index of a [`SowTopic`].
    Sow(usize),
    /// The index of a [`Queue`].
    Queue(usize),
}

impl State {
    pub(crate) fn new(rules: Arc<[Rule]>, journaled: JournalRules) -> State {
        let has_journal = !journaled.patterns.is_empty() || rules.iter().any(|rule| rule.is_journaled);
        State {
            rules,
            has_journal,
            sows: Vec::new(),
            queues: Vec::new(),
            places: HashMap::new(),
            expiries: BTreeSet::new(),
            sequences: Sequences::default(),
            journal: Journal::new(journaled.limit),
            journaled,
            home: 0,
        }
    }

    /// The same as one of several states of linked instances.
    pub(crate) fn at_home(self, home: usize) -> State {
        State { home, ..self }
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.iter()
    }

    /// True if there is a journal at all: some topic may be journaled.
    pub(crate) fn has_journal(&self) -> bool {
        self.has_journal
    }

    /// True if the messages of a topic are journaled.
    pub(crate) fn journals(&self, payload_type: PayloadType, topic: &str) -> bool {
        let rule = self.rules.iter().find(|rule| rule.covers(payload_type, topic));
        rule.is_some_and(|rule| rule.is_journaled) || self.journaled.covers(topic)
    }

    /// Finds a topic by its name; a SOW topic comes into being by that.
    pub(crate) fn place(&mut self, payload_type: PayloadType, name: &str) -> Place {
        match self.rules.iter().position(|rule| rule.covers(payload_type, name)) {
            None => Place::Plain,
            Some(index) => self.place_by_rule(index, payload_type, name),
        }
    }

    fn place_by_rule(&mut self, index: usize, payload_type: PayloadType, name: &str) -> Place {
        let store = match self.rules.get(index).map(|rule| &rule.store) {
            None | Some(Store::Plain) => return Place::Plain,
            Some(store) => store,
        };
        let key = (payload_type, name.to_owned());
        if let Some(known) = self.places.get(&key) {
            return *known;
        }
        let place = match store.clone() {
            Store::Plain => Place::Plain,
            Store::Sow(rules) => self.create(index, payload_type, name, rules),
            Store::Queue(rules) => self.create_queue(payload_type, name, rules),
        };
        self.places.insert(key, place);
        place
    }

    fn create_queue(&mut self, payload_type: PayloadType, name: &str, rules: QueueRules) -> Place {
        let topic = TopicInfo { payload_type, name: name.to_owned(), sow: None, is_journaled: true };
        self.queues.push(Queue::new(Arc::new(topic), rules));
        Place::Queue(self.queues.len() - 1)
    }

    fn create(&mut self, rule: usize, payload_type: PayloadType, name: &str, mut rules: SowRules) -> Place {
        if payload_type == PayloadType::Binary {
            // Nothing in a binary payload can be a key (P-10).
            rules.keys.clear();
        }
        let is_journaled = self.journals(payload_type, name);
        let topic = TopicInfo { payload_type, name: name.to_owned(), sow: Some(rules), is_journaled };
        let topic = Arc::new(topic);
        let index = self.sows.len();
        self.sows.push(SowTopic { topic, records: Sow::default(), order: rule });
        Place::Sow(index)
    }

    pub(crate) fn queue(&self, queue: usize) -> Option<&Queue> {
        self.queues.get(queue)
    }

    pub(crate) fn queue_mut(&mut self, queue: usize) -> Option<&mut Queue> {
        self.queues.get_mut(queue)
    }

    /// The first queue of a name.
    pub(crate) fn queue_named(&self, name: &str) -> Option<usize> {
        self.queues.iter().position(|queue| queue.topic.name == name)
    }

    pub(crate) fn sow(&self, place: Place) -> Option<&SowTopic> {
        match place {
            Place::Sow(index) => self.sows.get(index),
            Place::Plain | Place::Queue(_) => None,
        }
    }

    /// The SOW topics of a name, one for each message type that used it.
    pub(crate) fn sows_named(&self, name: &str) -> impl Iterator<Item = &SowTopic> {
        self.sows.iter().filter(move |sow| sow.topic.name == name)
    }

    /// The SOW topics of a message type that fit, in the order of P-5.
    pub(crate) fn sows(&self, payload_type: PayloadType, fits: impl Fn(&str) -> bool) -> Vec<Place> {
        let known = self.sows.iter().enumerate();
        let fitting =
            known.filter(|(_, sow)| sow.topic.payload_type == payload_type && fits(&sow.topic.name));
        // Topics of one rule are already in the order in which they came.
        let mut found: Vec<_> = fitting.map(|(index, sow)| (sow.order, index)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, index)| Place::Sow(index)).collect()
    }

    /// Works out what a publication will do, and refuses it if it cannot be done (U-1).
    pub(crate) fn prepare(&mut self, publication: &Publication<'_>, now: Time) -> Result<Prepared, Refusal> {
        let place = self.place(publication.payload_type, publication.topic);
        let mut new = Record {
            payload: publication.payload.to_vec(),
            correlation_id: publication.correlation_id.to_owned(),
            time: now,
            ..Record::default()
        };
        let user_id = publication.user_id.to_owned();
        let origin = Origin {
            client_name: publication.client_name.to_owned(),
            instance: publication.instance,
            sequence: publication.sequence,
            copied: publication.copied,
        };
        if let Place::Queue(index) = place {
            let queue = self.queues.get(index).ok_or(Refusal::InvalidTopic)?;
            new.expires = queue.rules.expiration.end(publication.lifetime, now);
            let topic = queue.topic.clone();
            return Ok(Prepared { place, topic, old: None, new, user_id, origin });
        }
        let Some(sow) = self.sow(place) else {
            let topic = self.plain(publication.payload_type, publication.topic);
            return Ok(Prepared { place, topic: Arc::new(topic), old: None, new, user_id, origin });
        };
        new.key = sow.key_of(publication.payload, publication.sow_key)?;
        let old = sow.records.get(&new.key).cloned();
        if let (true, Some(old)) = (publication.is_delta, &old) {
            sow.merge_into(&mut new, old);
        }
        new.expires = sow.expiry(publication.lifetime, now);
        Ok(Prepared { place, topic: sow.topic.clone(), old, new, user_id, origin })
    }

    fn plain(&self, payload_type: PayloadType, topic: &str) -> TopicInfo {
        let is_journaled = self.journals(payload_type, topic);
        TopicInfo { payload_type, name: topic.to_owned(), sow: None, is_journaled }
    }

    /// Carries out a publication just prepared.
    pub(crate) fn apply(&mut self, prepared: Prepared) -> Change {
        let Prepared { place, topic, old, mut new, user_id, origin } = prepared;
        new.mark = self.number(&origin, &topic);
        let new = Arc::new(new);
        let logged = new.mark.map(|mark| {
            let (topic, record, user_id) = (topic.clone(), new.clone(), user_id.clone());
            self.journal.add(Entry { mark, topic, record, user_id })
        });
        if let Place::Sow(index) = place {
            if let Some(sow) = self.sows.get_mut(index) {
                sow.records.put(new.clone());
            }
            self.forget_expiry(index, old.as_deref());
            if let Some(time) = new.expires {
                self.expiries.insert((time, index, new.key.clone()));
            }
        }
        let home = origin.copied.map_or(self.home, |(_, home)| home);
        let queued = self.enqueue(place, &new, &user_id, home);
        let time = new.time;
        Change { topic, cause: Cause::Publish, old, new: Some(new), user_id, time, place: logged, queued }
    }

    fn enqueue(
        &mut self,
        place: Place,
        record: &Arc<Record>,
        user_id: &str,
        home: usize,
    ) -> Option<(usize, u64)> {
        let (Place::Queue(index), own) = (place, self.home) else { return None };
        let queue = self.queues.get_mut(index)?;
        let number = queue.add(record.mark?, record.clone(), user_id.to_owned());
        queue.move_to(record.mark?, home, own);
        Some((index, number))
    }

    /// Takes note of the number of a message; its bookmark, if it is to be journaled.
    fn number(&mut self, origin: &Origin, topic: &TopicInfo) -> Option<Mark> {
        if let Some(sequence) = origin.sequence {
            self.sequences.raise(&origin.client_name, sequence);
        }
        if let Some((mark, _)) = origin.copied {
            return topic.is_journaled.then_some(mark);
        }
        let (publisher, sequence) = match origin.sequence {
            _ if !topic.is_journaled => return None,
            Some(sequence) => (publisher_number(&origin.client_name), sequence),
            None => self.sequences.give(&origin.client_name, origin.instance + self.home),
        };
        Some(Mark { publisher, sequence })
    }

    /// Removes one record, if it is there.
    pub(crate) fn remove(&mut self, place: Place, key: &str, cause: Cause, time: Time) -> Option<Change> {
        let Place::Sow(index) = place else { return None };
        let sow = self.sows.get_mut(index)?;
        let old = sow.records.remove(key)?;
        let topic = sow.topic.clone();
        self.forget_expiry(index, Some(&old));
        let user_id = String::new();
        Some(Change { topic, cause, old: Some(old), new: None, user_id, time, place: None, queued: None })
    }

    /// When the next record expires.
    pub(crate) fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(time, _, _)| *time)
    }

    /// Removes the record that expired longest ago, if one has.
    pub(crate) fn expire_one(&mut self, now: Time) -> Option<Change> {
        let (time, index, key) = self.expiries.first().cloned()?;
        if time > now {
            return None;
        }
        self.remove(Place::Sow(index), &key, Cause::Expiry, time)
    }

    fn forget_expiry(&mut self, index: usize, record: Option<&Record>) {
        if let Some(Record { expires: Some(time), key, .. }) = record {
            self.expiries.remove(&(*time, index, key.clone()));
        }
    }
}

impl SowTopic {
    /// The key of the record that a publish of this payload would hit (S-1, S-2).
    pub(crate) fn key_of(&self, payload: &[u8], sow_key: &str) -> Result<String, Refusal> {
        let keys = self.topic.keys();
        if keys.is_empty() {
            return if is_base64(sow_key) { Ok(sow_key.to_owned()) } else { Err(Refusal::BadSowKey) };
        }
        let document = Document::new(self.topic.payload_type, payload);
        let rules = self.topic.sow.as_ref();
        let domain = rules.and_then(|rules| rules.key_domain.as_deref()).unwrap_or(&self.topic.name);
        record_key(domain, &document, keys).ok_or(Refusal::BadSowKey)
    }

    /// A delta onto an existing record (U-3, U-4).
    fn merge_into(&self, new: &mut Record, old: &Record) {
        if let Some(merged) = merge(self.topic.payload_type, &old.payload, &new.payload) {
            new.payload = merged;
            if new.correlation_id.is_empty() {
                new.correlation_id.clone_from(&old.correlation_id);
            }
        }
    }

    /// When a record published now will expire (S-9).
    fn expiry(&self, lifetime: Option<u64>, now: Time) -> Option<Time> {
        self.topic.sow.as_ref()?.expiration.end(lifetime, now)
    }
}

pub(crate) fn is_base64(key: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    !key.is_empty() && key.bytes().all(allowed)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::topic::{Expiration, Topic};

    pub(crate) fn state(topics: &[Topic]) -> State {
        let rules = topics.iter().map(|topic| topic.rule(1).unwrap()).collect();
        State::new(rules, JournalRules { patterns: Vec::new(), limit: 10 })
    }

    pub(crate) fn publication<'a>(topic: &'a str, payload: &'a str) -> Publication<'a> {
        Publication::new(PayloadType::Json, topic, payload.as_bytes())
    }

    pub(crate) fn publish(state: &mut State, publication: &Publication<'_>, now: Time) -> Change {
        let prepared = state.prepare(publication, now).unwrap();
        state.apply(prepared)
    }

    fn at(seconds: u64) -> Time {
        Time::default().plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_change_shows_the_record_before_and_after() {
        let mut state = state(&[Topic::sow("orders").key("/id")]);
        let first = publish(&mut state, &publication("orders", r#"{"id":1,"a":1}"#), at(1));
        assert!(first.old.is_none());
        let delta = Publication { is_delta: true, ..publication("orders", r#"{"id":1,"b":2}"#) };
        let second = publish(&mut state, &delta, at(2));
        assert_eq!(second.old.unwrap().payload, br#"{"id":1,"a":1}"#);
        let new = second.new.unwrap();
        assert_eq!((new.payload.as_slice(), new.time), (&br#"{"id":1,"a":1,"b":2}"#[..], at(2)));
        let place = state.place(PayloadType::Json, "orders");
        let gone = state.remove(place, &new.key, Cause::Delete, at(3)).unwrap();
        assert_eq!((gone.cause, gone.new.is_none(), gone.time), (Cause::Delete, true, at(3)));
        assert!(state.remove(place, &new.key, Cause::Delete, at(3)).is_none());
    }

    #[test]
    fn what_is_only_prepared_changes_nothing() {
        let mut state = state(&[Topic::sow("orders").key("/id")]);
        assert!(state.prepare(&publication("orders", r#"{"id":1}"#), at(1)).is_ok());
        let place = state.place(PayloadType::Json, "orders");
        assert_eq!(state.sow(place).unwrap().records.records().count(), 0);
        let bad = state.prepare(&publication("orders", "no JSON"), at(1));
        assert_eq!(bad.map(drop), Err(Refusal::BadSowKey));
    }

    /// S-9.
    #[test]
    fn records_expire_in_the_order_of_their_times() {
        let topic = Topic::sow("orders").key("/id").expiration(Expiration::PerMessage);
        let mut state = state(&[topic]);
        for (payload, lifetime) in [(r#"{"id":1}"#, 9), (r#"{"id":2}"#, 3), (r#"{"id":3}"#, 5)] {
            let publication = Publication { lifetime: Some(lifetime), ..publication("orders", payload) };
            publish(&mut state, &publication, at(0));
        }
        publish(&mut state, &publication("orders", r#"{"id":3}"#), at(1));
        assert_eq!(state.next_expiry(), Some(at(3)));
        assert!(state.expire_one(at(2)).is_none());
        let first = state.expire_one(at(100)).unwrap();
        assert_eq!((first.old.unwrap().payload.as_slice(), first.time), (&br#"{"id":2}"#[..], at(3)));
        assert_eq!(state.expire_one(at(100)).unwrap().time, at(9));
        assert!(state.expire_one(at(100)).is_none() && state.next_expiry().is_none());
    }

    #[test]
    fn topics_that_keep_nothing_are_not_remembered() {
        let mut state = state(&[Topic::plain("p")]);
        for topic in ["p", "other"] {
            assert_eq!(state.place(PayloadType::Json, topic), Place::Plain);
            publish(&mut state, &publication(topic, "x"), at(0));
        }
        assert!(state.sows.is_empty() && state.places.is_empty());
    }
}
