//! `errors.jsonl`, lines about acknowledgements: what a server's answer becomes, for each command that awaits one.

use std::sync::mpsc::{self, Receiver};

use amps_client::testing::{Frame, LogonAck, PeerConnection};
use amps_client::{AckType, Client, Command, ConnectionState, ErrorKind, Message, Result};
use serde_json::Value;

use crate::clients::Plan;
use crate::report::{Replay, Verdict};
use crate::stores::Stores;
use crate::support::{Linked, SOON};
use crate::watched::text;

/// Replays a line about a `processed` acknowledgement.
pub(crate) fn processed(line: &Value) -> Replay {
    let expected = rightly(line)?;
    let answer = answer(line, "processed");
    let linked = Linked::new();
    let commands = line["commands"].as_array().ok_or("no list of commands")?;
    for command in commands.iter().filter_map(Value::as_str) {
        let outcome = match command {
            "logon" => {
                logon(line, &answer, expected)?;
                continue;
            }
            command => called(&linked, command, &answer)?,
        };
        let kind = outcome.err().map(|error| error.kind());
        if kind != expected {
            return Err(format!("{command}: expected {expected:?}, got {kind:?}"));
        }
    }
    let flushed = called(&linked, "flush", &answer)?.err().map(|error| error.kind());
    if flushed != expected {
        return Err(format!("flush: expected {expected:?}, got {flushed:?}"));
    }
    Ok(Verdict::Replayed)
}

/// Replays a line about a `persisted` acknowledgement, which nobody waits for.
pub(crate) fn persisted(line: &Value) -> Replay {
    let store = line["publish_store"].as_str().unwrap_or_default();
    let stores = Stores::new();
    let plan = match Plan::read(&stores, "golden", "client", store, "none") {
        Ok(plan) => plan,
        Err(lacks) => return Ok(Verdict::Skipped(lacks)),
    };
    let linked = Linked::of(plan.build().map_err(text)?.clone());
    let told = who_is_told(&linked.client, line["failed_write_handler"] == true);
    let sequence = linked.client.publish("t", "1").map_err(text)?.max(1);
    linked.end.expect("publish", SOON).map_err(text)?;
    let answer = answer(line, "persisted").replace(r#""cid":"{cid}""#, &format!(r#""s":{sequence}"#));
    linked.end.send(&answer, b"").map_err(text)?;
    // When the answer to a later command is there, this one has been dealt with.
    let placed = linked.answered(
        |client| client.execute(Command::flush().ack_type(AckType::PROCESSED)),
        |end| {
            end.expect("flush", SOON).expect("a flush");
            end.reply_ok().expect("the client reads");
        },
    );
    drop(placed.map_err(text)?);
    let seen: Vec<_> = told.try_iter().collect();
    let expected: Vec<_> = delivered_to(line).map(|to| (to, Some(sequence))).into_iter().collect();
    let left = plan.publish_store.map(|store| store.unpersisted_count() as u64);
    if (seen.as_slice(), left) == (expected.as_slice(), line["unpersisted_after"].as_u64()) {
        Ok(Verdict::Replayed)
    } else {
        Err(format!("told {seen:?}, expected {expected:?}; {left:?} are left"))
    }
}

/// Hears which handler gets a message, and its sequence.
fn who_is_told(client: &Client, of_failed_writes: bool) -> Receiver<(&'static str, Option<u64>)> {
    let (sender, told) = mpsc::channel();
    let last_chance = sender.clone();
    client.set_last_chance_handler(move |ack: &Message| {
        // Nobody listens any more once the test is over.
        let _ = last_chance.send(("last_chance", ack.sequence()));
    });
    if of_failed_writes {
        client.set_failed_write_handler(move |message: &Message, _: &str| {
            let _ = sender.send(("failed_write", message.sequence()));
        });
    }
    told
}

/// Who is told: as recorded, but a refused write that nobody was told of goes to the last-chance handler (M-15).
fn delivered_to(line: &Value) -> Option<&'static str> {
    let failed = line["status"] == "failure"
        || ["duplicate", "not entitled"].iter().any(|reason| line["reason"] == *reason);
    match line["delivered_to"][0].as_str() {
        Some("nobody") if !failed => None,
        Some("failed_write") => Some("failed_write"),
        _ => Some("last_chance"),
    }
}

/// The acknowledgement of a line, with a gap for the id.
fn answer(line: &Value, ack: &str) -> String {
    let reason = line["reason"]
        .as_str()
        .map_or(String::new(), |reason| format!(r#","reason":{}"#, Value::from(reason)));
    format!(r#"{{"c":"ack","cid":"{{cid}}","a":"{ack}","status":{}{reason}}}"#, line["status"])
}

/// The kind of error that the answer is to become: the recorded one, but for what the recorded client gets wrong.
fn rightly(line: &Value) -> std::result::Result<Option<ErrorKind>, String> {
    let reason = line["reason"].as_str().unwrap_or_default().trim().to_ascii_lowercase();
    let recorded = line["error"].as_str();
    match (line["status"].as_str().ok_or("no status")?, reason.as_str()) {
        ("success" | "", _) => Ok(None),
        (_, "") => Ok(Some(ErrorKind::Unknown)),
        (_, "bad filter") => Ok(Some(ErrorKind::BadFilter)),
        (_, "subscription already exists") => Ok(Some(ErrorKind::SubscriptionAlreadyExists)),
        // No server sends these.
        (_, "bad message" | "regex not supported" | "invalid sow key") => Ok(Some(ErrorKind::Command)),
        _ => recorded.map(kind).transpose(),
    }
}

/// The kind of this recorded name.
pub(crate) fn kind(name: &str) -> std::result::Result<ErrorKind, String> {
    let name = match name {
        "SubidInUse" => "SubIdInUse",
        "general" => "Usage",
        other => other,
    };
    let known = ErrorKind::ALL.iter().find(|kind| kind.to_string() == name);
    known.copied().ok_or_else(|| format!("an unknown kind of error `{name}`"))
}

/// The outcome of a command that gets this answer.
fn called(linked: &Linked, command: &str, answer: &str) -> std::result::Result<Result<()>, String> {
    let ignore = |_: &Message| {};
    let call = |client: &Client| match command {
        "bookmark_subscribe" => client.bookmark_subscribe_async("t", "0", "", ignore).map(drop),
        "execute subscribe" => client.execute(Command::subscribe("t")).map(drop),
        "execute_async subscribe" => client.execute_async(Command::subscribe("t"), ignore).map(drop),
        "sow" => client.sow_async("t", "", ignore).map(drop),
        "sow_and_subscribe" => client.sow_and_subscribe_async("t", "", ignore).map(drop),
        "sow_delete" => client.sow_delete("t", "1=1").map(drop),
        "sow_stream" => client.sow("t", "").map(drop),
        "flush" => client.publish_flush_with(AckType::PROCESSED, Some(SOON)),
        other => panic!("an unknown command `{other}`"),
    };
    let mut played = Ok(());
    let outcome = linked.answered(call, |end| played = play(end, answer));
    played.map(|()| outcome)
}

/// Answers the next command. What a dropped stream takes back is passed over.
fn play(end: &PeerConnection, answer: &str) -> std::result::Result<(), String> {
    let frame = end.skip_to(|frame: &Frame| frame.command() != "unsubscribe", SOON).map_err(text)?;
    end.reply(answer).map_err(text)?;
    if frame.command() == "sow_delete" {
        let counts = r#"{"c":"ack","cid":"{cid}","a":"stats","status":"success","records_deleted":0}"#;
        end.reply(counts).map_err(text)?;
    }
    Ok(())
}

/// A logon that gets this answer, and the states and the connection after it.
fn logon(line: &Value, answer: &str, expected: Option<ErrorKind>) -> std::result::Result<(), String> {
    let client = Client::builder("golden").build().expect("a name");
    let (sender, states) = mpsc::channel();
    client.add_connection_state_listener(move |state: ConnectionState| {
        // Nobody listens any more once the test is over.
        let _ = sender.send(state);
    });
    let linked = Linked::connected(client, |uri| uri);
    // The default authenticator has no answer to a challenge, which the lines do not ask for.
    let outcome = linked.answered(Client::logon, |end| {
        let logon = end.expect("logon", SOON).expect("a logon");
        let granted = LogonAck::success().answer(&logon);
        let granted = granted.replace(r#","a":"processed","status":"success""#, "");
        let answer = answer.replace(r#"{"c":"ack","cid":"{cid}""#, granted.trim_end_matches('}'));
        end.reply(&answer).expect("the client reads");
    });
    let kind = outcome.err().map(|error| error.kind());
    let seen: Vec<_> = states.try_iter().map(|state| state.to_string()).collect();
    let last = if expected.is_some() { "Disconnected" } else { "LoggedOn" };
    if (kind, seen.as_slice()) != (expected, &["Connected".to_owned(), last.to_owned()]) {
        return Err(format!(
            "logon: expected {expected:?}, got {kind:?} and {seen:?}; recorded {}",
            line["logon"]
        ));
    }
    match expected {
        Some(_) => linked.end.wait_closed(SOON).map_err(|error| error.to_string()),
        None => Ok(()),
    }
}
