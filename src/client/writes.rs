//! What the server says about writes: `persisted` acknowledgements (`resilience.md` 5.4).

use super::core::Core;
use super::publishing::failed_message;
use super::registry::{ask, contain};
use super::replays;
use crate::callbacks::Origin;
use crate::error::{Error, ErrorKind, Reason, Result};
use crate::message::Message;
use crate::store::PublishStore;
use crate::wire::Status;

/// Takes a `persisted` acknowledgement of a write: a refusal goes to the failed-write handler, and the store lets go of what
/// is settled. True if somebody has taken it.
pub(crate) fn persisted(core: &Core, ack: &Message) -> bool {
    if ack.sequence().is_none() && replays::persisted(core, ack) {
        return true;
    }
    let failed = is_failed(ack);
    let told = failed && tell(core, ack);
    let (Some(store), Some(sequence)) = (core.config.publish_store.as_deref(), ack.sequence()) else {
        return told;
    };
    if sequence > 0
        && let Err(failure) = ask(Origin::PublishStore, || settle(core, store, sequence))
    {
        core.registry.report(failure);
    }
    // A success is what the store was waiting for; a refusal that nobody was told of is for the last chance (M-15).
    told || !failed
}

/// The server has everything up to this number. What it was not sent it cannot have: letting go of that would lose it.
fn settle(core: &Core, store: &dyn PublishStore, sequence: u64) -> Result<()> {
    if core.link.acknowledged(sequence) {
        return store.discard_up_to(sequence);
    }
    if sequence <= store.last_persisted() {
        return Ok(());
    }
    let text = format!("the server acknowledged message {sequence}, which it was not sent");
    Err(Error::new(ErrorKind::Stream, text))
}

/// M-12.
fn is_failed(ack: &Message) -> bool {
    let refused = matches!(ack.reason_code(), Reason::Duplicate | Reason::NotEntitled);
    refused || ack.status() == Status::Failure
}

/// Tells the failed-write handler, if there is one.
fn tell(core: &Core, ack: &Message) -> bool {
    let Some(handler) = core.registry.failed_write() else { return false };
    let store = core.config.publish_store.as_deref();
    let message = failed_message(store, ack.sequence()).unwrap_or_else(|error| {
        core.report(error, Origin::PublishStore);
        Message::with_sequence(ack.sequence())
    });
    let reason = ack.reason().unwrap_or_default();
    if let Err(failure) = contain(|| handler.lock().on_failed_write(&message, reason)) {
        core.registry.report(failure.unhandled(Origin::FailedWriteHandler));
    }
    true
}
