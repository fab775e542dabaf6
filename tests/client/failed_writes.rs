//! What the server says about stored writes (`resilience` section 5.4).

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::support::client::*;
use crate::support::ha::{HaScene, persisted};
use amps_client::testing::{Expectation, LogonAck};
use amps_client::{
    AckType, Client, CommandType, GlobalKind, MemoryPublishStore, Message, Origin, PublishOptions,
    PublishStore, Status,
};

/// A client with a store, which the test can look at.
fn with_store() -> (Scene, Arc<MemoryPublishStore>) {
    let store = Arc::new(MemoryPublishStore::new());
    (Scene::prepared(Client::builder("c").publish_store(Arc::clone(&store)), |_| {}), store)
}

/// Has the failed-write handler tell what it is told.
fn failed_writes(client: &Client) -> Receiver<(Message, String)> {
    let (sender, told) = mpsc::channel();
    client.set_failed_write_handler(move |message: &Message, reason: &str| {
        sender.send((message.clone(), reason.to_owned()))
    });
    told
}

fn last_chance(client: &Client) -> Inbox {
    let (handler, inbox) = inbox();
    client.set_last_chance_handler(handler);
    inbox
}

/// The server refuses the write with this number.
fn refuse(scene: &Scene, sequence: u64, reason: &str) {
    let status = if reason == "duplicate" { "success" } else { "failure" };
    let ack =
        format!(r#"{{"c":"ack","a":"persisted","s":{sequence},"status":"{status}","reason":"{reason}"}}"#);
    scene.connection.send(&ack, b"").unwrap();
}

/// Returns when what was sent to the client has been looked at; the store may still hold something.
fn delivered(scene: &Scene) {
    let (handler, inbox) = inbox();
    scene.client.set_global_handler(GlobalKind::Heartbeat, handler);
    scene.connection.send(r#"{"c":"heartbeat"}"#, b"").unwrap();
    inbox.next();
}

/// 53, M-13, M-14: the message as it was stored, and the count.
#[test]
fn a_refused_write_is_told_with_its_message_and_leaves_the_store() {
    let (scene, store) = with_store();
    let told = failed_writes(&scene.client);
    let numbers: Vec<u64> = (1..=3).map(|n| scene.client.publish("t", n.to_string()).unwrap()).collect();
    refuse(&scene, numbers[1], "not entitled");
    let (message, reason) = told.recv_timeout(SOON).unwrap();
    assert_eq!(
        (message.topic(), message.data(), message.sequence()),
        (Some("t"), &b"2"[..], Some(numbers[1]))
    );
    assert_eq!(reason, "not entitled");
    delivered(&scene);
    assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (1, Some(numbers[2])));
    assert!(told.try_recv().is_err());
}

/// M-13, PS-13: whatever went along is there.
#[test]
fn the_message_of_a_refused_write_is_complete() {
    let (scene, _store) = with_store();
    let told = failed_writes(&scene.client);
    let options =
        PublishOptions::new().sow_key("k").correlation_id("QQ==").expiration(Duration::from_secs(9));
    let number = scene.client.publish_with("orders", "data", &options).unwrap();
    refuse(&scene, number, "sow store failed");
    let (message, reason) = told.recv_timeout(SOON).unwrap();
    assert_eq!(reason, "sow store failed");
    assert_eq!(message.command(), CommandType::Publish);
    assert_eq!((message.topic(), message.data()), (Some("orders"), &b"data"[..]));
    assert_eq!((message.sow_key(), message.correlation_id()), (Some("k"), Some("QQ==")));
    assert_eq!((message.sequence(), message.expiration()), (Some(number), Some(9)));

    let number = scene.client.delta_publish("orders", "delta").unwrap();
    refuse(&scene, number, "tx store failure");
    let (message, _) = told.recv_timeout(SOON).unwrap();
    assert_eq!((message.command(), message.data()), (CommandType::DeltaPublish, &b"delta"[..]));

    let delete = scene.begin(|client| client.sow_delete_by_keys("orders", "1,2"));
    let sent = scene.connection.skip_to("sow_delete", SOON).unwrap();
    refuse(&scene, sent.header("s").unwrap().parse().unwrap(), "not entitled");
    let (message, _) = told.recv_timeout(SOON).unwrap();
    assert_eq!((message.command(), message.sow_keys()), (CommandType::SowDelete, Some("1,2")));
    scene.connection.reply_failure("not entitled").unwrap();
    delete.wait().unwrap_err();
}

/// 55, M-13: the store has let go of it.
#[test]
fn a_second_refusal_of_the_same_write_is_told_without_a_message() {
    let (scene, store) = with_store();
    let told = failed_writes(&scene.client);
    let numbers = ["1", "2"].map(|data| scene.client.publish("t", data).unwrap());
    refuse(&scene, numbers[0], "not entitled");
    assert_eq!(told.recv_timeout(SOON).unwrap().0.data(), b"1");
    refuse(&scene, numbers[0], "duplicate");
    let (message, reason) = told.recv_timeout(SOON).unwrap();
    assert_eq!((message.topic(), message.data(), message.sequence()), (None, &b""[..], Some(numbers[0])));
    assert_eq!(reason, "duplicate");
    delivered(&scene);
    assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (1, Some(numbers[1])));
}

/// 56, M-17: the server has it already, from before the loss.
#[test]
fn a_write_that_was_sent_again_in_vain_is_told_as_a_duplicate_once() {
    let store = Arc::new(MemoryPublishStore::new());
    let shared = Arc::clone(&store);
    let mut scene = HaScene::of(|builder| builder.publish_store(shared));
    let told = failed_writes(&scene.client);
    let number = scene.client.publish("t", "x").unwrap();
    scene.connection.expect("publish", SOON).unwrap();
    scene.fail_over();
    scene.connection.expect(Expectation::command("publish").header("s", number.to_string()), SOON).unwrap();
    let ack = r#"{"c":"ack","a":"persisted","s":{s},"status":"success","reason":"duplicate"}"#;
    scene.connection.reply(ack).unwrap();
    let (message, reason) = told.recv_timeout(SOON).unwrap();
    assert_eq!((message.data(), reason.as_str()), (&b"x"[..], "duplicate"));
    scene.settle();
    assert_eq!(store.unpersisted_count(), 0);
    scene.fail_over();
    scene.settle();
    assert_eq!(scene.commands(), ["logon"]);
    assert!(told.try_recv().is_err());
}

/// 52, M-15: with a store and without a handler the acknowledgement itself goes to the last chance.
#[test]
fn without_a_handler_a_refusal_goes_to_the_last_chance_also_with_a_store() {
    let (scene, store) = with_store();
    let inbox = last_chance(&scene.client);
    let number = scene.client.publish("t", "x").unwrap();
    for reason in ["not entitled", "duplicate"] {
        refuse(&scene, number, reason);
        let ack = inbox.next();
        assert_eq!((ack.command(), ack.ack_type()), (CommandType::Ack, AckType::PERSISTED));
        assert_eq!((ack.sequence(), ack.reason()), (Some(number), Some(reason)));
        assert_eq!(ack.status() == Status::Success, reason == "duplicate");
        assert!(ack.data().is_empty());
    }
    assert_eq!(store.unpersisted_count(), 0);
}

/// 57, 58, M-18: an acknowledgement covers everything up to its number, and an old one nothing.
#[test]
fn a_success_covers_all_before_it_and_an_old_one_nothing() {
    let (scene, store) = with_store();
    let told = failed_writes(&scene.client);
    let numbers: Vec<u64> = (0..7).map(|n| scene.client.publish("t", n.to_string()).unwrap()).collect();
    for (acked, left) in [(1, 5), (4, 2), (2, 2), (0, 2), (4, 2), (6, 0), (1, 0)] {
        persisted(&scene.connection, numbers[acked]);
        delivered(&scene);
        assert_eq!(store.unpersisted_count(), left, "after the acknowledgement of {acked}");
    }
    persisted(&scene.connection, 1);
    delivered(&scene);
    assert_eq!(store.last_persisted(), numbers[6]);
    assert!(told.try_recv().is_err());
    assert!(scene.record.failures().is_empty());
}

/// 23, X-8, M-14: whatever goes wrong in the handler is reported, and the message leaves the store all the same.
#[test]
fn a_handler_that_fails_is_reported_and_the_message_leaves_the_store() {
    let (scene, store) = with_store();
    let mut calls = 0;
    scene.client.set_failed_write_handler(move |_: &Message, _: &str| {
        calls += 1;
        if calls == 2 {
            panic!("and again");
        }
        Err::<(), _>("not my fault")
    });
    for (n, text) in ["not my fault", "and again"].into_iter().enumerate() {
        let number = scene.client.publish("t", "x").unwrap();
        refuse(&scene, number, "not entitled");
        let failure = scene.record.wait_for_failures(n + 1).remove(n);
        assert_eq!(failure.origin, Origin::FailedWriteHandler);
        assert!(failure.error.to_string().contains(text), "{}", failure.error);
        delivered(&scene);
        assert_eq!(store.unpersisted_count(), 0);
    }
}

/// M-14, T-6: trying again is the application's choice, and possible in the handler.
#[test]
fn a_handler_may_publish_the_refused_message_again() {
    let (scene, store) = with_store();
    let (weak, (sender, again)) = (scene.client.downgrade(), mpsc::channel());
    scene.client.set_failed_write_handler(move |message: &Message, _: &str| {
        let client = weak.upgrade().expect("the test holds it");
        sender.send(client.publish("second", message.data())).unwrap();
    });
    let number = scene.client.publish("first", "x").unwrap();
    refuse(&scene, number, "not entitled");
    let second = again.recv_timeout(SOON).unwrap().unwrap();
    assert_eq!(second, number + 1);
    let sent = scene.connection.skip_to(Expectation::command("publish").header("t", "second"), SOON).unwrap();
    assert_eq!((sent.payload(), sent.header("s")), (&b"x"[..], Some(second.to_string().as_str())));
    delivered(&scene);
    assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (1, Some(second)));
}

/// M-13, M-19: a publisher without a store that asked for the acknowledgement, from a server that gives no number.
#[test]
fn a_refusal_without_a_number_is_told_with_an_empty_message() {
    let scene = Scene::logged_on("c");
    let told = failed_writes(&scene.client);
    let inbox = last_chance(&scene.client);
    scene
        .connection
        .send(r#"{"c":"ack","a":"persisted","status":"failure","reason":"bad data"}"#, b"")
        .unwrap();
    let (message, reason) = told.recv_timeout(SOON).unwrap();
    assert_eq!((message.topic(), message.data(), message.sequence()), (None, &b""[..], None));
    assert_eq!(reason, "bad data");
    scene.settle();
    assert!(inbox.rest().is_empty());
}

/// M-12: what answers a flush is no write.
#[test]
fn a_refused_flush_is_told_to_its_caller_only() {
    let scene = Scene::logged_on("c");
    let told = failed_writes(&scene.client);
    let flush = scene.begin(|client| client.publish_flush_with(AckType::PERSISTED, None));
    scene.connection.expect("flush", SOON).unwrap();
    scene
        .connection
        .reply(r#"{"c":"ack","cid":"{cid}","a":"persisted","status":"failure","reason":"no"}"#)
        .unwrap();
    flush.wait().unwrap_err();
    scene.settle();
    assert!(told.try_recv().is_err());
}

/// M-20: it belongs to a subscription, and the store of publishes is not concerned.
#[test]
fn an_acknowledgement_of_a_subscription_concerns_no_write() {
    let (scene, store) = with_store();
    let told = failed_writes(&scene.client);
    let _inbox = scene.subscribe("s");
    scene.client.publish("t", "x").unwrap();
    for id in ["s", "gone"] {
        let ack = format!(r#"{{"c":"ack","a":"persisted","sub_id":"{id}","bm":"1|9|","status":"success"}}"#);
        scene.connection.send(&ack, b"").unwrap();
    }
    delivered(&scene);
    assert_eq!(store.unpersisted_count(), 1);
    assert!(told.try_recv().is_err() && scene.record.failures().is_empty());
}

/// M-19: without a store nobody asks for persisted acknowledgements.
#[test]
fn without_a_store_no_persisted_acknowledgement_is_asked_for() {
    let scene = Scene::logged_on("c");
    assert_eq!(scene.client.publish("t", "x").unwrap(), 0);
    let sent = scene.connection.expect("publish", SOON).unwrap();
    assert_eq!((sent.header("a"), sent.header("s")), (None, None));
}

/// M-17: over a logon that tells how far the server has come, what it has is not even sent again.
#[test]
fn what_the_server_has_at_logon_is_neither_sent_nor_told() {
    let store = Arc::new(MemoryPublishStore::new());
    let shared = Arc::clone(&store);
    let mut scene = HaScene::of(|builder| builder.publish_store(shared));
    let told = failed_writes(&scene.client);
    let numbers = ["1", "2"].map(|data| scene.client.publish("t", data).unwrap());
    scene.fail_over_with(&LogonAck::success().sequence(numbers[0]));
    let resent = scene.connection.expect("publish", SOON).unwrap();
    assert_eq!(resent.header("s"), Some(numbers[1].to_string().as_str()));
    persisted(&scene.connection, numbers[1]);
    scene.settle();
    assert_eq!((store.unpersisted_count(), told.try_recv().is_err()), (0, true));
}
