//! A subscriber whose progress is kept on the server: when its machine is gone, another one goes on where it stopped.
//!
//! Each machine has a bookmark store in memory and no file. An adapter writes where the subscription has got to into a SOW
//! topic, over a connection of its own, and a new store begins with what it finds there. What is kept is a place, so what
//! was done behind a message that was not done comes again.
//!
//! ```text
//! cargo run --example recovery_point_in_sow
//! ```

use std::error::Error;
use std::time::Duration;

use amps_client::testing::{Server, Topic};
use amps_client::{
    Bookmark, Command, ConflatingRecoveryPointAdapter, HAClient, MemoryBookmarkStore, MemoryPublishStore,
    RecoveryPointFactory, SowRecoveryPointAdapter,
};

/// The client and the subscription whose progress is kept, the same on every machine.
const NAME: &str = "settlement";
const SUB_ID: &str = "settlement-trades";
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let points = Topic::sow("/ADMIN/bookmark_store").key("/clientName").key("/subId");
    let server = Server::builder().topic(points).journal("^trades$").start()?;
    for id in 1..=6 {
        server.publish("trades", format!(r#"{{"id":{id}}}"#))?;
    }

    println!("the first machine:");
    settle(&server, 4, |id| id != 3)?; // it stops in the middle of the third
    for record in server.sow_records("/ADMIN/bookmark_store") {
        let kept = String::from_utf8(record.payload)?;
        let second = &server.journal()[1].bookmark;
        println!("kept on the server, the place of the second: {}", kept.contains(second.as_str()));
    }

    println!("the second machine:");
    settle(&server, 4, |_| true)?;
    Ok(())
}

/// A machine takes so many trades, and is done with those of which `is_done` says so.
fn settle(server: &Server, count: usize, is_done: impl Fn(u64) -> bool) -> Result<(), Box<dyn Error>> {
    let client =
        HAClient::builder(NAME).servers([server.uri("json")]).bookmark_store(store(server)?).build()?;
    client.connect_and_logon_timeout(LIMIT)?;
    let command = Command::subscribe("trades").sub_id(SUB_ID).bookmark(Bookmark::MOST_RECENT);
    let mut trades = client.execute(command)?;
    for _ in 0..count {
        let trade = trades.next_timeout(LIMIT).ok_or("the stream has ended")??;
        let trade_id: u64 = trade.data_str()?.trim_matches(|c: char| !c.is_ascii_digit()).parse()?;
        if is_done(trade_id) {
            client.discard(&trade)?;
        }
        println!("  {}{}", trade.data_str()?, if is_done(trade_id) { "" } else { ", not done" });
    }
    // Dropping the client drops the store, which closes the adapter: what it held back is written now.
    Ok(())
}

/// A store that begins where the last machine stopped.
fn store(server: &Server) -> amps_client::Result<MemoryBookmarkStore> {
    // A client of its own, which outlives an outage and loses no update in it.
    let keeper = HAClient::builder("settlement-keeper")
        .servers([server.uri("json")])
        .publish_store(MemoryPublishStore::new())
        .build()?;
    keeper.connect_and_logon_timeout(LIMIT)?;
    let adapter = SowRecoveryPointAdapter::new(keeper, NAME)?;
    // Every discard moves the place. Few of the moves are worth a publish.
    let adapter = ConflatingRecoveryPointAdapter::new(adapter)?;
    MemoryBookmarkStore::with_adapter(adapter, RecoveryPointFactory::Dynamic)
}
