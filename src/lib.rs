//! Synchronous, thread-based client for AMPS.

mod bookmark;
mod error;
mod message;
mod options;
#[cfg(test)]
mod random;
#[cfg(feature = "testing")]
pub mod testing;
mod timestamp;
mod uri;
mod version;
mod wire;

pub use bookmark::{Bookmark, BookmarkKind};
pub use error::{Error, ErrorClass, ErrorKind, HandlerError, Reason, Result};
pub use message::Message;
pub use options::{BookmarkNotFound, Conflation, LogonOptions, Rate, SowOptions, SubscribeOptions};
pub use uri::{Compression, IpPreference, Scheme, TransportOptions, Uri};
pub use version::VersionInfo;
pub use wire::{AckType, CommandType, Status};
