//! Queue workers under everything at once: failures, panics, lost connections, leases that end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::support::Random;
use crate::support::client::SOON;
use amps_client::testing::{Frame, Server, Topic};
use amps_client::{Direction, HAClient, HandlerError, Message, QueueWorkers, UnhandledError};
use parking_lot::Mutex;

const ITEMS: u64 = 300;
const CLIENTS: [&str; 2] = ["left", "right"];
const WORKERS: usize = 2;

/// What happened to the messages.
#[derive(Default)]
struct Ledger {
    /// The items that were worked on with success.
    done: HashSet<String>,
    /// How often the handler has succeeded with a message, by client and bookmark.
    succeeded: HashMap<(usize, String), u32>,
    /// The connections of each client so far.
    connections: [u32; 2],
    /// How often a message was acknowledged over a connection.
    acknowledged: HashMap<(usize, u32, String), u32>,
    /// Acknowledgements that left a client on which the handler had not succeeded as often.
    in_vain: Vec<String>,
    failed: u32,
    panicked: u32,
}

type Shared = Arc<Mutex<Ledger>>;

/// Every item is worked on with success at least once and acknowledged exactly once, and nothing is acknowledged whose
/// handler failed.
#[test]
fn nothing_is_lost_doubled_or_acknowledged_in_vain() {
    let given = std::env::var("AMPS_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    let seed = given.unwrap_or_else(now);
    println!("AMPS_TEST_SEED={seed}");
    let mut random = Random::new(seed);

    let jobs = Topic::queue("jobs").lease(Duration::from_secs(60)).max_per_subscription_backlog(20);
    let server = Server::builder().topic(jobs).start().unwrap();
    let ledger = Shared::default();
    let clients = [0, 1].map(|number| client(&server, number, &ledger));
    let pools = [0, 1].map(|number| pool(&clients[number], number, &ledger, random.next()));

    let start = Instant::now();
    let is_empty = |server: &Server| server.queue("jobs").is_some_and(|queue| queue.depth() == 0);
    for item in 0..ITEMS {
        server.publish("jobs", item.to_string()).unwrap();
        if item % 10 == 9 {
            trouble(&server, &mut random);
            // The next trouble comes soon, or when there is nothing left to trouble.
            let _ = server.wait_for(is_empty, Duration::from_millis(2 + random.below(20)));
        }
    }
    server.wait_for(is_empty, SOON).unwrap();
    for pool in pools {
        pool.shutdown(SOON).unwrap();
    }
    let took = start.elapsed();

    let queue = server.queue("jobs").unwrap();
    let ledger = ledger.lock();
    assert_eq!((queue.acked, queue.expired), (ITEMS, 0));
    assert_eq!(ledger.done.len() as u64, ITEMS, "every item was worked on with success");
    assert_eq!(ledger.in_vain, [""; 0], "acknowledged in vain, or more often than the handler has succeeded");
    assert!(ledger.failed > 0 && ledger.panicked > 0 && server.counters().connections > 2, "it was too easy");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Loses a connection, or has all leases end.
fn trouble(server: &Server, random: &mut Random) {
    let _ = match random.below(3) {
        0 => server.expire_leases("jobs"),
        1 => server.disconnect(CLIENTS[0]),
        _ => server.disconnect(CLIENTS[1]),
    };
}

fn client(server: &Server, number: usize, ledger: &Shared) -> HAClient {
    let client = HAClient::builder(CLIENTS[number])
        .servers([server.uri("json")])
        .reconnect_delay(Duration::from_millis(2))
        .build()
        .unwrap();
    client.set_exception_listener(|_: &UnhandledError| {});
    client.set_ack_batch_size([0, 4][number]);
    client.set_ack_timeout(Duration::from_millis(20)).unwrap();
    let ledger = Arc::clone(ledger);
    client.set_transport_filter(move |direction: Direction, bytes: &[u8]| {
        if direction == Direction::Outgoing {
            ledger.lock().sent(number, bytes);
        }
    });
    client.connect_and_logon_timeout(SOON).unwrap();
    client
}

fn pool(client: &HAClient, number: usize, ledger: &Shared, seed: u64) -> QueueWorkers {
    let ledger = Arc::clone(ledger);
    let random = Mutex::new(Random::new(seed));
    let work = move |item: &Message| -> Result<(), HandlerError> {
        let (fate, pause) = {
            let mut random = random.lock();
            (random.below(20), random.below(3))
        };
        std::thread::sleep(Duration::from_millis(pause)); // the work, which losses are to fall into
        match fate {
            0 => {
                ledger.lock().panicked += 1;
                panic!("as it may happen")
            }
            1..=3 => {
                ledger.lock().failed += 1;
                Err("not this time".into())
            }
            _ => {
                ledger.lock().succeeded(number, item);
                Ok(())
            }
        }
    };
    QueueWorkers::builder("jobs").workers(WORKERS).max_backlog(10).start(client, work).unwrap()
}

impl Ledger {
    fn succeeded(&mut self, client: usize, item: &Message) {
        self.done.insert(item.data_str().unwrap().to_owned());
        let bookmark = item.bookmark().unwrap().to_owned();
        *self.succeeded.entry((client, bookmark)).or_default() += 1;
    }

    /// A frame leaves a client. An acknowledgement that a loss catches leaves once more, over the next connection.
    fn sent(&mut self, client: usize, bytes: &[u8]) {
        let frame = Frame::parse(bytes).unwrap();
        self.connections[client] += u32::from(frame.command() == "logon");
        for bookmark in acknowledged(&frame) {
            let successes = self.succeeded.get(&(client, bookmark.clone())).copied().unwrap_or_default();
            let over_this_connection = (client, self.connections[client], bookmark.clone());
            let acknowledged = self.acknowledged.entry(over_this_connection).or_default();
            *acknowledged += 1;
            if *acknowledged > successes {
                self.in_vain.push(bookmark);
            }
        }
    }
}

/// The bookmarks that a frame acknowledges.
fn acknowledged(frame: &Frame) -> Vec<String> {
    let acknowledges = frame.command() == "sow_delete" && frame.header("o").is_none();
    let bookmarks = frame.header("bookmark").filter(|_| acknowledges).unwrap_or_default();
    bookmarks.split(',').filter(|bookmark| !bookmark.is_empty()).map(str::to_owned).collect()
}
