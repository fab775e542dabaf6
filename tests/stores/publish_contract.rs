//! What every publish store promises (`resilience` section 9), proved for each of them.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use amps_client::{AckType, CommandType, Error, ErrorKind, PublishStore, Selector, StoreEntry};

use crate::support::TempDir;
use crate::support::publish_stores::{File, Hybrid, Kind, Memory, Owned, publish, replayed, single};

/// Long enough for anything to happen.
const SOON: Duration = Duration::from_secs(20);

type Store = Arc<dyn PublishStore>;

macro_rules! contract {
    (@kind $kind:ident in $module:ident: $($name:ident)+) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                let dir = TempDir::new();
                super::$name(Arc::from($kind.open(&dir)));
            })+
        }
    };
    (promises: [$($name:ident)+]) => {
        contract!(@kind Memory in memory: $($name)+);
        contract!(@kind File in file: $($name)+);
        contract!(@kind Hybrid in hybrid: $($name)+);
    };
}

contract!(promises: [
    numbers_start_at_the_clock_and_grow_by_one
    the_next_number_is_above_what_the_server_tells
    everything_is_handed_out_in_order_and_as_it_was
    a_queue_cancel_is_known_as_one
    a_discard_forgets_up_to_its_number_and_no_more
    a_discard_below_the_last_changes_nothing
    a_server_without_history_discards_nothing
    a_gap_is_an_error_only_if_wanted_and_never_at_first
    a_single_message_is_found_by_its_number
    the_error_of_a_replayer_ends_the_replay
    a_replayer_may_use_the_store
    messages_of_any_size_are_kept
    what_cannot_be_kept_is_refused_and_uses_no_number
    flushing_an_empty_store_takes_no_time
    a_flush_ends_when_its_time_is_up
    a_flush_ends_with_the_discard_it_waits_for
    a_flush_does_not_wait_for_later_messages
    a_resize_handler_is_asked_before_the_store_grows
    a_refused_publisher_asks_again_until_it_may
    a_refused_publisher_goes_on_when_there_is_room
    room_is_announced_and_not_only_found_when_asking_again
    where_nothing_may_wait_a_refusal_is_an_error
    a_resize_handler_may_make_room_itself
    threads_share_the_numbers
    a_shared_handle_is_a_store_too
    numbers_are_told_in_order_and_once_however_many_threads_store
]);

fn stored(store: &Store, count: usize) -> Vec<u64> {
    (0..count).map(|n| store.store(&publish(format!("{n}").as_bytes())).unwrap()).collect()
}

fn sequences(store: &Store) -> Vec<u64> {
    replayed(&**store).into_iter().map(|(sequence, _)| sequence).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        thread::yield_now();
    }
}

/// 99, PS-4, PS-5.
fn numbers_start_at_the_clock_and_grow_by_one(store: Store) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let numbers = stored(&store, 3);
    assert!(numbers[0] > (now - 1000) * 1_000_000, "{numbers:?}");
    assert_eq!(numbers, [numbers[0], numbers[0] + 1, numbers[0] + 2]);
    assert_eq!(store.last_persisted(), 0);
}

/// 100, PS-6.
fn the_next_number_is_above_what_the_server_tells(store: Store) {
    let first = stored(&store, 1)[0];
    store.discard_up_to(first + 41).unwrap();
    assert_eq!((store.unpersisted_count(), store.last_persisted()), (0, first + 41));
    assert_eq!(stored(&store, 2), [first + 42, first + 43]);
    assert_eq!(sequences(&store), [first + 42, first + 43]);
}

/// 112, PS-1, PS-8, PS-13.
fn everything_is_handed_out_in_order_and_as_it_was(store: Store) {
    let delete = |selector| StoreEntry::new(CommandType::SowDelete, "orders", selector);
    let entries = [
        publish(b"{\"id\":1}"),
        publish(b""),
        StoreEntry::new(CommandType::DeltaPublish, "or\"d\\ers\n", Selector::Data(&[0, 255, b'}']))
            .with_command_id("c1")
            .with_correlation_id("QQ==")
            .with_sow_key("k")
            .with_expiration(30)
            .with_acks(AckType::PROCESSED),
        delete(Selector::Filter("/a = \"b\\c\""))
            .with_sub_id("s")
            .with_query_id("q")
            .with_acks(AckType::STATS | AckType::PROCESSED),
        delete(Selector::SowKeys("1,2")),
        delete(Selector::Data(b"{\"id\":1}")),
        delete(Selector::Bookmark("1|2|,1|3|")).with_options("expire"),
    ];
    let expected: Vec<_> =
        entries.iter().map(|entry| (store.store(entry).unwrap(), Owned::of(entry))).collect();
    assert_eq!(replayed(&*store), expected);
    assert_eq!(replayed(&*store), expected, "a replay changes nothing");
}

/// PS-12 needs it.
fn a_queue_cancel_is_known_as_one(store: Store) {
    let ack = StoreEntry::new(CommandType::SowDelete, "q", Selector::Bookmark("1|2|"));
    store.store(&ack).unwrap();
    store.store(&ack.with_options("cancel")).unwrap();
    let mut cancels = Vec::new();
    store
        .replay(&mut |_, entry: &StoreEntry<'_>| {
            cancels.push(entry.is_cancel());
            Ok(())
        })
        .unwrap();
    assert_eq!(cancels, [false, true]);
}

/// PS-10.
fn a_discard_forgets_up_to_its_number_and_no_more(store: Store) {
    assert_eq!((store.unpersisted_count(), store.lowest_unpersisted()), (0, None));
    let numbers = stored(&store, 100);
    for (at, number) in numbers.iter().enumerate() {
        assert_eq!(store.lowest_unpersisted(), Some(*number));
        store.discard_up_to(*number).unwrap();
        assert_eq!((store.unpersisted_count(), store.last_persisted()), (99 - at, *number));
        assert_eq!(sequences(&store), numbers[at + 1..]);
    }
    assert_eq!(store.lowest_unpersisted(), None);
    assert_eq!(stored(&store, 1), [numbers[99] + 1]);
}

/// PS-10.
fn a_discard_below_the_last_changes_nothing(store: Store) {
    let numbers = stored(&store, 4);
    store.discard_up_to(numbers[1]).unwrap();
    for number in [numbers[1], numbers[0], 1] {
        store.discard_up_to(number).unwrap();
        assert_eq!((store.last_persisted(), store.unpersisted_count()), (numbers[1], 2));
    }
}

/// PS-10.
fn a_server_without_history_discards_nothing(store: Store) {
    let numbers = stored(&store, 2);
    store.discard_up_to(0).unwrap();
    assert_eq!((store.unpersisted_count(), store.last_persisted()), (2, numbers[0] - 1));
    store.discard_up_to(numbers[1]).unwrap();
    store.set_error_on_publish_gap(true);
    store.discard_up_to(0).unwrap();
    assert_eq!(store.last_persisted(), numbers[1]);
}

/// 108, 109, PS-10, PS-11.
fn a_gap_is_an_error_only_if_wanted_and_never_at_first(store: Store) {
    assert!(!store.error_on_publish_gap());
    store.set_error_on_publish_gap(true);
    assert!(store.error_on_publish_gap());
    store.discard_up_to(7).unwrap();
    let numbers = stored(&store, 3);
    store.discard_up_to(numbers[1]).unwrap();
    let error = store.discard_up_to(numbers[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PublishStoreGap);
    assert!(error.to_string().contains(&numbers[1].to_string()), "{error}");
    assert_eq!((store.unpersisted_count(), store.last_persisted()), (1, numbers[1]));
    store.set_error_on_publish_gap(false);
    store.discard_up_to(numbers[0]).unwrap();
}

fn a_single_message_is_found_by_its_number(store: Store) {
    let numbers = stored(&store, 50);
    store.discard_up_to(numbers[9]).unwrap();
    for (at, number) in numbers.iter().enumerate() {
        let expected = (at > 9).then(|| Owned::of(&publish(format!("{at}").as_bytes())));
        assert_eq!(single(&*store, *number), expected, "{at}");
    }
    for number in [0, 1, numbers[49] + 1, u64::MAX] {
        assert_eq!(single(&*store, number), None, "{number}");
    }
}

fn the_error_of_a_replayer_ends_the_replay(store: Store) {
    let numbers = stored(&store, 3);
    let mut seen = Vec::new();
    let mut replayer = |sequence, _: &StoreEntry<'_>| {
        seen.push(sequence);
        if seen.len() == 2 { Err(Error::new(ErrorKind::Disconnected, "gone")) } else { Ok(()) }
    };
    assert_eq!(store.replay(&mut replayer).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(seen, numbers[..2]);
    let mut failing = |_, _: &StoreEntry<'_>| Err(Error::from(ErrorKind::Disconnected));
    assert!(store.replay_single(&mut failing, numbers[0]).is_err());
    assert_eq!(sequences(&store), numbers);
}

fn a_replayer_may_use_the_store(store: Store) {
    let numbers = stored(&store, 3);
    let mut seen = 0;
    store
        .replay(&mut |sequence, _: &StoreEntry<'_>| {
            seen += 1;
            store.store(&publish(b"meanwhile"))?;
            store.discard_up_to(sequence)?;
            assert!(store.unpersisted_count() > 0);
            assert_eq!(single(&*store, sequence), None);
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, 3);
    assert_eq!(sequences(&store), [numbers[2] + 1, numbers[2] + 2, numbers[2] + 3]);
}

fn messages_of_any_size_are_kept(store: Store) {
    let sizes = [0, 1, 15, 16, 17, 100, 3000, 4096, 5000, 70_000, 300_000, 1 << 20, 2, 3 << 20, 3];
    let payload: Vec<u8> = (0..3_u32 << 20).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
    let numbers: Vec<_> = sizes.map(|size| store.store(&publish(&payload[..size])).unwrap()).into();
    for (at, (number, size)) in numbers.iter().zip(sizes).enumerate() {
        let expected = Owned::of(&publish(&payload[..size]));
        assert!(single(&*store, *number) == Some(expected), "{size} bytes");
        if at == 7 {
            store.discard_up_to(*number).unwrap();
        }
    }
    let kept: Vec<_> = replayed(&*store).into_iter().skip(1).map(|(number, _)| number).collect();
    assert_eq!(kept, numbers[9..]);
}

/// PS-3, PS-21.
fn what_cannot_be_kept_is_refused_and_uses_no_number(store: Store) {
    let first = stored(&store, 1)[0];
    let refused = [
        StoreEntry::new(CommandType::SowDelete, "orders", Selector::Filter("")),
        StoreEntry::new(CommandType::Subscribe, "orders", Selector::Data(b"")),
        publish(b"").with_command_id("\u{1}"),
    ];
    for entry in refused {
        assert_eq!(store.store(&entry).unwrap_err().kind(), ErrorKind::Store, "{entry:?}");
    }
    assert_eq!(stored(&store, 1), [first + 1]);
    assert_eq!(sequences(&store), [first, first + 1]);
}

/// 105, PS-15.
fn flushing_an_empty_store_takes_no_time(store: Store) {
    store.flush(Some(Duration::ZERO)).unwrap();
    store.flush(None).unwrap();
    let number = stored(&store, 1)[0];
    store.discard_up_to(number).unwrap();
    store.flush(None).unwrap();
}

/// 105, PS-15.
fn a_flush_ends_when_its_time_is_up(store: Store) {
    stored(&store, 1);
    let begin = Instant::now();
    let error = store.flush(Some(Duration::from_millis(300))).unwrap_err();
    let waited = begin.elapsed();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(waited >= Duration::from_millis(300) && waited < SOON, "{waited:?}");
    assert_eq!(store.flush(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::TimedOut);
}

/// 105, PS-10, PS-15.
fn a_flush_ends_with_the_discard_it_waits_for(store: Store) {
    let numbers = stored(&store, 3);
    thread::scope(|scope| {
        let flushes = [None, Some(SOON)].map(|limit| {
            let store = &store;
            scope.spawn(move || store.flush(limit))
        });
        for number in &numbers[..2] {
            store.discard_up_to(*number).unwrap();
            thread::yield_now();
            assert!(flushes.iter().all(|flush| !flush.is_finished()));
        }
        store.discard_up_to(numbers[2]).unwrap();
        for flush in flushes {
            flush.join().unwrap().unwrap();
        }
    });
}

/// 106, PS-15.
fn a_flush_does_not_wait_for_later_messages(store: Store) {
    // Nothing tells when a flush has begun, so one that began only after the later messages were stored is no failure.
    let proved = (0..50).any(|_| {
        let number = stored(&store, 1)[0];
        thread::scope(|scope| {
            let flush = scope.spawn(|| store.flush(Some(SOON)));
            thread::sleep(Duration::from_millis(1));
            let later = stored(&store, 3)[2];
            store.discard_up_to(number).unwrap();
            let deadline = Instant::now() + Duration::from_millis(200);
            while !flush.is_finished() && Instant::now() < deadline {
                thread::yield_now();
            }
            let proved = flush.is_finished();
            store.discard_up_to(later).unwrap();
            flush.join().unwrap().unwrap();
            proved
        })
    });
    assert!(proved, "a flush waits for what is stored after it");
}

/// Fills the store until the handler, which refuses everything, is asked. Returns the numbers.
fn fill(store: &Store) -> Vec<u64> {
    let asked = Arc::new(AtomicU32::new(0));
    let asks = asked.clone();
    store.set_resize_handler(Some(Box::new(move |_: &dyn PublishStore, _: u64| {
        asks.fetch_add(1, Ordering::SeqCst);
        false
    })));
    let mut numbers = Vec::new();
    while let Ok(number) = store.store(&publish(&[b'x'; 100]).with_may_wait(false)) {
        numbers.push(number);
        assert!(numbers.len() < 10_000, "the store grows without asking");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    store.set_resize_handler(None);
    numbers
}

/// PS-19.
fn a_resize_handler_is_asked_before_the_store_grows(store: Store) {
    let numbers = fill(&store);
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let asked = sizes.clone();
    store.set_resize_handler(Some(Box::new(move |_: &dyn PublishStore, bytes: u64| {
        asked.lock().unwrap().push(bytes);
        true
    })));
    let more = stored(&store, 10 * numbers.len());
    let sizes = sizes.lock().unwrap();
    assert!(sizes.len() > 1 && sizes.is_sorted_by(|a, b| a < b), "{sizes:?}");
    assert_eq!(sequences(&store), [numbers, more].concat());
}

/// 110, PS-19.
fn a_refused_publisher_asks_again_until_it_may(store: Store) {
    let numbers = fill(&store);
    let asked = Arc::new(AtomicU32::new(0));
    let asks = asked.clone();
    let kept = numbers.len();
    store.set_resize_handler(Some(Box::new(move |store: &dyn PublishStore, _: u64| {
        assert_eq!(store.unpersisted_count(), kept);
        asks.fetch_add(1, Ordering::SeqCst) == 2
    })));
    let begin = Instant::now();
    let number = store.store(&publish(&[b'x'; 100])).unwrap();
    assert_eq!((asked.load(Ordering::SeqCst), number), (3, numbers[kept - 1] + 1));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(190) && waited < SOON, "{waited:?}: two waits of 100 ms");
}

/// PS-19.
fn a_refused_publisher_goes_on_when_there_is_room(store: Store) {
    let numbers = fill(&store);
    let asked = Arc::new(AtomicU32::new(0));
    let asks = asked.clone();
    store.set_resize_handler(Some(Box::new(move |_: &dyn PublishStore, _: u64| {
        asks.fetch_add(1, Ordering::SeqCst);
        false
    })));
    thread::scope(|scope| {
        let publishers = [(); 3].map(|()| scope.spawn(|| store.store(&publish(&[b'x'; 100])).unwrap()));
        wait_until("a refusal", || asked.load(Ordering::SeqCst) >= 3);
        store.discard_up_to(numbers[numbers.len() - 1]).unwrap();
        let mut more = publishers.map(|publisher| publisher.join().unwrap());
        more.sort_unstable();
        assert_eq!(sequences(&store), more);
    });
}

/// PS-19. A loaded machine may take long, but not each time.
fn room_is_announced_and_not_only_found_when_asking_again(store: Store) {
    let announced = (0..10).any(|_| {
        let last = fill(&store).pop().unwrap();
        let asked = Arc::new(AtomicBool::new(false));
        let asks = asked.clone();
        store.set_resize_handler(Some(Box::new(move |_: &dyn PublishStore, _: u64| {
            asks.store(true, Ordering::SeqCst);
            false
        })));
        thread::scope(|scope| {
            let publisher = scope.spawn(|| store.store(&publish(&[b'x'; 100])).unwrap());
            wait_until("a refusal", || asked.load(Ordering::SeqCst));
            let begin = Instant::now();
            store.discard_up_to(last).unwrap();
            publisher.join().unwrap();
            begin.elapsed() < Duration::from_millis(50)
        })
    });
    assert!(announced, "a publisher is not woken when there is room");
}

/// T-6, PS-19.
fn where_nothing_may_wait_a_refusal_is_an_error(store: Store) {
    let numbers = fill(&store);
    store.set_resize_handler(Some(Box::new(|_: &dyn PublishStore, _: u64| false)));
    let error = store.store(&publish(&[b'x'; 100]).with_may_wait(false)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert_eq!(sequences(&store), numbers);
    store.discard_up_to(numbers[numbers.len() - 1]).unwrap();
    store.store(&publish(&[b'x'; 100]).with_may_wait(false)).unwrap();
}

/// PS-19.
fn a_resize_handler_may_make_room_itself(store: Store) {
    let numbers = fill(&store);
    let last = numbers[numbers.len() - 1];
    store.set_resize_handler(Some(Box::new(move |store: &dyn PublishStore, _: u64| {
        assert_eq!(store.flush(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::TimedOut);
        store.discard_up_to(last).unwrap();
        store.flush(None).unwrap();
        false
    })));
    assert_eq!(store.store(&publish(&[b'x'; 100])).unwrap(), last + 1);
}

/// PS-4; the contract on threads.
fn threads_share_the_numbers(store: Store) {
    const EACH: usize = 500;
    let done = AtomicBool::new(false);
    let mut numbers: Vec<u64> = thread::scope(|scope| {
        let publishers = [(); 4].map(|()| scope.spawn(|| stored(&store, EACH)));
        let discards = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                if let Some(lowest) = store.lowest_unpersisted() {
                    store.discard_up_to(lowest + 2).unwrap();
                }
                assert!(sequences(&store).is_sorted());
            }
        });
        let numbers = publishers.map(|publisher| publisher.join().unwrap()).concat();
        done.store(true, Ordering::SeqCst);
        discards.join().unwrap();
        numbers
    });
    numbers.sort_unstable();
    let first = numbers[0];
    // A discard above the last number skips some; none is given twice.
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(numbers[4 * EACH - 1] < first + 12 * EACH as u64);
    let kept = sequences(&store);
    assert_eq!(kept, numbers[numbers.len() - kept.len()..]);
}

fn a_shared_handle_is_a_store_too(store: Store) {
    let shared: Arc<Store> = Arc::new(store);
    let number = shared.store(&publish(b"1")).unwrap();
    shared.bind("desk").unwrap();
    assert_eq!(shared.lowest_unpersisted(), Some(number));
    assert!(shared.take_damage_reports().is_empty());
}

/// `PublishStore::store_then`: whoever sends a message there sends in the order of the numbers, however many threads publish.
fn numbers_are_told_in_order_and_once_however_many_threads_store(store: Store) {
    let told = Mutex::new(Vec::new());
    let mut returned: Vec<u64> = thread::scope(|scope| {
        let store_some = || {
            let stored =
                |_| store.store_then(&publish(b"{}"), &mut |number| told.lock().unwrap().push(number));
            (0..200).map(|n| stored(n).unwrap()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(store_some)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    returned.sort_unstable();
    let told = told.into_inner().unwrap();
    assert_eq!(told, returned);
    assert_eq!((told.len(), store.unpersisted_count()), (800, 800));
}
