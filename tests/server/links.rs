//! Linked instances: each has a state of its own, and what happens on one is copied to the others.

use std::time::Duration;

use crate::support::RawClient;
use amps_client::testing::{Clock, Cluster, Entitled, Frame, Server, ServerBuilder, Topic};
use amps_client::{Bookmark, ErrorKind, HAClient, MemoryBookmarkStore};

const SECOND: Duration = Duration::from_secs(1);

fn journaling() -> ServerBuilder {
    Server::builder()
        .topic(Topic::sow("orders").key("/id"))
        .topic(Topic::queue("jobs").max_per_subscription_backlog(10))
        .journal(".*")
        .clock(Clock::manual())
}

fn cluster() -> Cluster {
    Cluster::linked(journaling(), 2).expect("two instances")
}

/// The payloads in a journal.
fn journal(server: &Server) -> String {
    let entries = server.journal().into_iter();
    entries.map(|entry| String::from_utf8_lossy(&entry.payload).into_owned()).collect::<Vec<_>>().join(" ")
}

fn payloads(frames: &[Frame]) -> String {
    let messages = frames.iter().filter(|frame| frame.command() == "p");
    messages.map(|frame| String::from_utf8_lossy(frame.payload()).into_owned()).collect::<Vec<_>>().join(" ")
}

/// The messages of the queue, each with the client that has it.
fn queue(server: &Server) -> String {
    let Some(queue) = server.queue("jobs") else { return "unused".to_owned() };
    let one = |message: &amps_client::testing::QueueMessage| {
        let payload = String::from_utf8_lossy(&message.payload).into_owned();
        format!("{payload}:{}", message.holder.as_deref().unwrap_or("-"))
    };
    queue.messages.iter().map(one).collect::<Vec<_>>().join(" ")
}

fn publish(client: &mut RawClient, topic: &str, sequence: u64) {
    client.send(format!(r#"{{"c":"p","t":"{topic}","s":{sequence},"a":"persisted"}}{sequence}"#));
}

/// R-4, T-1: a copy has the bookmark of the original, and reaches subscribers.
#[test]
fn a_message_is_the_same_on_every_instance() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let mut subscriber = RawClient::log_on(second, "subscriber");
    subscriber.ask(r#"{"c":"subscribe","cid":"s","t":"t","bookmark":"0"}"#);
    subscriber.ask(r#"{"c":"subscribe","cid":"plain","t":"t"}"#);
    let mut publisher = RawClient::log_on(first, "publisher");
    publish(&mut publisher, "t", 7);
    publisher.ask(r#"{"c":"p","t":"t","x":"corr"}unnumbered"#);
    second.publish("t", "from the other").unwrap();
    assert_eq!(
        (journal(first).as_str(), journal(second).as_str()),
        ("7 unnumbered from the other", "7 unnumbered from the other")
    );
    let bookmarks =
        |server: &Server| server.journal().into_iter().map(|entry| entry.bookmark).collect::<Vec<_>>();
    assert_eq!(bookmarks(first), bookmarks(second));
    assert_eq!(second.highest_sequence("publisher"), 7);
    let frames = subscriber.received();
    assert_eq!(frames.len(), 6);
    let marks: Vec<_> = frames.iter().filter_map(|frame| frame.header("bm")).collect();
    assert_eq!(marks, bookmarks(first));
    assert!(frames.iter().any(|frame| frame.header("x") == Some("corr")));
}

/// R-4, T-4: what is not copied yet is unknown.
#[test]
fn a_bookmark_that_was_not_copied_is_not_found() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let link = cluster.link(0, 1).unwrap();
    first.publish("t", "old").unwrap();
    link.hold();
    first.publish("t", "one").unwrap();
    first.publish("t", "two").unwrap();
    assert_eq!((link.pending(), journal(second).as_str()), (2, "old"));
    let mark = first.journal()[1].bookmark.clone();
    let mut client = RawClient::log_on(second, "c");
    let subscribe = |options: &str| {
        format!(
            r#"{{"c":"subscribe","cid":"s","t":"t","bookmark":"{mark}","o":"{options}","a":"processed"}}"#
        )
    };
    assert!(client.ask(subscribe("bookmark_not_found=fail"))[0].contains("invalid bookmark"));
    client.send(subscribe("bookmark_not_found=epoch"));
    assert_eq!(payloads(&client.received()), "old");
    link.release(1);
    assert_eq!((link.pending(), payloads(&client.received())), (1, "one".to_owned()));
    client.send(subscribe("replace,bookmark_not_found=fail"));
    assert_eq!(payloads(&client.received()), "");
    link.resume();
    assert_eq!((link.pending(), payloads(&client.received())), (0, "two".to_owned()));
}

/// R-4, K-8: a publisher that comes over repeats what it must, and nothing is there twice.
#[test]
fn a_copy_that_comes_late_is_no_duplicate() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let link = cluster.link(0, 1).unwrap();
    link.hold();
    let mut publisher = RawClient::log_on(first, "p");
    (1..=3).for_each(|sequence| publish(&mut publisher, "t", sequence));
    publisher.received();
    let mut publisher = RawClient::connect(second);
    publisher.send(r#"{"c":"logon","cid":"1","client_name":"p","mt":"json","a":"processed"}"#);
    assert_eq!(publisher.receive().header("s"), Some("0"));
    // It was told that the first one is safe, and does not repeat it.
    (2..=4).for_each(|sequence| publish(&mut publisher, "t", sequence));
    publisher.received();
    assert_eq!((journal(first).as_str(), journal(second).as_str()), ("1 2 3 4", "2 3 4"));
    link.resume();
    assert_eq!((journal(first).as_str(), journal(second).as_str()), ("1 2 3 4", "2 3 4 1"));
    assert_eq!((first.highest_sequence("p"), second.highest_sequence("p")), (4, 4));
}

/// K-13: a publisher is told when the others have it.
#[test]
fn persisted_acknowledgements_wait_for_a_synchronous_link() {
    let cluster = cluster();
    let [first, _] = cluster.servers() else { panic!("two instances") };
    let link = cluster.link(0, 1).unwrap();
    link.wait_for_copies(true);
    link.hold();
    let mut client = RawClient::log_on(first, "c");
    publish(&mut client, "t", 1);
    publish(&mut client, "t", 2);
    client.send(r#"{"c":"p","cid":"u","t":"t","a":"persisted"}3"#);
    client.send(r#"{"c":"flush","cid":"f","a":"persisted"}"#);
    assert!(client.received().is_empty());
    first.clock().advance(10 * SECOND).unwrap();
    assert!(client.received().is_empty());
    link.release(1);
    assert_eq!(client.texts(), [r#"{"c":"ack","s":1,"a":"persisted","status":"success"}"#]);
    publish(&mut client, "t", 4);
    assert!(client.received().is_empty());
    link.resume();
    assert!(client.received().is_empty(), "an interval has begun with the last one");
    first.clock().advance(SECOND).unwrap();
    assert_eq!(
        client.texts(),
        [
            r#"{"c":"ack","s":2,"a":"persisted","status":"success"}"#,
            r#"{"c":"ack","cid":"u","a":"persisted","status":"success"}"#,
            r#"{"c":"ack","cid":"f","a":"persisted","status":"success"}"#,
            r#"{"c":"ack","s":4,"a":"persisted","status":"success"}"#,
        ]
    );
    publish(&mut client, "t", 5);
    assert!(client.received().is_empty());
    first.clock().advance(SECOND).unwrap();
    assert_eq!(client.received().len(), 1);
}

/// K-11, K-13: without an interval, and with a link that nobody waits for.
#[test]
fn an_acknowledgement_goes_out_as_soon_as_it_may() {
    for is_synchronous in [true, false] {
        let cluster = Cluster::linked(journaling().ack_conflation(Duration::ZERO), 2).unwrap();
        let link = cluster.link(0, 1).unwrap();
        link.wait_for_copies(is_synchronous);
        let mut client = RawClient::log_on(&cluster.servers()[0], "c");
        publish(&mut client, "t", 1);
        assert_eq!(client.received().len(), 1);
        link.hold();
        publish(&mut client, "t", 2);
        assert_eq!(client.received().is_empty(), is_synchronous);
        link.resume();
        assert_eq!(client.received().is_empty(), !is_synchronous);
    }
}

/// T-6, T-12: subscriptions that want what is safe wait as well, and others do not.
#[test]
fn fully_durable_subscriptions_and_reports_wait_for_a_synchronous_link() {
    let cluster = cluster();
    let [first, _] = cluster.servers() else { panic!("two instances") };
    first.publish("t", "old").unwrap();
    let link = cluster.link(0, 1).unwrap();
    link.wait_for_copies(true);
    link.hold();
    let mut client = RawClient::log_on(first, "c");
    for (id, options) in [("usual", ""), ("durable", "fully_durable")] {
        client.send(format!(
            r#"{{"c":"subscribe","cid":"{id}","t":"t","bookmark":"0","o":"{options}","a":"completed,persisted"}}"#
        ));
    }
    assert_eq!(payloads(&client.received()), "old old");
    first.publish("t", "new").unwrap();
    let live = client.received();
    assert_eq!((payloads(&live).as_str(), live[0].header("sids")), ("new", Some("usual")));
    first.clock().advance(2 * SECOND).unwrap();
    let reports = client.received();
    let old = first.journal()[0].bookmark.clone();
    assert_eq!(reports.iter().map(|ack| ack.header("bm")).collect::<Vec<_>>(), [Some(&*old), Some(&*old)]);
    let late = r#"{"c":"subscribe","cid":"late","t":"t","bookmark":"0","o":"fully_durable","a":"completed"}"#;
    client.send(late);
    assert_eq!(client.received().len(), 1, "the replay is not complete without the new one");
    link.resume();
    let mut freed: Vec<_> =
        client.received().iter().map(|frame| frame.header("sids").map(str::to_owned)).collect();
    freed.sort();
    assert_eq!(freed, [None, Some("durable".to_owned()), Some("late".to_owned())]);
    first.clock().advance(SECOND).unwrap();
    assert_eq!(client.received().len(), 2);
}

/// R-4, S-5: records are the same, also those that are gone.
#[test]
fn records_and_deletes_are_copied() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let mut client = RawClient::log_on(first, "c");
    client.ask(r#"{"c":"p","t":"orders"}{"id":1,"a":1}"#);
    client.ask(r#"{"c":"delta_publish","t":"orders"}{"id":1,"b":2}"#);
    client.ask(r#"{"c":"p","t":"orders"}{"id":2}"#);
    let mut watcher = RawClient::log_on(second, "w");
    watcher.ask(r#"{"c":"sow_and_subscribe","cid":"s","t":"orders","o":"oof"}"#);
    let records = |server: &Server| -> Vec<(String, Vec<u8>)> {
        server.sow_records("orders").into_iter().map(|record| (record.key, record.payload)).collect()
    };
    assert_eq!(records(second), records(first));
    assert_eq!(records(second)[0].1, br#"{"id":1,"a":1,"b":2}"#);
    client.ask(r#"{"c":"sow_delete","t":"orders","s":9,"filter":"/id = 1"}"#);
    assert_eq!(records(second).len(), 1);
    assert_eq!(second.highest_sequence("c"), 9);
    let oof = watcher.received();
    assert_eq!((oof[0].command(), oof[0].header("reason")), ("oof", Some("deleted")));
}

/// R-4, Q-7: a consumer finds its work on the instance it comes to.
#[test]
fn a_queue_goes_on_where_its_consumers_go() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    for payload in ["one", "two", "three"] {
        first.publish("jobs", payload).unwrap();
    }
    let subscribe = r#"{"c":"subscribe","cid":"s","t":"jobs","o":"max_backlog=2"}"#;
    let mut early = RawClient::log_on(second, "early");
    early.send(r#"{"c":"subscribe","cid":"s","t":"jobs","filter":"1 = 2"}"#);
    let mut worker = RawClient::log_on(first, "worker");
    worker.send(subscribe);
    assert_eq!(payloads(&worker.received()), "one two");
    assert_eq!(
        (queue(first).as_str(), queue(second).as_str()),
        ("one:worker two:worker three:-", "one:- two:- three:-")
    );
    let ack =
        |n: usize| format!(r#"{{"c":"sow_delete","t":"jobs","bookmark":"{}"}}"#, first.journal()[n].bookmark);
    worker.ask(ack(0));
    assert_eq!((queue(first).as_str(), queue(second).as_str()), ("two:worker three:worker", "two:- three:-"));
    first.stop();
    let mut worker = RawClient::log_on(second, "worker");
    worker.send(subscribe);
    assert_eq!(payloads(&worker.received()), "two three");
    worker.ask(ack(1));
    assert_eq!((queue(first).as_str(), queue(second).as_str()), ("two:- three:-", "three:worker"));
    first.restart().unwrap();
    let mut other = RawClient::log_on(first, "other");
    other.send(subscribe);
    assert_eq!(payloads(&other.received()), "", "the third is with the second instance");
    assert_eq!((queue(first).as_str(), first.queue("jobs").unwrap().acked), ("three:-", 2));
    first.publish("jobs", "four").unwrap();
    assert_eq!(payloads(&other.received()), "four");
    assert_eq!(queue(second), "three:worker four:-");
    worker.ask(ack(2));
    assert_eq!((queue(first).as_str(), queue(second).as_str()), ("four:other", "four:-"));
}

/// Q-5: an acknowledgement is good on every instance.
#[test]
fn a_message_may_be_acknowledged_elsewhere() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    first.publish("jobs", "one").unwrap();
    first.publish("jobs", "two").unwrap();
    let mut worker = RawClient::log_on(first, "worker");
    worker.send(r#"{"c":"subscribe","cid":"s","t":"jobs"}"#);
    assert_eq!(payloads(&worker.received()), "one");
    let mark = first.journal()[0].bookmark.clone();
    RawClient::log_on(second, "c").ask(format!(r#"{{"c":"sow_delete","t":"jobs","bookmark":"{mark}"}}"#));
    assert_eq!(payloads(&worker.received()), "two");
    assert_eq!((queue(first).as_str(), queue(second).as_str()), ("two:worker", "two:-"));
    assert_eq!((first.queue("jobs").unwrap().acked, second.queue("jobs").unwrap().acked), (1, 1));
}

/// R-2: an instance that is down gets its copies when it is back.
#[test]
fn copies_wait_for_an_instance_that_is_down() {
    let cluster = cluster();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    second.stop();
    first.publish("t", "one").unwrap();
    assert_eq!((cluster.link(0, 1).unwrap().pending(), journal(second).as_str()), (1, ""));
    second.restart().unwrap();
    assert_eq!(journal(second), "one");
    // One that was wiped gets what is new.
    second.restart_empty().unwrap();
    first.publish("t", "two").unwrap();
    assert_eq!((journal(first).as_str(), journal(second).as_str()), ("one two", "two"));
}

/// What waits for a link is bounded like the journal.
#[test]
fn a_link_that_is_held_keeps_so_much_only() {
    let cluster = Cluster::linked(journaling().max_journal_entries(3), 2).unwrap();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let link = cluster.link(0, 1).unwrap();
    link.hold();
    for n in 1..=5 {
        first.publish("t", n.to_string()).unwrap();
    }
    link.resume();
    assert_eq!(journal(second), "3 4 5");
}

/// R-4, BS-17: a client with a bookmark store gets everything once, and nothing twice.
#[test]
fn a_bookmark_subscriber_fails_over_between_linked_instances() {
    let cluster = Cluster::linked(journaling().clock(Clock::real()), 2).unwrap();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let client = HAClient::builder("reader")
        .servers(cluster.uris("json"))
        .bookmark_store(MemoryBookmarkStore::new())
        .reconnect_delay(Duration::from_millis(10))
        .build()
        .unwrap();
    client.connect_and_logon_timeout(10 * SECOND).unwrap();
    let mut messages = client.bookmark_subscribe("t", Bookmark::MOST_RECENT, "").unwrap();
    let mut next = |client: &HAClient| {
        let message = messages.next_timeout(10 * SECOND).unwrap().expect("a message");
        client.discard(&message).unwrap();
        String::from_utf8_lossy(message.data()).into_owned()
    };
    first.publish("t", "one").unwrap();
    second.publish("t", "two").unwrap();
    assert_eq!((next(&client), next(&client)), ("one".into(), "two".into()));
    first.stop();
    second.publish("t", "three").unwrap();
    assert_eq!(next(&client), "three");
}

/// R-4, Q-7: so does a consumer, and what it did not acknowledge comes again.
#[test]
fn a_queue_consumer_fails_over_between_linked_instances() {
    let cluster = Cluster::linked(journaling().clock(Clock::real()), 2).unwrap();
    let [first, second] = cluster.servers() else { panic!("two instances") };
    let client = HAClient::builder("worker")
        .servers(cluster.uris("json"))
        .reconnect_delay(Duration::from_millis(10))
        .build()
        .unwrap();
    client.connect_and_logon_timeout(10 * SECOND).unwrap();
    let mut jobs = client.subscribe("jobs", "").unwrap();
    first.publish("jobs", "one").unwrap();
    first.publish("jobs", "two").unwrap();
    let mut next = || jobs.next_timeout(10 * SECOND).unwrap().expect("a message");
    let one = next();
    assert_eq!(one.data(), b"one");
    one.ack().unwrap();
    assert_eq!(next().data(), b"two");
    assert_eq!(second.queue("jobs").unwrap().acked, 1);
    first.stop();
    let again = next();
    assert_eq!(again.data(), b"two");
    again.ack().unwrap();
    second
        .wait_for(|server| server.queue("jobs").is_some_and(|queue| queue.acked == 2), 10 * SECOND)
        .unwrap();
}

#[test]
fn three_instances_tell_each_other_once() {
    let cluster = Cluster::linked(journaling(), 3).unwrap();
    for (n, server) in cluster.servers().iter().enumerate() {
        server.publish("t", n.to_string()).unwrap();
    }
    assert!(cluster.servers().iter().all(|server| journal(server) == "0 1 2"));
}

#[test]
fn a_link_that_cannot_be_is_refused() {
    let linked = cluster();
    let shared = Cluster::new(journaling(), 2).unwrap();
    for refused in [linked.link(0, 0), linked.link(0, 2), linked.link(2, 0), shared.link(0, 1)] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Usage);
    }
    let with_hook = journaling().entitlement(|_: &amps_client::testing::Access<'_>| Entitled::Allow);
    assert_eq!(Cluster::linked(with_hook, 2).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(Cluster::linked(journaling(), 0).unwrap_err().kind(), ErrorKind::Usage);
}
