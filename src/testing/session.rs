//! One connection's standing: who it is, once it has logged on, and its heartbeat.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Time;
use super::connection::Connection;
use super::entitlement::{Action, Question};
use super::payload::PayloadType;
use super::persisted::Persisted;
use super::timers::TimerId;

/// Which connection: the instance that accepted it, and its number there, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId {
    pub(crate) instance: usize,
    pub(crate) number: u64,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.number)
    }
}

/// A connection as commands see it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) connection: Arc<Connection>,
    /// `None` until the logon succeeded.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) heartbeat: Option<Heartbeat>,
    pub(crate) persisted: Persisted,
    /// The next reports to bookmark subscriptions.
    pub(crate) reports: Option<TimerId>,
}

impl Session {
    /// `interval`: how long `persisted` acknowledgements are collected unless the logon says otherwise.
    pub(crate) fn new(connection: Arc<Connection>, interval: Duration) -> Session {
        Session {
            connection,
            identity: None,
            heartbeat: None,
            persisted: Persisted::new(interval),
            reports: None,
        }
    }
}

/// Who logged on.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) client_name: String,
    /// The user as the authenticator named it.
    pub(crate) user_id: String,
    pub(crate) message_type: String,
    pub(crate) payload_type: PayloadType,
    /// Whether subscribers see the user on messages of this session.
    pub(crate) shows_user: bool,
    pub(crate) since: Time,
}

impl Identity {
    pub(crate) fn question(&self, action: Action, topic: &str) -> Question {
        Question {
            user_id: self.user_id.clone(),
            action,
            message_type: self.message_type.clone(),
            topic: topic.to_owned(),
        }
    }
}

/// The heartbeats that a client started (12).
#[derive(Debug)]
pub(crate) struct Heartbeat {
    pub(crate) interval: Duration,
    /// The server's next beat.
    pub(crate) next: TimerId,
    /// When the absence of the client's beats is noticed.
    pub(crate) limit: TimerId,
}
