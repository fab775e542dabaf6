//! The protocol's time format, `YYYYMMDDTHHMMSS[.ffffff][Z]`, always UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a time; the fraction and the `Z` may be missing.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let text = text.strip_suffix('Z').unwrap_or(text).as_bytes();
    let (whole, fraction) = match text.iter().position(|b| *b == b'.') {
        Some(dot) => (text.get(..dot)?, text.get(dot + 1..)?),
        None => (text, &[][..]),
    };
    if whole.len() != 15 || whole.get(8) != Some(&b'T') {
        return None;
    }
    let part = |from: usize, to: usize| number(whole.get(from..to)?);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(9, 11)?, part(11, 13)?, part(13, 15)?);
    // A leap second reads as the second after it.
    if !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second;
    let nanos = fraction_nanos(fraction)?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Writes a time with microseconds, such as `20240102T030405.123456Z`; a time before 1970 is written as 1970.
pub(crate) fn format(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, rest) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}.{:06}Z",
        rest / 3_600,
        rest / 60 % 60,
        rest % 60,
        since.subsec_micros()
    )
}

fn number(digits: &[u8]) -> Option<u64> {
    crate::wire::block::decimal(digits)
}

fn fraction_nanos(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return Some(0);
    }
    let kept = digits.get(..digits.len().min(9))?;
    number(digits.get(kept.len()..)?).or((digits.len() <= 9).then_some(0))?;
    let value = u32::try_from(number(kept)?).ok()?;
    Some(value * 10_u32.pow(9 - kept.len() as u32))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` before 1970.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let years = year.checked_sub(1970)?;
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    let before = years * 365 + leaps(year - 1) - leaps(1969);
    Some(before + (1..month).map(|m| days_in(year, m)).sum::<u64>() + day - 1)
}

fn civil(days: u64) -> (u64, u64, u64) {
    // Counts from 1 March of year 0, so that the leap day is the last of its year.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<f64> {
        parse(text).map(|t| t.duration_since(UNIX_EPOCH).unwrap().as_secs_f64())
    }

    #[test]
    fn known_times_are_read() {
        assert_eq!(seconds("19700101T000000Z"), Some(0.0));
        assert_eq!(seconds("20240229T120000"), Some(1_709_208_000.0));
        assert_eq!(seconds("20240102T030405.5Z"), Some(1_704_164_645.5));
        assert_eq!(seconds("20991231T235959Z"), Some(4_102_444_799.0));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "0",
            "20240230T000000Z",
            "20241301T000000Z",
            "20240101 000000",
            "20240101T240000",
            "19691231T000000Z",
            "20240101T000000.x",
            "2024010T1000000",
            "20240100T000000",
            "20240101T0000001Z",
            "20230229T000000",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn formatting_and_reading_are_inverse_for_every_day_of_two_centuries() {
        for day in 0..73_000_u64 {
            let time = UNIX_EPOCH + Duration::new(day * 86_400 + day % 86_400, 123_456_000);
            assert_eq!(parse(&format(time)), Some(time), "{}", format(time));
        }
    }
}
