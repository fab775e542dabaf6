//! Publish stores against a naive model: random operations, and after each of them both must agree.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::publish_stores::{File, Hybrid, Kind, Memory, Owned, replayed, single};
use crate::support::{Random, TempDir};
use amps_client::{AckType, CommandType, ErrorKind, PublishStore, Selector, StoreEntry};

const SEQUENCES: u64 = 10_000;
/// At most so many operations in a row.
const LENGTH: u64 = 24;

/// A publish store as one would write it on the back of an envelope.
#[derive(Default)]
struct Model {
    kept: BTreeMap<u64, Owned>,
    /// The last number given out.
    assigned: u64,
    persisted: u64,
    /// A server has confirmed the persisted number.
    confirmed: bool,
    gap_is_error: bool,
}

impl Model {
    fn store(&mut self, number: u64, entry: Owned) {
        let above = self.assigned.max(self.persisted);
        if self.assigned == 0 && !(self.persisted > 0 && !self.confirmed) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
            assert!(number > above && number > (now - 60_000) * 1_000_000, "the first number is {number}");
        } else {
            assert_eq!(number, above + 1, "the next number");
        }
        self.assigned = number;
        self.kept.insert(number, entry);
    }

    /// Whether it succeeds.
    fn discard(&mut self, number: u64, store: &dyn PublishStore) -> bool {
        if number == 0 {
            if self.persisted == 0 {
                let before_first = self.kept.first_key_value().map(|(first, _)| first - 1);
                self.persisted = before_first.unwrap_or_else(|| store.last_persisted());
                assert!(self.persisted > 0);
            }
            return true;
        }
        if number < self.persisted {
            return !(self.gap_is_error && self.confirmed);
        }
        self.persisted = number;
        self.confirmed = true;
        self.kept.retain(|kept, _| *kept > number);
        true
    }

    /// A number that means something, or almost.
    fn some_number(&self, random: &mut Random) -> u64 {
        let lowest = self.kept.first_key_value().map_or(self.persisted, |(lowest, _)| *lowest);
        match random.below(12) {
            0 => 0,
            1 => random.below(1000),
            2 => self.assigned.max(self.persisted) + random.below(5),
            _ => (lowest + random.below(self.kept.len() as u64 + 2)).saturating_sub(1),
        }
    }
}

/// What a random entry is made of.
struct Content {
    data: Vec<u8>,
    text: String,
    form: u64,
}

impl Content {
    fn new(random: &mut Random) -> Content {
        let size = match random.below(20) {
            0 => random.below(20_000),
            1 => 4096 - 200 + random.below(250),
            2 => 0,
            _ => random.below(300),
        };
        let data = (0..size).map(|_| random.next() as u8).collect();
        let text = (0..1 + random.below(10)).map(|_| ['a', '"', '\\', 'ü', ','][random.below(5) as usize]);
        Content { data, text: text.collect(), form: random.below(12) }
    }

    fn entry(&self) -> StoreEntry<'_> {
        let data = Selector::Data(&self.data);
        let delete = |selector| StoreEntry::new(CommandType::SowDelete, "orders", selector);
        match self.form {
            0 => delete(Selector::Filter(&self.text)),
            1 => delete(Selector::SowKeys(&self.text)).with_acks(AckType::STATS),
            2 => delete(Selector::Bookmark(&self.text)).with_options("cancel"),
            3 => delete(data).with_command_id(&self.text),
            4 => StoreEntry::new(CommandType::DeltaPublish, &self.text, data).with_expiration(9),
            _ => StoreEntry::new(CommandType::Publish, "orders", data),
        }
    }
}

fn agree(store: &dyn PublishStore, model: &Model) {
    assert_eq!(store.unpersisted_count(), model.kept.len(), "unpersisted_count");
    assert_eq!(store.lowest_unpersisted(), model.kept.keys().next().copied(), "lowest_unpersisted");
    assert_eq!(store.last_persisted(), model.persisted, "last_persisted");
    assert_eq!(store.error_on_publish_gap(), model.gap_is_error);
}

fn step(store: &dyn PublishStore, model: &mut Model, random: &mut Random) {
    match random.below(16) {
        0..8 => {
            let content = Content::new(random);
            let number = store.store(&content.entry()).unwrap();
            model.store(number, Owned::of(&content.entry()));
        }
        8..12 => {
            let number = model.some_number(random);
            let discarded = store.discard_up_to(number);
            let kind = discarded.as_ref().err().map(|error| error.kind());
            let expected = if model.discard(number, store) { None } else { Some(ErrorKind::PublishStoreGap) };
            assert_eq!(kind, expected, "discard_up_to({number})");
        }
        12 => {
            let number = model.some_number(random);
            assert!(single(store, number) == model.kept.get(&number).cloned(), "replay_single({number})");
        }
        13 => {
            let flushed = store.flush(Some(Duration::ZERO));
            assert_eq!(flushed.is_ok(), model.kept.is_empty(), "flush");
        }
        14 => {
            model.gap_is_error = random.one_in(2);
            store.set_error_on_publish_gap(model.gap_is_error);
        }
        _ => check_replay(store, model),
    }
}

fn check_replay(store: &dyn PublishStore, model: &Model) {
    let expected = model.kept.iter().map(|(number, entry)| (*number, entry.clone()));
    assert!(replayed(store).into_iter().eq(expected), "replay");
}

fn one_sequence(kind: &dyn Kind, seed: u64) {
    let mut random = Random::new(seed);
    let dir = TempDir::new();
    let mut store = kind.open(&dir);
    let mut model = Model::default();
    for _ in 0..1 + random.below(LENGTH) {
        step(&*store, &mut model, &mut random);
        agree(&*store, &model);
        if kind.is_durable() && random.one_in(10) {
            drop(store);
            store = kind.open(&dir);
            store.set_error_on_publish_gap(model.gap_is_error);
            agree(&*store, &model);
            check_replay(&*store, &model);
        }
    }
    check_replay(&*store, &model);
    assert!(store.take_damage_reports().is_empty());
}

fn agrees_with_the_model(kind: &dyn Kind) {
    for seed in 0..SEQUENCES {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one_sequence(kind, seed)));
        if run.is_err() {
            panic!("the {} store and the model part with seed {seed}", kind.name());
        }
    }
}

#[test]
fn the_memory_store_agrees_with_the_model() {
    agrees_with_the_model(&Memory);
}

#[test]
fn the_file_store_agrees_with_the_model() {
    agrees_with_the_model(&File);
}

#[test]
fn the_hybrid_store_agrees_with_the_model() {
    agrees_with_the_model(&Hybrid);
}
