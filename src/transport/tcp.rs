//! Connecting over TCP: names, addresses and socket options.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Transport;
use super::socket::SocketTransport;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::{IpPreference, TransportOptions, Uri};

/// Connects to the first address of the host that answers.
pub(super) fn connect(uri: &Uri) -> Result<Arc<dyn Transport>> {
    let options = uri.options();
    let deadline = options.connect_timeout.map(|limit| Instant::now() + limit);
    let mut last = None;
    for address in addresses(uri)? {
        match attempt(address, options, deadline) {
            Ok(socket) => {
                return adopt(socket, options).map_err(|e| failure(uri, "the socket cannot be used", e));
            }
            Err(error) => {
                log::debug!(target: "amps::net", "{address} does not answer: {error:?}");
                last = Some((address, error));
            }
        }
    }
    Err(match last {
        Some((address, cause)) => cause.into_error(uri, address),
        None => no_address(uri),
    })
}

/// The addresses of the host, those of the preferred family first; only those of the family of a given local address.
fn addresses(uri: &Uri) -> Result<Vec<SocketAddr>> {
    let unresolved = |source: io::Error| {
        let text = format!("the host `{}` cannot be resolved", uri.host());
        Error::new(ErrorKind::ConnectionRefused, text).with_source(source).with_uri(&uri.to_string())
    };
    let found = (uri.host(), uri.port()).to_socket_addrs().map_err(unresolved)?;
    Ok(in_order(found.collect(), uri.options()))
}

fn in_order(mut found: Vec<SocketAddr>, options: &TransportOptions) -> Vec<SocketAddr> {
    if let Some(local) = options.bind {
        found.retain(|address| address.is_ipv4() == local.is_ipv4());
    }
    let ipv4_first = options.ip_preference == IpPreference::Ipv4;
    found.sort_by_key(|address| address.is_ipv4() != ipv4_first);
    found.dedup();
    found
}

fn no_address(uri: &Uri) -> Error {
    let text = format!("the host `{}` has no address of the family of the local address", uri.host());
    Error::new(ErrorKind::Connection, text).with_uri(&uri.to_string())
}

/// Why one address did not work.
#[derive(Debug)]
enum Cause {
    Socket(&'static str, io::Error),
    Connect(io::Error),
    TimedOut,
}

impl Cause {
    fn into_error(self, uri: &Uri, address: SocketAddr) -> Error {
        let uri_text = uri.to_string();
        let error = match self {
            Cause::Socket(what, source) => return failure(uri, what, source),
            Cause::Connect(source) => {
                Error::new(ErrorKind::ConnectionRefused, format!("cannot connect to {address}"))
                    .with_source(source)
            }
            Cause::TimedOut => {
                Error::new(ErrorKind::Connection, format!("connecting to {address} took longer than allowed"))
            }
        };
        error.with_uri(&uri_text)
    }
}

fn failure(uri: &Uri, what: &str, source: io::Error) -> Error {
    Error::new(ErrorKind::Connection, format!("{what} for {uri}"))
        .with_source(source)
        .with_uri(&uri.to_string())
}

fn attempt(
    address: SocketAddr,
    options: &TransportOptions,
    deadline: Option<Instant>,
) -> Result<Socket, Cause> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(|e| Cause::Socket("no socket", e))?;
    apply(&socket, options)?;
    let address = SockAddr::from(address);
    match deadline {
        None => socket.connect(&address).map_err(cause_of),
        Some(deadline) => match deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Cause::TimedOut),
            left => socket.connect_timeout(&address, left).map_err(cause_of),
        },
    }?;
    Ok(socket)
}

fn cause_of(error: io::Error) -> Cause {
    if error.kind() == io::ErrorKind::TimedOut { Cause::TimedOut } else { Cause::Connect(error) }
}

/// Sets what the connection string asks for, before connecting: a receive buffer only counts then.
fn apply(socket: &Socket, options: &TransportOptions) -> Result<(), Cause> {
    let named = |what: &'static str| move |error| Cause::Socket(what, error);
    socket.set_keepalive(options.keepalive).map_err(named("tcp_keepalive was refused"))?;
    socket.set_tcp_nodelay(options.nodelay).map_err(named("tcp_nodelay was refused"))?;
    if let Some(bytes) = options.sndbuf {
        socket.set_send_buffer_size(bytes).map_err(named("tcp_sndbuf was refused"))?;
    }
    if let Some(bytes) = options.rcvbuf {
        socket.set_recv_buffer_size(bytes).map_err(named("tcp_rcvbuf was refused"))?;
    }
    if let Some(time) = options.linger {
        socket.set_linger((!time.is_zero()).then_some(time)).map_err(named("tcp_linger was refused"))?;
    }
    if let Some(local) = options.bind {
        socket.bind(&local.into()).map_err(named("the local address was refused"))?;
    }
    Ok(())
}

fn adopt(socket: Socket, options: &TransportOptions) -> io::Result<Arc<dyn Transport>> {
    Ok(Arc::new(SocketTransport::new(socket, !options.nodelay)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn listener(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// A socket connected with these options.
    fn connected(options: &str) -> (Socket, TcpListener) {
        let (listener, address) = listener("127.0.0.1:0");
        let uri = Uri::parse(&format!("tcp://{address}/amps/json?{options}")).unwrap();
        let socket =
            attempt(address, uri.options(), None).unwrap_or_else(|cause| panic!("{options}: {cause:?}"));
        (socket, listener)
    }

    /// `wire-protocol` 1.3: each option, seen with getsockopt.
    #[test]
    fn every_socket_option_takes_effect() {
        let (plain, _listener) = connected("");
        assert!(plain.tcp_nodelay().unwrap() && plain.keepalive().unwrap());
        assert_eq!(plain.linger().unwrap(), None);

        let (socket, _listener) = connected("tcp_nodelay=false&tcp_keepalive=0");
        assert!(!socket.tcp_nodelay().unwrap() && !socket.keepalive().unwrap());

        let (socket, _listener) = connected("tcp_linger=7");
        assert_eq!(socket.linger().unwrap(), Some(Duration::from_secs(7)));
        let (socket, _listener) = connected("tcp_linger=0");
        assert_eq!(socket.linger().unwrap(), None);

        // Some systems double the figure for their own bookkeeping.
        let (socket, _listener) = connected("tcp_sndbuf=50000&tcp_rcvbuf=60000");
        assert!([50_000, 100_000].contains(&socket.send_buffer_size().unwrap()));
        assert!([60_000, 120_000].contains(&socket.recv_buffer_size().unwrap()));

        let (socket, _listener) = connected("bind=127.0.0.1");
        assert_eq!(socket.local_addr().unwrap().as_socket().unwrap().ip().to_string(), "127.0.0.1");
        let (_, free) = listener("127.0.0.1:0");
        let (socket, _listener) = connected(&format!("bind={free}"));
        assert_eq!(socket.local_addr().unwrap().as_socket(), Some(free));
    }

    #[test]
    fn the_preferred_family_comes_first_and_the_other_after_it() {
        let v4: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let v6: SocketAddr = "[::1]:1".parse().unwrap();
        let ordered = |options: &str| {
            let uri = Uri::parse(&format!("tcp://h:1/amps/json?{options}")).unwrap();
            in_order(vec![v6, v4, v6], uri.options())
        };
        assert_eq!(ordered(""), [v4, v6, v6][..2]);
        assert_eq!(ordered("ip_protocol_prefer=ipv6"), [v6, v4]);
        assert_eq!(ordered("bind=[::1]"), [v6]);
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        // Nothing listens on the IPv4 address of the name, which is tried first.
        let uri = Uri::parse(&format!("tcp://localhost:{port}/amps/json")).unwrap();
        if addresses(&uri).unwrap().iter().any(SocketAddr::is_ipv6) {
            connect(&uri).unwrap();
        }
    }

    #[test]
    fn a_refused_connection_and_an_unknown_host_are_refusals_with_the_text_of_the_system() {
        use std::error::Error as _;
        let (listener, address) = listener("127.0.0.1:0");
        drop(listener);
        let refused = connect(&Uri::parse(&format!("tcp://u:pw@{address}/amps/json")).unwrap()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert!(refused.source().is_some() && !format!("{refused:?}").contains("pw@"), "{refused:?}");
        let unknown = connect(&Uri::parse("tcp://no-such-host.invalid:1/amps/json").unwrap()).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::ConnectionRefused);
        assert!(unknown.to_string().contains("no-such-host.invalid") && unknown.source().is_some());
    }

    #[test]
    fn a_local_address_that_cannot_be_used_is_a_connection_error() {
        let (_listener, address) = listener("127.0.0.1:0");
        let (_taken, taken) = listener("127.0.0.1:0");
        let uri = Uri::parse(&format!("tcp://{address}/amps/json?bind={taken}")).unwrap();
        assert_eq!(connect(&uri).unwrap_err().kind(), ErrorKind::Connection);
        let uri = Uri::parse(&format!("tcp://{address}/amps/json?bind=[::1]")).unwrap();
        assert_eq!(connect(&uri).unwrap_err().kind(), ErrorKind::Connection);
    }

    #[test]
    fn a_connect_that_takes_too_long_is_a_connection_error() {
        // A full backlog leaves further attempts unanswered.
        let (listener, address) = listener("127.0.0.1:0");
        let socket = socket2::SockRef::from(&listener);
        socket.listen(0).unwrap();
        let uri = Uri::parse(&format!("tcp://{address}/amps/json?tcp_connecttimeout=100")).unwrap();
        let waiting: Vec<_> = (0..8).map(|_| connect(&uri)).collect();
        let start = Instant::now();
        match connect(&uri) {
            Ok(_) => {} // This system takes any number.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
                assert!(start.elapsed() < Duration::from_secs(2));
            }
        }
        drop(waiting);
    }
}
