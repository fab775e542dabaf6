//! An `HAClient` whose servers the test plays itself, and choosers that write down what happens to them.

use std::sync::Arc;
use std::time::Duration;

use amps_client::testing::{LogonAck, PeerConnection, ScriptedPeer};
use amps_client::{
    Authenticator, Command, ConnectionInfo, DefaultServerChooser, Error, HAClient, HAClientBuilder,
    MessageHandler, Result, ServerChooser,
};
use parking_lot::Mutex;

use super::client::{Inbox, Pending, Record, SOON, begin, begin_alone, inbox, publication, settle};

/// How long the clients here wait before they try a server again.
pub(crate) const DELAY: Duration = Duration::from_millis(10);

/// A logged-on client, its only server, and their connection, which the test plays.
pub(crate) struct HaScene {
    pub(crate) client: HAClient,
    pub(crate) record: Record,
    pub(crate) peer: ScriptedPeer,
    pub(crate) connection: PeerConnection,
}

impl HaScene {
    /// A client that is connected and logged on.
    pub(crate) fn logged_on() -> HaScene {
        HaScene::of(|builder| builder)
    }

    /// The same with something built in.
    pub(crate) fn of(build: impl FnOnce(HAClientBuilder) -> HAClientBuilder) -> HaScene {
        HaScene::prepared(build, |_| {})
    }

    /// The same with settings made before it connects.
    pub(crate) fn prepared(
        build: impl FnOnce(HAClientBuilder) -> HAClientBuilder,
        prepare: impl FnOnce(&HAClient),
    ) -> HaScene {
        let peer = ScriptedPeer::start().expect("a peer");
        let client = ha_client(&[&peer], build);
        let record = Record::of(&client);
        prepare(&client);
        let connecting = connecting(&client);
        let connection = admitted(&peer);
        connecting.wait().expect("the logon is accepted");
        HaScene { client, record, peer, connection }
    }

    /// Starts a waiting call on another thread.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        call: impl FnOnce(&HAClient) -> T + Send + 'static,
    ) -> Pending<T> {
        begin_ha(&self.client, call)
    }

    /// Makes a waiting call and accepts its command, which must come next and be this one.
    pub(crate) fn accepted<T: Send + 'static>(
        &self,
        command: &str,
        call: impl FnOnce(&HAClient) -> Result<T> + Send + 'static,
    ) -> T {
        let pending = self.begin(call);
        accept(&self.connection, command);
        pending.wait().expect("the command is accepted")
    }

    /// Subscribes under this id, and returns what comes.
    pub(crate) fn subscribe(&self, id: &str) -> Inbox {
        let (handler, inbox) = inbox();
        self.subscribe_with(id, handler);
        inbox
    }

    /// Subscribes under this id with this handler.
    pub(crate) fn subscribe_with(&self, id: &str, handler: impl MessageHandler + 'static) {
        let command = Command::subscribe("t").sub_id(id);
        self.accepted("subscribe", move |client| client.execute_async(command, handler));
    }

    /// Sends data for a subscription.
    pub(crate) fn send(&self, id: &str, data: &str) {
        self.connection.send(&publication(id), data).expect("the client reads");
    }

    /// See [`settle`].
    pub(crate) fn settle(&self) {
        settle(&self.client, &self.connection);
    }

    /// Loses the connection and accepts the next one, up to and with the logon.
    pub(crate) fn fail_over(&mut self) {
        self.fail_over_with(&LogonAck::success());
    }

    /// The same with this answer to the logon.
    pub(crate) fn fail_over_with(&mut self, answer: &LogonAck) {
        self.connection.close();
        self.accept_again(answer);
    }

    /// Accepts the next connection, up to and with the logon.
    pub(crate) fn accept_again(&mut self, answer: &LogonAck) {
        self.connection = self.peer.accept(SOON).expect("another connection");
        self.connection.logon(answer, SOON).expect("another logon");
    }

    /// Accepts the subscriptions that come next, and returns their ids.
    #[track_caller]
    pub(crate) fn resubscribed(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| accept(&self.connection, "subscribe")).collect()
    }

    /// What came over the connection, by command, without the flushes of [`HaScene::settle`].
    pub(crate) fn commands(&self) -> Vec<String> {
        commands(&self.connection)
    }
}

/// A client of these servers, which soon tries again.
pub(crate) fn ha_client(
    peers: &[&ScriptedPeer],
    build: impl FnOnce(HAClientBuilder) -> HAClientBuilder,
) -> HAClient {
    let uris = peers.iter().map(|peer| peer.uri("json"));
    build(HAClient::builder("ha").servers(uris).reconnect_delay(DELAY)).build().expect("a client")
}

/// Accepts a connection of an `HAClient`, up to and with the logon.
#[track_caller]
pub(crate) fn admitted(peer: &ScriptedPeer) -> PeerConnection {
    answered(peer, &LogonAck::success())
}

/// Accepts a connection of an `HAClient` and answers its logon so.
#[track_caller]
pub(crate) fn answered(peer: &ScriptedPeer, answer: &LogonAck) -> PeerConnection {
    let connection = peer.accept(SOON).expect("a connection");
    connection.logon(answer, SOON).expect("a logon");
    connection
}

/// Accepts the next command, which must be this one, and returns the id of its subscription.
#[track_caller]
pub(crate) fn accept(connection: &PeerConnection, command: &str) -> String {
    let frame = connection.expect(command, SOON).expect("the command");
    connection.reply_ok().expect("the client reads");
    frame.header("sub_id").unwrap_or_default().to_owned()
}

/// Tells the client that everything up to this number is persisted.
#[track_caller]
pub(crate) fn persisted(connection: &PeerConnection, sequence: u64) {
    let ack = format!(r#"{{"c":"ack","a":"persisted","s":{sequence},"status":"success"}}"#);
    connection.send(&ack, b"").expect("the client reads");
}

/// What came over a connection, by command, without flushes.
pub(crate) fn commands(connection: &PeerConnection) -> Vec<String> {
    let frames = connection.frames();
    let names = frames.iter().map(|received| received.frame().command().to_owned());
    names.filter(|name| name != "flush").collect()
}

/// Starts to connect on another thread.
pub(crate) fn connecting(client: &HAClient) -> Pending<Result<()>> {
    begin_ha(client, |client| client.connect_and_logon())
}

/// Starts a waiting call on another thread.
pub(crate) fn begin_ha<T: Send + 'static>(
    client: &HAClient,
    call: impl FnOnce(&HAClient) -> T + Send + 'static,
) -> Pending<T> {
    let client = client.clone();
    begin_alone(move || {
        let result = call(&client);
        drop(client);
        result
    })
}

/// What happened to a chooser, in order.
#[derive(Clone, Default)]
pub(crate) struct Choices {
    calls: Arc<Mutex<Vec<String>>>,
}

impl Choices {
    /// What happened since this was asked last: `uri`, `authenticator`, `failure KIND SERVER`, `success SERVER`. The
    /// servers are A, B, C … in the order of the list that the chooser was made with.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock())
    }

    /// How many failures of this kind were told since the last [`Choices::take`].
    pub(crate) fn failures(&self, kind: &str) -> usize {
        let told = format!("failure {kind} ");
        self.calls.lock().iter().filter(|call| call.starts_with(&told)).count()
    }
}

/// A chooser that writes down what is asked and told.
pub(crate) struct Recording<C> {
    inner: C,
    uris: Vec<String>,
    choices: Choices,
}

impl Recording<DefaultServerChooser> {
    /// The default chooser for these servers; it never gives up.
    pub(crate) fn of(peers: &[&ScriptedPeer]) -> (Recording<DefaultServerChooser>, Choices) {
        let uris: Vec<String> = peers.iter().map(|peer| peer.uri("json")).collect();
        Recording::with(uris.iter().collect::<DefaultServerChooser>().give_up_after(None), uris)
    }
}

impl<C: ServerChooser> Recording<C> {
    /// A chooser of these servers.
    pub(crate) fn with(inner: C, uris: Vec<String>) -> (Recording<C>, Choices) {
        let choices = Choices::default();
        (Recording { inner, uris, choices: choices.clone() }, choices)
    }

    fn note(&self, call: impl Into<String>) {
        self.choices.calls.lock().push(call.into());
    }

    fn server(&self, info: &ConnectionInfo) -> char {
        let uri = info.get("client.uri").unwrap_or_default();
        let at = self.uris.iter().position(|known| known == uri);
        at.map_or('?', |at| char::from(b'A' + at as u8))
    }
}

impl<C: ServerChooser> ServerChooser for Recording<C> {
    fn current_uri(&mut self) -> Option<String> {
        self.note("uri");
        self.inner.current_uri()
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        self.note("authenticator");
        self.inner.current_authenticator()
    }

    fn report_failure(&mut self, error: &Error, info: &ConnectionInfo) {
        self.note(format!("failure {:?} {}", error.kind(), self.server(info)));
        self.inner.report_failure(error, info);
    }

    fn report_success(&mut self, info: &ConnectionInfo) {
        self.note(format!("success {}", self.server(info)));
        self.inner.report_success(info);
    }

    fn error(&self) -> String {
        self.inner.error()
    }

    fn refusal(&self) -> Option<Error> {
        self.inner.refusal()
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}
