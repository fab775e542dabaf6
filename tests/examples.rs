//! Each program in `examples/` runs as a newcomer runs it, and does what its first lines say.
//!
//! `cargo test` builds the examples; `cargo test --test examples` runs those that were built last.

#[path = "support/program.rs"]
mod program;

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;

use amps_client::Client;
use amps_client::testing::Server;
use program::{Program, run};
use serde_json::Value;

/// The programs that take an address and end by themselves.
const PROGRAMS: [&str; 9] = [
    "quickstart",
    "publish",
    "subscribe",
    "stream",
    "sow_query",
    "sow_and_subscribe",
    "replay",
    "errors",
    "exception_listener",
];

/// The programs that bring with them the servers that they need.
const TROUBLE: [&str; 17] = [
    "bookmark_range",
    "conflated_blotter",
    "connection_states",
    "custom_authenticator",
    "custom_server_chooser",
    "disconnect_handler",
    "fail_fast_publisher",
    "failed_writes",
    "failover_handler",
    "ha_failover",
    "heartbeat",
    "last_chance",
    "queue_consumer",
    "queue_worker_pool",
    "recovery_point_in_sow",
    "reliable_publisher",
    "resume_after_restart",
];

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

/// X-11.
#[test]
fn the_exception_listener_is_told_of_every_failure_and_the_next_poke_comes() {
    let lines = run("exception_listener", &[]);
    let second = lines.iter().position(|line| line == "with a listener that looks at the place:").unwrap();
    let first: Vec<&str> = lines[1..second].iter().map(String::as_str).collect();
    let [poke, error, panic, again] = first[..] else { panic!("{first:?}") };
    assert_eq!((poke, again), (r#"  poked 3 times by "ng""#, r#"  poked 2 times by "ng""#));
    assert!(
        error.starts_with("  listener: message handler `") && error.ends_with(r#": poked "often" times?"#)
    );
    assert!(panic.ends_with(": poked -1 times: that cannot be"), "{panic}");

    let rest = &lines[second..];
    assert!(rest.contains(&r#"    the handler's own error: poked "often" times?"#.to_owned()), "{rest:?}");
    assert!(rest.iter().any(|line| line.ends_with(": exception_listener::on_poke")), "{rest:?}");
    assert_eq!(lines.last().unwrap(), "the client is still connected: true");
}

#[test]
fn the_disconnect_handler_waits_and_reconnects_and_a_later_command_has_it_try_again() {
    let lines = run("disconnect_handler", &[]);
    let receiving =
        "  handler on thread amps-rx-disconnect-handler-example: the server closed the connection";
    let publishing = "  handler on thread main: the server closed the connection";
    let failed = "  listener: disconnect handler: the disconnect handler failed: cannot connect to ";
    let given_up = "  listener: connection: reconnect failed: the server closed the connection";
    let expected = [
        "connected; subscriptions: 1",
        "the connection breaks:",
        receiving,
        "connected; subscriptions: 0, the handler does not place any",
        "the server goes away:",
        receiving,
        failed,
        given_up,
        "a publish has the handler try again:",
        publishing,
        failed,
        given_up,
        "Disconnected: publish was not sent: the client is not connected",
        "the server is back, and another publish has the handler try again:",
        publishing,
        "connected; orders on the server: 1",
    ];
    assert_lines(&lines, &expected);
}

#[test]
fn the_disconnect_handler_takes_its_time_from_the_command_line() {
    let began = std::time::Instant::now();
    let lines = run("disconnect_handler", &["--wait", "1"]);
    assert!(began.elapsed().as_secs() >= 4, "four repairs");
    assert_eq!(lines.len(), 16, "{lines:?}");
    let outcome = Program::start("disconnect_handler", &["--wait", "long"], Stdio::null()).finish();
    assert_eq!(outcome.status.code(), Some(1));
}

#[test]
fn the_failover_handler_goes_through_its_list() {
    let lines = run("failover_handler", &[]);
    let expected = [
        "server 1 failed: cannot connect to ",
        "  next is server 2",
        r#"order: {"id":1,"from":"the second server"}"#,
        "lost: ",
        "server 2 failed: cannot connect to ",
        "  next is server 3",
        r#"order: {"id":2,"from":"the third server"}"#,
    ];
    assert_lines(&lines, &expected);
}

#[test]
fn heartbeats_find_a_silent_server_and_keep_a_quiet_one() {
    let lines = run("heartbeat", &[]);
    let expected = [
        "logged on; from now on the server says nothing",
        "lost: nothing came from the server within the heartbeat timeout",
        "on the standby after ",
        "both sides beat, and the client is connected: true",
        "handlers that took more than half an interval: 1",
    ];
    assert_lines(&lines, &expected);
}

#[test]
fn failed_writes_are_told_with_the_message_and_leave_the_store() {
    let lines = run("failed_writes", &[]);
    let expected = [
        "four publishes, all of which succeed as far as the caller can tell:",
        r#"  "no JSON, so it has no key" on `sow/orders` was refused: bad sow key"#,
        r#"  "{\"who\":\"okafor\"}" on `audit` was refused: not entitled"#,
        "2 orders arrived; still in the store: 0",
        "two publishes, and the server dies before it acknowledges them:",
        "lost: the server closed the connection",
        r#"  "{\"id\":1}" is there already: to be expected after a failover"#,
        "still in the store: 0",
    ];
    assert_lines(&lines, &expected);
}

#[test]
fn jobs_are_done_given_back_removed_and_taken_over() {
    let expected = [
        "dig: done",
        "sow: not now, given back",
        "???: nobody can do that, removed",
        "reap: done",
        "sow: done",
        "3 acknowledged, 1 removed, 0 left",
        "thresh: begun, and never finished",
        "thresh: done by another one",
        "0 left",
    ];
    assert_lines(&run("queue_consumer", &[]), &expected);
}

#[test]
fn a_pool_does_every_job_over_failures_and_a_lost_connection() {
    let expected = ["100 jobs are done, 0 are left", "some were begun more than once: true"];
    assert_lines(&run("queue_worker_pool", &[]), &expected);
}

#[test]
fn a_replay_tells_where_the_past_ends_and_goes_on_live() {
    let order = |when: &str, id: u32| format!(r#"{when}: {{"id":{id}}}"#);
    let (old, live) = ([1, 2, 3].map(|id| order("old", id)), order("live", 4));
    let lines = run("replay", &[]);
    assert_eq!(lines[..3], old);
    assert!(lines[3].starts_with("that was the past, up to ") && lines[3].ends_with("|3|"), "{lines:?}");
    assert_eq!(lines[4..], [&live, "4 messages", "3 behind the first of them"]);
}

#[test]
fn a_range_has_the_ends_that_its_brackets_say() {
    let expected = [
        "from 01:00 to 03:00: 01:00 02:00 03:00",
        "from 01:00 to before 03:00: 01:00 02:00",
        "after 01:00 to 03:00: 02:00 03:00",
        "from one order to another: 01:00 02:00 03:00",
        "between the two: 02:00",
        "from 05:00 to before 08:00, begun at 06:00: 05:00 06:00 07:00",
    ];
    assert_eq!(run("bookmark_range", &[]), expected);
}

#[test]
fn three_blotters_show_the_same_after_a_hundred_quotes_or_four() {
    let expected = [
        "waiting before the interval ends: 100, 0, 4",
        "waiting after it: 100, 4, 4",
        "every quote: 100 read",
        "conflated by the server: 4 read",
        "conflated by the client: 4 read",
        r#"all three show {"AIR": 196, "IBM": 197, "NESN": 198, "SAP": 199}"#,
    ];
    assert_eq!(run("conflated_blotter", &[]), expected);
}

#[test]
fn another_machine_goes_on_where_the_first_stopped() {
    let expected = [
        "the first machine:",
        r#"  {"id":1}"#,
        r#"  {"id":2}"#,
        r#"  {"id":3}, not done"#,
        r#"  {"id":4}"#,
        "kept on the server, the place of the second: true",
        "the second machine:",
        r#"  {"id":3}"#,
        r#"  {"id":4}"#,
        r#"  {"id":5}"#,
        r#"  {"id":6}"#,
    ];
    assert_eq!(run("recovery_point_in_sow", &[]), expected);
}

#[cfg(feature = "file-store")]
#[test]
fn a_subscriber_that_is_killed_gets_what_nobody_is_done_with_and_nothing_else() {
    let expected = [
        "the first subscriber:",
        "  goes on at the beginning",
        "  order 1",
        "  order 2",
        "  done with 1",
        "  done with 2",
        "the second subscriber:",
        "  goes on in the middle",
        "  order 3",
        "  order 4",
        "  order 5",
        "  order 6",
        "  done with 4",
        "  done with 5",
        "it is killed, at work on two orders",
        "the third subscriber:",
        "  goes on in the middle",
        "  order 3",
        "  order 6",
        "  order 7",
        "  done with 3",
        "  done with 6",
        "  done with 7",
    ];
    assert_eq!(run("resume_after_restart", &[]), expected);
}

#[test]
fn the_last_chance_handler_gets_what_nobody_wants() {
    let lines = run("last_chance", &[]);
    let expected = [
        "a tick for the subscription: wanted",
        "nobody asked what became of order-7: bad sow key",
        "data for the subscription the-day-before, which is gone: out of date",
        "a heartbeat, though heartbeats are off",
    ];
    assert_lines(&lines, &expected);
}

/// Table 5.2, row by row.
#[test]
fn connection_states_shows_the_sequence_of_every_configuration() {
    let lines = run("connection_states", &[]);
    let expected = [
        "subscription manager, publish store: Connected, LoggedOn, PublishReplayed, Resubscribed",
        "subscription manager, publish store, heartbeat: \
         Connected, LoggedOn, HeartbeatInitiated, PublishReplayed, Resubscribed",
        "subscription manager: Connected, LoggedOn, Resubscribed",
        "subscription manager, heartbeat: Connected, LoggedOn, HeartbeatInitiated, Resubscribed",
        "publish store: Connected, LoggedOn, PublishReplayed",
        "publish store, heartbeat: Connected, LoggedOn, HeartbeatInitiated, PublishReplayed",
        "nothing: Connected, LoggedOn",
        "heartbeat: Connected, LoggedOn, HeartbeatInitiated",
        "lost and found: Disconnected, Connected, LoggedOn, PublishReplayed, Resubscribed",
        "closed: Disconnected, Shutdown",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_stream_goes_on_over_a_failover_and_no_order_is_lost() {
    let lines = run("ha_failover", &[]);
    let death = lines.iter().position(|line| line == "the primary dies").unwrap();
    let of = |id: u32| format!(r#"    {{"id":{id}}}"#);
    assert_eq!(lines[death - 1], of(1));
    let after = &lines[death..];
    assert_eq!(after[1], "  the orders that there are:");
    assert!(after.contains(&of(1)) && after.contains(&of(2)), "{lines:?}");
    let end = [
        "failovers of the stream: 1",
        "orders on the backup: 2, still in the store: 0",
        "states: Disconnected, Connected, LoggedOn, HeartbeatInitiated, PublishReplayed, Resubscribed",
    ];
    assert_lines(&after[after.len() - 3..], &end);
}

#[test]
fn a_chooser_of_its_own_wants_the_primary_and_says_why_it_gives_up() {
    let lines = run("custom_server_chooser", &[]);
    let every_server_twice = ["  primary: ConnectionRefused", "  backup: ConnectionRefused"].repeat(2);
    let mut expected = vec![
        "the primary is down:",
        "  primary: ConnectionRefused",
        "  backup: connected",
        "the primary is back, and the connection to the backup breaks:",
        "  lost",
        "  primary: connected",
        "everything is down:",
        "  lost",
    ];
    expected.extend(every_server_twice);
    expected.extend([
        "told: no AMPS instances available: primary: ConnectionRefused, ",
        "told: reconnect failed",
    ]);
    assert_lines(&lines, &expected);
}

#[test]
fn an_authenticator_of_its_own_answers_a_challenge_and_can_refuse_to() {
    let lines = run("custom_authenticator", &[]);
    let logon = ["  okafor takes a ticket", "  the server says: prove it", "  the server knows okafor"];
    let mut expected = vec!["a client:"];
    expected.extend(logon);
    expected.extend(["logged on as okafor", "a client that finds its server by itself"]);
    expected.extend(logon);
    expected.extend([
        "no tickets left:",
        "Authentication: the authenticator failed: no ticket left for okafor",
        "connected: false",
    ]);
    assert_lines(&lines, &expected);
}

#[test]
fn the_fail_fast_publisher_drops_what_would_be_late() {
    let lines = run("fail_fast_publisher", &[]);
    let expected = [
        "101",
        "102",
        "103 dropped, TimedOut: ",
        "104 dropped, Disconnected: ",
        "105 dropped, Disconnected: ",
        "106 dropped, Disconnected: ",
    ];
    assert_lines(&lines[..6], &expected);
    assert!(lines.last().unwrap().parse::<u32>().is_ok_and(|price| price >= 107), "{lines:?}");
}

#[cfg(feature = "file-store")]
#[test]
fn the_reliable_publisher_is_killed_and_loses_nothing() {
    let lines = run("reliable_publisher", &[]);
    let expected = [
        "the first publisher:",
        "  orders in the file: 0",
        r#"  order {"id":1} has number "#,
        r#"  order {"id":2} has number "#,
        "  acknowledged",
        "the server goes away, with 2 orders:",
        r#"  order {"id":3} has number "#,
        r#"  order {"id":4} has number "#,
        r#"  order {"id":5} has number "#,
        "the publisher is killed, and the server comes back, with 2 orders",
        "the second publisher:",
        "  orders in the file: 3",
        r#"  order {"id":6} has number "#,
        "  acknowledged",
        "orders on the server: 6; the numbers go on: true",
    ];
    assert_lines(&lines, &expected);
}

#[test]
fn the_load_generator_ends_with_one_json_object() {
    let server = Server::quick().unwrap();
    let lines = run("loadgen", &["--mode", "publish", "--count", "1000", "--uri", &server.uri("json")]);
    let report: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(report["count"], 1000);
}

#[test]
fn both_rates_of_a_replay_are_told_with_their_ratio() {
    let lines = run("replay_rate", &["--count", "10000", "--rounds", "1"]);
    let last = lines.last().unwrap();
    assert!(last.starts_with("median: ") && last.ends_with(" %"), "{last}");
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

/// A short one; longer ones are run by hand.
#[test]
fn a_storm_loses_nothing_and_leaves_nothing_behind() {
    let seed = "20261124";
    let outcome = Program::start("soak", &["--seconds", "3", "--seed", seed], Stdio::null()).finish();
    assert!(outcome.status.success(), "{outcome:#?}");
    let line = outcome.lines.last().unwrap();
    assert!(line.starts_with("held: 0 lost, 0 duplicated, 0 stuck; "), "{line}");
    let outcome = Program::start("soak", &["--seconds", "long"], Stdio::null()).finish();
    assert_eq!((outcome.lines.len(), outcome.status.code()), (0, Some(2)), "{outcome:?}");
}

#[test]
fn every_program_is_run_by_a_test() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(examples).unwrap().map(|entry| entry.unwrap().path());
    let programs: HashSet<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let tested =
        PROGRAMS.into_iter().chain(TROUBLE).chain(["embedded_server", "loadgen", "replay_rate", "soak"]);
    let tested = tested.map(str::to_owned).collect();
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

/// Each line is what is expected, or begins with it.
#[track_caller]
fn assert_lines(lines: &[String], expected: &[&str]) {
    let fits = |(line, start): (&String, &&str)| line.starts_with(*start);
    assert!(lines.len() == expected.len() && lines.iter().zip(expected).all(fits), "{lines:#?}");
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
