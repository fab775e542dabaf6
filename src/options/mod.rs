//! The options of a command, as typed sets that write the option text.
//!
//! A command takes its options as text or as one of these sets. A set writes exactly the tokens of the protocol, in the
//! order in which they were set; whether they go together with the command and with each other is for the server to
//! judge, which answers [`InvalidOptions`](crate::ErrorKind::InvalidOptions).

pub(crate) mod text;

use std::fmt;
use std::time::Duration;

macro_rules! option_set {
    ($name:ident) => {
        impl $name {
            /// No options.
            pub fn new() -> $name {
                $name::default()
            }

            /// Adds a token as it is, such as `key=value`: for options that have no method of their own.
            pub fn raw(mut self, token: impl AsRef<str>) -> $name {
                text::append(&mut self.0, text::without_trailing_comma(token.as_ref()));
                self
            }

            /// The option text; empty if nothing was set.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Sets a token; one of the same name that was set before is taken out.
            fn with(mut self, token: String) -> $name {
                self.0 = text::without(&self.0, text::name_of(&token));
                text::append(&mut self.0, &token);
                self
            }
        }

        impl fmt::Display for $name {
            /// Writes the option text.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            /// The option text.
            fn from(set: $name) -> String {
                set.0
            }
        }
    };
}

macro_rules! flags {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        $($(#[$doc])+
        pub fn $name(self) -> Self {
            self.with(stringify!($name).to_owned())
        })+
    };
}

/// What queries and subscriptions have in common.
macro_rules! query_options {
    () => {
        flags! {
            /// Sends the time at which the server processed each message, as its
            /// [timestamp](crate::Message::timestamp).
            timestamp,
            /// Leaves the SOW key out of each message.
            no_sowkey,
            /// Keeps the key fields in delta messages; servers of today do so anyway.
            send_keys,
        }

        /// Limits the result to so many records; on a replay, to so many messages. The same as the limit of the
        /// command itself.
        pub fn top_n(self, records: u32) -> Self {
            self.with(format!("top_n={records}"))
        }

        /// Leaves out the first records of the result. Needs [`top_n`](Self::top_n) and an order; with a subscription
        /// it makes a paginated subscription, which shows one page of the topic.
        pub fn skip_n(self, records: u32) -> Self {
            self.with(format!("skip_n={records}"))
        }

        /// Computes the fields of the result, such as `SUM(/qty) AS /total`. Needs [`grouping`](Self::grouping); at
        /// most 64 KB; not on a bookmark subscription.
        pub fn projection(self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
            self.with(list("projection", fields))
        }

        /// The fields by which a [`projection`](Self::projection) groups its records.
        pub fn grouping(self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
            self.with(list("grouping", fields))
        }

        /// Sends some of the fields only: `-/` leaves all out, `+/` keeps all, `+/id` keeps one; the most specific
        /// entry decides.
        pub fn select(self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
            self.with(list("select", fields))
        }
    };
}

/// Options of a subscription: `subscribe`, `delta_subscribe`, `sow_and_subscribe` and `sow_and_delta_subscribe`.
///
/// Nothing is set at first. Setting an option again replaces it.
///
/// ```
/// use std::time::Duration;
/// use amps_client::{Conflation, Rate, SubscribeOptions};
///
/// // Changes of records, and a notice when one no longer matches.
/// assert_eq!(SubscribeOptions::new().oof().timestamp().to_string(), "oof,timestamp");
///
/// // A queue: five messages at a time before the first is acknowledged.
/// assert_eq!(SubscribeOptions::new().max_backlog(5).to_string(), "max_backlog=5");
///
/// // At most one update for each id every 100 ms.
/// let conflated = SubscribeOptions::new().conflation(Duration::from_millis(100)).conflation_key(["/id"]);
/// assert_eq!(conflated.to_string(), "conflation=100ms,conflation_key=[/id]");
/// assert_eq!(SubscribeOptions::new().conflation(Conflation::Auto).to_string(), "conflation=auto");
///
/// // A replay at twice the original speed.
/// let replay = SubscribeOptions::new().rate(Rate::Speed(2.0)).rate_max_gap(Duration::from_secs(10));
/// assert_eq!(replay.to_string(), "rate=2X,rate_max_gap=10s");
///
/// // An option without a method of its own.
/// assert_eq!(SubscribeOptions::new().oof().raw("later=1").to_string(), "oof,later=1");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[must_use = "a set of options does nothing until it is given to a command"]
pub struct SubscribeOptions(String);

option_set!(SubscribeOptions);

impl SubscribeOptions {
    flags! {
        /// Sends an out-of-focus message when a record no longer matches: it was deleted, expired or changed, or may
        /// no longer be seen. Not on bookmark subscriptions.
        oof,
        /// Replaces the subscription of the same id at once: its topic, filter and options. Needs a subscription id,
        /// and order, [`top_n`](Self::top_n) and [`skip_n`](Self::skip_n) once more.
        replace,
        /// On delta subscriptions: sends nothing when an update changed nothing.
        no_empties,
        /// Takes the topic literally: characters of regular expressions lose their meaning.
        non_regex_topic,
        /// Adds bookmarks to the messages of a subscription that does not replay.
        bookmark,
        /// On bookmark subscriptions: enters it without sending, or stops sending. The subscription id may be a comma
        /// list.
        pause,
        /// On bookmark subscriptions: goes on sending. The subscription id may be a comma list, which is resumed
        /// together.
        resume,
        /// On bookmark subscriptions: sends messages before they are persisted. Excludes
        /// [`fully_durable`](Self::fully_durable), [`pause`](Self::pause), [`resume`](Self::resume) and
        /// [`rate`](Self::rate).
        live,
        /// On bookmark subscriptions: sends messages only when all synchronous replicas have them.
        fully_durable,
    }

    query_options!();

    /// Sends at most one update for each key in an interval: a [`Duration`] or a [`Conflation`]. An interval is rounded
    /// up to a millisecond.
    pub fn conflation(self, conflation: impl Into<Conflation>) -> Self {
        self.with(format!("conflation={}", conflation.into()))
    }

    /// The fields that make up the key for [`conflation`](Self::conflation); required for topics without SOW.
    pub fn conflation_key(self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.with(list("conflation_key", fields))
    }

    /// On bookmark subscriptions: how fast the replay is sent; without it, as fast as possible.
    pub fn rate(self, rate: Rate) -> Self {
        self.with(format!("rate={rate}"))
    }

    /// The longest silence in a replay with a [`rate`](Self::rate), rounded up to a millisecond.
    pub fn rate_max_gap(self, gap: Duration) -> Self {
        self.with(format!("rate_max_gap={}", interval(gap)))
    }

    /// On bookmark subscriptions: where to start if the server does not know the bookmark. Without it, at the end of
    /// the log. Servers from 5.3.5.
    pub fn bookmark_not_found(self, start: BookmarkNotFound) -> Self {
        self.with(format!("bookmark_not_found={start}"))
    }

    /// On queue subscriptions: how many messages may be unacknowledged at a time. Without it the server allows 1; 0 is
    /// a legal value. The server may grant less.
    pub fn max_backlog(self, messages: u32) -> Self {
        self.with(format!("max_backlog={messages}"))
    }
}

/// Options of a query, `sow`.
///
/// Nothing is set at first. Setting an option again replaces it.
///
/// ```
/// use amps_client::SowOptions;
///
/// let totals = SowOptions::new().projection(["/desk", "SUM(/qty) AS /qty"]).grouping(["/desk"]);
/// assert_eq!(totals.to_string(), "projection=[/desk,SUM(/qty) AS /qty],grouping=[/desk]");
///
/// let page = SowOptions::new().top_n(20).skip_n(40).select(["-/", "+/id", "+/name"]);
/// assert_eq!(String::from(page), "top_n=20,skip_n=40,select=[-/,+/id,+/name]");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[must_use = "a set of options does nothing until it is given to a command"]
pub struct SowOptions(String);

option_set!(SowOptions);

impl SowOptions {
    query_options!();
}

/// Options of a logon.
///
/// Nothing is set at first. Setting an option again replaces it. Options that are given explicitly take the place of
/// `pretty` in the connection string.
///
/// ```
/// use std::time::Duration;
/// use amps_client::LogonOptions;
///
/// let options = LogonOptions::new().ack_conflation(Duration::from_millis(100)).pretty();
/// assert_eq!(options.to_string(), "ack_conflation=100ms,pretty");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[must_use = "a set of options does nothing until it is given to a logon"]
pub struct LogonOptions(String);

option_set!(LogonOptions);

impl LogonOptions {
    flags! {
        /// Has binary message types rendered as text.
        pretty,
    }

    /// How long the server may collect acknowledgements of persisted messages before it sends one for all of them,
    /// rounded up to a millisecond. The server's own default is one second.
    pub fn ack_conflation(self, period: Duration) -> Self {
        self.with(format!("ack_conflation={}", interval(period)))
    }
}

/// How the server conflates the updates of a subscription.
///
/// ```
/// use std::time::Duration;
/// use amps_client::Conflation;
///
/// assert_eq!(Conflation::from(Duration::from_millis(1_500)).to_string(), "1500ms");
/// assert_eq!(Conflation::Every(Duration::from_secs(2)).to_string(), "2s");
/// assert_eq!(Conflation::Off.to_string(), "none");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conflation {
    /// At most one update for each key in this interval.
    Every(Duration),
    /// As the server sees fit.
    Auto,
    /// Every update, also where the topic is conflated by default.
    Off,
}

impl From<Duration> for Conflation {
    fn from(interval: Duration) -> Conflation {
        Conflation::Every(interval)
    }
}

impl fmt::Display for Conflation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conflation::Every(every) => f.write_str(&interval(*every)),
            Conflation::Auto => f.write_str("auto"),
            Conflation::Off => f.write_str("none"),
        }
    }
}

/// How fast a replay is sent.
///
/// ```
/// use amps_client::Rate;
///
/// assert_eq!(Rate::Messages(1_000).to_string(), "1000");
/// assert_eq!(Rate::Kilobytes(100).to_string(), "100KB");
/// assert_eq!(Rate::Speed(1.5).to_string(), "1.5X");
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Rate {
    /// So many messages a second.
    Messages(u32),
    /// So many kilobytes a second.
    Kilobytes(u32),
    /// A multiple of the speed at which the messages were published.
    Speed(f64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rate::Messages(messages) => write!(f, "{messages}"),
            Rate::Kilobytes(kilobytes) => write!(f, "{kilobytes}KB"),
            Rate::Speed(factor) => write!(f, "{factor}X"),
        }
    }
}

/// Where a replay starts if the server does not know the bookmark.
///
/// ```
/// use amps_client::{BookmarkNotFound, SubscribeOptions};
///
/// let options = SubscribeOptions::new().bookmark_not_found(BookmarkNotFound::Fail);
/// assert_eq!(options.to_string(), "bookmark_not_found=fail");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BookmarkNotFound {
    /// At the end of the log: new messages only.
    Now,
    /// At the beginning of the log.
    Epoch,
    /// Nowhere: the server refuses the subscription.
    Fail,
}

impl fmt::Display for BookmarkNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BookmarkNotFound::Now => "now",
            BookmarkNotFound::Epoch => "epoch",
            BookmarkNotFound::Fail => "fail",
        })
    }
}

/// The brackets are part of the value: they keep the server from taking its commas for separators.
fn list(name: &str, items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut text = format!("{name}=[");
    for (at, item) in items.into_iter().enumerate() {
        text.push_str(if at == 0 { "" } else { "," });
        text.push_str(item.as_ref());
    }
    text.push(']');
    text
}

/// A time span as the protocol writes it: `100ms`, or `2s` if it is whole seconds.
fn interval(span: Duration) -> String {
    let millis = span.as_nanos().div_ceil(1_000_000);
    if millis.is_multiple_of(1_000) { format!("{}s", millis / 1_000) } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: SubscribeOptions = SubscribeOptions(String::new());
    const MILLI: Duration = Duration::from_millis(1);

    /// `api-surface` 11, 12, 13 and `wire-protocol` 12: exactly these tokens.
    #[test]
    fn each_subscription_option_writes_its_token() {
        let table = [
            (NONE, ""),
            (NONE.oof(), "oof"),
            (NONE.replace(), "replace"),
            (NONE.top_n(3), "top_n=3"),
            (NONE.top_n(0), "top_n=0"),
            (NONE.skip_n(4), "skip_n=4"),
            (
                NONE.projection(["/ticker AS /t", "SUM(/qty) AS /q"]),
                "projection=[/ticker AS /t,SUM(/qty) AS /q]",
            ),
            (NONE.grouping(["/ticker"]), "grouping=[/ticker]"),
            (NONE.select(["-/", "+/id", "+/name"]), "select=[-/,+/id,+/name]"),
            (NONE.no_empties(), "no_empties"),
            (NONE.send_keys(), "send_keys"),
            (NONE.no_sowkey(), "no_sowkey"),
            (NONE.timestamp(), "timestamp"),
            (NONE.conflation(100 * MILLI), "conflation=100ms"),
            (NONE.conflation(Conflation::Every(60_000 * MILLI)), "conflation=60s"),
            (NONE.conflation(Conflation::Auto), "conflation=auto"),
            (NONE.conflation(Conflation::Off), "conflation=none"),
            (NONE.conflation_key(["/a", "/b"]), "conflation_key=[/a,/b]"),
            (NONE.conflation_key(Vec::<String>::new()), "conflation_key=[]"),
            (NONE.non_regex_topic(), "non_regex_topic"),
            (NONE.bookmark(), "bookmark"),
            (NONE.pause(), "pause"),
            (NONE.resume(), "resume"),
            (NONE.live(), "live"),
            (NONE.fully_durable(), "fully_durable"),
            (NONE.rate(Rate::Messages(1_000)), "rate=1000"),
            (NONE.rate(Rate::Kilobytes(100)), "rate=100KB"),
            (NONE.rate(Rate::Speed(1.5)), "rate=1.5X"),
            (NONE.rate_max_gap(10_000 * MILLI), "rate_max_gap=10s"),
            (NONE.bookmark_not_found(BookmarkNotFound::Now), "bookmark_not_found=now"),
            (NONE.bookmark_not_found(BookmarkNotFound::Epoch), "bookmark_not_found=epoch"),
            (NONE.bookmark_not_found(BookmarkNotFound::Fail), "bookmark_not_found=fail"),
            (NONE.max_backlog(5), "max_backlog=5"),
            (NONE.max_backlog(0), "max_backlog=0"),
        ];
        for (options, text) in table {
            assert_eq!(options.as_str(), text);
            assert_eq!(options.to_string(), text);
            assert_eq!(String::from(options), text);
        }
    }

    #[test]
    fn each_query_option_writes_its_token() {
        let none = SowOptions::new;
        let table = [
            (none().top_n(3), "top_n=3"),
            (none().skip_n(4), "skip_n=4"),
            (none().projection(["/a", "/b"]), "projection=[/a,/b]"),
            (none().grouping(["/a"]), "grouping=[/a]"),
            (none().select(["+/"]), "select=[+/]"),
            (none().send_keys(), "send_keys"),
            (none().no_sowkey(), "no_sowkey"),
            (none().timestamp(), "timestamp"),
        ];
        for (options, text) in table {
            assert_eq!(options.as_str(), text);
        }
    }

    /// `api-surface` 5.
    #[test]
    fn each_logon_option_writes_its_token() {
        assert_eq!(LogonOptions::new().ack_conflation(100 * MILLI).as_str(), "ack_conflation=100ms");
        assert_eq!(LogonOptions::new().pretty().raw("x").as_str(), "pretty,x");
    }

    #[test]
    fn options_are_joined_in_the_order_in_which_they_were_set() {
        assert_eq!(NONE.oof().timestamp().max_backlog(5).as_str(), "oof,timestamp,max_backlog=5");
        assert_eq!(NONE.max_backlog(5).timestamp().oof().as_str(), "max_backlog=5,timestamp,oof");
        // Observed on the wire.
        let observed =
            NONE.no_empties().send_keys().conflation(1_000 * MILLI).conflation_key(["/id"]).to_string();
        assert_eq!(observed, "no_empties,send_keys,conflation=1s,conflation_key=[/id]");
    }

    #[test]
    fn an_option_that_is_set_again_is_written_once_with_its_last_value() {
        assert_eq!(NONE.top_n(1).oof().top_n(2).as_str(), "oof,top_n=2");
        assert_eq!(NONE.oof().oof().as_str(), "oof");
        assert_eq!(
            NONE.conflation_key(["/top_n", "oof"]).top_n(1).oof().conflation_key(["/x"]).as_str(),
            "top_n=1,oof,conflation_key=[/x]"
        );
    }

    #[test]
    fn a_raw_token_is_passed_on_as_it_is() {
        assert_eq!(NONE.raw("a=[b,c]").oof().raw("d,e,").raw("").as_str(), "a=[b,c],oof,d,e");
        assert_eq!(NONE.raw("oof").raw("oof").as_str(), "oof,oof");
    }

    #[test]
    fn a_time_span_is_rounded_up_to_a_millisecond() {
        let table = [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ms"),
            (Duration::from_micros(999_001), "1s"),
            (Duration::from_millis(999), "999ms"),
            (Duration::from_secs(3_600), "3600s"),
            (Duration::from_millis(1_500), "1500ms"),
            (Duration::MAX, "18446744073709551616s"),
        ];
        for (span, text) in table {
            assert_eq!(interval(span), text);
        }
    }

    #[test]
    fn options_are_given_as_text_or_as_a_set() {
        fn take(options: impl Into<String>) -> String {
            options.into()
        }
        assert_eq!(take("oof"), take(NONE.oof()));
        assert_eq!(take(SowOptions::new().top_n(1)), take(String::from("top_n=1")));
    }
}
