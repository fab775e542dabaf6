//! The random part of a delay: clients that lost the same server must not come back in step.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// Gives the next number of a random sequence; every value of a `u64` is equally likely.
pub(super) type Random = Box<dyn FnMut() -> u64 + Send>;

/// A sequence that differs in every client and every process. Good enough to spread delays, and for nothing else.
pub(super) fn unpredictable() -> Random {
    sequence(RandomState::new().hash_one("jitter"))
}

/// The sequence that belongs to a seed (SplitMix64).
pub(super) fn sequence(seed: u64) -> Random {
    let mut state = seed;
    Box::new(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

/// The random number as a part of `whole`: 0 becomes zero, the largest number `whole` itself.
pub(super) fn part_of(whole: Duration, random: u64) -> Duration {
    // Exact up to 584 years; a longer whole only loses what lies beyond.
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let scaled = (u128::from(random) * (u128::from(nanos) + 1)) >> 64;
    Duration::from_nanos(scaled as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers that the published algorithm gives for seed 0.
    #[test]
    fn a_seed_has_one_sequence() {
        let mut numbers = sequence(0);
        let expected = [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F];
        assert_eq!([numbers(), numbers(), numbers()], expected);
    }

    #[test]
    fn two_clients_do_not_share_a_sequence() {
        let (mut one, mut other) = (unpredictable(), unpredictable());
        assert_ne!((one(), one()), (other(), other()));
    }

    #[test]
    fn a_part_lies_between_nothing_and_the_whole() {
        let ms = Duration::from_millis;
        let table = [
            (ms(200), 0, Duration::ZERO),
            (ms(200), u64::MAX, ms(200)),
            (ms(200), 1 << 63, ms(100)),
            (Duration::ZERO, u64::MAX, Duration::ZERO),
            (Duration::from_nanos(1), (1 << 63) - 1, Duration::ZERO),
            (Duration::from_nanos(1), 1 << 63, Duration::from_nanos(1)),
            (Duration::MAX, u64::MAX, Duration::from_nanos(u64::MAX)),
        ];
        for (whole, random, part) in table {
            assert_eq!(part_of(whole, random), part, "{whole:?} {random:#x}");
        }
    }
}
