//! Who gets to know of a change, and in which form.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::clock::Time;
use super::conflation::{Fate, HeldKey};
use super::entitlement::Verdict;
use super::frames::{Delivery, Outgoing};
use super::payload::{Difference, Document, difference};
use super::session::SessionId;
use super::sow::Record;
use super::state::{Cause, Change};
use super::subscriptions::{Subscription, Wants};
use super::timers::{Event, Timers};
use super::world::{Instance, World};

/// What one subscription is told of one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Nothing,
    /// The whole message.
    Full,
    /// What differs from the record before, with the key fields or without.
    Delta {
        with_keys: bool,
    },
    /// The record left the view of the subscription.
    Oof(Leaving),
}

/// Why a record is out of focus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaving {
    Match,
    Deleted,
    Expired,
    Entitlement,
}

impl Leaving {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Leaving::Match => "match",
            Leaving::Deleted => "deleted",
            Leaving::Expired => "expired",
            Leaving::Entitlement => "entitlement",
        }
    }
}

/// A change, and what was worked out of it so far; each thing is worked out once for all subscriptions.
pub(crate) struct News<'a> {
    pub(crate) change: &'a Change,
    old: Option<Document<'a>>,
    new: Option<Document<'a>>,
    with_keys: OnceCell<Difference>,
    without_keys: OnceCell<Difference>,
}

impl<'a> News<'a> {
    pub(crate) fn new(change: &'a Change) -> News<'a> {
        let payload_type = change.topic.payload_type;
        News {
            change,
            old: change.old.as_ref().map(|record| record.document(payload_type)),
            new: change.new.as_ref().map(|record| record.document(payload_type)),
            with_keys: OnceCell::new(),
            without_keys: OnceCell::new(),
        }
    }

    /// The decision table of S-15.
    pub(crate) fn outcome(&self, subscription: &Subscription, verdict: &Verdict) -> Outcome {
        let sees = |document: &Document<'_>| verdict.shows(document) && subscription.filter_matches(document);
        // Without deltas or out-of-focus messages the record before makes no difference.
        let cares = subscription.wants.delta || subscription.wants.oof;
        let saw = cares && self.old.as_ref().is_some_and(sees);
        match &self.new {
            Some(new) if sees(new) => self.update(subscription.wants, saw),
            Some(new) if saw => leaving(
                subscription.wants,
                match verdict.shows(new) {
                    true => Leaving::Match,
                    false => Leaving::Entitlement,
                },
            ),
            None if saw && self.change.cause == Cause::Expiry => {
                leaving(subscription.wants, Leaving::Expired)
            }
            None if saw => leaving(subscription.wants, Leaving::Deleted),
            _ => Outcome::Nothing,
        }
    }

    fn update(&self, wants: Wants, saw: bool) -> Outcome {
        if !(wants.delta && saw && self.change.topic.has_deltas()) {
            return Outcome::Full;
        }
        match wants.no_empties && !self.difference(wants.send_keys).changed {
            true => Outcome::Nothing,
            false => Outcome::Delta { with_keys: wants.send_keys },
        }
    }

    fn difference(&self, with_keys: bool) -> &Difference {
        let cell = if with_keys { &self.with_keys } else { &self.without_keys };
        cell.get_or_init(|| {
            let topic = &self.change.topic;
            let keys = if with_keys { topic.keys() } else { &[] };
            difference(
                topic.payload_type,
                payload(self.change.old.as_deref()),
                payload(self.change.new.as_deref()),
                keys,
            )
        })
    }

    /// The record whose body, correlation id and time an outcome carries.
    pub(crate) fn record(&self, outcome: Outcome) -> Option<&'a Record> {
        match outcome {
            Outcome::Nothing => None,
            Outcome::Full | Outcome::Delta { .. } | Outcome::Oof(Leaving::Match) => {
                self.change.new.as_deref()
            }
            Outcome::Oof(_) => self.change.old.as_deref(),
        }
    }

    pub(crate) fn body(&self, outcome: Outcome) -> &[u8] {
        match outcome {
            Outcome::Delta { with_keys } => &self.difference(with_keys).payload,
            other => payload(self.record(other)),
        }
    }
}

fn leaving(wants: Wants, why: Leaving) -> Outcome {
    if wants.oof { Outcome::Oof(why) } else { Outcome::Nothing }
}

fn payload(record: Option<&Record>) -> &[u8] {
    record.map_or(&[], |record| &record.payload)
}

impl World {
    /// Tells every subscription that covers it of a change, on every instance.
    pub(crate) fn announce(&mut self, change: &Change) {
        if change.queued.is_none() {
            self.announce_change(change);
        }
        if let Some(place) = change.place {
            self.follow(place);
        }
        if let Some((queue, number)) = change.queued {
            self.watch_expiry(queue, number);
            self.dispatch(queue);
        }
    }

    fn announce_change(&mut self, change: &Change) {
        let news = News::new(change);
        for instance in &mut self.instances {
            let told = instance.outcomes(&news);
            let told = instance.conflate(&news, told, &mut self.timers);
            instance.tell(&news, &told, self.now);
        }
    }

    /// Sends what a conflated subscription held for a key, its interval being over.
    pub(crate) fn release(&mut self, session: SessionId, number: u64, key: &HeldKey) {
        let now = self.now;
        let Some(instance) = self.instance_mut(session) else { return };
        let Some(subscription) = instance.subscriptions.get_mut(number) else { return };
        let (id, wants) = (&subscription.id, subscription.wants);
        let conflation = subscription.conflation.as_mut();
        let frame = conflation.and_then(|conflation| conflation.release(key, id, wants, now));
        if let (Some(frame), Some(session)) = (frame, instance.sessions.get(&session.number)) {
            session.connection.send(frame, now);
        }
    }
}

impl Instance {
    /// What each subscription here is to be told, by its number.
    fn outcomes(&self, news: &News<'_>) -> Vec<(u64, Outcome)> {
        let topic = &news.change.topic;
        let outcome = |number: u64| {
            let subscription = self.subscriptions.get(number).filter(|sub| sub.replay().is_none())?;
            let verdict = self.verdicts.verdict(&subscription.question(&topic.name));
            Some((number, news.outcome(subscription, &verdict))).filter(|(_, o)| *o != Outcome::Nothing)
        };
        let covering = self.subscriptions.covering(topic.payload_type, &topic.name);
        covering.into_iter().filter_map(outcome).collect()
    }

    /// Gives conflated subscriptions their news to hold, and gives back the rest.
    fn conflate(
        &mut self,
        news: &News<'_>,
        mut told: Vec<(u64, Outcome)>,
        timers: &mut Timers,
    ) -> Vec<(u64, Outcome)> {
        told.retain(|(number, outcome)| {
            let Some(subscription) = self.subscriptions.get_mut(*number) else { return false };
            let session = subscription.session;
            match subscription.conflation.as_mut().map(|conflation| conflation.hold(news, *outcome)) {
                None | Some(Fate::Free) => true,
                Some(Fate::Joined) => false,
                Some(Fate::First(key, due)) => {
                    timers.schedule(due, Event::Conflation { session, subscription: *number, key });
                    false
                }
            }
        });
        told
    }

    fn tell(&self, news: &News<'_>, told: &[(u64, Outcome)], now: Time) {
        let mut groups: BTreeMap<u64, Group<'_>> = BTreeMap::new();
        for (number, outcome) in told {
            if let Some(subscription) = self.subscriptions.get(*number) {
                let group = groups.entry(subscription.session.number).or_default();
                group.members.push((subscription, *outcome));
            }
        }
        for (session, group) in groups {
            if let Some(session) = self.sessions.get(&session) {
                let frames = group.frames(news, self.settings.coalesces_sids);
                frames.into_iter().for_each(|frame| session.connection.send(frame, now));
            }
        }
    }
}

/// The subscriptions of one connection that are told something, in the order in which they were placed.
#[derive(Default)]
struct Group<'a> {
    members: Vec<(&'a Subscription, Outcome)>,
}

impl Group<'_> {
    /// One frame for each kind of outcome, or one for each subscription (B-4).
    fn frames(mut self, news: &News<'_>, coalesces: bool) -> Vec<Outgoing> {
        if !coalesces {
            return self.members.iter().map(|(sub, outcome)| frame(news, *outcome, &[sub])).collect();
        }
        self.level();
        let mut kinds: Vec<(Outcome, Vec<&Subscription>)> = Vec::new();
        for (subscription, outcome) in self.members {
            match kinds.iter_mut().find(|(kind, _)| *kind == outcome) {
                Some((_, list)) => list.push(subscription),
                None => kinds.push((outcome, vec![subscription])),
            }
        }
        kinds.iter().map(|(outcome, list)| frame(news, *outcome, list)).collect()
    }

    /// Where a plain subscription gets the message, a delta one beside it gets the same (B-5).
    fn level(&mut self) {
        let is_plain =
            |(sub, outcome): &(&Subscription, Outcome)| !sub.wants.delta && *outcome == Outcome::Full;
        if self.members.iter().any(is_plain) {
            for (_, outcome) in &mut self.members {
                if matches!(outcome, Outcome::Delta { .. }) {
                    *outcome = Outcome::Full;
                }
            }
        }
    }
}

/// The frame that tells these subscriptions of this outcome (B-6, S-16).
fn frame(news: &News<'_>, outcome: Outcome, to: &[&Subscription]) -> Outgoing {
    let sub_ids: Vec<_> = to.iter().map(|sub| sub.id.as_str()).collect();
    let record = news.record(outcome);
    let timed = to.iter().any(|sub| sub.wants.timestamp);
    let keyed = to.iter().any(|sub| sub.wants.sow_key);
    let marked = to.iter().any(|sub| sub.wants.bookmark) && !matches!(outcome, Outcome::Oof(_));
    let mark = record.filter(|_| marked).and_then(|record| record.mark);
    let delivery = Delivery {
        topic: &news.change.topic.name,
        sub_ids: &sub_ids.join(","),
        sow_key: record.filter(|_| keyed).map_or("", |record| &record.key),
        timestamp: &if timed { news.change.time.text() } else { String::new() },
        bookmark: &mark.map(|mark| mark.to_string()).unwrap_or_default(),
        correlation_id: record.map_or("", |record| &record.correlation_id),
        user_id: &news.change.user_id,
        payload: news.body(outcome),
        ..Delivery::default()
    };
    match outcome {
        Outcome::Oof(why) => delivery.oof(why.reason()),
        _ => delivery.publish(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::state::tests::{publication, publish, state};
    use crate::testing::subscriptions::tests::subscription;
    use crate::testing::topic::Topic;

    /// What becomes of a record `{"id":1,"st":...}` that was, or was not, there before.
    fn change(old: Option<&str>, new: Option<&str>, cause: Cause) -> Change {
        let record = |st: &str| format!(r#"{{"id":1,"st":"{st}"}}"#);
        let mut state = state(&[Topic::sow("orders").key("/id")]);
        let mut put = |st: &str| publish(&mut state, &publication("orders", &record(st)), Time::default());
        let before = old.map(&mut put);
        match (new, before) {
            (Some(new), _) => put(new),
            (None, Some(before)) => Change { cause, old: before.new.clone(), new: None, ..before },
            (None, None) => unreachable!("nothing happened"),
        }
    }

    /// S-15, every row, for a full and a delta subscription with `oof` and without.
    #[test]
    fn the_table_of_outcomes_holds() {
        let delta = Outcome::Delta { with_keys: true };
        let oof = Outcome::Oof;
        let table = [
            (None, Some("in"), Cause::Publish, Outcome::Full, Outcome::Full),
            (Some("out"), Some("in"), Cause::Publish, Outcome::Full, Outcome::Full),
            (Some("in"), Some("in"), Cause::Publish, Outcome::Full, delta),
            (Some("in"), Some("out"), Cause::Publish, oof(Leaving::Match), oof(Leaving::Match)),
            (None, Some("out"), Cause::Publish, Outcome::Nothing, Outcome::Nothing),
            (Some("out"), Some("out"), Cause::Publish, Outcome::Nothing, Outcome::Nothing),
            (Some("in"), None, Cause::Delete, oof(Leaving::Deleted), oof(Leaving::Deleted)),
            (Some("out"), None, Cause::Delete, Outcome::Nothing, Outcome::Nothing),
            (Some("in"), None, Cause::Expiry, oof(Leaving::Expired), oof(Leaving::Expired)),
            (
                Some("in"),
                Some("hidden"),
                Cause::Publish,
                oof(Leaving::Entitlement),
                oof(Leaving::Entitlement),
            ),
            (Some("hidden"), Some("in"), Cause::Publish, Outcome::Full, Outcome::Full),
        ];
        let filter =
            |text| std::sync::Arc::new(crate::testing::filter::Filter::parse(text).unwrap().unwrap());
        let verdict = Verdict::Only(filter("/st != 'hidden'"));
        for (old, new, cause, to_full, to_delta) in table {
            let change = change(old, new, cause);
            let news = News::new(&change);
            for (is_delta, expected) in [(false, to_full), (true, to_delta)] {
                for wants_oof in [false, true] {
                    let mut sub = subscription(1, "s", "orders");
                    sub.filter = Some(filter("/st IN ('in', 'hidden')"));
                    sub.wants = Wants { delta: is_delta, oof: wants_oof, ..sub.wants };
                    let expected = match expected {
                        Outcome::Oof(_) if !wants_oof => Outcome::Nothing,
                        expected => expected,
                    };
                    assert_eq!(
                        news.outcome(&sub, &verdict),
                        expected,
                        "{old:?} {new:?} {is_delta} {wants_oof}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_outcome_carries_the_record_that_belongs_to_it() {
        let change = change(Some("before"), Some("after"), Cause::Publish);
        let news = News::new(&change);
        let body = |outcome| String::from_utf8_lossy(news.body(outcome)).into_owned();
        let (before, after) = (r#"{"id":1,"st":"before"}"#, r#"{"id":1,"st":"after"}"#);
        assert_eq!(body(Outcome::Full), after);
        assert_eq!(body(Outcome::Delta { with_keys: true }), after);
        assert_eq!(body(Outcome::Delta { with_keys: false }), r#"{"st":"after"}"#);
        assert_eq!(body(Outcome::Oof(Leaving::Match)), after);
        for why in [Leaving::Deleted, Leaving::Expired, Leaving::Entitlement] {
            assert_eq!(body(Outcome::Oof(why)), before);
        }
        assert_eq!(body(Outcome::Nothing), "");
    }
}
