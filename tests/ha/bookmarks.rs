//! Bookmark subscriptions over a failover, with every kind of bookmark store.

use std::sync::Arc;

use amps_client::{BookmarkStore, Command, MemoryBookmarkStore};

use crate::support::TempDir;
use crate::support::bookmark_stores::Kind;
use crate::support::client::*;
use crate::support::ha::*;

/// 95, 120, SM-7, BS-4, M-10: it goes on behind what was discarded, and what was discarded does not come again.
#[test]
fn a_subscription_goes_on_behind_what_was_discarded() {
    for kind in Kind::ALL {
        let dir = TempDir::new();
        let store: Arc<dyn BookmarkStore> = Arc::from(kind.open(&dir));
        let shared = Arc::clone(&store);
        let mut scene = HaScene::of(move |builder| builder.bookmark_store(shared));
        let (duplicates, known) = inbox();
        scene.client.set_duplicate_handler(duplicates);
        let (handler, inbox) = inbox();
        let command = Command::subscribe("t").sub_id("s").bookmark("recent");
        scene.accepted("subscribe", move |client| client.execute_async(command, handler));
        ["1|1|", "1|2|", "1|3|"].iter().for_each(|bookmark| send(&scene, bookmark));
        let first = inbox.next();
        assert_eq!(inbox.payloads(2), ["1|2|", "1|3|"], "{kind:?}");
        scene.client.discard(&first).unwrap();
        assert_eq!(store.most_recent("s").unwrap().as_str(), "1|1|", "{kind:?}");

        scene.fail_over();
        let placed = scene.connection.expect("subscribe", SOON).unwrap();
        assert_eq!(
            (placed.header("sub_id"), placed.header("bookmark")),
            (Some("s"), Some("1|1|")),
            "{kind:?}"
        );
        scene.connection.reply_ok().unwrap();
        ["1|1|", "1|2|", "1|3|", "1|4|"].iter().for_each(|bookmark| send(&scene, bookmark));
        assert_eq!(inbox.payloads(3), ["1|2|", "1|3|", "1|4|"], "{kind:?}");
        assert_eq!(known.payloads(1), ["1|1|"], "{kind:?}");
        assert!(inbox.rest().is_empty() && known.rest().is_empty(), "{kind:?}");
    }
}

/// BS-17: it comes again, and would otherwise hide the newer one until that comes again too.
#[test]
fn what_comes_again_to_a_conflated_stream_does_not_take_the_place_of_a_newer_message() {
    let store = Arc::new(MemoryBookmarkStore::new());
    let shared = Arc::clone(&store);
    let mut scene = HaScene::of(move |builder| builder.bookmark_store(shared));
    let command = Command::subscribe("t").sub_id("s").bookmark("recent");
    let mut stream = scene.accepted("subscribe", move |client| client.execute(command));
    stream.conflate().unwrap();
    ["1|1|", "1|2|"].iter().for_each(|bookmark| send(&scene, bookmark));
    let ack = r#"{"c":"ack","sub_id":"s","bm":"1|2|","a":"persisted","status":"success"}"#;
    scene.connection.send(ack, "").unwrap();
    scene.settle();
    assert_eq!((stream.depth(), store.outstanding("s")), (1, 2));

    scene.fail_over();
    let placed = scene.connection.expect("subscribe", SOON).unwrap();
    assert_eq!(placed.header("bookmark"), Some("0"), "nobody is done with the first");
    scene.connection.reply_ok().unwrap();
    send(&scene, "1|1|");
    scene.settle();
    let newest = stream.next_timeout(SOON).unwrap().unwrap();
    assert_eq!((newest.data(), newest.bookmark_seq(), stream.depth()), (&b"1|2|"[..], 2, 0));
    assert_eq!(store.outstanding("s"), 2);
}

/// Sends a message of the same key whose payload is its bookmark.
fn send(scene: &HaScene, bookmark: &str) {
    let header = format!(r#"{{"c":"p","t":"t","sids":"s","bm":"{bookmark}","k":"1"}}"#);
    scene.connection.send(&header, bookmark).unwrap();
}
