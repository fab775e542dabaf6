//! A client whose states are watched, and its servers.

use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver};

use amps_client::testing::{ConnectionScript, ScriptedPeer, ScriptedPeerBuilder};
use amps_client::{Client, ConnectionState, Error, ErrorKind, Result};
use serde_json::Value;

use crate::clients::{Actor, Plan};
use crate::support::SOON;

/// A client, its servers, and the states it announces.
pub(crate) struct Watched {
    pub(crate) client: Actor,
    pub(crate) peers: Vec<ScriptedPeer>,
    states: Receiver<ConnectionState>,
    /// States that were awaited and are still to be looked at.
    held: RefCell<Vec<ConnectionState>>,
}

impl Watched {
    /// A client with one server: what it does on the first connection, and on every later one.
    pub(crate) fn plain(
        plan: &Plan,
        first: impl FnOnce(ConnectionScript) -> ConnectionScript,
        later: impl FnOnce(ConnectionScript) -> ConnectionScript,
    ) -> Watched {
        Watched::new(vec![ScriptedPeer::builder().connection(first).otherwise(later)], |servers| {
            Plan { servers, ..plan.clone() }.build()
        })
    }

    /// A client that is made when its servers have addresses.
    pub(crate) fn new(
        peers: Vec<ScriptedPeerBuilder>,
        make: impl FnOnce(Vec<String>) -> Result<Actor>,
    ) -> Watched {
        let peers: Vec<_> = peers.into_iter().map(|peer| peer.start().expect("a free port")).collect();
        let client = make(peers.iter().map(|peer| peer.uri("json")).collect()).expect("a name");
        let (sender, states) = mpsc::channel();
        client.add_connection_state_listener(move |state: ConnectionState| {
            // Nobody listens any more once the test is over.
            let _ = sender.send(state);
        });
        Watched { client, peers, states, held: RefCell::default() }
    }

    /// The connection string of a server.
    pub(crate) fn uri(&self, server: usize) -> String {
        self.peers.get(server).map(|peer| peer.uri("json")).unwrap_or_default()
    }

    /// Lets the script of the first server go on that waits for the connection to be lost.
    pub(crate) fn lose(&self) -> std::result::Result<(), String> {
        self.peers.first().ok_or("no server")?.release("lost").map_err(text)
    }

    /// Connects and logs on, in the way of this kind of client.
    pub(crate) fn start(&self) -> Result<()> {
        match &self.client {
            Actor::Ha(client) => client.connect_and_logon(),
            Actor::Plain(client) => client.connect(&self.uri(0)).and_then(|()| client.logon()),
        }
    }

    /// Gets to where most situations begin.
    pub(crate) fn logs_on(&self, states: &[&str]) -> std::result::Result<(), String> {
        self.start().map_err(text)?;
        self.announces(&Value::from(states))
    }

    /// Waits for so many states.
    pub(crate) fn hold(&self, count: usize) {
        let mut held = self.held.borrow_mut();
        let missing = count.saturating_sub(held.len());
        held.extend((0..missing).map_while(|_| self.states.recv_timeout(SOON).ok()));
    }

    /// Waits for a state, whatever comes before it.
    pub(crate) fn wait_for(&self, state: ConnectionState) {
        while self.states.recv_timeout(SOON).is_ok_and(|next| next != state) {}
    }

    /// These states are announced next, and none besides; nothing is said by what is no list.
    pub(crate) fn announces(&self, recorded: &Value) -> std::result::Result<(), String> {
        if !recorded.is_array() {
            return Ok(());
        }
        self.begins_with(recorded)?;
        let more: Vec<_> = self.held.take().into_iter().chain(self.states.try_iter()).collect();
        if more.is_empty() { Ok(()) } else { Err(format!("announced {more:?} besides")) }
    }

    /// These states are announced next, whatever comes behind them.
    pub(crate) fn begins_with(&self, recorded: &Value) -> std::result::Result<(), String> {
        let Some(recorded) = recorded.as_array() else { return Ok(()) };
        let expected: Vec<_> = recorded.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        self.hold(expected.len());
        let mut held = self.held.borrow_mut();
        let count = held.len().min(expected.len());
        let seen: Vec<_> = held.drain(..count).map(|state| state.to_string()).collect();
        if seen == expected { Ok(()) } else { Err(format!("announced {seen:?} instead of {expected:?}")) }
    }

    /// A call that is to fail.
    pub(crate) fn fails_with(
        &self,
        kind: ErrorKind,
        call: impl FnOnce(&Client) -> Result<()>,
    ) -> std::result::Result<(), String> {
        match call(&self.client) {
            Err(error) if error.kind() == kind => Ok(()),
            other => Err(format!("expected the error `{kind}`, got {other:?}")),
        }
    }
}

pub(crate) fn text(error: Error) -> String {
    error.to_string()
}
