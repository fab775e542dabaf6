//! Subscribing with a stream: the program asks for each message, on whatever thread it likes.
//!
//! ```text
//! cargo run --example stream                                      a server inside the program
//! cargo run --example stream -- tcp://localhost:9007/amps/json    a server of yours
//! ```

use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, ErrorKind, Result};

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
    let client = Client::builder("stream-example").build()?;
    client.connect(&uri)?;
    client.logon()?;

    let mut ticks = client.subscribe("ticks", "")?;
    for px in [101, 102, 103] {
        client.publish("ticks", format!(r#"{{"symbol":"IBM","px":{px}}}"#))?;
    }

    // It is an iterator: each step waits for the next message.
    for tick in ticks.iter().take(3) {
        println!("{}", tick?.data_str()?);
    }

    // A wait may have a limit; `try_next` does not wait at all. Nothing yet is an error and not the end.
    match ticks.next_timeout(Duration::from_millis(50)) {
        Some(Err(error)) if error.kind() == ErrorKind::TimedOut => println!("nothing yet: {error}"),
        Some(result) => println!("{}", result?.data_str()?),
        None => println!("the stream has ended"),
    }

    // `None` is the end and nothing else: here, because the client is closed.
    client.close();
    let rest = ticks.count();
    println!("the stream ended with {rest} messages left");
    Ok(())
}
