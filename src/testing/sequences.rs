//! The numbers that publishers give their messages, and those the server gives to messages without (4.4).

use std::collections::HashMap;

/// The highest sequence number of each publisher.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// By client name.
    accepted: HashMap<String, u64>,
    /// What the server gave out itself, by client name and instance.
    given: HashMap<(String, usize), u64>,
}

impl Sequences {
    /// The highest number accepted from a client; 0 if there is none.
    pub(crate) fn highest(&self, client_name: &str) -> u64 {
        self.accepted.get(client_name).copied().unwrap_or(0)
    }

    /// True if the client has published this number, or passed it over (K-9). A client without a name cannot be told
    /// from others without one.
    pub(crate) fn is_duplicate(&self, client_name: &str, sequence: u64) -> bool {
        !client_name.is_empty() && sequence <= self.highest(client_name)
    }

    /// Takes note of an accepted message; gaps are no matter (K-10).
    pub(crate) fn raise(&mut self, client_name: &str, sequence: u64) {
        if !client_name.is_empty() {
            let highest = self.accepted.entry(client_name.to_owned()).or_default();
            *highest = sequence.max(*highest);
        }
    }

    /// Forgets a client; the highest number accepted from it, if there was any.
    pub(crate) fn forget(&mut self, client_name: &str) -> Option<u64> {
        self.accepted.remove(client_name)
    }

    /// A number for a message that has none: the publisher and the sequence (K-10).
    pub(crate) fn give(&mut self, client_name: &str, instance: usize) -> (u64, u64) {
        let last = self.given.entry((client_name.to_owned(), instance)).or_default();
        *last += 1;
        (publisher_number(&format!("{client_name}@instance-{}", instance + 1)), *last)
    }
}

/// The number of a publisher in its bookmarks: from the name alone, equal everywhere, never 0 or 1 (L-2).
pub(crate) fn publisher_number(client_name: &str) -> u64 {
    // FNV-1a, 64 bits.
    let hash = client_name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    hash.max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// L-2.
    #[test]
    fn the_publisher_number_depends_on_the_name_alone_and_is_never_special() {
        assert_eq!(publisher_number("golden"), publisher_number("golden"));
        assert_ne!(publisher_number("a"), publisher_number("b"));
        assert!((0..1000).all(|n| publisher_number(&n.to_string()) > 1));
    }

    /// K-8, K-9, K-10.
    #[test]
    fn what_is_not_above_the_highest_number_of_its_client_is_a_duplicate() {
        let mut sequences = Sequences::default();
        assert!(sequences.is_duplicate("a", 0) && !sequences.is_duplicate("a", 1));
        sequences.raise("a", 5);
        assert!([1, 4, 5].iter().all(|s| sequences.is_duplicate("a", *s)));
        assert!(!sequences.is_duplicate("a", 6) && !sequences.is_duplicate("b", 1));
        sequences.raise("a", u64::MAX);
        assert_eq!((sequences.highest("a"), sequences.highest("b")), (u64::MAX, 0));
        assert_eq!(sequences.forget("a"), Some(u64::MAX));
        assert!(!sequences.is_duplicate("a", 1));
        sequences.raise("", 7);
        assert!(!sequences.is_duplicate("", 7));
    }

    /// K-10.
    #[test]
    fn messages_without_a_number_get_one_under_another_publisher() {
        let mut sequences = Sequences::default();
        let (publisher, first) = sequences.give("a", 0);
        assert_eq!((sequences.give("a", 0), first), ((publisher, 2), 1));
        assert_ne!(publisher, publisher_number("a"));
        assert_ne!(sequences.give("a", 1).0, publisher);
        assert_eq!(sequences.highest("a"), 0);
    }
}
