//! The subscriptions of one instance, found by connection and id or by the topic of a message.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::conflation::Conflation;
use super::entitlement::{Action, Question};
use super::filter::Filter;
use super::payload::{Document, PayloadType};
use super::session::{Identity, SessionId};
use super::topic_pattern::TopicPattern;

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) session: SessionId,
    pub(crate) id: String,
    /// Whose it is; kept here so that a delivery need not look for the session.
    pub(crate) identity: Arc<Identity>,
    pub(crate) topic: TopicPattern,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) wants: Wants,
    pub(crate) conflation: Option<Conflation>,
    pub(crate) text: SubscriptionText,
}

/// What the command said, for those who look inside.
#[derive(Debug, Clone, Default)]
pub(crate) struct SubscriptionText {
    pub(crate) topic: String,
    pub(crate) filter: String,
    pub(crate) options: String,
}

/// How messages are to be delivered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wants {
    /// Changes only.
    pub(crate) delta: bool,
    pub(crate) oof: bool,
    pub(crate) timestamp: bool,
    pub(crate) sow_key: bool,
    /// Key fields in a delta.
    pub(crate) send_keys: bool,
    /// No delta that shows no change.
    pub(crate) no_empties: bool,
}

impl Subscription {
    pub(crate) fn filter_matches(&self, document: &Document<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(document))
    }

    /// What must be known before a message of this topic can be delivered here.
    pub(crate) fn question(&self, topic: &str) -> Question {
        self.identity.question(Action::Read, topic)
    }
}

/// All subscriptions of an instance, numbered in the order in which they were placed.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    all: BTreeMap<u64, Subscription>,
    names: BTreeMap<SessionId, BTreeMap<String, u64>>,
    literals: HashMap<(PayloadType, String), BTreeSet<u64>>,
    patterns: BTreeSet<u64>,
    last: u64,
}

impl Subscriptions {
    pub(crate) fn find(&self, session: SessionId, id: &str) -> Option<&Subscription> {
        self.all.get(self.names.get(&session)?.get(id)?)
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Subscription> {
        self.all.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Subscription> {
        self.all.get_mut(&number)
    }

    /// The number that [`insert`](Subscriptions::insert) will give out next.
    pub(crate) fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// Places a subscription; there is none of the same name on the same connection.
    pub(crate) fn insert(&mut self, subscription: Subscription) {
        self.last += 1;
        let names = self.names.entry(subscription.session).or_default();
        names.insert(subscription.id.clone(), self.last);
        match subscription.literal() {
            Some(place) => {
                self.literals.entry(place).or_default().insert(self.last);
            }
            None => {
                self.patterns.insert(self.last);
            }
        }
        self.all.insert(self.last, subscription);
    }

    pub(crate) fn remove(&mut self, session: SessionId, id: &str) -> Option<Subscription> {
        let number = self.names.get_mut(&session)?.remove(id)?;
        self.take(number)
    }

    /// Removes every subscription of a connection, in the order in which they were placed.
    pub(crate) fn remove_session(&mut self, session: SessionId) -> Vec<Subscription> {
        let mut numbers: Vec<_> = self.names.remove(&session).unwrap_or_default().into_values().collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.take(number)).collect()
    }

    /// The subscriptions that cover a topic, in the order in which they were placed.
    pub(crate) fn covering(&self, payload_type: PayloadType, topic: &str) -> Vec<u64> {
        let by_name = self.literals.get(&(payload_type, topic.to_owned())).into_iter().flatten().copied();
        let fits = |number: &u64| {
            self.all
                .get(number)
                .is_some_and(|sub| sub.identity.payload_type == payload_type && sub.topic.matches(topic))
        };
        let mut found: Vec<_> = by_name.chain(self.patterns.iter().copied().filter(fits)).collect();
        found.sort_unstable();
        found
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.all.values()
    }

    fn take(&mut self, number: u64) -> Option<Subscription> {
        let subscription = self.all.remove(&number)?;
        self.patterns.remove(&number);
        if let Some(Entry::Occupied(mut place)) = subscription.literal().map(|p| self.literals.entry(p)) {
            place.get_mut().remove(&number);
            if place.get().is_empty() {
                place.remove();
            }
        }
        Some(subscription)
    }
}

impl Subscription {
    /// The one topic this covers, unless it is a pattern.
    fn literal(&self) -> Option<(PayloadType, String)> {
        let place = || (self.identity.payload_type, self.text.topic.clone());
        self.topic.is_literal().then(place)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::clock::Time;

    pub(crate) fn subscription(connection: u64, id: &str, topic: &str) -> Subscription {
        let identity = Identity {
            client_name: "c".into(),
            user_id: String::new(),
            message_type: "json".into(),
            payload_type: PayloadType::Json,
            shows_user: false,
            since: Time::default(),
        };
        Subscription {
            session: SessionId { instance: 0, number: connection },
            id: id.into(),
            identity: Arc::new(identity),
            topic: TopicPattern::new(topic, false).unwrap(),
            filter: None,
            wants: Wants { sow_key: true, send_keys: true, ..Wants::default() },
            conflation: None,
            text: SubscriptionText { topic: topic.into(), ..SubscriptionText::default() },
        }
    }

    fn ids(subscriptions: &Subscriptions, topic: &str) -> Vec<String> {
        let numbers = subscriptions.covering(PayloadType::Json, topic).into_iter();
        numbers.map(|number| subscriptions.get(number).unwrap().id.clone()).collect()
    }

    #[test]
    fn a_topic_is_covered_by_its_name_and_by_patterns_in_the_order_of_placing() {
        let mut all = Subscriptions::default();
        for (connection, id, topic) in [(1, "a", "t"), (2, "b", "^t"), (1, "c", "u"), (1, "d", "t")] {
            all.insert(subscription(connection, id, topic));
        }
        assert_eq!(ids(&all, "t"), ["a", "b", "d"]);
        assert_eq!(ids(&all, "u"), ["c"]);
        assert_eq!(ids(&all, "v"), [""; 0]);
        assert!(all.covering(PayloadType::Binary, "t").is_empty());
    }

    #[test]
    fn what_is_removed_covers_nothing_any_more() {
        let mut all = Subscriptions::default();
        for (connection, id) in [(1, "a"), (1, "b"), (2, "a"), (1, "c")] {
            all.insert(subscription(connection, id, "t"));
        }
        let one = SessionId { instance: 0, number: 1 };
        assert_eq!(all.remove(one, "b").map(|sub| sub.id).as_deref(), Some("b"));
        assert!(all.remove(one, "b").is_none() && all.find(one, "b").is_none());
        assert_eq!(ids(&all, "t"), ["a", "a", "c"]);
        let removed: Vec<_> = all.remove_session(one).into_iter().map(|sub| sub.id).collect();
        assert_eq!(removed, ["a", "c"]);
        assert_eq!(all.iter().count(), 1);
        all.remove_session(SessionId { instance: 0, number: 2 });
        assert!(all.literals.is_empty() && all.names.is_empty());
    }
}
