//! A publish returns before the server has looked at it. Who hears of a refusal? The failed-write handler.
//!
//! With a publish store the handler gets the whole message back, and may decide what becomes of it. A message that was
//! refused leaves the store: it is not sent again by itself. First a server refuses two of four messages. Then a failover
//! shows the one reason to ignore: a server that has a message already says `duplicate`.
//!
//! ```text
//! cargo run --example failed_writes
//! ```

use std::error::Error as StdError;
use std::time::Duration;

use amps_client::testing::{Access, Action, Entitled, ScriptedPeer, Server};
use amps_client::{AckType, Client, Error, MemoryPublishStore, Message, Result};

const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    show_refusals()?;
    show_duplicates()
}

fn show_refusals() -> std::result::Result<(), Box<dyn StdError>> {
    let server = Server::builder()
        .quick_topics()
        .entitlement(|access: &Access<'_>| match (access.action(), access.topic()) {
            (Action::Write, "audit") => Entitled::Deny,
            _ => Entitled::Allow,
        })
        .start()?;
    let client = Client::builder("failed-writes-example").publish_store(MemoryPublishStore::new()).build()?;
    client.set_failed_write_handler(print_refusal);
    client.connect(&server.uri("json"))?;
    client.logon()?;

    println!("four publishes, all of which succeed as far as the caller can tell:");
    for (topic, data) in [
        ("sow/orders", r#"{"id":1}"#),
        ("sow/orders", "no JSON, so it has no key"),
        ("audit", r#"{"who":"okafor"}"#),
        ("sow/orders", r#"{"id":2}"#),
    ] {
        client.publish(topic, data)?;
    }
    client.publish_flush_with(AckType::PROCESSED, LIMIT)?; // waits for the store too
    let left = client.publish_store().map_or(0, |store| store.unpersisted_count());
    println!("{} orders arrived; still in the store: {left}", server.sow_records("sow/orders").len());
    Ok(())
}

/// A server takes two orders and dies before it can say so. The one that follows has the first already.
fn show_duplicates() -> std::result::Result<(), Box<dyn StdError>> {
    const PERSISTED: &str = r#"{"c":"ack","a":"persisted","s":{s},"status":"success"}"#;
    const DUPLICATE: &str = r#"{"c":"ack","a":"persisted","s":{s},"status":"failure","reason":"duplicate"}"#;
    let peer = ScriptedPeer::builder()
        .connection(|c| c.logon().expect("publish").expect("publish").close())
        .connection(|c| c.logon().expect("publish").reply(DUPLICATE).expect("publish").reply(PERSISTED))
        .start()?;
    let client = Client::builder("failed-writes-example").publish_store(MemoryPublishStore::new()).build()?;
    client.set_failed_write_handler(print_refusal);
    let uri = peer.uri("json");
    client.connect(&uri)?;
    client.logon()?;
    client.set_disconnect_handler(move |client: &Client, cause: &Error| -> Result<()> {
        println!("lost: {cause}");
        client.connect(&uri)?;
        client.logon() // sends again what the store holds, with its old numbers
    })?;

    println!("two publishes, and the server dies before it acknowledges them:");
    let store = client.publish_store().ok_or("it was built with one")?;
    for id in [1, 2] {
        client.publish("orders", format!(r#"{{"id":{id}}}"#))?;
    }
    store.flush(LIMIT)?;
    println!("still in the store: {}", store.unpersisted_count());
    client.close();
    Ok(peer.finish()?)
}

/// On the receive thread. What to do about a refusal is the application's business; sending it again unchanged is no use.
fn print_refusal(message: &Message, reason: &str) {
    let (topic, data) = (message.topic().unwrap_or_default(), message.data_str().unwrap_or_default());
    match reason {
        "duplicate" => println!("  {data:?} is there already: to be expected after a failover"),
        _ => println!("  {data:?} on `{topic}` was refused: {reason}"),
    }
}
