//! A queue in which a message takes the place of the waiting one with the same key.

use std::collections::{HashMap, VecDeque};

use crate::message::Message;

/// Messages in the order in which their keys first came.
#[derive(Debug, Default)]
pub(crate) struct Conflated {
    queue: VecDeque<Message>,
    /// Topic and key of the waiting messages that have a key, and how many messages came out before they do.
    places: HashMap<(String, String), u64>,
    taken: u64,
    bytes: usize,
}

impl Conflated {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many bytes of receive buffer are kept alive, each buffer counted for each of its messages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if the message would take the place of another.
    pub(crate) fn replaces(&self, message: &Message) -> bool {
        key(message).is_some_and(|key| self.places.contains_key(&key))
    }

    pub(crate) fn push(&mut self, message: Message) {
        let next = self.taken + self.queue.len() as u64;
        let place = key(&message).map_or(next, |key| *self.places.entry(key).or_insert(next));
        // A place is never before what was taken, and the queue is addressable.
        match self.queue.get_mut((place - self.taken) as usize) {
            // What a bookmark subscription gets again after a loss may be older than what waits.
            Some(waiting) if message.bookmark_seq() < waiting.bookmark_seq() => {}
            Some(waiting) => {
                self.bytes += message.block().capacity();
                self.bytes -= waiting.block().capacity();
                *waiting = message;
            }
            None => {
                self.bytes += message.block().capacity();
                self.queue.push_back(message);
            }
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.taken += 1;
        self.bytes -= message.block().capacity();
        if let Some(key) = key(&message) {
            self.places.remove(&key);
        }
        Some(message)
    }
}

fn key(message: &Message) -> Option<(String, String)> {
    let key = message.sow_key()?;
    Some((message.topic().unwrap_or_default().to_owned(), key.to_owned()))
}
