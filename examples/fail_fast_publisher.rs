//! Late is worse than lost: a publisher of prices that never waits for an outage to end.
//!
//! A price that comes when it is out of date does harm. So there is no store, whose messages are sent after an outage; what
//! meets an outage fails at once instead of waiting; and each price has to be acknowledged within a time limit. The program
//! drops what fails and goes on with the next price.
//!
//! ```text
//! cargo run --example fail_fast_publisher
//! ```

use std::error::Error as StdError;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use amps_client::testing::ScriptedPeer;
use amps_client::{AckType, Client, Command, ConnectionState, Error, Result};

/// How old a price may be.
const LIMIT: Duration = Duration::from_millis(300);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    // A server that takes two prices, hangs over the third, and breaks down with the fourth; and then its successor.
    let peer = ScriptedPeer::builder()
        .connection(|c| {
            let healthy = c.logon().ignore("heartbeat").repeat(2, |c| c.expect("publish").reply_ok());
            healthy.expect("publish").expect("publish").reset()
        })
        .connection(|c| c.logon().ignore("heartbeat").expect("publish").reply_ok().idle())
        .start()?;

    let client = Client::builder("fail-fast-publisher-example").build()?; // no store
    client.set_retry_on_disconnect(false); // the default is to wait
    client.set_heartbeat(Duration::from_secs(1))?; // ends a write that a hanging server does not take

    let (sender, states) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        let _ = sender.send(state);
    });
    let uri = peer.uri("json");
    client.connect(&uri)?;
    client.logon()?;
    let (end_of_outage, outage) = mpsc::channel();
    let outage = Mutex::new(outage);
    client.set_disconnect_handler(move |client: &Client, _cause: &Error| -> Result<()> {
        if let Ok(outage) = outage.lock() {
            let _ = outage.recv_timeout(PATIENCE); // stands for the time that a server needs to come back
        }
        client.connect(&uri)?;
        client.logon()
    })?;

    for price in [101, 102, 103, 104] {
        publish(&client, price);
    }
    while states.recv_timeout(PATIENCE)? != ConnectionState::Disconnected {}
    for price in [105, 106] {
        publish(&client, price);
    }
    end_of_outage.send(())?;
    while states.recv_timeout(PATIENCE)? != ConnectionState::LoggedOn {}
    // Until the handler has returned, prices still fail.
    (107..).find(|price| publish(&client, *price));
    client.close();
    Ok(peer.finish()?)
}

/// Publishes a price, or drops it. True if the server has taken it.
fn publish(client: &Client, price: u32) -> bool {
    thread::sleep(Duration::from_millis(5)); // prices take their time
    let tick = Command::publish("ticks").data(format!(r#"{{"symbol":"IBM","px":{price}}}"#));
    let outcome = client.publish_command(tick.ack_type(AckType::PROCESSED).timeout(LIMIT));
    match &outcome {
        Ok(_) => println!("{price}"),
        Err(error) => println!("{price} dropped, {}: {error}", error.kind()),
    }
    outcome.is_ok()
}
