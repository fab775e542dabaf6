//! The records of a store file.
//!
//! ```text
//!  0       4       8       12      16              24                 24 + length   a multiple of 16
//!  ┌───────┬───────┬───────┬───────┬───────────────┬──────────────────┬─────────────┐
//!  │ sum   │ check │length │ epoch │ sequence      │ content          │ zeros       │
//!  └───────┴───────┴───────┴───────┴───────────────┴──────────────────┴─────────────┘
//!  └ commit word ──┘
//! ```
//!
//! `sum` is the [checksum](super::sum) of the content. `check` proves the whole header by itself, the sum included, so that a
//! record is recognised, and its length believed, before its content is looked at; it depends on a number that only this
//! file knows, so that no payload can look like a record. A record counts from the moment its commit word is written,
//! which is last, and never 0: there is nothing where the word is 0.
//!
//! The segments of the file take turns. Each turn has a higher epoch, so what is left of a turn before is told apart.
//! A message that is too large for a segment is cut into parts, each a record that fills a segment of its own.
//!
//! All numbers are little endian.

use std::ops::Range;

use super::sum;

/// Bytes of a record before its content.
pub(crate) const RECORD_HEADER: usize = 24;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: usize = 16;

const LENGTH_BITS: u32 = 28;
/// The largest segment, whose records have lengths of [`LENGTH_BITS`].
pub(crate) const MAX_SEGMENT: usize = 1 << LENGTH_BITS;
const PART_SHIFT: u32 = 30;
/// The numbers below this one, down to that of the record before, were never used.
const JUMP: u32 = 1 << 29;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sequence: u64,
    /// Bytes of the content, or of the part of it, in this record.
    pub(crate) length: usize,
    pub(crate) part: Part,
    /// The number does not follow on that of the record before.
    pub(crate) jump: bool,
    pub(crate) epoch: u32,
}

/// Which part of a content a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    First,
    Middle,
    Last,
}

impl Header {
    /// Bytes that the record takes in all.
    pub(crate) fn size(&self) -> usize {
        record_size(self.length)
    }

    /// The header behind the commit word: length, part and epoch, and the sequence.
    #[inline]
    fn words(&self) -> [u64; 2] {
        let part = match self.part {
            Part::Whole => 0,
            Part::First => 1,
            Part::Middle => 2,
            Part::Last => 3,
        };
        let length = self.length as u32 | part << PART_SHIFT | if self.jump { JUMP } else { 0 };
        [u64::from(length) | u64::from(self.epoch) << 32, self.sequence]
    }
}

/// Bytes that a record with a content, or part of one, of this length takes.
#[inline]
pub(crate) fn record_size(length: usize) -> usize {
    (RECORD_HEADER + length).next_multiple_of(ALIGNMENT)
}

/// Prepares the place of a record, whose content comes next: what is behind that is zero.
#[inline]
pub(crate) fn begin(record: &mut [u8]) {
    if let Some(end) = record.last_chunk_mut() {
        *end = [0; ALIGNMENT];
    }
}

/// Completes a record whose content has this sum, and returns its commit word, which is yet to be written.
#[inline]
pub(crate) fn seal(record: &mut [u8], header: &Header, sum: u32, salt: u64) -> u64 {
    let words = header.words();
    for (place, word) in record.chunks_exact_mut(8).skip(1).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    u64::from(check(words, sum, salt)) << 32 | u64::from(sum)
}

/// Reads the header of a record at the start of these bytes: `None` if there is none. Returns its sum too.
pub(crate) fn read(bytes: &[u8], salt: u64) -> Option<(Header, u32)> {
    let (commit, rest) = bytes.split_first_chunk()?;
    let commit = u64::from_le_bytes(*commit);
    if commit == 0 {
        return None;
    }
    let (first, rest) = rest.split_first_chunk()?;
    let (first, sequence) = (u64::from_le_bytes(*first), u64::from_le_bytes(*rest.first_chunk()?));
    let sum = commit as u32;
    if (commit >> 32) as u32 != check([first, sequence], sum, salt) {
        return None;
    }
    let length = first as u32;
    let part = match length >> PART_SHIFT {
        0 => Part::Whole,
        1 => Part::First,
        2 => Part::Middle,
        _ => Part::Last,
    };
    let header = Header {
        sequence,
        length: (length & (MAX_SEGMENT as u32 - 1)) as usize,
        part,
        jump: length & JUMP != 0,
        epoch: (first >> 32) as u32,
    };
    (header.size() <= bytes.len() && header.sequence < u64::MAX).then_some((header, sum))
}

/// Whether the bytes of a record, whose header was read with this sum, are those it was written with.
pub(crate) fn is_intact(record: &[u8], header: &Header, sum: u32) -> bool {
    let content = content_in(header);
    let zeros = record.get(content.end..header.size());
    zeros.is_some_and(|zeros| zeros.iter().all(|byte| *byte == 0))
        && record.get(content).is_some_and(|content| sum::of_bytes(content) == sum)
}

/// The content, or part of one, in a record.
pub(crate) fn content_in(header: &Header) -> Range<usize> {
    RECORD_HEADER..RECORD_HEADER + header.length
}

/// The proof of a header; never 0.
#[inline]
fn check([first, sequence]: [u64; 2], sum: u32, salt: u64) -> u32 {
    let hash = [first, sequence, u64::from(sum)].into_iter().fold(salt, sum::mixed);
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const SALT: u64 = 0x1234_5678_9ABC_DEF0;

    fn record(content: &[u8], header: Header) -> Vec<u8> {
        let mut record = vec![0xEE; header.size()];
        begin(&mut record);
        record[content_in(&header)].copy_from_slice(content);
        let word = seal(&mut record, &header, sum::of_bytes(content), SALT);
        record[..8].copy_from_slice(&word.to_le_bytes());
        record
    }

    fn header(length: usize) -> Header {
        Header { sequence: 1_795_337_071_422_000_001, length, part: Part::Whole, jump: false, epoch: 7 }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for part in [Part::Whole, Part::First, Part::Middle, Part::Last] {
            for (length, jump) in [(0, false), (1, true), (8, false), (9, true), (1000, false)] {
                let header = Header { part, jump, ..header(length) };
                let mut bytes = record(&vec![b'x'; length], header);
                let size = bytes.len();
                assert!(size.is_multiple_of(ALIGNMENT) && size == header.size());
                bytes.extend_from_slice(&[1; 50]);
                let (read, sum) = read(&bytes, SALT).unwrap();
                assert_eq!(read, header);
                assert!(is_intact(&bytes[..size], &read, sum));
                assert!(bytes[content_in(&read)].iter().all(|byte| *byte == b'x'));
            }
        }
    }

    /// The layout is a promise to files that exist.
    #[test]
    fn the_bytes_of_a_record_are_these() {
        let bytes = record(b"{}x", Header { sequence: 0x0102, jump: true, ..header(3) });
        assert_eq!(bytes[8..], *b"\x03\0\0\x20\x07\0\0\0\x02\x01\0\0\0\0\0\0{}x\0\0\0\0\0");
        assert_eq!(bytes[..8], [22, 160, 170, 99, 33, 163, 92, 109]);
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let mut bytes = record(&[b'x'; 110], header(110));
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some((read, sum)) = read(&bytes, SALT) {
                assert!(bit / 8 >= RECORD_HEADER, "bit {bit}: {read:?}");
                assert!(!is_intact(&bytes, &read, sum), "bit {bit}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_of_another_file_or_a_cut_one_is_none() {
        let bytes = record(b"bytes", header(5));
        assert!(read(&bytes, SALT ^ 1).is_none());
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end], SALT).is_none(), "{end}");
        }
        assert!(read(&[0; 64], SALT).is_none());
    }

    #[test]
    fn hardly_any_bytes_look_like_a_record() {
        let mut random = Random::new(0x5EED_0001);
        let found = (0..200_000).filter(|_| {
            let mut bytes = [0; 64];
            bytes.chunks_mut(8).for_each(|word| word.copy_from_slice(&random.next().to_le_bytes()));
            read(&bytes, SALT).is_some()
        });
        assert_eq!(found.count(), 0);
    }
}
