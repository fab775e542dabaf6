//! Publish stores: a file each.

#[cfg(feature = "file-store")]
mod damage;
#[cfg(feature = "file-store")]
mod file;
#[cfg(feature = "file-store")]
mod hybrid;
#[cfg(feature = "file-store")]
mod journal;
mod keeper;
mod memory;
#[cfg(feature = "file-store")]
mod recovery;
mod runs;
#[cfg(feature = "file-store")]
mod volume;

use std::sync::Arc;

#[cfg(feature = "file-store")]
pub use damage::StoreDamage;
#[cfg(feature = "file-store")]
pub use file::{FilePublishStore, FilePublishStoreOptions};
#[cfg(feature = "file-store")]
pub use hybrid::HybridPublishStore;
pub use memory::MemoryPublishStore;

use super::{PublishStore, PublishStoreResizeHandler, StoreEntry, StoreReplayer};
use crate::error::{Error, Result};

/// Implements the trait for a type that holds a publish store.
macro_rules! delegate_publish_store {
    ([$($bounds:tt)*] $type:ty, $self:ident => $store:expr) => {
        impl<$($bounds)*> $crate::store::PublishStore for $type {
            #[inline]
            fn store(&$self, entry: &StoreEntry<'_>) -> Result<u64> {
                $store.store(entry)
            }

            #[inline]
            fn store_then(&$self, entry: &StoreEntry<'_>, then: &mut dyn FnMut(u64)) -> Result<u64> {
                $store.store_then(entry, then)
            }

            fn discard_up_to(&$self, sequence: u64) -> Result<()> {
                $store.discard_up_to(sequence)
            }

            fn replay(&$self, to: &mut dyn StoreReplayer) -> Result<()> {
                $store.replay(to)
            }

            fn replay_single(&$self, to: &mut dyn StoreReplayer, sequence: u64) -> Result<bool> {
                $store.replay_single(to, sequence)
            }

            fn unpersisted_count(&$self) -> usize {
                $store.unpersisted_count()
            }

            fn lowest_unpersisted(&$self) -> Option<u64> {
                $store.lowest_unpersisted()
            }

            fn next_unpersisted(&$self, from: u64) -> Option<u64> {
                $store.next_unpersisted(from)
            }

            fn last_persisted(&$self) -> u64 {
                $store.last_persisted()
            }

            fn flush(&$self, limit: Option<std::time::Duration>) -> Result<()> {
                $store.flush(limit)
            }

            fn set_resize_handler(&$self, handler: Option<Box<dyn PublishStoreResizeHandler>>) {
                $store.set_resize_handler(handler)
            }

            fn set_error_on_publish_gap(&$self, on: bool) {
                $store.set_error_on_publish_gap(on)
            }

            fn error_on_publish_gap(&$self) -> bool {
                $store.error_on_publish_gap()
            }

            fn bind(&$self, client_name: &str) -> Result<()> {
                $store.bind(client_name)
            }

            fn take_damage_reports(&$self) -> Vec<Error> {
                $store.take_damage_reports()
            }
        }
    };
}
use delegate_publish_store;

delegate_publish_store!([S: PublishStore + ?Sized] Arc<S>, self => (**self));
