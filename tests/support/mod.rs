//! What several tests share.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod client;
mod linked;
pub(crate) mod log_capture;
pub(crate) mod publish_stores;
mod raw_client;
mod temp_dir;

pub(crate) use linked::{Linked, SOON};
pub(crate) use raw_client::RawClient;
pub(crate) use temp_dir::TempDir;
