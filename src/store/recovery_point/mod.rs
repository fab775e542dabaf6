//! Where the recovery points of a bookmark store are kept outside of it.

mod conflating;
mod record;
mod sow;
mod waiting;

use std::fmt;
use std::sync::Arc;

pub use conflating::{ConflatingRecoveryPointAdapter, ConflatingRecoveryPointAdapterBuilder};
pub use sow::{SowRecoveryPointAdapter, SowRecoveryPointAdapterBuilder};

use crate::bookmark::Bookmark;
use crate::error::Result;

/// Where a subscription goes on after a restart.
///
/// Its [`bookmark`](RecoveryPoint::bookmark) is that of
/// [`BookmarkStore::most_recent`](crate::BookmarkStore::most_recent), without what was only delivered: it names nothing that
/// the application is not done with.
///
/// ```
/// use amps_client::{Bookmark, RecoveryPoint};
///
/// let point = RecoveryPoint::new("orders-1", Bookmark::at(17, 3));
/// assert_eq!((point.sub_id(), point.bookmark()), ("orders-1", Bookmark::at(17, 3)));
/// ```
#[derive(Clone)]
pub struct RecoveryPoint {
    sub_id: Arc<str>,
    bookmark: Value,
}

#[derive(Clone)]
enum Value {
    Fixed(Bookmark),
    Dynamic(Arc<Reader>),
}

/// Reads the recovery point of a subscription.
pub(crate) type Reader = dyn Fn(&str) -> Bookmark + Send + Sync;

impl RecoveryPoint {
    /// A point that stays as it is.
    pub fn new(sub_id: impl Into<Arc<str>>, bookmark: Bookmark) -> RecoveryPoint {
        RecoveryPoint { sub_id: sub_id.into(), bookmark: Value::Fixed(bookmark) }
    }

    /// A point that is read each time it is asked for; the function gets the subscription id.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    ///
    /// use amps_client::{Bookmark, RecoveryPoint};
    ///
    /// let done = Arc::new(AtomicU64::new(3));
    /// let reader = done.clone();
    /// let read = move |_sub_id: &str| Bookmark::at(17, reader.load(Ordering::Relaxed));
    /// let point = RecoveryPoint::dynamic("orders-1", Arc::new(read));
    /// done.store(4, Ordering::Relaxed);
    /// assert_eq!(point.bookmark(), Bookmark::at(17, 4));
    /// ```
    pub fn dynamic(
        sub_id: impl Into<Arc<str>>,
        read: Arc<dyn Fn(&str) -> Bookmark + Send + Sync>,
    ) -> RecoveryPoint {
        RecoveryPoint { sub_id: sub_id.into(), bookmark: Value::Dynamic(read) }
    }

    /// The subscription.
    pub fn sub_id(&self) -> &str {
        &self.sub_id
    }

    /// Where it goes on; [`EPOCH`](Bookmark::EPOCH) if nothing is done yet. A dynamic point takes the lock of its store for
    /// a moment.
    pub fn bookmark(&self) -> Bookmark {
        match &self.bookmark {
            Value::Fixed(bookmark) => bookmark.clone(),
            Value::Dynamic(read) => read(&self.sub_id),
        }
    }
}

impl fmt::Debug for RecoveryPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("RecoveryPoint");
        out.field("sub_id", &self.sub_id);
        match &self.bookmark {
            Value::Fixed(bookmark) => out.field("bookmark", &bookmark).finish(),
            Value::Dynamic(_) => out.finish_non_exhaustive(),
        }
    }
}

/// Which kind of recovery point a bookmark store hands to its adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RecoveryPointFactory {
    /// The value at the moment of the change. The default.
    #[default]
    Fixed,
    /// The value at the moment it is read: cheaper for an adapter that reads only few of its updates, such as a
    /// conflating one.
    Dynamic,
}

/// Keeps the latest recovery point of each subscription outside of a bookmark store: in a database, a file of your own, or
/// a topic of a server.
///
/// # Contract
///
/// * [`recover`](RecoveryPointAdapter::recover) is called once, when the store is made. If the store has a file that knows
///   any subscription, it is not called: the file wins.
/// * The other methods are called by one thread at a time and in order, without a lock of the store: on the thread that has
///   discarded or purged, or on the receive thread. While one runs, what others change is left to the thread that is in it.
///   It may use the store.
/// * A failure undoes nothing. It is returned to who has caused the change, or reported to the
///   [`ExceptionListener`](crate::ExceptionListener) if that was the receive thread.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use amps_client::{
///     Bookmark, BookmarkStore, MemoryBookmarkStore, RecoveryPoint, RecoveryPointAdapter, RecoveryPointFactory, Result,
/// };
///
/// #[derive(Default)]
/// struct Table(Mutex<HashMap<String, String>>);
///
/// impl RecoveryPointAdapter for Table {
///     fn recover(&self) -> Result<Vec<RecoveryPoint>> {
///         let table = self.0.lock().unwrap();
///         let point = |(id, text): (&String, &String)| Ok(RecoveryPoint::new(id.as_str(), text.parse()?));
///         table.iter().map(point).collect()
///     }
///
///     fn update(&self, point: &RecoveryPoint) -> Result<()> {
///         self.0.lock().unwrap().insert(point.sub_id().to_owned(), point.bookmark().into());
///         Ok(())
///     }
///
///     fn purge(&self) -> Result<()> {
///         self.0.lock().unwrap().clear();
///         Ok(())
///     }
///
///     fn purge_sub_id(&self, sub_id: &str) -> Result<()> {
///         self.0.lock().unwrap().remove(sub_id);
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let table = Arc::new(Table::default());
/// let store = MemoryBookmarkStore::with_adapter(table.clone(), RecoveryPointFactory::Fixed)?;
/// store.placed("orders-1", &Bookmark::at(17, 3))?;
/// drop(store);
///
/// let store = MemoryBookmarkStore::with_adapter(table, RecoveryPointFactory::Fixed)?;
/// assert_eq!(store.most_recent("orders-1")?, Bookmark::at(17, 3));
/// # Ok(())
/// # }
/// ```
pub trait RecoveryPointAdapter: Send + Sync {
    /// The latest point of every subscription. A point of EPOCH may be left out.
    ///
    /// # Errors
    ///
    /// Whatever keeps them from being read; the store is not made then.
    fn recover(&self) -> Result<Vec<RecoveryPoint>>;

    /// The recovery point of a subscription has moved.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store), or whatever keeps it from being kept. The next update may succeed.
    fn update(&self, point: &RecoveryPoint) -> Result<()>;

    /// Forgets everything.
    ///
    /// # Errors
    ///
    /// As for [`update`](RecoveryPointAdapter::update).
    fn purge(&self) -> Result<()>;

    /// Forgets one subscription.
    ///
    /// # Errors
    ///
    /// As for [`update`](RecoveryPointAdapter::update).
    fn purge_sub_id(&self, sub_id: &str) -> Result<()>;

    /// Throws away what is not needed any more; called when the store is pruned. Default: nothing to do.
    ///
    /// # Errors
    ///
    /// As for [`update`](RecoveryPointAdapter::update).
    fn prune(&self) -> Result<()> {
        Ok(())
    }

    /// The store is gone: passes on what is still held back. Default: nothing to do.
    ///
    /// # Errors
    ///
    /// As for [`update`](RecoveryPointAdapter::update); it is logged.
    fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl<A: RecoveryPointAdapter + ?Sized> RecoveryPointAdapter for Arc<A> {
    fn recover(&self) -> Result<Vec<RecoveryPoint>> {
        (**self).recover()
    }

    fn update(&self, point: &RecoveryPoint) -> Result<()> {
        (**self).update(point)
    }

    fn purge(&self) -> Result<()> {
        (**self).purge()
    }

    fn purge_sub_id(&self, sub_id: &str) -> Result<()> {
        (**self).purge_sub_id(sub_id)
    }

    fn prune(&self) -> Result<()> {
        (**self).prune()
    }

    fn close(&self) -> Result<()> {
        (**self).close()
    }
}

impl fmt::Debug for dyn RecoveryPointAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryPointAdapter")
    }
}
