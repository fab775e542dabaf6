//! Messages of bookmark subscriptions: each is recorded before it is delivered (`resilience.md` 5.3).

use std::sync::Arc;

use super::{Clockwork, Dispatcher, Global, Index, Target};
use crate::callbacks::Origin;
use crate::client::core::Core;
use crate::client::registry::ask;
use crate::client::sinks::Sink;
use crate::message::Message;
use crate::store::{BookmarkStore, Receipt};
use crate::wire::{Block, Entry, Field};

/// What was found out about a message before its delivery.
enum Admission {
    /// It is delivered, under this number of the store; 0 if there is none.
    Deliver(u64),
    Duplicate,
    /// It could not be recorded.
    Refused,
}

impl Dispatcher {
    /// True for a message whose delivery is recorded. Queue messages never are (BS-8).
    #[inline]
    pub(super) fn is_recorded(&self, message: &Message) -> bool {
        let somewhere = self.core.config.bookmark_store.is_some()
            || self.targets.list.iter().any(|target| target.progress.is_some());
        somewhere && can_be_recorded(message.block(), message.entry())
    }

    /// Records a message for each of its subscriptions and delivers it there.
    pub(super) fn deliver_recorded(
        &mut self,
        message: &mut Message,
        index: Index,
        clockwork: &mut Clockwork,
    ) -> Index {
        if let [Target { sink: Some(Sink::Handler(cell)), recipient, .. }] = self.targets.list.as_slice()
            && let Some(store) = self.core.config.bookmark_store.clone()
        {
            let (cell, recipient) = (Arc::clone(cell), *recipient);
            return self.run_recorded(&cell, &*store, recipient, message, index, clockwork);
        }
        let targets = std::mem::take(&mut self.targets.list);
        for target in &targets {
            message.deliver_to(target.recipient.0, target.recipient.1);
            match self.current_sink(target, message) {
                Some(sink) => self.record_and_deliver(&sink, target, message, index, clockwork),
                None => self.last_chance(message, clockwork),
            }
        }
        self.targets.list = targets;
        index + 1
    }

    fn record_and_deliver(
        &mut self,
        sink: &Sink,
        target: &Target,
        message: &mut Message,
        index: Index,
        clockwork: &mut Clockwork,
    ) {
        if matches!(sink, Sink::Handler(_)) {
            self.hand_over(message.block(), clockwork);
        }
        if clockwork.is_stopped() {
            return;
        }
        match admit(&self.core, target, message) {
            Admission::Deliver(number) => {
                message.set_bookmark_seq(number);
                match sink {
                    // What is recorded as delivered is delivered, also if the connection is ended just now.
                    Sink::Handler(cell) => _ = self.invoke(cell, message, Origin::MessageHandler, clockwork),
                    Sink::Stream(queue) => self.set_aside(queue, index, 1, message.recipient(), number),
                }
                message.set_bookmark_seq(0);
            }
            Admission::Duplicate => self.duplicate(message, clockwork),
            Admission::Refused => {}
        }
    }

    /// A message that the application was done with before.
    pub(super) fn duplicate(&mut self, message: &Message, clockwork: &mut Clockwork) {
        if let Some(handler) = self.core.registry.global(Global::Duplicate) {
            self.call(&handler, message, Global::Duplicate.origin(), clockwork);
        }
    }
}

/// True for a message with a bookmark that is from no queue.
#[inline]
pub(super) fn can_be_recorded(block: &Block, entry: Entry) -> bool {
    block.field(entry, Field::Bookmark).is_some() && block.field(entry, Field::LeasePeriod).is_none()
}

/// Records a message, and finds out whether the application was done with it before (M-10, M-11).
fn admit(core: &Core, target: &Target, message: &Message) -> Admission {
    let Some(store) = &core.config.bookmark_store else {
        if let Some(progress) = &target.progress {
            progress.lock().delivered(message.bytes(Field::Bookmark).unwrap_or_default());
        }
        return Admission::Deliver(0);
    };
    match ask(Origin::BookmarkStore, || store.receive(message)) {
        Ok(Receipt::New(number)) => Admission::Deliver(number),
        Ok(Receipt::Duplicate) => Admission::Duplicate,
        Err(failure) => {
            core.registry.report(failure.with_id(message.sub_id()));
            Admission::Refused
        }
    }
}
