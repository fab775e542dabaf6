//! Random texts for tests: the same ones for the same seed.

/// Texts of up to sixteen of these words, with and without blanks between them.
pub(crate) fn texts<'w>(seed: u64, words: &'w [&'w str]) -> impl Iterator<Item = String> + 'w {
    println!("seed {seed}");
    let mut random = Random(seed);
    std::iter::repeat_with(move || {
        let blank = if random.below(4) == 0 { " " } else { "" };
        let length = 1 + random.below(16);
        (0..length).map(|_| words[random.below(words.len())]).collect::<Vec<_>>().join(blank)
    })
}

/// Texts of up to 64 random bytes, made UTF-8.
pub(crate) fn bytes(seed: u64) -> impl Iterator<Item = String> {
    println!("seed {seed}");
    let mut random = Random(seed);
    std::iter::repeat_with(move || {
        let length = random.below(65);
        let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The xorshift generator; its seed is not 0.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}
