//! Several instances that share what they remember.

use std::time::Duration;

use crate::support::RawClient;
use crate::support::client::inbox;
use amps_client::testing::{
    Clock, Cluster, Expectation, Fault, Frame, Listener, Server, ServerBuilder, Topic, When,
};
use amps_client::{Client, Command, ErrorKind, HAClient, MemoryPublishStore, Message, PublishStore};

const SOON: Duration = Duration::from_secs(10);

fn builder() -> ServerBuilder {
    Server::builder()
        .topic(Topic::sow("orders").key("/id").journaled(true))
        .ack_conflation(Duration::from_millis(20))
}

/// A cluster of two.
fn cluster() -> Cluster {
    Cluster::new(builder(), 2).expect("a cluster")
}

fn publish(id: u64) -> String {
    format!(r#"{{"c":"p","cid":"{id}","t":"orders","s":{id},"a":"processed"}}{{"id":{id}}}"#)
}

/// R-1: one state; what is published on one is delivered on all.
#[test]
fn what_is_published_on_one_instance_is_delivered_on_all() {
    let cluster = Cluster::new(builder(), 3).unwrap();
    let mut subscribers: Vec<_> =
        cluster.servers().iter().map(|server| RawClient::log_on(server, "s")).collect();
    for subscriber in &mut subscribers {
        subscriber.ask(r#"{"c":"subscribe","cid":"s","t":"orders"}"#);
    }
    for (id, server) in (1..).zip(cluster.servers()) {
        let mut publisher = RawClient::log_on(server, "publisher");
        publisher.send(publish(id));
        assert_eq!(publisher.receive().header("status"), Some("success"));
    }
    for subscriber in &mut subscribers {
        let payloads: Vec<_> = subscriber.received().iter().map(|f| f.payload().to_vec()).collect();
        assert_eq!(payloads, [br#"{"id":1}"#, br#"{"id":2}"#, br#"{"id":3}"#]);
    }
    for server in cluster.servers() {
        assert_eq!((server.sow_records("orders").len(), server.journal().len()), (3, 3));
        assert_eq!(server.highest_sequence("publisher"), 3);
        assert_eq!(server.subscriptions().len(), 1);
    }
    cluster.servers()[1].publish("orders", r#"{"id":9}"#).unwrap();
    assert_eq!(cluster.servers()[0].sow_records("orders").len(), 4);
}

/// R-1, K-8: the sequence table is common, and so is the publisher's number.
#[test]
fn a_duplicate_is_one_on_every_instance() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    let mut publisher = RawClient::log_on(one, "p");
    (1..=3).for_each(|id| publisher.send(publish(id)));
    publisher.received();
    let mut publisher = RawClient::connect(two);
    publisher.send(r#"{"c":"logon","cid":"1","client_name":"p","mt":"json","a":"processed"}"#);
    let logon = publisher.receive();
    assert_eq!(logon.header("s"), Some("3"));
    assert_eq!(logon.header("bm"), Some(&*cluster.servers()[0].journal()[2].bookmark));
    for (id, reason) in [(2, Some("duplicate")), (3, Some("duplicate")), (4, None)] {
        publisher.send(publish(id));
        assert_eq!(publisher.receive().header("reason"), reason, "{id}");
    }
    assert_eq!(one.journal().len(), 4);
}

/// R-2: an instance is stopped, restarted and paused by itself, and the state stays.
#[test]
fn an_instance_stops_and_starts_by_itself() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    let uris = cluster.uris("json");
    let mut on_one = RawClient::log_on(one, "c");
    let mut on_two = RawClient::log_on(two, "c");
    on_two.ask(r#"{"c":"subscribe","cid":"s","t":"orders"}"#);
    one.publish("orders", r#"{"id":1}"#).unwrap();
    one.stop();
    assert!(on_one.next().is_none());
    assert_eq!(on_two.receive().payload(), br#"{"id":1}"#);
    two.publish("orders", r#"{"id":2}"#).unwrap();
    assert_eq!(on_two.receive().payload(), br#"{"id":2}"#);
    assert!((one.sessions().is_empty(), two.sessions().len()) == (true, 1));

    two.stop();
    one.restart().unwrap();
    two.restart().unwrap();
    assert_eq!(cluster.uris("json"), uris);
    assert_eq!(two.sow_records("orders").len(), 2);
    two.pause_listening();
    let _client = RawClient::log_on(one, "c");
    assert!(std::net::TcpStream::connect(two.address().unwrap()).is_err());
    two.resume_listening().unwrap();
    RawClient::log_on(two, "c");
    assert_eq!(one.restart_empty().unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(one.sow_records("orders").len(), 2);
}

/// R-2: the timers of the others go on, on the real clock too.
#[test]
fn time_goes_on_while_an_instance_is_stopped() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    one.stop();
    let mut publisher = RawClient::log_on(two, "p");
    publisher.send(r#"{"c":"p","t":"orders","s":1,"a":"persisted"}{"id":1}"#);
    assert_eq!(publisher.receive().header("s"), Some("1"));
    two.stop();
    one.restart().unwrap();
    let mut publisher = RawClient::log_on(one, "p");
    publisher.send(r#"{"c":"p","t":"orders","s":2,"a":"persisted"}{"id":2}"#);
    assert_eq!(publisher.receive().header("s"), Some("2"));
}

/// R-2: faults, counters, frames and switches belong to one instance.
#[test]
fn a_fault_strikes_one_instance_only() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    let fault = one.fault(Fault::close().when(When::receives("sow")).always());
    let query = r#"{"c":"sow","cid":"q","t":"orders"}"#;
    let mut clients = [RawClient::log_on(one, "c"), RawClient::log_on(two, "c")];
    assert_eq!(clients[1].ask(query).len(), 2);
    clients[0].send(query);
    assert!(clients[0].next().is_none());
    assert_eq!((fault.fired(), one.faults().len(), two.faults().len()), (1, 1, 0));
    assert!(one.frames().len() < two.frames().len());
    one.allow_logons(false);
    let _other = RawClient::log_on(two, "d");
    assert_eq!((one.counters().connections, two.counters().connections), (1, 2));
}

/// R-3.
#[test]
fn a_name_is_unique_on_its_instance_only() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    let mut clients = [RawClient::log_on(one, "c"), RawClient::log_on(two, "c")];
    for client in &mut clients {
        assert!(client.received().is_empty());
    }
    let _newer = RawClient::log_on(two, "c");
    assert!(clients[0].received().is_empty());
    assert!(clients[1].next().is_none());
}

/// A-7: one clock for all.
#[test]
fn a_manual_clock_moves_all_instances() {
    let clock = Clock::manual();
    let cluster = Cluster::new(builder().clock(clock.clone()), 2).unwrap();
    let mut clients: Vec<_> = cluster.servers().iter().map(|server| RawClient::log_on(server, "c")).collect();
    for client in &mut clients {
        client.ask(r#"{"c":"heartbeat","o":"start,1"}"#);
    }
    clock.advance(Duration::from_secs(1)).unwrap();
    for client in &mut clients {
        assert_eq!(client.texts(), [r#"{"c":"heartbeat"}"#]);
    }
}

#[test]
fn a_cluster_needs_instances_and_addresses_for_them() {
    assert_eq!(Cluster::new(builder(), 0).unwrap_err().kind(), ErrorKind::Usage);
    let address = cluster().servers()[0].address().unwrap();
    let fixed = || builder().listen(Listener::tcp_at(address));
    assert_eq!(Cluster::new(fixed(), 2).unwrap_err().kind(), ErrorKind::Connection);
    assert_eq!(Cluster::new(fixed(), 1).unwrap().servers().len(), 1);
}

/// A publisher with a store and a subscriber on a cluster.
fn ha_client(cluster: &Cluster, name: &str) -> HAClient {
    let client = HAClient::builder(name)
        .servers(cluster.uris("json"))
        .publish_store(MemoryPublishStore::new())
        .reconnect_delay(Duration::from_millis(10))
        .build()
        .expect("a client");
    client.connect_and_logon_timeout(SOON).expect("an instance");
    client
}

fn unpersisted(client: &Client) -> usize {
    client.publish_store().expect("a store").unpersisted_count()
}

/// R-1, 17.9: what an instance did not acknowledge is published on the next, and nothing twice.
#[test]
fn a_publish_store_is_replayed_against_the_other_instance() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    let client = ha_client(&cluster, "desk");
    let persisted = Expectation::command("ack").header("a", "persisted");
    let withheld = one.fault(Fault::swallow().when(When::sends(persisted)).always());
    for id in 1..=5 {
        client.publish("orders", format!(r#"{{"id":{id}}}"#)).unwrap();
    }
    one.wait_for(|server| server.journal().len() == 5, SOON).unwrap();
    withheld.wait_fired(SOON).unwrap();
    assert_eq!(unpersisted(&client), 5);
    one.stop();
    two.wait_for(|server| server.sessions().len() == 1, SOON).unwrap();
    client.publish("orders", r#"{"id":6}"#).unwrap();
    client.publish_store().unwrap().flush(Some(SOON)).unwrap();
    assert_eq!((unpersisted(&client), two.journal().len()), (0, 6));
}

/// R-1: a subscription is entered again on the other instance.
#[test]
fn a_subscription_survives_its_instance() {
    let cluster = cluster();
    let [one, two] = cluster.servers() else { panic!("two instances") };
    let client = ha_client(&cluster, "desk");
    let (handler, messages) = inbox();
    client.execute_async(Command::subscribe("orders"), handler).unwrap();
    two.publish("orders", r#"{"id":1}"#).unwrap();
    assert_eq!(messages.next().data(), br#"{"id":1}"#);
    one.stop();
    two.wait_for(|server| server.subscriptions().len() == 1, SOON).unwrap();
    two.publish("orders", r#"{"id":2}"#).unwrap();
    let received: Message = messages.next();
    assert_eq!(received.data(), br#"{"id":2}"#);
}

/// Section 17.9: 1 to 5, of which 3 is refused: the handler is called once, and the store is empty in the end.
#[test]
fn a_refused_publish_is_told_once_and_leaves_the_store() {
    let cluster = cluster();
    let client = ha_client(&cluster, "desk");
    let (sender, refusals) = std::sync::mpsc::channel();
    client.set_failed_write_handler(move |message: &Message, reason: &str| {
        let _ = sender.send((message.data().to_vec(), reason.to_owned()));
    });
    let third = |frame: &Frame| frame.payload() == br#"{"id":3}"#;
    cluster.servers()[0].fault(Fault::refuse("not entitled").when(When::receives(third)));
    for id in 1..=5 {
        client.publish("orders", format!(r#"{{"id":{id}}}"#)).unwrap();
    }
    client.publish_store().unwrap().flush(Some(SOON)).unwrap();
    assert_eq!(refusals.recv_timeout(SOON).unwrap(), (br#"{"id":3}"#.to_vec(), "not entitled".to_owned()));
    assert!(refusals.try_recv().is_err());
    assert_eq!((unpersisted(&client), cluster.servers()[1].sow_records("orders").len()), (0, 4));
}
