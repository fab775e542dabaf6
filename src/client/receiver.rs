//! THE receive thread: reads, cuts into messages, has them delivered, keeps the timers, notices the loss.
//!
//! One per connection. It is the only one that reads the socket and the only one that calls message handlers. A read
//! ends at the latest with the idle tick, so every deadline is checked in time, whatever was set meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::buffers::Buffers;
use super::core::Core;
use super::dispatch::Dispatcher;
use super::heartbeat::Heartbeat;
use super::queue::Source;
use crate::callbacks::Origin;
use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::transport::Transport;
use crate::wire::AckType;

/// The timers of the receive thread, and whether it is to go on.
pub(crate) struct Clockwork {
    pub(crate) core: Arc<Core>,
    stops: u64,
    heartbeat: Heartbeat,
    heartbeat_changes: u64,
}

/// Reads until the connection ends; returns why, or `None` if it was ended on purpose.
pub(crate) fn run(core: &Arc<Core>, transport: &dyn Transport, version: u64, stops: u64) -> Option<Error> {
    let mut clockwork = Clockwork::new(Arc::clone(core), stops);
    let mut buffers = Buffers::new(core.config.frame_limit, Some(Source::connection(core, version)));
    let mut dispatcher = Dispatcher::new(Arc::clone(core));
    loop {
        let outcome = transport.read(buffers.space());
        if clockwork.is_stopped() {
            return None;
        }
        match outcome {
            Ok(0) => return Some(Error::new(ErrorKind::Disconnected, "the server closed the connection")),
            Ok(count) => {
                clockwork.received();
                core.link.tap().incoming(buffers.space().get(..count).unwrap_or_default());
                let walk = buffers.received(count);
                dispatcher.deliver(buffers.block(), &mut clockwork);
                if clockwork.is_stopped() {
                    return None;
                }
                if let Some(error) = walk.error {
                    let error =
                        Error::new(ErrorKind::Stream, format!("invalid bytes from the server: {error}"));
                    core.report(error.clone(), Origin::Connection);
                    return Some(error);
                }
                buffers.advance(&walk);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                dispatcher.idle();
                if clockwork.is_silent() {
                    let text = "nothing came from the server within the heartbeat timeout";
                    return Some(Error::new(ErrorKind::Disconnected, text));
                }
            }
            Err(error) => {
                return Some(
                    Error::new(ErrorKind::Disconnected, "the connection was lost").with_source(error),
                );
            }
        }
        clockwork.tick();
        if core.attempt_limit.is_over() {
            let text = "the time allowed for connecting was over";
            return Some(Error::new(ErrorKind::TimedOut, text));
        }
    }
}

impl Clockwork {
    fn new(core: Arc<Core>, stops: u64) -> Clockwork {
        let heartbeat_changes = core.settings.heartbeat_changes.load(Ordering::Acquire);
        let heartbeat = Heartbeat::new(*core.settings.heartbeat.lock(), Instant::now());
        Clockwork { core, stops, heartbeat, heartbeat_changes }
    }

    /// True once the connection was ended on purpose: nothing is to be delivered any more.
    #[inline]
    pub(crate) fn is_stopped(&self) -> bool {
        self.core.stops.load(Ordering::Acquire) != self.stops
    }

    /// Takes over a changed setting.
    fn refresh(&mut self) {
        let changes = self.core.settings.heartbeat_changes.load(Ordering::Acquire);
        if changes != self.heartbeat_changes {
            self.heartbeat_changes = changes;
            self.heartbeat.set(*self.core.settings.heartbeat.lock(), Instant::now());
        }
    }

    fn received(&mut self) {
        self.refresh();
        if self.heartbeat.is_on() {
            self.heartbeat.received(Instant::now());
        }
    }

    fn is_silent(&mut self) -> bool {
        self.refresh();
        self.heartbeat.is_on() && self.heartbeat.is_silent(Instant::now())
    }

    /// The clock, if somebody will want to know how long a handler took.
    pub(crate) fn start_of_call(&self) -> Option<Instant> {
        self.heartbeat.is_on().then(Instant::now)
    }

    /// A handler has returned: one that held this thread for too long is logged and counted (H-8). The beat timer is
    /// checked, because many calls may follow each other.
    pub(crate) fn end_of_call(&mut self, start: Option<Instant>) {
        let Some(held) = start.map(|start| start.elapsed()) else { return };
        if self.heartbeat.is_slow(held) {
            self.core.settings.slow_handlers.fetch_add(1, Ordering::Relaxed);
            log::warn!(
                target: "amps::handler",
                "a handler held the receive thread for {held:?}, longer than half the heartbeat interval"
            );
        }
        self.beat_if_due();
    }

    /// Does what the time has come for.
    pub(crate) fn tick(&mut self) {
        self.beat_if_due();
        self.core.send_due_acks();
    }

    fn beat_if_due(&mut self) {
        self.refresh();
        if self.heartbeat.is_on() && self.heartbeat.beat_is_due(Instant::now()) {
            self.beat();
        }
    }

    /// Answers a heartbeat of the server; false if heartbeats are off.
    pub(crate) fn answer(&mut self) -> bool {
        self.refresh();
        if !self.heartbeat.is_on() {
            return false;
        }
        if self.heartbeat.answer(Instant::now()) {
            self.beat();
        }
        true
    }

    /// A beat that cannot be sent is no error of its own: the next read notices. During a logon it is skipped.
    fn beat(&self) {
        self.core.link.beat(|buffer| Command::heartbeat("beat").encode(AckType::NONE, buffer));
    }
}
