//! Everything at once, from many threads, over connections that do not last: nothing hangs, panics, or is told twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Random;
use crate::support::client::*;
use amps_client::testing::{Fault, Server, Topic};
use amps_client::{
    AckType, Client, Command, ConnectionState, Error, Logon, MemoryPublishStore, Message, UnhandledError,
};
use parking_lot::Mutex;

/// How long one round of the storm lasts.
const ROUND: Duration = Duration::from_millis(300);
const THREADS: u64 = 6;

/// A handler that notices if it is run by two threads at once.
#[derive(Clone, Default)]
struct Alone {
    inside: Arc<AtomicUsize>,
    broken: Arc<AtomicBool>,
}

impl Alone {
    fn run(&self, act: impl FnOnce()) {
        if self.inside.fetch_add(1, Ordering::SeqCst) != 0 {
            self.broken.store(true, Ordering::SeqCst);
        }
        act();
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Storm {
    client: Client,
    server: Arc<Server>,
    over: Arc<AtomicBool>,
    alone: Alone,
}

impl Storm {
    fn blow(&self, random: &mut Random, ids: &Mutex<Vec<String>>) {
        let client = &self.client;
        let limit = Duration::from_millis(50 + random.below(200));
        match random.below(16) {
            0 => drop(client.connect(&self.server.uri("json"))),
            1 | 2 => {
                drop(client.connect(&self.server.uri("json")));
                drop(client.logon_with(&Logon::new().timeout(limit)));
            }
            3 | 4 => {
                let (alone, weak) = (self.alone.clone(), client.downgrade());
                let mischief = random.below(6);
                let handler =
                    move |message: &Message| alone.run(|| meddle(mischief, message, weak.upgrade()));
                let command = Command::subscribe("t").timeout(limit);
                if let Ok(id) = client.execute_async(command, handler) {
                    ids.lock().push(id);
                }
            }
            5 => {
                if let Ok(mut stream) = client.execute(Command::sow_and_subscribe("t").timeout(limit)) {
                    drop(stream.next_timeout(Duration::from_millis(random.below(20))));
                }
            }
            6 => {
                let id = ids.lock().pop();
                drop(id.map(|id| client.unsubscribe(&id)));
            }
            7 if random.one_in(3) => client.close(),
            8 => drop(client.publish_flush_with(AckType::PROCESSED, Some(limit))),
            9 => drop(self.server.fault(Fault::reset())),
            10 => drop(client.execute(Command::sow("t").timeout(limit)).map(Iterator::count)),
            11 => drop(client.clone()),
            _ => (0..random.below(40)).for_each(|n| drop(client.publish("t", format!(r#"{{"id":{n}}}"#)))),
        }
    }
}

fn meddle(mischief: u64, message: &Message, client: Option<Client>) {
    let Some(client) = client else { return };
    match mischief {
        0 => drop(client.unsubscribe(message.sub_id().unwrap_or_default())),
        1 => drop(client.publish("u", "{}")),
        2 => assert!(!message.data().len().is_multiple_of(7), "a handler that fails"),
        3 => drop(client.execute_async(Command::subscribe("u").timeout(AT_ONCE), |_: &Message| {})),
        4 if message.data().len().is_multiple_of(5) => client.close(),
        _ => client.set_last_chance_handler(|_: &Message| {}),
    }
}

fn one_round(seed: u64, stored: bool) {
    let server = Arc::new(Server::builder().topic(Topic::sow("t").key("/id")).start().expect("a server"));
    let builder = Client::builder(format!("storm-{seed}"));
    let builder = if stored { builder.publish_store(MemoryPublishStore::new()) } else { builder };
    let client = builder.build().expect("a client");
    let states: Arc<Mutex<Vec<ConnectionState>>> = Arc::default();
    let told = Arc::clone(&states);
    client.add_connection_state_listener(move |state: ConnectionState| told.lock().push(state));
    client.set_exception_listener(|_: &UnhandledError| {});
    let repairs = Arc::new(AtomicU64::new(0));
    let (uri, counted) = (server.uri("json"), Arc::clone(&repairs));
    let repair = move |client: &Client, _: &Error| -> amps_client::Result<()> {
        counted.fetch_add(1, Ordering::Relaxed);
        client.connect(&uri)?;
        client.logon_with(&Logon::new().timeout(AT_ONCE))
    };
    client.set_disconnect_handler(repair).expect("a plain client");
    let storm = Arc::new(Storm { client, server, over: Arc::default(), alone: Alone::default() });
    let (done, ended) = mpsc::channel();
    for number in 0..THREADS {
        let (storm, done) = (Arc::clone(&storm), done.clone());
        let body = move || {
            let (mut random, ids) = (Random::new(seed * 100 + number), Mutex::default());
            while !storm.over.load(Ordering::Relaxed) {
                storm.blow(&mut random, &ids);
            }
            done.send(()).ok();
        };
        thread::spawn(body);
    }
    thread::sleep(ROUND);
    storm.over.store(true, Ordering::Relaxed);
    // Whoever waits for an answer that no one will give is released.
    let start = Instant::now();
    storm.client.close();
    assert!(start.elapsed() < Duration::from_secs(3), "seed {seed}: closing took {:?}", start.elapsed());
    for _ in 0..THREADS {
        let outcome = ended.recv_timeout(SOON);
        if outcome.is_err() {
            storm.client.close();
            panic!("seed {seed}: a call hangs or has panicked: {:?}", states.lock());
        }
    }
    storm.client.close();
    assert!(!storm.alone.broken.load(Ordering::SeqCst), "seed {seed}");
    let states = states.lock();
    for pair in states.windows(2) {
        use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown};
        let legal = match (pair[0], pair[1]) {
            (Connected | LoggedOn, Shutdown) => false,
            (Disconnected | Shutdown, LoggedOn) => false,
            (Shutdown, Disconnected) => false,
            (last, next) => last != next || last == LoggedOn,
        };
        assert!(legal, "seed {seed}: {pair:?} in {states:?}");
    }
    assert_eq!(states.last(), Some(&ConnectionState::Shutdown), "seed {seed}");
}

#[test]
fn whatever_threads_do_at_once_nothing_hangs_and_states_are_told_once() {
    let first = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let rounds = std::env::var("STORM_ROUNDS").ok().and_then(|seed| seed.parse().ok()).unwrap_or(6);
    for seed in first..first + rounds {
        one_round(seed, seed % 2 == 0);
    }
}
