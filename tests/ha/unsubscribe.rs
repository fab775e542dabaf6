//! Unsubscribing while a client recovers: nothing is left behind, on either side (`resilience` SM-12, SM-13, M-8).

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{Expectation, Frame, LogonAck};
use amps_client::{AckType, Command, Message};

/// Three subscriptions, `a`, `b` and `c`, and the recovery of a loss that has come as far as the answer for `b`.
fn recovering() -> (HaScene, [Inbox; 3]) {
    let mut scene = HaScene::logged_on();
    let inboxes = ["a", "b", "c"].map(|id| scene.subscribe(id));
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["a"]);
    scene.connection.expect(Expectation::command("subscribe").header("sub_id", "b"), SOON).unwrap();
    (scene, inboxes)
}

/// The ids that were subscribed and unsubscribed on this connection, in order.
fn placed_and_ended(scene: &HaScene) -> Vec<String> {
    let frames = scene.connection.frames();
    let told = |frame: &Frame| match frame.command() {
        "subscribe" => Some(format!("+{}", frame.header("sub_id")?)),
        "unsubscribe" => Some(format!("-{}", frame.header("sub_id")?)),
        _ => None,
    };
    frames.iter().filter_map(|received| told(received.frame())).collect()
}

/// Lets the recovery go on, and loses its connection once more: `left` is all that comes back.
fn finish(mut scene: HaScene, outstanding: usize, left: &[&str]) {
    scene.connection.reply_ok().unwrap();
    scene.resubscribed(outstanding);
    scene.settle();
    scene.fail_over();
    assert_eq!(scene.resubscribed(left.len()), left);
    scene.settle();
    assert_eq!(placed_and_ended(&scene).len(), left.len());
}

/// SM-12: what was placed already is taken back when the recovery is over; nobody waits for that.
#[test]
fn unsubscribing_what_was_placed_again_already_is_sent_behind_the_recovery() {
    let (scene, inboxes) = recovering();
    scene.begin(|client| client.unsubscribe("a")).at_once().unwrap();
    scene.send("a", "x");
    scene.connection.reply_ok().unwrap();
    assert_eq!(scene.resubscribed(1), ["c"]);
    scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", "a"), SOON).unwrap();
    scene.settle();
    assert_eq!(placed_and_ended(&scene), ["+a", "+b", "+c", "-a"]);
    assert!(inboxes[0].rest().is_empty());
}

/// SM-12, SM-13: what was not placed yet is not, and nothing comes back.
#[test]
fn unsubscribing_what_was_not_placed_yet_keeps_it_from_being_placed() {
    let (scene, _inboxes) = recovering();
    scene.begin(|client| client.unsubscribe("c")).at_once().unwrap();
    scene.connection.reply_ok().unwrap();
    scene.settle();
    assert!(!placed_and_ended(&scene).contains(&"+c".to_owned()));
    finish_again(scene, &["a", "b"]);
}

fn finish_again(mut scene: HaScene, left: &[&str]) {
    scene.fail_over();
    assert_eq!(scene.resubscribed(left.len()), left);
    scene.settle();
    assert_eq!(placed_and_ended(&scene).len(), left.len());
}

/// SM-12: the one whose answer is awaited.
#[test]
fn unsubscribing_what_is_being_placed_takes_it_back() {
    let (scene, inboxes) = recovering();
    scene.begin(|client| client.unsubscribe("b")).at_once().unwrap();
    scene.connection.reply_ok().unwrap();
    scene.connection.skip_to("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.send("b", "x");
    scene.settle();
    let seen = placed_and_ended(&scene);
    // Whoever places it and whoever ends it may both say so.
    assert!(seen.iter().filter(|change| *change == "-b").count() >= 1, "{seen:?}");
    let placed: Vec<_> = seen.iter().filter(|change| *change != "-b").collect();
    assert_eq!(placed, ["+a", "+b", "+c"]);
    assert!(inboxes[1].rest().is_empty());
    finish_again(scene, &["a", "c"]);
}

/// SM-12, T-6: from a handler on the receive thread, which must not wait for the thread that repairs.
#[test]
fn a_handler_may_unsubscribe_during_the_recovery() {
    let mut scene = HaScene::logged_on();
    let weak = scene.client.downgrade();
    let (done, outcome) = std::sync::mpsc::channel();
    scene.subscribe_with("a", move |_: &Message| {
        let client = weak.upgrade().expect("the test holds it");
        done.send(client.unsubscribe("a")).unwrap();
    });
    let _inboxes = ["b", "c"].map(|id| scene.subscribe(id));
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["a"]);
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.send("a", "x");
    outcome.recv_timeout(SOON).unwrap().unwrap();
    scene.send("a", "y");
    finish(scene, 1, &["b", "c"]);
    assert!(outcome.try_recv().is_err(), "no later message reaches it");
}

/// SM-3, SM-12: everything at once.
#[test]
fn unsubscribing_all_during_the_recovery_leaves_nothing() {
    let (scene, inboxes) = recovering();
    scene.begin(|client| client.unsubscribe_all()).at_once().unwrap();
    scene.connection.reply_ok().unwrap();
    scene.connection.skip_to(Expectation::command("unsubscribe").header("sub_id", "all"), SOON).unwrap();
    scene.send("a,b,c", "x");
    scene.settle();
    assert!(inboxes.iter().all(|inbox| inbox.rest().is_empty()));
    finish_again(scene, &[]);
}

/// SM-12, M-32: a stream that is dropped while it is placed again.
#[test]
fn dropping_a_stream_during_the_recovery_takes_it_back() {
    let mut scene = HaScene::logged_on();
    let stream = scene.accepted("subscribe", |client| client.execute(Command::subscribe("t").sub_id("s")));
    let _inbox = scene.subscribe("b");
    scene.fail_over();
    assert_eq!(scene.resubscribed(1), ["s"]);
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.begin(move |_| drop(stream)).at_once();
    scene.connection.reply_ok().unwrap();
    scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", "s"), SOON).unwrap();
    scene.settle();
    assert!(scene.record.failures().is_empty(), "{:?}", scene.record.story());
    finish_again(scene, &["b"]);
}

/// SM-12: a subscription that is entered meanwhile comes behind, also under the id of one that was just ended.
#[test]
fn an_id_that_was_unsubscribed_during_the_recovery_can_be_used_again() {
    let (scene, inboxes) = recovering();
    scene.begin(|client| client.unsubscribe("a")).at_once().unwrap();
    let (handler, inbox) = inbox();
    let again = Command::subscribe("t").sub_id("a").filter("/again = 1");
    let waiting = scene.begin(|client| client.execute_async(again, handler));
    assert!(waiting.is_waiting());
    scene.connection.reply_ok().unwrap();
    assert_eq!(scene.resubscribed(1), ["c"]);
    scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", "a"), SOON).unwrap();
    scene.connection.expect(Expectation::command("subscribe").header("filter", "/again = 1"), SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    assert_eq!(waiting.wait().unwrap(), "a");
    scene.send("a", "x");
    assert_eq!(inbox.payloads(1), ["x"]);
    assert!(inboxes[0].rest().is_empty());
}

/// SM-12: the connection goes before the recovery is over; there is nothing to take back on the next one.
#[test]
fn a_drop_behind_an_unsubscribe_during_the_recovery_changes_nothing() {
    let (mut scene, _inboxes) = recovering();
    scene.begin(|client| client.unsubscribe("a")).at_once().unwrap();
    scene.connection.close();
    scene.accept_again(&LogonAck::success());
    assert_eq!(scene.resubscribed(2), ["b", "c"]);
    scene.settle();
    assert_eq!(placed_and_ended(&scene), ["+b", "+c"]);
}

/// M-8: neither its query nor its command reaches a handler that was unsubscribed.
#[test]
fn nothing_of_an_unsubscribed_subscription_reaches_its_handler() {
    let mut scene = HaScene::logged_on();
    let (handler, inbox) = inbox();
    let command = Command::sow_and_subscribe("t")
        .sub_id("s")
        .query_id("q")
        .command_id("c")
        .ack_type(AckType::COMPLETED);
    scene.accepted("sow_and_subscribe", |client| client.execute_async(command, handler));
    for round in 0..2 {
        if round == 1 {
            scene.fail_over();
            accept(&scene.connection, "sow_and_subscribe");
        }
        scene.connection.reply(r#"{"c":"group_begin","query_id":"q"}"#).unwrap();
        scene.connection.reply(r#"{"c":"ack","cid":"{cid}","a":"completed","status":"success"}"#).unwrap();
        let seen = [inbox.next(), inbox.next()];
        assert_eq!(seen.map(|message| message.command().to_string()), ["group_begin", "ack"], "{round}");
    }
    scene.client.unsubscribe("s").unwrap();
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"q","bs":1}"#, r#"{"l":1}x"#).unwrap();
    scene.connection.reply(r#"{"c":"ack","cid":"{cid}","a":"completed","status":"success"}"#).unwrap();
    scene.settle();
    assert!(inbox.rest().is_empty());
}
