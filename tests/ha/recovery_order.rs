//! What a recovery sends, and in which order (`resilience` HA-20, HA-21).

use std::time::Duration;

use amps_client::MemoryPublishStore;

use crate::support::client::*;
use crate::support::ha::*;

/// 87, HA-20, HA-21, D-16: whoever else wants something waits until it is over.
#[test]
fn a_recovery_sends_logon_heartbeat_publishes_and_subscriptions_and_nothing_between() {
    let build = |builder: amps_client::HAClientBuilder| builder.publish_store(MemoryPublishStore::new());
    let mut scene = HaScene::prepared(build, |client| client.set_heartbeat(Duration::from_secs(60)).unwrap());
    scene.connection.expect("heartbeat", SOON).unwrap();
    scene.subscribe("u");
    scene.subscribe("v");
    let sequences = ["1", "2", "3"].map(|data| scene.client.publish("t", data).unwrap());
    scene.connection.skip_to(|frame: &amps_client::testing::Frame| frame.payload() == b"3", SOON).unwrap();

    scene.connection.close();
    scene.connection = scene.peer.accept(SOON).unwrap();
    scene.connection.expect("logon", SOON).unwrap();
    let query = scene.begin(|client| client.sow("t", "").map(drop));
    let publish = scene.client.publish("t", "4").unwrap();
    assert!(query.is_waiting());
    scene.connection.reply_ok().unwrap();
    let start = scene.connection.expect("heartbeat", SOON).unwrap();
    assert_eq!(start.header("o"), Some("start,60"));
    for sequence in sequences.into_iter().chain([publish]) {
        let frame = scene.connection.expect("publish", SOON).unwrap();
        assert_eq!(frame.header("s"), Some(&*sequence.to_string()));
    }
    for id in ["u", "v"] {
        assert!(query.is_waiting());
        assert_eq!(accept(&scene.connection, "subscribe"), id);
    }
    accept(&scene.connection, "sow");
    query.wait().unwrap();
}
