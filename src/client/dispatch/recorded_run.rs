//! A run of recorded messages for one handler: the handler is locked once, and one `catch_unwind` covers all of it.

use std::sync::Arc;

use super::recorded::can_be_recorded;
use super::{Clockwork, Dispatcher, Index, is_data};
use crate::callbacks::{MessageHandler, Origin, UnhandledError};
use crate::client::core::Core;
use crate::client::registry::{HandlerCell, contain};
use crate::error::{Error, HandlerError};
use crate::message::Message;
use crate::store::{BookmarkStore, Receipt};
use crate::wire::{Block, Entry, Field};

/// Why a message was not delivered, which ends the run.
enum Withheld {
    /// The application was done with it before.
    Duplicate,
    /// It could not be recorded.
    Refused(Error),
}

struct RecordedRun<'a> {
    core: &'a Core,
    store: &'a dyn BookmarkStore,
    /// The list of subscription ids that all messages of the run have.
    ids: &'a [u8],
    recipient: (u32, u32),
    generation: u64,
    /// It is the store that is at work, and not the handler.
    is_recording: bool,
}

impl Dispatcher {
    /// Records and delivers this message and those behind it that are for the same handler, up to the first that is not
    /// delivered.
    pub(super) fn run_recorded(
        &mut self,
        cell: &HandlerCell,
        store: &dyn BookmarkStore,
        recipient: (u32, u32),
        message: &mut Message,
        mut index: Index,
        clockwork: &mut Clockwork,
    ) -> Index {
        let block = Arc::clone(message.block());
        self.hand_over(&block, clockwork);
        if clockwork.is_stopped() {
            return index + 1;
        }
        let mut run = RecordedRun {
            core: &self.core,
            store,
            ids: &self.targets.ids,
            recipient,
            generation: self.targets.generation.unwrap_or_default(),
            is_recording: true,
        };
        let outcome = {
            let mut handler = cell.lock();
            contain(|| run.go(&mut **handler, message, &block, &mut index, clockwork))
        };
        let origin = if run.is_recording { Origin::BookmarkStore } else { Origin::MessageHandler };
        let failure = match outcome {
            Ok(None) => return index + 1,
            Ok(Some(Withheld::Duplicate)) => {
                self.duplicate(message, clockwork);
                return index + 1;
            }
            Ok(Some(Withheld::Refused(error))) => UnhandledError::new(error, origin),
            Err(failure) => failure.unhandled(origin),
        };
        self.core.registry.report(failure.with_id(message.sub_id()));
        index + 1
    }
}

impl RecordedRun<'_> {
    fn go(
        &mut self,
        handler: &mut dyn MessageHandler,
        message: &mut Message,
        block: &Block,
        index: &mut Index,
        clockwork: &mut Clockwork,
    ) -> Result<Option<Withheld>, HandlerError> {
        loop {
            message.deliver_to(self.recipient.0, self.recipient.1);
            self.is_recording = true;
            match self.store.receive(message) {
                Ok(Receipt::New(number)) => message.set_bookmark_seq(number),
                Ok(Receipt::Duplicate) => return Ok(Some(Withheld::Duplicate)),
                Err(error) => return Ok(Some(Withheld::Refused(error))),
            }
            self.is_recording = false;
            // What is recorded as delivered is delivered, also if the connection is ended just now.
            let start = clockwork.start_of_call();
            let outcome = handler.on_message(message);
            clockwork.end_of_call(start);
            outcome?;
            match block.entries().get(*index + 1) {
                Some(next) if !clockwork.is_stopped() && self.goes_on_with(block, *next) => {
                    *index += 1;
                    message.turn_to(*next);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Whether a message is for the same handler, and recorded too.
    #[inline]
    fn goes_on_with(&self, block: &Block, next: Entry) -> bool {
        is_data(block.command(next))
            && block.field(next, Field::SubIds) == Some(self.ids)
            && can_be_recorded(block, next)
            && self.core.routes.generation() == self.generation
    }
}
