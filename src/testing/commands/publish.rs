//! `publish` and `delta_publish` (section 7).

use super::{Command, Who};
use crate::testing::entitlement::Action;
use crate::testing::frames::Ack;
use crate::testing::hub::Open;
use crate::testing::payload::PayloadType;
use crate::testing::refusal::Refusal;
use crate::testing::session::{Identity, SessionId};
use crate::testing::state::{Change, Publication};
use crate::testing::world::World;
use crate::wire::{AckType, CommandType, Field};

pub(super) fn publish(command: &Command<'_>, identity: &Who) -> Result<(), Refusal> {
    let topic = command.topic()?;
    let publication = Publication {
        payload_type: identity.payload_type,
        topic,
        payload: command.message.data(),
        is_delta: command.kind == CommandType::DeltaPublish,
        sow_key: command.text(Field::SowKey),
        correlation_id: command.text(Field::CorrelationId),
        lifetime: command.message.expiration(),
        user_id: if identity.shows_user { &identity.user_id } else { "" },
        client_name: &identity.client_name,
        instance: command.session().instance,
        sequence: command.sequence(),
        copied: None,
    };
    let publisher = Some((command.session(), &**identity));
    let mut turn = command.turn(|world| write_questions(world, publisher, identity.payload_type, topic))?;
    match turn.publish(&publication, publisher) {
        Err(Refusal::Duplicate) if command.forgives_duplicates(&turn) => {}
        outcome => drop(outcome?),
    }
    let now = turn.now;
    command.processed(now);
    command.ack(Ack { kind: AckType::COMPLETED, ..Ack::default() }, now);
    turn.acknowledge(command);
    Ok(())
}

/// Who publishes; the server itself may do so, and then nobody needs to be asked.
pub(crate) type Publisher<'a> = Option<(SessionId, &'a Identity)>;

/// The answers needed before a topic can change: the publisher's, and those of everybody who would see it.
pub(crate) fn write_questions(
    world: &World,
    publisher: Publisher<'_>,
    payload_type: PayloadType,
    topic: &str,
) -> Vec<Open> {
    let own = publisher.map(|(id, identity)| (id.instance, identity.question(Action::Write, topic)));
    let mut questions: Vec<_> = own.into_iter().collect();
    for (index, instance) in world.instances.iter().enumerate() {
        let covering = instance.subscriptions.covering(payload_type, topic);
        let readers = covering.into_iter().filter_map(|number| instance.subscriptions.get(number));
        questions.extend(readers.map(|subscription| (index, subscription.question(topic))));
    }
    questions
}

impl World {
    /// The steps of one publish, atomic with respect to everything else (U-1).
    pub(crate) fn publish(
        &mut self,
        publication: &Publication<'_>,
        publisher: Publisher<'_>,
    ) -> Result<Change, Refusal> {
        let verdict = publisher
            .map(|(id, identity)| self.verdict(id, &identity.question(Action::Write, publication.topic)));
        if verdict.as_ref().is_some_and(|verdict| verdict.is_deny()) {
            return Err(Refusal::NotEntitled);
        }
        if publication.sequence.is_some_and(|s| self.state.sequences.is_duplicate(publication.client_name, s))
        {
            return Err(Refusal::Duplicate);
        }
        let prepared = self.state.prepare(publication, self.now)?;
        if verdict.is_some_and(|verdict| !verdict.shows(&prepared.document())) {
            return Err(Refusal::NotEntitled);
        }
        let change = self.state.apply(prepared);
        self.write_down(&change, publication);
        self.announce(&change);
        Ok(change)
    }
}
