//! Reading bookmarks.

use std::ops::Bound;

use super::{Bookmark, BookmarkKind};
use crate::timestamp;

/// Publisher and sequence of a message's bookmark, whatever follows them; `None` for every other text, for EPOCH and for
/// NOW, which is the place of no message. For the receive path: one pass, no allocation.
#[inline]
pub(crate) fn bookmark_parts(text: &[u8]) -> Option<(u64, u64)> {
    bookmark_place(text).map(|(publisher, sequence, _)| (publisher, sequence))
}

/// The same, and what follows them.
#[inline]
pub(crate) fn bookmark_place(text: &[u8]) -> Option<(u64, u64, &[u8])> {
    leading_numbers(text).filter(|(publisher, sequence, _)| (*publisher, *sequence) != NOW)
}

const NOW: (u64, u64) = (0, 1);

#[inline]
fn leading_numbers(text: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (publisher, rest) = leading_number(text)?;
    let (sequence, rest) = leading_number(rest.strip_prefix(b"|")?)?;
    Some((publisher, sequence, rest))
}

/// A number of at least one digit that fits into 64 bits, and what follows it.
#[inline]
fn leading_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut value, mut rest) = (0_u64, text);
    while let Some(digits) = rest.first_chunk().and_then(eight_digits) {
        value = value.checked_mul(100_000_000)?.checked_add(digits)?;
        rest = rest.get(8..)?;
    }
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        rest = tail;
    }
    (rest.len() < text.len()).then_some((value, rest))
}

/// The number that eight digits make: the bytes of one word, added up in pairs, then pairs of pairs, then both halves. A
/// digit is 0x30 to 0x39, and stays below 0x40 when 6 is added.
#[inline]
pub(crate) fn eight_digits(text: &[u8; 8]) -> Option<u64> {
    const HIGH_HALVES: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    let text = u64::from_le_bytes(*text);
    let raised = text.wrapping_add(0x0606_0606_0606_0606);
    if text & HIGH_HALVES != ZEROS || raised & HIGH_HALVES != ZEROS {
        return None;
    }
    let ones = text - ZEROS;
    let pairs = (ones.wrapping_mul(10 << 8 | 1) >> 8) & 0x00FF_00FF_00FF_00FF;
    let quads = (pairs.wrapping_mul(100 << 16 | 1) >> 16) & 0x0000_FFFF_0000_FFFF;
    Some(quads.wrapping_mul(10_000 << 32 | 1) >> 32)
}

pub(super) fn position_kind(publisher: u64, sequence: u64) -> BookmarkKind {
    match (publisher, sequence) {
        NOW => BookmarkKind::Now,
        _ => BookmarkKind::At { publisher, sequence },
    }
}

/// Reads a bookmark of any form, or says what is wrong with it.
pub(super) fn read(text: &str) -> Result<Bookmark, &'static str> {
    let text = text.trim();
    if text.contains(['[', ']', '(', ')', ':']) { range(text) } else { list(text) }
}

/// Makes a list of several bookmarks, lists among them taken apart.
pub(super) fn join(bookmarks: impl IntoIterator<Item = Bookmark>) -> Result<Bookmark, &'static str> {
    let mut entries = Vec::new();
    for bookmark in bookmarks {
        match bookmark.kind {
            BookmarkKind::List(inner) => entries.extend(inner),
            _ => entries.push(bookmark),
        }
    }
    if let [_, _, ..] = entries.as_slice() {
        return list_of(entries);
    }
    entries.pop().ok_or("nothing in it")
}

fn list_of(entries: Vec<Bookmark>) -> Result<Bookmark, &'static str> {
    let is_place = |b: &Bookmark| !matches!(b.kind, BookmarkKind::MostRecent | BookmarkKind::Range { .. });
    if !entries.iter().all(is_place) {
        return Err("a list cannot hold `recent` or a range");
    }
    let texts: Vec<&str> = entries.iter().map(Bookmark::as_str).collect();
    Ok(Bookmark { text: texts.join(",").into(), kind: BookmarkKind::List(entries) })
}

fn list(text: &str) -> Result<Bookmark, &'static str> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    join(entries.map(single).collect::<Result<Vec<_>, _>>()?)
}

fn single(text: &str) -> Result<Bookmark, &'static str> {
    match text {
        "0" => Ok(Bookmark::EPOCH),
        "recent" => Ok(Bookmark::MOST_RECENT),
        _ if text.contains('|') => position(text),
        _ if is_time(text) => time(text),
        _ => Err("it is neither `publisher|sequence|` nor a time such as 20240102T030405Z"),
    }
}

fn position(text: &str) -> Result<Bookmark, &'static str> {
    let (publisher, sequence, _) = leading_numbers(text.as_bytes())
        .ok_or("a place is `publisher|sequence|`, two numbers of at most 64 bits")?;
    Ok(Bookmark { text: text.to_owned().into(), kind: position_kind(publisher, sequence) })
}

/// By its shape, as peers recognise a time; the form without fraction and `Z` has 15 characters.
fn is_time(text: &str) -> bool {
    (15..=23).contains(&text.len()) && text.as_bytes().get(8) == Some(&b'T')
}

fn time(text: &str) -> Result<Bookmark, &'static str> {
    let time = timestamp::parse(text).ok_or("no such time")?;
    let zone = if text.ends_with('Z') { "" } else { "Z" };
    Ok(Bookmark { text: format!("{text}{zone}").into(), kind: BookmarkKind::Time(time) })
}

fn range(text: &str) -> Result<Bookmark, &'static str> {
    let mut inner = text.chars();
    let (open, close) = (inner.next(), inner.next_back());
    let (start, end) = inner.as_str().split_once(':').ok_or("a range needs a `:` between its ends")?;
    let start = match open {
        Some('[') => Bound::Included(end_point(start)?),
        Some('(') => Bound::Excluded(end_point(start)?),
        _ => return Err("a range begins with `[` or `(`"),
    };
    let end = match close {
        Some(']') => Bound::Included(end_point(end)?),
        Some(')') => Bound::Excluded(end_point(end)?),
        _ => return Err("a range ends with `]` or `)`"),
    };
    Ok(Bookmark { text: text.to_owned().into(), kind: BookmarkKind::Range { start, end } })
}

fn end_point(text: &str) -> Result<Box<Bookmark>, &'static str> {
    if !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'|' | b',' | b'T' | b'Z' | b' ')) {
        return Err("a range holds digits, `|`, `,`, `T`, `Z`, blanks and one `:` only");
    }
    match text.bytes().all(|b| matches!(b, b' ' | b',')) {
        true => Err("a range needs both of its ends"),
        false => list(text).map(Box::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::random::Random;

    fn kind(text: &str) -> BookmarkKind {
        Bookmark::parse(text).unwrap_or_else(|error| panic!("{error}")).kind().clone()
    }

    fn at(publisher: u64, sequence: u64) -> BookmarkKind {
        BookmarkKind::At { publisher, sequence }
    }

    fn time(text: &str) -> BookmarkKind {
        BookmarkKind::Time(timestamp::parse(text).unwrap())
    }

    /// `wire-protocol` 10.1, `resilience` BS-1 and BS-2: the accepted texts, what they mean, and what is printed.
    #[test]
    fn every_form_is_read_and_its_text_is_kept() {
        let (one, two) = (Bookmark::at(1, 2), Bookmark::at(3, 4));
        let list = || BookmarkKind::List(vec![one.clone(), two.clone()]);
        let table = [
            ("0", BookmarkKind::Epoch, "0"),
            (" 0 ", BookmarkKind::Epoch, "0"),
            ("0|1|", BookmarkKind::Now, "0|1|"),
            ("0|1", BookmarkKind::Now, "0|1"),
            ("recent", BookmarkKind::MostRecent, "recent"),
            ("7094790850998930143|42|", at(7_094_790_850_998_930_143, 42), "7094790850998930143|42|"),
            ("10357694053628526720|1|", at(10_357_694_053_628_526_720, 1), "10357694053628526720|1|"),
            ("1|2", at(1, 2), "1|2"),
            ("0|0|", at(0, 0), "0|0|"),
            ("007|08|", at(7, 8), "007|08|"),
            ("1|2|20240102T030405.1Z|", at(1, 2), "1|2|20240102T030405.1Z|"),
            ("1|2x", at(1, 2), "1|2x"),
            ("1|2|,", at(1, 2), "1|2|"),
            ("1|2|,3|4|", list(), "1|2|,3|4|"),
            (" 1|2| , 3|4| ", list(), "1|2|,3|4|"),
            (",1|2|,,3|4|,", list(), "1|2|,3|4|"),
            ("1|2,3|4|x", list(), "1|2,3|4|x"),
            ("20150102T123500Z", time("20150102T123500Z"), "20150102T123500Z"),
            ("20150102T123500", time("20150102T123500Z"), "20150102T123500Z"),
            ("20260102T030405.678Z", time("20260102T030405.678Z"), "20260102T030405.678Z"),
            ("20260102T030405.678901", time("20260102T030405.678901Z"), "20260102T030405.678901Z"),
            ("20260102T030405.678901Z", time("20260102T030405.678901Z"), "20260102T030405.678901Z"),
        ];
        for (text, expected, printed) in table {
            assert_eq!(kind(text), expected, "{text}");
            assert_eq!(Bookmark::parse(text).unwrap().to_string(), printed, "{text}");
        }
    }

    /// `wire-protocol` 10.1: brackets, blanks and lists in ranges; the example of the text.
    #[test]
    fn ranges_are_read_with_their_bounds_and_their_text_is_kept() {
        let boxed = |text: &str| Box::new(Bookmark::parse(text).unwrap());
        let table = [
            ("[1|2|:3|4|]", Bound::Included(boxed("1|2|")), Bound::Included(boxed("3|4|"))),
            ("(1|2|:3|4|)", Bound::Excluded(boxed("1|2|")), Bound::Excluded(boxed("3|4|"))),
            (
                "[20200604T000000:20200605T000000)",
                Bound::Included(boxed("20200604T000000Z")),
                Bound::Excluded(boxed("20200605T000000Z")),
            ),
            ("[ 1|2| , 3|4 : 0 ]", Bound::Included(boxed("1|2|,3|4|")), Bound::Included(boxed("0"))),
            ("(1|5|,2|7|:1|9|]", Bound::Excluded(boxed("1|5|,2|7|")), Bound::Included(boxed("1|9|"))),
        ];
        for (text, start, end) in table {
            assert_eq!(kind(text), BookmarkKind::Range { start, end }, "{text}");
            assert_eq!(Bookmark::parse(&format!(" {text} ")).unwrap().to_string(), text);
        }
    }

    /// `resilience` table 1.4: a malformed bookmark range is a command error.
    #[test]
    fn anything_else_is_a_command_error_that_names_it() {
        for text in [
            "",
            " ",
            ",",
            "1",
            "00",
            "now",
            "Recent",
            "1|",
            "|1|",
            "1||",
            "a|1|",
            "1|b|",
            "-1|1|",
            "18446744073709551616|1|",
            "1|18446744073709551616|",
            "1|2|,recent",
            "1|2|,x",
            "20241301T000000Z",
            "20240230T000000Z",
            "20240101T00000Z",
            "20240101 000000Z",
            "20240101T000000.1234567Z",
            "2024-01-01T00:00",
            "[",
            "(",
            "[]",
            "[:]",
            "[1|2|]",
            "[1|2|:]",
            "[:1|2|]",
            "[ : 1|2|]",
            "[,:1|2|]",
            "[1|2|:3|4|",
            "1|2|:3|4|]",
            "1|2|:3|4|",
            "1|2|)",
            "[1|2|:3|4|:5|6|]",
            "[1|2|:x]",
            "[1|2|:recent]",
            "[1|2|:\t3|4|]",
            "[1|2|:20240101T000000.5Z]",
            "[1|2|:20241301T000000Z]",
            "[[1|2|:3|4|]:5|6|]",
            "[1|2|:3|4|],5|6|",
            "[é:é]",
            "[1|2|:3|4|é",
        ] {
            let error = Bookmark::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Command, "{text}");
            assert!(
                error.to_string().contains(text.trim_matches('\t').split('\t').next().unwrap()),
                "{error}"
            );
        }
    }

    /// `resilience` BS-1, BS-9: what the receive path sees.
    #[test]
    fn the_parts_of_a_message_bookmark_are_two_numbers() {
        let table = [
            ("99|7|", Some((99, 7))),
            ("99|7", Some((99, 7))),
            ("99|7|more|", Some((99, 7))),
            ("99|7é", Some((99, 7))),
            ("18446744073709551615|18446744073709551615|", Some((u64::MAX, u64::MAX))),
            ("0|2|", Some((0, 2))),
            ("0|0|", Some((0, 0))),
            ("18446744073709551616|1|", None),
            ("0|1|", None),
            ("0", None),
            ("", None),
            ("99|", None),
            ("|7|", None),
            ("x|7|", None),
            ("20240102T030405Z", None),
        ];
        for (text, expected) in table {
            assert_eq!(bookmark_parts(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(bookmark_parts(b"99|7\xFF"), Some((99, 7)));
    }

    #[test]
    fn a_number_of_any_length_is_read_as_the_standard_library_reads_it() {
        let mut random = Random::new(0x5EED_0008);
        for _ in 0..20_000 {
            let mut text = (random.next() >> random.below(64)).to_string();
            text.insert_str(0, &"0".repeat(random.below(12)));
            text.push_str(&random.text("0123456789/:|\u{1a}\u{b0}", 6));
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let expected = text[..digits].parse().ok().map(|value: u64| (value, &text.as_bytes()[digits..]));
            assert_eq!(leading_number(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn the_cheap_reader_and_the_full_one_agree_on_any_text() {
        let mut random = Random::new(0x5EED_0007);
        for _ in 0..20_000 {
            let text = random.text("0123456789||||T:[]()Z ,.é", 26);
            let full = Bookmark::parse(&text);
            if let Ok(bookmark) = &full {
                assert_eq!(&Bookmark::parse(bookmark.as_str()).unwrap(), bookmark, "{text}");
            }
            if let Ok(BookmarkKind::At { publisher, sequence }) = full.map(|bookmark| bookmark.kind) {
                assert_eq!(
                    bookmark_parts(text.trim().trim_matches([',', ' ']).as_bytes()),
                    Some((publisher, sequence)),
                    "{text}"
                );
            }
        }
    }
}
