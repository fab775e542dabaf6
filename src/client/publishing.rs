//! Publishing with a store: first kept, then sent, in the order of the numbers.

use std::sync::Arc;

use super::core::Core;
use super::link::{Refusal, Sent, StoredFrames};
use super::recovery::reviving;
use super::registry::{Registry, contain};
use super::verbs::PublishOptions;
use crate::callbacks::{Origin, UnhandledError};
use crate::command::{check_text, too_large, whole_seconds};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::store::{PublishStore, Selector, StoreEntry};
use crate::wire::frame::StoredPublishWriter;
use crate::wire::{CommandType, Field, FrameWriter};

/// Keeps a message and sends it, or leaves it to the next logon. Returns its number.
///
/// Waits for room in the store and for the peer to take its bytes, and on the receive thread for nothing.
///
/// # Errors
///
/// `Store` if it cannot be kept; nothing is sent then. On a plain client without a connection `Disconnected`: the message is
/// kept nevertheless.
#[inline]
pub(crate) fn publish(core: &Core, store: &dyn PublishStore, entry: StoreEntry<'_>) -> Result<u64> {
    let entry = entry.with_may_wait(core.may_wait());
    let (sequence, sent) = keep_and_send(core, store, &entry, |_| {})?;
    judge(core, sent, &entry).map(|()| sequence)
}

/// Keeps a message, for which it waits if the entry may, and sends it if it can be sent now: its number, and what became of
/// the sending. `queued` hears of the connection that it goes over.
#[inline]
pub(crate) fn keep_and_send(
    core: &Core,
    store: &dyn PublishStore,
    entry: &StoreEntry<'_>,
    queued: impl Fn(u64),
) -> Result<(u64, Result<(), Refusal>)> {
    match core.link.store_and_send(store, entry, || core.sender(None), &queued)? {
        (sequence, Sent::Now) => Ok((sequence, Ok(()))),
        (sequence, Sent::Later) => Ok((sequence, send_later(core, sequence, entry, &queued))),
    }
}

#[cold]
fn send_later(
    core: &Core,
    sequence: u64,
    entry: &StoreEntry<'_>,
    queued: impl Fn(u64),
) -> Result<(), Refusal> {
    reviving(core, || core.link.publish_stored(|| core.sender(None), sequence, entry, &queued))
}

/// What it means to the caller that a message that is kept could not be sent: mostly nothing.
pub(crate) fn judge(core: &Core, sent: Result<(), Refusal>, entry: &StoreEntry<'_>) -> Result<()> {
    match sent {
        Ok(()) | Err(Refusal::Busy) => Ok(()),
        Err(Refusal::NotConnected | Refusal::GivenUp) if core.config.driven => Ok(()),
        Err(refusal) => Err(not_sent(core, refusal, entry)),
    }
}

/// Publishes a message that has something going along.
pub(crate) fn publish_with(
    core: &Core,
    kind: CommandType,
    topic: &str,
    data: &[u8],
    options: &PublishOptions,
) -> Result<u64> {
    let texts =
        [("topic", topic), ("correlation id", &options.correlation_id), ("SOW key", &options.sow_key)];
    texts.iter().try_for_each(|(what, text)| check_text(what, text))?;
    if let Some(store) = &core.config.publish_store {
        let entry = StoreEntry::new(kind, topic, Selector::Data(data))
            .with_expiration(whole_seconds(options.expiration))
            .with_correlation_id(&options.correlation_id)
            .with_sow_key(&options.sow_key);
        return publish(core, &**store, entry);
    }
    let encode = |buffer: &mut Vec<u8>| {
        let mut frame = FrameWriter::new(buffer, kind);
        frame.text(Field::Topic, topic);
        match whole_seconds(options.expiration) {
            0 => {}
            seconds => drop(frame.quoted_number(Field::Expiration, seconds)),
        }
        frame.text(Field::CorrelationId, &options.correlation_id).text(Field::SowKey, &options.sow_key);
        frame.finish(data).map_err(too_large)
    };
    reviving(core, || core.link.publish(|| core.sender(None), encode))
        .map_err(|refusal| core.refusal(refusal, kind.name()).with_topic(topic))?;
    Ok(0)
}

fn not_sent(core: &Core, refusal: Refusal, entry: &StoreEntry<'_>) -> Error {
    match core.refusal(refusal, entry.command.name()) {
        error if error.is_disconnect() => {
            let text = format!("{error}; it is in the publish store, and the next logon sends it");
            Error::new(ErrorKind::Disconnected, text).with_topic(entry.topic)
        }
        error => error,
    }
}

/// Brings store and server together after a logon: what the server has is forgotten, the rest is sent again.
///
/// # Errors
///
/// `PublishStoreGap`, or `Connection` if the store fails; the logon fails with it.
pub(crate) fn synchronise(core: &Core, store: &dyn PublishStore, last_sequence: u64) -> Result<()> {
    for damage in store.take_damage_reports() {
        core.report(damage, Origin::PublishStore);
    }
    store.discard_up_to(last_sequence).map_err(store_failed)
}

/// Sends everything that is kept, lowest number first. A queue message that was given back is left out: the loss of the
/// connection gave it back already.
pub(crate) fn replay(core: &Core, store: &dyn PublishStore, last_sequence: u64) -> Result<()> {
    let before_first = store.lowest_unpersisted().map_or(last_sequence, |lowest| lowest.saturating_sub(1));
    core.link.open_sequences(before_first);
    let mut writer = StoredPublishWriter::default();
    let outcome = store.replay(&mut |sequence: u64, entry: &StoreEntry<'_>| {
        if entry.is_cancel() {
            core.link.skipped(sequence);
            return Ok(());
        }
        let encode = |buffer: &mut Vec<u8>| entry.sendable().encode(sequence, &mut writer, buffer);
        core.link
            .replay(&core.sender(None), sequence, encode)
            .map_err(|refusal| core.refusal(refusal, "replay"))
    });
    core.link.flush();
    outcome.map_err(store_failed)
}

fn store_failed(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Store => {
            Error::new(ErrorKind::Connection, format!("the publish store failed: {error}")).with_source(error)
        }
        _ => error,
    }
}

/// The stored message with this number, for the failed-write handler; one with nothing but the number if it is gone.
pub(crate) fn failed_message(store: Option<&dyn PublishStore>, sequence: Option<u64>) -> Result<Message> {
    let mut frame = Vec::new();
    if let (Some(store), Some(sequence)) = (store, sequence) {
        let mut collect = |sequence: u64, entry: &StoreEntry<'_>| entry.encode_in_full(sequence, &mut frame);
        store.replay_single(&mut collect, sequence)?;
    }
    if frame.is_empty() {
        return Ok(Message::with_sequence(sequence));
    }
    Message::from_frame(&frame).map_err(|error| {
        Error::new(ErrorKind::Store, "the store holds something that is no message").with_source(error)
    })
}

/// The frames of a store, for whoever catches up.
pub(crate) struct StoreFrames {
    pub(crate) store: Arc<dyn PublishStore>,
    pub(crate) registry: Arc<Registry>,
}

impl StoredFrames for StoreFrames {
    fn append(&self, sequence: u64, buffer: &mut Vec<u8>) -> Result<bool> {
        let mut found = None;
        let fetched = contain(|| {
            let mut copy = |sequence: u64, entry: &StoreEntry<'_>| entry.encode_in_full(sequence, buffer);
            found = Some(self.store.replay_single(&mut copy, sequence));
            Ok(())
        });
        match (fetched, found) {
            (Ok(()), Some(found)) => found,
            (Err(failure), _) => Err(failure.error),
            (Ok(()), None) => Ok(false),
        }
    }

    fn next(&self, from: u64) -> Option<u64> {
        self.store.next_unpersisted(from)
    }

    fn failed(&self, error: Error) {
        self.registry.report(UnhandledError::new(error, Origin::PublishStore));
    }
}
