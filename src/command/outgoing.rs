//! How a command becomes a frame, or an entry of a store; its ids; what is refused before anything is sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Command;
use crate::bookmark::Bookmark;
use crate::error::{Error, ErrorKind, Refused, Result};
use crate::store::{Selector, StoreEntry};
use crate::wire::frame::push_decimal;
use crate::wire::grammar::{is_plain, unsendable};
use crate::wire::{AckType, CommandType, Field, FrameWriter};

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

    /// Replaces the starting point.
    pub(crate) fn set_bookmark(&mut self, bookmark: Bookmark) {
        self.bookmark = bookmark.into();
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
