//! A resize handler for those who prefer to lose messages rather than memory.

use super::{BookmarkStore, BookmarkStoreResizeHandler};

/// A resize handler that discards the oldest messages of a subscription instead of letting the store grow beyond a size.
///
/// When the size would be exceeded, an eighth of the outstanding messages is discarded, at least one; they do not come again.
/// If that does not succeed, the store grows.
///
/// ```
/// use amps_client::testing::Frame;
/// use amps_client::{BookmarkStore, DiscardOldest, MemoryBookmarkStore};
///
/// # fn main() -> amps_client::Result<()> {
/// let store = MemoryBookmarkStore::new();
/// store.set_resize_handler(Some(Box::new(DiscardOldest::beyond(24 * 1024))));
/// for n in 1..=100_000 {
///     let header = format!(r#"{{"c":"p","sub_id":"orders-1","bm":"17|{n}|"}}"#);
///     store.receive(Frame::parse(header.as_bytes())?.message())?;
/// }
/// assert!(store.outstanding("orders-1") <= 1024);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DiscardOldest {
    bytes: u64,
}

impl DiscardOldest {
    /// Discards instead of growing beyond this size.
    pub fn beyond(bytes: u64) -> DiscardOldest {
        DiscardOldest { bytes }
    }
}

impl BookmarkStoreResizeHandler for DiscardOldest {
    fn on_resize(&self, store: &dyn BookmarkStore, sub_id: &str, bytes: u64) -> bool {
        if bytes > self.bytes {
            for _ in 0..(store.outstanding(sub_id) / 8).max(1) {
                let discarded = store.oldest_seq(sub_id).map(|oldest| store.discard_seq(sub_id, oldest));
                if !matches!(discarded, Some(Ok(()))) {
                    break;
                }
            }
        }
        true
    }
}
