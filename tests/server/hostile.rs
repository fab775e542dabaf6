//! Whatever a peer sends, the server goes on, and so do the others.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

fn server() -> Server {
    Server::builder()
        .topic(Topic::sow("orders").key("/id"))
        .topic(Topic::plain("j").journaled(true))
        .topic(Topic::queue("q").lease(Duration::MAX))
        .start()
        .expect("a server")
}

/// A-2: what would overflow a stack, take for ever or grow without end, if it were taken at its word.
#[test]
fn commands_made_to_break_a_server_are_answered() {
    let deep = 200_000;
    let patterns = ["(a*)*b", "(a|a)*b", "(.*)(.*)(.*)(.*)(.*)\\\\9"];
    let mut bodies = vec![
        format!(r#"{{"c":"p","cid":"1","t":"orders","a":"processed"}}{}"#, "[".repeat(deep)),
        format!(r#"{{"c":"p","cid":"1","t":"orders","a":"processed"}}{{"id":{}1"#, "{\"a\":".repeat(deep)),
        format!(
            r#"{{"c":"delta_publish","cid":"1","t":"orders","a":"processed"}}{{"id":1,"x":{}{}}}"#,
            "[".repeat(deep),
            "]".repeat(deep)
        ),
        format!(r#"{{"c":"sow","cid":"1","t":"orders","filter":"{}/id","a":"processed"}}"#, "(".repeat(deep)),
        format!(r#"{{"c":"sow","cid":"1","t":"orders","filter":"{}/id","a":"processed"}}"#, "NOT ".repeat(deep)),
        format!(r#"{{"c":"sow","cid":"1","t":"orders","filter":"{}1","a":"processed"}}"#, "-".repeat(deep)),
        format!(r#"{{"c":"sow","cid":"1","t":"orders","filter":"{}1","a":"processed"}}"#, "1 + ".repeat(deep)),
        format!(r#"{{"c":"sow","cid":"1","t":"orders","filter":"{}1=1","a":"processed"}}"#, "IF(".repeat(deep)),
        format!(r#"{{"c":"subscribe","cid":"1","t":"{}","a":"processed"}}"#, "(a".repeat(deep)),
        format!(r#"{{"c":"subscribe","cid":"1","t":"a{}","a":"processed"}}"#, "{1000}".repeat(20)),
        format!(r#"{{"c":"sow","cid":"1","t":"orders","orderby":"/{}","a":"processed"}}"#, "a/".repeat(deep)),
        format!(r#"{{"c":"subscribe","cid":"1","t":"t","o":"{}","a":"processed"}}"#, "[,".repeat(deep)),
        format!(r#"{{"c":"unsubscribe","cid":"1","sub_id":"{}","a":"processed"}}"#, "a,".repeat(deep)),
        format!(r#"{{"c":"unsubscribe","cid":"1","query_id":"{}","a":"processed"}}"#, "a,".repeat(deep)),
        r#"{"c":"p","cid":"1","t":"orders","e":18446744073709551615,"s":18446744073709551615,"a":"processed"}{"id":1}"#
            .into(),
        r#"{"c":"heartbeat","cid":"1","o":"start,4294967295","a":"processed"}"#.into(),
        r#"{"c":"sow","cid":"1","t":"orders","top_n":18446744073709551615,"o":"skip_n=18446744073709551615","orderby":"/id","a":"processed"}"#
            .into(),
        r#"{"c":"subscribe","cid":"1","t":"t","o":"conflation=18446744073709551615,conflation_key=[/a]","a":"processed"}"#
            .into(),
    ];
    bodies.extend([
        format!(r#"{{"c":"subscribe","cid":"1","t":"j","bookmark":"{}","a":"processed"}}"#, "1|1|,".repeat(deep)),
        format!(r#"{{"c":"subscribe","cid":"1","t":"j","bookmark":"[0:{}]","a":"processed"}}"#, "1|1|,".repeat(deep)),
        format!(r#"{{"c":"subscribe","cid":"1","t":"j","bookmark":"{}","a":"processed"}}"#, "[".repeat(deep)),
        r#"{"c":"subscribe","cid":"1","t":"j","bookmark":"99999999999999999999|1|","a":"processed"}"#.into(),
        r#"{"c":"subscribe","cid":"1","t":"j","bookmark":"[0:99991231T235959Z]","o":"rate=1e-300","a":"processed"}"#
            .into(),
        r#"{"c":"subscribe","cid":"1","t":"j","bookmark":"0","o":"rate=1e308GB,rate_max_gap=0","a":"processed"}"#.into(),
        r#"{"c":"subscribe","cid":"1","t":"j","bookmark":"0","top_n":18446744073709551615,"a":"processed"}"#.into(),
        format!(r#"{{"c":"subscribe","cid":"1","sub_id":"{}","t":"j","o":"resume","a":"processed"}}"#, "a,".repeat(deep)),
        r#"{"c":"subscribe","cid":"1","t":"q","o":"max_backlog=18446744073709551615","a":"processed"}"#.into(),
        format!(r#"{{"c":"sow_delete","cid":"1","t":"q","bookmark":"{}","a":"processed"}}"#, "1|1|,".repeat(deep)),
        format!(r#"{{"c":"sow_delete","cid":"1","t":"q","o":"cancel","bookmark":"{}","a":"processed"}}"#, "1|,".repeat(deep)),
        r#"{"c":"p","cid":"1","t":"q","e":18446744073709551615,"a":"processed"}x"#.into(),
    ]);
    bodies.extend(patterns.iter().map(|pattern| {
        format!(r#"{{"c":"subscribe","cid":"1","sub_id":"{pattern}","t":"x","filter":"/s LIKE '{pattern}'","a":"processed"}}"#)
    }));
    let server = server();
    for body in bodies {
        let mut client = RawClient::log_on(&server, "hostile");
        let answer = client.ask(&body);
        let shown: String = body.chars().take(100).collect();
        assert!(answer.iter().any(|text| text.contains(r#""a":"processed""#)), "{shown}: {answer:?}");
        server.publish("j", "x").unwrap();
        server.publish("q", "x").unwrap();
        server.publish("x", format!(r#"{{"s":"{}"}}"#, "a".repeat(100))).unwrap();
    }
    assert!(RawClient::log_on(&server, "c").received().is_empty());
}

/// Every prefix of a conversation, and a connection that ends there.
#[test]
fn a_connection_may_end_at_any_byte() {
    let server = server();
    let mut bytes = Vec::new();
    for body in [
        r#"{"c":"logon","client_name":"c","mt":"json"}"#,
        r#"{"c":"sow_and_subscribe","cid":"1","t":".*"}"#,
        r#"{"c":"p","t":"orders"}{"id":1}"#,
    ] {
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
    }
    for length in 0..bytes.len() {
        RawClient::connect(&server).send_raw(&bytes[..length]);
    }
    let all = bytes.len() as u64;
    let over = |s: &Server| s.counters().connections == all && s.open_connections() == 0;
    server.wait_for(over, Duration::from_secs(10)).unwrap();
    assert!(server.subscriptions().is_empty() && server.sow_records("orders").is_empty());
}

/// A header with every byte changed in turn: refused or carried out, and never a panic in the server.
#[test]
fn no_byte_of_a_command_can_stop_the_server() {
    let server = server();
    let body = br#"{"c":"subscribe","cid":"1","t":"a.*","filter":"/id = 1","o":"oof,conflation=1s"}"#;
    for place in 0..body.len() {
        for byte in [0, b'"', b'\\', b'{', b'}', b',', 0xFF] {
            let mut changed = body.to_vec();
            changed[place] = byte;
            let mut client = RawClient::log_on(&server, "c");
            client.send(&changed);
        }
    }
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(client.ask(r#"{"c":"p","cid":"1","t":"orders","a":"processed"}{"id":1}"#).len(), 1);
}
