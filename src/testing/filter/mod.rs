//! Content filters: the language in which a subscriber says which messages it wants.
//!
//! A text becomes tokens ([`lexer`]), the tokens an [`Expression`] ([`parser`]), and the expression is evaluated over
//! each message ([`eval`]). Nothing a peer sends as a filter is followed without bound: nesting, patterns and the work
//! on arrays all have a limit.

mod arithmetic;
mod eval;
mod expression;
mod functions;
mod lexer;
mod like;
mod parser;

use super::payload::Document;
use expression::Expression;

/// A filter that compiled.
#[derive(Debug)]
pub(crate) struct Filter(Expression);

impl Filter {
    /// Compiles a filter; `None` if it is empty or blank and so keeps everything (F-2).
    pub(crate) fn parse(text: &str) -> Result<Option<Filter>, BadFilter> {
        if text.trim_ascii().is_empty() {
            return Ok(None);
        }
        parser::parse(text).map(|expression| Some(Filter(expression)))
    }

    /// True if the filter's result for this payload is TRUE (F-9).
    pub(crate) fn matches(&self, document: &Document<'_>) -> bool {
        self.0.truth(document) == Some(true)
    }
}

/// Why a text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad filter: {problem} at byte {at}, {near:?}")]
pub(crate) struct BadFilter {
    at: usize,
    /// The beginning of the text at fault.
    near: String,
    problem: &'static str,
}

impl BadFilter {
    fn new(text: &str, at: usize, problem: &'static str) -> BadFilter {
        let near = text.get(at..).unwrap_or_default().chars().take(20).collect();
        BadFilter { at, near, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::PayloadType;
    use super::*;

    const RECORDS: [&str; 3] = [
        r#"{"id":1,"s":"abc","n":5,"a":[1,2,3],"o":{"x":"y"},"e":"","z":null}"#,
        r#"{"id":2,"s":"ABC","n":"5"}"#,
        r#"{"id":3,"n":10.50,"b":true,"arr":[{"v":1},{"v":9}]}"#,
    ];

    fn filter(text: &str) -> Filter {
        match Filter::parse(text) {
            Ok(Some(filter)) => filter,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn keeps(text: &str, payload: &str) -> bool {
        filter(text).matches(&Document::new(PayloadType::Json, payload.as_bytes()))
    }

    /// The numbers of the records that a filter keeps, counted from 1.
    fn kept(text: &str) -> Vec<usize> {
        (1..=RECORDS.len()).filter(|n| keeps(text, RECORDS[n - 1])).collect()
    }

    /// Asserts of each filter that the result of the expression over a payload without fields is TRUE.
    fn all_true(filters: &[&str]) {
        for text in filters {
            assert!(keeps(text, "{}"), "{text}");
        }
    }

    fn all_untrue(filters: &[&str]) {
        for text in filters {
            assert!(!keeps(text, "{}"), "{text}");
        }
    }

    /// The table of 17.1.
    #[test]
    fn filters_keep_the_records_they_should() {
        let cases: [(&str, &[usize]); 70] = [
            ("/id <> 1", &[2, 3]),
            ("/s = \"abc\"", &[1]),
            ("/s != 'abc'", &[2]),
            ("NOT /s = 'abc'", &[2, 3]),
            ("/s NOT IN ('abc')", &[2, 3]),
            ("/id IN (1,3)", &[1, 3]),
            ("/n = 5", &[1, 2]),
            ("/n = '5'", &[1, 2]),
            ("/n = '5.0'", &[1]),
            ("/n = 10.5", &[3]),
            ("/n > 4", &[1, 2, 3]),
            ("/id BETWEEN 2 AND 3", &[2, 3]),
            ("/id NOT BETWEEN 2 AND 3", &[1]),
            ("/z IS NULL", &[1, 2, 3]),
            ("/s IS NOT NULL", &[1, 2]),
            ("/e = ''", &[]),
            ("/e IS NULL", &[1, 2, 3]),
            ("/o/x = 'y'", &[1]),
            ("/a = 2", &[1]),
            ("/a != 2", &[1]),
            ("/a[0] = 1", &[1]),
            ("/a[1] = 3", &[]),
            ("/a[9] IS NULL", &[1, 2, 3]),
            ("3 IN (/a)", &[1]),
            ("/a + 1 = 2", &[1]),
            ("/arr/v = 9", &[3]),
            ("/arr/v[1] = 9", &[3]),
            ("/arr/v > 5", &[3]),
            ("/s LIKE 'b'", &[1]),
            ("/s LIKE '(?i)^abc$'", &[1, 2]),
            ("/s LIKE 'a%'", &[]),
            ("/id = 1 OR /id = 2 AND /s = 'zzz'", &[1]),
            ("(/id = 1 OR /id = 2) AND /s = 'zzz'", &[]),
            ("/missing = 1 OR /id = 2", &[2]),
            ("/missing OR /id = 2", &[]),
            ("/id = 2 OR /missing", &[2]),
            ("CONCAT(/s,'x') = 'abcx'", &[1]),
            ("INSTR(/s,'b') = 2", &[1]),
            ("INSTR_I(/s,'b') = 2", &[1, 2]),
            ("SUBSTR(/s,2,1) = 'b'", &[1]),
            ("UPPER(/s) = 'ABC'", &[1, 2]),
            ("LENGTH(/s) = 3", &[1, 2]),
            ("STREQUAL_I(/s,'aBc') = 1", &[1, 2]),
            ("/s BEGINS WITH ('a','A')", &[1, 2]),
            ("/s ENDS WITH ('c')", &[1]),
            ("/id + 1 = 2", &[1]),
            ("/id % 2 = 1", &[1, 3]),
            ("/id * 2 + 1 = 5", &[2]),
            ("-1 * /id < -2", &[3]),
            ("IF(/id = 1, 1, 0) = 1", &[1]),
            ("COALESCE(/q, /id) = 1", &[1]),
            ("1 = 1", &[1, 2, 3]),
            ("-5 % 3 = -2", &[1, 2, 3]),
            ("1 / 5 = 0", &[1, 2, 3]),
            ("1.0 / 5 = 0.2", &[1, 2, 3]),
            ("10 < '2'", &[]),
            ("10 < 'Crank It Up'", &[1, 2, 3]),
            ("'2.000' <> '2.0'", &[1, 2, 3]),
            // beyond the table
            ("/b = 1", &[3]),
            ("/b", &[3]),
            ("/id - 1", &[2, 3]),
            ("/s", &[]),
            ("NOT /s", &[1, 2]),
            ("CONCAT(/n, '') = '10.50'", &[3]),
            ("/n LIKE '^10\\.50$'", &[3]),
            ("/a LIKE '^3$'", &[1]),
            ("/a BEGINS WITH ('3')", &[1]),
            ("/a BETWEEN 3 AND 9", &[1]),
            ("/a IN (/id, 9)", &[1]),
            ("[/o/x] = 'y'", &[1]),
        ];
        for (text, expected) in cases {
            assert_eq!(kept(text), expected, "{text}");
        }
    }

    /// Section 17.1, F-2.
    #[test]
    fn a_bad_filter_is_refused_and_the_place_is_named() {
        let cases = [
            ("/id =", "bad filter: a value is missing at byte 5, \"\""),
            ("/id = 1 AND", "bad filter: a value is missing at byte 11, \"\""),
            ("hello", "bad filter: a value is missing at byte 0, \"hello\""),
            ("FOO(/s) = 1", "bad filter: this function is not known at byte 0, \"FOO(/s) = 1\""),
            ("/s LIKE '('", "bad filter: this is not a regular expression at byte 8, \"'('\""),
            ("/s LIKE /o/x", "bad filter: a pattern must be a string at byte 8, \"/o/x\""),
            ("/s CONTAINS 'B'", "bad filter: the filter should end at byte 3, \"CONTAINS 'B'\""),
            ("(/id = 1", "bad filter: a closing bracket is missing at byte 8, \"\""),
            ("/id = 'x", "bad filter: a string is not closed at byte 6, \"'x\""),
        ];
        for (text, expected) in cases {
            assert_eq!(Filter::parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    /// F-2: an empty filter is no filter, a field that never occurs no error.
    #[test]
    fn a_blank_filter_is_no_filter() {
        for text in ["", " ", "\t\r\n "] {
            assert!(Filter::parse(text).unwrap().is_none(), "{text:?}");
        }
        assert!(kept("/never/seen[3] = 1").is_empty());
    }

    /// F-1.
    #[test]
    fn keywords_are_read_in_any_case_and_fields_are_not() {
        all_true(&[
            "not 1 = 2 and 1=1 Or 1=2",
            "'b' like 'B|b'",
            "1 between 0 and 2",
            "1 in(1)",
            "null is null",
            "nan_value() is NaN",
            "'ab' begins with('a')",
            "upper('a')='A'",
            "7 mod 4=3",
            "\n1\t=\r1 ",
        ]);
        assert!(kept("/S = 'abc' OR /ID = 1").is_empty());
    }

    /// F-3.
    #[test]
    fn strings_have_escapes_unless_they_are_raw() {
        all_true(&[
            r"'\x41\102' = 'AB'",
            r"LENGTH('\a\b\t\n\f\r\q\'') = 8",
            r"LENGTH(r'\t\x41') = 6",
            r"r'\t' = '\\t'",
            r#""it's" = 'it\'s'"#,
            r"LENGTH('\xff') = 1",
            r"LENGTH('é') = 2",
        ]);
    }

    /// F-4: tightest first, left to right.
    #[test]
    fn operators_bind_as_they_should() {
        all_true(&[
            "2 + 3 * 4 = 14",
            "(2 + 3) * 4 = 20",
            "10 - 4 - 3 = 3",
            "100 / 5 / 2 = 10",
            "7 - -3 = 10",
            "- - 5 = 5",
            "-2 * -3 = 6",
            "-5 MOD 3 * 2 = -4",
            "1 + 1 = 2 AND 2 + 2 = 4",
            "NOT 1 = 2",
            "NOT NOT 1 = 1",
            "NOT 1 = 1 OR 1 = 1",
            "1 = 1 OR 1 = 1 AND 1 = 2",
            "1 + 1 BETWEEN 1 + 1 AND 3 - 1",
            "NOT 5 BETWEEN 1 AND 2 AND 1 = 1",
            "(1 = 1) = 1",
            "(1 = 2) + 1",
        ]);
        all_untrue(&["NOT (1 = 1 OR 1 = 1)", "NOT 1 = 1 AND 1 = 2", "(1 = 1 OR 1 = 1) AND 1 = 2"]);
    }

    /// F-5, F-6.
    #[test]
    fn arithmetic_has_integers_floats_null_and_nan() {
        all_true(&[
            "18446744073709551615 > 9223372036854775807",
            "18446744073709551615 + 1 > 18446744073709551615",
            "-9223372036854775808 < -9223372036854775807",
            "5 % -3 = 2",
            "-5 / 2 = -2",
            "-5.0 / 2 = -2.5",
            "'2' * '3' = 6",
            "'x' + 1 IS NAN",
            "1 / 0 IS NAN",
            "1 % 0 IS NAN",
            "NAN_VALUE() + 1 IS NAN",
            "NULL + 1 IS NULL",
            "/missing * 2 IS NULL",
            "-/missing IS NULL",
            "1.0 / 0 > 1E300",
            "6.022E23 = 602200000000000000000000",
        ]);
        all_untrue(&["1 IS NAN", "'x' IS NAN", "/missing IS NAN", "1 / 0 = 1 / 0", "1 / 0 IS NULL"]);
    }

    /// F-7: whatever the operator, NULL and NaN compare to nothing.
    #[test]
    fn comparisons_with_null_or_nan_are_false() {
        for operator in ["=", "==", "!=", "<>", "<", "<=", ">", ">="] {
            for (left, right) in [("NULL", "NULL"), ("''", "''"), ("/q", "1"), ("'a'", "/q"), ("1 / 0", "1")]
            {
                let text =
                    format!("({left} {operator} {right}) IS NOT NULL AND NOT {left} {operator} {right}");
                all_true(&[&text]);
            }
        }
        all_true(&["'abc' < 'abd'", "'B' < 'a'", "'10' < '9'", "'10' > 9", "'9.0' = 9", "'x' > 1E300"]);
    }

    /// F-8: the NOT forms are true of a missing field.
    #[test]
    fn negated_predicates_are_true_of_a_missing_field() {
        for predicate in ["IN (1,'a')", "BETWEEN 1 AND 2", "LIKE '.'", "BEGINS WITH ('a')", "ENDS WITH ('a')"]
        {
            all_untrue(&[&format!("/q {predicate}")]);
            let text = predicate.to_owned();
            all_true(&[&format!("/q NOT {text}"), &format!("NOT /q {text}")]);
        }
        all_true(&[
            "1 BETWEEN 1 AND 1",
            "2 NOT BETWEEN 1 AND 1",
            "1 IN (2, 1.0)",
            "1 IN ('1')",
            "1 + 1 IN (1 + 1)",
        ]);
        all_untrue(&[
            "1 BETWEEN 2 AND 0",
            "'' IN ('')",
            "/q IN (/q)",
            "NULL IN (NULL)",
            "'a' BEGINS WITH ('')",
        ]);
    }

    /// F-9: the documented tables, row by row.
    #[test]
    fn logical_operators_follow_their_tables() {
        const T: &str = "TRUE_VALUE()";
        const F: &str = "FALSE_VALUE()";
        const N: &str = "NULL";
        let not = [(T, F), (F, T), (N, N)];
        let and = [
            (T, T, T),
            (T, F, F),
            (T, N, N),
            (F, T, F),
            (F, F, F),
            (F, N, F),
            (N, T, N),
            (N, F, N),
            (N, N, N),
        ];
        let or = [
            (T, T, T),
            (T, F, T),
            (T, N, T),
            (F, T, T),
            (F, F, F),
            (F, N, N),
            (N, T, N),
            (N, F, N),
            (N, N, N),
        ];
        let is = |text: String, result| match result {
            N => all_true(&[&format!("({text}) IS NULL")]),
            value => all_true(&[&format!("({text}) = {value}")]),
        };
        not.iter().for_each(|(value, result)| is(format!("NOT {value}"), result));
        and.iter().for_each(|(left, right, result)| is(format!("{left} AND {right}"), result));
        or.iter().for_each(|(left, right, result)| is(format!("{left} OR {right}"), result));
        all_true(&["2", "-0.5", "NOT 0", "NOT 'x'", "1 AND 2", "0 OR 3"]);
        all_untrue(&[
            "0",
            "0.0",
            "'x'",
            "'1'",
            "NULL",
            "NOT NULL",
            "1 / 0",
            "0 OR NULL OR 1",
            "1 AND NULL AND 1",
        ]);
    }

    /// F-10.
    #[test]
    fn is_null_is_the_test_for_absence() {
        for payload in
            ["{}", r#"{"q":null}"#, r#"{"q":""}"#, r#"{"q":[]}"#, r#"{"q":[null,""]}"#, r#"{"q":{"x":1}}"#]
        {
            assert!(keeps("/q IS NULL", payload), "{payload}");
            assert!(!keeps("/q IS NOT NULL", payload), "{payload}");
        }
        for payload in [r#"{"q":0}"#, r#"{"q":" "}"#, r#"{"q":[null,1]}"#, r#"{"q":false}"#] {
            assert!(!keeps("/q IS NULL", payload), "{payload}");
            assert!(keeps("/q IS NOT NULL", payload), "{payload}");
        }
    }

    /// F-11, F-12.
    #[test]
    fn predicates_look_at_any_element_and_functions_at_the_first() {
        let payload = r#"{"d":["zebra","ape"],"n":[3,7,11],"m":[20,7],"one":["x"],"s":"x","h":[null,5]}"#;
        let yes = [
            "/d = 'ape'",
            "/d != 'zebra'",
            "/n > 10",
            "/n < 4",
            "/n = /m",
            "/m = /n",
            "/n > /m",
            "/d LIKE '^a'",
            "/d IN ('cat','ape')",
            "7 IN (/m)",
            "/n IN (/m)",
            "/d BEGINS WITH ('ap')",
            "/d ENDS WITH ('ra')",
            "/n BETWEEN 5 AND 8",
            "/n + 1 = 4",
            "UPPER(/d) = 'ZEBRA'",
            "(/n) = 11",
            "/s[0] = 'x'",
            "/h = 5",
            "/h + 1 IS NULL",
            "-/n = -3",
        ];
        let no = [
            "/one != 'x'",
            "/n + 1 = 8",
            "UPPER(/d) = 'APE'",
            "/n BETWEEN 8 AND 10",
            "/n[3] = 11",
            "/n[1] = 3",
            "/s[1] = 'x'",
            "/d NOT IN ('ape')",
            "/h = ''",
        ];
        yes.iter().for_each(|text| assert!(keeps(text, payload), "{text}"));
        no.iter().for_each(|text| assert!(!keeps(text, payload), "{text}"));
    }

    /// F-13; the syntax itself is tested with [`Pattern`](super::super::pattern::Pattern).
    #[test]
    fn like_searches_the_text_of_a_value() {
        all_true(&[
            "'fandango' LIKE 'dan'",
            "'fandango' LIKE '^f.*o$'",
            r"'C++' LIKE 'C\+\+'",
            r"'hello' LIKE '(.)\1'",
            "'its' LIKE ''",
            r#"'say "x"' LIKE "\"x\"""#,
            "'a.b' LIKE r'.'",
            "'C++' LIKE r'++'",
            "'x(y' LIKE R\"(\"",
            "10.50 LIKE '^10.5$'",
            "TRUE_VALUE() LIKE '1'",
            "'abc' NOT LIKE 'B'",
        ]);
        all_untrue(&["'abc' LIKE 'B'", "'ab' LIKE r'.'", "'' LIKE ''", "NULL LIKE '.*'", "'abc' LIKE 'a%'"]);
        for text in [
            "'a' LIKE",
            "'a' LIKE b",
            "'a' LIKE ('a')",
            "'a' LIKE 1",
            "'a' LIKE UPPER('a')",
            r"'a' LIKE 'a\'",
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }

    /// P-7, P-10: in a payload that cannot be read every field is NULL.
    #[test]
    fn an_unreadable_payload_has_only_nulls() {
        for payload_type in [PayloadType::Json, PayloadType::Binary, PayloadType::Fix { separator: 1 }] {
            let document = Document::new(payload_type, b"{\"id\":1,");
            assert!(filter("/id IS NULL").matches(&document));
            assert!(filter("1 = 1").matches(&document));
            assert!(!filter("/id != 2").matches(&document));
        }
    }

    /// P-9.
    #[test]
    fn fix_payloads_are_filtered_by_tag() {
        let document = Document::new(PayloadType::Fix { separator: b'|' }, b"35=D|38=0100|448=A|448=B|58=|");
        for text in ["/35 = 'D'", "/38 = 100", "/38 LIKE '^0'", "/448 = 'B'", "/448[0] = 'A'", "/58 IS NULL"]
        {
            assert!(filter(text).matches(&document), "{text}");
        }
        assert!(!filter("/38 = 'x' OR /35 = 'E' OR /99 != 1").matches(&document));
    }
    #[test]
    fn a_compiled_filter_can_be_shared_between_threads() {
        fn is_shared<T: Send + Sync + 'static>() {}
        is_shared::<Filter>();
    }
}
