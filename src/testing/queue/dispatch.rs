//! Who gets the next message of a queue.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::{Fairness, Holder, Lease, Queue};
use crate::testing::clock::Time;
use crate::testing::entitlement::Verdict;
use crate::testing::frames::{Delivery, Outgoing};
use crate::testing::session::SessionId;
use crate::testing::subscriptions::{Feed, Subscription};
use crate::testing::timers::Event;
use crate::testing::world::World;

/// What a subscription has of its queue.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// The queue it takes messages from.
    pub(crate) queue: usize,
    /// How many messages it may have at a time.
    pub(crate) backlog: u64,
    /// The messages it has.
    pub(super) leased: BTreeSet<u64>,
    /// No waiting message before this one is for it. Only used when it does not take everything.
    pub(super) cursor: u64,
}

/// The end of a lease that has none.
const FOR_EVER: &str = "99991231T235959.000000Z";

impl Consumer {
    pub(crate) fn new(queue: usize, backlog: u64) -> Consumer {
        Consumer { queue, backlog, leased: BTreeSet::new(), cursor: 0 }
    }

    fn has_room(&self) -> bool {
        (self.leased.len() as u64) < self.backlog
    }
}

/// A subscription that may get a message.
struct Contender {
    holder: Holder,
    verdict: Verdict,
}

/// What one of them would get.
#[derive(Debug, Clone, Copy)]
struct Claim {
    message: u64,
    holder: Holder,
    leased: u64,
    backlog: u64,
}

impl World {
    /// Hands out the messages of a queue for as long as one finds a subscription with room.
    pub(crate) fn dispatch(&mut self, queue: usize) {
        let contenders = self.contenders(queue);
        while let Some(claim) = self.next_claim(queue, &contenders) {
            self.lend(queue, claim.message, claim.holder);
        }
    }

    /// All that take messages from a queue, the longest-standing of an instance first.
    fn contenders(&self, queue: usize) -> Vec<Contender> {
        let Some(queue) = self.state.queue(queue) else { return Vec::new() };
        let topic = &queue.topic;
        let mut contenders = Vec::new();
        for instance in &self.instances {
            for number in instance.subscriptions.covering(topic.payload_type, &topic.name) {
                let Some(subscription) = instance.subscriptions.get(number) else { continue };
                let verdict = instance.verdicts.verdict(&subscription.question(&topic.name));
                if subscription.consumer().is_some() && !verdict.is_deny() {
                    let holder = Holder { session: subscription.session, subscription: number };
                    contenders.push(Contender { holder, verdict });
                }
            }
        }
        contenders
    }

    /// The oldest message that somebody can get now, and who does.
    fn next_claim(&mut self, queue: usize, contenders: &[Contender]) -> Option<Claim> {
        let queue = self.state.queue(queue)?;
        if queue.waiting.is_empty() || queue.is_full() {
            return None;
        }
        let mut best: Option<Claim> = None;
        for contender in contenders {
            let Holder { session, subscription } = contender.holder;
            let all = self.instances.get_mut(session.instance).map(|instance| &mut instance.subscriptions);
            let Some(subscription) = all.and_then(|all| all.get_mut(subscription)) else { continue };
            let Some(claim) = contender.claim(subscription, queue) else { continue };
            if best.is_none_or(|best| claim.is_before(&best, queue)) {
                best = Some(claim);
            }
        }
        best
    }

    /// Leases a message to a subscription, and sends it there.
    fn lend(&mut self, index: usize, number: u64, holder: Holder) {
        let now = self.now;
        let Some(queue) = self.state.queue_mut(index) else { return };
        let end = queue.rules.lease.map(|lease| {
            let end = now.plus(lease);
            (end, self.timers.schedule(end, Event::Lease { queue: index, message: number }))
        });
        let topic = queue.topic.clone();
        let Some(message) = queue.lend(number, Lease { holder, end }) else { return };
        let Some(instance) = self.instances.get_mut(holder.session.instance) else { return };
        let Some(subscription) = instance.subscriptions.get_mut(holder.subscription) else { return };
        let sub_id = subscription.id.clone();
        let wants = subscription.wants;
        if let Some(consumer) = subscription.consumer_mut() {
            consumer.leased.insert(number);
        }
        let delivery = Delivery {
            topic: &topic.name,
            sub_ids: &sub_id,
            timestamp: &if wants.timestamp { message.record.time.text() } else { String::new() },
            bookmark: &message.mark.to_string(),
            correlation_id: &message.record.correlation_id,
            user_id: &message.user_id,
            lease_end: &end.map_or(FOR_EVER.to_owned(), |(end, _)| end.text()),
            payload: &message.record.payload,
            ..Delivery::default()
        };
        let frame = delivery.publish();
        self.deliver(holder.session, frame, now);
    }

    fn deliver(&self, session: SessionId, frame: Outgoing, now: Time) {
        if let Some(session) = self.session(session) {
            session.connection.send(frame, now);
        }
    }
}

impl Contender {
    /// The oldest message that is for this subscription, if it has room.
    fn claim(&self, subscription: &mut Subscription, queue: &Queue) -> Option<Claim> {
        let consumer = subscription.consumer().filter(|consumer| consumer.has_room())?;
        let (leased, backlog, from) = (consumer.leased.len() as u64, consumer.backlog, consumer.cursor);
        let message = if subscription.filter.is_none() && matches!(self.verdict, Verdict::Allow) {
            *queue.waiting.first()?
        } else {
            let found = queue.waiting.range(from..).find(|number| {
                queue
                    .messages
                    .get(number)
                    .is_some_and(|queued| subscription.takes(queued, &self.verdict, queue))
            });
            let found = found.copied();
            if let Some(consumer) = subscription.consumer_mut() {
                consumer.cursor = found.unwrap_or(queue.next);
            }
            found?
        };
        Some(Claim { message, holder: self.holder, leased, backlog })
    }
}

impl Claim {
    /// Older messages first; then as the queue's fairness says. Who came first has the advantage otherwise.
    fn is_before(&self, other: &Claim, queue: &Queue) -> bool {
        let by_fairness = match queue.rules.fairness {
            Fairness::Fast => Ordering::Equal,
            Fairness::Proportional => self.load(other).cmp(&other.load(self)),
            Fairness::RoundRobin => self.turn(queue).cmp(&other.turn(queue)),
        };
        self.message.cmp(&other.message).then(by_fairness).is_lt()
    }

    /// What part of its backlog is taken, in parts that compare with those of another.
    fn load(&self, other: &Claim) -> u128 {
        u128::from(self.leased) * u128::from(other.backlog)
    }

    /// Those behind the one served last come before it and before those in front of it.
    fn turn(&self, queue: &Queue) -> (bool, Holder) {
        (queue.served.is_some_and(|served| self.holder <= served), self.holder)
    }
}

impl Subscription {
    pub(crate) fn consumer(&self) -> Option<&Consumer> {
        match &self.feed {
            Feed::Queue(consumer) => Some(consumer),
            _ => None,
        }
    }

    pub(crate) fn consumer_mut(&mut self) -> Option<&mut Consumer> {
        match &mut self.feed {
            Feed::Queue(consumer) => Some(consumer),
            _ => None,
        }
    }

    /// Whether a message is for this subscription.
    pub(super) fn takes(&self, message: &super::Queued, verdict: &Verdict, queue: &Queue) -> bool {
        let document = message.record.document(queue.topic.payload_type);
        verdict.shows(&document) && self.filter_matches(&document)
    }
}
