//! Who may send: everybody, one thread that makes or repairs the connection, or nobody.

use std::sync::Arc;

use super::{Effort, Link, Refusal, Sender};
use crate::client::context::ThreadKey;
use crate::transport::Transport;

/// Who may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// There is no connection, and none is being made.
    Down,
    /// Only this thread: it logs on, repairs or recovers.
    Held(ThreadKey),
    /// Everybody.
    Open,
    /// Nobody for now: the connection was lost and the receive thread is about to handle it.
    Lost,
}

/// What the loss of a connection means for the thread that noticed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It was given up or replaced before.
    Stale,
    /// Another thread logs on or repairs over it.
    InOtherHands,
    /// The gate is the caller's.
    Taken,
}

/// The gate in the hands of one thread.
#[derive(Debug)]
pub(crate) struct Hold {
    by: ThreadKey,
    /// The connection it was taken over.
    pub(crate) version: u64,
    /// Taken by this hold and not held before.
    taken: bool,
}

impl Hold {
    /// Opens the gate again, if it was open before. False if the connection was lost meanwhile.
    pub(crate) fn release(self, link: &Arc<Link>) -> bool {
        let open = !self.taken || link.open(self.by);
        if !open {
            link.down(self.by);
        }
        open
    }
}

impl Link {
    /// Takes a new connection, which only `holder` may use until [`Link::open`]. Returns its version.
    ///
    /// What was queued for the connection before is dropped.
    pub(crate) fn install(&self, transport: Arc<dyn Transport>, holder: ThreadKey) -> u64 {
        let mut state = self.state.lock();
        state.reset();
        state.version += 1;
        state.transport = Some(transport);
        state.gate = Gate::Held(holder);
        self.changed.notify_all();
        state.version
    }

    /// The holder opens the gate to everybody; frames queued meanwhile go out first. False if there is no connection any
    /// more: the gate stays as it is.
    pub(crate) fn open(self: &Arc<Self>, holder: ThreadKey) -> bool {
        let state = self.state.lock();
        if state.gate != Gate::Held(holder) || state.transport.is_none() {
            return false;
        }
        // What was stored meanwhile goes first. Others may go on storing: that comes behind the opening.
        let upto = state.sequences.stored();
        let Some(mut state) = self.catch_up(state, upto) else { return false };
        state.gate = Gate::Open;
        if state.sequences.are_behind() {
            self.wake_flusher(&mut state);
        }
        self.changed.notify_all();
        let deferred = std::mem::take(&mut state.deferred);
        state.front.extend_from_slice(&deferred);
        if !state.front.is_empty()
            && !state.writing
            && let Err(transport) = self.write(state, Effort::Nonblocking)
        {
            transport.shutdown();
        }
        true
    }

    /// Somebody repairs what could not be repaired before: everybody else waits.
    pub(crate) fn hold(&self, by: ThreadKey) {
        let mut state = self.state.lock();
        if state.gate == Gate::Down {
            state.gate = Gate::Held(by);
        }
    }

    /// Waits until the sender may send, and closes the gate to everybody else.
    pub(crate) fn acquire(&self, sender: &Sender) -> Result<Hold, Refusal> {
        let (mut state, _) = self.admit(self.state.lock(), sender)?;
        let taken = state.gate == Gate::Open;
        state.gate = Gate::Held(sender.thread);
        Ok(Hold { by: sender.thread, version: state.version, taken })
    }

    /// The connection of this version is gone: what was queued for it is dropped. Unless somebody else has the gate, the
    /// caller gets it, to repair what can be repaired.
    pub(crate) fn lost(&self, version: u64, me: ThreadKey) -> Loss {
        let mut state = self.state.lock();
        if state.version != version || state.transport.is_none() {
            return Loss::Stale;
        }
        state.reset();
        let loss = match state.gate {
            Gate::Held(by) if by != me => Loss::InOtherHands,
            _ => {
                state.gate = Gate::Held(me);
                Loss::Taken
            }
        };
        self.changed.notify_all();
        loss
    }

    /// The holder gives up: there is no connection and no hope of one, and whoever waits is told so.
    pub(crate) fn down(&self, holder: ThreadKey) {
        if self.state.lock().gate == Gate::Held(holder) {
            self.close();
        }
    }

    /// Ends the connection, whoever has it. Returns what is to be shut down.
    pub(crate) fn close(&self) -> Option<Arc<dyn Transport>> {
        self.end(Gate::Down)
    }

    /// The holder ends the connection and goes on trying: everybody else waits.
    pub(crate) fn discard(&self, holder: ThreadKey) -> Option<Arc<dyn Transport>> {
        self.end(Gate::Held(holder))
    }

    fn end(&self, gate: Gate) -> Option<Arc<dyn Transport>> {
        let mut state = self.state.lock();
        let transport = state.transport.take();
        state.reset();
        state.gate = gate;
        self.changed.notify_all();
        transport
    }
}
