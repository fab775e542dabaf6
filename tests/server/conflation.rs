//! At most one message for each key and interval.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Server, Topic};

fn server() -> (Server, Clock) {
    let clock = Clock::manual();
    let server = Server::builder()
        .topic(Topic::sow("orders").key("/id"))
        .clock(clock.clone())
        .start()
        .expect("a server");
    (server, clock)
}

fn subscribe(server: &Server, command: &str, topic: &str, options: &str) -> RawClient {
    let mut client = RawClient::log_on(server, "c");
    client.send(format!(r#"{{"c":"{command}","cid":"s","t":"{topic}","o":"no_sowkey,{options}"}}"#));
    client.received();
    client
}

fn advance(clock: &Clock, millis: u64) {
    clock.advance(Duration::from_millis(millis)).expect("a manual clock");
}

/// B-11: the interval starts with the first message, and at its end the newest is sent.
#[test]
fn the_newest_message_of_each_key_comes_when_its_interval_ends() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "conflation=100ms");
    server.publish("orders", r#"{"id":1,"n":1}"#).unwrap();
    advance(&clock, 50);
    server.publish("orders", r#"{"id":1,"n":2}"#).unwrap();
    server.publish("orders", r#"{"id":2,"n":3}"#).unwrap();
    advance(&clock, 49);
    assert!(client.received().is_empty());
    advance(&clock, 1);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":14,"sids":"s"}{"id":1,"n":2}"#]);
    advance(&clock, 50);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":14,"sids":"s"}{"id":2,"n":3}"#]);
    advance(&clock, 1000);
    assert!(client.received().is_empty());
}

/// B-11: the time is that of the first message held.
#[test]
fn a_conflated_message_shows_the_time_of_the_first() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "conflation=1s,timestamp");
    server.publish("orders", r#"{"id":1,"n":1}"#).unwrap();
    advance(&clock, 500);
    server.publish("orders", r#"{"id":1,"n":2}"#).unwrap();
    advance(&clock, 500);
    assert_eq!(
        client.texts(),
        [r#"{"c":"p","t":"orders","ts":"20250101T000000.000000Z","l":14,"sids":"s"}{"id":1,"n":2}"#]
    );
}

/// B-11.
#[test]
fn a_topic_without_records_needs_a_key() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "ticks", "conflation=1,conflation_key=[/sym,/side]");
    for payload in [
        r#"{"sym":"A","side":"b","n":1}"#,
        r#"{"sym":"A","side":"s","n":2}"#,
        r#"{"sym":"A","side":"b","n":3}"#,
    ] {
        server.publish("ticks", payload).unwrap();
    }
    advance(&clock, 1000);
    let payloads: Vec<_> =
        client.received().iter().map(|f| String::from_utf8_lossy(f.payload()).into_owned()).collect();
    assert_eq!(payloads, [r#"{"sym":"A","side":"b","n":3}"#, r#"{"sym":"A","side":"s","n":2}"#]);
}

/// B-11: on a SOW topic another key is allowed, unless out-of-focus messages depend on it.
#[test]
fn another_key_than_that_of_the_records_excludes_oof() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "conflation=1s,conflation_key=[/sym]");
    server.publish("orders", r#"{"id":1,"sym":"A"}"#).unwrap();
    server.publish("orders", r#"{"id":2,"sym":"A"}"#).unwrap();
    advance(&clock, 1000);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":18,"sids":"s"}{"id":2,"sym":"A"}"#]);
    let ask = |key: &str| {
        format!(
            r#"{{"c":"subscribe","cid":"{key}","t":"orders","o":"oof,conflation=1s,conflation_key=[{key}]","a":"processed"}}"#
        )
    };
    assert!(client.ask(ask("/id"))[0].contains("success"));
    assert!(client.ask(ask("/sym"))[0].contains(r#""reason":"invalid options""#));
}

/// B-11.
#[test]
fn conflation_may_be_automatic_or_off() {
    let (server, clock) = server();
    let mut auto = subscribe(&server, "subscribe", "orders", "conflation=auto");
    let mut off = subscribe(&server, "subscribe", "orders", "conflation=none");
    server.publish("orders", r#"{"id":1}"#).unwrap();
    assert_eq!((auto.received().len(), off.received().len()), (0, 1));
    advance(&clock, 249);
    assert!(auto.received().is_empty());
    advance(&clock, 1);
    assert_eq!(auto.received().len(), 1);
}

/// B-11.
#[test]
fn a_delta_subscriber_gets_the_merge_of_the_deltas_held() {
    let (server, clock) = server();
    server.publish("orders", r#"{"id":1,"a":1,"b":1,"c":1}"#).unwrap();
    let mut client = subscribe(&server, "delta_subscribe", "orders", "conflation=1s");
    for payload in [r#"{"id":1,"a":2}"#, r#"{"id":1,"b":2}"#, r#"{"id":1,"a":3}"#] {
        client.send(format!(r#"{{"c":"delta_publish","t":"orders"}}{payload}"#));
    }
    server.publish("orders", r#"{"id":2,"a":1}"#).unwrap();
    client.received();
    client.ask(r#"{"c":"delta_publish","t":"orders"}{"id":2,"b":1}"#);
    advance(&clock, 1000);
    let payloads: Vec<_> =
        client.received().iter().map(|f| String::from_utf8_lossy(f.payload()).into_owned()).collect();
    // A record seen for the first time comes whole, with what changed since.
    assert_eq!(payloads.iter().filter(|p| **p == r#"{"id":1,"a":3,"b":2}"#).count(), 1, "{payloads:?}");
    assert_eq!(payloads.iter().filter(|p| **p == r#"{"id":2,"a":1,"b":1}"#).count(), 1, "{payloads:?}");
    assert_eq!(payloads.len(), 2);
}

/// B-11: query results are not conflated; an out-of-focus message takes the place of what is held and shows the last
/// body that was received.
#[test]
fn an_oof_takes_the_place_of_what_is_held() {
    let (server, clock) = server();
    server.publish("orders", r#"{"id":1,"n":1}"#).unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let ask = r#"{"c":"sow_and_subscribe","cid":"s","t":"orders","filter":"/n < 9","o":"oof,no_sowkey,conflation=1s"}"#;
    assert_eq!(client.ask(ask).len(), 3);
    server.publish("orders", r#"{"id":1,"n":2}"#).unwrap();
    server.publish("orders", r#"{"id":1,"n":9}"#).unwrap();
    assert!(client.received().is_empty());
    advance(&clock, 1000);
    assert_eq!(
        client.texts(),
        [r#"{"c":"oof","t":"orders","l":14,"sids":"s","reason":"match"}{"id":1,"n":1}"#]
    );
    // What was never received need not be taken away.
    server.publish("orders", r#"{"id":2,"n":1}"#).unwrap();
    server.publish("orders", r#"{"id":2,"n":9}"#).unwrap();
    advance(&clock, 1000);
    assert!(client.received().is_empty());
    // And back in view: the message takes the place of the out-of-focus one.
    server.publish("orders", r#"{"id":3,"n":1}"#).unwrap();
    advance(&clock, 1000);
    assert_eq!(client.received().len(), 1);
    server.publish("orders", r#"{"id":3,"n":9}"#).unwrap();
    server.publish("orders", r#"{"id":3,"n":3}"#).unwrap();
    advance(&clock, 1000);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":14,"sids":"s"}{"id":3,"n":3}"#]);
}

/// B-3: what the old form holds is not lost when it is replaced.
#[test]
fn a_replaced_subscription_sends_what_it_held() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "conflation=1h");
    server.publish("orders", r#"{"id":1}"#).unwrap();
    server.publish("orders", r#"{"id":2}"#).unwrap();
    let replace = r#"{"c":"subscribe","cid":"r","sub_id":"s","t":"orders","o":"replace,no_sowkey,conflation=1s","a":"processed"}"#;
    let answer = client.ask(replace);
    assert_eq!(answer.len(), 3);
    assert!(answer[2].starts_with(r#"{"c":"ack""#), "{answer:?}");
    server.publish("orders", r#"{"id":1,"n":2}"#).unwrap();
    advance(&clock, 1000);
    assert_eq!(client.received().len(), 1);
    advance(&clock, 3_600_000);
    assert!(client.received().is_empty());
}

/// B-3, B-11: what the client received of the old form counts for the new one.
#[test]
fn a_replaced_subscription_still_takes_away_what_the_client_has() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "oof,conflation=1s");
    server.publish("orders", r#"{"id":1,"n":1}"#).unwrap();
    advance(&clock, 1000);
    assert_eq!(client.received().len(), 1);
    client.ask(r#"{"c":"subscribe","cid":"s","t":"orders","o":"replace,no_sowkey,oof,conflation=1s"}"#);
    server.publish("orders", r#"{"id":1,"n":2}"#).unwrap();
    server.sow_delete("orders", "/id = 1").unwrap();
    advance(&clock, 1000);
    assert_eq!(
        client.texts(),
        [r#"{"c":"oof","t":"orders","l":14,"sids":"s","reason":"deleted"}{"id":1,"n":1}"#]
    );
}

/// L-11, B-2.
#[test]
fn what_an_ended_subscription_held_is_dropped() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "conflation=1s");
    server.publish("orders", r#"{"id":1}"#).unwrap();
    client.ask(r#"{"c":"unsubscribe","sub_id":"s"}"#);
    client.ask(r#"{"c":"subscribe","cid":"s","t":"orders","o":"conflation=1s"}"#);
    advance(&clock, 10_000);
    assert!(client.received().is_empty());
}

/// B-4: a conflated subscription has frames of its own.
#[test]
fn a_conflated_subscription_is_framed_apart() {
    let (server, clock) = server();
    let mut client = subscribe(&server, "subscribe", "orders", "conflation=1s");
    client.ask(r#"{"c":"subscribe","cid":"plain","t":"orders","o":"no_sowkey"}"#);
    server.publish("orders", r#"{"id":1}"#).unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":8,"sids":"plain"}{"id":1}"#]);
    advance(&clock, 1000);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":8,"sids":"s"}{"id":1}"#]);
}

/// A pattern conflates the topics that have a key and lets the others through.
#[test]
fn a_pattern_conflates_by_topic_and_key() {
    let clock = Clock::manual();
    let server = Server::builder()
        .topic(Topic::sow("t/1").key("/id").key_domain("same"))
        .topic(Topic::sow("t/2").key("/id").key_domain("same"))
        .clock(clock.clone())
        .start()
        .unwrap();
    let mut client = subscribe(&server, "subscribe", "^t/", "conflation=1s");
    for topic in ["t/1", "t/2", "t/3", "t/3"] {
        server.publish(topic, r#"{"id":1}"#).unwrap();
    }
    assert_eq!(client.received().len(), 2);
    advance(&clock, 1000);
    assert_eq!(client.received().len(), 2);
}
