//! `states.jsonl`: the connection states that a configuration or a situation announces, in order.

use std::time::Duration;

use amps_client::testing::ConnectionScript;
use amps_client::{Client, Error, Message};
use serde_json::{Value, json};

use crate::clients::{Actor, Plan};
use crate::report::{Replay, Verdict};
use crate::situations;
use crate::stores::Stores;
use crate::watched::{Watched, text};

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
    if let Some(name) = line["scenario"].as_str() {
        return situations::replay(name, line).map(|()| Verdict::Replayed);
    }
    let configuration = &line["configuration"];
    let part = |key: &str| configuration[key].as_str().unwrap_or_default();
    let stores = Stores::new();
    match Plan::read(&stores, "golden", part("client"), part("publish_store"), part("bookmark_store")) {
        Ok(plan) => {
            let subscription_manager = configuration["subscription_manager"] == true;
            configured(line, &Plan { subscription_manager, ..plan }).map(|()| Verdict::Replayed)
        }
        Err(lacks) => Ok(Verdict::Skipped(lacks)),
    }
}

/// First connect, failover and close of one configuration.
fn configured(line: &Value, plan: &Plan) -> Result<(), String> {
    let configuration = &line["configuration"];
    let watched = watched(configuration, plan);
    let client = &watched.client;
    if configuration["heartbeat"] == "before_connect" {
        client.set_heartbeat(BEATS).map_err(text)?;
    }
    first_connect(line, &watched)?;
    if configuration["subscriptions"] == true {
        client.subscribe_async("t", "", |_: &Message| {}).map_err(text)?;
    }
    for _ in 0..configuration["unacked_publishes"].as_u64().unwrap_or(0) {
        client.publish("t", "1").map_err(text)?;
    }
    repair_by(&watched, configuration["disconnect_handler"].as_str())?;
    watched.lose()?;
    watched.announces(&line["failover"])?;
    client.close();
    watched.announces(&closing(line))
}

/// Long enough to play no part.
const BEATS: Duration = Duration::from_secs(60);

/// The client of a configuration, and a server that loses its first connection when it is told to.
fn watched(configuration: &Value, plan: &Plan) -> Watched {
    let subscribes = configuration["subscriptions"] == true;
    let resubscribes = subscribes && (plan.ha || plan.subscription_manager);
    let logs_on = configuration["disconnect_handler"] != "reconnect_without_logon";
    let places = |script: ConnectionScript, places: bool| {
        // Whatever is published again comes before.
        if places { script.skip_to("subscribe").reply_ok() } else { script }
    };
    let first = |script: ConnectionScript| {
        let script = script.ignore("heartbeat").logon();
        places(script, subscribes).wait("lost").close()
    };
    let later = |script: ConnectionScript| {
        let script = if logs_on { script.logon() } else { script };
        places(script, resubscribes).idle()
    };
    Watched::plain(plan, first, later)
}

/// The states up to the end of the logon, step by step where they are recorded so.
fn first_connect(line: &Value, watched: &Watched) -> Result<(), String> {
    let beats_later = line["configuration"]["heartbeat"] == "after_logon";
    match &watched.client {
        Actor::Plain(client) => {
            client.connect(&watched.uri(0)).map_err(text)?;
            watched.announces(&line["connect"])?;
            client.logon().map_err(text)?;
            watched.announces(&line["logon"])?;
        }
        Actor::Ha(client) => client.connect_and_logon().map_err(text)?,
    }
    if beats_later {
        watched.client.set_heartbeat(BEATS).map_err(text)?;
        watched.announces(&line["set_heartbeat"])?;
    }
    if line["connect"].is_null() { watched.announces(&line["first_connect"]) } else { Ok(()) }
}

/// A client whose repair failed has announced its shutdown already; one shutdown is announced once (S-8).
fn closing(line: &Value) -> Value {
    let failover = line["failover"].as_array().and_then(|states| states.last());
    if failover == Some(&json!("Shutdown")) { json!([]) } else { line["close"].clone() }
}

fn repair_by(watched: &Watched, handler: Option<&str>) -> Result<(), String> {
    let uri = watched.uri(0);
    let client = &watched.client;
    let set = match handler {
        None | Some("none") => Ok(()),
        Some("reconnect") => client.set_disconnect_handler(move |client: &Client, _: &Error| {
            client.connect(&uri)?;
            client.logon()
        }),
        Some("reconnect_without_logon") => {
            client.set_disconnect_handler(move |client: &Client, _: &Error| client.connect(&uri))
        }
        Some("gives_up") => client.set_disconnect_handler(|_: &Client, _: &Error| {}),
        Some(other) => return Err(format!("an unknown disconnect handler `{other}`")),
    };
    set.map_err(|error| error.to_string())
}
