//! A store file: its first page, and its segments, mapped into memory.
//!
//! ```text
//!  ┌──────┬───────────┬───────────┬───────────┬─────
//!  │ page │ segment 0 │ segment 1 │ segment 2 │ ...
//!  └──────┴───────────┴───────────┴───────────┴─────
//! ```
//!
//! Everything that is mapped is written first, so that it has blocks on the device: a full device makes growing fail, and
//! not a later write through the map.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{Error, HandlerError, Result};
use crate::store::content::Content;
use crate::store::disk::{self, fill, make_solid};
use crate::store::header::{Identity, MAX_NAME, PAGE, Progress};
use crate::store::layout::{self, Header, RECORD_HEADER};
use crate::store::mapped::{LockedFile, Mapped};
use crate::store::sequence::History;
use crate::store::sum;

pub(crate) use crate::store::disk::refusal;

/// What the file is called in error texts.
const STORE: &str = "publish store";

/// An open store file.
#[derive(Debug)]
pub(crate) struct Volume {
    path: PathBuf,
    identity: Identity,
    progress: Progress,
    page: Mapped,
    regions: Vec<Region>,
    file: Arc<LockedFile>,
}

/// Segments that were mapped together.
#[derive(Debug)]
struct Region {
    first: u32,
    map: Mapped,
}

/// Where a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    region: usize,
    base: usize,
}

/// What was found when a file was opened.
#[derive(Debug)]
pub(crate) struct Found {
    /// `None` if it cannot be read.
    pub(crate) progress: Option<Progress>,
    /// Bytes of the file.
    pub(crate) length: u64,
    /// So many bytes are missing behind those.
    pub(crate) cut_off: u64,
}

impl Volume {
    /// Opens a file, or makes it, with segments of this size, if it does not exist or is empty. A file that is anything else
    /// is left as it is.
    pub(crate) fn open(path: &Path, segment_size: u32) -> Result<(Volume, Found)> {
        let failed = |error| failure("open", path, error);
        let file = disk::open(path, STORE)?;
        let metadata = file.file().metadata().map_err(failed)?;
        if metadata.len() == 0 {
            make(file.file(), segment_size).map_err(|error| failure("make", path, error))?;
        }
        let length = metadata.len().max(PAGE as u64);
        let mut start = Vec::with_capacity(PAGE);
        file.file().seek(SeekFrom::Start(0)).map_err(failed)?;
        file.file().take(PAGE as u64).read_to_end(&mut start).map_err(failed)?;
        let identity = Identity::read(&start).map_err(|error| refusal(path, &error.to_string()))?;
        let progress = Progress::read(&start, identity.salt);
        Volume::map(path, Arc::new(file), identity, progress, length)
    }

    fn map(
        path: &Path,
        file: Arc<LockedFile>,
        identity: Identity,
        progress: Option<Progress>,
        length: u64,
    ) -> Result<(Volume, Found)> {
        let failed = |error| failure("map", path, error);
        let size = u64::from(identity.segment_size);
        let content = length - PAGE as u64;
        let segments = u32::try_from(content.div_ceil(size)).map_err(|_| refusal(path, "is too large"))?;
        let whole = PAGE as u64 + u64::from(segments) * size;
        make_solid(file.file(), length).map_err(|error| failure("allocate", path, error))?;
        // The last segment may be incomplete if the process died while the file grew.
        fill(file.file(), length..whole).map_err(|error| failure("extend", path, error))?;
        let page = Mapped::new(&file, 0, PAGE).map_err(failed)?;
        let expected = PAGE as u64 + progress.map_or(0, |progress| u64::from(progress.segments)) * size;
        let found = Found { progress, length, cut_off: expected.saturating_sub(length) };
        let progress = Progress { segments: 0, ..progress.unwrap_or_default() };
        let mut volume =
            Volume { path: path.to_owned(), identity, progress, page, regions: Vec::new(), file };
        volume.map_segments(segments).map_err(failed)?;
        volume.write_identity();
        Ok((volume, found))
    }

    /// Writes both copies of the identity, unless they are there.
    fn write_identity(&mut self) {
        let (bytes, places) = self.identity.encode();
        for at in places {
            if self.page.bytes().get(at..at + bytes.len()) != Some(&bytes[..]) {
                self.page.write(at, &bytes);
            }
        }
    }

    /// Maps the segments behind those that are mapped.
    fn map_segments(&mut self, count: u32) -> io::Result<()> {
        if count > 0 {
            let length = count as usize * self.segment_size();
            let map = Mapped::new(&self.file, self.size(), length)?;
            self.regions.push(Region { first: self.progress.segments, map });
            self.progress.segments += count;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &Arc<LockedFile> {
        &self.file
    }

    pub(crate) fn salt(&self) -> u64 {
        self.identity.salt
    }

    #[inline]
    pub(crate) fn segment_size(&self) -> usize {
        self.identity.segment_size as usize
    }

    pub(crate) fn segments(&self) -> u32 {
        self.progress.segments
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> u64 {
        PAGE as u64 + u64::from(self.progress.segments) * u64::from(self.identity.segment_size)
    }

    /// The place of the segment with this number.
    pub(crate) fn place(&self, segment: u32) -> Option<Place> {
        let region = self.regions.partition_point(|region| region.first <= segment).checked_sub(1)?;
        let base = (segment - self.regions.get(region)?.first) as usize * self.segment_size();
        (segment < self.segments()).then_some(Place { segment, region, base })
    }

    /// The bytes of a segment.
    pub(crate) fn bytes(&self, place: Place) -> &[u8] {
        let region = self.regions.get(place.region).map_or(&[][..], |region| region.map.bytes());
        region.get(place.base..place.base + self.segment_size()).unwrap_or_default()
    }

    /// Where in the file a byte of a segment is.
    pub(crate) fn position(&self, place: Place, at: usize) -> u64 {
        (PAGE + at) as u64 + u64::from(place.segment) * u64::from(self.identity.segment_size)
    }

    /// Writes a record that fits, such that it is there as a whole or not at all whenever the process dies: its commit word
    /// comes last, and there never is one behind the last record.
    #[inline]
    pub(crate) fn write(&mut self, place: Place, at: usize, header: &Header, content: &Content<'_>) {
        let size = self.segment_size();
        let Some(Region { map, .. }) = self.regions.get_mut(place.region) else { return };
        let next = at + header.size();
        let record = map.bytes_mut(place.base + at..place.base + next);
        layout::begin(record);
        content.write(record.get_mut(layout::content_in(header)).unwrap_or_default());
        let commit = layout::seal(record, header, sum::of(content), self.identity.salt);
        if next + RECORD_HEADER <= size {
            map.commit(place.base + next, 0);
        }
        map.commit(place.base + at, commit);
    }

    /// Takes back the record that begins here, and what is behind it.
    pub(crate) fn erase(&mut self, place: Place, at: usize) {
        if let Some(region) = self.regions.get_mut(place.region) {
            region.map.commit(place.base + at, 0);
        }
    }

    /// Waits until this part of a segment is on the device.
    pub(crate) fn flush(&self, place: Place, range: Range<usize>) -> Result<()> {
        let Some(region) = self.regions.get(place.region) else { return Ok(()) };
        let range = place.base + range.start..place.base + range.end;
        region.map.flush(range).map_err(|error| failure("write", &self.path, error))
    }

    /// Waits until everything is on the device.
    pub(crate) fn flush_all(&self) -> Result<()> {
        let maps = self.regions.iter().map(|region| &region.map);
        let flushed = maps.chain([&self.page]).try_for_each(|map| map.flush(0..map.bytes().len()));
        flushed
            .and_then(|()| self.file.file().sync_all())
            .map_err(|error| failure("write", &self.path, error))
    }

    /// Waits until the progress is on the device.
    pub(crate) fn flush_page(&self) -> Result<()> {
        self.page.flush(0..PAGE).map_err(|error| failure("write", &self.path, error))
    }

    /// Writes down how far the store has come.
    pub(crate) fn record(&mut self, history: History) {
        self.progress.generation += 1;
        self.progress.history = history;
        let (bytes, at) = self.progress.encode(self.identity.salt);
        self.page.write(at, &bytes);
    }

    /// Adds segments, which are empty. If that fails, the file is as before.
    pub(crate) fn add_segments(&mut self, count: u32) -> Result<()> {
        let from = self.size();
        let to = from + u64::from(count) * u64::from(self.identity.segment_size);
        let grown = fill(self.file.file(), from..to).and_then(|()| self.map_segments(count));
        grown.map_err(|error| {
            // What was added is not mapped. If it cannot be given back either, the next opening finds it.
            let _ = self.file.file().set_len(from);
            failure("extend", &self.path, error)
        })?;
        self.record(self.progress.history);
        Ok(())
    }

    /// Shortens the file to so many segments, none of which may hold anything any more. Nothing is mapped afterwards.
    pub(crate) fn shrink(&mut self, segments: u32) -> Result<()> {
        self.progress.segments = self.progress.segments.min(segments);
        self.record(self.progress.history);
        self.regions.clear();
        let size = self.size();
        self.file.file().set_len(size).map_err(|error| failure("shorten", &self.path, error))
    }

    /// Ties the file to a client name for good.
    pub(crate) fn bind(&mut self, client_name: &str) -> Result<()> {
        let bound = &self.identity.client_name;
        if bound == client_name {
            return Ok(());
        }
        if !bound.is_empty() {
            let text = format!("belongs to the client name {bound:?} and not to {client_name:?}");
            return Err(refusal(&self.path, &text));
        }
        if client_name.len() > MAX_NAME {
            let text = format!("cannot be bound to a client name of {} bytes", client_name.len());
            return Err(refusal(&self.path, &text));
        }
        self.identity.client_name = client_name.to_owned();
        self.write_identity();
        Ok(())
    }

    /// The name the file is bound to; empty if to none.
    pub(crate) fn client_name(&self) -> &str {
        &self.identity.client_name
    }
}

/// Makes an empty file a store without segments, by one write.
fn make(mut file: &File, segment_size: u32) -> io::Result<()> {
    let salt = RandomState::new().hash_one((SystemTime::now(), std::process::id()));
    let (identity, places) = Identity { segment_size, salt, client_name: String::new() }.encode();
    let (progress, at) = Progress::default().encode(salt);
    let mut page = vec![0; PAGE];
    for (at, bytes) in places.map(|at| (at, &identity[..])).into_iter().chain([(at, &progress[..])]) {
        if let Some(place) = page.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
    file.write_all(&page)
}

fn failure(what: &str, path: &Path, error: impl Into<HandlerError>) -> Error {
    disk::failure(what, STORE, path, error)
}
