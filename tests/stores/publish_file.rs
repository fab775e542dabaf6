//! What a publish store in a file promises beyond the contract of all publish stores.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amps_client::{ErrorKind, FilePublishStore, HybridPublishStore, PublishStore};

use crate::support::TempDir;
use crate::support::publish_stores::{Owned, SEGMENT, publish, replayed, single, small_file};

const PAGE: u64 = 4096;
const STEP: u64 = SEGMENT as u64;

fn sequences(store: &dyn PublishStore) -> Vec<u64> {
    replayed(store).into_iter().map(|(sequence, _)| sequence).collect()
}

/// 116, PS-25.
#[test]
fn a_file_is_open_once() {
    let dir = TempDir::new();
    let first = FilePublishStore::open(dir.join("one")).unwrap();
    let number = first.store(&publish(b"1")).unwrap();
    let error = FilePublishStore::open(dir.join("one")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("in use"), "{error}");
    drop(first);
    assert_eq!(sequences(&FilePublishStore::open(dir.join("one")).unwrap()), [number]);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let dir = TempDir::new();
    for path in [dir.join("."), dir.join("missing/file")] {
        let error = FilePublishStore::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn an_empty_file_becomes_a_store() {
    let dir = TempDir::new();
    fs::write(dir.join("empty"), b"").unwrap();
    assert_eq!(FilePublishStore::open(dir.join("empty")).unwrap().unpersisted_count(), 0);
}

/// PS-27.
#[test]
fn a_file_belongs_to_one_client_name() {
    let dir = TempDir::new();
    let store = FilePublishStore::open(dir.join("bound")).unwrap();
    assert_eq!(store.client_name(), None);
    store.bind("desk-pricer").unwrap();
    store.bind("desk-pricer").unwrap();
    drop(store);
    let store = FilePublishStore::open(dir.join("bound")).unwrap();
    assert_eq!(store.client_name().as_deref(), Some("desk-pricer"));
    let error = store.bind("desk-blotter").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("desk-pricer") && error.to_string().contains("desk-blotter"));
    store.bind("desk-pricer").unwrap();

    let other = FilePublishStore::open(dir.join("other")).unwrap();
    assert_eq!(other.bind(&"n".repeat(901)).unwrap_err().kind(), ErrorKind::Store);
    other.bind(&"n".repeat(900)).unwrap();
}

#[test]
fn the_room_of_discarded_messages_is_used_again() {
    let dir = TempDir::new();
    let store = small_file().growth(3 * STEP).open(dir.join("window")).unwrap();
    assert_eq!(store.size(), PAGE + 3 * STEP);
    for _ in 0..2000 {
        let number = store.store(&publish(&[b'x'; 100])).unwrap();
        store.discard_up_to(number - 20).unwrap();
    }
    assert_eq!(store.size(), PAGE + 3 * STEP);
    assert_eq!(fs::metadata(dir.join("window")).unwrap().len(), store.size());
}

/// PS-19: the sizes are those of the file.
#[test]
fn the_file_grows_by_whole_steps_and_tells_its_size() {
    let dir = TempDir::new();
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let asked = sizes.clone();
    let store = small_file()
        .growth(2 * STEP - 5)
        .resize_handler(move |_: &dyn PublishStore, bytes: u64| {
            asked.lock().unwrap().push(bytes);
            true
        })
        .open(dir.join("grows"))
        .unwrap();
    let numbers: Vec<u64> = (0..4).map(|_| store.store(&publish(&[b'x'; 3000])).unwrap()).collect();
    store.store(&publish(&vec![b'x'; 3 * SEGMENT as usize])).unwrap();
    // One message a segment, then one that needs four.
    assert_eq!(*sizes.lock().unwrap(), [PAGE + 4 * STEP, PAGE + 8 * STEP]);
    assert_eq!(store.size(), PAGE + 8 * STEP);
    assert_eq!(sequences(&store)[..4], numbers);
}

/// PS-25.
#[test]
fn only_an_empty_store_is_truncated_on_close() {
    let dir = TempDir::new();
    let path = dir.join("truncated");
    let open = || small_file().truncate_on_close(true).open(&path).unwrap();
    let store = open();
    let numbers: Vec<u64> = (0..20).map(|_| store.store(&publish(&[b'x'; 3000])).unwrap()).collect();
    store.discard_up_to(numbers[18]).unwrap();
    drop(store);
    assert!(fs::metadata(&path).unwrap().len() > PAGE + STEP);
    let store = open();
    assert_eq!(sequences(&store), numbers[19..]);
    store.discard_up_to(numbers[19]).unwrap();
    drop(store);
    assert_eq!(fs::metadata(&path).unwrap().len(), PAGE + STEP);
    let store = open();
    assert_eq!((store.damaged(), store.last_persisted()), (vec![], numbers[19]));
    assert_eq!(store.store(&publish(b"")).unwrap(), numbers[19] + 1);
}

/// PS-24.
#[test]
fn a_store_can_be_forced_onto_the_device() {
    let dir = TempDir::new();
    let store = small_file().sync_every_write(true).open(dir.join("synced")).unwrap();
    store.bind("desk").unwrap();
    let numbers = [10, 5000, 100, 9000].map(|size| store.store(&publish(&vec![b'x'; size])).unwrap());
    store.discard_up_to(numbers[1]).unwrap();
    store.sync().unwrap();
    assert_eq!(sequences(&store), numbers[2..]);
    drop(store);
    let store = small_file().sync_every_write(true).open(dir.join("synced")).unwrap();
    assert_eq!(sequences(&store), numbers[2..]);
}

/// The process may die while the file grows.
#[test]
fn an_unfinished_growth_is_no_damage() {
    let dir = TempDir::new();
    let path = dir.join("growing");
    let store = small_file().open(&path).unwrap();
    let number = store.store(&publish(b"1")).unwrap();
    drop(store);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(PAGE + STEP + 1000).unwrap();
    let store = small_file().open(&path).unwrap();
    assert_eq!((sequences(&store), store.damaged()), (vec![number], vec![]));
    assert_eq!(store.size(), PAGE + 2 * STEP);
}

/// A copy may have holes where the original has zeros; a write into one could fail, and there would be nobody to tell.
#[cfg(unix)]
#[test]
fn a_file_with_holes_gets_its_blocks_when_it_is_opened() {
    use std::os::unix::fs::MetadataExt;
    let dir = TempDir::new();
    let store = FilePublishStore::open(dir.join("original")).unwrap();
    let number = store.store(&publish(b"1")).unwrap();
    drop(store);
    let bytes = fs::read(dir.join("original")).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    fs::write(dir.join("copy"), &bytes[..used]).unwrap();
    fs::File::options().write(true).open(dir.join("copy")).unwrap().set_len(bytes.len() as u64).unwrap();
    assert!(fs::metadata(dir.join("copy")).unwrap().blocks() * 512 < bytes.len() as u64);

    let store = FilePublishStore::open(dir.join("copy")).unwrap();
    assert!(fs::metadata(dir.join("copy")).unwrap().blocks() * 512 >= bytes.len() as u64);
    assert_eq!((sequences(&store), store.damaged()), (vec![number], vec![]));
}

/// 117, PS-28.
#[test]
fn a_hybrid_store_moves_the_oldest_to_the_file() {
    let dir = TempDir::new();
    let store = HybridPublishStore::open(dir.join("hybrid"), 10).unwrap().low_watermark(5);
    let mut numbers: Vec<u64> = (0..10).map(|n| store.store(&publish(&[n])).unwrap()).collect();
    assert_eq!(store.unpersisted_in_file(), 0);
    numbers.push(store.store(&publish(&[10])).unwrap());
    assert_eq!((store.unpersisted_in_file(), store.unpersisted_count()), (5, 11));
    let expected: Vec<_> =
        numbers.iter().zip(0..).map(|(number, n)| (*number, Owned::of(&publish(&[n])))).collect();
    assert!(replayed(&store) == expected);
    assert_eq!(store.lowest_unpersisted(), Some(numbers[0]));
    for (number, entry) in &expected {
        assert_eq!(single(&store, *number).as_ref(), Some(entry));
    }
    assert_eq!(store.flush(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::TimedOut);
    store.discard_up_to(numbers[2]).unwrap();
    assert_eq!((store.unpersisted_in_file(), store.lowest_unpersisted()), (2, Some(numbers[3])));
    store.discard_up_to(numbers[7]).unwrap();
    assert_eq!((store.unpersisted_in_file(), store.lowest_unpersisted()), (0, Some(numbers[8])));
    store.discard_up_to(numbers[10]).unwrap();
    store.flush(None).unwrap();
}

/// What an earlier hybrid store has left in the file comes first, and no number is used twice.
#[test]
fn a_hybrid_store_hands_out_what_an_earlier_one_left() {
    let dir = TempDir::new();
    let open = || HybridPublishStore::open(dir.join("hybrid"), 10).unwrap();
    let store = open();
    let numbers: Vec<u64> = (0..14).map(|n| store.store(&publish(&[n])).unwrap()).collect();
    let in_file = store.unpersisted_in_file();
    drop(store);
    let store = open();
    assert_eq!(sequences(&store), numbers[..in_file]);
    let next: Vec<u64> = (0..20).map(|n| store.store(&publish(&[n])).unwrap()).collect();
    assert!(next[0] > numbers[13], "the memory of the first store had numbers up to {}", numbers[13]);
    assert_eq!(sequences(&store), [&numbers[..in_file], &next[..]].concat());
    drop(store);
    let file = FilePublishStore::open(dir.join("hybrid")).unwrap();
    assert_eq!(file.damaged(), [], "the numbers in between were never used");
}

#[test]
fn a_hybrid_store_belongs_to_the_client_name_of_its_file() {
    let dir = TempDir::new();
    let open = || HybridPublishStore::open(dir.join("hybrid"), 10).unwrap();
    open().bind("desk-pricer").unwrap();
    assert_eq!(open().bind("desk-blotter").unwrap_err().kind(), ErrorKind::Store);
}

#[test]
fn stores_can_be_printed() {
    let dir = TempDir::new();
    let options = format!("{:?}", FilePublishStore::options().growth(77));
    assert!(options.contains("77"), "{options}");
    let store = FilePublishStore::open(dir.join("printed")).unwrap();
    store.store(&publish(b"secret")).unwrap();
    let text = format!("{store:?}");
    assert!(
        text.contains("printed") && text.contains("unpersisted: 1") && !text.contains("secret"),
        "{text}"
    );
}

/// Where no file may grow beyond a few hundred kilobytes, as on a full device.
#[cfg(unix)]
mod limited {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;

    /// Where a test that is run again finds its directory.
    const DIR: &str = "AMPS_TEST_DIR_DIR";

    /// Runs a test again under that limit.
    fn run_with_limited_files(test: &str, dir: &Path) {
        // The signal is ignored so that the write fails.
        let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" --exact \"$1\" --nocapture";
        let status = Command::new("sh")
            .args(["-c", script])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env(DIR, dir)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{test} with limited files");
    }

    /// PS-21.
    #[test]
    fn a_full_device_is_an_error_and_harms_nothing() {
        let Some(dir) = std::env::var_os(DIR) else {
            let dir = TempDir::new();
            return run_with_limited_files(
                "publish_file::limited::a_full_device_is_an_error_and_harms_nothing",
                &dir.join(""),
            );
        };
        let path = Path::new(&dir).join("full");
        let store = small_file().growth(16 * STEP).open(&path).unwrap();
        let mut numbers = Vec::new();
        let error = loop {
            match store.store(&publish(&[b'x'; 1000])) {
                Ok(number) => numbers.push(number),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Store);
        assert!(error.to_string().contains("extend"), "{error}");
        assert!(numbers.len() > 40);
        assert_eq!(store.store(&publish(&[b'x'; 1000])).unwrap_err().kind(), ErrorKind::Store);
        assert_eq!(sequences(&store), numbers);
        assert_eq!(fs::metadata(&path).unwrap().len(), store.size());
        store.discard_up_to(numbers[20]).unwrap();
        let next = store.store(&publish(b"again")).unwrap();
        assert_eq!(next, numbers[numbers.len() - 1] + 1);
        drop(store);
        assert_eq!(sequences(&small_file().open(&path).unwrap()), [&numbers[21..], &[next]].concat());
    }

    /// PS-28.
    #[test]
    fn a_hybrid_store_grows_in_memory_when_the_device_is_full() {
        let Some(dir) = std::env::var_os(DIR) else {
            let dir = TempDir::new();
            return run_with_limited_files(
                "a_hybrid_store_grows_in_memory_when_the_device_is_full",
                &dir.join(""),
            );
        };
        let file = small_file().open(Path::new(&dir).join("full")).unwrap();
        let store = HybridPublishStore::with_file(file, 10);
        let numbers: Vec<u64> = (0..2000).map(|_| store.store(&publish(&[b'x'; 1000])).unwrap()).collect();
        let in_file = store.unpersisted_in_file();
        assert!(in_file > 40 && in_file < 1000, "{in_file}");
        assert_eq!(sequences(&store), numbers);
        store.discard_up_to(numbers[1999]).unwrap();
        let more: Vec<u64> = (0..50).map(|_| store.store(&publish(&[b'x'; 1000])).unwrap()).collect();
        assert_eq!(sequences(&store), more);
        assert!(store.unpersisted_in_file() > 30, "there is room in the file again");
    }
}
