//! Working on a queue: each message goes to one consumer at a time, until somebody is done with it.
//!
//! Jobs are acknowledged, given back, or removed because nobody will ever be able to do them. Then a consumer vanishes with
//! a job in hand: the server takes the job back and gives it to another one, so a job may be begun twice.
//!
//! ```text
//! cargo run --example queue_consumer
//! ```

use std::collections::HashSet;
use std::error::Error as StdError;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{AckOption, Client, Command, Message, MessageStream, Result, SubscribeOptions};

const QUEUE: &str = "queue/jobs";
const LIMIT: Duration = Duration::from_secs(10);

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let server = Server::quick()?;
    let uri = server.uri("json");
    for job in ["dig", "sow", "???", "reap"] {
        server.publish(QUEUE, job)?;
    }
    work(&uri)?;
    let queue = server.queue(QUEUE).ok_or("it was used")?;
    println!("{} acknowledged, {} removed, {} left", queue.acked, queue.expired, queue.depth());

    server.publish(QUEUE, "thresh")?;
    vanish(&uri)?;
    take_over(&uri)?;
    let queue = server.queue(QUEUE).ok_or("it was used")?;
    println!("{} left", queue.depth());
    Ok(())
}

/// Works until every job is out of the way.
fn work(uri: &str) -> Result<()> {
    let client = connect("consumer", uri)?;
    // Four at a time: what is acknowledged makes room for the next.
    let mut jobs = subscribe(&client, 4)?;
    let mut postponed = HashSet::new();
    for _ in 0..5 {
        let job = next(&mut jobs)?;
        let name = job.data_str()?.to_owned();
        match name.as_str() {
            "???" => {
                job.ack_with(AckOption::Expire)?;
                println!("{name}: nobody can do that, removed");
            }
            "sow" if postponed.insert(name.clone()) => {
                job.ack_with(AckOption::Cancel)?; // it comes again, here or elsewhere
                println!("{name}: not now, given back");
            }
            _ => {
                job.ack()?; // never waits for the server
                println!("{name}: done");
            }
        }
    }
    client.publish_flush() // the server has processed every acknowledgement
}

/// A consumer that is gone before it is done.
fn vanish(uri: &str) -> Result<()> {
    let client = connect("unlucky", uri)?;
    let job = next(&mut subscribe(&client, 1)?)?;
    println!("{}: begun, and never finished", job.data_str()?);
    Ok(())
}

/// Acknowledges by itself: a job is done when the next one is asked for, or when its handler returns.
fn take_over(uri: &str) -> Result<()> {
    let client = connect("lucky", uri)?;
    client.set_auto_ack(true);
    let mut jobs = subscribe(&client, 1)?;
    println!("{}: done by another one", next(&mut jobs)?.data_str()?);
    jobs.close();
    client.publish_flush()
}

fn connect(name: &str, uri: &str) -> Result<Client> {
    let client = Client::builder(name).build()?;
    client.connect(uri)?;
    client.logon()?;
    Ok(client)
}

fn subscribe(client: &Client, max_backlog: u32) -> Result<MessageStream> {
    let options = SubscribeOptions::new().max_backlog(max_backlog);
    client.execute(Command::subscribe(QUEUE).options(options))
}

fn next(jobs: &mut MessageStream) -> Result<Message> {
    jobs.next_timeout(LIMIT).unwrap_or_else(|| Err(amps_client::ErrorKind::Disconnected.into()))
}
