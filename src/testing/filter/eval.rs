//! Evaluates a filter over one payload (F-7 to F-12).

use super::arithmetic::negative;
use super::expression::{Comparison, Expression, Test};
use crate::testing::payload::Document;
use crate::testing::value::Value;

impl Expression {
    /// The result of the expression as a logical value: TRUE, FALSE, or `None` for NULL.
    pub(super) fn truth(&self, document: &Document<'_>) -> Option<bool> {
        self.value(document).truth()
    }

    /// The one value of the expression; of a field that is an array, the first (F-12).
    pub(super) fn value<'e, 'd: 'e>(&'e self, document: &Document<'d>) -> Value<'e> {
        match self {
            Expression::Literal(value) => value.reborrow(),
            Expression::Field(identifier) => document.value(identifier),
            Expression::Negative(operand) => negative(&operand.value(document)),
            Expression::Arithmetic(first, rest) => {
                rest.iter().fold(first.value(document), |left, (operator, right)| {
                    operator.apply(&left, &right.value(document))
                })
            }
            Expression::Test(left, test) => Value::Bool(test.holds(left, document)),
            Expression::Not(operand) => operand.truth(document).map(|truth| !truth).into(),
            Expression::And(sides) => logical(sides, document, true),
            Expression::Or(sides) => logical(sides, document, false),
            Expression::Call(function, arguments) => function.call(arguments, document),
        }
    }

    /// All values of a field, the one value of anything else.
    fn values<'e, 'd: 'e>(&'e self, document: &Document<'d>) -> Vec<Value<'e>> {
        match self {
            Expression::Field(identifier) => document.values(identifier),
            other => vec![other.value(document)],
        }
    }
}

impl Test {
    /// True if any element on the left passes (F-11); a test is never NULL.
    fn holds(&self, left: &Expression, document: &Document<'_>) -> bool {
        let left = left.values(document);
        let any_text =
            |test: &dyn Fn(&[u8]) -> bool| left.iter().filter_map(Value::text).any(|text| test(&text));
        match self {
            Test::Compare(comparison, right) => any_pair(&left, &right.values(document), *comparison),
            Test::Between(low, high) => is_any_within(&left, &low.value(document), &high.value(document)),
            Test::In(items) => {
                items.iter().any(|item| any_pair(&left, &item.values(document), Comparison::Equal))
            }
            Test::Like(like) => any_text(&|text| like.is_in(text)),
            Test::Affix(affix, parts) => any_text(&|text| parts.iter().any(|part| affix.is_of(text, part))),
            Test::IsNull => left.iter().all(Value::is_null),
            Test::IsNan => left.first().is_some_and(Value::is_nan),
        }
    }
}

/// From left to right, while the result is `so_far`; NULL ends it as much as the deciding value does (F-9).
fn logical<'e, 'd: 'e>(sides: &'e [Expression], document: &Document<'d>, so_far: bool) -> Value<'e> {
    let mut truths = sides.iter().map(|side| side.truth(document));
    let decisive = truths.find(|truth| *truth != Some(so_far));
    decisive.unwrap_or(Some(so_far)).into()
}

/// Arrays whose elements would make more pairs than this are not compared: the work is the product of two lengths that
/// a publisher chooses.
const MAX_PAIRS: usize = 1_000_000;

/// True if any element of one side and any of the other compare like this (F-11).
fn any_pair(left: &[Value<'_>], right: &[Value<'_>], comparison: Comparison) -> bool {
    if left.len().saturating_mul(right.len()) > MAX_PAIRS {
        log::warn!(target: "amps::testing", "arrays of {} and {} elements are not compared", left.len(), right.len());
        return false;
    }
    left.iter().any(|left| right.iter().any(|right| comparison.holds(left, right)))
}

fn is_any_within(values: &[Value<'_>], low: &Value<'_>, high: &Value<'_>) -> bool {
    let is_within = |value: &Value<'_>| {
        Comparison::GreaterOrEqual.holds(value, low) && Comparison::LessOrEqual.holds(value, high)
    };
    values.iter().any(is_within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::filter::parser;
    use crate::testing::payload::PayloadType;

    #[test]
    fn the_work_on_two_arrays_is_bounded() {
        let array = |length: usize| vec!["1"; length].join(",");
        let filter = parser::parse("/a != /b").unwrap();
        for (left, right, expected) in [(1_000, 999, Some(true)), (50_000, 50_000, Some(false))] {
            let payload = format!(r#"{{"a":[{}],"b":[{},2]}}"#, array(left), array(right));
            let document = Document::new(PayloadType::Json, payload.as_bytes());
            assert_eq!(filter.truth(&document), expected, "{left} and {right} elements");
        }
    }

    /// F-9: nothing after the deciding side is looked at.
    #[test]
    fn logical_operators_stop_where_the_result_is_settled() {
        let document = Document::new(PayloadType::Json, b"{}");
        for (text, expected) in [
            ("1 = 2 AND NULL", Some(false)),
            ("1 = 1 AND NULL", None),
            ("NULL AND 1 = 2", None),
            ("1 = 1 OR NULL", Some(true)),
            ("1 = 2 OR NULL OR 1 = 1", None),
            ("1 = 2 OR 'x'", Some(false)),
        ] {
            assert_eq!(parser::parse(text).unwrap().truth(&document), expected, "{text}");
        }
    }
}
