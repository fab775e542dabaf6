//! Moves bytes, with time limits, and can be shut down from another thread.
//!
//! * [`socket`]: the bytes of a connected socket, whatever its family.
//! * [`tcp`]: names, addresses and socket options; connecting over TCP.
//! * [`unix`]: connecting over a Unix socket.

mod socket;
mod tcp;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::uri::{Scheme, Uri};

/// How long a read waits for a byte before it reports that there is none: the idle tick of the receive thread.
pub(crate) const IDLE_TICK: Duration = Duration::from_millis(100);

/// A connected stream of bytes. One thread reads; one at a time writes; any thread may shut it down.
pub(crate) trait Transport: Send + Sync + fmt::Debug {
    /// Reads some bytes. 0 is the end of the stream; [`io::ErrorKind::WouldBlock`] says that nothing came within
    /// [`IDLE_TICK`].
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes, waiting for the peer as long as it takes.
    fn write_all(&self, bytes: &[u8]) -> io::Result<()>;

    /// Writes what can be written without waiting; possibly nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ends both directions and wakes whoever reads or writes. May be called more than once.
    fn shutdown(&self);

    /// While on, small frames leave at once even if the connection string says otherwise.
    fn set_urgent(&self, _urgent: bool) {}

    /// A duplicate of the socket's descriptor.
    #[cfg(unix)]
    fn descriptor(&self) -> Option<std::os::fd::OwnedFd> {
        None
    }
}

/// Opens the transport that a connection string names.
///
/// Blocks for the name lookup, which has no limit of its own, and for `tcp_connecttimeout` or as long as the system
/// tries.
///
/// # Errors
///
/// * `TransportType`: this build does not have the transport, or something it was asked to do.
/// * `ConnectionRefused`: refused, unreachable, or the name cannot be resolved.
/// * `Connection`: the time is over, or a socket option or the local address was refused.
pub(crate) fn connect(uri: &Uri) -> Result<Arc<dyn Transport>> {
    check_available(uri)?;
    match uri.scheme() {
        Scheme::Tcp | Scheme::Tcps => tcp::connect(uri),
        #[cfg(unix)]
        Scheme::Unix => unix::connect(uri),
        #[cfg(not(unix))]
        Scheme::Unix => Err(unavailable(uri, "Unix sockets do not exist on this system")),
    }
}

/// Refuses what is not built yet, rather than connecting without it.
fn check_available(uri: &Uri) -> Result<()> {
    let options = uri.options();
    let missing = match uri.scheme() {
        Scheme::Tcps => "the transport `tcps` is not available in this version",
        _ if options.compression.is_some() => "the option `compression` is not available in this version",
        _ if options.http_preflight => "the option `http_preflight` is not available in this version",
        _ => return Ok(()),
    };
    Err(unavailable(uri, missing))
}

fn unavailable(uri: &Uri, why: &str) -> Error {
    Error::new(ErrorKind::TransportType, format!("{why}: {uri}")).with_uri(&uri.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_built_is_refused_by_name_before_a_socket_is_opened() {
        let table = [
            ("tcps://h:1/amps/json", "tcps"),
            ("tcp://h:1/amps/json?compression=zlib", "compression"),
            ("tcp://h:1/amps/json?http_preflight=true", "http_preflight"),
        ];
        for (text, named) in table {
            let error = connect(&Uri::parse(text).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TransportType, "{text}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
