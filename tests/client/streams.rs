//! A message stream is bounded, ends clearly, and tells waiting from the end.

use std::time::{Duration, Instant};

use crate::support::client::*;
use amps_client::testing::{Expectation, Frame, Server};
use amps_client::{
    AckType, Client, Command, CommandType, ConnectionState, ErrorKind, MessageStream, Origin, Result,
};

/// A stream of a subscription under this id.
fn subscribed(scene: &Scene, id: &str) -> MessageStream {
    let command = Command::subscribe("t").sub_id(id);
    scene.accepted("subscribe", |client| client.execute(command))
}

fn payloads(stream: &mut MessageStream, count: usize) -> Vec<String> {
    let next = || stream.next_timeout(SOON).expect("it goes on").expect("a message");
    std::iter::repeat_with(next).take(count).map(|m| m.data_str().unwrap().to_owned()).collect()
}

fn send_all(scene: &Scene, id: &str, payloads: impl IntoIterator<Item = u32>) {
    let frames = payloads.into_iter().map(|n| Frame::encode(&publication(id), n.to_string()));
    scene.connection.send_raw(frames.flatten().collect::<Vec<u8>>()).unwrap();
}

/// M-30, 96: the plain part.
#[test]
fn after_a_loss_a_subscription_gives_what_is_queued_then_disconnected_once_then_the_end() {
    let mut scene = Scene::logged_on("c");
    scene.reconnect_on_loss();
    let mut stream = subscribed(&scene, "s");
    send_all(&scene, "s", 1..=3);
    scene.connection.close();
    scene.accept_again();
    assert_eq!(payloads(&mut stream, 3), ["1", "2", "3"]);
    assert_eq!(stream.next().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(stream.next().is_none() && stream.next().is_none());
    assert_eq!(stream.reconnects(), 0);
    scene.settle();
    drop(stream);
    scene.settle();
    let seen = scene.connection.frames();
    let others = seen.iter().filter(|f| !matches!(f.frame().command(), "logon" | "flush"));
    assert_eq!(others.count(), 0, "nothing is placed again, and nothing unsubscribed");
}

/// M-30: a query in flight ends with the connection.
#[test]
fn after_a_loss_a_query_gives_what_is_queued_and_then_disconnected() {
    let scene = Scene::logged_on("c");
    let mut stream = scene.accepted("sow", |client| client.sow("t", ""));
    scene.connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
    scene.connection.close();
    let began = stream.next_timeout(SOON).unwrap().unwrap();
    assert_eq!(began.command(), CommandType::GroupBegin);
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(stream.next_timeout(SOON).is_none());
}

/// M-30, D-6: the stream was placed by the handler, on a connection that is lost before the handler returns.
#[test]
fn a_stream_on_a_connection_that_is_lost_within_the_handler_ends_too() {
    let mut scene = Scene::logged_on("c");
    let (gate, reconnect) = (Gate::new(), reconnects_to(&scene.peer));
    let (held, (sender, streams)) = (gate.clone(), std::sync::mpsc::channel());
    scene.on_loss(move |client: &Client, cause: &amps_client::Error| {
        reconnect(client, cause)?;
        sender.send(client.execute(Command::subscribe("t").timeout(SOON))?).expect("the test waits");
        held.pass();
        Ok::<(), amps_client::Error>(())
    });
    scene.connection.close();
    scene.accept_again();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    gate.wait_reached(1);
    scene.connection.close();
    let mut stream = streams.recv_timeout(SOON).unwrap();
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(stream.next_timeout(SOON).is_none());
    gate.open();
}

/// M-31: after `group_end` and the last acknowledgement that was asked for.
#[test]
fn a_query_ends_with_its_group_and_the_last_requested_acknowledgement() {
    let scene = Scene::logged_on("c");
    for (acks, last) in [(AckType::NONE, "group_end"), (AckType::STATS, "ack"), (AckType::COMPLETED, "ack")] {
        let command = Command::sow("t").query_id("q").add_ack_type(acks);
        let mut stream = scene.accepted("sow", move |client| client.execute(command));
        let ack = |name: &str| {
            let header = format!(r#"{{"c":"ack","cid":"{{cid}}","a":"{name}","status":"success"}}"#);
            scene.connection.reply(&header).unwrap();
        };
        scene.connection.reply(r#"{"c":"group_begin","query_id":"q"}"#).unwrap();
        scene.connection.reply(r#"{"c":"group_end","query_id":"q"}"#).unwrap();
        if last == "ack" {
            payloads(&mut stream, 2);
            assert_eq!(stream.try_next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut, "{acks}");
        }
        ack("completed");
        if acks.contains(AckType::STATS) {
            ack("stats");
        }
        let rest: Vec<_> = stream.by_ref().map(|m| m.unwrap().command().to_string()).collect();
        assert_eq!(rest.last().map(String::as_str), Some(last), "{acks}");
        assert!(stream.next().is_none());
    }
}

/// M-4: the id of a query is free again as soon as its stream has ended, whatever is still under way.
#[test]
fn a_query_id_can_be_used_again_when_its_stream_has_ended() {
    let scene = Scene::logged_on("c");
    for acks in [AckType::NONE, AckType::COMPLETED, AckType::NONE] {
        let command = Command::sow("t").query_id("q").add_ack_type(acks);
        let mut stream = scene.accepted("sow", move |client| client.execute(command));
        scene.connection.reply(r#"{"c":"group_end","query_id":"q"}"#).unwrap();
        assert_eq!(payloads(&mut stream, 1), [""]);
        if acks.is_empty() {
            assert!(stream.next_timeout(SOON).is_none());
        }
        // The completion of the first query comes when the second is under way, and is not taken for its own.
        scene.connection.reply(r#"{"c":"ack","cid":"earlier","query_id":"q","a":"completed"}"#).unwrap();
        scene.settle();
        if !acks.is_empty() {
            assert_eq!(stream.try_next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
            scene.connection.reply(r#"{"c":"ack","query_id":"q","a":"completed"}"#).unwrap();
            assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().ack_type(), AckType::COMPLETED);
            assert!(stream.next_timeout(SOON).is_none());
        }
    }
}

/// M-3: the results of a second query would go to the first.
#[test]
fn a_query_id_in_use_is_a_usage_error() {
    let scene = Scene::logged_on("c");
    let query = || Command::sow("t").query_id("q");
    let mut first = scene.accepted("sow", move |client| client.execute(query()));
    let error = scene.client.execute(query()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`q`"), "{error}");
    scene.connection.reply(r#"{"c":"group_end","query_id":"q"}"#).unwrap();
    assert_eq!(payloads(&mut first, 1), [""]);
    assert!(first.next_timeout(SOON).is_none());
}

/// M-31, decision 23: a query that is completed has ended, group or not.
#[test]
fn a_query_ends_when_it_is_completed_even_without_its_group() {
    let scene = Scene::logged_on("c");
    let mut stream = scene.accepted("sow", |client| client.sow("t", ""));
    scene.connection.reply(r#"{"c":"ack","cid":"{cid}","a":"completed","status":"success"}"#).unwrap();
    assert!(stream.next_timeout(SOON).is_none());
}

/// M-31, `api-surface` 6: a stream of acknowledgements ends with the last of them; one of nothing has ended.
#[test]
fn a_stream_of_acknowledgements_ends_with_the_last_that_was_asked_for() {
    let scene = Scene::logged_on("c");
    let asked = AckType::PROCESSED | AckType::PERSISTED;
    let command = Command::publish("t").data("x").ack_type(asked);
    let stream = scene.accepted("publish", move |client| client.execute(command));
    scene.connection.reply(r#"{"c":"ack","cid":"{cid}","a":"persisted","status":"success"}"#).unwrap();
    let acks: Vec<_> = stream.map(|m| m.unwrap().ack_type()).collect();
    assert_eq!(acks, [AckType::PROCESSED, AckType::PERSISTED]);

    let mut nothing = scene.client.execute(Command::publish("t").data("x")).unwrap();
    assert!(nothing.next().is_none());
}

/// M-32: dropping and closing are the same, and happen once.
#[test]
fn a_stream_that_goes_unsubscribes_once() {
    let scene = Scene::logged_on("c");
    for close in [false, true] {
        let stream = subscribed(&scene, "s");
        if close {
            stream.close()
        } else {
            drop(stream)
        }
        let wanted = Expectation::command("unsubscribe").header("sub_id", "s");
        scene.connection.expect(wanted, SOON).unwrap();
    }
    let query = scene.accepted("sow", |client| client.execute(Command::sow("t").query_id("q")));
    drop(query);
    scene.connection.expect(Expectation::command("unsubscribe").header("query_id", "q"), SOON).unwrap();
    let (handler, last_chance) = inbox();
    scene.client.set_last_chance_handler(handler);
    scene.send("s", "late");
    assert_eq!(last_chance.payloads(1), ["late"]);
}

/// M-32, `api-surface` 8: there is nothing left to unsubscribe.
#[test]
fn a_stream_that_has_ended_is_dropped_in_silence() {
    let scene = Scene::logged_on("c");
    let mut query = scene.accepted("sow", |client| client.execute(Command::sow("t").query_id("q")));
    scene.connection.reply(r#"{"c":"group_end","query_id":"q"}"#).unwrap();
    assert_eq!(query.by_ref().count(), 1);
    drop(query);
    let cancelled = subscribed(&scene, "s");
    scene.client.unsubscribe("s").unwrap();
    scene.connection.expect("unsubscribe", SOON).unwrap();
    drop(cancelled);
    scene.settle();
    let sent = |f: &amps_client::testing::ReceivedFrame| f.frame().command() == "unsubscribe";
    assert_eq!(scene.connection.frames().iter().filter(|f| sent(f)).count(), 1);
    assert!(scene.record.failures().is_empty());
}

/// `api-surface` 7: an unsubscribed or closed stream gives what is queued, and then ends.
#[test]
fn unsubscribing_and_closing_the_client_end_a_stream_after_what_is_queued() {
    let ways: [fn(&Client) -> Result<()>; 3] = [
        |client| client.unsubscribe("s"),
        Client::unsubscribe_all,
        |client| {
            client.close();
            Ok(())
        },
    ];
    for end in ways {
        let scene = Scene::logged_on("c");
        let mut stream = subscribed(&scene, "s");
        send_all(&scene, "s", 1..=2);
        scene.settle();
        end(&scene.client).unwrap();
        assert_eq!(payloads(&mut stream, 2), ["1", "2"]);
        assert!(stream.next().is_none());
    }
}

/// M-33: nothing yet is an error of its own, and the stream goes on.
#[test]
fn nothing_yet_is_timed_out_and_never_the_end() {
    let scene = Scene::logged_on("c");
    let mut stream = subscribed(&scene, "s");
    assert_eq!(stream.try_next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    let limit = Duration::from_millis(50);
    let start = Instant::now();
    assert_eq!(stream.next_timeout(limit).unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    stream.set_timeout(Some(limit));
    assert_eq!(stream.next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= 2 * limit);
    scene.send("s", "x");
    assert_eq!(payloads(&mut stream, 1), ["x"]);
    stream.set_timeout(None);
    assert_eq!(stream.timeout(), None);
}

/// M-33: a reader that waits without a limit is woken by a message, by the end, by a close and by a loss.
#[test]
fn a_waiting_reader_is_woken_by_whatever_happens() {
    type Happening = fn(&Scene);
    let table: [(Happening, Option<Result<(), ErrorKind>>); 4] = [
        (|scene| scene.send("s", "x"), Some(Ok(()))),
        (|scene| scene.client.unsubscribe("s").unwrap(), None),
        (|scene| scene.client.close(), None),
        (|scene| scene.connection.close(), Some(Err(ErrorKind::Disconnected))),
    ];
    for (happening, expected) in table {
        let scene = Scene::logged_on("c");
        let mut stream = subscribed(&scene, "s");
        let reader = begin_alone(move || stream.next().map(|m| m.map(drop).map_err(|e| e.kind())));
        assert!(reader.is_waiting());
        happening(&scene);
        assert_eq!(reader.wait(), expected);
    }
}

/// M-24, decision 10: bounded by default, in messages and in bytes; unbounded must be asked for.
#[test]
fn streams_are_bounded_unless_asked_otherwise() {
    let scene = Scene::logged_on("c");
    let stream = subscribed(&scene, "s");
    assert_eq!(stream.max_depth(), Some((10_000, 2 << 20)));
    stream.set_max_depth(7, 1000).unwrap();
    assert_eq!(stream.max_depth(), Some((7, 1000)));
    for (messages, bytes) in [(0, 1), (1, 0)] {
        assert_eq!(stream.set_max_depth(messages, bytes).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(scene.client.set_default_max_depth(messages, bytes).unwrap_err().kind(), ErrorKind::Usage);
    }
    stream.set_unbounded();
    assert_eq!(stream.max_depth(), None);
    scene.client.set_default_max_depth(3, 4000).unwrap();
    assert_eq!(subscribed(&scene, "t").max_depth(), Some((3, 4000)));
}

/// M-24: what does not fit stays with the receive thread, which reads no further; nothing is lost or reordered.
#[test]
fn a_full_stream_stops_the_reading_and_loses_nothing() {
    let scene = Scene::logged_on("c");
    let mut stream = subscribed(&scene, "s");
    let other = scene.subscribe("h");
    stream.set_max_depth(10, usize::MAX).unwrap();
    send_all(&scene, "s", 0..100);
    scene.send("h", "behind");
    // The handler of the other subscription waits as well.
    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    assert!(flush.is_waiting());
    assert_eq!((stream.depth(), other.rest().len()), (10, 0));
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(payloads(&mut stream, 100), expected);
    flush.wait().unwrap();
    assert_eq!(other.payloads(1), ["behind"]);
}

/// M-24: more room wakes the receive thread, and so does whatever ends the stream or the client.
#[test]
fn a_receive_thread_that_waits_for_room_is_woken_by_whatever_happens() {
    let ways: [fn(&Scene, MessageStream); 5] = [
        |_, stream| stream.set_unbounded(),
        |_, stream| stream.set_max_depth(1000, usize::MAX).unwrap(),
        |_, stream| drop(stream),
        |scene, _stream| scene.client.unsubscribe("s").unwrap(),
        |scene, _stream| scene.client.close(),
    ];
    for way in ways {
        let scene = Scene::logged_on("c");
        let stream = subscribed(&scene, "s");
        stream.set_max_depth(1, usize::MAX).unwrap();
        send_all(&scene, "s", 0..100);
        let flush = scene.begin(|client| client.publish_flush());
        scene.connection.skip_to("flush", SOON).unwrap();
        scene.connection.reply_ok().unwrap();
        assert!(flush.is_waiting());
        way(&scene, stream);
        // Closing the client ends the flush as well.
        let _ = flush.wait();
    }
}

/// M-24: the bytes are those of the receive buffers that the messages keep alive.
#[test]
fn a_stream_is_bounded_in_bytes_too() {
    let scene = Scene::logged_on("c");
    let mut stream = subscribed(&scene, "s");
    stream.set_max_depth(usize::MAX, 64 << 10).unwrap();
    let large = "x".repeat(16 << 10);
    for _ in 0..50 {
        scene.send("s", &large);
    }
    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    assert!(flush.is_waiting());
    assert!((1..=8).contains(&stream.depth()), "{}", stream.depth());
    assert!(payloads(&mut stream, 50).iter().all(|payload| *payload == large));
    flush.wait().unwrap();
}

/// `api-surface` 8.
#[test]
fn a_conflated_stream_keeps_the_newest_message_of_each_key() {
    let scene = Scene::logged_on("c");
    let mut stream = subscribed(&scene, "s");
    stream.conflate().unwrap();
    for (key, data) in [("a", "1"), ("b", "2"), ("a", "3"), ("", "4"), ("b", "5")] {
        scene.connection.send(&format!(r#"{{"c":"p","t":"t","k":"{key}","sids":"s"}}"#), data).unwrap();
    }
    scene.settle();
    assert_eq!(payloads(&mut stream, 3), ["3", "5", "4"]);
    let query = scene.accepted("sow", |client| client.sow("t", ""));
    assert_eq!(query.conflate().unwrap_err().kind(), ErrorKind::Usage);
}

/// `api-surface` 6: a replaced subscription goes on in the stream it has; the last handle unsubscribes.
#[test]
fn replacing_a_subscription_gives_a_second_handle_on_its_stream() {
    let scene = Scene::logged_on("c");
    let mut first = subscribed(&scene, "s");
    let replace = Command::subscribe("t").sub_id("s").filter("/a = 1").options("replace");
    let mut second = scene.accepted("subscribe", |client| client.execute(replace));
    scene.send("s", "x");
    assert_eq!(payloads(&mut second, 1), ["x"]);
    drop(second);
    scene.send("s", "y");
    assert_eq!(payloads(&mut first, 1), ["y"]);
    drop(first);
    scene.connection.expect("unsubscribe", SOON).unwrap();
}

/// `api-surface` 6: the subscription to be replaced has a handler.
#[test]
fn a_subscription_with_a_handler_is_not_replaced_by_a_stream() {
    let scene = Scene::logged_on("c");
    scene.subscribe("s");
    let replace = Command::subscribe("t").sub_id("s").options("replace");
    assert_eq!(scene.client.execute(replace).unwrap_err().kind(), ErrorKind::Usage);
}

/// M-25, 141: messages of a stream stay as they are, however many come after them.
#[test]
fn messages_taken_from_a_stream_stay_as_they_are() {
    let server = Server::quick().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.connect(&server.uri("json")).unwrap();
    client.logon().unwrap();
    let mut stream = client.subscribe("t", "").unwrap();
    let publisher =
        begin(&client, |client| (0..5000).try_for_each(|n| client.publish("t", n.to_string()).map(drop)));
    let mut kept = Vec::new();
    for _ in 0..5000 {
        kept.push(stream.next_timeout(SOON).unwrap().unwrap());
    }
    publisher.wait().unwrap();
    for (n, message) in kept.iter().enumerate() {
        assert_eq!(message.data_str().unwrap(), n.to_string());
        assert_eq!((message.topic(), message.sub_id()), (Some("t"), stream.sub_id()));
    }
}

/// `api-surface` 8: what ended by itself is not an error of the client.
#[test]
fn a_dropped_stream_of_a_closed_client_is_not_reported() {
    let scene = Scene::logged_on("c");
    let stream = subscribed(&scene, "s");
    let pending = subscribed(&scene, "t");
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    drop(stream);
    scene.client.close();
    drop(pending);
    assert!(scene.record.failures().iter().all(|f| f.origin == Origin::Connection));
    assert_eq!(scene.record.states().last(), Some(&ConnectionState::Shutdown));
}
