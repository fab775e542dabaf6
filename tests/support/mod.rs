//! What several tests share.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

#[cfg(feature = "file-store")]
pub(crate) mod bookmark_stores;
pub(crate) mod client;
pub(crate) mod ha;
mod linked;
pub(crate) mod log_capture;
#[cfg(feature = "file-store")]
pub(crate) mod publish_stores;
pub(crate) mod queue;
mod random;
mod raw_client;
pub(crate) mod recovery_points;
mod temp_dir;

pub(crate) use linked::{Linked, SOON};
pub(crate) use random::Random;
pub(crate) use raw_client::RawClient;
pub(crate) use temp_dir::TempDir;
