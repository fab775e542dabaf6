//! A program of `examples/`, run as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(name: &str, args: &[&str]) -> Vec<String> {
    let outcome = Program::start(name, args, Stdio::null()).finish();
    assert!(outcome.status.success(), "{name}: {outcome:#?}");
    outcome.lines
}

/// How long a program may take to print its next line.
const LIMIT: Duration = Duration::from_secs(60);

/// A running example; dropping it kills it.
pub(crate) struct Program {
    name: String,
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

/// What came of a program: the rest of what it printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) lines: Vec<String>,
    pub(crate) errors: String,
    pub(crate) status: ExitStatus,
}

impl Program {
    pub(crate) fn start(name: &str, args: &[&str], input: Stdio) -> Program {
        let path = path_of(name);
        let mut command = Command::new(&path);
        let child = command.args(args).stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| {
            panic!("cannot run {}: {error}; `cargo build --examples` builds it", path.display())
        });
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let errors = child.stderr.take().unwrap();
        let errors = thread::spawn(move || std::io::read_to_string(errors).unwrap());
        Program { name: name.to_owned(), child, lines, errors: Some(errors) }
    }

    pub(crate) fn line(&mut self) -> String {
        self.next_line().unwrap_or_else(|| panic!("{} ended", self.name))
    }

    /// `None` when the program has ended.
    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{} neither prints nor ends", self.name),
        }
    }

    pub(crate) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end.
    pub(crate) fn finish(&mut self) -> Outcome {
        let lines = std::iter::from_fn(|| self.next_line()).collect();
        let errors = self.errors.take().unwrap().join().unwrap();
        Outcome { lines, errors, status: self.child.wait().unwrap() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Cargo puts the examples beside the directory of the test programs.
fn path_of(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).unwrap();
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
