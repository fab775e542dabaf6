//! From the journal to the subscriptions that read it.
//!
//! Nothing is kept per subscription but its place: one that has fallen behind reads on when its connection has room (T-9).

use std::sync::Arc;

use super::{Progress, Replay};
use crate::testing::LOG;
use crate::testing::clock::Time;
use crate::testing::connection::Connection;
use crate::testing::entitlement::Verdicts;
use crate::testing::frames::{Ack, Delivery, Outgoing, Point};
use crate::testing::journal::{Entry, Journal};
use crate::testing::session::SessionId;
use crate::testing::subscriptions::Subscription;
use crate::testing::timers::Event;
use crate::testing::world::World;
use crate::wire::AckType;

/// How many entries are looked at in one turn.
const TURN: usize = 4096;

/// What became of an entry that a subscription came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It was sent, or was none of the subscription's business.
    Past,
    /// It is to be sent at this time.
    Rest(Time),
    /// It is to be sent when other instances have it.
    Wait,
    /// The subscription ends before it.
    Over,
}

impl World {
    /// Hands an entry that was just added to the journal to all that read it.
    pub(crate) fn follow(&mut self, place: u64) {
        for instance in 0..self.instances.len() {
            self.offer_live(instance, place);
            for session in self.sessions_behind(instance) {
                self.pump(session);
            }
            self.wake_reports(instance);
        }
    }

    /// Sends what subscriptions of a session have still to read, while there is room.
    pub(crate) fn pump(&mut self, id: SessionId) {
        let Some(connection) = self.session(id).map(|session| session.connection.clone()) else { return };
        for _ in 0..TURN {
            let Some((place, number)) = self.subscriptions(id).and_then(|all| all.furthest_behind(id)) else {
                return self.wake_report(id);
            };
            if place >= self.state.journal.end() {
                self.arrive(id, &connection);
                return self.wake_report(id);
            }
            if place < self.state.journal.first() {
                return fall_behind(id, &connection);
            }
            if !connection.outbox().has_replay_room() {
                break;
            }
            self.step(id, number, place, &connection);
        }
        connection.outbox().ask_for_more();
        self.wake_report(id);
    }

    fn sessions_behind(&self, instance: usize) -> Vec<SessionId> {
        self.instances
            .get(instance)
            .map(|instance| instance.subscriptions.sessions_behind())
            .unwrap_or_default()
    }

    /// Deals with one entry for one subscription.
    fn step(&mut self, id: SessionId, number: u64, place: u64, connection: &Arc<Connection>) {
        let unconfirmed = self.ledger.unconfirmed_place();
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        let Some(entry) = self.state.journal.get(place) else { return };
        let reading = Reading {
            journal: &self.state.journal,
            verdicts: &instance.verdicts,
            connection,
            unconfirmed,
            now: self.now,
        };
        let Some(subscription) = instance.subscriptions.get_mut(number) else { return };
        let progress = match reading.take(subscription, place, entry) {
            Step::Past => Progress::Behind(place + 1),
            Step::Over => Progress::Over,
            Step::Wait => Progress::Resting(place),
            Step::Rest(due) => {
                let alarm = self.timers.schedule(due, Event::Replay { session: id, subscription: number });
                subscription.replay_mut().into_iter().for_each(|replay| replay.alarm = Some(alarm));
                Progress::Resting(place)
            }
        };
        instance.subscriptions.set_progress(number, progress);
    }

    /// Subscriptions of a session that have come to the end of the journal are live from here on; those with an end of
    /// their own look whether they are over, and when they will be.
    fn arrive(&mut self, id: SessionId, connection: &Arc<Connection>) {
        let (end, unconfirmed) = (self.state.journal.end(), self.ledger.unconfirmed_place());
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        let reading = Reading {
            journal: &self.state.journal,
            verdicts: &instance.verdicts,
            connection,
            unconfirmed,
            now: self.now,
        };
        for number in instance.subscriptions.behind(id) {
            let Some(subscription) = instance.subscriptions.get_mut(number) else { continue };
            let sub_id = subscription.id.clone();
            let Some(replay) = subscription.replay_mut() else { continue };
            let progress = match &replay.until {
                None => Progress::Live,
                Some(until) if until.is_over(end, self.now) => Progress::Over,
                Some(until) => {
                    if let (None, Some(due)) = (replay.alarm, until.alarm()) {
                        let event = Event::Replay { session: id, subscription: number };
                        replay.alarm = Some(self.timers.schedule(due, event));
                    }
                    Progress::Behind(end)
                }
            };
            if !matches!(progress, Progress::Behind(_)) {
                reading.complete(replay, &sub_id, end);
            }
            instance.subscriptions.set_progress(number, progress);
        }
    }

    /// A subscription that waited goes on.
    pub(crate) fn wake(&mut self, id: SessionId, number: u64) {
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        let Some(replay) = instance.subscriptions.get_mut(number).and_then(Subscription::replay_mut) else {
            return;
        };
        replay.alarm = None;
        if let Progress::Resting(place) = replay.progress {
            instance.subscriptions.set_progress(number, Progress::Behind(place));
        }
        self.pump(id);
    }

    /// Hands an entry to those that have read everything before it.
    fn offer_live(&mut self, index: usize, place: u64) {
        let unconfirmed = self.ledger.unconfirmed_place();
        let Some(instance) = self.instances.get_mut(index) else { return };
        let Some(entry) = self.state.journal.get(place) else { return };
        for number in instance.subscriptions.covering(entry.topic.payload_type, &entry.topic.name) {
            let Some(subscription) = instance.subscriptions.get_mut(number) else { continue };
            if subscription.replay().is_none_or(|replay| replay.progress != Progress::Live) {
                continue;
            }
            let Some(session) = instance.sessions.get(&subscription.session.number) else { continue };
            let connection = &session.connection;
            if !connection.outbox().has_replay_room() {
                connection.outbox().ask_for_more();
                instance.subscriptions.set_progress(number, Progress::Behind(place));
                continue;
            }
            let (journal, verdicts) = (&self.state.journal, &instance.verdicts);
            let reading = Reading { journal, verdicts, connection, unconfirmed, now: self.now };
            match reading.take(subscription, place, entry) {
                Step::Over => instance.subscriptions.set_progress(number, Progress::Over),
                Step::Wait => instance.subscriptions.set_progress(number, Progress::Resting(place)),
                Step::Past | Step::Rest(_) => {}
            }
        }
    }
}

/// Closes a connection rather than pass over what is no more (T-9).
fn fall_behind(id: SessionId, connection: &Connection) {
    if connection.outbox().is_open() {
        log::warn!(target: LOG, "{id}: the journal has dropped what a subscription had still to read");
        connection.close_slow();
    }
}

/// What is needed to deal with an entry.
struct Reading<'a> {
    journal: &'a Journal,
    verdicts: &'a Verdicts,
    connection: &'a Arc<Connection>,
    /// The first entry that some instance which is waited for does not have.
    unconfirmed: Option<u64>,
    now: Time,
}

impl Reading<'_> {
    fn take(&self, subscription: &mut Subscription, place: u64, entry: &Entry) -> Step {
        let wanted = self.is_wanted(subscription, entry);
        let sub_id = subscription.id.clone();
        let Some(replay) = subscription.replay_mut() else { return Step::Over };
        if replay.has_to_wait(place, self.unconfirmed) {
            return Step::Wait;
        }
        if place >= replay.target && replay.until.is_none() {
            self.complete(replay, &sub_id, replay.target);
        }
        let ends = replay.until.as_mut().is_some_and(|until| until.ends_before(place, entry));
        if ends || replay.left == Some(0) {
            self.complete(replay, &sub_id, place);
            return Step::Over;
        }
        if !wanted {
            return Step::Past;
        }
        if replay.progress != Progress::Live
            && let Some(due) = replay.rest(entry, self.now)
        {
            return Step::Rest(due);
        }
        let is_first_live = place >= replay.target && !std::mem::replace(&mut replay.has_gone_live, true);
        self.send(subscription, entry, is_first_live);
        self.count(subscription, place)
    }

    /// Counts a message against the limit of a subscription.
    fn count(&self, subscription: &mut Subscription, place: u64) -> Step {
        let sub_id = subscription.id.clone();
        let Some(replay) = subscription.replay_mut() else { return Step::Over };
        replay.left = replay.left.map(|left| left.saturating_sub(1));
        if replay.left == Some(0) {
            self.complete(replay, &sub_id, place + 1);
            return Step::Over;
        }
        Step::Past
    }

    fn is_wanted(&self, subscription: &Subscription, entry: &Entry) -> bool {
        let topic = &entry.topic;
        if subscription.identity.payload_type != topic.payload_type
            || !subscription.topic.matches(&topic.name)
        {
            return false;
        }
        let document = entry.record.document(topic.payload_type);
        let verdict = self.verdicts.verdict(&subscription.question(&topic.name));
        verdict.shows(&document) && subscription.filter_matches(&document)
    }

    fn send(&self, subscription: &Subscription, entry: &Entry, is_first_live: bool) {
        let (record, wants) = (&entry.record, subscription.wants);
        let delivery = Delivery {
            topic: &entry.topic.name,
            sub_ids: &subscription.id,
            sow_key: if wants.sow_key { &record.key } else { "" },
            timestamp: &if wants.timestamp { record.time.text() } else { String::new() },
            bookmark: &entry.mark.to_string(),
            correlation_id: &record.correlation_id,
            user_id: &entry.user_id,
            payload: &record.payload,
            ..Delivery::default()
        };
        let frame = delivery.publish();
        let point = is_first_live.then_some(Point::Live);
        self.connection.send_replayed(Outgoing { point, ..frame }, self.now);
    }

    /// Says that the replay is complete, once, if that was asked for (T-5).
    fn complete(&self, replay: &mut Replay, sub_id: &str, place: u64) {
        let Some(command_id) = replay.completes.take() else { return };
        let mark = match place == replay.target {
            true => replay.target_mark,
            false => self.journal.mark_before(place),
        };
        let bookmark = mark.map_or("0|1|".to_owned(), |mark| mark.to_string());
        let kind = AckType::COMPLETED;
        let ack = Ack { kind, command_id: &command_id, sub_id, bookmark: &bookmark, ..Ack::default() };
        self.connection.send_replayed(ack.frame(), self.now);
    }
}

impl Replay {
    /// When an entry is due, if that is later than now.
    fn rest(&mut self, entry: &Entry, now: Time) -> Option<Time> {
        let pace = self.pace.as_mut()?;
        let (published, bytes) = (entry.record.time, entry.record.payload.len());
        let due = pace.due(published, now);
        if due > now {
            return Some(due);
        }
        pace.sent(published, bytes, now);
        None
    }
}
