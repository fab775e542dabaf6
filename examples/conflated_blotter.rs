//! Conflation: a reader that wants the latest of each key, and not everything that happened.
//!
//! A hundred quotes for four symbols come in one burst, and three blotters watch. One gets every quote. For the second the
//! server conflates: it sends at most one quote of a symbol in an interval, the newest. For the third the client conflates:
//! the server sends everything, but in the stream a quote takes the place of an older one of its symbol that is still
//! waiting, so a reader that is slow never falls behind. A reader that is fast sees them all.
//!
//! What was replaced is gone. Do not conflate what must be counted, or done, one by one: orders, fills, queues. The messages
//! of a bookmark store that a stream has replaced stay outstanding.
//!
//! ```text
//! cargo run --example conflated_blotter
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use amps_client::testing::{Clock, Server};
use amps_client::{Client, Command, MessageStream, SubscribeOptions};
use serde_json::Value;

const TOPIC: &str = "sow/quotes";
const SYMBOLS: [&str; 4] = ["AIR", "IBM", "NESN", "SAP"];
const QUOTES: usize = 100;
const INTERVAL: Duration = Duration::from_millis(250);
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    // Its clock stands still until it is advanced, so that the interval ends when this program says so.
    let server = Server::builder().quick_topics().clock(Clock::manual()).start()?;
    let client = Client::builder("conflated-blotter-example").build()?;
    client.connect(&server.uri("json"))?;
    client.logon()?;

    let every = client.subscribe(TOPIC, "")?;
    // By the key of the topic; elsewhere, `conflation_key` says by which fields.
    let options = SubscribeOptions::new().conflation(INTERVAL);
    let by_server = client.execute(Command::subscribe(TOPIC).options(options))?;
    let by_client = client.subscribe(TOPIC, "")?;
    by_client.conflate()?;

    for number in 0..QUOTES {
        let symbol = SYMBOLS[number % SYMBOLS.len()];
        client.publish(TOPIC, format!(r#"{{"id":"{symbol}","px":{}}}"#, 100 + number))?;
    }
    client.publish_flush()?; // its answer comes behind all that was sent before
    println!("waiting before the interval ends: {}", depths(&[&every, &by_server, &by_client]));
    server.clock().advance(INTERVAL)?;
    client.publish_flush()?;
    println!("waiting after it: {}", depths(&[&every, &by_server, &by_client]));

    let latest = show("every quote", every)?;
    assert_eq!(show("conflated by the server", by_server)?, latest);
    assert_eq!(show("conflated by the client", by_client)?, latest);
    println!("all three show {latest:?}");
    Ok(())
}

fn depths(streams: &[&MessageStream]) -> String {
    streams.iter().map(|stream| stream.depth().to_string()).collect::<Vec<_>>().join(", ")
}

/// Reads what waits and returns the last price of each symbol.
fn show(what: &str, mut quotes: MessageStream) -> Result<BTreeMap<String, u64>, Box<dyn Error>> {
    let (mut prices, mut count) = (BTreeMap::new(), 0);
    while quotes.depth() > 0 {
        let quote = quotes.next_timeout(LIMIT).ok_or("the stream has ended")??;
        let quote: Value = serde_json::from_slice(quote.data())?;
        let (Some(symbol), Some(px)) = (quote["id"].as_str(), quote["px"].as_u64()) else {
            return Err(format!("this is no quote: {quote}").into());
        };
        prices.insert(symbol.to_owned(), px);
        count += 1;
    }
    println!("{what}: {count} read");
    Ok(prices)
}
