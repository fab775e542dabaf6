//! Frames with sequence numbers: they leave in the order of their numbers, each at most once per connection.
//!
//! A message is stored first, which gives it its number, and sent then. Threads may arrive here in another order than their
//! numbers: whoever finds lower numbers missing fetches them from the store. The store is never called with the send lock
//! held; while one thread fetches, the others leave their numbers behind and go.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::{Effort, Gate, Guard, Link, Refusal, Sender, State, Verdict};
use crate::client::burst::FULL;
use crate::error::{Error, Result};
use crate::store::Number;

/// The frames that a publish store keeps, by number.
pub(crate) trait StoredFrames: Send + Sync {
    /// Appends the frame with this number. False if it is not kept any more, or not to be sent again.
    fn append(&self, sequence: u64, buffer: &mut Vec<u8>) -> Result<bool>;

    /// The lowest number that is kept.
    fn lowest(&self) -> Option<u64>;

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
    /// The highest number that is known to be stored.
    stored: u64,
    /// A thread is fetching what is missing.
    fetching: bool,
    /// The last number that was written, with its digits.
    number: Number,
}

impl Sequences {
    /// Forgets what concerns one connection.
    pub(super) fn reset(&mut self) {
        *self = Sequences { stored: self.stored, ..Sequences::default() };
    }

    /// Something is stored that was not sent, and nobody is at it.
    pub(super) fn are_behind(&self) -> bool {
        self.open && !self.fetching && self.sent < self.stored
    }
}

impl Link {
    /// Sends a frame that has been stored under this number, and before it whatever is missing. It is not an error if the
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
        mut encode: impl FnMut(&Number, &mut Vec<u8>) -> Result<()>,
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
            if !sequences.open || sequences.fetching || sequence <= sequences.sent {
                return Ok(());
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
                return self.fetch_missing(state, &sender());
            }
            let State { front, sequences, .. } = &mut *state;
            sequences.number.turn_to(sequence);
            encode(&sequences.number, front).map_err(Refusal::Frame)?;
            sequences.sent = sequence;
            queued(state.version);
            let buffered = state.front.len();
            if state.writing || state.burst.added(buffered, Instant::now) == Verdict::Hold {
                return Ok(());
            }
            if let Err(transport) = self.write(state, sender().effort()) {
                transport.shutdown();
            }
            return Ok(());
        }
    }

    /// From now on sequenced frames may be sent, beginning behind this number.
    pub(crate) fn open_sequences(&self, sent: u64) {
        let mut state = self.state.lock();
        state.sequences.open = true;
        state.sequences.sent = sent;
    }

    /// Sends one frame of the replay, in the hands of whoever holds the gate.
    pub(crate) fn replay(
        self: &Arc<Self>,
        sender: &Sender,
        sequence: u64,
        encode: impl FnMut(&mut Vec<u8>) -> Result<()>,
    ) -> Result<(), Refusal> {
        self.publish(|| *sender, encode)?;
        self.skipped(sequence);
        Ok(())
    }

    /// What has this number is not sent over this connection, or was.
    pub(crate) fn skipped(&self, sequence: u64) {
        let mut state = self.state.lock();
        let sequences = &mut state.sequences;
        sequences.sent = sequences.sent.max(sequence);
        sequences.stored = sequences.stored.max(sequence);
    }

    fn fetch_missing(self: &Arc<Self>, mut state: Guard<'_>, sender: &Sender) -> Result<(), Refusal> {
        if sender.never_waits {
            // Fetching may have to wait for the peer: that is for the flusher.
            self.wake_flusher(&mut state);
            return Ok(());
        }
        if let Some(state) = self.catch_up(state) {
            self.write_rest(state);
        }
        Ok(())
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

    /// Puts everything into the buffer that is stored and was not sent. `None` if the connection went away meanwhile.
    pub(super) fn catch_up<'a>(self: &'a Arc<Self>, mut state: Guard<'a>) -> Option<Guard<'a>> {
        let (Some(frames), true) = (&self.stored_frames, state.sequences.are_behind()) else {
            return Some(state);
        };
        let version = state.version;
        let mut frame = Vec::new();
        state.sequences.fetching = true;
        while state.sequences.sent < state.sequences.stored {
            if state.front.len() > FULL {
                state = self.make_room(state)?;
            } else {
                let next = state.sequences.sent + 1;
                let found = MutexGuard::unlocked(&mut state, || fetch(&**frames, next, &mut frame));
                if state.version == version && state.transport.is_some() {
                    state.front.extend_from_slice(&frame);
                    state.sequences.sent = found.min(state.sequences.stored);
                }
            }
            if state.version != version || state.transport.is_none() {
                return None;
            }
        }
        state.sequences.fetching = false;
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
    let before_next = frames.lowest().map_or(u64::MAX, |lowest| lowest.saturating_sub(1));
    if before_next > sequence { before_next } else { sequence }
}
