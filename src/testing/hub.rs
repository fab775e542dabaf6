//! The one lock of a server, and the turns that are taken on what lies behind it.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::clock::{Clock, Driven, Time};
use super::connection::Connection;
use super::entitlement::Question;
use super::faults::Effect;
use super::replication::{LinkState, Worlds};
use super::session::{Session, SessionId};
use super::timers::Event;
use super::world::World;
use crate::error::{Error, ErrorKind, Result};

/// What the instances of a server, or a cluster, have in common: one lock, and the [`Worlds`] behind it. A hub is the view
/// of one of them.
///
/// Lock order: a manual clock or the timer, then the worlds, then one outbox, one door or one recorder. User code (hooks, predicates of a wait)
/// runs with none of them held.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) clock: Clock,
    shared: Arc<Shared>,
    /// Which of the worlds this is about.
    world: usize,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    worlds: Mutex<Worlds>,
    /// Wakes the timer thread: there is an earlier deadline, or it is to end.
    wake: Condvar,
    stopping: AtomicBool,
    timer: Mutex<Timer>,
}

/// The timer thread, and how many instances it works for.
#[derive(Debug, Default)]
struct Timer {
    users: usize,
    thread: Option<JoinHandle<()>>,
}

/// A turn on a world: everything due before it has happened, and nothing else happens during it.
pub(crate) struct Turn<'a> {
    shared: &'a Shared,
    worlds: MutexGuard<'a, Worlds>,
    world: usize,
    /// The next deadline at the start of the turn.
    deadline: Option<Time>,
    /// Whether there may be something new for those who wait for a change.
    is_change: bool,
}

/// A question to the entitlement hook of one instance.
pub(crate) type Open = (usize, Question);

impl Hub {
    pub(crate) fn new(clock: Clock, world: World) -> Arc<Hub> {
        let shared = Shared::new(clock.clone(), Worlds::one(world));
        Arc::new(Hub { clock, shared, world: 0 })
    }

    /// The views of linked worlds, in their order.
    pub(crate) fn linked(clock: &Clock, first: World, others: Vec<World>) -> Vec<Arc<Hub>> {
        let count = others.len() + 1;
        let shared = Shared::new(clock.clone(), Worlds::linked(first, others));
        let hub = |world| Arc::new(Hub { clock: clock.clone(), shared: shared.clone(), world });
        (0..count).map(hub).collect()
    }

    /// Notes that the instance starts or stops.
    pub(crate) fn set_running(&self, runs: bool) {
        let mut turn = self.lock();
        match runs {
            true => turn.worlds.start(self.world),
            false => turn.worlds.stop(self.world),
        }
    }

    /// Looks at the link from this world to another, or changes it; `None` if there is none.
    pub(crate) fn with_link<T>(&self, to: usize, change: impl FnOnce(&mut LinkState) -> T) -> Option<T> {
        let mut turn = self.lock();
        let from = self.world;
        turn.worlds.link_mut(from, to).map(change)
    }

    /// How much the link to another world has still to copy.
    pub(crate) fn pending(&self, to: usize) -> u64 {
        self.look().worlds.pending(self.world, to)
    }

    /// Waits for a turn.
    pub(crate) fn lock(&self) -> Turn<'_> {
        let mut turn = self.look();
        turn.is_change = true;
        turn
    }

    /// Waits for a turn that changes nothing.
    pub(crate) fn look(&self) -> Turn<'_> {
        self.shared.look(self.world)
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
            let interval = instance.settings.ack_conflation;
            instance.sessions.insert(id.number, Session::new(connection, interval));
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

    /// Begins to work for an instance, which ends with [`stop_timer`](Hub::stop_timer) in any case. A manual clock needs
    /// no thread: whoever advances it does the work.
    pub(crate) fn start_timer(&self) -> Result<()> {
        let mut timer = self.shared.timer.lock();
        timer.users += 1;
        if timer.thread.is_some() || self.clock.is_manual() {
            return Ok(());
        }
        self.shared.stopping.store(false, Ordering::SeqCst);
        let shared = self.shared.clone();
        let thread =
            thread::Builder::new().name("amps-server-timer".into()).spawn(move || shared.run_timer());
        timer.thread = Some(thread.map_err(|e| {
            Error::new(ErrorKind::Connection, "cannot start the timer thread").with_source(e)
        })?);
        Ok(())
    }

    /// Ends to work for an instance. Blocks until the thread has ended, if that was the last one.
    pub(crate) fn stop_timer(&self) {
        let mut timer = self.shared.timer.lock();
        timer.users = timer.users.saturating_sub(1);
        let thread = if timer.users == 0 { timer.thread.take() } else { None };
        if let Some(thread) = thread {
            let turn = self.lock();
            self.shared.stopping.store(true, Ordering::SeqCst);
            self.shared.wake.notify_all();
            drop(turn);
            // A timer that panicked has stopped as well.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn new(clock: Clock, worlds: Worlds) -> Arc<Shared> {
        let shared = Arc::new(Shared {
            clock: clock.clone(),
            worlds: Mutex::new(worlds),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            timer: Mutex::default(),
        });
        let weak = Arc::downgrade(&shared);
        clock.drive(weak);
        shared
    }

    fn look(&self, world: usize) -> Turn<'_> {
        let mut worlds = self.worlds.lock();
        let is_change = worlds.settle(self.clock.time());
        let deadline = worlds.next_deadline();
        Turn { shared: self, worlds, world, deadline, is_change }
    }

    /// Does what falls due, on the real clock; the body of the timer thread.
    fn run_timer(&self) {
        loop {
            let mut turn = self.look(0);
            turn.worlds.replicate();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let now = turn.now;
            match turn.worlds.next_deadline() {
                Some(deadline) => {
                    self.wake.wait_for(&mut turn.worlds, deadline.since(now));
                }
                None => self.wake.wait(&mut turn.worlds),
            }
        }
    }
}

impl Driven for Shared {
    fn next_deadline(&self) -> Option<Time> {
        self.worlds.lock().next_deadline()
    }

    fn run_due(&self) {
        drop(self.look(0));
    }
}

impl Deref for Turn<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        self.worlds.get(self.world)
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut World {
        self.worlds.get_mut(self.world)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_change {
            self.worlds.replicate();
            let instances = self.worlds.iter().flat_map(|world| &world.instances);
            instances.for_each(|instance| instance.recorder.bump());
        }
        let sooner = match (self.worlds.next_deadline(), self.deadline) {
            (Some(now), Some(before)) => now < before,
            (now, None) => now.is_some(),
            (None, Some(_)) => false,
        };
        if sooner {
            self.shared.wake.notify_all();
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
