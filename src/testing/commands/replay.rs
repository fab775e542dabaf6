//! What is special about bookmark subscriptions: where they start, pause and resume (section 10).

use super::selector::Selector;
use super::subscribe::Placement;
use super::unsubscribe::list;
use super::{Command, Who};
use crate::testing::entitlement::Action;
use crate::testing::frames::Ack;
use crate::testing::hub::Open;
use crate::testing::options::Options;
use crate::testing::queue::Consumer;
use crate::testing::refusal::Refusal;
use crate::testing::replay::{Pace, Progress, Replay, Span, Terms};
use crate::testing::session::SessionId;
use crate::testing::subscriptions::{Feed, Subscription};
use crate::testing::world::World;
use crate::wire::{AckType, CommandType};

/// Whether a command is about subscriptions that are there, rather than a new one: every `resume`, and a `pause` without
/// a place to start at or for a subscription that is known.
pub(super) fn is_steering(command: &Command<'_>, options: &Options) -> bool {
    let is_known = || {
        let turn = command.hub.look();
        let sub_ids = command.message.sub_id();
        sub_ids.is_some_and(|id| turn.number_of(command.session(), id).is_some())
    };
    options.resume
        || options.pause && !options.replace && (command.message.bookmark().is_none() || is_known())
}

/// Pauses or resumes the subscriptions of a list of ids, all or none (T-10).
pub(super) fn steer(command: &Command<'_>, options: &Options) -> Result<(), Refusal> {
    let sub_ids = command.message.sub_id().ok_or(Refusal::InvalidSubId)?;
    if options.live || (options.pause && options.resume) {
        return Err(Refusal::InvalidOptions);
    }
    let id = command.session();
    let mut turn = command.turn(|_| Vec::new())?;
    let numbers: Vec<_> = list(sub_ids)
        .map(|sub_id| turn.number_of(id, sub_id))
        .collect::<Option<_>>()
        .ok_or(Refusal::InvalidSubId)?;
    if numbers.is_empty() {
        return Err(Refusal::InvalidSubId);
    }
    if !numbers.iter().all(|number| turn.can_pause(id, *number)) {
        return Err(Refusal::InvalidOptions);
    }
    for number in numbers {
        match options.pause {
            true => turn.pause(id, number),
            false => turn.resume(id, number),
        }
    }
    command.ack(Ack { kind: AckType::PROCESSED, sub_id: sub_ids, ..Ack::default() }, turn.now);
    turn.pump(id);
    Ok(())
}

/// Refuses what goes with no bookmark, or not with this one.
pub(super) fn check(command: &Command<'_>, options: &Options) -> Result<(), Refusal> {
    let is_conflated = options.conflation.is_some();
    if command.kind != CommandType::Subscribe || is_conflated {
        return Err(Refusal::NotSupported);
    }
    if options.live && (options.pause || options.rate.is_some()) {
        return Err(Refusal::InvalidOptions);
    }
    Ok(())
}

impl World {
    pub(super) fn number_of(&self, session: SessionId, sub_id: &str) -> Option<u64> {
        self.subscriptions(session)?.number(session, sub_id)
    }

    /// Where the messages of a new subscription come from.
    pub(super) fn feed(&mut self, command: &Command<'_>, asked: &Placement<'_>) -> Result<Feed, Refusal> {
        let Some(bookmark) = command.message.bookmark() else {
            return match self.queue_of(asked.identity, &asked.selector) {
                None => Ok(Feed::Changes),
                Some(queue) => self.consumer(command, asked, queue).map(Feed::Queue),
            };
        };
        let options = &asked.options;
        let journal = &self.state.journal;
        let span = Span::read(bookmark, options.not_found, journal)?;
        let selector = &asked.selector;
        if selector.is_literal() && !self.state.journals(asked.identity.payload_type, selector.text) {
            return Ok(Feed::Unlogged);
        }
        let completes = command.asked.contains(AckType::COMPLETED).then(|| command.id().to_owned());
        let terms = Terms {
            pace: options.rate.map(|rate| Pace::new(rate, options.rate_max_gap)),
            top_n: options.top_n.or(command.message.top_n()),
            completes,
            reports: command.asked.contains(AckType::PERSISTED),
            is_paused: options.pause,
            is_live: options.live,
            is_fully_durable: options.fully_durable,
        };
        Ok(Feed::Journal(Box::new(Replay::new(span, terms, journal))))
    }

    /// What a subscription to a queue comes to.
    fn consumer(
        &self,
        command: &Command<'_>,
        asked: &Placement<'_>,
        queue: usize,
    ) -> Result<Consumer, Refusal> {
        let wanted = asked.options.max_backlog.unwrap_or(1);
        let most = self.state.queue(queue).map_or(1, |queue| queue.rules.max_per_subscription_backlog);
        match wanted {
            _ if command.kind.is_query() => Err(Refusal::NotSupported),
            0 => Err(Refusal::InvalidOptions),
            _ => Ok(Consumer::new(queue, wanted.min(most))),
        }
    }

    /// What follows the acknowledgement of a subscription: the replay (T-5), or the messages of a queue.
    pub(super) fn begin(&mut self, command: &Command<'_>, sub_id: &str) {
        let id = command.session();
        let subscription = self.subscriptions(id).and_then(|all| all.find(id, sub_id));
        match subscription.map(|subscription| &subscription.feed) {
            Some(Feed::Unlogged) => {
                command.ack(Ack { kind: AckType::COMPLETED, sub_id, ..Ack::default() }, self.now);
            }
            Some(Feed::Journal(replay)) => {
                if replay.reports {
                    self.start_reports(id);
                }
                self.pump(id);
            }
            Some(Feed::Queue(consumer)) => {
                let queue = consumer.queue;
                self.dispatch(queue);
            }
            _ => {}
        }
    }

    /// What must be known before the journal can be read: who may see the topics in it that a pattern finds.
    pub(super) fn questions_about_journal(
        &self,
        command: &Command<'_>,
        identity: &Who,
        selector: &Selector<'_>,
    ) -> Vec<Open> {
        if command.message.bookmark().is_none() || selector.is_literal() {
            return Vec::new();
        }
        let names = self.state.journal.topics(identity.payload_type);
        let found = names.filter(|name| selector.pattern.matches(name));
        found.map(|name| (command.session().instance, identity.question(Action::Read, name))).collect()
    }

    fn can_pause(&self, session: SessionId, number: u64) -> bool {
        let subscription = self.subscriptions(session).and_then(|all| all.get(number));
        subscription.and_then(Subscription::replay).is_some_and(|replay| !replay.is_live)
    }

    fn pause(&mut self, session: SessionId, number: u64) {
        let place = self.replay_of(session, number).and_then(|replay| replay.place(&self.state.journal));
        if let Some(place) = place {
            self.quiet(session, number);
            self.set_progress(session, number, Progress::Paused(place));
        }
    }

    fn resume(&mut self, session: SessionId, number: u64) {
        let first = self.state.journal.first();
        if let Some(Progress::Paused(place)) = self.replay_of(session, number).map(|replay| replay.progress) {
            self.set_progress(session, number, Progress::Behind(place.max(first)));
        }
    }

    /// Takes the alarm of a replay off.
    fn quiet(&mut self, session: SessionId, number: u64) {
        let instance = self.instances.get_mut(session.instance);
        let subscription = instance.and_then(|instance| instance.subscriptions.get_mut(number));
        let alarm = subscription.and_then(Subscription::replay_mut).and_then(|replay| replay.alarm.take());
        alarm.into_iter().for_each(|alarm| self.timers.cancel(alarm));
    }

    fn replay_of(&self, session: SessionId, number: u64) -> Option<&Replay> {
        self.subscriptions(session)?.get(number)?.replay()
    }

    fn set_progress(&mut self, session: SessionId, number: u64, progress: Progress) {
        if let Some(instance) = self.instance_mut(session) {
            instance.subscriptions.set_progress(number, progress);
        }
    }
}
