//! The handle of a running server.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::builder::{Plan, ServerBuilder};
use super::clock::Clock;
use super::connection::{Connection, Terms};
use super::crew::Crew;
use super::faults::Faults;
use super::hub::Hub;
use super::journal::JournalRules;
use super::listener::{Port, Welcome};
use super::recorder::Recorder;
use super::settings::Settings;
use super::state::State;
use super::topic::Rule;
use super::world::{Instance, World};
use crate::error::{Error, ErrorKind, Result};

/// An AMPS-speaking server inside the process.
///
/// See the [module page](super) for what it can do. The handle may be used from any thread; dropping it stops the
/// server as [`stop`](Server::stop) does.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use amps_client::testing::Server;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::quick()?;
/// let address = server.uri("json"); // tcp://127.0.0.1:PORT/amps/json
///
/// let mut socket = TcpStream::connect(server.address().ok_or("TCP")?)?;
/// let logon = br#"{"c":"logon","cid":"1","client_name":"me","mt":"json","a":"processed"}"#;
/// socket.write_all(&(logon.len() as u32).to_be_bytes())?;
/// socket.write_all(logon)?;
/// let mut length = [0; 4];
/// socket.read_exact(&mut length)?;
/// let mut answer = vec![0; u32::from_be_bytes(length) as usize];
/// socket.read_exact(&mut answer)?;
/// assert!(String::from_utf8(answer)?.starts_with(r#"{"c":"ack","cid":"1""#));
/// # let _ = address;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    pub(crate) hub: Arc<Hub>,
    pub(crate) instance: usize,
    /// Its number among linked instances.
    home: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) rules: Arc<[Rule]>,
    journaled: JournalRules,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) faults: Arc<Faults>,
    ports: Arc<[Port]>,
    crew: Arc<Crew>,
    /// Held while the server starts or stops.
    is_running: Mutex<bool>,
}

impl Server {
    /// Starts a server for a first try: one TCP listener on the loopback address that takes every message type, and
    /// nobody is asked for a password.
    ///
    /// * Everything is journaled. So client names are unique: a client that logs on under the name of another takes its
    ///   place. Publishes are acknowledged as persisted every 20 ms.
    /// * A topic whose name begins with `sow/` keeps the last message for each key, which is the field `/id` (for
    ///   `binary` messages, the key that the publisher gives). Its records expire as the publisher says.
    /// * A topic whose name begins with `queue/` is a queue without lease periods, of which a subscription can have up to
    ///   100 messages at a time.
    /// * Every other topic delivers its messages and keeps nothing.
    /// * No frames are recorded.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if no port or no thread can be had.
    pub fn quick() -> Result<Server> {
        Server::builder()
            .listen_tcp()
            .quick_topics()
            .journal(".*")
            .ack_conflation(Duration::from_millis(20))
            .record_frames(0)
            .start()
    }

    /// Configures a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    /// Starts the instances of a plan.
    pub(crate) fn launch(plan: Plan, sharing: Sharing) -> Result<Vec<Server>> {
        let Plan { settings, rules, journaled, ports, clock } = plan;
        let recorders: Vec<_> =
            ports.iter().map(|_| Arc::new(Recorder::new(settings.record_limit))).collect();
        let instances: Vec<_> =
            recorders.iter().map(|recorder| Instance::new(settings.clone(), recorder.clone())).collect();
        let state = || State::new(rules.clone(), journaled.clone());
        let hubs = match sharing {
            Sharing::All => vec![Hub::new(clock, World::new(state(), instances)); ports.len()],
            Sharing::Linked => linked(&clock, instances, state, journaled.limit),
        };
        let parts = ports.into_iter().zip(recorders).zip(hubs).enumerate();
        let servers = parts.map(|(number, ((ports, recorder), hub))| {
            let instance = if sharing == Sharing::All { number } else { 0 };
            let ports: Arc<[Port]> = ports.into();
            let faults = Arc::new(Faults::new(recorder.clone(), ports.clone()));
            let terms = Terms {
                queue_limit: settings.queue_limit,
                frame_limit: settings.frame_limit,
                recorder: recorder.clone(),
                clock: hub.clock.clone(),
                faults: faults.clone(),
            };
            Server {
                crew: Arc::new(Crew::new(hub.clone(), instance, terms)),
                hub,
                instance,
                home: if sharing == Sharing::All { 0 } else { number },
                settings: settings.clone(),
                rules: rules.clone(),
                journaled: journaled.clone(),
                recorder,
                faults,
                ports,
                is_running: Mutex::new(false),
            }
        });
        let servers: Vec<_> = servers.collect();
        servers.iter().try_for_each(Server::run)?;
        Ok(servers)
    }

    /// The address for clients of this message type, on the first listener.
    pub fn uri(&self, message_type: &str) -> String {
        self.ports.first().map(|port| port.uri(message_type)).unwrap_or_default()
    }

    /// The addresses for clients of this message type, on all listeners in their order.
    pub fn uris(&self, message_type: &str) -> Vec<String> {
        self.ports.iter().map(|port| port.uri(message_type)).collect()
    }

    /// The socket address of the first listener that uses TCP.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.ports.iter().find_map(Port::address)
    }

    /// The path of the first listener that uses a Unix socket.
    pub fn unix_path(&self) -> Option<&std::path::Path> {
        self.ports.iter().find_map(Port::path)
    }

    /// The clock of the server, for advancing it if it is a manual one.
    pub fn clock(&self) -> &Clock {
        &self.hub.clock
    }

    /// Stops the server: closes its listeners and connections and waits for its threads. What it remembers stays, for
    /// [`restart`](Server::restart). Does nothing if it is stopped already.
    ///
    /// Takes well under a second whatever the peers do, unless a hook of the application is running, which is waited
    /// for.
    pub fn stop(&self) {
        let mut is_running = self.is_running.lock();
        if std::mem::take(&mut *is_running) {
            self.ports.iter().for_each(Port::end);
            self.crew.dismiss();
            self.hub.set_running(false);
            self.hub.stop_timer();
            self.ports.iter().for_each(Port::clean_up);
        }
    }

    /// Stops the server and starts it again, on the same addresses and with what it remembers.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if an address cannot be had again; the server is then stopped.
    pub fn restart(&self) -> Result<()> {
        self.stop();
        self.run()
    }

    /// Stops the server and starts it again, on the same addresses and with nothing remembered.
    ///
    /// # Errors
    ///
    /// As [`restart`](Server::restart); [`Usage`](ErrorKind::Usage) for an instance of a [`Cluster`](super::Cluster)
    /// that shares what it remembers with others.
    pub fn restart_empty(&self) -> Result<()> {
        if self.hub.look().instances.len() > 1 {
            let text = "what an instance of a cluster remembers belongs to the others as well";
            return Err(Error::new(ErrorKind::Usage, text));
        }
        self.stop();
        self.hub.lock().state = State::new(self.rules.clone(), self.journaled.clone()).at_home(self.home);
        self.run()
    }

    /// Refuses connections from now on, on every listener. Those that are there stay.
    pub fn pause_listening(&self) {
        self.ports.iter().for_each(Port::close);
    }

    /// Refuses connections from now on, on one listener: the first is 0.
    ///
    /// ```
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().listen_tcp().listen_tcp().start()?;
    /// server.pause_listener(1)?;
    /// assert!(server.pause_listener(2).is_err());
    /// server.resume_listening()?; // all of them
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if there is no such listener.
    pub fn pause_listener(&self, number: usize) -> Result<()> {
        let none = || Error::new(ErrorKind::Usage, format!("the server has no listener {number}"));
        self.ports.get(number).map(Port::close).ok_or_else(none)
    }

    /// Accepts connections again, on every listener and on the same addresses.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if an address cannot be had again; [`Usage`](ErrorKind::Usage) if the
    /// server is stopped.
    pub fn resume_listening(&self) -> Result<()> {
        let is_running = self.is_running.lock();
        if !*is_running {
            return Err(Error::new(ErrorKind::Usage, "the server is stopped; restart() starts it"));
        }
        self.open_ports()
    }

    /// The connections there are.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        let turn = self.hub.look();
        let sessions = turn.instances.get(self.instance).into_iter().flat_map(|i| i.sessions.values());
        sessions.map(|session| session.connection.clone()).collect()
    }

    /// The number of the connection accepted last.
    pub(crate) fn last_connection(&self) -> u64 {
        self.crew.last_number()
    }

    /// Starts the threads of a server that is stopped.
    fn run(&self) -> Result<()> {
        let mut is_running = self.is_running.lock();
        *is_running = true;
        self.hub.set_running(true);
        let started = self.hub.start_timer().and_then(|()| self.open_ports());
        drop(is_running);
        started.inspect_err(|_| self.stop())
    }

    fn open_ports(&self) -> Result<()> {
        for (number, port) in self.ports.iter().enumerate() {
            let crew = self.crew.clone();
            let welcome: Welcome = Arc::new(move |socket, types| crew.welcome(number, socket, types));
            port.open(number, welcome)?;
        }
        Ok(())
    }
}

/// What the instances of a cluster have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// All that a server remembers.
    All,
    /// Nothing; they tell each other what happens.
    Linked,
}

/// Worlds of their own for these instances, and what they are seen through.
fn linked(clock: &Clock, instances: Vec<Instance>, state: impl Fn() -> State, limit: usize) -> Vec<Arc<Hub>> {
    let instances = instances.into_iter().enumerate();
    let mut worlds = instances.map(|(home, instance)| World::linked(state(), instance, home, limit));
    match worlds.next() {
        Some(first) => Hub::linked(clock, first, worlds.collect()),
        None => Vec::new(),
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
