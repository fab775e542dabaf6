//! The write half of a client: frames are encoded straight into the outbox under the send lock, collected in a burst,
//! and written outside the lock.
//!
//! ```text
//!  caller ──encode──► front buffer ──swap──► back buffer ──write (lock released)──► transport
//!                         ▲                                   by the caller that is told to, or by the flusher
//! ```
//!
//! Two buffers take turns: while one is written, the other collects. Whoever writes goes on as long as somebody waits
//! for an answer. A failed write shuts the transport down; the receive thread notices and handles the loss.
//!
//! The link also is the [gate](Gate): while a logon or a repair holds it, everybody else waits here.

mod flusher;
mod gate;
mod sequenced;

pub(crate) use gate::{Gate, Loss};
pub(crate) use sequenced::{Sent, StoredFrames};

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use self::sequenced::Sequences;
use super::burst::{Burst, Verdict};
use super::context::ThreadKey;
use super::tap::Tap;
use super::worker::Worker;
use crate::error::{Error, Result};
use crate::transport::Transport;

/// How much may wait behind a write, unless the limit of the outbox is lower.
const ROOM: usize = 1 << 20;
/// A buffer that grew beyond this for a large frame is given back.
const KEPT: usize = 256 << 10;
/// A writer that finds new frames behind it so often in a row leaves them to the flusher.
const ROUNDS: u32 = 3;

/// How a caller sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) thread: ThreadKey,
    /// Nothing may wait: the caller is a receive thread or a state listener.
    pub(crate) never_waits: bool,
    pub(crate) patience: Patience,
    pub(crate) deadline: Option<Instant>,
}

/// What a caller does that may not send now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Waits, also for the end of an outage.
    Outage,
    /// Waits for the end of a logon or a recovery, but not of an outage.
    Logon,
    /// Leaves its frame to be sent behind the recovery, and does not wait for that.
    Aside,
    /// Gives up.
    None,
}

/// A frame whose sending somebody follows.
pub(crate) trait Outgoing {
    /// Appends the frame; may be called again after a failed write.
    fn encode(&mut self, buffer: &mut Vec<u8>) -> Result<()>;
    /// False if the frame has become superfluous while the gate was closed, or is not for the connection of this version.
    /// Called under the send lock.
    fn is_wanted(&self, _version: u64) -> bool {
        true
    }
    /// The frame is queued on this connection. Called under the send lock, before a byte of it is written.
    fn queued(&mut self, version: u64);
    /// The write failed. True if nobody was told of the loss yet, so that the frame may be sent again.
    fn reclaim(&mut self) -> bool;
}

/// Why nothing was sent.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// No connection, and none that the caller could wait for.
    NotConnected,
    /// The caller has waited for a connection that did not come back.
    GivenUp,
    /// Somebody logs on or repairs, and the caller does not wait.
    Busy,
    TimedOut,
    /// More would wait for the writer than the limit allows.
    OutboxFull,
    /// The frame cannot be written.
    Frame(Error),
}

/// The send lock and what it protects.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
    /// The gate changed, or there is room again.
    changed: Condvar,
    /// There is work for the flusher.
    work: Condvar,
    tap: Tap,
    flusher_name: String,
    /// A caller that finds more than this waiting behind a write waits too.
    room: usize,
    outbox_limit: usize,
    /// Where frames come from that were stored and not sent yet.
    stored_frames: Option<Box<dyn StoredFrames>>,
}

#[derive(Debug)]
struct State {
    gate: Gate,
    /// One more with every connection.
    version: u64,
    transport: Option<Arc<dyn Transport>>,
    front: Vec<u8>,
    back: Vec<u8>,
    /// How many bytes at the start of `front` the filter has seen: what is left of an incomplete write.
    shown: usize,
    /// Frames of those who may not wait, queued while the gate is held; they go out when it opens.
    deferred: Vec<u8>,
    writing: bool,
    /// Whoever writes, or else the flusher, is to go on until nothing is left.
    flush: bool,
    burst: Burst,
    /// Counts writes, so that the flusher sees whether others are at work.
    writes: u64,
    flusher: Option<Worker>,
    stop_flusher: bool,
    sequences: Sequences,
    /// The server was told to expect beats.
    may_beat: bool,
}

/// How much a writer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Write everything.
    Blocking,
    /// Write what the kernel takes at once and leave the rest to the flusher.
    Nonblocking,
}

type Guard<'a> = MutexGuard<'a, State>;

impl Link {
    pub(crate) fn new(
        client_name: &str,
        outbox_limit: usize,
        stored_frames: Option<Box<dyn StoredFrames>>,
    ) -> Link {
        let state = State {
            gate: Gate::Down,
            version: 0,
            transport: None,
            front: Vec::new(),
            back: Vec::new(),
            shown: 0,
            deferred: Vec::new(),
            writing: false,
            flush: false,
            burst: Burst::default(),
            writes: 0,
            flusher: None,
            stop_flusher: false,
            sequences: Sequences::default(),
            may_beat: false,
        };
        Link {
            state: Mutex::new(state),
            changed: Condvar::new(),
            work: Condvar::new(),
            tap: Tap::default(),
            flusher_name: format!("amps-tx-{client_name}"),
            room: ROOM.min(outbox_limit),
            outbox_limit,
            stored_frames,
        }
    }

    /// Sends a frame that nobody follows: at once if the link is idle, with others in a burst.
    ///
    /// Waits while the gate is closed, if the sender may, for what is stored already to go before it, and for the peer while
    /// too much is queued.
    #[inline]
    pub(crate) fn publish(
        self: &Arc<Self>,
        sender: impl Fn() -> Sender,
        encode: impl FnMut(&mut Vec<u8>) -> Result<()>,
    ) -> Result<(), Refusal> {
        let state = self.state.lock();
        let upto = state.sequences.stored();
        self.publish_behind(state, upto, sender, encode)
    }

    #[inline]
    fn publish_behind<'a>(
        self: &'a Arc<Self>,
        mut state: Guard<'a>,
        upto: u64,
        sender: impl Fn() -> Sender,
        mut encode: impl FnMut(&mut Vec<u8>) -> Result<()>,
    ) -> Result<(), Refusal> {
        loop {
            if state.gate != Gate::Open || state.front.len() > self.room {
                let (admitted, place) = self.admit(state, &sender())?;
                state = admitted;
                if place == Place::Deferred {
                    return encode(&mut state.deferred).map_err(Refusal::Frame);
                }
            }
            if state.lags_behind(upto) {
                let (waited, again) = self.let_go_first(state, upto, &sender())?;
                state = waited;
                if again {
                    continue;
                }
            }
            encode(&mut state.front).map_err(Refusal::Frame)?;
            let buffered = state.front.len();
            if state.writing || state.burst.added(buffered, Instant::now) == Verdict::Hold {
                return Ok(());
            }
            match self.write(state, sender().effort()) {
                Ok(()) => return Ok(()),
                Err(transport) => transport.shutdown(),
            }
            state = self.state.lock();
            if state.gate == Gate::Held(sender().thread) {
                // Nobody makes another connection for the one who makes them.
                return Err(Refusal::NotConnected);
            }
        }
    }

    /// Sends a frame whose fate `outgoing` follows, and everything before it, without delay.
    ///
    /// Waits as [`Link::publish`] does. A frame whose write failed is sent again on the next connection, unless the
    /// loss was reported to its waiter meanwhile.
    pub(crate) fn send(
        self: &Arc<Self>,
        sender: &Sender,
        outgoing: &mut dyn Outgoing,
    ) -> Result<(), Refusal> {
        let mut state = self.state.lock();
        let upto = state.sequences.stored();
        loop {
            if state.gate != Gate::Open || state.front.len() > self.room {
                let (admitted, place) = self.admit(state, sender)?;
                state = admitted;
                if place == Place::Deferred {
                    return Err(Refusal::Busy);
                }
            }
            if state.lags_behind(upto) {
                let (waited, again) = self.let_go_first(state, upto, sender)?;
                state = waited;
                if again {
                    continue;
                }
            }
            if !outgoing.is_wanted(state.version) {
                return Err(Refusal::Busy);
            }
            outgoing.encode(&mut state.front).map_err(Refusal::Frame)?;
            outgoing.queued(state.version);
            state.flush = true;
            if state.writing {
                return Ok(());
            }
            let Err(transport) = self.write(state, sender.effort()) else { return Ok(()) };
            let again = outgoing.reclaim();
            transport.shutdown();
            if !again {
                return Ok(());
            }
            state = self.state.lock();
            if state.gate == Gate::Held(sender.thread) {
                return Err(Refusal::NotConnected);
            }
        }
    }

    /// From now on beats may be sent over this connection, also while its holder recovers.
    pub(crate) fn let_beat(&self) {
        self.state.lock().may_beat = true;
    }

    /// Queues a sign of life; never waits. During a logon none is sent.
    pub(crate) fn beat(self: &Arc<Self>, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) {
        let mut state = self.state.lock();
        let may = match state.gate {
            Gate::Open => true,
            Gate::Held(_) => state.may_beat && state.transport.is_some(),
            Gate::Down | Gate::Lost => false,
        };
        if !may || encode(&mut state.front).is_err() {
            return;
        }
        state.flush = true;
        if !state.writing
            && let Err(transport) = self.write(state, Effort::Nonblocking)
        {
            transport.shutdown();
        }
    }

    /// Sends what has collected, without waiting for it.
    pub(crate) fn flush(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.front.is_empty() || state.gate == Gate::Lost {
            return;
        }
        state.flush = true;
        if state.writing {
            return;
        }
        if let Err(transport) = self.write(state, Effort::Nonblocking) {
            transport.shutdown();
        }
    }

    /// Lets what is queued leave, for at most `limit`.
    pub(crate) fn drain(self: &Arc<Self>, limit: Duration) {
        let deadline = Instant::now() + limit;
        self.flush();
        let mut state = self.state.lock();
        while state.transport.is_some() && (state.writing || !state.front.is_empty()) {
            if state.gate == Gate::Lost || self.changed.wait_until(&mut state, deadline).timed_out() {
                return;
            }
        }
    }

    /// True while this connection is up.
    pub(crate) fn is_current(&self, version: u64) -> bool {
        let state = self.state.lock();
        state.version == version && state.transport.is_some()
    }

    /// True if there is a connection, whoever may send over it.
    pub(crate) fn is_up(&self) -> bool {
        let state = self.state.lock();
        state.gate != Gate::Lost && state.transport.is_some()
    }

    /// True if everybody may send.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.gate == Gate::Open && state.transport.is_some()
    }

    /// Where the bytes of both directions are shown.
    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    pub(crate) fn transport(&self) -> Option<Arc<dyn Transport>> {
        self.state.lock().transport.clone()
    }

    pub(crate) fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// Waits until the sender may send, or says why it may not.
    #[cold]
    fn admit<'a>(&self, mut state: Guard<'a>, sender: &Sender) -> Result<(Guard<'a>, Place), Refusal> {
        if sender.never_waits {
            return self.admit_at_once(state);
        }
        let mut waited = false;
        loop {
            let mine = match state.gate {
                Gate::Open => true,
                Gate::Held(by) => by == sender.thread,
                Gate::Lost => false,
                Gate::Down if waited => return Err(Refusal::GivenUp),
                Gate::Down => return Err(Refusal::NotConnected),
            };
            if mine && state.transport.is_none() {
                return Err(Refusal::NotConnected);
            }
            if mine && (state.front.len() <= self.room || !state.writing) {
                return Ok((state, Place::Front));
            }
            if !mine {
                let is_up = state.transport.is_some() && state.gate != Gate::Lost;
                match sender.patience {
                    Patience::Outage => {}
                    _ if !is_up => return Err(Refusal::NotConnected),
                    Patience::Logon => {}
                    Patience::Aside => return self.admit_at_once(state),
                    Patience::None => return Err(Refusal::Busy),
                }
            }
            waited = true;
            match sender.deadline {
                None => self.changed.wait(&mut state),
                Some(deadline) => {
                    if self.changed.wait_until(&mut state, deadline).timed_out() {
                        return Err(Refusal::TimedOut);
                    }
                }
            }
        }
    }

    /// Where a frame goes whose sender may not wait: while somebody holds the gate, aside, even if it is the sender.
    fn admit_at_once<'a>(&self, state: Guard<'a>) -> Result<(Guard<'a>, Place), Refusal> {
        let (place, queued) = match state.gate {
            Gate::Open => (Place::Front, state.front.len()),
            Gate::Held(_) => (Place::Deferred, state.deferred.len()),
            Gate::Down | Gate::Lost => return Err(Refusal::NotConnected),
        };
        match state.transport {
            None => Err(Refusal::NotConnected),
            Some(_) if queued > self.outbox_limit => Err(Refusal::OutboxFull),
            Some(_) => Ok((state, place)),
        }
    }

    /// Writes the front buffer, and what came behind it meanwhile if somebody waits for it or the pace is slow.
    ///
    /// `Err` is the transport that failed: it is not shut down yet, so that the caller can set things right before the
    /// receive thread notices.
    fn write(self: &Arc<Self>, mut state: Guard<'_>, effort: Effort) -> Result<(), Arc<dyn Transport>> {
        for round in 0.. {
            let Some(transport) = state.transport.clone() else { return Ok(()) };
            let version = state.version;
            let back = std::mem::take(&mut state.back);
            let buffer = std::mem::replace(&mut state.front, back);
            let shown = std::mem::take(&mut state.shown);
            state.writing = true;
            let (outcome, began, ended) = MutexGuard::unlocked(&mut state, || {
                self.tap.outgoing(buffer.get(shown..).unwrap_or_default());
                let began = Instant::now();
                let outcome = effort.write(&*transport, &buffer);
                (outcome, began, Instant::now())
            });
            if state.version != version || state.transport.is_none() {
                // The connection went away meanwhile, and whoever took it away reset the outbox.
                return outcome.map(drop).map_err(|_| {
                    note_dropped(buffer.len());
                    transport
                });
            }
            state.writing = false;
            match outcome {
                Ok(written) => state.put_back(buffer, written),
                Err(_) => {
                    state.fail(buffer.len());
                    return Err(transport);
                }
            }
            state.writes += 1;
            if state.burst.wrote(began, ended) {
                self.wake_flusher(&mut state);
            }
            self.changed.notify_all();
            if state.front.is_empty() {
                state.flush = false;
                if state.sequences.are_behind() && state.gate == Gate::Open {
                    // Left to the store while there was no room.
                    self.wake_flusher(&mut state);
                }
                return Ok(());
            }
            let unfinished = effort == Effort::Nonblocking || round + 1 == ROUNDS;
            if unfinished {
                state.flush = true;
            }
            if unfinished || (state.burst.is_active() && !state.flush) {
                self.wake_flusher(&mut state);
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Where an admitted frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Front,
    Deferred,
}

impl Sender {
    fn effort(&self) -> Effort {
        if self.never_waits { Effort::Nonblocking } else { Effort::Blocking }
    }
}

impl Effort {
    fn write(self, transport: &dyn Transport, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Effort::Blocking => transport.write_all(bytes).map(|()| bytes.len()),
            Effort::Nonblocking => transport.try_write(bytes),
        }
    }
}

impl std::fmt::Debug for dyn StoredFrames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoredFrames")
    }
}

impl State {
    /// Forgets everything that concerns one connection.
    fn reset(&mut self) {
        note_dropped(self.front.len() + self.deferred.len());
        self.transport = None;
        self.front.clear();
        self.shown = 0;
        self.deferred.clear();
        self.writing = false;
        self.flush = false;
        self.burst = Burst::default();
        self.sequences.reset();
        self.may_beat = false;
    }

    /// A write of so many bytes failed: nothing more leaves over this connection.
    fn fail(&mut self, unwritten: usize) {
        note_dropped(unwritten + self.front.len());
        if self.gate == Gate::Open {
            self.gate = Gate::Lost;
        }
        self.front.clear();
        self.shown = 0;
        self.flush = false;
    }

    /// Takes back a buffer of which the first `written` bytes have gone.
    fn put_back(&mut self, mut buffer: Vec<u8>, written: usize) {
        if written < buffer.len() {
            buffer.drain(..written);
            self.shown = buffer.len();
            buffer.append(&mut self.front);
            std::mem::swap(&mut buffer, &mut self.front);
        }
        buffer.clear();
        self.back = if buffer.capacity() > KEPT { Vec::new() } else { buffer };
    }
}

/// Frames that nobody keeps are gone with their connection. How much of a failed write has left is not known.
fn note_dropped(bytes: usize) {
    if bytes > 0 {
        log::warn!(target: "amps::net", "up to {bytes} bytes were still queued when the connection went away");
    }
}

#[cfg(test)]
mod tests;
