//! A live blotter: the open orders of a trader in a symbol, first as they are, then every change of them.
//!
//! ```text
//! cargo run --example sow_and_subscribe                                      a server inside the program
//! cargo run --example sow_and_subscribe -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! A server of yours needs a SOW topic `sow/orders` whose key is `/id`.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, Command, CommandType, Message, SubscribeOptions};
use serde_json::Value;

const TOPIC: &str = "sow/orders";
const FILTER: &str = "/trader = 'whitfield' AND /symbol = 'AAPL' AND /status IN ('new', 'partial')";

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
    let client = Client::builder("blotter-example").build()?;
    client.connect(&uri)?;
    client.logon()?;

    let day: Vec<&str> = include_str!("data/orders.jsonl").lines().collect();
    let (before_noon, after_noon) = day.split_at(day.len() / 2);
    publish(&client, before_noon)?;
    client.publish_flush()?;

    let command = Command::sow_and_subscribe(TOPIC).filter(FILTER).options(SubscribeOptions::new().oof());
    let mut changes = client.execute(command)?;
    changes.set_timeout(Some(Duration::from_secs(10))); // fail rather than wait for ever

    let last_change = day.iter().rfind(|order| order.contains(r#""whitfield","symbol":"AAPL""#));
    let mut blotter = Blotter::default();
    for message in changes {
        let message = message?;
        match message.command() {
            CommandType::Sow | CommandType::Publish | CommandType::Oof => blotter.take(&message)?,
            CommandType::GroupEnd => {
                println!("from here on it is live:");
                publish(&client, after_noon)?;
            }
            _ => {}
        }
        if Some(&message.data_str()?) == last_change {
            break;
        }
    }
    Ok(())
}

fn publish(client: &Client, orders: &[&str]) -> amps_client::Result<()> {
    orders.iter().try_for_each(|order| client.publish(TOPIC, order).map(drop))
}

/// The orders in view by their SOW keys, each as it was seen last.
#[derive(Default)]
struct Blotter {
    orders: BTreeMap<String, Value>,
}

impl Blotter {
    /// Takes a change and prints a row: `+` came into view, `*` changed, `-` went out of focus.
    fn take(&mut self, message: &Message) -> Result<(), Box<dyn Error>> {
        let order: Value = serde_json::from_slice(message.data())?;
        let row = row(&order);
        let key = message.sow_key().unwrap_or_default().to_owned();
        let sign = match message.command() {
            CommandType::Oof => self.orders.remove(&key).map_or('?', |_| '-'),
            _ => self.orders.insert(key, order).map_or('+', |_| '*'),
        };
        println!("{sign} {row} | {} open, {} shares to go", self.orders.len(), self.shares_to_go());
        Ok(())
    }

    fn shares_to_go(&self) -> u64 {
        let number = |order: &Value, field| order[field].as_u64().unwrap_or_default();
        self.orders.values().map(|order| number(order, "qty").saturating_sub(number(order, "filled"))).sum()
    }
}

fn row(order: &Value) -> String {
    let text = |field| order[field].as_str().unwrap_or_default();
    let number = |field| order[field].as_f64().unwrap_or_default();
    format!(
        "{} {:4} {:4} {} @ {:.2}, {:4} done, {:9}",
        number("id"),
        text("side"),
        number("qty"),
        text("symbol"),
        number("px"),
        number("filled"),
        text("status")
    )
}
