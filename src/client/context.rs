//! Which thread is calling, and from inside which callback.
//!
//! Some calls would wait for something that only the calling thread can bring about. They are recognised here and
//! refused at once, instead of hanging.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies a thread for the life of the process; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadKey(u64);

thread_local! {
    static KEY: u64 = {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
    /// The client whose state listener is running on this thread, 0 if none.
    static LISTENING: Cell<u64> = const { Cell::new(0) };
    /// The clients of the listeners that this listener was called from within.
    static OUTER: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// The client that this thread receives for or did receive for, 0 if none.
    static RECEIVING: Cell<u64> = const { Cell::new(0) };
    /// The client that this thread revives, 0 if none.
    static REVIVING: Cell<u64> = const { Cell::new(0) };
}

/// Says that the calling thread is a receive thread of this client, as long as it lives.
pub(crate) fn enter_receive_thread(client: u64) {
    RECEIVING.set(client);
}

/// True on every receive thread of this client, also when its connection is over and it repairs what it can.
#[inline]
pub(crate) fn is_any_receive_thread(client: u64) -> bool {
    RECEIVING.get() == client
}

/// True where some waits cannot end: on the receive threads of all clients, and inside their state listeners.
pub(crate) fn some_waits_hang() -> bool {
    RECEIVING.get() != 0 || LISTENING.get() != 0
}

impl ThreadKey {
    /// The key of the calling thread.
    #[inline]
    pub(crate) fn current() -> ThreadKey {
        // 0 is no thread; it is seen only while the thread's own storage is being torn down.
        ThreadKey(KEY.try_with(|key| *key).unwrap_or(0))
    }

    pub(crate) fn as_u64(self) -> u64 {
        self.0
    }
}

/// While it lives, the thread counts as being inside a state listener of this client.
#[derive(Debug)]
pub(crate) struct ListenerScope {
    before: u64,
}

impl ListenerScope {
    pub(crate) fn enter(client: u64) -> ListenerScope {
        let before = LISTENING.replace(client);
        // Of a thread that is being torn down only the innermost is known.
        let _ = OUTER.try_with(|outer| outer.borrow_mut().push(before));
        ListenerScope { before }
    }

    /// True if the calling thread is inside a state listener of this client, however deep.
    #[inline]
    pub(crate) fn is_inside(client: u64) -> bool {
        match LISTENING.get() {
            0 => false,
            innermost if innermost == client => true,
            _ => OUTER.try_with(|outer| outer.borrow().contains(&client)).unwrap_or(false),
        }
    }
}

impl Drop for ListenerScope {
    fn drop(&mut self) {
        LISTENING.set(self.before);
        let _ = OUTER.try_with(|outer| outer.borrow_mut().pop());
    }
}

/// While it lives, the thread counts as reviving this client, and does not begin to do so once more.
#[derive(Debug)]
pub(crate) struct RevivalScope {
    before: u64,
}

impl RevivalScope {
    /// Enters, unless the thread is at it already.
    pub(crate) fn enter(client: u64) -> Option<RevivalScope> {
        (REVIVING.get() != client).then(|| RevivalScope { before: REVIVING.replace(client) })
    }
}

impl Drop for RevivalScope {
    fn drop(&mut self) {
        REVIVING.set(self.before);
    }
}

#[cfg(test)]
impl ThreadKey {
    /// A made-up thread.
    pub(crate) fn of(number: u64) -> ThreadKey {
        ThreadKey(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_has_a_key_of_its_own() {
        let mine = ThreadKey::current();
        assert_eq!(mine, ThreadKey::current());
        let other = std::thread::spawn(ThreadKey::current).join().unwrap();
        assert_ne!(mine, other);
        assert_ne!(mine.as_u64(), 0);
    }

    #[test]
    fn a_client_is_not_revived_from_within_its_revival() {
        let outer = RevivalScope::enter(7).unwrap();
        assert!(RevivalScope::enter(7).is_none());
        drop(RevivalScope::enter(8).unwrap());
        drop(outer);
        assert!(RevivalScope::enter(7).is_some());
    }

    #[test]
    fn listener_scopes_nest() {
        let outer = ListenerScope::enter(7);
        {
            let _inner = ListenerScope::enter(8);
            assert!(ListenerScope::is_inside(8) && ListenerScope::is_inside(7));
        }
        assert!(ListenerScope::is_inside(7) && !ListenerScope::is_inside(8));
        drop(outer);
        assert!(!ListenerScope::is_inside(7));
    }
}
