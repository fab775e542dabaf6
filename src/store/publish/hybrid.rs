//! A publish store in memory that spills into a file.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::delegate_publish_store;
use super::file::FilePublishStore;
use super::journal::Journal;
use super::keeper::{Appended, Backing, Keeper};
use super::memory::Segments;
use crate::error::{Error, Result};
use crate::store::StoreEntry;
use crate::store::content::Content;
use crate::store::sequence::History;
use crate::store::{PublishStoreResizeHandler, StoreReplayer};

/// A publish store that keeps the newest messages in memory and moves the oldest to a file when there are too many.
///
/// As long as the server keeps up it is a [`MemoryPublishStore`](crate::MemoryPublishStore); when the server falls behind,
/// or is down, memory stays bounded and the file takes the rest. Once memory holds the given number of messages, the oldest
/// are moved, with their numbers, until the low watermark is left. If the file cannot take them, because the disk is full,
/// nothing is lost and memory grows instead. A [resize handler](PublishStoreResizeHandler) is asked before the file grows; a
/// refusal makes the publisher wait.
///
/// It is **not durable**: what is in memory goes with the process. What was in the file then is not thrown away: the next
/// store over the file hands it out as not yet acknowledged, and goes on with numbers above those of the clock, because the
/// numbers of the lost messages must not be used again. Use a [`FilePublishStore`] if messages must survive the process.
///
/// ```
/// use amps_client::{CommandType, HybridPublishStore, PublishStore, Selector, StoreEntry};
///
/// # fn main() -> amps_client::Result<()> {
/// # let dir = std::env::temp_dir().join(format!("amps-hybrid-store-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// # let path = dir.join("pricer.overflow");
/// let store = HybridPublishStore::open(&path, 10)?;
/// for _ in 0..11 {
///     store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"{}")))?;
/// }
/// assert_eq!((store.unpersisted_in_file(), store.unpersisted_count()), (5, 11));
/// # drop(store);
/// # std::fs::remove_dir_all(&dir).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HybridPublishStore {
    keeper: Keeper<Hybrid>,
}

impl HybridPublishStore {
    /// A store that keeps up to `messages` messages in memory, at least 1, and the rest in this file, which is opened, or
    /// made, with default options. The low watermark is half of `messages`.
    ///
    /// # Errors
    ///
    /// As for [`FilePublishStore::open`].
    pub fn open(path: impl AsRef<Path>, messages: usize) -> Result<HybridPublishStore> {
        Ok(HybridPublishStore::with_file(FilePublishStore::open(path)?, messages))
    }

    /// The same over a file that is open already, with options of its own; its resize handler stays.
    pub fn with_file(file: FilePublishStore, messages: usize) -> HybridPublishStore {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let keeper = file
            .into_keeper()
            .rebuild(|journal, history| (Hybrid::new(journal, messages.max(1)), history.with_forgotten(now)));
        HybridPublishStore { keeper }
    }

    /// Sets how many messages stay in memory when the oldest are moved; less than the number that makes them move. Default:
    /// half of that.
    #[must_use]
    pub fn low_watermark(self, messages: usize) -> HybridPublishStore {
        self.keeper.with_backing(|hybrid| hybrid.low_watermark = messages.min(hybrid.capacity - 1));
        self
    }

    /// How many of the messages that are kept are in the file.
    pub fn unpersisted_in_file(&self) -> usize {
        self.keeper.with_backing(|hybrid| hybrid.journal.count())
    }
}

delegate_publish_store!([] HybridPublishStore, self => self.keeper);

/// The newest messages in memory, those before them in a file.
#[derive(Debug)]
struct Hybrid {
    memory: Segments,
    journal: Journal,
    capacity: usize,
    low_watermark: usize,
    /// The oldest are moved when memory holds so many; more than the capacity after a failure.
    threshold: usize,
    /// The content that is being moved.
    moved: Vec<u8>,
}

impl Hybrid {
    fn new(journal: Journal, capacity: usize) -> Hybrid {
        Hybrid {
            memory: Segments::new(u64::MAX),
            journal,
            capacity,
            low_watermark: capacity / 2,
            threshold: capacity,
            moved: Vec::new(),
        }
    }

    /// Moves the oldest messages to the file.
    #[cold]
    fn spill(&mut self) -> Result<Appended> {
        let mut moved = 0;
        let mut outcome = Ok(Appended::Kept);
        for _ in self.low_watermark..self.memory.count() {
            self.moved.clear();
            let Some(next) = self.memory.copy(moved, u64::MAX, 0, &mut self.moved) else { break };
            outcome = self.journal.append(next - 1, Content::Framed(&self.moved));
            if !matches!(outcome, Ok(Appended::Kept)) {
                break;
            }
            moved = next;
        }
        if moved > 0 {
            self.memory.discard(History { persisted: moved - 1, ..History::default() })?;
        }
        self.settle(outcome)
    }

    /// Decides how a move that did not come to its end goes on.
    fn settle(&mut self, outcome: Result<Appended>) -> Result<Appended> {
        let kept = self.memory.count();
        self.threshold = self.capacity;
        match outcome {
            Ok(Appended::Full(_)) if kept < self.capacity => Ok(Appended::Kept),
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                log::error!(target: "amps::store", "{kept} messages stay in memory: {error}");
                // The next attempt is due after as many messages as there are between two moves.
                self.threshold = kept.max(self.capacity) + self.capacity - self.low_watermark;
                Ok(Appended::Kept)
            }
        }
    }
}

impl Backing for Hybrid {
    fn append(&mut self, number: u64, content: Content<'_>) -> Result<Appended> {
        if self.memory.count() >= self.threshold {
            match self.spill()? {
                Appended::Kept => {}
                full => return Ok(full),
            }
        }
        self.memory.append(number, content)
    }

    fn grow(&mut self, bytes: u64) -> Result<()> {
        if let Err(error) = self.journal.grow(bytes) {
            return self.settle(Err(error)).map(|_| ());
        }
        Ok(())
    }

    fn discard(&mut self, history: History) -> Result<bool> {
        let in_file = self.journal.discard(history)?;
        if in_file {
            self.threshold = self.capacity;
        }
        Ok(self.memory.discard(history)? || in_file)
    }

    fn copy(&mut self, from: u64, upto: u64, limit: usize, contents: &mut Vec<u8>) -> Option<u64> {
        let next = self.journal.copy(from, upto, limit, contents);
        if next.is_some() { next } else { self.memory.copy(from, upto, limit, contents) }
    }

    fn count(&self) -> usize {
        self.journal.count() + self.memory.count()
    }

    fn at_or_after(&self, from: u64) -> Option<u64> {
        self.journal.at_or_after(from).or_else(|| self.memory.at_or_after(from))
    }

    fn highest(&self) -> Option<u64> {
        self.memory.highest().or(self.journal.highest())
    }

    fn remember(&mut self, history: History) -> Result<()> {
        self.journal.remember(history)
    }

    fn bind(&mut self, client_name: &str) -> Result<()> {
        self.journal.bind(client_name)
    }

    fn take_damage_reports(&mut self) -> Vec<Error> {
        self.journal.take_damage_reports()
    }
}
