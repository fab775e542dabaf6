//! What a file needs of a subscription: how it is written down, and what a new process makes of it.

use super::{Change, Place, Spot, Subscription};
use crate::bookmark::Bookmark;

impl Subscription {
    /// From here on nothing counts as delivered that is outstanding, for the process it was delivered to is gone (BS-23). Nor
    /// does what was discarded out of turn: to go on there could pass what is outstanding before it.
    pub(crate) fn reopen(&mut self) {
        for publisher in self.publishers.iter_mut() {
            publisher.delivered = publisher.before_delivery().cloned();
        }
    }

    /// Adds a time to start at, for a server that no longer knows the places (BS-27).
    pub(crate) fn start_no_later_than(&mut self, time: &Bookmark) {
        if self.recent.is_some() {
            self.time = Some(time.clone());
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
