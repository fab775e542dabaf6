//! Where this library rightly differs from the recorded client: each difference changes the record into what it would
//! be if the recorded client did the same.

use amps_client::CommandType;
use serde_json::Value;

use crate::model::{Call, Event, Happening, Observed, Record, Scenario};

/// Applies every difference that concerns a scenario.
pub(crate) fn amend(scenario: &mut Scenario) {
    refuse_what_only_a_server_sends(scenario);
    refuse_a_second_connect(scenario);
    leave_connecting_to_the_ha_client(scenario);
    keep_a_subscription_in_flight(scenario);
    await_the_answer_to_a_filtered_publish(scenario);
    take_back_only_what_goes_on(scenario);
    announce_shutdown_once(scenario);
    deliver_what_is_for_nobody(scenario);
    drop_what_a_waiting_command_took(scenario);
    report_no_failure_twice(scenario);
    replay_a_delete_as_it_was(scenario);
    name_errors(scenario);
}

/// A client cannot send `ack`, `oof`, `group_begin`, `group_end` or an unknown verb: `Command`, and nothing is sent.
fn refuse_what_only_a_server_sends(scenario: &mut Scenario) {
    for call in &mut scenario.calls {
        use CommandType::{Ack, GroupBegin, GroupEnd, Oof, Unknown};
        let named = call.args.contains_key("command");
        let verb = CommandType::of(call.arg("command"));
        if named && matches!(verb, Ack | Oof | GroupBegin | GroupEnd | Unknown) {
            refuse(call, "Command");
            let number = call.number;
            scenario.events.retain(|event| event.call != number);
            scenario.observed.retain(|observed| observed.call != number);
        }
    }
}

/// A second `connect` fails, and the connection there is goes on.
fn refuse_a_second_connect(scenario: &mut Scenario) {
    let mut connected = false;
    for call in &mut scenario.calls {
        match call.operation.as_str() {
            "close" | "disconnect" | "env.server_drop" => connected = false,
            "connect" if connected => {
                refuse(call, "AlreadyConnected");
                let number = call.number;
                scenario.events.retain(|event| event.call != number);
                scenario.observed.retain(|observed| observed.call != number);
                for event in &mut scenario.events {
                    event.connection = event.connection.replace("A2", "A1");
                }
            }
            "connect" => connected = true,
            _ => {}
        }
    }
}

fn is_ha(scenario: &Scenario) -> bool {
    scenario.calls.iter().any(|call| call.operation == "new_client" && call.arg("kind") == "ha")
}

/// An `HAClient` connects and logs on by itself (HA-2).
fn leave_connecting_to_the_ha_client(scenario: &mut Scenario) {
    if !is_ha(scenario) {
        return;
    }
    let mut connected = false;
    for call in &mut scenario.calls {
        match call.operation.as_str() {
            "connect_and_logon" => connected = true,
            "close" | "disconnect" => connected = false,
            "connect" => refuse(call, "Usage"),
            "logon" if connected => refuse(call, "AlreadyConnected"),
            "logon" => refuse(call, "Disconnected"),
            _ => {}
        }
    }
}

/// A stored subscription in flight is placed again by the subscription manager, whatever method placed it (table 3.4).
fn keep_a_subscription_in_flight(scenario: &mut Scenario) {
    let lost =
        |call: &&mut Call| call.operation == "subscribe" && call.error.as_deref() == Some("Disconnected");
    if !is_ha(scenario) {
        return;
    }
    let Some(call) = scenario.calls.iter_mut().find(lost) else { return };
    call.error = None;
    let takes_back = |event: &Event| {
        event.call == call.number
            && event.client_frame().is_some_and(|record| record.get("c") == "unsubscribe")
    };
    let placed = scenario.events.iter().find(|event| event.call == call.number).and_then(Event::client_frame);
    let placed = placed.cloned().zip(scenario.events.iter().position(takes_back));
    if let Some((mut again, at)) = placed {
        let id = format!("auto{}x", call.number);
        let text = format!(r#"{{"c":"ack","cid":"{id}","a":"processed","status":"success"}}"#);
        again.header.insert("cid".to_owned(), id.into());
        let header = serde_json::from_str(&text).expect("a header");
        let consent = Happening::FromServer(Record { header, text, payload: Vec::new() });
        if let Some(event) = scenario.events.get_mut(at) {
            event.what = Happening::FromClient(again);
            let consent = Event { what: consent, ..event.clone() };
            scenario.events.insert(at + 1, consent);
        }
    }
    let sub_id = call.args.get("sub_id").cloned().unwrap_or_default();
    for observed in scenario.observed.iter_mut().filter(|observed| observed.event == "last_chance") {
        observed.event = "message".to_owned();
        observed.fields.insert("to".to_owned(), "handler".into());
        observed.fields.insert("sub_id".to_owned(), sub_id.clone());
    }
}

/// A server answers a filter on a publish only if it is asked, so it is asked, and the call waits (`wire-protocol` 4.2);
/// a refusal is the error of the call.
fn await_the_answer_to_a_filtered_publish(scenario: &mut Scenario) {
    for call in &mut scenario.calls {
        let publishes = ["publish", "delta_publish"].contains(&call.arg("command"));
        if !publishes || call.arg("filter").is_empty() {
            continue;
        }
        let id = Value::from(format!("auto{}x", call.number));
        for event in scenario.events.iter_mut().filter(|event| event.call == call.number) {
            match &mut event.what {
                Happening::FromClient(record) => {
                    record.header.entry("cid").or_insert(id.clone());
                    record.header.entry("a").or_insert("processed".into());
                }
                Happening::FromServer(record) => answer(record, &id),
                _ => {}
            }
        }
        let answers = scenario.events.iter().filter(|event| event.call == call.number);
        let refusal =
            answers.filter_map(Event::server_frame).find(|record| record.get("status") == "failure");
        if refusal.is_some_and(|record| record.get("reason") == "bad filter") {
            refuse(call, "BadFilter");
        }
        let number = call.number;
        scenario.observed.retain(|observed| observed.call != number || observed.event != "last_chance");
    }
}

fn answer(record: &mut Record, id: &Value) {
    if !record.header.contains_key("cid") {
        record.header.insert("cid".to_owned(), id.clone());
        record.text = record.text.replacen('{', &format!("{{\"cid\":{id},"), 1);
    }
}

/// What timed out is taken back if it is a subscription or a query; nothing else would go on (M-22, 1.4).
fn take_back_only_what_goes_on(scenario: &mut Scenario) {
    let goes_on = |call: &Call| {
        let verb = if call.args.contains_key("command") { call.arg("command") } else { &call.operation };
        verb.contains("subscribe") || verb == "sow"
    };
    let timed_out = |call: &&Call| call.error.as_deref() == Some("TimedOut") && !goes_on(call);
    for call in scenario.calls.iter().filter(timed_out) {
        let takes_back =
            |event: &Event| event.client_frame().is_some_and(|record| record.get("c") == "unsubscribe");
        scenario.events.retain(|event| event.call != call.number || !takes_back(event));
    }
}

/// One shutdown is announced once (S-8, D-11).
fn announce_shutdown_once(scenario: &mut Scenario) {
    let mut last = String::new();
    scenario.observed.retain(|observed| {
        if observed.event != "state" {
            return true;
        }
        let again = observed.get("state") == "Shutdown" && last == "Shutdown";
        last = observed.get("state").to_owned();
        !again
    });
}

/// Data without any subscription id goes to the last-chance handler (resilience 5.2).
fn deliver_what_is_for_nobody(scenario: &mut Scenario) {
    let verbs = ["p", "publish", "delta_publish", "oof"];
    let events = scenario.events.iter();
    let frames = events.filter_map(|event| Some((event.call, event.server_frame()?)));
    let ids = ["sids", "sub_ids", "sub_id"];
    let for_nobody = frames.filter(|(_, record)| {
        verbs.contains(&record.get("c")) && ids.iter().all(|key| !record.header.contains_key(*key))
    });
    let unseen: Vec<_> = for_nobody
        .map(|(call, record)| {
            let command = if record.get("c") == "p" { "publish" } else { record.get("c") };
            let data = String::from_utf8_lossy(&record.payload);
            let fields = [("command", command), ("topic", record.get("t")), ("data", &data)];
            let fields = fields.map(|(key, value)| (key.to_owned(), Value::from(value)));
            Observed { call, event: "last_chance".to_owned(), fields: fields.into_iter().collect() }
        })
        .collect();
    scenario.observed.extend(unseen);
    scenario.observed.sort_by_key(|observed| observed.call);
}

/// An acknowledgement that completes a waiting command was taken, so it is not for the last-chance handler (M-9). Nobody
/// waits for the second one of a command that is sent again.
fn drop_what_a_waiting_command_took(scenario: &mut Scenario) {
    let waits = |id: &str| {
        let frames = scenario.events.iter().filter_map(Event::client_frame);
        let asked = frames.filter(|record| record.get("cid") == id && record.get("a").contains("processed"));
        !id.is_empty() && asked.count() == 1
    };
    scenario.observed.retain(|observed| {
        let taken = observed.get("ack_type") == "processed" && waits(observed.get("command_id"));
        !(observed.event == "last_chance" && taken)
    });
}

/// A plain client without a disconnect handler gets `Disconnected` at once, and nothing is tried again (D-11).
fn report_no_failure_twice(scenario: &mut Scenario) {
    let calls = &scenario.calls;
    scenario.observed.retain(|observed| {
        let returned = calls.iter().any(|call| {
            call.number == observed.call
                && call.error.as_deref() == Some("Disconnected")
                && call.operation != "logon"
        });
        !(observed.event == "exception_listener" && returned)
    });
}

/// A stored delete is sent again with everything that it was sent with (acceptance rule 112).
fn replay_a_delete_as_it_was(scenario: &mut Scenario) {
    let mut sent: Vec<Record> = Vec::new();
    for event in &mut scenario.events {
        let Happening::FromClient(record) = &mut event.what else { continue };
        if record.get("c") != "sow_delete" || !record.header.contains_key("s") {
            continue;
        }
        match sent.iter().find(|before| before.header.get("s") == record.header.get("s")) {
            Some(before) => record.header = before.header.clone(),
            None => sent.push(record.clone()),
        }
    }
}

/// Errors whose kind has another name, or that the recorded client does not tell apart; what has no setter cannot fail.
fn name_errors(scenario: &mut Scenario) {
    for call in &mut scenario.calls {
        call.error = match call.error.take().as_deref() {
            Some(_) if call.operation == "set_name" => None,
            Some("AMPSException" | "general") => Some("Usage".to_owned()),
            Some("SubidInUse") => Some("SubIdInUse".to_owned()),
            other => other.map(str::to_owned),
        };
    }
}

fn refuse(call: &mut Call, kind: &str) {
    call.error = Some(kind.to_owned());
    call.returns = None;
}
