//! Every reason of a refusal that can be reached, word for word (K-7).

use crate::support::RawClient;
use amps_client::testing::{Access, Action, Entitled, Server, Topic};

fn server() -> Server {
    let rules = |access: &Access<'_>| match (access.action(), access.topic()) {
        (Action::Write, "read only") | (Action::Read, "write only") => Entitled::Deny,
        _ => Entitled::Allow,
    };
    Server::builder()
        .topic(Topic::sow("orders").key("/id"))
        .topic(Topic::sow("blobs"))
        .entitlement(rules)
        .start()
        .expect("a server")
}

/// K-7. The reasons of a logon are in `server_logon`.
#[test]
fn each_refusal_has_its_own_words() {
    let table: &[(&str, &[&str])] = &[
        (
            "bad filter",
            &[
                r#"{"c":"subscribe","t":"t","filter":"/a ="}"#,
                r#"{"c":"sow","t":"orders","filter":"FOO(/a) = 1"}"#,
                r#"{"c":"sow_and_subscribe","t":"orders","filter":"/s LIKE '('"}"#,
                r#"{"c":"sow_delete","t":"orders","filter":"/s LIKE /t"}"#,
            ],
        ),
        (
            "bad regex topic",
            &[
                r#"{"c":"subscribe","t":"^rx["}"#,
                r#"{"c":"sow","t":"a("}"#,
                r#"{"c":"sow_delete","t":"a(","filter":"1=1"}"#,
            ],
        ),
        (
            "regex topic not supported",
            &[r#"{"c":"sow_delete","t":"or.*","sow_keys":"1"}"#, r#"{"c":"sow_delete","t":"or.*"}{"id":1}"#],
        ),
        (
            "bad sow key",
            &[
                r#"{"c":"p","t":"orders"}no JSON"#,
                r#"{"c":"p","t":"blobs"}x"#,
                r#"{"c":"p","t":"blobs","k":"not base 64"}x"#,
                r#"{"c":"sow_delete","t":"orders","sow_keys":"1,$"}"#,
                r#"{"c":"sow","t":"orders","sow_keys":"a b"}"#,
                r#"{"c":"sow_delete","t":"orders"}no JSON"#,
            ],
        ),
        ("duplicate logon attempt", &[r#"{"c":"logon","client_name":"c","mt":"json"}"#]),
        (
            "invalid options",
            &[
                r#"{"c":"subscribe","t":"t","o":"frobnicate"}"#,
                r#"{"c":"sow","t":"orders","o":"top_n=x"}"#,
                r#"{"c":"sow","t":"orders","batch_size":10001}"#,
                r#"{"c":"sow","t":"orders","o":"skip_n=1"}"#,
                r#"{"c":"subscribe","t":"t","o":"conflation=1s"}"#,
                r#"{"c":"subscribe","t":"orders","o":"conflation=1s,conflation_key=[/desk],oof"}"#,
                r#"{"c":"subscribe","t":"t","sub_id":"known","o":"pause"}"#,
                r#"{"c":"heartbeat","o":"stop"}"#,
            ],
        ),
        (
            "invalid bookmark",
            &[
                r#"{"c":"subscribe","t":"t","bm":"recent"}"#,
                r#"{"c":"subscribe","t":"t","bm":"1|1|","o":"bookmark_not_found=fail"}"#,
            ],
        ),
        ("invalid order by", &[r#"{"c":"sow","t":"orders","orderby":"id"}"#]),
        (
            "invalid subId",
            &[
                r#"{"c":"unsubscribe"}"#,
                r#"{"c":"subscribe","t":"t","sub_id":"unknown","o":"pause"}"#,
                r#"{"c":"subscribe","t":"t","o":"resume"}"#,
            ],
        ),
        (
            "invalid topic",
            &[r#"{"c":"sow","t":"plain"}"#, r#"{"c":"sow_delete","t":"plain","filter":"1=1"}"#],
        ),
        (
            "no topic",
            &[
                r#"{"c":"p"}x"#,
                r#"{"c":"p","t":""}x"#,
                r#"{"c":"subscribe"}"#,
                r#"{"c":"sow"}"#,
                r#"{"c":"sow_delete","filter":"1=1"}"#,
            ],
        ),
        ("no topic or filter", &[r#"{"c":"sow_delete","t":"orders"}"#]),
        (
            "not entitled",
            &[
                r#"{"c":"p","t":"read only"}x"#,
                r#"{"c":"subscribe","t":"write only"}"#,
                r#"{"c":"sow","t":"write only"}"#,
                r#"{"c":"sow_delete","t":"read only","filter":"1=1"}"#,
            ],
        ),
        (
            "not supported",
            &[
                r#"{"c":"start_timer"}"#,
                r#"{"c":"delta_subscribe","t":"t","bm":"0"}"#,
                r#"{"c":"sow","t":"orders","bm":"0"}"#,
                r#"{"c":"sow_and_subscribe","t":"orders","o":"top_n=1,skip_n=1","orderby":"/id"}"#,
                r#"{"c":"sow","t":"orders","o":"projection=[/a],grouping=[/a]"}"#,
                r#"{"c":"subscribe","t":"t","o":"select=[-/,+/id]"}"#,
                r#"{"c":"sow_delete","t":"orders","bm":"1|1|"}"#,
            ],
        ),
        ("orderby required", &[r#"{"c":"sow","t":"orders","o":"top_n=1,skip_n=1"}"#]),
        ("subid in use", &[r#"{"c":"subscribe","t":"other","sub_id":"known"}"#]),
        (
            "sow_delete command only supports one of: filter, sow_keys, bookmark, or data",
            &[
                r#"{"c":"sow_delete","t":"orders","filter":"1=1","sow_keys":"1"}"#,
                r#"{"c":"sow_delete","t":"orders","filter":"1=1"}{"id":1}"#,
                r#"{"c":"sow_delete","t":"orders","bm":"1|1|","sow_keys":"1"}"#,
            ],
        ),
    ];
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    assert!(client.ask(r#"{"c":"subscribe","t":"t","sub_id":"known"}"#).is_empty());
    for (reason, commands) in table {
        for command in *commands {
            let asked = command.replacen('{', r#"{"cid":"1","a":"processed","#, 1);
            let failure =
                format!(r#"{{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"{reason}"}}"#);
            assert_eq!(client.ask(asked), [failure], "{command}");
        }
    }
    assert!(server.sow_records("orders").is_empty() && server.sow_records("blobs").is_empty());
    assert_eq!(server.subscriptions().len(), 1);
}

/// K-7.
#[test]
fn clauses_above_64_kib_are_refused() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let failure =
        |reason| format!(r#"{{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"{reason}"}}"#);
    let order = "/a,".repeat(30_000);
    assert_eq!(
        client.ask(format!(r#"{{"c":"sow","cid":"1","t":"orders","orderby":"{order}","a":"processed"}}"#)),
        [failure("orderby too large")]
    );
    assert_eq!(
        client.ask(format!(
            r#"{{"c":"sow","cid":"1","t":"orders","o":"projection=[{order}]","a":"processed"}}"#
        )),
        [failure("projection clause too large")]
    );
}

/// K-7.
#[test]
fn regex_topics_can_be_switched_off() {
    let server =
        Server::builder().topic(Topic::sow("orders").key("/id")).regex_topics(false).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let failure =
        r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"regex topic not supported"}"#;
    for command in [
        r#"{"c":"subscribe","cid":"1","t":".*","a":"processed"}"#,
        r#"{"c":"sow","cid":"1","t":".*","a":"processed"}"#,
        r#"{"c":"sow_delete","cid":"1","t":".*","filter":"1=1","a":"processed"}"#,
    ] {
        assert_eq!(client.ask(command), [failure], "{command}");
    }
    assert_eq!(
        client.ask(r#"{"c":"subscribe","cid":"1","t":".*","o":"non_regex_topic","a":"processed"}"#).len(),
        1
    );
    server.publish(".*", "x").unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":".*","l":1,"sids":"1"}x"#]);
}
