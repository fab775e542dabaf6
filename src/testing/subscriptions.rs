//! The subscriptions of one instance, found by connection and id or by the topic of a message.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map};
use std::sync::Arc;

use super::conflation::Conflation;
use super::entitlement::{Action, Question};
use super::filter::Filter;
use super::payload::{Document, PayloadType};
use super::queue::Consumer;
use super::replay::{Progress, Replay};
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
    pub(crate) feed: Feed,
    pub(crate) text: SubscriptionText,
}

/// Where the messages of a subscription come from.
#[derive(Debug)]
pub(crate) enum Feed {
    /// What happens on the topic from now on.
    Changes,
    /// The same, for a bookmark subscription to a topic that is not journaled (T-7).
    Unlogged,
    /// The journal.
    Journal(Box<Replay>),
    /// A queue.
    Queue(Consumer),
}

impl Feed {
    /// How many messages of a queue may be under way.
    pub(crate) fn backlog(&self) -> Option<u64> {
        match self {
            Feed::Queue(consumer) => Some(consumer.backlog),
            _ => None,
        }
    }
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
    /// The bookmark on live messages.
    pub(crate) bookmark: bool,
}

impl Subscription {
    pub(crate) fn filter_matches(&self, document: &Document<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.matches(document))
    }

    /// True if its command named a bookmark.
    pub(crate) fn is_bookmark(&self) -> bool {
        matches!(self.feed, Feed::Unlogged | Feed::Journal(_))
    }

    pub(crate) fn replay(&self) -> Option<&Replay> {
        match &self.feed {
            Feed::Journal(replay) => Some(replay),
            _ => None,
        }
    }

    pub(crate) fn replay_mut(&mut self) -> Option<&mut Replay> {
        match &mut self.feed {
            Feed::Journal(replay) => Some(replay),
            _ => None,
        }
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
    /// Those that have still to read something in the journal: their places there and their numbers.
    behind: BTreeMap<SessionId, BTreeSet<(u64, u64)>>,
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

    /// The subscriptions of a connection.
    pub(crate) fn of_session(&self, session: SessionId) -> Vec<u64> {
        self.names.get(&session).map(|names| names.values().copied().collect()).unwrap_or_default()
    }

    /// The number of a subscription.
    pub(crate) fn number(&self, session: SessionId, id: &str) -> Option<u64> {
        self.names.get(&session)?.get(id).copied()
    }

    /// Moves a subscription that reads the journal.
    pub(crate) fn set_progress(&mut self, number: u64, progress: Progress) {
        let Some(subscription) = self.all.get_mut(&number) else { return };
        let session = subscription.session;
        let Some(replay) = subscription.replay_mut() else { return };
        let before = std::mem::replace(&mut replay.progress, progress);
        self.index(session, number, before, progress);
    }

    fn index(&mut self, session: SessionId, number: u64, before: Progress, after: Progress) {
        if let Progress::Behind(place) = before
            && let btree_map::Entry::Occupied(mut places) = self.behind.entry(session)
        {
            places.get_mut().remove(&(place, number));
            if places.get().is_empty() && !matches!(after, Progress::Behind(_)) {
                places.remove();
            }
        }
        if let Progress::Behind(place) = after {
            self.behind.entry(session).or_default().insert((place, number));
        }
    }

    /// The subscription of a connection that has most to read, with its place.
    pub(crate) fn furthest_behind(&self, session: SessionId) -> Option<(u64, u64)> {
        self.behind.get(&session)?.first().copied()
    }

    /// The subscriptions of a connection that have still to read something.
    pub(crate) fn behind(&self, session: SessionId) -> Vec<u64> {
        self.behind.get(&session).into_iter().flatten().map(|(_, number)| *number).collect()
    }

    /// The connections that have such subscriptions.
    pub(crate) fn sessions_behind(&self) -> Vec<SessionId> {
        self.behind.keys().copied().collect()
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
        let (session, progress) = (subscription.session, subscription.replay().map(|replay| replay.progress));
        self.all.insert(self.last, subscription);
        if let Some(progress) = progress {
            self.index(session, self.last, Progress::Over, progress);
        }
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
        if let Some(replay) = subscription.replay() {
            self.index(subscription.session, number, replay.progress, Progress::Over);
        }
        self.patterns.remove(&number);
        if let Some(hash_map::Entry::Occupied(mut place)) =
            subscription.literal().map(|p| self.literals.entry(p))
        {
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
            feed: Feed::Changes,
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
