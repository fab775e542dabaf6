//! What a message costs in memory: nothing on publish and on the way to a handler, and a few allocations a read on the
//! way to a stream. Counted for the whole process, so there is one test, and its peer allocates nothing while it counts.

#[path = "support/counting.rs"]
mod counting;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use amps_client::testing::Frame;
use amps_client::{
    Client, ClientBuilder, Command, Direction, MemoryBookmarkStore, MemoryPublishStore, Message,
    PublishOptions, PublishStore, Result,
};
use counting::{ALLOCATIONS, Counting, LIVE};
use support::{RawClient, SOON};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds in a row without an allocation that prove a case.
const QUIET: u32 = 3;
/// Rounds in which buffers may still grow.
const ROUNDS: u32 = 60;
/// Messages of one round.
const ROUND: u64 = 10_000;

#[test]
fn a_message_costs_no_allocation_on_publish_and_on_the_way_to_a_handler() {
    publishing(&Peer::new().discarding());
    publishing_with_a_store();
    let peer = Peer::new();
    handling(&peer);
    querying(&peer);
    replaying();
    streaming(&peer);
    staying_flat(&peer);
}

fn publishing(peer: &Peer) {
    let options =
        PublishOptions::new().expiration(Duration::from_secs(3)).correlation_id("YWJj").sow_key("K");
    let client = &peer.client;
    let data = [b'x'; 64];
    let cases: [(&str, &dyn Fn() -> Result<u64>); 4] = [
        ("publish in a burst", &|| client.publish("orders", data)),
        ("publish with an escaped topic", &|| client.publish("or\"ders", data)),
        ("publish with everything that goes along", &|| client.publish_with("orders", data, &options)),
        ("delta publish", &|| client.delta_publish("orders", data)),
    ];
    for (case, publish) in cases {
        is_quiet(case, || {
            for _ in 0..ROUND {
                publish().expect("connected");
            }
        });
    }
    is_quiet("publish one by one", || {
        for _ in 0..ROUND / 10 {
            client.publish("orders", data).expect("connected");
            spin(Duration::from_micros(20));
        }
    });
}

/// What is acknowledged makes room for what comes.
fn publishing_with_a_store() {
    let store = Arc::new(MemoryPublishStore::new());
    let peer = Peer::of(Client::builder("stored").publish_store(Arc::clone(&store))).discarding();
    for (case, topics) in
        [("publish with a store", ["orders"; 2]), ("to topics in turn", ["orders", "or\"ders"])]
    {
        is_quiet(case, || {
            let mut last = 0;
            for topic in topics.into_iter().cycle().take(ROUND as usize) {
                last = peer.client.publish(topic, [b'x'; 64]).expect("connected");
            }
            store.discard_up_to(last).expect("a later number");
        });
    }
}

/// Records of a query.
fn querying(peer: &Peer) {
    let records = Count::default();
    let counted = Arc::clone(&records);
    let handler = move |message: &Message| {
        let is_record = message.topic().is_some() && message.sow_key().is_some();
        counted.fetch_add(u64::from(is_record), Ordering::Relaxed);
    };
    let command = Command::sow("orders").query_id("q1");
    peer.consent(|client| client.execute_async(command, handler).expect("the server consents"));
    let record = |n: u64| format!(r#"{{"k":"{}","l":64}}{}"#, 13_480_918_341_000_000_000 + n, "x".repeat(64));
    let frame = |first: u64| {
        let rest: String = (first + 1..first + 50).map(record).collect();
        let header = format!(r#"{{"c":"sow","t":"orders","query_id":"q1","bs":50}}{}"#, record(first));
        let (header, payload) = header.split_at(header.find('}').map_or(0, |end| end + 1));
        Frame::encode(header, format!("{payload}{rest}"))
    };
    let block: Vec<u8> = (0..20).flat_map(|n| frame(50 * n)).collect();
    is_quiet("records of a query", || peer.give(&block, ROUND / 1000, &records, ROUND));
}

/// Messages that a bookmark store records, and that are done with one by one.
fn replaying() {
    let peer = Peer::of(Client::builder("resumes").bookmark_store(MemoryBookmarkStore::new()));
    let done = Count::default();
    let (counted, owner) = (Arc::clone(&done), peer.client.clone());
    let handler = move |message: &Message| -> Result<()> {
        owner.discard(message)?;
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let command = Command::subscribe("orders").sub_id("b1").bookmark("0");
    peer.consent(|client| client.execute_async(command, handler).expect("the server consents"));
    let mut next = 1_795_337_071_422_000_000_u64;
    let mut block = Vec::with_capacity(1 << 20);
    is_quiet("messages that are recorded", || {
        for _ in 0..ROUND / 1000 {
            block.clear();
            for _ in 0..1000 {
                push_recorded(&mut block, next);
                next += 1;
            }
            peer.give(&block, 1, &done, 1000);
        }
    });
}

/// Appends a frame without an allocation.
fn push_recorded(block: &mut Vec<u8>, sequence: u64) {
    let start = block.len();
    block.extend_from_slice(&[0; 4]);
    write!(block, r#"{{"c":"p","t":"orders","bm":"10357694053628526720|{sequence}|","sids":"b1"}}x"#)
        .expect("memory");
    let length = (block.len() - start - 4) as u32;
    block[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn handling(peer: &Peer) {
    let same = r#"{"c":"p","t":"orders","bm":"10357694053628526720|1|","l":64,"sids":"h1"}"#;
    let several = r#"{"c":"p","t":"orders","k":"13480918341","l":64,"sids":"h1,h2,h3"}"#;
    let handled = peer.handlers(&["h1", "h2", "h3"]);
    let block = |header: &dyn Fn(u64) -> String| {
        (0..1000).flat_map(|n| Frame::encode(&header(n), [b'x'; 64])).collect::<Vec<u8>>()
    };
    let varying = |n: u64| same.replace("|1|", &format!("|{}|", 1_000_000 + n * 37 % 1000));
    let alternating =
        |n: u64| if n.is_multiple_of(2) { same.to_owned() } else { same.replace("orders", "trades") };
    for (case, block, copies) in [
        ("the same header", block(&|_| same.to_owned()), 1),
        ("a header of the same shape with other values", block(&varying), 1),
        ("headers of one shape that alternate", block(&alternating), 1),
        ("several subscriptions", block(&|_| several.to_owned()), 3),
        (
            "several subscriptions and one in turn",
            block(&|n| if n.is_multiple_of(2) { several.to_owned() } else { same.to_owned() }),
            2,
        ),
    ] {
        is_quiet(case, || peer.give(&block, ROUND / 1000, &handled, ROUND * copies));
    }
}

/// A read costs a stream a few allocations, however many messages it brings.
fn streaming(peer: &Peer) {
    let reads = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&reads);
    peer.client.set_transport_filter(move |direction: Direction, _: &[u8]| {
        if direction == Direction::Incoming {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let read = peer.stream("s1");
    let frame = Frame::encode(r#"{"c":"p","t":"orders","l":64,"sids":"s1"}"#, [b'x'; 64]);
    let block = frame.repeat(1000);
    peer.give(&block, 100, &read, 100_000);
    let before = reads.load(Ordering::Relaxed);
    let used = allocations(|| peer.give(&block, 100, &read, 100_000));
    let reads = reads.load(Ordering::Relaxed) - before;
    assert!(used <= 4 * reads + 10, "{used} allocations for {reads} reads");
    assert!(reads < 100_000 / 10, "a read brings many messages: {reads} for 100000");
    peer.client.clear_transport_filter();
}

/// After a million messages no more memory is in use than before.
fn staying_flat(peer: &Peer) {
    let handled = peer.handlers(&["f1"]);
    let read = peer.stream("f2");
    let block = |id: &str| {
        let header = format!(r#"{{"c":"p","t":"orders","l":8,"sids":"{id}"}}"#);
        Frame::encode(&header, [b'x'; 8]).repeat(1000)
    };
    let (to_handler, to_stream) = (block("f1"), block("f2"));
    let work = |thousands: u64| {
        peer.give(&to_handler, thousands, &handled, thousands * 1000);
        peer.give(&to_stream, thousands, &read, thousands * 1000);
    };
    work(50);
    let before = LIVE.load(Ordering::Relaxed);
    work(500);
    let grown = LIVE.load(Ordering::Relaxed) - before;
    assert!(grown < 1 << 20, "{grown} more bytes are in use after a million messages");
}

/// Repeats a piece of work until several times in a row it allocates nothing; whatever allocates for each message
/// never gets there.
fn is_quiet(case: &str, mut work: impl FnMut()) {
    let mut quiet = 0;
    let mut counts = Vec::with_capacity(ROUNDS as usize);
    for _ in 0..ROUNDS {
        let count = allocations(&mut work);
        counts.push(count);
        quiet = if count == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET {
            return;
        }
    }
    panic!("{case}: allocations in rounds of {ROUND} messages: {counts:?}");
}

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

fn spin(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// A logged-on client, and the other end of its connection.
struct Peer {
    client: Client,
    socket: TcpStream,
}

/// Counts messages.
type Count = Arc<AtomicU64>;

impl Peer {
    fn new() -> Peer {
        Peer::of(Client::builder("counted"))
    }

    /// A peer of a client with these settings.
    fn of(builder: ClientBuilder) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = builder.build().expect("a name");
        let address = listener.local_addr().expect("an address");
        client.connect(&format!("tcp://{address}/amps/json")).expect("accepted");
        let (socket, _) = listener.accept().expect("a connection");
        let peer = Peer { client, socket };
        peer.consent(|client| client.logon().expect("a logon"));
        peer
    }

    /// From here on what the client sends is thrown away.
    fn discarding(self) -> Peer {
        let mut socket = self.socket.try_clone().expect("a socket");
        let mut buffer = vec![0; 1 << 20];
        thread::spawn(move || while socket.read(&mut buffer).is_ok_and(|read| read > 0) {});
        self
    }

    /// Makes a call that waits for an answer, and answers it.
    fn consent<T: Send>(&self, call: impl FnOnce(&Client) -> T + Send) -> T {
        thread::scope(|scope| {
            let called = scope.spawn(|| call(&self.client));
            let mut server = RawClient::of(self.socket.try_clone().expect("a socket"));
            let command = server.receive();
            let id = command.header("cid").expect("an id");
            server.send(format!(r#"{{"c":"ack","cid":"{id}","a":"processed","status":"success"}}"#));
            called.join().expect("no panic")
        })
    }

    /// Subscriptions with handlers that count together.
    fn handlers(&self, ids: &[&str]) -> Count {
        let count = Count::default();
        for id in ids {
            let handled = Arc::clone(&count);
            let command = Command::subscribe("orders").sub_id(*id);
            let handler = move |message: &Message| {
                handled.fetch_add(u64::from(!message.data().is_empty()), Ordering::Relaxed);
            };
            self.consent(|client| client.execute_async(command, handler).expect("the server consents"));
        }
        count
    }

    /// A subscription whose stream is read by a thread that counts.
    fn stream(&self, id: &str) -> Count {
        let command = Command::subscribe("orders").sub_id(id);
        let stream = self.consent(|client| client.execute(command).expect("the server consents"));
        let count = Count::default();
        let read = Arc::clone(&count);
        thread::spawn(move || {
            for _ in stream.take_while(Result::is_ok) {
                read.fetch_add(1, Ordering::Relaxed);
            }
        });
        count
    }

    /// Sends a block of frames so many times, and waits until so many messages were counted.
    fn give(&self, block: &[u8], times: u64, count: &Count, messages: u64) {
        let due = count.load(Ordering::Relaxed) + messages;
        (0..times).for_each(|_| (&self.socket).write_all(block).expect("the client reads"));
        let deadline = Instant::now() + SOON;
        while count.load(Ordering::Relaxed) < due {
            assert!(Instant::now() < deadline, "not all messages came");
            thread::sleep(Duration::from_micros(100));
        }
    }
}
