//! The subscriptions of a store, by their ids.

use std::collections::HashMap;
use std::sync::Arc;

use super::Subscription;

/// Subscriptions in numbered slots; the slot of one that is forgotten is used again.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    slots: Vec<Option<Tracked>>,
    by_id: HashMap<Arc<str>, usize>,
    free: Vec<usize>,
    /// The slot that was asked for last; mostly the next one too.
    last: usize,
    /// No message of a new subscription has this number or a lower one, so that the numbers of one that was forgotten find
    /// nothing.
    floor: u64,
}

/// A subscription and its id.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) sub_id: Arc<str>,
    pub(crate) subscription: Subscription,
    /// An adapter is yet to be told that it has moved.
    pub(crate) awaits_update: bool,
}

impl Subscriptions {
    /// The slot of a subscription; `None` if it is not known.
    #[inline]
    pub(crate) fn find(&mut self, sub_id: &[u8]) -> Option<usize> {
        if self.get(self.last).is_none_or(|tracked| *tracked.sub_id.as_bytes() != *sub_id) {
            self.last = *self.by_id.get(str::from_utf8(sub_id).ok()?)?;
        }
        Some(self.last)
    }

    /// The slot of a subscription, which may be a new one.
    #[inline]
    pub(crate) fn slot(&mut self, sub_id: &[u8]) -> usize {
        match self.find(sub_id) {
            Some(slot) => slot,
            None => self.add(&String::from_utf8_lossy(sub_id)),
        }
    }

    #[cold]
    fn add(&mut self, sub_id: &str) -> usize {
        let sub_id: Arc<str> = sub_id.into();
        let slot = self.free.pop().unwrap_or(self.slots.len());
        self.by_id.insert(sub_id.clone(), slot);
        let subscription = Subscription::starting_at(self.floor + 1);
        let tracked = Some(Tracked { sub_id, subscription, awaits_update: false });
        match self.slots.get_mut(slot) {
            Some(place) => *place = tracked,
            None => self.slots.push(tracked),
        }
        slot
    }

    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&Tracked> {
        self.slots.get(slot)?.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Tracked> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The subscription with this id.
    pub(crate) fn with_id(&self, sub_id: &str) -> Option<&Subscription> {
        self.get(*self.by_id.get(sub_id)?).map(|tracked| &tracked.subscription)
    }

    /// Every subscription and its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Tracked)> {
        self.slots.iter().enumerate().filter_map(|(slot, tracked)| Some((slot, tracked.as_ref()?)))
    }

    #[cfg(feature = "file-store")]
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Tracked> {
        self.slots.iter_mut().flatten()
    }

    /// Forgets a subscription. False if it is not known.
    pub(crate) fn remove(&mut self, sub_id: &str) -> bool {
        let Some(slot) = self.by_id.remove(sub_id) else { return false };
        if let Some(tracked) = self.slots.get_mut(slot).and_then(Option::take) {
            self.floor = self.floor.max(tracked.subscription.next_number());
        }
        self.free.push(slot);
        true
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        let next = self.iter().map(|(_, tracked)| tracked.subscription.next_number()).max();
        self.floor = self.floor.max(next.unwrap_or(0));
        self.slots.clear();
        self.by_id.clear();
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Look, Place};
    use super::*;

    const FIRST: Place<'static> = Place { publisher: 1, sequence: 1, tail: b"" };

    fn append(subscriptions: &mut Subscriptions, sub_id: &str) -> u64 {
        let slot = subscriptions.slot(sub_id.as_bytes());
        subscriptions.get_mut(slot).unwrap().subscription.append(FIRST)
    }

    #[test]
    fn each_id_has_a_state_of_its_own() {
        let mut subscriptions = Subscriptions::default();
        assert_eq!((append(&mut subscriptions, "a"), append(&mut subscriptions, "b")), (1, 1));
        assert_eq!(subscriptions.find(b"a"), Some(0));
        assert_eq!(subscriptions.find(b"b"), Some(1));
        assert_eq!(subscriptions.find(b"c"), None);
        assert_eq!(subscriptions.with_id("b").unwrap().look(FIRST), Look::Outstanding(1));
        assert!(subscriptions.with_id("c").is_none());
    }

    #[test]
    fn the_numbers_of_a_forgotten_subscription_are_not_used_again() {
        let mut subscriptions = Subscriptions::default();
        append(&mut subscriptions, "a");
        assert!(subscriptions.remove("a") && !subscriptions.remove("a"));
        assert_eq!(subscriptions.find(b"a"), None);
        assert_eq!((append(&mut subscriptions, "b"), subscriptions.find(b"b")), (3, Some(0)));
        subscriptions.clear();
        assert_eq!(subscriptions.iter().count(), 0);
        assert_eq!(append(&mut subscriptions, "a"), 5);
    }
}
