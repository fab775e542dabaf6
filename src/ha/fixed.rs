//! The same delay before every attempt.
//!
//! Pure: the time comes from a function.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use super::clock;
use super::delay::{ReconnectDelayStrategy, RetryLimit};
use crate::error::Result;

/// Waits the same time before every attempt but the first.
///
/// The first attempt at each connection string since the last [`reset`](ReconnectDelayStrategy::reset) waits for nothing,
/// each further one for the delay.
///
/// ```
/// use std::time::Duration;
/// use amps_client::{FixedDelayStrategy, ReconnectDelayStrategy};
///
/// let mut strategy = FixedDelayStrategy::new(Duration::from_millis(200));
/// let mut delays = Vec::new();
/// for uri in ["tcp://a:9007/amps/json", "tcp://a:9007/amps/json", "tcp://b:9007/amps/json"] {
///     delays.push(strategy.connect_wait_duration(uri)?.as_millis());
/// }
/// assert_eq!(delays, [0, 200, 0]);
/// # Ok::<(), amps_client::Error>(())
/// ```
pub struct FixedDelayStrategy {
    delay: Duration,
    limit: RetryLimit,
    tried: HashSet<String>,
}

impl FixedDelayStrategy {
    /// Waits this long, and never gives up. A delay of zero makes the client try again without any pause.
    pub fn new(delay: Duration) -> FixedDelayStrategy {
        let limit = RetryLimit::new(Duration::ZERO, clock::machine());
        FixedDelayStrategy { delay, limit, tried: HashSet::new() }
    }

    /// For how long to go on, counted from the first attempt after a [`reset`](ReconnectDelayStrategy::reset), at whichever
    /// server. Once that time has passed, and already when the next delay would go beyond it, the strategy gives up with
    /// [`ReconnectMaximumExceeded`](crate::ErrorKind::ReconnectMaximumExceeded). Default: zero, which is without limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use amps_client::FixedDelayStrategy;
    ///
    /// let strategy = FixedDelayStrategy::new(Duration::from_secs(1)).max_retry_time(Duration::from_secs(60));
    /// assert_eq!(format!("{strategy:?}"), "FixedDelayStrategy { delay: 1s, max_retry_time: 60s, .. }");
    /// ```
    #[must_use]
    pub fn max_retry_time(mut self, limit: Duration) -> FixedDelayStrategy {
        self.limit.most = limit;
        self
    }

    /// Where the time comes from, for tests: a function that tells how long it is since some fixed moment. Default: the
    /// clock of the machine.
    ///
    /// ```
    /// use std::time::Duration;
    /// use amps_client::{FixedDelayStrategy, ReconnectDelayStrategy};
    ///
    /// let mut seconds = 0;
    /// let clock = move || {
    ///     seconds += 1; // a second passes between any two attempts
    ///     Duration::from_secs(seconds)
    /// };
    /// let minute = Duration::from_secs(60);
    /// let mut strategy = FixedDelayStrategy::default().max_retry_time(minute).clock(clock);
    /// let attempts = std::iter::from_fn(|| strategy.connect_wait_duration("tcp://a:9007/amps/json").ok());
    /// assert_eq!(attempts.count(), 60);
    /// ```
    #[must_use]
    pub fn clock(mut self, clock: impl FnMut() -> Duration + Send + 'static) -> FixedDelayStrategy {
        self.limit.clock = Box::new(clock);
        self
    }
}

impl ReconnectDelayStrategy for FixedDelayStrategy {
    fn connect_wait_duration(&mut self, uri: &str) -> Result<Duration> {
        let remaining = self.limit.remaining(uri)?;
        let delay = if self.tried.contains(uri) { self.delay } else { Duration::ZERO };
        if remaining.is_some_and(|remaining| delay > remaining) {
            return Err(self.limit.exceeded(uri));
        }
        self.tried.insert(uri.to_owned());
        Ok(delay)
    }

    fn reset(&mut self) {
        self.tried.clear();
        self.limit.stop();
    }
}

impl Default for FixedDelayStrategy {
    /// Waits 200 ms, and never gives up.
    fn default() -> FixedDelayStrategy {
        FixedDelayStrategy::new(Duration::from_millis(200))
    }
}

impl fmt::Debug for FixedDelayStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedDelayStrategy")
            .field("delay", &self.delay)
            .field("max_retry_time", &self.limit.most)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn delays(strategy: &mut FixedDelayStrategy, uris: &str) -> Vec<u128> {
        let ask = |uri: &str| strategy.connect_wait_duration(uri).unwrap().as_millis();
        uris.split(' ').map(ask).collect()
    }

    /// 79, HA-34, HA-36.
    #[test]
    fn only_the_first_attempt_at_a_server_waits_for_nothing() {
        let mut strategy = FixedDelayStrategy::default();
        assert_eq!(delays(&mut strategy, "a a b b a"), [0, 200, 0, 200, 200]);
        strategy.reset();
        assert_eq!(delays(&mut strategy, "b a a"), [0, 0, 200]);
    }

    /// HA-34: each row is the time of an attempt, its server, and the delay; `None` gives up.
    #[test]
    fn a_delay_that_would_pass_the_limit_gives_up() {
        let table: &[&[(u64, &str, Option<u64>)]] = &[
            &[(9_000, "a", Some(0)), (9_200, "a", Some(200)), (9_500, "a", Some(200)), (9_501, "a", None)],
            &[(0, "a", Some(0)), (600, "a", None), (600, "b", Some(0)), (600, "b", None)],
            &[(0, "a", Some(0)), (700, "b", Some(0)), (701, "c", None)],
            &[(50, "a", Some(0)), (750, "b", Some(0)), (751, "a", None), (752, "c", None)],
        ];
        for attempts in table {
            let mut times = attempts.iter().map(|(at, ..)| Duration::from_millis(*at));
            let mut strategy = FixedDelayStrategy::new(Duration::from_millis(200))
                .max_retry_time(Duration::from_millis(700))
                .clock(move || times.next().unwrap());
            for (at, uri, expected) in *attempts {
                let delay = strategy.connect_wait_duration(uri);
                let kind = delay.as_ref().map_err(|error| error.kind());
                let expected = expected.map(Duration::from_millis);
                assert_eq!(
                    kind.copied(),
                    expected.ok_or(ErrorKind::ReconnectMaximumExceeded),
                    "{uri} at {at}"
                );
            }
        }
    }

    /// HA-36.
    #[test]
    fn a_reset_makes_the_whole_time_available_again() {
        let mut times = [0, 800, 10_000, 10_100].map(Duration::from_millis).into_iter();
        let mut strategy = FixedDelayStrategy::default()
            .max_retry_time(Duration::from_millis(700))
            .clock(move || times.next().unwrap());
        strategy.connect_wait_duration("a").unwrap();
        strategy.connect_wait_duration("a").unwrap_err();
        strategy.reset();
        assert_eq!(delays(&mut strategy, "a a"), [0, 200]);
    }

    #[test]
    fn debug_shows_the_settings_and_no_address() {
        let mut strategy = FixedDelayStrategy::default();
        strategy.connect_wait_duration("tcp://desk:s3cret@a:1/amps").unwrap();
        assert_eq!(format!("{strategy:?}"), "FixedDelayStrategy { delay: 200ms, max_retry_time: 0ns, .. }");
    }
}
