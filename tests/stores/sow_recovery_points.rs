//! The recovery point adapter that keeps its points in a SOW topic (`resilience` BS-33), against a server.

use std::sync::Arc;
use std::time::Duration;

use amps_client::testing::{Clock, Server, Topic};
use amps_client::{
    Bookmark, BookmarkStore, Client, Command, ConflatingRecoveryPointAdapter, ErrorKind, HAClient,
    MemoryBookmarkStore, MemoryPublishStore, MessageStream, Origin, RecoveryPoint, RecoveryPointAdapter,
    RecoveryPointFactory, SowRecoveryPointAdapter, SowRecoveryPointAdapterBuilder, UnhandledError,
};
use parking_lot::Mutex;

use crate::support::SOON;

const TOPIC: &str = "/ADMIN/bookmark_store";
const TRACKED: &str = "desk";

/// A server with a topic for recovery points, and a journal of orders.
fn server() -> Server {
    let topic = Topic::sow(TOPIC).key("/clientName").key("/subId");
    Server::builder().topic(topic).journal("orders").clock(Clock::manual()).start().unwrap()
}

fn logged_on(server: &Server, name: &str) -> Client {
    let client = Client::builder(name).build().unwrap();
    client.connect(&server.uri("json")).unwrap();
    client.logon().unwrap();
    client
}

fn keeper(server: &Server) -> Client {
    logged_on(server, "keeper")
}

/// An HA client that keeps what it publishes, and comes back soon.
fn lasting_keeper(server: &Server) -> HAClient {
    let builder = HAClient::builder("keeper").servers([server.uri("json")]);
    let builder = builder.reconnect_delay(Duration::from_millis(10)).publish_store(MemoryPublishStore::new());
    // The clock of the server stands still, so nothing may wait for it.
    let client = builder.logon_options("ack_conflation=0ms").build().unwrap();
    client.connect_and_logon().unwrap();
    client
}

fn adapter(
    server: &Server,
    settings: impl FnOnce(SowRecoveryPointAdapterBuilder) -> SowRecoveryPointAdapterBuilder,
) -> SowRecoveryPointAdapter {
    settings(SowRecoveryPointAdapter::builder(keeper(server), TRACKED)).build().unwrap()
}

fn store_with(adapter: impl RecoveryPointAdapter + 'static) -> Arc<MemoryBookmarkStore> {
    Arc::new(MemoryBookmarkStore::with_adapter(adapter, RecoveryPointFactory::Fixed).unwrap())
}

fn publish(server: &Server, numbers: std::ops::RangeInclusive<u64>) {
    numbers.for_each(|n| server.publish("orders", n.to_string()).unwrap());
}

/// What is in the topic, in no particular order.
fn records(server: &Server) -> Vec<String> {
    let records = server.sow_records(TOPIC).into_iter();
    let mut texts: Vec<String> = records.map(|record| String::from_utf8(record.payload).unwrap()).collect();
    texts.sort();
    texts
}

fn wait_for_record(server: &Server, text: &str) {
    server.wait_for(|server| records(server).iter().any(|record| record.contains(text)), SOON).unwrap();
}

/// A subscriber and its messages.
struct Subscriber {
    client: Client,
    stream: MessageStream,
}

impl Subscriber {
    /// Goes on where the adapter says.
    fn start(server: &Server, adapter: impl RecoveryPointAdapter + 'static) -> Subscriber {
        let builder = Client::builder(TRACKED).bookmark_store(store_with(adapter));
        let client = builder.build().unwrap();
        client.connect(&server.uri("json")).unwrap();
        client.logon().unwrap();
        let command = Command::subscribe("orders").sub_id("orders-1").bookmark(Bookmark::MOST_RECENT);
        let stream = client.execute(command).unwrap();
        Subscriber { client, stream }
    }

    /// Takes the next messages, which must be these, and discards those that are in the second list.
    fn takes(&mut self, numbers: &[u64], discards: &[u64]) {
        let messages: Vec<_> =
            numbers.iter().map(|_| self.stream.next_timeout(SOON).unwrap().unwrap()).collect();
        let taken: Vec<u64> =
            messages.iter().map(|message| message.data_str().unwrap().parse().unwrap()).collect();
        assert_eq!(taken, numbers);
        for (number, message) in numbers.iter().zip(&messages) {
            if discards.contains(number) {
                self.client.discard(message).unwrap();
            }
        }
    }
}

/// BS-29, BS-31, BS-33: with a client and with an HA client, directly and conflated.
#[test]
fn a_subscriber_that_starts_again_goes_on_where_it_stopped() {
    type Make = fn(&Server) -> Arc<dyn RecoveryPointAdapter>;
    let makes: [Make; 3] = [
        |server| Arc::new(SowRecoveryPointAdapter::new(keeper(server), TRACKED).unwrap()),
        |server| Arc::new(SowRecoveryPointAdapter::new(lasting_keeper(server), TRACKED).unwrap()),
        |server| {
            let adapter = SowRecoveryPointAdapter::new(keeper(server), TRACKED).unwrap();
            Arc::new(ConflatingRecoveryPointAdapter::new(adapter).unwrap())
        },
    ];
    for make in makes {
        let server = server();
        publish(&server, 1..=5);
        let mut subscriber = Subscriber::start(&server, make(&server));
        subscriber.takes(&[1, 2, 3, 4, 5], &[1, 2, 4]);
        drop(subscriber);
        let bookmark = server.journal()[1].bookmark.clone();
        let record = format!(r#"{{"clientName":"desk","subId":"orders-1","bookmark":"{bookmark}"}}"#);
        assert_eq!(records(&server), [record]);
        // The store has closed its adapter, and that its client.
        server.wait_for(|server| server.open_connections() == 0, SOON).unwrap();

        publish(&server, 6..=6);
        let mut subscriber = Subscriber::start(&server, make(&server));
        subscriber.takes(&[3, 4, 5, 6], &[3, 4, 5, 6]);
        drop(subscriber);
        publish(&server, 7..=7);
        Subscriber::start(&server, make(&server)).takes(&[7], &[]);
    }
}

/// BS-33: what is done during an outage arrives after it.
#[test]
fn an_ha_client_keeps_updates_over_an_outage() {
    let server = server();
    let keeper = lasting_keeper(&server);
    let store = store_with(SowRecoveryPointAdapter::new(keeper, TRACKED).unwrap());
    store.placed("a", &Bookmark::at(1, 1)).unwrap();
    wait_for_record(&server, r#""1|1|""#);
    server.stop();
    store.placed("a", &Bookmark::at(1, 2)).unwrap();
    store.placed("a", &Bookmark::at(1, 3)).unwrap();
    server.restart().unwrap();
    wait_for_record(&server, r#""1|3|""#);
}

#[test]
fn the_client_that_is_tracked_cannot_keep_its_own_points() {
    let client = Client::builder(TRACKED).build().unwrap();
    let error = SowRecoveryPointAdapter::new(client.clone(), TRACKED).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(TRACKED), "{error}");
    let error = SowRecoveryPointAdapter::builder(client, "other").sub_id_field("a/b").build().unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("a/b"), "{error}");
}

/// Only the own records are read and deleted, whatever the names are.
#[test]
fn each_client_has_records_of_its_own() {
    let server = server();
    let names = [TRACKED, "o'neil \\", "a\" OR 1=1"];
    let sub_ids = ["orders-1", "' OR 1=1 OR '", "back\\slash\""];
    let adapters = names
        .map(|name| SowRecoveryPointAdapter::new(logged_on(&server, &format!("{name}-k")), name).unwrap());
    for (number, adapter) in (1..).zip(&adapters) {
        for sub_id in sub_ids {
            adapter.update(&RecoveryPoint::new(sub_id, Bookmark::at(7, number))).unwrap();
        }
    }
    let recovered = |adapter: &SowRecoveryPointAdapter| {
        let points = adapter.recover().unwrap().into_iter();
        let mut points: Vec<_> =
            points.map(|point| (point.sub_id().to_owned(), String::from(point.bookmark()))).collect();
        points.sort();
        points
    };
    for (number, adapter) in (1..).zip(&adapters) {
        let mut expected = sub_ids.map(|sub_id| (sub_id.to_owned(), format!("7|{number}|")));
        expected.sort();
        assert_eq!(recovered(adapter), expected);
    }
    adapters[1].purge_sub_id(sub_ids[1]).unwrap();
    assert_eq!(recovered(&adapters[1]).len(), 2);
    adapters[2].purge().unwrap();
    assert_eq!(recovered(&adapters[2]), []);
    assert_eq!(recovered(&adapters[0]).len(), 3);
}

#[test]
fn topic_and_fields_may_have_other_names() {
    let topic = Topic::sow("desk/points").key("/who").key("/what");
    let server = Server::builder().topic(topic).clock(Clock::manual()).start().unwrap();
    let elsewhere = || {
        adapter(&server, |builder| {
            builder.topic("desk/points").client_name_field("who").sub_id_field("what").bookmark_field("at")
        })
    };
    let store = store_with(elsewhere());
    store.placed("a", &Bookmark::at(1, 1)).unwrap();
    drop(store);
    let record = &server.sow_records("desk/points")[0];
    assert_eq!(record.payload, br#"{"who":"desk","what":"a","at":"1|1|"}"#);
    assert_eq!(store_with(elsewhere()).most_recent("a").unwrap(), Bookmark::at(1, 1));
}

/// BS-33: the option for a server that no longer has the bookmarks.
#[test]
fn the_time_of_a_record_is_added_on_request() {
    let server = server();
    let store = store_with(adapter(&server, |builder| builder));
    for (sub_id, point) in [("place", "1|1|"), ("range", "[1|1|:1|9|]")] {
        store.placed(sub_id, &point.parse().unwrap()).unwrap();
    }
    drop(store);
    let time = Bookmark::time(server.sow_records(TOPIC)[0].time);
    let store = store_with(adapter(&server, |builder| builder.use_timestamp(true)));
    assert_eq!(store.most_recent("place").unwrap().as_str(), format!("1|1|,{}", time.as_str()));
    assert_eq!(store.most_recent("range").unwrap().as_str(), "[1|1|:1|9|]");
    store.persisted("place", "1|2|").unwrap();
    assert_eq!(store.most_recent("place").unwrap().as_str(), "1|2|");
}

/// BS-30, BS-33.
#[test]
fn a_failure_goes_to_the_listener_of_the_adapter() {
    let server = server();
    let failures = Arc::new(Mutex::new(Vec::new()));
    let note = failures.clone();
    let client = keeper(&server);
    let adapter = SowRecoveryPointAdapter::builder(client.clone(), TRACKED)
        .exception_listener(move |failure: &UnhandledError| {
            let id = failure.id().map(str::to_owned);
            note.lock().push((failure.origin(), failure.error().kind(), id));
            panic!("what goes wrong here goes nowhere");
        })
        .build()
        .unwrap();
    let store = store_with(adapter);
    client.close();
    store.placed("a", &Bookmark::at(1, 1)).unwrap();
    assert_eq!(store.most_recent("a").unwrap(), Bookmark::at(1, 1));
    store.purge_sub_id("a").unwrap();
    drop(store);
    let failed = |id: Option<&str>| (Origin::BookmarkStore, ErrorKind::Disconnected, id.map(str::to_owned));
    assert_eq!(*failures.lock(), [failed(Some("a")), failed(Some("a")), failed(None)]);
}

/// 128, BS-33.
#[test]
fn a_failure_is_returned_on_request() {
    let server = server();
    let client = keeper(&server);
    let builder = SowRecoveryPointAdapter::builder(client.clone(), TRACKED);
    let store = store_with(builder.update_failure_raises(true).build().unwrap());
    client.close();
    let error = store.placed("a", &Bookmark::at(1, 1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert_eq!(store.most_recent("a").unwrap(), Bookmark::at(1, 1));
}

#[test]
fn a_recovery_that_fails_is_always_returned() {
    let server = server();
    let client = keeper(&server);
    client.close();
    let adapter = SowRecoveryPointAdapter::new(client, TRACKED).unwrap();
    assert_eq!(adapter.recover().unwrap_err().kind(), ErrorKind::Disconnected);

    for (record, text) in [
        (r#"{"clientName":"desk","subId":"a"}"#, "no recovery point"),
        (r#"{"clientName":"desk","subId":"a","bookmark":"x"}"#, "x"),
    ] {
        server.publish(TOPIC, record).unwrap();
        let error = SowRecoveryPointAdapter::new(keeper(&server), TRACKED).unwrap().recover().unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_client_that_is_to_stay_open_does() {
    let server = server();
    let client = keeper(&server);
    let builder = SowRecoveryPointAdapter::builder(client.clone(), TRACKED);
    let store = store_with(builder.close_client(false).build().unwrap());
    store.placed("a", &Bookmark::at(1, 1)).unwrap();
    drop(store);
    assert!(client.is_connected());
    assert_eq!(records(&server).len(), 1, "closing waits for the server");
    drop(store_with(SowRecoveryPointAdapter::new(client.clone(), TRACKED).unwrap()));
    assert!(!client.is_connected());
}
