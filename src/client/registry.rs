//! The callbacks of one client: who they are, and how they are called.
//!
//! Every call is made under `catch_unwind` and with no lock of the library held but the callback's own, which keeps two threads
//! from running it at once. The bookmark store is asked under that of the handler whose messages it records. What goes wrong
//! in one goes to the exception listener; what goes wrong in that goes nowhere.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::DisconnectHandler;
use super::context::{ListenerScope, ThreadKey};
use super::panics;
use crate::callbacks::{
    ConnectionState, ConnectionStateListener, ExceptionListener, FailedWriteHandler, MessageHandler, Origin,
    UnhandledError,
};
use crate::error::{Error, ErrorKind, HandlerError};

/// A message handler that any receive thread may call, one at a time.
///
/// The lock is taken for a run of messages and by receive threads only: it makes sure that a handler shared by two
/// connections is never run by two threads at once.
pub(crate) type HandlerCell = Arc<Mutex<Box<dyn MessageHandler>>>;

pub(crate) fn cell(handler: impl MessageHandler + 'static) -> HandlerCell {
    Arc::new(Mutex::new(Box::new(handler)))
}

/// A failed-write handler, called by one receive thread at a time.
pub(crate) type FailedWriteCell = Arc<Mutex<Box<dyn FailedWriteHandler>>>;

/// Which of the handlers that belong to no subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    Ack,
    Heartbeat,
    Duplicate,
    LastChance,
}

impl Global {
    pub(crate) fn origin(self) -> Origin {
        match self {
            Global::Ack | Global::Heartbeat => Origin::GlobalHandler,
            Global::Duplicate => Origin::DuplicateHandler,
            Global::LastChance => Origin::LastChanceHandler,
        }
    }
}

/// Identifies a connection-state listener, for its removal.
///
/// ```
/// use amps_client::{Client, ConnectionState};
///
/// # fn main() -> amps_client::Result<()> {
/// let client = Client::builder("watched").build()?;
/// let id = client.add_connection_state_listener(|state: ConnectionState| println!("{state}"));
/// assert!(client.remove_connection_state_listener(id));
/// assert!(!client.remove_connection_state_listener(id));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(u64);

type ThreadCallback = Arc<dyn Fn() -> Result<(), HandlerError> + Send + Sync>;

/// The callbacks of one client.
#[derive(Default)]
pub(crate) struct Registry {
    callbacks: Mutex<Callbacks>,
    turn: Mutex<Turn>,
    turn_over: Condvar,
    /// The last handle has gone: nobody is told anything any more.
    silent: AtomicBool,
}

#[derive(Default)]
struct Callbacks {
    exception: Option<Arc<dyn ExceptionListener>>,
    states: Vec<(ListenerId, Arc<dyn ConnectionStateListener>)>,
    next_listener: u64,
    globals: [Option<HandlerCell>; 4],
    failed_write: Option<FailedWriteCell>,
    disconnect: Option<Arc<dyn DisconnectHandler>>,
    thread_created: Option<ThreadCallback>,
    thread_exiting: Option<ThreadCallback>,
}

/// Whose turn it is to announce states, and what they are to announce besides.
#[derive(Default)]
struct Turn {
    taken_by: Option<ThreadKey>,
    waiting: VecDeque<ConnectionState>,
}

impl Registry {
    pub(crate) fn set_exception_listener(&self, listener: Option<Arc<dyn ExceptionListener>>) {
        let old = std::mem::replace(&mut self.callbacks.lock().exception, listener);
        drop(old);
    }

    pub(crate) fn set_global(&self, which: Global, handler: Option<HandlerCell>) {
        let old = {
            let mut callbacks = self.callbacks.lock();
            callbacks.globals.get_mut(which as usize).and_then(|slot| std::mem::replace(slot, handler))
        };
        drop(old);
    }

    pub(crate) fn global(&self, which: Global) -> Option<HandlerCell> {
        self.callbacks.lock().globals.get(which as usize).cloned().flatten()
    }

    pub(crate) fn set_failed_write(&self, handler: Option<FailedWriteCell>) {
        let old = std::mem::replace(&mut self.callbacks.lock().failed_write, handler);
        drop(old);
    }

    pub(crate) fn failed_write(&self) -> Option<FailedWriteCell> {
        self.callbacks.lock().failed_write.clone()
    }

    pub(crate) fn set_disconnect_handler(&self, handler: Option<Arc<dyn DisconnectHandler>>) {
        let old = std::mem::replace(&mut self.callbacks.lock().disconnect, handler);
        drop(old);
    }

    pub(crate) fn disconnect_handler(&self) -> Option<Arc<dyn DisconnectHandler>> {
        self.callbacks.lock().disconnect.clone()
    }

    pub(crate) fn set_thread_created(&self, callback: Option<ThreadCallback>) {
        let old = std::mem::replace(&mut self.callbacks.lock().thread_created, callback);
        drop(old);
    }

    pub(crate) fn set_thread_exiting(&self, callback: Option<ThreadCallback>) {
        let old = std::mem::replace(&mut self.callbacks.lock().thread_exiting, callback);
        drop(old);
    }

    /// Runs the callback for new receive threads.
    pub(crate) fn thread_created(&self) -> Result<(), Failure> {
        let callback = self.callbacks.lock().thread_created.clone();
        callback.map_or(Ok(()), |callback| contain(|| callback()))
    }

    /// Runs the callback for ending receive threads.
    pub(crate) fn thread_exiting(&self) {
        let callback = self.callbacks.lock().thread_exiting.clone();
        if let Some(Err(failure)) = callback.map(|callback| contain(|| callback())) {
            self.report(failure.unhandled(Origin::ThreadCallback));
        }
    }

    /// Adds a listener; one that is in the list already, as a clone of the same `Arc`, keeps its place and its id.
    pub(crate) fn add_state_listener(&self, listener: Arc<dyn ConnectionStateListener>) -> ListenerId {
        let mut callbacks = self.callbacks.lock();
        // Of the listener inside, which may be an `Arc` itself.
        let identity = (*listener).identity();
        let same =
            |known: &Arc<dyn ConnectionStateListener>| identity.is_some() && (**known).identity() == identity;
        if let Some((id, _)) = callbacks.states.iter().find(|(_, known)| same(known)) {
            return *id;
        }
        callbacks.next_listener += 1;
        let id = ListenerId(callbacks.next_listener);
        callbacks.states.push((id, listener));
        id
    }

    pub(crate) fn remove_state_listener(&self, id: ListenerId) -> bool {
        let removed = {
            let mut callbacks = self.callbacks.lock();
            let at = callbacks.states.iter().position(|(known, _)| *known == id);
            at.map(|at| callbacks.states.remove(at))
        };
        removed.is_some()
    }

    pub(crate) fn clear_state_listeners(&self) {
        let all = std::mem::take(&mut self.callbacks.lock().states);
        drop(all);
    }

    /// From now on nothing is told any more; a call that is running may finish.
    pub(crate) fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    /// Tells every listener, on this thread, after whoever is telling them something now, or not at all if that takes
    /// longer than `limit`; `admit` is asked when it is this thread's turn. What a listener itself changes is told after
    /// the current call (S-2).
    pub(crate) fn announce(
        &self,
        client: u64,
        state: ConnectionState,
        limit: Option<Duration>,
        admit: impl FnOnce() -> bool,
    ) {
        let me = ThreadKey::current();
        {
            let mut turn = self.turn.lock();
            if turn.taken_by == Some(me) {
                drop(turn);
                if admit() {
                    self.turn.lock().waiting.push_back(state);
                }
                return;
            }
            let is_taken = |turn: &mut Turn| turn.taken_by.is_some();
            match limit {
                None => self.turn_over.wait_while(&mut turn, is_taken),
                Some(limit) => _ = self.turn_over.wait_while_for(&mut turn, is_taken, limit),
            }
            if turn.taken_by.is_some() {
                return;
            }
            turn.taken_by = Some(me);
        }
        let mut next = admit().then_some(state);
        if next.is_none() {
            self.end_turn();
        }
        while let Some(state) = next {
            self.tell(client, state);
            next = self.end_turn();
        }
    }

    /// The next state that the turn's owner is to tell; without one the turn is over.
    fn end_turn(&self) -> Option<ConnectionState> {
        let mut turn = self.turn.lock();
        let next = turn.waiting.pop_front();
        if next.is_none() {
            turn.taken_by = None;
            self.turn_over.notify_one();
        }
        next
    }

    fn tell(&self, client: u64, state: ConnectionState) {
        log::info!(target: "amps::net", "connection state: {state}");
        let listeners = self.callbacks.lock().states.clone();
        let _scope = ListenerScope::enter(client);
        for (_, listener) in listeners {
            if self.is_silent() {
                return;
            }
            let told = contain(|| {
                listener.on_state_change(state);
                Ok(())
            });
            if let Err(failure) = told {
                self.report(failure.unhandled(Origin::ConnectionStateListener));
            }
        }
    }

    /// Hands a failure without a caller to the exception listener, or to the log.
    pub(crate) fn report(&self, failure: UnhandledError) {
        if self.is_silent() {
            return;
        }
        let listener = self.callbacks.lock().exception.clone();
        match listener {
            // A listener that panics is the end of the line (X-5).
            Some(listener) => drop(catch_unwind(AssertUnwindSafe(|| listener.on_exception(&failure)))),
            None => log::warn!(target: "amps::handler", "{failure}"),
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

/// How a callback failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    backtrace: Option<std::backtrace::Backtrace>,
}

impl Failure {
    /// A callback returned an error. The backtrace is that of the place where it entered the library.
    #[cold]
    pub(crate) fn returned(error: HandlerError) -> Failure {
        let backtrace = panics::current_backtrace();
        let error = Error::new(ErrorKind::HandlerFailed, error.to_string()).with_source(error);
        Failure { error, backtrace }
    }

    /// A callback panicked with this payload.
    #[cold]
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Failure {
        let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
            (Some(text), _) => text,
            (_, Some(text)) => text.as_str(),
            _ => "a panic without a text",
        };
        let backtrace = panics::take_backtrace();
        Failure { error: Error::new(ErrorKind::HandlerPanicked, text), backtrace }
    }

    /// True if what the callback returned is our own [`Disconnected`](ErrorKind::Disconnected).
    pub(crate) fn is_disconnect(&self) -> bool {
        let returned =
            std::error::Error::source(&self.error).and_then(|source| source.downcast_ref::<Error>());
        returned.is_some_and(Error::is_disconnect)
    }

    /// The same with words before the text of the error, which becomes the source.
    pub(crate) fn about(self, what: &str) -> Failure {
        let text = format!("{what}: {}", self.error);
        Failure { error: Error::new(self.error.kind(), text).with_source(self.error), ..self }
    }

    pub(crate) fn unhandled(self, origin: Origin) -> UnhandledError {
        UnhandledError::new(self.error, origin).with_backtrace(self.backtrace)
    }
}

/// Calls user code; an error or a panic becomes a [`Failure`].
pub(crate) fn contain<T>(call: impl FnOnce() -> Result<T, HandlerError>) -> Result<T, Failure> {
    let _scope = panics::CallbackScope::enter();
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::returned(error)),
        Err(payload) => Err(Failure::panicked(&*payload)),
    }
}

/// Asks a store, which may be the user's own code: its errors stay what they are, and a panic becomes one.
pub(crate) fn ask<T>(
    origin: Origin,
    call: impl FnOnce() -> crate::error::Result<T>,
) -> Result<T, UnhandledError> {
    let answer = contain(|| Ok(call())).map_err(|failure| failure.unhandled(origin))?;
    answer.map_err(|error| UnhandledError::new(error, origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn log() -> (Arc<Mutex<Vec<ConnectionState>>>, Arc<dyn ConnectionStateListener>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let listener = {
            let seen = Arc::clone(&seen);
            Arc::new(move |state| seen.lock().push(state))
        };
        (seen, listener)
    }

    #[test]
    fn a_state_changed_inside_a_listener_is_told_after_the_current_call() {
        let registry = Arc::new(Registry::default());
        let nested = Arc::clone(&registry);
        registry.add_state_listener(Arc::new(move |state| {
            if state == ConnectionState::Connected {
                nested.announce(1, ConnectionState::Disconnected, None, || true);
            }
        }));
        let (seen, listener) = log();
        registry.add_state_listener(listener);
        registry.announce(1, ConnectionState::Connected, None, || true);
        assert_eq!(*seen.lock(), [ConnectionState::Connected, ConnectionState::Disconnected]);
    }

    /// S-1.
    #[test]
    fn the_same_listener_added_twice_is_called_once() {
        let registry = Registry::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let one = Arc::new(move |_: ConnectionState| _ = count.fetch_add(1, Ordering::Relaxed));
        let first = registry.add_state_listener(Arc::new(Arc::clone(&one)));
        let second = registry.add_state_listener(Arc::new(one));
        assert_eq!(first, second);
        registry.announce(1, ConnectionState::Connected, None, || true);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert!(registry.remove_state_listener(first) && !registry.remove_state_listener(first));
    }

    #[test]
    fn a_failing_listener_harms_nobody_else_and_is_reported() {
        let registry = Registry::default();
        let (reports, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let sink = Arc::clone(&reports);
        registry.set_exception_listener(Some(Arc::new(move |failure: &UnhandledError| {
            sink.lock().push((failure.origin(), failure.error().kind(), failure.error().to_string()));
            panic!("the listener fails too");
        })));
        registry.add_state_listener(Arc::new(|_| panic!("listener one")));
        let counter = Arc::clone(&count);
        registry.add_state_listener(Arc::new(move |_| _ = counter.fetch_add(1, Ordering::Relaxed)));
        registry.announce(1, ConnectionState::Connected, None, || true);
        registry.announce(1, ConnectionState::Disconnected, None, || true);
        assert_eq!(count.load(Ordering::Relaxed), 2);
        let expected =
            (Origin::ConnectionStateListener, ErrorKind::HandlerPanicked, "listener one".to_owned());
        assert_eq!(*reports.lock(), [expected.clone(), expected]);
    }

    #[test]
    fn a_returned_error_is_the_source_of_the_report() {
        let failure = contain::<()>(|| Err("no".into())).unwrap_err();
        assert_eq!(failure.error.kind(), ErrorKind::HandlerFailed);
        assert_eq!(std::error::Error::source(&failure.error).unwrap().to_string(), "no");
    }
}
