//! A connected stream, whatever it runs over, that several threads can use at once.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// One end of an accepted connection.
#[derive(Debug)]
pub(crate) struct Socket {
    /// `None` after a reset. Whoever uses it holds it for as long as that takes.
    stream: Mutex<Option<Arc<socket2::Socket>>>,
}

impl Socket {
    pub(crate) fn new(stream: socket2::Socket) -> Socket {
        Socket { stream: Mutex::new(Some(Arc::new(stream))) }
    }

    /// Blocks until there are bytes; 0 is the end of the stream.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let stream = self.stream()?;
        loop {
            match (&*stream).read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Blocks until the kernel has taken all of it.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.stream()?).write_all(bytes)
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn finish_writing(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends both directions, and every blocked read or write on this socket.
    pub(crate) fn close(&self) {
        self.shutdown(Shutdown::Both);
    }

    /// Ends the connection so that the peer's next read or write fails, once nobody reads or writes any more; a read that
    /// is blocked ends. A Unix socket knows no reset; it is closed.
    pub(crate) fn reset(&self) {
        let Some(stream) = self.stream.lock().take() else { return };
        // With no time to linger, closing a TCP socket resets the connection. What fails here leaves a plain close.
        let _ = stream.set_linger(Some(Duration::ZERO));
        let _ = stream.shutdown(Shutdown::Read);
    }

    fn stream(&self) -> io::Result<Arc<socket2::Socket>> {
        self.stream.lock().clone().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn shutdown(&self, how: Shutdown) {
        if let Ok(stream) = self.stream() {
            // It fails only if the peer was faster.
            let _ = stream.shutdown(how);
        }
    }

    /// Who is at the other end, for people to read.
    pub(crate) fn peer(&self) -> String {
        let address = self.stream().and_then(|stream| stream.peer_addr());
        match address.map(|address| (address.as_socket(), address.is_unix())) {
            Ok((Some(address), _)) => address.to_string(),
            Ok((None, true)) => "unix".to_owned(),
            _ => "unknown".to_owned(),
        }
    }
}
