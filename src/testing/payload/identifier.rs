//! Names of fields: `/order/price`, `/legs/price[0]`, `[/any text]`.

/// The name of a field in a payload, and of one element if the field is an array.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identifier {
    path: String,
    index: Option<usize>,
}

impl Identifier {
    /// Reads an identifier that is the whole of `text`.
    pub(crate) fn parse(text: &str) -> Option<Identifier> {
        match Identifier::scan(text)? {
            (identifier, "") => Some(identifier),
            _ => None,
        }
    }

    /// Reads the identifier that `text` begins with, and returns it with the rest of the text.
    pub(crate) fn scan(text: &str) -> Option<(Identifier, &str)> {
        if let Some(bracketed) = text.strip_prefix("[/") {
            let (path, rest) = bracketed.split_once(']')?;
            return (!path.is_empty()).then(|| (Identifier { path: path.to_owned(), index: None }, rest));
        }
        let mut rest = after_step(text)?;
        while let Some(next) = after_step(rest) {
            rest = next;
        }
        let path = text.get(1..text.len() - rest.len())?.to_owned();
        let (index, rest) = index(rest).map_or((None, rest), |(index, rest)| (Some(index), rest));
        Some((Identifier { path, index }, rest))
    }

    /// The steps, joined by `/`: the whole tag in types that do not nest.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// From the outermost object inwards.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &str> {
        self.path.split('/')
    }

    /// The element meant, counted from 0; `None` means all of them.
    pub(crate) fn index(&self) -> Option<usize> {
        self.index
    }
}

/// The text after a `/` and its step; a `/` that no step follows is a division.
fn after_step(text: &str) -> Option<&str> {
    let step = text.strip_prefix('/')?;
    let name = step.strip_prefix('@').unwrap_or(step);
    let rest = name.trim_start_matches(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'));
    name.starts_with(|c: char| c.is_alphanumeric() || c == '_').then_some(rest)
}

fn index(text: &str) -> Option<(usize, &str)> {
    let (digits, rest) = text.strip_prefix('[')?.split_once(']')?;
    let is_number = digits.bytes().all(|b| b.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| is_number)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The production `identifier` of the filter grammar.
    #[test]
    fn identifiers_are_read_as_the_grammar_says() {
        let cases: [(&str, &[&str], Option<usize>); 12] = [
            ("/id", &["id"], None),
            ("/order/price", &["order", "price"], None),
            ("/a[0]", &["a"], Some(0)),
            ("/a/b-c.d:e_f[12]", &["a", "b-c.d:e_f"], Some(12)),
            ("/@attribute", &["@attribute"], None),
            ("/35", &["35"], None),
            ("/_x/9", &["_x", "9"], None),
            ("/größe", &["größe"], None),
            ("[/with blank/and 'quote']", &["with blank", "and 'quote'"], None),
            ("[/a[0]", &["a[0"], None),
            ("[/]x]", &[], None),
            ("[/é]", &["é"], None),
        ];
        for (text, steps, index) in cases {
            let identifier = Identifier::parse(text);
            let found = identifier.as_ref().map(|i| i.steps().collect::<Vec<_>>()).unwrap_or_default();
            assert_eq!(found, steps, "{text}");
            assert_eq!(identifier.and_then(|i| i.index()), index, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_identifiers() {
        let bad = [
            "",
            "/",
            "id",
            "//a",
            "/a/",
            "/a b",
            "/-a",
            "/.a",
            "/@",
            "/@@a",
            "/a[",
            "/a[]",
            "/a[x]",
            "/a[-1]",
            "/a[+1]",
            "/a[0]b",
            "/a[0]/b",
            "[/",
            "[/]",
            "[a]",
            "[/a",
            "/a[99999999999999999999999]",
            " /a",
        ];
        for text in bad {
            assert_eq!(Identifier::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_scan_stops_where_the_identifier_ends() {
        let cases = [
            ("/a = 1", "/a", " = 1"),
            ("/a, /b", "/a", ", /b"),
            ("/a[0]/b", "/a[0]", "/b"),
            ("/a[x]", "/a", "[x]"),
            ("/a/ 2", "/a", "/ 2"),
            ("/a//b", "/a", "//b"),
            ("[/a b]DESC", "[/a b]", "DESC"),
        ];
        for (text, identifier, rest) in cases {
            assert_eq!(Identifier::scan(text), Identifier::parse(identifier).map(|i| (i, rest)), "{text}");
        }
    }
}
