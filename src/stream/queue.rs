//! What lies between the receive thread and the reader of a stream: bounded, in batches, with a clear end.
//!
//! The receive thread offers the messages of one read as one batch that shares the receive buffer; the reader takes whole
//! batches. So a message costs neither a lock nor a wake-up of its own. A full queue takes no more than fits: what is
//! left stays with the receive thread, which waits for room and goes on beating meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Lease;
use super::conflated::Conflated;
use crate::error::Error;
use crate::message::Message;
use crate::wire::Block;

/// Messages that follow each other in a block and go to the same subscription.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: usize,
    count: usize,
    recipient: (u32, u32),
    /// The number that the bookmark store gave to the first; those behind it count on. 0 without a store.
    number: u64,
}

impl Run {
    #[inline]
    fn message(&self, block: &Arc<Block>) -> Option<Message> {
        let mut message = Message::new(Arc::clone(block), *block.entries().get(self.first)?);
        message.deliver_to(self.recipient.0, self.recipient.1);
        message.set_bookmark_seq(self.number);
        Some(message)
    }

    /// True if this message follows directly.
    #[inline]
    fn is_followed_by(&self, first: usize, recipient: (u32, u32), number: u64) -> bool {
        let next = if self.number == 0 { 0 } else { self.number + self.count as u64 };
        self.first + self.count == first && self.recipient == recipient && next == number
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.first += count;
        self.count -= count;
        if self.number != 0 {
            self.number += count as u64;
        }
    }
}

/// The messages of one block that are for one stream, in order.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    runs: Vec<Run>,
    count: usize,
    /// Some are from a queue, and to be acknowledged when the reader is done with them.
    leased: bool,
}

impl Selection {
    /// Adds messages of the block, from an index on, delivered by this part of `sids`, and numbered by the bookmark store
    /// unless `number` is 0.
    #[inline]
    pub(crate) fn add(&mut self, first: usize, count: usize, recipient: (u32, u32), number: u64) {
        self.count += count;
        match self.runs.last_mut() {
            Some(run) if run.is_followed_by(first, recipient, number) => run.count += count,
            _ => self.runs.push(Run { first, count, recipient, number }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Those from a queue are to be acknowledged when the reader is done with them.
    pub(crate) fn acknowledge_when_read(&mut self) {
        self.leased = true;
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.count = 0;
        self.leased = false;
    }

    /// Moves the first messages, `count` of them, to another selection.
    fn split_into(&mut self, taken: &mut Selection, mut count: usize) {
        self.count -= count;
        taken.leased |= self.leased;
        let mut whole = 0;
        for run in &mut self.runs {
            let part = run.count.min(count);
            if part > 0 {
                taken.add(run.first, part, run.recipient, run.number);
            }
            run.advance(part);
            count -= part;
            if run.count > 0 {
                break;
            }
            whole += 1;
        }
        self.runs.drain(..whole);
    }
}

/// Messages of one receive buffer, as the reader takes them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    block: Option<Arc<Block>>,
    messages: Selection,
    /// The run that comes next.
    at: usize,
}

impl Batch {
    /// The next message of the batch.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Message> {
        let run = self.messages.runs.get_mut(self.at)?;
        let message = run.message(self.block.as_ref()?);
        run.advance(1);
        if run.count == 0 {
            self.at += 1;
        }
        self.messages.count -= 1;
        message
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.count
    }

    /// True if messages of it are to be acknowledged when they were read.
    pub(crate) fn is_leased(&self) -> bool {
        self.messages.leased
    }

    /// How many bytes of receive buffer the batch keeps alive.
    fn bytes(&self) -> usize {
        self.block.as_ref().map_or(0, |block| block.capacity())
    }
}

/// How much may be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Depth {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Depth {
    pub(crate) const UNBOUNDED: Depth = Depth { messages: usize::MAX, bytes: usize::MAX };
    /// About eight full reads of small messages.
    pub(crate) const DEFAULT: Depth = Depth { messages: 10_000, bytes: 2 << 20 };
}

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// Nothing more will come, as it should be.
    Complete,
    /// Nothing more will come, because of this.
    Failed(Error),
}

/// What a reader gets.
#[derive(Debug)]
pub(crate) enum Taken {
    Batch(Batch),
    /// One message of a conflated stream.
    One(Message),
    Nothing,
    Failed(Error),
    Ended,
}

/// The queue of one stream.
#[derive(Debug)]
pub(crate) struct StreamQueue {
    state: Mutex<State>,
    ready: Condvar,
    room: Condvar,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Batch>,
    conflated: Option<Conflated>,
    messages: usize,
    bytes: usize,
    depth: Depth,
    end: Option<End>,
    /// The reader is gone: whatever is offered is dropped.
    closed: bool,
    reader_waits: bool,
    is_placed: bool,
    reconnects: u64,
    spare: Vec<Selection>,
    lease: Weak<Lease>,
}

impl StreamQueue {
    pub(crate) fn new(depth: Depth) -> StreamQueue {
        let state = State {
            batches: VecDeque::new(),
            conflated: None,
            messages: 0,
            bytes: 0,
            depth,
            end: None,
            closed: false,
            reader_waits: false,
            is_placed: false,
            reconnects: 0,
            spare: Vec::new(),
            lease: Weak::new(),
        };
        StreamQueue { state: Mutex::new(state), ready: Condvar::new(), room: Condvar::new() }
    }

    /// Takes as many of the messages as there is room for, from the front; true if that was all. Once the reader is gone or
    /// the stream has ended everything is taken and dropped.
    pub(crate) fn offer(&self, block: &Arc<Block>, messages: &mut Selection) -> bool {
        self.accept(block, messages, false)
    }

    /// The same, room or not.
    pub(crate) fn force(&self, block: &Arc<Block>, messages: &mut Selection) {
        self.accept(block, messages, true);
    }

    fn accept(&self, block: &Arc<Block>, messages: &mut Selection, forced: bool) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.end.is_some() {
            messages.clear();
            return true;
        }
        let wake = state.reader_waits;
        let depth = state.depth;
        if forced {
            state.depth = Depth::UNBOUNDED;
        }
        if state.conflated.is_some() {
            state.conflate(block, messages);
        } else {
            state.queue(block, messages);
        }
        state.depth = depth;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
        messages.is_empty()
    }

    /// Waits for room, for at most `limit`.
    pub(crate) fn wait_for_room(&self, limit: Duration) {
        let mut state = self.state.lock();
        if !state.closed && state.end.is_none() && state.is_full() {
            self.room.wait_for(&mut state, limit);
        }
    }

    /// Ends the stream; what is queued is still read. The first end counts.
    pub(crate) fn finish(&self, end: End) {
        let mut state = self.state.lock();
        state.end.get_or_insert(end);
        self.ready.notify_all();
        self.room.notify_all();
    }

    /// The reader goes: queued messages are dropped. True if the stream had ended before.
    pub(crate) fn close(&self) -> bool {
        let mut state = self.state.lock();
        let ended = state.end.is_some();
        state.closed = true;
        state.end.get_or_insert(End::Complete);
        state.clear();
        self.ready.notify_all();
        self.room.notify_all();
        ended
    }

    /// Says what the handles of readers share, so that another handle can be made.
    pub(crate) fn set_lease(&self, lease: &Arc<Lease>) {
        self.state.lock().lease = Arc::downgrade(lease);
    }

    /// What the handles share, if there still is one.
    pub(crate) fn lease(&self) -> Option<Arc<Lease>> {
        self.state.lock().lease.upgrade()
    }

    /// The next messages, waiting until `deadline` if there are none; `None` waits for ever. `used` is the batch read
    /// before.
    pub(crate) fn take(&self, used: Batch, deadline: Option<Instant>) -> Taken {
        let mut state = self.state.lock();
        state.recycle(used);
        loop {
            if let Some(taken) = state.pop() {
                drop(state);
                self.room.notify_one();
                return taken;
            }
            match state.end.replace(End::Complete) {
                Some(End::Complete) => return Taken::Ended,
                Some(End::Failed(error)) => return Taken::Failed(error),
                None => state.end = None,
            }
            state.reader_waits = true;
            let timed_out = match deadline {
                None => {
                    self.ready.wait(&mut state);
                    false
                }
                Some(deadline) => self.ready.wait_until(&mut state, deadline).timed_out(),
            };
            state.reader_waits = false;
            if timed_out && state.messages == 0 && state.end.is_none() {
                return Taken::Nothing;
            }
        }
    }

    pub(crate) fn set_depth(&self, depth: Depth) {
        self.state.lock().depth = depth;
        self.room.notify_all();
    }

    pub(crate) fn depth(&self) -> Depth {
        self.state.lock().depth
    }

    /// How many messages are queued.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().messages
    }

    /// From now on a message replaces the queued one of the same key.
    pub(crate) fn conflate(&self) {
        let mut state = self.state.lock();
        if state.conflated.is_none() {
            let mut conflated = Conflated::default();
            while let Some(mut batch) = state.batches.pop_front() {
                while let Some(message) = batch.take() {
                    conflated.push(message);
                }
            }
            state.messages = conflated.len();
            state.bytes = conflated.bytes();
            state.conflated = Some(conflated);
        }
    }

    /// Its subscription was accepted.
    pub(crate) fn placed(&self) {
        self.state.lock().is_placed = true;
    }

    /// Its subscription is about to be placed over another connection. Told before, because the first message of that may be
    /// read before the answer is.
    pub(crate) fn moves_on(&self) {
        let mut state = self.state.lock();
        state.reconnects += u64::from(state.is_placed);
    }

    /// Whether that succeeded.
    pub(crate) fn moved(&self, is_placed: bool) {
        let mut state = self.state.lock();
        if is_placed {
            state.is_placed = true;
        } else {
            state.reconnects -= u64::from(state.is_placed);
        }
    }

    pub(crate) fn reconnects(&self) -> u64 {
        self.state.lock().reconnects
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.messages >= self.depth.messages || (self.bytes >= self.depth.bytes && self.messages > 0)
    }

    /// Queues what fits as one batch.
    fn queue(&mut self, block: &Arc<Block>, messages: &mut Selection) {
        if self.is_full() {
            return;
        }
        let fits = messages.count.min(self.depth.messages.saturating_sub(self.messages));
        let mut taken = self.spare.pop().unwrap_or_default();
        if fits == messages.count {
            std::mem::swap(&mut taken, messages);
        } else {
            messages.split_into(&mut taken, fits);
        }
        let batch = Batch { block: Some(Arc::clone(block)), messages: taken, at: 0 };
        self.messages += batch.len();
        self.bytes += batch.bytes();
        self.batches.push_back(batch);
    }

    /// Queues or replaces one by one, until a new one has no room.
    fn conflate(&mut self, block: &Arc<Block>, messages: &mut Selection) {
        let mut one = Selection::default();
        while let Some(message) = messages.runs.first().and_then(|run| run.message(block)) {
            let full = self.is_full();
            let Some(conflated) = &mut self.conflated else { return };
            if full && !conflated.replaces(&message) {
                return;
            }
            conflated.push(message);
            self.messages = conflated.len();
            self.bytes = conflated.bytes();
            one.clear();
            messages.split_into(&mut one, 1);
        }
    }

    fn pop(&mut self) -> Option<Taken> {
        if let Some(conflated) = &mut self.conflated {
            let message = conflated.pop()?;
            self.messages = conflated.len();
            self.bytes = conflated.bytes();
            return Some(Taken::One(message));
        }
        let batch = self.batches.pop_front()?;
        self.messages -= batch.len();
        self.bytes -= batch.bytes();
        Some(Taken::Batch(batch))
    }

    fn recycle(&mut self, used: Batch) {
        // One spare list for the reader and one for the receive thread are as many as are ever in use.
        if self.spare.len() < 2 && used.messages.runs.capacity() > 0 {
            let mut messages = used.messages;
            messages.clear();
            self.spare.push(messages);
        }
    }

    fn clear(&mut self) {
        self.batches.clear();
        self.conflated = None;
        self.messages = 0;
        self.bytes = 0;
        self.spare.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::wire::MAX_FRAME;
    use crate::wire::block::HeaderReader;

    /// A block with one message for each payload; the text before a colon is its key.
    fn received(payloads: &[&str]) -> (Arc<Block>, Selection) {
        let mut bytes = Vec::new();
        for payload in payloads {
            let (key, data) = payload.split_once(':').unwrap_or(("", payload));
            let body = format!("{{\"c\":\"p\",\"t\":\"t\",\"k\":\"{key}\",\"sids\":\"s1\"}}{data}");
            bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
            bytes.extend_from_slice(body.as_bytes());
        }
        let mut block = Block::default();
        block.copy_to_front(&bytes);
        block.walk(bytes.len(), MAX_FRAME, &mut HeaderReader::default());
        let mut items = Selection::default();
        (0..payloads.len()).for_each(|index| items.add(index, 1, (0, 2), 0));
        (Arc::new(block), items)
    }

    fn read(queue: &StreamQueue) -> Vec<String> {
        let mut all = Vec::new();
        let mut take = |message: Message| {
            assert_eq!(message.sub_id(), Some("s1"));
            all.push(message.data_str().unwrap().to_owned());
        };
        loop {
            match queue.take(Batch::default(), Some(Instant::now())) {
                Taken::Batch(mut batch) => std::iter::from_fn(|| batch.take()).for_each(&mut take),
                Taken::One(message) => take(message),
                _ => return all,
            }
        }
    }

    #[test]
    fn messages_come_out_in_order() {
        let queue = StreamQueue::new(Depth::DEFAULT);
        let (block, mut items) = received(&["1", "2", "3"]);
        assert!(queue.offer(&block, &mut items));
        let (block, mut items) = received(&["4"]);
        assert!(queue.offer(&block, &mut items));
        assert_eq!(queue.len(), 4);
        assert_eq!(read(&queue), ["1", "2", "3", "4"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_full_queue_takes_what_fits_and_leaves_the_rest() {
        let queue = StreamQueue::new(Depth { messages: 2, bytes: usize::MAX });
        let (block, mut items) = received(&["1", "2", "3"]);
        assert!(!queue.offer(&block, &mut items));
        assert_eq!(items.count, 1);
        assert!(!queue.offer(&block, &mut items));
        assert_eq!(read(&queue), ["1", "2"]);
        assert!(queue.offer(&block, &mut items));
        assert_eq!(read(&queue), ["3"]);
    }

    #[test]
    fn a_selection_is_split_at_any_message() {
        for at in 0..=6 {
            let (mut left, mut taken) = (Selection::default(), Selection::default());
            left.add(0, 2, (0, 1), 0);
            left.add(2, 1, (0, 2), 0);
            left.add(5, 3, (0, 2), 0);
            left.split_into(&mut taken, at);
            assert_eq!((taken.count, left.count), (at, 6 - at));
            let indexes = |selection: &Selection| {
                selection.runs.iter().flat_map(|run| run.first..run.first + run.count).collect::<Vec<_>>()
            };
            assert_eq!([indexes(&taken), indexes(&left)].concat(), [0, 1, 2, 5, 6, 7]);
        }
    }

    #[test]
    fn the_bytes_of_the_receive_buffers_count_and_one_message_always_fits() {
        let queue = StreamQueue::new(Depth { messages: usize::MAX, bytes: 10 });
        let (block, mut first) = received(&["1"]);
        assert!(queue.offer(&block, &mut first));
        let (block, mut second) = received(&["2"]);
        assert!(!queue.offer(&block, &mut second));
        assert_eq!(read(&queue), ["1"]);
        assert!(queue.offer(&block, &mut second));
    }

    #[test]
    fn what_is_queued_is_read_before_the_end_and_a_failure_is_told_once() {
        let queue = StreamQueue::new(Depth::DEFAULT);
        let (block, mut items) = received(&["1"]);
        queue.offer(&block, &mut items);
        queue.finish(End::Failed(ErrorKind::Disconnected.into()));
        queue.finish(End::Complete);
        let Taken::Batch(_) = queue.take(Batch::default(), None) else {
            panic!("the queued message comes first")
        };
        let Taken::Failed(error) = queue.take(Batch::default(), None) else { panic!("then the failure") };
        assert!(error.is_disconnect());
        assert!(matches!(queue.take(Batch::default(), None), Taken::Ended));
        assert!(matches!(queue.take(Batch::default(), None), Taken::Ended));
        let (block, mut late) = received(&["2"]);
        assert!(queue.offer(&block, &mut late) && late.is_empty());
        assert!(matches!(queue.take(Batch::default(), None), Taken::Ended));
    }

    #[test]
    fn closing_drops_what_is_queued_and_takes_whatever_comes() {
        let queue = StreamQueue::new(Depth { messages: 1, bytes: 1 });
        let (block, mut items) = received(&["1", "2"]);
        queue.offer(&block, &mut items);
        queue.close();
        assert!(queue.offer(&block, &mut items));
        assert!(matches!(queue.take(Batch::default(), None), Taken::Ended));
    }

    #[test]
    fn a_reader_without_messages_gets_nothing_after_its_time() {
        let queue = StreamQueue::new(Depth::DEFAULT);
        let start = Instant::now();
        let limit = Duration::from_millis(10);
        assert!(matches!(queue.take(Batch::default(), Some(start + limit)), Taken::Nothing));
        assert!(start.elapsed() >= limit);
    }

    #[test]
    fn a_waiting_reader_is_woken_by_a_message() {
        let queue = Arc::new(StreamQueue::new(Depth::DEFAULT));
        let reader = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || matches!(queue.take(Batch::default(), None), Taken::Batch(_)))
        };
        let (block, mut items) = received(&["1"]);
        queue.offer(&block, &mut items);
        assert!(reader.join().unwrap());
    }

    #[test]
    fn a_conflated_queue_keeps_the_newest_of_each_key_in_its_first_place() {
        let queue = StreamQueue::new(Depth::DEFAULT);
        let (block, mut items) = received(&["a:1", "b:2"]);
        queue.offer(&block, &mut items);
        queue.conflate();
        let (block, mut items) = received(&["a:3", "4", "b:5", "6", "c:7"]);
        assert!(queue.offer(&block, &mut items));
        assert_eq!(queue.len(), 5);
        assert_eq!(read(&queue), ["3", "5", "4", "6", "7"]);
        let (block, mut items) = received(&["a:8"]);
        queue.offer(&block, &mut items);
        assert_eq!(read(&queue), ["8"]);
    }

    #[test]
    fn a_full_conflated_queue_still_takes_replacements() {
        let queue = StreamQueue::new(Depth { messages: 1, bytes: usize::MAX });
        queue.conflate();
        let (block, mut items) = received(&["a:1", "a:2", "b:3", "a:4"]);
        assert!(!queue.offer(&block, &mut items));
        assert_eq!(items.count, 2);
        assert_eq!(read(&queue), ["2"]);
    }
}
