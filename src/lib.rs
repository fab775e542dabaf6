//! A synchronous client for AMPS, the publish/subscribe and state-of-the-world server: threads and blocking calls, no async
//! runtime, and a typed error for every failure.
//!
//! ```
//! use amps_client::testing::Server;
//! use amps_client::{Client, Result};
//!
//! fn main() -> Result<()> {
//!     let server = Server::quick()?; // inside this program; needs the feature `testing`
//!     let client = Client::builder("first-steps").build()?;
//!     client.connect(&server.uri("json"))?; // or "tcp://localhost:9007/amps/json"
//!     client.logon()?;
//!
//!     let mut orders = client.subscribe("orders", "/px > 5")?;
//!     client.publish("orders", r#"{"id":1,"px":10}"#)?;
//!     if let Some(order) = orders.next() {
//!         println!("{}", order?.data_str()?);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The library is unofficial: 60East Technologies, who make AMPS, have no part in it and do not support it.
//!
//! # Which type do I want?
//!
//! | To | use |
//! |---|---|
//! | connect, log on, publish, subscribe, query | [`Client`], a handle to clone and share between threads |
//! | say more than a named operation takes: order, options, acknowledgements, time limit | [`Command`], with [`SubscribeOptions`] and [`SowOptions`] |
//! | read messages in a loop | [`MessageStream`], a blocking iterator |
//! | be called for each message | a closure, or a [`MessageHandler`] |
//! | look into a message | [`Message`], and its [`CommandType`] |
//! | tell what went wrong | [`Error`]: its [`ErrorKind`], or the [`ErrorClass`] that the kind belongs to |
//! | hear of failures that have no caller | [`ExceptionListener`] |
//! | repair a lost connection | [`DisconnectHandler`]; [`ConnectionStateListener`] only tells |
//! | log on with a time limit, options or tickets | [`Logon`], with [`LogonOptions`] and an [`Authenticator`] |
//! | check a connection string early | [`Uri`] |
//! | start from a place in the transaction log | [`Bookmark`] |
//! | test a program without a server to install | `testing::Server` and `testing::ScriptedPeer` |
//!
//! The other types are arguments and answers of these.
//!
//! # Threads
//!
//! ```text
//!  your threads ──encode──► outbox ──write──► socket ──► server
//!       │                      ▲
//!       │ wait for an answer   └─ amps-tx-NAME   writes what a burst of publishes left behind
//!       ▼
//!    answers ◄── amps-rx-NAME ◄── read ◄── socket ◄── server
//!                     ├──► message handlers, one call at a time
//!                     ├──► streams, which your threads read
//!                     ├──► heartbeats
//!                     └──► after a loss: the disconnect handler
//! ```
//!
//! Each connection has one receive thread, `amps-rx-` and the client's name. It alone reads, and it alone calls message
//! handlers. A second thread is started only when publishes come in bursts, or cannot leave at once where nothing may wait.
//! Any thread may call any method; what would wait for an answer is refused with [`Usage`](ErrorKind::Usage) on the receive
//! thread, where the answer could never arrive.
//!
//! Every call says in its documentation what it waits for and how long. In general: what asks the server something waits
//! for its answer, within the time limit of the [command](Command::timeout); [`publish`](Client::publish) waits only while
//! the server does not take its bytes, and in an outage until that has ended. [`close`](Client::close) ends all waits.
//!
//! A callback that fails or panics stops nothing: the [`ExceptionListener`] is told, or the log. With `panic = "abort"` a
//! panic in a callback ends the process, as everywhere.
//!
//! # Features
//!
//! | Feature | Default | Gives |
//! |---|---|---|
//! | `testing` | no | the embedded server and the scripted peer, the module `testing` |
//! | `file-store` | yes | reserved for stores that survive the process |
//! | `tls` | no | reserved for the `tcps` transport |
//! | `compression` | no | reserved for the option `compression=zlib` of connection strings |
//! | `json` | no | reserved for JSON payload helpers |
//!
//! A reserved feature changes nothing yet. No feature brings in an async runtime.
//!
//! # Guides
//!
//! They are in the directory `docs` of the package, and their programs are run as tests:
//!
//! * `getting-started.md`: from nothing to a program that publishes and subscribes; connection strings.
//! * `commands.md`: which operation to use, what it waits for, what comes back.
//! * `threads-and-callbacks.md`: which thread runs what, and what may be called there; losses; the end of a client.
//! * `testing-your-program.md`: the embedded server, its clock and its failures, and the scripted peer.
//! * `design-decisions.md`: what was chosen, what was refused, and why.
//!
//! The programs in `examples` run without a server of yours: `cargo run --example quickstart`.

#![warn(unreachable_pub, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod auth;
mod bookmark;
mod callbacks;
mod client;
mod command;
mod error;
#[cfg(doctest)]
mod guides;
mod ha;
mod message;
mod options;
#[cfg(test)]
mod random;
mod store;
mod stream;
#[cfg(feature = "testing")]
pub mod testing;
mod timestamp;
mod transport;
mod uri;
mod version;
mod wire;

pub use auth::{Authenticator, DefaultAuthenticator};
pub use bookmark::{Bookmark, BookmarkKind};
pub use callbacks::{
    ConnectionState, ConnectionStateListener, Direction, ExceptionListener, FailedWriteHandler,
    MessageHandler, Origin, Outcome, TransportFilter, UnhandledError,
};
pub use client::{
    Client, ClientBuilder, ConnectionInfo, DisconnectHandler, FailedResubscribeHandler, Generation,
    GlobalKind, ListenerId, Logon, PublishOptions, SharedHandler, SubscriptionManager, WeakClient,
    capture_panic_backtraces,
};
pub use command::Command;
pub use error::{Error, ErrorClass, ErrorKind, HandlerError, Reason, Result};
pub use ha::{
    DefaultServerChooser, ExponentialDelayBuilder, ExponentialDelayStrategy, FixedDelayStrategy, HAClient,
    HAClientBuilder, MemorySubscriptionManager, ReconnectDelayStrategy, ServerChooser,
};
pub use message::Message;
pub use options::{BookmarkNotFound, Conflation, LogonOptions, Rate, SowOptions, SubscribeOptions};
pub use store::{
    BookmarkStore, BookmarkStoreResizeHandler, MemoryPublishStore, PublishStore, PublishStoreResizeHandler,
    Receipt, Selector, StoreEntry, StoreReplayer,
};
pub use stream::MessageStream;
pub use uri::{Compression, IpPreference, Scheme, TransportOptions, Uri};
pub use version::VersionInfo;
pub use wire::{AckType, CommandType, Status};

/// Compiles and runs the program in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
