//! Publish stores of every kind, and what they hold.

use amps_client::{AckType, CommandType, MemoryPublishStore, PublishStore, Selector, StoreEntry};

use super::TempDir;

/// A kind of publish store.
pub(crate) trait Kind {
    fn name(&self) -> &'static str;

    /// A store in this directory that asks before it grows beyond some thousand bytes.
    fn open(&self, dir: &TempDir) -> Box<dyn PublishStore>;
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
