//! Each program in `examples/` runs as a newcomer runs it, and does what its first lines say.
//!
//! `cargo test` builds the examples; `cargo test --test examples` runs those that were built last.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use amps_client::Client;
use amps_client::testing::Server;
use serde_json::Value;

/// The programs that take an address and end by themselves.
const PROGRAMS: [&str; 7] =
    ["quickstart", "publish", "subscribe", "stream", "sow_query", "sow_and_subscribe", "errors"];

const DAY: &str = include_str!("../examples/data/orders.jsonl");

#[test]
fn the_orders_are_a_day_that_begins_and_ends_with_nothing_open() {
    let day: Vec<Value> = DAY.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(day.len() >= 500, "{}", day.len());
    let (mut seen, mut open) = (HashSet::new(), HashSet::new());
    for (number, order) in day.iter().enumerate() {
        let id = order["id"].as_u64().unwrap();
        let (qty, filled) = (order["qty"].as_u64().unwrap(), order["filled"].as_u64().unwrap());
        let is_known = !seen.insert(id);
        match order["status"].as_str().unwrap() {
            "new" => assert!(!is_known && filled == 0, "{order}"),
            "partial" => assert!(is_known && 0 < filled && filled < qty, "{order}"),
            "filled" => assert!(is_known && filled == qty, "{order}"),
            "cancelled" => assert!(is_known && filled < qty, "{order}"),
            _ => panic!("no such status: {order}"),
        }
        if is_open(order) {
            open.insert(id)
        } else {
            open.remove(&id)
        };
        assert_eq!(open.is_empty(), number + 1 == day.len(), "{order}");
    }
    let times: Vec<&str> = day.iter().map(|order| order["ts"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
}

#[test]
fn the_quickstart_follows_a_day_until_nothing_is_open() {
    let day: Vec<Value> = DAY.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let after_noon = &day[day.len() / 2..];
    let updates = after_noon.iter().filter(|order| is_open(order)).count();
    let out_of_focus = after_noon.len() - updates;
    let lines = run("quickstart", &[]);
    assert_eq!(lines.iter().filter(|line| line.starts_with("  {")).count(), 3, "{lines:?}");
    assert_eq!(
        lines.last().unwrap(),
        &format!("{updates} live updates, {out_of_focus} orders out of focus, 0 open at the close")
    );
}

#[test]
fn publish_leaves_every_order_on_the_server_that_it_is_given() {
    let server = Server::quick().unwrap();
    let lines = run("publish", &[&server.uri("json")]);
    assert!(lines[0].starts_with(&format!("the server has processed {} messages", DAY.lines().count() + 2)));

    let records = server.sow_records("sow/orders");
    let ids: HashSet<u64> = DAY
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(records.len(), ids.len() + 1);
    let expiring: Vec<_> = records.iter().filter(|record| record.expires.is_some()).collect();
    assert_eq!((expiring.len(), &*expiring[0].correlation_id), (1, "ZGVzay03"));
    let orders = records.iter().map(|record| serde_json::from_slice::<Value>(&record.payload).unwrap());
    let reviewed: Vec<Value> = orders.filter(|order| order["reviewed_by"] == "okafor").collect();
    assert_eq!((reviewed.len(), &reviewed[0]["symbol"]), (1, &Value::from("AIR")));
}

#[test]
fn subscribe_prints_what_passes_the_filter() {
    let ticks = [101, 102, 103].map(|px| format!(r#"ticks: {{"symbol":"IBM","px":{px}}}"#));
    let lines = run("subscribe", &[]);
    assert_eq!(lines[..3], ticks);
    assert_eq!(lines[3..], ["three of five ticks passed the filter"]);
}

#[test]
fn stream_prints_each_message_then_that_there_is_none_and_then_the_end() {
    let ticks = [101, 102, 103].map(|px| format!(r#"{{"symbol":"IBM","px":{px}}}"#));
    let lines = run("stream", &[]);
    assert_eq!(lines[..3], ticks);
    assert!(lines[3].starts_with("nothing yet: "), "{lines:?}");
    assert_eq!(lines[4..], ["the stream ended with 0 messages left"]);
}

#[test]
fn sow_query_prints_two_results_and_the_count() {
    let lines = run("sow_query", &[]);
    let is_cancelled =
        |line: &String| line.contains(r#""symbol":"NESN""#) && line.ends_with(r#""cancelled"}"#);
    let end = lines.iter().position(|line| line == "no more of them").unwrap();
    assert_eq!(lines[0], "cancelled orders in NESN:");
    assert!(end > 1 && lines[1..end].iter().all(is_cancelled), "{lines:?}");

    let quantities: Vec<u64> = lines[end + 2..end + 5]
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["qty"].as_u64().unwrap())
        .collect();
    assert!(quantities.is_sorted_by(|a, b| a >= b), "{lines:?}");
    assert_eq!(lines[end + 5..], ["of 188 records"]);
}

#[test]
fn the_blotter_shows_orders_come_change_and_go() {
    let lines = run("sow_and_subscribe", &[]);
    let count = |sign| lines.iter().filter(|line| line.starts_with(sign)).count();
    assert_eq!((count('+'), count('?')), (count('-'), 0), "{lines:?}");
    assert!(count('*') > 0);
    assert!(lines.contains(&"from here on it is live:".to_owned()));
    assert!(lines.last().unwrap().ends_with("| 0 open, 0 shares to go"), "{lines:?}");
}

#[test]
fn errors_catches_one_kind_after_the_other() {
    let lines = run("errors", &[]);
    let kinds: Vec<&str> =
        lines.iter().filter_map(|line| line.split_once(": ")).map(|(kind, _)| kind).collect();
    let expected = [
        "Usage",
        "InvalidUri",
        "InvalidTransportOptions",
        "ConnectionRefused",
        "Disconnected",
        "AlreadyConnected",
        "BadFilter",
        "InvalidTopic",
        "TimedOut",
        "after all that",
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_load_generator_ends_with_one_json_object() {
    let server = Server::quick().unwrap();
    let lines = run("loadgen", &["--mode", "publish", "--count", "1000", "--uri", &server.uri("json")]);
    let report: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(report["count"], 1000);
}

/// One after the other, twice over: what one leaves behind must not disturb the next.
#[test]
fn all_of_them_work_on_a_server_that_is_there_already() {
    let server = Server::quick().unwrap();
    for name in PROGRAMS.iter().chain(&PROGRAMS) {
        let before = server.counters().connections;
        run(name, &[&server.uri("json")]);
        assert!(server.counters().connections > before, "{name} did not use the server");
    }
}

#[test]
fn all_of_them_fail_where_there_is_no_server() {
    for name in PROGRAMS {
        let outcome = Program::start(name, &["tcp://nowhere"], Stdio::null()).finish();
        assert_eq!(outcome.status.code(), Some(1), "{name}: {outcome:?}");
        assert!(outcome.errors.contains("InvalidUri"), "{name}: {outcome:?}");
    }
}

#[test]
fn every_program_is_run_by_a_test() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let programs: HashSet<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let tested = PROGRAMS.into_iter().chain(["embedded_server", "loadgen"]).map(str::to_owned).collect();
    assert_eq!(programs, tested);
}

#[test]
fn the_embedded_server_serves_until_its_input_ends() {
    let mut server = Program::start("embedded_server", &[], Stdio::piped());
    let uri = server.line();
    assert!(uri.starts_with("tcp://127.0.0.1:") && uri.ends_with("/amps/json"), "{uri}");
    round_trip(&uri);
    server.close_input();
    assert!(server.finish().status.success());
}

#[test]
fn the_embedded_server_needs_no_input() {
    let mut server = Program::start("embedded_server", &[], Stdio::null());
    let uri = server.line();
    round_trip(&uri);
    round_trip(&uri);
}

#[test]
fn the_embedded_server_listens_where_it_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for args in [["--port", &port], ["--port", "many"], ["--prot", "9007"], ["--instances", "many"]] {
        let outcome = Program::start("embedded_server", &args, Stdio::null()).finish();
        assert_eq!((outcome.lines.len(), outcome.status.code()), (0, Some(1)), "{args:?}");
        assert!(args.iter().any(|arg| outcome.errors.contains(arg)), "{args:?}: {outcome:?}");
    }
}

#[test]
fn the_embedded_server_serves_as_a_cluster_too() {
    let mut server = Program::start("embedded_server", &["--instances", "3"], Stdio::piped());
    let uris = [server.line(), server.line(), server.line()];
    uris.iter().for_each(|uri| round_trip(uri));
    // What one has learned the others know.
    let client = Client::builder("visitor of another").build().unwrap();
    client.connect(&uris[0]).unwrap();
    client.logon().unwrap();
    client.publish("sow/visits", r#"{"id":2}"#).unwrap();
    client.publish_flush().unwrap();
    let other = Client::builder("visitor of another").build().unwrap();
    other.connect(&uris[2]).unwrap();
    other.logon().unwrap();
    let records = other.sow("sow/visits", "/id = 2").unwrap();
    assert_eq!(records.count(), 3, "the record, and the two ends of the answer");
    server.close_input();
    assert!(server.finish().status.success());
}

#[cfg(unix)]
#[test]
fn the_embedded_server_replaces_a_socket_that_was_left_behind_and_removes_its_own() {
    let path = std::env::temp_dir().join(format!("amps-example-{}.sock", std::process::id()));
    let args = ["--unix", path.to_str().unwrap()];

    let mut killed = Program::start("embedded_server", &args, Stdio::piped());
    killed.line();
    assert!(killed.line().starts_with("unix://"));
    drop(killed);
    assert!(path.exists());

    let mut server = Program::start("embedded_server", &args, Stdio::piped());
    let (tcp, unix) = (server.line(), server.line());
    round_trip(&tcp);
    round_trip(&unix);
    server.close_input();
    assert!(server.finish().status.success());
    assert!(!path.exists());
}

fn is_open(order: &Value) -> bool {
    ["new", "partial"].contains(&order["status"].as_str().unwrap())
}

/// Publishes a record and queries it back.
fn round_trip(uri: &str) {
    let client = Client::builder("visitor").build().unwrap();
    client.connect(uri).unwrap();
    client.logon().unwrap();
    client.publish("sow/visits", r#"{"id":1}"#).unwrap();
    client.publish_flush().unwrap();
    let records = client.sow("sow/visits", "/id = 1").unwrap();
    let data: Vec<Vec<u8>> = records.map(|message| message.unwrap().data().to_vec()).collect();
    assert!(data.contains(&br#"{"id":1}"#.to_vec()), "{data:?}");
}

/// Runs a program to its end and returns what it printed.
fn run(name: &str, args: &[&str]) -> Vec<String> {
    let outcome = Program::start(name, args, Stdio::null()).finish();
    assert!(outcome.status.success(), "{name}: {outcome:#?}");
    outcome.lines
}

/// How long a program may take to print its next line.
const LIMIT: Duration = Duration::from_secs(60);

/// A running example; dropping it kills it.
struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

/// What came of a program: the rest of what it printed, and how it ended.
#[derive(Debug)]
struct Outcome {
    lines: Vec<String>,
    errors: String,
    status: ExitStatus,
}

impl Program {
    fn start(name: &str, args: &[&str], input: Stdio) -> Program {
        let path = path_of(name);
        let mut command = Command::new(&path);
        let child = command.args(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("cannot run {}: {error}; `cargo build --examples` builds it", path.display())
        });
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let errors = child.stderr.take().unwrap();
        let errors = thread::spawn(move || std::io::read_to_string(errors).unwrap());
        Program { name: name.to_owned(), child, lines, errors: Some(errors) }
    }

    fn line(&mut self) -> String {
        self.next_line().unwrap_or_else(|| panic!("{} ended", self.name))
    }

    /// `None` when the program has ended.
    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} neither prints nor ends", self.name),
        }
    }

    fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end.
    fn finish(&mut self) -> Outcome {
        let lines = std::iter::from_fn(|| self.next_line()).collect();
        let errors = self.errors.take().unwrap().join().unwrap();
        Outcome { lines, errors, status: self.child.wait().unwrap() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo puts the examples beside the directory of the test programs.
fn path_of(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
