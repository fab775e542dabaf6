//! `states.jsonl`, lines about a situation with a name: what its servers do, and what the application does in it.

use std::sync::Arc;
use std::time::Duration;

use amps_client::testing::{ConnectionScript, LogonAck, ScriptedPeer, ScriptedPeerBuilder};
use amps_client::{
    ErrorKind, FixedDelayStrategy, HAClient, Logon, MemoryPublishStore, Message, PublishStore,
};
use serde_json::{Value, json};

use crate::clients::{Actor, Plan};
use crate::watched::{Watched, text};

type Done = Result<(), String>;

/// A situation: who is in it, and what happens; its states are those that follow.
struct Situation {
    name: &'static str,
    watched: fn() -> Watched,
    act: fn(&Watched) -> Done,
}

/// Replays one line.
pub(crate) fn replay(name: &str, line: &Value) -> Done {
    let situation =
        SITUATIONS.iter().find(|situation| situation.name == name).ok_or("an unknown situation")?;
    let watched = (situation.watched)();
    (situation.act)(&watched)?;
    let states = rightly(name, &line["states"]);
    // Of attempts without end the first ones are recorded.
    if line["note"].is_string() {
        watched.begins_with(&states)?
    } else {
        watched.announces(&states)?
    }
    if line["close"].is_array() {
        watched.client.close();
        watched.announces(&line["close"])?;
    }
    Ok(())
}

/// The states as they are to be: `Shutdown` is announced once, and a second connect fails and announces nothing.
fn rightly(name: &str, recorded: &Value) -> Value {
    let mut states = recorded.as_array().cloned().unwrap_or_default();
    states.retain(|state| state != "(connect again)");
    states.dedup();
    if name == "client_connect_twice" { json!([]) } else { Value::from(states) }
}

const LOGGED_ON: &[&str] = &["Connected", "LoggedOn"];
const RECOVERED: &[&str] = &["Connected", "LoggedOn", "Resubscribed"];
const REPLAYED: &[&str] = &["Connected", "LoggedOn", "PublishReplayed", "Resubscribed"];

const SITUATIONS: &[Situation] = &[
    Situation {
        name: "client_logon_refused",
        watched: || plain(|c| c.logon_with(LogonAck::failure("auth failure")).idle()),
        act: |w| w.fails_with(ErrorKind::Authentication, |_| w.start()),
    },
    Situation {
        name: "client_logon_timed_out",
        watched: || plain(ConnectionScript::idle),
        act: |w| {
            w.client.connect(&w.uri(0)).map_err(text)?;
            let logon = Logon::new().timeout(Duration::from_millis(50));
            w.fails_with(ErrorKind::TimedOut, |client| client.logon_with(&logon))
        },
    },
    Situation {
        name: "client_connection_refused",
        watched: || plain(ConnectionScript::idle),
        act: |w| {
            refuse(w, 0)?;
            w.fails_with(ErrorKind::ConnectionRefused, |_| w.start())
        },
    },
    Situation { name: "client_close_without_connect", watched: || plain(ConnectionScript::idle), act: close },
    Situation {
        name: "client_close_twice",
        watched: || plain(|c| c.logon().idle()),
        act: |w| w.logs_on(LOGGED_ON).and_then(|()| close(w)).and_then(|()| close(w)),
    },
    Situation {
        name: "client_connect_twice",
        watched: || plain(|c| c.logon().idle()),
        act: |w| {
            w.logs_on(LOGGED_ON)?;
            w.fails_with(ErrorKind::AlreadyConnected, |client| client.connect(&w.uri(0)))
        },
    },
    Situation {
        name: "client_connect_only_then_drop",
        watched: || plain(|c| c.wait("lost").close()),
        act: |w| w.client.connect(&w.uri(0)).map_err(text).and_then(|()| w.lose()),
    },
    Situation {
        name: "client_reuse_after_close",
        watched: || plain(|c| c.logon().idle()),
        act: |w| {
            w.logs_on(LOGGED_ON).and_then(|()| close(w))?;
            w.announces(&json!(["Disconnected", "Shutdown"]))?;
            w.start().map_err(text)
        },
    },
    Situation {
        name: "client_publish_after_drop_no_handler",
        watched: || plain(|c| c.logon().wait("lost").close()),
        act: |w| {
            w.logs_on(LOGGED_ON).and_then(|()| w.lose())?;
            w.hold(2);
            w.fails_with(ErrorKind::Disconnected, |client| client.publish("t", "1").map(drop))
        },
    },
    Situation {
        name: "client_listener_removed",
        watched: || plain(|c| c.logon().idle()),
        act: |w| {
            w.client.clear_connection_state_listeners();
            w.start().map_err(text)
        },
    },
    Situation {
        name: "client_read_timeout_expires",
        watched: || plain(|c| c.logon().idle()),
        act: |w| {
            let second = Duration::from_secs(1);
            w.client.set_heartbeat_timeout(second, second).map_err(text)?;
            w.start().map_err(text)
        },
    },
    Situation {
        name: "ha_first_server_refuses_connection",
        watched: || ha([granting(), granting()]),
        act: |w| refuse(w, 0).and_then(|()| w.start().map_err(text)),
    },
    Situation {
        name: "ha_first_server_refuses_logon",
        watched: || ha([peer(|c| c.logon_with(LogonAck::failure("not entitled")).idle()), granting()]),
        act: |w| w.start().map_err(text),
    },
    Situation {
        name: "ha_same_server_restart",
        watched: || ha_with(MemoryPublishStore::new(), [losing()]),
        act: |w| {
            w.logs_on(REPLAYED)?;
            refuse(w, 0).and_then(|()| w.lose())?;
            w.hold(1);
            listen(w, 0)
        },
    },
    Situation {
        name: "ha_down_for_a_while",
        watched: || ha([losing()]),
        act: |w| {
            w.logs_on(RECOVERED)?;
            refuse(w, 0).and_then(|()| w.lose())?;
            w.hold(1);
            listen(w, 0)
        },
    },
    Situation {
        name: "ha_close_while_reconnecting",
        watched: || ha([losing()]),
        act: |w| {
            w.logs_on(RECOVERED)?;
            refuse(w, 0).and_then(|()| w.lose())?;
            w.hold(1);
            close(w)
        },
    },
    Situation {
        name: "ha_reconnect_time_exhausted",
        watched: || {
            Watched::new(vec![losing()], |servers| {
                let delay = FixedDelayStrategy::new(Duration::from_millis(10));
                let delay = delay.max_retry_time(Duration::from_millis(50));
                HAClient::builder("golden")
                    .servers(servers)
                    .reconnect_delay_strategy(delay)
                    .build()
                    .map(Actor::Ha)
            })
        },
        act: |w| {
            w.logs_on(RECOVERED)?;
            refuse(w, 0).and_then(|()| w.lose())
        },
    },
    Situation {
        name: "ha_resubscribe_refused_once",
        watched: || {
            ha([again(|c| c.logon().expect("subscribe").reply_failure("bad filter").idle()), placing()])
        },
        act: subscribe_and_lose,
    },
    Situation {
        name: "ha_drop_during_resubscribe",
        watched: || ha([again(|c| c.logon().expect("subscribe").refuse().close()), placing()]),
        act: subscribe_and_lose,
    },
    Situation {
        name: "ha_drop_during_logon",
        watched: || ha([again(|c| c.expect("logon").refuse().close()), placing()]),
        act: subscribe_and_lose,
    },
    Situation {
        name: "ha_disconnect_then_connect",
        watched: || ha([granting()]),
        act: |w| {
            w.logs_on(RECOVERED).and_then(|()| close(w))?;
            w.start().map_err(text)
        },
    },
    Situation {
        name: "ha_publish_gap_error",
        watched: || {
            let store = MemoryPublishStore::new();
            store.set_error_on_publish_gap(true);
            let acked = r#"{"c":"ack","a":"persisted","status":"success","s":{s}}"#;
            let first = |c: ConnectionScript| {
                let c = c.logon().expect("publish").reply(acked).expect("flush").reply_ok();
                c.wait("lost").close()
            };
            let behind = LogonAck::success().sequence(1);
            ha_with(store, [peer(first).otherwise(|c| c.logon_with(behind).idle())])
        },
        act: |w| {
            w.logs_on(REPLAYED)?;
            w.client.publish("t", "1").and_then(|_| w.client.publish_flush()).map_err(text)?;
            w.lose()
        },
    },
];

/// A plain client, and what its server does on the first connection.
fn plain(first: fn(ConnectionScript) -> ConnectionScript) -> Watched {
    let plan = Plan { name: "golden".to_owned(), ..Plan::default() };
    Watched::plain(&plan, first, |c| c.logon().idle())
}

fn ha<const N: usize>(peers: [ScriptedPeerBuilder; N]) -> Watched {
    Watched::new(peers.into(), |servers| plan(servers).build())
}

fn ha_with<const N: usize>(store: MemoryPublishStore, peers: [ScriptedPeerBuilder; N]) -> Watched {
    let publish_store: Option<Arc<dyn PublishStore>> = Some(Arc::new(store));
    Watched::new(peers.into(), |servers| Plan { publish_store, ..plan(servers) }.build())
}

fn plan(servers: Vec<String>) -> Plan {
    Plan { name: "golden".to_owned(), ha: true, servers, ..Plan::default() }
}

/// A server by what it does on its first connection.
fn peer(first: impl FnOnce(ConnectionScript) -> ConnectionScript) -> ScriptedPeerBuilder {
    ScriptedPeer::builder().connection(first)
}

/// A server that grants every logon.
fn granting() -> ScriptedPeerBuilder {
    ScriptedPeer::builder().otherwise(|c| c.logon().idle())
}

/// A server that loses its first connection when it is told to.
fn losing() -> ScriptedPeerBuilder {
    peer(|c| c.logon().wait("lost").close()).otherwise(|c| c.logon().idle())
}

/// A server that accepts every subscription.
fn placing() -> ScriptedPeerBuilder {
    ScriptedPeer::builder().otherwise(|c| c.logon().expect("subscribe").reply_ok().idle())
}

/// A server that loses its first connection, and on the second does this.
fn again(second: impl FnOnce(ConnectionScript) -> ConnectionScript) -> ScriptedPeerBuilder {
    peer(|c| c.logon().expect("subscribe").reply_ok().wait("lost").close()).connection(second)
}

fn subscribe_and_lose(watched: &Watched) -> Done {
    watched.logs_on(RECOVERED)?;
    watched.client.subscribe_async("t", "", |_: &Message| {}).map_err(text)?;
    watched.lose()
}

fn close(watched: &Watched) -> Done {
    watched.client.close();
    Ok(())
}

fn refuse(watched: &Watched, server: usize) -> Done {
    watched.peers.get(server).ok_or("no such server")?.refuse().map_err(text)
}

fn listen(watched: &Watched, server: usize) -> Done {
    watched.peers.get(server).ok_or("no such server")?.listen_again().map_err(text)
}
