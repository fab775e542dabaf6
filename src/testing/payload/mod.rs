//! Message bodies as fields: what a filter, a key, an order or a delta sees of a payload.

mod fix;
mod identifier;
mod json;
mod json_delta;

use std::cell::OnceCell;

pub(crate) use identifier::Identifier;

use super::value::Value;

/// A message type, as far as its payload is concerned (P-6).
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
            PayloadType::Json | PayloadType::Binary => self,
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
    content: OnceCell<Content<'a>>,
}

impl<'a> Document<'a> {
    pub(crate) fn new(payload_type: PayloadType, bytes: &'a [u8]) -> Document<'a> {
        Document { payload_type, bytes, content: OnceCell::new() }
    }

    /// The values of a field in document order, or the one its index names; none if it is absent or the payload
    /// cannot be read.
    pub(crate) fn values(&self, identifier: &Identifier) -> Vec<Value<'a>> {
        let values = match self.content() {
            Content::Json(json) => json.values(identifier),
            Content::Fields(fields) => fields.values(identifier),
            Content::Unreadable => Vec::new(),
        };
        match identifier.index() {
            Some(index) => values.into_iter().skip(index).take(1).collect(),
            None => values,
        }
    }

    /// The first value of a field, NULL if it has none (F-12).
    pub(crate) fn value(&self, identifier: &Identifier) -> Value<'a> {
        self.values(identifier).into_iter().next().unwrap_or(Value::Null)
    }

    /// True if the payload has fields: it is of its type's form, and the type is not binary.
    pub(crate) fn is_readable(&self) -> bool {
        !matches!(self.content(), Content::Unreadable)
    }

    fn content(&self) -> &Content<'a> {
        self.content.get_or_init(|| Content::read(self.payload_type, self.bytes))
    }
}

/// A payload taken apart.
#[derive(Debug)]
enum Content<'a> {
    Json(json::Json<'a>),
    Fields(fix::Fields<'a>),
    Unreadable,
}

impl<'a> Content<'a> {
    fn read(payload_type: PayloadType, bytes: &'a [u8]) -> Content<'a> {
        let content = match payload_type {
            PayloadType::Json => json::Json::parse(bytes).map(Content::Json),
            PayloadType::Fix { separator } => fix::Fields::parse_fix(bytes, separator).map(Content::Fields),
            PayloadType::Nvfix { separator } => {
                fix::Fields::parse_nvfix(bytes, separator).map(Content::Fields)
            }
            PayloadType::Binary => None,
        };
        content.unwrap_or(Content::Unreadable)
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

/// The record after `delta` was published to it (U-5), or `None` if the type has no deltas (U-6) or one of the
/// payloads cannot be read: the delta is then an ordinary publish.
pub(crate) fn merge(payload_type: PayloadType, old: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    match (Content::read(payload_type, old), Content::read(payload_type, delta)) {
        (Content::Json(old), Content::Json(delta)) => json_delta::merge(&old, &delta),
        (Content::Fields(old), Content::Fields(delta)) => Some(old.merge(&delta)),
        _ => None,
    }
}

/// What an update changed, for a delta subscriber (B-9). `keys` are the fields sent in any case: none without
/// `send_keys`. A payload without fields is sent whole and counts as changed.
pub(crate) fn difference(
    payload_type: PayloadType,
    old: &[u8],
    new: &[u8],
    keys: &[Identifier],
) -> Difference {
    let found = match (Content::read(payload_type, old), Content::read(payload_type, new)) {
        (Content::Json(old), Content::Json(new)) => json_delta::difference(&old, &new, keys),
        (Content::Fields(old), Content::Fields(new)) => Some(old.difference(&new, keys)),
        _ => None,
    };
    found.unwrap_or_else(|| Difference { payload: new.to_vec(), changed: true })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::garbage;

    const FIX: PayloadType = PayloadType::Fix { separator: 1 };
    const NVFIX: PayloadType = PayloadType::Nvfix { separator: 1 };

    fn identifier(text: &str) -> Identifier {
        Identifier::parse(text).unwrap()
    }

    fn texts(payload_type: PayloadType, payload: &[u8], field: &str) -> Vec<String> {
        let document = Document::new(payload_type, payload);
        let values = document.values(&identifier(field));
        values
            .iter()
            .map(|value| String::from_utf8(value.text().unwrap_or_default().into()).unwrap())
            .collect()
    }

    /// P-6.
    #[test]
    fn message_types_have_payload_types() {
        assert_eq!(PayloadType::of("json"), Some(PayloadType::Json));
        assert_eq!(PayloadType::of("fix"), Some(FIX));
        assert_eq!(PayloadType::of("nvfix"), Some(NVFIX));
        assert_eq!(PayloadType::of("binary"), Some(PayloadType::Binary));
        for unknown in ["", "JSON", "xml", "composite-local"] {
            assert_eq!(PayloadType::of(unknown), None, "{unknown}");
        }
    }

    /// P-8, P-9, F-12.
    #[test]
    fn a_field_is_read_from_every_type_that_has_fields() {
        let cases: [(PayloadType, &[u8], &str, &[&str]); 12] = [
            (PayloadType::Json, br#"{"a":[1,2],"b":"x"}"#, "/a", &["1", "2"]),
            (PayloadType::Json, br#"{"a":[1,2],"b":"x"}"#, "/a[1]", &["2"]),
            (PayloadType::Json, br#"{"a":[1,2],"b":"x"}"#, "/a[2]", &[]),
            (PayloadType::Json, br#"{"a":[1,2],"b":"x"}"#, "/b[0]", &["x"]),
            (PayloadType::Json, br#"{"a":[1,2],"b":"x"}"#, "/b[1]", &[]),
            (PayloadType::Json, br#"{"a":[{"v":1},{"v":9}]}"#, "/a/v[1]", &["9"]),
            (FIX, b"35=D\x0155=a\x0155=b\x01", "/55", &["a", "b"]),
            (FIX, b"35=D\x0155=a\x0155=b\x01", "/55[1]", &["b"]),
            (FIX, b"35=D|55=a", "/55", &[]),
            (FIX.with_separator(b'|'), b"35=D|55=a", "/55", &["a"]),
            (NVFIX.with_separator(b'|'), b"sym=a|", "/sym", &["a"]),
            (PayloadType::Json.with_separator(b'|'), br#"{"a":"b|c"}"#, "/a", &["b|c"]),
        ];
        for (payload_type, payload, field, expected) in cases {
            assert_eq!(
                texts(payload_type, payload, field),
                expected,
                "{field} of {}",
                payload.escape_ascii()
            );
        }
    }

    /// P-7, P-10.
    #[test]
    fn every_field_of_an_unreadable_payload_is_null() {
        let cases: [(PayloadType, &[u8]); 5] = [
            (PayloadType::Json, b"{\"a\":1"),
            (PayloadType::Json, b"35=D\x01"),
            (FIX, b"{\"a\":1}"),
            (NVFIX, b"a"),
            (PayloadType::Binary, b"{\"a\":1}"),
        ];
        for (payload_type, payload) in cases {
            let document = Document::new(payload_type, payload);
            assert!(!document.is_readable(), "{payload_type:?}");
            assert!(document.values(&identifier("/a")).is_empty(), "{payload_type:?}");
            assert!(document.value(&identifier("/a")).is_null(), "{payload_type:?}");
        }
        assert!(Document::new(PayloadType::Json, b"{}").is_readable());
    }

    /// U-4, U-6.
    #[test]
    fn a_delta_that_cannot_merge_is_left_to_an_ordinary_publish() {
        let cases: [(PayloadType, &[u8], &[u8]); 4] = [
            (PayloadType::Binary, b"old", b"delta"),
            (PayloadType::Json, b"{\"a\":1}", b"{\"a\":"),
            (PayloadType::Json, b"x", b"{}"),
            (FIX, b"1=a\x01", b"a=1\x01"),
        ];
        for (payload_type, old, delta) in cases {
            assert_eq!(merge(payload_type, old, delta), None, "{payload_type:?}");
            let whole = Difference { payload: delta.to_vec(), changed: true };
            assert_eq!(difference(payload_type, old, delta, &[]), whole, "{payload_type:?}");
        }
        assert!(!PayloadType::Binary.has_deltas());
        assert!(PayloadType::Json.has_deltas() && FIX.has_deltas() && NVFIX.has_deltas());
    }

    /// The table of 17.3, with U-5 and B-9: what is stored, what a delta subscriber gets, and whether that is anything
    /// under `no_empties`.
    #[test]
    fn a_record_goes_through_publishes_and_deltas() {
        let steps: [(bool, &str, &str, &str, bool); 4] = [
            (
                false,
                r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#,
                r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#,
                r#"{"id":1,"a":2}"#,
                true,
            ),
            (
                false,
                r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#,
                r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#,
                r#"{"id":1}"#,
                false,
            ),
            (
                true,
                r#"{"id":1,"b":{"c":5},"arr":[9]}"#,
                r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9]}"#,
                r#"{"id":1,"b":{"c":5},"arr":[9]}"#,
                true,
            ),
            (
                true,
                r#"{"id":1,"a":null}"#,
                r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9]}"#,
                r#"{"id":1}"#,
                false,
            ),
        ];
        let keys = [identifier("/id")];
        let mut stored = br#"{"id":1,"a":1,"b":{"c":1,"d":2},"arr":[1,2,3]}"#.to_vec();
        for (is_delta, published, expected, told, changed) in steps {
            let new = match is_delta {
                true => merge(PayloadType::Json, &stored, published.as_bytes()).unwrap(),
                false => published.into(),
            };
            assert_eq!(String::from_utf8_lossy(&new), expected, "after {published}");
            let found = difference(PayloadType::Json, &stored, &new, &keys);
            assert_eq!(found, Difference { payload: told.into(), changed }, "after {published}");
            stored = new;
        }
    }
    /// Whatever the bytes, a payload is read or it is not, as `serde_json` has it, and two of them merge or differ.
    #[test]
    fn garbage_never_panics() {
        const WORDS: [&str; 32] = [
            "{",
            "}",
            "{\"a\":",
            "{\"a\":1}",
            "[",
            "]",
            "[[",
            "]]",
            ",",
            ":",
            "\"",
            "\"a\"",
            "\"b\"",
            "\"\\u0061\"",
            "\\",
            "1",
            "-0.5e3",
            "null",
            "true",
            "\"\"",
            "é",
            "\u{1}",
            "1=a\u{1}",
            "=",
            "b=2\u{1}",
            ",\"b\":2}",
            "],",
            "},",
            "{}",
            "[]",
            ":{",
            "\"c\":[",
        ];
        let keys = [identifier("/a"), identifier("/a/b[1]"), identifier("[/b/]")];
        let texts: Vec<_> =
            garbage::texts(0x5eed, &WORDS).take(20_000).chain(garbage::bytes(0x5eed).take(2_000)).collect();
        let mut readable = 0;
        for pair in texts.windows(2) {
            let (old, new) = (pair[0].as_bytes(), pair[1].as_bytes());
            for payload_type in [PayloadType::Json, FIX, NVFIX, PayloadType::Binary] {
                let document = Document::new(payload_type, old);
                keys.iter().for_each(|key| drop(document.values(key)));
                merge(payload_type, old, new);
                difference(payload_type, old, new, &keys);
                readable += usize::from(document.is_readable());
            }
            let is_json = serde_json::from_str::<serde_json::Value>(&pair[0]).is_ok();
            assert_eq!(Document::new(PayloadType::Json, old).is_readable(), is_json, "{:?}", pair[0]);
        }
        assert!(readable > 100, "few texts were readable: the words are badly chosen");
    }
}
