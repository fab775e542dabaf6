//! Everything behind the one lock: the state, and the instances that share it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::clock::Time;
use super::entitlement::{Question, Rules, Verdict, Verdicts};
use super::recorder::Recorder;
use super::replay::Reports;
use super::replication::Ledger;
use super::session::{Identity, Session, SessionId};
use super::settings::Settings;
use super::state::State;
use super::subscriptions::{Subscription, Subscriptions};
use super::timers::{Event, Timers};

/// A whole server: because all of it lies behind one lock, all changes have one order (U-1).
#[derive(Debug)]
pub(crate) struct World {
    /// The time of the command or event in progress.
    pub(crate) now: Time,
    pub(crate) state: State,
    pub(crate) instances: Vec<Instance>,
    pub(crate) timers: Timers,
    /// What linked instances are told.
    pub(crate) ledger: Ledger,
    /// The number of this world among linked ones.
    pub(crate) home: usize,
}

/// What belongs to one instance alone: its sessions and their subscriptions.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) settings: Arc<Settings>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) logon_enabled: bool,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) verdicts: Verdicts,
    pub(crate) reports: Reports,
}

impl Instance {
    pub(crate) fn new(settings: Arc<Settings>, recorder: Arc<Recorder>) -> Instance {
        let verdicts = Verdicts::new(&settings.rules);
        let subscriptions = Subscriptions::default();
        Instance {
            settings,
            recorder,
            logon_enabled: true,
            sessions: BTreeMap::new(),
            subscriptions,
            verdicts,
            reports: Reports::default(),
        }
    }
}

impl World {
    pub(crate) fn new(state: State, instances: Vec<Instance>) -> World {
        World {
            now: Time::default(),
            state,
            instances,
            timers: Timers::default(),
            ledger: Ledger::default(),
            home: 0,
        }
    }

    /// One of several worlds with a state of their own, which tell each other what happens; they keep so much to tell.
    pub(crate) fn linked(state: State, instance: Instance, home: usize, limit: usize) -> World {
        World { ledger: Ledger::linked(limit), home, ..World::new(state.at_home(home), vec![instance]) }
    }

    pub(crate) fn instance(&self, id: SessionId) -> Option<&Instance> {
        self.instances.get(id.instance)
    }

    pub(crate) fn instance_mut(&mut self, id: SessionId) -> Option<&mut Instance> {
        self.instances.get_mut(id.instance)
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        self.instance(id)?.sessions.get(&id.number)
    }

    pub(crate) fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.instance_mut(id)?.sessions.get_mut(&id.number)
    }

    /// The subscriptions on the instance of a session.
    pub(crate) fn subscriptions(&self, id: SessionId) -> Option<&Subscriptions> {
        self.instance(id).map(|instance| &instance.subscriptions)
    }

    pub(crate) fn identity(&self, id: SessionId) -> Option<Arc<Identity>> {
        self.session(id)?.identity.clone()
    }

    pub(crate) fn verdict(&self, id: SessionId, question: &Question) -> Verdict {
        self.instance(id).map_or(Verdict::Deny, |instance| instance.verdicts.verdict(question))
    }

    /// Takes a session away, with everything that hangs on it (L-11).
    pub(crate) fn remove_session(&mut self, id: SessionId) {
        self.stop_heartbeat(id);
        self.drop_persisted(id);
        self.stop_reports(id);
        if let Some(instance) = self.instance_mut(id) {
            let ended = instance.subscriptions.remove_session(id);
            instance.sessions.remove(&id.number);
            self.retire(ended);
        }
    }

    /// Ends what subscriptions that were taken away have left behind.
    pub(crate) fn retire(&mut self, subscriptions: impl IntoIterator<Item = Subscription>) {
        let mut queues = BTreeSet::new();
        for subscription in subscriptions {
            let alarm = subscription.replay().and_then(|replay| replay.alarm);
            alarm.into_iter().for_each(|alarm| self.timers.cancel(alarm));
            queues.extend(self.give_back(&subscription));
        }
        queues.into_iter().for_each(|queue| self.dispatch(queue));
    }

    /// Does everything that is due by now, in the order of its times; false if there was nothing.
    pub(crate) fn settle(&mut self) -> bool {
        let now = self.now;
        let mut any = false;
        while let Some(due) = self.next_deadline().filter(|due| *due <= now) {
            any = true;
            if self.state.next_expiry() == Some(due) {
                if let Some(change) = self.state.expire_one(due) {
                    self.announce(&change);
                }
            } else if let Some(event) = self.timers.pop_due(due) {
                self.happen(event);
            }
        }
        any
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Heartbeat(session) => self.send_heartbeat(session),
            Event::BeatMissing(session) => self.close_silent(session),
            Event::Conflation { session, subscription, key } => self.release(session, subscription, &key),
            Event::Aged(session) => self.check_age(session),
            Event::Persisted(session) => self.send_persisted(session),
            Event::Replay { session, subscription } => self.wake(session, subscription),
            Event::Reports(session) => self.report(session),
            Event::Lease { queue, message } => self.end_lease(queue, message),
            Event::Expiry { queue, message } => self.expire_queued(queue, message),
            Event::Over(effect) => effect.end(),
        }
    }

    /// Closes a connection whose oldest frame has waited too long, or looks again when it would have (Z-1).
    pub(crate) fn check_age(&mut self, id: SessionId) {
        let Some(instance) = self.instances.get(id.instance) else { return };
        let (Some(limit), Some(session)) = (instance.settings.queue_age, instance.sessions.get(&id.number))
        else {
            return;
        };
        let due = session.connection.outbox().oldest().unwrap_or(self.now).plus(limit);
        if due <= self.now {
            session.connection.close_slow();
        } else {
            self.timers.schedule(due, Event::Aged(id));
        }
    }

    pub(crate) fn rules(&self, instance: usize) -> Rules {
        self.instances.get(instance).map(|instance| instance.settings.rules.clone()).unwrap_or_default()
    }

    /// Keeps an answer of the entitlement hook.
    pub(crate) fn learn(&mut self, instance: usize, question: Question, verdict: Verdict) {
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.verdicts.learn(question, verdict);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let events = self.timers.next_deadline().into_iter();
        events.chain(self.state.next_expiry()).min()
    }
}
