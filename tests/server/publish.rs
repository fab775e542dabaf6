//! What a publish does, and in which order.

use std::thread;

use crate::support::RawClient;
use amps_client::testing::{Server, Topic};

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

fn stored(server: &Server) -> Vec<String> {
    let records = server.sow_records("orders").into_iter();
    records.map(|record| String::from_utf8(record.payload).expect("text")).collect()
}

/// U-1: all subscribers see all changes in one order, whoever made them.
#[test]
fn every_subscriber_sees_the_same_order() {
    let server = server();
    let mut readers: Vec<_> = (0..3).map(|n| RawClient::log_on(&server, &format!("r{n}"))).collect();
    for reader in &mut readers {
        reader.send(r#"{"c":"subscribe","cid":"s","t":"orders"}"#);
        assert!(reader.received().is_empty());
    }
    thread::scope(|scope| {
        for writer in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = RawClient::log_on(server, &format!("w{writer}"));
                for number in 0..50 {
                    client.send(format!(r#"{{"c":"p","t":"orders"}}{{"id":{writer},"n":{number}}}"#));
                }
                assert!(client.received().is_empty());
            });
        }
    });
    let seen: Vec<_> = readers.iter_mut().map(RawClient::texts).collect();
    assert_eq!(seen[0].len(), 200);
    assert!(seen.iter().all(|one| *one == seen[0]));
}

/// K-14: across connections, too.
#[test]
fn a_message_is_on_its_way_before_its_publish_is_acknowledged() {
    let server = server();
    let mut reader = RawClient::log_on(&server, "r");
    reader.send(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    assert!(reader.received().is_empty());
    let mut writer = RawClient::log_on(&server, "w");
    for number in 0..100 {
        assert_eq!(writer.ask(format!(r#"{{"c":"p","t":"t","a":"processed"}}{number}"#)).len(), 1);
        assert_eq!(
            reader.texts(),
            [format!(r#"{{"c":"p","t":"t","l":{},"sids":"s"}}{number}"#, number.to_string().len())]
        );
    }
}

/// U-3.
#[test]
fn a_correlation_id_travels_with_the_message_and_stays_with_the_record() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders","o":"no_sowkey"}"#);
    client.send(r#"{"c":"p","t":"orders","x":"first"}{"id":1}"#);
    client.send(r#"{"c":"delta_publish","t":"orders"}{"id":1,"a":1}"#);
    client.send(r#"{"c":"delta_publish","t":"orders","x":"second"}{"id":1,"a":2}"#);
    client.send(r#"{"c":"p","t":"orders"}{"id":1}"#);
    let ids: Vec<_> =
        client.received().iter().map(|frame| frame.header("x").unwrap_or("none").to_owned()).collect();
    assert_eq!(ids, ["first", "first", "second", "none"]);
}

/// U-4, U-5, and the stored half of vector 17.3.
#[test]
fn a_delta_is_merged_into_its_record_and_delivered_merged() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders"}"#);
    let steps = [
        ("publish", r#"{"id":1,"a":1,"b":{"c":1,"d":2},"arr":[1,2,3]}"#, ""),
        ("publish", r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#, ""),
        (
            "delta_publish",
            r#"{"id":1,"b":{"c":5},"arr":[9]}"#,
            r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9]}"#,
        ),
        ("delta_publish", r#"{"id":1,"a":null}"#, r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9]}"#),
        ("delta_publish", r#"{"new":1,"id":1}"#, r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9],"new":1}"#),
        ("delta_publish", r#"{"id":2,"a":1}"#, ""),
    ];
    for (command, payload, merged) in steps {
        let expected = if merged.is_empty() { payload } else { merged };
        client.send(format!(r#"{{"c":"{command}","t":"orders"}}{payload}"#));
        let delivered = client.receive();
        assert_eq!(String::from_utf8_lossy(delivered.payload()), expected);
    }
    assert_eq!(
        stored(&server),
        [r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9],"new":1}"#, r#"{"id":2,"a":1}"#]
    );
}

/// U-4, U-6.
#[test]
fn where_there_is_nothing_to_merge_a_delta_is_a_publish() {
    let server = Server::builder().topic(Topic::sow("blobs")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"plain"}"#);
    assert_eq!(
        client.ask(r#"{"c":"delta_publish","t":"plain"}{"a":1}"#),
        [r#"{"c":"p","t":"plain","l":7,"sids":"s"}{"a":1}"#]
    );
    let mut binary = RawClient::log_on_as(&server, "b", "binary");
    binary.send(r#"{"c":"p","t":"blobs","k":"K"}old"#);
    binary.send(r#"{"c":"delta_publish","t":"blobs","k":"K"}new"#);
    assert!(binary.received().is_empty());
    assert_eq!(server.sow_records("blobs")[0].payload, b"new");
}

/// U-5 for FIX.
#[test]
fn a_fix_delta_replaces_its_tags_in_place() {
    let server = Server::builder().topic(Topic::sow("orders").key("/11")).start().unwrap();
    let mut client = RawClient::log_on_as(&server, "c", "fix");
    client.send("{\"c\":\"p\",\"t\":\"orders\"}11=1\x0155=IBM\x0138=100\x01");
    client.send("{\"c\":\"delta_publish\",\"t\":\"orders\"}11=1\x0138=50\x0144=9\x01");
    assert!(client.received().is_empty());
    assert_eq!(stored(&server), ["11=1\x0155=IBM\x0138=50\x0144=9\x01"]);
}

/// V-4.
#[test]
fn the_server_publishes_and_deletes_by_itself() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders","o":"oof,no_sowkey"}"#);
    assert!(client.received().is_empty());
    server.publish("orders", r#"{"id":1}"#).unwrap();
    assert_eq!(server.sow_delete("orders", "/id = 1").unwrap(), 1);
    assert_eq!(
        client.texts(),
        [
            r#"{"c":"p","t":"orders","l":8,"sids":"s"}{"id":1}"#,
            r#"{"c":"oof","t":"orders","l":8,"sids":"s","reason":"deleted"}{"id":1}"#,
        ]
    );
}
