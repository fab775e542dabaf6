//! A publish store in a file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::super::header::PAGE;
use super::super::layout::MAX_SEGMENT;
use super::super::mapped::LockedFile;
use super::super::sequence::History;
use super::super::{PublishStore, PublishStoreResizeHandler, StoreEntry, StoreReplayer};
use super::damage::StoreDamage;
use super::delegate_publish_store;
use super::journal::{Journal, JournalOptions};
use super::keeper::Keeper;
use crate::error::{Error, ErrorKind, Result};

/// A publish store in a file: what it keeps survives the process.
///
/// After a restart, however the process ended, the same file has every message whose number
/// [`store`](PublishStore::store) has returned and that was not discarded, and the numbers go on where they were. Nothing
/// torn is ever handed out: every record has a checksum, and what was being written when the process died counts as never
/// stored. Surviving the loss of power is another matter: [`sync`](FilePublishStore::sync) forces everything onto the device,
/// and [`sync_every_write`](FilePublishStoreOptions::sync_every_write) does so for each message.
///
/// * **One file, one client.** A file belongs to the client name it was first used with, for good: under another name the
///   server could not tell what it has already. The first client that is built with the store decides.
/// * **One file, one process.** The file is locked as long as the store exists. A second opening fails. Other programs must
///   not write to it meanwhile, nor shorten it: the file is mapped into memory, and its blocks are allocated in advance.
/// * **Size.** The file grows by [a step](FilePublishStoreOptions::growth) when it is full, and uses the room of discarded
///   messages again. It never shrinks by itself; see
///   [`truncate_on_close`](FilePublishStoreOptions::truncate_on_close).
/// * **StoreDamage** by something else than this library is found by the checksums: see [`damaged`](FilePublishStore::damaged).
///
/// Storing takes well below a microsecond: it is a copy into memory that the system writes to the device in its own time.
///
/// ```
/// use amps_client::{CommandType, FilePublishStore, PublishStore, Selector, StoreEntry};
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-file-store-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("pricer.store");
/// let store = FilePublishStore::open(&path)?;
/// let first = store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"1")))?;
/// let second = store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"2")))?;
/// store.discard_up_to(first)?;
/// drop(store);
///
/// let store = FilePublishStore::open(&path)?;
/// assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (1, Some(second)));
/// assert_eq!(store.last_persisted(), first);
/// let third = store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"3")))?;
/// assert_eq!(third, second + 1);
/// # drop(store);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
pub struct FilePublishStore {
    keeper: Keeper<Journal>,
    file: Arc<LockedFile>,
}

impl FilePublishStore {
    /// Opens the store in this file with default [options](FilePublishStoreOptions), or makes it if the file does not exist
    /// or is empty.
    ///
    /// Reads the whole file, which takes about a second per gigabyte, and never waits for another process. What is damaged is
    /// logged here and can be asked for with [`damaged`](FilePublishStore::damaged).
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store): the file is no publish store, or one of another format; its header is cut off or damaged;
    /// it is in use; or the system refuses to open, lock, extend or map it. The file is left as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<FilePublishStore> {
        FilePublishStore::options().open(path)
    }

    /// The options to open a store with.
    pub fn options() -> FilePublishStoreOptions {
        FilePublishStoreOptions::default()
    }

    /// Waits until everything stored and discarded so far is on the device, so that it survives the loss of power.
    ///
    /// Takes as long as the device does, mostly some milliseconds. On Linux nobody else waits meanwhile; on other systems,
    /// those who use the store do.
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store): the device could not take it.
    pub fn sync(&self) -> Result<()> {
        if cfg!(target_os = "linux") {
            // There, what is written through a map is part of the file.
            let failed =
                |error| Error::new(ErrorKind::Store, "cannot sync the publish store").with_source(error);
            return self.file.file().sync_all().map_err(failed);
        }
        self.keeper.with_backing(|journal| journal.volume().flush_all())
    }

    /// What was found damaged since the store was opened, in the order in which it was found.
    ///
    /// The messages in it are neither counted nor handed out, and their numbers are not used again. The damaged bytes stay as
    /// they are until everything around them is discarded. The client also gives this to the exception listener, at its next
    /// logon.
    pub fn damaged(&self) -> Vec<StoreDamage> {
        self.keeper.with_backing(|journal| journal.damage().to_vec())
    }

    /// The client name that the file belongs to; `None` before a client was built with it.
    pub fn client_name(&self) -> Option<String> {
        let name = self.keeper.with_backing(|journal| journal.volume().client_name().to_owned());
        (!name.is_empty()).then_some(name)
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.keeper.with_backing(|journal| journal.volume().size())
    }

    pub(super) fn into_keeper(self) -> Keeper<Journal> {
        self.keeper
    }
}

delegate_publish_store!([] FilePublishStore, self => self.keeper);

impl fmt::Debug for FilePublishStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.keeper.with_backing(|journal| journal.volume().path().to_owned());
        f.debug_struct("FilePublishStore")
            .field("path", &path)
            .field("store", &self.keeper)
            .finish_non_exhaustive()
    }
}

/// How a [`FilePublishStore`] is opened.
///
/// ```
/// use amps_client::{FilePublishStore, PublishStore};
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-file-options-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("pricer.store");
/// let store = FilePublishStore::options()
///     .growth(64 << 20)
///     .truncate_on_close(true)
///     .resize_handler(|store: &dyn PublishStore, bytes: u64| {
///         eprintln!("{} messages are waiting, the file grows to {bytes} bytes", store.unpersisted_count());
///         bytes <= 1 << 30
///     })
///     .open(&path)?;
/// assert!(store.size() > 64 << 20);
/// # drop(store);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct FilePublishStoreOptions {
    journal: JournalOptions,
    resize_handler: Option<Box<dyn PublishStoreResizeHandler>>,
}

impl FilePublishStoreOptions {
    /// How many bytes the file begins with, and grows by when it is full: rounded up to whole
    /// [segments](FilePublishStoreOptions::segment_size). Default: 2,048,000.
    ///
    /// Growing writes that many zeros, so that a full disk is noticed then and not later.
    pub fn growth(mut self, bytes: u64) -> FilePublishStoreOptions {
        self.journal.growth = bytes;
        self
    }

    /// The size in bytes of the pieces into which the file is divided; the room of a piece is used again when everything in
    /// it is discarded. Rounded up to a multiple of 4096, and 256 MiB at most. Default: 262,144. It is settled when the file
    /// is made; opening a file that exists ignores it.
    ///
    /// A message that does not fit into one piece is spread over several, each of which it has for itself but for the last.
    pub fn segment_size(mut self, bytes: u32) -> FilePublishStoreOptions {
        let size = bytes.clamp(1, MAX_SEGMENT as u32);
        self.journal.segment_size = size.next_multiple_of(PAGE as u32);
        self
    }

    /// Whether each message is forced onto the device before [`store`](PublishStore::store) returns, so that it survives the
    /// loss of power. That takes as long as the device does, often milliseconds, and everybody who uses the store waits.
    /// Default: no.
    pub fn sync_every_write(mut self, on: bool) -> FilePublishStoreOptions {
        self.journal.sync_every_write = on;
        self
    }

    /// Whether the file shrinks to its initial size when the store is closed, which is when it is dropped, and holds nothing.
    /// Default: no.
    pub fn truncate_on_close(mut self, on: bool) -> FilePublishStoreOptions {
        self.journal.truncate_on_close = on;
        self
    }

    /// Who is asked before the file grows; can be changed later with
    /// [`set_resize_handler`](PublishStore::set_resize_handler). The sizes it gets are those of the file. Default: nobody.
    pub fn resize_handler(
        mut self,
        handler: impl PublishStoreResizeHandler + 'static,
    ) -> FilePublishStoreOptions {
        self.resize_handler = Some(Box::new(handler));
        self
    }

    /// Opens the store in this file, or makes it.
    ///
    /// # Errors
    ///
    /// As for [`FilePublishStore::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<FilePublishStore> {
        let (journal, history): (Journal, History) = Journal::open(path.as_ref(), self.journal)?;
        let file = journal.volume().file().clone();
        let keeper = Keeper::new(journal, history);
        keeper.set_resize_handler(self.resize_handler);
        Ok(FilePublishStore { keeper, file })
    }
}

impl Default for FilePublishStoreOptions {
    fn default() -> FilePublishStoreOptions {
        let journal = JournalOptions {
            segment_size: 256 << 10,
            growth: 1000 * 2048,
            sync_every_write: false,
            truncate_on_close: false,
        };
        FilePublishStoreOptions { journal, resize_handler: None }
    }
}

impl fmt::Debug for FilePublishStoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilePublishStoreOptions")
            .field("journal", &self.journal)
            .field("resize_handler", &self.resize_handler.is_some())
            .finish()
    }
}
