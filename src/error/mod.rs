//! What went wrong, at which layer, and whether the client can still be used.
//!
//! Everything the library returns or reports is an [`Error`]. It is one pointer wide and cheap to clone, because
//! one failure may be both returned to a caller and handed to the exception listener. Match on [`Error::kind`] for
//! the precise cause, on [`Error::class`] for the family, or ask one of the predicates for the next step.
//!
//! ```
//! use amps_client::{Error, ErrorClass, ErrorKind};
//!
//! fn next_step(error: &Error) -> &'static str {
//!     match error.kind() {
//!         ErrorKind::BadFilter => "ask the user for another filter",
//!         _ if error.is_retryable() => "try again later",
//!         _ if error.class() == ErrorClass::Usage => "mend the program",
//!         _ => "give up",
//!     }
//! }
//! assert_eq!(next_step(&Error::new(ErrorKind::TimedOut, "no answer")), "try again later");
//! ```

mod kind;
mod reason;

use std::fmt;
use std::sync::Arc;

pub use kind::{ErrorClass, ErrorKind};
pub use reason::Reason;
pub(crate) use reason::Refused;

/// The result of every fallible operation of this library.
///
/// ```
/// fn port(uri: &str) -> amps_client::Result<u16> {
///     Ok(amps_client::Uri::parse(uri)?.port())
/// }
/// assert_eq!(port("tcp://localhost:9007/amps/json")?, 9007);
/// # Ok::<(), amps_client::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error type that callbacks may return; `?` works on any error, including [`Error`] itself.
///
/// ```
/// use amps_client::{HandlerError, Message};
///
/// let handler = |message: &Message| -> Result<(), HandlerError> {
///     let _price: f64 = message.data_str()?.parse()?; // two kinds of error
///     Ok(())
/// };
/// # let _ = handler;
/// ```
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// A failure: its [kind](Error::kind), a sentence that names the offending value, and what is known of its context.
///
/// An error from one command leaves the client usable. No error text, `Debug` output or context ever holds a
/// password.
///
/// ```
/// use amps_client::{Error, ErrorClass, ErrorKind};
///
/// let error = Error::new(ErrorKind::Store, "the disk is full").with_source(std::io::Error::other("ENOSPC"));
/// assert_eq!(error.kind(), ErrorKind::Store);
/// assert_eq!(error.class(), ErrorClass::Store);
/// assert!(error.to_string().contains("disk is full"));
/// assert!(std::error::Error::source(&error).is_some());
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    text: String,
    reason: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    command_id: Option<String>,
    sub_id: Option<String>,
    topic: Option<String>,
    uri: Option<String>,
}

impl Error {
    /// An error of this kind, with a sentence that names the offending value.
    ///
    /// For those who implement a store, an authenticator or another of the library's traits.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            text: text.into(),
            reason: None,
            source: None,
            command_id: None,
            sub_id: None,
            topic: None,
            uri: None,
        }))
    }

    /// The same error with the failure that caused it as its [source](std::error::Error::source).
    #[must_use]
    pub fn with_source(self, source: impl Into<HandlerError>) -> Error {
        self.with(|inner| inner.source = Some(Arc::from(source.into())))
    }

    pub(crate) fn with_reason(self, reason: &str) -> Error {
        self.with(|inner| inner.reason = Some(reason.to_owned()))
    }

    pub(crate) fn with_command_id(self, id: &str) -> Error {
        self.with(|inner| inner.command_id = non_empty(id))
    }

    pub(crate) fn with_sub_id(self, id: &str) -> Error {
        self.with(|inner| inner.sub_id = non_empty(id))
    }

    pub(crate) fn with_topic(self, topic: &str) -> Error {
        self.with(|inner| inner.topic = non_empty(topic))
    }

    /// The caller passes a text without credentials.
    pub(crate) fn with_uri(self, uri: &str) -> Error {
        self.with(|inner| inner.uri = non_empty(uri))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Error {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The precise cause.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The family of the cause; matching on it takes the place of catching a base exception.
    pub fn class(&self) -> ErrorClass {
        self.0.kind.class()
    }

    /// The server's own text, word for word, if a server refused something.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// The id of the command that failed, if known.
    pub fn command_id(&self) -> Option<&str> {
        self.0.command_id.as_deref()
    }

    /// The subscription concerned, if known.
    pub fn sub_id(&self) -> Option<&str> {
        self.0.sub_id.as_deref()
    }

    /// The topic concerned, if known.
    pub fn topic(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }

    /// The address concerned, if known, never with its password.
    pub fn uri(&self) -> Option<&str> {
        self.0.uri.as_deref()
    }

    /// True if the connection is gone: kind [`Disconnected`](ErrorKind::Disconnected).
    pub fn is_disconnect(&self) -> bool {
        self.kind() == ErrorKind::Disconnected
    }

    /// True if the same call may succeed later, without a change to its arguments: [`Disconnected`], [`Connection`],
    /// [`ConnectionRefused`], [`TimedOut`] and [`RetryOperation`].
    ///
    /// [`Disconnected`]: ErrorKind::Disconnected
    /// [`Connection`]: ErrorKind::Connection
    /// [`ConnectionRefused`]: ErrorKind::ConnectionRefused
    /// [`TimedOut`]: ErrorKind::TimedOut
    /// [`RetryOperation`]: ErrorKind::RetryOperation
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::Disconnected
                | ErrorKind::Connection
                | ErrorKind::ConnectionRefused
                | ErrorKind::TimedOut
                | ErrorKind::RetryOperation
        )
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        match &self.0.source {
            // A cause whose text is already part of the sentence would only be said twice.
            Some(source) => {
                let cause = source.to_string();
                if self.0.text.contains(&cause) { Ok(()) } else { write!(f, ": {cause}") }
            }
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("text", &inner.text);
        let context = [
            ("reason", &inner.reason),
            ("command_id", &inner.command_id),
            ("sub_id", &inner.sub_id),
            ("topic", &inner.topic),
            ("uri", &inner.uri),
        ];
        for (name, value) in context {
            if let Some(value) = value {
                out.field(name, value);
            }
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<ErrorKind> for Error {
    /// An error of this kind whose text is the kind's own description.
    fn from(kind: ErrorKind) -> Error {
        Error::new(kind, kind.description())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn an_error_is_one_pointer_wide_and_can_cross_threads() {
        fn assert_shareable<T: Send + Sync + 'static>() {}
        assert_shareable::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn display_gives_the_sentence_and_then_the_cause_once() {
        let io = std::io::Error::other("no route to host");
        let error = Error::new(ErrorKind::ConnectionRefused, "cannot reach h:1").with_source(io);
        assert_eq!(error.to_string(), "cannot reach h:1: no route to host");
        let told = Error::new(ErrorKind::Store, "bad file: torn").with_source("torn");
        assert_eq!(told.to_string(), "bad file: torn");
        assert_eq!(told.source().unwrap().to_string(), "torn");
    }

    #[test]
    fn a_clone_shares_everything_and_a_change_leaves_the_original_alone() {
        let first = Error::new(ErrorKind::BadFilter, "bad filter").with_reason("bad filter");
        let second =
            first.clone().with_topic("orders").with_command_id("auto1").with_sub_id("s").with_uri("tcp://h");
        assert_eq!(first.topic(), None);
        assert_eq!(second.topic(), Some("orders"));
        assert_eq!(second.reason(), Some("bad filter"));
        assert_eq!(
            (second.command_id(), second.sub_id(), second.uri()),
            (Some("auto1"), Some("s"), Some("tcp://h"))
        );
    }

    #[test]
    fn exactly_five_kinds_are_retryable() {
        let retryable: Vec<_> = ErrorKind::ALL.iter().filter(|k| Error::from(**k).is_retryable()).collect();
        assert_eq!(retryable.len(), 5, "{retryable:?}");
        assert!(Error::from(ErrorKind::Disconnected).is_disconnect());
        assert!(!Error::from(ErrorKind::Connection).is_disconnect());
    }

    #[test]
    fn debug_names_kind_and_context() {
        let text = format!("{:?}", Error::new(ErrorKind::Stream, "bad").with_topic("t").with_source("cause"));
        assert!(text.contains("Stream") && text.contains("topic: \"t\"") && text.contains("cause"), "{text}");
    }
}
