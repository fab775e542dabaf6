//! What the library writes to the log, for test binaries that look at it.

use std::time::Instant;

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};

use super::client::SOON;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Logged {
    pub(crate) level: Level,
    pub(crate) target: String,
    pub(crate) text: String,
}

/// Keeps everything that is logged in this process.
pub(crate) struct Capture {
    records: Mutex<Vec<Logged>>,
    added: Condvar,
}

static CAPTURE: Capture = Capture { records: Mutex::new(Vec::new()), added: Condvar::new() };

impl Capture {
    /// Takes over the log of the process, at the most talkative level.
    pub(crate) fn start() -> &'static Capture {
        // Another test of the process may have done so before.
        drop(log::set_logger(&CAPTURE));
        log::set_max_level(LevelFilter::Trace);
        &CAPTURE
    }

    /// What was logged so far with this in its text.
    pub(crate) fn with(&self, text: &str) -> Vec<Logged> {
        self.records.lock().iter().filter(|record| record.text.contains(text)).cloned().collect()
    }

    /// Waits until something with this in its text was logged, and returns the first.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> Logged {
        let deadline = Instant::now() + SOON;
        let mut records = self.records.lock();
        loop {
            if let Some(found) = records.iter().find(|record| record.text.contains(text)) {
                return found.clone();
            }
            let timed_out = self.added.wait_until(&mut records, deadline).timed_out();
            assert!(!timed_out, "{text:?} was not logged, but {records:#?}");
        }
    }

    /// Everything so far.
    pub(crate) fn all(&self) -> Vec<Logged> {
        self.records.lock().clone()
    }
}

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (target, text) = (record.target().to_owned(), record.args().to_string());
        self.records.lock().push(Logged { level: record.level(), target, text });
        self.added.notify_all();
    }

    fn flush(&self) {}
}
