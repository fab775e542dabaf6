//! Connections that are refused, not answered, or cut.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Fault, Frame, Server, Topic, When};

const SOON: Duration = Duration::from_secs(10);
const LOGON: &str = r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#;
const SUBSCRIBE: &str = r#"{"c":"subscribe","cid":"1","t":"orders","a":"processed"}"#;
const PUBLISH: &str = r#"{"c":"p","cid":"1","t":"orders","a":"processed"}{"id":1}"#;

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

fn is_refused(server: &Server) -> bool {
    TcpStream::connect(server.address().expect("a TCP listener"))
        .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Sends a frame to a server that may have hung up.
fn try_send(client: &RawClient, body: &str) {
    let _ = client.stream().write_all(&Frame::encode(body, ""));
}

/// X-3, connect: refuse the next k, then work.
#[test]
fn the_next_connections_may_be_turned_away() {
    let server = server();
    let fault = server.fault(Fault::close().when(When::accepted()).times(3));
    for _ in 0..3 {
        assert!(RawClient::connect(&server).next().is_none());
    }
    RawClient::log_on(&server, "c");
    assert_eq!(fault.fired(), 3);
    assert_eq!((server.open_connections(), server.counters().connections), (1, 4));
}

/// X-3, connect.
#[test]
fn a_connection_may_be_reset_as_soon_as_it_is_accepted() {
    let server = server();
    server.fault(Fault::reset().when(When::accepted()));
    let (bytes, error) = RawClient::connect(&server).read_raw_to_end();
    assert_eq!((bytes.len(), error), (0, Some(ErrorKind::ConnectionReset)));
}

/// X-3, connect: accept then never answer.
#[test]
fn a_connection_may_be_accepted_and_never_answered() {
    let server = server();
    let fault = server.fault(Fault::freeze().when(When::accepted()));
    let mut mute = RawClient::connect(&server);
    mute.send(LOGON);
    fault.wait_fired(SOON).unwrap();
    let _other = RawClient::log_on(&server, "other");
    assert_eq!(server.sessions().len(), 1, "the other's");
    fault.release();
    assert_eq!(mute.receive().header("status"), Some("success"));
}

/// X-3, connect: listener closed.
#[test]
fn connections_are_refused_until_the_fault_is_released() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let fault = server.fault(Fault::refuse_connections());
    assert!(is_refused(&server));
    assert!(client.received().is_empty(), "those that are there stay");
    assert_eq!((fault.fired(), server.faults()[0].lasting), (1, 1));
    fault.release();
    RawClient::log_on(&server, "d");
}

/// X-3, connect: at the command of a client, of which the next connection is then refused.
#[test]
fn a_listener_may_be_closed_at_a_command() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    let refuse = server.fault(Fault::refuse_connections().when(When::receives("subscribe")));
    let close = server.fault(Fault::close().when(When::receives("subscribe")));
    client.send(SUBSCRIBE);
    assert!(client.next().is_none());
    assert!(is_refused(&server));
    assert_eq!((refuse.fired(), close.fired()), (1, 1));
    refuse.remove();
    RawClient::log_on(&server, "c");
}

/// X-3, connect: a server for one connection.
#[test]
fn a_listener_may_be_closed_by_the_connection_it_accepts() {
    let server = Server::builder().listen_tcp().listen_tcp().start().unwrap();
    let fault = server.fault(Fault::refuse_connections().when(When::accepted()).on_listener(0));
    let mut client = RawClient::log_on(&server, "c");
    fault.wait_fired(SOON).unwrap();
    server.wait_for(is_refused, SOON).unwrap();
    assert!(client.received().is_empty());
    fault.release();
    RawClient::log_on(&server, "d");
}

/// X-3, connect: for a while of the server's clock.
#[test]
fn a_listener_opens_by_itself_when_the_time_is_over() {
    let clock = Clock::manual();
    let server = Server::builder().clock(clock.clone()).start().unwrap();
    server.fault(Fault::refuse_connections().lasting(Duration::from_secs(5)));
    clock.advance(Duration::from_millis(4_999)).unwrap();
    assert!(is_refused(&server));
    clock.advance(Duration::from_millis(1)).unwrap();
    RawClient::log_on(&server, "c");
    assert!(server.faults().is_empty());
}

#[test]
fn a_restart_opens_what_a_fault_had_closed() {
    let server = server();
    let fault = server.fault(Fault::refuse_connections());
    server.restart().unwrap();
    RawClient::log_on(&server, "c");
    fault.remove();
    RawClient::log_on(&server, "d");
}

/// X-3, cut: orderly close and reset, at a command; the effect is not applied.
#[test]
fn a_command_at_which_the_connection_is_cut_has_no_effect() {
    for (fault, error) in [(Fault::close(), None), (Fault::reset(), Some(ErrorKind::ConnectionReset))] {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
        server.publish("t", "before").unwrap();
        assert!(client.receive().payload() == b"before");
        server.fault(fault.when(When::receives("publish")));
        client.send(PUBLISH);
        assert_eq!(client.read_raw_to_end(), (Vec::new(), error));
        assert!(server.sow_records("orders").is_empty());
        server.wait_for(|server| server.sessions().is_empty(), SOON).unwrap();
    }
}

/// X-3, cut: after the effect was applied, before the answer.
#[test]
fn a_command_may_have_its_effect_and_no_answer() {
    let server = server();
    let mut other = RawClient::log_on(&server, "other");
    other.ask(SUBSCRIBE);
    let mut client = RawClient::log_on(&server, "c");
    client.ask(SUBSCRIBE);
    server.fault(Fault::close_unanswered().when(When::receives("publish")));
    client.send(PUBLISH);
    assert_eq!(client.read_raw_to_end(), (Vec::new(), None));
    assert_eq!(other.receive().payload(), br#"{"id":1}"#);
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// X-3, cut: what was sent before an orderly close arrives, also with input that nobody reads.
#[test]
fn an_orderly_close_loses_nothing_that_was_sent_before() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    server.fault(Fault::close().when(When::receives("publish")));
    for _ in 0..100 {
        server.publish("t", vec![b'x'; 10_000]).unwrap();
    }
    for _ in 0..1000 {
        try_send(&client, PUBLISH);
    }
    let mut count = 0;
    while let Some(frame) = client.next() {
        assert_eq!(frame.payload().len(), 10_000);
        count += 1;
    }
    assert_eq!(count, 100);
}

/// X-3, cut: at an outgoing frame, which is not sent.
#[test]
fn a_connection_may_be_cut_before_a_frame() {
    for (fault, error) in [(Fault::close(), None), (Fault::reset(), Some(ErrorKind::ConnectionReset))] {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        server.fault(fault.when(When::sends("group_end")));
        client.send(r#"{"c":"sow","cid":"q","t":"orders","a":"completed"}"#);
        assert_eq!(client.receive().command(), "group_begin");
        assert_eq!(client.read_raw_to_end(), (Vec::new(), error));
        server.wait_for(|server| server.sessions().is_empty(), SOON).unwrap();
    }
}

/// X-3, cut: half a length word, half a header, half a payload, and more than there is.
#[test]
fn a_connection_may_be_cut_within_a_frame() {
    for bytes in [0, 2, 4, 10, 60, 10_000] {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
        let fault = server.fault(Fault::truncate(bytes).when(When::sends("publish")));
        for _ in 0..2 {
            server.publish("t", "0123456789".repeat(10)).unwrap();
        }
        let frame = Frame::encode(r#"{"c":"p","t":"t","l":100,"sids":"s"}"#, "0123456789".repeat(10));
        let expected = &frame[..bytes.min(frame.len())];
        assert_eq!(client.read_raw_to_end(), (expected.to_vec(), None));
        fault.wait_fired(SOON).unwrap();
    }
}

/// X-3, cut: a reset ends a connection whose client does not read, too.
#[test]
fn a_client_that_does_not_read_can_be_reset() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
    for _ in 0..32 {
        server.publish("t", vec![b'x'; 1 << 20]).unwrap();
    }
    server.fault(Fault::reset());
    assert_eq!(client.read_raw_to_end().1, Some(ErrorKind::ConnectionReset));
}

#[cfg(unix)]
#[test]
fn a_unix_connection_that_is_reset_is_closed() {
    use std::io::Read;
    let server = Server::builder().listen_unix_temp().start().unwrap();
    let mut client = std::os::unix::net::UnixStream::connect(server.unix_path().unwrap()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    server.wait_for(|server| server.open_connections() == 1, SOON).unwrap();
    server.fault(Fault::reset());
    assert_eq!(client.read(&mut [0; 10]).unwrap(), 0);
}
