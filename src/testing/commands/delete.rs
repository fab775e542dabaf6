//! `sow_delete` (S-4, S-5, Q-5).

use super::ack::{read_marks, read_terms};
use super::query::{read_filter, read_keys};
use super::selector::Selector;
use super::{Command, Who};
use crate::testing::entitlement::{Action, Verdict};
use crate::testing::frames::Ack;
use crate::testing::hub::Turn;
use crate::testing::options::Options;
use crate::testing::query::{Query, Selection};
use crate::testing::queue::Acked;
use crate::testing::refusal::Refusal;
use crate::testing::replication::Item;
use crate::testing::state::{Cause, Change, Place};
use crate::testing::world::World;
use crate::wire::{AckType, Field};

pub(super) fn sow_delete(command: &Command<'_>, identity: &Who) -> Result<(), Refusal> {
    let form = Form::read(command)?;
    let options = command.options()?;
    let selector = Selector::read(command, &options)?;
    if !selector.is_literal() && form != Form::Filter {
        return Err(Refusal::RegexTopicNotSupported);
    }
    let id = command.session();
    // Whoever may see a record was asked about when it was published, or when he subscribed. Those who get messages from
    // a queue may acknowledge them.
    let action = if form == Form::Bookmark { Action::Read } else { Action::Write };
    let mut turn = command.turn(|world| world.questions_about(id, identity, action, &selector))?;
    turn.check_topic(id, identity, action, &selector)?;
    let queue = turn.queue_of(identity, &selector);
    let topics = turn.sow_topics(id, identity, action, &selector);
    if queue.is_none() && topics.is_empty() && selector.is_literal() {
        return Err(Refusal::InvalidTopic);
    }
    if command.sequence().is_some_and(|s| turn.state.sequences.is_duplicate(&identity.client_name, s)) {
        let forgiven = if command.forgives_duplicates(&turn) { Ok(()) } else { Err(Refusal::Duplicate) };
        forgiven?;
        conclude(command, Counts::default(), &mut turn);
        return Ok(());
    }
    let counts = match queue {
        Some(queue) => turn.acknowledge_messages(command, &options, queue, form)?,
        None => turn.delete_records(command, &topics, form)?,
    };
    if let Some(sequence) = command.sequence() {
        turn.state.sequences.raise(&identity.client_name, sequence);
        let client_name = identity.client_name.clone();
        turn.ledger.add(Item::Used { client_name, sequence });
    }
    conclude(command, counts, &mut turn);
    Ok(())
}

fn conclude(command: &Command<'_>, counts: Counts, turn: &mut Turn<'_>) {
    let now = turn.now;
    let query_id = command.message.query_id().unwrap_or_default();
    command.ack(Ack { kind: AckType::PROCESSED, query_id, ..Ack::default() }, now);
    command.ack(Ack { kind: AckType::COMPLETED, query_id, ..Ack::default() }, now);
    let counters = [
        (Field::RecordsDeleted, counts.deleted),
        (Field::TopicMatches, counts.compared),
        (Field::Matches, counts.matches),
    ];
    command.ack(Ack { kind: AckType::STATS, query_id, counters: &counters, ..Ack::default() }, now);
    turn.acknowledge(command);
}

/// The counters of a `stats` acknowledgement.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    compared: u64,
    matches: u64,
    deleted: u64,
}

impl From<&Selection> for Counts {
    fn from(selection: &Selection) -> Counts {
        let Selection { found, matches, topic_matches } = selection;
        Counts { compared: *topic_matches, matches: *matches, deleted: found.len() as u64 }
    }
}

impl From<Acked> for Counts {
    fn from(acked: Acked) -> Counts {
        Counts { compared: acked.compared, matches: acked.matches, deleted: acked.done }
    }
}

/// How a delete says which records it means; exactly one of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Filter,
    Keys,
    Data,
    /// Queue messages.
    Bookmark,
}

impl Form {
    fn read(command: &Command<'_>) -> Result<Form, Refusal> {
        let message = command.message;
        let given = [
            message.filter().map(|_| Form::Filter),
            message.sow_keys().map(|_| Form::Keys),
            message.bookmark().map(|_| Form::Bookmark),
            (!message.data().is_empty()).then_some(Form::Data),
        ];
        let mut given = given.into_iter().flatten();
        match (given.next(), given.next()) {
            (None, _) => Err(Refusal::NoTopicOrFilter),
            (Some(_), Some(_)) => Err(Refusal::SowDeleteSelectors),
            (Some(form), None) => Ok(form),
        }
    }
}

impl World {
    /// Does with the messages of a queue what a consumer says.
    fn acknowledge_messages(
        &mut self,
        command: &Command<'_>,
        options: &Options,
        queue: usize,
        form: Form,
    ) -> Result<Counts, Refusal> {
        let (terms, by) = (read_terms(options)?, command.session());
        let acked = match form {
            Form::Bookmark => self.ack_marks(queue, &read_marks(command)?, terms, by),
            Form::Filter => self.ack_matching(queue, read_filter(command)?.as_ref(), terms, by),
            Form::Keys | Form::Data => return Err(Refusal::NotSupported),
        };
        Ok(acked.into())
    }

    fn delete_records(
        &mut self,
        command: &Command<'_>,
        topics: &[(Place, Verdict)],
        form: Form,
    ) -> Result<Counts, Refusal> {
        let filter = read_filter(command)?;
        let sow_keys = match form {
            Form::Filter => None,
            Form::Keys => read_keys(command)?,
            Form::Data => Some([self.key_of(command, topics)?].into()),
            Form::Bookmark => return Err(Refusal::NotSupported),
        };
        let query = Query { filter, sow_keys, ..Query::default() };
        let selection = query.select(&self.state, topics, |_| false);
        self.delete(&selection);
        Ok(Counts::from(&selection))
    }

    /// The key of the record that a publish of this command's payload would hit.
    fn key_of(&self, command: &Command<'_>, topics: &[(Place, Verdict)]) -> Result<String, Refusal> {
        let sow =
            topics.first().and_then(|(place, _)| self.state.sow(*place)).ok_or(Refusal::InvalidTopic)?;
        sow.key_of(command.message.data(), command.text(Field::SowKey))
    }

    /// Removes the records found, in their order, and tells everybody who saw them.
    pub(crate) fn delete(&mut self, selection: &Selection) {
        for found in &selection.found {
            let place = self.state.place(found.topic.payload_type, &found.topic.name);
            if let Some(change) = self.state.remove(place, &found.record.key, Cause::Delete, self.now) {
                self.announce(&change);
                self.write_down_delete(&change);
            }
        }
    }

    fn write_down_delete(&mut self, change: &Change) {
        let (topic, old) = (&change.topic, &change.old);
        if let (true, Some(old)) = (topic.is_journaled, old) {
            let (payload_type, key) = (topic.payload_type, old.key.clone());
            self.ledger.add(Item::Deleted { payload_type, topic: topic.name.clone(), key });
        }
    }
}
