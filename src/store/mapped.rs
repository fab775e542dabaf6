//! A stretch of a store file in memory: the one place with `unsafe`.

#![allow(unsafe_code)]

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapMut, MmapOptions};

/// A file that this process has to itself, as far as others respect locks.
#[derive(Debug)]
pub(crate) struct LockedFile(File);

impl LockedFile {
    /// Takes the lock of the file, which goes with the last handle on it. Never waits.
    pub(crate) fn lock(file: File) -> Result<LockedFile, TryLockError> {
        file.try_lock()?;
        Ok(LockedFile(file))
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // A child process that is just being started shares the open file for a moment, and would hold the lock.
        let _ = self.0.unlock();
    }
}

/// A stretch of a file, mapped for reading and writing. What is written is in the file at once for whoever reads it, also
/// if this process is killed, and on the device after a [flush](Mapped::flush).
#[derive(Debug)]
pub(crate) struct Mapped {
    map: MmapMut,
    _file: Arc<LockedFile>,
}

impl Mapped {
    /// Maps a stretch that the file has.
    pub(crate) fn new(file: &Arc<LockedFile>, offset: u64, length: usize) -> io::Result<Mapped> {
        if file.file().metadata()?.len() < offset + length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: nothing changes the bytes behind our back as long as the file is not written to by others. Its lock is
        // held, and stays so while the map exists, so no other store does; that no other program does is a condition for
        // the use of a store file, which its documentation states. This crate shortens the file only when nothing of the
        // cut-off part is mapped.
        let map = unsafe { MmapOptions::new().offset(offset).len(length).map_mut(file.file())? };
        Ok(Mapped { map, _file: file.clone() })
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// A part of it, to be written to; empty if there is no such part.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.map.get_mut(range).unwrap_or_default()
    }

    /// Copies bytes to a place; a place outside gets none.
    #[inline]
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.map.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Writes a word at a multiple of eight, as one, and after everything that was written before.
    #[inline]
    pub(crate) fn commit(&mut self, at: usize, word: u64) {
        let Some(place) = self.map.get_mut(at..at + 8) else { return };
        let place = place.as_mut_ptr().cast::<u64>();
        debug_assert!(place.is_aligned());
        if place.is_aligned() {
            // SAFETY: the pointer is aligned and points to eight bytes of the map, which are borrowed for us alone.
            let place = unsafe { AtomicU64::from_ptr(place) };
            place.store(word.to_le(), Ordering::Release);
        }
    }

    /// Waits until this range is on the device.
    pub(crate) fn flush(&self, range: Range<usize>) -> io::Result<()> {
        self.map.flush_range(range.start, range.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use super::*;

    fn file(content: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("amps-mapped-{}-{}", std::process::id(), content.len()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn what_is_written_is_in_the_file() {
        let file = Arc::new(LockedFile::lock(file(&[b'.'; 8192])).unwrap());
        let mut mapped = Mapped::new(&file, 4096, 4096).unwrap();
        mapped.write(3, b"abc");
        mapped.commit(8, u64::from_le_bytes(*b"12345678"));
        mapped.write(4094, b"abc");
        mapped.commit(4096, 0);
        mapped.flush(0..16).unwrap();
        let mut again = [0; 18];
        file.file().seek(SeekFrom::Start(4096)).unwrap();
        file.file().read_exact(&mut again).unwrap();
        assert_eq!(&again, b"...abc..12345678..");
        assert!(mapped.bytes()[4090..].iter().all(|byte| *byte == b'.'));
    }

    #[test]
    fn what_the_file_does_not_have_is_not_mapped() {
        let file = Arc::new(LockedFile::lock(file(&[b'.'; 5000])).unwrap());
        assert!(Mapped::new(&file, 4096, 904).is_ok());
        assert_eq!(Mapped::new(&file, 4096, 905).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
