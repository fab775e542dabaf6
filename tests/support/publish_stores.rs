//! Publish stores of every kind, and what they hold.

use amps_client::{
    AckType, CommandType, FilePublishStore, FilePublishStoreOptions, HybridPublishStore, MemoryPublishStore,
    PublishStore, Selector, StoreEntry,
};

use super::TempDir;

/// The size of the segments of store files in tests, which are to be used up often.
pub(crate) const SEGMENT: u32 = 4096;

/// A kind of publish store.
pub(crate) trait Kind {
    fn name(&self) -> &'static str;

    /// A store in this directory that asks before it grows beyond some thousand bytes. One that is durable is the same if
    /// it is opened again.
    fn open(&self, dir: &TempDir) -> Box<dyn PublishStore>;

    fn is_durable(&self) -> bool {
        false
    }
}

pub(crate) struct Memory;

impl Kind for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self, _dir: &TempDir) -> Box<dyn PublishStore> {
        Box::new(MemoryPublishStore::with_capacity(4096))
    }
}

pub(crate) struct File;

impl Kind for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn open(&self, dir: &TempDir) -> Box<dyn PublishStore> {
        Box::new(open_file(dir))
    }

    fn is_durable(&self) -> bool {
        true
    }
}

pub(crate) struct Hybrid;

impl Kind for Hybrid {
    fn name(&self) -> &'static str {
        "hybrid"
    }

    fn open(&self, dir: &TempDir) -> Box<dyn PublishStore> {
        Box::new(HybridPublishStore::with_file(open_file(dir), 8).low_watermark(3))
    }
}

fn open_file(dir: &TempDir) -> FilePublishStore {
    small_file().open(dir.join("test.store")).unwrap()
}

/// Options for a file with small segments that grows by one at a time.
pub(crate) fn small_file() -> FilePublishStoreOptions {
    FilePublishStore::options().segment_size(SEGMENT).growth(u64::from(SEGMENT))
}

/// An entry that owns what it is made of, for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) command: CommandType,
    pub(crate) topic: String,
    pub(crate) selector: OwnedSelector,
    pub(crate) texts: [String; 6],
    pub(crate) expiration: u64,
    pub(crate) acks: AckType,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OwnedSelector {
    Data(Vec<u8>),
    Filter(String),
    SowKeys(String),
    Bookmark(String),
}

impl Owned {
    pub(crate) fn of(entry: &StoreEntry<'_>) -> Owned {
        let texts = [
            entry.command_id,
            entry.sub_id,
            entry.query_id,
            entry.correlation_id,
            entry.sow_key,
            entry.options,
        ];
        Owned {
            command: entry.command,
            topic: entry.topic.to_owned(),
            selector: match entry.selector {
                Selector::Data(data) => OwnedSelector::Data(data.to_vec()),
                Selector::Filter(text) => OwnedSelector::Filter(text.to_owned()),
                Selector::SowKeys(text) => OwnedSelector::SowKeys(text.to_owned()),
                Selector::Bookmark(text) => OwnedSelector::Bookmark(text.to_owned()),
                other => panic!("an unknown selector: {other:?}"),
            },
            texts: texts.map(str::to_owned),
            expiration: entry.expiration,
            acks: entry.acks,
        }
    }
}

/// A plain publish of this payload.
pub(crate) fn publish(data: &[u8]) -> StoreEntry<'_> {
    StoreEntry::new(CommandType::Publish, "orders", Selector::Data(data))
}

/// Everything that a replay hands out.
pub(crate) fn replayed(store: &dyn PublishStore) -> Vec<(u64, Owned)> {
    let mut all = Vec::new();
    store
        .replay(&mut |sequence, entry: &StoreEntry<'_>| {
            all.push((sequence, Owned::of(entry)));
            Ok(())
        })
        .unwrap();
    all
}

/// The one message that is asked for.
pub(crate) fn single(store: &dyn PublishStore, sequence: u64) -> Option<Owned> {
    let mut found = None;
    let kept = store
        .replay_single(
            &mut |number, entry: &StoreEntry<'_>| {
                assert_eq!(number, sequence);
                found = Some(Owned::of(entry));
                Ok(())
            },
            sequence,
        )
        .unwrap();
    assert_eq!(kept, found.is_some());
    found
}
