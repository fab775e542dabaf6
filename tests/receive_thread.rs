//! Nothing waits where nothing can come: on the receive thread and inside a state listener (`api-surface` 24).

mod support;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{
    AckType, Client, Command, ConnectionState, Direction, Error, ErrorKind, GlobalKind, Logon, Message,
    PublishOptions, Result, UnhandledError,
};
use support::client::*;

/// What a call must come to where nothing may wait.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// It does what it does everywhere.
    Works,
    /// It would wait for an answer.
    Refused,
}

use Expected::{Refused, Works};

type Call = fn(&Client) -> Result<()>;

/// Every public method of the client, but for `builder`.
#[allow(clippy::unit_arg, reason = "the table takes whatever a method returns")]
fn methods() -> Vec<(&'static str, Expected, Call)> {
    fn ok<T>(_: T) -> Result<()> {
        Ok(())
    }
    fn ignore(_: &Message) {}
    vec![
        ("connect", Refused, |c| c.connect("tcp://127.0.0.1:9/amps/json")),
        ("logon", Refused, |c| c.logon()),
        ("logon_with", Refused, |c| c.logon_with(&Logon::new())),
        ("downgrade", Works, |c| ok(c.downgrade())),
        ("name", Works, |c| ok(c.name())),
        ("is_connected", Works, |c| ok(c.is_connected())),
        ("uri", Works, |c| ok(c.uri())),
        ("connection_info", Works, |c| ok(c.connection_info())),
        ("server_version", Works, |c| ok(c.server_version())),
        ("name_hash", Works, |c| ok(c.name_hash())),
        ("name_hash_value", Works, |c| ok(c.name_hash_value())),
        ("connection_name", Works, |c| ok(c.connection_name())),
        ("raw_socket", Works, |c| ok(c.raw_socket())),
        ("publish_store", Works, |c| ok(c.publish_store().is_none())),
        ("resume_point", Works, |c| ok(c.resume_point(&Command::subscribe("t")))),
        ("set_exception_listener", Works, |c| ok(c.set_exception_listener(|_: &UnhandledError| {}))),
        ("set_disconnect_handler", Works, |c| ok(c.set_disconnect_handler(|_: &Client, _: &Error| {}))),
        ("set_last_chance_handler", Works, |c| ok(c.set_last_chance_handler(ignore))),
        ("set_failed_write_handler", Works, |c| ok(c.set_failed_write_handler(|_: &Message, _: &str| {}))),
        ("set_duplicate_handler", Works, |c| ok(c.set_duplicate_handler(ignore))),
        ("set_global_handler", Works, |c| ok(c.set_global_handler(GlobalKind::Ack, ignore))),
        ("remove_connection_state_listener", Works, |c| {
            let id = c.add_connection_state_listener(|_: ConnectionState| {});
            assert!(c.remove_connection_state_listener(id));
            Ok(())
        }),
        ("add_connection_state_listener", Works, |c| {
            ok(c.add_connection_state_listener(|_: ConnectionState| {}))
        }),
        ("clear_connection_state_listeners", Works, |c| ok(c.clear_connection_state_listeners())),
        ("set_thread_created_callback", Works, |c| ok(c.set_thread_created_callback(|| {}))),
        ("set_thread_exiting_callback", Works, |c| ok(c.set_thread_exiting_callback(|| {}))),
        ("set_transport_filter", Works, |c| ok(c.set_transport_filter(|_: Direction, _: &[u8]| {}))),
        ("clear_transport_filter", Works, |c| ok(c.clear_transport_filter())),
        ("set_heartbeat", Works, |c| c.set_heartbeat(2 * SOON)),
        ("set_heartbeat_timeout", Works, |c| c.set_heartbeat_timeout(SOON, 9 * SOON)),
        ("slow_handler_count", Works, |c| ok(c.slow_handler_count())),
        ("set_retry_on_disconnect", Works, |c| ok(c.set_retry_on_disconnect(true))),
        ("set_default_max_depth", Works, |c| c.set_default_max_depth(10, 10_000)),
        ("set_logon_correlation_data", Works, |c| c.set_logon_correlation_data("YQ==")),
        ("logon_correlation_data", Works, |c| ok(c.logon_correlation_data())),
        ("execute", Refused, |c| c.execute(Command::subscribe("t")).map(drop)),
        ("execute", Refused, |c| c.execute(Command::flush().ack_type(AckType::PROCESSED)).map(drop)),
        ("execute", Works, |c| c.execute(Command::publish("t").data("x")).map(drop)),
        ("execute_async", Refused, |c| c.execute_async(Command::subscribe("t"), ignore).map(drop)),
        ("execute_async", Refused, |c| c.execute_async(Command::publish("t"), ignore).map(drop)),
        ("execute_async_no_resubscribe", Refused, |c| {
            c.execute_async_no_resubscribe(Command::subscribe("t"), ignore).map(drop)
        }),
        ("place_again", Refused, |c| c.place_again(None, Command::subscribe("t").sub_id("s"), AckType::NONE)),
        ("send", Works, |c| c.send(&Command::publish("t").data("x"))),
        ("publish", Works, |c| c.publish("t", "x").map(drop)),
        ("publish_with", Works, |c| c.publish_with("t", "x", &PublishOptions::new()).map(drop)),
        ("publish_command", Works, |c| c.publish_command(Command::publish("t").data("x")).map(drop)),
        ("publish_command", Refused, |c| {
            c.publish_command(Command::publish("t").ack_type(AckType::PROCESSED)).map(drop)
        }),
        ("delta_publish", Works, |c| c.delta_publish("t", "x").map(drop)),
        ("delta_publish_with", Works, |c| c.delta_publish_with("t", "x", &PublishOptions::new()).map(drop)),
        ("publish_flush", Refused, |c| c.publish_flush()),
        ("publish_flush_with", Refused, |c| c.publish_flush_with(AckType::PERSISTED, Some(SOON))),
        ("subscribe", Refused, |c| c.subscribe("t", "").map(drop)),
        ("subscribe_async", Refused, |c| c.subscribe_async("t", "", ignore).map(drop)),
        ("delta_subscribe", Refused, |c| c.delta_subscribe("t", "").map(drop)),
        ("delta_subscribe_async", Refused, |c| c.delta_subscribe_async("t", "", ignore).map(drop)),
        ("bookmark_subscribe", Refused, |c| c.bookmark_subscribe("t", "0", "").map(drop)),
        ("bookmark_subscribe_async", Refused, |c| c.bookmark_subscribe_async("t", "0", "", ignore).map(drop)),
        ("sow", Refused, |c| c.sow("t", "").map(drop)),
        ("sow_async", Refused, |c| c.sow_async("t", "", ignore).map(drop)),
        ("sow_and_subscribe", Refused, |c| c.sow_and_subscribe("t", "").map(drop)),
        ("sow_and_subscribe_async", Refused, |c| c.sow_and_subscribe_async("t", "", ignore).map(drop)),
        ("sow_and_delta_subscribe", Refused, |c| c.sow_and_delta_subscribe("t", "").map(drop)),
        ("sow_and_delta_subscribe_async", Refused, |c| {
            c.sow_and_delta_subscribe_async("t", "", ignore).map(drop)
        }),
        ("sow_delete", Refused, |c| c.sow_delete("t", "1=1").map(drop)),
        ("sow_delete_by_keys", Refused, |c| c.sow_delete_by_keys("t", "1").map(drop)),
        ("sow_delete_by_data", Refused, |c| c.sow_delete_by_data("t", "x").map(drop)),
        ("sow_delete_async", Refused, |c| {
            c.sow_delete_async(Command::sow_delete("t").filter("1=1"), ignore).map(drop)
        }),
        ("unsubscribe", Works, |c| c.unsubscribe("nobody")),
        ("cancel_query", Works, |c| c.cancel_query("nobody")),
        ("unsubscribe_all", Works, |c| c.unsubscribe_all()),
        ("close", Works, |c| ok(c.close())),
    ]
}

/// The names of the public methods in the sources of the client.
fn public_methods() -> Vec<&'static str> {
    let sources = [
        include_str!("../src/client/mod.rs"),
        include_str!("../src/client/settings.rs"),
        include_str!("../src/client/verbs.rs"),
    ];
    let mut names = Vec::new();
    for source in sources {
        let mut inside = false;
        for line in source.lines() {
            inside = if line.starts_with("impl Client {") { true } else { inside && line != "}" };
            let name = line.strip_prefix("    pub fn ").filter(|_| inside);
            names.extend(name.and_then(|rest| rest.split(['(', '<']).next()));
        }
    }
    names
}

/// How a call went, how long it took, and what it should have come to.
type Report = Vec<(&'static str, Expected, Result<()>, Duration)>;

fn call_all(client: &Client) -> Report {
    let timed = |(name, expected, call): (_, _, Call)| {
        let start = Instant::now();
        let outcome = call(client);
        (name, expected, outcome, start.elapsed())
    };
    methods().into_iter().map(timed).collect()
}

fn check(report: Report, place: &str) {
    for (name, expected, outcome, took) in report {
        assert!(took < A_WHILE, "{name} took {took:?} {place}");
        match (expected, outcome) {
            (Works, Ok(())) => {}
            (Refused, Err(error)) if error.kind() == ErrorKind::Usage => {
                assert!(error.to_string().contains(place), "{name}: {error}");
            }
            (_, outcome) => panic!("{name} {place}: {outcome:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn the_table_of_methods_is_complete() {
    let (known, all) = (methods(), public_methods());
    assert!(all.len() > 50, "the sources were not read: {all:?}");
    let missing = all.iter().filter(|name| **name != "builder" && known.iter().all(|(k, ..)| k != *name));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// 136, 137, T-6, S-3, decision 16, `api-surface` 24.3: in a message handler.
#[test]
fn every_method_is_safe_on_the_receive_thread() {
    let scene = Scene::logged_on("c");
    let (weak, (sender, reports)) = (scene.client.downgrade(), mpsc::channel());
    scene.subscribe_with("s", move |_: &Message| {
        sender.send(call_all(&weak.upgrade().unwrap())).unwrap();
    });
    scene.send("s", "x");
    check(reports.recv_timeout(SOON).unwrap(), "on the receive thread");
}

/// S-3, T-6, `api-surface` 24.3: in a state listener, during a logon and on a live session.
#[test]
fn every_method_is_safe_in_a_state_listener() {
    for moment in [ConnectionState::LoggedOn, ConnectionState::HeartbeatInitiated] {
        let peer = ScriptedPeer::start().unwrap();
        let client = Client::builder("c").build().unwrap();
        let (weak, (sender, reports)) = (client.downgrade(), mpsc::channel());
        client.add_connection_state_listener(move |state: ConnectionState| {
            if state == moment {
                sender.send(call_all(&weak.upgrade().unwrap())).unwrap();
            }
        });
        let connection = connect(&client, &peer);
        let logon = begin(&client, |client| {
            client.logon_with(&in_time())?;
            client.set_heartbeat(2 * SOON)
        });
        connection.logon(&LogonAck::success(), SOON).unwrap();
        check(reports.recv_timeout(SOON).unwrap(), "inside a connection-state listener");
        // It was closed in the end.
        drop(logon.wait());
        assert!(!client.is_connected());
    }
}

/// T-6: in whatever else is called on the receive thread.
#[test]
fn waiting_is_refused_in_every_callback_on_the_receive_thread() {
    let (sender, outcomes) = mpsc::channel();
    let scene = Scene::prepared(Client::builder("c"), |client| {
        let call = |place: &'static str| {
            let (weak, sender) = (client.downgrade(), sender.clone());
            move || {
                let outcome = weak.upgrade().unwrap().sow("t", "").map(drop);
                sender.send((place, outcome.map_err(|e| e.kind()))).unwrap();
            }
        };
        let (heartbeat, last, exception) = (call("global"), call("last chance"), call("exception"));
        client.set_global_handler(GlobalKind::Heartbeat, move |_: &Message| heartbeat());
        client.set_last_chance_handler(move |_: &Message| last());
        client.set_exception_listener(move |_: &UnhandledError| exception());
    });
    scene.subscribe_with("s", |_: &Message| Err::<(), _>("for the exception listener"));
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    scene.send("s", "x");
    for place in ["global", "last chance", "exception"] {
        assert_eq!(outcomes.recv_timeout(SOON).unwrap(), (place, Err(ErrorKind::Usage)));
    }
}

/// 136, T-3: it returns, nothing further is delivered, and it is told.
#[test]
fn a_handler_may_close_its_client() {
    let scene = Scene::logged_on("c");
    let (weak, (sender, calls)) = (scene.client.downgrade(), mpsc::channel());
    scene.subscribe_with("s", move |_: &Message| {
        weak.upgrade().unwrap().close();
        sender.send(()).unwrap();
    });
    let frames = [(); 5].map(|()| amps_client::testing::Frame::encode(&publication("s"), "x"));
    scene.connection.send_raw(frames.concat()).unwrap();
    scene.connection.wait_closed(SOON).unwrap();
    calls.recv_timeout(SOON).unwrap();
    // Now with the receive thread waited for.
    scene.client.close();
    assert!(calls.try_recv().is_err(), "no further message");
    use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown};
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
}

/// T-4, T-6: the last handle may go on the receive thread.
#[test]
fn a_handler_may_drop_the_last_handle() {
    let Scene { client, record, connection, peer } = Scene::logged_on("c");
    let (handler_of_client, client_of_handler) = mpsc::channel::<Client>();
    let (gate, (sender, done)) = (Gate::new(), mpsc::channel());
    let held = gate.clone();
    let handler = move |_: &Message| {
        held.pass();
        let start = Instant::now();
        drop(client_of_handler.recv_timeout(SOON));
        sender.send(start.elapsed()).unwrap();
    };
    let subscribe =
        begin(&client, |client| client.execute_async(Command::subscribe("t").sub_id("s"), handler));
    connection.expect("subscribe", SOON).unwrap();
    connection.reply_ok().unwrap();
    subscribe.wait().unwrap();
    connection.send(&publication("s"), "x").unwrap();
    gate.wait_reached(1);
    handler_of_client.send(client).unwrap();
    gate.open();
    assert!(done.recv_timeout(SOON).unwrap() < AT_ONCE);
    assert_eq!(record.states().last(), Some(&ConnectionState::Shutdown));
    connection.wait_closed(SOON).unwrap();
    drop(peer);
}

/// T-6: a stream would never get what it waits for, because only this thread can bring it.
#[test]
fn a_stream_is_not_waited_for_on_the_receive_thread() {
    let scene = Scene::logged_on("c");
    let mut stream =
        scene.accepted("subscribe", |client| client.execute(Command::subscribe("t").sub_id("stream")));
    let (sender, outcomes) = mpsc::channel();
    scene.subscribe_with("s", move |_: &Message| {
        let tell = |outcome: Option<Result<Message>>| {
            sender.send(outcome.map(|m| m.map(|m| m.data().to_vec()).map_err(|e| e.kind()))).unwrap();
        };
        tell(stream.try_next());
        tell(stream.next());
        tell(stream.next_timeout(SOON));
        tell(stream.try_next());
    });
    scene.send("stream", "queued");
    scene.send("s", "x");
    for expected in
        [Ok(b"queued".to_vec()), Err(ErrorKind::Usage), Err(ErrorKind::Usage), Err(ErrorKind::TimedOut)]
    {
        assert_eq!(outcomes.recv_timeout(AT_ONCE).unwrap(), Some(expected));
    }
}

/// T-6: whoever else holds the connection, a publish there is taken at once, and goes out later.
#[test]
fn what_a_handler_publishes_during_a_logon_goes_out_after_it() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let connection = connect(&client, &peer);
    let (weak, (sender, outcomes)) = (client.downgrade(), mpsc::channel());
    client.set_last_chance_handler(move |_: &Message| {
        sender.send(weak.upgrade().unwrap().publish("t", "early")).unwrap();
    });
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    let frame = connection.expect("logon", SOON).unwrap();
    connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    outcomes.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(connection.frames().len(), 1);
    connection.reply(&LogonAck::success().answer(&frame)).unwrap();
    logon.wait().unwrap();
    assert_eq!(connection.expect("publish", SOON).unwrap().payload(), b"early");
}

/// T-6, decision 16: with the link down a publish there is `Disconnected` at once.
#[test]
fn what_a_handler_publishes_on_a_lost_connection_is_disconnected_at_once() {
    let scene = Scene::logged_on("c");
    scene.reconnect_on_loss();
    let (weak, gate, (sender, outcomes)) = (scene.client.downgrade(), Gate::new(), mpsc::channel());
    let held = gate.clone();
    scene.subscribe_with("s", move |_: &Message| {
        held.pass();
        let start = Instant::now();
        let outcome = weak.upgrade().unwrap().publish("t", "x");
        sender.send((outcome.map_err(|e| e.kind()), start.elapsed())).unwrap();
    });
    scene.send("s", "x");
    gate.wait_reached(1);
    scene.connection.reset();
    // Another thread meets the loss first.
    let publisher = scene.begin(|client| (0..1000).try_for_each(|_| client.publish("t", "y").map(drop)));
    assert!(publisher.is_waiting());
    gate.open();
    let (outcome, took) = outcomes.recv_timeout(SOON).unwrap();
    assert_eq!(outcome, Err(ErrorKind::Disconnected));
    assert!(took < A_WHILE, "{took:?}");
}

/// 142, T-8: the receive threads of one client never run handlers at the same time.
#[test]
fn handlers_of_one_client_never_overlap_even_when_it_connects_again() {
    let scene = Scene::logged_on("c");
    let second_server = ScriptedPeer::builder()
        .connection(|c| {
            c.logon()
                .expect("subscribe")
                .reply_ok()
                .send(r#"{"c":"p","t":"t","sids":"{sub_id}"}"#, "x")
                .idle()
        })
        .start()
        .unwrap();
    let gate = Gate::new();
    let (held, weak) = (gate.clone(), scene.client.downgrade());
    let (sender, story) = mpsc::channel();
    let first = sender.clone();
    scene.subscribe_with("s", move |_: &Message| {
        first.send("first begins").unwrap();
        weak.upgrade().unwrap().close();
        held.pass();
        first.send("first ends").unwrap();
    });
    scene.send("s", "x");
    gate.wait_reached(1);
    // The handler has closed the client, and still runs.
    let uri = second_server.uri("json");
    let second = scene.begin(move |client| {
        client.connect(&uri)?;
        client.logon_with(&in_time())?;
        client.subscribe_async("t", "", move |_: &Message| _ = sender.send("second").ok())
    });
    assert_eq!(story.recv_timeout(SOON), Ok("first begins"));
    assert!(story.recv_timeout(A_WHILE).is_err(), "nothing else is called while it runs");
    gate.open();
    second.wait().unwrap();
    assert_eq!([(); 2].map(|()| story.recv_timeout(SOON).unwrap()), ["first ends", "second"]);
}
