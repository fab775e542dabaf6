//! The order of a query's records: `orderby` (S-8).

use std::cmp::Ordering;

use super::payload::{Document, Identifier};

/// Fields to sort by, each in its direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OrderBy {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    identifier: Identifier,
    is_descending: bool,
}

impl OrderBy {
    /// Reads a comma list of identifiers, each with an optional `ASC` or `DESC` in any case.
    pub(crate) fn parse(text: &str) -> Result<OrderBy, InvalidOrderBy> {
        let mut terms = Vec::new();
        let mut rest = text;
        loop {
            let (term, after) = Term::scan(rest).map_err(|problem| InvalidOrderBy::new(text, problem))?;
            terms.push(term);
            match after.strip_prefix(',') {
                Some(next) => rest = next,
                None if after.is_empty() => return Ok(OrderBy { terms }),
                None => return Err(InvalidOrderBy::new(text, "a comma is missing")),
            }
        }
    }

    /// Which record comes first. NULL is less than any value, so it leads an ascending order and ends a descending one;
    /// of an array the first element counts. Equal records are left as they are by a stable sort, in order of age.
    pub(crate) fn compare(&self, left: &Document<'_>, right: &Document<'_>) -> Ordering {
        let by_term = |term: &Term| term.compare(left, right);
        self.terms.iter().map(by_term).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
    }
}

impl Term {
    /// Reads one term and returns it with the text after it, blanks skipped.
    fn scan(text: &str) -> Result<(Term, &str), &'static str> {
        let (identifier, rest) =
            Identifier::scan(text.trim_ascii_start()).ok_or("an identifier is missing")?;
        let direction = rest.trim_ascii_start();
        let end = direction.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(direction.len());
        let (word, rest) = direction.split_at_checked(end).unwrap_or((direction, ""));
        let is_descending = word.eq_ignore_ascii_case("DESC");
        if is_descending || word.is_empty() || word.eq_ignore_ascii_case("ASC") {
            Ok((Term { identifier, is_descending }, rest.trim_ascii_start()))
        } else {
            Err("a direction is neither ASC nor DESC")
        }
    }

    fn compare(&self, left: &Document<'_>, right: &Document<'_>) -> Ordering {
        let ordering = left.value(&self.identifier).order(&right.value(&self.identifier));
        if self.is_descending { ordering.reverse() } else { ordering }
    }
}

/// Why a text is not an order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid order by {text:?}: {problem}")]
pub(crate) struct InvalidOrderBy {
    text: String,
    problem: &'static str,
}

impl InvalidOrderBy {
    fn new(text: &str, problem: &'static str) -> InvalidOrderBy {
        InvalidOrderBy { text: text.to_owned(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::PayloadType;
    use super::*;

    /// The places of the payloads after sorting.
    fn sorted(order: &str, payloads: &[&str]) -> Vec<usize> {
        let order = OrderBy::parse(order).unwrap();
        let documents: Vec<_> =
            payloads.iter().map(|text| Document::new(PayloadType::Json, text.as_bytes())).collect();
        let mut places: Vec<_> = (0..documents.len()).collect();
        places.sort_by(|left, right| order.compare(&documents[*left], &documents[*right]));
        places
    }

    /// S-8.
    #[test]
    fn records_are_sorted_by_their_fields() {
        let numbers = [r#"{"a":10}"#, r#"{"a":9.5}"#, r#"{"a":-1}"#, r#"{}"#, r#"{"a":9.5}"#];
        let strings = [r#"{"a":"b"}"#, r#"{"a":"10"}"#, r#"{"a":"9"}"#, r#"{"a":""}"#, r#"{"a":"B"}"#];
        let pairs = [r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, r#"{"a":1,"b":2}"#, r#"{"a":2,"b":2}"#];
        let nested = [r#"{"o":{"x":[3,0]}}"#, r#"{"o":{"x":[2,9]}}"#, r#"{"o":{"x":1}}"#];
        let mixed = [r#"{"a":"9"}"#, r#"{"a":9.5}"#, r#"{"a":"10"}"#, r#"{"a":true}"#, r#"{"a":null}"#];
        let cases: [(&str, &[&str], [usize; 5]); 13] = [
            ("/a", &numbers, [3, 2, 1, 4, 0]),
            ("/a ASC", &numbers, [3, 2, 1, 4, 0]),
            ("/a DESC", &numbers, [0, 1, 4, 2, 3]),
            ("/a", &strings, [3, 1, 2, 4, 0]),
            ("/a,/b", &pairs, [0, 2, 1, 3, 9]),
            ("/a desc , /b Asc", &pairs, [1, 3, 0, 2, 9]),
            ("/b DESC,/a DESC", &pairs, [3, 2, 1, 0, 9]),
            ("/b", &pairs, [0, 1, 2, 3, 9]),
            ("/missing", &pairs, [0, 1, 2, 3, 9]),
            (" /o/x ", &nested, [2, 1, 0, 9, 9]),
            ("/o/x[1]", &nested, [2, 0, 1, 9, 9]),
            ("[/o/x]DESC", &nested, [0, 1, 2, 9, 9]),
            ("/a", &mixed, [4, 3, 1, 2, 0]),
        ];
        for (order, payloads, expected) in cases {
            assert_eq!(sorted(order, payloads), expected[..payloads.len()], "{order} of {payloads:?}");
        }
    }

    /// S-8: F-7 alone is no order to sort by, and a sort must not fail for it.
    #[test]
    fn any_mixture_of_values_can_be_sorted() {
        let texts: Vec<_> = (0..500_u32)
            .map(|n| n.wrapping_mul(2_654_435_761) >> 20)
            .map(|n| match n % 5 {
                0 => format!(r#"{{"a":"{n}"}}"#),
                1 => format!(r#"{{"a":{n}.5}}"#),
                2 => format!(r#"{{"a":"x{n}"}}"#),
                3 => format!(r#"{{"a":{n}}}"#),
                _ => "{}".to_owned(),
            })
            .collect();
        let payloads: Vec<_> = texts.iter().map(String::as_str).collect();
        let forwards = sorted("/a", &payloads);
        let documents: Vec<_> = forwards
            .iter()
            .map(|place| Document::new(PayloadType::Json, payloads[*place].as_bytes()))
            .collect();
        let order = OrderBy::parse("/a").unwrap();
        for (place, left) in documents.iter().enumerate() {
            assert!(documents[place..].iter().all(|right| order.compare(left, right).is_le()), "{place}");
        }
    }

    #[test]
    fn a_text_that_is_no_order_is_refused_and_named() {
        let cases = [
            ("", "an identifier is missing"),
            ("a", "an identifier is missing"),
            ("/a,", "an identifier is missing"),
            (",/a", "an identifier is missing"),
            ("/a,,/b", "an identifier is missing"),
            ("/a UP", "a direction is neither ASC nor DESC"),
            ("/a ASCENDING", "a direction is neither ASC nor DESC"),
            ("/a /b", "a comma is missing"),
            ("/a DESC ASC", "a comma is missing"),
            ("/a;/b", "a comma is missing"),
            ("/a DESC2", "a comma is missing"),
        ];
        for (text, problem) in cases {
            let error = OrderBy::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("invalid order by {text:?}: {problem}"));
        }
    }
}
