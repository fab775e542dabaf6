//! What is published into a store arrives, once and in order (`resilience` section 9).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::{HaScene, admitted, answered, connecting, ha_client, persisted};
use amps_client::testing::{Expectation, Frame, LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    AckType, Client, Command, ConnectionState, Error, ErrorKind, MemoryPublishStore, Message, Origin,
    PublishOptions, PublishStore, Result,
};

/// A client with a store, which the test can look at.
fn with_store() -> (Scene, Arc<MemoryPublishStore>) {
    let store = Arc::new(MemoryPublishStore::new());
    (Scene::prepared(Client::builder("c").publish_store(Arc::clone(&store)), |_| {}), store)
}

fn ha_with_store() -> (HaScene, Arc<MemoryPublishStore>) {
    let store = Arc::new(MemoryPublishStore::new());
    let shared = Arc::clone(&store);
    (HaScene::of(|builder| builder.publish_store(shared)), store)
}

/// The numbers of the publishes that came over this connection, in order.
fn numbers(connection: &PeerConnection) -> Vec<u64> {
    let frames = connection.frames();
    frames.iter().filter_map(|received| received.frame().header("s")?.parse().ok()).collect()
}

/// Expects these numbers, one publish each.
#[track_caller]
fn expect_numbers(connection: &PeerConnection, numbers: &[u64]) {
    for number in numbers {
        connection.expect(Expectation::any().header("s", number.to_string()), SOON).unwrap();
    }
}

/// PS-1, PS-2: every form goes through the store, asks for `persisted`, and has its number from there.
#[test]
fn everything_that_is_stored_has_a_number_and_asks_for_persisted() {
    let (scene, store) = with_store();
    let first = scene.client.publish("t", "x").unwrap();
    let options = PublishOptions::new().sow_key("k");
    let rest = [
        scene.client.publish_with("t", "x", &options).unwrap(),
        scene.client.delta_publish("t", "x").unwrap(),
        scene.client.publish_command(Command::publish("t").data("x").sequence(7)).unwrap(),
    ];
    assert_eq!(rest, [first + 1, first + 2, first + 3]);
    scene.client.send(&Command::publish("t").sequence(9)).unwrap();
    expect_numbers(&scene.connection, &[first, first + 1, first + 2, first + 3]);
    let sent = scene.connection.frames();
    let acks = sent[1..5].iter().map(|received| received.frame().header("a"));
    assert!(acks.clone().all(|acks| acks == Some("persisted")), "{:?}", acks.collect::<Vec<_>>());
    let as_it_is = scene.connection.expect("publish", SOON).unwrap();
    assert_eq!(as_it_is.header("s"), Some("9"), "`send` sends a frame as it is");
    assert_eq!(store.unpersisted_count(), 4);
}

/// PS-1, 112: deletes of every form.
#[test]
fn deletes_are_stored_and_wait_for_their_answer() {
    let (scene, store) = with_store();
    type Delete = fn(&Client) -> Result<Message>;
    let deletes: [(Delete, &str, &str); 3] = [
        (|client| client.sow_delete("t", "/a = 1"), "filter", "/a = 1"),
        (|client| client.sow_delete_by_keys("t", "1,2"), "sow_keys", "1,2"),
        (|client| client.sow_delete_by_data("t", "{}"), "filter", ""),
    ];
    for (n, (delete, header, value)) in deletes.into_iter().enumerate() {
        let waiting = scene.begin(delete);
        let sent = scene.connection.expect("sow_delete", SOON).unwrap();
        assert_eq!(sent.header(header).unwrap_or_default(), value);
        let asked: Vec<&str> = sent.header("a").unwrap().split(',').collect();
        assert!(asked.contains(&"persisted") && asked.contains(&"stats"), "{asked:?}");
        let stats = r#"{"c":"ack","cid":"{cid}","a":"stats","status":"success","matches":1}"#;
        scene.connection.reply(stats).unwrap();
        waiting.wait().unwrap();
        assert_eq!(store.unpersisted_count(), n + 1);
    }
}

/// PS-3: what cannot be stored is not sent.
#[test]
fn what_cannot_be_stored_is_not_sent() {
    let store = Arc::new(MemoryPublishStore::with_capacity(1000));
    let full = Arc::clone(&store);
    let scene = Scene::prepared(Client::builder("c").publish_store(store), |_| {});
    let refused = scene.client.publish_with("t", "x", &PublishOptions::new().correlation_id("\u{1}"));
    assert!(refused.is_err());
    assert_eq!(full.unpersisted_count(), 0);
    let kept = scene.client.publish("t", "x").unwrap();
    expect_numbers(&scene.connection, &[kept]);
    assert_eq!(numbers(&scene.connection), [kept]);
}

/// 100, PS-6, PS-7: above what the server has seen of this client.
#[test]
fn the_numbers_go_on_above_those_of_the_server() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").publish_store(MemoryPublishStore::new()).build().unwrap();
    let connection = connect(&client, &peer);
    let above = u64::MAX / 2;
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::success().sequence(above), SOON).unwrap();
    logon.wait().unwrap();
    assert_eq!(client.publish("t", "x").unwrap(), above + 1);
    expect_numbers(&connection, &[above + 1]);
}

/// 101, PS-8: exactly what the server does not have, as it was.
#[test]
fn what_the_server_does_not_have_is_sent_again_and_nothing_else() {
    let (mut scene, _store) = ha_with_store();
    let sent: Vec<u64> =
        ["1", "2", "3"].iter().map(|data| scene.client.publish("t", data).unwrap()).collect();
    scene.peer.wait_for_frames(3, "publish", SOON).unwrap();
    let before: Vec<Vec<u8>> =
        scene.connection.frames()[1..].iter().map(|received| received.frame().raw().to_vec()).collect();
    scene.fail_over_with(&LogonAck::success().sequence(sent[0]));
    expect_numbers(&scene.connection, &sent[1..]);
    let again: Vec<Vec<u8>> =
        scene.connection.frames()[1..].iter().map(|received| received.frame().raw().to_vec()).collect();
    assert_eq!(again, before[1..]);
    persisted(&scene.connection, sent[2]);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "p", "p"]);
}

/// 111, 112, PS-12, PS-13: whatever it was; a queue message that was given back is not given back again.
#[test]
fn everything_is_sent_again_as_it_was_but_for_a_queue_cancel() {
    let (mut scene, store) = ha_with_store();
    let ack = |options: &str| Command::new("sow_delete").topic("q").bookmark("1|2|").options(options);
    for command in [
        Command::publish("t").data("x").correlation_id("QQ==").expiration(Duration::from_secs(5)),
        Command::delta_publish("t").data("y").sow_key("k"),
        Command::sow_delete("t").filter("/a = 1"),
        Command::sow_delete("t").sow_keys("1,2"),
        Command::sow_delete("t").data("{}"),
        ack(""),
        ack("cancel"),
        ack("expire"),
    ] {
        let stored = store.unpersisted_count();
        // A delete goes on to wait for its answer.
        drop(scene.begin(move |client| client.execute(command).map(drop)));
        while store.unpersisted_count() == stored {
            std::thread::yield_now();
        }
    }
    scene.peer.wait_for_frames(6, "sow_delete", SOON).unwrap();
    let frames = |connection: &PeerConnection| -> Vec<Vec<u8>> {
        let frames = connection.frames();
        let stored = frames.iter().filter(|received| received.frame().header("s").is_some());
        stored.map(|received| received.frame().raw().to_vec()).collect()
    };
    let mut before = frames(&scene.connection);
    let cancelled = before.remove(6);
    assert!(Frame::parse(&cancelled).unwrap().header("o") == Some("cancel"));
    scene.fail_over();
    scene.peer.wait_for_frames(11, "sow_delete", SOON).unwrap();
    assert_eq!(frames(&scene.connection), before);
    // A cancel counts as sent: what is published next has no gap to fill.
    let next = scene.client.publish("t", "next").unwrap();
    scene.connection.skip_to(Expectation::command("publish").payload("next"), SOON).unwrap();
    assert_eq!(numbers(&scene.connection).last(), Some(&next));
    assert_eq!(frames(&scene.connection).len(), before.len() + 1);
}

/// 108, PS-10: on a plain client the logon fails, and without the flag it succeeds.
#[test]
fn a_server_that_has_seen_too_little_fails_the_logon_if_gaps_are_errors() {
    for gap_is_error in [false, true] {
        let (mut scene, store) = with_store();
        store.set_error_on_publish_gap(gap_is_error);
        let number = scene.client.publish("t", "x").unwrap();
        persisted(&scene.connection, number);
        scene.settle();
        scene.client.close();
        scene.connection = connect(&scene.client, &scene.peer);
        let logon = scene.begin(|client| client.logon_with(&in_time()));
        scene.connection.logon(&LogonAck::success().sequence(number - 1), SOON).unwrap();
        match logon.wait() {
            Ok(()) => assert!(!gap_is_error),
            Err(error) => {
                assert!(gap_is_error);
                assert_eq!(error.kind(), ErrorKind::PublishStoreGap);
                assert!(error.to_string().contains(&number.to_string()), "{error}");
                scene.connection.wait_closed(SOON).unwrap();
            }
        }
    }
}

/// 108, HA-15: on an `HAClient` it is a failed attempt.
#[test]
fn a_gap_sends_an_ha_client_to_the_next_server() {
    let (a, b) = (ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    let store = Arc::new(MemoryPublishStore::new());
    store.set_error_on_publish_gap(true);
    let shared = Arc::clone(&store);
    let client = ha_client(&[&a, &b], |builder| builder.publish_store(shared));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let first = admitted(&a);
    waiting.wait().unwrap();
    let number = client.publish("t", "x").unwrap();
    persisted(&first, number);
    settle(&client, &first);
    first.close();
    answered(&a, &LogonAck::success().sequence(number - 1)).wait_closed(SOON).unwrap();
    let second = answered(&b, &LogonAck::success().sequence(number));
    settle(&client, &second);
    let gap = record.wait_for_failures(1).remove(0);
    assert_eq!((gap.error.kind(), gap.origin), (ErrorKind::PublishStoreGap, Origin::Logon));
}

/// 109, PS-11: nothing was discarded yet that could be missing.
#[test]
fn a_fresh_store_has_no_gap_at_its_first_logon() {
    for sequence in [0, 1, u64::MAX / 2] {
        let store = MemoryPublishStore::new();
        store.set_error_on_publish_gap(true);
        let peer = ScriptedPeer::start().unwrap();
        let client = ha_client(&[&peer], |builder| builder.publish_store(store));
        client.publish("t", "x").unwrap();
        let waiting = connecting(&client);
        let _connection = answered(&peer, &LogonAck::success().sequence(sequence));
        waiting.wait().unwrap();
    }
}

/// D-17: a plain client says that it is not connected, and that the message is stored; it is sent behind the first logon.
#[test]
fn a_publish_before_the_first_connect_is_stored_and_refused() {
    let store = Arc::new(MemoryPublishStore::new());
    let client = Client::builder("c").publish_store(Arc::clone(&store)).build().unwrap();
    for _ in 0..2 {
        let error = client.publish("t", "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert!(error.to_string().contains("store"), "{error}");
    }
    assert_eq!(store.unpersisted_count(), 2);
    let lowest = store.lowest_unpersisted().unwrap();
    let peer = ScriptedPeer::start().unwrap();
    let connection = connect(&client, &peer);
    log_on(&client, &connection);
    expect_numbers(&connection, &[lowest, lowest + 1]);
    assert_eq!(client.publish("t", "y").unwrap(), lowest + 2);
    expect_numbers(&connection, &[lowest + 2]);
}

/// D-17: likewise once its connection is gone for good.
#[test]
fn a_publish_on_a_connection_that_is_gone_for_good_is_stored_and_refused() {
    let (scene, store) = with_store();
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!(scene.client.publish("t", "x").unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(store.unpersisted_count(), 1);
    let again = connect(&scene.client, &scene.peer);
    log_on(&scene.client, &again);
    expect_numbers(&again, &[store.lowest_unpersisted().unwrap()]);
}

/// 35, table 3.4: in an outage a publish returns its number at once, with and without retry; during a logon too.
#[test]
fn in_an_outage_a_publish_returns_its_number_at_once() {
    for retry in [true, false] {
        let (mut scene, _store) = with_store();
        scene.client.set_retry_on_disconnect(retry);
        let (gate, reconnect) = (Gate::new(), reconnects_to(&scene.peer));
        let held = gate.clone();
        scene.on_loss(move |client: &Client, cause: &Error| {
            held.pass();
            // On the thread that repairs, before there is a connection.
            client.publish("t", "own")?;
            reconnect(client, cause)
        });
        scene.connection.close();
        gate.wait_reached(1);
        let first = scene.begin(|client| client.publish("t", "1")).at_once().unwrap();
        gate.open();
        scene.connection = scene.peer.accept(SOON).unwrap();
        scene.connection.expect("logon", SOON).unwrap();
        let third = scene.begin(|client| client.publish("t", "3")).at_once().unwrap();
        assert_eq!(third, first + 2);
        scene.connection.reply_ok().unwrap();
        expect_numbers(&scene.connection, &[first, first + 1, first + 2]);
    }
}

/// 105, 106, 107, PS-15, PS-16: until what was stored before is discarded, and no longer.
#[test]
fn a_flush_waits_for_what_was_stored_before_it() {
    let (scene, _store) = with_store();
    let number = scene.client.publish("t", "1").unwrap();
    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    assert!(flush.is_waiting());
    scene.client.publish("t", "later").unwrap();
    persisted(&scene.connection, number);
    flush.wait().unwrap();
    assert!(scene.record.failures().is_empty());
}

/// 105, PS-17, X-8: one limit for both waits; what runs out is told and reported.
#[test]
fn a_flush_that_is_not_persisted_in_time_is_timed_out_and_reported() {
    let (scene, _store) = with_store();
    scene.client.publish("t", "x").unwrap();
    let limit = Duration::from_millis(300);
    let start = Instant::now();
    let flush = scene.begin(move |client| client.publish_flush_with(AckType::PROCESSED, Some(limit)));
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    let (outcome, at) = flush.ended();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(at - start >= limit && at - start < limit + AT_ONCE, "{:?}", at - start);
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!((failure.error.kind(), failure.origin), (ErrorKind::TimedOut, Origin::PublishFlush));
}

/// PS-16: a loss does not end it if the client comes back, and the logon may be what it waits for.
#[test]
fn a_flush_goes_on_over_a_failover() {
    for lost_before_the_answer in [true, false] {
        let (mut scene, _store) = ha_with_store();
        let number = scene.client.publish("t", "x").unwrap();
        let flush = scene.begin(|client| client.publish_flush());
        scene.connection.skip_to("flush", SOON).unwrap();
        if !lost_before_the_answer {
            scene.connection.reply_ok().unwrap();
        }
        scene.connection.close();
        scene.connection = scene.peer.accept(SOON).unwrap();
        scene.connection.expect("logon", SOON).unwrap();
        assert!(flush.is_waiting());
        let answer = LogonAck::success().sequence(number);
        let logon = scene.connection.frames()[0].frame().clone();
        scene.connection.send(&answer.answer(&logon), b"").unwrap();
        flush.wait().unwrap();
    }
}

/// PS-16: if it does not come back the flush ends, instead of hanging.
#[test]
fn a_flush_ends_with_disconnected_when_the_connection_is_gone_for_good() {
    let (scene, store) = with_store();
    scene.client.publish("t", "x").unwrap();
    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    scene.connection.close();
    assert_eq!(flush.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(scene.client.publish_flush().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(store.unpersisted_count(), 1);
}

/// 143, T-1, T-2: closing waits for no acknowledgement, keeps the store, and the next connection has it.
#[test]
fn closing_does_not_wait_for_what_is_unacknowledged_and_keeps_it() {
    let (mut scene, store) = with_store();
    let sent: Vec<u64> = (0..3).map(|n| scene.client.publish("t", n.to_string()).unwrap()).collect();
    let start = Instant::now();
    scene.client.close();
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    assert_eq!(store.unpersisted_count(), 3);
    scene.connection = connect(&scene.client, &scene.peer);
    log_on(&scene.client, &scene.connection);
    expect_numbers(&scene.connection, &sent);
}

/// Fails in one of its methods.
struct Failing {
    inner: MemoryPublishStore,
    at: &'static str,
}

impl Failing {
    fn check(&self, at: &str) -> Result<()> {
        if self.at == at { Err(Error::new(ErrorKind::Store, "the disk is on fire")) } else { Ok(()) }
    }
}

impl PublishStore for Failing {
    fn store(&self, entry: &amps_client::StoreEntry<'_>) -> Result<u64> {
        self.check("store")?;
        self.inner.store(entry)
    }

    fn discard_up_to(&self, sequence: u64) -> Result<()> {
        self.check("discard")?;
        self.inner.discard_up_to(sequence)
    }

    fn replay(&self, to: &mut dyn amps_client::StoreReplayer) -> Result<()> {
        self.check("replay")?;
        self.inner.replay(to)
    }

    fn replay_single(&self, to: &mut dyn amps_client::StoreReplayer, sequence: u64) -> Result<bool> {
        self.inner.replay_single(to, sequence)
    }

    fn unpersisted_count(&self) -> usize {
        self.inner.unpersisted_count()
    }

    fn lowest_unpersisted(&self) -> Option<u64> {
        self.inner.lowest_unpersisted()
    }

    fn last_persisted(&self) -> u64 {
        self.inner.last_persisted()
    }

    fn flush(&self, limit: Option<Duration>) -> Result<()> {
        self.inner.flush(limit)
    }

    fn set_resize_handler(&self, handler: Option<Box<dyn amps_client::PublishStoreResizeHandler>>) {
        self.inner.set_resize_handler(handler);
    }

    fn set_error_on_publish_gap(&self, on: bool) {
        self.inner.set_error_on_publish_gap(on);
    }

    fn error_on_publish_gap(&self) -> bool {
        self.inner.error_on_publish_gap()
    }

    fn take_damage_reports(&self) -> Vec<Error> {
        if self.at == "damage" {
            vec![Error::new(ErrorKind::Store, "record 7 is damaged")]
        } else {
            Vec::new()
        }
    }
}

/// PS-14: a store that fails fails the logon, with its own text.
#[test]
fn a_store_that_fails_fails_the_logon() {
    for at in ["discard", "replay"] {
        let peer = ScriptedPeer::start().unwrap();
        let store = Failing { inner: MemoryPublishStore::new(), at };
        let client = Client::builder("c").publish_store(store).build().unwrap();
        let record = Record::of(&client);
        let connection = connect(&client, &peer);
        let logon = begin(&client, |client| client.logon_with(&in_time()));
        connection.logon(&LogonAck::success(), SOON).unwrap();
        let error = logon.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connection, "{at}");
        assert!(error.to_string().contains("the disk is on fire"), "{error}");
        connection.wait_closed(SOON).unwrap();
        assert_eq!(record.states().last(), Some(&ConnectionState::Disconnected));
        assert_eq!(record.failures().len(), 1, "{:?}", record.story());
    }
}

/// PS-3, PS-14, X-8: what fails elsewhere is told to the caller, or reported.
#[test]
fn a_store_that_fails_otherwise_is_told_or_reported() {
    let store = Failing { inner: MemoryPublishStore::new(), at: "store" };
    let scene = Scene::prepared(Client::builder("c").publish_store(store), |_| {});
    assert_eq!(scene.client.publish("t", "x").unwrap_err().kind(), ErrorKind::Store);
    scene.settle();
    assert_eq!(numbers(&scene.connection), [0_u64; 0]);

    let store = Failing { inner: MemoryPublishStore::new(), at: "damage" };
    let scene = Scene::prepared(Client::builder("c").publish_store(store), |_| {});
    let failure = scene.record.wait_for_failure(ErrorKind::Store, "record 7 is damaged");
    assert_eq!(failure.origin, Origin::PublishStore);
}
