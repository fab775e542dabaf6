//! What several tests share.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod client;
pub(crate) mod log_capture;
mod raw_client;

pub(crate) use raw_client::RawClient;
