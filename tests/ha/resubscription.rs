//! Subscriptions come back after a loss, as they were, each exactly once (`resilience` section 8).

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{Expectation, Frame, LogonAck, ScriptedPeer};
use amps_client::{
    AckType, Client, Command, ConnectionState, DefaultServerChooser, Error, ErrorKind, MemoryPublishStore,
    MemorySubscriptionManager, Message, Origin, SubscriptionManager,
};

use ConnectionState::Resubscribed;

/// A client whose subscription manager the test can look at.
fn managed() -> (HaScene, Arc<MemorySubscriptionManager>) {
    let manager = Arc::new(MemorySubscriptionManager::new());
    let shared = Arc::clone(&manager);
    (HaScene::of(|builder| builder.subscription_manager(Shared(shared))), manager)
}

/// A manager that the test keeps.
struct Shared(Arc<MemorySubscriptionManager>);

impl SubscriptionManager for Shared {
    fn subscribe(
        &self,
        handler: &amps_client::SharedHandler,
        command: &Command,
        acks: AckType,
    ) -> amps_client::Generation {
        self.0.subscribe(handler, command, acks)
    }

    fn unsubscribe(&self, sub_id: &str) {
        self.0.unsubscribe(sub_id);
    }

    fn clear(&self) {
        self.0.clear();
    }

    fn resubscribe(&self, client: &Client) -> amps_client::Result<()> {
        self.0.resubscribe(client)
    }

    fn generation(&self) -> amps_client::Generation {
        self.0.generation()
    }

    fn set_resubscription_timeout(&self, limit: Option<Duration>) {
        self.0.set_resubscription_timeout(limit);
    }

    fn set_failed_resubscribe_handler(
        &self,
        handler: Option<Box<dyn amps_client::FailedResubscribeHandler>>,
    ) {
        self.0.set_failed_resubscribe_handler(handler);
    }
}

/// The headers of a frame that matter here, without the id of the command.
fn shape(frame: &Frame) -> Vec<(String, String)> {
    let headers = frame.headers().filter(|(key, _)| *key != "cid");
    headers.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// 88, SM-1, SM-6, SM-8: every kind of subscription, with all it was placed with, in the order of placement.
#[test]
fn subscriptions_come_back_as_they_were_under_new_command_ids() {
    let mut scene = HaScene::logged_on();
    let commands = [
        Command::subscribe("plain").sub_id("u"),
        Command::sow_and_subscribe("orders").sub_id("v").filter("/px > 5").batch_size(7).query_id("v-query"),
        Command::delta_subscribe("ticks").sub_id("w").options("oof,conflation=1s"),
        Command::sow_and_delta_subscribe("quotes")
            .sub_id("x")
            .order_by("/px DESC")
            .top_n(3)
            .options("no_empties")
            .ack_type(AckType::COMPLETED),
        Command::subscribe("log").sub_id("y").bookmark("1|5|").correlation_id("QQ=="),
    ];
    let mut placed = Vec::new();
    for command in commands {
        let waiting = scene.begin(|client| client.execute_async(command, |_: &Message| {}));
        placed.push(scene.connection.expect(Expectation::any(), SOON).unwrap());
        scene.connection.reply_ok().unwrap();
        waiting.wait().unwrap();
    }
    for _ in 0..2 {
        scene.fail_over();
        for before in &placed {
            let again = scene.connection.expect(before.command(), SOON).unwrap();
            scene.connection.reply_ok().unwrap();
            assert_ne!(again.header("cid"), before.header("cid"));
            assert_eq!(shape(&again), shape(before));
        }
        scene.settle();
    }
}

/// SM-1: what is no subscription, or was placed not to come back, does not.
#[test]
fn nothing_else_comes_back() {
    let mut scene = HaScene::logged_on();
    scene.accepted("sow", |client| client.sow_async("t", "", |_: &Message| {}));
    let once = Command::subscribe("t").sub_id("once");
    scene.accepted("subscribe", |client| client.execute_async_no_resubscribe(once, |_: &Message| {}));
    scene.subscribe("s");
    scene.client.publish("t", "x").unwrap();
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["s"]);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "subscribe"]);
}

/// SM-7: the query runs again, and the handler sees its whole result.
#[test]
fn a_query_with_a_subscription_runs_again() {
    let mut scene = HaScene::logged_on();
    let (handler, inbox) = inbox();
    let command = Command::sow_and_subscribe("t").sub_id("s");
    scene.accepted("sow_and_subscribe", |client| client.execute_async(command, handler));
    let result = |scene: &HaScene| {
        let connection = &scene.connection;
        connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
        connection.send(r#"{"c":"sow","t":"t","query_id":"{query_id}","bs":1}"#, r#"{"l":1}x"#).unwrap();
        connection.reply(r#"{"c":"group_end","query_id":"{query_id}"}"#).unwrap();
    };
    for _ in 0..3 {
        result(&scene);
        scene.send("s", "later");
        let seen: Vec<_> = (0..4).map(|_| inbox.next().command().to_string()).collect();
        assert_eq!(seen, ["group_begin", "sow", "group_end", "publish"]);
        scene.fail_over();
        accept(&scene.connection, "sow_and_subscribe");
    }
}

/// 89, SM-3, SM-13.
#[test]
fn what_was_unsubscribed_does_not_come_back() {
    let mut scene = HaScene::logged_on();
    for id in ["a", "b", "c", "d"] {
        scene.subscribe(id);
    }
    scene.client.unsubscribe("a").unwrap();
    scene.client.unsubscribe("b,c").unwrap();
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["d"]);
    scene.settle();
    scene.subscribe("e");
    scene.client.unsubscribe_all().unwrap();
    scene.fail_over();
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
}

/// 91, M-6, SM-3: refused, and not answered in time.
#[test]
fn what_could_not_be_placed_does_not_come_back() {
    let (mut scene, manager) = managed();
    let refused = scene.begin(|client| {
        client.execute_async(Command::subscribe("t").sub_id("a").filter("!"), |_: &Message| {})
    });
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("bad filter").unwrap();
    assert_eq!(refused.wait().unwrap_err().kind(), ErrorKind::BadFilter);

    let command = Command::subscribe("t").sub_id("b").timeout(A_WHILE);
    let late = scene.begin(|client| client.execute_async(command, |_: &Message| {}));
    scene.connection.expect("subscribe", SOON).unwrap();
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", "b"), SOON).unwrap();

    assert!(manager.is_empty());
    scene.fail_over();
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
}

/// 92, SM-4, M-3.
#[test]
fn a_replaced_subscription_comes_back_as_it_was_replaced_to_its_old_handler() {
    let mut scene = HaScene::logged_on();
    let first = scene.subscribe("s");
    let (handler, second) = inbox();
    let replacement = Command::subscribe("t").sub_id("s").filter("/a = 1").options("replace,oof");
    scene.accepted("subscribe", |client| client.execute_async(replacement, handler));
    scene.fail_over();
    let wanted = Expectation::command("subscribe").header("sub_id", "s").header("filter", "/a = 1");
    scene.connection.expect(wanted.header("o", "oof"), SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.send("s", "x");
    scene.settle();
    assert_eq!((first.payloads(1), second.rest().len()), (vec!["x".to_owned()], 0));
}

/// 93, SM-10, SM-11, HA-13: without a handler the attempt fails, everything stays, and the others were tried.
#[test]
fn a_refused_subscription_fails_the_attempt_and_all_stay() {
    let peer = ScriptedPeer::start().unwrap();
    let (chooser, choices) = Recording::of(&[&peer]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();
    for id in ["a", "b"] {
        let waiting = begin_ha(&client, move |client| {
            client.execute_async(Command::subscribe("t").sub_id(id), |_: &Message| {})
        });
        accept(&first, "subscribe");
        waiting.wait().unwrap();
    }
    choices.take();
    first.close();
    let second = admitted(&peer);
    second.expect(Expectation::command("subscribe").header("sub_id", "a"), SOON).unwrap();
    second.reply_failure("not entitled").unwrap();
    assert_eq!(accept(&second, "subscribe"), "b");
    second.wait_closed(SOON).unwrap();
    let third = admitted(&peer);
    assert_eq!([accept(&third, "subscribe"), accept(&third, "subscribe")], ["a", "b"]);
    settle(&client, &third);
    let told = choices.take();
    let outcomes: Vec<_> = told.iter().filter(|c| !matches!(c.as_str(), "uri" | "authenticator")).collect();
    let expected = ["failure Disconnected A", "success A", "failure NotEntitled A", "success A"];
    assert_eq!(outcomes, expected);
    assert_eq!(record.states().iter().filter(|state| **state == Resubscribed).count(), 2);
}

/// What a failed-resubscribe handler was asked: the id, the acknowledgements, the kind.
type Asked = (String, AckType, ErrorKind);

/// Has a handler answer so, and tells what it was asked.
fn decides(manager: &MemorySubscriptionManager, forget: bool) -> mpsc::Receiver<Asked> {
    let (sender, asked) = mpsc::channel();
    let handler = move |command: &Command, acks: AckType, error: &Error| {
        let id = command.sub_id_text().unwrap_or_default().to_owned();
        sender.send((id, acks, error.kind())).unwrap();
        forget
    };
    manager.set_failed_resubscribe_handler(Some(Box::new(handler)));
    asked
}

/// 94, SM-11: the refused one is forgotten, with its handler, and the other works.
#[test]
fn a_handler_may_forget_what_is_refused() {
    let (mut scene, manager) = managed();
    let asked = decides(&manager, true);
    let (alive, handler) = (Arc::new(()), scene.subscribe("b"));
    let kept = Arc::clone(&alive);
    scene.subscribe_with("a", move |_: &Message| drop(Arc::clone(&kept)));
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["b"]);
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("not entitled").unwrap();
    scene.settle();
    assert_eq!(asked.try_recv().unwrap(), ("a".to_owned(), AckType::NONE, ErrorKind::NotEntitled));
    assert_eq!(manager.len(), 1);
    assert_eq!(scene.record.states().last(), Some(&Resubscribed));
    assert_eq!(Arc::strong_count(&alive), 1, "the handler is let go");
    scene.send("b", "x");
    assert_eq!(handler.payloads(1), ["x"]);
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["b"]);
    scene.settle();
    assert!(asked.try_recv().is_err());
}

/// 94, SM-11: a forgotten stream ends with the refusal.
#[test]
fn a_stream_whose_subscription_is_forgotten_ends_with_the_refusal() {
    let (mut scene, manager) = managed();
    let _asked = decides(&manager, true);
    let command = Command::subscribe("t").sub_id("s");
    let mut stream = scene.accepted("subscribe", |client| client.execute(command));
    scene.send("s", "before");
    scene.fail_over();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("not entitled").unwrap();
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().data(), b"before");
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap_err().kind(), ErrorKind::NotEntitled);
    assert!(stream.next().is_none());
}

/// 94, SM-11: the attempt fails, and everything stays.
#[test]
fn a_handler_may_keep_what_is_refused_and_try_another_server() {
    let (mut scene, manager) = managed();
    let asked = decides(&manager, false);
    scene.subscribe("a");
    scene.subscribe("b");
    scene.fail_over();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("not entitled").unwrap();
    assert_eq!(scene.resubscribed(1), ["b"]);
    scene.connection.wait_closed(SOON).unwrap();
    assert_eq!(manager.len(), 2);
    scene.accept_again(&LogonAck::success());
    assert_eq!(scene.resubscribed(2), ["a", "b"]);
    scene.settle();
    assert_eq!(asked.try_iter().count(), 1);
}

/// SM-11: a panic in it fails the attempt and is reported.
#[test]
fn a_handler_for_refusals_that_panics_fails_the_attempt() {
    let (mut scene, manager) = managed();
    let mut calls = 0;
    manager.set_failed_resubscribe_handler(Some(Box::new(move |_: &Command, _: AckType, _: &Error| {
        calls += 1;
        if calls == 1 {
            panic!("undecided");
        }
        true
    })));
    scene.subscribe("a");
    scene.fail_over();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("not entitled").unwrap();
    scene.connection.wait_closed(SOON).unwrap();
    let failure = scene.record.wait_for_failure(ErrorKind::HandlerPanicked, "undecided");
    assert_eq!((failure.origin, manager.len()), (Origin::FailedResubscribeHandler, 1));
    scene.accept_again(&LogonAck::success());
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("not entitled").unwrap();
    scene.settle();
    assert!(manager.is_empty(), "the handler was asked again");
}

/// SM-6, HA-39: the limit is per subscription, and what times out is told like a refusal.
#[test]
fn a_subscription_that_is_not_accepted_in_time_fails_the_attempt() {
    let (mut scene, manager) = managed();
    let asked = decides(&manager, false);
    scene.subscribe("a");
    manager.set_resubscription_timeout(Some(A_WHILE));
    scene.fail_over();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.wait_closed(SOON).unwrap();
    assert_eq!(asked.try_recv().unwrap().2, ErrorKind::TimedOut);
    manager.set_resubscription_timeout(None);
    scene.accept_again(&LogonAck::success());
    assert_eq!(scene.resubscribed(1), ["a"]);
    scene.settle();
}

/// 83, HA-13: no tight loop.
#[test]
fn attempts_that_fail_on_a_subscription_are_spaced_by_the_delay() {
    let delay = Duration::from_millis(150);
    let mut scene = HaScene::of(|builder| builder.reconnect_delay(delay));
    scene.subscribe("a");
    let lost = Instant::now();
    for _ in 0..3 {
        scene.fail_over();
        scene.connection.expect("subscribe", SOON).unwrap();
        scene.connection.reply_failure("not entitled").unwrap();
        scene.connection.wait_closed(SOON).unwrap();
    }
    assert!(lost.elapsed() >= 2 * delay, "{:?}", lost.elapsed());
    scene.accept_again(&LogonAck::success());
    scene.resubscribed(1);
    scene.settle();
    let lost = Instant::now();
    scene.fail_over();
    assert!(lost.elapsed() < delay, "a success starts anew: {:?}", lost.elapsed());
}

/// 82, SM-10, HA-18: the loss is not told to the handler for refusals.
#[test]
fn a_drop_during_the_resubscription_starts_it_anew() {
    let (mut scene, manager) = managed();
    let asked = decides(&manager, true);
    let inboxes = ["a", "b", "c"].map(|id| scene.subscribe(id));
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["a"]);
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.fail_over();
    assert_eq!(scene.resubscribed(3), ["a", "b", "c"]);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "subscribe", "subscribe", "subscribe"]);
    scene.send("a,b,c", "x");
    inboxes.iter().for_each(|inbox| assert_eq!(inbox.payloads(1), ["x"]));
    assert!(asked.try_recv().is_err());
}

/// 97, D-19, SM-9: a plain client whose handler reconnects; the first logon is one too.
#[test]
fn on_a_plain_client_every_logon_places_what_its_manager_remembers() {
    let builder = Client::builder("c").subscription_manager(MemorySubscriptionManager::new());
    let mut scene = Scene::prepared(builder, |_| {});
    scene.reconnect_on_loss();
    let inbox = scene.subscribe("s");
    for n in ["1", "2"] {
        scene.connection.close();
        scene.accept_again();
        assert_eq!(accept(&scene.connection, "subscribe"), "s");
        scene.settle();
        scene.send("s", n);
        assert_eq!(inbox.payloads(1), [n]);
    }
    assert_eq!(scene.record.states().iter().filter(|state| **state == Resubscribed).count(), 3);
}

/// SM-3: what has a handler outlives a close, and comes back with the next logon.
#[test]
fn subscriptions_outlive_a_close() {
    let mut scene = HaScene::logged_on();
    let inbox = scene.subscribe("s");
    scene.client.close();
    let waiting = connecting(&scene.client);
    scene.accept_again(&LogonAck::success());
    assert_eq!(scene.resubscribed(1), ["s"]);
    waiting.wait().unwrap();
    scene.send("s", "x");
    assert_eq!(inbox.payloads(1), ["x"]);
}

/// SM-3, HA-17: and a repair that failed for good.
#[test]
fn subscriptions_outlive_a_repair_that_failed() {
    let chooser = DefaultServerChooser::new();
    let peer = ScriptedPeer::start().unwrap();
    let uris = std::collections::VecDeque::from([Some(peer.uri("json")), None, Some(peer.uri("json"))]);
    struct Listed(std::collections::VecDeque<Option<String>>, DefaultServerChooser);
    impl amps_client::ServerChooser for Listed {
        fn current_uri(&mut self) -> Option<String> {
            self.0.pop_front().flatten()
        }
        fn current_authenticator(&mut self) -> Arc<dyn amps_client::Authenticator> {
            self.1.current_authenticator()
        }
        fn report_failure(&mut self, _: &Error, _: &amps_client::ConnectionInfo) {}
        fn report_success(&mut self, _: &amps_client::ConnectionInfo) {}
    }
    let client = ha_client(&[], |builder| {
        builder.server_chooser(Listed(uris, chooser)).publish_store(MemoryPublishStore::new())
    });
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();
    let (handler, inbox) = inbox();
    let subscribing =
        begin_ha(&client, |client| client.execute_async(Command::subscribe("t").sub_id("s"), handler));
    accept(&first, "subscribe");
    subscribing.wait().unwrap();
    first.close();
    record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let revived = begin_ha(&client, |client| client.publish("t", "x"));
    let second = peer.accept(SOON).unwrap();
    second.expect("logon", SOON).unwrap();
    second.reply_ok().unwrap();
    second.expect("publish", SOON).unwrap();
    assert_eq!(accept(&second, "subscribe"), "s");
    assert!(revived.wait().unwrap() > 0);
    second.send(&publication("s"), "y").unwrap();
    assert_eq!(inbox.payloads(1), ["y"]);
}
