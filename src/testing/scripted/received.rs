//! The record of what a peer received.

use std::fmt;
use std::time::Duration;

use crate::testing::Frame;

/// A frame that a [`ScriptedPeer`](super::ScriptedPeer) received: which connection it came on, and when.
///
/// ```
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::time::Duration;
///
/// use amps_client::testing::{Frame, ScriptedPeer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let peer = ScriptedPeer::builder().connection(|c| c.idle()).start()?;
/// let mut client = TcpStream::connect(peer.address().expect("a TCP peer"))?;
/// client.write_all(&Frame::encode(r#"{"c":"flush"}"#, b""))?;
///
/// let first = peer.wait_for_frame("flush", Duration::from_secs(5))?;
/// assert_eq!((first.connection(), first.index(), first.frame().command()), (1, 0, "flush"));
/// peer.finish()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReceivedFrame {
    connection: usize,
    index: usize,
    elapsed: Duration,
    frame: Frame,
}

impl ReceivedFrame {
    pub(super) fn new(connection: usize, index: usize, elapsed: Duration, frame: Frame) -> ReceivedFrame {
        ReceivedFrame { connection, index, elapsed, frame }
    }

    /// The number of the connection it came on; the first accepted is 1.
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// Its number among all frames received, over all connections, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// When it was received, counted from the start of the peer.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The frame itself.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }
}

impl fmt::Debug for ReceivedFrame {
    /// One line: connection, index, time in milliseconds, and the frame without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connection, index) = (self.connection, self.index);
        let milliseconds = self.elapsed.as_secs_f64() * 1e3;
        write!(f, "connection {connection}, frame {index} at {milliseconds:.1} ms: {:?}", self.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_is_one_line_without_a_password() {
        let frame = Frame::parse(br#"{"c":"logon","pw":"s3cret"}"#).unwrap();
        let received = ReceivedFrame::new(2, 7, Duration::from_micros(1250), frame);
        let text = r#"connection 2, frame 7 at 1.2 ms: Frame({"c":"logon","pw":"***"})"#;
        assert_eq!(format!("{received:?}"), text);
    }
}
