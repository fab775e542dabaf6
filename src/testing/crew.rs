//! The connections of a running server and the threads that serve them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::LOG;
use super::connection::{Connection, Terms};
use super::faults::Moment;
use super::hub::Hub;
use super::listener::MessageTypes;
use super::session::SessionId;
use super::socket::Socket;

/// Welcomes connections, and sees them all off in the end.
pub(crate) struct Crew {
    hub: Arc<Hub>,
    instance: usize,
    terms: Terms,
    last_number: AtomicU64,
    /// The thread of each connection. It owns the connection, so that the socket is closed when both have ended, and not at
    /// the next welcome.
    live: Mutex<Vec<(Weak<Connection>, JoinHandle<()>)>>,
}

impl Crew {
    pub(crate) fn new(hub: Arc<Hub>, instance: usize, terms: Terms) -> Crew {
        Crew { hub, instance, terms, last_number: AtomicU64::new(0), live: Mutex::default() }
    }

    /// The number of the connection accepted last.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number.load(Ordering::SeqCst)
    }

    /// Takes in a connection that a listener accepted, and starts its threads.
    pub(crate) fn welcome(&self, listener: usize, socket: Socket, types: &MessageTypes) {
        let number = self.last_number.fetch_add(1, Ordering::SeqCst) + 1;
        let id = SessionId { instance: self.instance, number };
        let connection = Arc::new(Connection::new(id, listener, socket, types.clone(), &self.terms));
        self.terms.recorder.count(|counters| counters.connections += 1);
        connection.strike(&Moment::Accepted, &self.hub);
        if !connection.outbox().is_open() {
            return connection.close();
        }
        self.hub.enter(connection.clone());
        let (reader, hub) = (connection.clone(), self.hub.clone());
        let known = Arc::downgrade(&connection);
        let name = format!("amps-server-rx-{number}");
        match thread::Builder::new().name(name).spawn(move || reader.serve(&hub)) {
            Ok(thread) => {
                let mut live = self.live.lock();
                live.retain(|(_, thread)| !thread.is_finished());
                live.push((known, thread));
            }
            Err(error) => {
                log::error!(target: LOG, "{id}: no thread, the connection is closed: {error}");
                connection.close();
                self.hub.leave(id);
            }
        }
    }

    /// Closes every connection and waits for its threads. The listeners are closed before.
    pub(crate) fn dismiss(&self) {
        let live = std::mem::take(&mut *self.live.lock());
        live.iter()
            .filter_map(|(connection, _)| connection.upgrade())
            .for_each(|connection| connection.close());
        let own = thread::current().id();
        // A server that is stopped from one of its own hooks cannot wait for that hook.
        for (_, thread) in live.into_iter().filter(|(_, thread)| thread.thread().id() != own) {
            // A thread that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("instance", &self.instance).finish_non_exhaustive()
    }
}
