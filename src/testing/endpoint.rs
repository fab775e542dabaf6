//! An address at which somebody listens on and off: a TCP port or a Unix socket.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};

use super::LOG;
use super::temp_dir::TempDir;

/// An address that stays the same however often it is listened at, and that belongs to its owner in between.
#[derive(Debug)]
pub(crate) struct Endpoint {
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// The address, and a socket that holds it while nobody listens: connections are refused, and no one else gets the
    /// port.
    Tcp {
        address: SocketAddr,
        held: Mutex<Option<Socket>>,
    },
    Unix {
        path: PathBuf,
        directory: Option<TempDir>,
    },
}

/// How many connections wait at most to be accepted.
const BACKLOG: i32 = 128;

impl Endpoint {
    /// A TCP address; for port 0 the system chooses one. Nobody listens yet.
    pub(crate) fn tcp(address: impl Into<SocketAddr>) -> io::Result<Endpoint> {
        let socket = bound(&SockAddr::from(address.into()))?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Endpoint { place: Place::Tcp { address, held: Mutex::new(Some(socket)) } })
    }

    /// A Unix socket at this path, which must not exist when it is listened at.
    pub(crate) fn unix(path: PathBuf) -> Endpoint {
        Endpoint { place: Place::Unix { path, directory: None } }
    }

    /// A Unix socket in a fresh directory, whose name begins so.
    pub(crate) fn unix_temp(prefix: &str) -> io::Result<Endpoint> {
        let directory = TempDir::new(prefix)?;
        let path = directory.path().join("amps.sock");
        Ok(Endpoint { place: Place::Unix { path, directory: Some(directory) } })
    }

    /// Listens, for the first time or after [`hold`](Endpoint::hold).
    pub(crate) fn listen(&self) -> io::Result<Socket> {
        let socket = match &self.place {
            Place::Tcp { address, held } => {
                // Elsewhere a socket that does not listen may take the connections away from the one that does.
                let held = if cfg!(target_os = "linux") { None } else { held.lock().take() };
                held.map_or_else(|| bound(&SockAddr::from(*address)), Ok)?
            }
            Place::Unix { path, directory } => {
                directory.iter().try_for_each(TempDir::create)?;
                bound(&SockAddr::unix(path)?)?
            }
        };
        socket.listen(BACKLOG)?;
        Ok(socket)
    }

    /// Keeps the address while nobody listens there; the socket that did is closed by now.
    pub(crate) fn hold(&self) {
        match &self.place {
            Place::Tcp { address, held } => {
                let mut held = held.lock();
                if held.is_none() {
                    *held = bound(&SockAddr::from(*address))
                        .inspect_err(|e| log::warn!(target: LOG, "{address} is not held while closed: {e}"))
                        .ok();
                }
            }
            // It may never have been listened at.
            Place::Unix { path, .. } => drop(std::fs::remove_file(path)),
        }
    }

    /// Removes what there is in the file system.
    pub(crate) fn clean_up(&self) {
        if let Place::Unix { directory: Some(directory), .. } = &self.place {
            directory.remove();
        }
    }

    /// Something to wake a thread with that waits for a connection.
    pub(crate) fn waker(&self) -> io::Result<Waker> {
        let (from, target, directory) = match &self.place {
            Place::Tcp { address, .. } => {
                let target = reachable(*address);
                (SockAddr::from(SocketAddr::new(target.ip(), 0)), SockAddr::from(target), None)
            }
            Place::Unix { path, .. } => {
                let directory = TempDir::new("amps-waker")?;
                (SockAddr::unix(directory.path().join("waker"))?, SockAddr::unix(path)?, Some(directory))
            }
        };
        let socket = stream(&from)?;
        socket.bind(&from)?;
        Ok(Waker { address: socket.local_addr()?, socket, target, _directory: directory })
    }

    pub(crate) fn uri(&self, message_type: &str) -> String {
        match &self.place {
            Place::Tcp { address, .. } => format!("tcp://{address}/amps/{message_type}"),
            Place::Unix { path, .. } => {
                format!("unix://localhost:0/amps/{message_type}?path={}", path.display())
            }
        }
    }

    /// The address, if it is one of TCP.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Tcp { address, .. } => Some(*address),
            Place::Unix { .. } => None,
        }
    }

    /// The path of a Unix socket.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp { .. } => None,
            Place::Unix { path, .. } => Some(path),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { address, .. } => address.fmt(f),
            Place::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

/// A connection that wakes the acceptor, made from an address by which the acceptor knows it.
#[derive(Debug)]
pub(crate) struct Waker {
    socket: Socket,
    address: SockAddr,
    target: SockAddr,
    /// Where the socket of a Unix waker lies.
    _directory: Option<TempDir>,
}

impl Waker {
    /// Where the connection comes from.
    pub(crate) fn address(&self) -> SockAddr {
        self.address.clone()
    }

    pub(crate) fn wake(self) {
        // If it fails nobody listens, or other connections are waiting and wake the thread as well.
        let _ = self.socket.connect_timeout(&self.target, Duration::from_millis(100));
    }
}

/// True if the two are the address of the same port or of the same file.
pub(crate) fn is_same(one: &SockAddr, other: &SockAddr) -> bool {
    match one.as_socket() {
        Some(address) => Some(address) == other.as_socket(),
        None => one.as_pathname().is_some() && one.as_pathname() == other.as_pathname(),
    }
}

/// An address by which this machine reaches what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn stream(address: &SockAddr) -> io::Result<Socket> {
    Socket::new(address.domain(), Type::STREAM, None)
}

fn bound(address: &SockAddr) -> io::Result<Socket> {
    let socket = stream(address)?;
    if cfg!(unix) && address.domain() != Domain::UNIX {
        // Else a restart would have to wait for the connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
    }
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn tcp() -> Endpoint {
        Endpoint::tcp((Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    #[test]
    fn a_port_refuses_connections_while_nobody_listens_and_stays_the_same() {
        let endpoint = tcp();
        let address = endpoint.address().unwrap();
        for _ in 0..2 {
            assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            let listener = endpoint.listen().unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let _accepted = listener.accept().unwrap();
            drop(listener);
            endpoint.hold();
        }
    }

    #[test]
    fn nobody_else_gets_the_address_while_it_is_listened_at() {
        let endpoint = tcp();
        let _listener = endpoint.listen().unwrap();
        let error = Endpoint::tcp(endpoint.address().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_waker_is_known_by_its_address_and_harmless_if_nobody_listens() {
        for endpoint in [tcp(), Endpoint::unix_temp("amps-test").unwrap()] {
            let listener = endpoint.listen().unwrap();
            let waker = endpoint.waker().unwrap();
            let address = waker.address();
            waker.wake();
            let (_, from) = listener.accept().unwrap();
            assert!(is_same(&from, &address), "{from:?} {address:?}");
            assert!(!is_same(&from, &endpoint.waker().unwrap().address()));
            drop(listener);
            endpoint.waker().unwrap().wake();
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_goes_with_its_directory() {
        let endpoint = Endpoint::unix_temp("amps-test").unwrap();
        let path = endpoint.path().unwrap().to_owned();
        assert_eq!(endpoint.uri("json"), format!("unix://localhost:0/amps/json?path={}", path.display()));
        let connect = || std::os::unix::net::UnixStream::connect(&path);
        for _ in 0..2 {
            let listener = endpoint.listen().unwrap();
            connect().unwrap();
            drop(listener);
            assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            endpoint.hold();
            assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        endpoint.clean_up();
        assert!(!path.parent().unwrap().exists());
    }
}
