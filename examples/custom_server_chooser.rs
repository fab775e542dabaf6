//! Which server next? A chooser of your own, for a client that finds its server by itself.
//!
//! The default chooser goes round a list and returns to the server that it was lost from. This one wants the primary: after
//! every loss it tries that one first. It gives up when all servers have failed twice, and says why.
//!
//! ```text
//! cargo run --example custom_server_chooser
//! ```

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{
    Authenticator, ConnectionInfo, ConnectionState, DefaultAuthenticator, Error, HAClient, Origin,
    ServerChooser, UnhandledError,
};

const NAME: &str = "custom-server-chooser-example";
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn StdError>> {
    let (primary, backup) = (Server::quick()?, Server::quick()?);
    let chooser = PrimaryFirst::new([("primary", primary.uri("json")), ("backup", backup.uri("json"))]);
    let client = HAClient::builder(NAME)
        .server_chooser(chooser)
        .reconnect_delay(Duration::from_millis(20)) // before a second attempt at the same server
        .build()?;
    let (sender, recovered) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::Resubscribed {
            let _ = sender.send(());
        }
    });
    let (sender, given_up) = mpsc::channel();
    client.set_exception_listener(move |failure: &UnhandledError| {
        if failure.origin() == Origin::Connection {
            let _ = sender.send(failure.error().to_string());
        }
    });

    println!("the primary is down:");
    primary.stop();
    client.connect_and_logon()?;
    recovered.recv_timeout(LIMIT)?;

    println!("the primary is back, and the connection to the backup breaks:");
    primary.restart()?;
    backup.disconnect(NAME);
    recovered.recv_timeout(LIMIT)?;
    client.publish_flush()?; // waits until the recovery is over

    println!("everything is down:");
    backup.stop();
    primary.stop();
    for _ in 0..2 {
        println!("told: {}", given_up.recv_timeout(LIMIT)?);
    }
    Ok(())
}

/// How often all servers may fail in a row.
const ROUNDS: usize = 2;

/// The servers in the order of preference.
struct PrimaryFirst {
    servers: Vec<(&'static str, String)>,
    current: usize,
    failures: Vec<String>,
}

impl PrimaryFirst {
    fn new(servers: impl IntoIterator<Item = (&'static str, String)>) -> PrimaryFirst {
        PrimaryFirst { servers: servers.into_iter().collect(), current: 0, failures: Vec::new() }
    }
}

/// Asked by one thread at a time, with no lock held. It must not call the client, which waits for the answer.
impl ServerChooser for PrimaryFirst {
    fn current_uri(&mut self) -> Option<String> {
        let gave_up = self.failures.len() >= ROUNDS * self.servers.len();
        self.servers.get(self.current).filter(|_| !gave_up).map(|(_, uri)| uri.clone())
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        Arc::new(DefaultAuthenticator) // the password of the connection string
    }

    fn report_failure(&mut self, error: &Error, _info: &ConnectionInfo) {
        if error.is_disconnect() {
            println!("  lost");
            self.current = 0; // a server that took us and is gone: begin with the best
            return;
        }
        let name = self.servers[self.current].0;
        println!("  {name}: {}", error.kind());
        self.failures.push(format!("{name}: {}", error.kind()));
        self.current = (self.current + 1) % self.servers.len();
    }

    fn report_success(&mut self, _info: &ConnectionInfo) {
        println!("  {}: connected", self.servers[self.current].0);
        self.failures.clear();
    }

    fn error(&self) -> String {
        self.failures.join(", ")
    }

    /// The application has called `connect_and_logon` again.
    fn reset(&mut self) {
        self.failures.clear();
    }
}
