//! A publisher with a file store is killed, over and over, at moments nobody chose, while it publishes to a server: every
//! publish that has returned arrives there once and in order, if not from this process, then from the next.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use amps_client::testing::Server;
use amps_client::{Client, HAClient, Message};

use crate::support::publish_stores::small_file;
use crate::support::{Random, SOON, TempDir};

const KILLS: u64 = 220;
/// So many messages a process publishes at most.
const MOST: u64 = 2_000;
/// So much of what it says is heard at most before it is killed.
const HEARD: u64 = 200;
/// The publisher process finds here where to keep its messages, where to send them, and which process it is.
const PATH: &str = "AMPS_TEST_DELIVERY_PATH";
const URI: &str = "AMPS_TEST_DELIVERY_URI";
const RUN: &str = "AMPS_TEST_DELIVERY_RUN";

/// Message `n` of process `run`: it says which one it is, and the rest follows from that.
fn payload(run: u64, n: u64) -> String {
    let mut random = Random::new(run << 32 | n);
    let longest = if random.one_in(40) { 12_000 } else { 100 };
    let mut text = format!("{run} {n} ");
    for _ in 0..random.below(longest) {
        text.push(char::from(b'a' + random.below(26) as u8));
    }
    text
}

/// Publishes until it is killed. It says on its standard output `up` when it is logged on, and `P n` when a publish has
/// returned; if it publishes everything, it waits until all is acknowledged.
#[test]
fn publisher_process() {
    let (Some(path), Ok(uri), Ok(run)) = (std::env::var_os(PATH), std::env::var(URI), std::env::var(RUN))
    else {
        return;
    };
    let run = run.parse().unwrap();
    // The first line must not share one with the test harness.
    let mut out = std::io::stdout().lock();
    writeln!(out).unwrap();
    let store = small_file().growth(3 * 4096).open(path).unwrap();
    let builder = HAClient::builder("killed").servers([uri]).reconnect_delay(Duration::from_millis(10));
    let client = builder.publish_store(store).build().unwrap();
    let before_the_logon = Random::new(run).below(4);
    for n in 0..MOST {
        if n == before_the_logon {
            client.connect_and_logon().unwrap();
            writeln!(out, "up").unwrap();
        }
        client.publish("orders", payload(run, n)).unwrap();
        // Long lines fill the pipe soon, so that the process is never far ahead of who reads them.
        writeln!(out, "P {n}{:500}", "").unwrap();
    }
    client.publish_flush().unwrap();
}

fn start(path: &Path, uri: &str, run: u64) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "publish_crash_delivery::publisher_process", "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .env(URI, uri)
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

/// What was said, and what has come. A message is known by its process and its number in it.
struct Ledger {
    returned: BTreeSet<(u64, u64)>,
    arrived: BTreeSet<(u64, u64)>,
    /// What has returned and not arrived.
    missing: BTreeSet<(u64, u64)>,
    arrivals: Receiver<Message>,
}

impl Ledger {
    fn hear(&mut self, run: u64, line: &str) {
        if let Some(n) = line.strip_prefix("P ") {
            let id = (run, n.trim_end().parse().unwrap());
            self.returned.insert(id);
            if !self.arrived.contains(&id) {
                self.missing.insert(id);
            }
        }
    }

    /// Waits until everything has come of the processes before this one.
    fn settle(&mut self, run: u64) {
        while let Some(missing) = self.missing.first().filter(|(of, _)| *of < run) {
            let message = self.arrivals.recv_timeout(SOON);
            let message = message.unwrap_or_else(|_| panic!("{missing:?} does not arrive"));
            self.enter(&message);
        }
    }

    fn enter(&mut self, message: &Message) {
        let text = message.data_str().unwrap();
        let mut words = text.split(' ').map(|word| word.parse().unwrap_or(u64::MAX));
        let id @ (run, n) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(text, payload(run, n), "{id:?} is torn");
        assert!(self.arrived.last().is_none_or(|last| *last < id), "{id:?} behind {:?}", self.arrived.last());
        self.arrived.insert(id);
        self.missing.remove(&id);
    }

    /// What came without being announced: at most the one that was under way when a process was killed.
    fn check_the_unannounced(&self) {
        for (run, n) in self.arrived.difference(&self.returned) {
            let before = self.returned.range((*run, 0)..=(*run, MOST)).next_back();
            assert_eq!(
                *n,
                before.map_or(0, |(_, before)| before + 1),
                "process {run}, which has said {before:?}"
            );
        }
    }
}

/// 113, PS-3, PS-8, PS-23.
#[test]
fn what_a_killed_publisher_has_published_arrives_once_and_in_order() {
    let seed = std::env::var("AMPS_TEST_SEED").map_or_else(
        |_| std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("AMPS_TEST_SEED={seed}");
    let (mut random, dir) = (Random::new(seed), TempDir::new());
    let (path, server) = (dir.join("killed"), Server::quick().unwrap());
    let uri = server.uri("json");

    let subscriber = Client::builder("witness").build().unwrap();
    subscriber.connect(&uri).unwrap();
    subscriber.logon().unwrap();
    let (sender, arrivals) = mpsc::channel();
    // The test may be over.
    subscriber.subscribe_async("orders", "", move |m: &Message| _ = sender.send(m.detach())).unwrap();
    let [returned, arrived, missing] = Default::default();
    let mut ledger = Ledger { returned, arrived, missing, arrivals };

    let mut replays = 0;
    for run in 0..KILLS {
        let (mut child, out) = start(&path, &uri, run);
        let mut lines = out.lines().map_while(Result::ok);
        let comes_up = !random.one_in(4);
        if comes_up {
            lines.by_ref().take_while(|line| line != "up").for_each(|line| ledger.hear(run, &line));
            ledger.settle(run);
            replays += 1;
        }
        // The process runs ahead of what is read, so where the kill meets it is left to chance.
        let heard = random.below(if comes_up { HEARD } else { 4 }) as usize;
        lines.by_ref().take(heard).for_each(|line| ledger.hear(run, &line));
        child.kill().unwrap();
        lines.for_each(|line| ledger.hear(run, &line));
        child.wait().unwrap();
    }
    let (mut child, out) = start(&path, &uri, KILLS);
    out.lines().map_while(Result::ok).for_each(|line| ledger.hear(KILLS, &line));
    assert!(child.wait().unwrap().success());
    ledger.settle(KILLS + 1);
    ledger.check_the_unannounced();
    assert_eq!(ledger.arrived.range((KILLS, 0)..).count() as u64, MOST);
    let (published, unannounced) = (ledger.returned.len(), ledger.arrived.len() - ledger.returned.len());
    println!(
        "{KILLS} kills, {replays} after a logon; {published} publishes returned, {unannounced} more arrived"
    );
}
