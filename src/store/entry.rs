//! A command as a publish store sees it: borrowed, nothing copied.

use std::collections::TryReserveError;

use super::content::{Bare, Content};
use crate::command::too_large;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::text;
use crate::wire::frame::StoredPublishWriter;
use crate::wire::grammar::{MAX_HEADER, is_plain, unsendable};
use crate::wire::{AckType, CommandType, Field, FrameWriter, MAX_FRAME};

/// What a delete or a publish is about: exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector<'a> {
    /// The payload.
    Data(&'a [u8]),
    /// A content filter.
    Filter(&'a str),
    /// A comma list of SOW keys.
    SowKeys(&'a str),
    /// Queue messages, by bookmark.
    Bookmark(&'a str),
}

/// A publish, a delta publish, a delete or a queue acknowledgement on its way through a publish store.
///
/// A store keeps everything of it except [`may_wait`](StoreEntry::may_wait). Made by the library; stores that keep
/// messages in a form of their own make one to hand a message out:
///
/// ```
/// use amps_client::{CommandType, Selector, StoreEntry};
///
/// let entry = StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"{}")).with_sow_key("K1");
/// assert_eq!((entry.topic, entry.sow_key), ("orders", "K1"));
/// assert!(!entry.is_cancel());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreEntry<'a> {
    /// What it is.
    pub command: CommandType,
    /// Its topic.
    pub topic: &'a str,
    /// What it is about.
    pub selector: Selector<'a>,
    /// Its id; empty if it has none.
    pub command_id: &'a str,
    /// The subscription id of a delete; mostly empty.
    pub sub_id: &'a str,
    /// The query id of a delete; mostly empty.
    pub query_id: &'a str,
    /// The correlation id; mostly empty.
    pub correlation_id: &'a str,
    /// The SOW key that the publisher chose; mostly empty.
    pub sow_key: &'a str,
    /// The options, word for word; mostly empty.
    pub options: &'a str,
    /// The lifetime in seconds; 0 for none.
    pub expiration: u64,
    /// The acknowledgements it asks for besides `persisted`.
    pub acks: AckType,
    /// False where nothing may wait, as on the receive thread.
    pub may_wait: bool,
}

macro_rules! setters {
    ($($(#[$doc:meta])+ $name:ident, $field:ident: $type:ty;)+) => {
        $($(#[$doc])+
        #[must_use]
        pub fn $name(self, $field: $type) -> StoreEntry<'a> {
            StoreEntry { $field, ..self }
        })+
    };
}

/// What a frame is made from. To find that out takes a look at every field; it is done once, and costs nothing where the
/// compiler sees how the entry was made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sendable<'a> {
    /// A publish with nothing but a topic and a payload.
    Bare(&'a str, &'a [u8]),
    Full(&'a StoreEntry<'a>),
}

impl Sendable<'_> {
    /// Appends the frame with this number.
    #[inline(always)]
    pub(crate) fn encode(
        self,
        sequence: u64,
        writer: &mut StoredPublishWriter,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        match self {
            Sendable::Bare(topic, payload) => {
                writer.write(buffer, topic, sequence, payload).map_err(too_large)
            }
            Sendable::Full(entry) => entry.encode_in_full(sequence, buffer),
        }
    }
}

impl<'a> StoreEntry<'a> {
    /// A command with nothing but a topic and a selector, that may wait.
    pub fn new(command: CommandType, topic: &'a str, selector: Selector<'a>) -> StoreEntry<'a> {
        StoreEntry {
            command,
            topic,
            selector,
            command_id: "",
            sub_id: "",
            query_id: "",
            correlation_id: "",
            sow_key: "",
            options: "",
            expiration: 0,
            acks: AckType::NONE,
            may_wait: true,
        }
    }

    setters! {
        /// The same with a command id.
        with_command_id, command_id: &'a str;
        /// The same with a subscription id.
        with_sub_id, sub_id: &'a str;
        /// The same with a query id.
        with_query_id, query_id: &'a str;
        /// The same with a correlation id.
        with_correlation_id, correlation_id: &'a str;
        /// The same with a SOW key.
        with_sow_key, sow_key: &'a str;
        /// The same with options.
        with_options, options: &'a str;
        /// The same with a lifetime in seconds.
        with_expiration, expiration: u64;
        /// The same with acknowledgements to ask for.
        with_acks, acks: AckType;
        /// The same where waiting is allowed or not.
        with_may_wait, may_wait: bool;
    }

    /// True for a queue message that is given back: after a reconnect that has no meaning any more, because the loss of the
    /// connection gave it back already.
    pub fn is_cancel(&self) -> bool {
        matches!(self.selector, Selector::Bookmark(_)) && text::has(self.options, "cancel")
    }

    /// What its frame is made from.
    #[inline(always)]
    pub(crate) fn sendable(&self) -> Sendable<'_> {
        match self.bare_payload() {
            // The writer keeps the topic, which is to be no burden.
            Some(payload) if Bare::fits(self.topic, payload) => Sendable::Bare(self.topic, payload),
            _ => Sendable::Full(self),
        }
    }

    /// Appends the frame that sends it under this number.
    pub(crate) fn encode_in_full(&self, sequence: u64, buffer: &mut Vec<u8>) -> Result<()> {
        let mut frame = FrameWriter::new(buffer, self.command);
        frame.text(Field::Topic, self.topic).text(Field::CommandId, self.command_id);
        if let Selector::Filter(filter) = self.selector {
            frame.text(Field::Filter, filter);
        }
        match self.acks {
            AckType::NONE => frame.text(Field::AckType, "persisted"),
            acks => frame.text(Field::AckType, &(acks | AckType::PERSISTED).to_string()),
        };
        frame.text(Field::SubId, self.sub_id);
        if self.expiration > 0 {
            frame.text(Field::Expiration, &self.expiration.to_string());
        }
        frame.text(Field::QueryId, self.query_id);
        if let Selector::SowKeys(keys) = self.selector {
            frame.text(Field::SowKeys, keys);
        }
        frame.text(Field::CorrelationId, self.correlation_id).number(Field::Sequence, sequence);
        if let Selector::Bookmark(bookmark) = self.selector {
            frame.text(Field::Bookmark, bookmark);
        }
        frame.text(Field::Options, self.options).text(Field::SowKey, self.sow_key);
        frame.finish(if let Selector::Data(data) = self.selector { data } else { b"" }).map_err(too_large)
    }

    /// The payload, if it is a publish with nothing else but a topic.
    #[inline(always)]
    fn bare_payload(&self) -> Option<&'a [u8]> {
        let Selector::Data(data) = self.selector else { return None };
        let headers = self.command_id.len()
            | self.sub_id.len()
            | self.query_id.len()
            | self.correlation_id.len()
            | self.sow_key.len()
            | self.options.len();
        let bare = headers == 0 && self.expiration == 0 && self.acks == AckType::NONE;
        (bare && self.command == CommandType::Publish && !self.topic.is_empty()).then_some(data)
    }

    /// What a store keeps of it under this number. Refuses what could not be read back or not be sent. A frame is made in
    /// `room`, in the place of what is there.
    #[inline(always)]
    pub(crate) fn content<'b>(&'b self, sequence: u64, room: &'b mut Vec<u8>) -> Result<Content<'b>> {
        match self.bare_payload() {
            Some(payload) if Bare::fits(self.topic, payload) && is_plain(self.topic.as_bytes()) => {
                Ok(Content::Bare(Bare { sequence, topic: self.topic, payload }))
            }
            _ => self.full_frame(sequence, room).map(Content::Framed),
        }
    }

    #[cold]
    fn full_frame<'b>(&self, sequence: u64, room: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        let size = self.measure()?;
        room.clear();
        room.try_reserve(size).map_err(no_memory)?;
        self.encode_in_full(sequence, room)?;
        Ok(room)
    }

    /// How many bytes its frame has at most.
    fn measure(&self) -> Result<usize> {
        let header = self.measure_header()?;
        if header > MAX_HEADER - FIXED_PART {
            return Err(unkeepable(format!("a header of up to {header} bytes is too large")));
        }
        let data = if let Selector::Data(data) = self.selector { data.len() } else { 0 };
        if data > MAX_FRAME as usize {
            return Err(too_large(data));
        }
        Ok(FIXED_PART + header + data)
    }

    fn measure_header(&self) -> Result<usize> {
        if !matches!(self.command, CommandType::Publish | CommandType::DeltaPublish | CommandType::SowDelete)
        {
            return Err(unkeepable(format!("{} is no command that is stored", self.command)));
        }
        let (name, selector) = match self.selector {
            Selector::Data(_) => ("data", "-"),
            Selector::Filter(text) => ("filter", text),
            Selector::SowKeys(text) => ("list of SOW keys", text),
            Selector::Bookmark(text) => ("bookmark", text),
        };
        if selector.is_empty() {
            return Err(unkeepable(format!("the {name} of a {} is empty", self.command)));
        }
        let texts = [
            ("topic", self.topic),
            ("command id", self.command_id),
            ("subscription id", self.sub_id),
            ("query id", self.query_id),
            ("correlation id", self.correlation_id),
            ("SOW key", self.sow_key),
            ("options", self.options),
            (name, selector),
        ];
        if let Some((name, text)) = texts.iter().find(|(_, text)| unsendable(text).is_some()) {
            return Err(unkeepable(format!("the {name} {text:?} holds a control character")));
        }
        // An escape doubles a character at most.
        Ok(texts.iter().map(|(_, text)| 2 * text.len()).sum())
    }

    /// Reads back what [`StoreEntry::encode_in_full`] has written.
    pub(crate) fn of(message: &'a Message) -> StoreEntry<'a> {
        let text = |field| message.text(field).unwrap_or_default();
        let selector = match (message.filter(), message.sow_keys(), message.bookmark()) {
            (Some(filter), ..) => Selector::Filter(filter),
            (None, Some(keys), _) => Selector::SowKeys(keys),
            (None, None, Some(bookmark)) => Selector::Bookmark(bookmark),
            (None, None, None) => Selector::Data(message.data()),
        };
        StoreEntry {
            command: message.command(),
            topic: text(Field::Topic),
            selector,
            command_id: text(Field::CommandId),
            sub_id: text(Field::SubId),
            query_id: text(Field::QueryId),
            correlation_id: text(Field::CorrelationId),
            sow_key: text(Field::SowKey),
            options: text(Field::Options),
            expiration: message.expiration().unwrap_or(0),
            acks: message.ack_type().without(AckType::PERSISTED),
            may_wait: true,
        }
    }
}

/// What the header takes at most besides the texts in it: keys, quotes, command, acknowledgements, numbers.
const FIXED_PART: usize = 512;

#[cold]
pub(crate) fn no_memory(error: TryReserveError) -> Error {
    Error::new(ErrorKind::Store, "no memory for a message").with_source(error)
}

fn unkeepable(text: String) -> Error {
    Error::new(ErrorKind::Store, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_being_written_and_read() {
        let full = StoreEntry::new(CommandType::SowDelete, "or\"ders", Selector::Filter("/a = \"b\""))
            .with_command_id("C")
            .with_sub_id("S")
            .with_query_id("Q")
            .with_correlation_id("QQ==")
            .with_sow_key("k")
            .with_options("a,b")
            .with_expiration(5)
            .with_acks(AckType::PROCESSED | AckType::STATS);
        let entries = [
            full,
            StoreEntry { selector: Selector::SowKeys("1,2"), ..full },
            StoreEntry { selector: Selector::Bookmark("1|2|,1|3|"), ..full },
            StoreEntry { selector: Selector::Data(b"\x00\xFF"), command: CommandType::DeltaPublish, ..full },
            StoreEntry::new(CommandType::Publish, "t", Selector::Data(b"")),
        ];
        for entry in entries {
            let mut frame = Vec::new();
            entry.encode_in_full(77, &mut frame).unwrap();
            let message = Message::from_frame(&frame).unwrap();
            assert_eq!(StoreEntry::of(&message), entry);
            assert_eq!(message.sequence(), Some(77));
        }
    }

    #[test]
    fn only_a_queue_cancel_is_a_cancel() {
        let ack = StoreEntry::new(CommandType::SowDelete, "q", Selector::Bookmark("1|2|"));
        assert!(!ack.is_cancel() && !ack.with_options("expire").is_cancel());
        assert!(ack.with_options("cancel").is_cancel());
        assert!(
            !StoreEntry::new(CommandType::SowDelete, "q", Selector::Data(b""))
                .with_options("cancel")
                .is_cancel()
        );
    }

    /// `wire-protocol` section 16, example 8.
    #[test]
    fn a_stored_publish_asks_for_persisted_under_its_number() {
        let mut frame = Vec::new();
        StoreEntry::new(CommandType::Publish, "t", Selector::Data(b"d1"))
            .encode_in_full(1_795_337_071_422_000_001, &mut frame)
            .unwrap();
        assert_eq!(&frame[4..], br#"{"c":"p","t":"t","a":"persisted","s":1795337071422000001}d1"#);
    }

    #[test]
    fn a_bare_publish_is_written_as_any_other() {
        let plain = StoreEntry::new(CommandType::Publish, "orders", Selector::Data(b"d1"));
        let mut writer = StoredPublishWriter::default();
        for entry in [plain, StoreEntry { topic: "or\"d", ..plain }, StoreEntry { topic: "", ..plain }] {
            let large = 1_795_337_071_422_000_001;
            for sequence in [0, 7, 99_999_999, 100_000_000, large, large + 1, large, u64::MAX] {
                let (mut short, mut full) = (Vec::new(), Vec::new());
                entry.sendable().encode(sequence, &mut writer, &mut short).unwrap();
                entry.encode_in_full(sequence, &mut full).unwrap();
                assert_eq!(short, full);
            }
        }
    }

    #[test]
    fn no_frame_is_larger_than_was_measured() {
        let full = StoreEntry::new(CommandType::DeltaPublish, "\n\n\n\n", Selector::Filter("\"\\\"\\"))
            .with_command_id("\"\"\"\"\"\"")
            .with_options("\t\t\t\t")
            .with_expiration(u64::MAX)
            .with_acks(AckType::of("received,processed,persisted,completed,stats,parsed"));
        let plain = StoreEntry::new(CommandType::Publish, "t", Selector::Data(&[b'"'; 1000]));
        for entry in [full, plain] {
            let mut frame = Vec::new();
            entry.encode_in_full(u64::MAX, &mut frame).unwrap();
            assert!(frame.len() <= entry.measure().unwrap(), "{entry:?}");
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_refused() {
        let plain = StoreEntry::new(CommandType::Publish, "t", Selector::Data(b""));
        let refused = [
            (StoreEntry { command: CommandType::Sow, ..plain }, "sow is no command that is stored"),
            (StoreEntry { selector: Selector::Filter(""), ..plain }, "the filter of a publish is empty"),
            (StoreEntry { topic: "a\u{1}", ..plain }, r#"the topic "a\u{1}" holds a control character"#),
        ];
        for (entry, text) in refused {
            let error = entry.content(1, &mut Vec::new()).map(|_| ()).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Store, text));
        }
    }
}
