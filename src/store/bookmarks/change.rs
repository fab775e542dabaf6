//! The changes of a subscription, one by one as a file keeps them, and all in one.

use super::place::set;
use super::publishers::Publisher;
use super::{Look, Place, Subscription};
use crate::bookmark::Bookmark;

/// What happens to a subscription.
#[cfg_attr(not(feature = "file-store"), allow(dead_code, reason = "some changes stand in files only"))]
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
}
