//! The worlds behind one lock, and the links between them.

use super::Item;
use crate::testing::clock::Time;
use crate::testing::world::World;

/// The worlds of linked instances, or the one of instances that share everything. There is at least one.
#[derive(Debug)]
pub(crate) struct Worlds {
    first: World,
    others: Vec<World>,
    links: Vec<LinkState>,
    /// Which of them are running.
    running: Vec<bool>,
}

/// A link: what happens in one world is copied to another.
#[derive(Debug)]
pub(crate) struct LinkState {
    from: usize,
    to: usize,
    /// The next item to copy.
    position: u64,
    /// How many items may be copied; `None`: all.
    pub(crate) allowed: Option<u64>,
    /// Whether publishers are told that a message is safe only when it was copied.
    pub(crate) is_synchronous: bool,
}

impl Worlds {
    pub(crate) fn one(world: World) -> Worlds {
        Worlds { first: world, others: Vec::new(), links: Vec::new(), running: Vec::new() }
    }

    /// Worlds of which each tells all others.
    pub(crate) fn linked(first: World, others: Vec<World>) -> Worlds {
        let count = others.len() + 1;
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        let link = |(from, to)| LinkState { from, to, position: 0, allowed: None, is_synchronous: false };
        let links = pairs.filter(|(from, to)| from != to).map(link).collect();
        Worlds { first, others, links, running: vec![false; count] }
    }

    pub(crate) fn get(&self, index: usize) -> &World {
        index.checked_sub(1).and_then(|index| self.others.get(index)).unwrap_or(&self.first)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut World {
        index.checked_sub(1).and_then(|index| self.others.get_mut(index)).unwrap_or(&mut self.first)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &World> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut World> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// The link between two worlds.
    pub(crate) fn link_mut(&mut self, from: usize, to: usize) -> Option<&mut LinkState> {
        self.links.iter_mut().find(|link| link.from == from && link.to == to)
    }

    /// How many items a link has still to copy.
    pub(crate) fn pending(&self, from: usize, to: usize) -> u64 {
        let link = self.links.iter().find(|link| link.from == from && link.to == to);
        link.map_or(0, |link| self.get(from).ledger.end().saturating_sub(link.position))
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.iter().filter_map(World::next_deadline).min()
    }

    /// Does everything that is due by now; false if there was nothing.
    pub(crate) fn settle(&mut self, now: Time) -> bool {
        let mut any = false;
        for world in self.iter_mut() {
            world.now = now;
            any |= world.settle();
        }
        any
    }

    /// Copies what the links let through.
    pub(crate) fn replicate(&mut self) {
        for index in 0..self.links.len() {
            while let Some((to, item)) = self.next_copy(index) {
                self.get_mut(to).copy(&item);
            }
        }
        if !self.links.is_empty() {
            (0..=self.others.len()).for_each(|index| self.confirm(index));
        }
    }

    /// The next item that a link copies, and where to.
    fn next_copy(&mut self, index: usize) -> Option<(usize, Item)> {
        let link = self.links.get(index)?;
        let runs = |world: usize| self.running.get(world).copied().unwrap_or(false);
        if link.allowed == Some(0) || !runs(link.from) || !runs(link.to) {
            return None;
        }
        let ledger = &self.get(link.from).ledger;
        let position = link.position.max(ledger.first);
        let item = ledger.get(position)?.clone();
        let link = self.links.get_mut(index)?;
        link.position = position + 1;
        link.allowed = link.allowed.map(|allowed| allowed - 1);
        Some((link.to, item))
    }

    /// Tells a world which of its items all others have, or all that are waited for.
    fn confirm(&mut self, index: usize) {
        let end = self.get(index).ledger.end();
        let own = || self.links.iter().filter(|link| link.from == index);
        let copied = own().map(|link| link.position).min().unwrap_or(end);
        let waited_for = own().filter(|link| link.is_synchronous).map(|link| link.position).min();
        let world = self.get_mut(index);
        world.ledger.forget(copied);
        if world.ledger.confirm(waited_for.unwrap_or(end)) {
            world.confirmed();
        }
    }

    /// An instance starts. Messages of its queues that others took over meanwhile stay with those.
    pub(crate) fn start(&mut self, index: usize) {
        self.set_running(index, true);
        for other in (0..self.running.len()).filter(|other| *other != index) {
            for (topic, mark, home) in self.get(other).queue_homes() {
                if home != index {
                    self.get_mut(index).move_queued(&topic, mark, home);
                }
            }
        }
    }

    /// An instance stops. The first of those that go on takes over the messages that were for it to deliver.
    pub(crate) fn stop(&mut self, index: usize) {
        self.set_running(index, false);
        let Some(heir) = self.running.iter().position(|runs| *runs) else { return };
        for other in (0..self.running.len()).filter(|other| *other != index) {
            self.get_mut(other).inherit_queued(index, heir);
        }
    }

    fn set_running(&mut self, index: usize, runs: bool) {
        self.running.get_mut(index).into_iter().for_each(|running| *running = runs);
    }
}
