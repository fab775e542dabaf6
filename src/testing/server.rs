//! The handle of a running server.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::builder::ServerBuilder;
use super::clock::Clock;
use super::connection::{Connection, Terms};
use super::crew::Crew;
use super::faults::Faults;
use super::hub::Hub;
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
    pub(crate) settings: Arc<Settings>,
    pub(crate) rules: Arc<[Rule]>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) faults: Arc<Faults>,
    ports: Arc<[Port]>,
    crew: Arc<Crew>,
    /// Whether the server runs; held while it starts or stops.
    life: Mutex<Lifecycle>,
}

#[derive(Debug, Default)]
struct Lifecycle {
    is_running: bool,
    timer: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server for a first try: one TCP listener on the loopback address that takes every message type, and
    /// nobody is asked for a password.
    ///
    /// * A topic whose name begins with `sow/` keeps the last message for each key, which is the field `/id` (for
    ///   `binary` messages, the key that the publisher gives). Its records expire as the publisher says.
    /// * A topic whose name begins with `queue/` is refused: queues are not there yet.
    /// * Every other topic delivers its messages and keeps nothing.
    /// * No frames are recorded.
    ///
    /// # Errors
    ///
    /// [`Connection`](ErrorKind::Connection) if no port or no thread can be had.
    pub fn quick() -> Result<Server> {
        Server::builder().listen_tcp().quick_topics().record_frames(0).start()
    }

    /// Configures a server.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }

    pub(crate) fn start(
        settings: Settings,
        rules: Arc<[Rule]>,
        ports: Vec<Port>,
        clock: Clock,
    ) -> Result<Server> {
        let recorder = Arc::new(Recorder::new(settings.record_limit));
        let settings = Arc::new(settings);
        let ports: Arc<[Port]> = ports.into();
        let faults = Arc::new(Faults::new(recorder.clone(), ports.clone()));
        let terms = Terms {
            queue_limit: settings.queue_limit,
            frame_limit: settings.frame_limit,
            recorder: recorder.clone(),
            clock: clock.clone(),
            faults: faults.clone(),
        };
        let state = State::new(rules.clone());
        let instance = Instance::new(settings.clone(), recorder.clone());
        let hub = Hub::new(clock, World::new(state, vec![instance]));
        let crew = Arc::new(Crew::new(hub.clone(), 0, terms));
        let server = Server {
            hub,
            instance: 0,
            settings,
            rules,
            recorder,
            faults,
            ports,
            crew,
            life: Mutex::default(),
        };
        server.run()?;
        Ok(server)
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
        let mut life = self.life.lock();
        if std::mem::take(&mut life.is_running) {
            self.ports.iter().for_each(Port::end);
            self.crew.dismiss();
            self.stop_timer(&mut life);
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
    /// As [`restart`](Server::restart).
    pub fn restart_empty(&self) -> Result<()> {
        self.stop();
        self.hub.lock().state = State::new(self.rules.clone());
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
        let life = self.life.lock();
        if !life.is_running {
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
        let mut life = self.life.lock();
        life.is_running = true;
        let started = self.start_timer(&mut life).and_then(|()| self.open_ports());
        drop(life);
        started.inspect_err(|_| self.stop())
    }

    /// A manual clock needs no thread: whoever advances it does the work.
    fn start_timer(&self, life: &mut Lifecycle) -> Result<()> {
        if self.hub.clock.is_manual() {
            return Ok(());
        }
        self.hub.rearm_timer();
        let hub = self.hub.clone();
        let timer = thread::Builder::new().name("amps-server-timer".into()).spawn(move || hub.run_timer());
        life.timer = Some(timer.map_err(|e| {
            Error::new(ErrorKind::Connection, "cannot start the timer thread").with_source(e)
        })?);
        Ok(())
    }

    fn stop_timer(&self, life: &mut Lifecycle) {
        if let Some(timer) = life.timer.take() {
            self.hub.stop_timer();
            // A timer that panicked has stopped as well.
            let _ = timer.join();
        }
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

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
