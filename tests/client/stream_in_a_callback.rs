//! A stream is not waited for where nobody could fill it.

use std::sync::mpsc;
use std::time::Duration;

use crate::support::client::SOON;
use amps_client::testing::Server;
use amps_client::{Client, ConnectionState, ErrorKind, Message, MessageStream};
use parking_lot::Mutex;

fn logged_on(server: &Server, name: &str) -> Client {
    let client = Client::builder(name).build().unwrap();
    client.connect(&server.uri("json")).unwrap();
    client.logon().unwrap();
    client
}

/// What reading the stream in each way gives when there is nothing.
fn kinds(stream: &mut MessageStream) -> [Option<ErrorKind>; 3] {
    let kind =
        |outcome: Option<amps_client::Result<Message>>| outcome.and_then(Result::err).map(|e| e.kind());
    [kind(stream.try_next()), kind(stream.next_timeout(SOON)), kind(stream.next())]
}

const REFUSED: [Option<ErrorKind>; 3] =
    [Some(ErrorKind::TimedOut), Some(ErrorKind::Usage), Some(ErrorKind::Usage)];

/// T-6.
#[test]
fn a_handler_cannot_wait_for_a_stream_of_its_own_client() {
    let server = Server::quick().unwrap();
    let client = logged_on(&server, "self");
    let mut own = client.subscribe("own", "").unwrap();
    let (sender, seen) = mpsc::channel();
    let handler = move |_: &Message| sender.send(kinds(&mut own));
    client.subscribe_async("go", "", handler).unwrap();
    client.publish("go", "").unwrap();
    assert_eq!(seen.recv_timeout(SOON).unwrap(), REFUSED);
}

#[test]
fn a_handler_reads_what_its_stream_holds() {
    let server = Server::quick().unwrap();
    let client = logged_on(&server, "self");
    let mut own = client.subscribe("own", "").unwrap();
    client.publish("own", "held").unwrap();
    while own.depth() == 0 {
        std::thread::yield_now();
    }
    let (sender, seen) = mpsc::channel();
    let handler = move |_: &Message| sender.send(own.next().unwrap().unwrap().detach());
    client.subscribe_async("go", "", handler).unwrap();
    client.publish("go", "").unwrap();
    assert_eq!(seen.recv_timeout(SOON).unwrap().data(), b"held");
}

#[test]
fn a_handler_may_wait_for_a_stream_of_another_client() {
    let server = Server::quick().unwrap();
    let (client, other) = (logged_on(&server, "self"), logged_on(&server, "other"));
    let mut foreign = other.subscribe("foreign", "").unwrap();
    let (sender, seen) = mpsc::channel();
    let handler = move |_: &Message| {
        other.publish("foreign", "came").unwrap();
        sender.send(foreign.next_timeout(SOON).unwrap().unwrap().detach())
    };
    client.subscribe_async("go", "", handler).unwrap();
    client.publish("go", "").unwrap();
    assert_eq!(seen.recv_timeout(SOON).unwrap().data(), b"came");
}

/// S-3: after a loss the listener runs before streams are ended.
#[test]
fn a_state_listener_cannot_wait_for_a_stream_of_its_client() {
    let server = Server::quick().unwrap();
    let client = logged_on(&server, "self");
    let own = Mutex::new(client.subscribe("own", "").unwrap());
    let (sender, seen) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::Disconnected {
            let _ = sender.send(kinds(&mut own.lock()));
        }
    });
    server.disconnect("self");
    assert_eq!(seen.recv_timeout(SOON + Duration::from_secs(1)).unwrap(), REFUSED);
}
