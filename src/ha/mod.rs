//! Staying connected to some server, for as long as the application wants.
//!
//! * `client`: the client itself; `attempt`: its connect loop; `subscriptions`: what it places again.
//! * `chooser`: which server is tried next, and when to give up; `rounds` is the default way.
//! * `delay`: how long to wait before an attempt, and when to give up; `fixed` and `exponential` are the two ways we offer.
//! * `clock`, `jitter`: where a delay strategy gets the time and its randomness, unless it is given others.

mod attempt;
mod chooser;
mod client;
mod clock;
mod delay;
mod exponential;
mod fixed;
mod jitter;
mod rounds;
mod subscriptions;

pub use chooser::ServerChooser;
pub use client::{HAClient, HAClientBuilder};
pub use delay::ReconnectDelayStrategy;
pub use exponential::{ExponentialDelayBuilder, ExponentialDelayStrategy};
pub use fixed::FixedDelayStrategy;
pub use rounds::DefaultServerChooser;
pub use subscriptions::MemorySubscriptionManager;
