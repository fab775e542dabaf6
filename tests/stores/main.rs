//! The stores.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "file-store")]
mod bookmark_contract;
#[cfg(feature = "file-store")]
mod bookmark_model;
#[cfg(feature = "file-store")]
mod publish_contract;
#[cfg(feature = "file-store")]
mod publish_crash;
#[cfg(feature = "file-store")]
mod publish_damage;
#[cfg(feature = "file-store")]
mod publish_file;
#[cfg(feature = "file-store")]
mod publish_model;
