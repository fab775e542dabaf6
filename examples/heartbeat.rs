//! A server that falls silent: nothing ends the connection, and only heartbeats notice.
//!
//! The first peer takes the logon and then hangs, as a machine does whose cable was pulled. After two seconds without a
//! sign of life the client gives it up, and its disconnect handler goes to the standby. There the two keep each other
//! alive while nothing else happens. Then a handler takes too long, which the client counts.
//!
//! ```text
//! cargo run --example heartbeat
//! ```

use std::error::Error as StdError;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use amps_client::testing::{ScriptedPeer, Server};
use amps_client::{Client, ConnectionState, Direction, Error, GlobalKind, Message, Result};

const SECOND: Duration = Duration::from_secs(1);

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let hanging = ScriptedPeer::builder().connection(|c| c.logon().silent()).start()?;
    let standby = Server::builder().quick_topics().start()?;

    let client = Client::builder("heartbeat-example").build()?;
    let (sender, started) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::HeartbeatInitiated {
            let _ = sender.send(());
        }
    });
    let uri = standby.uri("json");
    client.set_disconnect_handler(move |client: &Client, cause: &Error| -> Result<()> {
        println!("lost: {cause}");
        client.connect(&uri)?;
        client.logon()
    })?;

    // A beat every second, and two seconds of silence are the end. A real program takes about half of the interruption that
    // it can bear, and more than its slowest handler needs.
    client.set_heartbeat(SECOND)?;
    client.connect(&hanging.uri("json"))?;
    client.logon()?;
    started.recv_timeout(10 * SECOND)?;
    println!("logged on; from now on the server says nothing");
    let silent_since = Instant::now();
    started.recv_timeout(10 * SECOND)?;
    println!("on the standby after {} s of silence", silent_since.elapsed().as_secs());

    // Nothing happens but heartbeats, one way and the other.
    let (sender, beats) = mpsc::channel();
    client.set_global_handler(GlobalKind::Heartbeat, move |_: &Message| sender.send(()));
    beats.recv_timeout(10 * SECOND)?;
    standby.wait_for_frame(
        |seen| seen.direction == Direction::Incoming && seen.frame.header("o") == Some("beat"),
        10 * SECOND,
    )?;
    println!("both sides beat, and the client is connected: {}", client.is_connected());

    // While a handler runs, no beats are sent: a consumer that hangs should be noticed.
    let (sender, handled) = mpsc::channel();
    client.subscribe_async("orders", "", move |_: &Message| {
        thread::sleep(SECOND * 6 / 10);
        sender.send(())
    })?;
    client.publish("orders", r#"{"id":1}"#)?;
    handled.recv_timeout(10 * SECOND)?;
    client.publish_flush()?; // its answer comes when the handler is through
    println!("handlers that took more than half an interval: {}", client.slow_handler_count());
    Ok(())
}
