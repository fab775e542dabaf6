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
use std::sync::Arc;

use super::fields::{CommandType, Field};
use super::grammar::{self, FieldSet, HeaderError, HeaderScan, Span};
use super::shape::Prediction;

/// Bytes received, and what was found in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    layouts: Vec<Layout>,
    spans: Vec<Span>,
    receiver: Option<Receiver>,
}

/// Whoever has received a block. What that is, is the business of others.
pub(crate) type Receiver = Arc<dyn Any + Send + Sync>;

/// One message within a block: a slice of its bytes and the shape of its header.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Entry {
    head: u32,
    body: u32,
    end: u32,
    layout: u32,
    /// The entry of the outer header if this is a record of a `sow` frame, [`NO_OUTER`] otherwise.
    outer: u32,
}

const NO_OUTER: u32 = u32::MAX;
/// In `Entry::layout`: the header is byte for byte that of the entry before.
const REPEATED: u32 = 1 << 31;

/// The shape of a header: its command, and a run of `Block::spans`.
#[derive(Debug, Clone, Copy)]
struct Layout {
    first: u32,
    count: u16,
    command: CommandType,
    fields: FieldSet,
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
    pub(crate) fn move_to_front(&mut self, range: std::ops::Range<usize>) {
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
        self.layouts.clear();
        self.spans.clear();
        reader.frames.layout = None;
        reader.records.layout = None;
        let filled = filled.min(self.bytes.len());
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

    /// The records of a `sow` frame, whose outer header ends at `at` (`wire-protocol` 6.2).
    fn records(
        &mut self,
        head: usize,
        mut at: usize,
        end: usize,
        layout: u32,
        reader: &mut HeaderReader,
    ) -> Result<(), WireError> {
        let outer = self.entries.len();
        self.push(head, at, at, layout, NO_OUTER);
        while at < end {
            let rest = self.bytes.get_mut(at..end).unwrap_or_default();
            if rest.first() != Some(&b'{') && rest.iter().all(u8::is_ascii_whitespace) {
                break;
            }
            match record(rest, reader) {
                Ok((length, size)) => {
                    let layout = self.predicted_layout(&mut reader.records);
                    self.push(at, at + length, at + length + size, layout, outer as u32);
                    at += length + size;
                }
                Err(error) => {
                    // Nothing of a corrupt frame is delivered.
                    self.entries.truncate(outer);
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
        let first = self.spans.len() as u32;
        let spans = prediction.spans();
        self.spans.extend_from_slice(spans);
        // At most one span for each of the 37 fields.
        let (count, fields) = (spans.len() as u16, FieldSet::of(spans));
        self.layouts.push(Layout { first, count, command: prediction.command(), fields });
        let layout = (self.layouts.len() - 1) as u32;
        prediction.layout = Some(layout);
        layout
    }

    #[inline]
    fn spans_of(&self, layout: Layout) -> &[Span] {
        let first = layout.first as usize;
        self.spans.get(first..first + layout.count as usize).unwrap_or_default()
    }

    #[inline]
    fn layout_of(&self, entry: Entry) -> Layout {
        let index = (entry.layout & !REPEATED) as usize;
        self.layouts.get(index).copied().unwrap_or(Layout {
            first: 0,
            count: 0,
            command: CommandType::Unknown,
            fields: FieldSet::default(),
        })
    }

    /// The value of a field, decoded; `None` if it is absent or empty. A record falls back on its outer header.
    #[inline]
    pub(crate) fn field(&self, entry: Entry, field: Field) -> Option<&[u8]> {
        match self.own_field(entry, field) {
            None if entry.outer != NO_OUTER => {
                let outer = *self.entries.get(entry.outer as usize)?;
                self.own_field(outer, field)
            }
            found => found,
        }
    }

    #[inline]
    fn own_field(&self, entry: Entry, field: Field) -> Option<&[u8]> {
        let layout = self.layout_of(entry);
        if !layout.fields.has(field) {
            return None;
        }
        let span = self.spans_of(layout).iter().find(|span| span.is(field))?;
        let head = entry.head as usize;
        let value = self.bytes.get(head + span.start()..head + span.end())?;
        (!value.is_empty()).then_some(value)
    }

    #[inline]
    pub(crate) fn command(&self, entry: Entry) -> CommandType {
        self.layout_of(entry).command
    }

    #[inline]
    pub(crate) fn payload(&self, entry: Entry) -> &[u8] {
        self.bytes.get(entry.body as usize..entry.end as usize).unwrap_or_default()
    }

    /// A block of its own that holds a copy of this message and nothing else, and the message's place in it.
    pub(crate) fn detach(&self, entry: Entry) -> (Block, Entry) {
        let mut copy = Block::default().received_by(self.receiver.clone());
        let mut entry = entry;
        if let Some(outer) = self.entries.get(entry.outer as usize) {
            entry.outer = 0;
            let outer = copy.adopt(self, *outer);
            copy.entries.push(outer);
        }
        let entry = copy.adopt(self, entry);
        copy.entries.push(entry);
        (copy, entry)
    }

    /// Copies the bytes and the layout of one entry.
    fn adopt(&mut self, from: &Block, entry: Entry) -> Entry {
        let layout = from.layout_of(entry);
        let first = self.spans.len() as u32;
        self.spans.extend_from_slice(from.spans_of(layout));
        self.layouts.push(Layout { first, ..layout });
        let head = self.bytes.len() as u32;
        let bytes = from.bytes.get(entry.head as usize..entry.end as usize).unwrap_or_default();
        self.bytes.extend_from_slice(bytes);
        Entry {
            head,
            body: head + (entry.body - entry.head),
            end: head + (entry.end - entry.head),
            layout: (self.layouts.len() - 1) as u32,
            outer: entry.outer,
        }
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

    /// The bytes of the header, those skipped before it included.
    #[cfg(any(feature = "testing", test))]
    pub(crate) fn header_length(self) -> usize {
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
    let is_length = |s: &&Span| s.is(Field::MessageLength);
    let span = records.spans().iter().find(is_length).ok_or(WireError::NoRecordLength)?;
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
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { value.checked_mul(10)?.checked_add(u64::from(digit)) }
    })
}

#[cfg(test)]
mod tests {
    use super::super::MAX_FRAME;
    use super::*;

    fn framed(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            out.extend_from_slice(&(body.len() as u32).to_be_bytes());
            out.extend_from_slice(body);
        }
        out
    }

    fn walked(bytes: &[u8]) -> (Block, Walk) {
        let mut block = Block::with_capacity(bytes.len());
        block.copy_to_front(bytes);
        let walk = block.walk(bytes.len(), MAX_FRAME, &mut HeaderReader::default());
        (block, walk)
    }

    /// Command, topic, key and payload of every message.
    fn found(block: &Block) -> Vec<(CommandType, String, String, Vec<u8>)> {
        let text = |e, f| String::from_utf8(block.field(e, f).unwrap_or_default().to_vec()).unwrap();
        let messages =
            block.entries().iter().filter(|e| e.is_record() || block.command(**e) != CommandType::Sow);
        messages
            .map(|e| {
                (
                    block.command(*e),
                    text(*e, Field::Topic),
                    text(*e, Field::SowKey),
                    block.payload(*e).to_vec(),
                )
            })
            .collect()
    }

    const SOW: &[u8] =
        br#"{"c":"sow","t":"orders","query_id":"auto7","bs":2}{"k":"111","l":8}{"id":1}{"k":"222","l":9,"x":"abc"}{"id":22}"#;

    /// `wire-protocol` section 16, example 21, and 6.2: records start from a fresh copy of the outer header.
    #[test]
    fn a_sow_frame_holds_one_message_per_record() {
        let (block, walk) = walked(&framed(&[SOW]));
        assert_eq!(walk.error, None);
        let entries = block.entries();
        assert_eq!(entries.len(), 3);
        assert_eq!(found(&block).len(), 2);
        assert_eq!(block.payload(entries[2]), br#"{"id":22}"#);
        assert_eq!(block.field(entries[2], Field::CorrelationId), Some(&b"abc"[..]));
        assert_eq!(block.field(entries[1], Field::CorrelationId), None);
        assert_eq!(block.field(entries[1], Field::QueryId), Some(&b"auto7"[..]));
    }

    #[test]
    fn an_x_of_one_record_does_not_leak_into_the_next() {
        let body = br#"{"c":"sow","query_id":"q"}{"k":"1","l":1,"x":"a"}1{"k":"2","l":1}2"#;
        let (block, _) = walked(&framed(&[body]));
        assert_eq!(block.field(block.entries()[2], Field::CorrelationId), None);
    }

    #[test]
    fn a_newline_between_records_and_an_empty_payload_are_legal() {
        let (block, walk) = walked(&framed(&[b"{\"c\":\"sow\"}{\"l\":0}\n{\"l\":2}ab\n"]));
        assert_eq!(walk.error, None);
        assert_eq!(
            found(&block).iter().map(|m| m.3.clone()).collect::<Vec<_>>(),
            [b"".to_vec(), b"ab".to_vec()]
        );
    }

    #[test]
    fn corrupt_frames_end_the_walk_and_deliver_nothing_of_themselves() {
        let good = br#"{"c":"p","t":"t"}x"#;
        let broken: &[(&[u8], WireError)] = &[
            (b"abc", WireError::Header(HeaderError::Missing)),
            (b"{}", WireError::NoCommand),
            (b"{\"t\":\"x\"}", WireError::NoCommand),
            (b"{\"c\":\"sow\"}abc", WireError::Header(HeaderError::Missing)),
            (b"{\"c\":\"sow\"}{\"l\":1}a{\"k\":\"1\"}a", WireError::NoRecordLength),
            (b"{\"c\":\"sow\"}{\"l\":\"x\"}a", WireError::NoRecordLength),
            (b"{\"c\":\"sow\"}{\"l\":9}a", WireError::RecordTooLong(9)),
            (b"{\"c\":\"sow\"}{\"l\":18446744073709551615}a", WireError::RecordTooLong(u64::MAX)),
        ];
        for (bad, error) in broken {
            let (block, walk) = walked(&framed(&[good, bad, good]));
            assert_eq!(walk.error.as_ref(), Some(error));
            assert_eq!(found(&block).len(), 1);
            assert_eq!(walk.consumed, 4 + good.len());
        }
    }

    /// `wire-protocol` 2.2.
    #[test]
    fn a_length_above_the_limit_is_an_error_and_a_zero_length_is_skipped() {
        let (_, walk) = walked(&[0x80, 0, 0, 0]);
        assert_eq!(walk.error, Some(WireError::FrameTooLong(0x8000_0000, MAX_FRAME)));
        let (block, walk) = walked(&framed(&[b"", br#"{"c":"p"}"#, b"", b"", br#"{"c":"p"}"#]));
        assert_eq!((found(&block).len(), walk.error), (2, None));
    }

    #[test]
    fn an_incomplete_frame_says_how_long_it_will_be() {
        let whole = framed(&[br#"{"c":"p","t":"a"}x"#, br#"{"c":"p","t":"b"}"#]);
        let first = 4 + 18;
        for cut in first..whole.len() {
            let (block, walk) = walked(&whole[..cut]);
            assert_eq!((walk.consumed, found(&block).len()), (first, 1), "{cut}");
            assert_eq!(walk.wanted, if cut < first + 4 { 0 } else { 4 + 17 });
        }
    }

    #[test]
    fn a_repeated_header_is_recognised_only_if_every_byte_is_the_same() {
        let a = br#"{"c":"p","t":"a","sids":"1"}first"#;
        let b = br#"{"c":"p","t":"a","sids":"1"}{"c":"p"}"#;
        let c = br#"{"c":"p","t":"b","sids":"1"}third"#;
        let (block, _) = walked(&framed(&[a, b, c, a]));
        let repeated: Vec<_> = block.entries().iter().map(|e| e.is_repeated()).collect();
        assert_eq!(repeated, [false, true, false, false]);
        let topics: Vec<_> = found(&block).into_iter().map(|m| m.1).collect();
        assert_eq!(topics, ["a", "a", "b", "a"]);
        assert_eq!(block.payload(block.entries()[1]), br#"{"c":"p"}"#);
        assert_eq!(block.layouts.len(), 1, "one shape");
    }

    #[test]
    fn headers_of_one_shape_and_different_commands_are_told_apart() {
        let (block, _) = walked(&framed(&[br#"{"c":"oof","t":"a"}"#, br#"{"c":"ack","t":"a"}"#]));
        let commands: Vec<_> = block.entries().iter().map(|e| block.command(*e)).collect();
        assert_eq!(commands, [CommandType::Oof, CommandType::Ack]);
    }

    #[test]
    fn a_header_rewritten_by_its_escapes_is_not_compared_with() {
        let raw = br#"{"c":"p","t":"a\"b"}x"#;
        let (block, _) = walked(&framed(&[raw, raw]));
        assert!(!block.entries()[1].is_repeated());
        assert_eq!(found(&block)[1].1, "a\"b");
    }

    /// Splitting changes nothing: what follows an incomplete frame is found by the next walk.
    #[test]
    fn every_split_of_a_stream_gives_the_same_messages() {
        let stream = framed(&[
            br#"{"c":"p","t":"a","sids":"1"}one"#,
            br#"{"c":"p","t":"a","sids":"1"}two"#,
            SOW,
            b"",
            br#"{"c":"oof","t":"b\\c","k":"9"}"#,
            br#"{"c":"p","t":"a","sids":"1"}three"#,
        ]);
        let whole = found(&walked(&stream).0);
        assert_eq!(whole.len(), 6);
        for cut in 0..=stream.len() {
            let (block, walk) = walked(&stream[..cut]);
            let mut got = found(&block);
            got.extend(found(&walked(&stream[walk.consumed..]).0));
            assert_eq!(got, whole, "cut at {cut}");
        }
    }
}
