//! The files of bookmark stores (`resilience` 10.5): what they have room for, how they grow, and how they are pruned.

use amps_client::{BookmarkStore, ErrorKind, LoggedBookmarkStore, Receipt, RingBookmarkStore};

use crate::support::TempDir;
use crate::support::bookmark_stores::{Kind, SUB, message};

/// One file, one process.
#[test]
fn a_file_that_is_in_use_is_refused() {
    let dir = TempDir::new();
    for kind in [Kind::Logged, Kind::Ring] {
        let store = kind.open(&dir);
        let errors = [
            LoggedBookmarkStore::open(dir.join("test.log")).err(),
            RingBookmarkStore::open(dir.join("test.ring")).err(),
        ];
        let error = errors.into_iter().flatten().next().expect("a refusal");
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains("in use"), "{error}");
        store.prune().unwrap();
        drop(store);
        kind.open(&dir);
    }
}

/// BS-28: the sizes of a ring.
#[test]
fn a_ring_refuses_what_it_has_no_room_for() {
    let dir = TempDir::new();
    let store = RingBookmarkStore::open(dir.join("ring")).unwrap();
    let (longest, too_long) = ("s".repeat(244), "s".repeat(245));
    assert_eq!(store.receive(&message(&longest, "1|1|")).unwrap(), Receipt::New(1));
    let error = store.receive(&message(&too_long, "1|1|")).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("245 bytes"), "{error}");

    let place = |n: u64| format!("{}|{}|", u64::MAX - n, u64::MAX);
    let list = |count| (0..count).map(place).collect::<Vec<_>>().join(",");
    store.placed(SUB, &list(6).parse().unwrap()).unwrap();
    let error = store.placed("other", &list(7).parse().unwrap()).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("300 bytes"), "{error}");
    drop(store);
    let store = RingBookmarkStore::open(dir.join("ring")).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), list(6));
    assert_eq!(store.most_recent("other").unwrap().as_str(), "0");
}

/// BS-28: 32 entries at first.
#[test]
fn a_ring_grows_with_its_subscriptions() {
    let dir = TempDir::new();
    let path = dir.join("ring");
    let store = RingBookmarkStore::open(&path).unwrap();
    let size = || std::fs::metadata(&path).unwrap().len();
    let first = size();
    for n in 0..100 {
        assert_eq!(size() > first, n > 32, "{n}");
        let message = message(&format!("sub-{n}"), &format!("1|{}|", n + 1));
        store.receive(&message).unwrap();
        store.discard(&message).unwrap();
    }
    let grown = size();
    store.purge_sub_id("sub-50").unwrap();
    drop(store);
    let store = RingBookmarkStore::open(&path).unwrap();
    for n in 0..100 {
        let expected = if n == 50 { "0".to_owned() } else { format!("1|{}|", n + 1) };
        assert_eq!(store.most_recent(&format!("sub-{n}")).unwrap().as_str(), expected);
    }
    for n in 100..128 {
        store.persisted(&format!("sub-{n}"), "1|1|").unwrap();
    }
    assert_eq!(size(), grown, "what was purged makes room");
    store.purge().unwrap();
    drop(store);
    let store = RingBookmarkStore::open(&path).unwrap();
    assert_eq!(store.most_recent("sub-1").unwrap().as_str(), "0");
}

/// BS-25, BS-26.
#[test]
fn a_log_is_smaller_after_it_was_pruned() {
    let dir = TempDir::new();
    let store = LoggedBookmarkStore::open(dir.join("log")).unwrap();
    for n in 1..=1_000 {
        let message = message(SUB, &format!("1|{n}|"));
        store.receive(&message).unwrap();
        store.discard(&message).unwrap();
    }
    assert!(store.size() > 1_000 * 64);
    store.prune().unwrap();
    assert!(store.size() < 300, "{}", store.size());
    let before = std::fs::metadata(dir.join("log")).unwrap().modified().unwrap();
    store.prune().unwrap();
    assert_eq!(std::fs::metadata(dir.join("log")).unwrap().modified().unwrap(), before, "nothing to do");
    drop(store);
    assert!(std::fs::metadata(dir.join("log")).unwrap().len() < 300);
    let store = LoggedBookmarkStore::open(dir.join("log")).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|1000|");
    assert_eq!(store.receive(&message(SUB, "1|999|")).unwrap(), Receipt::Duplicate);
}

/// BS-26: nobody has to prune.
#[test]
fn a_large_log_prunes_itself() {
    let dir = TempDir::new();
    let store = LoggedBookmarkStore::options().prune_at(100_000).open(dir.join("log")).unwrap();
    let mut largest = 0;
    for n in 1..=20_000 {
        let message = message(SUB, &format!("1|{n}|"));
        store.receive(&message).unwrap();
        if n > 1_000 {
            store.discard_seq(SUB, n - 1_000).unwrap();
        }
        largest = largest.max(store.size());
    }
    assert!(largest < 200_000, "{largest}");
    drop(store);
    let store = LoggedBookmarkStore::open(dir.join("log")).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|19000|");
    assert_eq!(store.outstanding(SUB), 1_000);
}

/// BS-25: the old file stays in use.
#[test]
fn a_prune_that_fails_leaves_the_old_file_in_use() {
    let dir = TempDir::new();
    let path = dir.join("log");
    let store = LoggedBookmarkStore::open(&path).unwrap();
    store.receive(&message(SUB, "1|1|")).unwrap();
    std::fs::create_dir(dir.join("log.tmp")).unwrap();
    assert_eq!(store.prune().unwrap_err().kind(), ErrorKind::Store);
    store.discard(&message(SUB, "1|1|")).unwrap();
    drop(store);
    let store = LoggedBookmarkStore::open(&path).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|1|");
    std::fs::remove_dir(dir.join("log.tmp")).unwrap();
    store.prune().unwrap();
}

/// BS-27.
#[test]
fn the_time_of_the_file_is_added_on_request_until_something_moves() {
    let dir = TempDir::new();
    let path = dir.join("log");
    let store = LoggedBookmarkStore::open(&path).unwrap();
    for bookmark in ["1|1|", "1|2|"] {
        store.receive(&message(SUB, bookmark)).unwrap();
        store.receive(&message("untouched", bookmark)).unwrap();
    }
    store.discard(&message(SUB, "1|1|")).unwrap();
    drop(store);
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_704_164_645);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();

    let store = LoggedBookmarkStore::options().last_modified(true).open(&path).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|1|,20240102T030405Z");
    assert_eq!(store.most_recent("untouched").unwrap().as_str(), "0");
    assert_eq!(store.receive(&message(SUB, "1|2|")).unwrap(), Receipt::New(2));
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|1|,20240102T030405Z", "until something moves");
    store.persisted(SUB, "1|1|").unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|1|");
    drop(store);
    let store = LoggedBookmarkStore::options().last_modified(true).open(&path).unwrap();
    assert!(store.most_recent(SUB).unwrap().as_str().starts_with("1|1|,"), "with each opening");
    store.discard(&message(SUB, "1|2|")).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|1|", "not above what is persisted");
}

#[test]
fn a_log_refuses_a_subscription_id_beyond_its_limit() {
    let dir = TempDir::new();
    let path = dir.join("log");
    let store = LoggedBookmarkStore::options().sub_id_limit(8).open(&path).unwrap();
    assert_eq!(store.receive(&message(SUB, "1|1|")).unwrap(), Receipt::New(1));
    let error = store.receive(&message("123456789", "1|1|")).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("9 bytes"), "{error}");
    drop(store);
    let error = LoggedBookmarkStore::options().sub_id_limit(7).open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
}

/// What a failing record promises: the message is not delivered, and nothing is half done.
#[test]
fn a_failed_record_changes_nothing() {
    let dir = TempDir::new();
    let store = LoggedBookmarkStore::options().sub_id_limit(8).open(dir.join("log")).unwrap();
    for _ in 0..2 {
        assert!(store.receive(&message("123456789", "1|1|")).is_err());
    }
    assert_eq!((store.outstanding("123456789"), store.oldest_seq("123456789")), (0, None));
}
