//! The writing half of a connection: the place where frames leave.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Time;
use super::connection::Connection;
use super::faults::{
    Alteration, Effect, Ending, Hindrance, Hindrances, Moment, Obstacle, Strike, What, Writing,
};
use super::frame::Frame;
use super::frames::Point;
use super::hub::Hub;
use super::outbox::{Queued, Ready};
use crate::wire::AckType;

/// Writes what is queued.
pub(crate) struct Writer<'a> {
    connection: &'a Arc<Connection>,
    hub: &'a Hub,
    /// What is ready and not handed to the system yet, and how many frames that is.
    buffer: Vec<u8>,
    frames: usize,
    hindrances: Hindrances<Writing>,
    /// Frames that are set aside until their effect is over.
    delayed: Vec<(Arc<Effect>, Piece)>,
    /// A frame that changes places with the one after it.
    swapped: Option<Piece>,
}

/// The bytes of a frame, as they are to go out, and which acknowledgement it is.
#[derive(Clone)]
struct Piece {
    bytes: Vec<u8>,
    ack: AckType,
}

/// Why nothing more is written.
enum End {
    /// What was written is to arrive.
    Orderly,
    Gone,
}

/// How long a peer has to read the last frames and to close after the server is done with it.
const LINGER: Duration = Duration::from_millis(500);

impl<'a> Writer<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>, hub: &'a Hub) -> Writer<'a> {
        Writer {
            connection,
            hub,
            buffer: Vec::new(),
            frames: 0,
            hindrances: Hindrances::default(),
            delayed: Vec::new(),
            swapped: None,
        }
    }

    /// Writes until the outbox ends, or a fault ends the conversation.
    pub(crate) fn run(&mut self) {
        if let Err(End::Orderly) = self.write_all() {
            // A close with unread input would make the peer lose what it was sent last.
            self.connection.socket().finish_writing();
            self.connection.outbox().wait_closed(LINGER);
        }
        self.connection.close();
    }

    fn write_all(&mut self) -> Result<(), End> {
        while let Some(ready) = self.connection.outbox().next() {
            self.send_overdue();
            for item in ready {
                match item {
                    Ready::Frame(queued) => self.leave(queued)?,
                    Ready::Hindrance(hindrance) => self.hamper(hindrance)?,
                    Ready::Room => self.hub.lock().pump(self.connection.id),
                }
            }
            self.flush(false)?;
        }
        self.flush(true)?;
        match self.connection.outbox().is_closed() {
            true => Err(End::Gone),
            false => Err(End::Orderly),
        }
    }

    /// The one place where frames leave.
    fn leave(&mut self, queued: Queued) -> Result<(), End> {
        let is_free = self.hindrances.is_empty() && self.swapped.is_none();
        if is_free && !self.connection.terms().faults.may_strike() {
            let frame = queued.frame;
            self.put(&[Piece { bytes: frame.bytes, ack: frame.ack }], 0);
            return Ok(());
        }
        self.leave_amid_faults(queued)
    }

    fn leave_amid_faults(&mut self, queued: Queued) -> Result<(), End> {
        let Queued { frame, time, number } = queued;
        let is_heartbeat = frame.point == Some(Point::Heartbeat);
        if is_heartbeat && self.is_mute() {
            return Ok(());
        }
        let shown = Frame::of_body(frame.bytes.get(4..).unwrap_or_default());
        let (point, size) = (frame.point, frame.bytes.len());
        let mut pieces = vec![Piece { bytes: frame.bytes, ack: frame.ack }];
        let Ok(shown) = shown else {
            // What cannot be read is nothing that a fault could be about.
            self.put(&pieces, 0);
            return Ok(());
        };
        let earlier = self.swapped.take();
        let moment = Moment::Sending { frame: &shown, size, point, number, ends_swap: earlier.is_some() };
        let strikes = self.connection.terms().faults.strikes(self.connection, &moment);
        for strike in &strikes {
            pieces = self.alter(pieces, &shown, strike, time);
        }
        let done = self.strike_within(&pieces, &strikes, &moment)?;
        if is_heartbeat && self.is_mute() {
            return Ok(());
        }
        self.put(&pieces, done);
        self.put(earlier.as_slice(), 0);
        for strike in self.connection.terms().faults.strikes(self.connection, &Moment::Sent) {
            self.suffer(&strike, &Moment::Sent)?;
        }
        Ok(())
    }

    /// What a fault of a frame makes of it.
    fn alter(&mut self, mut pieces: Vec<Piece>, shown: &Frame, strike: &Strike, queued: Time) -> Vec<Piece> {
        let one = |bytes| Piece { bytes, ack: AckType::NONE };
        match strike.what() {
            What::Damage(damage) => pieces = vec![one(damage.apply(shown))],
            What::Alter(Alteration::Swallow) => pieces.clear(),
            What::Alter(Alteration::Repeat) => pieces.extend_from_within(..),
            What::Alter(Alteration::Insert(bytes)) => pieces.insert(0, one(bytes.clone())),
            What::Alter(Alteration::Replace(bytes)) => pieces = vec![one(bytes.clone())],
            What::Alter(Alteration::Swap) => self.swapped = pieces.pop(),
            What::Alter(Alteration::Delay) => {
                let effect = self.connection.begin(strike, queued, self.hub);
                self.delayed.extend(pieces.drain(..).map(|piece| (effect.clone(), piece)));
            }
            _ => return pieces,
        }
        self.connection.terms().faults.note(strike);
        pieces
    }

    /// Lets the faults of the connection strike that a frame brings about, each behind as much of the frame as it says.
    /// Returns how many bytes are out.
    fn strike_within(
        &mut self,
        pieces: &[Piece],
        strikes: &[Strike],
        moment: &Moment<'_>,
    ) -> Result<usize, End> {
        let mut cuts: Vec<_> = strikes.iter().filter(|strike| !strike.is_alteration()).collect();
        cuts.sort_by_key(|strike| strike.offset);
        let mut done = 0;
        for cut in cuts {
            let part = bytes(pieces).skip(done).take(cut.offset.saturating_sub(done));
            let before = self.buffer.len();
            self.buffer.extend(part);
            let written = self.buffer.len() - before;
            self.connection.tally().sent(0, written);
            done += written;
            self.suffer(cut, moment)?;
        }
        Ok(done)
    }

    /// Carries out a fault of the connection, behind all that is ready.
    fn suffer(&mut self, strike: &Strike, moment: &Moment<'_>) -> Result<(), End> {
        self.flush(true)?;
        let (connection, hub) = (self.connection, self.hub);
        let faults = &connection.terms().faults;
        match strike.what() {
            What::End(Ending::Reset) => {
                faults.note(strike);
                connection.reset(hub);
                return Err(End::Gone);
            }
            What::End(_) => {
                faults.note(strike);
                connection.end(hub);
                return Err(End::Orderly);
            }
            What::Hamper { reading, writing } => {
                let effect = connection.begin(strike, connection.terms().clock.time(), hub);
                reading.iter().for_each(|reading| connection.hamper_reading(*reading, &effect));
                let clock = &connection.terms().clock;
                let hindrance = writing.map(|writing| Hindrance::new(writing, effect, clock));
                hindrance.into_iter().for_each(|hindrance| self.hindrances.add(hindrance));
                faults.note(strike);
            }
            _ => connection.suffer(strike, moment, hub),
        }
        self.wait_while_stopped()
    }

    fn hamper(&mut self, hindrance: Hindrance<Writing>) -> Result<(), End> {
        self.flush(true)?;
        self.hindrances.add(hindrance);
        self.wait_while_stopped()
    }

    fn is_mute(&mut self) -> bool {
        self.hindrances.kinds().any(|kind| kind == Writing::Mute)
    }

    /// Sends the frames that need not wait any longer.
    fn send_overdue(&mut self) {
        let (over, rest) =
            std::mem::take(&mut self.delayed).into_iter().partition(|(effect, _)| effect.is_over());
        self.delayed = rest;
        let over: Vec<_> = Vec::into_iter(over).map(|(_, piece)| piece).collect();
        self.put(&over, 0);
    }

    /// Makes frames ready, of which so many bytes are out already.
    fn put(&mut self, pieces: &[Piece], done: usize) {
        let terms = self.connection.terms();
        for piece in pieces {
            let body = piece.bytes.get(4..).unwrap_or_default();
            terms.recorder.sent(self.connection.id.number, terms.clock.time(), body, piece.ack);
        }
        let before = self.buffer.len();
        match pieces {
            [only] => self.buffer.extend_from_slice(only.bytes.get(done..).unwrap_or_default()),
            pieces => self.buffer.extend(bytes(pieces).skip(done)),
        }
        self.frames += pieces.len();
        self.connection.tally().sent(pieces.len() as u64, self.buffer.len() - before);
    }

    /// Hands what is ready to the system, unless more is to come first.
    fn flush(&mut self, is_forced: bool) -> Result<(), End> {
        let merged = self.hindrances.kinds().filter_map(|kind| match kind {
            Writing::Merge(frames) => Some(frames),
            _ => None,
        });
        let least = merged.max().unwrap_or(0);
        if self.buffer.is_empty() || (self.frames < least && !is_forced) {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        self.frames = 0;
        let mut rest = &buffer[..];
        while !rest.is_empty() {
            let (part, later) = rest.split_at(self.room()?.min(rest.len()));
            self.connection.socket().write_all(part).map_err(|_| End::Gone)?;
            self.hindrances.spend(part.len());
            rest = later;
        }
        buffer.clear();
        self.buffer = buffer;
        Ok(())
    }

    /// Waits until something may be written, and says how much at a time.
    fn room(&mut self) -> Result<usize, End> {
        loop {
            match self.hindrances.room(self.connection.terms().clock.time()) {
                Ok(room) => {
                    let chunks = self.hindrances.kinds().filter_map(|kind| match kind {
                        Writing::Chunks(bytes) => Some(bytes.max(1)),
                        _ => None,
                    });
                    return Ok(chunks.min().unwrap_or(usize::MAX).min(room));
                }
                Err(obstacle) => self.wait_out(obstacle)?,
            }
        }
    }

    fn wait_while_stopped(&mut self) -> Result<(), End> {
        while let Some(stop) = self.hindrances.stop() {
            self.wait_out(stop)?;
        }
        Ok(())
    }

    fn wait_out(&self, obstacle: Obstacle) -> Result<(), End> {
        let is_over = self.connection.watch(obstacle, self.hub);
        match self.connection.outbox().wait_while_not_closed(|| !is_over()) {
            true => Ok(()),
            false => Err(End::Gone),
        }
    }
}

fn bytes(pieces: &[Piece]) -> impl Iterator<Item = u8> {
    pieces.iter().flat_map(|piece| piece.bytes.iter().copied())
}
