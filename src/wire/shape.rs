//! Recognises a header of the same shape as one before it: the same keys in the same order and values of the same
//! lengths, whatever the values are.
//!
//! Sixteen bytes at a time are compared with what must not differ, and looked over for what would change the shape: a
//! quote, an escape, a byte that is not ASCII, a number that ends early. That is several times faster than reading the
//! header again, and it says the same: a header that fits has exactly the spans of the header the shape was made from.

use super::fields::{CommandType, Field};
use super::grammar::HeaderScan;
use super::span::Span;

/// Headers above this size are read each time.
const LONGEST: usize = 512;

/// What is known of the header before, and so expected of the next.
#[derive(Debug)]
pub(crate) struct Prediction {
    command: CommandType,
    spans: Vec<Span>,
    /// The one of them that says how long the payload is.
    message_length: Option<Span>,
    shape: Shape,
    /// Where the current walk keeps the layout of these spans.
    pub(crate) layout: Option<u32>,
}

impl Default for Prediction {
    fn default() -> Prediction {
        let shape = Shape::default();
        let command = CommandType::Unknown;
        Prediction { command, spans: Vec::new(), message_length: None, shape, layout: None }
    }
}

impl Prediction {
    /// The length of the header at the start of `frame`, if it is as predicted.
    #[inline]
    pub(crate) fn fits(&self, frame: &[u8]) -> Option<usize> {
        self.shape.fits(frame)
    }

    pub(crate) fn command(&self) -> CommandType {
        self.command
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    #[inline]
    pub(crate) fn message_length(&self) -> Option<Span> {
        self.message_length
    }

    /// Takes in a header that was read: the second in a row with the same spans makes the shape known.
    pub(crate) fn observe(&mut self, command: CommandType, header: &[u8], scan: &HeaderScan) {
        if self.command == command && self.spans == scan.spans() {
            if !scan.is_rewritten() && header.len() <= LONGEST {
                self.shape.learn(header, &self.spans);
            }
            return;
        }
        self.command = command;
        self.spans.clear();
        self.spans.extend_from_slice(scan.spans());
        self.message_length = self.spans.iter().find(|span| span.is(Field::MessageLength)).copied();
        self.shape.forget();
        self.layout = None;
    }
}

/// What a header must look like to have the same spans as an earlier one.
#[derive(Debug, Default)]
struct Shape {
    /// The length of such a header; 0 if no shape is known.
    length: usize,
    /// The conditions on the header, one piece behind the other.
    pieces: Vec<Piece>,
    /// Those on its end, which may overlap the piece before.
    last: Piece,
}

/// How many bytes are looked at together: as many as fit into a register of every 64-bit machine.
const LANES: usize = 16;

/// The conditions on a few bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    /// All ones where a byte must be as `expected` has it: everything but values, and the name of the command.
    fixed: [u8; LANES],
    expected: [u8; LANES],
    /// All ones where a bare number stands: a digit and nothing else.
    digit: [u8; LANES],
}

/// What a byte of a header is to the shape.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Fixed,
    Text,
    Digit,
}

impl Shape {
    /// Learns the shape of a header that was just read and not rewritten.
    fn learn(&mut self, header: &[u8], spans: &[Span]) {
        self.forget();
        if header.len() < LANES {
            return;
        }
        let mut parts = vec![Part::Fixed; header.len()];
        for span in spans {
            let quoted = header.get(span.start().wrapping_sub(1)) == Some(&b'"');
            let value = header.get(span.start()..span.end()).unwrap_or_default();
            let part = match quoted {
                true if span.is(Field::Command) => continue,
                true => Part::Text,
                false if is_number(value) => Part::Digit,
                // Another bare value might end elsewhere in another header.
                false => return,
            };
            parts.get_mut(span.start()..span.end()).unwrap_or_default().fill(part);
        }
        let (Some(end), Some(end_parts)) = (header.last_chunk(), parts.last_chunk()) else { return };
        let pieces = header.as_chunks().0.iter().zip(parts.as_chunks().0);
        self.pieces.extend(pieces.map(|(bytes, parts)| Piece::new(bytes, parts)));
        self.last = Piece::new(end, end_parts);
        self.length = header.len();
    }

    /// Knows no shape any more.
    fn forget(&mut self) {
        self.length = 0;
        self.pieces.clear();
    }

    /// The length of the header at the start of `frame`, if it has this shape.
    #[inline]
    fn fits(&self, frame: &[u8]) -> Option<usize> {
        let header = frame.get(..self.length).filter(|header| !header.is_empty())?;
        let mut misfits = [0; LANES];
        for (piece, bytes) in self.pieces.iter().zip(header.as_chunks().0) {
            piece.look(bytes, &mut misfits);
        }
        self.last.look(header.last_chunk()?, &mut misfits);
        (misfits == [0; LANES]).then_some(self.length)
    }
}

impl Piece {
    fn new(bytes: &[u8; LANES], parts: &[Part; LANES]) -> Piece {
        let lanes = |part| parts.map(|other| if other == part { 0xFF } else { 0 });
        let (fixed, digit) = (lanes(Part::Fixed), lanes(Part::Digit));
        let mut expected = *bytes;
        expected.iter_mut().zip(fixed).for_each(|(byte, fixed)| *byte &= fixed);
        Piece { fixed, expected, digit }
    }

    /// Adds to `misfits` where the bytes differ from what they must be or would end a value. Written so that the
    /// compiler turns it into a handful of vector instructions.
    #[inline]
    fn look(&self, bytes: &[u8; LANES], misfits: &mut [u8; LANES]) {
        for lane in 0..LANES {
            let (byte, fixed) = (bytes[lane], self.fixed[lane]);
            let ends = if byte == b'"' { 0xFF } else { 0 } | if byte == b'\\' { 0xFF } else { 0 };
            let above_nine = byte.wrapping_sub(b'0').saturating_sub(9);
            misfits[lane] |= ((byte & fixed) ^ self.expected[lane])
                | (!fixed & (ends | (byte & 0x80)))
                | (self.digit[lane] & above_nine);
        }
    }
}

#[inline]
fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::super::grammar::{HeaderScan, parse};
    use super::*;

    fn learned(header: &str) -> Shape {
        let mut scan = HeaderScan::default();
        let length = parse(&mut header.as_bytes().to_vec(), &mut scan).unwrap();
        let mut shape = Shape::default();
        shape.learn(&header.as_bytes()[..length], scan.spans());
        shape
    }

    #[test]
    fn other_values_of_the_same_length_fit() {
        let shape = learned(r#"{"c":"p","t":"orders","bm":"12|34|","l":64,"sids":"auto1"}"#);
        let fits = [
            r#"{"c":"p","t":"orders","bm":"12|34|","l":64,"sids":"auto1"}"#,
            r#"{"c":"p","t":"trades","bm":"99|99|","l":00,"sids":"auto9"}{"payload":1}"#,
        ];
        for frame in fits {
            assert_eq!(shape.fits(frame.as_bytes()), Some(58), "{frame}");
        }
    }

    #[test]
    fn whatever_changes_the_shape_does_not_fit() {
        let shape = learned(r#"{"c":"p","t":"orders","bm":"12|34|","l":64,"sids":"auto1"}"#);
        let others = [
            r#"{"c":"s","t":"orders","bm":"12|34|","l":64,"sids":"auto1"}"#, // another command
            r#"{"c":"p","k":"orders","bm":"12|34|","l":64,"sids":"auto1"}"#, // another key
            r#"{"c":"p","t":"orde\"s","bm":"2|34|","l":64,"sids":"auto1"}"#, // an escape
            r#"{"c":"p","t":"or"x"s","bm":"12|34|","l":64,"sids":"auto1"}"#, // a quote
            r#"{"c":"p","t":"ordér","bm":"12|34|","l":64,"sids":"auto1"}"#,  // not ASCII
            r#"{"c":"p","t":"orders","bm":"12|34|","l":6,"sids":"autos1"}"#, // a shorter number
            r#"{"c":"p","t":"orders","bm":"12|34|","l":6a,"sids":"auto1"}"#, // not a number
            r#"{"c":"p","t":"orders","bm":"12|34|","l":6:,"sids":"auto1"}"#,
            r#"{"c":"p","t":"orders","bm":"12|34|","l":6/,"sids":"auto1"}"#,
            r#"{"c":"p","t":"orders","bm":"12|34|","l":64,"sids":"auto1""#,
            "",
        ];
        for frame in others {
            assert_eq!(shape.fits(frame.as_bytes()), None, "{frame}");
        }
    }

    #[test]
    fn some_headers_have_no_shape_to_learn() {
        for header in [r#"{"l":0}"#, r#"{"c":"p","t":null}"#, r#"{"c":"p","s":-11}"#, r#"{"c":"p","t":[11]}"#]
        {
            assert_eq!(learned(header).fits(header.as_bytes()), None, "{header}");
        }
        assert_eq!(Shape::default().fits(b"{\"c\":\"p\"}"), None);
    }

    /// A fit must mean what reading the header anew means, whatever the bytes.
    #[test]
    fn a_fit_gives_the_spans_that_the_grammar_gives() {
        let base = r#"{"c":"p","t":"ab","zz":"?","s":12,"k":"","x":"0"}payload"#;
        let mut scan = HeaderScan::default();
        parse(&mut base.as_bytes().to_vec(), &mut scan).unwrap();
        let spans = scan.spans().to_vec();
        let shape = learned(base);
        let mut fitted = 0;
        for at in 0..base.len() {
            for byte in 0..=255_u8 {
                let mut frame = base.as_bytes().to_vec();
                frame[at] = byte;
                if let Some(length) = shape.fits(&frame) {
                    fitted += 1;
                    assert_eq!(parse(&mut frame, &mut scan), Ok(length), "byte {byte} at {at}");
                    assert_eq!(scan.spans(), spans, "byte {byte} at {at}");
                    assert!(!scan.is_rewritten(), "byte {byte} at {at}");
                }
            }
        }
        assert!(fitted > 500, "{fitted}");
    }
}
