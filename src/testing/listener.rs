//! Where a server listens, and the thread that accepts.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;

use super::LOG;
use super::door::Door;
use super::endpoint::Endpoint;
use super::payload::PayloadType;
use super::socket::Socket;
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
        let endpoint = match &self.address {
            Address::Tcp(address) if !allow_remote && !address.ip().is_loopback() => {
                let text =
                    format!("`{address}` can be reached by other machines; allow_remote() permits that");
                return Err(Error::new(ErrorKind::Usage, text));
            }
            Address::Tcp(address) => Endpoint::tcp(*address).map_err(|e| cannot_listen(address, e))?,
            #[cfg(unix)]
            Address::Unix(path) => Endpoint::unix(path.clone()),
            #[cfg(unix)]
            Address::UnixTemp => Endpoint::unix_temp("amps-server")
                .map_err(|e| cannot_listen(&"a Unix socket in a temporary directory", e))?,
        };
        Ok(Port {
            door: Door::new(endpoint),
            message_types: self.message_types.clone(),
            acceptor: Mutex::default(),
        })
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
    door: Arc<Door>,
    message_types: MessageTypes,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl Port {
    /// Listens, and accepts on a thread of its own. Does nothing if it does so already.
    pub(crate) fn open(&self, number: usize, welcome: Welcome) -> Result<()> {
        let mut acceptor = self.acceptor.lock();
        let opened = match &*acceptor {
            Some(_) => self.door.open(),
            None => self.start(number, welcome).map(|thread| *acceptor = Some(thread)),
        };
        opened.map_err(|e| cannot_listen(&self.door.endpoint, e))
    }

    fn start(&self, number: usize, welcome: Welcome) -> io::Result<JoinHandle<()>> {
        let first = self.door.unlock()?;
        let (door, types) = (self.door.clone(), self.message_types.clone());
        let accept = move || {
            door.attend(first, |accepted| match accepted {
                Ok(socket) => welcome(Socket::new(socket), &types),
                Err(error) => {
                    log::error!(target: LOG, "cannot accept a connection: {error}");
                    thread::sleep(Duration::from_millis(10));
                }
            });
        };
        let name = format!("amps-server-accept-{number}");
        thread::Builder::new().name(name).spawn(accept).inspect_err(|_| self.door.end())
    }

    /// Refuses connections from now on; returns when they are refused.
    pub(crate) fn close(&self) {
        if let Err(error) = self.door.close() {
            log::error!(target: LOG, "{} is still listened at: {error}", self.door.endpoint);
        }
    }

    /// Refuses connections before long; for the thread that accepts.
    pub(crate) fn close_soon(&self) {
        self.door.close_soon();
    }

    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Ends the thread that accepts. Blocks until it has ended.
    pub(crate) fn end(&self) {
        if let Some(acceptor) = self.acceptor.lock().take() {
            self.door.end();
            // An acceptor that panicked accepts no more either.
            let _ = acceptor.join();
        }
    }

    /// Removes what the listener left in the file system.
    pub(crate) fn clean_up(&self) {
        self.door.endpoint.clean_up();
    }

    pub(crate) fn uri(&self, message_type: &str) -> String {
        self.door.endpoint.uri(message_type)
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.door.endpoint.address()
    }

    /// The path of a Unix socket.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.door.endpoint.path()
    }
}

fn cannot_listen(place: &dyn fmt::Display, error: io::Error) -> Error {
    Error::new(ErrorKind::Connection, format!("cannot listen on {place}")).with_source(error)
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
