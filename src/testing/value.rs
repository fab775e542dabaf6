//! Values of fields and of expressions: NULL, Booleans, numbers and strings, and how they compare (F-5, F-7).

use std::borrow::Cow;
use std::cmp::Ordering;

/// One value. An empty string is NULL (F-10); a number read from a payload keeps the text it was written as (P-8).
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number, Option<&'a [u8]>),
    Text(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    pub(crate) fn integer(value: i128) -> Value<'a> {
        Value::Number(Number::integer(value), None)
    }

    pub(crate) fn float(value: f64) -> Value<'a> {
        Value::Number(Number::Float(value), None)
    }

    /// A string, or NULL if it is empty.
    pub(crate) fn string(text: impl Into<Cow<'a, [u8]>>) -> Value<'a> {
        let text = text.into();
        if text.is_empty() { Value::Null } else { Value::Text(text) }
    }

    /// A number if the text reads wholly as one, else a string: the values of types that do not write down which
    /// (P-9).
    pub(crate) fn guess(text: &'a [u8]) -> Value<'a> {
        Number::parse(text).map_or_else(|| Value::string(text), |number| Value::Number(number, Some(text)))
    }

    /// The same value without a copy of its text.
    pub(crate) fn reborrow(&self) -> Value<'_> {
        match self {
            Value::Null => Value::Null,
            Value::Bool(value) => Value::Bool(*value),
            Value::Number(number, text) => Value::Number(*number, *text),
            Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub(crate) fn is_nan(&self) -> bool {
        matches!(self, Value::Number(number, _) if number.is_nan())
    }

    /// The text of a value that is not NULL.
    pub(crate) fn text(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Value::Null => None,
            Value::Bool(value) => Some(Cow::Borrowed(if *value { b"1" } else { b"0" })),
            Value::Number(_, Some(text)) => Some(Cow::Borrowed(text)),
            Value::Number(number, None) => Some(Cow::Owned(number.to_string().into_bytes())),
            Value::Text(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// The value as arithmetic takes it (F-6): NaN for a string that is no number, `None` for NULL.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Value::Null => None,
            Value::Bool(value) => Some(Number::Integer(i128::from(*value))),
            Value::Number(number, _) => Some(*number),
            Value::Text(text) => Some(Number::parse(text).unwrap_or(Number::NAN)),
        }
    }

    /// The value as a logical operator takes it (F-9): `None` is NULL, a string is never true.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self {
            Value::Null => None,
            Value::Bool(value) => Some(*value),
            Value::Number(number, _) => Some(!number.is_nan() && !number.is_zero()),
            Value::Text(_) => Some(false),
        }
    }

    /// How two values compare in a filter (F-7); `None` if one of them is NULL or NaN, which no comparison finds true.
    pub(crate) fn compare(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
            (Value::Text(left), right) => compare_text(left, right.number()?),
            (left, Value::Text(right)) => compare_text(right, left.number()?).map(Ordering::reverse),
            (left, right) => left.number()?.compare(right.number()?),
        }
    }

    /// The place of a value in a sorted result (S-8): NULL, then numbers, then strings.
    ///
    /// Within numbers and within strings this is [`compare`](Value::compare). That one converts a string that meets a
    /// number, which is no order to sort by: `'9' < 9.5 < '10' < '9'`.
    pub(crate) fn order(&self, other: &Value<'_>) -> Ordering {
        self.rank().cmp(&other.rank()).then_with(|| self.compare(other).unwrap_or(Ordering::Equal))
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            value if value.is_nan() => 1,
            Value::Bool(_) | Value::Number(..) => 2,
            Value::Text(_) => 3,
        }
    }
}

impl From<Option<bool>> for Value<'_> {
    fn from(truth: Option<bool>) -> Self {
        truth.map_or(Value::Null, Value::Bool)
    }
}

/// A number, exact while it fits 64 bits, signed or unsigned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    pub(crate) const NAN: Number = Number::Float(f64::NAN);

    /// An integer, or the nearest float if it is outside the range of 64 bits.
    pub(crate) fn integer(value: i128) -> Number {
        if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value) {
            Number::Integer(value)
        } else {
            Number::Float(value as f64)
        }
    }

    /// Reads a number that is the whole of `text`: a float if it has a point or an exponent.
    pub(crate) fn parse(text: &[u8]) -> Option<Number> {
        if !text.iter().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        match text.parse::<i128>() {
            Ok(value) => Some(Number::integer(value)),
            Err(_) => text.parse::<f64>().ok().map(Number::Float),
        }
    }

    pub(crate) fn is_nan(self) -> bool {
        matches!(self, Number::Float(value) if value.is_nan())
    }

    pub(crate) fn is_zero(self) -> bool {
        self.as_float() == 0.0
    }

    pub(crate) fn as_float(self) -> f64 {
        match self {
            Number::Integer(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    /// Exact also between an integer and a float, so that it can be sorted by; `None` for NaN.
    pub(crate) fn compare(self, other: Number) -> Option<Ordering> {
        match (self, other) {
            (Number::Integer(left), Number::Integer(right)) => Some(left.cmp(&right)),
            (Number::Float(left), Number::Float(right)) => left.partial_cmp(&right),
            (Number::Integer(left), Number::Float(right)) => compare_mixed(left, right),
            (Number::Float(left), Number::Integer(right)) => {
                compare_mixed(right, left).map(Ordering::reverse)
            }
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Integer(value) => value.fmt(f),
            Number::Float(value) => value.fmt(f),
        }
    }
}

/// A string that is no number is greater than any number.
fn compare_text(text: &[u8], number: Number) -> Option<Ordering> {
    if number.is_nan() {
        return None;
    }
    Number::parse(text).map_or(Some(Ordering::Greater), |text| text.compare(number))
}

/// The cast keeps every whole number up to 2^127 and saturates beyond, where no integer of ours is.
fn compare_mixed(integer: i128, float: f64) -> Option<Ordering> {
    let fraction = 0.0.partial_cmp(&float.fract()).or(float.is_infinite().then_some(Ordering::Equal))?;
    Some(integer.cmp(&(float.trunc() as i128)).then(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value<'_> {
        Value::string(text.as_bytes())
    }

    /// F-5: exact in the signed and the unsigned range, float beyond it, float with a point or an exponent.
    #[test]
    fn a_text_reads_as_a_number_only_as_a_whole() {
        let cases = [
            ("0", Some(Number::Integer(0))),
            ("-3", Some(Number::Integer(-3))),
            ("+7", Some(Number::Integer(7))),
            ("007", Some(Number::Integer(7))),
            ("9223372036854775808", Some(Number::Integer(1 << 63))),
            ("18446744073709551615", Some(Number::Integer(u64::MAX.into()))),
            ("18446744073709551616", Some(Number::Float(18446744073709551616.0))),
            ("-9223372036854775808", Some(Number::Integer(i64::MIN.into()))),
            ("-9223372036854775809", Some(Number::Float(-9223372036854775808.0))),
            ("98.6", Some(Number::Float(98.6))),
            ("6.022E23", Some(Number::Float(6.022e23))),
            ("2.0", Some(Number::Float(2.0))),
            ("1e999", Some(Number::Float(f64::INFINITY))),
            ("", None),
            ("-", None),
            ("e", None),
            ("1-2", None),
            ("1.2.3", None),
            ("5 ", None),
            (" 5", None),
            ("0x10", None),
            ("inf", None),
            ("NaN", None),
            ("12abc", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Number::parse(text.as_bytes()), expected, "{text:?}");
        }
        let digits = "9".repeat(100_000);
        assert_eq!(Number::parse(digits.as_bytes()), Some(Number::Float(f64::INFINITY)));
    }

    /// F-7, F-10.
    #[test]
    fn values_compare_by_their_types() {
        use Ordering::{Equal, Greater, Less};
        let cases = [
            (text("abc"), text("abd"), Some(Less)),
            (text("2.000"), text("2.0"), Some(Greater)),
            (text("10"), text("9"), Some(Less)),
            (text("10"), Value::integer(9), Some(Greater)),
            (Value::integer(10), text("2"), Some(Greater)),
            (Value::integer(10), text("Crank It Up"), Some(Less)),
            (text("2.0"), Value::integer(2), Some(Equal)),
            (Value::Bool(true), Value::integer(1), Some(Equal)),
            (Value::Bool(true), text("1"), Some(Equal)),
            (Value::integer(2), Value::float(2.0), Some(Equal)),
            (Value::integer(2), Value::float(2.5), Some(Less)),
            (Value::integer(-2), Value::float(-2.5), Some(Greater)),
            (Value::integer(0), Value::float(-0.0), Some(Equal)),
            (Value::integer((1 << 53) + 1), Value::float((1_u64 << 53) as f64), Some(Greater)),
            (Value::integer(u64::MAX.into()), Value::float(u64::MAX as f64), Some(Less)),
            (Value::integer(u64::MAX.into()), Value::float(f64::INFINITY), Some(Less)),
            (Value::float(f64::NEG_INFINITY), Value::integer(i64::MIN.into()), Some(Less)),
            (Value::Null, Value::Null, None),
            (Value::Null, text("a"), None),
            (text("a"), Value::Null, None),
            (Value::integer(1), Value::Null, None),
            (Value::float(f64::NAN), Value::integer(1), None),
            (Value::float(f64::NAN), Value::float(f64::NAN), None),
            (Value::float(f64::NAN), text("a"), None),
            (text(""), text(""), None),
        ];
        for (left, right, expected) in cases {
            assert_eq!(left.compare(&right), expected, "{left:?} against {right:?}");
            assert_eq!(right.compare(&left), expected.map(Ordering::reverse), "{right:?} against {left:?}");
        }
    }

    /// S-8: whatever the values, they can be sorted.
    #[test]
    fn the_order_of_values_is_total() {
        let values = [
            Value::Null,
            Value::float(f64::NAN),
            Value::float(f64::NEG_INFINITY),
            Value::integer(-1),
            Value::Bool(false),
            Value::Bool(true),
            Value::float(9.5),
            Value::integer(10),
            Value::integer((1 << 53) + 1),
            Value::float(f64::INFINITY),
            text("10"),
            text("9"),
            text("abc"),
        ];
        for (i, left) in values.iter().enumerate() {
            for (j, right) in values.iter().enumerate() {
                assert_eq!(left.order(right), i.cmp(&j), "{left:?} against {right:?}");
            }
        }
    }

    /// P-8, P-9: the text of a number is what was written, of a computed one what it is.
    #[test]
    fn values_have_a_text() {
        let cases = [
            (Value::guess(b"10.50"), Some("10.50")),
            (Value::guess(b"007"), Some("007")),
            (Value::guess(b"abc"), Some("abc")),
            (Value::guess(b""), None),
            (Value::integer(-3), Some("-3")),
            (Value::float(0.2), Some("0.2")),
            (Value::Bool(true), Some("1")),
            (Value::Bool(false), Some("0")),
            (Value::Null, None),
        ];
        for (value, expected) in cases {
            assert_eq!(value.text().as_deref(), expected.map(str::as_bytes), "{value:?}");
            assert_eq!(value.reborrow().text(), value.text());
        }
    }

    /// F-9: a number is true when it is not zero, a string never.
    #[test]
    fn values_have_a_truth() {
        let cases = [
            (Value::Null, None),
            (Value::Bool(true), Some(true)),
            (Value::integer(0), Some(false)),
            (Value::integer(-1), Some(true)),
            (Value::float(0.5), Some(true)),
            (Value::float(-0.0), Some(false)),
            (Value::float(f64::NAN), Some(false)),
            (text("true"), Some(false)),
            (text("1"), Some(false)),
        ];
        for (value, expected) in cases {
            assert_eq!(value.truth(), expected, "{value:?}");
        }
    }
}
