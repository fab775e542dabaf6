//! Which handler or stream receives an incoming message.
//!
//! Pure: what is at the end of a route is the caller's business.

use std::collections::HashMap;

use crate::wire::AckType;

/// The routes of one client, by subscription, query or command id.
#[derive(Debug)]
pub(crate) struct RouteTable<S> {
    routes: HashMap<String, Route<S>>,
}

/// One entry of the table.
#[derive(Debug, Clone)]
pub(crate) struct Route<S> {
    pub(crate) sink: S,
    pub(crate) kind: RouteKind,
    /// It outlives the connection: somebody will place it again.
    pub(crate) lasting: bool,
    /// The ids of the command that made the route, and of its query.
    pub(crate) command: String,
    pub(crate) query: String,
    /// The acknowledgements to be delivered: those the user asked for.
    pub(crate) acks: AckType,
    /// Those that the library asked for. Nobody is to see them.
    pub(crate) library: AckType,
    /// What ends the route. [`AckType::NONE`]: for a query its `group_end`, for a subscription nothing.
    pub(crate) ends_with: AckType,
    /// The user has got everything; what the library asked for may still come.
    pub(crate) is_done: bool,
}

/// What a route was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteKind {
    /// Lives until it is unsubscribed or the client is closed.
    Subscription,
    /// Lives until the result is complete.
    Query,
    /// Lives until the last acknowledgement.
    Command,
}

impl<S> Default for RouteTable<S> {
    fn default() -> RouteTable<S> {
        RouteTable { routes: HashMap::new() }
    }
}

impl<S: Clone> RouteTable<S> {
    pub(crate) fn get(&self, id: &str) -> Option<&Route<S>> {
        self.routes.get(id)
    }

    pub(crate) fn contains(&self, id: &str) -> bool {
        self.routes.contains_key(id)
    }

    /// Enters a route. A subscription takes the place of anything but a subscription, and whatever comes that of a query
    /// that is done; otherwise the existing route stays, which is what replacing a subscription relies on (M-3). `Ok` is
    /// the route that was replaced, `Err` the kind of the one that stays.
    pub(crate) fn insert(&mut self, id: &str, route: Route<S>) -> Result<Option<Route<S>>, RouteKind> {
        let subscribes = route.kind == RouteKind::Subscription;
        let stays = |old: &&Route<S>| old.kind == RouteKind::Subscription || !(subscribes || old.is_done);
        match self.routes.get(id).filter(stays) {
            Some(old) => Err(old.kind),
            None => Ok(self.routes.insert(id.to_owned(), route)),
        }
    }

    pub(crate) fn remove(&mut self, id: &str) -> Option<Route<S>> {
        self.routes.remove(id)
    }

    /// Takes out one route if this command has made it.
    pub(crate) fn remove_own(&mut self, id: &str, command: &str) -> Option<Route<S>> {
        self.routes.get(id).filter(|route| route.command == command)?;
        self.routes.remove(id)
    }

    /// Takes out the routes that end with their connection, of the commands for which `is_gone` holds.
    pub(crate) fn take_gone(&mut self, is_gone: impl Fn(&str) -> bool) -> Vec<(String, Route<S>)> {
        self.routes.extract_if(|_, route| !route.lasting && is_gone(&route.command)).collect()
    }

    /// Takes out everything, with its ids.
    pub(crate) fn take_all(&mut self) -> Vec<(String, Route<S>)> {
        self.routes.drain().collect()
    }

    /// Takes out all routes of one kind.
    pub(crate) fn take_kind(&mut self, kind: RouteKind) -> Vec<(String, Route<S>)> {
        self.routes.extract_if(|_, route| route.kind == kind).collect()
    }

    /// An acknowledgement of a command came for this id: where it is to be delivered, if it was asked for. Ends the route
    /// if it is the last one (M-4). One of another command does not concern a query or a command.
    pub(crate) fn acknowledge(
        &mut self,
        id: &str,
        command: Option<&str>,
        ack: AckType,
        refused: bool,
    ) -> Option<Delivery<S>> {
        let route = self.routes.get(id)?;
        let subscribes = route.kind == RouteKind::Subscription;
        if !subscribes && command.is_some_and(|command| command != route.command) {
            return None;
        }
        let asked = route.acks.intersects(ack);
        let sink = asked.then(|| route.sink.clone());
        let expected = asked || route.library.intersects(ack);
        let refused = refused && ack == AckType::PROCESSED;
        let ends = !subscribes && (refused || is_last(route.ends_with, ack));
        let ended = if ends { self.end(id) } else { None };
        Some(Delivery { sink, expected, ended })
    }

    /// A query's `group_end` came: ends the route if no acknowledgement will, or else says so once the user has got
    /// everything. Returns the sink of a route that is done.
    pub(crate) fn group_end(&mut self, id: &str) -> Option<S> {
        let route = self.routes.get_mut(id).filter(|route| route.kind == RouteKind::Query)?;
        if route.ends_with.is_empty() {
            return self.end(id);
        }
        if route.acks.intersects(AckType::COMPLETED | AckType::STATS) {
            return None;
        }
        route.is_done = true;
        Some(route.sink.clone())
    }

    /// Takes out a route, and the other one of the same command.
    fn end(&mut self, id: &str) -> Option<S> {
        let route = self.routes.remove(id)?;
        for other in [&route.command, &route.query] {
            if self.routes.get(other).is_some_and(|other| other.command == route.command) {
                self.routes.remove(other);
            }
        }
        Some(route.sink)
    }
}

/// What an acknowledgement means for its route.
#[derive(Debug)]
pub(crate) struct Delivery<S> {
    /// Where to deliver it, if it was asked for.
    pub(crate) sink: Option<S>,
    /// Somebody has asked for it.
    pub(crate) expected: bool,
    /// The route that ended with it.
    pub(crate) ended: Option<S>,
}

/// True if nothing is expected behind this acknowledgement. `completed` comes before `stats`, the others in the order of
/// their rank.
fn is_last(ends_with: AckType, ack: AckType) -> bool {
    !ends_with.is_empty() && ack.bits() >= ends_with.bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: RouteKind, acks: &str, ends_with: AckType) -> Route<&'static str> {
        let [command, query] = ["c", "q"].map(str::to_owned);
        let (acks, library, lasting) = (AckType::of(acks), AckType::PROCESSED, false);
        Route { sink: "sink", kind, lasting, command, query, acks, library, ends_with, is_done: false }
    }

    fn table(id: &str, route: Route<&'static str>) -> RouteTable<&'static str> {
        let mut table = RouteTable::default();
        assert!(table.insert(id, route).is_ok());
        table
    }

    /// M-3.
    #[test]
    fn a_subscription_keeps_its_route_and_takes_the_place_of_others() {
        let mut routes = table("a", route(RouteKind::Query, "", AckType::COMPLETED));
        assert!(routes.insert("a", route(RouteKind::Query, "", AckType::NONE)).is_err());
        let new = Route { sink: "new", ..route(RouteKind::Subscription, "", AckType::NONE) };
        assert_eq!(routes.insert("a", new).unwrap().map(|old| old.sink), Some("sink"));
        assert!(routes.insert("a", route(RouteKind::Subscription, "", AckType::NONE)).is_err());
        assert_eq!(routes.get("a").map(|r| r.sink), Some("new"));
    }

    /// M-4, M-5.
    #[test]
    fn acks_are_delivered_if_asked_for_and_the_last_ends_the_route() {
        let mut routes = table("q", route(RouteKind::Query, "stats", AckType::STATS));
        let first = routes.acknowledge("q", None, AckType::COMPLETED, false).unwrap();
        assert_eq!((first.sink, first.expected, first.ended), (None, false, None));
        assert!(routes.acknowledge("q", None, AckType::PROCESSED, false).unwrap().expected);
        let last = routes.acknowledge("q", None, AckType::STATS, false).unwrap();
        assert_eq!((last.sink, last.ended), (Some("sink"), Some("sink")));
        assert!(!routes.contains("q"));
    }

    #[test]
    fn a_query_without_acks_ends_with_its_group() {
        let mut routes = table("q", route(RouteKind::Query, "", AckType::NONE));
        assert!(routes.acknowledge("q", None, AckType::PROCESSED, false).unwrap().ended.is_none());
        assert_eq!(routes.group_end("q"), Some("sink"));
        assert_eq!(routes.group_end("q"), None);
        let mut routes = table("q", route(RouteKind::Query, "completed", AckType::COMPLETED));
        assert_eq!(routes.group_end("q"), None);
    }

    /// M-4: `completed` was asked for by the library only.
    #[test]
    fn a_query_that_is_done_makes_room_for_the_next_and_its_own_ack_does_not_end_that() {
        let mut routes = table("q", route(RouteKind::Query, "", AckType::COMPLETED));
        let again = || Route { command: "c2".to_owned(), ..route(RouteKind::Query, "", AckType::COMPLETED) };
        assert_eq!(routes.insert("q", again()).unwrap_err(), RouteKind::Query);
        assert_eq!(routes.group_end("q"), Some("sink"));
        assert!(routes.insert("q", again()).is_ok());
        assert!(routes.acknowledge("q", Some("c"), AckType::COMPLETED, false).is_none());
        assert!(routes.acknowledge("q", Some("c2"), AckType::COMPLETED, false).unwrap().ended.is_some());
    }

    #[test]
    fn both_routes_of_a_command_end_together() {
        let mut routes = table("q", route(RouteKind::Query, "completed", AckType::COMPLETED));
        assert!(routes.insert("c", route(RouteKind::Query, "completed", AckType::COMPLETED)).is_ok());
        assert!(routes.acknowledge("c", Some("c"), AckType::COMPLETED, false).unwrap().ended.is_some());
        assert!(!routes.contains("c") && !routes.contains("q"));
    }

    #[test]
    fn a_subscription_route_outlives_every_ack() {
        let mut routes =
            table("s", route(RouteKind::Subscription, "processed,completed", AckType::COMPLETED));
        assert!(routes.acknowledge("s", None, AckType::COMPLETED, false).unwrap().ended.is_none());
        assert_eq!(routes.group_end("s"), None);
        assert!(routes.contains("s"));
    }

    #[test]
    fn a_refusal_ends_a_query() {
        let mut routes = table("q", route(RouteKind::Query, "", AckType::COMPLETED));
        assert_eq!(routes.acknowledge("q", None, AckType::PROCESSED, true).unwrap().ended, Some("sink"));
    }

    #[test]
    fn taking_one_kind_leaves_the_others() {
        let mut routes = table("q", route(RouteKind::Query, "", AckType::NONE));
        assert!(routes.insert("s", route(RouteKind::Subscription, "", AckType::NONE)).is_ok());
        assert_eq!(routes.take_kind(RouteKind::Query).len(), 1);
        assert!(routes.contains("s"));
        assert_eq!(routes.take_all().len(), 1);
    }

    /// D-6 with decision 9.
    #[test]
    fn what_lasts_is_not_gone_with_its_connection() {
        let mut routes = table("q", route(RouteKind::Query, "", AckType::NONE));
        let lasting = Route { lasting: true, ..route(RouteKind::Subscription, "", AckType::NONE) };
        assert!(routes.insert("s", lasting).is_ok());
        assert_eq!(routes.take_gone(|_| true).len(), 1);
        assert!(routes.contains("s"));
    }
}
