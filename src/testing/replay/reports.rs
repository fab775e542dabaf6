//! What bookmark subscriptions are told of the safety of messages (T-12).

use std::collections::BTreeSet;

use crate::testing::frames::Ack;
use crate::testing::session::SessionId;
use crate::testing::timers::Event;
use crate::testing::world::World;
use crate::wire::AckType;

/// The sessions whose subscriptions want reports. One that has nothing new to be told is idle, and has no timer.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    idle: BTreeSet<u64>,
}

impl World {
    /// Begins to report to a session.
    pub(crate) fn start_reports(&mut self, id: SessionId) {
        let is_scheduled = self.session(id).is_none_or(|session| session.reports.is_some());
        if !is_scheduled {
            self.schedule_reports(id);
        }
    }

    /// Ends the reports to a session.
    pub(crate) fn stop_reports(&mut self, id: SessionId) {
        let timer = self.session_mut(id).and_then(|session| session.reports.take());
        timer.into_iter().for_each(|timer| self.timers.cancel(timer));
        if let Some(instance) = self.instance_mut(id) {
            instance.reports.idle.remove(&id.number);
        }
    }

    /// There is something new for every session of an instance.
    pub(super) fn wake_reports(&mut self, index: usize) {
        let Some(instance) = self.instances.get_mut(index) else { return };
        for number in std::mem::take(&mut instance.reports.idle) {
            self.schedule_reports(SessionId { instance: index, number });
        }
    }

    /// There may be something new for this session.
    pub(crate) fn wake_report(&mut self, id: SessionId) {
        let was_idle = self.instance_mut(id).is_some_and(|instance| instance.reports.idle.remove(&id.number));
        if was_idle {
            self.schedule_reports(id);
        }
    }

    /// Tells each subscription of a session the last entry that it is past, if that has changed.
    ///
    /// Nothing beyond that, so that a client which loses its connection in the middle of a replay can go on there.
    pub(crate) fn report(&mut self, id: SessionId) {
        let (now, journal, unconfirmed) = (self.now, &self.state.journal, self.ledger.unconfirmed_place());
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        let Some(session) = instance.sessions.get_mut(&id.number) else { return };
        session.reports = None;
        let mut is_news = false;
        let mut wants_reports = false;
        for number in instance.subscriptions.of_session(id) {
            let Some(subscription) = instance.subscriptions.get_mut(number) else { continue };
            let sub_id = subscription.id.clone();
            let Some(replay) = subscription.replay_mut().filter(|replay| replay.reports) else { continue };
            wants_reports = true;
            let mark = replay.safe_mark(journal, unconfirmed).filter(|mark| replay.reported != Some(*mark));
            if let Some(mark) = mark {
                is_news = true;
                replay.reported = Some(mark);
                let bookmark = mark.to_string();
                let kind = AckType::PERSISTED;
                let ack = Ack { kind, sub_id: &sub_id, bookmark: &bookmark, ..Ack::default() };
                session.connection.send(ack.frame(), now);
            }
        }
        if is_news {
            self.schedule_reports(id);
        } else if wants_reports {
            instance.reports.idle.insert(id.number);
        }
    }

    fn schedule_reports(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let due = self.now.plus(session.persisted.interval());
        let timer = self.timers.schedule(due, Event::Reports(id));
        if let Some(session) = self.session_mut(id) {
            session.reports = Some(timer);
        }
    }
}
