//! The life of a subscription, and what its messages carry.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

const OK: &str = r#"{"c":"ack","cid":"1","a":"processed","status":"success"}"#;

fn failure(reason: &str) -> String {
    format!(r#"{{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"{reason}"}}"#)
}

/// B-1.
#[test]
fn a_subscription_is_named_by_its_id_its_command_or_the_server() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"1","sub_id":"named","t":"t"}"#);
    client.send(r#"{"c":"subscribe","cid":"2","t":"t"}"#);
    let ack = client.ask(r#"{"c":"subscribe","t":"t","a":"processed"}"#);
    server.publish("t", "x").unwrap();
    let ids: Vec<_> = server.subscriptions().into_iter().map(|sub| sub.id).collect();
    assert_eq!(ids[..2], ["named", "2"]);
    assert_eq!(ack, [format!(r#"{{"c":"ack","sub_id":"{}","a":"processed","status":"success"}}"#, ids[2])]);
    assert_eq!(client.texts(), [format!(r#"{{"c":"p","t":"t","l":1,"sids":"named,2,{}"}}x"#, ids[2])]);
}

/// B-1: an id is in use on its own connection only.
#[test]
fn an_id_in_use_is_refused_on_its_own_connection_only() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"1","sub_id":"s","t":"a"}"#);
    let again = r#"{"c":"subscribe","cid":"1","sub_id":"s","t":"b","a":"processed"}"#;
    assert_eq!(client.ask(again), [failure("subid in use")]);
    server.publish("a", "x").unwrap();
    server.publish("b", "x").unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":"a","l":1,"sids":"s"}x"#]);
    let mut other = RawClient::log_on(&server, "d");
    other.send(again);
    assert_eq!(other.receive().header("status"), Some("success"));
}

/// B-2.
#[test]
fn an_unsubscribe_ends_one_several_or_all() {
    let table =
        [("s1", "s2,s3"), ("s1,s3", "s2"), ("s1, unknown ,,s2", "s3"), ("all", ""), ("unknown", "s1,s2,s3")];
    for (ids, left) in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        for id in ["s1", "s2", "s3"] {
            client.send(format!(r#"{{"c":"subscribe","cid":"{id}","t":"t"}}"#));
        }
        let unsubscribe = format!(r#"{{"c":"unsubscribe","cid":"1","sub_id":"{ids}","a":"processed"}}"#);
        assert_eq!(client.ask(unsubscribe), [OK], "{ids}");
        server.publish("t", "x").unwrap();
        let sids: Vec<_> =
            client.received().iter().map(|frame| frame.header("sids").unwrap().to_owned()).collect();
        assert_eq!(sids.join(";"), left, "{ids}");
    }
}

/// B-2.
#[test]
fn an_unsubscribe_may_name_a_query_but_must_name_something() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(client.ask(r#"{"c":"unsubscribe","cid":"1","a":"processed"}"#), [failure("invalid subId")]);
    assert_eq!(client.ask(r#"{"c":"unsubscribe","cid":"1","query_id":"q","a":"processed"}"#), [OK]);
}

/// B-3.
#[test]
fn a_replaced_subscription_changes_topic_filter_and_options_at_once() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"1","sub_id":"s","t":"a","filter":"/id = 1"}"#);
    server.publish("a", r#"{"id":1}"#).unwrap();
    assert_eq!(client.received().len(), 1);
    let replace = r#"{"c":"subscribe","cid":"2","sub_id":"s","t":"orders","filter":"/id = 2","o":"replace,no_sowkey","a":"processed"}"#;
    assert_eq!(
        client.ask(replace),
        [r#"{"c":"ack","cid":"2","sub_id":"s","a":"processed","status":"success"}"#]
    );
    for topic in ["a", "orders"] {
        for id in 1..=2 {
            server.publish(topic, format!(r#"{{"id":{id}}}"#)).unwrap();
        }
    }
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":8,"sids":"s"}{"id":2}"#]);
    let subscriptions = server.subscriptions();
    assert_eq!(subscriptions.len(), 1);
    assert_eq!(
        (
            subscriptions[0].topic.as_str(),
            subscriptions[0].filter.as_str(),
            subscriptions[0].options.as_str()
        ),
        ("orders", "/id = 2", "replace,no_sowkey")
    );
}

/// B-3.
#[test]
fn a_replace_of_an_unknown_id_places_a_new_subscription() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"1","sub_id":"new","t":"t","o":"replace"}"#);
    server.wait_for(|s| s.subscriptions().len() == 1, Duration::from_secs(10)).unwrap();
    server.publish("t", "x").unwrap();
    assert_eq!(client.received().len(), 1);
}

/// B-3: while messages flow, none that both forms want is lost or doubled.
#[test]
fn a_replace_under_way_loses_and_doubles_nothing() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"0","sub_id":"s","t":"t","filter":"/n >= 0"}"#);
    assert!(client.received().is_empty());
    std::thread::scope(|scope| {
        scope.spawn(|| (0..500).for_each(|n| server.publish("t", format!(r#"{{"n":{n}}}"#)).unwrap()));
        for turn in 0..50 {
            client.send(format!(
                r#"{{"c":"subscribe","cid":"1","sub_id":"s","t":"t","filter":"/n >= -{turn}","o":"replace"}}"#
            ));
        }
    });
    let payloads: Vec<_> =
        client.received().iter().map(|f| String::from_utf8_lossy(f.payload()).into_owned()).collect();
    assert_eq!(payloads, (0..500).map(|n| format!(r#"{{"n":{n}}}"#)).collect::<Vec<_>>());
}

/// B-4.
#[test]
fn one_frame_lists_every_subscription_of_a_connection() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let mut other = RawClient::log_on(&server, "d");
    for (id, topic) in [("s1", "t"), ("s2", ".*"), ("s3", "other"), ("s4", "^t")] {
        client.send(format!(r#"{{"c":"subscribe","cid":"{id}","t":"{topic}"}}"#));
    }
    other.send(r#"{"c":"subscribe","cid":"s1","t":"t"}"#);
    assert!(client.received().is_empty() && other.received().is_empty());
    server.publish("t", "x").unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":"t","l":1,"sids":"s1,s2,s4"}x"#]);
    assert_eq!(other.texts(), [r#"{"c":"p","t":"t","l":1,"sids":"s1"}x"#]);
}

/// B-4.
#[test]
fn without_coalescing_each_subscription_gets_a_frame_of_its_own() {
    let server = Server::builder().coalesce_sids(false).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for id in ["s1", "s2"] {
        client.send(format!(r#"{{"c":"subscribe","cid":"{id}","t":"t"}}"#));
    }
    assert!(client.received().is_empty());
    server.publish("t", "x").unwrap();
    let frames = [r#"{"c":"p","t":"t","l":1,"sids":"s1"}x"#, r#"{"c":"p","t":"t","l":1,"sids":"s2"}x"#];
    assert_eq!(client.texts(), frames);
}

/// B-6, B-7.
#[test]
fn a_message_carries_what_one_of_its_subscriptions_asked_for() {
    let clock = Clock::manual();
    clock.advance(Duration::from_micros(61_000_001)).unwrap();
    let server = Server::builder().topic(Topic::sow("orders")).clock(clock).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let publish = |client: &mut RawClient| {
        assert_eq!(client.ask(r#"{"c":"p","t":"orders","k":"K","x":"X"}1"#).len(), 1);
        client.send(r#"{"c":"p","t":"orders","k":"K","x":"X"}1"#);
        client.texts().remove(0)
    };
    client.send(r#"{"c":"subscribe","cid":"1","t":"orders","o":"no_sowkey"}"#);
    assert_eq!(publish(&mut client), r#"{"c":"p","t":"orders","l":1,"x":"X","sids":"1"}1"#);
    client.send(r#"{"c":"subscribe","cid":"2","t":"orders","o":"no_sowkey,timestamp"}"#);
    assert_eq!(
        publish(&mut client),
        r#"{"c":"p","t":"orders","ts":"20250101T000101.000001Z","l":1,"x":"X","sids":"1,2"}1"#
    );
    client.send(r#"{"c":"subscribe","cid":"3","t":"orders","o":"bookmark"}"#);
    assert_eq!(
        publish(&mut client),
        r#"{"c":"p","t":"orders","ts":"20250101T000101.000001Z","l":1,"k":"K","x":"X","sids":"1,2,3"}1"#
    );
}

/// B-8.
#[test]
fn options_of_another_kind_of_command_count_for_nothing() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let options = "top_n=1,skip_n=2,cancel,expire,max_backlog=3,live,fully_durable,bookmark_not_found=now,send_keys,none,";
    let subscribe = format!(r#"{{"c":"subscribe","cid":"1","t":"t","o":"{options}"}}"#);
    client.send(subscribe);
    client.send(r#"{"c":"p","t":"t"}1"#);
    client.send(r#"{"c":"p","t":"t"}2"#);
    assert_eq!(client.received().len(), 2);
    let sow = client.ask(r#"{"c":"sow","cid":"q","t":"orders","o":"oof,replace,no_empties"}"#);
    assert_eq!(sow.len(), 2);
}
