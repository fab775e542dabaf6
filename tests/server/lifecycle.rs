//! A server starts when it says so, ends when it is told to, and comes back where it was.

use std::io::ErrorKind as IoErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::RawClient;
use amps_client::ErrorKind;
use amps_client::testing::{Clock, Listener, Server, Topic};

const PATIENCE: Duration = Duration::from_secs(10);

fn orders() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

fn is_refused(server: &Server) -> bool {
    TcpStream::connect(server.address().expect("a TCP listener"))
        .is_err_and(|e| e.kind() == IoErrorKind::ConnectionRefused)
}

/// A-5.
#[test]
fn a_stop_ends_within_a_second_whatever_the_peers_do() {
    let server = orders();
    let silent = RawClient::connect(&server);
    let mut half = RawClient::connect(&server);
    half.send_raw(b"\0\0\x01\0{\"c\":");
    let mut deaf = RawClient::log_on(&server, "deaf");
    deaf.send(r#"{"c":"subscribe","cid":"1","t":"big"}"#);
    server.wait_for(|s| s.subscriptions().len() == 1, PATIENCE).unwrap();
    for _ in 0..32 {
        server.publish("big", vec![b'x'; 1 << 20]).unwrap();
    }
    let start = Instant::now();
    server.stop();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(server.sessions().is_empty() && server.subscriptions().is_empty());
    assert!(is_refused(&server));
    server.stop();
    drop((silent, half, deaf));
}

/// A-5: the same on the path of a panicking test.
#[test]
fn a_drop_closes_the_connections() {
    let server = orders();
    let mut client = RawClient::log_on(&server, "c");
    drop(server);
    assert!(client.next().is_none());
}

/// A-6.
#[test]
fn a_restart_keeps_the_address_and_the_records() {
    let server = orders();
    let address = server.address();
    let mut before = RawClient::log_on(&server, "c");
    server.publish("orders", r#"{"id":1}"#).unwrap();
    server.restart().unwrap();
    assert!(before.next().is_none());
    assert_eq!(server.address(), address);
    assert_eq!(server.sow_records("orders").len(), 1);
    RawClient::log_on(&server, "c");
}

/// A-6.
#[test]
fn an_empty_restart_forgets_the_records() {
    let server = orders();
    server.publish("orders", r#"{"id":1}"#).unwrap();
    server.restart_empty().unwrap();
    assert!(server.sow_records("orders").is_empty());
    RawClient::log_on(&server, "c");
}

/// A-6.
#[test]
fn a_paused_server_refuses_connections_and_keeps_those_it_has() {
    let server = orders();
    let mut client = RawClient::log_on(&server, "c");
    server.pause_listening();
    assert!(is_refused(&server));
    assert!(client.received().is_empty());
    server.resume_listening().unwrap();
    let _other = RawClient::log_on(&server, "d");
    assert_eq!(server.sessions().len(), 2);
}

/// A-3.
#[test]
fn one_listener_may_be_closed_while_the_other_goes_on() {
    let server = Server::builder().listen_tcp().listen_tcp().start().unwrap();
    server.pause_listener(0).unwrap();
    assert!(is_refused(&server));
    let other = server.uris("json").pop().unwrap();
    let address = other["tcp://".len()..].split('/').next().unwrap().to_owned();
    assert!(TcpStream::connect(address).is_ok());
    assert_eq!(server.pause_listener(2).unwrap_err().kind(), ErrorKind::Usage);
    server.resume_listening().unwrap();
    RawClient::log_on(&server, "c");
}

#[test]
fn a_stopped_server_does_not_resume_but_restarts() {
    let server = orders();
    server.stop();
    assert_eq!(server.resume_listening().unwrap_err().kind(), ErrorKind::Usage);
    server.restart().unwrap();
    RawClient::log_on(&server, "c");
}

/// A-3, L-6.
#[test]
fn each_listener_has_its_own_message_types() {
    let server = Server::builder()
        .listen(Listener::tcp().message_types(["json"]))
        .listen(Listener::tcp().message_types(["fix", "nvfix"]))
        .start()
        .unwrap();
    let uris = server.uris("nvfix");
    assert_eq!(uris.len(), 2);
    assert_eq!(server.uri("nvfix"), uris[0]);
    let address = |uri: &str| uri["tcp://".len()..].split('/').next().unwrap().to_owned();
    let logon = r#"{"c":"logon","cid":"1","client_name":"c","mt":"nvfix","a":"processed"}"#;
    for (uri, status) in uris.iter().zip(["failure", "success"]) {
        let mut client = RawClient::of(TcpStream::connect(address(uri)).unwrap());
        client.send(logon);
        assert_eq!(client.receive().header("status"), Some(status), "{uri}");
    }
}

/// A-3.
#[test]
fn a_server_also_listens_on_ipv6_where_there_is_any() {
    let there_is = std::net::TcpListener::bind("[::1]:0").is_ok();
    let started = Server::builder().listen(Listener::tcp_v6()).start();
    assert_eq!(started.is_ok(), there_is);
    if let Ok(server) = started {
        RawClient::log_on(&server, "c");
        assert!(server.uri("json").starts_with("tcp://[::1]:"), "{}", server.uri("json"));
    }
}

/// A-3.
#[test]
fn an_address_that_others_can_reach_is_refused_unless_it_is_allowed() {
    let everywhere = || Server::builder().listen(Listener::tcp_at(([0, 0, 0, 0], 0)));
    let error = everywhere().start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("0.0.0.0:0"), "{error}");
    assert!(everywhere().allow_remote().start().is_ok());
}

#[test]
fn an_address_that_is_taken_is_an_error_that_names_it() {
    let first = orders();
    let address = first.address().unwrap();
    let error = Server::builder().listen(Listener::tcp_at(address)).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn a_version_must_be_four_numbers() {
    for version in ["5.3", "5.3.x.0", ""] {
        assert_eq!(Server::builder().version(version).start().unwrap_err().kind(), ErrorKind::Usage);
    }
}

/// A-8.
#[test]
fn servers_in_one_process_do_not_know_of_each_other() {
    let (one, two) = (orders(), orders());
    one.publish("orders", r#"{"id":1}"#).unwrap();
    RawClient::log_on(&one, "c");
    assert!(two.sow_records("orders").is_empty() && two.sessions().is_empty());
}

/// A-7: two servers may share a clock.
#[test]
fn one_manual_clock_moves_several_servers() {
    let clock = Clock::manual();
    let start = || Server::builder().clock(clock.clone()).start().unwrap();
    let (one, two) = (start(), start());
    let mut clients = [RawClient::log_on(&one, "c"), RawClient::log_on(&two, "c")];
    for client in &mut clients {
        assert!(client.ask(r#"{"c":"heartbeat","o":"start,1"}"#).is_empty());
    }
    clock.advance(Duration::from_secs(1)).unwrap();
    for client in &mut clients {
        assert_eq!(client.texts(), [r#"{"c":"heartbeat"}"#]);
    }
}

#[cfg(unix)]
mod unix {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn log_on(server: &Server) -> UnixStream {
        let mut stream =
            UnixStream::connect(server.unix_path().expect("a Unix socket")).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let logon = br#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#;
        stream.write_all(&(logon.len() as u32).to_be_bytes()).expect("a connection that takes bytes");
        stream.write_all(logon).expect("a connection that takes bytes");
        let mut answer = [0; 30];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer.ends_with(br#"{"c":"ack","cid":"1","s":0"#), "{answer:?}");
        stream
    }

    /// A-3.
    #[test]
    fn a_temporary_unix_socket_goes_with_its_server() {
        let server = Server::builder().listen_unix_temp().start().unwrap();
        let path = server.unix_path().unwrap().to_owned();
        assert_eq!(server.uri("json"), format!("unix://localhost:0/amps/json?path={}", path.display()));
        log_on(&server);
        server.restart().unwrap();
        log_on(&server);
        server.pause_listening();
        assert!(UnixStream::connect(&path).is_err());
        server.resume_listening().unwrap();
        log_on(&server);
        drop(server);
        assert!(!path.parent().unwrap().exists());
    }

    /// A-3.
    #[test]
    fn a_server_listens_on_several_kinds_of_sockets() {
        let directory = Server::builder().listen_unix_temp().start().unwrap();
        let path = directory.unix_path().unwrap().with_file_name("other.sock");
        let server = Server::builder().listen_tcp().listen_unix(&path).start().unwrap();
        let _clients = (log_on(&server), RawClient::log_on(&server, "c"));
        assert_eq!(server.sessions().len(), 2);
        drop(server);
        assert!(!path.exists());
    }
}
