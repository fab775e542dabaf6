//! Files that a store has to itself, and the blocks they take on the device.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::mapped::LockedFile;
use crate::error::{Error, ErrorKind, HandlerError, Result};

/// Opens a file, or makes an empty one, and locks it. `store` is what it is called in error texts.
pub(crate) fn open(path: &Path, store: &str) -> Result<LockedFile> {
    let failed = |error| failure("open", store, path, error);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = lock(file.map_err(failed)?, path, store)?;
    match file.file().metadata().map_err(failed)?.is_file() {
        true => Ok(file),
        false => Err(refusal(path, "is not a regular file")),
    }
}

/// Locks an open file.
pub(crate) fn lock(file: File, path: &Path, store: &str) -> Result<LockedFile> {
    LockedFile::lock(file).map_err(|error| match error {
        TryLockError::WouldBlock => refusal(path, "is in use"),
        TryLockError::Error(error) => failure("lock", store, path, error),
    })
}

/// Writes zeros to a range of the file.
pub(crate) fn fill(mut file: &File, range: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    file.seek(SeekFrom::Start(range.start))?;
    let mut missing = range.end.saturating_sub(range.start);
    while missing > 0 {
        let count = missing.min(ZEROS.len() as u64);
        file.write_all(ZEROS.get(..count as usize).unwrap_or_default())?;
        missing -= count;
    }
    Ok(())
}

/// Gives every part of the file blocks on the device, should it have holes, as copies may.
pub(crate) fn make_solid(mut file: &File, length: u64) -> io::Result<()> {
    if !has_holes(file)? {
        return Ok(());
    }
    let mut buffer = vec![0; 64 << 10];
    let mut at = 0;
    while at < length {
        file.seek(SeekFrom::Start(at))?;
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(unix)]
fn has_holes(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata()?;
    Ok(metadata.blocks() * 512 < metadata.len())
}

#[cfg(not(unix))]
fn has_holes(_file: &File) -> io::Result<bool> {
    Ok(false)
}

/// The file is not what it should be.
pub(crate) fn refusal(path: &Path, text: &str) -> Error {
    Error::new(ErrorKind::Store, format!("{} {text}", path.display()))
}

/// The system refuses to do something.
pub(crate) fn failure(what: &str, store: &str, path: &Path, error: impl Into<HandlerError>) -> Error {
    Error::new(ErrorKind::Store, format!("cannot {what} the {store} {}", path.display())).with_source(error)
}
