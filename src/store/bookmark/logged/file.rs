//! The file of a logged bookmark store: a head, records, and room for more, of which the end is mapped into memory.
//!
//! ```text
//!  ┌──────┬─────────────────────────────┬────────────┐
//!  │ head │ records                     │ zeros      │
//!  └──────┴─────────────────────────────┴────────────┘
//!                            └─ window ──────────────┘
//!                                       ▲ end
//! ```
//!
//! What is in the window is in the file for whoever reads it, also if this process is killed. Room is made by writing
//! zeros, so that it has blocks on the device: a full device makes growing fail, and not a later write through the map.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::super::super::disk::{self, fill, refusal};
use super::super::super::mapped::{LockedFile, Mapped};
use super::record::{self, HEADER, Kind, MAX_CONTENT, Salt};
use crate::error::{Error, ErrorKind, HandlerError, Result};

/// What the file is called in error texts.
const STORE: &str = "bookmark store";
/// Bytes before the first record.
pub(super) const HEAD: usize = 64;
const MAGIC: &[u8; 8] = b"AMPSbmkL";
const VERSION: u32 = 1;
/// A window begins at a multiple of this.
const PAGE: u64 = 4096;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Arc<LockedFile>,
    salt: Salt,
    /// `None` while the file is being closed.
    window: Option<Mapped>,
    /// Where in the file the window begins.
    base: u64,
    /// Where the next record goes.
    end: u64,
    /// Bytes of the file.
    size: u64,
    /// The file grows by so many bytes.
    step: u64,
    record: Vec<u8>,
}

impl Log {
    /// The log of a file whose records end at `end`; what is behind them is cut off. The file grows by `step` bytes.
    pub(super) fn open(path: &Path, file: Arc<LockedFile>, salt: Salt, end: u64, step: u64) -> Result<Log> {
        let failed = |error| failure("open", path, error);
        file.file().set_len(end).map_err(failed)?;
        let (window, base, size) = room(path, &file, end, end, step)?;
        // A new file goes where the old one is, not where a link to it is.
        let path = fs::canonicalize(path).map_err(failed)?;
        Ok(Log { path, file, salt, window: Some(window), base, end, size, step, record: Vec::new() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the head and the records.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds a record, such that it is there as a whole or not at all whenever the process dies. `write` adds the content to
    /// what is in the buffer, and tells the kind.
    #[inline]
    pub(super) fn append(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>) -> Kind) -> Result<()> {
        let commit = encode(&mut self.record, number, self.salt, self.end, write)?;
        let next = self.end + self.record.len() as u64;
        if next > self.size {
            self.grow(next - self.size)?;
        }
        let at = (self.end - self.base) as usize;
        if let Some(window) = &mut self.window {
            window.write(at + 8, self.record.get(8..).unwrap_or_default());
            window.commit(at, commit);
        }
        self.end = next;
        Ok(())
    }

    /// Makes room for at least so many more bytes. If that fails, the file is as before.
    #[cold]
    fn grow(&mut self, missing: u64) -> Result<()> {
        let grown = room(&self.path, &self.file, self.end, self.size, missing.max(self.step));
        let (window, base, size) = grown.inspect_err(|_| {
            // What was added is not mapped. If it cannot be given back either, the next opening finds it.
            let _ = self.file.file().set_len(self.size);
        })?;
        (self.window, self.base, self.size) = (Some(window), base, size);
        Ok(())
    }

    /// Puts a file with other records in the place of this one. Whenever the process dies, one of the two is there, complete;
    /// if this fails, the old one stays in use.
    pub(super) fn replace(&mut self, records: &Records) -> Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push(".tmp");
        let path = PathBuf::from(path);
        let failed = |error| failure("prune", &self.path, error);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = disk::lock(file.map_err(failed)?, &path, STORE)?;
        file.file().set_len(0).map_err(failed)?;
        file.file().write_all(&records.bytes).map_err(failed)?;
        let (file, end) = (Arc::new(file), records.bytes.len() as u64);
        let (window, base, size) = room(&path, &file, end, end, self.step)?;
        file.file().sync_all().map_err(failed)?;
        fs::rename(&path, &self.path).map_err(failed)?;
        // From here on the new file is the store, whatever happens.
        self.window = Some(window);
        (self.file, self.salt, self.base, self.end, self.size) = (file, records.salt, base, end, size);
        if let Err(error) = sync_directory(&self.path) {
            let path = self.path.display();
            log::warn!(target: "amps::store", "that {path} was pruned may be undone by a loss of power: {error}");
        }
        Ok(())
    }

    /// Waits until every record is on the device.
    pub(super) fn sync(&self) -> Result<()> {
        let window = self.window.as_ref().map_or(Ok(()), |window| window.flush(0..window.bytes().len()));
        window.and_then(|()| self.file.file().sync_all()).map_err(|error| failure("sync", &self.path, error))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // Only what is not mapped may be cut off. The next opening does it if this cannot.
        self.window = None;
        let _ = self.file.file().set_len(self.end);
    }
}

/// A head and records that are not in a file yet.
#[derive(Debug)]
pub(super) struct Records {
    salt: Salt,
    bytes: Vec<u8>,
    record: Vec<u8>,
}

impl Records {
    pub(super) fn new() -> Records {
        let salt = Salt(RandomState::new().hash_one((SystemTime::now(), std::process::id())));
        Records { salt, bytes: head(salt).to_vec(), record: Vec::new() }
    }

    /// Adds a record, as [`Log::append`] does.
    pub(super) fn append(&mut self, number: u32, write: impl FnOnce(&mut Vec<u8>) -> Kind) -> Result<()> {
        let commit = encode(&mut self.record, number, self.salt, self.bytes.len() as u64, write)?;
        self.bytes.extend_from_slice(&commit.to_le_bytes());
        self.bytes.extend_from_slice(self.record.get(8..).unwrap_or_default());
        Ok(())
    }
}

/// Opens the file of a log, or makes one without records, and tells its salt. A file that is anything else is left as it is.
pub(super) fn open_file(path: &Path) -> Result<(Arc<LockedFile>, Salt)> {
    let file = disk::open(path, STORE)?;
    let failed = |error| failure("open", path, error);
    if !is_at(file.file(), path).map_err(failed)? {
        // It was replaced between being opened and being locked, by who uses the new one.
        return Err(refusal(path, "is in use"));
    }
    if file.file().metadata().map_err(failed)?.len() == 0 {
        file.file().write_all(&Records::new().bytes).map_err(|error| failure("make", path, error))?;
    }
    let mut start = Vec::with_capacity(HEAD);
    file.file().seek(SeekFrom::Start(0)).map_err(failed)?;
    file.file().take(HEAD as u64).read_to_end(&mut start).map_err(failed)?;
    let salt = read_head(&start).map_err(|text| refusal(path, text))?;
    Ok((Arc::new(file), salt))
}

/// Completes a record in the buffer, all but its commit word, which is returned.
#[inline]
fn encode(
    record: &mut Vec<u8>,
    number: u32,
    salt: Salt,
    position: u64,
    write: impl FnOnce(&mut Vec<u8>) -> Kind,
) -> Result<u64> {
    record::begin(record);
    let kind = write(record);
    if record.len() > HEADER + MAX_CONTENT {
        let text = format!("a record of {} bytes is too large for a bookmark store", record.len());
        return Err(Error::new(ErrorKind::Store, text));
    }
    Ok(record::seal(record, kind, number, salt, position))
}

/// Makes room behind the first `size` bytes of a file, and maps it together with the page in which the records end. Returns
/// the window, where it begins, and the new size.
fn room(path: &Path, file: &Arc<LockedFile>, end: u64, size: u64, more: u64) -> Result<(Mapped, u64, u64)> {
    let failed = |error| failure("extend", path, error);
    let new_size = size.saturating_add(more.max(1)).min(i64::MAX as u64 - PAGE).next_multiple_of(PAGE);
    fill(file.file(), size..new_size).map_err(failed)?;
    let base = end - end % PAGE;
    let window = Mapped::new(file, base, (new_size - base) as usize).map_err(failed)?;
    Ok((window, base, new_size))
}

/// The first bytes of a file: what it is, the version of its format, its salt, and a checksum at the end.
fn head(salt: Salt) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (content, sum) = head.split_at_mut(HEAD - 4);
    let fields = [&MAGIC[..], &VERSION.to_le_bytes(), &salt.0.to_le_bytes()].concat();
    content.iter_mut().zip(fields).for_each(|(place, byte)| *place = byte);
    sum.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    head
}

/// Reads the salt from the first bytes of a file, or says why they are no head.
fn read_head(start: &[u8]) -> Result<Salt, &'static str> {
    let Some(rest) = start.strip_prefix(MAGIC) else { return Err("is not a logged bookmark store") };
    let Some((content, sum)) = start.split_last_chunk().filter(|_| start.len() == HEAD) else {
        return Err("is a bookmark store that is cut off in its head");
    };
    let (version, rest) = rest.split_at_checked(4).unwrap_or_default();
    if version != VERSION.to_le_bytes() {
        return Err("is a bookmark store of a format that this library does not read");
    }
    match rest.first_chunk() {
        Some(salt) if u32::from_le_bytes(*sum) == crc32fast::hash(content) => {
            Ok(Salt(u64::from_le_bytes(*salt)))
        }
        _ => Err("is a bookmark store whose head is damaged"),
    }
}

/// Whether the file with this path is this one.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (this, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((this.dev(), this.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

/// Makes sure that a new name of a file is on the device.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

pub(super) fn failure(what: &str, path: &Path, error: impl Into<HandlerError>) -> Error {
    disk::failure(what, STORE, path, error)
}
