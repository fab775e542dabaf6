//! The routes of a client, shared by the threads that place commands and the one that receives.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::registry::HandlerCell;
use super::routes::{Delivery, Route, RouteKind, RouteTable};
use crate::error::Error;
use crate::stream::{End, StreamQueue};
use crate::wire::AckType;

/// What is at the end of a route.
#[derive(Clone)]
pub(crate) enum Sink {
    Handler(HandlerCell),
    Stream(Arc<StreamQueue>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Sink::Handler(_) => "Handler",
            Sink::Stream(_) => "Stream",
        })
    }
}

impl Sink {
    fn finish(&self, end: End) {
        if let Sink::Stream(queue) = self {
            queue.finish(end);
        }
    }
}

/// The routing table, and a number that moves with every change, so that the receive thread may go on using what it
/// looked up.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    table: Mutex<RouteTable<Sink>>,
    generation: AtomicU64,
}

impl Routes {
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.table.lock().contains(id)
    }

    pub(crate) fn sink(&self, id: &str) -> Option<Sink> {
        self.table.lock().get(id).map(|route| route.sink.clone())
    }

    /// Enters a route, or says the kind of the one that stays in its place.
    pub(crate) fn insert(&self, id: &str, route: Route<Sink>) -> Result<(), RouteKind> {
        // Holds what was replaced: dropping a handler runs code of the user.
        let outcome = self.table.lock().insert(id, route);
        self.changed();
        outcome.map(drop)
    }

    /// Takes out one route; what it led to is returned, so that it is dropped outside the lock.
    pub(crate) fn remove(&self, id: &str) -> Option<Route<Sink>> {
        let removed = self.table.lock().remove(id);
        self.changed();
        removed
    }

    /// The same if this command has made it.
    pub(crate) fn remove_own(&self, id: &str, command: &str) -> Option<Route<Sink>> {
        let removed = self.table.lock().remove_own(id, command);
        self.changed();
        removed
    }

    pub(crate) fn acknowledge(
        &self,
        id: &str,
        command: Option<&str>,
        ack: AckType,
        refused: bool,
    ) -> Option<Delivery<Sink>> {
        let delivery = self.table.lock().acknowledge(id, command, ack, refused);
        if delivery.as_ref().is_some_and(|delivery| delivery.ended.is_some()) {
            self.changed();
        }
        delivery
    }

    /// A query's `group_end` came. Returns what has got everything with it.
    pub(crate) fn group_end(&self, id: &str) -> Option<Sink> {
        let ended = self.table.lock().group_end(id);
        if ended.is_some() {
            self.changed();
        }
        ended
    }

    /// Takes out one route and ends its stream.
    pub(crate) fn end_one(&self, id: &str) {
        if let Some(route) = self.remove(id) {
            route.sink.finish(End::Complete);
        }
    }

    /// Takes out every subscription and ends its stream.
    pub(crate) fn end_subscriptions(&self) {
        let taken = self.table.lock().take_kind(RouteKind::Subscription);
        self.changed();
        taken.iter().for_each(|(_, route)| route.sink.finish(End::Complete));
    }

    /// Ends everything. Returns the ids that led to streams, which nothing brings back.
    pub(crate) fn end_all(&self, end: &End) -> Vec<String> {
        let all = self.table.lock().take_all();
        self.changed();
        all.iter().for_each(|(_, route)| route.sink.finish(end.clone()));
        let streamed = all.into_iter().filter(|(_, route)| matches!(route.sink, Sink::Stream(_)));
        streamed.map(|(id, _)| id).collect()
    }

    /// The connection is lost: the routes of every command that went out over it go, but for those that last, and their
    /// streams fail. A command
    /// that `still_waits` to be sent keeps its own. Returns the queries that handlers wait for: the ids of their
    /// commands, and their own.
    pub(crate) fn fail(&self, cause: &Error, still_waits: impl Fn(&str) -> bool) -> HashMap<String, String> {
        let gone = self.table.lock().take_gone(|command| !still_waits(command));
        self.changed();
        let mut lost = HashMap::new();
        for (id, route) in gone {
            match route.sink {
                Sink::Stream(queue) => queue.finish(End::Failed(cause.clone())),
                Sink::Handler(_) if route.kind != RouteKind::Query => {}
                // A query may have a second route, under the id of its command.
                Sink::Handler(_) if lost.contains_key(&route.command) && id == route.command => {}
                Sink::Handler(_) => drop(lost.insert(route.command, id)),
            }
        }
        lost
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
