//! `errors.jsonl`: which error becomes of what.

use serde_json::Value;

use crate::report::{Replay, Verdict};
use crate::{local, refusals};

/// What a line is called.
pub(crate) fn name(line: &Value) -> String {
    let part = |key: &str| line[key].as_str().map(str::to_owned);
    let parts = [part("on"), part("status"), part("reason"), part("case")];
    let store = part("publish_store").map(|store| format!("store {store}"));
    let handler = line["failed_write_handler"].as_bool().map(|set| format!("handler {set}"));
    let parts = parts.into_iter().chain([store, handler]);
    format!("({})", parts.flatten().collect::<Vec<_>>().join("; "))
}

/// Replays one line.
pub(crate) fn replay(line: &Value) -> Replay {
    match line["on"].as_str() {
        Some("processed ack") => refusals::processed(line),
        Some("persisted ack") => refusals::persisted(line),
        Some("local" | "note") => local::replay(line),
        other => Err(format!("it is on {other:?}")),
    }
}

/// A line that needs what the library does not have.
pub(crate) fn skipped(what: &str) -> Replay {
    Ok(Verdict::Skipped(what.to_owned()))
}
