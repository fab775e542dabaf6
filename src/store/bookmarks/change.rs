//! The changes of a subscription, as a file keeps them.

use super::{Look, Place, Subscription};
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
            Change::Recovered(point) => {
                self.start_at(point);
            }
        }
    }
}
