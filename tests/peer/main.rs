//! The scripted peer.

#[path = "../support/mod.rs"]
mod support;

mod script;
#[cfg(unix)]
mod unix;
