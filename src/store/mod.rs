//! Remembers what was published until it is safe to forget.
//!
//! A publish store takes every message before it is sent and gives it a sequence number; the server acknowledges numbers,
//! and the store forgets. What is left after a loss is sent again, in order, with its old numbers, and a server drops what
//! it has already.

mod bookmark;
mod entry;
mod number;
mod publish;
mod sequence;

use std::time::Duration;

pub use bookmark::{BookmarkStore, BookmarkStoreResizeHandler, Receipt};
pub use entry::{Selector, StoreEntry};
pub(crate) use number::Number;
pub use publish::MemoryPublishStore;

use crate::error::{Error, Result};

/// Keeps published messages until the server has made them durable.
///
/// # Contract
///
/// * Sequence numbers grow by one per stored message and are never used twice, also over restarts of a durable store. A
///   store without history starts at the milliseconds since 1970 times 1,000,000, plus one; the next number is always above
///   the last assigned, the last persisted and the number given to [`discard_up_to`](PublishStore::discard_up_to).
/// * What [`store`](PublishStore::store) has returned a number for is kept until it is discarded.
/// * A store may be called from any thread, and from inside a [`StoreReplayer`] and a resize handler for its counters. It
///   holds no lock while it calls either.
/// * Nothing but `store` and [`flush`](PublishStore::flush) ever waits.
pub trait PublishStore: Send + Sync {
    /// Keeps a message and returns its sequence number. Waits for room if a resize handler refuses to grow and the
    /// [entry](StoreEntry::may_wait) allows it.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): it cannot be kept, or would have to wait where nothing may. The store stays
    /// usable, and what it held is kept.
    fn store(&self, entry: &StoreEntry<'_>) -> Result<u64>;

    /// Forgets everything up to and including this number, and wakes who flushes. A number below what is discarded already
    /// changes nothing. 0 means that the server has no history.
    ///
    /// # Errors
    ///
    /// * [`PublishStoreGap`](crate::ErrorKind::PublishStoreGap): the number is below
    ///   [`last_persisted`](PublishStore::last_persisted) and gaps are errors. A store without history never has a gap.
    /// * [`Store`](crate::ErrorKind::Store): the discard could not be recorded.
    fn discard_up_to(&self, sequence: u64) -> Result<()>;

    /// Hands out everything that is kept, lowest number first. What is stored meanwhile may or may not be included.
    ///
    /// # Errors
    ///
    /// The replayer's own, which ends the replay, or [`Store`](crate::ErrorKind::Store).
    fn replay(&self, to: &mut dyn StoreReplayer) -> Result<()>;

    /// Hands out one message. False if it is not kept (any more).
    ///
    /// # Errors
    ///
    /// As for [`replay`](PublishStore::replay).
    fn replay_single(&self, to: &mut dyn StoreReplayer, sequence: u64) -> Result<bool>;

    /// How many messages are kept.
    fn unpersisted_count(&self) -> usize;

    /// The lowest number that is kept.
    fn lowest_unpersisted(&self) -> Option<u64>;

    /// The highest number that was discarded; 0 if nothing ever was. After a [discard](PublishStore::discard_up_to) up to 0
    /// it is at least the number before the first.
    fn last_persisted(&self) -> u64;

    /// Waits until everything that is kept now is discarded, for at most `limit`. Returns at once if nothing is kept; what
    /// is stored later does not prolong the wait.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut).
    fn flush(&self, limit: Option<Duration>) -> Result<()>;

    /// Sets who is asked before the store grows. Default: nobody; it grows as needed.
    fn set_resize_handler(&self, handler: Option<Box<dyn PublishStoreResizeHandler>>);

    /// Whether a server that has seen less than was discarded fails the logon. Default: no.
    fn set_error_on_publish_gap(&self, on: bool);

    /// What [`set_error_on_publish_gap`](PublishStore::set_error_on_publish_gap) was set to.
    fn error_on_publish_gap(&self) -> bool;

    /// Ties the store to a client name. A client does so when it is built; a store that outlives the process remembers
    /// the name, because the numbers in it mean nothing to a server under another one. Default: any name will do.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): it belongs to another name, or the name could not be recorded.
    fn bind(&self, _client_name: &str) -> Result<()> {
        Ok(())
    }

    /// What was found damaged and is therefore not handed out, each time told once. A client gives it to the exception
    /// listener at its next logon. Default: nothing ever is.
    fn take_damage_reports(&self) -> Vec<Error> {
        Vec::new()
    }
}

/// Takes the messages that a store hands out.
pub trait StoreReplayer {
    /// The message with this number.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being taken; the replay ends with it.
    fn replay(&mut self, sequence: u64, entry: &StoreEntry<'_>) -> Result<()>;
}

impl<F: FnMut(u64, &StoreEntry<'_>) -> Result<()>> StoreReplayer for F {
    fn replay(&mut self, sequence: u64, entry: &StoreEntry<'_>) -> Result<()> {
        self(sequence, entry)
    }
}

/// Is asked before a publish store grows.
///
/// Runs on the publishing thread, without a lock of the store. It may ask the store for its counters and flush it.
pub trait PublishStoreResizeHandler: Send + Sync {
    /// The store wants to grow to this size. False refuses: the publisher then waits for room and asks again.
    fn on_resize(&self, store: &dyn PublishStore, bytes: u64) -> bool;
}

impl<F: Fn(&dyn PublishStore, u64) -> bool + Send + Sync> PublishStoreResizeHandler for F {
    fn on_resize(&self, store: &dyn PublishStore, bytes: u64) -> bool {
        self(store, bytes)
    }
}
