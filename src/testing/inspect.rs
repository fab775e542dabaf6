//! Looking inside: snapshots, the record of frames, and waiting for a condition.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use super::journal::Journal;
use super::recorder::{Counters, SeenFrame};
use super::replay::Replay;
use super::server::Server;
use super::session::Session;
use super::subscriptions::Subscription;
use crate::error::{Error, ErrorKind, Result};

/// One client that is logged on to a [`Server`].
///
/// ```
/// use amps_client::Client;
/// use amps_client::testing::Server;
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("desk").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// let session = &server.sessions()[0];
/// assert_eq!((session.client_name.as_str(), session.message_type.as_str()), ("desk", "json"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The connection: the first that was accepted is 1.
    pub connection: u64,
    /// The client name; empty if it gave none.
    pub client_name: String,
    /// The user as the authenticator named it; empty if there is none.
    pub user_id: String,
    /// The message type, such as `json`.
    pub message_type: String,
    /// The address of the other end.
    pub peer: String,
    /// When it logged on, on the server's clock.
    pub since: SystemTime,
}

/// One subscription on a [`Server`].
///
/// ```
/// # use amps_client::{testing::Server, Client};
/// # fn main() -> amps_client::Result<()> {
/// # let server = Server::quick()?;
/// # let client = Client::builder("desk").build()?;
/// # client.connect(&server.uri("json"))?;
/// # client.logon()?;
/// let orders = client.subscribe("orders", "/px > 5")?;
/// let subscription = &server.subscriptions()[0];
/// assert_eq!(Some(subscription.id.as_str()), orders.sub_id());
/// assert_eq!((subscription.topic.as_str(), subscription.filter.as_str()), ("orders", "/px > 5"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscriptionInfo {
    /// The connection: the first that was accepted is 1.
    pub connection: u64,
    /// The client that placed it.
    pub client_name: String,
    /// The subscription id.
    pub id: String,
    /// The topic as the command named it, a name or a regular expression.
    pub topic: String,
    /// The content filter; empty if there is none.
    pub filter: String,
    /// The options of the command.
    pub options: String,
    /// The bookmark of the last message in the journal that a bookmark subscription is past, whether it got that message
    /// or was not interested in it. `None` if there is none, and for other subscriptions.
    pub bookmark: Option<String>,
    /// Whether a bookmark subscription is paused.
    pub is_paused: bool,
}

/// One record of a SOW topic of a [`Server`].
///
/// ```
/// use amps_client::testing::Server;
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// server.publish("sow/orders", r#"{"id":1}"#)?;
/// let record = &server.sow_records("sow/orders")[0];
/// assert_eq!((record.payload.as_slice(), record.expires), (&br#"{"id":1}"#[..], None));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SowRecord {
    /// The key, as clients see it.
    pub key: String,
    /// The message as it was last published, deltas merged.
    pub payload: Vec<u8>,
    /// What the publisher sent along as correlation id; empty if nothing.
    pub correlation_id: String,
    /// When it was last published, on the server's clock.
    pub time: SystemTime,
    /// When it will expire.
    pub expires: Option<SystemTime>,
}

/// One message in the journal of a [`Server`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalEntry {
    /// Its bookmark: the number of the publisher and the publisher's number for it.
    pub bookmark: String,
    /// The topic it was published to.
    pub topic: String,
    /// The message as it was delivered, a delta merged.
    pub payload: Vec<u8>,
    /// When it was published, on the server's clock.
    pub time: SystemTime,
}

/// How many of the last frames an error text lists.
const LISTED: usize = 12;

impl Server {
    /// How many connections are open, logged on or not.
    pub fn open_connections(&self) -> usize {
        self.hub.look().instances.get(self.instance).map_or(0, |instance| instance.sessions.len())
    }

    /// The clients that are logged on, in the order in which their connections were accepted.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let turn = self.hub.look();
        let sessions = turn.instances.get(self.instance).into_iter().flat_map(|i| i.sessions.values());
        sessions.filter_map(session_info).collect()
    }

    /// The subscriptions, in the order in which they were placed.
    pub fn subscriptions(&self) -> Vec<SubscriptionInfo> {
        let turn = self.hub.look();
        let instance = turn.instances.get(self.instance);
        let all = instance.into_iter().flat_map(|instance| instance.subscriptions.iter());
        all.map(|subscription| subscription_info(subscription, &turn.state.journal)).collect()
    }

    /// The records of the SOW topic of this name, the oldest first; of every message type, if it exists for several.
    pub fn sow_records(&self, topic: &str) -> Vec<SowRecord> {
        let turn = self.hub.look();
        let records = turn.state.sows_named(topic).flat_map(|sow| sow.records.records());
        let info = records.map(|record| SowRecord {
            key: record.key.clone(),
            payload: record.payload.clone(),
            correlation_id: record.correlation_id.clone(),
            time: record.time.system(),
            expires: record.expires.map(|time| time.system()),
        });
        info.collect()
    }

    /// The messages in the journal, in their order.
    pub fn journal(&self) -> Vec<JournalEntry> {
        let turn = self.hub.look();
        let info = turn.state.journal.entries().map(|entry| JournalEntry {
            bookmark: entry.mark.to_string(),
            topic: entry.topic.name.clone(),
            payload: entry.record.payload.clone(),
            time: entry.record.time.system(),
        });
        info.collect()
    }

    /// The highest sequence number that was accepted from a client of this name; 0 if there is none.
    ///
    /// ```
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::quick()?;
    /// assert_eq!(server.highest_sequence("nobody"), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn highest_sequence(&self, client_name: &str) -> u64 {
        self.hub.look().state.sequences.highest(client_name)
    }

    /// How much went over the connections so far.
    pub fn counters(&self) -> Counters {
        self.recorder.counters()
    }

    /// The frames kept, received and sent, in their order.
    ///
    /// The last ones of each direction are kept, as many as [`record_frames`](super::ServerBuilder::record_frames)
    /// says. A frame that is sent is taken down just before it is written.
    pub fn frames(&self) -> Vec<SeenFrame> {
        self.recorder.frames()
    }

    /// Forgets the frames kept so far, so that a test sees only what comes after.
    pub fn clear_frames(&self) {
        self.recorder.clear();
    }

    /// Blocks until the condition holds, at most this long.
    ///
    /// The condition is tried at once and after every change, on this thread. It gets this server and may ask it anything.
    ///
    /// ```
    /// use std::time::Duration;
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().start()?;
    /// server.wait_for(|server| server.sessions().is_empty(), Duration::from_secs(5))?;
    /// let nobody = server.wait_for(|server| server.counters().connections > 0, Duration::from_millis(1));
    /// assert!(nobody.unwrap_err().to_string().contains("no frames seen"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if it does not hold in time; the text lists the last frames seen.
    pub fn wait_for(&self, condition: impl Fn(&Server) -> bool, timeout: Duration) -> Result<()> {
        self.wait_until(|| condition(self).then_some(()), timeout)
    }

    /// Blocks until a frame fits, at most this long, and returns the first kept one that does.
    ///
    /// ```
    /// use std::io::Write;
    /// use std::net::TcpStream;
    /// use std::time::Duration;
    /// use amps_client::Direction;
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::builder().start()?;
    /// let mut socket = TcpStream::connect(server.address().ok_or("TCP")?)?;
    /// socket.write_all(b"\x00\x00\x00\x1C{\"c\":\"heartbeat\",\"o\":\"beat\"}")?;
    /// let beat = server.wait_for_frame(|seen| seen.frame.command() == "heartbeat", Duration::from_secs(5))?;
    /// assert_eq!((beat.connection, beat.direction), (1, Direction::Incoming));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if none comes in time; the text lists the last frames seen.
    pub fn wait_for_frame(&self, fits: impl Fn(&SeenFrame) -> bool, timeout: Duration) -> Result<SeenFrame> {
        self.wait_until(|| self.frames().into_iter().find(&fits), timeout)
    }

    fn wait_until<T>(&self, condition: impl Fn() -> Option<T>, timeout: Duration) -> Result<T> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let version = self.recorder.version();
            if let Some(found) = condition() {
                return Ok(found);
            }
            if !self.recorder.wait_past(version, deadline) {
                return Err(Error::new(ErrorKind::TimedOut, self.report(timeout)));
            }
        }
    }

    fn report(&self, timeout: Duration) -> String {
        let frames = self.frames();
        let mut text = format!("what was waited for did not happen within {timeout:?}; ");
        if frames.is_empty() {
            text.push_str("no frames seen");
        } else {
            text.push_str("the last frames seen:");
            for seen in frames.iter().skip(frames.len().saturating_sub(LISTED)) {
                // Writing to a String cannot fail.
                let _ = write!(text, "\n  {} {:?} {:?}", seen.connection, seen.direction, seen.frame);
            }
        }
        text
    }
}

fn session_info(session: &Session) -> Option<SessionInfo> {
    let identity = session.identity.as_ref()?;
    Some(SessionInfo {
        connection: session.connection.id.number,
        client_name: identity.client_name.clone(),
        user_id: identity.user_id.clone(),
        message_type: identity.message_type.clone(),
        peer: session.connection.peer.clone(),
        since: identity.since.system(),
    })
}

fn subscription_info(subscription: &Subscription, journal: &Journal) -> SubscriptionInfo {
    let replay = subscription.replay();
    SubscriptionInfo {
        connection: subscription.session.number,
        client_name: subscription.identity.client_name.clone(),
        id: subscription.id.clone(),
        topic: subscription.text.topic.clone(),
        filter: subscription.text.filter.clone(),
        options: subscription.text.options.clone(),
        bookmark: replay.and_then(|replay| replay.mark(journal)).map(|mark| mark.to_string()),
        is_paused: replay.is_some_and(Replay::is_paused),
    }
}
