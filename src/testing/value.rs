//! Values of fields and of expressions: NULL, Booleans, numbers and strings (F-5).

use std::borrow::Cow;

/// One value. Numbers of a payload keep the text they were written as.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number, Option<&'a [u8]>),
    Text(Cow<'a, [u8]>),
}

/// A number, exact while it fits 64 bits signed or unsigned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Integer(i128),
    Float(f64),
}
