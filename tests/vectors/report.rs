//! Replaying every line of a file, and saying what became of each.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, thread};

use serde_json::Value;

/// What became of one line.
pub(crate) enum Verdict {
    Replayed,
    /// It needs what is named here and the library does not have.
    Skipped(String),
}

/// `Err` says what did not come out alike, or why the line is not understood.
pub(crate) type Replay = Result<Verdict, String>;

/// Lines replayed at a time; most of what they do is to wait.
const AT_A_TIME: usize = 8;

/// Replays every line of a file and prints how many were replayed, and which were skipped and why.
///
/// Panics if a line did not come out alike, or is neither replayed nor skipped.
pub(crate) fn replay_all(
    file: &str,
    name: impl Fn(&Value) -> String + Sync,
    replay: impl Fn(&Value) -> Replay + Sync,
) {
    let Some(lines) = lines(file) else {
        return say(&format!("{file}: no such file in {}\n", directory().display()));
    };
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || {
        while let Some(line) = lines.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result =
                catch_unwind(AssertUnwindSafe(|| replay(line))).unwrap_or_else(|panic| Err(words(&*panic)));
            results.lock().expect("no panic").push((name(line), result));
        }
    };
    thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work))));
    let results = results.into_inner().expect("no panic");
    assert_eq!(results.len(), lines.len(), "every line has a verdict");
    conclude(file, results);
}

fn conclude(file: &str, results: Vec<(String, Replay)>) {
    let mut replayed = 0;
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut failed = Vec::new();
    for (name, result) in results {
        match result {
            Ok(Verdict::Replayed) => replayed += 1,
            Ok(Verdict::Skipped(reason)) => skipped.entry(reason).or_default().push(name),
            Err(problem) => failed.push(format!("{name}: {problem}")),
        }
    }
    let count: usize = skipped.values().map(Vec::len).sum();
    let mut text = format!("{file}: {replayed} lines replayed, {count} skipped, {} failed\n", failed.len());
    for (reason, names) in &mut skipped {
        names.sort_unstable();
        text.push_str(&format!("  skipped, {reason}: {}\n", names.join(", ")));
    }
    say(&text);
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{file}: {} lines did not come out alike:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// The lines of a file; `None` if a directory was named that does not have it.
fn lines(file: &str) -> Option<Vec<Value>> {
    let path = directory().join(file);
    if !path.exists() && env::var_os(DIRECTORY).is_some() {
        return None;
    }
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value =
        |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{file}: {error} in {line}"));
    Some(text.lines().filter(|line| !line.trim().is_empty()).map(value).collect())
}

/// The environment variable that names another directory of vectors.
const DIRECTORY: &str = "AMPS_CLIENT_VECTORS";

fn directory() -> PathBuf {
    let own = || concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vectors").into();
    env::var_os(DIRECTORY).map_or_else(own, PathBuf::from)
}

/// Prints past the capture of the test harness: what was skipped is to be seen although the test passes.
fn say(text: &str) {
    // Nobody can be told if this fails.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
