//! Who the client is to the server.

use crate::error::{Error, ErrorKind, Result};

/// Produces the password of each logon.
///
/// Called on the thread that logs on: the caller of `logon`, or the one that repairs a lost connection. No lock is held,
/// but the commands of all other threads wait meanwhile, so it must not call the client that logs on. An error from any of
/// the three fails the logon and is its cause. A panic counts as an error.
///
/// ```
/// use amps_client::{Authenticator, Result};
///
/// /// Asks a ticket service for a fresh token before every logon.
/// struct Tickets;
///
/// impl Authenticator for Tickets {
///     fn authenticate(&self, user: &str, _password: &str) -> Result<String> {
///         Ok(format!("ticket-for-{user}"))
///     }
///
///     fn retry(&self, user: &str, challenge: &str) -> Result<String> {
///         Ok(format!("{user}:{challenge}"))
///     }
///
///     fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
///         Ok(())
///     }
/// }
/// assert_eq!(Tickets.authenticate("alice", "")?, "ticket-for-alice");
/// # Ok::<(), amps_client::Error>(())
/// ```
pub trait Authenticator: Send + Sync {
    /// The password to send, given user and password of the connection string (either may be empty).
    ///
    /// # Errors
    ///
    /// Whatever keeps the client from logging on; usually [`Authentication`](ErrorKind::Authentication).
    fn authenticate(&self, user: &str, password: &str) -> Result<String>;

    /// The password for another attempt, given the user and the challenge that the server answered with.
    ///
    /// # Errors
    ///
    /// As for [`authenticate`](Authenticator::authenticate).
    fn retry(&self, user: &str, password: &str) -> Result<String>;

    /// The logon succeeded, with these values from the server's answer; any of them may be empty.
    ///
    /// # Errors
    ///
    /// An error still fails the logon.
    fn completed(&self, user: &str, password: &str, reason: &str) -> Result<()>;
}

/// Sends the password of the connection string; cannot answer a challenge.
///
/// ```
/// use amps_client::{Authenticator, DefaultAuthenticator, ErrorKind};
///
/// assert_eq!(DefaultAuthenticator.authenticate("alice", "secret")?, "secret");
/// let error = DefaultAuthenticator.retry("alice", "challenge").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Authentication);
/// # Ok::<(), amps_client::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DefaultAuthenticator;

impl Authenticator for DefaultAuthenticator {
    fn authenticate(&self, _user: &str, password: &str) -> Result<String> {
        Ok(password.to_owned())
    }

    fn retry(&self, user: &str, _password: &str) -> Result<String> {
        let text =
            format!("the server asks user `{user}` for another password, and no authenticator can give one");
        Err(Error::new(ErrorKind::Authentication, text))
    }

    fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
        Ok(())
    }
}
