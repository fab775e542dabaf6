//! The server's reason texts: as a typed value, and as the error each of them becomes (rules E-6 to E-9).

use super::{Error, ErrorKind};
use std::fmt::Write;

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident => $kind:ident [$($text:literal),+],)+) => {
        /// Why a server refused something, as a value one can match on.
        ///
        /// The whole text counts, without regard to ASCII case and surrounding blanks; `order by` and `orderby` are the
        /// same. [`Message::reason`](crate::Message::reason) and [`Error::reason`] give the raw text.
        ///
        /// ```
        /// use amps_client::{ErrorKind, Reason};
        ///
        /// assert_eq!(Reason::of("Bad Filter "), Reason::BadFilter);
        /// assert_eq!(Reason::of("bad filter").kind(), ErrorKind::BadFilter);
        /// assert_eq!(Reason::of("the disk is on fire"), Reason::Other);
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])+ $name,)+
            /// A failure without any text.
            Absent,
            /// A text that is not in the list.
            Other,
        }

        const TABLE: &[(&str, Reason)] = &[$($(($text, Reason::$name),)+)+];

        impl Reason {
            /// The kind of error this reason becomes in an answer to a command.
            pub fn kind(self) -> ErrorKind {
                match self {
                    $(Reason::$name => ErrorKind::$kind,)+
                    Reason::Absent => ErrorKind::Unknown,
                    Reason::Other => ErrorKind::Command,
                }
            }
        }
    };
}

reasons! {
    /// The credentials were rejected; also any other text that begins with `auth`.
    AuthFailure => Authentication ["auth failure", "authentication failure", "authentication disabled"],
    /// The filter does not compile.
    BadFilter => BadFilter ["bad filter"],
    /// The topic does not compile as a regular expression.
    BadRegexTopic => BadRegexTopic ["bad regex topic"],
    /// A regular expression where only a literal topic is allowed.
    RegexTopicNotSupported => BadRegexTopic ["regex topic not supported"],
    /// A malformed or unsuitable SOW key.
    BadSowKey => BadSowKey ["bad sow key"],
    /// A second logon on one connection.
    DuplicateLogon => DuplicateLogon ["duplicate logon attempt"],
    /// In a persisted ack: the server has this sequence already.
    Duplicate => Command ["duplicate"],
    /// The bookmark is of no known form, or not found.
    InvalidBookmark => InvalidBookmark ["invalid bookmark"],
    /// The message type is not accepted here.
    InvalidMessageType => Command ["invalid message type"],
    /// An unknown option, or a bad option value.
    InvalidOptions => InvalidOptions ["invalid options"],
    /// The order-by clause does not parse.
    InvalidOrderBy => InvalidOrderBy ["invalid order by"],
    /// The subscription id is missing or unknown.
    InvalidSubId => InvalidSubId ["invalid subid"],
    /// The topic is not configured for the operation.
    InvalidTopic => InvalidTopic ["invalid topic"],
    /// The topic or the filter does not fit.
    InvalidTopicOrFilter => InvalidTopic ["invalid topic or filter"],
    /// A command before logon.
    LogonRequired => LogonRequired ["logon required"],
    /// The client name is used by another user's connection.
    NameInUse => NameInUse ["name in use"],
    /// No permission.
    NotEntitled => NotEntitled ["not entitled"],
    /// A delete without a selector.
    NoFilterOrBookmark => MissingFields ["no filter or bookmark"],
    /// A logon without a client name.
    NoClientName => MissingFields ["no client name"],
    /// The topic is missing; also any other text that begins with `no topic`.
    NoTopic => MissingFields ["no topic"],
    /// Topic and filter are missing.
    NoTopicOrFilter => MissingFields ["no topic or filter"],
    /// `skip_n` without an order.
    OrderByRequired => MissingFields ["orderby required"],
    /// The combination of command, topic and options is not supported.
    NotSupported => Command ["not supported"],
    /// The order-by clause is too large.
    OrderByTooLarge => Command ["orderby too large"],
    /// The projection is too large.
    ProjectionTooLarge => Command ["projection clause too large"],
    /// A delete with more than one selector.
    SowDeleteSelectors => Command ["sow_delete command only supports one of: filter, sow_keys, bookmark, or data"],
    /// The server's SOW store failed.
    SowStoreFailed => Publish ["sow store failed"],
    /// The server's transaction log failed.
    TxStoreFailure => Publish ["tx store failure"],
    /// The subscription id is in use on this connection.
    SubIdInUse => SubIdInUse ["subid in use"],
    /// A subscription with this id exists.
    SubscriptionAlreadyExists => SubscriptionAlreadyExists ["subscription already exists"],
    /// The replay of the transaction log failed.
    ReplayFailed => ReplayFailed ["txn replay failed"],
}

impl Reason {
    /// Recognises a reason text.
    pub fn of(text: &str) -> Reason {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return Reason::Absent;
        }
        let same_spelling = |t: &str| t.replace("order by", "orderby");
        let wanted = same_spelling(&text);
        if let Some((_, reason)) = TABLE.iter().find(|(known, _)| same_spelling(known) == wanted) {
            return *reason;
        }
        match () {
            () if text.starts_with("auth") => Reason::AuthFailure,
            () if text.starts_with("no topic") => Reason::NoTopic,
            () => Reason::Other,
        }
    }
}

/// What was asked for when the server refused: the values an error text may name.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Refused<'a> {
    pub(crate) what: &'a str,
    pub(crate) command_id: &'a str,
    pub(crate) sub_id: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) filter: &'a str,
    pub(crate) options: &'a str,
    pub(crate) order_by: &'a str,
    pub(crate) bookmark: &'a str,
    pub(crate) sow_key: &'a str,
    pub(crate) sow_keys: &'a str,
    pub(crate) message_type: &'a str,
    pub(crate) client_name: &'a str,
    pub(crate) user_id: &'a str,
}

impl Refused<'_> {
    /// The error for a failed acknowledgement of this command (E-7, E-9).
    pub(crate) fn error(&self, reason: &str) -> Error {
        let known = Reason::of(reason);
        let mut text = match known {
            Reason::Absent => format!("{} failed, and the server gave no reason", self.what),
            _ => format!("{} refused by the server: {}", self.what, reason.trim()),
        };
        for (name, value) in self.named_by(known) {
            if !value.is_empty() {
                // Writing to a String cannot fail.
                let _ = write!(text, ", {name} `{value}`");
            }
        }
        let error = Error::new(known.kind(), text)
            .with_command_id(self.command_id)
            .with_sub_id(self.sub_id)
            .with_topic(self.topic);
        if reason.is_empty() { error } else { error.with_reason(reason) }
    }

    /// The values that the text names for this reason, by the table of E-7.
    fn named_by(&self, reason: Reason) -> Vec<(&'static str, &str)> {
        let topic = ("topic", self.topic);
        let filter = ("filter", self.filter);
        let options = ("options", self.options);
        let user = ("user", self.user_id);
        let bookmark = ("bookmark", self.bookmark);
        match reason {
            Reason::AuthFailure => vec![user],
            Reason::BadFilter => vec![filter],
            Reason::BadRegexTopic | Reason::RegexTopicNotSupported | Reason::InvalidTopic => vec![topic],
            Reason::BadSowKey if !self.sow_keys.is_empty() => vec![("SOW keys", self.sow_keys)],
            Reason::BadSowKey => vec![("SOW key", self.sow_key)],
            Reason::DuplicateLogon => vec![("client name", self.client_name), user],
            Reason::InvalidBookmark => vec![bookmark],
            Reason::InvalidMessageType => vec![("message type", self.message_type)],
            Reason::InvalidOptions | Reason::ProjectionTooLarge => vec![options],
            Reason::InvalidOrderBy | Reason::OrderByTooLarge => vec![("order by", self.order_by)],
            Reason::InvalidSubId
            | Reason::SubIdInUse
            | Reason::SubscriptionAlreadyExists
            | Reason::ReplayFailed => vec![("subscription id", self.sub_id)],
            Reason::InvalidTopicOrFilter => vec![topic, filter],
            Reason::NameInUse => vec![("client name", self.client_name)],
            Reason::NotEntitled => vec![user, topic],
            Reason::NotSupported => vec![topic, options],
            Reason::SowDeleteSelectors => vec![filter, ("SOW keys", self.sow_keys), bookmark],
            _ => vec![topic],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Refused<'_> = Refused {
        what: "subscribe",
        command_id: "auto1",
        sub_id: "s-1",
        topic: "orders",
        filter: "/a = 1",
        options: "oof",
        order_by: "/id",
        bookmark: "1|2|",
        sow_key: "K",
        sow_keys: "1,2",
        message_type: "json",
        client_name: "desk",
        user_id: "alice",
    };

    /// 2, 3, 4, 5, E-7: each text, its kind, and what the error text names.
    #[test]
    fn each_reason_becomes_the_kind_of_the_table_and_names_the_offender() {
        let table: &[(&str, ErrorKind, &[&str])] = &[
            ("auth failure", ErrorKind::Authentication, &["alice"]),
            ("authentication failure", ErrorKind::Authentication, &["alice"]),
            ("authentication disabled", ErrorKind::Authentication, &["alice"]),
            ("bad filter", ErrorKind::BadFilter, &["/a = 1"]),
            ("bad regex topic", ErrorKind::BadRegexTopic, &["orders"]),
            ("regex topic not supported", ErrorKind::BadRegexTopic, &["orders"]),
            ("bad sow key", ErrorKind::BadSowKey, &["1,2"]),
            ("duplicate logon attempt", ErrorKind::DuplicateLogon, &["desk", "alice"]),
            ("invalid bookmark", ErrorKind::InvalidBookmark, &["1|2|"]),
            ("invalid message type", ErrorKind::Command, &["json"]),
            ("invalid options", ErrorKind::InvalidOptions, &["oof"]),
            ("invalid order by", ErrorKind::InvalidOrderBy, &["/id"]),
            ("invalid orderby", ErrorKind::InvalidOrderBy, &["/id"]),
            ("invalid subId", ErrorKind::InvalidSubId, &["s-1"]),
            ("invalid topic", ErrorKind::InvalidTopic, &["orders"]),
            ("invalid topic or filter", ErrorKind::InvalidTopic, &["orders", "/a = 1"]),
            ("logon required", ErrorKind::LogonRequired, &[]),
            ("name in use", ErrorKind::NameInUse, &["desk"]),
            ("not entitled", ErrorKind::NotEntitled, &["alice", "orders"]),
            ("no filter or bookmark", ErrorKind::MissingFields, &["no filter or bookmark"]),
            ("no client name", ErrorKind::MissingFields, &["no client name"]),
            ("no topic", ErrorKind::MissingFields, &["no topic"]),
            ("no topic or filter", ErrorKind::MissingFields, &["no topic or filter"]),
            ("no topic at all", ErrorKind::MissingFields, &["no topic at all"]),
            ("orderby required", ErrorKind::MissingFields, &["orderby required"]),
            ("order by required", ErrorKind::MissingFields, &["order by required"]),
            ("not supported", ErrorKind::Command, &["orders", "oof"]),
            ("orderby too large", ErrorKind::Command, &["/id"]),
            ("projection clause too large", ErrorKind::Command, &["oof"]),
            (
                "sow_delete command only supports one of: filter, sow_keys, bookmark, or data",
                ErrorKind::Command,
                &["/a = 1", "1,2", "1|2|"],
            ),
            ("sow store failed", ErrorKind::Publish, &[]),
            ("tx store failure", ErrorKind::Publish, &[]),
            ("subid in use", ErrorKind::SubIdInUse, &["s-1"]),
            ("subscription already exists", ErrorKind::SubscriptionAlreadyExists, &["s-1"]),
            ("txn replay failed", ErrorKind::ReplayFailed, &["s-1"]),
            ("authority expired", ErrorKind::Authentication, &["alice"]),
            ("duplicate", ErrorKind::Command, &["duplicate"]),
            ("something else", ErrorKind::Command, &["something else"]),
            ("  BAD FILTER ", ErrorKind::BadFilter, &["/a = 1"]),
            ("bad filters", ErrorKind::Command, &["bad filters"]),
        ];
        for (reason, kind, named) in table {
            let error = ASKED.error(reason);
            assert_eq!(error.kind(), *kind, "{reason}");
            assert_eq!(error.reason(), Some(*reason));
            for value in *named {
                assert!(error.to_string().contains(value), "{error} does not name {value}");
            }
        }
    }

    #[test]
    fn a_failure_without_a_reason_is_unknown_and_never_a_success() {
        let error = ASKED.error("");
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert_eq!(error.reason(), None);
        assert_eq!(Reason::of("  "), Reason::Absent);
    }

    #[test]
    fn a_single_sow_key_is_named_when_there_is_no_list() {
        let asked = Refused { sow_keys: "", ..ASKED };
        assert!(asked.error("bad sow key").to_string().contains("SOW key `K`"));
    }

    #[test]
    fn the_error_carries_the_ids_and_the_topic() {
        let error = ASKED.error("bad filter");
        assert_eq!(
            (error.command_id(), error.sub_id(), error.topic()),
            (Some("auto1"), Some("s-1"), Some("orders"))
        );
    }
}
