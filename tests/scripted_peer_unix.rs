//! A scripted peer on a Unix socket (rule A-3 of the embedded server).
#![cfg(unix)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use amps_client::testing::{Frame, ScriptedPeer};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_unix_socket_works_like_a_port() {
    let peer =
        ScriptedPeer::builder().unix().connection(|c| c.expect("flush").reply_ok().reset()).start().unwrap();
    let path = peer.path().unwrap().to_owned();
    assert_eq!(peer.uri("json"), format!("unix://localhost:0/amps/json?path={}", path.display()));
    assert_eq!(peer.address(), None);
    peer.refuse().unwrap();
    assert!(UnixStream::connect(&path).is_err());
    peer.listen_again().unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.write_all(&Frame::encode(r#"{"c":"flush","cid":"1"}"#, b"")).unwrap();
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received[4..], *br#"{"c":"ack","cid":"1","a":"processed","status":"success"}"#);
    peer.finish().unwrap();
    assert!(!path.exists() && !path.parent().unwrap().exists());
}

#[test]
fn a_unix_socket_goes_with_its_peer_even_if_a_connection_is_still_held() {
    let peer = ScriptedPeer::builder().unix().start().unwrap();
    let path = peer.path().unwrap().to_owned();
    let _client = UnixStream::connect(&path).unwrap();
    let _connection = peer.accept(SOON).unwrap();
    drop(peer);
    assert!(!path.exists() && !path.parent().unwrap().exists());
}
