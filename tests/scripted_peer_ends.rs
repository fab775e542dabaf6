//! A scripted peer ends within a second and leaves no thread, whatever it or its client is doing.

use std::io::Write;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use amps_client::testing::{ConnectionScript, Frame, PeerConnection, ScriptedPeer};

const SOON: Duration = Duration::from_secs(20);

/// Nobody else in this process has threads of a peer, so this file has one test.
#[test]
fn nothing_is_left_of_a_peer_even_if_the_test_panics() {
    for (name, hold_up) in [
        ("an acceptor that waits", nothing_connected as fn()),
        ("every step that waits", every_step_waits),
        ("a client that does not read", writing),
        ("a peer that does not read", reading_stopped),
        ("refused connections", refusing),
        ("a test that panics", panicking),
    ] {
        let began = Instant::now();
        hold_up();
        assert!(began.elapsed() < SOON, "{name}: {:?}", began.elapsed());
        // The kernel lists a thread for a moment after it was joined.
        let deadline = Instant::now() + SOON;
        while !threads_of_peers().is_empty() {
            assert!(Instant::now() < deadline, "{name}: {:?}", threads_of_peers());
            std::thread::yield_now();
        }
    }
}

fn dropped_within_a_second(peer: ScriptedPeer) {
    let began = Instant::now();
    drop(peer);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

fn connect(peer: &ScriptedPeer) -> TcpStream {
    TcpStream::connect(peer.address().expect("a TCP peer")).expect("accepted")
}

fn nothing_connected() {
    dropped_within_a_second(ScriptedPeer::start().expect("a free port"));
}

fn every_step_waits() {
    let builder = ScriptedPeer::builder().timeout(Duration::from_secs(60));
    let peer = builder
        .connection(|c| c.expect("flush"))
        .connection(|c| c.wait("gate"))
        .connection(|c| c.idle())
        .connection(|c| c.silent())
        .connection(|c| c.wait_closed())
        .connection(|c| c.preflight())
        .start()
        .expect("a free port");
    let clients: Vec<_> = (0..8).map(|_| connect(&peer)).collect();
    peer.wait_for_connections(clients.len(), SOON).expect("accepted");
    peer.wait_reached("gate", SOON).expect("the script came there");
    dropped_within_a_second(peer);
}

fn writing() {
    let endless = |c: &PeerConnection| loop {
        c.send(r#"{"c":"p"}"#, [0; 100_000])?;
    };
    let builder = ScriptedPeer::builder().timeout(Duration::from_secs(60));
    let script = |c: ConnectionScript| c.wait("writing").perform(endless);
    let peer = builder.connection(script).start().expect("a free port");
    let _client = connect(&peer);
    peer.wait_reached("writing", SOON).expect("the script came there");
    peer.release("writing").expect("a known name");
    dropped_within_a_second(peer);
}

fn reading_stopped() {
    let peer = ScriptedPeer::builder()
        .connection(|c| c.stop_reading().wait("stopped"))
        .start()
        .expect("a free port");
    let mut client = connect(&peer);
    peer.wait_reached("stopped", SOON).expect("the script came there");
    client.write_all(&Frame::encode(r#"{"c":"flush"}"#, b"")).expect("sent");
    dropped_within_a_second(peer);
}

fn refusing() {
    let peer = ScriptedPeer::start().expect("a free port");
    peer.refuse().expect("closed");
    dropped_within_a_second(peer);
}

fn panicking() {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let peer = ScriptedPeer::builder().connection(|c| c.expect("flush")).start().expect("a free port");
        let _client = connect(&peer);
        peer.wait_for_connections(1, SOON).expect("accepted");
        resume_unwind(Box::new("the test fails"));
    }));
    assert!(result.is_err());
}

/// The names of the threads that peers have started and not joined.
#[cfg(target_os = "linux")]
fn threads_of_peers() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the list of threads");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("peer-")).collect()
}

#[cfg(not(target_os = "linux"))]
fn threads_of_peers() -> Vec<String> {
    Vec::new()
}
