//! What an outage of an `HAClient` means for everybody who uses it meanwhile (`resilience` table 3.4).

use std::time::Instant;

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{Expectation, LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    AckType, Command, Error, ErrorKind, HAClient, MemoryPublishStore, Message, Origin, PublishStore, Result,
};

type Operation = fn(&HAClient) -> Result<()>;

/// Commands that need a connection and that nobody remembers, by what they do.
const OPERATIONS: [(&str, Operation); 7] = [
    ("publish", |client| client.publish("t", "x").map(drop)),
    ("delta_publish", |client| client.delta_publish("t", "x").map(drop)),
    ("sow", |client| client.sow("t", "").map(|stream| _ = stream.count())),
    ("sow_async", |client| client.sow_async("t", "", |_: &Message| {}).map(drop)),
    ("sow_delete", |client| client.sow_delete("t", "1=1").map(drop)),
    ("flush", |client| client.publish_flush()),
    ("send", |client| client.send(&Command::publish("t"))),
];

/// Subscriptions, which are remembered.
const SUBSCRIPTIONS: [(&str, Operation); 2] = [
    ("subscribe_async", |client| {
        client.execute_async(Command::subscribe("t").sub_id("h"), |_: &Message| {}).map(drop)
    }),
    ("subscribe", |client| client.execute(Command::subscribe("t").sub_id("s")).map(std::mem::forget)),
];

/// Answers the next `count` frames as a server would.
fn serve(connection: &PeerConnection, count: usize) {
    for _ in 0..count {
        let frame = connection.expect(Expectation::any(), SOON).unwrap();
        let ack = |kind: &str| format!(r#"{{"c":"ack","cid":"{{cid}}","a":"{kind}","status":"success"}}"#);
        if frame.header("cid").is_some() {
            connection.reply_ok().unwrap();
        }
        match frame.command() {
            "sow" => {
                connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
                connection.reply(r#"{"c":"group_end","query_id":"{query_id}"}"#).unwrap();
                connection.reply(&ack("completed")).unwrap();
            }
            "sow_delete" => connection.reply(&ack("stats")).unwrap(),
            _ => {}
        }
    }
}

/// Loses the connection and lets nobody connect.
fn go_down(scene: &HaScene) {
    scene.peer.refuse().unwrap();
    scene.connection.close();
    scene.record.wait_for_states(&{
        use amps_client::ConnectionState::{Connected, Disconnected, LoggedOn, Resubscribed};
        [Connected, LoggedOn, Resubscribed, Disconnected]
    });
}

fn is_up(scene: &HaScene) -> bool {
    scene.record.states().last() == Some(&amps_client::ConnectionState::Resubscribed)
}

/// D-15, HA-21, HA-22: whatever it is, it is sent once, when the outage is over.
#[test]
fn commands_issued_in_an_outage_are_sent_once_when_it_is_over() {
    let mut scene = HaScene::logged_on();
    go_down(&scene);
    let waiting: Vec<_> = OPERATIONS.map(|(name, call)| (name, scene.begin(call))).into();
    assert!(waiting.iter().all(|(_, call)| call.is_waiting()));
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    serve(&scene.connection, OPERATIONS.len());
    for (name, call) in waiting {
        call.wait().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    scene.settle();
    let mut sent = scene.commands();
    sent.sort_unstable();
    let all = ["delta_publish", "logon", "p", "p", "sow", "sow", "sow_delete"];
    assert_eq!(sent, all);
}

/// D-16, HA-20: while the client logs on and recovers nothing slips in between.
#[test]
fn commands_issued_during_a_recovery_wait_for_its_end() {
    let mut scene = HaScene::logged_on();
    scene.subscribe("s");
    scene.connection.close();
    scene.connection = scene.peer.accept(SOON).unwrap();
    scene.connection.expect("logon", SOON).unwrap();
    let early = OPERATIONS.map(|(name, call)| (name, scene.begin(call)));
    assert!(early.iter().all(|(_, call)| call.is_waiting()));
    scene.connection.reply_ok().unwrap();
    scene.connection.expect("subscribe", SOON).unwrap();
    let late = OPERATIONS.map(|(name, call)| (name, scene.begin(call)));
    assert!(late.iter().all(|(_, call)| call.is_waiting()));
    assert_eq!(scene.commands(), ["logon", "subscribe"]);
    scene.connection.reply_ok().unwrap();
    serve(&scene.connection, 2 * OPERATIONS.len());
    for (name, call) in early.into_iter().chain(late) {
        call.wait().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// 35, D-16, table 3.4: in an outage, and while the client logs on.
#[test]
fn without_retry_what_nobody_remembers_fails_at_once() {
    let mut scene = HaScene::logged_on();
    scene.client.set_retry_on_disconnect(false);
    go_down(&scene);
    for (name, call) in OPERATIONS {
        let error = scene.begin(call).at_once().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}: {error}");
    }
    scene.peer.listen_again().unwrap();
    scene.connection = scene.peer.accept(SOON).unwrap();
    scene.connection.expect("logon", SOON).unwrap();
    for (name, call) in OPERATIONS {
        let error = scene.begin(call).at_once().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::RetryOperation, "{name}: {error}");
    }
    scene.client.set_retry_on_disconnect(true);
    scene.connection.reply_ok().unwrap();
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
}

/// 35, table 3.4: subscriptions are carried over, with and without retry, and placed exactly once.
#[test]
fn subscriptions_issued_in_an_outage_are_placed_once_by_the_recovery() {
    for (retry, during_logon) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut scene = HaScene::logged_on();
        scene.client.set_retry_on_disconnect(retry);
        go_down(&scene);
        if during_logon {
            scene.peer.listen_again().unwrap();
            scene.connection = scene.peer.accept(SOON).unwrap();
            scene.connection.expect("logon", SOON).unwrap();
        }
        let calls = SUBSCRIPTIONS.map(|(name, call)| (name, scene.begin(call)));
        let waits = calls.iter().all(|(_, call)| call.is_waiting());
        assert!(waits == (retry || during_logon), "retry {retry}, during a logon {during_logon}");
        match during_logon {
            true => scene.connection.reply_ok().unwrap(),
            false => {
                scene.peer.listen_again().unwrap();
                scene.accept_again(&LogonAck::success());
            }
        }
        let mut placed = scene.resubscribed(2);
        placed.sort_unstable();
        assert_eq!(placed, ["h", "s"]);
        for (name, call) in calls.into_iter().filter(|_| waits) {
            call.wait().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        scene.client.set_retry_on_disconnect(true);
        scene.settle();
        assert_eq!(scene.commands(), ["logon", "subscribe", "subscribe"]);
        scene.fail_over();
        let mut placed = scene.resubscribed(2);
        placed.sort_unstable();
        assert_eq!(placed, ["h", "s"]);
        scene.settle();
    }
}

/// 90, D-4, table 3.4: sent and not answered.
#[test]
fn a_subscription_whose_answer_is_cut_off_is_placed_again_and_succeeds() {
    let mut scene = HaScene::logged_on();
    let calls = SUBSCRIPTIONS.map(|(name, call)| (name, scene.begin(call)));
    for _ in SUBSCRIPTIONS {
        scene.connection.expect("subscribe", SOON).unwrap();
    }
    scene.connection.close();
    for (name, call) in calls {
        call.at_once().unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    scene.accept_again(&LogonAck::success());
    let mut placed = scene.resubscribed(2);
    placed.sort_unstable();
    assert_eq!(placed, ["h", "s"]);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "subscribe", "subscribe"]);
}

/// D-4, table 3.4: sent and not answered, and nobody remembers it.
#[test]
fn a_command_whose_answer_is_cut_off_is_disconnected_at_once() {
    let scene = HaScene::logged_on();
    let asking = [OPERATIONS[2], OPERATIONS[3], OPERATIONS[4], OPERATIONS[5]];
    let calls = asking.map(|(name, call)| (name, scene.begin(call)));
    for _ in &calls {
        scene.connection.expect(Expectation::any(), SOON).unwrap();
    }
    scene.peer.refuse().unwrap();
    scene.connection.close();
    for (name, call) in calls {
        let error = call.at_once().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}: {error}");
    }
}

/// Decision 24: a query that a handler waits for has nobody else to hear of its end.
#[test]
fn a_query_that_a_handler_waits_for_is_reported_when_the_connection_is_lost() {
    let mut scene = HaScene::logged_on();
    let query = Command::sow("t").query_id("q").add_ack_type(AckType::COMPLETED);
    scene.accepted("sow", |client| client.execute_async(query, |_: &Message| {}));
    let mut stream = scene.accepted("sow", |client| client.sow("t", ""));
    scene.fail_over();
    scene.settle();
    let lost = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((lost.error.kind(), lost.origin), (ErrorKind::Disconnected, Origin::Connection));
    assert_eq!(lost.id.as_deref(), Some("q"));
    assert_eq!(scene.record.failures().len(), 1, "the stream hears of its own end");
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(stream.next().is_none());
    assert_eq!(scene.commands(), ["logon"], "a query is not sent again");
}

/// 38, D-19, SM-13, table 3.4.
#[test]
fn unsubscribing_in_an_outage_reports_the_loss_and_nothing_comes_back() {
    let mut scene = HaScene::logged_on();
    let inboxes = ["a", "b", "c"].map(|id| scene.subscribe(id));
    go_down(&scene);
    let error = scene.begin(|client| client.unsubscribe("a")).at_once().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    assert_eq!(scene.resubscribed(2), ["b", "c"]);
    scene.send("a", "x");
    scene.settle();
    assert!(inboxes[0].rest().is_empty());

    scene.peer.refuse().unwrap();
    scene.connection.close();
    while scene.client.is_connected() {
        std::thread::yield_now();
    }
    let error = scene.begin(|client| client.unsubscribe_all()).at_once().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
}

/// D-14, HA-17: when the client gives up, everybody is released, also who waits for the answer to something stored.
#[test]
fn when_the_client_gives_up_everybody_who_waits_is_released() {
    for stored in [false, true] {
        let peer = ScriptedPeer::start().unwrap();
        let (chooser, choices) = Recording::of(&[&peer]);
        let gate = Gate::new();
        let client = ha_client(&[], |builder| {
            let builder = builder.server_chooser(chooser).reconnect_delay_strategy(UntilOpen(gate.clone()));
            if stored { builder.publish_store(MemoryPublishStore::new()) } else { builder }
        });
        let record = Record::of(&client);
        let waiting = connecting(&client);
        let first = admitted(&peer);
        waiting.wait().unwrap();
        first.close();
        gate.wait_reached(2);
        let waits: Vec<_> = OPERATIONS
            .into_iter()
            .chain(SUBSCRIPTIONS)
            .filter(|(name, _)| !stored || !matches!(*name, "publish" | "delta_publish" | "send"))
            .map(|(name, call)| (name, begin_ha(&client, call)))
            .collect();
        assert!(waits.iter().all(|(_, call)| call.is_waiting()));
        gate.open();
        let given_up = record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
        assert_eq!(given_up.origin, Origin::Connection);
        for (name, call) in waits {
            let error = call.wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{name}, stored {stored}: {error}");
        }
        assert_eq!(choices.failures("Disconnected"), 1);
    }
}

/// Lets one attempt through, and gives up at the next one when the gate opens.
struct UntilOpen(Gate);

impl amps_client::ReconnectDelayStrategy for UntilOpen {
    fn connect_wait_duration(&mut self, _uri: &str) -> Result<std::time::Duration> {
        if self.0.reached() == 0 {
            self.0.note();
            return Ok(std::time::Duration::ZERO);
        }
        self.0.pass();
        Err(Error::new(ErrorKind::ReconnectMaximumExceeded, "that was all"))
    }

    fn reset(&mut self) {}
}

/// D-14, `api-surface` 18: a command's own limit bounds its wait, and a subscription leaves nothing behind.
#[test]
fn the_time_limit_of_a_command_bounds_its_wait_for_the_end_of_an_outage() {
    let mut scene = HaScene::logged_on();
    go_down(&scene);
    let start = Instant::now();
    let subscribe = scene.begin(|client| {
        client.execute_async(Command::subscribe("t").sub_id("s").timeout(A_WHILE), |_: &Message| {})
    });
    let query = scene.begin(|client| client.execute(Command::sow("t").timeout(A_WHILE)).map(drop));
    assert_eq!(subscribe.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!(query.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(start.elapsed() >= A_WHILE);
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
    assert!(is_up(&scene) && scene.record.failures().is_empty(), "{:?}", scene.record.story());
}

/// D-14: nobody connects, so nobody is to be waited for, and nothing is left behind.
#[test]
fn before_the_first_connect_and_after_a_close_commands_are_disconnected_at_once() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder.publish_store(MemoryPublishStore::new()));
    let all_fail = |when: &str| {
        let calls = OPERATIONS
            .into_iter()
            .chain(SUBSCRIPTIONS)
            .filter(|(name, _)| !matches!(*name, "publish" | "delta_publish" | "send" | "sow_delete"));
        for (name, call) in calls {
            let error = begin_ha(&client, call).at_once().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{when}, {name}: {error}");
        }
    };
    all_fail("before the first connect");
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    settle(&client, &connection);
    assert_eq!(commands(&connection), ["logon"]);
    client.close();
    all_fail("after a close");
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    settle(&client, &connection);
    assert_eq!(commands(&connection), ["logon"]);
}

/// D-17, 102: what is stored before the first connect is sent behind the first logon.
#[test]
fn publishes_before_the_first_connect_are_stored_or_refused() {
    let peer = ScriptedPeer::start().unwrap();
    let without = ha_client(&[&peer], |builder| builder);
    assert_eq!(without.publish("t", "x").unwrap_err().kind(), ErrorKind::Disconnected);

    let client = ha_client(&[&peer], |builder| builder.publish_store(MemoryPublishStore::new()));
    let first = client.publish("t", "1").unwrap();
    let second = client.delta_publish("t", "2").unwrap();
    assert!(first > 0 && second == first + 1);
    assert_eq!(client.publish_store().unwrap().unpersisted_count(), 2);
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    for (command, sequence, payload) in [("publish", first, "1"), ("delta_publish", second, "2")] {
        let wanted = Expectation::command(command).header("s", sequence.to_string()).payload(payload);
        connection.expect(wanted, SOON).unwrap();
    }
    waiting.wait().unwrap();
    persisted(&connection, second);
    settle(&client, &connection);
}
