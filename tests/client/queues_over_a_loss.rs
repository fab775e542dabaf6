//! Acknowledgements when the connection is lost (`resilience` ).

use std::time::Duration;

use crate::support::client::*;
use crate::support::ha::HaScene;
use crate::support::queue::{expect_ack, lend};
use amps_client::testing::LogonAck;
use amps_client::{AckOption, Client, Command, ErrorKind, Message};

const NEVER: Duration = Duration::from_secs(3600);

fn collect(client: &Client, count: usize) {
    client.set_ack_batch_size(count);
    client.set_ack_timeout(NEVER).unwrap();
}

/// 133, Q-8.
#[test]
fn a_batch_that_waits_over_a_loss_is_sent_once_on_the_new_connection() {
    let mut scene = Scene::logged_on("c");
    collect(&scene.client, 10);
    scene.reconnect_on_loss();
    scene.client.ack("q", "1|1|").unwrap();
    scene.client.ack("q", "1|2|").unwrap();
    scene.connection.close();
    scene.accept_again();
    expect_ack(&scene.connection, &[1, 2], "");
    scene.client.ack("q", "1|3|").unwrap();
    scene.settle();
    let acks = scene.connection.frames().iter().filter(|f| f.frame().command() == "sow_delete").count();
    assert_eq!(acks, 1, "those that came later wait for their own batch");
}

///
#[test]
fn a_batch_that_a_loss_catches_on_its_way_is_kept() {
    let mut scene = Scene::logged_on("c");
    scene.reconnect_on_loss();
    let gate = Gate::new();
    let inside = gate.clone();
    scene.subscribe_with("Q", move |_: &Message| inside.pass());
    scene.send("Q", "hold the receive thread, so that the write is the first to notice");
    gate.wait_reached(1);
    scene.connection.reset();
    scene.client.ack("q", "1|1|").unwrap();
    gate.open();
    scene.accept_again();
    expect_ack(&scene.connection, &[1], "");
}

/// Q-9, HA-20: they go before the subscriptions, so that the server does not deliver again what is done.
#[test]
fn what_was_kept_is_sent_between_the_logon_and_the_subscriptions() {
    let mut scene = HaScene::logged_on();
    collect(&scene.client, 10);
    scene.subscribe("Q");
    scene.client.ack("q", "1|1|").unwrap();
    scene.fail_over();
    expect_ack(&scene.connection, &[1], "");
    assert_eq!(scene.resubscribed(1), ["Q"]);
}

/// during an outage nothing is sent and nothing fails.
#[test]
fn what_is_acknowledged_during_an_outage_is_sent_after_it() {
    let mut scene = HaScene::logged_on();
    let inbox = scene.subscribe("Q");
    lend(&scene.connection, 1);
    lend(&scene.connection, 2);
    let messages = [inbox.next(), inbox.next()];
    scene.peer.refuse().unwrap();
    scene.connection.close();
    scene.record.wait_for_states(&[
        amps_client::ConnectionState::Connected,
        amps_client::ConnectionState::LoggedOn,
        amps_client::ConnectionState::Resubscribed,
        amps_client::ConnectionState::Disconnected,
    ]);
    messages[0].ack().unwrap();
    messages[1].ack_with(AckOption::Cancel).unwrap(); // the server has done that itself
    scene.client.ack("q", "1|3|").unwrap();
    let refused = messages[1].ack_with(AckOption::Expire).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::Disconnected | ErrorKind::RetryOperation), "{refused}");
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    expect_ack(&scene.connection, &[1, 3], "");
    scene.resubscribed(1);
    scene.settle();
    assert_eq!(scene.commands(), ["logon", "sow_delete", "subscribe"]);
}

/// PS-12: the loss of the connection has given the message back; somebody else may have it by now.
#[test]
fn a_message_of_an_earlier_connection_is_not_given_back() {
    let mut scene = HaScene::logged_on();
    let inbox = scene.subscribe("Q");
    lend(&scene.connection, 1);
    let old = inbox.next();
    let handle = old.ack_handle().unwrap();
    scene.fail_over();
    scene.resubscribed(1);
    scene.settle();
    old.ack_with(AckOption::Cancel).unwrap();
    handle.ack_with(AckOption::Cancel).unwrap();
    handle.ack().unwrap();
    expect_ack(&scene.connection, &[1], ""); // late, and still true
    lend(&scene.connection, 1);
    inbox.next().ack_with(AckOption::Cancel).unwrap();
    expect_ack(&scene.connection, &[1], "cancel");
}

/// A message that comes while the rest is still being recovered has its lease over the new connection.
#[test]
fn what_comes_during_a_recovery_is_given_back_behind_it() {
    for auto_ack in [false, true] {
        let mut scene = HaScene::logged_on();
        scene.client.set_auto_ack(auto_ack);
        let (sender, messages) = std::sync::mpsc::channel();
        scene.subscribe_with("Q", move |message: &Message| {
            sender.send(message.clone()).unwrap();
            if auto_ack { Err(failure("no")) } else { Ok(()) }
        });
        scene.fail_over();
        scene.connection.expect("subscribe", SOON).unwrap();
        lend(&scene.connection, 1); // before the subscription is acknowledged
        lend(&scene.connection, 2);
        let [first, second] = [(); 2].map(|()| messages.recv_timeout(SOON).unwrap());
        first.ack_with(AckOption::Cancel).unwrap();
        second.ack_with(if auto_ack { AckOption::Cancel } else { AckOption::Expire }).unwrap();
        scene.connection.reply_ok().unwrap();
        expect_ack(&scene.connection, &[1], "cancel");
        expect_ack(&scene.connection, &[2], if auto_ack { "cancel" } else { "expire" });
    }
}

/// Nothing goes out between a connection and its logon.
#[test]
fn a_client_that_logs_on_sends_none_before_it_has() {
    let scene = Scene::logged_on("c");
    scene.client.ack("q", "1|1|").unwrap();
    expect_ack(&scene.connection, &[1], "");
    collect(&scene.client, 10);
    scene.client.ack("q", "1|2|").unwrap();
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let lost = scene.client.ack("q", "1|3|").unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::Disconnected, "nobody is trying to connect");

    let connection = connect(&scene.client, &scene.peer);
    scene.client.set_ack_batch_size(0);
    scene.client.ack("q", "1|4|").unwrap();
    log_on(&scene.client, &connection);
    expect_ack(&connection, &[2, 4], "");
}

#[test]
fn a_client_that_never_logs_on_acknowledges_too() {
    let client = Client::builder("c").build().unwrap();
    let peer = amps_client::testing::ScriptedPeer::start().unwrap();
    let unconnected = client.ack("q", "1|1|").unwrap_err();
    assert_eq!(unconnected.kind(), ErrorKind::Disconnected);
    client.ack_with("q", "1|1|", AckOption::Cancel).unwrap(); // there is nothing to give back
    let refused = client.ack_with("q", "1|1|", AckOption::Expire).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Disconnected);
    let connection = connect(&client, &peer);
    client.ack("q", "1|2|").unwrap();
    expect_ack(&connection, &[2], "");
}

#[test]
fn what_could_not_be_sent_is_forgotten_by_a_close() {
    let scene = Scene::logged_on("c");
    collect(&scene.client, 10);
    scene.client.ack("q", "1|1|").unwrap();
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    scene.client.close();
    let connection = connect(&scene.client, &scene.peer);
    log_on(&scene.client, &connection);
    settle(&scene.client, &connection);
    assert!(connection.frames().iter().all(|received| received.frame().command() != "sow_delete"));
}

/// A flush waits for the end of an outage, and what was kept goes before it.
#[test]
fn flushing_in_an_outage_waits_for_its_end() {
    let mut scene = HaScene::logged_on();
    collect(&scene.client, 10);
    scene.client.ack("q", "1|1|").unwrap();
    scene.peer.refuse().unwrap();
    scene.connection.close();
    scene.connection.wait_closed(SOON).unwrap();
    let flush = scene.begin(|client| client.flush_acks());
    scene.peer.listen_again().unwrap();
    scene.accept_again(&LogonAck::success());
    expect_ack(&scene.connection, &[1], "");
    scene.connection.expect("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    flush.wait().unwrap();
}

/// A stream of an `HAClient` goes on, and what was read before the loss is acknowledged after it.
#[test]
fn a_stream_acknowledges_over_a_failover() {
    let mut scene = HaScene::logged_on();
    scene.client.set_auto_ack(true);
    let mut messages =
        scene.accepted("subscribe", |client| client.execute(Command::subscribe("q").sub_id("Q")));
    lend(&scene.connection, 1);
    assert_eq!(messages.next().unwrap().unwrap().data(), b"1");
    scene.fail_over();
    scene.resubscribed(1);
    lend(&scene.connection, 2);
    assert_eq!(messages.next().unwrap().unwrap().data(), b"2");
    expect_ack(&scene.connection, &[1], "");
}
