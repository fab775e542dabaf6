//! The client, against the embedded server and a scripted peer.

#[path = "../support/mod.rs"]
mod support;

mod bookmarks;
mod broken_bytes;
mod closing;
mod connection_states;
mod disconnect_handler;
mod errors;
mod exception_listener;
mod failed_writes;
mod heartbeats;
mod heartbeats_off;
mod hostile_peer;
mod locks;
mod logon;
mod outage;
mod publish_store_order;
mod publishing;
mod publishing_with_a_store;
mod queue_soak;
mod queue_workers;
mod queues;
mod queues_and_stores;
mod queues_over_a_loss;
mod receive_thread;
mod records_and_route_changes;
mod routing;
mod split_streams;
mod storm;
mod stream_in_a_callback;
mod streams;
mod worked_frames;
