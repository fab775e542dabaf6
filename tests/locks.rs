//! No lock of the library is held while user code runs, nor while what the user gave is dropped (rule T-10).

mod support;

use std::sync::mpsc;

use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{
    Authenticator, Client, Command, ConnectionState, Direction, Error, ErrorKind, GlobalKind, Message,
    Result, UnhandledError, WeakClient,
};
use support::client::*;

/// Uses every lock of the client, and waits for nothing else.
fn use_everything(client: &Client) {
    client.connection_info();
    client.server_version();
    client.set_last_chance_handler(|_: &Message| {});
    client.set_default_max_depth(10, 10_000).unwrap();
    client.set_logon_correlation_data("YQ==").unwrap();
    client.set_transport_filter(|_: Direction, _: &[u8]| {});
    client.clear_transport_filter();
    let id = client.add_connection_state_listener(|_: ConnectionState| {});
    client.remove_connection_state_listener(id);
    // Whether it can be sent depends on the moment.
    drop(client.unsubscribe("nobody").err());
    drop(client.cancel_query("nobody").err());
}

/// True if the client can be used from this thread and from another, right now.
fn is_free(client: &Client) -> bool {
    use_everything(client);
    let (sender, done) = mpsc::channel();
    let client = client.clone();
    std::thread::spawn(move || {
        use_everything(&client);
        drop(client);
        sender.send(()).ok()
    });
    done.recv_timeout(SOON).is_ok()
}

/// Looks whether the client is free, from inside some code of the user, and tells the test.
#[derive(Clone)]
struct Probe {
    client: WeakClient,
    outcome: mpsc::Sender<bool>,
}

impl Probe {
    fn look(&self) {
        // Without a client there is nothing to be held.
        let free = self.client.upgrade().is_none_or(|client| is_free(&client));
        _ = self.outcome.send(free).ok();
    }
}

/// Looks when it is dropped.
struct Dropped(Probe);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.look();
    }
}

fn probe(client: &Client) -> (Probe, mpsc::Receiver<bool>) {
    let (outcome, outcomes) = mpsc::channel();
    (Probe { client: client.downgrade(), outcome }, outcomes)
}

#[track_caller]
fn assert_free(outcomes: &mpsc::Receiver<bool>, place: &str) {
    assert_eq!(outcomes.recv_timeout(2 * SOON), Ok(true), "{place}");
}

#[test]
fn no_lock_is_held_while_a_handler_or_a_listener_runs() {
    let scene = Scene::logged_on("c");
    scene.connection.ignore("unsubscribe");
    let (probe, outcomes) = probe(&scene.client);
    let look = || {
        let probe = probe.clone();
        move |_: &Message| probe.look()
    };
    scene.subscribe_with("s", look());
    scene.client.set_global_handler(GlobalKind::Heartbeat, look());
    scene.send("s", "x");
    assert_free(&outcomes, "a message handler");
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    assert_free(&outcomes, "a global handler");
    scene.client.set_last_chance_handler(look());
    scene.send("nobody", "x");
    assert_free(&outcomes, "the last-chance handler");

    let query = Command::sow("t").query_id("q");
    let handler = look();
    scene.accepted("sow", |client| client.execute_async(query, handler));
    scene.connection.send(r#"{"c":"sow","query_id":"q","bs":1}"#, r#"{"l":1}x"#).unwrap();
    assert_free(&outcomes, "a handler of records");

    let on_exception = probe.clone();
    scene.client.set_exception_listener(move |_: &UnhandledError| on_exception.look());
    scene.subscribe_with("f", |_: &Message| Err::<(), _>("for the exception listener"));
    scene.send("f", "x");
    assert_free(&outcomes, "the exception listener");

    let on_state = probe.clone();
    scene.client.add_connection_state_listener(move |_: ConnectionState| on_state.look());
    scene.client.set_heartbeat(SOON).unwrap();
    assert_free(&outcomes, "a state listener");
    scene.client.clear_connection_state_listeners();

    let on_loss = probe.clone();
    scene.client.set_disconnect_handler(move |_: &Client, _: &Error| on_loss.look());
    scene.connection.close();
    assert_free(&outcomes, "the disconnect handler");
}

#[test]
fn no_lock_is_held_while_an_authenticator_runs() {
    struct Looks(Probe);
    impl Authenticator for Looks {
        fn authenticate(&self, _: &str, password: &str) -> Result<String> {
            self.0.look();
            Ok(password.to_owned())
        }
        fn retry(&self, _: &str, password: &str) -> Result<String> {
            self.0.look();
            Ok(password.to_owned())
        }
        fn completed(&self, _: &str, _: &str, _: &str) -> Result<()> {
            self.0.look();
            Ok(())
        }
    }
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let connection = connect(&client, &peer);
    connection.ignore("unsubscribe");
    let (probe, outcomes) = probe(&client);
    let logon = begin(&client, |client| client.logon_with(&in_time().authenticator(Looks(probe))));
    connection.logon(&LogonAck::retry("u", "p"), SOON).unwrap();
    connection.logon(&LogonAck::success(), SOON).unwrap();
    logon.wait().unwrap();
    ["authenticate", "retry", "completed"].iter().for_each(|call| assert_free(&outcomes, call));
}

#[test]
fn no_lock_is_held_while_a_replaced_callback_is_dropped() {
    let scene = Scene::logged_on("c");
    let (probe, outcomes) = probe(&scene.client);
    type Setter = fn(&Client, Option<Dropped>);
    fn keep(dropped: &Option<Dropped>) {
        assert!(dropped.as_ref().is_none_or(|dropped| dropped.0.client.upgrade().is_some()));
    }
    let setters: [(&str, Setter); 9] = [
        ("set_exception_listener", |c, d| c.set_exception_listener(move |_: &UnhandledError| keep(&d))),
        ("set_disconnect_handler", |c, d| {
            c.set_disconnect_handler(move |_: &Client, _: &Error| keep(&d));
        }),
        ("set_last_chance_handler", |c, d| c.set_last_chance_handler(move |_: &Message| keep(&d))),
        ("set_duplicate_handler", |c, d| c.set_duplicate_handler(move |_: &Message| keep(&d))),
        ("set_global_handler", |c, d| c.set_global_handler(GlobalKind::Ack, move |_: &Message| keep(&d))),
        ("set_thread_created_callback", |c, d| c.set_thread_created_callback(move || keep(&d))),
        ("set_thread_exiting_callback", |c, d| c.set_thread_exiting_callback(move || keep(&d))),
        ("set_transport_filter", |c, d| {
            c.set_transport_filter(move |_: Direction, _: &[u8]| keep(&d));
        }),
        ("clear_connection_state_listeners", |c, d| {
            c.clear_connection_state_listeners();
            c.add_connection_state_listener(move |_: ConnectionState| keep(&d));
        }),
    ];
    for (name, set) in setters {
        let dropped = Dropped(probe.clone());
        scene.begin(move |client| set(client, Some(dropped))).wait();
        scene.begin(move |client| set(client, None)).wait();
        assert_free(&outcomes, name);
    }
}

#[test]
fn no_lock_is_held_while_a_handler_whose_route_ends_is_dropped() {
    type End = fn(&Scene);
    let ends: [(&str, End); 6] = [
        ("unsubscribe", |scene| scene.client.unsubscribe("s").unwrap()),
        ("unsubscribe_all", |scene| scene.client.unsubscribe_all().unwrap()),
        ("close", |scene| scene.client.close()),
        ("a loss", |scene| scene.connection.close()),
        ("a refused logon", |scene| {
            let logon = scene.begin(|client| client.logon_with(&in_time()));
            scene.connection.logon(&LogonAck::failure("duplicate logon attempt"), SOON).unwrap();
            assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::DuplicateLogon);
        }),
        ("the end of a query", |scene| {
            scene.connection.reply(r#"{"c":"group_end","query_id":"q"}"#).unwrap();
        }),
    ];
    for (what, end) in ends {
        let scene = Scene::logged_on("c");
        let (probe, outcomes) = probe(&scene.client);
        let dropped = Dropped(probe);
        let handler = move |_: &Message| assert!(dropped.0.client.upgrade().is_some());
        if what == "the end of a query" {
            let query = Command::sow("t").query_id("q");
            scene.accepted("sow", |client| client.execute_async(query, handler));
        } else {
            scene.subscribe_with("s", handler);
        }
        end(&scene);
        assert_free(&outcomes, what);
    }
}

/// M-6: the handler of a command that is refused, or cannot be sent.
#[test]
fn no_lock_is_held_while_the_handler_of_a_failed_command_is_dropped() {
    let scene = Scene::logged_on("c");
    let (probe, outcomes) = probe(&scene.client);
    for what in ["refused", "timed out"] {
        let dropped = Dropped(probe.clone());
        let handler = move |_: &Message| assert!(dropped.0.client.upgrade().is_some());
        let limit = if what == "refused" { SOON } else { A_WHILE };
        let command = Command::subscribe("t").timeout(limit);
        let subscribe = scene.begin(move |client| client.execute_async(command, handler));
        scene.connection.skip_to("subscribe", SOON).unwrap();
        if what == "refused" {
            scene.connection.reply_failure("not entitled").unwrap();
        }
        subscribe.wait().unwrap_err();
        assert_free(&outcomes, what);
    }
}
