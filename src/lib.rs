//! Synchronous, thread-based client for AMPS.

#![warn(unreachable_pub, clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod auth;
mod bookmark;
mod callbacks;
mod client;
mod command;
mod error;
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
    ConnectionState, ConnectionStateListener, Direction, ExceptionListener, MessageHandler, Origin, Outcome,
    TransportFilter, UnhandledError,
};
pub use client::{
    Client, ClientBuilder, ConnectionInfo, DisconnectHandler, GlobalKind, ListenerId, Logon, PublishOptions,
    WeakClient, capture_panic_backtraces,
};
pub use command::Command;
pub use error::{Error, ErrorClass, ErrorKind, HandlerError, Reason, Result};
pub use message::Message;
pub use options::{BookmarkNotFound, Conflation, LogonOptions, Rate, SowOptions, SubscribeOptions};
#[cfg(feature = "file-store")]
pub use store::{FilePublishStore, FilePublishStoreOptions, HybridPublishStore, StoreDamage};
pub use store::{
    MemoryPublishStore, PublishStore, PublishStoreResizeHandler, Selector, StoreEntry, StoreReplayer,
};
pub use stream::MessageStream;
pub use uri::{Compression, IpPreference, Scheme, TransportOptions, Uri};
pub use version::VersionInfo;
pub use wire::{AckType, CommandType, Status};
