//! What is received: one owned message type.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::bookmark::Bookmark;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::timestamp;
use crate::wire::block::{HeaderReader, decimal};
use crate::wire::{AckType, Block, CommandType, Entry, Field, FrameWriter, MAX_FRAME, Status, WireError};

/// A message from the server: a slice of the receive buffer and its parsed header.
///
/// Handlers get it borrowed, streams hand it out owned. [`clone`](Clone::clone) copies no payload: it shares the
/// receive buffer, which lives as long as one of its messages does. Keep a small message for long with
/// [`detach`](Message::detach), which copies it out.
///
/// A header that is absent or empty is `None`; a number that cannot be read counts as absent. Header texts are decoded
/// and always UTF-8: a byte that is none was replaced by `?`. A message cannot be changed; what is sent is a
/// [`Command`](crate::Command).
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{Client, CommandType};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("reader").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// client.publish("sow/orders", br#"{"id":1,"px":10}"#)?;
/// client.publish_flush()?;
///
/// for message in client.sow("sow/orders", "/px > 5")? {
///     let message = message?;
///     if message.command() == CommandType::Sow {
///         assert_eq!(message.topic(), Some("sow/orders"));
///         assert_eq!(message.data(), br#"{"id":1,"px":10}"#);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Message {
    block: Arc<Block>,
    entry: Entry,
    /// Which part of `sids` this delivery is for: start and end within the value; 0..0 if it was not delivered by it.
    recipient: (u32, u32),
    bookmark_seq: u64,
}

macro_rules! texts {
    ($($(#[$doc:meta])+ $name:ident: $field:ident,)+) => {
        $($(#[$doc])+
        #[inline]
        pub fn $name(&self) -> Option<&str> {
            self.text(Field::$field)
        })+
    };
}

macro_rules! numbers {
    ($($(#[$doc:meta])+ $name:ident: $field:ident,)+) => {
        $($(#[$doc])+
        pub fn $name(&self) -> Option<u64> {
            self.block.field(self.entry, Field::$field).and_then(decimal)
        })+
    };
}

impl Message {
    #[inline]
    pub(crate) fn new(block: Arc<Block>, entry: Entry) -> Message {
        Message { block, entry, recipient: (0, 0), bookmark_seq: 0 }
    }

    /// The message in one frame, length prefix included.
    pub(crate) fn from_frame(frame: &[u8]) -> Result<Message, WireError> {
        let mut block = Block::with_capacity(frame.len());
        block.copy_to_front(frame);
        let walk = block.walk(frame.len(), MAX_FRAME, &mut HeaderReader::default());
        match (walk.error, block.entries().first().copied()) {
            (Some(error), _) => Err(error),
            (None, None) => Err(WireError::NoCommand),
            (None, Some(entry)) => Ok(Message::new(Arc::new(block), entry)),
        }
    }

    /// A message with nothing but a sequence number, if there is one.
    pub(crate) fn with_sequence(sequence: Option<u64>) -> Message {
        let mut frame = Vec::new();
        let mut writer = FrameWriter::new(&mut frame, CommandType::Publish);
        if let Some(sequence) = sequence {
            writer.number(Field::Sequence, sequence);
        }
        // A frame of a few bytes is not too large, and what we write we can read.
        let message = writer.finish(b"").ok().and_then(|()| Message::from_frame(&frame).ok());
        message.unwrap_or_else(|| Message::new(Arc::default(), Entry::default()))
    }

    /// Points this message at another entry of the same block: what the receive thread does for each message.
    #[inline]
    pub(crate) fn turn_to(&mut self, entry: Entry) {
        self.entry = entry;
        self.recipient = (0, 0);
        self.bookmark_seq = 0;
    }

    /// Says for which of the listed subscriptions this delivery is: a range within the text of `sids`.
    #[inline]
    pub(crate) fn deliver_to(&mut self, start: u32, end: u32) {
        self.recipient = (start, end);
    }

    /// The number that the bookmark store gave to this delivery.
    #[inline]
    pub(crate) fn set_bookmark_seq(&mut self, number: u64) {
        self.bookmark_seq = number;
    }

    /// The range set by [`Message::deliver_to`].
    pub(crate) fn recipient(&self) -> (u32, u32) {
        self.recipient
    }

    #[inline]
    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.block
    }

    #[inline]
    pub(crate) fn entry(&self) -> Entry {
        self.entry
    }

    #[inline]
    pub(crate) fn bytes(&self, field: Field) -> Option<&[u8]> {
        self.block.field(self.entry, field)
    }

    #[inline]
    pub(crate) fn text(&self, field: Field) -> Option<&str> {
        self.block.text(self.entry, field)
    }

    /// The password of a logon or of its answer; empty without one. Never shown to the application.
    pub(crate) fn password(&self) -> &str {
        self.text(Field::Password).unwrap_or_default()
    }

    /// What the message is.
    #[inline]
    pub fn command(&self) -> CommandType {
        self.block.command(self.entry)
    }

    /// The payload: any bytes, possibly none. The library never looks at them.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.block.payload(self.entry)
    }

    /// The payload as text.
    ///
    /// # Errors
    ///
    /// [`Amps`](ErrorKind::Amps) if the payload is not UTF-8; the text says where.
    pub fn data_str(&self) -> Result<&str> {
        std::str::from_utf8(self.data())
            .map_err(|e| Error::new(ErrorKind::Amps, "the payload is not UTF-8").with_source(e))
    }

    /// The subscription this message was delivered to: one of [`sub_ids`](Message::sub_ids), or the id in an
    /// acknowledgement.
    #[inline]
    pub fn sub_id(&self) -> Option<&str> {
        match self.recipient {
            (0, 0) => self.text(Field::SubId),
            (start, end) => {
                // Only the part is looked at: a list may be long, and each of its ids is asked for.
                let id = self.bytes(Field::SubIds)?.get(start as usize..end as usize)?;
                std::str::from_utf8(id).ok()
            }
        }
    }

    /// The bytes of [`sub_id`](Message::sub_id).
    #[inline]
    pub(crate) fn sub_id_bytes(&self) -> Option<&[u8]> {
        match self.recipient {
            (0, 0) => self.bytes(Field::SubId),
            (start, end) => self.bytes(Field::SubIds)?.get(start as usize..end as usize),
        }
    }

    texts! {
        /// The id of the command that this message answers.
        command_id: CommandId,
        /// All subscriptions this message is for, as a comma list.
        sub_ids: SubIds,
        /// The query whose result this message belongs to.
        query_id: QueryId,
        /// The topic the message was published to.
        topic: Topic,
        /// The content filter of a command.
        filter: Filter,
        /// The order-by clause of a command.
        order_by: OrderBy,
        /// The options; on an acknowledgement what the server grants, such as `max_backlog=5`.
        options: Options,
        /// The message type of a logon.
        message_type: MessageType,
        /// The client name in a logon or its acknowledgement.
        client_name: ClientName,
        /// The user: of the publisher, if the server tells, or of a logon.
        user_id: UserId,
        /// The version of the server, in the acknowledgement of a logon.
        version: Version,
        /// What the publisher sent along as correlation id.
        correlation_id: CorrelationId,
        /// The key of the SOW record.
        sow_key: SowKey,
        /// A comma list of SOW keys.
        sow_keys: SowKeys,
        /// The place of the message in the server's transaction log, as text; opaque.
        bookmark: Bookmark,
        /// Why: on a failed acknowledgement or an out-of-focus message. On a success it means nothing.
        reason: Reason,
        /// When the server processed the message, as text, if the option `timestamp` was given.
        timestamp: Timestamp,
        /// When the lease of a queue message ends, as text. Present exactly on messages from a queue.
        lease_period: LeasePeriod,
    }

    numbers! {
        /// The publish sequence number.
        sequence: Sequence,
        /// Records that matched topic and filter, in a `stats` acknowledgement.
        matches: Matches,
        /// Records the server looked at, in a `stats` acknowledgement.
        topic_matches: TopicMatches,
        /// Records sent, in a `stats` acknowledgement.
        records_returned: RecordsReturned,
        /// Records inserted, in a `stats` acknowledgement.
        records_inserted: RecordsInserted,
        /// Records updated, in a `stats` acknowledgement.
        records_updated: RecordsUpdated,
        /// Records deleted, in a `stats` acknowledgement of a delete.
        records_deleted: RecordsDeleted,
        /// How many records the frame held that this record came in.
        batch_size: BatchSize,
        /// The limit of a query.
        top_n: TopN,
        /// The lifetime in seconds that the publisher gave the message.
        expiration: Expiration,
        /// The payload length as the server states it; informational.
        message_length: MessageLength,
        /// The number of the batch within a query result; informational.
        group_sequence: GroupSequence,
    }

    /// The acknowledgement types: one on a message from a server.
    pub fn ack_type(&self) -> AckType {
        self.bytes(Field::AckType).map(AckType::of_bytes).unwrap_or_default()
    }

    /// The status of an acknowledgement; absent counts as success.
    pub fn status(&self) -> Status {
        self.text(Field::Status).map_or(Status::Success, Status::of)
    }

    /// The [reason](Message::reason) as a value one can match on.
    pub fn reason_code(&self) -> Reason {
        Reason::of(self.reason().unwrap_or_default())
    }

    /// The [bookmark](Message::bookmark) as a value; `None` if absent or not readable.
    pub fn bookmark_value(&self) -> Option<Bookmark> {
        self.bookmark().and_then(|text| Bookmark::parse(text).ok())
    }

    /// The [timestamp](Message::timestamp) as a time; `None` if absent or not readable.
    pub fn timestamp_utc(&self) -> Option<SystemTime> {
        self.timestamp().and_then(timestamp::parse)
    }

    /// The end of the [lease](Message::lease_period) as a time; `None` if absent or not readable.
    pub fn lease_end_utc(&self) -> Option<SystemTime> {
        self.lease_period().and_then(timestamp::parse)
    }

    /// The number a bookmark store gave the message when it arrived; 0 without a store.
    pub fn bookmark_seq(&self) -> u64 {
        self.bookmark_seq
    }

    /// An independent copy that holds its own bytes and nothing else.
    ///
    /// A plain clone keeps the whole receive buffer alive, which may be a hundred times the size of the message.
    ///
    /// ```
    /// # use amps_client::{testing::Server, Client, Message};
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("keeps").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// let (sender, last) = std::sync::mpsc::channel();
    /// client.subscribe_async("orders", "", move |order: &Message| sender.send(order.detach()))?;
    /// client.publish("orders", "one")?;
    /// let kept: Message = last.recv().unwrap(); // a few bytes, for as long as you like
    /// assert_eq!((kept.topic(), kept.data()), (Some("orders"), &b"one"[..]));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn detach(&self) -> Message {
        let (block, entry) = self.block.detach(self.entry);
        Message { block: Arc::new(block), entry, recipient: self.recipient, bookmark_seq: self.bookmark_seq }
    }
}

impl fmt::Debug for Message {
    /// Shows the header without a password, and the size of the payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Message");
        out.field("command", &self.command());
        for field in Field::ALL {
            let hidden = matches!(field, Field::Command | Field::Password);
            if let (false, Some(value)) = (hidden, self.text(*field)) {
                out.field(field.key(), &value);
            }
        }
        out.field("data", &format_args!("{} bytes", self.data().len())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &[u8]) -> Message {
        let mut frame = (body.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        Message::from_frame(&frame).expect("a valid frame")
    }

    #[test]
    fn a_message_is_small_and_can_cross_threads() {
        fn assert_shareable<T: Send + Sync + 'static>() {}
        assert_shareable::<Message>();
        assert!(size_of::<Message>() <= 48, "{}", size_of::<Message>());
    }

    /// `wire-protocol` section 16, example 15.
    #[test]
    fn a_delivered_message_shows_its_header_and_its_payload() {
        let m = message(
            br#"{"c":"p","t":"orders","ts":"20240102T030405.123456Z","bm":"99|7|","l":8,"k":"13480918341","sids":"auto2,auto5"}{"id":1}"#,
        );
        assert_eq!(m.command(), CommandType::Publish);
        assert_eq!(
            (m.topic(), m.bookmark(), m.sow_key()),
            (Some("orders"), Some("99|7|"), Some("13480918341"))
        );
        assert_eq!((m.sub_ids(), m.sub_id(), m.message_length()), (Some("auto2,auto5"), None, Some(8)));
        assert_eq!(m.data_str().unwrap(), r#"{"id":1}"#);
        assert!(m.timestamp_utc().is_some());
        assert_eq!((m.command_id(), m.sequence(), m.lease_end_utc()), (None, None, None));
    }

    #[test]
    fn each_delivery_names_its_own_subscription() {
        let mut m = message(br#"{"c":"p","t":"t","sids":"auto2,auto5"}"#);
        m.deliver_to(6, 11);
        assert_eq!(m.sub_id(), Some("auto5"));
        assert_eq!(m.sub_id_bytes(), Some(&b"auto5"[..]));
        assert_eq!(m.clone().sub_id(), Some("auto5"));
        assert_eq!(m.detach().sub_id(), Some("auto5"));
        m.turn_to(m.entry());
        assert_eq!(m.sub_id(), None);
    }

    #[test]
    fn acknowledgements_have_typed_views() {
        let m = message(br#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"bad filter"}"#);
        assert_eq!((m.ack_type(), m.status()), (AckType::PROCESSED, Status::Failure));
        assert_eq!((m.reason(), m.reason_code()), (Some("bad filter"), Reason::BadFilter));
        assert_eq!(message(br#"{"c":"ack"}"#).status(), Status::Success);
    }

    #[test]
    fn a_number_that_cannot_be_read_is_absent() {
        let m = message(
            br#"{"c":"ack","s":"12x","matches":18446744073709551615,"bs":"3","e":99999999999999999999}"#,
        );
        assert_eq!((m.sequence(), m.matches(), m.batch_size()), (None, Some(u64::MAX), Some(3)));
        assert_eq!(m.expiration(), None);
    }

    #[test]
    fn a_detached_copy_equals_the_original() {
        let m = message(
            br#"{"c":"sow","t":"orders","query_id":"q","bs":2}{"k":"111","l":8}{"id":1}{"k":"2","l":2}xy"#,
        );
        let first = Message::new(m.block().clone(), m.block().entries()[1]);
        let copy = first.detach();
        assert_eq!(
            (copy.topic(), copy.sow_key(), copy.data()),
            (Some("orders"), Some("111"), &br#"{"id":1}"#[..])
        );
        assert!(copy.entry().is_record() && copy.block().bytes().len() < m.block().bytes().len());
        assert_eq!(copy.detach().query_id(), Some("q"));
    }

    #[test]
    fn debug_shows_no_password_and_no_payload() {
        let m = message(br#"{"c":"logon","client_name":"n","pw":"s3cret"}s3cret"#);
        let text = format!("{m:?}");
        assert!(
            !text.contains("s3cret") && text.contains("client_name") && text.contains("6 bytes"),
            "{text}"
        );
    }

    #[test]
    fn a_payload_that_is_not_text_is_an_error_that_says_so() {
        let error = message(b"{\"c\":\"p\"}\xFF\x00").data_str().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Amps);
    }
}
