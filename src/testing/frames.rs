//! The frames this server sends, written once each: compact, command first, in a server's spelling (W-4).

use crate::wire::frame::push_decimal;
use crate::wire::grammar::escape_into;
use crate::wire::{AckType, CommandType, Field, FrameWriter};

/// A frame on its way out, its length in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    /// The place in a conversation that this frame marks, if it is one where a test may want to hold the server.
    pub(crate) point: Option<Point>,
    /// Which acknowledgement this is, if it is one.
    pub(crate) ack: AckType,
}

/// Named places at which a conversation can be held up: just before the frame that the name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Point {
    LogonAck,
    PersistedAck,
    GroupEnd,
    Completed,
    /// The first live message of a bookmark subscription.
    Live,
    Heartbeat,
}

impl Outgoing {
    /// A frame too large for the protocol is not sent at all; no command that was read can lead to one.
    fn write(command: CommandType, payload: &[u8], header: impl FnOnce(&mut FrameWriter<'_>)) -> Outgoing {
        let mut bytes = Vec::new();
        let mut frame = FrameWriter::new(&mut bytes, command);
        header(&mut frame);
        if let Err(size) = frame.finish(payload) {
            log::error!(target: super::LOG, "a {command} frame of {size} bytes is too large and was not sent");
        }
        Outgoing { bytes, point: None, ack: AckType::NONE }
    }

    fn at(self, point: Point) -> Outgoing {
        Outgoing { point: Some(point), ..self }
    }
}

/// An acknowledgement; empty texts are left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ack<'a> {
    pub(crate) kind: AckType,
    pub(crate) status: AckStatus,
    pub(crate) reason: &'a str,
    pub(crate) command_id: &'a str,
    pub(crate) sub_id: &'a str,
    pub(crate) query_id: &'a str,
    pub(crate) sequence: Option<u64>,
    pub(crate) bookmark: &'a str,
    pub(crate) client_name: &'a str,
    pub(crate) user_id: &'a str,
    pub(crate) password: &'a str,
    pub(crate) version: &'a str,
    pub(crate) options: &'a str,
    pub(crate) counters: &'a [(Field, u64)],
    pub(crate) is_logon: bool,
}

/// What an acknowledgement says of its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum AckStatus {
    #[default]
    Success,
    Failure,
    Retry,
}

impl AckStatus {
    fn text(self) -> &'static str {
        match self {
            AckStatus::Success => "success",
            AckStatus::Failure => "failure",
            AckStatus::Retry => "retry",
        }
    }
}

impl Ack<'_> {
    pub(crate) fn frame(&self) -> Outgoing {
        let outgoing = Outgoing::write(CommandType::Ack, b"", |frame| self.header(frame));
        Outgoing { point: self.point(), ack: self.kind, ..outgoing }
    }

    fn header(&self, frame: &mut FrameWriter<'_>) {
        frame.text(Field::CommandId, self.command_id);
        frame.text(Field::SubId, self.sub_id).text(Field::QueryId, self.query_id);
        if let Some(sequence) = self.sequence {
            frame.number(Field::Sequence, sequence);
        }
        frame.text_as(Field::Bookmark.server_key(), self.bookmark);
        frame.text(Field::ClientName, self.client_name).text(Field::UserId, self.user_id);
        frame.text(Field::AckType, &self.kind.to_string()).text(Field::Status, self.status.text());
        for (field, count) in self.counters {
            frame.number(*field, *count);
        }
        frame.text(Field::Password, self.password).text(Field::Version, self.version);
        frame.text_as(Field::Options.server_key(), self.options).text(Field::Reason, self.reason);
    }

    fn point(&self) -> Option<Point> {
        match self.kind {
            _ if self.is_logon => Some(Point::LogonAck),
            AckType::PERSISTED => Some(Point::PersistedAck),
            AckType::COMPLETED => Some(Point::Completed),
            _ => None,
        }
    }
}

/// A message for subscriptions; empty texts are left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Delivery<'a> {
    pub(crate) topic: &'a str,
    pub(crate) sub_ids: &'a str,
    pub(crate) sow_key: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) bookmark: &'a str,
    pub(crate) correlation_id: &'a str,
    pub(crate) user_id: &'a str,
    /// When the lease of a message from a queue ends.
    pub(crate) lease_end: &'a str,
    pub(crate) payload: &'a [u8],
}

impl Delivery<'_> {
    pub(crate) fn publish(&self) -> Outgoing {
        Outgoing::write(CommandType::Publish, self.payload, |frame| self.header(frame))
    }

    pub(crate) fn oof(&self, reason: &str) -> Outgoing {
        Outgoing::write(CommandType::Oof, self.payload, |frame| {
            self.header(frame);
            frame.text(Field::Reason, reason);
        })
    }

    fn header(&self, frame: &mut FrameWriter<'_>) {
        frame.text(Field::Topic, self.topic).text(Field::UserId, self.user_id);
        frame.text(Field::Timestamp, self.timestamp);
        frame.text_as(Field::Bookmark.server_key(), self.bookmark);
        frame.text(Field::LeasePeriod, self.lease_end);
        frame.number(Field::MessageLength, self.payload.len() as u64);
        frame.text(Field::SowKey, self.sow_key).text(Field::CorrelationId, self.correlation_id);
        frame.text(Field::SubIds, self.sub_ids);
    }
}

/// The records of one `sow` frame, collected one after the other (W-6).
#[derive(Debug, Default)]
pub(crate) struct Batch {
    body: Vec<u8>,
    records: u64,
}

impl Batch {
    /// Adds a record: its header, of which empty texts are left out, then its payload.
    pub(crate) fn push(&mut self, texts: &[(Field, &str)], payload: &[u8]) {
        self.body.extend_from_slice(b"{\"l\":");
        push_decimal(&mut self.body, payload.len() as u64);
        for (field, value) in texts.iter().filter(|(_, value)| !value.is_empty()) {
            self.body.extend_from_slice(b",\"");
            self.body.extend_from_slice(field.server_key().as_bytes());
            self.body.extend_from_slice(b"\":\"");
            escape_into(&mut self.body, value.as_bytes());
            self.body.push(b'"');
        }
        self.body.push(b'}');
        self.body.extend_from_slice(payload);
        self.records += 1;
    }

    pub(crate) fn len(&self) -> u64 {
        self.records
    }

    /// Bytes collected so far.
    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn frame(&self, query_id: &str, topic: &str) -> Outgoing {
        Outgoing::write(CommandType::Sow, &self.body, |frame| {
            frame.text(Field::Topic, topic).text(Field::QueryId, query_id);
            frame.number_as(Field::BatchSize.server_key(), self.records);
        })
    }
}

pub(crate) fn group_begin(query_id: &str) -> Outgoing {
    Outgoing::write(CommandType::GroupBegin, b"", |frame| {
        frame.text(Field::QueryId, query_id);
    })
}

pub(crate) fn group_end(query_id: &str) -> Outgoing {
    let frame = Outgoing::write(CommandType::GroupEnd, b"", |frame| {
        frame.text(Field::QueryId, query_id);
    });
    frame.at(Point::GroupEnd)
}

pub(crate) fn heartbeat() -> Outgoing {
    Outgoing::write(CommandType::Heartbeat, b"", |_| {}).at(Point::Heartbeat)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(outgoing: &Outgoing) -> String {
        String::from_utf8(outgoing.bytes[4..].to_vec()).unwrap()
    }

    /// `wire-protocol` section 16, examples 13, 14, 23, 27 and 34.
    #[test]
    fn acknowledgements_are_compact_and_leave_out_what_is_empty() {
        let processed = Ack { kind: AckType::PROCESSED, command_id: "auto2", ..Ack::default() };
        assert_eq!(
            text(&processed.frame()),
            r#"{"c":"ack","cid":"auto2","a":"processed","status":"success"}"#
        );
        let failure = Ack { status: AckStatus::Failure, reason: "bad filter", ..processed };
        assert_eq!(
            text(&failure.frame()),
            r#"{"c":"ack","cid":"auto2","a":"processed","status":"failure","reason":"bad filter"}"#
        );
        let stats = Ack {
            kind: AckType::STATS,
            command_id: "auto10",
            query_id: "auto10",
            counters: &[(Field::RecordsDeleted, 1), (Field::TopicMatches, 10), (Field::Matches, 1)],
            ..Ack::default()
        };
        assert_eq!(
            text(&stats.frame()),
            r#"{"c":"ack","cid":"auto10","query_id":"auto10","a":"stats","status":"success","records_deleted":1,"topic_matches":10,"matches":1}"#
        );
        let queue = Ack { options: "max_backlog=5", bookmark: "9|4|", sequence: Some(u64::MAX), ..processed };
        assert_eq!(
            text(&queue.frame()),
            r#"{"c":"ack","cid":"auto2","s":18446744073709551615,"bm":"9|4|","a":"processed","status":"success","opts":"max_backlog=5"}"#
        );
    }

    /// `wire-protocol` section 16, example 21, and W-6.
    #[test]
    fn a_batch_holds_an_inner_header_and_a_payload_for_each_record() {
        let mut batch = Batch::default();
        batch.push(&[(Field::SowKey, "111"), (Field::Timestamp, "")], b"{\"id\":1}");
        batch.push(&[(Field::SowKey, "222"), (Field::CorrelationId, "a\"c")], b"{\"id\":22}");
        assert_eq!((batch.len(), batch.size()), (2, 62));
        assert_eq!(
            text(&batch.frame("auto7", "orders")),
            concat!(
                r#"{"c":"sow","t":"orders","query_id":"auto7","bs":2}"#,
                r#"{"l":8,"k":"111"}{"id":1}{"l":9,"k":"222","x":"a\"c"}{"id":22}"#
            )
        );
    }

    /// W-4.
    #[test]
    fn deliveries_escape_their_texts_and_nothing_else() {
        let delivery = Delivery {
            topic: "or\"d\\é",
            sub_ids: "a,b",
            sow_key: "1",
            payload: b"x",
            ..Delivery::default()
        };
        assert_eq!(text(&delivery.publish()), r#"{"c":"p","t":"or\"d\\é","l":1,"k":"1","sids":"a,b"}x"#);
        assert_eq!(
            text(&Delivery { topic: "t", ..delivery }.oof("match")),
            r#"{"c":"oof","t":"t","l":1,"k":"1","sids":"a,b","reason":"match"}x"#
        );
    }

    #[test]
    fn frames_at_which_a_test_may_hold_the_server_say_so() {
        assert_eq!(heartbeat().point, Some(Point::Heartbeat));
        assert_eq!(group_end("q").point, Some(Point::GroupEnd));
        assert_eq!(group_begin("q").point, None);
        let ack = |kind| Ack { kind, ..Ack::default() }.frame().point;
        assert_eq!(ack(AckType::COMPLETED), Some(Point::Completed));
        assert_eq!(ack(AckType::PERSISTED), Some(Point::PersistedAck));
        assert_eq!(ack(AckType::STATS), None);
    }
}
