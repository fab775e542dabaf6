//! What a loss and its repair mean for everybody who uses the client meanwhile (`resilience` table 3.4).

mod support;

use std::error::Error as _;

use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{AckType, Client, Command, CommandType, ConnectionState, Error, ErrorKind, Origin, Result};
use support::client::*;

/// Has the handler wait at the gate and then reconnect to the same peer.
fn hold_the_repair(scene: &Scene) -> Gate {
    let (gate, reconnect) = (Gate::new(), reconnects_to(&scene.peer));
    let held = gate.clone();
    scene.client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        held.pass();
        reconnect(client, cause)
    });
    gate
}

type Operation = fn(&Client) -> Result<()>;

/// Commands on their way in an outage, by what they do.
fn operations() -> [(&'static str, Operation); 7] {
    [
        ("publish", |client| client.publish("t", "x").map(drop)),
        ("delta_publish", |client| client.delta_publish("t", "x").map(drop)),
        ("sow", |client| client.sow("t", "").map(drop)),
        ("subscribe", |client| client.subscribe_async("t", "", |_: &_| {}).map(drop)),
        ("sow_delete", |client| client.sow_delete("t", "1=1").map(drop)),
        ("flush", |client| client.publish_flush()),
        ("send", |client| client.send(&Command::publish("t"))),
    ]
}

/// 33, D-4: nobody who waits for an answer waits for the repair.
#[test]
fn a_loss_releases_who_waits_for_an_answer_before_the_handler_has_finished() {
    let scene = Scene::logged_on("c");
    let gate = hold_the_repair(&scene);
    let subscribe = scene.begin(|client| client.subscribe("t", "").map(drop));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reset();
    gate.wait_reached(1);
    let error = subscribe.at_once().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.source().is_some_and(|source| source.is::<std::io::Error>()), "{error:?}");
    gate.open();
}

/// 34, D-15: what is issued during the repair is sent once, when it has ended.
#[test]
fn a_query_issued_during_the_repair_is_sent_once_on_the_new_connection() {
    let mut scene = Scene::logged_on("c");
    let gate = hold_the_repair(&scene);
    scene.connection.close();
    gate.wait_reached(1);
    let query = scene.begin(|client| client.sow("t", "").map(Iterator::count));
    assert!(query.is_waiting());
    gate.open();
    scene.accept_again();
    answer_query(&scene);
    assert_eq!(query.wait().unwrap(), 3);
    scene.settle();
    assert_eq!(scene.peer.wait_for_frames(1, "sow", SOON).unwrap().len(), 1);
}

/// Takes a query and sends one record.
fn answer_query(scene: &Scene) {
    scene.connection.expect("sow", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"{query_id}","bs":1}"#, r#"{"l":1}x"#).unwrap();
    scene.connection.reply(r#"{"c":"group_end","query_id":"{query_id}"}"#).unwrap();
}

/// D-15, table 3.4: a query whose own write failed is sent again, and its result still reaches its stream.
#[test]
fn a_query_whose_write_failed_is_sent_again_and_gets_its_result() {
    let mut scene = Scene::logged_on("c");
    let gate = Gate::new();
    let held = gate.clone();
    scene.subscribe_with("s", move |_: &_| held.pass());
    scene.reconnect_on_loss();
    // While a handler holds the receive thread, a failing write is all that tells of the loss.
    scene.send("s", "x");
    gate.wait_reached(1);
    scene.connection.reset();
    let query = scene.begin(|client| client.sow("t", "").map(Iterator::count));
    assert!(query.is_waiting());
    gate.open();
    scene.accept_again();
    answer_query(&scene);
    assert_eq!(query.wait().unwrap(), 3);
    assert_eq!(scene.peer.wait_for_frames(1, "sow", SOON).unwrap().len(), 1);
}

/// HA-18 for a plain client: the handler tries two servers, and the first refuses the logon.
#[test]
fn a_waiting_subscription_outlasts_a_failing_attempt_of_the_handler() {
    let scene = Scene::logged_on("c");
    let second = ScriptedPeer::start().unwrap();
    let (gate, uris) = (Gate::new(), [scene.peer.uri("json"), second.uri("json")]);
    let held = gate.clone();
    scene.client.set_disconnect_handler(move |client: &Client, _: &Error| {
        held.pass();
        let attempt = |uri: &str| client.connect(uri).and_then(|()| client.logon_with(&in_time()));
        uris.iter().find_map(|uri| attempt(uri).ok()).ok_or_else(|| failure("no server"))
    });
    scene.connection.close();
    gate.wait_reached(1);
    let (handler, inbox) = inbox();
    let subscription =
        scene.begin(|client| client.execute_async(Command::subscribe("t").sub_id("s"), handler));
    let stream = scene.begin(|client| client.execute(Command::subscribe("t").sub_id("s2")));
    assert!(subscription.is_waiting() && stream.is_waiting());
    gate.open();
    let refused = scene.peer.accept(SOON).unwrap();
    refused.logon(&LogonAck::failure("name in use"), SOON).unwrap();
    let connection = second.accept(SOON).unwrap();
    connection.logon(&LogonAck::success(), SOON).unwrap();
    for _ in 0..2 {
        connection.expect("subscribe", SOON).unwrap();
        connection.reply_ok().unwrap();
    }
    subscription.wait().unwrap();
    let mut stream = stream.wait().unwrap();
    connection.send(&publication("s,s2"), "x").unwrap();
    assert_eq!(inbox.payloads(1), ["x"]);
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().data(), b"x");
}

/// 35, table 3.4: without retry nobody waits for a repair, nor for a logon.
#[test]
fn without_retry_commands_fail_at_once_in_an_outage_and_during_a_logon() {
    let mut scene = Scene::logged_on("c");
    scene.client.set_retry_on_disconnect(false);
    let gate = hold_the_repair(&scene);
    scene.connection.close();
    gate.wait_reached(1);
    for (name, operation) in operations() {
        let error = scene.begin(operation).at_once().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}: {error}");
    }
    gate.open();
    scene.connection = scene.peer.accept(SOON).unwrap();
    scene.connection.expect("logon", SOON).unwrap();
    for (name, operation) in operations() {
        let error = scene.begin(operation).at_once().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryOperation, "{name}: {error}");
    }
    scene.connection.reply_ok().unwrap();
    scene.record.wait_for_states(&reconnected());
    scene.settle();
    let commands: Vec<_> = scene.connection.frames().iter().map(|f| f.frame().message().command()).collect();
    assert_eq!(commands, [CommandType::Logon, CommandType::Flush]);
}

fn reconnected() -> [ConnectionState; 5] {
    use ConnectionState::{Connected, Disconnected, LoggedOn};
    [Connected, LoggedOn, Disconnected, Connected, LoggedOn]
}

/// 36, D-14: each kind of command, and everybody within 200 ms.
#[test]
fn closing_releases_everybody_who_waits_for_the_end_of_an_outage() {
    let scene = Scene::logged_on("c");
    let gate = hold_the_repair(&scene);
    scene.connection.close();
    gate.wait_reached(1);
    let waiting: Vec<_> =
        operations().into_iter().map(|(name, operation)| (name, scene.begin(operation))).collect();
    assert!(waiting.iter().all(|(_, call)| call.is_waiting()));
    let start = std::time::Instant::now();
    let close = scene.begin(Client::close);
    for (name, call) in waiting {
        let (outcome, at) = call.ended();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Disconnected, "{name}");
        assert!(at - start < AT_ONCE, "{name} was released after {:?}", at - start);
    }
    gate.open();
    close.wait();
}

/// 38, D-19, SM-13 for a plain client: the route is gone, the caller is told, and nothing is placed again.
#[test]
fn unsubscribing_in_an_outage_removes_the_route_and_reports_the_loss() {
    let mut scene = Scene::logged_on("c");
    let inbox = scene.subscribe("s");
    let (handler, last_chance) = self::inbox();
    scene.client.set_last_chance_handler(handler);
    let gate = hold_the_repair(&scene);
    scene.connection.close();
    gate.wait_reached(1);
    for unsubscribe in [|c: &Client| c.unsubscribe("s"), |c: &Client| c.unsubscribe_all()] {
        let error = scene.begin(unsubscribe).at_once().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
    gate.open();
    scene.accept_again();
    scene.record.wait_for_states(&reconnected());
    scene.send("s", "x");
    scene.settle();
    assert_eq!((inbox.rest().len(), last_chance.rest().len()), (0, 1));
    let commands: Vec<_> = scene.connection.frames().iter().map(|f| f.frame().message().command()).collect();
    assert_eq!(commands, [CommandType::Logon, CommandType::Flush]);
}

/// D-16: while a logon is under way everybody else waits.
#[test]
fn during_a_logon_nothing_else_is_sent() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.expect("logon", SOON).unwrap();
    let publish = begin(&client, |client| client.publish("t", "x"));
    let subscribe = begin(&client, |client| client.subscribe("t", "").map(drop));
    assert!(publish.is_waiting() && subscribe.is_waiting());
    assert_eq!(connection.frames().len(), 1);
    connection.reply_ok().unwrap();
    logon.wait().unwrap();
    publish.wait().unwrap();
    connection.skip_to("subscribe", SOON).unwrap();
    connection.reply_ok().unwrap();
    subscribe.wait().unwrap();
}

/// A command's own time limit bounds its wait for the end of an outage.
#[test]
fn waiting_for_the_end_of_an_outage_ends_with_the_time_limit_of_the_command() {
    let scene = Scene::logged_on("c");
    let gate = hold_the_repair(&scene);
    scene.connection.close();
    gate.wait_reached(1);
    let command = Command::subscribe("t").timeout(A_WHILE);
    let error = scene.begin(|client| client.execute(command)).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    gate.open();
}

/// Decision 24: a query that a handler waits for has nobody else to hear of its end.
#[test]
fn a_query_that_a_handler_waits_for_is_reported_when_the_connection_is_lost() {
    let scene = Scene::logged_on("c");
    let query = Command::sow("t").query_id("q").add_ack_type(AckType::COMPLETED);
    scene.accepted("sow", |client| client.execute_async(query, |_: &_| {}));
    scene.connection.close();
    let lost = scene.record.wait_for_failures(2).remove(0);
    assert_eq!((lost.error.kind(), lost.origin), (ErrorKind::Disconnected, Origin::Connection));
    assert_eq!(lost.id.as_deref(), Some("q"));
}

/// Decision 24: a query that was not answered yet is told to its caller, and to nobody else.
#[test]
fn a_query_that_its_caller_waits_for_is_not_reported_as_well() {
    let scene = Scene::logged_on("c");
    let query = scene.begin(|client| client.sow_async("t", "", |_: &_| {}));
    scene.connection.expect("sow", SOON).unwrap();
    scene.connection.close();
    assert_eq!(query.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!(scene.record.failures().len(), 1);
}

/// Publishes of one thread keep their order over a repair.
#[test]
fn publishes_that_wait_for_a_repair_are_sent_in_order() {
    let mut scene = Scene::logged_on("c");
    let gate = hold_the_repair(&scene);
    scene.connection.close();
    gate.wait_reached(1);
    let publisher =
        scene.begin(|client| (0..100).try_for_each(|n| client.publish("t", n.to_string()).map(drop)));
    assert!(publisher.is_waiting());
    gate.open();
    scene.accept_again();
    publisher.wait().unwrap();
    let published = scene.peer.wait_for_frames(100, "publish", SOON).unwrap();
    for (n, publish) in published.iter().enumerate() {
        assert_eq!(publish.frame().payload(), n.to_string().as_bytes());
    }
}
