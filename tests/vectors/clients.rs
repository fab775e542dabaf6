//! Clients as the recorded lines describe them: plain or highly available, with stores and a subscription manager.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use amps_client::{BookmarkStore, Client, HAClient, MemorySubscriptionManager, PublishStore, Result};

use crate::stores::Stores;

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
    pub(crate) publish_store: Option<Arc<dyn PublishStore>>,
    pub(crate) bookmark_store: Option<Arc<dyn BookmarkStore>>,
    /// Of a plain client; the other kind always has one.
    pub(crate) subscription_manager: bool,
    pub(crate) servers: Vec<String>,
    pub(crate) logon_options: String,
}

impl Plan {
    /// Reads which client is wanted, and with which of these stores; `Err` names what the library does not have.
    pub(crate) fn read(
        stores: &Stores,
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
        let (publish_store, bookmark_store) =
            (stores.publish(publish_store)?, stores.bookmark(bookmark_store)?);
        Ok(Plan { name: name.to_owned(), ha, publish_store, bookmark_store, ..Plan::default() })
    }

    pub(crate) fn build(&self) -> Result<Actor> {
        let (publishes, bookmarks) = (self.publish_store.clone(), self.bookmark_store.clone());
        if self.ha {
            let mut builder = HAClient::builder(&self.name)
                .servers(&self.servers)
                .reconnect_delay(Duration::from_millis(20))
                .logon_options(&self.logon_options);
            if let Some(store) = publishes {
                builder = builder.publish_store(store);
            }
            if let Some(store) = bookmarks {
                builder = builder.bookmark_store(store);
            }
            return builder.build().map(Actor::Ha);
        }
        let mut builder = Client::builder(&self.name);
        if let Some(store) = publishes {
            builder = builder.publish_store(store);
        }
        if let Some(store) = bookmarks {
            builder = builder.bookmark_store(store);
        }
        if self.subscription_manager {
            builder = builder.subscription_manager(MemorySubscriptionManager::new());
        }
        builder.build().map(Actor::Plain)
    }
}
