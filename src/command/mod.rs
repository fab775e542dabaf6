//! What is asked of a server, as a value.

mod outgoing;

use std::fmt;
use std::time::Duration;

pub(crate) use outgoing::{check_text, next_id, too_large, whole_seconds};

use crate::options::text::without_trailing_comma;
use crate::wire::{AckType, CommandType};

/// A command: what to do, with what, and what to be told about it.
///
/// A command is a plain value. Executing it leaves no trace in it, so it may be executed again, on the same client or
/// on another. Setters take over what the [`Client`](crate::Client)'s named operations leave at its default; a field
/// that is not set, or set to an empty text, is not sent. Nothing is checked here: the server judges combinations.
///
/// A verb that brings data back gets an id at construction, `auto` and a number that is unique in the process.
///
/// ```
/// use amps_client::{AckType, Command};
/// use std::time::Duration;
///
/// let command = Command::sow_and_subscribe("orders")
///     .filter("/px > 10")
///     .order_by("/px DESC")
///     .batch_size(100)
///     .options("oof,timestamp")
///     .add_ack_type(AckType::COMPLETED)
///     .timeout(Duration::from_secs(5));
/// assert!(command.is_subscribe());
/// assert_eq!(command.filter_text(), Some("/px > 10"));
/// assert_eq!(command.sub_id_text(), command.command_id_text());
/// ```
#[derive(Clone)]
pub struct Command {
    kind: CommandType,
    /// The verb as the caller wrote it, if it is none of ours.
    verb: String,
    topic: String,
    filter: String,
    bookmark: String,
    options: String,
    order_by: String,
    correlation_id: String,
    sow_key: String,
    sow_keys: String,
    command_id: String,
    /// The command id was made by us and may be replaced if it is taken.
    generated: bool,
    sub_id: String,
    query_id: String,
    data: Vec<u8>,
    top_n: Option<u32>,
    batch_size: Option<u32>,
    expiration: Option<Duration>,
    sequence: Option<u64>,
    acks: AckType,
    timeout: Option<Duration>,
}

macro_rules! verbs {
    ($($(#[$doc:meta])+ $name:ident => $kind:ident,)+) => {
        $($(#[$doc])+
        pub fn $name(topic: impl Into<String>) -> Command {
            Command::of_type(CommandType::$kind).topic(topic)
        })+
    };
}

macro_rules! texts {
    ($($(#[$doc:meta])+ $field:ident, $getter:ident;)+) => {
        $($(#[$doc])+
        #[must_use]
        pub fn $field(mut self, $field: impl Into<String>) -> Command {
            self.$field = $field.into();
            self
        }

        #[doc = concat!("What [`", stringify!($field), "`](Command::", stringify!($field), ") was set to.")]
        pub fn $getter(&self) -> Option<&str> {
            (!self.$field.is_empty()).then_some(&self.$field)
        })+
    };
}

impl Command {
    /// A command of any verb. One that only a server sends, or an unknown one, is refused when it is executed.
    ///
    /// ```
    /// use amps_client::{Command, CommandType};
    ///
    /// assert_eq!(Command::new("subscribe").command_type(), CommandType::Subscribe);
    /// assert_eq!(Command::new("frobnicate").command_type(), CommandType::Unknown);
    /// ```
    pub fn new(verb: &str) -> Command {
        let kind = CommandType::of(verb);
        let mut command = Command::of_type(kind);
        if kind == CommandType::Unknown {
            command.verb = verb.to_owned();
        }
        command
    }

    fn of_type(kind: CommandType) -> Command {
        use CommandType::*;
        let brings_data = kind.is_subscribe() || kind.is_query() || kind == SowDelete;
        Command {
            kind,
            verb: String::new(),
            topic: String::new(),
            filter: String::new(),
            bookmark: String::new(),
            options: String::new(),
            order_by: String::new(),
            correlation_id: String::new(),
            sow_key: String::new(),
            sow_keys: String::new(),
            command_id: if brings_data { next_id() } else { String::new() },
            generated: brings_data,
            sub_id: String::new(),
            query_id: String::new(),
            data: Vec::new(),
            top_n: None,
            batch_size: None,
            expiration: None,
            sequence: None,
            acks: AckType::NONE,
            timeout: None,
        }
    }

    verbs! {
        /// Publishes [`data`](Command::data) to a topic.
        publish => Publish,
        /// Publishes changed fields, which the server merges into the record.
        delta_publish => DeltaPublish,
        /// Subscribes to a topic, or to all topics that match a regular expression.
        subscribe => Subscribe,
        /// Subscribes to changed fields only.
        delta_subscribe => DeltaSubscribe,
        /// Queries the state of the world.
        sow => Sow,
        /// Queries and subscribes in one atomic step.
        sow_and_subscribe => SowAndSubscribe,
        /// Queries and subscribes to changed fields in one atomic step.
        sow_and_delta_subscribe => SowAndDeltaSubscribe,
        /// Deletes records: by exactly one of filter, SOW keys, data or bookmark.
        sow_delete => SowDelete,
    }

    /// Ends a subscription: an id, a comma list of ids, or `all`.
    pub fn unsubscribe(sub_id: impl Into<String>) -> Command {
        Command::of_type(CommandType::Unsubscribe).sub_id(sub_id)
    }

    /// Asks to be told when everything sent before is done. Usually [`publish_flush`](crate::Client::publish_flush) is what you
    /// want.
    pub fn flush() -> Command {
        Command::of_type(CommandType::Flush)
    }

    /// A heartbeat command with these options, such as `start,5`. Usually
    /// [`set_heartbeat`](crate::Client::set_heartbeat) is what you want.
    pub fn heartbeat(options: impl Into<String>) -> Command {
        Command::of_type(CommandType::Heartbeat).options(options)
    }

    texts! {
        /// The topic. Default: none.
        topic, topic_text;
        /// The content filter. Default: none.
        filter, filter_text;
        /// Where a subscription starts in the transaction log, or a historical query; text or a
        /// [`Bookmark`](crate::Bookmark). Default: none.
        bookmark, bookmark_text;
        /// The order of a query's result, such as `/px DESC`. Default: the server's.
        order_by, order_by_text;
        /// Passed on to subscribers as it is; letters of the base64 alphabet only. Default: none.
        correlation_id, correlation_id_text;
        /// The key of the record, for topics whose publishers choose it. Default: none.
        sow_key, sow_key_text;
        /// A comma list of SOW keys to query or to delete. Default: none.
        sow_keys, sow_keys_text;
    }

    /// The options: text, or a typed set such as [`SubscribeOptions`](crate::SubscribeOptions). One trailing comma is
    /// dropped. Default: none.
    #[must_use]
    pub fn options(mut self, options: impl Into<String>) -> Command {
        let options = options.into();
        self.options = without_trailing_comma(&options).to_owned();
        self
    }

    /// What [`options`](Command::options) was set to.
    pub fn options_text(&self) -> Option<&str> {
        (!self.options.is_empty()).then_some(&self.options)
    }

    /// The payload. Default: none.
    #[must_use]
    pub fn data(mut self, data: impl Into<Vec<u8>>) -> Command {
        self.data = data.into();
        self
    }

    /// What [`data`](Command::data) was set to.
    pub fn data_bytes(&self) -> &[u8] {
        &self.data
    }

    /// How many records a query returns at most. Default: all.
    #[must_use]
    pub fn top_n(mut self, top_n: u32) -> Command {
        self.top_n = Some(top_n);
        self
    }

    /// What [`top_n`](Command::top_n) was set to.
    pub fn top_n_value(&self) -> Option<u32> {
        self.top_n
    }

    /// How many records the server puts into one frame. Default: 10 for queries, on the client's part.
    #[must_use]
    pub fn batch_size(mut self, batch_size: u32) -> Command {
        self.batch_size = Some(batch_size);
        self
    }

    /// What [`batch_size`](Command::batch_size) was set to, or the default of a query.
    pub fn batch_size_value(&self) -> Option<u32> {
        self.batch_size.or(self.kind.is_query().then_some(DEFAULT_BATCH_SIZE))
    }

    /// How long a published message lives in the SOW or in a queue, rounded up to whole seconds; zero is not sent.
    /// Default: the server's.
    #[must_use]
    pub fn expiration(mut self, lifetime: Duration) -> Command {
        self.expiration = Some(lifetime);
        self
    }

    /// What [`expiration`](Command::expiration) was set to.
    pub fn expiration_value(&self) -> Option<Duration> {
        self.expiration
    }

    /// The publish sequence number. With a publish store it is overwritten; setting it by hand breaks the detection of
    /// duplicates. Default: none.
    #[must_use]
    pub fn sequence(mut self, sequence: u64) -> Command {
        self.sequence = Some(sequence);
        self
    }

    /// What [`sequence`](Command::sequence) was set to.
    pub fn sequence_value(&self) -> Option<u64> {
        self.sequence
    }

    /// The id of the command. Default: generated for verbs that bring data back; the others have none unless they are
    /// given a handler.
    #[must_use]
    pub fn command_id(mut self, id: impl Into<String>) -> Command {
        let id = id.into();
        if self.generated && self.sub_id.is_empty() && self.kind.is_subscribe() {
            // The subscription keeps the id it was made with.
            self.sub_id = std::mem::take(&mut self.command_id);
        }
        self.generated = false;
        self.command_id = id;
        self
    }

    /// The id of the command, set or generated.
    pub fn command_id_text(&self) -> Option<&str> {
        (!self.command_id.is_empty()).then_some(&self.command_id)
    }

    /// The id of the subscription, stable over reconnects. Default: the command id of a subscribing verb.
    #[must_use]
    pub fn sub_id(mut self, id: impl Into<String>) -> Command {
        self.sub_id = id.into();
        self
    }

    /// The id of the subscription, set or by default.
    pub fn sub_id_text(&self) -> Option<&str> {
        match self.sub_id.as_str() {
            "" if self.kind.is_subscribe() => self.command_id_text(),
            "" => None,
            id => Some(id),
        }
    }

    /// The id under which the result of a query comes. Default: the command id of a querying verb.
    #[must_use]
    pub fn query_id(mut self, id: impl Into<String>) -> Command {
        self.query_id = id.into();
        self
    }

    /// The id of the query, set or by default.
    pub fn query_id_text(&self) -> Option<&str> {
        match self.query_id.as_str() {
            "" if self.kind.is_query() => self.command_id_text(),
            "" => None,
            id => Some(id),
        }
    }

    /// The acknowledgements to be delivered, in place of those set before. Those that the library needs for itself are
    /// added when the command is executed, and are not delivered. Default: none.
    #[must_use]
    pub fn ack_type(mut self, acks: AckType) -> Command {
        self.acks = acks;
        self
    }

    /// Adds to the acknowledgements to be delivered.
    #[must_use]
    pub fn add_ack_type(mut self, acks: AckType) -> Command {
        self.acks |= acks;
        self
    }

    /// The acknowledgements to be delivered.
    pub fn ack_type_value(&self) -> AckType {
        self.acks
    }

    /// How long executing the command may take in all, an outage that is waited out included. Default: no limit.
    ///
    /// An answer queues behind data that is already on its way: allow for it. A write that blocks because the server does not
    /// read is not bounded by it.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Command {
        self.timeout = Some(limit);
        self
    }

    /// What [`timeout`](Command::timeout) was set to.
    pub fn timeout_value(&self) -> Option<Duration> {
        self.timeout
    }

    /// What the command does.
    pub fn command_type(&self) -> CommandType {
        self.kind
    }

    /// True for the verbs that place a subscription.
    pub fn is_subscribe(&self) -> bool {
        self.kind.is_subscribe()
    }

    /// True for a pure query.
    pub fn is_sow(&self) -> bool {
        self.kind.is_sow()
    }

    /// True for what a publish store keeps and numbers: publish, delta_publish and sow_delete.
    pub fn needs_sequence(&self) -> bool {
        self.kind.needs_sequence()
    }
}

/// How many records a query asks for in one frame unless told otherwise; a server's own default is 1.
const DEFAULT_BATCH_SIZE: u32 = 10;

impl fmt::Debug for Command {
    /// Shows the header, and the size of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut frame = Vec::new();
        let header = match self.encode(self.acks, &mut frame) {
            Ok(()) => {
                String::from_utf8_lossy(frame.get(4..frame.len() - self.data.len()).unwrap_or_default())
            }
            Err(_) => self.kind.name().into(),
        };
        write!(f, "Command({header} + {} bytes)", self.data.len())
    }
}
