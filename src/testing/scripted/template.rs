//! A frame's header text with gaps that are filled from a frame received before.

use crate::testing::Frame;
use crate::wire::grammar::escape_into;

/// A header text; `{key}` stands for the value of that header in the frame that is answered.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Header(String),
}

impl Template {
    /// Takes a text apart. What stands in braces and is made of ASCII letters and `_` only is a gap; nothing else is,
    /// so the braces of the header itself need no escape.
    pub(super) fn parse(text: &str) -> Template {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut from = 0;
        while let Some(open) = rest.get(from..).and_then(|t| t.find('{')).map(|at| at + from) {
            match gap(rest.get(open + 1..).unwrap_or_default()) {
                Some((name, after)) => {
                    parts.push(Part::Text(rest.get(..open).unwrap_or_default().to_owned()));
                    parts.push(Part::Header(name.to_owned()));
                    (rest, from) = (after, 0);
                }
                None => from = open + 1,
            }
        }
        parts.push(Part::Text(rest.to_owned()));
        Template(parts)
    }

    /// A success acknowledgement of type `processed`.
    pub(super) fn success() -> Template {
        Template::parse(r#"{"c":"ack","cid":"{cid}","a":"processed","status":"success"}"#)
    }

    /// A failure acknowledgement of type `processed`.
    pub(super) fn failure(reason: &str) -> Template {
        let mut template =
            Template::parse(r#"{"c":"ack","cid":"{cid}","a":"processed","status":"failure","reason":""#);
        template.0.push(Part::Text(format!("{}\"}}", escaped(reason))));
        template
    }

    /// The text with every gap filled, escaped as the inside of a header string; `Err` names the header that is missing.
    pub(super) fn fill(&self, answered: Option<&Frame>) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Header(key) => {
                    let value = answered.and_then(|frame| frame.header(key)).ok_or(key.as_str())?;
                    text.push_str(&escaped(value));
                }
            }
        }
        Ok(text)
    }
}

/// The name of a gap at the start of `text`, and what follows its closing brace.
fn gap(text: &str) -> Option<(&str, &str)> {
    let (name, after) = text.split_once('}')?;
    let is_key = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
    is_key.then_some((name, after))
}

/// A value as the inside of a header string.
pub(super) fn escaped(value: &str) -> String {
    let mut out = Vec::new();
    escape_into(&mut out, value.as_bytes());
    // Escaping replaces ASCII characters by ASCII characters.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_and_everything_else_is_kept() {
        let frame = Frame::parse(br#"{"c":"subscribe","cmd_id":"a\"1","sub_id":"s","s":7,"o":""}"#).unwrap();
        let table = [
            (r#"{"c":"ack","cid":"{cid}"}"#, Ok(r#"{"c":"ack","cid":"a\"1"}"#)),
            (r#"{"c":"p","sids":"{sub_id},{sub_id}","s":{s}}"#, Ok(r#"{"c":"p","sids":"s,s","s":7}"#)),
            ("{c}", Ok("subscribe")),
            ("", Ok("")),
            ("{", Ok("{")),
            ("{}{ }{1}{\"c\"}{{{seq}}}", Ok("{}{ }{1}{\"c\"}{{7}}")),
            ("é{s}é", Ok("é7é")),
            ("{s", Ok("{s")),
            (r#"{"filter":"{filter}"}"#, Err("filter")),
            ("{o}", Err("o")),
            ("{nothing}", Err("nothing")),
        ];
        for (text, filled) in table {
            assert_eq!(Template::parse(text).fill(Some(&frame)), filled.map(str::to_owned), "{text}");
        }
        assert_eq!(Template::parse("{cid}").fill(None), Err("cid"));
        assert_eq!(Template::parse("{}").fill(None), Ok("{}".to_owned()));
    }

    /// `wire-protocol` section 16, examples 13 and 14.
    #[test]
    fn acknowledgements_are_those_of_the_protocol() {
        let frame = Frame::parse(br#"{"c":"subscribe","cid":"auto2"}"#).unwrap();
        let filled = |template: Template| template.fill(Some(&frame)).unwrap();
        assert_eq!(
            filled(Template::success()),
            r#"{"c":"ack","cid":"auto2","a":"processed","status":"success"}"#
        );
        assert_eq!(
            filled(Template::failure("bad filter")),
            r#"{"c":"ack","cid":"auto2","a":"processed","status":"failure","reason":"bad filter"}"#
        );
        assert!(filled(Template::failure("a \"{cid}\"")).ends_with(r#""reason":"a \"{cid}\""}"#));
    }
}
