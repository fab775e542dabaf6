//! A publish store in memory.

use super::delegate_publish_store;
use super::keeper::{Appended, Backing, Keeper};
use super::runs::Runs;
use crate::error::{Error, ErrorKind, Result};
use crate::store::content::Content;
use crate::store::sequence::History;
use crate::store::{PublishStoreResizeHandler, StoreEntry, StoreReplayer};

/// The memory for messages is taken in pieces of this size.
const SEGMENT: usize = 256 << 10;
/// The capacity of a store for which none is named.
const DEFAULT_CAPACITY: u64 = 10_000 * 2048;

/// A publish store in memory: what it keeps survives a lost connection, but not the process.
///
/// It holds the topic and the payload of a message and about 20 bytes more, or all of its frame if there is more to it than
/// these. The memory of discarded messages is used again; what is beyond the capacity is given back. Storing a message
/// takes some tens of nanoseconds, any thread may do it, and nothing is allocated for it once the store has run for a while.
///
/// ```
/// use amps_client::{CommandType, MemoryPublishStore, PublishStore, Selector, StoreEntry};
///
/// # fn main() -> amps_client::Result<()> {
/// let store = MemoryPublishStore::new();
/// let first = store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"{\"id\":1}")))?;
/// let second = store.store(&StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"{\"id\":2}")))?;
/// assert_eq!((second, store.unpersisted_count()), (first + 1, 2));
///
/// store.discard_up_to(first)?;
/// store.replay(&mut |sequence, entry: &StoreEntry<'_>| {
///     assert_eq!((sequence, entry.selector), (second, Selector::Data(b"{\"id\":2}")));
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryPublishStore {
    keeper: Keeper<Segments>,
}

impl MemoryPublishStore {
    /// A store with the default capacity: 20,480,000 bytes, and as much again whenever that is used up.
    ///
    /// It grows as long as there is memory, unless a [resize handler](PublishStoreResizeHandler) refuses.
    pub fn new() -> MemoryPublishStore {
        MemoryPublishStore::with_capacity(DEFAULT_CAPACITY)
    }

    /// A store that holds messages of `bytes` in all, and wants to grow by as much whenever that is used up.
    ///
    /// What counts is the topic and the payload of a message and 14 bytes, or its frame. Without a
    /// [resize handler](PublishStoreResizeHandler) nobody is asked and the capacity does not matter. Memory is taken when it
    /// is needed, not in advance. A capacity of 0 counts as 1.
    ///
    /// ```
    /// use amps_client::{CommandType, ErrorKind, MemoryPublishStore, PublishStore, Selector, StoreEntry};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let store = MemoryPublishStore::with_capacity(1000);
    /// store.set_resize_handler(Some(Box::new(|_: &dyn PublishStore, bytes: u64| bytes <= 2000)));
    /// let entry = StoreEntry::new(CommandType::Publish, "orders", Selector::Data(&[b' '; 700]));
    /// store.store(&entry)?;
    /// store.store(&entry)?;
    /// let refused = store.store(&entry.with_may_wait(false)).unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::Store);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_capacity(bytes: u64) -> MemoryPublishStore {
        MemoryPublishStore { keeper: Keeper::new(Segments::new(bytes), History::default()) }
    }
}

impl Default for MemoryPublishStore {
    fn default() -> MemoryPublishStore {
        MemoryPublishStore::new()
    }
}

delegate_publish_store!([] MemoryPublishStore, self => self.keeper);

/// Frames in memory, one behind the other in segments.
#[derive(Debug)]
pub(crate) struct Segments {
    runs: Runs<Segment>,
    spare: Spare,
    /// Bytes of the contents that are kept.
    used: u64,
    capacity: u64,
    step: u64,
}

#[derive(Debug)]
struct Segment {
    /// Memory of which the first `filled` bytes are contents. A segment that is used again keeps what was there.
    bytes: Vec<u8>,
    filled: usize,
    /// So many bytes at the start belong to discarded messages.
    discarded: usize,
}

/// Memory for segments to come.
#[derive(Debug)]
struct Spare {
    memory: Vec<Vec<u8>>,
    limit: usize,
}

impl Segments {
    pub(crate) fn new(capacity: u64) -> Segments {
        let step = capacity.max(1);
        let spare = Spare { memory: Vec::new(), limit: (step / SEGMENT as u64) as usize + 1 };
        Segments { runs: Runs::default(), spare, used: 0, capacity: step, step }
    }

    /// Whether the active segment has room for a content of up to `size` bytes with this number.
    #[inline]
    fn is_ready_for(&mut self, number: u64, size: usize) -> bool {
        self.runs.active().is_some_and(|run| {
            run.continues_with(number) && run.place.bytes.capacity() - run.place.filled >= size
        })
    }

    /// Makes a segment active that has room for `size` bytes.
    #[cold]
    fn open_segment(&mut self, number: u64, size: usize) -> Result<()> {
        let segment = Segment { bytes: self.spare.take(size)?, filled: 0, discarded: 0 };
        let displaced = self.runs.begin(segment, number);
        let Segments { runs, spare, used, .. } = self;
        displaced.into_iter().for_each(|segment| spare.take_back(segment, used));
        runs.drop_finished(|segment| spare.take_back(segment, used));
        Ok(())
    }

    /// The size to grow to for `size` more bytes.
    fn wanted(&self, size: u64) -> u64 {
        let missing = (self.used + size).saturating_sub(self.capacity);
        self.capacity.saturating_add(missing.div_ceil(self.step).saturating_mul(self.step))
    }
}

impl Backing for Segments {
    #[inline]
    fn append(&mut self, number: u64, content: Content<'_>) -> Result<Appended> {
        let size = content.size();
        if self.used + size as u64 > self.capacity {
            return Ok(Appended::Full(self.wanted(size as u64)));
        }
        if !self.is_ready_for(number, size) {
            self.open_segment(number, size)?;
        }
        let Some(run) = self.runs.active() else { return Err(no_segment()) };
        // A message is at most 1 GiB, and a second one only goes into a segment of 256 KiB.
        run.push(number, run.place.filled as u32);
        content.write(run.place.next(size));
        self.used += size as u64;
        Ok(Appended::Kept)
    }

    fn grow(&mut self, bytes: u64) -> Result<()> {
        self.capacity = self.capacity.max(bytes);
        Ok(())
    }

    fn discard(&mut self, history: History) -> Result<bool> {
        let before = self.used;
        let Segments { runs, spare, used, .. } = self;
        runs.discard_up_to(history.persisted, |segment| spare.take_back(segment, used));
        if let Some((segment, start)) = runs.floor_mark() {
            let discarded = start.map_or(segment.filled, |start| start as usize);
            *used -= (discarded - segment.discarded) as u64;
            segment.discarded = discarded;
        }
        Ok(self.used < before)
    }

    fn copy(&mut self, from: u64, upto: u64, limit: usize, contents: &mut Vec<u8>) -> Option<u64> {
        let first = self.runs.at_or_after(from).filter(|first| *first <= upto)?;
        let (run, index) = self.runs.find(first)?;
        let run = self.runs.get(run)?;
        let start = run.start(index)? as usize;
        let mut next = first;
        let mut end = start;
        while next <= upto && next < run.end() && (next == first || end - start < limit) {
            next += 1;
            let following = run.start((next - first) as usize + index);
            end = following.map_or(run.place.filled, |start| start as usize);
        }
        contents.extend_from_slice(run.place.bytes.get(start..end)?);
        Some(next)
    }

    fn count(&self) -> usize {
        self.runs.count()
    }

    fn at_or_after(&self, from: u64) -> Option<u64> {
        self.runs.at_or_after(from)
    }

    fn highest(&self) -> Option<u64> {
        self.runs.highest()
    }
}

/// Cannot be: a segment was just opened.
#[cold]
pub(super) fn no_segment() -> Error {
    Error::new(ErrorKind::Store, "the publish store has no segment to write to")
}

impl Segment {
    /// The place of the next content, for which there is capacity.
    #[inline]
    fn next(&mut self, size: usize) -> &mut [u8] {
        let start = self.filled;
        self.filled += size;
        if self.bytes.len() < self.filled {
            self.bytes.resize(self.filled, 0);
        }
        self.bytes.get_mut(start..self.filled).unwrap_or_default()
    }
}

impl Spare {
    fn take(&mut self, size: usize) -> Result<Vec<u8>> {
        if size <= SEGMENT
            && let Some(memory) = self.memory.pop()
        {
            return Ok(memory);
        }
        let mut memory = Vec::new();
        let failed =
            |error| Error::new(ErrorKind::Store, "no memory for the publish store").with_source(error);
        memory.try_reserve_exact(size.max(SEGMENT)).map_err(failed)?;
        Ok(memory)
    }

    /// Takes back a segment in which everything is discarded.
    fn take_back(&mut self, segment: Segment, used: &mut u64) {
        *used -= (segment.filled - segment.discarded) as u64;
        if segment.bytes.capacity() == SEGMENT && self.memory.len() < self.limit {
            self.memory.push(segment.bytes);
        }
    }
}
