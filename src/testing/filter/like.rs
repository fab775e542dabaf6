//! The right side of `LIKE` (F-13).

use crate::testing::pattern::Pattern;

/// What a text is searched for.
#[derive(Debug)]
pub(super) enum Like {
    /// A regular expression.
    Pattern(Box<Pattern>),
    /// A raw string, literally and at any position (F-3).
    Text(Vec<u8>),
}

impl Like {
    /// Takes the text of a string literal as it stands in the filter: an expression has escapes of its own.
    pub(super) fn pattern(written: &str) -> Option<Like> {
        Pattern::compile(written).map(|pattern| Like::Pattern(Box::new(pattern)))
    }

    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Like::Pattern(pattern) => pattern.is_in(text),
            Like::Text(part) => memchr::memmem::find(text, part).is_some(),
        }
    }
}
