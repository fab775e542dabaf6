//! A bookmark store that appends what happens to a file.

mod file;
mod journal;
mod record;
mod recovery;

use std::fmt;
use std::path::Path;

use file::Log;
use journal::{LogJournal, Names};

use super::super::recovery_point::{RecoveryPointAdapter, RecoveryPointFactory};
use super::delegate_bookmark_store;
use super::keeper::Keeper;
use crate::bookmark::Bookmark;
use crate::error::Result;

/// A bookmark store in a file: after a restart, what was discarded stays a duplicate, and what was not comes again.
///
/// Every message, discard and persisted acknowledgement is appended to the file before it counts, however the process ends:
/// what is being written when it dies is ignored. Surviving the loss of power is another matter:
/// [`sync`](LoggedBookmarkStore::sync) forces everything onto the device.
///
/// * **One file, one process.** The file is locked as long as the store exists. A second opening fails. Other programs must
///   not write to it meanwhile, nor shorten it: its end is mapped into memory.
/// * **Size.** A message takes 32 bytes of the file, its discard as many, until the file is [pruned](crate::BookmarkStore::prune): do
///   that while idle, or before the program ends. A file that nobody prunes prunes itself, on the receive thread, which takes
///   some milliseconds, when it is [large](LoggedBookmarkStoreOptions::prune_at) and twice what it was after it was last
///   pruned. While it is open the file has [some room](LoggedBookmarkStoreOptions::growth) at its end. Next to it a file of the same name with `.tmp` at
///   its end is used for pruning.
/// * **Memory.** 24 bytes for an outstanding message.
/// * **Subscription ids** must be the same in the next process. One that the library has generated is not.
/// * **Damage** by something else than this library is found by checksums when the file is opened, which then fails and
///   leaves the file as it is. Only what cannot be told from a record torn by a crash, a bad last one, is cut off.
///
/// Taking a message takes about a tenth of a microsecond. Share a store with its client by giving that a clone of an
/// [`Arc`](std::sync::Arc) of it.
///
/// ```
/// use amps_client::testing::Frame;
/// use amps_client::{BookmarkStore, LoggedBookmarkStore, Receipt};
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-logged-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("desk.bookmarks");
/// let store = LoggedBookmarkStore::open(&path)?;
/// let first = Frame::parse(br#"{"c":"p","sub_id":"orders-1","bm":"17|1|"}{"id":1}"#)?;
/// let second = Frame::parse(br#"{"c":"p","sub_id":"orders-1","bm":"17|2|"}{"id":2}"#)?;
/// store.receive(first.message())?; // a client does this before it calls the handler
/// store.receive(second.message())?;
/// store.discard(first.message())?; // the application does this when it is done
/// drop(store);
///
/// let store = LoggedBookmarkStore::open(&path)?;
/// assert_eq!(store.most_recent("orders-1")?.as_str(), "17|1|");
/// assert_eq!(store.receive(first.message())?, Receipt::Duplicate);
/// assert!(matches!(store.receive(second.message())?, Receipt::New(_)));
/// # drop(store);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
///
/// [`BookmarkStore::prune`]: crate::BookmarkStore::prune
pub struct LoggedBookmarkStore {
    keeper: Keeper<LogJournal>,
}

impl LoggedBookmarkStore {
    /// Opens the store in this file with default [options](LoggedBookmarkStoreOptions), or makes it if the file does not
    /// exist or is empty.
    ///
    /// Reads the whole file, some hundred megabytes a second, and never waits for another process.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): the file is no bookmark store of this kind, or one of another format; it is
    /// damaged; it is in use; or the system refuses to open, lock, extend or map it. The file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<LoggedBookmarkStore> {
        LoggedBookmarkStore::options().open(path)
    }

    /// The options to open a store with.
    pub fn options() -> LoggedBookmarkStoreOptions {
        LoggedBookmarkStoreOptions::default()
    }

    /// Waits until everything that happened so far is on the device, so that it survives the loss of power. Takes as long as
    /// the device does, mostly some milliseconds; those who use the store wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): the device could not take it.
    pub fn sync(&self) -> Result<()> {
        self.keeper.with_journal(|journal| journal.log().sync())
    }

    /// How many bytes of the file are in use.
    pub fn size(&self) -> u64 {
        self.keeper.with_journal(|journal| journal.log().end())
    }
}

delegate_bookmark_store!([] LoggedBookmarkStore, self => self.keeper);

impl fmt::Debug for LoggedBookmarkStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.keeper.with_journal(|journal| journal.log().path().to_owned());
        f.debug_struct("LoggedBookmarkStore")
            .field("path", &path)
            .field("outstanding", &self.keeper)
            .finish_non_exhaustive()
    }
}

/// How a [`LoggedBookmarkStore`] is opened.
///
/// ```
/// use amps_client::LoggedBookmarkStore;
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-logged-options-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("desk.bookmarks");
/// let store = LoggedBookmarkStore::options().prune_at(16 << 20).last_modified(true).open(&path)?;
/// # drop(store);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[must_use]
#[derive(Debug)]
pub struct LoggedBookmarkStoreOptions {
    growth: u64,
    sub_id_limit: usize,
    prune_at: u64,
    last_modified: bool,
    adapter: Option<(Box<dyn RecoveryPointAdapter>, RecoveryPointFactory)>,
}

impl LoggedBookmarkStoreOptions {
    /// How many bytes the file grows by when it is full. Default: 1 MiB.
    ///
    /// Growing writes that many zeros, so that a full disk is noticed then and not later.
    pub fn growth(mut self, bytes: u64) -> LoggedBookmarkStoreOptions {
        self.growth = bytes;
        self
    }

    /// Below how many bytes the file never prunes itself. `u64::MAX`: it never does. Default: 64 MiB, which is about a
    /// million messages.
    pub fn prune_at(mut self, bytes: u64) -> LoggedBookmarkStoreOptions {
        self.prune_at = bytes;
        self
    }

    /// Whether the time at which the file was last modified is added to where a subscription goes on, until its first discard
    /// or persisted acknowledgement. That is for a server whose log may no longer have the bookmarks in the file. The system
    /// may note a modification up to a minute late, and that is then the time.
    /// Default: no.
    pub fn last_modified(mut self, on: bool) -> LoggedBookmarkStoreOptions {
        self.last_modified = on;
        self
    }

    /// How many bytes a subscription id may have; a file with a longer one counts as damaged. At most 16 MiB. Default: 1 MiB.
    pub fn sub_id_limit(mut self, bytes: usize) -> LoggedBookmarkStoreOptions {
        self.sub_id_limit = bytes;
        self
    }

    /// Keeps the recovery points in a second place too. If the file knows no subscription, the store starts with those of
    /// the adapter. Default: none.
    pub fn adapter(
        mut self,
        adapter: impl RecoveryPointAdapter + 'static,
        points: RecoveryPointFactory,
    ) -> LoggedBookmarkStoreOptions {
        self.adapter = Some((Box::new(adapter), points));
        self
    }

    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    ///
    /// As for [`LoggedBookmarkStore::open`], and those of the [adapter](LoggedBookmarkStoreOptions::adapter).
    pub fn open(self, path: impl AsRef<Path>) -> Result<LoggedBookmarkStore> {
        let path = path.as_ref();
        let (file, salt) = file::open_file(path)?;
        let mut recovered = recovery::recover(path, &file, salt, self.sub_id_limit)?;
        if self.last_modified {
            let modified = file.file().metadata().and_then(|metadata| metadata.modified());
            let time = Bookmark::time(modified.map_err(|error| file::failure("open", path, error))?);
            for tracked in recovered.subscriptions.iter_mut() {
                tracked.subscription.start_no_later_than(&time);
            }
        }
        let log = Log::open(path, file, salt, recovered.end, self.growth)?;
        let names = Names::of(recovered.slots, recovered.last_number);
        let journal = LogJournal::new(log, names, self.sub_id_limit, self.prune_at);
        let keeper = Keeper::new(journal, recovered.subscriptions);
        let keeper = match self.adapter {
            Some((adapter, points)) => keeper.with_adapter(adapter, points)?,
            None => keeper,
        };
        Ok(LoggedBookmarkStore { keeper })
    }
}

impl Default for LoggedBookmarkStoreOptions {
    fn default() -> LoggedBookmarkStoreOptions {
        LoggedBookmarkStoreOptions {
            growth: 1 << 20,
            sub_id_limit: 1 << 20,
            prune_at: 64 << 20,
            last_modified: false,
            adapter: None,
        }
    }
}
