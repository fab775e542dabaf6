//! Where the values of a header lie.

use super::fields::Field;

/// Where the value of one field lies, relative to the start of its header: eight bits of field, 28 each of start and
/// length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(u64);

const WIDTH: u32 = 28;
const MASK: u64 = (1 << WIDTH) - 1;

impl Span {
    /// The longest header that spans can address.
    pub(super) const LIMIT: usize = MASK as usize;

    /// The caller keeps `start` and `end` within [`Span::LIMIT`].
    #[inline]
    pub(super) fn new(field: Field, start: usize, end: usize) -> Span {
        Span((field as u64) << (2 * WIDTH) | (start as u64) << WIDTH | (end - start) as u64)
    }

    #[inline]
    fn field(self) -> u64 {
        self.0 >> (2 * WIDTH)
    }

    #[inline]
    pub(super) fn is(self, field: Field) -> bool {
        self.field() == field as u64
    }

    #[inline]
    pub(super) fn start(self) -> usize {
        (self.0 >> WIDTH & MASK) as usize
    }

    #[inline]
    pub(super) fn end(self) -> usize {
        self.start() + (self.0 & MASK) as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 & MASK == 0
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}..{}", self.field(), self.start(), self.end())
    }
}

/// Which span of a header is that of a field, without a search.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldIndex([u8; Field::ALL.len()]);

const ABSENT: u8 = u8::MAX;
/// Set in the position of a span of the outer header.
const OUTER: u8 = 0x40;
const _: () = assert!(Field::ALL.len() <= OUTER as usize);

impl Default for FieldIndex {
    fn default() -> FieldIndex {
        FieldIndex([ABSENT; _])
    }
}

impl FieldIndex {
    /// The index of a header with these spans, whose outer header has this index.
    pub(super) fn overlaid(mut self, spans: &[Span]) -> FieldIndex {
        // `ABSENT` has the bit already.
        self.0.iter_mut().for_each(|place| *place |= OUTER);
        // At most one span for each field.
        for (position, span) in spans.iter().enumerate() {
            if let Some(place) = self.0.get_mut(span.field() as usize) {
                *place = position as u8;
            }
        }
        self
    }

    /// The position of the span of a field, and whether it is one of the header itself or of its outer header.
    #[inline]
    pub(super) fn position(&self, field: Field) -> Option<(usize, bool)> {
        let place = self.0.get(field as usize).filter(|place| **place != ABSENT)?;
        Some((usize::from(place & !OUTER), place & OUTER == 0))
    }
}
