//! The library in one program: publish, ask for the state of the world, and follow it as it changes.
//!
//! A desk publishes the first half of its day. A blotter asks which orders are open, and stays subscribed: it sees each
//! one change, come into view and go out of focus while the desk publishes the rest. At the close nothing is open any
//! more, and the program ends.
//!
//! ```text
//! cargo run --example quickstart                                      a server inside the program
//! cargo run --example quickstart -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! A server of yours needs a SOW topic `sow/orders` whose key is `/id`, with no other open orders in it.

use std::collections::HashSet;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, Command, CommandType, Result, SubscribeOptions};

/// A trading day: one JSON object a line, each an order as it is after a change.
const DAY: &str = include_str!("data/orders.jsonl");

const TOPIC: &str = "sow/orders";
const OPEN: &str = "/status IN ('new', 'partial')";

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

    // A client is one connection. These two could be programs on different machines.
    let desk = log_on("quickstart-desk", &uri)?;
    let blotter = log_on("quickstart-blotter", &uri)?;
    println!("logged on to a server of version {}", desk.server_version());

    let day: Vec<&str> = DAY.lines().collect();
    let (before_noon, after_noon) = day.split_at(day.len() / 2);
    publish(&desk, before_noon)?;

    show_largest(&blotter)?;
    follow(&blotter, || publish(&desk, after_noon))?;
    Ok(())
}

/// Asks for the state of the world: the last message for each key.
fn show_largest(blotter: &Client) -> Result<()> {
    println!("the three largest open orders:");
    for message in blotter.execute(Command::sow(TOPIC).filter(OPEN).order_by("/qty DESC").top_n(3))? {
        let message = message?;
        if message.command() == CommandType::Sow {
            println!("  {}", message.data_str()?);
        }
    }
    Ok(())
}

/// Asks for the state of the world and everything after it in one step: no change is missed, none comes twice.
fn follow(blotter: &Client, at_noon: impl Fn() -> Result<()>) -> Result<()> {
    let command = Command::sow_and_subscribe(TOPIC).filter(OPEN).options(SubscribeOptions::new().oof());
    let mut changes = blotter.execute(command)?;
    changes.set_timeout(Some(Duration::from_secs(10))); // fail rather than wait for ever

    let mut open = HashSet::new();
    let (mut updates, mut out_of_focus) = (0, 0);
    for message in changes {
        let message = message?;
        let key = message.sow_key().unwrap_or_default().to_owned();
        match message.command() {
            CommandType::Sow => {
                open.insert(key);
            }
            CommandType::GroupEnd => {
                println!("{} orders are open at noon", open.len());
                at_noon()?; // what comes after this mark is live
            }
            CommandType::Publish => {
                updates += 1;
                open.insert(key);
            }
            CommandType::Oof => {
                out_of_focus += 1;
                open.remove(&key);
                if open.is_empty() {
                    break; // dropping the stream unsubscribes
                }
            }
            _ => {}
        }
    }
    println!("{updates} live updates, {out_of_focus} orders out of focus, {} open at the close", open.len());
    Ok(())
}

fn log_on(name: &str, uri: &str) -> Result<Client> {
    let client = Client::builder(name).build()?;
    client.connect(uri)?;
    client.logon()?;
    Ok(client)
}

fn publish(desk: &Client, orders: &[&str]) -> Result<()> {
    for order in orders {
        desk.publish(TOPIC, order)?; // does not wait for the server
    }
    desk.publish_flush()?; // waits until the server has processed them all
    println!("published {} orders and updates", orders.len());
    Ok(())
}
