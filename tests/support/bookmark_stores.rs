//! Bookmark stores of every kind, the messages that go into them, and a short way to write down what happens.

use std::path::{Path, PathBuf};

use amps_client::testing::Frame;
use amps_client::{
    Bookmark, BookmarkStore, LoggedBookmarkStore, LoggedBookmarkStoreOptions, MemoryBookmarkStore, Message,
    Receipt, Result, RingBookmarkStore,
};

use super::TempDir;

/// The subscription of all steps.
pub(crate) const SUB: &str = "orders-1";

/// A kind of bookmark store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Logged,
    Ring,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Memory, Kind::Logged, Kind::Ring];

    /// The store in this directory. One that is durable is the same if it is opened again.
    pub(crate) fn open(self, dir: &TempDir) -> Box<dyn BookmarkStore> {
        self.try_open(&self.path(dir)).unwrap()
    }

    /// The store in this file.
    pub(crate) fn try_open(self, path: &Path) -> Result<Box<dyn BookmarkStore>> {
        Ok(match self {
            Kind::Memory => Box::new(MemoryBookmarkStore::new()),
            Kind::Logged => Box::new(small_log().open(path)?),
            Kind::Ring => Box::new(RingBookmarkStore::open(path)?),
        })
    }

    /// The file of a durable store in this directory.
    pub(crate) fn path(self, dir: &TempDir) -> PathBuf {
        dir.join(if self == Kind::Ring { "test.ring" } else { "test.log" })
    }

    pub(crate) fn is_durable(self) -> bool {
        self != Kind::Memory
    }
}

/// Options for a log that grows, and prunes itself, often.
pub(crate) fn small_log() -> LoggedBookmarkStoreOptions {
    LoggedBookmarkStore::options().growth(4096).prune_at(10_000)
}

/// A message of a subscription.
pub(crate) fn message(sub_id: &str, bookmark: &str) -> Message {
    let header = format!(r#"{{"c":"p","t":"orders","sub_id":"{sub_id}","bm":"{bookmark}"}}"#);
    Frame::parse(header.as_bytes()).unwrap().message().clone()
}

/// A store and what is done with it.
pub(crate) struct Run<'a> {
    pub(crate) kind: Kind,
    pub(crate) dir: &'a TempDir,
    pub(crate) store: Box<dyn BookmarkStore>,
    /// Whether each message that was received since the last other step was new.
    pub(crate) news: Vec<bool>,
}

impl Run<'_> {
    pub(crate) fn new(kind: Kind, dir: &TempDir) -> Run<'_> {
        Run { kind, dir, store: kind.open(dir), news: Vec::new() }
    }

    /// Steps with blanks between: `A1` is received, `-A1` discarded, `!A1` persisted, `<...>` placed, `~` opened again, and
    /// `^` pruned. A, B and C are the publishers 1, 2 and 3.
    pub(crate) fn steps(&mut self, steps: &str) -> &mut Self {
        steps.split_whitespace().for_each(|step| self.step(step));
        self
    }

    fn step(&mut self, step: &str) {
        let store = &self.store;
        match step.split_at(1) {
            ("~", _) => self.reopen(),
            ("^", _) => store.prune().unwrap(),
            ("-", place) => store.discard(&message(SUB, &bookmark(place))).unwrap(),
            ("!", place) => store.persisted(SUB, &bookmark(place)).unwrap(),
            ("<", text) => store.placed(SUB, &text.trim_end_matches('>').parse().unwrap()).unwrap(),
            _ => {
                let news = self.receive(step);
                self.news.push(news);
                return;
            }
        }
        self.news.clear();
    }

    fn receive(&self, place: &str) -> bool {
        match self.store.receive(&message(SUB, &bookmark(place))).unwrap() {
            Receipt::New(number) => {
                assert!(number > 0, "{place}");
                true
            }
            Receipt::Duplicate => false,
        }
    }

    fn reopen(&mut self) {
        self.store = Box::new(MemoryBookmarkStore::new());
        self.store = self.kind.open(self.dir);
    }

    pub(crate) fn most_recent(&self) -> String {
        self.store.most_recent(SUB).unwrap().into()
    }
}

/// `1|5|` for `A5`.
pub(crate) fn bookmark(place: &str) -> String {
    let (publisher, sequence) = place.split_at(1);
    let publisher = u64::from(publisher.as_bytes()[0] - b'A') + 1;
    Bookmark::at(publisher, sequence.parse().unwrap()).into()
}
