//! The stores that recorded clients have, by the names they are recorded under.

use std::sync::Arc;

use amps_client::{BookmarkStore, MemoryBookmarkStore, MemoryPublishStore, PublishStore, Result};
#[cfg(feature = "file-store")]
use amps_client::{FilePublishStore, LoggedBookmarkStore};

use crate::support::TempDir;

/// Where the stores of one line are; a later client of the line finds what an earlier one has left.
pub(crate) struct Stores {
    #[cfg_attr(not(feature = "file-store"), expect(dead_code))]
    dir: TempDir,
}

impl Stores {
    pub(crate) fn new() -> Stores {
        Stores { dir: TempDir::new() }
    }

    /// The publish store of this kind; `Err` names what the library does not have.
    pub(crate) fn publish(&self, kind: &str) -> Result<Option<Arc<dyn PublishStore>>, String> {
        match kind {
            "none" => Ok(None),
            "memory" => Ok(Some(Arc::new(MemoryPublishStore::new()))),
            #[cfg(feature = "file-store")]
            "file" => {
                opened(FilePublishStore::open(self.dir.join("publishes"))).map(|store| Some(store as _))
            }
            other => Err(format!("no {other} publish store")),
        }
    }

    /// The same for bookmark stores.
    pub(crate) fn bookmark(&self, kind: &str) -> Result<Option<Arc<dyn BookmarkStore>>, String> {
        match kind {
            "none" => Ok(None),
            "memory" => Ok(Some(Arc::new(MemoryBookmarkStore::new()))),
            #[cfg(feature = "file-store")]
            "file" => {
                opened(LoggedBookmarkStore::open(self.dir.join("bookmarks"))).map(|store| Some(store as _))
            }
            other => Err(format!("no {other} bookmark store")),
        }
    }
}

/// A store in a directory of our own, where nothing keeps it from being opened.
#[cfg(feature = "file-store")]
fn opened<S>(store: Result<S>) -> Result<Arc<S>, String> {
    Ok(Arc::new(store.expect("a store of its own")))
}
