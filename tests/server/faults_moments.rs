//! When faults strike, where, and how often.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Expectation, Fault, Frame, Listener, Server, Topic, When};
use amps_client::{Direction, ErrorKind};

const SOON: Duration = Duration::from_secs(10);
const PUBLISH: &str = r#"{"c":"p","t":"t"}x"#;

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

/// A subscriber to everything, and a publisher.
fn two(server: &Server) -> (RawClient, RawClient) {
    let mut subscriber = RawClient::log_on(server, "subscriber");
    subscriber.ask(r#"{"c":"subscribe","cid":"s","t":".*"}"#);
    (subscriber, RawClient::log_on(server, "publisher"))
}

/// The payloads that the subscriber gets when these are published, one after the other.
fn delivered(subscriber: &mut RawClient, publisher: &mut RawClient, payloads: &str) -> String {
    for payload in payloads.chars() {
        publisher.send(format!(r#"{{"c":"p","t":"t"}}{payload}"#));
    }
    publisher.received();
    subscriber.received().iter().map(|frame| String::from_utf8_lossy(frame.payload()).into_owned()).collect()
}

/// X-2: how often.
#[test]
fn a_fault_strikes_once_or_as_often_as_it_is_told() {
    let server = server();
    let (mut subscriber, mut publisher) = two(&server);
    let lost = || Fault::swallow().when(When::receives("publish"));
    for (fault, expected) in [(lost(), "bcdef"), (lost().times(3), "def"), (lost().always(), "")] {
        let fault = server.fault(fault);
        assert_eq!(delivered(&mut subscriber, &mut publisher, "abcdef"), expected);
        assert_eq!(fault.fired(), 6 - expected.len() as u64);
        fault.remove();
        assert_eq!(delivered(&mut subscriber, &mut publisher, "g"), "g");
    }
}

/// X-1: where.
#[test]
fn a_fault_may_be_for_one_client_or_connection_or_listener_only() {
    let server = Server::builder().listen_tcp().listen(Listener::tcp()).start().unwrap();
    let uris = server.uris("json");
    let second = uris[1]["tcp://".len()..].split('/').next().unwrap().to_owned();
    let mut clients =
        [RawClient::log_on(&server, "a"), RawClient::log_on(&server, "b")].into_iter().collect::<Vec<_>>();
    let mut other = RawClient::of(std::net::TcpStream::connect(second).unwrap());
    other.send(r#"{"c":"logon","cid":"1","client_name":"a","mt":"json","a":"processed"}"#);
    other.receive();
    clients.push(other);

    let refused = || Fault::refuse("bad filter").when(When::receives("sow_delete")).always();
    let table = [
        (refused(), [true, true, true]),
        (refused().on_client("a"), [true, false, true]),
        (refused().on_connection(2), [false, true, false]),
        (refused().on_listener(1), [false, false, true]),
        (refused().on_listener(0).on_client("a"), [true, false, false]),
        (refused().on_client("nobody"), [false, false, false]),
    ];
    for (fault, expected) in table {
        let text = format!("{fault:?}");
        let fault = server.fault(fault);
        for (client, expected) in clients.iter_mut().zip(expected) {
            client.send(r#"{"c":"sow_delete","cid":"1","t":"t","filter":"1=1","a":"processed"}"#);
            let reason = if expected { "bad filter" } else { "invalid topic" };
            assert_eq!(client.receive().header("reason"), Some(reason), "{text}");
        }
        fault.remove();
    }
}

/// X-1: a client is known by its logon, before that is answered.
#[test]
fn a_logon_belongs_to_the_client_that_it_names() {
    let server = server();
    server.fault(Fault::refuse("auth failure").when(When::receives("logon")).on_client("desk"));
    let logon = |name| {
        let mut client = RawClient::connect(&server);
        client
            .send(format!(r#"{{"c":"logon","cid":"1","client_name":"{name}","mt":"json","a":"processed"}}"#));
        client.receive().header("reason").map(str::to_owned)
    };
    assert_eq!(logon("pricer"), None);
    assert_eq!(logon("desk").as_deref(), Some("auth failure"));
    assert_eq!(logon("desk"), None);
}

/// X-2: the predicates.
#[test]
fn a_moment_may_name_a_command_an_ack_a_topic_a_subscription_an_id_or_a_sequence() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","sub_id":"sub","t":"other"}"#);
    let publish = r#"{"c":"p","cid":"7","t":"other","s":3,"a":"processed,persisted"}x"#;
    let table: Vec<(When, &str)> = vec![
        (When::receives("publish"), ""),
        (When::receives("p"), ""),
        (When::receives("subscribe"), "p processed persisted"),
        (When::receives(Expectation::any().header("t", "other")), ""),
        (When::receives(Expectation::any().header("t", "orders")), "p processed persisted"),
        (When::receives(Expectation::any().header("s", "3")), ""),
        (When::receives(|frame: &Frame| frame.payload() == b"x"), ""),
        (When::sends("ack"), "p persisted"),
        (When::sends(Expectation::command("ack").header("a", "persisted")), "p processed"),
        (When::sends(Expectation::any().header("sids", "sub")), "processed persisted"),
        (When::sends(Expectation::any().header("cid", "7")), "p persisted"),
        (When::sends(Expectation::any().header("s", "3")), "p processed"),
    ];
    for (when, expected) in table {
        let text = format!("{when:?}");
        let fault = server.fault(Fault::swallow().when(when));
        client.send(publish);
        let received = client.received();
        let kinds = received.iter().map(|f| f.header("a").unwrap_or(f.command()).to_owned());
        assert_eq!(kinds.collect::<Vec<_>>().join(" "), expected, "{text}");
        fault.remove();
    }
}

/// X-2: counts from accept and from arming, in and out.
#[test]
fn a_count_runs_from_accept_or_from_arming() {
    let server = server();
    // What the frames of the conversation below are, in bytes with their prefix: two in, one out.
    let logon = r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#;
    let beat = r#"{"c":"heartbeat","o":"beat","cid":"2","a":"processed"}"#;
    let (first, second) = (logon.len() as u64 + 4, beat.len() as u64 + 4);
    let table = [
        (When::frames_in(1), 1),
        (When::frames_in(2), 2),
        (When::frames_in(3), 3),
        (When::frames_in(1).since_armed(), 2),
        (When::frames_in(2).since_armed(), 3),
        (When::bytes_in(first - 1), 0),
        (When::bytes_in(first), 1),
        (When::bytes_in(first + 1), 1),
        (When::bytes_in(second - 1).since_armed(), 1),
        (When::bytes_in(second).since_armed(), 2),
        (When::frames_out(1), 1),
        (When::frames_out(2), 2),
        (When::frames_out(1).since_armed(), 2),
        (When::frames_out(2).since_armed(), 3),
    ];
    for (when, answers) in table {
        let text = format!("{when:?}");
        let since_armed = text.contains("since_armed: true");
        let mut client = RawClient::connect(&server);
        let mut received = 0;
        let mut armed = None;
        if !since_armed {
            server.wait_for(|server| server.open_connections() == 1, SOON).unwrap();
            armed = Some(server.fault(Fault::close().when(when.clone())));
        }
        for frame in [logon, beat, beat, beat] {
            // The server may be gone already.
            let _ = std::io::Write::write_all(&mut client.stream(), &Frame::encode(frame, ""));
            if client.next().is_none() {
                break;
            }
            received += 1;
            if received == 1 && since_armed {
                server.wait_for(|s| s.counters().frames_out > 0, SOON).unwrap();
                armed = Some(server.fault(Fault::close().when(when.clone())));
            }
        }
        assert_eq!(received, answers, "{text}");
        assert_eq!(armed.unwrap().fired(), 1, "{text}");
        server.wait_for(|server| server.open_connections() == 0, SOON).unwrap();
    }
}

/// X-2: exactly so many bytes.
#[test]
fn bytes_out_are_counted_exactly() {
    let server = server();
    for count in [0, 3, 4, 10, 1000] {
        let fault = server.fault(Fault::close().when(When::bytes_out(count)));
        let mut client = RawClient::connect(&server);
        let logon = r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#;
        let _ = std::io::Write::write_all(&mut client.stream(), &Frame::encode(logon, ""));
        for _ in 0..100 {
            let beat = Frame::encode(r#"{"c":"heartbeat","o":"beat","cid":"2","a":"processed"}"#, "");
            let _ = std::io::Write::write_all(&mut client.stream(), &beat);
        }
        let (bytes, _) = client.read_raw_to_end();
        assert_eq!(bytes.len() as u64, count);
        fault.wait_fired(SOON).unwrap();
        server.wait_for(|server| server.open_connections() == 0, SOON).unwrap();
    }
}

/// X-2: right now.
#[test]
fn now_is_for_every_connection_that_is_there_and_for_none_that_comes() {
    let server = server();
    let mut before = [RawClient::log_on(&server, "a"), RawClient::log_on(&server, "b")];
    let fault = server.fault(Fault::close().on_client("b"));
    assert!(before[1].next().is_none());
    assert_eq!(fault.fired(), 1);
    assert!(before[0].received().is_empty());
    let fault = server.fault(Fault::close());
    assert!(before[0].next().is_none());
    assert_eq!(fault.fired(), 1);
    let mut after = RawClient::log_on(&server, "c");
    assert!(after.received().is_empty());
    assert!(server.faults().is_empty());
}

/// X-2: at accept.
#[test]
fn accepted_is_for_connections_that_come_and_for_none_that_is_there() {
    let server = server();
    let mut before = RawClient::log_on(&server, "a");
    server.fault(Fault::close().when(When::accepted()));
    assert!(before.received().is_empty());
    assert!(RawClient::connect(&server).next().is_none());
    // A fault of a frame strikes the next one that leaves on such a connection.
    let lost = server.fault(Fault::swallow().when(When::accepted()));
    assert!(before.received().is_empty());
    let mut after = RawClient::connect(&server);
    after.send(r#"{"c":"logon","cid":"1","client_name":"b","mt":"json","a":"processed"}"#);
    lost.wait_fired(SOON).unwrap();
    assert!(after.received().is_empty());
}

/// X-2: a fault of an outgoing frame at the moment of an incoming one strikes what leaves next, and the other way round.
#[test]
fn a_fault_may_wait_for_one_direction_and_strike_the_other() {
    let server = server();
    let (mut subscriber, mut publisher) = two(&server);
    server.fault(Fault::truncate(6).when(When::receives("flush")).on_client("subscriber"));
    server.fault(Fault::refuse("no topic").when(When::sends(Expectation::any().header("cid", "first"))));
    assert_eq!(delivered_before_flush(&server, &mut subscriber, &mut publisher), "ab");
    subscriber.send(r#"{"c":"flush","cid":"f","a":"processed"}"#);
    let (bytes, error) = subscriber.read_raw_to_end();
    assert_eq!((bytes.len(), error), (6, None));

    for (id, reason) in [("first", None), ("second", Some("no topic")), ("third", None)] {
        publisher.send(format!(r#"{{"c":"p","cid":"{id}","t":"t","a":"processed"}}"#));
        assert_eq!(publisher.receive().header("reason"), reason, "{id}");
    }
}

fn delivered_before_flush(server: &Server, subscriber: &mut RawClient, publisher: &mut RawClient) -> String {
    for payload in ["a", "b"] {
        publisher.send(format!(r#"{{"c":"p","t":"t"}}{payload}"#));
    }
    let payloads = [subscriber.receive(), subscriber.receive()];
    assert!(server.frames().iter().any(|seen| seen.direction == Direction::Outgoing));
    payloads.iter().map(|frame| String::from_utf8_lossy(frame.payload()).into_owned()).collect()
}

/// Of several faults that fit a frame the first strikes it, and the others wait for the next.
#[test]
fn one_frame_falls_to_one_fault() {
    let server = server();
    let (mut subscriber, mut publisher) = two(&server);
    let first = server.fault(Fault::swallow().when(When::receives("publish")));
    let second = server.fault(Fault::repeat().when(When::receives("publish")));
    assert_eq!(delivered(&mut subscriber, &mut publisher, "abc"), "bbc");
    assert_eq!((first.fired(), second.fired()), (1, 1));
}

/// X-4.
#[test]
fn armed_faults_are_listed_with_what_they_did() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let always = server.fault(Fault::swallow().when(When::receives("publish")).on_client("c").always());
    let twice = server.fault(Fault::delay().when(When::sends("group_end")).times(2));
    for body in [PUBLISH, PUBLISH, r#"{"c":"sow","cid":"q","t":"orders"}"#] {
        client.send(body);
    }
    twice.wait_fired(SOON).unwrap();
    let listed: Vec<_> =
        server.faults().into_iter().map(|f| (f.description, f.fired, f.left, f.lasting)).collect();
    let expected = [
        ("swallow when `publish` is received, of client `c`".to_owned(), 2, None, 0),
        ("delay when `group_end` is sent".to_owned(), 1, Some(1), 1),
    ];
    assert_eq!(listed, expected);
    always.remove();
    twice.release();
    assert_eq!(server.faults().len(), 1);
    assert_eq!(client.receive().command(), "group_begin");
    assert_eq!(client.receive().command(), "group_end");
    twice.remove();
    assert!(server.faults().is_empty());
    client.ask(PUBLISH);
    assert_eq!((always.fired(), twice.fired()), (2, 1));
}

/// X-4.
#[test]
fn who_waits_in_vain_for_a_fault_is_told_which() {
    let server = server();
    let fault = server.fault(Fault::reset().when(When::frames_in(3)).on_client("desk"));
    let error = fault.wait_fired(Duration::from_millis(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(error.to_string().contains("`reset after 3 frames in, of client `desk``"), "{error}");
}

#[test]
fn a_predicate_that_panics_passes_the_frame_over() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let panics = |_: &Frame| -> bool { std::panic::resume_unwind(Box::new("quiet")) };
    server.fault(Fault::close().when(When::receives(panics)));
    server.fault(Fault::close().when(When::sends(panics)));
    assert!(client.received().is_empty());
}
