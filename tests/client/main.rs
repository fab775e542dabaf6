//! The client, against the embedded server and a scripted peer.

#[path = "../support/mod.rs"]
mod support;

mod broken_bytes;
mod closing;
mod connection_states;
mod disconnect_handler;
mod errors;
mod exception_listener;
mod ha_streams;
mod heartbeats;
mod heartbeats_off;
mod locks;
mod logon;
mod outage;
mod publishing;
mod receive_thread;
mod records_and_route_changes;
mod routing;
mod split_streams;
mod stream_in_a_callback;
mod streams;
mod worked_frames;
