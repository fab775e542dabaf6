//! The state of a client's conversation with its server, and the logon exchange.
//!
//! ```text
//!                connect                  logon
//!  Disconnected ────────► Connected ────────────────► LoggedOn
//!       ▲  ▲                  │  (refused: closed)        │
//!       │  └──────────────────┴───────────────────────────┘  close, loss
//!       │
//!    Repairing  after a loss: the disconnect handler runs; it may go the whole way again
//! ```
//!
//! Pure: who calls and what is awaited is the business of others.

use super::context::ThreadKey;
use crate::callbacks::ConnectionState;
use crate::command::{check_text, too_large};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::options;
use crate::uri::Uri;
use crate::version::VersionInfo;
use crate::wire::{AckType, CommandType, Field, FrameWriter};

/// What a logon told us about the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerInfo {
    pub(crate) version: VersionInfo,
    /// The server's hash of the client name, as text and as a number.
    pub(crate) name_hash: String,
    pub(crate) name_hash_value: u64,
    /// The last publish sequence the server holds for this client.
    pub(crate) last_sequence: u64,
    pub(crate) connection_name: String,
}

/// Where a client stands.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) phase: Phase,
    /// The connection string of the last attempt.
    pub(crate) uri: Option<Uri>,
    pub(crate) server: ServerInfo,
    /// The user of the connection string, or the one that the server has made of it at logon.
    pub(crate) user: String,
    /// A `close` is under way: whatever tries to connect gives up.
    pub(crate) closing: bool,
    /// The application has closed the client and not connected it again.
    pub(crate) closed: bool,
    /// A thread is connecting.
    pub(crate) connecting: bool,
    /// The repair of a lost connection that is under way.
    repair: Option<Repair>,
    /// Why the last connection was lost, if it was lost in the hands of a thread that worked on it.
    lost: Option<Error>,
    /// Why the connection was lost that could not be repaired. A later command may have the handler try again.
    broken: Option<Error>,
    /// The last state that was announced.
    pub(crate) announced: ConnectionState,
}

/// A thread at work on a lost connection.
#[derive(Debug)]
struct Repair {
    by: ThreadKey,
    /// The client was closed meanwhile: whatever comes of it is not wanted any more.
    cancelled: bool,
}

/// What became of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repaired {
    Connected,
    Failed,
    Cancelled,
}

/// Whether a thread may see to a first connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    Mine,
    InOtherHands,
    /// There is a connection.
    Over,
    Closing,
}

/// Whether a thread that finds no connection may have it repaired once more.
#[derive(Debug)]
pub(crate) enum Revival {
    /// There was no loss, or somebody connects or closes, or this very thread is at it already.
    Hopeless,
    InOtherHands,
    /// The thread has taken it over; this is why the connection was lost.
    Mine(Error),
}

/// What is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    #[default]
    Disconnected,
    Connected,
    LoggedOn,
}

impl Session {
    pub(crate) fn is_connected(&self) -> bool {
        self.phase != Phase::Disconnected
    }

    /// A connection is up.
    pub(crate) fn connect(&mut self) {
        self.phase = Phase::Connected;
        self.broken = None;
        self.closed = false;
        self.lost = None;
    }

    /// The connection was lost while this or another thread was at work on it.
    pub(crate) fn lose(&mut self, cause: &Error) {
        self.lost = Some(cause.clone());
        self.disconnect();
    }

    /// The connection that a repair has made was lost before everybody could use it: the repair goes on, because of this.
    pub(crate) fn repair_again(&mut self, by: ThreadKey) -> Option<Error> {
        if self.closing || self.is_connected() {
            return None;
        }
        let cause = self.lost.take()?;
        self.begin_repair(by);
        Some(cause)
    }

    /// The application wants a connection, and this thread sees to it as if one had been lost.
    pub(crate) fn begin_outage(&mut self, by: ThreadKey) -> Outage {
        if self.closing {
            return Outage::Closing;
        }
        if self.is_connected() {
            return Outage::Over;
        }
        if self.connecting || self.repair.as_ref().is_some_and(|repair| !repair.cancelled) {
            return Outage::InOtherHands;
        }
        self.broken = None;
        self.closed = false;
        self.repair = Some(Repair { by, cancelled: false });
        Outage::Mine
    }

    /// The connection is gone, and this thread repairs it.
    pub(crate) fn begin_repair(&mut self, by: ThreadKey) {
        self.disconnect();
        self.repair = Some(Repair { by, cancelled: false });
    }

    /// The client is being closed: a repair under way comes to nothing, and there will be no other.
    pub(crate) fn cancel_repair(&mut self) {
        self.broken = None;
        if let Some(repair) = &mut self.repair {
            repair.cancelled = true;
        }
    }

    /// The repair by this thread is over, for better or worse.
    pub(crate) fn end_repair(&mut self, by: ThreadKey) -> Repaired {
        let mine = self.repair.take_if(|repair| repair.by == by);
        match mine {
            Some(Repair { cancelled: false, .. }) if self.is_connected() => Repaired::Connected,
            Some(Repair { cancelled: false, .. }) => Repaired::Failed,
            _ => Repaired::Cancelled,
        }
    }

    /// A repair has failed because of this.
    pub(crate) fn give_up(&mut self, cause: &Error) {
        if !self.closing && !self.is_connected() {
            self.broken = Some(cause.clone());
        }
    }

    /// A command of this thread found no connection: may it have the handler try again (D-11)?
    pub(crate) fn revive(&mut self, by: ThreadKey) -> Revival {
        if self.is_repaired_by_other(by) {
            return Revival::InOtherHands;
        }
        if self.closing || self.connecting || self.is_repaired_by(by) {
            return Revival::Hopeless;
        }
        match self.broken.take() {
            None => Revival::Hopeless,
            Some(cause) => {
                self.begin_repair(by);
                Revival::Mine(cause)
            }
        }
    }

    /// True unless the client is closed or a repair has failed.
    pub(crate) fn may_recover(&self) -> bool {
        !self.closing && self.broken.is_none() && self.announced != ConnectionState::Shutdown
    }

    pub(crate) fn is_repaired_by(&self, thread: ThreadKey) -> bool {
        self.repair.as_ref().is_some_and(|repair| repair.by == thread)
    }

    pub(crate) fn is_repaired_by_other(&self, thread: ThreadKey) -> bool {
        self.repair.as_ref().is_some_and(|repair| repair.by != thread && !repair.cancelled)
    }

    /// True if this thread must not connect: the client is being closed, or was since its repair began (D-10).
    pub(crate) fn is_closed_to(&self, thread: ThreadKey) -> bool {
        let cancelled = |repair: &Repair| repair.by == thread && repair.cancelled;
        self.closing || self.repair.as_ref().is_some_and(cancelled)
    }

    /// The connection is gone, if there was one.
    pub(crate) fn disconnect(&mut self) {
        self.server = ServerInfo::default();
        self.phase = Phase::Disconnected;
    }
}

impl ConnectionState {
    /// False for what was announced already, or is the end of what was not: a connection that nobody was told of.
    pub(crate) fn may_follow(self, last: ConnectionState) -> bool {
        use ConnectionState::{Disconnected, Shutdown, Unknown};
        match self {
            Shutdown => last != Shutdown,
            Disconnected => !matches!(last, Disconnected | Shutdown | Unknown),
            _ => true,
        }
    }
}

impl ServerInfo {
    /// Reads the acknowledgement of a logon. The bookmark holds hash and sequence; without one the sequence stands alone
    /// (`wire-protocol` 7.2).
    pub(crate) fn of(ack: &Message) -> ServerInfo {
        let (name_hash, sequence) = match ack.bookmark().and_then(|bookmark| bookmark.split_once('|')) {
            Some((hash, rest)) => (hash, rest.split('|').next().and_then(|digits| digits.parse().ok())),
            None => ("", None),
        };
        let connection_name = options::text::value_of(ack.options().unwrap_or_default(), "connection_name");
        ServerInfo {
            version: VersionInfo::of_server(ack.version().unwrap_or_default()),
            name_hash: name_hash.to_owned(),
            name_hash_value: name_hash.parse().unwrap_or(0),
            last_sequence: sequence.or(ack.sequence()).unwrap_or(0),
            connection_name: connection_name.unwrap_or_default().to_owned(),
        }
    }
}

/// What a logon sends.
#[derive(Clone, Copy)]
pub(crate) struct LogonFrame<'a> {
    pub(crate) command_id: &'a str,
    pub(crate) client_name: &'a str,
    pub(crate) user: &'a str,
    pub(crate) password: &'a str,
    pub(crate) message_type: &'a str,
    pub(crate) correlation_data: &'a str,
    pub(crate) options: &'a str,
}

/// The version text of this client, which servers only log.
pub(crate) const CLIENT_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), ":rust");

impl LogonFrame<'_> {
    /// Appends the frame.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) -> Result<()> {
        let texts = [
            ("client name", self.client_name),
            ("user", self.user),
            ("logon correlation data", self.correlation_data),
        ];
        texts.iter().try_for_each(|(what, text)| check_text(what, text))?;
        let mut frame = FrameWriter::new(buffer, CommandType::Logon);
        frame
            .text(Field::CommandId, self.command_id)
            .text(Field::ClientName, self.client_name)
            .text(Field::UserId, self.user)
            .text(Field::MessageType, self.message_type)
            .text(Field::AckType, &AckType::PROCESSED.to_string())
            .text(Field::Version, CLIENT_VERSION)
            .text(Field::CorrelationId, self.correlation_data)
            .text(Field::Password, self.password)
            .text(Field::Options, self.options);
        frame.finish(b"").map_err(too_large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn ack(header: &str) -> Message {
        let mut frame = (header.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(header.as_bytes());
        Message::from_frame(&frame).unwrap()
    }

    /// D-8, D-11.
    #[test]
    fn a_failed_repair_may_be_tried_again_by_one_thread_at_a_time() {
        let [receiver, caller, other] = [1, 2, 3].map(ThreadKey::of);
        let mut session = Session::default();
        assert!(matches!(session.revive(caller), Revival::Hopeless), "there was no loss");
        session.connect();
        session.begin_repair(receiver);
        assert!(matches!(session.revive(caller), Revival::InOtherHands));
        assert_eq!(session.end_repair(receiver), Repaired::Failed);
        session.give_up(&ErrorKind::Stream.into());
        let Revival::Mine(cause) = session.revive(caller) else { panic!("nobody else repairs") };
        assert_eq!(cause.kind(), ErrorKind::Stream);
        assert!(matches!(session.revive(caller), Revival::Hopeless), "not from within");
        assert!(matches!(session.revive(other), Revival::InOtherHands));
        session.connect();
        assert_eq!(session.end_repair(caller), Repaired::Connected);
    }

    /// D-10.
    #[test]
    fn closing_cancels_a_repair_and_leaves_the_others_free_to_connect() {
        let [repairer, other] = [1, 2].map(ThreadKey::of);
        let mut session = Session::default();
        session.begin_repair(repairer);
        session.cancel_repair();
        assert!(session.is_closed_to(repairer) && !session.is_closed_to(other));
        assert!(!session.is_repaired_by_other(other));
        session.connect();
        assert_eq!(session.end_repair(repairer), Repaired::Cancelled);
        assert!(!session.is_closed_to(repairer) && session.is_connected());
    }

    /// S-7, S-8.
    #[test]
    fn an_end_is_announced_once_and_only_after_a_beginning() {
        use ConnectionState::{Connected, Disconnected, LoggedOn, Shutdown, Unknown};
        let table = [
            (Unknown, Disconnected, false),
            (Unknown, Shutdown, true),
            (Connected, Disconnected, true),
            (LoggedOn, Disconnected, true),
            (Disconnected, Disconnected, false),
            (Disconnected, Shutdown, true),
            (Shutdown, Shutdown, false),
            (Shutdown, Disconnected, false),
            (Shutdown, Connected, true),
        ];
        for (last, next, expected) in table {
            assert_eq!(next.may_follow(last), expected, "{next} after {last}");
        }
    }

    /// `wire-protocol` section 16, example 1, but for the version text.
    #[test]
    fn a_logon_is_written_in_the_fixed_order_and_leaves_out_what_is_empty() {
        let full = LogonFrame {
            command_id: "auto0",
            client_name: "py-1",
            user: "alice",
            password: "s@cret",
            message_type: "json",
            correlation_data: "corr==",
            options: "pretty",
        };
        let mut out = Vec::new();
        full.encode(&mut out).unwrap();
        let expected = format!(
            r#"{{"c":"logon","cid":"auto0","client_name":"py-1","user_id":"alice","mt":"json","a":"processed","version":"{CLIENT_VERSION}","x":"corr==","pw":"s@cret","o":"pretty"}}"#
        );
        assert_eq!(String::from_utf8(out[4..].to_vec()).unwrap(), expected);

        let bare = LogonFrame {
            user: "",
            password: "",
            message_type: "",
            correlation_data: "",
            options: "",
            ..full
        };
        let mut out = Vec::new();
        bare.encode(&mut out).unwrap();
        let text = String::from_utf8(out[4..].to_vec()).unwrap();
        assert!(!text.contains("user_id") && !text.contains("pw") && !text.contains("mt"), "{text}");
    }

    /// `wire-protocol` section 16, example 2, and 7.2.
    #[test]
    fn the_answer_tells_hash_sequence_version_and_connection_name() {
        let info = ServerInfo::of(&ack(
            r#"{"c":"ack","cid":"auto0","s":5,"bm":"10357694053628526720|42|","a":"processed","status":"success","version":"5.3.5.1","opts":"a=b,connection_name=c-7"}"#,
        ));
        assert_eq!(
            (info.name_hash.as_str(), info.name_hash_value),
            ("10357694053628526720", 10_357_694_053_628_526_720)
        );
        assert_eq!((info.last_sequence, info.connection_name.as_str()), (42, "c-7"));
        let without = ServerInfo::of(&ack(r#"{"c":"ack","s":5,"a":"processed","status":"success"}"#));
        assert_eq!((without.last_sequence, without.name_hash.as_str()), (5, ""));
        assert_eq!(ServerInfo::of(&ack(r#"{"c":"ack"}"#)).last_sequence, 0);
    }
}
