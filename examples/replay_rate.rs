//! Compares how fast a handler gets messages with and without a bookmark store: every message is recorded when it comes
//! and discarded when it is done.
//!
//! ```text
//! replay_rate [--count MESSAGES] [--rounds N]
//! ```
//!
//! Both take turns on messages that are alike, each round over a connection of its own to a peer that writes as fast as it
//! can. Prints the rate of each round, and the medians.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use amps_client::testing::{Frame, PeerConnection, ScriptedPeer};
use amps_client::{Client, Command, MemoryBookmarkStore, Message};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const LIMIT: Duration = Duration::from_secs(60);
/// The sequence numbers have so many digits from the first to the last.
const FIRST: u64 = 1_700_000_000_000_000_000;
const DIGITS: usize = 19;
/// Messages that are written at a time.
const CHUNK: usize = 2000;

fn main() -> Result<(), Failure> {
    let (count, rounds) = (option("--count", 4_000_000)?, option("--rounds", 5)?.max(1));
    let mut rates = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (with_store, rates) in [false, true].into_iter().zip(&mut rates) {
            let rate = count as f64 / measure(count, with_store)?.as_secs_f64();
            println!("round {round}, {}: {:.2} million messages a second", name(with_store), rate / 1e6);
            rates.push(rate);
        }
    }
    let [plain, stored] = rates.map(median);
    println!(
        "median: {:.2} without a store, {:.2} with one: {:.0} %",
        plain / 1e6,
        stored / 1e6,
        100.0 * stored / plain
    );
    Ok(())
}

fn name(with_store: bool) -> &'static str {
    if with_store { "with a store" } else { "without a store" }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// How long it takes until the last of `count` messages has been handled.
fn measure(count: u64, with_store: bool) -> Result<Duration, Failure> {
    let peer = ScriptedPeer::start()?;
    let builder = Client::builder("replay-rate");
    let builder = if with_store { builder.bookmark_store(MemoryBookmarkStore::new()) } else { builder };
    let client = builder.build()?;
    client.connect(&peer.uri("json"))?;
    let connection = peer.accept(LIMIT)?;
    std::thread::scope(|scope| {
        let serving = scope.spawn(move || serve(&connection, count));
        client.logon()?;
        let (done, last) = sync_channel(1);
        let (owner, mut seen) = (client.clone(), 0);
        let command = Command::subscribe("blast").sub_id("s").bookmark("0");
        let begin = Instant::now();
        client.execute_async(command, move |message: &Message| -> Result<(), Failure> {
            if with_store {
                owner.discard(message)?;
            }
            seen += 1;
            if seen == count { Ok(done.send(Instant::now())?) } else { Ok(()) }
        })?;
        let end = last.recv_timeout(LIMIT)?;
        client.close();
        serving.join().map_err(|_| "the peer has panicked")??;
        Ok(end - begin)
    })
}

/// Lets the client log on and subscribe, then writes `count` messages with ascending bookmarks.
fn serve(connection: &PeerConnection, count: u64) -> Result<(), Failure> {
    connection.logon(&amps_client::testing::LogonAck::success(), LIMIT)?;
    connection.expect("subscribe", LIMIT)?;
    connection.reply_ok()?;
    let mut chunk = Vec::new();
    let mut places = Vec::new();
    for _ in 0..CHUNK {
        let header = format!(r#"{{"c":"p","t":"blast","bm":"13948331409633353738|{FIRST}|","sids":"s"}}"#);
        let frame = Frame::encode(&header, br#"{"id":1,"px":101.25,"quantity":500,"desk":"EMEA"}"#);
        let found = frame.windows(DIGITS).position(|digits| digits == FIRST.to_string().as_bytes());
        places.push((chunk.len() + found.ok_or("a frame without its number")?, chunk.len() + frame.len()));
        chunk.extend_from_slice(&frame);
    }
    let mut next = FIRST;
    while next < FIRST + count {
        let mut end = 0;
        for (place, behind) in &places {
            if next < FIRST + count {
                chunk[*place..place + DIGITS].copy_from_slice(next.to_string().as_bytes());
                next += 1;
                end = *behind;
            }
        }
        connection.send_raw(&chunk[..end])?;
    }
    Ok(())
}

fn option(name: &str, default: u64) -> Result<u64, Failure> {
    let mut args = std::env::args().skip_while(|arg| arg != name).skip(1);
    match args.next() {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| format!("{name} {text} is not a number").into()),
    }
}
