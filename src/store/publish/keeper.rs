//! What all publish stores do alike: numbers, the lock, the waits, the resize handler, the replay.
//!
//! A store is a [`Keeper`] around a [`Backing`], which only knows where the bytes go. The lock of the keeper is never
//! held while a replayer or a resize handler runs, and nobody waits with it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::store::content::{Content, hand_out};
use crate::store::sequence::{History, Sequences};
use crate::store::{PublishStore, PublishStoreResizeHandler, StoreEntry, StoreReplayer};

/// A publisher whose store may not grow asks again after this long, or sooner if there is room.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// A replay takes about so many bytes from the store at a time.
const BATCH: usize = 64 << 10;

/// Where the contents of a store are.
pub(crate) trait Backing: Send {
    /// Writes down the message with this number, which is above all others.
    fn append(&mut self, number: u64, content: Content<'_>) -> Result<Appended>;

    /// Makes room up to this size, as [`Appended::Full`] has named it. Less than there is changes nothing.
    fn grow(&mut self, bytes: u64) -> Result<()>;

    /// Remembers the numbers, and forgets the messages up to the persisted one. True if that made room.
    fn discard(&mut self, history: History) -> Result<bool>;

    /// Copies the content of the lowest message from `from` to `upto`, and of those after it up to about `limit` bytes.
    /// Returns the number to go on from; `None` if there is no such message.
    fn copy(&mut self, from: u64, upto: u64, limit: usize, contents: &mut Vec<u8>) -> Option<u64>;

    fn count(&self) -> usize;

    /// The lowest number from this one on that is kept.
    fn at_or_after(&self, from: u64) -> Option<u64>;

    fn highest(&self) -> Option<u64>;

    /// Remembers the numbers when they begin.
    fn remember(&mut self, _history: History) -> Result<()> {
        Ok(())
    }

    fn bind(&mut self, _client_name: &str) -> Result<()> {
        Ok(())
    }

    fn take_damage_reports(&mut self) -> Vec<Error> {
        Vec::new()
    }
}

/// Room for frames is kept up to so many bytes.
const KEPT_ROOM: usize = 64 << 10;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    Kept,
    /// There is no room for it before the store has grown to this many bytes.
    Full(u64),
}

/// A publish store over a backing.
pub(crate) struct Keeper<B> {
    state: Mutex<State<B>>,
    /// Something that a flusher waits for was discarded.
    discarded: Condvar,
    /// There is room again.
    room: Condvar,
    resize_handler: Mutex<Option<Arc<dyn PublishStoreResizeHandler>>>,
    gap_is_error: AtomicBool,
}

struct State<B> {
    sequences: Sequences,
    backing: B,
    /// Room to make a frame in.
    room: Vec<u8>,
    /// No flusher waits for a lower number.
    awaited: u64,
    /// Counts the discards that made room.
    rooms: u64,
    /// Publishers that wait for room.
    waiting: usize,
}

type Guard<'a, B> = MutexGuard<'a, State<B>>;

impl<B: Backing> Keeper<B> {
    /// A store that goes on after this history.
    pub(crate) fn new(backing: B, history: History) -> Keeper<B> {
        let sequences = Sequences::new(history);
        Keeper {
            state: Mutex::new(State {
                sequences,
                backing,
                room: Vec::new(),
                awaited: u64::MAX,
                rooms: 0,
                waiting: 0,
            }),
            discarded: Condvar::new(),
            room: Condvar::new(),
            resize_handler: Mutex::new(None),
            gap_is_error: AtomicBool::new(false),
        }
    }

    /// Asks, or changes, the backing itself.
    pub(crate) fn with_backing<R>(&self, ask: impl FnOnce(&mut B) -> R) -> R {
        ask(&mut self.state.lock().backing)
    }

    /// The same store over another backing, which `make` derives from this one and its numbers.
    #[cfg(feature = "file-store")]
    pub(crate) fn rebuild<C: Backing>(self, make: impl FnOnce(B, History) -> (C, History)) -> Keeper<C> {
        let State { backing, sequences, .. } = self.state.into_inner();
        let (backing, history) = make(backing, sequences.history());
        let Keeper { resize_handler, gap_is_error, .. } = self;
        Keeper { resize_handler, gap_is_error, ..Keeper::new(backing, history) }
    }

    fn handler(&self) -> Option<Arc<dyn PublishStoreResizeHandler>> {
        self.resize_handler.lock().clone()
    }

    /// Lets the store grow to `bytes`, or waits for room for a while if that is refused.
    fn make_room(&self, state: &mut Guard<'_, B>, bytes: u64, may_wait: bool) -> Result<()> {
        let Some(handler) = self.handler() else { return state.backing.grow(bytes) };
        let rooms = state.rooms;
        let granted = MutexGuard::unlocked(state, || handler.on_resize(self, bytes));
        if granted {
            return state.backing.grow(bytes);
        }
        if !may_wait {
            let text = format!("the publish store may not grow to {bytes} bytes, and nothing may wait here");
            return Err(Error::new(ErrorKind::Store, text));
        }
        if state.rooms == rooms {
            state.waiting += 1;
            self.room.wait_for(state, ASK_AGAIN);
            state.waiting -= 1;
        }
        Ok(())
    }

    /// Wakes those for whom a discard was good news.
    fn announce(&self, state: &mut State<B>, made_room: bool) {
        if state.awaited <= state.sequences.persisted() {
            state.awaited = u64::MAX;
            self.discarded.notify_all();
        }
        state.rooms += u64::from(made_room);
        if made_room && state.waiting > 0 {
            self.room.notify_all();
        }
    }

    fn copy(&self, from: u64, upto: u64, limit: usize, contents: &mut Vec<u8>) -> Option<u64> {
        contents.clear();
        self.state.lock().backing.copy(from, upto, limit, contents)
    }
}

impl<B: Backing> State<B> {
    /// Keeps a message under the number that it returns, unless there is no room.
    #[inline]
    fn append(&mut self, entry: &StoreEntry<'_>) -> Result<(u64, Appended)> {
        if self.sequences.is_fresh() {
            self.begin()?;
        }
        let upcoming = self.sequences.upcoming();
        let number = upcoming.map_err(|error| Error::new(ErrorKind::Store, error.to_string()))?;
        let appended = self.backing.append(number, entry.content(number, &mut self.room)?)?;
        if let Appended::Kept = appended {
            self.sequences.assign(number);
        }
        if self.room.capacity() > KEPT_ROOM {
            self.room = Vec::new();
        }
        Ok((number, appended))
    }

    #[cold]
    fn begin(&mut self) -> Result<()> {
        self.sequences.begin(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        self.backing.remember(self.sequences.history())
    }
}

impl<B: Backing> PublishStore for Keeper<B> {
    fn store(&self, entry: &StoreEntry<'_>) -> Result<u64> {
        self.store_then(entry, &mut |_| ())
    }

    #[inline]
    fn store_then(&self, entry: &StoreEntry<'_>, then: &mut dyn FnMut(u64)) -> Result<u64> {
        let mut state = self.state.lock();
        loop {
            match state.append(entry)? {
                (number, Appended::Kept) => {
                    then(number);
                    return Ok(number);
                }
                (_, Appended::Full(bytes)) => self.make_room(&mut state, bytes, entry.may_wait)?,
            }
        }
    }

    fn discard_up_to(&self, sequence: u64) -> Result<()> {
        let mut state = self.state.lock();
        let news = if sequence == 0 {
            if state.sequences.is_fresh() {
                state.begin()?;
            }
            let lowest = state.backing.at_or_after(0);
            state.sequences.settle(lowest)
        } else {
            let gap_is_error = self.gap_is_error.load(Ordering::Relaxed);
            let gap = |gap| Error::new(ErrorKind::PublishStoreGap, format!("{gap}"));
            state.sequences.discard(sequence, gap_is_error).map_err(gap)?
        };
        if news {
            let history = state.sequences.history();
            let made_room = state.backing.discard(history);
            self.announce(&mut state, *made_room.as_ref().unwrap_or(&false));
            made_room?;
        }
        Ok(())
    }

    fn replay(&self, to: &mut dyn StoreReplayer) -> Result<()> {
        let Some(upto) = self.with_backing(|backing| backing.highest()) else { return Ok(()) };
        let (mut next, mut contents) = (0, Vec::new());
        while let Some(after) = self.copy(next, upto, BATCH, &mut contents) {
            hand_out(&contents, to)?;
            next = after;
        }
        Ok(())
    }

    fn replay_single(&self, to: &mut dyn StoreReplayer, sequence: u64) -> Result<bool> {
        let mut contents = Vec::new();
        let found = self.copy(sequence, sequence, 0, &mut contents).is_some();
        hand_out(&contents, to)?;
        Ok(found)
    }

    fn unpersisted_count(&self) -> usize {
        self.with_backing(|backing| backing.count())
    }

    fn lowest_unpersisted(&self) -> Option<u64> {
        self.next_unpersisted(0)
    }

    fn next_unpersisted(&self, from: u64) -> Option<u64> {
        self.with_backing(|backing| backing.at_or_after(from))
    }

    fn last_persisted(&self) -> u64 {
        self.state.lock().sequences.persisted()
    }

    fn flush(&self, limit: Option<Duration>) -> Result<()> {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut state = self.state.lock();
        let Some(target) = state.backing.highest() else { return Ok(()) };
        while state.sequences.persisted() < target {
            state.awaited = state.awaited.min(target);
            match deadline {
                None => self.discarded.wait(&mut state),
                Some(deadline) => {
                    let timed_out = self.discarded.wait_until(&mut state, deadline).timed_out();
                    if timed_out && state.sequences.persisted() < target {
                        return Err(unflushed(state.backing.count(), limit));
                    }
                }
            }
        }
        Ok(())
    }

    fn set_resize_handler(&self, handler: Option<Box<dyn PublishStoreResizeHandler>>) {
        *self.resize_handler.lock() = handler.map(Arc::from);
    }

    fn set_error_on_publish_gap(&self, on: bool) {
        self.gap_is_error.store(on, Ordering::Relaxed);
    }

    fn error_on_publish_gap(&self) -> bool {
        self.gap_is_error.load(Ordering::Relaxed)
    }

    fn bind(&self, client_name: &str) -> Result<()> {
        self.with_backing(|backing| backing.bind(client_name))
    }

    fn take_damage_reports(&self) -> Vec<Error> {
        self.with_backing(B::take_damage_reports)
    }
}

impl<B: Backing> fmt::Debug for Keeper<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("PublishStore")
            .field("unpersisted", &state.backing.count())
            .field("last_persisted", &state.sequences.persisted())
            .field("error_on_publish_gap", &self.error_on_publish_gap())
            .finish_non_exhaustive()
    }
}

fn unflushed(kept: usize, limit: Option<Duration>) -> Error {
    let text = format!("{kept} messages in the publish store are not acknowledged after {limit:.0?}");
    Error::new(ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::super::memory::Segments;
    use super::*;
    use crate::store::Selector;
    use crate::wire::CommandType;

    #[test]
    fn the_memory_of_a_large_frame_is_given_back() {
        let keeper = Keeper::new(Segments::new(1), History::default());
        let payload = vec![b'x'; 1 << 20];
        keeper.store(&StoreEntry::new(CommandType::DeltaPublish, "t", Selector::Data(&payload))).unwrap();
        assert!(keeper.state.lock().room.capacity() <= KEPT_ROOM);
        keeper.store(&StoreEntry::new(CommandType::DeltaPublish, "t", Selector::Data(b"x"))).unwrap();
        assert!(keeper.state.lock().room.capacity() > 0, "that of small ones is kept");
    }
}
