//! `errors.jsonl`, lines about what fails, or does not, of a client with a publish store and of one that finds its server
//! by itself.

use std::sync::Arc;
use std::time::Duration;

use amps_client::testing::{ConnectionScript, LogonAck, ScriptedPeer};
use amps_client::{
    AckType, Authenticator, ConnectionInfo, ConnectionState, DefaultAuthenticator, Error, FixedDelayStrategy,
    HAClient, MemoryPublishStore, PublishStore, Result, ServerChooser,
};
use serde_json::Value;

use crate::clients::Plan;
use crate::local::{Case, MOMENT, iterate_after_loss};
use crate::report::{Replay, Verdict};
use crate::watched::Watched;

pub(crate) const CASES: &[(&str, Case)] = &[
    ("publish: never connected, memory store", || never_connected().0),
    ("publish: after disconnect, no handler, memory store", || after_disconnect().0),
    ("publish_flush: store not drained in time", not_drained),
    ("ha connect_and_logon: no server chooser", || HAClient::builder("golden").build()?.connect_and_logon()),
    ("ha connect_and_logon: empty chooser", || {
        HAClient::builder("golden").servers([""; 0]).build()?.connect_and_logon()
    }),
    ("ha connect_and_logon: chooser gives up after refused connection", || {
        let peer = ScriptedPeer::start()?;
        peer.refuse()?;
        with_chooser(&peer).connect_and_logon()
    }),
    ("ha connect_and_logon: chooser gives up after logon failure: auth failure", || refused("auth failure")),
    ("ha connect_and_logon: chooser gives up after logon failure: not entitled", || refused("not entitled")),
    ("ha connect_and_logon: chooser gives up after logon failure: name in use", || refused("name in use")),
    ("ha connect_and_logon: chooser gives up after logon failure: duplicate logon attempt", || {
        refused("duplicate logon attempt")
    }),
    ("ha connect_and_logon: delay strategy exhausted", exhausted),
    ("ha publish: down, retry disabled, no store", || down(None).client.publish("t", "1").map(drop)),
    ("ha publish: down, retry disabled, memory store", || {
        down(Some(Arc::default())).client.publish("t", "1").map(drop)
    }),
    ("ha sow: down, retry disabled", || down(None).client.sow("t", "").map(drop)),
];

/// Replays a note: a fact with a value.
pub(crate) fn noted(case: &str, line: &Value) -> Replay {
    let value = match case {
        "publish with store, never connected: unpersisted count" => Value::from(never_connected().1),
        "publish with store after disconnect: unpersisted count" => Value::from(after_disconnect().1),
        "ha publish with store while down, retry disabled: unpersisted count" => {
            let store: Arc<MemoryPublishStore> = Arc::default();
            down(Some(Arc::clone(&store))).client.publish("t", "1").map_err(|error| error.to_string())?;
            Value::from(store.unpersisted_count())
        }
        "stream after disconnect (no handler)" if iterate_after_loss(drop) => Value::from("iteration ends"),
        _ => return Err("an unknown note".to_owned()),
    };
    if value == line["value"] { Ok(Verdict::Replayed) } else { Err(format!("it is {value}")) }
}

fn plan(ha: bool, store: Option<Arc<MemoryPublishStore>>) -> Plan {
    let publish_store = store.map(|store| store as Arc<dyn PublishStore>);
    Plan { name: "golden".to_owned(), ha, publish_store, ..Plan::default() }
}

/// The outcome of a publish, and how many messages the store holds then.
fn never_connected() -> (Result<()>, usize) {
    let store: Arc<MemoryPublishStore> = Arc::default();
    let client = plan(false, Some(Arc::clone(&store))).build().expect("a name");
    (client.publish("t", "1").map(drop), store.unpersisted_count())
}

fn after_disconnect() -> (Result<()>, usize) {
    let store: Arc<MemoryPublishStore> = Arc::default();
    let plan = plan(false, Some(Arc::clone(&store)));
    let watched = Watched::plain(&plan, |c| c.logon().wait("lost").close(), ConnectionScript::idle);
    watched.start().expect("a granted logon");
    watched.lose().expect("the script waits");
    watched.wait_for(ConnectionState::Shutdown);
    (watched.client.publish("t", "1").map(drop), store.unpersisted_count())
}

/// The server says that it has processed everything, and never that anything is durable.
fn not_drained() -> Result<()> {
    let flushed = |c: ConnectionScript| c.logon().skip_to("flush").reply_ok().idle();
    let watched = Watched::plain(&plan(false, Some(Arc::default())), flushed, ConnectionScript::idle);
    watched.start()?;
    watched.client.publish("t", "1")?;
    watched.client.publish_flush_with(AckType::PROCESSED, Some(MOMENT))
}

/// A client that finds nobody any more and is told not to wait.
fn down(store: Option<Arc<MemoryPublishStore>>) -> Watched {
    let first = |c: ConnectionScript| c.logon().wait("lost").refuse().close();
    let watched = Watched::plain(&plan(true, store), first, ConnectionScript::idle);
    watched.start().expect("a granted logon");
    watched.client.set_retry_on_disconnect(false);
    watched.lose().expect("the script waits");
    watched.wait_for(ConnectionState::Disconnected);
    watched
}

fn refused(reason: &str) -> Result<()> {
    let peer =
        ScriptedPeer::builder().otherwise(|c| c.logon_with(LogonAck::failure(reason)).idle()).start()?;
    with_chooser(&peer).connect_and_logon()
}

fn exhausted() -> Result<()> {
    let peer = ScriptedPeer::start()?;
    peer.refuse()?;
    let delay = FixedDelayStrategy::new(Duration::from_millis(5)).max_retry_time(MOMENT);
    let builder = HAClient::builder("golden").servers([peer.uri("json")]).reconnect_delay_strategy(delay);
    builder.build()?.connect_and_logon()
}

fn with_chooser(peer: &ScriptedPeer) -> HAClient {
    let once = Once(Some(peer.uri("json")));
    HAClient::builder("golden").server_chooser(once).build().expect("a name")
}

/// Offers a server until it has failed.
struct Once(Option<String>);

impl ServerChooser for Once {
    fn current_uri(&mut self) -> Option<String> {
        self.0.clone()
    }

    fn current_authenticator(&mut self) -> Arc<dyn Authenticator> {
        Arc::new(DefaultAuthenticator)
    }

    fn report_failure(&mut self, _error: &Error, _info: &ConnectionInfo) {
        self.0 = None;
    }

    fn report_success(&mut self, _info: &ConnectionInfo) {}
}
