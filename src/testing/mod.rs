//! An AMPS-speaking server inside the process, for first steps and for tests.
//!
//! [`Server`] is a small, honest server: it speaks the wire protocol over loopback sockets, with plain threads and
//! nothing to install. It is made for trying the library, for this crate's own tests, and for the tests of programs
//! that use the library. It is no product to run in production.
//!
//! ```
//! use amps_client::testing::Server;
//!
//! # fn main() -> amps_client::Result<()> {
//! let server = Server::quick()?; // stops when it is dropped
//! let uri = server.uri("json"); // tcp://127.0.0.1:PORT/amps/json: what a client connects to
//! server.publish("sow/orders", r#"{"id":1,"px":10}"#)?;
//! assert_eq!(server.sow_records("sow/orders").len(), 1);
//! # let _ = uri;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! * Logon with authentication hooks ([`Auth`], [`UserTable`]) and entitlements ([`Entitlement`]).
//! * Publish, delta publish, subscribe, delta subscribe, with regular-expression topics, content filters, replacement,
//!   conflation and out-of-focus messages.
//! * The state of the world: queries with order, limits and batches, atomic query-and-subscribe, deletes, expiry.
//! * Message types `json`, `fix`, `nvfix` and `binary`.
//! * Every acknowledgement and every reason of a refusal, heartbeats, and limits for slow consumers.
//! * Sequence numbers of publishers: duplicates are discarded, also after a reconnect or a restart.
//! * A journal of chosen topics ([`Topic::journaled`], [`ServerBuilder::journal`]), with all that comes with it: unique
//!   client names, and `persisted` acknowledgements for many publishes at once.
//! * Bookmark subscriptions, which replay the journal: from any bookmark, list, time or range, at a chosen rate, with
//!   pause and resume, and then live.
//! * Queues ([`Topic::queue`]) with leases, backlogs, fairness, redelivery, and limits on all of these.
//! * Several instances that share what they remember, or that tell each other what happens ([`Cluster`]).
//!
//! What it does not do it refuses with `not supported`: aggregation, pagination, field selection, queries of the past, and
//! queries of queues. Without a journal a publish is acknowledged as persisted when it is processed, and client names
//! need not be unique.
//!
//! # Testing with it
//!
//! * [`Server::builder`] configures topics ([`Topic`]), listeners ([`Listener`]), hooks and limits.
//! * [`Server::publish`] and [`Server::sow_delete`] act as another client, so that a test of a subscriber needs one
//!   client only.
//! * [`Server::wait_for`] and [`Server::wait_for_frame`] wait for a condition instead of sleeping;
//!   [`Server::sessions`], [`Server::subscriptions`], [`Server::sow_records`], [`Server::journal`], [`Server::queue`],
//!   [`Server::frames`] and [`Server::counters`] look inside.
//! * [`Clock::manual`] makes expiry, conflation and heartbeats happen when the test says so.
//! * [`Server::restart`], [`Server::pause_listening`] and [`Server::disconnect`] are the failures a client must
//!   survive; [`Server::fault`] makes all kinds of trouble at a chosen moment ([`Fault`], [`When`]), and
//!   [`Server::gate`] holds the server up there ([`Gate`]).
//! * [`ScriptedPeer`] plays what no server does: it expects frames and sends bytes as a script says.

mod auth;
mod builder;
mod clock;
mod cluster;
mod commands;
mod conflation;
mod connection;
mod crew;
mod delivery;
mod door;
mod endpoint;
mod entitlement;
mod expectation;
mod faults;
mod filter;
mod frame;
mod frames;
#[cfg(test)]
mod garbage;
mod hub;
mod inside;
mod inspect;
mod journal;
mod listener;
mod options;
mod order;
mod outbox;
mod pattern;
mod payload;
mod persisted;
mod query;
mod queue;
mod reader;
mod record_key;
mod recorder;
mod refusal;
mod replay;
mod replication;
mod scripted;
mod sequences;
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
mod writer;

pub use auth::{Auth, LogonAnswer, LogonAttempt, UserTable};
pub use builder::ServerBuilder;
pub use clock::Clock;
pub use cluster::{Cluster, Link};
pub use entitlement::{Access, Action, Entitled, Entitlement};
pub use expectation::Expectation;
pub use faults::{ArmedFault, Damage, Fault, FaultInfo, Gate, ShutGate, When};
pub use frame::Frame;
pub use inspect::{JournalEntry, SessionInfo, SowRecord, SubscriptionInfo};
pub use listener::Listener;
pub use queue::{Fairness, Leasing, QueueInfo, QueueMessage};
pub use recorder::{Counters, SeenFrame};
pub use scripted::{
    ConnectionScript, LogonAck, PeerConnection, ReceivedFrame, ScriptedPeer, ScriptedPeerBuilder,
};
pub use server::Server;
pub use topic::{Expiration, Topic};

/// The target of every log line of the server.
const LOG: &str = "amps_client::testing";
