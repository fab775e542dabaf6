//! The topics a subscription, a query or a delete is about.

use super::Command;
use crate::testing::entitlement::{Action, Verdict};
use crate::testing::hub::Open;
use crate::testing::options::Options;
use crate::testing::payload::PayloadType;
use crate::testing::refusal::Refusal;
use crate::testing::session::{Identity, SessionId};
use crate::testing::state::Place;
use crate::testing::topic_pattern::TopicPattern;
use crate::testing::world::World;

/// A topic header: the name of one topic, or a regular expression over names.
#[derive(Debug)]
pub(super) struct Selector<'a> {
    pub(super) text: &'a str,
    pub(super) pattern: TopicPattern,
}

impl<'a> Selector<'a> {
    pub(super) fn read(command: &Command<'a>, options: &Options) -> Result<Selector<'a>, Refusal> {
        let text = command.topic()?;
        let pattern = TopicPattern::new(text, options.non_regex_topic).map_err(|_| Refusal::BadRegexTopic)?;
        Ok(Selector { text, pattern })
    }

    pub(super) fn is_literal(&self) -> bool {
        self.pattern.is_literal()
    }
}

impl World {
    /// What must be known before the topics of a selector can be used: of a literal one itself, of a pattern each SOW
    /// topic it finds.
    pub(super) fn questions_about(
        &self,
        session: SessionId,
        identity: &Identity,
        action: Action,
        selector: &Selector<'_>,
    ) -> Vec<Open> {
        let open = |topic: &str| (session.instance, identity.question(action, topic));
        if selector.is_literal() {
            return vec![open(selector.text)];
        }
        let names = self.found_by(identity.payload_type, selector);
        names.iter().filter_map(|place| self.state.sow(*place)).map(|sow| open(&sow.topic.name)).collect()
    }

    /// Refuses topics that this user, or this server, has nothing to do with (B-10).
    pub(super) fn check_topic(
        &mut self,
        session: SessionId,
        identity: &Identity,
        action: Action,
        selector: &Selector<'_>,
    ) -> Result<(), Refusal> {
        if !selector.is_literal() {
            let allowed = self.instance(session).is_none_or(|instance| instance.settings.regex_topics);
            return if allowed { Ok(()) } else { Err(Refusal::RegexTopicNotSupported) };
        }
        if self.verdict(session, &identity.question(action, selector.text)).is_deny() {
            return Err(Refusal::NotEntitled);
        }
        // A topic comes into being when it is first used.
        self.state.place(identity.payload_type, selector.text);
        Ok(())
    }

    /// The queue that a literal topic names, if it is one.
    pub(super) fn queue_of(&mut self, identity: &Identity, selector: &Selector<'_>) -> Option<usize> {
        match self.state.place(identity.payload_type, selector.text) {
            Place::Queue(queue) if selector.is_literal() => Some(queue),
            _ => None,
        }
    }

    /// The SOW topics a selector finds, each with what the user may see or do there.
    pub(super) fn sow_topics(
        &self,
        session: SessionId,
        identity: &Identity,
        action: Action,
        selector: &Selector<'_>,
    ) -> Vec<(Place, Verdict)> {
        let verdict = |place: Place| {
            let sow = self.state.sow(place)?;
            Some((place, self.verdict(session, &identity.question(action, &sow.topic.name))))
        };
        self.found_by(identity.payload_type, selector).into_iter().filter_map(verdict).collect()
    }

    fn found_by(&self, payload_type: PayloadType, selector: &Selector<'_>) -> Vec<Place> {
        self.state.sows(payload_type, |name| selector.pattern.matches(name))
    }
}
