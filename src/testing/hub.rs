//! The one lock of a server, and the turns that are taken on what lies behind it.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::clock::{Clock, Driven, Time};
use super::connection::Connection;
use super::entitlement::Question;
use super::faults::Effect;
use super::session::{Session, SessionId};
use super::timers::Event;
use super::world::World;

/// The [`World`] and its lock.
///
/// Lock order: a manual clock, then the world, then one outbox, one door or one recorder. User code (hooks, predicates of a wait)
/// runs with none of them held.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) clock: Clock,
    world: Mutex<World>,
    /// Wakes the timer thread: there is an earlier deadline, or it is to end.
    wake: Condvar,
    stopping: AtomicBool,
}

/// A turn on the world: everything due before it has happened, and nothing else happens during it.
pub(crate) struct Turn<'a> {
    hub: &'a Hub,
    world: MutexGuard<'a, World>,
    /// The next deadline at the start of the turn.
    deadline: Option<Time>,
    /// Whether there may be something new for those who wait for a change.
    is_change: bool,
}

/// A question to the entitlement hook of one instance.
pub(crate) type Open = (usize, Question);

impl Hub {
    pub(crate) fn new(clock: Clock, world: World) -> Arc<Hub> {
        let hub = Arc::new(Hub {
            clock: clock.clone(),
            world: Mutex::new(world),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
        });
        let weak = Arc::downgrade(&hub);
        clock.drive(weak);
        hub
    }

    /// Waits for a turn.
    pub(crate) fn lock(&self) -> Turn<'_> {
        let mut turn = self.look();
        turn.is_change = true;
        turn
    }

    /// Waits for a turn that changes nothing.
    pub(crate) fn look(&self) -> Turn<'_> {
        let mut world = self.world.lock();
        world.now = self.clock.time();
        let is_change = world.settle();
        let deadline = world.next_deadline();
        Turn { hub: self, world, deadline, is_change }
    }

    /// Waits for a turn in which the answers to these questions are known. The hook is asked outside of any turn.
    pub(crate) fn lock_entitled(&self, questions: impl Fn(&World) -> Vec<Open>) -> Turn<'_> {
        loop {
            let turn = self.lock();
            let open = turn.unanswered(&questions);
            if open.is_empty() {
                return turn;
            }
            let asked: Vec<_> = open.into_iter().map(|open| (turn.rules(open.0), open)).collect();
            drop(turn);
            let answered: Vec<_> =
                asked.into_iter().map(|(rules, open)| (rules.ask(&open.1), open)).collect();
            let mut turn = self.lock();
            for (verdict, (instance, question)) in answered {
                turn.learn(instance, question, verdict);
            }
        }
    }

    /// Takes in a connection that was just accepted.
    pub(crate) fn enter(&self, connection: Arc<Connection>) {
        let mut turn = self.lock();
        let id = connection.id;
        if let Some(instance) = turn.instance_mut(id) {
            instance.sessions.insert(id.number, Session::new(connection));
        }
        turn.check_age(id);
    }

    /// Forgets a connection (L-11).
    pub(crate) fn leave(&self, id: SessionId) {
        self.lock().remove_session(id);
    }

    /// Ends an effect so long after a moment; without a time it lasts until somebody ends it.
    pub(crate) fn end_later(&self, effect: &Arc<Effect>, lasting: Option<Duration>, from: Time) {
        if let Some(lasting) = lasting {
            self.end_at(effect, from.plus(lasting));
        }
    }

    pub(crate) fn end_at(&self, effect: &Arc<Effect>, time: Time) {
        let mut turn = self.lock();
        if time <= turn.now {
            drop(turn);
            effect.end();
        } else {
            turn.timers.schedule(time, Event::Over(effect.clone()));
        }
    }

    /// Does what falls due, on the real clock, until [`stop_timer`](Hub::stop_timer); the body of the timer thread.
    pub(crate) fn run_timer(&self) {
        loop {
            let mut turn = self.look();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let now = turn.now;
            match turn.next_deadline() {
                Some(deadline) => {
                    self.wake.wait_for(&mut turn.world, deadline.since(now));
                }
                None => self.wake.wait(&mut turn.world),
            }
        }
    }

    pub(crate) fn stop_timer(&self) {
        let _turn = self.lock();
        self.stopping.store(true, Ordering::SeqCst);
        self.wake.notify_all();
    }

    /// Makes a stopped hub ready for another timer thread.
    pub(crate) fn rearm_timer(&self) {
        self.stopping.store(false, Ordering::SeqCst);
    }
}

impl Driven for Hub {
    fn next_deadline(&self) -> Option<Time> {
        self.world.lock().next_deadline()
    }

    fn run_due(&self) {
        drop(self.look());
    }
}

impl Deref for Turn<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_change {
            self.world.instances.iter().for_each(|instance| instance.recorder.bump());
        }
        let sooner = match (self.world.next_deadline(), self.deadline) {
            (Some(now), Some(before)) => now < before,
            (now, None) => now.is_some(),
            (None, Some(_)) => false,
        };
        if sooner {
            self.hub.wake.notify_all();
        }
    }
}

impl World {
    /// Those of the questions whose answers are not known, each once.
    fn unanswered(&self, questions: impl Fn(&World) -> Vec<Open>) -> HashSet<Open> {
        if self.instances.iter().all(|instance| instance.verdicts.is_open()) {
            return HashSet::new();
        }
        let unknown = |(instance, question): &Open| {
            self.instances.get(*instance).is_some_and(|instance| !instance.verdicts.knows(question))
        };
        questions(self).into_iter().filter(unknown).collect()
    }
}
