//! Whoever publishes, and whatever the connection does: each number once, in order (`resilience` PS-9, HA-20).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::{HaScene, admitted, answered, connecting, ha_client};
use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{Client, Command, ConnectionState, ErrorKind, MemoryPublishStore, Message, PublishStore};

/// The numbers that came over this connection, in order.
fn numbers(connection: &PeerConnection) -> Vec<u64> {
    let frames = connection.frames();
    frames.iter().filter_map(|received| received.frame().header("s")?.parse().ok()).collect()
}

/// Waits until so many numbers have come over this connection, and returns them; they grow.
#[track_caller]
fn wait_for_numbers(connection: &PeerConnection, count: usize) -> Vec<u64> {
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let seen = numbers(connection);
        assert!(seen.is_sorted_by(|a, b| a < b), "out of order: {:?}", first_fault(&seen));
        if seen.len() >= count {
            return seen;
        }
        assert!(Instant::now() < deadline, "{} of {count} publishes came", seen.len());
        thread::sleep(Duration::from_millis(1));
    }
}

fn first_fault(numbers: &[u64]) -> Option<&[u64]> {
    numbers.windows(2).find(|pair| pair[0] >= pair[1])
}

fn ha_with_store() -> (HaScene, Arc<MemoryPublishStore>) {
    let store = Arc::new(MemoryPublishStore::new());
    let shared = Arc::clone(&store);
    (HaScene::of(|builder| builder.publish_store(shared)), store)
}

/// Publishes on four threads, so many on each, and returns all numbers.
fn publish_on_four(client: &Client, each: usize) -> BTreeSet<u64> {
    let all: Vec<Vec<u64>> = thread::scope(|scope| {
        let publisher =
            |n: usize| move || (0..each).map(|m| client.publish("t", format!("{n} {m}")).unwrap()).collect();
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(publisher(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<u64> = all.iter().flatten().copied().collect();
    assert_eq!(distinct.len(), 4 * each, "a number was used twice");
    distinct
}

/// PS-9: on a live connection too, whoever overtakes whom.
#[test]
fn four_threads_publish_in_the_order_of_their_numbers() {
    let (scene, _store) = ha_with_store();
    let published = publish_on_four(&scene.client, 1000);
    assert!(wait_for_numbers(&scene.connection, 4000).into_iter().eq(published));
}

/// `api-surface` 24.1: what a thread sends behind a publish comes behind it, whoever else publishes.
#[test]
fn a_command_does_not_overtake_what_its_thread_has_published() {
    let (scene, _store) = ha_with_store();
    let stop = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..3)
        .map(|_| {
            let stop = Arc::clone(&stop);
            scene.begin(move |client| {
                while !stop.load(Ordering::Relaxed) {
                    (0..20).for_each(|_| _ = client.publish("t", "x").unwrap());
                    thread::sleep(Duration::from_millis(1));
                }
            })
        })
        .collect();
    for _ in 0..1000 {
        let number = scene.client.publish("t", "mine").unwrap();
        scene.client.send(&Command::flush().correlation_id(number.to_string())).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    others.into_iter().for_each(Pending::wait);
    scene.peer.wait_for_frames(1000, "flush", SOON).unwrap();
    let (mut highest, mut overtaken) = (0, 0);
    for received in scene.connection.frames() {
        let frame = received.frame();
        match frame.header("s").and_then(|number| number.parse::<u64>().ok()) {
            Some(number) => highest = highest.max(number),
            None => {
                let behind = frame.header("x").and_then(|number| number.parse::<u64>().ok());
                overtaken += usize::from(behind.is_some_and(|number| number > highest));
            }
        }
    }
    assert_eq!(overtaken, 0, "of 1000");
}

/// 103, D-14: in an outage everybody returns, and afterwards the server sees everything once.
#[test]
fn what_four_threads_publish_in_an_outage_arrives_once_and_in_order() {
    let (mut scene, store) = ha_with_store();
    scene.peer.refuse().unwrap();
    scene.connection.close();
    scene.record.wait_for_states(&[
        ConnectionState::Connected,
        ConnectionState::LoggedOn,
        ConnectionState::PublishReplayed,
        ConnectionState::Resubscribed,
        ConnectionState::Disconnected,
    ]);
    let published = publish_on_four(&scene.client, 250);
    assert_eq!(store.unpersisted_count(), 1000);
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    assert!(wait_for_numbers(&scene.connection, 1000).into_iter().eq(published));
}

/// 104, PS-9, HA-20: while the replay runs.
#[test]
fn what_is_published_during_the_replay_comes_behind_it() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder.publish_store(MemoryPublishStore::new()));
    let payload = "x".repeat(500);
    let mut published: BTreeSet<u64> = (0..3000).map(|_| client.publish("t", &payload).unwrap()).collect();
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    published.extend(publish_on_four(&client, 500));
    waiting.wait().unwrap();
    assert!(wait_for_numbers(&connection, 5000).into_iter().eq(published));
    settle_without_acks(&client, &connection);
    assert_eq!(numbers(&connection).len(), 5000, "each once");
}

/// Waits until everything that was on its way has come.
fn settle_without_acks(client: &Client, connection: &PeerConnection) {
    let query = begin(client, |client| client.sow("t", "").map(drop));
    connection.skip_to("sow", SOON).unwrap();
    connection.reply_ok().unwrap();
    query.wait().unwrap();
}

/// 104, HA-20: what is published while the subscriptions are placed comes behind them, in order.
#[test]
fn what_is_published_during_the_resubscription_comes_behind_it() {
    let (mut scene, _store) = ha_with_store();
    scene.subscribe("s");
    let first = scene.client.publish("t", "1").unwrap();
    scene.peer.wait_for_frames(1, "publish", SOON).unwrap();
    scene.fail_over_with(&LogonAck::success().sequence(first));
    scene.connection.expect("subscribe", SOON).unwrap();
    let published = publish_on_four(&scene.client, 100);
    assert_eq!(numbers(&scene.connection), [0_u64; 0]);
    scene.connection.reply_ok().unwrap();
    assert!(wait_for_numbers(&scene.connection, 400).into_iter().eq(published));
}

/// HA-20, D-14: publishers that never pause hold up neither the recovery nor each other.
#[test]
fn a_recovery_ends_while_everybody_goes_on_publishing() {
    let (mut scene, _store) = ha_with_store();
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Vec<Arc<AtomicUsize>> = (0..4).map(|_| Arc::default()).collect();
    let publisher = |count: &Arc<AtomicUsize>| {
        let (stop, count) = (Arc::clone(&stop), Arc::clone(count));
        scene.begin(move |client| {
            while !stop.load(Ordering::Relaxed) {
                client.publish("t", "x").unwrap();
                // On a busy machine the memory of the store must not grow beyond all measure.
                if count.fetch_add(1, Ordering::Relaxed) % 100 == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        })
    };
    let publishers: Vec<_> = counts.iter().map(publisher).collect();
    scene.fail_over();
    let told =
        || scene.record.states().iter().filter(|state| **state == ConnectionState::Resubscribed).count();
    wait_until("the recovery ends", || told() == 2);
    let published = || -> Vec<usize> { counts.iter().map(|count| count.load(Ordering::Relaxed)).collect() };
    let before = published();
    wait_until("everybody goes on", || {
        published().iter().zip(&before).all(|(now, before)| *now > before + 50)
    });
    stop.store(true, Ordering::Relaxed);
    publishers.into_iter().for_each(Pending::wait);
    assert!(first_fault(&numbers(&scene.connection)).is_none());
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + 2 * SOON;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// 81, HA-18: the attempt fails, the next one sends everything again, and the state is told once.
#[test]
fn a_drop_during_the_replay_starts_it_anew() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder.publish_store(MemoryPublishStore::new()));
    let record = Record::of(&client);
    let payload = vec![b'x'; 256 << 10];
    let published: Vec<u64> = (0..64).map(|_| client.publish("t", &payload).unwrap()).collect();
    let waiting = connecting(&client);
    for round in 0..2 {
        let connection = peer.accept(SOON).unwrap();
        connection.expect("logon", SOON).unwrap();
        connection.stop_reading();
        connection.reply_ok().unwrap();
        wait_until("the replay has begun", || {
            record.states().iter().filter(|state| **state == ConnectionState::LoggedOn).count() == round + 1
        });
        connection.reset();
    }
    let connection = answered(&peer, &LogonAck::success());
    waiting.wait().unwrap();
    assert_eq!(wait_for_numbers(&connection, published.len()), published);
    let replayed = record.states().into_iter().filter(|state| *state == ConnectionState::PublishReplayed);
    assert_eq!(replayed.count(), 1, "{:?}", record.story());
}

/// HA-18: many losses at any moment, and nothing is lost, doubled on a connection or out of order.
#[test]
fn drops_at_any_moment_lose_nothing() {
    let (mut scene, store) = ha_with_store();
    let publisher = scene
        .begin(|client| (0..6000).map(|n| client.publish("t", n.to_string()).unwrap()).collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    for round in 0..25_u64 {
        let enough = round as usize * 7 % 60;
        let deadline = Instant::now() + Duration::from_millis(20);
        while numbers(&scene.connection).len() < enough && Instant::now() < deadline {
            thread::yield_now();
        }
        let came = numbers(&scene.connection);
        assert!(first_fault(&came).is_none(), "{:?}", first_fault(&came));
        seen.extend(came.iter().copied());
        scene.connection.reset();
        // What this connection has read is acknowledged by the next logon.
        let highest = seen.last().copied().unwrap_or(0);
        scene.connection = scene.peer.accept(SOON).unwrap();
        if scene.connection.logon(&LogonAck::success().sequence(highest), SOON).is_err() {
            continue;
        }
    }
    let published = publisher.wait();
    let left = store.unpersisted_count();
    let last = published.last().unwrap();
    wait_until(&format!("{left} that are stored have come"), || {
        seen.contains(last) || numbers(&scene.connection).contains(last)
    });
    let came = numbers(&scene.connection);
    assert!(first_fault(&came).is_none());
    seen.extend(came);
    assert!(seen.into_iter().eq(published));
}

/// 110, PS-19: on an application thread a refused growth is waited for, and the handler may look at the store.
#[test]
fn a_publish_waits_for_the_handler_to_let_the_store_grow() {
    let store = Arc::new(MemoryPublishStore::with_capacity(1000));
    let (asked, limit) = (Arc::new(AtomicUsize::new(0)), 2);
    let count = Arc::clone(&asked);
    store.set_resize_handler(Some(Box::new(move |store: &dyn PublishStore, _: u64| {
        assert!(store.unpersisted_count() > 0);
        count.fetch_add(1, Ordering::SeqCst) >= limit
    })));
    let scene = Scene::prepared(Client::builder("c").publish_store(Arc::clone(&store)), |_| {});
    let payload = "x".repeat(700);
    let first = scene.client.publish("t", &payload).unwrap();
    let second = scene.begin(move |client| client.publish("t", &payload)).wait().unwrap();
    assert_eq!((second, asked.load(Ordering::SeqCst)), (first + 1, limit + 1));
    assert_eq!(wait_for_numbers(&scene.connection, 2), [first, second]);
}

/// PS-19: a discard makes room, also if the handler refuses for ever.
#[test]
fn a_publish_that_waits_for_room_goes_on_when_the_server_has_persisted_something() {
    let store = Arc::new(MemoryPublishStore::with_capacity(1000));
    store.set_resize_handler(Some(Box::new(|_: &dyn PublishStore, _: u64| false)));
    let scene = Scene::prepared(Client::builder("c").publish_store(Arc::clone(&store)), |_| {});
    let payload = "x".repeat(700);
    let first = scene.client.publish("t", &payload).unwrap();
    let second = scene.begin(move |client| client.publish("t", &payload));
    assert!(second.is_waiting());
    crate::support::ha::persisted(&scene.connection, first);
    assert_eq!(second.wait().unwrap(), first + 1);
}

/// What a handler on the receive thread got from its publishes.
fn publishing_handler(
    client: &Client,
    mut publish: impl FnMut(&Client) -> amps_client::Result<u64> + Send + 'static,
) -> (impl amps_client::MessageHandler + 'static, mpsc::Receiver<(amps_client::Result<u64>, Duration)>) {
    let (weak, (sender, outcomes)) = (client.downgrade(), mpsc::channel());
    let handler = move |_: &Message| {
        let client = weak.upgrade().expect("the test holds it");
        let start = Instant::now();
        let outcome = publish(&client);
        // The test may be over.
        let _ = sender.send((outcome, start.elapsed()));
    };
    (handler, outcomes)
}

/// T-6, PS-19: where nothing may wait a refused growth is an error at once, and nothing is sent.
#[test]
fn a_refused_growth_on_the_receive_thread_is_a_store_error() {
    let store = Arc::new(MemoryPublishStore::with_capacity(1000));
    store.set_resize_handler(Some(Box::new(|_: &dyn PublishStore, _: u64| false)));
    let scene = Scene::prepared(Client::builder("c").publish_store(Arc::clone(&store)), |_| {});
    let payload = "x".repeat(700);
    let (handler, outcomes) = publishing_handler(&scene.client, move |client| client.publish("t", &payload));
    scene.subscribe_with("s", handler);
    scene.send("s", "1");
    let kept = outcomes.recv_timeout(SOON).unwrap().0.unwrap();
    assert_eq!(wait_for_numbers(&scene.connection, 1), [kept]);
    scene.send("s", "2");
    let (refused, took) = outcomes.recv_timeout(SOON).unwrap();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Store);
    assert!(took < AT_ONCE, "{took:?}");
    crate::support::ha::persisted(&scene.connection, kept);
    scene.send("s", "3");
    let after = outcomes.recv_timeout(SOON).unwrap().0.unwrap();
    assert_eq!(wait_for_numbers(&scene.connection, 2), [kept, after]);
}

/// Decision 16, T-6: with the link down a publish there returns its number, and goes out over the next connection.
#[test]
fn with_the_link_down_a_publish_on_the_receive_thread_returns_its_number() {
    let (mut scene, store) = ha_with_store();
    let gate = Gate::new();
    let held = gate.clone();
    let (handler, outcomes) = publishing_handler(&scene.client, move |client| {
        held.pass();
        client.publish("t", "from the handler")
    });
    scene.subscribe_with("s", handler);
    scene.send("s", "x");
    gate.wait_reached(1);
    scene.connection.reset();
    // A failing write tells the client; the handler holds the only thread that reads.
    let before: Vec<u64> = (0..50).map(|_| scene.client.publish("t", "x").unwrap()).collect();
    gate.open();
    let (number, took) = outcomes.recv_timeout(SOON).unwrap();
    assert_eq!(number.unwrap(), before[49] + 1);
    assert!(took < SOON);
    scene.connection = admitted(&scene.peer);
    let waiting = wait_for_numbers(&scene.connection, 51);
    assert_eq!(*waiting.last().unwrap(), before[49] + 1);
    assert_eq!(store.unpersisted_count(), 51);
}

/// Decision 16: what is beyond the limit of the outbox is left to the store, and sent when the peer reads, in order.
#[test]
fn beyond_the_limit_of_the_outbox_frames_are_left_to_the_store_and_sent_later() {
    for limit in [64 << 10, 2 << 20] {
        let peer = ScriptedPeer::start().unwrap();
        let client = ha_client(&[&peer], |builder| {
            builder.publish_store(MemoryPublishStore::new()).outbox_limit(limit)
        });
        let waiting = connecting(&client);
        let connection = admitted(&peer);
        waiting.wait().unwrap();
        let count = 300;
        let payload = vec![b'x'; 64 << 10];
        let (handler, outcomes) = publishing_handler(&client, move |client| {
            let mut last = Ok(0);
            for _ in 0..count {
                last = Ok(client.publish("t", &payload)?);
            }
            last
        });
        let subscribing =
            begin(&client, |client| client.execute_async(Command::subscribe("t").sub_id("s"), handler));
        crate::support::ha::accept(&connection, "subscribe");
        subscribing.wait().unwrap();
        connection.stop_reading();
        connection.send(&publication("s"), "x").unwrap();
        let (last, took) = outcomes.recv_timeout(SOON).unwrap();
        let last = last.unwrap();
        assert!(took < Duration::from_secs(1), "{took:?}");
        connection.resume_reading();
        let seen = wait_for_numbers(&connection, count);
        assert_eq!((seen.len(), seen.last()), (count, Some(&last)));
        assert!(seen.windows(2).all(|pair| pair[1] == pair[0] + 1));
    }
}

/// Decision 16: the same while an application thread is the one that writes.
#[test]
fn what_was_left_to_the_store_is_sent_also_when_an_application_thread_writes() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| {
        builder.publish_store(MemoryPublishStore::new()).outbox_limit(64 << 10)
    });
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    let (handler, outcomes) = publishing_handler(&client, |client| {
        (0..40).try_fold(0, |_, _| client.publish("t", vec![b'y'; 16 << 10]))
    });
    let subscribing =
        begin(&client, |client| client.execute_async(Command::subscribe("t").sub_id("s"), handler));
    crate::support::ha::accept(&connection, "subscribe");
    subscribing.wait().unwrap();
    connection.stop_reading();
    let writer = begin(&client, |client| client.publish("t", vec![b'x'; 16 << 20]));
    assert!(writer.is_waiting());
    connection.send(&publication("s"), "x").unwrap();
    let last = outcomes.recv_timeout(SOON).unwrap().0.unwrap();
    connection.resume_reading();
    writer.wait().unwrap();
    assert_eq!(*wait_for_numbers(&connection, 41).last().unwrap(), last);
}
