//! Remembers what was received and what the application is done with, so that a subscription goes on where it stopped.

use std::fmt;

use crate::bookmark::Bookmark;
use crate::error::Result;
use crate::message::Message;
use crate::version::VersionInfo;

/// What became of a message that was shown to a bookmark store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// It is new, and logged under this number; 0 if it is of a kind that is not logged.
    New(u64),
    /// The application was done with it before.
    Duplicate,
}

/// Keeps, for each subscription, which messages came and which the application is done with.
///
/// A message of a bookmark subscription is logged before its handler sees it, and stays outstanding until the application
/// [discards](BookmarkStore::discard) it. After a loss the subscription is placed again with
/// [`most_recent`](BookmarkStore::most_recent), and what was discarded before does not reach the handler twice.
///
/// # Contract
///
/// * State is kept per subscription id; a message without one is an error of kind [`Store`](crate::ErrorKind::Store).
/// * `receive`, `log`, `is_discarded` and `persisted` are called on receive threads, discards on any thread, in any order.
/// * Sequences are compared within one publisher only.
/// * No lock is held while a resize handler or a recovery point adapter is called.
pub trait BookmarkStore: Send + Sync {
    /// Logs a message as outstanding and returns its number, from 1 upward and unique for its subscription in this process;
    /// 0 for a bookmark that is not logged (NOW, EPOCH, or not readable).
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): no subscription id, or it could not be recorded; the message is not delivered then.
    fn log(&self, message: &Message) -> Result<u64>;

    /// True if the application was done with this message before: then it is a duplicate. One that came and was not discarded
    /// is none.
    ///
    /// # Errors
    ///
    /// As for [`log`](BookmarkStore::log).
    fn is_discarded(&self, message: &Message) -> Result<bool>;

    /// Both in one step, which is what a client calls. Default: [`is_discarded`](BookmarkStore::is_discarded), then
    /// [`log`](BookmarkStore::log).
    ///
    /// # Errors
    ///
    /// As for [`log`](BookmarkStore::log).
    fn receive(&self, message: &Message) -> Result<Receipt> {
        if self.is_discarded(message)? { Ok(Receipt::Duplicate) } else { self.log(message).map(Receipt::New) }
    }

    /// The application is done with this message. Again, or with an unknown one, it changes nothing.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): no subscription id, or it could not be recorded. If a recovery point adapter fails,
    /// the discard counts nevertheless.
    fn discard(&self, message: &Message) -> Result<()>;

    /// The same by number.
    ///
    /// # Errors
    ///
    /// As for [`discard`](BookmarkStore::discard).
    fn discard_seq(&self, sub_id: &str, seq: u64) -> Result<()>;

    /// A subscription is placed with this bookmark as its starting point: a bookmark, a list, a time or a range. It counts as
    /// logged, discarded and persisted; NOW and EPOCH are not recorded.
    ///
    /// # Errors
    ///
    /// As for [`log`](BookmarkStore::log).
    fn placed(&self, sub_id: &str, bookmark: &Bookmark) -> Result<()>;

    /// Where a subscription goes on: after the last message of the contiguous run of discarded ones, and not above what is
    /// persisted. EPOCH if nothing is known.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): no subscription id.
    fn most_recent(&self, sub_id: &str) -> Result<Bookmark>;

    /// Everything up to this bookmark is safe on the server and its synchronous replicas. Moves forward only; NOW and ranges
    /// are ignored.
    ///
    /// # Errors
    ///
    /// As for [`log`](BookmarkStore::log).
    fn persisted(&self, sub_id: &str, bookmark: &str) -> Result<()>;

    /// The number of the oldest message that is held.
    fn oldest_seq(&self, sub_id: &str) -> Option<u64>;

    /// Forgets everything, on disk too.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): it could not be recorded.
    fn purge(&self) -> Result<()>;

    /// Forgets one subscription, on disk too.
    ///
    /// # Errors
    ///
    /// As for [`purge`](BookmarkStore::purge).
    fn purge_sub_id(&self, sub_id: &str) -> Result<()>;

    /// Rewrites a file with only what recovery needs. A crash at any moment leaves the old file or the new one.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): the old file stays in use.
    fn prune(&self) -> Result<()>;

    /// The version of the server that the client has logged on to. Default: not needed.
    fn set_server_version(&self, _version: &VersionInfo) {}

    /// Sets who is asked before the store grows. Default: nobody; it grows as needed.
    fn set_resize_handler(&self, handler: Option<Box<dyn BookmarkStoreResizeHandler>>);
}

/// Is asked before a bookmark store grows.
///
/// Runs on the receive thread, without a lock of the store. It may ask the store for its counters, and discard.
pub trait BookmarkStoreResizeHandler: Send + Sync {
    /// The store wants to grow to this size because of this subscription. False refuses: the message is then not delivered,
    /// and a [`Store`](crate::ErrorKind::Store) error is reported.
    fn on_resize(&self, store: &dyn BookmarkStore, sub_id: &str, bytes: u64) -> bool;
}

impl<F: Fn(&dyn BookmarkStore, &str, u64) -> bool + Send + Sync> BookmarkStoreResizeHandler for F {
    fn on_resize(&self, store: &dyn BookmarkStore, sub_id: &str, bytes: u64) -> bool {
        self(store, sub_id, bytes)
    }
}

impl fmt::Debug for dyn BookmarkStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BookmarkStore")
    }
}
