//! Acknowledgements that lie, come twice, late, or not at all, and a server that forgets.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Damage, Expectation, Fault, Frame, Server, Topic, When};

const SOON: Duration = Duration::from_secs(10);

/// A server with a journal that acknowledges each publish by itself.
fn server() -> Server {
    let topics = Topic::sow("orders").key("/id").journaled(true);
    Server::builder().topic(topics).ack_conflation(Duration::ZERO).start().expect("a server")
}

fn publish(sequence: u64) -> String {
    format!(
        r#"{{"c":"p","cid":"{sequence}","t":"orders","s":{sequence},"a":"persisted"}}{{"id":{sequence}}}"#
    )
}

fn persisted() -> Expectation {
    Expectation::command("ack").header("a", "persisted")
}

/// Sends these publishes, and returns what comes back: `s` of a success, `s` and reason of a failure.
fn answers(client: &mut RawClient, sequences: std::ops::RangeInclusive<u64>) -> Vec<String> {
    sequences.for_each(|sequence| client.send(publish(sequence)));
    short(&client.received())
}

fn short(frames: &[Frame]) -> Vec<String> {
    let short = |frame: &Frame| {
        let sequence = frame.header("s").unwrap_or("-");
        frame.header("reason").map_or(sequence.to_owned(), |reason| format!("{sequence} {reason}"))
    };
    frames.iter().map(short).collect()
}

/// X-3, acks: fail publish number s, in the order of K-11.
#[test]
fn a_publish_of_a_certain_number_may_fail() {
    let clock = Clock::manual();
    let server = Server::builder()
        .topic(Topic::sow("orders").key("/id").journaled(true))
        .clock(clock.clone())
        .start()
        .unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let third = When::receives(Expectation::command("publish").header("s", "3"));
    server.fault(Fault::refuse("tx store failure").when(third));
    assert_eq!(answers(&mut client, 1..=5), ["2", "3 tx store failure"]);
    clock.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(short(&client.received()), ["5"]);
    assert_eq!((server.sow_records("orders").len(), server.journal().len()), (4, 4));
}

/// X-3, acks: withhold them.
#[test]
fn persisted_acks_may_be_withheld() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let fault = server.fault(Fault::delay().when(When::sends(persisted())).always());
    assert!(answers(&mut client, 1..=3).is_empty());
    assert_eq!(server.highest_sequence("c"), 3, "they are persisted all the same");
    fault.release();
    assert_eq!(short(&[client.receive(), client.receive(), client.receive()]), ["1", "2", "3"]);
    fault.remove();
    let lost = server.fault(Fault::swallow().when(When::sends(persisted())).always());
    assert!(answers(&mut client, 4..=5).is_empty());
    lost.remove();
    assert_eq!(answers(&mut client, 6..=6), ["6"]);
}

/// X-3, acks: out of order, repeated, for a higher or lower number than real.
#[test]
fn persisted_acks_may_be_wrong_in_every_way() {
    let table = [
        (Fault::swap(), vec!["1", "3", "2"]),
        (Fault::repeat(), vec!["1", "2", "2", "3"]),
        (Fault::damage(Damage::SequenceOff(100)), vec!["1", "102", "3"]),
        (Fault::damage(Damage::SequenceOff(-1)), vec!["1", "1", "3"]),
    ];
    for (fault, expected) in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        server.fault(fault.when(When::sends(persisted().header("s", "2"))));
        assert_eq!(answers(&mut client, 1..=3), expected);
    }
}

/// X-3, acks: `completed` twice, and without `group_end`.
#[test]
fn the_end_of_a_query_may_be_told_twice_or_by_half() {
    let table = [
        (Fault::repeat().when(When::sends(Expectation::command("ack").header("a", "completed"))), 4),
        (Fault::swallow().when(When::sends("group_end")), 2),
        (Fault::swallow().when(When::sends("group_begin")), 2),
    ];
    for (fault, frames) in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        server.fault(fault);
        let answer = client.ask(r#"{"c":"sow","cid":"q","t":"orders","a":"completed"}"#);
        assert_eq!(answer.len(), frames, "{answer:?}");
        assert!(answer.last().unwrap().contains("completed"));
    }
}

/// X-3, state: forget a client's sequence.
#[test]
fn a_server_that_forgot_a_sequence_takes_duplicates_for_new() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(answers(&mut client, 1..=2), ["1", "2"]);
    assert_eq!(server.forget_sequence("c"), Some(2));
    assert_eq!(server.forget_sequence("c"), None);
    assert_eq!(answers(&mut client, 1..=1), ["1"]);
    assert_eq!((server.highest_sequence("c"), server.journal().len()), (1, 3));
}

/// X-3, state: disconnect a client by name.
#[test]
fn a_client_may_be_disconnected_by_its_name() {
    let server = server();
    let (mut one, mut two) = (RawClient::log_on(&server, "one"), RawClient::log_on(&server, "two"));
    assert_eq!(server.disconnect("one"), 1);
    assert!(one.next().is_none());
    assert!(two.received().is_empty());
}

/// X-3, state: revoke entitlement, of what is there and what comes.
#[test]
fn a_user_may_lose_every_entitlement() {
    let server = server();
    let log_on = |name: &str, user: &str| {
        let mut client = RawClient::connect(&server);
        client.send(format!(
            r#"{{"c":"logon","cid":"1","client_name":"{name}","user_id":"{user}","mt":"json","a":"processed"}}"#
        ));
        client.receive();
        client.ask(r#"{"c":"subscribe","cid":"s","t":"orders"}"#);
        client
    };
    let (mut alice, mut bob) = (log_on("a", "alice"), log_on("b", "bob"));
    server.revoke_entitlements("alice");
    server.publish("orders", r#"{"id":1}"#).unwrap();
    assert_eq!((alice.received().len(), bob.received().len()), (0, 1));
    for command in [
        r#"{"c":"subscribe","cid":"1","t":"orders","a":"processed"}"#,
        r#"{"c":"sow","cid":"1","t":"orders","a":"processed"}"#,
        r#"{"c":"p","cid":"1","t":"orders","a":"processed"}{"id":2}"#,
        r#"{"c":"sow_delete","cid":"1","t":"orders","filter":"1=1","a":"processed"}"#,
    ] {
        alice.send(command);
        assert_eq!(alice.receive().header("reason"), Some("not entitled"), "{command}");
        if command.contains("sow_delete") || command.contains(r#""c":"p""#) {
            assert_eq!(server.sow_records("orders").len(), 1);
        }
    }
    assert_eq!(server.reset_entitlements("alice"), 1);
    assert!(alice.next().is_none());
    let mut alice = log_on("a", "alice");
    server.publish("orders", r#"{"id":3}"#).unwrap();
    assert_eq!(alice.receive().payload(), br#"{"id":3}"#);
    server.wait_for(|server| server.sessions().len() == 2, SOON).unwrap();
}
