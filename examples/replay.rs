//! A replay: everything from the beginning of the transaction log, then what comes, in one subscription.
//!
//! The server tells when the replay is over: the `completed` acknowledgement stands between the last old message and the
//! first live one. Then the program goes back to a place that it has remembered, the bookmark of a message.
//!
//! ```text
//! cargo run --example replay                                      a server inside the program
//! cargo run --example replay -- tcp://localhost:9007/amps/json    a server of yours
//! ```
//!
//! A server of yours needs a transaction log that covers the topic `replay-example`.

use std::error::Error;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{AckType, Bookmark, Client, Command, CommandType, Message, MessageStream};

const TOPIC: &str = "replay-example";
const LIMIT: Duration = Duration::from_secs(10);

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
    let client = Client::builder("replay-example").build()?;
    client.connect(&uri)?;
    client.logon()?;
    for id in 1..=3 {
        client.publish(TOPIC, format!(r#"{{"id":{id}}}"#))?;
    }
    client.publish_flush()?; // the server has them before anybody asks for them

    let (messages, first) = follow(&client)?;
    println!("{messages} messages");

    // A replay starts behind the message that the bookmark names.
    let first = first.ok_or("the log is empty")?;
    let mut rest = replay(&client, first)?;
    let mut count = 0;
    while !is_end_of_replay(&next(&mut rest)?) {
        count += 1;
    }
    println!("{count} behind the first of them");
    Ok(())
}

/// Reads the whole log and one live message. Returns how many there were, and the bookmark of the first.
fn follow(client: &Client) -> Result<(usize, Option<Bookmark>), Box<dyn Error>> {
    let mut messages = replay(client, Bookmark::EPOCH)?;
    let (mut count, mut first, mut is_live) = (0, None, false);
    loop {
        let message = next(&mut messages)?;
        if is_end_of_replay(&message) {
            println!("that was the past, up to {}", message.bookmark().unwrap_or_default());
            is_live = true;
            client.publish(TOPIC, r#"{"id":4}"#)?;
            continue;
        }
        count += 1;
        first = first.or(message.bookmark_value());
        println!("{}: {}", if is_live { "live" } else { "old" }, message.data_str()?);
        if is_live {
            return Ok((count, first));
        }
    }
}

fn replay(client: &Client, start: Bookmark) -> amps_client::Result<MessageStream> {
    client.execute(Command::subscribe(TOPIC).bookmark(start).add_ack_type(AckType::COMPLETED))
}

fn is_end_of_replay(message: &Message) -> bool {
    message.command() == CommandType::Ack && message.ack_type() == AckType::COMPLETED
}

fn next(messages: &mut MessageStream) -> Result<Message, Box<dyn Error>> {
    Ok(messages.next_timeout(LIMIT).ok_or("the stream has ended")??)
}
