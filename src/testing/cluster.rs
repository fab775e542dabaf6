//! Several instances of one server (section 14).

use super::builder::ServerBuilder;
use super::server::Server;
use crate::error::{Error, ErrorKind, Result};

/// Two or more instances that share everything they remember: what a client needs that fails over.
///
/// Topics, records, the journal and the sequence numbers of publishers are the same on all instances. A message published
/// on one is delivered on all, and published on two it is a duplicate. Connections, sessions and subscriptions belong to
/// one instance, and so do faults, counters and the record of frames. Client names are unique on an instance only.
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
        Ok(Cluster { servers: Server::launch(builder.plan(instances)?)? })
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
