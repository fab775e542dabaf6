//! The thread that accepts connections at an endpoint, and those who tell it to stop and to go on.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::{SockAddr, Socket};

use super::LOG;
use super::endpoint::{Endpoint, Waker, is_same};

/// An endpoint that is open or shut: connections are accepted, or refused.
///
/// One thread [attends](Door::attend) to it. It alone listens, accepts, and ceases to listen; everybody else says what is
/// wanted.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) endpoint: Endpoint,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    is_open: bool,
    /// Whose connections are none, but a sign that what is wanted has changed.
    wakers: Vec<SockAddr>,
    /// Why it could not be opened.
    error: Option<io::Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Open,
    Shut,
    /// The thread is to end.
    Nothing,
}

/// How long the thread may take to do what is wanted.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a waiting thread looks what is wanted, if nothing wakes it.
const WAKE: Duration = Duration::from_millis(200);

impl Door {
    pub(crate) fn new(endpoint: Endpoint) -> Arc<Door> {
        let state = State { wanted: Wanted::Nothing, is_open: false, wakers: Vec::new(), error: None };
        Arc::new(Door { endpoint, state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Listens; what is returned is for the thread that will attend.
    pub(crate) fn unlock(&self) -> io::Result<Socket> {
        let listener = self.listen()?;
        let mut state = self.state.lock();
        state.wanted = Wanted::Open;
        state.is_open = true;
        Ok(listener)
    }

    /// Hands on every connection, or why one could not be accepted, until [`end`](Door::end).
    pub(crate) fn attend(&self, first: Socket, welcome: impl Fn(io::Result<Socket>)) {
        let mut listener = Some(first);
        loop {
            let wanted = self.state.lock().wanted;
            match (wanted, listener.take()) {
                (Wanted::Nothing, open) => return self.shut(open),
                (Wanted::Open, Some(open)) => {
                    self.accept_one(&open, &welcome);
                    listener = Some(open);
                }
                (Wanted::Open, None) => listener = self.reopen(),
                (Wanted::Shut, open) => {
                    open.iter().for_each(|open| self.drain(open, &welcome));
                    self.shut(open);
                    let mut state = self.state.lock();
                    self.changed.wait_while(&mut state, |state| state.wanted == Wanted::Shut);
                }
            }
        }
    }

    /// Refuses connections from now on; returns when they are refused.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.want(Wanted::Shut);
        self.wait(|state| !state.is_open || state.wanted != Wanted::Shut)
    }

    /// Refuses connections before long; for the thread that attends.
    pub(crate) fn close_soon(&self) {
        self.want(Wanted::Shut);
    }

    /// Accepts connections again; returns when they are accepted.
    pub(crate) fn open(&self) -> io::Result<()> {
        self.want(Wanted::Open);
        self.wait(|state| state.is_open || state.wanted != Wanted::Open)?;
        self.state.lock().error.take().map_or(Ok(()), Err)
    }

    /// Has the thread end.
    pub(crate) fn end(&self) {
        self.want(Wanted::Nothing);
    }

    fn want(&self, wanted: Wanted) {
        let waker = if wanted == Wanted::Open { None } else { self.waker() };
        let mut state = self.state.lock();
        if state.wanted == Wanted::Nothing {
            return;
        }
        state.wanted = wanted;
        state.error = None;
        state.wakers.extend(waker.as_ref().map(Waker::address));
        self.changed.notify_all();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn waker(&self) -> Option<Waker> {
        let waker = self.endpoint.waker();
        waker.inspect_err(|e| log::debug!(target: LOG, "an acceptor wakes by itself only: {e}")).ok()
    }

    fn wait(&self, done: impl Fn(&State) -> bool) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock();
        let missed = self.changed.wait_while_until(&mut state, |state| !done(state), deadline).timed_out();
        if missed && !done(&state) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    fn listen(&self) -> io::Result<Socket> {
        let listener = self.endpoint.listen()?;
        if let Err(error) = listener.set_read_timeout(Some(WAKE)) {
            log::debug!(target: LOG, "a listener without a time-out: {error}");
        }
        Ok(listener)
    }

    fn reopen(&self) -> Option<Socket> {
        let opened = self.listen();
        let mut state = self.state.lock();
        state.is_open = opened.is_ok();
        if opened.is_err() {
            state.wanted = Wanted::Shut;
        }
        self.changed.notify_all();
        opened.map_err(|error| state.error = Some(error)).ok()
    }

    fn shut(&self, listener: Option<Socket>) {
        drop(listener);
        self.endpoint.hold();
        let mut state = self.state.lock();
        state.is_open = false;
        state.wakers.clear();
        self.changed.notify_all();
    }

    /// Accepts whoever has been connected by the system already: they were not refused.
    fn drain(&self, listener: &Socket, welcome: &impl Fn(io::Result<Socket>)) {
        if listener.set_nonblocking(true).is_ok() {
            while self.accept_one(listener, welcome) {}
        }
    }

    /// Waits for a connection and hands it on; false if there is none to be had.
    fn accept_one(&self, listener: &Socket, welcome: &impl Fn(io::Result<Socket>)) -> bool {
        match listener.accept() {
            Ok((_, from)) if self.is_waker(&from) => return true,
            Ok((socket, _)) => welcome(ready(socket)),
            Err(error) if is_passing(&error) => return true,
            Err(error) if is_nobody(&error) => return false,
            Err(error) => {
                welcome(Err(error));
                return false;
            }
        }
        true
    }

    fn is_waker(&self, from: &SockAddr) -> bool {
        let mut state = self.state.lock();
        let known = state.wakers.iter().position(|waker| is_same(waker, from));
        known.map(|index| state.wakers.swap_remove(index)).is_some()
    }
}

/// An accepted socket, free of what it may have inherited from its listener.
fn ready(socket: Socket) -> io::Result<Socket> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(None)?;
    // A Unix socket has no such option, and needs none.
    let _ = socket.set_tcp_nodelay(true);
    Ok(socket)
}

/// The connection is gone again: nothing to speak of.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn is_refused(address: SocketAddr) -> bool {
        TcpStream::connect(address).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    }

    #[test]
    fn a_door_opens_and_shuts_as_often_as_it_is_told() {
        let door = Door::new(Endpoint::tcp((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let address = door.endpoint.address().unwrap();
        let first = door.unlock().unwrap();
        let welcomed = AtomicUsize::new(0);
        let count = |_| {
            welcomed.fetch_add(1, Ordering::SeqCst);
        };
        thread::scope(|scope| {
            let attending = &door;
            let attendant = scope.spawn(move || attending.attend(first, count));
            for _ in 0..3 {
                assert!(TcpStream::connect(address).is_ok());
                door.close().unwrap();
                assert!(is_refused(address));
                door.close().unwrap();
                door.open().unwrap();
            }
            door.end();
            attendant.join().unwrap();
        });
        assert!(is_refused(address));
        assert_eq!(welcomed.load(Ordering::SeqCst), 3, "wakers are nobody, and nobody was forgotten");
    }

    #[test]
    fn a_door_may_be_shut_by_whom_it_lets_in() {
        let door = Door::new(Endpoint::tcp((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let address = door.endpoint.address().unwrap();
        let first = door.unlock().unwrap();
        thread::scope(|scope| {
            let attending = &door;
            let attendant = scope.spawn(move || attending.attend(first, |_| attending.close_soon()));
            let _client = TcpStream::connect(address).unwrap();
            door.wait(|state| !state.is_open).unwrap();
            assert!(is_refused(address));
            door.open().unwrap();
            door.end();
            attendant.join().unwrap();
        });
    }
}
