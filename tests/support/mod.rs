//! What several tests share.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

mod linked;
mod raw_client;

pub(crate) use linked::{Linked, SOON};
pub(crate) use raw_client::RawClient;
