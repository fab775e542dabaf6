//! Bookmark subscriptions: where they start, and how replay becomes live.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Access, Clock, Entitled, Gate, Server, ServerBuilder, Topic};

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// A server that journals everything, on a clock of its own.
fn journaling() -> ServerBuilder {
    Server::builder().topic(Topic::sow("orders").key("/id")).journal(".*").clock(Clock::manual())
}

/// One that has journaled `{"n":1}` to `{"n":count}` on the topic `t`, one a second.
fn with_messages(count: u64) -> Server {
    let server = journaling().start().expect("a server");
    publish(&server, 1..=count);
    server
}

fn publish(server: &Server, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        server.publish("t", format!(r#"{{"n":{n}}}"#)).expect("a publish");
        server.clock().advance(SECOND).expect("a manual clock");
    }
}

fn bookmark(server: &Server, n: usize) -> String {
    server.journal()[n - 1].bookmark.clone()
}

/// The frames in short: the number of a message, or which acknowledgement it is.
fn short(frames: &[amps_client::testing::Frame]) -> Vec<String> {
    let one = |frame: &amps_client::testing::Frame| match frame.command() {
        "ack" => format!("{} {}", frame.header("a").unwrap(), frame.header("reason").unwrap_or("ok")),
        _ => String::from_utf8_lossy(frame.payload()).replace(r#"{"n":"#, "").replace('}', ""),
    };
    frames.iter().map(one).collect()
}

fn ask(client: &mut RawClient, command: impl AsRef<[u8]>) -> Vec<String> {
    client.send(command);
    short(&client.received())
}

fn subscribe(bookmark: &str, options: &str) -> String {
    format!(
        r#"{{"c":"subscribe","cid":"s","t":"t","bookmark":"{bookmark}","o":"{options}","a":"processed,completed"}}"#
    )
}

/// T-1, T-5, B-6: byte for byte.
#[test]
fn a_replay_comes_between_its_two_acknowledgements_and_goes_on_live() {
    let server = with_messages(2);
    let [first, second] = [bookmark(&server, 1), bookmark(&server, 2)];
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(
        client.ask(subscribe("0", "")),
        [
            r#"{"c":"ack","cid":"s","sub_id":"s","a":"processed","status":"success"}"#.to_owned(),
            format!(r#"{{"c":"p","t":"t","bm":"{first}","l":7,"sids":"s"}}{{"n":1}}"#),
            format!(r#"{{"c":"p","t":"t","bm":"{second}","l":7,"sids":"s"}}{{"n":2}}"#),
            format!(
                r#"{{"c":"ack","cid":"s","sub_id":"s","bm":"{second}","a":"completed","status":"success"}}"#
            ),
        ]
    );
    publish(&server, 3..=3);
    let third = bookmark(&server, 3);
    assert_eq!(client.texts(), [format!(r#"{{"c":"p","t":"t","bm":"{third}","l":7,"sids":"s"}}{{"n":3}}"#)]);
    assert_eq!(server.subscriptions()[0].bookmark, Some(third));
}

/// T-2, T-4: every form of a bookmark.
#[test]
fn a_replay_starts_where_its_bookmark_says() {
    let server = with_messages(4);
    let marks: Vec<_> = (1..=4).map(|n| bookmark(&server, n)).collect();
    let table = [
        ("0".to_owned(), "", "1234"),
        ("0|1|".to_owned(), "", ""),
        ("0|1".to_owned(), "", ""),
        (marks[1].clone(), "", "34"),
        (marks[1].trim_end_matches('|').to_owned(), "", "34"),
        (marks[3].clone(), "", ""),
        (format!("77|1|,{},{}", marks[2], marks[0]), "", "234"),
        (format!("{},0", marks[2]), "", "1234"),
        ("20250101T000002Z".to_owned(), "", "34"),
        ("20250101T000001.5Z".to_owned(), "", "34"),
        ("20250101T000002".to_owned(), "", "34"),
        ("20000101T000000Z".to_owned(), "", "1234"),
        ("20990101T000000Z".to_owned(), "", ""),
        ("77|1|".to_owned(), "", ""),
        ("77|1|".to_owned(), "bookmark_not_found=now", ""),
        ("77|1|".to_owned(), "bookmark_not_found=epoch", "1234"),
        (marks[1].clone(), "bookmark_not_found=fail", "34"),
    ];
    let mut client = RawClient::log_on(&server, "c");
    for (start, options, expected) in table {
        let mut answer = ask(&mut client, subscribe(&start, options));
        assert_eq!((answer.remove(0), answer.pop().unwrap()), ("processed ok".into(), "completed ok".into()));
        assert_eq!(answer.concat(), expected, "{start} {options}");
        client.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"s"}"#);
    }
}

/// T-3, T-4, 9.3: what is refused, and that it leaves nothing behind.
#[test]
fn a_bookmark_that_means_nothing_is_refused() {
    let server = with_messages(1);
    let mut client = RawClient::log_on(&server, "c");
    let table = [
        ("recent", "", "invalid bookmark"),
        ("yesterday", "", "invalid bookmark"),
        ("1|2|,x", "", "invalid bookmark"),
        ("[0:", "", "invalid bookmark"),
        ("[0:recent]", "", "invalid bookmark"),
        ("77|1|", "bookmark_not_found=fail", "invalid bookmark"),
        ("[77|1|:0|1|]", "bookmark_not_found=fail", "invalid bookmark"),
        ("0", "bookmark_not_found=maybe", "invalid options"),
        ("0", "live,pause", "invalid options"),
        ("0", "live,rate=5", "invalid options"),
        ("0", "rate=fast", "invalid options"),
        ("0", "conflation=1s,conflation_key=[/n]", "not supported"),
    ];
    for (bookmark, options, reason) in table {
        let answer = ask(&mut client, subscribe(bookmark, options));
        assert_eq!(answer, [format!("processed {reason}")], "{bookmark} {options}");
    }
    for command in ["delta_subscribe", "sow_and_subscribe", "sow_and_delta_subscribe", "sow"] {
        let answer = ask(
            &mut client,
            format!(r#"{{"c":"{command}","cid":"1","t":"orders","bookmark":"0","a":"processed"}}"#),
        );
        assert_eq!(answer, ["processed not supported"], "{command}");
    }
    assert!(server.subscriptions().is_empty());
}

/// T-2: ranges.
#[test]
fn a_range_ends_with_its_completion_and_then_silence() {
    let table = [
        ("[#2:#3]", "23"),
        ("(#1:#4)", "23"),
        ("[0:#1]", "1"),
        ("[#3:#1]", ""),
        ("[20250101T000001Z:20250101T000003Z)", "23"),
        ("[0:0|1|)", "1234"),
        ("[ 0 : 77|1|,#2 ]", "1234"),
    ];
    for (range, expected) in table {
        let server = with_messages(4);
        let range =
            (1..=4).fold(range.to_owned(), |range, n| range.replace(&format!("#{n}"), &bookmark(&server, n)));
        let mut client = RawClient::log_on(&server, "c");
        let mut answer = ask(&mut client, subscribe(&range, ""));
        let is_over = !range.contains("77");
        assert_eq!(answer.remove(0), "processed ok");
        assert_eq!(answer.pop_if(|last| last == "completed ok").is_some(), is_over, "{range}");
        assert_eq!(answer.concat(), expected, "{range}");
        server.publish("t", r#"{"n":5}"#).unwrap();
        assert_eq!(client.received().is_empty(), is_over, "{range}");
    }
}

/// T-2: the end of a range may lie in the future.
#[test]
fn a_range_that_ends_in_the_future_is_live_until_then() {
    let server = with_messages(2);
    let mut client = RawClient::log_on(&server, "c");
    let in_time = "[20250101T000001Z:20250101T000004Z]";
    assert_eq!(ask(&mut client, subscribe(in_time, "")), ["processed ok", "2"]);
    publish(&server, 3..=3);
    assert_eq!(short(&client.received()), ["3"]);
    server.clock().advance(SECOND).unwrap();
    assert!(client.received().is_empty(), "the end belongs to it");
    server.clock().advance(Duration::from_micros(1)).unwrap();
    assert_eq!(short(&client.received()), ["completed ok"], "by itself");
    publish(&server, 4..=4);
    assert!(client.received().is_empty());

    client.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"s"}"#);
    let mut publisher = RawClient::connect(&server);
    publisher.send(r#"{"c":"logon","cid":"1","client_name":"p","mt":"json","a":"processed"}"#);
    let number = publisher.receive().header("bm").unwrap().split('|').next().unwrap().to_owned();
    assert_eq!(ask(&mut client, subscribe(&format!("[0|1|:{number}|5|]"), "")), ["processed ok"]);
    for sequence in [4, 5, 6] {
        publisher.ask(format!(r#"{{"c":"p","t":"t","s":{sequence}}}{{"n":{sequence}}}"#));
    }
    assert_eq!(short(&client.received()), ["4", "5", "completed ok"]);
}

/// T-5: filters and topics choose, also by pattern and by message type; the completion need not match.
#[test]
fn a_replay_shows_what_matches_only() {
    let server = journaling().start().unwrap();
    for (topic, n) in [("t", 1), ("other", 2), ("t/x", 3), ("t", 4)] {
        server.publish(topic, format!(r#"{{"n":{n}}}"#)).unwrap();
    }
    server.publish_as("nvfix", "t", "n=5\x01").unwrap();
    let last = bookmark(&server, 5);
    let mut client = RawClient::log_on(&server, "c");
    let table = [("t", "/n > 1", "4"), ("^t", "", "134"), (".*", "/n IN (2,3)", "23"), ("none", "", "")];
    for (topic, filter, expected) in table {
        client.send(format!(
            r#"{{"c":"subscribe","cid":"s","t":"{topic}","filter":"{filter}","bookmark":"0","a":"completed"}}"#
        ));
        let mut answer = client.received();
        let completed = answer.pop().unwrap();
        assert_eq!((completed.header("a"), completed.header("bm")), (Some("completed"), Some(&*last)));
        assert_eq!(short(&answer).concat(), expected, "{topic} {filter}");
        client.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"s"}"#);
    }
    let mut fix = RawClient::log_on_as(&server, "f", "nvfix");
    fix.send(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0"}"#);
    assert_eq!(fix.received().iter().map(|frame| frame.payload().to_vec()).collect::<Vec<_>>(), [b"n=5\x01"]);
}

/// T-5: the bookmark of a completion on an empty journal.
#[test]
fn an_empty_journal_completes_at_now() {
    let server = journaling().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(
        client.ask(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0","a":"completed"}"#),
        [r#"{"c":"ack","cid":"s","sub_id":"s","bm":"0|1|","a":"completed","status":"success"}"#]
    );
}

/// T-7.
#[test]
fn a_topic_that_is_not_journaled_is_live_without_bookmarks() {
    let server = Server::builder().journal("^kept").start().unwrap();
    for topic in ["kept", "lost"] {
        server.publish(topic, r#"{"n":1}"#).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    for (id, topic) in [("literal", "lost"), ("pattern", "^(kept|lost)")] {
        client.send(format!(
            r#"{{"c":"subscribe","cid":"{id}","t":"{topic}","bookmark":"0","o":"bookmark","a":"completed"}}"#
        ));
    }
    assert_eq!(short(&client.received()), ["completed ok", "1", "completed ok"]);
    server.publish("lost", r#"{"n":2}"#).unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":"lost","l":7,"sids":"literal"}{"n":2}"#]);
    server.publish("kept", r#"{"n":3}"#).unwrap();
    let live = client.received();
    assert_eq!((live.len(), live[0].header("sids")), (1, Some("pattern")));
}

/// T-8, B-6: SOW topics show what was published, deltas merged, with the original time, and never a delete.
#[test]
fn a_replay_of_records_shows_every_version_and_no_delete() {
    let server = journaling().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"p","t":"orders"}{"id":1,"a":1}"#);
    server.clock().advance(SECOND).unwrap();
    client.ask(r#"{"c":"delta_publish","t":"orders","x":"corr"}{"id":1,"b":2}"#);
    client.ask(r#"{"c":"sow_delete","t":"orders","filter":"1=1"}"#);
    let shown = |client: &mut RawClient| {
        let frames = client.received();
        let one = |frame: &amps_client::testing::Frame| {
            (frame.command().to_owned(), String::from_utf8_lossy(frame.payload()).into_owned())
        };
        (frames.iter().map(one).collect::<Vec<_>>(), frames)
    };
    client.send(r#"{"c":"subscribe","cid":"s","t":"orders","bookmark":"0","o":"oof,timestamp"}"#);
    let (versions, frames) = shown(&mut client);
    let p = |text: &str| ("p".to_owned(), text.to_owned());
    assert_eq!(versions, [p(r#"{"id":1,"a":1}"#), p(r#"{"id":1,"a":1,"b":2}"#)]);
    assert_eq!(frames[0].header("ts"), Some("20250101T000000.000000Z"));
    assert_eq!(
        (frames[1].header("x"), frames[1].header("ts")),
        (Some("corr"), Some("20250101T000001.000000Z"))
    );
    assert!(frames[0].header("k").is_some());
    client.ask(r#"{"c":"p","t":"orders"}{"id":1}"#);
    client.ask(r#"{"c":"sow_delete","t":"orders","filter":"1=1"}"#);
    client.send(r#"{"c":"subscribe","cid":"n","t":"orders","bookmark":"0|1|","o":"no_sowkey"}"#);
    client.send(r#"{"c":"p","t":"orders"}{"id":2}"#);
    let (_, frames) = shown(&mut client);
    assert_eq!(frames.iter().map(|frame| frame.header("k").is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(frames[0].header("ts").is_some(), frames[0].header("sids") == Some("s"));
}

/// T-5, T-9: no gap and no repeat between replay and live, while the client reads nothing, and nothing is closed.
#[test]
fn what_a_client_has_no_room_for_stays_in_the_journal() {
    let server = journaling().max_queued_bytes(10_000).record_frames(0).start().unwrap();
    let text = "x".repeat(1_000);
    let put = |numbers: std::ops::Range<u64>| {
        for n in numbers {
            server.publish("t", format!(r#"{{"n":{n},"text":"{text}"}}"#)).unwrap();
        }
    };
    put(0..10_000);
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0","a":"completed"}"#);
    server.wait_for(|server| !server.subscriptions().is_empty(), SOON).unwrap();
    put(10_000..12_000);
    let mut next = 0;
    let mut completed_at = None;
    while next < 12_000 {
        let frame = client.receive();
        match frame.command() {
            "ack" => completed_at = Some(next),
            _ => {
                assert!(frame.payload().starts_with(format!(r#"{{"n":{next},"#).as_bytes()), "{next}");
                next += 1;
            }
        }
    }
    assert_eq!(completed_at, Some(10_000));
    put(12_000..12_001);
    assert!(client.receive().payload().starts_with(br#"{"n":12000,"#));
    assert_eq!(server.counters().slow_clients, 0);
}

/// T-9: a gap is never passed over in silence.
#[test]
fn a_client_that_has_not_read_what_the_journal_drops_is_closed() {
    let server = journaling().max_journal_entries(100).record_frames(0).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0"}"#);
    let text = "x".repeat(100_000);
    let is_closed = (0..10_000).any(|_| {
        server.publish("t", &text).unwrap();
        server.counters().slow_clients == 1
    });
    assert!(is_closed);
    client.read_raw_to_end();
}

/// 10.2 of the protocol: a limit on the number of messages.
#[test]
fn a_bookmark_subscription_may_have_a_limit() {
    let server = with_messages(3);
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(ask(&mut client, subscribe("0", "top_n=2")), ["processed ok", "1", "2", "completed ok"]);
    let late = subscribe("0", "top_n=4").replace(r#""cid":"s""#, r#""cid":"late""#);
    assert_eq!(ask(&mut client, late), ["processed ok", "1", "2", "3", "completed ok"]);
    publish(&server, 4..=5);
    assert_eq!(short(&client.received()), ["4"]);
}

/// B-6, S-10: plain subscriptions and queries show bookmarks if asked to.
#[test]
fn plain_messages_and_records_carry_bookmarks_on_request() {
    let server = journaling().start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    server.publish("orders", r#"{"id":1}"#).unwrap();
    let first = bookmark(&server, 1);
    client.send(r#"{"c":"sow_and_subscribe","cid":"s","t":"orders","o":"bookmark,no_sowkey"}"#);
    client.send(r#"{"c":"sow","cid":"q","t":"orders","o":"no_sowkey"}"#);
    let frames = client.texts();
    assert_eq!(
        [&frames[1], &frames[4]],
        [
            &format!(r#"{{"c":"sow","t":"orders","query_id":"s","bs":1}}{{"l":8,"bm":"{first}"}}{{"id":1}}"#),
            r#"{"c":"sow","t":"orders","query_id":"q","bs":1}{"l":8}{"id":1}"#,
        ]
    );
    server.publish("orders", r#"{"id":2}"#).unwrap();
    assert_eq!(client.received()[0].header("bm"), Some(&*bookmark(&server, 2)));
    client.ask(r#"{"c":"subscribe","cid":"f","t":"u","o":"bookmark,conflation=1s,conflation_key=[/n]"}"#);
    for _ in 0..2 {
        server.publish("u", r#"{"n":1}"#).unwrap();
    }
    server.clock().advance(SECOND).unwrap();
    let conflated = client.received();
    assert_eq!(conflated.len(), 1);
    assert_eq!(conflated[0].header("bm"), Some(&*bookmark(&server, 3)), "that of the first message held");
}

/// B-3.
#[test]
fn a_subscription_keeps_its_kind_when_it_is_replaced() {
    let server = with_messages(3);
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"plain","t":"t"}"#);
    client.ask(subscribe("0|1|", ""));
    let replace = |id: &str, rest: &str| {
        format!(
            r#"{{"c":"subscribe","cid":"1","sub_id":"{id}","t":"t","o":"replace","a":"processed"{rest}}}"#
        )
    };
    assert_eq!(ask(&mut client, replace("plain", r#","bookmark":"0""#)), ["processed invalid options"]);
    assert_eq!(ask(&mut client, replace("s", "")), ["processed invalid options"]);
    let from_two = format!(r#","bookmark":"{}""#, bookmark(&server, 2));
    assert_eq!(ask(&mut client, replace("s", &from_two)), ["processed ok", "3"]);
    assert_eq!(ask(&mut client, subscribe("0", "")), ["processed subid in use"]);
}

/// B-10: only what a user may see, and nothing of topics he may not read.
#[test]
fn a_replay_obeys_entitlements() {
    let server = journaling()
        .entitlement(|access: &Access<'_>| match access.topic() {
            "secret" => Entitled::Deny,
            "part" => Entitled::Only("/n > 1".into()),
            _ => Entitled::Allow,
        })
        .start()
        .unwrap();
    for topic in ["t", "secret", "part"] {
        for n in 1..=2 {
            server.publish(topic, format!(r#"{{"n":{n}}}"#)).unwrap();
        }
    }
    let mut client = RawClient::log_on(&server, "c");
    let all = r#"{"c":"subscribe","cid":"s","t":".*","bookmark":"0"}"#;
    assert_eq!(ask(&mut client, all), ["1", "2", "2"]);
    let secret = r#"{"c":"subscribe","cid":"1","t":"secret","bookmark":"0","a":"processed"}"#;
    assert_eq!(ask(&mut client, secret), ["processed not entitled"]);
}

/// T-10.
#[test]
fn a_paused_subscription_keeps_its_place() {
    let server = with_messages(2);
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(ask(&mut client, subscribe("0", "pause")), ["processed ok"]);
    publish(&server, 3..=3);
    assert!(client.received().is_empty());
    assert!(server.subscriptions()[0].is_paused);
    let resume = r#"{"c":"subscribe","cid":"r","sub_id":"s","t":"t","o":"resume","a":"processed"}"#;
    assert_eq!(ask(&mut client, resume), ["processed ok", "1", "2", "completed ok", "3"]);
    publish(&server, 4..=4);
    assert_eq!(short(&client.received()), ["4"]);
    // Once more, now that it is live; with a bookmark it does not matter.
    let pause =
        r#"{"c":"subscribe","cid":"p","sub_id":"s","t":"t","bookmark":"0","o":"pause","a":"processed"}"#;
    assert_eq!(ask(&mut client, pause), ["processed ok"]);
    publish(&server, 5..=6);
    assert!(client.received().is_empty());
    assert_eq!(ask(&mut client, resume), ["processed ok", "5", "6"]);
    assert_eq!(ask(&mut client, resume), ["processed ok"], "it is running already");
    assert_eq!(server.subscriptions().len(), 1);
}

/// T-10: a list goes on together, in the order of the journal.
#[test]
fn several_subscriptions_resume_together() {
    let server = with_messages(3);
    let mut client = RawClient::log_on(&server, "c");
    for id in ["a", "b"] {
        client.ask(format!(r#"{{"c":"subscribe","cid":"{id}","t":"t","bookmark":"0","o":"pause"}}"#));
    }
    client.send(r#"{"c":"subscribe","cid":"r","sub_id":"a,b","t":"t","o":"resume"}"#);
    let seen: Vec<_> = client
        .received()
        .iter()
        .map(|frame| {
            format!("{}{}", frame.header("sids").unwrap(), short(std::slice::from_ref(frame)).concat())
        })
        .collect();
    assert_eq!(seen, ["a1", "b1", "a2", "b2", "a3", "b3"]);
    client.ask(r#"{"c":"subscribe","cid":"p","sub_id":"b,a","t":"t","o":"pause"}"#);
    publish(&server, 4..=4);
    assert!(client.received().is_empty());
}

/// T-10, K-7: what cannot be paused.
#[test]
fn a_pause_of_what_cannot_pause_is_refused() {
    let server = with_messages(1);
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"plain","t":"t"}"#);
    client.ask(subscribe("0|1|", ""));
    client.ask(r#"{"c":"subscribe","cid":"live","t":"t","bookmark":"0|1|","o":"live"}"#);
    let table = [
        (r#""sub_id":"plain","#, "pause", "invalid options"),
        (r#""sub_id":"live","#, "pause", "invalid options"),
        (r#""sub_id":"s","#, "pause,live", "invalid options"),
        (r#""sub_id":"s","#, "pause,resume", "invalid options"),
        (r#""sub_id":"s,plain","#, "pause", "invalid options"),
        (r#""sub_id":"s,unknown","#, "resume", "invalid subId"),
        (r#""sub_id":"unknown","#, "pause", "invalid subId"),
        (r#""sub_id":",","#, "resume", "invalid subId"),
        ("", "pause", "invalid subId"),
        ("", "resume", "invalid subId"),
    ];
    for (sub_id, option, reason) in table {
        let command =
            format!(r#"{{"c":"subscribe","cid":"1",{sub_id}"t":"t","o":"{option}","a":"processed"}}"#);
        assert_eq!(ask(&mut client, &command), [format!("processed {reason}")], "{command}");
    }
    publish(&server, 2..=2);
    assert_eq!(client.received().len(), 3, "all of them are running");
}

/// `rate`, `rate_max_gap`: on the server's clock.
#[test]
fn a_rate_spreads_a_replay_over_time() {
    let server = with_messages(3);
    let table = [("rate=2", 500), ("rate=7B", 1_000), ("rate=4X", 250), ("rate=0.01,rate_max_gap=2s", 2_000)];
    for (options, gap) in table {
        let mut client = RawClient::log_on(&server, options);
        let gap = Duration::from_millis(gap);
        assert_eq!(ask(&mut client, subscribe("0", options)), ["processed ok", "1"], "{options}");
        server.clock().advance(gap - Duration::from_millis(1)).unwrap();
        assert!(client.received().is_empty(), "{options}");
        server.clock().advance(Duration::from_millis(1)).unwrap();
        assert_eq!(short(&client.received()), ["2"], "{options}");
        server.clock().advance(gap).unwrap();
        assert_eq!(short(&client.received()), ["3", "completed ok"], "{options}");
    }
    let mut client = RawClient::log_on(&server, "live");
    ask(&mut client, subscribe("0|1|", "rate=1"));
    publish(&server, 4..=4);
    server.publish("t", r#"{"n":5}"#).unwrap();
    assert_eq!(short(&client.received()), ["4", "5"], "what is live comes at once");
}

/// T-10 with a rate: the pause takes the timer along.
#[test]
fn a_replay_with_a_rate_can_pause_and_end() {
    let server = with_messages(3);
    let mut client = RawClient::log_on(&server, "c");
    ask(&mut client, subscribe("0", "rate=1"));
    client.ask(r#"{"c":"subscribe","cid":"p","sub_id":"s","t":"t","o":"pause"}"#);
    server.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty());
    assert_eq!(
        ask(&mut client, r#"{"c":"subscribe","cid":"r","sub_id":"s","t":"t","o":"resume"}"#),
        ["2"],
        "its time had come"
    );
    client.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"s"}"#);
    server.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty());
}

/// T-12.
#[test]
fn reports_tell_the_newest_entry_once_per_interval() {
    let server = with_messages(2);
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"quiet","bookmark":"0|1|","a":"persisted"}"#);
    let report = |n| {
        [format!(
            r#"{{"c":"ack","sub_id":"s","bm":"{}","a":"persisted","status":"success"}}"#,
            bookmark(&server, n)
        )]
    };
    server.clock().advance(SECOND).unwrap();
    assert_eq!(client.texts(), report(2));
    server.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty(), "nothing is new");
    server.publish("t", "{}").unwrap();
    server.publish("elsewhere", "{}").unwrap();
    assert!(client.received().is_empty());
    server.clock().advance(SECOND).unwrap();
    assert_eq!(client.texts(), report(4), "any topic");
    // Never ahead of what the subscription was sent: a client would resume behind what it has not got.
    client.ask(r#"{"c":"subscribe","cid":"p","sub_id":"s","t":"quiet","o":"pause"}"#);
    server.publish("t", "{}").unwrap();
    server.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty());
    client.ask(r#"{"c":"subscribe","cid":"r","sub_id":"s","t":"quiet","o":"resume"}"#);
    server.clock().advance(10 * SECOND).unwrap();
    assert_eq!(client.texts(), report(5));
    client.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"s"}"#);
    server.publish("t", "{}").unwrap();
    server.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty());
}

/// K-11, T-12: the interval is that of the logon.
#[test]
fn reports_come_in_the_interval_of_the_session() {
    let server = with_messages(1);
    let mut client = RawClient::connect(&server);
    client.ask(r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","o":"ack_conflation=50ms"}"#);
    client.ask(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0","a":"persisted"}"#);
    server.clock().advance(Duration::from_millis(50)).unwrap();
    assert_eq!(short(&client.received()), ["persisted ok"]);
}

/// A-6: bookmarks outlive a restart, unless the journal is wiped or truncated.
#[test]
fn a_subscription_resumes_after_a_restart() {
    let server = with_messages(3);
    let [second, first] = [bookmark(&server, 2), bookmark(&server, 1)];
    server.restart().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(ask(&mut client, subscribe(&second, "")), ["processed ok", "3", "completed ok"]);
    server.truncate_journal(2);
    client.ask(r#"{"c":"unsubscribe","cid":"u","sub_id":"s"}"#);
    assert_eq!(
        ask(&mut client, subscribe(&first, "bookmark_not_found=fail")),
        ["processed invalid bookmark"]
    );
    assert_eq!(ask(&mut client, subscribe(&first, "")), ["processed ok", "completed ok"]);
    server.restart_empty().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(ask(&mut client, subscribe("0", "")), ["processed ok", "completed ok"]);
}

/// X-5.
#[test]
fn a_gate_stands_between_replay_and_live() {
    let server = journaling().clock(Clock::real()).start().unwrap();
    server.publish("t", r#"{"n":1}"#).unwrap();
    let gate = server.gate(Gate::BetweenReplayAndLive);
    let mut client = RawClient::log_on(&server, "c");
    assert_eq!(ask(&mut client, subscribe("0", "")), ["processed ok", "1", "completed ok"]);
    server.publish("t", r#"{"n":2}"#).unwrap();
    gate.wait_reached(SOON).unwrap();
    gate.open();
    assert_eq!(short(&[client.receive()]), ["2"]);
    server.publish("t", r#"{"n":3}"#).unwrap();
    assert_eq!((short(&client.received()), gate.reached()), (vec!["3".to_owned()], 1));
}

/// B-2, L-11: nothing is left of a subscription that was reading.
#[test]
fn an_unsubscribe_ends_a_replay_in_the_middle() {
    let server = with_messages(0);
    for n in 0..20_000 {
        server.publish("t", format!(r#"{{"n":{n}}}"#)).unwrap();
    }
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0"}"#);
    client.send(r#"{"c":"unsubscribe","cid":"u","sub_id":"s","a":"processed"}"#);
    let frames = client.received();
    let end = frames.iter().position(|frame| frame.command() == "ack").unwrap();
    assert_eq!(end, frames.len() - 1, "nothing after the acknowledgement");
    server.publish("t", "{}").unwrap();
    assert!(client.received().is_empty());
}
