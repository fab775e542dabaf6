//! Queues: who gets a message, and what becomes of it then.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{
    Access, Action, Clock, Cluster, Entitled, Expiration, Fairness, Frame, Leasing, Server, ServerBuilder,
    Topic,
};

const SECOND: Duration = Duration::from_secs(1);

fn jobs() -> Topic {
    Topic::queue("jobs").lease(5 * SECOND).max_per_subscription_backlog(10)
}

fn with(topic: Topic) -> ServerBuilder {
    Server::builder().topic(topic).clock(Clock::manual())
}

fn server(topic: Topic) -> Server {
    with(topic).start().expect("a server")
}

/// Publishes `{"n":first}` to `{"n":last}`.
fn publish(server: &Server, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        server.publish("jobs", format!(r#"{{"n":{n}}}"#)).expect("a publish");
    }
}

/// A client with one subscription, and what it got at once.
fn consumer(server: &Server, name: &str, rest: &str) -> (RawClient, Vec<Frame>) {
    let mut client = RawClient::log_on(server, name);
    client.send(format!(r#"{{"c":"subscribe","cid":"{name}","t":"jobs"{rest}}}"#));
    let frames = client.received();
    (client, frames)
}

fn backlog(n: u64) -> String {
    format!(r#","o":"max_backlog={n}""#)
}

/// The numbers of the messages.
fn numbers(frames: &[Frame]) -> String {
    let number =
        |frame: &Frame| String::from_utf8_lossy(frame.payload()).replace(r#"{"n":"#, "").replace('}', "");
    frames.iter().filter(|frame| frame.command() == "p").map(number).collect()
}

fn bookmark(server: &Server, n: u64) -> String {
    let payload = format!(r#"{{"n":{n}}}"#);
    let entry = server.journal().into_iter().find(|entry| entry.payload == payload.as_bytes());
    entry.expect("a message that was published").bookmark
}

fn ack(client: &mut RawClient, server: &Server, messages: &[u64], options: &str) -> Vec<Frame> {
    let bookmarks: Vec<_> = messages.iter().map(|n| bookmark(server, *n)).collect();
    client.send(format!(
        r#"{{"c":"sow_delete","cid":"AMPS-queue-ack","t":"jobs","bookmark":"{}","o":"{options}"}}"#,
        bookmarks.join(",")
    ));
    client.received()
}

/// Messages that are not acknowledged, and those of them that somebody has, with the client name.
fn content(server: &Server) -> String {
    let queue = server.queue("jobs").expect("a queue that was used");
    let one = |message: &amps_client::testing::QueueMessage| {
        let number = String::from_utf8_lossy(&message.payload).replace(r#"{"n":"#, "").replace('}', "");
        format!("{number}{}", message.holder.as_deref().unwrap_or("-"))
    };
    queue.messages.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Vector 17.7, Q-2, Q-3.
#[test]
fn two_consumers_share_the_messages_of_a_queue() {
    let server = server(jobs());
    let (mut one, _) = consumer(&server, "a", &backlog(2));
    let (mut two, _) = consumer(&server, "b", &backlog(2));
    publish(&server, 1..=6);
    assert_eq!((numbers(&one.received()), numbers(&two.received())), ("13".into(), "24".into()));
    assert_eq!(content(&server), "1a 2b 3a 4b 5- 6-");
    assert_eq!(numbers(&ack(&mut one, &server, &[1], "")), "5", "one more, to the same subscription");
    assert!(two.received().is_empty());
    drop(one);
    server.wait_for(|server| server.sessions().len() == 1, 10 * SECOND).unwrap();
    assert!(two.received().is_empty(), "no room");
    assert_eq!(numbers(&ack(&mut two, &server, &[2, 4], "")), "35", "in their old places");
    server.clock().advance(5 * SECOND).unwrap();
    assert_eq!(numbers(&two.received()), "35", "the leases have ended");
    assert_eq!(numbers(&ack(&mut two, &server, &[3, 5, 6], "")), "");
    let queue = server.queue("jobs").unwrap();
    assert_eq!((queue.depth(), queue.leased(), queue.acked, queue.expired), (0, 0, 6, 0));
}

/// B-6, B-7, Q-2, Q-3, Q-8: byte for byte.
#[test]
fn a_message_from_a_queue_has_a_bookmark_and_the_end_of_its_lease() {
    let server = with(jobs()).topic(Topic::queue("endless")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"p","t":"jobs","x":"corr"}{"n":1}"#);
    let mark = bookmark(&server, 1);
    assert_eq!(
        client.ask(r#"{"c":"subscribe","cid":"s","t":"jobs","o":"max_backlog=99,timestamp","a":"processed"}"#),
        [
            r#"{"c":"ack","cid":"s","sub_id":"s","a":"processed","status":"success","opts":"max_backlog=10"}"#
                .to_owned(),
            format!(
                r#"{{"c":"p","t":"jobs","ts":"20250101T000000.000000Z","bm":"{mark}","lp":"20250101T000005.000000Z","l":7,"x":"corr","sids":"s"}}{{"n":1}}"#
            ),
        ]
    );
    server.publish("endless", "x").unwrap();
    client.send(r#"{"c":"subscribe","cid":"e","t":"endless","a":"processed"}"#);
    let [processed, message] = &client.received()[..] else { panic!("two frames") };
    assert_eq!(processed.header("opts"), Some("max_backlog=1"));
    assert_eq!(message.header("lp"), Some("99991231T235959.000000Z"));
    server.clock().advance(1_000 * SECOND).unwrap();
    assert!(client.received().iter().all(|frame| frame.header("sids") != Some("e")));
}

/// Q-5: answers and counters, and bookmarks that are not there.
#[test]
fn an_acknowledgement_is_answered_like_any_delete() {
    let server = server(jobs());
    publish(&server, 1..=4);
    let (mut client, _) = consumer(&server, "c", &backlog(2));
    let marks: Vec<_> = (1..=4).map(|n| bookmark(&server, n)).collect();
    let answer = client.ask(format!(
        r#"{{"c":"sow_delete","cid":"d","t":"jobs","bm":"{},77|1|,{},{}","a":"processed,stats"}}"#,
        marks[0], marks[0], marks[2]
    ));
    assert_eq!(
        answer,
        [
            // It had the first and the second, and may have two.
            format!(r#"{{"c":"p","t":"jobs","bm":"{}","lp":"20250101T000005.000000Z","l":7,"sids":"c"}}{{"n":4}}"#, marks[3]),
            r#"{"c":"ack","cid":"d","a":"processed","status":"success"}"#.to_owned(),
            r#"{"c":"ack","cid":"d","a":"stats","status":"success","records_deleted":2,"topic_matches":4,"matches":3}"#
                .to_owned(),
        ]
    );
    assert_eq!(content(&server), "2c 4c");
    client.send(r#"{"c":"sow_delete","cid":"f","t":"jobs","filter":"/n > 2","a":"completed,stats"}"#);
    let [completed, stats] = &client.received()[..] else { panic!("two frames") };
    assert_eq!((completed.header("a"), stats.header("records_deleted")), (Some("completed"), Some("1")));
    assert_eq!(content(&server), "2c");
}

/// Q-5, K-8, K-9: an acknowledgement may be numbered like a publish.
#[test]
fn an_acknowledgement_takes_part_in_the_sequence() {
    let server = server(jobs());
    publish(&server, 1..=2);
    let (mut client, _) = consumer(&server, "c", &backlog(2));
    let command = |sequence: u64, n: u64| {
        format!(
            r#"{{"c":"sow_delete","cid":"{sequence}","t":"jobs","s":{sequence},"bookmark":"{}","a":"persisted"}}"#,
            bookmark(&server, n)
        )
    };
    assert!(client.ask(command(7, 1)).is_empty());
    server.clock().advance(SECOND).unwrap();
    assert_eq!(client.texts(), [r#"{"c":"ack","s":7,"a":"persisted","status":"success"}"#]);
    let repeated = client.ask(command(7, 2));
    assert!(repeated[0].contains("duplicate"), "{repeated:?}");
    assert_eq!((content(&server), server.highest_sequence("c")), ("2c".into(), 7));
}

/// K-7, W-5: what a queue refuses.
#[test]
fn a_queue_refuses_what_is_for_other_topics() {
    let server = with(jobs()).topic(Topic::sow("orders").key("/id")).start().unwrap();
    publish(&server, 1..=1);
    let mut client = RawClient::log_on(&server, "c");
    let table = [
        (r#"{"c":"sow","t":"jobs""#, "not supported"),
        (r#"{"c":"sow_and_subscribe","t":"jobs""#, "not supported"),
        (r#"{"c":"sow_and_delta_subscribe","t":"jobs""#, "not supported"),
        (r#"{"c":"sow_delete","t":"jobs","sow_keys":"1""#, "not supported"),
        (r#"{"c":"sow_delete","t":"orders","bm":"1|1|""#, "not supported"),
        (r#"{"c":"sow_delete","t":"plain","bm":"1|1|""#, "invalid topic"),
        (r#"{"c":"sow_delete","t":"jobs","bm":"0""#, "invalid bookmark"),
        (r#"{"c":"sow_delete","t":"jobs","bm":"1|1|,x""#, "invalid bookmark"),
        (
            r#"{"c":"sow_delete","t":"jobs","bm":"1|1|","filter":"1=1""#,
            "sow_delete command only supports one of: filter, sow_keys, bookmark, or data",
        ),
        (r#"{"c":"sow_delete","t":"jo.*","bm":"1|1|""#, "regex topic not supported"),
        (r#"{"c":"sow_delete","t":"jobs","bm":"1|1|","o":"cancel,expire""#, "invalid options"),
        (r#"{"c":"sow_delete","t":"jobs","filter":"(""#, "bad filter"),
        (r#"{"c":"subscribe","t":"jobs","o":"max_backlog=0""#, "invalid options"),
        (r#"{"c":"subscribe","t":"jobs","o":"max_backlog=-1""#, "invalid options"),
    ];
    for (command, reason) in table {
        let answer = client.ask(format!(r#"{command},"cid":"1","a":"processed"}}"#));
        let refused =
            format!(r#"{{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"{reason}"}}"#);
        assert_eq!(answer, [refused], "{command}");
    }
    assert_eq!(content(&server), "1-");
}

/// Q-6.
#[test]
fn a_cancelled_message_returns_to_its_old_place() {
    let server = server(jobs().max_cancels(3));
    publish(&server, 1..=3);
    let (mut one, first) = consumer(&server, "a", &backlog(2));
    assert_eq!(numbers(&first), "12");
    let (mut two, second) = consumer(&server, "b", "");
    assert_eq!(numbers(&second), "3");
    assert_eq!(numbers(&ack(&mut one, &server, &[1], "cancel")), "1", "nobody else has room");
    ack(&mut two, &server, &[3], "");
    assert_eq!(numbers(&ack(&mut one, &server, &[1], "cancel")), "", "b has less to do");
    assert_eq!(numbers(&two.received()), "1");
    assert_eq!(server.queue("jobs").unwrap().messages[0].cancels, 2);
    assert_eq!(numbers(&ack(&mut two, &server, &[1], "cancel")), "", "once too often");
    let queue = server.queue("jobs").unwrap();
    assert_eq!((content(&server).as_str(), queue.acked, queue.expired), ("2a", 1, 1));
    // One that nobody has cannot be given back.
    one.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"a"}"#);
    two.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"b"}"#);
    ack(&mut one, &server, &[2], "cancel");
    assert_eq!(server.queue("jobs").unwrap().messages[0].cancels, 0);
}

/// Q-6.
#[test]
fn a_message_that_a_client_expires_is_gone_whoever_has_it() {
    let server = server(jobs());
    publish(&server, 1..=3);
    let (mut client, _) = consumer(&server, "a", "");
    assert_eq!(numbers(&ack(&mut client, &server, &[2], "expire")), "");
    assert_eq!(numbers(&ack(&mut client, &server, &[1], "expire")), "3");
    assert_eq!((content(&server).as_str(), server.queue("jobs").unwrap().expired), ("3a", 2));
}

/// Q-7: the end of a lease, and a late acknowledgement.
#[test]
fn a_message_comes_again_when_its_lease_ends() {
    let server = server(jobs().max_deliveries(3));
    publish(&server, 1..=1);
    let (mut one, first) = consumer(&server, "a", "");
    server.clock().advance(4 * SECOND).unwrap();
    let (mut two, _) = consumer(&server, "b", &backlog(5));
    assert!(two.received().is_empty());
    server.clock().advance(SECOND).unwrap();
    let again: Vec<_> = one.received().into_iter().chain(two.received()).collect();
    assert_eq!((again[0].payload(), again[0].header("bm")), (first[0].payload(), first[0].header("bm")));
    assert_eq!(
        (first[0].header("lp"), again[0].header("lp")),
        (Some("20250101T000005.000000Z"), Some("20250101T000010.000000Z"))
    );
    assert_eq!(server.queue("jobs").unwrap().messages[0].deliveries, 2);
    assert_eq!(content(&server), "1a", "both had nothing to do, and a was there first");
    ack(&mut two, &server, &[1], "");
    assert_eq!((content(&server).as_str(), server.queue("jobs").unwrap().acked), ("", 1), "whoever says so");
    server.clock().advance(10 * SECOND).unwrap();
    assert!(one.received().is_empty() && two.received().is_empty());
    // Until it was delivered often enough.
    publish(&server, 2..=2);
    server.clock().advance(100 * SECOND).unwrap();
    assert_eq!(numbers(&one.received()) + &numbers(&two.received()), "222");
    assert_eq!((content(&server).as_str(), server.queue("jobs").unwrap().expired), ("", 1));
}

/// Q-5.
#[test]
fn strict_leasing_lets_the_holder_alone_acknowledge() {
    let server = server(jobs().leasing(Leasing::Strict));
    publish(&server, 1..=2);
    let (mut one, _) = consumer(&server, "a", "");
    let mut other = RawClient::log_on(&server, "b");
    for options in ["", "cancel", "expire"] {
        ack(&mut other, &server, &[1], options);
        assert_eq!(content(&server), "1a 2-", "{options}");
    }
    ack(&mut other, &server, &[2], "");
    assert_eq!(content(&server), "1a", "nobody had the second");
    ack(&mut one, &server, &[1], "");
    assert_eq!(content(&server), "");
}

/// Q-7, L-11: an unsubscribe and the end of a connection give back what there was, the oldest first.
#[test]
fn what_a_subscription_had_returns_when_it_ends() {
    let server = server(jobs());
    publish(&server, 1..=4);
    let (mut one, _) = consumer(&server, "a", &backlog(2));
    one.ask(r#"{"c":"subscribe","cid":"second","t":"jobs","o":"max_backlog=2"}"#);
    assert_eq!(content(&server), "1a 2a 3a 4a");
    one.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"a"}"#);
    assert_eq!(content(&server), "1- 2- 3a 4a");
    let (mut two, got) = consumer(&server, "b", &backlog(1));
    assert_eq!(numbers(&got), "1");
    server.disconnect("a");
    assert_eq!(content(&server), "1b 2- 3- 4-");
    assert_eq!(numbers(&ack(&mut two, &server, &[1], "")), "2");
    assert_eq!(server.queue("jobs").unwrap().messages[1].deliveries, 1);
}

/// Q-4.
#[test]
fn fairness_decides_between_those_who_have_room() {
    let table = [
        (Fairness::Proportional, "a5 b1", "1a 2b 3a 4a 5a 6a"),
        (Fairness::Proportional, "a2 b4", "1a 2b 3b 4a 5b 6b"),
        (Fairness::RoundRobin, "a3 b3", "1a 2b 3a 4b 5a 6b"),
        (Fairness::RoundRobin, "a5 b1", "1a 2b 3a 4a 5a 6a"),
        (Fairness::Fast, "a4 b4", "1a 2a 3a 4a 5b 6b"),
    ];
    for (fairness, backlogs, expected) in table {
        let server = server(jobs().fairness(fairness));
        let _clients: Vec<_> = backlogs
            .split(' ')
            .map(|one| consumer(&server, &one[..1], &backlog(one[1..].parse().unwrap())))
            .collect();
        publish(&server, 1..=6);
        assert_eq!(content(&server), expected, "{fairness:?} {backlogs}");
    }
}

/// Q-3: the oldest message that a subscription takes.
#[test]
fn a_filter_chooses_and_a_message_that_returns_is_seen_again() {
    let server = server(jobs());
    publish(&server, 1..=6);
    let (mut even, got) = consumer(&server, "even", r#","filter":"/n % 2 = 0","o":"max_backlog=2""#);
    assert_eq!(numbers(&got), "24");
    let (mut all, got) = consumer(&server, "all", &backlog(3));
    assert_eq!(numbers(&got), "135");
    assert_eq!(numbers(&ack(&mut even, &server, &[2, 4], "")), "6");
    publish(&server, 7..=8);
    assert_eq!(numbers(&even.received()), "8");
    assert_eq!(content(&server), "1all 3all 5all 6even 8even 7-".replace("6even 8even 7-", "6even 7- 8even"));
    // What comes back goes to the one it is for, though that one has looked behind it already.
    publish(&server, 10..=10);
    ack(&mut even, &server, &[6, 8], "");
    let (mut late, _) = consumer(&server, "late", r#","filter":"/n = 10""#);
    assert!(late.received().is_empty());
    assert_eq!(content(&server), "1all 3all 5all 7- 10even");
    even.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"even"}"#);
    assert_eq!(numbers(&late.received()), "10");
    all.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"all"}"#);
    assert_eq!(content(&server), "1- 3- 5- 7- 10late");
}

/// Q-3: filters cost what they look at once.
#[test]
fn a_long_queue_and_filters_that_find_little_are_no_trouble() {
    let server = with(jobs()).record_frames(0).start().unwrap();
    let (mut none, _) = consumer(&server, "none", r#","filter":"/n < 0""#);
    let (mut some, _) = consumer(&server, "some", r#","filter":"/n % 10 = 0","o":"max_backlog=10""#);
    for n in 1..=4_000_u64 {
        server.publish("jobs", format!(r#"{{"n":{n}}}"#)).unwrap();
    }
    let mut acked = 0;
    let mut got = some.received();
    while !got.is_empty() {
        let marks: Vec<_> = got.iter().filter_map(|frame| frame.header("bm")).collect();
        acked += marks.len();
        some.send(format!(r#"{{"c":"sow_delete","t":"jobs","bookmark":"{}"}}"#, marks.join(",")));
        got = some.received();
    }
    assert_eq!((acked, server.queue("jobs").unwrap().depth()), (400, 3_600));
    assert!(none.received().is_empty());
}

/// Q-9.
#[test]
fn a_replacement_keeps_the_leases() {
    let server = server(jobs());
    publish(&server, 1..=6);
    let (mut client, _) = consumer(&server, "c", &backlog(2));
    let replaced =
        client.ask(r#"{"c":"subscribe","cid":"c","t":"jobs","filter":"/n > 4","o":"replace,max_backlog=3"}"#);
    assert_eq!(replaced.len(), 1);
    assert_eq!(content(&server), "1c 2c 3- 4- 5c 6-");
    ack(&mut client, &server, &[1], "");
    assert_eq!(content(&server), "2c 3- 4- 5c 6c");
    server.clock().advance(5 * SECOND).unwrap();
    assert_eq!(content(&server), "2- 3- 4- 5c 6c", "the second is not for it any more");
    // By a subscription to something else.
    client.ask(r#"{"c":"subscribe","cid":"c","t":"elsewhere","o":"replace"}"#);
    assert_eq!(content(&server), "2- 3- 4- 5- 6-");
}

/// Q-10, U-7.
#[test]
fn an_expired_message_is_not_delivered_any_more() {
    let server = server(jobs().expiration(Expiration::After(10 * SECOND)));
    let mut client = RawClient::log_on(&server, "c");
    for (n, lifetime) in [(1, r#","e":2"#), (2, ""), (3, r#","e":0"#), (4, r#","e":7"#)] {
        client.ask(format!(r#"{{"c":"p","t":"jobs"{lifetime}}}{{"n":{n}}}"#));
    }
    server.clock().advance(2 * SECOND).unwrap();
    assert_eq!(content(&server), "2- 3- 4-");
    let (mut consumer, got) = consumer(&server, "a", &backlog(3));
    assert_eq!(numbers(&got), "234");
    server.clock().advance(5 * SECOND).unwrap();
    assert_eq!(content(&server), "2a 3a", "the lease of the fourth ended with its life");
    ack(&mut consumer, &server, &[2], "");
    server.clock().advance(100 * SECOND).unwrap();
    assert_eq!(content(&server), "3a");
    let queue = server.queue("jobs").unwrap();
    assert_eq!((queue.acked, queue.expired), (1, 2));
    let off = self::server(jobs().expiration(Expiration::Off));
    RawClient::log_on(&off, "c").ask(r#"{"c":"p","t":"jobs","e":1}{"n":1}"#);
    off.clock().advance(10 * SECOND).unwrap();
    assert_eq!(content(&off), "1-");
}

/// Q-1: a limit for all subscriptions together.
#[test]
fn a_queue_may_limit_what_is_under_way() {
    let server = server(jobs().max_backlog(3));
    publish(&server, 1..=6);
    let (mut one, _) = consumer(&server, "a", &backlog(2));
    let (mut two, _) = consumer(&server, "b", &backlog(2));
    assert_eq!(content(&server), "1a 2a 3b 4- 5- 6-");
    ack(&mut two, &server, &[3], "");
    assert_eq!(content(&server), "1a 2a 4b 5- 6-");
    ack(&mut one, &server, &[1, 2], "");
    assert_eq!(server.queue("jobs").unwrap().leased(), 3);
}

/// T-11, Q-1: behind the queue is a topic that is journaled.
#[test]
fn a_bookmark_subscription_replays_the_messages_of_a_queue() {
    let server = server(jobs());
    publish(&server, 1..=2);
    let (mut client, _) = consumer(&server, "c", "");
    ack(&mut client, &server, &[1], "");
    client.send(r#"{"c":"subscribe","cid":"b","t":"jobs","bookmark":"0","a":"completed"}"#);
    publish(&server, 3..=3);
    let frames = client.received();
    assert_eq!(numbers(&frames), "123");
    assert!(frames.iter().all(|frame| frame.header("lp").is_none()));
    assert_eq!(content(&server), "2c 3-", "reading is not taking");
}

/// P-5: patterns are about topics, not about queues.
#[test]
fn a_pattern_takes_nothing_from_a_queue() {
    let server = server(jobs());
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":".*"}"#);
    publish(&server, 1..=1);
    assert!(client.received().is_empty());
    assert_eq!(content(&server), "1-");
}

/// B-10: readers may acknowledge, and get what they may see.
#[test]
fn entitlements_hold_for_queues() {
    let server = with(jobs())
        .entitlement(|access: &Access<'_>| match (access.action(), access.user_id()) {
            (Action::Write, _) => Entitled::Deny,
            (Action::Read, "part") => Entitled::Only("/n > 1".into()),
            _ => Entitled::Allow,
        })
        .start()
        .unwrap();
    publish(&server, 1..=2);
    let mut client = RawClient::connect(&server);
    client.ask(r#"{"c":"logon","cid":"1","client_name":"c","user_id":"part","mt":"json"}"#);
    client.send(r#"{"c":"subscribe","cid":"s","t":"jobs","o":"max_backlog=5"}"#);
    assert_eq!(numbers(&client.received()), "2");
    ack(&mut client, &server, &[2], "");
    assert_eq!(content(&server), "1-");
    let by_filter = client.ask(r#"{"c":"sow_delete","cid":"f","t":"jobs","filter":"1=1","a":"processed"}"#);
    assert!(by_filter[0].contains("not entitled"));
}

/// R-1: a queue is one for all instances, and a lease is where its session is.
#[test]
fn the_instances_of_a_cluster_share_a_queue() {
    let cluster = Cluster::new(with(jobs()), 2).unwrap();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let (_one, _) = consumer(first, "a", &backlog(2));
    let (mut two, _) = consumer(second, "b", &backlog(2));
    publish(first, 1..=5);
    assert_eq!(content(second), "1a 2b 3a 4b 5-");
    first.stop();
    assert_eq!(content(second), "1- 2b 3- 4b 5-");
    assert_eq!(numbers(&two.received()), "24");
    assert_eq!(numbers(&ack(&mut two, second, &[2, 4], "")), "13");
}

/// X-3: all leases at once, and A-6: what a restart keeps.
#[test]
fn leases_can_be_ended_and_messages_outlive_a_restart() {
    let server = server(jobs());
    publish(&server, 1..=2);
    let (mut client, _) = consumer(&server, "c", "");
    assert_eq!(server.expire_leases("jobs"), 1);
    assert_eq!(numbers(&client.received()), "1");
    assert_eq!((server.expire_leases("unknown"), server.queue("unknown")), (0, None));
    server.restart().unwrap();
    assert_eq!(content(&server), "1- 2-");
    server.restart_empty().unwrap();
    assert_eq!(server.queue("jobs"), None);
    server.clock().advance(100 * SECOND).unwrap();
}
