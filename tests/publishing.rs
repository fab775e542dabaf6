//! A publish is on its way when the call returns, in order, and waits for nobody but a peer that takes no bytes.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use amps_client::testing::{Expectation, Frame, LogonAck, ScriptedPeer};
use amps_client::{AckType, Client, Command, Direction, ErrorKind, HandlerError, Message, PublishOptions};
use parking_lot::Mutex;
use support::client::*;

/// The frames that were handed to the writer, in order.
fn written(client: &Client) -> Arc<Mutex<Vec<Vec<u8>>>> {
    let written = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&written);
    client.set_transport_filter(move |direction: Direction, bytes: &[u8]| {
        if direction == Direction::Outgoing {
            sink.lock().push(bytes.to_vec());
        }
    });
    written
}

/// Section 3 of the design: without a further call, and before this one returns.
#[test]
fn a_lone_publish_is_written_before_the_call_returns() {
    let scene = Scene::logged_on("c");
    let written = written(&scene.client);
    for n in 0..10 {
        scene.client.publish("t", n.to_string()).unwrap();
        assert_eq!(written.lock().len(), n + 1);
        // Far apart, so that it is no burst.
        let publish = scene.connection.expect("publish", SOON).unwrap();
        assert_eq!(publish.raw(), format!(r#"{{"c":"p","t":"t"}}{n}"#).as_bytes());
    }
}

/// Section 3 of the design: frames that were collected leave without a further call.
#[test]
fn the_last_frames_of_a_burst_leave_without_a_further_call() {
    let scene = Scene::logged_on("c");
    for round in 1..=20 {
        (0..1000).for_each(|n: u32| _ = scene.client.publish("t", n.to_string()).unwrap());
        scene.peer.wait_for_frames(round * 1000, "publish", SOON).unwrap();
    }
}

/// `api-surface` 24.1: the frames of one thread keep their order, whoever writes them.
#[test]
fn the_publishes_of_each_thread_keep_their_order() {
    const EACH: usize = 5000;
    let scene = Scene::logged_on("c");
    let publishers = [(); 4].map(|()| {
        scene.begin(|client| {
            let id = format!("{:?}", std::thread::current().id());
            (0..EACH).try_for_each(|n| client.publish(&id, n.to_string()).map(drop))
        })
    });
    publishers.into_iter().for_each(|publisher| publisher.wait().unwrap());
    let frames = scene.peer.wait_for_frames(4 * EACH, "publish", SOON).unwrap();
    let mut next: HashMap<String, usize> = HashMap::new();
    for frame in &frames {
        let next = next.entry(frame.frame().header("t").unwrap().to_owned()).or_default();
        assert_eq!(frame.frame().payload(), next.to_string().as_bytes());
        *next += 1;
    }
    assert!(next.len() == 4 && next.values().all(|count| *count == EACH));
}

/// `api-surface` 24.1, PS-18: whatever the command, and whether it is waited for.
#[test]
fn all_commands_of_one_thread_keep_their_order() {
    let scene = Scene::logged_on("c");
    for _ in 0..20 {
        let commands = scene.begin(|client| {
            (0..50).try_for_each(|_| client.publish("t", "x").map(drop))?;
            client.unsubscribe("s")?;
            (0..50).try_for_each(|_| client.delta_publish("t", "x").map(drop))?;
            client.publish_flush()
        });
        (0..50).for_each(|_| drop(scene.connection.expect("publish", SOON).unwrap()));
        scene.connection.expect("unsubscribe", SOON).unwrap();
        (0..50).for_each(|_| drop(scene.connection.expect("delta_publish", SOON).unwrap()));
        scene.connection.expect("flush", SOON).unwrap();
        scene.connection.reply_ok().unwrap();
        commands.wait().unwrap();
    }
}

/// T-6: a handler may publish, to the topic it listens to as well.
#[test]
fn a_handler_may_publish_what_it_receives() {
    let scene = Scene::logged_on("c");
    let weak = scene.client.downgrade();
    scene.subscribe_with("s", move |message: &Message| -> Result<(), HandlerError> {
        weak.upgrade().ok_or("the client has gone")?.publish("echo", message.data())?;
        Ok(())
    });
    for n in 0..1000 {
        scene.send("s", &n.to_string());
    }
    for n in 0..1000 {
        let echo = scene.connection.expect("publish", SOON).unwrap();
        assert_eq!((echo.header("t"), echo.payload()), (Some("echo"), n.to_string().as_bytes()));
    }
    assert!(scene.record.failures().is_empty());
}

/// T-6, decision 16: a handler that publishes to a peer that reads nothing is never held up, and told when it is too much.
#[test]
fn a_full_outbox_fails_a_publish_on_the_receive_thread_and_never_blocks_it() {
    const LIMIT: usize = 256 << 10;
    let scene = Scene::prepared(Client::builder("c").outbox_limit(LIMIT), |_| {});
    scene.connection.stop_reading();
    let (weak, (sender, outcomes)) = (scene.client.downgrade(), mpsc::channel());
    // Subscribing would take an answer of the peer.
    scene.client.set_last_chance_handler(move |_: &Message| {
        let client = weak.upgrade().unwrap();
        let payload = vec![b'x'; 16 << 10];
        let (mut taken, mut slowest) = (0, Duration::ZERO);
        let error = loop {
            let start = Instant::now();
            let outcome = client.publish("t", &payload);
            slowest = slowest.max(start.elapsed());
            match outcome {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        sender.send((error, taken, slowest)).unwrap();
    });
    scene.send("s", "x");
    let (error, taken, slowest) = outcomes.recv_timeout(SOON).unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("outbox full") && error.topic() == Some("t"), "{error}");
    assert!(slowest < A_WHILE, "{slowest:?}");
    assert!(taken * (16 << 10) >= LIMIT);
    // Nothing of what was taken is lost, and the client is as good as new.
    scene.connection.resume_reading();
    let frames = scene.peer.wait_for_frames(taken, "publish", SOON).unwrap();
    assert!(frames.iter().all(|frame| frame.frame().payload().len() == 16 << 10));
    scene.settle();
    assert_eq!(scene.peer.frames().iter().filter(|f| f.frame().command() == "p").count(), taken);
}

/// Section 3 of the design: a full outbox blocks the caller, until the peer reads on.
#[test]
fn a_publish_waits_for_a_peer_that_reads_nothing_and_loses_nothing() {
    let scene = Scene::logged_on("c");
    scene.connection.stop_reading();
    let publisher = scene.begin(|client| {
        let payload = vec![b'x'; 64 << 10];
        (0..400).try_for_each(|n| {
            let mut payload = payload.clone();
            payload.extend(format!("{n}").bytes());
            client.publish("t", payload).map(drop)
        })
    });
    assert!(publisher.is_waiting());
    scene.connection.resume_reading();
    publisher.wait().unwrap();
    let frames = scene.peer.wait_for_frames(400, "publish", SOON).unwrap();
    for (n, frame) in frames.iter().enumerate() {
        assert!(frame.frame().payload().ends_with(format!("x{n}").as_bytes()), "{n}");
    }
}

/// Table 3.4: a publish that waits for the peer is released by a loss, and sent on the next connection if there is one.
#[test]
fn a_publish_that_waits_for_the_peer_ends_with_the_connection() {
    for repaired in [false, true] {
        let mut scene = Scene::logged_on("c");
        if repaired {
            scene.reconnect_on_loss();
        }
        scene.connection.stop_reading();
        let publisher = scene.begin(|client| {
            let payload = vec![b'x'; 1 << 20];
            (0..50).try_for_each(|_| client.publish("t", &payload).map(drop))
        });
        assert!(publisher.is_waiting());
        scene.connection.reset();
        if repaired {
            scene.accept_again();
            publisher.wait().unwrap();
            scene.settle();
        } else {
            assert_eq!(publisher.wait().unwrap_err().kind(), ErrorKind::Disconnected);
        }
    }
}

/// 107, PS-16 without a store.
#[test]
fn a_flush_returns_with_its_ack_and_ends_with_the_connection() {
    let scene = Scene::logged_on("c");
    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.expect(Expectation::command("flush").header("a", "processed"), SOON).unwrap();
    assert!(flush.is_waiting());
    scene.connection.reply_ok().unwrap();
    flush.wait().unwrap();

    let flush = scene.begin(|client| client.publish_flush_with(AckType::PERSISTED, None));
    scene.connection.expect(Expectation::command("flush").header("a", "persisted"), SOON).unwrap();
    scene.connection.reply(r#"{"c":"ack","cid":"{cid}","a":"persisted","status":"success"}"#).unwrap();
    flush.wait().unwrap();

    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.expect("flush", SOON).unwrap();
    scene.connection.close();
    assert_eq!(flush.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(scene.client.publish_flush().unwrap_err().kind(), ErrorKind::Disconnected);
}

/// PS-16, PS-17: one time limit for all of it, named in the error.
#[test]
fn a_flush_that_is_not_answered_in_time_is_timed_out() {
    let scene = Scene::logged_on("c");
    let start = Instant::now();
    let error = scene
        .begin(|client| client.publish_flush_with(AckType::PROCESSED, Some(A_WHILE)))
        .wait()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= A_WHILE && error.to_string().contains("flush"), "{error}");
    scene.connection.expect("flush", SOON).unwrap();
    scene.settle();
}

/// `api-surface` 7: a server before 5.3.3 cannot say when everything is persisted.
#[test]
fn an_old_server_is_asked_for_processed_instead_of_persisted() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::success().version("5.3.2.9"), SOON).unwrap();
    logon.wait().unwrap();
    let flush = begin(&client, |client| client.publish_flush_with(AckType::PERSISTED, Some(SOON)));
    connection.expect(Expectation::command("flush").header("a", "processed"), SOON).unwrap();
    connection.reply_ok().unwrap();
    flush.wait().unwrap();
}

/// `api-surface` 7, M-19: what goes along, and nothing else.
#[test]
fn publishes_carry_what_they_are_given_and_nothing_else() {
    let scene = Scene::logged_on("c");
    let options =
        PublishOptions::new().expiration(Duration::from_millis(1500)).correlation_id("YWJj").sow_key("k-1");
    type Publish<'a> = &'a dyn Fn(&Client) -> amps_client::Result<u64>;
    let table: [(&str, Publish<'_>); 6] = [
        (r#"{"c":"p","t":"t"}data"#, &|c| c.publish("t", "data")),
        (r#"{"c":"p","t":"t"}"#, &|c| c.publish("t", "")),
        (r#"{"c":"p","t":"a\"b"}data"#, &|c| c.publish("a\"b", b"data")),
        (r#"{"c":"p","t":"t","e":"2","x":"YWJj","k":"k-1"}data"#, &|c| c.publish_with("t", "data", &options)),
        (r#"{"c":"delta_publish","t":"t"}data"#, &|c| c.delta_publish("t", "data")),
        (r#"{"c":"p","t":"t"}data"#, &|c| c.publish_command(Command::publish("t").data("data"))),
    ];
    for (expected, publish) in table {
        assert_eq!(publish(&scene.client).unwrap(), 0, "no store, no sequence");
        let frame = scene.connection.expect(Expectation::any(), SOON).unwrap();
        assert_eq!(String::from_utf8_lossy(frame.raw()), expected);
    }
    let large = vec![7; 5 << 20];
    scene.begin(move |client| client.publish("t", large)).wait().unwrap();
    assert_eq!(scene.connection.expect("publish", SOON).unwrap().payload().len(), 5 << 20);
}

/// `api-surface` 6: a publish that asks for an answer waits for it, and a refusal is an error.
#[test]
fn a_publish_that_asks_for_processed_or_filters_waits_for_the_answer() {
    let scene = Scene::logged_on("c");
    let commands = [
        Command::publish("t").data("x").ack_type(AckType::PROCESSED),
        Command::publish("t").data("x").filter("/a = 1"),
        Command::delta_publish("t").data("x").filter("/a = 1"),
    ];
    for command in commands {
        let again = command.clone();
        let publish = scene.begin(move |client| client.publish_command(command));
        let verb = again.command_type().name();
        let frame = scene.connection.expect(verb, SOON).unwrap();
        assert_eq!(frame.header("a"), Some("processed"));
        scene.connection.reply_ok().unwrap();
        assert_eq!(publish.wait().unwrap(), 0);
        let publish = scene.begin(move |client| client.publish_command(again));
        scene.connection.expect(verb, SOON).unwrap();
        scene.connection.reply_failure("not entitled").unwrap();
        assert_eq!(publish.wait().unwrap_err().kind(), ErrorKind::NotEntitled);
    }
}

/// What cannot be written is refused before a byte of it is, and does no harm to what comes behind.
#[test]
fn what_cannot_be_sent_is_refused_and_nothing_of_it_is_sent() {
    let scene = Scene::logged_on("c");
    let bad = "a\u{1}b";
    let errors = [
        scene.client.publish(bad, "x").unwrap_err(),
        scene.client.delta_publish(bad, "x").unwrap_err(),
        scene.client.publish_with("t", "x", &PublishOptions::new().sow_key(bad)).unwrap_err(),
        scene.client.publish_command(Command::publish(bad)).unwrap_err(),
        scene.client.publish_command(Command::subscribe("t")).unwrap_err(),
        scene.client.send(&Command::publish(bad)).unwrap_err(),
        scene.client.subscribe(bad, "").unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    }
    scene.settle();
    assert_eq!(scene.connection.frames().len(), 2, "the logon and the flush");
}

/// The same over a Unix socket.
#[test]
fn a_unix_socket_carries_the_same_frames() {
    let peer = ScriptedPeer::builder().unix().start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let connection = connect(&client, &peer);
    log_on(&client, &connection);
    let (handler, inbox) = inbox();
    let subscribe =
        begin(&client, |client| client.execute_async(Command::subscribe("t").sub_id("s"), handler));
    connection.expect("subscribe", SOON).unwrap();
    connection.reply_ok().unwrap();
    subscribe.wait().unwrap();
    connection
        .send_raw([Frame::encode(&publication("s"), "1"), Frame::encode(&publication("s"), "2")].concat())
        .unwrap();
    assert_eq!(inbox.payloads(2), ["1", "2"]);
    client.publish("t", "x").unwrap();
    assert_eq!(connection.expect("publish", SOON).unwrap().payload(), b"x");
    connection.close();
    let again = connect_again(&client, &peer);
    log_on(&client, &again);
}

/// Connects as soon as the client has noticed the loss.
fn connect_again(client: &Client, peer: &ScriptedPeer) -> amps_client::testing::PeerConnection {
    let deadline = Instant::now() + SOON;
    while client.is_connected() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    connect(client, peer)
}
