//! What an `HAClient` may do with its client that others may not: connect it, log it on, and hold the gate in between.

use std::sync::Arc;
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
                Outage::InOtherHands => {
                    let left =
                        deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
                    if left.is_zero() {
                        let text = "another thread was still connecting when the time was over";
                        return Err(Error::new(ErrorKind::TimedOut, text));
                    }
                    core.sleep_unless_closed(left.min(LOOK));
                }
            }
        }
    }

    /// It is done: the gate opens. False if the connection was lost again meanwhile; then it is still to be done.
    pub(crate) fn open(&self, core: &Core) -> bool {
        if !core.link.open(self.me) {
            return false;
        }
        core.session.lock().end_repair(self.me);
        true
    }

    /// It is given up.
    pub(crate) fn give_up(self, core: &Core) {
        core.session.lock().end_repair(self.me);
        core.link.down(self.me);
    }
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
        core.abandon(cause);
    }
}

/// True if nothing is wanted any more of the repair that this thread is at.
pub(crate) fn is_cancelled(core: &Core) -> bool {
    core.session.lock().is_closed_to(ThreadKey::current())
}

/// The error of a client that was closed.
pub(crate) fn cancelled() -> Error {
    closed()
}
