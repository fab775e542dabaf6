//! Which states does a connection go through? It depends on what the client has to recover.
//!
//! For each configuration the program connects, logs on and prints the states in their order. The last one is the sign that
//! all of it is done. Then a connection is lost and comes back, and a client is closed.
//!
//! ```text
//! cargo run --example connection_states
//! ```

use std::error::Error;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{
    Client, ClientBuilder, ConnectionState, HAClient, MemoryPublishStore, MemorySubscriptionManager, Result,
};

const NAME: &str = "connection-states-example";
const HEARTBEAT: Duration = Duration::from_secs(5);

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let server = Server::quick()?;
    let uri = server.uri("json");

    for manager in [true, false] {
        for store in [true, false] {
            for heartbeat in [false, true] {
                let client = configured(manager, store).build()?;
                if heartbeat {
                    client.set_heartbeat(HEARTBEAT)?;
                }
                let states = listen(&client);
                client.connect(&uri)?;
                client.logon()?; // returns when everything is recovered
                println!("{}: {}", name_of(manager, store, heartbeat), joined(states.try_iter()));
            }
        }
    }

    // The client that reconnects by itself has a subscription manager, and therefore always `Resubscribed` at the end.
    let client = HAClient::builder(NAME).servers([&uri]).publish_store(MemoryPublishStore::new()).build()?;
    let states = listen(&client);
    client.connect_and_logon()?;
    states.try_iter().for_each(drop);
    server.disconnect(NAME);
    println!("lost and found: {}", joined(until(&states, ConnectionState::Resubscribed)?));
    client.close();
    println!("closed: {}", joined(states.try_iter()));
    Ok(())
}

fn configured(manager: bool, store: bool) -> ClientBuilder {
    let mut builder = Client::builder(NAME);
    if manager {
        builder = builder.subscription_manager(MemorySubscriptionManager::new());
    }
    if store {
        builder = builder.publish_store(MemoryPublishStore::new());
    }
    builder
}

fn name_of(manager: bool, store: bool, heartbeat: bool) -> String {
    let parts = [(manager, "subscription manager"), (store, "publish store"), (heartbeat, "heartbeat")];
    let named: Vec<&str> = parts.into_iter().filter(|(there, _)| *there).map(|(_, name)| name).collect();
    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") }
}

/// Collects the states. A listener runs in the middle of `connect`, `logon` or a repair: it tells somebody and returns.
fn listen(client: &Client) -> Receiver<ConnectionState> {
    let (sender, states) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        let _ = sender.send(state);
    });
    states
}

/// The states up to this one.
fn until(
    states: &Receiver<ConnectionState>,
    last: ConnectionState,
) -> Result<Vec<ConnectionState>, mpsc::RecvTimeoutError> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.push(states.recv_timeout(Duration::from_secs(10))?);
    }
    Ok(seen)
}

fn joined(states: impl IntoIterator<Item = ConnectionState>) -> String {
    let names: Vec<String> = states.into_iter().map(|state| state.to_string()).collect();
    names.join(", ")
}
