//! Which server to try next, and when to stop trying: the contract.
//!
//! Pure: reports come in, the next connection string comes out.

use std::sync::Arc;

use crate::auth::Authenticator;
use crate::client::ConnectionInfo;
use crate::error::Error;

/// Chooses the server of each attempt to connect of an `HAClient`.
///
/// One attempt is: [`current_uri`](Self::current_uri), [`current_authenticator`](Self::current_authenticator), a delay, the
/// attempt itself, and [`report_success`](Self::report_success) or [`report_failure`](Self::report_failure). Both questions
/// are asked anew every time and nothing is remembered of the answers, so that they may change at any time. A success
/// is reported when the server has accepted the logon and unconfirmed publishes were sent again; if something still fails
/// after that, such as a subscription that is refused, a failure follows for the same attempt. When a connection that was
/// working is lost, a failure of kind [`Disconnected`](crate::ErrorKind::Disconnected) is reported before the next attempt.
///
/// # Threads
///
/// Every method is called by the thread that connects and by nobody else meanwhile: the caller of `connect_and_logon`, the
/// receive thread of a lost connection, or a caller whose command revives a client that had given up. No lock of the client
/// is held. A chooser must not call the client, which is waiting for its answer, and should answer at once: nothing is
/// repaired meanwhile.
///
/// # Panics in a chooser
///
/// A panic while a question is asked ends the loop with [`HandlerPanicked`](crate::ErrorKind::HandlerPanicked); in
/// `report_success` it drops the connection and counts as a failed attempt; in any other method it is reported to the exception
/// listener, and the loop goes on.
///
/// # Examples
///
/// The [`DefaultServerChooser`](crate::DefaultServerChooser) tries a server again that dropped the connection, however
/// often. This one moves on if that happens twice in a row:
///
/// ```
/// use std::sync::Arc;
/// use amps_client::{Authenticator, ConnectionInfo, DefaultServerChooser, Error, ErrorKind, ServerChooser};
///
/// struct Impatient {
///     inner: DefaultServerChooser,
///     drops: u32,
/// }
///
/// impl ServerChooser for Impatient {
///     fn current_uri(&mut self) -> Option<String> {
///         self.inner.current_uri()
///     }
///
///     fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
///         self.inner.current_authenticator()
///     }
///
///     fn report_failure(&mut self, error: &Error, info: &ConnectionInfo) {
///         self.inner.report_failure(error, info);
///         self.drops = if error.is_disconnect() { self.drops + 1 } else { 0 };
///         if self.drops == 2 {
///             self.inner.next();
///             self.drops = 0;
///         }
///     }
///
///     fn report_success(&mut self, info: &ConnectionInfo) {
///         self.inner.report_success(info);
///         self.drops = 0;
///     }
///
///     fn refusal(&self) -> Option<Error> {
///         self.inner.refusal()
///     }
///
///     fn reset(&mut self) {
///         self.inner.reset();
///         self.drops = 0;
///     }
/// }
///
/// let inner = DefaultServerChooser::from_iter(["tcp://a:9007/amps/json", "tcp://b:9007/amps/json"]);
/// let mut chooser = Impatient { inner, drops: 0 };
/// let (dropped, info) = (Error::from(ErrorKind::Disconnected), ConnectionInfo::default());
/// chooser.report_failure(&dropped, &info);
/// assert_eq!(chooser.current_uri().as_deref(), Some("tcp://a:9007/amps/json"));
/// chooser.report_failure(&dropped, &info);
/// assert_eq!(chooser.current_uri().as_deref(), Some("tcp://b:9007/amps/json"));
/// ```
pub trait ServerChooser: Send {
    /// The connection string to try next. `None` or an empty text ends the loop: the client gives up with
    /// [`refusal`](Self::refusal) if there is one, else with a `Connection` error that contains [`error`](Self::error).
    fn current_uri(&mut self) -> Option<String>;

    /// Who produces the password for the server just chosen; asked right after [`current_uri`](Self::current_uri).
    fn current_authenticator(&mut self) -> Arc<dyn Authenticator>;

    /// The attempt failed, or the connection was lost, because of `error`. The entry `client.uri` of `info` is the
    /// connection string that was tried, its password hidden. Nothing in particular has to be done; a chooser that goes on
    /// offering the same server is asked again.
    fn report_failure(&mut self, error: &Error, info: &ConnectionInfo);

    /// The server of the entry `client.uri` accepted the client.
    fn report_success(&mut self, info: &ConnectionInfo);

    /// Why there is no server to connect to, for the error that the client then ends with. Default: empty.
    fn error(&self) -> String {
        String::new()
    }

    /// The error to give up with when [`current_uri`](Self::current_uri) offers none. Default: none.
    fn refusal(&self) -> Option<Error> {
        None
    }

    /// `connect_and_logon` was called: what earlier attempts have taught may count no longer. Not called before a
    /// reconnect. Default: nothing happens.
    fn reset(&mut self) {}

    /// Adds a server. Default: nothing happens.
    fn add(&mut self, uri: String) {
        let _ = uri;
    }

    /// Removes a server. Default: nothing happens.
    fn remove(&mut self, uri: &str) {
        let _ = uri;
    }
}
