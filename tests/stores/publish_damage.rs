//! Store files that were damaged by somebody else: what can be read is read, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use amps_client::{ErrorKind, FilePublishStore, PublishStore};

use crate::support::log_capture::Capture;
use crate::support::publish_stores::{Owned, SEGMENT, publish, replayed, single, small_file};
use crate::support::{Random, TempDir};

const PAGE: usize = 4096;

/// A store file, and what is in it.
struct Sample {
    dir: TempDir,
    bytes: Vec<u8>,
    /// Everything that was stored, the first `discarded` of them discarded.
    messages: Vec<(u64, Vec<u8>)>,
    discarded: usize,
}

impl Sample {
    /// A file of three segments: one with discarded and kept messages, and two that share a large one.
    fn new() -> Sample {
        let dir = TempDir::new();
        let store = small_file().growth(3 * u64::from(SEGMENT)).open(dir.join("sample")).unwrap();
        let mut random = Random::new(1);
        let sizes = [300, 500, 700, 0, 900, 1000, 6000, 100, 13, 200];
        let messages = sizes.map(|size| {
            let data: Vec<u8> = (0..size).map(|_| random.next() as u8).collect();
            (store.store(&publish(&data)).unwrap(), data)
        });
        store.discard_up_to(messages[0].0).unwrap();
        store.discard_up_to(messages[1].0).unwrap();
        drop(store);
        let bytes = fs::read(dir.join("sample")).unwrap();
        assert_eq!(bytes.len(), PAGE + 3 * SEGMENT as usize);
        Sample { dir, bytes, messages: messages.into(), discarded: 2 }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("damaged")
    }

    /// Makes the damaged file anew: to overwrite it would have the system write to the device.
    fn put(&self, bytes: &[u8]) {
        let _ = fs::remove_file(self.path());
        fs::write(self.path(), bytes).unwrap();
    }

    fn last(&self) -> u64 {
        self.messages[self.messages.len() - 1].0
    }

    /// The numbers of the messages that lie in one piece, and where their records end.
    fn ends(&self) -> Vec<(u64, usize)> {
        let place = |data: &Vec<u8>| self.bytes.windows(data.len().max(1)).position(|window| window == data);
        let found =
            self.messages.iter().filter_map(|(number, data)| Some((*number, place(data)? + data.len() + 16)));
        found.collect()
    }

    /// Checks a store over damaged bytes: what it hands out is what was stored, and what is missing was reported. Returns
    /// the numbers of what is missing.
    fn check(&self, store: &FilePublishStore, what: &str) -> Vec<u64> {
        let found = replayed(store);
        assert_eq!(store.unpersisted_count(), found.len(), "{what}");
        assert_eq!(store.lowest_unpersisted(), found.first().map(|(number, _)| *number), "{what}");
        for (number, entry) in &found {
            let original = self.messages.iter().find(|(sequence, _)| sequence == number);
            let (_, data) = original.unwrap_or_else(|| panic!("{what}: {number} was never stored"));
            assert!(*entry == Owned::of(&publish(data)), "{what}: {number} is not what was stored");
        }
        assert!(found.is_sorted_by(|a, b| a.0 < b.0), "{what}");
        let kept = self.messages[self.discarded..].iter().map(|(number, _)| *number);
        let missing: Vec<u64> =
            kept.filter(|number| found.iter().all(|(found, _)| found != number)).collect();
        if !missing.is_empty() {
            assert!(!store.damaged().is_empty(), "{what}: {missing:?} are missing and nothing is said");
        }
        missing
    }

    /// Checks that a damaged store goes on: numbers are not used again, and what is stored from now on is kept.
    fn check_that_it_goes_on(&self, store: FilePublishStore, what: &str) {
        let before = replayed(&store).len();
        let number = store.store(&publish(b"afterwards")).unwrap();
        assert!(number > self.last(), "{what}: {number} again");
        drop(store);
        let store = FilePublishStore::open(self.path()).unwrap();
        assert_eq!(single(&store, number), Some(Owned::of(&publish(b"afterwards"))), "{what}");
        assert_eq!(replayed(&store).len(), before + 1, "{what}");
        store.discard_up_to(number).unwrap();
        assert_eq!(store.unpersisted_count(), 0, "{what}");
        drop(store);
        let store = FilePublishStore::open(self.path()).unwrap();
        assert_eq!((store.unpersisted_count(), store.last_persisted()), (0, number), "{what}");
        assert!(store.damaged().is_empty(), "{what}: {:?} is discarded", store.damaged());
    }
}

#[test]
fn an_undamaged_file_has_everything() {
    let sample = Sample::new();
    sample.put(&sample.bytes);
    let store = FilePublishStore::open(sample.path()).unwrap();
    assert!(sample.check(&store, "nothing").is_empty());
    assert!(store.damaged().is_empty() && store.take_damage_reports().is_empty());
    sample.check_that_it_goes_on(store, "nothing");
}

/// PS-14, PS-23: any flipped byte, anywhere.
#[test]
fn a_flipped_byte_costs_at_most_one_message() {
    let sample = Sample::new();
    let mut costs = 0;
    for at in 0..sample.bytes.len() {
        let mut bytes = sample.bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        sample.put(&bytes);
        let what = format!("byte {at}");
        let store = FilePublishStore::open(sample.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let missing = sample.check(&store, &what);
        assert!(missing.len() <= 1, "{what}: {missing:?}");
        costs += missing.len();
        if at % 16 == 0 {
            sample.check_that_it_goes_on(store, &what);
        }
    }
    assert!(costs > 6000, "{costs}: nearly every byte of the large message matters");
}

/// PS-14: a page that reads as zeros, or as noise.
#[test]
fn a_destroyed_page_leaves_the_messages_around_it() {
    let sample = Sample::new();
    for at in (PAGE..sample.bytes.len()).step_by(256) {
        for noise in [false, true] {
            let mut bytes = sample.bytes.clone();
            let end = (at + 512).min(bytes.len());
            bytes[at..end].iter_mut().for_each(|byte| *byte = if noise { *byte ^ 0xA5 } else { 0 });
            sample.put(&bytes);
            let what = format!("bytes {at} to {end}, noise: {noise}");
            let store = FilePublishStore::open(sample.path()).unwrap();
            let found = replayed(&store).len();
            // Records that are zeroed up to the end of what was written cannot be known to have been there.
            let last_known = noise || !store.damaged().is_empty();
            if last_known {
                assert!(sample.check(&store, &what).len() <= 5, "{what}");
            } else {
                let missing = sample.messages.len() - sample.discarded - found;
                assert!(missing <= 3, "{what}: {missing}");
            }
        }
    }
}

/// PS-23, PS-26: a file that is cut off anywhere.
#[test]
fn a_cut_off_file_has_what_is_left_or_is_refused_untouched() {
    let sample = Sample::new();
    let ends = sample.ends();
    let mut refused = 0;
    for length in 0..sample.bytes.len() {
        let bytes = &sample.bytes[..length];
        sample.put(bytes);
        let what = format!("cut to {length} bytes");
        match FilePublishStore::open(sample.path()) {
            Ok(store) if length == 0 => {
                // Nothing tells that it was not empty all along.
                assert_eq!((store.unpersisted_count(), store.last_persisted()), (0, 0));
            }
            Ok(store) => {
                assert!(!store.damaged().is_empty(), "{what}: nothing is said");
                let missing = sample.check(&store, &what);
                let whole = ends.iter().filter(|(_, end)| *end <= length);
                for (number, _) in whole {
                    assert!(!missing.contains(number), "{what}: {number} is there");
                }
                if length % 64 == 0 {
                    sample.check_that_it_goes_on(store, &what);
                }
            }
            Err(error) => {
                assert!(length < PAGE, "{what}: {error}");
                assert_refused(&sample.path(), bytes, error);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, PAGE - 1);
}

fn assert_refused(path: &Path, bytes: &[u8], error: amps_client::Error) {
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert!(fs::read(path).unwrap() == bytes, "{error}, and the file was changed");
}

/// PS-26.
#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let sample = Sample::new();
    let flip = |places: &[usize], bits: u8| {
        let mut bytes = sample.bytes.clone();
        places.iter().for_each(|at| bytes[*at] ^= bits);
        bytes
    };
    let cases = [
        (b"{\"id\":1}\n".to_vec(), "is not a publish store"),
        (vec![0; 100_000], "is not a publish store"),
        (sample.bytes[1..].to_vec(), "is not a publish store"),
        (sample.bytes[..100].to_vec(), "cut off in its header"),
        (flip(&[8, 1032], 8), "format 9"),
        (flip(&[20, 1044], 9), "header is damaged"),
    ];
    for (bytes, reason) in cases {
        sample.put(&bytes);
        let error = FilePublishStore::open(sample.path()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_refused(&sample.path(), &bytes, error);
    }
}

/// 114, PS-14.
#[test]
fn the_second_of_three_records_is_damaged_and_the_others_are_not() {
    let dir = TempDir::new();
    let path = dir.join("three");
    let store = FilePublishStore::open(&path).unwrap();
    let numbers = [b"first", b"other", b"third"].map(|data| store.store(&publish(data)).unwrap());
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let at = find(&bytes, b"other");
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let store = FilePublishStore::open(&path).unwrap();
    let found: Vec<u64> = replayed(&store).into_iter().map(|(number, _)| number).collect();
    assert_eq!(found, [numbers[0], numbers[2]]);
    assert_eq!((store.unpersisted_count(), single(&store, numbers[1])), (2, None));
    let damage = store.damaged();
    assert_eq!(damage.len(), 1);
    assert_eq!(damage[0].sequences(), Some(numbers[1]..=numbers[1]));
    let range = damage[0].position()..damage[0].position() + damage[0].length();
    assert!(range.contains(&(at as u64)), "{range:?} and {at}");
    let reports = store.take_damage_reports();
    assert_eq!((reports.len(), reports[0].kind()), (1, ErrorKind::Store));
    assert!(reports[0].to_string().contains(&numbers[1].to_string()), "{}", reports[0]);
    assert!(store.take_damage_reports().is_empty(), "each is told once");
    assert_eq!(store.store(&publish(b"fourth")).unwrap(), numbers[2] + 1);
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

/// PS-14.
#[test]
fn damage_is_logged_when_the_file_is_opened() {
    let capture = Capture::start();
    let dir = TempDir::new();
    let path = dir.join("logged");
    let store = FilePublishStore::open(&path).unwrap();
    let numbers = [b"first", b"other"].map(|data| store.store(&publish(data)).unwrap());
    drop(store);
    let mut bytes = fs::read(&path).unwrap();
    let at = find(&bytes, b"first");
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    FilePublishStore::open(&path).unwrap();
    let logged = capture.with(path.to_str().unwrap());
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!((logged[0].level, logged[0].target.as_str()), (log::Level::Error, "amps::store"));
    assert!(logged[0].text.contains(&numbers[0].to_string()), "{logged:?}");
}

#[test]
fn a_message_that_is_changed_under_an_open_store_is_not_handed_out() {
    let dir = TempDir::new();
    let path = dir.join("changed");
    let store = FilePublishStore::open(&path).unwrap();
    let numbers = [b"first", b"other", b"third"].map(|data| store.store(&publish(data)).unwrap());
    let at = find(&fs::read(&path).unwrap(), b"other") as u64;
    let file = fs::File::options().write(true).open(&path).unwrap();
    std::io::Seek::seek(&mut &file, std::io::SeekFrom::Start(at)).unwrap();
    std::io::Write::write_all(&mut &file, b"OTHER").unwrap();

    assert_eq!(single(&store, numbers[1]), None);
    let found: Vec<u64> = replayed(&store).into_iter().map(|(number, _)| number).collect();
    assert_eq!((found, store.unpersisted_count()), (vec![numbers[0], numbers[2]], 2));
    assert_eq!((store.damaged().len(), store.take_damage_reports().len()), (1, 1));
}

/// Both copies of the progress are lost: everything readable counts as not acknowledged.
#[test]
fn without_its_progress_a_store_hands_out_too_much_rather_than_too_little() {
    let sample = Sample::new();
    let mut bytes = sample.bytes.clone();
    for at in [2048, 3072] {
        bytes[at..at + 48].fill(0xFF);
    }
    sample.put(&bytes);
    let store = FilePublishStore::open(sample.path()).unwrap();
    let expected: Vec<u64> = sample.messages.iter().map(|(number, _)| *number).collect();
    let found: Vec<u64> = replayed(&store).into_iter().map(|(number, _)| number).collect();
    assert_eq!((found, store.last_persisted()), (expected, 0));
    assert_eq!(store.store(&publish(b"")).unwrap(), sample.last() + 1);
}
