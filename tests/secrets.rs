//! A password is sent to the server, and appears nowhere else.

mod support;

use std::error::Error as _;
use std::fmt::{Debug, Display};

use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    Authenticator, Client, ConnectionInfo, Error, ErrorKind, GlobalKind, Logon, Message, Result, Uri,
};
use support::client::*;
use support::log_capture::Capture;

/// In the connection string, from an authenticator, from the server, and from an authenticator again.
const SECRETS: [&str; 4] = ["s3cret-uri", "s3cret-ticket", "s3cret-challenge", "s3cret-response"];

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    for secret in SECRETS.iter().chain(&["s3cret"]) {
        assert!(!text.contains(secret), "{what} shows a secret: {text}");
    }
}

#[track_caller]
fn assert_clean_value(what: &str, value: &(impl Debug + Display)) {
    assert_clean(what, &value.to_string());
    assert_clean(what, &format!("{value:?} {value:#?}"));
}

#[track_caller]
fn assert_clean_error(what: &str, error: &Error) {
    assert_clean_value(what, error);
    for context in [error.reason(), error.uri(), error.topic(), error.command_id()] {
        assert_clean(what, context.unwrap_or_default());
    }
    let mut source = error.source();
    while let Some(cause) = source {
        assert_clean(what, &format!("{cause} {cause:?}"));
        source = cause.source();
    }
}

fn assert_clean_info(info: &ConnectionInfo) {
    assert_clean("the connection info", &format!("{info:?}"));
    info.iter().for_each(|(key, value)| assert_clean(key, value));
}

/// Gives passwords that nobody must see.
struct Tickets;

impl Authenticator for Tickets {
    fn authenticate(&self, _: &str, password: &str) -> Result<String> {
        assert_eq!(password, SECRETS[0]);
        Ok(SECRETS[1].to_owned())
    }

    fn retry(&self, _: &str, challenge: &str) -> Result<String> {
        assert_eq!(challenge, SECRETS[2]);
        Ok(SECRETS[3].to_owned())
    }

    fn completed(&self, _: &str, _: &str, _: &str) -> Result<()> {
        Ok(())
    }
}

fn secret_uri(peer: &ScriptedPeer) -> String {
    peer.uri("json").replace("tcp://", &format!("tcp://alice:{}@", SECRETS[0]))
}

/// A client that logs on with all four secrets, and the outcome for this last answer.
fn log_on_with_secrets(answer: &LogonAck) -> (Client, Record, ScriptedPeer, PeerConnection, Result<()>) {
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    let record = Record::of(&client);
    client.set_global_handler(GlobalKind::Ack, |message: &Message| {
        assert_clean("an acknowledgement", &format!("{message:?} {message:#?}"));
    });
    client.connect(&secret_uri(&peer)).unwrap();
    let connection = peer.accept(SOON).unwrap();
    let settings = in_time().authenticator(Tickets);
    assert_clean("logon settings", &format!("{settings:?}"));
    let logon = begin(&client, move |client| client.logon_with(&settings));
    let first = connection.logon(&LogonAck::retry("bob", SECRETS[2]), SOON).unwrap();
    let second = connection.logon(answer, SOON).unwrap();
    assert_eq!((first.header("pw"), second.header("pw")), (Some(SECRETS[1]), Some(SECRETS[3])));
    let outcome = logon.wait();
    (client, record, peer, connection, outcome)
}

/// E of section 1, `api-surface` 2, 10, 21 and 23: in nothing that can be printed, and in no record of the log.
#[test]
fn passwords_appear_in_nothing_that_can_be_printed() {
    let log = Capture::start();
    let (client, record, peer, connection, outcome) = log_on_with_secrets(&LogonAck::success());
    outcome.unwrap();
    assert_clean("a client", &format!("{client:?} {:?}", client.downgrade()));
    assert_clean("the URI of a client", &client.uri().unwrap());
    assert_clean_info(&client.connection_info());
    assert_clean_error("connecting twice", &client.connect(&secret_uri(&peer)).unwrap_err());
    connection.close();
    record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    peer.refuse().unwrap();
    assert_clean_error("a refused connection", &client.connect(&secret_uri(&peer)).unwrap_err());
    assert_clean_error("sending", &client.publish("t", "x").unwrap_err());

    for reason in ["auth failure", "not entitled", "name in use", "something else", ""] {
        let (client, record, _peer, _connection, outcome) = log_on_with_secrets(&LogonAck::failure(reason));
        assert_clean_error("a refused logon", &outcome.unwrap_err());
        for failure in record.failures() {
            assert_clean_error("a reported logon", &failure.error);
        }
        assert_clean_info(&client.connection_info());
    }
    for record in log.all() {
        assert_clean("the log", &record.text);
    }
    assert!(log.all().len() > 10, "the log was captured");
}

/// The error names the connection string, without its password, whatever is wrong with it.
#[test]
fn a_connection_string_that_cannot_be_read_is_named_without_its_password() {
    let client = Client::builder("c").build().unwrap();
    let table = [
        "tcp://alice:s3cret@h:99999/amps/json",
        "tcp://alice:s3cret@h/amps/json",
        "tcp://alice:s3cret@:1/amps/json",
        "tcp://alice:s3cret@h:1",
        "tcp://alice:s3cret@h:1/nvfix",
        "tcp://alice:s3cret@h:1/amps/json?bogus=1",
        "tcp://alice:s3cret@h:1/amps/json?tcp_nodelay=maybe",
        "tcp://alice:s3cret@h:1/amps/js\u{1}on",
        "tcp://alice:s3cret%zz@h:1/amps/json",
        "tcp://alice:s3cret@no-such-host.invalid:1/amps/json",
        "tcps://alice:s3cret@h:1/amps/json",
        "foo://alice:s3cret@h:1/amps/json",
        "tcp:/alice:s3cret@h:1/amps/json",
        "tcp:alice:s3cret@h:1/amps/json",
        "alice:s3cret@h:1/amps/json",
        "unix://alice:s3cret@localhost:0/amps/json?path=/no/such/socket",
    ];
    for uri in table {
        let error = client.connect(uri).unwrap_err();
        assert_clean_error(uri, &error);
        if let Ok(uri) = Uri::parse(uri) {
            assert_clean_value("a URI", &uri);
        }
    }
}

/// An authenticator that fails is reported with what it says, and with nothing that it was given.
#[test]
fn a_failing_authenticator_does_not_leak_what_it_was_given() {
    struct Fails;
    impl Authenticator for Fails {
        fn authenticate(&self, _: &str, _: &str) -> Result<String> {
            Err(Error::new(ErrorKind::Authentication, "the ticket service is down"))
        }
        fn retry(&self, _: &str, password: &str) -> Result<String> {
            Ok(password.to_owned())
        }
        fn completed(&self, _: &str, _: &str, _: &str) -> Result<()> {
            Ok(())
        }
    }
    let peer = ScriptedPeer::start().unwrap();
    let client = Client::builder("c").build().unwrap();
    client.connect(&secret_uri(&peer)).unwrap();
    let error = client.logon_with(&Logon::new().authenticator(Fails)).unwrap_err();
    assert_clean_error("a failing authenticator", &error);
    assert!(error.to_string().contains("the ticket service is down"));
}
