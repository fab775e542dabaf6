//! Publishes that are lost with their connection leave a trace in the log.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use amps_client::testing::{LogonAck, ScriptedPeer};
use amps_client::{Client, ErrorKind, Message};

const SOON: Duration = Duration::from_secs(20);

/// Keeps the lines of the whole process: this file holds one test.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(Vec::new()));

#[test]
fn frames_that_a_failed_write_takes_along_are_logged() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("loses").build().unwrap();
    client.connect(&peer.uri("json")).unwrap();
    let connection = peer.accept(SOON).unwrap();
    std::thread::scope(|scope| {
        let logon = scope.spawn(|| client.logon());
        connection.logon(&LogonAck::success(), SOON).unwrap();
        logon.join().unwrap().unwrap();
    });

    // The receive thread is busy, so that the publisher is the one who meets the loss.
    let (entered, is_in) = mpsc::channel();
    let (release, held) = mpsc::channel::<()>();
    client.set_last_chance_handler(move |_: &Message| {
        entered.send(()).unwrap();
        let _ = held.recv();
    });
    connection.reply(r#"{"c":"p","t":"t","sids":"nobody"}"#).unwrap();
    is_in.recv_timeout(SOON).unwrap();

    client.set_retry_on_disconnect(false);
    connection.reset();
    let error = (0..).find_map(|_| client.publish("t", "lost").err()).unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    let lines = LINES.0.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line.starts_with("WARN amps::net: up to ")), "{lines:?}");
    drop(release);
}
