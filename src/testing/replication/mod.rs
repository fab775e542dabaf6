//! What linked instances tell each other: each has a state of its own, and links copy what happens.

mod copy;
mod worlds;

use std::collections::VecDeque;
use std::sync::Arc;

use super::journal::Mark;
use super::payload::PayloadType;
use super::sow::Record;

pub(crate) use worlds::{LinkState, Worlds};

/// What happened on an instance and the others have to be told, in its order.
///
/// An item keeps its number while those before it are forgotten, which they are when every link has copied them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    items: VecDeque<Item>,
    first: u64,
    /// The most items that are kept; `None`: there is nobody to tell.
    limit: Option<usize>,
    /// Every instance that is waited for has the items before this one.
    confirmed: u64,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Message(Box<Copied>),
    /// A record is gone.
    Deleted {
        payload_type: PayloadType,
        topic: String,
        key: String,
    },
    /// A message has left its queue.
    Settled {
        payload_type: PayloadType,
        topic: String,
        mark: Mark,
        is_acked: bool,
    },
    /// A number was used that no message has.
    Used {
        client_name: String,
        sequence: u64,
    },
}

/// A message as it is copied.
#[derive(Debug, Clone)]
pub(crate) struct Copied {
    pub(crate) payload_type: PayloadType,
    pub(crate) topic: String,
    pub(crate) record: Arc<Record>,
    pub(crate) mark: Mark,
    pub(crate) lifetime: Option<u64>,
    pub(crate) user_id: String,
    pub(crate) client_name: String,
    pub(crate) sequence: Option<u64>,
    /// Its place in the journal where it was published.
    pub(crate) place: u64,
    /// The instance where it was published.
    pub(crate) home: usize,
}

impl Ledger {
    /// A ledger for an instance that others are linked to.
    pub(crate) fn linked(limit: usize) -> Ledger {
        Ledger { limit: Some(limit.max(1)), ..Ledger::default() }
    }

    pub(crate) fn is_linked(&self) -> bool {
        self.limit.is_some()
    }

    /// Writes down an item, if there is anybody to tell; when there are too many, the oldest is lost.
    pub(crate) fn add(&mut self, item: Item) {
        let Some(limit) = self.limit else { return };
        self.items.push_back(item);
        if self.items.len() > limit {
            self.items.pop_front();
            self.first += 1;
        }
    }

    /// The number of the next item.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// True if every instance that is waited for has the items before this number.
    pub(crate) fn is_confirmed(&self, number: u64) -> bool {
        number <= self.confirmed
    }

    /// The first message that some instance which is waited for may not have: its place in the journal.
    pub(crate) fn unconfirmed_place(&self) -> Option<u64> {
        let skipped = usize::try_from(self.confirmed.saturating_sub(self.first)).ok()?;
        self.items.iter().skip(skipped).find_map(|item| match item {
            Item::Message(message) => Some(message.place),
            _ => None,
        })
    }

    fn get(&self, number: u64) -> Option<&Item> {
        self.items.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Forgets the items before this number.
    fn forget(&mut self, number: u64) {
        while self.first < number && self.items.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Says up to where everybody has everything; true if that is news.
    fn confirm(&mut self, number: u64) -> bool {
        std::mem::replace(&mut self.confirmed, number) < number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(sequence: u64) -> Item {
        Item::Used { client_name: "c".into(), sequence }
    }

    #[test]
    fn a_ledger_keeps_the_numbers_of_its_items() {
        let mut ledger = Ledger::linked(2);
        (1..=3).for_each(|sequence| ledger.add(item(sequence)));
        assert_eq!((ledger.first, ledger.end()), (1, 3));
        assert!(ledger.get(0).is_none() && ledger.get(2).is_some() && ledger.get(3).is_none());
        ledger.forget(2);
        assert_eq!((ledger.first, ledger.end()), (2, 3));
        assert!(ledger.confirm(2) && !ledger.confirm(2));
        assert!(ledger.is_confirmed(2) && !ledger.is_confirmed(3));
    }

    #[test]
    fn without_links_nothing_is_kept_and_nothing_is_waited_for() {
        let mut ledger = Ledger::default();
        ledger.add(item(1));
        assert_eq!(ledger.end(), 0);
        assert!(ledger.is_confirmed(ledger.end()) && ledger.unconfirmed_place().is_none());
    }
}
