//! An AMPS-speaking server inside the process.

mod frame;
mod scripted;

pub use frame::Frame;
pub use scripted::{
    ConnectionScript, Expectation, LogonAck, PeerConnection, ReceivedFrame, ScriptedPeer, ScriptedPeerBuilder,
};
