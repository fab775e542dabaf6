//! Delays that grow from attempt to attempt.
//!
//! Pure: the time and the randomness come from functions.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::clock::{self, Clock};
use super::delay::{ReconnectDelayStrategy, RetryLimit};
use super::jitter::{self, Random};
use crate::error::{Error, ErrorKind, Result};

/// Waits longer before each further attempt at the same server, up to a maximum, and never quite as long as other clients
/// do.
///
/// The first attempt at each connection string since the last [`reset`](ReconnectDelayStrategy::reset) waits for nothing.
/// The second waits for `initial`, and each further one `factor` times as long as the one before, at most `maximum`. To each
/// of these a random time of at most `initial × jitter` is added, so that the clients of a server that went away do not all
/// come back at the same moment; the sum stays within `maximum` too, for which the base is lowered to make room, though
/// not below `initial`.
///
/// | Setting | Default |
/// |---|---|
/// | [`initial`](ExponentialDelayBuilder::initial) | 200 ms |
/// | [`maximum`](ExponentialDelayBuilder::maximum) | 20 s |
/// | [`factor`](ExponentialDelayBuilder::factor) | 2.0 |
/// | [`max_retry_time`](ExponentialDelayBuilder::max_retry_time) | zero: without limit |
/// | [`jitter`](ExponentialDelayBuilder::jitter) | 1.0 |
///
/// ```
/// use std::time::Duration;
/// use amps_client::{ExponentialDelayStrategy, ReconnectDelayStrategy};
///
/// let mut strategy =
///     ExponentialDelayStrategy::builder().maximum(Duration::from_secs(2)).jitter(0.0).build()?;
/// let mut delays = Vec::new();
/// for _ in 0..6 {
///     delays.push(strategy.connect_wait_duration("tcp://a:9007/amps/json")?.as_millis());
/// }
/// assert_eq!(delays, [0, 200, 400, 800, 1600, 2000]);
/// assert!(strategy.connect_wait_duration("tcp://b:9007/amps/json")?.is_zero());
/// # Ok::<(), amps_client::Error>(())
/// ```
pub struct ExponentialDelayStrategy {
    initial: Duration,
    maximum: Duration,
    factor: f64,
    /// The longest random addition: `initial × jitter`.
    span: Duration,
    random: Random,
    limit: RetryLimit,
    /// For each connection string tried, the base of its next delay.
    bases: HashMap<String, Duration>,
}

impl ExponentialDelayStrategy {
    /// A strategy with the defaults.
    pub fn new() -> ExponentialDelayStrategy {
        ExponentialDelayBuilder::new().into_strategy()
    }

    /// Starts from the defaults and changes some.
    pub fn builder() -> ExponentialDelayBuilder {
        ExponentialDelayBuilder::new()
    }

    /// The delay without regard to the limit of all retries.
    fn next_delay(&mut self, uri: &str) -> Duration {
        let Some(next) = self.bases.get_mut(uri) else {
            self.bases.insert(uri.to_owned(), self.initial);
            return Duration::ZERO;
        };
        let base = *next;
        *next = times(base, self.factor).unwrap_or(self.maximum).clamp(base, self.maximum);
        let base = base.min(self.maximum.saturating_sub(self.span).max(self.initial));
        let room = self.span.min(self.maximum.saturating_sub(base));
        base + jitter::part_of(room, (self.random)())
    }
}

impl ReconnectDelayStrategy for ExponentialDelayStrategy {
    fn connect_wait_duration(&mut self, uri: &str) -> Result<Duration> {
        let remaining = self.limit.remaining(uri)?;
        let delay = self.next_delay(uri);
        // A delay that leads just beyond the limit allows a last attempt at its end.
        let longest = remaining.map(|remaining| remaining.saturating_add(Duration::from_millis(1)));
        Ok(longest.map_or(delay, |longest| delay.min(longest)))
    }

    fn reset(&mut self) {
        self.bases.clear();
        self.limit.stop();
    }
}

impl Default for ExponentialDelayStrategy {
    fn default() -> ExponentialDelayStrategy {
        ExponentialDelayStrategy::new()
    }
}

impl fmt::Debug for ExponentialDelayStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExponentialDelayStrategy")
            .field("initial", &self.initial)
            .field("maximum", &self.maximum)
            .field("factor", &self.factor)
            .field("max_retry_time", &self.limit.most)
            .field("longest_jitter", &self.span)
            .finish_non_exhaustive()
    }
}

/// Settings of an [`ExponentialDelayStrategy`]; made by [`ExponentialDelayStrategy::builder`].
///
/// ```
/// use std::time::Duration;
/// use amps_client::{ErrorKind, ExponentialDelayStrategy};
///
/// # fn main() -> amps_client::Result<()> {
/// let strategy = ExponentialDelayStrategy::builder()
///     .initial(Duration::from_millis(50))
///     .maximum(Duration::from_secs(5))
///     .max_retry_time(Duration::from_secs(600))
///     .build()?;
///
/// let error = ExponentialDelayStrategy::builder().factor(0.5).build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Usage);
/// # drop(strategy);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `build`"]
pub struct ExponentialDelayBuilder {
    initial: Duration,
    maximum: Duration,
    factor: f64,
    max_retry_time: Duration,
    jitter: f64,
    clock: Clock,
    random: Random,
}

impl ExponentialDelayBuilder {
    fn new() -> ExponentialDelayBuilder {
        ExponentialDelayBuilder {
            initial: Duration::from_millis(200),
            maximum: Duration::from_secs(20),
            factor: 2.0,
            max_retry_time: Duration::ZERO,
            jitter: 1.0,
            clock: clock::machine(),
            random: jitter::unpredictable(),
        }
    }

    /// The base of the second attempt's delay. Zero makes the client try again without any pause. Default: 200 ms.
    pub fn initial(mut self, delay: Duration) -> ExponentialDelayBuilder {
        self.initial = delay;
        self
    }

    /// No delay is longer, its random part included. Default: 20 s.
    pub fn maximum(mut self, delay: Duration) -> ExponentialDelayBuilder {
        self.maximum = delay;
        self
    }

    /// By how much the base of the delay grows with each attempt. Default: 2.0; 1.0 lets it stay the same.
    pub fn factor(mut self, factor: f64) -> ExponentialDelayBuilder {
        self.factor = factor;
        self
    }

    /// For how long to go on, counted from the first attempt after a [`reset`](ReconnectDelayStrategy::reset), at whichever
    /// server. The last delay is shortened to end just after it; the attempt that follows is the last one, and then the
    /// strategy gives up with [`ReconnectMaximumExceeded`](ErrorKind::ReconnectMaximumExceeded). Default: zero, which is without
    /// limit.
    pub fn max_retry_time(mut self, limit: Duration) -> ExponentialDelayBuilder {
        self.max_retry_time = limit;
        self
    }

    /// The longest random addition to a delay, as a multiple of [`initial`](Self::initial). Default: 1.0; 0.0 adds nothing.
    pub fn jitter(mut self, multiple: f64) -> ExponentialDelayBuilder {
        self.jitter = multiple;
        self
    }

    /// Where the time comes from, for tests: a function that tells how long it is since some fixed moment. Default: the
    /// clock of the machine.
    ///
    /// ```
    /// use std::time::Duration;
    /// use amps_client::{ExponentialDelayStrategy, ReconnectDelayStrategy};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let mut times = [0, 650].map(Duration::from_millis).into_iter();
    /// let mut strategy = ExponentialDelayStrategy::builder()
    ///     .max_retry_time(Duration::from_millis(700))
    ///     .clock(move || times.next().unwrap_or(Duration::MAX))
    ///     .build()?;
    /// assert_eq!(strategy.connect_wait_duration("tcp://a:9007/amps/json")?, Duration::ZERO);
    /// assert_eq!(strategy.connect_wait_duration("tcp://a:9007/amps/json")?, Duration::from_millis(51));
    /// assert!(strategy.connect_wait_duration("tcp://a:9007/amps/json").is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn clock(mut self, clock: impl FnMut() -> Duration + Send + 'static) -> ExponentialDelayBuilder {
        self.clock = Box::new(clock);
        self
    }

    /// Where the randomness comes from, for tests: a function whose numbers become the random part of each delay, from
    /// nothing for 0 to all of it for [`u64::MAX`]. Default: a sequence that differs in every client.
    ///
    /// ```
    /// use std::time::Duration;
    /// use amps_client::{ExponentialDelayStrategy, ReconnectDelayStrategy};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let mut strategy = ExponentialDelayStrategy::builder().random(|| u64::MAX).build()?;
    /// assert_eq!(strategy.connect_wait_duration("tcp://a:9007/amps/json")?, Duration::ZERO);
    /// assert_eq!(strategy.connect_wait_duration("tcp://a:9007/amps/json")?, Duration::from_millis(200 + 200));
    /// assert_eq!(strategy.connect_wait_duration("tcp://a:9007/amps/json")?, Duration::from_millis(400 + 200));
    /// # Ok(())
    /// # }
    /// ```
    pub fn random(mut self, numbers: impl FnMut() -> u64 + Send + 'static) -> ExponentialDelayBuilder {
        self.random = Box::new(numbers);
        self
    }

    /// Makes the strategy.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage): the initial delay is above the maximum, the factor is below 1 or not a finite number, or
    /// the jitter is negative or not a finite number. The text names the value.
    pub fn build(self) -> Result<ExponentialDelayStrategy> {
        let (initial, maximum) = (self.initial, self.maximum);
        if initial > maximum {
            return usage(format!("the initial delay {initial:?} is above the maximum {maximum:?}"));
        }
        if !self.factor.is_finite() || self.factor < 1.0 {
            return usage(format!("the factor {} is not a number of at least 1", self.factor));
        }
        if !self.jitter.is_finite() || self.jitter < 0.0 {
            return usage(format!("the jitter {} is not a number of at least 0", self.jitter));
        }
        Ok(self.into_strategy())
    }

    /// The settings are valid.
    fn into_strategy(self) -> ExponentialDelayStrategy {
        ExponentialDelayStrategy {
            initial: self.initial,
            maximum: self.maximum,
            factor: self.factor,
            span: times(self.initial, self.jitter).unwrap_or(self.maximum),
            random: self.random,
            limit: RetryLimit::new(self.max_retry_time, self.clock),
            bases: HashMap::new(),
        }
    }
}

impl fmt::Debug for ExponentialDelayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExponentialDelayBuilder")
            .field("initial", &self.initial)
            .field("maximum", &self.maximum)
            .field("factor", &self.factor)
            .field("max_retry_time", &self.max_retry_time)
            .field("jitter", &self.jitter)
            .finish_non_exhaustive()
    }
}

fn usage<T>(text: String) -> Result<T> {
    Err(Error::new(ErrorKind::Usage, text))
}

/// The product; none if a `Duration` cannot hold it.
fn times(duration: Duration, factor: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::random;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn delays(strategy: &mut ExponentialDelayStrategy, uris: &str) -> Vec<u128> {
        let ask = |uri: &str| strategy.connect_wait_duration(uri).unwrap().as_millis();
        uris.split(' ').map(ask).collect()
    }

    fn two_seconds() -> ExponentialDelayBuilder {
        ExponentialDelayStrategy::builder().maximum(ms(2_000)).jitter(0.0)
    }

    /// 79, HA-35, HA-36.
    #[test]
    fn delays_grow_for_each_server_by_itself_until_a_reset() {
        let mut strategy = two_seconds().build().unwrap();
        assert_eq!(delays(&mut strategy, "a a a a a a a"), [0, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(delays(&mut strategy, "b b a b"), [0, 200, 2000, 400]);
        strategy.reset();
        assert_eq!(delays(&mut strategy, "a a a b"), [0, 200, 400, 0]);
    }

    #[test]
    fn factor_and_initial_delay_are_as_set() {
        let table: &[(f64, u64, [u128; 6])] = &[
            (1.0, 300, [0, 300, 300, 300, 300, 300]),
            (1.5, 400, [0, 400, 600, 900, 1350, 2000]),
            (10.0, 1, [0, 1, 10, 100, 1000, 2000]),
            (f64::MAX, 1, [0, 1, 2000, 2000, 2000, 2000]),
            (2.0, 2000, [0, 2000, 2000, 2000, 2000, 2000]),
            (2.0, 0, [0; 6]),
        ];
        for (factor, initial, expected) in table {
            let mut strategy = two_seconds().factor(*factor).initial(ms(*initial)).build().unwrap();
            assert_eq!(delays(&mut strategy, "a a a a a a"), *expected, "{factor} {initial}");
        }
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let mut strategy = ExponentialDelayStrategy::builder()
            .initial(Duration::MAX)
            .maximum(Duration::MAX)
            .max_retry_time(Duration::MAX)
            .jitter(f64::MAX)
            .random(|| u64::MAX)
            .build()
            .unwrap();
        strategy.connect_wait_duration("a").unwrap();
        let long = Duration::MAX - Duration::from_secs(60);
        assert!((0..3).all(|_| strategy.connect_wait_duration("a").unwrap() > long));
    }

    /// HA-35: the random part at its least and at its most; at the cap the base makes room for it, down to the initial delay.
    #[test]
    fn the_random_part_stays_below_the_maximum() {
        let table: &[(u64, f64, [u128; 6], [u128; 6])] = &[
            (2_000, 1.0, [0, 200, 400, 800, 1600, 1800], [0, 400, 600, 1000, 1800, 2000]),
            (2_000, 0.5, [0, 200, 400, 800, 1600, 1900], [0, 300, 500, 900, 1700, 2000]),
            (2_000, 8.0, [0, 200, 400, 400, 400, 400], [0, 1800, 2000, 2000, 2000, 2000]),
            (2_000, 99.0, [0, 200, 200, 200, 200, 200], [0, 2000, 2000, 2000, 2000, 2000]),
            (300, 1.0, [0, 200, 200, 200, 200, 200], [0, 300, 300, 300, 300, 300]),
            (200, 1.0, [0, 200, 200, 200, 200, 200], [0, 200, 200, 200, 200, 200]),
        ];
        for (maximum, jitter, least, most) in table {
            for (number, expected) in [(0, least), (u64::MAX, most)] {
                let builder = ExponentialDelayStrategy::builder().maximum(ms(*maximum)).jitter(*jitter);
                let mut strategy = builder.random(move || number).build().unwrap();
                assert_eq!(delays(&mut strategy, "a a a a a a"), *expected, "{maximum} {jitter} {number}");
            }
        }
    }

    /// 80.
    #[test]
    fn each_delay_lies_between_its_base_and_the_jitter_and_below_the_maximum() {
        let bases = [0, 200, 400, 800, 1600, 1800, 1800];
        let mut strategy = ExponentialDelayStrategy::builder().maximum(ms(2_000)).build().unwrap();
        for _ in 0..500 {
            strategy.reset();
            for base in bases {
                let delay = strategy.connect_wait_duration("a").unwrap();
                let span = if base == 0 { Duration::ZERO } else { ms(200) };
                assert!(
                    delay >= ms(base) && delay <= ms(base) + span && delay <= ms(2_000),
                    "{base} {delay:?}"
                );
            }
        }
    }

    /// 80, HA-35, for any settings.
    #[test]
    fn any_settings_keep_their_delays_within_their_bounds() {
        let mut random = random::Random::new(0x5EED_00A1);
        for _ in 0..2_000 {
            let (initial, extra) = (random.below(1_000) as u64, random.below(20_000) as u64);
            let maximum = initial + extra;
            let factor = 1.0 + random.below(300) as f64 / 100.0;
            let jitter = random.below(300) as f64 / 100.0;
            let mut strategy = ExponentialDelayStrategy::builder()
                .initial(ms(initial))
                .maximum(ms(maximum))
                .factor(factor)
                .jitter(jitter)
                .random(jitter::sequence(random.next()))
                .build()
                .unwrap();
            let (most, slack) = (maximum as f64, 0.001);
            let span = initial as f64 * jitter;
            assert!(strategy.connect_wait_duration("a").unwrap().is_zero());
            for attempt in 0..12 {
                let delay = strategy.connect_wait_duration("a").unwrap().as_secs_f64() * 1_000.0;
                let grown = (initial as f64 * factor.powi(attempt)).min(most);
                let base = grown.min((most - span).max(initial as f64));
                let told = format!("{strategy:?} attempt {attempt}: {delay}");
                assert!(delay >= base - slack && delay <= base + span + slack, "{told}");
                assert!(delay <= most, "{told}");
            }
        }
    }

    #[test]
    fn two_clients_do_not_come_back_in_step() {
        let (mut one, mut other) = (ExponentialDelayStrategy::new(), ExponentialDelayStrategy::default());
        let mut pairs = (0..20)
            .map(|_| ["a"; 2])
            .map(|[a, b]| (one.connect_wait_duration(a).unwrap(), other.connect_wait_duration(b).unwrap()));
        assert!(pairs.any(|(one, other)| one != other));
    }

    /// 78, HA-35: virtual time passes by the delays alone.
    #[test]
    fn the_last_delay_leads_just_beyond_the_limit_and_then_it_gives_up() {
        let now = Arc::new(AtomicU64::new(77_000));
        let clock = Arc::clone(&now);
        let mut strategy = two_seconds()
            .max_retry_time(ms(700))
            .clock(move || ms(clock.load(Ordering::SeqCst)))
            .build()
            .unwrap();
        for round in 0..2 {
            let start = now.load(Ordering::SeqCst);
            let (mut waited, mut given_up) = (Vec::new(), None);
            while given_up.is_none() && waited.len() < 9 {
                match strategy.connect_wait_duration("tcp://a:9007/amps") {
                    Ok(delay) => {
                        waited.push(delay.as_millis());
                        now.fetch_add(delay.as_millis() as u64, Ordering::SeqCst);
                    }
                    Err(error) => given_up = Some(error),
                }
            }
            let error = given_up.expect("the strategy goes on for ever");
            assert_eq!(waited, [0, 200, 400, 101], "round {round}");
            assert_eq!(now.load(Ordering::SeqCst) - start, 701);
            assert_eq!(error.kind(), ErrorKind::ReconnectMaximumExceeded);
            assert!(error.to_string().contains("700ms") && error.to_string().contains("tcp://a:9007/amps"));
            assert!(
                strategy.connect_wait_duration("tcp://fresh:9007/amps").is_err(),
                "it counts over all servers"
            );
            strategy.reset();
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_and_named() {
        let new = ExponentialDelayStrategy::builder;
        let table = [
            (new().initial(ms(21_000)), "21s"),
            (new().maximum(ms(199)), "199ms"),
            (new().factor(0.99), "0.99"),
            (new().factor(f64::NAN), "NaN"),
            (new().factor(f64::INFINITY), "inf"),
            (new().factor(-2.0), "-2"),
            (new().jitter(-0.1), "-0.1"),
            (new().jitter(f64::NAN), "NaN"),
            (new().jitter(f64::INFINITY), "inf"),
        ];
        for (builder, named) in table {
            let shown = format!("{builder:?}");
            let error = builder.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{shown}");
            assert!(error.to_string().contains(named), "{error} does not name {named}");
        }
    }

    /// `api-surface` section 25.
    #[test]
    fn the_defaults_are_as_documented_and_debug_shows_no_address() {
        let mut strategy = ExponentialDelayStrategy::default();
        strategy.connect_wait_duration("tcp://desk:s3cret@a:1/amps").unwrap();
        let shown = "ExponentialDelayStrategy { initial: 200ms, maximum: 20s, factor: 2.0, max_retry_time: 0ns, \
                     longest_jitter: 200ms, .. }";
        assert_eq!(format!("{strategy:?}"), shown);
    }
}
