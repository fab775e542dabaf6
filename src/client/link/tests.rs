//! The send path against a transport in memory.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender as ChannelSender, unbounded};

use super::*;
use crate::error::ErrorKind;
use crate::store::{Selector, StoreEntry};
use crate::wire::CommandType;

const LIMIT: Duration = Duration::from_secs(5);

/// Records what is written; can be full, stuck or broken.
#[derive(Debug)]
struct Wire {
    written: ChannelSender<Vec<u8>>,
    /// A write waits for one of these, if there is a gate.
    stuck: Option<Receiver<()>>,
    broken: AtomicBool,
    full: AtomicBool,
    down: AtomicBool,
}

impl Wire {
    fn new(stuck: Option<Receiver<()>>) -> (Arc<Wire>, Receiver<Vec<u8>>) {
        let (written, writes) = unbounded();
        let off = || AtomicBool::new(false);
        (Arc::new(Wire { written, stuck, broken: off(), full: off(), down: off() }), writes)
    }

    fn record(&self, bytes: &[u8]) -> io::Result<()> {
        if self.broken.load(Ordering::Acquire) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.written.send(bytes.to_vec()).map_err(io::Error::other)
    }
}

impl Transport for Wire {
    fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(stuck) = &self.stuck {
            stuck.recv_timeout(LIMIT).map_err(io::Error::other)?;
        }
        self.record(bytes)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let taken = if self.full.load(Ordering::Acquire) { bytes.len() / 2 } else { bytes.len() };
        self.record(bytes.get(..taken).unwrap_or_default())?;
        Ok(taken)
    }

    fn shutdown(&self) {
        self.down.store(true, Ordering::Release);
    }
}

fn sender() -> Sender {
    Sender {
        thread: ThreadKey::current(),
        never_waits: false,
        patience: Patience::Outage,
        deadline: Some(Instant::now() + LIMIT),
    }
}

fn never_waiting() -> Sender {
    Sender { never_waits: true, ..sender() }
}

/// A link that is open over this wire.
fn open_link(wire: &Arc<Wire>) -> Arc<Link> {
    let link = Arc::new(Link::new("test", 1 << 20, None));
    let me = ThreadKey::current();
    link.install(Arc::clone(wire) as Arc<dyn Transport>, me);
    assert!(link.open(me));
    link
}

fn put(link: &Arc<Link>, from: fn() -> Sender, text: &str) -> Result<(), Refusal> {
    link.publish(from, |buffer| {
        buffer.extend_from_slice(text.as_bytes());
        Ok(())
    })
}

/// Everything written until `count` bytes have come.
fn collected(writes: &Receiver<Vec<u8>>, count: usize) -> String {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(writes.recv_timeout(LIMIT).expect("a write"));
    }
    String::from_utf8(all).unwrap()
}

/// A followed frame that records what happens to it.
#[derive(Default)]
struct Followed {
    queued_on: Vec<u64>,
    reclaimed: u32,
    told: bool,
}

impl Outgoing for Followed {
    fn encode(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        buffer.extend_from_slice(b"[asks]");
        Ok(())
    }

    fn queued(&mut self, version: u64) {
        self.queued_on.push(version);
    }

    fn reclaim(&mut self) -> bool {
        self.reclaimed += 1;
        !self.told
    }
}

#[test]
fn a_lone_frame_is_written_before_the_call_returns() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    for text in ["one", "two"] {
        put(&link, sender, text).unwrap();
        assert_eq!(writes.try_recv().unwrap(), text.as_bytes());
    }
}

#[test]
fn a_burst_leaves_in_few_writes_in_order_and_to_the_last_byte() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    let mut expected = String::new();
    for i in 0..50_000 {
        let text = format!("<{i}>");
        put(&link, sender, &text).unwrap();
        expected += &text;
    }
    // What the last call left behind comes by itself.
    assert_eq!(collected(&writes, expected.len()), expected);
    link.stop_flusher(None);
}

#[test]
fn a_frame_that_asks_takes_along_what_is_before_it() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    (0..100).for_each(|_| put(&link, sender, ".").unwrap());
    let mut followed = Followed::default();
    link.send(&sender(), &mut followed).unwrap();
    let written: String = writes.try_iter().map(|bytes| String::from_utf8(bytes).unwrap()).collect();
    assert_eq!(written, format!("{}[asks]", ".".repeat(100)));
    assert_eq!(followed.queued_on, [1]);
    link.stop_flusher(None);
}

#[test]
fn while_one_thread_writes_the_frames_of_others_collect_and_follow() {
    let (go, stuck) = unbounded();
    let (wire, writes) = Wire::new(Some(stuck));
    let link = open_link(&wire);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| put(&link, sender, "first"));
        while !link.state.lock().writing {
            std::thread::yield_now();
        }
        put(&link, sender, "second").unwrap();
        put(&link, sender, "third").unwrap();
        assert!(writes.is_empty(), "the first write is still under way");
        (0..2).for_each(|_| go.send(()).unwrap());
        writer.join().unwrap().unwrap();
    });
    assert_eq!(writes.try_iter().collect::<Vec<_>>(), [b"first".to_vec(), b"secondthird".to_vec()]);
}

#[test]
fn without_a_connection_nothing_is_sent() {
    let link = Arc::new(Link::new("test", 1 << 20, None));
    assert!(matches!(put(&link, sender, "x"), Err(Refusal::NotConnected)));
    assert!(matches!(link.send(&sender(), &mut Followed::default()), Err(Refusal::NotConnected)));
}

#[test]
fn a_frame_that_cannot_be_encoded_leaves_the_others_alone() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    let refused = link.publish(sender, |_| Err(ErrorKind::Usage.into()));
    assert!(matches!(refused, Err(Refusal::Frame(error)) if error.kind() == ErrorKind::Usage));
    put(&link, sender, "ok").unwrap();
    assert_eq!(writes.try_recv().unwrap(), b"ok");
}

#[test]
fn whoever_does_not_hold_the_gate_waits_for_it_or_is_told_at_once() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    let hold = link.acquire(&sender()).unwrap();
    std::thread::scope(|scope| {
        let impatient = scope.spawn(|| put(&link, || Sender { patience: Patience::None, ..sender() }, "no"));
        assert!(matches!(impatient.join().unwrap(), Err(Refusal::Busy)));
        let late =
            scope.spawn(|| put(&link, || Sender { deadline: Some(Instant::now()), ..sender() }, "late"));
        assert!(matches!(late.join().unwrap(), Err(Refusal::TimedOut)));
    });
    put(&link, sender, "mine").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| put(&link, sender, "theirs"));
        assert!(hold.release(&link));
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(writes.try_iter().collect::<Vec<_>>(), [b"mine".to_vec(), b"theirs".to_vec()]);
}

#[test]
fn frames_of_those_who_may_not_wait_are_queued_behind_the_gate() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    let hold = link.acquire(&sender()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| put(&link, never_waiting, "queued").unwrap());
    });
    assert!(writes.is_empty());
    put(&link, sender, "first").unwrap();
    assert!(hold.release(&link));
    assert_eq!(collected(&writes, 11), "firstqueued");
}

#[test]
fn what_may_wait_for_the_writer_is_limited() {
    let (go, stuck) = unbounded();
    let (wire, _writes) = Wire::new(Some(stuck));
    let link = open_link(&wire);
    std::thread::scope(|scope| {
        scope.spawn(|| put(&link, sender, "stuck"));
        while !link.state.lock().writing {
            std::thread::yield_now();
        }
        let large = "x".repeat(1 << 19);
        let refused = (0..10).find_map(|_| put(&link, never_waiting, &large).err());
        assert!(matches!(refused, Some(Refusal::OutboxFull)));
        link.close();
        go.send(()).unwrap();
    });
}

#[test]
fn what_the_kernel_does_not_take_at_once_is_left_to_the_flusher() {
    let (wire, writes) = Wire::new(None);
    wire.full.store(true, Ordering::Release);
    let link = open_link(&wire);
    put(&link, never_waiting, "abcdef").unwrap();
    assert_eq!(collected(&writes, 6), "abcdef");
    link.stop_flusher(None);
}

#[test]
fn a_failed_write_shuts_the_transport_down_and_the_frame_goes_over_the_next_connection() {
    let (broken, _) = Wire::new(None);
    let link = open_link(&broken);
    broken.broken.store(true, Ordering::Release);
    let (wire, writes) = Wire::new(None);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| put(&link, sender, "again"));
        let asking = scope.spawn(|| {
            let mut followed = Followed::default();
            link.send(&sender(), &mut followed).unwrap();
            followed
        });
        while !broken.down.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let me = ThreadKey::current();
        assert_eq!(link.lost(1, me), Loss::Taken);
        link.install(Arc::clone(&wire) as Arc<dyn Transport>, me);
        assert!(link.open(me));
        publisher.join().unwrap().unwrap();
        assert_eq!(asking.join().unwrap().queued_on.last(), Some(&2));
    });
    let all = collected(&writes, 11);
    assert!(all.contains("again") && all.contains("[asks]"), "{all}");
}

#[test]
fn a_frame_whose_waiter_was_told_of_the_loss_is_not_sent_again() {
    let (broken, _) = Wire::new(None);
    let link = open_link(&broken);
    broken.broken.store(true, Ordering::Release);
    let mut followed = Followed { told: true, ..Followed::default() };
    link.send(&sender(), &mut followed).unwrap();
    assert_eq!((followed.queued_on.as_slice(), followed.reclaimed), (&[1][..], 1));
}

#[test]
fn a_loss_is_taken_once_and_only_by_those_it_concerns() {
    let (wire, _writes) = Wire::new(None);
    let link = open_link(&wire);
    let me = ThreadKey::current();
    assert_eq!(link.lost(7, me), Loss::Stale);
    let hold = link.acquire(&sender()).unwrap();
    let noticed =
        std::thread::scope(|scope| scope.spawn(|| link.lost(1, ThreadKey::current())).join().unwrap());
    assert_eq!(noticed, Loss::InOtherHands);
    assert_eq!(link.lost(1, me), Loss::Stale);
    assert!(!hold.release(&link), "there is nothing to open");
    assert!(matches!(put(&link, sender, "x"), Err(Refusal::NotConnected)));
}

#[test]
fn giving_up_tells_whoever_waits() {
    let (wire, _writes) = Wire::new(None);
    let link = open_link(&wire);
    let me = ThreadKey::current();
    assert_eq!(link.lost(1, me), Loss::Taken);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| put(&link, sender, "x"));
        link.down(me);
        assert!(matches!(waiting.join().unwrap(), Err(Refusal::NotConnected | Refusal::GivenUp)));
    });
}

#[test]
fn draining_waits_for_what_is_queued_and_not_for_ever() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    (0..20).for_each(|_| put(&link, sender, ".").unwrap());
    link.drain(LIMIT);
    assert_eq!(collected(&writes, 20).len(), 20);
    wire.full.store(true, Ordering::Release);
    let start = Instant::now();
    link.drain(Duration::from_millis(1));
    assert!(start.elapsed() < LIMIT);
    link.stop_flusher(None);
}

#[test]
fn no_sign_of_life_is_sent_before_the_server_expects_it() {
    let (wire, writes) = Wire::new(None);
    let link = open_link(&wire);
    let beat = |buffer: &mut Vec<u8>| {
        buffer.push(b'b');
        Ok(())
    };
    link.beat(beat);
    assert_eq!(writes.try_recv().unwrap(), b"b");
    let hold = link.acquire(&sender()).unwrap();
    link.beat(beat);
    assert!(writes.is_empty());
    link.let_beat();
    link.beat(beat);
    assert_eq!(writes.try_recv().unwrap(), b"b", "the recovery behind a logon may take its time");
    assert!(hold.release(&link));
}

#[test]
fn the_filter_sees_each_frame_once_even_if_it_is_written_in_two_parts() {
    let (wire, writes) = Wire::new(None);
    wire.full.store(true, Ordering::Release);
    let link = open_link(&wire);
    let (seen, frames) = unbounded();
    link.tap().set(Some(Arc::new(move |_: crate::Direction, bytes: &[u8]| drop(seen.send(bytes.to_vec())))));
    put(&link, never_waiting, "\0\0\0\x03abc").unwrap();
    assert_eq!(collected(&writes, 7), "\0\0\0\x03abc");
    put(&link, never_waiting, "\0\0\0\x02de").unwrap();
    assert_eq!(collected(&writes, 6), "\0\0\0\x02de");
    assert_eq!(frames.try_iter().collect::<Vec<_>>(), [b"abc".to_vec(), b"de".to_vec()]);
    link.stop_flusher(None);
}

/// HA-18: whoever makes connections has nobody to wait for when one breaks.
#[test]
fn the_holder_of_the_gate_is_told_of_a_failed_write_at_once() {
    let (wire, _writes) = Wire::new(None);
    let link = open_link(&wire);
    let _hold = link.acquire(&sender()).unwrap();
    wire.broken.store(true, Ordering::Release);
    assert!(matches!(put(&link, sender, "lost"), Err(Refusal::NotConnected)));
    let mut frame = Followed::default();
    assert!(matches!(link.send(&sender(), &mut frame), Err(Refusal::NotConnected)));
    assert_eq!((frame.queued_on.len(), frame.reclaimed), (1, 1));
    assert!(wire.down.load(Ordering::Acquire));
}

#[test]
fn a_publisher_is_far_ahead_until_the_acknowledgements_follow() {
    let (wire, _writes) = Wire::new(None);
    let link = open_link(&wire);
    let is_far_ahead = || link.state.lock().sequences.are_far_ahead();
    let start = 1_795_337_071_422_000_000;
    link.open_sequences(start);
    assert!(!is_far_ahead(), "nothing was sent over this connection");
    link.skipped(start + sequenced::FAR_AHEAD);
    assert!(!is_far_ahead());
    link.skipped(start + sequenced::FAR_AHEAD + 1);
    assert!(is_far_ahead());
    assert!(!link.acknowledged(start + sequenced::FAR_AHEAD + 2), "it was not sent");
    assert!(is_far_ahead());
    assert!(link.acknowledged(start + 1));
    assert!(!is_far_ahead());
}

/// However many numbers a restart has left out, what is behind them is found at once.
#[test]
fn numbers_that_were_never_used_are_not_asked_for() {
    #[derive(Default)]
    struct Kept(AtomicU64);
    impl StoredFrames for Arc<Kept> {
        fn append(&self, sequence: u64, buffer: &mut Vec<u8>) -> Result<bool> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let kept = matches!(sequence, 3 | 1_000_000_000_000);
            buffer.extend(kept.then_some(b'x'));
            Ok(kept)
        }
        fn next(&self, from: u64) -> Option<u64> {
            [1, 3, 1_000_000_000_000].into_iter().find(|number| *number >= from)
        }
        fn failed(&self, error: Error) {
            panic!("{error}");
        }
    }
    let frames = Arc::new(Kept::default());
    let (wire, writes) = Wire::new(None);
    let link = Arc::new(Link::new("test", 1 << 20, Some(Box::new(Arc::clone(&frames)))));
    let me = ThreadKey::current();
    link.install(Arc::clone(&wire) as Arc<dyn Transport>, me);
    link.open_sequences(1);
    assert!(link.open(me));
    let entry = StoreEntry::new(CommandType::Publish, "t", Selector::Data(b""));
    link.publish_stored(sender, 1_000_000_000_000, &entry, |_| {}).unwrap();
    assert_eq!(collected(&writes, 2), "xx");
    assert_eq!(frames.0.load(Ordering::Relaxed), 4, "2, 3, 4, and the last");
}
