//! Whatever bytes a server sends, the client does not panic, hang, or allocate on trust: the connection ends with a
//! `Stream` error, or it goes on. The random part comes from a seed that a failure shows; `AMPS_CLIENT_SEED` sets another.

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use amps_client::testing::{Frame, PeerConnection};
use amps_client::{Client, Command, ConnectionState, ErrorKind, Logon, Message, UnhandledError};
use counting::{Counting, watch_this_thread};
use support::{Linked, SOON};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the client is to make of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// They are no frames: the connection is dropped.
    Stream,
    /// They are legal, or an incomplete frame.
    GoesOn,
}

#[test]
fn bytes_made_to_hurt_end_the_connection_or_are_taken() {
    let framed = |body: &[u8]| Frame::encode("", body);
    let publish = |header: String| framed(format!("{{\"c\":\"p\",{header}}}data").as_bytes());
    let records =
        |records: &str| framed(format!("{{\"c\":\"sow\",\"query_id\":\"q1\"}}{records}").as_bytes());
    let million = 1_000_000;
    let table: Vec<(&str, Vec<u8>, End)> = vec![
        ("a length above the limit", vec![0x40, 0, 0, 1], End::Stream),
        ("the largest length there is", vec![0xFF; 4], End::Stream),
        ("an HTTP answer", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), End::Stream),
        ("the largest legal length and nothing behind", vec![0x40, 0, 0, 0], End::GoesOn),
        (
            "the largest legal length and a little behind",
            [&[0x40, 0, 0, 0][..], b"{\"c\":\"p\""].concat(),
            End::GoesOn,
        ),
        ("a million empty frames", vec![0; 4 * million], End::GoesOn),
        ("an empty header", framed(b"{}"), End::Stream),
        ("no header", framed(b"plain text"), End::Stream),
        ("a header without a command", framed(b"{\"t\":\"orders\"}"), End::Stream),
        ("an empty command", framed(b"{\"c\":\"\",\"t\":\"orders\"}"), End::Stream),
        ("a header that does not end", framed(b"{\"c\":\"p\",\"t\":\"orders"), End::Stream),
        ("a backslash at the very end", framed(b"{\"c\":\"p\",\"t\":\"\\"), End::Stream),
        ("half a unicode escape at the very end", framed(b"{\"c\":\"p\",\"t\":\"\\u00"), End::Stream),
        ("closing brackets only", framed(b"{\"c\":\"p\",\"x\":]]]]}"), End::Stream),
        (
            "ten megabytes of blanks before a header",
            framed(&[vec![b' '; 10 * million], b"{\"c\":\"p\"}".to_vec()].concat()),
            End::GoesOn,
        ),
        ("a value of ten megabytes", publish(format!("\"t\":\"{}\"", "t".repeat(10 * million))), End::GoesOn),
        (
            "ten megabytes of escapes",
            publish(format!("\"t\":\"{}\"", "\\u0041\\n".repeat(250_000))),
            End::GoesOn,
        ),
        (
            "ten megabytes of one key",
            publish(format!("\"t\":\"{}", "a\",\"t\":\"".repeat(million / 5) + "b\"")),
            End::GoesOn,
        ),
        (
            "three hundred thousand unknown keys",
            publish(format!("{}\"z\":1", "\"zz\":[],".repeat(300_000))),
            End::GoesOn,
        ),
        ("a key of ten megabytes", publish(format!("\"{}\":1", "k".repeat(10 * million))), End::GoesOn),
        (
            "a number of a million digits",
            publish(format!("\"s\":{},\"sids\":\"h1\"", "9".repeat(million))),
            End::GoesOn,
        ),
        (
            "objects a million deep",
            publish(format!("\"zz\":{}{}", "{\"a\":[".repeat(million), "]}".repeat(million))),
            End::GoesOn,
        ),
        (
            "objects a million deep and not closed",
            publish(format!("\"zz\":{}", "[{".repeat(million))),
            End::Stream,
        ),
        (
            "quotes in nested values not closed",
            publish(format!("\"zz\":{}", "[\"".repeat(million))),
            End::Stream,
        ),
        (
            "a hundred thousand subscriptions",
            publish(format!("\"sids\":\"{}h1\"", "nobody,".repeat(100_000))),
            End::GoesOn,
        ),
        (
            "one subscription a hundred thousand times",
            publish(format!("\"sids\":\"{}h1\"", "h1,".repeat(100_000))),
            End::GoesOn,
        ),
        (
            "two hundred thousand commas for subscriptions",
            publish(format!("\"sids\":\"{}\"", ",".repeat(200_000))),
            End::GoesOn,
        ),
        (
            "subscriptions that are not UTF-8",
            framed(&[b"{\"c\":\"p\",\"sids\":\"", &[0xFF; 1000][..], b",h1\"}"].concat()),
            End::GoesOn,
        ),
        ("a record that is longer than its frame", records("{\"k\":\"1\",\"l\":9}a"), End::Stream),
        ("a record of the largest length there is", records("{\"l\":18446744073709551615}a"), End::Stream),
        ("a record whose length overflows", records("{\"l\":99999999999999999999999}a"), End::Stream),
        ("a record of a negative length", records("{\"l\":-1}a"), End::Stream),
        ("a record without a length", records("{\"k\":\"1\"}a"), End::Stream),
        ("a record whose length is no number", records("{\"l\":\"many\"}a"), End::Stream),
        ("records and then garbage", records("{\"l\":1}a garbage"), End::Stream),
        ("a hundred thousand empty records", records(&"{\"l\":0}".repeat(100_000)), End::GoesOn),
        (
            "records with a megabyte of blanks between them",
            records(&format!("{{\"l\":0}}{}{{\"l\":0}}", "\n".repeat(million))),
            End::GoesOn,
        ),
        ("a query result without records", records(""), End::GoesOn),
        (
            "an acknowledgement of everything",
            framed(format!("{{\"c\":\"ack\",\"a\":\"{}\"}}", "processed,".repeat(100_000)).as_bytes()),
            End::GoesOn,
        ),
        (
            "commands that only a client sends",
            [framed(b"{\"c\":\"logon\",\"pw\":\"x\"}"), framed(b"{\"c\":\"subscribe\",\"sub_id\":\"h1\"}")]
                .concat(),
            End::GoesOn,
        ),
    ];
    for (name, bytes, end) in table {
        assert_eq!(Target::new().hit(&bytes, &[], name), end, "{name}");
    }
}

/// Ten times the input may take ten times as long, or a few times that on a busy machine, but not a hundred times.
#[test]
fn the_work_grows_with_the_input_and_not_with_its_square() {
    for (what, few, input) in GROWING {
        let shortest = |n| (0..2).map(|_| taken(&input(n), what)).min().unwrap();
        let (one, ten) = (shortest(*few), shortest(few * 10));
        assert!(
            ten < 35 * one.max(Duration::from_millis(2)),
            "{what}: {one:?}, and ten times as many {ten:?}"
        );
    }
}

/// Input that can be made as long as one likes, and how much of it is enough to see how the work grows.
type Growing = (&'static str, usize, fn(usize) -> Vec<u8>);

const GROWING: &[Growing] = &[
    ("subscriptions", 20_000, |n| of_publish(&format!("\"sids\":\"{}h1\"", "h1,".repeat(n)))),
    ("keys", 5_000, |n| of_publish(&format!("{}\"z\":1", "\"t\":\"a\",".repeat(n)))),
    ("escapes", 20_000, |n| of_publish(&format!("\"t\":\"{}\"", "\\n".repeat(n)))),
    ("characters", 20_000, |n| of_publish(&format!("\"t\":\"{}\"", "\u{e9}".repeat(n)))),
    ("brackets", 20_000, |n| of_publish(&format!("\"z\":{}{}", "[".repeat(n), "]".repeat(n)))),
    ("records", 5_000, |n| Frame::encode("{\"c\":\"sow\",\"query_id\":\"q1\"}", "{\"l\":0}\n".repeat(n))),
];

fn of_publish(headers: &str) -> Vec<u8> {
    Frame::encode(&format!("{{\"c\":\"p\",{headers}}}"), b"data")
}

/// How long the client is busy with these bytes.
fn taken(bytes: &[u8], what: &str) -> Duration {
    let target = Target::new();
    let began = Instant::now();
    assert_eq!(target.hit(bytes, &[], what), End::GoesOn, "{what}");
    began.elapsed()
}

#[test]
fn random_bytes_end_the_connection_or_are_taken() {
    let mut random = Random::seeded();
    for round in 0..150 {
        let bytes = random.garbage();
        let what = format!("seed {}, round {round}, {}", random.seed, bytes.escape_ascii());
        Target::new().hit(&bytes, &[], &what);
    }
}

#[test]
fn a_valid_stream_with_random_damage_ends_the_connection_or_goes_on() {
    let mut random = Random::seeded();
    for round in 0..250 {
        let bytes = random.damaged(&valid_stream());
        let cut = random.below(bytes.len() + 1);
        let what = format!("seed {}, round {round}, cut at {cut}, {}", random.seed, bytes.escape_ascii());
        Target::new().hit(&bytes, &[cut], &what);
    }
}

#[test]
fn a_valid_stream_that_ends_anywhere_ends_in_order() {
    let stream = valid_stream();
    let mut random = Random::seeded();
    for _ in 0..60 {
        let end = random.below(stream.len());
        let what = format!("cut off at {end}");
        assert_eq!(Target::new().hit(&stream[..end], &[], &what), End::GoesOn, "{what}");
    }
}

#[test]
fn a_logon_that_gets_random_bytes_fails_or_succeeds_in_time() {
    let mut random = Random::seeded();
    for round in 0..60 {
        let client = Client::builder("target").build().expect("a name");
        let linked = Linked::connected(client, |uri| uri);
        let logon = Logon::new().timeout(SOON);
        let began = Instant::now();
        // Any outcome will do, as long as there is one.
        let _ = linked.answered(
            |client| client.logon_with(&logon),
            |end| {
                let frame = end.expect("logon", SOON).expect("a logon");
                let id = frame.header("cid").expect("an id");
                let answer = format!(
                    r#"{{"c":"ack","cid":"{id}","s":7,"bm":"1|7|","a":"processed","status":"success","version":"5.3.5.1","opts":"connection_name=a","user_id":"u"}}"#
                );
                let answer = random.damaged(&Frame::encode(&answer, b""));
                // The client may close the connection meanwhile.
                let _ = end.send_raw(answer);
                end.close();
            },
        );
        assert!(began.elapsed() < SOON / 2, "seed {}, round {round}", random.seed);
        linked.client.close();
    }
}

/// A client with routes for what may come, and what becomes of it.
struct Target {
    linked: Linked,
    states: Receiver<ConnectionState>,
    failures: Receiver<ErrorKind>,
    /// The largest allocation of the receive thread.
    largest: &'static AtomicUsize,
}

impl Target {
    fn new() -> Target {
        let client = Client::builder("target").build().expect("a name");
        // A few bytes for each case.
        let largest: &'static AtomicUsize = Box::leak(Box::default());
        client.set_thread_created_callback(move || watch_this_thread(largest));
        let linked = Linked::of(client);
        let client = &linked.client;
        let (sender, states) = mpsc::channel();
        client.add_connection_state_listener(move |state: ConnectionState| {
            // Nobody listens any more once the test is over.
            let _ = sender.send(state);
        });
        let (sender, failures) = mpsc::channel();
        client.set_exception_listener(move |failure: &UnhandledError| {
            let _ = sender.send(failure.error().kind());
        });
        client.set_last_chance_handler(look_at);
        for command in [
            Command::subscribe("t").sub_id("h1"),
            Command::sow_and_subscribe("t").sub_id("h2").query_id("q1"),
        ] {
            let placed = linked.answered(|client| client.execute_async(command, look_at), consent);
            placed.expect("the server consents");
        }
        Target { linked, states, failures, largest }
    }

    /// Gives bytes to the client, then the end of the stream, and tells what became of the connection.
    fn hit(&self, bytes: &[u8], cuts: &[usize], what: &str) -> End {
        let mut given = 0;
        for cut in cuts.iter().chain([&bytes.len()]) {
            // The client may have had enough.
            let _ = self.linked.end.send_raw(&bytes[given..*cut]);
            given = *cut;
        }
        self.linked.end.shutdown_write();
        loop {
            match self.states.recv_timeout(SOON) {
                Ok(ConnectionState::Shutdown) => break,
                Ok(_) => {}
                Err(_) => panic!("the receive thread hangs or is gone: {what}"),
            }
        }
        self.linked.client.close();
        // No more than a few times what was sent, or than a receive buffer.
        let largest = self.largest.load(Ordering::Relaxed);
        assert!(
            largest <= (1 << 20) + 16 * bytes.len(),
            "{largest} bytes at once for {} received: {what}",
            bytes.len()
        );
        let failures: Vec<_> = self.failures.try_iter().collect();
        match failures.as_slice() {
            [ErrorKind::Disconnected] => End::GoesOn,
            [ErrorKind::Stream, ErrorKind::Disconnected] => End::Stream,
            other => panic!("{other:?}: {what}"),
        }
    }
}

fn consent(end: &PeerConnection) {
    end.expect(|_: &Frame| true, SOON).expect("a command");
    end.reply_ok().expect("the client reads");
}

/// Looks at everything a message has; nothing of it may panic either.
fn look_at(message: &Message) {
    let texts = [message.sub_id(), message.topic(), message.reason(), message.options(), message.bookmark()];
    let numbers = [message.sequence(), message.message_length(), message.matches(), message.expiration()];
    let times = [message.timestamp_utc(), message.lease_end_utc()];
    let others = (message.command(), message.ack_type(), message.status(), message.reason_code());
    std::hint::black_box((texts, numbers, times, others, message.bookmark_value(), message.data().len()));
}

/// Frames of every kind for the routes of a [`Target`].
fn valid_stream() -> Vec<u8> {
    let frames: &[(&str, &[u8])] = &[
        (r#"{"c":"p","t":"orders","bm":"99|7|","ts":"20240102T030405.123456Z","l":5,"sids":"h1"}"#, b"first"),
        (r#"{"c":"p","t":"orders","bm":"99|8|","ts":"20240102T030405.123457Z","l":5,"sids":"h1"}"#, b"again"),
        (
            r#"{"c":"p","t":"a\"b\\c\u00e9","lp":"20240102T030405.123456Z","sids":"h1,h2,gone"}"#,
            b"{\"id\":1}",
        ),
        (r#"{"c":"group_begin","query_id":"q1"}"#, b""),
        (
            r#"{"c":"sow","t":"orders","query_id":"q1","bs":2}"#,
            b"{\"k\":\"1\",\"l\":2}{}{\"k\":\"2\",\"l\":3,\"x\":\"QQ==\"}abc",
        ),
        (r#"{"c":"group_end","query_id":"q1"}"#, b""),
        (r#"{"c":"ack","cid":"auto1","a":"completed","status":"success","matches":3}"#, b""),
        (r#"{"c":"ack","s":9,"a":"persisted","status":"failure","reason":"not entitled"}"#, b""),
        (r#"{"c":"oof","t":"orders","k":"1","sids":"h2","reason":"match"}"#, b"{}"),
        (r#"{"c":"heartbeat"}"#, b""),
        ("", b""),
    ];
    frames.iter().flat_map(|(header, payload)| Frame::encode(header, payload)).collect()
}

/// A source of random numbers that can be started again (SplitMix64).
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn seeded() -> Random {
        let chosen = env::var("AMPS_CLIENT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = chosen.unwrap_or(0x5EED);
        Random { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// Bytes of any kind, characters of the grammar, or pieces of headers; mostly behind a length that fits.
    fn garbage(&mut self) -> Vec<u8> {
        const PIECES: [&str; 16] = [
            "{",
            "}",
            "[",
            "]",
            "\"",
            "\\",
            ":",
            ",",
            "\"c\":\"p\"",
            "\"c\":\"sow\"",
            "\"sids\":\"h1,h2\"",
            "\"l\":3",
            "null",
            "\\u00",
            "\"t\":",
            " ",
        ];
        let mut bytes = Vec::new();
        for _ in 0..1 + self.below(4) {
            let mut body = Vec::new();
            for _ in 0..self.below(60) {
                match self.below(3) {
                    0 => body.push(self.byte()),
                    _ => body.extend_from_slice(PIECES[self.below(PIECES.len())].as_bytes()),
                }
            }
            if self.below(2) == 0 {
                body.splice(0..0, *b"{\"c\":\"p\",");
            }
            if self.below(8) > 0 {
                bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
            }
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    /// A few bytes changed, inserted, taken out or repeated.
    fn damaged(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..1 + self.below(6) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[at] = self.byte(),
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes.insert(at, b"\"\\{}[]:,\0"[self.below(9)]),
                3 => drop(bytes.remove(at)),
                _ => {
                    let end = bytes.len().min(at + self.below(40));
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}
