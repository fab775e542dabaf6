//! Synchronous, thread-based client for AMPS.

mod error;
mod message;
#[cfg(feature = "testing")]
pub mod testing;
mod timestamp;
mod wire;

pub use error::{Error, ErrorClass, ErrorKind, HandlerError, Reason, Result};
pub use message::Message;
pub use wire::{AckType, CommandType, Status};
