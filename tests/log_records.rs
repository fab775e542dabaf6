//! What nobody listens to is at least written to the log.

mod support;

use amps_client::{Client, ConnectionState, Message};
use log::Level;
use support::client::*;
use support::log_capture::Capture;

/// A client to which nobody listens.
fn unheard(name: &str) -> Scene {
    let scene = Scene::logged_on(name);
    // The scene is recorded by a listener of its own.
    let silent = Client::builder(name).build().unwrap();
    let connection = connect(&silent, &scene.peer);
    log_on(&silent, &connection);
    Scene { client: silent, connection, ..scene }
}

/// 21, X-2: one record for each failure.
#[test]
fn without_a_listener_a_failure_is_logged_once_as_a_warning() {
    let log = Capture::start();
    let scene = unheard("c");
    scene.subscribe_with("s", |message: &Message| match message.data() {
        b"error" => Err("nobody listens to errors"),
        b"panic" => panic!("nobody listens to panics"),
        _ => Ok(()),
    });
    ["error", "panic", "fine"].iter().for_each(|data| scene.send("s", data));
    scene.settle();
    for text in ["nobody listens to errors", "nobody listens to panics"] {
        let records = log.with(text);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((records[0].level, records[0].target.as_str()), (Level::Warn, "amps::handler"));
        assert!(records[0].text.contains("message handler `s`"), "{records:?}");
    }
}

/// with a listener it is the listener's business.
#[test]
fn with_a_listener_a_failure_is_not_logged() {
    let log = Capture::start();
    let scene = Scene::logged_on("c");
    scene.subscribe_with("s", |_: &Message| Err::<(), _>("somebody listens"));
    scene.send("s", "x");
    scene.record.wait_for_failures(1);
    assert!(log.with("somebody listens").is_empty());
}

/// H-8, decision 21: and counted.
#[test]
fn a_handler_that_holds_the_receive_thread_for_half_an_interval_is_logged_and_counted() {
    let log = Capture::start();
    let scene = Scene::logged_on("c");
    scene.subscribe_with("s", |message: &Message| {
        if message.data() == b"slow" {
            std::thread::sleep(std::time::Duration::from_millis(600));
        }
    });
    scene.client.set_heartbeat(std::time::Duration::from_secs(1)).unwrap();
    ["quick", "slow", "quick"].iter().for_each(|data| scene.send("s", data));
    scene.settle();
    let records = log.with("held the receive thread");
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((records[0].level, records[0].target.as_str()), (Level::Warn, "amps::handler"));
    assert_eq!(scene.client.slow_handler_count(), 1);
}

/// M-24: nothing else tells that it is the reader of a stream who holds up the connection.
#[test]
fn a_stream_that_stays_full_is_logged_once() {
    let log = Capture::start();
    let scene = Scene::logged_on("c");
    let mut stream = scene.accepted("subscribe", |client| client.subscribe("t", ""));
    stream.set_max_depth(1, 1000).unwrap();
    let id = stream.sub_id().unwrap().to_owned();
    (0..4).for_each(|n| scene.send(&id, &n.to_string()));
    let record = log.wait_for("is full and not read");
    assert_eq!((record.level, record.target.as_str()), (Level::Warn, "amps::stream"));
    let read: Vec<_> = (0..4).map(|_| stream.next_timeout(SOON).unwrap().unwrap().data().to_vec()).collect();
    assert_eq!(read, [b"0", b"1", b"2", b"3"]);
    assert_eq!(log.with("is full and not read").len(), 1);
}

/// `api-surface` 23: levels and targets.
#[test]
fn losses_are_warnings_and_changes_of_state_are_informations() {
    let log = Capture::start();
    let scene = Scene::logged_on("c");
    scene.connection.send_raw(b"\0\0\0\x07garbage").unwrap();
    let lost = log.wait_for("connection lost: invalid bytes");
    assert_eq!((lost.level, lost.target.as_str()), (Level::Warn, "amps::net"));
    scene.record.wait_for_failures(2);
    for state in [ConnectionState::Connected, ConnectionState::LoggedOn, ConnectionState::Shutdown] {
        let told = log.wait_for(&format!("connection state: {state}"));
        assert_eq!((told.level, told.target.as_str()), (Level::Info, "amps::net"));
    }
}

/// `api-surface` 23: payload bytes are never logged, at any level, whatever happens to them.
#[test]
fn payloads_are_never_logged() {
    let log = Capture::start();
    let scene = unheard("c");
    scene.subscribe_with("s", |_: &Message| Err::<(), _>("a failure"));
    for id in ["s", "nobody"] {
        scene.send(id, "payload-of-a-customer");
    }
    scene.client.publish("t", "payload-of-a-customer").unwrap();
    scene.settle();
    scene.connection.send_raw(amps_client::testing::Frame::encode("payload-of-a-customer", "")).unwrap();
    log.wait_for("connection lost");
    assert!(log.with("payload-of-a-customer").is_empty());
}
