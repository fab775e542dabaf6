//! `errors.jsonl`, lines about what fails, or does not, without a server's verdict.

use std::time::Duration;

use amps_client::testing::{Frame, LogonAck, ScriptedPeer};
use amps_client::{AckType, Authenticator, Client, Command, Error, ErrorKind, Logon, Message, Result};
#[cfg(feature = "file-store")]
use amps_client::{FilePublishStore, LoggedBookmarkStore};
use serde_json::Value;

use crate::errors::skipped;
use crate::recovering;
use crate::refusals::kind;
use crate::report::{Replay, Verdict};
#[cfg(feature = "file-store")]
use crate::support::TempDir;
use crate::support::{Linked, SOON};

/// What a case does; `Err` of its `Ok` is the error that the application gets.
pub(crate) type Case = fn() -> Result<()>;

/// A time limit that is to run out.
pub(crate) const MOMENT: Duration = Duration::from_millis(50);

/// The cases that are no connection string.
const CASES: &[(&str, Case)] = &[
    ("set_heartbeat: read timeout below interval", || beats(2, 1)),
    ("set_heartbeat: read timeout equal to interval", || beats(2, 2)),
    ("publish: never connected", || unconnected().publish("t", "1").map(drop)),
    ("publish: after disconnect, no handler", || lost().client.publish("t", "1").map(drop)),
    ("subscribe: timed out", || unanswered(|c| c.execute(Command::subscribe("t").timeout(MOMENT)).map(drop))),
    ("subscribe: disconnected while waiting", || abandoned(|c| c.subscribe("t", "").map(drop))),
    ("subscribe: same id twice, server accepts", same_id_twice),
    ("logon: timed out", || unlogged().client.logon_with(&Logon::new().timeout(MOMENT))),
    ("logon: disconnected while waiting", || dropped(&unlogged(), Client::logon)),
    ("logon: retry asked, default authenticator", challenged),
    ("logon: authenticator raises", || unlogged().client.logon_with(&Logon::new().authenticator(Raises))),
    ("start_timer", || Linked::new().client.execute(Command::new("start_timer")).map(drop)),
    ("publish_flush: ack type completed", || {
        Linked::new().client.publish_flush_with(AckType::COMPLETED, Some(SOON))
    }),
    ("publish_flush: timed out", || unanswered(|c| c.publish_flush_with(AckType::PROCESSED, Some(MOMENT)))),
    ("publish_flush: disconnected while waiting", || abandoned(Client::publish_flush)),
    ("publish_flush: never connected", || unconnected().publish_flush()),
    ("connect: empty client name", || Client::builder("").build().map(drop)),
    ("connect: already connected", || {
        let linked = Linked::new();
        let uri = linked.client.uri().expect("a connection string");
        linked.client.connect(&uri)
    }),
    ("set_ack_timeout: 0 with batch above 1", || {
        let client = unconnected();
        client.set_ack_batch_size(3);
        client.set_ack_timeout(Duration::ZERO)
    }),
    ("stream: iterate after disconnect", || {
        let mut first = None;
        iterate_after_loss(|error| first = first.take().or(error));
        first.map_or(Ok(()), Err)
    }),
];

/// The cases of files.
#[cfg(feature = "file-store")]
const FILES: &[(&str, Case)] = &[
    ("file publish store: cannot open", || {
        FilePublishStore::open(TempDir::new().join("none/such")).map(drop)
    }),
    ("file bookmark store: cannot open", || {
        LoggedBookmarkStore::open(TempDir::new().join("none/such")).map(drop)
    }),
    ("file publish store: file is not a store", || {
        let dir = TempDir::new();
        let path = dir.join("text");
        std::fs::write(&path, "this is a text and no store").expect("a file");
        FilePublishStore::open(path).map(drop)
    }),
];
#[cfg(not(feature = "file-store"))]
const FILES: &[(&str, Case)] = &[];

/// What the library does not have, by a part of the name of a case.
const LACKING: &[(&str, &str)] = &[
    #[cfg(not(feature = "file-store"))]
    ("file bookmark store", "no file bookmark store"),
    #[cfg(not(feature = "file-store"))]
    ("file publish store", "no file publish store"),
];

/// What cannot be said here, so that it cannot fail.
const UNSAYABLE: [&str; 3] =
    ["set_publish_store: while connected", "set_bookmark_store: while connected", "set_name: any"];

/// Replays one line.
pub(crate) fn replay(line: &Value) -> Replay {
    let case = line["case"].as_str().ok_or("no case")?;
    if UNSAYABLE.contains(&case) {
        return skipped("there is no such setter");
    }
    let known = CASES.iter().chain(FILES).chain(recovering::CASES).find(|(name, _)| *name == case);
    let outcome = match known {
        Some((_, perform)) => perform(),
        None if line["uri"].is_string() => connect(line["uri"].as_str().unwrap_or_default()),
        None if line["on"] == "note" => return recovering::noted(case, line),
        None => {
            let lacking = LACKING.iter().find(|(part, _)| case.contains(part));
            return lacking.map_or(Err("an unknown case".to_owned()), |(_, what)| skipped(what));
        }
    };
    let expected = rightly(case, line)?;
    match outcome {
        Ok(()) if expected.is_none() => Ok(Verdict::Replayed),
        Err(error) if Some(error.kind()) == expected => check_source(case, &error),
        other => Err(format!("expected {expected:?}, got {other:?}")),
    }
}

/// The kind of error, where the recorded client has another.
fn rightly(case: &str, line: &Value) -> std::result::Result<Option<ErrorKind>, String> {
    use ErrorKind::*;
    let ours = match case.strip_prefix("connect: ") {
        Some("no transport" | "empty uri" | "garbage uri") => InvalidUri,
        Some("port not a number" | "port out of range" | "fix protocol") => InvalidUri,
        Some("unknown uri parameter" | "bad uri parameter value") => InvalidTransportOptions,
        Some("already connected") => AlreadyConnected,
        None if case.starts_with("file ") => Store,
        None if case == "logon: disconnected while waiting" => Disconnected,
        None if case == "ha connect_and_logon: delay strategy exhausted" => ReconnectMaximumExceeded,
        None if case == "logon: authenticator raises" => Authentication,
        _ => return line["error"].as_str().map(kind).transpose(),
    };
    Ok(Some(ours))
}

/// The error of the application is the source of the one that the logon fails with.
fn check_source(case: &str, error: &Error) -> Replay {
    let source = std::error::Error::source(error).map(ToString::to_string);
    if case == "logon: authenticator raises" && source.as_deref() != Some("no ticket") {
        return Err(format!("its source is {source:?}"));
    }
    Ok(Verdict::Replayed)
}

fn connect(uri: &str) -> Result<()> {
    let peer = ScriptedPeer::start().expect("a free port");
    let address = peer.address().expect("a TCP peer").to_string();
    unconnected().connect(&uri.replace("{A}", &address))
}

fn unconnected() -> Client {
    Client::builder("golden").build().expect("a name")
}

fn unlogged() -> Linked {
    Linked::connected(unconnected(), |uri| uri)
}

fn beats(interval: u64, timeout: u64) -> Result<()> {
    unconnected().set_heartbeat_timeout(Duration::from_secs(interval), Duration::from_secs(timeout))
}

/// A client whose connection was lost, and that has given up.
fn lost() -> Linked {
    let linked = Linked::new();
    linked.end.close();
    let deadline = std::time::Instant::now() + SOON;
    while linked.client.is_connected() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    linked
}

/// A call whose frame arrives and gets no answer.
fn unanswered(call: impl FnOnce(&Client) -> Result<()> + Send) -> Result<()> {
    Linked::new().answered(call, |end| drop(end.expect(|_: &Frame| true, SOON).expect("a frame")))
}

/// A call whose frame arrives, after which the connection is lost.
fn abandoned(call: impl FnOnce(&Client) -> Result<()> + Send) -> Result<()> {
    dropped(&Linked::new(), call)
}

fn dropped(linked: &Linked, call: impl FnOnce(&Client) -> Result<()> + Send) -> Result<()> {
    linked.answered(call, |end| {
        end.expect(|_: &Frame| true, SOON).expect("a frame");
        end.close();
    })
}

fn challenged() -> Result<()> {
    unlogged().answered(Client::logon, |end| {
        drop(end.logon(&LogonAck::retry("alice", "riddle"), SOON).expect("a logon"))
    })
}

fn same_id_twice() -> Result<()> {
    let linked = Linked::new();
    for _ in 0..2 {
        let command = Command::subscribe("t").sub_id("S1");
        linked.answered(
            |client| client.execute_async(command, |_: &Message| {}),
            |end| {
                end.expect("subscribe", SOON).expect("a subscribe");
                end.reply_ok().expect("the client reads");
            },
        )?;
    }
    Ok(())
}

/// Reads a stream whose connection is lost to its end; false if it has none.
pub(crate) fn iterate_after_loss(mut each: impl FnMut(Option<Error>)) -> bool {
    let linked = Linked::new();
    let mut stream = linked
        .answered(
            |client| client.subscribe("t", ""),
            |end| {
                end.expect("subscribe", SOON).expect("a subscribe");
                end.reply_ok().expect("the client reads");
                end.close();
            },
        )
        .expect("the server consents");
    loop {
        match stream.next_timeout(SOON) {
            None => return true,
            Some(Err(error)) if error.kind() == ErrorKind::TimedOut => return false,
            Some(outcome) => each(outcome.err()),
        }
    }
}

/// An authenticator that has nothing to say.
struct Raises;

impl Authenticator for Raises {
    fn authenticate(&self, _user: &str, _password: &str) -> Result<String> {
        Err(Error::new(ErrorKind::Authentication, "no ticket"))
    }

    fn retry(&self, user: &str, password: &str) -> Result<String> {
        self.authenticate(user, password)
    }

    fn completed(&self, _user: &str, _password: &str, _reason: &str) -> Result<()> {
        Ok(())
    }
}
