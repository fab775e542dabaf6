//! How a scripted peer is set up.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::ScriptedPeer;
use super::listening::{Scripts, accept};
use super::script::ConnectionScript;
use super::state::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::testing::door::Door;
use crate::testing::endpoint::Endpoint;

/// Settings of a [`ScriptedPeer`], and its scripts.
///
/// ```
/// use std::time::Duration;
///
/// use amps_client::testing::ScriptedPeer;
///
/// # fn main() -> amps_client::Result<()> {
/// let peer = ScriptedPeer::builder()
///     .timeout(Duration::from_secs(1))
///     .connection(|c| c.logon().close())
///     .otherwise(|c| c.logon().idle())
///     .start()?;
/// # drop(peer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct ScriptedPeerBuilder {
    scripts: Scripts,
    timeout: Duration,
    unix: bool,
}

impl ScriptedPeerBuilder {
    pub(super) fn new() -> ScriptedPeerBuilder {
        ScriptedPeerBuilder { scripts: Scripts::default(), timeout: Duration::from_secs(5), unix: false }
    }

    /// Adds the script of the next connection: the first call is for the first connection, and so on.
    ///
    /// [`finish`](ScriptedPeer::finish) fails if such a connection was never made.
    pub fn connection(
        mut self,
        script: impl FnOnce(ConnectionScript) -> ConnectionScript,
    ) -> ScriptedPeerBuilder {
        self.scripts.listed.push(Arc::new(script(ConnectionScript::default())));
        self
    }

    /// The script of every connection that has none of its own. By default there is none: such connections are read
    /// and recorded, and [`accept`](ScriptedPeer::accept) hands them out.
    pub fn otherwise(
        mut self,
        script: impl FnOnce(ConnectionScript) -> ConnectionScript,
    ) -> ScriptedPeerBuilder {
        self.scripts.otherwise = Some(Arc::new(script(ConnectionScript::default())));
        self
    }

    /// How long a step may take, and [`finish`](ScriptedPeer::finish) waits for a connection that was not made yet.
    /// Default 5 seconds.
    pub fn timeout(self, timeout: Duration) -> ScriptedPeerBuilder {
        ScriptedPeerBuilder { timeout, ..self }
    }

    /// Listens on a Unix socket in a fresh temporary directory, which goes when the peer ends. Default: on a free port
    /// of the IPv4 loopback address.
    pub fn unix(self) -> ScriptedPeerBuilder {
        ScriptedPeerBuilder { unix: true, ..self }
    }

    /// Starts listening; connections are accepted when it returns.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if the system gives no port or no socket.
    pub fn start(self) -> Result<ScriptedPeer> {
        let cannot_listen =
            |e| Error::new(ErrorKind::Connection, "the scripted peer cannot listen").with_source(e);
        let endpoint = match self.unix {
            true => Endpoint::unix_temp("amps-peer"),
            false => Endpoint::tcp((Ipv4Addr::LOCALHOST, 0)),
        };
        let door = Door::new(endpoint.map_err(cannot_listen)?);
        let listener = door.unlock().map_err(cannot_listen)?;
        let shared = Arc::new(Shared::new(door, self.timeout));
        shared.change(|state| {
            let gates = self.scripts.all().flat_map(ConnectionScript::gates);
            state.gates = gates.map(|name| (name.to_owned(), Default::default())).collect();
        });
        let peer = ScriptedPeer {
            shared: shared.clone(),
            scripts: self.scripts.listed.len(),
            longest_step: self
                .scripts
                .all()
                .map(ConnectionScript::longest_timeout)
                .fold(self.timeout, Duration::max),
        };
        let acceptor = shared.clone();
        shared.spawn("peer-accept".to_owned(), move || accept(&acceptor, listener, &self.scripts))?;
        Ok(peer)
    }
}
