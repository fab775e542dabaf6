//! Publishing: a message, one with something going along, one with changed fields only, and how to know that all arrived.
//!
//! ```text
//! cargo run --example publish                                      a server inside the program
//! cargo run --example publish -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! A server of yours needs a SOW topic `sow/orders` whose key is `/id`.

use std::time::{Duration, Instant};

use amps_client::testing::Server;
use amps_client::{AckType, Client, PublishOptions, Result};

const TOPIC: &str = "sow/orders";

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
    let client = Client::builder("publish-example").build()?;
    client.connect(&uri)?;
    client.logon()?;

    // The payload is any bytes. The call writes them and does not wait for the server.
    let start = Instant::now();
    let day = include_str!("data/orders.jsonl");
    for order in day.lines() {
        client.publish(TOPIC, order)?;
    }

    // This one vanishes after a minute, and subscribers see the correlation id.
    let options = PublishOptions::new().expiration(Duration::from_secs(60)).correlation_id("ZGVzay03");
    let indication =
        r#"{"id":30001,"desk":"EMEA","symbol":"SAP","side":"buy","qty":1200,"status":"indication"}"#;
    client.publish_with(TOPIC, indication, &options)?;

    // The server merges this into the order that has this id.
    client.delta_publish(TOPIC, r#"{"id":20001,"reviewed_by":"okafor"}"#)?;

    // Whoever needs to know that everything arrived asks for it once, at the end.
    client.publish_flush_with(AckType::PROCESSED, Some(Duration::from_secs(10)))?;
    println!("the server has processed {} messages after {:?}", day.lines().count() + 2, start.elapsed());
    Ok(())
}
