//! A publisher with a file store is killed, over and over, at moments nobody chose: nothing that was kept is lost, and
//! nothing torn comes back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use amps_client::{FilePublishStore, FilePublishStoreOptions, PublishStore, Selector, StoreEntry};

use crate::support::publish_stores::{publish, small_file};
use crate::support::{Random, TempDir};

const KILLS: u64 = 220;
/// The publisher process finds its store and its seed here.
const PATH: &str = "AMPS_TEST_CRASH_PATH";
const SEED: &str = "AMPS_TEST_CRASH_SEED";

/// Small segments, so that they are used again often, and files that grow often.
fn options() -> FilePublishStoreOptions {
    small_file().growth(3 * 4096)
}

/// A payload that proves itself: its length and a seed, and what follows from them.
fn payload(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = [seed.to_le_bytes(), (length as u64).to_le_bytes()].concat();
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length.max(16));
    bytes
}

/// The seed and the length of a payload that is whole.
fn proven(bytes: &[u8]) -> Option<(u64, usize)> {
    let seed = u64::from_le_bytes(*bytes.first_chunk()?);
    (payload(seed, bytes.len()) == bytes).then_some((seed, bytes.len()))
}

/// Stores and discards until it is killed, and says on its standard output what it does: `S number seed length` after a
/// message is stored, `D number` before a discard.
#[test]
fn publisher_process() {
    let (Some(path), Ok(seed)) = (std::env::var_os(PATH), std::env::var(SEED)) else { return };
    let mut random = Random::new(seed.parse().unwrap());
    // The first line must not share one with the test harness.
    let mut out = std::io::stdout().lock();
    writeln!(out).unwrap();
    let store = options().truncate_on_close(random.one_in(2)).open(path).unwrap();
    writeln!(out, "open").unwrap();
    for round in 0..200_000 {
        if random.one_in(if store.unpersisted_count() > 100 { 4 } else { 40 }) {
            let lowest = store.lowest_unpersisted().unwrap_or_default();
            let number = lowest + random.below(store.unpersisted_count() as u64 + 1);
            writeln!(out, "D {number}").unwrap();
            store.discard_up_to(number).unwrap();
        } else {
            let seed = random.next() ^ round;
            let longest = if random.one_in(30) { 15_000 } else { 300 };
            let length = 16 + random.below(longest) as usize;
            let number = store.store(&publish(&payload(seed, length))).unwrap();
            writeln!(out, "S {number} {seed} {length}").unwrap();
        }
    }
}

/// What must be in the store, judged by what was said.
#[derive(Default)]
struct Expected {
    stored: BTreeMap<u64, (u64, usize)>,
    /// The highest number for which a discard was announced.
    discarded: u64,
    /// A discard of nothing was announced, which on a new store settles where its numbers begin.
    settled: bool,
}

impl Expected {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["S", number, seed, length] => {
                let content = (seed.parse().unwrap(), length.parse().unwrap());
                self.stored.insert(number.parse().unwrap(), content);
            }
            ["D", "0"] => self.settled = true,
            ["D", number] => self.discarded = self.discarded.max(number.parse().unwrap()),
            _ => {}
        }
    }

    /// Compares with the store that the killed process has left.
    fn check(&mut self, path: &Path) {
        let store = options().open(path).unwrap();
        assert_eq!(store.damaged(), [], "a killed process leaves no damage");
        let last_said = self.stored.keys().next_back().copied().unwrap_or(0).max(store.last_persisted());
        let mut found = BTreeMap::new();
        let mut collect = |number: u64, entry: &StoreEntry<'_>| {
            let Selector::Data(data) = entry.selector else { panic!("{number}: {entry:?}") };
            let content = proven(data).unwrap_or_else(|| panic!("{number} is torn"));
            assert!(found.last_key_value().is_none_or(|(last, _)| *last < number), "{number} comes late");
            found.insert(number, content);
            Ok(())
        };
        store.replay(&mut collect).unwrap();
        for (number, content) in self.stored.range(self.discarded + 1..) {
            assert_eq!(found.get(number), Some(content), "message {number}");
        }
        for (number, content) in &found {
            match self.stored.get(number) {
                Some(said) => assert_eq!(content, said, "message {number}"),
                // It was stored, but there was no time to say so.
                None => assert!(*number == last_said + 1 || last_said == 0, "{number} after {last_said}"),
            }
        }
        assert_eq!(store.unpersisted_count(), found.len());
        let before_first = found.keys().chain(self.stored.keys()).min().map_or(u64::MAX, |first| first - 1);
        let settled = if self.settled { before_first } else { 0 };
        assert!(store.last_persisted() <= self.discarded.max(settled));

        let (seed, length) = (last_said ^ 7, 40);
        let next = store.store(&publish(&payload(seed, length))).unwrap();
        let highest = found.keys().next_back().copied().unwrap_or(0).max(last_said);
        assert!(next > highest, "{next} is used again after {highest}");
        assert!(next <= highest + 1 || highest == 0, "{next} skips some after {highest}");
        found.insert(next, (seed, length));
        *self = Expected { stored: found, discarded: store.last_persisted(), settled: false };
    }
}

fn start(path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "publish_crash::publisher_process", "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// 113, PS-23.
#[test]
fn a_killed_publisher_has_lost_nothing() {
    let seed = std::env::var("AMPS_TEST_SEED").map_or_else(
        |_| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("AMPS_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let dir = TempDir::new();
    let path = dir.join("killed");
    let mut expected = Expected::default();
    for kill in 0..KILLS {
        if random.one_in(15) {
            let _ = std::fs::remove_file(&path);
            expected = Expected::default();
        }
        let mut child = start(&path, seed ^ kill);
        // The child runs ahead of what is read, so where the kill meets it is left to chance.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().take(random.below(400) as usize) {
            expected.hear(&line.unwrap());
        }
        child.kill().unwrap();
        lines.map_while(Result::ok).for_each(|line| expected.hear(&line));
        child.wait().unwrap();
        expected.check(&path);
    }
}

/// 115, 143, PS-23, PS-25.
#[test]
fn an_orderly_end_keeps_what_is_not_acknowledged() {
    let dir = TempDir::new();
    let store = FilePublishStore::open(dir.join("orderly")).unwrap();
    let numbers = [b"1", b"2", b"3"].map(|data| store.store(&publish(data)).unwrap());
    store.discard_up_to(numbers[0]).unwrap();
    drop(store);
    let store = FilePublishStore::open(dir.join("orderly")).unwrap();
    assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (2, Some(numbers[1])));
    assert_eq!(store.last_persisted(), numbers[0]);
    assert_eq!(store.store(&publish(b"4")).unwrap(), numbers[2] + 1);
}
