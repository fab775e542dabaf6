//! Heartbeats can be switched off on a live session.

use std::time::Duration;

use amps_client::testing::{Clock, Server};
use amps_client::{AckType, Client};

const SOON: Duration = Duration::from_secs(20);

/// H-1: a server that still waited for beats would end the connection.
#[test]
fn a_server_is_told_that_there_will_be_no_more_beats() {
    let clock = Clock::manual();
    let server = Server::builder().clock(clock.clone()).start().unwrap();
    let client = Client::builder("off").build().unwrap();
    client.connect(&server.uri("json")).unwrap();
    client.logon().unwrap();
    client.set_heartbeat(Duration::from_secs(60)).unwrap();
    client.set_heartbeat(Duration::ZERO).unwrap();
    client.publish_flush_with(AckType::PROCESSED, Some(SOON)).unwrap();
    clock.advance(Duration::from_secs(3600)).unwrap();
    client.publish_flush_with(AckType::PROCESSED, Some(SOON)).unwrap();
    assert_eq!(server.sessions().len(), 1);
}
