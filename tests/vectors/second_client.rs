//! `commands_ws.jsonl`: single calls of another client over another transport. What it adds on its own account differs,
//! so what is compared is what the caller says: command, topic, filter, options and the like, and the payload.

use amps_client::testing::{Frame, LogonAck, PeerConnection};
use amps_client::{Client, ErrorKind};
use serde_json::Value;

use crate::model::{Call, Happening, Object, Record, Scenario};
use crate::operations::{Application, Done, missing};
use crate::report::{Replay, Verdict};
use crate::support::{Linked, SOON};

/// Headers that a client adds on its own account.
const OWN: [&str; 5] = ["cid", "a", "version", "client_name", "mt"];

/// Replays one line.
pub(crate) fn replay(line: &Value) -> Replay {
    let scenario = Scenario::read(line)?;
    if let Some(reason) = missing(&scenario) {
        return Ok(Verdict::Skipped(reason));
    }
    let [call] = scenario.calls.as_slice() else { return Err("not one call".to_owned()) };
    let recorded = scenario.events.into_iter().filter_map(|event| match event.what {
        Happening::FromClient(record) => Some(record),
        _ => None,
    });
    let recorded: Vec<Record> = recorded.collect();
    let emitted = emitted(call, recorded.len())?;
    let ours: Vec<_> = emitted.iter().map(|frame| said(call, frame.header_text(), frame.payload())).collect();
    let theirs: Vec<_> = recorded.iter().map(|record| said(call, &record.text, &record.payload)).collect();
    let refused = holds_what_cannot_be_sent(call) && ours.is_empty();
    if refused || ours == theirs {
        Ok(Verdict::Replayed)
    } else {
        Err(format!("recorded {theirs:?}, sent {ours:?}"))
    }
}

/// The frames that a call writes, as many as are recorded.
fn emitted(call: &Call, recorded: usize) -> Result<Vec<Frame>, String> {
    let client = || Client::builder("golden").build().expect("a name");
    if call.operation == "connect" {
        let linked = Linked::connected(client(), |uri| uri.replacen("://", "://trader:secret@", 1));
        let mut logon = None;
        let granted =
            linked.answered(Client::logon, |end| logon = end.logon(&LogonAck::success(), SOON).ok());
        return granted.map(|()| logon.into_iter().collect()).map_err(|error| error.to_string());
    }
    let linked = Linked::of(client());
    let mut application = Application::of(linked.client.clone());
    if holds_what_cannot_be_sent(call) {
        let refusal = application.perform(call).map(drop).map_err(|error| error.kind());
        linked.client.close();
        linked.end.wait_closed(SOON).map_err(|error| error.to_string())?;
        assert_eq!(
            (refusal, linked.end.frames().len()),
            (Err(ErrorKind::Usage), 1),
            "nothing but the logon is sent"
        );
        return Ok(Vec::new());
    }
    let mut frames = Vec::new();
    let outcome: Done = linked
        .answered(|_| application.perform(call), |end| (0..recorded).for_each(|_| frames.push(answer(end))));
    outcome.map(|_| frames).map_err(|error| error.to_string())
}

/// Consents to the next frame.
fn answer(end: &PeerConnection) -> Frame {
    let frame = end.expect(|_: &Frame| true, SOON).expect("a frame");
    if frame.header("cid").is_some() {
        end.reply_ok().expect("the client reads");
        end.reply(r#"{"c":"ack","cid":"{cid}","a":"stats","status":"success"}"#).expect("the client reads");
    }
    frame
}

/// What the caller said, in one spelling for both clients.
fn said(call: &Call, header: &str, payload: &[u8]) -> (Object, Vec<u8>) {
    let mut header: Object = serde_json::from_str(header).expect("a header");
    let id = header.get("cid").cloned();
    header.retain(|key, value| {
        let own = OWN.contains(&key.as_str()) || (key == "o" && !call.args.contains_key("options"));
        let default_id = ["sub_id", "query_id"].contains(&key.as_str()) && Some(&*value) == id.as_ref();
        !own && !default_id && value != ""
    });
    let spelled = |(key, value): (String, Value)| match key.as_str() {
        "bs" => ("batch_size".to_owned(), value),
        "bm" => ("bookmark".to_owned(), value),
        "e" => (key, Value::from(value.as_str().map_or(value.to_string(), str::to_owned))),
        "c" if value == "publish" => (key, Value::from("p")),
        _ => (key, value),
    };
    (header.into_iter().map(spelled).collect(), payload.to_vec())
}

/// The protocol has no escape for most control characters: such a text is refused (`wire-protocol` 3.1).
fn holds_what_cannot_be_sent(call: &Call) -> bool {
    let short = ['\u{8}', '\t', '\n', '\u{c}', '\r'];
    call.arg("topic").chars().any(|c| c < ' ' && !short.contains(&c))
}
