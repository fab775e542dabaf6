//! Connecting over a Unix socket.

use std::io;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::Transport;
use super::socket::SocketTransport;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::{TransportOptions, Uri};

/// Connects to the file that the option `path` names.
pub(super) fn connect(uri: &Uri) -> Result<Arc<dyn Transport>> {
    let options = uri.options();
    let path = options.path.as_deref().unwrap_or_else(|| std::path::Path::new(""));
    let error = |kind, what: &str, source: io::Error| {
        Error::new(kind, format!("{what} `{}`", path.display()))
            .with_source(source)
            .with_uri(&uri.to_string())
    };
    let broken = |source| error(ErrorKind::Connection, "the socket cannot be used for", source);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(broken)?;
    apply(&socket, options).map_err(broken)?;
    let address = SockAddr::unix(path).map_err(broken)?;
    socket.connect(&address).map_err(|e| error(ErrorKind::ConnectionRefused, "cannot connect to", e))?;
    Ok(Arc::new(SocketTransport::new(socket, false).map_err(broken)?))
}

fn apply(socket: &Socket, options: &TransportOptions) -> io::Result<()> {
    socket.set_keepalive(options.keepalive)?;
    if let Some(bytes) = options.sndbuf {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.rcvbuf {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(time) = options.linger {
        socket.set_linger((!time.is_zero()).then_some(time))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    /// A directory of this test's own, removed at its end.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("amps-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Folder(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn bytes_travel_over_a_unix_socket_with_its_options() {
        let folder = Folder::new("unix-options");
        let file = folder.0.join("s");
        let listener = UnixListener::bind(&file).unwrap();
        let text =
            format!("unix://localhost:0/amps/json?path={}&unix_linger=3&unix_sndbuf=40000", file.display());
        let uri = Uri::parse(&text).unwrap();
        let transport = connect(&uri).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        transport.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        io::Read::read_exact(&mut peer, &mut got).unwrap();
        assert_eq!(&got, b"hello");

        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        apply(&socket, uri.options()).unwrap();
        assert_eq!(socket.linger().unwrap(), Some(Duration::from_secs(3)));
        assert!([40_000, 80_000].contains(&socket.send_buffer_size().unwrap()));
        assert!(socket.keepalive().unwrap());
    }

    #[test]
    fn a_missing_file_is_a_refusal_that_names_it() {
        let folder = Folder::new("unix-missing");
        let file = folder.0.join("nobody");
        let uri = Uri::parse(&format!("unix://localhost:0/amps/json?path={}", file.display())).unwrap();
        let error = connect(&uri).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains("nobody"), "{error}");
    }
}
