//! Messages of queues that the client acknowledges by itself (`resilience.md` ).

use std::sync::Arc;

use super::{Clockwork, Dispatcher, Index};
use crate::callbacks::Origin;
use crate::client::queue::AckOption;
use crate::client::registry::HandlerCell;
use crate::client::sinks::Sink;
use crate::message::Message;
use crate::stream::StreamQueue;
use crate::wire::Field;

impl Dispatcher {
    /// True for a message that is to be acknowledged when it was delivered.
    #[inline]
    pub(super) fn is_leased(&self, message: &Message) -> bool {
        self.core.queue_acks.is_automatic() && message.bytes(Field::LeasePeriod).is_some()
    }

    /// Delivers a message. One that goes into a stream is acknowledged by its reader.
    #[cold]
    pub(super) fn deliver_leased(
        &mut self,
        message: &mut Message,
        index: Index,
        clockwork: &mut Clockwork,
    ) -> Index {
        let targets = std::mem::take(&mut self.targets.list);
        if targets.is_empty() {
            self.last_chance(message, clockwork);
        }
        for target in &targets {
            message.deliver_to(target.recipient.0, target.recipient.1);
            match self.current_sink(target, message).as_deref() {
                Some(Sink::Handler(cell)) => self.call_and_acknowledge(cell, message, clockwork),
                Some(Sink::Stream(queue)) => self.set_aside_leased(queue, index, message),
                None => self.last_chance(message, clockwork),
            }
        }
        self.targets.list = targets;
        index + 1
    }

    fn set_aside_leased(&mut self, queue: &Arc<StreamQueue>, index: Index, message: &Message) {
        self.set_aside(queue, index, 1, message.recipient(), 0);
        let mine = self.batches.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, queue));
        if let Some((_, messages)) = mine {
            messages.acknowledge_when_read();
        }
    }

    /// A message whose handler fails is given back at once, the others may be acknowledged together.
    fn call_and_acknowledge(&mut self, cell: &HandlerCell, message: &Message, clockwork: &mut Clockwork) {
        self.hand_over(message.block(), clockwork);
        if clockwork.is_stopped() {
            return;
        }
        let _delivery = self.core.queue_acks.delivery();
        let succeeded = self.invoke(cell, message, Origin::MessageHandler, clockwork);
        let topic = message.topic().unwrap_or_default();
        let bookmark = message.bookmark().unwrap_or_default();
        let outcome = match succeeded {
            true => self.core.acknowledge(topic, bookmark),
            false => self.core.settle(topic, bookmark, AckOption::Cancel, None),
        };
        self.core.report_ack(outcome, message.sub_id());
    }
}
