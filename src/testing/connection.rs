//! One accepted connection: its reader and its writer thread, and the place where frames enter and leave.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::LOG;
use super::clock::{Clock, Time};
use super::frames::Outgoing;
use super::hub::Hub;
use super::listener::MessageTypes;
use super::outbox::{Outbox, Overrun};
use super::query::Results;
use super::recorder::Recorder;
use super::session::SessionId;
use super::socket::Socket;
use crate::message::Message;
use crate::wire::Block;
use crate::wire::block::HeaderReader;

/// What the rest of the server knows of a connection: where to put frames, and how to end it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) peer: String,
    /// What the listener that accepted it allows.
    message_types: MessageTypes,
    socket: Socket,
    outbox: Outbox,
    recorder: Arc<Recorder>,
    clock: Clock,
    frame_limit: u32,
}

/// What is the same for all connections of a server.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) queue_limit: usize,
    pub(crate) frame_limit: u32,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) clock: Clock,
}

/// Whether a connection goes on after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// Write what is queued, then close.
    Finish,
}

/// How long a peer has to read the last frames and to close after the server is done with it.
const LINGER: Duration = Duration::from_millis(500);
const READ_SIZE: usize = 64 * 1024;
/// A receive buffer that grew beyond this is given back once the large frame in it is done with.
const LARGE_BUFFER: usize = 1 << 20;

impl Connection {
    pub(crate) fn new(id: SessionId, socket: Socket, types: MessageTypes, terms: &Terms) -> Connection {
        Connection {
            id,
            peer: socket.peer(),
            message_types: types,
            socket,
            outbox: Outbox::new(terms.queue_limit),
            recorder: terms.recorder.clone(),
            clock: terms.clock.clone(),
            frame_limit: terms.frame_limit,
        }
    }

    /// Queues a frame for writing. A connection that has fallen too far behind is closed instead (Z-1).
    pub(crate) fn send(&self, frame: Outgoing, now: Time) {
        if self.outbox.push(frame, now) == Err(Overrun) {
            self.close_slow();
        }
    }

    /// Queues the records of a query.
    pub(crate) fn send_results(&self, results: Results) {
        self.outbox.push_results(results);
    }

    pub(crate) fn message_types(&self) -> &MessageTypes {
        &self.message_types
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Closes at once. Both threads end; the reader then takes the session away.
    pub(crate) fn close(&self) {
        self.outbox.close();
        self.socket.close();
    }

    pub(crate) fn close_slow(&self) {
        log::warn!(target: LOG, "{}: slow client, the connection is closed", self.id);
        self.recorder.count(|counters| counters.slow_clients += 1);
        self.close();
    }

    /// Runs the conversation until one side ends it; the body of the reader thread.
    pub(crate) fn serve(self: &Arc<Connection>, hub: &Hub) {
        let writer = self.clone();
        let name = format!("amps-server-tx-{}", self.id.number);
        let writer = thread::Builder::new().name(name).spawn(move || writer.write());
        let flow = match &writer {
            Ok(_) => self.read(hub),
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

    /// Reads until the end of the stream, or until a command ends the conversation.
    fn read(&self, hub: &Hub) -> Flow {
        let mut block = Block::with_capacity(READ_SIZE);
        let mut scan = HeaderReader::default();
        let (mut filled, mut wanted) = (0, 0);
        loop {
            if filled == block.capacity() {
                // Grows with what really arrives, not with what a length claims.
                block.grow(filled * 2);
            }
            match self.socket.read(block.space(filled)) {
                Ok(0) | Err(_) => return Flow::Continue,
                Ok(length) => filled += length,
            }
            if filled < wanted {
                continue;
            }
            let original = self.original(&block, filled);
            let walk = block.walk(filled, self.frame_limit, &mut scan);
            let shared = Arc::new(block);
            if self.take_in(&shared, &original, hub) == Flow::Finish {
                return Flow::Finish;
            }
            if let Some(error) = walk.error {
                log::error!(target: LOG, "{}: the connection is closed: {error}", self.id);
                return Flow::Continue;
            }
            wanted = walk.wanted;
            block = reusable(shared, walk.consumed, filled);
            filled -= walk.consumed;
        }
    }

    /// A copy of the bytes before they are decoded in place, if the record wants one.
    fn original(&self, block: &Block, filled: usize) -> Vec<u8> {
        match block.bytes().get(..filled) {
            Some(bytes) if self.recorder.keeps_frames() => bytes.to_vec(),
            _ => Vec::new(),
        }
    }

    /// Hands on the frames of one read.
    fn take_in(&self, block: &Arc<Block>, original: &[u8], hub: &Hub) -> Flow {
        let mut originals = Bodies { rest: original };
        for entry in block.entries().iter().filter(|entry| !entry.is_record()) {
            let message = Message::new(block.clone(), *entry);
            if self.enter(message, originals.next().unwrap_or_default(), hub) == Flow::Finish {
                return Flow::Finish;
            }
        }
        Flow::Continue
    }

    /// The one place where frames enter.
    fn enter(&self, message: Message, original: &[u8], hub: &Hub) -> Flow {
        let size = message.entry().header_length() + message.data().len() + 4;
        self.recorder.received(self.id.number, self.clock.time(), size, original);
        hub.receive(self, &message)
    }

    /// Writes until the outbox ends; the body of the writer thread.
    fn write(&self) {
        let mut bytes = Vec::new();
        while let Some(frames) = self.outbox.next() {
            bytes.clear();
            frames.iter().for_each(|frame| self.leave(frame, &mut bytes));
            if self.socket.write_all(&bytes).is_err() {
                return self.close();
            }
        }
        // A close with unread input would make the peer lose what it was sent last.
        self.socket.finish_writing();
        self.outbox.wait_closed(LINGER);
        self.close();
    }

    /// The one place where frames leave.
    fn leave(&self, frame: &Outgoing, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&frame.bytes);
        let body = frame.bytes.get(4..).unwrap_or_default();
        self.recorder.sent(self.id.number, self.clock.time(), body, frame.ack);
    }

    /// Reads and forgets until the peer closes or the writer has waited long enough.
    fn drain(&self) {
        let mut scratch = [0; 4096];
        while matches!(self.socket.read(&mut scratch), Ok(1..)) {}
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
