//! The subscriptions of a client in memory: what is to be placed again after a logon, and how.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use parking_lot::Mutex;

use crate::client::{Client, FailedResubscribeHandler, Generation, SharedHandler, SubscriptionManager};
use crate::command::Command;
use crate::error::{Error, Result};
use crate::options::text;
use crate::wire::AckType;

/// Remembers subscriptions for as long as the process lives; the manager of an `HAClient` unless it is given another.
///
/// Subscriptions are placed again in the order in which they were placed; groups that were paused and resumed together come
/// last, from one common starting point. What is unsubscribed while a resubscription runs is not placed, or taken back.
/// Entries survive `close` and are placed again by a later logon.
///
/// ```
/// use amps_client::{MemorySubscriptionManager, SubscriptionManager};
/// use std::time::Duration;
///
/// let manager = MemorySubscriptionManager::new();
/// manager.set_resubscription_timeout(Some(Duration::from_secs(10)));
/// assert!(manager.is_empty());
/// ```
#[derive(Default)]
pub struct MemorySubscriptionManager {
    state: Mutex<State>,
    failed: Mutex<Option<Box<dyn FailedResubscribeHandler>>>,
}

#[derive(Default)]
struct State {
    /// In the order in which they were placed.
    entries: Vec<Entry>,
    groups: Vec<Group>,
    generation: Generation,
    timeout: Option<Duration>,
}

/// One subscription.
#[derive(Clone)]
struct Entry {
    sub_id: String,
    handler: SharedHandler,
    command: Command,
    acks: AckType,
}

/// Subscriptions that were paused and then resumed together.
#[derive(Clone)]
struct Group {
    ids: Vec<String>,
    command: Command,
}

/// What is to be placed, as of the beginning of a resubscription.
struct Plan {
    entries: Vec<Entry>,
    groups: Vec<Group>,
    timeout: Option<Duration>,
}

impl MemorySubscriptionManager {
    /// A manager without subscriptions.
    pub fn new() -> MemorySubscriptionManager {
        MemorySubscriptionManager::default()
    }

    /// How many subscriptions are remembered.
    pub fn len(&self) -> usize {
        self.state.lock().entries.len()
    }

    /// True if nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn begin(&self) -> Plan {
        let mut state = self.state.lock();
        state.generation = state.generation.next();
        Plan { entries: state.entries.clone(), groups: state.groups.clone(), timeout: state.timeout }
    }

    fn knows(&self, sub_id: &str) -> bool {
        self.state.lock().entries.iter().any(|entry| entry.sub_id == sub_id)
    }

    /// Places one subscription. One that was unsubscribed meanwhile is left out or taken back.
    fn place(&self, client: &Client, entry: &Entry, plan: &Plan) -> Result<()> {
        if !self.knows(&entry.sub_id) {
            return Ok(());
        }
        let command = plan.bounded(plan.command_of(client, entry));
        client.place_again(Some(&entry.handler), command, entry.acks)?;
        if self.knows(&entry.sub_id) { Ok(()) } else { client.unsubscribe(&entry.sub_id) }
    }

    /// True if a refused subscription was forgotten, so that the others may go on.
    fn forget(&self, entry: &Entry, error: &Error) -> bool {
        // Taken out for the call, so that no lock is held meanwhile.
        let Some(mut handler) = self.failed.lock().take() else { return false };
        let call = || handler.on_failed_resubscribe(&entry.command, entry.acks, error);
        let outcome = catch_unwind(AssertUnwindSafe(call));
        self.failed.lock().get_or_insert(handler);
        let forget = outcome.unwrap_or_else(|panic| resume_unwind(panic));
        if forget {
            self.unsubscribe(&entry.sub_id);
        }
        forget
    }
}

impl SubscriptionManager for MemorySubscriptionManager {
    fn subscribe(&self, handler: &SharedHandler, command: &Command, acks: AckType) -> Generation {
        let mut state = self.state.lock();
        let options = command.options_text().unwrap_or_default();
        if text::has(options, "resume") {
            state.resume(command);
        } else if text::has(options, "pause") {
            state.pause(handler, command, acks);
        } else if let Some(id) = command.sub_id_text() {
            state.enter(id, handler, without(command, "replace"), acks);
        }
        state.generation
    }

    fn unsubscribe(&self, sub_id: &str) {
        let removed: Vec<Entry> = {
            let mut state = self.state.lock();
            ids(sub_id).flat_map(|id| state.remove(id)).collect()
        };
        // Handlers are dropped with no lock held.
        drop(removed);
    }

    fn clear(&self) {
        let all = {
            let mut state = self.state.lock();
            state.groups.clear();
            std::mem::take(&mut state.entries)
        };
        drop(all);
    }

    fn resubscribe(&self, client: &Client) -> Result<()> {
        let plan = self.begin();
        let mut refused = Vec::new();
        for entry in &plan.entries {
            match self.place(client, entry, &plan) {
                Ok(()) => {}
                Err(error) if error.is_disconnect() => return Err(error),
                Err(error) => {
                    log::warn!(target: "amps::ha", "subscription `{}` was not placed again: {error}", entry.sub_id);
                    refused.push((entry, error));
                }
            }
        }
        for (entry, error) in refused {
            if !self.forget(entry, &error) {
                return Err(error);
            }
        }
        for group in &plan.groups {
            client.place_again(None, plan.bounded(group.command.clone()), AckType::NONE)?;
        }
        Ok(())
    }

    fn generation(&self) -> Generation {
        self.state.lock().generation
    }

    fn set_resubscription_timeout(&self, limit: Option<Duration>) {
        self.state.lock().timeout = limit;
    }

    fn set_failed_resubscribe_handler(&self, handler: Option<Box<dyn FailedResubscribeHandler>>) {
        let old = std::mem::replace(&mut *self.failed.lock(), handler);
        drop(old);
    }
}

impl Plan {
    /// What to send for one subscription: a paused member of a resumed group starts where the whole group does.
    fn command_of(&self, client: &Client, entry: &Entry) -> Command {
        let group = self.groups.iter().find(|group| group.ids.contains(&entry.sub_id));
        match group {
            Some(group) => {
                let members = self.entries.iter().filter(|entry| group.ids.contains(&entry.sub_id));
                let points: Vec<String> =
                    members.filter_map(|member| client.resume_point(&member.command)).collect();
                match common_point(&points) {
                    Some(point) => entry.command.clone().bookmark(point),
                    None => entry.command.clone(),
                }
            }
            None => match client.resume_point(&entry.command) {
                Some(point) => entry.command.clone().bookmark(point),
                None => entry.command.clone(),
            },
        }
    }

    fn bounded(&self, command: Command) -> Command {
        match self.timeout {
            Some(limit) => command.timeout(limit),
            None => command.without_timeout(),
        }
    }
}

impl State {
    /// Enters a subscription; one that is there keeps its place and its handler (SM-4).
    fn enter(&mut self, id: &str, handler: &SharedHandler, command: Command, acks: AckType) {
        match self.entries.iter_mut().find(|entry| entry.sub_id == id) {
            Some(entry) => {
                entry.command = command;
                entry.acks = acks;
            }
            None => {
                let sub_id = id.to_owned();
                self.entries.push(Entry { sub_id, handler: handler.clone(), command, acks });
            }
        }
    }

    /// Each of the listed subscriptions is paused; one that is there is only marked so, unless it is replaced (SM-14).
    fn pause(&mut self, handler: &SharedHandler, command: &Command, acks: AckType) {
        let replaces = text::has(command.options_text().unwrap_or_default(), "replace");
        let listed: Vec<String> = ids(command.sub_id_text().unwrap_or_default()).map(str::to_owned).collect();
        for id in &listed {
            self.leave_groups(id);
            match self.entries.iter_mut().find(|entry| entry.sub_id == *id) {
                Some(entry) if !replaces => {
                    let rest = text::without(entry.command.options_text().unwrap_or_default(), "pause");
                    let mut options = "pause".to_owned();
                    text::append(&mut options, &rest);
                    entry.command = entry.command.clone().options(options);
                }
                _ => self.enter(id, handler, without(command, "replace").sub_id(id), acks),
            }
        }
    }

    /// The listed subscriptions are resumed together; those that are in a group stay there (SM-15).
    fn resume(&mut self, command: &Command) {
        let grouped: HashSet<&String> = self.groups.iter().flat_map(|group| &group.ids).collect();
        let listed = ids(command.sub_id_text().unwrap_or_default()).map(str::to_owned);
        let fresh: Vec<String> = listed.filter(|id| !grouped.contains(id)).collect();
        if !fresh.is_empty() {
            let command = command.clone().sub_id(fresh.join(","));
            self.groups.push(Group { ids: fresh, command });
        }
    }

    fn remove(&mut self, id: &str) -> Option<Entry> {
        self.leave_groups(id);
        let at = self.entries.iter().position(|entry| entry.sub_id == id)?;
        Some(self.entries.remove(at))
    }

    /// Takes an id out of its group; a group without members is gone (SM-17).
    fn leave_groups(&mut self, id: &str) {
        self.groups.retain_mut(|group| {
            let before = group.ids.len();
            group.ids.retain(|member| member != id);
            if group.ids.len() != before {
                group.command = group.command.clone().sub_id(group.ids.join(","));
            }
            !group.ids.is_empty()
        });
    }
}

fn ids(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|id| !id.is_empty())
}

fn without(command: &Command, option: &str) -> Command {
    match command.options_text() {
        Some(options) => command.clone().options(text::without(options, option)),
        None => command.clone(),
    }
}

/// The point from which several subscriptions miss nothing: the lowest sequence of each publisher (SM-16). A point that is
/// not made of bookmarks counts as the beginning of the log.
fn common_point(points: &[String]) -> Option<String> {
    let mut lowest: Vec<(u64, u64)> = Vec::new();
    for point in points {
        for bookmark in point.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((publisher, sequence)) = crate::bookmark::bookmark_parts(bookmark.as_bytes()) else {
                return Some("0".to_owned());
            };
            match lowest.iter_mut().find(|(known, _)| *known == publisher) {
                Some((_, known)) => *known = sequence.min(*known),
                None => lowest.push((publisher, sequence)),
            }
        }
    }
    let text: Vec<String> =
        lowest.iter().map(|(publisher, sequence)| format!("{publisher}|{sequence}|")).collect();
    (!text.is_empty()).then(|| text.join(","))
}

impl fmt::Debug for MemorySubscriptionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let ids: Vec<&str> = state.entries.iter().map(|entry| entry.sub_id.as_str()).collect();
        f.debug_struct("MemorySubscriptionManager").field("subscriptions", &ids).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::handler_for_tests as handler;

    fn subscribed(manager: &MemorySubscriptionManager, command: Command) {
        manager.subscribe(&handler(), &command, AckType::NONE);
    }

    fn held(manager: &MemorySubscriptionManager) -> Vec<(String, String)> {
        let state = manager.state.lock();
        let shown = |entry: &Entry| {
            (entry.sub_id.clone(), entry.command.options_text().unwrap_or_default().to_owned())
        };
        state.entries.iter().map(shown).collect()
    }

    fn groups(manager: &MemorySubscriptionManager) -> Vec<String> {
        let state = manager.state.lock();
        state.groups.iter().map(|group| group.command.sub_id_text().unwrap_or_default().to_owned()).collect()
    }

    fn pair(id: &str, options: &str) -> (String, String) {
        (id.to_owned(), options.to_owned())
    }

    /// SM-3, SM-4.
    #[test]
    fn a_replaced_subscription_keeps_its_place_and_loses_the_word() {
        let manager = MemorySubscriptionManager::new();
        subscribed(&manager, Command::subscribe("t").sub_id("a"));
        subscribed(&manager, Command::subscribe("t").sub_id("b"));
        subscribed(&manager, Command::subscribe("t").sub_id("a").options("replace,oof"));
        assert_eq!(held(&manager), [pair("a", "oof"), pair("b", "")]);
        manager.unsubscribe("a, b");
        assert!(manager.is_empty());
        subscribed(&manager, Command::subscribe("t").sub_id("c"));
        manager.clear();
        assert!(manager.is_empty());
    }

    /// SM-14.
    #[test]
    fn pausing_marks_what_is_there_and_enters_what_is_not() {
        let manager = MemorySubscriptionManager::new();
        subscribed(&manager, Command::subscribe("t").sub_id("a").options("oof"));
        subscribed(&manager, Command::subscribe("t").sub_id("a,b").options("pause"));
        assert_eq!(held(&manager), [pair("a", "pause,oof"), pair("b", "pause")]);
        subscribed(&manager, Command::subscribe("t").sub_id("a").options("pause,replace"));
        assert_eq!(held(&manager)[0], pair("a", "pause"));
    }

    /// SM-14, SM-15, SM-17.
    #[test]
    fn what_is_resumed_together_stays_together_until_it_is_paused_or_goes() {
        let manager = MemorySubscriptionManager::new();
        subscribed(&manager, Command::subscribe("t").sub_id("a,b,c").options("pause"));
        subscribed(&manager, Command::subscribe("t").sub_id("a,b").options("resume"));
        subscribed(&manager, Command::subscribe("t").sub_id("b,c").options("resume"));
        assert_eq!(groups(&manager), ["a,b", "c"]);
        subscribed(&manager, Command::subscribe("t").sub_id("a").options("pause"));
        assert_eq!(groups(&manager), ["b", "c"]);
        manager.unsubscribe("c");
        assert_eq!(groups(&manager), ["b"]);
        manager.unsubscribe("b");
        assert!(groups(&manager).is_empty());
    }

    /// SM-16.
    #[test]
    fn a_group_starts_at_the_lowest_point_of_each_publisher() {
        let point =
            |points: &[&str]| common_point(&points.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(point(&["1|5|", "1|3|"]).as_deref(), Some("1|3|"));
        assert_eq!(point(&["1|5|,2|7|", "2|9|"]).as_deref(), Some("1|5|,2|7|"));
        assert_eq!(point(&["1|5|", "0"]).as_deref(), Some("0"));
        assert_eq!(point(&[]), None);
    }

    #[test]
    fn every_resubscription_begins_a_generation() {
        let manager = MemorySubscriptionManager::new();
        let entered = manager.subscribe(&handler(), &Command::subscribe("t").sub_id("a"), AckType::NONE);
        assert_eq!(entered, manager.generation());
        manager.begin();
        assert!(entered < manager.generation());
    }
}
