//! Bookmark subscriptions over a failover, with every kind of bookmark store.

use std::sync::Arc;

use amps_client::{BookmarkStore, Command};

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

/// Sends a message whose payload is its bookmark.
fn send(scene: &HaScene, bookmark: &str) {
    let header = format!(r#"{{"c":"p","t":"t","sids":"s","bm":"{bookmark}"}}"#);
    scene.connection.send(&header, bookmark).unwrap();
}
