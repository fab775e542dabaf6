//! Who gets in, on which terms, and what is left when one goes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{
    Access, Action, Entitled, Listener, LogonAnswer, LogonAttempt, Server, Topic, UserTable,
};

const PATIENCE: Duration = Duration::from_secs(10);
const LOGON: &str = r#"{"c":"logon","cid":"1","client_name":"desk","user_id":"alice","pw":"s3cret","mt":"json","a":"processed"}"#;

fn failure(reason: &str) -> String {
    format!(r#"{{"c":"ack","cid":"1","a":"processed","status":"failure","reason":"{reason}"}}"#)
}

fn texts(client: &mut RawClient) -> Vec<String> {
    let frames = client.read_to_end();
    frames.iter().map(|frame| String::from_utf8_lossy(frame.raw()).into_owned()).collect()
}

/// L-1, L-2.
#[test]
fn the_answer_to_a_logon_tells_everything_a_client_wants_to_know() {
    let server = Server::builder().version("5.3.4.7").start().unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    let ack = client.receive();
    let bookmark = ack.header("bm").unwrap();
    let (publisher, sequence) = bookmark.split_once('|').unwrap();
    assert!(publisher.parse::<u64>().unwrap() > 1);
    assert_eq!(sequence, "0|");
    let expected = [
        ("c", "ack"),
        ("cid", "1"),
        ("s", "0"),
        ("bm", bookmark),
        ("client_name", "desk"),
        ("user_id", "alice"),
        ("a", "processed"),
        ("status", "success"),
        ("version", "5.3.4.7"),
        ("opts", "connection_name=1"),
    ];
    assert_eq!(ack.headers().collect::<Vec<_>>(), expected);

    // The number comes from the name alone.
    let other = Server::builder().start().unwrap();
    let mut again = RawClient::connect(&other);
    again.send(LOGON);
    assert_eq!(again.receive().header("bm"), Some(bookmark));
}

/// L-1, K-1.
#[test]
fn a_logon_that_asks_for_no_ack_gets_none() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::connect(&server);
    assert!(client.ask(r#"{"c":"logon","client_name":"c","mt":"json"}"#).is_empty());
    let sessions = server.sessions();
    assert_eq!((sessions.len(), sessions[0].client_name.as_str()), (1, "c"));
}

/// L-3.
#[test]
fn logon_takes_two_options_and_no_others() {
    let server = Server::builder().start().unwrap();
    for (options, is_good) in [("pretty", true), ("ack_conflation=10ms", true), ("oof", false)] {
        let mut client = RawClient::connect(&server);
        client.send(format!(
            r#"{{"c":"logon","cid":"1","client_name":"c","mt":"json","o":"{options}","a":"processed"}}"#
        ));
        let ack = client.receive();
        assert_eq!(ack.header("status") == Some("success"), is_good, "{ack:?}");
        if !is_good {
            assert_eq!(ack.header("reason"), Some("invalid options"));
        }
    }
}

/// L-4.
#[test]
fn a_command_before_the_logon_is_refused_and_the_logon_still_works() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::connect(&server);
    for command in ["publish", "subscribe", "sow", "sow_delete", "unsubscribe", "flush"] {
        client.send(format!(r#"{{"c":"{command}","cid":"1","t":"t","sub_id":"1","a":"processed"}}"#));
        let answer = client.receive();
        assert_eq!(String::from_utf8_lossy(answer.raw()), failure("logon required"), "{command}");
    }
    client.send(r#"{"c":"p","t":"t"}not asked for, not answered"#);
    client.send(LOGON);
    assert_eq!(client.receive().header("status"), Some("success"));
}

/// L-4.
#[test]
fn with_implicit_logons_the_first_command_opens_a_nameless_session() {
    let server = Server::builder().implicit_logon("json").start().unwrap();
    let mut client = RawClient::connect(&server);
    let answer = client.ask(r#"{"c":"subscribe","cid":"2","t":"t","a":"processed"}"#);
    assert_eq!(answer, [r#"{"c":"ack","cid":"2","sub_id":"2","a":"processed","status":"success"}"#]);
    assert_eq!(client.ask(LOGON), [failure("duplicate logon attempt")]);
    let sessions = server.sessions();
    assert_eq!((sessions[0].client_name.as_str(), sessions[0].message_type.as_str()), ("", "json"));
}

/// L-5.
#[test]
fn a_second_logon_is_refused_and_harms_nothing() {
    let server = Server::builder().start().unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    client.receive();
    client.send(r#"{"c":"subscribe","cid":"2","t":"t"}"#);
    assert_eq!(client.ask(LOGON), [failure("duplicate logon attempt")]);
    server.publish("t", "x").unwrap();
    assert_eq!(client.texts(), [r#"{"c":"p","t":"t","l":1,"sids":"2"}x"#]);
}

/// L-6.
#[test]
fn a_message_type_that_is_missing_or_not_allowed_costs_the_connection() {
    let any = Server::builder().start().unwrap();
    let two = Server::builder().listen(Listener::tcp().message_types(["json", "fix"])).start().unwrap();
    let cases = [(&any, ""), (&any, r#","mt":"morse""#), (&two, ""), (&two, r#","mt":"nvfix""#)];
    for (server, message_type) in cases {
        let mut client = RawClient::connect(server);
        client.send(format!(r#"{{"c":"logon","cid":"1","client_name":"c"{message_type},"a":"processed"}}"#));
        assert_eq!(texts(&mut client), [failure("invalid message type")], "{message_type}");
    }
    let one = Server::builder().listen(Listener::tcp().message_types(["nvfix"])).start().unwrap();
    let mut client = RawClient::connect(&one);
    client.send(r#"{"c":"logon","client_name":"c"}"#);
    assert!(client.received().is_empty());
    assert_eq!(one.sessions()[0].message_type, "nvfix");
}

/// L-7: the answer arrives although the client sent more in the meantime.
#[test]
fn bad_credentials_cost_the_connection_after_the_answer_is_out() {
    let server = Server::builder().auth(UserTable::new().user("alice", "other")).start().unwrap();
    let mut client = RawClient::connect(&server);
    let mut bytes = Vec::new();
    for body in [LOGON, r#"{"c":"p","t":"t"}x"#, r#"{"c":"flush","cid":"2","a":"processed"}"#] {
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
    }
    client.send_raw(&bytes);
    assert_eq!(texts(&mut client), [failure("auth failure")]);
    assert!(server.sessions().is_empty());
}

/// L-7.
#[test]
fn a_table_of_users_lets_them_in() {
    let server = Server::builder().auth(UserTable::new().user("alice", "s3cret")).start().unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    assert_eq!(client.receive().header("user_id"), Some("alice"));
}

/// L-7.
#[test]
fn an_authenticator_may_ask_for_another_password_on_the_same_connection() {
    let server = Server::builder()
        .auth(|attempt: &LogonAttempt<'_>| match attempt.password() {
            "answer" => LogonAnswer::accept_as(format!("{}@{}", attempt.user_id(), attempt.client_name())),
            _ => LogonAnswer::retry("challenged", "challenge"),
        })
        .start()
        .unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    let retry = client.receive();
    assert_eq!(
        String::from_utf8_lossy(retry.raw()),
        r#"{"c":"ack","cid":"1","user_id":"challenged","a":"processed","status":"retry","pw":"challenge"}"#
    );
    assert!(server.sessions().is_empty());
    client.send(LOGON.replace("alice", "challenged").replace("s3cret", "answer"));
    let ack = client.receive();
    assert_eq!((ack.header("status"), ack.header("user_id")), (Some("success"), Some("challenged@desk")));
    assert_eq!(server.sessions()[0].user_id, "challenged@desk");
}

/// L-7: what the hook is told.
#[test]
fn an_authenticator_sees_what_the_client_sent() {
    let calls = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let server = Server::builder()
        .auth(move |attempt: &LogonAttempt<'_>| {
            counted.fetch_add(1, Ordering::SeqCst);
            let told =
                (attempt.user_id(), attempt.password(), attempt.client_name(), attempt.correlation_id());
            let expected = ("alice", "s3cret", "desk", "corr==");
            if told == expected && attempt.peer().starts_with("127.0.0.1:") {
                LogonAnswer::accept()
            } else {
                LogonAnswer::reject()
            }
        })
        .start()
        .unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON.replace(r#""mt""#, r#""x":"corr==","mt""#));
    assert_eq!(client.receive().header("status"), Some("success"));
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn an_authenticator_that_panics_rejects() {
    let server = Server::builder()
        .auth(|_: &LogonAttempt<'_>| -> LogonAnswer { panic!("broken hook") })
        .start()
        .unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    assert_eq!(texts(&mut client), [failure("auth failure")]);
}

/// K-7: a listener or login that is switched off.
#[test]
fn logons_can_be_switched_off() {
    let server = Server::builder().start().unwrap();
    let mut before = RawClient::log_on(&server, "before");
    server.allow_logons(false);
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    assert_eq!(texts(&mut client), [failure("authentication disabled")]);
    assert!(before.received().is_empty());
    server.allow_logons(true);
    RawClient::log_on(&server, "after");
}

/// L-8: without a journal, equal names live side by side.
#[test]
fn two_clients_may_have_the_same_name() {
    let server = Server::builder().start().unwrap();
    let mut clients = [RawClient::log_on(&server, "twin"), RawClient::log_on(&server, "twin")];
    assert!(clients.iter_mut().all(|client| client.received().is_empty()));
    assert_eq!(server.sessions().len(), 2);
}

/// L-10.
#[test]
fn the_entitlement_to_log_on_is_asked_for() {
    let rules = |access: &Access<'_>| match (access.action(), access.user_id(), access.message_type()) {
        (Action::Logon, "alice", "json") => Entitled::Deny,
        _ => Entitled::Allow,
    };
    let server = Server::builder().entitlement(rules).start().unwrap();
    let mut client = RawClient::connect(&server);
    client.send(LOGON);
    assert_eq!(texts(&mut client), [failure("not entitled")]);
    let mut other = RawClient::connect(&server);
    other.send(LOGON.replace("alice", "bob"));
    assert_eq!(other.receive().header("status"), Some("success"));
}

/// L-11.
#[test]
fn nothing_is_left_of_a_connection_that_ended() {
    let server = Server::builder().topic(Topic::sow("orders").key("/id")).start().unwrap();
    let mut client = RawClient::log_on(&server, "c");
    client.send(r#"{"c":"subscribe","cid":"1","t":"t"}"#);
    client.send(r#"{"c":"subscribe","cid":"2","t":"a.*","o":"conflation=1h,conflation_key=[/id]"}"#);
    assert!(client.ask(r#"{"c":"heartbeat","o":"start,1000"}"#).is_empty());
    assert_eq!(server.subscriptions().len(), 2);
    drop(client);
    server.wait_for(|s| s.sessions().is_empty() && s.subscriptions().is_empty(), PATIENCE).unwrap();
    server.publish("t", "x").unwrap();
}

/// U-3: the publisher's user shows only if the authenticator says so.
#[test]
fn subscribers_see_the_user_of_a_publisher_if_the_authenticator_says_so() {
    let server = Server::builder()
        .auth(|attempt: &LogonAttempt<'_>| match attempt.user_id() {
            "shown" => LogonAnswer::accept().showing_user(),
            _ => LogonAnswer::accept(),
        })
        .start()
        .unwrap();
    let mut reader = RawClient::log_on(&server, "reader");
    reader.send(r#"{"c":"subscribe","cid":"1","t":"t"}"#);
    assert!(reader.received().is_empty());
    for user in ["shown", "hidden"] {
        let mut client = RawClient::connect(&server);
        client.send(format!(r#"{{"c":"logon","client_name":"p","user_id":"{user}","mt":"json"}}"#));
        client.send(r#"{"c":"p","t":"t"}x"#);
        assert!(client.received().is_empty());
    }
    assert_eq!(
        reader.texts(),
        [
            r#"{"c":"p","t":"t","user_id":"shown","l":1,"sids":"1"}x"#,
            r#"{"c":"p","t":"t","l":1,"sids":"1"}x"#
        ]
    );
}
