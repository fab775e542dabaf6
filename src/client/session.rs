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
use crate::error::Result;
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
    /// The user of the current logon.
    pub(crate) user: String,
    /// A `close` is under way: whatever tries to connect gives up.
    pub(crate) closing: bool,
    /// A thread is connecting.
    pub(crate) connecting: bool,
    /// The thread that repairs a lost connection.
    repairing: Option<ThreadKey>,
    /// The last state that was announced.
    pub(crate) announced: ConnectionState,
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

    /// The connection is gone, and this thread repairs it.
    pub(crate) fn repair(&mut self, by: ThreadKey) {
        self.disconnect();
        self.repairing = Some(by);
    }

    /// The repair by this thread is over, for better or worse.
    pub(crate) fn repaired(&mut self, by: ThreadKey) {
        if self.repairing == Some(by) {
            self.repairing = None;
        }
    }

    pub(crate) fn is_repaired_by(&self, thread: ThreadKey) -> bool {
        self.repairing == Some(thread)
    }

    pub(crate) fn is_repaired_by_other(&self, thread: ThreadKey) -> bool {
        self.repairing.is_some_and(|by| by != thread)
    }

    /// The connection is gone. True if there was one.
    pub(crate) fn disconnect(&mut self) -> bool {
        self.server = ServerInfo::default();
        std::mem::take(&mut self.phase) != Phase::Disconnected
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

    fn ack(header: &str) -> Message {
        let mut frame = (header.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(header.as_bytes());
        Message::from_frame(&frame).unwrap()
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
