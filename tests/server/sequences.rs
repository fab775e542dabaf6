//! The numbers that publishers give their messages: what is accepted, what is a duplicate, and when they learn that it is
//! safe.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Access, Action, Clock, Entitled, Server, ServerBuilder, Topic};

const SOON: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// A server whose topics `j` and `orders` are journaled, with a clock of its own.
fn journaling() -> ServerBuilder {
    Server::builder()
        .topic(Topic::plain("j").journaled(true))
        .topic(Topic::sow("orders").key("/id").journaled(true))
        .clock(Clock::manual())
}

fn server() -> Server {
    journaling().start().expect("a server")
}

fn publish(sequence: u64) -> String {
    format!(r#"{{"c":"p","cid":"{sequence}","t":"j","s":{sequence},"a":"persisted"}}{sequence}"#)
}

/// Sends these publishes, and returns what comes back, in short: `s` of a success, `s` and reason of a failure.
fn answers(client: &mut RawClient, sequences: &[u64]) -> Vec<String> {
    sequences.iter().for_each(|sequence| client.send(publish(*sequence)));
    shortened(client)
}

fn shortened(client: &mut RawClient) -> Vec<String> {
    let short = |frame: &amps_client::testing::Frame| {
        let sequence = frame.header("s").unwrap_or("-");
        let cid = frame.header("cid").map(|cid| format!(" of {cid}")).unwrap_or_default();
        format!("{}{cid}", frame.header("reason").map_or(sequence.to_owned(), |r| format!("{sequence} {r}")))
    };
    client.received().iter().map(short).collect()
}

/// Logs on, and returns what the acknowledgement says is the highest sequence number, and the bookmark.
fn log_on(server: &Server, name: &str) -> (RawClient, String, String) {
    let mut client = RawClient::connect(server);
    client.send(format!(r#"{{"c":"logon","cid":"1","client_name":"{name}","mt":"json","a":"processed"}}"#));
    let ack = client.receive();
    let header = |key| ack.header(key).unwrap_or_default().to_owned();
    (client, header("s"), header("bm"))
}

/// Vector 17.5, K-8, K-9.
#[test]
fn duplicates_are_discarded_across_connections() {
    let server = server();
    let mut subscriber = RawClient::log_on(&server, "subscriber");
    subscriber.ask(r#"{"c":"subscribe","cid":"s","t":"j"}"#);
    let (mut client, highest, bookmark) = log_on(&server, "c");
    let publisher = bookmark.split('|').next().unwrap().to_owned();
    assert_eq!((highest.as_str(), bookmark), ("0", format!("{publisher}|0|")));
    assert_eq!(answers(&mut client, &[1, 2, 3, 3]), ["3", "3 duplicate of 3"]);
    drop(client);
    let (mut client, highest, bookmark) = log_on(&server, "c");
    assert_eq!((highest.as_str(), bookmark), ("3", format!("{publisher}|3|")));
    assert_eq!(answers(&mut client, &[2, 4]), ["2 duplicate of 2"]);
    server.clock().advance(SECOND).unwrap();
    assert_eq!(shortened(&mut client), ["4"]);
    let payloads: Vec<_> = subscriber.received().iter().map(|frame| frame.payload().to_vec()).collect();
    assert_eq!(payloads, [b"1", b"2", b"3", b"4"]);
    let bookmarks: Vec<_> = server.journal().into_iter().map(|entry| entry.bookmark).collect();
    assert_eq!(bookmarks, (1..=4).map(|n| format!("{publisher}|{n}|")).collect::<Vec<_>>());
}

/// K-8: over the whole unsigned range, and each client for itself.
#[test]
fn sequences_belong_to_a_client_name_and_may_be_large() {
    let server = server();
    let (mut one, ..) = log_on(&server, "one");
    let (mut two, ..) = log_on(&server, "two");
    let large = 1_800_000_000_000_000_000;
    assert!(answers(&mut one, &[large, u64::MAX]).is_empty());
    assert_eq!(answers(&mut two, &[1, large, 2]), [large.to_string(), "2 duplicate of 2".to_owned()]);
    assert_eq!((server.highest_sequence("one"), server.highest_sequence("two")), (u64::MAX, large));
}

/// K-8, A-6: kept and wiped.
#[test]
fn sequences_and_journal_live_through_a_restart_unless_it_wipes_them() {
    let server = server();
    let (mut client, ..) = log_on(&server, "c");
    answers(&mut client, &[5]);
    server.restart().unwrap();
    let (mut client, highest, _) = log_on(&server, "c");
    assert_eq!((highest.as_str(), server.journal().len()), ("5", 1));
    assert_eq!(answers(&mut client, &[5]), ["5 duplicate of 5"]);
    server.restart_empty().unwrap();
    let (mut client, highest, _) = log_on(&server, "c");
    assert_eq!((highest.as_str(), server.journal().len()), ("0", 0));
    assert!(answers(&mut client, &[5]).is_empty());
}

/// K-8: publish, delta publish and delete share one sequence.
#[test]
fn deletes_and_deltas_take_part_in_the_sequence() {
    let server = server();
    let (mut client, ..) = log_on(&server, "c");
    let commands = [
        (r#"{"c":"p","cid":"1","t":"orders","s":1,"a":"processed,persisted"}{"id":1}"#, None),
        (
            r#"{"c":"delta_publish","cid":"2","t":"orders","s":2,"a":"processed,persisted"}{"id":1,"a":2}"#,
            None,
        ),
        (r#"{"c":"sow_delete","cid":"3","t":"orders","s":3,"filter":"1=1","a":"processed,persisted"}"#, None),
        (r#"{"c":"p","cid":"4","t":"orders","s":3,"a":"processed,persisted"}{"id":2}"#, Some("duplicate")),
        (
            r#"{"c":"delta_publish","cid":"5","t":"orders","s":1,"a":"processed,persisted"}{"id":2}"#,
            Some("duplicate"),
        ),
        (r#"{"c":"p","cid":"6","t":"orders","s":4,"a":"processed,persisted"}{"id":3}"#, None),
        (
            r#"{"c":"sow_delete","cid":"7","t":"orders","s":2,"filter":"1=1","a":"processed,persisted"}"#,
            Some("duplicate"),
        ),
    ];
    for (command, reason) in commands {
        client.send(command);
        let answers = client.received();
        let processed = answers.iter().find(|answer| answer.header("a") == Some("processed")).unwrap();
        assert_eq!(processed.header("reason"), reason, "{command}");
    }
    assert_eq!(server.sow_records("orders").len(), 1);
    assert_eq!(server.highest_sequence("c"), 4);
}

/// K-9: the switch.
#[test]
fn duplicates_may_be_acknowledged_like_anything_else() {
    let server = journaling().acknowledge_duplicates(true).start().unwrap();
    let (mut client, ..) = log_on(&server, "c");
    assert!(answers(&mut client, &[1, 2, 1]).is_empty());
    client.send(r#"{"c":"sow_delete","cid":"d","t":"orders","s":2,"filter":"1=1","a":"stats"}"#);
    let stats = client.received();
    assert_eq!(stats[0].header("records_deleted"), Some("0"));
    server.clock().advance(SECOND).unwrap();
    assert_eq!(shortened(&mut client), ["2"]);
    assert_eq!(server.journal().len(), 2);
}

/// K-10, T-1.
#[test]
fn gaps_are_accepted_and_messages_without_a_number_get_one_of_the_servers() {
    let server = server();
    let (mut client, _, bookmark) = log_on(&server, "c");
    let publisher = bookmark.split('|').next().unwrap().to_owned();
    answers(&mut client, &[3, 9]);
    assert_eq!(
        client.ask(r#"{"c":"p","cid":"x","t":"j","a":"persisted"}y"#),
        [r#"{"c":"ack","cid":"x","a":"persisted","status":"success"}"#],
        "there is no number by which it could be told later"
    );
    client.ask(r#"{"c":"p","t":"j"}z"#);
    client.ask(r#"{"c":"p","t":"elsewhere"}z"#);
    server.publish("j", "from inside").unwrap();
    let journal = server.journal();
    let sequences: Vec<_> = journal.iter().map(|entry| entry.bookmark.split('|').nth(1).unwrap()).collect();
    assert_eq!(sequences, ["3", "9", "1", "2", "1"]);
    let publishers: Vec<_> = journal.iter().map(|entry| entry.bookmark.split('|').next().unwrap()).collect();
    assert_eq!((publishers[0], publishers[1]), (&*publisher, &*publisher));
    assert!(publishers[2] == publishers[3] && publishers[2] != publisher && publishers[4] != publishers[2]);
}

/// K-11: one for all of an interval, without a command id.
#[test]
fn successes_are_acknowledged_once_per_interval() {
    let server = server();
    let (mut client, ..) = log_on(&server, "c");
    assert!(answers(&mut client, &[1, 2]).is_empty());
    server.clock().advance(Duration::from_millis(999)).unwrap();
    assert!(answers(&mut client, &[3]).is_empty());
    server.clock().advance(Duration::from_millis(1)).unwrap();
    assert_eq!(client.texts(), [r#"{"c":"ack","s":3,"a":"persisted","status":"success"}"#]);
    server.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty());
    // Those who did not ask are not told, and are no reason to tell.
    client.ask(r#"{"c":"p","t":"j","s":4}x"#);
    server.clock().advance(SECOND).unwrap();
    assert!(client.received().is_empty());
    // On every topic, as soon as there is a journal.
    assert!(client.ask(r#"{"c":"p","cid":"5","t":"elsewhere","s":5,"a":"persisted"}x"#).is_empty());
    server.clock().advance(SECOND).unwrap();
    assert_eq!(shortened(&mut client), ["5"]);
}

/// K-11: a failure is told at once, after what succeeded before it.
#[test]
fn a_failure_is_acknowledged_by_itself_behind_what_came_before() {
    let server = journaling()
        .entitlement(|access: &Access<'_>| match (access.action(), access.topic()) {
            (Action::Write, "secret") => Entitled::Deny,
            _ => Entitled::Allow,
        })
        .start()
        .unwrap();
    let (mut client, ..) = log_on(&server, "c");
    for sequence in 1..=5 {
        let topic = if sequence == 3 { "secret" } else { "j" };
        client
            .send(format!(r#"{{"c":"p","cid":"{sequence}","t":"{topic}","s":{sequence},"a":"persisted"}}x"#));
    }
    assert_eq!(shortened(&mut client), ["2", "3 not entitled of 3"]);
    server.clock().advance(SECOND).unwrap();
    assert_eq!(shortened(&mut client), ["5"]);
    assert_eq!(server.highest_sequence("c"), 5);
    // A failure in front of which nothing waits.
    client.send(r#"{"c":"p","cid":"6","t":"secret","s":6,"a":"persisted"}x"#);
    assert_eq!(shortened(&mut client), ["6 not entitled of 6"]);
    assert_eq!(server.highest_sequence("c"), 5, "what failed was not accepted");
}

/// K-11: the interval of the logon, of the server, and none at all.
#[test]
fn the_logon_may_choose_the_interval() {
    let table = [
        (None, "", 1000),
        (Some(50), "", 50),
        (Some(50), "ack_conflation=200ms", 200),
        (None, "ack_conflation=10ms,pretty", 10),
    ];
    for (own, option, millis) in table {
        let mut builder = journaling();
        if let Some(own) = own {
            builder = builder.ack_conflation(Duration::from_millis(own));
        }
        let server = builder.start().unwrap();
        let mut client = RawClient::connect(&server);
        client.send(format!(
            r#"{{"c":"logon","cid":"1","client_name":"c","mt":"json","o":"{option}","a":"processed"}}"#
        ));
        assert_eq!(client.receive().header("status"), Some("success"));
        client.send(publish(1));
        assert!(client.received().is_empty(), "{option}");
        server.clock().advance(Duration::from_millis(millis - 1)).unwrap();
        assert!(client.received().is_empty(), "{option}");
        server.clock().advance(Duration::from_millis(1)).unwrap();
        assert_eq!(client.receive().header("s"), Some("1"), "{option}");
    }
    let server = journaling().ack_conflation(Duration::ZERO).start().unwrap();
    let (mut client, ..) = log_on(&server, "c");
    assert_eq!(answers(&mut client, &[1, 2]), ["1", "2"]);
}

/// K-5, K-11: a flush that asks for `persisted` brings what is held back before its own answer.
#[test]
fn a_flush_brings_what_is_held_back() {
    let server = server();
    let (mut client, ..) = log_on(&server, "c");
    answers(&mut client, &[1, 2]);
    assert_eq!(
        client.ask(r#"{"c":"flush","cid":"f","a":"persisted"}"#),
        [
            r#"{"c":"ack","s":2,"a":"persisted","status":"success"}"#,
            r#"{"c":"ack","cid":"f","a":"persisted","status":"success"}"#
        ]
    );
    server.clock().advance(SECOND).unwrap();
    assert!(client.received().is_empty());
}

/// K-12.
#[test]
fn without_a_journal_each_publish_is_acknowledged_at_once() {
    let server = Server::builder().clock(Clock::manual()).start().unwrap();
    let (mut client, ..) = log_on(&server, "c");
    assert_eq!(answers(&mut client, &[1, 2, 2]), ["1 of 1", "2 of 2", "2 duplicate of 2"]);
    assert!(server.journal().is_empty());
}

/// K-14: also when the publisher subscribes itself.
#[test]
fn a_message_is_delivered_before_it_is_acknowledged() {
    let server = journaling().ack_conflation(Duration::ZERO).start().unwrap();
    let (mut client, ..) = log_on(&server, "c");
    client.ask(r#"{"c":"subscribe","cid":"s","t":"j"}"#);
    client.send(r#"{"c":"p","cid":"1","t":"j","s":1,"a":"processed,completed,persisted"}x"#);
    let kinds: Vec<_> =
        client.received().iter().map(|f| f.header("a").unwrap_or(f.command()).to_owned()).collect();
    assert_eq!(kinds, ["p", "processed", "completed", "persisted"]);
}

/// K-10: the number 0 is none.
#[test]
fn zero_is_no_sequence_number() {
    let server = server();
    let (mut client, ..) = log_on(&server, "c");
    assert_eq!(answers(&mut client, &[0, 0]), ["0 of 0", "0 of 0"]);
    assert_eq!((server.highest_sequence("c"), server.journal().len()), (0, 2));
}

/// K-10: a sequence of a client without a name, on a server without a journal, is nobody's.
#[test]
fn clients_without_a_name_share_no_sequence() {
    let server = Server::builder().start().unwrap();
    let (mut one, ..) = log_on(&server, "");
    let (mut two, ..) = log_on(&server, "");
    assert_eq!(answers(&mut one, &[1, 1]), ["1 of 1", "1 of 1"]);
    assert_eq!(answers(&mut two, &[1]), ["1 of 1"]);
}

/// L-8: a user may take over his own name; the older connection goes.
#[test]
fn a_client_takes_over_its_own_name() {
    let server = server();
    let (mut older, ..) = log_on(&server, "c");
    older.ask(r#"{"c":"subscribe","cid":"s","t":"j"}"#);
    let (mut newer, ..) = log_on(&server, "c");
    assert!(older.next().is_none());
    assert!(newer.received().is_empty());
    assert_eq!((server.sessions().len(), server.subscriptions().len()), (1, 0));
    assert_eq!(server.sessions()[0].connection, 2);
}

/// L-8: nobody takes over the name of another user.
#[test]
fn a_name_of_another_user_is_in_use() {
    let server = server();
    let logon = |user: &str| {
        let mut client = RawClient::connect(&server);
        client.send(format!(
            r#"{{"c":"logon","cid":"1","client_name":"c","user_id":"{user}","mt":"json","a":"processed"}}"#
        ));
        let reason = client.receive().header("reason").map(str::to_owned);
        (client, reason)
    };
    let (mut alice, reason) = logon("alice");
    assert_eq!(reason, None);
    let (mut bob, reason) = logon("bob");
    assert_eq!(reason.as_deref(), Some("name in use"));
    assert!(bob.next().is_none());
    assert!(alice.received().is_empty());
    drop(alice);
    server.wait_for(|server| server.sessions().is_empty(), SOON).unwrap();
    assert_eq!(logon("bob").1, None, "L-11: the name is free again");
}

/// L-9.
#[test]
fn with_a_journal_a_client_needs_a_name() {
    let server = server();
    let mut client = RawClient::connect(&server);
    client.send(r#"{"c":"logon","cid":"1","mt":"json","a":"processed"}"#);
    assert_eq!(client.receive().header("reason"), Some("no client name"));
    assert!(client.next().is_none());
}

/// L-8, L-9: all this is for servers with a journal.
#[test]
fn without_a_journal_equal_names_live_side_by_side() {
    let server = Server::builder().topic(Topic::plain("t").journaled(false)).start().unwrap();
    let mut clients = [log_on(&server, "c").0, log_on(&server, "c").0, log_on(&server, "").0];
    for client in &mut clients {
        assert!(client.received().is_empty());
    }
    assert_eq!(server.sessions().len(), 3);
}

/// T-1: a topic may be journaled by its name; U-4: a delta is journaled as what it made.
#[test]
fn the_journal_has_what_was_delivered_in_its_order() {
    let server = Server::builder()
        .topic(Topic::sow("audit.orders").key("/id"))
        .journal(r"^audit\.")
        .max_journal_entries(3)
        .start()
        .unwrap();
    let (mut client, ..) = log_on(&server, "c");
    for (topic, payload) in [
        ("audit.orders", r#"{"id":1}"#),
        ("orders", "not journaled"),
        ("audit.orders", r#"{"id":1,"a":1}"#),
        ("audit.ticks", "x"),
        ("audit.orders", r#"{"id":1,"b":2}"#),
    ] {
        client.ask(format!(r#"{{"c":"delta_publish","t":"{topic}"}}{payload}"#));
    }
    client.ask(r#"{"c":"sow_delete","t":"audit.orders","filter":"1=1"}"#);
    let journal: Vec<_> = server
        .journal()
        .into_iter()
        .map(|entry| format!("{} {}", entry.topic, String::from_utf8_lossy(&entry.payload)))
        .collect();
    let expected =
        [r#"audit.orders {"id":1,"a":1}"#, "audit.ticks x", r#"audit.orders {"id":1,"a":1,"b":2}"#];
    assert_eq!(journal, expected);
}

/// A-11: `quick` journals everything.
#[test]
fn a_quick_server_has_a_journal() {
    let server = Server::quick().unwrap();
    let (mut client, ..) = log_on(&server, "c");
    client.send(publish(1));
    let ack = client.receive();
    assert_eq!((ack.header("s"), ack.header("cid")), (Some("1"), None));
    assert_eq!(server.journal().len(), 1);
}
