//! What the application saw: written down as the recorded lines have it, and compared with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use amps_client::{
    Authenticator, Client, CommandType, ConnectionState, Error, ErrorKind, HandlerError, Message,
    MessageHandler, Result, UnhandledError,
};
use serde_json::Value;

use crate::comparison::Renaming;
use crate::model::{Object, Observed, payload};
use crate::player::PATIENCE;

/// Everything the application of one scenario saw, by kind of event and in order.
#[derive(Default)]
pub(crate) struct Log {
    seen: Mutex<BTreeMap<String, Vec<Object>>>,
    /// The messages that handlers got.
    handled: Mutex<Vec<Message>>,
    grew: Condvar,
}

impl Log {
    /// A log that hears of everything this client tells without being asked.
    pub(crate) fn of(client: &Client) -> Arc<Log> {
        let log = Arc::new(Log::default());
        log.listen(client);
        log
    }

    /// Hears of everything another client tells.
    pub(crate) fn listen(self: &Arc<Log>, client: &Client) {
        let states = Arc::clone(self);
        client.add_connection_state_listener(move |state: ConnectionState| {
            states.add("state", fields([("state", state.to_string())]));
        });
        let last = Arc::clone(self);
        client.set_last_chance_handler(move |message: &Message| {
            let mut fields = message_fields(message);
            // It is given to nobody, so it is not for one subscription of the list.
            fields.remove("sub_id");
            last.add("last_chance", fields);
        });
        let failures = Arc::clone(self);
        client.set_exception_listener(move |failure: &UnhandledError| {
            failures.add("exception_listener", fields([("error", failure.to_string())]));
        });
    }

    pub(crate) fn hear_of_failed_writes(self: &Arc<Log>, client: &Client) {
        let failures = Arc::clone(self);
        client.set_failed_write_handler(move |message: &Message, reason: &str| {
            let mut fields = fields([("reason", reason.to_owned())]);
            fields.insert("message".to_owned(), Value::from(message_fields(message)));
            failures.add("failed_write", fields);
        });
    }

    pub(crate) fn add(&self, event: &str, fields: Object) {
        self.seen.lock().expect("no panic").entry(event.to_owned()).or_default().push(fields);
        self.grew.notify_all();
    }

    /// Writes down a message and who got it: `handler`, `stream`.
    pub(crate) fn message(&self, to: &str, message: &Message) {
        let mut fields = message_fields(message);
        fields.insert("to".to_owned(), Value::from(to));
        if to == "handler" {
            self.handled.lock().expect("no panic").push(message.clone());
        }
        self.add("message", fields);
    }

    /// The message that a handler got last.
    pub(crate) fn last_handled(&self) -> Option<Message> {
        self.handled.lock().expect("no panic").last().cloned()
    }

    /// The message that a handler got as number `index`, counted from 0.
    pub(crate) fn handled(&self, index: usize) -> Option<Message> {
        self.handled.lock().expect("no panic").get(index).cloned()
    }

    /// Waits until as much was seen as is recorded up to the end of a call; less is no error yet.
    pub(crate) fn catch_up(&self, recorded: &[Observed], call: usize) {
        let deadline = Instant::now() + PATIENCE;
        let due = |event: &str| recorded.iter().filter(|o| o.call <= call && o.event == event).count();
        let mut seen = self.seen.lock().expect("no panic");
        while recorded.iter().any(|o| seen.get(&o.event).map_or(0, Vec::len) < due(&o.event)) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            seen = self.grew.wait_timeout(seen, left).expect("no panic").0;
        }
    }

    /// Compares with what was recorded: kind by kind, since kinds come on threads of their own.
    pub(crate) fn compare(&self, recorded: &[Observed], ids: &Renaming) -> std::result::Result<(), String> {
        let mut expected: BTreeMap<&str, Vec<Object>> = BTreeMap::new();
        for observed in recorded {
            expected.entry(&observed.event).or_default().push(renamed(observed, ids)?);
        }
        let seen = self.seen.lock().expect("no panic");
        for event in seen.keys().map(String::as_str).chain(expected.keys().copied()) {
            let (ours, theirs) = (seen.get(event), expected.get(event));
            let list = |list: Option<&Vec<Object>>| list.cloned().unwrap_or_default();
            // Errors are worded as one likes.
            let alike = match event {
                "exception_listener" => list(ours).len() == list(theirs).len(),
                _ => list(ours) == list(theirs),
            };
            if !alike {
                return Err(format!(
                    "`{event}` differs\n    recorded {}\n    seen     {}",
                    Value::from(list(theirs)),
                    Value::from(list(ours))
                ));
            }
        }
        Ok(())
    }
}

/// A recorded observation with our ids and sequences, and with the data as one kind of text.
fn renamed(observed: &Observed, ids: &Renaming) -> std::result::Result<Object, String> {
    match observed.event.as_str() {
        "exception_listener" => Ok(observed.fields.clone()),
        "failed_write" => {
            let mut fields = observed.fields.clone();
            let mut message = fields["message"].as_object().cloned().unwrap_or_default();
            // What was asked for is no part of what was to be written; an empty message is one to be published.
            message.remove("ack_type");
            message.entry("command").or_insert("publish".into());
            fields.insert("message".to_owned(), Value::from(renamed_message(message, ids)?));
            Ok(fields)
        }
        _ => renamed_message(observed.fields.clone(), ids),
    }
}

fn renamed_message(mut fields: Object, ids: &Renaming) -> std::result::Result<Object, String> {
    for (key, value) in &mut fields {
        let text = value.as_str().unwrap_or_default();
        *value = match key.as_str() {
            "command_id" | "sub_id" | "sub_ids" | "query_id" => Value::from(ids.rename(text)),
            "sequence" => Value::from(text.parse().map_or(text.to_owned(), |s| ids.shift(s).to_string())),
            // A command that this version does not know has no name.
            "command" => Value::from(CommandType::of(text).name()),
            _ => continue,
        };
    }
    let data = payload(&Value::from(fields.clone()), "data", "data_base64")?;
    fields.remove("data_base64");
    fields.remove("data");
    insert_data(&mut fields, &data);
    Ok(fields)
}

/// What a message shows to the application, under the recorded names.
pub(crate) fn message_fields(message: &Message) -> Object {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let text = |text: Option<&str>| text.map(str::to_owned);
    let is_ack = message.command() == CommandType::Ack;
    let all = [
        ("command", Some(message.command().name().to_owned())),
        ("command_id", text(message.command_id())),
        ("sub_id", text(message.sub_id())),
        ("sub_ids", text(message.sub_ids())),
        ("query_id", text(message.query_id())),
        ("topic", text(message.topic())),
        ("sow_key", text(message.sow_key())),
        ("timestamp", text(message.timestamp())),
        ("correlation_id", text(message.correlation_id())),
        ("bookmark", text(message.bookmark())),
        ("lease_period", text(message.lease_period())),
        ("reason", text(message.reason())),
        ("ack_type", is_ack.then(|| message.ack_type().to_string())),
        ("status", is_ack.then(|| format!("{:?}", message.status()).to_lowercase())),
        ("sequence", number(message.sequence())),
        ("batch_size", number(message.batch_size())),
        ("message_size", number(message.message_length())),
        ("matches", number(message.matches())),
        ("topic_matches", number(message.topic_matches())),
        ("records_deleted", number(message.records_deleted())),
        ("records_returned", number(message.records_returned())),
    ];
    let mut fields = fields(all.into_iter().filter_map(|(key, value)| Some((key, value?))));
    insert_data(&mut fields, message.data());
    fields
}

fn insert_data(fields: &mut Object, data: &[u8]) {
    if !data.is_empty() {
        fields.insert("data".to_owned(), Value::from(data.escape_ascii().to_string()));
    }
}

fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>) -> Object {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

/// Writes down what a subscription, a query or a command gets.
pub(crate) struct Recorder {
    pub(crate) log: Arc<Log>,
    /// Every message fails in the handler.
    pub(crate) raises: bool,
    /// An acknowledgement that only this test asked for, because the recorded client asks for it on its own account.
    pub(crate) ignores: amps_client::AckType,
}

impl MessageHandler for Recorder {
    fn on_message(&mut self, message: &Message) -> std::result::Result<(), HandlerError> {
        if message.command() == CommandType::Ack && self.ignores.intersects(message.ack_type()) {
            return Ok(());
        }
        self.log.message("handler", message);
        if self.raises { Err("the handler raises".into()) } else { Ok(()) }
    }
}

/// Gives the passwords of a script, such as `authenticate->a, retry->b`, and writes down what it is asked.
pub(crate) struct Script {
    pub(crate) log: Arc<Log>,
    pub(crate) text: String,
}

impl Script {
    fn answer(&self, event: &str, step: &str, user: &str, password: &str) -> Result<String> {
        self.log.add(event, fields([("user", user.to_owned()), ("password", password.to_owned())]));
        let steps = self.text.split(", ").filter_map(|step| step.split_once("->"));
        let answer = steps.into_iter().find(|(known, _)| *known == step).map(|(_, answer)| answer.to_owned());
        answer.ok_or_else(|| Error::from(ErrorKind::Authentication))
    }
}

impl Authenticator for Script {
    fn authenticate(&self, user: &str, password: &str) -> Result<String> {
        self.answer("authenticate", "authenticate", user, password)
    }

    fn retry(&self, user: &str, password: &str) -> Result<String> {
        self.answer("authenticator_retry", "retry", user, password)
    }

    fn completed(&self, user: &str, password: &str, reason: &str) -> Result<()> {
        let seen = [("user", user), ("password", password), ("reason", reason)];
        self.log.add("authenticator_completed", fields(seen.map(|(key, value)| (key, value.to_owned()))));
        Ok(())
    }
}
