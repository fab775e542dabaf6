//! What all handles, threads and streams of one client share.
//!
//! # Lock order
//!
//! `lifecycle` → `session` → `routes` → `link` → `acks` → a stream's queue. Whoever holds one of them takes only those
//! to the right. `registry` and `settings` are leaves: nothing is taken while they are held. None is held across user
//! code, a blocking read or write, or a wait; the exception is a handler's own cell, which only receive threads take.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::acks::AckTable;
use super::context::{ListenerScope, ThreadKey, is_any_receive_thread};
use super::heartbeat::HeartbeatSetting;
use super::link::{Link, Refusal, Sender, StoredFrames};
use super::publishing::StoreFrames;
use super::registry::Registry;
use super::reply::Reply;
use super::session::{Phase, Session};
use super::sinks::Routes;
use super::worker::Worker;
use super::{ClientHandle, Config};
use crate::callbacks::{ConnectionState, Origin, UnhandledError};
use crate::error::{Error, ErrorKind, Result};
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
    pub(crate) registry: Arc<Registry>,
    pub(crate) settings: Settings,
    /// The key of the receive thread of the current connection, 0 if there is none.
    pub(crate) receive_thread: AtomicU64,
    /// Bumped by whatever ends a connection on purpose; a receive thread that sees it move stops.
    pub(crate) stops: AtomicU64,
    pub(crate) threads: Threads,
    /// Counts resubscriptions, from before each begins.
    recoveries: AtomicU64,
    /// The handle that callbacks are given, as long as the application holds one.
    pub(crate) handle: Mutex<std::sync::Weak<ClientHandle>>,
}

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
    closing: Mutex<bool>,
    closed: Condvar,
}

impl Core {
    pub(crate) fn new(config: Config) -> Core {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let registry = Arc::new(Registry::default());
        let frames = |store: &Arc<dyn PublishStore>| -> Box<dyn StoredFrames> {
            Box::new(StoreFrames { store: Arc::clone(store), registry: Arc::clone(&registry) })
        };
        let frames = config.publish_store.as_ref().map(frames);
        let link = Arc::new(Link::new(&config.name, config.outbox_limit, frames));
        Core {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            config,
            link,
            session: Mutex::default(),
            routes: Routes::default(),
            acks: Mutex::default(),
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
            handle: Mutex::default(),
        }
    }

    /// True on the receive thread of the current connection.
    #[inline]
    pub(crate) fn is_receive_thread(&self) -> bool {
        self.receive_thread.load(Ordering::Acquire) == ThreadKey::current().as_u64()
    }

    /// How many resubscriptions have begun.
    pub(crate) fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Acquire)
    }

    /// A resubscription begins.
    pub(crate) fn begin_recovery(&self) {
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

    /// How the calling thread sends.
    pub(crate) fn sender(&self, deadline: Option<Instant>) -> Sender {
        Sender {
            thread: ThreadKey::current(),
            never_waits: self.is_receive_thread() || ListenerScope::is_inside(self.id),
            patient: self.settings.retry_on_disconnect.load(Ordering::Relaxed),
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
    fn announce_while(&self, state: ConnectionState, limit: Option<Duration>, is_true: impl Fn() -> bool) {
        self.registry.announce(self.id, state, limit, || {
            let mut session = self.session.lock();
            if !state.may_follow(session.announced) || !is_true() {
                return false;
            }
            session.announced = state;
            true
        });
    }

    pub(crate) fn announce(&self, state: ConnectionState) {
        self.announce_while(state, None, || true);
    }

    /// Announces a state above Connected, unless the connection is gone again (S-6).
    pub(crate) fn announce_if_connected(&self, version: u64, state: ConnectionState) {
        self.announce_while(state, None, || self.link.is_current(version));
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

    /// No connection will follow: everything ends, and a stream that has ended is not placed again.
    pub(crate) fn end_everything(&self, end: &End) {
        for id in self.routes.end_all(end) {
            if let Some(manager) = &self.config.subscription_manager {
                manager.unsubscribe(&id);
            }
        }
    }

    /// Drops a connection whose logon failed or that is given up: not a loss, so nobody is asked to repair it.
    pub(crate) fn abandon(&self, cause: &Error) {
        self.stops.fetch_add(1, Ordering::AcqRel);
        let version = self.link.version();
        let me = ThreadKey::current();
        let transport = {
            let mut session = self.session.lock();
            session.disconnect();
            let goes_on = session.is_repaired_by(me) && !session.is_closed_to(me);
            if goes_on { self.link.discard(me) } else { self.link.close() }
        };
        if let Some(transport) = transport {
            transport.shutdown();
        }
        let released = self.release_waiters(version, cause);
        self.end_routes(cause, &released);
        self.wait_for_threads(None);
        self.receive_thread.store(0, Ordering::Release);
        self.announce(ConnectionState::Disconnected);
    }

    /// Ends everything and waits for it: what `close` does, and with a limit, for all of it, what dropping the last
    /// handle does.
    pub(crate) fn close(&self, limit: Option<Duration>) {
        let hangs = is_any_receive_thread(self.id) || ListenerScope::is_inside(self.id);
        let cancel = || {
            let mut session = self.session.lock();
            session.closing = true;
            session.closed = true;
            session.cancel_repair();
        };
        if !self.threads.begin_close(!hangs, limit, cancel) {
            return;
        }
        let deadline = limit.map(|limit| Instant::now() + limit);
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if !hangs {
            self.link.drain(left().unwrap_or(DRAIN).min(DRAIN));
        }
        self.session.lock().disconnect();
        self.stops.fetch_add(1, Ordering::AcqRel);
        if let Some(transport) = self.link.close() {
            transport.shutdown();
        }
        let cause = Error::new(ErrorKind::Disconnected, "the client was closed");
        let waiters = self.acks.lock().release_all();
        for waiter in waiters {
            waiter.fulfil(Err(cause.clone()));
        }
        self.end_everything(&End::Complete);
        self.link.stop_flusher(if hangs { Some(Duration::ZERO) } else { left() });
        if !hangs {
            self.wait_for_threads(left());
        }
        self.receive_thread.store(0, Ordering::Release);
        self.announce_while(ConnectionState::Disconnected, left(), || true);
        self.announce_while(ConnectionState::Shutdown, left(), || true);
        self.session.lock().closing = false;
        self.threads.end_close();
    }

    /// Waits for the receive threads, but for the calling one, for at most `limit` in all.
    pub(crate) fn wait_for_threads(&self, limit: Option<Duration>) {
        let deadline = limit.map(|limit| Instant::now() + limit);
        for worker in self.threads.running() {
            worker.wait(deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.session.lock().phase != Phase::Disconnected
    }

    /// Waits, unless the client is closed meanwhile, which ends the wait at once. False if it is being closed.
    pub(crate) fn sleep_unless_closed(&self, time: Duration) -> bool {
        self.threads.sleep_unless_closed(time)
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
    ///
    /// `cancel` is called before anybody is woken by it, so that they find what they did to be cancelled.
    fn begin_close(&self, wait: bool, limit: Option<Duration>, cancel: impl FnOnce()) -> bool {
        let mut closing = self.closing.lock();
        if !*closing {
            cancel();
            *closing = true;
            // Whoever sleeps until then wakes up.
            self.closed.notify_all();
            return true;
        }
        while wait && *closing {
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

    fn sleep_unless_closed(&self, time: Duration) -> bool {
        let Some(deadline) = Instant::now().checked_add(time) else { return true };
        let mut closing = self.closing.lock();
        while !*closing && !self.closed.wait_until(&mut closing, deadline).timed_out() {}
        !*closing
    }

    fn end_close(&self) {
        *self.closing.lock() = false;
        self.closed.notify_all();
    }
}
