//! A peer that says what no server says, and an application that does what nobody should: nothing is lost or hangs.

use std::time::Duration;

use crate::support::client::*;
use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{Client, ConnectionState, ErrorKind, Logon, MemoryPublishStore, Message};

/// A logon that is over leaves a handler alone that still runs.
#[test]
fn a_logon_that_fails_in_time_does_not_wait_for_a_handler_that_blocks() {
    let client = Client::builder("c").build().unwrap();
    let peer = ScriptedPeer::start().unwrap();
    let gate = Gate::new();
    let held = gate.clone();
    client.set_last_chance_handler(move |_: &Message| held.pass());
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&Logon::new().timeout(Duration::from_millis(100))));
    connection.skip_to("logon", SOON).unwrap();
    connection.send(&publication("nobody"), "{}").unwrap();
    gate.wait_reached(1);
    assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::TimedOut);
    gate.open();
}

/// The server cannot have what it was not sent.
#[test]
fn an_acknowledgement_of_what_was_never_sent_discards_nothing() {
    for sequence in ["18446744073709551615", "18446744073709551614"] {
        let scene = Scene::prepared(Client::builder("c").publish_store(MemoryPublishStore::new()), |_| {});
        let first = scene.client.publish("t", "1").unwrap();
        scene.connection.expect("publish", SOON).unwrap();
        let ack = format!(r#"{{"c":"ack","a":"persisted","s":{sequence},"status":"success"}}"#);
        scene.connection.send(&ack, "").unwrap();
        settle_stored(&scene);
        let store = scene.client.publish_store().unwrap();
        assert_eq!(store.lowest_unpersisted(), Some(first), "{sequence}");
        assert_eq!(scene.client.publish("t", "2").unwrap(), first + 1);
    }
}

fn settle_stored(scene: &Scene) {
    scene.subscribe("settled");
    scene.send("settled", "{}");
}

#[test]
fn a_logon_answer_with_the_highest_number_ends_in_an_error_and_not_in_silence() {
    let client = Client::builder("c").publish_store(MemoryPublishStore::new()).build().unwrap();
    let peer = ScriptedPeer::start().unwrap();
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.logon(&LogonAck::success().sequence(u64::MAX), SOON).unwrap();
    let _ = logon.wait();
    assert!(client.publish("t", "1").is_err());
}

/// Listeners of two clients that close each other.
#[test]
fn a_listener_may_close_its_client_from_within_a_listener_of_another() {
    let peer = ScriptedPeer::start().unwrap();
    let [first, second] = ["first", "second"].map(|name| Client::builder(name).build().unwrap());
    let _held = connect(&second, &peer);
    let (weak, other) = (first.downgrade(), second.clone());
    first.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::Connected {
            other.close();
        }
    });
    second.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::Shutdown
            && let Some(client) = weak.upgrade()
        {
            client.close();
        }
    });
    let uri = peer.uri("json");
    let connecting = begin(&first, move |client| client.connect(&uri));
    assert_eq!(connecting.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(!first.is_connected() && !second.is_connected());
}
