//! A lost connection is repaired once, by the disconnect handler, and everybody is told in order.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{Client, Command, ConnectionState, Error, ErrorKind, Origin, Result};
use support::client::*;

use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown};

/// 26, D-5, D-13: without a handler.
#[test]
fn without_a_handler_a_loss_ends_with_shutdown_and_a_report() {
    let scene = Scene::logged_on("c");
    scene.connection.close();
    let failure = scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!((failure.origin, failure.thread.as_str()), (Origin::Connection, "amps-rx-c"));
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    assert_eq!(scene.record.failures().len(), 1);
    assert!(!scene.client.is_connected());
}

/// 27, D-7, D-8, D-20, T-7.
#[test]
fn a_handler_that_reconnects_is_called_once_and_work_goes_on() {
    let mut scene = Scene::logged_on("c");
    let calls = Arc::new(AtomicUsize::new(0));
    let (counter, reconnect) = (Arc::clone(&calls), reconnects_to(&scene.peer));
    scene.client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        counter.fetch_add(1, Ordering::Relaxed);
        assert!(cause.is_disconnect() && !client.is_connected());
        reconnect(client, cause)
    });
    scene.connection.close();
    scene.accept_again();
    scene.record.wait_for_states(&[Connected, LoggedOn, Disconnected, Connected, LoggedOn]);
    scene.client.publish("t", "after").unwrap();
    let publish = scene.connection.expect("publish", SOON).unwrap();
    assert_eq!(publish.payload(), b"after");
    assert_eq!((calls.load(Ordering::Relaxed), scene.record.failures().len()), (1, 0));
}

/// T-7, D-7: the handler subscribes too, and its answer comes over the new connection.
#[test]
fn a_handler_may_subscribe_after_it_has_reconnected() {
    let mut scene = Scene::logged_on("c");
    let (sender, placed) = mpsc::channel();
    let reconnect = reconnects_to(&scene.peer);
    scene.client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        reconnect(client, cause)?;
        let id = client.execute_async(Command::subscribe("t").sub_id("s").timeout(SOON), |_: &_| {})?;
        sender.send(id).map_err(|_| Error::from(ErrorKind::Amps))
    });
    scene.connection.close();
    scene.accept_again();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    assert_eq!(placed.recv_timeout(SOON).unwrap(), "s");
}

/// T-7: nothing can be waited for before there is a connection.
#[test]
fn before_it_has_reconnected_the_commands_of_a_handler_fail_at_once() {
    let scene = Scene::logged_on("c");
    let (sender, kinds) = mpsc::channel();
    scene.client.set_disconnect_handler(move |client: &Client, _: &Error| {
        for outcome in [
            client.publish("t", "x").map(drop),
            client.subscribe("t", "").map(drop),
            client.sow("t", "").map(drop),
            client.publish_flush(),
            client.logon(),
            client.unsubscribe("s"),
        ] {
            sender.send(outcome.map_err(|e| e.kind())).unwrap();
        }
    });
    scene.connection.close();
    for _ in 0..6 {
        assert_eq!(kinds.recv_timeout(SOON).unwrap(), Err(ErrorKind::Disconnected));
    }
}

/// 28, D-8, D-18.
#[test]
fn a_handler_that_fails_is_reported_between_disconnected_and_shutdown() {
    let scene = Scene::logged_on("c");
    scene.client.set_disconnect_handler(|_: &Client, _: &Error| Err::<(), _>("the handler gave up"));
    scene.connection.close();
    scene.record.wait_for_failures(2);
    let story = scene.record.story();
    assert_eq!(story[2], "Disconnected");
    assert!(
        story[3].starts_with("HandlerFailed: the disconnect handler failed: the handler gave up"),
        "{story:?}"
    );
    assert_eq!(story[4], "Shutdown");
    assert!(story[5].starts_with("Disconnected: reconnect failed"), "{story:?}");
    assert_eq!(story.len(), 6);
    assert_eq!(scene.record.failures()[0].origin, Origin::DisconnectHandler);
}

/// 28, D-18, X-7: a panic counts as an error.
#[test]
fn a_handler_that_panics_is_reported_and_the_client_can_be_used_again() {
    let scene = Scene::logged_on("c");
    scene.client.set_disconnect_handler(|_: &Client, _: &Error| -> () { panic!("the handler blew up") });
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::HandlerPanicked, "the handler blew up");
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    log_on(&scene.client, &connect(&scene.client, &scene.peer));
}

/// 29, D-8.
#[test]
fn a_handler_that_does_not_reconnect_leads_to_shutdown() {
    let scene = Scene::logged_on("c");
    scene.client.set_disconnect_handler(|_: &Client, _: &Error| {});
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    assert_eq!(scene.record.failures().len(), 1);
}

/// D-12.
#[test]
fn after_a_failed_repair_the_application_may_connect_again() {
    let scene = Scene::logged_on("c");
    scene.connection.close();
    scene.record.wait_for_states(&[Connected, LoggedOn, Disconnected, Shutdown]);
    let again = connect(&scene.client, &scene.peer);
    log_on(&scene.client, &again);
    scene.client.publish("t", "x").unwrap();
    again.expect("publish", SOON).unwrap();
    let states = [Connected, LoggedOn, Disconnected, Shutdown, Connected, LoggedOn];
    assert_eq!(scene.record.states(), states);
}

/// 30, D-9, D-15: eight threads publish while the connection goes; nobody but the receive thread repairs it.
#[test]
fn the_handler_runs_once_for_a_loss_that_many_threads_meet() {
    let mut scene = Scene::logged_on("c");
    let calls = Arc::new(AtomicUsize::new(0));
    let (counter, reconnect) = (Arc::clone(&calls), reconnects_to(&scene.peer));
    scene.client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        counter.fetch_add(1, Ordering::Relaxed);
        reconnect(client, cause)
    });
    let publishers: Vec<_> = (0..8)
        .map(|n| {
            scene.begin(move |client| (0..500).try_for_each(|_| client.publish("t", n.to_string()).map(drop)))
        })
        .collect();
    scene.peer.wait_for_frames(100, "publish", SOON).unwrap();
    scene.connection.reset();
    scene.accept_again();
    for publisher in publishers {
        publisher.wait().unwrap();
    }
    scene.record.wait_for_states(&[Connected, LoggedOn, Disconnected, Connected, LoggedOn]);
    assert_eq!((calls.load(Ordering::Relaxed), scene.record.failures().len()), (1, 0));
}

/// 31, D-2, decision 15: in one run the reader notices, in the other a failing send while a handler holds the receive
/// thread.
#[test]
fn the_handler_runs_on_the_receive_thread_of_the_lost_connection_whoever_notices() {
    for sender_notices in [false, true] {
        let mut scene = Scene::logged_on("c");
        let (sender, threads) = mpsc::channel();
        let reconnect = reconnects_to(&scene.peer);
        scene.client.set_disconnect_handler(move |client: &Client, cause: &Error| {
            sender.send(thread::current().id()).unwrap();
            reconnect(client, cause)
        });
        let (gate, (told, receive_thread)) = (Gate::new(), mpsc::channel());
        let held = gate.clone();
        scene.subscribe_with("s", move |_: &_| {
            told.send(thread::current().id()).unwrap();
            held.pass();
        });
        scene.send("s", "x");
        gate.wait_reached(1);
        if !sender_notices {
            gate.open();
        }
        scene.connection.reset();
        let publisher = scene.begin(|client| {
            // The first write after a reset may still succeed.
            (0..100_000).try_for_each(|_| client.publish("t", "y").map(drop))
        });
        if sender_notices {
            assert!(
                publisher.is_waiting(),
                "the publisher waits for the repair, which waits for the handler"
            );
            gate.open();
        }
        scene.accept_again();
        publisher.wait().unwrap();
        let lost = receive_thread.recv_timeout(SOON).unwrap();
        assert_eq!(threads.recv_timeout(SOON).unwrap(), lost, "sender notices: {sender_notices}");
    }
}

/// 32, D-10.
#[test]
fn closing_does_not_call_the_handler() {
    let scene = Scene::logged_on("c");
    let (sender, called) = mpsc::channel();
    scene.client.set_disconnect_handler(move |_: &Client, _: &Error| _ = sender.send(()));
    scene.client.close();
    assert_eq!(called.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    assert!(scene.record.failures().is_empty());
}

/// 32, D-10: the handler is running when the client is closed; what it tries then fails, and nothing is reported.
#[test]
fn a_handler_that_runs_while_the_client_is_closed_cannot_connect_any_more() {
    let scene = Scene::logged_on("c");
    let (gate, (sender, outcome)) = (Gate::new(), mpsc::channel());
    let (held, uri) = (gate.clone(), scene.peer.uri("json"));
    scene.client.set_disconnect_handler(move |client: &Client, _: &Error| {
        held.pass();
        sender.send(client.connect(&uri).map_err(|e| e.kind())).unwrap();
    });
    scene.connection.close();
    gate.wait_reached(1);
    let close = scene.begin(Client::close);
    assert!(close.is_waiting(), "close waits for the handler");
    gate.open();
    close.wait();
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Err(ErrorKind::Disconnected));
    assert_eq!(scene.record.story(), ["Connected", "LoggedOn", "Disconnected", "Shutdown"]);
    assert_eq!(scene.peer.connections(), 1);
}

/// D-10, T-3: the handler itself closes the client.
#[test]
fn a_handler_that_closes_the_client_ends_the_repair_quietly() {
    let scene = Scene::logged_on("c");
    let (sender, outcome) = mpsc::channel();
    let uri = scene.peer.uri("json");
    scene.client.set_disconnect_handler(move |client: &Client, _: &Error| {
        client.close();
        sender.send(client.connect(&uri).map_err(|e| e.kind())).unwrap();
    });
    scene.connection.close();
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Err(ErrorKind::Disconnected));
    scene.client.close();
    assert_eq!(scene.record.story(), ["Connected", "LoggedOn", "Disconnected", "Shutdown"]);
}

/// D-8: the new connection is lost again before the handler returns.
#[test]
fn a_connection_that_is_lost_within_the_handler_counts_as_not_repaired() {
    let mut scene = Scene::logged_on("c");
    let gate = Gate::new();
    let (held, reconnect) = (gate.clone(), reconnects_to(&scene.peer));
    scene.client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        let outcome = reconnect(client, cause);
        held.pass();
        outcome
    });
    scene.connection.close();
    scene.accept_again();
    gate.wait_reached(1);
    scene.connection.close();
    scene.record.wait_for_states(&[Connected, LoggedOn, Disconnected, Connected, LoggedOn, Disconnected]);
    gate.open();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!(scene.record.states().last(), Some(&Shutdown));
    assert_eq!(gate.reached(), 1);
}

/// D-8, S-7: the logon of the handler is refused.
#[test]
fn a_refused_logon_in_the_handler_ends_the_repair() {
    let scene = Scene::logged_on("c");
    scene.reconnect_on_loss();
    scene.connection.close();
    let second = scene.peer.accept(SOON).unwrap();
    second.logon(&LogonAck::failure("auth failure"), SOON).unwrap();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let states = [Connected, LoggedOn, Disconnected, Connected, Disconnected, Shutdown];
    assert_eq!(scene.record.states(), states);
    let origins: Vec<_> = scene.record.failures().iter().map(|f| f.origin).collect();
    assert_eq!(origins, [Origin::Logon, Origin::DisconnectHandler, Origin::Connection]);
}

/// 37, D-11: what follows a failed repair asks for another one, on the calling thread.
#[test]
fn after_a_failed_repair_each_later_command_calls_the_handler_again() {
    let scene = Scene::logged_on("c");
    let (sender, threads) = mpsc::channel();
    scene.client.set_disconnect_handler(move |_: &Client, _: &Error| {
        sender.send(thread::current().id()).unwrap();
    });
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    threads.recv_timeout(SOON).unwrap();
    for _ in 0..2 {
        assert_eq!(scene.client.publish("t", "x").unwrap_err().kind(), ErrorKind::Disconnected);
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
    }
    assert!(threads.try_recv().is_err(), "once for each command");
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
    let texts: Vec<_> = scene.record.failures().iter().map(|f| f.error.to_string()).collect();
    assert!(texts.len() == 3 && texts.iter().all(|text| text.starts_with("reconnect failed")), "{texts:?}");
}

/// D-11: the server is there again, and a command brings the client back.
#[test]
fn a_later_command_revives_a_client_whose_repair_failed() {
    let scene = Scene::logged_on("c");
    scene.reconnect_on_loss();
    scene.peer.refuse().unwrap();
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    scene.peer.listen_again().unwrap();
    let subscription = scene.begin(|client| client.subscribe("t", "").map(|s| s.sub_id().is_some()));
    let again = scene.peer.accept(SOON).unwrap();
    again.logon(&LogonAck::success(), SOON).unwrap();
    again.expect("subscribe", SOON).unwrap();
    again.reply_ok().unwrap();
    assert!(subscription.wait().unwrap());
    let states = [Connected, LoggedOn, Disconnected, Shutdown, Connected, LoggedOn];
    assert_eq!(scene.record.states(), states);
}

/// D-11, D-14: a command that waited for a repair which failed does not ask for another one.
#[test]
fn a_command_that_waited_for_a_failing_repair_ends_with_it() {
    let scene = Scene::logged_on("c");
    let gate = Gate::new();
    let held = gate.clone();
    scene.client.set_disconnect_handler(move |_: &Client, _: &Error| held.pass());
    scene.connection.close();
    gate.wait_reached(1);
    let publish = scene.begin(|client| client.publish("t", "x"));
    assert!(publish.is_waiting());
    gate.open();
    assert_eq!(publish.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_eq!(gate.reached(), 1);
}

/// D-11: the handler runs on an application thread, and the client is closed on another.
#[test]
fn closing_ends_a_repair_that_a_command_asked_for() {
    let scene = Scene::logged_on("c");
    let (gate, uri) = (Gate::new(), scene.peer.uri("json"));
    let held = gate.clone();
    let (sender, outcomes) = mpsc::channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    scene.client.set_disconnect_handler(move |client: &Client, _: &Error| {
        if count.fetch_add(1, Ordering::Relaxed) > 0 {
            held.pass();
            sender.send(client.connect(&uri).map_err(|e| e.kind())).unwrap();
        }
    });
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let publish = scene.begin(|client| client.publish("t", "x"));
    gate.wait_reached(1);
    let failures = scene.record.failures().len();
    scene.client.close();
    gate.open();
    assert_eq!(outcomes.recv_timeout(SOON).unwrap(), Err(ErrorKind::Disconnected));
    assert_eq!(publish.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(scene.record.failures().len(), failures);
}

/// D-11: a client that was closed is not revived, and one without a handler fails at once.
#[test]
fn a_closed_client_is_not_revived() {
    let scene = Scene::logged_on("c");
    let (sender, called) = mpsc::channel();
    scene.client.set_disconnect_handler(move |_: &Client, _: &Error| _ = sender.send(()));
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    scene.client.close();
    called.recv_timeout(SOON).unwrap();
    assert_eq!(scene.client.publish("t", "x").unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(called.try_recv().is_err());
}

/// 39, Example 5.4: server A is down, B is lost later, and A is up by then.
#[test]
fn a_handler_that_goes_through_a_list_ends_on_the_server_that_is_up() {
    let (a, b) = (ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    a.refuse().unwrap();
    let uris = [a.uri("json"), b.uri("json")];
    let at = AtomicUsize::new(0);
    let connect_to_one = move |client: &Client| loop {
        let attempt = || -> Result<()> {
            client.connect(&uris[at.load(Ordering::Relaxed) % 2])?;
            client.logon_with(&in_time())?;
            let orders = Command::subscribe("orders").sub_id("s").timeout(SOON);
            client.execute_async(orders, |_: &_| {}).map(drop)
        };
        match attempt() {
            Ok(()) => return,
            Err(_) => at.fetch_add(1, Ordering::Relaxed),
        };
    };
    let connect_to_one = Arc::new(connect_to_one);
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    let handler = Arc::clone(&connect_to_one);
    client.set_disconnect_handler(move |client: &Client, _: &Error| handler(client));

    let first = begin(&client, move |client| connect_to_one(client));
    let serve = |peer: &ScriptedPeer| {
        let connection = peer.accept(SOON).unwrap();
        connection.logon(&LogonAck::success(), SOON).unwrap();
        connection.expect("subscribe", SOON).unwrap();
        connection.reply_ok().unwrap();
        connection
    };
    let on_b = serve(&b);
    first.wait();
    a.listen_again().unwrap();
    b.refuse().unwrap();
    on_b.close();
    let on_a = serve(&a);
    record.wait_for_states(&[Connected, LoggedOn, Disconnected, Connected, LoggedOn]);
    settle(&client, &on_a);
    assert_eq!(a.wait_for_frames(1, "subscribe", SOON).unwrap().len(), 1);
    assert!(record.failures().is_empty(), "{:?}", record.story());
    assert_eq!((a.connections(), b.connections()), (1, 1));
}
