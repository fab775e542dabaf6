//! The order of a query's records: `orderby` (S-8).

use std::cmp::Ordering;

use super::payload::Document;

/// Fields to sort by, each in its direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderBy {}

impl OrderBy {
    /// Reads a comma list of identifiers with optional `ASC` or `DESC`.
    pub(crate) fn parse(_text: &str) -> Result<OrderBy, InvalidOrderBy> {
        Ok(OrderBy {})
    }

    /// Which record comes first; equal ones are left in the order of their age by a stable sort.
    pub(crate) fn compare(&self, _left: &Document<'_>, _right: &Document<'_>) -> Ordering {
        Ordering::Equal
    }
}

/// Why a text is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid order by: {problem} at byte {at}")]
pub(crate) struct InvalidOrderBy {
    at: usize,
    problem: &'static str,
}
