//! A password that is made when it is needed: an authenticator of your own.
//!
//! The server answers the first attempt with a challenge, and takes only the right response to it. The authenticator is
//! asked before every logon, so a client that fails over has a fresh ticket for the next server. What keeps the
//! authenticator from answering is the cause of the error that the logon fails with.
//!
//! ```text
//! cargo run --example custom_authenticator
//! ```

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use amps_client::testing::{LogonAnswer, LogonAttempt, Server};
use amps_client::{Authenticator, Client, DefaultServerChooser, Error, ErrorKind, HAClient, Logon, Result};

fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let server = guarded_server()?;
    let uri = server.uri("json").replace("tcp://", "tcp://okafor@"); // a user, and no password

    println!("a client:");
    let client = Client::builder("custom-authenticator-example").build()?;
    client.connect(&uri)?;
    client.logon_with(&Logon::new().authenticator(Tickets::with(1)))?;
    println!("logged on as {}", client.connection_info().get("client.username").unwrap_or_default());
    client.close();

    println!("a client that finds its server by itself, with an authenticator for each:");
    let mut servers = DefaultServerChooser::new();
    servers.add_with_authenticator(&uri, Arc::new(Tickets::with(1)));
    let client = HAClient::builder("custom-authenticator-example").server_chooser(servers).build()?;
    client.connect_and_logon()?;
    client.close();

    println!("no tickets left:");
    let client = Client::builder("custom-authenticator-example").build()?;
    client.connect(&uri)?;
    let refused = client.logon_with(&Logon::new().authenticator(Tickets::with(0))).unwrap_err();
    println!("{}: {refused}", refused.kind());
    println!("connected: {}", client.is_connected()); // a logon that fails closes the connection
    Ok(())
}

/// A server that accepts the response to its challenge and nothing else.
fn guarded_server() -> Result<Server> {
    const CHALLENGE: &str = "prove it";
    Server::builder()
        .auth(|attempt: &LogonAttempt<'_>| match attempt.password() {
            password if password == response(CHALLENGE) => LogonAnswer::accept(),
            _ => LogonAnswer::retry(attempt.user_id(), CHALLENGE),
        })
        .start()
}

/// What both sides know how to make of a challenge.
fn response(challenge: &str) -> String {
    challenge.chars().rev().collect()
}

/// Takes a ticket for every logon. Called on the thread that logs on, while the commands of all others wait.
struct Tickets {
    left: AtomicU32,
}

impl Tickets {
    fn with(count: u32) -> Tickets {
        Tickets { left: AtomicU32::new(count) }
    }
}

impl Authenticator for Tickets {
    /// The first attempt. User and password are those of the connection string.
    fn authenticate(&self, user: &str, _password: &str) -> Result<String> {
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.map_err(|_| Error::new(ErrorKind::Authentication, format!("no ticket left for {user}")))?;
        println!("  {user} takes a ticket");
        Ok("ticket".to_owned())
    }

    /// The server answered with a challenge.
    fn retry(&self, _user: &str, challenge: &str) -> Result<String> {
        println!("  the server says: {challenge}");
        Ok(response(challenge))
    }

    /// The server is content.
    fn completed(&self, user: &str, _password: &str, _reason: &str) -> Result<()> {
        println!("  the server knows {user}");
        Ok(())
    }
}
