//! The file of a ring bookmark store, mapped into memory.
//!
//! ```text
//!  ┌──────┬─ block 0 ────────────────────┬─ block 1 ────────────────────┬─
//!  │ head │ marks │ entry 0 ... entry 31 │ marks │ entry 32 ... entry 63│
//!  └──────┴──────────────────────────────┴──────────────────────────────┴─
//!   1 KiB  1 KiB   32 KiB
//! ```

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::super::super::disk::{self, fill, make_solid, refusal};
use super::super::super::mapped::{LockedFile, Mapped};
use super::mark::{ENTRY, MARKS, MAX_ID, MAX_POINT, Mark, Owner, POSITIONS};
use crate::error::{Error, HandlerError, Result};

const MAGIC: &[u8; 8] = b"AMPSbmkR";
const VERSION: u32 = 1;
const HEAD: usize = 1024;
/// Where in the head the number of blocks is, with a proof of it.
const BLOCKS_AT: usize = 64;
/// Entries of a block.
const BLOCK_ENTRIES: usize = ENTRY / MARKS;
const BLOCK: usize = ENTRY + BLOCK_ENTRIES * ENTRY;

/// An open ring file.
#[derive(Debug)]
pub(super) struct RingFile {
    path: PathBuf,
    file: Arc<LockedFile>,
    map: Mapped,
    salt: u64,
    blocks: usize,
}

/// What an entry says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// The latest recovery point; `None` if none was written yet.
    pub(super) point: Option<String>,
}

impl RingFile {
    /// Opens a ring file, or makes one. A file that is anything else is left as it is.
    pub(super) fn open(path: &Path) -> Result<RingFile> {
        let failed = |error| failure("open", path, error);
        let file = disk::open(path, STORE)?;
        if is_unmade(file.file()).map_err(failed)? {
            make(file.file()).map_err(|error| failure("make", path, error))?;
        }
        let length = file.file().metadata().map_err(failed)?.len();
        let mut head = Vec::with_capacity(HEAD);
        file.file().seek(SeekFrom::Start(0)).map_err(failed)?;
        file.file().take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        let (salt, blocks) = read_head(&head).map_err(|text| refusal(path, text))?;
        if length < size(blocks) {
            return Err(refusal(path, "is a ring bookmark store that is cut off"));
        }
        make_solid(file.file(), length).map_err(|error| failure("allocate", path, error))?;
        let file = Arc::new(file);
        let map = map(&file, blocks).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        Ok(RingFile { path, file, map, salt, blocks })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How many entries there are, the free ones included.
    pub(super) fn entries(&self) -> usize {
        self.blocks * BLOCK_ENTRIES
    }

    /// What an entry says; `None` if it is free.
    pub(super) fn read(&self, entry: usize) -> Result<Option<Entry>> {
        let id = self.id_mark(entry);
        if id == 0 {
            return Ok(None);
        }
        let damaged = || refusal(&self.path, &format!("is damaged: entry {entry} cannot be read"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| damaged());
        let room = self.bytes(entry_at(entry), MAX_ID);
        let mark = Mark::read(id, room, self.owner(entry, 0)).ok_or_else(damaged)?;
        let id = text(room.get(..mark.length).unwrap_or_default())?;
        let point = match self.latest(entry) {
            Some((position, mark)) => Some(text(self.bytes(point_at(entry, position), mark.length))?),
            None if (0..POSITIONS).all(|position| self.word(mark_at(entry, position)) == 0) => None,
            None => return Err(damaged()),
        };
        Ok(Some(Entry { id, point }))
    }

    /// Gives a free entry to a subscription, whose id is at most 244 bytes long.
    pub(super) fn take(&mut self, entry: usize, id: &str) {
        for position in 0..POSITIONS {
            self.map.commit(mark_at(entry, position), 0);
        }
        self.map.write(entry_at(entry), id.as_bytes());
        let mark = Mark::of(id.as_bytes(), 0, self.owner(entry, 0));
        self.map.commit(id_mark_at(entry), mark);
    }

    /// Makes an entry free.
    pub(super) fn free(&mut self, entry: usize) {
        self.map.commit(id_mark_at(entry), 0);
    }

    /// Writes a recovery point, at most 260 bytes long, to the position whose turn it is.
    pub(super) fn write(&mut self, entry: usize, point: &str) {
        let (position, generation) = match self.latest(entry) {
            Some((position, mark))
                if self.bytes(point_at(entry, position), mark.length) == point.as_bytes() =>
            {
                return;
            }
            Some((position, mark)) => ((position + 1) % POSITIONS, mark.next_generation()),
            None => (0, 0),
        };
        let mark = Mark::of(point.as_bytes(), generation, self.owner(entry, self.id_mark(entry)));
        self.map.write(point_at(entry, position), point.as_bytes());
        self.map.commit(mark_at(entry, position), mark);
    }

    /// Makes as many entries again as there are, all free. If that fails, the file is as before.
    pub(super) fn grow(&mut self) -> Result<()> {
        let (before, blocks) = (size(self.blocks), self.blocks * 2);
        let more = || {
            fill(self.file.file(), before..size(blocks))?;
            map(&self.file, blocks)
        };
        self.map = more().map_err(|error| {
            // What was added is not mapped. The next opening ignores it.
            let _ = self.file.file().set_len(before);
            failure("extend", &self.path, error)
        })?;
        self.blocks = blocks;
        self.map.commit(BLOCKS_AT, blocks_word(blocks, self.salt));
        Ok(())
    }

    /// Waits until everything is on the device.
    pub(super) fn sync(&self) -> Result<()> {
        let flushed = self.map.flush(0..self.map.bytes().len()).and_then(|()| self.file.file().sync_all());
        flushed.map_err(|error| failure("sync", &self.path, error))
    }

    /// The position that counts, and its mark.
    fn latest(&self, entry: usize) -> Option<(usize, Mark)> {
        let owner = self.owner(entry, self.id_mark(entry));
        let read = |position| {
            let room = self.bytes(point_at(entry, position), MAX_POINT);
            Some((position, Mark::read(self.word(mark_at(entry, position)), room, owner)?))
        };
        let later = |one: (usize, Mark), other: (usize, Mark)| {
            if other.1.is_later_than(one.1) { other } else { one }
        };
        (0..POSITIONS).filter_map(read).reduce(later)
    }

    fn owner(&self, entry: usize, id: u64) -> Owner {
        Owner { salt: self.salt, entry, id }
    }

    fn id_mark(&self, entry: usize) -> u64 {
        self.word(id_mark_at(entry))
    }

    fn word(&self, at: usize) -> u64 {
        let bytes = self.map.bytes().get(at..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        self.map.bytes().get(at..at + length).unwrap_or_default()
    }
}

/// What the file is called in error texts.
const STORE: &str = "bookmark store";

/// Bytes of a file with so many blocks.
fn size(blocks: usize) -> u64 {
    HEAD as u64 + blocks as u64 * BLOCK as u64
}

fn map(file: &Arc<LockedFile>, blocks: usize) -> io::Result<Mapped> {
    let length = usize::try_from(size(blocks)).map_err(|_| io::ErrorKind::FileTooLarge)?;
    Mapped::new(file, 0, length)
}

fn block_at(entry: usize) -> usize {
    HEAD + entry / BLOCK_ENTRIES * BLOCK
}

fn entry_at(entry: usize) -> usize {
    block_at(entry) + ENTRY + entry % BLOCK_ENTRIES * ENTRY
}

fn point_at(entry: usize, position: usize) -> usize {
    entry_at(entry) + MAX_ID + position * MAX_POINT
}

fn id_mark_at(entry: usize) -> usize {
    block_at(entry) + entry % BLOCK_ENTRIES * MARKS
}

fn mark_at(entry: usize, position: usize) -> usize {
    id_mark_at(entry) + 8 * (position + 1)
}

/// Whether there is nothing in the file: it is new, or the process that was making it died.
fn is_unmade(mut file: &File) -> io::Result<bool> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(size(1) + 1).read_to_end(&mut bytes)?;
    Ok(bytes.len() as u64 <= size(1) && bytes.iter().all(|byte| *byte == 0))
}

/// Makes an empty file a ring with one block. It is one when the head is written, which is last.
fn make(mut file: &File) -> io::Result<()> {
    fill(file, 0..size(1))?;
    let salt = RandomState::new().hash_one((SystemTime::now(), std::process::id()));
    let head = [&MAGIC[..], &VERSION.to_le_bytes(), &[0; 4], &salt.to_le_bytes()].concat();
    let sum = crc32fast::hash(&head);
    let mut bytes = [&head[..], &sum.to_le_bytes()].concat();
    bytes.resize(BLOCKS_AT, 0);
    bytes.extend_from_slice(&blocks_word(1, salt).to_le_bytes());
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&bytes)
}

/// Reads the salt and the number of blocks from the start of a file, or says why it is no ring.
fn read_head(start: &[u8]) -> Result<(u64, usize), &'static str> {
    let Some(rest) = start.strip_prefix(MAGIC) else { return Err("is not a ring bookmark store") };
    if start.len() < HEAD {
        return Err("is a ring bookmark store that is cut off");
    }
    let damaged = "is a ring bookmark store whose head is damaged";
    let (version, _) = rest.split_first_chunk().ok_or(damaged)?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err("is a ring bookmark store of a format that this library does not read");
    }
    let (content, rest) = start.split_at_checked(24).ok_or(damaged)?;
    let salt = content.last_chunk().map(|salt| u64::from_le_bytes(*salt)).ok_or(damaged)?;
    let sum = rest.first_chunk().map(|sum| u32::from_le_bytes(*sum));
    let word = start.get(BLOCKS_AT..).and_then(<[u8]>::first_chunk).map(|word| u64::from_le_bytes(*word));
    let blocks = word.map_or(0, |word| word & u64::from(u32::MAX)) as usize;
    let proven = sum == Some(crc32fast::hash(content)) && word == Some(blocks_word(blocks, salt));
    (proven && blocks > 0).then_some((salt, blocks)).ok_or(damaged)
}

/// The number of blocks, with its proof.
fn blocks_word(blocks: usize, salt: u64) -> u64 {
    let blocks = blocks as u64;
    let sum = crc32fast::hash(&[blocks.to_le_bytes(), salt.to_le_bytes()].concat());
    blocks | u64::from(sum) << 32
}

pub(super) fn failure(what: &str, path: &Path, error: impl Into<HandlerError>) -> Error {
    disk::failure(what, STORE, path, error)
}
