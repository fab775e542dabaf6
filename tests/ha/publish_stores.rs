//! What an `HAClient` does with its publish store, whatever kind it is (`resilience` section 9).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use amps_client::testing::LogonAck;
use amps_client::{Command, PublishOptions, PublishStore};

use crate::support::TempDir;
use crate::support::client::*;
use crate::support::ha::*;
use crate::support::publish_stores::{File, Hybrid, Kind, Memory, publish};

const KINDS: [&dyn Kind; 3] = [&Memory, &File, &Hybrid];
/// The threads that publish, and how much each of them does in an outage, and then while the store is replayed.
const THREADS: usize = 4;
const IN_THE_OUTAGE: usize = 250;
const DURING_THE_REPLAY: usize = 50;

/// Goes through the kinds of stores.
fn with_each(test: impl Fn(&str, &Arc<dyn PublishStore>)) {
    for kind in KINDS {
        let dir = TempDir::new();
        test(kind.name(), &Arc::from(kind.open(&dir)));
    }
}

fn scene_with(store: &Arc<dyn PublishStore>) -> HaScene {
    HaScene::of(|builder| builder.publish_store(Arc::clone(store)))
}

/// Returns when everything that the client has sent has arrived. A flush would wait for the store.
fn all_has_come(scene: &HaScene) {
    scene.begin(|client| client.send(&Command::flush())).wait().unwrap();
    scene.connection.skip_to("flush", SOON).unwrap();
}

/// 101, 112, PS-8, PS-13: with the same numbers and all that they were sent with.
#[test]
fn whatever_the_store_what_the_server_has_not_got_is_sent_again_as_it_was() {
    with_each(|kind, store| {
        let mut scene = scene_with(store);
        let options = PublishOptions::new().sow_key("k").correlation_id("QQ==");
        let first = scene.client.publish("t", "one").unwrap();
        scene.client.publish_with("t", "two", &options).unwrap();
        scene.client.delta_publish("t\"t", "three").unwrap();
        let sent = [(); 3].map(|()| scene.connection.expect(|_: &_| true, SOON).unwrap());

        scene.fail_over_with(&LogonAck::success().sequence(first));
        for before in &sent[1..] {
            let again = scene.connection.expect(|_: &_| true, SOON).unwrap();
            assert_eq!(again.raw(), before.raw(), "{kind}");
        }
        all_has_come(&scene);
        assert_eq!(scene.commands(), ["logon", "p", "delta_publish"], "{kind}");
        assert_eq!((store.unpersisted_count(), store.last_persisted()), (2, first), "{kind}");
    });
}

/// 102, D-17, HA-21.
#[test]
fn whatever_the_store_a_publish_before_the_first_connection_is_kept_and_sent() {
    with_each(|kind, store| {
        let peer = amps_client::testing::ScriptedPeer::start().unwrap();
        let client = ha_client(&[&peer], |builder| builder.publish_store(Arc::clone(store)));
        let sequence = client.publish("t", "early").unwrap();
        assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (1, Some(sequence)), "{kind}");
        let waiting = connecting(&client);
        let connection = admitted(&peer);
        let sent = connection.expect("publish", SOON).unwrap();
        assert_eq!(
            (sent.header("s"), sent.payload()),
            (Some(&*sequence.to_string()), &b"early"[..]),
            "{kind}"
        );
        waiting.wait().unwrap();
    });
}

/// 103, 104, PS-9, HA-20: an outage, and a replay under way, while four threads publish.
#[test]
fn whatever_the_store_publishes_of_an_outage_and_of_the_replay_arrive_once_and_in_order() {
    with_each(|kind, store| {
        let mut scene = scene_with(store);
        scene.peer.refuse().unwrap();
        scene.connection.close();
        publish_on_all(&scene, IN_THE_OUTAGE).for_each(|publishing| publishing.wait());
        assert_eq!(store.unpersisted_count(), THREADS * IN_THE_OUTAGE, "{kind}");

        scene.peer.listen_again().unwrap();
        let publishing: Vec<_> = publish_on_all(&scene, DURING_THE_REPLAY).collect();
        scene.accept_again(&LogonAck::success());
        publishing.into_iter().for_each(|publishing| publishing.wait());
        all_has_come(&scene);
        let frames = scene.connection.frames();
        let numbers = frames.iter().filter_map(|received| received.frame().header("s")?.parse().ok());
        let numbers: Vec<u64> = numbers.collect();
        let first = store.lowest_unpersisted().unwrap();
        let all = first..first + (THREADS * (IN_THE_OUTAGE + DURING_THE_REPLAY)) as u64;
        assert!(numbers.iter().copied().eq(all), "{kind}: {numbers:?}");

        persisted(&scene.connection, *numbers.last().unwrap());
        scene.begin(|client| client.publish_store().map(|store| store.flush(Some(SOON)))).wait();
        assert_eq!(store.unpersisted_count(), 0, "{kind}");
    });
}

/// PS-5, PS-13: a hybrid store that is opened again goes on with the clock, far above what it holds. Nothing waits for the
/// numbers in between, of which there are a million for each millisecond.
#[test]
fn numbers_that_a_restart_has_left_out_are_passed_over_at_once() {
    let dir = TempDir::new();
    let store = Hybrid.open(&dir);
    let old = [(); 20].map(|()| store.store(&publish(b"old")).unwrap());
    drop(store);
    let (closed, a_moment) = (Instant::now(), Duration::from_millis(50));
    while closed.elapsed() < a_moment {
        thread::yield_now();
    }
    let store: Arc<dyn PublishStore> = Arc::from(Hybrid.open(&dir));
    let kept = store.unpersisted_count();
    assert!(kept > 0, "some were in the file");

    let scene = scene_with(&store);
    let begun = Instant::now();
    let new = scene.begin(|client| client.publish("t", "new")).wait().unwrap();
    assert!(new > old[19] + 1_000_000, "{new}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    all_has_come(&scene);
    let numbers = scene.connection.frames();
    let numbers = numbers.iter().filter_map(|received| received.frame().header("s")?.parse().ok());
    assert_eq!(numbers.collect::<Vec<u64>>(), [&old[..kept], &[new]].concat());
}

/// Publishes so much on each of several threads; every publish returns.
fn publish_on_all(scene: &HaScene, count: usize) -> impl Iterator<Item = Pending<()>> {
    (0..THREADS).map(move |_| {
        scene.begin(move |client| {
            for _ in 0..count {
                client.publish("t", "x").unwrap();
                thread::yield_now();
            }
        })
    })
}
