//! Frames that are delayed, altered or damaged.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::Direction;
use amps_client::testing::{Clock, Damage, Expectation, Fault, Frame, Server, Topic, When};

const SOON: Duration = Duration::from_secs(10);

fn server() -> (Server, Clock) {
    let clock = Clock::manual();
    let builder = Server::builder().topic(Topic::sow("orders").key("/id")).clock(clock.clone());
    (builder.start().expect("a server"), clock)
}

/// A client that is subscribed to the topic `t`.
fn subscriber(server: &Server) -> RawClient {
    let mut client = RawClient::log_on(server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    client
}

/// What a client gets when these are published, one after the other, in short.
fn published(server: &Server, client: &mut RawClient, payloads: &str) -> String {
    for payload in payloads.chars() {
        server.publish("t", payload.to_string()).unwrap();
    }
    short(&client.received())
}

/// Payloads, and commands of what has none.
fn short(frames: &[Frame]) -> String {
    let short = |frame: &Frame| match frame.payload() {
        b"" => format!("({})", frame.command()),
        payload => String::from_utf8_lossy(payload).into_owned(),
    };
    frames.iter().map(short).collect()
}

fn payload(payload: &'static str) -> When {
    When::sends(Expectation::any().payload(payload))
}

/// X-3, delay: a frame, until it is released. The others pass it.
#[test]
fn a_delayed_frame_is_passed_by_the_others_until_it_is_released() {
    let (server, _) = server();
    let mut client = subscriber(&server);
    let fault = server.fault(Fault::delay().when(payload("b")).always());
    assert_eq!(published(&server, &mut client, "abcb"), "ac");
    assert_eq!(fault.fired(), 2);
    fault.release();
    assert_eq!((client.receive().payload(), client.receive().payload()), (&b"b"[..], &b"b"[..]));
    assert_eq!(published(&server, &mut client, "ab"), "a", "it is still armed");
    fault.remove();
    assert_eq!(client.receive().payload(), b"b");
    assert_eq!(published(&server, &mut client, "b"), "b");
}

/// X-3, delay: acknowledgements of a type, for a time of the clock that begins when they would have been sent.
#[test]
fn acknowledgements_of_a_type_may_come_later_by_a_time_of_the_clock() {
    let (server, clock) = server();
    let mut client = RawClient::log_on(&server, "c");
    let persisted = Expectation::command("ack").header("a", "persisted");
    server.fault(Fault::delay().when(When::sends(persisted)).lasting(Duration::from_secs(3)).always());
    let publish = |client: &mut RawClient, id: u32| {
        let body = format!(r#"{{"c":"p","cid":"{id}","t":"t","a":"processed,persisted"}}x"#);
        let frames = client.ask(body);
        assert_eq!(frames, [format!(r#"{{"c":"ack","cid":"{id}","a":"processed","status":"success"}}"#)]);
    };
    publish(&mut client, 1);
    clock.advance(Duration::from_secs(2)).unwrap();
    publish(&mut client, 2);
    clock.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(client.receive().header("cid"), Some("1"));
    assert!(client.received().is_empty());
    clock.advance(Duration::from_secs(2)).unwrap();
    assert_eq!(client.receive().header("cid"), Some("2"));
}

/// X-3, delay: K-4 holds, so an incoming frame holds up those behind it.
#[test]
fn a_delayed_command_holds_up_those_behind_it() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    let mut other = RawClient::log_on(&server, "other");
    let fault = server.fault(Fault::delay().when(When::receives("publish")));
    client.send(r#"{"c":"p","t":"orders"}{"id":1}"#);
    client.send(r#"{"c":"p","t":"orders"}{"id":2}"#);
    fault.wait_fired(SOON).unwrap();
    assert!(other.received().is_empty());
    assert!(server.sow_records("orders").is_empty());
    fault.release();
    assert!(client.received().is_empty());
    assert_eq!(server.sow_records("orders").len(), 2);
}

/// X-3, alter, on the way out.
#[test]
fn an_outgoing_frame_may_be_lost_doubled_replaced_preceded_or_swapped() {
    let (server, _) = server();
    let mut client = subscriber(&server);
    let beat = Frame::encode(r#"{"c":"heartbeat"}"#, "");
    let table = [
        (Fault::swallow(), "ac"),
        (Fault::repeat(), "abbc"),
        (Fault::insert(beat.clone()), "a(heartbeat)bc"),
        (Fault::replace(beat), "a(heartbeat)c"),
        (Fault::replace(""), "ac"),
        (Fault::swap(), "acb"),
    ];
    for (fault, expected) in table {
        let fault = server.fault(fault.when(payload("b")));
        assert_eq!(published(&server, &mut client, "abc"), expected);
        assert_eq!(fault.fired(), 1);
    }
}

/// X-3, alter, on the way in.
#[test]
fn an_incoming_frame_may_be_lost_doubled_replaced_preceded_or_swapped() {
    let (server, _) = server();
    let mut client = subscriber(&server);
    let other = Frame::encode(r#"{"c":"p","t":"t"}"#, "x");
    let table = [
        (Fault::swallow(), "ac"),
        (Fault::repeat(), "abbc"),
        (Fault::insert(other.clone()), "axbc"),
        (Fault::insert([&other[..], &other[..]].concat()), "axxbc"),
        (Fault::replace(other), "axc"),
        (Fault::swap(), "acb"),
    ];
    for (fault, expected) in table {
        let fault = server.fault(fault.when(When::receives(Expectation::any().payload("b"))));
        for payload in ["a", "b", "c"] {
            client.send(format!(r#"{{"c":"p","t":"t"}}{payload}"#));
        }
        assert_eq!(short(&client.received()), expected);
        assert_eq!(fault.fired(), 1);
    }
}

#[test]
fn what_is_fed_to_the_server_must_be_frames() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    server.fault(Fault::replace(&b"\0\0\0\x03abc"[..]).when(When::receives("flush")));
    client.send(r#"{"c":"flush","cid":"f","a":"processed"}"#);
    assert!(client.next().is_none());
}

/// A frame that is to change places waits for the one after it.
#[test]
fn a_swapped_frame_waits_for_the_next() {
    let (server, _) = server();
    let mut client = subscriber(&server);
    let fault = server.fault(Fault::swap().when(payload("a")));
    server.publish("t", "a").unwrap();
    fault.wait_fired(SOON).unwrap();
    server.publish("t", "b").unwrap();
    assert_eq!((client.receive().payload(), client.receive().payload()), (&b"b"[..], &b"a"[..]));
}

/// X-3, damage: lengths. The rest of the stream is read wrongly by whoever believes them.
#[test]
fn a_length_may_be_wrong() {
    let table =
        [(Damage::LengthTooLong, 35 + 8), (Damage::LengthTooShort, 34), (Damage::LengthHuge, u32::MAX)];
    for (damage, length) in table {
        let (server, _) = server();
        let mut client = subscriber(&server);
        server.fault(Fault::damage(damage));
        server.publish("t", "x").unwrap();
        let frame = client.read_raw(4 + 35);
        assert_eq!(frame[..4], length.to_be_bytes(), "{damage:?}");
        assert_eq!(&frame[4..], br#"{"c":"p","t":"t","l":1,"sids":"s"}x"#);
        assert!(client.received().is_empty(), "the next frame is as it should be");
    }
}

/// X-3, damage: everything else.
#[test]
fn a_frame_may_be_damaged_in_many_ways() {
    let table: &[(Damage, &[u8])] = &[
        (Damage::UnclosedHeader, br#"{"c":"p","t":"t","l":1,"sids":"s"x"#),
        (Damage::UnknownKey, br#"{"c":"p","t":"t","l":1,"sids":"s","flavour":"new"}x"#),
        (Damage::UnknownCommand, br#"{"c":"unheard_of","t":"t","l":1,"sids":"s"}x"#),
        (Damage::BadEscape, br#"{"c":"p","t":"t","l":1,"sids":"s","x":"\q"}x"#),
        (Damage::NotUtf8, b"{\"c\":\"p\",\"t\":\"t\",\"l\":1,\"sids\":\"s\",\"x\":\"\xFF\xFE\"}x"),
        (Damage::NoSubIds, br#"{"c":"p","t":"t","l":1}x"#),
        (Damage::UnknownSubId, br#"{"c":"p","t":"t","l":1,"sids":"nobody"}x"#),
        (Damage::NoPayload, br#"{"c":"p","t":"t","sids":"s"}"#),
    ];
    for (damage, expected) in table {
        let (server, _) = server();
        let mut client = subscriber(&server);
        server.fault(Fault::damage(*damage));
        server.publish("t", "x").unwrap();
        let length = client.read_raw(4);
        assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, expected.len());
        assert_eq!(client.read_raw(expected.len()), *expected, "{damage:?}");
    }
}

/// X-3, damage: inner `l` beyond the frame; and only a frame that can be damaged so is.
#[test]
fn a_record_may_claim_more_than_its_frame_has() {
    let (server, _) = server();
    server.publish("orders", r#"{"id":1}"#).unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let fault = server.fault(Fault::damage(Damage::RecordTooLong));
    client.send(r#"{"c":"sow","cid":"q","t":"orders","o":"no_sowkey"}"#);
    assert_eq!(client.receive().command(), "group_begin");
    fault.wait_fired(SOON).unwrap();
    let record = br#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":1015}{"id":1}"#;
    client.read_raw(4);
    assert_eq!(client.read_raw(record.len()), record);
    assert_eq!(client.receive().command(), "group_end");
}

/// V-1: the record of frames has what went over the wire.
#[test]
fn the_record_shows_frames_as_they_went() {
    let (server, _) = server();
    let mut client = subscriber(&server);
    server.clear_frames();
    server.fault(Fault::swallow().when(payload("a")));
    server.fault(Fault::repeat().when(payload("b")));
    server.fault(Fault::damage(Damage::UnknownKey).when(payload("c")));
    for payload in ["a", "b", "c"] {
        server.publish("t", payload).unwrap();
    }
    client.received();
    let sent = server.frames().into_iter().filter(|seen| seen.direction == Direction::Outgoing);
    let sent: Vec<_> = sent.map(|seen| seen.frame).filter(|frame| frame.command() == "p").collect();
    assert_eq!(short(&sent), "bbc");
    assert_eq!(sent[2].header("flavour"), Some("new"));
}
