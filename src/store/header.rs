//! The first page of a store file: what the file is, and how far it has come.
//!
//! ```text
//!  0           1024        2048       3072       4096
//!  ┌───────────┬───────────┬──────────┬──────────┐
//!  │ identity  │ identity  │ progress │ progress │
//!  └───────────┴───────────┴──────────┴──────────┘
//! ```
//!
//! The identity is written twice when the file is made and when it is bound to a client name. The progress goes into
//! either place in turn, so that the one before survives when the process dies while it is written. Each has a checksum.

use super::layout::MAX_SEGMENT;
use super::sequence::History;

/// Bytes of the first page.
pub(crate) const PAGE: usize = 4096;
/// The longest client name that a file can be bound to.
pub(crate) const MAX_NAME: usize = 900;

const MAGIC: &[u8; 8] = b"AMPSpubS";
const VERSION: u32 = 1;
const IDENTITY_PLACES: [usize; 2] = [0, 1024];
const IDENTITY: usize = 1024;
const PROGRESS_PLACES: [usize; 2] = [2048, 3072];
const PROGRESS: usize = 48;

/// What a file is, for all its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) segment_size: u32,
    /// A number that no other file has; checks depend on it.
    pub(crate) salt: u64,
    /// Empty until the file is bound to one.
    pub(crate) client_name: String,
}

/// How far a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Grows by one each time this is written.
    pub(crate) generation: u64,
    pub(crate) history: History,
    /// How many segments the file has.
    pub(crate) segments: u32,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAStore {
    #[error("is not a publish store")]
    Foreign,
    #[error("is a publish store that is cut off in its header")]
    Cut,
    #[error("is a publish store of format {0}, but this library reads format {VERSION}")]
    Version(u32),
    #[error("is a publish store whose header is damaged")]
    Damaged,
}

impl Identity {
    /// The bytes, and the places in the page where they go.
    pub(crate) fn encode(&self) -> (Vec<u8>, [usize; 2]) {
        let mut bytes = Vec::with_capacity(IDENTITY);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.segment_size.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        bytes.extend_from_slice(&(self.client_name.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.client_name.as_bytes());
        bytes.resize(IDENTITY - 4, 0);
        bytes.extend_from_slice(&[0; 4]);
        let sum = sum_of(&bytes, IDENTITY, 0);
        if let Some(place) = bytes.last_chunk_mut() {
            *place = sum.to_le_bytes();
        }
        (bytes, IDENTITY_PLACES)
    }

    /// Reads it from the start of a file: the first page, or less if the file is shorter.
    pub(crate) fn read(start: &[u8]) -> Result<Identity, NotAStore> {
        if start.len() < PAGE {
            return Err(if start.starts_with(MAGIC) { NotAStore::Cut } else { NotAStore::Foreign });
        }
        let [first, second] = IDENTITY_PLACES.map(|at| Identity::decode(start.get(at..).unwrap_or_default()));
        match (first, second) {
            (Ok(identity), _) | (_, Ok(identity)) => Ok(identity),
            (Err(NotAStore::Version(other)), _) | (_, Err(NotAStore::Version(other))) => {
                Err(NotAStore::Version(other))
            }
            (Err(NotAStore::Foreign), Err(NotAStore::Foreign)) => Err(NotAStore::Foreign),
            _ => Err(NotAStore::Damaged),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Identity, NotAStore> {
        let mut content = Content(bytes);
        if content.take() != Some(MAGIC) {
            return Err(NotAStore::Foreign);
        }
        match content.u32() {
            Some(VERSION) => {}
            other => return Err(NotAStore::Version(other.unwrap_or_default())),
        }
        let identity = if has_sum(bytes, IDENTITY, 0) { Identity::from_content(content) } else { None };
        identity.ok_or(NotAStore::Damaged)
    }

    fn from_content(mut content: Content<'_>) -> Option<Identity> {
        let (segment_size, salt, length) = (content.u32()?, content.u64()?, content.u32()?);
        let name = content.0.get(..length as usize)?.to_vec();
        let size = segment_size as usize;
        let possible = size > 0 && size.is_multiple_of(PAGE) && size <= MAX_SEGMENT;
        let identity = Identity { segment_size, salt, client_name: String::from_utf8(name).ok()? };
        possible.then_some(identity)
    }
}

impl Progress {
    /// The bytes, and the place in the page where they go.
    pub(crate) fn encode(&self, salt: u64) -> ([u8; PROGRESS], usize) {
        let History { assigned, start, persisted, confirmed } = self.history;
        let mut bytes = [0; PROGRESS];
        let words = [
            self.generation,
            assigned,
            start,
            persisted,
            u64::from(self.segments) | u64::from(confirmed) << 32,
        ];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let sum = sum_of(&bytes, PROGRESS, salt);
        if let Some(place) = bytes.last_chunk_mut() {
            *place = sum.to_le_bytes();
        }
        let [even, odd] = PROGRESS_PLACES;
        (bytes, if self.generation.is_multiple_of(2) { even } else { odd })
    }

    /// The latest that is readable in a first page.
    pub(crate) fn read(page: &[u8], salt: u64) -> Option<Progress> {
        let read = |at| Progress::decode(page.get(at..).unwrap_or_default(), salt);
        PROGRESS_PLACES.into_iter().filter_map(read).max_by_key(|progress| progress.generation)
    }

    fn decode(bytes: &[u8], salt: u64) -> Option<Progress> {
        if !has_sum(bytes, PROGRESS, salt) {
            return None;
        }
        let mut content = Content(bytes);
        let generation = content.u64()?;
        let [assigned, start, persisted] = [content.u64()?, content.u64()?, content.u64()?].map(below_end);
        let (segments, confirmed) = (content.u32()?, content.u32()? != 0);
        let history = History { assigned, start, persisted, confirmed };
        Some(Progress { generation, history, segments })
    }
}

/// There is always a number above those in use.
fn below_end(number: u64) -> u64 {
    number.min(u64::MAX - 1)
}

/// Takes numbers from the front of bytes.
struct Content<'a>(&'a [u8]);

impl<'a> Content<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// The checksum of the first `size` bytes but for the last four, which hold it.
fn sum_of(bytes: &[u8], size: usize, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..size - 4).unwrap_or_default());
    hasher.update(&salt.to_le_bytes());
    hasher.finalize()
}

fn has_sum(bytes: &[u8], size: usize, salt: u64) -> bool {
    let last = bytes.get(size - 4..size).and_then(<[u8]>::first_chunk);
    last.is_some_and(|last| u32::from_le_bytes(*last) == sum_of(bytes, size, salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: u64 = 77;

    fn identity() -> Identity {
        Identity { segment_size: 1 << 18, salt: SALT, client_name: "desk-pricer".to_owned() }
    }

    fn progress(generation: u64) -> Progress {
        let history = History { assigned: 900 + generation, start: 3, persisted: 800, confirmed: true };
        Progress { generation, history, segments: 8 }
    }

    fn page() -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let (bytes, places) = identity().encode();
        for at in places {
            page[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        for generation in [41, 42] {
            let (bytes, at) = progress(generation).encode(SALT);
            page[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        page
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let page = page();
        assert_eq!(Identity::read(&page), Ok(identity()));
        assert_eq!(Progress::read(&page, SALT), Some(progress(42)));
        assert_eq!(Progress::read(&page, SALT + 1), None);
    }

    #[test]
    fn one_damaged_byte_leaves_a_copy_that_is_good() {
        let mut page = page();
        for at in 0..PAGE {
            page[at] ^= 0x40;
            assert_eq!(Identity::read(&page), Ok(identity()), "byte {at}");
            let read = Progress::read(&page, SALT).unwrap();
            assert!([progress(41), progress(42)].contains(&read), "byte {at}: {read:?}");
            page[at] ^= 0x40;
        }
    }

    #[test]
    fn what_is_no_store_is_told_apart() {
        let page = page();
        for end in 0..PAGE {
            let expected = if end < 8 { NotAStore::Foreign } else { NotAStore::Cut };
            assert_eq!(Identity::read(&page[..end]), Err(expected), "{end}");
        }
        assert_eq!(Identity::read(&[0; PAGE]), Err(NotAStore::Foreign));
        let change = |at: usize, byte: u8| {
            let mut changed = page.clone();
            for place in IDENTITY_PLACES {
                changed[place + at] = byte;
            }
            Identity::read(&changed)
        };
        assert_eq!(change(0, b'a'), Err(NotAStore::Foreign));
        assert_eq!(change(8, 2), Err(NotAStore::Version(2)));
        assert_eq!(change(30, b'X'), Err(NotAStore::Damaged));
    }

    #[test]
    fn a_segment_size_that_cannot_be_is_damage() {
        for segment_size in [0, 100, PAGE as u32 + 1, 1 << 29] {
            let (bytes, _) = Identity { segment_size, ..identity() }.encode();
            let mut page = vec![0; PAGE];
            page[..bytes.len()].copy_from_slice(&bytes);
            assert_eq!(Identity::read(&page), Err(NotAStore::Damaged), "{segment_size}");
        }
    }

    #[test]
    fn without_a_readable_progress_there_is_none() {
        let mut page = page();
        for at in PROGRESS_PLACES {
            page[at] ^= 1;
        }
        assert_eq!(Progress::read(&page, SALT), None);
    }
}
