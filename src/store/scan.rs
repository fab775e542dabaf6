//! Finds the records in a segment of a store file, however damaged it is.

use std::ops::Range;

use super::layout::{self, ALIGNMENT, Header, RECORD_HEADER};

/// What the last turn of a segment has left in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) epoch: u32,
    /// One after the other, with growing numbers.
    pub(crate) items: Vec<Item>,
    /// Where the next record would begin.
    pub(crate) end: usize,
    /// Something is there where the next record would begin, or where the first should.
    pub(crate) damaged_end: bool,
}

/// A stretch of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Record {
        at: usize,
        header: Header,
        /// Its content is what was written.
        intact: bool,
    },
    /// Records were here, but cannot be made out.
    Gap(Range<usize>),
}

impl Chain {
    pub(crate) fn records(&self) -> impl Iterator<Item = (usize, &Header)> {
        self.items.iter().filter_map(|item| match item {
            Item::Record { at, header, .. } => Some((*at, header)),
            Item::Gap(_) => None,
        })
    }
}

/// What is in a segment, at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Glance {
    Nothing,
    /// Records; those with this epoch count.
    Turn(u32),
    Unreadable,
}

/// Looks at the headers of the records only.
pub(crate) fn glance(segment: &[u8], salt: u64) -> Glance {
    match headers(segment, salt).map(|(_, header, _)| header.epoch).max() {
        Some(epoch) => Glance::Turn(epoch),
        None if begins_with_zero(segment) => Glance::Nothing,
        None => Glance::Unreadable,
    }
}

/// Finds the records in a segment. Goes over the bytes twice, and over those of each record once more.
pub(crate) fn scan(segment: &[u8], salt: u64) -> Chain {
    let Glance::Turn(epoch) = glance(segment, salt) else {
        return Chain { damaged_end: !begins_with_zero(segment), ..Chain::default() };
    };
    let mut chain = Chain { epoch, ..Chain::default() };
    let mut previous = None;
    for (at, header, sum) in headers(segment, salt).filter(|(_, header, _)| header.epoch == epoch) {
        if previous.is_some_and(|previous| !follows(previous, chain.end..at, header.sequence)) {
            continue;
        }
        if chain.end < at {
            chain.items.push(Item::Gap(chain.end..at));
        }
        let record = segment.get(at..at + header.size()).unwrap_or_default();
        chain.items.push(Item::Record { at, header, intact: layout::is_intact(record, &header, sum) });
        chain.end = at + header.size();
        previous = Some(header.sequence);
    }
    chain.damaged_end = !begins_with_zero(segment.get(chain.end..).unwrap_or_default());
    chain
}

/// Every record of every epoch: where it is, its header, and its sum.
fn headers(segment: &[u8], salt: u64) -> impl Iterator<Item = (usize, Header, u32)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = segment.get(at..).filter(|rest| rest.len() >= RECORD_HEADER)?;
            let begin = at;
            if let Some((header, sum)) = layout::read(rest, salt) {
                at += header.size();
                return Some((begin, header, sum));
            }
            at += ALIGNMENT;
        }
    })
}

/// Whether no record begins here, and none was ever meant to. Where none can begin, none does.
fn begins_with_zero(bytes: &[u8]) -> bool {
    bytes.len() < RECORD_HEADER || bytes.first_chunk() == Some(&[0; 8])
}

/// Whether this number can come after the other, with so many bytes between their records.
fn follows(previous: u64, between: Range<usize>, sequence: u64) -> bool {
    let room = (between.len() / layout::record_size(0)) as u64;
    sequence.checked_sub(previous).is_some_and(|distance| (1..=1 + room).contains(&distance))
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Part, content_in, seal};
    use super::super::sum;
    use super::*;

    const SALT: u64 = 99;
    const SIZE: usize = 1024;

    /// A segment in which records with these numbers and content lengths were written.
    fn segment(epoch: u32, records: &[(u64, usize)]) -> Vec<u8> {
        let mut bytes = vec![0; SIZE];
        write(&mut bytes, epoch, records);
        bytes
    }

    fn write(bytes: &mut [u8], epoch: u32, records: &[(u64, usize)]) {
        let mut at = 0;
        for (sequence, length) in records {
            let header =
                Header { sequence: *sequence, length: *length, part: Part::Whole, jump: false, epoch };
            let mut record = vec![0; header.size()];
            record[content_in(&header)].fill(b'f');
            let sum = sum::of_bytes(&record[content_in(&header)]);
            let word = seal(&mut record, &header, sum, SALT);
            record[..8].copy_from_slice(&word.to_le_bytes());
            bytes[at..at + record.len()].copy_from_slice(&record);
            at += record.len();
        }
        bytes[at..at + 8].fill(0);
    }

    /// `5` for a record, `5!` for a damaged one, `-` for a gap, `?` for a damaged end.
    fn shape(chain: &Chain) -> String {
        let shape = |item: &Item| match item {
            Item::Record { header, intact, .. } => {
                format!("{}{}", header.sequence, if *intact { "" } else { "!" })
            }
            Item::Gap(_) => "-".to_owned(),
        };
        let mut shapes: Vec<_> = chain.items.iter().map(shape).collect();
        shapes.extend(chain.damaged_end.then(|| "?".to_owned()));
        shapes.join(" ")
    }

    const THREE: [(u64, usize); 3] = [(5, 40), (6, 100), (7, 8)];

    #[test]
    fn the_records_are_found_in_order() {
        let chain = scan(&segment(3, &THREE), SALT);
        assert_eq!((shape(&chain).as_str(), chain.epoch, chain.end), ("5 6 7", 3, 64 + 128 + 32));
        assert_eq!(scan(&[0; SIZE], SALT), Chain::default());
        assert_eq!(glance(&[0; SIZE], SALT), Glance::Nothing);
        assert_eq!(glance(&[1; SIZE], SALT), Glance::Unreadable);
    }

    #[test]
    fn records_behind_damage_are_found_again() {
        let bytes = segment(3, &THREE);
        for (flipped, expected) in [
            (0, "- 6 7"),
            (20, "- 6 7"),
            (30, "5! 6 7"),
            (64, "5 - 7"),
            (64 + 23, "5 - 7"),
            (64 + 24, "5 6! 7"),
            (64 + 127, "5 6! 7"),
            (192 + 9, "5 6 ?"),
            (192 + 24, "5 6 7!"),
            (224, "5 6 7 ?"),
            (232, "5 6 7"),
        ] {
            let mut bytes = bytes.clone();
            bytes[flipped] ^= 0x10;
            assert_eq!(shape(&scan(&bytes, SALT)), expected, "byte {flipped}");
        }
        let mut bytes = bytes;
        bytes[..200].fill(0);
        assert_eq!(shape(&scan(&bytes, SALT)), "");
        bytes[..200].fill(1);
        assert_eq!(shape(&scan(&bytes, SALT)), "?");
    }

    #[test]
    fn what_an_earlier_turn_has_left_does_not_count() {
        let mut bytes = segment(3, &[(1, 100), (2, 100), (3, 100)]);
        write(&mut bytes, 4, &[(9, 8)]);
        let chain = scan(&bytes, SALT);
        assert_eq!((shape(&chain).as_str(), chain.epoch, chain.end), ("9", 4, 32));
    }

    #[test]
    fn a_record_that_fills_the_segment_has_a_clean_end() {
        let chain = scan(&segment(1, &[(5, 900)])[..928], SALT);
        assert_eq!((shape(&chain).as_str(), chain.end), ("5", 928));
    }

    #[test]
    fn numbers_that_cannot_follow_are_no_records_of_the_chain() {
        assert_eq!(shape(&scan(&segment(1, &[(5, 8), (5, 8), (6, 8)]), SALT)), "5 - 6");
        assert_eq!(shape(&scan(&segment(1, &[(5, 8), (700, 8)]), SALT)), "5 ?");
    }
}
