//! The kinds of failure and the classes they belong to.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])+ $class:ident $name:ident : $text:literal,)+) => {
        /// What went wrong, as precisely as it is known.
        ///
        /// The list may grow: end a `match` with a wildcard, or match on [`ErrorClass`], which covers later kinds too.
        ///
        /// ```
        /// use amps_client::{ErrorClass, ErrorKind};
        ///
        /// assert_eq!(ErrorKind::BadFilter.class(), ErrorClass::Command);
        /// assert_eq!(ErrorKind::BadFilter.to_string(), "BadFilter");
        /// assert_eq!(ErrorKind::TimedOut.description(), "timed out");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])+ $name,)+
        }

        impl ErrorKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$name,)+];

            /// The family this kind belongs to.
            pub fn class(self) -> ErrorClass {
                match self { $(ErrorKind::$name => ErrorClass::$class,)+ }
            }

            /// One sentence that describes the kind in general.
            pub fn description(self) -> &'static str {
                match self { $(ErrorKind::$name => $text,)+ }
            }
        }
    };
}

kinds! {
    /// The root: nothing more precise applies.
    Base Amps: "the AMPS client failed",
    /// A user callback returned an error, which is the [source](std::error::Error::source).
    Base HandlerFailed: "a callback returned an error",
    /// A user callback panicked; the text is that of the panic.
    Base HandlerPanicked: "a callback panicked",

    /// Something about the state of the connection: a connect attempt that timed out, a refused socket option, no
    /// server to connect to.
    Connection Connection: "the connection failed",
    /// `connect` on a client that is connected.
    Connection AlreadyConnected: "the client is already connected",
    /// The server rejected the credentials, or the authenticator cannot go on.
    Connection Authentication: "authentication failed",
    /// The connection could not be made: refused, unreachable, or the host name cannot be resolved.
    Connection ConnectionRefused: "the connection was refused",
    /// There is no connection, or it went away while an answer was awaited.
    Connection Disconnected: "the client is not connected",
    /// The connection string holds an unknown option or a bad option value.
    Connection InvalidTransportOptions: "invalid transport options",
    /// The connection string cannot be read, or names an unknown or legacy protocol.
    Connection InvalidUri: "invalid URI",
    /// The message type in the connection string cannot be used: it holds a blank or a control character. One that only the
    /// server does not know is refused by the logon, with `Command`.
    Connection MessageType: "the message type cannot be used",
    /// Another connection uses this client name and may not be replaced.
    Connection NameInUse: "the client name is in use",
    /// The user has no permission for the resource.
    Connection NotEntitled: "not entitled",
    /// The delay strategy's maximum retry time is used up.
    Connection ReconnectMaximumExceeded: "the maximum reconnect time is used up",
    /// The command was abandoned because of a reconnect and was not delivered; it may be tried again.
    Connection RetryOperation: "a reconnect is in progress, try again",
    /// No answer, or no message on a stream, within the time allowed; the text names what was awaited.
    Connection TimedOut: "timed out",
    /// The scheme of the connection string names a transport this build does not have.
    Connection TransportType: "the transport is not available",
    /// The bytes from the server are not valid; the connection is dropped.
    Connection Stream: "invalid bytes from the server",

    /// A command was refused for a reason that has no kind of its own, or may not be sent at all.
    Command Command: "the command failed",
    /// The filter does not compile.
    Command BadFilter: "bad filter",
    /// The topic is a malformed regular expression, or one where none is allowed.
    Command BadRegexTopic: "bad regular expression topic",
    /// An invalid SOW key.
    Command BadSowKey: "bad SOW key",
    /// A second logon on one connection.
    Command DuplicateLogon: "duplicate logon",
    /// The server rejects the bookmark.
    Command InvalidBookmark: "invalid bookmark",
    /// The server rejects the options.
    Command InvalidOptions: "invalid options",
    /// The server rejects the order-by clause.
    Command InvalidOrderBy: "invalid order by",
    /// The server rejects the subscription id.
    Command InvalidSubId: "invalid subscription id",
    /// The topic is not configured for the operation.
    Command InvalidTopic: "invalid topic",
    /// A command before logon.
    Command LogonRequired: "logon required",
    /// The command lacks fields the server needs.
    Command MissingFields: "missing fields",
    /// The server could not store the message.
    Command Publish: "the server could not store the message",
    /// The replay of the transaction log failed.
    Command ReplayFailed: "the replay failed",
    /// A subscription with the same id exists.
    Command SubscriptionAlreadyExists: "the subscription already exists",
    /// The subscription id is in use on the connection.
    Command SubIdInUse: "the subscription id is in use",
    /// The server reported a failure without a reason.
    Command Unknown: "unknown failure",

    /// Wrong use of the API: an argument, an object state, or a waiting call where nothing may wait.
    Usage Usage: "wrong use of the API",

    /// A publish or bookmark store failed.
    Store Store: "the store failed",
    /// The server has seen less from this client than the store has already discarded.
    Store PublishStoreGap: "gap in the publish store",
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The family of an [`ErrorKind`].
///
/// ```
/// use amps_client::{Client, ErrorClass};
///
/// let error = Client::builder("").build().unwrap_err();
/// assert_eq!(error.class(), ErrorClass::Usage);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Nothing more precise applies, or user code failed.
    Base,
    /// About the connection, the logon or the network.
    Connection,
    /// A command was refused.
    Command,
    /// The program uses the API wrongly.
    Usage,
    /// A publish or bookmark store failed.
    Store,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_class_a_description_and_a_name() {
        assert_eq!(ErrorKind::ALL.len(), 38);
        for kind in ErrorKind::ALL {
            assert!(!kind.description().is_empty());
            assert_eq!(kind.to_string(), format!("{kind:?}"));
        }
        let of = |class| ErrorKind::ALL.iter().filter(|k| k.class() == class).count();
        assert_eq!(of(ErrorClass::Base), 3);
        assert_eq!(of(ErrorClass::Connection), 15);
        assert_eq!(of(ErrorClass::Command), 17);
        assert_eq!(of(ErrorClass::Usage), 1);
        assert_eq!(of(ErrorClass::Store), 2);
    }
}
