//! A plain client with a list of servers: its disconnect handler goes through the list until a server takes it.
//!
//! The handler is an ordinary function of the client: the program calls it once by hand for the first connection. It places
//! the subscription as well, so that nothing is missing after a failover; one that made the client too slow could be left
//! out. Three servers are on the list. The first is down, so the program begins on the second; then that one dies.
//!
//! ```text
//! cargo run --example failover_handler
//! ```
//!
//! `HAClient` does all this by itself, see the example `ha_failover`. A handler of your own is for those who want to decide.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, Command, Error, ErrorKind, Logon, Message, Result};

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let servers = [Server::quick()?, Server::quick()?, Server::quick()?];
    let [first, second, third] = &servers;
    first.stop();

    let (sender, orders) = mpsc::channel();
    let list = ServerList {
        uris: servers.iter().map(|server| server.uri("json")).collect(),
        current: AtomicUsize::new(0),
        orders: sender,
    };
    let client = Client::builder("failover-handler-example").build()?;
    list.enter(&client)?; // the first connection
    client.set_disconnect_handler(move |client: &Client, cause: &Error| {
        println!("lost: {cause}");
        list.enter(client)
    })?;

    second.publish("orders", r#"{"id":1,"from":"the second server"}"#)?;
    show_next(&orders)?;

    second.stop(); // the client is not told more than a real failure tells it
    third.wait_for(|server| !server.subscriptions().is_empty(), Duration::from_secs(30))?;
    third.publish("orders", r#"{"id":2,"from":"the third server"}"#)?;
    show_next(&orders)?;
    Ok(())
}

fn show_next(orders: &Receiver<Message>) -> std::result::Result<(), Box<dyn StdError>> {
    let order = orders.recv_timeout(Duration::from_secs(30))?;
    println!("order: {}", order.data_str()?);
    Ok(())
}

/// How often to go through the list before giving up.
const ROUNDS: usize = 5;

/// Where the servers are, which one is in use, and where the orders go.
struct ServerList {
    uris: Vec<String>,
    current: AtomicUsize,
    orders: Sender<Message>,
}

impl ServerList {
    /// Goes through the list, beginning with the current server, until one takes the client.
    fn enter(&self, client: &Client) -> Result<()> {
        let mut outcome = Err(Error::new(ErrorKind::Connection, "there are no servers"));
        for attempt in 0..self.uris.len() * ROUNDS {
            if attempt > 0 && attempt % self.uris.len() == 0 {
                thread::sleep(Duration::from_millis(200)); // all of them have failed
            }
            let current = self.current.load(Ordering::Relaxed);
            outcome = match client.connect(&self.uris[current]) {
                // The client is being closed, or the first connection is there: nothing is to be done.
                Err(error)
                    if [ErrorKind::Disconnected, ErrorKind::AlreadyConnected].contains(&error.kind()) =>
                {
                    return Err(error);
                }
                connected => connected.and_then(|()| self.log_on_and_subscribe(client)),
            };
            let Err(error) = &outcome else { break };
            let next = (current + 1) % self.uris.len();
            println!("server {} failed: {error}\n  next is server {}", current + 1, next + 1);
            self.current.store(next, Ordering::Relaxed);
        }
        outcome
    }

    fn log_on_and_subscribe(&self, client: &Client) -> Result<()> {
        let limit = Duration::from_secs(5);
        client.logon_with(&Logon::new().timeout(limit))?;
        let orders = self.orders.clone();
        let handler = move |order: &Message| orders.send(order.clone());
        client.execute_async(Command::subscribe("orders").timeout(limit), handler).map(drop)
    }
}
