//! Every failure that has no caller reaches the exception listener once, and stops nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::*;
use amps_client::testing::{Frame, LogonAck, ScriptedPeer};
use amps_client::{
    AckType, Client, Command, ConnectionState, Error, ErrorClass, ErrorKind, GlobalKind, Message, Origin,
    UnhandledError,
};

/// A handler that fails on these payloads, and keeps the others.
fn failing_on(bad: &'static [&'static str]) -> (impl FnMut(&Message) -> Result<(), String> + Send, Inbox) {
    let (mut keep, inbox) = inbox();
    let handler = move |message: &Message| match message.data_str() {
        Ok(data) if bad.contains(&data) => Err(format!("bad {data}")),
        _ => amps_client::MessageHandler::on_message(&mut keep, message).map_err(|e| e.to_string()),
    };
    (handler, inbox)
}

/// 18, X-1, X-3, X-6, X-11: one by one, and in one read.
#[test]
fn a_handler_that_fails_is_reported_once_and_the_next_message_comes() {
    for at_once in [false, true] {
        let scene = Scene::logged_on("c");
        let (handler, inbox) = failing_on(&["1"]);
        scene.subscribe_with("s", handler);
        if at_once {
            let frames = ["1", "2", "3"].map(|data| Frame::encode(&publication("s"), data));
            scene.connection.send_raw(frames.concat()).unwrap();
        } else {
            ["1", "2", "3"].iter().for_each(|data| scene.send("s", data));
        }
        assert_eq!(inbox.payloads(2), ["2", "3"]);
        let failures = scene.record.failures();
        let [failure] = failures.as_slice() else { panic!("{failures:?}") };
        assert_eq!(
            (failure.error.kind(), failure.error.class()),
            (ErrorKind::HandlerFailed, ErrorClass::Base)
        );
        assert_eq!((failure.origin, failure.id.as_deref()), (Origin::MessageHandler, Some("s")));
        assert_eq!(std::error::Error::source(&failure.error).unwrap().to_string(), "bad 1");
        assert_eq!(failure.thread, "amps-rx-c");
        assert!(scene.client.is_connected());
    }
}

/// X-3, section 16: the handler's own error is the source, and `?` works on ours.
#[test]
fn the_error_of_a_handler_can_be_had_back() {
    let scene = Scene::logged_on("c");
    scene.subscribe_with("s", |message: &Message| message.data_str().map(drop));
    scene.connection.send(&publication("s"), b"\xFF").unwrap();
    let failure = scene.record.wait_for_failures(1).remove(0);
    let source = std::error::Error::source(&failure.error).unwrap();
    assert_eq!(source.downcast_ref::<Error>().map(Error::kind), Some(ErrorKind::Amps));
}

/// 19, X-6, X-7: delivery goes on, and the process lives.
#[test]
fn a_handler_that_panics_is_reported_with_the_text_of_the_panic() {
    let scene = Scene::logged_on("c");
    let (keep, inbox) = inbox();
    let mut keep = keep;
    scene.subscribe_with("s", move |message: &Message| {
        match message.data() {
            b"1" => panic!("no more"),
            b"2" => std::panic::panic_any(7),
            _ => {}
        }
        amps_client::MessageHandler::on_message(&mut keep, message)
    });
    let frames = ["1", "2", "3"].map(|data| Frame::encode(&publication("s"), data));
    scene.connection.send_raw(frames.concat()).unwrap();
    assert_eq!(inbox.payloads(1), ["3"]);
    let failures = scene.record.failures();
    let told: Vec<_> = failures.iter().map(|f| (f.error.kind(), f.error.to_string())).collect();
    assert_eq!(
        told,
        [
            (ErrorKind::HandlerPanicked, "no more".to_owned()),
            (ErrorKind::HandlerPanicked, "a panic without a text".to_owned())
        ]
    );
    assert!(failures.iter().all(|f| !f.has_backtrace), "nobody asked for backtraces of panics");
}

/// 18: for the records of a query, several in one frame.
#[test]
fn a_handler_that_fails_on_one_record_gets_the_others() {
    let scene = Scene::logged_on("c");
    let (handler, inbox) = failing_on(&["2"]);
    let query = Command::sow("t").query_id("q");
    scene.accepted("sow", |client| client.execute_async(query, handler));
    let records = r#"{"l":1}1{"l":1}2{"l":1}3"#;
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"q","bs":3}"#, records).unwrap();
    assert_eq!(inbox.payloads(2), ["1", "3"]);
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((failure.origin, failure.id.as_deref()), (Origin::MessageHandler, Some("q")));
}

/// 20, X-5.
#[test]
fn a_listener_that_panics_breaks_nothing_and_hears_of_the_next_failure() {
    let scene = Scene::logged_on("c");
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    scene.client.set_exception_listener(move |_: &UnhandledError| {
        counter.fetch_add(1, Ordering::Relaxed);
        panic!("the listener fails too");
    });
    let (handler, inbox) = failing_on(&["1", "2"]);
    scene.subscribe_with("s", handler);
    ["1", "2", "3"].iter().for_each(|data| scene.send("s", data));
    assert_eq!(inbox.payloads(1), ["3"]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    scene.settle();
}

/// 22, S-4, X-7.
#[test]
fn a_state_listener_that_panics_is_reported_and_harms_nobody() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.add_connection_state_listener(|state: ConnectionState| {
        assert_ne!(state, ConnectionState::Connected, "not this one");
    });
    let record = Record::of(&client);
    let connection = connect(&client, &peer);
    assert_eq!(record.states(), [ConnectionState::Connected]);
    let failure = record.wait_for_failures(1).remove(0);
    assert_eq!(
        (failure.error.kind(), failure.origin),
        (ErrorKind::HandlerPanicked, Origin::ConnectionStateListener)
    );
    assert!(failure.error.to_string().contains("not this one"));
    log_on(&client, &connection);
}

/// 25, X-8, S-7: a refused logon is returned and reported, once.
#[test]
fn a_refused_logon_is_returned_and_reported_once() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::failure("auth failure"), SOON).unwrap();
    let error = logon.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    let failures = record.failures();
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    assert_eq!((failure.error.kind(), failure.origin), (ErrorKind::Authentication, Origin::Logon));
    connection.wait_closed(SOON).unwrap();
}

/// X-8: every handler that is called for a message, by the origin that is reported.
#[test]
fn each_kind_of_handler_is_reported_under_its_own_origin() {
    let scene = Scene::prepared(Client::builder("c"), |client| {
        let fails = || |_: &Message| Err::<(), _>("no");
        client.set_last_chance_handler(fails());
        client.set_global_handler(GlobalKind::Ack, fails());
        client.set_global_handler(GlobalKind::Heartbeat, fails());
    });
    // The acknowledgement of the logon was the first.
    scene.record.wait_for_failures(1);
    scene.send("unknown", "x");
    scene.connection.reply(r#"{"c":"ack","cid":"unknown","a":"completed"}"#).unwrap();
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    let told: Vec<_> = scene.record.wait_for_failures(5).iter().map(|f| f.origin).collect();
    use Origin::{GlobalHandler, LastChanceHandler};
    let expected = [GlobalHandler, LastChanceHandler, GlobalHandler, GlobalHandler, LastChanceHandler];
    assert_eq!(told, expected);
}

/// X-8: an acknowledgement delivered to the handler of its command.
#[test]
fn a_handler_that_fails_on_an_acknowledgement_is_reported() {
    let scene = Scene::logged_on("c");
    let command = Command::sow_delete("t").filter("1=1").command_id("d").add_ack_type(AckType::STATS);
    let delete =
        scene.begin(|client| client.execute_async(command, |_: &Message| Err::<(), _>("no counts for me")));
    scene.connection.expect("sow_delete", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.connection.reply(r#"{"c":"ack","cid":"d","a":"stats","status":"success"}"#).unwrap();
    delete.wait().unwrap();
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((failure.origin, failure.id.as_deref()), (Origin::MessageHandler, Some("d")));
}

/// X-8, T-11: the callback around a receive thread.
#[test]
fn a_thread_callback_that_fails_at_the_end_is_reported() {
    let scene = Scene::prepared(Client::builder("c"), |client| {
        client.set_thread_exiting_callback(|| Err::<(), _>("not yet"));
    });
    scene.client.close();
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((failure.error.kind(), failure.origin), (ErrorKind::HandlerFailed, Origin::ThreadCallback));
}

/// X-8: heartbeats that cannot be started.
#[test]
fn a_heartbeat_that_cannot_be_started_is_reported() {
    let scene = with_a_small_outbox();
    let logon = fill_outbox_in_a_logon(&scene);
    scene.client.set_heartbeat(SOON).unwrap();
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((failure.error.kind(), failure.origin), (ErrorKind::Connection, Origin::Heartbeat));
    scene.connection.reply_ok().unwrap();
    logon.wait().unwrap();
}

fn with_a_small_outbox() -> Scene {
    Scene::prepared(Client::builder("c").outbox_limit(1), |_| {})
}

/// A second logon holds the connection, and as much waits for its end as may.
fn fill_outbox_in_a_logon(scene: &Scene) -> Pending<amps_client::Result<()>> {
    let logon = scene.begin(|client| client.logon_with(&in_time()).map(drop));
    scene.connection.expect("logon", SOON).unwrap();
    scene.client.unsubscribe("waits").unwrap();
    logon
}

/// X-8, M-32: a stream that cannot be unsubscribed when it is dropped.
#[test]
fn a_dropped_stream_whose_unsubscribe_cannot_be_sent_is_reported() {
    let scene = with_a_small_outbox();
    let stream = scene.accepted("subscribe", |client| client.subscribe("t", ""));
    let logon = fill_outbox_in_a_logon(&scene);
    drop(stream);
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((failure.error.kind(), failure.origin), (ErrorKind::Connection, Origin::Unsubscribe));
    scene.connection.reply_ok().unwrap();
    logon.wait().unwrap();
}

/// X-1: at most one listener; a later one takes the place of the first.
#[test]
fn a_later_listener_takes_the_place_of_the_first() {
    let scene = Scene::logged_on("c");
    let second = Record::of(&scene.client);
    let (handler, inbox) = failing_on(&["1"]);
    scene.subscribe_with("s", handler);
    ["1", "2"].iter().for_each(|data| scene.send("s", data));
    inbox.next();
    assert_eq!((scene.record.failures().len(), second.failures().len()), (0, 1));
}
