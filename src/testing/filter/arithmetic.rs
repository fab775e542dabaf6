//! Arithmetic on values (F-6).

use crate::testing::value::{Number, Value};

/// An operator between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Operator {
    /// NULL if an operand is; NaN if one is, or is a string that is no number.
    pub(super) fn apply(self, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
        let (Some(left), Some(right)) = (left.number(), right.number()) else {
            return Value::Null;
        };
        let number = match (left, right) {
            (Number::Integer(left), Number::Integer(right)) => self.on_integers(left, right),
            (left, right) => Number::Float(self.on_floats(left.as_float(), right.as_float())),
        };
        Value::Number(number, None)
    }

    /// The float result stands in for an integer that is out of range, also of the 128 bits of a product.
    fn on_integers(self, left: i128, right: i128) -> Number {
        let result = match self {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            Operator::Multiply => left.checked_mul(right),
            Operator::Divide | Operator::Modulo if right == 0 => return Number::NAN,
            Operator::Divide => left.checked_div(right),
            Operator::Modulo => left.checked_rem(right),
        };
        let float = || Number::Float(self.on_floats(left as f64, right as f64));
        result.map_or_else(float, Number::integer)
    }

    fn on_floats(self, left: f64, right: f64) -> f64 {
        match self {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
            Operator::Modulo => left % right,
        }
    }
}

/// Unary minus.
pub(super) fn negative(value: &Value<'_>) -> Value<'static> {
    Operator::Subtract.apply(&Value::integer(0), value)
}

/// The value without its sign: the function `ABS`.
pub(super) fn absolute(value: &Value<'_>) -> Value<'static> {
    match value.number() {
        None => Value::Null,
        Some(Number::Integer(value)) => Value::integer(value.abs()),
        Some(Number::Float(value)) => Value::float(value.abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: i128 = u64::MAX as i128;
    const MIN: i128 = i64::MIN as i128;

    fn text(text: &str) -> Value<'_> {
        Value::string(text.as_bytes())
    }

    /// F-5, F-6.
    #[test]
    fn operators_give_integers_floats_null_or_nan() {
        use Operator::{Add, Divide, Modulo, Multiply, Subtract};
        let cases = [
            (Value::integer(2), Add, Value::integer(3), "5"),
            (Value::integer(2), Subtract, Value::integer(3), "-1"),
            (Value::integer(2), Multiply, Value::integer(3), "6"),
            (Value::integer(1), Divide, Value::integer(5), "0"),
            (Value::integer(-7), Divide, Value::integer(2), "-3"),
            (Value::float(1.0), Divide, Value::integer(5), "0.2"),
            (Value::integer(1), Divide, Value::float(4.0), "0.25"),
            (Value::integer(-5), Modulo, Value::integer(3), "-2"),
            (Value::integer(5), Modulo, Value::integer(-3), "2"),
            (Value::float(-5.5), Modulo, Value::integer(3), "-2.5"),
            (Value::integer(1), Divide, Value::integer(0), "NaN"),
            (Value::integer(1), Modulo, Value::integer(0), "NaN"),
            (Value::float(1.0), Divide, Value::integer(0), "inf"),
            (text("2"), Multiply, text("3"), "6"),
            (text("2.5"), Add, Value::integer(1), "3.5"),
            (text("2x"), Add, Value::integer(1), "NaN"),
            (Value::Bool(true), Add, Value::Bool(true), "2"),
            (Value::Null, Add, Value::integer(1), "NULL"),
            (Value::integer(1), Multiply, Value::Null, "NULL"),
            (text("x"), Add, Value::Null, "NULL"),
            (Value::float(f64::NAN), Add, Value::integer(1), "NaN"),
            (Value::integer(MAX), Add, Value::integer(0), "18446744073709551615"),
            (Value::integer(MAX), Add, Value::integer(1), "18446744073709552000"),
            (Value::integer(MIN), Subtract, Value::integer(1), "-9223372036854776000"),
            (Value::integer(MIN), Divide, Value::integer(-1), "9223372036854775808"),
            (Value::integer(MAX), Multiply, Value::integer(MAX), "340282366920938500000000000000000000000"),
        ];
        for (left, operator, right, expected) in cases {
            let result = operator.apply(&left, &right);
            let text = result.text().map_or("NULL".into(), |text| String::from_utf8(text.into()).unwrap());
            assert_eq!(text, expected, "{left:?} {operator:?} {right:?}");
        }
    }

    #[test]
    fn a_sign_is_turned_or_taken_off() {
        assert_eq!(negative(&Value::integer(MIN)), Value::integer(-MIN));
        assert_eq!(negative(&text("2.5")), Value::float(-2.5));
        assert!(negative(&Value::Null).is_null() && absolute(&Value::Null).is_null());
        assert_eq!(absolute(&Value::integer(MIN)), Value::integer(-MIN));
        assert_eq!(absolute(&Value::float(-0.5)), Value::float(0.5));
        assert!(absolute(&text("x")).is_nan());
    }
}
