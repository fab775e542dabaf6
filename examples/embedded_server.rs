//! A server for clients in any language.
//!
//! ```text
//! cargo run --example embedded_server -- [--port N] [--unix PATH]
//! ```
//!
//! It prints its address for JSON clients, and with `--unix` on a second line that of the Unix socket; for another message
//! type replace `json`. `amps_client::testing::Server::quick` says which topics it has. Only this machine can connect.
//!
//! Ctrl-C ends it. It also ends when its standard input is a pipe and the other end is closed: a program that starts it so
//! leaves no server behind. Only then is the Unix socket removed; one that was left behind is replaced at the next start.

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;

use amps_client::testing::{Listener, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = Server::builder().quick_topics().record_frames(0);
    for listener in listeners(std::env::args().skip(1))? {
        builder = builder.listen(listener);
    }
    let server = builder.start()?;
    for uri in server.uris("json") {
        println!("{uri}");
    }
    if stdin_is_pipe()? {
        io::copy(&mut io::stdin(), &mut io::sink())?;
        return Ok(()); // dropping the server stops it and removes its socket
    }
    loop {
        std::thread::park();
    }
}

/// Where to listen, from the command line: TCP always, on a port that the system chooses unless one is given.
fn listeners(mut args: impl Iterator<Item = String>) -> Result<Vec<Listener>, Box<dyn Error>> {
    let (mut tcp, mut unix) = (Listener::tcp(), None);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--port" => {
                let port: u16 = value.parse().map_err(|_| format!("{value} is not a port"))?;
                tcp = Listener::tcp_at((Ipv4Addr::LOCALHOST, port));
            }
            "--unix" => unix = Some(unix_listener(&value)?),
            _ => return Err(format!("no such option: {option}; there are --port N and --unix PATH").into()),
        }
    }
    Ok(std::iter::once(tcp).chain(unix).collect())
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
