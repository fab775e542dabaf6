//! The checksum of what a store file keeps of a message.
//!
//! For a bare publish it is made from the topic and the payload where they are, not from the copy in the file: a processor
//! takes a while to read back what was written a moment ago in pieces of other sizes.

use std::sync::LazyLock;

use super::content::{Content, bare_parts};
use crate::wire::grammar::short_word;

/// The checksum of a content that is to be written.
#[inline]
pub(crate) fn of(content: &Content<'_>) -> u32 {
    match content {
        Content::Bare(bare) => of_parts(bare.sequence, bare.topic.as_bytes(), bare.payload),
        Content::Framed(frame) => of_bytes(frame),
    }
}

/// The checksum of a content, or of a part of one, that was written: the CRC of its bytes. For a bare publish it is the CRC of
/// the payload, xored with a hash of everything else.
pub(crate) fn of_bytes(bytes: &[u8]) -> u32 {
    match bare_parts(bytes) {
        Some((sequence, topic, payload)) => of_parts(sequence, topic, payload),
        None => crc(bytes),
    }
}

#[inline]
fn of_parts(sequence: u64, topic: &[u8], payload: &[u8]) -> u32 {
    let lengths = (topic.len() as u64) << 32 | payload.len() as u64;
    let mut hash = mixed(mixed(0, sequence), lengths);
    match topic.last_chunk() {
        None => hash = mixed(hash, short_word(topic)),
        // Eight bytes at a time, of which the last may be some of those before.
        Some(last) => {
            let words = topic.as_chunks().0.iter().chain([last]);
            hash = words.fold(hash, |hash, word| mixed(hash, u64::from_le_bytes(*word)));
        }
    }
    (hash >> 32) as u32 ^ crc(payload)
}

fn crc(bytes: &[u8]) -> u32 {
    // Finding out what the processor can do costs as much as the CRC of a small message.
    static FRESH: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);
    let mut hasher = FRESH.clone();
    hasher.update(bytes);
    hasher.finalize()
}

/// A hash that goes on with a word. Both halves of the product count: the upper one spreads high bits, which the lower one
/// leaves where they are, so that changes in two words do not cancel.
#[inline]
pub(crate) fn mixed(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * 0x9E37_79B9_7F4A_7C15;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::content::Bare;

    fn written(content: &Content<'_>) -> Vec<u8> {
        let mut bytes = vec![0xEE; content.size()];
        content.write(&mut bytes);
        bytes
    }

    #[test]
    fn what_was_written_has_the_sum_of_what_was_to_be_written() {
        let long = "long topic ".repeat(20);
        for topic in ["t", "orders", "a topic of more than 16 bytes", &long] {
            for length in [0, 1, 15, 16, 64, 127, 128, 5000] {
                let bare = Bare { sequence: 1_795_337_071_422_000_001, topic, payload: &vec![b'x'; length] };
                let content = Content::Bare(bare);
                assert_eq!(of(&content), of_bytes(&written(&content)), "{topic} {length}");
            }
        }
        for frame in [&b"\0\0\0\x01{"[..], b"", b"\xFF", &[0xFF; 14], &[0x80; 300]] {
            assert_eq!(of(&Content::Framed(frame)), of_bytes(frame), "{frame:?}");
        }
    }

    fn flip(bytes: &mut [u8], bit: usize) {
        bytes[bit / 8] ^= 1 << (bit % 8);
    }

    #[test]
    fn no_two_changed_bits_leave_the_sum_as_it_was() {
        let framed = [0, 0, 0, 20].into_iter().chain(*b"{\"c\":\"p\",\"t\":\"o\"}{}{}").collect::<Vec<_>>();
        let topics =
            ["t", "four", "orders", "8 bytes.", "orders/eu-de", "sixteen bytes it", "quotes/fx/eurusd/xyz"];
        let bare = topics.map(|topic| {
            Content::Bare(Bare { sequence: 1_795_337_071_422_000_001, topic, payload: b"{\"id\":1}" })
        });
        for content in bare.into_iter().chain([Content::Framed(&framed)]) {
            let (mut bytes, sum) = (written(&content), of(&content));
            let bits = 8 * bytes.len();
            for first in 0..bits {
                flip(&mut bytes, first);
                assert_ne!(of_bytes(&bytes), sum, "{content:?}, bit {first}");
                for second in first + 1..bits {
                    flip(&mut bytes, second);
                    assert_ne!(of_bytes(&bytes), sum, "{content:?}, bits {first} and {second}");
                    flip(&mut bytes, second);
                }
                flip(&mut bytes, first);
            }
        }
    }

    /// The sum is a promise to files that exist.
    #[test]
    fn the_sum_of_a_bare_publish_is_this() {
        let bare = Bare { sequence: 7, topic: "orders", payload: b"{\"id\":1}" };
        assert_eq!(of(&Content::Bare(bare)), 99_898_007);
    }
}
