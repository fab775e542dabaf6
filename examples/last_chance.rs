//! What does nobody want? The last-chance handler gets it, and a program learns what it has overlooked.
//!
//! A peer sends what real servers send at odd moments: data for a subscription that has just ended, the refusal of a publish
//! that nobody waits for, a heartbeat that nobody has asked for. Without the handler these are dropped, and logged at
//! `debug`.
//!
//! ```text
//! cargo run --example last_chance
//! ```

use std::error::Error;
use std::sync::mpsc;
use std::time::Duration;

use amps_client::testing::ScriptedPeer;
use amps_client::{AckType, Client, Command, CommandType, Message, Status};

fn main() -> Result<(), Box<dyn Error>> {
    let peer = ScriptedPeer::builder()
        .connection(|c| {
            c.logon()
                .expect("publish")
                .reply(
                    r#"{"c":"ack","cid":"{cid}","a":"persisted","status":"failure","reason":"bad sow key"}"#,
                )
                .expect("subscribe")
                .reply_ok()
                .send(r#"{"c":"p","t":"ticks","sids":"{sub_id}"}"#, "wanted")
                .send(r#"{"c":"p","t":"ticks","sids":"the-day-before"}"#, "out of date")
                .reply(r#"{"c":"heartbeat"}"#)
                .idle()
        })
        .start()?;
    let client = Client::builder("last-chance-example").build()?;
    let (sender, leftovers) = mpsc::channel();
    client.set_last_chance_handler(move |message: &Message| sender.send(message.clone()));
    client.connect(&peer.uri("json"))?;
    client.logon()?;

    // Asks for an acknowledgement and waits for none: whoever does so wants a handler for refusals.
    let order = Command::publish("sow/orders").data("no JSON").command_id("order-7");
    client.publish_command(order.ack_type(AckType::PERSISTED))?;

    let mut ticks = client.subscribe("ticks", "")?;
    if let Some(tick) = ticks.next() {
        println!("a tick for the subscription: {}", tick?.data_str()?);
    }
    for _ in 0..3 {
        describe(&leftovers.recv_timeout(Duration::from_secs(10))?);
    }
    drop(ticks);
    client.close();
    Ok(peer.finish()?)
}

/// Says what it may mean.
fn describe(message: &Message) {
    let id = |id: Option<&str>| id.unwrap_or("none").to_owned();
    match message.command() {
        CommandType::Ack if message.status() != Status::Success => {
            let reason = message.reason().unwrap_or_default();
            println!("nobody asked what became of {}: {reason}", id(message.command_id()));
        }
        CommandType::Publish => {
            let text = String::from_utf8_lossy(message.data());
            println!("data for the subscription {}, which is gone: {text}", id(message.sub_id()));
        }
        CommandType::Heartbeat => println!("a heartbeat, though heartbeats are off"),
        other => println!("something else: {other}"),
    }
}
