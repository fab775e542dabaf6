//! One frame, as it stood on the wire.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::grammar::pairs::{Pair, pairs};
use crate::wire::{Field, MAX_FRAME, WireError};

/// One frame as it was received or sent, for a test to look at: its exact bytes, its header and its payload.
///
/// A frame is a header, then a payload that starts right behind the closing brace of the header. Comparing two frames
/// compares their bytes. [`clone`](Clone::clone) copies nothing. `Debug` shows the header as written, without the
/// password, and the payload as text if it is text; a payload above 1000 bytes is cut short there.
///
/// ```
/// use amps_client::testing::Frame;
///
/// # fn main() -> amps_client::Result<()> {
/// let frame = Frame::parse(br#"{"c":"p","t":"orders","cmd_id":"7"}{"id":1}"#)?;
/// assert_eq!(frame.command(), "p");
/// assert_eq!(frame.header("t"), Some("orders"));
/// assert_eq!(frame.header("cid"), Some("7"), "either spelling of a key finds the value");
/// assert_eq!(frame.header_text(), r#"{"c":"p","t":"orders","cmd_id":"7"}"#);
/// assert_eq!(frame.payload(), br#"{"id":1}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Frame(Arc<Inner>);

struct Inner {
    raw: Box<[u8]>,
    header_length: usize,
    message: Message,
    records: Vec<Message>,
    header_text: OnceLock<String>,
    pairs: OnceLock<Vec<Pair>>,
}

impl Frame {
    /// Reads the bytes of one frame, without the length prefix.
    ///
    /// # Errors
    ///
    /// [`Stream`](ErrorKind::Stream) if the bytes do not start with a header, the header has no command, or the records
    /// of a query result do not fit the frame; the text says which.
    pub fn parse(bytes: &[u8]) -> Result<Frame> {
        Frame::of_body(bytes)
            .map_err(|e| Error::new(ErrorKind::Stream, format!("the bytes are no frame: {e}")))
    }

    /// The bytes of a frame with this header text and this payload, length prefix included.
    ///
    /// Nothing is checked and nothing is escaped: a test may want to send what no peer would.
    ///
    /// ```
    /// use amps_client::testing::Frame;
    ///
    /// assert_eq!(Frame::encode(r#"{"c":"p"}"#, b"x"), b"\0\0\0\x0A{\"c\":\"p\"}x");
    /// ```
    pub fn encode(header: &str, payload: impl AsRef<[u8]>) -> Vec<u8> {
        let payload = payload.as_ref();
        let length = u32::try_from(header.len() + payload.len()).unwrap_or(u32::MAX);
        [&length.to_be_bytes(), header.as_bytes(), payload].concat()
    }

    /// Cuts the first frame off a stream: the frame, if it is there as a whole, and how many bytes can be let go.
    ///
    /// Empty frames in front of it are skipped (`wire-protocol` 2.2).
    pub(crate) fn cut(stream: &[u8]) -> Result<(Option<Frame>, usize), WireError> {
        let mut at = 0;
        loop {
            let Some(prefix) = stream.get(at..).and_then(<[u8]>::first_chunk) else { return Ok((None, at)) };
            let length = u32::from_be_bytes(*prefix);
            if length > MAX_FRAME {
                return Err(WireError::FrameTooLong(length, MAX_FRAME));
            }
            let end = at + 4 + length as usize;
            match stream.get(at + 4..end) {
                None => return Ok((None, at)),
                Some([]) => at = end,
                Some(body) => return Ok((Some(Frame::of_body(body)?), end)),
            }
        }
    }

    /// Reads one frame without its length prefix.
    pub(crate) fn of_body(body: &[u8]) -> Result<Frame, WireError> {
        let length = u32::try_from(body.len()).ok().filter(|n| *n <= MAX_FRAME);
        let length = length.ok_or(WireError::FrameTooLong(u32::MAX, MAX_FRAME))?;
        let message = Message::from_frame(&[&length.to_be_bytes(), body].concat())?;
        let entries = message.block().entries().iter();
        let records = entries.filter(|e| e.is_record()).map(|e| Message::new(message.block().clone(), *e));
        Ok(Frame(Arc::new(Inner {
            raw: body.into(),
            header_length: message.entry().header_length(),
            records: records.collect(),
            message,
            header_text: OnceLock::new(),
            pairs: OnceLock::new(),
        })))
    }

    /// The command as it stands on the wire: `p` for a publish that was written so.
    ///
    /// [`message().command()`](Message::command) tells what the command is in either spelling.
    pub fn command(&self) -> &str {
        self.0.message.text(Field::Command).unwrap_or_default()
    }

    /// The value of a header, decoded; `None` if it is absent, empty or `null`.
    ///
    /// Every spelling of a key finds the value, however the frame spells it: `bm` and `bookmark` are the same. A key that
    /// the protocol does not know is found as written. Of several equal keys the last one counts.
    ///
    /// ```
    /// use amps_client::testing::Frame;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let frame = Frame::parse(br#"{"c":"ack","bm":"99|7|","s":7,"user_id":"","flavour":"new"}"#)?;
    /// assert_eq!(frame.header("bookmark"), Some("99|7|"));
    /// assert_eq!(frame.header("s"), Some("7"));
    /// assert_eq!(frame.header("user_id"), None);
    /// assert_eq!(frame.header("flavour"), Some("new"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn header(&self, key: &str) -> Option<&str> {
        match Field::of(key.as_bytes()) {
            Some(field) => self.0.message.text(field),
            None => self.headers().filter(|(k, v)| *k == key && !v.is_empty()).last().map(|(_, v)| v),
        }
    }

    /// Every header in the order of the wire: the key as written, and the value decoded.
    ///
    /// A number is its digits; `null`, an object or an array is shown as an empty text.
    ///
    /// ```
    /// use amps_client::testing::Frame;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let frame = Frame::parse(br#"{"cmd":"ack","t":"say \"hi\"","s":7}"#)?;
    /// let headers: Vec<_> = frame.headers().collect();
    /// assert_eq!(headers, [("cmd", "ack"), ("t", "say \"hi\""), ("s", "7")]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|pair| (pair.key.as_str(), pair.value.as_str()))
    }

    /// The text of the header, every byte of it, up to its closing brace.
    ///
    /// Only where it is not UTF-8 it differs from the wire; [`raw`](Frame::raw) has those bytes.
    pub fn header_text(&self) -> &str {
        match std::str::from_utf8(self.header_bytes()) {
            Ok(text) => text,
            Err(_) => {
                self.0.header_text.get_or_init(|| String::from_utf8_lossy(self.header_bytes()).into_owned())
            }
        }
    }

    /// What follows the header: any bytes, possibly none. Of a query result, all of its records with their headers.
    pub fn payload(&self) -> &[u8] {
        self.0.raw.get(self.0.header_length..).unwrap_or_default()
    }

    /// The records of a query result (a `sow` frame from a server), in order; empty for every other frame.
    ///
    /// What a record does not state itself it takes from the header of the frame.
    ///
    /// ```
    /// use amps_client::testing::Frame;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let frame = Frame::parse(br#"{"c":"sow","t":"orders","bs":2}{"k":"111","l":8}{"id":1}{"k":"222","l":2}{}"#)?;
    /// let [first, second] = frame.records() else { panic!("two records") };
    /// assert_eq!((first.topic(), first.sow_key(), first.data()), (Some("orders"), Some("111"), &b"{\"id\":1}"[..]));
    /// assert_eq!((second.sow_key(), second.data()), (Some("222"), &b"{}"[..]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn records(&self) -> &[Message] {
        &self.0.records
    }

    /// The frame as the client's message type; of a query result its outer header, which has no data of its own.
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The bytes of the frame, without the length prefix.
    pub fn raw(&self) -> &[u8] {
        &self.0.raw
    }

    /// The header as it stands.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        self.0.raw.get(..self.0.header_length).unwrap_or_default()
    }

    /// Every header in the order of the wire: the key, and the value as it stands, its quotes included.
    pub(crate) fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let value = |pair: &Pair| self.0.raw.get(pair.place.clone()).unwrap_or_default();
        self.pairs().iter().map(move |pair| (pair.key.as_str(), value(pair)))
    }

    fn pairs(&self) -> &[Pair] {
        // The header was read once already, so it can be read again.
        self.0.pairs.get_or_init(|| pairs(self.header_bytes()).unwrap_or_default())
    }

    /// The header with `"***"` in the place of a password.
    fn header_without_password(&self) -> String {
        let mut shown = String::new();
        let mut at = 0;
        let lossy = |range| String::from_utf8_lossy(self.0.raw.get(range).unwrap_or_default());
        let secret = |pair: &&Pair| Field::of(pair.key.as_bytes()) == Some(Field::Password);
        for pair in self.pairs().iter().filter(secret) {
            shown.push_str(&lossy(at..pair.place.start));
            shown.push_str("\"***\"");
            at = pair.place.end;
        }
        shown.push_str(&lossy(at..self.0.header_length));
        shown
    }
}

impl PartialEq for Frame {
    fn eq(&self, other: &Frame) -> bool {
        self.raw() == other.raw()
    }
}

impl Eq for Frame {}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("Frame");
        out.field(&format_args!("{}", self.header_without_password()));
        if !self.payload().is_empty() {
            out.field(&Payload(self.payload()));
        }
        out.finish()
    }
}

/// Shows a payload as text if it is text, and not more of it than one wants to read.
pub(super) struct Payload<'a>(pub(super) &'a [u8]);

/// How much of a payload `Debug` shows.
const SHOWN: usize = 1000;

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match std::str::from_utf8(self.0) {
            Ok(text) => {
                let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
                let end = ends.take_while(|end| *end <= SHOWN).last().unwrap_or(0);
                let shown = text.get(..end).unwrap_or_default();
                write!(f, "{shown:?}")?;
                shown.len()
            }
            Err(_) => {
                let shown = self.0.get(..SHOWN).unwrap_or(self.0);
                write!(f, "b\"{}\"", shown.escape_ascii())?;
                shown.len()
            }
        };
        if shown < self.0.len() { write!(f, "... of {} bytes", self.0.len()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Frame {
        Frame::parse(body).unwrap_or_else(|e| panic!("{}: {e}", body.escape_ascii()))
    }

    #[test]
    fn a_frame_is_small_and_can_cross_threads() {
        fn assert_shareable<T: Send + Sync + 'static>() {}
        assert_shareable::<Frame>();
        assert_eq!(size_of::<Frame>(), size_of::<usize>());
    }

    /// `wire-protocol` section 16, example 7.
    #[test]
    fn a_frame_shows_its_header_its_payload_and_its_bytes() {
        let body = br#"{"c":"p","t":"t","e":"5","x":"abc","s":77,"k":"K1"}d"#;
        let f = frame(body);
        assert_eq!((f.command(), f.message().command().name()), ("p", "publish"));
        let headers: Vec<_> = f.headers().collect();
        assert_eq!(headers, [("c", "p"), ("t", "t"), ("e", "5"), ("x", "abc"), ("s", "77"), ("k", "K1")]);
        assert_eq!(f.header_text().len() + f.payload().len(), body.len());
        assert_eq!((f.payload(), f.raw()), (&b"d"[..], &body[..]));
        assert_eq!(Frame::encode(f.header_text(), f.payload()), [b"\0\0\0\x34", &body[..]].concat());
        assert_eq!(f, f.clone());
        assert_ne!(f, frame(br#"{"c":"p"}"#));
    }

    #[test]
    fn a_header_is_found_under_each_of_its_spellings() {
        let f = frame(br#"{"cmd":"ack","bm":"1|2|","ack_type":"stats","zz":"1","zz":"2","yy":null}"#);
        for (key, value) in [
            ("c", Some("ack")),
            ("cmd", Some("ack")),
            ("bm", Some("1|2|")),
            ("bookmark", Some("1|2|")),
            ("a", Some("stats")),
            ("ack", Some("stats")),
            ("zz", Some("2")),
            ("yy", None),
            ("t", None),
            ("nothing", None),
        ] {
            assert_eq!(f.header(key), value, "{key}");
        }
    }

    #[test]
    fn escapes_are_decoded_in_the_value_and_kept_in_the_text() {
        let text = r#" {"c":"p","t":"or\"d\\e"}"#;
        let f = frame(format!("{text}x").as_bytes());
        assert_eq!(f.header("t"), Some("or\"d\\e"));
        assert_eq!((f.header_text(), f.payload()), (text, &b"x"[..]));
    }

    #[test]
    fn a_header_that_is_not_utf8_is_shown_as_far_as_it_is() {
        let f = frame(b"{\"c\":\"p\",\"t\":\"a\xFFb\"}\xFF");
        assert_eq!(f.header_text(), "{\"c\":\"p\",\"t\":\"a\u{FFFD}b\"}");
        assert_eq!(f.header("t"), Some("a?b"));
        assert_eq!(format!("{f:?}"), "Frame({\"c\":\"p\",\"t\":\"a\u{FFFD}b\"}, b\"\\xff\")");
    }

    /// `wire-protocol` section 16, example 21.
    #[test]
    fn a_query_result_shows_its_records() {
        let f = frame(
            br#"{"c":"sow","t":"orders","query_id":"auto7","bs":2}{"k":"111","l":8}{"id":1}{"k":"222","l":9,"x":"abc"}{"id":22}"#,
        );
        assert_eq!(f.header_text(), r#"{"c":"sow","t":"orders","query_id":"auto7","bs":2}"#);
        assert_eq!(f.payload().len(), f.raw().len() - f.header_text().len());
        let records: Vec<_> = f.records().iter().map(|r| (r.sow_key(), r.data(), r.query_id())).collect();
        assert_eq!(
            records,
            [
                (Some("111"), &br#"{"id":1}"#[..], Some("auto7")),
                (Some("222"), &br#"{"id":22}"#[..], Some("auto7"))
            ]
        );
        assert_eq!(f.header("k"), None, "the outer header has none");
        assert!(frame(br#"{"c":"sow","t":"orders","cid":"7"}"#).records().is_empty(), "a query");
    }

    /// V-5: a password is never shown in clear, however its key is spelt.
    #[test]
    fn debug_hides_the_password_and_nothing_else() {
        for key in ["pw", "password", "auth_key"] {
            let f = frame(
                format!(r#"{{"c":"logon","{key}":"s3\"cret","user_id":"al","{key}":"s3cret"}}"#).as_bytes(),
            );
            assert_eq!(
                format!("{f:?}"),
                format!(r#"Frame({{"c":"logon","{key}":"***","user_id":"al","{key}":"***"}})"#)
            );
            assert_eq!(f.header("pw"), Some("s3cret"), "a test may look at it");
        }
    }

    #[test]
    fn debug_shows_the_payload_as_text_and_not_too_much_of_it() {
        assert_eq!(format!("{:?}", frame(br#"{"c":"p"}a"b"#)), r#"Frame({"c":"p"}, "a\"b")"#);
        assert_eq!(format!("{:?}", frame(b"{\"c\":\"p\"}\xFF\x00a")), r#"Frame({"c":"p"}, b"\xff\x00a")"#);
        let long = frame(format!("{{\"c\":\"p\"}}{}", "é".repeat(1000)).as_bytes());
        let shown = format!("{long:?}");
        assert!(shown.len() < 1100 && shown.ends_with("\"... of 2000 bytes)"), "{shown}");
    }

    /// `wire-protocol` 2.1, 2.2.
    #[test]
    fn frames_are_cut_off_a_stream_wherever_it_is_split() {
        let stream = b"\0\0\0\0\0\0\0\x0A{\"c\":\"p\"}x\0\0\0\0\0\0\0\x0A{\"c\":\"p\"}y";
        for end in 0..stream.len() {
            let (frame, used) = Frame::cut(&stream[..end]).unwrap();
            let payload = frame.map(|f| f.payload().to_vec());
            let expected =
                if end >= 18 { (Some(b"x".to_vec()), 18) } else { (None, if end < 4 { 0 } else { 4 }) };
            assert_eq!((payload, used), expected, "cut at {end}");
        }
        let (second, used) = Frame::cut(&stream[18..]).unwrap();
        assert_eq!((second.expect("a second frame").payload(), used), (&b"y"[..], 18));
    }

    #[test]
    fn bytes_that_are_no_frame_are_an_error_that_says_why() {
        let table: &[(&[u8], &str)] = &[
            (b"", "without a command"),
            (b"abc", "no header"),
            (b"{\"t\":\"a\"}", "without a command"),
            (b"{\"c\":\"p\"", "not closed"),
            (b"{\"c\":\"sow\"}{\"l\":9}a", "runs past the end"),
        ];
        for (bytes, why) in table {
            let error = Frame::parse(bytes).expect_err("no frame");
            assert!(error.kind() == ErrorKind::Stream && error.to_string().contains(why), "{error}");
        }
        assert_eq!(Frame::cut(b"\x40\0\0\x01").unwrap_err(), WireError::FrameTooLong(0x4000_0001, MAX_FRAME));
        assert!(Frame::cut(b"\0\0\0\x02{}").is_err());
    }
}
