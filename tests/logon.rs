//! A logon is an exchange with the server that succeeds as a whole or ends the connection.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use amps_client::testing::{Expectation, LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    Authenticator, Client, ConnectionState, Error, ErrorKind, Logon, LogonOptions, Origin, Result,
};
use parking_lot::Mutex;
use support::client::*;

use ConnectionState::{Connected, Disconnected, LoggedOn};

/// A client that is connected with these credentials, and not logged on.
fn connected(credentials: &str) -> (Client, Record, ScriptedPeer, PeerConnection) {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    client.connect(&peer.uri("json").replace("tcp://", &format!("tcp://{credentials}"))).unwrap();
    let connection = peer.accept(SOON).unwrap();
    (client, record, peer, connection)
}

/// Writes down what it is asked, and answers with numbered passwords.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, call: &str, user: &str, secret: &str) -> String {
        let mut notes = self.0.lock();
        notes.push(format!("{call} {user} {secret}"));
        format!("answer-{}", notes.len())
    }
}

impl Authenticator for Notes {
    fn authenticate(&self, user: &str, password: &str) -> Result<String> {
        Ok(self.note("authenticate", user, password))
    }

    fn retry(&self, user: &str, password: &str) -> Result<String> {
        Ok(self.note("retry", user, password))
    }

    fn completed(&self, user: &str, password: &str, reason: &str) -> Result<()> {
        self.note("completed", user, &format!("{password} {reason}"));
        Ok(())
    }
}

/// 84, HA-29 to HA-31: the server wants another password, twice, and gives another user.
#[test]
fn a_logon_is_repeated_for_as_long_as_the_server_asks_for_another_password() {
    let (client, record, _peer, connection) = connected("u1:p1@");
    let notes = Notes::default();
    let logon = {
        let notes = notes.clone();
        begin(&client, move |client| client.logon_with(&in_time().authenticator(notes)))
    };
    let mut sent = vec![connection.logon(&LogonAck::retry("u2", "p2"), SOON).unwrap()];
    sent.push(connection.logon(&LogonAck::retry("u3", "p3"), SOON).unwrap());
    sent.push(connection.logon(&LogonAck::success().reason("welcome"), SOON).unwrap());
    logon.wait().unwrap();
    let sent: Vec<_> = sent.iter().map(|f| (f.header("user_id").unwrap(), f.header("pw").unwrap())).collect();
    assert_eq!(sent, [("u1", "answer-1"), ("u2", "answer-2"), ("u3", "answer-3")]);
    assert_eq!(
        *notes.0.lock(),
        ["authenticate u1 p1", "retry u2 p2", "retry u3 p3", "completed u3  welcome"]
    );
    assert_eq!(client.connection_info().get("client.username"), Some("u3"));
    assert_eq!(record.states(), [Connected, LoggedOn]);
}

/// HA-32: the default authenticator has no other password.
#[test]
fn without_an_authenticator_a_second_password_cannot_be_given() {
    let (client, record, _peer, connection) = connected("u1:p1@");
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    let frame = connection.logon(&LogonAck::retry("u2", "p2"), SOON).unwrap();
    assert_eq!((frame.header("user_id"), frame.header("pw")), (Some("u1"), Some("p1")));
    let error = logon.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.to_string().contains("u2") && !error.to_string().contains("p2"), "{error}");
    assert_eq!(record.states(), [Connected, Disconnected]);
}

/// Which of the three calls fails, and how.
struct Failing {
    call: &'static str,
    panics: bool,
}

impl Failing {
    fn at(&self, call: &str) -> Result<String> {
        match (self.call == call, self.panics) {
            (false, _) => Ok(String::new()),
            (true, false) => Err(Error::new(ErrorKind::NotEntitled, "no ticket today")),
            (true, true) => panic!("no ticket today"),
        }
    }
}

impl Authenticator for Failing {
    fn authenticate(&self, _: &str, _: &str) -> Result<String> {
        self.at("authenticate")
    }

    fn retry(&self, _: &str, _: &str) -> Result<String> {
        self.at("retry")
    }

    fn completed(&self, _: &str, _: &str, _: &str) -> Result<()> {
        self.at("completed").map(drop)
    }
}

/// HA-32, X-7: an error or a panic in any of the three fails the logon, and ends the connection.
#[test]
fn an_authenticator_that_fails_fails_the_logon() {
    for call in ["authenticate", "retry", "completed"] {
        for panics in [false, true] {
            let (client, record, _peer, connection) = connected("");
            let failing = Failing { call, panics };
            let logon = begin(&client, move |client| client.logon_with(&in_time().authenticator(failing)));
            if call != "authenticate" {
                let answer = if call == "retry" { LogonAck::retry("u", "p") } else { LogonAck::success() };
                connection.logon(&answer, SOON).unwrap();
            }
            let error = logon.wait().unwrap_err();
            let expected = if panics { ErrorKind::Authentication } else { ErrorKind::NotEntitled };
            assert_eq!(error.kind(), expected, "{call}");
            assert!(error.to_string().contains("no ticket today"), "{error}");
            assert_eq!(record.states(), [Connected, Disconnected]);
            let failures = record.failures();
            assert_eq!((failures.len(), failures[0].origin), (1, Origin::Logon));
            connection.wait_closed(SOON).unwrap();
        }
    }
}

/// `api-surface` 5: what is sent, and what the answer tells.
#[test]
fn a_logon_tells_and_learns_who_is_who() {
    let (client, _record, peer, connection) = connected("alice:p1@");
    assert_eq!(client.server_version().number(), 0);
    assert_eq!((client.name_hash(), client.name_hash_value()), (String::new(), 0));
    client.set_logon_correlation_data("YWJj").unwrap();
    let options = LogonOptions::new().ack_conflation(Duration::from_millis(100));
    let logon = begin(&client, |client| client.logon_with(&in_time().options(options)));
    let answer = LogonAck::success().version("5.3.4.100").options("connection_name=c-7").sequence(42);
    let frame = connection.logon(&answer, SOON).unwrap();
    logon.wait().unwrap();
    for (key, value) in [
        ("client_name", "c"),
        ("user_id", "alice"),
        ("pw", "p1"),
        ("mt", "json"),
        ("a", "processed"),
        ("x", "YWJj"),
        ("o", "ack_conflation=100ms"),
    ] {
        assert_eq!(frame.header(key), Some(value), "{key}");
    }
    assert_eq!(client.server_version().to_string(), "5.3.4.100");
    assert_eq!(client.name_hash_value(), LogonAck::NAME_HASH);
    assert_eq!(client.name_hash(), LogonAck::NAME_HASH.to_string());
    assert_eq!(client.connection_name(), "c-7");
    let info = client.connection_info();
    let host = peer.address().unwrap();
    assert_eq!(info.get("client.username"), Some("alice"));
    assert_eq!(info.get("client.name"), Some("c"));
    assert!(info.get("client.uri").unwrap().contains(&host.to_string()), "{info:?}");
    client.close();
    assert_eq!((client.server_version().number(), client.name_hash_value()), (0, 0));
}

/// `api-surface` 5: one time limit for all of it, whatever the server answers; a logon that is too late is a failure.
#[test]
fn a_logon_that_is_not_answered_in_time_ends_the_connection() {
    for retries in [false, true] {
        let (client, record, _peer, connection) = connected("");
        let limit = 3 * A_WHILE;
        let start = Instant::now();
        let logon = begin(&client, move |client| {
            client.logon_with(&Logon::new().timeout(limit).authenticator(Notes::default()))
        });
        let frame = connection.expect("logon", SOON).unwrap();
        if retries {
            connection.reply(&LogonAck::retry("u", "p").answer(&frame)).unwrap();
        }
        let (outcome, ended) = logon.ended();
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut);
        let took = ended - start;
        assert!(took >= limit && took < limit + limit / 5 + A_WHILE, "{took:?}");
        connection.wait_closed(SOON).unwrap();
        assert_eq!(record.states(), [Connected, Disconnected]);
    }
}

/// `api-surface` 5: only one logon on a connection is legal; the server says so.
#[test]
fn a_second_logon_is_refused_by_the_server_and_ends_the_connection() {
    let scene = Scene::logged_on("c");
    let logon = scene.begin(|client| client.logon_with(&in_time()));
    scene.connection.logon(&LogonAck::failure("duplicate logon attempt"), SOON).unwrap();
    assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::DuplicateLogon);
    assert_eq!(scene.record.states(), [Connected, LoggedOn, Disconnected]);
}

/// `api-surface` 5, section 6: a failed logon releases whoever waited for its end, and ends what was placed before.
#[test]
fn a_failed_logon_releases_everybody_and_ends_streams() {
    let (client, _record, _peer, connection) = connected("");
    let stream = begin(&client, |client| client.subscribe("t", ""));
    connection.expect("subscribe", SOON).unwrap();
    connection.reply_ok().unwrap();
    let mut stream = stream.wait().unwrap();
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.expect("logon", SOON).unwrap();
    let publish = begin(&client, |client| client.publish("t", "x"));
    assert!(publish.is_waiting());
    connection.reply_failure("not entitled").unwrap();
    assert_eq!(logon.wait().unwrap_err().kind(), ErrorKind::NotEntitled);
    assert_eq!(publish.wait().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(stream.next_timeout(SOON).unwrap().unwrap_err().kind(), ErrorKind::Disconnected);
    assert!(stream.next_timeout(SOON).is_none());
}

/// The client is closed while a logon waits for its answer.
#[test]
fn closing_ends_a_logon_that_is_under_way() {
    let (client, record, _peer, connection) = connected("");
    let logon = begin(&client, |client| client.logon_with(&in_time()));
    connection.expect("logon", SOON).unwrap();
    begin(&client, Client::close).at_once();
    assert_eq!(logon.at_once().unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(record.states(), [Connected, Disconnected, ConnectionState::Shutdown]);
}

/// Two threads log on at the same time: the second waits, and is told by the server.
#[test]
fn logons_of_two_threads_follow_each_other() {
    let (client, _record, _peer, connection) = connected("");
    let logons = [(); 2].map(|()| begin(&client, |client| client.logon_with(&in_time())));
    connection.expect("logon", SOON).unwrap();
    assert_eq!(connection.frames().len(), 1);
    connection.reply_ok().unwrap();
    connection.expect(Expectation::command("logon"), SOON).unwrap();
    connection.reply_failure("duplicate logon attempt").unwrap();
    let mut outcomes = logons.map(|logon| logon.wait().map_err(|e| e.kind()));
    outcomes.sort_by_key(Result::is_err);
    assert_eq!(outcomes, [Ok(()), Err(ErrorKind::DuplicateLogon)]);
}

/// T-11, section 12: a name, a core or a priority for each receive thread.
#[test]
fn the_thread_callbacks_run_first_and_last_on_every_receive_thread() {
    let notes = Notes::default();
    let thread = || std::thread::current().name().unwrap_or_default().to_owned();
    let scene = Scene::prepared(Client::builder("c"), |client| {
        let (created, exiting) = (notes.clone(), notes.clone());
        client.set_thread_created_callback(move || drop(created.note("created", &thread(), "")));
        client.set_thread_exiting_callback(move || drop(exiting.note("exiting", &thread(), "")));
    });
    scene.client.close();
    assert_eq!(*notes.0.lock(), ["created amps-rx-c ", "exiting amps-rx-c "]);
}
