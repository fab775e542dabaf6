//! A peer that follows a script instead of the rules: for tests of what no server does (rule X-6).
//!
//! ```text
//!  acceptor ──► connection 1: reader ──► record, inbox ◄── script, on a thread of its own
//!          └──► connection 2: reader ──► record, inbox ◄── the test, through PeerConnection
//! ```
//!
//! * [`script`]: the steps; [`template`], [`logon`]: what they send.
//! * [`connection`]: what can be done with one connection, by a script as well as by the test.
//! * [`state`]: all that the threads share, under one lock; [`received`]: the record.
//! * [`listening`], [`reader`]: accepting and reading.

mod builder;
mod connection;
mod listening;
mod logon;
mod reader;
mod received;
mod script;
mod state;
mod template;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use builder::ScriptedPeerBuilder;
pub use connection::PeerConnection;
pub use logon::LogonAck;
pub use received::ReceivedFrame;
pub use script::ConnectionScript;

use self::state::{Missed, Shared, State, after};
use super::expectation::Expectation;
use crate::error::{Error, ErrorKind, Result};

/// A listener that does on each connection what a script says, and records everything it receives.
///
/// It knows nothing of topics or subscriptions: what it sends is what the script says, byte for byte. So it can do what
/// no server does, at the very moment a test needs it. Connections get the scripts in the order in which they are
/// accepted; a connection without a script is read, recorded, and handed out by [`accept`](ScriptedPeer::accept) to a
/// test that drives it itself.
///
/// Nothing waits for ever: each step has a time-out, and says what it waited for and what came instead. The first
/// failure is what [`finish`](ScriptedPeer::finish) returns, and every waiting method as well. Threads: one that accepts,
/// one for each connection that reads, and one for each script. Dropping the peer ends all of them, within a second,
/// also when the test panics.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// use amps_client::testing::{Frame, ScriptedPeer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = ScriptedPeer::builder()
///     .connection(|c| {
///         c.logon()
///             .expect("subscribe")
///             .reply_ok()
///             .send(r#"{"c":"p","t":"t","sids":"{sub_id}"}"#, b"data")
///             .close()
///     })
///     .start()?;
///
/// // What a client would do, which connects to `peer.uri("json")`.
/// let mut client = TcpStream::connect(peer.address().expect("a TCP peer"))?;
/// client.write_all(&Frame::encode(r#"{"c":"logon","cid":"0","client_name":"me"}"#, b""))?;
/// client.write_all(&Frame::encode(r#"{"c":"subscribe","cid":"1","t":"t","sub_id":"s"}"#, b""))?;
/// let mut received = Vec::new();
/// client.read_to_end(&mut received)?;
/// assert!(received.ends_with(br#"{"c":"p","t":"t","sids":"s"}data"#));
///
/// assert_eq!(peer.frames().len(), 2);
/// peer.finish()?;
/// # Ok(())
/// # }
/// ```
pub struct ScriptedPeer {
    shared: Arc<Shared>,
    /// How many connections must be made.
    scripts: usize,
    /// The longest time-out of a step.
    longest_step: Duration,
}

impl ScriptedPeer {
    /// A peer to be set up.
    pub fn builder() -> ScriptedPeerBuilder {
        ScriptedPeerBuilder::new()
    }

    /// A peer without scripts, on a free loopback port: the test [accepts](ScriptedPeer::accept) each connection.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if the system gives no port.
    pub fn start() -> Result<ScriptedPeer> {
        ScriptedPeer::builder().start()
    }

    /// The connection string for a client: `tcp://127.0.0.1:PORT/amps/json` for the message type `json`.
    pub fn uri(&self, message_type: &str) -> String {
        self.shared.door.endpoint.uri(message_type)
    }

    /// The address it listens on; `None` if that is a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.shared.door.endpoint.address()
    }

    /// The path of the Unix socket it listens on, if it does.
    pub fn path(&self) -> Option<&Path> {
        self.shared.door.endpoint.path()
    }

    /// Everything received so far, on all connections, in the order of arrival.
    pub fn frames(&self) -> Vec<ReceivedFrame> {
        self.shared.look(|state| state.frames.clone())
    }

    /// Waits until `count` of the frames received are what is expected, and returns these.
    ///
    /// Frames of all connections count, whether a script has expected them or not. Pass
    /// [`Expectation::any`] to count all.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) with the last frames received, or the first failure of a script.
    pub fn wait_for_frames(
        &self,
        count: usize,
        expectation: impl Into<Expectation>,
        timeout: Duration,
    ) -> Result<Vec<ReceivedFrame>> {
        let expectation = expectation.into();
        let deadline = after(timeout);
        let mut found = Vec::new();
        let mut seen = 0;
        while found.len() < count {
            let wanted = || format!("{count} frames, each {expectation}; there are {}", found.len());
            let new = self.wait(deadline, wanted, |state| {
                let new = state.frames.get(seen..).unwrap_or_default();
                (!new.is_empty()).then(|| new.to_vec())
            })?;
            seen += new.len();
            found.extend(new.into_iter().filter(|frame| expectation.is_met_by(frame.frame())));
        }
        found.truncate(count);
        Ok(found)
    }

    /// Waits until a frame that is what is expected has been received, on any connection, and returns the first.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) with the last frames received, or the first failure of a script.
    pub fn wait_for_frame(
        &self,
        expectation: impl Into<Expectation>,
        timeout: Duration,
    ) -> Result<ReceivedFrame> {
        let found = self.wait_for_frames(1, expectation, timeout)?;
        found.into_iter().next().ok_or_else(|| Error::from(ErrorKind::TimedOut))
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.look(|state| state.links.len())
    }

    /// Waits until so many connections have been accepted.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut), or the first failure of a script.
    pub fn wait_for_connections(&self, count: usize, timeout: Duration) -> Result<()> {
        let wanted = || format!("{count} connections; there are {}", self.connections());
        self.wait(after(timeout), wanted, |state| (state.links.len() >= count).then_some(()))
    }

    /// Waits for the next connection that has no script, and hands it out.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut), or the first failure of a script.
    pub fn accept(&self, timeout: Duration) -> Result<PeerConnection> {
        let wanted = || "a connection without a script".to_owned();
        let number = self.wait(after(timeout), wanted, |state| state.unclaimed.pop_front())?;
        Ok(PeerConnection::new(self.shared.clone(), number))
    }

    /// Waits until a script has come to its step [`wait`](ConnectionScript::wait) of this name.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use amps_client::testing::ScriptedPeer;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let peer = ScriptedPeer::builder().connection(|c| c.wait("connected").close()).start()?;
    /// let client = std::net::TcpStream::connect(peer.address().expect("a TCP peer"))?;
    /// peer.wait_reached("connected", Duration::from_secs(5))?;
    /// peer.release("connected")?;
    /// peer.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if no script has such a step, [`TimedOut`](ErrorKind::TimedOut), or the first failure
    /// of a script.
    pub fn wait_reached(&self, name: &str, timeout: Duration) -> Result<()> {
        self.check_gate(name)?;
        let wanted = || format!("a script to reach `{name}`");
        self.wait(after(timeout), wanted, |state| state.gates.get(name)?.reached.then_some(()))
    }

    /// Lets every script pass its step [`wait`](ConnectionScript::wait) of this name, now or when it comes there.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if no script has such a step.
    pub fn release(&self, name: &str) -> Result<()> {
        self.check_gate(name)?;
        self.shared.change(|state| state.gates.entry(name.to_owned()).or_default().open = true);
        Ok(())
    }

    /// Closes the listener; when it returns, connections are refused. Those that exist go on, and the port is kept.
    ///
    /// ```
    /// use std::net::TcpStream;
    ///
    /// use amps_client::testing::ScriptedPeer;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let peer = ScriptedPeer::start()?;
    /// let address = peer.address().expect("a TCP peer");
    /// peer.refuse()?;
    /// assert!(TcpStream::connect(address).is_err());
    /// peer.listen_again()?;
    /// assert!(TcpStream::connect(address).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if the acceptor does not react within the time-out of the peer.
    pub fn refuse(&self) -> Result<()> {
        self.shared.refuse()
    }

    /// Listens again, on the same address; when it returns, connections are accepted. No effect if it listens.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if the system does not give the address again.
    pub fn listen_again(&self) -> Result<()> {
        self.shared.listen_again()
    }

    /// Waits until every script is done, then ends the peer: closes all connections and joins all threads.
    ///
    /// Steps that [idle](ConnectionScript::idle) are done from now on. A connection that was not made yet is waited for as
    /// long as a step may take; others as long as their steps take. After a failure nothing is waited for, nor for a
    /// script that gets nowhere for longer than any step may take.
    ///
    /// # Errors
    ///
    /// The first failure of a script: [`Amps`](ErrorKind::Amps) if another frame came than was expected, with both in
    /// the text, or what [`PeerConnection`] says of other failures. [`TimedOut`](ErrorKind::TimedOut) if a connection
    /// that has a script was never made, or a closure of the test does not end.
    pub fn finish(self) -> Result<()> {
        self.shared.change(|state| state.finishing = true);
        let made = self.wait_for_scripts();
        self.end();
        let failure = self.shared.change(|state| state.failure.take());
        failure.map_or(made, Err)
    }

    fn wait_for_scripts(&self) -> Result<()> {
        let mut patience = self.shared.timeout;
        loop {
            let before = self.progress();
            let over = self.shared.wait(after(patience), |state| {
                let done = state.links.len() >= self.scripts && state.running_scripts == 0;
                (done || state.failure.is_some()).then_some(())
            });
            let (made, running) = self.shared.look(|state| (state.links.len(), state.running_scripts));
            let stuck = patience > self.longest_step && self.progress() == before;
            if over.is_ok() || (running == 0 && made >= self.scripts) {
                return Ok(());
            }
            if running == 0 {
                let what = format!("connection {} of {} was never made", made + 1, self.scripts);
                return Err(self.unfinished(&what));
            }
            if stuck {
                return Err(self.unfinished("a script does not end"));
            }
            // The steps that run have deadlines of their own.
            patience = self.longest_step.saturating_add(Duration::from_secs(2));
        }
    }

    /// What changes as long as a script is getting on.
    fn progress(&self) -> (usize, usize, usize) {
        self.shared.look(|state| (state.steps_done, state.links.len(), state.frames.len()))
    }

    fn unfinished(&self, what: &str) -> Error {
        Error::new(ErrorKind::TimedOut, format!("{what}; {}", self.last_frames()))
    }

    fn wait<T>(
        &self,
        deadline: std::time::Instant,
        wanted: impl FnOnce() -> String,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let found = self.shared.wait(deadline, |state| match look(state) {
            Some(found) => Some(Ok(found)),
            None => state.failure.clone().map(Err),
        });
        found.unwrap_or_else(|missed| {
            let (kind, how) = match missed {
                Missed::TimedOut => (ErrorKind::TimedOut, "waited in vain"),
                Missed::Stopped => (ErrorKind::Disconnected, "the peer ended while waiting"),
            };
            Err(Error::new(kind, format!("{how} for {}; {}", wanted(), self.last_frames())))
        })
    }

    fn check_gate(&self, name: &str) -> Result<()> {
        let known = self.shared.look(|state| state.gates.contains_key(name));
        let text = || format!("no script has a step that waits for `{name}`");
        if known { Ok(()) } else { Err(Error::new(ErrorKind::Usage, text())) }
    }

    fn last_frames(&self) -> String {
        self.shared.look(|state| state.last_frames(None))
    }

    fn end(&self) {
        if self.shared.look(|state| state.stopped) {
            return;
        }
        self.shared.stop();
        self.shared.join(LONGEST_END);
        self.shared.door.endpoint.clean_up();
    }
}

/// How long ending may take, if code of the test holds up a thread.
const LONGEST_END: Duration = Duration::from_millis(800);

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.end();
        // Not the text, which may hold a payload.
        if let Some(kind) = self.shared.look(|state| state.failure.as_ref().map(Error::kind)) {
            log::warn!(target: "amps::testing", "a scripted peer was dropped unfinished, after a failure: {kind}");
        }
    }
}

impl fmt::Debug for ScriptedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connections, frames, failure) =
            self.shared.look(|state| (state.links.len(), state.frames.len(), state.failure.clone()));
        f.debug_struct("ScriptedPeer")
            .field("uri", &self.uri("json"))
            .field("connections", &connections)
            .field("frames", &frames)
            .field("failure", &failure)
            .finish_non_exhaustive()
    }
}
