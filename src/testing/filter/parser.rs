//! The grammar of filters, by recursive descent: one function for each level of precedence (F-4).

use super::BadFilter;
use super::arithmetic::Operator;
use super::expression::{Affix, Expression, Test};
use super::functions::Function;
use super::lexer::{Lexer, Token, unescape};
use super::like::Like;
use crate::testing::value::Value;

/// Brackets, calls, `NOT`s and signs within one another: what a thread's stack has room for, and far more than filters
/// have.
const MAX_DEPTH: usize = 100;

/// Compiled patterns take memory out of proportion to their text.
const MAX_PATTERNS: usize = 200;

type Parsed<T = Expression> = Result<T, BadFilter>;

/// Reads a filter that is the whole of `text`.
pub(super) fn parse(text: &str) -> Parsed {
    let mut lexer = Lexer::new(text);
    let (at, token) = lexer.next()?;
    let mut parser = Parser { lexer, token, at, depth: 0, patterns: 0 };
    let expression = parser.or()?;
    parser.expect(Token::End, "the filter should end")?;
    Ok(expression)
}

struct Parser<'f> {
    lexer: Lexer<'f>,
    /// The token to be looked at next, and where it begins.
    token: Token<'f>,
    at: usize,
    depth: usize,
    patterns: usize,
}

impl<'f> Parser<'f> {
    fn or(&mut self) -> Parsed {
        let mut sides = vec![self.and()?];
        while self.take_word("OR")? {
            sides.push(self.and()?);
        }
        Ok(only(&mut sides).unwrap_or(Expression::Or(sides)))
    }

    fn and(&mut self) -> Parsed {
        let mut sides = vec![self.not()?];
        while self.take_word("AND")? {
            sides.push(self.not()?);
        }
        Ok(only(&mut sides).unwrap_or(Expression::And(sides)))
    }

    fn not(&mut self) -> Parsed {
        if self.take_word("NOT")? {
            return Ok(negated_if(true, self.deeper(Self::not)?));
        }
        self.predicate()
    }

    fn predicate(&mut self) -> Parsed {
        let left = self.sum()?;
        self.tested(left)
    }

    /// What is said of `left`, if anything.
    fn tested(&mut self, left: Expression) -> Parsed {
        if let Token::Compare(comparison) = self.token {
            self.advance()?;
            return Ok(test(left, Test::Compare(comparison, self.sum()?)));
        }
        if self.take_word("IS")? {
            let is_negated = self.take_word("NOT")?;
            return Ok(negated_if(is_negated, test(left, self.null_or_nan()?)));
        }
        let is_negated = self.take_word("NOT")?;
        let at = self.at;
        match self.predicate_word()? {
            Some(word) => Ok(negated_if(is_negated, test(left, self.rest_of(word)?))),
            None if is_negated => Err(self.lexer.bad(at, "a predicate is missing")),
            None => Ok(left),
        }
    }

    fn null_or_nan(&mut self) -> Parsed<Test> {
        if self.take_word("NULL")? {
            return Ok(Test::IsNull);
        }
        self.expect_word("NAN", "NULL or NAN is missing")?;
        Ok(Test::IsNan)
    }

    fn predicate_word(&mut self) -> Parsed<Option<Predicate>> {
        for (keyword, predicate) in PREDICATES {
            if self.take_word(keyword)? {
                return Ok(Some(predicate));
            }
        }
        Ok(None)
    }

    fn rest_of(&mut self, predicate: Predicate) -> Parsed<Test> {
        Ok(match predicate {
            Predicate::Between => {
                let low = self.sum()?;
                self.expect_word("AND", "the AND of a BETWEEN is missing")?;
                Test::Between(low, self.sum()?)
            }
            Predicate::In => Test::In(self.list(Self::sum)?),
            Predicate::Like => Test::Like(self.pattern()?),
            Predicate::Affix(affix) => {
                self.expect_word("WITH", "the word WITH is missing")?;
                Test::Affix(affix, self.list(Self::string)?)
            }
        })
    }

    fn string(&mut self) -> Parsed<Vec<u8>> {
        let at = self.at;
        match self.advance()? {
            Token::Text { written, is_raw } => Ok(bytes(written, is_raw)),
            _ => Err(self.lexer.bad(at, "a string is missing")),
        }
    }

    fn pattern(&mut self) -> Parsed<Like> {
        let at = self.at;
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            return Err(self.lexer.bad(at, "there are too many patterns"));
        }
        match self.advance()? {
            Token::Text { written, is_raw: true } => Ok(Like::Text(written.into())),
            Token::Text { written, .. } => {
                Like::pattern(written).ok_or_else(|| self.lexer.bad(at, "this is not a regular expression"))
            }
            _ => Err(self.lexer.bad(at, "a pattern must be a string")),
        }
    }

    fn sum(&mut self) -> Parsed {
        self.chain(Self::term, |token| match token {
            Token::Plus => Some(Operator::Add),
            Token::Minus => Some(Operator::Subtract),
            _ => None,
        })
    }

    fn term(&mut self) -> Parsed {
        self.chain(Self::unary, |token| match token {
            Token::Star => Some(Operator::Multiply),
            Token::Slash => Some(Operator::Divide),
            Token::Percent => Some(Operator::Modulo),
            Token::Word(word) if word.eq_ignore_ascii_case("MOD") => Some(Operator::Modulo),
            _ => None,
        })
    }

    /// Operands with operators of one level between them.
    fn chain(
        &mut self,
        operand: fn(&mut Self) -> Parsed,
        operator: fn(&Token<'f>) -> Option<Operator>,
    ) -> Parsed {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(operator) = operator(&self.token) {
            self.advance()?;
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Arithmetic(Box::new(first), rest) })
    }

    fn unary(&mut self) -> Parsed {
        if self.take(&Token::Minus)? {
            return Ok(Expression::Negative(Box::new(self.deeper(Self::unary)?)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Parsed {
        if self.take(&Token::Open)? { self.group() } else { self.atom() }
    }

    fn group(&mut self) -> Parsed {
        let inner = self.deeper(Self::or)?;
        self.expect(Token::Close, "a closing bracket is missing")?;
        Ok(inner)
    }

    fn atom(&mut self) -> Parsed {
        let at = self.at;
        match self.advance()? {
            Token::Number(number) => Ok(Expression::Literal(Value::Number(number, None))),
            Token::Text { written, is_raw } => Ok(Expression::Literal(Value::string(bytes(written, is_raw)))),
            Token::Field(identifier) => Ok(Expression::Field(identifier)),
            Token::Word(word) if word.eq_ignore_ascii_case("NULL") => Ok(Expression::Literal(Value::Null)),
            Token::Word(name) if self.token == Token::Open => self.call(name, at),
            _ => Err(self.lexer.bad(at, "a value is missing")),
        }
    }

    fn call(&mut self, name: &str, at: usize) -> Parsed {
        let function = Function::of(name).ok_or_else(|| self.lexer.bad(at, "this function is not known"))?;
        self.expect(Token::Open, "an opening bracket is missing")?;
        let arguments = if self.take(&Token::Close)? { Vec::new() } else { self.items(Self::or)? };
        if !function.takes(arguments.len()) {
            return Err(self.lexer.bad(at, "this function takes another number of arguments"));
        }
        Ok(Expression::Call(function, arguments))
    }

    /// A list in brackets, of one item at least.
    fn list<T>(&mut self, item: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        self.expect(Token::Open, "an opening bracket is missing")?;
        self.items(item)
    }

    /// A list and its closing bracket.
    fn items<T>(&mut self, item: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![self.deeper(item)?];
        while self.take(&Token::Comma)? {
            items.push(self.deeper(item)?);
        }
        self.expect(Token::Close, "a closing bracket is missing")?;
        Ok(items)
    }

    /// Parses something inside what is being parsed, unless it is inside too much already.
    fn deeper<T>(&mut self, parse: fn(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.lexer.bad(self.at, "the filter is nested too deeply"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Takes the present token and reads the one after it.
    fn advance(&mut self) -> Parsed<Token<'f>> {
        let (at, next) = self.lexer.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn take(&mut self, token: &Token<'_>) -> Parsed<bool> {
        let is_next = self.token == *token;
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn take_word(&mut self, keyword: &str) -> Parsed<bool> {
        let is_next = matches!(self.token, Token::Word(word) if word.eq_ignore_ascii_case(keyword));
        if is_next {
            self.advance()?;
        }
        Ok(is_next)
    }

    fn expect(&mut self, token: Token<'_>, problem: &'static str) -> Parsed<()> {
        let at = self.at;
        if self.take(&token)? { Ok(()) } else { Err(self.lexer.bad(at, problem)) }
    }

    fn expect_word(&mut self, keyword: &str, problem: &'static str) -> Parsed<()> {
        let at = self.at;
        if self.take_word(keyword)? { Ok(()) } else { Err(self.lexer.bad(at, problem)) }
    }
}

/// A predicate that is written in words and may have `NOT` before it.
#[derive(Clone, Copy)]
enum Predicate {
    Between,
    In,
    Like,
    Affix(Affix),
}

const PREDICATES: [(&str, Predicate); 5] = [
    ("BETWEEN", Predicate::Between),
    ("IN", Predicate::In),
    ("LIKE", Predicate::Like),
    ("BEGINS", Predicate::Affix(Affix::Begins)),
    ("ENDS", Predicate::Affix(Affix::Ends)),
];

fn test(left: Expression, test: Test) -> Expression {
    Expression::Test(Box::new(left), Box::new(test))
}

fn negated_if(is_negated: bool, expression: Expression) -> Expression {
    if is_negated { Expression::Not(Box::new(expression)) } else { expression }
}

/// The one item of a list that has just one.
fn only<T>(items: &mut Vec<T>) -> Option<T> {
    if items.len() == 1 { items.pop() } else { None }
}

fn bytes(written: &str, is_raw: bool) -> Vec<u8> {
    if is_raw { written.into() } else { unescape(written) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::testing::garbage;
    use crate::testing::payload::{Document, PayloadType};

    fn problem(text: &str) -> &'static str {
        parse(text).map_or_else(|error| error.problem, |_| "none")
    }

    /// F-2: each way in which a text fails to be of the grammar of 6.1.
    #[test]
    fn what_is_not_of_the_grammar_is_refused() {
        let value = "a value is missing";
        let end = "the filter should end";
        let open = "an opening bracket is missing";
        let close = "a closing bracket is missing";
        let string = "a string is missing";
        let cases = [
            (
                value,
                vec![
                    "=",
                    "/a = = 1",
                    "AND",
                    "/a AND",
                    "NOT",
                    "()",
                    "/a IN ()",
                    "/a + ",
                    "/a * / 2",
                    "- ",
                    "1 = NOT 2",
                ],
            ),
            (value, vec!["/a IN (1,)", "/a = TRUE", "/a OR OR /b", "/a BETWEEN", "UPPER(,)", "CONCAT('a',)"]),
            (end, vec!["1 = 1 = 1", "/a /b", "/a/2 3", "/a / 2 2", "1)", "'a' 'b'"]),
            (
                end,
                vec![
                    "/a = 1 garbage",
                    "/a IS NULL IS NULL",
                    "/a LIKE 'x' LIKE 'y'",
                    "4/2",
                    "12abc",
                    "/a[0]/b",
                ],
            ),
            (open, vec!["/a IN 1", "/a IN", "/a BEGINS WITH 'a'", "/a NOT ENDS WITH 'a'"]),
            (
                close,
                vec![
                    "(1",
                    "((1)",
                    "(1,2)",
                    "/a IN (1 2)",
                    "UPPER('a'",
                    "UPPER('a' 'b')",
                    "/a BEGINS WITH ('a'",
                ],
            ),
            (
                string,
                vec!["/a BEGINS WITH (1)", "/a ENDS WITH (/b)", "/a BEGINS WITH ()", "/a BEGINS WITH ('a',)"],
            ),
            ("the word WITH is missing", vec!["/a BEGINS ('a')", "/a ENDS", "/a NOT BEGINS AND"]),
            (
                "the AND of a BETWEEN is missing",
                vec!["/a BETWEEN 1", "/a BETWEEN 1 OR 2", "/a BETWEEN (1 AND 2)"],
            ),
            ("NULL or NAN is missing", vec!["/a IS", "/a IS 1", "/a IS NOT", "/a IS NOT NOT NULL"]),
            ("a predicate is missing", vec!["/a NOT", "/a NOT = 1", "/a NOT NULL", "/a NOT NOT IN (1)"]),
            ("a pattern must be a string", vec!["/a LIKE", "/a LIKE 1", "/a LIKE ('a')", "/a NOT LIKE /b"]),
            ("this is not a regular expression", vec!["/a LIKE '['", "/a LIKE '(a'", "/a LIKE '*'"]),
            (
                "this function is not known",
                vec!["FOO()", "MOD(1,2)", "NOT_A(1)", "REPLACE('a','b','c')", "TRUE()"],
            ),
            ("this function takes another number of arguments", vec!["UPPER()", "IF(1,2)", "NAN_VALUE(1)"]),
            ("a string is not closed", vec!["'", "/a = \"x'", "/a LIKE 'a\\'"]),
            (
                "this character has no meaning",
                vec!["/a[x] = 1", "/a[0][1]", "{", "/a = 1;", "#", "/a ! = 1", "[/a = 1", "/a = .5"],
            ),
        ];
        for (expected, texts) in cases {
            for text in texts {
                assert_eq!(problem(text), expected, "{text}");
            }
        }
    }

    /// Every level of nesting is counted, and what stays below the bound fits a stack smaller than a thread's usual one.
    #[test]
    fn nesting_is_bounded() {
        for (open, close, levels) in
            [("(", ")", 1), ("NOT ", "", 1), ("- ", "", 1), ("ABS(", ")", 1), ("1 IN (2, (", "))", 2)]
        {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let deepest = nested(MAX_DEPTH / levels);
            let evaluated = move || {
                let document = Document::new(PayloadType::Json, b"{}");
                parse(&deepest).map(|expression| expression.truth(&document))
            };
            let thread = std::thread::Builder::new().stack_size(3 << 19).spawn(evaluated).unwrap();
            assert!(matches!(thread.join().unwrap(), Ok(Some(_))), "{open}");
            assert_eq!(problem(&nested(MAX_DEPTH / levels + 1)), "the filter is nested too deeply", "{open}");
            assert_eq!(problem(&nested(100_000)), "the filter is nested too deeply", "{open}");
        }
    }

    /// Chains are as long as they like and take no stack.
    #[test]
    fn a_long_filter_is_no_deep_one() {
        let started = Instant::now();
        let document = Document::new(PayloadType::Json, br#"{"a":1}"#);
        for (first, more) in [
            ("/a = 1", " AND /a = 1"),
            ("/a = 1", " OR /a = 2"),
            ("1 = 1", " + 0"),
            ("/a = 1", " * 1"),
            ("/a = 1", " / 1 % 2"),
            ("/a", " AND NOT NOT 1"),
        ] {
            let text = format!("{first}{}", more.repeat(10_000));
            assert_eq!(parse(&text).unwrap().truth(&document), Some(true), "{first}{more}...");
        }
        let list = format!("/a IN (0{},1)", ",0".repeat(10_000));
        assert_eq!(parse(&list).unwrap().truth(&document), Some(true));
        let string = format!("/a != '{}'", r"\x41".repeat(100_000));
        assert_eq!(parse(&string).unwrap().truth(&document), Some(true));
        assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
    }

    #[test]
    fn the_number_of_patterns_is_bounded() {
        let patterns = |count: usize| vec!["/a LIKE 'x'"; count].join(" OR ");
        assert_eq!(problem(&patterns(MAX_PATTERNS)), "none");
        assert_eq!(problem(&patterns(MAX_PATTERNS + 1)), "there are too many patterns");
    }

    /// Whatever the text, the parser comes to an end, and so does what it accepts.
    #[test]
    fn garbage_never_panics() {
        const WORDS: [&str; 56] = [
            "/a",
            "/b/c[1]",
            "[/x y]",
            "/",
            "[",
            "]",
            "(",
            "(",
            ")",
            ")",
            ",",
            "=",
            "!=",
            "<>",
            "<",
            ">=",
            "+",
            "-",
            "*",
            "%",
            "1",
            "0",
            "98.6",
            "6.0E23",
            "18446744073709551615",
            "99999999999999999999",
            "'a'",
            "'",
            "\"b\"",
            "r'c'",
            "r",
            "''",
            "'\\x4'",
            "'(.)\\1'",
            "'['",
            " AND ",
            " OR ",
            " NOT ",
            " IN ",
            " IS ",
            " NULL ",
            "NAN",
            " LIKE ",
            " BETWEEN ",
            " BEGINS ",
            " WITH ",
            " ENDS ",
            " MOD ",
            "UPPER",
            "CONCAT",
            "SUBSTR",
            "IF",
            "\\",
            "é",
            "\u{0}",
            "\u{1F600}",
        ];
        let payload = br#"{"a":[1,"x",null],"b":{"c":[2.5,true]},"x y":"z"}"#;
        let document = Document::new(PayloadType::Json, payload);
        let texts = garbage::texts(0x5eed, &WORDS).take(20_000).chain(garbage::bytes(0x5eed).take(20_000));
        let results =
            texts.filter_map(|text| parse(&text).ok()).map(|expression| expression.truth(&document));
        assert!(results.count() > 100, "few texts were filters: the words are badly chosen");
    }
}
