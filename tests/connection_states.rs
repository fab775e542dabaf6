//! State listeners hear of every change once, in order, on the thread that made it.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{Authenticator, Client, ConnectionState, ErrorKind, ListenerId, Result, WeakClient};
use parking_lot::Mutex;
use support::client::*;

use ConnectionState::{Connected, Disconnected, HeartbeatInitiated, LoggedOn, Shutdown};

/// 66, table 5.2, S-2: the caller of `connect` and `logon` hears of them.
#[test]
fn connecting_and_logging_on_are_told_on_the_threads_that_do_it() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let (sender, told) = mpsc::channel();
    client.add_connection_state_listener(move |state| {
        sender.send((state, thread::current().id())).unwrap();
    });
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| {
        client.logon_with(&in_time()).unwrap();
        thread::current().id()
    });
    connection.logon(&LogonAck::success(), SOON).unwrap();
    let caller = logon.wait();
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told, [(Connected, thread::current().id()), (LoggedOn, caller)]);
}

/// Table 5.2, S-2: a client that never logs on is connected all the same.
#[test]
fn a_client_that_never_logs_on_is_connected() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    let connection = connect(&client, &peer);
    client.publish("t", "x").unwrap();
    connection.expect("publish", SOON).unwrap();
    client.close();
    assert_eq!(record.states(), [Connected, Disconnected, Shutdown]);
}

/// 69, S-8: each once.
#[test]
fn a_close_is_told_as_disconnected_and_shutdown_and_a_second_one_not_at_all() {
    let scene = Scene::logged_on("c");
    scene.client.close();
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    scene.client.close();
    drop(scene.client);
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
}

/// S-8.
#[test]
fn closing_what_is_not_connected_is_told_as_shutdown_once() {
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    client.close();
    client.close();
    assert_eq!(record.states(), [Shutdown]);
}

/// S-9: dropping the last handle is told like closing.
#[test]
fn dropping_the_last_handle_is_told_like_closing() {
    let Scene { client, record, connection, peer } = Scene::logged_on("c");
    let clone = client.clone();
    drop(client);
    assert_eq!(record.states(), [Connected, LoggedOn]);
    drop(clone);
    assert_eq!(record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    connection.wait_closed(SOON).unwrap();
    drop(peer);
}

/// 70, S-7: refused, and lost before the answer.
#[test]
fn a_logon_that_fails_is_told_as_disconnected_only() {
    for lost in [false, true] {
        let peer = ScriptedPeer::start().unwrap();
        let client = Client::builder("c").build().unwrap();
        let record = Record::of(&client);
        let connection = connect(&client, &peer);
        let logon = begin(&client, |client| client.logon_with(&in_time()));
        if lost {
            connection.expect("logon", SOON).unwrap();
            connection.close();
        } else {
            connection.logon(&LogonAck::failure("not entitled"), SOON).unwrap();
        }
        let expected = if lost { ErrorKind::Disconnected } else { ErrorKind::NotEntitled };
        assert_eq!(logon.wait().unwrap_err().kind(), expected);
        assert_eq!(record.states(), [Connected, Disconnected]);
        assert!(!client.is_connected());
    }
}

/// 6, S-7, T-11: what failed before it was told as connected is not told as disconnected.
#[test]
fn a_connection_that_fails_before_it_was_told_is_not_told_at_all() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    client.set_thread_created_callback(|| Err::<(), _>("not on this core"));
    let error = client.connect(&peer.uri("json")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("not on this core"), "{error}");
    assert!(record.story().is_empty(), "{:?}", record.story());
    client.set_thread_created_callback(|| {});
    peer.accept(SOON).unwrap().wait_closed(SOON).unwrap();
    log_on(&client, &connect(&client, &peer));
    assert_eq!(record.states(), [Connected, LoggedOn]);
}

/// 71, S-1: from inside the callback.
#[test]
fn a_listener_may_remove_itself_and_is_not_called_again() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let (id, calls) = (Arc::new(Mutex::new(None::<ListenerId>)), Arc::new(AtomicUsize::new(0)));
    let (own, counter, weak) = (Arc::clone(&id), Arc::clone(&calls), client.downgrade());
    let added = client.add_connection_state_listener(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        let client = weak.upgrade().unwrap();
        assert!(client.remove_connection_state_listener(own.lock().unwrap()));
    });
    *id.lock() = Some(added);
    let record = Record::of(&client);
    log_on(&client, &connect(&client, &peer));
    assert_eq!((record.states().len(), calls.load(Ordering::Relaxed)), (2, 1));
    assert!(record.failures().is_empty());
    assert!(!client.remove_connection_state_listener(added));
}

/// S-1: a snapshot is told, and a clone of a shared listener counts as the same.
#[test]
fn listeners_may_be_added_and_cleared_at_any_time_and_one_added_twice_is_called_once() {
    let client = Client::builder("c").build().unwrap();
    let (added, shared) = (Record::default(), Arc::new(Record::default()));
    let listener = {
        let shared = Arc::clone(&shared);
        Arc::new(move |state| shared.tell(state))
    };
    client.add_connection_state_listener(Arc::clone(&listener));
    client.add_connection_state_listener(listener);
    let (weak, late) = (client.downgrade(), added.clone());
    client.add_connection_state_listener(move |state| {
        let (client, late) = (weak.upgrade().unwrap(), late.clone());
        match state {
            Connected => drop(client.add_connection_state_listener(move |state| late.tell(state))),
            _ => client.clear_connection_state_listeners(),
        }
    });
    let peer = ScriptedPeer::start().unwrap();
    log_on(&client, &connect(&client, &peer));
    client.close();
    assert_eq!(shared.states(), [Connected, LoggedOn], "cleared by then");
    assert_eq!(added.states(), [LoggedOn], "not told what was under way when it was added");
}

/// S-2: a change made inside a listener is told after the current one, to everybody in the same order.
#[test]
fn a_change_made_inside_a_listener_is_told_afterwards() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let before = Record::of(&client);
    let weak = client.downgrade();
    client.add_connection_state_listener(move |state| {
        if state == Connected {
            weak.upgrade().unwrap().close();
        }
    });
    let after = Record::of(&client);
    assert_eq!(client.connect(&peer.uri("json")).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(before.states(), [Connected, Disconnected, Shutdown]);
    assert_eq!(after.states(), before.states());
}

/// S-2: whoever makes the changes, one call at a time.
#[test]
fn calls_of_listeners_never_overlap() {
    let scene = Scene::logged_on("c");
    let (inside, overlaps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, seen) = (Arc::clone(&inside), Arc::clone(&overlaps));
    scene.client.add_connection_state_listener(move |_| {
        seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let setters: Vec<_> = (1..=4_u64)
        .map(|n| {
            scene.begin(move |client| {
                (1..=20).for_each(|m| client.set_heartbeat(SOON * (20 * n as u32 + m)).unwrap());
            })
        })
        .collect();
    setters.into_iter().for_each(Pending::wait);
    scene.client.close();
    assert_eq!(overlaps.load(Ordering::SeqCst), 1);
    let states = scene.record.states();
    assert_eq!(states.iter().filter(|state| **state == HeartbeatInitiated).count(), 80);
}

/// S-3, T-6: a publish inside a listener never waits, and goes out when the change is done.
#[test]
fn what_a_listener_publishes_goes_out_after_the_logon() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let (weak, (sender, outcomes)) = (client.downgrade(), mpsc::channel());
    client.add_connection_state_listener(move |state: ConnectionState| {
        if state == LoggedOn {
            sender.send(weak.upgrade().unwrap().publish("t", "from the listener")).unwrap();
        }
    });
    client.set_heartbeat(SOON).unwrap();
    let connection = connect(&client, &peer);
    log_on(&client, &connection);
    outcomes.recv_timeout(SOON).unwrap().unwrap();
    connection.expect("heartbeat", SOON).unwrap();
    assert_eq!(connection.expect("publish", SOON).unwrap().payload(), b"from the listener");
}

/// Waits until the client has noticed that its connection is gone.
fn wait_for_loss(client: &Client) {
    let deadline = Instant::now() + SOON;
    while client.is_connected() {
        assert!(Instant::now() < deadline, "the loss was not noticed");
        thread::yield_now();
    }
}

/// Loses the connection when the logon has succeeded, and before anybody hears of that.
struct LosesIt {
    client: WeakClient,
    connection: Arc<PeerConnection>,
}

impl Authenticator for LosesIt {
    fn authenticate(&self, _: &str, password: &str) -> Result<String> {
        Ok(password.to_owned())
    }

    fn retry(&self, _: &str, password: &str) -> Result<String> {
        Ok(password.to_owned())
    }

    fn completed(&self, _: &str, _: &str, _: &str) -> Result<()> {
        self.connection.close();
        wait_for_loss(&self.client.upgrade().expect("the test holds it"));
        Ok(())
    }
}

/// S-6: the connection is gone again before its logon can be told.
#[test]
fn a_logon_on_a_connection_that_is_gone_is_not_told() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    let connection = Arc::new(connect(&client, &peer));
    let loses_it = LosesIt { client: client.downgrade(), connection: Arc::clone(&connection) };
    let logon = begin(&client, |client| client.logon_with(&in_time().authenticator(loses_it)));
    connection.logon(&LogonAck::success(), SOON).unwrap();
    assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(record.states(), [Connected, Disconnected]);
}

/// S-6: the connection is gone again before its heartbeats can be told.
#[test]
fn heartbeats_on_a_connection_that_is_gone_are_not_told() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.set_heartbeat(SOON).unwrap();
    let connection = Arc::new(connect(&client, &peer));
    let record = Record::of(&client);
    let (weak, other_end) = (client.downgrade(), Arc::clone(&connection));
    client.add_connection_state_listener(move |state| {
        if state == LoggedOn {
            other_end.close();
            wait_for_loss(&weak.upgrade().unwrap());
        }
    });
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::success(), SOON).unwrap();
    assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    record.wait_for_states(&[LoggedOn, Disconnected]);
}

/// Decision 7, S-8: a client that was closed can be used again, and is told like a new one.
#[test]
fn a_closed_client_can_connect_again() {
    let scene = Scene::logged_on("c");
    scene.client.close();
    log_on(&scene.client, &connect(&scene.client, &scene.peer));
    scene.client.close();
    let once = [Connected, LoggedOn, Disconnected, Shutdown];
    assert_eq!(scene.record.states(), [once, once].concat());
}
