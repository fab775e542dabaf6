//! What a user may read and write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Access, Action, Entitled, Server, ServerBuilder, Topic};

fn builder() -> ServerBuilder {
    Server::builder().topic(Topic::sow("orders").key("/id")).topic(Topic::sow("secrets").key("/id"))
}

const DENIED: &str = r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"not entitled"}"#;

/// B-10.
#[test]
fn a_topic_that_may_not_be_read_is_refused_by_name() {
    let rules = |access: &Access<'_>| match (access.action(), access.topic()) {
        (Action::Read, "secrets") => Entitled::Deny,
        _ => Entitled::Allow,
    };
    let server = builder().entitlement(rules).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for command in ["subscribe", "delta_subscribe", "sow", "sow_and_subscribe"] {
        let ask = format!(r#"{{"c":"{command}","cid":"1","t":"secrets","a":"processed"}}"#);
        assert_eq!(client.ask(ask), [DENIED], "{command}");
    }
    assert!(client.ask(r#"{"c":"p","t":"secrets"}{"id":1}"#).is_empty());
    assert_eq!(server.sow_records("secrets").len(), 1);
}

/// B-10.
#[test]
fn a_pattern_silently_leaves_out_what_may_not_be_read() {
    let rules = |access: &Access<'_>| match access.topic() {
        "secrets" => Entitled::Deny,
        _ => Entitled::Allow,
    };
    let server = builder().entitlement(rules).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    server.publish("secrets", r#"{"id":1}"#).unwrap();
    let answer = client.ask(r#"{"c":"sow_and_subscribe","cid":"1","t":".*","o":"no_sowkey"}"#);
    assert_eq!(answer.len(), 2);
    for topic in ["secrets", "orders"] {
        server.publish(topic, r#"{"id":2}"#).unwrap();
    }
    assert_eq!(client.texts(), [r#"{"c":"p","t":"orders","l":8,"sids":"1"}{"id":2}"#]);
}

/// B-10: once per topic, not once per message; until it is reset.
#[test]
fn the_hook_is_asked_once_for_each_topic_of_a_pattern() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let rules = move |access: &Access<'_>| {
        counted.fetch_add(usize::from(access.action() == Action::Read), Ordering::SeqCst);
        Entitled::Allow
    };
    let server = builder().entitlement(rules).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"1","t":".*"}"#);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    for topic in ["a", "b", "a", "b", "a"] {
        server.publish(topic, "x").unwrap();
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(client.received().len(), 5);
    assert_eq!(server.reset_entitlements(""), 1);
    assert!(client.next().is_none());
    let mut again = RawClient::log_on(&server, "c");
    again.ask(r#"{"c":"subscribe","cid":"1","t":".*"}"#);
    server.publish("a", "x").unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

/// B-10.
#[test]
fn a_filter_of_a_rule_is_part_of_every_query_and_subscription() {
    let rules = |access: &Access<'_>| match access.action() {
        Action::Read => Entitled::Only("/desk = 'EMEA'".into()),
        _ => Entitled::Allow,
    };
    let server = builder().entitlement(rules).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let put = |id: u32, desk: &str| {
        server.publish("orders", format!(r#"{{"id":{id},"desk":"{desk}"}}"#)).unwrap();
    };
    put(1, "EMEA");
    put(2, "APAC");
    let answer =
        client.ask(r#"{"c":"sow_and_subscribe","cid":"1","t":"orders","filter":"/id > 0","a":"stats"}"#);
    assert_eq!(answer.iter().filter(|text| text.contains("EMEA")).count(), 1);
    assert!(answer.last().unwrap().contains(r#""matches":1,"records_returned":1"#), "{answer:?}");
    put(3, "APAC");
    put(4, "EMEA");
    let live = client.received();
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].payload(), br#"{"id":4,"desk":"EMEA"}"#);
}

/// B-10: of a delta, the merged message counts; of a delete, the record.
#[test]
fn a_filter_for_writes_must_match_the_message_or_the_record() {
    let rules = |access: &Access<'_>| match access.action() {
        Action::Write => Entitled::Only("/desk = 'EMEA'".into()),
        _ => Entitled::Allow,
    };
    let server = builder().entitlement(rules).start().unwrap();
    server.publish("orders", r#"{"id":1,"desk":"EMEA"}"#).unwrap();
    server.publish("orders", r#"{"id":2,"desk":"APAC"}"#).unwrap();
    let mut client = RawClient::log_on(&server, "c");
    let mut ask = |command: &str, payload: &str| {
        client
            .ask(format!(r#"{{"c":"{command}","cid":"1","t":"orders","a":"processed"}}{payload}"#))
            .remove(0)
    };
    assert_eq!(ask("publish", r#"{"id":3,"desk":"APAC"}"#), DENIED);
    assert_ne!(ask("publish", r#"{"id":3,"desk":"EMEA"}"#), DENIED);
    assert_ne!(ask("delta_publish", r#"{"id":1,"px":1}"#), DENIED);
    assert_eq!(ask("delta_publish", r#"{"id":2,"px":1}"#), DENIED);
    let delete = client.ask(r#"{"c":"sow_delete","cid":"1","t":"orders","filter":"1=1","a":"stats"}"#);
    assert!(delete[0].contains(r#""records_deleted":2"#), "{delete:?}");
    let left = server.sow_records("orders");
    assert_eq!((left.len(), left[0].payload.as_slice()), (1, &br#"{"id":2,"desk":"APAC"}"#[..]));
}

/// A hook runs with no lock held: it may ask the server, and others go on while it thinks.
#[test]
fn a_hook_may_use_the_server() {
    let server = Arc::new(std::sync::OnceLock::<Server>::new());
    let known = server.clone();
    let rules = move |access: &Access<'_>| match known.get() {
        Some(server) if access.action() == Action::Read => {
            server.publish("audit", access.topic()).unwrap();
            if server.sessions().is_empty() { Entitled::Deny } else { Entitled::Allow }
        }
        _ => Entitled::Allow,
    };
    let built = builder().entitlement(rules).start().unwrap();
    server.set(built).unwrap();
    let server = server.get().unwrap();
    let mut client = RawClient::log_on(server, "c");
    let ask = |topic| format!(r#"{{"c":"subscribe","cid":"{topic}","t":"{topic}"}}"#);
    assert!(client.ask(ask("audit")).is_empty());
    assert_eq!(client.ask(ask("orders")), [r#"{"c":"p","t":"audit","l":6,"sids":"audit"}orders"#]);
}

/// U-1, L-11: a command whose session ends while a hook thinks about it has no effect.
#[test]
fn nothing_of_a_client_happens_after_it_was_disconnected() {
    let (entered, entries) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hook = std::sync::Mutex::new((entered, released));
    let rules = move |access: &Access<'_>| {
        if access.action() == Action::Write {
            let (entered, released) = &*hook.lock().unwrap();
            entered.send(()).unwrap();
            released.recv().unwrap();
        }
        Entitled::Allow
    };
    let server = builder().entitlement(rules).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"p","t":"orders"}{"id":1}"#);
    entries.recv().unwrap();
    assert_eq!(server.disconnect("c"), 1);
    release.send(()).unwrap();
    assert!(client.next().is_none());
    server.stop();
    assert!(server.sow_records("orders").is_empty());
}

/// B-10: the other users stay.
#[test]
fn a_reset_disconnects_its_user_only() {
    let server = builder().entitlement(|_: &Access<'_>| Entitled::Allow).start().unwrap();
    let log_on = |user: &str| {
        let mut client = RawClient::connect(&server);
        let logon = format!(r#"{{"c":"logon","client_name":"{user}","user_id":"{user}","mt":"json"}}"#);
        assert!(client.ask(logon).is_empty());
        client
    };
    let (mut alice, mut bob) = (log_on("alice"), log_on("bob"));
    assert_eq!(server.reset_entitlements("alice"), 1);
    assert!(alice.next().is_none());
    assert!(bob.received().is_empty());
    server.wait_for(|s| s.sessions().len() == 1, Duration::from_secs(10)).unwrap();
}
