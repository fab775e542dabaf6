//! What a topic is configured to be.

use std::time::Duration;

use super::clock::Time;
use super::payload::{Identifier, PayloadType};
use super::queue::{Fairness, Leasing, QueueRules};
use crate::error::{Error, ErrorKind, Result};

/// The configuration of one topic of a [`Server`](super::Server).
///
/// A topic that is not configured works too: its messages are delivered and not stored. A configured topic exists for
/// each message type of its name, unless [`message_type`](Topic::message_type) binds it to one.
///
/// ```
/// use std::time::Duration;
/// use amps_client::testing::{Expiration, Server, Topic};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder()
///     .listen_tcp()
///     .topic(Topic::sow("orders").key("/desk").key("/id"))
///     .topic(Topic::sow("quotes").key("/sym").expiration(Expiration::After(Duration::from_secs(60))))
///     .topic(Topic::sow("blobs").message_type("binary")) // the publisher gives the key
///     .topic(Topic::plain("ticks"))
///     .start()?;
/// server.publish("orders", r#"{"desk":"EMEA","id":1}"#)?;
/// assert_eq!(server.sow_records("orders").len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Topic {
    name: String,
    is_prefix: bool,
    message_type: Option<String>,
    kind: Kind,
    keys: Vec<String>,
    key_domain: Option<String>,
    expiration: Expiration,
    is_journaled: bool,
    /// `None` until something was said that is about queues only.
    queue: Option<QueueRules>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Sow,
    Queue,
}

/// When the records of a SOW topic vanish by themselves.
///
/// A publisher's own lifetime (the header `e`, in seconds) beats the topic's; 0 means never. Each update of a record
/// starts its lifetime anew. A record that expires is out of focus for subscribers, with the reason `expired`.
///
/// ```
/// use amps_client::testing::{Clock, Expiration, Server, Topic};
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// let clock = Clock::manual();
/// let quotes = Topic::sow("quotes").key("/sym").expiration(Expiration::After(Duration::from_secs(60)));
/// let server = Server::builder().topic(quotes).clock(clock.clone()).start()?;
/// server.publish("quotes", r#"{"sym":"IBM"}"#)?;
/// clock.advance(Duration::from_secs(60))?;
/// assert!(server.sow_records("quotes").is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expiration {
    /// Never, whatever the publisher says. The default.
    #[default]
    Off,
    /// When the publisher's lifetime is over; never without one.
    PerMessage,
    /// After this time, unless the publisher gives another.
    After(Duration),
}

impl Expiration {
    /// When a message ends whose publisher asks for so many seconds.
    pub(crate) fn end(self, lifetime: Option<u64>, now: Time) -> Option<Time> {
        let own = match self {
            Expiration::Off => return None,
            Expiration::PerMessage => None,
            Expiration::After(own) => Some(own),
        };
        match lifetime {
            Some(0) => None,
            Some(seconds) => Some(now.plus(Duration::from_secs(seconds))),
            None => own.map(|own| now.plus(own)),
        }
    }
}

impl Topic {
    /// A topic whose messages are delivered and not stored.
    ///
    /// Like a topic that is not configured at all; naming it gives it a place in the configuration.
    pub fn plain(name: impl Into<String>) -> Topic {
        Topic::new(name, Kind::Plain)
    }

    /// A topic that keeps the last message for each key, the state of the world.
    ///
    /// Without a [`key`](Topic::key) field the publisher gives the key of each message in the header `k`.
    pub fn sow(name: impl Into<String>) -> Topic {
        Topic::new(name, Kind::Sow)
    }

    /// A topic whose messages go to one subscription at a time, each until it is acknowledged: a queue.
    ///
    /// It is always journaled. A message that is leased to a subscription comes back when the lease, the subscription or
    /// its connection ends, and goes to another one. Messages expire as their publishers say, unless
    /// [`expiration`](Topic::expiration) says otherwise. Subscriptions by regular expression do not take messages from
    /// queues.
    ///
    /// ```
    /// use std::time::Duration;
    /// use amps_client::testing::{Clock, Server, Topic};
    /// use amps_client::{Client, SubscribeOptions};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let clock = Clock::manual();
    /// let jobs = Topic::queue("jobs").lease(Duration::from_secs(5)).max_per_subscription_backlog(10);
    /// let server = Server::builder().topic(jobs).clock(clock.clone()).start()?;
    /// let worker = Client::builder("worker").build()?;
    /// worker.connect(&server.uri("json"))?;
    /// worker.logon()?;
    /// let mut jobs = worker.subscribe("jobs", "")?;
    /// server.publish("jobs", "work")?;
    /// assert_eq!(jobs.next().expect("not ended")?.data(), b"work");
    /// clock.advance(Duration::from_secs(5))?; // the lease ends without an acknowledgement
    /// assert_eq!(jobs.next().expect("not ended")?.data(), b"work");
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue(name: impl Into<String>) -> Topic {
        Topic { expiration: Expiration::PerMessage, ..Topic::new(name, Kind::Queue) }
    }

    /// For a queue: how long a subscription has a message for itself. Default: until the subscription ends.
    #[must_use]
    pub fn lease(self, period: Duration) -> Topic {
        self.with_queue(|rules| rules.lease = Some(period))
    }

    /// For a queue: how many messages one subscription may have at a time. Default: 1. A subscription gets fewer if it
    /// asks for fewer, and asks for 1 if it says nothing.
    #[must_use]
    pub fn max_per_subscription_backlog(self, messages: u64) -> Topic {
        self.with_queue(|rules| rules.max_per_subscription_backlog = messages.max(1))
    }

    /// For a queue: how many messages all subscriptions together may have at a time. Default: no limit.
    #[must_use]
    pub fn max_backlog(self, messages: u64) -> Topic {
        self.with_queue(|rules| rules.max_backlog = Some(messages.max(1)))
    }

    /// For a queue: who gets the next message. Default: [`Fairness::Proportional`].
    #[must_use]
    pub fn fairness(self, fairness: Fairness) -> Topic {
        self.with_queue(|rules| rules.fairness = fairness)
    }

    /// For a queue: who may acknowledge a message. Default: [`Leasing::Sublet`].
    #[must_use]
    pub fn leasing(self, leasing: Leasing) -> Topic {
        self.with_queue(|rules| rules.leasing = leasing)
    }

    /// For a queue: how often a message is delivered before it expires instead of coming back. Default: 0, which is any
    /// number.
    #[must_use]
    pub fn max_deliveries(self, deliveries: u32) -> Topic {
        self.with_queue(|rules| rules.max_deliveries = deliveries)
    }

    /// For a queue: how often clients may give a message back before it expires instead. Default: 0, which is any number.
    #[must_use]
    pub fn max_cancels(self, cancels: u32) -> Topic {
        self.with_queue(|rules| rules.max_cancels = cancels)
    }

    fn with_queue(mut self, change: impl FnOnce(&mut QueueRules)) -> Topic {
        change(self.queue.get_or_insert_default());
        self
    }

    fn new(name: impl Into<String>, kind: Kind) -> Topic {
        Topic {
            name: name.into(),
            is_prefix: false,
            message_type: None,
            kind,
            keys: Vec::new(),
            key_domain: None,
            expiration: Expiration::Off,
            is_journaled: kind == Kind::Queue,
            queue: None,
        }
    }

    /// Every topic whose name begins so, each coming into being when it is first used.
    pub(crate) fn for_prefix(mut self) -> Topic {
        self.is_prefix = true;
        self
    }

    /// Adds a field that is part of the key of a record, such as `/id`. Several fields form one key together.
    #[must_use]
    pub fn key(mut self, identifier: impl Into<String>) -> Topic {
        self.keys.push(identifier.into());
        self
    }

    /// Computes keys as if the topic had this name, so that equal records of two topics have equal keys. Default: the
    /// name of the topic.
    #[must_use]
    pub fn key_domain(mut self, domain: impl Into<String>) -> Topic {
        self.key_domain = Some(domain.into());
        self
    }

    /// When records vanish by themselves, or messages of a queue that nobody has. Default: [`Expiration::Off`]; for a queue
    /// [`Expiration::PerMessage`].
    #[must_use]
    pub fn expiration(mut self, expiration: Expiration) -> Topic {
        self.expiration = expiration;
        self
    }

    /// Whether the messages of the topic are journaled. Default: false, unless
    /// [`ServerBuilder::journal`](super::ServerBuilder::journal) covers the topic.
    ///
    /// Any journaled topic gives the server a journal, and with it rules that hold for all topics: client names are
    /// unique, and publishes are acknowledged as persisted in batches.
    #[must_use]
    pub fn journaled(mut self, journaled: bool) -> Topic {
        self.is_journaled = journaled || self.kind == Kind::Queue;
        self
    }

    /// Binds the topic to one message type: `json`, `fix`, `nvfix` or `binary`. Default: every message type has a topic
    /// of this name.
    #[must_use]
    pub fn message_type(mut self, message_type: impl Into<String>) -> Topic {
        self.message_type = Some(message_type.into());
        self
    }

    /// Checks the configuration and makes it ready for use, with the server's separator of fields.
    pub(crate) fn rule(&self, separator: u8) -> Result<Rule> {
        if self.name.is_empty() {
            return Err(Error::new(ErrorKind::Usage, "a topic needs a name"));
        }
        if self.queue.is_some() && self.kind != Kind::Queue {
            let text = format!("topic `{}`: leases and backlogs are for queues", self.name);
            return Err(Error::new(ErrorKind::Usage, text));
        }
        Ok(Rule {
            name: self.name.clone(),
            is_prefix: self.is_prefix,
            payload_type: self.payload_type()?.map(|kind| kind.with_separator(separator)),
            store: match self.kind {
                Kind::Plain => Store::Plain,
                Kind::Queue => Store::Queue(QueueRules {
                    expiration: self.expiration,
                    ..self.queue.clone().unwrap_or_default()
                }),
                Kind::Sow => Store::Sow(self.sow_rules()?),
            },
            is_journaled: self.is_journaled,
        })
    }

    fn payload_type(&self) -> Result<Option<PayloadType>> {
        let Some(name) = &self.message_type else { return Ok(None) };
        match PayloadType::of(name) {
            Some(PayloadType::Binary) if !self.keys.is_empty() => {
                let text =
                    format!("topic `{}`: binary messages have no fields that could be keys", self.name);
                Err(Error::new(ErrorKind::Usage, text))
            }
            Some(known) => Ok(Some(known)),
            None => {
                let text = format!("topic `{}`: unknown message type `{name}`", self.name);
                Err(Error::new(ErrorKind::Usage, text))
            }
        }
    }

    fn sow_rules(&self) -> Result<SowRules> {
        let keys = self.keys.iter().map(|text| {
            Identifier::parse(text).ok_or_else(|| {
                Error::new(ErrorKind::Usage, format!("topic `{}`: `{text}` is no key field", self.name))
            })
        });
        Ok(SowRules {
            keys: keys.collect::<Result<_>>()?,
            key_domain: self.key_domain.clone(),
            expiration: self.expiration,
        })
    }
}

/// A checked [`Topic`].
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) name: String,
    is_prefix: bool,
    pub(crate) payload_type: Option<PayloadType>,
    pub(crate) store: Store,
    pub(crate) is_journaled: bool,
}

/// What becomes of the messages of a topic, apart from being delivered.
#[derive(Debug, Clone)]
pub(crate) enum Store {
    Plain,
    Sow(SowRules),
    Queue(QueueRules),
}

#[derive(Debug, Clone)]
pub(crate) struct SowRules {
    /// None: the publisher gives the key.
    pub(crate) keys: Vec<Identifier>,
    pub(crate) key_domain: Option<String>,
    pub(crate) expiration: Expiration,
}

impl Rule {
    pub(crate) fn covers(&self, payload_type: PayloadType, topic: &str) -> bool {
        let named = if self.is_prefix { topic.starts_with(&self.name) } else { topic == self.name };
        named && self.payload_type.is_none_or(|own| own == payload_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_its_name_and_its_message_type() {
        let json = PayloadType::of("json").unwrap();
        let rule = Topic::sow("orders").key("/id").message_type("json").rule(1).unwrap();
        assert!(rule.covers(json, "orders"));
        assert!(!rule.covers(PayloadType::Binary, "orders") && !rule.covers(json, "orders/1"));
        let prefix = Topic::sow("sow/").for_prefix().rule(1).unwrap();
        assert!(prefix.covers(PayloadType::Binary, "sow/x") && !prefix.covers(json, "so"));
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused_and_names_what_is_wrong() {
        let table = [
            (Topic::plain(""), "needs a name"),
            (Topic::sow("a").key("id"), "`id`"),
            (Topic::sow("a").message_type("morse"), "`morse`"),
            (Topic::sow("a").message_type("binary").key("/id"), "no fields"),
            (Topic::sow("a").key("/id").max_backlog(3), "for queues"),
        ];
        for (topic, named) in table {
            let error = topic.rule(1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage);
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
