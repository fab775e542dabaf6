//! Why a command is refused, in the words that clients know (K-7).

macro_rules! refusals {
    ($($name:ident $text:literal,)+) => {
        /// The reason of a failed acknowledgement.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Refusal {
            $($name,)+
        }

        impl Refusal {
            pub(crate) fn text(self) -> &'static str {
                match self { $(Refusal::$name => $text,)+ }
            }
        }
    };
}

refusals! {
    AuthFailure "auth failure",
    AuthenticationDisabled "authentication disabled",
    BadFilter "bad filter",
    BadRegexTopic "bad regex topic",
    RegexTopicNotSupported "regex topic not supported",
    BadSowKey "bad sow key",
    Duplicate "duplicate",
    DuplicateLogon "duplicate logon attempt",
    InvalidBookmark "invalid bookmark",
    InvalidMessageType "invalid message type",
    InvalidOptions "invalid options",
    InvalidOrderBy "invalid order by",
    InvalidSubId "invalid subId",
    InvalidTopic "invalid topic",
    LogonRequired "logon required",
    NameInUse "name in use",
    NoClientName "no client name",
    NoTopic "no topic",
    NoTopicOrFilter "no topic or filter",
    NotEntitled "not entitled",
    NotSupported "not supported",
    OrderByRequired "orderby required",
    OrderByTooLarge "orderby too large",
    ProjectionTooLarge "projection clause too large",
    SubIdInUse "subid in use",
    SowDeleteSelectors "sow_delete command only supports one of: filter, sow_keys, bookmark, or data",
}
