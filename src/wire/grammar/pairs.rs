//! Every key and value of a header in the order of the wire, unknown keys included.
//!
//! The reader proper keeps only what a client needs. Who looks at a header as a text, to show it or to compare it, wants
//! all of it; this walks the same grammar and pays for the copies.

use std::ops::Range;

use super::{HeaderError, HeaderScan, after_colon, key, separator, skip_blanks, value};

/// One entry of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// As written, in whatever spelling.
    pub(crate) key: String,
    /// Decoded; empty for `null`, an object or an array.
    pub(crate) value: String,
    /// Where the value stands in the header, its quotes included.
    pub(crate) place: Range<usize>,
}

/// Reads the header at the start of `frame`; of equal keys each is listed.
pub(crate) fn pairs(frame: &[u8]) -> Result<Vec<Pair>, HeaderError> {
    let mut scratch = frame.to_vec();
    let mut scan = HeaderScan::default();
    let mut found = Vec::new();
    let mut at = 1 + frame.iter().position(|b| *b == b'{').ok_or(HeaderError::Missing)?;
    at = skip_blanks(frame, at);
    if frame.get(at) == Some(&b'}') {
        return Ok(found);
    }
    loop {
        let start = skip_blanks(frame, at);
        let (_, colon) = key(&scratch, start)?;
        let place = after_colon(&scratch, colon)?;
        let (from, to, next) = value(&mut scratch, place, &mut scan)?;
        // The place after a key is behind its closing quote.
        let key = frame.get(start + 1..colon - 1).unwrap_or_default();
        let text = scratch.get(from..to).unwrap_or_default();
        found.push(Pair { key: lossy(key), value: lossy(text), place: place..next });
        match separator(&scratch, next)? {
            (b'}', _) => return Ok(found),
            (_, next) => at = next,
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pair as `key -> value (as it stands)`.
    fn listed(header: &str) -> Vec<String> {
        let pairs = pairs(header.as_bytes()).unwrap_or_else(|e| panic!("{header}: {e}"));
        pairs.into_iter().map(|p| format!("{} -> {} ({})", p.key, p.value, &header[p.place])).collect()
    }

    /// `wire-protocol` 3.2: nothing that a reader accepts is lost on the way.
    #[test]
    fn every_pair_is_listed_as_written() {
        let table: &[(&str, &[&str])] = &[
            ("{}", &[]),
            ("{ }", &[]),
            (r#"{"c":"p"}{"t":"payload"}"#, &[r#"c -> p ("p")"#]),
            (
                r#" { "cmd" : "ack" , "s" : 12 , "zz" : [1,"}"] , "o" : null }"#,
                &[r#"cmd -> ack ("ack")"#, "s -> 12 (12)", r#"zz ->  ([1,"}"])"#, "o ->  (null)"],
            ),
            (
                r#"{"t":"a\"b\\","t":"é","client_name":"n"}"#,
                &[r#"t -> a"b\ ("a\"b\\")"#, r#"t -> é ("é")"#, r#"client_name -> n ("n")"#],
            ),
        ];
        for (header, pairs) in table {
            assert_eq!(listed(header), *pairs, "{header}");
        }
    }

    #[test]
    fn every_prefix_of_a_header_is_refused_and_none_panics() {
        let header = br#"{"c":"ack","cid":"au\"to0","s":0,"client_name":"py","zz":[1,{"a":"b"}],"o":null}"#;
        for length in 0..header.len() {
            assert!(pairs(&header[..length]).is_err(), "{length}");
        }
        assert_eq!(pairs(header).map(|p| p.len()), Ok(6));
    }
}
