//! Files of bookmark stores that are cut off, or of which a byte is another: the store is as it was before what is missing,
//! or there is an error and the file stays as it is. Never is a message skipped.

use std::fs;
use std::path::PathBuf;

use amps_client::{BookmarkStore, ErrorKind};

use crate::support::TempDir;
use crate::support::bookmark_stores::{Kind, SUB, message};

/// Places that are looked up to see what a store knows.
const PLACES: [&str; 10] = ["1|1|", "1|2|", "1|3|", "1|4|", "2|1|", "2|2|", "3|1|", "1|9|", "7|70|", "7|71|"];
/// What a store answers: the resume point of each subscription, and whether each place is discarded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answers(Vec<(String, Vec<bool>)>);

impl Answers {
    fn of(store: &dyn BookmarkStore) -> Answers {
        let of_one = |sub_id: &str| {
            let is_discarded = |place: &&str| store.is_discarded(&message(sub_id, place)).unwrap();
            (store.most_recent(sub_id).unwrap().into(), PLACES.iter().map(is_discarded).collect())
        };
        Answers([SUB, "other"].map(of_one).into())
    }
}

/// A file, and what a store over it has answered as it grew.
struct Sample {
    kind: Kind,
    dir: TempDir,
    bytes: Vec<u8>,
    /// What a store answers after a restart at each moment, and how many bytes of a log were in use then.
    moments: Vec<(usize, Answers)>,
}

type Step = fn(&dyn BookmarkStore);

/// Each step is one record of a log, or the first of a subscription, which is two.
const STEPS: [Step; 14] = [
    |store| receive(store, SUB, "1|1|"),
    |store| receive(store, SUB, "2|1|"),
    |store| receive(store, SUB, "1|2|20240102T030405Z|"),
    |store| discard(store, SUB, "1|1|"),
    |store| receive(store, "other", "3|1|"),
    |store| store.persisted(SUB, "1|1|").unwrap(),
    |store| discard(store, SUB, "1|2|"),
    |store| receive(store, SUB, "1|3|"),
    |store| discard(store, "other", "3|1|"),
    |store| store.placed("other", &"7|70|".parse().unwrap()).unwrap(),
    |store| discard(store, SUB, "2|1|"),
    |store| receive(store, "other", "7|71|"),
    |store| store.persisted(SUB, "1|2|").unwrap(),
    |store| discard(store, SUB, "1|3|"),
];

fn receive(store: &dyn BookmarkStore, sub_id: &str, bookmark: &str) {
    store.receive(&message(sub_id, bookmark)).unwrap();
}

fn discard(store: &dyn BookmarkStore, sub_id: &str, bookmark: &str) {
    store.discard(&message(sub_id, bookmark)).unwrap();
}

impl Sample {
    fn new(kind: Kind) -> Sample {
        let dir = TempDir::in_memory();
        let mut moments = Vec::new();
        for step in std::iter::once(None).chain(STEPS.map(Some)) {
            if let Some(step) = step {
                step(&*kind.open(&dir));
            }
            let answers = Answers::of(&*kind.open(&dir));
            moments.push((fs::read(kind.path(&dir)).unwrap().len(), answers));
        }
        let bytes = fs::read(kind.path(&dir)).unwrap();
        Sample { kind, dir, bytes, moments }
    }

    fn path(&self) -> PathBuf {
        self.kind.path(&self.dir)
    }

    fn last(&self) -> &Answers {
        &self.moments.last().unwrap().1
    }

    /// What a log of so many bytes says.
    fn at(&self, length: usize) -> &Answers {
        let (_, answers) = self.moments.iter().rfind(|(size, _)| *size <= length).unwrap();
        answers
    }

    /// What a store over these bytes answers; `None` if it cannot be opened, for which the file must stay as it is.
    fn open(&self, bytes: &[u8]) -> Option<Answers> {
        let _ = fs::remove_file(self.path());
        fs::write(self.path(), bytes).unwrap();
        match self.kind.try_open(&self.path()) {
            Ok(store) => Some(Answers::of(&*store)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Store, "{error}");
                assert!(fs::read(self.path()).unwrap() == bytes, "{error}: the file was changed");
                None
            }
        }
    }

    /// Opens the file with these bits of each of these bytes changed.
    fn flipped(
        &self,
        places: impl Iterator<Item = usize>,
        bits: &[u8],
        mut check: impl FnMut(usize, Option<Answers>),
    ) {
        let mut bytes = self.bytes.clone();
        for at in places {
            for flip in bits {
                bytes[at] ^= flip;
                check(at, self.open(&bytes));
                bytes[at] ^= flip;
            }
        }
    }
}

/// 123, BS-24: for every record.
#[test]
fn a_log_that_is_cut_off_anywhere_says_what_is_before_the_cut() {
    let sample = Sample::new(Kind::Logged);
    let head = sample.moments[0].0;
    assert!(sample.moments.is_sorted_by(|a, b| a.0 < b.0), "each step is in the file");
    for length in 0..=sample.bytes.len() {
        let found = sample.open(&sample.bytes[..length]);
        match length {
            0 => assert_eq!(found.as_ref(), Some(&sample.moments[0].1), "an empty file is a new store"),
            _ if length < head => assert_eq!(found, None, "{length}"),
            _ => assert_eq!(found.as_ref(), Some(sample.at(length)), "{length}"),
        }
    }
}

/// 124, BS-24: a bad last record counts as torn, and any other as damage.
#[test]
fn no_changed_byte_of_a_log_goes_unnoticed() {
    let sample = Sample::new(Kind::Logged);
    let last_record = sample.moments[sample.moments.len() - 2].0;
    sample.flipped(0..sample.bytes.len(), &[0x01, 0x80, 0xFF], |at, found| {
        let expected = (at >= last_record).then(|| sample.at(last_record));
        assert_eq!(found.as_ref(), expected, "byte {at}");
    });
}

/// BS-24: what a killed process leaves has room at its end.
#[test]
fn what_is_in_the_room_behind_the_records_means_nothing() {
    let sample = Sample::new(Kind::Logged);
    let mut bytes = sample.bytes.clone();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    for at in sample.bytes.len()..bytes.len() {
        bytes[at] = 0xA5;
        assert_eq!(sample.open(&bytes).as_ref(), Some(sample.last()), "byte {at}");
        if at % 3 > 0 {
            bytes[at] = 0;
        }
    }
}

/// BS-28.
#[test]
fn a_ring_that_is_cut_off_is_refused() {
    let sample = Sample::new(Kind::Ring);
    let length = sample.bytes.len();
    for cut in 1..length {
        assert_eq!(sample.open(&sample.bytes[..cut]), None, "{cut}");
    }
    assert_eq!(sample.open(&[]).as_ref(), Some(&sample.moments[0].1), "an empty file is a new store");
    assert_eq!(sample.open(&vec![0; length]).as_ref(), Some(&sample.moments[0].1), "so is an unmade one");
}

/// BS-28: one position is damaged at most, and then the one before counts, or there is an error.
#[test]
fn a_changed_byte_of_a_ring_takes_back_one_recovery_point_at_most() {
    let sample = Sample::new(Kind::Ring);
    let (mut taken_back, mut refused) = (0, 0);
    sample.flipped(0..sample.bytes.len(), &[0x11], |at, found| {
        let Some(found) = found else {
            refused += 1;
            return;
        };
        for (sub, answers) in found.0.iter().enumerate() {
            let mut known = sample.moments.iter().map(|(_, known)| &known.0[sub]).rev();
            let last = known.next().unwrap();
            let before = known.find(|known| *known != last).unwrap();
            assert!([last, before].contains(&answers), "byte {at}: {answers:?}");
        }
        taken_back += u32::from(found != *sample.last());
    });
    assert!(taken_back > 0 && refused > 0);
}
