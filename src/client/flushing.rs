//! Waiting until what was published has arrived.

use std::time::{Duration, Instant};

use super::core::Core;
use super::execute::{Wanted, place};
use crate::callbacks::Origin;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::store::PublishStore;
use crate::wire::AckType;

/// The first version that can say when everything is durable.
const PERSISTED_FLUSH: &str = "5.3.3.0";

/// Waits for the server's answer to a flush and, with a store, until the store has let go of what it holds now. One deadline
/// covers both.
pub(crate) fn publish_flush(core: &Core, ack: AckType, limit: Option<Duration>) -> Result<()> {
    if ack != AckType::PROCESSED && ack != AckType::PERSISTED {
        return Err(Error::new(ErrorKind::Command, format!("a flush cannot wait for `{ack}`")));
    }
    core.refuse_to_hang("publish_flush")?;
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let reachable = is_reachable(core);
    match ask(core, ack, limit) {
        // The connection went away under way: what is stored will still arrive, over another one.
        Err(error) if error.is_disconnect() && reachable && core.config.publish_store.is_some() => {}
        outcome => outcome?,
    }
    let Some(store) = &core.config.publish_store else { return Ok(()) };
    drain(core, &**store, deadline).inspect_err(|error| core.report(error.clone(), Origin::PublishFlush))
}

/// True while there is a connection, or is likely to be one again.
fn is_reachable(core: &Core) -> bool {
    core.is_connected() || core.will_recover()
}

/// Waits until the store has let go of everything it holds now. Looks up now and then, because a client that has lost its
/// server for good will never be told.
fn drain(core: &Core, store: &dyn PublishStore, deadline: Option<Instant>) -> Result<()> {
    let Some(lowest) = store.lowest_unpersisted() else { return Ok(()) };
    let last = lowest.saturating_add((store.unpersisted_count() as u64).saturating_sub(1));
    loop {
        let left = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
        match store.flush(Some(left.min(LOOK))) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            outcome => return outcome,
        }
        if store.lowest_unpersisted().is_none_or(|lowest| lowest > last) {
            return Ok(());
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let count = store.unpersisted_count();
            let text = format!("{count} messages were not persisted within the time allowed");
            return Err(Error::new(ErrorKind::TimedOut, text));
        }
        if !is_reachable(core) {
            let text = "the connection was lost for good while stored messages were waited for";
            return Err(Error::new(ErrorKind::Disconnected, text));
        }
    }
}

/// How often a flush looks whether the client still has a connection or hope of one.
const LOOK: Duration = Duration::from_secs(1);

fn ask(core: &Core, ack: AckType, limit: Option<Duration>) -> Result<()> {
    let old = core.session.lock().server.version < *PERSISTED_FLUSH;
    let ack = if old { AckType::PROCESSED } else { ack };
    let command = Command::flush().ack_type(ack);
    let command = match limit {
        Some(limit) => command.timeout(limit),
        None => command,
    };
    let transport = core.link.transport();
    if let Some(transport) = &transport {
        transport.set_urgent(true);
    }
    let outcome = place(core, command, None, Wanted::default()).map(drop);
    if let Some(transport) = transport {
        transport.set_urgent(false);
    }
    outcome
}
