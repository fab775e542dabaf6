//! Reads a log: what it says of each subscription, and where it ends.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::super::super::bookmarks::{Change, Subscriptions};
use super::super::super::disk::refusal;
use super::super::super::mapped::{LockedFile, Mapped};
use super::file::{HEAD, failure};
use super::record::{self, ALIGNMENT, Kind, Record, Salt};
use crate::error::Result;

/// What a log has told.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    pub(super) subscriptions: Subscriptions,
    /// The slots of the subscriptions by their numbers in the file.
    pub(super) slots: HashMap<u32, usize>,
    /// The highest number in the file.
    pub(super) last_number: u32,
    /// Where the records end. What is behind is torn, or nothing.
    pub(super) end: u64,
}

/// Reads the log in a file, whose head was read already, and changes nothing. A sub id may have so many bytes.
pub(super) fn recover(
    path: &Path,
    file: &Arc<LockedFile>,
    salt: Salt,
    sub_id_limit: usize,
) -> Result<Recovered> {
    let failed = |error| failure("read", path, error);
    let length = file.file().metadata().map_err(failed)?.len();
    let length = usize::try_from(length).map_err(|_| refusal(path, "is too large to be read"))?;
    let map = Mapped::new(file, 0, length).map_err(failed)?;
    let bytes = map.bytes();
    let mut recovered = Recovered::default();
    let mut at = HEAD;
    while let Some(record) = record_at(bytes, salt, at) {
        let applied = recovered.apply(&record, sub_id_limit);
        applied.map_err(|text| refusal(path, &format!("is damaged: the record at byte {at} {text}")))?;
        at += record.size;
    }
    if let Some(later) =
        (at + ALIGNMENT..length).step_by(ALIGNMENT).find(|at| record_at(bytes, salt, *at).is_some())
    {
        let text =
            format!("is damaged: no record can be read at byte {at}, but there is one at byte {later}");
        return Err(refusal(path, &text));
    }
    recovered.end = at as u64;
    for tracked in recovered.subscriptions.iter_mut() {
        tracked.subscription.reopen();
    }
    Ok(recovered)
}

fn record_at(bytes: &[u8], salt: Salt, at: usize) -> Option<Record<'_>> {
    record::read(bytes.get(at..)?, salt, at as u64)
}

impl Recovered {
    /// Does what a record says, or says what is wrong with it.
    fn apply(&mut self, record: &Record<'_>, sub_id_limit: usize) -> Result<(), &'static str> {
        let kind = record.kind.ok_or("is of a kind that this library does not know")?;
        self.last_number = self.last_number.max(record.number);
        match kind {
            Kind::Name => return self.name(record, sub_id_limit),
            Kind::Purged => {
                self.subscriptions.clear();
                self.slots.clear();
                return Ok(());
            }
            _ => (),
        }
        let slot = *self.slots.get(&record.number).ok_or("belongs to no subscription")?;
        let tracked = self.subscriptions.get_mut(slot).ok_or("belongs to no subscription")?;
        if kind == Kind::Forgotten {
            let sub_id = tracked.sub_id.clone();
            self.subscriptions.remove(&sub_id);
            self.slots.remove(&record.number);
            return Ok(());
        }
        let apply = |change: Change<'_>| tracked.subscription.apply(change);
        with_change(kind, record.content, apply).ok_or("cannot be read")
    }

    fn name(&mut self, record: &Record<'_>, sub_id_limit: usize) -> Result<(), &'static str> {
        let sub_id = record.content;
        if sub_id.is_empty() || sub_id.len() > sub_id_limit || std::str::from_utf8(sub_id).is_err() {
            return Err("has a subscription id that cannot be one, or is too long");
        }
        let slot = self.subscriptions.slot(sub_id);
        self.slots.insert(record.number, slot);
        Ok(())
    }
}

/// Hands on the change in a record; `None` if it cannot be read.
fn with_change(kind: Kind, content: &[u8], apply: impl FnOnce(Change<'_>)) -> Option<()> {
    match kind {
        Kind::Received => apply(Change::Received(record::read_place(content)?)),
        Kind::Discarded => apply(Change::Discarded(record::read_place(content)?)),
        Kind::Passed => apply(Change::Passed(record::read_place(content)?)),
        Kind::Known => apply(Change::Known(record::read_place(content)?)),
        Kind::Listed => apply(Change::Listed(record::read_place(content)?)),
        Kind::Recent => apply(Change::Recent(record::read_place(content)?)),
        Kind::Persisted => apply(Change::Persisted(&record::read_places(content)?)),
        Kind::Placed => apply(Change::Placed(&record::read_bookmark(content)?)),
        Kind::Recovered => apply(Change::Recovered(&record::read_bookmark(content)?)),
        Kind::Range => apply(Change::Range(&record::read_bookmark(content)?)),
        Kind::Time => apply(Change::Time(&record::read_bookmark(content)?)),
        Kind::Name | Kind::Forgotten | Kind::Purged => return None,
    }
    Some(())
}
