//! Names of fields: `/order/price`, `/legs/price[0]`, `[/any text]`.

/// The name of a field in a payload, and of one element when the field is an array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identifier {
    path: String,
    index: Option<usize>,
}

impl Identifier {
    /// Reads an identifier that is the whole of `text`.
    pub(crate) fn parse(text: &str) -> Option<Identifier> {
        Some(Identifier { path: text.strip_prefix('/')?.to_owned(), index: None })
    }
}
