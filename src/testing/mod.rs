//! An AMPS-speaking server inside the process.

mod filter;
mod order;
mod pattern;
mod payload;
mod record_key;
mod topic_pattern;
mod value;
