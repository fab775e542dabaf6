//! What happens after a loss, on the receive thread of the lost connection (`resilience.md` section 3).
//!
//! 1. whoever waits for an answer is released;
//! 2. `Disconnected` is announced, and streams end;
//! 3. the disconnect handler runs, free to connect, log on and subscribe;
//! 4. if there is a connection then, everybody may go on; if not, `Shutdown` is announced.
//!
//! A command that comes later and finds no connection has the handler try again, on its own thread.

use std::sync::Arc;

use super::context::{ListenerScope, RevivalScope, ThreadKey, is_any_receive_thread};
use super::core::{Core, lost_while_waiting};
use super::link::{Loss, Refusal};
use super::registry::{Failure, contain};
use super::session::{Repaired, Revival};
use super::{Client, ClientHandle};
use crate::callbacks::{ConnectionState, Origin, Outcome};
use crate::error::{Error, ErrorKind, HandlerError};
use crate::stream::End;

/// Repairs a lost connection.
///
/// Called once for each lost connection, on its receive thread, when those who waited for an answer have been released
/// and the state [`Disconnected`](ConnectionState::Disconnected) was announced; no lock is held. It may take its time: the
/// commands of other threads wait until it has returned, or fail, as
/// [`set_retry_on_disconnect`](Client::set_retry_on_disconnect) says. It may connect, log on and subscribe on the client it
/// is given; before it has connected, its other commands return [`Disconnected`](ErrorKind::Disconnected).
///
/// If the client is connected when it returns, work goes on. If not, [`Shutdown`](ConnectionState::Shutdown) is announced
/// and the exception listener gets a `Disconnected` error. An error or a panic goes to the exception listener.
///
/// After a repair that failed, each later command that needs a connection calls the handler again, once, on the thread of
/// the command, and is sent if there is a connection then. When the client is closed while a handler runs, what it then
/// tries returns `Disconnected`, and nothing is reported.
///
/// ```
/// use amps_client::{Client, Error, Result};
///
/// # fn main() -> Result<()> {
/// let client = Client::builder("patient").build()?;
/// client.set_disconnect_handler(|client: &Client, cause: &Error| -> Result<()> {
///     eprintln!("lost: {cause}");
///     client.connect("tcp://standby:9007/amps/json")?;
///     client.logon()
/// });
/// # Ok(())
/// # }
/// ```
pub trait DisconnectHandler: Send + Sync {
    /// The connection was lost because of `cause`.
    fn on_disconnect(&self, client: &Client, cause: &Error) -> Result<(), HandlerError>;
}

impl<F, R> DisconnectHandler for F
where
    F: Fn(&Client, &Error) -> R + Send + Sync,
    R: Outcome,
{
    fn on_disconnect(&self, client: &Client, cause: &Error) -> Result<(), HandlerError> {
        self(client, cause).into_result()
    }
}

/// The connection of this version ended by itself.
pub(crate) fn handle_loss(core: &Core, version: u64, cause: &Error) {
    let me = ThreadKey::current();
    match core.link.lost(version, me) {
        Loss::Stale => {}
        Loss::InOtherHands => {
            // A thread is logging on or repairing over this connection: it will find out, and decide.
            let released = core.release_waiters(version, cause);
            core.session.lock().lose(cause);
            core.announce(ConnectionState::Disconnected);
            core.end_routes(cause, &released);
        }
        Loss::Taken => {
            log::warn!(target: "amps::net", "connection lost: {cause}");
            core.session.lock().begin_repair(me);
            let released = core.release_waiters(version, cause);
            core.announce(ConnectionState::Disconnected);
            core.end_routes(cause, &released);
            repair(core, me, cause.clone());
        }
    }
}

/// Has the handler repair what was lost, and what is lost again before anybody could use it. True if there is a
/// connection in the end.
fn repair(core: &Core, me: ThreadKey, mut cause: Error) -> bool {
    loop {
        let outcome = call_handler(core, &cause);
        match finish(core, me, &cause, outcome) {
            Finish::Connected => return true,
            Finish::Failed => return false,
            Finish::LostAgain(again) => cause = again,
        }
    }
}

enum Finish {
    Connected,
    Failed,
    /// The new connection was lost as well: that is another loss, with a repair of its own.
    LostAgain(Error),
}

fn call_handler(core: &Core, cause: &Error) -> Result<(), Failure> {
    let handler = core.registry.disconnect_handler();
    let handle = core.handle.lock().upgrade();
    match (handler, handle) {
        (Some(handler), Some(handle)) => {
            let client = Client::from(handle);
            contain(|| handler.on_disconnect(&client, cause))
        }
        _ => Ok(()),
    }
}

/// The handler has returned: the gate opens, or nobody has any hope (D-8).
fn finish(core: &Core, me: ThreadKey, cause: &Error, outcome: Result<(), Failure>) -> Finish {
    let end = core.session.lock().end_repair(me);
    let repaired = end == Repaired::Connected && core.link.open(me);
    if end == Repaired::Connected
        && !repaired
        && let Some(again) = core.session.lock().repair_again(me)
    {
        return Finish::LostAgain(again);
    }
    if !repaired {
        core.link.down(me);
    }
    if let Err(failure) = outcome
        && (end != Repaired::Cancelled || !failure.is_disconnect())
    {
        let failure = failure.about("the disconnect handler failed");
        core.registry.report(failure.unhandled(Origin::DisconnectHandler));
    }
    if repaired {
        return Finish::Connected;
    }
    if end == Repaired::Cancelled {
        return Finish::Failed;
    }
    core.session.lock().give_up(cause);
    core.end_everything(&End::Failed(lost_while_waiting(cause)));
    core.announce(ConnectionState::Shutdown);
    let error = Error::new(ErrorKind::Disconnected, "reconnect failed").with_source(cause.clone());
    core.report(error, Origin::Connection);
    Finish::Failed
}

/// Sends something. If there is no connection because a repair has failed, the handler first tries again (D-11).
#[inline]
pub(crate) fn reviving(core: &Core, mut send: impl FnMut() -> Result<(), Refusal>) -> Result<(), Refusal> {
    match send() {
        Err(Refusal::NotConnected) if revive(core) => send(),
        outcome => outcome,
    }
}

/// Has the handler try again, on the calling thread. True if sending is worth another try.
#[cold]
fn revive(core: &Core) -> bool {
    let nothing_may_wait = is_any_receive_thread(core.id) || ListenerScope::is_inside(core.id);
    if nothing_may_wait || core.registry.disconnect_handler().is_none() {
        return false;
    }
    let Some(_scope) = RevivalScope::enter(core.id) else { return false };
    let me = ThreadKey::current();
    let revival = {
        let mut session = core.session.lock();
        let revival = session.revive(me);
        if let Revival::Mine(_) = revival {
            core.link.hold(me);
        }
        revival
    };
    match revival {
        Revival::Hopeless => false,
        Revival::InOtherHands => {
            let error = Error::new(ErrorKind::RetryOperation, "reconnect in progress");
            core.report(error, Origin::Connection);
            true
        }
        Revival::Mine(cause) => repair(core, me, cause),
    }
}

impl From<Arc<ClientHandle>> for Client {
    fn from(handle: Arc<ClientHandle>) -> Client {
        Client { handle }
    }
}
