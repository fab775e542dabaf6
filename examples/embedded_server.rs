//! A server for clients in any language.
//!
//! ```text
//! cargo run --example embedded_server -- [--port N] [--unix PATH] [--instances N]
//! ```
//!
//! It prints its address for JSON clients, and with `--unix` on a second line that of the Unix socket; for another message
//! type replace `json`. `amps_client::testing::Server::quick` says which topics it has, and what else there is to know of
//! it. Only this machine can connect.
//!
//! With `--instances` it is a cluster: so many servers that share what they remember, each with an address of its own, one
//! a line. A port or a path can be given for one instance only.
//!
//! Ctrl-C ends it. It also ends when its standard input is a pipe and the other end is closed: a program that starts it so
//! leaves no server behind. Only then is the Unix socket removed; one that was left behind is replaced at the next start.

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use amps_client::testing::{Cluster, Listener, Server, ServerBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    let Options { builder, instances } = options(std::env::args().skip(1))?;
    let cluster = Cluster::new(builder, instances)?;
    for uri in cluster.servers().iter().flat_map(|server| server.uris("json")) {
        println!("{uri}");
    }
    if stdin_is_pipe()? {
        io::copy(&mut io::stdin(), &mut io::sink())?;
        return Ok(()); // dropping the cluster stops it and removes its socket
    }
    loop {
        std::thread::park();
    }
}

/// What the command line asks for.
struct Options {
    builder: ServerBuilder,
    instances: usize,
}

/// Reads the command line. It listens on TCP always, on a port that the system chooses unless one is given.
fn options(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn Error>> {
    let (mut tcp, mut unix, mut instances) = (Listener::tcp(), None, 1);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--port" => {
                let port: u16 = value.parse().map_err(|_| format!("{value} is not a port"))?;
                tcp = Listener::tcp_at((Ipv4Addr::LOCALHOST, port));
            }
            "--unix" => unix = Some(unix_listener(&value)?),
            "--instances" => instances = value.parse().map_err(|_| format!("{value} is not a number"))?,
            _ => {
                let known = "--port N, --unix PATH and --instances N";
                return Err(format!("no such option: {option}; there are {known}").into());
            }
        }
    }
    let quick = Server::builder().quick_topics().journal(".*").ack_conflation(Duration::from_millis(20));
    let listeners = std::iter::once(tcp).chain(unix);
    let builder = listeners.fold(quick.record_frames(0), ServerBuilder::listen);
    Ok(Options { builder, instances })
}

/// Listens at this path, where a server that was killed may have left its socket.
#[cfg(unix)]
fn unix_listener(path: &str) -> io::Result<Listener> {
    use std::os::unix::{fs::FileTypeExt, net::UnixStream};

    let is_socket = std::fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(Listener::unix(path))
}

#[cfg(not(unix))]
fn unix_listener(_path: &str) -> io::Result<Listener> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets"))
}

/// A terminal is not read: a shell would stop a server in the background for it.
#[cfg(unix)]
fn stdin_is_pipe() -> io::Result<bool> {
    use std::os::{fd::AsFd, unix::fs::FileTypeExt};

    let stdin = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let kind = stdin.metadata()?.file_type();
    Ok(kind.is_fifo() || kind.is_socket())
}

#[cfg(not(unix))]
fn stdin_is_pipe() -> io::Result<bool> {
    use std::io::IsTerminal;

    Ok(!io::stdin().is_terminal())
}
