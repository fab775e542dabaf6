//! Several instances of one server (section 14).

use std::sync::Arc;

use super::builder::ServerBuilder;
use super::hub::Hub;
use super::replication::LinkState;
use super::server::{Server, Sharing};
use crate::error::{Error, ErrorKind, Result};

/// Two or more instances that share everything they remember: what a client needs that fails over.
///
/// Topics, records, the journal and the sequence numbers of publishers are the same on all instances. A message published
/// on one is delivered on all, and published on two it is a duplicate. Connections, sessions and subscriptions belong to
/// one instance, and so do faults, counters and the record of frames. Client names are unique on an instance only.
///
/// Instances that are [linked](Cluster::linked) share nothing and tell each other what happens, as real ones do.
///
/// Each instance is a [`Server`] of its own: it can be stopped, restarted, paused and given faults while the others go
/// on. What they share stays for as long as the cluster lives, even while all of them are stopped.
///
/// ```
/// use amps_client::testing::{Cluster, Server, Topic};
/// use amps_client::{HAClient, MemoryPublishStore};
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// let builder = Server::builder().topic(Topic::sow("orders").key("/id").journaled(true));
/// let cluster = Cluster::new(builder.ack_conflation(Duration::from_millis(20)), 2)?;
/// let client = HAClient::builder("desk")
///     .servers(cluster.uris("json"))
///     .publish_store(MemoryPublishStore::new())
///     .reconnect_delay(Duration::from_millis(10))
///     .build()?;
/// client.connect_and_logon()?;
/// client.publish("orders", r#"{"id":1}"#)?;
///
/// let [first, second] = cluster.servers() else { panic!("two instances") };
/// first.stop();
/// client.publish("orders", r#"{"id":2}"#)?; // kept until the client has come back
/// let limit = Duration::from_secs(10);
/// second.wait_for(|server| server.sow_records("orders").len() == 2, limit)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    is_linked: bool,
}

impl Cluster {
    /// Starts so many instances, all configured alike, each with listeners of its own.
    ///
    /// # Errors
    ///
    /// Those of [`ServerBuilder::start`]. A listener at a fixed port or path can be had once only, so that it fails for
    /// more than one instance. [`Usage`](ErrorKind::Usage) for no instances.
    pub fn new(builder: ServerBuilder, instances: usize) -> Result<Cluster> {
        if instances == 0 {
            return Err(Error::new(ErrorKind::Usage, "a cluster needs an instance"));
        }
        Ok(Cluster { servers: Server::launch(builder.plan(instances)?, Sharing::All)?, is_linked: false })
    }

    /// Starts so many instances that share nothing, all configured alike, with a link from each to each.
    ///
    /// What is journaled on one is copied to the others: messages with their bookmarks and the sequence numbers of their
    /// publishers, deletes, and the acknowledgements of messages in queues. Copies arrive at once, unless
    /// [`link`](Cluster::link) holds them back, or an instance is stopped, in which case they arrive when it runs again.
    /// So a bookmark may be unknown on an instance, and a publisher may learn that its messages are safe before, or only
    /// after, another instance has them.
    ///
    /// A message in a queue is delivered by the instance on which it was published. When that one stops, the first
    /// instance that runs takes its messages over.
    ///
    /// ```
    /// use amps_client::testing::{Cluster, Server};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let cluster = Cluster::linked(Server::builder().journal(".*"), 2)?;
    /// let [first, second] = cluster.servers() else { panic!("two instances") };
    /// let link = cluster.link(0, 1)?;
    /// link.hold();
    /// first.publish("ticks", "one")?;
    /// first.publish("ticks", "two")?;
    /// assert_eq!((second.journal().len(), link.pending()), (0, 2));
    /// link.release(1);
    /// assert_eq!(second.journal()[0].bookmark, first.journal()[0].bookmark);
    /// link.resume();
    /// assert_eq!(second.journal().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new`](Cluster::new); [`Usage`](ErrorKind::Usage) also for a server with an
    /// [entitlement hook](ServerBuilder::entitlement), about which linked instances cannot ask.
    pub fn linked(builder: ServerBuilder, instances: usize) -> Result<Cluster> {
        if instances == 0 || builder.has_entitlements() {
            let text = "linked instances are one or more, and have no entitlement hook";
            return Err(Error::new(ErrorKind::Usage, text));
        }
        Ok(Cluster { servers: Server::launch(builder.plan(instances)?, Sharing::Linked)?, is_linked: true })
    }

    /// The link that copies what happens on one instance to another; the first instance is 0.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if there is none: the instances share everything, or are the same, or do not exist.
    pub fn link(&self, from: usize, to: usize) -> Result<Link> {
        match self.servers.get(from) {
            Some(server) if self.is_linked && from != to && to < self.servers.len() => {
                Ok(Link { hub: server.hub.clone(), to })
            }
            _ => Err(Error::new(ErrorKind::Usage, format!("there is no link from instance {from} to {to}"))),
        }
    }

    /// The instances, in their order.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The address of each instance for clients of this message type, in their order: that of its first listener.
    pub fn uris(&self, message_type: &str) -> Vec<String> {
        self.servers.iter().map(|server| server.uri(message_type)).collect()
    }
}

/// The way from one instance of a [linked](Cluster::linked) cluster to another; made by [`Cluster::link`].
///
/// It copies by itself, and does nothing while one of the two is stopped.
///
/// ```
/// use amps_client::testing::{Cluster, Server};
///
/// # fn main() -> amps_client::Result<()> {
/// let cluster = Cluster::linked(Server::builder().journal(".*"), 2)?;
/// let link = cluster.link(0, 1)?;
/// link.wait_for_copies(true); // `persisted` acknowledgements of the first now wait for the second
/// cluster.servers()[0].publish("ticks", "one")?;
/// assert_eq!(link.pending(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Link {
    hub: Arc<Hub>,
    to: usize,
}

impl Link {
    /// Copies nothing more until [`release`](Link::release) or [`resume`](Link::resume). What happens meanwhile is kept, as
    /// much of it as of the journal ([`max_journal_entries`](ServerBuilder::max_journal_entries)).
    pub fn hold(&self) {
        self.change(|link| link.allowed = Some(0));
    }

    /// Copies so many more of the things that happened, one for each message, delete or acknowledgement, and then holds.
    pub fn release(&self, count: u64) {
        self.change(|link| link.allowed = Some(link.allowed.unwrap_or(0).saturating_add(count)));
    }

    /// Copies everything from now on.
    pub fn resume(&self) {
        self.change(|link| link.allowed = None);
    }

    /// How many of the things that happened are still to be copied.
    pub fn pending(&self) -> u64 {
        self.hub.pending(self.to)
    }

    /// Whether the instance waits for the other one to have a message before it says that the message is persisted, to
    /// its publisher and to bookmark subscriptions, and before it delivers it to those that are `fully_durable`. Default:
    /// false.
    pub fn wait_for_copies(&self, wait: bool) {
        self.change(|link| link.is_synchronous = wait);
    }

    fn change(&self, change: impl FnOnce(&mut LinkState)) {
        // The link was there when this handle was made, and links stay.
        let _ = self.hub.with_link(self.to, change);
    }
}
