//! When a publisher learns that its messages are safe (4.4).

use std::time::Duration;

use super::commands::Command;
use super::frames::{Ack, AckStatus};
use super::session::SessionId;
use super::timers::{Event, TimerId};
use super::world::World;
use crate::wire::AckType;

/// The `persisted` acknowledgements of a session.
#[derive(Debug)]
pub(crate) struct Persisted {
    /// How long successes are collected.
    interval: Duration,
    /// The highest number that is to be acknowledged, and when.
    pending: Option<(u64, TimerId)>,
}

impl Persisted {
    pub(crate) fn new(interval: Duration) -> Persisted {
        Persisted { interval, pending: None }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }
}

impl World {
    /// Acknowledges a message that is as safe as it will ever be, if that was asked for.
    ///
    /// Without a journal at once (K-12). With one, at most once per interval, for all up to the highest number (K-11); a
    /// message without a number cannot be told apart in that, and is acknowledged at once.
    pub(crate) fn acknowledge(&mut self, command: &Command<'_>) {
        let now = self.now;
        match command.sequence().filter(|_| self.state.has_journal()) {
            None => {
                let sequence = command.message.sequence();
                command.ack(Ack { kind: AckType::PERSISTED, sequence, ..Ack::default() }, now);
            }
            Some(sequence) if command.asked.contains(AckType::PERSISTED) => {
                self.collect(command.session(), sequence);
            }
            Some(_) => {}
        }
    }

    /// Tells at once that a message failed, if that was asked for, after all that succeeded before it (K-11).
    pub(crate) fn acknowledge_failure(&mut self, command: &Command<'_>, reason: &str) {
        if command.asked.contains(AckType::PERSISTED) {
            self.send_persisted(command.session());
            let sequence = command.message.sequence();
            let failure =
                Ack { kind: AckType::PERSISTED, status: AckStatus::Failure, reason, ..Ack::default() };
            command.ack(Ack { sequence, ..failure }, self.now);
        }
    }

    /// Sends the acknowledgement that is being held back, if any.
    pub(crate) fn send_persisted(&mut self, id: SessionId) {
        let now = self.now;
        let Some(session) = self.session_mut(id) else { return };
        let Some((sequence, timer)) = session.persisted.pending.take() else { return };
        let ack = Ack { kind: AckType::PERSISTED, sequence: Some(sequence), ..Ack::default() };
        session.connection.send(ack.frame(), now);
        self.timers.cancel(timer);
    }

    /// Forgets what has not been sent; for a session that ends.
    pub(crate) fn drop_persisted(&mut self, id: SessionId) {
        let pending = self.session_mut(id).and_then(|session| session.persisted.pending.take());
        if let Some((_, timer)) = pending {
            self.timers.cancel(timer);
        }
    }

    fn collect(&mut self, id: SessionId, sequence: u64) {
        let Some(session) = self.session(id) else { return };
        let (interval, pending) = (session.persisted.interval, session.persisted.pending);
        let (highest, timer) = match pending {
            Some((before, timer)) => (before.max(sequence), timer),
            None => (sequence, self.timers.schedule(self.now.plus(interval), Event::Persisted(id))),
        };
        if let Some(session) = self.session_mut(id) {
            session.persisted.pending = Some((highest, timer));
        }
        if interval.is_zero() {
            self.send_persisted(id);
        }
    }
}
