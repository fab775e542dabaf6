//! What a program that uses the library sees of the faults that a server can be given.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::client::{Record, inbox};
use amps_client::testing::{Damage, Expectation, Fault, Frame, Gate, Server, When};
use amps_client::{
    AckType, Authenticator, Client, Command, CommandType, ConnectionState, ErrorKind, Logon, Message, Result,
};

const SOON: Duration = Duration::from_secs(10);

/// A server, and a client that is logged on to it.
fn scene() -> (Server, Client, Record) {
    let server = Server::quick().expect("a server");
    let (client, record) = client(&server);
    (server, client, record)
}

fn client(server: &Server) -> (Client, Record) {
    let client = Client::builder("desk").build().expect("a client");
    let record = Record::of(&client);
    client.connect(&server.uri("json")).expect("the server accepts");
    client.logon().expect("the server lets it in");
    (client, record)
}

/// Cut while subscribing.
#[test]
fn a_command_that_is_cut_off_fails_as_disconnected() {
    let cuts = [
        Fault::close().when(When::receives("subscribe")),
        Fault::close_unanswered().when(When::receives("subscribe")),
        Fault::reset().when(When::receives("subscribe")),
        Fault::truncate(2).when(When::sends("ack")),
        Fault::truncate(20).when(When::receives("subscribe")),
    ];
    for cut in cuts {
        let (server, client, record) = scene();
        let text = format!("{cut:?}");
        server.fault(cut);
        assert_eq!(client.subscribe("t", "").unwrap_err().kind(), ErrorKind::Disconnected, "{text}");
        record.wait_for_states(&[
            ConnectionState::Connected,
            ConnectionState::LoggedOn,
            ConnectionState::Disconnected,
            ConnectionState::Shutdown,
        ]);
    }
}

/// Garbage ends the connection, and the exception listener is told of the stream.
#[test]
fn garbage_is_reported_and_ends_the_connection() {
    for damage in [Damage::UnclosedHeader, Damage::LengthTooShort, Damage::LengthHuge, Damage::RecordTooLong]
    {
        let (server, client, record) = scene();
        server.publish("sow/orders", r#"{"id":1}"#).unwrap();
        let fault = server.fault(Fault::damage(damage).when(When::receives("sow")));
        let outcome: Result<Vec<_>> = client.sow("sow/orders", "").and_then(Iterator::collect);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Disconnected, "{damage:?}");
        record.wait_for_failure(ErrorKind::Stream, "");
        assert_eq!(fault.fired(), 1, "{damage:?}");
    }
}

/// What a later server may say is no reason to hang up.
#[test]
fn what_a_client_does_not_know_it_passes_over() {
    for damage in [Damage::UnknownKey, Damage::UnknownCommand, Damage::NoSubIds, Damage::UnknownSubId] {
        let (server, client, record) = scene();
        let (handler, messages) = inbox();
        client.subscribe_async("t", "", handler).unwrap();
        server.fault(Fault::damage(damage));
        for payload in ["a", "b"] {
            server.publish("t", payload).unwrap();
        }
        let known = damage == Damage::UnknownKey;
        let expected = if known { &["a", "b"][..] } else { &["b"][..] };
        assert_eq!(messages.payloads(expected.len()), expected, "{damage:?}");
        assert_eq!(record.states(), [ConnectionState::Connected, ConnectionState::LoggedOn], "{damage:?}");
    }
}

/// Silence: the heartbeats stop, and the connection with them.
#[test]
fn a_silent_server_counts_as_lost() {
    fn falls_silent(silence: Fault) {
        let (server, client, record) = scene();
        client.set_heartbeat(Duration::from_secs(1)).unwrap();
        let _fault = server.fault(silence);
        record.wait_for_states(&[
            ConnectionState::Connected,
            ConnectionState::LoggedOn,
            ConnectionState::HeartbeatInitiated,
            ConnectionState::Disconnected,
            ConnectionState::Shutdown,
        ]);
    }
    thread::scope(|scope| {
        for silence in [Fault::freeze(), Fault::stop_writing(), Fault::mute_heartbeats()] {
            scope.spawn(|| falls_silent(silence));
        }
    });
}

/// A server that does not answer.
#[test]
fn a_command_without_an_answer_times_out() {
    let (server, client, _) = scene();
    server.fault(Fault::swallow().when(When::receives("subscribe")));
    let command = || Command::subscribe("t").timeout(Duration::from_millis(50));
    assert_eq!(client.execute(command()).unwrap_err().kind(), ErrorKind::TimedOut);
    // A server whose answer comes too late.
    let late =
        server.fault(Fault::delay().when(When::sends(Expectation::command("ack").header("a", "processed"))));
    assert_eq!(client.execute(command()).unwrap_err().kind(), ErrorKind::TimedOut);
    late.release();
    assert!(client.execute(command().timeout(SOON)).is_ok());
}

/// Refusals for any reason, as typed errors.
#[test]
fn a_refusal_has_the_kind_of_its_reason() {
    let (server, client, _) = scene();
    let table = [
        ("bad filter", ErrorKind::BadFilter),
        ("subid in use", ErrorKind::SubIdInUse),
        ("not entitled", ErrorKind::NotEntitled),
        ("a reason that no server has", ErrorKind::Command),
    ];
    for (reason, kind) in table {
        server.fault(Fault::refuse(reason).when(When::receives("subscribe")));
        let error = client.subscribe("t", "").unwrap_err();
        assert_eq!((error.kind(), error.reason()), (kind, Some(reason)));
    }
}

/// Gives the password that the server asks for.
struct Challenged;

impl Authenticator for Challenged {
    fn authenticate(&self, _user: &str, _password: &str) -> Result<String> {
        Ok("first".to_owned())
    }

    fn retry(&self, _user: &str, challenge: &str) -> Result<String> {
        Ok(format!("{challenge}, please"))
    }

    fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
        Ok(())
    }
}

/// Logon `retry`.
#[test]
fn an_authenticator_is_asked_again_when_the_server_says_so() {
    let server = Server::quick().unwrap();
    server.fault(Fault::retry_logon("alice", "second").times(2));
    let client = Client::builder("desk").build().unwrap();
    client.connect(&server.uri("json")).unwrap();
    let second = Expectation::command("logon").header("pw", "second, please").header("user_id", "alice");
    let asked = server.fault(Fault::delay().when(When::receives(second)).lasting(Duration::ZERO).always());
    client.logon_with(&Logon::new().authenticator(Challenged)).unwrap();
    assert_eq!((asked.fired(), server.sessions()[0].user_id.as_str()), (1, "alice"));
}

/// However the bytes come.
#[test]
fn messages_arrive_whole_however_their_bytes_come() {
    for pace in [
        Fault::write_in_chunks(1),
        Fault::merge_writes(20),
        Fault::write_slowly(64, Duration::from_millis(1)),
    ] {
        let (server, client, _) = scene();
        let (handler, messages) = inbox();
        client.subscribe_async("t", "", handler).unwrap();
        server.fault(pace);
        let payloads: Vec<_> = (0..20).map(|number| format!("{number:030}")).collect();
        for payload in &payloads {
            server.publish("t", payload).unwrap();
        }
        assert_eq!(messages.payloads(20), payloads);
    }
}

/// A server that does not read: the publisher waits, and goes on when it reads again.
#[test]
fn a_publisher_waits_for_a_server_that_does_not_read() {
    let (server, client, _) = scene();
    let fault = server.fault(Fault::stop_reading());
    let (sender, done) = mpsc::channel();
    let publisher = thread::spawn(move || {
        for _ in 0..200 {
            client.publish("t", vec![b'x'; 100_000])?;
        }
        sender.send(()).ok();
        client.publish_flush()
    });
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err());
    fault.release();
    publisher.join().unwrap().unwrap();
    assert!(server.counters().frames_in > 200);
}

/// A client that wants its connection back meets a listener that is closed for a while.
#[test]
fn a_client_comes_back_when_the_listener_is_open_again() {
    let (server, client, record) = scene();
    let uri = server.uri("json");
    let reconnects =
        client.set_disconnect_handler(move |client: &Client, _: &amps_client::Error| -> Result<()> {
            client.connect(&uri)?;
            client.logon()
        });
    reconnects.unwrap();
    let closed = server.fault(Fault::refuse_connections().when(When::receives("subscribe")));
    server.fault(Fault::close().when(When::receives("subscribe")));
    assert_eq!(client.subscribe("t", "").unwrap_err().kind(), ErrorKind::Disconnected);
    record.wait_for_failure(ErrorKind::HandlerFailed, "");
    record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    closed.release();
    client.publish("t", "has the handler try again").unwrap();
    client.publish_flush().unwrap();
    assert_eq!(server.sessions().len(), 1);
}

/// A moment that only a gate can make: the query is done, and its end not told.
#[test]
fn a_query_has_its_records_before_its_end() {
    let (server, client, _) = scene();
    server.publish("sow/orders", r#"{"id":1}"#).unwrap();
    let gate = server.gate(Gate::BeforeGroupEnd);
    let mut answer = client.sow("sow/orders", "").unwrap();
    let commands = |count, answer: &mut dyn Iterator<Item = Result<Message>>| {
        answer.take(count).map(|message| message.unwrap().command()).collect::<Vec<_>>()
    };
    assert_eq!(commands(2, &mut answer), [CommandType::GroupBegin, CommandType::Sow]);
    gate.wait_reached(SOON).unwrap();
    let too_early = answer.try_next().expect("not ended").unwrap_err();
    assert_eq!(too_early.kind(), ErrorKind::TimedOut);
    gate.open();
    assert_eq!(commands(9, &mut answer), [CommandType::GroupEnd]);
}

/// A duplicated `completed` is nobody's business.
#[test]
fn a_frame_too_many_does_no_harm() {
    let (server, client, record) = scene();
    server.publish("sow/orders", r#"{"id":1}"#).unwrap();
    let ack = Expectation::command("ack");
    server.fault(Fault::repeat().when(When::sends(ack.clone().header("a", "completed"))));
    server.fault(Fault::repeat().when(When::sends(ack.header("a", "processed"))));
    server.fault(
        Fault::insert(Frame::encode(r#"{"c":"ack","cid":"nobody","a":"processed"}"#, ""))
            .when(When::sends("group_begin")),
    );
    let command = Command::sow("sow/orders").ack_type(AckType::COMPLETED);
    assert!(
        client
            .execute(command)
            .unwrap()
            .filter(|m| m.as_ref().is_ok_and(|m| m.command() == CommandType::Sow))
            .count()
            == 1
    );
    client.publish_flush().unwrap();
    assert!(record.failures().is_empty(), "{:?}", record.story());
}
