//! Every moment at which the library calls the application.
//!
//! Each is a trait with one method `on_…`. Every one of them is implemented for closures; where a failure can be
//! reported the closure may return `()` or a `Result`. No lock of the library is held during a call, and every call is
//! made under [`catch_unwind`](std::panic::catch_unwind), so that neither an error nor a panic stops the delivery of
//! messages: it goes to the [`ExceptionListener`]. (With `panic = "abort"` a panic ends the process as everywhere.)

use std::backtrace::Backtrace;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, HandlerError};
use crate::message::Message;

/// Receives the messages of a subscription or a query, or those nobody else takes.
///
/// Runs on the receive thread of the client, one call at a time: while it runs, nothing else is received on this
/// client. No lock is held that it could need. It may publish, unsubscribe, set handlers and close the client. Whatever
/// waits for an answer of the same client is refused there with [`Usage`](crate::ErrorKind::Usage).
///
/// An error or a panic goes to the [`ExceptionListener`]; the message counts as delivered, and the next one comes.
///
/// ```
/// use amps_client::{HandlerError, Message, MessageHandler};
///
/// struct Counter(u64);
///
/// impl MessageHandler for Counter {
///     fn on_message(&mut self, message: &Message) -> Result<(), HandlerError> {
///         message.data_str()?; // an error is reported, not thrown away
///         self.0 += 1;
///         Ok(())
///     }
/// }
///
/// fn takes(_: impl MessageHandler) {}
/// takes(Counter(0));
/// takes(|message: &Message| println!("{}", message.data().len()));
/// takes(|message: &Message| message.data_str().map(drop));
/// ```
pub trait MessageHandler: Send {
    /// Takes one message, lent for the call. [`clone`](Clone::clone) keeps it.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, for the exception listener; nothing else follows from it.
    fn on_message(&mut self, message: &Message) -> Result<(), HandlerError>;
}

impl<F, R> MessageHandler for F
where
    F: FnMut(&Message) -> R + Send,
    R: Outcome,
{
    fn on_message(&mut self, message: &Message) -> Result<(), HandlerError> {
        self(message).into_result()
    }
}

/// Hears of every write that the server refused.
///
/// Runs on the receive thread, for a `persisted` acknowledgement with status `failure` or with reason `duplicate` or `not
/// entitled`. With a publish store the message is the stored one, complete, as long as the store has it; it leaves the store
/// afterwards and is not sent again: trying again is the application's choice. Without a store, or if the store has let go
/// of it, the message is empty but for its [sequence](Message::sequence).
///
/// After a failover a server answers what it has already with the reason `duplicate`: ignore that one.
///
/// ```
/// use amps_client::{Client, Message};
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("careful").build()?;
/// client.set_failed_write_handler(|message: &Message, reason: &str| {
///     if reason != "duplicate" {
///         eprintln!("{:?} on {:?}: {reason}", message.sequence(), message.topic());
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub trait FailedWriteHandler: Send {
    /// The server refused this message; `reason` is its own text.
    fn on_failed_write(&mut self, message: &Message, reason: &str) -> Result<(), HandlerError>;
}

impl<F, R> FailedWriteHandler for F
where
    F: FnMut(&Message, &str) -> R + Send,
    R: Outcome,
{
    fn on_failed_write(&mut self, message: &Message, reason: &str) -> Result<(), HandlerError> {
        self(message, reason).into_result()
    }
}

/// What a callback closure may return: nothing, or a result with any error. Not for implementers.
///
/// ```
/// use amps_client::Outcome;
///
/// assert!(().into_result().is_ok());
/// let failed: Result<(), _> = Err("no such order");
/// assert_eq!(failed.into_result().unwrap_err().to_string(), "no such order");
/// ```
pub trait Outcome: sealed::Sealed {
    /// The same as a result.
    ///
    /// # Errors
    ///
    /// The callback's own.
    fn into_result(self) -> Result<(), HandlerError>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl<E: Into<HandlerError>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), HandlerError> {
        self.map_err(Into::into)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

/// Receives every failure that has no caller to be returned to.
///
/// A client has at most one. It runs on the thread where the failure happened, most often the receive thread, and may be
/// entered by several threads at once. No lock is held. It must be quick: log the failure, or set a flag for another thread.
/// What it cannot do is recover on the spot; it may call what its thread may call. If it panics, the panic is caught and
/// dropped.
///
/// Without a listener these failures are written to the log at `warn`.
///
/// ```
/// use amps_client::{Client, UnhandledError};
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("listener").build()?;
/// client.set_exception_listener(|failure: &UnhandledError| eprintln!("{failure}"));
/// # Ok(())
/// # }
/// ```
pub trait ExceptionListener: Send + Sync {
    /// Takes one failure. It is handled already; there is nothing left to throw.
    fn on_exception(&self, failure: &UnhandledError);
}

impl<F: Fn(&UnhandledError) + Send + Sync> ExceptionListener for F {
    fn on_exception(&self, failure: &UnhandledError) {
        self(failure);
    }
}

/// A failure without a caller: what failed, where, and for which subscription or command.
///
/// ```
/// use std::error::Error;
/// use amps_client::{ErrorKind, Origin, UnhandledError};
///
/// fn is_worth_a_call(failure: &UnhandledError) -> bool {
///     match (failure.origin(), failure.error().kind()) {
///         (Origin::MessageHandler, ErrorKind::HandlerPanicked) => true,
///         (Origin::MessageHandler, _) => failure.error().source().is_some(), // the handler's own error
///         (_, ErrorKind::Disconnected) => false, // it happens
///         _ => true,
///     }
/// }
/// # let _ = is_worth_a_call;
/// ```
pub struct UnhandledError {
    error: Error,
    origin: Origin,
    id: Option<String>,
    backtrace: Option<Backtrace>,
}

impl UnhandledError {
    pub(crate) fn new(error: Error, origin: Origin) -> UnhandledError {
        UnhandledError { error, origin, id: None, backtrace: None }
    }

    pub(crate) fn with_id(mut self, id: Option<&str>) -> UnhandledError {
        self.id = id.map(str::to_owned);
        self
    }

    pub(crate) fn with_backtrace(mut self, backtrace: Option<Backtrace>) -> UnhandledError {
        self.backtrace = backtrace;
        self
    }

    /// The failure. Of kind [`HandlerFailed`](crate::ErrorKind::HandlerFailed) its
    /// [source](std::error::Error::source) is the callback's own error.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Which callback or part of the library failed.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The subscription or command concerned, if known.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Where the failure entered the library, if a backtrace could be taken: with `RUST_BACKTRACE=1` for errors, and
    /// for panics after [`capture_panic_backtraces`](crate::capture_panic_backtraces).
    pub fn backtrace(&self) -> Option<&Backtrace> {
        self.backtrace.as_ref()
    }
}

impl fmt::Display for UnhandledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(id) = &self.id {
            write!(f, " `{id}`")?;
        }
        write!(f, ": {}", self.error)
    }
}

impl fmt::Debug for UnhandledError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnhandledError")
            .field("error", &self.error)
            .field("origin", &self.origin)
            .field("id", &self.id)
            .field("backtrace", &self.backtrace.is_some())
            .finish()
    }
}

macro_rules! origins {
    ($($(#[$doc:meta])+ $name:ident $text:literal,)+) => {
        /// Which callback or part of the library failed.
        ///
        /// ```
        /// use amps_client::Origin;
        ///
        /// assert_eq!(Origin::LastChanceHandler.to_string(), "last-chance handler");
        /// assert!(Origin::ALL.contains(&Origin::LastChanceHandler));
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Origin {
            $($(#[$doc])+ $name,)+
        }

        impl Origin {
            /// Every origin, in the order of the documentation.
            pub const ALL: &'static [Origin] = &[$(Origin::$name,)+];
        }

        impl fmt::Display for Origin {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Origin::$name => $text,)+ })
            }
        }
    };
}

origins! {
    /// The handler of a subscription, a query or a command.
    MessageHandler "message handler",
    /// The global handler for acknowledgements or heartbeats.
    GlobalHandler "global handler",
    /// The last-chance handler.
    LastChanceHandler "last-chance handler",
    /// The duplicate handler.
    DuplicateHandler "duplicate handler",
    /// A connection-state listener.
    ConnectionStateListener "connection-state listener",
    /// The failed-write handler.
    FailedWriteHandler "failed-write handler",
    /// The disconnect handler.
    DisconnectHandler "disconnect handler",
    /// The failed-resubscribe handler.
    FailedResubscribeHandler "failed-resubscribe handler",
    /// A callback around the receive thread.
    ThreadCallback "thread callback",
    /// The transport filter.
    TransportFilter "transport filter",
    /// The publish store.
    PublishStore "publish store",
    /// The bookmark store.
    BookmarkStore "bookmark store",
    /// A logon.
    Logon "logon",
    /// The connection: its bytes, its loss, a reconnect.
    Connection "connection",
    /// Sending heartbeats.
    Heartbeat "heartbeat",
    /// Acknowledging queue messages.
    QueueAcknowledgement "queue acknowledgement",
    /// Unsubscribing after a stream was dropped or a command timed out.
    Unsubscribe "unsubscribe",
    /// Flushing publishes.
    PublishFlush "publish flush",
}

/// Sees the bytes of a connection, for recording or counting them.
///
/// Outgoing it gets each frame without its length prefix, before encryption and compression, on the thread that writes;
/// incoming the blocks as they are read, which have nothing to do with frames, on the receive thread. Both may happen at
/// once. No lock is held, but the bytes wait for it: it must be quick and must not call the client. A panic goes to the
/// exception listener, and the bytes go on. Passwords pass by: a logon is a frame like any other.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use amps_client::{Client, Direction};
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("counted").build()?;
/// let sent = Arc::new(AtomicUsize::new(0));
/// let counter = Arc::clone(&sent);
/// client.set_transport_filter(move |direction: Direction, bytes: &[u8]| {
///     if direction == Direction::Outgoing {
///         counter.fetch_add(bytes.len(), Ordering::Relaxed);
///     }
/// });
/// # Ok(())
/// # }
/// ```
pub trait TransportFilter: Send + Sync {
    /// These bytes are about to be written, or were just read.
    fn on_bytes(&self, direction: Direction, bytes: &[u8]);
}

impl<F: Fn(Direction, &[u8]) + Send + Sync> TransportFilter for F {
    fn on_bytes(&self, direction: Direction, bytes: &[u8]) {
        self(direction, bytes);
    }
}

/// Which way bytes travel, as the side sees it that looks at them: a client, or the embedded server of the feature
/// `testing`.
///
/// ```
/// use amps_client::Direction;
///
/// fn mark(direction: Direction) -> char {
///     match direction {
///         Direction::Outgoing => '>',
///         Direction::Incoming => '<',
///     }
/// }
/// assert_eq!(mark(Direction::Incoming), '<');
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Away from it: from a client to its server, from the embedded server to a client.
    Outgoing,
    /// To it.
    Incoming,
}

/// Hears of every change of the connection's state.
///
/// Runs on the thread that makes the change: the caller of `connect`, `logon`, `set_heartbeat` or `close`, or the receive
/// thread after a loss. Calls for one client never overlap, and a change made inside a listener is told after the current
/// call. No lock is held, but the thread is in the middle of its work, so nothing may wait for an answer inside it: that is
/// refused with [`Usage`](crate::ErrorKind::Usage). It may publish, add and remove listeners, and close the client. An error
/// can only be a panic, which goes to the exception listener and affects nobody else.
///
/// ```
/// use std::sync::mpsc;
/// use amps_client::{Client, ConnectionState};
///
/// # fn main() -> amps_client::Result<()> {
/// let (sender, states) = mpsc::channel();
/// let client = Client::builder("watched").build()?;
/// client.add_connection_state_listener(move |state: ConnectionState| {
///     let _ = sender.send(state);
/// });
/// client.close();
/// assert_eq!(states.recv().ok(), Some(ConnectionState::Shutdown));
/// # Ok(())
/// # }
/// ```
pub trait ConnectionStateListener: Send + Sync {
    /// The connection is in this state now.
    fn on_state_change(&self, state: ConnectionState);

    /// Tells two clones of one shared listener from two listeners; not for implementers.
    #[doc(hidden)]
    fn identity(&self) -> Option<usize> {
        None
    }
}

impl<L: ConnectionStateListener + ?Sized> ConnectionStateListener for Arc<L> {
    fn on_state_change(&self, state: ConnectionState) {
        (**self).on_state_change(state);
    }

    fn identity(&self) -> Option<usize> {
        Some(Arc::as_ptr(self).cast::<()>().addr())
    }
}

impl<F: Fn(ConnectionState) + Send + Sync> ConnectionStateListener for F {
    fn on_state_change(&self, state: ConnectionState) {
        self(state);
    }
}

/// What a connection has reached, or how it ended.
///
/// The numbers are those that logs of other programs may show.
///
/// ```
/// use amps_client::ConnectionState;
///
/// assert_eq!(ConnectionState::LoggedOn as u16, 4);
/// assert_eq!(ConnectionState::default(), ConnectionState::Unknown);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u16)]
pub enum ConnectionState {
    /// The connection was lost, given up or closed.
    Disconnected = 0,
    /// No reconnect will follow.
    Shutdown = 1,
    /// The transport is up. Wait for `LoggedOn` before publishing: most servers refuse commands before a logon.
    Connected = 2,
    /// The server accepted the logon; recovery may follow.
    LoggedOn = 4,
    /// Every message of the publish store was sent again.
    PublishReplayed = 8,
    /// Heartbeats were started.
    HeartbeatInitiated = 16,
    /// Every stored subscription is placed again; the recovery is complete.
    Resubscribed = 32,
    /// Never announced; a default for user code.
    #[default]
    Unknown = 16384,
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn message() -> Message {
        Message::from_frame(b"\x00\x00\x00\x0A{\"c\":\"p\"}x").unwrap()
    }

    #[test]
    fn closures_may_return_nothing_or_any_result() {
        let mut calls = 0;
        (|_: &Message| calls += 1).on_message(&message()).unwrap();
        assert_eq!(calls, 1);
        let mut own = |_: &Message| Err::<(), _>(Error::from(ErrorKind::Command));
        assert!(own.on_message(&message()).unwrap_err().is::<Error>());
        let mut text = |_: &Message| Err::<(), _>("no");
        assert_eq!(text.on_message(&message()).unwrap_err().to_string(), "no");
    }

    #[test]
    fn an_unhandled_error_names_origin_and_id() {
        let failure =
            UnhandledError::new(Error::new(ErrorKind::HandlerFailed, "it broke"), Origin::MessageHandler)
                .with_id(Some("sub-1"));
        assert_eq!(failure.to_string(), "message handler `sub-1`: it broke");
        assert_eq!((failure.origin(), failure.id()), (Origin::MessageHandler, Some("sub-1")));
        assert!(failure.backtrace().is_none());
    }

    /// S-5.
    #[test]
    fn states_have_the_numbers_that_logs_show() {
        use ConnectionState::*;
        let all =
            [Disconnected, Shutdown, Connected, LoggedOn, PublishReplayed, HeartbeatInitiated, Resubscribed];
        assert_eq!(all.map(|s| s as u16), [0, 1, 2, 4, 8, 16, 32]);
        assert_eq!(Unknown as u16, 16384);
    }
}
