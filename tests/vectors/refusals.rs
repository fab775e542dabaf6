//! `errors.jsonl`, lines about acknowledgements: what a server's answer becomes, for each command that awaits one.

use std::sync::mpsc;

use amps_client::testing::{Frame, LogonAck, PeerConnection};
use amps_client::{AckType, Client, Command, ConnectionState, ErrorKind, Message, Result};
use serde_json::Value;

use crate::report::{Replay, Verdict};
use crate::support::{Linked, SOON};

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
    if line["publish_store"] != "none" {
        return Ok(Verdict::Skipped("no publish store".to_owned()));
    }
    if line["failed_write_handler"] == true {
        return Ok(Verdict::Skipped("no failed-write handler".to_owned()));
    }
    let linked = Linked::new();
    let (sender, received) = mpsc::channel();
    linked.client.set_last_chance_handler(move |ack: &Message| drop(sender.send(ack.clone())));
    let answer = answer(line, "persisted").replace(r#""cid":"{cid}""#, r#""s":1"#);
    linked.end.send(&answer, b"").map_err(|error| error.to_string())?;
    let ack = received.recv_timeout(SOON).map_err(|_| "nobody was told")?;
    let seen = (ack.ack_type(), ack.sequence(), ack.reason());
    if seen == (AckType::PERSISTED, Some(1), line["reason"].as_str())
        && line["delivered_to"][0] == "last_chance"
    {
        Ok(Verdict::Replayed)
    } else {
        Err(format!("{seen:?} went to the last-chance handler"))
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
    let text = |error: amps_client::Error| error.to_string();
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
