//! Who waits for which acknowledgement, what completes the wait, and what ends it.
//!
//! Pure: what a waiter is, and how it is woken, is the caller's business.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::wire::AckType;

/// The waiting commands of one client, by command id.
#[derive(Debug)]
pub(crate) struct AckTable<W> {
    waiting: HashMap<String, Waiting<W>>,
}

#[derive(Debug)]
struct Waiting<W> {
    /// The connection the command was sent on; `None` while it was not sent.
    version: Option<u64>,
    wanted: AckType,
    waiter: W,
}

impl<W> Default for AckTable<W> {
    fn default() -> AckTable<W> {
        AckTable { waiting: HashMap::new() }
    }
}

impl<W> AckTable<W> {
    /// Enters a waiter, before its command is sent: the answer may come before the sending call returns. False if
    /// another waits under this id.
    pub(crate) fn register(&mut self, id: &str, wanted: AckType, waiter: W) -> bool {
        match self.waiting.entry(id.to_owned()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Waiting { version: None, wanted, waiter });
                true
            }
        }
    }

    pub(crate) fn is_waiting(&self, id: &str) -> bool {
        self.waiting.contains_key(id)
    }

    /// The command is on its way over this connection.
    pub(crate) fn queued(&mut self, id: &str, version: u64) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.version = Some(version);
        }
    }

    /// The command was not sent after all. True if its waiter still waits.
    pub(crate) fn reclaim(&mut self, id: &str) -> bool {
        match self.waiting.get_mut(id) {
            Some(waiting) => {
                waiting.version = None;
                true
            }
            None => false,
        }
    }

    /// An acknowledgement came: the waiter it completes, if there is one.
    ///
    /// A refusal is always told in the `processed` acknowledgement, whatever else was awaited.
    pub(crate) fn complete(&mut self, id: &str, ack: AckType, refused: bool) -> Option<W> {
        let waiting = self.waiting.get(id)?;
        let completes = waiting.wanted.intersects(ack) || (refused && ack == AckType::PROCESSED);
        if completes { self.cancel(id) } else { None }
    }

    /// Takes a waiter out.
    pub(crate) fn cancel(&mut self, id: &str) -> Option<W> {
        self.waiting.remove(id).map(|waiting| waiting.waiter)
    }

    /// Takes out whoever waits for an answer on this connection or an earlier one, with the ids of their commands;
    /// commands not sent yet stay (D-4).
    pub(crate) fn release(&mut self, version: u64) -> Vec<(String, W)> {
        let lost = |waiting: &Waiting<W>| waiting.version.is_some_and(|v| v <= version);
        self.waiting
            .extract_if(|_, waiting| lost(waiting))
            .map(|(id, waiting)| (id, waiting.waiter))
            .collect()
    }

    /// Takes out everybody.
    pub(crate) fn release_all(&mut self) -> Vec<W> {
        self.waiting.drain().map(|(_, waiting)| waiting.waiter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(ids: &[&'static str]) -> AckTable<&'static str> {
        let mut table = AckTable::default();
        for id in ids {
            assert!(table.register(id, AckType::PROCESSED, *id));
        }
        table
    }

    #[test]
    fn a_waiter_is_completed_once_by_what_it_waits_for() {
        let mut acks = table(&["a"]);
        assert_eq!(acks.complete("a", AckType::RECEIVED, false), None);
        assert_eq!(acks.complete("b", AckType::PROCESSED, false), None);
        assert_eq!(acks.complete("a", AckType::PROCESSED, false), Some("a"));
        assert_eq!(acks.complete("a", AckType::PROCESSED, false), None);
    }

    #[test]
    fn a_refusal_completes_whoever_waits_for_something_later() {
        let mut acks = AckTable::default();
        assert!(acks.register("a", AckType::STATS, 1));
        assert!(!acks.register("a", AckType::PROCESSED, 2), "one waiter must not push out another");
        assert_eq!(acks.complete("a", AckType::PROCESSED, false), None);
        assert_eq!(acks.complete("a", AckType::PROCESSED, true), Some(1));
    }

    /// D-4.
    #[test]
    fn a_loss_releases_what_was_sent_and_leaves_what_was_not() {
        let mut acks = table(&["old", "lost", "new", "unsent"]);
        acks.queued("old", 1);
        acks.queued("lost", 2);
        acks.queued("new", 3);
        let mut released = acks.release(2);
        released.sort_unstable();
        assert_eq!(released, [("lost".to_owned(), "lost"), ("old".to_owned(), "old")]);
        assert!(acks.is_waiting("new") && acks.is_waiting("unsent"));
        assert_eq!(acks.release_all().len(), 2);
    }

    #[test]
    fn a_reclaimed_command_survives_the_loss_unless_it_was_released_before() {
        let mut acks = table(&["a", "b"]);
        acks.queued("a", 1);
        acks.queued("b", 1);
        assert!(acks.reclaim("a"));
        assert_eq!(acks.release(1), [("b".to_owned(), "b")]);
        assert!(!acks.reclaim("b"));
        assert_eq!(acks.cancel("a"), Some("a"));
    }
}
