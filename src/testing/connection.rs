//! One accepted connection: what the server knows of it, and its two threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use super::LOG;
use super::clock::{Clock, Time};
use super::faults::{
    Counts, Effect, Ending, Faults, Hindrance, Hindrances, Moment, Obstacle, Reading, Strike, What,
};
use super::frames::Outgoing;
use super::hub::Hub;
use super::listener::MessageTypes;
use super::outbox::{Outbox, Overrun};
use super::query::Results;
use super::reader::Reader;
use super::recorder::Recorder;
use super::session::SessionId;
use super::socket::Socket;
use super::writer::Writer;

/// What the rest of the server knows of a connection: where to put frames, and how to end it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) peer: String,
    /// The listener that accepted it, from 0.
    pub(crate) listener: usize,
    /// What that listener allows.
    message_types: MessageTypes,
    socket: Socket,
    outbox: Outbox,
    terms: Terms,
    tally: Tally,
    /// The client name in the last logon.
    name: Mutex<String>,
    /// What hampers its reader.
    reading: Mutex<Hindrances<Reading>>,
}

/// What is the same for all connections of a server.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) queue_limit: usize,
    pub(crate) frame_limit: u32,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) clock: Clock,
    pub(crate) faults: Arc<Faults>,
}

/// Whether a connection goes on after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// Write what is queued, then close.
    Finish,
}

impl Connection {
    pub(crate) fn new(
        id: SessionId,
        listener: usize,
        socket: Socket,
        types: MessageTypes,
        terms: &Terms,
    ) -> Connection {
        Connection {
            id,
            peer: socket.peer(),
            listener,
            message_types: types,
            socket,
            outbox: Outbox::new(terms.queue_limit),
            terms: terms.clone(),
            tally: Tally::default(),
            name: Mutex::default(),
            reading: Mutex::default(),
        }
    }

    /// Queues a frame for writing. A connection that has fallen too far behind is closed instead (Z-1).
    pub(crate) fn send(&self, frame: Outgoing, now: Time) {
        if self.outbox.push(frame, now) == Err(Overrun) {
            self.close_slow();
        }
    }

    /// Queues a frame that was read from the journal.
    pub(crate) fn send_replayed(&self, frame: Outgoing, now: Time) {
        self.outbox.push_replayed(frame, now);
    }

    /// Queues the records of a query.
    pub(crate) fn send_results(&self, results: Results, now: Time) {
        self.outbox.push_results(results, now);
    }

    pub(crate) fn message_types(&self) -> &MessageTypes {
        &self.message_types
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What went over it so far.
    pub(crate) fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Notes who the other end says it is.
    pub(crate) fn set_name(&self, name: &str) {
        name.clone_into(&mut self.name.lock());
    }

    pub(crate) fn is_of(&self, name: &str) -> bool {
        *self.name.lock() == name
    }

    /// Closes at once. Both threads end; the reader then takes the session away.
    pub(crate) fn close(&self) {
        self.outbox.close();
        self.socket.close();
    }

    pub(crate) fn close_slow(&self) {
        log::warn!(target: LOG, "{}: slow client, the connection is closed", self.id);
        self.terms.recorder.count(|counters| counters.slow_clients += 1);
        self.close();
    }

    /// Runs the conversation until one side ends it; the body of the reader thread.
    pub(crate) fn serve(self: &Arc<Connection>, hub: &Arc<Hub>) {
        let (writer, writing_hub) = (self.clone(), hub.clone());
        let name = format!("amps-server-tx-{}", self.id.number);
        let writer =
            thread::Builder::new().name(name).spawn(move || Writer::new(&writer, &writing_hub).run());
        let flow = match &writer {
            Ok(_) => Reader::new(self, hub).run(),
            Err(_) => Flow::Continue,
        };
        hub.leave(self.id);
        if flow == Flow::Finish {
            self.outbox.finish();
            self.drain();
        }
        self.close();
        if let Ok(writer) = writer {
            // A writer that panicked has nothing more to say either.
            let _ = writer.join();
        }
    }

    /// Reads and forgets until the peer closes or the writer has waited long enough.
    fn drain(&self) {
        let mut scratch = [0; 4096];
        while matches!(self.socket.read(&mut scratch), Ok(1..)) {}
    }
}

/// What faults do to it; see [`super::faults`].
impl Connection {
    /// Lets the faults strike whose moment has come. For moments that are not about a frame of the writer.
    pub(crate) fn strike(self: &Arc<Connection>, moment: &Moment<'_>, hub: &Hub) {
        if self.terms.faults.may_strike() {
            for strike in self.terms.faults.strikes(self, moment) {
                self.suffer(&strike, moment, hub);
            }
        }
    }

    /// Carries out a fault of the connection. What hampers the writer does so behind what is queued.
    pub(crate) fn suffer(self: &Arc<Connection>, strike: &Strike, moment: &Moment<'_>, hub: &Hub) {
        let faults = &self.terms.faults;
        if let What::End(_) = strike.what() {
            // Before the peer can see it.
            faults.note(strike);
        }
        match strike.what() {
            What::End(Ending::Reset) => self.reset(hub),
            What::End(_) => self.end(hub),
            What::Hamper { reading, writing } => {
                let effect = self.begin(strike, self.terms.clock.time(), hub);
                reading.iter().for_each(|reading| self.hamper_reading(*reading, &effect));
                if let Some(writing) = writing {
                    let now = self.terms.clock.time();
                    self.outbox.push_hindrance(Hindrance::new(*writing, effect, &self.terms.clock), now);
                }
                faults.note(strike);
            }
            What::RefuseConnections => {
                let is_acceptor = matches!(moment, Moment::Accepted);
                faults.close_port(self.listener, strike, is_acceptor, hub);
                faults.note(strike);
            }
            What::Alter(_) | What::Damage(_) | What::Answer(_) => {}
        }
    }

    /// An effect on this connection, which lasts as long as the fault says, counted from then.
    pub(crate) fn begin(self: &Arc<Connection>, strike: &Strike, from: Time, hub: &Hub) -> Arc<Effect> {
        let effect = Effect::on_connection(self);
        strike.has(&effect);
        hub.end_later(&effect, strike.lasting(), from);
        effect
    }

    pub(crate) fn hamper_reading(&self, reading: Reading, effect: &Arc<Effect>) {
        let hindrance = Hindrance::new(reading, effect.clone(), &self.terms.clock);
        self.reading.lock().add(hindrance);
        self.outbox.poke();
    }

    /// Ends in an orderly way: what is queued is still written, nothing more is carried out.
    pub(crate) fn end(&self, hub: &Hub) {
        self.outbox.finish();
        hub.leave(self.id);
    }

    /// Ends so that the peer's next read or write fails.
    pub(crate) fn reset(&self, hub: &Hub) {
        // First of all, so that nobody closes the socket in an orderly way.
        self.socket.reset();
        self.outbox.close();
        hub.leave(self.id);
    }

    /// Blocks while reading is stopped; false at the end of the connection.
    pub(crate) fn wait_to_read(self: &Arc<Connection>, hub: &Hub) -> bool {
        loop {
            let Some(stop) = self.reading.lock().stop() else { return self.outbox.is_open() };
            let is_over = self.watch(stop, hub);
            if !self.outbox.wait_while_open(|| !is_over()) {
                return false;
            }
        }
    }

    /// Blocks until bytes may be read, and says how many; `None` at the end of the connection.
    pub(crate) fn reading_room(self: &Arc<Connection>, hub: &Hub) -> Option<usize> {
        loop {
            let room = self.reading.lock().room(self.terms.clock.time());
            let obstacle = match room {
                Ok(room) => return self.outbox.is_open().then_some(room),
                Err(obstacle) => obstacle,
            };
            let is_over = self.watch(obstacle, hub);
            if !self.outbox.wait_while_open(|| !is_over()) {
                return None;
            }
        }
    }

    pub(crate) fn note_read(&self, bytes: usize) {
        self.reading.lock().spend(bytes);
    }

    /// What tells whether an obstacle is out of the way. When it is, whoever waits on the outbox looks again.
    pub(crate) fn watch(self: &Arc<Connection>, obstacle: Obstacle, hub: &Hub) -> impl Fn() -> bool + use<> {
        let (effect, alarm) = match obstacle {
            Obstacle::Stop(effect) => (effect, None),
            Obstacle::Tick(at, effect) => {
                let alarm = Effect::on_connection(self);
                hub.end_at(&alarm, at);
                (effect, Some(alarm))
            }
        };
        move || effect.is_over() || alarm.as_ref().is_some_and(|alarm| alarm.is_over())
    }
}

/// How much went over a connection.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    /// Bytes that have come and are no whole frame yet.
    unfinished: AtomicU64,
    frames_out: AtomicU64,
    bytes_out: AtomicU64,
}

impl Tally {
    /// A frame was carried out.
    pub(crate) fn received(&self, bytes: usize) {
        self.frames_in.fetch_add(1, Ordering::SeqCst);
        self.bytes_in.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    /// So many bytes have come that are no whole frame yet.
    pub(crate) fn set_unfinished(&self, bytes: usize) {
        self.unfinished.store(bytes as u64, Ordering::SeqCst);
    }

    /// Frames were written, or a part of one.
    pub(crate) fn sent(&self, frames: u64, bytes: usize) {
        self.frames_out.fetch_add(frames, Ordering::SeqCst);
        self.bytes_out.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    fn counts(&self) -> Counts {
        Counts {
            frames_in: self.frames_in.load(Ordering::SeqCst),
            bytes_in: self.bytes_in.load(Ordering::SeqCst) + self.unfinished.load(Ordering::SeqCst),
            frames_out: self.frames_out.load(Ordering::SeqCst),
            bytes_out: self.bytes_out.load(Ordering::SeqCst),
        }
    }
}
