//! Querying the state of the world: the last message for each key, filtered, ordered and limited by the server.
//!
//! ```text
//! cargo run --example sow_query                                      a server inside the program
//! cargo run --example sow_query -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! A server of yours needs a SOW topic `sow/orders` whose key is `/id`.

use amps_client::testing::Server;
use amps_client::{AckType, Client, Command, CommandType, Result};

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
    let client = Client::builder("sow-query-example").build()?;
    client.connect(&uri)?;
    client.logon()?;
    for order in include_str!("data/orders.jsonl").lines() {
        client.publish(TOPIC, order)?;
    }
    client.publish_flush()?;

    // The short form: a topic and a filter. The result stands between two marks.
    for message in client.sow(TOPIC, "/symbol = 'NESN' AND /status = 'cancelled'")? {
        let message = message?;
        match message.command() {
            CommandType::GroupBegin => println!("cancelled orders in NESN:"),
            CommandType::Sow => println!("  {}", message.data_str()?),
            CommandType::GroupEnd => println!("no more of them"),
            _ => {}
        }
    }

    // A command says more: an order, a limit, how many records share a frame, and that the server is to count.
    let largest = Command::sow(TOPIC)
        .filter("/desk = 'EMEA' AND /status = 'filled'")
        .order_by("/qty DESC, /px DESC")
        .top_n(3)
        .batch_size(100)
        .ack_type(AckType::STATS);
    println!("the three largest orders that EMEA has filled:");
    for message in client.execute(largest)? {
        let message = message?;
        match message.command() {
            CommandType::Sow => println!("  {}", message.data_str()?),
            CommandType::Ack => println!("of {} records", message.topic_matches().unwrap_or_default()),
            _ => {}
        }
    }
    Ok(())
}
