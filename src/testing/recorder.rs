//! The record of frames in and out, and what was counted on the way.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use super::clock::Time;
use super::frame::Frame;
use crate::callbacks::Direction;
use crate::wire::grammar::pairs::pairs;
use crate::wire::{AckType, Field};

/// One frame that a [`Server`](super::Server) received or sent.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{Client, Direction};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder().start()?;
/// let client = Client::builder("desk").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// let commands: Vec<_> = server.frames().iter().map(|s| (s.direction, s.frame.command().to_owned())).collect();
/// assert_eq!(commands, [(Direction::Incoming, "logon".to_owned()), (Direction::Outgoing, "ack".to_owned())]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SeenFrame {
    /// The connection: the first that was accepted is 1.
    pub connection: u64,
    /// Incoming from a client, or outgoing to one.
    pub direction: Direction,
    /// The place of this frame among all frames of the server, from 1.
    pub number: u64,
    /// The time on the server's clock.
    pub time: SystemTime,
    /// The frame, a password in its header replaced by `***`.
    pub frame: Frame,
}

/// How much went over the connections of a [`Server`](super::Server) since it was first started.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{AckType, Client};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("desk").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// let counters = server.counters();
/// assert_eq!((counters.connections, counters.frames_in), (1, 1));
/// assert_eq!(counters.acks(AckType::PROCESSED), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted.
    pub connections: u64,
    /// Frames received.
    pub frames_in: u64,
    /// Bytes of the frames received, length prefixes included.
    pub bytes_in: u64,
    /// Frames sent.
    pub frames_out: u64,
    /// Bytes of the frames sent, length prefixes included.
    pub bytes_out: u64,
    /// Connections closed because they did not read fast enough.
    pub slow_clients: u64,
    acks: [u64; 6],
}

const ACKS: [AckType; 6] = [
    AckType::RECEIVED,
    AckType::PARSED,
    AckType::PROCESSED,
    AckType::PERSISTED,
    AckType::COMPLETED,
    AckType::STATS,
];

impl Counters {
    /// Acknowledgements sent of the given types.
    pub fn acks(&self, of: AckType) -> u64 {
        let counted = ACKS.iter().zip(self.acks);
        counted.filter(|(kind, _)| of.contains(**kind)).map(|(_, count)| count).sum()
    }
}

/// Keeps the last frames, counts all of them, and wakes whoever waits for a change.
#[derive(Debug)]
pub(crate) struct Recorder {
    limit: usize,
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    received: VecDeque<SeenFrame>,
    sent: VecDeque<SeenFrame>,
    last_number: u64,
    counters: Counters,
    /// Counts everything that a waiting test may want to look at.
    version: u64,
}

impl Recorder {
    /// Keeps at most `limit` frames per direction.
    pub(crate) fn new(limit: usize) -> Recorder {
        Recorder { limit, seen: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn keeps_frames(&self) -> bool {
        self.limit > 0
    }

    /// Takes down a frame without its length prefix; `raw` is empty if none are kept.
    pub(crate) fn received(&self, connection: u64, now: Time, size: usize, raw: &[u8]) {
        let frame = self.frame(raw);
        let mut seen = self.seen.lock();
        seen.counters.frames_in += 1;
        seen.counters.bytes_in += size as u64;
        seen.keep(Direction::Incoming, connection, now, frame, self.limit);
        drop(seen);
        self.changed.notify_all();
    }

    /// Takes down a frame without its length prefix, and which acknowledgement it is, if any.
    pub(crate) fn sent(&self, connection: u64, now: Time, raw: &[u8], ack: AckType) {
        let frame = self.frame(raw);
        let mut seen = self.seen.lock();
        let counts = ACKS.iter().zip(&mut seen.counters.acks);
        counts.filter(|(kind, _)| ack.contains(**kind)).for_each(|(_, count)| *count += 1);
        seen.counters.frames_out += 1;
        seen.counters.bytes_out += raw.len() as u64 + 4;
        seen.keep(Direction::Outgoing, connection, now, frame, self.limit);
        drop(seen);
        self.changed.notify_all();
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.seen.lock().counters);
        self.bump();
    }

    /// Says that something changed which a test may be waiting for.
    pub(crate) fn bump(&self) {
        self.seen.lock().version += 1;
        self.changed.notify_all();
    }

    pub(crate) fn version(&self) -> u64 {
        self.seen.lock().version
    }

    /// Blocks until something changed since `version`, or the deadline if there is one; false at the deadline.
    pub(crate) fn wait_past(&self, version: u64, deadline: Option<Instant>) -> bool {
        let mut seen = self.seen.lock();
        let same = |seen: &mut Seen| seen.version == version;
        match deadline {
            Some(deadline) => !self.changed.wait_while_until(&mut seen, same, deadline).timed_out(),
            None => {
                self.changed.wait_while(&mut seen, same);
                true
            }
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.seen.lock().counters
    }

    /// All frames kept, in the order of their numbers.
    pub(crate) fn frames(&self) -> Vec<SeenFrame> {
        let seen = self.seen.lock();
        let mut all: Vec<_> = seen.received.iter().chain(&seen.sent).cloned().collect();
        all.sort_by_key(|frame| frame.number);
        all
    }

    pub(crate) fn clear(&self) {
        let mut seen = self.seen.lock();
        seen.received.clear();
        seen.sent.clear();
    }

    fn frame(&self, raw: &[u8]) -> Option<Frame> {
        if !self.keeps_frames() {
            return None;
        }
        Frame::of_body(&without_password(raw)).ok()
    }
}

impl Seen {
    fn keep(&mut self, direction: Direction, connection: u64, now: Time, frame: Option<Frame>, limit: usize) {
        self.version += 1;
        self.last_number += 1;
        let number = self.last_number;
        let list = match direction {
            Direction::Incoming => &mut self.received,
            Direction::Outgoing => &mut self.sent,
        };
        if let Some(frame) = frame {
            if list.len() >= limit {
                list.pop_front();
            }
            list.push_back(SeenFrame { connection, direction, number, time: now.system(), frame });
        }
    }
}

/// The frame with `"***"` in place of every password (V-5).
fn without_password(raw: &[u8]) -> Vec<u8> {
    let mut shown = Vec::with_capacity(raw.len());
    let mut at = 0;
    for pair in pairs(raw).unwrap_or_default() {
        if Field::of(pair.key.as_bytes()) == Some(Field::Password) {
            shown.extend_from_slice(raw.get(at..pair.place.start).unwrap_or_default());
            shown.extend_from_slice(b"\"***\"");
            at = pair.place.end;
        }
    }
    shown.extend_from_slice(raw.get(at..).unwrap_or_default());
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// V-5.
    #[test]
    fn a_recorded_frame_shows_no_password_in_any_spelling() {
        let raw = br#"{"c":"logon","password":"h\"ush","pw":"hush","auth_key":7,"t":"t"}hush"#;
        let shown = String::from_utf8(without_password(raw)).unwrap();
        assert_eq!(shown, r#"{"c":"logon","password":"***","pw":"***","auth_key":"***","t":"t"}hush"#);
    }

    /// V-1.
    #[test]
    fn the_record_keeps_the_last_frames_of_each_direction_and_counts_all() {
        let recorder = Recorder::new(2);
        for number in 0..3 {
            let raw = format!("{{\"c\":\"p\",\"t\":\"{number}\"}}");
            recorder.received(1, Time::default(), raw.len() + 4, raw.as_bytes());
        }
        recorder.sent(1, Time::default(), br#"{"c":"ack"}"#, AckType::STATS);
        let frames = recorder.frames();
        let numbers: Vec<_> = frames.iter().map(|f| (f.direction, f.number)).collect();
        assert_eq!(numbers, [(Direction::Incoming, 2), (Direction::Incoming, 3), (Direction::Outgoing, 4)]);
        let counters = recorder.counters();
        assert_eq!((counters.frames_in, counters.frames_out, counters.bytes_out), (3, 1, 15));
        recorder.clear();
        assert!(recorder.frames().is_empty());
    }

    #[test]
    fn acknowledgements_are_counted_by_their_type() {
        let recorder = Recorder::new(0);
        for ack in [AckType::STATS, AckType::NONE, AckType::PROCESSED, AckType::STATS] {
            recorder.sent(1, Time::default(), b"{}", ack);
        }
        let counters = recorder.counters();
        assert_eq!(counters.acks(AckType::STATS), 2);
        assert_eq!(counters.acks(AckType::STATS | AckType::PROCESSED), 3);
        assert_eq!(counters.acks(AckType::PERSISTED), 0);
        assert!(recorder.frames().is_empty());
    }
}
