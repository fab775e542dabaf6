//! Where the bytes of a connection are cut by the network changes nothing: the same stream of frames, given whole, byte
//! by byte, or in two parts split at any place, gives the same deliveries (`wire-protocol` 2.1).
//!
//! A transport filter tells what the client has read, so that every part is a read of its own.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crate::support::{Linked, SOON};
use amps_client::testing::Frame;
use amps_client::{AckType, Command, Direction, GlobalKind, Message, MessageStream};

/// One of many a kind of frame: header and payload.
const FRAMES: &[(&str, &[u8])] = &[
    (r#"{"c":"p","t":"orders","l":5,"sids":"h1"}"#, b"first"),
    (r#"{"c":"p","t":"orders","l":5,"sids":"h1"}"#, b"again"),
    (r#"{"c":"p","t":"trades","l":5,"sids":"h1"}"#, b"other"),
    (r#"{"c":"p","t":"trades","bm":"99|7|","k":"111","sids":"h1,s1,h2,s2"}"#, b"{\"c\":\"p\"}"),
    ("", b""),
    (r#"{"c":"p","t":"t","sids":"s1"}"#, b"\xFF\x00\xFE{"),
    (r#"{"c":"p","t":"t","sids":"s1"}"#, b""),
    (r#"{"c":"p","t":"t","sids":"s2"}"#, b"to another stream"),
    (r#"{"c":"heartbeat"}"#, b""),
    (r#"{"c":"publish","topic":"a\"b\\c\/\u00e9\ud83d\ude00","sub_ids":"h2"}"#, b"escaped"),
    (" {\"c\" : \"p\" , \"zz\":{\"a\":[1,\"}\"]},\"t\":null,\"s\":\"12\",\"sids\":\"h2\" }", b"tolerated"),
    (r#"{"c":"delta_publish","t":"t","sub_id":"h1"}"#, b"by sub_id"),
    (r#"{"c":"oof","t":"orders","k":"13480918341","sids":"h2,s1","reason":"match"}"#, b"{}"),
    (r#"{"c":"p","t":"t","sids":"gone,h1,,s1"}"#, b"for one that is gone"),
    (r#"{"c":"group_begin","query_id":"q1"}"#, b""),
    (
        r#"{"c":"sow","t":"orders","query_id":"q1","bs":3}"#,
        b"{\"k\":\"1\",\"l\":2}{}{\"k\":\"2\",\"l\":0}\n{\"l\":1,\"x\":\"abc\"}x",
    ),
    (r#"{"c":"sow","t":"orders","query_id":"q2","bs":1}"#, b"{\"k\":\"9\",\"l\":8}{\"id\":1}"),
    (r#"{"c":"group_end","query_id":"q1"}"#, b""),
    (r#"{"c":"sow","t":"orders","query_id":"nobody"}"#, b"{\"l\":1}x"),
    ("", b""),
    (r#"{"c":"ack","cid":"h1","a":"completed","status":"success","matches":3}"#, b""),
    (r#"{"c":"ack","s":9,"a":"persisted","status":"failure","reason":"not entitled"}"#, b""),
    (r#"{"c":"ack","sub_id":"q2","a":"stats","status":"success"}"#, b""),
    (r#"{"c":"completely_new","cid":"?"}"#, b"and its data"),
    (r#"{"c":"p","t":"t","sids":"h1,s1,s2,q1,q2"}"#, b"the end"),
];

#[test]
fn every_split_of_a_stream_gives_the_same_deliveries() {
    let receiver = Receiver::new();
    let bytes = stream(&[]);
    let whole = receiver.feed(&bytes, &[]);
    assert_eq!(whole.handlers.len(), 24, "{:#?}", whole.handlers);
    assert_eq!(whole.streams.iter().map(Vec::len).collect::<Vec<_>>(), [6, 3, 2]);
    for at in 1..bytes.len() {
        assert_eq!(receiver.feed(&bytes, &[at]), whole, "split at {at}");
    }
}

#[test]
fn a_stream_given_byte_by_byte_gives_the_same_deliveries() {
    let receiver = Receiver::new();
    let bytes = stream(&[]);
    let whole = receiver.feed(&bytes, &[]);
    let everywhere: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(receiver.feed(&bytes, &everywhere), whole);
}

/// A frame larger than any receive buffer, among small ones: however it comes, room is made for it and given back.
#[test]
fn a_large_frame_gives_the_same_deliveries_in_pieces_of_any_size() {
    let receiver = Receiver::new();
    let payload: Vec<u8> = (0..600_000_u32).map(|i| (i % 251) as u8).collect();
    let bytes = stream(&payload);
    let whole = receiver.feed(&bytes, &[]);
    let large = |text: &&String| text.contains("600000 bytes");
    assert_eq!(whole.handlers.iter().filter(large).count(), 1);
    assert_eq!(whole.streams.iter().flatten().filter(large).count(), 1);
    for size in [997, 4095, 4096, 4097, 65_536, 262_143, 262_144, 262_145, 500_000] {
        let cuts: Vec<usize> = (size..bytes.len()).step_by(size).collect();
        assert_eq!(receiver.feed(&bytes, &cuts), whole, "pieces of {size} bytes");
    }
    let start = bytes.len() - payload.len() - 200;
    for at in (start - 60..start + 60).step_by(7) {
        assert_eq!(receiver.feed(&bytes, &[at]), whole, "split at {at}");
    }
}

/// The bytes of [`FRAMES`], with a large frame before the last one if there is data for it.
fn stream(large: &[u8]) -> Vec<u8> {
    let mut frames: Vec<_> = FRAMES.iter().map(|(header, payload)| Frame::encode(header, payload)).collect();
    if !large.is_empty() {
        frames.insert(frames.len() - 1, Frame::encode(r#"{"c":"p","t":"large","sids":"h1,s1"}"#, large));
    }
    frames.concat()
}

/// What was delivered, as text: to all handlers in order, and to each stream.
#[derive(Debug, PartialEq, Eq)]
struct Deliveries {
    handlers: Vec<String>,
    streams: Vec<Vec<String>>,
}

/// A client with handlers and streams for everything that comes.
struct Receiver {
    linked: Linked,
    seen: Arc<Seen>,
    streams: Vec<Mutex<MessageStream>>,
}

/// What the client has read, and what its handlers got.
#[derive(Default)]
struct Seen {
    state: Mutex<(usize, Vec<(String, Message)>)>,
    changed: Condvar,
}

impl Seen {
    fn change(&self, change: impl FnOnce(&mut usize, &mut Vec<(String, Message)>)) {
        let mut state = self.state.lock().expect("no panic");
        let (read, messages) = &mut *state;
        change(read, messages);
        self.changed.notify_all();
    }

    fn wait(&self, holds: impl Fn(usize, &[(String, Message)]) -> bool) {
        let deadline = Instant::now() + SOON;
        let mut state = self.state.lock().expect("no panic");
        while !holds(state.0, &state.1) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} bytes were read, and {} messages came", state.0, state.1.len());
            state = self.changed.wait_timeout(state, left).expect("no panic").0;
        }
    }
}

impl Receiver {
    fn new() -> Receiver {
        let linked = Linked::new();
        let seen = Arc::new(Seen::default());
        let filter = Arc::clone(&seen);
        linked.client.set_transport_filter(move |direction: Direction, bytes: &[u8]| {
            if direction == Direction::Incoming {
                filter.change(|read, _| *read += bytes.len());
            }
        });
        let log = |name: &str| {
            let (seen, name) = (Arc::clone(&seen), name.to_owned());
            move |message: &Message| seen.change(|_, messages| messages.push((name.clone(), message.clone())))
        };
        linked.client.set_last_chance_handler(log("last chance"));
        linked.client.set_global_handler(GlobalKind::Heartbeat, log("heartbeat"));
        let subscribe = |id: &str| Command::subscribe("t").command_id(id).sub_id(id);
        let both = |id: &str| Command::sow_and_subscribe("t").command_id(id).sub_id(id);
        for (name, command) in [
            ("h1", subscribe("h1").ack_type(AckType::COMPLETED)),
            ("h2", subscribe("h2")),
            ("q1", both("q1")),
        ] {
            let handler = log(name);
            let placed = linked.answered(|client| client.execute_async(command, handler), consent);
            placed.expect("the server consents");
        }
        let streams = [subscribe("s1"), subscribe("s2"), both("q2")].map(|command| {
            let stream =
                linked.answered(|client| client.execute(command), consent).expect("the server consents");
            stream.set_unbounded();
            Mutex::new(stream)
        });
        Receiver { linked, seen, streams: streams.into() }
    }

    /// Gives the bytes to the client, each part when it has read the one before; what is delivered is kept until all has
    /// come, and looked at then.
    fn feed(&self, bytes: &[u8], cuts: &[usize]) -> Deliveries {
        let mut given = 0;
        self.seen.change(|read, messages| {
            *read = 0;
            messages.clear();
        });
        for cut in cuts.iter().chain([&bytes.len()]) {
            self.linked.end.send_raw(&bytes[given..*cut]).expect("the client reads");
            given = *cut;
            self.seen.wait(|read, _| read >= given);
        }
        // The last frame is for everybody; among the handlers `q1` is its last.
        let is_last = |message: &Message| message.data() == b"the end";
        self.seen.wait(|_, messages| messages.iter().any(|(name, message)| name == "q1" && is_last(message)));
        let streams: Vec<Vec<Message>> = self.streams.iter().map(|stream| until(stream, is_last)).collect();
        let state = self.seen.state.lock().expect("no panic");
        Deliveries {
            handlers: state
                .1
                .iter()
                .map(|(name, message)| format!("{name}: {}", described(message)))
                .collect(),
            streams: streams.iter().map(|messages| messages.iter().map(described).collect()).collect(),
        }
    }
}

fn consent(end: &amps_client::testing::PeerConnection) {
    end.expect(|_: &Frame| true, SOON).expect("a command");
    end.reply_ok().expect("the client reads");
}

/// The messages of a stream, up to one.
fn until(stream: &Mutex<MessageStream>, is_last: impl Fn(&Message) -> bool) -> Vec<Message> {
    let mut stream = stream.lock().expect("no panic");
    let mut messages = Vec::new();
    while !messages.last().is_some_and(&is_last) {
        messages.push(stream.next_timeout(SOON).expect("the stream goes on").expect("a message"));
    }
    messages
}

/// Everything about a message, the data of a large one as a sum.
fn described(message: &Message) -> String {
    let data = message.data();
    let shown = match data.len() {
        0..1000 => data.escape_ascii().to_string(),
        _ => format!("sum {}", data.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte))),
    };
    format!("for {:?}: {message:?} {shown}", message.sub_id())
}
