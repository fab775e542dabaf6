//! The worked frames of the protocol (`wire-protocol` section 16), byte for byte: those of a client as the public
//! operations write them, those of a server as they reach a handler, a stream or whoever waits.
//!
//! What carries a publish sequence or a bookmark list without a store is written with [`Client::send`], which adds nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::support::{Linked, SOON};
use amps_client::testing::{Frame, PeerConnection};
use amps_client::{
    AckOption, AckType, Authenticator, Client, Command, CommandType, ErrorKind, GlobalKind, Logon, Message,
    MessageHandler, Reason, Result, Status,
};

/// Which test proves which frames.
const LOGON: &[usize] = &[1, 2, 3, 4];
const PUBLISHING: &[usize] = &[5, 6, 7, 8, 9, 10, 11, 42, 43];
const SUBSCRIBING: &[usize] = &[12, 13, 14, 15, 16, 17, 18];
const QUERYING: &[usize] = &[19, 20, 21, 22, 23, 24, 25];
const DELETING: &[usize] = &[26, 27];
const REPLAYING: &[usize] = &[28, 29, 30, 31, 32];
const QUEUEING: &[usize] = &[33, 34, 35, 36, 37];
const FLUSHING: &[usize] = &[38];
const BEATING: &[usize] = &[39, 40, 41, 44];

#[test]
fn every_worked_frame_is_proved_once_and_has_the_length_it_states() {
    let proved = [LOGON, PUBLISHING, SUBSCRIBING, QUERYING, DELETING, REPLAYING, QUEUEING, FLUSHING, BEATING];
    let mut numbers = proved.concat();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=44).collect::<Vec<_>>());
    for (n, example) in examples().iter().enumerate() {
        assert_eq!(example.number, n + 1);
        let prefix = u32::from_be_bytes(*example.bytes.first_chunk().unwrap());
        assert_eq!(prefix as usize, example.bytes.len() - 4, "frame {}", example.number);
    }
}

#[test]
fn a_logon_is_sent_challenged_granted_and_refused() {
    let frames = Worked::new(LOGON);
    let with_password = |password: &str| frames.client(1).replace("s@cret", password).bytes;
    let linked = connected();
    let granted = linked.answered(
        |client| client.logon_with(&Logon::new().authenticator(Token)),
        |end| {
            let first = end.expect("logon", SOON).unwrap();
            assert_eq!(as_written(&first, "auto0"), with_password("s@cret"));
            let id = first.header("cid").unwrap();
            end.send_raw(frames.server(3).rename("auto0", id).bytes).unwrap();
            let second = end.expect("logon", SOON).unwrap();
            assert_eq!(second.header("cid"), Some(id), "an answer to a challenge keeps the id");
            assert_eq!(as_written(&second, "auto0"), with_password("token for alice, chal"));
            end.send_raw(frames.server(2).rename("auto0", id).bytes).unwrap();
        },
    );
    granted.unwrap();
    assert_eq!(linked.client.name_hash_value(), 7_094_790_850_998_930_143);
    assert_eq!(linked.client.server_version().number(), 5_030_501);

    let refused = connected().answered(Client::logon, |end| {
        let logon = end.expect("logon", SOON).unwrap();
        end.send_raw(frames.server(4).rename("auto0", logon.header("cid").unwrap()).bytes).unwrap();
    });
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Authentication, Some("auth failure")));
}

#[test]
fn publishes_are_written_and_their_acknowledgements_delivered() {
    let frames = Worked::new(PUBLISHING);
    let linked = Linked::new();
    let (handler, unexpected) = into_channel();
    linked.client.set_last_chance_handler(handler);
    let publish = |topic: &str, data: &[u8]| linked.client.publish(topic, data).map(drop);
    let with_all_fields = Command::publish("t")
        .expiration(Duration::from_secs(5))
        .correlation_id("abc")
        .sequence(77)
        .sow_key("K1")
        .data("d");
    let stored =
        Command::publish("t").ack_type(AckType::PERSISTED).sequence(1_795_337_071_422_000_001).data("d1");
    let composite = b"\0\0\0\x08{\"id\":1}\0\0\0\x03xyz";
    let calls: [(usize, &dyn Fn() -> Result<()>); 7] = [
        (5, &|| publish("orders", br#"{"id":1}"#)),
        (6, &|| publish("or\"d\\e", b"x")),
        (7, &|| linked.client.send(&with_all_fields)),
        (8, &|| linked.client.send(&stored)),
        (11, &|| linked.client.delta_publish("orders", br#"{"id":1,"q":2}"#).map(drop)),
        (42, &|| publish("cmp", composite)),
        (43, &|| publish("fx", b"sym=IBM\x01qty=100\x01")),
    ];
    for (number, call) in calls {
        call().unwrap();
        frames.is_next(number, &linked.end);
    }

    linked.end.send_raw(frames.server(9).bytes).unwrap();
    let ack = next(&unexpected);
    assert_eq!(
        (ack.command(), ack.ack_type(), ack.status()),
        (CommandType::Ack, AckType::PERSISTED, Status::Success)
    );
    assert_eq!(
        (ack.sequence(), ack.bookmark()),
        (Some(1_795_337_071_422_000_002), Some("99|1795337071422000002|"))
    );
    assert_eq!(ack.command_id(), None);
    linked.end.send_raw(frames.server(10).bytes).unwrap();
    let ack = next(&unexpected);
    assert_eq!((ack.status(), ack.reason_code()), (Status::Failure, Reason::NotEntitled));
    assert_eq!(ack.sequence(), Some(1_795_337_071_422_000_003));
}

#[test]
fn subscriptions_are_placed_fed_and_ended() {
    let frames = Worked::new(SUBSCRIBING);
    let linked = Linked::new();
    let command = |id: &str| Command::subscribe("orders").command_id(id).sub_id(id);
    let filtered = || command("auto2").filter("/sym = \"A\\B\"").options("oof,timestamp");

    let refused = linked.answered(
        |client| client.execute(filtered()).map(drop),
        |end| {
            frames.is_next(12, end);
            end.send_raw(frames.server(14).bytes).unwrap();
        },
    );
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::BadFilter, Some("bad filter")));

    let (handler, second) = into_channel();
    let placed = linked.answered(
        |client| client.execute_async(filtered(), handler),
        |end| {
            frames.is_next(12, end);
            end.send_raw(frames.server(13).bytes).unwrap();
        },
    );
    assert_eq!(placed.unwrap(), "auto2");
    let mut fifth = linked.answered(
        |client| client.execute(command("auto5")).unwrap(),
        |end| {
            end.expect("subscribe", SOON).unwrap();
            end.send_raw(frames.server(13).rename("auto2", "auto5").bytes).unwrap();
        },
    );

    linked.end.send_raw(frames.server(15).bytes).unwrap();
    let copies = [next(&second), fifth.next_timeout(SOON).unwrap().unwrap()];
    for (message, id) in copies.iter().zip(["auto2", "auto5"]) {
        assert_eq!((message.command(), message.sub_id()), (CommandType::Publish, Some(id)));
        assert_eq!((message.topic(), message.bookmark()), (Some("orders"), Some("99|7|")));
        assert_eq!(
            (message.timestamp(), message.sow_key()),
            (Some("20240102T030405.123456Z"), Some("13480918341"))
        );
        assert_eq!((message.message_length(), message.data()), (Some(8), &br#"{"id":1}"#[..]));
    }
    linked.end.send_raw(frames.server(16).bytes).unwrap();
    let message = next(&second);
    assert_eq!((message.topic(), message.data()), (Some("bin"), &b"\xFF\x00\xFE"[..]));
    linked.end.send_raw(frames.server(17).bytes).unwrap();
    let message = next(&second);
    assert_eq!((message.command(), message.reason()), (CommandType::Oof, Some("match")));
    assert_eq!((message.sow_key(), message.data()), (Some("13480918341"), &br#"{"id":1,"q":0}"#[..]));

    linked.client.unsubscribe("auto2").unwrap();
    let unsubscribe = linked.end.expect("unsubscribe", SOON).unwrap();
    assert_eq!(as_written(&unsubscribe, "auto3"), frames.client(18).bytes);
    linked.client.send(&Command::unsubscribe("auto2").command_id("auto3")).unwrap();
    frames.is_next(18, &linked.end);
    linked.client.unsubscribe_all().unwrap();
    let all = linked.end.expect("unsubscribe", SOON).unwrap();
    assert_eq!(as_written(&all, "auto3"), frames.client(18).replace("\"auto2\"", "\"all\"").bytes);
}

#[test]
fn queries_are_placed_and_their_results_delivered() {
    let frames = Worked::new(QUERYING);
    let linked = Linked::new();
    let query = Command::sow("orders")
        .command_id("auto7")
        .filter("/id=1")
        .batch_size(100)
        .top_n(5)
        .order_by("/id DESC")
        .ack_type(AckType::COMPLETED);
    let mut result = linked.answered(
        |client| client.execute(query).unwrap(),
        |end| {
            frames.is_next(19, end);
            end.reply_ok().unwrap();
            (20..=23).for_each(|number| end.send_raw(frames.server(number).bytes).unwrap());
        },
    );
    let mut pull = || result.next_timeout(SOON).map(|message| message.unwrap());
    let begin = pull().unwrap();
    assert_eq!((begin.command(), begin.query_id()), (CommandType::GroupBegin, Some("auto7")));
    let records: Vec<_> = (0..2).map(|_| pull().unwrap()).collect();
    let seen = records.iter().map(|r| (r.command(), r.topic(), r.sow_key(), r.correlation_id(), r.data()));
    let (sow, orders) = (CommandType::Sow, Some("orders"));
    assert!(seen.eq([
        (sow, orders, Some("111"), None, &br#"{"id":1}"#[..]),
        (sow, orders, Some("222"), Some("abc"), &br#"{"id":22}"#[..]),
    ]));
    assert!(records.iter().all(|r| (r.query_id(), r.batch_size()) == (Some("auto7"), Some(2))));
    assert_eq!(pull().unwrap().command(), CommandType::GroupEnd);
    let completed = pull().unwrap();
    assert_eq!((completed.ack_type(), completed.query_id()), (AckType::COMPLETED, Some("auto7")));
    assert!(pull().is_none());

    let both = [
        (24, Command::sow_and_subscribe("orders").command_id("auto8").batch_size(50).top_n(3).options("oof")),
        (25, Command::sow_and_delta_subscribe("orders").command_id("auto9").options("oof,no_empties")),
    ];
    for (number, command) in both {
        let id = command.command_id_text().unwrap().to_owned();
        let command = command.sub_id(id).filter("1=1");
        let placed = linked.answered(
            |client| client.execute_async(command, |_: &Message| {}),
            |end| {
                frames.is_next(number, end);
                end.reply_ok().unwrap();
            },
        );
        placed.unwrap();
    }
}

#[test]
fn a_delete_is_sent_by_each_selector_and_counted() {
    let frames = Worked::new(DELETING);
    let linked = Linked::new();
    let delete = || Command::sow_delete("orders").command_id("auto10");
    let filter = frames.client(26);
    let by_keys = filter.replace(r#""filter":"/id=1","#, "").replace("}", r#","sow_keys":"1,2,3"}"#);
    let by_data = filter.replace(r#""filter":"/id=1","#, "").replace("}", r#"}{"id":1}"#);
    let selectors = [
        (delete().filter("/id=1"), filter),
        (delete().sow_keys("1,2,3"), by_keys),
        (delete().data(r#"{"id":1}"#), by_data),
    ];
    for (command, expected) in selectors {
        let (handler, counted) = into_channel();
        let placed = linked.answered(
            |client| client.sow_delete_async(command, handler),
            |end| {
                assert_eq!(written(&end.expect("sow_delete", SOON).unwrap()), expected.bytes);
                end.reply_ok().unwrap();
                end.send_raw(frames.server(27).bytes).unwrap();
            },
        );
        assert_eq!(placed.unwrap(), "auto10");
        let stats = next(&counted);
        assert_eq!((stats.ack_type(), stats.query_id()), (AckType::STATS, Some("auto10")));
        assert_eq!(
            (stats.records_deleted(), stats.topic_matches(), stats.matches()),
            (Some(1), Some(10), Some(1))
        );
    }
}

#[test]
fn replays_are_placed_and_told_how_far_they_are() {
    let frames = Worked::new(REPLAYING);
    let linked = Linked::new();
    let replay = |id: &str| Command::subscribe("orders").command_id(id).sub_id(id).bookmark("99|7|,12|3|");
    let (handler, told) = into_channel();
    let placed = linked.answered(
        |client| {
            client.execute_async(replay("auto27").ack_type(AckType::PERSISTED | AckType::COMPLETED), handler)
        },
        |end| {
            let expected = frames.client(28).replace("processed,persisted", "processed,persisted,completed");
            assert_eq!(written(&end.expect("subscribe", SOON).unwrap()), expected.bytes);
            end.reply_ok().unwrap();
        },
    );
    placed.unwrap();
    linked.end.send_raw(frames.server(29).bytes).unwrap();
    let safe = next(&told);
    assert_eq!(
        (safe.ack_type(), safe.sub_id(), safe.bookmark()),
        (AckType::PERSISTED, Some("auto27"), Some("99|12|"))
    );
    assert_eq!((safe.sequence(), safe.command_id()), (None, None));
    linked.end.send_raw(frames.server(30).bytes).unwrap();
    let caught_up = next(&told);
    assert_eq!((caught_up.ack_type(), caught_up.bookmark()), (AckType::COMPLETED, Some("99|12|")));

    let exactly = replay("auto27").ack_type(AckType::PROCESSED | AckType::PERSISTED);
    let range = Command::subscribe("t")
        .command_id("auto22")
        .sub_id("auto22")
        .bookmark("[20200604T000000:20200605T000000)")
        .ack_type(AckType::PROCESSED | AckType::COMPLETED);
    let resume = Command::subscribe("t")
        .command_id("auto18")
        .sub_id("s1,s2")
        .options("resume")
        .ack_type(AckType::PROCESSED);
    for (number, command) in [(28, exactly), (31, range), (32, resume)] {
        linked.client.send(&command).unwrap();
        frames.is_next(number, &linked.end);
    }
}

#[test]
fn queue_messages_are_received_and_given_back() {
    let frames = Worked::new(QUEUEING);
    let linked = Linked::new();
    let (handler, acks) = into_channel();
    linked.client.set_global_handler(GlobalKind::Ack, handler);
    let subscribe = Command::subscribe("q").command_id("auto1").sub_id("auto1").options("max_backlog=5");
    let mut queue = linked.answered(
        |client| client.execute(subscribe).unwrap(),
        |end| {
            frames.is_next(33, end);
            end.send_raw(frames.server(34).bytes).unwrap();
            end.send_raw(frames.server(35).bytes).unwrap();
        },
    );
    // That of the logon may still be on its way to the handler.
    let mut acks = std::iter::repeat_with(|| next(&acks));
    let ack = acks.find(|ack| ack.command_id() == Some("auto1")).unwrap();
    assert_eq!(ack.options(), Some("max_backlog=5"));
    let message = queue.next_timeout(SOON).unwrap().unwrap();
    assert_eq!((message.topic(), message.bookmark(), message.data()), (Some("q"), Some("99|4|"), &b"a"[..]));
    assert_eq!((message.lease_period(), message.sub_id()), (Some("20240102T030405.123456Z"), Some("auto1")));
    assert!(message.lease_end_utc().is_some());

    linked.client.set_ack_batch_size(3);
    message.ack().unwrap();
    for bookmark in ["99|5|", "99|6|"] {
        linked.client.ack("q", bookmark).unwrap();
    }
    frames.is_next(36, &linked.end);
    message.ack_with(AckOption::Cancel).unwrap();
    frames.is_next(37, &linked.end);
}

#[test]
fn a_flush_asks_for_the_acknowledgement_it_waits_for() {
    let frames = Worked::new(FLUSHING);
    let linked = Linked::new();
    let command = || Command::flush().command_id("auto2");
    for ack in [AckType::PROCESSED, AckType::PERSISTED] {
        let expected = frames.client(38).replace("processed", &ack.to_string()).bytes;
        linked.client.send(&command().ack_type(ack)).unwrap();
        assert_eq!(written(&linked.end.expect("flush", SOON).unwrap()), expected);
        let flushed = linked.answered(
            |client| client.publish_flush_with(ack, Some(SOON)),
            |end| {
                assert_eq!(as_written(&end.expect("flush", SOON).unwrap(), "auto2"), expected);
                end.reply(&format!(r#"{{"c":"ack","cid":"{{cid}}","a":"{ack}","status":"success"}}"#))
                    .unwrap();
            },
        );
        flushed.unwrap();
    }
    let told = linked.answered(
        |client| client.execute(command().ack_type(AckType::PROCESSED)).unwrap().collect::<Result<Vec<_>>>(),
        |end| {
            frames.is_next(38, end);
            end.reply_ok().unwrap();
        },
    );
    assert_eq!(told.unwrap().iter().map(Message::ack_type).collect::<Vec<_>>(), [AckType::PROCESSED]);
}

#[test]
fn heartbeats_are_started_and_answered_and_an_empty_frame_is_none() {
    let frames = Worked::new(BEATING);
    let linked = Linked::new();
    let (handler, beats) = into_channel();
    linked.client.set_global_handler(GlobalKind::Heartbeat, handler);
    linked.client.set_heartbeat(Duration::from_secs(5)).unwrap();
    frames.is_next(39, &linked.end);
    linked.end.send_raw([frames.server(44).bytes, frames.server(40).bytes].concat()).unwrap();
    assert_eq!(next(&beats).command(), CommandType::Heartbeat);
    frames.is_next(41, &linked.end);
    assert!(beats.try_recv().is_err() && linked.client.is_connected());
}

/// One worked frame, length prefix included.
#[derive(Debug, Clone)]
struct Example {
    number: usize,
    from_client: bool,
    bytes: Vec<u8>,
}

impl Example {
    /// Other text in the frame, and the length that follows from it.
    fn replace(&self, old: &str, new: &str) -> Example {
        let body = String::from_utf8(self.bytes[4..].to_vec()).expect("text");
        assert!(body.contains(old), "{old} is not in frame {}", self.number);
        Example { bytes: framed(body.replacen(old, new, 1).as_bytes()), ..self.clone() }
    }

    /// The same frame with another id.
    fn rename(&self, old: &str, new: &str) -> Example {
        self.replace(&format!(r#""cid":"{old}""#), &format!(r#""cid":"{new}""#))
    }
}

/// The frames one test proves; all of them are to be used.
struct Worked {
    numbers: &'static [usize],
    used: RefCell<BTreeSet<usize>>,
}

impl Worked {
    fn new(numbers: &'static [usize]) -> Worked {
        Worked { numbers, used: RefCell::default() }
    }

    /// A frame that the client is to write.
    fn client(&self, number: usize) -> Example {
        self.take(number, true)
    }

    /// A frame that the peer is to send.
    fn server(&self, number: usize) -> Example {
        self.take(number, false)
    }

    fn take(&self, number: usize, from_client: bool) -> Example {
        assert!(self.numbers.contains(&number), "frame {number} is proved elsewhere");
        self.used.borrow_mut().insert(number);
        let example = examples().swap_remove(number - 1);
        assert_eq!(example.from_client, from_client, "frame {number}");
        example
    }

    /// The next frame that the peer receives is this one, byte for byte.
    fn is_next(&self, number: usize, end: &PeerConnection) {
        let received = end.expect(|_: &Frame| true, SOON).expect("a frame");
        let expected = self.client(number).bytes;
        assert_eq!(written(&received), expected, "frame {number}: {received:?}");
    }
}

impl Drop for Worked {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.used.borrow().iter().eq(self.numbers), "not every frame was used: {:?}", self.used);
        }
    }
}

fn examples() -> Vec<Example> {
    let lines = include_str!("../data/worked_frames.txt").lines().filter(|line| !line.starts_with('#'));
    let example = |line: &str| {
        let mut parts = line.splitn(4, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (number, from) = (part().parse().expect("a number"), part());
        let prefix = u32::from_str_radix(part(), 16).expect("a length");
        let bytes = [&prefix.to_be_bytes()[..], &unescaped(part())].concat();
        Example { number, from_client: from == "C", bytes }
    };
    lines.map(example).collect()
}

/// The bytes of a text in which `<xx>` stands for a byte.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, (hex, after))) =
        rest.split_once('<').and_then(|(p, r)| Some((p, r.split_once('>')?)))
    {
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(u8::from_str_radix(hex, 16).expect("two digits"));
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// The bytes of a frame as it was received.
fn written(frame: &Frame) -> Vec<u8> {
    framed(frame.raw())
}

/// The same with the id of the example in place of a generated one, and with the version text of the example.
fn as_written(frame: &Frame, id: &str) -> Vec<u8> {
    let received = Example { number: 0, from_client: true, bytes: written(frame) };
    let renamed = received.rename(frame.header("cid").expect("an id"), id);
    let Some(version) = frame.header("version") else { return renamed.bytes };
    assert!(version.ends_with(":rust"), "{version}");
    renamed.replace(version, "0.1.0:rust").bytes
}

/// Answers a challenge with a password that shows what it was asked.
struct Token;

impl Authenticator for Token {
    fn authenticate(&self, _user: &str, password: &str) -> Result<String> {
        Ok(password.to_owned())
    }

    fn retry(&self, user: &str, challenge: &str) -> Result<String> {
        Ok(format!("token for {user}, {challenge}"))
    }

    fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
        Ok(())
    }
}

/// A client that has everything to put into its logon, connected.
fn connected() -> Linked {
    let client = Client::builder("py-1").build().expect("a name");
    client.set_logon_correlation_data("corr==").expect("letters");
    Linked::connected(client, |uri| format!("{}?pretty=true", uri.replacen("://", "://alice:s%40cret@", 1)))
}

fn into_channel() -> (impl MessageHandler + 'static, Receiver<Message>) {
    let (sender, receiver) = mpsc::channel();
    (move |message: &Message| drop(sender.send(message.clone())), receiver)
}

fn next(messages: &Receiver<Message>) -> Message {
    messages.recv_timeout(SOON).expect("a message")
}
