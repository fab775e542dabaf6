//! Plays the recorded servers: awaits and compares what the client writes, sends what the servers sent, in the recorded
//! order, no sooner than the call during which it was recorded.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use amps_client::testing::{Frame, PeerConnection, ScriptedPeer};

use crate::comparison::{Renaming, compare};
use crate::model::{Call, Event, Happening, Record, Scenario};

/// How long one step may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The listeners of the servers, by their letters.
type Peers = Arc<HashMap<char, ScriptedPeer>>;

/// The servers of one scenario, and the thread that plays them.
pub(crate) struct Player {
    stage: Arc<Stage>,
    peers: Peers,
    /// The call of each event.
    calls: Vec<usize>,
    thread: JoinHandle<()>,
}

/// What the player and the caller share.
pub(crate) struct Stage {
    progress: Mutex<Progress>,
    moved: Condvar,
    ids: Mutex<Renaming>,
}

#[derive(Default)]
struct Progress {
    /// Calls made so far, the one under way included.
    begun: usize,
    /// Events played so far.
    played: usize,
    failure: Option<String>,
}

impl Player {
    pub(crate) fn start(scenario: &Scenario) -> Player {
        let stage = Arc::new(Stage {
            progress: Mutex::default(),
            moved: Condvar::new(),
            ids: Mutex::new(Renaming::of(scenario)),
        });
        let peer = || ScriptedPeer::builder().timeout(PATIENCE).start().expect("a free port");
        let peers: Peers = Arc::new(letters(scenario).map(|letter| (letter, peer())).collect());
        for (_, peer) in peers.iter().filter(|(letter, _)| !accepts(scenario, **letter)) {
            peer.refuse().expect("the listener closes");
        }
        let servers = Servers {
            peers: Arc::clone(&peers),
            links: HashMap::new(),
            beats: scenario.calls.iter().any(|call| call.operation == "set_heartbeat"),
        };
        let play = Play {
            stage: Arc::clone(&stage),
            servers,
            events: scenario.events.clone(),
            calls: scenario.calls.clone(),
        };
        let calls = scenario.events.iter().map(|event| event.call).collect();
        Player { stage, peers, calls, thread: thread::spawn(|| play.run()) }
    }

    /// Puts the addresses of the servers into a recorded connection string.
    pub(crate) fn resolver(&self) -> impl Fn(&str) -> String + Send + 'static {
        let address = |peer: &ScriptedPeer| peer.address().expect("a TCP peer").to_string();
        let hosts: Vec<_> = self.peers.iter().map(|(letter, peer)| (*letter, address(peer))).collect();
        move |recorded| {
            let with =
                |uri: String, (letter, host): &(char, String)| uri.replace(&format!("{{{letter}}}"), host);
            hosts.iter().fold(recorded.to_owned(), with)
        }
    }

    pub(crate) fn ids(&self) -> MutexGuard<'_, Renaming> {
        self.stage.ids.lock().expect("no panic")
    }

    /// A call begins: what the environment does during it may be played.
    pub(crate) fn begin(&self, call: &Call) -> Result<(), String> {
        if call.operation == "env.server_listen" {
            let peer = call.arg("server").chars().next().and_then(|letter| self.peers.get(&letter));
            peer.ok_or("no such server")?.listen_again().map_err(|error| error.to_string())?;
        }
        self.stage.change(|progress| progress.begun = call.number + 1);
        Ok(())
    }

    /// Waits until everything recorded up to the end of this call was played.
    pub(crate) fn settle(&self, call: usize) -> Result<(), String> {
        let due = self.calls.iter().rposition(|recorded| *recorded <= call).map_or(0, |last| last + 1);
        self.stage.wait(|progress| progress.played >= due).map_err(|why| format!("{why} (call {call})"))
    }

    /// The end: nothing is left to be played, and nothing was received but what was recorded.
    pub(crate) fn finish(self) -> Result<(), String> {
        let outcome = self.stage.wait(|progress| progress.played >= self.calls.len());
        if outcome.is_err() {
            self.stage.fail("the scenario is over".to_owned());
        }
        self.thread.join().map_err(|_| "the player panicked".to_owned())?;
        outcome?;
        let failure = self.stage.progress.lock().expect("no panic").failure.take();
        failure.map_or(Ok(()), Err)
    }
}

impl Stage {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().expect("no panic"));
        self.moved.notify_all();
    }

    /// The first failure counts.
    fn fail(&self, why: String) {
        self.change(|progress| {
            progress.failure.get_or_insert(why);
        });
    }

    /// Waits until the condition holds; a failure of the player ends the wait.
    fn wait(&self, holds: impl Fn(&Progress) -> bool) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE * 2;
        let mut progress = self.progress.lock().expect("no panic");
        while !holds(&progress) {
            if let Some(failure) = &progress.failure {
                return Err(failure.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the servers did not get on".to_owned());
            }
            progress = self.moved.wait_timeout(progress, left).expect("no panic").0;
        }
        Ok(())
    }
}

/// The playing half, on a thread of its own.
struct Play {
    stage: Arc<Stage>,
    servers: Servers,
    events: Vec<Event>,
    calls: Vec<Call>,
}

impl Play {
    fn run(mut self) {
        let outcome = (0..self.events.len()).try_for_each(|at| self.play(at));
        if let Err(why) = outcome.and_then(|()| self.servers.nothing_else_came()) {
            self.stage.fail(why);
        }
        // The servers end here, so that nobody waits for an answer any longer.
    }

    fn play(&mut self, at: usize) -> Result<(), String> {
        let Some(Event { connection, call, what, .. }) = self.events.get(at).cloned() else { return Ok(()) };
        if self.is_act_of_environment(call, &what) {
            self.stage.wait(|progress| progress.begun > call)?;
        }
        let is_last = self.is_last(at);
        let servers = &mut self.servers;
        match what {
            Happening::Accept => servers.accept(&connection, is_last),
            Happening::FromClient(_) => self.expect(at),
            Happening::FromServer(record) => {
                let header = self.stage.ids.lock().expect("no panic").header_text(&record);
                servers.send(&connection, &Frame::encode(&header, &record.payload))
            }
            Happening::RawFromServer(bytes) => servers.send(&connection, &bytes),
            Happening::ClientClose => {
                servers.link(&connection)?.end.wait_closed(PATIENCE).map_err(|e| e.to_string())
            }
            Happening::ServerDrop => servers.link(&connection).map(|link| link.end.close()),
        }
        .map_err(|why| format!("{connection}, call {call}: {why}"))?;
        self.stage.change(|progress| progress.played += 1);
        Ok(())
    }

    /// What the environment does has its time; everything else follows from what the client does.
    fn is_act_of_environment(&self, call: usize, what: &Happening) -> bool {
        let by_server =
            matches!(what, Happening::FromServer(_) | Happening::RawFromServer(_) | Happening::ServerDrop);
        by_server && self.calls.iter().any(|c| c.number == call && c.operation.starts_with("env.server_"))
    }

    /// True if the server of this connection accepts no other one, or none before it is told to listen again.
    fn is_last(&self, at: usize) -> bool {
        let Some(this) = self.events.get(at) else { return false };
        let next = self.events.iter().skip(at + 1).find(|event| matches!(event.what, Happening::Accept));
        let Some(next) = next else { return true };
        let listens = |call: &Call| {
            call.operation == "env.server_listen" && (this.call..=next.call).contains(&call.number)
        };
        this.connection.chars().next() != next.connection.chars().next() || self.calls.iter().any(listens)
    }

    /// Takes the next frame of a connection, which is the recorded one, or another that may come in its place.
    fn expect(&mut self, at: usize) -> Result<(), String> {
        let (recorded, connection) = match self.events.get(at) {
            Some(Event { what: Happening::FromClient(record), connection, .. }) => {
                (record.clone(), connection.clone())
            }
            _ => return Ok(()),
        };
        let received = self.servers.next_frame(&connection, &recorded)?;
        let mut ids = self.stage.ids.lock().expect("no panic");
        let mut agrees = |record: &Record| compare(record, &received, &mut ids);
        let Err(why) = agrees(&recorded) else { return Ok(()) };
        let others = interchangeable(&self.events, at);
        let other = others.into_iter().find(|place| {
            let record = self.events.get(*place).and_then(Event::client_frame);
            record.is_some_and(|record| agrees(record).is_ok())
        });
        bring_forward(&mut self.events, at, other.ok_or(why)?);
        Ok(())
    }
}

/// The later subscriptions placed during the same call: a client that places several again may choose the order.
fn interchangeable(events: &[Event], at: usize) -> Vec<usize> {
    let Some(first) = events.get(at) else { return Vec::new() };
    let alike = |event: &Event| {
        let record = event.client_frame().filter(|record| record.get("c").ends_with("subscribe"));
        record.is_some() && event.call == first.call && event.connection == first.connection
    };
    if !alike(first) {
        return Vec::new();
    }
    (at + 1..events.len()).filter(|place| events.get(*place).is_some_and(alike)).collect()
}

/// Plays the exchange that begins at `from` before that at `at`.
fn bring_forward(events: &mut [Event], at: usize, from: usize) {
    let call = events.get(from).map(|event| event.call);
    let is_answer = |event: &&Event| event.server_frame().is_some() && Some(event.call) == call;
    let length = 1 + events.iter().skip(from + 1).take_while(is_answer).count();
    if let Some(part) = events.get_mut(at..from + length) {
        part.rotate_right(length);
    }
}

/// The peers, and the connections made so far.
struct Servers {
    peers: Peers,
    links: HashMap<String, Link>,
    /// Heartbeats are on: beats come when it is time for them.
    beats: bool,
}

struct Link {
    end: PeerConnection,
    taken: usize,
}

impl Servers {
    fn accept(&mut self, connection: &str, is_last: bool) -> Result<(), String> {
        let peer =
            connection.chars().next().and_then(|letter| self.peers.get(&letter)).ok_or("no such server")?;
        let end = peer.accept(PATIENCE).map_err(|error| error.to_string())?;
        if is_last {
            peer.refuse().map_err(|error| error.to_string())?;
        }
        self.links.insert(connection.to_owned(), Link { end, taken: 0 });
        Ok(())
    }

    fn link(&mut self, connection: &str) -> Result<&mut Link, String> {
        self.links.get_mut(connection).ok_or_else(|| format!("{connection} was never made"))
    }

    fn send(&mut self, connection: &str, bytes: &[u8]) -> Result<(), String> {
        self.link(connection)?.end.send_raw(bytes).map_err(|error| error.to_string())
    }

    /// The next frame of a connection, beats passed over where none was recorded.
    fn next_frame(&mut self, connection: &str, recorded: &Record) -> Result<Frame, String> {
        let beats = self.beats;
        let link = self.link(connection)?;
        loop {
            let frame = link.end.expect(|_: &Frame| true, PATIENCE).map_err(|error| error.to_string())?;
            link.taken += 1;
            if !(beats && is_beat(&frame) && recorded.get("o") != "beat") {
                return Ok(frame);
            }
        }
    }

    fn nothing_else_came(&self) -> Result<(), String> {
        for (connection, link) in &self.links {
            let frames = link.end.frames();
            let more = frames.iter().skip(link.taken).find(|frame| !(self.beats && is_beat(frame.frame())));
            if let Some(frame) = more {
                return Err(format!("more was received than was recorded, on {connection}: {frame:?}"));
            }
        }
        Ok(())
    }
}

fn is_beat(frame: &Frame) -> bool {
    frame.command() == "heartbeat" && frame.header("o") == Some("beat")
}

/// True if a server ever accepts a connection.
fn accepts(scenario: &Scenario, letter: char) -> bool {
    scenario.events.iter().any(|event| event.connection.starts_with(letter))
}

/// The letters of the servers of a scenario.
fn letters(scenario: &Scenario) -> impl Iterator<Item = char> + use<> {
    let of_events = scenario.events.iter().filter_map(|event| event.connection.chars().next());
    let named = |letter: &char| {
        scenario.calls.iter().any(|call| {
            let args = serde_json::Value::from(call.args.clone()).to_string();
            args.contains(&format!("{{{letter}}}"))
        })
    };
    let mut letters: Vec<char> = of_events.chain(('A'..='Z').filter(named)).collect();
    letters.sort_unstable();
    letters.dedup();
    letters.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_later_exchange_may_be_played_first_with_its_answers() {
        let frame = |n: u64, call: u64, verb: &str| json!({"n": n, "conn": "B1", "call": call, "header": {"c": verb}, "header_text": ""});
        let commands = [(0, "logon"), (2, "subscribe"), (4, "delta_subscribe"), (6, "subscribe")];
        let answers = [(1, 4), (3, 4), (5, 4), (7, 4), (8, 5)];
        let line = json!({
            "client_frames": commands.map(|(n, verb)| frame(n, 4, verb)),
            "server_frames": answers.map(|(n, call)| frame(n, call, "ack")),
        });
        let mut events = Scenario::read(&line).unwrap().events;
        assert_eq!(interchangeable(&events, 0), [0; 0], "a logon has its place");
        assert_eq!(interchangeable(&events, 2), [4, 6]);
        bring_forward(&mut events, 2, 6);
        let order: Vec<_> = events.iter().map(|event| event.number).collect();
        assert_eq!(order, [0, 1, 6, 7, 2, 3, 4, 5, 8], "what is sent during the next call stays behind");
    }
}
