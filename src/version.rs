//! Versions of a server.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// How many digits each part may have.
const WIDTHS: [usize; 4] = [4, 4, 5, 5];

/// What a server counts as whose version cannot be read: a recent one, so that nothing is held back from it.
const RECENT: [u32; 4] = [5, 3, 5, 0];

/// The version of a server: four numbers, and the text they came from.
///
/// Versions compare by their numbers, with each other and with text; a text that is no version is unequal to all of
/// them, and neither lower nor higher. [`Display`](fmt::Display) gives the text as it was read. The default is
/// `0.0.0.0`, which is also what a client reports before its first logon.
///
/// ```
/// use amps_client::VersionInfo;
///
/// # fn main() -> amps_client::Result<()> {
/// let version = VersionInfo::parse("5.3.3.1")?;
/// assert!(version >= "5.3.3.0" && version < "5.10");
/// assert!(version > VersionInfo::default());
/// assert_eq!(VersionInfo::parse("5.3")?, "5.3.0.0");
/// assert_eq!(VersionInfo::parse("3.8.1.7")?.number(), 3_080_107);
/// assert_eq!(VersionInfo::parse("5.3")?.to_string(), "5.3");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct VersionInfo {
    text: String,
    parts: [u32; 4],
}

impl VersionInfo {
    /// Reads digits and dots. A missing part counts as 0; parts after the fourth are kept in the text only.
    ///
    /// # Errors
    ///
    /// [`Command`](ErrorKind::Command) if the text holds anything else, or if one of the first four parts has more than
    /// 4, 4, 5 and 5 digits.
    ///
    /// ```
    /// use amps_client::{ErrorKind, VersionInfo};
    ///
    /// let error = VersionInfo::parse("5.3.beta").unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Command);
    /// ```
    pub fn parse(text: &str) -> Result<VersionInfo> {
        let parts = strict_parts(text).ok_or_else(|| {
            Error::new(ErrorKind::Command, format!("`{}` is no version such as 5.3.3.0", text.escape_debug()))
        })?;
        Ok(VersionInfo { text: text.to_owned(), parts })
    }

    /// Takes whatever a server calls its version: the numbers of `5.3.5.14.c6e65cc` are those of 5.3.5.14, and a text
    /// without numbers counts as a recent build.
    pub(crate) fn of_server(text: &str) -> VersionInfo {
        VersionInfo { text: text.to_owned(), parts: leading_parts(text).unwrap_or(RECENT) }
    }

    /// Two decimal digits for each part: 3.8.1.7 is 3080107. A part above 99 counts as 99.
    pub fn number(&self) -> u32 {
        self.parts.iter().fold(0, |number, part| number * 100 + part.min(&99))
    }

    /// 4, 4, 5 and 5 decimal digits for the parts, so that no part is cut.
    ///
    /// ```
    /// let version = amps_client::VersionInfo::parse("5.3.5.14")?;
    /// assert_eq!(version.wide_number(), 500_030_000_500_014);
    /// # Ok::<(), amps_client::Error>(())
    /// ```
    pub fn wide_number(&self) -> u64 {
        let widths = WIDTHS.map(|width| 10_u64.pow(width as u32));
        self.parts.iter().zip(widths).fold(0, |number, (part, width)| number * width + u64::from(*part))
    }
}

impl Default for VersionInfo {
    fn default() -> VersionInfo {
        VersionInfo { text: "0.0.0.0".to_owned(), parts: [0; 4] }
    }
}

impl FromStr for VersionInfo {
    type Err = Error;

    /// The same as [`VersionInfo::parse`].
    fn from_str(text: &str) -> Result<VersionInfo> {
        VersionInfo::parse(text)
    }
}

impl fmt::Display for VersionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl PartialEq for VersionInfo {
    fn eq(&self, other: &VersionInfo) -> bool {
        self.parts == other.parts
    }
}

impl Eq for VersionInfo {}

impl PartialOrd for VersionInfo {
    fn partial_cmp(&self, other: &VersionInfo) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VersionInfo {
    fn cmp(&self, other: &VersionInfo) -> Ordering {
        self.parts.cmp(&other.parts)
    }
}

impl Hash for VersionInfo {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts.hash(state);
    }
}

impl PartialEq<str> for VersionInfo {
    fn eq(&self, other: &str) -> bool {
        strict_parts(other) == Some(self.parts)
    }
}

impl PartialEq<&str> for VersionInfo {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialOrd<str> for VersionInfo {
    fn partial_cmp(&self, other: &str) -> Option<Ordering> {
        Some(self.parts.cmp(&strict_parts(other)?))
    }
}

impl PartialOrd<&str> for VersionInfo {
    fn partial_cmp(&self, other: &&str) -> Option<Ordering> {
        self.partial_cmp(*other)
    }
}

fn strict_parts(text: &str) -> Option<[u32; 4]> {
    let mut parts = [0; 4];
    let mut texts = text.split('.');
    for (part, (text, width)) in parts.iter_mut().zip(texts.by_ref().zip(WIDTHS)) {
        if !is_digits(text) || text.len() > width {
            return None;
        }
        *part = text.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    }
    texts.all(is_digits).then_some(parts)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// The numbers a text begins with, each cut to its width; `None` if one of its first four parts begins with none.
fn leading_parts(text: &str) -> Option<[u32; 4]> {
    let mut parts = [0; 4];
    for (part, (text, width)) in parts.iter_mut().zip(text.split('.').zip(WIDTHS)) {
        let digits = text.bytes().take_while(u8::is_ascii_digit);
        let length = digits.clone().count();
        if length == 0 {
            return None;
        }
        let limit = 10_u32.pow(width as u32) - 1;
        *part = digits.fold(0, |number, digit| (number * 10 + u32::from(digit - b'0')).min(limit));
        if length < text.len() {
            break;
        }
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// `api-surface` 2, last paragraph.
    #[test]
    fn digits_and_dots_are_read_and_packed() {
        let table = [
            ("3.8.1.7", 3_080_107, 300_080_000_100_007),
            ("5.3.5.14", 5_030_514, 500_030_000_500_014),
            ("5", 5_000_000, 500_000_000_000_000),
            ("5.3", 5_030_000, 500_030_000_000_000),
            ("5.3.", 5_030_000, 500_030_000_000_000),
            ("5..3", 5_000_300, 500_000_000_300_000),
            ("", 0, 0),
            ("05.03", 5_030_000, 500_030_000_000_000),
            ("9999.9999.99999.99999", 99_999_999, 999_999_999_999_999_999),
            ("5.3.100.99", 5_039_999, 500_030_010_000_099),
            ("5.3.5.14.717892", 5_030_514, 500_030_000_500_014),
        ];
        for (text, number, wide) in table {
            let version = VersionInfo::parse(text).unwrap();
            assert_eq!((version.number(), version.wide_number()), (number, wide), "{text}");
            assert_eq!(version.to_string(), text);
            assert_eq!(text.parse::<VersionInfo>().unwrap(), version);
        }
    }

    #[test]
    fn anything_else_is_a_command_error_that_names_it() {
        for text in [
            "a",
            "5.3.x",
            "5.3-1",
            " 5",
            "5.3 ",
            "+5",
            "12345",
            "1.12345",
            "1.1.123456",
            "1.1.1.123456",
            "1.1.1.1.c6e65cc",
            "١",
        ] {
            let error = VersionInfo::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Command, "{text}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    /// `wire-protocol` 7.2: the first four numeric groups count, and text without them is a recent 5.3.
    #[test]
    fn whatever_a_server_calls_its_version_can_be_compared() {
        let table = [
            ("5.2.1.17.717892.e742467", "5.2.1.17"),
            ("5.3.5.14.c6e65cc.784022:python", "5.3.5.14"),
            ("5.3.5.1", "5.3.5.1"),
            ("6.0.0.2-rc1", "6.0.0.2"),
            ("6.1beta.7", "6.1"),
            ("99999.1", "9999.1"),
            ("5.3.99999999999999999999.1", "5.3.99999.1"),
            ("develop", "5.3.5"),
            ("5.3.develop", "5.3.5"),
            ("", "5.3.5"),
            ("v5", "5.3.5"),
            ("5..1", "5.3.5"),
        ];
        for (text, counts_as) in table {
            let version = VersionInfo::of_server(text);
            assert_eq!(version, counts_as, "{text}");
            assert_eq!(version.to_string(), text);
        }
    }

    #[test]
    fn versions_compare_by_number_with_each_other_and_with_text() {
        let version = |text| VersionInfo::parse(text).unwrap();
        assert!(version("5.10") > version("5.9.99999.1"));
        assert!(version("5.3.3.0") == version("5.3.3") && version("5.3.3") != version("5.3.3.1"));
        assert!(version("5.3.3.1") >= "5.3.3.0" && version("5.3.3.1") < *"5.4" && version("5.3") == *"5.3.0");
        let hashes = |v: VersionInfo| std::collections::HashSet::from([v]);
        assert!(hashes(version("5.3")).contains(&version("5.3.0.0")));
        let odd = version("5.3");
        assert!(odd != "beta" && odd.partial_cmp("beta").is_none());
        assert_eq!(VersionInfo::default(), "0");
        assert_eq!((VersionInfo::default().number(), VersionInfo::default().wide_number()), (0, 0));
    }

    #[test]
    fn order_and_numbers_agree_for_any_versions() {
        let mut random = Random::new(0x5EED_0003);
        let mut any = || {
            let mut part = |limit: usize| random.next() as usize % limit;
            format!("{}.{}.{}.{}", part(10_000), part(10_000), part(100_000), part(100_000))
        };
        for _ in 0..2_000 {
            let (a, b) = (any(), any());
            let (x, y) = (VersionInfo::parse(&a).unwrap(), VersionInfo::parse(&b).unwrap());
            assert_eq!(x.cmp(&y), x.wide_number().cmp(&y.wide_number()), "{a} {b}");
            assert_eq!(x.partial_cmp(b.as_str()), Some(x.cmp(&y)));
            assert_eq!(VersionInfo::of_server(&a), x);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let mut random = Random::new(0x5EED_0004);
        for _ in 0..10_000 {
            let text = random.text("0199.-é x", 30);
            let tolerant = VersionInfo::of_server(&text);
            if let (Ok(strict), true) = (VersionInfo::parse(&text), tolerant != "5.3.5") {
                assert_eq!(strict, tolerant, "{text}");
            }
        }
    }
}
