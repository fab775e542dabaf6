//! A directory that lasts as long as a server runs.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

/// A fresh directory among the temporary files of the system, removed at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct TempDir {
    path: PathBuf,
}

impl TempDir {
    pub(crate) fn new(prefix: &str) -> io::Result<TempDir> {
        loop {
            let number = RandomState::new().hash_one(std::process::id());
            let dir = TempDir { path: std::env::temp_dir().join(format!("{prefix}-{number:016x}")) };
            match dir.create_new() {
                Ok(()) => return Ok(dir),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => std::mem::forget(dir),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it again after [`remove`](TempDir::remove).
    pub(crate) fn create(&self) -> io::Result<()> {
        if self.path.is_dir() { Ok(()) } else { self.create_new() }
    }

    pub(crate) fn remove(&self) {
        // Whatever is left behind is left to the system.
        let _ = std::fs::remove_dir_all(&self.path);
    }

    fn create_new(&self) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_fresh_and_goes_with_its_owner() {
        let (one, two) = (TempDir::new("amps-test").unwrap(), TempDir::new("amps-test").unwrap());
        assert_ne!(one.path(), two.path());
        let path = one.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        one.remove();
        assert!(!path.exists());
        one.create().unwrap();
        one.create().unwrap();
        assert!(path.is_dir());
        drop(one);
        assert!(!path.exists());
    }
}
