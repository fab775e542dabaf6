//! Frames with sequence numbers: they leave in the order of their numbers, each at most once per connection.
//!
//! A message is stored first, which gives it its number, and joins the outgoing frames before the store takes another. Where
//! that is not possible, because there is no connection or something has to be waited for, it stays behind: whoever comes
//! next finds lower numbers missing and fetches them from the store. The send lock may be taken within that of the store, so
//! the store is never called with the send lock held; while one thread fetches, the others leave their numbers behind and
//! go, unless they have run too far ahead.
//!
//! A frame without a number, sent by a thread that has just stored something, must not overtake that: it lets everything go
//! first that was stored before. The one thread that holds the gate replays, and nobody else fetches meanwhile.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::{Effort, Gate, Guard, Link, Refusal, Sender, State, Verdict};
use crate::client::burst::FULL;
use crate::error::{Error, Result};
use crate::store::{PublishStore, Sendable, StoreEntry};
use crate::wire::frame::StoredPublishWriter;

/// When more than so many frames are behind, publishers wait for whoever fetches them.
const BACKLOG: u64 = 4096;

/// A publisher that is so many messages ahead of the acknowledgements gives way, for the receive thread may be waiting for
/// its core: what the store keeps then stays within the caches of the processor.
pub(super) const FAR_AHEAD: u64 = 32_768;

/// Whoever fetches wakes those who wait for it so often.
const WAKE: u64 = 256;

/// The frames that a publish store keeps, by number.
pub(crate) trait StoredFrames: Send + Sync {
    /// Appends the frame with this number. False if it is not kept any more, or not to be sent again.
    fn append(&self, sequence: u64, buffer: &mut Vec<u8>) -> Result<bool>;

    /// The lowest number from this one on that is kept.
    fn next(&self, from: u64) -> Option<u64>;

    /// A frame could not be had; it stays in the store.
    fn failed(&self, error: Error);
}

/// How far the sequenced frames of a connection have come.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The logon is done, so that they may be sent over this connection.
    open: bool,
    /// The last number that was sent or skipped on this connection.
    sent: u64,
    writer: StoredPublishWriter,
    /// The highest number that is known to be stored.
    stored: u64,
    /// The last number that was acknowledged on this connection, or was before it.
    acknowledged: u64,
    /// A thread is fetching what is missing.
    fetching: bool,
    /// So many others wait for it.
    waiting: u32,
}

impl Sequences {
    /// Forgets what concerns one connection.
    pub(super) fn reset(&mut self) {
        *self = Sequences { stored: self.stored, waiting: self.waiting, ..Sequences::default() };
    }

    /// The highest number that is known to be stored.
    pub(super) fn stored(&self) -> u64 {
        self.stored
    }

    /// How many numbers were stored and not sent.
    fn backlog(&self) -> u64 {
        self.stored.saturating_sub(self.sent)
    }

    pub(super) fn are_far_ahead(&self) -> bool {
        self.sent.saturating_sub(self.acknowledged) > FAR_AHEAD
    }

    /// Something is stored that was not sent, and nobody is at it.
    pub(super) fn are_behind(&self) -> bool {
        self.open && !self.fetching && self.sent < self.stored
    }
}

impl State {
    /// Not everything up to this number was sent yet, though it might be.
    #[inline]
    pub(super) fn lags_behind(&self, upto: u64) -> bool {
        self.sequences.open && self.sequences.sent < upto && self.gate == Gate::Open
    }

    #[inline(always)]
    fn take(&mut self, sequence: u64, frame: Sendable<'_>, queued: impl Fn(u64)) -> Result<()> {
        frame.encode(sequence, &mut self.sequences.writer, &mut self.front)?;
        self.sequences.sent = sequence;
        queued(self.version);
        Ok(())
    }
}

/// When a message is sent that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Now,
    /// By [`Link::publish_stored`]: it was not its turn, or something has to be waited for.
    Later,
}

impl Link {
    /// Stores a message and, if it is its turn and nothing has to be waited for, sends it in the same breath, which keeps
    /// the messages of several threads in order. `queued` is as for [`Link::publish_stored`].
    #[inline]
    pub(crate) fn store_and_send(
        self: &Arc<Self>,
        store: &dyn PublishStore,
        entry: &StoreEntry<'_>,
        sender: impl Fn() -> Sender,
        queued: impl Fn(u64),
    ) -> Result<(u64, Sent)> {
        let frame = entry.sendable();
        let mut taken = None;
        let stored = store.store_then(entry, &mut |sequence| {
            // A store that calls twice must not wait for itself.
            if taken.is_none() {
                taken = self.take_in_turn(sequence, frame, &queued);
            }
        });
        // The lock of the store is free again, and that of the link held since the frame joined the others.
        let Some(state) = taken else { return Ok((stored?, Sent::Later)) };
        self.write_if_due(state, sender);
        Ok((stored?, Sent::Now))
    }

    /// Puts the frame of what was stored under this number into the buffer, if it can join the others right now.
    #[inline(always)]
    fn take_in_turn(&self, sequence: u64, frame: Sendable<'_>, queued: impl Fn(u64)) -> Option<Guard<'_>> {
        let mut state = self.state.lock();
        state.sequences.stored = state.sequences.stored.max(sequence);
        let Sequences { open, sent, fetching, .. } = state.sequences;
        let in_turn = open && !fetching && sequence.checked_sub(1) == Some(sent);
        if !in_turn || state.gate != Gate::Open || state.front.len() > self.room {
            return None;
        }
        state.take(sequence, frame, queued).ok()?;
        Some(state)
    }

    /// Sends what has collected, if the time has come.
    #[inline]
    fn write_if_due(self: &Arc<Self>, mut state: Guard<'_>, sender: impl Fn() -> Sender) {
        let buffered = state.front.len();
        if state.writing || state.burst.added(buffered, Instant::now) == Verdict::Hold {
            return;
        }
        let far_ahead = state.sequences.are_far_ahead();
        if let Err(transport) = self.write(state, sender().effort()) {
            transport.shutdown();
        }
        if far_ahead {
            std::thread::yield_now();
        }
    }

    /// Sends what has been stored under this number, and before it whatever is missing. It is not an error if the
    /// frame cannot be sent now: it is in the store, and the next logon sends it. `queued` hears of the connection that the
    /// frame goes over, under the send lock, before a byte of it is written.
    ///
    /// # Errors
    ///
    /// `NotConnected` and `Busy` say why the frame was left to the store.
    pub(crate) fn publish_stored(
        self: &Arc<Self>,
        sender: impl Fn() -> Sender,
        sequence: u64,
        entry: &StoreEntry<'_>,
        queued: impl Fn(u64),
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        state.sequences.stored = state.sequences.stored.max(sequence);
        loop {
            if state.gate != Gate::Open {
                let may = state.gate == Gate::Held(sender().thread) && state.transport.is_some();
                match state.gate {
                    Gate::Down => return Err(Refusal::NotConnected),
                    _ if may => {}
                    _ => return Err(Refusal::Busy),
                }
            }
            let sequences = &state.sequences;
            if !sequences.open || sequence <= sequences.sent {
                return Ok(());
            }
            if sequences.fetching {
                if sequences.backlog() <= BACKLOG || sender().never_waits {
                    return Ok(());
                }
                // Or else whoever fetches would never come to an end.
                self.wait_for_fetching(&mut state, None)?;
                continue;
            }
            if state.front.len() > self.room && state.writing {
                let sender = sender();
                if !sender.never_waits {
                    self.changed.wait(&mut state);
                    continue;
                }
                if state.front.len() > self.outbox_limit {
                    // It is in the store; the flusher fetches it when the writer has caught up.
                    return Ok(());
                }
            }
            let sequences = &state.sequences;
            if sequence > sequences.sent + 1 {
                return self.fetch_missing(state, sequence, &sender());
            }
            state.take(sequence, entry.sendable(), queued).map_err(Refusal::Frame)?;
            self.write_if_due(state, sender);
            return Ok(());
        }
    }

    /// From now on sequenced frames may be sent, beginning behind this number.
    pub(crate) fn open_sequences(&self, sent: u64) {
        let mut state = self.state.lock();
        state.sequences.open = true;
        state.sequences.sent = sent;
        state.sequences.acknowledged = sent;
    }

    /// Sends one frame of the replay, in the hands of whoever holds the gate.
    pub(crate) fn replay(
        self: &Arc<Self>,
        sender: &Sender,
        sequence: u64,
        encode: impl FnMut(&mut Vec<u8>) -> Result<()>,
    ) -> Result<(), Refusal> {
        // Before it leaves: its acknowledgement may come at once.
        self.skipped(sequence);
        self.publish_behind(self.state.lock(), 0, || *sender, encode)
    }

    /// The server has everything up to this number. False if it cannot have that from this client.
    pub(crate) fn acknowledged(&self, sequence: u64) -> bool {
        let mut state = self.state.lock();
        let sequences = &mut state.sequences;
        let possible = sequence <= if sequences.open { sequences.sent } else { sequences.stored };
        if possible {
            sequences.acknowledged = sequences.acknowledged.max(sequence);
        }
        possible
    }

    /// What has this number is not sent over this connection, or was.
    pub(crate) fn skipped(&self, sequence: u64) {
        let mut state = self.state.lock();
        let sequences = &mut state.sequences;
        sequences.sent = sequences.sent.max(sequence);
        sequences.stored = sequences.stored.max(sequence);
    }

    /// Sends what is missing up to this number. What others store meanwhile is for the flusher.
    fn fetch_missing(
        self: &Arc<Self>,
        mut state: Guard<'_>,
        sequence: u64,
        sender: &Sender,
    ) -> Result<(), Refusal> {
        if sender.never_waits {
            // Fetching may have to wait for the peer: that is for the flusher.
            self.wake_flusher(&mut state);
            return Ok(());
        }
        if let Some(mut state) = self.catch_up(state, sequence) {
            if state.sequences.are_behind() {
                self.wake_flusher(&mut state);
            }
            self.write_rest(state);
        }
        Ok(())
    }

    /// Has everything up to this number sent first, because the same thread may have stored it; where nothing may wait, it
    /// is overtaken. True if the state of the link is to be looked at again.
    #[cold]
    pub(super) fn let_go_first<'a>(
        self: &'a Arc<Self>,
        mut state: Guard<'a>,
        upto: u64,
        sender: &Sender,
    ) -> Result<(Guard<'a>, bool), Refusal> {
        if sender.never_waits {
            return Ok((state, false));
        }
        if state.sequences.fetching {
            self.wait_for_fetching(&mut state, sender.deadline)?;
            return Ok((state, true));
        }
        match self.catch_up(state, upto) {
            None => Ok((self.state.lock(), true)),
            Some(mut state) => {
                if state.sequences.are_behind() {
                    self.wake_flusher(&mut state);
                }
                Ok((state, true))
            }
        }
    }

    fn wait_for_fetching(&self, state: &mut Guard<'_>, deadline: Option<Instant>) -> Result<(), Refusal> {
        state.sequences.waiting += 1;
        let timed_out = match deadline {
            None => {
                self.changed.wait(state);
                false
            }
            Some(deadline) => self.changed.wait_until(state, deadline).timed_out(),
        };
        state.sequences.waiting -= 1;
        if timed_out { Err(Refusal::TimedOut) } else { Ok(()) }
    }

    /// Writes what a catch-up has left in the buffer.
    fn write_rest(self: &Arc<Self>, mut state: Guard<'_>) {
        if state.front.is_empty() {
            return;
        }
        state.flush = true;
        if state.writing {
            return;
        }
        if let Err(transport) = self.write(state, Effort::Blocking) {
            transport.shutdown();
        }
    }

    /// Puts everything into the buffer that is stored up to this number and was not sent. `None` if the connection went
    /// away meanwhile.
    pub(super) fn catch_up<'a>(self: &'a Arc<Self>, mut state: Guard<'a>, upto: u64) -> Option<Guard<'a>> {
        let (Some(frames), true) = (&self.stored_frames, state.sequences.are_behind()) else {
            return Some(state);
        };
        let version = state.version;
        let mut frame = Vec::new();
        state.sequences.fetching = true;
        while state.sequences.sent < state.sequences.stored.min(upto) {
            if state.front.len() > FULL {
                state = self.make_room(state)?;
            } else {
                let next = state.sequences.sent + 1;
                let found = MutexGuard::unlocked(&mut state, || fetch(&**frames, next, &mut frame));
                if state.version == version && state.transport.is_some() {
                    state.front.extend_from_slice(&frame);
                    state.sequences.sent = found.min(state.sequences.stored);
                    if state.sequences.waiting > 0 && state.sequences.sent.is_multiple_of(WAKE) {
                        self.changed.notify_all();
                    }
                }
            }
            if state.version != version || state.transport.is_none() {
                return None;
            }
        }
        state.sequences.fetching = false;
        self.changed.notify_all();
        Some(state)
    }

    fn make_room<'a>(self: &'a Arc<Self>, mut state: Guard<'a>) -> Option<Guard<'a>> {
        if state.writing {
            self.changed.wait(&mut state);
            return Some(state);
        }
        match self.write(state, Effort::Blocking) {
            Ok(()) => Some(self.state.lock()),
            Err(transport) => {
                transport.shutdown();
                None
            }
        }
    }
}

/// Fetches the frame with this number, and returns how far that gets: to the number itself, or, if it is not kept, to
/// where the next one is.
fn fetch(frames: &dyn StoredFrames, sequence: u64, frame: &mut Vec<u8>) -> u64 {
    frame.clear();
    match frames.append(sequence, frame) {
        Ok(true) => return sequence,
        Ok(false) => {}
        Err(error) => {
            frame.clear();
            frames.failed(error);
        }
    }
    let next = frames.next(sequence.saturating_add(1));
    next.map_or(u64::MAX, |next| next.saturating_sub(1)).max(sequence)
}
