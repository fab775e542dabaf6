//! A recovery point adapter that keeps its points in memory and remembers what it was told.

use std::collections::BTreeMap;

use amps_client::{Error, ErrorKind, RecoveryPoint, RecoveryPointAdapter, Result};
use parking_lot::{Condvar, Mutex};

use super::client::SOON;

/// The adapter. Share it with its store through an `Arc`.
#[derive(Default)]
pub(crate) struct Table {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    points: BTreeMap<String, String>,
    calls: Vec<String>,
    /// So many of the next updates fail.
    failing: u32,
    panics: bool,
}

impl Table {
    /// A table with these points.
    pub(crate) fn of(points: &[(&str, &str)]) -> Table {
        let table = Table::default();
        let point = |(sub_id, bookmark): &(&str, &str)| ((*sub_id).to_owned(), (*bookmark).to_owned());
        table.state.lock().points = points.iter().map(point).collect();
        table
    }

    pub(crate) fn fail(&self, updates: u32) {
        self.state.lock().failing = updates;
    }

    pub(crate) fn panic_next(&self) {
        self.state.lock().panics = true;
    }

    /// The point of a subscription; empty if there is none.
    pub(crate) fn point(&self, sub_id: &str) -> String {
        self.state.lock().points.get(sub_id).cloned().unwrap_or_default()
    }

    /// Waits until a subscription has this point.
    pub(crate) fn wait_for_point(&self, sub_id: &str, point: &str) {
        let mut state = self.state.lock();
        while state.points.get(sub_id).is_none_or(|known| known != point) {
            let timed_out = self.changed.wait_for(&mut state, SOON).timed_out();
            assert!(!timed_out, "{sub_id} does not get to {point}, but to {:?}", state.points);
        }
    }

    /// What it was told since the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().calls)
    }

    /// Waits for a call like this, and returns it with those before it.
    pub(crate) fn calls_up_to(&self, call: &str) -> Vec<String> {
        let mut state = self.state.lock();
        loop {
            if let Some(at) = state.calls.iter().position(|known| known == call) {
                return state.calls.drain(..=at).collect();
            }
            let timed_out = self.changed.wait_for(&mut state, SOON).timed_out();
            assert!(!timed_out, "{call} does not come, but {:?}", state.calls);
        }
    }

    fn note(&self, call: String, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        state.calls.push(call);
        self.changed.notify_all();
    }
}

impl RecoveryPointAdapter for Table {
    fn recover(&self) -> Result<Vec<RecoveryPoint>> {
        self.note("recover".to_owned(), |_| {});
        let state = self.state.lock();
        let point = |(id, text): (&String, &String)| Ok(RecoveryPoint::new(id.as_str(), text.parse()?));
        state.points.iter().map(point).collect()
    }

    fn update(&self, point: &RecoveryPoint) -> Result<()> {
        let (sub_id, bookmark) = (point.sub_id().to_owned(), String::from(point.bookmark()));
        assert!(!std::mem::take(&mut self.state.lock().panics), "as it was told");
        let mut failed = false;
        self.note(format!("{sub_id} {bookmark}"), |state| {
            failed = state.failing > 0;
            state.failing = state.failing.saturating_sub(1);
            if !failed {
                state.points.insert(sub_id, bookmark);
            }
        });
        if failed { Err(Error::new(ErrorKind::Store, "the table is full")) } else { Ok(()) }
    }

    fn purge(&self) -> Result<()> {
        self.note("purge".to_owned(), |state| state.points.clear());
        Ok(())
    }

    fn purge_sub_id(&self, sub_id: &str) -> Result<()> {
        self.note(format!("purge {sub_id}"), |state| drop(state.points.remove(sub_id)));
        Ok(())
    }

    fn prune(&self) -> Result<()> {
        self.note("prune".to_owned(), |_| {});
        Ok(())
    }

    fn close(&self) -> Result<()> {
        self.note("close".to_owned(), |_| {});
        Ok(())
    }
}
