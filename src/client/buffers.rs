//! The receive buffers of one connection.
//!
//! Bytes are read into a block, cut into messages in place, and the block is used again unless somebody keeps a message
//! of it. A block that is kept is set aside and comes back when its last message is gone. How large a new block is
//! follows the traffic: a message of a quiet connection does not pin a large buffer.

use std::sync::Arc;

use crate::wire::Block;
use crate::wire::block::{HeaderReader, Receiver, Walk};

const SMALLEST: usize = 4 << 10;
const LARGEST: usize = 256 << 10;
/// A block for frames that are larger still is used again up to this size, as long as such frames come and nobody keeps a
/// message of it.
const LARGEST_KEPT: usize = 1 << 20;
/// So many reads without one end that.
const NONE_LARGE: u32 = 64;
/// Blocks that are set aside until nobody keeps them.
const ASIDE: usize = 16;
/// So many reads in a row that would have fitted into a quarter make the next new block smaller.
const CALM: u32 = 4;

/// Reads into one block after the other.
#[derive(Debug)]
pub(crate) struct Buffers {
    current: Arc<Block>,
    /// How much of the current block holds bytes that were received.
    filled: usize,
    aside: Vec<Arc<Block>>,
    reader: HeaderReader,
    receiver: Option<Receiver>,
    frame_limit: u32,
    /// The size of the next new block.
    size: usize,
    calm: u32,
    /// The size of the block that a large frame has come in lately; else 0.
    large: usize,
    /// Reads since then.
    since_large: u32,
}

impl Buffers {
    /// Buffers for frames up to a limit, whose messages can be traced back to `receiver`.
    pub(crate) fn new(frame_limit: u32, receiver: Option<Receiver>) -> Buffers {
        Buffers {
            current: Arc::new(Block::with_capacity(SMALLEST).received_by(receiver.clone())),
            filled: 0,
            aside: Vec::new(),
            reader: HeaderReader::default(),
            receiver,
            frame_limit,
            size: SMALLEST,
            calm: 0,
            large: 0,
            since_large: 0,
        }
    }

    /// Where the next bytes go; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let filled = self.filled;
        self.exclusive().space(filled)
    }

    /// Takes note of bytes read into [`Buffers::space`] and finds the messages in them.
    pub(crate) fn received(&mut self, count: usize) -> Walk {
        self.filled += count;
        self.observe(count);
        let (filled, limit) = (self.filled, self.frame_limit);
        let mut reader = std::mem::take(&mut self.reader);
        let walk = self.exclusive().walk(filled, limit, &mut reader);
        self.reader = reader;
        walk
    }

    /// The block with the messages just found.
    pub(crate) fn block(&self) -> &Arc<Block> {
        &self.current
    }

    /// The messages were delivered: makes room for more behind what is left of the last frame.
    pub(crate) fn advance(&mut self, walk: &Walk) {
        let left = walk.consumed..self.filled;
        self.filled = left.len();
        // A frame that does not fit is given room as its bytes come, not as its length promises.
        let wanted = walk.wanted.min(self.filled.saturating_mul(2));
        self.observe_large(walk);
        let capacity = self.size.max(wanted);
        let fits = self.current.capacity() >= capacity;
        let oversized = self.current.capacity() > LARGEST.max(wanted).max(self.large);
        match Arc::get_mut(&mut self.current) {
            Some(block) if fits && !oversized => block.move_to_front(left),
            _ => self.replace(left, capacity),
        }
    }

    /// Goes on in another block, with a copy of the bytes that are left.
    fn replace(&mut self, left: std::ops::Range<usize>, capacity: usize) {
        let spare = self.take_aside(capacity);
        let new = || Arc::new(Block::with_capacity(capacity).received_by(self.receiver.clone()));
        let mut next = spare.unwrap_or_else(new);
        if let (Some(block), Some(bytes)) = (Arc::get_mut(&mut next), self.current.bytes().get(left)) {
            block.copy_to_front(bytes);
        }
        let old = std::mem::replace(&mut self.current, next);
        if old.capacity() <= LARGEST && self.aside.len() < ASIDE {
            self.aside.push(old);
        }
    }

    /// A block that was set aside, is no longer kept by anybody, and has the right size.
    fn take_aside(&mut self, capacity: usize) -> Option<Arc<Block>> {
        let free = |block: &mut Arc<Block>| Arc::get_mut(block).is_some();
        let at = self.aside.iter_mut().position(|block| block.capacity() == capacity && free(block))?;
        Some(self.aside.swap_remove(at))
    }

    /// Grows with reads that fill the block, shrinks after many small ones.
    fn observe(&mut self, count: usize) {
        if self.filled == self.current.capacity() {
            self.size = (self.size * 4).min(LARGEST);
            self.calm = 0;
        } else if count <= self.size / 4 {
            self.calm += 1;
            if self.calm >= CALM {
                self.calm = 0;
                self.size = (self.size / 4).max(SMALLEST);
                self.aside.retain_mut(|block| block.capacity() <= self.size || Arc::get_mut(block).is_none());
            }
        } else {
            self.calm = 0;
        }
    }

    /// Remembers that a large frame came, and forgets it when no other follows.
    fn observe_large(&mut self, walk: &Walk) {
        if walk.consumed > LARGEST && self.current.capacity() <= LARGEST_KEPT {
            (self.large, self.since_large) = (self.current.capacity(), 0);
        } else if self.large > 0 {
            self.since_large += 1;
            if self.since_large > NONE_LARGE {
                self.large = 0;
            }
        }
    }

    /// The current block. Nobody else has it: one that was kept has been replaced.
    fn exclusive(&mut self) -> &mut Block {
        Arc::make_mut(&mut self.current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut out = ((payload.len() + 9) as u32).to_be_bytes().to_vec();
        out.extend_from_slice(b"{\"c\":\"p\"}");
        out.extend_from_slice(payload);
        out
    }

    /// Feeds bytes as a socket would, at most `chunk` at a time, and collects every payload.
    fn fed(buffers: &mut Buffers, mut bytes: &[u8], chunk: usize, mut keep: impl FnMut(Message)) {
        while !bytes.is_empty() {
            let space = buffers.space();
            assert!(!space.is_empty(), "there is always room");
            let count = space.len().min(bytes.len()).min(chunk);
            space[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            let walk = buffers.received(count);
            assert_eq!(walk.error, None);
            let block = Arc::clone(buffers.block());
            block.entries().iter().for_each(|entry| keep(Message::new(Arc::clone(&block), *entry)));
            drop(block);
            buffers.advance(&walk);
        }
    }

    fn payloads(buffers: &mut Buffers, bytes: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        fed(buffers, bytes, chunk, |message| all.push(message.data().to_vec()));
        all
    }

    #[test]
    fn any_chunking_gives_the_same_messages() {
        let wanted: Vec<Vec<u8>> = (0..40).map(|i| vec![i as u8; i * i * 7]).collect();
        let bytes: Vec<u8> = wanted.iter().flat_map(|payload| frame(payload)).collect();
        for chunk in [1, 2, 3, 7, 100, 4096, usize::MAX] {
            assert_eq!(payloads(&mut Buffers::new(1 << 30, None), &bytes, chunk), wanted, "{chunk}");
        }
    }

    #[test]
    fn room_for_a_large_frame_grows_with_its_bytes_and_is_given_back() {
        let mut buffers = Buffers::new(1 << 30, None);
        let large = frame(&vec![1; 3 << 20]);
        let (start, rest) = large.split_at(100);
        payloads(&mut buffers, start, usize::MAX);
        assert!(buffers.current.capacity() <= SMALLEST, "a length alone allocates nothing");
        assert_eq!(payloads(&mut buffers, rest, 1 << 16).len(), 1);
        assert!(buffers.current.capacity() <= LARGEST);
        assert_eq!(payloads(&mut buffers, &frame(b"x"), 5), [b"x"]);
    }

    #[test]
    fn a_block_for_large_frames_stays_as_long_as_they_come() {
        let mut buffers = Buffers::new(1 << 30, None);
        let large = frame(&vec![1; 600 << 10]);
        payloads(&mut buffers, &large, 1 << 16);
        let block = Arc::as_ptr(&buffers.current);
        assert!((600 << 10..=LARGEST_KEPT).contains(&buffers.current.capacity()));
        for _ in 0..3 {
            payloads(&mut buffers, &large, 1 << 16);
            payloads(&mut buffers, &frame(b"x"), 5);
            assert_eq!(Arc::as_ptr(&buffers.current), block);
        }
        let mut kept = Vec::new();
        for _ in 0..8 {
            fed(&mut buffers, &frame(b"small"), usize::MAX, |message| kept.push(message));
        }
        let pinned: usize = kept.iter().map(|message| message.block().capacity()).skip(1).sum();
        assert!(pinned <= 7 * LARGEST, "only the first has come in the large block: {pinned}");
        payloads(&mut buffers, &large, 1 << 16);
        (0..=NONE_LARGE).for_each(|_| drop(payloads(&mut buffers, &frame(b"x"), usize::MAX)));
        let sizes = buffers.aside.iter().chain([&buffers.current]).map(|block| block.capacity());
        assert!(sizes.max().unwrap() <= LARGEST);
    }

    #[test]
    fn kept_messages_stay_as_they_are_and_their_blocks_come_back() {
        let mut buffers = Buffers::new(1 << 30, None);
        let mut kept = Vec::new();
        let bytes: Vec<u8> = (0..1000_u32).flat_map(|i| frame(&i.to_be_bytes())).collect();
        fed(&mut buffers, &bytes, 500, |message| kept.push(message));
        for (i, message) in kept.iter().enumerate() {
            assert_eq!(message.data(), (i as u32).to_be_bytes());
        }
        kept.clear();
        let aside = buffers.aside.len();
        fed(&mut buffers, &bytes, 500, |message| kept = vec![message]);
        assert!(buffers.aside.len() <= aside + 1, "blocks are used again");
    }

    #[test]
    fn a_quiet_connection_gets_small_blocks_and_a_busy_one_large_blocks() {
        let mut buffers = Buffers::new(1 << 30, None);
        let busy: Vec<u8> = (0..20_000).flat_map(|_| frame(&[7; 50])).collect();
        payloads(&mut buffers, &busy, usize::MAX);
        assert_eq!(buffers.current.capacity(), LARGEST);
        let mut kept = Vec::new();
        for _ in 0..40 {
            fed(&mut buffers, &frame(b"x"), usize::MAX, |message| kept.push(message));
        }
        assert_eq!(buffers.current.capacity(), SMALLEST);
    }
}
