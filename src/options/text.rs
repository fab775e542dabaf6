//! The option text itself: tokens separated by commas, where a comma within brackets separates nothing.

/// The tokens of an option text, without blanks around them and without empty ones.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => return c == ',' && depth == 0,
        }
        false
    })
    .map(str::trim)
    .filter(|token| !token.is_empty())
}

/// The ids of a comma list, without blanks around them and without empty ones.
pub(crate) fn ids(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|id| !id.is_empty())
}

/// The name of a token: `top_n` of `top_n=5`.
pub(crate) fn name_of(token: &str) -> &str {
    token.split_once('=').map_or(token, |(name, _)| name).trim_end()
}

/// True if this very token is there: `replace` is not in `conflation_key=[/a,replace]`, nor in `replaced`.
pub(crate) fn has(text: &str, token: &str) -> bool {
    tokens(text).any(|found| found == token)
}

/// The value of `name=value`; of several the last.
pub(crate) fn value_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    tokens(text)
        .filter_map(|token| token.split_once('='))
        .filter(|(found, _)| *found == name)
        .last()
        .map(|(_, v)| v)
}

/// The text without the tokens of this name, with or without a value; unchanged if there are none.
pub(crate) fn without(text: &str, name: &str) -> String {
    if tokens(text).all(|token| name_of(token) != name) {
        return text.to_owned();
    }
    let mut kept = String::with_capacity(text.len());
    for token in tokens(text).filter(|token| name_of(token) != name) {
        append(&mut kept, token);
    }
    kept
}

/// The text less one comma at its end.
pub(crate) fn without_trailing_comma(text: &str) -> &str {
    text.strip_suffix(',').unwrap_or(text)
}

/// Adds a token, or several, at the end of a text; an empty one adds nothing.
pub(crate) fn append(text: &mut String, token: &str) {
    if !text.is_empty() && !token.is_empty() {
        text.push(',');
    }
    text.push_str(token);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// `wire-protocol` 12: a value may hold commas within brackets.
    #[test]
    fn a_text_is_split_at_the_commas_outside_brackets() {
        let table: [(&str, &[&str]); 9] = [
            ("", &[]),
            (",", &[]),
            ("oof", &["oof"]),
            ("oof,timestamp", &["oof", "timestamp"]),
            ("oof, timestamp ,,x,", &["oof", "timestamp", "x"]),
            ("conflation_key=[/a,/b],replace", &["conflation_key=[/a,/b]", "replace"]),
            ("projection=[/a[0] AS /x,/b],y", &["projection=[/a[0] AS /x,/b]", "y"]),
            ("a=[b,c", &["a=[b,c"]),
            ("a],b", &["a]", "b"]),
        ];
        for (text, expected) in table {
            assert_eq!(tokens(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    /// `wire-protocol` 12: whole tokens, not a substring search.
    #[test]
    fn a_token_is_found_only_if_it_stands_on_its_own() {
        let table = [
            ("replace", true),
            ("oof,replace", true),
            ("oof, replace ,x", true),
            ("replace,", true),
            ("", false),
            ("replaced", false),
            ("no_replace", false),
            ("conflation_key=[/replace]", false),
            ("conflation_key=[/a,replace,/b]", false),
            ("replace=1", false),
            ("Replace", false),
        ];
        for (text, expected) in table {
            assert_eq!(has(text, "replace"), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let table = [
            ("max_backlog=5", Some("5")),
            ("oof,max_backlog=10,x", Some("10")),
            ("max_backlog=1,max_backlog=2", Some("2")),
            ("max_backlog=", Some("")),
            ("max_backlog=a=b", Some("a=b")),
            ("max_backlog=[1,2]", Some("[1,2]")),
            ("max_backlog", None),
            ("xmax_backlog=5", None),
            ("select=[max_backlog=5]", None),
            ("select=[/a,max_backlog=5]", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(value_of(text, "max_backlog"), expected, "{text}");
        }
        assert_eq!(
            value_of("connection_name=AMPS-json-1-42,foo=bar", "connection_name"),
            Some("AMPS-json-1-42")
        );
    }

    /// `resilience` SM-4: `replace` is removed from stored options.
    #[test]
    fn a_token_is_taken_out_and_the_rest_is_left_alone() {
        let table = [
            ("replace", ""),
            ("replace,oof", "oof"),
            ("oof,replace", "oof"),
            ("oof,replace,top_n=2", "oof,top_n=2"),
            ("replace,replace,oof,replace", "oof"),
            ("conflation_key=[/a,replace,/b],replace", "conflation_key=[/a,replace,/b]"),
            ("replaced,oof", "replaced,oof"),
            ("replace=1,oof", "oof"),
            ("oof", "oof"),
            (" oof,,x, ", " oof,,x, "),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(without(text, "replace"), expected, "{text}");
        }
        assert_eq!(without("pause,rate=5", "pause"), "rate=5");
    }

    /// `api-surface` 6: one trailing comma is dropped.
    #[test]
    fn one_trailing_comma_is_dropped_and_no_more() {
        for (text, expected) in [("oof,", "oof"), ("oof,,", "oof,"), ("oof", "oof"), (",", ""), ("", "")] {
            assert_eq!(without_trailing_comma(text), expected);
        }
    }

    #[test]
    fn tokens_that_are_joined_come_apart_again_for_any_text() {
        let mut random = Random::new(0x5EED_0005);
        for _ in 0..5_000 {
            let text = random.text("ab=[],, é", 24);
            let mut joined = String::new();
            tokens(&text).for_each(|token| append(&mut joined, token));
            assert!(tokens(&joined).eq(tokens(&text)), "{text}");
            assert!(!tokens(&without(&text, "a")).any(|token| name_of(token) == "a"), "{text}");
            assert_eq!(
                value_of(&text, "b").is_some(),
                value_of(&without(&text, "a"), "b").is_some(),
                "{text}"
            );
        }
    }
}
