//! Looking inside a running server.

use std::time::{Duration, UNIX_EPOCH};

use crate::support::RawClient;
use amps_client::testing::{Clock, Expiration, Server, Topic};
use amps_client::{AckType, Direction, ErrorKind};

const PATIENCE: Duration = Duration::from_secs(10);

/// V-1.
#[test]
fn the_record_has_every_frame_as_it_was_on_the_wire() {
    let clock = Clock::manual();
    let server = Server::builder().clock(clock.clone()).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    server.clear_frames();
    clock.advance(Duration::from_secs(1)).unwrap();
    let odd = "{ \"t\":\"a\\u0062\\/\", \"c\":\"publish\",\"cid\":7 , \"a\":\"processed\"}pay\0load";
    client.send(odd);
    client.receive();
    let frames = server.frames();
    let seen: Vec<_> = frames.iter().map(|seen| (seen.connection, seen.direction)).collect();
    assert_eq!(seen, [(1, Direction::Incoming), (1, Direction::Outgoing)]);
    assert_eq!(frames[0].frame.raw(), odd.as_bytes());
    assert_eq!(frames[1].frame.raw(), br#"{"c":"ack","cid":"7","a":"processed","status":"success"}"#);
    assert_eq!(frames[1].number, frames[0].number + 1);
    assert_eq!(frames[0].time, UNIX_EPOCH + Duration::from_secs(1_735_689_601));
}

/// V-1.
#[test]
fn the_record_is_bounded_and_may_be_off() {
    let server = Server::builder().record_frames(3).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for _ in 0..10 {
        client.received();
    }
    assert_eq!(server.frames().len(), 6);
    let quick = Server::quick().unwrap();
    RawClient::log_on(&quick, "c");
    assert!(quick.frames().is_empty());
    assert_eq!(quick.counters().frames_in, 1);
}

/// V-5.
#[test]
fn no_password_is_recorded() {
    let server = Server::builder()
        .auth(|_: &amps_client::testing::LogonAttempt<'_>| {
            amps_client::testing::LogonAnswer::retry("u", "hush out")
        })
        .start()
        .unwrap();
    let mut client = RawClient::connect(&server);
    client.send(r#"{"c":"logon","cid":"1","pw":"hush \"in","client_name":"c","mt":"json","a":"processed"}"#);
    assert_eq!(client.receive().header("pw"), Some("hush out"));
    let frames = server.frames();
    assert_eq!(frames.len(), 2);
    for seen in frames {
        assert!(!seen.frame.header_text().contains("hush"), "{:?}", seen.frame);
        assert_eq!(seen.frame.header("pw"), Some("***"));
    }
}

/// V-2.
#[test]
fn a_wait_ends_when_its_condition_holds() {
    let server = Server::builder().start().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| server.wait_for(|s| s.subscriptions().len() == 2, PATIENCE));
        let mut client = RawClient::log_on(&server, "c");
        client.ask(r#"{"c":"subscribe","cid":"1","t":"t"}"#);
        client.ask(r#"{"c":"subscribe","cid":"2","t":"t"}"#);
        waiter.join().unwrap().unwrap();
        let flush = server.wait_for_frame(|seen| seen.frame.command() == "flush", PATIENCE).unwrap();
        assert_eq!(flush.frame.header("cid"), Some("flush-1"));
    });
}

/// V-2.
#[test]
fn a_wait_that_fails_lists_the_last_frames() {
    let server = Server::builder().start().unwrap();
    let _client = RawClient::log_on(&server, "somebody");
    let error = server.wait_for(|s| s.sessions().len() == 2, Duration::from_millis(10)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(text.contains("10ms") && text.contains("somebody") && text.contains("processed"), "{text}");
}

/// V-3.
#[test]
fn sessions_subscriptions_and_records_can_be_looked_at() {
    let clock = Clock::manual();
    let server = Server::builder()
        .topic(Topic::sow("orders").expiration(Expiration::PerMessage))
        .clock(clock.clone())
        .start()
        .unwrap();
    let _silent = RawClient::connect(&server);
    server.wait_for(|s| s.counters().connections == 1, PATIENCE).unwrap();
    let mut client = RawClient::connect(&server);
    client.ask(r#"{"c":"logon","client_name":"desk","user_id":"alice","mt":"nvfix"}"#);
    client.ask(r#"{"c":"subscribe","cid":"s","t":"o.*","filter":"/a = 1","o":"oof"}"#);
    client.ask(r#"{"c":"p","t":"orders","k":"K","x":"X","e":"60"}a=2"#);
    let start = UNIX_EPOCH + Duration::from_secs(1_735_689_600);

    let sessions = server.sessions();
    assert_eq!(sessions.len(), 1);
    let session = &sessions[0];
    assert_eq!((session.connection, session.client_name.as_str()), (2, "desk"));
    assert_eq!((session.user_id.as_str(), session.message_type.as_str()), ("alice", "nvfix"));
    assert_eq!(session.peer, client.stream().local_addr().unwrap().to_string());
    assert_eq!(session.since, start);

    let subscriptions = server.subscriptions();
    assert_eq!(subscriptions.len(), 1);
    let subscription = &subscriptions[0];
    assert_eq!((subscription.connection, subscription.client_name.as_str()), (2, "desk"));
    assert_eq!((subscription.id.as_str(), subscription.topic.as_str()), ("s", "o.*"));
    assert_eq!((subscription.filter.as_str(), subscription.options.as_str()), ("/a = 1", "oof"));

    let records = server.sow_records("orders");
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!((record.key.as_str(), record.payload.as_slice()), ("K", &b"a=2"[..]));
    assert_eq!((record.correlation_id.as_str(), record.time), ("X", start));
    assert_eq!(record.expires, Some(start + Duration::from_secs(60)));
}

/// V-3.
#[test]
fn frames_bytes_and_acks_are_counted() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let before = server.counters();
    let publish = r#"{"c":"p","cid":"1","t":"t","a":"processed,persisted"}x"#;
    client.send(publish);
    let acks = [client.receive(), client.receive()];
    let after = server.counters();
    assert_eq!((after.frames_in - before.frames_in, after.frames_out - before.frames_out), (1, 2));
    assert_eq!(after.bytes_in - before.bytes_in, publish.len() as u64 + 4);
    let sent: usize = acks.iter().map(|ack| ack.raw().len() + 4).sum();
    assert_eq!(after.bytes_out - before.bytes_out, sent as u64);
    assert_eq!(after.acks(AckType::PERSISTED), 1);
    assert_eq!(after.acks(AckType::PROCESSED), 2);
    assert_eq!(after.connections, 1);
}

/// X-3 "disconnect a client by name".
#[test]
fn a_client_can_be_disconnected_by_its_name() {
    let server = Server::builder().start().unwrap();
    let mut one = RawClient::log_on(&server, "one");
    let mut two = RawClient::log_on(&server, "two");
    assert_eq!(server.disconnect("nobody"), 0);
    assert_eq!(server.disconnect("one"), 1);
    assert!(one.next().is_none());
    assert!(two.received().is_empty());
    assert_eq!(server.sessions().len(), 1);
}
