//! The thread that accepts connections, and those who tell it to stop and to go on.

use std::io;
use std::sync::Arc;

use socket2::Socket;

use super::connection::PeerConnection;
use super::reader::read;
use super::script::ConnectionScript;
use super::state::{Link, Shared};
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
    shared.door.attend(first, |accepted| {
        if let Err(error) = accepted.map_err(cannot_accept).and_then(|socket| start(shared, socket, scripts))
        {
            shared.fail(error);
            shared.door.close_soon();
        }
    });
}

fn cannot_accept(error: io::Error) -> Error {
    Error::new(ErrorKind::Connection, "the scripted peer cannot accept connections").with_source(error)
}

/// Starts the threads of a connection: one that reads, and one that runs the script if there is one.
fn start(shared: &Arc<Shared>, socket: Socket, scripts: &Scripts) -> Result<()> {
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
        self.check_running()?;
        let error =
            |e| Error::new(ErrorKind::TimedOut, "the listener could not be closed in time").with_source(e);
        self.door.close().map_err(error)
    }

    /// Opens the listener again, on the same address; returns when connections are accepted.
    pub(super) fn listen_again(&self) -> Result<()> {
        self.check_running()?;
        self.door.open().map_err(|e| match e.kind() {
            io::ErrorKind::TimedOut => {
                Error::new(ErrorKind::TimedOut, "the listener could not be opened in time")
            }
            _ => Error::new(ErrorKind::Connection, "the address cannot be listened on again").with_source(e),
        })
    }

    fn check_running(&self) -> Result<()> {
        match self.look(|state| state.stopped) {
            true => Err(Error::new(ErrorKind::Disconnected, "the scripted peer has ended")),
            false => Ok(()),
        }
    }
}
