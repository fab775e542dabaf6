//! Heartbeats keep a connection alive, and end one whose server has gone silent.

mod support;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use amps_client::testing::{Expectation, LogonAck, PeerConnection, ScriptedPeer, Server};
use amps_client::{Client, Command, ConnectionState, ErrorKind, GlobalKind, Message};
use support::client::*;

use ConnectionState::{Connected, Disconnected, HeartbeatInitiated, LoggedOn, Shutdown};

const SECOND: Duration = Duration::from_secs(1);

fn beat() -> Expectation {
    Expectation::command("heartbeat").header("o", "beat")
}

fn start(seconds: u64) -> Expectation {
    Expectation::command("heartbeat").header("o", format!("start,{seconds}"))
}

/// A client that beats every second, and gives up a silent server after `timeout`.
fn beating(timeout: Duration) -> Scene {
    let scene = Scene::prepared(Client::builder("c"), |client| {
        client.set_heartbeat_timeout(SECOND, timeout).unwrap();
    });
    scene.connection.expect(start(1), SOON).unwrap();
    scene.record.wait_for_states(&[Connected, LoggedOn, HeartbeatInitiated]);
    scene
}

/// When the client sent its beats on this connection, counted from the `start`.
fn beats(connection: &PeerConnection) -> Vec<Duration> {
    let sent = connection.frames();
    let at = |options: &str| {
        let fits = |f: &&amps_client::testing::ReceivedFrame| f.frame().header("o") == Some(options);
        sent.iter().filter(fits).map(|f| f.elapsed()).collect::<Vec<_>>()
    };
    let start = at("start,1")[0];
    at("beat").into_iter().map(|time| time - start).collect()
}

fn assert_about(time: Duration, wanted: Duration, what: &str) {
    let tolerance = wanted / 5 + A_WHILE;
    assert!(time >= wanted - tolerance / 2 && time <= wanted + tolerance, "{what} after {time:?}");
}

/// Another thread does something every 300 ms until the guard is dropped.
fn every_300_ms(mut act: impl FnMut() + Send + 'static) -> mpsc::Sender<()> {
    let (guard, over) = mpsc::channel::<()>();
    thread::spawn(move || {
        while over.recv_timeout(Duration::from_millis(300)) == Err(RecvTimeoutError::Timeout) {
            act();
        }
    });
    guard
}

/// 42, H-2, S-2: set before connecting.
#[test]
fn heartbeats_set_before_connecting_start_right_after_the_logon() {
    let scene = beating(2 * SECOND);
    let frames = scene.connection.frames();
    assert_eq!(frames.len(), 2);
    assert!(frames[1].frame().header("cid").is_none() && frames[1].frame().header("a").is_none());
}

/// H-2: set on a live session; the same again does nothing, another value counts at once, zero ends it.
#[test]
fn heartbeats_can_be_set_changed_and_switched_off_on_a_live_session() {
    let scene = Scene::logged_on("c");
    scene.client.set_heartbeat(5 * SECOND).unwrap();
    scene.record.wait_for_states(&[Connected, LoggedOn, HeartbeatInitiated]);
    scene.client.set_heartbeat_timeout(5 * SECOND, 10 * SECOND).unwrap();
    scene.client.set_heartbeat_timeout(Duration::from_millis(5500), 20 * SECOND).unwrap();
    scene.client.set_heartbeat(Duration::ZERO).unwrap();
    scene.settle();
    let sent: Vec<_> = scene.connection.frames().iter().map(|f| f.frame().header_text().to_owned()).collect();
    let beats: Vec<_> = sent.iter().filter(|text| text.contains("heartbeat")).map(String::as_str).collect();
    assert_eq!(
        beats,
        [
            r#"{"c":"heartbeat","o":"start,5"}"#,
            r#"{"c":"heartbeat","o":"start,6"}"#,
            r#"{"c":"heartbeat","o":"start,0"}"#
        ]
    );
    let states = [Connected, LoggedOn, HeartbeatInitiated, HeartbeatInitiated];
    assert_eq!(scene.record.states(), states);
}

/// 43, H-3, H-5: one beat, then the silent server counts as gone.
#[test]
fn a_silent_server_gets_a_beat_and_is_given_up_after_the_timeout() {
    let scene = beating(2 * SECOND);
    let began = Instant::now();
    scene.connection.wait_closed(SOON).unwrap();
    assert_about(began.elapsed(), 2 * SECOND, "given up");
    let beats = beats(&scene.connection);
    assert_about(beats[0], SECOND, "the beat came");
    assert!(beats.len() <= 2, "{beats:?}");
    let failure = scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert!(failure.error.to_string().contains("heartbeat"), "{}", failure.error);
    let states = [Connected, LoggedOn, HeartbeatInitiated, Disconnected, Shutdown];
    assert_eq!(scene.record.states(), states);
}

/// 44, H-6: silent right after the logon, and when the timeout is set while a read is under way.
#[test]
fn a_server_that_goes_silent_is_noticed_although_the_read_began_before() {
    let before = Scene::prepared(Client::builder("c"), |client| client.set_heartbeat(SECOND).unwrap());
    let after = Scene::logged_on("c");
    after.settle();
    after.client.set_heartbeat(SECOND).unwrap();
    let began = Instant::now();
    for scene in [&before, &after] {
        scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
        assert!(began.elapsed() < 5 * SECOND / 2 + A_WHILE, "noticed after {:?}", began.elapsed());
    }
}

/// 45, H-3: at once, up to ten in an interval, and any beat restarts the timer.
#[test]
fn heartbeats_of_the_server_are_answered_at_once_but_never_in_a_storm() {
    let scene = Scene::prepared(Client::builder("c"), |client| client.set_heartbeat(5 * SECOND).unwrap());
    scene.connection.expect(start(5), SOON).unwrap();
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    scene.connection.expect(beat(), AT_ONCE).unwrap();
    for _ in 0..100 {
        scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    }
    scene.settle();
    // The answers are sent; now they arrive.
    scene.settle();
    let answered = scene.connection.frames().iter().filter(|f| beat().is_met_by(f.frame())).count();
    assert_eq!(answered, 10);
}

/// 46, H-3, H-4, H-5: data counts as life, and does not take the place of beats.
#[test]
fn beats_go_on_while_data_comes_and_data_counts_as_life() {
    let scene = beating(2 * SECOND);
    let inbox = scene.subscribe("s");
    let Scene { client, connection, .. } = &scene;
    let began = Instant::now();
    let mut next = began;
    while began.elapsed() < 4 * SECOND {
        connection.send(&publication("s"), "x").unwrap();
        inbox.next();
        next += Duration::from_millis(300);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    assert!(client.is_connected());
    let beats = beats(connection);
    let gaps = beats.iter().zip(&beats[1..]).map(|(a, b)| *b - *a).chain([beats[0]]);
    assert!(gaps.max().unwrap() < Duration::from_millis(1300) + A_WHILE, "{beats:?}");
    assert!(beats.len() >= 3, "{beats:?}");
}

/// H-3: what the client itself sends does not take the place of a beat.
#[test]
fn beats_go_on_while_the_client_publishes() {
    let server = Server::builder().record_frames(100).start().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.set_heartbeat_timeout(SECOND, 2 * SECOND).unwrap();
    client.connect(&server.uri("json")).unwrap();
    client.logon_with(&in_time()).unwrap();
    let publisher = client.clone();
    let _publishing = every_300_ms(move || _ = publisher.publish("t", "x"));
    let beats = |server: &Server| server.frames().iter().filter(|f| beat().is_met_by(&f.frame)).count();
    // The embedded server ends connections without beats after two intervals.
    server.wait_for(|server| beats(server) >= 3, SOON).unwrap();
    assert!(client.is_connected());
}

/// 47, H-8, H-10: read first, then judge.
#[test]
fn a_slow_handler_does_not_make_the_client_give_up_when_data_is_waiting() {
    let scene = beating(SECOND);
    let gate = Gate::new();
    let held = gate.clone();
    scene.subscribe_with("s", move |message: &Message| {
        if message.data() == b"slow" {
            held.pass();
        }
    });
    scene.send("s", "slow");
    gate.wait_reached(1);
    let began = Instant::now();
    scene.send("s", "waiting");
    // Longer than the timeout: the handler sleeps on the job.
    thread::sleep(5 * SECOND / 2);
    gate.open();
    scene.settle();
    assert!(scene.client.is_connected() && began.elapsed() > 2 * SECOND);
    assert_eq!(scene.client.slow_handler_count(), 1);
}

/// 48, H-9, M-24: nothing is lost, and the server is kept informed.
#[test]
fn beats_go_on_while_a_stream_is_full() {
    let scene = beating(2 * SECOND);
    let command = Command::subscribe("t").sub_id("s");
    let mut stream = scene.accepted("subscribe", |client| client.execute(command));
    stream.set_max_depth(1, usize::MAX).unwrap();
    for n in 0..50 {
        scene.send("s", &n.to_string());
    }
    scene.peer.wait_for_frames(3, beat(), SOON).unwrap();
    assert!(beats(&scene.connection).windows(2).all(|pair| pair[1] - pair[0] < 3 * SECOND / 2));
    // What the server sends meanwhile waits in the socket, and counts as life when it is read.
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    for n in 0..50 {
        let message = stream.next_timeout(SOON).unwrap().unwrap();
        assert_eq!(message.data_str().unwrap(), n.to_string());
    }
    scene.settle();
    assert!(scene.client.is_connected());
}

/// 49.
#[test]
fn after_a_reconnect_heartbeats_are_started_again() {
    let mut scene = beating(5 * SECOND);
    scene.reconnect_on_loss();
    scene.connection.close();
    scene.accept_again();
    scene.connection.expect(start(1), SOON).unwrap();
    let once = [Connected, LoggedOn, HeartbeatInitiated];
    scene.record.wait_for_states(&[&once[..], &[Disconnected], &once[..]].concat());
    scene.connection.expect(beat(), SOON).unwrap();
}

/// 50, H-11.
#[test]
fn while_heartbeats_are_off_those_of_the_server_go_to_the_handlers_and_are_not_answered() {
    let (handler, last_chance) = inbox();
    let (global, heartbeats) = inbox();
    let scene = Scene::prepared(Client::builder("c"), |client| {
        client.set_last_chance_handler(handler);
        client.set_global_handler(GlobalKind::Heartbeat, global);
    });
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    scene.settle();
    assert_eq!((last_chance.rest().len(), heartbeats.rest().len()), (1, 1));
    assert_eq!(scene.connection.frames().len(), 2, "the logon and the flush");
}

/// H-11: while they are on, the last chance handler is not troubled.
#[test]
fn while_heartbeats_are_on_only_the_global_handler_sees_them() {
    let (handler, last_chance) = inbox();
    let (global, heartbeats) = inbox();
    let scene = Scene::prepared(Client::builder("c"), |client| {
        client.set_last_chance_handler(handler);
        client.set_global_handler(GlobalKind::Heartbeat, global);
        client.set_heartbeat(5 * SECOND).unwrap();
    });
    scene.connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
    scene.settle();
    assert_eq!((last_chance.rest().len(), heartbeats.rest().len()), (0, 1));
}

/// D-16: no beat while a logon is under way.
#[test]
fn beats_are_skipped_during_a_logon() {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.set_heartbeat_timeout(SECOND, 5 * SECOND).unwrap();
    let connection = connect(&client, &peer);
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.expect("logon", SOON).unwrap();
    for _ in 0..5 {
        connection.reply(r#"{"c":"heartbeat"}"#).unwrap();
        thread::sleep(SECOND / 4);
    }
    assert_eq!(connection.frames().len(), 1, "the logon and nothing else");
    let logon_frame = connection.frames()[0].frame().clone();
    connection.reply(&LogonAck::success().answer(&logon_frame)).unwrap();
    logon.wait().unwrap();
    connection.expect(start(1), SOON).unwrap();
}

/// H-6, H-5: a server that goes silent in the middle of a frame is noticed too; each byte counts.
#[test]
fn every_byte_counts_as_life_and_half_a_frame_is_no_excuse() {
    let scene = beating(SECOND);
    let inbox = scene.subscribe("s");
    let frame = amps_client::testing::Frame::encode(&publication("s"), "xxxx");
    let (first, last) = frame.split_last_chunk::<4>().unwrap();
    let [most, some] = [&first[..first.len() - 1], &first[first.len() - 1..]];
    for piece in [most, some, &last[..1], &last[1..2], &last[2..]] {
        scene.connection.send_raw(piece).unwrap();
        thread::sleep(SECOND / 2);
    }
    assert_eq!(inbox.payloads(1), ["xxxx"]);
    scene.connection.send_raw(most).unwrap();
    let began = Instant::now();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    assert_about(began.elapsed(), SECOND, "given up");
}
