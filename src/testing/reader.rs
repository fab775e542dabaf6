//! The reading half of a connection: the place where frames enter.

use std::sync::Arc;

use super::LOG;
use super::commands;
use super::connection::{Connection, Flow};
use super::faults::{Alteration, Ending, Moment, Strike, What};
use super::frame::Frame;
use super::hub::Hub;
use crate::message::Message;
use crate::wire::block::HeaderReader;
use crate::wire::{Block, CommandType, Field};

/// Reads frames and has them carried out.
pub(crate) struct Reader<'a> {
    connection: &'a Arc<Connection>,
    hub: &'a Hub,
    /// A command that changes places with the one after it.
    swapped: Option<Message>,
}

/// What becomes of a command that a fault struck.
enum Fate {
    CarryOut,
    Twice,
    /// It is lost, or was dealt with already.
    Drop,
    /// It is carried out after the next one.
    Later,
    Unanswered(Strike),
}

const READ_SIZE: usize = 64 * 1024;
/// A receive buffer that grew beyond this is given back once the large frame in it is done with.
const LARGE_BUFFER: usize = 1 << 20;

impl<'a> Reader<'a> {
    pub(crate) fn new(connection: &'a Arc<Connection>, hub: &'a Hub) -> Reader<'a> {
        Reader { connection, hub, swapped: None }
    }

    /// Reads until the end of the stream, or until a command or a fault ends the conversation.
    pub(crate) fn run(&mut self) -> Flow {
        let mut block = Block::with_capacity(READ_SIZE);
        let mut scan = HeaderReader::default();
        let (mut filled, mut wanted) = (0, 0);
        loop {
            if filled == block.capacity() {
                // Grows with what really arrives, not with what a length claims.
                block.grow(filled * 2);
            }
            match self.read(block.space(filled)) {
                None => return Flow::Finish,
                Some(0) => return Flow::Continue,
                Some(length) => filled += length,
            }
            if filled >= wanted {
                self.connection.tally().set_unfinished(0);
                let original = self.original(&block, filled);
                let walk = block.walk(filled, self.connection.terms().frame_limit, &mut scan);
                let shared = Arc::new(block);
                if self.take_in(&shared, &original) == Flow::Finish {
                    return Flow::Finish;
                }
                if let Some(error) = walk.error {
                    log::error!(target: LOG, "{}: the connection is closed: {error}", self.connection.id);
                    return Flow::Continue;
                }
                wanted = walk.wanted;
                block = reusable(shared, walk.consumed, filled);
                filled -= walk.consumed;
            }
            self.connection.tally().set_unfinished(filled);
            self.connection.strike(&Moment::Received, self.hub);
        }
    }

    /// Waits until reading is allowed and there are bytes: how many, 0 at the end of the stream. `None` if the conversation
    /// is to end.
    fn read(&self, space: &mut [u8]) -> Option<usize> {
        let room = self.connection.reading_room(self.hub)?;
        let space = match space.len() > room {
            true => space.get_mut(..room).unwrap_or_default(),
            false => space,
        };
        let length = self.connection.socket().read(space).unwrap_or(0);
        self.connection.note_read(length);
        self.connection.wait_to_read(self.hub).then_some(length)
    }

    /// A copy of the bytes before they are decoded in place, if anybody wants one.
    fn original(&self, block: &Block, filled: usize) -> Vec<u8> {
        let terms = self.connection.terms();
        match block.bytes().get(..filled) {
            Some(bytes) if terms.recorder.keeps_frames() || terms.faults.may_strike() => bytes.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Hands on the frames of one read.
    fn take_in(&mut self, block: &Arc<Block>, original: &[u8]) -> Flow {
        let mut originals = Bodies { rest: original };
        for entry in block.entries().iter().filter(|entry| !entry.is_record()) {
            let message = Message::new(block.clone(), *entry);
            if self.enter(message, originals.next().unwrap_or_default()) == Flow::Finish {
                return Flow::Finish;
            }
        }
        Flow::Continue
    }

    /// The one place where frames enter.
    fn enter(&mut self, message: Message, original: &[u8]) -> Flow {
        let connection = self.connection;
        let size = message.entry().header_length() + message.data().len() + 4;
        let now = connection.terms().clock.time();
        connection.terms().recorder.received(connection.id.number, now, size, original);
        if message.command() == CommandType::Logon {
            connection.set_name(message.text(Field::ClientName).unwrap_or_default());
        }
        let flow = match connection.terms().faults.may_strike() || self.swapped.is_some() {
            true => self.enter_amid_faults(message, size, original),
            false => {
                connection.tally().received(size);
                self.carry_out(&message)
            }
        };
        if flow == Flow::Continue {
            connection.strike(&Moment::Received, self.hub);
        }
        flow
    }

    fn carry_out(&self, message: &Message) -> Flow {
        match self.connection.wait_to_read(self.hub) {
            true => commands::perform(self.hub, self.connection, message),
            false => Flow::Finish,
        }
    }

    fn enter_amid_faults(&mut self, message: Message, size: usize, original: &[u8]) -> Flow {
        let earlier = self.swapped.take();
        let fate = self.suffer(&message, size, original);
        // Before anybody can see an answer.
        self.connection.tally().received(size);
        let flow = match fate {
            Err(flow) => flow,
            Ok(Fate::Drop) => Flow::Continue,
            Ok(Fate::CarryOut) => self.carry_out(&message),
            Ok(Fate::Twice) => match self.carry_out(&message) {
                Flow::Continue => self.carry_out(&message),
                Flow::Finish => Flow::Finish,
            },
            Ok(Fate::Later) => {
                self.swapped = Some(message);
                Flow::Continue
            }
            Ok(Fate::Unanswered(strike)) => {
                if self.connection.wait_to_read(self.hub) {
                    self.connection.outbox().finish();
                    commands::perform(self.hub, self.connection, &message);
                    self.connection.terms().faults.note(&strike);
                }
                Flow::Finish
            }
        };
        match earlier {
            Some(earlier) if flow == Flow::Continue => self.carry_out(&earlier),
            _ => flow,
        }
    }

    /// Lets the faults strike that a frame brings about. `Err` if the frame is done with, and how to go on.
    fn suffer(&self, message: &Message, size: usize, original: &[u8]) -> Result<Fate, Flow> {
        // A fault that was armed after these bytes were read has come too late for them.
        let Ok(frame) = Frame::of_body(original) else { return Ok(Fate::CarryOut) };
        let faults = &self.connection.terms().faults;
        let moment = Moment::Receiving { frame: &frame, size };
        let mut fate = Fate::CarryOut;
        for strike in faults.strikes(self.connection, &moment) {
            match strike.what() {
                What::End(Ending::CloseUnanswered) => {
                    fate = Fate::Unanswered(strike);
                    continue;
                }
                What::Answer(answer) => {
                    faults.note(&strike);
                    return Err(commands::answer(self.hub, self.connection, message, answer));
                }
                What::Alter(Alteration::Delay) => {
                    let now = self.connection.terms().clock.time();
                    let effect = self.connection.begin(&strike, now, self.hub);
                    faults.note(&strike);
                    self.connection.outbox().wait_while_open(|| !effect.is_over());
                    continue;
                }
                What::Alter(Alteration::Swallow) => fate = Fate::Drop,
                What::Alter(Alteration::Repeat) => fate = Fate::Twice,
                What::Alter(Alteration::Swap) => fate = Fate::Later,
                What::Alter(Alteration::Insert(bytes)) => self.feed(bytes)?,
                What::Alter(Alteration::Replace(bytes)) => {
                    self.feed(bytes)?;
                    fate = Fate::Drop;
                }
                _ => self.connection.suffer(&strike, &moment, self.hub),
            }
            faults.note(&strike);
        }
        match self.connection.outbox().is_open() {
            true => Ok(fate),
            false => Err(Flow::Finish),
        }
    }

    /// Carries out what stands in these bytes, as if it had been received.
    fn feed(&self, bytes: &[u8]) -> Result<(), Flow> {
        let mut rest = bytes;
        loop {
            let (frame, used) = Frame::cut(rest).map_err(|error| {
                log::error!(target: LOG, "{}: the connection is closed: {error}", self.connection.id);
                Flow::Finish
            })?;
            let Some(frame) = frame else { return Ok(()) };
            if self.carry_out(frame.message()) == Flow::Finish {
                return Err(Flow::Finish);
            }
            rest = rest.get(used..).unwrap_or_default();
        }
    }
}

/// The block again, with its unread bytes in front; a fresh one if somebody still holds a message of it.
fn reusable(shared: Arc<Block>, consumed: usize, filled: usize) -> Block {
    match Arc::try_unwrap(shared) {
        Ok(mut block) if block.capacity() <= LARGE_BUFFER || consumed == 0 => {
            block.move_to_front(consumed..filled);
            block
        }
        Ok(block) => copy_of_rest(&block, consumed, filled),
        Err(shared) => copy_of_rest(&shared, consumed, filled),
    }
}

fn copy_of_rest(block: &Block, consumed: usize, filled: usize) -> Block {
    let mut fresh = Block::with_capacity(READ_SIZE);
    fresh.copy_to_front(block.bytes().get(consumed..filled).unwrap_or_default());
    fresh
}

/// The frames of a stream, without their length prefixes; empty ones are left out.
struct Bodies<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Bodies<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let length = u32::from_be_bytes(*self.rest.first_chunk()?) as usize;
            let body = self.rest.get(4..4 + length)?;
            self.rest = self.rest.get(4 + length..)?;
            if !body.is_empty() {
                return Some(body);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_cut_by_their_lengths_and_empty_ones_left_out() {
        let stream = b"\0\0\0\x01a\0\0\0\0\0\0\0\x02bc\0\0\0\x09d";
        assert_eq!(Bodies { rest: stream }.collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    }
}
