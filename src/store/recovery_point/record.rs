//! A recovery point as a JSON record.
//!
//! Pure. Only what such a record needs: an object, of whose members some are strings.

use std::str::Chars;

/// The record with these members.
pub(super) fn write(members: [(&str, &str); 3]) -> String {
    let mut record = String::from("{");
    for (name, value) in members {
        if record.len() > 1 {
            record.push(',');
        }
        push_string(&mut record, name);
        record.push(':');
        push_string(&mut record, value);
    }
    record.push('}');
    record
}

/// The values of these members; `None` if one of them is missing or no string, or if this is no object.
pub(super) fn read<const N: usize>(record: &str, names: [&str; N]) -> Option<[String; N]> {
    let mut values = [const { None }; N];
    let mut reader = Reader { rest: record.chars() };
    reader.expect('{')?;
    if !reader.takes('}') {
        loop {
            let name = reader.string()?;
            reader.expect(':')?;
            let value = reader.value()?;
            if let Some(at) = names.iter().position(|wanted| *wanted == name)
                && let Some(place) = values.get_mut(at)
            {
                *place = value;
            }
            if !reader.takes(',') {
                break;
            }
        }
        reader.expect('}')?;
    }
    reader.end()?;
    values.iter().all(Option::is_some).then(|| values.map(Option::unwrap_or_default))
}

/// Adds a string, in quotes.
fn push_string(to: &mut String, text: &str) {
    to.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => to.extend(['\\', char]),
            '\0'..' ' => to.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => to.push(char),
        }
    }
    to.push('"');
}

struct Reader<'a> {
    rest: Chars<'a>,
}

impl Reader<'_> {
    fn skip_blanks(&mut self) {
        self.rest = self.rest.as_str().trim_start_matches([' ', '\t', '\r', '\n']).chars();
    }

    /// Skips blanks, and this character if it is next.
    fn takes(&mut self, wanted: char) -> bool {
        self.skip_blanks();
        let taken = self.rest.as_str().strip_prefix(wanted);
        if let Some(rest) = taken {
            self.rest = rest.chars();
        }
        taken.is_some()
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.takes(wanted).then_some(())
    }

    fn end(&mut self) -> Option<()> {
        self.skip_blanks();
        self.rest.as_str().is_empty().then_some(())
    }

    /// A value: `Some(None)` if it is no string.
    fn value(&mut self) -> Option<Option<String>> {
        self.skip_blanks();
        match self.rest.clone().next()? {
            '"' => self.string().map(Some),
            _ => self.skip().map(|()| None),
        }
    }

    /// Passes over a value that is no string: up to what ends a member, outside of brackets and strings.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.rest.clone().next()? {
                ',' | '}' if depth == 0 => return Some(()),
                '"' => {
                    self.string()?;
                    continue;
                }
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.checked_sub(1)?,
                _ => (),
            }
            self.rest.next();
        }
    }

    fn string(&mut self) -> Option<String> {
        self.expect('"')?;
        let mut text = String::new();
        loop {
            match self.rest.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escaped()?),
                char => text.push(char),
            }
        }
    }

    /// What stands behind a backslash.
    fn escaped(&mut self) -> Option<char> {
        Some(match self.rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.code_point(),
            char @ ('"' | '\\' | '/') => char,
            _ => return None,
        })
    }

    /// Four digits, or eight for what needs two of them.
    fn code_point(&mut self) -> Option<char> {
        let first = self.four_digits()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first);
        }
        let (backslash, u) = (self.rest.next()?, self.rest.next()?);
        let second = self.four_digits().filter(|second| (0xDC00..0xE000).contains(second))?;
        (backslash == '\\' && u == 'u').then_some(())?;
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    }

    fn four_digits(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |code, _| Some(code << 4 | self.rest.next()?.to_digit(16)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for text in ["", "orders-1", "a\"b\\c/d", "\u{0}\u{1f}\n\t", "ünï→😀", "{\"a\":[1,2]}"] {
            let record = write([("client", text), ("sub", "x"), ("at", "1|2|")]);
            assert_eq!(
                read(&record, ["client", "at"]),
                Some([text.to_owned(), "1|2|".to_owned()]),
                "{record}"
            );
        }
        assert_eq!(write([("a", "1"), ("b", "\""), ("c", "\n")]), r#"{"a":"1","b":"\"","c":"\u000a"}"#);
    }

    #[test]
    fn what_else_is_in_a_record_is_passed_over() {
        for record in [
            r#"{"b":"2","a":"1"}"#,
            " { \"a\" : \"1\" ,\n\"n\" : -1.5e3 , \"t\":true,\"x\":null, \"b\":\"2\" } ",
            r#"{"o":{"a":"9","c":[1,{"b":"]}"}]},"a":"1","b":"2","l":[]}"#,
            r#"{"a":"\u0031","b":"\u0032"}"#,
            r#"{"a":"0","a":"1","b":"2"}"#,
        ] {
            assert_eq!(read(record, ["a", "b"]), Some(["1".to_owned(), "2".to_owned()]), "{record}");
        }
        assert_eq!(read(r#"{"a":"\ud83d\ude00\/"}"#, ["a"]), Some(["😀/".to_owned()]));
    }

    #[test]
    fn what_is_no_such_record_is_not_read() {
        for record in [
            "",
            "{}",
            "{",
            "a",
            r#""a""#,
            r#"{"a":1}"#,
            r#"{"b":"1"}"#,
            r#"{"a":"1""#,
            r#"{"a":"1"}}"#,
            r#"{"a":"1",}"#,
            r#"{"a":"1" "b":"2"}"#,
            r#"{a:"1"}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":"\ud83d"}"#,
            r#"{"a":"\ud83d\u0041"}"#,
            r#"{"b":],"a":"1"}"#,
            r#"{"b":[[,"a":"1"}"#,
        ] {
            assert_eq!(read(record, ["a"]), None, "{record}");
        }
    }

    #[test]
    fn no_text_does_harm() {
        let mut random = Random::new(0x5EED_0012);
        for _ in 0..20_000 {
            let text = random.text("{}[]\":,\\ua1 ", 24);
            let _ = read(&text, ["a", "u"]);
            let deep = "[".repeat(random.below(50));
            assert_eq!(read(&format!("{{\"x\":{deep}"), ["a"]), None);
        }
    }
}
