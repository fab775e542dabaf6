//! One conversation with one server.
//!
//! * [`builder`]: what is settled before; [`verbs`]: the named operations; [`settings`]: what may change.
//! * [`connect`], [`logon`], [`execute`]: opening, introducing, asking.
//! * [`core`]: what all threads share, and the lock order.
//! * [`link`] with [`burst`]: the write half. [`receiver`] with [`buffers`] and [`dispatch`]: THE receive thread.
//! * [`recovery`]: what happens after a loss.
//! * [`session`], [`acks`], [`routes`], [`heartbeat`]: pure tables and timers.

mod acks;
mod buffers;
mod builder;
mod burst;
mod connect;
mod context;
mod core;
mod dispatch;
pub(crate) mod driver;
mod execute;
mod flushing;
mod heartbeat;
mod heartbeats;
mod link;
mod logon;
mod panics;
mod publishing;
mod receiver;
mod recovery;
mod registry;
mod reply;
mod routes;
mod session;
mod settings;
mod sinks;
mod streams;
mod subscription_manager;
mod tap;
mod verbs;
mod worker;
mod writes;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

pub use builder::ClientBuilder;
pub(crate) use builder::Config;
pub(crate) use context::some_waits_hang;
pub(crate) use core::Core;
pub use logon::Logon;
pub use panics::capture_panic_backtraces;
pub use recovery::DisconnectHandler;
pub use registry::ListenerId;
pub(crate) use registry::contain;
pub use settings::GlobalKind;
pub use subscription_manager::{FailedResubscribeHandler, Generation, SharedHandler, SubscriptionManager};
pub use verbs::PublishOptions;

use crate::error::Result;
use crate::store::PublishStore;
use crate::version::VersionInfo;

/// How long dropping the last handle waits for the threads of a client.
const DROP_LIMIT: Duration = Duration::from_millis(100);

/// A client: one connection to one server, shared by any number of threads.
///
/// A cheap handle: clone it freely, every method takes `&self`. Commands of one thread keep their order on the wire.
/// Connecting starts a receive thread, which calls message handlers one at a time; see
/// [`MessageHandler`](crate::MessageHandler) for what may be done there. Calls that wait say for how long; on the receive
/// thread and inside a state listener they are refused with [`Usage`](crate::ErrorKind::Usage) at once, because nobody else
/// could receive what they wait for.
///
/// [`close`](Client::close) ends it. Dropping the last handle does the same within 100 ms. A handler that holds a clone of
/// its own client keeps it alive: use a [`WeakClient`] there.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{Client, Command, Message};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("first").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
///
/// let (sender, received) = std::sync::mpsc::channel();
/// client.execute_async(Command::subscribe("orders").filter("/px > 5"), move |message: &Message| {
///     drop(sender.send(message.data().to_vec())); // on the receive thread
/// })?;
/// client.publish("orders", r#"{"id":1,"px":10}"#)?;
/// assert_eq!(received.recv().unwrap(), br#"{"id":1,"px":10}"#);
/// client.close();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    handle: Arc<ClientHandle>,
}

/// What the handles of the application share; the threads do not, so its end means that the application is done.
#[derive(Debug)]
pub(crate) struct ClientHandle {
    core: Arc<Core>,
}

impl Drop for ClientHandle {
    fn drop(&mut self) {
        self.core.close(Some(DROP_LIMIT));
        self.core.registry.silence();
    }
}

impl Client {
    /// Starts building a client of this name.
    ///
    /// The name identifies the session to the server: unique among connected clients, and constant over restarts for a
    /// publisher whose messages must not be doubled.
    pub fn builder(name: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(name.into())
    }

    pub(crate) fn new(config: Config) -> Client {
        let handle = Arc::new(ClientHandle { core: Arc::new(Core::new(config)) });
        *handle.core.handle.lock() = Arc::downgrade(&handle);
        Client { handle }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    /// Opens a connection and starts its receive thread. State: `Connected`. Most servers want a
    /// [`logon`](Client::logon) next.
    ///
    /// Blocks for the name lookup and for establishing the connection: `tcp_connecttimeout` of the connection string, or as
    /// long as the system tries; and for a handler that has closed the client itself and still runs. Not to be called on the receive thread or inside a state listener.
    ///
    /// # Errors
    ///
    /// * [`InvalidUri`], [`InvalidTransportOptions`], [`MessageType`], [`TransportType`]: the connection string; no socket was
    ///   opened.
    /// * [`AlreadyConnected`]: the connection there is goes on.
    /// * [`ConnectionRefused`]: refused, unreachable, or the host cannot be resolved.
    /// * [`Connection`]: the time is over, a socket option or the local address was refused, or the thread could not be
    ///   started.
    /// * [`Disconnected`]: lost at once, or the client is being closed.
    /// * [`RetryOperation`]: another thread is reconnecting.
    /// * [`Usage`]: called where nothing may wait.
    ///
    /// [`InvalidUri`]: crate::ErrorKind::InvalidUri
    /// [`InvalidTransportOptions`]: crate::ErrorKind::InvalidTransportOptions
    /// [`MessageType`]: crate::ErrorKind::MessageType
    /// [`TransportType`]: crate::ErrorKind::TransportType
    /// [`AlreadyConnected`]: crate::ErrorKind::AlreadyConnected
    /// [`ConnectionRefused`]: crate::ErrorKind::ConnectionRefused
    /// [`Connection`]: crate::ErrorKind::Connection
    /// [`Disconnected`]: crate::ErrorKind::Disconnected
    /// [`RetryOperation`]: crate::ErrorKind::RetryOperation
    /// [`Usage`]: crate::ErrorKind::Usage
    pub fn connect(&self, uri: &str) -> Result<()> {
        connect::connect(self.core(), uri)
    }

    /// Introduces the client to the server, with the credentials of the connection string, no options and no time limit.
    ///
    /// Blocks until the server answers or the connection is lost. Other threads' commands wait meanwhile. Not to be called on
    /// the receive thread or inside a state listener.
    ///
    /// # Errors
    ///
    /// As for [`logon_with`](Client::logon_with).
    pub fn logon(&self) -> Result<()> {
        self.logon_with(&Logon::new())
    }

    /// Introduces the client to the server. State: `LoggedOn`, then `HeartbeatInitiated` if heartbeats are set.
    ///
    /// Blocks as [`logon`](Client::logon) does. One time limit covers everything: waiting for another logon, the
    /// authenticator, and each round that the server asks for. A logon that fails closes the connection. Every failure but
    /// `Usage` is also given to the exception listener.
    ///
    /// ```
    /// use amps_client::testing::{Server, UserTable};
    /// use amps_client::{Client, Logon};
    /// use std::time::Duration;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().auth(UserTable::new().user("alice", "s3cret")).start()?;
    /// let client = Client::builder("desk").build()?;
    /// client.connect(&server.uri("json").replace("tcp://", "tcp://alice:s3cret@"))?;
    /// client.logon_with(&Logon::new().timeout(Duration::from_secs(10)))?;
    /// assert_eq!(client.connection_info().get("client.username"), Some("alice"));
    /// assert!(client.uri().is_some_and(|uri| !uri.contains("s3cret")));
    /// assert!(client.server_version() >= "5.3");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Authentication`](crate::ErrorKind::Authentication), [`NotEntitled`](crate::ErrorKind::NotEntitled),
    ///   [`NameInUse`](crate::ErrorKind::NameInUse), [`DuplicateLogon`](crate::ErrorKind::DuplicateLogon), or another kind for
    ///   the server's reason.
    /// * The kind of the authenticator's own error, which is the source.
    /// * [`TimedOut`](crate::ErrorKind::TimedOut): there was a time limit, and it is over.
    /// * [`Disconnected`](crate::ErrorKind::Disconnected): not connected, or lost meanwhile.
    /// * [`RetryOperation`](crate::ErrorKind::RetryOperation): another thread logs on, and the client
    ///   [does not wait](Client::set_retry_on_disconnect) for its end.
    /// * [`Usage`](crate::ErrorKind::Usage): called where nothing may wait.
    pub fn logon_with(&self, logon: &Logon) -> Result<()> {
        driver::refuse_if_driven(self.core())?;
        logon::logon(self.core(), logon, &|| Ok(())).map(drop)
    }

    /// Ends the connection: lets the last frames leave for up to 100 ms, releases whoever waits with
    /// [`Disconnected`](crate::ErrorKind::Disconnected), ends streams, and waits for a handler that is running. States:
    /// `Disconnected` if it was connected, and `Shutdown`.
    ///
    /// When it returns, no handler or listener of this client runs any more. Inside one it waits for nothing, and no further
    /// message is delivered. It may be called in every state, from any thread, and more than once; the disconnect handler is
    /// not called. Handlers of subscriptions and queries are forgotten, settings are kept, and the client can connect again.
    ///
    /// It does not wait for the server: use [`publish_flush`](Client::publish_flush) first if every publish must have
    /// arrived.
    pub fn close(&self) {
        self.core().close(None);
    }

    /// A handle that does not keep the client alive, for use in its own callbacks. Never blocks, and neither does any of the
    /// questions below; they may be asked on any thread.
    pub fn downgrade(&self) -> WeakClient {
        WeakClient { handle: Arc::downgrade(&self.handle) }
    }

    /// The name given to [`builder`](Client::builder).
    pub fn name(&self) -> &str {
        &self.core().config.name
    }

    /// True between a successful `connect` and the loss or the end of the connection.
    pub fn is_connected(&self) -> bool {
        self.core().is_connected()
    }

    /// The connection string of the last attempt to connect, its password hidden; `None` before the first.
    pub fn uri(&self) -> Option<String> {
        self.core().session.lock().uri.as_ref().map(ToString::to_string)
    }

    /// What is known of the connection, without passwords: `client.name`, `client.uri`, `client.username`.
    pub fn connection_info(&self) -> ConnectionInfo {
        let session = self.core().session.lock();
        let uri = session.uri.as_ref().map(ToString::to_string);
        let entries = [
            ("client.name", self.core().config.name.clone()),
            ("client.uri", uri.unwrap_or_default()),
            ("client.username", session.user.clone()),
        ];
        drop(session);
        let unpersisted = self.publish_store().map(|store| store.unpersisted_count().to_string());
        let unpersisted = unpersisted.map(|count| ("publishStore.unpersistedCount", count));
        let entries = entries.into_iter().chain(unpersisted);
        ConnectionInfo { entries: entries.map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    /// The publish store, if the client was built with one.
    pub fn publish_store(&self) -> Option<&Arc<dyn PublishStore>> {
        self.core().config.publish_store.as_ref()
    }

    /// The server's version, as it told at logon; zero before.
    pub fn server_version(&self) -> VersionInfo {
        self.core().session.lock().server.version.clone()
    }

    /// The server's hash of the client name, as it told at logon; empty before. Bookmarks of messages that this client
    /// publishes begin with it.
    pub fn name_hash(&self) -> String {
        self.core().session.lock().server.name_hash.clone()
    }

    /// [`name_hash`](Client::name_hash) as a number; 0 before a logon.
    pub fn name_hash_value(&self) -> u64 {
        self.core().session.lock().server.name_hash_value
    }

    /// What the server calls this connection, if it told at logon; else empty.
    pub fn connection_name(&self) -> String {
        self.core().session.lock().server.connection_name.clone()
    }

    /// A duplicate of the socket's descriptor, for tuning; `None` while there is no connection.
    #[cfg(unix)]
    pub fn raw_socket(&self) -> Option<std::os::fd::OwnedFd> {
        self.core().link.transport().and_then(|transport| transport.descriptor())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("name", &self.name())
            .field("uri", &self.uri())
            .field("connected", &self.is_connected())
            .finish()
    }
}

/// A handle that does not keep its client alive.
///
/// ```
/// use amps_client::Client;
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("short-lived").build()?;
/// let weak = client.downgrade();
/// assert!(weak.upgrade().is_some());
/// drop(client);
/// assert!(weak.upgrade().is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WeakClient {
    handle: Weak<ClientHandle>,
}

impl WeakClient {
    /// The client, if the application still has a handle on it. The handle returned keeps the client alive: let it go soon.
    pub fn upgrade(&self) -> Option<Client> {
        self.handle.upgrade().map(Client::from)
    }
}

/// What is known of a connection, as names and values; never a password.
///
/// ```
/// use amps_client::Client;
///
/// # fn main() -> amps_client::Result<()> {
/// let info = Client::builder("known").build()?.connection_info();
/// assert_eq!(info.get("client.name"), Some("known"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConnectionInfo {
    entries: BTreeMap<String, String>,
}

impl ConnectionInfo {
    /// The same with another entry, or another value of one.
    pub(crate) fn with(mut self, name: &str, value: String) -> ConnectionInfo {
        self.entries.insert(name.to_owned(), value);
        self
    }

    /// The value of an entry.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries.get(name).map(String::as_str)
    }

    /// All entries, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A handler that does nothing, for tests of those who only keep one.
#[cfg(test)]
pub(crate) fn handler_for_tests() -> SharedHandler {
    SharedHandler(sinks::Sink::Handler(registry::cell(|_: &crate::message::Message| {})))
}
