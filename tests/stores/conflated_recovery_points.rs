//! The conflating recovery point adapter (`resilience` BS-32).

use std::sync::Arc;
use std::time::Duration;

use amps_client::{
    Bookmark, BookmarkStore, ConflatingRecoveryPointAdapter, ConflatingRecoveryPointAdapterBuilder,
    ErrorKind, MemoryBookmarkStore, RecoveryPoint, RecoveryPointAdapter, RecoveryPointFactory,
};

use crate::support::recovery_points::Table;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3_600);

fn conflating(
    settings: impl FnOnce(ConflatingRecoveryPointAdapterBuilder) -> ConflatingRecoveryPointAdapterBuilder,
) -> (Arc<Table>, ConflatingRecoveryPointAdapter) {
    let table = Arc::new(Table::default());
    let builder = ConflatingRecoveryPointAdapter::builder(table.clone()).age(NEVER).interval(NEVER);
    (table, settings(builder).build().unwrap())
}

fn point(sub_id: &str, sequence: u64) -> RecoveryPoint {
    RecoveryPoint::new(sub_id, Bookmark::at(1, sequence))
}

/// 129.
#[test]
fn of_many_updates_few_are_passed_on_and_the_last_is_among_them() {
    let (table, adapter) = conflating(|builder| builder);
    for sequence in 1..=25 {
        adapter.update(&point("a", sequence)).unwrap();
    }
    adapter.close().unwrap();
    let calls = table.calls();
    assert!((2..=5).contains(&calls.len()), "{calls:?}");
    assert_eq!(calls[calls.len() - 2..], ["a 1|25|", "close"]);
}

#[test]
fn a_point_is_passed_on_when_it_has_changed_so_often() {
    let (table, adapter) = conflating(|builder| builder.threshold(3));
    for sub_id in ["a", "b", "b", "a", "b"] {
        adapter.update(&point(sub_id, 7)).unwrap();
    }
    assert_eq!(table.calls_up_to("b 1|7|"), ["b 1|7|"]);
    adapter.close().unwrap();
    assert_eq!(table.calls(), ["a 1|7|", "close"]);
}

#[test]
fn a_point_is_passed_on_when_it_is_so_old() {
    let (table, adapter) =
        conflating(|builder| builder.age(Duration::from_millis(5)).interval(Duration::from_millis(2)));
    for sequence in 1..=2 {
        adapter.update(&point("a", sequence)).unwrap();
        table.calls_up_to(&format!("a 1|{sequence}|"));
    }
}

/// An age of nothing: everything goes along with what is due.
#[test]
fn without_an_age_everything_goes_when_anything_is_due() {
    let (table, adapter) = conflating(|builder| builder.threshold(2).age(Duration::ZERO));
    for sub_id in ["a", "b", "c", "b"] {
        adapter.update(&point(sub_id, 1)).unwrap();
    }
    ["a", "b", "c"].into_iter().for_each(|sub_id| table.wait_for_point(sub_id, "1|1|"));
    assert_eq!(table.calls().len(), 3);
}

#[test]
fn a_threshold_of_one_conflates_nothing() {
    let (table, adapter) = conflating(|builder| builder.threshold(1));
    for sequence in 1..=3 {
        adapter.update(&point("a", sequence)).unwrap();
        assert_eq!(table.point("a"), format!("1|{sequence}|"));
    }
    table.fail(1);
    assert_eq!(adapter.update(&point("a", 4)).unwrap_err().kind(), ErrorKind::Store);
}

#[test]
fn everything_is_passed_on_on_request_and_when_it_is_dropped() {
    let (table, adapter) = conflating(|builder| builder);
    adapter.update(&point("a", 1)).unwrap();
    assert_eq!(table.calls(), [""; 0]);
    adapter.update_all().unwrap();
    adapter.update_all().unwrap();
    assert_eq!(table.calls(), ["a 1|1|"]);
    adapter.update(&point("a", 2)).unwrap();
    drop(adapter);
    assert_eq!(table.calls(), ["a 1|2|", "close"]);
}

#[test]
fn closing_again_does_nothing_and_an_update_afterwards_is_passed_on_at_once() {
    let (table, adapter) = conflating(|builder| builder);
    adapter.close().unwrap();
    adapter.close().unwrap();
    adapter.update(&point("a", 1)).unwrap();
    drop(adapter);
    assert_eq!(table.calls(), ["close", "a 1|1|"]);
}

/// Nothing that was held back comes after a purge.
#[test]
fn a_purge_goes_straight_through() {
    let (table, adapter) = conflating(|builder| builder);
    for sub_id in ["a", "b"] {
        adapter.update(&point(sub_id, 1)).unwrap();
    }
    adapter.purge_sub_id("a").unwrap();
    adapter.prune().unwrap();
    adapter.update_all().unwrap();
    assert_eq!(table.calls(), ["purge a", "prune", "b 1|1|"]);
    adapter.update(&point("b", 2)).unwrap();
    adapter.purge().unwrap();
    drop(adapter);
    assert_eq!(table.calls(), ["purge", "close"]);
}

/// BS-30: told once, and tried again.
#[test]
fn a_failure_is_told_once_and_the_point_is_tried_again() {
    let (table, adapter) = conflating(|builder| builder.threshold(2));
    table.fail(1);
    // The second update may find the failure already.
    let mut told: Vec<_> = (0..2).filter_map(|_| adapter.update(&point("a", 1)).err()).collect();
    assert_eq!(table.calls_up_to("a 1|1|"), ["a 1|1|"]);
    told.extend((0..2).filter_map(|_| adapter.update_all().err()));
    assert!(matches!(&told[..], [error] if error.kind() == ErrorKind::Store), "{told:?}");
    assert_eq!(table.calls(), ["a 1|1|"]);
    assert_eq!(table.point("a"), "1|1|");

    table.fail(1);
    adapter.update(&point("a", 2)).unwrap();
    assert_eq!(adapter.close().unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(table.calls(), ["a 1|2|", "close"]);
}

/// With dynamic points nothing is computed that is not passed on; and it works under a store.
#[test]
fn a_store_may_use_it_with_dynamic_points() {
    let (table, adapter) = conflating(|builder| builder.threshold(1_000));
    let store = MemoryBookmarkStore::with_adapter(adapter, RecoveryPointFactory::Dynamic).unwrap();
    for sequence in 1..=100 {
        store.placed("a", &Bookmark::at(1, sequence)).unwrap();
    }
    store.purge_sub_id("b").unwrap();
    drop(store);
    assert_eq!(table.calls(), ["recover", "purge b", "a 1|100|", "close"]);
}
