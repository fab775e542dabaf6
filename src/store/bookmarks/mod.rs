//! The rules of bookmark stores: what of a subscription was seen, what is done, and where it goes on.
//!
//! ```text
//!  the log of a server   A1  B1  A2  A3  B2  A4  ...
//!  discarded              ●   ●   ○   ●   ○
//!                             ▲ recent: the last of those before the first outstanding one
//! ```
//!
//! A place that is not above the highest known of its publisher is either held, and then outstanding or discarded, or it
//! was discarded before. So the messages that are held are all there is to remember one by one. A message that comes again
//! while it is outstanding keeps its number and its turn, so that nothing before it is ever taken for done.

mod change;
mod entries;
mod place;
mod publishers;
#[cfg(feature = "file-store")]
mod restart;
mod subscriptions;
#[cfg(all(test, feature = "file-store"))]
mod vectors;

use std::ops::Bound;

pub(crate) use change::Change;
use entries::Entries;
pub(crate) use place::{Place, PlaceReader, Spot};
use place::{members, set};
use publishers::{Publisher, Publishers};
pub(crate) use subscriptions::{Subscriptions, Tracked};

use crate::bookmark::{Bookmark, BookmarkKind};

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    entries: Entries,
    publishers: Publishers,
    /// The last of the contiguous run of discarded messages.
    recent: Option<Spot>,
    /// What the server has made safe; several places if the application has named a list.
    persisted: Vec<Spot>,
    range: Option<Bookmark>,
    /// A time to start at, until something better is known.
    time: Option<Bookmark>,
    /// Where the tail of a message goes that is let go.
    tail: Vec<u8>,
}

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing: it is new.
    Unseen,
    /// It came before, under this number, and the application is not done with it.
    Outstanding(u64),
    /// The application is done with it.
    Discarded,
}

impl Subscription {
    /// A subscription of which nothing is known; its first message will have this number.
    pub(crate) fn starting_at(first: u64) -> Subscription {
        Subscription {
            entries: Entries::starting_at(first),
            publishers: Publishers::default(),
            recent: None,
            persisted: Vec::new(),
            range: None,
            time: None,
            tail: Vec::new(),
        }
    }

    /// What is known of the message with this place (BS-11).
    #[inline]
    pub(crate) fn look(&self, place: Place<'_>) -> Look {
        let Some(publisher) = self.publishers.find(place.publisher) else { return Look::Unseen };
        if Some(place.sequence) > publisher.top {
            return Look::Unseen;
        }
        let sequence_of = |number: &u64| self.entries.get(*number).map(|entry| entry.sequence);
        let index = publisher.held.binary_search_by_key(&Some(place.sequence), sequence_of);
        let number = index.ok().and_then(|index| publisher.held.get(index));
        let held = number.and_then(|number| Some((*number, self.entries.get(*number)?)));
        match held {
            Some((number, entry)) if !entry.is_discarded => Look::Outstanding(number),
            _ => Look::Discarded,
        }
    }

    /// Logs a message that [is new](Look::Unseen) and returns its number (BS-9).
    #[inline]
    pub(crate) fn append(&mut self, place: Place<'_>) -> u64 {
        let Some((slot, publisher)) = self.publishers.of(place) else { return 0 };
        publisher.deliver(place);
        publisher.held.push_back(self.entries.next());
        self.entries.push(slot, place.sequence, place.tail)
    }

    /// A message that is outstanding is delivered again.
    pub(crate) fn deliver_again(&mut self, place: Place<'_>) {
        if let Some((_, publisher)) = self.publishers.of(place) {
            publisher.deliver(place);
        }
    }

    /// The place of an outstanding message, without its tail.
    #[inline]
    pub(crate) fn outstanding_at(&self, number: u64) -> Option<Place<'static>> {
        let entry = self.entries.get(number).filter(|entry| !entry.is_discarded)?;
        let publisher = self.publishers.at(entry.publisher)?.id();
        Some(Place { publisher, sequence: entry.sequence, tail: b"" })
    }

    /// The application is done with the message of this number. True if that moves the recovery point (BS-10).
    #[inline]
    pub(crate) fn discard(&mut self, number: u64) -> bool {
        self.entries.mark(number) && self.let_go()
    }

    /// Lets go of the discarded messages before the first outstanding one. True if there are any.
    #[inline]
    fn let_go(&mut self) -> bool {
        let mut moved = false;
        while let Some(entry) = self.entries.pop_discarded(&mut self.tail) {
            let Some(publisher) = self.publishers.at_mut(entry.publisher) else { continue };
            publisher.held.pop_front();
            let place =
                Place { publisher: publisher.id(), sequence: entry.sequence, tail: self.tail.as_slice() };
            publisher.drop(place);
            set(&mut self.recent, place);
            moved = true;
        }
        if moved {
            self.time = None;
        }
        moved
    }

    /// The application starts the subscription here (BS-5, BS-6). True if that moves the recovery point.
    pub(crate) fn placed(&mut self, bookmark: &Bookmark) -> bool {
        let persisted: Vec<Place<'_>> = Place::all_in(bookmark).collect();
        self.persisted(&persisted) | self.start_at(bookmark)
    }

    /// A recovery point that was kept elsewhere (BS-31). Its first place counts as done. What else it lists is where to go on
    /// from: it may be ahead of the first, and what lies between was not done.
    pub(crate) fn recover(&mut self, point: &Bookmark) {
        let mut places = Place::all_in(point);
        match places.next() {
            Some(first) => self.finish(first),
            None => {
                self.start_at(point);
            }
        }
        for place in places {
            if let Some((_, publisher)) = self.publishers.of(place) {
                publisher.list(place);
            }
        }
        self.start_at_time_in(point);
    }

    /// True if that says anything.
    fn start_at(&mut self, bookmark: &Bookmark) -> bool {
        if let BookmarkKind::Range { start, .. } = bookmark.kind() {
            return self.start_range(bookmark, start);
        }
        let was_range = self.range.take().is_some();
        let known = Place::all_in(bookmark).fold(false, |_, place| {
            self.finish(place);
            true
        });
        self.start_at_time_in(bookmark) || was_range || known
    }

    fn start_at_time_in(&mut self, bookmark: &Bookmark) -> bool {
        let is_time = |member: &&Bookmark| matches!(member.kind(), BookmarkKind::Time(_));
        let time = members(bookmark).iter().find(is_time);
        if time.is_some() {
            self.time = time.cloned();
        }
        time.is_some()
    }

    /// Another range than before starts from its beginning; what was done stays done.
    fn start_range(&mut self, range: &Bookmark, start: &Bound<Box<Bookmark>>) -> bool {
        if self.range.as_ref() == Some(range) {
            return false;
        }
        self.recent = None;
        self.persisted.clear();
        self.time = None;
        self.publishers.iter_mut().for_each(Publisher::start_anew);
        if let Bound::Excluded(start) = start {
            Place::all_in(start).for_each(|place| self.finish(place));
        }
        self.range = Some(range.clone());
        true
    }

    /// Counts a place as come and done.
    fn finish(&mut self, place: Place<'_>) {
        match self.look(place) {
            Look::Unseen => {
                let number = self.append(place);
                self.discard(number);
            }
            Look::Outstanding(number) => {
                self.discard(number);
            }
            Look::Discarded if self.entries.is_empty() => {
                self.deliver_again(place);
                set(&mut self.recent, place);
            }
            Look::Discarded => (),
        }
    }

    /// Everything up to these places is safe. True if that is news (BS-12).
    pub(crate) fn persisted(&mut self, places: &[Place<'_>]) -> bool {
        if !self.is_news(places) {
            return false;
        }
        let raised =
            |place: &Place<'_>| self.persisted_above(*place).cloned().unwrap_or_else(|| Spot::of(*place));
        self.persisted = places.iter().map(raised).collect();
        self.time = None;
        true
    }

    /// Whether any of these places is not known to be persisted.
    pub(crate) fn is_news(&self, places: &[Place<'_>]) -> bool {
        places.iter().any(|place| self.persisted_above(*place).is_none())
    }

    /// What is persisted of a publisher, if that includes this place.
    fn persisted_above(&self, place: Place<'_>) -> Option<&Spot> {
        let spot = self.persisted.iter().find(|spot| spot.publisher == place.publisher);
        spot.filter(|spot| spot.sequence >= place.sequence)
    }

    /// Where the subscription goes on (BS-13).
    pub(crate) fn most_recent(&self) -> Bookmark {
        let delivered = self.publishers.iter().filter_map(|publisher| publisher.delivered.as_ref());
        self.point(delivered)
    }

    /// The same for a new process, which has delivered nothing yet: without the list of what was delivered (BS-29).
    pub(crate) fn recovery_point(&self) -> Bookmark {
        let is_other =
            |spot: &&Spot| self.recent.as_ref().is_some_and(|recent| recent.publisher != spot.publisher);
        let listed = self.publishers.iter().filter(|publisher| publisher.listed.is_some());
        let others = listed.filter_map(Publisher::before_delivery).filter(is_other);
        self.point(self.recent.iter().chain(others))
    }

    /// BS-13, with what holds as long as nothing is known to be persisted.
    fn point<'a>(&'a self, unpersisted: impl Iterator<Item = &'a Spot>) -> Bookmark {
        let not_above = |spot: &'a Spot| self.recent.as_ref().map_or(spot, |recent| spot.or_lower(recent));
        let places: Vec<&Spot> = match (self.persisted.as_slice(), &self.recent) {
            ([], _) => unpersisted.map(not_above).collect(),
            (persisted, _) if self.entries.is_empty() => persisted.iter().collect(),
            (_, None) => Vec::new(),
            (persisted, Some(recent)) => {
                let other = persisted.iter().all(|spot| spot.publisher != recent.publisher);
                other.then_some(recent).into_iter().chain(persisted.iter().map(not_above)).collect()
            }
        };
        let places = places.into_iter().map(Spot::bookmark).chain(self.time.clone());
        let point = Bookmark::list(places).unwrap_or(Bookmark::EPOCH);
        self.range.as_ref().map_or_else(|| point.clone(), |range| range.resumed_after(&point))
    }

    /// The number of the oldest message that is held.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.entries.oldest()
    }

    /// The number that the next message will have.
    pub(crate) fn next_number(&self) -> u64 {
        self.entries.next()
    }

    /// How many messages the application is not done with.
    pub(crate) fn outstanding(&self) -> usize {
        self.entries.outstanding()
    }

    /// How many bytes the messages will take when the next one needs more room; `None` while there is room.
    #[inline]
    pub(crate) fn growth(&self) -> Option<u64> {
        self.entries.growth()
    }

    /// Makes the room that [`growth`](Subscription::growth) speaks of, if any. False if there is no memory for it.
    pub(crate) fn grow(&mut self) -> bool {
        self.entries.grow()
    }
}
