//! Which acknowledgement comes when, and with what.

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

fn server() -> Server {
    let server = Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server");
    server.publish("orders", r#"{"id":1}"#).expect("a publish");
    server
}

const ALL: &str = "received,parsed,processed,persisted,completed,stats";

/// The type of each acknowledgement, or the command of each other frame.
fn shape(texts: &[String]) -> Vec<String> {
    let value = |text: &str, key: &str| {
        text.split(&format!(r#""{key}":""#)).nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned)
    };
    let kind = |text: &String| value(text, "a").or_else(|| value(text, "c")).expect("a command");
    texts.iter().map(kind).collect()
}

/// K-1, K-2, K-5, K-6: every acknowledgement a command can have, in its order, and `completed` for no live subscription.
#[test]
fn each_command_is_answered_in_its_order() {
    let table: [(&str, &[&str]); 11] = [
        (r#"{"c":"p","cid":"1","t":"t","a":"ALL"}x"#, &["received", "processed", "completed", "persisted"]),
        (
            r#"{"c":"delta_publish","cid":"1","t":"t","a":"ALL"}x"#,
            &["received", "processed", "completed", "persisted"],
        ),
        (r#"{"c":"subscribe","cid":"1","t":"t","a":"ALL"}"#, &["received", "processed"]),
        (r#"{"c":"delta_subscribe","cid":"1","t":"t","a":"ALL"}"#, &["received", "processed"]),
        (
            r#"{"c":"sow","cid":"1","t":"orders","a":"ALL"}"#,
            &["received", "processed", "group_begin", "sow", "group_end", "completed", "stats"],
        ),
        (
            r#"{"c":"sow_and_subscribe","cid":"1","t":"orders","a":"ALL"}"#,
            &["received", "processed", "group_begin", "sow", "group_end", "completed", "stats"],
        ),
        (
            r#"{"c":"sow_and_delta_subscribe","cid":"1","t":"orders","a":"ALL"}"#,
            &["received", "processed", "group_begin", "sow", "group_end", "completed", "stats"],
        ),
        (
            r#"{"c":"sow_delete","cid":"1","t":"orders","filter":"1=1","a":"ALL"}"#,
            &["received", "processed", "completed", "stats", "persisted"],
        ),
        (r#"{"c":"unsubscribe","cid":"1","sub_id":"all","a":"ALL"}"#, &["received", "processed"]),
        (r#"{"c":"flush","cid":"1","a":"ALL"}"#, &["received", "processed", "completed", "persisted"]),
        (r#"{"c":"heartbeat","cid":"1","o":"beat","a":"ALL"}"#, &["received", "processed"]),
    ];
    for (command, expected) in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        let answer = client.ask(command.replace("ALL", ALL));
        assert_eq!(shape(&answer), expected, "{command}");
        for text in answer.iter().filter(|text| text.starts_with(r#"{"c":"ack""#)) {
            assert!(text.contains(r#""cid":"1""#) && text.contains(r#""status":"success""#), "{text}");
        }
    }
}

/// K-1.
#[test]
fn nothing_is_acknowledged_that_was_not_asked_for() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    for acks in ["", "none", "parsed", "nonsense"] {
        for command in [
            r#"{"c":"p","cid":"1","t":"t","a":"A"}x"#,
            r#"{"c":"subscribe","cid":"1","t":"t","sub_id":"s","o":"replace","a":"A"}"#,
            r#"{"c":"sow_delete","cid":"1","t":"orders","filter":"1=2","a":"A"}"#,
            r#"{"c":"p","cid":"1","a":"A"}without a topic"#,
            r#"{"c":"unsubscribe","cid":"1","a":"A"}"#,
        ] {
            client.send(command.replace("\"A\"", &format!("\"{acks}\"")));
        }
        assert!(client.received().iter().all(|frame| frame.command() == "p"), "{acks}");
    }
}

/// K-2: a command without an id is answered without one.
#[test]
fn an_ack_names_its_command_only_if_that_had_an_id() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(
        client.ask(r#"{"c":"p","t":"t","a":"processed"}x"#),
        [r#"{"c":"ack","a":"processed","status":"success"}"#]
    );
}

/// K-3.
#[test]
fn a_failing_command_has_one_failure_and_no_effect() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let failed =
        |reason| format!(r#"{{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"{reason}"}}"#);
    let received = r#"{"c":"ack","cid":"1","a":"received","status":"success"}"#.to_owned();
    let sow = format!(r#"{{"c":"sow","cid":"1","t":"orders","filter":"/id =","a":"{ALL}"}}"#);
    assert_eq!(client.ask(sow), [received.clone(), failed("bad filter")]);
    let both = format!(r#"{{"c":"sow_and_subscribe","cid":"1","t":"orders","o":"what","a":"{ALL}"}}"#);
    assert_eq!(client.ask(both), [received, failed("invalid options")]);
    assert!(server.subscriptions().is_empty());
    assert!(client.ask(r#"{"c":"sow","cid":"1","t":"orders","filter":"/id =","a":"stats"}"#).is_empty());
}

/// K-3: what is numbered fails in its persisted acknowledgement as well.
#[test]
fn a_publish_that_fails_says_so_in_its_persisted_ack_too() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let persisted =
        r#"{"c":"ack","cid":"1","s":9,"a":"persisted","status":"failure","reason":"bad sow key"}"#;
    let processed = r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"bad sow key"}"#;
    let publish = |acks: &str| format!(r#"{{"c":"p","cid":"1","t":"orders","s":9,"a":"{acks}"}}no JSON"#);
    assert_eq!(client.ask(publish("persisted")), [persisted]);
    assert_eq!(client.ask(publish("processed,completed,persisted")), [processed, persisted]);
    let delete = r#"{"c":"sow_delete","cid":"1","t":"orders","s":9,"a":"persisted"}no JSON"#;
    assert_eq!(client.ask(delete), [persisted]);
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// K-12.
#[test]
fn each_publish_is_persisted_at_once_with_its_number() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let publish = r#"{"c":"p","t":"t","cid":"1","s":18446744073709551615,"a":"persisted"}x"#;
    let ack = r#"{"c":"ack","cid":"1","s":18446744073709551615,"a":"persisted","status":"success"}"#;
    assert_eq!(client.ask(publish), [ack]);
    assert_eq!(
        client.ask(r#"{"c":"p","t":"t","a":"persisted"}x"#),
        [r#"{"c":"ack","a":"persisted","status":"success"}"#]
    );
}

/// K-4.
#[test]
fn the_commands_of_one_connection_are_carried_out_in_order() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    for number in 0..100 {
        client.send(format!(r#"{{"c":"p","cid":"{number}","t":"t","a":"processed"}}x"#));
    }
    let ids: Vec<_> = (0..100).map(|_| client.receive().header("cid").unwrap().to_owned()).collect();
    assert_eq!(ids, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// K-5.
#[test]
fn the_answers_of_a_query_carry_its_ids() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let answer = client.ask(
        r#"{"c":"sow_and_subscribe","cid":"1","sub_id":"s","query_id":"q","t":"orders","filter":"/id = 2","a":"processed,completed,stats"}"#,
    );
    assert_eq!(
        answer,
        [
            r#"{"c":"ack","cid":"1","sub_id":"s","query_id":"q","a":"processed","status":"success"}"#,
            r#"{"c":"group_begin","query_id":"q"}"#,
            r#"{"c":"group_end","query_id":"q"}"#,
            r#"{"c":"ack","cid":"1","sub_id":"s","query_id":"q","a":"completed","status":"success"}"#,
            r#"{"c":"ack","cid":"1","sub_id":"s","query_id":"q","a":"stats","status":"success","topic_matches":1,"matches":0,"records_returned":0}"#,
        ]
    );
}
