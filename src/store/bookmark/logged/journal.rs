//! Writes the changes of a logged bookmark store to its log.

use std::collections::HashMap;

use super::super::super::bookmarks::{Change, Subscriptions};
use super::super::keeper::Journal;
use super::file::{Log, Records};
use super::record::{self, Kind};
use crate::error::{Error, ErrorKind, Result};

/// A log, and what the subscriptions are called in it.
#[derive(Debug)]
pub(super) struct LogJournal {
    log: Log,
    names: Names,
    sub_id_limit: usize,
    /// The log is pruned when it grows beyond this.
    prune_at: u64,
    least_prune_at: u64,
    /// Something was written since it was pruned.
    is_changed: bool,
}

/// The numbers of the subscriptions in a file, by their slots in the store.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: Vec<Option<u32>>,
    last: u32,
}

impl LogJournal {
    pub(super) fn new(log: Log, names: Names, sub_id_limit: usize, prune_at: u64) -> LogJournal {
        LogJournal { log, names, sub_id_limit, prune_at, least_prune_at: prune_at, is_changed: true }
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// The number of a subscription in the file, which gets one if it has none yet.
    #[cold]
    fn introduce(&mut self, slot: usize, sub_id: &str) -> Result<u32> {
        if sub_id.len() > self.sub_id_limit {
            let text =
                format!("a subscription id of {} bytes is too long for the bookmark store", sub_id.len());
            return Err(Error::new(ErrorKind::Store, text));
        }
        let number = self.names.next()?;
        self.log.append(number, |record| name(record, sub_id))?;
        self.names.set(slot, number);
        Ok(number)
    }

    /// The log that says what the old one says, without what is not needed any more.
    fn rewritten(subscriptions: &Subscriptions) -> Result<(Records, Names)> {
        let (mut records, mut names) = (Records::new(), Names::default());
        for (slot, tracked) in subscriptions.iter() {
            let number = names.next()?;
            names.set(slot, number);
            records.append(number, |record| name(record, &tracked.sub_id))?;
            let mut result = Ok(());
            tracked.subscription.snapshot(|change| {
                let appended = records.append(number, |record| record::write_change(record, change));
                result = std::mem::replace(&mut result, Ok(())).and(appended);
            });
            result?;
        }
        Ok((records, names))
    }
}

impl Journal for LogJournal {
    #[inline]
    fn record(&mut self, slot: usize, sub_id: &str, change: Change<'_>) -> Result<()> {
        let number = match self.names.get(slot) {
            Some(number) => number,
            None => self.introduce(slot, sub_id)?,
        };
        self.is_changed = true;
        self.log.append(number, |record| record::write_change(record, change))
    }

    fn is_bloated(&self) -> bool {
        self.log.end() > self.prune_at
    }

    fn purge(&mut self) -> Result<()> {
        self.is_changed = true;
        self.log.append(0, |_| Kind::Purged)?;
        self.names.numbers.clear();
        Ok(())
    }

    fn purge_sub_id(&mut self, slot: usize, _sub_id: &str) -> Result<()> {
        if let Some(number) = self.names.take(slot) {
            self.is_changed = true;
            self.log.append(number, |_| Kind::Forgotten)?;
        }
        Ok(())
    }

    fn prune(&mut self, subscriptions: &Subscriptions) -> Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        // If this fails, it is tried again when the log is twice as long.
        self.prune_at = self.least_prune_at.max(self.log.end().saturating_mul(2));
        let (records, names) = LogJournal::rewritten(subscriptions)?;
        self.log.replace(&records)?;
        self.names = names;
        self.prune_at = self.least_prune_at.max(self.log.end().saturating_mul(2));
        self.is_changed = false;
        Ok(())
    }
}

impl Names {
    /// The numbers of a file that was read.
    pub(super) fn of(slots: HashMap<u32, usize>, last: u32) -> Names {
        let mut names = Names { numbers: Vec::new(), last };
        slots.into_iter().for_each(|(number, slot)| names.set(slot, number));
        names
    }

    #[inline]
    fn get(&self, slot: usize) -> Option<u32> {
        *self.numbers.get(slot)?
    }

    fn take(&mut self, slot: usize) -> Option<u32> {
        self.numbers.get_mut(slot)?.take()
    }

    /// A number that was not used before.
    fn next(&mut self) -> Result<u32> {
        let full =
            || Error::new(ErrorKind::Store, "the bookmark store has no number for another subscription");
        self.last = self.last.checked_add(1).ok_or_else(full)?;
        Ok(self.last)
    }

    fn set(&mut self, slot: usize, number: u32) {
        if self.numbers.len() <= slot {
            self.numbers.resize(slot + 1, None);
        }
        if let Some(place) = self.numbers.get_mut(slot) {
            *place = Some(number);
        }
    }
}

fn name(record: &mut Vec<u8>, sub_id: &str) -> Kind {
    record.extend_from_slice(sub_id.as_bytes());
    Kind::Name
}
