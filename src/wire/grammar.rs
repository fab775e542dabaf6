//! Reads and writes the header text of the `amps` protocol.
//!
//! The reader is tolerant (`wire-protocol` 3.2): any key order, both spellings, white space, bare or quoted values,
//! escapes, unknown keys with any value. It works in place: what it yields are [`Span`]s into the frame, and a value
//! with escapes is decoded where it stands, because decoding never makes a text longer.

#[cfg(any(feature = "testing", test))]
pub(crate) mod pairs;

use super::fields::{Field, pack};
use super::span::Span;

/// Headers above this size are refused; a real one is a few hundred bytes.
pub(crate) const MAX_HEADER: usize = Span::LIMIT;

/// Why a header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("no header in the frame")]
    Missing,
    #[error("the header is not closed")]
    Unclosed,
    #[error("a key was expected at byte {0} of the header")]
    Key(usize),
    #[error("a colon was expected at byte {0} of the header")]
    Colon(usize),
    #[error("a value was expected at byte {0} of the header")]
    Value(usize),
    #[error("a comma or a closing brace was expected at byte {0} of the header")]
    Separator(usize),
    #[error("the header is larger than {MAX_HEADER} bytes")]
    TooLarge,
}

/// The known fields of one header, reusable from frame to frame.
#[derive(Debug, Default)]
pub(crate) struct HeaderScan {
    spans: Vec<Span>,
    seen: u64,
    rewritten: bool,
}

impl HeaderScan {
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// True if the bytes of the header were changed while decoding, so that they are no longer a header.
    pub(crate) fn is_rewritten(&self) -> bool {
        self.rewritten
    }

    fn clear(&mut self) {
        self.spans.clear();
        self.seen = 0;
        self.rewritten = false;
    }

    /// The last of several equal keys wins.
    #[inline]
    fn record(&mut self, field: Field, start: usize, end: usize) {
        let bit = 1_u64 << field as u32;
        let span = Span::new(field, start, end);
        if self.seen & bit == 0 {
            self.seen |= bit;
            self.spans.push(span);
        } else {
            self.replace(field, span);
        }
    }

    #[cold]
    fn replace(&mut self, field: Field, span: Span) {
        for old in &mut self.spans {
            if old.is(field) {
                *old = span;
            }
        }
    }
}

/// Reads the header at the start of `frame` and returns its length, the bytes skipped before it included.
///
/// On an error the frame may have been changed and means nothing any more.
pub(crate) fn parse(frame: &mut [u8], out: &mut HeaderScan) -> Result<usize, HeaderError> {
    out.clear();
    let mut at = match frame.first() {
        Some(b'{') => 1,
        _ => 1 + frame.iter().position(|b| *b == b'{').ok_or(HeaderError::Missing)?,
    };
    at = skip_blanks(frame, at);
    if frame.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        let (field, colon) = key(frame, at)?;
        let start = after_colon(frame, colon)?;
        let (start, end, next) = value(frame, start, out)?;
        if next > MAX_HEADER {
            return Err(HeaderError::TooLarge);
        }
        if let Some(field) = field {
            out.record(field, start, end);
        }
        match separator(frame, next)? {
            (b'}', next) => return Ok(next),
            (_, next) => at = next,
        }
    }
}

/// Reads a key at `at`: the field, if it is a known one, and the place after the closing quote.
#[inline]
fn key(frame: &[u8], at: usize) -> Result<(Option<Field>, usize), HeaderError> {
    if frame.get(at) == Some(&b'"')
        && let Some(word) = word_at(frame, at + 1)
    {
        let quote = zero_bytes(word ^ QUOTES).trailing_zeros();
        // A quote behind a backslash does not end the key.
        if quote < 64 && quote < zero_bytes(word ^ BACKSLASHES).trailing_zeros() {
            let length = quote / 8;
            let packed = word & ((1 << (8 * length)) - 1);
            return Ok((Field::of_packed(packed), at + 2 + length as usize));
        }
    }
    slow_key(frame, at)
}

/// A key after blanks, of more than seven bytes, with an escape, or near the end of the frame.
#[cold]
fn slow_key(frame: &[u8], at: usize) -> Result<(Option<Field>, usize), HeaderError> {
    let at = skip_blanks(frame, at);
    if frame.get(at) != Some(&b'"') {
        return Err(if at >= frame.len() { HeaderError::Unclosed } else { HeaderError::Key(at) });
    }
    let end = closing_quote(frame, at + 1)?;
    Ok((frame.get(at + 1..end).and_then(Field::of), end + 1))
}

/// The closing quote of a string whose escapes need no decoding.
fn closing_quote(frame: &[u8], mut at: usize) -> Result<usize, HeaderError> {
    loop {
        match frame.get(at) {
            None => return Err(HeaderError::Unclosed),
            Some(b'"') => return Ok(at),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The first byte of the value behind a colon at `at`, blanks allowed around it.
#[inline]
fn after_colon(frame: &[u8], at: usize) -> Result<usize, HeaderError> {
    if frame.get(at) == Some(&b':') && frame.get(at + 1).is_some_and(|b| *b > b' ') {
        return Ok(at + 1);
    }
    let at = skip_blanks(frame, at);
    match frame.get(at) {
        Some(b':') => Ok(skip_blanks(frame, at + 1)),
        Some(_) => Err(HeaderError::Colon(at)),
        None => Err(HeaderError::Unclosed),
    }
}

/// Reads a value: where its text starts and ends, and the place after it. An empty text stands for an absent value.
#[inline]
fn value(frame: &mut [u8], at: usize, out: &mut HeaderScan) -> Result<(usize, usize, usize), HeaderError> {
    match frame.get(at) {
        Some(b'"') => text(frame, at + 1, out),
        Some(b'0'..=b'9') => {
            let digits = frame.get(at..).unwrap_or_default();
            let length = digits.iter().take_while(|b| b.is_ascii_digit()).count();
            match frame.get(at + length) {
                Some(b',' | b'}') => Ok((at, at + length, at + length)),
                _ => bare(frame, at),
            }
        }
        _ => bare(frame, at),
    }
}

/// Reads a string whose opening quote is just before `start`.
#[inline]
fn text(frame: &mut [u8], start: usize, out: &mut HeaderScan) -> Result<(usize, usize, usize), HeaderError> {
    let (end, plain) = special(frame, start);
    if !plain {
        return slow_text(frame, start, end, out);
    }
    match frame.get(end) {
        Some(b'"') => Ok((start, end, end + 1)),
        _ => slow_text(frame, start, end, out),
    }
}

/// The first quote or backslash at or after `at`, and whether everything before it is ASCII.
#[inline]
fn special(frame: &[u8], mut at: usize) -> (usize, bool) {
    let mut high = 0;
    while let Some(word) = word_at(frame, at) {
        let found = zero_bytes(word ^ QUOTES) | zero_bytes(word ^ BACKSLASHES);
        if found != 0 {
            let length = found.trailing_zeros() / 8;
            high |= word & HIGH_BITS & ((1 << (8 * length)) - 1);
            return (at + length as usize, high == 0);
        }
        high |= word & HIGH_BITS;
        at += 8;
    }
    let rest = frame.get(at..).unwrap_or_default();
    let length = rest.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(rest.len());
    let ascii = rest.iter().take(length).all(u8::is_ascii);
    (at + length, high == 0 && ascii)
}

/// A string with escapes or with bytes that are not ASCII: decoded in place, and made UTF-8 where it is not.
#[cold]
fn slow_text(
    frame: &mut [u8],
    start: usize,
    mut at: usize,
    out: &mut HeaderScan,
) -> Result<(usize, usize, usize), HeaderError> {
    let mut end = at;
    loop {
        match frame.get(at) {
            None => return Err(HeaderError::Unclosed),
            Some(b'"') => break,
            Some(b'\\') => {
                let (decoded, length, next) = escape(frame, at + 1)?;
                for byte in decoded.iter().take(length) {
                    put(frame, end, *byte);
                    end += 1;
                }
                at = next;
                out.rewritten = true;
            }
            Some(byte) => {
                let byte = *byte;
                put(frame, end, byte);
                end += 1;
                at += 1;
            }
        }
    }
    if let Some(decoded) = frame.get_mut(start..end) {
        out.rewritten |= make_utf8(decoded);
    }
    Ok((start, end, at + 1))
}

fn put(frame: &mut [u8], at: usize, byte: u8) {
    if let Some(place) = frame.get_mut(at) {
        *place = byte;
    }
}

/// Decodes the escape whose backslash is just before `at`: the bytes, how many they are, and the place after it.
fn escape(frame: &[u8], at: usize) -> Result<([u8; 4], usize, usize), HeaderError> {
    let single = |byte| Ok(([byte, 0, 0, 0], 1, at + 1));
    match frame.get(at) {
        None => Err(HeaderError::Unclosed),
        Some(b'b') => single(8),
        Some(b't') => single(b'\t'),
        Some(b'n') => single(b'\n'),
        Some(b'f') => single(12),
        Some(b'r') => single(b'\r'),
        Some(b'u') => Ok(match unicode(frame, at + 1) {
            Some((character, next)) => {
                let mut bytes = [0; 4];
                let length = character.encode_utf8(&mut bytes).len();
                (bytes, length, next)
            }
            None => ([b'u', 0, 0, 0], 1, at + 1),
        }),
        Some(other) => single(*other),
    }
}

/// The character of `\uXXXX`, or of two of them that form a surrogate pair; a lone surrogate becomes U+FFFD.
fn unicode(frame: &[u8], at: usize) -> Option<(char, usize)> {
    let first = hex4(frame, at)?;
    if (0xD800..0xDC00).contains(&first)
        && frame.get(at + 4..at + 6) == Some(b"\\u")
        && let Some(second @ 0xDC00..0xE000) = hex4(frame, at + 6)
    {
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return char::from_u32(code).map(|c| (c, at + 10));
    }
    Some((char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), at + 4))
}

fn hex4(frame: &[u8], at: usize) -> Option<u32> {
    let digits = frame.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, d| Some(n * 16 + char::from(*d).to_digit(16)?))
}

/// Replaces every byte that is not part of a UTF-8 character by `?`; true if there was one.
fn make_utf8(mut text: &mut [u8]) -> bool {
    let mut changed = false;
    while let Err(error) = std::str::from_utf8(text) {
        let bad = error.valid_up_to();
        let Some((first, rest)) = text.get_mut(bad..).and_then(<[u8]>::split_first_mut) else { break };
        *first = b'?';
        text = rest;
        changed = true;
    }
    changed
}

/// Headers that were read, as text of the same length. Their values are UTF-8; what else is none becomes `?`.
pub(crate) fn into_text(headers: Vec<u8>) -> String {
    String::from_utf8(headers).unwrap_or_else(|error| {
        let mut headers = error.into_bytes();
        make_utf8(&mut headers);
        String::from_utf8(headers).unwrap_or_default()
    })
}

/// A number, `true`, `false` or `null`, or a nested value, which is skipped.
#[cold]
fn bare(frame: &[u8], at: usize) -> Result<(usize, usize, usize), HeaderError> {
    match frame.get(at) {
        None => return Err(HeaderError::Unclosed),
        Some(b'{' | b'[') => return nested(frame, at).map(|next| (at, at, next)),
        Some(_) => {}
    }
    let token = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    let rest = frame.get(at..).unwrap_or_default();
    let length = rest.iter().take_while(|b| token(b)).count();
    match rest.get(..length) {
        None | Some(b"") => Err(HeaderError::Value(at)),
        Some(b"null") => Ok((at, at, at + length)),
        Some(_) => Ok((at, at + length, at + length)),
    }
}

/// The place after a balanced object or array.
fn nested(frame: &[u8], mut at: usize) -> Result<usize, HeaderError> {
    let mut depth = 0_usize;
    while let Some(byte) = frame.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b'"' => at = closing_quote(frame, at + 1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Ok(at);
        }
    }
    Err(HeaderError::Unclosed)
}

/// The comma or closing brace at `at`, and the place after it.
#[inline]
fn separator(frame: &[u8], at: usize) -> Result<(u8, usize), HeaderError> {
    match frame.get(at) {
        Some(byte @ (b',' | b'}')) => Ok((*byte, at + 1)),
        Some(b' ' | b'\t' | b'\r' | b'\n') => separator(frame, skip_blanks(frame, at)),
        Some(_) => Err(HeaderError::Separator(at)),
        None => Err(HeaderError::Unclosed),
    }
}

fn skip_blanks(frame: &[u8], at: usize) -> usize {
    let rest = frame.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).count()
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);

/// Eight bytes at once, the first of them lowest; `None` near the end of the frame.
#[inline]
fn word_at(frame: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*frame.get(at..)?.first_chunk()?))
}

/// The high bit of the lowest zero byte is set; bits above that one mean nothing.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGH_BITS
}

/// Appends `text` as the inside of a header string.
///
/// `"` and `\` are escaped, control characters that have a two-letter escape are written with it, and nothing else
/// is touched (`wire-protocol` 3.1).
pub(crate) fn escape_into(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| needs_escape(*b)) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        if let Some((byte, after)) = from.split_first() {
            let escaped: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                8 => b"\\b",
                b'\t' => b"\\t",
                b'\n' => b"\\n",
                12 => b"\\f",
                b'\r' => b"\\r",
                other => &[*other],
            };
            out.extend_from_slice(escaped);
            rest = after;
        }
    }
    out.extend_from_slice(rest);
}

/// True if a text can be written as it is.
#[inline]
pub(crate) fn is_plain(text: &[u8]) -> bool {
    // Eight bytes at a time, of which the last may be some of those before.
    let Some(last) = text.last_chunk() else { return escapes(short_word(text)) == 0 };
    let (words, _) = text.as_chunks();
    let words = words.iter().chain([last]).map(|word| u64::from_le_bytes(*word));
    words.fold(0, |found, word| found | escapes(word)) == 0
}

/// All bytes of a text of less than eight, some of them twice, filled up with a byte that is plain.
#[inline]
pub(crate) fn short_word(text: &[u8]) -> u64 {
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        _ => text.iter().fold(ONES * u64::from(b' '), |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Not 0 if any of the eight bytes needs an escape.
#[inline]
fn escapes(word: u64) -> u64 {
    let [blank, quote, backslash] = [b' ', b'"', b'\\'].map(|byte| ONES * u64::from(byte));
    word.wrapping_sub(blank) & !word & HIGH_BITS | zero_bytes(word ^ quote) | zero_bytes(word ^ backslash)
}

#[inline]
fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// The first control character that has no two-letter escape and so cannot be sent in a topic, an id or a name.
pub(crate) fn unsendable(text: &str) -> Option<char> {
    text.bytes().find(|b| *b < b' ' && !matches!(b, 8 | b'\t' | b'\n' | 12 | b'\r')).map(char::from)
}

const _: () = assert!(pack(b"c").is_some());

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(header: &[u8]) -> Result<(Vec<(Field, String)>, usize), HeaderError> {
        let mut frame = header.to_vec();
        let mut scan = HeaderScan::default();
        let length = parse(&mut frame, &mut scan)?;
        let list = Field::ALL
            .iter()
            .filter_map(|field| {
                let span = scan.spans().iter().find(|s| s.is(*field))?;
                let text = String::from_utf8(frame[span.start()..span.end()].to_vec()).expect("UTF-8");
                (!text.is_empty()).then_some((*field, text))
            })
            .collect();
        Ok((list, length))
    }

    fn one(header: &str, field: Field) -> Option<String> {
        let (list, length) = fields(header.as_bytes()).unwrap_or_else(|e| panic!("{header}: {e}"));
        assert_eq!(length, header.len(), "{header}");
        list.into_iter().find(|(f, _)| *f == field).map(|(_, text)| text)
    }

    /// `wire-protocol` 3.2: an empty key is an unknown one, wherever it stands.
    #[test]
    fn an_empty_key_is_no_field() {
        for header in
            [r#"{"":"sow","c":"p","t":"a"}"#, r#"{"c":"p","":"sow","t":"a"}"#, r#"{"c":"p","t":"a","" : 1}"#]
        {
            let (found, length) = fields(header.as_bytes()).unwrap();
            assert_eq!(found, [(Field::Command, "p".to_owned()), (Field::Topic, "a".to_owned())], "{header}");
            assert_eq!(length, header.len());
        }
        assert_eq!(Field::of(b""), None);
    }

    /// `wire-protocol` 3.2, points 1 to 6 and 9.
    #[test]
    fn the_reader_accepts_the_tolerant_grammar() {
        let table = [
            (r#"{"c":"p","t":"orders"}"#, Field::Topic, Some("orders")),
            (r#"{"topic":"a","cmd":"publish"}"#, Field::Topic, Some("a")),
            (r#"  {"c":"p","t":"a"}"#, Field::Topic, Some("a")),
            (r#"{ "c" : "p" , "t" : "a" }"#, Field::Topic, Some("a")),
            (r#"{"s":12345678901234567890,"c":"ack"}"#, Field::Sequence, Some("12345678901234567890")),
            (r#"{"s":"77"}"#, Field::Sequence, Some("77")),
            (r#"{"k":123}"#, Field::SowKey, Some("123")),
            (r#"{"k":-1.5e3}"#, Field::SowKey, Some("-1.5e3")),
            (r#"{"t":null}"#, Field::Topic, None),
            (r#"{"t":""}"#, Field::Topic, None),
            (r#"{"t":true}"#, Field::Topic, Some("true")),
            (r#"{"t":"a","t":"bb"}"#, Field::Topic, Some("bb")),
            (r#"{"t":"a","t":null}"#, Field::Topic, None),
            (r#"{"zz":{"a":[1,"}"]},"t":"a"}"#, Field::Topic, Some("a")),
            (r#"{"zz":[[],{}],"t":"a"}"#, Field::Topic, Some("a")),
            (r#"{"t":{"a":1}}"#, Field::Topic, None),
            (r#"{"filter":"/a = '}'","t":"a"}"#, Field::Filter, Some("/a = '}'")),
            (r#"{"an unknown key that is long":"}","t":"a"}"#, Field::Topic, Some("a")),
            (r#"{"a\"b":1,"t":"a"}"#, Field::Topic, Some("a")),
            (r#"{ "a\"b":1,"t":"a"}"#, Field::Topic, Some("a")),
            (r#"{"t":"a","\"":1}"#, Field::Topic, Some("a")),
            (r#"{"t":"a","\\":"t"}"#, Field::Topic, Some("a")),
            (r#"{"client_name":"x"}"#, Field::ClientName, Some("x")),
            (r#"{"records_returned":5}"#, Field::RecordsReturned, Some("5")),
            (r#"{}"#, Field::Topic, None),
            (r#"{ }"#, Field::Topic, None),
        ];
        for (header, field, text) in table {
            assert_eq!(one(header, field).as_deref(), text, "{header}");
        }
    }

    #[test]
    fn escapes_are_decoded_in_place() {
        let table = [
            (r#"{"t":"or\"d\\e"}"#, "or\"d\\e"),
            (r#"{"t":"a\/b\qc"}"#, "a/bqc"),
            (r#"{"t":"\b\t\n\f\r"}"#, "\u{8}\t\n\u{c}\r"),
            (r#"{"t":"a\u0041b"}"#, "aAb"),
            (r#"{"t":"\u00e9\u20ac"}"#, "é€"),
            (r#"{"t":"\ud83d\ude00!"}"#, "😀!"),
            (r#"{"t":"\ud83dx"}"#, "\u{FFFD}x"),
            (r#"{"t":"\ud83d\u0041"}"#, "\u{FFFD}A"),
            (r#"{"t":"\u12"}"#, "u12"),
            (r#"{"t":"é"}"#, "é"),
            (r#"{"t":"a value of many bytes, then \" a quote"}"#, "a value of many bytes, then \" a quote"),
        ];
        for (header, text) in table {
            assert_eq!(one(header, Field::Topic).as_deref(), Some(text), "{header}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_become_question_marks() {
        let (list, _) = fields(b"{\"t\":\"a\xFF\xC3\xA9\xC3\",\"k\":\"k\"}").unwrap();
        assert_eq!(list, [(Field::Topic, "a?é?".to_owned()), (Field::SowKey, "k".to_owned())]);
    }

    #[test]
    fn the_header_ends_at_its_own_brace_and_the_payload_is_not_looked_at() {
        let (_, length) = fields(b"{\"c\":\"p\"}{\"id\":1}").unwrap();
        assert_eq!(length, 9);
        let (_, length) = fields(b"\n {\"c\":\"p\"}\"\\").unwrap();
        assert_eq!(length, 11);
    }

    #[test]
    fn broken_headers_are_refused() {
        let broken: &[&str] = &[
            "",
            "no brace",
            "{",
            "{\"",
            "{\"c",
            "{\"c\"",
            "{\"c\":",
            "{\"c\":\"",
            "{\"c\":\"p",
            "{\"c\":\"p\"",
            "{\"c\":\"p\",",
            "{\"c\":\"p\",}",
            "{\"c\":\"p\" \"t\":1}",
            "{\"c\" \"p\"}",
            "{c:\"p\"}",
            "{\"c\":}",
            "{\"c\":*}",
            "{\"c\":\"\\",
            "{\"c\":\"\\u00",
            "{\"c\":[1",
            "{\"c\":[\"",
            "{\"c\":1",
        ];
        for header in broken {
            assert!(fields(header.as_bytes()).is_err(), "{header}");
        }
        assert_eq!(fields(b"{\"c\":\"p\" \"t\":1}"), Err(HeaderError::Separator(9)));
    }

    #[test]
    fn every_prefix_of_a_header_is_refused_and_none_panics() {
        let header = br#"{"c":"ack","cid":"au\"to0","s":0,"bm":"7|0|","client_name":"py","zz":[1,{"a":"b"}],"o":null}"#;
        for length in 0..header.len() {
            assert!(fields(&header[..length]).is_err(), "{length}");
        }
        assert!(fields(header).is_ok());
    }

    #[test]
    fn what_is_escaped_comes_back() {
        let texts = ["plain", "", "\"", "\\\\", "a\"b\\c\n\t\r\u{8}\u{c}", "é€😀", "/sym = \"A\\B\""];
        for text in texts {
            let mut header = b"{\"filter\":\"".to_vec();
            escape_into(&mut header, text.as_bytes());
            header.extend_from_slice(b"\"}");
            let back = one(std::str::from_utf8(&header).unwrap(), Field::Filter);
            assert_eq!(back.as_deref().unwrap_or_default(), text);
        }
    }

    #[test]
    fn a_text_is_plain_if_no_byte_of_it_needs_an_escape() {
        for length in 0..20 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), !needs_escape(byte), "{byte} at {at} of {length}");
                }
            }
        }
    }

    #[test]
    fn control_characters_without_an_escape_are_found() {
        assert_eq!(unsendable("a\tb\n"), None);
        assert_eq!(unsendable("a\u{1}"), Some('\u{1}'));
        assert_eq!(unsendable("\0"), Some('\0'));
    }

    #[test]
    fn the_length_of_a_span_survives_packing() {
        let span = Span::new(Field::Reason, 70_000, 70_000 + 100_000);
        assert_eq!((span.start(), span.end()), (70_000, 170_000));
        assert!(span.is(Field::Reason) && !span.is(Field::SubIds));
    }
}
