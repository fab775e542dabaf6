//! An AMPS-speaking server inside the process, for first steps and for tests.

mod auth;
mod builder;
mod clock;
mod commands;
mod conflation;
mod connection;
mod crew;
mod delivery;
mod entitlement;
mod filter;
mod frame;
mod frames;
#[cfg(test)]
mod garbage;
mod hub;
mod inside;
mod inspect;
mod listener;
mod options;
mod order;
mod outbox;
mod pattern;
mod payload;
mod query;
mod record_key;
mod recorder;
mod refusal;
mod scripted;
mod server;
mod session;
mod settings;
mod socket;
mod sow;
mod state;
mod subscriptions;
mod temp_dir;
mod timers;
mod topic;
mod topic_pattern;
mod value;
mod world;

pub use auth::{Auth, LogonAnswer, LogonAttempt, UserTable};
pub use builder::ServerBuilder;
pub use clock::Clock;
pub use entitlement::{Access, Action, Entitled, Entitlement};
pub use frame::Frame;
pub use inspect::{SessionInfo, SowRecord, SubscriptionInfo};
pub use listener::Listener;
pub use recorder::{Counters, Direction, SeenFrame};
pub use scripted::{
    ConnectionScript, Expectation, LogonAck, PeerConnection, ReceivedFrame, ScriptedPeer, ScriptedPeerBuilder,
};
pub use server::Server;
pub use topic::{Expiration, Topic};

/// The target of every log line of the server.
const LOG: &str = "amps_client::testing";
