//! On an `HAClient` a subscription stream goes on over a failover, and its reader can tell.

use crate::support::client::*;
use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{Command, ErrorKind, HAClient};

/// Takes the next connection and logs the client on.
fn logged_on(peer: &ScriptedPeer) -> PeerConnection {
    let connection = peer.accept(SOON).unwrap();
    connection.logon(&LogonAck::success(), SOON).unwrap();
    connection
}

/// Decision 9, M-30.
#[test]
fn a_stream_has_counted_a_failover_when_it_gives_the_first_message_behind_it() {
    let peer = ScriptedPeer::start().unwrap();
    let client = HAClient::builder("c").servers([peer.uri("json")]).build().unwrap();
    let ha = client.clone();
    let connecting = begin_alone(move || ha.connect_and_logon());
    let first = logged_on(&peer);
    connecting.wait().unwrap();

    let ha = client.clone();
    let subscribing = begin_alone(move || ha.execute(Command::subscribe("t").sub_id("s")));
    first.expect("subscribe", SOON).unwrap();
    first.reply_ok().unwrap();
    let mut stream = subscribing.wait().unwrap();
    first.close();

    let second = logged_on(&peer);
    second.expect("subscribe", SOON).unwrap();
    // Data may overtake the answer.
    second.send(&publication("s"), "behind it").unwrap();
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().data(), b"behind it");
    assert_eq!(stream.reconnects(), 1);
    second.reply_failure("not entitled").unwrap();

    // That attempt was none after all.
    let third = logged_on(&peer);
    third.expect("subscribe", SOON).unwrap();
    third.send(&publication("s"), "again").unwrap();
    third.reply_ok().unwrap();
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap().data(), b"again");
    assert_eq!(stream.reconnects(), 1);
    assert_eq!(stream.try_next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
}
