//! Connections on which nothing moves, or not much.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use crate::support::RawClient;
use amps_client::Direction;
use amps_client::testing::{Clock, Fault, Frame, Server, Topic, When};

const SOON: Duration = Duration::from_secs(10);
const PUBLISH: &str = r#"{"c":"p","t":"orders"}{"id":1}"#;

fn server() -> (Server, Clock) {
    let clock = Clock::manual();
    let builder = Server::builder().topic(Topic::sow("orders").key("/id")).clock(clock.clone());
    (builder.start().expect("a server"), clock)
}

/// How many frames were sent so far.
fn sent(server: &Server) -> usize {
    server.frames().iter().filter(|seen| seen.direction == Direction::Outgoing).count()
}

/// X-3, silence: stop reading. The back-pressure reaches the client, and nothing is lost.
#[test]
fn a_server_that_does_not_read_makes_the_client_block() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    let mut other = RawClient::log_on(&server, "other");
    let fault = server.fault(Fault::stop_reading().on_client("c"));
    client.stream().set_nonblocking(true).unwrap();
    let frame =
        Frame::encode(r#"{"c":"p","t":"orders"}"#, format!("{{\"id\":1,\"x\":\"{}\"}}", "x".repeat(100_000)));
    let mut written = 0;
    let blocked = loop {
        match client.stream().write(&frame[written % frame.len()..]) {
            Ok(bytes) => written += bytes,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(blocked, ErrorKind::WouldBlock);
    assert!(other.received().is_empty(), "only that connection waits");
    assert!(server.sow_records("orders").is_empty());
    fault.release();
    client.stream().set_nonblocking(false).unwrap();
    client.send_raw(&frame[written % frame.len()..]);
    assert!(client.received().is_empty());
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// X-3, silence: a command at which reading stops waits with the rest.
#[test]
fn a_command_at_which_reading_stops_waits_until_the_release() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    let fault = server.fault(Fault::stop_reading().when(When::receives("publish")));
    client.send(PUBLISH);
    fault.wait_fired(SOON).unwrap();
    assert!(server.sow_records("orders").is_empty());
    let mut other = RawClient::log_on(&server, "other");
    assert_eq!(other.ask(r#"{"c":"sow","cid":"q","t":"orders"}"#).len(), 2);
    fault.release();
    assert!(client.received().is_empty());
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// X-3, silence: stop writing. What was queued before is written, commands are carried out.
#[test]
fn a_server_that_does_not_write_still_carries_out_commands() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"orders"}"#);
    server.publish("orders", r#"{"id":0}"#).unwrap();
    let fault = server.fault(Fault::stop_writing());
    client.send(PUBLISH);
    server.wait_for(|server| server.sow_records("orders").len() == 2, SOON).unwrap();
    assert_eq!(client.receive().payload(), br#"{"id":0}"#);
    let before = sent(&server);
    server.publish("orders", r#"{"id":2}"#).unwrap();
    assert_eq!(sent(&server), before);
    fault.release();
    assert_eq!(client.receive().payload(), br#"{"id":1}"#);
    assert_eq!(client.receive().payload(), br#"{"id":2}"#);
}

/// X-3, silence: in the middle of a frame.
#[test]
fn writing_may_stop_within_a_frame() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    let fault = server.fault(Fault::stop_writing().when(When::bytes_out(7).since_armed()));
    server.publish("t", "x").unwrap();
    let frame = Frame::encode(r#"{"c":"p","t":"t","l":1,"sids":"s"}"#, "x");
    assert_eq!(client.read_raw(7), frame[..7]);
    fault.wait_fired(SOON).unwrap();
    fault.release();
    assert_eq!(client.read_raw(frame.len() - 7), frame[7..]);
}

/// X-3, silence: both, socket open.
#[test]
fn a_frozen_connection_stays_open_and_thaws() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    let fault = server.fault(Fault::freeze());
    client.send(PUBLISH);
    server.publish("orders", r#"{"id":2}"#).unwrap();
    assert_eq!((server.sessions().len(), server.sow_records("orders").len()), (1, 1));
    fault.release();
    assert!(client.received().is_empty());
    assert_eq!(server.sow_records("orders").len(), 2);
}

/// X-3, silence: for a time of the clock.
#[test]
fn silence_may_last_for_a_time_of_the_clock() {
    let (server, clock) = server();
    let mut client = RawClient::log_on(&server, "c");
    server.fault(Fault::freeze().lasting(Duration::from_secs(2)));
    client.send(PUBLISH);
    clock.advance(Duration::from_millis(1_999)).unwrap();
    assert!(server.sow_records("orders").is_empty());
    clock.advance(Duration::from_millis(1)).unwrap();
    assert!(client.received().is_empty());
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// X-3, silence: suppress heartbeats only.
#[test]
fn heartbeats_alone_may_be_suppressed() {
    let (server, clock) = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"heartbeat","o":"start,1"}"#);
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    let fault = server.fault(Fault::mute_heartbeats());
    let second = |client: &mut RawClient| {
        client.ask(r#"{"c":"heartbeat","o":"beat"}"#);
        clock.advance(Duration::from_secs(1)).unwrap();
        server.publish("t", "x").unwrap();
        client.received().iter().map(|frame| frame.command().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(second(&mut client), ["p"]);
    assert_eq!(second(&mut client), ["p"]);
    fault.release();
    assert_eq!(second(&mut client), ["heartbeat", "p"]);
    server.fault(Fault::mute_heartbeats().when(When::sends("heartbeat")));
    assert_eq!(second(&mut client), ["p"], "from that one on");
    assert_eq!(second(&mut client), ["p"]);
}

/// X-3, silence: a server that is silent stops as fast as any.
#[test]
fn a_server_stops_whatever_is_held() {
    for fault in [Fault::freeze(), Fault::stop_reading(), Fault::stop_writing()] {
        let (server, _) = server();
        let mut client = RawClient::log_on(&server, "c");
        let fault = server.fault(fault);
        client.send(PUBLISH);
        server.publish("orders", r#"{"id":2}"#).unwrap();
        let start = std::time::Instant::now();
        server.stop();
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        client.read_to_end();
        fault.release();
    }
}

/// X-3, pace: write at most r bytes per tick.
#[test]
fn a_slow_writer_writes_so_many_bytes_per_tick() {
    let (server, clock) = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    let fault = server.fault(Fault::write_slowly(10, Duration::from_secs(1)));
    server.publish("t", "0123456789".repeat(10)).unwrap();
    let frame = Frame::encode(r#"{"c":"p","t":"t","l":100,"sids":"s"}"#, "0123456789".repeat(10));
    assert_eq!(client.read_raw(10), frame[..10]);
    clock.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(client.read_raw(10), frame[10..20]);
    clock.advance(Duration::from_secs(3)).unwrap();
    assert_eq!(client.read_raw(30), frame[20..50]);
    client.stream().set_nonblocking(true).unwrap();
    assert!(client.stream().peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    client.stream().set_nonblocking(false).unwrap();
    fault.release();
    assert_eq!(client.read_raw(frame.len() - 50), frame[50..]);
    assert!(client.received().is_empty());
}

/// X-3, pace: read at most r bytes per tick.
#[test]
fn a_slow_reader_reads_so_many_bytes_per_tick() {
    let (server, clock) = server();
    let mut client = RawClient::log_on(&server, "c");
    let fault =
        server.fault(Fault::read_slowly(10, Duration::from_secs(1)).when(When::frames_in(1).since_armed()));
    client.received();
    fault.wait_fired(SOON).unwrap();
    // 34 bytes: four ticks.
    client.send(PUBLISH);
    for _ in 0..3 {
        assert!(server.sow_records("orders").is_empty());
        clock.advance(Duration::from_secs(1)).unwrap();
    }
    server.wait_for(|server| server.sow_records("orders").len() == 1, SOON).unwrap();
    fault.release();
    assert!(client.received().is_empty());
}

/// X-3, pace: write in chunks; one byte works.
#[test]
fn writes_may_be_cut_into_chunks() {
    for bytes in [1, 3, 1000] {
        let (server, _) = server();
        let mut client = RawClient::log_on(&server, "c");
        client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
        let fault = server.fault(Fault::write_in_chunks(bytes).always());
        for number in 0..10 {
            server.publish("t", number.to_string().repeat(50)).unwrap();
        }
        for number in 0..10 {
            assert_eq!(client.receive().payload(), number.to_string().repeat(50).as_bytes());
        }
        assert_eq!(fault.fired(), 1);
    }
}

/// X-3, pace: merge writes. The frames come together, or not at all.
#[test]
fn writes_may_be_merged() {
    let (server, _) = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    let fault = server.fault(Fault::merge_writes(3));
    for payload in ["a", "b"] {
        server.publish("t", payload).unwrap();
    }
    server.wait_for(|server| sent(server) == 4, SOON).unwrap();
    client.stream().set_nonblocking(true).unwrap();
    assert!(client.stream().peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    client.stream().set_nonblocking(false).unwrap();
    server.publish("t", "c").unwrap();
    for payload in ["a", "b", "c"] {
        assert_eq!(client.receive().payload(), payload.as_bytes());
    }
    server.publish("t", "d").unwrap();
    fault.release();
    assert_eq!(client.receive().payload(), b"d");
}
