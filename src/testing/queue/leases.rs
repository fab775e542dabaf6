//! How messages come back to their queue, and how they leave it.

use std::collections::BTreeSet;

use super::{Holder, Queue, Queued};
use crate::testing::journal::Mark;
use crate::testing::replication::Item;
use crate::testing::subscriptions::Subscription;
use crate::testing::timers::Event;
use crate::testing::world::World;

impl World {
    /// A lease has come to its end.
    pub(crate) fn end_lease(&mut self, queue: usize, number: u64) {
        let lease = self.state.queue(queue).and_then(|queue| queue.messages.get(&number)?.lease.as_ref());
        let end = lease.and_then(|lease| lease.end);
        if end.is_some_and(|(end, _)| end <= self.now) {
            self.take_back(queue, number);
            self.dispatch(queue);
        }
    }

    /// Ends every lease of a queue, and returns how many there were.
    pub(crate) fn end_leases(&mut self, queue: usize) -> usize {
        let leased: Vec<u64> = self.state.queue(queue).map_or(Vec::new(), |queue| {
            let leased = queue.messages.iter().filter(|(_, message)| message.lease.is_some());
            leased.map(|(number, _)| *number).collect()
        });
        leased.iter().for_each(|number| self.take_back(queue, *number));
        self.dispatch(queue);
        leased.len()
    }

    /// The lifetime of a message is over. One that somebody has may still be acknowledged.
    pub(crate) fn expire_queued(&mut self, queue: usize, number: u64) {
        let now = self.now;
        let Some(state) = self.state.queue_mut(queue) else { return };
        let Some(message) = state.messages.get_mut(&number) else { return };
        if message.record.expires.is_none_or(|end| end > now) {
            return;
        }
        message.expiry = None;
        // What another instance delivers expires there.
        if message.lease.is_none() && message.home == self.home {
            self.expire(queue, number);
        }
    }

    /// Counts the lifetime of a message that was just published.
    pub(crate) fn watch_expiry(&mut self, queue: usize, number: u64) {
        let Some(message) = self.state.queue_mut(queue).and_then(|queue| queue.messages.get_mut(&number))
        else {
            return;
        };
        if let Some(end) = message.record.expires {
            message.expiry = Some(self.timers.schedule(end, Event::Expiry { queue, message: number }));
        }
    }

    /// Gives back what a subscription had that is gone, and says to which queue.
    pub(crate) fn give_back(&mut self, subscription: &Subscription) -> Option<usize> {
        let consumer = subscription.consumer()?;
        consumer.leased.iter().for_each(|number| self.take_back(consumer.queue, *number));
        Some(consumer.queue)
    }

    /// Hands what a subscription had to the one that replaces it on the same queue; false if it does not.
    pub(crate) fn hand_over(&mut self, old: &Subscription, new: Holder) -> bool {
        let Some(leased) = old.consumer().map(|consumer| (consumer.queue, consumer.leased.clone())) else {
            return false;
        };
        let Some(instance) = self.instances.get_mut(new.session.instance) else { return false };
        let Some(heir) =
            instance.subscriptions.get_mut(new.subscription).and_then(Subscription::consumer_mut)
        else {
            return false;
        };
        let (queue, leased) = leased;
        if heir.queue != queue {
            return false;
        }
        self.rehold(queue, &leased, new);
        let instance = self.instances.get_mut(new.session.instance);
        let heir = instance.and_then(|instance| instance.subscriptions.get_mut(new.subscription));
        if let Some(consumer) = heir.and_then(Subscription::consumer_mut) {
            consumer.leased = leased;
        }
        true
    }

    fn rehold(&mut self, queue: usize, leased: &BTreeSet<u64>, holder: Holder) {
        let Some(queue) = self.state.queue_mut(queue) else { return };
        for number in leased {
            if let Some(lease) = queue.messages.get_mut(number).and_then(|message| message.lease.as_mut()) {
                lease.holder = holder;
            }
        }
    }

    /// Ends the lease of a message, which waits again, or expires if it was delivered or cancelled often enough.
    pub(super) fn take_back(&mut self, queue: usize, number: u64) {
        let now = self.now;
        let Some(state) = self.state.queue_mut(queue) else { return };
        let Some(lease) = state.take_back(number) else { return };
        let is_spent = state.messages.get(&number).is_some_and(|message| state.is_spent(message, now));
        lease.end.into_iter().for_each(|(_, timer)| self.timers.cancel(timer));
        self.forget_leased(lease.holder, number);
        match is_spent {
            true => self.expire(queue, number),
            false => self.turn_cursors_back(queue, number),
        }
    }

    /// Takes a message out of its queue for good.
    pub(super) fn take_out(&mut self, queue: usize, number: u64) -> Option<Queued> {
        let mut message = self.state.queue_mut(queue)?.remove(number)?;
        message.expiry.take().into_iter().for_each(|timer| self.timers.cancel(timer));
        if let Some(lease) = message.lease.take() {
            lease.end.into_iter().for_each(|(_, timer)| self.timers.cancel(timer));
            self.forget_leased(lease.holder, number);
        }
        Some(message)
    }

    pub(super) fn expire(&mut self, queue: usize, number: u64) {
        self.finish(queue, number, false);
    }

    /// Takes a message out of its queue for good, counts it, and tells linked instances; false if it is not there.
    pub(super) fn finish(&mut self, queue: usize, number: u64, is_acked: bool) -> bool {
        let Some(message) = self.take_out(queue, number) else { return false };
        if let Some(queue) = self.state.queue_mut(queue) {
            queue.count(is_acked);
            let (payload_type, topic) = (queue.topic.payload_type, queue.topic.name.clone());
            self.ledger.add(Item::Settled { payload_type, topic, mark: message.mark, is_acked });
        }
        true
    }

    /// A message has left its queue on a linked instance.
    pub(crate) fn copy_settled(&mut self, queue: usize, mark: Mark, is_acked: bool) {
        let number = self.state.queue(queue).and_then(|queue| queue.numbers.get(&mark).copied());
        if number.and_then(|number| self.take_out(queue, number)).is_some() {
            self.state.queue_mut(queue).into_iter().for_each(|queue| queue.count(is_acked));
            self.dispatch(queue);
        }
    }

    fn forget_leased(&mut self, holder: Holder, number: u64) {
        let instance = self.instances.get_mut(holder.session.instance);
        let subscription = instance.and_then(|instance| instance.subscriptions.get_mut(holder.subscription));
        if let Some(consumer) = subscription.and_then(Subscription::consumer_mut) {
            consumer.leased.remove(&number);
        }
    }

    /// Subscriptions that look for messages behind one that came back, and for which it is, look there again.
    pub(crate) fn turn_cursors_back(&mut self, queue: usize, number: u64) {
        let Some(queue) = self.state.queue(queue) else { return };
        let Some(message) = queue.messages.get(&number) else { return };
        let topic = &queue.topic;
        for instance in &mut self.instances {
            for covering in instance.subscriptions.covering(topic.payload_type, &topic.name) {
                let Some(subscription) = instance.subscriptions.get_mut(covering) else { continue };
                let is_past = subscription.consumer().is_some_and(|consumer| consumer.cursor > number);
                let verdict = instance.verdicts.verdict(&subscription.question(&topic.name));
                if is_past && subscription.takes(message, &verdict, queue) {
                    subscription.consumer_mut().into_iter().for_each(|consumer| consumer.cursor = number);
                }
            }
        }
    }
}

impl Queue {
    fn count(&mut self, is_acked: bool) {
        match is_acked {
            true => self.acked += 1,
            false => self.expired += 1,
        }
    }
}
