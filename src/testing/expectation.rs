//! What a frame must be, for a script that waits for it or a fault that strikes it.

use std::fmt;
use std::sync::Arc;

use super::frame::{Frame, Payload};
use crate::wire::{CommandType, Field};

/// What a frame must be: a command name, values of headers, a payload, a predicate, or several of them.
///
/// Everywhere a frame is to be described, a command name or a closure will do as well. `Display` is the sentence that a
/// mismatch is reported with; a password in it is not shown.
///
/// ```
/// use amps_client::testing::{Expectation, Frame};
///
/// # fn main() -> amps_client::Result<()> {
/// let wanted = Expectation::command("subscribe").header("t", "orders").without("bookmark");
/// assert!(wanted.is_met_by(&Frame::parse(br#"{"c":"subscribe","topic":"orders","cid":"1"}"#)?));
/// assert!(!wanted.is_met_by(&Frame::parse(br#"{"c":"subscribe","t":"orders","bm":"0"}"#)?));
/// assert_eq!(wanted.to_string(), "`subscribe` with `t` = `orders`, without `bookmark`");
///
/// let short = Expectation::from("publish");
/// assert!(short.is_met_by(&Frame::parse(br#"{"c":"p","t":"orders"}"#)?), "`p` is a publish");
/// let closure = Expectation::from(|frame: &Frame| frame.payload().is_empty());
/// assert!(closure.is_met_by(&Frame::parse(br#"{"c":"flush"}"#)?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Expectation {
    command: Option<String>,
    checks: Vec<Check>,
}

#[derive(Clone)]
enum Check {
    Header(String, String),
    Absent(String),
    Payload(Vec<u8>),
    Matching(String, Predicate),
}

type Predicate = Arc<dyn Fn(&Frame) -> bool + Send + Sync>;

impl Expectation {
    /// Any frame at all.
    pub fn any() -> Expectation {
        Expectation::default()
    }

    /// A frame with this command. A known command is recognised in either spelling: `publish` and `p` are the same.
    pub fn command(name: impl Into<String>) -> Expectation {
        Expectation { command: Some(name.into()), checks: Vec::new() }
    }

    /// The header with this key, in any of its spellings, has exactly this value (decoded, numbers as their digits).
    #[must_use]
    pub fn header(self, key: impl Into<String>, value: impl Into<String>) -> Expectation {
        self.and(Check::Header(key.into(), value.into()))
    }

    /// The header with this key, in any of its spellings, is absent or empty.
    #[must_use]
    pub fn without(self, key: impl Into<String>) -> Expectation {
        self.and(Check::Absent(key.into()))
    }

    /// The payload is exactly this.
    #[must_use]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Expectation {
        self.and(Check::Payload(payload.into()))
    }

    /// The predicate holds. `description` completes the sentence "a frame …" when it does not.
    ///
    /// The predicate runs on a thread of the peer, and holds up nothing but its connection.
    ///
    /// ```
    /// use amps_client::testing::{Expectation, Frame};
    ///
    /// let numbered = Expectation::command("p").matching("with a sequence", |f| f.header("s").is_some());
    /// assert_eq!(numbered.to_string(), "`p` with a sequence");
    /// ```
    #[must_use]
    pub fn matching(
        self,
        description: impl Into<String>,
        predicate: impl Fn(&Frame) -> bool + Send + Sync + 'static,
    ) -> Expectation {
        self.and(Check::Matching(description.into(), Arc::new(predicate)))
    }

    /// True if the frame is what is expected.
    pub fn is_met_by(&self, frame: &Frame) -> bool {
        self.command.as_deref().is_none_or(|name| is_command(frame, name))
            && self.checks.iter().all(|check| check.holds(frame))
    }

    fn and(mut self, check: Check) -> Expectation {
        self.checks.push(check);
        self
    }
}

impl From<&str> for Expectation {
    fn from(command: &str) -> Expectation {
        Expectation::command(command)
    }
}

impl<F: Fn(&Frame) -> bool + Send + Sync + 'static> From<F> for Expectation {
    fn from(predicate: F) -> Expectation {
        Expectation::any().matching("that satisfies the predicate", predicate)
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.command {
            Some(name) => write!(f, "`{name}`")?,
            None => f.write_str("a frame")?,
        }
        for (n, check) in self.checks.iter().enumerate() {
            f.write_str(if n == 0 { " " } else { ", " })?;
            check.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expectation({self})")
    }
}

impl Check {
    fn holds(&self, frame: &Frame) -> bool {
        match self {
            Check::Header(key, value) => frame.header(key) == Some(value),
            Check::Absent(key) => frame.header(key).is_none(),
            Check::Payload(payload) => frame.payload() == payload,
            Check::Matching(_, predicate) => predicate(frame),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Check::Header(key, _) if Field::of(key.as_bytes()) == Some(Field::Password) => {
                write!(f, "with `{key}` = `***`")
            }
            Check::Header(key, value) => write!(f, "with `{key}` = `{value}`"),
            Check::Absent(key) => write!(f, "without `{key}`"),
            Check::Payload(payload) => write!(f, "with the payload {:?}", Payload(payload)),
            Check::Matching(description, _) => f.write_str(description),
        }
    }
}

fn is_command(frame: &Frame, name: &str) -> bool {
    let known = CommandType::of(name);
    frame.command() == name || (known != CommandType::Unknown && frame.message().command() == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Frame {
        Frame::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_expectation_is_met_only_if_all_of_it_holds() {
        let wanted = || Expectation::command("publish");
        let f = frame(r#"{"c":"p","t":"orders","seq":7,"k":""}{"id":1}"#);
        let table = [
            (Expectation::any(), true),
            (wanted(), true),
            (Expectation::command("p"), true),
            (Expectation::command("subscribe"), false),
            (Expectation::command("unknown"), false),
            (wanted().header("topic", "orders").header("s", "7"), true),
            (wanted().header("t", "orders").header("s", "8"), false),
            (wanted().header("k", ""), false),
            (wanted().without("k").without("bm"), true),
            (wanted().without("t"), false),
            (wanted().payload(r#"{"id":1}"#), true),
            (wanted().payload(""), false),
            (wanted().matching("of eight bytes", |f| f.payload().len() == 8), true),
            (wanted().matching("of nine bytes", |f| f.payload().len() == 9), false),
            (Expectation::from(|f: &Frame| f.command() == "ack"), false),
        ];
        for (expectation, met) in table {
            assert_eq!(expectation.is_met_by(&f), met, "{expectation}");
        }
    }

    #[test]
    fn an_unknown_command_is_expected_by_its_very_name() {
        assert!(Expectation::from("frobnicate").is_met_by(&frame(r#"{"c":"frobnicate"}"#)));
        assert!(!Expectation::from("frobnicate").is_met_by(&frame(r#"{"c":"start_timer"}"#)));
    }

    /// V-5.
    #[test]
    fn an_expectation_is_a_sentence_without_a_password() {
        let wanted = Expectation::command("logon").header("pw", "s3cret").header("client_name", "n");
        assert_eq!(wanted.to_string(), "`logon` with `pw` = `***`, with `client_name` = `n`");
        assert_eq!(
            format!("{:?}", Expectation::any().payload(r#"{"id":1}"#)),
            r#"Expectation(a frame with the payload "{\"id\":1}")"#
        );
        let closure = Expectation::from(|_: &Frame| true);
        assert_eq!(closure.to_string(), "a frame that satisfies the predicate");
    }
}
