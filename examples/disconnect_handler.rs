//! One server, and a handler that waits a little and connects again.
//!
//! The connection is lost twice. The first time the handler gets it back; the subscription does not come back with it,
//! because the handler does not place it. The second time nobody listens: the handler fails, and the exception listener is
//! told. From then on each command has the handler try once more, and fails if it does. When the server is back, the next
//! command finds it.
//!
//! ```text
//! cargo run --example disconnect_handler             waits for 100 ms
//! cargo run --example disconnect_handler -- --wait 5    for five seconds, as a real program would
//! ```

use std::error::Error as StdError;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, ConnectionState, Error, Message, Origin, Result, UnhandledError};

const NAME: &str = "disconnect-handler-example";

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let wait = wait_from(std::env::args().skip(1))?;
    let limit = wait + Duration::from_secs(10);
    let server = Server::quick()?; // one that can be made to fail
    let uri = server.uri("json");
    let client = Client::builder(NAME).build()?;

    let address = uri.clone();
    client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        println!("  handler on thread {}: {cause}", thread::current().name().unwrap_or_default());
        reconnect(client, &address, wait)
    })?;
    let (sender, logged_on) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::LoggedOn {
            let _ = sender.send(());
        }
    });
    let (sender, given_up) = mpsc::channel();
    client.set_exception_listener(move |failure: &UnhandledError| {
        println!("  listener: {failure}");
        if failure.origin() == Origin::Connection {
            let _ = sender.send(()); // the last that is told of a loss
        }
    });

    client.connect(&uri)?;
    client.logon()?;
    logged_on.recv_timeout(limit)?;
    client.subscribe_async("orders", "", |order: &Message| println!("  order: {order:?}"))?;
    println!("connected; subscriptions: {}", server.subscriptions().len());

    println!("the connection breaks:");
    server.disconnect(NAME);
    logged_on.recv_timeout(limit)?;
    client.publish_flush()?; // waits until the handler has returned
    println!("connected; subscriptions: {}, the handler does not place any", server.subscriptions().len());

    println!("the server goes away:");
    server.pause_listening();
    server.disconnect(NAME);
    given_up.recv_timeout(limit)?;

    println!("a publish has the handler try again:");
    if let Err(error) = client.publish("sow/orders", r#"{"id":1}"#) {
        println!("{}: {error}", error.kind());
    }

    println!("the server is back, and another publish has the handler try again:");
    server.resume_listening()?;
    client.publish("sow/orders", r#"{"id":1}"#)?;
    client.publish_flush()?;
    println!("connected; orders on the server: {}", server.sow_records("sow/orders").len());
    Ok(())
}

/// The repair. Its error goes to the exception listener, and the client goes on without a connection.
fn reconnect(client: &Client, uri: &str, wait: Duration) -> Result<()> {
    thread::sleep(wait); // on the receive thread, which has nothing else to do
    client.connect(uri)?;
    client.logon()
}

/// How long to wait before an attempt, from the command line.
fn wait_from(mut args: impl Iterator<Item = String>) -> std::result::Result<Duration, Box<dyn StdError>> {
    match (args.next().as_deref(), args.next()) {
        (None, _) => Ok(Duration::from_millis(100)),
        (Some("--wait"), Some(seconds)) => Ok(Duration::from_secs(seconds.parse()?)),
        _ => Err("there is one option: --wait SECONDS".into()),
    }
}
