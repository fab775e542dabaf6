//! The faults of one server, and which of them strike.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::armed::Armed;
use super::{ArmedFault, Effect, Fault, FaultInfo, Moment, Strike, What};
use crate::testing::connection::Connection;
use crate::testing::hub::Hub;
use crate::testing::listener::Port;
use crate::testing::recorder::Recorder;
use crate::testing::server::Server;

/// Every fault that is armed on a server.
#[derive(Debug)]
pub(crate) struct Faults {
    list: Mutex<Vec<Arc<Armed>>>,
    /// Whether any may strike; without one, nothing is looked at twice.
    any: AtomicBool,
    recorder: Arc<Recorder>,
    ports: Arc<[Port]>,
}

impl Faults {
    pub(crate) fn new(recorder: Arc<Recorder>, ports: Arc<[Port]>) -> Faults {
        Faults { list: Mutex::default(), any: AtomicBool::new(false), recorder, ports }
    }

    pub(crate) fn may_strike(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// The faults that strike a connection at this moment, in the order in which they were armed.
    pub(crate) fn strikes(&self, connection: &Connection, moment: &Moment<'_>) -> Vec<Strike> {
        let list = self.list.lock().clone();
        let counts = connection.counts();
        let mut strikes = Vec::new();
        let mut frame_is_struck = false;
        for armed in &list {
            if armed.is_of_a_frame() && frame_is_struck {
                continue;
            }
            if let Some(offset) = armed.strike(connection, moment, counts) {
                frame_is_struck |= armed.is_of_a_frame();
                strikes.push(armed.strike_of(offset));
            }
        }
        if !strikes.is_empty() {
            self.tidy();
        }
        strikes
    }

    /// Notes that a fault has struck, for those who wait for it.
    pub(crate) fn note(&self, strike: &Strike) {
        strike.note();
        self.recorder.bump();
    }

    /// Closes a listener for as long as the fault says.
    pub(crate) fn close_port(&self, number: usize, strike: &Strike, is_acceptor: bool, hub: &Hub) {
        let Some(port) = self.ports.get(number) else { return };
        match is_acceptor {
            true => port.close_soon(),
            false => port.close(),
        }
        let effect = Effect::on_door(port.door());
        strike.has(&effect);
        hub.end_later(&effect, strike.lasting(), hub.clock.time());
    }

    /// Forgets what can do nothing more.
    pub(super) fn tidy(&self) {
        let mut list = self.list.lock();
        list.retain(|armed| armed.is_alive());
        self.any.store(list.iter().any(|armed| armed.may_strike()), Ordering::SeqCst);
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    fn add(&self, armed: Arc<Armed>) {
        self.list.lock().push(armed);
        self.any.store(true, Ordering::SeqCst);
    }
}

impl Server {
    /// Arms a fault. Whatever it does at once is done when this returns, as far as it does not depend on a client that
    /// does not read.
    ///
    /// ```
    /// use amps_client::testing::{Fault, Server, When};
    /// use amps_client::{Client, ErrorKind};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::quick()?;
    /// let client = Client::builder("desk").build()?;
    /// client.connect(&server.uri("json"))?;
    /// client.logon()?;
    ///
    /// server.fault(Fault::refuse("not entitled").when(When::receives("sow")));
    /// let error = client.sow("sow/orders", "").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NotEntitled);
    /// assert_eq!(client.sow("sow/orders", "")?.count(), 2); // where the answer begins and where it ends
    /// # Ok(())
    /// # }
    /// ```
    pub fn fault(&self, fault: Fault) -> ArmedFault {
        let connections = self.connections();
        let armed = Arc::new(Armed::new(fault, &connections, self.last_connection()));
        self.faults.add(armed.clone());
        let is_now = armed.fault.when.is_now() && !armed.is_of_a_frame();
        match &armed.fault.what {
            What::RefuseConnections if is_now => self.refuse_connections(&armed),
            _ => connections.iter().for_each(|connection| connection.strike(&Moment::Armed, &self.hub)),
        }
        if is_now {
            armed.exhaust();
            self.faults.tidy();
        }
        ArmedFault::new(armed, self.faults.clone())
    }

    /// The faults that are armed, or that something still lasts of, in the order in which they were armed.
    pub fn faults(&self) -> Vec<FaultInfo> {
        self.faults.tidy();
        self.faults.list.lock().iter().map(|armed| armed.info()).collect()
    }

    fn refuse_connections(&self, armed: &Arc<Armed>) {
        let strike = armed.strike_of(0);
        for number in 0..self.faults.ports.len() {
            if armed.fault.whom.listener.is_none_or(|only| only == number) {
                self.faults.close_port(number, &strike, false, &self.hub);
            }
        }
        self.faults.note(&strike);
    }
}
