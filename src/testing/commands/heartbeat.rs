//! `heartbeat`, and the beats in both directions (section 12).

use std::time::Duration;

use super::Command;
use crate::testing::LOG;
use crate::testing::frames::heartbeat as heartbeat_frame;
use crate::testing::refusal::Refusal;
use crate::testing::session::{Heartbeat, SessionId};
use crate::testing::timers::{Event, TimerId};
use crate::testing::world::World;
use crate::wire::Field;

/// A client's `start,N` or `beat`; needs no logon (H-4).
pub(super) fn heartbeat(command: &Command<'_>) -> Result<(), Refusal> {
    let option = Asked::parse(command.text(Field::Options)).ok_or(Refusal::InvalidOptions)?;
    let mut turn = command.hub.lock();
    match option {
        Asked::Start(interval) => turn.start_heartbeat(command.session(), interval),
        Asked::Beat => turn.refresh_heartbeat(command.session()),
    }
    command.processed(turn.now);
    Ok(())
}

/// What the option string of a heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Start(Duration),
    Beat,
}

impl Asked {
    fn parse(text: &str) -> Option<Asked> {
        match text.trim_end_matches(',').split_once(',') {
            None if text.trim_end_matches(',') == "beat" => Some(Asked::Beat),
            Some(("start", seconds)) => {
                seconds.trim().parse().ok().map(|n: u32| Asked::Start(Duration::from_secs(n.into())))
            }
            _ => None,
        }
    }
}

impl World {
    /// Starts or restarts the timers of a connection; an interval of zero stops them (H-1).
    fn start_heartbeat(&mut self, id: SessionId, interval: Duration) {
        self.stop_heartbeat(id);
        if !interval.is_zero() {
            let next = self.timers.schedule(self.now.plus(interval), Event::Heartbeat(id));
            let limit = self.schedule_beat_limit(id, interval);
            if let Some(session) = self.session_mut(id) {
                session.heartbeat = Some(Heartbeat { interval, next, limit });
            }
        }
    }

    pub(crate) fn stop_heartbeat(&mut self, id: SessionId) {
        if let Some(old) = self.session_mut(id).and_then(|session| session.heartbeat.take()) {
            self.timers.cancel(old.next);
            self.timers.cancel(old.limit);
        }
    }

    /// A beat only moves the time at which its absence would be noticed; it is never answered (H-2).
    fn refresh_heartbeat(&mut self, id: SessionId) {
        let Some(interval) =
            self.session(id).and_then(|session| session.heartbeat.as_ref()).map(|h| h.interval)
        else {
            return;
        };
        let limit = self.schedule_beat_limit(id, interval);
        let heartbeat = self.session_mut(id).and_then(|session| session.heartbeat.as_mut());
        if let Some(old) = heartbeat.map(|heartbeat| std::mem::replace(&mut heartbeat.limit, limit)) {
            self.timers.cancel(old);
        }
    }

    fn schedule_beat_limit(&mut self, id: SessionId, interval: Duration) -> TimerId {
        let factor = self.instance(id).map_or(2, |instance| instance.settings.heartbeat_factor);
        self.timers.schedule(self.now.plus(interval.saturating_mul(factor)), Event::BeatMissing(id))
    }

    /// The server's own beat, whatever else is being sent (H-1).
    pub(crate) fn send_heartbeat(&mut self, id: SessionId) {
        let Some(session) = self.session(id) else { return };
        let Some(interval) = session.heartbeat.as_ref().map(|heartbeat| heartbeat.interval) else { return };
        session.connection.send(heartbeat_frame(), self.now);
        let next = self.timers.schedule(self.now.plus(interval), Event::Heartbeat(id));
        if let Some(heartbeat) = self.session_mut(id).and_then(|session| session.heartbeat.as_mut()) {
            heartbeat.next = next;
        }
    }

    /// H-3.
    pub(crate) fn close_silent(&mut self, id: SessionId) {
        if let Some(session) = self.session(id) {
            log::warn!(target: LOG, "{id}: no heartbeat, the connection is closed");
            session.connection.close();
        }
        self.remove_session(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_a_start_with_whole_seconds_or_a_beat() {
        let seconds = |n| Some(Asked::Start(Duration::from_secs(n)));
        let table = [
            ("start,5", seconds(5)),
            ("start,0", seconds(0)),
            ("start,5,", seconds(5)),
            ("beat", Some(Asked::Beat)),
            ("beat,", Some(Asked::Beat)),
            ("", None),
            ("start", None),
            ("start,", None),
            ("start,1.5", None),
            ("start,-1", None),
            ("stop", None),
        ];
        for (text, asked) in table {
            assert_eq!(Asked::parse(text), asked, "{text}");
        }
    }
}
