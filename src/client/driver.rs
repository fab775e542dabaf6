//! What an `HAClient` may do with its client that others may not: connect it, log it on, and hold the gate in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

use super::connect::{closed, connect_through};
use super::context::ThreadKey;
use super::core::Core;
use super::logon::{self, Logon};
use super::session::{Outage, Phase};
use super::worker::Worker;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{self, Transport};
use crate::uri::Uri;

/// How often a thread that waits for somebody else's connection looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// HA-2: an `HAClient` logs on by itself.
pub(crate) fn refuse_if_driven(core: &Core) -> Result<()> {
    if !core.config.driven {
        return Ok(());
    }
    Err(match core.session.lock().phase {
        Phase::Disconnected => Error::new(
            ErrorKind::Disconnected,
            "an HAClient logs on by itself, and it is not connected: call `connect_and_logon`",
        ),
        _ => Error::new(ErrorKind::AlreadyConnected, "an HAClient logs on by itself, and has done so"),
    })
}

/// HA-2: another disconnect handler would take the recovery away.
pub(crate) fn refuse_handler_if_driven(core: &Core) -> Result<()> {
    if !core.config.driven {
        return Ok(());
    }
    let text =
        "an HAClient repairs a lost connection by itself: to be told of it, add a connection-state listener";
    Err(Error::new(ErrorKind::Usage, text))
}

/// The calling thread sees to a first connection; everybody else waits meanwhile.
#[derive(Debug)]
pub(crate) struct Claim {
    me: ThreadKey,
}

impl Claim {
    /// Takes it on, or waits for a thread that has. `None` if there is a connection.
    pub(crate) fn take(core: &Core, deadline: Option<Instant>) -> Result<Option<Claim>> {
        let me = ThreadKey::current();
        let closes = core.closes();
        loop {
            let outage = {
                let mut session = core.session.lock();
                let outage = session.begin_outage(me);
                if outage == Outage::Mine {
                    core.link.hold(me);
                }
                outage
            };
            match outage {
                Outage::Mine => return Ok(Some(Claim { me })),
                Outage::Over => return Ok(None),
                Outage::Closing => return Err(closed()),
                Outage::InOwnHands => {
                    let text = "connect_and_logon was called by the thread that connects, from within";
                    return Err(Error::new(ErrorKind::Usage, text));
                }
                Outage::InOtherHands => {
                    let left =
                        deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
                    if left.is_zero() {
                        let text = "another thread was still connecting when the time was over";
                        return Err(Error::new(ErrorKind::TimedOut, text));
                    }
                    if !core.sleep_unless_closed_since(closes, left.min(LOOK)) {
                        return Err(closed());
                    }
                }
            }
        }
    }

    /// It is done: the gate opens. Says why the connection was lost again if it was meanwhile; then it is still to be done.
    pub(crate) fn open(&self, core: &Core) -> Option<Error> {
        if !core.open_to_all(self.me, core.link.version()) {
            let lost = core.session.lock().lost_again(self.me);
            return Some(lost.unwrap_or_else(closed));
        }
        core.session.lock().end_repair(self.me);
        None
    }

    /// It has failed: the client is closed, unless that is what ended it. Nobody else begins before that is done.
    pub(crate) fn give_up(self, core: &Core) {
        if !is_cancelled(core) {
            core.close(None);
        }
        core.session.lock().end_repair(self.me);
        core.link.down(self.me);
    }
}

/// Until when the attempt that is under way may go on. What it waits for is bounded by this alone: the receive thread ends
/// the connection when the time is over, and whoever waits for an answer or for a peer that does not read goes on.
#[derive(Debug)]
pub(crate) struct AttemptLimit {
    epoch: Instant,
    /// Microseconds since the epoch; `NEVER` without a limit.
    ends: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl AttemptLimit {
    pub(crate) fn none() -> AttemptLimit {
        AttemptLimit { epoch: Instant::now(), ends: AtomicU64::new(NEVER) }
    }

    fn set(&self, deadline: Option<Instant>) {
        let since = |deadline: Instant| deadline.saturating_duration_since(self.epoch).as_micros();
        let ends = deadline.map_or(NEVER, |deadline| u64::try_from(since(deadline)).unwrap_or(NEVER));
        self.ends.store(ends, Ordering::Relaxed);
    }

    /// True if there is a limit, and it has passed.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        let ends = self.ends.load(Ordering::Relaxed);
        ends != NEVER && self.epoch.elapsed().as_micros() >= u128::from(ends)
    }
}

/// Makes an attempt that has to be done by this time.
pub(crate) fn within<T>(core: &Core, deadline: Option<Instant>, attempt: impl FnOnce() -> T) -> T {
    core.attempt_limit.set(deadline);
    let outcome = attempt();
    core.attempt_limit.set(None);
    outcome
}

/// Connects in the course of a repair. A close is noticed at once; the deadline ends the wait.
pub(crate) fn connect(core: &Arc<Core>, uri: &str, deadline: Option<Instant>) -> Result<()> {
    connect_through(core, uri, |uri| open(core, uri, deadline))
}

/// Opens a transport on a thread of its own, because neither a name lookup nor a connect can be interrupted. A thread that
/// is not waited for any more drops what it got, and ends.
fn open(core: &Core, uri: &Uri, deadline: Option<Instant>) -> Result<Arc<dyn Transport>> {
    let (give, opened) = bounded(1);
    let target = uri.clone();
    let work = move || drop(give.send(transport::connect(&target)));
    let name = format!("amps-connect-{}", core.config.name);
    Worker::spawn(name, work)
        .map_err(|e| Error::new(ErrorKind::Connection, "no thread to connect with").with_source(e))?;
    loop {
        match opened.recv_timeout(LOOK) {
            Ok(outcome) => return outcome,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::new(ErrorKind::Connection, "the connecting thread ended early"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if core.session.lock().is_closed_to(ThreadKey::current()) {
            return Err(closed());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let text = format!("connecting to {uri} took longer than allowed");
            return Err(Error::new(ErrorKind::TimedOut, text).with_uri(&uri.to_string()));
        }
    }
}

/// Logs on in the course of a repair, and recovers. `replayed` is called between the replay of publishes and the placing of
/// subscriptions.
pub(crate) fn logon(core: &Core, logon: &Logon, replayed: &dyn Fn() -> Result<()>) -> Result<()> {
    logon::logon(core, logon, replayed).map(drop)
}

/// Drops the connection of an attempt that has failed, if it still has one.
pub(crate) fn abandon(core: &Core, cause: &Error) {
    if core.is_connected() {
        core.abandon(core.link.version(), cause, None);
    }
}

/// The calling thread goes on until there is a connection, or until it says that there will be none.
pub(crate) fn persist(core: &Core, persistent: bool) {
    core.session.lock().persist(ThreadKey::current(), persistent);
}

/// True if nothing is wanted any more of the repair that this thread is at.
pub(crate) fn is_cancelled(core: &Core) -> bool {
    core.session.lock().is_closed_to(ThreadKey::current())
}

/// The error of a client that was closed.
pub(crate) fn cancelled() -> Error {
    closed()
}
