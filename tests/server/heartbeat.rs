//! Beats in both directions.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Server};

const BEAT: &str = r#"{"c":"heartbeat","o":"beat"}"#;
const HEARTBEAT: &str = r#"{"c":"heartbeat"}"#;

fn server() -> (Server, Clock, RawClient) {
    let clock = Clock::manual();
    let server = Server::builder().clock(clock.clone()).start().expect("a server");
    let client = RawClient::log_on(&server, "c");
    (server, clock, client)
}

fn start(client: &mut RawClient, interval: &str) {
    assert!(client.ask(format!(r#"{{"c":"heartbeat","o":"start,{interval}"}}"#)).is_empty());
}

/// H-1, H-2, H-5, vector 17.8.
#[test]
fn heartbeats_come_in_their_interval_and_no_beat_is_answered() {
    let (_server, clock, mut client) = server();
    start(&mut client, "1");
    for _ in 0..10 {
        for _ in 0..2 {
            assert!(client.ask(BEAT).is_empty());
        }
        clock.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(client.texts(), [HEARTBEAT]);
    }
}

/// H-1: also while data flows.
#[test]
fn heartbeats_come_between_messages_too() {
    let (server, clock, mut client) = server();
    start(&mut client, "1");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    for _ in 0..4 {
        clock.advance(Duration::from_millis(400)).unwrap();
        server.publish("t", "x").unwrap();
    }
    let commands: Vec<_> = client.received().iter().map(|frame| frame.command().to_owned()).collect();
    assert_eq!(commands, ["p", "p", "heartbeat", "p", "p"]);
}

/// H-3, vector 17.8.
#[test]
fn a_client_that_does_not_beat_is_cut_off_after_two_intervals() {
    let (server, clock, mut client) = server();
    start(&mut client, "1");
    // Other traffic does not count.
    for _ in 0..3 {
        clock.advance(Duration::from_millis(500)).unwrap();
        client.received();
    }
    clock.advance(Duration::from_millis(499)).unwrap();
    assert!(client.received().is_empty());
    clock.advance(Duration::from_millis(1)).unwrap();
    client.read_to_end();
    assert!(server.sessions().is_empty());
}

/// H-3.
#[test]
fn a_beat_puts_the_end_off() {
    let (server, clock, mut client) = server();
    start(&mut client, "2");
    clock.advance(Duration::from_secs(3)).unwrap();
    client.ask(BEAT);
    clock.advance(Duration::from_millis(3_999)).unwrap();
    client.received();
    assert_eq!(server.sessions().len(), 1);
    clock.advance(Duration::from_millis(1)).unwrap();
    client.read_to_end();
}

/// H-3.
#[test]
fn the_patience_of_the_server_can_be_set() {
    let clock = Clock::manual();
    let server = Server::builder().heartbeat_factor(5).clock(clock.clone()).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    start(&mut client, "1");
    clock.advance(Duration::from_millis(4_999)).unwrap();
    assert_eq!(client.texts(), [HEARTBEAT; 4]);
    clock.advance(Duration::from_millis(1)).unwrap();
    client.read_to_end();
}

/// H-1.
#[test]
fn a_start_restarts_and_zero_stops() {
    let (_server, clock, mut client) = server();
    start(&mut client, "1");
    start(&mut client, "10");
    clock.advance(Duration::from_secs(9)).unwrap();
    assert!(client.received().is_empty());
    clock.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(client.texts(), [HEARTBEAT]);
    start(&mut client, "0");
    clock.advance(Duration::from_secs(1000)).unwrap();
    assert!(client.received().is_empty());
}

/// H-4.
#[test]
fn without_a_start_there_are_no_beats_and_no_limit() {
    let (_server, clock, mut client) = server();
    assert!(client.ask(BEAT).is_empty());
    clock.advance(Duration::from_secs(100_000)).unwrap();
    assert!(client.received().is_empty());
}

/// H-4.
#[test]
fn a_start_before_the_logon_counts() {
    let clock = Clock::manual();
    let server = Server::builder().clock(clock.clone()).start().unwrap();
    let mut client = RawClient::connect(&server);
    client.send(r#"{"c":"heartbeat","o":"start,1","cid":"h","a":"received,processed"}"#);
    assert_eq!(
        (client.receive().header("a"), client.receive().header("a")),
        (Some("received"), Some("processed"))
    );
    clock.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(client.receive().header_text(), HEARTBEAT);
}

/// The real clock drives them as well.
#[test]
fn a_real_clock_beats_by_itself() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    start(&mut client, "1");
    assert_eq!(client.receive().header_text(), HEARTBEAT);
}
