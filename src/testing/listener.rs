//! Where a server listens, and the thread that accepts.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, SockRef, Type};

use super::LOG;
use super::payload::PayloadType;
use super::socket::Socket;
#[cfg(unix)]
use super::temp_dir::TempDir;
use crate::error::{Error, ErrorKind, Result};

/// One place where a [`Server`](super::Server) listens, and what it accepts there.
///
/// ```
/// use amps_client::testing::{Listener, Server};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder()
///     .listen(Listener::tcp().message_types(["json"]))
///     .listen(Listener::tcp().message_types(["fix", "nvfix"]))
///     .start()?;
/// assert_eq!(server.uris("json").len(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Listener {
    address: Address,
    message_types: MessageTypes,
}

#[derive(Debug, Clone)]
enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
    #[cfg(unix)]
    UnixTemp,
}

impl Listener {
    /// TCP on the IPv4 loopback address, on a port that the system chooses.
    pub fn tcp() -> Listener {
        Listener::tcp_at((Ipv4Addr::LOCALHOST, 0))
    }

    /// TCP on the IPv6 loopback address, on a port that the system chooses. Starting fails where there is no IPv6.
    pub fn tcp_v6() -> Listener {
        Listener::tcp_at((Ipv6Addr::LOCALHOST, 0))
    }

    /// TCP on this address. One that other machines can reach is refused unless
    /// [`allow_remote`](super::ServerBuilder::allow_remote) is on.
    pub fn tcp_at(address: impl Into<SocketAddr>) -> Listener {
        Listener::new(Address::Tcp(address.into()))
    }

    /// A Unix socket at this path, which must not exist yet. It is removed when the server stops.
    #[cfg(unix)]
    pub fn unix(path: impl Into<PathBuf>) -> Listener {
        Listener::new(Address::Unix(path.into()))
    }

    /// A Unix socket in a fresh directory for temporary files, which is removed when the server stops.
    #[cfg(unix)]
    pub fn unix_temp() -> Listener {
        Listener::new(Address::UnixTemp)
    }

    fn new(address: Address) -> Listener {
        Listener { address, message_types: MessageTypes::Any }
    }

    /// The message types that may log on here. Default: `json`, `fix`, `nvfix` and `binary`.
    ///
    /// With exactly one, a logon need not name it.
    #[must_use]
    pub fn message_types<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Listener {
        self.message_types = MessageTypes::Only(names.into_iter().map(Into::into).collect());
        self
    }

    /// Takes the address, without listening yet.
    pub(crate) fn bind(&self, allow_remote: bool) -> Result<Port> {
        self.message_types.check()?;
        let place = match &self.address {
            Address::Tcp(address) if !allow_remote && !address.ip().is_loopback() => {
                let text =
                    format!("`{address}` can be reached by other machines; allow_remote() permits that");
                return Err(Error::new(ErrorKind::Usage, text));
            }
            Address::Tcp(address) => Place::hold_tcp(*address)?,
            #[cfg(unix)]
            Address::Unix(path) => Place::Unix { path: path.clone(), dir: None },
            #[cfg(unix)]
            Address::UnixTemp => {
                let dir = TempDir::new("amps-server").map_err(|e| {
                    Error::new(ErrorKind::Connection, "cannot make a directory").with_source(e)
                })?;
                Place::Unix { path: dir.path().join("amps.sock"), dir: Some(dir) }
            }
        };
        Ok(Port { place, message_types: self.message_types.clone(), acceptor: Mutex::default() })
    }
}

/// Which message types a listener accepts.
#[derive(Debug, Clone)]
pub(crate) enum MessageTypes {
    Any,
    Only(Vec<String>),
}

impl MessageTypes {
    /// The message type of a session that names this one, or none.
    pub(crate) fn choose(&self, named: &str) -> Option<(String, PayloadType)> {
        let name = match (self, named) {
            (MessageTypes::Only(list), "") => match list.as_slice() {
                [only] => only,
                _ => return None,
            },
            (MessageTypes::Only(list), named) => list.iter().find(|name| *name == named)?,
            (MessageTypes::Any, named) => named,
        };
        Some((name.to_owned(), PayloadType::of(name)?))
    }

    fn check(&self) -> Result<()> {
        let MessageTypes::Only(list) = self else { return Ok(()) };
        match list.iter().find(|name| PayloadType::of(name).is_none()) {
            Some(unknown) => Err(Error::new(ErrorKind::Usage, format!("unknown message type `{unknown}`"))),
            None => Ok(()),
        }
    }
}

/// What to do with an accepted connection.
pub(crate) type Welcome = Arc<dyn Fn(Socket, &MessageTypes) + Send + Sync>;

/// A listener of a running server. Its address stays the same however often it is opened and closed.
#[derive(Debug)]
pub(crate) struct Port {
    place: Place,
    message_types: MessageTypes,
    acceptor: Mutex<Option<Acceptor>>,
}

#[derive(Debug)]
enum Place {
    /// The address, and a socket that holds it while nobody listens: connections are refused, and no one else gets the
    /// port.
    Tcp { address: SocketAddr, held: Mutex<Option<socket2::Socket>> },
    #[cfg(unix)]
    Unix { path: PathBuf, dir: Option<TempDir> },
}

struct Acceptor {
    closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Port {
    /// Listens, and accepts on a thread of its own. Does nothing if it does so already.
    pub(crate) fn open(&self, number: usize, welcome: Welcome) -> Result<()> {
        let mut acceptor = self.acceptor.lock();
        if acceptor.is_some() {
            return Ok(());
        }
        let failed = |error: io::Error| {
            let text = format!("cannot listen on {}", self.place);
            Error::new(ErrorKind::Connection, text).with_source(error)
        };
        let door = self.place.listen().map_err(failed)?;
        let closing = Arc::new(AtomicBool::new(false));
        let (types, stop) = (self.message_types.clone(), closing.clone());
        let accept = move || door.accept_all(&stop, |socket| welcome(socket, &types));
        let thread = thread::Builder::new().name(format!("amps-server-accept-{number}")).spawn(accept);
        *acceptor = Some(Acceptor { closing, thread: thread.map_err(failed)? });
        Ok(())
    }

    /// Stops listening; connections are refused from now on. Blocks until the thread has ended.
    pub(crate) fn close(&self) {
        if let Some(acceptor) = self.acceptor.lock().take() {
            acceptor.closing.store(true, Ordering::SeqCst);
            self.place.knock();
            // An acceptor that panicked accepts no more either.
            let _ = acceptor.thread.join();
            self.place.hold();
        }
    }

    /// Removes what the listener left in the file system.
    pub(crate) fn clean_up(&self) {
        self.place.clean_up();
    }

    pub(crate) fn uri(&self, message_type: &str) -> String {
        match &self.place {
            Place::Tcp { address, .. } => format!("tcp://{address}/amps/{message_type}"),
            #[cfg(unix)]
            Place::Unix { path, .. } => {
                format!("unix://localhost:0/amps/{message_type}?path={}", path.display())
            }
        }
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Tcp { address, .. } => Some(*address),
            #[cfg(unix)]
            Place::Unix { .. } => None,
        }
    }

    /// The path of a Unix socket.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Tcp { .. } => None,
            #[cfg(unix)]
            Place::Unix { path, .. } => Some(path),
        }
    }
}

impl Place {
    fn hold_tcp(address: SocketAddr) -> Result<Place> {
        let bound = bound(address).and_then(|socket| {
            let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
            Ok(Place::Tcp { address, held: Mutex::new(Some(socket)) })
        });
        bound.map_err(|e| {
            Error::new(ErrorKind::Connection, format!("cannot listen on {address}")).with_source(e)
        })
    }

    fn listen(&self) -> io::Result<Door> {
        match self {
            Place::Tcp { address, held } => {
                // Elsewhere a socket that does not listen may take the connections away from the one that does.
                let held = if cfg!(target_os = "linux") { None } else { held.lock().take() };
                let socket = held.map_or_else(|| bound(*address), Ok)?;
                socket.listen(128)?;
                Ok(Door::Tcp(socket.into()))
            }
            #[cfg(unix)]
            Place::Unix { path, dir } => {
                if let Some(dir) = dir {
                    dir.create()?;
                }
                UnixListener::bind(path).map(Door::Unix)
            }
        }
    }

    /// Keeps the address while nobody listens there.
    fn hold(&self) {
        match self {
            Place::Tcp { address, held } => {
                let mut held = held.lock();
                if held.is_none() {
                    *held = bound(*address)
                        .inspect_err(|e| log::warn!(target: LOG, "{address} is not held while closed: {e}"))
                        .ok();
                }
            }
            #[cfg(unix)]
            Place::Unix { path, .. } => drop(std::fs::remove_file(path)),
        }
    }

    /// Wakes the acceptor. Should that fail, it wakes by itself before long.
    fn knock(&self) {
        match self {
            Place::Tcp { address, .. } => {
                let ip = match address.ip() {
                    ip if !ip.is_unspecified() => ip,
                    IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
                };
                drop(TcpStream::connect_timeout(&(ip, address.port()).into(), WAKE));
            }
            #[cfg(unix)]
            Place::Unix { path, .. } => drop(UnixStream::connect(path)),
        }
    }

    fn clean_up(&self) {
        match self {
            Place::Tcp { .. } => {}
            #[cfg(unix)]
            Place::Unix { dir, .. } => {
                if let Some(dir) = dir {
                    dir.remove();
                }
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp { address, .. } => address.fmt(f),
            #[cfg(unix)]
            Place::Unix { path, .. } => path.display().fmt(f),
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if cfg!(unix) {
        // Else a restart would have to wait for the connections of the last run to be forgotten.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// How often a waiting acceptor looks whether it is to end, if nothing wakes it.
const WAKE: Duration = Duration::from_millis(200);

/// A listening socket.
enum Door {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Door {
    /// Accepts until told to end; the body of the acceptor thread.
    fn accept_all(&self, closing: &AtomicBool, welcome: impl Fn(Socket)) {
        self.wake_regularly();
        loop {
            let accepted = self.accept();
            if closing.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok(socket) => welcome(socket),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    log::error!(target: LOG, "cannot accept a connection: {error}");
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }

    fn accept(&self) -> io::Result<Socket> {
        match self {
            Door::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                // Where accepted sockets inherit the time-out of their listener.
                stream.set_read_timeout(None)?;
                Ok(Socket::Tcp(stream))
            }
            #[cfg(unix)]
            Door::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_read_timeout(None)?;
                Ok(Socket::Unix(stream))
            }
        }
    }

    fn wake_regularly(&self) {
        let set = match self {
            Door::Tcp(listener) => SockRef::from(listener).set_read_timeout(Some(WAKE)),
            #[cfg(unix)]
            Door::Unix(listener) => SockRef::from(listener).set_read_timeout(Some(WAKE)),
        };
        if let Err(error) = set {
            log::debug!(target: LOG, "a listener without a time-out: {error}");
        }
    }
}

/// The connection was gone again, or nobody came: nothing to speak of.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut | WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_with_one_message_type_needs_no_name() {
        let one = MessageTypes::Only(vec!["fix".into()]);
        let two = MessageTypes::Only(vec!["fix".into(), "json".into()]);
        let name = |types: &MessageTypes, named| types.choose(named).map(|(name, _)| name);
        assert_eq!(name(&one, "").as_deref(), Some("fix"));
        assert_eq!(name(&one, "json"), None);
        assert_eq!(name(&two, ""), None);
        assert_eq!(name(&two, "json").as_deref(), Some("json"));
        assert_eq!(name(&MessageTypes::Any, "nvfix").as_deref(), Some("nvfix"));
        assert_eq!(name(&MessageTypes::Any, "morse"), None);
        assert_eq!(name(&MessageTypes::Any, ""), None);
    }

    /// A-3.
    #[test]
    fn an_address_that_others_can_reach_must_be_allowed() {
        let listener = Listener::tcp_at((Ipv4Addr::UNSPECIFIED, 0));
        assert_eq!(listener.bind(false).unwrap_err().kind(), ErrorKind::Usage);
        assert!(listener.bind(true).is_ok());
    }

    #[test]
    fn an_unknown_message_type_is_refused_by_name() {
        let error = Listener::tcp().message_types(["morse"]).bind(false).unwrap_err();
        assert!(error.to_string().contains("morse"), "{error}");
    }
}
