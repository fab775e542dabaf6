//! What is known of each publisher of a subscription.

use std::collections::{HashMap, VecDeque};

use super::place::{Place, Spot, set};

/// Publishers in the order in which they were first seen.
#[derive(Debug, Default)]
pub(super) struct Publishers {
    known: Vec<Publisher>,
    slots: HashMap<u64, u32>,
    /// The one that was asked for last; mostly the next one too.
    last: usize,
}

/// A publisher; its messages come with ascending sequences.
#[derive(Debug)]
pub(super) struct Publisher {
    id: u64,
    /// The highest sequence that is known. What is not higher and not held has been discarded.
    pub(super) top: Option<u64>,
    /// The highest place that was delivered in this process, is discarded with all before it, or was listed.
    pub(super) delivered: Option<Spot>,
    /// A place to go on from that was kept elsewhere; nothing is known of the messages before it.
    pub(super) listed: Option<Spot>,
    /// The highest place of the present range that was discarded and is not held any more.
    pub(super) dropped: Option<Spot>,
    /// The numbers of the held messages, ascending as their sequences are.
    pub(super) held: VecDeque<u64>,
}

impl Publishers {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Publisher> {
        self.known.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Publisher> {
        self.known.iter_mut()
    }

    #[inline]
    pub(super) fn at(&self, slot: u32) -> Option<&Publisher> {
        self.known.get(slot as usize)
    }

    #[inline]
    pub(super) fn at_mut(&mut self, slot: u32) -> Option<&mut Publisher> {
        self.known.get_mut(slot as usize)
    }

    #[inline]
    pub(super) fn find(&self, id: u64) -> Option<&Publisher> {
        match self.known.get(self.last) {
            Some(publisher) if publisher.id == id => Some(publisher),
            _ => self.at(*self.slots.get(&id)?),
        }
    }

    /// The publisher of this place, which may be a new one, and its slot.
    #[inline]
    pub(super) fn of(&mut self, place: Place<'_>) -> Option<(u32, &mut Publisher)> {
        if self.known.get(self.last).is_none_or(|publisher| publisher.id != place.publisher) {
            self.last = self.slot(place)?;
        }
        let slot = self.last;
        self.known.get_mut(slot).map(|publisher| (slot as u32, publisher))
    }

    /// `None` if there are more publishers than anybody can count.
    fn slot(&mut self, place: Place<'_>) -> Option<usize> {
        if let Some(slot) = self.slots.get(&place.publisher) {
            return Some(*slot as usize);
        }
        let slot = u32::try_from(self.known.len()).ok()?;
        self.slots.insert(place.publisher, slot);
        self.known.push(Publisher::first_seen_at(place));
        Some(slot as usize)
    }
}

impl Publisher {
    fn first_seen_at(place: Place<'_>) -> Publisher {
        Publisher {
            id: place.publisher,
            top: None,
            delivered: None,
            listed: None,
            dropped: None,
            held: VecDeque::new(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// A message of this publisher is delivered.
    #[inline]
    pub(super) fn deliver(&mut self, place: Place<'_>) {
        self.know(place);
        raise(&mut self.delivered, place);
    }

    /// A message of this publisher was seen.
    #[inline]
    pub(super) fn know(&mut self, place: Place<'_>) {
        self.top = self.top.max(Some(place.sequence));
    }

    /// The subscription is not to go on above this place.
    pub(super) fn list(&mut self, place: Place<'_>) {
        raise(&mut self.listed, place);
        raise(&mut self.delivered, place);
    }

    /// The place to list when nothing was delivered in this process yet.
    pub(super) fn before_delivery(&self) -> Option<&Spot> {
        let above =
            |spot: &&Spot| self.dropped.as_ref().is_none_or(|dropped| dropped.sequence < spot.sequence);
        self.listed.as_ref().filter(above).or(self.dropped.as_ref())
    }

    /// Forgets where the subscription was, but not what was seen.
    pub(super) fn start_anew(&mut self) {
        (self.delivered, self.listed, self.dropped) = (None, None, None);
    }

    /// A message of this publisher is discarded and not held any more.
    #[inline]
    pub(super) fn drop(&mut self, place: Place<'_>) {
        self.deliver(place);
        raise(&mut self.dropped, place);
    }
}

/// Moves a spot up to a place of the same publisher, never down.
#[inline]
fn raise(spot: &mut Option<Spot>, place: Place<'_>) {
    if spot.as_ref().is_none_or(|spot| spot.sequence < place.sequence) {
        set(spot, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(publisher: u64, sequence: u64) -> Place<'static> {
        Place { publisher, sequence, tail: b"" }
    }

    #[test]
    fn publishers_keep_the_order_in_which_they_came() {
        let mut publishers = Publishers::default();
        for (publisher, expected) in [(9, 0), (3, 1), (9, 0), (3, 1), (7, 2), (9, 0)] {
            assert_eq!(publishers.of(place(publisher, 1)).unwrap().0, expected);
        }
        assert_eq!(publishers.iter().map(Publisher::id).collect::<Vec<_>>(), [9, 3, 7]);
        assert_eq!(publishers.find(3).unwrap().id(), 3);
        assert!(publishers.find(4).is_none());
    }

    #[test]
    fn marks_move_up_only() {
        let mut publishers = Publishers::default();
        let (_, publisher) = publishers.of(place(1, 5)).unwrap();
        for sequence in [5, 3, 8, 8, 7] {
            publisher.deliver(place(1, sequence));
        }
        publisher.drop(place(1, 4));
        publisher.drop(place(1, 2));
        let sequence = |spot: &Option<Spot>| spot.as_ref().unwrap().sequence;
        assert_eq!(publisher.top, Some(8));
        assert_eq!((sequence(&publisher.delivered), sequence(&publisher.dropped)), (8, 4));
        publisher.list(place(1, 3));
        assert_eq!(publisher.before_delivery().unwrap().sequence, 4);
        publisher.list(place(1, 9));
        assert_eq!((publisher.before_delivery().unwrap().sequence, publisher.top), (9, Some(8)));
    }
}
