//! A sequence number and its decimal digits.

/// A sequence number with its digits, of which counting on mostly changes the last one only.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Number {
    value: u64,
    digits: [u8; 20],
    start: usize,
}

impl Number {
    pub(crate) fn new(value: u64) -> Number {
        let mut number = Number { value, digits: [b'0'; 20], start: 0 };
        let mut rest = value;
        let mut length = 0;
        for digit in number.digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            length += 1;
            if rest == 0 {
                break;
            }
        }
        number.start = number.digits.len() - length;
        number
    }

    #[inline]
    pub(crate) fn value(&self) -> u64 {
        self.value
    }

    #[inline]
    pub(crate) fn digits(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }

    /// Makes it this number; cheap if that is the same or the next.
    #[inline]
    pub(crate) fn turn_to(&mut self, value: u64) {
        if value == self.value {
            return;
        }
        if self.value.checked_add(1) == Some(value) && self.count_on() {
            self.value = value;
        } else {
            *self = Number::new(value);
        }
    }

    /// Adds one to the digits. False if there is one digit too few.
    #[inline]
    fn count_on(&mut self) -> bool {
        for digit in self.digits.get_mut(self.start..).unwrap_or_default().iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return true;
            }
            *digit = b'0';
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_those_of_the_value_however_it_came_about() {
        let mut number = Number::new(0);
        let far = [9_999_999, 1_795_337_071_422_000_001, u64::MAX - 1, u64::MAX, 0];
        for value in (0..1200).chain(far).chain(99_990..100_010) {
            number.turn_to(value);
            assert_eq!(number.value(), value);
            assert_eq!(std::str::from_utf8(number.digits()).unwrap(), value.to_string());
            number.turn_to(value);
            assert_eq!(number.digits(), Number::new(value).digits());
        }
    }
}
