//! `sow_delete` (S-4, S-5).

use super::query::{read_filter, read_keys};
use super::selector::Selector;
use super::{Command, Who};
use crate::testing::clock::Time;
use crate::testing::entitlement::{Action, Verdict};
use crate::testing::frames::Ack;
use crate::testing::query::{Query, Selection};
use crate::testing::refusal::Refusal;
use crate::testing::state::{Cause, Place};
use crate::testing::world::World;
use crate::wire::{AckType, Field};

pub(super) fn sow_delete(command: &Command<'_>, identity: &Who) -> Result<(), Refusal> {
    let form = Form::read(command)?;
    let selector = Selector::read(command, &command.options()?)?;
    if !selector.is_literal() && !matches!(form, Form::Filter) {
        return Err(Refusal::RegexTopicNotSupported);
    }
    if matches!(form, Form::Bookmark) {
        return Err(Refusal::NotSupported);
    }
    let filter = read_filter(command)?;
    let id = command.session();
    // Whoever may see a record was asked about when it was published, or when he subscribed.
    let mut turn = command.turn(|world| world.questions_about(id, identity, Action::Write, &selector))?;
    turn.check_topic(id, identity, Action::Write, &selector)?;
    let topics = turn.sow_topics(id, identity, Action::Write, &selector);
    if topics.is_empty() && selector.is_literal() {
        return Err(Refusal::InvalidTopic);
    }
    if command.sequence().is_some_and(|s| turn.state.sequences.is_duplicate(&identity.client_name, s)) {
        return match command.forgives_duplicates(&turn) {
            true => {
                conclude(command, &Selection::default(), turn.now);
                turn.acknowledge(command);
                Ok(())
            }
            false => Err(Refusal::Duplicate),
        };
    }
    let sow_keys = match form {
        Form::Filter | Form::Bookmark => None,
        Form::Keys => read_keys(command)?,
        Form::Data => Some([turn.key_of(command, &topics)?].into()),
    };
    let selection = Query { filter, sow_keys, ..Query::default() }.select(&turn.state, &topics, |_| false);
    turn.delete(&selection);
    if let Some(sequence) = command.sequence() {
        turn.state.sequences.accept(&identity.client_name, sequence);
    }
    conclude(command, &selection, turn.now);
    turn.acknowledge(command);
    Ok(())
}

fn conclude(command: &Command<'_>, selection: &Selection, now: Time) {
    let query_id = command.message.query_id().unwrap_or_default();
    command.ack(Ack { kind: AckType::PROCESSED, query_id, ..Ack::default() }, now);
    command.ack(Ack { kind: AckType::COMPLETED, query_id, ..Ack::default() }, now);
    let counters = [
        (Field::RecordsDeleted, selection.found.len() as u64),
        (Field::TopicMatches, selection.topic_matches),
        (Field::Matches, selection.matches),
    ];
    command.ack(Ack { kind: AckType::STATS, query_id, counters: &counters, ..Ack::default() }, now);
}

/// How a delete says which records it means; exactly one of the four.
#[derive(Debug, Clone, Copy)]
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
            }
        }
    }
}
