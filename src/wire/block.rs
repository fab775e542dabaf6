//! A receive buffer and the messages found in it.
//!
//! Bytes are read into a [`Block`]; [`Block::walk`] then cuts the whole frames in it into [`Entry`]s, one per message:
//! a `sow` frame becomes one entry for its outer header and one for each record. After that the block is only read, and
//! messages share it by reference count.
//!
//! Where the values of a header lie is kept once for all headers of the same shape, so a stream of like messages costs
//! a few bytes of bookkeeping each. A header that is byte for byte the one before it, or like it but for the values, is
//! not even parsed.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use super::fields::{CommandType, Field};
use super::grammar::{self, HeaderError, HeaderScan};
use super::shape::Prediction;
use super::span::{FieldIndex, Span};

/// Bytes received, and what was found in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    layouts: Vec<Layout>,
    spans: Vec<Span>,
    /// The headers of `sow` frames and of their records, one behind the other: found to be text once for all of them, and
    /// not each time a value is asked for.
    sow_headers: String,
    receiver: Option<Receiver>,
}

/// Whoever has received a block. What that is, is the business of others.
pub(crate) type Receiver = Arc<dyn Any + Send + Sync>;

/// One message within a block: a slice of its bytes and the shape of its header.
///
/// The alignment makes copies go in pieces of eight bytes or more. A processor can load what was stored a moment before only
/// if it was stored in one piece, and a copy is made right before each call of a handler.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(8))]
pub(crate) struct Entry {
    /// Where the header starts: in `Block::bytes`, or in `Block::sow_headers` if this is a record.
    head: u32,
    body: u32,
    end: u32,
    layout: u32,
    /// Where in `Block::sow_headers` the outer header of a record starts; [`NO_OUTER`] if this is no record.
    outer: u32,
}

const NO_OUTER: u32 = u32::MAX;
/// In `Entry::layout`: the header is byte for byte that of the entry before.
const REPEATED: u32 = 1 << 31;
/// A new layout is compared with so many of those before.
const LAST_FEW: usize = 4;
/// Room for so many entries and layouts, and for so much text of headers, is kept for the next walk.
const KEPT_ENTRIES: usize = 32_768;
const KEPT_LAYOUTS: usize = 8192;
const KEPT_TEXT: usize = 256 << 10;
/// The index of no layout.
const NO_LAYOUT: u32 = REPEATED - 1;

/// The shape of a header: its command, and a run of `Block::spans`. A record has the fields of its outer header too, as
/// far as they are not its own.
#[derive(Debug, Clone, Copy)]
struct Layout {
    own: Run,
    outer: Run,
    command: CommandType,
    index: FieldIndex,
}

/// A part of `Block::spans`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Run {
    first: u32,
    /// At most one for each of the 37 fields.
    count: u8,
}

/// Why the bytes are no frames; the connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    #[error("a frame of {0} bytes exceeds the limit of {1} bytes")]
    FrameTooLong(u32, u32),
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("a header without a command")]
    NoCommand,
    #[error("a record of a query result without a length")]
    NoRecordLength,
    #[error("a record of {0} bytes runs past the end of its frame")]
    RecordTooLong(u64),
}

/// How far a walk came.
#[derive(Debug)]
pub(crate) struct Walk {
    /// Bytes that belong to whole frames, from the start of the block.
    pub(crate) consumed: usize,
    /// The length, with its prefix, of the incomplete frame behind them, once its prefix is known; else 0.
    pub(crate) wanted: usize,
    /// What ended the walk, if it was no want of bytes. Messages before it are good.
    pub(crate) error: Option<WireError>,
}

/// What reading headers needs from one walk to the next: room to work in, and what the next header is likely to be.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    scan: HeaderScan,
    frames: Prediction,
    records: Prediction,
    /// The layout of the outer header that the layout of `records` was made with.
    outer_layout: u32,
    /// What is about to become `Block::sow_headers`.
    sow_headers: Vec<u8>,
}

/// The header of the last plain frame of a walk, for comparison with the next.
#[derive(Default)]
struct Previous {
    head: usize,
    length: usize,
    layout: u32,
}

impl Block {
    /// A block that can take `capacity` bytes before it must grow.
    pub(crate) fn with_capacity(capacity: usize) -> Block {
        Block { bytes: vec![0; capacity], ..Block::default() }
    }

    /// The same, received by somebody whom its messages can be traced back to.
    pub(crate) fn received_by(mut self, receiver: Option<Receiver>) -> Block {
        self.receiver = receiver;
        self
    }

    pub(crate) fn receiver(&self) -> Option<&Receiver> {
        self.receiver.as_ref()
    }

    /// How many bytes fit.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for `capacity` bytes in all, never less than there is.
    pub(crate) fn grow(&mut self, capacity: usize) {
        if capacity > self.bytes.len() {
            self.bytes.resize(capacity, 0);
        }
    }

    /// The place for more bytes behind the first `filled`.
    pub(crate) fn space(&mut self, filled: usize) -> &mut [u8] {
        self.bytes.get_mut(filled..).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Moves a range of bytes to the front, for a block that is used again.
    pub(crate) fn move_to_front(&mut self, range: Range<usize>) {
        if range.end <= self.bytes.len() {
            self.bytes.copy_within(range, 0);
        }
    }

    /// Puts bytes at the front.
    pub(crate) fn copy_to_front(&mut self, bytes: &[u8]) {
        self.grow(bytes.len());
        if let Some(place) = self.bytes.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Cuts the whole frames among the first `filled` bytes into entries, replacing those of the walk before.
    pub(crate) fn walk(&mut self, filled: usize, limit: u32, reader: &mut HeaderReader) -> Walk {
        self.entries.clear();
        self.entries.shrink_to(KEPT_ENTRIES);
        self.layouts.clear();
        self.layouts.shrink_to(KEPT_LAYOUTS);
        self.spans.clear();
        self.spans.shrink_to(8 * KEPT_LAYOUTS);
        reader.sow_headers = std::mem::take(&mut self.sow_headers).into_bytes();
        reader.sow_headers.clear();
        reader.sow_headers.shrink_to(KEPT_TEXT);
        reader.frames.layout = None;
        reader.records.layout = None;
        reader.outer_layout = NO_LAYOUT;
        let walk = self.frames(filled.min(self.bytes.len()), limit, reader);
        self.sow_headers = grammar::into_text(std::mem::take(&mut reader.sow_headers));
        walk
    }

    fn frames(&mut self, filled: usize, limit: u32, reader: &mut HeaderReader) -> Walk {
        let mut at = 0;
        let mut previous = Previous::default();
        loop {
            let rest = self.bytes.get(at..filled).unwrap_or_default();
            let Some(prefix) = rest.first_chunk() else {
                return Walk { consumed: at, wanted: 0, error: None };
            };
            let length = u32::from_be_bytes(*prefix);
            if length > limit {
                return Walk { consumed: at, wanted: 0, error: Some(WireError::FrameTooLong(length, limit)) };
            }
            let end = at + 4 + length as usize;
            if end > filled {
                return Walk { consumed: at, wanted: 4 + length as usize, error: None };
            }
            if let Err(error) = self.frame(at + 4, end, &mut previous, reader) {
                return Walk { consumed: at, wanted: 0, error: Some(error) };
            }
            at = end;
        }
    }

    /// Takes in one frame, without its length prefix; an empty one is ignored.
    #[inline]
    fn frame(
        &mut self,
        head: usize,
        end: usize,
        previous: &mut Previous,
        reader: &mut HeaderReader,
    ) -> Result<(), WireError> {
        let frame = self.bytes.get(head..end).unwrap_or_default();
        if previous.length > 0 {
            let seen = self.bytes.get(previous.head..previous.head + previous.length);
            if frame.get(..previous.length) == seen {
                previous.head = head;
                let body = head + previous.length;
                self.push(head, body, end, previous.layout | REPEATED, NO_OUTER);
                return Ok(());
            }
        }
        if head == end {
            return Ok(());
        }
        let (command, length, layout, comparable) = match reader.frames.fits(frame) {
            Some(length) => {
                (reader.frames.command(), length, self.predicted_layout(&mut reader.frames), true)
            }
            None => self.parse(head, end, reader)?,
        };
        if command == CommandType::Sow {
            previous.length = 0;
            return self.records(head, head + length, end, layout, reader);
        }
        *previous = Previous { head, length: if comparable { length } else { 0 }, layout };
        self.push(head, head + length, end, layout, NO_OUTER);
        Ok(())
    }

    /// Reads a header that could not be predicted: its command, its length, its layout, and whether its bytes may be
    /// compared with those of the next.
    fn parse(
        &mut self,
        head: usize,
        end: usize,
        reader: &mut HeaderReader,
    ) -> Result<(CommandType, usize, u32, bool), WireError> {
        let HeaderReader { scan, frames, .. } = reader;
        let frame = self.bytes.get_mut(head..end).unwrap_or_default();
        let length = grammar::parse(frame, scan)?;
        let span = scan.spans().iter().find(|s| s.is(Field::Command)).ok_or(WireError::NoCommand)?;
        let command = match frame.get(span.start()..span.end()) {
            Some(name) if !name.is_empty() => CommandType::of_bytes(name),
            _ => return Err(WireError::NoCommand),
        };
        frames.observe(command, frame.get(..length).unwrap_or_default(), scan);
        Ok((command, length, self.predicted_layout(frames), !scan.is_rewritten()))
    }

    #[inline]
    fn push(&mut self, head: usize, body: usize, end: usize, layout: u32, outer: u32) {
        // Every place lies within a block, which holds at most one frame above 2^30 bytes.
        self.entries.push(Entry { head: head as u32, body: body as u32, end: end as u32, layout, outer });
    }

    /// The records of a `sow` frame, whose outer header ends at `at` (`wire-protocol` 6.2). A function of its own, so that its
    /// loop has the registers to itself.
    #[inline(never)]
    fn records(
        &mut self,
        head: usize,
        mut at: usize,
        end: usize,
        layout: u32,
        reader: &mut HeaderReader,
    ) -> Result<(), WireError> {
        let first = self.entries.len();
        self.push(head, at, at, layout, NO_OUTER);
        let outer = reader.sow_headers.len() as u32;
        reader.sow_headers.extend_from_slice(self.bytes.get(head..at).unwrap_or_default());
        if reader.outer_layout != layout {
            reader.outer_layout = layout;
            reader.records.layout = None;
        }
        while at < end {
            let rest = self.bytes.get_mut(at..end).unwrap_or_default();
            if rest.first() != Some(&b'{') && rest.iter().all(u8::is_ascii_whitespace) {
                break;
            }
            match record(rest, reader) {
                Ok((length, size)) => {
                    let header = reader.sow_headers.len();
                    reader.sow_headers.extend_from_slice(rest.get(..length).unwrap_or_default());
                    let layout = self.record_layout(reader);
                    self.push(header, at + length, at + length + size, layout, outer);
                    at += length + size;
                }
                Err(error) => {
                    // Nothing of a corrupt frame is delivered.
                    self.entries.truncate(first);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The layout of the header that the prediction was last made from or compared with.
    #[inline]
    fn predicted_layout(&mut self, prediction: &mut Prediction) -> u32 {
        if let Some(layout) = prediction.layout {
            return layout;
        }
        let layout = self.add_layout(prediction.command(), prediction.spans(), NO_LAYOUT);
        prediction.layout = Some(layout);
        layout
    }

    /// The layout of a record.
    #[inline]
    fn record_layout(&mut self, reader: &mut HeaderReader) -> u32 {
        let records = &mut reader.records;
        if let Some(layout) = records.layout {
            return layout;
        }
        let layout = self.add_layout(records.command(), records.spans(), reader.outer_layout);
        records.layout = Some(layout);
        layout
    }

    /// Adds a layout, unless it is one of the last few: shapes mostly take turns. Empty values are left out: they count as
    /// absent, whatever the header.
    fn add_layout(&mut self, command: CommandType, own: &[Span], outer: u32) -> u32 {
        let outer = self.layout(outer);
        let (inherited, outer) = outer.map_or_else(Default::default, |outer| (outer.index, outer.own));
        let own = || own.iter().filter(|span| !span.is_empty());
        let is_same = |layout: &Layout| {
            layout.command == command && layout.outer == outer && self.spans_of(layout.own).iter().eq(own())
        };
        let last_few = self.layouts.len().saturating_sub(LAST_FEW);
        let known = self.layouts.get(last_few..).unwrap_or_default().iter().rposition(is_same);
        if let Some(index) = known {
            return (last_few + index) as u32;
        }
        let first = self.spans.len();
        self.spans.extend(own());
        let spans = self.spans.get(first..).unwrap_or_default();
        let index = inherited.overlaid(spans);
        let own = Run { first: first as u32, count: spans.len() as u8 };
        self.layouts.push(Layout { own, outer, command, index });
        (self.layouts.len() - 1) as u32
    }

    #[inline]
    fn layout(&self, layout: u32) -> Option<&Layout> {
        self.layouts.get((layout & !REPEATED) as usize)
    }

    fn spans_of(&self, run: Run) -> &[Span] {
        let first = run.first as usize;
        self.spans.get(first..first + usize::from(run.count)).unwrap_or_default()
    }

    /// Where the value of a field lies: in `Block::sow_headers` if this is a record, else in the bytes.
    #[inline]
    fn place(&self, entry: Entry, field: Field) -> Option<Range<usize>> {
        let layout = self.layout(entry.layout)?;
        let (position, is_own) = layout.index.position(field)?;
        let (run, header) = if is_own { (layout.own, entry.head) } else { (layout.outer, entry.outer) };
        let span = self.spans.get(run.first as usize + position)?;
        let header = header as usize;
        Some(header + span.start()..header + span.end())
    }

    /// The value of a field, decoded; `None` if it is absent or empty. A record falls back on its outer header.
    #[inline]
    pub(crate) fn field(&self, entry: Entry, field: Field) -> Option<&[u8]> {
        let headers = if entry.is_record() { self.sow_headers.as_bytes() } else { &self.bytes };
        headers.get(self.place(entry, field)?)
    }

    /// The same as text.
    #[inline]
    pub(crate) fn text(&self, entry: Entry, field: Field) -> Option<&str> {
        let place = self.place(entry, field)?;
        if entry.is_record() {
            return self.sow_headers.get(place);
        }
        // The reader of headers leaves nothing but UTF-8 behind.
        std::str::from_utf8(self.bytes.get(place)?).ok()
    }

    #[inline]
    pub(crate) fn command(&self, entry: Entry) -> CommandType {
        self.layout(entry.layout).map_or(CommandType::Unknown, |layout| layout.command)
    }

    #[inline]
    pub(crate) fn payload(&self, entry: Entry) -> &[u8] {
        self.bytes.get(entry.body as usize..entry.end as usize).unwrap_or_default()
    }

    /// A block of its own that holds a copy of this message and nothing else, and the message's place in it.
    pub(crate) fn detach(&self, entry: Entry) -> (Block, Entry) {
        let mut copy = Block::default().received_by(self.receiver.clone());
        let mut place = Entry { head: 0, layout: 0, ..entry };
        if let Some(layout) = self.layout(entry.layout) {
            let mut copied = *layout;
            copied.own = copy.copy_spans(self.spans_of(layout.own));
            copied.outer = copy.copy_spans(self.spans_of(layout.outer));
            copy.layouts.push(copied);
            if entry.is_record() {
                copy.sow_headers.push_str(self.values(entry.head, layout.own));
                place.outer = copy.sow_headers.len() as u32;
                copy.sow_headers.push_str(self.values(entry.outer, layout.outer));
            }
        }
        if !entry.is_record() {
            let header = self.bytes.get(entry.head as usize..entry.body as usize);
            copy.bytes.extend_from_slice(header.unwrap_or_default());
        }
        place.body = copy.bytes.len() as u32;
        copy.bytes.extend_from_slice(self.payload(entry));
        place.end = copy.bytes.len() as u32;
        copy.entries.push(place);
        (copy, place)
    }

    fn copy_spans(&mut self, spans: &[Span]) -> Run {
        let run = Run { first: self.spans.len() as u32, count: spans.len() as u8 };
        self.spans.extend_from_slice(spans);
        run
    }

    /// The part of a header of a `sow` frame that holds the values of a run.
    fn values(&self, header: u32, run: Run) -> &str {
        let length = self.spans_of(run).iter().map(|span| span.end()).max().unwrap_or_default();
        self.sow_headers.get(header as usize..header as usize + length).unwrap_or_default()
    }
}

impl Entry {
    /// True for the outer header of a `sow` frame as well as for a plain message; false for a record.
    #[inline]
    pub(crate) fn is_record(self) -> bool {
        self.outer != NO_OUTER
    }

    /// True if the header is byte for byte that of the entry before, so that the same routes apply.
    #[inline]
    pub(crate) fn is_repeated(self) -> bool {
        self.layout & REPEATED != 0
    }

    /// The bytes of the header of a plain message, those skipped before it included.
    #[cfg(any(feature = "testing", test))]
    pub(crate) fn header_length(self) -> usize {
        debug_assert!(!self.is_record());
        (self.body - self.head) as usize
    }
}

/// Reads the record header at the start of `rest`: its length, and that of the payload behind it.
#[inline]
fn record(rest: &mut [u8], reader: &mut HeaderReader) -> Result<(usize, usize), WireError> {
    let HeaderReader { scan, records, .. } = reader;
    let length = match records.fits(rest) {
        Some(length) => length,
        None => {
            let length = grammar::parse(rest, scan)?;
            records.observe(CommandType::Sow, rest.get(..length).unwrap_or_default(), scan);
            length
        }
    };
    let span = records.message_length().ok_or(WireError::NoRecordLength)?;
    let digits = rest.get(span.start()..span.end()).unwrap_or_default();
    let size = decimal(digits).ok_or(WireError::NoRecordLength)?;
    match usize::try_from(size) {
        Ok(bytes) if bytes <= rest.len() - length => Ok((length, bytes)),
        _ => Err(WireError::RecordTooLong(size)),
    }
}

/// A decimal number of digits only; `None` for anything else or above `u64`.
#[inline]
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    // So many digits cannot overflow.
    let (safe, rest) = digits.split_at(digits.len().min(19));
    let mut value = 0_u64;
    for byte in safe {
        value = value * 10 + digit(*byte)?;
    }
    rest.iter().try_fold(value, |value, byte| value.checked_mul(10)?.checked_add(digit(*byte)?))
}

#[inline]
fn digit(byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit <= 9).then_some(u64::from(digit))
}

#[cfg(test)]
mod tests;
