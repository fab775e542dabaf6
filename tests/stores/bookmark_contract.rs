//! What every bookmark store promises (`resilience` section 10), proved for each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::TempDir;
use crate::support::bookmark_stores::{Kind, Run, SUB, message};
use amps_client::{BookmarkStore, BookmarkStoreResizeHandler, DiscardOldest, ErrorKind, Receipt};

macro_rules! contract {
    (@kind $kind:ident in $module:ident: $($name:ident)+) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                super::$name(Kind::$kind);
            })+
        }
    };
    (promises: $names:tt) => {
        contract!(@each $names: Memory memory, Logged logged, Ring ring);
    };
    (@each [$($name:ident)+]: $($kind:ident $module:ident),+) => {
        contract!(@kinds [$($kind $module),+] $($name)+);
    };
    (@kinds [$kind:ident $module:ident $(, $kinds:ident $modules:ident)*] $($name:ident)+) => {
        contract!(@kind $kind in $module: $($name)+);
        contract!(@kinds [$($kinds $modules),*] $($name)+);
    };
    (@kinds [] $($name:ident)+) => {};
}

contract!(promises: [
    each_vector_gives_its_most_recent
    each_vector_tells_new_messages_from_duplicates
    a_restart_keeps_what_this_kind_promises
    a_message_that_comes_again_keeps_its_number
    numbers_begin_at_one_for_each_subscription
    subscriptions_know_nothing_of_each_other
    a_discard_by_number_is_a_discard
    what_is_unknown_changes_nothing
    a_bookmark_that_is_no_place_is_not_logged
    without_a_subscription_id_there_is_an_error
    the_two_steps_of_a_receipt_can_be_taken_one_by_one
    what_is_persisted_may_be_a_list_but_no_range
    a_purge_forgets_for_good
    a_purge_of_one_leaves_the_others
    pruning_changes_no_answer
    a_resize_handler_is_asked_before_the_store_grows
    a_resize_handler_may_make_room_itself
    the_oldest_are_discarded_rather_than_growing
    discards_come_from_any_thread
    a_shared_handle_is_a_store_too
]);

fn run(kind: Kind, steps: &str, check: impl FnOnce(&mut Run<'_>)) {
    let dir = TempDir::new();
    let mut run = Run::new(kind, &dir);
    check(run.steps(steps));
}

/// 118: the table of 10.3.
fn each_vector_gives_its_most_recent(kind: Kind) {
    for (steps, expected) in [
        ("", "0"),
        ("A1 A2 A3", "1|3|"),
        ("A1 A2 A3 -A2", "1|3|"),
        ("A1 A2 A3 -A1", "1|1|"),
        ("A1 A2 A3 -A1 -A3", "1|1|"),
        ("A1 -A1 A2 -A2 A3 -A3", "1|3|"),
        ("A1 -A1 A2 -A2 A3 -A3 !A2", "1|2|"),
        ("A1 -A1 A2 -A2 A3 -A3 !A2 !A3", "1|3|"),
        ("A1 -A1 A2 -A2 A3 -A3 !A2 !A3 !A1", "1|3|"),
        ("A1 -A1 A2 -A2 A3 -A3 !A2 !A3 !A1 !B9", "2|9|"),
        ("A1 A2 A3 !A3", "0"),
        ("A1 A2 A3 -A1 !A3", "1|1|"),
        ("A1 A2 A3 -A1 -A2 !A1", "1|1|"),
        ("A1 B1 A2 -A1", "1|1|,2|1|"),
        ("A1 B1 A2 -A1 -B1", "1|2|,2|1|"),
        ("A1 B1 -A1 -B1 !A1 A2", "2|1|,1|1|"),
        ("<[1|1|:1|9|]>", "[1|1|:1|9|]"),
        ("<[1|1|:1|9|]> A1 A2 -A1", "(1|1|:1|9|]"),
        ("<(1|5|,2|7|:1|9|]>", "(1|5|,2|7|:1|9|]"),
    ] {
        run(kind, steps, |run| assert_eq!(run.most_recent(), expected, "{steps}"));
    }
}

/// 118, 121: what the table says of the messages that come next.
fn each_vector_tells_new_messages_from_duplicates(kind: Kind) {
    for (steps, expected) in [
        ("A1 A2 A3 -A1 A1 A2 A3", vec![false, true, true]),
        ("A1 A2 A3 -A1 -A3 A2 A3 A4", vec![true, false, true]),
        ("<(1|5|,2|7|:1|9|]> A5 B8", vec![false, true]),
        ("A5 A4", vec![true, false]),
        ("A1 A1", vec![true, true]),
        // Rule 121: another server, which has them in another order.
        ("A1 B1 A2 -A1 B1 A1 A2 A3", vec![true, false, true, true]),
    ] {
        run(kind, steps, |run| assert_eq!(run.news, expected, "{steps}"));
    }
}

/// 119: BS-23, and BS-28 for the ring.
fn a_restart_keeps_what_this_kind_promises(kind: Kind) {
    let (new, dup) = (true, false);
    // In the last column what a ring has forgotten.
    for (steps, expected, again, in_a_ring) in [
        ("", "0", [new, new, new], [new, new, new]),
        ("-A1", "1|1|", [dup, new, new], [dup, new, new]),
        ("-A1 -A3", "1|1|", [dup, new, dup], [dup, new, new]),
        ("-A1 -A2 -A3", "1|3|", [dup, dup, dup], [dup, dup, dup]),
        ("-A1 -A2 -A3 !A2", "1|2|", [dup, dup, dup], [dup, dup, new]),
        ("-A1 !A3", "1|1|", [dup, new, new], [dup, new, new]),
        ("-A2", "0", [new, dup, new], [new, new, new]),
    ] {
        let steps = format!("A1 A2 A3 {steps} ~");
        let (expected, again) = match kind {
            Kind::Memory => ("0", [new, new, new]),
            Kind::Logged => (expected, again),
            Kind::Ring => (expected, in_a_ring),
        };
        run(kind, &steps, |run| {
            assert_eq!(run.most_recent(), expected, "{steps}");
            assert_eq!(run.steps("A1 A2 A3").news, again, "{steps}");
        });
    }
}

/// BS-9, BS-17.
fn a_message_that_comes_again_keeps_its_number(kind: Kind) {
    run(kind, "A1 A2 B1 -A1", |run| {
        for (bookmark, number) in [("1|2|", 2), ("2|1|", 3), ("1|2|", 2), ("1|3|", 4)] {
            assert_eq!(run.store.receive(&message(SUB, bookmark)).unwrap(), Receipt::New(number));
        }
        assert_eq!((run.store.outstanding(SUB), run.store.oldest_seq(SUB)), (3, Some(2)));
    });
}

/// BS-9.
fn numbers_begin_at_one_for_each_subscription(kind: Kind) {
    run(kind, "", |run| {
        for number in 1..=3 {
            for sub_id in [SUB, "other"] {
                let bookmark = format!("7|{number}|");
                assert_eq!(run.store.log(&message(sub_id, &bookmark)).unwrap(), number);
            }
        }
        assert_eq!(run.store.oldest_seq("none"), None);
        assert_eq!(run.store.outstanding("none"), 0);
    });
}

fn subscriptions_know_nothing_of_each_other(kind: Kind) {
    run(kind, "A1 A2 -A1", |run| {
        let other = |bookmark| run.store.receive(&message("other", bookmark)).unwrap();
        assert_eq!([other("1|1|"), other("1|2|")], [Receipt::New(1), Receipt::New(2)]);
        run.store.discard(&message("other", "1|2|")).unwrap();
        run.store.persisted("third", "1|9|").unwrap();
        assert_eq!(run.most_recent(), "1|1|");
        assert_eq!(run.store.most_recent("other").unwrap().as_str(), "1|2|");
        assert_eq!(run.store.most_recent("third").unwrap().as_str(), "1|9|");
        assert_eq!(run.store.most_recent("fourth").unwrap().as_str(), "0");
    });
}

/// BS-10.
fn a_discard_by_number_is_a_discard(kind: Kind) {
    run(kind, "A1 B1 A2", |run| {
        run.store.discard_seq(SUB, 2).unwrap();
        assert_eq!((run.store.oldest_seq(SUB), run.store.outstanding(SUB)), (Some(1), 2));
        run.store.discard_seq(SUB, 1).unwrap();
        assert_eq!((run.store.oldest_seq(SUB), run.store.outstanding(SUB)), (Some(3), 1));
        assert_eq!(run.most_recent(), "1|2|,2|1|");
        run.store.discard_seq(SUB, 3).unwrap();
        assert_eq!((run.store.oldest_seq(SUB), run.store.outstanding(SUB)), (None, 0));
    });
}

/// BS-10.
fn what_is_unknown_changes_nothing(kind: Kind) {
    run(kind, "A1 A2 -A1 -A1 -A9 -B1", |run| {
        for number in [0, 1, 3, u64::MAX] {
            run.store.discard_seq(SUB, number).unwrap();
            run.store.discard_seq("other", number).unwrap();
        }
        run.store.discard(&message("other", "1|2|")).unwrap();
        run.store.discard(&message(SUB, "20240102T030405Z")).unwrap();
        run.store.purge_sub_id("other").unwrap();
        assert_eq!((run.store.outstanding(SUB), run.most_recent().as_str()), (1, "1|1|"));
    });
}

/// BS-9, BS-11.
fn a_bookmark_that_is_no_place_is_not_logged(kind: Kind) {
    run(kind, "", |run| {
        for bookmark in ["", "0", "0|1|", "recent", "x|1|", "1|", "1|99999999999999999999|"] {
            let message = message(SUB, bookmark);
            assert!(run.store.is_discarded(&message).unwrap(), "{bookmark}");
            assert_eq!(run.store.receive(&message).unwrap(), Receipt::Duplicate, "{bookmark}");
            assert_eq!(run.store.log(&message).unwrap(), 0, "{bookmark}");
        }
        for bookmark in ["20240102T030405Z", "20240102T030405", "[1|1|:1|9|]"] {
            let message = message(SUB, bookmark);
            assert!(!run.store.is_discarded(&message).unwrap(), "{bookmark}");
            assert_eq!(run.store.receive(&message).unwrap(), Receipt::New(0), "{bookmark}");
            run.store.discard(&message).unwrap();
        }
        assert_eq!((run.store.outstanding(SUB), run.most_recent().as_str()), (0, "0"));
    });
}

/// 126, BS-15.
fn without_a_subscription_id_there_is_an_error(kind: Kind) {
    run(kind, "", |run| {
        let (store, message) = (&run.store, message("", "1|1|"));
        let errors = [
            store.log(&message).unwrap_err(),
            store.receive(&message).unwrap_err(),
            store.is_discarded(&message).unwrap_err(),
            store.discard(&message).unwrap_err(),
            store.discard_seq("", 1).unwrap_err(),
            store.placed("", &"1|1|".parse().unwrap()).unwrap_err(),
            store.most_recent("").unwrap_err(),
            store.persisted("", "1|1|").unwrap_err(),
            store.purge_sub_id("").unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Store, "{error}");
            assert!(error.to_string().contains("subscription id"), "{error}");
        }
    });
}

fn the_two_steps_of_a_receipt_can_be_taken_one_by_one(kind: Kind) {
    run(kind, "", |run| {
        let message = message(SUB, "1|1|");
        assert!(!run.store.is_discarded(&message).unwrap(), "asking changes nothing");
        assert!(!run.store.is_discarded(&message).unwrap());
        assert_eq!(run.store.log(&message).unwrap(), 1);
        assert!(!run.store.is_discarded(&message).unwrap());
        run.store.discard(&message).unwrap();
        assert!(run.store.is_discarded(&message).unwrap());
        assert_eq!(run.store.log(&message).unwrap(), 0, "it is done already");
        assert_eq!(run.store.outstanding(SUB), 0);
    });
}

/// BS-12.
fn what_is_persisted_may_be_a_list_but_no_range(kind: Kind) {
    run(kind, "", |run| {
        for nothing in ["", "0", "0|1|", "[1|1|:1|9|]", "20240102T030405Z", "x"] {
            run.store.persisted(SUB, nothing).unwrap();
            assert_eq!(run.most_recent(), "0", "{nothing}");
        }
        run.store.persisted(SUB, "1|5|, 2|7|").unwrap();
        assert_eq!(run.most_recent(), "1|5|,2|7|");
        run.store.persisted(SUB, "2|6|").unwrap();
        assert_eq!(run.most_recent(), "1|5|,2|7|");
    });
}

/// BS-14.
fn a_purge_forgets_for_good(kind: Kind) {
    run(kind, "A1 A2 -A1 !A1", |run| {
        run.store.receive(&message("other", "1|1|")).unwrap();
        run.store.purge().unwrap();
        assert_eq!((run.most_recent().as_str(), run.store.oldest_seq(SUB)), ("0", None));
        assert_eq!(run.steps("A1").news, [true]);
        run.store.discard_seq(SUB, 1).unwrap();
        assert_eq!(run.store.outstanding(SUB), 1, "the number of before means nothing any more");
        assert!(run.store.oldest_seq(SUB) > Some(2));
        run.store.purge().unwrap();
        assert_eq!(run.steps("~").most_recent(), "0");
        assert_eq!(run.store.most_recent("other").unwrap().as_str(), "0");
        assert_eq!(run.store.outstanding("other"), 0);
    });
}

/// BS-14, BS-25.
fn a_purge_of_one_leaves_the_others(kind: Kind) {
    run(kind, "A1 A2 -A1", |run| {
        for bookmark in ["1|1|", "1|2|"] {
            run.store.receive(&message("other", bookmark)).unwrap();
        }
        run.store.discard(&message("other", "1|1|")).unwrap();
        run.store.purge_sub_id(SUB).unwrap();
        assert_eq!((run.most_recent().as_str(), run.store.outstanding(SUB)), ("0", 0));
        assert_eq!(run.store.most_recent("other").unwrap().as_str(), "1|1|");
        assert_eq!(run.steps("A7 -A7").most_recent(), "1|7|");
        if run.kind.is_durable() {
            assert_eq!(run.steps("~").most_recent(), "1|7|");
            assert_eq!(run.store.most_recent("other").unwrap().as_str(), "1|1|");
            run.store.purge_sub_id("other").unwrap();
            run.steps("~");
            assert_eq!(run.store.most_recent("other").unwrap().as_str(), "0");
            assert_eq!(run.most_recent(), "1|7|");
        }
    });
}

/// 125, BS-25.
fn pruning_changes_no_answer(kind: Kind) {
    for steps in [
        "A1 A2 A3",
        "A1 A2 A3 -A1 -A3",
        "A1 B1 A2 B2 C1 -A1 -B1 -B2 !A1",
        "A1 B1 C7 A2 -A1 -B1 -C7 -A2 !B1 C8",
        "<1|5|,2|7|> A6 B8 -A6 C1",
        "<20240102T030405Z> A1",
        "<(1|5|,2|7|:1|9|]> A6 -A6",
    ] {
        let again = "A1 A2 A3 A4 A5 A6 A7 B1 B2 B3 B7 B8 C1 C7 C8 C9";
        for restart in ["", "~"] {
            let answers = ["", "^"].map(|prune| {
                let mut answers = None;
                run(kind, &format!("{steps} {prune} {restart}"), |run| {
                    let before = (run.most_recent(), run.store.outstanding(SUB));
                    run.news.clear();
                    answers = Some((before, run.steps(again).news.clone(), run.most_recent()));
                });
                answers
            });
            assert_eq!(answers[0], answers[1], "{steps} {restart}");
        }
    }
}

/// BS-16.
fn a_resize_handler_is_asked_before_the_store_grows(kind: Kind) {
    run(kind, "", |run| {
        let asked = Arc::new(AtomicU64::new(0));
        let seen = asked.clone();
        run.store.set_resize_handler(Some(Box::new(
            move |store: &dyn BookmarkStore, sub_id: &str, bytes: u64| {
                assert_eq!((sub_id, store.oldest_seq(sub_id)), (SUB, Some(1)));
                seen.fetch_max(bytes, Ordering::Relaxed);
                bytes < 50_000
            },
        )));
        let receive = |n: u64| run.store.receive(&message(SUB, &format!("1|{n}|")));
        let refused = (1..10_000).map(receive).find_map(Result::err).expect("a refusal");
        assert_eq!(refused.kind(), ErrorKind::Store);
        assert!(refused.to_string().contains(&asked.load(Ordering::Relaxed).to_string()), "{refused}");
        let held = run.store.outstanding(SUB) as u64;
        assert!((500..5_000).contains(&held), "{held}");
        assert!(receive(20_000).is_err() && receive(1).is_ok(), "only what needs room is refused");
        assert!(run.store.receive(&message("other", "1|1|")).is_ok());
        run.store.discard_seq(SUB, 1).unwrap();
        assert_eq!(receive(held + 1).unwrap(), Receipt::New(held + 1));
        run.store.set_resize_handler(None);
        assert_eq!(receive(held + 2).unwrap(), Receipt::New(held + 2));
    });
}

/// BS-16: it runs without the lock of the store.
fn a_resize_handler_may_make_room_itself(kind: Kind) {
    run(kind, "", |run| {
        struct DiscardAll;
        impl BookmarkStoreResizeHandler for DiscardAll {
            fn on_resize(&self, store: &dyn BookmarkStore, sub_id: &str, _bytes: u64) -> bool {
                while let Some(oldest) = store.oldest_seq(sub_id) {
                    store.discard_seq(sub_id, oldest).unwrap();
                }
                false
            }
        }
        run.store.set_resize_handler(Some(Box::new(DiscardAll)));
        for n in 1..=3_000 {
            run.store.receive(&message(SUB, &format!("1|{n}|"))).unwrap();
        }
        assert!(run.store.outstanding(SUB) <= 1_000);
    });
}

/// BS-16: the ready-made handler.
fn the_oldest_are_discarded_rather_than_growing(kind: Kind) {
    run(kind, "", |run| {
        run.store.set_resize_handler(Some(Box::new(DiscardOldest::beyond(24 * 600))));
        for n in 1..=3_000 {
            run.store.receive(&message(SUB, &format!("1|{n}|"))).unwrap();
        }
        let held = run.store.outstanding(SUB) as u64;
        assert!((300..=600).contains(&held), "{held}");
        assert_eq!(run.store.oldest_seq(SUB), Some(3_001 - held));
        assert_eq!(run.most_recent(), format!("1|{}|", 3_000 - held));
    });
}

/// BS-10, the thread rules.
fn discards_come_from_any_thread(kind: Kind) {
    const MESSAGES: u64 = 2_000;
    run(kind, "", |run| {
        let (store, received) = (&*run.store, &AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=MESSAGES {
                    store.receive(&message(SUB, &format!("1|{number}|"))).unwrap();
                    received.store(number, Ordering::Release);
                }
            });
            for worker in 0..3 {
                scope.spawn(move || {
                    for number in (1..=MESSAGES).filter(|number| number % 3 == worker) {
                        while received.load(Ordering::Acquire) < number {
                            thread::yield_now();
                        }
                        store.discard_seq(SUB, number).unwrap();
                    }
                });
            }
        });
        assert_eq!((run.most_recent(), run.store.outstanding(SUB)), (format!("1|{MESSAGES}|"), 0));
    });
}

fn a_shared_handle_is_a_store_too(kind: Kind) {
    let dir = TempDir::new();
    let store: Arc<dyn BookmarkStore> = Arc::from(kind.open(&dir));
    let given: Box<dyn BookmarkStore> = Box::new(store.clone());
    given.receive(&message(SUB, "1|1|")).unwrap();
    store.discard_seq(SUB, 1).unwrap();
    assert_eq!(given.most_recent(SUB).unwrap().as_str(), "1|1|");
}
