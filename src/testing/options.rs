//! The option string of a command (9.3).

use std::time::Duration;

use super::payload::Identifier;
use super::refusal::Refusal;
use super::replay::{NotFound, Rate};

/// What an option string asks for. Options on a kind of command that knows nothing of them count for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) replace: bool,
    pub(crate) oof: bool,
    pub(crate) timestamp: bool,
    pub(crate) no_sowkey: bool,
    pub(crate) send_keys: bool,
    pub(crate) no_empties: bool,
    pub(crate) pause: bool,
    pub(crate) resume: bool,
    pub(crate) non_regex_topic: bool,
    pub(crate) cancel: bool,
    pub(crate) expire: bool,
    pub(crate) top_n: Option<u64>,
    pub(crate) skip_n: Option<u64>,
    pub(crate) conflation: Option<Duration>,
    pub(crate) conflation_key: Option<Vec<Identifier>>,
    pub(crate) bookmark: bool,
    pub(crate) live: bool,
    pub(crate) fully_durable: bool,
    pub(crate) not_found: NotFound,
    pub(crate) rate: Option<Rate>,
    pub(crate) rate_max_gap: Option<Duration>,
    pub(crate) max_backlog: Option<u64>,
    /// Options this server knows and does not do.
    pub(crate) unsupported: bool,
}

/// `conflation=auto`.
const AUTO_CONFLATION: Duration = Duration::from_millis(250);
/// The largest projection.
const MAX_PROJECTION: usize = 64 * 1024;

impl Options {
    /// Reads an option string; unknown options and bad values are refused (B-8).
    pub(crate) fn parse(text: &str) -> Result<Options, Refusal> {
        let mut options = Options::default();
        for option in split(text) {
            let known = match option.split_once('=') {
                None => options.set(option),
                Some((name, value)) => options.set_value(name.trim(), value.trim())?,
            };
            if !known {
                return Err(Refusal::InvalidOptions);
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str) -> bool {
        match name {
            "replace" => self.replace = true,
            "oof" => self.oof = true,
            "timestamp" => self.timestamp = true,
            "no_sowkey" => self.no_sowkey = true,
            "send_keys" => self.send_keys = true,
            "no_empties" => self.no_empties = true,
            "pause" => self.pause = true,
            "resume" => self.resume = true,
            "non_regex_topic" => self.non_regex_topic = true,
            "cancel" => self.cancel = true,
            "expire" => self.expire = true,
            "bookmark" => self.bookmark = true,
            "live" => self.live = true,
            "fully_durable" => self.fully_durable = true,
            "none" | "" => {}
            _ => return false,
        }
        true
    }

    fn set_value(&mut self, name: &str, value: &str) -> Result<bool, Refusal> {
        match name {
            "top_n" => self.top_n = Some(number(value)?),
            "skip_n" => self.skip_n = Some(number(value)?),
            "conflation" => self.conflation = conflation(value)?,
            "conflation_key" => self.conflation_key = Some(identifiers(value)?),
            "max_backlog" => self.max_backlog = Some(number(value)?),
            "bookmark_not_found" => self.not_found = not_found(value)?,
            "rate" => self.rate = Some(Rate::parse(value).ok_or(Refusal::InvalidOptions)?),
            "rate_max_gap" => self.rate_max_gap = Some(interval(value).ok_or(Refusal::InvalidOptions)?),
            "projection" if value.len() > MAX_PROJECTION => return Err(Refusal::ProjectionTooLarge),
            "select" | "projection" | "grouping" => self.unsupported = true,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// The parts of an option string: separated by commas, except within brackets.
pub(crate) fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let separates = move |c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(separates).map(str::trim)
}

/// A time span: a number with `ms`, `s`, `m` or `h` behind it, or a bare number of seconds (9.6).
pub(crate) fn interval(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = text.get(digits.len()..)?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" | "" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    }
}

fn number(value: &str) -> Result<u64, Refusal> {
    value.parse().map_err(|_| Refusal::InvalidOptions)
}

fn not_found(value: &str) -> Result<NotFound, Refusal> {
    match value {
        "now" => Ok(NotFound::Now),
        "epoch" => Ok(NotFound::Epoch),
        "fail" => Ok(NotFound::Fail),
        _ => Err(Refusal::InvalidOptions),
    }
}

fn conflation(value: &str) -> Result<Option<Duration>, Refusal> {
    match value {
        "none" => Ok(None),
        "auto" => Ok(Some(AUTO_CONFLATION)),
        other => {
            let interval = interval(other).ok_or(Refusal::InvalidOptions)?;
            Ok((!interval.is_zero()).then_some(interval))
        }
    }
}

/// `[/a,/b]`; the brackets belong to it.
fn identifiers(value: &str) -> Result<Vec<Identifier>, Refusal> {
    let inner = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let list = inner.ok_or(Refusal::InvalidOptions)?.split(',');
    list.map(|text| Identifier::parse(text.trim()).ok_or(Refusal::InvalidOptions)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B-8.
    #[test]
    fn options_are_separated_by_commas_outside_of_brackets() {
        let options = Options::parse("oof,, timestamp ,conflation_key=[/a,/b],none,top_n=3,").unwrap();
        assert!(options.oof && options.timestamp && !options.replace);
        assert_eq!(options.top_n, Some(3));
        assert_eq!(options.conflation_key.unwrap().len(), 2);
        assert_eq!(Options::parse("").unwrap(), Options::default());
    }

    #[test]
    fn unknown_options_and_bad_values_are_refused() {
        let bad = [
            "frobnicate",
            "oof=1",
            "top_n",
            "top_n=x",
            "top_n=-1",
            "conflation=soon",
            "conflation_key=/a",
            "conflation_key=[a]",
            "max_backlog=many",
            "bookmark_not_found=maybe",
            "rate=0",
            "rate_max_gap=long",
            "OOF",
        ];
        for text in bad {
            assert_eq!(Options::parse(text), Err(Refusal::InvalidOptions), "{text}");
        }
        let large = format!("projection=[{}]", "x".repeat(MAX_PROJECTION));
        assert_eq!(Options::parse(&large), Err(Refusal::ProjectionTooLarge));
    }

    #[test]
    fn options_of_later_stages_are_known_as_such() {
        for text in ["select=[-/,+/id]", "projection=[/a]", "grouping=[/a]"] {
            assert!(Options::parse(text).unwrap().unsupported, "{text}");
        }
        for text in
            ["live", "fully_durable", "bookmark", "max_backlog=5", "bookmark_not_found=now", "rate=2X"]
        {
            assert!(!Options::parse(text).unwrap().unsupported, "{text}");
        }
    }

    #[test]
    fn intervals_have_units() {
        let table = [
            ("100ms", Some(100)),
            ("2s", Some(2_000)),
            ("2", Some(2_000)),
            ("3m", Some(180_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("1d", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
            ("9999999999999999999h", None),
        ];
        for (text, millis) in table {
            assert_eq!(interval(text), millis.map(Duration::from_millis), "{text}");
        }
        let conflation = |text: &str| Options::parse(text).unwrap().conflation;
        assert_eq!(conflation("conflation=auto"), Some(AUTO_CONFLATION));
        assert_eq!(conflation("conflation=none"), None);
        assert_eq!(conflation("conflation=0"), None);
    }
}
