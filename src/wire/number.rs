//! A number that mostly counts on, and its decimal digits.

/// A number of which the upper digits are kept, because counting on mostly changes the lower eight only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Number {
    value: u64,
    /// The digits above the lower eight, at the start.
    upper: [u8; 12],
    upper_length: usize,
    lower: u32,
}

/// One more than eight digits can say.
const LOWER: u64 = 100_000_000;

impl Number {
    pub(crate) fn new(value: u64) -> Number {
        let mut number = Number { value, lower: (value % LOWER) as u32, ..Number::default() };
        if value >= LOWER {
            let mut upper = value / LOWER;
            number.upper_length = upper.ilog10() as usize + 1;
            for digit in number.upper.iter_mut().take(number.upper_length).rev() {
                *digit = b'0' + (upper % 10) as u8;
                upper /= 10;
            }
        }
        number
    }

    /// Makes it this number, if that is the same or higher and changes none of the upper digits.
    #[inline]
    pub(crate) fn count_to(&mut self, value: u64) -> bool {
        let distance = value.wrapping_sub(self.value);
        let lower = u64::from(self.lower).saturating_add(distance);
        if lower >= LOWER {
            return false;
        }
        self.value = value;
        self.lower = lower as u32;
        true
    }

    /// The digits above the lower eight.
    #[inline]
    pub(crate) fn upper_digits(&self) -> &[u8] {
        self.upper.get(..self.upper_length).unwrap_or_default()
    }

    /// The lower eight digits, and how many of them are zeros in front of the number.
    #[inline]
    pub(crate) fn lower_digits(&self) -> ([u8; 8], usize) {
        let zeros = match self.upper_length {
            0 => 7 - self.lower.checked_ilog10().unwrap_or(0) as usize,
            _ => 0,
        };
        (eight_digits(self.lower), zeros)
    }
}

/// The digits of a number below 100,000,000, with zeros in front: pairs of numbers are halved side by side.
#[inline]
fn eight_digits(number: u32) -> [u8; 8] {
    const FOURS: u64 = 0x7F_0000_007F;
    const TWOS: u64 = 0x000F_000F_000F_000F;
    const ZEROS: u64 = u64::from_le_bytes([b'0'; 8]);
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let upper = ((fours * 10_486) >> 20) & FOURS;
    let twos = upper | (fours - upper * 100) << 16;
    let upper = ((twos * 103) >> 10) & TWOS;
    let ones = upper | (twos - upper * 10) << 8;
    (ones | ZEROS).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: &Number) -> String {
        let (lower, zeros) = number.lower_digits();
        String::from_utf8([number.upper_digits(), &lower[zeros..]].concat()).unwrap()
    }

    #[test]
    fn the_digits_are_those_of_the_value() {
        let far = [9_999_999, 99_999_999, LOWER, 1_795_337_071_422_000_001, u64::MAX - 1, u64::MAX];
        for value in (0..1200).chain(far) {
            assert_eq!(text(&Number::new(value)), value.to_string());
        }
    }

    #[test]
    fn counting_on_goes_as_far_as_the_lower_digits() {
        let start = 1_795_337_071_499_999_990;
        let mut number = Number::new(start);
        for value in start..start + 10 {
            assert!(number.count_to(value) && number.count_to(value));
            assert_eq!(text(&number), value.to_string());
        }
        for value in [start + 10, start, start + 8, u64::MAX, 0] {
            assert!(!number.count_to(value), "{value}");
            assert_eq!(text(&number), (start + 9).to_string());
        }
    }

    #[test]
    fn every_group_of_digits_comes_out_right() {
        for number in (0..10_000).chain((0..10_000).map(|upper| upper * 10_000 + 9_999 - upper)) {
            assert_eq!(eight_digits(number), format!("{number:08}").as_bytes(), "{number}");
        }
    }
}
