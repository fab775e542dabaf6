//! Where a message is in the logs of the servers.

use crate::bookmark::{Bookmark, BookmarkKind, bookmark_place, eight_digits};

/// A longer tail is not kept: the two numbers say it all.
const LONGEST_TAIL: usize = u8::MAX as usize;

/// The place of a message, borrowed from the text of its bookmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) publisher: u64,
    pub(crate) sequence: u64,
    /// What stands behind the sequence if it is not just a bar. It means nothing to us, but goes back to the server (BS-1).
    pub(crate) tail: &'a [u8],
}

impl<'a> Place<'a> {
    /// Reads the bookmark of a message; `None` if it is no place: EPOCH, NOW, a time, a range, or not readable.
    #[inline]
    pub(crate) fn read(text: &'a [u8]) -> Option<Place<'a>> {
        let (publisher, sequence, rest) = bookmark_place(text)?;
        let tail = if rest == b"|" || rest.len() > LONGEST_TAIL { &[] } else { rest };
        Some(Place { publisher, sequence, tail })
    }

    /// The places in a bookmark: itself, or the members of a list; none for a range.
    pub(crate) fn all_in(bookmark: &'a Bookmark) -> impl Iterator<Item = Place<'a>> {
        members(bookmark).iter().filter_map(|member| Place::read(member.as_str().as_bytes()))
    }
}

/// A bookmark taken apart: the members of a list, or itself.
pub(super) fn members(bookmark: &Bookmark) -> &[Bookmark] {
    match bookmark.kind() {
        BookmarkKind::List(members) => members,
        _ => std::slice::from_ref(bookmark),
    }
}

/// Reads places of which the next is mostly like the one before but for its last digits.
///
/// ```text
///  7094790850998930143|179533707142 20000001|     only the last eight digits are looked at if the rest is as before
///  └─ HALF bytes ─┘
///               └─ HALF bytes ──┘
/// ```
#[derive(Debug, Default)]
pub(crate) struct PlaceReader {
    /// How long the text is; 0 if there is none that a next one could be like.
    length: usize,
    /// The first bytes of the text, and those before the last eight digits. They may overlap.
    halves: [[u8; HALF]; 2],
    publisher: u64,
    /// What the digits before the last eight add up to.
    base: u64,
}

const HALF: usize = 16;
/// What stands behind both halves: eight digits and a bar.
const END: usize = 9;

impl PlaceReader {
    /// The same as [`Place::read`].
    #[inline]
    pub(crate) fn read<'a>(&mut self, text: &'a [u8]) -> Option<Place<'a>> {
        match self.read_like_before(text) {
            Some(sequence) => Some(Place { publisher: self.publisher, sequence, tail: &[] }),
            None => self.read_anew(text),
        }
    }

    #[inline]
    fn read_like_before(&self, text: &[u8]) -> Option<u64> {
        if text.len() != self.length {
            return None;
        }
        let (halves, end) = taken_apart(text)?;
        let [digits @ .., b'|'] = end else { return None };
        if halves[0] != &self.halves[0] || halves[1] != &self.halves[1] {
            return None;
        }
        Some(self.base + eight_digits(digits)?)
    }

    fn read_anew<'a>(&mut self, text: &'a [u8]) -> Option<Place<'a>> {
        let place = Place::read(text)?;
        self.length = 0;
        let both_halves = HALF + END..=2 * HALF + END;
        if both_halves.contains(&text.len())
            && let Some((halves, [digits @ .., b'|'])) = taken_apart(text)
            && let Some(low) = eight_digits(digits)
            && place.sequence <= u64::MAX - 100_000_000
        {
            self.length = text.len();
            self.halves = halves.map(|half| *half);
            self.publisher = place.publisher;
            self.base = place.sequence - low;
        }
        Some(place)
    }
}

/// Both halves of a text, and what stands behind them.
#[inline]
fn taken_apart(text: &[u8]) -> Option<([&[u8; HALF]; 2], &[u8; END])> {
    let (start, end) = text.split_last_chunk()?;
    Some(([start.first_chunk()?, start.last_chunk()?], end))
}

/// A place that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) publisher: u64,
    pub(crate) sequence: u64,
    pub(crate) tail: Vec<u8>,
}

impl Spot {
    pub(crate) fn of(place: Place<'_>) -> Spot {
        Spot { publisher: place.publisher, sequence: place.sequence, tail: place.tail.to_vec() }
    }

    /// Takes over another place, in the memory there is.
    #[inline]
    pub(crate) fn set(&mut self, place: Place<'_>) {
        self.publisher = place.publisher;
        self.sequence = place.sequence;
        if self.tail.len() + place.tail.len() > 0 {
            self.tail.clear();
            self.tail.extend_from_slice(place.tail);
        }
    }

    #[cfg(feature = "file-store")]
    pub(crate) fn place(&self) -> Place<'_> {
        Place { publisher: self.publisher, sequence: self.sequence, tail: &self.tail }
    }

    /// The lower of two places of one publisher.
    pub(super) fn or_lower<'a>(&'a self, other: &'a Spot) -> &'a Spot {
        if other.publisher == self.publisher && other.sequence < self.sequence { other } else { self }
    }

    pub(crate) fn bookmark(&self) -> Bookmark {
        let plain = Bookmark::at(self.publisher, self.sequence);
        let tail = match self.tail.as_slice() {
            [] => return plain,
            tail => String::from_utf8_lossy(tail),
        };
        let text = format!("{}|{}{tail}", self.publisher, self.sequence);
        Bookmark::parse(&text).unwrap_or(plain)
    }
}

/// Puts a place where there may be none yet.
#[inline]
pub(super) fn set(spot: &mut Option<Spot>, place: Place<'_>) {
    match spot {
        Some(spot) => spot.set(place),
        None => *spot = Some(Spot::of(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<Place<'_>> {
        Place::read(text.as_bytes())
    }

    /// BS-1, BS-9.
    #[test]
    fn what_stands_behind_the_numbers_is_kept_for_the_way_back() {
        for (text, back) in [
            ("1|2|", "1|2|"),
            ("1|2", "1|2|"),
            ("1|2x", "1|2x"),
            ("01|02|", "1|2|"),
            ("1|2|20240102T030405.5Z|", "1|2|20240102T030405.5Z|"),
            ("18446744073709551615|18446744073709551615|", "18446744073709551615|18446744073709551615|"),
            ("1|2|:no bookmark", "1|2|"),
        ] {
            assert_eq!(Spot::of(place(text).unwrap()).bookmark().as_str(), back, "{text}");
        }
        let long = format!("1|2|{}", "x".repeat(300));
        assert_eq!(Spot::of(place(&long).unwrap()).bookmark().as_str(), "1|2|");
    }

    #[test]
    fn what_is_no_place_has_none() {
        for text in ["", "0", "0|1|", "recent", "20240102T030405Z", "[1|1|:1|9|]", "1|", "x"] {
            assert_eq!(place(text), None, "{text}");
        }
        let all = |text: &str| {
            let bookmark = Bookmark::parse(text).unwrap();
            Place::all_in(&bookmark).map(|place| (place.publisher, place.sequence)).collect::<Vec<_>>()
        };
        assert_eq!(all("1|5|,0,2|7|,20240102T030405Z"), [(1, 5), (2, 7)]);
        assert_eq!(all("[1|1|:1|9|]"), []);
        assert_eq!(all("3|4|"), [(3, 4)]);
    }

    #[test]
    fn a_reader_reads_what_the_plain_one_reads() {
        let texts = [
            "7094790850998930143|1795337071422000001|",
            "7094790850998930143|1795337071422000002|",
            "7094790850998930143|1795337071499999999|",
            "7094790850998930143|1795337071500000000|",
            "7094790850998930144|1795337071500000000|",
            "7094790850998930144|1795337071500000000",
            "7094790850998930144|179533707150000000|",
            "7094790850998930144|17953370715000x000|",
            "7094790850998930144|1795337071500000000|",
            "18446744073709551615|18446744073709551615|",
            "18446744073709551615|18446744073799999999|",
            "1234567890123456|12345678|",
            "1234567890123456|12345679|",
            "12345678901234567|1234567|",
            "12345678901234567|1234568|",
            "17|100000000000000000|",
            "17|100000000000000001|",
            "17|100000000|",
            "17|100000001|",
            "17|1|",
            "0|1|",
            "",
        ];
        let mut reader = PlaceReader::default();
        for text in texts.iter().chain(texts.iter().rev()).flat_map(|text| [text, text]) {
            assert_eq!(reader.read(text.as_bytes()), place(text), "{text}");
        }
        let mut random = crate::random::Random::new(0x5EED_0010);
        for _ in 0..50_000 {
            let text = format!("{}|{}|", random.below(3), 99_999_990 + random.below(20));
            assert_eq!(reader.read(text.as_bytes()), place(&text), "{text}");
            let text =
                format!("70947908509989301{}|1795337071{}|", random.below(3), random.text("0129|", 11));
            assert_eq!(reader.read(text.as_bytes()), place(&text), "{text}");
        }
    }

    #[test]
    fn a_spot_takes_over_another_place() {
        let mut spot = Spot::of(place("1|2|abc").unwrap());
        spot.set(place("3|4|").unwrap());
        assert_eq!(spot, Spot { publisher: 3, sequence: 4, tail: Vec::new() });
        spot.set(place("3|5|de").unwrap());
        assert_eq!(spot.bookmark().as_str(), "3|5|de");
    }
}
