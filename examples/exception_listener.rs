//! Where do errors go that have no caller? To the exception listener.
//!
//! A program takes the pokes of one user, and its handler fails on some of them: once with an error, once with a panic.
//! Nobody called the handler but the library, so the library tells the listener; the handler gets the next poke all the
//! same. The first listener only prints what it is told. The second also looks at where the failure happened.
//!
//! ```text
//! cargo run --example exception_listener                                      a server inside the program
//! cargo run --example exception_listener -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! With RUST_BACKTRACE=1 there are backtraces of errors too.

use std::error::Error;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, Command, HandlerError, Message, UnhandledError};
use serde_json::Value;

const USER: &str = "okafor";

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
    let client = Client::builder("exception-listener-example").build()?;
    client.connect(&uri)?;
    client.logon()?;

    // Set before subscribing, so that no failure is missed. Without a listener they are written to the log.
    println!("with a listener that prints:");
    client.set_exception_listener(|failure: &UnhandledError| println!("  listener: {failure}"));

    let (sender, poked) = mpsc::channel();
    let pokes =
        Command::subscribe("pokes").filter(format!("/Pokee LIKE '^{USER}$'")).timeout(Duration::from_secs(5));
    client.execute_async(pokes, move |message: &Message| on_poke(message, &sender))?;
    poke_all(&client, &poked)?;

    // Changes the whole process, so it has to be asked for. A panic is printed to stderr too, as ever.
    amps_client::capture_panic_backtraces();
    println!("with a listener that looks at the place:");
    client.set_exception_listener(print_with_place);
    poke_all(&client, &poked)?;
    println!("the client is still connected: {}", client.is_connected());
    Ok(())
}

/// The handler. Two kinds of error leave it through the same `?`, and an assertion can fail.
fn on_poke(message: &Message, poked: &Sender<()>) -> Result<(), HandlerError> {
    let poke: Value = serde_json::from_slice(message.data())?;
    let times = poke["Times"].as_i64().ok_or_else(|| format!("poked {} times?", poke["Times"]))?;
    assert!(times > 0, "poked {times} times: that cannot be");
    println!("  poked {times} times by {}", poke["Poker"]);
    Ok(poked.send(())?)
}

/// Pokes four times, and waits for the last.
fn poke_all(client: &Client, poked: &Receiver<()>) -> Result<(), Box<dyn Error>> {
    for (poker, times) in [("ng", "3"), ("costa", r#""often""#), ("haddad", "-1"), ("ng", "2")] {
        client.publish("pokes", format!(r#"{{"Pokee":"{USER}","Poker":"{poker}","Times":{times}}}"#))?;
    }
    for _ in 0..2 {
        poked.recv_timeout(Duration::from_secs(10))?;
    }
    Ok(())
}

/// A listener that looks at the handler's own error and at the place. It logs and returns: to repair something it would set
/// a flag for another thread.
fn print_with_place(failure: &UnhandledError) {
    println!("  listener: {} failed: {}", failure.origin(), failure.error());
    if let Some(cause) = failure.error().source() {
        println!("    the handler's own error: {cause}");
    }
    let Some(backtrace) = failure.backtrace() else {
        return println!("    no backtrace: nobody asked for one");
    };
    // That of an error is taken where the library gets it. The handler has returned by then, and is not on the stack.
    let text = backtrace.to_string();
    let place = text.lines().map(str::trim).find(|frame| frame.contains("on_poke"));
    println!("    {}", place.unwrap_or("a backtrace, from behind the handler"));
}
