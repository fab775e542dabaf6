//! Recovery point adapters and the stores that tell them (`resilience` 10.6).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use amps_client::{
    Bookmark, BookmarkStore, Error, ErrorKind, LoggedBookmarkStore, MemoryBookmarkStore, Receipt,
    RecoveryPoint, RecoveryPointAdapter, RecoveryPointFactory, Result,
};
use parking_lot::Mutex;

use crate::support::TempDir;
use crate::support::bookmark_stores::{Kind, Run, SUB, message};
use crate::support::recovery_points::Table;

use RecoveryPointFactory::{Dynamic, Fixed};

/// A store that tells this table.
fn store_of(table: &Arc<Table>) -> MemoryBookmarkStore {
    MemoryBookmarkStore::with_adapter(table.clone(), Fixed).unwrap()
}

/// What the table is told while these steps are taken.
fn told(steps: &str) -> Vec<String> {
    let (table, dir) = (Arc::new(Table::default()), TempDir::new());
    let store = Box::new(store_of(&table));
    let mut run = Run { kind: Kind::Memory, dir: &dir, store, news: Vec::new() };
    run.steps(steps);
    let calls = table.calls();
    assert_eq!(calls[0], "recover");
    calls[1..].iter().map(|call| call.replace("orders-1 ", "")).collect()
}

/// BS-29: whenever `recent` or `persisted` moves, and without the list of what was only delivered.
#[test]
fn an_adapter_is_told_whenever_the_recovery_point_moves() {
    for (steps, expected) in [
        ("A1 A2 A3", vec![]),
        ("A1 A2 A3 -A2", vec![]),
        ("A1 A2 A3 -A2 -A1", vec!["1|2|"]),
        ("A1 -A1 A2 -A2", vec!["1|1|", "1|2|"]),
        ("A1 -A1 -A1 A1", vec!["1|1|"]),
        ("A1 B1 -A1 -B1", vec!["1|1|", "2|1|"]),
        ("A1 A2 -A1 !A2 !A2 !A1 -A2", vec!["1|1|", "1|1|", "1|2|"]),
        ("A1 B1 A2 -A1 !B1", vec!["1|1|", "1|1|,2|1|"]),
        ("<1|5|> A6 -A6", vec!["1|5|", "1|5|"]),
        ("<[1|1|:1|9|]> A2 -A2 ^", vec!["[1|1|:1|9|]", "(1|2|:1|9|]", "prune"]),
    ] {
        assert_eq!(told(steps), expected, "{steps}");
    }
}

/// BS-31.
#[test]
fn recovered_points_count_as_logged_and_discarded() {
    let points = [("a", "1|5|"), ("b", "2|7|,1|3|"), ("c", "1|2|,20240102T030405Z"), ("d", "(1|5|:1|9|]")];
    let table = Arc::new(Table::of(&points));
    let store = store_of(&table);
    for (sub_id, point) in points {
        assert_eq!(store.most_recent(sub_id).unwrap().as_str(), point);
        assert_eq!(store.outstanding(sub_id), 0);
    }
    let receive = |sub_id, bookmark| store.receive(&message(sub_id, bookmark)).unwrap() != Receipt::Duplicate;
    for (sub_id, bookmark, is_new) in [
        ("a", "1|5|", false),
        ("a", "1|4|", false),
        ("a", "1|6|", true),
        ("b", "2|7|", false),
        ("b", "1|3|", true),
    ] {
        assert_eq!(receive(sub_id, bookmark), is_new, "{sub_id} {bookmark}");
    }
    assert_eq!(table.calls(), ["recover"], "nothing has moved");
    assert!(receive("c", "1|3|"));
    store.discard(&message("c", "1|3|")).unwrap();
    assert_eq!(table.calls(), ["c 1|3|"], "the time has gone");
}

/// BS-29, BS-31: the subscriber starts again.
#[test]
fn a_memory_store_goes_on_at_the_points_of_its_adapter() {
    let table = Arc::new(Table::default());
    let store = store_of(&table);
    for number in 1..=5 {
        store.receive(&message(SUB, &format!("1|{number}|"))).unwrap();
    }
    [1, 2, 4].into_iter().for_each(|number| store.discard_seq(SUB, number).unwrap());
    drop(store);
    assert_eq!(table.calls().last().unwrap(), "close");

    let store = store_of(&table);
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|2|");
    let again = [1, 2, 3, 4, 5].map(|n| store.receive(&message(SUB, &format!("1|{n}|"))).unwrap());
    assert_eq!(again[..2], [Receipt::Duplicate; 2]);
    assert!(!again[2..].contains(&Receipt::Duplicate), "what was discarded out of turn comes again");
}

/// BS-31: a file wins.
#[test]
fn an_adapter_is_asked_only_if_the_file_knows_nothing() {
    let dir = TempDir::new();
    let open = |table: &Arc<Table>| {
        LoggedBookmarkStore::options().adapter(table.clone(), Fixed).open(dir.join("log")).unwrap()
    };
    let table = Arc::new(Table::of(&[(SUB, "1|5|")]));
    let store = open(&table);
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|5|");
    drop(store);
    assert_eq!(table.calls(), ["recover", "close"]);

    let other = Arc::new(Table::of(&[(SUB, "1|9|")]));
    let store = open(&other);
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|5|", "what was recovered is in the file");
    store.persisted(SUB, "1|6|").unwrap();
    drop(store);
    assert_eq!(other.calls(), ["orders-1 1|6|", "close"]);
}

#[test]
fn a_purge_reaches_the_adapter() {
    let table = Arc::new(Table::default());
    let store = store_of(&table);
    for sub_id in ["a", "b", "c"] {
        store.placed(sub_id, &Bookmark::at(1, 1)).unwrap();
    }
    table.calls();
    store.purge_sub_id("b").unwrap();
    assert_eq!((table.point("a"), table.point("b")), ("1|1|".to_owned(), String::new()));
    store.purge().unwrap();
    assert_eq!(table.calls(), ["purge b", "purge"]);
    assert_eq!(table.point("a"), "");
}

/// 128, BS-30.
#[test]
fn a_failing_update_does_not_undo_the_discard_and_is_told_once() {
    let table = Arc::new(Table::default());
    let store = store_of(&table);
    for number in 1..=3 {
        store.receive(&message(SUB, &format!("1|{number}|"))).unwrap();
    }
    table.fail(1);
    let error = store.discard(&message(SUB, "1|1|")).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("the table is full"), "{error}");
    assert_eq!((store.most_recent(SUB).unwrap().as_str(), store.outstanding(SUB)), ("1|1|", 2));
    store.discard(&message(SUB, "1|1|")).unwrap();
    store.discard(&message(SUB, "1|2|")).unwrap();
    assert_eq!(table.point(SUB), "1|2|");
}

/// An adapter that cannot recover, or whose points make no sense.
#[test]
fn a_store_is_not_made_if_its_adapter_cannot_recover() {
    struct Mute;
    impl RecoveryPointAdapter for Mute {
        fn recover(&self) -> Result<Vec<RecoveryPoint>> {
            Err(Error::new(ErrorKind::Connection, "nobody there"))
        }
        fn update(&self, _point: &RecoveryPoint) -> Result<()> {
            Ok(())
        }
        fn purge(&self) -> Result<()> {
            Ok(())
        }
        fn purge_sub_id(&self, _sub_id: &str) -> Result<()> {
            Ok(())
        }
    }
    let error = MemoryBookmarkStore::with_adapter(Mute, Fixed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connection);
    let error = MemoryBookmarkStore::with_adapter(Table::of(&[("", "1|1|")]), Fixed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
}

/// What an adapter does with each point it is told.
struct Told<F>(F);

impl<F: Fn(&RecoveryPoint) + Send + Sync> RecoveryPointAdapter for Told<F> {
    fn recover(&self) -> Result<Vec<RecoveryPoint>> {
        Ok(Vec::new())
    }
    fn update(&self, point: &RecoveryPoint) -> Result<()> {
        (self.0)(point);
        Ok(())
    }
    fn purge(&self) -> Result<()> {
        Ok(())
    }
    fn purge_sub_id(&self, _sub_id: &str) -> Result<()> {
        Ok(())
    }
}

/// Fixed and dynamic recovery points.
#[test]
fn a_fixed_point_stays_and_a_dynamic_one_moves_on() {
    for (points, expected) in [(Fixed, "1|1|"), (Dynamic, "1|2|")] {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let adapter = Told(move |point: &RecoveryPoint| keep.lock().push(point.clone()));
        let store = MemoryBookmarkStore::with_adapter(adapter, points).unwrap();
        store.placed(SUB, &Bookmark::at(1, 1)).unwrap();
        store.placed(SUB, &Bookmark::at(1, 2)).unwrap();
        let kept = kept.lock();
        assert_eq!((kept[0].sub_id(), kept[0].bookmark().as_str()), (SUB, expected));
        assert_eq!(kept[1].bookmark().as_str(), "1|2|");
    }
}

/// BS-30: outside the lock of the store.
#[test]
fn an_adapter_may_use_its_store() {
    let own = Arc::new(OnceLock::<Arc<MemoryBookmarkStore>>::new());
    let (within, seen) = (own.clone(), Arc::new(Mutex::new(Vec::new())));
    let note = seen.clone();
    let adapter = Told(move |point: &RecoveryPoint| {
        let store = within.get().unwrap();
        note.lock().push((String::from(point.bookmark()), store.outstanding(SUB)));
        if let Some(oldest) = store.oldest_seq(SUB) {
            store.discard_seq(SUB, oldest).unwrap();
        }
    });
    let store = Arc::new(MemoryBookmarkStore::with_adapter(adapter, Fixed).unwrap());
    assert!(own.set(store.clone()).is_ok());
    for number in 1..=3 {
        store.receive(&message(SUB, &format!("1|{number}|"))).unwrap();
    }
    store.discard_seq(SUB, 1).unwrap();
    let expected = [("1|1|", 2), ("1|2|", 1), ("1|3|", 0)].map(|(point, left)| (point.to_owned(), left));
    assert_eq!(*seen.lock(), expected);
}

/// BS-30: in order, and by one thread at a time.
#[test]
fn updates_come_in_order_from_any_number_of_threads() {
    const MESSAGES: u64 = 2_000;
    let (busy, highest) = (AtomicBool::new(false), Mutex::new(0));
    let last = Arc::new(Mutex::new(String::new()));
    let keep = last.clone();
    let adapter = Told(move |point: &RecoveryPoint| {
        assert!(!busy.swap(true, Ordering::SeqCst), "two at once");
        let text = String::from(point.bookmark());
        let sequence: u64 = text.split('|').nth(1).unwrap().parse().unwrap();
        let before = std::mem::replace(&mut *highest.lock(), sequence);
        assert!(before <= sequence, "{sequence} after {before}");
        *keep.lock() = text;
        busy.store(false, Ordering::SeqCst);
    });
    let store = MemoryBookmarkStore::with_adapter(adapter, Fixed).unwrap();
    for number in 1..=MESSAGES {
        store.receive(&message(SUB, &format!("1|{number}|"))).unwrap();
    }
    thread::scope(|scope| {
        for worker in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let own = (1..=MESSAGES).filter(|number| number % 4 == worker);
                own.for_each(|number| store.discard_seq(SUB, number).unwrap());
            });
        }
    });
    assert_eq!(*last.lock(), format!("1|{MESSAGES}|"));
}

#[test]
fn a_store_outlives_a_panic_of_its_adapter() {
    let adapter = Told(|point: &RecoveryPoint| assert_ne!(point.bookmark().as_str(), "1|1|"));
    let store = MemoryBookmarkStore::with_adapter(adapter, Fixed).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| store.placed(SUB, &Bookmark::at(1, 1)))).is_err());
    store.placed(SUB, &Bookmark::at(1, 2)).unwrap();
    assert_eq!(store.most_recent(SUB).unwrap().as_str(), "1|2|");
}
