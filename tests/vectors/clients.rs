//! Clients as the recorded lines describe them: plain or highly available, with stores and a subscription manager.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use amps_client::{Client, HAClient, MemoryPublishStore, MemorySubscriptionManager, Result};

/// A client of either kind.
pub(crate) enum Actor {
    Plain(Client),
    Ha(HAClient),
}

impl Deref for Actor {
    type Target = Client;

    fn deref(&self) -> &Client {
        match self {
            Actor::Plain(client) => client,
            Actor::Ha(client) => client,
        }
    }
}

/// What is settled before a client exists.
#[derive(Default, Clone)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) ha: bool,
    pub(crate) publish_store: Option<Arc<MemoryPublishStore>>,
    /// Of a plain client; the other kind always has one.
    pub(crate) subscription_manager: bool,
    pub(crate) servers: Vec<String>,
    pub(crate) logon_options: String,
}

impl Plan {
    /// Reads which client is wanted, and with which stores; `Err` names what the library does not have.
    pub(crate) fn read(
        name: &str,
        kind: &str,
        publish_store: &str,
        bookmark_store: &str,
    ) -> std::result::Result<Plan, String> {
        let ha = match kind {
            "client" | "Client" => false,
            "ha" | "HAClient" => true,
            other => return Err(format!("no client of the kind `{other}`")),
        };
        let publish_store = match publish_store {
            "none" => None,
            "memory" => Some(Arc::new(MemoryPublishStore::new())),
            other => return Err(format!("no {other} publish store")),
        };
        match bookmark_store {
            "none" => Ok(Plan { name: name.to_owned(), ha, publish_store, ..Plan::default() }),
            other => Err(format!("no {other} bookmark store")),
        }
    }

    pub(crate) fn build(&self) -> Result<Actor> {
        let store = self.publish_store.clone();
        if self.ha {
            let mut builder = HAClient::builder(&self.name)
                .servers(&self.servers)
                .reconnect_delay(Duration::from_millis(20))
                .logon_options(&self.logon_options);
            if let Some(store) = store {
                builder = builder.publish_store(store);
            }
            return builder.build().map(Actor::Ha);
        }
        let mut builder = Client::builder(&self.name);
        if let Some(store) = store {
            builder = builder.publish_store(store);
        }
        if self.subscription_manager {
            builder = builder.subscription_manager(MemorySubscriptionManager::new());
        }
        builder.build().map(Actor::Plain)
    }
}
