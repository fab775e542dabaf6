//! What happens after a loss, on the receive thread of the lost connection (`resilience.md` section 3).
//!
//! 1. whoever waits for an answer is released;
//! 2. `Disconnected` is announced, and streams end;
//! 3. the disconnect handler runs, free to connect, log on and subscribe;
//! 4. if there is a connection then, everybody may go on; if not, `Shutdown` is announced.

use std::sync::Arc;

use super::context::ThreadKey;
use super::core::Core;
use super::link::Loss;
use super::registry::{Failure, contain};
use super::{Client, ClientHandle};
use crate::callbacks::{ConnectionState, Origin, Outcome, UnhandledError};
use crate::error::{Error, ErrorKind, HandlerError};

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
pub(crate) fn handle_loss(core: &Arc<Core>, version: u64, cause: &Error) {
    let me = ThreadKey::current();
    match core.link.lost(version, me) {
        Loss::Stale => {}
        Loss::InOtherHands => {
            // A thread is logging on or repairing over this connection: it will find out, and decide.
            core.release_waiters(version, cause);
            if core.session.lock().disconnect() {
                core.announce(ConnectionState::Disconnected);
            }
        }
        Loss::Taken => {
            log::warn!(target: "amps::net", "connection lost: {cause}");
            core.session.lock().repair(me);
            core.release_waiters(version, cause);
            core.announce(ConnectionState::Disconnected);
            end_routes(core, cause);
            let outcome = call_handler(core, cause);
            finish(core, me, cause, outcome);
        }
    }
}

/// Ends what belonged to the connection. A query that a handler waits for has nobody else to hear of its end.
fn end_routes(core: &Core, cause: &Error) {
    let cause = super::core::lost_while_waiting(cause);
    for query in core.routes.fail_all(&cause) {
        let failure = UnhandledError::new(cause.clone(), Origin::Connection).with_id(Some(&query));
        core.registry.report(failure);
    }
}

fn call_handler(core: &Arc<Core>, cause: &Error) -> Result<(), Failure> {
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
fn finish(core: &Core, me: ThreadKey, cause: &Error, outcome: Result<(), Failure>) {
    let repaired = {
        let mut session = core.session.lock();
        session.repaired(me);
        session.is_connected()
    };
    if repaired {
        core.link.open(me);
    } else {
        core.link.down(me);
    }
    if let Err(failure) = outcome {
        core.registry
            .report(failure.about("the disconnect handler failed").unhandled(Origin::DisconnectHandler));
    }
    if repaired || core.session.lock().closing {
        return;
    }
    core.announce(ConnectionState::Shutdown);
    let error = Error::new(ErrorKind::Disconnected, "reconnect failed").with_source(cause.clone());
    core.report(error, Origin::Connection);
}

impl From<Arc<ClientHandle>> for Client {
    fn from(handle: Arc<ClientHandle>) -> Client {
        Client { handle }
    }
}
