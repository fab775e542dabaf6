//! One case of the sweep: a client with a past, an outage, the fault, and what must be so afterwards.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use amps_client::testing::{ArmedFault, Cluster, Fault, Server, Topic};
use amps_client::{
    AckType, Authenticator, Client, Command, ConnectionInfo, ConnectionState, DefaultServerChooser, Error,
    ErrorKind, HAClient, Logon, MemoryPublishStore, MemorySubscriptionManager, Message, PublishStore, Result,
    ServerChooser, SubscriptionManager,
};
use parking_lot::Mutex;

use super::table::{Case, REPLAYED, SUBSCRIPTIONS, Trouble, Who, order};
use crate::support::client::{Inbox, Pending, Record, SOON, begin, inbox};

/// How long an answer is waited for that does not come.
const SILENCE: Duration = Duration::from_millis(150);
/// How long the client waits before it tries a server again.
const DELAY: Duration = Duration::from_millis(5);
/// What is published when all is over: the second tells that nothing else came before it.
const AFTERWARDS: [u64; 2] = [10, 11];

/// Runs a case; panics if anything is not as it must be.
pub(super) fn run(case: Case) {
    let mut scene = Scene::new(case);
    scene.establish();
    scene.lose();
    let calls = scene.wait_for_the_end_of_it();
    let armed = scene.strike();
    for (what, call) in calls {
        call.wait().unwrap_or_else(|error| panic!("{case:?}: {what}: {error}"));
    }
    scene.recovers(&armed);
    scene.has_lost_nothing();
    scene.has_told_what_it_should();
    scene.ends();
}

struct Scene {
    case: Case,
    cluster: Cluster,
    maker: Maker,
    store: Arc<MemoryPublishStore>,
    record: Record,
    told: Told,
    inboxes: Vec<Inbox>,
    /// Reason and payload of each failed write.
    refused: Receiver<(String, Vec<u8>)>,
}

/// Who makes the connection.
enum Maker {
    Ha(HAClient),
    Plain(Client),
}

impl Maker {
    fn client(&self) -> &Client {
        match self {
            Maker::Ha(client) => client,
            Maker::Plain(client) => client,
        }
    }
}

/// Why attempts failed.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<ErrorKind>>>);

impl Told {
    fn note(&self, error: &Error) {
        self.0.lock().push(error.kind());
    }

    fn kinds(&self) -> Vec<ErrorKind> {
        self.0.lock().clone()
    }
}

impl Scene {
    fn new(case: Case) -> Scene {
        let builder = Server::builder()
            .topic(Topic::sow("orders").key("/id").journaled(true))
            .ack_conflation(Duration::from_millis(5))
            .record_frames(0);
        let cluster = Cluster::new(builder, 2).unwrap();
        let store = Arc::new(MemoryPublishStore::new());
        let told = Told::default();
        let limit = if case.trouble == Trouble::Silence { SILENCE } else { SOON };
        let manager = MemorySubscriptionManager::new();
        manager.set_resubscription_timeout(Some(limit));
        let maker = match case.who {
            Who::Handler => Maker::Plain(plain(&cluster, &store, manager, limit, &told)),
            Who::Reconnecting | Who::Connecting => {
                let client = HAClient::builder("sweep")
                    .server_chooser(Telling::of(&cluster, &told))
                    .reconnect_delay(DELAY)
                    .subscription_manager(manager)
                    .publish_store(Arc::clone(&store))
                    .build()
                    .unwrap();
                client.set_logon_timeout(Some(limit));
                Maker::Ha(client)
            }
        };
        let client = maker.client();
        client.set_heartbeat(Duration::from_secs(30)).unwrap();
        let record = Record::of(client);
        let (sender, refused) = mpsc::channel();
        client.set_failed_write_handler(move |message: &Message, reason: &str| {
            // The test may be over.
            _ = sender.send((reason.to_owned(), message.data().to_vec()));
        });
        Scene { case, cluster, maker, store, record, told, inboxes: Vec::new(), refused }
    }

    /// A client that has published, and has its subscriptions.
    fn establish(&mut self) {
        match &self.maker {
            Maker::Ha(client) => client.connect_and_logon().unwrap(),
            Maker::Plain(client) => {
                client.connect(&self.cluster.uris("json")[0]).unwrap();
                client.logon().unwrap();
            }
        }
        for sub_id in SUBSCRIPTIONS {
            let (handler, inbox) = inbox();
            let command = Command::subscribe("orders").sub_id(sub_id);
            self.maker.client().execute_async(command, handler).unwrap();
            self.inboxes.push(inbox);
        }
        self.publish(0);
        self.maker.client().publish_flush().unwrap();
        self.inboxes.iter().for_each(|inbox| assert_eq!(inbox.payloads(1), [order(0)]));
    }

    /// An outage, in which messages are published.
    fn lose(&self) {
        self.cluster.servers().iter().for_each(Server::pause_listening);
        match &self.maker {
            Maker::Ha(client) if self.case.who == Who::Connecting => client.close(),
            _ => self.cluster.servers().iter().for_each(|server| drop(server.fault(Fault::close()))),
        }
        let is_lost = || self.record.states().contains(&ConnectionState::Disconnected);
        wait_until(self.case, "it is lost", is_lost);
        // The chooser is told of the loss a moment after that.
        let is_told = || self.case.who != Who::Reconnecting || !self.told.kinds().is_empty();
        wait_until(self.case, "the chooser is told", is_told);
        self.told.0.lock().clear();
        (REPLAYED[0]..=REPLAYED[1]).for_each(|id| self.publish(id));
        assert_eq!(self.store.unpersisted_count() as u64, REPLAYED[1], "{:?}", self.case);
    }

    /// With a store a publish is kept, whatever it returns (D-17).
    fn publish(&self, id: u64) {
        if let Err(error) = self.maker.client().publish("orders", order(id)) {
            assert!(error.is_disconnect(), "{:?}: {error}", self.case);
        }
    }

    /// The calls of the application that wait for the end of the outage.
    fn wait_for_the_end_of_it(&self) -> Vec<(&'static str, Pending<Result<()>>)> {
        let client = self.maker.client();
        match &self.maker {
            Maker::Ha(ha) if self.case.who == Who::Connecting => {
                let ha = ha.clone();
                vec![("connect", begin(client, move |_| ha.connect_and_logon()))]
            }
            _ => vec![
                ("sow", begin(client, |client| client.sow("orders", "")?.try_for_each(|row| row.map(drop)))),
                ("flush", begin(client, Client::publish_flush)),
            ],
        }
    }

    /// Arms the fault on both servers, and lets the client come.
    fn strike(&self) -> Vec<ArmedFault> {
        if self.case.failure() == Some(ErrorKind::ConnectionRefused) {
            let refused = || self.told.kinds().contains(&ErrorKind::ConnectionRefused);
            wait_until(self.case, "nobody is there", refused);
        }
        let servers = self.cluster.servers();
        let armed = servers.iter().filter_map(|server| Some(server.fault(self.case.fault()?))).collect();
        servers.iter().for_each(|server| server.resume_listening().unwrap());
        armed
    }

    /// The fault has struck, and the client is there again.
    fn recovers(&self, armed: &[ArmedFault]) {
        let case = self.case;
        let flushed = self.maker.client().publish_flush_with(AckType::PROCESSED, Some(SOON));
        flushed.unwrap_or_else(|error| panic!("{case:?}: {error}"));
        let struck = || armed.is_empty() || armed.iter().any(|fault| fault.fired() > 0);
        wait_until(case, "the fault has struck", struck);
        assert_eq!(self.record.states().last(), Some(&ConnectionState::Resubscribed), "{case:?}");
    }

    /// Every publish is there once and in order, and every subscription is live once.
    fn has_lost_nothing(&self) {
        let case = self.case;
        AFTERWARDS.iter().for_each(|id| self.publish(*id));
        self.maker.client().publish_flush().unwrap();
        assert_eq!(self.store.unpersisted_count(), 0, "{case:?}");
        let ids = (0..=REPLAYED[1]).filter(|id| Some(*id) != case.refused()).chain(AFTERWARDS);
        let kept = self.cluster.servers()[0].journal();
        let kept: Vec<_> = kept.iter().map(|entry| String::from_utf8_lossy(&entry.payload)).collect();
        assert_eq!(kept, ids.map(order).collect::<Vec<_>>(), "{case:?}");
        for (inbox, sub_id) in self.inboxes.iter().zip(SUBSCRIPTIONS) {
            // What is replayed comes before the subscriptions, or, if that connection is lost again, behind some of them.
            let came: Vec<String> = std::iter::from_fn(|| Some(inbox.payloads(1).remove(0)))
                .take_while(|payload| *payload != order(AFTERWARDS[1]))
                .collect();
            let again = came.iter().filter(|payload| **payload == order(AFTERWARDS[0])).count();
            assert_eq!(again, 1, "{case:?}: {sub_id}: {came:?}");
        }
    }

    /// The attempts failed for the reason that they should, and nothing else was reported.
    fn has_told_what_it_should(&self) {
        let case = self.case;
        let told = self.told.kinds();
        let expected = case.failure();
        assert!(expected.is_none_or(|kind| told.contains(&kind)), "{case:?}: {told:?}");
        let nobody_there = ErrorKind::ConnectionRefused;
        let others = told.iter().filter(|kind| Some(**kind) != expected && **kind != nobody_there);
        assert_eq!(others.count(), 0, "{case:?}: {told:?}");

        let reported: Vec<_> = self.record.failures().iter().map(|failure| failure.error.kind()).collect();
        let is_garbage = case.trouble == Trouble::Garbage;
        assert_eq!(reported.contains(&ErrorKind::Stream), is_garbage, "{case:?}: {:?}", self.record.story());
        let others = reported.iter().filter(|kind| {
            Some(**kind) != expected && !matches!(kind, ErrorKind::Stream | ErrorKind::Disconnected)
        });
        assert_eq!(others.count(), 0, "{case:?}: {:?}", self.record.story());
        let refused: Vec<_> = self.refused.try_iter().filter(|(reason, _)| reason != "duplicate").collect();
        let expected = case.refused().map(|id| ("not entitled".to_owned(), order(id).into_bytes()));
        assert_eq!(refused, Vec::from_iter(expected), "{case:?}");
    }

    fn ends(self) {
        let client = self.maker.client();
        client.close();
        assert_eq!(self.record.states().last(), Some(&ConnectionState::Shutdown), "{:?}", self.case);
        let refused = client.sow("orders", "").map(drop).unwrap_err();
        assert!(refused.is_disconnect(), "{:?}: {refused}", self.case);
    }
}

/// A chooser that tells of every failure; it never gives up.
struct Telling {
    inner: DefaultServerChooser,
    told: Told,
}

impl Telling {
    fn of(cluster: &Cluster, told: &Told) -> Telling {
        let inner = DefaultServerChooser::from_iter(cluster.uris("json")).give_up_after(None);
        Telling { inner, told: told.clone() }
    }
}

impl ServerChooser for Telling {
    fn current_uri(&mut self) -> Option<String> {
        self.inner.current_uri()
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        self.inner.current_authenticator()
    }

    fn report_failure(&mut self, error: &Error, info: &ConnectionInfo) {
        self.told.note(error);
        self.inner.report_failure(error, info);
    }

    fn report_success(&mut self, info: &ConnectionInfo) {
        self.inner.report_success(info);
    }
}

/// A client whose disconnect handler goes through the servers until one lets it in.
fn plain(
    cluster: &Cluster,
    store: &Arc<MemoryPublishStore>,
    manager: MemorySubscriptionManager,
    limit: Duration,
    told: &Told,
) -> Client {
    let builder = Client::builder("sweep").publish_store(Arc::clone(store)).subscription_manager(manager);
    let client = builder.build().unwrap();
    let (uris, told) = (cluster.uris("json"), told.clone());
    let repair = move |client: &Client, _: &Error| {
        for uri in uris.iter().cycle() {
            let attempt = client.connect(uri).and_then(|()| client.logon_with(&Logon::new().timeout(limit)));
            let Err(error) = attempt else { break };
            told.note(&error);
            thread::sleep(DELAY);
        }
    };
    client.set_disconnect_handler(repair).unwrap();
    client
}

#[track_caller]
fn wait_until(case: Case, what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !done() {
        assert!(Instant::now() < deadline, "{case:?}: waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
