//! Bookmark stores against a naive model: random sequences of messages, discards, persisted acknowledgements, reconnects,
//! failovers and restarts. After each step both must agree, and whatever the server replays from the place that the store
//! names must hold everything the application still needs: no message is ever skipped, and none that was discarded is ever
//! delivered again.

use crate::support::bookmark_stores::{Kind, SUB, message};
use crate::support::{Random, TempDir};
use amps_client::{BookmarkStore, Message, Receipt};

const SEQUENCES: u64 = 10_000;
/// At most so many steps in a row.
const STEPS: u64 = 26;
/// Messages in the log of a server.
const LOG: usize = 13;
const PUBLISHERS: u64 = 3;

/// Publisher and sequence.
type Place = (u64, u64);

/// A bookmark store as one would write it on the back of an envelope: it keeps everything and looks everything up.
#[derive(Default)]
struct Model {
    /// Every message that came, in order, and whether the application is done with it.
    history: Vec<(Place, bool)>,
    /// What was delivered in this process.
    delivered: Vec<Place>,
    persisted: Option<Place>,
    /// What else stood in the recovery point that this process began with.
    listed: Vec<Place>,
    /// The recovery point at the time when what is discarded or persisted last moved it.
    kept: Vec<Place>,
}

impl Model {
    /// Whether it is new.
    fn receive(&mut self, place: Place) -> bool {
        let known = self.history.iter().find(|(known, _)| *known == place);
        let top = self.history.iter().filter(|(known, _)| known.0 == place.0).map(|(known, _)| known.1).max();
        let is_new = match known {
            Some((_, discarded)) => !discarded,
            None => top < Some(place.1),
        };
        if is_new {
            self.delivered.push(place);
            if known.is_none() {
                self.history.push((place, false));
            }
        }
        is_new
    }

    fn discard(&mut self, place: Place) {
        let done = self.done().count();
        self.history.iter_mut().filter(|(known, _)| *known == place).for_each(|entry| entry.1 = true);
        if self.done().count() > done {
            self.kept = self.recovery_point();
        }
    }

    fn persisted(&mut self, place: Place) {
        if self.persisted.is_none_or(|known| known.0 != place.0 || known.1 < place.1) {
            self.persisted = Some(place);
            self.kept = self.recovery_point();
        }
    }

    /// What is discarded with everything before it.
    fn done(&self) -> impl Iterator<Item = Place> {
        self.history.iter().take_while(|(_, discarded)| *discarded).map(|(place, _)| *place)
    }

    fn outstanding(&self) -> Vec<Place> {
        self.history.iter().filter(|(_, discarded)| !discarded).map(|(place, _)| *place).collect()
    }

    /// BS-13 without its second rule.
    fn point(&self, unpersisted: Vec<Place>) -> Vec<Place> {
        let recent = self.done().last();
        match (self.persisted, recent) {
            (None, _) => unpersisted,
            (Some(persisted), _) if self.outstanding().is_empty() => vec![persisted],
            (Some(_), None) => Vec::new(),
            (Some(persisted), Some(recent)) if persisted.0 == recent.0 => vec![persisted.min(recent)],
            (Some(persisted), Some(recent)) => vec![recent, persisted],
        }
    }

    /// What a server may be asked to go on from.
    fn named(&self) -> impl Iterator<Item = Place> {
        self.delivered.iter().copied().chain(self.done()).chain(self.listed.iter().copied())
    }

    /// BS-13.
    fn most_recent(&self) -> Vec<Place> {
        let recent = self.done().last();
        let mut list: Vec<Place> = Vec::new();
        let came = self.history.iter().map(|(place, _)| place);
        for publisher in self.history.iter().take(1).map(|(place, _)| place).chain(&self.listed).chain(came) {
            let highest = self.named().filter(|place| place.0 == publisher.0).max();
            let listed =
                highest.map(|place| recent.filter(|r| r.0 == place.0 && *r < place).unwrap_or(place));
            if let Some(place) = listed.filter(|place| !list.contains(place)) {
                list.push(place);
            }
        }
        self.point(list)
    }

    /// BS-29.
    fn recovery_point(&self) -> Vec<Place> {
        let recent = self.done().last();
        let done = |listed: &Place| self.done().filter(|place| place.0 == listed.0).max();
        let others = self.listed.iter().filter(|place| recent.is_some_and(|recent| recent.0 != place.0));
        let others = others.map(|place| done(place).map_or(*place, |done| done.max(*place)));
        self.point(recent.into_iter().chain(others).collect())
    }

    /// The process ends, and another one begins with what this kind of store has kept.
    fn restart(&mut self, kind: Kind) {
        match kind {
            Kind::Memory => *self = Model::default(),
            Kind::Logged => self.delivered.clear(),
            Kind::Ring => {
                let kept = std::mem::take(&mut self.kept);
                let history = kept.iter().take(1).map(|place| (*place, true)).collect();
                let listed = kept.iter().skip(1).copied().collect();
                *self = Model { history, listed, kept, ..Model::default() };
            }
        }
    }
}

/// A store, its model, a server, and an application.
struct World<'a> {
    kind: Kind,
    dir: &'a TempDir,
    store: Box<dyn BookmarkStore>,
    model: Model,
    messages: &'a [Vec<Message>],
    /// The log of the server.
    log: Vec<Place>,
    /// What came from any server, in the order in which the store learned of it.
    arrived: Vec<Place>,
    /// The next message of it that comes.
    cursor: usize,
    /// What the application needs to get: what never came, and after a restart what it had not discarded.
    needed: Vec<Place>,
    /// What an earlier process had in hand.
    left: Vec<Place>,
    /// What the application has in hand.
    held: Vec<Place>,
    random: Random,
}

fn text(places: &[Place]) -> String {
    let texts: Vec<String> = places.iter().map(|(p, s)| format!("{p}|{s}|")).collect();
    if texts.is_empty() { "0".to_owned() } else { texts.join(",") }
}

impl World<'_> {
    fn message(&self, place: Place) -> &Message {
        &self.messages[place.0 as usize][place.1 as usize]
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..9 => self.receive(),
            9..15 => self.discard(),
            15 | 16 => self.persist(),
            // It waits for the device.
            17 if self.random.one_in(50) => self.store.prune().unwrap(),
            18 if self.random.one_in(2) => self.fail_over(),
            18 => self.restart(),
            19 => self.reconnect(),
            _ => (),
        }
        assert_eq!(self.store.most_recent(SUB).unwrap().as_str(), text(&self.model.most_recent()));
        assert_eq!(self.store.outstanding(SUB), self.model.outstanding().len());
    }

    fn receive(&mut self) {
        let Some(place) = self.log.get(self.cursor).copied() else { return };
        self.cursor += 1;
        if !self.arrived.contains(&place) {
            self.arrived.push(place);
        }
        let is_new = self.model.receive(place);
        assert_eq!(self.store.is_discarded(self.message(place)).unwrap(), !is_new, "{place:?}");
        let receipt = self.store.receive(self.message(place)).unwrap();
        assert_eq!(receipt != Receipt::Duplicate, is_new, "{place:?}");
        let needed = self.needed.iter().position(|needed| *needed == place);
        match needed {
            Some(at) => {
                assert!(is_new, "{place:?} is kept from the application");
                self.needed.remove(at);
                self.held.push(place);
            }
            // A ring does not remember what was discarded out of turn.
            None => assert!(
                !is_new || self.held.contains(&place) || self.kind == Kind::Ring,
                "{place:?} comes twice"
            ),
        }
    }

    fn discard(&mut self) {
        if self.held.is_empty() {
            return;
        }
        // Mostly one of the first.
        let among =
            if self.random.one_in(3) { self.held.len() as u64 } else { 2.min(self.held.len() as u64) };
        let place = self.held.remove(self.random.below(among) as usize);
        self.store.discard(self.message(place)).unwrap();
        self.model.discard(place);
    }

    /// The server says that everything up to one of the messages it has sent is safe.
    fn persist(&mut self) {
        if self.cursor > 0 {
            let place = self.log[self.random.below(self.cursor as u64) as usize];
            self.store.persisted(SUB, &text(&[place])).unwrap();
            self.model.persisted(place);
        }
    }

    /// The server replays from the earliest of the listed places.
    fn reconnect(&mut self) {
        let point = self.model.most_recent();
        let listed = point.iter().filter_map(|place| self.log.iter().position(|known| known == place));
        self.cursor = listed.min().map_or(0, |at| at + 1);
        for needed in &self.needed {
            assert!(self.log[self.cursor..].contains(needed), "{needed:?} is skipped by {}", text(&point));
        }
    }

    /// A new process meets a server that has the messages in the order in which they came: to go on elsewhere is for a
    /// process that still holds what it was given.
    fn restart(&mut self) {
        self.store = Kind::Memory.open(self.dir);
        self.store = self.kind.open(self.dir);
        self.model.restart(self.kind);
        self.left.extend(&self.held);
        self.needed.append(&mut self.held);
        if self.kind == Kind::Memory {
            self.needed = self.log.clone();
        }
        self.log.sort_by_key(|place| {
            self.arrived.iter().position(|arrived| arrived == place).unwrap_or(usize::MAX)
        });
        self.reconnect();
        if self.kind != Kind::Logged {
            self.arrived = self.log[..self.cursor].to_vec();
        }
    }

    /// Another server has the messages in another order, but for three things: each publisher's are in order; those that
    /// are persisted are before the others; and a publisher that the store names no place of is not before those it does:
    /// nothing came of it yet, or nothing since a restart. Nor is this for a process that has yet to get what the one before
    /// had in hand.
    fn fail_over(&mut self) {
        if self.left.iter().any(|place| self.needed.contains(place)) {
            return;
        }
        let persisted =
            self.model.persisted.and_then(|place| self.log.iter().position(|known| *known == place));
        let rest = self.log.split_off(persisted.map_or(0, |at| at + 1));
        let named: Vec<Place> = self.model.named().collect();
        let is_named = |place: &Place| named.iter().any(|known| known.0 == place.0);
        let (known, unknown) = rest.into_iter().partition(is_named);
        let safe = std::mem::take(&mut self.log);
        let shuffled = [safe, known, unknown].map(|part| shuffled(part, &mut self.random));
        self.log = shuffled.concat();
        self.reconnect();
    }
}

/// The same places in another order, each publisher's in theirs.
fn shuffled(mut places: Vec<Place>, random: &mut Random) -> Vec<Place> {
    let mut shuffled = Vec::new();
    while !places.is_empty() {
        let publisher = places[random.below(places.len() as u64) as usize].0;
        let first = places.iter().position(|place| place.0 == publisher).unwrap();
        shuffled.push(places.remove(first));
    }
    shuffled
}

/// The log of a server.
fn server_log(random: &mut Random) -> Vec<Place> {
    let mut sequences = [0; PUBLISHERS as usize + 1];
    let publishers = 1 + random.below(PUBLISHERS);
    let next = |_| {
        let publisher = 1 + random.below(publishers);
        sequences[publisher as usize] += 1;
        (publisher, sequences[publisher as usize])
    };
    (0..LOG).map(next).collect()
}

fn run(kind: Kind, dir: &TempDir, messages: &[Vec<Message>], seed: u64) {
    let mut random = Random::new(seed);
    for file in ["test.log", "test.ring"] {
        let _ = std::fs::remove_file(dir.join(file));
    }
    let store = kind.open(dir);
    let log = server_log(&mut random);
    let steps = random.below(STEPS);
    let (model, needed, left) = (Model::default(), log.clone(), Vec::new());
    let mut world = World {
        kind,
        dir,
        store,
        model,
        messages,
        log,
        arrived: Vec::new(),
        cursor: 0,
        needed,
        left,
        held: Vec::new(),
        random,
    };
    for _ in 0..steps {
        world.step();
    }
    // In the end everything has come, however it went.
    world.reconnect();
    while world.cursor < world.log.len() {
        world.receive();
    }
    assert_eq!(world.needed, []);
}

fn agrees_with_the_model(kind: Kind) {
    let seed = std::env::var("AMPS_TEST_SEED").map_or_else(
        |_| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    let message = |publisher, sequence| message(SUB, &format!("{publisher}|{sequence}|"));
    let messages: Vec<Vec<Message>> = (0..=PUBLISHERS)
        .map(|publisher| (0..=LOG).map(|sequence| message(publisher, sequence)).collect())
        .collect();
    let dir = TempDir::in_memory();
    for sequence in 0..SEQUENCES {
        println!("AMPS_TEST_SEED={}", seed ^ sequence);
        run(kind, &dir, &messages, seed ^ sequence);
    }
}

#[test]
fn a_memory_store_agrees_with_the_model() {
    agrees_with_the_model(Kind::Memory);
}

/// 121, BS-17, BS-18, BS-23.
#[test]
fn a_logged_store_agrees_with_the_model() {
    agrees_with_the_model(Kind::Logged);
}

/// BS-28.
#[test]
fn a_ring_store_agrees_with_the_model() {
    agrees_with_the_model(Kind::Ring);
}
