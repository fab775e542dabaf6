//! Each message goes to whom it is for, in order, and to nobody else.

mod support;

use std::sync::mpsc;

use amps_client::testing::{Expectation, Frame};
use amps_client::{AckType, Client, Command, CommandType, ErrorKind, GlobalKind, Message, Status};
use support::client::*;

/// A scene with somebody who takes what nobody wants.
fn with_last_chance() -> (Scene, Inbox) {
    let (handler, last_chance) = inbox();
    let scene = Scene::prepared(Client::builder("c"), |client| client.set_last_chance_handler(handler));
    (scene, last_chance)
}

fn frames(ids: &str, payloads: &[&str]) -> Vec<u8> {
    payloads.iter().flat_map(|payload| Frame::encode(&publication(ids), payload)).collect()
}

fn kinds(inbox: &Inbox) -> Vec<String> {
    let shown = |m: &Message| match m.command() {
        CommandType::Ack => format!("ack {}", m.ack_type()),
        command => command.to_string(),
    };
    inbox.rest().iter().map(shown).collect()
}

/// 51, `resilience` 5.2: in the order of the list, each with its own id, and the rest to the last chance.
#[test]
fn a_message_for_several_subscriptions_reaches_each_with_its_own_id() {
    let (scene, last_chance) = with_last_chance();
    let (sender, order) = mpsc::channel();
    for id in ["a", "b"] {
        let sender = sender.clone();
        scene.subscribe_with(id, move |m: &Message| {
            sender.send((id, m.sub_id().map(str::to_owned), m.data().to_vec())).map_err(|e| e.to_string())
        });
    }
    scene.send("a,b,zz", "x");
    scene.settle();
    let got: Vec<_> = order.try_iter().collect();
    let expected = ["a", "b"].map(|id| (id, Some(id.to_owned()), b"x".to_vec()));
    assert_eq!(got, expected);
    let rest: Vec<_> = last_chance.rest().iter().map(|m| m.sub_id().map(str::to_owned)).collect();
    assert_eq!(rest, [Some("zz".to_owned())]);
}

/// `resilience` 5.2, decision 23.
#[test]
fn data_without_a_list_goes_by_its_subscription_id_and_without_any_id_to_the_last_chance() {
    let (scene, last_chance) = with_last_chance();
    let inbox = scene.subscribe("s");
    for command in ["publish", "p", "delta_publish", "oof"] {
        scene.connection.send(&format!(r#"{{"c":"{command}","t":"t","sub_id":"s"}}"#), "x").unwrap();
        scene.connection.send(&format!(r#"{{"c":"{command}","t":"t"}}"#), "y").unwrap();
    }
    scene.settle();
    let (routed, others) = (inbox.rest(), last_chance.rest());
    assert!(routed.len() == 4 && routed.iter().all(|m| m.data() == b"x" && m.sub_id() == Some("s")));
    assert!(others.len() == 4 && others.iter().all(|m| m.data() == b"y"));
}

/// M-7.
#[test]
fn messages_are_delivered_in_the_order_of_their_arrival_over_all_handlers() {
    let scene = Scene::logged_on("c");
    let (sender, order) = mpsc::channel();
    for id in ["a", "b"] {
        let sender = sender.clone();
        scene.subscribe_with(id, move |m: &Message| sender.send(m.data_str().unwrap().to_owned()));
    }
    // Runs of seven for one, for the other, and for both.
    let ids = |n: usize| ["a", "b", "a,b"][n / 7 % 3];
    let bytes: Vec<u8> = (0..210).flat_map(|n| frames(ids(n), &[&n.to_string()])).collect();
    scene.connection.send_raw(bytes).unwrap();
    scene.settle();
    let numbers: Vec<usize> = order.try_iter().map(|text| text.parse().unwrap()).collect();
    let expected: Vec<usize> = (0..210).flat_map(|n| vec![n; ids(n).split(',').count()]).collect();
    assert_eq!(numbers, expected);
}

/// M-8, T-10: called from another thread while the handler runs.
#[test]
fn after_an_unsubscribe_no_later_message_reaches_the_handler() {
    for all in [false, true] {
        let (scene, last_chance) = with_last_chance();
        let (gate, (mut keep, inbox)) = (Gate::new(), inbox());
        let held = gate.clone();
        scene.subscribe_with("s", move |message: &Message| {
            amps_client::MessageHandler::on_message(&mut keep, message)?;
            held.pass();
            Ok::<(), amps_client::HandlerError>(())
        });
        scene.connection.send_raw(frames("s", &["1", "2", "3"])).unwrap();
        gate.wait_reached(1);
        scene
            .begin(move |client| if all { client.unsubscribe_all() } else { client.unsubscribe("s") })
            .at_once()
            .unwrap();
        gate.open();
        let id = if all { "all" } else { "s" };
        scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", id), SOON).unwrap();
        scene.settle();
        assert_eq!((inbox.rest().len(), last_chance.rest().len()), (1, 2));
    }
}

/// M-8, T-6: called by the handler itself, of itself and of the next in the list.
#[test]
fn a_handler_may_unsubscribe_itself_and_others_within_one_read() {
    let (scene, last_chance) = with_last_chance();
    let (sender, called) = mpsc::channel();
    let weak = scene.client.downgrade();
    scene.subscribe_with("a", move |_: &Message| {
        sender.send(()).unwrap();
        weak.upgrade().unwrap().unsubscribe("a, b")
    });
    let other = scene.subscribe("b");
    scene.connection.send_raw(frames("a,b", &["1", "2", "3"])).unwrap();
    scene.settle();
    assert_eq!((called.try_iter().count(), other.rest().len(), last_chance.rest().len()), (1, 0, 5));
    assert!(scene.record.failures().is_empty());
}

/// A handler may subscribe no one, but a route that is made during a read counts for the rest of it.
#[test]
fn a_subscription_placed_by_another_thread_during_a_read_counts_at_once() {
    let (scene, last_chance) = with_last_chance();
    let gate = Gate::new();
    let held = gate.clone();
    scene.subscribe_with("a", move |_: &Message| held.pass());
    scene.connection.send_raw([frames("a", &["1"]), frames("b", &["2"])].concat()).unwrap();
    gate.wait_reached(1);
    let (handler, inbox) = inbox();
    let pending = scene.begin(|client| client.execute_async(Command::subscribe("t").sub_id("b"), handler));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    gate.open();
    pending.wait().unwrap();
    assert_eq!(inbox.payloads(1), ["2"]);
    assert!(last_chance.rest().is_empty());
}

/// 52, M-9, M-15: the bare acknowledgement.
#[test]
fn a_refused_write_goes_to_the_last_chance_handler() {
    let (scene, last_chance) = with_last_chance();
    scene.client.publish("t", "x").unwrap();
    scene
        .connection
        .reply(r#"{"c":"ack","s":7,"a":"persisted","status":"failure","reason":"not entitled"}"#)
        .unwrap();
    let ack = last_chance.next();
    assert_eq!(
        (ack.ack_type(), ack.status(), ack.sequence()),
        (AckType::PERSISTED, Status::Failure, Some(7))
    );
    assert_eq!(ack.reason(), Some("not entitled"));
}

/// 54, M-12, M-13: without a store nothing is known of the message but its sequence.
#[test]
fn a_refused_write_goes_to_the_failed_write_handler_if_there_is_one() {
    let (scene, last_chance) = with_last_chance();
    let (sender, refused) = mpsc::channel();
    scene.client.set_failed_write_handler(move |message: &Message, reason: &str| {
        sender.send((message.clone(), reason.to_owned()))
    });
    let acks = [
        r#""s":7,"status":"failure","reason":"not entitled""#,
        r#""s":8,"status":"success","reason":"duplicate""#,
        r#""s":9,"status":"failure""#,
    ];
    for ack in acks {
        scene.connection.reply(&format!(r#"{{"c":"ack","a":"persisted",{ack}}}"#)).unwrap();
    }
    for (sequence, reason) in [(7, "not entitled"), (8, "duplicate"), (9, "")] {
        let (message, told) = refused.recv_timeout(SOON).unwrap();
        assert_eq!((message.sequence(), told.as_str()), (Some(sequence), reason));
        assert_eq!((message.topic(), message.data()), (None, &b""[..]));
    }
    assert!(last_chance.rest().is_empty());
}

/// X-8: and whatever goes wrong in it.
#[test]
fn a_failed_write_handler_that_fails_is_reported() {
    let scene = Scene::logged_on("c");
    scene.client.set_failed_write_handler(|_: &Message, _: &str| Err::<(), _>("not my fault"));
    scene.connection.reply(r#"{"c":"ack","s":7,"a":"persisted","status":"failure"}"#).unwrap();
    let failure = scene.record.wait_for_failures(1).remove(0);
    assert_eq!(failure.origin, amps_client::Origin::FailedWriteHandler);
    assert!(failure.error.to_string().contains("not my fault"));
}

/// 59, M-21: in addition to normal processing, and after it.
#[test]
fn a_global_handler_sees_an_acknowledgement_after_the_command_was_completed() {
    let scene = Scene::logged_on("c");
    let (gate, (mut keep, inbox)) = (Gate::new(), inbox());
    let held = gate.clone();
    scene.subscribe("s");
    scene.client.set_global_handler(GlobalKind::Ack, move |message: &Message| {
        held.pass();
        amps_client::MessageHandler::on_message(&mut keep, message)
    });
    let flush = scene.begin(|client| client.publish_flush());
    scene.connection.skip_to("flush", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    flush.wait().expect("the handler is still held");
    gate.open();
    assert_eq!(inbox.next().ack_type(), AckType::PROCESSED);
}

/// 60, M-21.
#[test]
fn there_is_no_global_handler_for_what_has_routes_or_a_setter_of_its_own() {
    assert_eq!("ack".parse::<GlobalKind>().unwrap(), GlobalKind::Ack);
    assert_eq!("heartbeat".parse::<GlobalKind>().unwrap(), GlobalKind::Heartbeat);
    for kind in ["publish", "sow", "duplicate", "lastchance", ""] {
        let error = kind.parse::<GlobalKind>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        assert!(error.to_string().contains(&format!("`{kind}`")), "{error}");
    }
}

/// 61: rows of a cancelled query are normal.
#[test]
fn rows_of_an_unknown_query_are_dropped_quietly() {
    let (scene, last_chance) = with_last_chance();
    for header in [
        r#"{"c":"group_begin","query_id":"gone"}"#,
        r#"{"c":"group_end","query_id":"gone"}"#,
        r#"{"c":"group_begin"}"#,
    ] {
        scene.connection.reply(header).unwrap();
    }
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"gone","bs":2}"#, r#"{"l":1}a{"l":1}b"#).unwrap();
    scene.settle();
    assert!(last_chance.rest().is_empty() && scene.record.failures().is_empty());
}

/// 62, M-5: acknowledgements that the library asked for are its own business.
#[test]
fn a_handler_gets_the_acknowledgements_that_were_asked_for_and_no_others() {
    let (scene, last_chance) = with_last_chance();
    let asked = [AckType::PROCESSED | AckType::COMPLETED, AckType::COMPLETED | AckType::STATS, AckType::NONE];
    let expected: [&[&str]; 3] = [
        &["ack processed", "group_begin", "sow", "group_end", "ack completed"],
        &["group_begin", "sow", "group_end", "ack completed", "ack stats"],
        &["group_begin", "sow", "group_end"],
    ];
    for (acks, expected) in asked.into_iter().zip(expected) {
        let (handler, inbox) = inbox();
        let command = Command::sow("t").add_ack_type(acks);
        let query = scene.begin(move |client| client.execute_async(command, handler));
        let frame = scene.connection.skip_to("sow", SOON).unwrap();
        let requested = AckType::of(frame.header("a").unwrap());
        assert_eq!(requested, acks | AckType::PROCESSED);
        answer(&scene, requested);
        query.wait().unwrap();
        scene.settle();
        assert_eq!(kinds(&inbox), expected);
    }
    assert!(last_chance.rest().is_empty());
}

/// Answers a query as a server does.
fn answer(scene: &Scene, acks: AckType) {
    let ack = |name: &str| {
        let header = format!(
            r#"{{"c":"ack","cid":"{{cid}}","query_id":"{{query_id}}","a":"{name}","status":"success"}}"#
        );
        if acks.contains(AckType::of(name)) {
            scene.connection.reply(&header).unwrap();
        }
    };
    ack("processed");
    scene.connection.reply(r#"{"c":"group_begin","query_id":"{query_id}"}"#).unwrap();
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"{query_id}","bs":1}"#, r#"{"l":1}x"#).unwrap();
    scene.connection.reply(r#"{"c":"group_end","query_id":"{query_id}"}"#).unwrap();
    ack("completed");
    ack("stats");
}

/// M-5: what the library adds to a query, to know its end, is seen by nobody.
#[test]
fn the_acknowledgements_that_the_library_added_do_not_reach_the_last_chance_handler() {
    let (scene, last_chance) = with_last_chance();
    let stream = scene.begin(|client| client.sow("t", "").map(Iterator::count));
    let frame = scene.connection.expect("sow", SOON).unwrap();
    answer(&scene, AckType::of(frame.header("a").unwrap()));
    assert_eq!(stream.wait().unwrap(), 3);
    let (handler, inbox) = inbox();
    let query = scene.begin(|client| client.sow_async("t", "", handler));
    let frame = scene.connection.expect("sow", SOON).unwrap();
    answer(&scene, AckType::of(frame.header("a").unwrap()));
    query.wait().unwrap();
    scene.settle();
    assert_eq!(kinds(&inbox), ["group_begin", "sow", "group_end"]);
    assert_eq!(kinds(&last_chance), Vec::<String>::new());
}

/// M-1: the two halves of one command come under two ids.
#[test]
fn a_query_with_a_subscription_gets_both_under_their_own_ids() {
    let scene = Scene::logged_on("c");
    let (handler, inbox) = inbox();
    let command = Command::sow_and_subscribe("t").sub_id("S").query_id("Q").command_id("C");
    let id = scene.accepted("sow_and_subscribe", |client| client.execute_async(command, handler));
    assert_eq!(id, "S");
    scene.connection.reply(r#"{"c":"group_begin","query_id":"Q"}"#).unwrap();
    scene.connection.send(r#"{"c":"sow","t":"t","query_id":"Q","bs":1}"#, r#"{"l":1}x"#).unwrap();
    scene.connection.reply(r#"{"c":"group_end","query_id":"Q"}"#).unwrap();
    scene.send("S", "y");
    scene.connection.send(r#"{"c":"oof","t":"t","sids":"S","reason":"deleted"}"#, "z").unwrap();
    scene.settle();
    assert_eq!(kinds(&inbox), ["group_begin", "sow", "group_end", "publish", "oof"]);
}

/// M-3, SM-4: what `replace` relies on.
#[test]
fn a_replaced_subscription_keeps_its_handler() {
    let scene = Scene::logged_on("c");
    let first = scene.subscribe("s");
    let (handler, second) = inbox();
    let command = Command::subscribe("t").sub_id("s").filter("/a = 1").options("replace");
    scene.accepted("subscribe", |client| client.execute_async(command, handler));
    scene.send("s", "x");
    assert_eq!(first.payloads(1), ["x"]);
    assert!(second.rest().is_empty());
}

/// M-3, M-6: a second subscription of the same id, which the server refuses, does not harm the first.
#[test]
fn a_refused_subscription_under_a_live_id_leaves_the_first_one_alone() {
    let scene = Scene::logged_on("c");
    let first = scene.subscribe("s");
    let pending =
        scene.begin(|client| client.execute_async(Command::subscribe("t").sub_id("s"), |_: &Message| {}));
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_failure("subid in use").unwrap();
    assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::SubIdInUse);
    scene.send("s", "x");
    assert_eq!(first.payloads(1), ["x"]);
}

/// M-3, T-10: a subscription takes the place of a query of its id, whose handler goes with whatever it holds.
#[test]
fn a_subscription_takes_the_place_of_a_query_of_the_same_id() {
    let scene = Scene::logged_on("c");
    let stream =
        scene.accepted("subscribe", |client| client.execute(Command::subscribe("t").sub_id("other")));
    // The handler owns a stream of its client, which is unsubscribed when the handler goes.
    let handler = move |_: &Message| _ = stream.depth();
    let query = Command::sow("t").query_id("x");
    scene.accepted("sow", |client| client.execute_async(query, handler));
    let (handler, inbox) = inbox();
    let pending = scene.begin(|client| client.execute_async(Command::subscribe("t").sub_id("x"), handler));
    scene.connection.expect(Expectation::command("unsubscribe").header("sub_id", "other"), SOON).unwrap();
    scene.connection.expect("subscribe", SOON).unwrap();
    scene.connection.reply_ok().unwrap();
    pending.wait().unwrap();
    scene.send("x", "y");
    assert_eq!(inbox.payloads(1), ["y"]);
}

/// M-4: a query without acknowledgements ends with its group, other commands with their last acknowledgement.
#[test]
fn a_route_ends_with_the_last_thing_that_was_asked_for() {
    let (scene, last_chance) = with_last_chance();
    let (handler, query) = inbox();
    let command = Command::sow("t").query_id("q");
    scene.accepted("sow", |client| client.execute_async(command, handler));
    for header in ["group_begin", "group_end", "group_begin"] {
        scene.connection.reply(&format!(r#"{{"c":"{header}","query_id":"q"}}"#)).unwrap();
    }
    let (handler, acks) = inbox();
    let asked = AckType::PERSISTED | AckType::PROCESSED;
    let command = Command::publish("t").command_id("p").ack_type(asked).data("x");
    scene.accepted("publish", move |client| client.execute_async(command, handler));
    for _ in 0..2 {
        scene.connection.reply(r#"{"c":"ack","cid":"p","a":"persisted","status":"success"}"#).unwrap();
    }
    scene.settle();
    assert_eq!(kinds(&query), ["group_begin", "group_end"]);
    assert_eq!(kinds(&acks), ["ack processed", "ack persisted"]);
    assert_eq!(kinds(&last_chance), ["ack persisted"]);
}

/// `resilience` 5.2: an acknowledgement is routed by its command, else its query, else its subscription.
#[test]
fn an_acknowledgement_without_a_command_id_goes_by_its_query_or_subscription() {
    let (scene, last_chance) = with_last_chance();
    let (handler, inbox) = inbox();
    let command = Command::sow_and_subscribe("t").sub_id("S").query_id("Q").add_ack_type(AckType::COMPLETED);
    scene.accepted("sow_and_subscribe", |client| client.execute_async(command, handler));
    for id in [r#""query_id":"Q""#, r#""sub_id":"S""#, r#""sub_id":"T""#] {
        scene.connection.reply(&format!(r#"{{"c":"ack",{id},"a":"completed","status":"success"}}"#)).unwrap();
    }
    scene.settle();
    assert_eq!(kinds(&inbox), ["ack completed", "ack completed"]);
    let rest: Vec<_> = last_chance.rest().iter().map(|m| m.sub_id().map(str::to_owned)).collect();
    assert_eq!(rest, [Some("T".to_owned())]);
}

/// `resilience` 5.2, M-9.
#[test]
fn a_command_that_is_not_known_goes_to_the_last_chance_handler() {
    let (scene, last_chance) = with_last_chance();
    scene.connection.send(r#"{"c":"start_timer","cid":"x"}"#, "data").unwrap();
    let message = last_chance.next();
    assert_eq!((message.command(), message.data()), (CommandType::Unknown, &b"data"[..]));
}

/// Decision 24: one of each, set at any time, taken off by replacing it.
#[test]
fn a_later_last_chance_handler_takes_the_place_of_the_first() {
    let (scene, first) = with_last_chance();
    scene.send("a", "1");
    scene.settle();
    let (handler, second) = inbox();
    scene.client.set_last_chance_handler(handler);
    scene.send("a", "2");
    assert_eq!(second.payloads(1), ["2"]);
    assert_eq!(first.payloads(1), ["1"]);
    assert!(first.rest().is_empty());
}
