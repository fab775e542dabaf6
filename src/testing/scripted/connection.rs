//! One accepted connection, driven by a test or by a script.

use std::fmt;
use std::io::{self, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::logon::LogonAck;
use super::received::ReceivedFrame;
use super::state::{Link, Missed, Shared, State, after};
use super::template::Template;
use crate::error::{Error, ErrorKind, Result};
use crate::testing::Frame;
use crate::testing::expectation::Expectation;

/// A connection that a [`ScriptedPeer`](super::ScriptedPeer) accepted, driven step by step by the test.
///
/// [`ScriptedPeer::accept`](super::ScriptedPeer::accept) hands it out. Frames are read and recorded by a thread of the
/// peer all the time, and [`expect`](PeerConnection::expect) takes them one after the other. Dropping the connection
/// closes it. All methods may be called on any thread; what two threads send at the same time may mix.
///
/// Whatever waits has a deadline. What the peer sends must be taken by the client within the
/// [time-out of the peer](super::ScriptedPeerBuilder::timeout).
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use std::time::Duration;
///
/// use amps_client::testing::{Frame, LogonAck, ScriptedPeer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let soon = Duration::from_secs(5);
/// let peer = ScriptedPeer::start()?;
/// let mut client = TcpStream::connect(peer.address().expect("a TCP peer"))?;
/// client.write_all(&Frame::encode(r#"{"c":"logon","cid":"1","client_name":"me"}"#, b""))?;
/// client.write_all(&Frame::encode(r#"{"c":"subscribe","cid":"2","t":"orders","sub_id":"s"}"#, b""))?;
///
/// let connection = peer.accept(soon)?;
/// connection.logon(&LogonAck::success(), soon)?;
/// let subscribe = connection.expect("subscribe", soon)?;
/// assert_eq!(subscribe.header("t"), Some("orders"));
/// connection.reply_ok()?;
/// connection.send(r#"{"c":"p","t":"orders","sids":"{sub_id}"}"#, br#"{"id":1}"#)?;
/// connection.close();
///
/// let mut received = Vec::new();
/// client.read_to_end(&mut received)?;
/// assert!(received.ends_with(br#"{"c":"p","t":"orders","sids":"s"}{"id":1}"#));
/// # Ok(())
/// # }
/// ```
pub struct PeerConnection {
    shared: Arc<Shared>,
    number: usize,
    /// What an error text begins with.
    place: String,
    /// How long a write may take, and a step of a script may wait.
    timeout: Duration,
    close_on_drop: bool,
}

impl PeerConnection {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> PeerConnection {
        let timeout = shared.timeout;
        PeerConnection { shared, number, place: format!("connection {number}"), timeout, close_on_drop: true }
    }

    /// The number of the connection; the first that the peer accepted is 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Waits for the next frame, which must be what is expected, and returns it.
    ///
    /// From then on the gaps in what is sent are filled from it. Frames that arrived before this call count as well.
    ///
    /// # Errors
    ///
    /// [`Amps`](ErrorKind::Amps) if another frame comes: the text names what was expected and shows the frame, which is
    /// then taken. [`TimedOut`](ErrorKind::TimedOut) if none comes within `timeout`, [`Disconnected`] if the connection
    /// ends before, [`Stream`](ErrorKind::Stream) if the client sends what is no frame.
    ///
    /// [`Disconnected`]: ErrorKind::Disconnected
    pub fn expect(&self, expectation: impl Into<Expectation>, timeout: Duration) -> Result<Frame> {
        let expectation = expectation.into();
        let frame = self.next_frame(&expectation, after(timeout))?;
        if expectation.is_met_by(&frame) {
            self.answer_to(&frame);
            return Ok(frame);
        }
        let text = format!("expected {expectation}, but received {frame:?}; {}", self.last_frames());
        Err(self.error(ErrorKind::Amps, text))
    }

    /// Waits for a frame that is what is expected, passes over the frames before it, and returns it.
    ///
    /// `timeout` is for all of it. Gaps are filled from the frame found.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](PeerConnection::expect), except that another frame is none.
    pub fn skip_to(&self, expectation: impl Into<Expectation>, timeout: Duration) -> Result<Frame> {
        let expectation = expectation.into();
        let deadline = after(timeout);
        loop {
            let frame = self.next_frame(&expectation, deadline)?;
            if expectation.is_met_by(&frame) {
                self.answer_to(&frame);
                return Ok(frame);
            }
        }
    }

    /// From now on frames like this are recorded, but never count as the next frame.
    ///
    /// For what comes at any time, such as heartbeats: `connection.ignore("heartbeat")`.
    pub fn ignore(&self, expectation: impl Into<Expectation>) {
        let expectation = expectation.into();
        self.change(|link| link.ignored.push(expectation));
    }

    /// Expects a logon, answers it, and returns it.
    ///
    /// # Errors
    ///
    /// Those of [`expect`](PeerConnection::expect) and [`send`](PeerConnection::send).
    pub fn logon(&self, answer: &LogonAck, timeout: Duration) -> Result<Frame> {
        let logon = self.expect("logon", timeout)?;
        self.write(&Frame::encode(&answer.answer(&logon), b""))?;
        Ok(logon)
    }

    /// Waits for the HTTP request of a client with `http_preflight=true` and returns its text. The answer is up to the
    /// caller: [`send_raw`](PeerConnection::send_raw).
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) and [`Disconnected`](ErrorKind::Disconnected).
    pub fn expect_request(&self, timeout: Duration) -> Result<String> {
        self.wait(&"an HTTP request", after(timeout), |link| {
            link.request.take().map(Ok).or_else(|| ended(link))
        })
    }

    /// Waits until the client has closed the connection, orderly or not. Frames that were not expected do not matter.
    ///
    /// While reading is [stopped](PeerConnection::stop_reading) nothing is noticed.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if it does not; [`Stream`](ErrorKind::Stream) if it sends what is no frame.
    pub fn wait_closed(&self, timeout: Duration) -> Result<()> {
        self.wait(&"the end of the connection", after(timeout), |link| match &link.end {
            Some(end) if end.kind() == ErrorKind::Stream => Some(Err(end.clone())),
            end => end.is_some().then_some(Ok(())),
        })
    }

    /// Sends a frame: this header text and this payload, byte for byte, behind a length prefix.
    ///
    /// `{key}` in the header text is a gap: it is filled with the value of that header in the last frame expected on
    /// this connection, escaped as the inside of a string. The key may have either spelling, so `{cid}` and `{cmd_id}`
    /// are the same; it is made of letters and `_`. The payload has no gaps.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if the frame expected last does not have such a header, or none was expected yet.
    /// [`Disconnected`](ErrorKind::Disconnected) if the connection is gone, [`TimedOut`](ErrorKind::TimedOut) if the
    /// client does not read.
    pub fn send(&self, header: &str, payload: impl AsRef<[u8]>) -> Result<()> {
        self.send_filled(&Template::parse(header), payload.as_ref())
    }

    /// Sends a frame without a payload. Gaps are filled as in [`send`](PeerConnection::send).
    ///
    /// # Errors
    ///
    /// Those of [`send`](PeerConnection::send).
    pub fn reply(&self, header: &str) -> Result<()> {
        self.send(header, b"")
    }

    /// Acknowledges the last frame expected: `processed`, `success`.
    ///
    /// # Errors
    ///
    /// Those of [`send`](PeerConnection::send); the frame must have a `cid`.
    pub fn reply_ok(&self) -> Result<()> {
        self.send_filled(&Template::success(), b"")
    }

    /// Refuses the last frame expected: `processed`, `failure`, for this reason.
    ///
    /// # Errors
    ///
    /// Those of [`send`](PeerConnection::send); the frame must have a `cid`.
    pub fn reply_failure(&self, reason: &str) -> Result<()> {
        self.send_filled(&Template::failure(reason), b"")
    }

    /// Sends bytes as they are, without a length prefix: parts of a frame, or garbage.
    ///
    /// ```
    /// # use amps_client::testing::{Frame, ScriptedPeer};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let peer = ScriptedPeer::start()?;
    /// # let _client = std::net::TcpStream::connect(peer.address().expect("a TCP peer"))?;
    /// # let connection = peer.accept(Duration::from_secs(5))?;
    /// let frame = Frame::encode(r#"{"c":"heartbeat"}"#, b"");
    /// connection.send_raw(&frame[..7])?;
    /// connection.close(); // in the middle of the frame
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ErrorKind::Disconnected) if the connection is gone, [`TimedOut`](ErrorKind::TimedOut) if the
    /// client does not read.
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        self.write(bytes.as_ref())
    }

    /// From now on what is sent goes out in writes of `bytes` bytes each; 0 is one write for each frame, the default.
    ///
    /// The kernel may still join what the client has not read yet.
    pub fn chunks_of(&self, bytes: usize) {
        self.change(|link| link.chunk = (bytes > 0).then_some(bytes));
    }

    /// Stops reading, until [`resume_reading`](PeerConnection::resume_reading): once the buffers are full, the client
    /// cannot write any more. At most one read that was under way is held back, and recorded later.
    pub fn stop_reading(&self) {
        self.change(|link| link.reading_stopped = true);
    }

    /// Goes on reading.
    pub fn resume_reading(&self) {
        self.change(|link| link.reading_stopped = false);
    }

    /// Tells the client that nothing more will be sent, and goes on reading.
    pub fn shutdown_write(&self) {
        if let Some(socket) = self.look(|link| link.socket.clone()) {
            // The client may have closed it already.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }

    /// Closes the connection in an orderly way: the client reads what was sent, then the end of the stream.
    pub fn close(&self) {
        if let Some(socket) = self.change(|link| link.socket.take()) {
            // The client may have closed it already. This ends the read of the reading thread as well.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Resets the connection: what the client has not read may be lost, its next read or write fails.
    ///
    /// A Unix socket knows no reset; it is closed.
    pub fn reset(&self) {
        let Some(socket) = self.change(|link| link.socket.take()) else { return };
        // With no time to linger, closing a TCP socket resets the connection. What fails here leaves a plain close.
        let _ = socket.set_linger(Some(Duration::ZERO));
        // Closing means that nobody holds the socket: the reading thread must wake and let go of it.
        let _ = socket.shutdown(Shutdown::Read);
        let _ = self
            .shared
            .wait(after(self.timeout), |state| state.link(self.number)?.end.is_some().then_some(()));
    }

    /// Everything received on this connection so far, expected or not.
    pub fn frames(&self) -> Vec<ReceivedFrame> {
        let own = |frame: &&ReceivedFrame| frame.connection() == self.number;
        self.shared.look(|state| state.frames.iter().filter(own).cloned().collect())
    }

    /// What an error says about where it happened, from now on.
    pub(super) fn at(&mut self, step: &str) {
        self.place = format!("connection {}, {step}", self.number);
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Lets go of the connection without closing it.
    pub(super) fn leave_open(mut self) {
        self.close_on_drop = false;
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// An error that says where it happened.
    pub(super) fn error(&self, kind: ErrorKind, text: impl fmt::Display) -> Error {
        Error::new(kind, format!("{}: {text}", self.place))
    }

    /// Waits until `look` finds something, or fails naming what was awaited.
    pub(super) fn wait<T>(
        &self,
        wanted: &dyn fmt::Display,
        deadline: Instant,
        mut look: impl FnMut(&mut Link) -> Option<Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let found = self.shared.wait(deadline, |state| look(state.link_mut(self.number)?));
        let (kind, text) = match found {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(end)) => (end.kind(), format!("{end}, while {wanted} was expected")),
            Err(Missed::Stopped) => {
                (ErrorKind::Disconnected, format!("the peer has ended, while {wanted} was expected"))
            }
            Err(Missed::TimedOut) => {
                let waited = began.elapsed();
                (ErrorKind::TimedOut, format!("waited {waited:.1?} for {wanted}, which did not come"))
            }
        };
        Err(self.error(kind, format!("{text}; {}", self.last_frames())))
    }

    pub(super) fn send_filled(&self, header: &Template, payload: &[u8]) -> Result<()> {
        let answered = self.look(|link| link.answered.clone());
        let header = header.fill(answered.as_ref()).map_err(|key| {
            let text = match &answered {
                Some(frame) => format!("`{{{key}}}` cannot be filled in from {frame:?}"),
                None => format!("`{{{key}}}` cannot be filled in, because no frame was expected yet"),
            };
            self.error(ErrorKind::Usage, text)
        })?;
        self.write(&Frame::encode(&header, payload))
    }

    fn next_frame(&self, expectation: &Expectation, deadline: Instant) -> Result<Frame> {
        let ignored = self.look(|link| link.ignored.clone());
        loop {
            let frame = self
                .wait(expectation, deadline, |link| link.inbox.pop_front().map(Ok).or_else(|| ended(link)))?;
            if !ignored.iter().any(|ignored| ignored.is_met_by(&frame)) {
                return Ok(frame);
            }
        }
    }

    fn answer_to(&self, frame: &Frame) {
        self.change(|link| link.answered = Some(frame.clone()));
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        let (socket, chunk) = self.look(|link| (link.socket.clone(), link.chunk));
        let socket = socket.ok_or_else(|| {
            self.error(
                ErrorKind::Disconnected,
                "nothing can be sent, because this side closed the connection",
            )
        })?;
        let deadline = after(self.timeout);
        let mut written = 0;
        for piece in pieces(bytes, chunk) {
            written += write_piece(&socket, piece, deadline).map_err(|(n, error)| {
                let written = written + n;
                let kind = match error.kind() {
                    io::ErrorKind::TimedOut => ErrorKind::TimedOut,
                    _ => ErrorKind::Disconnected,
                };
                self.error(kind, format!("only {written} of {} bytes could be sent: {error}", bytes.len()))
            })?;
        }
        Ok(())
    }

    fn last_frames(&self) -> String {
        self.shared.look(|state| state.last_frames(Some(self.number)))
    }

    /// Looks at the state of this connection, which is there for as long as the peer is.
    fn look<T: Default>(&self, look: impl FnOnce(&Link) -> T) -> T {
        self.shared.look(|state| state.link(self.number).map(look).unwrap_or_default())
    }

    fn change<T: Default>(&self, change: impl FnOnce(&mut Link) -> T) -> T {
        self.shared.change(|state: &mut State| state.link_mut(self.number).map(change).unwrap_or_default())
    }
}

impl Drop for PeerConnection {
    fn drop(&mut self) {
        if self.close_on_drop {
            self.close();
        }
    }
}

impl fmt::Debug for PeerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.look(|link| link.socket.is_some() && link.end.is_none());
        f.debug_struct("PeerConnection")
            .field("number", &self.number)
            .field("open", &open)
            .finish_non_exhaustive()
    }
}

/// The end of a connection, as the failure of what was awaited on it.
fn ended<T>(link: &Link) -> Option<Result<T>> {
    link.end.clone().map(Err)
}

/// What goes into one write each.
fn pieces(bytes: &[u8], chunk: Option<usize>) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(chunk.unwrap_or(bytes.len()).max(1))
}

/// Writes all of a piece, or says how much of it was written until the failure.
fn write_piece(mut socket: &Socket, piece: &[u8], deadline: Instant) -> Result<usize, (usize, io::Error)> {
    let mut written = 0;
    while let Some(rest) = piece.get(written..).filter(|rest| !rest.is_empty()) {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let text = "the client does not read";
            return Err((written, io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        // Below a microsecond the system would take it for no limit at all.
        let limit = left.max(Duration::from_millis(1));
        let result = socket.set_write_timeout(Some(limit)).and_then(|()| socket.write(rest));
        match result {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(written)
}

/// Nothing was written, and the deadline tells whether to try again.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::testing::door::Door;
    use crate::testing::endpoint::Endpoint;

    #[test]
    fn a_write_is_cut_into_pieces_of_the_size_that_was_set_last() {
        let door = Door::new(Endpoint::tcp((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let shared = Arc::new(Shared::new(door, Duration::ZERO));
        shared.change(|state| state.links.push(Link::default()));
        let connection = PeerConnection::new(shared, 1);
        for (chunk, sizes) in [(3, vec![3, 3, 1]), (1, vec![1; 7]), (7, vec![7]), (8, vec![7]), (0, vec![7])]
        {
            connection.chunks_of(chunk);
            let chunk = connection.look(|link| link.chunk);
            assert_eq!(pieces(b"7 bytes", chunk).map(<[u8]>::len).collect::<Vec<_>>(), sizes, "{chunk:?}");
        }
        assert_eq!(pieces(b"", None).count(), 0);
    }
}
