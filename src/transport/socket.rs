//! The bytes of a connected socket.

use std::io::{self, Read};
use std::net::Shutdown;

use socket2::Socket;

use super::{IDLE_TICK, Transport};

/// A connected stream socket of any family.
#[derive(Debug)]
pub(super) struct SocketTransport {
    socket: Socket,
    /// Whether the connection string switched `TCP_NODELAY` off.
    lazy: bool,
}

impl SocketTransport {
    /// Takes a connected socket; `lazy` if small frames may be held back by the system.
    pub(super) fn new(socket: Socket, lazy: bool) -> io::Result<SocketTransport> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(IDLE_TICK))?;
        Ok(SocketTransport { socket, lazy })
    }
}

impl Transport for SocketTransport {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match (&self.socket).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // One system calls it a timeout and another says that it would block.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                outcome => return outcome,
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.send_with_flags(bytes, NO_SIGNAL) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Some(flags) = DO_NOT_WAIT else { return Ok(0) };
        loop {
            match self.socket.send_with_flags(bytes, NO_SIGNAL | flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                outcome => return outcome,
            }
        }
    }

    fn shutdown(&self) {
        // A peer that is gone already makes this fail, which changes nothing.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn set_urgent(&self, urgent: bool) {
        if self.lazy {
            // Not worth a connection: the frame would only leave a little later.
            if let Err(error) = self.socket.set_tcp_nodelay(urgent) {
                log::debug!(target: "amps::net", "TCP_NODELAY cannot be changed: {error}");
            }
        }
    }

    #[cfg(unix)]
    fn descriptor(&self) -> Option<std::os::fd::OwnedFd> {
        use std::os::fd::AsFd;
        self.socket.as_fd().try_clone_to_owned().ok()
    }
}

/// A write to a closed connection must be an error and not a signal, in whatever program the library is linked.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_SIGNAL: i32 = 0x4000;
#[cfg(any(target_os = "freebsd", target_os = "dragonfly"))]
const NO_SIGNAL: i32 = 0x2_0000;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "dragonfly")))]
const NO_SIGNAL: i32 = 0;

/// The flag for a single write that does not wait, where there is one.
#[cfg(any(target_os = "linux", target_os = "android"))]
const DO_NOT_WAIT: Option<i32> = Some(0x40);
#[cfg(any(target_vendor = "apple", target_os = "freebsd", target_os = "dragonfly"))]
const DO_NOT_WAIT: Option<i32> = Some(0x80);
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_vendor = "apple",
    target_os = "freebsd",
    target_os = "dragonfly"
)))]
const DO_NOT_WAIT: Option<i32> = None;

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use socket2::{Domain, Type};

    fn pair() -> (SocketTransport, Socket) {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        (SocketTransport::new(ours, false).unwrap(), theirs)
    }

    #[test]
    fn a_read_without_bytes_ends_with_the_tick() {
        let (transport, _peer) = pair();
        let start = std::time::Instant::now();
        let error = transport.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(start.elapsed() >= IDLE_TICK / 2);
    }

    #[test]
    fn a_write_that_does_not_wait_stops_when_the_peer_takes_no_more() {
        let (transport, peer) = pair();
        let chunk = vec![7; 1 << 16];
        let mut sent = 0;
        loop {
            match transport.try_write(&chunk).unwrap() {
                0 => break,
                some => sent += some,
            }
        }
        assert!(sent > 0);
        let mut received = vec![0; sent];
        (&peer).read_exact(&mut received).unwrap();
        assert!(transport.try_write(&chunk).unwrap() > 0);
    }

    #[test]
    fn a_shutdown_wakes_the_reader_and_fails_the_writer_without_a_signal() {
        let (transport, _peer) = pair();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                loop {
                    match transport.read(&mut [0; 8]) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        outcome => return outcome,
                    }
                }
            });
            transport.shutdown();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
        assert_eq!(transport.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        transport.shutdown();
    }
}
