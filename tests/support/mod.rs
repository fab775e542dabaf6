//! What several tests of the embedded server share.

// Each test binary uses its own part of it.
#![allow(dead_code)]

mod raw_client;

pub(crate) use raw_client::RawClient;
