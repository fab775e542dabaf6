//! What may be changed while a client runs.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::recovery::DisconnectHandler;
use super::registry::{Global, ListenerId, cell, contain};
use super::{Client, driver, heartbeats};
use crate::callbacks::{
    ConnectionStateListener, Direction, ExceptionListener, FailedWriteHandler, MessageHandler, Origin,
    Outcome, TransportFilter,
};
use crate::command::check_text;
use crate::error::{Error, ErrorKind, Result};
use crate::stream::checked_depth;

/// Which messages a global handler sees.
///
/// ```
/// use amps_client::{Client, GlobalKind, Message};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("counting").build()?;
/// let beats = Arc::new(AtomicU64::new(0));
/// let counter = Arc::clone(&beats);
/// client.set_global_handler(GlobalKind::Heartbeat, move |_: &Message| {
///     counter.fetch_add(1, Ordering::Relaxed);
/// });
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GlobalKind {
    /// Every acknowledgement, after the library has used it. To be seen here counts as delivered.
    Ack,
    /// Every heartbeat of the server.
    Heartbeat,
}

impl FromStr for GlobalKind {
    type Err = Error;

    /// Reads `ack` or `heartbeat`.
    ///
    /// ```
    /// use amps_client::GlobalKind;
    ///
    /// assert_eq!("ack".parse::<GlobalKind>()?, GlobalKind::Ack);
    /// assert!("publish".parse::<GlobalKind>().is_err());
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Command`](ErrorKind::Command): there is no global handler for anything else. Duplicates and what nobody takes
    /// have setters of their own.
    fn from_str(text: &str) -> Result<GlobalKind> {
        match text {
            "ack" => Ok(GlobalKind::Ack),
            "heartbeat" => Ok(GlobalKind::Heartbeat),
            other => Err(Error::new(ErrorKind::Command, format!("there is no global handler for `{other}`"))),
        }
    }
}

/// # Settings
///
/// Setters for callbacks and switches. Each may be called at any time, on any thread, also from inside a callback, and
/// never blocks; only [`set_heartbeat`](Client::set_heartbeat) sends something on a live session. What is set counts from
/// then on, over every connection to come; setting a handler replaces the one before it.
impl Client {
    /// Sets who hears of failures that have no caller. Default: nobody; they are logged at `warn`.
    ///
    /// See [`ExceptionListener`].
    pub fn set_exception_listener(&self, listener: impl ExceptionListener + 'static) {
        self.core().registry.set_exception_listener(Some(Arc::new(listener)));
    }

    /// Sets who repairs a lost connection. Default: nobody. An [`HAClient`](crate::HAClient) repairs it by itself.
    ///
    /// See [`DisconnectHandler`].
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::ErrorKind::Usage) on the client of an `HAClient`: another handler would take its whole recovery away.
    /// To be told of what happens, add a [listener](Client::add_connection_state_listener).
    pub fn set_disconnect_handler(&self, handler: impl DisconnectHandler + 'static) -> Result<()> {
        driver::refuse_handler_if_driven(self.core())?;
        self.core().registry.set_disconnect_handler(Some(Arc::new(handler)));
        Ok(())
    }

    /// Sets who gets what nobody else takes: data for subscriptions that are gone, unexpected acknowledgements, refused
    /// writes without a failed-write handler, unknown commands. Default: nobody.
    ///
    /// ```
    /// use amps_client::{Client, Message};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let client = Client::builder("thorough").build()?;
    /// client.set_last_chance_handler(|message: &Message| eprintln!("nobody wanted {message:?}"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_last_chance_handler(&self, handler: impl MessageHandler + 'static) {
        self.core().registry.set_global(Global::LastChance, Some(cell(handler)));
    }

    /// Sets who hears of writes that the server refused. Default: nobody; refusals go to the last-chance handler.
    ///
    /// See [`FailedWriteHandler`].
    pub fn set_failed_write_handler(&self, handler: impl FailedWriteHandler + 'static) {
        self.core().registry.set_failed_write(Some(Arc::new(Mutex::new(Box::new(handler)))));
    }

    /// Sets who gets the messages that the bookmark store has recognised as duplicates. Default: nobody. Without a bookmark
    /// store there are none.
    pub fn set_duplicate_handler(&self, handler: impl MessageHandler + 'static) {
        self.core().registry.set_global(Global::Duplicate, Some(cell(handler)));
    }

    /// Sets who sees every message of a kind, in addition to where else it goes. Default: nobody. It runs on the receive
    /// thread, after the library has used the message and before the handler or stream it is for.
    pub fn set_global_handler(&self, kind: GlobalKind, handler: impl MessageHandler + 'static) {
        let which = match kind {
            GlobalKind::Ack => Global::Ack,
            GlobalKind::Heartbeat => Global::Heartbeat,
        };
        self.core().registry.set_global(which, Some(cell(handler)));
    }

    /// Adds a listener for changes of the connection's state; any number may be there. A clone of an `Arc` that is in the
    /// list already is not added again.
    ///
    /// See [`ConnectionStateListener`].
    pub fn add_connection_state_listener(
        &self,
        listener: impl ConnectionStateListener + 'static,
    ) -> ListenerId {
        self.core().registry.add_state_listener(Arc::new(listener))
    }

    /// Removes a listener. False if it is not there any more.
    pub fn remove_connection_state_listener(&self, id: ListenerId) -> bool {
        self.core().registry.remove_state_listener(id)
    }

    /// Removes all listeners for changes of the connection's state.
    pub fn clear_connection_state_listeners(&self) {
        self.core().registry.clear_state_listeners();
    }

    /// Sets what runs first on every new receive thread, to name it, pin it or give it a priority. An error from it fails
    /// the `connect`. It must not call the client.
    ///
    /// ```
    /// use amps_client::{Client, HandlerError};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let client = Client::builder("pinned").build()?;
    /// client.set_thread_created_callback(|| -> Result<(), HandlerError> {
    ///     // pin_to_core(3)?;
    ///     Ok(())
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_thread_created_callback<R: Outcome>(&self, callback: impl Fn() -> R + Send + Sync + 'static) {
        self.core().registry.set_thread_created(Some(Arc::new(move || callback().into_result())));
    }

    /// Sets what runs last on every receive thread. It must not call the client; an error goes to the exception listener.
    pub fn set_thread_exiting_callback<R: Outcome>(&self, callback: impl Fn() -> R + Send + Sync + 'static) {
        self.core().registry.set_thread_exiting(Some(Arc::new(move || callback().into_result())));
    }

    /// Sets who sees the bytes that are sent and received. Default: nobody.
    ///
    /// See [`TransportFilter`]. A panic in it goes to the exception listener.
    pub fn set_transport_filter(&self, filter: impl TransportFilter + 'static) {
        let core = Arc::downgrade(self.core());
        let contained = move |direction: Direction, bytes: &[u8]| {
            let shown = contain(|| {
                filter.on_bytes(direction, bytes);
                Ok(())
            });
            if let (Err(failure), Some(core)) = (shown, core.upgrade()) {
                core.registry.report(failure.unhandled(Origin::TransportFilter));
            }
        };
        self.core().link.tap().set(Some(Arc::new(contained)));
    }

    /// Takes the transport filter away.
    pub fn clear_transport_filter(&self) {
        self.core().link.tap().set(None);
    }

    /// Switches heartbeats on: the server is asked to beat every `interval`, and a server from which nothing comes for twice
    /// as long counts as gone. Zero switches them off. Default: off.
    ///
    /// Choose about half of the interruption the application can bear, more than the worst network delay, and more than the
    /// slowest handler takes: beats are sent by the receive thread, so a handler that holds it for too long costs the
    /// connection.
    ///
    /// # Errors
    ///
    /// As for [`set_heartbeat_timeout`](Client::set_heartbeat_timeout).
    ///
    /// ```
    /// use amps_client::Client;
    /// use std::time::Duration;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let client = Client::builder("lively").build()?;
    /// client.set_heartbeat(Duration::from_secs(5))?; // counts from the next logon on
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_heartbeat(&self, interval: Duration) -> Result<()> {
        self.set_heartbeat_timeout(interval, interval.saturating_mul(2))
    }

    /// Switches heartbeats on with a time after which a silent server counts as gone. Both are rounded up to whole seconds.
    ///
    /// On a live session the server is told at once and `HeartbeatInitiated` is announced on this thread; otherwise after
    /// the next logon, and after every later one. It never waits for an answer, but a live session may block it as it would
    /// block [`publish`](Client::publish). If the server cannot be told, the exception listener is.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::ErrorKind::Usage) if the timeout is shorter than the interval.
    pub fn set_heartbeat_timeout(&self, interval: Duration, timeout: Duration) -> Result<()> {
        heartbeats::set(self.core(), interval, timeout)
    }

    /// How often a handler has held the receive thread for longer than half the heartbeat interval.
    pub fn slow_handler_count(&self) -> u64 {
        self.core().settings.slow_handlers.load(Ordering::Relaxed)
    }

    /// Whether commands that meet an outage wait for its end and are sent then (true, the default), or fail at once. A wait
    /// is bounded by the command's own time limit. What was sent and not answered fails in both cases.
    pub fn set_retry_on_disconnect(&self, retry: bool) {
        self.core().settings.retry_on_disconnect.store(retry, Ordering::Relaxed);
    }

    /// Bounds the streams made from now on, as [`MessageStream::set_max_depth`](crate::MessageStream::set_max_depth) does for
    /// one. Default: 10,000 messages and 2 MiB.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::ErrorKind::Usage) if either is 0.
    pub fn set_default_max_depth(&self, messages: usize, bytes: usize) -> Result<()> {
        *self.core().settings.default_depth.lock() = checked_depth(messages, bytes)?;
        Ok(())
    }

    /// Sets what is sent along with every logon, for the server's log; letters of the base64 alphabet only. Default: none.
    ///
    /// # Errors
    ///
    /// [`Usage`](crate::ErrorKind::Usage) if it holds a control character that cannot be sent.
    pub fn set_logon_correlation_data(&self, data: impl Into<String>) -> Result<()> {
        let data = data.into();
        check_text("logon correlation data", &data)?;
        *self.core().settings.correlation_data.lock() = data;
        Ok(())
    }

    /// What [`set_logon_correlation_data`](Client::set_logon_correlation_data) was set to.
    pub fn logon_correlation_data(&self) -> String {
        self.core().settings.correlation_data.lock().clone()
    }
}
