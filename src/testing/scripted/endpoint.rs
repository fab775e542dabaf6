//! Where a peer listens: a loopback port or a Unix socket, which it keeps while it refuses connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// An address that belongs to the peer until it is dropped.
#[derive(Debug)]
pub(super) struct Endpoint {
    place: Place,
    /// Bound and never listening: connections are refused, and nobody else is given the port.
    _reserved: Option<Socket>,
}

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(TemporarySocket),
}

/// A socket path in a directory that goes with it.
#[derive(Debug)]
struct TemporarySocket {
    directory: PathBuf,
    path: PathBuf,
}

impl Endpoint {
    /// A free port of the IPv4 loopback address, and the socket that listens there.
    pub(super) fn tcp() -> io::Result<(Endpoint, Socket)> {
        let first = bound(&any_port())?;
        let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        if cfg!(target_os = "linux") {
            let endpoint = Endpoint { place: Place::Tcp(address), _reserved: Some(first) };
            let listener = endpoint.listen()?;
            return Ok((endpoint, listener));
        }
        // Elsewhere a socket that does not listen may take the connections away from the one that does.
        first.listen(BACKLOG)?;
        Ok((Endpoint { place: Place::Tcp(address), _reserved: None }, first))
    }

    /// A Unix socket in a fresh directory, and the socket that listens there.
    pub(super) fn unix() -> io::Result<(Endpoint, Socket)> {
        let endpoint = Endpoint { place: Place::Unix(TemporarySocket::new()?), _reserved: None };
        let listener = endpoint.listen()?;
        Ok((endpoint, listener))
    }

    /// Listens, for the first time or again.
    pub(super) fn listen(&self) -> io::Result<Socket> {
        if let Place::Unix(socket) = &self.place {
            socket.remove();
        }
        let listener = bound(&self.socket_address()?)?;
        listener.listen(BACKLOG)?;
        Ok(listener)
    }

    /// Something to wake a thread with that waits in `accept`.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        let (from, file) = match &self.place {
            Place::Tcp(_) => (any_port(), None),
            Place::Unix(socket) => {
                let file = socket.directory.join("waker");
                (SockAddr::unix(&file)?, Some(file))
            }
        };
        let socket = stream(&from)?;
        socket.bind(&from)?;
        Ok(Waker { address: socket.local_addr()?, socket, target: self.socket_address()?, file })
    }

    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Tcp(address) => Some(*address),
            Place::Unix(_) => None,
        }
    }

    pub(super) fn unix_path(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp(_) => None,
            Place::Unix(socket) => Some(&socket.path),
        }
    }

    pub(super) fn uri(&self, message_type: &str) -> String {
        match &self.place {
            Place::Tcp(address) => format!("tcp://{address}/amps/{message_type}"),
            Place::Unix(socket) => {
                format!("unix://localhost:0/amps/{message_type}?path={}", socket.path.display())
            }
        }
    }

    /// Removes what there is in the file system; the endpoint cannot be used after it.
    pub(super) fn remove_files(&self) {
        if let Place::Unix(socket) = &self.place {
            socket.remove_all();
        }
    }

    fn socket_address(&self) -> io::Result<SockAddr> {
        match &self.place {
            Place::Tcp(address) => Ok(SockAddr::from(*address)),
            Place::Unix(socket) => SockAddr::unix(&socket.path),
        }
    }
}

const BACKLOG: i32 = 128;

/// A connection that wakes the acceptor, made from an address by which the acceptor knows it.
#[derive(Debug)]
pub(super) struct Waker {
    socket: Socket,
    address: SockAddr,
    target: SockAddr,
    file: Option<PathBuf>,
}

impl Waker {
    /// Where the connection comes from.
    pub(super) fn address(&self) -> SockAddr {
        self.address.clone()
    }

    pub(super) fn wake(self) {
        // If it fails nobody listens, or other connections are waiting and wake the thread as well.
        let _ = self.socket.connect_timeout(&self.target, Duration::from_millis(100));
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // It is in a directory of ours, which goes as well.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// True if the two are the address of the same port or of the same file.
pub(super) fn is_same(one: &SockAddr, other: &SockAddr) -> bool {
    match one.as_socket() {
        Some(address) => Some(address) == other.as_socket(),
        None => one.as_pathname().is_some() && one.as_pathname() == other.as_pathname(),
    }
}

fn any_port() -> SockAddr {
    SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

fn stream(address: &SockAddr) -> io::Result<Socket> {
    Socket::new(address.domain(), Type::STREAM, None)
}

fn bound(address: &SockAddr) -> io::Result<Socket> {
    let socket = stream(address)?;
    if address.domain() != Domain::UNIX {
        // Connections of the same port that are still closing must not be in the way.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        #[cfg(target_os = "linux")]
        socket.set_reuse_port(true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

impl TemporarySocket {
    fn new() -> io::Result<TemporarySocket> {
        let parent = std::env::temp_dir();
        let mut number = 0;
        loop {
            let directory = parent.join(format!("amps-peer-{}-{number}", std::process::id()));
            match create_private(&directory) {
                Ok(()) => return Ok(TemporarySocket { path: directory.join("socket"), directory }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn remove(&self) {
        // Before the first use there is nothing to remove.
        let _ = std::fs::remove_file(&self.path);
    }

    fn remove_all(&self) {
        self.remove();
        // The second time there is nothing to remove.
        let _ = std::fs::remove_dir(&self.directory);
    }
}

impl Drop for TemporarySocket {
    fn drop(&mut self) {
        self.remove_all();
    }
}

fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_port_refuses_connections_while_nobody_listens_and_stays_the_same() {
        let (endpoint, listener) = Endpoint::tcp().unwrap();
        let address = endpoint.tcp_address().unwrap();
        for listener in [Some(listener), None] {
            let listener = listener.map_or_else(|| endpoint.listen(), Ok).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let _accepted = listener.accept().unwrap();
            drop(listener);
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
    }

    #[test]
    fn a_waker_is_known_by_its_address_and_harmless_if_nobody_listens() {
        for endpoint in [Endpoint::tcp, Endpoint::unix] {
            let (endpoint, listener) = endpoint().unwrap();
            let waker = endpoint.waker().unwrap();
            let address = waker.address();
            waker.wake();
            let (_, from) = listener.accept().unwrap();
            assert!(is_same(&from, &address), "{from:?} {address:?}");
            assert!(!is_same(&from, &endpoint.socket_address().unwrap()));
            drop(listener);
            endpoint.waker().unwrap().wake();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_goes_with_its_directory() {
        let (endpoint, listener) = Endpoint::unix().unwrap();
        let path = endpoint.unix_path().unwrap().to_owned();
        let (other, _) = Endpoint::unix().unwrap();
        assert_ne!(other.unix_path(), Some(&*path));
        assert_eq!(endpoint.uri("json"), format!("unix://localhost:0/amps/json?path={}", path.display()));
        let connect = || std::os::unix::net::UnixStream::connect(&path);
        connect().unwrap();
        drop(listener);
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let again = endpoint.listen().unwrap();
        connect().unwrap();
        drop((again, endpoint));
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }
}
