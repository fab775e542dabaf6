//! Queues: each message goes to one subscription at a time, until it is acknowledged (section 11).

mod ack;
mod dispatch;
mod inspect;
mod leases;
mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::clock::Time;
use super::journal::Mark;
use super::session::SessionId;
use super::sow::Record;
use super::state::TopicInfo;
use super::timers::TimerId;

pub(crate) use ack::{AckTerms, Acked};
pub(crate) use dispatch::Consumer;
pub use inspect::{QueueInfo, QueueMessage};
pub(crate) use rules::QueueRules;
pub use rules::{Fairness, Leasing};

/// The messages of one queue that are not acknowledged, in the order in which they were published.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) topic: Arc<TopicInfo>,
    pub(crate) rules: QueueRules,
    /// By their numbers, which are given out in the order of publishing.
    messages: BTreeMap<u64, Queued>,
    /// Those that nobody has at present.
    waiting: BTreeSet<u64>,
    /// Those that another instance delivers.
    elsewhere: BTreeSet<u64>,
    numbers: HashMap<Mark, u64>,
    next: u64,
    /// The subscription that got a message last.
    served: Option<Holder>,
    acked: u64,
    expired: u64,
}

/// One message in a queue.
#[derive(Debug)]
struct Queued {
    mark: Mark,
    record: Arc<Record>,
    /// The publisher's user, if subscribers may see it; else empty.
    user_id: String,
    deliveries: u32,
    cancels: u32,
    lease: Option<Lease>,
    /// The end of its lifetime.
    expiry: Option<TimerId>,
    /// The linked instance that delivers it.
    home: usize,
}

/// Who has a message, and for how long.
#[derive(Debug)]
struct Lease {
    holder: Holder,
    /// `None`: as long as the subscription lasts.
    end: Option<(Time, TimerId)>,
}

/// A subscription, by its connection and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Holder {
    pub(crate) session: SessionId,
    pub(crate) subscription: u64,
}

impl Queue {
    pub(crate) fn new(topic: Arc<TopicInfo>, rules: QueueRules) -> Queue {
        Queue {
            topic,
            rules,
            messages: BTreeMap::new(),
            waiting: BTreeSet::new(),
            elsewhere: BTreeSet::new(),
            numbers: HashMap::new(),
            next: 0,
            served: None,
            acked: 0,
            expired: 0,
        }
    }

    /// Adds a message at the end, and gives its number.
    pub(crate) fn add(&mut self, mark: Mark, record: Arc<Record>, user_id: String) -> u64 {
        let number = self.next;
        self.next += 1;
        let (deliveries, cancels, lease, expiry, home) = (0, 0, None, None, 0);
        let queued = Queued { mark, record, user_id, deliveries, cancels, lease, expiry, home };
        self.messages.insert(number, queued);
        self.waiting.insert(number);
        self.numbers.insert(mark, number);
        number
    }

    /// True if no more messages may be leased at present.
    fn is_full(&self) -> bool {
        let leased = self.messages.len() - self.waiting.len() - self.elsewhere.len();
        self.rules.max_backlog.is_some_and(|most| leased as u64 >= most)
    }

    fn lend(&mut self, number: u64, lease: Lease) -> Option<&Queued> {
        let message = self.messages.get_mut(&number)?;
        self.waiting.remove(&number);
        self.served = Some(lease.holder);
        message.deliveries = message.deliveries.saturating_add(1);
        message.lease = Some(lease);
        Some(message)
    }

    /// Ends the lease of a message; it waits again in its old place.
    fn take_back(&mut self, number: u64) -> Option<Lease> {
        let lease = self.messages.get_mut(&number)?.lease.take()?;
        self.waiting.insert(number);
        Some(lease)
    }

    fn remove(&mut self, number: u64) -> Option<Queued> {
        let message = self.messages.remove(&number)?;
        self.waiting.remove(&number);
        self.elsewhere.remove(&number);
        if self.numbers.get(&message.mark) == Some(&number) {
            self.numbers.remove(&message.mark);
        }
        Some(message)
    }

    /// Has an instance deliver a message, which is `own` here; its number, if it waits here from now on.
    pub(crate) fn move_to(&mut self, mark: Mark, home: usize, own: usize) -> Option<u64> {
        let number = *self.numbers.get(&mark)?;
        let message = self.messages.get_mut(&number)?;
        message.home = home;
        if home != own {
            self.waiting.remove(&number);
            if message.lease.is_none() {
                self.elsewhere.insert(number);
            }
            return None;
        }
        self.elsewhere.remove(&number).then(|| self.waiting.insert(number)).map(|_| number)
    }

    /// Has one instance deliver all that another one was to deliver; the numbers of those that wait here from now on.
    pub(crate) fn inherit(&mut self, from: usize, to: usize, own: usize) -> Vec<u64> {
        let marks: Vec<_> = self.homes().filter(|(_, home)| *home == from).map(|(mark, _)| mark).collect();
        marks.into_iter().filter_map(|mark| self.move_to(mark, to, own)).collect()
    }

    /// The messages, each with the instance that delivers it.
    pub(crate) fn homes(&self) -> impl Iterator<Item = (Mark, usize)> {
        self.messages.values().map(|message| (message.mark, message.home))
    }

    /// True if a message that came back is not to be delivered again.
    fn is_spent(&self, message: &Queued, now: Time) -> bool {
        let reached = |count: u32, most: u32| most > 0 && count >= most;
        reached(message.deliveries, self.rules.max_deliveries)
            || reached(message.cancels, self.rules.max_cancels)
            || message.record.expires.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::payload::PayloadType;

    const HOLDER: Holder = Holder { session: SessionId { instance: 0, number: 1 }, subscription: 1 };

    fn queue(rules: QueueRules) -> Queue {
        let topic =
            TopicInfo { payload_type: PayloadType::Json, name: "q".into(), sow: None, is_journaled: true };
        let mut queue = Queue::new(Arc::new(topic), rules);
        for sequence in 1..=3 {
            queue.add(Mark { publisher: 9, sequence }, Arc::default(), String::new());
        }
        queue
    }

    #[test]
    fn a_message_that_comes_back_takes_its_old_place() {
        let mut queue = queue(QueueRules::default());
        for number in [0, 1] {
            queue.lend(number, Lease { holder: HOLDER, end: None });
        }
        assert_eq!(queue.waiting.iter().copied().collect::<Vec<_>>(), [2]);
        assert!(queue.take_back(0).is_some() && queue.take_back(0).is_none());
        assert_eq!(queue.waiting.first(), Some(&0));
        assert!(queue.remove(1).is_some() && queue.remove(1).is_none());
        assert_eq!(queue.numbers.len(), 2);
    }

    ///
    #[test]
    fn a_message_is_spent_by_its_counts_or_by_its_lifetime() {
        let rules = QueueRules { max_deliveries: 2, max_cancels: 1, ..QueueRules::default() };
        let queue = queue(rules);
        let second = Time::default().plus(Duration::from_secs(1));
        let message = |deliveries, cancels, expires| Queued {
            mark: Mark { publisher: 9, sequence: 9 },
            record: Arc::new(Record { expires, ..Record::default() }),
            user_id: String::new(),
            deliveries,
            cancels,
            lease: None,
            expiry: None,
            home: 0,
        };
        assert!(!queue.is_spent(&message(1, 0, None), second));
        assert!(queue.is_spent(&message(2, 0, None), second));
        assert!(queue.is_spent(&message(1, 1, None), second));
        assert!(queue.is_spent(&message(1, 0, Some(second)), second));
        assert!(!queue.is_spent(&message(1, 0, Some(second)), Time::default()));
    }

    #[test]
    fn a_queue_may_be_full_for_all() {
        let mut queue = queue(QueueRules { max_backlog: Some(1), ..QueueRules::default() });
        assert!(!queue.is_full());
        queue.lend(0, Lease { holder: HOLDER, end: None });
        assert!(queue.is_full());
        queue.remove(0);
        assert!(!queue.is_full());
    }
}
