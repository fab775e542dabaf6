//! The time that delay strategies live by.

use std::time::{Duration, Instant};

/// Tells the time that has passed since some fixed moment.
pub(super) type Clock = Box<dyn FnMut() -> Duration + Send>;

/// The clock of the machine, which never goes backwards; it starts at zero.
pub(super) fn machine() -> Clock {
    let start = Instant::now();
    Box::new(move || start.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_the_machine_starts_at_zero_and_goes_forwards() {
        let before = Instant::now();
        let mut clock = machine();
        let first = clock();
        let second = clock();
        assert!(first <= second && second <= before.elapsed(), "{first:?} {second:?}");
    }
}
