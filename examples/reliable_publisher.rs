//! A publisher that may be killed at any moment and loses nothing: a client with a publish store in a file.
//!
//! The program runs itself once more as the publisher, which takes orders from its input, and watches it. Two orders are
//! acknowledged. Then the server is away, and three more are published all the same. The publisher is killed without
//! warning. A second one opens the file, finds the three, and sends them with their old numbers; the next order gets the
//! number behind them.
//!
//! ```text
//! cargo run --example reliable_publisher
//! ```

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{AckType, FilePublishStore, HAClient, Message, PublishStore};

/// Always the same: with the numbers in the file it tells the server what it has already.
const NAME: &str = "reliable-publisher-example";
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => watch(),
        [role, uri, path] if role == "publisher" => publish_orders(uri, path.as_ref()),
        _ => Err("there are no arguments".into()),
    }
}

/// The publisher: an order a line, and an empty line to wait until everything is acknowledged.
fn publish_orders(uri: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let store = FilePublishStore::open(path)?;
    println!("orders in the file: {}", store.unpersisted_count());
    let client = HAClient::builder(NAME).servers([uri]).publish_store(store).build()?;
    client.set_failed_write_handler(|order: &Message, reason: &str| {
        if reason != "duplicate" {
            eprintln!("{:?} was refused: {reason}", order.data_str());
        }
    });
    client.connect_and_logon_timeout(LIMIT)?; // sends what the file holds

    for order in io::stdin().lines() {
        match order?.as_str() {
            "" => {
                client.publish_flush_with(AckType::PROCESSED, Some(LIMIT))?;
                println!("acknowledged");
            }
            // In the file when this returns, whether there is a server or not.
            order => println!("order {order} has number {}", client.publish("sow/orders", order)?),
        }
    }
    Ok(())
}

/// Watches two publishers, the first of which it kills.
fn watch() -> Result<(), Box<dyn Error>> {
    let server = Server::quick()?;
    let directory = std::env::temp_dir().join(format!("{NAME}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let outcome = watch_publishers(&server, &directory.join("orders.store"));
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn watch_publishers(server: &Server, path: &Path) -> Result<(), Box<dyn Error>> {
    let on_server = || server.sow_records("sow/orders").len();

    println!("the first publisher:");
    let mut first = Publisher::start(&server.uri("json"), path)?;
    first.order(1)?;
    first.order(2)?;
    first.flush()?;
    println!("the server goes away, with {} orders:", on_server());
    server.pause_listening();
    server.disconnect(NAME);
    let mut last = 0;
    for id in 3..=5 {
        last = first.order(id)?;
    }
    drop(first);
    println!("the publisher is killed, and the server comes back, with {} orders", on_server());
    server.resume_listening()?;

    println!("the second publisher:");
    let mut second = Publisher::start(&server.uri("json"), path)?;
    let next = second.order(6)?;
    second.flush()?;
    println!("orders on the server: {}; the numbers go on: {}", on_server(), next == last + 1);
    Ok(())
}

/// A publisher in a process of its own. Dropping it kills it.
struct Publisher {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Publisher {
    fn start(uri: &str, path: &Path) -> Result<Publisher, Box<dyn Error>> {
        let mut program = Command::new(std::env::current_exe()?);
        let program = program.args(["publisher", uri]).arg(path);
        let mut process = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("both were asked for".into());
        };
        let mut publisher = Publisher { process, input, output: BufReader::new(output) };
        publisher.show_line()?;
        Ok(publisher)
    }

    /// Has it publish an order, and returns the number that the store gave it.
    fn order(&mut self, id: u32) -> Result<u64, Box<dyn Error>> {
        writeln!(self.input, r#"{{"id":{id}}}"#)?;
        let line = self.show_line()?;
        Ok(line.split_whitespace().last().unwrap_or_default().parse()?)
    }

    fn flush(&mut self) -> Result<(), Box<dyn Error>> {
        writeln!(self.input)?;
        self.show_line().map(drop)
    }

    /// The next line that it prints.
    fn show_line(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the publisher has ended".into());
        }
        print!("  {line}");
        Ok(line)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // There is nothing to tidy up: that is what the example is about.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
