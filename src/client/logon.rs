//! Logging on: the exchange with the server, and what follows a success.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::link::Outgoing;
use super::registry::contain;
use super::reply::Reply;
use super::session::{LogonFrame, Phase, ServerInfo};
use super::{Client, publishing};
use crate::auth::{Authenticator, DefaultAuthenticator};
use crate::callbacks::{ConnectionState, Origin};
use crate::command::next_id;
use crate::error::{Error, ErrorKind, Refused, Result};
use crate::message::Message;
use crate::wire::{AckType, Status};

/// How to log on: every setting has a default.
///
/// ```
/// use amps_client::{Logon, LogonOptions};
/// use std::time::Duration;
///
/// let logon = Logon::new()
///     .timeout(Duration::from_secs(10))
///     .options(LogonOptions::new().ack_conflation(Duration::from_millis(100)));
/// assert_eq!(format!("{logon:?}"), r#"Logon { timeout: Some(10s), options: "ack_conflation=100ms" }"#);
/// ```
#[derive(Clone)]
pub struct Logon {
    timeout: Option<Duration>,
    authenticator: Arc<dyn Authenticator>,
    options: String,
}

impl Logon {
    /// No time limit, the [`DefaultAuthenticator`], no options.
    pub fn new() -> Logon {
        Logon { timeout: None, authenticator: Arc::new(DefaultAuthenticator), options: String::new() }
    }

    /// How long all of it may take: the authenticator, every round with the server, and the wait for other logons.
    /// Default: no limit.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Logon {
        self.timeout = Some(limit);
        self
    }

    /// Who produces the password. Default: the [`DefaultAuthenticator`].
    #[must_use]
    pub fn authenticator(mut self, authenticator: impl Authenticator + 'static) -> Logon {
        self.authenticator = Arc::new(authenticator);
        self
    }

    pub(crate) fn shared_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Logon {
        self.authenticator = authenticator;
        self
    }

    /// The logon options: text, or [`LogonOptions`](crate::LogonOptions). Default: none, or `pretty` if the connection
    /// string has it.
    #[must_use]
    pub fn options(mut self, options: impl Into<String>) -> Logon {
        self.options = options.into();
        self
    }
}

impl Default for Logon {
    fn default() -> Logon {
        Logon::new()
    }
}

impl fmt::Debug for Logon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logon").field("timeout", &self.timeout).field("options", &self.options).finish()
    }
}

/// Logs on over the current connection and recovers what was before; nothing else is sent meanwhile. `replayed` is called
/// when the publish store has been replayed. Any failure closes the connection.
pub(crate) fn logon(core: &Core, logon: &Logon, replayed: &dyn Fn() -> Result<()>) -> Result<String> {
    core.refuse_to_hang("logon")?;
    let deadline = logon.timeout.and_then(|limit| Instant::now().checked_add(limit));
    let sender = core.sender(deadline);
    let hold = core.link.acquire(&sender).map_err(|refusal| core.refusal(refusal, "logon"));
    let hold = hold.inspect_err(|error| core.report(error.clone(), Origin::Logon))?;
    let version = hold.version;
    let outcome = Exchange::new(core, logon, deadline, version).run();
    let outcome = outcome.and_then(|(id, info)| established(core, version, info, replayed).map(|()| id));
    let outcome = outcome.and_then(|id| if hold.release(&core.link) { Ok(id) } else { Err(lost()) });
    outcome.inspect_err(|error| {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now()).max(LAST_MOMENT);
        core.abandon(version, error, deadline.map(left));
        core.report(error.clone(), Origin::Logon);
    })
}

/// A thread that runs no handler ends well within this time.
const LAST_MOMENT: Duration = Duration::from_millis(50);

fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, "the connection was lost during the logon")
}

/// One logon, over as many rounds as the server wants.
struct Exchange<'a> {
    core: &'a Core,
    logon: &'a Logon,
    deadline: Option<Instant>,
    /// The connection it goes over, and no other.
    version: u64,
    id: String,
    user: String,
    password: String,
    message_type: String,
    correlation_data: String,
    options: String,
}

impl<'a> Exchange<'a> {
    fn new(core: &'a Core, logon: &'a Logon, deadline: Option<Instant>, version: u64) -> Exchange<'a> {
        let uri = core.session.lock().uri.clone();
        let text = |part: Option<&str>| part.unwrap_or_default().to_owned();
        let pretty = uri.as_ref().is_some_and(|uri| uri.options().pretty);
        let options = match logon.options.as_str() {
            "" if pretty => "pretty".to_owned(),
            given => given.to_owned(),
        };
        Exchange {
            core,
            logon,
            deadline,
            version,
            id: next_id(),
            user: text(uri.as_ref().and_then(|uri| uri.user())),
            password: text(uri.as_ref().and_then(|uri| uri.password())),
            message_type: text(uri.as_ref().and_then(|uri| uri.message_type())),
            correlation_data: core.settings.correlation_data.lock().clone(),
            options,
        }
    }

    fn run(mut self) -> Result<(String, ServerInfo)> {
        let authenticator = Arc::clone(&self.logon.authenticator);
        self.password = authenticate(|| authenticator.authenticate(&self.user, &self.password))?;
        loop {
            let ack = self.round()?;
            match ack.status() {
                Status::Success => {
                    let user = ack.user_id().unwrap_or(&self.user).to_owned();
                    let reason = ack.reason().unwrap_or_default();
                    authenticate(|| authenticator.completed(&user, ack.password(), reason))?;
                    self.core.session.lock().user = user;
                    return Ok((self.id, ServerInfo::of(&ack)));
                }
                Status::Retry => {
                    self.user = ack.user_id().unwrap_or(&self.user).to_owned();
                    self.password = authenticate(|| authenticator.retry(&self.user, ack.password()))?;
                }
                _ => return Err(self.refused().error(ack.reason().unwrap_or_default())),
            }
        }
    }

    /// Sends the request and waits for its answer.
    fn round(&self) -> Result<Message> {
        let reply = Arc::new(Reply::default());
        self.core.acks.lock().register(&self.id, AckType::PROCESSED, Arc::clone(&reply));
        let sent = self.core.link.send(&self.core.sender(self.deadline), &mut Frame { exchange: self });
        if let Err(refusal) = sent {
            self.core.acks.lock().cancel(&self.id);
            return Err(self.core.refusal(refusal, "logon"));
        }
        reply.wait(self.deadline).unwrap_or_else(|| {
            self.core.acks.lock().cancel(&self.id);
            let limit = self.logon.timeout.unwrap_or_default();
            Err(Error::new(
                ErrorKind::TimedOut,
                format!("the server did not answer the logon within {limit:?}"),
            ))
        })
    }

    fn refused(&self) -> Refused<'_> {
        Refused {
            what: "logon",
            command_id: &self.id,
            message_type: &self.message_type,
            client_name: &self.core.config.name,
            user_id: &self.user,
            options: &self.options,
            ..Refused::default()
        }
    }
}

/// Calls an authenticator. Whatever goes wrong in it is the source of the error that the logon fails with.
fn authenticate<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut outcome = Err(ErrorKind::Authentication.into());
    let panicked = contain(|| {
        outcome = call();
        Ok(())
    });
    let outcome = panicked.map_err(|failure| failure.error).and(outcome);
    outcome.map_err(|cause: Error| {
        let kind =
            if cause.kind() == ErrorKind::HandlerPanicked { ErrorKind::Authentication } else { cause.kind() };
        Error::new(kind, "the authenticator failed").with_source(cause)
    })
}

/// The frame of one round.
struct Frame<'a> {
    exchange: &'a Exchange<'a>,
}

impl Outgoing for Frame<'_> {
    fn encode(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        let exchange = self.exchange;
        LogonFrame {
            command_id: &exchange.id,
            client_name: &exchange.core.config.name,
            user: &exchange.user,
            password: &exchange.password,
            message_type: &exchange.message_type,
            correlation_data: &exchange.correlation_data,
            options: &exchange.options,
        }
        .encode(buffer)
    }

    fn is_wanted(&self, version: u64) -> bool {
        version == self.exchange.version
    }

    fn queued(&mut self, version: u64) {
        self.exchange.core.acks.lock().queued(&self.exchange.id, version);
    }

    /// A logon belongs to its connection: it is never sent over another one.
    fn reclaim(&mut self) -> bool {
        if let Some(waiter) = self.exchange.core.acks.lock().cancel(&self.exchange.id) {
            waiter.fulfil(Err(lost()));
        }
        false
    }
}

/// What follows the server's consent, in this order (`wire-protocol` 7.5, HA-20).
fn established(core: &Core, version: u64, info: ServerInfo, replayed: &dyn Fn() -> Result<()>) -> Result<()> {
    let last_sequence = info.last_sequence;
    let server = info.version.clone();
    let store = core.config.publish_store.as_deref();
    if let Some(store) = store {
        publishing::synchronise(core, store, last_sequence)?;
    }
    {
        let mut session = core.session.lock();
        if session.phase == Phase::Disconnected || !core.link.is_current(version) {
            return Err(lost());
        }
        session.phase = Phase::LoggedOn;
        session.server = info;
    }
    if let Some(store) = core.config.bookmark_store.as_deref() {
        store.set_server_version(&server);
    }
    core.announce_if_connected(version, ConnectionState::LoggedOn);
    super::heartbeats::start(core, version);
    if let Some(store) = store {
        publishing::replay(core, store, last_sequence)?;
        core.announce_if_connected(version, ConnectionState::PublishReplayed);
    }
    core.send_kept_acks();
    replayed()?;
    resubscribe(core, version)
}

/// Has the subscription manager place everything again. No lock is held.
fn resubscribe(core: &Core, version: u64) -> Result<()> {
    let Some(manager) = core.config.subscription_manager.as_deref() else { return Ok(()) };
    let Some(client) = Client::lent(core) else { return Err(lost()) };
    let mut outcome = Ok(());
    let contained = contain(|| {
        outcome = manager.resubscribe(&client);
        Ok(())
    });
    core.end_recovery();
    if let Err(failure) = contained {
        let error = failure.error.clone();
        core.registry.report(failure.unhandled(Origin::FailedResubscribeHandler));
        return Err(error);
    }
    outcome?;
    core.announce_if_connected(version, ConnectionState::Resubscribed);
    Ok(())
}
