//! A query and a subscription at one point in the order of all changes.

use std::collections::BTreeSet;

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

fn put(server: &Server, id: u32, st: &str) {
    server.publish("orders", format!(r#"{{"id":{id},"st":"{st}"}}"#)).expect("a publish");
}

/// S-12: whatever else happens meanwhile, a record is in the result or comes as a message, never both, never neither.
#[test]
fn no_change_is_lost_or_doubled_between_the_result_and_the_messages() {
    let server = server();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..400).for_each(|id| put(&server, id, "open")));
        for reader in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = RawClient::log_on(server, &format!("r{reader}"));
                client.send(r#"{"c":"sow_and_subscribe","cid":"q","t":"orders","batch_size":7}"#);
                let mut seen = BTreeSet::new();
                let mut is_live = false;
                while seen.len() < 400 || !is_live {
                    let frame = client.receive();
                    match frame.command() {
                        "p" => {
                            assert!(is_live, "a message before the end of the result");
                            assert!(seen.insert(frame.payload().to_vec()), "{frame:?} twice");
                        }
                        "group_end" => is_live = true,
                        _ => {
                            for record in frame.records() {
                                assert!(seen.insert(record.data().to_vec()), "{frame:?} twice");
                            }
                        }
                    }
                }
                assert!(client.received().is_empty());
            });
        }
    });
}

/// S-12.
#[test]
fn top_n_limits_the_query_part_only() {
    let server = server();
    put(&server, 1, "open");
    put(&server, 2, "open");
    let mut client = RawClient::log_on(&server, "c");
    let answer = client
        .ask(r#"{"c":"sow_and_subscribe","cid":"q","t":"orders","top_n":1,"o":"no_sowkey","a":"completed"}"#);
    assert_eq!(
        answer,
        [
            r#"{"c":"group_begin","query_id":"q"}"#,
            r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":20}{"id":1,"st":"open"}"#,
            r#"{"c":"group_end","query_id":"q"}"#,
            r#"{"c":"ack","cid":"q","sub_id":"q","query_id":"q","a":"completed","status":"success"}"#,
        ]
    );
    put(&server, 2, "open");
    put(&server, 3, "open");
    assert_eq!(client.received().len(), 2);
}

/// S-6: on a topic that keeps no records the result is empty and the subscription lives.
#[test]
fn a_topic_without_records_has_an_empty_result_and_live_messages() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let answer = client.ask(r#"{"c":"sow_and_subscribe","cid":"q","t":"plain","a":"processed"}"#);
    assert_eq!(answer.len(), 3);
    server.publish("plain", "x").unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":"plain","l":1,"sids":"q"}x"#]);
}

/// S-13.
#[test]
fn a_replaced_query_sends_only_what_the_old_filter_did_not_show() {
    let server = server();
    for (id, st) in [(1, "open"), (2, "closed"), (3, "held")] {
        put(&server, id, st);
    }
    let mut client = RawClient::log_on(&server, "c");
    client.send(
        r#"{"c":"sow_and_subscribe","cid":"1","sub_id":"s","t":"orders","filter":"/st IN ('open','held')"}"#,
    );
    client.received();
    let replace = |options: &str| {
        format!(
            r#"{{"c":"sow_and_subscribe","cid":"2","sub_id":"s","t":"orders","filter":"/st IN ('closed','held')","batch_size":10,"o":"replace,no_sowkey{options}","a":"processed,completed"}}"#
        )
    };
    let expected = [
        r#"{"c":"ack","cid":"2","sub_id":"s","query_id":"2","a":"processed","status":"success"}"#,
        r#"{"c":"group_begin","query_id":"2"}"#,
        r#"{"c":"sow","t":"orders","query_id":"2","bs":1}{"l":22}{"id":2,"st":"closed"}"#,
        r#"{"c":"group_end","query_id":"2"}"#,
        r#"{"c":"oof","t":"orders","l":20,"sids":"s","reason":"match"}{"id":1,"st":"open"}"#,
        r#"{"c":"ack","cid":"2","sub_id":"s","query_id":"2","a":"completed","status":"success"}"#,
    ];
    assert_eq!(client.ask(replace(",oof")), expected);

    // Once more the same: nothing is new, and nothing leaves.
    let again = client.ask(replace(",oof"));
    assert_eq!(again.len(), 4, "{again:?}");
}

/// S-13: without `oof` nobody is told of what leaves.
#[test]
fn without_oof_a_replaced_query_says_nothing_of_what_leaves() {
    let server = server();
    put(&server, 1, "open");
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"sow_and_subscribe","cid":"1","sub_id":"s","t":"orders"}"#);
    client.received();
    let replace =
        r#"{"c":"sow_and_subscribe","cid":"2","sub_id":"s","t":"orders","filter":"/id = 9","o":"replace"}"#;
    assert_eq!(client.ask(replace).len(), 2);
}

/// A result larger than one write, read by nobody for a while, holds up nobody else (Z-2).
#[test]
fn a_large_result_waits_for_its_reader() {
    let server =
        Server::builder().topic(Topic::sow("orders").key("/id")).max_queued_bytes(4096).start().unwrap();
    let filler = "x".repeat(10_000);
    for id in 0..1000 {
        put(&server, id, &filler);
    }
    let mut slow = RawClient::log_on(&server, "slow");
    slow.send(r#"{"c":"sow","cid":"q","t":"orders","batch_size":10}"#);
    let mut other = RawClient::log_on(&server, "other");
    other.send(r#"{"c":"sow","cid":"q","t":"orders","filter":"/id = 1"}"#);
    assert_eq!(other.received().len(), 3);
    let frames = slow.received();
    assert_eq!(frames.len(), 102);
    let payloads: BTreeSet<_> = frames.iter().flat_map(|f| f.records()).map(|r| r.data().to_vec()).collect();
    assert_eq!(payloads.len(), 1000);
    assert_eq!(server.counters().slow_clients, 0);
}
