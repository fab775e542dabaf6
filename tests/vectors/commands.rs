//! `commands.jsonl`: performs the calls of a scenario against the recorded servers and compares frames, outcomes and
//! what the application saw.

use amps_client::Error;
use serde_json::Value;

use crate::amendments::amend;
use crate::model::{Call, Scenario};
use crate::operations::{Application, Done, missing};
use crate::player::Player;
use crate::report::{Replay, Verdict};

/// Replays one line.
pub(crate) fn replay(line: &Value) -> Replay {
    let mut scenario = Scenario::read(line)?;
    if let Some(reason) = missing(&scenario) {
        return Ok(Verdict::Skipped(reason));
    }
    amend(&mut scenario);
    perform(&scenario).map(|()| Verdict::Replayed)
}

fn perform(scenario: &Scenario) -> Result<(), String> {
    let player = Player::start(scenario);
    // Recorded with a handler for failed writes if there were any that it was given.
    let failed_writes = scenario.observed.iter().any(|observed| observed.event == "failed_write");
    let mut application = Application::new(player.resolver(), failed_writes);
    let outcome = scenario.calls.iter().try_for_each(|call| step(scenario, call, &player, &mut application));
    application.pull_rest();
    let ids = player.ids().clone();
    let played = player.finish();
    outcome.and(played)?;
    application.log().compare(&scenario.observed, &ids)
}

/// Makes one call, and waits until the servers and the application are where they were recorded to be.
fn step(
    scenario: &Scenario,
    call: &Call,
    player: &Player,
    application: &mut Application,
) -> Result<(), String> {
    player.begin(call)?;
    let done = application.perform(call);
    player.settle(call.number)?;
    check(call, &done, player).map_err(|why| format!("call {} `{}`: {why}", call.number, call.operation))?;
    let pulled = |o: &&crate::model::Observed| o.call == call.number && o.get("to") == "stream";
    application.pull(scenario.observed.iter().filter(pulled).count());
    application.log().catch_up(&scenario.observed, call.number);
    Ok(())
}

/// Compares the outcome of a call.
fn check(call: &Call, done: &Done, player: &Player) -> Result<(), String> {
    match (done, &call.error) {
        (Err(error), Some(kind)) if error.kind().to_string() == *kind => Ok(()),
        (Err(error), _) => Err(format!("recorded {}, got {}", recorded(call), described(error))),
        (Ok(_), Some(_)) => Err(format!("recorded {}, got no error", recorded(call))),
        (Ok(Some(value)), None) => match &call.returns {
            Some(returns) if !player.ids().admits_value(returns, value) => {
                Err(format!("recorded {returns}, returned {value}"))
            }
            _ => Ok(()),
        },
        (Ok(None), None) => Ok(()),
    }
}

fn recorded(call: &Call) -> String {
    call.error.as_ref().map_or("no error".to_owned(), |kind| format!("the error `{kind}`"))
}

fn described(error: &Error) -> String {
    format!("`{}`: {error}", error.kind())
}
