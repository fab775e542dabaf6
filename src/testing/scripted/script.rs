//! What a scripted peer does on one connection, step by step.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::connection::PeerConnection;
use super::logon::LogonAck;
use super::state::after;
use super::template::Template;
use crate::error::{ErrorKind, Result};
use crate::testing::expectation::Expectation;

/// The steps that a [`ScriptedPeer`](super::ScriptedPeer) goes through on one connection, in the order in which they are
/// added.
///
/// A step that expects something waits for it, at most as long as the [time-out](ConnectionScript::timeout), by default
/// 5 seconds. A step that fails ends the script: the peer closes the connection and reports the first such failure from
/// [`finish`](super::ScriptedPeer::finish). A connection whose script is done stays open; what comes is still recorded.
///
/// ```
/// use amps_client::testing::{Expectation, LogonAck, ScriptedPeer};
///
/// # fn main() -> amps_client::Result<()> {
/// let peer = ScriptedPeer::builder()
///     .connection(|c| {
///         c.logon_with(LogonAck::success().sequence(3))
///             .ignore("heartbeat")
///             .expect(Expectation::command("subscribe").header("t", "orders"))
///             .reply_ok()
///             .send(r#"{"c":"p","t":"orders","sids":"{sub_id}"}"#, b"one")
///             .wait("the handler has run")
///             .reset()
///     })
///     .connection(|c| c.logon_with(LogonAck::failure("auth failure")).wait_closed())
///     .start()?;
/// # drop(peer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct ConnectionScript {
    steps: Vec<Step>,
}

#[derive(Clone)]
enum Step {
    Expect(Expectation),
    SkipTo(Expectation),
    Ignore(Expectation),
    Logon(LogonAck),
    Preflight,
    Send(Template, Vec<u8>),
    SendRaw(Vec<u8>),
    Chunks(usize),
    Wait(String),
    WaitClosed,
    Idle,
    StopReading,
    ResumeReading,
    ShutdownWrite,
    Close,
    Reset,
    Refuse,
    ListenAgain,
    Timeout(Duration),
    Perform(Action),
}

type Action = Arc<dyn Fn(&PeerConnection) -> Result<()> + Send + Sync>;

impl ConnectionScript {
    /// Waits for the next frame, which must be what is expected. Gaps in what is sent are filled from it.
    pub fn expect(self, expectation: impl Into<Expectation>) -> ConnectionScript {
        self.then(Step::Expect(expectation.into()))
    }

    /// Waits for a frame that is what is expected, and passes over those before it. Gaps are filled from it.
    pub fn skip_to(self, expectation: impl Into<Expectation>) -> ConnectionScript {
        self.then(Step::SkipTo(expectation.into()))
    }

    /// From here on frames like this are recorded, but never count as the next frame.
    pub fn ignore(self, expectation: impl Into<Expectation>) -> ConnectionScript {
        self.then(Step::Ignore(expectation.into()))
    }

    /// Expects a logon and grants it, as [`LogonAck::success`] does.
    pub fn logon(self) -> ConnectionScript {
        self.logon_with(LogonAck::success())
    }

    /// Expects a logon and answers it so.
    pub fn logon_with(self, answer: LogonAck) -> ConnectionScript {
        self.then(Step::Logon(answer))
    }

    /// Expects the HTTP request of a client with `http_preflight=true`, and agrees to it.
    pub fn preflight(self) -> ConnectionScript {
        self.then(Step::Preflight)
    }

    /// Sends a frame: this header text and this payload, byte for byte, behind a length prefix.
    ///
    /// `{key}` in the header text is filled from the frame expected last, see [`PeerConnection::send`].
    pub fn send(self, header: &str, payload: impl AsRef<[u8]>) -> ConnectionScript {
        self.then(Step::Send(Template::parse(header), payload.as_ref().to_vec()))
    }

    /// Sends a frame without a payload, with gaps as in [`send`](ConnectionScript::send).
    pub fn reply(self, header: &str) -> ConnectionScript {
        self.send(header, b"")
    }

    /// Acknowledges the frame expected last: `processed`, `success`.
    pub fn reply_ok(self) -> ConnectionScript {
        self.then(Step::Send(Template::success(), Vec::new()))
    }

    /// Refuses the frame expected last: `processed`, `failure`, for this reason.
    pub fn reply_failure(self, reason: &str) -> ConnectionScript {
        self.then(Step::Send(Template::failure(reason), Vec::new()))
    }

    /// Sends bytes as they are, without a length prefix; [`Frame::encode`](crate::testing::Frame::encode) makes those of
    /// a frame.
    pub fn send_raw(self, bytes: impl AsRef<[u8]>) -> ConnectionScript {
        self.then(Step::SendRaw(bytes.as_ref().to_vec()))
    }

    /// From here on what is sent goes out in writes of `bytes` bytes each; 0 is one write for each frame, the default.
    pub fn chunks_of(self, bytes: usize) -> ConnectionScript {
        self.then(Step::Chunks(bytes))
    }

    /// Waits until the test calls [`release`](super::ScriptedPeer::release) with this name.
    ///
    /// A name that was released stays so: who comes there later passes, on every connection.
    pub fn wait(self, name: impl Into<String>) -> ConnectionScript {
        self.then(Step::Wait(name.into()))
    }

    /// Waits until the client has closed the connection. What it sent before that does not matter.
    pub fn wait_closed(self) -> ConnectionScript {
        self.then(Step::WaitClosed)
    }

    /// Does nothing, until the client closes the connection or the test calls [`finish`](super::ScriptedPeer::finish).
    ///
    /// What comes is read and recorded, and not answered. This is the one step without a time-out.
    pub fn idle(self) -> ConnectionScript {
        self.then(Step::Idle)
    }

    /// Goes silent: as [`idle`](ConnectionScript::idle), but reads nothing either, so that the client cannot write once
    /// the buffers are full.
    pub fn silent(self) -> ConnectionScript {
        self.stop_reading().idle()
    }

    /// Stops reading from here on. At most one read that was under way is held back, and recorded later.
    pub fn stop_reading(self) -> ConnectionScript {
        self.then(Step::StopReading)
    }

    /// Goes on reading.
    pub fn resume_reading(self) -> ConnectionScript {
        self.then(Step::ResumeReading)
    }

    /// Tells the client that nothing more will be sent, and goes on reading.
    pub fn shutdown_write(self) -> ConnectionScript {
        self.then(Step::ShutdownWrite)
    }

    /// Closes the connection in an orderly way.
    pub fn close(self) -> ConnectionScript {
        self.then(Step::Close)
    }

    /// Resets the connection: the client's next read or write fails. A Unix socket knows no reset; it is closed.
    pub fn reset(self) -> ConnectionScript {
        self.then(Step::Reset)
    }

    /// Closes the listener, so that further connections are refused; this one goes on.
    pub fn refuse(self) -> ConnectionScript {
        self.then(Step::Refuse)
    }

    /// Opens the listener again, on the same address.
    pub fn listen_again(self) -> ConnectionScript {
        self.then(Step::ListenAgain)
    }

    /// How long each step from here on may take; by default what the [builder](super::ScriptedPeerBuilder::timeout) says.
    pub fn timeout(self, timeout: Duration) -> ConnectionScript {
        self.then(Step::Timeout(timeout))
    }

    /// Adds the same steps several times.
    ///
    /// ```
    /// use amps_client::testing::ScriptedPeer;
    ///
    /// let builder = ScriptedPeer::builder()
    ///     .connection(|c| c.logon().repeat(100, |c| c.expect("flush").reply_ok()).close());
    /// ```
    pub fn repeat(
        self,
        times: usize,
        steps: impl Fn(ConnectionScript) -> ConnectionScript,
    ) -> ConnectionScript {
        (0..times).fold(self, |script, _| steps(script))
    }

    /// Does whatever the closure does with the connection, on the thread of the script.
    ///
    /// What the closure returns as an error is a failure of the script, and so is a panic in it. It should not wait for
    /// anything but the connection: [`finish`](super::ScriptedPeer::finish) gives up on a script that seems to be stuck.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use amps_client::testing::ScriptedPeer;
    ///
    /// let builder = ScriptedPeer::builder().connection(|c| {
    ///     c.logon().perform(|connection| {
    ///         let publish = connection.expect("publish", Duration::from_secs(5))?;
    ///         connection.send(r#"{"c":"p","t":"{t}","sids":"echo"}"#, publish.payload())
    ///     })
    /// });
    /// ```
    pub fn perform(
        self,
        action: impl Fn(&PeerConnection) -> Result<()> + Send + Sync + 'static,
    ) -> ConnectionScript {
        self.then(Step::Perform(Arc::new(action)))
    }

    fn then(mut self, step: Step) -> ConnectionScript {
        self.steps.push(step);
        self
    }

    /// The names of the points at which the script waits for the test.
    pub(super) fn gates(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| match step {
            Step::Wait(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The longest time-out that is set on the way.
    pub(super) fn longest_timeout(&self) -> Duration {
        let timeouts = self.steps.iter().filter_map(|step| match step {
            Step::Timeout(timeout) => Some(*timeout),
            _ => None,
        });
        timeouts.max().unwrap_or_default()
    }

    /// Goes through the steps. The first that fails is reported, and closes the connection.
    pub(super) fn run(&self, mut connection: PeerConnection) {
        let count = self.steps.len();
        for (n, step) in (1..).zip(&self.steps) {
            connection.at(&format!("step {n} of {count} ({step})"));
            let done = catch_unwind(AssertUnwindSafe(|| step.perform(&mut connection)));
            let done = done.unwrap_or_else(|panic| {
                let text = format!("it panicked: {}", panic_text(&*panic));
                Err(connection.error(ErrorKind::HandlerPanicked, text))
            });
            if let Err(error) = done {
                connection.shared().fail(error);
                // Dropping the connection closes it.
                return;
            }
            connection.shared().change(|state| state.steps_done += 1);
        }
        connection.leave_open();
    }
}

impl fmt::Debug for ConnectionScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| format!("{step}"))).finish()
    }
}

impl Step {
    fn perform(&self, connection: &mut PeerConnection) -> Result<()> {
        let timeout = connection.timeout();
        match self {
            Step::Expect(expectation) => connection.expect(expectation.clone(), timeout).map(drop),
            Step::SkipTo(expectation) => connection.skip_to(expectation.clone(), timeout).map(drop),
            Step::Logon(answer) => connection.logon(answer, timeout).map(drop),
            Step::Preflight => {
                connection.expect_request(timeout)?;
                connection.send_raw("HTTP/1.1 101 Switching Protocols\r\n\r\n")
            }
            Step::Send(header, payload) => connection.send_filled(header, payload),
            Step::SendRaw(bytes) => connection.send_raw(bytes),
            Step::Wait(name) => wait_at_gate(connection, name),
            Step::WaitClosed => connection.wait_closed(timeout),
            Step::Refuse => connection.shared().refuse(),
            Step::ListenAgain => connection.shared().listen_again(),
            Step::Perform(action) => action(connection),
            _ => {
                self.perform_at_once(connection);
                Ok(())
            }
        }
    }

    /// The steps that cannot fail.
    fn perform_at_once(&self, connection: &mut PeerConnection) {
        match self {
            Step::Ignore(expectation) => connection.ignore(expectation.clone()),
            Step::Chunks(bytes) => connection.chunks_of(*bytes),
            Step::Idle => idle(connection),
            Step::StopReading => connection.stop_reading(),
            Step::ResumeReading => connection.resume_reading(),
            Step::ShutdownWrite => connection.shutdown_write(),
            Step::Close => connection.close(),
            Step::Reset => connection.reset(),
            Step::Timeout(timeout) => connection.set_timeout(*timeout),
            _ => {}
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Expect(_) => "expect",
            Step::SkipTo(_) => "skip to",
            Step::Ignore(_) => "ignore",
            Step::Logon(_) => "logon",
            Step::Preflight => "preflight",
            Step::Send(..) => "send",
            Step::SendRaw(_) => "send raw",
            Step::Chunks(_) => "chunks",
            Step::Wait(_) => "wait",
            Step::WaitClosed => "wait closed",
            Step::Idle => "idle",
            Step::StopReading => "stop reading",
            Step::ResumeReading => "resume reading",
            Step::ShutdownWrite => "shutdown write",
            Step::Close => "close",
            Step::Reset => "reset",
            Step::Refuse => "refuse",
            Step::ListenAgain => "listen again",
            Step::Timeout(_) => "timeout",
            Step::Perform(_) => "perform",
        })
    }
}

fn wait_at_gate(connection: &PeerConnection, name: &str) -> Result<()> {
    connection.shared().change(|state| {
        state.gates.entry(name.to_owned()).or_default().reached = true;
    });
    let released = connection
        .shared()
        .wait(after(connection.timeout()), |state| state.gates.get(name)?.open.then_some(()));
    let text = || format!("the test did not release `{name}` within {:?}", connection.timeout());
    released.map_err(|_| connection.error(ErrorKind::TimedOut, text()))
}

fn idle(connection: &PeerConnection) {
    let over = connection.shared().wait(after(Duration::MAX), |state| {
        let ended = state.link(connection.number())?.end.is_some();
        (ended || state.finishing).then_some(())
    });
    // It ends as well when everything does.
    let _ = over;
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_the_list_of_its_steps() {
        let script = ConnectionScript::default()
            .logon()
            .repeat(2, |c| c.expect("flush").reply_ok())
            .wait("a")
            .silent()
            .timeout(Duration::from_secs(7))
            .timeout(Duration::from_secs(2))
            .wait("b");
        assert_eq!(
            format!("{script:?}"),
            r#"["logon", "expect", "send", "expect", "send", "wait", "stop reading", "idle", "timeout", "timeout", "wait"]"#
        );
        assert_eq!(script.longest_timeout(), Duration::from_secs(7));
        assert_eq!(script.gates().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_text_of_a_panic_is_found() {
        assert_eq!(panic_text(&"a"), "a");
        assert_eq!(panic_text(&"b".to_owned()), "b");
        assert_eq!(panic_text(&7), "no text");
    }
}
