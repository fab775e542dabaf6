//! A client whose connection the test plays itself, and whose states and failures are recorded.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    Client, ClientBuilder, Command, ConnectionState, Error, ErrorKind, HandlerError, Logon, Message,
    MessageHandler, Origin, Result, UnhandledError,
};
use parking_lot::{Condvar, Mutex};

/// How long anything may take before the test is lost.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// What counts as at once, on a busy machine.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(200);
/// How long is looked for something that must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(100);

/// A logged-on client, the peer, and their connection, which the test plays.
pub(crate) struct Scene {
    pub(crate) client: Client,
    pub(crate) record: Record,
    pub(crate) peer: ScriptedPeer,
    pub(crate) connection: PeerConnection,
}

impl Scene {
    /// A client of this name that is connected and logged on.
    pub(crate) fn logged_on(name: &str) -> Scene {
        Scene::prepared(Client::builder(name), |_| {})
    }

    /// The same with settings made before it connects.
    pub(crate) fn prepared(builder: ClientBuilder, prepare: impl FnOnce(&Client)) -> Scene {
        let client = builder.build().expect("a client");
        let record = Record::of(&client);
        let peer = ScriptedPeer::start().expect("a peer");
        prepare(&client);
        let connection = connect(&client, &peer);
        log_on(&client, &connection);
        Scene { client, record, peer, connection }
    }

    /// Starts a waiting call on another thread.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Client) -> T + Send + 'static,
    ) -> Pending<T> {
        begin(&self.client, call)
    }

    /// Makes a waiting call and accepts its command, which must come next and be this one.
    pub(crate) fn accepted<T: Send + 'static>(
        &self,
        command: &str,
        call: impl FnOnce(&Client) -> Result<T> + Send + 'static,
    ) -> T {
        let pending = self.begin(call);
        self.connection.expect(command, SOON).expect("the command");
        self.connection.reply_ok().expect("the answer is sent");
        pending.wait().expect("the command is accepted")
    }

    /// Subscribes under this id, and returns what comes.
    pub(crate) fn subscribe(&self, id: &str) -> Inbox {
        let (handler, inbox) = inbox();
        self.subscribe_with(id, handler);
        inbox
    }

    /// Subscribes under this id with this handler.
    pub(crate) fn subscribe_with(&self, id: &str, handler: impl MessageHandler + 'static) {
        let command = Command::subscribe("t").sub_id(id);
        self.accepted("subscribe", move |client| client.execute_async(command, handler));
    }

    /// Sends data for a subscription.
    pub(crate) fn send(&self, id: &str, data: &str) {
        self.connection.send(&publication(id), data).expect("the client reads");
    }

    /// Returns when everything sent to the client so far has been delivered, and everything it had sent has arrived; what
    /// it sent in answer to the former is on its way.
    pub(crate) fn settle(&self) {
        settle(&self.client, &self.connection);
    }

    /// Has a disconnect handler connect again to the same peer.
    pub(crate) fn reconnect_on_loss(&self) {
        self.client.set_disconnect_handler(reconnects_to(&self.peer));
    }

    /// Accepts the next connection and logs the client on, which somebody else has made connect.
    pub(crate) fn accept_again(&mut self) {
        self.connection = self.peer.accept(SOON).expect("another connection");
        self.connection.logon(&LogonAck::success(), SOON).expect("another logon");
    }
}

/// A disconnect handler that connects to the peer again and logs on.
pub(crate) fn reconnects_to(
    peer: &ScriptedPeer,
) -> impl Fn(&Client, &Error) -> Result<()> + Send + Sync + 'static {
    let uri = peer.uri("json");
    move |client: &Client, _: &Error| {
        client.connect(&uri)?;
        client.logon_with(&in_time())
    }
}

/// A logon that does not wait for ever.
pub(crate) fn in_time() -> Logon {
    Logon::new().timeout(SOON)
}

/// The header of a data message for these subscriptions.
pub(crate) fn publication(ids: &str) -> String {
    format!(r#"{{"c":"p","t":"t","sids":"{ids}"}}"#)
}

/// Connects to a peer without a script, and returns the other end.
pub(crate) fn connect(client: &Client, peer: &ScriptedPeer) -> PeerConnection {
    client.connect(&peer.uri("json")).expect("the peer accepts");
    peer.accept(SOON).expect("the client has connected")
}

/// Logs on over a connection that the test plays.
pub(crate) fn log_on(client: &Client, connection: &PeerConnection) {
    let logon = begin(client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::success(), SOON).expect("a logon");
    logon.wait().expect("the logon is accepted");
}

/// See [`Scene::settle`].
pub(crate) fn settle(client: &Client, connection: &PeerConnection) {
    let flush = begin(client, |client| client.publish_flush());
    connection.skip_to("flush", SOON).expect("a flush");
    connection.reply_ok().expect("the client reads");
    flush.wait().expect("the flush is answered");
}

/// Starts a waiting call on another thread.
pub(crate) fn begin<T: Send + 'static>(
    client: &Client,
    call: impl FnOnce(&Client) -> T + Send + 'static,
) -> Pending<T> {
    let client = client.clone();
    begin_alone(move || {
        let result = call(&client);
        drop(client);
        result
    })
}

/// Starts a waiting call that holds no handle of its own.
pub(crate) fn begin_alone<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    let (sender, result) = mpsc::channel();
    thread::spawn(move || {
        // Nobody may be waiting any more.
        let _ = sender.send((call(), Instant::now()));
    });
    Pending { result }
}

/// A call on another thread. If the test is over before the call is, the call is left alone.
pub(crate) struct Pending<T> {
    result: Receiver<(T, Instant)>,
}

impl<T> Pending<T> {
    /// The result of the call.
    #[track_caller]
    pub(crate) fn wait(self) -> T {
        self.ended().0
    }

    /// The result of the call, and when it returned.
    #[track_caller]
    pub(crate) fn ended(self) -> (T, Instant) {
        match self.result.recv_timeout(SOON) {
            Ok(ended) => ended,
            Err(RecvTimeoutError::Timeout) => panic!("the call still waits after {SOON:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the call panicked"),
        }
    }

    /// The result of a call that must not wait.
    #[track_caller]
    pub(crate) fn at_once(self) -> T {
        match self.result.recv_timeout(AT_ONCE) {
            Ok((result, _)) => result,
            Err(RecvTimeoutError::Timeout) => panic!("the call still waits after {AT_ONCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the call panicked"),
        }
    }

    /// True if the call goes on waiting.
    pub(crate) fn is_waiting(&self) -> bool {
        self.result.recv_timeout(A_WHILE).is_err()
    }
}

/// What a handler received.
pub(crate) struct Inbox {
    messages: Receiver<Message>,
}

/// A handler that keeps what it is given.
pub(crate) fn inbox() -> (impl MessageHandler + 'static, Inbox) {
    let (sender, messages) = mpsc::channel();
    // The test may have stopped looking.
    (move |message: &Message| _ = sender.send(message.clone()), Inbox { messages })
}

impl Inbox {
    /// The next message.
    #[track_caller]
    pub(crate) fn next(&self) -> Message {
        self.messages.recv_timeout(SOON).expect("a message")
    }

    /// The payloads of the next messages.
    #[track_caller]
    pub(crate) fn payloads(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().data_str().expect("text").to_owned()).collect()
    }

    /// What was delivered and not looked at.
    pub(crate) fn rest(&self) -> Vec<Message> {
        self.messages.try_iter().collect()
    }
}

/// What a client told its listeners, in order.
#[derive(Clone, Default)]
pub(crate) struct Record {
    shared: Arc<(Mutex<Vec<Event>>, Condvar)>,
}

/// One thing that a listener was told.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    State(ConnectionState),
    Failure(Failure),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::State(state) => write!(f, "{state}"),
            Event::Failure(failure) => write!(f, "{:?}: {}", failure.error.kind(), failure.error),
        }
    }
}

/// A failure as the exception listener saw it.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) origin: Origin,
    pub(crate) id: Option<String>,
    pub(crate) has_backtrace: bool,
    pub(crate) thread: String,
}

impl Record {
    /// Listens to a client from now on.
    pub(crate) fn of(client: &Client) -> Record {
        let record = Record::default();
        let states = record.clone();
        client.add_connection_state_listener(move |state| states.push(Event::State(state)));
        let failures = record.clone();
        client.set_exception_listener(move |failure: &UnhandledError| {
            failures.push(Event::Failure(Failure {
                error: failure.error().clone(),
                origin: failure.origin(),
                id: failure.id().map(str::to_owned),
                has_backtrace: failure.backtrace().is_some(),
                thread: thread::current().name().unwrap_or_default().to_owned(),
            }));
        });
        record
    }

    /// The states so far.
    pub(crate) fn states(&self) -> Vec<ConnectionState> {
        states(&self.events())
    }

    /// The failures so far.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        failures(&self.events())
    }

    /// Everything so far in short: states by name, failures as kind and text.
    pub(crate) fn story(&self) -> Vec<String> {
        self.events().iter().map(Event::to_string).collect()
    }

    /// Waits until these are all the states that were told.
    #[track_caller]
    pub(crate) fn wait_for_states(&self, wanted: &[ConnectionState]) {
        self.wait(&wanted, |events| states(events) == wanted);
    }

    /// Waits until so many failures were told, and returns them.
    #[track_caller]
    pub(crate) fn wait_for_failures(&self, count: usize) -> Vec<Failure> {
        self.wait(&format_args!("{count} failures"), |events| failures(events).len() >= count);
        self.failures()
    }

    /// Waits for a failure of this kind with this in its text, and returns the first.
    #[track_caller]
    pub(crate) fn wait_for_failure(&self, kind: ErrorKind, text: &str) -> Failure {
        let fits = |f: &Failure| f.error.kind() == kind && f.error.to_string().contains(text);
        self.wait(&format_args!("{kind:?} with {text:?}"), |events| failures(events).iter().any(fits));
        self.failures().into_iter().find(fits).expect("it was there")
    }

    #[track_caller]
    fn wait(&self, wanted: &dyn Debug, done: impl Fn(&[Event]) -> bool) {
        let (events, changed) = &*self.shared;
        let mut events = events.lock();
        let missed = changed.wait_while_for(&mut events, |events| !done(events), SOON).timed_out();
        let came = !missed || done(&events);
        drop(events);
        assert!(came, "waited for {wanted:?}, but there is {:#?}", self.story());
    }

    /// For a listener that records states only.
    pub(crate) fn tell(&self, state: ConnectionState) {
        self.push(Event::State(state));
    }

    fn events(&self) -> Vec<Event> {
        self.shared.0.lock().clone()
    }

    fn push(&self, event: Event) {
        self.shared.0.lock().push(event);
        self.shared.1.notify_all();
    }
}

fn states(events: &[Event]) -> Vec<ConnectionState> {
    let states = events.iter().filter_map(|event| match event {
        Event::State(state) => Some(*state),
        Event::Failure(_) => None,
    });
    states.collect()
}

fn failures(events: &[Event]) -> Vec<Failure> {
    let failures = events.iter().filter_map(|event| match event {
        Event::Failure(failure) => Some(failure.clone()),
        Event::State(_) => None,
    });
    failures.collect()
}

/// An error for callbacks to fail with.
pub(crate) fn failure(text: &str) -> HandlerError {
    HandlerError::from(text.to_owned())
}

/// Something that a callback waits at until the test lets it go on.
#[derive(Clone)]
pub(crate) struct Gate {
    shared: Arc<(Mutex<GateState>, Condvar)>,
}

#[derive(Default)]
struct GateState {
    reached: usize,
    open: bool,
}

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate { shared: Arc::default() }
    }

    /// For the callback: waits until the gate is opened.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock();
        state.reached += 1;
        changed.notify_all();
        changed.wait_while_for(&mut state, |state| !state.open, 2 * SOON);
    }

    /// For the test: waits until so many callbacks have come.
    #[track_caller]
    pub(crate) fn wait_reached(&self, count: usize) {
        let (state, changed) = &*self.shared;
        let mut state = state.lock();
        changed.wait_while_for(&mut state, |state| state.reached < count, SOON);
        let reached = state.reached;
        drop(state);
        assert!(reached >= count, "{reached} callbacks came, not {count}");
    }

    /// How many callbacks have come.
    pub(crate) fn reached(&self) -> usize {
        self.shared.0.lock().reached
    }

    /// How many hold the gate: the test, and the callbacks that were not dropped yet.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.shared)
    }

    /// Lets everybody pass, from now on.
    pub(crate) fn open(&self) {
        self.shared.0.lock().open = true;
        self.shared.1.notify_all();
    }
}

impl Drop for Gate {
    /// A test that fails must not leave a client waiting for its handler.
    fn drop(&mut self) {
        if thread::panicking() {
            self.open();
        }
    }
}
