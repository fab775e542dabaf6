//! Whatever goes wrong, the caller gets an error of the right kind, and the client stays usable.

mod support;

use std::time::{Duration, Instant};

use amps_client::testing::{Expectation, LogonAck, ScriptedPeer};
use amps_client::{AckType, Client, Command, ErrorClass, ErrorKind, Result};
use support::client::*;

/// What a command asks for that the server refuses.
fn refused(scene: &Scene, reason: &str) -> amps_client::Error {
    let command = Command::sow_and_subscribe("orders")
        .sub_id("s-1")
        .filter("/a = 1")
        .options("oof")
        .order_by("/id DESC")
        .bookmark("1|2|");
    let pending = scene.begin(|client| client.execute(command));
    scene.connection.expect("sow_and_subscribe", SOON).unwrap();
    scene.connection.reply_failure(reason).unwrap();
    pending.wait().unwrap_err()
}

/// 1, E-3.
#[test]
fn a_bad_filter_is_refused_and_named_and_the_client_still_publishes() {
    let scene = Scene::logged_on("c");
    let subscribe = scene.begin(|client| client.subscribe("orders", "/id =="));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("bad filter").unwrap();
    let error = subscribe.wait().unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::BadFilter, ErrorClass::Command));
    assert!(error.to_string().contains("/id =="), "{error}");
    assert_eq!((error.reason(), error.topic()), (Some("bad filter"), Some("orders")));
    scene.client.publish("orders", "x").unwrap();
    scene.connection.expect("publish", SOON).unwrap();
}

/// 2, 3, E-7, E-9: each reason of the table, the two prefixes, and the fallback.
#[test]
fn each_reason_of_a_server_becomes_the_kind_of_the_table() {
    use ErrorKind::*;
    let table = [
        ("auth failure", Authentication, ""),
        ("authentication failure", Authentication, ""),
        ("authority expired", Authentication, ""),
        ("bad filter", BadFilter, "/a = 1"),
        ("bad regex topic", BadRegexTopic, "orders"),
        ("regex topic not supported", BadRegexTopic, "orders"),
        ("bad sow key", BadSowKey, ""),
        ("duplicate logon attempt", DuplicateLogon, "desk"),
        ("invalid bookmark", InvalidBookmark, "1|2|"),
        ("invalid message type", Command, ""),
        ("invalid options", InvalidOptions, "oof"),
        ("invalid order by", InvalidOrderBy, "/id DESC"),
        ("invalid orderby", InvalidOrderBy, "/id DESC"),
        ("invalid subid", InvalidSubId, "s-1"),
        ("invalid topic", InvalidTopic, "orders"),
        ("invalid topic or filter", InvalidTopic, "/a = 1"),
        ("logon required", LogonRequired, ""),
        ("name in use", NameInUse, "desk"),
        ("not entitled", NotEntitled, "orders"),
        ("no filter or bookmark", MissingFields, ""),
        ("no client name", MissingFields, ""),
        ("no topic", MissingFields, ""),
        ("no topic or filter", MissingFields, ""),
        ("no topic at all", MissingFields, ""),
        ("orderby required", MissingFields, ""),
        ("not supported", Command, "orders"),
        ("orderby too large", Command, "/id DESC"),
        ("projection clause too large", Command, "oof"),
        ("sow_delete command only supports one of: filter, sow_keys, bookmark, or data", Command, ""),
        ("sow store failed", Publish, ""),
        ("tx store failure", Publish, ""),
        ("subid in use", SubIdInUse, "s-1"),
        ("subscription already exists", SubscriptionAlreadyExists, "s-1"),
        ("txn replay failed", ReplayFailed, "s-1"),
        ("duplicate", Command, "duplicate"),
        ("something else", Command, "something else"),
        ("  BAD FILTER ", BadFilter, "/a = 1"),
    ];
    let scene = Scene::logged_on("desk");
    for (reason, kind, named) in table {
        let error = refused(&scene, reason);
        assert_eq!((error.kind(), error.class()), (kind, kind.class()), "{reason}");
        assert_eq!(error.reason(), Some(reason));
        assert!(error.to_string().contains(named), "{error} does not name {named}");
        assert_eq!((error.sub_id(), error.topic()), (Some("s-1"), Some("orders")));
    }
    assert!(scene.record.failures().is_empty(), "who was told needs no listener");
}

/// 4, E-6, E-7: only `success` is success.
#[test]
fn a_failure_without_a_reason_is_unknown_and_never_a_success() {
    let scene = Scene::logged_on("c");
    for status in ["failure", "partial", "retry"] {
        let subscribe = scene.begin(|client| client.subscribe("t", ""));
        scene.connection.expect("subscribe", SOON).unwrap();
        let ack = format!(r#"{{"c":"ack","cid":"{{cid}}","a":"processed","status":"{status}"}}"#);
        scene.connection.reply(&ack).unwrap();
        let error = subscribe.wait().unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unknown, None), "{status}");
    }
}

/// 5, E-8: the user of the logon is named.
#[test]
fn a_refusal_for_lack_of_rights_names_the_user_of_the_logon() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.connect(&peer.uri("json").replace("tcp://", "tcp://alice:s3cret@")).unwrap();
    let connection = peer.accept(SOON).unwrap();
    log_on(&client, &connection);
    for (reason, kind) in
        [("not entitled", ErrorKind::NotEntitled), ("authentication disabled", ErrorKind::Authentication)]
    {
        let subscribe = begin(&client, |client| client.subscribe("orders", ""));
        connection.expect("subscribe", SOON).unwrap();
        connection.reply_failure(reason).unwrap();
        let error = subscribe.wait().unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains("alice") && !error.to_string().contains("s3cret"), "{error}");
    }
}

/// 6, S-7.
#[test]
fn a_refused_connection_is_connection_refused_and_changes_no_state() {
    let peer = ScriptedPeer::start().unwrap();
    peer.refuse().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    let error = client.connect(&peer.uri("json")).unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::ConnectionRefused, ErrorClass::Connection));
    assert_eq!(error.uri(), Some(peer.uri("json").as_str()));
    assert!(record.story().is_empty() && !client.is_connected());
    peer.listen_again().unwrap();
    log_on(&client, &connect(&client, &peer));
}

/// 7.
#[test]
fn a_host_that_cannot_be_resolved_is_connection_refused_with_the_text_of_the_system() {
    let client = Client::builder("c").build().unwrap();
    let error = client.connect("tcp://no-such-host.invalid:9007/amps/json").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    let source = std::error::Error::source(&error).expect("a source");
    assert!(source.is::<std::io::Error>() && error.to_string().ends_with(&source.to_string()), "{error}");
}

/// 8, decision 14: no socket is opened for them.
#[test]
fn a_connection_string_that_cannot_be_used_is_refused_by_kind() {
    let peer = ScriptedPeer::start().unwrap();
    let uri = peer.uri("json");
    let table = [
        ("foo://h:1/amps/json".to_owned(), ErrorKind::TransportType),
        ("tcp:/bad".to_owned(), ErrorKind::InvalidUri),
        (uri.replace("amps/json", "nvfix"), ErrorKind::InvalidUri),
        (format!("{uri}?bogus=1"), ErrorKind::InvalidTransportOptions),
        (format!("{uri}?tcp_nodelay=maybe"), ErrorKind::InvalidTransportOptions),
    ];
    let client = Client::builder("c").build().unwrap();
    for (uri, kind) in table {
        let error = client.connect(&uri).unwrap_err();
        assert_eq!((error.kind(), error.class()), (kind, ErrorClass::Connection), "{uri}: {error}");
    }
    assert_eq!(peer.connections(), 0);
}

/// 9.
#[test]
fn an_empty_name_is_refused_by_build() {
    let error = Client::builder("").build().unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Usage, ErrorClass::Usage));
}

/// 10.
#[test]
fn connecting_twice_is_refused_and_leaves_the_first_connection_alone() {
    let scene = Scene::logged_on("c");
    let error = scene.client.connect(&scene.peer.uri("json")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyConnected);
    scene.settle();
    assert_eq!(scene.peer.connections(), 1);
}

/// 12, D-11: nobody could bring the connection.
#[test]
fn without_a_connection_every_command_is_disconnected_at_once() {
    let client = Client::builder("c").build().unwrap();
    type Operation = fn(&Client) -> Result<()>;
    let operations: [(&str, Operation); 9] = [
        ("publish", |client| client.publish("t", "x").map(drop)),
        ("publish, with options", |client| client.publish_with("t", "x", &Default::default()).map(drop)),
        ("publish, prepared", |client| client.publish_command(Command::publish("t")).map(drop)),
        ("subscribe", |client| client.subscribe("t", "").map(drop)),
        ("sow", |client| client.sow_async("t", "", |_: &_| {}).map(drop)),
        ("flush", |client| client.publish_flush()),
        ("logon", |client| client.logon()),
        ("send", |client| client.send(&Command::publish("t"))),
        ("unsubscribe", |client| client.unsubscribe("s")),
    ];
    for retry in [true, false] {
        client.set_retry_on_disconnect(retry);
        for (name, operation) in operations {
            let error = begin(&client, operation).at_once().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}: {error}");
        }
    }
    client.close();
    assert_eq!(client.publish("t", "x").unwrap_err().kind(), ErrorKind::Disconnected);
}

/// 13, M-22, E 1.4: the error names what was awaited, and the server is told to forget it.
#[test]
fn an_ack_that_does_not_come_in_time_is_timed_out_and_the_subscription_is_taken_back() {
    let scene = Scene::logged_on("c");
    let limit = Duration::from_millis(500);
    let command = Command::subscribe("orders").sub_id("s-7").timeout(limit);
    let start = Instant::now();
    let error = scene.begin(move |client| client.execute(command)).wait().unwrap_err();
    let took = start.elapsed();
    assert!(took >= limit && took < limit + limit / 5 + A_WHILE, "{took:?}");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let text = error.to_string();
    assert!(["processed", "subscribe", "orders"].iter().all(|word| text.contains(word)), "{text}");
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", "s-7"), SOON).unwrap();
}

/// M-22: a query is taken back by its query id.
#[test]
fn a_query_that_is_not_answered_in_time_is_cancelled() {
    let scene = Scene::logged_on("c");
    let command = Command::sow("orders").query_id("q-7").timeout(A_WHILE);
    let error = scene.begin(move |client| client.execute_async(command, |_: &_| {})).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    scene.connection.expect("sow", SOON).unwrap();
    scene.connection.expect(Expectation::command("unsubscribe").header("query_id", "q-7"), SOON).unwrap();
}

/// M-22: an answer that comes too late goes to nobody but the last-chance handler.
#[test]
fn an_answer_that_comes_too_late_changes_nothing() {
    let scene = Scene::logged_on("c");
    let (handler, last_chance) = inbox();
    scene.client.set_last_chance_handler(handler);
    let command = Command::subscribe("t").sub_id("s").timeout(A_WHILE);
    let (handler, inbox) = inbox();
    scene.begin(move |client| client.execute_async(command, handler)).wait().unwrap_err();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.send("s", "x");
    scene.settle();
    assert_eq!((inbox.rest().len(), last_chance.rest().len()), (0, 2));
}

/// 14, H-1.
#[test]
fn a_heartbeat_timeout_shorter_than_the_interval_is_a_usage_error() {
    let client = Client::builder("c").build().unwrap();
    let seconds = Duration::from_secs;
    let error = client.set_heartbeat_timeout(seconds(5), seconds(3)).unwrap_err();
    assert_eq!((error.kind(), error.class()), (ErrorKind::Usage, ErrorClass::Usage));
    client.set_heartbeat_timeout(seconds(5), seconds(5)).unwrap();
    client.set_heartbeat(Duration::ZERO).unwrap();
}

/// 15.
#[test]
fn a_flush_waits_for_processed_or_persisted_and_nothing_else() {
    let scene = Scene::logged_on("c");
    for ack in [AckType::COMPLETED, AckType::NONE, AckType::STATS, AckType::PROCESSED | AckType::PERSISTED] {
        let error = scene.client.publish_flush_with(ack, Some(SOON)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command, "{ack}");
    }
    scene.settle();
    assert_eq!(scene.connection.frames().len(), 2, "a logon and the flush of the test");
}

/// 16.
#[test]
fn what_only_a_server_sends_is_refused_and_not_sent() {
    let scene = Scene::logged_on("c");
    for verb in ["ack", "oof", "group_begin", "group_end", "frobnicate"] {
        let command = || Command::new(verb).topic("t");
        let outcomes = [
            scene.client.execute(command()).map(drop),
            scene.client.execute_async(command(), |_: &_| {}).map(drop),
            scene.client.send(&command()),
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Command, "{verb}");
            assert!(error.to_string().contains(verb), "{error}");
        }
    }
    scene.settle();
    assert_eq!(scene.connection.frames().len(), 2, "a logon and the flush of the test");
}

/// E 1.4.
#[test]
fn replacing_without_a_subscription_id_is_a_usage_error() {
    let scene = Scene::logged_on("c");
    let error = scene.client.execute(Command::subscribe("t").options("oof,replace")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("replace"), "{error}");
}

/// M-6, Example 5.2: a refused subscription can be tried again under the same id.
#[test]
fn a_refused_command_leaves_nothing_behind() {
    let scene = Scene::logged_on("c");
    let (handler, last_chance) = inbox();
    scene.client.set_last_chance_handler(handler);
    let (handler, refused) = inbox();
    let command = Command::subscribe("[orders").sub_id("s");
    let subscribe = scene.begin(move |client| client.execute_async(command, handler));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("bad regex topic").unwrap();
    assert_eq!(subscribe.wait().unwrap_err().kind(), ErrorKind::BadRegexTopic);
    scene.send("s", "1");
    scene.settle();
    assert_eq!((refused.rest().len(), last_chance.rest().len()), (0, 1));
    let accepted = scene.subscribe("s");
    scene.send("s", "2");
    assert_eq!(accepted.payloads(1), ["2"]);
}

/// M-2: the same command, with its generated id, on several threads at once.
#[test]
fn clones_of_one_command_can_be_executed_at_the_same_time() {
    let scene = Scene::logged_on("c");
    let command = Command::subscribe("t");
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let command = command.clone();
            scene.begin(move |client| client.execute_async(command, |_: &_| {}))
        })
        .collect();
    for _ in 0..4 {
        scene.connection.expect("subscribe", SOON).unwrap();
        scene.connection.reply_ok().unwrap();
    }
    let mut ids: Vec<_> = calls.into_iter().map(|call| call.wait().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

/// M-2: an id that the user chose is not replaced, and who waits under it is not pushed out.
#[test]
fn a_command_id_in_use_is_a_usage_error() {
    let scene = Scene::logged_on("c");
    let command = || Command::subscribe("t").command_id("mine");
    let first = scene.begin(move |client| client.execute(command()).map(drop));
    scene.connection.expect("subscribe", SOON).unwrap();
    let error = scene.client.execute(command()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("`mine`"), "{error}");
    scene.connection.reply_ok().unwrap();
    first.wait().unwrap();
}

/// A limit beyond the end of time is none.
#[test]
fn a_time_limit_may_be_as_long_as_a_duration() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| {
        client.logon_with(&amps_client::Logon::new().timeout(Duration::MAX))?;
        client.send(&Command::publish("t").timeout(Duration::MAX))?;
        client.publish_flush_with(AckType::PROCESSED, Some(Duration::MAX))
    });
    connection.logon(&LogonAck::success(), SOON).unwrap();
    connection.skip_to("flush", SOON).unwrap();
    connection.reply_ok().unwrap();
    logon.wait().unwrap();
}
