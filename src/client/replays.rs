//! Bookmark subscriptions: where they start, how far they have got, and where they go on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Client;
use super::core::Core;
use super::registry::ask;
use crate::bookmark::{Bookmark, Progress, lowest_of_each};
use crate::callbacks::Origin;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::text;
use crate::store::BookmarkStore;

impl Client {
    /// The bookmark store, if the client was built with one.
    pub fn bookmark_store(&self) -> Option<&Arc<dyn BookmarkStore>> {
        self.core().config.bookmark_store.as_ref()
    }

    /// Tells the bookmark store that the application is done with a message of a bookmark subscription: it will not come
    /// again, and the subscription goes on behind it once everything before it is discarded too. In any order, on any thread,
    /// once or several times. Blocks for as long as the store takes to record it.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) without a bookmark store; [`Store`](ErrorKind::Store) if it could not be recorded, or for a
    /// message of no subscription.
    pub fn discard(&self, message: &Message) -> Result<()> {
        self.bookmark_store().ok_or_else(no_store)?.discard(message)
    }

    /// Where a subscription that was placed with this command would go on: behind what the bookmark store, or without one the client, has
    /// noted of its progress; `None` if it was not placed with a bookmark. For a [`SubscriptionManager`](crate::SubscriptionManager).
    ///
    /// # Errors
    ///
    /// [`Store`](ErrorKind::Store) from the bookmark store; [`Command`](ErrorKind::Command) for a bookmark that is none.
    pub fn resume_point(&self, command: &Command) -> Result<Option<Bookmark>> {
        resume_point(self.core(), command)
    }
}

/// How far one subscription has got.
pub(crate) type SharedProgress = Arc<Mutex<Progress>>;

/// How far the bookmark subscriptions have got that are placed again after a loss.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    known: Mutex<HashMap<String, SharedProgress>>,
    any: AtomicBool,
}

impl Replays {
    pub(crate) fn get(&self, sub_id: &str) -> Option<SharedProgress> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.known.lock().get(sub_id).cloned()
    }

    fn restart(&self, sub_id: &str) {
        self.any.store(true, Ordering::Release);
        self.known.lock().entry(sub_id.to_owned()).or_default().lock().restart();
    }

    pub(crate) fn remove(&self, sub_id: &str) {
        self.known.lock().remove(sub_id);
    }

    pub(crate) fn clear(&self) {
        self.known.lock().clear();
    }
}

impl Core {
    /// How far a subscription has got, if that is not up to a store.
    pub(crate) fn progress_of(&self, sub_id: &str) -> Option<SharedProgress> {
        if self.config.bookmark_store.is_some() { None } else { self.replays.get(sub_id) }
    }
}

/// Whether a subscription is placed at a point of the application's, as opposed to being paused or resumed where it is.
fn starts(core: &Core, command: &Command, id: &str) -> bool {
    let options = command.options_text().unwrap_or_default();
    let stays = text::has(options, "pause") && !text::has(options, "replace") && core.routes.contains(id);
    !stays && !text::has(options, "resume")
}

/// The application places a bookmark subscription: what stands for the recovery point is replaced by it (BS-4), and any
/// other starting point is recorded (BS-5). `lasting` if it is placed again after a loss.
pub(crate) fn begin(core: &Core, command: &mut Command, lasting: bool) -> Result<()> {
    let ids = sub_ids_of(command);
    let Some(text) = command.bookmark_text() else { return Ok(()) };
    let bookmark = Bookmark::parse(text).map_err(|error| error.with_sub_id(&ids))?;
    let resumes = bookmark == Bookmark::MOST_RECENT;
    let store = core.config.bookmark_store.as_deref();
    for id in text::ids(&ids).filter(|id| starts(core, command, id)) {
        if let Some(store) = store.filter(|_| !resumes) {
            store.placed(id, &bookmark)?;
        }
        if lasting {
            core.replays.restart(id);
        }
    }
    if resumes {
        command.set_bookmark(most_recent(core, &ids)?);
    }
    Ok(())
}

/// The recovery point of one subscription, or the common one of several; the beginning of the log without a store.
fn most_recent(core: &Core, sub_ids: &str) -> Result<Bookmark> {
    let Some(store) = core.config.bookmark_store.as_deref() else { return Ok(Bookmark::EPOCH) };
    let mut points = text::ids(sub_ids).map(|id| store.most_recent(id)).collect::<Result<Vec<_>>>()?;
    match points.len() {
        1 => Ok(points.remove(0)),
        _ => Ok(lowest_of_each(&points).unwrap_or(Bookmark::EPOCH)),
    }
}

/// The server has accepted a subscription.
pub(crate) fn accepted(core: &Core, command: &Command) {
    let at_now = command.bookmark_text().and_then(|text| Bookmark::parse(text).ok()) == Some(Bookmark::NOW);
    if at_now {
        for id in text::ids(&sub_ids_of(command)) {
            if let Some(progress) = core.replays.get(id) {
                progress.lock().accepted_at_now(SystemTime::now());
            }
        }
    }
}

/// Where a subscription goes on that was placed with this command (SM-7); `None` if it was not placed with a bookmark.
fn resume_point(core: &Core, command: &Command) -> Result<Option<Bookmark>> {
    let Some(text) = command.bookmark_text() else { return Ok(None) };
    let placed = Bookmark::parse(text)?;
    let id = command.sub_id_text().unwrap_or_default();
    let progress = core.replays.get(id);
    let Some(store) = core.config.bookmark_store.as_deref() else {
        let progress = progress.unwrap_or_default();
        let point = progress.lock().resume_point(&placed);
        return Ok(Some(point));
    };
    let point = store.most_recent(id)?;
    let nothing_came = point == Bookmark::EPOCH && store.outstanding(id) == 0;
    if placed != Bookmark::NOW || !nothing_came {
        return Ok(Some(point));
    }
    let accepted = progress.and_then(|progress| progress.lock().since_acceptance());
    Ok(Some(accepted.unwrap_or(placed)))
}

/// Takes a `persisted` acknowledgement of a bookmark subscription (M-20). True if somebody has taken it.
pub(crate) fn persisted(core: &Core, ack: &Message) -> bool {
    let (Some(id), Some(bookmark)) = (ack.sub_id(), ack.bookmark()) else { return false };
    let Some(store) = core.config.bookmark_store.as_deref() else { return false };
    let persisted = || store.persisted(id, bookmark).map_err(|error| error.with_sub_id(id));
    if core.routes.contains(id)
        && let Err(failure) = ask(Origin::BookmarkStore, persisted)
    {
        core.registry.report(failure.with_id(Some(id)));
    }
    true
}

fn no_store() -> Error {
    Error::new(ErrorKind::Usage, "a discard needs a bookmark store: give the client one when it is built")
}

fn sub_ids_of(command: &Command) -> String {
    command.sub_id_text().unwrap_or_default().to_owned()
}
