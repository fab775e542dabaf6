//! A client that stays connected to some server.

use std::fmt;
use std::ops::Deref;
#[cfg(feature = "file-store")]
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::Attempts;
use super::{DefaultServerChooser, ReconnectDelayStrategy, ServerChooser};
use super::{ExponentialDelayStrategy, FixedDelayStrategy, MemorySubscriptionManager};
use crate::client::driver::{self, Claim};
use crate::client::{Client, ClientBuilder, ConnectionInfo, DisconnectHandler, SubscriptionManager};
use crate::error::{Error, HandlerError, Result};
use crate::store::{BookmarkStore, MemoryBookmarkStore, MemoryPublishStore, PublishStore};
#[cfg(feature = "file-store")]
use crate::store::{FilePublishStore, LoggedBookmarkStore};
use crate::uri::Uri;

/// A [`Client`] that finds a server by itself, and another one when the first is lost.
///
/// It is built with a list of servers, or a [`ServerChooser`], and told to [`connect_and_logon`](HAClient::connect_and_logon).
/// From then on it recovers everything after a loss: the logon, heartbeats, stored publishes, subscriptions. Commands of the
/// application wait meanwhile, or fail, as [`set_retry_on_disconnect`](Client::set_retry_on_disconnect) says; publishes into a
/// store do not wait. Subscription streams go on over a failover, handlers are called again; a query in flight ends with
/// [`Disconnected`](crate::ErrorKind::Disconnected).
///
/// It derefs to [`Client`], with everything a client can do. What it does by itself cannot be done by hand:
/// [`connect`](Client::connect), [`logon`](Client::logon) and replacing the disconnect handler fail. To be told of what
/// happens, add a [connection-state listener](Client::add_connection_state_listener).
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{HAClient, MemoryPublishStore};
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = HAClient::builder("desk-pricer")
///     .servers([server.uri("json"), "tcp://localhost:1/amps/json".to_owned()])
///     .publish_store(MemoryPublishStore::new())
///     .build()?;
/// client.set_heartbeat(Duration::from_secs(5))?;
/// client.connect_and_logon()?;
/// client.publish("orders", r#"{"id":1}"#)?;
/// client.publish_flush()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HAClient {
    client: Client,
    attempts: Arc<Attempts>,
}

impl HAClient {
    /// Starts building a client of this name, with a [`MemorySubscriptionManager`], an [`ExponentialDelayStrategy`], and no
    /// servers.
    pub fn builder(name: impl Into<String>) -> HAClientBuilder {
        HAClientBuilder {
            client: Client::builder(name).driven(),
            chooser: None,
            servers: Vec::new(),
            delay: Box::new(ExponentialDelayStrategy::new()),
            logon_options: String::new(),
        }
    }

    /// Connects to the first server that accepts, logs on, and recovers what there is to recover. Does nothing if there is a
    /// connection.
    ///
    /// Blocks until that is done, trying one server after the other as the chooser and the delay strategy say, for as long as
    /// they say. [`close`](HAClient::close) on another thread ends it at once.
    ///
    /// # Errors
    ///
    /// If it fails the client is closed; it may be called again.
    ///
    /// * [`Connection`](crate::ErrorKind::Connection): there is no chooser, or it has no server left; its own text says why.
    /// * [`Authentication`](crate::ErrorKind::Authentication), [`NotEntitled`](crate::ErrorKind::NotEntitled): the default
    ///   chooser has given up because of it.
    /// * [`ReconnectMaximumExceeded`](crate::ErrorKind::ReconnectMaximumExceeded): the delay strategy has given up.
    /// * [`Disconnected`](crate::ErrorKind::Disconnected): closed meanwhile.
    /// * [`HandlerPanicked`](crate::ErrorKind::HandlerPanicked): chooser or strategy panicked when asked.
    /// * [`Usage`](crate::ErrorKind::Usage): called where nothing may wait.
    pub fn connect_and_logon(&self) -> Result<()> {
        self.connect_until(None)
    }

    /// The same, for at most `limit`.
    ///
    /// # Errors
    ///
    /// As for [`connect_and_logon`](HAClient::connect_and_logon); [`TimedOut`](crate::ErrorKind::TimedOut) when the time is
    /// over, its text listing the last failure of each server.
    pub fn connect_and_logon_timeout(&self, limit: Duration) -> Result<()> {
        self.connect_until(Instant::now().checked_add(limit))
    }

    fn connect_until(&self, deadline: Option<Instant>) -> Result<()> {
        let core = self.client.core();
        core.refuse_to_hang("connect_and_logon")?;
        let Some(claim) = Claim::take(core, deadline)? else { return Ok(()) };
        let outcome = self.make_connection(&claim, deadline);
        if outcome.is_err() {
            claim.give_up(core);
        }
        outcome
    }

    fn make_connection(&self, claim: &Claim, deadline: Option<Instant>) -> Result<()> {
        self.attempts.start_anew();
        loop {
            self.attempts.run(&self.client, deadline)?;
            match claim.open(self.client.core()) {
                None => return Ok(()),
                Some(lost) => self.attempts.lost(&self.client, &lost),
            }
        }
    }

    /// Ends the connection, or the attempts to get one, and waits for it, as [`Client::close`] does. Subscriptions with a
    /// handler and stored publishes are kept for the next [`connect_and_logon`](HAClient::connect_and_logon).
    pub fn close(&self) {
        self.client.close();
    }

    /// True only after [`close`](HAClient::close), or when [`connect_and_logon`](HAClient::connect_and_logon) has failed; false
    /// while it reconnects.
    pub fn is_disconnected(&self) -> bool {
        self.client.core().session.lock().closed
    }

    /// What is known of the connection: what [`Client::connection_info`] says, and `haClient.reconnectDelay`, the last wait
    /// before an attempt, and `haClient.timeout`, the limit of each logon, both in milliseconds.
    pub fn connection_info(&self) -> ConnectionInfo {
        self.attempts.info(&self.client)
    }

    /// How long the logon of each attempt may take; `None` means no limit. Default: 10 seconds.
    pub fn set_logon_timeout(&self, limit: Option<Duration>) {
        self.attempts.set_logon_timeout(limit);
    }

    /// What [`set_logon_timeout`](HAClient::set_logon_timeout) was set to.
    pub fn logon_timeout(&self) -> Option<Duration> {
        self.attempts.logon_timeout()
    }
}

impl Deref for HAClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl AsRef<Client> for HAClient {
    fn as_ref(&self) -> &Client {
        &self.client
    }
}

impl fmt::Debug for HAClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HAClient").field(&self.client).finish()
    }
}

/// Collects what cannot change later; made by [`HAClient::builder`].
///
/// ```
/// use amps_client::HAClient;
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// let client = HAClient::builder("desk-pricer")
///     .servers(["tcp://a:9007/amps/json", "tcp://b:9007/amps/json"])
///     .reconnect_delay(Duration::from_millis(500))
///     .logon_options("ack_conflation=100ms")
///     .build()?;
/// assert!(!client.is_connected());
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `build`"]
pub struct HAClientBuilder {
    client: ClientBuilder,
    chooser: Option<Box<dyn ServerChooser>>,
    /// The servers of the chooser, if they were given here.
    servers: Vec<String>,
    delay: Box<dyn ReconnectDelayStrategy>,
    logon_options: String,
}

macro_rules! passed_on {
    ($($(#[$doc:meta])+ $name:ident($value:ident: $type:ty);)+) => {
        $($(#[$doc])+
        pub fn $name(mut self, $value: $type) -> HAClientBuilder {
            self.client = self.client.$name($value);
            self
        })+
    };
}

impl HAClientBuilder {
    /// The servers, tried in this order by a [`DefaultServerChooser`]. Replaces a chooser set before.
    pub fn servers<I>(self, uris: I) -> HAClientBuilder
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let servers: Vec<String> = uris.into_iter().map(Into::into).collect();
        let chooser = DefaultServerChooser::from_iter(servers.iter().map(String::as_str));
        HAClientBuilder { servers, ..self.server_chooser(chooser) }
    }

    /// Who chooses the server of each attempt. Default: nobody, and there is no connecting without one.
    pub fn server_chooser(mut self, chooser: impl ServerChooser + 'static) -> HAClientBuilder {
        self.chooser = Some(Box::new(chooser));
        self.servers.clear();
        self
    }

    /// Waits this long before a server is tried again: a [`FixedDelayStrategy`]. Default: an [`ExponentialDelayStrategy`].
    pub fn reconnect_delay(self, delay: Duration) -> HAClientBuilder {
        self.reconnect_delay_strategy(FixedDelayStrategy::new(delay))
    }

    /// How long to wait before each attempt, and when to give up. Default: an [`ExponentialDelayStrategy`].
    pub fn reconnect_delay_strategy(
        mut self,
        strategy: impl ReconnectDelayStrategy + 'static,
    ) -> HAClientBuilder {
        self.delay = Box::new(strategy);
        self
    }

    /// The options of every logon: text, or [`LogonOptions`](crate::LogonOptions). Default: none, or `pretty` if the
    /// connection string has it.
    pub fn logon_options(mut self, options: impl Into<String>) -> HAClientBuilder {
        self.logon_options = options.into();
        self
    }

    /// Where published messages are kept until the server has made them durable, as
    /// [`ClientBuilder::publish_store`]. Default: nowhere.
    pub fn publish_store(mut self, store: impl PublishStore + 'static) -> HAClientBuilder {
        self.client = self.client.publish_store(store);
        self
    }

    /// Keeps publishes and the progress of bookmark subscriptions in memory: a [`MemoryPublishStore`] and a
    /// [`MemoryBookmarkStore`]. Nothing is lost in a failover, everything at the end of the process.
    ///
    /// ```
    /// use amps_client::HAClient;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let client = HAClient::builder("pricer").servers(["tcp://a:9007/amps/json"]).memory_backed().build()?;
    /// assert!(client.publish("prices", r#"{"id":1}"#)? > 0, "it is stored until there is a server");
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_backed(self) -> HAClientBuilder {
        self.publish_store(MemoryPublishStore::new()).bookmark_store(MemoryBookmarkStore::new())
    }

    /// Keeps publishes and the progress of bookmark subscriptions in two files: a [`FilePublishStore`] and a
    /// [`LoggedBookmarkStore`]. Nothing is lost at the end of the process either; the next one opens the same files, under
    /// the same client name.
    ///
    /// Both files are created if need be, and locked from now on. To set more than their paths, open the stores and give
    /// them to [`publish_store`](Self::publish_store) and [`bookmark_store`](Self::bookmark_store).
    ///
    /// ```
    /// use amps_client::HAClient;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// # let directory = std::env::temp_dir();
    /// # let file = |name: &str| directory.join(format!("{name}-{}", std::process::id()));
    /// # let (publishes, bookmarks) = (file("doc-publishes"), file("doc-bookmarks"));
    /// let client = HAClient::builder("pricer")
    ///     .servers(["tcp://a:9007/amps/json", "tcp://b:9007/amps/json"])
    ///     .file_backed(&publishes, &bookmarks)?
    ///     .build()?;
    /// client.publish("prices", r#"{"id":1}"#)?; // kept until a server has it, in this process or the next
    /// # drop(client);
    /// # for path in [publishes, bookmarks] {
    /// #     std::fs::remove_file(path).expect("it is not in use any more");
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store): a file cannot be opened, is in use, or is no such store; see
    /// [`FilePublishStore::open`] and [`LoggedBookmarkStore::open`].
    #[cfg(feature = "file-store")]
    pub fn file_backed(
        self,
        publishes: impl AsRef<Path>,
        bookmarks: impl AsRef<Path>,
    ) -> Result<HAClientBuilder> {
        let publishes = FilePublishStore::open(publishes)?;
        Ok(self.publish_store(publishes).bookmark_store(LoggedBookmarkStore::open(bookmarks)?))
    }

    /// Where the progress of bookmark subscriptions is kept, as [`ClientBuilder::bookmark_store`]. Default: nowhere; a
    /// bookmark subscription then goes on, within this process, behind the last message of each publisher.
    pub fn bookmark_store(mut self, store: impl BookmarkStore + 'static) -> HAClientBuilder {
        self.client = self.client.bookmark_store(store);
        self
    }

    /// Who remembers subscriptions, as [`ClientBuilder::subscription_manager`]. Default: a [`MemorySubscriptionManager`].
    pub fn subscription_manager(mut self, manager: impl SubscriptionManager + 'static) -> HAClientBuilder {
        self.client = self.client.subscription_manager(manager);
        self
    }

    passed_on! {
        /// As [`ClientBuilder::frame_limit`].
        frame_limit(bytes: u32);
        /// As [`ClientBuilder::outbox_limit`].
        outbox_limit(bytes: usize);
    }

    /// Creates the client, not connected yet. Starts no thread.
    ///
    /// # Errors
    ///
    /// As for [`ClientBuilder::build`]; and as for [`Uri::parse`](crate::Uri::parse) if one of the
    /// [servers](HAClientBuilder::servers) cannot be read. What a chooser of yours gives is read only when its turn comes,
    /// and is then a failed attempt like any other.
    pub fn build(self) -> Result<HAClient> {
        let HAClientBuilder { mut client, chooser, servers, delay, logon_options } = self;
        for server in &servers {
            Uri::parse(server)?;
        }
        if !client.has_subscription_manager() {
            client = client.subscription_manager(MemorySubscriptionManager::new());
        }
        let client = client.build()?;
        let attempts = Arc::new(Attempts::new(chooser, delay, logon_options));
        client.core().registry.set_disconnect_handler(Some(Arc::new(Reconnect(Arc::clone(&attempts)))));
        Ok(HAClient { client, attempts })
    }
}

impl fmt::Debug for HAClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HAClientBuilder").field("client", &self.client).finish_non_exhaustive()
    }
}

/// The disconnect handler of an `HAClient`.
struct Reconnect(Arc<Attempts>);

impl DisconnectHandler for Reconnect {
    fn on_disconnect(&self, client: &Client, cause: &Error) -> Result<(), HandlerError> {
        let core = client.core();
        driver::persist(core, true);
        self.0.lost(client, cause);
        if let Err(error) = self.0.run(client, None) {
            driver::persist(core, false);
            if !driver::is_cancelled(core) {
                // What ended it, before the plain fact that it has ended (HA-17).
                core.report(error, crate::callbacks::Origin::Connection);
            }
        }
        Ok(())
    }
}
