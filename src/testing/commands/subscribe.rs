//! The four commands that place a subscription (sections 8.3 and 9).

use super::query::{Asked, Counts, read_filter};
use super::selector::Selector;
use super::{Command, Who};
use crate::testing::entitlement::Action;
use crate::testing::frames::Ack;
use crate::testing::options::Options;
use crate::testing::refusal::Refusal;
use crate::testing::subscriptions::{Subscription, SubscriptionText, Wants};
use crate::testing::world::World;
use crate::wire::{AckType, CommandType, Field};

pub(super) fn subscribe(command: &Command<'_>, identity: &Who) -> Result<(), Refusal> {
    let options = command.options()?;
    if options.pause || options.resume {
        return pause_or_resume(command);
    }
    let selector = Selector::read(command, &options)?;
    let filter = read_filter(command)?;
    let asked = match command.kind.is_query() {
        true => Some(Asked::read(command, &options, filter.clone())?),
        false => None,
    };
    let paginates = command.kind.is_query() && options.skip_n.is_some();
    if options.unsupported || paginates || command.message.bookmark().is_some() {
        return Err(Refusal::NotSupported);
    }
    if asked.is_some() {
        command.connection.outbox().wait_for_query_room();
    }
    let id = command.session();
    let mut turn =
        command.hub.lock_entitled(|world| world.questions_about(id, identity, Action::Read, &selector));
    turn.check_topic(id, identity, Action::Read, &selector)?;
    let sub_id = turn.name_subscription(command, &options)?;
    let topics = turn.sow_topics(id, identity, Action::Read, &selector);
    let subscription = Subscription {
        session: id,
        id: sub_id.clone(),
        identity: identity.clone(),
        filter,
        wants: wants(command.kind, &options),
        text: SubscriptionText {
            topic: selector.text.to_owned(),
            filter: command.text(Field::Filter).to_owned(),
            options: command.text(Field::Options).to_owned(),
        },
        topic: selector.pattern,
    };
    let now = turn.now;
    let selection = asked.as_ref().map(|asked| asked.query.select(&turn.state, &topics));
    let Some(instance) = turn.instance_mut(id) else { return Ok(()) };
    instance.subscriptions.insert(subscription);
    let query_id = if asked.is_some() { command.query_id() } else { "" };
    command.ack(Ack { kind: AckType::PROCESSED, sub_id: &sub_id, query_id, ..Ack::default() }, now);
    if let (Some(asked), Some(selection)) = (asked, selection) {
        let counts = Counts::of(&selection);
        asked.send(command, selection.found, now);
        counts.conclude(command, &sub_id, now);
    }
    Ok(())
}

/// Both are for bookmark subscriptions, of which there are none.
fn pause_or_resume(command: &Command<'_>) -> Result<(), Refusal> {
    if command.message.bookmark().is_some() {
        return Err(Refusal::NotSupported);
    }
    let id = command.session();
    let known = |sub_id| {
        let turn = command.hub.lock();
        turn.instance(id).is_some_and(|instance| instance.subscriptions.find(id, sub_id).is_some())
    };
    match command.message.sub_id() {
        Some(sub_id) if known(sub_id) => Err(Refusal::InvalidOptions),
        _ => Err(Refusal::InvalidSubId),
    }
}

fn wants(kind: CommandType, options: &Options) -> Wants {
    Wants {
        delta: matches!(kind, CommandType::DeltaSubscribe | CommandType::SowAndDeltaSubscribe),
        oof: options.oof,
        timestamp: options.timestamp,
        sow_key: !options.no_sowkey,
        send_keys: options.send_keys || !options.no_empties,
        no_empties: options.no_empties,
    }
}

impl World {
    /// The id of a new subscription: its own, the command's, or one made here (B-1).
    fn name_subscription(&self, command: &Command<'_>, options: &Options) -> Result<String, Refusal> {
        let Some(instance) = self.instance(command.session()) else { return Ok(String::new()) };
        let asked = command.message.sub_id().or(command.message.command_id());
        let Some(sub_id) = asked else {
            return Ok(format!("server-{}", instance.subscriptions.next_number()));
        };
        match instance.subscriptions.find(command.session(), sub_id) {
            Some(_) if !options.replace => Err(Refusal::SubIdInUse),
            _ => Ok(sub_id.to_owned()),
        }
    }
}
