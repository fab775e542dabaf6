//! A bookmark store whose file holds nothing but recovery points.

mod file;
mod mark;

use std::fmt;
use std::path::Path;

use file::RingFile;
use mark::{MAX_ID, MAX_POINT};

use super::super::bookmarks::{Change, Subscription, Subscriptions};
use super::super::disk::refusal;
use super::delegate_bookmark_store;
use super::keeper::{Journal, Keeper};
use crate::bookmark::Bookmark;
use crate::error::{Error, ErrorKind, Result};

/// A bookmark store whose file holds the recovery point of each subscription and nothing else: it is small, and never grows
/// with the messages. For an application that discards in order.
///
/// After a restart a subscription goes on after the contiguous run of discarded messages, and not above what is persisted.
/// What was discarded beyond that comes again. (A [`LoggedBookmarkStore`](crate::LoggedBookmarkStore) remembers it.)
///
/// The last three recovery points of a subscription take turns in the file, so that one is always complete, however the
/// process ends. Surviving the loss of power is another matter: [`sync`](RingBookmarkStore::sync) forces everything onto the
/// device. A subscription id has at most 244 bytes, and the text of a recovery point at most 260: six places, or a range. A
/// longer id is refused before its first message; a longer recovery point fails the discard that makes it, which counts
/// nevertheless, and the file keeps the one before. A subscription takes 1056 bytes of the file, which begins with room for
/// 32, and doubles.
///
/// The file is locked as long as the store exists; a second opening fails. Other programs must not write to it meanwhile,
/// nor shorten it: it is mapped into memory.
///
/// ```
/// use amps_client::testing::Frame;
/// use amps_client::{BookmarkStore, Receipt, RingBookmarkStore};
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-ring-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("desk.ring");
/// let store = RingBookmarkStore::open(&path)?;
/// let first = Frame::parse(br#"{"c":"p","sub_id":"orders-1","bm":"17|1|"}{"id":1}"#)?;
/// let second = Frame::parse(br#"{"c":"p","sub_id":"orders-1","bm":"17|2|"}{"id":2}"#)?;
/// store.receive(first.message())?; // a client does this before it calls the handler
/// store.receive(second.message())?;
/// store.discard(first.message())?; // the application does this when it is done
/// drop(store);
///
/// let store = RingBookmarkStore::open(&path)?;
/// assert_eq!(store.most_recent("orders-1")?.as_str(), "17|1|");
/// assert_eq!(store.receive(first.message())?, Receipt::Duplicate);
/// # drop(store);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
pub struct RingBookmarkStore {
    keeper: Keeper<Ring>,
}

impl RingBookmarkStore {
    /// Opens the store in this file, or makes it if the file does not exist or is empty. Never waits for another process.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store): the file is no bookmark store of this kind, or one of another format; it is cut off or
    /// damaged; it is in use; or the system refuses to open, lock, or map it. The file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<RingBookmarkStore> {
        let file = RingFile::open(path.as_ref())?;
        let mut subscriptions = Subscriptions::default();
        let mut ring = Ring { file, entries: Vec::new(), free: Vec::new() };
        for entry in 0..ring.file.entries() {
            match ring.file.read(entry)? {
                Some(found) => ring.recover(entry, &found, &mut subscriptions)?,
                None => ring.free.push(entry),
            }
        }
        ring.free.reverse();
        Ok(RingBookmarkStore { keeper: Keeper::new(ring, subscriptions) })
    }

    /// Waits until every recovery point is on the device, so that it survives the loss of power. Takes as long as the device
    /// does, mostly some milliseconds; those who use the store wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store): the device could not take it.
    pub fn sync(&self) -> Result<()> {
        self.keeper.with_journal(|ring| ring.file.sync())
    }
}

delegate_bookmark_store!([] RingBookmarkStore, self => self.keeper);

impl fmt::Debug for RingBookmarkStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.keeper.with_journal(|ring| ring.file.path().to_owned());
        f.debug_struct("RingBookmarkStore")
            .field("path", &path)
            .field("outstanding", &self.keeper)
            .finish_non_exhaustive()
    }
}

/// The file, and which entry belongs to which subscription.
struct Ring {
    file: RingFile,
    /// The entries by the slots of the subscriptions.
    entries: Vec<Option<usize>>,
    /// The free entries, the next one last.
    free: Vec<usize>,
}

impl Ring {
    fn recover(
        &mut self,
        entry: usize,
        found: &file::Entry,
        subscriptions: &mut Subscriptions,
    ) -> Result<()> {
        let damaged = || refusal(self.file.path(), &format!("is damaged: entry {entry} makes no sense"));
        if found.id.is_empty() || subscriptions.with_id(&found.id).is_some() {
            return Err(damaged());
        }
        let slot = subscriptions.slot(found.id.as_bytes());
        if let (Some(point), Some(tracked)) = (&found.point, subscriptions.get_mut(slot)) {
            tracked.subscription.recover(&Bookmark::parse(point).map_err(|_| damaged())?);
        }
        self.set(slot, Some(entry));
        Ok(())
    }

    fn set(&mut self, slot: usize, entry: Option<usize>) {
        if self.entries.len() <= slot {
            self.entries.resize(slot + 1, None);
        }
        if let Some(place) = self.entries.get_mut(slot) {
            *place = entry;
        }
    }

    /// Gives a subscription an entry.
    #[cold]
    fn enter(&mut self, slot: usize, sub_id: &str) -> Result<()> {
        if sub_id.len() > MAX_ID {
            return Err(too_long("a subscription id", sub_id.len(), MAX_ID));
        }
        if self.free.is_empty() {
            let before = self.file.entries();
            self.file.grow()?;
            self.free.extend((before..self.file.entries()).rev());
        }
        if let Some(entry) = self.free.pop() {
            self.file.take(entry, sub_id);
            self.set(slot, Some(entry));
        }
        Ok(())
    }

    fn leave(&mut self, slot: usize) {
        if let Some(entry) = self.entries.get_mut(slot).and_then(Option::take) {
            self.file.free(entry);
            self.free.push(entry);
        }
    }
}

impl Journal for Ring {
    #[inline]
    fn record(&mut self, slot: usize, sub_id: &str, _change: Change<'_>) -> Result<()> {
        match self.entries.get(slot) {
            Some(Some(_)) => Ok(()),
            _ => self.enter(slot, sub_id),
        }
    }

    fn moved(&mut self, slot: usize, _sub_id: &str, subscription: &Subscription) -> Result<()> {
        let Some(entry) = self.entries.get(slot).copied().flatten() else { return Ok(()) };
        let point = subscription.recovery_point();
        if point.as_str().len() > MAX_POINT {
            return Err(too_long("a recovery point", point.as_str().len(), MAX_POINT));
        }
        self.file.write(entry, point.as_str());
        Ok(())
    }

    fn purge(&mut self) -> Result<()> {
        (0..self.entries.len()).for_each(|slot| self.leave(slot));
        Ok(())
    }

    fn purge_sub_id(&mut self, slot: usize, _sub_id: &str) -> Result<()> {
        self.leave(slot);
        Ok(())
    }
}

fn too_long(what: &str, bytes: usize, limit: usize) -> Error {
    let text =
        format!("{what} of {bytes} bytes is too long for a ring bookmark store, which has room for {limit}");
    Error::new(ErrorKind::Store, text)
}
