//! The changes of a subscription, one by one as a file keeps them, and all in one.

use super::place::set;
use super::publishers::Publisher;
use super::{Look, Place, Spot, Subscription};
use crate::bookmark::Bookmark;

/// What happens to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A message came that is new.
    Received(Place<'a>),
    /// The application is done with a message.
    Discarded(Place<'a>),
    /// Everything up to these places is safe.
    Persisted(&'a [Place<'a>]),
    /// The application starts here.
    Placed(&'a Bookmark),
    /// A recovery point that was kept elsewhere.
    Recovered(&'a Bookmark),
    /// All messages of a publisher up to here are done and let go.
    Passed(Place<'a>),
    /// The highest sequence of a publisher, if it is neither passed nor held.
    Known(Place<'a>),
    /// A place not to go on above, of whose publisher nothing else is known.
    Listed(Place<'a>),
    /// The last of the contiguous run of discarded messages.
    Recent(Place<'a>),
    /// The range.
    Range(&'a Bookmark),
    /// A time to start at.
    Time(&'a Bookmark),
}

impl Subscription {
    /// Makes a change that was made before. One that is made already changes nothing.
    pub(crate) fn apply(&mut self, change: Change<'_>) {
        match change {
            Change::Received(place) => {
                if self.look(place) == Look::Unseen {
                    self.append(place);
                }
            }
            Change::Discarded(place) => {
                if let Look::Outstanding(number) = self.look(place) {
                    self.discard(number);
                }
            }
            Change::Persisted(places) => {
                self.persisted(places);
            }
            Change::Placed(bookmark) => {
                self.placed(bookmark);
            }
            Change::Recovered(point) => self.recover(point),
            Change::Passed(place) => self.of_publisher(place, Publisher::drop),
            Change::Known(place) => self.of_publisher(place, Publisher::know),
            Change::Listed(place) => self.of_publisher(place, Publisher::list),
            Change::Recent(place) => set(&mut self.recent, place),
            Change::Range(range) => self.range = Some(range.clone()),
            Change::Time(time) => self.time = Some(time.clone()),
        }
    }

    fn of_publisher<'p>(&mut self, place: Place<'p>, change: impl FnOnce(&mut Publisher, Place<'p>)) {
        if let Some((_, publisher)) = self.publishers.of(place) {
            change(publisher, place);
        }
    }

    /// The few changes that make a new subscription equal to this one, but for what was only delivered.
    pub(crate) fn snapshot(&self, mut keep: impl FnMut(Change<'_>)) {
        self.range.iter().for_each(|range| keep(Change::Range(range)));
        self.snapshot_publishers(&mut keep);
        self.recent.iter().for_each(|recent| keep(Change::Recent(recent.place())));
        if !self.persisted.is_empty() {
            let places: Vec<Place<'_>> = self.persisted.iter().map(Spot::place).collect();
            keep(Change::Persisted(&places));
        }
        for (entry, tail) in self.entries.iter() {
            let Some(publisher) = self.publishers.at(entry.publisher) else { continue };
            let place = Place { publisher: publisher.id(), sequence: entry.sequence, tail: &tail };
            keep(Change::Received(place));
            if entry.is_discarded {
                keep(Change::Discarded(place));
            }
        }
        // Last, for it goes when something else moves.
        self.time.iter().for_each(|time| keep(Change::Time(time)));
    }

    fn snapshot_publishers(&self, keep: &mut impl FnMut(Change<'_>)) {
        for publisher in self.publishers.iter() {
            if let Some(dropped) = &publisher.dropped {
                keep(Change::Passed(dropped.place()));
            }
            if let Some(listed) = &publisher.listed {
                keep(Change::Listed(listed.place()));
            }
            let held = publisher.held.back().and_then(|number| self.entries.get(*number));
            let dropped = publisher.dropped.as_ref().map(|spot| spot.sequence);
            match publisher.top {
                Some(top) if held.map(|entry| entry.sequence).max(dropped) < Some(top) => {
                    keep(Change::Known(Place { publisher: publisher.id(), sequence: top, tail: b"" }));
                }
                _ => (),
            }
        }
    }
}
