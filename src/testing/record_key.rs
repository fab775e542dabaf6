//! Keys of SOW records, computed from their key fields (S-1).

use super::payload::{Document, Identifier};

/// The key of the record that `document` belongs to, or `None` if it cannot be read (`bad sow key`).
///
/// `domain` is the topic name unless the topic sets another. Equal values in equal domains give equal keys, on every
/// instance and in every version. A missing field counts as an empty value, of an array the first element counts.
pub(crate) fn record_key(domain: &str, document: &Document<'_>, keys: &[Identifier]) -> Option<String> {
    if !document.is_readable() {
        return None;
    }
    let mut checksum = Checksum::new();
    checksum.add(domain.as_bytes());
    for key in keys {
        checksum.add(&document.value(key).text().unwrap_or_default());
    }
    Some(checksum.finish().to_string())
}

/// FNV-1a with a finaliser, so that every bit of a value reaches every bit of the key.
struct Checksum(u64);

impl Checksum {
    fn new() -> Checksum {
        Checksum(0xcbf2_9ce4_8422_2325)
    }

    /// The length closes a value: it separates also values that hold any byte a separator could be.
    fn add(&mut self, value: &[u8]) {
        for byte in value.iter().chain(&(value.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(self) -> u64 {
        let mixed = (self.0 ^ self.0 >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        mixed ^ mixed >> 33
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::payload::PayloadType;
    use super::*;

    fn key(domain: &str, payload: &str, fields: &[&str]) -> String {
        let keys: Vec<_> = fields.iter().map(|field| Identifier::parse(field).unwrap()).collect();
        record_key(domain, &Document::new(PayloadType::Json, payload.as_bytes()), &keys).unwrap()
    }

    /// S-1: these must never change, or records of an older version would get other keys.
    #[test]
    fn keys_stay_as_they_are() {
        assert_eq!(key("orders", r#"{"id":1}"#, &["/id"]), "6981116839365931520");
        assert_eq!(key("orders", r#"{"id":"a","side":"é"}"#, &["/id", "/side"]), "10206416286717987129");
        assert_eq!(key("orders", r#"{}"#, &["/id"]), "11454740562359231067");
    }

    /// S-1.
    #[test]
    fn a_key_depends_on_the_domain_and_the_key_values_alone() {
        let same = [
            r#"{"id":1,"x":2}"#,
            r#"{"x":5,"id":1}"#,
            r#"{"id":1}"#,
            r#"{"id":"1"}"#,
            r#"{"id":[1,2]}"#,
            r#" { "id" : 1 } "#,
        ];
        for payload in same {
            assert_eq!(key("orders", payload, &["/id"]), key("orders", same[0], &["/id"]), "{payload}");
        }
        assert_eq!(key("orders", r#"{"id":""}"#, &["/id"]), key("orders", "{}", &["/id"]));
        assert_ne!(key("orders", r#"{"id":1}"#, &["/id"]), key("trades", r#"{"id":1}"#, &["/id"]));
        assert_ne!(key("orders", r#"{"id":1}"#, &["/id"]), key("orders", r#"{"id":1.0}"#, &["/id"]));
    }

    /// S-1: values cannot run into each other, nor into the domain.
    #[test]
    fn different_values_give_different_keys() {
        let mut seen = HashSet::new();
        for (domain, a, b) in [
            ("t", "ab", "c"),
            ("t", "a", "bc"),
            ("t", "abc", ""),
            ("t", "", "abc"),
            ("ta", "b", "c"),
            ("t", "a\\u0001b", "c"),
            ("t", "a", "b\\u0001c"),
            ("t", "a\\u0000", "b"),
            ("t", "a", "\\u0000b"),
        ] {
            assert!(
                seen.insert(key(domain, &format!(r#"{{"a":"{a}","b":"{b}"}}"#), &["/a", "/b"])),
                "{a} {b}"
            );
        }
        for id in 0..10_000 {
            assert!(seen.insert(key("t", &format!(r#"{{"id":{id}}}"#), &["/id"])), "{id}");
        }
    }

    /// P-7, P-10.
    #[test]
    fn an_unreadable_payload_has_no_key() {
        let keys = [Identifier::parse("/id").unwrap()];
        for (payload_type, payload) in [(PayloadType::Json, "{\"id\":"), (PayloadType::Binary, "{\"id\":1}")]
        {
            assert_eq!(record_key("t", &Document::new(payload_type, payload.as_bytes()), &keys), None);
        }
    }
}
