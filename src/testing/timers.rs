//! What will happen when, apart from the expiry of records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::clock::Time;
use super::conflation::HeldKey;
use super::faults::Effect;
use super::session::SessionId;

/// Something that falls due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Send a heartbeat.
    Heartbeat(SessionId),
    /// Close a connection whose client has not beaten.
    BeatMissing(SessionId),
    /// Send what a conflated subscription holds for a key.
    Conflation { session: SessionId, subscription: u64, key: HeldKey },
    /// Look whether a connection still holds frames that are too old.
    Aged(SessionId),
    /// Tell a publisher what is persisted.
    Persisted(SessionId),
    /// Let a bookmark subscription go on.
    Replay { session: SessionId, subscription: u64 },
    /// Tell bookmark subscriptions what is persisted.
    Reports(SessionId),
    /// End the lease of a message in a queue.
    Lease { queue: usize, message: u64 },
    /// End the life of a message in a queue.
    Expiry { queue: usize, message: u64 },
    /// Something that a fault brought about is over.
    Over(Arc<Effect>),
}

/// A scheduled event, for cancelling it: when, and its number among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerId(Time, u64);

/// The events to come, in their order.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    events: BTreeMap<TimerId, Event>,
    last: u64,
}

impl Timers {
    pub(crate) fn schedule(&mut self, at: Time, event: Event) -> TimerId {
        self.last += 1;
        let id = TimerId(at, self.last);
        self.events.insert(id, event);
        id
    }

    pub(crate) fn cancel(&mut self, id: TimerId) {
        self.events.remove(&id);
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.events.first_key_value().map(|(id, _)| id.0)
    }

    /// Takes the first event that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Event> {
        let first = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times_and_then_of_their_scheduling() {
        let session = SessionId { instance: 0, number: 1 };
        let at = |seconds| Time::default().plus(Duration::from_secs(seconds));
        let mut timers = Timers::default();
        timers.schedule(at(2), Event::Aged(session));
        timers.schedule(at(1), Event::Heartbeat(session));
        let cancelled = timers.schedule(at(1), Event::Aged(session));
        timers.schedule(at(1), Event::BeatMissing(session));
        timers.cancel(cancelled);
        assert_eq!(timers.next_deadline(), Some(at(1)));
        assert_eq!(timers.pop_due(at(0)), None);
        assert_eq!(timers.pop_due(at(1)), Some(Event::Heartbeat(session)));
        assert_eq!(timers.pop_due(at(1)), Some(Event::BeatMissing(session)));
        assert_eq!(timers.pop_due(at(1)), None);
        assert_eq!(timers.pop_due(at(9)), Some(Event::Aged(session)));
        assert_eq!(timers.next_deadline(), None);
    }
}
