//! Records that leave the view of a subscription.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Access, Action, Clock, Entitled, Expiration, Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

fn publish(client: &mut RawClient, command: &str, payload: &str) -> Vec<String> {
    client.ask(format!(r#"{{"c":"{command}","t":"orders"}}{payload}"#))
}

/// S-15, vector 17.4, for a subscription with a query and for one without.
#[test]
fn a_subscriber_learns_once_that_a_record_left_its_view() {
    for command in ["sow_and_subscribe", "subscribe"] {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        for id in 1..=2 {
            publish(&mut client, "p", &format!(r#"{{"id":{id},"st":"open"}}"#));
        }
        client.ask(format!(
            r#"{{"c":"{command}","cid":"s","t":"orders","filter":"/st = 'open'","o":"oof,no_sowkey"}}"#
        ));
        let message =
            |payload: &str| format!(r#"{{"c":"p","t":"orders","l":{},"sids":"s"}}{payload}"#, payload.len());
        let oof = |reason: &str, payload: &str| {
            format!(
                r#"{{"c":"oof","t":"orders","l":{},"sids":"s","reason":"{reason}"}}{payload}"#,
                payload.len()
            )
        };
        let (open, closed) = (r#"{"id":1,"st":"open"}"#, r#"{"id":1,"st":"closed"}"#);
        assert_eq!(
            publish(&mut client, "delta_publish", r#"{"id":1,"x":2}"#),
            [message(r#"{"id":1,"st":"open","x":2}"#)]
        );
        assert_eq!(publish(&mut client, "p", closed), [oof("match", closed)], "{command}");
        assert!(publish(&mut client, "p", closed).is_empty());
        assert_eq!(
            client.ask(r#"{"c":"sow_delete","t":"orders","filter":"/id = 2"}"#),
            [oof("deleted", r#"{"id":2,"st":"open"}"#)]
        );
        assert!(client.ask(r#"{"c":"sow_delete","t":"orders","filter":"/id = 1"}"#).is_empty());
        assert_eq!(publish(&mut client, "p", open), [message(open)]);
    }
}

/// S-15: the body is the merged record if a delta caused it.
#[test]
fn a_delta_that_ends_a_match_shows_the_merged_record() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders","filter":"/a = 1","o":"oof,no_sowkey"}"#);
    publish(&mut client, "p", r#"{"id":1,"a":1,"b":1}"#);
    assert_eq!(
        publish(&mut client, "delta_publish", r#"{"id":1,"a":2}"#),
        [r#"{"c":"oof","t":"orders","l":20,"sids":"s","reason":"match"}{"id":1,"a":2,"b":1}"#]
    );
}

/// S-15, S-9.
#[test]
fn an_expired_record_is_out_of_focus_with_its_last_body() {
    let clock = Clock::manual();
    let server = Server::builder()
        .topic(Topic::sow("orders").key("/id").expiration(Expiration::PerMessage))
        .clock(clock.clone())
        .start()
        .unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders","o":"oof,no_sowkey,timestamp"}"#);
    client.ask(r#"{"c":"p","t":"orders","e":"5"}{"id":1}"#);
    clock.advance(Duration::from_secs(60)).unwrap();
    assert_eq!(
        client.texts(),
        [
            r#"{"c":"oof","t":"orders","ts":"20250101T000005.000000Z","l":8,"sids":"s","reason":"expired"}{"id":1}"#
        ]
    );
}

/// S-16.
#[test]
fn an_oof_carries_key_correlation_id_and_every_subscription() {
    let server = Server::builder().topic(Topic::sow("orders")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for (id, options) in [("s1", "oof"), ("s2", "oof,bookmark"), ("s3", "")] {
        client.send(format!(r#"{{"c":"subscribe","cid":"{id}","t":"orders","o":"{options}"}}"#));
    }
    client.ask(r#"{"c":"p","t":"orders","k":"K","x":"X"}1"#);
    assert_eq!(
        client.ask(r#"{"c":"sow_delete","t":"orders","sow_keys":"K"}"#),
        [r#"{"c":"oof","t":"orders","l":1,"k":"K","x":"X","sids":"s1,s2","reason":"deleted"}1"#]
    );
}

/// S-14.
#[test]
fn on_a_plain_topic_the_option_does_nothing() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"plain","filter":"/a = 1","o":"oof"}"#);
    assert_eq!(client.ask(r#"{"c":"p","t":"plain"}{"id":1,"a":1}"#).len(), 1);
    assert!(client.ask(r#"{"c":"p","t":"plain"}{"id":1,"a":2}"#).is_empty());
}

/// S-15: what a user may no longer see is taken away without being shown.
#[test]
fn a_record_that_leaves_the_users_sight_is_out_of_focus_with_its_old_body() {
    let rules = |access: &Access<'_>| match access.action() {
        Action::Read => Entitled::Only("/desk = 'EMEA'".into()),
        _ => Entitled::Allow,
    };
    let server = Server::builder().topic(Topic::sow("orders").key("/id")).entitlement(rules).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders","filter":"/px > 0","o":"oof,no_sowkey"}"#);
    let emea = r#"{"id":1,"desk":"EMEA","px":1}"#;
    assert_eq!(publish(&mut client, "p", emea).len(), 1);
    assert_eq!(
        publish(&mut client, "p", r#"{"id":1,"desk":"APAC","px":1}"#),
        [format!(r#"{{"c":"oof","t":"orders","l":29,"sids":"s","reason":"entitlement"}}{emea}"#)]
    );
    assert!(publish(&mut client, "p", r#"{"id":1,"desk":"APAC","px":2}"#).is_empty());
    assert_eq!(publish(&mut client, "p", emea).len(), 1);
    // It leaves filter and sight at once: the new body stays hidden.
    assert_eq!(
        publish(&mut client, "p", r#"{"id":1,"desk":"APAC","px":-1}"#),
        [format!(r#"{{"c":"oof","t":"orders","l":29,"sids":"s","reason":"entitlement"}}{emea}"#)]
    );
}
