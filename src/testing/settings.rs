//! The settled configuration of one instance.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Auth;
use super::entitlement::Rules;

/// What a [`ServerBuilder`](super::ServerBuilder) was told, as the running server needs it.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) auth: Option<Arc<dyn Auth>>,
    pub(crate) rules: Rules,
    /// What the logon acknowledgement claims.
    pub(crate) version: String,
    /// The largest frame that is read.
    pub(crate) frame_limit: u32,
    /// How many bytes may wait on one connection.
    pub(crate) queue_limit: usize,
    /// How long a frame may wait.
    pub(crate) queue_age: Option<Duration>,
    /// Between the fields of FIX and NVFIX messages.
    pub(crate) separator: u8,
    /// One frame for all plain subscriptions of a connection.
    pub(crate) coalesces_sids: bool,
    /// After how many intervals without a beat a connection is closed.
    pub(crate) heartbeat_factor: u32,
    /// The message type of a connection that never logs on, if that is allowed.
    pub(crate) implicit_logon: Option<String>,
    pub(crate) regex_topics: bool,
    /// How long `persisted` acknowledgements are collected, if there is a journal.
    pub(crate) ack_conflation: Duration,
    /// Whether a message that was published before is acknowledged as if it were new.
    pub(crate) duplicates_succeed: bool,
    /// Frames kept per direction.
    pub(crate) record_limit: usize,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("auth", &self.auth.is_some())
            .field("rules", &self.rules)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
