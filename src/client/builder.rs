//! What must be settled before a client exists.

use std::fmt;
use std::sync::Arc;

use super::{Client, SubscriptionManager};
use crate::command::check_text;
use crate::error::{Error, ErrorKind, Result};
use crate::store::PublishStore;
use crate::wire::MAX_FRAME;

/// Collects what cannot change later; made by [`Client::builder`].
///
/// What may change while a client runs (handlers, listeners, heartbeats, time limits, switches) has a setter on
/// [`Client`] instead.
///
/// ```
/// use amps_client::Client;
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("desk-blotter").frame_limit(16 << 20).build()?;
/// assert_eq!(client.name(), "desk-blotter");
/// # Ok(())
/// # }
/// ```
///
/// Stores and the subscription manager belong here. A client has no setter for them, so they cannot change under a
/// connection; neither of these compiles:
///
/// ```compile_fail
/// # fn change(client: amps_client::Client, other: ()) {
/// client.set_publish_store(other);
/// # }
/// ```
/// ```compile_fail
/// # fn change(client: amps_client::Client, other: ()) {
/// client.set_bookmark_store(other);
/// # }
/// ```
/// ```compile_fail
/// # fn change(client: amps_client::Client, other: ()) {
/// client.set_subscription_manager(other);
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `build`"]
pub struct ClientBuilder {
    config: Config,
}

/// The settled configuration of a client.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) frame_limit: u32,
    pub(crate) outbox_limit: usize,
    pub(crate) publish_store: Option<Arc<dyn PublishStore>>,
    pub(crate) subscription_manager: Option<Arc<dyn SubscriptionManager>>,
    /// An `HAClient` drives this client: it alone connects, logs on and repairs, and streams outlive a connection.
    pub(crate) driven: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("frame_limit", &self.frame_limit)
            .field("outbox_limit", &self.outbox_limit)
            .field("publish_store", &self.publish_store.is_some())
            .field("subscription_manager", &self.subscription_manager.is_some())
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    pub(crate) fn new(name: String) -> ClientBuilder {
        let config = Config {
            name,
            frame_limit: MAX_FRAME,
            outbox_limit: 64 << 20,
            publish_store: None,
            subscription_manager: None,
            driven: false,
        };
        ClientBuilder { config }
    }

    pub(crate) fn driven(mut self) -> ClientBuilder {
        self.config.driven = true;
        self
    }

    pub(crate) fn has_subscription_manager(&self) -> bool {
        self.config.subscription_manager.is_some()
    }

    /// Where published messages are kept until the server has made them durable. Default: nowhere.
    ///
    /// An `Arc` of a store is a store too: keep a clone to look at its counters.
    pub fn publish_store(mut self, store: impl PublishStore + 'static) -> ClientBuilder {
        self.config.publish_store = Some(Arc::new(store));
        self
    }

    /// Who remembers subscriptions that have a handler and places them again after every logon. Default: nobody.
    pub fn subscription_manager(mut self, manager: impl SubscriptionManager + 'static) -> ClientBuilder {
        self.config.subscription_manager = Some(Arc::new(manager));
        self
    }

    /// The largest frame that is accepted from the server, in bytes; a larger one ends the connection with a `Stream` error
    /// before anything is allocated for it. Default and maximum: 1 GiB.
    pub fn frame_limit(mut self, bytes: u32) -> ClientBuilder {
        self.config.frame_limit = bytes;
        self
    }

    /// How many bytes of frames published on the receive thread, where nothing may wait, are queued for the writer before
    /// `publish` fails there with `Connection`, "outbox full". Default: 64 MiB. While the connection is up, less than 1 MiB
    /// counts as 1 MiB.
    pub fn outbox_limit(mut self, bytes: usize) -> ClientBuilder {
        self.config.outbox_limit = bytes;
        self
    }

    /// Creates the client, not connected yet. Starts no thread.
    ///
    /// # Errors
    ///
    /// * [`Usage`](ErrorKind::Usage): the name is empty or holds a control character that cannot be sent, or a limit is 0 or
    ///   above its maximum.
    /// * [`Store`](ErrorKind::Store): the publish store belongs to a client of another name.
    pub fn build(self) -> Result<Client> {
        let Config { name, frame_limit, outbox_limit, .. } = &self.config;
        if name.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "a client needs a name: it identifies the session"));
        }
        check_text("client name", name)?;
        if *frame_limit == 0 || *frame_limit > MAX_FRAME {
            let text = format!("a frame limit of {frame_limit} bytes is not between 1 byte and 1 GiB");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        if *outbox_limit == 0 {
            return Err(Error::new(ErrorKind::Usage, "an outbox limit of 0 bytes would let nothing out"));
        }
        if let Some(store) = &self.config.publish_store {
            store.bind(name)?;
        }
        Ok(Client::new(self.config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acceptance rule 9.
    #[test]
    fn what_cannot_work_is_refused_by_build() {
        let refused = [
            Client::builder(""),
            Client::builder("a\u{1}b"),
            Client::builder("a").frame_limit(0),
            Client::builder("a").frame_limit(u32::MAX),
            Client::builder("a").outbox_limit(0),
        ];
        for builder in refused {
            let text = format!("{builder:?}");
            assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Usage, "{text}");
        }
    }
}
