//! Acknowledging what queues deliver: what is sent, when, and together with what (`resilience` section 11).

use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::queue::{acknowledgement, expect_ack, lend};
use amps_client::testing::Expectation;
use amps_client::{
    AckHandle, AckOption, AckType, Client, Command, ConnectionState, Error, ErrorKind, HandlerError, Message,
    MessageStream, Origin, Result,
};

/// A time that no test waits for.
const NEVER: Duration = Duration::from_secs(3600);

fn collecting(count: usize) -> Scene {
    Scene::prepared(Client::builder("c"), |client| {
        client.set_ack_batch_size(count);
        client.set_ack_timeout(NEVER).unwrap();
    })
}

fn acknowledging() -> Scene {
    Scene::prepared(Client::builder("c"), |client| client.set_auto_ack(true))
}

fn stream(scene: &Scene) -> MessageStream {
    scene.accepted("subscribe", |client| client.execute(Command::subscribe("q").sub_id("Q")))
}

fn next(stream: &mut MessageStream) -> Message {
    stream.next_timeout(SOON).expect("not ended").expect("a message")
}

fn ack(client: &Client, number: u64) {
    client.ack("q", &format!("1|{number}|")).unwrap();
}

/// The commands that have come, without the logon, when everything has come.
fn came(scene: &Scene) -> Vec<String> {
    scene.settle();
    let frames = scene.connection.frames();
    let commands = frames.iter().map(|received| received.frame().command().to_owned());
    commands.filter(|command| command != "logon" && command != "flush").collect()
}

/// Q-1, Q-2.
#[test]
fn an_acknowledgement_names_topic_and_bookmark_and_is_sent_at_once() {
    let scene = Scene::logged_on("c");
    scene.client.ack("q", "1|1|").unwrap();
    expect_ack(&scene.connection, &[1], "");

    let inbox = scene.subscribe("Q");
    lend(&scene.connection, 2);
    let message = inbox.next();
    message.ack().unwrap();
    expect_ack(&scene.connection, &[2], "");
    message.detach().ack().unwrap();
    expect_ack(&scene.connection, &[2], "");
}

/// 135, Q-2.
#[test]
fn what_is_given_back_or_expired_is_sent_alone_and_at_once() {
    let scene = collecting(10);
    ack(&scene.client, 1);
    scene.client.ack_with("q", "1|2|", AckOption::Cancel).unwrap();
    expect_ack(&scene.connection, &[2], "cancel");
    let inbox = scene.subscribe("Q");
    lend(&scene.connection, 3);
    let message = inbox.next();
    message.ack_with(AckOption::Expire).unwrap();
    expect_ack(&scene.connection, &[3], "expire");
    message.ack_handle().unwrap().ack_with(AckOption::Cancel).unwrap();
    expect_ack(&scene.connection, &[3], "cancel");
}

/// Q-2, Q-3: those of one topic go together.
#[test]
fn a_batch_is_sent_when_it_is_full_and_holds_one_topic() {
    let scene = collecting(2);
    for (topic, bookmark) in [("q1", "1|1|"), ("q2", "1|1|"), ("q1", "1|2|"), ("q2", "1|2|"), ("q1", "1|3|")]
    {
        scene.client.ack(topic, bookmark).unwrap();
    }
    for topic in ["q1", "q2"] {
        let frame = scene.connection.expect("sow_delete", SOON).unwrap();
        assert_eq!(frame.header_text(), acknowledgement(topic, &[1, 2], ""));
    }
    assert_eq!(came(&scene), ["sow_delete"; 2], "the third of q1 waits");
}

/// Q-3.
#[test]
fn a_batch_is_sent_when_its_oldest_has_waited_for_long_enough() {
    let limit = Duration::from_millis(300);
    let scene = collecting(10);
    scene.client.set_ack_timeout(limit).unwrap();
    let start = Instant::now();
    ack(&scene.client, 1);
    ack(&scene.client, 2);
    expect_ack(&scene.connection, &[1, 2], "");
    let waited = start.elapsed();
    assert!(waited >= limit && waited < limit * 6 / 5 + 2 * A_WHILE, "{waited:?}");
}

/// 17.
#[test]
fn a_batch_without_a_timeout_is_refused() {
    let client = Client::builder("c").build().unwrap();
    assert_eq!((client.ack_batch_size(), client.ack_timeout()), (0, Duration::from_secs(1)));
    client.set_ack_batch_size(10);
    let error = client.set_ack_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("10"), "{error}");
    client.set_ack_batch_size(1);
    client.set_ack_timeout(Duration::ZERO).unwrap();
    client.set_ack_batch_size(2);
    assert_eq!(client.ack_timeout(), Duration::from_secs(1), "it comes back");
}

/// Q-4.
#[test]
fn a_granted_backlog_lowers_the_batch_size() {
    let scene = collecting(5);
    ack(&scene.client, 1);
    ack(&scene.client, 2);
    for (granted, size) in [("max_backlog=9", 5), ("max_backlog=2", 2), ("", 2)] {
        let subscribe = scene.begin(move |client| {
            client.execute_async(Command::subscribe("q").options("max_backlog=9"), |_: &Message| {})
        });
        scene.connection.expect("subscribe", SOON).unwrap();
        let answer = r#"{"c":"ack","cid":"{cid}","a":"processed","status":"success","opts":"OPTS"}"#;
        scene.connection.reply(&answer.replace("OPTS", granted)).unwrap();
        subscribe.wait().unwrap();
        assert_eq!(scene.client.ack_batch_size(), size, "{granted}");
        if granted == "max_backlog=2" {
            expect_ack(&scene.connection, &[1, 2], ""); // they are full by that
        }
    }
    ack(&scene.client, 3);
    scene.client.set_ack_batch_size(0);
    expect_ack(&scene.connection, &[3], "");
}

/// Q-2: there is nothing to acknowledge.
#[test]
fn what_is_not_from_a_queue_is_not_acknowledged() {
    let scene = Scene::logged_on("c");
    let inbox = scene.subscribe("Q");
    scene.send("Q", "plain");
    let header = r#"{"c":"p","t":"t","bm":"1|1|","sids":"Q"}"#;
    scene.connection.send(header, "recorded").unwrap();
    for _ in 0..2 {
        let message = inbox.next();
        message.ack().unwrap();
        message.ack_with(AckOption::Cancel).unwrap();
        assert!(message.ack_handle().is_none());
    }
    scene.client.ack("q", "").unwrap();
    scene.client.ack_with("q", "", AckOption::Expire).unwrap();
    assert_eq!(came(&scene), ["subscribe"]);
}

#[test]
fn a_control_character_is_refused_and_nothing_is_sent() {
    let scene = collecting(2);
    for (topic, bookmark) in [("q\u{1}", "1|1|"), ("q", "1|\u{1}|")] {
        assert_eq!(scene.client.ack(topic, bookmark).unwrap_err().kind(), ErrorKind::Usage);
        let refused = scene.client.ack_with(topic, bookmark, AckOption::Cancel);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
    }
    assert!(came(&scene).is_empty());
}

/// Q-2: manual acknowledgements count for nothing while the client acknowledges by itself.
#[test]
fn with_auto_ack_nothing_is_acknowledged_by_hand() {
    let scene = acknowledging();
    assert!(scene.client.auto_ack());
    scene.subscribe_with("Q", |message: &Message| -> Result<()> {
        message.ack()?;
        message.ack_with(AckOption::Cancel)?;
        message.ack_handle().expect("a queue message").ack()
    });
    scene.client.ack("q", "1|1|").unwrap();
    scene.client.ack_with("q", "1|1|", AckOption::Expire).unwrap();
    lend(&scene.connection, 2);
    expect_ack(&scene.connection, &[2], "");
    assert_eq!(came(&scene), ["subscribe", "sow_delete"]);
}

/// 131, Q-5.
#[test]
fn a_message_whose_handler_fails_is_given_back_and_the_others_go_together() {
    let limit = Duration::from_millis(500);
    for (kind, origin) in [(ErrorKind::HandlerFailed, "fails"), (ErrorKind::HandlerPanicked, "panics")] {
        let scene = Scene::prepared(Client::builder("c"), |client| {
            client.set_auto_ack(true);
            client.set_ack_batch_size(3);
            client.set_ack_timeout(limit).unwrap();
        });
        scene.subscribe_with("Q", move |message: &Message| match (message.data(), kind) {
            (b"2", ErrorKind::HandlerFailed) => Err(failure("no")),
            (b"2", _) => panic!("no"),
            _ => Ok(()),
        });
        (1..=5).for_each(|number| lend(&scene.connection, number));
        expect_ack(&scene.connection, &[2], "cancel");
        expect_ack(&scene.connection, &[1, 3, 4], "");
        let start = Instant::now();
        expect_ack(&scene.connection, &[5], "");
        let waited = start.elapsed();
        assert!(waited < limit * 6 / 5 + 2 * A_WHILE, "{origin}: {waited:?}");
        let failures = scene.record.wait_for_failures(1);
        assert_eq!(failures.len(), 1, "{origin}");
        assert_eq!((failures[0].error.kind(), failures[0].origin), (kind, Origin::MessageHandler));
        assert_eq!(failures[0].id.as_deref(), Some("Q"));
    }
}

/// 134, Q-6.
#[test]
fn a_message_of_a_stream_is_acknowledged_when_the_next_is_asked_for() {
    let scene = acknowledging();
    let mut messages = stream(&scene);
    lend(&scene.connection, 1);
    lend(&scene.connection, 2);
    assert_eq!(next(&mut messages).data(), b"1");
    assert_eq!(came(&scene), ["subscribe"], "it was delivered, and nothing more");
    assert_eq!(next(&mut messages).data(), b"2");
    expect_ack(&scene.connection, &[1], "");
    let nothing = messages.try_next().unwrap().unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::TimedOut);
    expect_ack(&scene.connection, &[2], "");
    lend(&scene.connection, 3);
    assert_eq!(next(&mut messages).data(), b"3");
    messages.close();
    expect_ack(&scene.connection, &[3], "");
    scene.connection.expect("unsubscribe", SOON).unwrap();
}

/// Q-6: a reader that fails was not done with the message.
#[test]
fn a_reader_that_panics_does_not_acknowledge_what_it_read_last() {
    let scene = acknowledging();
    let mut messages = stream(&scene);
    lend(&scene.connection, 1);
    let reader = thread::spawn(move || {
        let message = next(&mut messages);
        panic!("{:?} is too much", message.data());
    });
    assert!(reader.join().is_err());
    scene.connection.expect("unsubscribe", SOON).unwrap();
    assert_eq!(came(&scene), ["subscribe", "unsubscribe"]);
}

#[test]
fn other_messages_of_a_stream_are_not_acknowledged() {
    let scene = acknowledging();
    let mut messages = stream(&scene);
    scene.send("Q", "plain");
    lend(&scene.connection, 1);
    scene.send("Q", "plain");
    for data in ["plain", "1", "plain"] {
        assert_eq!(next(&mut messages).data(), data.as_bytes());
    }
    assert!(messages.try_next().unwrap().is_err());
    expect_ack(&scene.connection, &[1], "");
    assert_eq!(came(&scene), ["subscribe", "sow_delete"]);
}

/// Q-7, T-6: nothing is waited for, so it may be done in a handler; waiting for the server may not.
#[test]
fn a_handler_may_acknowledge_and_not_flush() {
    let scene = collecting(2);
    let weak = scene.client.downgrade();
    let (sender, refused) = std::sync::mpsc::channel();
    scene.subscribe_with("Q", move |message: &Message| -> std::result::Result<(), HandlerError> {
        message.ack()?;
        let client = weak.upgrade().ok_or("no client")?;
        sender.send(client.flush_acks().map_err(|error| error.kind()))?;
        Ok(())
    });
    lend(&scene.connection, 1);
    lend(&scene.connection, 2);
    expect_ack(&scene.connection, &[1, 2], "");
    assert_eq!(refused.recv_timeout(SOON).unwrap(), Err(ErrorKind::Usage));
}

#[test]
fn flushing_sends_what_waits_and_waits_for_the_server() {
    let scene = collecting(10);
    scene.client.flush_acks().unwrap(); // nothing waits, so nothing is asked
    ack(&scene.client, 1);
    ack(&scene.client, 2);
    let flush = scene.begin(|client| client.flush_acks());
    expect_ack(&scene.connection, &[1, 2], "");
    scene.connection.expect(Expectation::command("flush").header("a", "processed"), SOON).unwrap();
    assert!(flush.is_waiting());
    scene.connection.reply_ok().unwrap();
    flush.wait().unwrap();
    ack(&scene.client, 3);
    let flush = scene.begin(|client| client.flush_acks_timeout(Duration::from_millis(50)));
    assert_eq!(flush.wait().unwrap_err().kind(), ErrorKind::TimedOut);
}

/// The server takes back what a subscription has not acknowledged, so that goes first.
#[test]
fn what_waits_is_sent_before_a_subscription_ends() {
    let scene = collecting(10);
    scene.subscribe("Q");
    ack(&scene.client, 1);
    scene.client.unsubscribe("Q").unwrap();
    expect_ack(&scene.connection, &[1], "");
    scene.connection.expect("unsubscribe", SOON).unwrap();

    let messages = stream(&scene);
    ack(&scene.client, 2);
    drop(messages);
    expect_ack(&scene.connection, &[2], "");
    scene.connection.expect("unsubscribe", SOON).unwrap();

    ack(&scene.client, 3);
    drop(scene.client.execute(Command::unsubscribe("all")).unwrap());
    expect_ack(&scene.connection, &[3], "");
    scene.connection.expect("unsubscribe", SOON).unwrap();
}

/// 132, Q-10.
#[test]
fn closing_sends_what_waits_and_a_flush_and_waits_for_its_answer() {
    let scene = collecting(10);
    ack(&scene.client, 1);
    let close = scene.begin(|client| client.close());
    expect_ack(&scene.connection, &[1], "");
    scene.connection.expect(Expectation::command("flush").header("a", "processed"), SOON).unwrap();
    assert!(close.is_waiting());
    scene.connection.reply_ok().unwrap();
    close.wait();
    scene.connection.wait_closed(SOON).unwrap();
    assert!(scene.record.failures().is_empty(), "{:?}", scene.record.failures());
}

/// Q-10: or for the disconnect.
#[test]
fn a_close_that_meets_a_disconnect_goes_on() {
    let scene = collecting(10);
    ack(&scene.client, 1);
    let close = scene.begin(|client| client.close());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.close();
    let start = Instant::now();
    let (_, ended) = close.ended();
    assert!(ended.saturating_duration_since(start) < AT_ONCE);
}

/// D-10, 32: not even while the close still waits for the last acknowledgements.
#[test]
fn a_close_that_meets_a_disconnect_does_not_have_it_repaired() {
    let scene = collecting(10);
    let repairs = Gate::new();
    let repair = repairs.clone();
    scene.on_loss(move |_: &Client, _: &Error| repair.note());
    ack(&scene.client, 1);
    let close = scene.begin(|client| client.close());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.close();
    close.wait();
    assert_eq!(repairs.reached(), 0);
    use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown};
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected, Shutdown]);
}

/// Q-10: the message that is being worked on counts, if it is done in time.
#[test]
fn a_close_waits_for_the_handler_that_is_at_a_message() {
    let scene = acknowledging();
    let gate = Gate::new();
    let inside = gate.clone();
    scene.subscribe_with("Q", move |_: &Message| inside.pass());
    lend(&scene.connection, 1);
    gate.wait_reached(1);
    let close = scene.begin(|client| client.close());
    assert!(close.is_waiting());
    gate.open();
    expect_ack(&scene.connection, &[1], "");
    close.wait();
}

/// Q-10: a server that says nothing holds it up for a second.
#[test]
fn a_close_waits_for_a_second_at_most_and_tells_the_listener() {
    let scene = collecting(10);
    ack(&scene.client, 1);
    let start = Instant::now();
    let (_, ended) = scene.begin(|client| client.close()).ended();
    let waited = ended - start;
    assert!(waited >= Duration::from_secs(1) && waited < Duration::from_secs(2), "{waited:?}");
    let failure = scene.record.wait_for_failure(ErrorKind::TimedOut, "queue acknowledgements");
    assert_eq!(failure.origin, Origin::QueueAcknowledgement);
}

/// Q-10: nothing is waited for on the receive thread, nor when the last handle goes.
#[test]
fn where_nothing_may_wait_the_last_acknowledgements_are_sent_all_the_same() {
    let scene = collecting(10);
    let weak = scene.client.downgrade();
    scene.subscribe_with("Q", move |message: &Message| -> Result<()> {
        message.ack()?;
        weak.upgrade().expect("a client").close();
        Ok(())
    });
    lend(&scene.connection, 1);
    expect_ack(&scene.connection, &[1], "");
    scene.connection.wait_closed(SOON).unwrap();

    let Scene { client, connection, record, peer } = collecting(10);
    ack(&client, 1);
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < AT_ONCE);
    expect_ack(&connection, &[1], "");
    drop((record, peer));
}

/// A handle holds nothing of the message but what it takes to acknowledge it.
#[test]
fn a_handle_acknowledges_on_any_thread_and_outlives_its_client() {
    fn assert_shareable<T: Send + Sync + Clone + 'static>(_: &T) {}
    let scene = Scene::logged_on("c");
    let inbox = scene.subscribe("Q");
    lend(&scene.connection, 7);
    let handle: AckHandle = inbox.next().ack_handle().unwrap();
    assert_shareable(&handle);
    assert_eq!((handle.topic(), handle.bookmark()), ("q", "1|7|"));
    assert_eq!(format!("{handle:?}"), r#"AckHandle { topic: "q", bookmark: "1|7|" }"#);
    let worker = handle.clone();
    thread::spawn(move || worker.ack()).join().unwrap().unwrap();
    expect_ack(&scene.connection, &[7], "");
    drop(scene);
    assert_eq!(handle.ack().unwrap_err().kind(), ErrorKind::Disconnected);
}

/// The ordinary command says the same, for those who want to be told (`wire-protocol` section 11).
#[test]
fn acknowledging_by_command_waits_for_the_server() {
    let scene = Scene::logged_on("c");
    let command = Command::sow_delete("q").bookmark("1|1|,1|2|").ack_type(AckType::PROCESSED);
    let pending = scene.begin(move |client| client.execute(command).map(drop));
    let frame = scene.connection.expect("sow_delete", SOON).unwrap();
    assert_eq!((frame.header("a"), frame.header("bookmark")), (Some("processed"), Some("1|1|,1|2|")));
    scene.connection.reply_ok().unwrap();
    pending.wait().unwrap();
}
