//! What follows from the rules of `resilience` 10.3. Its table is proved for every store, in the tests of the stores.

use super::*;

/// A step: `A1` is received (if it is not a duplicate), `-A1` discarded, `!A1` persisted, `<...>` placed; `~` is a restart.
/// A, B and C are the publishers 1, 2 and 3.
fn step(subscription: &mut Subscription, step: &str) -> Option<bool> {
    if step == "~" {
        subscription.reopen();
    } else if let Some(place) = step.strip_prefix('-') {
        if let Look::Outstanding(number) = subscription.look(read(place)) {
            subscription.discard(number);
        }
    } else if let Some(place) = step.strip_prefix('!') {
        subscription.persisted(&[read(place)]);
    } else if let Some(bookmark) = step.strip_prefix('<').and_then(|step| step.strip_suffix('>')) {
        subscription.placed(&Bookmark::parse(bookmark).unwrap());
    } else {
        return Some(receive(subscription, read(step)));
    }
    None
}

/// True if the message is new.
fn receive(subscription: &mut Subscription, place: Place<'_>) -> bool {
    match subscription.look(place) {
        Look::Unseen => {
            subscription.append(place);
        }
        Look::Outstanding(_) => subscription.deliver_again(place),
        Look::Discarded => return false,
    }
    true
}

fn read(text: &str) -> Place<'static> {
    let (publisher, sequence) = text.split_at(1);
    let publisher = u64::from(publisher.as_bytes()[0] - b'A') + 1;
    Place { publisher, sequence: sequence.parse().unwrap(), tail: b"" }
}

/// Runs the steps; of those at the end that receive something, says whether it was new.
fn run(steps: &str) -> (Subscription, Vec<bool>) {
    let mut subscription = Subscription::starting_at(1);
    let mut received = Vec::new();
    for text in steps.split_whitespace() {
        match step(&mut subscription, text) {
            Some(new) => received.push(new),
            None => received.clear(),
        }
    }
    (subscription, received)
}

fn most_recent(steps: &str) -> String {
    run(steps).0.most_recent().into()
}

fn news(steps: &str) -> Vec<bool> {
    run(steps).1
}

/// 118: what the table says of the messages that come next.
#[test]
fn each_vector_tells_new_messages_from_duplicates() {
    for (steps, expected) in [
        ("A1 A2 A3 -A1 A1 A2 A3", vec![false, true, true]),
        ("A1 A2 A3 -A1 -A3 A2 A3 A4", vec![true, false, true]),
        ("<(1|5|,2|7|:1|9|]> A5 B8", vec![false, true]),
        ("A5 A4", vec![true, false]),
        ("A1 A1", vec![true, true]),
    ] {
        assert_eq!(news(steps), expected, "{steps}");
    }
}

/// 119, BS-23: three messages, some of them discarded, then a restart.
#[test]
fn after_a_restart_what_was_not_discarded_is_new() {
    let dup = false;
    let new = true;
    for (steps, expected, again) in [
        ("", "0", [new, new, new]),
        ("-A1", "1|1|", [dup, new, new]),
        ("-A1 -A3", "1|1|", [dup, new, dup]),
        ("-A1 -A2 -A3", "1|3|", [dup, dup, dup]),
        ("-A1 -A2 -A3 !A2", "1|2|", [dup, dup, dup]),
        ("-A1 !A3", "1|1|", [dup, new, new]),
        ("-A2", "0", [new, dup, new]),
        ("!A3", "0", [new, new, new]),
    ] {
        let steps = format!("A1 A2 A3 {steps} ~");
        assert_eq!(most_recent(&steps), expected, "{steps}");
        assert_eq!(news(&format!("{steps} A1 A2 A3")), again, "{steps}");
    }
}

/// BS-23 for several publishers: the one with nothing discarded is not listed, and the one that is discarded out of turn
/// is not passed.
#[test]
fn after_a_restart_each_publisher_is_listed_below_what_is_outstanding() {
    for (steps, expected) in [
        ("A1 B1 A2 -A1 ~", "1|1|"),
        ("A1 B1 A2 -A1 -A2 ~", "1|1|"),
        ("A1 B1 A2 B2 -A1 -B1 -B2 ~", "1|1|,2|1|"),
        ("B1 A1 A2 -A1 ~", "0"),
        ("B1 A1 C1 -B1 -C1 ~", "2|1|"),
        ("A1 A7 -A1 ~", "1|1|"),
        ("B1 A1 A7 -A1 ~", "0"),
        ("A1 A2 A3 -A1 ~ A2", "1|1|"),
        ("A1 A2 A3 ~ A1", "1|1|"),
        ("A1 A2 A3 -A1 ~ -A2", "1|2|"),
        ("A1 A2 A3 ~ -A1", "1|1|"),
    ] {
        assert_eq!(most_recent(steps), expected, "{steps}");
    }
}

/// BS-17: a message that comes again before it was discarded keeps its turn, so nothing before it is passed.
#[test]
fn a_message_that_comes_again_keeps_its_number_and_its_turn() {
    let (mut subscription, _) = run("A1 B1 A2 -A1");
    assert_eq!(subscription.look(read("B1")), Look::Outstanding(2));
    assert!(receive(&mut subscription, read("B1")));
    assert_eq!((subscription.next_number(), subscription.outstanding()), (4, 2));
    assert!(!subscription.discard(3));
    assert_eq!(subscription.recovery_point().as_str(), "1|1|");
    assert!(subscription.discard(2));
    assert_eq!(subscription.recovery_point().as_str(), "1|2|");
    assert!(!subscription.discard(2) && !subscription.discard(9));
}

/// BS-12.
#[test]
fn what_is_persisted_moves_forward_within_one_publisher() {
    let (mut subscription, _) = run("");
    for (steps, news) in
        [("A2", true), ("A2", false), ("A1", false), ("A5", true), ("B1", true), ("A5", true)]
    {
        assert_eq!(subscription.persisted(&[read(steps)]), news, "{steps}");
    }
    assert_eq!(most_recent("!A2"), "1|2|", "also if no message ever came");
    assert!(!subscription.persisted(&[]));
}

/// BS-5: a starting point that the application names.
#[test]
fn a_named_starting_point_counts_as_done_and_persisted() {
    for (steps, expected) in [
        ("<1|5|>", "1|5|"),
        ("<1|5|> A6", "1|5|"),
        ("<1|5|> A6 A7 -A6", "1|5|"),
        ("<1|5|> A6 A7 -A6 !A7", "1|6|"),
        ("<1|5|,2|7|>", "1|5|,2|7|"),
        ("<1|5|,2|7|> A6 B8 -A6", "1|5|,2|7|"),
        ("<1|5|,2|7|> A6 B8 -A6 !B8", "1|6|,2|8|"),
        ("<1|5|,2|7|> C1 A6 -C1", "3|1|,1|5|,2|7|"),
        ("<1|5|,2|7|> ~", "1|5|,2|7|"),
        ("<0>", "0"),
        ("<0|1|>", "0"),
        ("<20240102T030405Z>", "20240102T030405Z"),
        ("<20240102T030405Z> A1", "1|1|,20240102T030405Z"),
        ("<20240102T030405Z> A1 ~", "20240102T030405Z"),
        ("<20240102T030405Z> A1 -A1", "1|1|"),
        ("<20240102T030405Z> !A1", "1|1|"),
        ("<1|5|,20240102T030405Z>", "1|5|,20240102T030405Z"),
        ("A7 A8 <1|5|> -A7 -A8", "1|5|"),
        ("A1 -A1 A2 -A2 A3 -A3 <1|2|>", "1|2|"),
        ("A1 A2 -A1 -A2 !A2 <1|1|>", "1|2|"),
        ("A1 A2 <1|2|> -A1", "1|2|"),
    ] {
        assert_eq!(most_recent(steps), expected, "{steps}");
    }
    assert_eq!(news("<1|5|> A5 A6"), [false, true]);
    assert_eq!(news("A1 A2 <1|2|> A1 A2"), [true, false]);
}

/// BS-6, BS-13.5.
#[test]
fn a_range_keeps_its_end() {
    for (steps, expected) in [
        ("<[1|1|:1|9|]> A1 A2 ~", "[1|1|:1|9|]"),
        ("<[1|1|:1|9|]> A1 A2 -A1 ~", "(1|1|:1|9|]"),
        ("<(1|5|,2|7|:1|9|]> B8", "(1|5|,2|7|:1|9|]"),
        ("<(1|5|,2|7|:1|9|]> A6 -A6", "(1|6|,2|7|:1|9|]"),
        ("<[0:1|9|]> A1 -A1 <[0:1|9|]>", "(1|1|:1|9|]"),
        ("<[0:1|9|]> A1 -A1 <[0:2|9|]>", "[0:2|9|]"),
        ("<[0:1|9|]> A1 -A1 <[0:2|9|]> ~", "[0:2|9|]"),
        ("<[0:1|9|]> A1 -A1 <[0:2|9|]> A2 -A2", "(1|2|:2|9|]"),
        ("<[0:1|9|]> A1 -A1 <1|5|>", "1|5|"),
        ("<[0:1|9|]> A1 -A1 <0|1|>", "1|1|"),
        ("<[20240102T030405Z:20240103T030405Z]> A1 -A1", "(1|1|:20240103T030405Z]"),
    ] {
        assert_eq!(most_recent(steps), expected, "{steps}");
    }
    assert_eq!(news("<[1|1|:1|9|]> A1"), [true]);
}

/// BS-25: what a pruned file holds gives the same answers.
#[test]
fn a_snapshot_is_the_subscription_after_a_restart() {
    for steps in [
        "",
        "A1 A2 A3",
        "A1 A2 A3 -A1 -A3",
        "A1 B1 A2 B2 C1 -A1 -B1 -B2 !A1",
        "A1 B1 C7 A2 -A1 -B1 -C7 -A2 !B1 C8",
        "<1|5|,2|7|> A6 B8 -A6 C1",
        "<1|5|,20240102T030405Z> A6 A7 -A7",
        "<20240102T030405Z> A1",
        "<(1|5|,2|7|:1|9|]> A6 -A6",
        "A5 -A5 B1 -B1 <[0:2|9|]> C1",
        "A5 B1 -A5 <[0:2|9|]> C1 -C1",
    ] {
        let (mut original, _) = run(steps);
        let mut again = Subscription::starting_at(1);
        original.snapshot(|change| again.apply(change));
        original.reopen();
        again.reopen();
        assert_eq!(again.most_recent(), original.most_recent(), "{steps}");
        assert_eq!(again.recovery_point(), original.recovery_point(), "{steps}");
        assert_eq!(again.outstanding(), original.outstanding(), "{steps}");
        for place in ["A1", "A2", "A3", "A5", "A6", "A7", "B1", "B2", "B7", "B8", "C1", "C7", "C8", "C9"] {
            let known = |subscription: &Subscription| match subscription.look(read(place)) {
                Look::Outstanding(_) => Look::Outstanding(0),
                look => look,
            };
            assert_eq!(known(&again), known(&original), "{steps}: {place}");
        }
    }
}

/// BS-29, BS-31: a recovery point has no list of what was only delivered, and acts as done where it is read again.
#[test]
fn a_recovery_point_names_nothing_that_is_outstanding() {
    for (steps, expected) in [
        ("", "0"),
        ("A1 A2 A3", "0"),
        ("A1 A2 A3 -A1", "1|1|"),
        ("A1 B1 A2 -A1 -B1", "2|1|"),
        ("A1 A2 A3 -A1 !A3", "1|1|"),
        ("A1 B1 -A1 -B1 !A1 A2", "2|1|,1|1|"),
        ("<(1|5|:1|9|]> A6 -A6", "(1|6|:1|9|]"),
    ] {
        let point = run(steps).0.recovery_point();
        assert_eq!(point.as_str(), expected, "{steps}");
        let mut again = Subscription::starting_at(1);
        again.recover(&point);
        assert_eq!(again.most_recent(), point, "{steps}");
        assert_eq!(again.outstanding(), 0);
    }
}

/// BS-31: what is persisted may be ahead of what is done, and then what lies between comes again.
#[test]
fn a_recovered_point_does_not_take_what_was_persisted_for_done() {
    let (original, _) = run("A1 B1 A2 B2 -A1 !B2");
    assert_eq!(original.recovery_point().as_str(), "1|1|,2|2|");
    let mut again = Subscription::starting_at(1);
    again.recover(&original.recovery_point());
    for (place, is_new) in [("A1", false), ("B1", true), ("A2", true), ("B2", true)] {
        assert_eq!(receive(&mut again, read(place)), is_new, "{place}");
    }
    step(&mut again, "-B1");
    assert_eq!(again.recovery_point().as_str(), "2|1|");
    step(&mut again, "-A2");
    assert_eq!(again.recovery_point().as_str(), "1|2|,2|2|", "not above what was persisted");
    assert_eq!(again.most_recent().as_str(), "1|2|,2|2|");

    let mut later = Subscription::starting_at(1);
    again.snapshot(|change| later.apply(change));
    later.reopen();
    assert_eq!(later.most_recent().as_str(), "1|2|,2|2|");
    step(&mut again, "!B3");
    assert_eq!(again.recovery_point().as_str(), "1|2|,2|3|");
}

/// BS-27: the time is added until the first advance, and only where there is a place to add it to.
#[test]
fn a_later_time_is_added_to_a_known_place_only() {
    let time = Bookmark::parse("20240102T030405Z").unwrap();
    for (steps, expected, advanced) in [
        ("A1 A2 -A1 ~", "1|1|,20240102T030405Z", "-A2"),
        ("A1 A2 -A1 ~", "1|1|,20240102T030405Z", "!A2"),
        ("A1 A2 ~", "0", "-A1"),
        ("A1 A2 !A1 ~", "0", "-A1"),
    ] {
        let mut subscription = run(steps).0;
        subscription.start_no_later_than(&time);
        assert_eq!(subscription.most_recent().as_str(), expected, "{steps}");
        step(&mut subscription, advanced);
        assert!(!subscription.most_recent().as_str().contains('T'), "{steps}");
    }
}

/// BS-1: the text goes back to the server as it came.
#[test]
fn a_bookmark_goes_back_with_all_of_its_text() {
    let mut subscription = Subscription::starting_at(1);
    for text in ["1|1|20240102T030405Z|", "1|2|x", "2|1|", "1|3|"] {
        subscription.append(Place::read(text.as_bytes()).unwrap());
    }
    assert_eq!(subscription.most_recent().as_str(), "1|3|,2|1|");
    subscription.discard(1);
    assert_eq!(subscription.recovery_point().as_str(), "1|1|20240102T030405Z|");
    assert_eq!(subscription.most_recent().as_str(), "1|1|20240102T030405Z|,2|1|");
    subscription.discard(2);
    assert_eq!(subscription.recovery_point().as_str(), "1|2|x");
    subscription.discard(3);
    assert_eq!(subscription.recovery_point().as_str(), "2|1|");
    subscription.persisted(&[Place::read(b"1|2|y").unwrap()]);
    assert_eq!(subscription.most_recent().as_str(), "2|1|,1|2|y");
}
