//! Records, their keys, and queries over them.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Expiration, Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

/// The records of the `sow` frames among these texts, in their order.
fn records(texts: &[String]) -> Vec<String> {
    let frames = texts.iter().filter(|text| text.starts_with(r#"{"c":"sow""#));
    frames
        .flat_map(|text| {
            text.split_once("}{")
                .expect("a record")
                .1
                .split(r#"{"l":"#)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .map(|record| record.split_once('}').expect("a record header").1.to_owned())
        .collect()
}

fn query(client: &mut RawClient, fields: &str) -> Vec<String> {
    records(&client.ask(format!(r#"{{"c":"sow","cid":"q","t":"orders","batch_size":100{fields}}}"#)))
}

/// S-1.
#[test]
fn a_key_is_the_same_for_the_same_values_on_every_server() {
    let topic = || Topic::sow("orders").key("/desk").key("/id");
    let key = |topic: Topic, payload: &str| {
        let server = Server::builder().topic(topic).start().unwrap();
        server.publish("orders", payload).unwrap();
        server.sow_records("orders")[0].key.clone()
    };
    let first = key(topic(), r#"{"desk":"a","id":1}"#);
    assert!(first.parse::<u64>().is_ok(), "{first}");
    assert_eq!(key(topic(), r#"{"id":1,"px":5,"desk":"a"}"#), first);
    assert_ne!(key(topic(), r#"{"desk":"b","id":1}"#), first);
    assert_ne!(key(topic(), r#"{"desk":"a1","id":""}"#), first);
    assert_ne!(key(topic().key_domain("shared"), r#"{"desk":"a","id":1}"#), first);
    // A missing field counts as an empty one.
    assert_eq!(key(topic(), r#"{"id":1}"#), key(topic(), r#"{"desk":"","id":1}"#));
}

/// S-2.
#[test]
fn an_explicit_key_is_taken_and_returned_as_it_is() {
    let server = Server::builder().topic(Topic::sow("orders")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for (key, payload) in [("Key+1/=", "first"), ("b", "other"), ("Key+1/=", "second")] {
        client.send(format!(r#"{{"c":"p","t":"orders","k":"{key}"}}{payload}"#));
    }
    let answer = client.ask(r#"{"c":"sow","cid":"q","t":"orders","batch_size":9}"#);
    assert_eq!(
        answer[1],
        r#"{"c":"sow","t":"orders","query_id":"q","bs":2}{"l":6,"k":"Key+1/="}second{"l":5,"k":"b"}other"#
    );
}

/// S-2: on a keyed topic the publisher's own key counts for nothing.
#[test]
fn a_key_that_comes_with_a_keyed_message_is_ignored() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"p","t":"orders","k":"A"}{"id":1}"#);
    client.send(r#"{"c":"p","t":"orders","k":"B"}{"id":1}"#);
    assert!(client.received().is_empty());
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// S-6.
#[test]
fn an_empty_result_has_both_delimiters() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let empty = [r#"{"c":"group_begin","query_id":"q"}"#, r#"{"c":"group_end","query_id":"q"}"#];
    assert_eq!(client.ask(r#"{"c":"sow","cid":"q","t":"orders"}"#), empty);
    server.publish("orders", r#"{"id":1}"#).unwrap();
    assert_eq!(client.ask(r#"{"c":"sow","cid":"q","t":"orders","top_n":0}"#), empty);
    assert_eq!(client.ask(r#"{"c":"sow","cid":"q","t":"orders","filter":"/id = 2"}"#), empty);
    assert_eq!(client.ask(r#"{"c":"sow","cid":"q","t":"no.*such"}"#), empty);
    assert_eq!(client.ask(r#"{"c":"sow_and_subscribe","cid":"q","t":"plain"}"#), empty);
}

/// S-7, vector 17.6.
#[test]
fn a_batch_size_bounds_the_records_of_a_frame() {
    let server = server();
    for id in 1..=7 {
        server.publish("orders", format!(r#"{{"id":{id}}}"#)).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    let sizes = |client: &mut RawClient, batch: &str| {
        client.send(format!(r#"{{"c":"sow","cid":"q","t":"orders"{batch}}}"#));
        let frames = client.received();
        frames.iter().filter_map(|f| f.header("bs").map(|n| n.parse().unwrap())).collect::<Vec<u64>>()
    };
    assert_eq!(sizes(&mut client, r#","batch_size":3"#), [3, 3, 1]);
    assert_eq!(sizes(&mut client, r#","bs":7"#), [7]);
    assert_eq!(sizes(&mut client, r#","batch_size":10000"#), [7]);
    assert_eq!(sizes(&mut client, ""), [1; 7]);
}

/// S-8.
#[test]
fn a_result_is_ordered_skipped_and_cut_in_this_order() {
    let server = server();
    for (id, px) in [(1, "30"), (2, "10"), (3, "20"), (4, "null"), (5, "10")] {
        server.publish("orders", format!(r#"{{"id":{id},"px":{px}}}"#)).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    let mut ids = |fields: &str| {
        let found = query(&mut client, fields);
        found.iter().map(|record| record[6..7].to_owned()).collect::<String>()
    };
    assert_eq!(ids(""), "12345");
    assert_eq!(ids(r#","orderby":"/px""#), "42531");
    assert_eq!(ids(r#","orderby":"/px DESC""#), "13254");
    assert_eq!(ids(r#","orderby":"/px ASC,/id DESC""#), "45231");
    assert_eq!(ids(r#","top_n":2"#), "12");
    assert_eq!(ids(r#","top_n":4,"o":"top_n=1""#), "1");
    assert_eq!(ids(r#","orderby":"/id DESC","o":"top_n=2,skip_n=1""#), "43");
    assert_eq!(ids(r#","orderby":"/id","o":"top_n=9,skip_n=9""#), "");
    assert_eq!(ids(r#","filter":"/px = 10","top_n":1"#), "2");
}

/// K-5: what the counters count.
#[test]
fn the_counters_of_a_query_tell_what_was_compared_matched_and_sent() {
    let server = server();
    for id in 1..=5 {
        server.publish("orders", format!(r#"{{"id":{id}}}"#)).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    let answer = client.ask(r#"{"c":"sow","cid":"q","t":"orders","filter":"/id > 1","top_n":3,"a":"stats"}"#);
    assert_eq!(
        answer.last().unwrap(),
        r#"{"c":"ack","cid":"q","query_id":"q","a":"stats","status":"success","topic_matches":5,"matches":4,"records_returned":3}"#
    );
}

/// S-8.
#[test]
fn a_query_may_name_its_records_by_their_keys() {
    let server = Server::builder().topic(Topic::sow("orders")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for key in ["a", "b", "c"] {
        client.send(format!(r#"{{"c":"p","t":"orders","k":"{key}"}}{{"v":"{key}"}}"#));
    }
    let v = |key: &str| format!(r#"{{"v":"{key}"}}"#);
    assert_eq!(query(&mut client, r#","sow_keys":"c,unknown,a""#), [v("a"), v("c")]);
    assert_eq!(query(&mut client, r#","sow_keys":"c,a","filter":"/v = 'c'""#), [v("c")]);
}

/// S-10, W-6.
#[test]
fn a_record_shows_what_was_asked_for() {
    let clock = Clock::manual();
    let server = Server::builder().topic(Topic::sow("orders")).clock(clock.clone()).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"p","t":"orders","k":"a"}1"#);
    assert!(client.received().is_empty());
    clock.advance(Duration::from_micros(1_500_000)).unwrap();
    client.send(r#"{"c":"p","t":"orders","k":"b","x":"xy"}2"#);
    let ask = |client: &mut RawClient, options: &str| {
        let answer =
            client.ask(format!(r#"{{"c":"sow","cid":"q","t":"orders","batch_size":9,"o":"{options}"}}"#));
        answer[1..answer.len() - 1].to_vec()
    };
    assert_eq!(
        ask(&mut client, ""),
        [
            r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":1,"k":"a"}1"#,
            r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":1,"k":"b","x":"xy"}2"#,
        ]
    );
    assert_eq!(
        ask(&mut client, "timestamp,no_sowkey"),
        [
            r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":1,"ts":"20250101T000000.000000Z"}1"#,
            r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":1,"ts":"20250101T000001.500000Z","x":"xy"}2"#,
        ]
    );
}

fn expiring(expiration: Expiration) -> (Server, Clock, RawClient) {
    let clock = Clock::manual();
    let topic = Topic::sow("orders").key("/id").expiration(expiration);
    let server = Server::builder().topic(topic).clock(clock.clone()).start().expect("a server");
    let client = RawClient::log_on(&server, "c");
    (server, clock, client)
}

/// The ids of the records left.
fn left(server: &Server) -> String {
    let records = server.sow_records("orders").into_iter();
    records.map(|record| String::from_utf8(record.payload).expect("text")[6..7].to_owned()).collect()
}

/// S-9, U-7.
#[test]
fn a_record_expires_as_its_topic_and_its_publisher_say() {
    let minute = Expiration::After(Duration::from_secs(60));
    let table = [
        (Expiration::Off, "12345", "12345", "12345"),
        (Expiration::PerMessage, "1245", "125", "125"),
        (minute, "1245", "125", "25"),
    ];
    for (expiration, after_10, after_30, after_60) in table {
        let (server, clock, mut client) = expiring(expiration);
        client.send(r#"{"c":"p","t":"orders"}{"id":1}"#);
        client.send(r#"{"c":"p","t":"orders","e":"100"}{"id":2}"#);
        client.send(r#"{"c":"p","t":"orders","e":10}{"id":3}"#);
        client.send(r#"{"c":"p","t":"orders","e":"30"}{"id":4}"#);
        client.send(r#"{"c":"p","t":"orders","e":"0"}{"id":5}"#);
        assert!(client.received().is_empty());
        clock.advance(Duration::from_millis(9_999)).unwrap();
        assert_eq!(left(&server), "12345");
        for (step, expected) in [(1, after_10), (20_000, after_30), (30_000, after_60)] {
            clock.advance(Duration::from_millis(step)).unwrap();
            assert_eq!(left(&server), expected, "{expiration:?}");
        }
    }
}

/// S-9.
#[test]
fn an_update_restarts_the_lifetime_of_a_record() {
    let (server, clock, mut client) = expiring(Expiration::PerMessage);
    let second = Duration::from_secs(1);
    client.send(r#"{"c":"p","t":"orders","e":"2"}{"id":1}"#);
    assert!(client.received().is_empty());
    clock.advance(second).unwrap();
    client.send(r#"{"c":"delta_publish","t":"orders","e":"2"}{"id":1}"#);
    assert!(client.received().is_empty());
    clock.advance(second).unwrap();
    assert_eq!(left(&server), "1");
    clock.advance(second).unwrap();
    assert_eq!(left(&server), "");
}

/// S-9.
#[test]
fn an_expired_record_is_gone_for_queries_and_updates() {
    let (_server, clock, mut client) = expiring(Expiration::PerMessage);
    client.send(r#"{"c":"p","t":"orders","e":"1"}{"id":1,"a":1}"#);
    assert!(client.received().is_empty());
    clock.advance(Duration::from_secs(1)).unwrap();
    assert!(query(&mut client, "").is_empty());
    client.send(r#"{"c":"delta_publish","t":"orders"}{"id":1,"b":2}"#);
    assert_eq!(query(&mut client, ""), [r#"{"id":1,"b":2}"#]);
}

/// S-4, S-5, K-5.
#[test]
fn a_delete_takes_a_filter_keys_or_a_message() {
    let server = Server::builder()
        .topic(Topic::sow("orders").key("/id"))
        .topic(Topic::sow("other").key("/id"))
        .start()
        .unwrap();
    let fill = || {
        for id in 1..=4 {
            server.publish("orders", format!(r#"{{"id":{id}}}"#)).unwrap();
        }
        server.publish("other", r#"{"id":1}"#).unwrap();
    };
    fill();
    let key_of_1 = server.sow_records("orders")[0].key.clone();
    let mut client = RawClient::log_on(&server, "c");
    let stats = |topic, matches, deleted| {
        format!(
            r#"{{"c":"ack","cid":"1","query_id":"1","a":"stats","status":"success","records_deleted":{deleted},"topic_matches":{topic},"matches":{matches}}}"#
        )
    };
    let table = [
        (r#""t":"orders","filter":"/id > 2""#.to_owned(), "", stats(4, 2, 2), 2),
        (r#""t":"orders","filter":"/id > 9""#.to_owned(), "", stats(4, 0, 0), 4),
        (r#""t":"orders","filter":"1=1""#.to_owned(), "", stats(4, 4, 4), 0),
        (format!(r#""t":"orders","sow_keys":"{key_of_1},77""#), "", stats(1, 1, 1), 3),
        (r#""t":"orders""#.to_owned(), r#"{"id":2,"any":"thing"}"#, stats(1, 1, 1), 3),
        (r#""t":"orders""#.to_owned(), r#"{"id":9}"#, stats(0, 0, 0), 4),
        (r#""t":"^o","filter":"/id = 1""#.to_owned(), "", stats(5, 2, 2), 3),
    ];
    for (fields, payload, counters, remain) in table {
        fill();
        let command =
            format!(r#"{{"c":"sow_delete","cid":"1","query_id":"1",{fields},"a":"stats"}}{payload}"#);
        assert_eq!(client.ask(&command), [counters], "{command}");
        assert_eq!(server.sow_records("orders").len(), remain, "{command}");
    }
}

/// S-2, S-4: on a topic with explicit keys the message is named by its key.
#[test]
fn a_delete_by_message_uses_the_explicit_key() {
    let server = Server::builder().topic(Topic::sow("orders")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"p","t":"orders","k":"A"}x"#);
    client.send(r#"{"c":"sow_delete","t":"orders","k":"A"}anything"#);
    assert!(client.received().is_empty());
    assert!(server.sow_records("orders").is_empty());
}
