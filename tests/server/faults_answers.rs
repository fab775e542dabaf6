//! Answers that no rule asks for, and gates before the answers that one does.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::Direction;
use amps_client::testing::{Clock, Expectation, Fault, Gate, Server, Topic, When};

const SOON: Duration = Duration::from_secs(10);

fn server() -> Server {
    Server::builder().topic(Topic::sow("orders").key("/id")).start().expect("a server")
}

/// X-3, acks: a given reason, whatever the command.
#[test]
fn a_command_may_be_refused_for_any_reason() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    for (number, reason) in
        ["bad filter", "subscription already exists", "sow store failed"].iter().enumerate()
    {
        for command in ["subscribe", "sow", "publish", "sow_delete", "flush", "unsubscribe"] {
            server.fault(Fault::refuse(*reason).when(When::receives(command)));
            client.send(format!(
                r#"{{"c":"{command}","cid":"{number}","t":"orders","sub_id":"s","filter":"1=1","a":"processed"}}"#
            ));
            let answer = client.receive();
            let told = (answer.header("cid"), answer.header("status"), answer.header("reason"));
            assert_eq!(told, (Some(&*number.to_string()), Some("failure"), Some(*reason)), "{command}");
        }
    }
    assert!(server.subscriptions().is_empty() && server.sow_records("orders").is_empty());
}

/// X-3, acks: K-3 holds for such a refusal too.
#[test]
fn a_refusal_is_told_in_the_acks_that_were_asked_for() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    server.fault(Fault::refuse("tx store failure").when(When::receives("publish")).times(3));
    let ask = |client: &mut RawClient, acks: &str| {
        client.ask(format!(r#"{{"c":"p","cid":"1","t":"orders","s":7,"a":"{acks}"}}{{"id":1}}"#))
    };
    assert!(ask(&mut client, "completed").is_empty());
    assert_eq!(
        ask(&mut client, "persisted"),
        [r#"{"c":"ack","cid":"1","s":7,"a":"persisted","status":"failure","reason":"tx store failure"}"#]
    );
    assert_eq!(
        ask(&mut client, "received,processed"),
        [
            r#"{"c":"ack","cid":"1","a":"received","status":"success"}"#,
            r#"{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"tx store failure"}"#
        ]
    );
    assert_eq!(ask(&mut client, "processed").len(), 1);
    assert_eq!(server.sow_records("orders").len(), 1);
}

/// X-3, acks: a refused logon costs the connection, and a heartbeat cannot be refused.
#[test]
fn a_logon_may_be_refused_for_any_reason() {
    let server = server();
    let fault = server.fault(Fault::refuse("name in use"));
    let mut client = RawClient::connect(&server);
    client.send(r#"{"c":"heartbeat","o":"beat","cid":"0","a":"processed"}"#);
    assert_eq!(client.receive().header("status"), Some("success"));
    client.send(r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#);
    assert_eq!(client.receive().header("reason"), Some("name in use"));
    assert!(client.next().is_none());
    assert_eq!(fault.fired(), 1);
    RawClient::log_on(&server, "c");
}

/// X-3, acks: logon `retry`.
#[test]
fn a_logon_may_be_answered_with_retry() {
    let server = server();
    server.fault(Fault::retry_logon("alice", "second").times(2));
    let mut client = RawClient::connect(&server);
    for _ in 0..2 {
        client.send(r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#);
        let answer = client.receive();
        let told = (answer.header("status"), answer.header("user_id"), answer.header("pw"));
        assert_eq!(told, (Some("retry"), Some("alice"), Some("second")));
    }
    client.send(r#"{"c":"logon","cid":"2","client_name":"c","mt":"json","user_id":"alice","a":"processed"}"#);
    assert_eq!(client.receive().header("status"), Some("success"));
    assert_eq!(server.sessions()[0].user_id, "alice");
}

/// V-5.
#[test]
fn a_fault_shows_no_password() {
    let fault = Fault::retry_logon("alice", "s3cret");
    assert!(!format!("{fault:?}").contains("s3cret"));
    let server = server();
    let armed = server.fault(fault);
    assert!(!format!("{armed:?} {:?}", server.faults()).contains("s3cret"));
}

/// Whether a frame that fits was sent to the first connection.
fn was_sent(server: &Server, fits: &str) -> bool {
    let frames = server.frames();
    let mut sent = frames.iter().filter(|seen| (seen.connection, seen.direction) == (1, Direction::Outgoing));
    sent.any(|seen| seen.frame.header_text().contains(fits))
}

/// X-5: every gate, its command, and what was and what was not sent when it is reached.
#[test]
fn a_connection_waits_at_a_gate_and_others_go_on() {
    let table = [
        (
            Gate::BeforePersistedAck,
            r#"{"c":"p","cid":"1","t":"t","a":"processed,persisted"}x"#,
            "processed",
            "persisted",
        ),
        (
            Gate::BeforeGroupEnd,
            r#"{"c":"sow","cid":"1","t":"orders","a":"completed"}"#,
            "group_begin",
            "group_end",
        ),
        (
            Gate::BeforeCompleted,
            r#"{"c":"sow","cid":"1","t":"orders","a":"completed"}"#,
            "group_end",
            "completed",
        ),
    ];
    for (gate, command, before, behind) in table {
        let server = server();
        let mut client = RawClient::log_on(&server, "c");
        let mut other = RawClient::log_on(&server, "other");
        let shut = server.gate(gate);
        client.send(command);
        shut.wait_reached(SOON).unwrap();
        assert!(was_sent(&server, before) && !was_sent(&server, behind), "{gate:?}");
        // The waiting connection still carries out what it is told.
        client.send(r#"{"c":"subscribe","cid":"s","t":"t"}"#);
        server.wait_for(|server| server.subscriptions().len() == 1, SOON).unwrap();
        assert!(other.received().is_empty(), "{gate:?}");
        assert!(!was_sent(&server, behind));
        shut.open();
        assert!(client.texts().iter().any(|text| text.contains(behind)), "{gate:?}");
        assert!(client.ask(command).iter().any(|text| text.contains(behind)), "it stays open");
        assert_eq!(shut.reached(), 1);
    }
}

/// X-5: a refused logon has an answer as well.
#[test]
fn a_logon_waits_at_its_gate_whatever_the_answer() {
    let server = server();
    server.allow_logons(false);
    let gate = server.gate(Gate::BeforeLogonAck);
    let mut clients = [RawClient::connect(&server), RawClient::connect(&server)];
    for client in &mut clients {
        client.send(r#"{"c":"logon","cid":"1","client_name":"c","mt":"json","a":"processed"}"#);
    }
    server.wait_for(|_| gate.reached() == 2, SOON).unwrap();
    assert!(!was_sent(&server, "ack"));
    gate.open();
    for client in &mut clients {
        assert_eq!(client.receive().header("reason"), Some("authentication disabled"));
    }
}

/// X-5.
#[test]
fn a_heartbeat_waits_at_its_gate() {
    let clock = Clock::manual();
    let server = Server::builder().clock(clock.clone()).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.ask(r#"{"c":"heartbeat","o":"start,1"}"#);
    let gate = server.gate(Gate::BeforeHeartbeat);
    clock.advance(Duration::from_secs(1)).unwrap();
    gate.wait_reached(SOON).unwrap();
    assert!(!was_sent(&server, r#"{"c":"heartbeat"}"#));
    drop(gate);
    assert_eq!(client.receive().command(), "heartbeat");
}

/// X-5: for one client.
#[test]
fn a_gate_may_be_shut_for_one_client() {
    let server = server();
    let gate = Fault::stop_writing().when(When::at(Gate::BeforeCompleted)).on_client("a");
    let gate = server.fault(gate);
    let query = r#"{"c":"sow","cid":"1","t":"orders","a":"completed"}"#;
    let mut clients = [RawClient::log_on(&server, "a"), RawClient::log_on(&server, "b")];
    clients[0].send(query);
    gate.wait_fired(SOON).unwrap();
    assert_eq!(clients[1].ask(query).len(), 3);
    gate.release();
    assert_eq!(clients[0].received().len(), 3);
}

/// A gate is never reached by what a fault loses.
#[test]
fn who_waits_at_a_gate_in_vain_is_told_so() {
    let server = server();
    let mut client = RawClient::log_on(&server, "c");
    server.fault(Fault::swallow().when(When::receives(Expectation::command("sow"))));
    let gate = server.gate(Gate::BeforeGroupEnd);
    assert!(client.ask(r#"{"c":"sow","cid":"1","t":"orders"}"#).is_empty());
    let error = gate.wait_reached(Duration::from_millis(1)).unwrap_err();
    assert!(error.to_string().contains("at BeforeGroupEnd"), "{error}");
}
