//! Named points at which a conversation can be held up.

use std::time::Duration;

use super::{ArmedFault, Fault, When};
use crate::error::Result;
use crate::testing::frames::Point;
use crate::testing::server::Server;

/// A point in a conversation where a server can be made to wait; see [`Server::gate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Gate {
    /// Before the answer to a logon, whatever it says.
    BeforeLogonAck,
    /// Before a `persisted` acknowledgement.
    BeforePersistedAck,
    /// Before the end of a query's result.
    BeforeGroupEnd,
    /// Before a `completed` acknowledgement.
    BeforeCompleted,
    /// Before the first message of a bookmark subscription that was published after it was placed.
    BetweenReplayAndLive,
    /// Before a heartbeat of the server.
    BeforeHeartbeat,
}

impl Gate {
    pub(super) fn point(self) -> Point {
        match self {
            Gate::BeforeLogonAck => Point::LogonAck,
            Gate::BeforePersistedAck => Point::PersistedAck,
            Gate::BeforeGroupEnd => Point::GroupEnd,
            Gate::BeforeCompleted => Point::Completed,
            Gate::BetweenReplayAndLive => Point::Live,
            Gate::BeforeHeartbeat => Point::Heartbeat,
        }
    }
}

/// A gate that is shut until it is opened, or dropped; made by [`Server::gate`].
///
/// A connection that comes to it sends nothing more; its commands are still carried out.
#[derive(Debug)]
#[must_use = "a gate that is dropped is open"]
pub struct ShutGate {
    fault: ArmedFault,
}

impl ShutGate {
    /// Blocks until a connection has come to the gate, at most this long.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](crate::ErrorKind::TimedOut) if none comes in time.
    pub fn wait_reached(&self, timeout: Duration) -> Result<()> {
        self.fault.wait_fired(timeout)
    }

    /// How often a connection has come to the gate.
    pub fn reached(&self) -> u64 {
        self.fault.fired()
    }

    /// Lets everybody pass, from now on.
    pub fn open(&self) {
        self.fault.remove();
    }
}

impl Drop for ShutGate {
    /// A test that fails must not leave a client waiting.
    fn drop(&mut self) {
        self.open();
    }
}

impl Server {
    /// Shuts a gate: each connection that comes to it waits there until it is opened. Others go on.
    ///
    /// For the connections of one client only, arm [`Fault::stop_writing`] at [`When::at`] this gate.
    ///
    /// ```
    /// use amps_client::testing::{Gate, Server};
    /// use amps_client::Client;
    /// use std::time::Duration;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::quick()?;
    /// let gate = server.gate(Gate::BeforeLogonAck);
    /// let client = Client::builder("waits").build()?;
    /// client.connect(&server.uri("json"))?;
    /// std::thread::scope(|scope| {
    ///     let logon = scope.spawn(|| client.logon());
    ///     gate.wait_reached(Duration::from_secs(5))?;
    ///     assert_eq!(server.sessions()[0].client_name, "waits"); // logged on, and not told yet
    ///     assert!(!logon.is_finished());
    ///     gate.open();
    ///     logon.join().expect("no panic")
    /// })
    /// # }
    /// ```
    pub fn gate(&self, gate: Gate) -> ShutGate {
        ShutGate { fault: self.fault(Fault::stop_writing().when(When::at(gate)).always()) }
    }
}
