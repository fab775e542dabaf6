//! What a server is told before it starts.

use std::sync::Arc;
use std::time::Duration;

use super::auth::Auth;
use super::clock::Clock;
use super::entitlement::{Entitlement, Rules};
use super::journal::JournalRules;
use super::listener::{Listener, Port};
use super::pattern::Pattern;
use super::server::{Server, Sharing};
use super::settings::Settings;
use super::topic::{Expiration, Rule, Topic};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::MAX_FRAME;

/// Configures a [`Server`]; made by [`Server::builder`].
///
/// ```
/// use std::time::Duration;
/// use amps_client::testing::{Clock, Expiration, Server, Topic, UserTable};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder()
///     .listen_tcp()
///     .topic(Topic::sow("orders").key("/id").expiration(Expiration::PerMessage))
///     .auth(UserTable::new().user("alice", "s3cret"))
///     .clock(Clock::manual())
///     .max_queued_age(Duration::from_secs(5))
///     .start()?;
/// assert!(server.uri("json").starts_with("tcp://127.0.0.1:"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start`"]
pub struct ServerBuilder {
    listeners: Vec<Listener>,
    allow_remote: bool,
    topics: Vec<Topic>,
    /// Regular expressions over the names of journaled topics.
    journaled: Vec<String>,
    journal_limit: usize,
    clock: Clock,
    settings: Settings,
}

impl ServerBuilder {
    pub(crate) fn new() -> ServerBuilder {
        ServerBuilder {
            listeners: Vec::new(),
            allow_remote: false,
            topics: Vec::new(),
            journaled: Vec::new(),
            journal_limit: 100_000,
            clock: Clock::real(),
            settings: Settings {
                auth: None,
                rules: Rules::default(),
                version: "5.3.5.0".into(),
                frame_limit: 200 << 20,
                queue_limit: 64 << 20,
                queue_age: None,
                separator: 1,
                coalesces_sids: true,
                heartbeat_factor: 2,
                implicit_logon: None,
                regex_topics: true,
                ack_conflation: Duration::from_secs(1),
                duplicates_succeed: false,
                record_limit: 10_000,
            },
        }
    }

    /// Listens on the IPv4 loopback address, on a port that the system chooses. Short for [`Listener::tcp`].
    pub fn listen_tcp(self) -> ServerBuilder {
        self.listen(Listener::tcp())
    }

    /// Listens on a Unix socket at this path. Short for [`Listener::unix`].
    #[cfg(unix)]
    pub fn listen_unix(self, path: impl Into<std::path::PathBuf>) -> ServerBuilder {
        self.listen(Listener::unix(path))
    }

    /// Listens on a Unix socket in a fresh temporary directory. Short for [`Listener::unix_temp`].
    #[cfg(unix)]
    pub fn listen_unix_temp(self) -> ServerBuilder {
        self.listen(Listener::unix_temp())
    }

    /// Adds a listener. Default: if none is added, one as of [`listen_tcp`](ServerBuilder::listen_tcp).
    pub fn listen(mut self, listener: Listener) -> ServerBuilder {
        self.listeners.push(listener);
        self
    }

    /// Permits listeners that other machines can reach. Default: they are refused. There is no encryption, and without
    /// [`auth`](ServerBuilder::auth) everyone is let in.
    pub fn allow_remote(mut self) -> ServerBuilder {
        self.allow_remote = true;
        self
    }

    /// Adds a topic. The first one that fits a name counts. Default: none; a topic that is not configured delivers and
    /// stores nothing.
    pub fn topic(mut self, topic: Topic) -> ServerBuilder {
        self.topics.push(topic);
        self
    }

    /// Adds the topics that [`Server::quick`] has: those whose names begin with `sow/` or `queue/`. Default: none.
    ///
    /// ```
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().listen_tcp().quick_topics().start()?;
    /// server.publish("sow/orders", r#"{"id":1}"#)?;
    /// assert_eq!(server.sow_records("sow/orders").len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn quick_topics(self) -> ServerBuilder {
        self.topic(Topic::sow("sow/").key("/id").expiration(Expiration::PerMessage).for_prefix())
            .topic(Topic::queue("queue/").max_per_subscription_backlog(100).for_prefix())
    }

    /// Journals every topic in whose name this regular expression occurs, configured or not. Default: only those that
    /// are [configured](Topic::journaled) so.
    ///
    /// ```
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().journal(r"^audit\.").start()?;
    /// server.publish("audit.orders", "kept")?;
    /// server.publish("orders", "not kept")?;
    /// assert_eq!(server.journal().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn journal(mut self, pattern: impl Into<String>) -> ServerBuilder {
        self.journaled.push(pattern.into());
        self
    }

    /// How many messages the journal keeps; the oldest give way. Default: 100,000, and never more than 128 MiB of
    /// payload.
    pub fn max_journal_entries(mut self, limit: usize) -> ServerBuilder {
        self.journal_limit = limit;
        self
    }

    /// How long `persisted` acknowledgements are collected, if there is a journal: a publisher gets one for all its
    /// messages of that time. Default: 1 second. The logon option `ack_conflation` beats it; zero acknowledges each.
    pub fn ack_conflation(mut self, interval: Duration) -> ServerBuilder {
        self.settings.ack_conflation = interval;
        self
    }

    /// Whether a message whose sequence number its client has used before is acknowledged like any other. Default:
    /// false; its acknowledgement is then a failure with the reason `duplicate`. It is discarded in any case.
    pub fn acknowledge_duplicates(mut self, acknowledge: bool) -> ServerBuilder {
        self.settings.duplicates_succeed = acknowledge;
        self
    }

    /// Asks this about each logon. Default: everyone is accepted.
    pub fn auth(mut self, auth: impl Auth) -> ServerBuilder {
        self.settings.auth = Some(Arc::new(auth));
        self
    }

    /// Asks this what a user may do. Default: everything.
    pub fn entitlement(mut self, entitlement: impl Entitlement) -> ServerBuilder {
        self.settings.rules = Rules::new(entitlement);
        self
    }

    /// The clock of the server. Default: [`Clock::real`].
    pub fn clock(mut self, clock: Clock) -> ServerBuilder {
        self.clock = clock;
        self
    }

    /// The version in the acknowledgement of a logon: four numbers with dots between. Default: `5.3.5.0`.
    pub fn version(mut self, version: impl Into<String>) -> ServerBuilder {
        self.settings.version = version.into();
        self
    }

    /// The largest frame that is read, in bytes; a connection that sends a larger one is closed. Default: 200 MiB. At
    /// most 1 GiB.
    pub fn max_frame(mut self, bytes: u32) -> ServerBuilder {
        self.settings.frame_limit = bytes.min(MAX_FRAME);
        self
    }

    /// How many bytes of frames may wait to be written to one connection; one that falls further behind is closed.
    /// Default: 64 MiB. The records of a query do not count, nor does what bookmark subscriptions read from the
    /// journal; a connection that has not read what the journal [drops](ServerBuilder::max_journal_entries) is closed.
    pub fn max_queued_bytes(mut self, bytes: usize) -> ServerBuilder {
        self.settings.queue_limit = bytes;
        self
    }

    /// How long a frame may wait to be written; a connection where one waits longer is closed. Default: no limit.
    pub fn max_queued_age(mut self, age: Duration) -> ServerBuilder {
        self.settings.queue_age = Some(age);
        self
    }

    /// Whether a message for several plain subscriptions of one connection goes out once, listing them all. Default:
    /// true; with false each gets a frame of its own.
    pub fn coalesce_sids(mut self, coalesce: bool) -> ServerBuilder {
        self.settings.coalesces_sids = coalesce;
        self
    }

    /// The byte between the fields of `fix` and `nvfix` messages. Default: 1.
    pub fn field_separator(mut self, separator: u8) -> ServerBuilder {
        self.settings.separator = separator;
        self
    }

    /// After how many heartbeat intervals without a beat of the client its connection is closed. Default: 2. At least
    /// 1.
    pub fn heartbeat_factor(mut self, intervals: u32) -> ServerBuilder {
        self.settings.heartbeat_factor = intervals.max(1);
        self
    }

    /// Takes a connection whose first command is not a logon as a nameless session of this message type; a logon after
    /// that is refused. Default: such commands fail with `logon required`.
    pub fn implicit_logon(mut self, message_type: impl Into<String>) -> ServerBuilder {
        self.settings.implicit_logon = Some(message_type.into());
        self
    }

    /// Whether regular-expression topics are allowed in subscriptions, queries and deletes. Default: true; with false
    /// they fail with `regex topic not supported`.
    pub fn regex_topics(mut self, allow: bool) -> ServerBuilder {
        self.settings.regex_topics = allow;
        self
    }

    /// How many frames are kept per direction for [`Server::frames`]. Default: 10,000; 0 keeps none.
    pub fn record_frames(mut self, limit: usize) -> ServerBuilder {
        self.settings.record_limit = limit;
        self
    }

    /// Starts the server: when this returns, its listeners accept.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) for a configuration that makes no sense, such as a key field that is none or an
    /// address that other machines can reach; [`Connection`](ErrorKind::Connection) if an address cannot be had. The
    /// text names the offender.
    pub fn start(self) -> Result<Server> {
        let mut servers = Server::launch(self.plan(1)?, Sharing::All)?;
        servers.pop().ok_or_else(|| Error::new(ErrorKind::Usage, "a server has one instance"))
    }

    /// Checks everything and takes the addresses, so many times.
    pub(crate) fn plan(mut self, instances: usize) -> Result<Plan> {
        if self.listeners.is_empty() {
            self.listeners.push(Listener::tcp());
        }
        let parts: Vec<_> = self.settings.version.split('.').collect();
        if parts.len() != 4 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
            let text = format!("`{}` is no version: four numbers with dots between", self.settings.version);
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let rules = self.topics.iter().map(|topic| topic.rule(self.settings.separator));
        let rules: Vec<Rule> = rules.collect::<Result<_>>()?;
        let journaled = self.journal_rules()?;
        let ports = |_| self.listeners.iter().map(|listener| listener.bind(self.allow_remote)).collect();
        let ports = (0..instances).map(ports).collect::<Result<_>>()?;
        Ok(Plan {
            rules: rules.into(),
            journaled,
            ports,
            clock: self.clock,
            settings: Arc::new(self.settings),
        })
    }

    /// True if users are asked about.
    pub(crate) fn has_entitlements(&self) -> bool {
        !self.settings.rules.is_open()
    }

    fn journal_rules(&self) -> Result<JournalRules> {
        let patterns = self.journaled.iter().map(|text| {
            Pattern::compile(text).ok_or_else(|| {
                Error::new(
                    ErrorKind::Usage,
                    format!("`{text}` is no regular expression for journaled topics"),
                )
            })
        });
        Ok(JournalRules { patterns: patterns.collect::<Result<_>>()?, limit: self.journal_limit })
    }
}

/// What a builder came to: all that is needed to start.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Arc<Settings>,
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) journaled: JournalRules,
    /// The listeners of each instance.
    pub(crate) ports: Vec<Vec<Port>>,
    pub(crate) clock: Clock,
}
