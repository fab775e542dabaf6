//! Remembers what was published until it is safe to forget.
//!
//! A publish store takes every message before it is sent and gives it a sequence number; the server acknowledges numbers,
//! and the store forgets. What is left after a loss is sent again, in order, with its old numbers, and a server drops what
//! it has already.

mod bookmark;
mod bookmarks;
mod content;
#[cfg(feature = "file-store")]
mod disk;
mod entry;
#[cfg(feature = "file-store")]
mod header;
#[cfg(feature = "file-store")]
mod layout;
#[cfg(feature = "file-store")]
mod mapped;
mod publish;
mod recovery_point;
#[cfg(feature = "file-store")]
mod scan;
mod sequence;
#[cfg(feature = "file-store")]
mod sum;

use std::time::Duration;

pub use bookmark::{BookmarkStore, BookmarkStoreResizeHandler, DiscardOldest, MemoryBookmarkStore, Receipt};
#[cfg(feature = "file-store")]
pub use bookmark::{LoggedBookmarkStore, LoggedBookmarkStoreOptions, RingBookmarkStore};
pub(crate) use entry::Sendable;
pub use entry::{Selector, StoreEntry};
pub use publish::MemoryPublishStore;
#[cfg(feature = "file-store")]
pub use publish::{FilePublishStore, FilePublishStoreOptions, HybridPublishStore, StoreDamage};
pub use recovery_point::{
    ConflatingRecoveryPointAdapter, ConflatingRecoveryPointAdapterBuilder, RecoveryPoint,
    RecoveryPointAdapter, RecoveryPointFactory, SowRecoveryPointAdapter, SowRecoveryPointAdapterBuilder,
};

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
///
/// An `Arc` of a store is a store too: keep a clone to ask for the counters of a store that a client has.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use amps_client::{CommandType, MemoryPublishStore, PublishStore, Selector, StoreEntry};
///
/// # fn main() -> amps_client::Result<()> {
/// let store: Arc<dyn PublishStore> = Arc::new(MemoryPublishStore::new());
/// let number = store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"{}")))?;
/// assert_eq!(store.lowest_unpersisted(), Some(number));
/// assert!(store.flush(Some(Duration::from_millis(1))).is_err());
///
/// // What a client does when the server acknowledges.
/// store.discard_up_to(number)?;
/// store.flush(None)?;
/// assert_eq!((store.unpersisted_count(), store.last_persisted()), (0, number));
/// # Ok(())
/// # }
/// ```
pub trait PublishStore: Send + Sync {
    /// Keeps a message and returns its sequence number. Waits for room if a resize handler refuses to grow and the
    /// [entry](StoreEntry::may_wait) allows it.
    ///
    /// # Errors
    ///
    /// * [`Store`](crate::ErrorKind::Store): it cannot be kept, or would have to wait where nothing may. The store stays
    ///   usable, and what it held is kept.
    /// * [`Command`](crate::ErrorKind::Command): it is larger than any message may be.
    fn store(&self, entry: &StoreEntry<'_>) -> Result<u64>;

    /// Keeps a message as [`store`](PublishStore::store) does, and tells its number to `then`, once. A client stores with
    /// this, and sends the message in `then`.
    ///
    /// A store that can does so in the order of the numbers, also if several threads publish, because messages leave in that
    /// order: it may call `then` with its lock held, for `then` does not use the store. Once `then` was called the store is to
    /// return: until it does, nothing leaves the client, so it must neither wait nor use a client.
    ///
    /// ```
    /// use amps_client::{CommandType, MemoryPublishStore, PublishStore, Selector, StoreEntry};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let store = MemoryPublishStore::new();
    /// let entry = StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"{}"));
    /// let mut sent = Vec::new();
    /// let number = store.store_then(&entry, &mut |number| sent.push(number))?;
    /// assert_eq!(sent, [number]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`store`](PublishStore::store); `then` is not called if there is one.
    fn store_then(&self, entry: &StoreEntry<'_>, then: &mut dyn FnMut(u64)) -> Result<u64> {
        let sequence = self.store(entry)?;
        then(sequence);
        Ok(sequence)
    }

    /// Forgets everything up to and including this number, and wakes who flushes. A number below what is discarded already
    /// changes nothing. 0 means that the server has no history.
    ///
    /// # Errors
    ///
    /// * [`PublishStoreGap`](crate::ErrorKind::PublishStoreGap): the number is below
    ///   [`last_persisted`](PublishStore::last_persisted) and gaps are errors. A store without history never has a gap.
    /// * [`Store`](crate::ErrorKind::Store): the discard could not be recorded.
    fn discard_up_to(&self, sequence: u64) -> Result<()>;

    /// Hands out everything that is kept, lowest number first. What is stored meanwhile may or may not be included, and so
    /// may what is discarded meanwhile.
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

    /// The lowest number from this one on that is kept. Numbers have gaps where a restart has left some out; the provided
    /// method does not see them, and each number in such a gap is then asked for.
    fn next_unpersisted(&self, from: u64) -> Option<u64> {
        self.lowest_unpersisted().map(|lowest| lowest.max(from))
    }

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

/// Takes the messages that a store hands out. Any closure with these arguments is one.
///
/// Called on the thread that asked for the replay, without a lock of the store, which it may use.
///
/// ```
/// use amps_client::{CommandType, MemoryPublishStore, PublishStore, Result, Selector, StoreEntry, StoreReplayer};
///
/// /// Counts what would be sent again.
/// #[derive(Default)]
/// struct Backlog {
///     messages: usize,
///     bytes: usize,
/// }
///
/// impl StoreReplayer for Backlog {
///     fn replay(&mut self, _sequence: u64, entry: &StoreEntry<'_>) -> Result<()> {
///         self.messages += 1;
///         if let Selector::Data(data) = entry.selector {
///             self.bytes += data.len();
///         }
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let store = MemoryPublishStore::new();
/// store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"12345")))?;
/// let mut backlog = Backlog::default();
/// store.replay(&mut backlog)?;
/// assert_eq!((backlog.messages, backlog.bytes), (1, 5));
/// # Ok(())
/// # }
/// ```
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

/// Is asked before a publish store grows. Any closure with these arguments is one.
///
/// Runs on the publishing thread, without a lock of the store, and possibly on several threads at once. It may ask the store
/// for its counters, flush it and discard from it. On the receive thread it must not wait without a limit, because nothing is
/// acknowledged meanwhile. If it panics, so does the call that wanted room, and nothing is stored.
///
/// One that always refuses makes the publisher wait until the server has acknowledged enough, and so bounds the store:
///
/// ```
/// use amps_client::{MemoryPublishStore, PublishStore, PublishStoreResizeHandler};
///
/// struct Limit(u64);
///
/// impl PublishStoreResizeHandler for Limit {
///     fn on_resize(&self, store: &dyn PublishStore, bytes: u64) -> bool {
///         if bytes > self.0 {
///             eprintln!("the server owes us {} acknowledgements", store.unpersisted_count());
///         }
///         bytes <= self.0
///     }
/// }
///
/// let store = MemoryPublishStore::new();
/// store.set_resize_handler(Some(Box::new(Limit(1 << 30))));
/// ```
pub trait PublishStoreResizeHandler: Send + Sync {
    /// The store wants to grow to this size. False refuses: the publisher then waits for room, and asks again after 100 ms
    /// at the latest; where nothing may wait, as on the receive thread, its call fails with
    /// [`Store`](crate::ErrorKind::Store).
    fn on_resize(&self, store: &dyn PublishStore, bytes: u64) -> bool;
}

impl<F: Fn(&dyn PublishStore, u64) -> bool + Send + Sync> PublishStoreResizeHandler for F {
    fn on_resize(&self, store: &dyn PublishStore, bytes: u64) -> bool {
        self(store, bytes)
    }
}
