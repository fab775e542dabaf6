//! The server of a first try answers every command of a first program.

use crate::support::RawClient;
use amps_client::testing::Server;

/// A-11, L-1.
#[test]
fn a_quick_server_accepts_a_logon() {
    let server = Server::quick().unwrap();
    let mut client = RawClient::connect(&server);
    client.send(r#"{"c":"logon","cid":"1","client_name":"me","mt":"json","a":"processed"}"#);
    let ack = client.receive();
    assert_eq!((ack.command(), ack.header("cid"), ack.header("status")), ("ack", Some("1"), Some("success")));
    assert_eq!((ack.header("s"), ack.header("version")), (Some("0"), Some("5.3.5.0")));
    assert!(ack.header("bm").is_some_and(|bookmark| bookmark.ends_with("|0|")), "{ack:?}");
}

/// U-2, K-14.
#[test]
fn a_message_reaches_its_subscriber_before_its_publisher_gets_the_ack() {
    let server = Server::quick().unwrap();
    let mut client = RawClient::log_on(&server, "me");
    assert_eq!(
        client.ask(r#"{"c":"subscribe","cid":"2","sub_id":"s","t":"ticks","a":"processed"}"#),
        [r#"{"c":"ack","cid":"2","sub_id":"s","a":"processed","status":"success"}"#]
    );
    assert_eq!(
        client.ask(r#"{"c":"p","cid":"3","t":"ticks","a":"processed"}{"px":1}"#),
        [
            r#"{"c":"p","t":"ticks","l":8,"sids":"s"}{"px":1}"#,
            r#"{"c":"ack","cid":"3","a":"processed","status":"success"}"#,
        ]
    );
    assert_eq!(
        client.ask(r#"{"c":"unsubscribe","cid":"4","sub_id":"s","a":"processed"}"#),
        [r#"{"c":"ack","cid":"4","a":"processed","status":"success"}"#]
    );
    client.send(r#"{"c":"p","t":"ticks"}{"px":2}"#);
    assert!(client.received().is_empty());
}

/// A-11, S-3, S-6.
#[test]
fn a_topic_that_begins_with_sow_keeps_the_last_message_for_each_id() {
    let server = Server::quick().unwrap();
    let mut client = RawClient::log_on(&server, "me");
    for payload in [r#"{"id":1,"px":1}"#, r#"{"id":2,"px":1}"#, r#"{"id":1,"px":9}"#] {
        client.send(format!(r#"{{"c":"p","t":"sow/orders"}}{payload}"#));
    }
    let answer = client.ask(
        r#"{"c":"sow","cid":"q","t":"sow/orders","batch_size":10,"o":"no_sowkey","a":"processed,completed,stats"}"#,
    );
    assert_eq!(
        answer,
        [
            r#"{"c":"ack","cid":"q","query_id":"q","a":"processed","status":"success"}"#,
            r#"{"c":"group_begin","query_id":"q"}"#,
            concat!(
                r#"{"c":"sow","t":"sow/orders","query_id":"q","bs":2}"#,
                r#"{"l":15}{"id":1,"px":9}{"l":15}{"id":2,"px":1}"#
            ),
            r#"{"c":"group_end","query_id":"q"}"#,
            r#"{"c":"ack","cid":"q","query_id":"q","a":"completed","status":"success"}"#,
            r#"{"c":"ack","cid":"q","query_id":"q","a":"stats","status":"success","topic_matches":2,"matches":2,"records_returned":2}"#,
        ]
    );
}

/// A-11, Q-2.
#[test]
fn a_topic_that_begins_with_queue_is_a_queue() {
    let server = Server::quick().unwrap();
    let mut client = RawClient::log_on(&server, "me");
    let answer =
        client.ask(r#"{"c":"subscribe","cid":"1","t":"queue/jobs","o":"max_backlog=1000","a":"processed"}"#);
    assert_eq!(
        answer,
        [r#"{"c":"ack","cid":"1","sub_id":"1","a":"processed","status":"success","opts":"max_backlog=100"}"#]
    );
    client.send(r#"{"c":"p","t":"queue/jobs"}work"#);
    assert_eq!(client.receive().header("lp"), Some("99991231T235959.000000Z"));
    assert_eq!(server.queue("queue/jobs").unwrap().leased(), 1);
}
