//! Ranges: a replay with an end, by times and by places.
//!
//! The server of this example lives by a clock of its own, on which an order comes every hour from midnight on. So each
//! range below is known to the message. `[` and `]` include the end that they stand at, `(` and `)` leave it out. An end may
//! lie in the future; then the subscription is live until then.
//!
//! ```text
//! cargo run --example bookmark_range
//! ```

use std::error::Error;
use std::ops::Bound;
use std::time::Duration;

use amps_client::testing::{Clock, Server};
use amps_client::{AckType, Bookmark, Client, Command, CommandType, MessageStream, SubscribeOptions};

const TOPIC: &str = "orders";
const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::builder().journal(".*").clock(Clock::manual()).start()?;
    let midnight = server.clock().now();
    for hour in 0..6 {
        order(&server, hour)?;
    }
    let client = Client::builder("bookmark-range-example").build()?;
    client.connect(&server.uri("json"))?;
    client.logon()?;

    let at = |hour: u32| Bookmark::time(midnight + HOUR * hour);
    show(&client, "from 01:00 to 03:00", Bookmark::range(at(1)..=at(3))?)?;
    show(&client, "from 01:00 to before 03:00", Bookmark::range(at(1)..at(3))?)?;
    let after = (Bound::Excluded(at(1)), Bound::Included(at(3)));
    show(&client, "after 01:00 to 03:00", Bookmark::range(after)?)?;

    // The same with places, and as text.
    let (one, three) = (place_of(&client, at(1))?, place_of(&client, at(3))?);
    show(&client, "from one order to another", Bookmark::range(one.clone()..=three.clone())?)?;
    show(&client, "between the two", Bookmark::parse(&format!("({one}:{three})"))?)?;

    // An end that is still to come.
    let mut orders = subscribe(&client, Bookmark::range(at(5)..at(8))?)?;
    for hour in 6..10 {
        order(&server, hour)?;
    }
    println!("from 05:00 to before 08:00, begun at 06:00: {}", read(&mut orders)?);
    Ok(())
}

/// An order, and an hour passes.
fn order(server: &Server, hour: u32) -> amps_client::Result<()> {
    server.publish(TOPIC, format!("{hour:02}:00"))?;
    server.clock().advance(HOUR)
}

fn show(client: &Client, what: &str, range: Bookmark) -> Result<(), Box<dyn Error>> {
    let orders = read(&mut subscribe(client, range)?)?;
    println!("{what}: {orders}");
    Ok(())
}

fn subscribe(client: &Client, range: Bookmark) -> amps_client::Result<MessageStream> {
    client.execute(Command::subscribe(TOPIC).bookmark(range).add_ack_type(AckType::COMPLETED))
}

/// What comes up to the end of the range, which the server tells. The stream itself stays silent then, and is dropped.
fn read(orders: &mut MessageStream) -> Result<String, Box<dyn Error>> {
    let mut times = Vec::new();
    loop {
        let order = orders.next_timeout(LIMIT).ok_or("the stream has ended")??;
        match order.command() {
            CommandType::Ack => return Ok(times.join(" ")),
            _ => times.push(order.data_str()?.to_owned()),
        }
    }
}

/// The bookmark of the first order at or after a time.
fn place_of(client: &Client, time: Bookmark) -> Result<Bookmark, Box<dyn Error>> {
    let command = Command::subscribe(TOPIC).bookmark(time).options(SubscribeOptions::new().top_n(1));
    let order = client.execute(command)?.next_timeout(LIMIT).ok_or("the stream has ended")??;
    Ok(order.bookmark_value().ok_or("every message of a replay has a bookmark")?)
}
