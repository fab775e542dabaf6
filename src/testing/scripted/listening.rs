//! The thread that accepts connections, and those who tell it to stop and to go on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockAddr, Socket};

use super::connection::PeerConnection;
use super::endpoint::is_same;
use super::reader::read;
use super::script::ConnectionScript;
use super::state::{Link, Missed, Shared, after};
use crate::error::{Error, ErrorKind, Result};

/// Which script a connection runs.
#[derive(Debug, Default)]
pub(super) struct Scripts {
    /// That of the first connection, of the second and so on.
    pub(super) listed: Vec<Arc<ConnectionScript>>,
    /// That of every further connection.
    pub(super) otherwise: Option<Arc<ConnectionScript>>,
}

impl Scripts {
    pub(super) fn all(&self) -> impl Iterator<Item = &ConnectionScript> {
        self.listed.iter().chain(&self.otherwise).map(Arc::as_ref)
    }

    fn of(&self, number: usize) -> Option<&Arc<ConnectionScript>> {
        self.listed.get(number - 1).or(self.otherwise.as_ref())
    }
}

/// Accepts connections until everything ends.
pub(super) fn accept(shared: &Arc<Shared>, first: Socket, scripts: &Scripts) {
    let mut listener = Some(first);
    loop {
        match (wanted(shared), listener.take()) {
            (Wanted::Nothing, _) => return,
            (Wanted::Connections, Some(open)) => {
                accept_one(shared, &open, scripts);
                listener = Some(open);
            }
            (Wanted::Connections, None) => listener = open(shared),
            (Wanted::Refusal, open) => {
                open.iter().for_each(|open| drain(shared, open, scripts));
                drop(open);
                shared.change(|state| {
                    state.listening.actual = false;
                    state.listening.waker = None;
                });
                // If everything ends instead, the next look shows it.
                let _ = shared.wait(after(Duration::MAX), |state| state.listening.wanted.then_some(()));
            }
        }
    }
}

enum Wanted {
    Connections,
    Refusal,
    Nothing,
}

fn wanted(shared: &Shared) -> Wanted {
    shared.look(|state| match state.listening.wanted {
        _ if state.stopped => Wanted::Nothing,
        true => Wanted::Connections,
        false => Wanted::Refusal,
    })
}

fn open(shared: &Shared) -> Option<Socket> {
    let opened = shared.endpoint.listen();
    shared.change(|state| match &opened {
        Ok(_) => state.listening.actual = true,
        Err(error) => {
            state.listening.wanted = false;
            state.listening.error = Some(error.to_string());
        }
    });
    opened.ok()
}

/// Accepts whoever has been connected by the system already: they were not refused.
fn drain(shared: &Arc<Shared>, listener: &Socket, scripts: &Scripts) {
    if listener.set_nonblocking(true).is_ok() {
        while accept_one(shared, listener, scripts) {}
    }
}

/// Waits for a connection and starts it; false if there is none to be had.
fn accept_one(shared: &Arc<Shared>, listener: &Socket, scripts: &Scripts) -> bool {
    let error = match listener.accept() {
        Ok((_, from)) if is_waker(shared, &from) => return true,
        Ok((socket, _)) => match start(shared, socket, scripts) {
            Ok(()) => return true,
            Err(error) => error,
        },
        Err(error) if is_passing(&error) => return true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
        Err(error) => {
            let text = "the scripted peer cannot accept connections";
            Error::new(ErrorKind::Connection, text).with_source(error)
        }
    };
    shared.fail(error);
    shared.change(|state| state.listening.wanted = false);
    false
}

fn is_waker(shared: &Shared, from: &SockAddr) -> bool {
    shared.look(|state| state.listening.waker.as_ref().is_some_and(|waker| is_same(waker, from)))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

/// Starts the threads of a connection: one that reads, and one that runs the script if there is one.
fn start(shared: &Arc<Shared>, socket: Socket, scripts: &Scripts) -> Result<()> {
    socket.set_nonblocking(false).map_err(|e| {
        Error::new(ErrorKind::Connection, "the scripted peer cannot use a connection").with_source(e)
    })?;
    // A Unix socket has no such option, and needs none.
    let _ = socket.set_tcp_nodelay(true);
    let socket = Arc::new(socket);
    let entered = shared.change(|state| {
        if state.stopped {
            return None;
        }
        state.links.push(Link { socket: Some(socket.clone()), ..Link::default() });
        let number = state.links.len();
        let script = scripts.of(number).cloned();
        match script {
            Some(_) => state.running_scripts += 1,
            None => state.unclaimed.push_back(number),
        }
        Some((number, script))
    });
    let Some((number, script)) = entered else { return Ok(()) };
    let reader = shared.clone();
    shared.spawn(format!("peer-read-{number}"), move || read(&reader, number, socket))?;
    let Some(script) = script else { return Ok(()) };
    let running = Running(shared.clone());
    shared.spawn(format!("peer-step-{number}"), move || {
        script.run(PeerConnection::new(running.0.clone(), number));
    })
}

/// Counts a script as running until it is dropped.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.change(|state| state.running_scripts -= 1);
    }
}

impl Shared {
    /// Closes the listener; returns when connections are refused.
    pub(super) fn refuse(&self) -> Result<()> {
        let _one_at_a_time = self.listening_changes.lock();
        let waker = self.endpoint.waker().map_err(|e| {
            Error::new(ErrorKind::Connection, "the listener cannot be told to close").with_source(e)
        })?;
        self.change(|state| {
            state.listening.wanted = false;
            state.listening.waker = Some(waker.address());
        });
        waker.wake();
        let closed = self.wait(after(self.timeout), |state| (!state.listening.actual).then_some(()));
        closed.map_err(|missed| match missed {
            Missed::Stopped => stopped(),
            Missed::TimedOut => Error::new(ErrorKind::TimedOut, "the listener could not be closed in time"),
        })
    }

    /// Opens the listener again, on the same address; returns when connections are accepted.
    pub(super) fn listen_again(&self) -> Result<()> {
        let _one_at_a_time = self.listening_changes.lock();
        self.change(|state| {
            state.listening.wanted = true;
            state.listening.error = None;
        });
        let opened = self.wait(after(self.timeout), |state| match state.listening.error.take() {
            Some(error) => Some(Err(error)),
            None => state.listening.actual.then_some(Ok(())),
        });
        match opened {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Error::new(
                ErrorKind::Connection,
                format!("the address cannot be listened on again: {why}"),
            )),
            Err(Missed::Stopped) => Err(stopped()),
            Err(Missed::TimedOut) => {
                Err(Error::new(ErrorKind::TimedOut, "the listener could not be opened in time"))
            }
        }
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Disconnected, "the scripted peer has ended")
}
