//! Closing an `HAClient`, or letting go of it, ends whatever it is doing at once (`resilience` HA-19, section 12).

use std::any::Any;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{
    Authenticator, Command, ConnectionInfo, ConnectionState, DefaultServerChooser, Error, ErrorKind,
    HAClient, MemoryPublishStore, Message, Result, ServerChooser, UnhandledError,
};
use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

use ConnectionState::{Disconnected, LoggedOn, Shutdown};

/// What a client is doing when it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    WaitingForTheDelay,
    Connecting,
    LoggingOn,
    Replaying,
    Resubscribing,
}

const ALL: [Doing; 5] =
    [Doing::WaitingForTheDelay, Doing::Connecting, Doing::LoggingOn, Doing::Replaying, Doing::Resubscribing];

/// A client that is busy, and all that keeps it so.
struct Busy {
    client: HAClient,
    record: Record,
    next: Arc<Mutex<String>>,
    /// The call that waits for the first connection; in a reconnect nobody waits.
    waiting: Option<Pending<Result<()>>>,
    props: Vec<Box<dyn Any>>,
}

/// Offers the server that the test says.
struct Directed(Arc<Mutex<String>>);

impl ServerChooser for Directed {
    fn current_uri(&mut self) -> Option<String> {
        Some(self.0.lock().clone())
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        DefaultServerChooser::new().current_authenticator()
    }

    fn report_failure(&mut self, _: &Error, _: &ConnectionInfo) {}

    fn report_success(&mut self, _: &ConnectionInfo) {}
}

/// A port on which connecting goes on for ever: its queue is full, and nobody accepts.
fn unanswering() -> (String, Box<dyn Any>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let queued: Vec<TcpStream> = std::iter::from_fn(|| connect().ok()).take(100).collect();
    (format!("tcp://{address}/amps/json"), Box::new((queued, listener)))
}

impl Busy {
    /// A client of this name that does this, on its first connection or in a reconnect.
    fn with(name: &str, doing: Doing, first: bool) -> Busy {
        let peer = ScriptedPeer::start().unwrap();
        let next = Arc::new(Mutex::new(peer.uri("json")));
        let builder = HAClient::builder(name)
            .server_chooser(Directed(Arc::clone(&next)))
            .reconnect_delay(Duration::from_secs(10))
            .publish_store(MemoryPublishStore::new());
        let client = builder.build().unwrap();
        client.set_logon_timeout(None);
        let record = Record::of(&client);
        let mut busy = Busy { client, record, next, waiting: None, props: Vec::new() };
        let connection = (!first || doing == Doing::Resubscribing).then(|| {
            let waiting = connecting(&busy.client);
            let connection = admitted(&peer);
            waiting.wait().unwrap();
            let subscribing = begin_ha(&busy.client, |client| {
                client.execute_async(Command::subscribe("t").sub_id("s"), |_: &Message| {})
            });
            accept(&connection, "subscribe");
            subscribing.wait().unwrap();
            connection
        });
        busy.go_on(doing, first, connection.is_some().then_some(|| drop(connection)));
        busy.props.push(Box::new(peer));
        busy
    }

    fn go_on(&mut self, doing: Doing, first: bool, lose: Option<impl FnOnce()>) {
        let target = ScriptedPeer::start().unwrap();
        *self.next.lock() = target.uri("json");
        match doing {
            Doing::WaitingForTheDelay => target.refuse().unwrap(),
            Doing::Connecting => {
                let (uri, listener) = unanswering();
                *self.next.lock() = uri;
                self.props.push(listener);
            }
            Doing::Replaying => {
                let payload = vec![b'x'; 256 << 10];
                (0..64).for_each(|_| _ = self.client.publish("t", &payload).unwrap());
            }
            Doing::LoggingOn | Doing::Resubscribing => {}
        }
        match lose {
            Some(_) if first => self.client.close(),
            Some(lose) => lose(),
            None => {}
        }
        if first {
            self.waiting = Some(connecting(&self.client));
        }
        match doing {
            Doing::WaitingForTheDelay => {
                let delay = |client: &HAClient| {
                    client.connection_info().get("haClient.reconnectDelay").map(str::to_owned)
                };
                wait_until("it waits", || delay(&self.client).as_deref() == Some("10000"));
            }
            Doing::Connecting => {
                let thread = format!("amps-connect-{}", self.client.name());
                wait_until("it connects", || threads().contains(&thread));
            }
            Doing::LoggingOn | Doing::Replaying | Doing::Resubscribing => {
                let connection = target.accept(SOON).unwrap();
                connection.expect("logon", SOON).unwrap();
                if doing == Doing::Replaying {
                    connection.stop_reading();
                }
                if doing != Doing::LoggingOn {
                    let told = || self.record.states().iter().filter(|state| **state == LoggedOn).count();
                    let before = told();
                    connection.reply_ok().unwrap();
                    wait_until("it is logged on", || told() > before);
                }
                if doing == Doing::Resubscribing {
                    connection.expect("subscribe", SOON).unwrap();
                }
                self.props.push(Box::new(connection));
            }
        }
        self.props.push(Box::new(target));
    }
}

/// The names of the threads of this process, as far as the system shows them.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a list of threads").flatten();
    // A thread may have ended meanwhile.
    tasks
        .filter_map(|task| {
            Some(std::fs::read_to_string(task.path().join("comm")).ok()?.trim_end().to_owned())
        })
        .collect()
}

/// The threads of a client, except those that cannot be interrupted: nobody waits for them. The kernel lists a thread for a
/// moment after it was joined.
fn threads_of(name: &str) -> usize {
    let names = [format!("amps-rx-{name}"), format!("amps-tx-{name}")];
    threads().iter().filter(|thread| names.contains(thread)).count()
}

#[track_caller]
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// 85, 72, 36, D-14, HA-19: whatever it does, and whoever waits for it; and the client can connect again at once.
#[test]
fn closing_ends_whatever_the_client_is_doing_at_once() {
    for (n, doing) in ALL.into_iter().enumerate() {
        for first in [true, false] {
            let name = format!("{}{n}", if first { 'f' } else { 'r' });
            let busy = Busy::with(&name, doing, first);
            let what = format!("{doing:?}, first connection: {first}");
            let command = begin_ha(&busy.client, |client| client.sow("t", "").map(drop));
            assert!(command.is_waiting() && busy.waiting.as_ref().is_none_or(Pending::is_waiting), "{what}");

            let start = Instant::now();
            busy.client.close();
            let took = start.elapsed();
            assert!(took < AT_ONCE, "{what}: {took:?}");
            wait_until(&format!("its threads are gone: {what}"), || threads_of(&name) == 0);
            assert_eq!(command.at_once().unwrap_err().kind(), ErrorKind::Disconnected, "{what}");
            if let Some(waiting) = busy.waiting {
                assert_eq!(waiting.at_once().unwrap_err().kind(), ErrorKind::Disconnected, "{what}");
            }
            let states = busy.record.states();
            let shutdowns = states.iter().filter(|state| **state == Shutdown).count();
            let expected = if first && doing == Doing::Resubscribing { 2 } else { 1 };
            assert_eq!((shutdowns, states.last()), (expected, Some(&Shutdown)), "{what}: {states:?}");
            let silent = busy.record.failures().iter().all(|failure| failure.error.is_disconnect());
            assert!(silent, "{what}: {:?}", busy.record.story());

            let peer = ScriptedPeer::start().unwrap();
            *busy.next.lock() = peer.uri("json");
            assert!(peer.accept(Duration::from_millis(30)).is_err(), "{what}: nobody connects any more");
            let waiting = connecting(&busy.client);
            let connection = admitted(&peer);
            if doing == Doing::Replaying {
                connection.skip_to("publish", SOON).unwrap();
            }
            if doing == Doing::Resubscribing || !first {
                connection.skip_to("subscribe", SOON).unwrap();
                connection.reply_ok().unwrap();
            }
            waiting.wait().unwrap_or_else(|error| panic!("{what}: {error}"));
            busy.client.close();
        }
    }
}

/// T-4, HA-19, decision 20: nobody holds the client any more, so nobody could ever close it.
#[test]
fn dropping_the_last_handle_ends_a_reconnect_at_once() {
    for (n, doing) in ALL.into_iter().enumerate() {
        let name = format!("d{n}");
        let busy = Busy::with(&name, doing, false);
        let weak = busy.client.downgrade();
        let start = Instant::now();
        drop(busy.client);
        let took = start.elapsed();
        assert!(took < AT_ONCE, "{doing:?}: {took:?}");
        assert!(weak.upgrade().is_none());
        wait_until("its threads are gone", || threads_of(&name) == 0);
        let peer = ScriptedPeer::start().unwrap();
        *busy.next.lock() = peer.uri("json");
        assert!(peer.accept(Duration::from_millis(30)).is_err(), "{doing:?}: nobody connects any more");
        assert_eq!(busy.record.states().last(), Some(&Shutdown), "{doing:?}");
    }
}

/// 69, S-8, D-11, T-1, T-4, HA-19: before the loop, behind it, and when it has failed for good.
#[test]
fn closing_or_dropping_a_client_that_is_not_in_the_loop_returns_at_once() {
    for (n, state) in ["never connected", "connected", "given up"].into_iter().enumerate() {
        for drops in [false, true] {
            let (name, what) = (format!("n{n}{drops:.1}"), format!("{state}, dropped: {drops}"));
            let peer = ScriptedPeer::start().unwrap();
            let next = Arc::new(Mutex::new(peer.uri("json")));
            let chooser = Directed(Arc::clone(&next));
            let client =
                HAClient::builder(&name).server_chooser(chooser).reconnect_delay(DELAY).build().unwrap();
            let record = Record::of(&client);
            let connection = (state != "never connected").then(|| {
                let waiting = connecting(&client);
                let connection = admitted(&peer);
                waiting.wait().unwrap();
                connection
            });
            if state == "given up" {
                next.lock().clear();
                drop(connection);
                record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
            }

            let start = Instant::now();
            if drops {
                drop(client)
            } else {
                client.close()
            }
            let took = start.elapsed();
            assert!(took < AT_ONCE, "{what}: {took:?}");
            wait_until("its threads are gone", || threads_of(&name) == 0);
            let states = record.states();
            let shutdowns = states.iter().filter(|state| **state == Shutdown).count();
            assert_eq!((shutdowns, states.last()), (1, Some(&Shutdown)), "{what}: {states:?}");
        }
    }
}

/// HA-19: what cannot be interrupted ends by itself, and leaves no connection open.
#[test]
fn a_connect_that_was_given_up_leaves_nothing_behind() {
    let busy = Busy::with("c9", Doing::Connecting, false);
    busy.client.close();
    let thread = "amps-connect-c9".to_owned();
    assert!(threads().contains(&thread), "it is not waited for");
    // Nobody listens any more, which the system learns at its next attempt.
    drop(busy.props);
    wait_until("the connect fails", || !threads().contains(&thread));
    assert!(!busy.client.is_connected());
}

/// HA-19: everybody who connects is told, and nobody hangs.
#[test]
fn closing_releases_all_threads_that_connect() {
    let busy = Busy::with("m1", Doing::WaitingForTheDelay, true);
    let others: Vec<_> = (0..3).map(|_| connecting(&busy.client)).collect();
    assert!(others.iter().all(Pending::is_waiting));
    busy.client.close();
    for waiting in others.into_iter().chain(busy.waiting) {
        assert_eq!(waiting.at_once().unwrap_err().kind(), ErrorKind::Disconnected);
    }
    wait_until("its threads are gone", || threads_of("m1") == 0);
}

/// HA-19, D-11: a thread that revives the client is not waited for, and ends all the same.
#[test]
fn closing_ends_a_revival_on_the_thread_of_a_command() {
    let peer = ScriptedPeer::start().unwrap();
    let (gate, next) = (Gate::new(), Arc::new(Mutex::new(peer.uri("json"))));
    struct Strategy(Gate, usize);
    impl amps_client::ReconnectDelayStrategy for Strategy {
        fn connect_wait_duration(&mut self, _: &str) -> Result<Duration> {
            self.1 += 1;
            self.0.note();
            match self.1 {
                1 => Ok(Duration::ZERO),
                2 => Err(ErrorKind::ReconnectMaximumExceeded.into()),
                _ => Ok(Duration::from_secs(100)),
            }
        }
        fn reset(&mut self) {}
    }
    let client = HAClient::builder("v1")
        .server_chooser(Directed(Arc::clone(&next)))
        .reconnect_delay_strategy(Strategy(gate.clone(), 0))
        .build()
        .unwrap();
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();
    first.close();
    record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let publish = begin_ha(&client, |client| client.publish("t", "x"));
    gate.wait_reached(3);
    client.close();
    // Right away, while the thread that was told to stop may still be at it.
    let waiting = connecting(&client);
    assert_eq!(publish.at_once().unwrap_err().kind(), ErrorKind::Disconnected);
    gate.wait_reached(4);
    client.close();
    assert_eq!(waiting.at_once().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(peer.connections(), 1);
}

/// T-3, D-10: from inside the loop, in whatever callback.
#[test]
fn a_callback_of_the_reconnecting_may_close_the_client() {
    for in_the_listener in [true, false] {
        let scene = HaScene::logged_on();
        let (weak, (sender, closed)) = (scene.client.downgrade(), mpsc::channel());
        let close = move || {
            if let Some(client) = weak.upgrade() {
                client.close();
                // The test may be over.
                let _ = sender.send(());
            }
        };
        if in_the_listener {
            scene.client.add_connection_state_listener(move |state: ConnectionState| {
                if state == Disconnected {
                    close();
                }
            });
        } else {
            scene.client.set_exception_listener(move |_: &UnhandledError| close());
        }
        scene.connection.close();
        if !in_the_listener {
            answered(&scene.peer, &LogonAck::failure("name in use"));
        }
        closed.recv_timeout(SOON).unwrap();
        scene.client.close();
        assert_eq!(scene.record.states().last(), Some(&Shutdown));
        assert!(scene.peer.accept(Duration::from_millis(30)).is_err(), "nobody connects any more");
    }
}

/// HA-5, T-6: who would wait for itself is told.
#[test]
fn connecting_from_inside_the_reconnecting_is_refused() {
    let scene = HaScene::logged_on();
    let (client, (sender, outcomes)) = (Mutex::new(Some(scene.client.clone())), mpsc::channel());
    scene.client.set_exception_listener(move |_: &UnhandledError| {
        if let Some(client) = client.lock().take() {
            sender.send(client.connect_and_logon().map_err(|error| error.kind())).unwrap();
        }
    });
    scene.connection.close();
    answered(&scene.peer, &LogonAck::failure("name in use"));
    assert_eq!(outcomes.recv_timeout(SOON).unwrap(), Err(ErrorKind::Usage));
    let connection = admitted(&scene.peer);
    settle(&scene.client, &connection);
}
