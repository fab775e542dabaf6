//! The functions of the filter language (F-14).

use std::borrow::Cow;

use super::arithmetic::absolute;
use super::expression::Expression;
use crate::testing::payload::Document;
use crate::testing::value::{Number, Value};

/// A function by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    If,
    Coalesce,
    Concat,
    Upper,
    Lower,
    Length,
    Substr,
    Reverse,
    Instr,
    InstrI,
    StrequalI,
    Abs,
    TrueValue,
    FalseValue,
    NanValue,
}

/// Name, function, and the least and the greatest number of arguments.
const FUNCTIONS: [(&str, Function, usize, usize); 15] = [
    ("IF", Function::If, 3, 3),
    ("COALESCE", Function::Coalesce, 1, usize::MAX),
    ("CONCAT", Function::Concat, 1, usize::MAX),
    ("UPPER", Function::Upper, 1, 1),
    ("LOWER", Function::Lower, 1, 1),
    ("LENGTH", Function::Length, 1, 1),
    ("SUBSTR", Function::Substr, 2, 3),
    ("REVERSE", Function::Reverse, 1, 1),
    ("INSTR", Function::Instr, 2, 2),
    ("INSTR_I", Function::InstrI, 2, 2),
    ("STREQUAL_I", Function::StrequalI, 2, 2),
    ("ABS", Function::Abs, 1, 1),
    ("TRUE_VALUE", Function::TrueValue, 0, 0),
    ("FALSE_VALUE", Function::FalseValue, 0, 0),
    ("NAN_VALUE", Function::NanValue, 0, 0),
];

impl Function {
    /// The function of this name, in any case.
    pub(super) fn of(name: &str) -> Option<Function> {
        FUNCTIONS.iter().find(|row| row.0.eq_ignore_ascii_case(name)).map(|row| row.1)
    }

    pub(super) fn takes(self, arguments: usize) -> bool {
        FUNCTIONS
            .iter()
            .any(|(_, function, least, most)| *function == self && (*least..=*most).contains(&arguments))
    }

    pub(super) fn call<'e, 'd: 'e>(self, arguments: &'e [Expression], document: &Document<'d>) -> Value<'e> {
        match (self, arguments) {
            (Function::If, [condition, then, otherwise]) => {
                let is_true = condition.truth(document) == Some(true);
                if is_true { then.value(document) } else { otherwise.value(document) }
            }
            (Function::Coalesce, _) => {
                let mut values = arguments.iter().map(|argument| argument.value(document));
                values.find(|value| !value.is_null()).unwrap_or(Value::Null)
            }
            (Function::Concat, _) => concat(arguments.iter().map(|argument| argument.value(document))),
            _ => {
                let values: Vec<_> = arguments.iter().map(|argument| argument.value(document)).collect();
                self.apply(&values).unwrap_or(Value::Null)
            }
        }
    }

    /// The functions whose arguments are all looked at; `None` is NULL, what most of them give for a NULL.
    fn apply(self, arguments: &[Value<'_>]) -> Option<Value<'static>> {
        Some(match (self, arguments) {
            (Function::Upper, [text]) => Value::string(text.text()?.to_ascii_uppercase()),
            (Function::Lower, [text]) => Value::string(text.text()?.to_ascii_lowercase()),
            (Function::Length, [text]) => Value::integer(text.text()?.len() as i128),
            (Function::Reverse, [text]) => {
                Value::string(text.text()?.iter().rev().copied().collect::<Vec<u8>>())
            }
            (Function::Substr, [text, position]) => substring(&text.text()?, whole(position)?, i128::MAX)?,
            (Function::Substr, [text, position, length]) => {
                substring(&text.text()?, whole(position)?, whole(length)?)?
            }
            (Function::Instr, [text, part]) => Value::integer(place(text.text(), part.text())),
            (Function::InstrI, [text, part]) => Value::integer(place(folded(text), folded(part))),
            (Function::StrequalI, [left, right]) => {
                let (left, right) = (left.text(), right.text());
                Value::Bool(left.zip(right).is_some_and(|(left, right)| left.eq_ignore_ascii_case(&right)))
            }
            (Function::Abs, [number]) => absolute(number),
            (Function::TrueValue, _) => Value::Bool(true),
            (Function::FalseValue, _) => Value::Bool(false),
            (Function::NanValue, _) => Value::float(f64::NAN),
            _ => Value::Null,
        })
    }
}

/// A longer text is not built: a short filter can name a long field very often.
const MAX_TEXT: usize = 16 << 20;

fn concat<'e>(values: impl Iterator<Item = Value<'e>>) -> Value<'e> {
    let mut joined = Vec::new();
    for value in values {
        joined.extend_from_slice(&value.text().unwrap_or_default());
        if joined.len() > MAX_TEXT {
            log::warn!(target: "amps::testing", "a CONCAT of more than {MAX_TEXT} bytes is taken as NULL");
            return Value::Null;
        }
    }
    Value::string(joined)
}

/// The part of `text` from a place counted from 1, or from the end if negative; `None` if that is outside.
fn substring(text: &[u8], position: i128, length: i128) -> Option<Value<'static>> {
    let start = if position < 0 { position + text.len() as i128 } else { position - 1 };
    let tail = text.get(usize::try_from(start).ok()?..)?;
    let length = usize::try_from(length.clamp(0, tail.len() as i128)).ok()?;
    tail.get(..length).map(|part| Value::string(part.to_vec()))
}

/// The integer part of a number.
fn whole(value: &Value<'_>) -> Option<i128> {
    match value.number()? {
        Number::Integer(value) => Some(value),
        Number::Float(value) if value.is_nan() => None,
        Number::Float(value) => Some(i128::from(value as i64)),
    }
}

fn folded<'v>(value: &'v Value<'_>) -> Option<Cow<'v, [u8]>> {
    value.text().map(|text| Cow::Owned(text.to_ascii_lowercase()))
}

/// The place of `part` in `text`, counted from 1, or 0.
fn place(text: Option<Cow<'_, [u8]>>, part: Option<Cow<'_, [u8]>>) -> i128 {
    let found = text.zip(part).and_then(|(text, part)| memchr::memmem::find(&text, &part));
    found.map_or(0, |place| place as i128 + 1)
}

#[cfg(test)]
mod tests {
    use super::super::parser;
    use super::*;
    use crate::testing::payload::PayloadType;

    const PAYLOAD: &str =
        r#"{"s":"fandango","n":10.50,"i":-7,"b":true,"e":"","a":["first","second"],"u":"éa"}"#;

    /// The text of what an expression gives, `NULL` for NULL.
    fn text(expression: &str) -> String {
        let expression = parser::parse(expression).unwrap();
        let document = Document::new(PayloadType::Json, PAYLOAD.as_bytes());
        let value = expression.value(&document);
        value.text().map_or("NULL".to_owned(), |text| text.escape_ascii().to_string())
    }

    /// F-14.
    #[test]
    fn functions_give_what_they_should() {
        let cases = [
            ("IF(1 = 1, 'yes', 'no')", "yes"),
            ("IF(1 = 2, 'yes', 'no')", "no"),
            ("IF(/q, 'yes', 'no')", "no"),
            ("IF(2, 'yes', 'no')", "yes"),
            ("IF('x', 'yes', 'no')", "no"),
            ("IF(1, /q, 'no')", "NULL"),
            ("COALESCE(/q, '', /n, 'x')", "10.50"),
            ("COALESCE(/a)", "first"),
            ("COALESCE(/q, NULL)", "NULL"),
            ("COALESCE(NAN_VALUE(), 1)", "NaN"),
            ("CONCAT('a', /q, 1, /n, /b, '')", "a110.501"),
            ("CONCAT(1.0 / 5)", "0.2"),
            ("CONCAT(/q, '')", "NULL"),
            ("UPPER(/s)", "FANDANGO"),
            ("UPPER(/u)", "\\xc3\\xa9A"),
            ("UPPER(/a)", "FIRST"),
            ("UPPER(/q)", "NULL"),
            ("UPPER(/n)", "10.50"),
            ("LOWER('AbC')", "abc"),
            ("LOWER(/q)", "NULL"),
            ("LENGTH(/s)", "8"),
            ("LENGTH(/u)", "3"),
            ("LENGTH(/n)", "5"),
            ("LENGTH('')", "NULL"),
            ("REVERSE(/s)", "ognadnaf"),
            ("REVERSE(123)", "321"),
            ("REVERSE(/q)", "NULL"),
            ("SUBSTR('fandango',5)", "ango"),
            ("SUBSTR(/s,1)", "fandango"),
            ("SUBSTR(/s,8)", "o"),
            ("SUBSTR(/s,9)", "NULL"),
            ("SUBSTR(/s,99)", "NULL"),
            ("SUBSTR(/s,0)", "NULL"),
            ("SUBSTR(/s,-2)", "go"),
            ("SUBSTR(/s,-8)", "fandango"),
            ("SUBSTR(/s,-9)", "NULL"),
            ("SUBSTR(/s,2,3)", "and"),
            ("SUBSTR(/s,-4,2)", "an"),
            ("SUBSTR(/s,7,99)", "go"),
            ("SUBSTR(/s,7,18446744073709551615)", "go"),
            ("SUBSTR(/s,2,0)", "NULL"),
            ("SUBSTR(/s,2,-1)", "NULL"),
            ("SUBSTR(/s,'2',1.9)", "a"),
            ("SUBSTR(/s,18446744073709551615)", "NULL"),
            ("SUBSTR(/s,-9223372036854775808)", "NULL"),
            ("SUBSTR(/s,1E300)", "NULL"),
            ("SUBSTR(/s,'x')", "NULL"),
            ("SUBSTR(/s,/q)", "NULL"),
            ("SUBSTR(/s,1,/q)", "NULL"),
            ("SUBSTR(/q,1)", "NULL"),
            ("INSTR(/s,'an')", "2"),
            ("INSTR(/s,'AN')", "0"),
            ("INSTR(/s,'fandango!')", "0"),
            ("INSTR(/n,'.5')", "3"),
            ("INSTR(/q,'a')", "0"),
            ("INSTR(/s,/q)", "0"),
            ("INSTR_I(/s,'AN')", "2"),
            ("INSTR_I('ÄAN','an')", "3"),
            ("INSTR_I(/s,'x')", "0"),
            ("INSTR_I(/s,'')", "0"),
            ("STREQUAL_I(/s,'FanDango')", "1"),
            ("STREQUAL_I(/s,'fan')", "0"),
            ("STREQUAL_I('é','É')", "0"),
            ("STREQUAL_I(5,'5')", "1"),
            ("STREQUAL_I(/q,/q)", "0"),
            ("ABS(/i)", "7"),
            ("ABS(-2.5)", "2.5"),
            ("ABS('-3')", "3"),
            ("ABS('x')", "NaN"),
            ("ABS(/q)", "NULL"),
            ("TRUE_VALUE()", "1"),
            ("FALSE_VALUE( )", "0"),
            ("NAN_VALUE()", "NaN"),
            ("upper (Concat('a', sUBSTR(/s, 5)))", "AANGO"),
        ];
        for (expression, expected) in cases {
            assert_eq!(text(expression), expected, "{expression}");
        }
    }

    /// F-14.
    #[test]
    fn a_wrong_number_of_arguments_is_a_bad_filter() {
        for (name, _, least, most) in FUNCTIONS {
            for count in 0..5 {
                let call = format!("{name}({})", vec!["1"; count].join(","));
                assert_eq!(parser::parse(&call).is_ok(), (least..=most).contains(&count), "{call}");
            }
        }
    }

    #[test]
    fn a_text_does_not_grow_without_bound() {
        let payload = format!(r#"{{"s":"{}"}}"#, "x".repeat(1 << 20));
        let document = Document::new(PayloadType::Json, payload.as_bytes());
        let concat =
            |times: usize| parser::parse(&format!("CONCAT({})", vec!["/s"; times].join(","))).unwrap();
        assert_eq!(concat(16).value(&document).text().map(|text| text.len()), Some(MAX_TEXT));
        assert!(concat(17).value(&document).is_null());
    }
}
