//! The four commands that place a subscription (sections 8.3 and 9).

use std::sync::Arc;

use super::query::{Asked, Counts, read_filter};
use super::replay;
use super::selector::Selector;
use super::{Command, Who};
use crate::testing::conflation::Conflation;
use crate::testing::entitlement::{Action, Verdict};
use crate::testing::filter::Filter;
use crate::testing::frames::{Ack, Delivery, Outgoing};
use crate::testing::options::Options;
use crate::testing::payload::Document;
use crate::testing::query::{Found, Query, Selection};
use crate::testing::queue::Holder;
use crate::testing::refusal::Refusal;
use crate::testing::state::Place;
use crate::testing::subscriptions::{Feed, Subscription, SubscriptionText, Wants};
use crate::testing::world::World;
use crate::wire::{AckType, CommandType, Field};

pub(super) fn subscribe(command: &Command<'_>, identity: &Who) -> Result<(), Refusal> {
    let options = command.options()?;
    if replay::is_steering(command, &options) {
        return replay::steer(command, &options);
    }
    let asked = Placement::read(command, identity, options)?;
    if asked.query.is_some() {
        command.connection.outbox().wait_for_query_room();
    }
    let id = command.session();
    let mut turn = command.turn(|world| {
        let mut questions = world.questions_about(id, identity, Action::Read, &asked.selector);
        questions.extend(world.questions_about_journal(command, identity, &asked.selector));
        questions
    })?;
    turn.place_subscription(command, asked)
}

/// A subscription as its command states it.
pub(super) struct Placement<'a> {
    pub(super) identity: &'a Who,
    pub(super) selector: Selector<'a>,
    filter: Option<Arc<Filter>>,
    pub(super) options: Options,
    wants: Wants,
    query: Option<Asked>,
}

impl<'a> Placement<'a> {
    fn read(command: &Command<'a>, identity: &'a Who, options: Options) -> Result<Placement<'a>, Refusal> {
        let selector = Selector::read(command, &options)?;
        let filter = read_filter(command)?;
        let is_query = command.kind.is_query();
        let query = match is_query {
            true => Some(Asked::read(command, &options, filter.clone())?),
            false => None,
        };
        let paginates = is_query && options.skip_n.is_some();
        if options.unsupported || paginates {
            return Err(Refusal::NotSupported);
        }
        let mut wants = wants(command.kind, &options);
        if command.message.bookmark().is_some() {
            replay::check(command, &options)?;
            wants.oof = false;
        }
        Ok(Placement { identity, selector, filter, options, wants, query })
    }

    fn subscription(
        self,
        command: &Command<'_>,
        id: String,
        conflation: Option<Conflation>,
        feed: Feed,
    ) -> Subscription {
        Subscription {
            session: command.session(),
            id,
            identity: self.identity.clone(),
            filter: self.filter,
            wants: self.wants,
            conflation,
            feed,
            text: SubscriptionText {
                topic: self.selector.text.to_owned(),
                filter: command.text(Field::Filter).to_owned(),
                options: command.text(Field::Options).to_owned(),
            },
            topic: self.selector.pattern,
        }
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
        bookmark: options.bookmark,
    }
}

/// The answers to a query part, worked out before anything is changed.
struct Answers {
    selection: Selection,
    /// Records that the subscription before this one showed and that this one does not (S-13).
    leaving: Vec<Found>,
}

impl World {
    /// Places or replaces a subscription and runs the query that belongs to it, at one point in the order of all
    /// changes (B-3, S-12).
    fn place_subscription(&mut self, command: &Command<'_>, mut asked: Placement<'_>) -> Result<(), Refusal> {
        let id = command.session();
        self.check_topic(id, asked.identity, Action::Read, &asked.selector)?;
        let sub_id = self.name_subscription(command, &asked.options)?;
        let topics = self.sow_topics(id, asked.identity, Action::Read, &asked.selector);
        let mut conflation = self.conflation(&asked, &topics)?;
        let feed = self.feed(command, &asked)?;
        let backlog = feed.backlog();
        let query = asked.query.take();
        let answers =
            query.as_ref().map(|query| self.answers(command, &asked, &query.query, &topics, &sub_id));
        if let (Some(conflation), Some(answers)) = (&mut conflation, &answers) {
            for found in &answers.selection.found {
                conflation.note_received(&found.topic, &found.record.key, &found.record.payload);
            }
        }
        let wants = asked.wants;
        self.put_subscription(asked.subscription(command, sub_id.clone(), conflation, feed));
        let backlog = backlog.map(|backlog| format!("max_backlog={backlog}")).unwrap_or_default();
        let query_id = if query.is_some() { command.query_id() } else { "" };
        let processed = Ack { kind: AckType::PROCESSED, sub_id: &sub_id, query_id, ..Ack::default() };
        command.ack(Ack { options: &backlog, ..processed }, self.now);
        if let (Some(query), Some(answers)) = (query, answers) {
            let counts = Counts::of(&answers.selection);
            query.send(command, answers.selection.found, self.now);
            for found in &answers.leaving {
                command.connection.send(out_of_focus(found, &sub_id, wants, self), self.now);
            }
            counts.conclude(command, &sub_id, self.now);
        }
        self.begin(command, &sub_id);
        Ok(())
    }

    /// The id of a new subscription: its own, the command's, or one made here (B-1).
    fn name_subscription(&self, command: &Command<'_>, options: &Options) -> Result<String, Refusal> {
        let Some(instance) = self.instance(command.session()) else { return Ok(String::new()) };
        let Some(sub_id) = command.message.sub_id().or(command.message.command_id()) else {
            return Ok(format!("server-{}", instance.subscriptions.next_number()));
        };
        match instance.subscriptions.find(command.session(), sub_id) {
            Some(_) if !options.replace => Err(Refusal::SubIdInUse),
            // A plain subscription does not become one with a bookmark, nor the other way round (B-3).
            Some(old) if old.is_bookmark() != command.message.bookmark().is_some() => {
                Err(Refusal::InvalidOptions)
            }
            _ => Ok(sub_id.to_owned()),
        }
    }

    /// What the conflation options come to on these topics (B-11).
    fn conflation(
        &mut self,
        asked: &Placement<'_>,
        topics: &[(Place, Verdict)],
    ) -> Result<Option<Conflation>, Refusal> {
        let Some(interval) = asked.options.conflation else { return Ok(None) };
        if self.queue_of(asked.identity, &asked.selector).is_some() {
            return Ok(None);
        }
        let key = asked.options.conflation_key.clone();
        if asked.selector.is_literal() {
            let sow = topics.first().and_then(|(place, _)| self.state.sow(*place));
            let fits = match (sow, &key) {
                (None, key) => key.is_some(),
                (Some(_), None) => true,
                (Some(sow), Some(key)) => !asked.wants.oof || key == sow.topic.keys(),
            };
            if !fits {
                return Err(Refusal::InvalidOptions);
            }
        }
        Ok(Some(Conflation::new(interval, key, asked.wants.oof)))
    }

    fn answers(
        &self,
        command: &Command<'_>,
        asked: &Placement<'_>,
        query: &Query,
        topics: &[(Place, Verdict)],
        sub_id: &str,
    ) -> Answers {
        let id = command.session();
        let old = self.instance(id).and_then(|instance| instance.subscriptions.find(id, sub_id));
        let Some(old) = old else {
            return Answers { selection: query.select(&self.state, topics, |_| false), leaving: Vec::new() };
        };
        let shown_before = |found: &Found| shows(old, &found.topic.name, &found.document());
        let selection = query.select(&self.state, topics, shown_before);
        let leaving = if asked.wants.oof { self.leaving(command, asked, old) } else { Vec::new() };
        Answers { selection, leaving }
    }

    fn leaving(&self, command: &Command<'_>, asked: &Placement<'_>, old: &Subscription) -> Vec<Found> {
        let covered = self.state.sows(asked.identity.payload_type, |name| old.topic.matches(name));
        let readable = |place: Place| {
            let topic = &self.state.sow(place)?.topic;
            Some((
                place,
                self.verdict(command.session(), &asked.identity.question(Action::Read, &topic.name)),
            ))
        };
        let topics: Vec<_> = covered.into_iter().filter_map(readable).collect();
        let all = Query { filter: old.filter.clone(), ..Query::default() };
        let shown_after = |found: &Found| {
            let filter = asked.filter.as_ref();
            asked.selector.pattern.matches(&found.topic.name)
                && filter.is_none_or(|filter| filter.matches(&found.document()))
        };
        all.select(&self.state, &topics, shown_after).found
    }

    /// Puts a subscription in its place. What the one before it still held goes out first.
    fn put_subscription(&mut self, mut subscription: Subscription) {
        let (id, now) = (subscription.session, self.now);
        let Some(instance) = self.instance_mut(id) else { return };
        let mut replaced = None;
        if let Some(mut old) = instance.subscriptions.remove(id, &subscription.id) {
            let held = old.conflation.as_mut().map(|held| held.release_all(&old.id, old.wants));
            if let Some(session) = instance.sessions.get(&id.number) {
                held.into_iter().flatten().for_each(|frame| session.connection.send(frame, now));
            }
            if let (Some(conflation), Some(before)) = (&mut subscription.conflation, old.conflation.take()) {
                conflation.inherit(before);
            }
            replaced = Some(old);
        }
        let holder = Holder { session: id, subscription: instance.subscriptions.next_number() };
        instance.subscriptions.insert(subscription);
        if let Some(old) = replaced.filter(|old| !self.hand_over(old, holder)) {
            self.retire([old]);
        }
    }
}

fn shows(subscription: &Subscription, topic: &str, document: &Document<'_>) -> bool {
    subscription.topic.matches(topic) && subscription.filter_matches(document)
}

/// A record that left the view because its subscription was replaced.
fn out_of_focus(found: &Found, sub_id: &str, wants: Wants, world: &World) -> Outgoing {
    let delivery = Delivery {
        topic: &found.topic.name,
        sub_ids: sub_id,
        sow_key: if wants.sow_key { &found.record.key } else { "" },
        timestamp: &if wants.timestamp { world.now.text() } else { String::new() },
        correlation_id: &found.record.correlation_id,
        payload: &found.record.payload,
        ..Delivery::default()
    };
    delivery.oof("match")
}
