//! Messages in a store file.

use super::damage::StoreDamage;
use super::keeper::{Appended, Backing};
use super::memory::no_segment;
use super::recovery::{Known, Recovered, recover};
use super::runs::Runs;
use super::volume::{Found, Place, Volume, refusal};
use crate::error::{Error, Result};
use crate::store::content::Content;
use crate::store::entry::no_memory;
use crate::store::layout::{self, Header, Part, RECORD_HEADER, record_size};
use crate::store::scan::{glance, scan};
use crate::store::sequence::History;

/// So many places with damage are logged one by one.
const LOGGED: usize = 20;

/// How a journal treats its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JournalOptions {
    pub(crate) segment_size: u32,
    /// Bytes to grow by.
    pub(crate) growth: u64,
    pub(crate) sync_every_write: bool,
    pub(crate) truncate_on_close: bool,
}

/// The messages in a file, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Journal {
    volume: Volume,
    options: JournalOptions,
    runs: Runs<Place>,
    free: Vec<Place>,
    /// Where the next record goes in the active segment, and the epoch of that.
    at: usize,
    epoch: u32,
    /// No turn of a segment had a higher epoch.
    last_epoch: u32,
    /// The number of the last record.
    last: u64,
    /// Segments that are left alone until everything that was found beside them, up to this number, is discarded.
    aside: Vec<Place>,
    aside_until: u64,
    damage: Vec<StoreDamage>,
    /// So much of the damage has been reported.
    reported: usize,
}

impl Journal {
    /// Opens a file, or makes it. Returns the history of its numbers too.
    pub(crate) fn open(path: &std::path::Path, options: JournalOptions) -> Result<(Journal, History)> {
        let (volume, found) = Volume::open(path, options.segment_size)?;
        let mut journal = Journal {
            volume,
            options,
            runs: Runs::default(),
            free: Vec::new(),
            at: 0,
            epoch: 0,
            last_epoch: 0,
            last: 0,
            aside: Vec::new(),
            aside_until: 0,
            damage: Vec::new(),
            reported: 0,
        };
        let history = journal.recover(&found);
        if journal.volume.segments() == 0 {
            journal.add_segments(journal.step())?;
        }
        if options.sync_every_write {
            journal.volume.flush_all()?;
        }
        Ok((journal, history))
    }

    /// Finds out what the file holds.
    fn recover(&mut self, found: &Found) -> History {
        let history = found.progress.map(|progress| progress.history);
        let salt = self.volume.salt();
        let bytes = |segment| self.volume.place(segment).map_or(&[][..], |place| self.volume.bytes(place));
        let glances: Vec<_> =
            (0..self.volume.segments()).map(|segment| glance(bytes(segment), salt)).collect();
        let recovered = recover(
            &glances,
            |segment| scan(bytes(segment), salt),
            Known {
                segment_size: self.volume.segment_size(),
                persisted: history.map(|history| history.persisted.max(history.start)),
                assigned: history.map_or(0, |history| history.assigned),
                length: found.length,
                cut_off: found.cut_off,
            },
        );
        let history = History { assigned: recovered.assigned, ..history.unwrap_or_default() };
        recovered.damage.iter().take(LOGGED).for_each(|damage| self.log(damage));
        if let Some(more @ 1..) = recovered.damage.len().checked_sub(LOGGED) {
            log::error!(target: "amps::store", "... and in {more} more places");
        }
        self.adopt(recovered, history.persisted);
        history
    }

    fn adopt(&mut self, recovered: Recovered, persisted: u64) {
        for run in recovered.runs {
            let Some(place) = self.volume.place(run.segment) else { continue };
            self.runs.begin(place, run.first);
            if let Some(active) = self.runs.active() {
                (run.first..).zip(run.starts).for_each(|(number, start)| active.push(number, start));
            }
        }
        // At the end of the segment there is no room for anything.
        (self.at, self.epoch) = recovered.end.unwrap_or((self.volume.segment_size(), 0));
        recovered.lost.into_iter().for_each(|lost| self.runs.lose(lost));
        self.runs.discard_up_to(persisted, |_| ());
        for segment in recovered.free {
            if let Some(place) = self.volume.place(segment) {
                release(&mut self.volume, &mut self.free, place);
            }
        }
        // The first segment is used first.
        self.free.sort_by_key(|place| std::cmp::Reverse(place.segment));
        self.aside = recovered.aside.iter().filter_map(|segment| self.volume.place(*segment)).collect();
        self.aside_until = recovered.last;
        self.last_epoch = recovered.epoch;
        self.last = recovered.last;
        self.damage = recovered.damage;
    }

    #[inline]
    fn has_room(&mut self, number: u64, size: usize) -> bool {
        let fits = self.at + size <= self.volume.segment_size();
        fits && self.runs.active().is_some_and(|run| run.continues_with(number))
    }

    /// Begins a segment for this number. False if none is free.
    #[cold]
    fn open_segment(&mut self, number: u64) -> Result<bool> {
        self.release_finished();
        if self.free.is_empty() {
            return Ok(false);
        }
        let epoch = self.next_epoch(1)?;
        if self.options.sync_every_write {
            // What is about to be overwritten must not be missed after a power loss.
            self.volume.flush_page()?;
        }
        let Some(place) = self.free.pop() else { return Ok(false) };
        self.begin(place, number);
        self.epoch = epoch;
        self.last_epoch = epoch;
        self.at = 0;
        Ok(true)
    }

    fn begin(&mut self, place: Place, number: u64) {
        let displaced = self.runs.begin(place, number);
        let Journal { volume, free, .. } = self;
        displaced.into_iter().for_each(|place| release(volume, free, place));
    }

    /// The epoch for the first of `count` turns to come.
    fn next_epoch(&self, count: usize) -> Result<u32> {
        let last = u32::try_from(count).ok().and_then(|count| self.last_epoch.checked_add(count));
        match last {
            Some(_) => Ok(self.last_epoch + 1),
            None => {
                Err(refusal(self.volume.path(), "is worn out: take a new file once everything is persisted"))
            }
        }
    }

    /// Makes segments free in which everything is discarded, the active one too.
    fn release_finished(&mut self) {
        let Journal { volume, free, runs, .. } = self;
        runs.drop_finished(|place| release(volume, free, place));
        if let Some(place) = runs.take_finished() {
            release(volume, free, place);
            self.at = self.volume.segment_size();
        }
    }

    /// Writes what no segment can hold into several, each of which it fills but for the last.
    #[cold]
    fn append_in_parts(&mut self, number: u64, content: Content<'_>) -> Result<Appended> {
        let piece = self.volume.segment_size() - RECORD_HEADER;
        let count = content.size().div_ceil(piece);
        self.release_finished();
        let Some(others) = self.free.len().checked_sub(count) else {
            return Ok(Appended::Full(self.wanted(count)));
        };
        let first_epoch = self.next_epoch(count)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(content.size()).map_err(no_memory)?;
        bytes.resize(content.size(), 0);
        content.write(&mut bytes);
        let places = self.free.split_off(others);
        if let Err(error) = self.write_parts(number, &bytes, &places, first_epoch) {
            let Journal { volume, free, .. } = self;
            places.into_iter().rev().for_each(|place| release(volume, free, place));
            return Err(error);
        }
        for place in places {
            self.begin(place, number);
            if let Some(run) = self.runs.active() {
                run.push(number, 0);
            }
        }
        self.at = record_size(bytes.len() - (count - 1) * piece);
        self.last_epoch += count as u32;
        self.epoch = self.last_epoch;
        self.last = number;
        Ok(Appended::Kept)
    }

    /// Writes the parts, first to last: without the last there is no message.
    fn write_parts(&mut self, number: u64, bytes: &[u8], places: &[Place], first_epoch: u32) -> Result<()> {
        let piece = self.volume.segment_size() - RECORD_HEADER;
        let jump = number != self.last + 1;
        for (index, (part_bytes, place)) in bytes.chunks(piece).zip(places).enumerate() {
            let part = match index {
                0 => Part::First,
                _ if index + 1 == places.len() => Part::Last,
                _ => Part::Middle,
            };
            let epoch = first_epoch + index as u32;
            let header = Header { sequence: number, length: part_bytes.len(), part, jump, epoch };
            self.volume.write(*place, 0, &header, &Content::Framed(part_bytes));
            if self.options.sync_every_write {
                let end = (header.size() + 8).min(self.volume.segment_size());
                self.volume.flush(*place, 0..end)?;
            }
        }
        Ok(())
    }

    /// Appends the content of a kept message. `None` if it is not what was written; `contents` is as before then.
    fn read(&self, number: u64, contents: &mut Vec<u8>) -> Option<()> {
        let before = contents.len();
        let whole = self.read_parts(number, contents);
        if whole.is_none() {
            contents.truncate(before);
        }
        whole
    }

    fn read_parts(&self, number: u64, contents: &mut Vec<u8>) -> Option<()> {
        let (mut run, mut index) = self.runs.find(number)?;
        let mut first = true;
        loop {
            let segment = self.runs.get(run)?;
            let start = segment.start(index)? as usize;
            let record = self.volume.bytes(segment.place).get(start..)?;
            let (header, sum) = layout::read(record, self.volume.salt())?;
            let expected = if first { [Part::Whole, Part::First] } else { [Part::Middle, Part::Last] };
            let fits = header.sequence == number && expected.contains(&header.part);
            if !fits || !layout::is_intact(record, &header, sum) {
                return None;
            }
            contents.extend_from_slice(record.get(layout::content_in(&header))?);
            if matches!(header.part, Part::Whole | Part::Last) {
                return Some(());
            }
            (run, index, first) = (run + 1, 0, false);
        }
    }

    /// Gives up a message that has been changed in the file meanwhile.
    #[cold]
    fn lose(&mut self, number: u64) {
        let place = self.runs.find(number).and_then(|(run, index)| {
            let run = self.runs.get(run)?;
            Some((run.place, run.start(index)? as usize))
        });
        let position = place.map_or(0, |(place, at)| self.volume.position(place, at));
        let damage =
            StoreDamage { position, length: RECORD_HEADER as u64, sequences: Some(number..number + 1) };
        self.log(&damage);
        self.damage.push(damage);
        self.runs.lose(number..number + 1);
    }

    fn log(&self, damage: &StoreDamage) {
        log::error!(target: "amps::store", "{}", refusal(self.volume.path(), &format!("is damaged: {damage}")));
    }

    /// Segments that are added at a time.
    fn step(&self) -> u32 {
        let segments = self.options.growth.div_ceil(self.volume.segment_size() as u64);
        u32::try_from(segments).unwrap_or(u32::MAX).max(1)
    }

    /// The size to grow to for `count` free segments.
    fn wanted(&self, count: usize) -> u64 {
        let missing = count.saturating_sub(self.free.len()) as u64;
        let segments = missing.next_multiple_of(u64::from(self.step()));
        self.volume.size().saturating_add(segments.saturating_mul(self.volume.segment_size() as u64))
    }

    fn add_segments(&mut self, count: u32) -> Result<()> {
        let first = self.volume.segments();
        self.volume.add_segments(count)?;
        let places = (first..first + count).rev().filter_map(|segment| self.volume.place(segment));
        self.free.extend(places);
        Ok(())
    }

    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    pub(crate) fn damage(&self) -> &[StoreDamage] {
        &self.damage
    }
}

impl Backing for Journal {
    #[inline]
    fn append(&mut self, number: u64, content: Content<'_>) -> Result<Appended> {
        let length = content.size();
        let size = record_size(length);
        if size > self.volume.segment_size() {
            return self.append_in_parts(number, content);
        }
        if !self.has_room(number, size) && !self.open_segment(number)? {
            return Ok(Appended::Full(self.wanted(1)));
        }
        let at = self.at;
        let Some(run) = self.runs.active() else { return Err(no_segment()) };
        let place = run.place;
        let jump = number != self.last + 1;
        let header = Header { sequence: number, length, part: Part::Whole, jump, epoch: self.epoch };
        self.volume.write(place, at, &header, &content);
        if self.options.sync_every_write {
            // With the word behind it, which says that nothing follows.
            let end = (at + size + 8).min(self.volume.segment_size());
            let synced = self.volume.flush(place, at..end);
            synced.inspect_err(|_| self.volume.erase(place, at))?;
        }
        // A segment is smaller than 4 GiB.
        run.push(number, at as u32);
        self.at += size;
        self.last = number;
        Ok(Appended::Kept)
    }

    fn grow(&mut self, bytes: u64) -> Result<()> {
        let missing = bytes.saturating_sub(self.volume.size()).div_ceil(self.volume.segment_size() as u64);
        if missing == 0 {
            return Ok(());
        }
        let room = u32::MAX - self.volume.segments();
        let count = u32::try_from(missing).ok().filter(|count| *count <= room);
        self.add_segments(count.ok_or_else(|| refusal(self.volume.path(), "cannot grow any more"))?)
    }

    fn discard(&mut self, history: History) -> Result<bool> {
        self.volume.record(history);
        let Journal { volume, free, runs, aside, .. } = self;
        let before = free.len();
        runs.discard_up_to(history.persisted, |place| release(volume, free, place));
        if self.aside_until <= history.persisted {
            aside.drain(..).for_each(|place| release(volume, free, place));
        }
        Ok(free.len() > before || runs.is_finished())
    }

    fn copy(&mut self, from: u64, upto: u64, limit: usize, contents: &mut Vec<u8>) -> Option<u64> {
        let mut next = from;
        let mut copied = false;
        while let Some(number) = self.runs.at_or_after(next).filter(|number| *number <= upto) {
            if copied && contents.len() >= limit {
                break;
            }
            match self.read(number, contents) {
                Some(()) => copied = true,
                None => self.lose(number),
            }
            next = number + 1;
        }
        copied.then_some(next)
    }

    fn count(&self) -> usize {
        self.runs.count()
    }

    fn at_or_after(&self, from: u64) -> Option<u64> {
        self.runs.at_or_after(from)
    }

    fn highest(&self) -> Option<u64> {
        self.runs.highest()
    }

    fn remember(&mut self, history: History) -> Result<()> {
        self.volume.record(history);
        Ok(())
    }

    fn bind(&mut self, client_name: &str) -> Result<()> {
        self.volume.bind(client_name)?;
        if self.options.sync_every_write { self.volume.flush_page() } else { Ok(()) }
    }

    fn take_damage_reports(&mut self) -> Vec<Error> {
        let path = self.volume.path();
        let reports = self.damage.get(self.reported..).unwrap_or_default().iter();
        let reports = reports.map(|damage| refusal(path, &format!("is damaged: {damage}"))).collect();
        self.reported = self.damage.len();
        reports
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !self.options.truncate_on_close || self.runs.count() > 0 || !self.aside.is_empty() {
            return;
        }
        if let Err(error) = self.volume.shrink(self.step()) {
            log::warn!(target: "amps::store", "{error}");
        }
    }
}

/// Makes a segment free. From now on there is nothing in it, whatever else it holds.
fn release(volume: &mut Volume, free: &mut Vec<Place>, place: Place) {
    volume.erase(place, 0);
    free.push(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path among the temporary files; the file goes when this is dropped.
    struct Path(std::path::PathBuf);

    impl Path {
        fn new(name: &str) -> Path {
            Path(std::env::temp_dir().join(format!("amps-journal-{name}-{}", std::process::id())))
        }

        fn open(&self) -> Journal {
            let options = JournalOptions {
                segment_size: 4096,
                growth: 4 * 4096,
                sync_every_write: false,
                truncate_on_close: false,
            };
            Journal::open(&self.0, options).unwrap().0
        }
    }

    impl Drop for Path {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn content(journal: &mut Journal, number: u64) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        journal.copy(number, number, 0, &mut content).map(|_| content)
    }

    fn kept(journal: &mut Journal, number: u64, size: usize) -> bool {
        content(journal, number).is_some_and(|content| content == vec![number as u8; size])
    }

    fn append(journal: &mut Journal, number: u64, size: usize) {
        assert_eq!(
            journal.append(number, Content::Framed(&vec![number as u8; size])).unwrap(),
            Appended::Kept
        );
    }

    #[test]
    fn a_content_of_any_size_comes_back() {
        let path = Path::new("sizes");
        let mut journal = path.open();
        let sizes = [0, 1, 4072, 4073, 100, 2 * 4072, 2 * 4072 + 1, 3 * 4072 - 1, 7];
        for (number, size) in (1..).zip(sizes) {
            if let Appended::Full(bytes) =
                journal.append(number, Content::Framed(&vec![number as u8; size])).unwrap()
            {
                journal.grow(bytes).unwrap();
                append(&mut journal, number, size);
            }
        }
        for reopened in [false, true] {
            if reopened {
                drop(journal);
                journal = path.open();
            }
            for (number, size) in (1..).zip(sizes) {
                assert!(kept(&mut journal, number, size), "{size} bytes");
            }
        }
    }

    /// PS-23: the process dies while it writes a message that needs several segments.
    #[test]
    fn a_message_without_its_last_part_was_never_stored() {
        let path = Path::new("torn");
        let mut journal = path.open();
        append(&mut journal, 1, 100);
        append(&mut journal, 2, 3 * 4000);
        let last = journal.runs.active().unwrap().place;
        journal.volume.erase(last, 0);
        drop(journal);

        let mut journal = path.open();
        assert_eq!((journal.count(), journal.damage().len(), journal.free.len()), (1, 0, 3));
        append(&mut journal, 2, 10);
        append(&mut journal, 3, 2 * 4000);
        drop(journal);
        let mut journal = path.open();
        assert!(kept(&mut journal, 1, 100) && kept(&mut journal, 2, 10) && kept(&mut journal, 3, 8000));
        assert_eq!(journal.damage().len(), 0);
    }

    #[test]
    fn parts_of_discarded_messages_are_no_damage() {
        let path = Path::new("parts");
        let mut journal = path.open();
        append(&mut journal, 1, 3 * 4000);
        journal.discard(History { assigned: 1, persisted: 1, ..History::default() }).unwrap();
        append(&mut journal, 2, 100);
        drop(journal);
        let mut journal = path.open();
        assert!(kept(&mut journal, 2, 100));
        assert_eq!((journal.count(), journal.damage().len()), (1, 0));
    }

    #[test]
    fn epochs_that_are_used_up_are_an_error() {
        let path = Path::new("epochs");
        let mut journal = path.open();
        journal.last_epoch = u32::MAX - 1;
        append(&mut journal, 1, 4000);
        let error = journal.append(2, Content::Framed(&[b'x'; 4000])).unwrap_err();
        assert!(error.to_string().contains("worn out"), "{error}");
        assert!(kept(&mut journal, 1, 4000));
    }
}
