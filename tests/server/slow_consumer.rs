//! A connection that does not read.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Server, ServerBuilder};

const PATIENCE: Duration = Duration::from_secs(10);
const MIB: usize = 1 << 20;

fn subscribed(builder: ServerBuilder) -> (Server, RawClient, RawClient) {
    let server = builder.start().expect("a server");
    let mut slow = RawClient::log_on(&server, "slow");
    slow.ask(r#"{"c":"subscribe","cid":"s","t":"big"}"#);
    let mut fast = RawClient::log_on(&server, "fast");
    fast.ask(r#"{"c":"subscribe","cid":"s","t":"big"}"#);
    (server, slow, fast)
}

/// Z-1: the publisher goes on at its own pace, and the others notice nothing.
#[test]
fn a_connection_that_falls_too_far_behind_is_closed_and_nothing_else_happens() {
    let (server, slow, mut fast) = subscribed(Server::builder().max_queued_bytes(8 * MIB));
    let mut publisher = RawClient::log_on(&server, "publisher");
    let publish = [br#"{"c":"p","t":"big"}"#.to_vec(), vec![b'x'; MIB]].concat();
    for _ in 0..64 {
        publisher.send(&publish);
        assert!(publisher.received().is_empty());
        assert_eq!(fast.receive().payload().len(), MIB);
    }
    server.wait_for(|s| s.sessions().len() == 2, PATIENCE).unwrap();
    assert_eq!(server.counters().slow_clients, 1);
    assert!(server.sessions().iter().all(|session| session.client_name != "slow"));
    drop(slow);
}

/// Z-1: by age.
#[test]
fn a_connection_whose_oldest_frame_is_too_old_is_closed() {
    let clock = Clock::manual();
    let builder = Server::builder().max_queued_age(Duration::from_secs(5)).clock(clock.clone());
    let (server, slow, mut fast) = subscribed(builder);
    for _ in 0..32 {
        server.publish("big", vec![b'x'; MIB]).unwrap();
        assert_eq!(fast.receive().payload().len(), MIB);
    }
    fast.received();
    clock.advance(Duration::from_millis(4_999)).unwrap();
    assert_eq!(server.sessions().len(), 2);
    clock.advance(Duration::from_millis(1)).unwrap();
    server.wait_for(|s| s.sessions().len() == 1, PATIENCE).unwrap();
    assert!(fast.received().is_empty());
    drop(slow);
}

/// A client that asks and asks and never reads is not read from any more, and memory stays as it is.
#[test]
fn queries_of_a_client_that_does_not_read_wait() {
    let topic = amps_client::testing::Topic::sow("orders").key("/id");
    let server = Server::builder().topic(topic).start().unwrap();
    for id in 0..32 {
        server.publish("orders", format!(r#"{{"id":{id},"x":"{}"}}"#, "x".repeat(MIB / 16))).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    for _ in 0..32 {
        client.send(r#"{"c":"sow","cid":"q","t":"orders","a":"processed"}"#);
    }
    server.wait_for(|s| s.counters().frames_in >= 17, PATIENCE).unwrap();
    let ends = (0..32 * 35).filter(|_| client.receive().command() == "group_end").count();
    assert_eq!(ends, 32);
    assert!(client.received().is_empty());
}
