//! Repeatable randomness for tests.

/// A small generator; prints its seed, which a failing test then shows.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        println!("random seed {seed:#x}");
        Random(seed | 1)
    }

    /// The next number of the sequence (xorshift64*).
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below the bound, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// A text of fewer than `limit` characters from the alphabet.
    pub(crate) fn text(&mut self, alphabet: &str, limit: usize) -> String {
        let alphabet: Vec<char> = alphabet.chars().collect();
        (0..self.below(limit)).map(|_| *self.pick(&alphabet)).collect()
    }
}
