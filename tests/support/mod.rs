//! What several tests share.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod client;
mod linked;
mod raw_client;

pub(crate) use linked::{Linked, SOON};
pub(crate) use raw_client::RawClient;
