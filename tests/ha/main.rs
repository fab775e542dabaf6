//! Outages, and how a client comes through them.

#[path = "../support/mod.rs"]
mod support;

mod backed;
#[cfg(feature = "file-store")]
mod bookmarks;
mod closing;
mod connecting;
mod fault_sweep;
mod outage;
mod paused_subscriptions;
#[cfg(feature = "file-store")]
mod publish_stores;
mod recovery_order;
#[cfg(feature = "file-store")]
mod replays;
mod resubscription;
mod state_sequences;
mod streams;
mod unsubscribe;
