//! Queue acknowledgements with a publish store, and beside a bookmark store.

use std::sync::Arc;
use std::time::Duration;

use crate::support::client::*;
use crate::support::ha::{HaScene, persisted};
use crate::support::queue::lend;
use amps_client::testing::{LogonAck, PeerConnection};
use amps_client::{
    AckOption, BookmarkStore, Client, Command, MemoryBookmarkStore, MemoryPublishStore,
    MemorySubscriptionManager, Message, PublishStore,
};

/// Expects an acknowledgement with everything that a store adds, and returns its number.
#[track_caller]
fn expect_stored(connection: &PeerConnection, bookmarks: &str, option: &str) -> u64 {
    let frame = connection.expect("sow_delete", SOON).expect("an acknowledgement");
    let sequence = frame.header("s").expect("a number").parse().expect("digits");
    let options = if option.is_empty() { String::new() } else { format!(r#","o":"{option}""#) };
    let expected = format!(
        r#"{{"c":"sow_delete","t":"q","cid":"AMPS-queue-ack","a":"persisted","s":{sequence},"bookmark":"{bookmarks}"{options}}}"#
    );
    assert_eq!(frame.header_text(), expected);
    sequence
}

fn with_store() -> (HaScene, Arc<MemoryPublishStore>) {
    let store = Arc::new(MemoryPublishStore::new());
    let shared = Arc::clone(&store);
    (HaScene::of(|builder| builder.publish_store(shared)), store)
}

/// Q-1, PS-1.
#[test]
fn with_a_store_an_acknowledgement_has_a_number_and_asks_for_persisted() {
    let (scene, store) = with_store();
    let published = scene.client.publish("t", "x").unwrap();
    scene.connection.expect("publish", SOON).unwrap();
    scene.client.set_ack_batch_size(2);
    scene.client.ack("q", "1|1|").unwrap();
    assert_eq!(store.unpersisted_count(), 1, "it is stored when it is sent");
    scene.client.ack("q", "1|2|").unwrap();
    assert_eq!(expect_stored(&scene.connection, "1|1|,1|2|", ""), published + 1);
    scene.client.ack_with("q", "1|3|", AckOption::Cancel).unwrap();
    assert_eq!(expect_stored(&scene.connection, "1|3|", "cancel"), published + 2);
    persisted(&scene.connection, published + 2);
    store.flush(Some(SOON)).unwrap();
}

/// 111, PS-12.
#[test]
fn a_stored_acknowledgement_is_sent_again_after_a_loss_and_a_cancel_is_not() {
    let (mut scene, store) = with_store();
    scene.client.ack("q", "1|1|").unwrap();
    scene.client.ack_with("q", "1|2|", AckOption::Cancel).unwrap();
    scene.client.ack_with("q", "1|3|", AckOption::Expire).unwrap();
    let first = expect_stored(&scene.connection, "1|1|", "");
    expect_stored(&scene.connection, "1|2|", "cancel");
    expect_stored(&scene.connection, "1|3|", "expire");
    scene.fail_over_with(&LogonAck::success().sequence(first - 1));
    assert_eq!(expect_stored(&scene.connection, "1|1|", ""), first);
    assert_eq!(expect_stored(&scene.connection, "1|3|", "expire"), first + 2);
    assert_eq!(store.unpersisted_count(), 3);
    persisted(&scene.connection, first + 2);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "sow_delete", "sow_delete"]);
}

/// PS-1: the loss of the connection is no error of the call.
#[test]
fn what_is_acknowledged_in_an_outage_is_stored() {
    let (mut scene, store) = with_store();
    scene.peer.refuse().unwrap();
    scene.connection.close();
    scene.connection.wait_closed(SOON).unwrap();
    scene.client.ack("q", "1|1|").unwrap();
    assert_eq!(store.unpersisted_count(), 1);
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    let stored = expect_stored(&scene.connection, "1|1|", "");
    persisted(&scene.connection, stored);
    store.flush(Some(SOON)).unwrap();
    scene.client.set_ack_batch_size(10);
    scene.client.set_ack_timeout(Duration::from_secs(3600)).unwrap();
    scene.client.ack("q", "1|2|").unwrap();
    scene.fail_over();
    assert_eq!(expect_stored(&scene.connection, "1|2|", ""), stored + 1);
}

/// 130, BS-8.
#[test]
fn the_bookmark_store_never_sees_a_message_with_a_lease() {
    for auto_ack in [false, true] {
        let store = Arc::new(MemoryBookmarkStore::new());
        let builder = Client::builder("c")
            .bookmark_store(Arc::clone(&store))
            .subscription_manager(MemorySubscriptionManager::new());
        let scene = Scene::prepared(builder, |client| client.set_auto_ack(auto_ack));
        let inbox = scene.subscribe("Q");
        let mut messages =
            scene.accepted("subscribe", |client| client.execute(Command::subscribe("q").sub_id("S")));
        lend(&scene.connection, 1);
        let message: Message = inbox.next();
        assert_eq!((message.bookmark(), message.bookmark_seq()), (Some("1|1|"), 0));
        let header = r#"{"c":"p","t":"q","bm":"1|2|","lp":"20300102T030405.123456Z","sids":"S"}"#;
        scene.connection.send(header, "2").unwrap();
        assert_eq!(messages.next().unwrap().unwrap().bookmark_seq(), 0);
        assert_eq!((store.outstanding("Q"), store.outstanding("S")), (0, 0), "{auto_ack}");
    }
}
