//! Replays what another client was seen to do, frame by frame.
//!
//! The files in `tests/data/vectors` hold calls, the frames that they put on the wire, the frames that a server sent, and
//! what the application saw. Each call is made with this library against scripted peers that play the server, and every
//! frame and outcome is compared. The environment variable `AMPS_CLIENT_VECTORS` names another directory of such files.
//!
//! * [`report`]: every line is replayed, or skipped by name for a reason; anything else fails.
//! * [`commands`]: one line of `commands.jsonl`, with [`model`] (the line as a value), [`operations`] (the calls, by [`clients`]
//!   with their [`stores`]), [`player`] (the servers), [`comparison`] (frames and ids) and [`observation`] (what the application saw).
//! * [`amendments`]: where this library rightly differs.
//! * [`second_client`]: one line of `commands_ws.jsonl`. [`states`]: one of `states.jsonl`,
//!   with [`situations`] and [`watched`].
//! * [`errors`]: one line of `errors.jsonl`, with [`refusals`] (what a server says), and [`local`] and
//!   [`recovering`] (what it is not asked).

mod amendments;
mod clients;
mod commands;
mod comparison;
mod errors;
mod local;
mod model;
mod observation;
mod operations;
mod player;
mod recovering;
mod refusals;
mod report;
mod second_client;
mod situations;
mod states;
mod stores;
#[path = "../support/mod.rs"]
mod support;
mod watched;

use report::replay_all;

/// `name` of a line.
fn name(line: &serde_json::Value) -> String {
    line["name"].as_str().unwrap_or("a line without a name").to_owned()
}

#[test]
fn every_recorded_call_is_made_alike() {
    replay_all("commands.jsonl", name, commands::replay);
}

#[test]
fn every_recorded_call_of_another_client_says_the_same() {
    replay_all("commands_ws.jsonl", name, second_client::replay);
}

#[test]
fn every_recorded_configuration_announces_the_same_states() {
    replay_all("states.jsonl", states::name, states::replay);
}

#[test]
fn every_recorded_failure_becomes_the_same_error() {
    replay_all("errors.jsonl", errors::name, errors::replay);
}
