//! Subscriptions to changes only.

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

const FIRST: &str = r#"{"id":1,"a":1,"b":{"c":1,"d":2},"arr":[1,2,3]}"#;
const SECOND: &str = r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#;
const THIRD: &str = r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9]}"#;

/// The payloads for one subscriber.
fn payloads(client: &mut RawClient) -> Vec<String> {
    client.received().iter().map(|frame| String::from_utf8_lossy(frame.payload()).into_owned()).collect()
}

/// What the plain, the delta and the `no_empties` subscriber get.
type Expected<'a> = [&'a [&'a str]; 3];

/// B-9, vector 17.3: what the plain, the delta and the `no_empties` subscriber get of each command.
#[test]
fn a_delta_subscriber_gets_the_key_and_what_changed() {
    let steps: [(&str, &str, Expected); 5] = [
        ("publish", FIRST, [&[FIRST], &[FIRST], &[FIRST]]),
        ("publish", SECOND, [&[SECOND], &[r#"{"id":1,"a":2}"#], &[r#"{"a":2}"#]]),
        ("publish", SECOND, [&[SECOND], &[r#"{"id":1}"#], &[]]),
        (
            "delta_publish",
            r#"{"id":1,"b":{"c":5},"arr":[9]}"#,
            [&[THIRD], &[r#"{"id":1,"b":{"c":5},"arr":[9]}"#], &[r#"{"b":{"c":5},"arr":[9]}"#]],
        ),
        ("delta_publish", r#"{"id":1,"a":null}"#, [&[THIRD], &[r#"{"id":1}"#], &[]]),
    ];
    let server = server();
    let subscriber = |command: &str, options: &str| {
        let mut client = RawClient::log_on(&server, "c");
        client.send(format!(r#"{{"c":"{command}","cid":"s","t":"orders","o":"{options}"}}"#));
        client.received();
        client
    };
    let mut plain = subscriber("subscribe", "");
    let mut delta = subscriber("delta_subscribe", "");
    let mut no_empties = subscriber("sow_and_delta_subscribe", "no_empties");
    let mut publisher = RawClient::log_on(&server, "p");
    for (command, payload, [to_plain, to_delta, to_no_empties]) in steps {
        publisher.send(format!(r#"{{"c":"{command}","t":"orders"}}{payload}"#));
        assert!(publisher.received().is_empty());
        assert_eq!(payloads(&mut plain), to_plain, "{payload}");
        assert_eq!(payloads(&mut delta), to_delta, "{payload}");
        assert_eq!(payloads(&mut no_empties), to_no_empties, "{payload}");
    }
}

/// B-9, 9.3: `send_keys` with `no_empties`.
#[test]
fn send_keys_puts_the_key_fields_back() {
    let server = server();
    server.publish("orders", FIRST).unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"delta_subscribe","cid":"s","t":"orders","o":"no_empties,send_keys"}"#);
    client.send(format!(r#"{{"c":"p","t":"orders"}}{SECOND}"#));
    client.send(format!(r#"{{"c":"p","t":"orders"}}{SECOND}"#));
    assert_eq!(payloads(&mut client), [r#"{"id":1,"a":2}"#]);
}

/// B-5.
#[test]
fn a_plain_and_a_delta_subscription_on_one_connection_get_one_whole_message() {
    let server = server();
    server.publish("orders", FIRST).unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"delta_subscribe","cid":"d","t":"orders","o":"no_sowkey"}"#);
    client.send(r#"{"c":"subscribe","cid":"p","t":"orders","o":"no_sowkey"}"#);
    client.send(r#"{"c":"delta_subscribe","cid":"e","t":"orders","o":"no_sowkey,no_empties"}"#);
    let whole = |sids: &str| format!(r#"{{"c":"p","t":"orders","l":46,"sids":"{sids}"}}{SECOND}"#);
    let publish = format!(r#"{{"c":"p","t":"orders"}}{SECOND}"#);
    assert_eq!(client.ask(&publish), [whole("d,p,e")]);
    // What `no_empties` suppresses stays suppressed.
    assert_eq!(client.ask(&publish), [whole("d,p")]);
}

/// B-4 among delta subscriptions: those that get the same share a frame.
#[test]
fn delta_subscriptions_with_equal_bodies_share_a_frame() {
    let server = server();
    server.publish("orders", FIRST).unwrap();
    let mut client = RawClient::log_on(&server, "c");
    for (id, options) in [("a", ""), ("b", "no_empties"), ("c", ""), ("d", "no_empties")] {
        client.send(format!(
            r#"{{"c":"delta_subscribe","cid":"{id}","t":"orders","o":"no_sowkey,{options}"}}"#
        ));
    }
    assert_eq!(
        client.ask(format!(r#"{{"c":"p","t":"orders"}}{SECOND}"#)),
        [
            r#"{"c":"p","t":"orders","l":14,"sids":"a,c"}{"id":1,"a":2}"#,
            r#"{"c":"p","t":"orders","l":7,"sids":"b,d"}{"a":2}"#,
        ]
    );
}

/// S-15: a record that comes into view comes whole.
#[test]
fn a_record_that_comes_into_view_comes_whole() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"delta_subscribe","cid":"s","t":"orders","filter":"/st = 'open'","o":"oof"}"#);
    for payload in [
        r#"{"id":1,"st":"held","n":1}"#,
        r#"{"id":1,"st":"open","n":1}"#,
        r#"{"id":1,"st":"open","n":2}"#,
        r#"{"id":1,"st":"held","n":2}"#,
        r#"{"id":1,"st":"open","n":2}"#,
    ] {
        client.send(format!(r#"{{"c":"p","t":"orders"}}{payload}"#));
    }
    let seen: Vec<_> = client
        .received()
        .iter()
        .map(|f| (f.command().to_owned(), String::from_utf8_lossy(f.payload()).into_owned()))
        .collect();
    let expected = [
        ("p", r#"{"id":1,"st":"open","n":1}"#),
        ("p", r#"{"id":1,"n":2}"#),
        ("oof", r#"{"id":1,"st":"held","n":2}"#),
        ("p", r#"{"id":1,"st":"open","n":2}"#),
    ];
    assert_eq!(seen, expected.map(|(command, payload)| (command.to_owned(), payload.to_owned())));
}

/// B-9.
#[test]
fn where_there_are_no_deltas_the_message_comes_whole() {
    let server = Server::builder().topic(Topic::sow("blobs")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"delta_subscribe","cid":"s","t":"plain","o":"no_empties"}"#);
    let same = r#"{"c":"p","t":"plain"}{"id":1}"#;
    client.send(same);
    client.send(same);
    assert_eq!(payloads(&mut client), [r#"{"id":1}"#, r#"{"id":1}"#]);
    let mut binary = RawClient::log_on_as(&server, "b", "binary");
    binary.send(r#"{"c":"delta_subscribe","cid":"s","t":"blobs"}"#);
    let same = r#"{"c":"p","t":"blobs","k":"K"}{"id":1}"#;
    binary.send(same);
    binary.send(same);
    assert_eq!(payloads(&mut binary), [r#"{"id":1}"#, r#"{"id":1}"#]);
}

/// B-9 for NVFIX.
#[test]
fn nvfix_deltas_are_fields() {
    let server = server();
    let mut client = RawClient::log_on_as(&server, "c", "nvfix");
    client.send(r#"{"c":"delta_subscribe","cid":"s","t":"orders"}"#);
    client.send("{\"c\":\"p\",\"t\":\"orders\"}id=1\x01sym=IBM\x01qty=5\x01");
    client.send("{\"c\":\"p\",\"t\":\"orders\"}id=1\x01sym=IBM\x01qty=6\x01");
    assert_eq!(payloads(&mut client), ["id=1\x01sym=IBM\x01qty=5\x01", "id=1\x01qty=6\x01"]);
}
