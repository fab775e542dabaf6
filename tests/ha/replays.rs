//! Bookmark subscriptions of a program that fails over and is restarted, while others publish: with a handler and with a
//! stream, nothing is skipped, and what was discarded does not come again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use amps_client::testing::{Cluster, Server, ServerBuilder};
use amps_client::{
    AckType, Bookmark, BookmarkKind, BookmarkStore, Command, HAClient, MemoryPublishStore, Message,
};
use parking_lot::Mutex;

use crate::support::bookmark_stores::Kind;
use crate::support::client::SOON;
use crate::support::ha::DELAY;
use crate::support::{Random, TempDir};

const TOPIC: &str = "orders";
const NAME: &str = "subscriber";
const SUBSCRIPTIONS: [&str; 2] = ["by-handler", "by-stream"];
/// How many messages come between two interruptions, and how often there is one.
const BETWEEN: usize = 150;
const INTERRUPTIONS: usize = 4;

/// BS-17, BS-18, SM-7: with every kind of store, between two instances.
#[test]
fn over_failovers_nothing_is_skipped_and_nothing_discarded_comes_again() {
    for kind in Kind::ALL {
        let cluster = Cluster::new(journaling(), 2).unwrap();
        let publishers = Publishers::start(&cluster.uris("json"));
        let dir = TempDir::new();
        let mut subscriber = Subscriber::start(&cluster.uris("json"), Arc::from(kind.open(&dir)), None);
        for at in (0..cluster.servers().len()).cycle().take(INTERRUPTIONS) {
            subscriber.wait_for_more();
            let (server, other) = (&cluster.servers()[at], &cluster.servers()[1 - at]);
            assert!(has_subscriber(server));
            server.stop();
            other.wait_for(has_subscriber, SOON).unwrap();
            subscriber.wait_for_more();
            server.restart().unwrap();
        }
        let published = publishers.stop();
        subscriber.wait_for_all(&published);
        for ledger in subscriber.stop() {
            assert_eq!(ledger.came_again, Vec::<String>::new(), "{kind:?}");
        }
    }
}

/// BS-23, BS-28: a log remembers every discard, a ring where the subscription goes on.
#[test]
fn over_restarts_nothing_is_skipped_and_nothing_discarded_comes_again() {
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_durable()) {
        let server = journaling().start().unwrap();
        let uris = [server.uri("json")];
        let publishers = Publishers::start(&uris);
        let dir = TempDir::new();
        let mut ledgers = None;
        for _ in 0..INTERRUPTIONS {
            let store: Arc<dyn BookmarkStore> = Arc::from(kind.open(&dir));
            let starts = SUBSCRIPTIONS.map(|id| store.most_recent(id).unwrap());
            let mut subscriber = Subscriber::start(&uris, store, ledgers.take());
            subscriber.wait_for_more();
            let ended = subscriber.stop();
            ended.iter().zip(&starts).for_each(|(ledger, start)| ledger.check_restart(kind, &server, start));
            ledgers = Some(ended.map(Ledger::for_the_next_run));
        }
        let published = publishers.stop();
        let subscriber = Subscriber::start(&uris, Arc::from(kind.open(&dir)), ledgers);
        subscriber.wait_for_all(&published);
        subscriber.stop();
    }
}

/// A server that reports what is persisted often, so that it matters.
fn journaling() -> ServerBuilder {
    Server::builder().journal(".*").ack_conflation(Duration::from_millis(5)).record_frames(0)
}

fn has_subscriber(server: &Server) -> bool {
    server.sessions().iter().any(|session| session.client_name == NAME)
}

/// Two clients that publish until they are stopped.
struct Publishers {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Publishers {
    fn start(uris: &[String]) -> Publishers {
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = ["a", "b"].map(|name| {
            let client = connected(uris, name, |builder| builder.publish_store(MemoryPublishStore::new()));
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || publish(&client, name, &is_over))
        });
        Publishers { is_over, threads: threads.into() }
    }

    /// Everything that was published.
    fn stop(self) -> HashSet<String> {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().expect("it has published")).collect()
    }
}

fn publish(client: &HAClient, name: &str, is_over: &AtomicBool) -> Vec<String> {
    let mut published = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let text = format!("{name}{}", published.len());
            client.publish(TOPIC, &text).unwrap();
            published.push(text);
        }
        // No faster than the server takes them.
        client.publish_flush_with(AckType::PROCESSED, Some(SOON)).unwrap();
    }
    published
}

fn connected(
    uris: &[String],
    name: &str,
    build: impl FnOnce(amps_client::HAClientBuilder) -> amps_client::HAClientBuilder,
) -> HAClient {
    let client = build(HAClient::builder(name).servers(uris).reconnect_delay(DELAY)).build().unwrap();
    client.connect_and_logon_timeout(SOON).unwrap();
    client
}

/// What a subscription has got, and what of it was discarded, over all runs of the program.
#[derive(Default)]
struct Ledger {
    seen: HashSet<String>,
    /// The number under which each was discarded, if that was in this run.
    done: HashMap<String, Option<u64>>,
    in_work: Vec<Message>,
    came_again: Vec<String>,
}

impl Ledger {
    /// Takes a message, and is done with some: mostly with this one, sometimes with one of before.
    fn take(&mut self, message: &Message, store: &dyn BookmarkStore, random: &mut Random) {
        let text = message.data_str().unwrap().to_owned();
        // What waits in a stream was delivered, and may wait there twice: it was outstanding when it came again.
        let waited = self.done.get(&text) == Some(&Some(message.bookmark_seq()));
        if self.done.contains_key(&text) && !waited {
            self.came_again.push(text.clone());
        }
        self.seen.insert(text);
        self.in_work.push(message.clone());
        while self.in_work.len() > 20 || (!self.in_work.is_empty() && random.below(4) > 0) {
            let message = self.in_work.swap_remove(random.below(self.in_work.len() as u64) as usize);
            store.discard(&message).unwrap();
            self.done.insert(message.data_str().unwrap().to_owned(), Some(message.bookmark_seq()));
        }
    }

    /// After a restart at this place. A ring knows no more than the place; what was discarded behind it comes again.
    fn check_restart(&self, kind: Kind, server: &Server, start: &Bookmark) {
        if kind == Kind::Logged {
            assert_eq!(self.came_again, Vec::<String>::new());
        }
        let journal = server.journal();
        let place = |mark: &str| journal.iter().position(|entry| entry.bookmark == mark).expect("journaled");
        let start = places(start).iter().map(|mark| place(mark.as_str())).min();
        for text in &self.came_again {
            let again = journal.iter().position(|entry| entry.payload == text.as_bytes());
            assert!(again > start, "{text} is not behind the place where it went on");
        }
    }

    fn for_the_next_run(self) -> Ledger {
        let done = self.done.into_keys().map(|text| (text, None)).collect();
        Ledger { seen: self.seen, done, ..Ledger::default() }
    }
}

/// The places in a recovery point; none in EPOCH.
fn places(point: &Bookmark) -> Vec<Bookmark> {
    match point.kind() {
        BookmarkKind::List(places) => places.clone(),
        BookmarkKind::At { .. } => vec![point.clone()],
        _ => Vec::new(),
    }
}

/// The program that is interrupted: two subscriptions, and a ledger for each.
struct Subscriber {
    client: HAClient,
    ledgers: [Arc<Mutex<Ledger>>; 2],
    reader: JoinHandle<()>,
    /// How many messages each had when it was last looked at.
    counted: [usize; 2],
}

impl Subscriber {
    fn start(uris: &[String], store: Arc<dyn BookmarkStore>, ledgers: Option<[Ledger; 2]>) -> Subscriber {
        let ledgers = ledgers.unwrap_or_default().map(|ledger| Arc::new(Mutex::new(ledger)));
        let client = connected(uris, NAME, |builder| builder.bookmark_store(Arc::clone(&store)));
        let [by_handler, by_stream] =
            SUBSCRIPTIONS.map(|id| Command::subscribe(TOPIC).sub_id(id).bookmark(Bookmark::MOST_RECENT));
        let [mut random, mut randomly] = [Random::new(1), Random::new(2)];
        let (ledger, known) = (Arc::clone(&ledgers[0]), Arc::clone(&store));
        let handler = move |message: &Message| ledger.lock().take(message, &*known, &mut random);
        client.execute_async(by_handler, handler).unwrap();
        let stream = client.execute(by_stream).unwrap();
        let ledger = Arc::clone(&ledgers[1]);
        let reader = thread::spawn(move || {
            stream.for_each(|message| ledger.lock().take(&message.unwrap(), &*store, &mut randomly));
        });
        let mut subscriber = Subscriber { client, ledgers, reader, counted: [0; 2] };
        subscriber.counted = subscriber.counts();
        subscriber
    }

    fn counts(&self) -> [usize; 2] {
        self.ledgers.each_ref().map(|ledger| ledger.lock().seen.len())
    }

    /// Waits until both subscriptions have got so many that are new.
    fn wait_for_more(&mut self) {
        let wanted = self.counted.map(|count| count + BETWEEN);
        self.wait_for("new messages", |counts| {
            counts.iter().zip(wanted).all(|(count, wanted)| *count >= wanted)
        });
        self.counted = self.counts();
    }

    /// Waits until both have got all of these.
    fn wait_for_all(&self, published: &HashSet<String>) {
        self.wait_for("every message", |counts| counts == [published.len(); 2]);
        self.ledgers.iter().for_each(|ledger| assert_eq!(&ledger.lock().seen, published));
    }

    fn wait_for(&self, what: &str, is_there: impl Fn([usize; 2]) -> bool) {
        let deadline = Instant::now() + SOON;
        while !is_there(self.counts()) {
            assert!(Instant::now() < deadline, "no {what}: {:?}", self.counts());
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the program, with messages in work, and in the stream.
    fn stop(self) -> [Ledger; 2] {
        self.client.close();
        self.reader.join().expect("every message was taken");
        drop(self.client);
        self.ledgers.map(|ledger| std::mem::take(&mut *ledger.lock()))
    }
}
