//! Acknowledgements by consumers.

use std::sync::Arc;

use super::{Leasing, Queue, Queued};
use crate::testing::filter::Filter;
use crate::testing::journal::Mark;
use crate::testing::session::SessionId;
use crate::testing::world::World;

/// What a consumer says of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckTerms {
    /// They are dealt with.
    Done,
    /// Somebody else is to get them.
    Cancel,
    /// Nobody is to get them any more.
    Expire,
}

/// How many messages an acknowledgement was about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Acked {
    /// Messages looked at.
    pub(crate) compared: u64,
    pub(crate) matches: u64,
    /// Messages that left the queue, or returned to it.
    pub(crate) done: u64,
}

impl World {
    /// Acknowledges messages by their bookmarks; those that are not there are passed over.
    pub(crate) fn ack_marks(
        &mut self,
        queue: usize,
        marks: &[Mark],
        terms: AckTerms,
        by: SessionId,
    ) -> Acked {
        let Some(state) = self.state.queue(queue) else { return Acked::default() };
        let numbers = marks.iter().filter_map(|mark| state.numbers.get(mark).copied()).collect();
        self.settle_messages(queue, marks.len(), numbers, terms, by)
    }

    /// Acknowledges every message that matches a filter.
    pub(crate) fn ack_matching(
        &mut self,
        queue: usize,
        filter: Option<&Arc<Filter>>,
        terms: AckTerms,
        by: SessionId,
    ) -> Acked {
        let Some(state) = self.state.queue(queue) else { return Acked::default() };
        let fits = |message: &Queued| {
            filter.is_none_or(|filter| filter.matches(&message.record.document(state.topic.payload_type)))
        };
        let all = state.messages.iter().filter(|(_, message)| fits(message));
        let numbers = all.map(|(number, _)| *number).collect();
        self.settle_messages(queue, state.messages.len(), numbers, terms, by)
    }

    fn settle_messages(
        &mut self,
        queue: usize,
        compared: usize,
        numbers: Vec<u64>,
        terms: AckTerms,
        by: SessionId,
    ) -> Acked {
        let mut acked = Acked { compared: compared as u64, matches: numbers.len() as u64, done: 0 };
        for number in numbers {
            let may = self.state.queue(queue).is_some_and(|queue| queue.may_settle(number, by));
            if may && self.settle_message(queue, number, terms) {
                acked.done += 1;
            }
        }
        self.dispatch(queue);
        acked
    }

    fn settle_message(&mut self, queue: usize, number: u64, terms: AckTerms) -> bool {
        match terms {
            AckTerms::Expire => self.finish(queue, number, false),
            AckTerms::Cancel => self.cancel(queue, number),
            AckTerms::Done => self.finish(queue, number, true),
        }
    }

    /// Gives a message back that somebody has; false if nobody has.
    fn cancel(&mut self, queue: usize, number: u64) -> bool {
        let message = self.state.queue_mut(queue).and_then(|queue| queue.messages.get_mut(&number));
        let Some(message) = message.filter(|message| message.lease.is_some()) else { return false };
        message.cancels = message.cancels.saturating_add(1);
        self.take_back(queue, number);
        true
    }
}

impl Queue {
    /// Whether a connection may say anything of a message.
    fn may_settle(&self, number: u64, by: SessionId) -> bool {
        let lease = self.messages.get(&number).and_then(|message| message.lease.as_ref());
        self.rules.leasing == Leasing::Sublet || lease.is_none_or(|lease| lease.holder.session == by)
    }
}
