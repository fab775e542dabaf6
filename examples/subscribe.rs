//! Subscribing with a handler: the client calls it for each message, on its receive thread.
//!
//! ```text
//! cargo run --example subscribe                                      a server inside the program
//! cargo run --example subscribe -- tcp://localhost:9007/amps/json    a server of yours
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, HandlerError, Message, UnhandledError};

fn main() -> Result<(), Box<dyn Error>> {
    // The server that the command line names, or else one inside this program.
    let embedded;
    let uri = match std::env::args().nth(1) {
        Some(uri) => uri,
        None => {
            embedded = Server::quick()?;
            embedded.uri("json")
        }
    };
    let client = Client::builder("subscribe-example").build()?;
    client.connect(&uri)?;
    client.logon()?;

    // An error that a handler returns, and a panic in it, are reported here; the next message comes all the same.
    client.set_exception_listener(|failure: &UnhandledError| eprintln!("{failure}"));

    // While a handler runs nothing else is received, so it hands slow work to another thread. It may publish, but it
    // may not wait for an answer of the same client.
    let (sender, received) = mpsc::channel();
    let handler = move |message: &Message| -> Result<(), HandlerError> {
        println!("{}: {}", message.topic().unwrap_or_default(), message.data_str()?);
        Ok(sender.send(message.clone())?) // a clone shares the bytes
    };
    let id = client.subscribe_async("ticks", "/px > 100", handler)?;

    for px in [99, 100, 101, 102, 103] {
        client.publish("ticks", format!(r#"{{"symbol":"IBM","px":{px}}}"#))?;
    }
    for _ in 0..3 {
        received.recv_timeout(Duration::from_secs(10))?;
    }
    client.unsubscribe(&id)?;
    println!("three of five ticks passed the filter");
    Ok(())
}
