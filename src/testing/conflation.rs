//! Conflated subscriptions: for each key at most one message per interval (B-11).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Time;
use super::delivery::{Leaving, News, Outcome};
use super::frames::{Delivery, Outgoing};
use super::journal::Mark;
use super::payload::{Identifier, merge};
use super::record_key::record_key;
use super::state::TopicInfo;
use super::subscriptions::Wants;

/// What a conflated subscription holds back.
#[derive(Debug)]
pub(crate) struct Conflation {
    interval: Duration,
    /// The fields that tell messages apart; `None`: the SOW key.
    key: Option<Vec<Identifier>>,
    held: HashMap<HeldKey, Held>,
    /// With out-of-focus messages: what the client last saw of each record.
    received: Option<HashMap<HeldKey, Vec<u8>>>,
}

/// Topic and key.
pub(crate) type HeldKey = (String, String);

#[derive(Debug)]
struct Held {
    topic: Arc<TopicInfo>,
    kind: Kind,
    sow_key: String,
    body: Vec<u8>,
    /// The whole record as of this message.
    whole: Vec<u8>,
    correlation_id: String,
    user_id: String,
    /// The bookmark of the first message held.
    mark: Option<Mark>,
    /// The time of the first message held.
    time: Time,
    due: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Full,
    Delta,
    Oof(Leaving),
}

/// What became of a message that was to be held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is the first for its key: the key's interval ends at this time.
    First(HeldKey, Time),
    /// It took the place of one that was held before, or undid it.
    Joined,
    /// It has no key and goes out at once.
    Free,
}

impl Conflation {
    pub(crate) fn new(interval: Duration, key: Option<Vec<Identifier>>, with_oof: bool) -> Conflation {
        Conflation { interval, key, held: HashMap::new(), received: with_oof.then(HashMap::new) }
    }

    /// Notes a record that the client got from the query part of its command.
    pub(crate) fn note_received(&mut self, topic: &TopicInfo, sow_key: &str, payload: &[u8]) {
        if let Some(received) = &mut self.received {
            received.insert((topic.name.clone(), sow_key.to_owned()), payload.to_vec());
        }
    }

    /// Takes over what the client got from the subscription that this one replaces.
    pub(crate) fn inherit(&mut self, before: Conflation) {
        if let (Some(received), Some(earlier)) = (&mut self.received, before.received) {
            for (key, body) in earlier {
                received.entry(key).or_insert(body);
            }
        }
    }

    /// Takes in a message.
    pub(crate) fn hold(&mut self, news: &News<'_>, outcome: Outcome) -> Fate {
        let Some(key) = self.key_of(news) else { return Fate::Free };
        let Some(mut new) = Held::of(news, outcome, self.interval) else { return Fate::Joined };
        let received = self.received.as_ref().and_then(|received| received.get(&key));
        match (self.held.remove(&key), new.kind) {
            (None, kind) => {
                if let (Kind::Oof(_), Some(body)) = (kind, received) {
                    new.body.clone_from(body);
                }
                let due = new.due;
                self.held.insert(key.clone(), new);
                return Fate::First(key, due);
            }
            // What the client never saw need not be taken away.
            (Some(_), Kind::Oof(_)) if received.is_none() => {}
            (Some(old), kind) => {
                if let (Kind::Oof(_), Some(body)) = (kind, received) {
                    new.body.clone_from(body);
                }
                new.follow(&old);
                self.held.insert(key, new);
            }
        }
        Fate::Joined
    }

    /// The frame to send now that the interval of a key has ended.
    pub(crate) fn release(
        &mut self,
        key: &HeldKey,
        sub_id: &str,
        wants: Wants,
        now: Time,
    ) -> Option<Outgoing> {
        if self.held.get(key)?.due > now {
            return None;
        }
        let held = self.held.remove(key)?;
        Some(self.send(key.clone(), held, sub_id, wants))
    }

    /// The frames of everything held, for a subscription that is about to be replaced.
    pub(crate) fn release_all(&mut self, sub_id: &str, wants: Wants) -> Vec<Outgoing> {
        let mut all: Vec<_> = std::mem::take(&mut self.held).into_iter().collect();
        all.sort_by(|(left, l), (right, r)| (l.due, left).cmp(&(r.due, right)));
        all.into_iter().map(|(key, held)| self.send(key, held, sub_id, wants)).collect()
    }

    fn send(&mut self, key: HeldKey, held: Held, sub_id: &str, wants: Wants) -> Outgoing {
        let frame = held.frame(sub_id, wants);
        if let Some(received) = &mut self.received {
            match held.kind {
                Kind::Oof(_) => drop(received.remove(&key)),
                Kind::Full | Kind::Delta => drop(received.insert(key, held.whole)),
            }
        }
        frame
    }

    fn key_of(&self, news: &News<'_>) -> Option<HeldKey> {
        let topic = &news.change.topic;
        let record = news.change.new.as_ref().or(news.change.old.as_ref())?;
        let is_sow_key = self.key.is_none() || self.received.is_some();
        let key = match &self.key {
            _ if is_sow_key && topic.sow.is_some() => record.key.clone(),
            Some(fields) => record_key("", &record.document(topic.payload_type), fields)?,
            None => return None,
        };
        Some((topic.name.clone(), key))
    }
}

impl Held {
    fn of(news: &News<'_>, outcome: Outcome, interval: Duration) -> Option<Held> {
        let kind = match outcome {
            Outcome::Nothing => return None,
            Outcome::Full => Kind::Full,
            Outcome::Delta { .. } => Kind::Delta,
            Outcome::Oof(why) => Kind::Oof(why),
        };
        let record = news.record(outcome)?;
        let time = news.change.time;
        Some(Held {
            topic: news.change.topic.clone(),
            kind,
            sow_key: record.key.clone(),
            body: news.body(outcome).to_vec(),
            whole: record.payload.clone(),
            correlation_id: record.correlation_id.clone(),
            user_id: news.change.user_id.clone(),
            mark: record.mark,
            time,
            due: time.plus(interval),
        })
    }

    /// Takes the place of a message that was held, and of its interval.
    fn follow(&mut self, old: &Held) {
        self.time = old.time;
        self.mark = old.mark;
        self.due = old.due;
        if self.kind == Kind::Delta {
            let merged = match old.kind {
                Kind::Delta => merge(self.topic.payload_type, &old.body, &self.body),
                Kind::Full | Kind::Oof(_) => None,
            };
            match merged {
                Some(merged) => self.body = merged,
                None => {
                    self.kind = Kind::Full;
                    self.body.clone_from(&self.whole);
                }
            }
        }
    }

    /// The bookmark as it is shown: none on a message that tells of a record out of focus.
    fn bookmark(&self, wants: Wants) -> String {
        let shown = wants.bookmark && !matches!(self.kind, Kind::Oof(_));
        self.mark.filter(|_| shown).map(|mark| mark.to_string()).unwrap_or_default()
    }

    fn frame(&self, sub_id: &str, wants: Wants) -> Outgoing {
        let delivery = Delivery {
            topic: &self.topic.name,
            sub_ids: sub_id,
            sow_key: if wants.sow_key { &self.sow_key } else { "" },
            timestamp: &if wants.timestamp { self.time.text() } else { String::new() },
            bookmark: &self.bookmark(wants),
            correlation_id: &self.correlation_id,
            user_id: &self.user_id,
            payload: &self.body,
            ..Delivery::default()
        };
        match self.kind {
            Kind::Oof(why) => delivery.oof(why.reason()),
            Kind::Full | Kind::Delta => delivery.publish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::state::tests::{publication, publish, state};
    use crate::testing::topic::Topic;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Time {
        Time::default().plus(Duration::from_millis(millis))
    }

    fn key(conflation: &mut Conflation, payload: &str, millis: u64) -> Fate {
        let mut state = state(&[Topic::sow("orders").key("/id")]);
        let change = publish(&mut state, &publication("orders", payload), at(millis));
        conflation.hold(&News::new(&change), Outcome::Full)
    }

    fn text(frame: Option<Outgoing>) -> Option<String> {
        frame.map(|frame| String::from_utf8_lossy(frame.bytes.get(4..).unwrap()).into_owned())
    }

    /// B-11.
    #[test]
    fn the_interval_of_a_key_is_that_of_its_first_message() {
        let mut conflation = Conflation::new(SECOND, None, false);
        let Fate::First(first, due) = key(&mut conflation, r#"{"id":1,"n":1}"#, 0) else { panic!("no key") };
        assert_eq!(due, at(1000));
        assert_eq!(key(&mut conflation, r#"{"id":1,"n":2}"#, 900), Fate::Joined);
        assert!(matches!(key(&mut conflation, r#"{"id":2}"#, 900), Fate::First(_, due) if due == at(1900)));
        let wants = Wants { timestamp: true, ..Wants::default() };
        assert_eq!(text(conflation.release(&first, "s", wants, at(999))), None);
        assert_eq!(
            text(conflation.release(&first, "s", wants, at(1000))).unwrap(),
            r#"{"c":"p","t":"orders","ts":"19700101T000000.000000Z","l":14,"sids":"s"}{"id":1,"n":2}"#
        );
        assert_eq!(text(conflation.release(&first, "s", wants, at(1000))), None);
    }

    #[test]
    fn everything_held_can_be_let_go_in_its_order() {
        let mut conflation = Conflation::new(SECOND, None, false);
        for (payload, millis) in [(r#"{"id":3}"#, 5), (r#"{"id":1}"#, 1), (r#"{"id":2}"#, 3)] {
            key(&mut conflation, payload, millis);
        }
        let frames = conflation.release_all("s", Wants::default());
        let ids: Vec<_> = frames.iter().map(|frame| frame.bytes[frame.bytes.len() - 2] as char).collect();
        assert_eq!(ids, ['1', '2', '3']);
        assert!(conflation.release_all("s", Wants::default()).is_empty());
    }

    #[test]
    fn a_message_without_a_key_is_not_held() {
        let fields = || Some(vec![Identifier::parse("/sym").unwrap()]);
        let mut state = state(&[]);
        let mut fate = |mut conflation: Conflation, payload: &str| {
            let change = publish(&mut state, &publication("ticks", payload), at(0));
            conflation.hold(&News::new(&change), Outcome::Full)
        };
        assert_eq!(fate(Conflation::new(SECOND, None, false), r#"{"sym":"A"}"#), Fate::Free);
        assert_eq!(fate(Conflation::new(SECOND, fields(), false), "no JSON"), Fate::Free);
        assert!(matches!(fate(Conflation::new(SECOND, fields(), true), r#"{"sym":"A"}"#), Fate::First(..)));
    }
}
