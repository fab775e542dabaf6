//! The tables of the protocol: header keys, command names, ack types, statuses.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

macro_rules! fields {
    ($($name:ident $key:literal [$($long:literal),*],)+) => {
        /// One header key, in the order in which a client writes them (`wire-protocol` table 3.3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub(crate) enum Field {
            $($name,)+
        }

        impl Field {
            pub(crate) const ALL: &'static [Field] = &[$(Field::$name,)+];

            /// The only spelling that is ever written.
            pub(crate) const fn key(self) -> &'static str {
                match self { $(Field::$name => $key,)+ }
            }

            /// Recognises every spelling that a peer may use.
            pub(crate) fn of(key: &[u8]) -> Option<Field> {
                match pack(key) {
                    Some(packed) => Field::of_packed(packed),
                    None => Field::of_long(key),
                }
            }

            const SPELLINGS: &'static [(&'static str, Field)] =
                &[$(($key, Field::$name), $(($long, Field::$name),)*)+];

            fn of_long(key: &[u8]) -> Option<Field> {
                $(if key == $key.as_bytes() $(|| key == $long.as_bytes())* { return Some(Field::$name); })+
                None
            }
        }
    };
}

fields! {
    Command "c" ["cmd"],
    Topic "t" ["topic"],
    CommandId "cid" ["cmd_id"],
    ClientName "client_name" [],
    UserId "user_id" [],
    Timestamp "ts" ["timestamp"],
    Filter "filter" ["f"],
    MessageType "mt" ["message_type"],
    AckType "a" ["ack", "ack_type"],
    SubId "sub_id" [],
    Version "version" ["v"],
    Expiration "e" ["expiration"],
    Heartbeat "heartbeat" [],
    TimeInterval "time_interval" ["timeout_interval"],
    LeasePeriod "lp" ["leaseperiod", "lease_period"],
    Status "status" [],
    QueryId "query_id" [],
    BatchSize "batch_size" ["bs"],
    TopN "top_n" [],
    OrderBy "orderby" [],
    SowKeys "sow_keys" [],
    CorrelationId "x" ["correlation_id"],
    Sequence "s" ["seq"],
    Bookmark "bookmark" ["bm"],
    Password "pw" ["auth_key", "password"],
    Options "o" ["opts"],
    RecordsInserted "records_inserted" [],
    RecordsUpdated "records_updated" [],
    RecordsDeleted "records_deleted" [],
    RecordsReturned "records_returned" [],
    TopicMatches "topic_matches" [],
    Matches "matches" [],
    MessageLength "l" ["msg_len"],
    SowKey "k" ["sow_key"],
    GroupSequence "gseq" ["group_seq_num"],
    SubIds "sids" ["sub_ids"],
    Reason "reason" [],
}

impl Field {
    /// Recognises a key of at most eight bytes, packed by [`pack`].
    #[inline]
    pub(crate) fn of_packed(packed: u64) -> Option<Field> {
        match SHORT_KEYS.get(slot(packed)) {
            Some((key, field)) if *key == packed && packed != 0 => Some(*field),
            _ => None,
        }
    }
}

const SLOT_BITS: u32 = 7;
/// Found by trial: with it no two keys share a slot, which the compiler checks.
const SLOT_FACTOR: u64 = 0x2C93_A434_08A4_5E01;

const fn slot(packed: u64) -> usize {
    (packed.wrapping_mul(SLOT_FACTOR) >> (64 - SLOT_BITS)) as usize
}

/// Every key of at most eight bytes in a slot of its own; 0 packs no key.
static SHORT_KEYS: [(u64, Field); 1 << SLOT_BITS] = {
    let mut table = [(0, Field::Command); 1 << SLOT_BITS];
    let mut i = 0;
    while i < Field::SPELLINGS.len() {
        let (key, field) = Field::SPELLINGS[i];
        if let Some(packed) = pack(key.as_bytes()) {
            assert!(table[slot(packed)].0 == 0, "two keys share a slot: choose another factor");
            table[slot(packed)] = (packed, field);
        }
        i += 1;
    }
    table
};

/// The bytes of a key as one number, or `None` if there are more than eight of them.
pub(crate) const fn pack(key: &[u8]) -> Option<u64> {
    if key.is_empty() || key.len() > 8 {
        return None;
    }
    let mut packed = 0;
    let mut i = key.len();
    while i > 0 {
        i -= 1;
        packed = packed << 8 | key[i] as u64;
    }
    Some(packed)
}

#[cfg(feature = "testing")]
impl Field {
    /// The spelling that a server writes, which differs from a client's for three keys.
    pub(crate) const fn server_key(self) -> &'static str {
        match self {
            Field::Bookmark => "bm",
            Field::BatchSize => "bs",
            Field::Options => "opts",
            other => other.key(),
        }
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])+ $name:ident $text:literal,)+) => {
        /// What a message or a command is: the value of its command header.
        ///
        /// ```
        /// use amps_client::CommandType;
        ///
        /// assert_eq!(CommandType::of("p"), CommandType::Publish);
        /// assert_eq!(CommandType::Publish.to_string(), "publish");
        /// assert_eq!(CommandType::of("frobnicate"), CommandType::Unknown);
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum CommandType {
            $($(#[$doc])+ $name,)+
            /// A text that is none of the others.
            Unknown,
        }

        impl CommandType {
            /// The full name, such as `publish`; `unknown` for [`CommandType::Unknown`].
            pub const fn name(self) -> &'static str {
                match self {
                    $(CommandType::$name => $text,)+
                    CommandType::Unknown => "unknown",
                }
            }

            /// Recognises a command name; `p` is the short form of `publish`.
            pub fn of(text: &str) -> CommandType {
                CommandType::of_bytes(text.as_bytes())
            }

            #[inline]
            pub(crate) fn of_bytes(text: &[u8]) -> CommandType {
                if text == b"p" {
                    return CommandType::Publish;
                }
                $(if text == $text.as_bytes() { return CommandType::$name; })+
                CommandType::Unknown
            }
        }
    };
}

commands! {
    /// A message published to a topic, in either direction.
    Publish "publish",
    /// One record of a query result.
    Sow "sow",
    /// An acknowledgement.
    Ack "ack",
    /// A record that no longer matches a subscription.
    Oof "oof",
    /// A partial update.
    DeltaPublish "delta_publish",
    /// The start of a query result.
    GroupBegin "group_begin",
    /// The end of a query result.
    GroupEnd "group_end",
    /// A sign of life.
    Heartbeat "heartbeat",
    /// The first command on a connection.
    Logon "logon",
    /// A subscription.
    Subscribe "subscribe",
    /// A subscription to changes only.
    DeltaSubscribe "delta_subscribe",
    /// The end of a subscription.
    Unsubscribe "unsubscribe",
    /// An atomic query and subscription.
    SowAndSubscribe "sow_and_subscribe",
    /// An atomic query and subscription to changes only.
    SowAndDeltaSubscribe "sow_and_delta_subscribe",
    /// Removal of records, or acknowledgement of queue messages.
    SowDelete "sow_delete",
    /// A request to be told when everything before it is done.
    Flush "flush",
}

impl CommandType {
    /// True for the four commands that place a subscription.
    pub fn is_subscribe(self) -> bool {
        use CommandType::*;
        matches!(self, Subscribe | DeltaSubscribe | SowAndSubscribe | SowAndDeltaSubscribe)
    }

    /// True for a pure query, `sow`.
    pub fn is_sow(self) -> bool {
        self == CommandType::Sow
    }

    /// True for the three commands that query the state of the world.
    pub(crate) fn is_query(self) -> bool {
        use CommandType::*;
        matches!(self, Sow | SowAndSubscribe | SowAndDeltaSubscribe)
    }

    /// True for the commands that a publish store keeps and numbers: publish, delta_publish and sow_delete.
    pub fn needs_sequence(self) -> bool {
        use CommandType::*;
        matches!(self, Publish | DeltaPublish | SowDelete)
    }
}

impl fmt::Display for CommandType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A set of acknowledgement types.
///
/// The text form is a comma list in the order of the constants, as it stands on the wire.
///
/// ```
/// use amps_client::AckType;
///
/// let acks = AckType::PROCESSED | AckType::STATS;
/// assert_eq!(acks.to_string(), "processed,stats");
/// assert!(acks.contains(AckType::STATS));
/// assert_eq!(AckType::of("stats,processed"), acks);
/// assert_eq!(acks.bits(), 36);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AckType(u8);

impl AckType {
    /// No acknowledgement.
    pub const NONE: AckType = AckType(0);
    /// The command arrived and was not looked at yet.
    pub const RECEIVED: AckType = AckType(1);
    /// Obsolete.
    pub const PARSED: AckType = AckType(2);
    /// The command was accepted or refused.
    pub const PROCESSED: AckType = AckType(4);
    /// The message is durable.
    pub const PERSISTED: AckType = AckType(8);
    /// The query is done, or the replay has caught up.
    pub const COMPLETED: AckType = AckType(16);
    /// Counters.
    pub const STATS: AckType = AckType(32);

    const NAMES: [(&'static str, AckType); 6] = [
        ("received", AckType::RECEIVED),
        ("parsed", AckType::PARSED),
        ("processed", AckType::PROCESSED),
        ("persisted", AckType::PERSISTED),
        ("completed", AckType::COMPLETED),
        ("stats", AckType::STATS),
    ];

    /// The set as a number: the sum of 1, 2, 4, 8, 16 and 32 in the order of the constants.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Reads a comma list; names that are not known, blanks and `none` count for nothing.
    pub fn of(text: &str) -> AckType {
        AckType::of_bytes(text.as_bytes())
    }

    pub(crate) fn of_bytes(text: &[u8]) -> AckType {
        let mut set = AckType::NONE;
        for name in text.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            for (known, bit) in AckType::NAMES {
                if name == known.as_bytes() {
                    set |= bit;
                }
            }
        }
        set
    }

    /// True if every type of `other` is in this set.
    pub const fn contains(self, other: AckType) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if the two sets have a type in common.
    pub const fn intersects(self, other: AckType) -> bool {
        self.0 & other.0 != 0
    }

    /// True if there is no type in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set without the types of `other`.
    #[must_use]
    pub const fn without(self, other: AckType) -> AckType {
        AckType(self.0 & !other.0)
    }

    /// The type of the set that comes last; [`AckType::NONE`] for an empty set.
    #[must_use]
    pub const fn highest(self) -> AckType {
        match self.0 {
            0 => AckType::NONE,
            bits => AckType(1 << bits.ilog2()),
        }
    }
}

impl BitOr for AckType {
    type Output = AckType;
    fn bitor(self, other: AckType) -> AckType {
        AckType(self.0 | other.0)
    }
}

impl BitOrAssign for AckType {
    fn bitor_assign(&mut self, other: AckType) {
        self.0 |= other.0;
    }
}

impl fmt::Display for AckType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, bit) in AckType::NAMES {
            if self.contains(bit) {
                write!(f, "{separator}{name}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for AckType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AckType({self})")
    }
}

/// The status of an acknowledgement.
///
/// ```
/// use amps_client::Status;
///
/// assert_eq!(Status::of("retry"), Status::Retry);
/// assert_eq!(Status::of("partial"), Status::Other);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// `success`, or no status at all.
    Success,
    /// `failure`.
    Failure,
    /// `retry`: the logon wants another password.
    Retry,
    /// Any other text; it counts as a failure.
    Other,
}

impl Status {
    /// Recognises a status text; an empty one counts as success.
    pub fn of(text: &str) -> Status {
        match text {
            "" | "success" => Status::Success,
            "failure" => Status::Failure,
            "retry" => Status::Retry,
            _ => Status::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_recognised_by_each_of_its_spellings() {
        for field in Field::ALL {
            assert_eq!(Field::of(field.key().as_bytes()), Some(*field));
        }
        let long = [
            ("cmd", Field::Command),
            ("topic", Field::Topic),
            ("cmd_id", Field::CommandId),
            ("timestamp", Field::Timestamp),
            ("f", Field::Filter),
            ("message_type", Field::MessageType),
            ("ack", Field::AckType),
            ("ack_type", Field::AckType),
            ("v", Field::Version),
            ("expiration", Field::Expiration),
            ("timeout_interval", Field::TimeInterval),
            ("leaseperiod", Field::LeasePeriod),
            ("lease_period", Field::LeasePeriod),
            ("bs", Field::BatchSize),
            ("correlation_id", Field::CorrelationId),
            ("seq", Field::Sequence),
            ("bm", Field::Bookmark),
            ("auth_key", Field::Password),
            ("password", Field::Password),
            ("opts", Field::Options),
            ("msg_len", Field::MessageLength),
            ("sow_key", Field::SowKey),
            ("group_seq_num", Field::GroupSequence),
            ("sub_ids", Field::SubIds),
        ];
        for (key, field) in long {
            assert_eq!(Field::of(key.as_bytes()), Some(field), "{key}");
        }
        for key in ["", "z", "data_only", "a_key_of_more_than_eight", "cc"] {
            assert_eq!(Field::of(key.as_bytes()), None, "{key}");
        }
        assert_eq!(Field::ALL.len(), 37);
    }

    #[test]
    fn command_names_round_trip() {
        for name in ["publish", "oof", "sow_and_delta_subscribe", "flush", "group_end", "logon"] {
            assert_eq!(CommandType::of(name).name(), name);
        }
        assert_eq!(CommandType::of(""), CommandType::Unknown);
        assert_eq!(CommandType::of("P"), CommandType::Unknown);
        assert!(CommandType::SowAndSubscribe.is_subscribe() && CommandType::SowAndSubscribe.is_query());
        assert!(CommandType::Sow.is_sow() && !CommandType::Sow.is_subscribe());
        assert!(CommandType::SowDelete.needs_sequence() && !CommandType::Flush.needs_sequence());
        assert_eq!(format!("{:>8}", CommandType::Sow), "     sow");
    }

    #[test]
    fn ack_types_form_a_set_with_a_fixed_order() {
        assert_eq!(AckType::of("stats, processed,none,x").to_string(), "processed,stats");
        assert_eq!(AckType::of("").to_string(), "");
        let all = AckType::of("received,parsed,processed,persisted,completed,stats");
        assert_eq!(all.bits(), 63);
        assert_eq!(all.highest(), AckType::STATS);
        assert_eq!(all.without(AckType::STATS).highest(), AckType::COMPLETED);
        assert_eq!(AckType::NONE.highest(), AckType::NONE);
        assert!(all.intersects(AckType::PARSED) && !AckType::NONE.intersects(all));
    }
}
