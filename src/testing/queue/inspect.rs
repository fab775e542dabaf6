//! Looking into queues, and moving them along.

use std::time::SystemTime;

use super::Queued;
use crate::testing::server::Server;
use crate::testing::world::World;

/// What a queue of a [`Server`] holds at a moment.
///
/// ```
/// use amps_client::testing::{Server, Topic};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder().topic(Topic::queue("jobs")).start()?;
/// server.publish("jobs", "first")?;
/// server.publish("jobs", "second")?;
/// let jobs = server.queue("jobs").expect("somebody used it");
/// assert_eq!((jobs.depth(), jobs.leased(), jobs.acked), (2, 0, 0));
/// assert_eq!(jobs.messages[0].payload, b"first");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The messages that are not acknowledged, in the order in which they were published.
    pub messages: Vec<QueueMessage>,
    /// How many messages were acknowledged so far.
    pub acked: u64,
    /// How many messages expired so far: by their lifetime, by the number of their deliveries or cancellations, or because
    /// a client said so.
    pub expired: u64,
}

/// One message in a queue of a [`Server`].
///
/// ```
/// use amps_client::testing::{Server, Topic};
/// use amps_client::{Client, SubscribeOptions};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder().topic(Topic::queue("jobs")).start()?;
/// server.publish("jobs", "work")?;
/// let worker = Client::builder("worker").build()?;
/// worker.connect(&server.uri("json"))?;
/// worker.logon()?;
/// let _jobs = worker.subscribe("jobs", "")?;
/// let message = &server.queue("jobs").expect("somebody used it").messages[0];
/// assert_eq!(message.holder.as_deref(), Some("worker"));
/// assert_eq!((message.deliveries, message.lease_end), (1, None)); // the lease lasts as long as the subscription
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueMessage {
    /// Its bookmark, by which it is acknowledged.
    pub bookmark: String,
    /// The message as it was published.
    pub payload: Vec<u8>,
    /// The client name of the one that has it at present; `None` if it waits.
    pub holder: Option<String>,
    /// The subscription that has it; `None` if it waits.
    pub sub_id: Option<String>,
    /// When the lease ends, on the server's clock; `None` if it waits, or if the lease lasts as long as the subscription.
    pub lease_end: Option<SystemTime>,
    /// How often it was delivered so far.
    pub deliveries: u32,
    /// How often clients gave it back so far.
    pub cancels: u32,
}

impl QueueInfo {
    /// How many messages are not acknowledged, whether somebody has them or not.
    pub fn depth(&self) -> usize {
        self.messages.len()
    }

    /// How many messages somebody has at present.
    pub fn leased(&self) -> usize {
        self.messages.iter().filter(|message| message.holder.is_some()).count()
    }
}

impl Server {
    /// What the queue of this name holds; `None` if there is no such queue, or if nobody used it so far.
    ///
    /// If it exists for several message types, that of the one used first.
    pub fn queue(&self, topic: &str) -> Option<QueueInfo> {
        let turn = self.hub.look();
        let queue = turn.state.queue(turn.state.queue_named(topic)?)?;
        Some(QueueInfo {
            messages: queue.messages.values().map(|message| turn.queue_message(message)).collect(),
            acked: queue.acked,
            expired: queue.expired,
        })
    }

    /// Ends all leases of the queue of this name at once, as if their time had come, and returns how many there were.
    ///
    /// ```
    /// use amps_client::testing::{Server, Topic};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().topic(Topic::queue("jobs")).start()?;
    /// server.publish("jobs", "work")?;
    /// assert_eq!(server.expire_leases("jobs"), 0); // nobody has it
    /// # Ok(())
    /// # }
    /// ```
    pub fn expire_leases(&self, topic: &str) -> usize {
        let mut turn = self.hub.lock();
        let queue = turn.state.queue_named(topic);
        queue.map_or(0, |queue| turn.end_leases(queue))
    }
}

impl World {
    fn queue_message(&self, message: &Queued) -> QueueMessage {
        let holder = message.lease.as_ref().map(|lease| lease.holder);
        let subscription = holder.and_then(|h| self.subscriptions(h.session)?.get(h.subscription));
        QueueMessage {
            bookmark: message.mark.to_string(),
            payload: message.record.payload.clone(),
            holder: subscription.map(|subscription| subscription.identity.client_name.clone()),
            sub_id: subscription.map(|subscription| subscription.id.clone()),
            lease_end: message.lease.as_ref().and_then(|lease| lease.end).map(|(end, _)| end.system()),
            deliveries: message.deliveries,
            cancels: message.cancels,
        }
    }
}
