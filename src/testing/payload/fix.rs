//! FIX and NVFIX payloads: fields `tag=value` between separators (P-9), and their deltas (U-5, B-9).

use std::collections::{HashMap, HashSet};

use super::{Difference, Identifier};
use crate::testing::value::Value;

/// The fields of one payload, in its order.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    fields: Vec<Field<'a>>,
    separator: u8,
    /// True if the last field is followed by a separator too.
    is_closed: bool,
}

/// One field as it is written, and where its tag ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field<'a> {
    text: &'a [u8],
    tag: &'a [u8],
    value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// FIX: every tag is a number. `None` if a field is not of the form, or there is none.
    pub(super) fn parse_fix(bytes: &'a [u8], separator: u8) -> Option<Fields<'a>> {
        Fields::parse(bytes, separator, |tag| tag.iter().all(u8::is_ascii_digit))
    }

    /// NVFIX: tags are of any bytes.
    pub(super) fn parse_nvfix(bytes: &'a [u8], separator: u8) -> Option<Fields<'a>> {
        Fields::parse(bytes, separator, |_| true)
    }

    fn parse(bytes: &'a [u8], separator: u8, is_tag: impl Fn(&[u8]) -> bool) -> Option<Fields<'a>> {
        let texts = bytes.split(|b| *b == separator).filter(|text| !text.is_empty());
        let field = |text| Field::read(text).filter(|field| !field.tag.is_empty() && is_tag(field.tag));
        let fields: Vec<Field<'a>> = texts.map(field).collect::<Option<_>>()?;
        let is_closed = bytes.last() == Some(&separator);
        (!fields.is_empty()).then_some(Fields { fields, separator, is_closed })
    }

    /// The values of a tag, in order: a repeated tag is an array.
    pub(super) fn values(&self, identifier: &Identifier) -> Vec<Value<'a>> {
        let tag = identifier.path().as_bytes();
        self.fields.iter().filter(|field| field.tag == tag).map(|field| Value::guess(field.value)).collect()
    }

    /// The record after `delta`: a tag of the delta takes the place of all its occurrences, new tags go to the end.
    pub(super) fn merge(&self, delta: &Fields<'a>) -> Vec<u8> {
        let mut changes = delta.by_tag();
        let changed: HashSet<_> = changes.keys().copied().collect();
        let mut merged = Vec::new();
        for field in &self.fields {
            match changes.remove(field.tag) {
                Some(new) => merged.extend(new),
                None if changed.contains(field.tag) => {}
                None => merged.push(*field),
            }
        }
        merged.extend(delta.fields.iter().filter(|field| changes.contains_key(field.tag)));
        self.join(merged)
    }

    /// The fields of `new` whose tag has other values here, and those of the keys.
    pub(super) fn difference(&self, new: &Fields<'a>, keys: &[Identifier]) -> Difference {
        let (before, now) = (self.by_tag(), new.by_tag());
        let keys: HashSet<_> = keys.iter().map(|key| key.path().as_bytes()).collect();
        let changed = |tag| before.get(tag) != now.get(tag);
        let shown = new.fields.iter().copied().filter(|field| keys.contains(field.tag) || changed(field.tag));
        Difference {
            payload: new.join(shown.collect()),
            changed: new.fields.iter().any(|field| changed(field.tag)),
        }
    }

    fn by_tag(&self) -> HashMap<&'a [u8], Vec<Field<'a>>> {
        let mut tags: HashMap<_, Vec<_>> = HashMap::new();
        for field in &self.fields {
            tags.entry(field.tag).or_default().push(*field);
        }
        tags
    }

    fn join(&self, fields: Vec<Field<'_>>) -> Vec<u8> {
        let texts: Vec<_> = fields.into_iter().map(|field| field.text).collect();
        let mut joined = texts.join(&self.separator);
        if self.is_closed && !joined.is_empty() {
            joined.push(self.separator);
        }
        joined
    }
}

impl<'a> Field<'a> {
    fn read(text: &'a [u8]) -> Option<Field<'a>> {
        let (tag, value) = text.split_at_checked(memchr::memchr(b'=', text)?)?;
        Some(Field { text, tag, value: value.get(1..)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::value::Number;

    fn fix(text: &str) -> Option<Fields<'_>> {
        Fields::parse_fix(text.as_bytes(), b'|')
    }

    fn nvfix(text: &str) -> Option<Fields<'_>> {
        Fields::parse_nvfix(text.as_bytes(), b'|')
    }

    /// P-9.
    #[test]
    fn tags_are_identifiers_and_values_are_guessed() {
        let fields = fix("35=D|38=100|44=10.50|448=A|58=|448=7|1=007|2=a=b|").unwrap();
        let cases: [(&str, Vec<Value<'_>>); 9] = [
            ("/35", vec![Value::string(b"D".as_slice())]),
            ("/38", vec![Value::Number(Number::Integer(100), Some(b"100"))]),
            ("/44", vec![Value::Number(Number::Float(10.5), Some(b"10.50"))]),
            ("/448", vec![Value::string(b"A".as_slice()), Value::Number(Number::Integer(7), Some(b"7"))]),
            ("/58", vec![Value::Null]),
            ("/1", vec![Value::Number(Number::Integer(7), Some(b"007"))]),
            ("/2", vec![Value::string(b"a=b".as_slice())]),
            ("/99", vec![]),
            ("/35/1", vec![]),
        ];
        for (identifier, expected) in cases {
            assert_eq!(fields.values(&Identifier::parse(identifier).unwrap()), expected, "{identifier}");
        }
    }

    /// P-9: NVFIX tags are any bytes without `=` and separator.
    #[test]
    fn nvfix_tags_are_any_text() {
        let fields = nvfix("sym=IBM|order/leg 1=2|").unwrap();
        let values = |identifier| fields.values(&Identifier::parse(identifier).unwrap());
        assert_eq!(values("/sym"), [Value::string(b"IBM".as_slice())]);
        assert_eq!(values("[/order/leg 1]"), [Value::guess(b"2")]);
    }

    /// P-7, P-9.
    #[test]
    fn a_payload_without_fields_of_the_form_is_not_read() {
        for text in ["", "|", "||", "x", "=1", "35", "35=D|x|", "35=D||=|"] {
            assert!(fix(text).is_none(), "fix {text:?}");
            assert!(nvfix(text).is_none(), "nvfix {text:?}");
        }
        for text in ["a=1", "35=D|x=1", r#"{"id":"="}"#] {
            assert!(fix(text).is_none(), "fix {text:?}");
            assert!(nvfix(text).is_some(), "nvfix {text:?}");
        }
        for text in ["35=D", "|35=D||49=|"] {
            assert!(fix(text).is_some(), "fix {text:?}");
        }
    }

    /// U-5.
    #[test]
    fn a_delta_replaces_all_occurrences_of_its_tags_in_place() {
        let cases = [
            ("35=D|38=1|44=2|", "38=5|", "35=D|38=5|44=2|"),
            ("35=D|38=1", "38=5|", "35=D|38=5"),
            ("35=D|38=1|", "38=5", "35=D|38=5|"),
            ("1=a|2=b|1=c|3=d|1=e|", "1=x|", "1=x|2=b|3=d|"),
            ("1=a|2=b|1=c|", "1=x|1=y|1=z|", "1=x|1=y|1=z|2=b|"),
            ("1=a|", "9=n|1=b|8=m|9=o|", "1=b|9=n|8=m|9=o|"),
            ("1=a|", "1=|", "1=|"),
            ("1=a|2=b|", "1=a|", "1=a|2=b|"),
        ];
        for (old, delta, expected) in cases {
            let merged = fix(old).unwrap().merge(&fix(delta).unwrap());
            assert_eq!(String::from_utf8(merged).unwrap(), expected, "{delta} into {old}");
        }
    }

    /// B-9.
    #[test]
    fn a_difference_shows_keys_and_changed_tags() {
        let cases: [(&str, &str, &[&str], &str, bool); 8] = [
            ("1=k|2=a|3=b|", "1=k|2=x|3=b|", &["/1"], "1=k|2=x|", true),
            ("1=k|2=a|3=b|", "1=k|2=a|3=b|", &["/1"], "1=k|", false),
            ("1=k|2=a|", "1=k|2=a|", &[], "", false),
            ("1=k|2=a", "1=k|2=x", &["/1"], "1=k|2=x", true),
            ("1=k|2=a|2=b|", "1=k|2=a|2=c|", &[], "2=a|2=c|", true),
            ("1=k|2=a|", "9=n|1=k|2=a|", &["/1"], "9=n|1=k|", true),
            ("1=k|2=a|", "1=k|", &["/1"], "1=k|", false),
            ("1=7|", "1=007|", &[], "1=007|", true),
        ];
        for (old, new, keys, expected, changed) in cases {
            let keys: Vec<_> = keys.iter().filter_map(|key| Identifier::parse(key)).collect();
            let found = fix(old).unwrap().difference(&fix(new).unwrap(), &keys);
            let expected = Difference { payload: expected.into(), changed };
            assert_eq!(found, expected, "from {old} to {new}, keys {keys:?}");
        }
    }
}
