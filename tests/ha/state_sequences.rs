//! Which states are told, in which order, whatever a client is built with (`resilience` section 6).

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{Expectation, LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    Client, ConnectionState, Error, ErrorKind, HAClient, ListenerId, MemoryPublishStore,
    MemorySubscriptionManager,
};
use parking_lot::Mutex;

use ConnectionState::{
    Connected, Disconnected, HeartbeatInitiated, LoggedOn, PublishReplayed, Resubscribed, Shutdown,
};

/// When heartbeats are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heartbeats {
    Off,
    /// Before the client connects.
    Before,
    /// On the live session.
    After,
}

/// A row of table 5.2, for one kind of client.
#[derive(Debug, Clone, Copy)]
struct Row {
    ha: bool,
    store: bool,
    manager: bool,
    heartbeats: Heartbeats,
}

impl Row {
    fn all() -> Vec<Row> {
        let mut rows = Vec::new();
        for heartbeats in [Heartbeats::Off, Heartbeats::Before, Heartbeats::After] {
            for store in [false, true] {
                // An `HAClient` always has a subscription manager.
                for (ha, manager) in [(false, false), (false, true), (true, true)] {
                    rows.push(Row { ha, store, manager, heartbeats });
                }
            }
        }
        rows
    }

    /// What a successful logon tells.
    fn sequence(self, heartbeats: bool) -> Vec<ConnectionState> {
        let told = [
            (Connected, true),
            (LoggedOn, true),
            (HeartbeatInitiated, heartbeats),
            (PublishReplayed, self.store),
            (Resubscribed, self.manager),
        ];
        told.into_iter().filter_map(|(state, is_told)| is_told.then_some(state)).collect()
    }

    fn client(self, peer: &ScriptedPeer) -> Either {
        if self.ha {
            let client = ha_client(&[peer], |builder| match self.store {
                true => builder.publish_store(MemoryPublishStore::new()),
                false => builder,
            });
            return Either::Ha(client);
        }
        let mut builder = Client::builder("plain");
        if self.store {
            builder = builder.publish_store(MemoryPublishStore::new());
        }
        if self.manager {
            builder = builder.subscription_manager(MemorySubscriptionManager::new());
        }
        let client = builder.build().unwrap();
        client.set_disconnect_handler(reconnects_to(peer)).unwrap();
        Either::Plain(client, peer.uri("json"))
    }
}

/// A client of either kind.
enum Either {
    Plain(Client, String),
    Ha(HAClient),
}

impl Either {
    fn connect(&self) -> amps_client::Result<()> {
        match self {
            Either::Plain(client, uri) => client.connect(uri).and_then(|()| client.logon_with(&in_time())),
            Either::Ha(client) => client.connect_and_logon(),
        }
    }
}

impl Deref for Either {
    type Target = Client;

    fn deref(&self) -> &Client {
        match self {
            Either::Plain(client, _) => client,
            Either::Ha(client) => client,
        }
    }
}

/// 63 to 69, H-2, S-8, table 5.2: each configuration on the first connection, over a failover, and when it is closed.
#[test]
fn each_configuration_tells_its_states_in_order() {
    for row in Row::all() {
        let peer = ScriptedPeer::builder()
            .connection(|c| c.ignore("heartbeat").logon().wait("lose it").close())
            .otherwise(|c| c.logon().idle())
            .start()
            .unwrap();
        let client = row.client(&peer);
        let record = Record::of(&client);
        let interval = Duration::from_secs(60);
        if row.heartbeats == Heartbeats::Before {
            client.set_heartbeat(interval).unwrap();
        }
        client.connect().unwrap();
        let mut told = row.sequence(row.heartbeats == Heartbeats::Before);
        if row.heartbeats == Heartbeats::After {
            client.set_heartbeat(interval).unwrap();
            // The same again changes nothing.
            client.set_heartbeat(interval).unwrap();
            told.push(HeartbeatInitiated);
        }
        assert_eq!(record.states(), told, "{row:?}, first connection");

        peer.release("lose it").unwrap();
        told.push(Disconnected);
        told.extend(row.sequence(row.heartbeats != Heartbeats::Off));
        record.wait_for_states(&told);

        client.close();
        told.extend([Disconnected, Shutdown]);
        assert_eq!(record.states(), told, "{row:?}, close");
        client.close();
        assert_eq!(record.states(), told, "{row:?}, a second close");
        assert!(record.failures().is_empty(), "{row:?}: {:?}", record.story());
        drop(client);
        assert_eq!(record.states(), told, "{row:?}, drop");
        peer.finish().unwrap();
    }
}

/// 49, 42: heartbeats are started on every connection, right behind the logon.
#[test]
fn heartbeats_are_started_again_on_every_connection() {
    let mut scene =
        HaScene::prepared(|builder| builder, |client| client.set_heartbeat(Duration::from_secs(60)).unwrap());
    let start = Expectation::command("heartbeat").header("o", "start,60");
    for _ in 0..3 {
        scene.connection.expect(start.clone(), SOON).unwrap();
        scene.fail_over();
    }
    scene.connection.expect(start, SOON).unwrap();
}

/// Loses the connection when this state is told, before anything else is.
fn lose_it_at(client: &Client, state: ConnectionState, connections: Arc<Mutex<Vec<PeerConnection>>>) {
    let weak = client.downgrade();
    client.add_connection_state_listener(move |told: ConnectionState| {
        if told != state {
            return;
        }
        let Some(connection) = connections.lock().pop() else { return };
        connection.close();
        let client = weak.upgrade().expect("the test holds it");
        let deadline = Instant::now() + SOON;
        while client.is_connected() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    });
}

/// S-6: what is gone again is not told, and the next connection is told from the start.
#[test]
fn the_states_of_a_connection_that_is_gone_are_not_told() {
    for (at, told) in [
        (LoggedOn, vec![Connected, LoggedOn]),
        (HeartbeatInitiated, vec![Connected, LoggedOn, HeartbeatInitiated]),
        (PublishReplayed, vec![Connected, LoggedOn, HeartbeatInitiated, PublishReplayed]),
    ] {
        let peer = ScriptedPeer::start().unwrap();
        let client = ha_client(&[&peer], |builder| builder.publish_store(MemoryPublishStore::new()));
        client.set_heartbeat(Duration::from_secs(60)).unwrap();
        let record = Record::of(&client);
        let connections: Arc<Mutex<Vec<PeerConnection>>> = Arc::default();
        lose_it_at(&client, at, Arc::clone(&connections));
        let waiting = connecting(&client);
        let first = peer.accept(SOON).unwrap();
        first.expect("logon", SOON).unwrap();
        let answer = LogonAck::success().answer(first.frames()[0].frame());
        // The listener may be there before the line after the answer is.
        let mut held = connections.lock();
        first.send(&answer, b"").unwrap();
        held.push(first);
        drop(held);
        let second = admitted(&peer);
        waiting.wait().unwrap();
        settle(&client, &second);
        let full = [Connected, LoggedOn, HeartbeatInitiated, PublishReplayed, Resubscribed];
        assert_eq!(record.states(), [told.as_slice(), &[Disconnected], &full].concat(), "lost at {at}");
    }
}

/// S-7: a failed connect tells nothing, a failed logon Connected and Disconnected.
#[test]
fn an_attempt_that_fails_is_told_only_if_it_connected() {
    let (a, b, c) =
        (ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    a.refuse().unwrap();
    let client = ha_client(&[&a, &b, &c], |builder| builder);
    let record = Record::of(&client);
    let waiting = connecting(&client);
    answered(&b, &LogonAck::failure("name in use")).wait_closed(SOON).unwrap();
    let connection = admitted(&c);
    waiting.wait().unwrap();
    settle(&client, &connection);
    assert_eq!(record.states(), [Connected, Disconnected, Connected, LoggedOn, Resubscribed]);
}

/// 71, S-1: also on the thread that repairs.
#[test]
fn a_listener_may_remove_itself_while_an_outage_is_told() {
    let mut scene = HaScene::logged_on();
    let (id, told) = (Arc::new(Mutex::new(None::<ListenerId>)), Arc::new(Mutex::new(Vec::new())));
    let (own, log, weak) = (Arc::clone(&id), Arc::clone(&told), scene.client.downgrade());
    let mut registered = id.lock();
    *registered = Some(scene.client.add_connection_state_listener(move |state: ConnectionState| {
        log.lock().push(state);
        let client = weak.upgrade().expect("the test holds it");
        assert!(client.remove_connection_state_listener(own.lock().expect("it is registered")));
    }));
    drop(registered);
    scene.fail_over();
    scene.record.wait_for_states(&[
        Connected,
        LoggedOn,
        Resubscribed,
        Disconnected,
        Connected,
        LoggedOn,
        Resubscribed,
    ]);
    assert_eq!(*told.lock(), [Disconnected]);
    assert!(scene.record.failures().is_empty());
}

/// 72, S-8.
#[test]
fn an_outage_that_is_ended_by_close_tells_shutdown_once() {
    let scene = HaScene::logged_on();
    scene.peer.refuse().unwrap();
    scene.connection.close();
    let lost = [Connected, LoggedOn, Resubscribed, Disconnected];
    scene.record.wait_for_states(&lost);
    scene.client.close();
    scene.client.close();
    assert_eq!(scene.record.states(), [lost.as_slice(), &[Shutdown]].concat());
    assert!(scene.record.failures().is_empty(), "{:?}", scene.record.story());
}

/// S-2: the thread that repairs tells, and never two at once.
#[test]
fn the_states_of_a_repair_are_told_on_the_receive_thread_of_the_lost_connection() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder);
    let threads = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&threads);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();
    client.add_connection_state_listener(move |_: ConnectionState| {
        let thread = std::thread::current();
        log.lock().push((thread.id(), thread.name().unwrap_or_default().to_owned()));
    });
    first.close();
    let second = admitted(&peer);
    settle(&client, &second);
    let threads = threads.lock();
    assert_eq!(threads.len(), 4);
    assert!(threads.iter().all(|thread| *thread == threads[0] && thread.1 == "amps-rx-ha"), "{threads:?}");
}

/// S-3: inside a listener nothing is waited for, at whatever step of a recovery.
#[test]
fn inside_a_listener_what_waits_is_refused_during_a_recovery_too() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder.publish_store(MemoryPublishStore::new()));
    let kinds = Arc::new(Mutex::new(Vec::new()));
    let (log, weak) = (Arc::clone(&kinds), client.downgrade());
    client.add_connection_state_listener(move |state: ConnectionState| {
        let client = weak.upgrade().expect("the test holds it");
        let waits = [
            client.subscribe("t", "").map(drop),
            client.sow("t", "").map(drop),
            client.publish_flush(),
            client.sow_delete("t", "1=1").map(drop),
        ];
        log.lock().extend(waits.map(|outcome| (state, outcome.map_err(|error| error.kind()))));
    });
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    settle(&client, &connection);
    let kinds = kinds.lock();
    assert_eq!(kinds.len(), 16);
    assert!(kinds.iter().all(|(_, outcome)| *outcome == Err(ErrorKind::Usage)), "{kinds:?}");
    assert_eq!(commands(&connection), ["logon"]);
}

/// 70: the refusal ends a plain client with everything before any recovery.
#[test]
fn a_refused_logon_recovers_nothing() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("plain")
        .publish_store(MemoryPublishStore::new())
        .subscription_manager(MemorySubscriptionManager::new())
        .build()
        .unwrap();
    let record = Record::of(&client);
    drop(client.publish("t", "kept").unwrap_err());
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::failure("auth failure"), SOON).unwrap();
    let error: Error = logon.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    connection.wait_closed(SOON).unwrap();
    assert_eq!(record.states(), [Connected, Disconnected]);
    assert_eq!(commands(&connection), ["logon"]);
}
