//! Topics, message types and payloads.

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

/// P-1.
#[test]
fn a_topic_belongs_to_its_message_type() {
    let server = Server::builder().topic(Topic::sow("orders").key("/id")).start().unwrap();
    let mut json = RawClient::log_on(&server, "json");
    let mut nvfix = RawClient::log_on_as(&server, "nvfix", "nvfix");
    for client in [&mut json, &mut nvfix] {
        client.send(r#"{"c":"subscribe","cid":"s","t":"orders","o":"no_sowkey"}"#);
        assert!(client.received().is_empty());
    }
    json.send(r#"{"c":"p","t":"orders"}{"id":1}"#);
    nvfix.send("{\"c\":\"p\",\"t\":\"orders\"}id=2\x01");
    assert_eq!(json.texts(), [r#"{"c":"p","t":"orders","l":8,"sids":"s"}{"id":1}"#]);
    assert_eq!(nvfix.texts(), ["{\"c\":\"p\",\"t\":\"orders\",\"l\":5,\"sids\":\"s\"}id=2\x01"]);
    let found = json.ask(r#"{"c":"sow","cid":"q","t":"orders","batch_size":9,"o":"no_sowkey"}"#);
    assert_eq!(found[1], r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":8}{"id":1}"#);
    assert_eq!(server.sow_records("orders").len(), 2);
}

/// P-1.
#[test]
fn a_topic_may_be_bound_to_one_message_type() {
    let bound = Topic::sow("orders").key("/id").message_type("json");
    let server = Server::builder().topic(bound).start().unwrap();
    let mut fix = RawClient::log_on_as(&server, "fix", "fix");
    let refused = r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"invalid topic"}"#;
    assert_eq!(fix.ask(r#"{"c":"sow","cid":"1","t":"orders","a":"processed"}"#), [refused]);
    let mut json = RawClient::log_on(&server, "json");
    assert_eq!(json.ask(r#"{"c":"sow","cid":"1","t":"orders"}"#).len(), 2);
}

/// A-10, P-2.
#[test]
fn a_topic_that_nobody_configured_delivers_and_stores_nothing() {
    let server = Server::builder().topic(Topic::plain("configured")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for topic in ["configured", "ad hoc"] {
        client.send(format!(r#"{{"c":"subscribe","cid":"{topic}","t":"{topic}"}}"#));
        client.send(format!(r#"{{"c":"p","t":"{topic}"}}x"#));
        assert_eq!(client.texts(), [format!(r#"{{"c":"p","t":"{topic}","l":1,"sids":"{topic}"}}x"#)]);
        assert!(server.sow_records(topic).is_empty());
    }
}

/// P-3.
#[test]
fn a_publish_takes_its_topic_as_it_stands() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"plain","t":"rx/a"}"#);
    client.send(r#"{"c":"subscribe","cid":"odd","t":"^rx[","o":"non_regex_topic"}"#);
    client.send(r#"{"c":"p","t":"rx/.*"}1"#);
    client.send(r#"{"c":"p","t":"^rx["}2"#);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"^rx[","l":1,"sids":"odd"}2"#]);
}

/// P-4, vector 17.2.
#[test]
fn a_topic_with_the_characters_of_an_expression_is_one() {
    let table = [
        ("rx/.*", true),
        (".*", true),
        ("rx/a|rx/b", true),
        ("rx/[ab]", true),
        ("x/a$", true),
        ("^rx", true),
        ("^a", false),
        ("rx.a", true),
        ("^rx/a$", true),
        ("RX/.*", false),
        ("(?i)RX/.*", true),
        ("^x", false),
        ("rx", false),
    ];
    for (topic, takes) in table {
        let server = Server::builder().start().unwrap();
        let mut client = RawClient::log_on(&server, "c");
        client.send(format!(r#"{{"c":"subscribe","cid":"s","t":"{topic}"}}"#));
        client.send(r#"{"c":"p","t":"rx/a"}x"#);
        assert_eq!(client.received().len(), usize::from(takes), "{topic}");
    }
}

/// P-4, vector 17.2.
#[test]
fn with_non_regex_topic_an_expression_is_a_name() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"rx/.*","o":"non_regex_topic"}"#);
    client.send(r#"{"c":"p","t":"rx/a"}1"#);
    client.send(r#"{"c":"p","t":"rx/.*"}2"#);
    assert_eq!(client.texts(), [r#"{"c":"p","t":"rx/.*","l":1,"sids":"s"}2"#]);
}

/// P-5.
#[test]
fn a_query_over_several_topics_visits_them_in_the_order_of_their_configuration() {
    let server = Server::builder()
        .topic(Topic::sow("b/2").key("/id"))
        .topic(Topic::sow("b/1").key("/id"))
        .topic(Topic::sow("other").key("/id"))
        .start()
        .unwrap();
    for topic in ["b/1", "other", "b/2"] {
        server.publish(topic, r#"{"id":1}"#).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    let ask = r#"{"c":"sow","cid":"q","t":"^b/","batch_size":10,"o":"no_sowkey","a":"completed"}"#;
    assert_eq!(
        client.ask(ask),
        [
            r#"{"c":"group_begin","query_id":"q"}"#,
            r#"{"c":"sow","t":"b/2","query_id":"q","bs":1}{"l":8}{"id":1}"#,
            r#"{"c":"sow","t":"b/1","query_id":"q","bs":1}{"l":8}{"id":1}"#,
            r#"{"c":"group_end","query_id":"q"}"#,
            r#"{"c":"ack","cid":"q","query_id":"q","a":"completed","status":"success"}"#,
        ]
    );
}

/// P-5: topics of one prefix come in the order in which they came to be.
#[test]
fn topics_that_came_by_themselves_are_visited_in_that_order() {
    let server = Server::quick().unwrap();
    for topic in ["sow/z", "sow/a", "sow/m"] {
        server.publish(topic, r#"{"id":1}"#).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    let answer = client.ask(r#"{"c":"sow","cid":"q","t":"^sow/.*"}"#);
    let topics: Vec<_> =
        answer.iter().filter_map(|t| t.split(r#""t":""#).nth(1)?.split('"').next()).collect();
    assert_eq!(topics, ["sow/z", "sow/a", "sow/m"]);
}

/// P-7.
#[test]
fn an_unreadable_payload_is_delivered_unchanged_and_all_its_fields_are_null() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"all","t":"t"}"#);
    client.send(r#"{"c":"subscribe","cid":"null","t":"t","filter":"/id IS NULL"}"#);
    client.send(r#"{"c":"subscribe","cid":"one","t":"t","filter":"/id = 1"}"#);
    client.send(r#"{"c":"p","t":"t"}no JSON"#);
    client.send(r#"{"c":"p","t":"t"}{"id":1}"#);
    assert_eq!(
        client.texts(),
        [
            r#"{"c":"p","t":"t","l":7,"sids":"all,null"}no JSON"#,
            r#"{"c":"p","t":"t","l":8,"sids":"all,one"}{"id":1}"#,
        ]
    );
}

/// P-9.
#[test]
fn fix_and_nvfix_messages_have_fields_and_keep_their_separators() {
    for (message_type, field, with, without) in [
        ("fix", "/55", "35=D\x0155=IBM\x01", "35=D\x0155=AMD\x01"),
        ("nvfix", "/sym", "qty=1\x01sym=IBM", "sym=AMD"),
    ] {
        let server = Server::builder().start().unwrap();
        let mut client = RawClient::log_on_as(&server, "c", message_type);
        client.send(format!(r#"{{"c":"subscribe","cid":"s","t":"t","filter":"{field} = 'IBM'"}}"#));
        client.send(format!(r#"{{"c":"p","t":"t"}}{without}"#));
        client.send(format!(r#"{{"c":"p","t":"t"}}{with}"#));
        let received = client.received();
        assert_eq!(received.len(), 1, "{message_type}");
        assert_eq!(received[0].payload(), with.as_bytes());
    }
}

/// P-10: a SOW topic for binary messages has explicit keys only, whatever the configuration says.
#[test]
fn binary_messages_have_no_fields_and_explicit_keys() {
    let server = Server::quick().unwrap();
    let mut client = RawClient::log_on_as(&server, "c", "binary");
    client.send(r#"{"c":"p","t":"sow/blobs","k":"KEY1"}{"id":1}"#);
    let refused = r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"bad sow key"}"#;
    assert_eq!(client.ask(r#"{"c":"p","cid":"1","t":"sow/blobs","a":"processed"}{"id":1}"#), [refused]);
    let found = client.ask(r#"{"c":"sow","cid":"q","t":"sow/blobs","filter":"/id IS NULL"}"#);
    assert_eq!(found[1], r#"{"c":"sow","t":"sow/blobs","query_id":"q","bs":1}{"l":8,"k":"KEY1"}{"id":1}"#);
}
