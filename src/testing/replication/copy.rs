//! What happened elsewhere, done again here.

use super::{Copied, Item};
use crate::testing::journal::Mark;
use crate::testing::payload::PayloadType;
use crate::testing::replay::Progress;
use crate::testing::session::SessionId;
use crate::testing::state::{Cause, Change, Place, Publication};
use crate::testing::world::World;

/// A topic by its message type and its name.
pub(crate) type TopicName = (PayloadType, String);

impl World {
    /// Writes down a message for the others.
    pub(crate) fn write_down(&mut self, change: &Change, publication: &Publication<'_>) {
        let (Some(place), Some(record)) = (change.place, &change.new) else { return };
        let (true, Some(mark)) = (self.ledger.is_linked(), record.mark) else { return };
        self.ledger.add(Item::Message(Box::new(Copied {
            payload_type: publication.payload_type,
            topic: publication.topic.to_owned(),
            record: record.clone(),
            mark,
            lifetime: publication.lifetime,
            user_id: change.user_id.clone(),
            client_name: publication.client_name.to_owned(),
            sequence: publication.sequence,
            place,
            home: self.home,
        })));
    }

    /// Does what happened elsewhere.
    pub(super) fn copy(&mut self, item: &Item) {
        match item {
            Item::Message(message) => self.copy_message(message),
            Item::Used { client_name, sequence } => self.state.sequences.raise(client_name, *sequence),
            Item::Deleted { payload_type, topic, key } => {
                let place = self.state.place(*payload_type, topic);
                if let Some(change) = self.state.remove(place, key, Cause::Delete, self.now) {
                    self.announce(&change);
                }
            }
            Item::Settled { payload_type, topic, mark, is_acked } => {
                if let Place::Queue(queue) = self.state.place(*payload_type, topic) {
                    self.copy_settled(queue, *mark, *is_acked);
                }
            }
        }
    }

    /// A message that is here already, because its publisher has been here, is passed over.
    fn copy_message(&mut self, message: &Copied) {
        if self.state.journal.place_of(message.mark).is_some() {
            return;
        }
        let publication = Publication {
            sow_key: &message.record.key,
            correlation_id: &message.record.correlation_id,
            lifetime: message.lifetime,
            user_id: &message.user_id,
            client_name: &message.client_name,
            sequence: message.sequence,
            copied: Some((message.mark, message.home)),
            ..Publication::new(message.payload_type, &message.topic, &message.record.payload)
        };
        match self.state.prepare(&publication, self.now) {
            Ok(prepared) => {
                let change = self.state.apply(prepared);
                self.announce(&change);
            }
            // All instances are configured alike, so what one took the other takes.
            Err(refusal) => log::error!(target: crate::testing::LOG, "a copy is refused: {}", refusal.text()),
        }
    }

    /// All that are waited for have more than before: publishers and subscribers may be told.
    pub(super) fn confirmed(&mut self) {
        let sessions = self.sessions();
        for id in sessions {
            self.send_confirmed(id);
            self.wake_durable(id);
            self.wake_report(id);
        }
    }

    /// Subscriptions that wait for others to have a message go on.
    fn wake_durable(&mut self, id: SessionId) {
        let Some(instance) = self.instances.get_mut(id.instance) else { return };
        for number in instance.subscriptions.of_session(id) {
            let replay = instance.subscriptions.get(number).and_then(|subscription| subscription.replay());
            let waits = replay.filter(|replay| replay.is_fully_durable && replay.alarm.is_none());
            if let Some(Progress::Resting(place)) = waits.map(|replay| replay.progress) {
                instance.subscriptions.set_progress(number, Progress::Behind(place));
            }
        }
        self.pump(id);
    }

    fn sessions(&self) -> Vec<SessionId> {
        let all = self.instances.iter().flat_map(|instance| instance.sessions.values());
        all.map(|session| session.connection.id).collect()
    }

    /// The messages of all queues, each with the instance that delivers it.
    pub(super) fn queue_homes(&self) -> Vec<(TopicName, Mark, usize)> {
        let of_queue = |queue: &crate::testing::queue::Queue| {
            let name = (queue.topic.payload_type, queue.topic.name.clone());
            queue.homes().map(move |(mark, home)| (name.clone(), mark, home)).collect::<Vec<_>>()
        };
        self.state.queues().flat_map(of_queue).collect()
    }

    /// Has another instance deliver a message, if it is here.
    pub(super) fn move_queued(&mut self, topic: &TopicName, mark: Mark, home: usize) {
        let own = self.home;
        if let Place::Queue(index) = self.state.place(topic.0, &topic.1)
            && let Some(queue) = self.state.queue_mut(index)
        {
            queue.move_to(mark, home, own);
        }
    }

    /// Has one instance deliver what another one was to deliver.
    pub(super) fn inherit_queued(&mut self, from: usize, to: usize) {
        let own = self.home;
        for index in 0..self.state.queues().count() {
            let moved =
                self.state.queue_mut(index).map(|queue| queue.inherit(from, to, own)).unwrap_or_default();
            for number in moved {
                self.expire_queued(index, number);
                self.turn_cursors_back(index, number);
            }
            self.dispatch(index);
        }
    }
}
