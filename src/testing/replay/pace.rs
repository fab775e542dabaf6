//! How fast a replay goes (`rate`, `rate_max_gap`).

use std::time::Duration;

use crate::testing::clock::Time;

/// How fast messages come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// So many messages a second.
    Messages(f64),
    /// So many bytes of payload a second.
    Bytes(f64),
    /// A multiple of the speed at which they were published.
    Speed(f64),
}

impl Rate {
    /// `1000`, `100KB` or `1.5X`; nothing that is not above zero.
    pub(crate) fn parse(text: &str) -> Option<Rate> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let number = digits.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0)?;
        match text.get(digits.len()..)? {
            "" => Some(Rate::Messages(number)),
            "X" => Some(Rate::Speed(number)),
            "B" => Some(Rate::Bytes(number)),
            "KB" => Some(Rate::Bytes(number * 1024.0)),
            "MB" => Some(Rate::Bytes(number * 1024.0 * 1024.0)),
            "GB" => Some(Rate::Bytes(number * 1024.0 * 1024.0 * 1024.0)),
            _ => None,
        }
    }
}

/// The rate of one replay, and when its last message went.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    /// The longest silence.
    max_gap: Duration,
    last: Option<Sent>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    due: Time,
    published: Time,
    bytes: usize,
}

/// How late a message may be before the ones after it are put off as well.
const TOLERANCE: Duration = Duration::from_millis(100);

impl Pace {
    pub(crate) fn new(rate: Rate, max_gap: Option<Duration>) -> Pace {
        Pace { rate, max_gap: max_gap.unwrap_or(Duration::MAX), last: None }
    }

    /// When a message is due that was published at this time.
    pub(super) fn due(&self, published: Time, now: Time) -> Time {
        let Some(last) = self.last else { return now };
        let gap = match self.rate {
            Rate::Messages(per_second) => seconds(1.0 / per_second),
            Rate::Bytes(per_second) => seconds(last.bytes as f64 / per_second),
            Rate::Speed(factor) => seconds(published.since(last.published).as_secs_f64() / factor),
        };
        last.due.plus(gap.min(self.max_gap))
    }

    /// Notes that a message was sent.
    pub(super) fn sent(&mut self, published: Time, bytes: usize, now: Time) {
        let due = self.due(published, now);
        let due = if now.since(due) > TOLERANCE { now } else { due };
        self.last = Some(Sent { due, published, bytes });
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::default().plus(Duration::from_millis(millis))
    }

    #[test]
    fn a_rate_has_one_of_three_forms() {
        let table = [
            ("1000", Some(Rate::Messages(1000.0))),
            ("2KB", Some(Rate::Bytes(2048.0))),
            ("1MB", Some(Rate::Bytes(1_048_576.0))),
            ("1.5X", Some(Rate::Speed(1.5))),
            ("0", None),
            ("-1X", None),
            ("X", None),
            ("", None),
            ("1x", None),
            ("inf", None),
            ("NaN", None),
            ("1 KB", None),
        ];
        for (text, expected) in table {
            assert_eq!(Rate::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn messages_are_due_as_the_rate_says() {
        let table = [
            ("4", None, 250),
            ("1KB", None, 500),
            ("2X", None, 5_000),
            ("2X", Some(1_000), 1_000),
            ("0.001", Some(3_000), 3_000),
        ];
        for (rate, max_gap, expected) in table {
            let mut pace = Pace::new(Rate::parse(rate).unwrap(), max_gap.map(Duration::from_millis));
            assert_eq!(pace.due(at(0), at(100)), at(100), "{rate}: the first at once");
            pace.sent(at(0), 512, at(100));
            assert_eq!(pace.due(at(10_000), at(100)), at(100 + expected), "{rate}");
        }
    }

    #[test]
    fn a_late_message_is_no_reason_for_a_burst() {
        let mut pace = Pace::new(Rate::Messages(10.0), None);
        pace.sent(at(0), 1, at(0));
        pace.sent(at(0), 1, at(150));
        assert_eq!(pace.due(at(0), at(150)), at(200), "a little late: as planned");
        pace.sent(at(0), 1, at(5_000));
        assert_eq!(pace.due(at(0), at(5_000)), at(5_100));
    }
}
