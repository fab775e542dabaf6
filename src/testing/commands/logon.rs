//! `logon`, and what takes its place when there is none (section 3).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Command, Who};
use crate::testing::LOG;
use crate::testing::auth::{Answer, LogonAnswer, LogonAttempt};
use crate::testing::connection::Flow;
use crate::testing::entitlement::Action;
use crate::testing::frames::{Ack, AckStatus};
use crate::testing::options::{interval, split};
use crate::testing::refusal::Refusal;
use crate::testing::session::Identity;
use crate::testing::settings::Settings;
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
    let nameless = Claims { user_id: "", password: "", client_name: "", message_type };
    match admit(command, &nameless)? {
        Logon::Done(identity) => Ok(identity),
        Logon::Retry { .. } => Err((Refusal::AuthFailure, Flow::Finish)),
    }
}

/// What a client says of itself.
struct Claims<'a> {
    user_id: &'a str,
    password: &'a str,
    client_name: &'a str,
    message_type: &'a str,
}

fn try_logon(command: &Command<'_>) -> Result<Logon, Refused> {
    if command.hub.lock().identity(command.session()).is_some() {
        return Err((Refusal::DuplicateLogon, Flow::Continue));
    }
    check_options(command.text(Field::Options))?;
    let claims = Claims {
        user_id: command.text(Field::UserId),
        password: command.text(Field::Password),
        client_name: command.text(Field::ClientName),
        message_type: command.text(Field::MessageType),
    };
    admit(command, &claims)
}

/// L-3.
fn check_options(text: &str) -> Result<(), Refused> {
    let allowed = |option: &str| match option.split_once('=') {
        Some(("ack_conflation", value)) => interval(value).is_some(),
        None => matches!(option, "pretty" | "none" | ""),
        Some(_) => false,
    };
    match split(text).all(allowed) {
        true => Ok(()),
        false => Err((Refusal::InvalidOptions, Flow::Continue)),
    }
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
        client_name: claims.client_name.to_owned(),
        user_id,
        message_type,
        payload_type: payload_type.with_separator(settings.separator),
        shows_user,
        since: command.hub.clock.time(),
    };
    enter(command, identity)
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
        client_name: claims.client_name,
        correlation_id: command.text(Field::CorrelationId),
        peer: &command.connection.peer,
    };
    catch_unwind(AssertUnwindSafe(|| hook.on_logon(&attempt))).unwrap_or_else(|_| {
        log::error!(target: LOG, "{}: the authenticator panicked; the logon is refused", command.session());
        LogonAnswer::reject()
    })
}

/// The entitlement to log on at all (L-10), then the session.
fn enter(command: &Command<'_>, identity: Identity) -> Result<Logon, Refused> {
    let id = command.session();
    let question = identity.question(Action::Logon, "");
    let mut turn = command.hub.lock_entitled(|_| vec![(id.instance, question.clone())]);
    if turn.verdict(id, &question).is_deny() {
        return Err((Refusal::NotEntitled, Flow::Finish));
    }
    let identity = Arc::new(identity);
    if let Some(session) = turn.session_mut(id) {
        session.identity = Some(identity.clone());
    }
    Ok(Logon::Done(identity))
}

/// L-1.
fn succeed(command: &Command<'_>, identity: &Identity) {
    let Ok((settings, _)) = settings(command) else { return };
    let publisher = publisher_number(&identity.client_name);
    let ack = Ack {
        kind: AckType::PROCESSED,
        sequence: Some(0),
        bookmark: &format!("{publisher}|0|"),
        client_name: &identity.client_name,
        user_id: &identity.user_id,
        version: &settings.version,
        options: &format!("connection_name={}", command.session().number),
        ..Ack::default()
    };
    command.ack(ack, command.hub.clock.time());
}

/// The number of a publisher in its bookmarks: from the name alone, equal everywhere, never 0 or 1 (L-2).
fn publisher_number(client_name: &str) -> u64 {
    // FNV-1a, 64 bits.
    let hash = client_name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    hash.max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L-2.
    #[test]
    fn the_publisher_number_depends_on_the_name_alone_and_is_never_special() {
        assert_eq!(publisher_number("golden"), publisher_number("golden"));
        assert_ne!(publisher_number("a"), publisher_number("b"));
        assert!((0..1000).all(|n| publisher_number(&n.to_string()) > 1));
    }

    /// L-3.
    #[test]
    fn logon_knows_two_options() {
        for good in ["", "pretty", "ack_conflation=100ms", "pretty,ack_conflation=1s,", "none"] {
            assert!(check_options(good).is_ok(), "{good}");
        }
        for bad in ["ack_conflation", "ack_conflation=soon", "oof", "pretty=1"] {
            assert!(check_options(bad).is_err(), "{bad}");
        }
    }
}
