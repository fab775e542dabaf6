//! `logon`, and what takes its place when there is none (section 3).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{Command, Who};
use crate::testing::LOG;
use crate::testing::auth::{Answer, LogonAnswer, LogonAttempt};
use crate::testing::connection::Flow;
use crate::testing::entitlement::Action;
use crate::testing::frames::{Ack, AckStatus};
use crate::testing::options::{interval, split};
use crate::testing::persisted::Persisted;
use crate::testing::refusal::Refusal;
use crate::testing::sequences::publisher_number;
use crate::testing::session::{Identity, SessionId};
use crate::testing::settings::Settings;
use crate::testing::world::World;
use crate::wire::{AckType, Field};

/// What a logon came to.
enum Logon {
    Done(Who),
    Retry { user_id: String, password: String },
}

/// Whether a refused logon costs the connection.
type Refused = (Refusal, Flow);

pub(super) fn logon(command: &Command<'_>) -> Flow {
    match try_logon(command) {
        Ok(Logon::Done(identity)) => {
            succeed(command, &identity);
            Flow::Continue
        }
        Ok(Logon::Retry { user_id, password }) => {
            retry(command, &user_id, &password);
            Flow::Continue
        }
        Err((refusal, flow)) => {
            command.refuse(refusal);
            flow
        }
    }
}

/// Has the client log on once more, in another way (L-7).
pub(super) fn retry(command: &Command<'_>, user_id: &str, password: &str) {
    let retry =
        Ack { kind: AckType::PROCESSED, status: AckStatus::Retry, user_id, password, ..Ack::default() };
    command.ack(retry, command.hub.clock.time());
}

/// Who sent a command that needs a logon; with implicit logons, a nameless session if there was none (L-4).
pub(super) fn identity(command: &Command<'_>) -> Result<Who, Refused> {
    let known = command.hub.lock().identity(command.session());
    if let Some(identity) = known {
        return Ok(identity);
    }
    let (settings, _) = settings(command)?;
    let Some(message_type) = &settings.implicit_logon else {
        return Err((Refusal::LogonRequired, Flow::Continue));
    };
    let nameless = Claims { message_type, ..Claims::default() };
    match admit(command, &nameless)? {
        Logon::Done(identity) => Ok(identity),
        Logon::Retry { .. } => Err((Refusal::AuthFailure, Flow::Finish)),
    }
}

/// What a client says of itself.
#[derive(Default)]
struct Claims<'a> {
    user_id: &'a str,
    password: &'a str,
    /// `None` for a client that does not log on.
    client_name: Option<&'a str>,
    message_type: &'a str,
    /// How long `persisted` acknowledgements are to be collected.
    ack_conflation: Option<Duration>,
}

fn try_logon(command: &Command<'_>) -> Result<Logon, Refused> {
    if command.hub.lock().identity(command.session()).is_some() {
        return Err((Refusal::DuplicateLogon, Flow::Continue));
    }
    let claims = Claims {
        user_id: command.text(Field::UserId),
        password: command.text(Field::Password),
        client_name: Some(command.text(Field::ClientName)),
        message_type: command.text(Field::MessageType),
        ack_conflation: ack_conflation(command.text(Field::Options))?,
    };
    admit(command, &claims)
}

/// The one option that says something (L-3).
fn ack_conflation(options: &str) -> Result<Option<Duration>, Refused> {
    let mut found = None;
    for option in split(options) {
        let value = option.split_once('=').filter(|(name, _)| *name == "ack_conflation");
        match value.map(|(_, value)| interval(value)) {
            Some(Some(interval)) => found = Some(interval),
            None if matches!(option, "pretty" | "none" | "") => {}
            _ => return Err((Refusal::InvalidOptions, Flow::Continue)),
        }
    }
    Ok(found)
}

/// Checks message type, credentials and entitlement, in this order, and lets the session in.
fn admit(command: &Command<'_>, claims: &Claims<'_>) -> Result<Logon, Refused> {
    let (settings, is_enabled) = settings(command)?;
    if !is_enabled {
        return Err((Refusal::AuthenticationDisabled, Flow::Finish));
    }
    let (message_type, payload_type) = command
        .connection
        .message_types()
        .choose(claims.message_type)
        .ok_or((Refusal::InvalidMessageType, Flow::Finish))?;
    let (user_id, shows_user) = match authenticate(&settings, command, claims).0 {
        Answer::Accept { user_id, shows_user } => {
            (user_id.unwrap_or_else(|| claims.user_id.to_owned()), shows_user)
        }
        Answer::Reject => return Err((Refusal::AuthFailure, Flow::Finish)),
        Answer::Retry { user_id, password } => return Ok(Logon::Retry { user_id, password }),
    };
    let identity = Identity {
        client_name: claims.client_name.unwrap_or_default().to_owned(),
        user_id,
        message_type,
        payload_type: payload_type.with_separator(settings.separator),
        shows_user,
        since: command.hub.clock.time(),
    };
    enter(command, identity, claims)
}

/// The settings, and whether anybody may log on at present.
fn settings(command: &Command<'_>) -> Result<(Arc<Settings>, bool), Refused> {
    let turn = command.hub.lock();
    // Without its instance the server is going down.
    let instance = turn.instance(command.session()).ok_or((Refusal::LogonRequired, Flow::Finish))?;
    Ok((instance.settings.clone(), instance.logon_enabled))
}

/// Asks the hook, with no lock held (L-7).
fn authenticate(settings: &Settings, command: &Command<'_>, claims: &Claims<'_>) -> LogonAnswer {
    let Some(hook) = &settings.auth else { return LogonAnswer::accept() };
    let attempt = LogonAttempt {
        user_id: claims.user_id,
        password: claims.password,
        client_name: claims.client_name.unwrap_or_default(),
        correlation_id: command.text(Field::CorrelationId),
        peer: &command.connection.peer,
    };
    catch_unwind(AssertUnwindSafe(|| hook.on_logon(&attempt))).unwrap_or_else(|_| {
        log::error!(target: LOG, "{}: the authenticator panicked; the logon is refused", command.session());
        LogonAnswer::reject()
    })
}

/// The entitlement to log on at all (L-10), then the session.
fn enter(command: &Command<'_>, identity: Identity, claims: &Claims<'_>) -> Result<Logon, Refused> {
    let id = command.session();
    let question = identity.question(Action::Logon, "");
    let mut turn = command.hub.lock_entitled(|_| vec![(id.instance, question.clone())]);
    if turn.verdict(id, &question).is_deny() {
        return Err((Refusal::NotEntitled, Flow::Finish));
    }
    if claims.client_name.is_some() {
        turn.claim_name(id, &identity).map_err(|refusal| (refusal, Flow::Finish))?;
    }
    let identity = Arc::new(identity);
    if let Some(session) = turn.session_mut(id) {
        session.identity = Some(identity.clone());
        if let Some(interval) = claims.ack_conflation {
            session.persisted = Persisted::new(interval);
        }
    }
    Ok(Logon::Done(identity))
}

impl World {
    /// With a journal every client has a name, and has it for itself. A user may take over his own (L-8, L-9).
    fn claim_name(&mut self, id: SessionId, identity: &Identity) -> Result<(), Refusal> {
        if !self.state.has_journal() {
            return Ok(());
        }
        if identity.client_name.is_empty() {
            return Err(Refusal::NoClientName);
        }
        let mut sessions = self.instance(id).into_iter().flat_map(|instance| instance.sessions.values());
        let holder = sessions.find_map(|session| {
            let other = session.identity.as_ref()?;
            (other.client_name == identity.client_name).then(|| (session.connection.clone(), other.clone()))
        });
        match holder {
            None => Ok(()),
            Some((connection, other)) if other.user_id == identity.user_id => {
                log::warn!(target: LOG, "{}: name in use by {id}, the connection is closed", connection.id);
                connection.close();
                self.remove_session(connection.id);
                Ok(())
            }
            Some(_) => Err(Refusal::NameInUse),
        }
    }
}

/// L-1.
fn succeed(command: &Command<'_>, identity: &Identity) {
    let Ok((settings, _)) = settings(command) else { return };
    let publisher = publisher_number(&identity.client_name);
    let sequence = command.hub.look().state.sequences.highest(&identity.client_name);
    let ack = Ack {
        kind: AckType::PROCESSED,
        sequence: Some(sequence),
        bookmark: &format!("{publisher}|{sequence}|"),
        client_name: &identity.client_name,
        user_id: &identity.user_id,
        version: &settings.version,
        options: &format!("connection_name={}", command.session().number),
        ..Ack::default()
    };
    command.ack(ack, command.hub.clock.time());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L-3.
    #[test]
    fn logon_knows_two_options() {
        for good in ["", "pretty", "ack_conflation=100ms", "pretty,ack_conflation=1s,", "none"] {
            assert!(ack_conflation(good).is_ok(), "{good}");
        }
        for bad in ["ack_conflation", "ack_conflation=soon", "oof", "pretty=1"] {
            assert!(ack_conflation(bad).is_err(), "{bad}");
        }
    }
}
