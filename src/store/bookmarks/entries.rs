//! The messages that came and are not let go yet, in the order they came in.
//!
//! ```text
//!  first                                        first + queue.len()
//!    │ 7    8    9    10   11                     ▼ next number
//!    ├────┬────┬────┬────┬────┤
//!    │ ○  │ ●  │ ○  │ ●  │ ●  │      ○ outstanding   ● discarded
//!    └────┴────┴────┴────┴────┘
//!      ▲ the front is always outstanding: when it is discarded, it goes, and the discarded ones behind it too
//! ```

use std::collections::VecDeque;

/// Messages by number.
#[derive(Debug)]
pub(super) struct Entries {
    queue: VecDeque<Entry>,
    /// The number of the front.
    first: u64,
    outstanding: usize,
    /// The tails of all entries, one behind the other; mostly nothing.
    tails: VecDeque<u8>,
}

/// One message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    /// Where its publisher is kept.
    pub(super) publisher: u32,
    tail: u8,
    pub(super) is_discarded: bool,
}

/// What a message takes here and in the list of its publisher.
const ENTRY_SIZE: usize = size_of::<Entry>() + size_of::<u64>();
/// The first room that is made.
const FIRST_ROOM: usize = 256;

impl Entries {
    /// No entries; the first will have this number.
    pub(super) fn starting_at(first: u64) -> Entries {
        Entries { queue: VecDeque::new(), first, outstanding: 0, tails: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// The number of the oldest; `None` if there is none.
    pub(super) fn oldest(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.first)
    }

    /// The number of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    #[inline]
    pub(super) fn get(&self, number: u64) -> Option<&Entry> {
        let index = number.checked_sub(self.first)?;
        self.queue.get(usize::try_from(index).ok()?)
    }

    /// Adds an outstanding entry and returns its number.
    #[inline]
    pub(super) fn push(&mut self, publisher: u32, sequence: u64, tail: &[u8]) -> u64 {
        if self.queue.capacity() == 0 {
            self.queue.reserve(FIRST_ROOM);
        }
        let number = self.next();
        // A place is read with a tail of at most 255 bytes.
        let length = tail.len() as u8;
        self.queue.push_back(Entry { sequence, publisher, tail: length, is_discarded: false });
        self.outstanding += 1;
        if length > 0 {
            self.tails.extend(tail);
        }
        number
    }

    /// Marks an outstanding entry as discarded. False if it is none.
    #[inline]
    pub(super) fn mark(&mut self, number: u64) -> bool {
        let Some(index) = number.checked_sub(self.first) else { return false };
        let entry = usize::try_from(index).ok().and_then(|index| self.queue.get_mut(index));
        let Some(entry) = entry.filter(|entry| !entry.is_discarded) else { return false };
        entry.is_discarded = true;
        self.outstanding -= 1;
        true
    }

    /// Lets the front go if it is discarded. Its tail goes to `tail`.
    #[inline]
    pub(super) fn pop_discarded(&mut self, tail: &mut Vec<u8>) -> Option<Entry> {
        let entry = *self.queue.front().filter(|entry| entry.is_discarded)?;
        self.queue.pop_front();
        self.first += 1;
        tail.clear();
        if entry.tail > 0 {
            tail.extend(self.tails.drain(..usize::from(entry.tail)));
        }
        Some(entry)
    }

    /// Every entry with its tail, oldest first.
    #[cfg(feature = "file-store")]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Entry, Vec<u8>)> {
        let mut at = 0;
        self.queue.iter().map(move |entry| {
            let from = at;
            at += usize::from(entry.tail);
            (entry, self.tails.range(from..at).copied().collect())
        })
    }

    /// How many bytes the entries will take when the next one needs more room than they have; `None` while there is room.
    #[inline]
    pub(super) fn growth(&self) -> Option<u64> {
        let capacity = self.queue.capacity();
        (self.queue.len() == capacity && capacity > 0).then(|| self.next_room() as u64 * ENTRY_SIZE as u64)
    }

    fn next_room(&self) -> usize {
        self.queue.capacity().saturating_mul(2)
    }

    /// Makes the room that [`growth`](Entries::growth) speaks of, if any. False if there is no memory for it.
    pub(super) fn grow(&mut self) -> bool {
        self.growth().is_none() || self.queue.try_reserve_exact(self.next_room() - self.queue.len()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_goes_when_it_is_discarded_and_takes_the_discarded_behind_it_along() {
        let mut entries = Entries::starting_at(7);
        assert_eq!((entries.oldest(), entries.next()), (None, 7));
        for (sequence, tail) in [(1, ""), (2, "ab"), (3, "c"), (4, "")] {
            entries.push(0, sequence, tail.as_bytes());
        }
        let mut tail = b"old".to_vec();
        assert!(entries.mark(8) && entries.mark(9) && !entries.mark(9));
        assert!(!entries.mark(6) && !entries.mark(11) && !entries.mark(u64::MAX));
        assert!(entries.pop_discarded(&mut tail).is_none());
        assert_eq!((entries.oldest(), entries.outstanding()), (Some(7), 2));

        assert!(entries.mark(7));
        let mut gone = Vec::new();
        while let Some(entry) = entries.pop_discarded(&mut tail) {
            gone.push((entry.sequence, String::from_utf8(tail.clone()).unwrap()));
        }
        assert_eq!(gone, [(1, String::new()), (2, "ab".to_owned()), (3, "c".to_owned())]);
        assert_eq!((entries.oldest(), entries.next(), entries.outstanding()), (Some(10), 11, 1));
        assert!(entries.get(9).is_none() && !entries.get(10).unwrap().is_discarded);
    }

    #[cfg(feature = "file-store")]
    #[test]
    fn every_entry_is_shown_with_its_tail() {
        let mut entries = Entries::starting_at(1);
        for (sequence, tail) in [(1, "a"), (2, ""), (3, "bcd")] {
            entries.push(0, sequence, tail.as_bytes());
        }
        let shown: Vec<_> = entries.iter().map(|(entry, tail)| (entry.sequence, tail)).collect();
        assert_eq!(shown, [(1, b"a".to_vec()), (2, Vec::new()), (3, b"bcd".to_vec())]);
    }

    #[test]
    fn room_is_made_when_it_is_used_up() {
        let mut entries = Entries::starting_at(1);
        while entries.growth().is_none() {
            entries.push(0, 1, b"");
        }
        let room = entries.next() - 1;
        assert!(room >= 256);
        assert_eq!(entries.growth(), Some(2 * room * 24));
        assert!(entries.grow() && entries.growth().is_none());
    }
}
