//! The server reads what the protocol allows, and hangs up on what it does not.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

/// W-2.
#[test]
fn an_empty_frame_is_ignored() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send_raw(&[0; 12]);
    assert!(client.received().is_empty());
}

/// W-2: closed as soon as the length is seen, without waiting for the bytes.
#[test]
fn a_frame_above_the_limit_closes_the_connection() {
    let server = Server::builder().max_frame(1000).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let header = r#"{"c":"p","t":"a"}"#;
    client.send(format!("{header}{}", "x".repeat(1000 - header.len())));
    assert!(client.received().is_empty());
    client.send_raw(&1001_u32.to_be_bytes());
    assert!(client.next().is_none());
}

/// W-3.
#[test]
fn a_header_may_be_spelled_and_spaced_in_any_way() {
    let table = [
        r#"{"c":"subscribe","cid":"1","t":"a","a":"processed"}"#,
        r#"{"t":"a","a":"processed","cid":"1","c":"subscribe"}"#,
        r#"{"cmd":"subscribe","cmd_id":"1","topic":"a","ack_type":"processed"}"#,
        r#"{"cmd":"subscribe","cmd_id":"1","topic":"a","ack":"processed","opts":""}"#,
        " \n{ \"c\" : \"subscribe\" ,\t\"cid\" : 1 , \"t\" : \"\\u0061\" , \"a\" : \"processed\" }",
        r#"{"c":"subscribe","new":{"a":["}",{}]},"cid":"1","older":[1,2],"t":"a","a":"processed","e":null}"#,
    ];
    for header in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        let answer = client.ask(header);
        assert_eq!(
            answer,
            [r#"{"c":"ack","cid":"1","sub_id":"1","a":"processed","status":"success"}"#],
            "{header}"
        );
    }
}

/// W-3: raw control bytes, and numbers as numbers or as texts.
#[test]
fn control_bytes_and_quoted_numbers_are_accepted() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send("{\"c\":\"subscribe\",\"cid\":\"1\",\"t\":\"tab\there\"}");
    for sequence in ["7", "\"7\""] {
        client.send(format!("{{\"c\":\"p\",\"t\":\"tab\\there\",\"s\":{sequence},\"a\":\"persisted\"}}x"));
    }
    let message = "{\"c\":\"p\",\"t\":\"tab\\there\",\"l\":1,\"sids\":\"1\"}x";
    let ack = r#"{"c":"ack","s":7,"a":"persisted","status":"success"}"#;
    assert_eq!(client.texts(), [message, ack, message, ack]);
}

/// W-3.
#[test]
fn a_header_that_cannot_be_read_closes_that_connection_only() {
    for body in ["no header", "{", r#"{"c":"flush""#, r#"{"c" "flush"}"#, "{}", r#"{"t":"a"}"#] {
        let server = server();
        let mut other = RawClient::log_on(&server, "other");
        let mut client = RawClient::log_on(&server, "c");
        client.send(body);
        assert!(client.next().is_none(), "{body}");
        assert!(other.received().is_empty());
    }
}

/// W-3: what came before the bad frame still counts.
#[test]
fn frames_before_a_bad_one_are_carried_out() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let publish = br#"{"c":"p","t":"orders"}{"id":1}"#;
    let mut bytes = (publish.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(publish);
    bytes.extend_from_slice(b"\0\0\0\x01x");
    client.send_raw(&bytes);
    assert!(client.next().is_none());
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// W-5.
#[test]
fn an_unknown_command_closes_the_connection() {
    for command in ["frobnicate", "ack", "oof", "group_begin", "group_end", "P"] {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        client.send(format!(r#"{{"c":"{command}","cid":"1","a":"processed"}}"#));
        assert!(client.next().is_none(), "{command}");
    }
}

/// W-5.
#[test]
fn a_timer_command_is_not_supported_and_does_no_harm() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let refused = r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"not supported"}"#;
    for command in ["start_timer", "stop_timer"] {
        assert_eq!(client.ask(format!(r#"{{"c":"{command}","cid":"1","a":"processed"}}"#)), [refused]);
        assert_eq!(client.ask(format!(r#"{{"c":"{command}","cid":"1","a":"completed"}}"#)), [refused]);
        assert!(client.ask(format!(r#"{{"c":"{command}","cid":"1"}}"#)).is_empty());
        assert!(client.ask(format!(r#"{{"c":"{command}","a":"completed"}}"#)).is_empty());
    }
}

/// W-7.
#[test]
fn a_frame_may_come_in_any_pieces() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let flush = br#"{"c":"flush","cid":"1","a":"processed"}"#;
    let mut bytes = (flush.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(flush);
    for byte in &bytes {
        client.send_raw(std::slice::from_ref(byte));
    }
    assert_eq!(client.receive().header("cid"), Some("1"));
    client.send_raw(&bytes.repeat(100));
    assert_eq!((0..100).filter(|_| client.receive().header("cid") == Some("1")).count(), 100);
}

/// W-1: a payload is the rest of the frame, whatever it is made of.
#[test]
fn a_payload_may_be_any_bytes_and_of_any_size() {
    let server = server();
    let mut client = RawClient::log_on_as(&server, "c", "binary");
    client.send(r#"{"c":"subscribe","cid":"1","t":"bytes"}"#);
    let every = (0..=255).collect::<Vec<u8>>();
    for payload in [Vec::new(), b"{\"c\":\"p\"}".to_vec(), every.clone(), every.repeat(20_000)] {
        client.send([br#"{"c":"p","t":"bytes"}"#, &payload[..]].concat());
        let message = client.receive();
        assert_eq!(message.payload(), payload);
        assert_eq!(message.header("l"), Some(payload.len().to_string().as_str()));
    }
}

/// W-3, W-4: ids and topics with characters that need escapes come back as they were.
#[test]
fn texts_are_escaped_on_the_way_out() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let answer = client.ask(r#"{"c":"subscribe","cid":"a\"b\\c\n","t":"é","a":"processed"}"#);
    assert_eq!(
        answer,
        [r#"{"c":"ack","cid":"a\"b\\c\n","sub_id":"a\"b\\c\n","a":"processed","status":"success"}"#]
    );
}

/// The claims of a length cost no memory: the server goes on while many connections claim the most.
#[test]
fn a_claimed_length_reserves_nothing() {
    let server = server();
    let mut claims: Vec<_> = (0..64).map(|_| RawClient::connect(&server)).collect();
    for client in &mut claims {
        client.send_raw(&(200_u32 << 20).to_be_bytes());
    }
    server.wait_for(|s| s.counters().connections == 64, Duration::from_secs(10)).unwrap();
    assert!(RawClient::log_on(&server, "c").received().is_empty());
}
