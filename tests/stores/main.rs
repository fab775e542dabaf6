//! The stores.

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "file-store")]
mod bookmark_contract;
#[cfg(feature = "file-store")]
mod bookmark_crash;
#[cfg(feature = "file-store")]
mod bookmark_damage;
#[cfg(feature = "file-store")]
mod bookmark_files;
#[cfg(feature = "file-store")]
mod bookmark_model;
mod conflated_recovery_points;
#[cfg(feature = "file-store")]
mod publish_contract;
#[cfg(feature = "file-store")]
mod publish_crash;
#[cfg(feature = "file-store")]
mod publish_crash_delivery;
#[cfg(feature = "file-store")]
mod publish_damage;
#[cfg(feature = "file-store")]
mod publish_file;
#[cfg(feature = "file-store")]
mod publish_model;
#[cfg(feature = "file-store")]
mod recovery_points;
mod sow_recovery_points;
