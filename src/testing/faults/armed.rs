//! A fault that is armed, and the handle that a test has of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Counts, Effect, Fault, Faults, Moment, Target, What};
use crate::error::{Error, ErrorKind, Result};
use crate::testing::connection::Connection;

/// A fault of a running server, made by [`Server::fault`](super::super::Server::fault).
///
/// Dropping the handle changes nothing: the fault stays armed. A clone is the same fault.
///
/// ```
/// use amps_client::testing::{Fault, Server, When};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let fault = server.fault(Fault::swallow().when(When::receives("publish")).always());
/// assert_eq!(fault.fired(), 0);
/// fault.remove();
/// assert!(server.faults().is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ArmedFault {
    armed: Arc<Armed>,
    faults: Arc<Faults>,
}

/// One of the faults of a server; see [`Server::faults`](super::super::Server::faults).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultInfo {
    /// What it does, when and where, for people to read.
    pub description: String,
    /// How often it struck.
    pub fired: u64,
    /// How often it will strike yet; `None`: every time.
    pub left: Option<u64>,
    /// How much of what it brought about has not been released yet: frames, connections, listeners.
    pub lasting: usize,
}

impl ArmedFault {
    pub(super) fn new(armed: Arc<Armed>, faults: Arc<Faults>) -> ArmedFault {
        ArmedFault { armed, faults }
    }

    /// How often it struck.
    pub fn fired(&self) -> u64 {
        self.armed.state.lock().fired
    }

    /// Blocks until it has struck, at most this long. When it returns, what the fault brought about is there to be
    /// released. For more than once see [`Server::wait_for`](super::super::Server::wait_for).
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if it does not strike in time.
    pub fn wait_fired(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now().checked_add(timeout);
        let recorder = self.faults.recorder();
        loop {
            let version = recorder.version();
            if self.fired() > 0 {
                return Ok(());
            }
            if !recorder.wait_past(version, deadline) {
                let text = format!("within {timeout:?} nothing fell to the fault `{}`", self.armed.fault);
                return Err(Error::new(ErrorKind::TimedOut, text));
            }
        }
    }

    /// Ends what it brought about and what lasts: frames that are delayed leave, connections read and write again,
    /// listeners accept. What it has not done yet it still will do.
    pub fn release(&self) {
        self.armed.release();
    }

    /// Takes the fault off: it strikes no more, and what it brought about ends as by [`release`](ArmedFault::release).
    pub fn remove(&self) {
        self.armed.disarm();
        self.armed.release();
        self.faults.tidy();
    }
}

impl fmt::Debug for ArmedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ArmedFault").field(&self.armed.info()).finish()
    }
}

/// A fault, and what has become of it.
#[derive(Debug)]
pub(crate) struct Armed {
    pub(super) fault: Fault,
    /// The last connection accepted before it was armed.
    last_connection: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fired: u64,
    /// `None`: every time.
    left: Option<u64>,
    is_removed: bool,
    /// What went over each connection before, if that is not to count.
    before: HashMap<u64, Counts>,
    /// The connections that came to a count, which each does once.
    counted: HashSet<u64>,
    /// For each connection: after which frames of its queue the next that fits will be struck.
    primed: HashMap<u64, VecDeque<u64>>,
    effects: Vec<Arc<Effect>>,
}

/// A fault that strikes now.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    armed: Arc<Armed>,
    /// After how many bytes of the frame that is about to be sent.
    pub(crate) offset: usize,
}

impl Strike {
    pub(crate) fn what(&self) -> &What {
        &self.armed.fault.what
    }

    /// True for what is done to a frame, and not to the connection.
    pub(crate) fn is_alteration(&self) -> bool {
        matches!(self.what(), What::Alter(_) | What::Damage(_) | What::Answer(_))
    }

    /// How long what it brings about is to last.
    pub(crate) fn lasting(&self) -> Option<Duration> {
        self.armed.fault.lasting
    }

    /// Lets the fault have an effect that can be released.
    pub(crate) fn has(&self, effect: &Arc<Effect>) {
        let mut state = self.armed.state.lock();
        state.effects.retain(|effect| !effect.is_over());
        state.effects.push(effect.clone());
        let is_removed = state.is_removed;
        drop(state);
        if is_removed {
            effect.end();
        }
    }

    /// Notes that it has struck.
    pub(super) fn note(&self) {
        self.armed.state.lock().fired += 1;
    }
}

impl Armed {
    pub(super) fn new(fault: Fault, connections: &[Arc<Connection>], last_connection: u64) -> Armed {
        let counts = fault.when.counts_since_armed().then_some(connections);
        let before = counts.into_iter().flatten().map(|c| (c.id.number, c.counts())).collect();
        let strikes_all = fault.target() == Target::Connection && fault.when.is_now();
        let state = State {
            fired: 0,
            left: if strikes_all { None } else { fault.times },
            is_removed: false,
            before,
            counted: HashSet::new(),
            primed: HashMap::new(),
            effects: Vec::new(),
        };
        Armed { fault, last_connection, state: Mutex::new(state) }
    }

    /// Whether it strikes at this moment, and after how many bytes of a frame. If so, that is one strike less to come.
    pub(super) fn strike(
        &self,
        connection: &Connection,
        moment: &Moment<'_>,
        counts: Counts,
    ) -> Option<usize> {
        if !self.may_strike() || !self.fault.concerns(connection) {
            return None;
        }
        let counts = counts.since(self.counts_before(connection));
        let offset = match (self.fault.target(), moment) {
            (Target::Incoming, Moment::Receiving { .. }) | (Target::Outgoing, Moment::Sending { .. }) => {
                self.fits(connection, moment, counts).then_some(self.fault.what.offset())
            }
            (Target::Connection, _) => self.comes(connection, moment, counts),
            _ => {
                self.prime(connection, moment, counts);
                None
            }
        };
        offset.filter(|_| self.claim())
    }

    /// True for a fault of which at most one strikes a frame.
    pub(super) fn is_of_a_frame(&self) -> bool {
        self.fault.target() != Target::Connection
    }

    pub(super) fn may_strike(&self) -> bool {
        self.state.lock().left != Some(0)
    }

    /// Whether there is any reason to remember it.
    pub(super) fn is_alive(&self) -> bool {
        let state = self.state.lock();
        state.left != Some(0) || state.effects.iter().any(|effect| !effect.is_over())
    }

    pub(super) fn disarm(&self) {
        let mut state = self.state.lock();
        state.left = Some(0);
        state.is_removed = true;
    }

    /// Strikes no more, and lets what lasts go on.
    pub(super) fn exhaust(&self) {
        self.state.lock().left = Some(0);
    }

    pub(super) fn release(&self) {
        let effects = std::mem::take(&mut self.state.lock().effects);
        effects.iter().for_each(|effect| effect.end());
    }

    pub(super) fn info(&self) -> FaultInfo {
        let state = self.state.lock();
        FaultInfo {
            description: self.fault.to_string(),
            fired: state.fired,
            left: state.left,
            lasting: state.effects.iter().filter(|effect| !effect.is_over()).count(),
        }
    }

    pub(super) fn strike_of(self: &Arc<Armed>, offset: usize) -> Strike {
        Strike { armed: self.clone(), offset }
    }

    /// Whether the connection has come to the moment that the fault names. It comes to a count only once.
    fn comes(&self, connection: &Connection, moment: &Moment<'_>, counts: Counts) -> Option<usize> {
        let offset = self.fault.when.has_come(moment, counts)?;
        let is_first = !self.fault.when.is_count() || self.state.lock().counted.insert(connection.id.number);
        is_first.then_some(offset)
    }

    /// Whether the frame of this moment is to be struck.
    fn fits(&self, connection: &Connection, moment: &Moment<'_>, counts: Counts) -> bool {
        if !self.fault.what.fits(moment) {
            return false;
        }
        match self.waits_for_other_side() {
            true => self.take_primed(connection, moment),
            false => {
                let is_new = connection.id.number > self.last_connection;
                self.fault.when.is_about(moment, counts, is_new)
            }
        }
    }

    /// True if its moment is of one direction and the frame to be struck of the other.
    fn waits_for_other_side(&self) -> bool {
        match self.fault.target() {
            Target::Outgoing => self.fault.when.is_about_input(),
            Target::Incoming => self.fault.when.is_about_output(),
            Target::Connection => false,
        }
    }

    fn prime(&self, connection: &Connection, moment: &Moment<'_>, counts: Counts) {
        if self.waits_for_other_side() && self.comes(connection, moment, counts).is_some() {
            let queued = connection.outbox().last_number();
            self.state.lock().primed.entry(connection.id.number).or_default().push_back(queued);
        }
    }

    fn take_primed(&self, connection: &Connection, moment: &Moment<'_>) -> bool {
        let mut state = self.state.lock();
        let Some(primed) = state.primed.get_mut(&connection.id.number) else { return false };
        let is_later = |after: &u64| match moment {
            Moment::Sending { number, .. } => number > after,
            _ => true,
        };
        let takes = primed.front().is_some_and(is_later);
        if takes {
            primed.pop_front();
        }
        takes
    }

    fn claim(&self) -> bool {
        let mut state = self.state.lock();
        match &mut state.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn counts_before(&self, connection: &Connection) -> Counts {
        self.state.lock().before.get(&connection.id.number).copied().unwrap_or_default()
    }
}
