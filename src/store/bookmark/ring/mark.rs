//! The marks of a ring file: which of its texts count.
//!
//! ```text
//!  entry, 1024 bytes:  │ subscription id, 244 │ position 0, 260 │ position 1, 260 │ position 2, 260 │
//!  marks, 32 bytes:    │ id │ position 0 │ position 1 │ position 2 │
//!
//!  a mark:  0         9        12                 32              64
//!           │ length  │ (zero) │ generation       │ checksum      │
//! ```
//!
//! A text is written first and its mark, which is one word, then. So a text with a mark that fits is whole. The three
//! positions of an entry take turns, and of those that fit the one with the highest generation counts: while one is being
//! written the one before is still there. An entry whose id has no mark is free.

/// Bytes of an entry.
pub(super) const ENTRY: usize = 1024;
/// Bytes of the marks of an entry.
pub(super) const MARKS: usize = 32;
/// The longest subscription id.
pub(super) const MAX_ID: usize = 244;
/// The longest text of a recovery point.
pub(super) const MAX_POINT: usize = 260;
/// How many recovery points an entry has room for.
pub(super) const POSITIONS: usize = 3;

const GENERATION_BITS: u32 = 20;

/// A mark that fits its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) length: usize,
    /// Counts up, and begins again after the highest.
    pub(super) generation: u32,
}

/// What a mark proves: a text of this entry of this file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) salt: u64,
    pub(super) entry: usize,
    /// The mark of the id; 0 for that mark itself.
    pub(super) id: u64,
}

impl Mark {
    /// The word for a text, which is at most 260 bytes long; never 0.
    pub(super) fn of(text: &[u8], generation: u32, owner: Owner) -> u64 {
        let low = text.len() as u64 | u64::from(generation) << 12;
        low | u64::from(sum(text, low, owner)) << 32
    }

    /// Reads a word; `None` if it does not fit. `room` is where the text begins.
    pub(super) fn read(word: u64, room: &[u8], owner: Owner) -> Option<Mark> {
        let low = word & u64::from(u32::MAX);
        let mark = Mark { length: (low & 0xFFF) as usize, generation: (low >> 12) as u32 };
        let text = room.get(..mark.length)?;
        (word >> 32 == u64::from(sum(text, low, owner))).then_some(mark)
    }

    /// The generation after this one.
    pub(super) fn next_generation(self) -> u32 {
        (self.generation + 1) % (1 << GENERATION_BITS)
    }

    /// Whether this is later than the other; they are at most two generations apart.
    pub(super) fn is_later_than(self, other: Mark) -> bool {
        let ahead = self.generation.wrapping_sub(other.generation) % (1 << GENERATION_BITS);
        (1..1 << (GENERATION_BITS - 1)).contains(&ahead)
    }
}

fn sum(text: &[u8], low: u64, owner: Owner) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for word in [owner.salt, owner.entry as u64, owner.id, low] {
        hasher.update(&word.to_le_bytes());
    }
    hasher.update(text);
    // Never 0, so that no mark is.
    hasher.finalize() | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { salt: 77, entry: 3, id: 9 };

    #[test]
    fn a_mark_fits_its_own_text_only() {
        let word = Mark::of(b"1|2|", 5, OWNER);
        let room = |text: &[u8]| [text, &[b'x'; MAX_POINT]].concat();
        assert_eq!(Mark::read(word, &room(b"1|2|"), OWNER), Some(Mark { length: 4, generation: 5 }));
        assert_eq!(Mark::read(word, &room(b"1|3|"), OWNER), None);
        assert_eq!(Mark::read(word, b"1|2", OWNER), None, "no room for it");
        for other in [Owner { salt: 78, ..OWNER }, Owner { entry: 4, ..OWNER }, Owner { id: 8, ..OWNER }] {
            assert_eq!(Mark::read(word, &room(b"1|2|"), other), None);
        }
        for bit in 0..64 {
            assert_eq!(Mark::read(word ^ 1 << bit, &room(b"1|2|"), OWNER), None, "bit {bit}");
        }
        assert_eq!(Mark::read(0, &[0; MAX_POINT], OWNER), None);
    }

    #[test]
    fn generations_begin_again_after_the_highest() {
        let mark = |generation| Mark { length: 0, generation };
        let last = mark((1 << GENERATION_BITS) - 1);
        assert_eq!(last.next_generation(), 0);
        assert!(mark(0).is_later_than(last) && mark(1).is_later_than(last) && !last.is_later_than(mark(0)));
        assert!(mark(8).is_later_than(mark(7)) && !mark(7).is_later_than(mark(7)));
    }
}
