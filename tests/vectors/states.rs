//! `states.jsonl`: the connection states that a configuration or a situation announces, in order.

use std::cell::RefCell;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use amps_client::testing::{ConnectionScript, LogonAck, ScriptedPeer};
use amps_client::{Client, ConnectionState, Error, ErrorKind, Logon, Message};
use serde_json::{Value, json};

use crate::report::{Replay, Verdict};
use crate::support::SOON;

/// What a line is called: its situation, or the values of its configuration.
pub(crate) fn name(line: &Value) -> String {
    let configuration = || {
        let values =
            line["configuration"].as_object().map(|c| c.values().collect::<Vec<_>>()).unwrap_or_default();
        values.iter().map(|value| value.to_string().replace('"', "")).collect::<Vec<_>>().join("/")
    };
    line["scenario"].as_str().map_or_else(configuration, str::to_owned)
}

/// Replays one line.
pub(crate) fn replay(line: &Value) -> Replay {
    let configuration = &line["configuration"];
    let has = |key: &str| configuration[key].as_str().is_some_and(|store| store != "none");
    let lacks = match () {
        () if line["client"] == "HAClient" || configuration["client"] == "HAClient" => "HA client",
        () if has("publish_store") => "publish store",
        () if has("bookmark_store") => "bookmark store",
        () if configuration["subscription_manager"] == true => "subscription manager",
        () => {
            let outcome = if line["scenario"].is_string() { situation(line) } else { configured(line) };
            return outcome.map(|()| Verdict::Replayed);
        }
    };
    Ok(Verdict::Skipped(format!("no {lacks}")))
}

/// First connect, failover and close of one configuration.
fn configured(line: &Value) -> Result<(), String> {
    let configuration = &line["configuration"];
    let subscribes = configuration["subscriptions"] == true;
    let repair = configuration["disconnect_handler"].as_str().unwrap_or_default().to_owned();
    let beats = Duration::from_secs(60);
    let first = |script: ConnectionScript| {
        let script = script.ignore("heartbeat").logon();
        let script = if subscribes { script.expect("subscribe").reply_ok() } else { script };
        script.wait("lost").close()
    };
    let logs_on = repair != "reconnect_without_logon";
    let watched = Watched::new(first, |script| if logs_on { script.logon().idle() } else { script.idle() });
    let client = &watched.client;
    repaired(&watched, &repair)?;
    if configuration["heartbeat"] == "before_connect" {
        client.set_heartbeat(beats).map_err(text)?;
    }
    client.connect(&watched.uri).map_err(text)?;
    watched.announces(&line["connect"])?;
    client.logon().map_err(text)?;
    watched.announces(&line["logon"])?;
    if configuration["heartbeat"] == "after_logon" {
        client.set_heartbeat(beats).map_err(text)?;
        watched.announces(&line["set_heartbeat"])?;
    }
    if line["connect"].is_null() {
        watched.announces(&line["first_connect"])?;
    }
    if subscribes {
        client.subscribe_async("t", "", |_: &Message| {}).map_err(text)?;
    }
    watched.peer.release("lost").map_err(text)?;
    watched.announces(&line["failover"])?;
    client.close();
    watched.announces(&closing(line))
}

/// A client whose repair failed has announced its shutdown already; one shutdown is announced once (S-8).
fn closing(line: &Value) -> Value {
    let failover = line["failover"].as_array().and_then(|states| states.last());
    if failover == Some(&json!("Shutdown")) { json!([]) } else { line["close"].clone() }
}

fn repaired(watched: &Watched, repair: &str) -> Result<(), String> {
    let uri = watched.uri.clone();
    let client = &watched.client;
    let set = match repair {
        "none" => Ok(()),
        "reconnect" => client.set_disconnect_handler(move |client: &Client, _: &Error| {
            client.connect(&uri)?;
            client.logon()
        }),
        "reconnect_without_logon" => {
            client.set_disconnect_handler(move |client: &Client, _: &Error| client.connect(&uri))
        }
        "gives_up" => client.set_disconnect_handler(|_: &Client, _: &Error| {}),
        other => return Err(format!("an unknown disconnect handler `{other}`")),
    };
    set.map_err(|error| error.to_string())
}

/// A situation with a name: what its servers do, and what the application does in it.
struct Situation {
    name: &'static str,
    script: fn(ConnectionScript) -> ConnectionScript,
    act: fn(&Watched) -> Result<(), String>,
}

const SITUATIONS: &[Situation] = &[
    Situation {
        name: "client_logon_refused",
        script: |c| c.logon_with(LogonAck::failure("auth failure")).idle(),
        act: |w| {
            w.fails_with(ErrorKind::Authentication, |w| {
                w.client.connect(&w.uri).and_then(|()| w.client.logon())
            })
        },
    },
    Situation {
        name: "client_logon_timed_out",
        script: ConnectionScript::idle,
        act: |w| {
            w.client.connect(&w.uri).map_err(text)?;
            let logon = Logon::new().timeout(Duration::from_millis(50));
            w.fails_with(ErrorKind::TimedOut, |w| w.client.logon_with(&logon))
        },
    },
    Situation {
        name: "client_connection_refused",
        script: ConnectionScript::idle,
        act: |w| {
            w.peer.refuse().map_err(text)?;
            w.fails_with(ErrorKind::ConnectionRefused, |w| w.client.connect(&w.uri))
        },
    },
    Situation {
        name: "client_close_without_connect",
        script: ConnectionScript::idle,
        act: |w| {
            w.client.close();
            Ok(())
        },
    },
    Situation {
        name: "client_close_twice",
        script: |c| c.logon().idle(),
        act: |w| {
            w.logs_on()?;
            w.client.close();
            w.client.close();
            Ok(())
        },
    },
    Situation {
        name: "client_connect_twice",
        script: |c| c.logon().idle(),
        act: |w| {
            w.logs_on()?;
            w.fails_with(ErrorKind::AlreadyConnected, |w| w.client.connect(&w.uri))
        },
    },
    Situation {
        name: "client_connect_only_then_drop",
        script: |c| c.wait("lost").close(),
        act: |w| {
            w.client.connect(&w.uri).map_err(text)?;
            w.peer.release("lost").map_err(text)
        },
    },
    Situation {
        name: "client_reuse_after_close",
        script: |c| c.logon().idle(),
        act: |w| {
            w.logs_on()?;
            w.client.close();
            w.announces(&json!(["Disconnected", "Shutdown"]))?;
            w.client.connect(&w.uri).and_then(|()| w.client.logon()).map_err(text)
        },
    },
    Situation {
        name: "client_publish_after_drop_no_handler",
        script: |c| c.logon().wait("lost").close(),
        act: |w| {
            w.logs_on()?;
            w.peer.release("lost").map_err(text)?;
            w.hold(2);
            w.fails_with(ErrorKind::Disconnected, |w| w.client.publish("t", "1").map(drop))
        },
    },
    Situation {
        name: "client_listener_removed",
        script: |c| c.logon().idle(),
        act: |w| {
            w.client.clear_connection_state_listeners();
            w.client.connect(&w.uri).and_then(|()| w.client.logon()).map_err(text)
        },
    },
    Situation {
        name: "client_read_timeout_expires",
        script: |c| c.logon().idle(),
        act: |w| {
            let second = Duration::from_secs(1);
            w.client.set_heartbeat_timeout(second, second).map_err(text)?;
            w.client.connect(&w.uri).and_then(|()| w.client.logon()).map_err(text)
        },
    },
];

fn situation(line: &Value) -> Result<(), String> {
    let name = name(line);
    let known = SITUATIONS.iter().find(|situation| situation.name == name);
    let situation = known.ok_or("an unknown situation")?;
    let watched = Watched::new(situation.script, |script| script.logon().idle());
    (situation.act)(&watched)?;
    watched.announces(&rightly(&name, &line["states"]))?;
    if line["close"].is_array() {
        watched.client.close();
        watched.announces(&line["close"])?;
    }
    Ok(())
}

/// The states as they are to be: `Shutdown` is announced once, and a second connect fails and announces nothing.
fn rightly(name: &str, recorded: &Value) -> Value {
    let mut states = recorded.as_array().cloned().unwrap_or_default();
    states.dedup();
    if name == "client_connect_twice" { json!([]) } else { Value::from(states) }
}

/// A client, its server, and the states it announces.
struct Watched {
    client: Client,
    states: Receiver<ConnectionState>,
    /// States that were awaited and are still to be looked at.
    held: RefCell<Vec<ConnectionState>>,
    peer: ScriptedPeer,
    uri: String,
}

impl Watched {
    /// What the server does on the first connection, and on every later one.
    fn new(
        first: impl FnOnce(ConnectionScript) -> ConnectionScript,
        later: impl FnOnce(ConnectionScript) -> ConnectionScript,
    ) -> Watched {
        let peer = ScriptedPeer::builder().connection(first).otherwise(later).start().expect("a free port");
        let client = Client::builder("golden").build().expect("a name");
        let (sender, states) = mpsc::channel();
        client.add_connection_state_listener(move |state: ConnectionState| {
            // Nobody listens any more once the test is over.
            let _ = sender.send(state);
        });
        let uri = peer.uri("json");
        Watched { client, states, held: RefCell::default(), peer, uri }
    }

    /// Waits for so many states.
    fn hold(&self, count: usize) {
        let mut held = self.held.borrow_mut();
        let missing = count.saturating_sub(held.len());
        held.extend((0..missing).map_while(|_| self.states.recv_timeout(SOON).ok()));
    }

    /// These states are announced next, and none besides.
    fn announces(&self, recorded: &Value) -> Result<(), String> {
        let Some(recorded) = recorded.as_array() else { return Ok(()) };
        let expected: Vec<_> = recorded.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        self.hold(expected.len());
        let seen = self.held.take().into_iter().chain(self.states.try_iter());
        let seen: Vec<_> = seen.map(|state| state.to_string()).collect();
        if seen == expected { Ok(()) } else { Err(format!("announced {seen:?} instead of {expected:?}")) }
    }

    /// Gets to where most situations begin.
    fn logs_on(&self) -> Result<(), String> {
        self.client.connect(&self.uri).and_then(|()| self.client.logon()).map_err(text)?;
        self.announces(&json!(["Connected", "LoggedOn"]))
    }

    fn fails_with(
        &self,
        kind: ErrorKind,
        call: impl FnOnce(&Watched) -> amps_client::Result<()>,
    ) -> Result<(), String> {
        match call(self) {
            Err(error) if error.kind() == kind => Ok(()),
            other => Err(format!("expected the error `{kind}`, got {other:?}")),
        }
    }
}

fn text(error: Error) -> String {
    error.to_string()
}
