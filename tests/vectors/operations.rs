//! Performs the recorded calls with the operations of this library.
//!
//! What a line needs and [`OPERATIONS`] does not have makes the line skipped; a new operation is a new entry there.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use amps_client::{
    AckOption, AckType, Client, Command, CommandType, DisconnectHandler, Error, ErrorKind, HandlerError,
    Logon, MessageStream, PublishOptions, Result,
};
use serde_json::Value;

use crate::clients::{Actor, Plan};
use crate::model::{Call, Scenario, payload};
use crate::observation::{Log, Recorder, Script, message_fields};
use crate::player::PATIENCE;
use crate::stores::Stores;

/// An operation of the recorded lines: its name, the arguments that are understood, and what it does here.
struct Operation {
    name: &'static str,
    args: &'static [&'static str],
    perform: fn(&mut Application, &Call) -> Done,
}

/// What a call returned, if that is recorded.
pub(crate) type Done = Result<Option<Value>>;

macro_rules! operations {
    ($($name:literal [$($arg:literal),*] $perform:expr;)+) => {
        const OPERATIONS: &[Operation] =
            &[$(Operation { name: $name, args: &[$($arg),*], perform: $perform },)+];
    };
}

operations! {
    "new_client" ["kind", "name", "publish_store", "bookmark_store"] Application::new_client;
    "set_server_list" ["uris"] Application::set_server_list;
    "set_logon_options" ["options"] |app, call| {
        app.plan.logon_options = call.arg("options").to_owned();
        Ok(None)
    };
    "connect" ["uri"] Application::connect;
    "connect_and_logon" [] Application::connect_and_logon;
    "logon" ["timeout_ms", "options", "authenticator"] Application::logon;
    "close" [] |app, _| Ok(app.close());
    "disconnect" [] |app, _| Ok(app.close());
    "publish" ["topic", "data", "data_base64", "expiration", "correlation_id", "sow_key"] Application::publish;
    "delta_publish" ["topic", "data", "expiration"] Application::publish;
    "subscribe" ["topic", "filter", "options", "sub_id", "timeout_ms", "delivery"] Application::subscribe;
    "delta_subscribe" ["topic", "filter", "options", "sub_id", "delivery"] Application::subscribe;
    "bookmark_subscribe" ["topic", "bookmark", "filter", "options", "sub_id", "delivery"] Application::subscribe;
    "sow" ["topic", "filter", "batch_size", "top_n", "order_by", "bookmark", "options", "delivery"]
        Application::query;
    "sow_and_subscribe" ["topic", "filter", "batch_size", "oof_enabled", "delivery"] Application::subscribe;
    "sow_and_delta_subscribe" ["topic", "filter", "oof_enabled", "send_empties", "delivery"] Application::subscribe;
    "sow_delete" ["topic", "filter", "timeout_ms", "delivery"] Application::delete;
    "sow_delete_by_keys" ["topic", "keys", "timeout_ms", "delivery"] Application::delete;
    "sow_delete_by_data" ["topic", "data", "timeout_ms", "delivery"] Application::delete;
    "unsubscribe" ["sub_id"] Application::unsubscribe;
    "execute" ["command", "topic", "filter", "sow_keys", "sub_id", "ack_type", "batch_size", "options"]
        Application::execute;
    "execute_async" ["command", "topic", "data", "filter", "timeout_ms", "expiration", "sow_key", "sow_keys",
        "correlation_id", "sequence", "ack_type", "add_ack_type", "command_id", "sub_id", "options", "bookmark",
        "delivery"] Application::execute_async;
    "flush" ["timeout_ms"] Application::flush;
    "publish_flush" ["timeout_ms", "ack_type"] Application::flush;
    "close_stream" ["of_call"] Application::close_stream;
    "set_heartbeat" ["interval_s", "read_timeout_s"] Application::set_heartbeat;
    "set_disconnect_handler" ["behaviour"] Application::set_disconnect_handler;
    "set_logon_correlation_data" ["data"]
        |app, call| app.client()?.set_logon_correlation_data(call.arg("data")).map(|()| None);
    "set_retry_on_disconnect" ["enabled"] |app, call| {
        let enabled = call.args.get("enabled").and_then(Value::as_bool).unwrap_or_default();
        app.client()?.set_retry_on_disconnect(enabled);
        Ok(None)
    };
    "ack" ["topic", "bookmark", "options"] Application::acknowledge;
    "ack_last_message" [] |app, _| {
        let message = app.log.last_handled().expect("it was delivered");
        let bookmark = message.bookmark().unwrap_or_default();
        app.client()?.ack(message.topic().unwrap_or_default(), bookmark).map(|()| None)
    };
    "message_ack" [] |app, _| app.log.last_handled().expect("it was delivered").ack().map(|()| None);
    "set_auto_ack" ["enabled"] |app, call| {
        let enabled = call.args.get("enabled").and_then(Value::as_bool).unwrap_or_default();
        app.client()?.set_auto_ack(enabled);
        Ok(None)
    };
    "set_ack_batch_size" ["size"] |app, call| {
        let size = call.args.get("size").and_then(Value::as_u64).unwrap_or_default();
        app.client()?.set_ack_batch_size(size as usize);
        Ok(None)
    };
    "get_ack_batch_size" [] |app, _| Ok(Some(app.client()?.ack_batch_size().into()));
    "set_ack_timeout" ["ms"] |app, call| {
        let limit = call.args.get("ms").and_then(Value::as_u64).unwrap_or_default();
        app.client()?.set_ack_timeout(Duration::from_millis(limit)).map(|()| None)
    };
    "get_unpersisted_count" [] |app, call| Ok(app.unpersisted_count(call).map(Value::from));
    "discard" ["message_index"] Application::discard;
    "get_most_recent" ["sub_id"] |app, call| {
        let store = app.plan.bookmark_store.as_ref().ok_or_else(|| Error::from(ErrorKind::Usage))?;
        store.most_recent(call.arg("sub_id")).map(|bookmark| Some(bookmark.as_str().into()))
    };
    "get_server_version" [] |app, _| Ok(Some(app.client()?.server_version().number().into()));
    "get_name_hash" [] |app, _| Ok(Some(app.client()?.name_hash().into()));
    "get_name_hash_value" [] |app, _| Ok(Some(app.client()?.name_hash_value().into()));
    "get_connection_name" [] |app, _| Ok(Some(app.client()?.connection_name().into()));
    // There are no timers: the commands are refused as every unknown verb.
    "start_timer" [] |app, _| app.client()?.execute(Command::new("start_timer")).map(|_| None);
    "stop_timer" [] |app, _| app.client()?.execute(Command::new("stop_timer")).map(|_| None);
    // There is no such setter; the frames must come out the same without it.
    "set_publish_batching" ["size_bytes", "timeout_ms"] |_, _| Ok(None);
    "set_name" ["name"] |_, _| Ok(None);
    // What the environment does is played by the servers.
    "env.server_send" ["server"] |_, _| Ok(None);
    "env.server_send_raw" ["bytes_hex", "split"] |_, _| Ok(None);
    "env.server_drop" ["server"] |_, _| Ok(None);
    "env.server_listen" ["server"] |_, _| Ok(None);
    "env.wait" ["ms"] |_, _| Ok(None);
}

/// Operations that come before the client exists.
const PREPARING: [&str; 3] = ["new_client", "set_server_list", "set_logon_options"];

/// Why a scenario cannot be replayed, if it cannot.
pub(crate) fn missing(scenario: &Scenario) -> Option<String> {
    scenario.calls.iter().find_map(missing_for)
}

fn missing_for(call: &Call) -> Option<String> {
    if call.operation == "new_client" {
        return planned(call, &Stores::new()).err();
    }
    let Some(operation) = OPERATIONS.iter().find(|operation| operation.name == call.operation) else {
        return Some(format!("no operation `{}`", call.operation));
    };
    let unknown = call.args.keys().find(|arg| !operation.args.contains(&arg.as_str()));
    unknown.map(|arg| format!("no argument `{arg}` of `{}`", call.operation))
}

fn planned(call: &Call, stores: &Stores) -> std::result::Result<Plan, String> {
    let arg = |key| call.arg(key);
    Plan::read(stores, arg("name"), arg("kind"), arg("publish_store"), arg("bookmark_store"))
}

/// The application of one scenario.
pub(crate) struct Application {
    plan: Plan,
    client: Option<Actor>,
    stores: Stores,
    log: Arc<Log>,
    /// Failed writes go to a handler of their own.
    failed_writes: bool,
    streams: HashMap<usize, MessageStream>,
    /// Puts the addresses of the servers into a connection string.
    resolve: Box<dyn Fn(&str) -> String + Send>,
    last_uri: String,
}

impl Application {
    pub(crate) fn new(resolve: impl Fn(&str) -> String + Send + 'static, failed_writes: bool) -> Application {
        Application {
            plan: Plan::default(),
            client: None,
            stores: Stores::new(),
            log: Arc::default(),
            failed_writes,
            streams: HashMap::new(),
            resolve: Box::new(resolve),
            last_uri: String::new(),
        }
    }

    /// One that has its client already.
    pub(crate) fn of(client: Client) -> Application {
        Application {
            log: Log::of(&client),
            client: Some(Actor::Plain(client)),
            ..Application::new(str::to_owned, false)
        }
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    pub(crate) fn perform(&mut self, call: &Call) -> Done {
        if self.client.is_none() && !PREPARING.contains(&&*call.operation) {
            self.make_client()?;
        }
        let operation = OPERATIONS.iter().find(|operation| operation.name == call.operation);
        (operation.expect("the scenario is not skipped").perform)(self, call)
    }

    /// Reads from the streams as many messages as are recorded.
    pub(crate) fn pull(&mut self, recorded: usize) {
        let mut left = recorded;
        for stream in self.streams.values_mut() {
            while left > 0 {
                let Some(Ok(message)) = stream.next_timeout(PATIENCE) else { break };
                self.log.message("stream", &message);
                left -= 1;
            }
        }
    }

    /// Reads what nobody recorded.
    pub(crate) fn pull_rest(&mut self) {
        for stream in self.streams.values_mut() {
            while let Some(Ok(message)) = stream.try_next() {
                self.log.message("stream", &message);
            }
        }
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_deref().ok_or_else(|| Error::from(ErrorKind::Usage))
    }

    fn new_client(&mut self, call: &Call) -> Done {
        // What was built before lets go of its stores first.
        self.client = None;
        self.plan = Plan::default();
        self.plan = planned(call, &self.stores).expect("the scenario is not skipped");
        Ok(None)
    }

    fn make_client(&mut self) -> Result<()> {
        let client = self.plan.build()?;
        self.log.listen(&client);
        if self.failed_writes {
            self.log.hear_of_failed_writes(&client);
        }
        self.client = Some(client);
        Ok(())
    }

    fn set_server_list(&mut self, call: &Call) -> Done {
        let uris = call.args.get("uris").and_then(Value::as_array).cloned().unwrap_or_default();
        self.plan.servers = uris.iter().filter_map(Value::as_str).map(|uri| (self.resolve)(uri)).collect();
        Ok(None)
    }

    fn connect_and_logon(&mut self, _: &Call) -> Done {
        match &self.client {
            Some(Actor::Ha(client)) => client.connect_and_logon().map(|()| None),
            _ => Err(Error::from(ErrorKind::Usage)),
        }
    }

    fn connect(&mut self, call: &Call) -> Done {
        self.last_uri = (self.resolve)(call.arg("uri"));
        self.client()?.connect(&self.last_uri).map(|()| None)
    }

    fn logon(&mut self, call: &Call) -> Done {
        let mut logon = Logon::new().options(call.arg("options"));
        if let Some(limit) = limit(call) {
            logon = logon.timeout(limit);
        }
        if call.args.contains_key("authenticator") {
            let text = call.arg("authenticator").to_owned();
            logon = logon.authenticator(Script { log: Arc::clone(&self.log), text });
        }
        self.client()?.logon_with(&logon).map(|()| None)
    }

    fn close(&mut self) -> Option<Value> {
        if let Some(client) = &self.client {
            client.close();
        }
        None
    }

    fn publish(&mut self, call: &Call) -> Done {
        let client = self.client()?;
        let (topic, data) = (call.arg("topic"), data(call));
        let plain =
            ["expiration", "correlation_id", "sow_key"].iter().all(|key| !call.args.contains_key(*key));
        let options = PublishOptions::new()
            .expiration(seconds(call, "expiration").unwrap_or_default())
            .correlation_id(call.arg("correlation_id"))
            .sow_key(call.arg("sow_key"));
        let sequence = match (call.operation.as_str(), plain) {
            ("publish", true) => client.publish(topic, data),
            ("publish", false) => client.publish_with(topic, data, &options),
            (_, true) => client.delta_publish(topic, data),
            (_, false) => client.delta_publish_with(topic, data, &options),
        };
        sequence.map(|sequence| Some(sequence.into()))
    }

    /// Any of the subscribing operations: by its name if it says no more than that, else as a command.
    fn subscribe(&mut self, call: &Call) -> Done {
        let says_more =
            call.args.keys().any(|key| !["topic", "filter", "bookmark", "delivery"].contains(&&**key));
        let verb = call.operation.strip_prefix("bookmark_").unwrap_or(&call.operation);
        if says_more {
            return self.place(call, filled(Command::new(verb), call), AckType::NONE);
        }
        let client = self.client()?.clone();
        let (topic, filter, bookmark) = (call.arg("topic"), call.arg("filter"), call.arg("bookmark"));
        if call.arg("delivery") == "stream" {
            let stream = match call.operation.as_str() {
                "subscribe" => client.subscribe(topic, filter),
                "delta_subscribe" => client.delta_subscribe(topic, filter),
                "bookmark_subscribe" => client.bookmark_subscribe(topic, bookmark, filter),
                "sow_and_subscribe" => client.sow_and_subscribe(topic, filter),
                _ => client.sow_and_delta_subscribe(topic, filter),
            };
            return self.keep(call, stream?);
        }
        let handler = self.recorder(call, AckType::NONE);
        let id = match call.operation.as_str() {
            "subscribe" => client.subscribe_async(topic, filter, handler),
            "delta_subscribe" => client.delta_subscribe_async(topic, filter, handler),
            "bookmark_subscribe" => client.bookmark_subscribe_async(topic, bookmark, filter, handler),
            "sow_and_subscribe" => client.sow_and_subscribe_async(topic, filter, handler),
            _ => client.sow_and_delta_subscribe_async(topic, filter, handler),
        };
        id.map(|id| Some(id.into()))
    }

    /// The named query asks for `completed` on its own account; a command with more to say is told to.
    fn query(&mut self, call: &Call) -> Done {
        let client = self.client()?.clone();
        let (topic, filter, streams) =
            (call.arg("topic"), call.arg("filter"), call.arg("delivery") == "stream");
        match call.args.keys().any(|key| !["topic", "filter", "delivery"].contains(&&**key)) {
            true if streams => self.place(call, filled(Command::sow(""), call), AckType::NONE),
            true => {
                let command = filled(Command::sow(""), call).add_ack_type(AckType::COMPLETED);
                self.place(call, command, AckType::COMPLETED)
            }
            false if streams => self.keep(call, client.sow(topic, filter)?),
            false => {
                let handler = self.recorder(call, AckType::NONE);
                client.sow_async(topic, filter, handler).map(|id| Some(id.into()))
            }
        }
    }

    fn delete(&mut self, call: &Call) -> Done {
        let client = self.client()?;
        let topic = call.arg("topic");
        let by = call.operation.strip_prefix("sow_delete").unwrap_or_default();
        if call.args.contains_key("delivery") {
            let command = Command::sow_delete(topic).filter(call.arg("filter")).sow_keys(call.arg("keys"));
            let handler = self.recorder(call, AckType::NONE);
            return client.sow_delete_async(command.data(data(call)), handler).map(|id| Some(id.into()));
        }
        let counts = match by {
            "" => client.sow_delete(topic, call.arg("filter")),
            "_by_keys" => client.sow_delete_by_keys(topic, call.arg("keys")),
            _ => client.sow_delete_by_data(topic, data(call)),
        };
        self.log.add("result", message_fields(&counts?));
        Ok(None)
    }

    fn unsubscribe(&mut self, call: &Call) -> Done {
        let client = self.client()?;
        match call.arg("sub_id") {
            "" => client.unsubscribe_all()?,
            id => client.unsubscribe(id)?,
        }
        Ok(None)
    }

    fn execute(&mut self, call: &Call) -> Done {
        let stream = self.client()?.execute(command(call))?;
        self.keep(call, stream)
    }

    fn execute_async(&mut self, call: &Call) -> Done {
        let command = command(call);
        if call.arg("delivery") != "none" {
            return self.place(call, command, AckType::NONE);
        }
        let client = self.client()?;
        match command.command_type() {
            CommandType::Publish | CommandType::DeltaPublish => client.publish_command(command).map(|_| None),
            _ => {
                let id = client.execute(command)?.command_id().to_owned();
                Ok(Some(id).filter(|id| !id.is_empty()).map(Value::from))
            }
        }
    }

    fn flush(&mut self, call: &Call) -> Done {
        let ack = match call.arg("ack_type") {
            "" => AckType::PROCESSED,
            text => AckType::of(text),
        };
        self.client()?.publish_flush_with(ack, limit(call)).map(|()| None)
    }

    /// Is finished with a message that a handler got.
    fn acknowledge(&mut self, call: &Call) -> Done {
        let client = self.client()?;
        let (topic, bookmark) = (call.arg("topic"), call.arg("bookmark"));
        let done = match call.arg("options") {
            "cancel" => client.ack_with(topic, bookmark, AckOption::Cancel),
            "expire" => client.ack_with(topic, bookmark, AckOption::Expire),
            _ => client.ack(topic, bookmark),
        };
        done.map(|()| None)
    }

    fn discard(&mut self, call: &Call) -> Done {
        let index = call.args.get("message_index").and_then(Value::as_u64).unwrap_or_default();
        let message = self.log.handled(index as usize).expect("it was delivered");
        self.client()?.discard(&message).map(|()| None)
    }

    fn close_stream(&mut self, call: &Call) -> Done {
        let of_call = call.args.get("of_call").and_then(Value::as_u64).unwrap_or_default();
        self.streams.remove(&(of_call as usize)).expect("a stream of that call").close();
        Ok(None)
    }

    fn set_heartbeat(&mut self, call: &Call) -> Done {
        let client = self.client()?;
        let interval = seconds(call, "interval_s").unwrap_or_default();
        match seconds(call, "read_timeout_s") {
            Some(timeout) => client.set_heartbeat_timeout(interval, timeout)?,
            None => client.set_heartbeat(interval)?,
        }
        Ok(None)
    }

    fn set_disconnect_handler(&mut self, call: &Call) -> Done {
        let steps = call.arg("behaviour").split(", ").map(str::to_owned).collect();
        let handler = Repair { steps, uri: self.last_uri.clone(), log: Arc::clone(&self.log) };
        self.client()?.set_disconnect_handler(handler)?;
        Ok(None)
    }

    /// What is left in the store; an acknowledgement that was just sent may take its time to get there.
    fn unpersisted_count(&self, call: &Call) -> Option<usize> {
        let store = self.plan.publish_store.as_ref()?;
        let recorded = call.returns.as_ref().and_then(Value::as_u64);
        let deadline = Instant::now() + PATIENCE;
        while Some(store.unpersisted_count() as u64) != recorded && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(100));
        }
        Some(store.unpersisted_count())
    }

    /// Places a command with the recorded kind of delivery.
    fn place(&mut self, call: &Call, command: Command, ignores: AckType) -> Done {
        let client = self.client()?;
        if call.arg("delivery") == "stream" {
            let stream = client.execute(command)?;
            return self.keep(call, stream);
        }
        client.execute_async(command, self.recorder(call, ignores)).map(|id| Some(id.into()))
    }

    /// A dropped stream would unsubscribe.
    fn keep(&mut self, call: &Call, stream: MessageStream) -> Done {
        self.streams.insert(call.number, stream);
        Ok(None)
    }

    fn recorder(&self, call: &Call, ignores: AckType) -> Recorder {
        Recorder {
            log: Arc::clone(&self.log),
            raises: call.arg("delivery") == "handler that raises",
            ignores,
        }
    }
}

/// Repairs a lost connection in the recorded steps.
struct Repair {
    steps: Vec<String>,
    uri: String,
    log: Arc<Log>,
}

impl DisconnectHandler for Repair {
    fn on_disconnect(&self, client: &Client, _cause: &Error) -> std::result::Result<(), HandlerError> {
        self.log.add("disconnect_handler", Default::default());
        for step in &self.steps {
            match step.as_str() {
                "connect" => client.connect(&self.uri)?,
                "logon" => client.logon()?,
                other => return Err(format!("an unknown step `{other}`").into()),
            }
        }
        Ok(())
    }
}

/// The command of the command interface.
fn command(call: &Call) -> Command {
    filled(Command::new(call.arg("command")), call)
}

/// Puts every recorded argument into a command.
fn filled(mut command: Command, call: &Call) -> Command {
    for (key, value) in &call.args {
        let text = value.as_str().unwrap_or_default();
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        command = match (key.as_str(), number) {
            ("topic", _) => command.topic(text),
            ("filter", _) => command.filter(text),
            ("bookmark", _) => command.bookmark(text),
            ("order_by", _) => command.order_by(text),
            ("sow_key", _) => command.sow_key(text),
            ("sow_keys", _) => command.sow_keys(text),
            ("correlation_id", _) => command.correlation_id(text),
            ("command_id", _) => command.command_id(text),
            ("sub_id", _) => command.sub_id(text),
            ("data", _) => command.data(text),
            ("ack_type", _) => command.ack_type(AckType::of(text)),
            ("add_ack_type", _) => command.add_ack_type(AckType::of(text)),
            ("options", _) => command.options(text),
            ("top_n", Some(number)) => command.top_n(number),
            ("batch_size", Some(number)) => command.batch_size(number),
            ("expiration", Some(number)) => command.expiration(Duration::from_secs(number.into())),
            ("sequence", Some(number)) => command.sequence(number.into()),
            ("timeout_ms", Some(number)) => command.timeout(Duration::from_millis(number.into())),
            _ => command,
        };
    }
    let flag = |key: &str, default| call.args.get(key).and_then(Value::as_bool).unwrap_or(default);
    let mut options = vec![command.options_text().unwrap_or_default().to_owned()];
    if flag("oof_enabled", false) {
        options.push("oof".to_owned());
    }
    if call.operation == "sow_and_delta_subscribe" && !flag("send_empties", false) {
        options.push("no_empties".to_owned());
    }
    options.retain(|option| !option.is_empty());
    command.options(options.join(","))
}

fn data(call: &Call) -> Vec<u8> {
    payload(&Value::from(call.args.clone()), "data", "data_base64").expect("base64")
}

fn limit(call: &Call) -> Option<Duration> {
    call.args.get("timeout_ms").and_then(Value::as_u64).map(Duration::from_millis)
}

fn seconds(call: &Call, key: &str) -> Option<Duration> {
    call.args.get(key).and_then(Value::as_u64).map(Duration::from_secs)
}
