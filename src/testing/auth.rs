//! Who may log on: the hook, and a table of users.

use std::collections::HashMap;
use std::fmt;

/// Decides about logons.
///
/// A closure from [`LogonAttempt`] to [`LogonAnswer`] is one. It is called on the thread of the connection concerned,
/// with no lock held, once for each logon command; while it runs, only that connection waits. It may use the server, but
/// not stop it. A panic counts as [`LogonAnswer::reject`].
///
/// ```
/// use amps_client::testing::{LogonAnswer, LogonAttempt, Server};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder()
///     .listen_tcp()
///     .auth(|attempt: &LogonAttempt<'_>| match attempt.password() {
///         "token-2" => LogonAnswer::accept(),
///         "token-1" => LogonAnswer::retry(attempt.user_id(), "challenge"),
///         _ => LogonAnswer::reject(),
///     })
///     .start()?;
/// # Ok(())
/// # }
/// ```
pub trait Auth: Send + Sync + 'static {
    /// Answers one logon command.
    fn on_logon(&self, attempt: &LogonAttempt<'_>) -> LogonAnswer;
}

impl<F: Fn(&LogonAttempt<'_>) -> LogonAnswer + Send + Sync + 'static> Auth for F {
    fn on_logon(&self, attempt: &LogonAttempt<'_>) -> LogonAnswer {
        self(attempt)
    }
}

/// What a client said when it logged on; given to an [`Auth`].
///
/// ```
/// use amps_client::testing::{LogonAnswer, LogonAttempt};
///
/// fn only_at_home(attempt: &LogonAttempt<'_>) -> LogonAnswer {
///     if attempt.peer().starts_with("127.") { LogonAnswer::accept() } else { LogonAnswer::reject() }
/// }
/// # let _ = only_at_home;
/// ```
pub struct LogonAttempt<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) password: &'a str,
    pub(crate) client_name: &'a str,
    pub(crate) correlation_id: &'a str,
    pub(crate) peer: &'a str,
}

impl LogonAttempt<'_> {
    /// The user; empty if none was given.
    pub fn user_id(&self) -> &str {
        self.user_id
    }

    /// The password; empty if none was given.
    pub fn password(&self) -> &str {
        self.password
    }

    /// The client name; empty if none was given.
    pub fn client_name(&self) -> &str {
        self.client_name
    }

    /// The correlation id of the logon; empty if none was given.
    pub fn correlation_id(&self) -> &str {
        self.correlation_id
    }

    /// The address of the other end.
    pub fn peer(&self) -> &str {
        self.peer
    }
}

impl fmt::Debug for LogonAttempt<'_> {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogonAttempt")
            .field("user_id", &self.user_id)
            .field("client_name", &self.client_name)
            .field("correlation_id", &self.correlation_id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The answer of an [`Auth`].
///
/// ```
/// use amps_client::testing::LogonAnswer;
///
/// let answer = LogonAnswer::accept_as("desk-emea").showing_user();
/// assert!(!format!("{:?}", LogonAnswer::retry("alice", "challenge")).contains("challenge"));
/// # let _ = answer;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct LogonAnswer(pub(crate) Answer);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The user to go by, if it is not the one that was given.
    Accept {
        user_id: Option<String>,
        shows_user: bool,
    },
    Reject,
    Retry {
        user_id: String,
        password: String,
    },
}

impl LogonAnswer {
    /// The logon succeeds.
    pub fn accept() -> LogonAnswer {
        LogonAnswer(Answer::Accept { user_id: None, shows_user: false })
    }

    /// The logon succeeds, and the session goes by this user.
    pub fn accept_as(user_id: impl Into<String>) -> LogonAnswer {
        LogonAnswer(Answer::Accept { user_id: Some(user_id.into()), shows_user: false })
    }

    /// The logon fails with `auth failure`, and the connection is closed.
    pub fn reject() -> LogonAnswer {
        LogonAnswer(Answer::Reject)
    }

    /// The client is asked to log on again, as this user and with a password it makes from this text.
    pub fn retry(user_id: impl Into<String>, password: impl Into<String>) -> LogonAnswer {
        LogonAnswer(Answer::Retry { user_id: user_id.into(), password: password.into() })
    }

    /// Subscribers see the user of this session on the messages it publishes. Default: they do not.
    #[must_use]
    pub fn showing_user(mut self) -> LogonAnswer {
        if let Answer::Accept { shows_user, .. } = &mut self.0 {
            *shows_user = true;
        }
        self
    }
}

impl fmt::Debug for LogonAnswer {
    /// Without the password of a retry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Answer::Accept { user_id, shows_user } => {
                f.debug_struct("Accept").field("user_id", user_id).field("shows_user", shows_user).finish()
            }
            Answer::Reject => f.write_str("Reject"),
            Answer::Retry { user_id, .. } => {
                f.debug_struct("Retry").field("user_id", user_id).finish_non_exhaustive()
            }
        }
    }
}

/// The ready-made [`Auth`]: users and their passwords.
///
/// ```
/// use amps_client::testing::{Server, UserTable};
///
/// # fn main() -> amps_client::Result<()> {
/// let users = UserTable::new().user("alice", "s3cret").user("bob", "hunter2");
/// let server = Server::builder().listen_tcp().auth(users).start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct UserTable(HashMap<String, String>);

impl UserTable {
    /// A table without users, which rejects everyone.
    pub fn new() -> UserTable {
        UserTable::default()
    }

    /// Adds a user, or gives it another password.
    #[must_use]
    pub fn user(mut self, user_id: impl Into<String>, password: impl Into<String>) -> UserTable {
        self.0.insert(user_id.into(), password.into());
        self
    }
}

impl Auth for UserTable {
    fn on_logon(&self, attempt: &LogonAttempt<'_>) -> LogonAnswer {
        match self.0.get(attempt.user_id) {
            Some(password) if password == attempt.password => LogonAnswer::accept(),
            _ => LogonAnswer::reject(),
        }
    }
}

impl fmt::Debug for UserTable {
    /// The names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt<'a>(user_id: &'a str, password: &'a str) -> LogonAttempt<'a> {
        LogonAttempt { user_id, password, client_name: "c", correlation_id: "", peer: "p" }
    }

    #[test]
    fn the_table_accepts_exactly_its_users_with_their_passwords() {
        let table = UserTable::new().user("alice", "one").user("alice", "two");
        assert_eq!(table.on_logon(&attempt("alice", "two")), LogonAnswer::accept());
        for (user, password) in [("alice", "one"), ("alice", ""), ("bob", "two"), ("", "")] {
            assert_eq!(table.on_logon(&attempt(user, password)), LogonAnswer::reject(), "{user}");
        }
    }

    /// V-5.
    #[test]
    fn no_password_shows_in_debug() {
        let shown = format!(
            "{:?} {:?} {:?} {:?}",
            UserTable::new().user("alice", "hush"),
            attempt("alice", "hush"),
            LogonAnswer::retry("alice", "hush"),
            LogonAnswer::accept_as("x").showing_user(),
        );
        assert!(!shown.contains("hush") && shown.contains("alice") && shown.contains("shows_user: true"));
    }
}
