//! Tells an adapter what has moved: in order, outside the lock, and by one thread at a time.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::super::recovery_point::{Reader, RecoveryPoint, RecoveryPointAdapter};
use super::keeper::State;
use crate::error::Result;

/// The adapter of a store.
pub(super) struct Points {
    pub(super) adapter: Box<dyn RecoveryPointAdapter>,
    /// Reads points when they are asked for, if they are dynamic.
    pub(super) reader: Option<Arc<Reader>>,
}

/// What the adapter is to be told next.
#[derive(Debug, Default)]
pub(super) struct Updates {
    tasks: VecDeque<Task>,
    /// A thread is at it, and does those that come meanwhile as well.
    is_running: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// The subscription in this slot has moved.
    Update(usize),
    Purge,
    PurgeSubId(Arc<str>),
    Prune,
}

impl Updates {
    pub(super) fn push(&mut self, task: Task) {
        self.tasks.push_back(task);
    }
}

impl Points {
    /// Does what is to be done, unless another thread is at it.
    pub(super) fn pass_on<J>(&self, mut state: MutexGuard<'_, State<J>>) -> Result<()> {
        if state.updates.is_running {
            return Ok(());
        }
        state.updates.is_running = true;
        let mut result = Ok(());
        while let Some(task) = state.updates.tasks.pop_front() {
            let point = match task {
                Task::Update(slot) => self.point(&mut state, slot),
                _ => None,
            };
            let told = MutexGuard::unlocked(&mut state, || {
                catch_unwind(AssertUnwindSafe(|| self.tell(&task, point.as_ref())))
            });
            match told {
                Ok(told) => result = result.and(told),
                Err(panic) => {
                    state.updates.is_running = false;
                    resume_unwind(panic)
                }
            }
        }
        state.updates.is_running = false;
        result
    }

    fn point<J>(&self, state: &mut State<J>, slot: usize) -> Option<RecoveryPoint> {
        let tracked = state.subscriptions.get_mut(slot)?;
        tracked.awaits_update = false;
        let sub_id = tracked.sub_id.clone();
        Some(match &self.reader {
            Some(reader) => RecoveryPoint::dynamic(sub_id, reader.clone()),
            None => RecoveryPoint::new(sub_id, tracked.subscription.recovery_point()),
        })
    }

    fn tell(&self, task: &Task, point: Option<&RecoveryPoint>) -> Result<()> {
        match task {
            Task::Update(_) => point.map_or(Ok(()), |point| self.adapter.update(point)),
            Task::Purge => self.adapter.purge(),
            Task::PurgeSubId(sub_id) => self.adapter.purge_sub_id(sub_id),
            Task::Prune => self.adapter.prune(),
        }
    }
}

impl Drop for Points {
    fn drop(&mut self) {
        if let Err(error) = self.adapter.close() {
            log::warn!(target: "amps::store", "a recovery point adapter cannot be closed: {error}");
        }
    }
}
