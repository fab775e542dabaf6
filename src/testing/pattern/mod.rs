//! Regular expressions in the dialect of topics and `LIKE`: Perl's, searched for anywhere in a text (P-4, F-13).
//!
//! Texts are bytes (F-3): `.` is one of them, and `\w`, `\d`, `\s` and `(?i)` know ASCII only.

mod dialect;

use fancy_regex::{BytesMode, Regex, RegexBuilder};

/// A regular expression whose search ends in bounded time.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// `None` if the text is no regular expression, has syntax that is not supported, or would take too much memory.
    pub(crate) fn compile(text: &str) -> Option<Pattern> {
        RegexBuilder::new(&dialect::translate(text)?)
            .bytes_mode(BytesMode::Ascii)
            .backtrack_limit(MAX_STEPS)
            .delegate_size_limit(MAX_COMPILED_BYTES)
            .max_prog_size(MAX_INSTRUCTIONS)
            .build()
            .ok()
            .map(Pattern)
    }

    /// True if the pattern occurs in `text`. A search over the step limit has not found it.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        self.0.is_match(text).unwrap_or_else(|error| {
            log::warn!(target: "amps::testing", "gave up searching for the pattern {:?}: {error}", self.0.as_str());
            false
        })
    }
}

/// Limits that no sensible pattern meets, and that keep a hostile one below a second and a few megabytes.
const MAX_STEPS: usize = 1_000_000;
const MAX_COMPILED_BYTES: usize = 1 << 18;
const MAX_INSTRUCTIONS: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testing::garbage;

    fn found(pattern: &str, text: &str) -> bool {
        Pattern::compile(pattern)
            .unwrap_or_else(|| panic!("{pattern} does not compile"))
            .is_in(text.as_bytes())
    }

    /// F-13: the syntax that is needed, one row each.
    #[test]
    fn patterns_are_perl_style() {
        let cases = [
            ("^ab", "abc", "cab"),
            ("bc$", "abc", "bcd"),
            ("a.c", "xabcx", "ac"),
            ("ab*c", "ac", "adc"),
            ("ab+c", "abbc", "ac"),
            ("^ab?c$", "ac", "abbc"),
            ("^a{2}$", "aa", "aaa"),
            ("^a{2,}$", "aaaa", "a"),
            ("^a{2,3}$", "aaa", "aaaa"),
            ("[a-c]x", "bx", "dx"),
            ("[^a-c]x", "dx", "bx"),
            ("[]a]x", "]x", "bx"),
            (r"[\d-]x", "-x", "ax"),
            ("(ab)+c", "ababc", "aac"),
            ("cat|dog", "hotdog", "cow"),
            (r"C\+\+", "C++", "CC"),
            (r"\.", "a.b", "ab"),
            (r"^\d\d$", "42", "4x"),
            (r"^\w+$", "a_1", "a-1"),
            (r"a\sb", "a b", "ab"),
            (r"^\D+$", "ab", "a1"),
            (r"\W", "a-b", "a_b"),
            (r"^\S+$", "ab", "a b"),
            (r"\bcat\b", "a cat!", "concat"),
            ("^<.*?>$", "<a>", "<a"),
            ("^a+?b??$", "aab", "aac"),
            ("^(?:ab)+$", "abab", "aba"),
            (r"(.)\1", "hello", "world"),
            (r"^(a)(b)(c)(d)(e)(f)(g)(h)(i)\9\1$", "abcdefghiia", "abcdefghiai"),
            ("(?i)abc", "xABCx", "xABx"),
            ("(?m)^b$", "a\nb\nc", "abc"),
            ("(?s)a.b", "a\nb", "ab"),
            ("(?x) a b # blanks", "ab", "a b"),
            (r"\x41", "A", "x41"),
            (r"\t", "a\tb", "atb"),
            (r"\'", "it's", "its"),
            ("a{", "a{", "a"),
            ("a{,2}", "a{,2}", "aa"),
            ("[[]", "[", "a"),
            ("[^]]", "a", "]"),
            ("[^^]x", "ax", "^x"),
            ("^[a&&b]+$", "a&b", "c"),
            ("^[[:digit:]x]+$", "1x", "dx"),
            (r"[\]-]", "]", "a"),
            (r"[\w.]+@", "a.b@", "-@"),
            ("[(?(]", "?", "1"),
            ("^(?!test)", "prod", "test1"),
            ("(?<=a)b", "ab", "bb"),
            ("(?i:A)b", "ab", "aB"),
            ("", "anything", "\u{0}never\u{0}"),
            (r"\<b\>", "<b>", "b"),
            (r"\\<", r"\<", "<"),
            (r"\<b", "<b", "b"),
            (r"b\>", "b>", "b"),
            ("^..$", "é", "ab\n"),
            ("^é{2}$", "éé", "éééé"),
            ("(?i)é", "é", "É"),
            (r"^\w$", "e", "é"),
        ];
        for (pattern, yes, no) in cases {
            assert!(found(pattern, yes), "{pattern} in {yes}");
            assert!(pattern.is_empty() || !found(pattern, no), "{pattern} in {no}");
        }
    }

    #[test]
    fn a_text_need_not_be_utf_8() {
        let pattern = Pattern::compile("b$").unwrap();
        assert!(pattern.is_in(b"\xffb"));
        assert!(!pattern.is_in(b"b\xff"));
    }

    #[test]
    fn what_is_no_pattern_does_not_compile() {
        for text in
            ["(", ")", "a(", "[", "[z-a]", "*", "+a", r"\", r"(a)\2", "(?<", "(?i", "a**b(", "[]", "[^]"]
        {
            assert!(Pattern::compile(text).is_none(), "{text}");
        }
    }

    /// A-2: neither compiling nor searching takes long, whatever the pattern.
    #[test]
    fn a_hostile_pattern_cannot_hang_the_server() {
        let started = Instant::now();
        let text = "a".repeat(10_000);
        for pattern in
            [r"(a*)*\1b", r"^(a+)+\1b$", r"(.*)(.*)(.*)(.*)(.*)\5x", "(a|aa)+$b", r"(?:(a?){50}){50}\1b"]
        {
            assert!(!found(pattern, &text), "{pattern}");
        }
        for pattern in [
            r"(?:\w{1000}){1000}".to_owned(),
            r"\w{5000}".to_owned(),
            "(".repeat(100_000),
            "(?:".repeat(100_000),
            format!("{}a{}", "(".repeat(10_000), ")".repeat(10_000)),
            format!("(a){}", r"\1".repeat(20_000)),
        ] {
            assert!(Pattern::compile(&pattern).is_none(), "{} bytes: {:.20}", pattern.len(), pattern);
        }
        assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
    }
    #[test]
    fn garbage_never_panics() {
        const WORDS: [&str; 36] = [
            "a",
            "b",
            "é",
            "(",
            ")",
            "(",
            ")",
            "[",
            "]",
            "[^",
            "|",
            "*",
            "+",
            "?",
            "{2}",
            "{1,3}",
            "{,2}",
            "{0}",
            r"\1",
            r"\2",
            r"\b",
            r"\w",
            r"\D",
            ".",
            "^",
            "$",
            "(?:",
            "(?i)",
            "(?=",
            "(?!",
            "(?<=",
            "(?<!",
            "(?(1)",
            "[[:alpha:]",
            "-",
            "\\",
        ];
        let patterns = garbage::texts(0x5eed, &WORDS).take(20_000).filter_map(|text| Pattern::compile(&text));
        let found = patterns.map(|pattern| pattern.is_in("abcab é\n aé\u{0}".as_bytes()));
        assert!(found.count() > 100, "few texts were patterns: the words are badly chosen");
    }
}
