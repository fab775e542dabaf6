//! Placing a command: ids, routes, the frame, and the wait for its answer.

use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::link::{Outgoing, Patience, Sender};
use super::publishing;
use super::recovery::reviving;
use super::replays;
use super::reply::Reply;
use super::routes::{OnLoss, Route, RouteKind};
use super::sinks::Sink;
use super::subscription_manager::{SharedHandler, SubscriptionManager};
use crate::callbacks::Origin;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::text;
use crate::store::PublishStore;
use crate::wire::{AckType, CommandType, Status};

/// A command that was accepted.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) command: Command,
    /// The acknowledgement that was waited for, if any.
    pub(crate) reply: Option<Message>,
    /// The number that the publish store gave it; 0 without one.
    pub(crate) sequence: u64,
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
    /// Who remembers the subscription.
    manager: Option<&'a dyn SubscriptionManager>,
    /// Its route outlives the connection.
    lasting: bool,
    /// The number that the publish store gave it.
    sequence: u64,
}

/// What the library itself wants of a command.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// To be told when a query is complete, in case the group markers do not come.
    end_of_query: bool,
    /// The counters of a delete, which the caller waits for.
    counters: bool,
    /// A subscription is to be placed again after a reconnect, if somebody remembers subscriptions.
    managed: bool,
    /// It is placed by whoever remembers it.
    remembered: bool,
}

impl Wanted {
    pub(crate) fn with_end_of_query(self) -> Wanted {
        Wanted { end_of_query: true, ..self }
    }

    pub(crate) fn with_counters(self) -> Wanted {
        Wanted { counters: true, ..self }
    }

    pub(crate) fn managed(self, managed: bool) -> Wanted {
        Wanted { managed, ..self }
    }

    /// The acknowledgements asked for besides the user's (M-5), and the one that is waited for.
    fn acks(self, core: &Core, command: &Command, has_sink: bool) -> (AckType, AckType) {
        let kind = command.command_type();
        let brings_data = kind.is_subscribe() || kind.is_query();
        let deletes = kind == CommandType::SowDelete && command.bookmark_text().is_none();
        // A server answers a filter on a publish only if it is asked.
        let filters = kind.needs_sequence() && !deletes && command.filter_text().is_some();
        let mut library = AckType::NONE;
        if brings_data || deletes || filters || has_sink {
            library |= AckType::PROCESSED;
        }
        if kind.is_subscribe() && command.bookmark_text().is_some() && core.config.bookmark_store.is_some() {
            library |= AckType::PERSISTED;
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
    let (library, awaited) = wanted.acks(core, &command, sink.is_some());
    let acks = command.ack_type_value() | library;
    let waits = acks.intersects(awaited);
    if waits {
        core.refuse_to_hang(command.command_type().name())?;
    }
    check_replace(&command)?;
    let deadline = command.timeout_value().and_then(|limit| Instant::now().checked_add(limit));
    let awaited = if waits { awaited } else { AckType::NONE };
    let manager =
        core.config.subscription_manager.as_deref().filter(|_| wanted.managed && command.is_subscribe());
    let lasting = manager.is_some() || wanted.remembered;
    let mut placement = Placement {
        core,
        command,
        acks,
        awaited,
        deadline,
        entered: Vec::new(),
        manager,
        lasting,
        sequence: 0,
    };
    if placement.command.command_type() == CommandType::Unsubscribe {
        core.end_subscriptions(placement.command.sub_id_text().unwrap_or_default());
    }
    // The waiter first: its command counts as not sent yet, which keeps the routes through a loss.
    let reply = placement.register(sink.is_some())?;
    let entered = placement.start_replay(wanted);
    let entered =
        entered.and_then(|()| sink.as_ref().map_or(Ok(()), |sink| placement.enter_routes(sink, library)));
    if entered.is_err() && waits {
        core.acks.lock().cancel(&id_of(&placement.command));
    }
    match entered.and_then(|()| placement.carry_out(reply, sink)) {
        Ok(reply) => {
            if let Some(reply) = &reply {
                replays::accepted(core, &placement.command);
                if placement.command.is_subscribe() {
                    core.cap_acks(reply);
                }
            }
            Ok(Placed { command: placement.command, reply, sequence: placement.sequence })
        }
        Err(error) => {
            placement.undo(&error);
            Err(error)
        }
    }
}

/// Places a stored subscription over a new connection, for whoever remembers it: under a new command id, with the
/// subscription and query ids it has.
pub(crate) fn place_again(
    core: &Core,
    sink: Option<Sink>,
    mut command: Command,
    acks: AckType,
) -> Result<()> {
    command.renew_id();
    let wanted = Wanted { remembered: true, ..Wanted::default() };
    let queue = match &sink {
        Some(Sink::Stream(queue)) => Some(Arc::clone(queue)),
        _ => None,
    };
    if let Some(queue) = &queue {
        queue.moves_on();
    }
    let placed = place(core, command.ack_type(acks), sink, wanted);
    if let Some(queue) = queue {
        queue.moved(placed.is_ok());
    }
    placed.map(drop)
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

    /// A bookmark subscription of the application begins, unless whoever remembers it has said where it goes on.
    fn start_replay(&mut self, wanted: Wanted) -> Result<()> {
        if wanted.remembered || !self.command.is_subscribe() {
            return Ok(());
        }
        replays::begin(self.core, &mut self.command, self.manager.is_some())
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
        let [lasts, moves_on] = match self.lasting {
            true => [OnLoss::Stays, OnLoss::MovesOn],
            false => [OnLoss::Ends, OnLoss::Ends],
        };
        let mut ids: Vec<(&str, OnLoss)> = Vec::new();
        if kind == RouteKind::Subscription {
            // Several may be paused or resumed together.
            let listed = text::ids(command.sub_id_text().unwrap_or_default());
            ids.extend(listed.map(|id| (id, lasts)));
        }
        if kind != RouteKind::Command {
            ids.extend(command.query_id_text().map(|id| (id, lasts)));
        }
        let wants_acks = !user.without(AckType::PERSISTED).is_empty() || kind == RouteKind::Command;
        ids.extend(command.command_id_text().filter(|_| wants_acks).map(|id| (id, moves_on)));
        for (id, on_loss) in ids {
            let route = Route {
                sink: sink.clone(),
                kind,
                on_loss,
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

    /// Sends the command, by way of the publish store or the subscription manager if it concerns them.
    fn carry_out(&mut self, reply: Option<Arc<Reply>>, sink: Option<Sink>) -> Result<Option<Message>> {
        let store = self.core.config.publish_store.as_deref();
        match (store.filter(|_| self.command.needs_sequence()), self.manager, sink) {
            (Some(store), ..) => self.send_stored(store, reply),
            (None, Some(manager), Some(sink)) => self.send_managed(manager, reply, sink),
            _ => self.send(reply, None),
        }
    }

    fn send(&self, reply: Option<Arc<Reply>>, recoveries: Option<u64>) -> Result<Option<Message>> {
        let Some(reply) = reply else {
            return self.send_unanswered().map(|()| None);
        };
        let id = id_of(&self.command);
        let mut frame =
            Frame { core: self.core, command: &self.command, acks: self.acks, id: &id, recoveries };
        let sender = || {
            let sender = self.core.sender(self.deadline);
            // A subscription that is remembered is carried over, whoever waits; during a recovery nobody could tell whether
            // it is.
            let keeps = recoveries.is_some() && sender.patience == Patience::None;
            if keeps { Sender { patience: Patience::Logon, ..sender } } else { sender }
        };
        let sent = reviving(self.core, || self.core.link.send(&sender(), &mut frame));
        if let Err(refusal) = sent {
            self.core.acks.lock().cancel(&id);
            return Err(self.core.refusal(refusal, self.command.command_type().name()));
        }
        self.wait_for(&reply).map(Some)
    }

    fn wait_for(&self, reply: &Reply) -> Result<Message> {
        let answer = reply.wait(self.deadline).or_else(|| {
            self.core.acks.lock().cancel(&id_of(&self.command));
            // It may have come just now.
            reply.wait(Some(Instant::now()))
        });
        match answer {
            Some(answer) => self.judge(answer?),
            None => Err(self.timed_out()),
        }
    }

    /// Keeps the command, then sends it. If it cannot be sent now the next logon does, and the answer comes then.
    fn send_stored(
        &mut self,
        store: &dyn PublishStore,
        reply: Option<Arc<Reply>>,
    ) -> Result<Option<Message>> {
        let id = id_of(&self.command);
        let entry = self.command.entry(self.acks)?.with_may_wait(self.core.may_wait());
        let queued = |version| self.core.acks.lock().queued(&id, version);
        let kept = publishing::keep_and_send(self.core, store, &entry, queued);
        let (sequence, sent) = kept.inspect_err(|_| drop(self.core.acks.lock().cancel(&id)))?;
        self.sequence = sequence;
        if let Err(error) = publishing::judge(self.core, sent, &entry) {
            self.core.acks.lock().cancel(&id);
            return Err(error);
        }
        let Some(reply) = reply else { return Ok(None) };
        self.core.link.flush();
        self.wait_for(&reply).map(Some)
    }

    /// Enters the subscription with the manager, then sends it, unless a recovery has placed it meanwhile (SM-2, SM-5).
    fn send_managed(
        &mut self,
        manager: &dyn SubscriptionManager,
        reply: Option<Arc<Reply>>,
        sink: Sink,
    ) -> Result<Option<Message>> {
        self.command.settle_ids();
        let mut recoveries = self.core.recoveries();
        let user = self.command.ack_type_value();
        let entered = manager.subscribe(&SharedHandler(sink), &self.command, user);
        loop {
            let outcome = self.send(reply.clone(), Some(recoveries));
            let Err(error) = &outcome else { return outcome };
            // What was sent and not answered is placed again by the recovery, and the caller need not know.
            if error.is_disconnect() && self.core.will_recover() {
                return Ok(None);
            }
            if error.kind() != ErrorKind::RetryOperation {
                return outcome;
            }
            // A recovery has ended meanwhile: did it take this subscription with it? If not, it is to be sent, unless the
            // next one does.
            recoveries = self.core.recoveries();
            if manager.generation() > entered {
                return Ok(None);
            }
            if let Some(reply) = &reply {
                let id = id_of(&self.command);
                self.core.acks.lock().register(&id, self.awaited, Arc::clone(reply));
            }
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
        let topic = command.topic_text().map(|topic| format!(" on topic `{topic}`")).unwrap_or_default();
        // A flush takes whatever comes.
        let one = self.awaited.bits().is_power_of_two();
        let ack = if one { format!(" with `{}`", self.awaited) } else { String::new() };
        let text = format!("{}{topic} was not acknowledged{ack} within {limit:?}", command.command_type());
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
        if let (Some(_), Some(id)) = (self.manager, self.command.sub_id_text()) {
            self.core.forget_subscription(id);
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
    match unanswered(core, undo) {
        // Without a connection there is nothing left to take back.
        Err(error) if !error.is_disconnect() => core.report(error, Origin::Unsubscribe),
        _ => {}
    }
}

/// Sends a command that has an id and asks for nothing. It waits neither for an outage nor for a recovery to end; during a
/// recovery it is sent when that has ended.
pub(crate) fn unanswered(core: &Core, mut command: Command) -> Result<()> {
    command.renew_id();
    let sender = || Sender { patience: Patience::Aside, ..core.sender(None) };
    core.link
        .publish(sender, |buffer| command.encode(AckType::NONE, buffer))
        .map_err(|refusal| core.refusal(refusal, command.command_type().name()))
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
    /// How many recoveries had ended before the command was entered to be placed by the next one.
    recoveries: Option<u64>,
}

impl Outgoing for Frame<'_> {
    fn encode(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        self.command.encode(self.acks, buffer)
    }

    fn is_wanted(&self, _version: u64) -> bool {
        self.recoveries.is_none_or(|recoveries| self.core.recoveries() == recoveries)
    }

    fn queued(&mut self, version: u64) {
        self.core.acks.lock().queued(self.id, version);
    }

    fn reclaim(&mut self) -> bool {
        self.core.acks.lock().reclaim(self.id)
    }
}
