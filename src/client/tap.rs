//! The place where a transport filter sees the bytes of a client.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::callbacks::{Direction, TransportFilter};
use crate::wire::MAX_FRAME;

/// Shows bytes to a filter, if there is one; without one it costs a look at a flag.
#[derive(Default)]
pub(crate) struct Tap {
    active: AtomicBool,
    filter: Mutex<Option<Arc<dyn TransportFilter>>>,
}

impl Tap {
    pub(crate) fn set(&self, filter: Option<Arc<dyn TransportFilter>>) {
        self.active.store(filter.is_some(), Ordering::Release);
        let old = std::mem::replace(&mut *self.filter.lock(), filter);
        drop(old);
    }

    /// Shows a block as it was read.
    pub(crate) fn incoming(&self, block: &[u8]) {
        if let Some(filter) = self.filter() {
            filter.on_bytes(Direction::Incoming, block);
        }
    }

    /// Shows each of the whole frames that these bytes are.
    pub(crate) fn outgoing(&self, mut bytes: &[u8]) {
        let Some(filter) = self.filter() else { return };
        while let Some((prefix, rest)) = bytes.split_first_chunk() {
            let length = u32::from_be_bytes(*prefix).min(MAX_FRAME) as usize;
            let (frame, behind) = rest.split_at(length.min(rest.len()));
            filter.on_bytes(Direction::Outgoing, frame);
            bytes = behind;
        }
    }

    fn filter(&self) -> Option<Arc<dyn TransportFilter>> {
        if self.active.load(Ordering::Acquire) { self.filter.lock().clone() } else { None }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("active", &self.active).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_shown_one_by_one_without_their_length() {
        let tap = Tap::default();
        tap.outgoing(b"\0\0\0\x01x");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        tap.set(Some(Arc::new(move |direction: Direction, bytes: &[u8]| {
            sink.lock().push((direction, bytes.to_vec()))
        })));
        tap.outgoing(b"\0\0\0\x01a\0\0\0\0\0\0\0\x02bc");
        tap.incoming(b"de");
        tap.set(None);
        tap.incoming(b"f");
        let out = |bytes: &[u8]| (Direction::Outgoing, bytes.to_vec());
        assert_eq!(*seen.lock(), [out(b"a"), out(b""), out(b"bc"), (Direction::Incoming, b"de".to_vec())]);
    }
}
