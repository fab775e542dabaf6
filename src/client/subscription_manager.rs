//! Who remembers subscriptions, and what it works with.

use std::fmt;
use std::time::Duration;

use super::Client;
use super::sinks::Sink;
use crate::command::Command;
use crate::error::{Error, Result};
use crate::wire::AckType;

/// Remembers the subscriptions of a client, and places them again after every logon.
///
/// The client enters a subscription before it sends the command, so that a loss in between is made good. `subscribe`,
/// `unsubscribe` and `clear` are called on the thread of the command, which may be a receive thread: they must not block.
/// [`resubscribe`](SubscriptionManager::resubscribe) is called on the thread that logs on or repairs, while all other
/// commands of the client wait; it may take its time. No lock of the client is held.
///
/// An `HAClient` has a [`MemorySubscriptionManager`](crate::MemorySubscriptionManager) unless it is given another; a plain
/// client has none unless it is given one.
pub trait SubscriptionManager: Send + Sync {
    /// Remembers a subscription: its handler or stream, the command with its ids, and the acknowledgements that its user
    /// asked for. Under an id that is remembered the entry is replaced and keeps its handler. Returns the
    /// [generation](SubscriptionManager::generation) as of that moment.
    fn subscribe(&self, handler: &SharedHandler, command: &Command, acks: AckType) -> Generation;

    /// Forgets one subscription, or several in a comma list.
    fn unsubscribe(&self, sub_id: &str);

    /// Forgets everything.
    fn clear(&self);

    /// Places everything again, with [`Client::place_again`].
    ///
    /// # Errors
    ///
    /// An error fails the logon. [`Disconnected`](crate::ErrorKind::Disconnected) if the connection was lost meanwhile.
    fn resubscribe(&self, client: &Client) -> Result<()>;

    /// How many resubscriptions have begun. One that begins takes with it every subscription entered before.
    fn generation(&self) -> Generation;

    /// How long the server may take to accept one subscription. Default: no limit.
    fn set_resubscription_timeout(&self, limit: Option<Duration>);

    /// Sets who decides what becomes of a subscription that a server refuses. Default: nobody; the logon fails.
    fn set_failed_resubscribe_handler(&self, handler: Option<Box<dyn FailedResubscribeHandler>>);
}

/// Counts resubscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(u64);

impl Generation {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(self.0 + 1)
    }
}

/// What is at the end of a subscription: its handler or its stream. Opaque; keeping it keeps that alive.
#[derive(Clone)]
pub struct SharedHandler(pub(crate) Sink);

impl fmt::Debug for SharedHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedHandler").field(&self.0).finish()
    }
}

/// Decides what becomes of a subscription that a server refuses to place again.
///
/// Runs on the thread that repairs the connection, with no lock held. It must not call what waits for an answer. A panic in
/// it fails the attempt and goes to the exception listener.
///
/// ```
/// use amps_client::{AckType, Command, Error, ErrorKind, FailedResubscribeHandler};
///
/// /// Lets go of what the user may not see any more, and tries another server for everything else.
/// fn forget_the_forbidden(_: &Command, _: AckType, error: &Error) -> bool {
///     error.kind() == ErrorKind::NotEntitled
/// }
/// fn takes(_: impl FailedResubscribeHandler) {}
/// takes(forget_the_forbidden);
/// ```
pub trait FailedResubscribeHandler: Send {
    /// True forgets the subscription, and the recovery goes on. False keeps it, and the attempt fails. A loss of the
    /// connection is not reported here.
    fn on_failed_resubscribe(&mut self, command: &Command, acks: AckType, error: &Error) -> bool;
}

impl<F: FnMut(&Command, AckType, &Error) -> bool + Send> FailedResubscribeHandler for F {
    fn on_failed_resubscribe(&mut self, command: &Command, acks: AckType, error: &Error) -> bool {
        self(command, acks, error)
    }
}
