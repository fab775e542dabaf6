//! From Perl's regular expressions to those of the engine (F-13).
//!
//! What the engine has beyond them, or takes for something else, is refused or escaped: a pattern means here what it
//! means to AMPS, or nothing. Word edges `\<`, set operations in classes, `{,n}`, conditions, calls and verbs are such.

/// The pattern as the engine takes it, or `None` if it has syntax that is not supported.
pub(super) fn translate(pattern: &str) -> Option<String> {
    let mut translation = Translation { rest: pattern, text: String::with_capacity(pattern.len() + 8) };
    while let Some(character) = translation.take() {
        match character {
            '\\' => translation.escape(false)?,
            '[' => translation.class()?,
            '(' => translation.group()?,
            '{' if translation.rest.starts_with(',') => translation.text.push_str("\\{"),
            other => translation.text.push(other),
        }
    }
    Some(translation.text)
}

struct Translation<'p> {
    rest: &'p str,
    text: String,
}

impl Translation<'_> {
    fn take(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let taken = characters.next();
        self.rest = characters.as_str();
        taken
    }

    fn take_if(&mut self, expected: char) -> bool {
        let after = self.rest.strip_prefix(expected);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// What follows a backslash.
    fn escape(&mut self, is_in_class: bool) -> Option<()> {
        let escaped = self.take()?;
        let letters = if is_in_class { "dwsDWSbtnrfaex" } else { "dwsDWSbBAztnrfaex" };
        match escaped {
            '<' => self.text.push_str("\\x3C"),
            '>' => self.text.push_str("\\x3E"),
            '1'..='9' if is_in_class => return None,
            '0' => return None,
            letter if letter.is_ascii_alphabetic() && !letters.contains(letter) => return None,
            other => self.text.extend(['\\', other]),
        }
        Some(())
    }

    /// What follows the opening bracket of a character class, up to the closing one. A first `]` stands for itself.
    fn class(&mut self) -> Option<()> {
        self.text.push('[');
        if self.take_if('^') {
            self.text.push('^');
        }
        if self.take_if(']') {
            self.text.push_str("\\]");
        }
        loop {
            match self.take()? {
                ']' => break self.text.push(']'),
                '\\' => self.escape(true)?,
                '[' => self.class_name(),
                operator @ ('&' | '~') => self.text.extend(['\\', operator]),
                '-' if self.text.ends_with('-') => self.text.push_str("\\-"),
                other => self.text.push(other),
            }
        }
        Some(())
    }

    /// A bracket within a class: of a name such as `[:alpha:]`, or one that stands for itself.
    fn class_name(&mut self) {
        let name = self.rest.strip_prefix(':').and_then(|name| name.split_once(":]"));
        match name {
            Some((name, rest)) if name.bytes().all(|b| b.is_ascii_lowercase() || b == b'^') => {
                self.text.extend(["[:", name, ":]"]);
                self.rest = rest;
            }
            _ => self.text.push_str("\\["),
        }
    }

    /// What follows an opening parenthesis, as far as it says of what kind the group is.
    fn group(&mut self) -> Option<()> {
        self.text.push('(');
        let Some(kind) = self.rest.strip_prefix('?') else {
            return (!self.rest.starts_with('*')).then_some(());
        };
        let after_flags = kind.trim_start_matches(['i', 'm', 's', 'x', '-']);
        let has_flags = after_flags.len() < kind.len() && after_flags.starts_with([')', ':']);
        let is_known = has_flags || [":", "=", "!", "<=", "<!"].iter().any(|known| kind.starts_with(known));
        is_known.then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_takes_otherwise_is_escaped() {
        let cases = [
            ("plain (a|b)* {2} é", "plain (a|b)* {2} é"),
            (r"\<a\>\.\/\é", r"\x3Ca\x3E\.\/\é"),
            ("a{,3}b{1,3}", r"a\{,3}b{1,3}"),
            ("[]a][^]a]", r"[\]a][^\]a]"),
            ("[a[b]", r"[a\[b]"),
            ("[a&&b~~c--d]", r"[a\&\&b\~\~c-\-d]"),
            ("[[:alpha:][:^digit:]x]", "[[:alpha:][:^digit:]x]"),
            ("[[:x]", r"[\[:x]"),
            (r"[\]\<\[]", r"[\]\x3C\[]"),
            ("[(?<n>(*]", "[(?<n>(*]"),
            ("(?i)(?:a)(?=b)(?!c)(?<=d)(?<!e)(?-i:f)", "(?i)(?:a)(?=b)(?!c)(?<=d)(?<!e)(?-i:f)"),
        ];
        for (pattern, expected) in cases {
            assert_eq!(translate(pattern).as_deref(), Some(expected), "{pattern}");
        }
    }

    /// F-13: what comes later is refused until then, not taken for something else.
    #[test]
    fn what_is_not_supported_is_refused() {
        let bad = [
            "(?P<n>a)", "(?<n>a)", "(?'n'a)", "(?>a)", "(?(1)a)", "(?|a)", "(?#a)", "(?R)", "(?1)", "(?~a)",
            "(?U)", "(?u)", "(?", "(?i", "(*FAIL)", r"\g<1>", r"\k<n>", r"\K", r"\G", r"\R", r"\N", r"\h",
            r"\O", r"\pL", r"\u0041", r"\U", r"\Q", r"\0", r"\Z", r"[\B]", r"[\1]", "[a", "[", "[]", "[^]",
            r"\", r"[\",
        ];
        for pattern in bad {
            assert_eq!(translate(pattern), None, "{pattern}");
        }
    }
}
