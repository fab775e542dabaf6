//! A subscriber that goes on where it stopped, however it stopped: a client with a bookmark store in a file.
//!
//! The program runs itself as the subscriber, once after the other. The first takes two orders and ends. The second is
//! killed without warning while it works on the third; the orders behind it have arrived and are done, but for the last.
//! The third subscriber gets those that nobody is done with, and none that is done.
//!
//! ```text
//! cargo run --example resume_after_restart
//! ```

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Bookmark, BookmarkStore, Command, HAClient, LoggedBookmarkStore, Message};

const NAME: &str = "resume-after-restart-example";
/// The progress in the file belongs to this id, so it must be the same in every run.
const SUB_ID: &str = "orders-of-the-desk";
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [] => watch(),
        [role, uri, path] if role == "subscriber" => take_orders(uri, path.as_ref()),
        _ => Err("there are no arguments".into()),
    }
}

/// The subscriber. An empty line of its input takes the next order; a line with a number is done with that order.
fn take_orders(uri: &str, path: &Path) -> Result<(), Box<dyn Error>> {
    let store = LoggedBookmarkStore::open(path)?;
    let start = store.most_recent(SUB_ID)?;
    println!("goes on {}", if start == Bookmark::EPOCH { "at the beginning" } else { "in the middle" });
    let client = HAClient::builder(NAME).servers([uri]).bookmark_store(store).build()?;
    client.connect_and_logon_timeout(LIMIT)?;
    let command = Command::subscribe("orders").sub_id(SUB_ID).bookmark(Bookmark::MOST_RECENT);
    let mut orders = client.execute(command)?;

    let mut in_work: Vec<Message> = Vec::new();
    for line in io::stdin().lines() {
        let line = line?;
        if line.is_empty() {
            let order = orders.next_timeout(LIMIT).ok_or("the stream has ended")??;
            println!("order {}", order.data_str()?);
            in_work.push(order);
        }
        for order in in_work.iter().filter(|order| order.data() == line.as_bytes()) {
            client.discard(order)?; // in the file when this returns
            println!("done with {line}");
        }
    }
    Ok(())
}

/// Watches three subscribers, the second of which it kills.
fn watch() -> Result<(), Box<dyn Error>> {
    let server = Server::quick()?;
    let directory = std::env::temp_dir().join(format!("{NAME}-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let outcome = watch_subscribers(&server, &directory.join("orders.bookmarks"));
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn watch_subscribers(server: &Server, path: &Path) -> Result<(), Box<dyn Error>> {
    for id in 1..=6 {
        server.publish("orders", id.to_string())?;
    }
    println!("the first subscriber:");
    let mut first = Subscriber::start(&server.uri("json"), path)?;
    first.take(2)?;
    first.is_done_with(&[1, 2])?;
    first.end()?;

    println!("the second subscriber:");
    let mut second = Subscriber::start(&server.uri("json"), path)?;
    second.take(4)?;
    second.is_done_with(&[4, 5])?;
    drop(second);
    println!("it is killed, at work on two orders");

    server.publish("orders", "7")?;
    println!("the third subscriber:");
    let mut third = Subscriber::start(&server.uri("json"), path)?;
    third.take(3)?;
    third.is_done_with(&[3, 6, 7])?;
    third.end()
}

/// A subscriber in a process of its own. Dropping it kills it.
struct Subscriber {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Subscriber {
    fn start(uri: &str, path: &Path) -> Result<Subscriber, Box<dyn Error>> {
        let mut program = Process::new(std::env::current_exe()?);
        let program = program.args(["subscriber", uri]).arg(path);
        let mut process = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("it was asked for")?);
        let mut subscriber = Subscriber { process, input, output };
        subscriber.show_line()?;
        Ok(subscriber)
    }

    fn take(&mut self, orders: usize) -> Result<(), Box<dyn Error>> {
        (0..orders).try_for_each(|_| self.tell(""))
    }

    fn is_done_with(&mut self, orders: &[u32]) -> Result<(), Box<dyn Error>> {
        orders.iter().try_for_each(|order| self.tell(&order.to_string()))
    }

    /// Gives it a line, and shows what it answers.
    fn tell(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        writeln!(self.input.as_mut().ok_or("it is ending")?, "{line}")?;
        self.show_line()
    }

    /// Shows the next line that it prints.
    fn show_line(&mut self) -> Result<(), Box<dyn Error>> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the subscriber has ended".into());
        }
        print!("  {line}");
        Ok(())
    }

    /// Lets it end in good order.
    fn end(mut self) -> Result<(), Box<dyn Error>> {
        drop(self.input.take());
        self.process.wait()?.success().then_some(()).ok_or_else(|| "the subscriber has failed".into())
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // There is nothing to tidy up: that is what the example is about.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
