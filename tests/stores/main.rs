//! The stores.

#[path = "../support/mod.rs"]
mod support;

mod publish_contract;
mod publish_crash;
mod publish_damage;
mod publish_model;
