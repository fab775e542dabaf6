//! Writes one outgoing frame straight into a larger buffer.

use super::fields::Field;
use super::grammar::{escape_into, is_plain};
use super::number::Number;
use super::{CommandType, MAX_FRAME};

/// A frame under construction at the end of a buffer.
///
/// The four bytes of the length are reserved first and patched by [`FrameWriter::finish`]; a writer that is dropped
/// unfinished leaves the buffer as it was. Empty values are left out, because the protocol cannot express them.
#[derive(Debug)]
pub(crate) struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    finished: bool,
}

impl<'a> FrameWriter<'a> {
    /// Opens a frame for this command; `publish` is written in its short form `p`.
    #[inline]
    pub(crate) fn new(buffer: &'a mut Vec<u8>, command: CommandType) -> FrameWriter<'a> {
        let start = buffer.len();
        buffer.extend_from_slice(b"\0\0\0\0{\"c\":\"");
        buffer.extend_from_slice(match command {
            CommandType::Publish => b"p",
            other => other.name().as_bytes(),
        });
        buffer.push(b'"');
        FrameWriter { buffer, start, finished: false }
    }

    /// A quoted value.
    #[inline]
    pub(crate) fn text(&mut self, field: Field, value: &str) -> &mut Self {
        self.text_as(field.key(), value)
    }

    /// A bare decimal value.
    #[inline]
    pub(crate) fn number(&mut self, field: Field, value: u64) -> &mut Self {
        self.number_as(field.key(), value)
    }

    /// A quoted value under a given key: a server spells three of the keys in another way than a client.
    #[inline]
    pub(crate) fn text_as(&mut self, key: &str, value: &str) -> &mut Self {
        if !value.is_empty() {
            self.key(key);
            self.buffer.push(b'"');
            escape_into(self.buffer, value.as_bytes());
            self.buffer.push(b'"');
        }
        self
    }

    /// A decimal value in quotes.
    #[inline]
    pub(crate) fn quoted_number(&mut self, field: Field, value: u64) -> &mut Self {
        self.key(field.key());
        self.buffer.push(b'"');
        push_decimal(self.buffer, value);
        self.buffer.push(b'"');
        self
    }

    /// A bare decimal value under a given key.
    #[inline]
    pub(crate) fn number_as(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        push_decimal(self.buffer, value);
        self
    }

    #[inline]
    fn key(&mut self, key: &str) {
        self.buffer.extend_from_slice(b",\"");
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }

    /// Closes the header, appends the payload and patches the length.
    ///
    /// A frame larger than the protocol allows is taken back: `Err` holds its size, and the buffer is as before.
    #[inline]
    pub(crate) fn finish(mut self, payload: &[u8]) -> Result<(), usize> {
        let size = self.buffer.len() + 1 + payload.len() - self.start - 4;
        let length = u32::try_from(size).ok().filter(|n| *n <= MAX_FRAME).ok_or(size)?;
        self.buffer.push(b'}');
        self.buffer.extend_from_slice(payload);
        if let Some(place) = self.buffer.get_mut(self.start..self.start + 4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.buffer.truncate(self.start);
        }
    }
}

/// Appends the frame of a plain publish, whose header is nothing but the topic.
///
/// `Err` is as for [`FrameWriter::finish`]. The topic holds no control character that cannot be sent.
#[inline]
pub(crate) fn push_publish(buffer: &mut Vec<u8>, topic: &str, payload: &[u8]) -> Result<(), usize> {
    const START: &[u8] = b"{\"c\":\"p\",\"t\":\"";
    const END: &[u8] = b"\"}";
    if topic.is_empty() || !is_plain(topic.as_bytes()) {
        let mut frame = FrameWriter::new(buffer, CommandType::Publish);
        frame.text(Field::Topic, topic);
        return frame.finish(payload);
    }
    let size = START.len() + topic.len() + END.len() + payload.len();
    let length = u32::try_from(size).ok().filter(|n| *n <= MAX_FRAME).ok_or(size)?;
    buffer.reserve(4 + size);
    buffer.extend_from_slice(&length.to_be_bytes());
    buffer.extend_from_slice(START);
    buffer.extend_from_slice(topic.as_bytes());
    buffer.extend_from_slice(END);
    buffer.extend_from_slice(payload);
    Ok(())
}

/// Writes the frames of publishes that went through a publish store: besides the topic they ask for the persisted
/// acknowledgement of their number. A header mostly is that of the one before but for the last digits of the number, and is
/// kept for that.
#[derive(Debug, Default)]
pub(crate) struct StoredPublishWriter {
    topic: String,
    number: Number,
    /// The header up to the lower digits of the number; empty before the first.
    header: Vec<u8>,
}

impl StoredPublishWriter {
    /// Appends a frame.
    ///
    /// `Err` is as for [`FrameWriter::finish`]. The topic holds no control character that cannot be sent.
    #[inline]
    pub(crate) fn write(
        &mut self,
        buffer: &mut Vec<u8>,
        topic: &str,
        sequence: u64,
        payload: &[u8],
    ) -> Result<(), usize> {
        if self.header.is_empty() || !self.number.count_to(sequence) || self.topic != topic {
            self.renew(topic, sequence)?;
        }
        let (digits, skipped) = self.number.lower_digits();
        let size = self.header.len() + digits.len() - skipped + 1 + payload.len();
        let length = u32::try_from(size).ok().filter(|n| *n <= MAX_FRAME).ok_or(size)?;
        buffer.reserve(4 + size);
        buffer.extend_from_slice(&length.to_be_bytes());
        buffer.extend_from_slice(&self.header);
        match skipped {
            0 => buffer.extend_from_slice(&digits),
            _ => buffer.extend_from_slice(digits.get(skipped..).unwrap_or_default()),
        }
        buffer.push(b'}');
        buffer.extend_from_slice(payload);
        Ok(())
    }

    #[cold]
    fn renew(&mut self, topic: &str, sequence: u64) -> Result<(), usize> {
        self.header.clear();
        let mut frame = FrameWriter::new(&mut self.header, CommandType::Publish);
        frame.text(Field::Topic, topic).text(Field::AckType, "persisted");
        frame.finish(b"")?;
        // Without its length and the brace that closes it.
        self.header.drain(..4);
        self.header.pop();
        for piece in [",\"", Field::Sequence.key(), "\":"] {
            self.header.extend_from_slice(piece.as_bytes());
        }
        topic.clone_into(&mut self.topic);
        self.number = Number::new(sequence);
        self.header.extend_from_slice(self.number.upper_digits());
        Ok(())
    }
}

/// Appends a number in decimal.
pub(crate) fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // `at` starts at 20 and a u64 has at most 20 digits.
        if let Some(place) = digits.get_mut(at) {
            *place = b'0' + (value % 10) as u8;
        }
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `wire-protocol` section 16, examples 5, 6 and 7: the length counts header and payload.
    #[test]
    fn a_frame_is_length_header_and_payload() {
        let mut out = b"before".to_vec();
        let mut frame = FrameWriter::new(&mut out, CommandType::Publish);
        frame.text(Field::Topic, "orders");
        frame.finish(b"{\"id\":1}").unwrap();
        assert_eq!(out, b"before\x00\x00\x00\x1E{\"c\":\"p\",\"t\":\"orders\"}{\"id\":1}");

        out.clear();
        let mut frame = FrameWriter::new(&mut out, CommandType::Publish);
        frame.text(Field::Topic, "or\"d\\e");
        frame.finish(b"x").unwrap();
        assert_eq!(out, b"\x00\x00\x00\x19{\"c\":\"p\",\"t\":\"or\\\"d\\\\e\"}x");

        out.clear();
        let mut frame = FrameWriter::new(&mut out, CommandType::Publish);
        frame.text(Field::Topic, "t").quoted_number(Field::Expiration, 5).text(Field::CorrelationId, "abc");
        frame.number(Field::Sequence, 77).text(Field::SowKey, "K1");
        frame.finish(b"d").unwrap();
        assert_eq!(
            out,
            b"\x00\x00\x004{\"c\":\"p\",\"t\":\"t\",\"e\":\"5\",\"x\":\"abc\",\"s\":77,\"k\":\"K1\"}d"
        );
    }

    #[test]
    fn a_plain_publish_is_written_as_any_other() {
        for topic in ["orders", "", "or\"d\\e", "a\tb", "über"] {
            let (mut short, mut long) = (b"x".to_vec(), b"x".to_vec());
            push_publish(&mut short, topic, b"data").unwrap();
            let mut frame = FrameWriter::new(&mut long, CommandType::Publish);
            frame.text(Field::Topic, topic);
            frame.finish(b"data").unwrap();
            assert_eq!(short, long, "{topic}");
        }
    }

    #[test]
    fn an_empty_value_is_left_out() {
        let mut out = Vec::new();
        let mut frame = FrameWriter::new(&mut out, CommandType::Flush);
        frame.text(Field::Topic, "");
        frame.finish(b"").unwrap();
        assert_eq!(out, b"\x00\x00\x00\x0D{\"c\":\"flush\"}");
    }

    #[test]
    fn an_unfinished_frame_leaves_no_trace() {
        let mut out = b"kept".to_vec();
        FrameWriter::new(&mut out, CommandType::Subscribe).text(Field::Topic, "t");
        assert_eq!(out, b"kept");
    }

    #[test]
    fn decimals_are_exact_over_the_whole_range() {
        for value in [0, 1, 9, 10, 99, 100, 1_795_337_071_422_000_001, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
