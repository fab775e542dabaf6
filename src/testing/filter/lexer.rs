//! The words of a filter.

use super::BadFilter;
use super::expression::Comparison;
use crate::testing::payload::Identifier;
use crate::testing::value::Number;

/// One word, with the text of those that need it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token<'f> {
    /// A keyword or the name of a function.
    Word(&'f str),
    Number(Number),
    /// A string as it is written between its quotes.
    Text {
        written: &'f str,
        is_raw: bool,
    },
    Field(Identifier),
    Compare(Comparison),
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Open,
    Close,
    Comma,
    End,
}

/// Cuts a filter into tokens, one at a time.
pub(super) struct Lexer<'f> {
    text: &'f str,
    rest: &'f str,
}

impl<'f> Lexer<'f> {
    pub(super) fn new(text: &'f str) -> Lexer<'f> {
        Lexer { text, rest: text }
    }

    /// The next token and where it begins; [`Token::End`] at the end, as often as it is asked.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'f>), BadFilter> {
        self.rest = self.rest.trim_ascii_start();
        let at = self.text.len() - self.rest.len();
        let (token, rest) = scan(self.rest).map_err(|problem| self.bad(at, problem))?;
        self.rest = rest;
        Ok((at, token))
    }

    pub(super) fn bad(&self, at: usize, problem: &'static str) -> BadFilter {
        BadFilter::new(self.text, at, problem)
    }
}

type Scanned<'f> = Result<(Token<'f>, &'f str), &'static str>;

fn scan(text: &str) -> Scanned<'_> {
    match text.as_bytes().first() {
        None => Ok((Token::End, "")),
        Some(b'\'' | b'"') => string(text, false),
        Some(b'0'..=b'9') => number(text),
        Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => word(text),
        Some(b'/' | b'[') => {
            let field = Identifier::scan(text).map(|(identifier, rest)| (Token::Field(identifier), rest));
            field.map_or_else(|| symbol(text), Ok)
        }
        Some(_) => symbol(text),
    }
}

fn symbol(text: &str) -> Scanned<'_> {
    const SYMBOLS: [(&str, Token<'static>); 16] = [
        ("==", Token::Compare(Comparison::Equal)),
        ("=", Token::Compare(Comparison::Equal)),
        ("!=", Token::Compare(Comparison::NotEqual)),
        ("<>", Token::Compare(Comparison::NotEqual)),
        ("<=", Token::Compare(Comparison::LessOrEqual)),
        ("<", Token::Compare(Comparison::Less)),
        (">=", Token::Compare(Comparison::GreaterOrEqual)),
        (">", Token::Compare(Comparison::Greater)),
        ("+", Token::Plus),
        ("-", Token::Minus),
        ("*", Token::Star),
        ("/", Token::Slash),
        ("%", Token::Percent),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    let found = SYMBOLS.into_iter().find_map(|(symbol, token)| Some((token, text.strip_prefix(symbol)?)));
    found.ok_or("this character has no meaning")
}

fn word(text: &str) -> Scanned<'_> {
    let (word, rest) = split_while(text, |b| b.is_ascii_alphanumeric() || b == b'_');
    if word.eq_ignore_ascii_case("r") && rest.starts_with(['\'', '"']) {
        return string(rest, true);
    }
    Ok((Token::Word(word), rest))
}

/// Reads `12`, `98.6` or `6.022E23`; what does not belong to it is left.
fn number(text: &str) -> Scanned<'_> {
    let digits = |text| split_while(text, |b: u8| b.is_ascii_digit());
    let part = |text| Some(digits(text)).filter(|(digits, _)| !digits.is_empty()).map(|(_, rest)| rest);
    let whole = digits(text).1;
    let point = whole.strip_prefix('.').and_then(part).unwrap_or(whole);
    let exponent =
        point.strip_prefix(['e', 'E']).map(|power| power.strip_prefix(['+', '-']).unwrap_or(power));
    let rest = exponent.and_then(part).unwrap_or(point);
    let written = text.get(..text.len() - rest.len()).unwrap_or_default();
    let number = Number::parse(written.as_bytes()).ok_or("this is not a number")?;
    Ok((Token::Number(number), rest))
}

/// Reads a string from its opening quote on. Outside a raw one a backslash keeps the next quote from ending it.
fn string(text: &str, is_raw: bool) -> Scanned<'_> {
    let mut bytes = text.bytes().enumerate();
    let quote = bytes.next().map(|(_, quote)| quote);
    while let Some((at, byte)) = bytes.next() {
        if byte == b'\\' && !is_raw {
            bytes.next();
        } else if Some(byte) == quote {
            let written = text.get(1..at).unwrap_or_default();
            return Ok((Token::Text { written, is_raw }, text.get(at + 1..).unwrap_or_default()));
        }
    }
    Err("a string is not closed")
}

fn split_while(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|b| !belongs(b)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The bytes of a string that is not raw (F-3).
pub(super) fn unescape(written: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, next) = if *first == b'\\' { escape(after) } else { (*first, after) };
        text.push(byte);
        rest = next;
    }
    text
}

/// The byte that the text after a backslash stands for, and the text after that.
fn escape(text: &[u8]) -> (u8, &[u8]) {
    match text {
        [b'a', rest @ ..] => (0x07, rest),
        [b'b', rest @ ..] => (0x08, rest),
        [b't', rest @ ..] => (b'\t', rest),
        [b'n', rest @ ..] => (b'\n', rest),
        [b'f', rest @ ..] => (0x0c, rest),
        [b'r', rest @ ..] => (b'\r', rest),
        [b'x', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            (hex(*high) << 4 | hex(*low), rest)
        }
        [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', rest @ ..] => {
            ((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), rest)
        }
        [other, rest @ ..] => (*other, rest),
        [] => (b'\\', text),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        let next = || Some(lexer.next().unwrap().1).filter(|token| *token != Token::End);
        std::iter::from_fn(next).collect()
    }

    fn field(text: &str) -> Token<'static> {
        Token::Field(Identifier::parse(text).unwrap())
    }

    fn text(written: &str) -> Token<'_> {
        Token::Text { written, is_raw: false }
    }

    fn raw(written: &str) -> Token<'_> {
        Token::Text { written, is_raw: true }
    }

    fn integer(value: i128) -> Token<'static> {
        Token::Number(Number::Integer(value))
    }

    fn float(value: f64) -> Token<'static> {
        Token::Number(Number::Float(value))
    }

    /// F-1, F-5: the words of the grammar.
    #[test]
    fn a_filter_is_cut_into_tokens() {
        use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        let compare = Token::Compare;
        let cases = [
            ("/id=1", vec![field("/id"), compare(Equal), integer(1)]),
            (" == != <> ", vec![compare(Equal), compare(NotEqual), compare(NotEqual)]),
            ("<<=>>=", vec![compare(Less), compare(LessOrEqual), compare(Greater), compare(GreaterOrEqual)]),
            (
                "+-*%(,)",
                vec![
                    Token::Plus,
                    Token::Minus,
                    Token::Star,
                    Token::Percent,
                    Token::Open,
                    Token::Comma,
                    Token::Close,
                ],
            ),
            ("/a / 2", vec![field("/a"), Token::Slash, integer(2)]),
            ("/a/2", vec![field("/a/2")]),
            ("/a/ 2", vec![field("/a"), Token::Slash, integer(2)]),
            ("4/2", vec![integer(4), field("/2")]),
            ("4 /\t2", vec![integer(4), Token::Slash, integer(2)]),
            ("/a[1]<2", vec![field("/a[1]"), compare(Less), integer(2)]),
            ("[/a b]='x'", vec![field("[/a b]"), compare(Equal), text("x")]),
            ("And NOT_1", vec![Token::Word("And"), Token::Word("NOT_1")]),
            (
                "12 98.6 6.022E23 1e+2 1e-2",
                vec![integer(12), float(98.6), float(6.022e23), float(100.0), float(0.01)],
            ),
            ("18446744073709551616", vec![float(18446744073709551616.0)]),
            ("1e x", vec![integer(1), Token::Word("e"), Token::Word("x")]),
            (r#"'a"b' "c'd""#, vec![text("a\"b"), text("c'd")]),
            (r"'it\'s' '\\'", vec![text(r"it\'s"), text(r"\\")]),
            (r#"r'a\' R"b" r 'c'"#, vec![raw(r"a\"), raw("b"), Token::Word("r"), text("c")]),
            ("'é\u{1F600}'", vec![text("é😀")]),
            ("''", vec![text("")]),
        ];
        for (filter, expected) in cases {
            assert_eq!(tokens(filter), expected, "{filter}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_where_it_stands() {
        let cases = [
            ("/a = 'x", 5, "a string is not closed"),
            (r"/a = 'x\'", 5, "a string is not closed"),
            ("r'x\"", 0, "a string is not closed"),
            ("/a & 1", 3, "this character has no meaning"),
            ("é", 0, "this character has no meaning"),
            ("1 !", 2, "this character has no meaning"),
            ("5.", 1, "this character has no meaning"),
            (".5", 0, "this character has no meaning"),
            ("[a]", 0, "this character has no meaning"),
            ("/a\u{a0}", 2, "this character has no meaning"),
        ];
        for (filter, at, problem) in cases {
            let mut lexer = Lexer::new(filter);
            let error = std::iter::from_fn(|| Some(lexer.next())).find_map(Result::err).unwrap();
            assert_eq!((error.at, error.problem), (at, problem), "{filter}");
        }
    }

    /// F-3.
    #[test]
    fn escapes_stand_for_bytes() {
        let cases: [(&str, &[u8]); 14] = [
            (r"\a\b\t\n\f\r", b"\x07\x08\t\n\x0c\r"),
            (r"\x41\xfF", b"A\xff"),
            (r"\101\377\0001", b"A\xff\x001"),
            (r"\'\x22\\", b"'\"\\"),
            (r"\q\é", "qé".as_bytes()),
            (r"\x4", b"x4"),
            (r"\xg1", b"xg1"),
            (r"\12", b"12"),
            (r"\400", b"400"),
            (r"\189", b"189"),
            (r"\\x41", br"\x41"),
            ("plain", b"plain"),
            ("", b""),
            ("\\", b"\\"),
        ];
        for (written, expected) in cases {
            assert_eq!(unescape(written), expected, "{written}");
        }
    }
}
