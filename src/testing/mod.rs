//! An AMPS-speaking server inside the process.

mod frame;

pub use frame::Frame;
