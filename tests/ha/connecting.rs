//! How an `HAClient` gets its connection, and when it gives up (`resilience` section 7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::*;
use crate::support::ha::*;
use amps_client::testing::{Expectation, LogonAck, ScriptedPeer};
use amps_client::{
    Authenticator, Client, Command, ConnectionInfo, ConnectionState, DefaultServerChooser, Error, ErrorKind,
    ExponentialDelayStrategy, HAClient, Origin, ReconnectDelayStrategy, Result, ServerChooser,
};

use ConnectionState::{Connected, Disconnected, LoggedOn, Resubscribed, Shutdown};

/// A peer that nobody can reach, but whose port is its own.
fn unreachable() -> ScriptedPeer {
    let peer = ScriptedPeer::start().unwrap();
    peer.refuse().unwrap();
    peer
}

/// HA-2: before there is a connection and while there is one.
#[test]
fn what_an_ha_client_does_by_itself_cannot_be_done_by_hand() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder);
    let plain: &Client = &client;
    let refused = |logon: ErrorKind| {
        let error = plain.connect(&peer.uri("json")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("connect_and_logon"), "{error}");
        assert_eq!(plain.logon().unwrap_err().kind(), logon);
        assert_eq!(plain.logon_with(&in_time()).unwrap_err().kind(), logon);
        let error = plain.set_disconnect_handler(|_: &Client, _: &Error| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    };
    refused(ErrorKind::Disconnected);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();
    refused(ErrorKind::AlreadyConnected);
    settle(&client, &first);

    // The recovery is what it was.
    first.close();
    let connection = admitted(&peer);
    settle(&client, &connection);
    client.close();
    refused(ErrorKind::Disconnected);
}

/// HA-2, HA-5: nothing is to be done, and nobody is asked.
#[test]
fn connecting_while_there_is_a_connection_does_nothing() {
    let peer = ScriptedPeer::start().unwrap();
    let (chooser, choices) = Recording::of(&[&peer]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    choices.take();
    for _ in 0..3 {
        client.connect_and_logon().unwrap();
        client.connect_and_logon_timeout(Duration::ZERO).unwrap();
    }
    settle(&client, &connection);
    assert!(choices.take().is_empty());
    assert_eq!(record.states(), [Connected, LoggedOn, Resubscribed]);
    assert_eq!(peer.connections(), 1);
}

/// Offers what it is told to, and says why it offers nothing.
#[derive(Clone, Default)]
struct Sometimes {
    uri: String,
    open: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Sometimes {
    fn of(peer: &ScriptedPeer) -> Sometimes {
        Sometimes { uri: peer.uri("json"), ..Sometimes::default() }
    }
}

impl ServerChooser for Sometimes {
    fn current_uri(&mut self) -> Option<String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.open.load(Ordering::SeqCst).then(|| self.uri.clone())
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        DefaultServerChooser::new().current_authenticator()
    }

    fn report_failure(&mut self, _error: &Error, _info: &ConnectionInfo) {}

    fn report_success(&mut self, _info: &ConnectionInfo) {}

    fn error(&self) -> String {
        "the exchange is closed".to_owned()
    }
}

/// 73, HA-5, HA-6, HA-16.
#[test]
fn without_a_server_to_go_to_connecting_fails_and_says_why() {
    let peer = ScriptedPeer::start().unwrap();
    let empty = |_: ()| Some(String::new());
    type Offer = fn(()) -> Option<String>;
    struct Offering(Offer);
    impl ServerChooser for Offering {
        fn current_uri(&mut self) -> Option<String> {
            (self.0)(())
        }
        fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
            panic!("without a server nobody needs a password")
        }
        fn report_failure(&mut self, _error: &Error, _info: &ConnectionInfo) {}
        fn report_success(&mut self, _info: &ConnectionInfo) {}
        fn error(&self) -> String {
            "the exchange is closed".to_owned()
        }
    }
    let table = [
        (HAClient::builder("ha"), "servers"),
        (HAClient::builder("ha").servers([""; 0]), "no AMPS instances available"),
        (HAClient::builder("ha").server_chooser(Sometimes::of(&peer)), "the exchange is closed"),
        (HAClient::builder("ha").server_chooser(Offering(empty)), "the exchange is closed"),
    ];
    for (builder, text) in table {
        let client = builder.build().unwrap();
        let record = Record::of(&client);
        for _ in 0..2 {
            let error = client.connect_and_logon().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
            assert!(error.to_string().contains(text), "{error} does not say {text}");
            assert!(client.is_disconnected() && !client.is_connected());
        }
        assert_eq!(record.story(), ["Shutdown"]);
    }
    assert_eq!(peer.connections(), 0);
}

/// 74, 24, X-9, HA-6, HA-7, HA-12, HA-15, HA-25: a failed connect is told to the chooser and to nobody else.
#[test]
fn a_server_that_cannot_be_reached_is_told_to_the_chooser_only() {
    let (a, b) = (unreachable(), ScriptedPeer::start().unwrap());
    let (chooser, choices) = Recording::of(&[&a, &b]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let connection = admitted(&b);
    waiting.wait().unwrap();
    let told = ["uri", "authenticator", "failure ConnectionRefused A", "uri", "authenticator", "success B"];
    assert_eq!(choices.take(), told);
    assert_eq!(record.story(), ["Connected", "LoggedOn", "Resubscribed"]);
    assert_eq!(client.uri(), Some(b.uri("json")));
    settle(&client, &connection);
}

/// 75, HA-27: first the same server again; if it does not come back, the next one, and round.
#[test]
fn after_a_loss_the_same_server_is_tried_first_and_then_the_others_in_turn() {
    let (a, b, c) =
        (ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    let (chooser, choices) = Recording::of(&[&a, &b, &c]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    a.refuse().unwrap();
    let waiting = connecting(&client);
    let first = admitted(&b);
    waiting.wait().unwrap();
    choices.take();

    first.close();
    let second = admitted(&b);
    settle(&client, &second);
    assert_eq!(choices.take(), ["failure Disconnected B", "uri", "authenticator", "success B"]);

    b.refuse().unwrap();
    c.refuse().unwrap();
    a.listen_again().unwrap();
    second.reset();
    let third = admitted(&a);
    settle(&client, &third);
    let attempt = |outcome| ["uri", "authenticator", outcome];
    let mut told = vec!["failure Disconnected B"];
    told.extend(attempt("failure ConnectionRefused B"));
    told.extend(attempt("failure ConnectionRefused C"));
    told.extend(attempt("success A"));
    assert_eq!(choices.take(), told);
}

/// 76, S-7, X-8, HA-15, HA-23: the loop itself never gives up on a refusal.
#[test]
fn a_refused_logon_is_a_failed_attempt_like_any_other() {
    let peer = ScriptedPeer::start().unwrap();
    let (chooser, choices) = Recording::of(&[&peer]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    for reason in ["name in use", "auth failure", "not entitled"] {
        answered(&peer, &LogonAck::failure(reason)).wait_closed(SOON).unwrap();
    }
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    let attempt = ["Connected", "Disconnected"];
    let story: Vec<String> =
        record.story().into_iter().map(|event| event.split(':').next().unwrap().to_owned()).collect();
    let refused = |kind| [attempt.as_slice(), &[kind]].concat();
    let all = [refused("NameInUse"), refused("Authentication"), refused("NotEntitled")].concat();
    assert_eq!(story, [all.as_slice(), &["Connected", "LoggedOn", "Resubscribed"]].concat());
    assert!(record.failures().iter().all(|failure| failure.origin == Origin::Logon));
    let failures: Vec<_> = choices.take().into_iter().filter(|c| c.starts_with("failure")).collect();
    assert_eq!(failures, ["failure NameInUse A", "failure Authentication A", "failure NotEntitled A"]);
    settle(&client, &connection);
}

/// HA-15, HA-38: a logon that nobody answers, and one on a connection that goes.
#[test]
fn a_logon_that_times_out_or_loses_its_connection_is_a_failed_attempt() {
    let (a, b, c) =
        (ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    let (chooser, choices) = Recording::of(&[&a, &b, &c]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    assert_eq!(client.logon_timeout(), Some(Duration::from_secs(10)));
    client.set_logon_timeout(Some(A_WHILE));
    let waiting = connecting(&client);
    let silent = a.accept(SOON).unwrap();
    silent.wait_closed(SOON).unwrap();
    client.set_logon_timeout(None);
    let cut = b.accept(SOON).unwrap();
    cut.expect("logon", SOON).unwrap();
    cut.close();
    // A loss is no reason to leave a server.
    let again = b.accept(SOON).unwrap();
    again.logon(&LogonAck::failure("name in use"), SOON).unwrap();
    let connection = admitted(&c);
    waiting.wait().unwrap();
    let told = choices.take();
    let outcomes: Vec<_> = told.iter().filter(|c| !matches!(c.as_str(), "uri" | "authenticator")).collect();
    assert_eq!(
        outcomes,
        ["failure TimedOut A", "failure Disconnected B", "failure NameInUse B", "success C"]
    );
    settle(&client, &connection);
}

/// 77, D-11, HA-6, HA-17, X-8.
#[test]
fn a_chooser_without_a_server_ends_the_reconnecting_until_a_command_asks_again() {
    let peer = ScriptedPeer::start().unwrap();
    let chooser = Sometimes::of(&peer);
    chooser.open.store(true, Ordering::SeqCst);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser.clone()));
    let record = Record::of(&client);
    let waiting = connecting(&client);
    let first = admitted(&peer);
    waiting.wait().unwrap();

    chooser.open.store(false, Ordering::SeqCst);
    first.close();
    record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let story = record.story();
    assert_eq!(story[..4], ["Connected", "LoggedOn", "Resubscribed", "Disconnected"]);
    assert!(story[4].starts_with("Connection:") && story[4].contains("the exchange is closed"), "{story:?}");
    assert_eq!(story[5], "Shutdown");
    assert!(story[6].starts_with("Disconnected: reconnect failed"), "{story:?}");
    assert_eq!(story.len(), 7);
    assert!(!client.is_disconnected(), "nobody has closed it");

    let asked = chooser.asked.load(Ordering::SeqCst);
    assert_eq!(client.publish("t", "lost").unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(chooser.asked.load(Ordering::SeqCst), asked + 1);
    assert_eq!(record.states().iter().filter(|state| **state == Shutdown).count(), 1);

    chooser.open.store(true, Ordering::SeqCst);
    let publish = begin_ha(&client, |client| client.publish("t", "sent"));
    let connection = admitted(&peer);
    publish.wait().unwrap();
    assert_eq!(connection.expect("publish", SOON).unwrap().payload(), b"sent");
    assert_eq!(record.states()[5..], [Connected, LoggedOn, Resubscribed]);
}

/// 78, HA-8, HA-16, HA-36.
#[test]
fn when_the_time_for_retries_is_used_up_connecting_fails_and_may_be_tried_again() {
    let peer = unreachable();
    let strategy = ExponentialDelayStrategy::builder()
        .initial(Duration::from_millis(20))
        .max_retry_time(Duration::from_millis(700))
        .build()
        .unwrap();
    let client = ha_client(&[&peer], |builder| builder.reconnect_delay_strategy(strategy));
    let record = Record::of(&client);
    let start = Instant::now();
    let error = client.connect_and_logon().unwrap_err();
    let took = start.elapsed();
    assert_eq!(error.kind(), ErrorKind::ReconnectMaximumExceeded);
    assert!(took >= Duration::from_millis(650) && took < Duration::from_millis(1500), "{took:?}");
    assert_eq!(record.story(), ["Shutdown"]);

    peer.listen_again().unwrap();
    let waiting = connecting(&client);
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    settle(&client, &connection);
    assert_eq!(record.states(), [Shutdown, Connected, LoggedOn, Resubscribed]);
}

/// HA-8, HA-17: in a reconnect the strategy ends the loop too, and everybody is told.
#[test]
fn a_strategy_that_gives_up_in_a_reconnect_is_reported_before_shutdown() {
    struct Once(bool);
    impl ReconnectDelayStrategy for Once {
        fn connect_wait_duration(&mut self, uri: &str) -> Result<Duration> {
            match std::mem::replace(&mut self.0, true) {
                false => Ok(Duration::ZERO),
                true => {
                    Err(Error::new(ErrorKind::ReconnectMaximumExceeded, format!("once is enough: {uri}")))
                }
            }
        }
        fn reset(&mut self) {}
    }
    let scene = HaScene::of(|builder| builder.reconnect_delay_strategy(Once(false)));
    scene.connection.close();
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let story = scene.record.story();
    assert!(story[4].starts_with("ReconnectMaximumExceeded: once is enough"), "{story:?}");
    assert_eq!((story[3].as_str(), story[5].as_str()), ("Disconnected", "Shutdown"));
    let error = scene.client.connect_and_logon().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReconnectMaximumExceeded);
}

/// HA-8, HA-13, HA-37: the first attempt at a server waits for nothing, the others for the delay, and a success starts
/// anew.
#[test]
fn each_attempt_waits_as_long_as_the_strategy_says() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder.reconnect_delay(Duration::from_millis(250)));
    let shown = |client: &HAClient| {
        client.connection_info().get("haClient.reconnectDelay").map(str::to_owned).unwrap()
    };
    assert_eq!(shown(&client), "0");
    let start = Instant::now();
    let waiting = connecting(&client);
    answered(&peer, &LogonAck::failure("name in use")).wait_closed(SOON).unwrap();
    assert!(start.elapsed() < Duration::from_millis(240), "{:?}", start.elapsed());
    let connection = admitted(&peer);
    waiting.wait().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    assert_eq!(shown(&client), "250");
    let lost = Instant::now();
    connection.close();
    let connection = admitted(&peer);
    settle(&client, &connection);
    assert!(lost.elapsed() < Duration::from_millis(240), "{:?}", lost.elapsed());
    assert_eq!(shown(&client), "0");
}

/// 84, HA-29, HA-30, HA-31.
#[test]
fn a_server_that_asks_for_another_password_gets_it_from_the_authenticator() {
    struct Challenged(Arc<parking_lot::Mutex<Vec<String>>>);
    impl Authenticator for Challenged {
        fn authenticate(&self, user: &str, password: &str) -> Result<String> {
            self.0.lock().push(format!("authenticate {user} {password}"));
            Ok("first".to_owned())
        }
        fn retry(&self, user: &str, password: &str) -> Result<String> {
            self.0.lock().push(format!("retry {user} {password}"));
            Ok("second".to_owned())
        }
        fn completed(&self, user: &str, password: &str, reason: &str) -> Result<()> {
            self.0.lock().push(format!("completed {user} {password} {reason}"));
            Ok(())
        }
    }
    let peer = ScriptedPeer::start().unwrap();
    let calls = Arc::default();
    let mut chooser = DefaultServerChooser::new();
    let uri = peer.uri("json").replace("tcp://", "tcp://u1:p1@");
    chooser.add_with_authenticator(uri, Arc::new(Challenged(Arc::clone(&calls))));
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    let waiting = connecting(&client);
    let connection = peer.accept(SOON).unwrap();
    let logon = Expectation::command("logon");
    connection.expect(logon.clone().header("user_id", "u1").header("pw", "first"), SOON).unwrap();
    connection
        .reply(r#"{"c":"ack","cid":"{cid}","a":"processed","status":"retry","user_id":"u2","pw":"p2"}"#)
        .unwrap();
    connection.expect(logon.header("user_id", "u2").header("pw", "second"), SOON).unwrap();
    connection.reply_ok().unwrap();
    waiting.wait().unwrap();
    assert_eq!(calls.lock()[..2], ["authenticate u1 p1", "retry u2 p2"]);
    assert!(calls.lock()[2].starts_with("completed u2"), "{:?}", calls.lock());
    let info = client.connection_info();
    assert_eq!(info.get("client.username"), Some("u2"));
}

/// 86, HA-7, HA-29: whatever server the logon goes to.
#[test]
fn each_server_is_logged_on_to_with_its_own_authenticator() {
    struct Password(&'static str);
    impl Authenticator for Password {
        fn authenticate(&self, _user: &str, _password: &str) -> Result<String> {
            Ok(self.0.to_owned())
        }
        fn retry(&self, _user: &str, _password: &str) -> Result<String> {
            Err(ErrorKind::Authentication.into())
        }
        fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
            Ok(())
        }
    }
    let (a, b) = (ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    let mut chooser = DefaultServerChooser::new();
    for (peer, password) in [(&a, "for a"), (&b, "for b")] {
        let uri = peer.uri("json").replace("tcp://", "tcp://desk@");
        chooser.add_with_authenticator(uri, Arc::new(Password(password)));
    }
    let client =
        ha_client(&[], |builder| builder.server_chooser(chooser).logon_options("ack_conflation=100ms"));
    let waiting = connecting(&client);
    let with = |password: &str| {
        let logon = Expectation::command("logon").header("user_id", "desk").header("client_name", "ha");
        logon.header("pw", password).header("o", "ack_conflation=100ms")
    };
    let refused = a.accept(SOON).unwrap();
    refused.expect(with("for a"), SOON).unwrap();
    refused.reply_failure("name in use").unwrap();
    let accepted = b.accept(SOON).unwrap();
    accepted.expect(with("for b"), SOON).unwrap();
    accepted.reply_ok().unwrap();
    waiting.wait().unwrap();
    accepted.close();
    b.accept(SOON).unwrap().expect(with("for b"), SOON).unwrap();
}

/// HA-4.
#[test]
fn what_is_known_of_the_connection_includes_delay_limit_and_what_is_unpersisted() {
    let store = amps_client::MemoryPublishStore::new();
    let client = HAClient::builder("ha").servers([""; 0]).publish_store(store).build().unwrap();
    client.publish("t", "x").unwrap();
    client.set_logon_timeout(Some(Duration::from_millis(1500)));
    let info = client.connection_info();
    let shown: Vec<_> = info.iter().collect();
    let expected = [
        ("client.name", "ha"),
        ("client.uri", ""),
        ("client.username", ""),
        ("haClient.reconnectDelay", "0"),
        ("haClient.timeout", "1500"),
        ("publishStore.unpersistedCount", "1"),
    ];
    assert_eq!(shown, expected);
}

/// HA-2, decision 12: the text tells what became of each server.
#[test]
fn a_limited_attempt_ends_in_time_and_lists_the_failures_of_each_server() {
    let (dead, picky, silent) =
        (unreachable(), ScriptedPeer::start().unwrap(), ScriptedPeer::start().unwrap());
    let (chooser, _) = Recording::of(&[&dead, &picky, &silent]);
    let client = ha_client(&[], |builder| builder.server_chooser(chooser));
    let record = Record::of(&client);
    let limit = Duration::from_millis(600);
    let start = Instant::now();
    let waiting = begin_ha(&client, move |client| client.connect_and_logon_timeout(limit));
    let _refused = answered(&picky, &LogonAck::failure("name in use"));
    let _held = silent.accept(SOON).unwrap();
    let (outcome, at) = waiting.ended();
    let (error, took) = (outcome.unwrap_err(), at - start);
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(took >= limit && took < limit + Duration::from_millis(400), "{took:?}");
    let text = error.to_string();
    for (peer, failure) in [(&dead, "refused"), (&picky, "name in use"), (&silent, "did not answer")] {
        let uri = peer.uri("json");
        assert!(text.contains(&uri) && text.contains(failure), "{uri} {failure}: {text}");
    }
    assert_eq!(record.states().last(), Some(&Shutdown));
    assert!(client.is_disconnected());
}

/// HA-2: the limit holds for the subscriptions too, which have none of their own, and for a server that does not read.
#[test]
fn a_limited_attempt_ends_in_time_also_while_it_recovers() {
    for stuck_in_replay in [false, true] {
        let peer = ScriptedPeer::start().unwrap();
        let store = amps_client::MemoryPublishStore::new();
        let client = ha_client(&[&peer], |builder| builder.publish_store(store));
        let waiting = connecting(&client);
        let first = admitted(&peer);
        waiting.wait().unwrap();
        let subscribing =
            begin_ha(&client, |client| client.execute_async(Command::subscribe("t").sub_id("s"), |_: &_| {}));
        accept(&first, "subscribe");
        subscribing.wait().unwrap();
        client.close();
        if stuck_in_replay {
            let payload = vec![b'x'; 1 << 20];
            (0..32).for_each(|_| _ = client.publish("t", &payload).unwrap());
        }
        let start = Instant::now();
        let limit = Duration::from_millis(500);
        let waiting = begin_ha(&client, move |client| client.connect_and_logon_timeout(limit));
        let connection = peer.accept(SOON).unwrap();
        connection.expect("logon", SOON).unwrap();
        if stuck_in_replay {
            connection.stop_reading();
        }
        connection.reply_ok().unwrap();
        let (outcome, at) = waiting.ended();
        let took = at - start;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::TimedOut, "stuck in replay: {stuck_in_replay}");
        assert!(took >= limit && took < limit + Duration::from_millis(500), "{took:?}");
    }
}

/// HA-5: one thread connects, and the others wait for it.
#[test]
fn several_threads_that_connect_at_once_get_one_connection() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder);
    let record = Record::of(&client);
    let waiting: Vec<_> = (0..4).map(|_| connecting(&client)).collect();
    let connection = peer.accept(SOON).unwrap();
    connection.expect("logon", SOON).unwrap();
    assert!(waiting.iter().all(Pending::is_waiting));
    connection.reply_ok().unwrap();
    waiting.into_iter().for_each(|waiting| waiting.wait().unwrap());
    settle(&client, &connection);
    assert_eq!(record.story(), ["Connected", "LoggedOn", "Resubscribed"]);
    assert_eq!(peer.connections(), 1);
}

/// HA-5: whose time is over leaves the connecting to the other.
#[test]
fn a_thread_that_waits_for_another_one_to_connect_may_stop_waiting() {
    let peer = ScriptedPeer::start().unwrap();
    let client = ha_client(&[&peer], |builder| builder);
    let first = connecting(&client);
    let connection = peer.accept(SOON).unwrap();
    connection.expect("logon", SOON).unwrap();
    let error = client.connect_and_logon_timeout(A_WHILE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(!client.is_disconnected());
    connection.reply_ok().unwrap();
    first.wait().unwrap();
    settle(&client, &connection);
}

/// HA-5: the reconnecting is in the hands of the receive thread.
#[test]
fn connecting_in_an_outage_waits_for_the_reconnecting_that_is_under_way() {
    let mut scene = HaScene::logged_on();
    scene.connection.close();
    scene.connection = scene.peer.accept(SOON).unwrap();
    let waiting = scene.begin(|client| client.connect_and_logon());
    assert!(waiting.is_waiting());
    scene.connection.logon(&LogonAck::success(), SOON).unwrap();
    waiting.wait().unwrap();
    scene.settle();
    assert_eq!(scene.peer.connections(), 2);
}

/// Decision 11, HA-6, HA-26: a dead server among them does not keep bad credentials going.
#[test]
fn bad_credentials_end_the_first_connecting_with_the_refusal() {
    let (a, dead) = (ScriptedPeer::start().unwrap(), unreachable());
    let client = ha_client(&[&a, &dead], |builder| builder);
    let record = Record::of(&client);
    for _ in 0..2 {
        let waiting = connecting(&client);
        for _ in 0..2 {
            answered(&a, &LogonAck::failure("auth failure")).wait_closed(SOON).unwrap();
        }
        let error = waiting.wait().unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Authentication, Some("auth failure")));
    }
    let round = [Connected, Disconnected, Connected, Disconnected, Shutdown];
    assert_eq!(record.states(), [round, round].concat());
    assert!(client.is_disconnected());
}

/// Decision 11, HA-17: in a reconnect the refusal is reported.
#[test]
fn bad_credentials_end_a_reconnecting_with_the_refusal() {
    let scene = HaScene::logged_on();
    scene.connection.close();
    for _ in 0..2 {
        answered(&scene.peer, &LogonAck::failure("not entitled")).wait_closed(SOON).unwrap();
    }
    scene.record.wait_for_failure(ErrorKind::Disconnected, "reconnect failed");
    let failures = scene.record.failures();
    let seen: Vec<_> = failures.iter().map(|failure| (failure.error.kind(), failure.origin)).collect();
    let expected = [
        (ErrorKind::NotEntitled, Origin::Logon),
        (ErrorKind::NotEntitled, Origin::Logon),
        (ErrorKind::NotEntitled, Origin::Connection),
        (ErrorKind::Disconnected, Origin::Connection),
    ];
    assert_eq!(seen, expected);
    assert_eq!(scene.record.states().last(), Some(&Shutdown));
}

/// A chooser that panics in one of its methods.
struct Panicking {
    inner: DefaultServerChooser,
    at: &'static str,
    armed: Arc<AtomicBool>,
}

impl Panicking {
    fn reach(&self, place: &'static str) {
        if self.at == place && self.armed.swap(false, Ordering::SeqCst) {
            panic!("the chooser blew up at {place}");
        }
    }
}

impl ServerChooser for Panicking {
    fn current_uri(&mut self) -> Option<String> {
        self.reach("uri");
        self.inner.current_uri()
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        self.reach("authenticator");
        self.inner.current_authenticator()
    }

    fn report_failure(&mut self, error: &Error, info: &ConnectionInfo) {
        self.reach("failure");
        self.inner.report_failure(error, info);
    }

    fn report_success(&mut self, info: &ConnectionInfo) {
        self.reach("success");
        self.inner.report_success(info);
    }
}

/// HA-12, T-10: what a chooser's panic means depends on what it was called for.
#[test]
fn a_chooser_that_panics_harms_nobody_for_long() {
    for (at, ends) in [("uri", true), ("authenticator", true), ("failure", false), ("success", false)] {
        let peer = ScriptedPeer::start().unwrap();
        let armed = Arc::new(AtomicBool::new(true));
        let inner = DefaultServerChooser::from_iter([peer.uri("json")]);
        let chooser = Panicking { inner, at, armed: Arc::clone(&armed) };
        let client = ha_client(&[], |builder| builder.server_chooser(chooser));
        let record = Record::of(&client);
        let mut waiting = connecting(&client);
        if ends {
            assert_eq!(waiting.wait().unwrap_err().kind(), ErrorKind::HandlerPanicked, "{at}");
            waiting = connecting(&client);
        } else {
            answered(
                &peer,
                &LogonAck::failure("name in use").status(if at == "success" { "success" } else { "failure" }),
            )
            .wait_closed(SOON)
            .unwrap();
            record.wait_for_failure(ErrorKind::HandlerPanicked, "the chooser blew up");
        }
        let connection = admitted(&peer);
        waiting.wait().unwrap();
        settle(&client, &connection);
        assert!(!armed.load(Ordering::SeqCst), "{at}");
    }
}

/// A list with an address that cannot be read is refused when the client is built, and the address is named.
#[test]
fn an_unreadable_server_is_refused_by_the_builder() {
    for bad in ["localhost:9007", "tcp://a:b/amps/json", ""] {
        let refused = HAClient::builder("c").servers(["tcp://a:1/amps/json", bad]).build().unwrap_err();
        assert_eq!(refused.class(), amps_client::ErrorClass::Connection, "{bad}: {refused}");
        assert!(refused.to_string().contains(bad), "{bad}: {refused}");
    }
}
