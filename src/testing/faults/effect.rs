//! Something that a fault brings about and that lasts until it is released.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::testing::LOG;
use crate::testing::connection::Connection;
use crate::testing::door::Door;

/// Lasts until [`end`](Effect::end). Whoever waits for that does so on the outbox of the connection.
#[derive(Debug)]
pub(crate) struct Effect {
    is_over: AtomicBool,
    target: Target,
}

/// Who is to know when it is over.
#[derive(Debug)]
enum Target {
    Connection(Weak<Connection>),
    Door(Weak<Door>),
}

impl Effect {
    pub(crate) fn on_connection(connection: &Arc<Connection>) -> Arc<Effect> {
        Effect::new(Target::Connection(Arc::downgrade(connection)))
    }

    /// Keeps a door shut; it opens at the end.
    pub(crate) fn on_door(door: &Arc<Door>) -> Arc<Effect> {
        Effect::new(Target::Door(Arc::downgrade(door)))
    }

    fn new(target: Target) -> Arc<Effect> {
        Arc::new(Effect { is_over: AtomicBool::new(false), target })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub(crate) fn end(&self) {
        if self.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        match &self.target {
            Target::Connection(connection) => {
                if let Some(connection) = connection.upgrade() {
                    connection.outbox().poke();
                }
            }
            Target::Door(door) => {
                if let Some(Err(error)) = door.upgrade().map(|door| door.open()) {
                    log::error!(target: LOG, "a listener stays closed: {error}");
                }
            }
        }
    }
}

impl PartialEq for Effect {
    /// Each is a thing of its own.
    fn eq(&self, other: &Effect) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Effect {}
