//! Deltas of JSON payloads: merged into a record (U-5), and told from two forms of one (B-9).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::json::{Json, Node};
use super::{Difference, Identifier};

/// The record after the delta: the old text with the values of the delta put into it.
pub(super) fn merge(old: &Json<'_>, delta: &Json<'_>) -> Option<Vec<u8>> {
    let mut merged = Splice { old: old.text(), copied: 0, text: String::new() };
    merged.value(old.root()?, delta.root()?);
    Some(merged.finish().into_bytes())
}

/// The fields of `new` that `old` does not have like this, and the key fields.
pub(super) fn difference(old: &Json<'_>, new: &Json<'_>, keys: &[Identifier]) -> Option<Difference> {
    let (old, new) = (old.root()?, new.root()?);
    if !old.is_object() || !new.is_object() {
        return Some(Difference { payload: new.text().into(), changed: !same(Some(old), new) });
    }
    let mut text = String::new();
    let keys: Vec<&str> = keys.iter().map(Identifier::path).collect();
    let found = write_difference(&mut text, old, new, &keys);
    Some(Difference { payload: text.into_bytes(), changed: found.changed })
}

/// A text under change: what is left of the old one is copied as it stands.
struct Splice<'a> {
    old: &'a str,
    /// How far the old text has been dealt with.
    copied: usize,
    text: String,
}

impl Splice<'_> {
    /// A delta that is NULL changes nothing; two objects merge; anything else replaces the old value.
    fn value(&mut self, old: Node<'_, '_>, delta: Node<'_, '_>) {
        if old.is_object() && delta.is_object() {
            self.members(old, delta);
        } else if !delta.is_null() {
            self.copy_to(old.range().start);
            self.text.push_str(delta.text());
            self.copied = old.range().end;
        }
    }

    fn members(&mut self, old: Node<'_, '_>, delta: Node<'_, '_>) {
        let mut changes = first_members(delta);
        let mut end = old.range().start + 1;
        for member in old.children() {
            end = member.range().end;
            if let Some(change) = changes.remove(&member.key()) {
                self.value(member, change);
            }
        }
        self.copy_to(end);
        let mut is_first = old.children().next().is_none();
        for member in delta.children() {
            if changes.remove(&member.key()).is_some_and(|change| !change.is_null()) {
                push_key(&mut self.text, member, &mut is_first);
                self.text.push_str(member.text());
            }
        }
    }

    fn copy_to(&mut self, end: usize) {
        self.text.push_str(self.old.get(self.copied..end).unwrap_or_default());
        self.copied = self.copied.max(end);
    }

    fn finish(mut self) -> String {
        self.copy_to(self.old.len());
        self.text
    }
}

/// What came of comparing two objects.
#[derive(Default)]
struct Found {
    /// A value is new or differs.
    changed: bool,
    /// A member was written, be it a key.
    written: bool,
}

/// Writes the object of those members of `new` that are keys or differ from `old`.
fn write_difference(out: &mut String, old: Node<'_, '_>, new: Node<'_, '_>, keys: &[&str]) -> Found {
    let before = first_members(old);
    let mut seen = HashSet::new();
    let mut found = Found::default();
    let mut is_first = true;
    out.push('{');
    for member in new.children().filter(|member| seen.insert(member.key())) {
        let (mark, was_first) = (out.len(), is_first);
        let before = before.get(&member.key()).copied();
        let keys = keys_within(&member.key(), keys);
        push_key(out, member, &mut is_first);
        let inner = write_member(out, before, member, &keys);
        found.changed |= inner.changed;
        found.written |= inner.written;
        if !inner.written {
            out.truncate(mark);
            is_first = was_first;
        }
    }
    out.push('}');
    found
}

/// Writes the value of one member: what differs within it if it was an object before, else all of it if it is a key
/// or differs.
fn write_member(out: &mut String, old: Option<Node<'_, '_>>, new: Node<'_, '_>, keys: &[&str]) -> Found {
    match old {
        Some(old) if old.is_object() && new.is_object() => write_difference(out, old, new, keys),
        _ => {
            let changed = !same(old, new);
            out.push_str(new.text());
            Found { changed, written: changed || !keys.is_empty() }
        }
    }
}

/// The paths that lead through the member of this name, from there on; empty for one that ends there.
fn keys_within<'k>(name: &[u8], keys: &[&'k str]) -> Vec<&'k str> {
    let rest = |key: &&'k str| {
        let (step, rest) = key.split_once('/').unwrap_or((*key, ""));
        (step.as_bytes() == name).then_some(rest)
    };
    keys.iter().filter_map(rest).collect()
}

fn push_key(out: &mut String, member: Node<'_, '_>, is_first: &mut bool) {
    if !std::mem::take(is_first) {
        out.push(',');
    }
    out.push_str(member.key_text());
    out.push(':');
}

/// The members that identifiers see: the first of each key (P-8).
fn first_members<'j, 'a>(object: Node<'j, 'a>) -> HashMap<Cow<'a, [u8]>, Node<'j, 'a>> {
    let mut members = HashMap::new();
    for member in object.children() {
        members.entry(member.key()).or_insert(member);
    }
    members
}

/// True if two values are written alike, blanks, escapes and the order of members aside. Absent is the same as null.
///
/// Numbers go by their text: `1.0` is another value than `1` to a filter that reads it as a string.
fn same(old: Option<Node<'_, '_>>, new: Node<'_, '_>) -> bool {
    let Some(old) = old else {
        return new.is_null();
    };
    if old.is_object() && new.is_object() {
        same_members(old, new)
    } else if old.is_array() && new.is_array() {
        let elements = || old.children().zip(new.children());
        old.children().count() == new.children().count() && elements().all(|(old, new)| same(Some(old), new))
    } else {
        old.text() == new.text() || old.string().is_some_and(|text| new.string() == Some(text))
    }
}

fn same_members(old: Node<'_, '_>, new: Node<'_, '_>) -> bool {
    let mut before = first_members(old);
    let kept = first_members(new).iter().all(|(key, member)| same(before.remove(key), *member));
    kept && before.values().all(|member| member.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(old: &str, delta: &str) -> String {
        let [old, delta] = [old, delta].map(|text| Json::parse(text.as_bytes()).unwrap());
        String::from_utf8(merge(&old, &delta).unwrap()).unwrap()
    }

    fn told(old: &str, new: &str, keys: &[&str]) -> (String, bool) {
        let [old, new] = [old, new].map(|text| Json::parse(text.as_bytes()).unwrap());
        let keys: Vec<_> = keys.iter().filter_map(|key| Identifier::parse(key)).collect();
        let found = difference(&old, &new, &keys).unwrap();
        (String::from_utf8(found.payload).unwrap(), found.changed)
    }

    /// U-5.
    #[test]
    fn a_delta_merges_member_by_member() {
        let cases = [
            // scalars and arrays replace, a missing member changes nothing
            (r#"{"a":1,"b":2}"#, r#"{"b":3}"#, r#"{"a":1,"b":3}"#),
            (r#"{"a":1,"b":2}"#, r#"{}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":[1,2,3]}"#, r#"{"a":[9]}"#, r#"{"a":[9]}"#),
            (r#"{"a":[{"b":1,"c":2}]}"#, r#"{"a":[{"b":5}]}"#, r#"{"a":[{"b":5}]}"#),
            (r#"{"a":1}"#, r#"{"a":""}"#, r#"{"a":""}"#),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, r#"{"a":1.0}"#),
            // objects merge within
            (r#"{"o":{"x":1,"y":{"z":2}}}"#, r#"{"o":{"y":{"z":3}}}"#, r#"{"o":{"x":1,"y":{"z":3}}}"#),
            (r#"{"o":{"x":1}}"#, r#"{"o":{"w":0}}"#, r#"{"o":{"x":1,"w":0}}"#),
            (r#"{"o":{"x":1}}"#, r#"{"o":7}"#, r#"{"o":7}"#),
            (r#"{"o":7}"#, r#"{"o":{"x":1}}"#, r#"{"o":{"x":1}}"#),
            (r#"{"o":null}"#, r#"{"o":{"x":1}}"#, r#"{"o":{"x":1}}"#),
            // null changes nothing
            (r#"{"a":1}"#, r#"{"a":null}"#, r#"{"a":1}"#),
            (r#"{"a":1}"#, r#"{"q":null}"#, r#"{"a":1}"#),
            (r#"{"o":{"x":1}}"#, r#"{"o":{"x":null}}"#, r#"{"o":{"x":1}}"#),
            (r#"{"a":1}"#, r#"null"#, r#"{"a":1}"#),
            // new members go to the end, in the order of the delta
            (r#"{"a":1}"#, r#"{"z":1,"a":2,"y":"n"}"#, r#"{"a":2,"z":1,"y":"n"}"#),
            (r#"{}"#, r#"{"a":1,"b":{"c":null}}"#, r#"{"a":1,"b":{"c":null}}"#),
            // untouched text stays, blanks and escapes included
            ("{ \"a\" : 1.50 ,\n \"b\":[ 1 ] }", r#"{"b":2}"#, "{ \"a\" : 1.50 ,\n \"b\":2 }"),
            ("  { \"a\" : 1 } \n", r#"{ "b" : 2 }"#, "  { \"a\" : 1,\"b\":2 } \n"),
            (" { } ", r#"{"b":2}"#, " {\"b\":2 } "),
            (r#"{"\u0061":1,"é":"\u00e9"}"#, r#"{"a":2,"\u00e9":"x"}"#, r#"{"\u0061":2,"é":"x"}"#),
            // of several equal keys the first counts
            (r#"{"a":1,"a":2}"#, r#"{"a":3}"#, r#"{"a":3,"a":2}"#),
            (r#"{"a":1}"#, r#"{"a":3,"a":4,"b":5,"b":6}"#, r#"{"a":3,"b":5}"#),
            // what is no object is replaced as a whole
            (r#"[1,2]"#, r#"[3]"#, r#"[3]"#),
            (r#"{"a":1}"#, r#"[3]"#, r#"[3]"#),
            (r#" 1 "#, r#"{"a":1}"#, r#" {"a":1} "#),
        ];
        for (old, delta, expected) in cases {
            assert_eq!(merged(old, delta), expected, "{delta} into {old}");
        }
    }

    /// B-9.
    #[test]
    fn a_difference_shows_keys_and_changed_fields_in_the_shape_of_the_new_payload() {
        let cases: [(&str, &str, &[&str], &str, bool); 26] = [
            (r#"{"id":1,"a":1}"#, r#"{"id":1,"a":2}"#, &["/id"], r#"{"id":1,"a":2}"#, true),
            (r#"{"id":1,"a":1}"#, r#"{"id":1,"a":1}"#, &["/id"], r#"{"id":1}"#, false),
            (r#"{"id":1,"a":1}"#, r#"{"id":1,"a":2}"#, &[], r#"{"a":2}"#, true),
            (r#"{"id":1,"a":1}"#, r#"{"id":1,"a":1}"#, &[], r#"{}"#, false),
            (r#"{"a":1}"#, r#"{"b":[],"a":1,"c":{}}"#, &[], r#"{"b":[],"c":{}}"#, true),
            (r#"{"a":1,"b":2}"#, r#"{"a":1}"#, &[], r#"{}"#, false),
            (
                r#"{"o":{"x":1,"y":2},"p":{"q":0}}"#,
                r#"{"o":{"x":1,"y":3},"p":{"q":0}}"#,
                &[],
                r#"{"o":{"y":3}}"#,
                true,
            ),
            (r#"{"o":{"x":{"y":1}}}"#, r#"{"o":{"x":{"y":1}}}"#, &[], r#"{}"#, false),
            (r#"{"o":{"x":1}}"#, r#"{"o":5}"#, &[], r#"{"o":5}"#, true),
            (r#"{"o":5}"#, r#"{"o":{"x":1}}"#, &[], r#"{"o":{"x":1}}"#, true),
            (r#"{"a":[1,2]}"#, r#"{"a":[1,3]}"#, &[], r#"{"a":[1,3]}"#, true),
            (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#, &[], r#"{"a":[1]}"#, true),
            (r#"{"a":[1,{"x":1,"y":2}]}"#, r#"{"a":[ 1, {"y":2,"x":1,"n":null} ]}"#, &[], r#"{}"#, false),
            (r#"{"a":[{"x":1,"y":2}]}"#, r#"{"a":[{"x":1}]}"#, &[], r#"{"a":[{"x":1}]}"#, true),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, &[], r#"{"a":1.0}"#, true),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, &[], r#"{"a":"1"}"#, true),
            (r#"{"a":"é"}"#, r#"{"a":"\u00e9"}"#, &[], r#"{}"#, false),
            (r#"{}"#, r#"{"a":null}"#, &[], r#"{}"#, false),
            (r#"{"a":1}"#, r#"{"a":null}"#, &[], r#"{"a":null}"#, true),
            (r#"{"a":1}"#, r#"{"a":""}"#, &[], r#"{"a":""}"#, true),
            // keys inside objects and inside arrays
            (
                r#"{"k":{"id":1,"x":1},"a":1}"#,
                r#"{"k":{"id":1,"x":1},"a":2}"#,
                &["/k/id"],
                r#"{"k":{"id":1},"a":2}"#,
                true,
            ),
            (
                r#"{"k":[{"id":1,"x":1}]}"#,
                r#"{"k":[{"id":1,"x":1}]}"#,
                &["/k/id"],
                r#"{"k":[{"id":1,"x":1}]}"#,
                false,
            ),
            (
                r#"{"b":1,"a":1,"x":1}"#,
                r#"{"a":1,"b":1,"x":2}"#,
                &["/b", "/a"],
                r#"{"a":1,"b":1,"x":2}"#,
                true,
            ),
            (r#"{"a":1,"a":5}"#, r#"{"a":1,"a":6}"#, &[], r#"{}"#, false),
            ("{ \"a\" : 1 }", "{ \"a\" : 2 , \"b\" : [ 1 ] }", &[], r#"{"a":2,"b":[ 1 ]}"#, true),
            (r#"[1]"#, r#"[2]"#, &["/id"], r#"[2]"#, true),
        ];
        for (old, new, keys, expected, changed) in cases {
            assert_eq!(
                told(old, new, keys),
                (expected.to_owned(), changed),
                "from {old} to {new}, keys {keys:?}"
            );
        }
    }

    /// A delta subscriber that merges what it is told has what a plain one has.
    #[test]
    fn a_difference_merged_into_the_old_payload_gives_the_new_one() {
        let forms = [
            r#"{"id":1,"a":1,"b":{"c":1,"d":2},"arr":[1,2,3]}"#,
            r#"{"id":1,"a":2,"b":{"c":1,"d":2},"arr":[1,2,3]}"#,
            r#"{"id":1,"a":2,"b":{"c":5,"d":2},"arr":[9]}"#,
            r#"{"id":1,"a":"","b":{"c":{"x":[]},"d":{}},"arr":{"0":1}}"#,
        ];
        for old in forms {
            for new in forms.iter().filter(|new| !old.contains("{}") || new.contains("{}")) {
                assert_eq!(merged(old, &told(old, new, &["/id"]).0), **new, "from {old} to {new}");
            }
        }
    }

    #[test]
    fn wide_and_deep_payloads_take_linear_work() {
        let wide = |value: usize| {
            let members: Vec<_> = (0..50_000).map(|n| format!("\"{n}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(merged(&wide(1), &wide(2)), wide(2));
        assert_eq!(told(&wide(1), &wide(2), &[]), (wide(2), true));
        let deep = |value: usize| format!("{}{value}{}", "{\"a\":".repeat(128), "}".repeat(128));
        assert_eq!(merged(&deep(1), &deep(2)), deep(2));
        assert_eq!(told(&deep(1), &deep(2), &[]), (deep(2), true));
    }
}
