//! What waits to be written on one connection, bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::clock::Time;
use super::faults::{Hindrance, Writing};
use super::frames::Outgoing;
use super::query::Results;

/// The write queue of a connection: filled by whoever has something to say, emptied by its writer thread.
///
/// Frames count against the bound until they are written (Z-1). The results of a query do not: they stand in the queue
/// as records, and their frames are made when the writer has room for them (Z-2).
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// In bytes.
    limit: usize,
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    /// The number of the item queued last.
    last: u64,
    phase: Phase,
    /// Bytes of frames that are not written yet, those in the writer's hands included.
    bytes: usize,
    /// Bytes of replayed frames that are not written yet, those in the writer's hands included.
    replayed: usize,
    /// Those of them in the writer's hands.
    writing_replayed: usize,
    /// Whoever replays has more to send when there is room.
    wants_more: bool,
    /// The writer was sent for more just now.
    has_asked: bool,
    /// The query results that are not wholly written, with what stops each.
    running: Vec<(String, Arc<AtomicBool>)>,
    /// What the writer has in its hands: when the oldest frame was queued, and how many bytes count.
    writing: Option<(Time, usize)>,
    /// The writer is to look at what it holds back.
    is_poked: bool,
}

#[derive(Debug)]
struct Item {
    number: u64,
    queued: Time,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Frame(Outgoing),
    /// A frame that was read from the journal because there was room for it.
    Replayed(Outgoing),
    Results(Box<Results>),
    Hindrance(Hindrance<Writing>),
}

/// What the writer is given.
#[derive(Debug)]
pub(crate) enum Ready {
    Frame(Queued),
    /// From here on writing is hampered.
    Hindrance(Hindrance<Writing>),
    /// There is room for what is to be read from the journal.
    Room,
}

/// A frame that was queued, when, and its number among what was queued. The frames of one query result share theirs.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) frame: Outgoing,
    pub(crate) time: Time,
    pub(crate) number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing more is taken in; what is there is still written.
    Finishing,
    Closed,
}

/// A connection has outrun its bounds and must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overrun;

/// How much the writer takes in one go.
const WRITE_SIZE: usize = 64 * 1024;
/// How many bytes of replayed frames may wait.
const REPLAY_SIZE: usize = 256 * 1024;
/// How long a writer may take for one write before it counts as stuck.
const GRACE: Duration = Duration::from_millis(20);
/// How many unfinished queries a connection may have before its next one has to wait.
const MAX_QUERIES: usize = 16;

impl Outbox {
    pub(crate) fn new(limit: usize) -> Outbox {
        let queue = Queue {
            items: VecDeque::new(),
            last: 0,
            phase: Phase::Open,
            bytes: 0,
            replayed: 0,
            writing_replayed: 0,
            wants_more: false,
            has_asked: false,
            running: Vec::new(),
            writing: None,
            is_poked: false,
        };
        Outbox { queue: Mutex::new(queue), changed: Condvar::new(), limit }
    }

    /// Queues a frame; one for a connection that is closing is dropped.
    pub(crate) fn push(&self, frame: Outgoing, now: Time) -> Result<(), Overrun> {
        let mut queue = self.queue.lock();
        if queue.phase != Phase::Open || frame.bytes.is_empty() {
            return Ok(());
        }
        if queue.bytes.saturating_add(frame.bytes.len()) > self.limit {
            return Err(Overrun);
        }
        queue.bytes += frame.bytes.len();
        queue.put(Content::Frame(frame), now);
        self.changed.notify_all();
        Ok(())
    }

    /// Queues a frame that was read from the journal; it does not count against the bound (Z-2).
    pub(crate) fn push_replayed(&self, frame: Outgoing, now: Time) {
        let mut queue = self.queue.lock();
        if queue.phase == Phase::Open && !frame.bytes.is_empty() {
            queue.replayed += frame.bytes.len();
            queue.put(Content::Replayed(frame), now);
            self.changed.notify_all();
        }
    }

    /// True if another frame may be read from the journal.
    pub(crate) fn has_replay_room(&self) -> bool {
        self.queue.lock().replayed < REPLAY_SIZE
    }

    /// Has the writer ask for more when there is room.
    pub(crate) fn ask_for_more(&self) {
        self.queue.lock().wants_more = true;
        self.changed.notify_all();
    }

    /// Hampers the writing of what is queued from now on.
    pub(crate) fn push_hindrance(&self, hindrance: Hindrance<Writing>, now: Time) {
        self.queue.lock().put(Content::Hindrance(hindrance), now);
        self.changed.notify_all();
    }

    /// Queues the results of a query.
    pub(crate) fn push_results(&self, results: Results, now: Time) {
        let mut queue = self.queue.lock();
        if queue.phase == Phase::Open {
            queue.running.push((results.query_id().to_owned(), results.stop()));
            queue.put(Content::Results(Box::new(results)), now);
            self.changed.notify_all();
        }
    }

    /// Takes what is to be written next, blocking until there is something; `None` when the connection is to end.
    ///
    /// The writer calls again when it has written them, which is when they cease to count. After a
    /// [`poke`](Outbox::poke) there may be nothing.
    pub(crate) fn next(&self) -> Option<Vec<Ready>> {
        let mut queue = self.queue.lock();
        queue.forget_written();
        self.changed.notify_all();
        loop {
            let is_poked = std::mem::take(&mut queue.is_poked);
            let is_to_ask = queue.phase == Phase::Open && !is_poked && queue.is_to_ask();
            match queue.phase {
                Phase::Closed => return None,
                _ if is_poked => return Some(queue.take()),
                _ if is_to_ask => return Some(vec![Ready::Room]),
                Phase::Finishing if queue.items.is_empty() => return None,
                Phase::Open if queue.items.is_empty() => self.changed.wait(&mut queue),
                _ => {
                    let taken = queue.take();
                    self.changed.notify_all();
                    return Some(taken);
                }
            }
        }
    }

    /// Blocks while too many queries of this connection are unfinished.
    pub(crate) fn wait_for_query_room(&self) {
        let mut queue = self.queue.lock();
        while queue.phase == Phase::Open && queue.running.len() >= MAX_QUERIES {
            self.changed.wait(&mut queue);
        }
    }

    /// Stops the production of a query's remaining records.
    pub(crate) fn cancel_query(&self, query_id: &str) {
        let queue = self.queue.lock();
        for (_, stop) in queue.running.iter().filter(|(id, _)| id == query_id) {
            stop.store(true, Ordering::SeqCst);
        }
    }

    /// When the oldest frame was queued that waits, or that the writer has in its hands and does not get rid of.
    pub(crate) fn oldest(&self) -> Option<Time> {
        let mut queue = self.queue.lock();
        if let Some(in_hand) = queue.writing {
            // A manual clock may have moved far while the writer was merely between two writes.
            self.changed.wait_while_for(&mut queue, |queue| queue.writing == Some(in_hand), GRACE);
        }
        queue.oldest()
    }

    /// Has the writer, and whoever waits here, look again at what they wait for.
    pub(crate) fn poke(&self) {
        self.queue.lock().is_poked = true;
        self.changed.notify_all();
    }

    /// The number of what was queued last.
    pub(crate) fn last_number(&self) -> u64 {
        self.queue.lock().last
    }

    pub(crate) fn is_open(&self) -> bool {
        self.queue.lock().phase == Phase::Open
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().phase == Phase::Closed
    }

    /// Blocks while the condition holds; false if the connection does not take in anything any more. For the reader.
    pub(crate) fn wait_while_open(&self, condition: impl Fn() -> bool) -> bool {
        let mut queue = self.queue.lock();
        self.changed.wait_while(&mut queue, |queue| queue.phase == Phase::Open && condition());
        queue.phase == Phase::Open
    }

    /// Blocks while the condition holds; false if the connection is closed. For the writer.
    pub(crate) fn wait_while_not_closed(&self, condition: impl Fn() -> bool) -> bool {
        let mut queue = self.queue.lock();
        self.changed.wait_while(&mut queue, |queue| queue.phase != Phase::Closed && condition());
        queue.phase != Phase::Closed
    }

    /// Takes in nothing more, and ends once everything is written.
    pub(crate) fn finish(&self) {
        let mut queue = self.queue.lock();
        if queue.phase == Phase::Open {
            queue.phase = Phase::Finishing;
            self.changed.notify_all();
        }
    }

    /// Ends at once and drops what is queued.
    pub(crate) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.phase = Phase::Closed;
        queue.items.clear();
        self.changed.notify_all();
    }

    /// Blocks until [`close`](Outbox::close) was called, or this long.
    pub(crate) fn wait_closed(&self, limit: Duration) {
        let mut queue = self.queue.lock();
        self.changed.wait_while_for(&mut queue, |queue| queue.phase != Phase::Closed, limit);
    }
}

impl Queue {
    fn put(&mut self, content: Content, queued: Time) {
        self.last += 1;
        self.items.push_back(Item { number: self.last, queued, content });
    }

    fn oldest(&self) -> Option<Time> {
        let mut frames = self.items.iter().filter(|item| matches!(item.content, Content::Frame(_)));
        self.writing.map(|(queued, _)| queued).or_else(|| frames.next().map(|item| item.queued))
    }

    fn forget_written(&mut self) {
        if let Some((_, bytes)) = self.writing.take() {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
        self.replayed = self.replayed.saturating_sub(std::mem::take(&mut self.writing_replayed));
    }

    /// Whether the writer is to ask for more now; never twice without writing what it got, or what waits.
    fn is_to_ask(&mut self) -> bool {
        let is_to_write = std::mem::take(&mut self.has_asked) && !self.items.is_empty();
        let asks = self.wants_more && self.replayed < REPLAY_SIZE && !is_to_write;
        if asks {
            self.wants_more = false;
            self.has_asked = true;
        }
        asks
    }

    /// What goes into one write: as many frames as fit, at least one.
    fn take(&mut self) -> Vec<Ready> {
        let mut taken = Vec::new();
        let mut size = 0;
        while size < WRITE_SIZE {
            let Some(ready) = self.take_one() else { break };
            if let Ready::Frame(queued) = &ready {
                size += queued.frame.bytes.len();
            }
            taken.push(ready);
        }
        taken
    }

    fn take_one(&mut self) -> Option<Ready> {
        loop {
            let Item { number, queued: time, content } = self.items.pop_front()?;
            match content {
                Content::Hindrance(hindrance) => return Some(Ready::Hindrance(hindrance)),
                Content::Frame(frame) => {
                    let (_, bytes) = self.writing.get_or_insert((time, 0));
                    *bytes += frame.bytes.len();
                    return Some(Ready::Frame(Queued { frame, time, number }));
                }
                Content::Replayed(frame) => {
                    self.writing_replayed += frame.bytes.len();
                    return Some(Ready::Frame(Queued { frame, time, number }));
                }
                Content::Results(mut results) => match results.next_frame() {
                    Some(frame) => {
                        let content = Content::Results(results);
                        self.items.push_front(Item { number, queued: time, content });
                        return Some(Ready::Frame(Queued { frame, time, number }));
                    }
                    None => {
                        let stop = results.stop();
                        self.running.retain(|(_, running)| !Arc::ptr_eq(running, &stop));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::frames::heartbeat;
    use crate::testing::payload::PayloadType;
    use crate::testing::query::{Found, Shown};
    use crate::testing::state::TopicInfo;

    const SIZE: usize = 21;

    fn at(seconds: u64) -> Time {
        Time::default().plus(Duration::from_secs(seconds))
    }

    /// Z-1.
    #[test]
    fn frames_count_until_the_writer_comes_back_for_more() {
        let outbox = Outbox::new(2 * SIZE);
        assert_eq!(outbox.push(heartbeat(), at(1)), Ok(()));
        assert_eq!(outbox.push(heartbeat(), at(2)), Ok(()));
        assert_eq!(outbox.push(heartbeat(), at(3)), Err(Overrun));
        assert_eq!(outbox.next().map(|frames| frames.len()), Some(2));
        assert_eq!(outbox.push(heartbeat(), at(4)), Err(Overrun));
        outbox.finish();
        assert!(outbox.next().is_none());
        assert_eq!(outbox.oldest(), None);
    }

    /// Z-2, T-9: what is replayed does not count, and is fetched when there is room.
    #[test]
    fn the_writer_asks_for_more_when_it_has_written_what_was_replayed() {
        let outbox = Outbox::new(1);
        let frame = || Outgoing { bytes: vec![0; REPLAY_SIZE], ..heartbeat() };
        outbox.push_replayed(frame(), at(1));
        assert!(!outbox.has_replay_room());
        outbox.ask_for_more();
        let kinds = |ready: Option<Vec<Ready>>| {
            let is_room = |ready: &Ready| matches!(ready, Ready::Room);
            ready.into_iter().flatten().map(|ready| is_room(&ready)).collect::<Vec<_>>()
        };
        assert_eq!(kinds(outbox.next()), [false], "no room yet");
        assert!(!outbox.has_replay_room(), "it is being written");
        assert_eq!(kinds(outbox.next()), [true]);
        outbox.push_replayed(heartbeat(), at(1));
        outbox.ask_for_more();
        assert_eq!(kinds(outbox.next()), [false], "what it got comes first");
        assert_eq!(kinds(outbox.next()), [true]);
        assert_eq!(outbox.oldest(), None);
    }

    #[test]
    fn the_oldest_frame_may_be_in_the_writers_hands() {
        let outbox = Outbox::new(1000);
        assert_eq!(outbox.oldest(), None);
        outbox.push(heartbeat(), at(1)).unwrap();
        outbox.next();
        outbox.push(heartbeat(), at(2)).unwrap();
        assert_eq!(outbox.oldest(), Some(at(1)));
        outbox.next();
        assert_eq!(outbox.oldest(), Some(at(2)));
    }

    #[test]
    fn a_finished_outbox_gives_out_what_it_has_and_takes_nothing_more() {
        let outbox = Outbox::new(1000);
        outbox.push(heartbeat(), at(1)).unwrap();
        outbox.finish();
        outbox.push(heartbeat(), at(1)).unwrap();
        assert_eq!(outbox.next().map(|frames| frames.len()), Some(1));
        assert!(outbox.next().is_none());
    }

    fn results(query_id: &str) -> Results {
        let topic = Arc::new(TopicInfo {
            payload_type: PayloadType::Json,
            name: "t".into(),
            sow: None,
            is_journaled: false,
        });
        let found = Found { topic, record: Arc::default() };
        Results::new(query_id, 1, Shown::default(), vec![found])
    }

    /// Z-2: results do not count, but only so many may be unfinished.
    #[test]
    fn the_next_query_waits_while_too_many_are_unfinished() {
        let outbox = Outbox::new(1);
        (0..MAX_QUERIES).for_each(|_| outbox.push_results(results("q"), at(0)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                outbox.wait_for_query_room();
                outbox.queue.lock().running.len()
            });
            outbox.next();
            assert!(waiting.join().unwrap() < MAX_QUERIES);
        });
    }

    /// B-2.
    #[test]
    fn a_cancelled_query_yields_no_more_records() {
        let outbox = Outbox::new(1000);
        for query_id in ["a", "b", "a"] {
            outbox.push_results(results(query_id), at(0));
        }
        outbox.cancel_query("a");
        outbox.finish();
        let ready = outbox.next().unwrap();
        let [Ready::Frame(only)] = &ready[..] else { panic!("{ready:?}") };
        assert!(String::from_utf8_lossy(&only.frame.bytes).contains(r#""query_id":"b""#));
        assert!(outbox.queue.lock().running.is_empty());
    }

    #[test]
    fn a_closed_outbox_gives_out_nothing() {
        let outbox = Outbox::new(1000);
        outbox.push(heartbeat(), at(1)).unwrap();
        outbox.close();
        assert!(outbox.next().is_none());
        outbox.wait_closed(Duration::from_secs(1000));
    }
}
