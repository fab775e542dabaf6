//! A bookmark store in memory.

use super::super::bookmarks::Subscriptions;
use super::super::recovery_point::{RecoveryPointAdapter, RecoveryPointFactory};
use super::delegate_bookmark_store;
use super::keeper::{Journal, Keeper};
use crate::error::Result;

/// A bookmark store in memory: it serves a reconnect and a failover, but does not survive the process.
///
/// With a [`RecoveryPointAdapter`] the recovery points survive: a subscription then goes on after the contiguous run of
/// discarded messages, and what was discarded beyond it comes again.
///
/// An outstanding message takes 24 bytes. Taking or discarding one takes some tens of nanoseconds, any thread may do it, and
/// nothing is allocated for it once the store has run for a while. Share a store with its client by giving that a clone of
/// an [`Arc`](std::sync::Arc) of it.
///
/// ```
/// use amps_client::testing::Frame;
/// use amps_client::{BookmarkStore, MemoryBookmarkStore, Receipt};
///
/// # fn main() -> amps_client::Result<()> {
/// let store = MemoryBookmarkStore::new();
/// let first = Frame::parse(br#"{"c":"p","sub_id":"orders-1","bm":"17|1|"}{"id":1}"#)?;
/// let second = Frame::parse(br#"{"c":"p","sub_id":"orders-1","bm":"17|2|"}{"id":2}"#)?;
/// assert_eq!(store.receive(first.message())?, Receipt::New(1)); // a client does this before it calls the handler
/// assert_eq!(store.receive(second.message())?, Receipt::New(2));
///
/// store.discard(first.message())?; // the application does this when it is done
/// assert_eq!(store.receive(first.message())?, Receipt::Duplicate);
/// assert_eq!(store.receive(second.message())?, Receipt::New(2));
/// assert_eq!(store.most_recent("orders-1")?.as_str(), "17|1|");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryBookmarkStore {
    keeper: Keeper<Unwritten>,
}

/// Nothing is written anywhere.
struct Unwritten;

impl Journal for Unwritten {}

impl MemoryBookmarkStore {
    /// An empty store.
    ///
    /// It grows as long as there is memory, unless a [resize handler](crate::BookmarkStoreResizeHandler) refuses. The
    /// handler is asked whenever the messages of a subscription that are held, from the oldest outstanding one on, take
    /// twice the memory of before; the first 256 of a subscription always have room.
    pub fn new() -> MemoryBookmarkStore {
        MemoryBookmarkStore { keeper: Keeper::new(Unwritten, Subscriptions::default()) }
    }

    /// A store that starts with the recovery points of this adapter, and tells it when they move. Waits for the adapter.
    ///
    /// The example is at [`RecoveryPointAdapter`].
    ///
    /// # Errors
    ///
    /// That of the adapter; [`Store`](crate::ErrorKind::Store) if one of its points has no subscription id.
    pub fn with_adapter(
        adapter: impl RecoveryPointAdapter + 'static,
        points: RecoveryPointFactory,
    ) -> Result<MemoryBookmarkStore> {
        let keeper = MemoryBookmarkStore::new().keeper.with_adapter(Box::new(adapter), points)?;
        Ok(MemoryBookmarkStore { keeper })
    }
}

impl Default for MemoryBookmarkStore {
    fn default() -> MemoryBookmarkStore {
        MemoryBookmarkStore::new()
    }
}

delegate_bookmark_store!([] MemoryBookmarkStore, self => self.keeper);
