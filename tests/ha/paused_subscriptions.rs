//! Subscriptions that are paused and resumed together come back together (`resilience` SM-14 to SM-17).

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{Expectation, LogonAck};
use amps_client::{Command, Message};

/// Places a subscription of the log at this point, paused.
fn paused(scene: &HaScene, id: &str, bookmark: &str) -> Inbox {
    let (handler, inbox) = inbox();
    let command = Command::subscribe("t").sub_id(id).bookmark(bookmark).options("pause");
    scene.accepted("subscribe", |client| client.execute_async(command, handler));
    inbox
}

/// Sends an option for subscriptions that are there.
fn tell(scene: &HaScene, ids: &str, options: &str) {
    let command = Command::subscribe("t").sub_id(ids).options(options);
    scene.accepted("subscribe", |client| client.execute_async(command, |_: &Message| {}));
}

fn subscribe(id: &str, options: &str) -> Expectation {
    Expectation::command("subscribe").header("sub_id", id).header("o", options)
}

/// 98, SM-8, SM-16: from the lowest point of each publisher, and then one resume for all.
#[test]
fn what_was_resumed_together_starts_at_one_point_and_is_resumed_together() {
    let mut scene = HaScene::logged_on();
    let inboxes = [paused(&scene, "a", "1|5|,2|4|"), paused(&scene, "b", "1|3|,2|9|")];
    let plain = scene.subscribe("plain");
    tell(&scene, "a,b", "resume");
    for _ in 0..2 {
        scene.fail_over();
        for id in ["a", "b"] {
            scene.connection.expect(subscribe(id, "pause").header("bookmark", "1|3|,2|4|"), SOON).unwrap();
            scene.connection.reply_ok().unwrap();
        }
        scene.connection.expect(Expectation::command("subscribe").header("sub_id", "plain"), SOON).unwrap();
        scene.connection.reply_ok().unwrap();
        scene.connection.expect(subscribe("a,b", "resume").without("bookmark"), SOON).unwrap();
        scene.connection.reply_ok().unwrap();
        scene.settle();
        scene.send("a,b,plain", "x");
        inboxes.iter().chain([&plain]).for_each(|inbox| assert_eq!(inbox.payloads(1), ["x"]));
    }
}

/// SM-14, SM-16: a running subscription is paused as it is, and comes back paused.
#[test]
fn a_subscription_that_is_paused_later_comes_back_paused() {
    let mut scene = HaScene::logged_on();
    let (handler, inbox) = inbox();
    let command = Command::subscribe("t").sub_id("a").bookmark("1|5|").options("live");
    scene.accepted("subscribe", |client| client.execute_async(command, handler));
    tell(&scene, "a", "pause");
    scene.fail_over();
    scene.connection.expect(subscribe("a", "pause,live").header("bookmark", "1|5|"), SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.settle();
    tell(&scene, "a", "resume");
    scene.send("a", "x");
    assert_eq!(inbox.payloads(1), ["x"]);
    scene.fail_over();
    scene.connection.expect(subscribe("a", "pause,live"), SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.connection.expect(subscribe("a", "resume"), SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.settle();
}

/// SM-14: with `replace` it is replaced, and keeps its handler.
#[test]
fn pausing_with_replace_replaces_the_subscription() {
    let mut scene = HaScene::logged_on();
    let inbox = paused(&scene, "a", "1|5|");
    let command =
        Command::subscribe("t").sub_id("a").bookmark("1|7|").filter("/x = 1").options("replace,pause");
    let (handler, other) = self::inbox();
    scene.accepted("subscribe", |client| client.execute_async(command, handler));
    scene.fail_over();
    let wanted = subscribe("a", "pause").header("bookmark", "1|7|").header("filter", "/x = 1");
    scene.connection.expect(wanted, SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.send("a", "x");
    scene.settle();
    assert_eq!((inbox.payloads(1), other.rest().len()), (vec!["x".to_owned()], 0));
}

/// SM-14: several at once, none of which was there: each is a subscription of its own, with this handler.
#[test]
fn a_list_of_new_subscriptions_is_entered_one_by_one() {
    let mut scene = HaScene::logged_on();
    let inbox = paused(&scene, "a,b", "1|5|");
    scene.send("a,b", "before");
    assert_eq!(inbox.payloads(2), ["before", "before"]);
    scene.fail_over();
    for id in ["a", "b"] {
        scene.connection.expect(subscribe(id, "pause").header("bookmark", "1|5|"), SOON).unwrap();
        scene.connection.reply_ok().unwrap();
    }
    scene.send("a,b", "after");
    let next = [inbox.next(), inbox.next()];
    assert_eq!(
        next.map(|message| message.sub_id().map(str::to_owned)),
        ["a", "b"].map(|id| Some(id.to_owned()))
    );
    scene.client.unsubscribe("a").unwrap();
    scene.send("a", "gone");
    scene.settle();
    assert!(inbox.rest().is_empty());
}

/// SM-14, SM-15, SM-17: who is paused or unsubscribed leaves the group, and nobody is in two.
#[test]
fn a_group_loses_whoever_is_paused_or_unsubscribed_and_ends_with_the_last() {
    let mut scene = HaScene::logged_on();
    let _inboxes = ["a", "b", "c", "d"].map(|id| paused(&scene, id, "1|5|"));
    tell(&scene, "a,b,c", "resume");
    tell(&scene, "c,d", "resume");
    tell(&scene, "b", "pause");
    scene.client.unsubscribe("a").unwrap();
    scene.fail_over();
    let resumed = |scene: &HaScene, members: &[&str], groups: &[&str]| {
        let ids: Vec<String> = scene.resubscribed(members.len() + groups.len());
        assert_eq!(ids, [members, groups].concat());
    };
    resumed(&scene, &["b", "c", "d"], &["c", "d"]);
    scene.settle();
    scene.client.unsubscribe("c").unwrap();
    scene.client.unsubscribe("d").unwrap();
    scene.fail_over();
    resumed(&scene, &["b"], &[]);
    scene.settle();
}

/// SM-16: what has no point of its own does not hold the others back.
#[test]
fn a_drop_between_the_members_and_their_resume_starts_the_group_anew() {
    let mut scene = HaScene::logged_on();
    let _inboxes = [paused(&scene, "a", "1|5|"), paused(&scene, "b", "1|3|")];
    tell(&scene, "a,b", "resume");
    scene.fail_over();
    assert_eq!(scene.resubscribed(2), ["a", "b"]);
    scene.connection.expect(subscribe("a,b", "resume"), SOON).unwrap();
    scene.connection.close();
    scene.accept_again(&LogonAck::success());
    assert_eq!(scene.resubscribed(3), ["a", "b", "a,b"]);
    scene.settle();
}
