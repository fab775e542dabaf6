//! Frames that are not as they should be.

use crate::testing::frame::Frame;
use crate::wire::Field;

/// What is wrong with a frame that [`Fault::damage`](super::Fault::damage) strikes.
///
/// ```
/// use amps_client::testing::{Damage, Fault, Server, When};
/// use amps_client::{Client, ErrorKind};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("desk").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// server.fault(Fault::damage(Damage::UnclosedHeader).when(When::receives("sow")));
/// let error = client.sow("sow/orders", "").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Disconnected); // the client hangs up on what it cannot read
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Damage {
    /// The length in front of the frame is 8 bytes more than its bytes.
    LengthTooLong,
    /// The length in front of the frame is one byte less than its bytes.
    LengthTooShort,
    /// The length in front of the frame is 4 GiB less one byte.
    LengthHuge,
    /// The header has no closing brace.
    UnclosedHeader,
    /// The header has a key that the protocol does not know. A reader must bear it.
    UnknownKey,
    /// The command is one that the protocol does not know.
    UnknownCommand,
    /// The header has a text with an escape that there is not.
    BadEscape,
    /// The header has a text that is not UTF-8.
    NotUtf8,
    /// The first record of a query result claims more bytes than there are.
    RecordTooLong,
    /// The message is for no subscription.
    NoSubIds,
    /// The message is for a subscription that there is not, in the place of those that it was for.
    UnknownSubId,
    /// The payload is missing.
    NoPayload,
}

impl Damage {
    /// Whether the frame has what is to be damaged.
    pub(super) fn fits(self, frame: &Frame) -> bool {
        match self {
            Damage::RecordTooLong => !frame.records().is_empty(),
            Damage::NoSubIds | Damage::UnknownSubId => frame.header(Field::SubIds.key()).is_some(),
            Damage::NoPayload => !frame.payload().is_empty(),
            _ => true,
        }
    }

    /// The damaged frame as it goes out.
    pub(crate) fn apply(self, frame: &Frame) -> Vec<u8> {
        let (header, payload) = (frame.header_bytes(), frame.payload());
        let inside = header.strip_suffix(b"}").unwrap_or(header);
        match self {
            Damage::LengthTooLong => with_length(frame, |length| length.saturating_add(8)),
            Damage::LengthTooShort => with_length(frame, |length| length.saturating_sub(1)),
            Damage::LengthHuge => with_length(frame, |_| u32::MAX),
            Damage::UnclosedHeader => encode(&[inside, payload]),
            Damage::UnknownKey => encode(&[inside, br#","flavour":"new"}"#, payload]),
            Damage::BadEscape => encode(&[inside, br#","x":"\q"}"#, payload]),
            Damage::NotUtf8 => encode(&[inside, b",\"x\":\"\xFF\xFE\"}", payload]),
            Damage::UnknownCommand => encode(&[&with_value(frame, Field::Command, "unheard_of"), payload]),
            Damage::RecordTooLong => encode(&[header, &too_long(payload)]),
            Damage::NoSubIds => encode(&[&without(frame, Field::SubIds), payload]),
            Damage::UnknownSubId => encode(&[&with_value(frame, Field::SubIds, "nobody"), payload]),
            Damage::NoPayload => encode(&[&without(frame, Field::MessageLength)]),
        }
    }
}

fn encode(parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), &body[..]].concat()
}

fn with_length(frame: &Frame, change: impl FnOnce(u32) -> u32) -> Vec<u8> {
    let length = u32::try_from(frame.raw().len()).unwrap_or(u32::MAX);
    [&change(length).to_be_bytes(), frame.raw()].concat()
}

/// The header, with another text as the value of a field.
fn with_value(frame: &Frame, field: Field, value: &str) -> Vec<u8> {
    rewritten(frame, |key| (Field::of(key.as_bytes()) == Some(field)).then(|| format!("\"{value}\"")))
}

/// The header without a field.
fn without(frame: &Frame, field: Field) -> Vec<u8> {
    rewritten(frame, |key| (Field::of(key.as_bytes()) == Some(field)).then(String::new))
}

/// The header, compact, each value as it was or as it is given here; an empty one is left out, and its key as well.
fn rewritten(frame: &Frame, change: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let members = frame.raw_headers().filter_map(|(key, raw)| match change(key) {
        Some(value) if value.is_empty() => None,
        Some(value) => Some([b"\"", key.as_bytes(), b"\":", value.as_bytes()].concat()),
        None => Some([b"\"", key.as_bytes(), b"\":", raw].concat()),
    });
    [b"{", members.collect::<Vec<_>>().join(&b","[..]).as_slice(), b"}"].concat()
}

/// The records of a result, the first of which claims too much. Each begins with its length.
fn too_long(records: &[u8]) -> Vec<u8> {
    const START: &[u8] = b"{\"l\":";
    let rest = records.strip_prefix(START).unwrap_or(records);
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = (records.len() + 1000).to_string();
    [START, length.as_bytes(), rest.get(digits..).unwrap_or_default()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(damage: Damage, body: &str) -> (u32, String) {
        let frame = Frame::parse(body.as_bytes()).unwrap();
        assert!(damage.fits(&frame), "{damage:?} {body}");
        let bytes = damage.apply(&frame);
        let length = u32::from_be_bytes(*bytes.first_chunk().unwrap());
        (length, bytes[4..].escape_ascii().to_string().replace("\\\"", "\""))
    }

    /// X-3, the row `damage`.
    #[test]
    fn each_damage_is_the_one_it_says_and_no_other() {
        let delivery = r#"{"c":"p","t":"a,b","l":1,"sids":"s,t"}x"#;
        let result = r#"{"c":"sow","t":"a","query_id":"q","bs":1}{"l":2,"k":"1"}{}"#;
        let table = [
            (Damage::LengthTooLong, delivery, delivery, 8),
            (Damage::LengthTooShort, delivery, delivery, -1),
            (Damage::UnclosedHeader, delivery, r#"{"c":"p","t":"a,b","l":1,"sids":"s,t"x"#, 0),
            (Damage::UnknownKey, delivery, r#"{"c":"p","t":"a,b","l":1,"sids":"s,t","flavour":"new"}x"#, 0),
            (Damage::UnknownCommand, delivery, r#"{"c":"unheard_of","t":"a,b","l":1,"sids":"s,t"}x"#, 0),
            (Damage::BadEscape, delivery, r#"{"c":"p","t":"a,b","l":1,"sids":"s,t","x":"\\q"}x"#, 0),
            (Damage::NotUtf8, delivery, r#"{"c":"p","t":"a,b","l":1,"sids":"s,t","x":"\xff\xfe"}x"#, 0),
            (Damage::NoSubIds, delivery, r#"{"c":"p","t":"a,b","l":1}x"#, 0),
            (Damage::UnknownSubId, delivery, r#"{"c":"p","t":"a,b","l":1,"sids":"nobody"}x"#, 0),
            (Damage::NoPayload, delivery, r#"{"c":"p","t":"a,b","sids":"s,t"}"#, 0),
            (
                Damage::RecordTooLong,
                result,
                r#"{"c":"sow","t":"a","query_id":"q","bs":1}{"l":1017,"k":"1"}{}"#,
                0,
            ),
        ];
        for (damage, body, expected, more) in table {
            let (length, text) = damaged(damage, body);
            assert_eq!(text, expected, "{damage:?}");
            let bytes = if damage == Damage::NotUtf8 { text.len() - 6 } else { text.len() };
            let bytes = if damage == Damage::BadEscape { bytes - 1 } else { bytes };
            assert_eq!(i64::from(length), bytes as i64 + more, "{damage:?}");
        }
        assert_eq!(damaged(Damage::LengthHuge, delivery).0, u32::MAX);
    }

    #[test]
    fn only_a_frame_that_has_it_can_lose_it() {
        let ack = Frame::parse(br#"{"c":"ack","cid":"1","a":"processed","status":"success"}"#).unwrap();
        for damage in [Damage::RecordTooLong, Damage::NoSubIds, Damage::UnknownSubId, Damage::NoPayload] {
            assert!(!damage.fits(&ack), "{damage:?}");
        }
        assert!(Damage::UnclosedHeader.fits(&ack));
    }
}
