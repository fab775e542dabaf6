//! A storm: publishers and subscribers on two servers whose connections break all the time.
//!
//! The servers share what they remember. Faults strike them at random: connections are closed, reset, cut off in the middle
//! of a frame, fed with garbage and frozen; logons, subscriptions and queries are refused; answers are late; a server stops
//! and comes back. The clients go on, and in the end everything that was published is there, once and in order; a bookmark
//! subscription has got all of it; every other subscription is live, once; every thread has come to its end; and there are
//! no more threads and descriptors than there were in the beginning.
//!
//! ```text
//! cargo run --example soak -- [--seconds N] [--seed N]
//! ```
//!
//! The last line says how it went, and so does the exit status: 0 if everything held.

use std::collections::{BTreeMap, HashSet};
use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use amps_client::testing::{ArmedFault, Cluster, Damage, Fault, Gate, Server, When};
use amps_client::{
    AckType, Bookmark, BookmarkStore, Command, ConnectionState, DefaultServerChooser, Error, ErrorKind,
    HAClient, HAClientBuilder, MemoryBookmarkStore, MemoryPublishStore, Message, PublishStore,
};
#[cfg(feature = "file-store")]
use amps_client::{FilePublishStore, HybridPublishStore};

const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 2;
/// After so many reconnects the storm stops for a look at threads and descriptors.
const LOOK_EVERY: u64 = 200;
/// How long anything may take when there is no storm any more.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome<T> = Result<T, Box<dyn StdError>>;

fn main() -> ExitCode {
    match options(std::env::args().skip(1)).and_then(|(seconds, seed)| soak(seconds, seed)) {
        Ok(report) => {
            report.problems.iter().for_each(|problem| println!("{problem}"));
            println!("{report}");
            if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// How long the storm lasts, and the seed of its faults.
fn options(mut args: impl Iterator<Item = String>) -> Outcome<(u64, u64)> {
    let (mut seconds, mut seed) = (10, 1);
    while let Some(option) = args.next() {
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        let number = value.parse().map_err(|_| format!("{option} {value} is not a number"))?;
        match option.as_str() {
            "--seconds" => seconds = number,
            "--seed" => seed = number,
            _ => return Err(format!("no such option: {option}; there are --seconds N and --seed N").into()),
        }
    }
    Ok((seconds, seed))
}

fn soak(seconds: u64, seed: u64) -> Outcome<Report> {
    let builder = Server::builder().quick_topics().journal("^orders$").max_journal_entries(10_000_000);
    let cluster = Cluster::new(builder.ack_conflation(Duration::from_millis(20)).record_frames(0), 2)?;
    let desk = Arc::new(Desk::default());
    let mut subscribers = Vec::new();
    for number in 0..SUBSCRIBERS {
        let bookmarks = Arc::new(MemoryBookmarkStore::new());
        let builder = HAClient::builder(format!("s{number}")).bookmark_store(Arc::clone(&bookmarks));
        let client = client(builder, &cluster, &desk)?;
        subscribers.push(Subscriber::start(number, client, bookmarks, &desk)?);
    }
    let mut publishers = Vec::new();
    for number in 0..PUBLISHERS {
        let builder = HAClient::builder(format!("p{number}")).publish_store(store(number)?);
        let client = client(builder, &cluster, &desk)?;
        publishers.push(Publisher::start(number, client, &desk));
    }

    let mut storm =
        Storm { cluster: &cluster, desk: &desk, random: Random(seed), armed: Vec::new(), faults: 0 };
    let before = storm.look(None);
    let (end, mut looks) = (Instant::now() + Duration::from_secs(seconds), 0);
    while Instant::now() < end {
        storm.strike()?;
        if desk.reconnects.load(Ordering::Relaxed) >= (looks + 1) * LOOK_EVERY {
            storm.look(before.as_ref());
            looks += 1;
        }
    }
    storm.look(before.as_ref());
    desk.over.store(true, Ordering::Relaxed);
    let published: Vec<u64> = publishers.into_iter().map(|publisher| publisher.end(&desk)).collect();
    subscribers.into_iter().for_each(|subscriber| subscriber.end(&published, &desk));
    let faults = storm.faults;
    check_the_journal(&cluster, &published, &desk);
    let problems = std::mem::take(&mut *lock(&desk.problems));
    let reconnects = desk.reconnects.load(Ordering::Relaxed);
    Ok(Report {
        seconds,
        seed,
        faults,
        reconnects,
        published: published.iter().sum(),
        looks,
        before,
        problems,
    })
}

/// How it went.
struct Report {
    seconds: u64,
    seed: u64,
    faults: u64,
    reconnects: u64,
    published: u64,
    looks: u64,
    before: Option<Look>,
    problems: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seconds, seed, faults, reconnects, published, looks, .. } = self;
        match self.problems.len() {
            0 => write!(f, "held: 0 lost, 0 duplicated, 0 stuck; ")?,
            count => write!(f, "BROKEN, problems: {count}; ")?,
        }
        write!(
            f,
            "seed {seed}, {seconds} s, {faults} faults, {reconnects} reconnects, {published} published"
        )?;
        match &self.before {
            Some(Look { threads, descriptors }) => {
                let threads: usize = threads.values().sum();
                write!(f, "; {threads} threads and {descriptors} descriptors, looked at {} times", looks + 2)
            }
            None => write!(f, "; threads and descriptors cannot be counted here"),
        }
    }
}

/// What everybody shares.
#[derive(Default)]
struct Desk {
    over: AtomicBool,
    reconnects: AtomicU64,
    problems: Mutex<Vec<String>>,
}

impl Desk {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn complain(&self, problem: impl Into<String>) {
        lock(&self.problems).push(problem.into());
    }

    /// A call may fail only because of what the storm does.
    fn judge<T>(&self, who: &str, outcome: Result<T, Error>, storm: &[ErrorKind]) {
        match outcome {
            Err(error) if !storm.contains(&error.kind()) => {
                self.complain(format!("{who}: {}: {error}", error.kind()));
            }
            _ => {}
        }
    }

    /// Waits for something that must come.
    fn wait_until(&self, what: &str, done: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            if Instant::now() > deadline {
                self.complain(format!("waited in vain until {what}"));
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    fn wait_for_the_end<T>(&self, who: &str, thread: JoinHandle<T>) -> Option<T> {
        if !self.wait_until(&format!("{who} ends"), || thread.is_finished()) {
            return None;
        }
        thread.join().map_err(|_| self.complain(format!("{who} panicked"))).ok()
    }
}

/// A client of both servers that is connected.
fn client(builder: HAClientBuilder, cluster: &Cluster, desk: &Arc<Desk>) -> Result<HAClient, Error> {
    let chooser: DefaultServerChooser = cluster.uris("json").iter().collect();
    let client = builder
        .server_chooser(chooser.give_up_after(None)) // a refused logon is bad weather here
        .reconnect_delay(Duration::from_millis(10))
        .build()?;
    client.set_heartbeat(Duration::from_secs(1))?;
    client.set_logon_timeout(Some(Duration::from_millis(500)));
    let desk = Arc::clone(desk);
    client.add_connection_state_listener(move |state: ConnectionState| {
        if state == ConnectionState::Disconnected && !desk.is_over() {
            desk.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    });
    client.connect_and_logon_timeout(PATIENCE)?;
    Ok(client)
}

/// Each publisher has another kind of store. The small ones in files are used up often.
#[cfg(feature = "file-store")]
fn store(number: usize) -> Result<Arc<dyn PublishStore>, Error> {
    let file = || FilePublishStore::options().segment_size(1 << 14).growth(1 << 14).open(file_of(number));
    Ok(match number % 3 {
        0 => Arc::new(MemoryPublishStore::new()),
        1 => Arc::new(file()?),
        _ => Arc::new(HybridPublishStore::with_file(file()?, 50)),
    })
}

#[cfg(not(feature = "file-store"))]
fn store(_number: usize) -> Result<Arc<dyn PublishStore>, Error> {
    Ok(Arc::new(MemoryPublishStore::new()))
}

fn file_of(number: usize) -> PathBuf {
    std::env::temp_dir().join(format!("amps-soak-{}-{number}.store", std::process::id()))
}

/// Publishes as fast as it is let.
struct Publisher {
    client: HAClient,
    number: usize,
    thread: JoinHandle<u64>,
}

impl Publisher {
    fn start(number: usize, client: HAClient, desk: &Arc<Desk>) -> Publisher {
        let (publishing, desk) = (client.clone(), Arc::clone(desk));
        let thread = thread::spawn(move || {
            let who = format!("publisher {number}");
            for n in 1.. {
                desk.judge(&who, publishing.publish("orders", format!("{number} {n}")), &[]);
                let is_over = desk.is_over();
                if is_over || n % 500 == 0 {
                    let flushed = publishing.publish_flush_with(AckType::PROCESSED, Some(PATIENCE));
                    desk.judge(&who, flushed, &[]);
                }
                if is_over {
                    return n;
                }
                thread::sleep(Duration::from_micros(300));
            }
            0
        });
        Publisher { client, number, thread }
    }

    /// How many messages it has published.
    fn end(self, desk: &Desk) -> u64 {
        let who = format!("publisher {}", self.number);
        let published = desk.wait_for_the_end(&who, self.thread).unwrap_or(0);
        let left = self.client.publish_store().map_or(0, |store| store.unpersisted_count());
        if left > 0 {
            desk.complain(format!("{who}: {left} messages are left in the store"));
        }
        self.client.close();
        // Only some have one.
        let _ = std::fs::remove_file(file_of(self.number));
        published
    }
}

/// Follows the orders with a handler, which gets all of them, and on a stream, which gets those that come while it is
/// there; asks for records, and comes and goes with other subscriptions.
struct Subscriber {
    client: HAClient,
    by_handler: Arc<Seen>,
    by_stream: Arc<Seen>,
    threads: [(String, JoinHandle<()>); 2],
}

impl Subscriber {
    fn start(
        number: usize,
        client: HAClient,
        bookmarks: Arc<MemoryBookmarkStore>,
        desk: &Arc<Desk>,
    ) -> Result<Subscriber, Error> {
        let by_handler = Arc::new(Seen { is_complete: true, ..Seen::default() });
        let by_stream = Arc::new(Seen::default());
        let (seen, judge) = (Arc::clone(&by_handler), Arc::clone(desk));
        let replay = Command::subscribe("orders").sub_id("all").bookmark(Bookmark::MOST_RECENT);
        client.execute_async(replay, move |message: &Message| {
            seen.note(&format!("handler {number}"), message, &judge);
            bookmarks.discard(message)
        })?;
        let orders = client.subscribe("orders", "")?;
        let (seen, judge) = (Arc::clone(&by_stream), Arc::clone(desk));
        let reading = thread::spawn(move || {
            for message in orders {
                match message {
                    Ok(message) => seen.note(&format!("stream {number}"), &message, &judge),
                    Err(error) if judge.is_over() && error.is_disconnect() => return,
                    Err(error) => judge.complain(format!("stream {number}: {error}")),
                }
            }
        });
        let (asking, judge) = (client.clone(), Arc::clone(desk));
        let asking = thread::spawn(move || ask(&format!("asker {number}"), &asking, &judge));
        let threads = [(format!("reader {number}"), reading), (format!("asker {number}"), asking)];
        Ok(Subscriber { client, by_handler, by_stream, threads })
    }

    /// Sees the last message of everybody, and ends.
    fn end(self, published: &[u64], desk: &Desk) {
        let last: BTreeMap<u64, u64> = (0..).zip(published.iter().copied()).collect();
        for seen in [&self.by_handler, &self.by_stream] {
            desk.wait_until("the last messages arrive", || *lock(&seen.last) == last);
        }
        self.client.close();
        for (who, thread) in self.threads {
            desk.wait_for_the_end(&who, thread);
        }
    }
}

/// Queries, and subscriptions that do not last.
fn ask(who: &str, client: &HAClient, desk: &Desk) {
    use ErrorKind::{Disconnected, NotEntitled};
    for n in 0.. {
        if desk.is_over() {
            return;
        }
        let rows = client.sow("sow/board", "").and_then(|mut rows| rows.try_for_each(|row| row.map(drop)));
        desk.judge(who, rows, &[Disconnected, NotEntitled]);
        let id = format!("{who} {n}");
        let placed = client.execute_async(Command::subscribe("ticks").sub_id(&id), |_: &Message| {});
        desk.judge(who, placed, &[Disconnected, NotEntitled]);
        desk.judge(who, client.unsubscribe(&id), &[Disconnected]);
        thread::sleep(Duration::from_millis(5));
    }
}

/// The last message of each publisher. A subscription without a bookmark misses what comes in an outage; none sees
/// anything twice.
#[derive(Default)]
struct Seen {
    last: Mutex<BTreeMap<u64, u64>>,
    is_complete: bool,
}

impl Seen {
    fn note(&self, who: &str, message: &Message, desk: &Desk) {
        match order(message.data()) {
            Some((publisher, n)) => {
                let before = lock(&self.last).insert(publisher, n).unwrap_or(0);
                if before >= n || (self.is_complete && before + 1 != n) {
                    desk.complain(format!("{who}: message {n} of publisher {publisher} behind {before}"));
                }
            }
            None => desk.complain(format!("{who}: {message:?} was never published")),
        }
    }
}

/// Publisher and number of a message.
fn order(payload: &[u8]) -> Option<(u64, u64)> {
    let (publisher, n) = std::str::from_utf8(payload).ok()?.split_once(' ')?;
    Some((publisher.parse().ok()?, n.parse().ok()?))
}

/// Everything is there, once and in order.
fn check_the_journal(cluster: &Cluster, published: &[u64], desk: &Desk) {
    let mut last = vec![0; published.len()];
    for entry in cluster.servers().first().into_iter().flat_map(Server::journal) {
        let Some((publisher, n)) = order(&entry.payload) else { continue };
        let Some(last) = last.get_mut(publisher as usize) else { continue };
        if n != *last + 1 {
            desk.complain(format!("the journal has message {n} of publisher {publisher} behind {last}"));
        }
        *last = n;
    }
    if last != published {
        desk.complain(format!("published {published:?}, and the journal ends at {last:?}"));
    }
}

/// The threads by name, but for those that write what a burst has left, which come when they are needed; and how many
/// descriptors there are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    threads: BTreeMap<String, usize>,
    descriptors: usize,
}

impl Look {
    /// As far as the system shows it.
    fn take() -> Option<Look> {
        let tasks = std::fs::read_dir("/proc/self/task").ok()?.flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
        let mut threads = BTreeMap::new();
        for name in tasks.filter_map(name).filter(|name| !name.starts_with("amps-tx-")) {
            *threads.entry(name.trim_end().to_owned()).or_insert(0) += 1;
        }
        // One of them is the directory that is being read.
        let descriptors = std::fs::read_dir("/proc/self/fd").ok()?.count() - 1;
        Some(Look { threads, descriptors })
    }
}

/// What strikes the servers.
struct Storm<'a> {
    cluster: &'a Cluster,
    desk: &'a Desk,
    random: Random,
    armed: Vec<ArmedFault>,
    faults: u64,
}

impl Storm<'_> {
    /// Something bad, and a moment to suffer from it.
    fn strike(&mut self) -> Outcome<()> {
        let servers = self.cluster.servers();
        let server = &servers[self.random.below(servers.len())];
        match self.random.below(20) {
            0 => server.stop(),
            1 => server.pause_listening(),
            _ => {
                let fault = self.fault();
                self.armed.push(server.fault(fault));
            }
        }
        self.faults += 1;
        thread::sleep(Duration::from_millis(self.random.below(60) as u64));
        // What is stopped comes back, in the same place.
        if let Err(error) = server.resume_listening() {
            if error.kind() != ErrorKind::Usage {
                return Err(error.into());
            }
            server.restart()?;
        }
        while self.armed.len() > 8 {
            self.armed.remove(0).remove();
        }
        Ok(())
    }

    fn fault(&mut self) -> Fault {
        let random = &mut self.random;
        let asked = ["logon", "heartbeat", "publish", "subscribe", "sow", "unsubscribe", "flush"];
        let asked = asked[random.below(asked.len())];
        let when = match random.below(5) {
            0 => When::now(),
            1 => When::accepted(),
            2 => When::frames_out(1 + random.below(30) as u64).since_armed(),
            _ => When::receives(asked),
        };
        let a_while = Duration::from_millis(random.below(300) as u64);
        match random.below(12) {
            0 | 1 => Fault::close().when(when),
            2 => Fault::close_unanswered().when(When::receives(asked)),
            3 => Fault::reset().when(when),
            4 => Fault::truncate(1 + random.below(40)).when(when),
            5 => Fault::damage(Damage::LengthHuge).when(when),
            6 => Fault::damage(Damage::UnclosedHeader).when(when),
            7 => Fault::freeze().when(when).lasting(a_while * 10),
            8 => Fault::delay().when(When::at(Gate::BeforePersistedAck)).lasting(a_while),
            9 => Fault::refuse("name in use").when(When::receives("logon")).times(2),
            10 => Fault::refuse("not entitled").when(When::receives(["sow", "subscribe"][random.below(2)])),
            _ => Fault::write_in_chunks(1 + random.below(9)).when(when).lasting(a_while),
        }
    }

    /// Lets everybody come to rest, and compares with what there was in the beginning.
    fn look(&mut self, before: Option<&Look>) -> Option<Look> {
        self.armed.drain(..).for_each(|fault| fault.remove());
        let servers = self.cluster.servers();
        let everybody = PUBLISHERS + SUBSCRIBERS;
        let sessions = || servers.iter().flat_map(Server::sessions).collect::<Vec<_>>();
        self.desk.wait_until("everybody is connected", || {
            let names: HashSet<_> = sessions().into_iter().map(|session| session.client_name).collect();
            let open: usize = servers.iter().map(Server::open_connections).sum();
            (names.len(), open) == (everybody, everybody)
        });
        self.desk.wait_until("every subscription is live", || {
            let live = servers.iter().flat_map(Server::subscriptions);
            live.filter(|subscription| subscription.topic == "orders").count() == 2 * SUBSCRIBERS
        });
        if let Some(before) = before {
            let is_as_before = || Look::take().as_ref() == Some(before);
            if !self.desk.wait_until("threads and descriptors are as they were", is_as_before) {
                self.desk.complain(format!("they were {before:?}, and are {:?}", Look::take()));
            }
        }
        Look::take()
    }
}

/// Numbers that look random and follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// What somebody who panicked has left is used all the same; the panic is told.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
