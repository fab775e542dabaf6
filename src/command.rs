//! What is asked of a server, as a value.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Refused, Result};
use crate::options::text::without_trailing_comma;
use crate::store::{Selector, StoreEntry};
use crate::wire::frame::push_decimal;
use crate::wire::grammar::{is_plain, unsendable};
use crate::wire::{AckType, CommandType, Field, FrameWriter};

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

/// The next automatic id.
pub(crate) fn next_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut id = b"auto".to_vec();
    push_decimal(&mut id, NEXT.fetch_add(1, Ordering::Relaxed));
    // Letters and digits only.
    String::from_utf8(id).unwrap_or_default()
}

impl Command {
    /// True if the command id was generated and may be replaced by another.
    pub(crate) fn has_generated_id(&self) -> bool {
        self.generated
    }

    /// True if a subscription id was given, rather than taken from the command id.
    pub(crate) fn has_own_sub_id(&self) -> bool {
        !self.sub_id.is_empty()
    }

    /// Takes a fresh id in place of a generated one, and for a command that has none.
    pub(crate) fn renew_id(&mut self) {
        self.command_id = next_id();
        self.generated = true;
    }

    /// Makes the ids of subscription and query its own, so that another command id leaves them as they are.
    pub(crate) fn settle_ids(&mut self) {
        self.sub_id = self.sub_id_text().unwrap_or_default().to_owned();
        self.query_id = self.query_id_text().unwrap_or_default().to_owned();
    }

    /// The same without a time limit.
    pub(crate) fn without_timeout(mut self) -> Command {
        self.timeout = None;
        self
    }

    /// The command as a publish store keeps it, with these acknowledgements asked for.
    pub(crate) fn entry(&self, acks: AckType) -> Result<StoreEntry<'_>> {
        let selectors = [
            (!self.filter.is_empty()).then_some(Selector::Filter(&self.filter)),
            (!self.sow_keys.is_empty()).then_some(Selector::SowKeys(&self.sow_keys)),
            (!self.bookmark.is_empty()).then_some(Selector::Bookmark(&self.bookmark)),
            (!self.data.is_empty()).then_some(Selector::Data(&self.data)),
        ];
        let mut given = selectors.into_iter().flatten();
        let selector = given.next().unwrap_or(Selector::Data(b""));
        if given.next().is_some() {
            let text = format!("{} has more than one of filter, SOW keys, bookmark and data", self.kind);
            return Err(Error::new(ErrorKind::Store, text).with_topic(&self.topic));
        }
        self.check_sendable()?;
        Ok(StoreEntry::new(self.kind, &self.topic, selector)
            .with_command_id(&self.command_id)
            .with_sub_id(&self.sub_id)
            .with_query_id(&self.query_id)
            .with_correlation_id(&self.correlation_id)
            .with_sow_key(&self.sow_key)
            .with_options(&self.options)
            .with_expiration(self.expiration.map_or(0, whole_seconds))
            .with_acks(acks.without(AckType::PERSISTED)))
    }

    /// Gives a named delete the ids that its result is keyed by.
    pub(crate) fn with_result_ids(mut self) -> Command {
        self.sub_id = self.command_id.clone();
        self.query_id = self.command_id.clone();
        self
    }

    /// What a refusal of this command may name.
    pub(crate) fn refused<'a>(&'a self, client_name: &'a str, user_id: &'a str) -> Refused<'a> {
        Refused {
            what: self.kind.name(),
            command_id: &self.command_id,
            sub_id: self.sub_id_text().unwrap_or_default(),
            topic: &self.topic,
            filter: &self.filter,
            options: &self.options,
            order_by: &self.order_by,
            bookmark: &self.bookmark,
            sow_key: &self.sow_key,
            sow_keys: &self.sow_keys,
            message_type: "",
            client_name,
            user_id,
        }
    }

    /// Refuses a verb that no client sends.
    pub(crate) fn check_verb(&self) -> Result<()> {
        use CommandType::*;
        let verb = if self.kind == Unknown { &self.verb } else { self.kind.name() };
        match self.kind {
            Ack | Oof | GroupBegin | GroupEnd | Unknown => {
                Err(Error::new(ErrorKind::Command, format!("a client cannot send the command `{verb}`")))
            }
            _ => Ok(()),
        }
    }

    /// Appends the frame, with these acknowledgements asked for.
    pub(crate) fn encode(&self, acks: AckType, buffer: &mut Vec<u8>) -> Result<()> {
        self.check_sendable()?;
        let number = |value: Option<u32>| value.map(u64::from);
        let mut frame = FrameWriter::new(buffer, self.kind);
        frame
            .text(Field::Topic, &self.topic)
            .text(Field::CommandId, &self.command_id)
            .text(Field::Filter, &self.filter);
        if !acks.is_empty() {
            frame.text(Field::AckType, &acks.to_string());
        }
        frame.text(Field::SubId, self.sub_id_text().unwrap_or_default());
        if let Some(seconds) = self.expiration.map(whole_seconds).filter(|seconds| *seconds > 0) {
            frame.quoted_number(Field::Expiration, seconds);
        }
        frame.text(Field::QueryId, self.query_id_text().unwrap_or_default());
        for (field, value) in
            [(Field::BatchSize, number(self.batch_size_value())), (Field::TopN, number(self.top_n))]
        {
            if let Some(value) = value {
                frame.number(field, value);
            }
        }
        frame
            .text(Field::OrderBy, &self.order_by)
            .text(Field::SowKeys, &self.sow_keys)
            .text(Field::CorrelationId, &self.correlation_id);
        if let Some(sequence) = self.sequence {
            frame.number(Field::Sequence, sequence);
        }
        frame
            .text(Field::Bookmark, &self.bookmark)
            .text(Field::Options, &self.options)
            .text(Field::SowKey, &self.sow_key);
        frame.finish(&self.data).map_err(too_large)
    }

    fn check_sendable(&self) -> Result<()> {
        let texts = [
            ("topic", &self.topic),
            ("command id", &self.command_id),
            ("subscription id", &self.sub_id),
            ("query id", &self.query_id),
            ("correlation id", &self.correlation_id),
            ("SOW key", &self.sow_key),
            ("SOW keys", &self.sow_keys),
        ];
        texts.iter().try_for_each(|(what, text)| check_text(what, text))
    }
}

/// Refuses a text with a control character that has no escape in the protocol.
#[inline]
pub(crate) fn check_text(what: &str, text: &str) -> Result<()> {
    if is_plain(text.as_bytes()) { Ok(()) } else { check_each(what, text) }
}

fn check_each(what: &str, text: &str) -> Result<()> {
    match unsendable(text) {
        None => Ok(()),
        Some(character) => {
            let problem = format!("the {what} {text:?} holds the control character {character:?}");
            Err(Error::new(ErrorKind::Usage, problem))
        }
    }
}

/// The error for a frame above the limit of the protocol.
pub(crate) fn too_large(size: usize) -> Error {
    Error::new(ErrorKind::Command, format!("a frame of {size} bytes exceeds the limit of 1 GiB"))
}

/// Rounds up, because the protocol counts whole seconds.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(command: &Command, acks: &str) -> String {
        let mut frame = Vec::new();
        command.encode(AckType::of(acks), &mut frame).unwrap();
        let length = u32::from_be_bytes(*frame.first_chunk().unwrap());
        assert_eq!(length as usize, frame.len() - 4);
        String::from_utf8(frame[4..].to_vec()).unwrap()
    }

    /// `wire-protocol` section 16, examples 12, 18, 19, 24 to 26, 28, 32, 38, 39.
    #[test]
    fn commands_are_written_in_the_fixed_order_of_the_protocol() {
        let id = |c: Command| c.command_id("C").sub_id("S").query_id("Q");
        let table = [
            (
                id(Command::subscribe("orders").filter("/sym = \"A\\B\"").options("oof,timestamp")),
                "processed",
                r#"{"c":"subscribe","t":"orders","cid":"C","filter":"/sym = \"A\\B\"","a":"processed","sub_id":"S","query_id":"Q","o":"oof,timestamp"}"#,
            ),
            (
                Command::unsubscribe("all").command_id("C"),
                "",
                r#"{"c":"unsubscribe","cid":"C","sub_id":"all"}"#,
            ),
            (
                Command::sow("orders")
                    .command_id("C")
                    .filter("/id=1")
                    .batch_size(100)
                    .top_n(5)
                    .order_by("/id DESC"),
                "processed,completed",
                r#"{"c":"sow","t":"orders","cid":"C","filter":"/id=1","a":"processed,completed","query_id":"C","batch_size":100,"top_n":5,"orderby":"/id DESC"}"#,
            ),
            (
                id(Command::sow_and_delta_subscribe("orders").options("oof,no_empties,")),
                "processed",
                r#"{"c":"sow_and_delta_subscribe","t":"orders","cid":"C","a":"processed","sub_id":"S","query_id":"Q","batch_size":10,"o":"oof,no_empties"}"#,
            ),
            (
                Command::sow_delete("orders").command_id("C").with_result_ids().sow_keys("1,2"),
                "processed,stats",
                r#"{"c":"sow_delete","t":"orders","cid":"C","a":"processed,stats","sub_id":"C","query_id":"C","sow_keys":"1,2"}"#,
            ),
            (
                id(Command::subscribe("t").bookmark("0|1|")).query_id(""),
                "processed,persisted",
                r#"{"c":"subscribe","t":"t","cid":"C","a":"processed,persisted","sub_id":"S","bookmark":"0|1|"}"#,
            ),
            (Command::flush().command_id("C"), "processed", r#"{"c":"flush","cid":"C","a":"processed"}"#),
            (Command::heartbeat("start,5"), "", r#"{"c":"heartbeat","o":"start,5"}"#),
            (
                Command::publish("t")
                    .expiration(Duration::from_millis(4001))
                    .correlation_id("abc")
                    .sequence(77)
                    .sow_key("K1")
                    .data("d"),
                "",
                r#"{"c":"p","t":"t","e":"5","x":"abc","s":77,"k":"K1"}d"#,
            ),
            (Command::publish("t").expiration(Duration::ZERO), "", r#"{"c":"p","t":"t"}"#),
            (
                Command::sow("t").command_id("C").top_n(0),
                "",
                r#"{"c":"sow","t":"t","cid":"C","query_id":"C","batch_size":10,"top_n":0}"#,
            ),
        ];
        for (command, acks, expected) in table {
            assert_eq!(encoded(&command, acks), expected);
        }
    }

    #[test]
    fn verbs_that_bring_data_have_ids_and_the_others_do_not() {
        let subscribe = Command::subscribe("t");
        assert!(subscribe.command_id_text().unwrap().starts_with("auto"));
        assert_eq!((subscribe.sub_id_text(), subscribe.query_id_text()), (subscribe.command_id_text(), None));
        let both = Command::sow_and_subscribe("t");
        assert_eq!(
            (both.sub_id_text(), both.query_id_text()),
            (both.command_id_text(), both.command_id_text())
        );
        assert_eq!(Command::sow("t").sub_id_text(), None);
        assert!(Command::sow_delete("t").command_id_text().is_some());
        for command in [Command::publish("t"), Command::delta_publish("t"), Command::flush()] {
            assert_eq!(command.command_id_text(), None);
        }
    }

    #[test]
    fn a_chosen_command_id_leaves_the_subscription_its_own() {
        let made = Command::subscribe("t");
        let id = made.command_id_text().unwrap().to_owned();
        let changed = made.command_id("C1");
        assert_eq!((changed.command_id_text(), changed.sub_id_text()), (Some("C1"), Some(id.as_str())));
        assert!(!changed.has_generated_id());
    }

    #[test]
    fn verbs_of_a_server_are_refused_by_name() {
        for verb in ["ack", "oof", "group_begin", "group_end", "frobnicate", ""] {
            let error = Command::new(verb).check_verb().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Command);
            assert!(error.to_string().contains(&format!("`{verb}`")), "{error}");
        }
        assert!(Command::new("p").check_verb().is_ok());
    }

    #[test]
    fn control_characters_are_refused_and_nothing_is_written() {
        let mut buffer = b"before".to_vec();
        let error = Command::publish("a\u{1}b").encode(AckType::NONE, &mut buffer).unwrap_err();
        assert_eq!((error.kind(), buffer.as_slice()), (ErrorKind::Usage, &b"before"[..]));
        assert!(Command::publish("a\tb").encode(AckType::NONE, &mut buffer).is_ok());
    }

    #[test]
    fn debug_shows_the_header_and_hides_the_payload() {
        let text = format!("{:?}", Command::publish("t").data("secret"));
        assert_eq!(text, r#"Command({"c":"p","t":"t"} + 6 bytes)"#);
    }

    #[test]
    fn seconds_are_rounded_up() {
        let table = [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)];
        for (millis, seconds) in table {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds);
        }
    }
}
