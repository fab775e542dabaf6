//! How long to wait before an attempt to connect, and when to stop trying.
//!
//! Pure: the time comes from a function that the strategy is given.

use std::time::Duration;

use super::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::without_password;

/// Says how long an `HAClient` waits before each attempt to connect.
///
/// # Threads
///
/// Both methods are called by the thread that connects and by nobody else meanwhile: the caller of `connect_and_logon`, the
/// receive thread of a lost connection, or a caller whose command revives a client that had given up. No lock of the client
/// is held. A strategy must not call the client and must not sleep itself: the client sleeps, and closing it ends that at
/// once.
///
/// # Errors and panics
///
/// An error from [`connect_wait_duration`](Self::connect_wait_duration) ends the loop and is what the client gives up with;
/// a panic does so as [`HandlerPanicked`](ErrorKind::HandlerPanicked). A panic in [`reset`](Self::reset) is reported to the
/// exception listener, and the loop goes on.
///
/// # Examples
///
/// A strategy that gives up after so many attempts, at whichever server:
///
/// ```
/// use std::time::Duration;
/// use amps_client::{Error, ErrorKind, ReconnectDelayStrategy, Result};
///
/// struct Attempts {
///     left: u32,
/// }
///
/// impl ReconnectDelayStrategy for Attempts {
///     fn connect_wait_duration(&mut self, _uri: &str) -> Result<Duration> {
///         match self.left.checked_sub(1) {
///             Some(left) => self.left = left,
///             None => return Err(Error::new(ErrorKind::ReconnectMaximumExceeded, "three attempts have failed")),
///         }
///         Ok(Duration::from_millis(500))
///     }
///
///     fn reset(&mut self) {
///         self.left = 3;
///     }
/// }
///
/// let mut strategy = Attempts { left: 3 };
/// for _ in 0..3 {
///     assert_eq!(strategy.connect_wait_duration("tcp://a:9007/amps/json")?, Duration::from_millis(500));
/// }
/// let error = strategy.connect_wait_duration("tcp://a:9007/amps/json").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::ReconnectMaximumExceeded);
/// strategy.reset();
/// assert!(strategy.connect_wait_duration("tcp://a:9007/amps/json").is_ok());
/// # Ok::<(), amps_client::Error>(())
/// ```
pub trait ReconnectDelayStrategy: Send {
    /// How long to wait before the next attempt, which goes to this connection string.
    ///
    /// # Errors
    ///
    /// Any error means to give up; usually [`ReconnectMaximumExceeded`](ErrorKind::ReconnectMaximumExceeded).
    fn connect_wait_duration(&mut self, uri: &str) -> Result<Duration>;

    /// Forgets earlier attempts: `connect_and_logon` was called, or an attempt has succeeded in everything, the subscriptions
    /// included.
    fn reset(&mut self);
}

/// The time that all attempts since the last reset may take together (HA-36).
pub(super) struct RetryLimit {
    /// Zero is without limit.
    pub(super) most: Duration,
    pub(super) clock: Clock,
    /// What the clock showed at the first attempt.
    started: Option<Duration>,
    /// How long it has been since then.
    elapsed: Duration,
}

impl RetryLimit {
    pub(super) fn new(most: Duration, clock: Clock) -> RetryLimit {
        RetryLimit { most, clock, started: None, elapsed: Duration::ZERO }
    }

    /// What is left of the time at this attempt; `None` without a limit. An error if it has passed.
    pub(super) fn remaining(&mut self, uri: &str) -> Result<Option<Duration>> {
        if self.most.is_zero() {
            return Ok(None);
        }
        let now = (self.clock)();
        self.elapsed = now.saturating_sub(*self.started.get_or_insert(now));
        match self.most.checked_sub(self.elapsed) {
            Some(remaining) => Ok(Some(remaining)),
            None => Err(self.exceeded(uri)),
        }
    }

    pub(super) fn exceeded(&self, uri: &str) -> Error {
        let (most, elapsed, uri) = (self.most, self.elapsed, without_password(uri));
        let text = format!(
            "gave up on `{uri}` after {elapsed:?}: the maximum retry time of {most:?} leaves no room for an attempt"
        );
        Error::new(ErrorKind::ReconnectMaximumExceeded, text).with_uri(&uri)
    }

    pub(super) fn stop(&mut self) {
        self.started = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "tcp://desk:s3cret@a:9007/amps/json";

    fn limit(ms: u64, times: &'static [u64]) -> RetryLimit {
        let mut times = times.iter().copied().map(Duration::from_millis);
        RetryLimit::new(Duration::from_millis(ms), Box::new(move || times.next().expect("asked too often")))
    }

    /// HA-36: the first attempt starts the clock, and a reset stops it.
    #[test]
    fn the_time_counts_from_the_first_attempt_after_a_reset() {
        let mut limit = limit(700, &[5_000, 5_300, 5_700, 9_000, 9_100]);
        let mut remaining = || limit.remaining(URI).unwrap().unwrap().as_millis();
        assert_eq!([remaining(), remaining(), remaining()], [700, 400, 0]);
        limit.stop();
        let mut remaining = || limit.remaining(URI).unwrap().unwrap().as_millis();
        assert_eq!([remaining(), remaining()], [700, 600]);
    }

    #[test]
    fn giving_up_names_the_times_and_the_address_but_no_password() {
        let mut limit = limit(700, &[1_000, 1_701]);
        limit.remaining(URI).unwrap();
        let error = limit.remaining(URI).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReconnectMaximumExceeded);
        assert_eq!(error.uri(), Some("tcp://desk:***@a:9007/amps/json"));
        let shown = format!("{error} {error:?}");
        for part in ["700ms", "701ms", "tcp://desk:***@a:9007/amps/json"] {
            assert!(shown.contains(part), "{shown}");
        }
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn without_a_limit_the_clock_is_never_asked() {
        assert_eq!(limit(0, &[]).remaining(URI).unwrap(), None);
    }

    #[test]
    fn a_clock_that_goes_backwards_only_gives_more_time() {
        let mut limit = limit(700, &[1_000, 400]);
        limit.remaining(URI).unwrap();
        assert_eq!(limit.remaining(URI).unwrap(), Some(Duration::from_millis(700)));
    }
}
