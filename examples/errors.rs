//! What goes wrong, and how a program tells: every failure has a kind to match on and a sentence to show.
//!
//! ```text
//! cargo run --example errors                                      a server inside the program
//! cargo run --example errors -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! A server of yours needs a SOW topic `sow/orders` whose key is `/id`, and none of the name `ticks`.

use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, Error, ErrorClass, ErrorKind, Result};

fn main() -> Result<()> {
    // The server that the command line names, or else one inside this program.
    let embedded;
    let uri = match std::env::args().nth(1) {
        Some(uri) => uri,
        None => {
            embedded = Server::quick()?;
            embedded.uri("json")
        }
    };

    caught(ErrorKind::Usage, Client::builder("").build())?;
    let client = Client::builder("errors-example").build()?;

    // Before a connection.
    caught(ErrorKind::InvalidUri, client.connect("localhost:9007"))?;
    caught(
        ErrorKind::InvalidTransportOptions,
        client.connect("tcp://localhost:9007/amps/json?tcp_nodelya=true"),
    )?;
    caught(ErrorKind::ConnectionRefused, client.connect("tcp://localhost:1/amps/json"))?;
    caught(ErrorKind::Disconnected, client.publish("ticks", "1"))?;

    client.connect(&uri)?;
    caught(ErrorKind::AlreadyConnected, client.connect(&uri))?;
    client.logon()?;

    // The server refuses a command: nothing of it is left behind, and the connection goes on.
    caught(ErrorKind::BadFilter, client.sow("sow/orders", "/px >"))?;
    caught(ErrorKind::InvalidTopic, client.sow("ticks", ""))?;

    // Nothing comes in time: the stream goes on.
    let mut ticks = client.subscribe("ticks", "")?;
    caught(ErrorKind::TimedOut, ticks.next_timeout(Duration::from_millis(50)).transpose())?;

    client.publish("ticks", r#"{"symbol":"IBM","px":101}"#)?;
    if let Some(tick) = ticks.next() {
        println!("after all that: {}", tick?.data_str()?);
    }
    Ok(())
}

/// Shows a failure that was to be expected; anything else fails the program.
fn caught<T>(expected: ErrorKind, result: Result<T>) -> Result<()> {
    match result {
        Err(error) if error.kind() == expected => {
            println!("{expected}: {error}\n    {}", advice(&error));
            Ok(())
        }
        Err(other) => Err(other),
        Ok(_) => Err(Error::new(ErrorKind::Amps, format!("{expected} was to be expected"))),
    }
}

/// What to do about it: the kinds a program knows, and for the others two questions and their class.
fn advice(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::InvalidUri | ErrorKind::InvalidTransportOptions => "correct the address",
        ErrorKind::AlreadyConnected => "leave the connection as it is, or close it first",
        ErrorKind::BadFilter => "correct the filter",
        ErrorKind::InvalidTopic => "ask for a topic that keeps the state of the world",
        ErrorKind::TimedOut => "wait again, or do something else first",
        _ if error.is_disconnect() => "connect, and do it again",
        _ if error.is_retryable() => "try again later; the server may be down",
        _ => match error.class() {
            ErrorClass::Usage => "correct the program",
            ErrorClass::Command => "correct the command",
            _ => "tell the operator",
        },
    }
}
