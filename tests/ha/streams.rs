//! On an `HAClient` a subscription stream outlives its connection (`design` decision 9, `resilience` M-30).

use std::time::Duration;

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{AckType, Command, CommandType, ConnectionState, ErrorKind, HAClient, MessageStream};

fn subscribed(scene: &HaScene, id: &str) -> MessageStream {
    let command = Command::subscribe("t").sub_id(id);
    scene.accepted("subscribe", |client| client.execute(command))
}

/// The payloads of the next messages.
#[track_caller]
fn payloads(stream: &mut MessageStream, count: usize) -> Vec<String> {
    let mut next = || stream.next_timeout(SOON).expect("it goes on").expect("a message");
    (0..count).map(|_| next().data_str().unwrap().to_owned()).collect()
}

/// 96: queued messages are delivered, the iterator goes on, and it is placed again exactly once.
#[test]
fn a_subscription_stream_goes_on_over_a_failover() {
    let mut scene = HaScene::logged_on();
    let mut stream = subscribed(&scene, "s");
    assert_eq!(stream.reconnects(), 0);
    scene.send("s", "1");
    scene.send("s", "2");
    scene.settle();
    for round in 1..=3 {
        scene.fail_over();
        assert_eq!(scene.resubscribed(1), ["s"]);
        scene.settle();
        assert_eq!(stream.reconnects(), round);
        scene.send("s", &format!("after {round}"));
        scene.settle();
        assert_eq!(scene.commands(), ["logon", "subscribe"]);
    }
    assert_eq!(payloads(&mut stream, 5), ["1", "2", "after 1", "after 2", "after 3"]);
    assert_eq!(stream.sub_id(), Some("s"));
    assert_eq!(stream.try_next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}

/// 96: a reader that waits does not notice.
#[test]
fn a_reader_that_waits_goes_on_waiting_over_a_failover() {
    let mut scene = HaScene::logged_on();
    let mut stream = subscribed(&scene, "s");
    let reader = begin_alone(move || {
        let next = stream.next().expect("it goes on").expect("a message");
        (next.data_str().unwrap().to_owned(), stream)
    });
    assert!(reader.is_waiting());
    scene.fail_over();
    scene.resubscribed(1);
    assert!(reader.is_waiting());
    scene.send("s", "x");
    let (payload, stream) = reader.wait();
    assert_eq!((payload.as_str(), stream.reconnects()), ("x", 1));
}

/// 96, M-24: what does not fit into the stream is not lost, whatever becomes of the connection.
#[test]
fn a_full_stream_keeps_what_was_read_and_goes_on() {
    let mut scene = HaScene::logged_on();
    let mut stream = subscribed(&scene, "s");
    stream.set_max_depth(2, usize::MAX).unwrap();
    for n in 0..10 {
        scene.send("s", &n.to_string());
    }
    scene.connection.close();
    let mut seen = payloads(&mut stream, 10);
    scene.accept_again(&LogonAck::success());
    scene.resubscribed(1);
    scene.send("s", "10");
    seen.extend(payloads(&mut stream, 1));
    let expected: Vec<_> = (0..=10).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
}

/// Decision 9, M-30: a query in flight has lost its connection, and says so.
#[test]
fn a_query_in_flight_ends_with_disconnected_and_is_not_sent_again() {
    let mut scene = HaScene::logged_on();
    let mut query = scene.accepted("sow", |client| client.sow("t", ""));
    scene.connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"{query_id}","bs":1}"#, r#"{"l":1}x"#).unwrap();
    scene.settle();
    scene.fail_over();
    scene.settle();
    let seen: Vec<_> =
        (0..2).map(|_| query.next_timeout(SOON).expect("it goes on").expect("a message").command()).collect();
    assert_eq!(seen, [CommandType::GroupBegin, CommandType::Sow]);
    assert_eq!(query.next_timeout(SOON).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(query.next_timeout(SOON).is_none());
    assert_eq!((query.reconnects(), scene.commands()), (0, vec!["logon".to_owned()]));
}

/// SM-7: the whole result comes again, and then what is new.
#[test]
fn a_query_with_a_subscription_gives_its_result_again() {
    let mut scene = HaScene::logged_on();
    let command = Command::sow_and_subscribe("t").sub_id("s").ack_type(AckType::COMPLETED);
    let mut stream = scene.accepted("sow_and_subscribe", |client| client.execute(command));
    for round in 0..3 {
        let connection: &PeerConnection = &scene.connection;
        connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
        connection.send(r#"{"c":"sow","t":"t","query_id":"{query_id}","bs":1}"#, r#"{"l":1}x"#).unwrap();
        connection.reply(r#"{"c":"group_end","query_id":"{query_id}"}"#).unwrap();
        connection.reply(r#"{"c":"ack","cid":"{cid}","a":"completed","status":"success"}"#).unwrap();
        connection.send(&publication("s"), "later").unwrap();
        let next = |_| stream.next_timeout(SOON).expect("it goes on").expect("a message").command();
        let seen: Vec<_> = (0..5).map(next).collect();
        let result = [CommandType::GroupBegin, CommandType::Sow, CommandType::GroupEnd, CommandType::Ack];
        assert_eq!(seen, [result.as_slice(), &[CommandType::Publish]].concat(), "round {round}");
        scene.fail_over();
        accept(&scene.connection, "sow_and_subscribe");
    }
}

/// Decision 9: only when the client gives up does it end, and it is not placed by a later connection.
#[test]
fn a_stream_ends_with_disconnected_when_the_client_gives_up() {
    let peer = ScriptedPeer::start().unwrap();
    let strategy = amps_client::FixedDelayStrategy::new(DELAY).max_retry_time(Duration::from_millis(50));
    let client = ha_client(&[&peer], |builder| builder.reconnect_delay_strategy(strategy));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();
    let subscribing = begin_ha(&client, |client| client.execute(Command::subscribe("t").sub_id("s")));
    accept(&first, "subscribe");
    let mut stream = subscribing.wait().unwrap();
    first.send(&publication("s"), "x").unwrap();
    settle(&client, &first);
    peer.refuse().unwrap();
    first.close();
    record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!(payloads(&mut stream, 1), ["x"]);
    assert_eq!(stream.next().unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(stream.next().is_none() && stream.next().is_none());
    peer.listen_again().unwrap();
    let waiting = connecting(&client);
    let second = admitted(&peer);
    waiting.wait().unwrap();
    settle(&client, &second);
    assert_eq!(commands(&second), ["logon"]);
    assert_eq!(record.states().last(), Some(&ConnectionState::Resubscribed));
}

/// M-30, T-1: closing ends it, and it does not come back with the next connection.
#[test]
fn a_stream_ends_with_the_close_of_its_client() {
    let mut scene = HaScene::logged_on();
    let mut stream = subscribed(&scene, "s");
    scene.send("s", "x");
    scene.settle();
    scene.client.close();
    assert_eq!(payloads(&mut stream, 1), ["x"]);
    assert!(stream.next().is_none());
    let waiting = connecting(&scene.client);
    scene.accept_again(&LogonAck::success());
    waiting.wait().unwrap();
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
}

/// M-32, SM-3: a stream that is dropped does not come back.
#[test]
fn a_stream_that_is_dropped_in_an_outage_does_not_come_back() {
    let mut scene = HaScene::logged_on();
    let (gone, _kept) = (subscribed(&scene, "a"), subscribed(&scene, "b"));
    scene.connection.close();
    scene.connection = scene.peer.accept(SOON).unwrap();
    scene.begin(move |_| drop(gone)).at_once();
    scene.connection.logon(&LogonAck::success(), SOON).unwrap();
    assert_eq!(scene.resubscribed(1), ["b"]);
    scene.settle();
    assert!(scene.record.failures().is_empty(), "{:?}", scene.record.story());
}

/// 96, SM-4: a stream whose subscription was replaced comes back as it was replaced.
#[test]
fn a_replaced_stream_comes_back_as_it_was_replaced() {
    let mut scene = HaScene::logged_on();
    let mut stream = subscribed(&scene, "s");
    let replacement = Command::subscribe("t").sub_id("s").filter("/a = 1").options("replace");
    let other = scene.accepted("subscribe", |client| client.execute(replacement));
    scene.fail_over();
    let again = scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    assert_eq!((again.header("filter"), again.header("o")), (Some("/a = 1"), None));
    scene.send("s", "x");
    assert_eq!(payloads(&mut stream, 1), ["x"]);
    drop(stream);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "subscribe"], "another handle still reads");
    drop(other);
    scene.connection.expect("unsubscribe", SOON).unwrap();
}

/// 96, `MessageStream::reconnects`: a stream that is placed for the first time by a recovery has gone through nothing.
#[test]
fn a_stream_that_was_entered_in_an_outage_counts_from_its_first_connection() {
    let mut scene = HaScene::logged_on();
    scene.connection.close();
    scene.connection = scene.peer.accept(SOON).unwrap();
    let waiting = scene.begin(|client| client.execute(Command::subscribe("t").sub_id("s")));
    assert!(waiting.is_waiting());
    scene.connection.logon(&LogonAck::success(), SOON).unwrap();
    assert_eq!(scene.resubscribed(1), ["s"]);
    let mut stream = waiting.wait().unwrap();
    scene.send("s", "1");
    assert_eq!((payloads(&mut stream, 1), stream.reconnects()), (vec!["1".to_owned()], 0));
    scene.fail_over();
    scene.resubscribed(1);
    scene.send("s", "2");
    assert_eq!((payloads(&mut stream, 1), stream.reconnects()), (vec!["2".to_owned()], 1));
}

/// Takes the next connection and logs the client on.
fn taken(peer: &ScriptedPeer) -> PeerConnection {
    let connection = peer.accept(SOON).unwrap();
    connection.logon(&LogonAck::success(), SOON).unwrap();
    connection
}

/// Decision 9, M-30.
#[test]
fn a_stream_has_counted_a_failover_when_it_gives_the_first_message_behind_it() {
    let peer = ScriptedPeer::start().unwrap();
    let client = HAClient::builder("c").servers([peer.uri("json")]).build().unwrap();
    let ha = client.clone();
    let connecting = begin_alone(move || ha.connect_and_logon());
    let first = taken(&peer);
    connecting.wait().unwrap();

    let ha = client.clone();
    let subscribing = begin_alone(move || ha.execute(Command::subscribe("t").sub_id("s")));
    first.expect("subscribe", SOON).unwrap();
    first.reply_ok().unwrap();
    let mut stream = subscribing.wait().unwrap();
    first.close();

    let second = taken(&peer);
    second.expect("subscribe", SOON).unwrap();
    // Data may overtake the answer.
    second.send(&publication("s"), "behind it").unwrap();
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().data(), b"behind it");
    assert_eq!(stream.reconnects(), 1);
    second.reply_failure("not entitled").unwrap();

    // That attempt was none after all.
    let third = taken(&peer);
    third.expect("subscribe", SOON).unwrap();
    third.send(&publication("s"), "again").unwrap();
    third.reply_ok().unwrap();
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().data(), b"again");
    assert_eq!(stream.reconnects(), 1);
    assert_eq!(stream.try_next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}
