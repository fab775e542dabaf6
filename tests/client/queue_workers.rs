//! Pools of threads that work on a queue.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::HaScene;
use crate::support::queue::{expect_ack, lend};
use amps_client::testing::{Expectation, LogonAck, PeerConnection};
use amps_client::{
    Client, Command, ErrorKind, HandlerError, Message, Origin, QueueHandler, QueueWorkers,
    QueueWorkersBuilder, Result,
};
use parking_lot::Mutex;

fn described(workers: usize) -> QueueWorkersBuilder {
    QueueWorkers::builder("q").sub_id("Q").workers(workers)
}

/// A pool of so many workers, whose subscription was accepted.
fn pool(scene: &Scene, workers: usize, handler: impl QueueHandler + 'static) -> QueueWorkers {
    scene.accepted("subscribe", move |client| described(workers).start(client, handler))
}

/// Ends a pool in good order, the server playing along.
fn shut_down(scene: &Scene, workers: QueueWorkers) {
    let ending = begin_alone(move || workers.shutdown(SOON));
    end_of_pool(&scene.connection);
    ending.wait().unwrap();
}

/// What the end of a pool sends: the last acknowledgements came before.
#[track_caller]
fn end_of_pool(connection: &PeerConnection) {
    connection.expect(Expectation::command("unsubscribe").header("sub_id", "Q"), SOON).unwrap();
    connection.expect("flush", SOON).unwrap();
    connection.reply_ok().unwrap();
}

/// The payloads that a handler has begun to work on.
#[derive(Clone, Default)]
struct Work(Arc<Mutex<Vec<String>>>);

impl Work {
    fn begin(&self, message: &Message) {
        self.0.lock().push(message.data_str().expect("text").to_owned());
    }

    fn begun(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

#[test]
fn every_message_is_worked_on_and_acknowledged() {
    let scene = Scene::logged_on("c");
    let work = Work::default();
    let mine = work.clone();
    let workers = pool(&scene, 1, move |message: &Message| mine.begin(message));
    assert!(workers.is_running());
    assert_eq!(workers.sub_id(), "Q");
    for number in 1..=3 {
        lend(&scene.connection, number);
        expect_ack(&scene.connection, &[number], "");
    }
    shut_down(&scene, workers);
    assert_eq!(work.begun(), ["1", "2", "3"]);
}

#[test]
fn workers_work_at_the_same_time_on_threads_of_their_own() {
    let scene = Scene::logged_on("w");
    let gate = Gate::new();
    let (sender, names) = mpsc::channel();
    let inside = gate.clone();
    let workers = pool(&scene, 3, move |_: &Message| {
        sender.send(thread::current().name().unwrap_or_default().to_owned()).unwrap();
        inside.pass();
    });
    (1..=3).for_each(|number| lend(&scene.connection, number));
    gate.wait_reached(3);
    let mut names: Vec<_> = names.try_iter().collect();
    names.sort_unstable();
    assert_eq!(names, ["amps-queue-w-1", "amps-queue-w-2", "amps-queue-w-3"]);
    assert!(format!("{workers:?}").contains("workers: 3, running: true"), "{workers:?}");
    gate.open();
    let mut acks = scene.peer.wait_for_frames(3, "sow_delete", SOON).unwrap();
    acks.sort_by_key(|ack| ack.frame().header("bookmark").unwrap_or_default().to_owned());
    let acks: Vec<_> = acks.iter().map(|ack| ack.frame().header("bookmark").unwrap_or_default()).collect();
    assert_eq!(acks, ["1|1|", "1|2|", "1|3|"]);
}

#[test]
fn what_fails_is_given_back_and_told_and_the_worker_goes_on() {
    let scene = Scene::logged_on("c");
    let workers = pool(&scene, 1, |message: &Message| -> std::result::Result<(), HandlerError> {
        match message.data() {
            b"1" => Err(failure("no")),
            b"2" => panic!("not at all"),
            _ => Ok(()),
        }
    });
    for (number, option) in [(1, "cancel"), (2, "cancel"), (3, "")] {
        lend(&scene.connection, number);
        expect_ack(&scene.connection, &[number], option);
    }
    let failures = scene.record.wait_for_failures(2);
    let kinds: Vec<_> = failures.iter().map(|failure| failure.error.kind()).collect();
    assert_eq!(kinds, [ErrorKind::HandlerFailed, ErrorKind::HandlerPanicked]);
    for failure in failures {
        assert_eq!((failure.origin, failure.id.as_deref()), (Origin::MessageHandler, Some("Q")));
        assert_eq!(failure.thread, "amps-queue-c-1");
    }
    shut_down(&scene, workers);
}

#[test]
fn the_subscription_asks_for_a_backlog_a_filter_and_what_else_was_said() {
    let scene = Scene::logged_on("c");
    let table = [
        (described(3), "max_backlog=6", None),
        (
            described(1).max_backlog(20).filter("/a = 1").options("timestamp"),
            "max_backlog=20,timestamp",
            Some("/a = 1"),
        ),
    ];
    for (builder, options, filter) in table {
        let start = scene.begin(move |client| builder.start(client, |_: &Message| {}));
        let frame = scene.connection.expect("subscribe", SOON).unwrap();
        assert_eq!(
            (frame.header("o"), frame.header("filter"), frame.header("t")),
            (Some(options), filter, Some("q"))
        );
        scene.connection.reply_ok().unwrap();
        shut_down(&scene, start.wait().unwrap());
    }
}

#[test]
fn a_pool_that_cannot_be_says_so_and_leaves_nothing_behind() {
    let scene = Scene::logged_on("c");
    let none = described(0).start(&scene.client, |_: &Message| {}).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Usage);
    let refused = scene.begin(|client| described(2).start(client, |_: &Message| {}).map(drop));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("not entitled").unwrap();
    assert_eq!(refused.wait().unwrap_err().kind(), ErrorKind::NotEntitled);
    let late = scene.begin(|client| described(2).timeout(A_WHILE).start(client, |_: &Message| {}).map(drop));
    assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::TimedOut);
}

/// What was delivered is worked on; the last acknowledgements are sent before the subscription ends.
#[test]
fn a_shutdown_finishes_what_has_arrived_and_tells_the_server() {
    let scene = Scene::prepared(Client::builder("c"), |client| {
        client.set_ack_batch_size(10);
        client.set_ack_timeout(Duration::from_secs(3600)).unwrap();
    });
    let (gate, work) = (Gate::new(), Work::default());
    let (inside, mine) = (gate.clone(), work.clone());
    let workers = pool(&scene, 1, move |message: &Message| {
        mine.begin(message);
        inside.pass();
    });
    (1..=3).for_each(|number| lend(&scene.connection, number));
    gate.wait_reached(1);
    scene.settle(); // all of them have arrived
    let ending = begin_alone(move || workers.shutdown(SOON));
    assert!(ending.is_waiting());
    lend(&scene.connection, 4);
    scene.settle();
    gate.open();
    expect_ack(&scene.connection, &[1, 2, 3], "");
    end_of_pool(&scene.connection);
    ending.wait().unwrap();
    assert_eq!(work.begun(), ["1", "2", "3"], "what came later was not taken in");
}

#[test]
fn a_shutdown_is_over_at_its_limit_whoever_is_still_busy() {
    let scene = Scene::logged_on("c");
    let (gate, work) = (Gate::new(), Work::default());
    let (inside, mine) = (gate.clone(), work.clone());
    let workers = pool(&scene, 1, move |message: &Message| {
        mine.begin(message);
        inside.pass();
    });
    lend(&scene.connection, 1);
    lend(&scene.connection, 2);
    gate.wait_reached(1);
    scene.settle();
    let (limit, start) = (Duration::from_millis(200), Instant::now());
    let (outcome, ended) = begin_alone(move || workers.shutdown(limit)).ended();
    let waited = ended - start;
    assert!(waited >= limit && waited < limit + AT_ONCE + 2 * A_WHILE, "{waited:?}");
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.sub_id()), (ErrorKind::TimedOut, Some("Q")));
    assert!(error.to_string().contains("1 workers"), "{error}");
    scene.connection.expect("unsubscribe", SOON).unwrap();
    gate.open();
    expect_ack(&scene.connection, &[1], ""); // late, and still true
    assert_eq!(work.begun(), ["1"], "the second is not begun any more");
}

#[test]
fn dropping_a_pool_ends_it_soon_and_begins_nothing_more() {
    let scene = Scene::logged_on("c");
    let (gate, work) = (Gate::new(), Work::default());
    let (inside, mine) = (gate.clone(), work.clone());
    let workers = pool(&scene, 2, move |message: &Message| {
        mine.begin(message);
        inside.pass();
    });
    (1..=4).for_each(|number| lend(&scene.connection, number));
    gate.wait_reached(2);
    let start = Instant::now();
    drop(workers);
    assert!(start.elapsed() < AT_ONCE);
    scene.connection.expect("unsubscribe", SOON).unwrap();
    gate.open();
    scene.peer.wait_for_frames(2, "sow_delete", SOON).unwrap();
    scene.settle();
    assert_eq!(work.begun().len(), 2);
    let deadline = Instant::now() + SOON;
    while gate.holders() > 1 && Instant::now() < deadline {
        thread::yield_now();
    }
    assert_eq!(gate.holders(), 1, "the handler is dropped with the last thread");
}

#[test]
fn on_a_plain_client_a_pool_ends_with_its_connection() {
    let scene = Scene::logged_on("c");
    let work = Work::default();
    let mine = work.clone();
    let workers = pool(&scene, 2, move |message: &Message| mine.begin(message));
    lend(&scene.connection, 1);
    expect_ack(&scene.connection, &[1], "");
    scene.connection.close();
    let ended = begin_alone(move || workers.join());
    assert_eq!(ended.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(work.begun(), ["1"]);
}

#[test]
fn closing_the_client_ends_a_pool() {
    let scene = Scene::logged_on("c");
    let workers = pool(&scene, 2, |_: &Message| {});
    scene.client.close();
    begin_alone(move || workers.join()).wait().unwrap();
}

#[test]
fn on_an_ha_client_a_pool_goes_on_over_a_failover() {
    let mut scene = HaScene::logged_on();
    let work = Work::default();
    let mine = work.clone();
    let workers = scene.accepted("subscribe", move |client| {
        described(2).start(client, move |message: &Message| mine.begin(message))
    });
    lend(&scene.connection, 1);
    expect_ack(&scene.connection, &[1], "");
    scene.fail_over_with(&LogonAck::success());
    assert_eq!(scene.resubscribed(1), ["Q"]);
    lend(&scene.connection, 2);
    expect_ack(&scene.connection, &[2], "");
    let ending = begin_alone(move || workers.shutdown(SOON));
    end_of_pool(&scene.connection);
    ending.wait().unwrap();
    scene.fail_over();
    scene.settle();
    assert_eq!(scene.commands(), ["logon"], "it is not placed again");
    assert_eq!(work.begun(), ["1", "2"]);
}

/// They come again; to work on them would be to do everything twice. Of a queue that removes what it delivers none does.
#[test]
fn what_was_not_begun_when_its_connection_was_lost_is_left_alone() {
    for at_most_once in [false, true] {
        let mut scene = HaScene::logged_on();
        let (gate, work) = (Gate::new(), Work::default());
        let (inside, mine) = (gate.clone(), work.clone());
        let workers = scene.accepted("subscribe", move |client| {
            described(1).at_most_once(at_most_once).start(client, move |message: &Message| {
                mine.begin(message);
                inside.pass();
            })
        });
        (1..=3).for_each(|number| lend(&scene.connection, number));
        gate.wait_reached(1);
        scene.settle();
        scene.fail_over();
        scene.resubscribed(1);
        lend(&scene.connection, 4);
        scene.settle();
        gate.open();
        scene
            .peer
            .wait_for_frame(Expectation::command("sow_delete").header("bookmark", "1|4|"), SOON)
            .unwrap();
        assert_eq!(work.begun().join(" "), if at_most_once { "1 2 3 4" } else { "1 4" });
        drop(workers);
    }
}

/// The workers acknowledge, and nobody else: not when the message is handed over, and not twice.
#[test]
fn auto_ack_does_not_concern_a_pool() {
    let scene = Scene::prepared(Client::builder("c"), |client| client.set_auto_ack(true));
    let gate = Gate::new();
    let inside = gate.clone();
    let workers = pool(&scene, 1, move |message: &Message| -> Result<()> {
        inside.pass();
        message.ack() // does nothing
    });
    lend(&scene.connection, 1);
    lend(&scene.connection, 2);
    gate.wait_reached(1);
    scene.settle();
    assert!(scene.connection.frames().iter().all(|frame| frame.frame().command() != "sow_delete"));
    gate.open();
    for number in [1, 2] {
        scene
            .connection
            .skip_to(Expectation::command("sow_delete").header("bookmark", format!("1|{number}|")), SOON)
            .unwrap();
    }
    shut_down(&scene, workers);
    let acks = scene.connection.frames();
    assert_eq!(acks.iter().filter(|frame| frame.frame().command() == "sow_delete").count(), 2);
}

/// Unlike a message handler, a worker may wait for the server.
#[test]
fn a_worker_may_call_what_waits() {
    let scene = Scene::logged_on("c");
    let weak = scene.client.downgrade();
    let workers = pool(&scene, 1, move |message: &Message| -> std::result::Result<(), HandlerError> {
        let client = weak.upgrade().ok_or("no client")?;
        client.publish("done", message.data())?;
        Ok(client.publish_flush()?)
    });
    lend(&scene.connection, 1);
    scene.connection.expect("publish", SOON).unwrap();
    scene.connection.expect("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    expect_ack(&scene.connection, &[1], "");
    shut_down(&scene, workers);
}

/// T-6.
#[test]
fn a_handler_may_not_wait_for_the_end_of_a_pool() {
    let scene = Scene::logged_on("c");
    let workers = Arc::new(Mutex::new(Some(pool(&scene, 1, |_: &Message| {}))));
    let (sender, outcome) = mpsc::channel();
    scene.subscribe_with("other", move |_: &Message| {
        let workers = workers.lock().take().expect("the pool");
        sender.send(workers.shutdown(SOON).map_err(|error| error.kind())).unwrap();
    });
    scene.send("other", "go");
    assert_eq!(outcome.recv_timeout(SOON).unwrap(), Err(ErrorKind::Usage));
    scene.connection.expect("unsubscribe", SOON).unwrap();
}

#[test]
fn a_shutdown_without_a_connection_says_that_work_may_come_again() {
    let scene = Scene::logged_on("c");
    let workers = pool(&scene, 1, |_: &Message| {});
    let command = Command::subscribe("other");
    scene.accepted("subscribe", |client| client.execute_async(command, |_: &Message| {}));
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let error = begin_alone(move || workers.shutdown(SOON)).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
}
