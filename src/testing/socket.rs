//! A connected stream, whatever it runs over, that several threads can use at once.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;

/// One end of an accepted connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Socket {
    /// Blocks until there are bytes; 0 is the end of the stream.
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Socket::Tcp(stream) => (&*stream).read(into),
                #[cfg(unix)]
                Socket::Unix(stream) => (&*stream).read(into),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Blocks until the kernel has taken all of it.
    pub(crate) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => (&*stream).write_all(bytes),
            #[cfg(unix)]
            Socket::Unix(stream) => (&*stream).write_all(bytes),
        }
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn finish_writing(&self) {
        self.shutdown(Shutdown::Write);
    }

    /// Ends both directions, and every blocked read or write on this socket.
    pub(crate) fn close(&self) {
        self.shutdown(Shutdown::Both);
    }

    fn shutdown(&self, how: Shutdown) {
        // It fails only if the peer was faster.
        let _ = match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            #[cfg(unix)]
            Socket::Unix(stream) => stream.shutdown(how),
        };
    }

    /// Who is at the other end, for people to read.
    pub(crate) fn peer(&self) -> String {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().map_or_else(|_| "unknown".into(), |a| a.to_string()),
            #[cfg(unix)]
            Socket::Unix(_) => "unix".into(),
        }
    }
}
