//! An AMPS-speaking server inside the process.

mod filter;
mod frame;
mod order;
mod payload;
mod record_key;
mod topic_pattern;
mod value;

pub use frame::Frame;
