//! Faults on replays and queues: answers that come late, twice or never, and messages that get lost.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Expectation, Fault, Frame, Server, Topic, When};

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const REPLAY: &str =
    r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0","a":"processed,completed,persisted"}"#;

/// A server with three messages in its journal, and three in its queue.
fn server() -> Server {
    let jobs = Topic::queue("jobs").lease(5 * SECOND).max_per_subscription_backlog(2);
    let server =
        Server::builder().topic(jobs).journal(".*").clock(Clock::manual()).start().expect("a server");
    for n in 1..=3 {
        server.publish("t", n.to_string()).expect("a publish");
        server.publish("jobs", n.to_string()).expect("a publish");
    }
    server
}

fn ack(kind: &str) -> Expectation {
    Expectation::command("ack").header("a", kind)
}

/// What came, in short: the payload of a message, the type of an acknowledgement.
fn short(frames: &[Frame]) -> String {
    let one = |frame: &Frame| match frame.header("a") {
        Some(kind) => kind.to_owned(),
        None => String::from_utf8_lossy(frame.payload()).into_owned(),
    };
    frames.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// X-3: delay, acks and alter, on a replay.
#[test]
fn a_replay_may_lose_repeat_and_swap_what_it_sends() {
    let second = || When::sends(|frame: &Frame| frame.payload() == b"2");
    let table = [
        (Fault::swallow().when(When::sends(ack("completed"))), "processed 1 2 3"),
        (Fault::repeat().when(When::sends(ack("completed"))), "processed 1 2 3 completed completed"),
        (Fault::swallow().when(second()), "processed 1 3 completed"),
        (Fault::repeat().when(second()), "processed 1 2 2 3 completed"),
        (Fault::swap().when(second()), "processed 1 3 2 completed"),
    ];
    for (fault, expected) in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        server.fault(fault);
        client.send(REPLAY);
        assert_eq!(short(&client.received()), expected);
    }
}

/// X-3, delay: the end of a replay and the reports come when the test lets them.
#[test]
fn acknowledgements_of_a_replay_may_be_held_back() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let completed = server.fault(Fault::delay().when(When::sends(ack("completed"))));
    let reports = server.fault(Fault::delay().when(When::sends(ack("persisted"))).always());
    client.send(REPLAY);
    assert_eq!(short(&client.received()), "processed 1 2 3");
    server.publish("t", "4").unwrap();
    server.clock().advance(SECOND).unwrap();
    assert_eq!(short(&client.received()), "4");
    reports.wait_fired(SOON).unwrap();
    completed.remove();
    assert_eq!(client.receive().header("a"), Some("completed"));
    reports.remove();
    assert_eq!(client.receive().header("a"), Some("persisted"));
}

/// X-3, cut: a connection that ends in the middle of a replay, and a client that goes on behind what it got.
#[test]
fn a_replay_that_was_cut_goes_on_at_its_bookmark() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    server.fault(Fault::close().when(When::sends(|frame: &Frame| frame.payload() == b"3")));
    client.send(REPLAY);
    let frames = client.read_to_end();
    let last = frames.iter().rev().find_map(|frame| frame.header("bm")).unwrap().to_owned();
    let mut client = RawClient::log_on(&server, "c");
    client.send(REPLAY.replace(r#""bookmark":"0""#, &format!(r#""bookmark":"{last}""#)));
    assert_eq!(short(&client.received()), "processed 3 completed");
}

/// X-3: a message of a queue that gets lost on the way comes again; one that was acknowledged does not, though the
/// client cannot know.
#[test]
fn a_queue_delivers_again_what_was_lost() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    server.fault(Fault::swallow().when(When::sends(|frame: &Frame| frame.header("lp").is_some())));
    client.send(r#"{"c":"subscribe","cid":"s","t":"jobs"}"#);
    assert_eq!(short(&client.received()), "");
    server.clock().advance(5 * SECOND).unwrap();
    let frames = client.received();
    assert_eq!(short(&frames), "1");
    let ack = format!(r#"{{"c":"sow_delete","t":"jobs","bookmark":"{}"}}"#, frames[0].header("bm").unwrap());
    let cut = server.fault(Fault::close_unanswered().when(When::receives("sow_delete")));
    client.send(&ack);
    cut.wait_fired(SOON).unwrap();
    client.read_to_end();
    server.wait_for(|server| server.sessions().is_empty(), SOON).unwrap();
    let queue = server.queue("jobs").unwrap();
    assert_eq!((queue.leased(), queue.depth(), queue.acked), (0, 2, 1), "it was carried out all the same");
}
