//! Closing ends everything, from every state and every thread, and leaves nothing behind.

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use amps_client::testing::{ScriptedPeer, Server};
use amps_client::{Client, ConnectionState, Error, ErrorKind, Message, UnhandledError};
use support::client::*;

use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown};

/// The threads of this process whose names begin so, by name.
fn threads_named(prefix: &str) -> BTreeMap<String, usize> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("a list of threads").flatten() {
        // A thread may have ended meanwhile.
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            *threads.entry(name.trim_end().to_owned()).or_default() += 1;
        }
    }
    threads
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("a list of descriptors").count()
}

/// T-8, section 3 of the design: the name says which client a thread belongs to. (The system shows 15 letters.)
#[test]
fn threads_are_named_after_their_client_and_end_with_it() {
    let scene = Scene::logged_on("Nx");
    assert_eq!(threads_named("amps-rx-Nx"), BTreeMap::from([("amps-rx-Nx".to_owned(), 1)]));
    assert!(threads_named("amps-tx-Nx").is_empty(), "started at the first burst");
    let burst = scene.begin(|client| (0..100_000).try_for_each(|_| client.publish("t", "x").map(drop)));
    burst.wait().unwrap();
    assert_eq!(threads_named("amps-tx-Nx"), BTreeMap::from([("amps-tx-Nx".to_owned(), 1)]));
    scene.client.close();
    assert!(threads_named("amps-rx-Nx").is_empty() && threads_named("amps-tx-Nx").is_empty());
}

/// 138, T-1: close waits for a running handler, and no further call starts.
#[test]
fn closing_waits_for_a_running_handler_and_starts_no_other() {
    let scene = Scene::logged_on("c");
    let (gate, calls) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
    let (held, counter) = (gate.clone(), Arc::clone(&calls));
    scene.subscribe_with("s", move |_: &Message| {
        held.pass();
        counter.fetch_add(1, Ordering::SeqCst);
    });
    let frames = [(); 3].map(|()| amps_client::testing::Frame::encode(&publication("s"), "x"));
    scene.connection.send_raw(frames.concat()).unwrap();
    gate.wait_reached(1);
    let (close, after) = (scene.begin(Client::close), Arc::clone(&calls));
    assert!(close.is_waiting());
    gate.open();
    close.wait();
    assert_eq!(after.load(Ordering::SeqCst), 1, "the handler has ended");
    assert_eq!((gate.reached(), scene.record.states().last()), (1, Some(&Shutdown)));
}

/// 138, T-4, decision 20: dropping is bounded, and no further call starts.
#[test]
fn dropping_the_last_handle_does_not_wait_for_a_running_handler() {
    let scene = Scene::logged_on("c");
    let gate = Gate::new();
    let held = gate.clone();
    scene.subscribe_with("s", move |_: &Message| held.pass());
    let frames = [(); 3].map(|()| amps_client::testing::Frame::encode(&publication("s"), "x"));
    scene.connection.send_raw(frames.concat()).unwrap();
    gate.wait_reached(1);
    let Scene { client, record, connection, peer } = scene;
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    connection.wait_closed(SOON).unwrap();
    gate.open();
    wait_until("the handler has ended", || gate.holders() == 1);
    assert_eq!(gate.reached(), 1);
    drop(peer);
}

/// Waits for something that nobody tells of.
fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// T-4, decision 20: whatever holds up a part of it, all of it is bounded.
#[test]
fn dropping_the_last_handle_is_bounded_by_no_listener_and_no_peer() {
    // A state listener that hangs on the receive thread.
    let Scene { client, connection, record, peer } = Scene::logged_on("c");
    let gate = Gate::new();
    let held = gate.clone();
    client.add_connection_state_listener(move |state| {
        if state == Disconnected {
            held.pass();
        }
    });
    let behind = Record::of(&client);
    connection.close();
    gate.wait_reached(1);
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < AT_ONCE, "a hanging listener: {:?}", start.elapsed());
    gate.open();
    wait_until("the receive thread has ended", || gate.holders() == 1);
    assert_eq!(behind.story(), Vec::<String>::new(), "no further callback starts");
    drop((record, peer));

    // A handler that hangs, a peer that reads nothing, and a writer who waits for it.
    let scene = Scene::logged_on("c");
    let gate = Gate::new();
    let held = gate.clone();
    scene.subscribe_with("s", move |_: &Message| held.pass());
    scene.send("s", "x");
    gate.wait_reached(1);
    scene.connection.stop_reading();
    let Scene { client, connection, record, peer } = scene;
    let publisher = publish_until_stuck(client);
    let client = publisher.recv_timeout(SOON).unwrap();
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < AT_ONCE, "a deaf peer: {:?}", start.elapsed());
    gate.open();
    drop((connection, record, peer));
}

/// Publishes in a handler-like fashion until nothing more can be written, and hands the client back.
fn publish_until_stuck(client: Client) -> mpsc::Receiver<Client> {
    let (sender, done) = mpsc::channel();
    let weak = client.downgrade();
    client.add_connection_state_listener(move |state| {
        // Inside a listener a publish does not wait: what cannot be written is queued.
        if state == ConnectionState::HeartbeatInitiated {
            let (client, payload) = (weak.upgrade().unwrap(), vec![b'x'; 64 << 10]);
            (0..500).for_each(|_| _ = client.publish("t", &payload).unwrap());
        }
    });
    std::thread::spawn(move || {
        client.set_heartbeat(SOON).unwrap();
        sender.send(client).unwrap();
    });
    done
}

/// 139, T-1.
#[test]
fn four_threads_may_close_at_once() {
    for _ in 0..20 {
        let scene = Scene::logged_on("c");
        let closing = [(); 4].map(|()| scene.begin(Client::close));
        closing.into_iter().for_each(Pending::wait);
        assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    }
}

/// 139: while a handler runs, everybody who closes waits for it, but for the handler itself.
#[test]
fn everybody_who_closes_waits_for_the_handler_but_for_the_handler_itself() {
    let scene = Scene::logged_on("c");
    let (gate, weak, (sender, closed)) = (Gate::new(), scene.client.downgrade(), mpsc::channel());
    let held = gate.clone();
    scene.subscribe_with("s", move |_: &Message| {
        held.pass();
        weak.upgrade().unwrap().close();
        sender.send(()).unwrap();
    });
    scene.send("s", "x");
    gate.wait_reached(1);
    let closing = [(); 3].map(|()| scene.begin(Client::close));
    assert!(closing.iter().all(Pending::is_waiting));
    gate.open();
    closed.recv_timeout(SOON).unwrap();
    closing.into_iter().for_each(Pending::wait);
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
}

/// T-3, D-10: the exception listener closes the client after a failed repair, while somebody else closes it too.
#[test]
fn the_exception_listener_may_close_a_client_that_is_being_closed() {
    let scene = Scene::logged_on("c");
    let (gate, weak, (sender, closed)) = (Gate::new(), scene.client.downgrade(), mpsc::channel());
    let held = gate.clone();
    scene.client.set_exception_listener(move |_: &UnhandledError| {
        held.pass();
        weak.upgrade().unwrap().close();
        sender.send(()).unwrap();
    });
    scene.connection.close();
    gate.wait_reached(1);
    let close = scene.begin(Client::close);
    assert!(close.is_waiting());
    gate.open();
    closed.recv_timeout(SOON).unwrap();
    close.wait();
}

/// 140: neither threads nor descriptors are left behind. In a process of its own, because other tests come and go.
#[test]
fn connecting_and_closing_two_hundred_times_leaves_nothing_behind() {
    const CHILD: &str = "AMPS_CLOSING_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let name = "connecting_and_closing_two_hundred_times_leaves_nothing_behind";
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    let server = Server::quick().unwrap();
    let client = Client::builder("c").build().unwrap();
    let round = || {
        client.connect(&server.uri("json")).unwrap();
        client.logon_with(&in_time()).unwrap();
        drop(client.subscribe("t", "").unwrap());
        (0..100).for_each(|_| _ = client.publish("t", "x").unwrap());
        client.close();
    };
    (0..10).for_each(|_| round());
    let settle = || server.wait_for(|server| server.sessions().is_empty(), SOON).unwrap();
    settle();
    let (threads, files) = (threads_named("").values().sum::<usize>(), descriptors());
    (0..200).for_each(|_| round());
    settle();
    wait_until("threads and descriptors are as before", || {
        threads_named("").values().sum::<usize>() <= threads && descriptors() <= files
    });
}

/// 141, T-9: clones share the receive buffer, and detached copies hold their own.
#[test]
fn kept_messages_stay_as_they_are_after_a_thousand_more() {
    let scene = Scene::logged_on("c");
    let (sender, kept) = mpsc::channel();
    scene.subscribe_with("s", move |message: &Message| sender.send((message.clone(), message.detach())));
    let payload = |n: usize| format!("{n}-{}", "x".repeat(n % 97));
    for n in 0..1100 {
        scene.send("s", &payload(n));
    }
    let kept: Vec<_> = (0..1100).map(|_| kept.recv_timeout(SOON).unwrap()).collect();
    for (n, (clone, detached)) in kept.iter().enumerate() {
        for message in [clone, detached] {
            assert_eq!(message.data_str().unwrap(), payload(n));
            assert_eq!((message.topic(), message.sub_id()), (Some("t"), Some("s")));
        }
    }
}

/// T-1, `api-surface` 2: whatever the client is doing, closing takes no longer than what it waits for.
#[test]
fn closing_is_prompt_from_every_state() {
    let close = |client: &Client, state: &str| {
        let start = Instant::now();
        begin(client, Client::close).wait();
        assert!(start.elapsed() < AT_ONCE, "{state}: {:?}", start.elapsed());
        assert!(!client.is_connected(), "{state}");
    };
    let client = Client::builder("c").build().unwrap();
    close(&client, "never connected");

    let peer = ScriptedPeer::start().unwrap();
    let connection = connect(&client, &peer);
    close(&client, "connected");
    connection.wait_closed(SOON).unwrap();

    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.expect("logon", SOON).unwrap();
    close(&client, "logging on");
    assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::Disconnected);

    let connection = connect(&client, &peer);
    log_on(&client, &connection);
    close(&client, "logged on");
    close(&client, "closed");

    let connection = connect(&client, &peer);
    log_on(&client, &connection);
    let query = begin(&client, |client| client.sow("t", "").map(drop));
    connection.expect("sow", SOON).unwrap();
    close(&client, "waiting for an answer");
    assert_eq!(query.wait().unwrap_err().kind(), ErrorKind::Disconnected);

    let connection = connect(&client, &peer);
    log_on(&client, &connection);
    connection.close();
    wait_until("the loss is noticed", || !client.is_connected());
    close(&client, "lost");
    assert_eq!(client.publish("t", "x").unwrap_err().kind(), ErrorKind::Disconnected);
}

/// T-1: the peer takes no bytes, and a thread waits in a publish for it.
#[test]
fn closing_releases_a_publish_that_the_peer_does_not_take() {
    let scene = Scene::logged_on("c");
    scene.connection.stop_reading();
    let publisher = scene.begin(|client| {
        let payload = vec![b'x'; 1 << 20];
        (0..1000).try_for_each(|_| client.publish("t", &payload).map(drop))
    });
    assert!(publisher.is_waiting());
    let start = Instant::now();
    scene.begin(Client::close).wait();
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(publisher.at_once().unwrap_err().kind(), ErrorKind::Disconnected);
}

/// T-1: what was published before a close leaves with it, if the peer takes it.
#[test]
fn what_was_published_before_a_close_still_leaves() {
    for _ in 0..20 {
        let scene = Scene::logged_on("c");
        for n in 0..2000 {
            scene.client.publish("t", n.to_string()).unwrap();
        }
        scene.client.close();
        let published = scene.peer.wait_for_frames(2000, "publish", SOON).unwrap();
        assert_eq!(published.last().unwrap().frame().payload(), b"1999");
    }
}

/// D-10, T-1: a connect that is under way when the client is closed comes to nothing, or to a connection of its own.
#[test]
fn a_connect_during_a_close_is_either_before_or_after_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("tcp://{}/amps/json", listener.local_addr().unwrap());
    for _ in 0..50 {
        let client = Client::builder("c").build().unwrap();
        let record = Record::of(&client);
        let uri = uri.clone();
        let connect = begin(&client, move |client| client.connect(&uri));
        client.close();
        let outcome = connect.wait();
        assert!(outcome.is_ok() || !client.is_connected());
        client.close();
        let states = record.states();
        assert_eq!(states.last(), Some(&Shutdown), "{states:?}");
        let connected = states.iter().filter(|state| **state == Connected).count();
        let disconnected = states.iter().filter(|state| **state == Disconnected).count();
        assert_eq!(connected, disconnected, "{states:?}");
    }
}

/// T-4, X-1: after the last handle has gone nothing is reported any more.
#[test]
fn nothing_is_told_after_the_last_handle_has_gone() {
    let Scene { client, record, connection, peer } = Scene::logged_on("c");
    let (gate, weak) = (Gate::new(), client.downgrade());
    let held = gate.clone();
    client.set_disconnect_handler(move |_: &Client, _: &Error| {
        held.pass();
        failure_of_the_handler()
    });
    connection.close();
    gate.wait_reached(1);
    // The handler holds the last handle when this one has gone.
    drop(client);
    assert!(weak.upgrade().is_some());
    gate.open();
    wait_until("the handler has ended", || weak.upgrade().is_none());
    record.wait_for_states(&[Connected, LoggedOn, Disconnected, Shutdown]);
    wait_until("the receive thread has ended", || gate.holders() == 1);
    let kinds: Vec<_> = record.failures().iter().map(|f| f.error.kind()).collect();
    assert!(kinds.is_empty(), "no reconnect was wanted any more: {kinds:?}");
    drop(peer);
}

fn failure_of_the_handler() -> Result<(), Error> {
    Err(Error::new(ErrorKind::Disconnected, "no server"))
}

/// `api-surface` 2.
#[test]
fn the_socket_can_be_had_for_tuning_while_there_is_a_connection() {
    let client = Client::builder("c").build().unwrap();
    assert!(client.raw_socket().is_none());
    let peer = ScriptedPeer::start().unwrap();
    let connection = connect(&client, &peer);
    let socket = socket2::Socket::from(client.raw_socket().unwrap());
    assert!(socket.tcp_nodelay().unwrap(), "decision 13");
    assert_eq!(socket.peer_addr().unwrap().as_socket(), peer.address());
    log_on(&client, &connection);
    client.close();
    assert!(client.raw_socket().is_none());
}
