//! What a filter says, as a tree. Chains of operators lie flat in it, so that only brackets make it deep.

use std::cmp::Ordering;

use super::arithmetic::Operator;
use super::functions::Function;
use super::like::Like;
use crate::testing::payload::Identifier;
use crate::testing::value::Value;

/// One node of the tree.
#[derive(Debug)]
pub(super) enum Expression {
    Literal(Value<'static>),
    Field(Identifier),
    Negative(Box<Expression>),
    /// From left to right.
    Arithmetic(Box<Expression>, Vec<(Operator, Expression)>),
    /// The `NOT` form of a test is [`Not`](Expression::Not) around it (F-8).
    Test(Box<Expression>, Box<Test>),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Call(Function, Vec<Expression>),
}

/// What a predicate asks of the values on its left.
#[derive(Debug)]
pub(super) enum Test {
    Compare(Comparison, Expression),
    Between(Expression, Expression),
    In(Vec<Expression>),
    Like(Like),
    Affix(Affix, Vec<Vec<u8>>),
    IsNull,
    IsNan,
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// FALSE if the values do not compare, as NULL and NaN never do (F-7).
    pub(super) fn holds(self, left: &Value<'_>, right: &Value<'_>) -> bool {
        left.compare(right).is_some_and(match self {
            Comparison::Equal => Ordering::is_eq,
            Comparison::NotEqual => Ordering::is_ne,
            Comparison::Less => Ordering::is_lt,
            Comparison::LessOrEqual => Ordering::is_le,
            Comparison::Greater => Ordering::is_gt,
            Comparison::GreaterOrEqual => Ordering::is_ge,
        })
    }
}

/// `BEGINS WITH` or `ENDS WITH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affix {
    Begins,
    Ends,
}

impl Affix {
    /// An empty affix is NULL, which no text begins or ends with (F-10).
    pub(super) fn is_of(self, text: &[u8], affix: &[u8]) -> bool {
        !affix.is_empty()
            && match self {
                Affix::Begins => text.starts_with(affix),
                Affix::Ends => text.ends_with(affix),
            }
    }
}
