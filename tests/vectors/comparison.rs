//! What makes a frame of ours the recorded one: the same header but for generated ids and the version, in the fixed
//! order, and the same payload.

use std::collections::{HashMap, HashSet};

use amps_client::testing::Frame;
use serde_json::Value;

use crate::model::{Object, Record, Scenario};

/// The order in which a client writes its headers.
const ORDER: [&str; 22] = [
    "c",
    "t",
    "cid",
    "client_name",
    "user_id",
    "filter",
    "mt",
    "a",
    "sub_id",
    "version",
    "e",
    "query_id",
    "batch_size",
    "top_n",
    "orderby",
    "sow_keys",
    "x",
    "s",
    "bookmark",
    "pw",
    "o",
    "k",
];

/// The headers that hold ids: of a client one, of a server possibly a list.
const IDS: [&str; 5] = ["cid", "sub_id", "query_id", "sids", "sub_ids"];

/// Which id of ours stands for which recorded one, and by how much our sequences differ.
#[derive(Debug, Clone, Default)]
pub(crate) struct Renaming {
    ours: HashMap<String, String>,
    /// Ids that the caller chose: they are as they are.
    chosen: HashSet<String>,
    sequence_base: Option<u64>,
    our_sequence_base: Option<u64>,
}

impl Renaming {
    pub(crate) fn of(scenario: &Scenario) -> Renaming {
        let args = scenario.calls.iter().flat_map(|call| call.args.iter());
        let chosen = args.filter(|(key, _)| IDS.contains(&key.as_str()) || *key == "command_id");
        Renaming {
            chosen: chosen.filter_map(|(_, id)| id.as_str()).map(str::to_owned).collect(),
            sequence_base: scenario.sequence_base,
            ..Renaming::default()
        }
    }

    /// True if our id can stand for the recorded one, as it does from then on.
    fn admits(&mut self, recorded: &str, ours: &str) -> bool {
        if !self.is_generated(recorded) {
            return recorded == ours;
        }
        match self.ours.get(recorded) {
            Some(known) => known == ours,
            None if self.ours.values().any(|taken| taken == ours) => false,
            None => {
                self.ours.insert(recorded.to_owned(), ours.to_owned());
                true
            }
        }
    }

    /// Ids of the form `auto7`, `7` or `auto7x` that nobody chose.
    fn is_generated(&self, id: &str) -> bool {
        let digits = id.strip_prefix("auto").unwrap_or(id);
        let digits = digits.strip_suffix('x').unwrap_or(digits);
        !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && !self.chosen.contains(id)
    }

    /// Our text for a recorded id, or for a list of them.
    pub(crate) fn rename(&self, recorded: &str) -> String {
        let one = |id| self.ours.get(id).map_or(id, String::as_str);
        recorded.split(',').map(one).collect::<Vec<_>>().join(",")
    }

    /// True if our sequence is as far from our first as the recorded one is from its first.
    fn admits_sequence(&mut self, recorded: u64, ours: u64) -> bool {
        let Some(base) = self.sequence_base else { return recorded == ours };
        let distance = recorded.saturating_sub(base);
        *self.our_sequence_base.get_or_insert(ours.saturating_sub(distance)) + distance == ours
    }

    /// Our number for a recorded sequence.
    pub(crate) fn shift(&self, recorded: u64) -> u64 {
        match (self.sequence_base, self.our_sequence_base) {
            (Some(base), Some(ours)) if recorded >= base => recorded - base + ours,
            _ => recorded,
        }
    }

    /// The bookmark of a logon holds the last sequence of this client.
    fn shift_bookmark(&self, recorded: &str) -> String {
        let shifted = |part: &str| part.parse().map_or(part.to_owned(), |part| self.shift(part).to_string());
        match recorded.split_once('|') {
            Some((hash, rest)) => {
                let rest: Vec<_> = rest.split('|').map(shifted).collect();
                format!("{hash}|{}", rest.join("|"))
            }
            None => recorded.to_owned(),
        }
    }

    /// True if what our call returned stands for what the recorded one returned.
    pub(crate) fn admits_value(&mut self, recorded: &Value, ours: &Value) -> bool {
        match (recorded, ours) {
            (Value::String(recorded), Value::String(ours)) => self.admits(recorded, ours),
            _ => match (recorded.as_u64(), ours.as_u64()) {
                (Some(recorded), Some(ours)) => recorded == ours || self.admits_sequence(recorded, ours),
                _ => recorded == ours,
            },
        }
    }

    /// The header text of a recorded server frame, with our ids and sequences in it.
    pub(crate) fn header_text(&self, record: &Record) -> String {
        let mut text = record.text.clone();
        for (key, value) in &record.header {
            let ours = match value {
                Value::String(id) if IDS.contains(&key.as_str()) => Value::from(self.rename(id)),
                Value::String(bookmark) if key == "bookmark" => Value::from(self.shift_bookmark(bookmark)),
                Value::Number(sequence) if key == "s" => {
                    sequence.as_u64().map_or(value.clone(), |s| Value::from(self.shift(s)))
                }
                _ => continue,
            };
            text = text.replacen(&format!("\"{key}\":{value}"), &format!("\"{key}\":{ours}"), 1);
        }
        text
    }
}

/// Compares a received frame with the recorded one. `ids` learns from frames that agree only.
pub(crate) fn compare(recorded: &Record, received: &Frame, ids: &mut Renaming) -> Result<(), String> {
    let mut trial = ids.clone();
    check(recorded, received, &mut trial).map_err(|why| {
        format!("{why}\n    recorded {}\n    received {received:?}", Value::from(recorded.header.clone()))
    })?;
    *ids = trial;
    Ok(())
}

fn check(recorded: &Record, received: &Frame, ids: &mut Renaming) -> Result<(), String> {
    let header: Object = serde_json::from_str(received.header_text()).map_err(|error| error.to_string())?;
    if let Some(key) = recorded.header.keys().find(|key| !header.contains_key(*key)) {
        return Err(format!("the header `{key}` is missing"));
    }
    for (key, ours) in &header {
        let Some(value) = recorded.header.get(key) else {
            return Err(format!("the header `{key}` is too much"));
        };
        let admitted = match key.as_str() {
            "version" => ours.as_str().is_some_and(|version| !version.is_empty()),
            "cid" | "sub_id" | "query_id" => ids.admits_value(value, ours),
            "s" => match (value.as_u64(), ours.as_u64()) {
                (Some(value), Some(ours)) => ids.admits_sequence(value, ours),
                _ => false,
            },
            _ => value == ours,
        };
        if !admitted {
            return Err(format!("the header `{key}` differs"));
        }
    }
    let mut places = received.headers().map(|(key, _)| ORDER.iter().position(|known| *known == key));
    if !places.by_ref().is_sorted() {
        return Err("the headers come in another order".to_owned());
    }
    if received.payload() != recorded.payload {
        return Err(format!("the payload differs: {:?}", String::from_utf8_lossy(&recorded.payload)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record { header: serde_json::from_str(text).unwrap(), text: text.to_owned(), payload: b"d".to_vec() }
    }

    fn compared(recorded: &str, received: &str, ids: &mut Renaming) -> Result<(), String> {
        let frame = Frame::parse(format!("{received}d").as_bytes()).unwrap();
        compare(&record(recorded), &frame, ids)
    }

    #[test]
    fn generated_ids_are_renamed_one_to_one_and_chosen_ones_are_not() {
        let mut ids = Renaming { chosen: HashSet::from(["7".to_owned()]), ..Renaming::default() };
        compared(
            r#"{"c":"p","cid":"auto1","sub_id":"auto1"}"#,
            r#"{"c":"p","cid":"x","sub_id":"x"}"#,
            &mut ids,
        )
        .unwrap();
        assert_eq!(ids.rename("auto1,S1,auto1"), "x,S1,x");
        assert_eq!(ids.header_text(&record(r#"{"c":"p","sids":"auto1,b"}"#)), r#"{"c":"p","sids":"x,b"}"#);
        let differing = [
            (r#"{"c":"p","cid":"auto1"}"#, r#"{"c":"p","cid":"y"}"#), // known by another name
            (r#"{"c":"p","cid":"auto2"}"#, r#"{"c":"p","cid":"x"}"#), // a name that is taken
            (r#"{"c":"p","cid":"auto2","sub_id":"auto2"}"#, r#"{"c":"p","cid":"y","sub_id":"z"}"#),
            (r#"{"c":"p","cid":"7"}"#, r#"{"c":"p","cid":"8"}"#), // chosen
            (r#"{"c":"p","cid":"S1"}"#, r#"{"c":"p","cid":"S2"}"#),
        ];
        for (recorded, received) in differing {
            assert!(compared(recorded, received, &mut ids).is_err(), "{recorded} is not {received}");
        }
        compared(r#"{"c":"p","cid":"auto2"}"#, r#"{"c":"p","cid":"y"}"#, &mut ids).unwrap();
    }

    #[test]
    fn every_other_difference_in_a_header_counts() {
        let recorded = r#"{"c":"p","t":"t","version":"1","e":"5"}"#;
        compared(recorded, r#"{"c":"p","t":"t","version":"2","e":"5"}"#, &mut Renaming::default()).unwrap();
        for received in [
            r#"{"c":"p","t":"t","version":"1"}"#,
            r#"{"c":"p","t":"t","version":"1","e":5}"#,
            r#"{"c":"p","t":"u","version":"1","e":"5"}"#,
            r#"{"c":"p","t":"t","version":"1","e":"5","k":"1"}"#,
            r#"{"c":"p","t":"t","e":"5","version":"1"}"#,
        ] {
            assert!(compared(recorded, received, &mut Renaming::default()).is_err(), "{received}");
        }
    }

    #[test]
    fn sequences_count_from_their_first() {
        let mut ids = Renaming { sequence_base: Some(1000), ..Renaming::default() };
        compared(r#"{"c":"p","s":1001}"#, r#"{"c":"p","s":51}"#, &mut ids).unwrap();
        compared(r#"{"c":"p","s":1003}"#, r#"{"c":"p","s":53}"#, &mut ids).unwrap();
        assert!(compared(r#"{"c":"p","s":1004}"#, r#"{"c":"p","s":53}"#, &mut ids).is_err());
        assert_eq!(ids.header_text(&record(r#"{"c":"ack","s":1002}"#)), r#"{"c":"ack","s":52}"#);
        assert_eq!(ids.header_text(&record(r#"{"c":"ack","s":7}"#)), r#"{"c":"ack","s":7}"#);
        let logon = record(r#"{"c":"ack","bookmark":"2000|1002|"}"#);
        assert_eq!(ids.header_text(&logon), r#"{"c":"ack","bookmark":"2000|52|"}"#);
        assert!(compared(r#"{"c":"p","s":1}"#, r#"{"c":"p","s":2}"#, &mut Renaming::default()).is_err());
    }
}
