//! Delivers the messages of one read: to handlers at once, to streams in batches, to whoever waits for an answer.
//!
//! A run of messages with the same header bytes goes to the same place: its routes are looked up once, its handler is
//! locked once, and one `catch_unwind` covers it. Nothing is allocated, copied or counted per message on the way to a
//! handler.

mod leased;
mod recorded;
mod recorded_run;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::core::Core;
use super::receiver::Clockwork;
use super::registry::{Failure, Global, HandlerCell, contain};
use super::replays::SharedProgress;
use super::sinks::Sink;
use super::writes;
use crate::callbacks::{MessageHandler, Origin};
use crate::message::Message;
use crate::stream::{End, Selection, StreamQueue};
use crate::transport::IDLE_TICK;
use crate::wire::{AckType, Block, CommandType, Field, Status};

/// A stream that has been full for so long without being read is worth a line in the log.
const FULL_FOR_LONG: Duration = Duration::from_secs(1);

/// The delivering half of a receive thread.
pub(crate) struct Dispatcher {
    core: Arc<Core>,
    targets: Targets,
    /// Messages of this read on their way into streams.
    batches: Vec<(Arc<StreamQueue>, Selection)>,
    spare: Vec<Selection>,
    /// Room for the id of the query whose records are delivered.
    query_id: String,
}

/// Where messages with a certain list of subscription ids go, as of a certain state of the routing table.
#[derive(Default)]
struct Targets {
    generation: Option<u64>,
    ids: Vec<u8>,
    list: Vec<Target>,
}

#[derive(Clone)]
struct Target {
    sink: Option<Sink>,
    /// The part of `sids` that names the subscription; 0..0 if the id came as `sub_id`.
    recipient: (u32, u32),
    /// How far it has got, if that is not up to a store.
    progress: Option<SharedProgress>,
}

/// A position in the list of entries of a block.
type Index = usize;

impl Dispatcher {
    pub(crate) fn new(core: Arc<Core>) -> Dispatcher {
        let (targets, batches) = (Targets::default(), Vec::new());
        Dispatcher { core, targets, batches, spare: Vec::new(), query_id: String::new() }
    }

    /// Delivers every message of the block, unless the connection is ended on purpose meanwhile.
    pub(crate) fn deliver(&mut self, block: &Arc<Block>, clockwork: &mut Clockwork) {
        let Some(first) = block.entries().first() else { return };
        let mut message = Message::new(Arc::clone(block), *first);
        let mut next = 0;
        while let Some(entry) = block.entries().get(next) {
            if clockwork.is_stopped() {
                break;
            }
            message.turn_to(*entry);
            next = match message.command() {
                command if is_data(command) => self.data(&mut message, next, clockwork),
                CommandType::Sow => self.records(&mut message, next, clockwork),
                CommandType::Ack => self.acknowledgement(&message, next, clockwork),
                CommandType::GroupBegin | CommandType::GroupEnd => self.group(&message, next, clockwork),
                CommandType::Heartbeat => self.heartbeat(&message, next, clockwork),
                _ => self.other(&message, next, clockwork),
            };
        }
        self.hand_over(block, clockwork);
        self.core.link.flush();
    }

    /// Nothing came for a while: whatever was looked up may be out of date and must not be kept alive.
    pub(crate) fn idle(&mut self) {
        if self.targets.generation != Some(self.core.routes.generation()) {
            self.targets = Targets::default();
        }
    }

    /// Data for subscriptions: this message, and those behind it that are for the same.
    fn data(&mut self, message: &mut Message, index: Index, clockwork: &mut Clockwork) -> Index {
        self.look_up(message);
        if self.is_leased(message) {
            return self.deliver_leased(message, index, clockwork);
        }
        if self.is_recorded(message) {
            return self.deliver_recorded(message, index, clockwork);
        }
        match self.targets.list.as_slice() {
            [Target { sink: Some(Sink::Handler(cell)), recipient, .. }] => {
                let (cell, recipient) = (Arc::clone(cell), *recipient);
                self.hand_over(message.block(), clockwork);
                self.run_handler(&cell, message, index, recipient, clockwork)
            }
            [Target { sink: Some(Sink::Stream(queue)), recipient, .. }] => {
                let (queue, recipient) = (Arc::clone(queue), *recipient);
                self.run_stream(&queue, message.block(), index, recipient)
            }
            _ => self.deliver_to_each(message, index, clockwork),
        }
    }

    /// Finds out for whom a message is, unless that is known from the message before.
    fn look_up(&mut self, message: &Message) {
        let generation = self.core.routes.generation();
        let listed = message.bytes(Field::SubIds);
        let ids = listed.or_else(|| message.bytes(Field::SubId)).unwrap_or_default();
        if self.targets.generation == Some(generation) && self.targets.ids == ids {
            return;
        }
        self.targets.generation = Some(generation);
        self.targets.ids.clear();
        self.targets.ids.extend_from_slice(ids);
        self.targets.list.clear();
        let mut start = 0;
        for id in ids.split(|byte| *byte == b',') {
            let end = start + id.len() as u32;
            let recipient = if listed.is_some() { (start, end) } else { (0, 0) };
            if !id.is_empty() {
                // The reader of headers leaves nothing but UTF-8 behind.
                let id = std::str::from_utf8(id).unwrap_or_default();
                let (sink, progress) = (self.core.routes.sink(id), self.core.progress_of(id));
                self.targets.list.push(Target { sink, recipient, progress });
            }
            start = end + 1;
        }
    }

    /// Calls a handler with this message and with those behind it that have the same header.
    fn run_handler(
        &mut self,
        cell: &HandlerCell,
        message: &mut Message,
        mut index: Index,
        recipient: (u32, u32),
        clockwork: &mut Clockwork,
    ) -> Index {
        let block = Arc::clone(message.block());
        // As of the look-up: a route removed since then gets no more than this one call.
        let generation = self.targets.generation.unwrap_or_default();
        loop {
            message.deliver_to(recipient.0, recipient.1);
            let outcome = {
                let mut handler = cell.lock();
                let run = Run { core: &self.core, generation, recipient };
                run.call(&mut **handler, message, &block, &mut index, clockwork)
            };
            if let Err(failure) = outcome {
                let failure = failure.unhandled(Origin::MessageHandler).with_id(message.sub_id());
                self.core.registry.report(failure);
            }
            index += 1;
            match self.follower(&block, index, generation) {
                Some(entry) => message.turn_to(entry),
                None => return index,
            }
        }
    }

    /// The next entry, if it goes where the one before it went.
    fn follower(&self, block: &Block, index: Index, generation: u64) -> Option<crate::wire::Entry> {
        let entry = *block.entries().get(index)?;
        (entry.is_repeated() && self.core.routes.generation() == generation).then_some(entry)
    }

    /// Sets this message and its followers aside for a stream.
    fn run_stream(
        &mut self,
        queue: &Arc<StreamQueue>,
        block: &Arc<Block>,
        index: Index,
        recipient: (u32, u32),
    ) -> Index {
        let entries = block.entries().get(index..).unwrap_or_default();
        let followers = entries.iter().skip(1).take_while(|entry| entry.is_repeated()).count();
        self.set_aside(queue, index, followers + 1, recipient, 0);
        index + followers + 1
    }

    fn set_aside(
        &mut self,
        queue: &Arc<StreamQueue>,
        first: Index,
        count: usize,
        recipient: (u32, u32),
        number: u64,
    ) {
        match self.batches.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, queue)) {
            Some((_, messages)) => messages.add(first, count, recipient, number),
            None => {
                let mut messages = self.spare.pop().unwrap_or_default();
                messages.add(first, count, recipient, number);
                self.batches.push((Arc::clone(queue), messages));
            }
        }
    }

    /// One message for several subscriptions, or for one that is not there.
    fn deliver_to_each(&mut self, message: &mut Message, index: Index, clockwork: &mut Clockwork) -> Index {
        let targets = std::mem::take(&mut self.targets.list);
        if targets.is_empty() {
            self.last_chance(message, clockwork);
        }
        for target in &targets {
            message.deliver_to(target.recipient.0, target.recipient.1);
            match self.current_sink(target, message) {
                Some(sink) => self.one(&sink, message, index, clockwork),
                None => self.last_chance(message, clockwork),
            }
        }
        self.targets.list = targets;
        index + 1
    }

    /// Where a message goes: a handler before this one may have changed the routes.
    #[inline]
    fn current_sink<'t>(&self, target: &'t Target, message: &Message) -> Option<Cow<'t, Sink>> {
        if self.targets.generation == Some(self.core.routes.generation()) {
            return target.sink.as_ref().map(Cow::Borrowed);
        }
        message.sub_id().and_then(|id| self.core.routes.sink(id)).map(Cow::Owned)
    }

    /// The records of one frame of a query's result.
    fn records(&mut self, message: &mut Message, index: Index, clockwork: &mut Clockwork) -> Index {
        let block = Arc::clone(message.block());
        let behind = block.entries().get(index + 1..).unwrap_or_default();
        let count = behind.iter().take_while(|entry| entry.is_record()).count();
        let end = index + 1 + count;
        let mut id = std::mem::take(&mut self.query_id);
        id.clear();
        id.push_str(message.query_id().unwrap_or_default());
        self.records_of(&id, message, index + 1..end, clockwork);
        self.query_id = id;
        end
    }

    /// Delivers the records of a range. Those of a query that was cancelled are normal, and nobody's.
    fn records_of(
        &mut self,
        id: &str,
        message: &mut Message,
        mut range: std::ops::Range<Index>,
        clockwork: &mut Clockwork,
    ) {
        let block = Arc::clone(message.block());
        while !range.is_empty() && !clockwork.is_stopped() {
            let generation = self.core.routes.generation();
            match self.core.routes.sink(id) {
                Some(Sink::Stream(queue)) => {
                    return self.set_aside(&queue, range.start, range.len(), (0, 0), 0);
                }
                Some(Sink::Handler(cell)) => {
                    self.hand_over(&block, clockwork);
                    self.run_records(&cell, message, &mut range, generation, clockwork);
                }
                None => return,
            }
        }
    }

    /// Calls a handler with records, until there are no more, it fails, or the routes have changed.
    fn run_records(
        &mut self,
        cell: &HandlerCell,
        message: &mut Message,
        range: &mut std::ops::Range<Index>,
        generation: u64,
        clockwork: &mut Clockwork,
    ) {
        let block = Arc::clone(message.block());
        let outcome = {
            let mut handler = cell.lock();
            call_records(&self.core, &mut **handler, message, &block, range, generation, clockwork)
        };
        if let Err(failure) = outcome {
            let failure = failure.unhandled(Origin::MessageHandler).with_id(message.query_id());
            self.core.registry.report(failure);
        }
    }

    fn group(&mut self, message: &Message, index: Index, clockwork: &mut Clockwork) -> Index {
        let Some(id) = message.query_id() else { return index + 1 };
        let Some(sink) = self.core.routes.sink(id) else { return index + 1 };
        self.one(&sink, message, index, clockwork);
        if message.command() == CommandType::GroupEnd
            && let Some(done) = self.core.routes.group_end(id)
        {
            self.end(&done, message.block(), clockwork);
        }
        index + 1
    }

    fn acknowledgement(&mut self, message: &Message, index: Index, clockwork: &mut Clockwork) -> Index {
        let ack = message.ack_type();
        let refused = message.status() != Status::Success;
        let command = message.command_id();
        let ids = [command, message.query_id(), message.text(Field::SubId)];
        // Whoever waits for the acknowledgement may look for what came before it.
        self.hand_over(message.block(), clockwork);
        let mut taken = self.complete(message, ack, refused);
        // What a caller waits for answers a flush, not a write.
        if ack.intersects(AckType::PERSISTED) && (!taken || message.sequence().is_some()) {
            taken |= writes::persisted(&self.core, message);
        }
        if let Some(handler) = self.core.registry.global(Global::Ack) {
            self.call(&handler, message, Global::Ack.origin(), clockwork);
            taken = true;
        }
        let delivery =
            ids.into_iter().flatten().find_map(|id| self.core.routes.acknowledge(id, command, ack, refused));
        if let Some(delivery) = delivery {
            taken |= delivery.expected;
            if let Some(sink) = &delivery.sink {
                self.one(sink, message, index, clockwork);
            }
            if let Some(sink) = &delivery.ended {
                self.end(sink, message.block(), clockwork);
                taken = true;
            }
        }
        if !taken {
            self.last_chance(message, clockwork);
        }
        index + 1
    }

    /// Wakes the caller who waits for this acknowledgement. True if it answers a command that somebody waits for, also if
    /// the wait goes on: it was asked for by the library, and is nobody else's.
    fn complete(&self, message: &Message, ack: AckType, refused: bool) -> bool {
        let Some(id) = message.command_id() else { return false };
        let (waited_for, waiter) = {
            let mut acks = self.core.acks.lock();
            (acks.is_waiting(id), acks.complete(id, ack, refused))
        };
        if let Some(waiter) = waiter {
            waiter.fulfil(Ok(message.detach()));
        }
        waited_for
    }

    fn heartbeat(&mut self, message: &Message, index: Index, clockwork: &mut Clockwork) -> Index {
        if let Some(handler) = self.core.registry.global(Global::Heartbeat) {
            self.call(&handler, message, Global::Heartbeat.origin(), clockwork);
        }
        if !clockwork.answer() {
            self.last_chance(message, clockwork);
        }
        index + 1
    }

    fn other(&mut self, message: &Message, index: Index, clockwork: &mut Clockwork) -> Index {
        match message.command_id().and_then(|id| self.core.routes.sink(id)) {
            Some(sink) => self.one(&sink, message, index, clockwork),
            None => self.last_chance(message, clockwork),
        }
        index + 1
    }

    /// Delivers one message to one place.
    fn one(&mut self, sink: &Sink, message: &Message, index: Index, clockwork: &mut Clockwork) {
        match sink {
            Sink::Handler(cell) => self.call(cell, message, Origin::MessageHandler, clockwork),
            Sink::Stream(queue) => {
                self.set_aside(queue, index, 1, message.recipient(), 0);
            }
        }
    }

    fn last_chance(&mut self, message: &Message, clockwork: &mut Clockwork) {
        match self.core.registry.global(Global::LastChance) {
            Some(handler) => self.call(&handler, message, Global::LastChance.origin(), clockwork),
            None => log::debug!(target: "amps::route", "nobody takes {message:?}"),
        }
    }

    fn call(&mut self, cell: &HandlerCell, message: &Message, origin: Origin, clockwork: &mut Clockwork) {
        self.hand_over(message.block(), clockwork);
        if !clockwork.is_stopped() {
            self.invoke(cell, message, origin, clockwork);
        }
    }

    /// Calls a handler. False if it failed, which is reported.
    fn invoke(
        &self,
        cell: &HandlerCell,
        message: &Message,
        origin: Origin,
        clockwork: &mut Clockwork,
    ) -> bool {
        let start = clockwork.start_of_call();
        let outcome = contain(|| cell.lock().on_message(message));
        clockwork.end_of_call(start);
        let Err(failure) = outcome else { return true };
        let id = message.sub_id().or(message.query_id()).or(message.command_id());
        self.core.registry.report(failure.unhandled(origin).with_id(id));
        false
    }

    /// Ends a stream behind what is on its way into it.
    fn end(&mut self, sink: &Sink, block: &Arc<Block>, clockwork: &mut Clockwork) {
        if let Sink::Stream(queue) = sink {
            self.hand_over(block, clockwork);
            queue.finish(End::Complete);
        }
    }

    /// Puts what was set aside into its streams. A stream that is full is waited for, with the beats going on; the
    /// others get theirs first, since their readers may be who makes room.
    fn hand_over(&mut self, block: &Arc<Block>, clockwork: &mut Clockwork) {
        let (mut full_since, mut told) = (None, false);
        while !self.batches.is_empty() {
            let spare = &mut self.spare;
            self.batches.retain_mut(|(queue, messages)| {
                let left = !queue.offer(block, messages);
                if !left {
                    spare.push(std::mem::take(messages));
                }
                left
            });
            let Some((full, _)) = self.batches.first() else { return };
            if clockwork.is_stopped() {
                // What was read is delivered; it may be recorded as such. A stream that has ended takes nothing.
                return self.batches.drain(..).for_each(|(queue, mut rest)| queue.force(block, &mut rest));
            }
            clockwork.tick();
            let since = *full_since.get_or_insert_with(Instant::now);
            full.wait_for_room(IDLE_TICK);
            if !told && since.elapsed() >= FULL_FOR_LONG {
                told = true;
                warn_of_full(full);
            }
        }
    }
}

/// True for what comes for a subscription.
#[inline]
fn is_data(command: CommandType) -> bool {
    matches!(command, CommandType::Publish | CommandType::DeltaPublish | CommandType::Oof)
}

#[cold]
fn warn_of_full(queue: &StreamQueue) {
    let queued = queue.len();
    log::warn!(
        target: "amps::stream",
        "a stream of {queued} messages is full and not read: the connection stands still until it is"
    );
}

/// What a run of calls needs to know to go on.
struct Run<'a> {
    core: &'a Core,
    generation: u64,
    recipient: (u32, u32),
}

impl Run<'_> {
    /// Calls the handler with the message at `index` and its followers; stops at the first that fails.
    fn call(
        &self,
        handler: &mut dyn MessageHandler,
        message: &mut Message,
        block: &Block,
        index: &mut Index,
        clockwork: &mut Clockwork,
    ) -> Result<(), Failure> {
        let entries = block.entries();
        contain(|| {
            loop {
                let start = clockwork.start_of_call();
                let outcome = handler.on_message(message);
                clockwork.end_of_call(start);
                outcome?;
                let Some(next) = entries.get(*index + 1) else { return Ok(()) };
                if !next.is_repeated() || self.core.routes.generation() != self.generation {
                    return Ok(());
                }
                *index += 1;
                message.turn_to(*next);
                message.deliver_to(self.recipient.0, self.recipient.1);
            }
        })
    }
}

/// Calls the handler with the records of a range; what was delivered leaves the range, also if it fails.
fn call_records(
    core: &Core,
    handler: &mut dyn MessageHandler,
    message: &mut Message,
    block: &Block,
    range: &mut std::ops::Range<Index>,
    generation: u64,
    clockwork: &mut Clockwork,
) -> Result<(), Failure> {
    let entries = block.entries();
    contain(|| {
        while let Some(entry) = range.next().and_then(|index| entries.get(index)) {
            message.turn_to(*entry);
            let start = clockwork.start_of_call();
            let outcome = handler.on_message(message);
            clockwork.end_of_call(start);
            outcome?;
            if core.routes.generation() != generation {
                break;
            }
        }
        Ok(())
    })
}
