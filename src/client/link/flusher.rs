//! The backstop of a burst: writes what the publishing calls left behind.
//!
//! A thread of its own, started with the first burst and parked while there is none. Its sleep of 50 µs is 105 to 130 µs in
//! practice, and on a busy core it may wait for a time slice: as long as the application publishes, its own calls are what
//! keeps frames from growing old.

use std::sync::Arc;
use std::time::Duration;

use super::{Effort, Gate, Link, State};
use crate::client::worker::Worker;

/// The flusher looks at the outbox so often during a burst.
const TICK: Duration = Duration::from_micros(50);
/// So many ticks without a frame end a burst.
const IDLE_TICKS: u32 = 4;

impl Link {
    /// Starts the flusher if it does not run yet, and wakes it.
    pub(super) fn wake_flusher(self: &Arc<Self>, state: &mut State) {
        if state.flusher.is_none() {
            state.stop_flusher = false;
            let link = Arc::clone(self);
            match Worker::spawn(self.flusher_name.clone(), move || link.run_flusher()) {
                Ok(worker) => state.flusher = Some(worker),
                // Without a thread to come back for them, frames must not be held.
                Err(error) => {
                    log::warn!(target: "amps::net", "cannot start {}: {error}", self.flusher_name);
                    state.burst.end();
                }
            }
        }
        self.work.notify_one();
    }

    /// The flusher: writes what the callers of a burst left behind. Parked while there is no burst.
    fn run_flusher(self: &Arc<Self>) {
        let mut idle = 0;
        loop {
            let mut state = self.state.lock();
            while !state.stop_flusher && !state.wants_flusher() && !state.burst.is_active() {
                idle = 0;
                self.work.wait(&mut state);
            }
            if state.stop_flusher {
                return;
            }
            if !state.wants_flusher() {
                let seen = state.writes;
                self.work.wait_for(&mut state, TICK);
                if !state.wants_flusher() {
                    if state.writing || state.writes != seen {
                        idle = 0;
                        continue;
                    }
                    if state.front.is_empty() {
                        idle += 1;
                        if idle >= IDLE_TICKS {
                            state.burst.end();
                        }
                        continue;
                    }
                }
            }
            idle = 0;
            let Some(state) = self.catch_up(state) else { continue };
            if state.front.is_empty() || state.writing {
                continue;
            }
            if let Err(transport) = self.write(state, Effort::Blocking) {
                transport.shutdown();
            }
        }
    }

    /// Ends the flusher, if it ever started, and waits for it for at most `limit`.
    pub(crate) fn stop_flusher(&self, limit: Option<Duration>) {
        let flusher = {
            let mut state = self.state.lock();
            state.stop_flusher = true;
            self.work.notify_all();
            state.flusher.take()
        };
        if let Some(flusher) = flusher {
            flusher.wait(limit);
        }
    }
}

impl State {
    /// Somebody waits for what is queued or stored, and nobody is at it.
    fn wants_flusher(&self) -> bool {
        let behind = self.gate == Gate::Open && self.sequences.are_behind();
        !self.writing && (behind || (self.flush && !self.front.is_empty()))
    }
}
