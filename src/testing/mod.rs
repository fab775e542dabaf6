//! An AMPS-speaking server inside the process.

mod filter;
#[cfg(test)]
mod garbage;
mod order;
mod pattern;
mod payload;
mod record_key;
mod topic_pattern;
mod value;
