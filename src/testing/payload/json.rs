//! JSON payloads: a text that `serde_json` found valid, cut into its values.
//!
//! The values lie in one list in document order, each knowing where the next one that is not inside it begins. So the
//! text of every value stays at hand, a key may occur twice, and no nesting, however deep, is followed by recursion.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

use super::Identifier;
use crate::testing::value::{Number, Value};

/// Payloads nested deeper count as unreadable, as `serde_json` itself has it.
pub(super) const MAX_DEPTH: usize = 128;

/// The values of one JSON text.
#[derive(Debug)]
pub(super) struct Json<'a> {
    text: &'a str,
    entries: Vec<Entry>,
}

/// One value: where its key and its text lie, and the place in the list of the next value outside it.
#[derive(Debug)]
struct Entry {
    key: Option<Range<usize>>,
    text: Range<usize>,
    next: usize,
}

impl<'a> Json<'a> {
    /// `None` if the bytes are not one JSON value in UTF-8, or are nested too deeply.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Json<'a>> {
        let text = std::str::from_utf8(bytes).ok()?;
        serde_json::from_str::<&RawValue>(text).ok()?;
        Cutter::default().cut(text).map(|entries| Json { text, entries })
    }

    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    pub(super) fn root(&self) -> Option<Node<'_, 'a>> {
        self.node(0)
    }

    /// All values of a field in document order; arrays on the way and at its end are walked through (P-8).
    pub(super) fn values(&self, identifier: &Identifier) -> Vec<Value<'a>> {
        let mut found: Vec<Node<'_, 'a>> = self.root().into_iter().collect();
        for step in identifier.steps() {
            found = found.into_iter().flat_map(Node::elements).filter_map(|node| node.member(step)).collect();
        }
        found.into_iter().flat_map(Node::elements).filter_map(Node::value).collect()
    }

    fn node(&self, place: usize) -> Option<Node<'_, 'a>> {
        self.entries.get(place).map(|entry| Node { json: self, entry, place })
    }
}

/// One value of a [`Json`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'j, 'a> {
    json: &'j Json<'a>,
    entry: &'j Entry,
    place: usize,
}

impl<'j, 'a> Node<'j, 'a> {
    /// Where the text of the value lies in the text of the payload.
    pub(super) fn range(self) -> Range<usize> {
        self.entry.text.clone()
    }

    pub(super) fn text(self) -> &'a str {
        self.json.text.get(self.range()).unwrap_or_default()
    }

    pub(super) fn is_object(self) -> bool {
        self.text().starts_with('{')
    }

    pub(super) fn is_array(self) -> bool {
        self.text().starts_with('[')
    }

    pub(super) fn is_null(self) -> bool {
        self.text() == "null"
    }

    /// The key of a member as it is written, quotes included.
    pub(super) fn key_text(self) -> &'a str {
        self.entry.key.clone().and_then(|key| self.json.text.get(key)).unwrap_or_default()
    }

    pub(super) fn key(self) -> Cow<'a, [u8]> {
        decode(self.key_text())
    }

    /// The members of an object or the elements of an array.
    pub(super) fn children(self) -> impl Iterator<Item = Node<'j, 'a>> {
        let inside = self.place + 1..self.entry.next;
        let first = self.json.node(inside.start).filter(|_| !inside.is_empty());
        std::iter::successors(first, move |node| {
            self.json.node(node.entry.next).filter(|next| inside.contains(&next.place))
        })
    }

    /// The first member of an object that has this key.
    pub(super) fn member(self, key: &str) -> Option<Node<'j, 'a>> {
        self.is_object().then(|| self.children().find(|member| *member.key() == *key.as_bytes())).flatten()
    }

    /// The string of a string value, its escapes resolved.
    pub(super) fn string(self) -> Option<Cow<'a, [u8]>> {
        self.text().starts_with('"').then(|| decode(self.text()))
    }

    /// The value itself, or for an array what it holds, arrays within arrays opened.
    fn elements(self) -> impl Iterator<Item = Node<'j, 'a>> {
        let mut place = self.place;
        std::iter::from_fn(move || {
            while place < self.entry.next {
                let node = self.json.node(place)?;
                if !node.is_array() {
                    place = node.entry.next;
                    return Some(node);
                }
                place += 1;
            }
            None
        })
    }

    /// The value of a leaf; objects and arrays have none.
    fn value(self) -> Option<Value<'a>> {
        let text = self.text();
        match text.as_bytes().first()? {
            b'{' | b'[' => None,
            b'"' => Some(Value::string(decode(text))),
            b't' => Some(Value::Bool(true)),
            b'f' => Some(Value::Bool(false)),
            b'n' => Some(Value::Null),
            _ => Number::parse(text.as_bytes()).map(|number| Value::Number(number, Some(text.as_bytes()))),
        }
    }
}

/// Finds the values of a text known to be JSON.
#[derive(Default)]
struct Cutter {
    entries: Vec<Entry>,
    /// The containers around the present place.
    open: Vec<Container>,
    /// The key read last, until its value begins.
    key: Option<Range<usize>>,
}

struct Container {
    place: usize,
    is_object: bool,
}

impl Cutter {
    fn cut(mut self, text: &str) -> Option<Vec<Entry>> {
        let mut at = 0;
        while let Some(byte) = text.as_bytes().get(at) {
            at = match byte {
                b'{' | b'[' => self.open(at, *byte == b'{')?,
                b'}' | b']' => self.close(at),
                b'"' => self.string(at..string_end(text, at)),
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => at + 1,
                _ => self.value(at..scalar_end(text, at)),
            };
        }
        Some(self.entries)
    }

    fn open(&mut self, at: usize, is_object: bool) -> Option<usize> {
        self.open.push(Container { place: self.entries.len(), is_object });
        self.value(at..at + 1);
        (self.open.len() <= MAX_DEPTH).then_some(at + 1)
    }

    fn close(&mut self, at: usize) -> usize {
        let next = self.entries.len();
        if let Some(entry) = self.open.pop().and_then(|container| self.entries.get_mut(container.place)) {
            entry.text.end = at + 1;
            entry.next = next;
        }
        at + 1
    }

    fn string(&mut self, text: Range<usize>) -> usize {
        if self.key.is_some() || !self.open.last().is_some_and(|container| container.is_object) {
            return self.value(text);
        }
        self.key.insert(text).end
    }

    fn value(&mut self, text: Range<usize>) -> usize {
        let end = text.end;
        self.entries.push(Entry { key: self.key.take(), text, next: self.entries.len() + 1 });
        end
    }
}

/// The place after the closing quote of the string that begins at `start`.
fn string_end(text: &str, start: usize) -> usize {
    let mut at = start + 1;
    loop {
        let rest = text.as_bytes().get(at..).unwrap_or_default();
        match memchr::memchr2(b'"', b'\\', rest) {
            Some(found) if rest.get(found) == Some(&b'\\') => at += found + 2,
            Some(found) => return at + found + 1,
            None => return text.len(),
        }
    }
}

fn scalar_end(text: &str, start: usize) -> usize {
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    let is_end = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
    rest.iter().position(is_end).map_or(text.len(), |length| start + length)
}

/// The content of a string literal. One half of a surrogate pair is no text: its escape is taken as it stands.
fn decode(quoted: &str) -> Cow<'_, [u8]> {
    let written = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', written.as_bytes()).is_none() {
        return Cow::Borrowed(written.as_bytes());
    }
    serde_json::from_str::<String>(quoted)
        .map_or(Cow::Borrowed(written.as_bytes()), |text| Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str, identifier: &str) -> Vec<Value<'static>> {
        let json = Json::parse(text.as_bytes()).unwrap();
        let identifier = Identifier::parse(identifier).unwrap();
        let own = |value: &Value<'_>| match value {
            Value::Text(text) => Value::string(text.to_vec()),
            Value::Number(number, text) => Value::Number(*number, text.map(|text| &*text.to_vec().leak())),
            Value::Bool(value) => Value::Bool(*value),
            Value::Null => Value::Null,
        };
        json.values(&identifier).iter().map(own).collect()
    }

    fn number(text: &'static str) -> Value<'static> {
        Value::guess(text.as_bytes())
    }

    fn string(text: &'static str) -> Value<'static> {
        Value::string(text.as_bytes())
    }

    /// P-8: objects are steps, leaves are values, equal paths form an array in document order.
    #[test]
    fn fields_are_found_by_their_path() {
        let cases: [(&str, &str, Vec<Value<'static>>); 26] = [
            (r#"{"a":1}"#, "/a", vec![number("1")]),
            (r#" { "a" : { "b" : "x" } , "c":2 } "#, "/a/b", vec![string("x")]),
            (r#"{"a":{"b":1},"b":2}"#, "/b", vec![number("2")]),
            (r#"{"a":{"b":1}}"#, "/a", vec![]),
            (r#"{"a":1}"#, "/a/b", vec![]),
            (r#"{"a":1}"#, "/b", vec![]),
            (r#"{"a":[1,"x",null]}"#, "/a", vec![number("1"), string("x"), Value::Null]),
            (r#"{"a":[]}"#, "/a", vec![]),
            (r#"{"a":[[1,2],[],[[3]]]}"#, "/a", vec![number("1"), number("2"), number("3")]),
            (r#"{"c":[{"d":1},{"d":2}]}"#, "/c/d", vec![number("1"), number("2")]),
            (r#"{"c":[{"d":[1,2]},{"e":9},{"d":3}]}"#, "/c/d", vec![number("1"), number("2"), number("3")]),
            (r#"{"c":[[{"d":1}],{"d":{"d":5}},7]}"#, "/c/d", vec![number("1")]),
            (r#"[{"a":1},{"a":2}]"#, "/a", vec![number("1"), number("2")]),
            (r#"{"a":1,"a":2}"#, "/a", vec![number("1")]),
            (r#"{"a":{"x":1},"a":{"y":2}}"#, "/a/y", vec![]),
            (r#"{"a":null}"#, "/a", vec![Value::Null]),
            (r#"{"a":""}"#, "/a", vec![Value::Null]),
            (r#"{"a":true,"b":false}"#, "/a", vec![Value::Bool(true)]),
            (r#"{"a":true,"b":false}"#, "/b", vec![Value::Bool(false)]),
            (r#"{"a":10.50}"#, "/a", vec![number("10.50")]),
            (r#"{"a":-1.0E+2}"#, "/a", vec![number("-1.0E+2")]),
            (r#"{"a":123456789012345678901234567890}"#, "/a", vec![number("123456789012345678901234567890")]),
            (r#"{"a":"\"\\\/\b\n\u00e9\ud83d\ude00"}"#, "/a", vec![string("\"\\/\u{8}\né😀")]),
            (r#"{"\u0061b":1}"#, "/ab", vec![number("1")]),
            (r#"{"a":"}],\"{[","b":2}"#, "/b", vec![number("2")]),
            (r#"{"k":"k","v":["v"],"":{"":0}}"#, "[//]", vec![number("0")]),
        ];
        for (text, identifier, expected) in cases {
            assert_eq!(values(text, identifier), expected, "{identifier} in {text}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_costs_only_its_own_string() {
        assert_eq!(values(r#"{"a":"\ud800","b":1}"#, "/b"), [number("1")]);
        assert_eq!(values(r#"{"a":"x\ud800"}"#, "/a"), [string("x\\ud800")]);
        assert_eq!(values(r#"{"\ud800":1,"b":2}"#, "/b"), [number("2")]);
    }

    #[test]
    fn what_is_not_json_is_not_read() {
        let bad: [&[u8]; 20] = [
            b"",
            b" ",
            b"{",
            b"}",
            b"{\"a\":1",
            b"{\"a\":1}x",
            b"{\"a\":1}{}",
            b"{a:1}",
            b"{'a':1}",
            b"{\"a\":01}",
            b"{\"a\":}",
            b"{\"a\" 1}",
            b"{\"a\":1,}",
            b"[1,]",
            b"nul",
            b"\"\\x\"",
            b"\"\n\"",
            b"\"\xff\"",
            b"NaN",
            b"35=D\x01",
        ];
        for text in bad {
            assert!(Json::parse(text).is_none(), "{}", text.escape_ascii());
        }
        for text in ["{}", "[]", "1", "\"x\"", " null ", "[[],{}]"] {
            assert!(Json::parse(text.as_bytes()).is_some(), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_never_followed_by_recursion() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(MAX_DEPTH).as_bytes()).is_some());
        assert!(Json::parse(nested(MAX_DEPTH + 1).as_bytes()).is_none());
        assert!(Json::parse(nested(1_000_000).as_bytes()).is_none());
        assert!(Json::parse("{\"a\":".repeat(1_000_000).as_bytes()).is_none());
    }

    /// The cutter agrees with `serde_json` about what a payload holds, whatever it is.
    #[test]
    fn a_payload_is_cut_into_what_it_holds() {
        let text = r#" { "a" : [ 1 , {"b":[ ]} , "x,]\"}" ] , "c":{}, "d" :null,"e":[[{"f":-1.5e3}],true]} "#;
        fn rebuild(node: Node<'_, '_>) -> serde_json::Value {
            if node.is_object() {
                let entry =
                    |member: Node<'_, '_>| (String::from_utf8(member.key().into()).unwrap(), rebuild(member));
                serde_json::Value::Object(node.children().map(entry).collect())
            } else if node.is_array() {
                node.children().map(rebuild).collect()
            } else {
                serde_json::from_str(node.text()).unwrap()
            }
        }
        let json = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(rebuild(json.root().unwrap()), serde_json::from_str::<serde_json::Value>(text).unwrap());
    }
}
