//! A subscriber with a durable bookmark store is killed, over and over, at moments nobody chose: it goes on where no message
//! is skipped, and what was discarded does not come again beyond what its kind of store promises.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use amps_client::{Bookmark, BookmarkKind, BookmarkStore, Message, Receipt};

use crate::support::bookmark_stores::{Kind, SUB, message};
use crate::support::{Random, TempDir};

const KILLS: u64 = 120;
/// The subscriber process finds its kind of store, its file, its seed and its ways here.
const KIND: &str = "AMPS_TEST_CRASH_KIND";
const PATH: &str = "AMPS_TEST_CRASH_PATH";
const SEED: &str = "AMPS_TEST_CRASH_SEED";
const WITH_PERSISTED: &str = "AMPS_TEST_CRASH_PERSISTED";

/// The message at this index of the log of a server, which begins at 1. Its sequence is its index, so that any place says
/// where in the log it is; whose it is looks like chance.
fn bookmark_at(index: u64) -> String {
    format!("{}|{index}|", publisher_at(index))
}

fn publisher_at(index: u64) -> u64 {
    (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62) + 1
}

fn message_at(index: u64) -> Message {
    message(SUB, &bookmark_at(index))
}

/// The index behind which a server goes on: that of the earliest of the listed places.
fn resume_index(store: &dyn BookmarkStore) -> u64 {
    let point = store.most_recent(SUB).unwrap();
    let members = match point.kind() {
        BookmarkKind::List(members) => members.as_slice(),
        _ => std::slice::from_ref(&point),
    };
    let index = |member: &Bookmark| match member.kind() {
        BookmarkKind::At { sequence, .. } => *sequence,
        _ => 0,
    };
    members.iter().map(index).min().unwrap_or(0)
}

/// Receives and discards until it is killed, and says on its standard output what it does: `R index` after a message that is
/// new, `D index` before a discard and `E index` after it, `P index` and `Q index` around a persisted acknowledgement.
#[test]
fn subscriber_process() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let kind = Kind::ALL.into_iter().find(|known| format!("{known:?}") == kind).unwrap();
    let path = std::env::var_os(PATH).unwrap();
    let mut random = Random::new(std::env::var(SEED).unwrap().parse().unwrap());
    let with_persisted = std::env::var_os(WITH_PERSISTED).is_some();
    // The first line must not share one with the test harness.
    let mut out = std::io::stdout().lock();
    writeln!(out).unwrap();
    let store = kind.try_open(Path::new(&path)).unwrap();
    let mut cursor = resume_index(&*store);
    let mut held = Vec::new();
    writeln!(out, "open").unwrap();
    for _ in 0..200_000 {
        match random.below(40) {
            0 => store.prune().unwrap(),
            1 => {
                // Another subscription comes and goes.
                store.log(&message("other", &format!("7|{}|", cursor + 1))).unwrap();
                if random.one_in(3) {
                    store.purge_sub_id("other").unwrap();
                }
            }
            2 | 3 if with_persisted && cursor > 0 => {
                writeln!(out, "P {cursor}").unwrap();
                store.persisted(SUB, &bookmark_at(cursor)).unwrap();
                writeln!(out, "Q {cursor}").unwrap();
            }
            4..22 if !held.is_empty() => {
                // Mostly one of the first.
                let among = if random.one_in(3) { held.len() } else { held.len().min(2) };
                let index = held.remove(random.below(among as u64) as usize);
                writeln!(out, "D {index}").unwrap();
                store.discard(&message_at(index)).unwrap();
                writeln!(out, "E {index}").unwrap();
            }
            _ => {
                cursor += 1;
                if store.receive(&message_at(cursor)).unwrap() != Receipt::Duplicate {
                    held.push(cursor);
                    writeln!(out, "R {cursor}").unwrap();
                }
            }
        }
    }
}

/// What the store must know, judged by what was said.
struct Expected {
    kind: Kind,
    with_persisted: bool,
    /// Discards that had begun, and those that had ended.
    begun: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    /// The same of the last persisted index.
    persisted_begun: Option<u64>,
    persisted_ended: Option<u64>,
    /// Where the last process went on.
    resumed: u64,
    received: u64,
}

impl Expected {
    fn new(kind: Kind, with_persisted: bool) -> Expected {
        Expected {
            kind,
            with_persisted,
            begun: BTreeSet::new(),
            ended: BTreeSet::new(),
            persisted_begun: None,
            persisted_ended: None,
            resumed: 0,
            received: 0,
        }
    }

    fn hear(&mut self, line: &str) {
        let Some((what, index)) = line.split_once(' ') else { return };
        let Ok(index) = index.parse() else { return };
        match what {
            "R" => {
                self.received = self.received.max(index);
                assert!(!self.ended.contains(&index), "{index} comes again");
            }
            "D" => {
                self.begun.insert(index);
            }
            "E" => {
                self.ended.insert(index);
            }
            "P" => self.persisted_begun = Some(index),
            "Q" => self.persisted_ended = Some(index),
            _ => {}
        }
    }

    /// The last index of those that are in the set without a gap before them.
    fn run(set: &BTreeSet<u64>) -> u64 {
        (1..).zip(set).take_while(|(expected, index)| expected == *index).count() as u64
    }

    /// Compares with the store that the killed process has left.
    fn check(&mut self, path: &Path) {
        let store = self.kind.try_open(path).unwrap();
        let resumed = resume_index(&*store);
        assert!(resumed <= Expected::run(&self.begun), "{resumed} skips what was not discarded");
        assert!(resumed >= self.least_resumed(), "{resumed} is too early: {}", self.least_resumed());
        let mut known: BTreeSet<u64> = (1..=resumed).collect();
        for index in resumed + 1..=self.received + 2 {
            let is_discarded = store.is_discarded(&message_at(index)).unwrap();
            known.extend(is_discarded.then_some(index));
            assert!(!is_discarded || self.begun.contains(&index), "{index} is kept from the application");
            let comes_again = self.ended.contains(&index) && !is_discarded;
            assert!(!comes_again || self.kind == Kind::Ring, "{index} was discarded and comes again");
        }
        self.resumed = resumed;
        if self.kind == Kind::Ring {
            // It remembers nothing else.
            self.ended = known;
        }
    }

    /// Not above what is persisted, and otherwise at what is discarded without a gap, of each publisher.
    fn least_resumed(&self) -> u64 {
        let run = Expected::run(&self.ended);
        let last_of = |publisher| (1..=run).rfind(|index| publisher_at(*index) == publisher);
        let listed = (1..=4).filter_map(last_of).min().unwrap_or(0);
        let persisted = self.persisted_begun.into_iter().chain(self.persisted_ended).min();
        match (self.with_persisted, self.kind) {
            (false, Kind::Ring) => run,
            // After a restart it goes on no higher than it then did until that publisher says more.
            (true, Kind::Ring) => self.resumed,
            _ => persisted.map_or(listed, |persisted| {
                persisted.min(if self.persisted_ended.is_some() { run } else { listed })
            }),
        }
    }
}

fn start(expected: &Expected, path: &Path, seed: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if expected.with_persisted {
        command.env(WITH_PERSISTED, "");
    }
    command
        .args(["--exact", "bookmark_crash::subscriber_process", "--nocapture", "--test-threads=1"])
        .env(KIND, format!("{:?}", expected.kind))
        .env(PATH, path)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn a_killed_subscriber_skips_nothing(kind: Kind) {
    let seed = std::env::var("AMPS_TEST_SEED").map_or_else(
        |_| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("AMPS_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let dir = TempDir::in_memory();
    let path = kind.path(&dir);
    let mut expected = Expected::new(kind, false);
    let mut discarded = 0;
    for kill in 0..KILLS {
        if random.one_in(12) {
            let _ = std::fs::remove_file(&path);
            expected = Expected::new(kind, random.one_in(2));
        }
        let mut child = start(&expected, &path, seed ^ kill);
        // The child runs ahead of what is read, so where the kill meets it is left to chance.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().take(random.below(400) as usize) {
            expected.hear(&line.unwrap());
        }
        child.kill().unwrap();
        lines.map_while(Result::ok).for_each(|line| expected.hear(&line));
        child.wait().unwrap();
        discarded += expected.ended.len();
        expected.check(&path);
    }
    assert!(discarded > 1_000, "{discarded}");
}

/// 125, BS-22, BS-24: the process is killed in the middle of pruning, too.
#[test]
fn a_killed_subscriber_with_a_log_skips_nothing() {
    a_killed_subscriber_skips_nothing(Kind::Logged);
}

/// BS-28.
#[test]
fn a_killed_subscriber_with_a_ring_skips_nothing() {
    a_killed_subscriber_skips_nothing(Kind::Ring);
}
