//! The protocol as bytes: framing, header text, and the tables behind both.
//!
//! Pure: bytes come in, values go out; no socket, thread, clock or lock. One frame, decoded by hand:
//!
//! ```text
//! 00 00 00 1E                       N = 30: what follows, header and payload together
//! {"c":"p","t":"orders"}            the header, 22 bytes, up to its own closing brace
//! {"id":1}                          the payload, the rest of the frame: 8 bytes
//! ```
//!
//! * [`fields`]: the header keys, command names, ack types and statuses.
//! * [`grammar`]: the header text, read in place and written exactly.
//! * [`shape`]: the same header again with other values, without reading it.
//! * [`span`]: where the values of a header lie.
//! * [`block`]: a receive buffer, and the messages found in it.
//! * [`frame`]: one outgoing frame.
//! * [`number`]: the number of a stored message, and its digits.

pub(crate) mod block;
pub(crate) mod fields;
pub(crate) mod frame;
pub(crate) mod grammar;
pub(crate) mod number;
mod shape;
mod span;

pub(crate) use block::{Block, Entry, WireError};
pub(crate) use fields::Field;
pub use fields::{AckType, CommandType, Status};
pub(crate) use frame::FrameWriter;

/// The largest frame that any peer accepts: 1 GiB (`wire-protocol` 2.2).
pub(crate) const MAX_FRAME: u32 = 1 << 30;
