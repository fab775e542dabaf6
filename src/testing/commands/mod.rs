//! The commands a client may send, one file each or a family.

mod ack;
mod delete;
mod flush;
mod heartbeat;
mod logon;
mod publish;
mod query;
mod replay;
mod selector;
mod subscribe;
mod unsubscribe;

use std::sync::Arc;

use super::LOG;
use super::clock::Time;
use super::connection::{Connection, Flow};
use super::faults::Answer;
use super::frames::{Ack, AckStatus};
use super::hub::{Hub, Open, Turn};
use super::options::Options;
use super::refusal::Refusal;
use super::session::{Identity, SessionId};
use super::world::World;
use crate::message::Message;
use crate::wire::{AckType, CommandType, Field};

pub(crate) use publish::write_questions;

/// Carries out one command and answers it.
pub(crate) fn perform(hub: &Hub, connection: &Connection, message: &Message) -> Flow {
    let command = Command::new(hub, connection, message);
    command.ack(Ack { kind: AckType::RECEIVED, ..Ack::default() }, hub.clock.time());
    match command.kind {
        CommandType::Logon => logon::logon(&command),
        CommandType::Heartbeat => command.settle(heartbeat::heartbeat(&command)),
        _ => perform_in_session(&command),
    }
}

/// Answers a command as a fault says, without carrying it out.
pub(crate) fn answer(hub: &Hub, connection: &Connection, message: &Message, answer: &Answer) -> Flow {
    let command = Command::new(hub, connection, message);
    command.ack(Ack { kind: AckType::RECEIVED, ..Ack::default() }, hub.clock.time());
    match answer {
        Answer::Refuse { reason } => {
            command.fail(reason);
            if command.kind == CommandType::Logon { Flow::Finish } else { Flow::Continue }
        }
        Answer::RetryLogon { user_id, password } => {
            logon::retry(&command, user_id, password);
            Flow::Continue
        }
    }
}

/// The commands that need a logon before them.
fn perform_in_session(command: &Command<'_>) -> Flow {
    if !command.is_known() {
        log::error!(target: LOG, "{}: unknown command, the connection is closed", command.session());
        return Flow::Finish;
    }
    let identity = match logon::identity(command) {
        Ok(identity) => identity,
        Err((refusal, flow)) => {
            command.refuse(refusal);
            return flow;
        }
    };
    command.settle(match command.kind {
        CommandType::Publish | CommandType::DeltaPublish => publish::publish(command, &identity),
        CommandType::Sow => query::sow(command, &identity),
        CommandType::SowDelete => delete::sow_delete(command, &identity),
        CommandType::Unsubscribe => unsubscribe::unsubscribe(command),
        CommandType::Flush => flush::flush(command),
        kind if kind.is_subscribe() => subscribe::subscribe(command, &identity),
        _ => command.not_supported(),
    })
}

/// One command, with what is needed to answer it.
pub(crate) struct Command<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) connection: &'a Connection,
    pub(crate) message: &'a Message,
    pub(crate) kind: CommandType,
    /// The acknowledgements asked for.
    pub(crate) asked: AckType,
}

/// Commands that are not in the protocol's table and still no reason to hang up (W-5).
const REFUSED_POLITELY: [&str; 2] = ["start_timer", "stop_timer"];

impl<'a> Command<'a> {
    fn new(hub: &'a Hub, connection: &'a Connection, message: &'a Message) -> Command<'a> {
        Command { hub, connection, message, kind: message.command(), asked: message.ack_type() }
    }

    pub(crate) fn session(&self) -> SessionId {
        self.connection.id
    }

    /// A header, empty if it is absent.
    pub(crate) fn text(&self, field: Field) -> &'a str {
        self.message.text(field).unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &'a str {
        self.text(Field::CommandId)
    }

    /// The query id, which defaults to the command id (S-6).
    pub(crate) fn query_id(&self) -> &'a str {
        self.message.query_id().unwrap_or(self.id())
    }

    pub(crate) fn topic(&self) -> Result<&'a str, Refusal> {
        self.message.topic().ok_or(Refusal::NoTopic)
    }

    /// The publisher's number for this message; 0 is none.
    pub(crate) fn sequence(&self) -> Option<u64> {
        self.message.sequence().filter(|sequence| *sequence > 0)
    }

    /// Whether a message that was published before is acknowledged as if it were new (K-9).
    fn forgives_duplicates(&self, world: &World) -> bool {
        world.instance(self.session()).is_some_and(|instance| instance.settings.duplicates_succeed)
    }

    pub(crate) fn options(&self) -> Result<Options, Refusal> {
        Options::parse(self.text(Field::Options))
    }

    /// Waits for the turn of this command, in which the answers to its questions are known.
    ///
    /// A session that was closed in the meantime has none: nothing of it takes effect any more.
    pub(crate) fn turn(&self, questions: impl Fn(&World) -> Vec<Open>) -> Result<Turn<'a>, Refusal> {
        let turn = self.hub.lock_entitled(questions);
        match turn.session(self.session()) {
            Some(_) => Ok(turn),
            None => Err(Refusal::LogonRequired),
        }
    }

    /// Sends an acknowledgement of this command if its type was asked for (K-1).
    pub(crate) fn ack(&self, ack: Ack<'_>, now: Time) {
        if self.asked.contains(ack.kind) {
            let is_logon = self.kind == CommandType::Logon && ack.kind == AckType::PROCESSED;
            self.connection.send(Ack { command_id: self.id(), is_logon, ..ack }.frame(), now);
        }
    }

    /// The plain success that most commands end with.
    pub(crate) fn processed(&self, now: Time) {
        self.ack(Ack { kind: AckType::PROCESSED, ..Ack::default() }, now);
    }

    fn settle(&self, result: Result<(), Refusal>) -> Flow {
        if let Err(refusal) = result {
            self.refuse(refusal);
        }
        Flow::Continue
    }

    /// Answers a command that failed (K-3).
    fn refuse(&self, refusal: Refusal) {
        self.fail(refusal.text());
    }

    fn fail(&self, reason: &str) {
        let mut turn = self.hub.lock();
        let failure = Ack { kind: AckType::PROCESSED, status: AckStatus::Failure, reason, ..Ack::default() };
        self.ack(failure, turn.now);
        if self.kind.needs_sequence() {
            turn.acknowledge_failure(self, reason);
        }
    }

    fn is_known(&self) -> bool {
        use CommandType::*;
        match self.kind {
            Unknown => REFUSED_POLITELY.contains(&self.text(Field::Command)),
            Ack | Oof | GroupBegin | GroupEnd => false,
            _ => true,
        }
    }

    /// Says so whichever acknowledgement was asked for, as long as the answer can be told from others (W-5).
    fn not_supported(&self) -> Result<(), Refusal> {
        if self.asked.contains(AckType::PROCESSED) {
            return Err(Refusal::NotSupported);
        }
        if !self.asked.is_empty() && !self.id().is_empty() {
            let ack = Ack {
                kind: AckType::PROCESSED,
                status: AckStatus::Failure,
                reason: Refusal::NotSupported.text(),
                command_id: self.id(),
                ..Ack::default()
            };
            self.connection.send(ack.frame(), self.hub.clock.time());
        }
        Ok(())
    }
}

/// Who sent a command.
pub(crate) type Who = Arc<Identity>;
