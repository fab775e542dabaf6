//! Placing a command: ids, routes, the frame, and the wait for its answer.

use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::link::Outgoing;
use super::recovery::reviving;
use super::reply::Reply;
use super::routes::{Route, RouteKind};
use super::sinks::Sink;
use crate::callbacks::Origin;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::text;
use crate::wire::{AckType, CommandType, Status};

/// A command that was accepted.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) command: Command,
    /// The acknowledgement that was waited for, if any.
    pub(crate) reply: Option<Message>,
}

/// A command on its way to being accepted.
struct Placement<'a> {
    core: &'a Core,
    command: Command,
    /// What is asked for: the user's wishes and the library's needs.
    acks: AckType,
    /// What is waited for.
    awaited: AckType,
    deadline: Option<Instant>,
    /// The routes entered for this command.
    entered: Vec<String>,
}

/// What the library itself wants of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// To be told when a query is complete, in case the group markers do not come.
    end_of_query: bool,
    /// The counters of a delete, which the caller waits for.
    counters: bool,
}

impl Wanted {
    pub(crate) fn with_end_of_query(self) -> Wanted {
        Wanted { end_of_query: true, ..self }
    }

    pub(crate) fn with_counters(self) -> Wanted {
        Wanted { counters: true, ..self }
    }

    /// The acknowledgements asked for besides the user's (M-5), and the one that is waited for.
    fn acks(self, command: &Command, has_sink: bool) -> (AckType, AckType) {
        let kind = command.command_type();
        let brings_data = kind.is_subscribe() || kind.is_query();
        let deletes = kind == CommandType::SowDelete && command.bookmark_text().is_none();
        // A server answers a filter on a publish only if it is asked.
        let filters = kind.needs_sequence() && !deletes && command.filter_text().is_some();
        let mut library = AckType::NONE;
        if brings_data || deletes || filters || has_sink {
            library |= AckType::PROCESSED;
        }
        if self.end_of_query && kind.is_sow() {
            library |= AckType::COMPLETED;
        }
        if self.counters {
            return (library | AckType::STATS, AckType::STATS);
        }
        let awaited = match kind {
            CommandType::Flush if !has_sink => AckType::PROCESSED | AckType::PERSISTED | AckType::COMPLETED,
            _ => AckType::PROCESSED,
        };
        (library, awaited)
    }
}

/// Sends a command and waits for its answer, if it asks for one; what it brings goes to `sink`.
///
/// If the command fails it leaves nothing behind (M-6).
pub(crate) fn place(core: &Core, command: Command, sink: Option<Sink>, wanted: Wanted) -> Result<Placed> {
    command.check_verb()?;
    let (library, awaited) = wanted.acks(&command, sink.is_some());
    let acks = command.ack_type_value() | library;
    let waits = acks.intersects(awaited);
    if waits {
        core.refuse_to_hang(command.command_type().name())?;
    }
    check_replace(&command)?;
    let deadline = command.timeout_value().and_then(|limit| Instant::now().checked_add(limit));
    let awaited = if waits { awaited } else { AckType::NONE };
    let mut placement = Placement { core, command, acks, awaited, deadline, entered: Vec::new() };
    // The waiter first: its command counts as not sent yet, which keeps the routes through a loss.
    let reply = placement.register(sink.is_some())?;
    let entered = sink.map_or(Ok(()), |sink| placement.enter_routes(&sink, library));
    if entered.is_err() && waits {
        core.acks.lock().cancel(&id_of(&placement.command));
    }
    match entered.and_then(|()| placement.send(reply)) {
        Ok(reply) => Ok(Placed { command: placement.command, reply }),
        Err(error) => {
            placement.undo(&error);
            Err(error)
        }
    }
}

/// Sends a frame as it is and waits for nothing.
pub(crate) fn send_only(core: &Core, command: &Command) -> Result<()> {
    command.check_verb()?;
    let deadline = command.timeout_value().and_then(|limit| Instant::now().checked_add(limit));
    let encode = |buffer: &mut Vec<u8>| command.encode(command.ack_type_value(), buffer);
    reviving(core, || core.link.publish(|| core.sender(deadline), encode))
        .map_err(|refusal| core.refusal(refusal, command.command_type().name()))
}

fn check_replace(command: &Command) -> Result<()> {
    let replaces = text::has(command.options_text().unwrap_or_default(), "replace");
    if replaces && command.is_subscribe() && !command.has_own_sub_id() {
        return Err(Error::new(
            ErrorKind::Usage,
            "the option `replace` needs the id of the subscription to replace",
        ));
    }
    Ok(())
}

impl Placement<'_> {
    /// Gives the command an id if it needs one and has none, or if its generated one is taken (M-2); enters who waits
    /// for its answer, if anybody does.
    fn register(&mut self, has_sink: bool) -> Result<Option<Arc<Reply>>> {
        let waits = !self.awaited.is_empty();
        if self.command.command_id_text().is_none() && (has_sink || waits) {
            self.command.renew_id();
        }
        let reply = Arc::new(Reply::default());
        loop {
            let id = id_of(&self.command);
            let free = !waits || self.core.acks.lock().register(&id, self.awaited, Arc::clone(&reply));
            if !self.command.has_generated_id() {
                return if free { Ok(waits.then_some(reply)) } else { Err(id_in_use("command", &id)) };
            }
            if free && !self.core.routes.contains(&id) {
                return Ok(waits.then_some(reply));
            }
            if free && waits {
                self.core.acks.lock().cancel(&id);
            }
            self.command.renew_id();
        }
    }

    /// Registers where results go, before anything is sent (M-1).
    fn enter_routes(&mut self, sink: &Sink, library: AckType) -> Result<()> {
        let command = &self.command;
        let kind = match command.command_type() {
            kind if kind.is_subscribe() => RouteKind::Subscription,
            kind if kind.is_query() => RouteKind::Query,
            _ => RouteKind::Command,
        };
        let user = command.ack_type_value();
        let ends_with = match kind {
            RouteKind::Subscription => AckType::NONE,
            RouteKind::Query => last_of_query(user | library),
            RouteKind::Command => self.acks.highest(),
        };
        let mut ids: Vec<&str> = Vec::new();
        if kind != RouteKind::Command {
            ids.extend(command.sub_id_text().filter(|_| kind == RouteKind::Subscription));
            ids.extend(command.query_id_text());
        }
        let wants_acks = !user.without(AckType::PERSISTED).is_empty() || kind == RouteKind::Command;
        ids.extend(command.command_id_text().filter(|_| wants_acks));
        for id in ids {
            let route = Route {
                sink: sink.clone(),
                kind,
                command: id_of(command),
                query: command.query_id_text().unwrap_or_default().to_owned(),
                acks: user,
                library,
                ends_with,
                is_done: false,
            };
            if self.entered.iter().any(|entered| entered == id) {
                continue;
            }
            match self.core.routes.insert(id, route) {
                Ok(()) => self.entered.push(id.to_owned()),
                // A query under the id of a live subscription brings its result there (M-3).
                Err(RouteKind::Query) => return Err(id_in_use("query", id)),
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn send(&self, reply: Option<Arc<Reply>>) -> Result<Option<Message>> {
        let Some(reply) = reply else {
            return self.send_unanswered().map(|()| None);
        };
        let id = id_of(&self.command);
        let mut frame = Frame { core: self.core, command: &self.command, acks: self.acks, id: &id };
        let sent = reviving(self.core, || self.core.link.send(&self.core.sender(self.deadline), &mut frame));
        if let Err(refusal) = sent {
            self.core.acks.lock().cancel(&id);
            return Err(self.core.refusal(refusal, self.command.command_type().name()));
        }
        let answer = reply.wait(self.deadline).or_else(|| {
            self.core.acks.lock().cancel(&id);
            // It may have come just now.
            reply.wait(Some(Instant::now()))
        });
        match answer {
            Some(answer) => self.judge(answer?).map(Some),
            None => Err(self.timed_out()),
        }
    }

    fn send_unanswered(&self) -> Result<()> {
        let Placement { core, command, acks, deadline, .. } = self;
        let encode = |buffer: &mut Vec<u8>| command.encode(*acks, buffer);
        reviving(core, || core.link.publish(|| core.sender(*deadline), encode))
            .map_err(|refusal| core.refusal(refusal, command.command_type().name()))
    }

    /// Only success is success (E-6).
    fn judge(&self, ack: Message) -> Result<Message> {
        if ack.status() == Status::Success {
            return Ok(ack);
        }
        let user = self.core.session.lock().user.clone();
        let refused = self.command.refused(&self.core.config.name, &user);
        Err(refused.error(ack.reason().unwrap_or_default()))
    }

    fn timed_out(&self) -> Error {
        let command = &self.command;
        let limit = command.timeout_value().unwrap_or_default();
        let text = format!(
            "no `{}` acknowledgement of {} on topic `{}` came within {limit:?}",
            self.awaited,
            command.command_type(),
            command.topic_text().unwrap_or_default()
        );
        Error::new(ErrorKind::TimedOut, text)
            .with_command_id(command.command_id_text().unwrap_or_default())
            .with_sub_id(command.sub_id_text().unwrap_or_default())
            .with_topic(command.topic_text().unwrap_or_default())
    }

    /// Leaves nothing behind. What timed out may still be accepted by the server, so it is taken back (M-22).
    fn undo(&self, error: &Error) {
        let command = id_of(&self.command);
        for id in &self.entered {
            drop(self.core.routes.remove_own(id, &command));
        }
        if error.kind() == ErrorKind::TimedOut {
            take_back(self.core, &self.command);
        }
    }
}

/// Ends what a timed-out command may still start; a failure is only reported.
fn take_back(core: &Core, command: &Command) {
    let kind = command.command_type();
    let undo = if kind.is_subscribe() {
        Command::unsubscribe(command.sub_id_text().unwrap_or_default())
    } else if kind.is_query() {
        Command::new("unsubscribe").query_id(command.query_id_text().unwrap_or_default())
    } else {
        return;
    };
    if let Err(error) = unanswered(core, undo) {
        core.report(error, Origin::Unsubscribe);
    }
}

/// Sends a command that has an id and asks for nothing; never waits for an outage to end.
pub(crate) fn unanswered(core: &Core, mut command: Command) -> Result<()> {
    command.renew_id();
    let sender = || super::link::Sender { patient: false, ..core.sender(None) };
    core.link.publish(sender, |buffer| command.encode(AckType::NONE, buffer)).map_err(|refusal| {
        match core.refusal(refusal, command.command_type().name()) {
            error if error.kind() == ErrorKind::RetryOperation => ErrorKind::Disconnected.into(),
            error => error,
        }
    })
}

fn id_of(command: &Command) -> String {
    command.command_id_text().unwrap_or_default().to_owned()
}

fn id_in_use(what: &str, id: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("the {what} id `{id}` is in use by a command that is under way"))
}

/// What a query's route waits for besides its `group_end`.
fn last_of_query(acks: AckType) -> AckType {
    if acks.contains(AckType::STATS) {
        AckType::STATS
    } else if acks.contains(AckType::COMPLETED) {
        AckType::COMPLETED
    } else {
        AckType::NONE
    }
}

/// The frame of a command whose answer is awaited.
struct Frame<'a> {
    core: &'a Core,
    command: &'a Command,
    acks: AckType,
    id: &'a str,
}

impl Outgoing for Frame<'_> {
    fn encode(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        self.command.encode(self.acks, buffer)
    }

    fn queued(&mut self, version: u64) {
        self.core.acks.lock().queued(self.id, version);
    }

    fn reclaim(&mut self) -> bool {
        self.core.acks.lock().reclaim(self.id)
    }
}
