//! When to send a sign of life, and when the peer counts as gone.
//!
//! Pure: `now` comes in, decisions go out.

use std::time::{Duration, Instant};

/// What the user set: interval zero is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HeartbeatSetting {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

impl HeartbeatSetting {
    pub(crate) fn is_on(&self) -> bool {
        !self.interval.is_zero()
    }
}

/// Answers to a server's heartbeats within one interval, so that two peers that answer each other do not storm (H-3).
const MOST_ANSWERS: u32 = 10;

/// The timers of one connection.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    setting: HeartbeatSetting,
    last_beat: Instant,
    last_received: Instant,
    answers: u32,
    answers_since: Instant,
}

impl Heartbeat {
    pub(crate) fn new(setting: HeartbeatSetting, now: Instant) -> Heartbeat {
        Heartbeat { setting, last_beat: now, last_received: now, answers: 0, answers_since: now }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.setting.is_on()
    }

    /// Changes the setting; both timers start anew.
    pub(crate) fn set(&mut self, setting: HeartbeatSetting, now: Instant) {
        *self = Heartbeat::new(setting, now);
    }

    /// Some bytes came: any count as life (H-5).
    pub(crate) fn received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// True if a beat is due because an interval has passed since the last one. It counts as sent.
    pub(crate) fn beat_is_due(&mut self, now: Instant) -> bool {
        let due = self.is_on() && now.saturating_duration_since(self.last_beat) >= self.setting.interval;
        if due {
            self.last_beat = now;
        }
        due
    }

    /// The server beat. True if it is to be answered at once; that counts as a beat sent.
    pub(crate) fn answer(&mut self, now: Instant) -> bool {
        if !self.is_on() {
            return false;
        }
        if now.saturating_duration_since(self.answers_since) >= self.setting.interval {
            self.answers = 0;
            self.answers_since = now;
        }
        self.answers += 1;
        let allowed = self.answers <= MOST_ANSWERS;
        if allowed {
            self.last_beat = now;
        }
        allowed
    }

    /// True if nothing came for longer than the timeout.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.is_on() && now.saturating_duration_since(self.last_received) > self.setting.timeout
    }

    /// True if something held the receive thread for longer than half the interval (H-8).
    pub(crate) fn is_slow(&self, held: Duration) -> bool {
        self.is_on() && held > self.setting.interval / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn started() -> (Heartbeat, Instant) {
        let now = Instant::now();
        (Heartbeat::new(HeartbeatSetting { interval: SECOND, timeout: 2 * SECOND }, now), now)
    }

    /// H-3.
    #[test]
    fn a_beat_is_due_once_an_interval_and_any_beat_restarts_it() {
        let (mut heartbeat, start) = started();
        assert!(!heartbeat.beat_is_due(start + SECOND / 2));
        assert!(heartbeat.beat_is_due(start + SECOND));
        assert!(!heartbeat.beat_is_due(start + SECOND));
        assert!(heartbeat.answer(start + SECOND * 3 / 2));
        assert!(!heartbeat.beat_is_due(start + 2 * SECOND));
        assert!(heartbeat.beat_is_due(start + SECOND * 5 / 2));
    }

    /// H-3 with decision 23.
    #[test]
    fn answers_are_limited_to_ten_an_interval() {
        let (mut heartbeat, start) = started();
        let answered = (0..100).filter(|_| heartbeat.answer(start)).count();
        assert_eq!(answered, 10);
        assert!(heartbeat.answer(start + SECOND));
    }

    /// H-5.
    #[test]
    fn silence_longer_than_the_timeout_is_the_end() {
        let (mut heartbeat, start) = started();
        assert!(!heartbeat.is_silent(start + 2 * SECOND));
        assert!(heartbeat.is_silent(start + 2 * SECOND + Duration::from_millis(1)));
        heartbeat.received(start + SECOND);
        assert!(!heartbeat.is_silent(start + 3 * SECOND));
    }

    #[test]
    fn nothing_is_due_while_it_is_off() {
        let now = Instant::now();
        let mut off = Heartbeat::new(HeartbeatSetting::default(), now);
        let later = now + 100 * SECOND;
        assert!(
            !off.beat_is_due(later)
                && !off.answer(later)
                && !off.is_silent(later)
                && !off.is_slow(100 * SECOND)
        );
        off.set(HeartbeatSetting { interval: SECOND, timeout: SECOND }, later);
        assert!(off.is_on() && !off.is_silent(later) && off.is_slow(SECOND));
    }
}
