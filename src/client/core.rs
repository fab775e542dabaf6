//! What all handles, threads and streams of one client share.
//!
//! # Lock order
//!
//! `lifecycle` → `session` → `routes` → `link` → `acks` → a stream's queue. Whoever holds one of them takes only those
//! to the right. `registry`, `settings` and `queue_acks` are leaves: nothing is taken while they are held. None is held across user
//! code, a blocking read or write, or a wait; the exception is a handler's own cell, which only receive threads take.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Config;
use super::acks::AckTable;
use super::context::{ListenerScope, ThreadKey, is_any_receive_thread};
use super::driver::AttemptLimit;
use super::heartbeat::HeartbeatSetting;
use super::link::{Link, Patience, Refusal, Sender, StoredFrames};
use super::publishing::StoreFrames;
use super::queue::QueueAcks;
use super::registry::Registry;
use super::replays::Replays;
use super::reply::Reply;
use super::session::{Phase, Session};
use super::sinks::Routes;
use super::worker::Worker;
use crate::callbacks::{ConnectionState, Origin, UnhandledError};
use crate::error::{Error, ErrorKind, Result};
use crate::options::text;
use crate::store::PublishStore;
use crate::stream::{Depth, End};

/// The shared state of one client.
#[derive(Debug)]
pub(crate) struct Core {
    /// Tells clients of one process apart.
    pub(crate) id: u64,
    pub(crate) config: Config,
    pub(crate) link: Arc<Link>,
    pub(crate) session: Mutex<Session>,
    pub(crate) routes: Routes,
    pub(crate) acks: Mutex<AckTable<Arc<Reply>>>,
    pub(crate) replays: Replays,
    pub(crate) queue_acks: QueueAcks,
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Settings,
    /// The key of the receive thread of the current connection, 0 if there is none.
    pub(crate) receive_thread: AtomicU64,
    /// Bumped by whatever ends a connection on purpose; a receive thread that sees it move stops.
    pub(crate) stops: AtomicU64,
    pub(crate) threads: Threads,
    /// Counts resubscriptions that have ended.
    recoveries: AtomicU64,
    pub(crate) attempt_limit: AttemptLimit,
    /// The handles of the application.
    pub(crate) owners: Owners,
    /// Itself, for what is lent to callbacks.
    pub(crate) me: Weak<Core>,
}

/// How many handles the application holds. The threads of the client hold none, so that the last one means that the
/// application is done; from then on there are no more.
#[derive(Debug)]
pub(crate) struct Owners(AtomicUsize);

/// What may change while the client runs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) retry_on_disconnect: AtomicBool,
    pub(crate) default_depth: Mutex<Depth>,
    pub(crate) correlation_data: Mutex<String>,
    pub(crate) heartbeat: Mutex<HeartbeatSetting>,
    /// Moves with every change of the heartbeat.
    pub(crate) heartbeat_changes: AtomicU64,
    pub(crate) slow_handlers: AtomicU64,
}

/// The receive threads that may still run, and whether somebody closes the client.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    running: Mutex<Vec<Arc<Worker>>>,
    closing: Mutex<Closing>,
    closed: Condvar,
}

/// Whether the client is being closed.
#[derive(Debug, Default)]
struct Closing {
    now: bool,
    /// Moves when it begins and when it ends, for those who look too late.
    moves: u64,
}

impl Core {
    pub(crate) fn new(config: Config) -> Arc<Core> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let registry = Arc::new(Registry::default());
        let frames = |store: &Arc<dyn PublishStore>| -> Box<dyn StoredFrames> {
            Box::new(StoreFrames { store: Arc::clone(store), registry: Arc::clone(&registry) })
        };
        let frames = config.publish_store.as_ref().map(frames);
        let link = Arc::new(Link::new(&config.name, config.outbox_limit, frames));
        Arc::new_cyclic(|me| Core {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            config,
            link,
            session: Mutex::default(),
            routes: Routes::default(),
            acks: Mutex::default(),
            replays: Replays::default(),
            queue_acks: QueueAcks::default(),
            registry,
            settings: Settings {
                retry_on_disconnect: AtomicBool::new(true),
                default_depth: Mutex::new(Depth::DEFAULT),
                correlation_data: Mutex::default(),
                heartbeat: Mutex::default(),
                heartbeat_changes: AtomicU64::new(0),
                slow_handlers: AtomicU64::new(0),
            },
            receive_thread: AtomicU64::new(0),
            stops: AtomicU64::new(0),
            threads: Threads::default(),
            recoveries: AtomicU64::new(0),
            attempt_limit: AttemptLimit::none(),
            owners: Owners(AtomicUsize::new(1)),
            me: Weak::clone(me),
        })
    }

    /// True on the receive thread of the current connection.
    #[inline]
    pub(crate) fn is_receive_thread(&self) -> bool {
        self.receive_thread.load(Ordering::Acquire) == ThreadKey::current().as_u64()
    }

    /// How many resubscriptions have ended. Whoever finds it moved when the gate is open has missed one.
    pub(crate) fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Acquire)
    }

    /// A resubscription has ended, well or not, and the gate is not open yet.
    pub(crate) fn end_recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::AcqRel);
    }

    /// True if a lost connection is likely to be repaired, so that what is remembered will be placed again.
    pub(crate) fn will_recover(&self) -> bool {
        let handled = self.config.driven || self.registry.disconnect_handler().is_some();
        handled && self.session.lock().may_recover()
    }

    /// Refuses a call that would wait for an answer where none can come (T-6, S-3).
    pub(crate) fn refuse_to_hang(&self, what: &str) -> Result<()> {
        let place = if self.is_receive_thread() {
            "on the receive thread, which alone can receive the answer: use another thread or another client"
        } else if ListenerScope::is_inside(self.id) {
            "inside a connection-state listener, where nothing may wait"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Usage, format!("{what} was called {place}")))
    }

    /// Whether the calling thread may wait.
    #[inline]
    pub(crate) fn may_wait(&self) -> bool {
        !self.is_receive_thread() && !ListenerScope::is_inside(self.id)
    }

    /// How the calling thread sends.
    pub(crate) fn sender(&self, deadline: Option<Instant>) -> Sender {
        Sender {
            thread: ThreadKey::current(),
            never_waits: !self.may_wait(),
            patience: match self.settings.retry_on_disconnect.load(Ordering::Relaxed) {
                true => Patience::Outage,
                false => Patience::None,
            },
            deadline,
        }
    }

    /// The error for something that was not sent.
    pub(crate) fn refusal(&self, refusal: Refusal, what: &str) -> Error {
        match refusal {
            Refusal::Frame(error) => error,
            Refusal::NotConnected => Error::new(
                ErrorKind::Disconnected,
                format!("{what} was not sent: the client is not connected"),
            ),
            Refusal::GivenUp => Error::new(
                ErrorKind::Disconnected,
                format!("{what} was not sent: the connection was lost and did not come back"),
            ),
            Refusal::Busy => {
                let text = format!("{what} was not sent: a logon or a reconnect is in progress");
                Error::new(ErrorKind::RetryOperation, text)
            }
            Refusal::TimedOut => {
                Error::new(ErrorKind::TimedOut, format!("{what} could not be sent within the time allowed"))
            }
            Refusal::OutboxFull => Error::new(
                ErrorKind::Connection,
                format!(
                    "{what} was not sent: outbox full, {} bytes wait for the writer",
                    self.config.outbox_limit
                ),
            ),
        }
    }

    /// Announces a state, if it is still true when it is this thread's turn. `Shutdown` is announced once, and the end of
    /// a connection only if it had been announced.
    fn announce_while(
        &self,
        state: ConnectionState,
        limit: Option<Duration>,
        is_true: impl Fn(&mut Session) -> bool,
    ) {
        self.registry.announce(self.id, state, limit, || {
            let mut session = self.session.lock();
            if !state.may_follow(session.announced) || !is_true(&mut session) {
                return false;
            }
            session.announced = state;
            true
        });
    }

    /// Announces that a connection has begun, unless it is gone again. The one before it may still be waiting for the
    /// announcement of its end.
    pub(crate) fn announce_connected(&self, version: u64) {
        self.announce_end(version.saturating_sub(1));
        self.announce_while(ConnectionState::Connected, None, |session| {
            let is_current = self.link.is_current(version);
            if is_current {
                session.announced_version = version;
            }
            is_current
        });
    }

    /// Announces a state above Connected, unless the connection is gone again (S-6).
    pub(crate) fn announce_if_connected(&self, version: u64, state: ConnectionState) {
        self.announce_while(state, None, |_| self.link.is_current(version));
    }

    /// Announces the end of a connection, unless a later one was announced meanwhile, and this end with it.
    pub(crate) fn announce_end(&self, version: u64) {
        self.announce_while(ConnectionState::Disconnected, None, |session| {
            session.announced_version <= version
        });
    }

    /// Announces that there is no connection and will be none, unless somebody has made one meanwhile.
    pub(crate) fn announce_shutdown(&self) {
        self.announce_while(ConnectionState::Shutdown, None, |session| !session.is_connected());
    }

    pub(crate) fn report(&self, error: Error, origin: Origin) {
        self.registry.report(UnhandledError::new(error, origin));
    }

    /// Releases whoever waits for an answer on this connection or an earlier one (D-4). Returns the ids of their commands.
    pub(crate) fn release_waiters(&self, version: u64, cause: &Error) -> Vec<String> {
        let cause = lost_while_waiting(cause);
        let released = self.acks.lock().release(version);
        let tell = |(command, waiter): (String, Arc<Reply>)| {
            waiter.fulfil(Err(cause.clone()));
            command
        };
        released.into_iter().map(tell).collect()
    }

    /// Releases whoever waits for an answer, also to what was not sent yet: it will not be.
    pub(crate) fn release_everybody(&self, cause: &Error) {
        let waiters = self.acks.lock().release_all();
        for waiter in waiters {
            waiter.fulfil(Err(cause.clone()));
        }
    }

    /// Ends the routes and streams of a lost connection. A command that was not sent yet goes on waiting and keeps its
    /// own. A query that a handler waits for has nobody else to hear of its end, unless its caller was `released`.
    pub(crate) fn end_routes(&self, cause: &Error, released: &[String]) {
        let cause = lost_while_waiting(cause);
        let still_waits = |command: &str| self.acks.lock().is_waiting(command);
        for (command, query) in self.routes.fail(&cause, still_waits) {
            if !released.contains(&command) {
                let failure = UnhandledError::new(cause.clone(), Origin::Connection);
                self.registry.report(failure.with_id(Some(&query)));
            }
        }
    }

    /// A subscription, or several in a comma list, are not placed again.
    pub(crate) fn forget_subscription(&self, sub_ids: &str) {
        if let Some(manager) = &self.config.subscription_manager {
            manager.unsubscribe(sub_ids);
        }
        text::ids(sub_ids).for_each(|id| self.replays.remove(id));
    }

    /// Subscriptions end here, whatever becomes of telling the server: their routes first (SM-13).
    ///
    /// The server takes back what they have not acknowledged, so what is done is told before.
    pub(crate) fn end_subscriptions(&self, sub_ids: &str) {
        self.end_routes_of(sub_ids);
        self.send_all_acks();
    }

    fn end_routes_of(&self, sub_ids: &str) {
        if sub_ids.trim() != "all" {
            text::ids(sub_ids).for_each(|id| self.routes.end_one(id, &End::Complete));
            return self.forget_subscription(sub_ids);
        }
        self.routes.end_subscriptions();
        if let Some(manager) = &self.config.subscription_manager {
            manager.clear();
        }
        self.replays.clear();
    }

    /// No connection will follow: everything ends, and a stream that has ended is not placed again.
    pub(crate) fn end_everything(&self, end: &End) {
        for id in self.routes.end_all(end) {
            self.forget_subscription(&id);
        }
    }

    /// This thread has made a connection and lets everybody use it. False if it is gone again; all that was about it is
    /// over then.
    pub(crate) fn open_to_all(&self, me: ThreadKey, version: u64) -> bool {
        let open = self.link.open(me);
        if !open {
            let text = "the connection was lost before it could be used";
            self.abandon(version, &Error::new(ErrorKind::Disconnected, text), None);
        }
        open
    }

    /// Drops the connection of this version, whose logon failed or that is given up: not a loss, so nobody is asked to
    /// repair it. Waits for its thread, for at most `limit` if there is one. A later connection is left alone.
    pub(crate) fn abandon(&self, version: u64, cause: &Error, limit: Option<Duration>) {
        let me = ThreadKey::current();
        // Nobody installs a connection while the session is locked: what runs here belongs to this one or to earlier ones.
        let (transport, workers, receiving) = {
            let mut session = self.session.lock();
            if self.link.version() != version {
                return;
            }
            self.stops.fetch_add(1, Ordering::AcqRel);
            session.disconnect();
            let goes_on = session.is_repaired_by(me) && !session.is_closed_to(me);
            let transport = if goes_on { self.link.discard(me) } else { self.link.close() };
            (transport, self.threads.running(), self.receive_thread.load(Ordering::Acquire))
        };
        if let Some(transport) = transport {
            transport.shutdown();
        }
        let released = self.release_waiters(version, cause);
        self.end_routes(cause, &released);
        wait_for(&workers, limit);
        let _ = self.receive_thread.compare_exchange(receiving, 0, Ordering::AcqRel, Ordering::Relaxed);
        self.announce_end(version);
    }

    /// Ends everything and waits for it: what `close` does, and with a limit, for all of it, what dropping the last
    /// handle does.
    pub(crate) fn close(&self, limit: Option<Duration>) {
        let hangs = is_any_receive_thread(self.id) || ListenerScope::is_inside(self.id);
        if !self.threads.begin_close(!hangs, limit) {
            return;
        }
        let deadline = limit.map(|limit| Instant::now() + limit);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        {
            let mut session = self.session.lock();
            session.closing = true;
            session.closed = true;
            session.cancel_repair();
        }
        // Whoever is woken looks at the session.
        self.threads.wake_sleepers();
        self.send_last_acks(!hangs && limit.is_none());
        if !hangs {
            self.link.drain(left().unwrap_or(DRAIN).min(DRAIN));
        }
        self.session.lock().disconnect();
        self.stops.fetch_add(1, Ordering::AcqRel);
        if let Some(transport) = self.link.close() {
            transport.shutdown();
        }
        self.release_everybody(&Error::new(ErrorKind::Disconnected, "the client was closed"));
        self.end_everything(&End::Complete);
        self.link.stop_flusher(if hangs { Some(Duration::ZERO) } else { left() });
        if !hangs {
            self.wait_for_threads(left());
        }
        self.queue_acks.clear();
        self.receive_thread.store(0, Ordering::Release);
        self.announce_while(ConnectionState::Disconnected, left(), |_| true);
        self.announce_while(ConnectionState::Shutdown, left(), |_| true);
        self.session.lock().closing = false;
        self.threads.end_close();
    }

    /// Waits for the receive threads, but for the calling one, for at most `limit` in all.
    pub(crate) fn wait_for_threads(&self, limit: Option<Duration>) {
        wait_for(&self.threads.running(), limit);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.session.lock().phase != Phase::Disconnected
    }

    /// Waits, unless the client is closed meanwhile, which ends the wait at once. False if it was, or if what this thread
    /// is at was cancelled by that before.
    pub(crate) fn sleep_unless_closed(&self, time: Duration) -> bool {
        let closes = self.closes();
        !self.session.lock().is_closed_to(ThreadKey::current())
            && self.sleep_unless_closed_since(closes, time)
    }

    /// Moves when a close begins and when it ends.
    pub(crate) fn closes(&self) -> u64 {
        self.threads.closing.lock().moves
    }

    /// Waits, unless the client was or is closed since [`Core::closes`] was asked. False if so.
    pub(crate) fn sleep_unless_closed_since(&self, closes: u64, time: Duration) -> bool {
        self.threads.sleep(time, closes)
    }
}

impl Owners {
    /// One more, unless they are all gone.
    pub(crate) fn join(&self) -> bool {
        let more = |count: usize| (count > 0).then(|| count + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    /// One less. True if that was the last.
    pub(crate) fn leave(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn are_gone(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

fn wait_for(workers: &[Arc<Worker>], limit: Option<Duration>) {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    for worker in workers {
        worker.wait(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
    }
}

/// How long `close` lets the last frames leave.
const DRAIN: Duration = Duration::from_millis(100);

/// The error of a command whose answer will not come.
pub(crate) fn lost_while_waiting(cause: &Error) -> Error {
    if cause.is_disconnect() {
        return cause.clone();
    }
    Error::new(ErrorKind::Disconnected, "the connection was lost while an answer was awaited")
        .with_source(cause.clone())
}

impl Threads {
    pub(crate) fn add(&self, worker: Worker) {
        let mut running = self.running.lock();
        running.retain(|worker| !worker.has_ended());
        running.push(Arc::new(worker));
    }

    fn running(&self) -> Vec<Arc<Worker>> {
        self.running.lock().clone()
    }

    /// Makes the caller the one who closes. If somebody else is at it, waits for them if `wait`, and returns false.
    fn begin_close(&self, wait: bool, limit: Option<Duration>) -> bool {
        let mut closing = self.closing.lock();
        if !closing.now {
            closing.now = true;
            return true;
        }
        while wait && closing.now {
            match limit {
                None => self.closed.wait(&mut closing),
                Some(limit) => {
                    if self.closed.wait_for(&mut closing, limit).timed_out() {
                        break;
                    }
                }
            }
        }
        false
    }

    /// Whoever sleeps until the client is closed goes on.
    fn wake_sleepers(&self) {
        self.closing.lock().moves += 1;
        self.closed.notify_all();
    }

    /// Sleeps for as long as nobody closes the client. `moves` was read before the caller made sure that it is wanted.
    fn sleep(&self, time: Duration, moves: u64) -> bool {
        let deadline = Instant::now().checked_add(time);
        let mut closing = self.closing.lock();
        while closing.moves == moves {
            match deadline {
                None => self.closed.wait(&mut closing),
                Some(deadline) => {
                    if self.closed.wait_until(&mut closing, deadline).timed_out() {
                        break;
                    }
                }
            }
        }
        closing.moves == moves
    }

    fn end_close(&self) {
        let mut closing = self.closing.lock();
        closing.now = false;
        closing.moves += 1;
        self.closed.notify_all();
    }
}
