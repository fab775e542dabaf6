//! A recorded line as a value: what was called, what went over the wire, what the application saw.

use serde_json::{Map, Value};

/// The header of a frame or the arguments of a call.
pub(crate) type Object = Map<String, Value>;

/// One line of `commands.jsonl`.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) calls: Vec<Call>,
    /// What happened on the wire, in order.
    pub(crate) events: Vec<Event>,
    pub(crate) observed: Vec<Observed>,
    /// The first stored sequence minus 1.
    pub(crate) sequence_base: Option<u64>,
}

/// One call of the application, or one act of its environment (`env.…`).
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) operation: String,
    pub(crate) args: Object,
    pub(crate) returns: Option<Value>,
    pub(crate) error: Option<String>,
}

/// Something on a connection, and the call during which it was seen.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) connection: String,
    pub(crate) call: usize,
    pub(crate) what: Happening,
}

#[derive(Debug, Clone)]
pub(crate) enum Happening {
    Accept,
    FromClient(Record),
    FromServer(Record),
    /// Bytes of the server that are no whole frame.
    RawFromServer(Vec<u8>),
    ClientClose,
    ServerDrop,
}

/// A recorded frame.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) header: Object,
    /// The header as it was written.
    pub(crate) text: String,
    pub(crate) payload: Vec<u8>,
}

/// Something the application saw: a state, a message, an error without a caller.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) call: usize,
    pub(crate) event: String,
    pub(crate) fields: Object,
}

impl Scenario {
    /// Reads a line; `Err` says what is not understood.
    pub(crate) fn read(line: &Value) -> Result<Scenario, String> {
        let list = |key: &str| line[key].as_array().cloned().unwrap_or_default();
        let mut events = Vec::new();
        for frame in list("client_frames") {
            events.push(Event::read(&frame, Happening::FromClient(Record::read(&frame)?))?);
        }
        for frame in list("server_frames") {
            let raw = frame["raw_base64"].as_str().map(decode_base64).transpose()?;
            let what = match raw {
                Some(bytes) => Happening::RawFromServer(bytes),
                None => Happening::FromServer(Record::read(&frame)?),
            };
            events.push(Event::read(&frame, what)?);
        }
        for event in list("connection_events") {
            events.push(Event::read(&event, Happening::read(&event)?)?);
        }
        events.sort_by_key(|event| event.number);
        Ok(Scenario {
            calls: list("call").iter().map(Call::read).collect::<Result<_, _>>()?,
            events,
            observed: list("observed").iter().map(Observed::read).collect::<Result<_, _>>()?,
            sequence_base: line["seq_base"].as_u64(),
        })
    }
}

impl Call {
    fn read(value: &Value) -> Result<Call, String> {
        Ok(Call {
            number: number(value, "n")?,
            operation: text(value, "op")?.to_owned(),
            args: value["args"].as_object().cloned().unwrap_or_default(),
            returns: value.get("returns").cloned(),
            error: value["error"].as_str().map(str::to_owned),
        })
    }

    /// An argument as text; empty without one.
    pub(crate) fn arg(&self, key: &str) -> &str {
        self.args.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Event {
    fn read(value: &Value, what: Happening) -> Result<Event, String> {
        Ok(Event {
            number: number(value, "n")? as u64,
            connection: value["conn"].as_str().unwrap_or_default().to_owned(),
            call: number(value, "call")?,
            what,
        })
    }

    /// The frame, if a client wrote one.
    pub(crate) fn client_frame(&self) -> Option<&Record> {
        match &self.what {
            Happening::FromClient(record) => Some(record),
            _ => None,
        }
    }

    /// The frame, if the server sent one.
    pub(crate) fn server_frame(&self) -> Option<&Record> {
        match &self.what {
            Happening::FromServer(record) => Some(record),
            _ => None,
        }
    }
}

impl Happening {
    fn read(event: &Value) -> Result<Happening, String> {
        match text(event, "what")? {
            "accept" => Ok(Happening::Accept),
            "client_close" => Ok(Happening::ClientClose),
            "server_drop" => Ok(Happening::ServerDrop),
            other => Err(format!("an unknown connection event `{other}`")),
        }
    }
}

impl Record {
    fn read(frame: &Value) -> Result<Record, String> {
        Ok(Record {
            header: frame["header"].as_object().cloned().ok_or("a frame without a header")?,
            text: text(frame, "header_text")?.to_owned(),
            payload: payload(frame, "payload_utf8", "payload_base64")?,
        })
    }

    /// The value of a header as text; empty without one.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.header.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Observed {
    fn read(value: &Value) -> Result<Observed, String> {
        let mut fields = value.as_object().cloned().unwrap_or_default();
        for key in ["call", "event", "t_ms"] {
            fields.remove(key);
        }
        Ok(Observed { call: number(value, "call")?, event: text(value, "event")?.to_owned(), fields })
    }

    pub(crate) fn get(&self, key: &str) -> &str {
        self.fields.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A value that must be there and be text.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    value[key].as_str().ok_or_else(|| format!("no `{key}` in {value}"))
}

fn number(value: &Value, key: &str) -> Result<usize, String> {
    let number = value[key].as_u64().and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("no number `{key}` in {value}"))
}

/// Bytes given as text under one key or in base64 under another; none without either.
pub(crate) fn payload(value: &Value, utf8: &str, base64: &str) -> Result<Vec<u8>, String> {
    match (value[utf8].as_str(), value[base64].as_str()) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, Some(text)) => decode_base64(text),
        (None, None) => Ok(Vec::new()),
    }
}

fn decode_base64(text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Ok(byte - b'A'),
        b'a'..=b'z' => Ok(byte - b'a' + 26),
        b'0'..=b'9' => Ok(byte - b'0' + 52),
        b'+' => Ok(62),
        b'/' => Ok(63),
        _ => Err(format!("`{text}` is not base64")),
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group
            .iter()
            .try_fold(0_u32, |bits, byte| Ok::<_, String>(bits << 6 | u32::from(digit(*byte)?)))?;
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(bits.to_be_bytes().iter().skip(1).take(group.len() - 1));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_with_and_without_padding() {
        for (text, bytes) in [("", ""), ("YQ==", "a"), ("YWI=", "ab"), ("YWJj", "abc"), ("YWJjZA", "abcd")] {
            assert_eq!(decode_base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(decode_base64("AP8B").unwrap(), [0, 255, 1]);
        assert!(decode_base64("a b=").is_err());
    }
}
