//! Staying connected to some server, for as long as the application wants.
//!
//! * `chooser`: which server is tried next, and when to give up; `rounds` is the default way.

mod chooser;
mod rounds;

pub use chooser::ServerChooser;
pub use rounds::DefaultServerChooser;
