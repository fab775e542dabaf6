//! The records of a bookmark log.
//!
//! ```text
//!  0       4         7    8       12      16                16 + length      a multiple of 8
//!  ┌───────┬─────────┬────┬───────┬───────┬─────────────────┬───────────┐
//!  │ sum   │ length  │kind│ check │number │ content         │ zeros     │
//!  └───────┴─────────┴────┴───────┴───────┴─────────────────┴───────────┘
//!  └──── commit word ─────┘
//! ```
//!
//! `sum` is the CRC of the content and the zeros. `check` proves the header by itself, so that the length is believed before
//! the content is looked at. It depends on the place of the record and on a number that only this file knows, so that
//! nothing that was copied or moved looks like a record. A record counts from the moment its commit word is written, which
//! is last, and never 0: the log ends where the word is 0.
//!
//! `number` is that of the subscription, which a record of its own has given to its id. All numbers are little endian.

use super::super::super::bookmarks::{Change, Place};
use crate::bookmark::Bookmark;

/// Bytes of a record before its content.
pub(super) const HEADER: usize = 16;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The longest content.
pub(super) const MAX_CONTENT: usize = (1 << 24) - 1;

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The number belongs to this id from here on.
    Name,
    /// The subscription is forgotten, and its number with it.
    Forgotten,
    /// Everything is forgotten.
    Purged,
    Received,
    Discarded,
    Persisted,
    Placed,
    Recovered,
    Passed,
    Known,
    Listed,
    Recent,
    Range,
    Time,
}

impl Kind {
    const ALL: [Kind; 14] = [
        Kind::Name,
        Kind::Forgotten,
        Kind::Purged,
        Kind::Received,
        Kind::Discarded,
        Kind::Persisted,
        Kind::Placed,
        Kind::Recovered,
        Kind::Passed,
        Kind::Known,
        Kind::Listed,
        Kind::Recent,
        Kind::Range,
        Kind::Time,
    ];

    /// From 1 upward, so that no commit word is 0.
    fn code(self) -> u8 {
        self as u8 + 1
    }
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// `None` for one that this library does not know.
    pub(super) kind: Option<Kind>,
    pub(super) number: u32,
    pub(super) content: &'a [u8],
    /// Bytes of the whole record.
    pub(super) size: usize,
}

/// What the proofs of a file depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Salt(pub(super) u64);

/// Begins a record: room for the header.
#[inline]
pub(super) fn begin(record: &mut Vec<u8>) {
    record.clear();
    record.resize(HEADER, 0);
}

/// Adds the content for a change, and tells the kind.
#[inline]
pub(super) fn write_change(record: &mut Vec<u8>, change: Change<'_>) -> Kind {
    match change {
        Change::Received(place) => write_place(record, place, Kind::Received),
        Change::Discarded(place) => write_place(record, place, Kind::Discarded),
        Change::Passed(place) => write_place(record, place, Kind::Passed),
        Change::Known(place) => write_place(record, place, Kind::Known),
        Change::Listed(place) => write_place(record, place, Kind::Listed),
        Change::Recent(place) => write_place(record, place, Kind::Recent),
        Change::Persisted(places) => {
            for place in places {
                // A place is read with a tail of at most 255 bytes.
                record.push(place.tail.len() as u8);
                write_place(record, *place, Kind::Persisted);
            }
            Kind::Persisted
        }
        Change::Placed(bookmark) => write_text(record, bookmark, Kind::Placed),
        Change::Recovered(bookmark) => write_text(record, bookmark, Kind::Recovered),
        Change::Range(bookmark) => write_text(record, bookmark, Kind::Range),
        Change::Time(bookmark) => write_text(record, bookmark, Kind::Time),
    }
}

#[inline]
fn write_place(record: &mut Vec<u8>, place: Place<'_>, kind: Kind) -> Kind {
    record.extend_from_slice(&place.publisher.to_le_bytes());
    record.extend_from_slice(&place.sequence.to_le_bytes());
    record.extend_from_slice(place.tail);
    kind
}

fn write_text(record: &mut Vec<u8>, bookmark: &Bookmark, kind: Kind) -> Kind {
    record.extend_from_slice(bookmark.as_str().as_bytes());
    kind
}

/// Completes a record that will be at this position of the file. Returns its commit word, which is yet to be written. The
/// content is at most [`MAX_CONTENT`] long.
#[inline]
pub(super) fn seal(record: &mut Vec<u8>, kind: Kind, number: u32, salt: Salt, position: u64) -> u64 {
    let length = (record.len() - HEADER) as u32;
    record.resize(record.len().next_multiple_of(ALIGNMENT), 0);
    let (_, content) = record.split_at_mut(HEADER);
    let commit = u64::from(crc32fast::hash(content)) | u64::from(length | u32::from(kind.code()) << 24) << 32;
    let second = u64::from(check(commit, number, salt, position)) | u64::from(number) << 32;
    if let Some(place) = record.first_chunk_mut::<HEADER>() {
        let (commit, rest) = place.split_at_mut(8);
        commit.fill(0);
        rest.copy_from_slice(&second.to_le_bytes());
    }
    commit
}

/// Reads the record at the start of these bytes, which are at this position of the file; `None` if there is none.
pub(super) fn read(bytes: &[u8], salt: Salt, position: u64) -> Option<Record<'_>> {
    let (commit, rest) = bytes.split_first_chunk()?;
    let commit = u64::from_le_bytes(*commit);
    let second = u64::from_le_bytes(*rest.first_chunk()?);
    let number = (second >> 32) as u32;
    if commit == 0 || second as u32 != check(commit, number, salt, position) {
        return None;
    }
    let length = (commit >> 32) as usize & MAX_CONTENT;
    let size = (HEADER + length).next_multiple_of(ALIGNMENT);
    let padded = bytes.get(HEADER..size)?;
    let code = (commit >> 56) as u8;
    let kind = Kind::ALL.into_iter().find(|kind| kind.code() == code);
    let intact = crc32fast::hash(padded) == commit as u32;
    intact.then_some(Record { kind, number, content: padded.get(..length)?, size })
}

/// Reads one place, which is all of the content.
pub(super) fn read_place(content: &[u8]) -> Option<Place<'_>> {
    let (publisher, rest) = content.split_first_chunk()?;
    let (sequence, tail) = rest.split_first_chunk()?;
    let (publisher, sequence) = (u64::from_le_bytes(*publisher), u64::from_le_bytes(*sequence));
    (tail.len() <= usize::from(u8::MAX)).then_some(Place { publisher, sequence, tail })
}

/// Reads several places, each behind the length of its tail.
pub(super) fn read_places(mut content: &[u8]) -> Option<Vec<Place<'_>>> {
    let mut places = Vec::new();
    while let [tail, rest @ ..] = content {
        let (place, rest) = rest.split_at_checked(16 + usize::from(*tail))?;
        places.push(read_place(place)?);
        content = rest;
    }
    Some(places)
}

/// Reads a bookmark, which is all of the content.
pub(super) fn read_bookmark(content: &[u8]) -> Option<Bookmark> {
    Bookmark::parse(std::str::from_utf8(content).ok()?).ok()
}

/// The proof of a header.
#[inline]
fn check(commit: u64, number: u32, salt: Salt, position: u64) -> u32 {
    const FACTORS: [u64; 3] = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93, 0xFF51_AFD7_ED55_8CCD];
    let mut hash = salt.0;
    for (word, factor) in [commit, position, u64::from(number)].into_iter().zip(FACTORS) {
        hash = (hash ^ hash >> 32 ^ word).wrapping_mul(factor);
    }
    (hash >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const SALT: Salt = Salt(0x1234_5678_9ABC_DEF0);

    fn place(sequence: u64, tail: &str) -> Place<'_> {
        Place { publisher: u64::MAX - 1, sequence, tail: tail.as_bytes() }
    }

    fn record(change: Change<'_>, position: u64) -> Vec<u8> {
        let mut record = Vec::new();
        begin(&mut record);
        let kind = write_change(&mut record, change);
        let commit = seal(&mut record, kind, 7, SALT, position);
        record[..8].copy_from_slice(&commit.to_le_bytes());
        record
    }

    #[test]
    fn a_message_takes_32_bytes_and_is_read_as_it_was_written() {
        let mut bytes = record(Change::Received(place(42, "")), 64);
        assert_eq!(bytes.len(), 32);
        bytes.extend_from_slice(&[1; 9]);
        let read = read(&bytes, SALT, 64).unwrap();
        assert_eq!((read.kind, read.number, read.size), (Some(Kind::Received), 7, 32));
        assert_eq!(read_place(read.content), Some(place(42, "")));
    }

    #[test]
    fn places_and_bookmarks_are_read_as_they_were_written() {
        let places = [place(1, ""), place(2, "20240102T030405Z|"), place(3, "x")];
        let bytes = record(Change::Persisted(&places), 8);
        let found = read(&bytes, SALT, 8).unwrap();
        assert_eq!(read_places(found.content).unwrap(), places);
        assert_eq!(read_places(&found.content[..found.content.len() - 1]), None);
        let bookmark: Bookmark = "(1|5|,2|7|:1|9|]".parse().unwrap();
        let bytes = record(Change::Placed(&bookmark), 8);
        assert_eq!(read_bookmark(read(&bytes, SALT, 8).unwrap().content), Some(bookmark));
        assert_eq!(read_bookmark(b"[\xFF"), None);
    }

    #[test]
    fn every_change_has_a_kind_of_its_own() {
        let (place, time) = (place(1, ""), Bookmark::EPOCH);
        let changes = [
            Change::Received(place),
            Change::Discarded(place),
            Change::Persisted(&[]),
            Change::Placed(&time),
            Change::Recovered(&time),
            Change::Passed(place),
            Change::Known(place),
            Change::Listed(place),
            Change::Recent(place),
            Change::Range(&time),
            Change::Time(&time),
        ];
        let kinds = changes.map(|change| read(&record(change, 0), SALT, 0).unwrap().kind.unwrap());
        assert_eq!(kinds, Kind::ALL[3..]);
    }

    /// The layout is a promise to files that exist.
    #[test]
    fn the_bytes_of_a_record_are_these() {
        let bytes = record(Change::Discarded(Place { publisher: 0x0102, sequence: 3, tail: b"x" }), 64);
        assert_eq!(bytes[16..], *b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0x\0\0\0\0\0\0\0");
        assert_eq!(bytes[..8], [44, 210, 244, 183, 17, 0, 0, 5]);
        assert_eq!(bytes[8..16], [203, 216, 12, 139, 7, 0, 0, 0]);
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let mut bytes = record(Change::Received(place(42, "tail")), 640);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes, SALT, 640), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(read(&bytes, SALT, 640).is_some());
        assert_eq!(read(&bytes, SALT, 648), None, "moved");
        assert_eq!(read(&bytes, Salt(1), 640), None, "from another file");
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end], SALT, 640), None, "cut at {end}");
        }
    }

    #[test]
    fn hardly_any_bytes_look_like_a_record() {
        let mut random = Random::new(0x5EED_0011);
        let mut bytes = [0; 64];
        for position in 0..200_000 {
            bytes.chunks_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_le_bytes()));
            assert_eq!(read(&bytes, SALT, position), None);
        }
        assert_eq!(read(&[0; 64], Salt(0), 0), None);
    }
}
