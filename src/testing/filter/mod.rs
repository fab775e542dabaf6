//! Content filters: the language in which a subscriber says which messages it wants.

use super::payload::Document;

/// A filter that compiled.
#[derive(Debug)]
pub(crate) struct Filter {}

impl Filter {
    /// Compiles a filter; `None` if it is empty or blank and so keeps everything (F-2).
    pub(crate) fn parse(text: &str) -> Result<Option<Filter>, BadFilter> {
        if text.trim().is_empty() { Ok(None) } else { Err(BadFilter { at: 0, problem: "not a filter" }) }
    }

    /// True if the filter's result for this payload is TRUE.
    pub(crate) fn matches(&self, _document: &Document<'_>) -> bool {
        false
    }
}

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad filter: {problem} at byte {at}")]
pub(crate) struct BadFilter {
    at: usize,
    problem: &'static str,
}
