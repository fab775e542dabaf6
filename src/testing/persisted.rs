//! When a publisher learns that its messages are safe (4.4).

use std::collections::VecDeque;
use std::time::Duration;

use super::commands::Command;
use super::frames::{Ack, AckStatus, Outgoing};
use super::replication::Ledger;
use super::session::SessionId;
use super::timers::{Event, TimerId};
use super::world::World;
use crate::wire::AckType;

/// The `persisted` acknowledgements of a session.
#[derive(Debug)]
pub(crate) struct Persisted {
    /// How long successes are collected.
    interval: Duration,
    /// What is to be acknowledged, in its order.
    waiting: VecDeque<Waiting>,
    /// When that happens. Without it, what waits does so for linked instances only.
    timer: Option<TimerId>,
}

/// An acknowledgement that is held back.
#[derive(Debug)]
struct Waiting {
    /// What linked instances must have before it is sent: the end of the ledger.
    needs: u64,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    /// One for all messages of the session up to this number.
    UpTo(u64),
    Frame(Outgoing),
}

impl Persisted {
    pub(crate) fn new(interval: Duration) -> Persisted {
        Persisted { interval, waiting: VecDeque::new(), timer: None }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// Adds a number; one that can be acknowledged together with the one before takes its place.
    fn add(&mut self, sequence: u64, needs: u64, ledger: &Ledger) {
        if let Some(Waiting { needs: before, answer: Answer::UpTo(highest) }) = self.waiting.back_mut()
            && (*before == needs || ledger.is_confirmed(needs))
        {
            *highest = sequence.max(*highest);
            *before = needs;
            return;
        }
        self.waiting.push_back(Waiting { needs, answer: Answer::UpTo(sequence) });
    }

    /// Takes out what can be sent now.
    fn take(&mut self, ledger: &Ledger) -> Vec<Outgoing> {
        let mut frames = Vec::new();
        let mut up_to = None;
        while self.waiting.front().is_some_and(|waiting| ledger.is_confirmed(waiting.needs)) {
            match self.waiting.pop_front().map(|waiting| waiting.answer) {
                Some(Answer::UpTo(sequence)) => up_to = up_to.max(Some(sequence)),
                Some(Answer::Frame(frame)) => {
                    frames.extend(up_to.take().map(success));
                    frames.push(frame);
                }
                None => {}
            }
        }
        frames.extend(up_to.map(success));
        frames
    }
}

fn success(sequence: u64) -> Outgoing {
    Ack { kind: AckType::PERSISTED, sequence: Some(sequence), ..Ack::default() }.frame()
}

impl World {
    /// Acknowledges a message that is as safe as it will ever be, if that was asked for.
    ///
    /// Without a journal at once (K-12). With one, at most once per interval, for all up to the highest number (K-11); a
    /// message without a number cannot be told apart in that, and is acknowledged at once. With linked instances that are
    /// waited for, when they have it (K-13).
    pub(crate) fn acknowledge(&mut self, command: &Command<'_>) {
        match command.sequence().filter(|_| self.state.has_journal()) {
            _ if !command.asked.contains(AckType::PERSISTED) => {}
            None => self.answer(command, command.message.sequence()),
            Some(sequence) => self.collect(command.session(), sequence),
        }
    }

    /// Acknowledges one command as persisted, when everything before it is.
    pub(crate) fn answer(&mut self, command: &Command<'_>, sequence: Option<u64>) {
        let (now, needs) = (self.now, self.ledger.end());
        let ack = Ack { kind: AckType::PERSISTED, sequence, ..Ack::default() };
        if self.ledger.is_confirmed(needs) {
            return command.ack(ack, now);
        }
        let frame = Ack { command_id: command.id(), ..ack }.frame();
        if let Some(session) = self.session_mut(command.session()) {
            session.persisted.waiting.push_back(Waiting { needs, answer: Answer::Frame(frame) });
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

    /// Sends the acknowledgements that are being held back, apart from those for which linked instances are waited for.
    pub(crate) fn send_persisted(&mut self, id: SessionId) {
        let now = self.now;
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        let Some(session) = instance.sessions.get_mut(&id.number) else { return };
        let timer = session.persisted.timer.take();
        timer.into_iter().for_each(|timer| self.timers.cancel(timer));
        for frame in session.persisted.take(&self.ledger) {
            session.connection.send(frame, now);
        }
    }

    /// Sends what waited for linked instances only.
    pub(crate) fn send_confirmed(&mut self, id: SessionId) {
        if self.session(id).is_some_and(|session| session.persisted.timer.is_none()) {
            self.send_persisted(id);
        }
    }

    /// Forgets what has not been sent; for a session that ends.
    pub(crate) fn drop_persisted(&mut self, id: SessionId) {
        let timer = self.session_mut(id).and_then(|session| session.persisted.timer.take());
        timer.into_iter().for_each(|timer| self.timers.cancel(timer));
    }

    fn collect(&mut self, id: SessionId, sequence: u64) {
        let (now, needs) = (self.now, self.ledger.end());
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        let Some(session) = instance.sessions.get_mut(&id.number) else { return };
        let persisted = &mut session.persisted;
        persisted.add(sequence, needs, &self.ledger);
        if persisted.interval.is_zero() {
            return self.send_persisted(id);
        }
        let due = now.plus(persisted.interval);
        let timers = &mut self.timers;
        persisted.timer.get_or_insert_with(|| timers.schedule(due, Event::Persisted(id)));
    }
}
