//! A client that finds another server by itself, while the program goes on.
//!
//! A desk publishes orders through a store and follows them on a stream. Its server dies. The next order is published all
//! the same, and the call returns at once. The client goes to the backup, sends there what was not acknowledged, and places
//! the subscription again: the loop over the stream does not end. What it sees is the answer to the query once more, so
//! what it does with an order has to bear seeing it twice.
//!
//! ```text
//! cargo run --example ha_failover
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{AckType, CommandType, ConnectionState, HAClient, MemoryPublishStore, MessageStream};

const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let (primary, backup) = (Server::quick()?, Server::quick()?);
    let client = HAClient::builder("ha-failover-example")
        .servers([primary.uri("json"), backup.uri("json")])
        .publish_store(MemoryPublishStore::new())
        .build()?;
    // The way to be told of a failover. The client's disconnect handler is its own.
    let (sender, states) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        let _ = sender.send(state);
    });
    client.set_heartbeat(Duration::from_secs(5))?; // a server that only falls silent is left too
    client.connect_and_logon_timeout(LIMIT)?;

    let mut orders = client.sow_and_subscribe("sow/orders", "")?;
    orders.set_timeout(Some(LIMIT));
    client.publish("sow/orders", r#"{"id":1}"#)?;
    show_until(&mut orders, r#"{"id":1}"#)?;
    client.publish_flush_with(AckType::PROCESSED, Some(LIMIT))?; // waits until the store is empty
    backup.publish("sow/orders", r#"{"id":1}"#)?; // as replication between real servers would
    states.try_iter().for_each(drop);

    println!("the primary dies");
    primary.stop();
    client.publish("sow/orders", r#"{"id":2}"#)?; // into the store, whether the loss was noticed or not
    show_until(&mut orders, r#"{"id":2}"#)?;
    println!("failovers of the stream: {}", orders.reconnects());

    client.publish_flush_with(AckType::PROCESSED, Some(LIMIT))?;
    let left = client.publish_store().map_or(0, |store| store.unpersisted_count());
    println!("orders on the backup: {}, still in the store: {left}", backup.sow_records("sow/orders").len());
    let states: Vec<String> = states.try_iter().map(|state| state.to_string()).collect();
    println!("states: {}", states.join(", "));
    client.close();
    Ok(())
}

/// Prints what the stream brings, up to this order.
fn show_until(orders: &mut MessageStream, last: &str) -> Result<(), Box<dyn Error>> {
    for order in orders {
        let order = order?;
        match order.command() {
            CommandType::GroupBegin => println!("  the orders that there are:"),
            CommandType::GroupEnd => println!("  from now on it is live"),
            _ => println!("    {}", order.data_str()?),
        }
        if order.data() == last.as_bytes() {
            return Ok(());
        }
    }
    Err("the stream has ended".into())
}
