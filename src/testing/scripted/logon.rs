//! How a scripted peer answers a logon.

use std::fmt;

use crate::testing::Frame;

use super::template::escaped;

/// The answer to a `logon`.
///
/// Unless told otherwise it is that of a server which has never seen the client: success, sequence 0, version `5.3.5.1`,
/// and the name hash [`NAME_HASH`](LogonAck::NAME_HASH).
///
/// ```
/// use amps_client::testing::{Frame, LogonAck};
///
/// # fn main() -> amps_client::Result<()> {
/// let logon = Frame::parse(br#"{"c":"logon","cid":"auto0","client_name":"py-1"}"#)?;
/// assert_eq!(
///     LogonAck::success().sequence(12).answer(&logon),
///     r#"{"c":"ack","cid":"auto0","s":12,"bm":"7094790850998930143|12|","client_name":"py-1","a":"processed","status":"success","version":"5.3.5.1"}"#
/// );
/// assert_eq!(
///     LogonAck::failure("auth failure").answer(&logon),
///     r#"{"c":"ack","cid":"auto0","a":"processed","status":"failure","reason":"auth failure"}"#
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct LogonAck {
    status: String,
    sequence: u64,
    name_hash: u64,
    version: String,
    challenge: Option<(String, String)>,
    options: Option<String>,
    reason: Option<String>,
}

impl LogonAck {
    /// The hash of the client name that a peer claims by default; it is the publisher id in the client's bookmarks.
    pub const NAME_HASH: u64 = 7_094_790_850_998_930_143;

    /// The client is logged on.
    pub fn success() -> LogonAck {
        LogonAck {
            status: "success".to_owned(),
            sequence: 0,
            name_hash: LogonAck::NAME_HASH,
            version: "5.3.5.1".to_owned(),
            challenge: None,
            options: None,
            reason: None,
        }
    }

    /// The logon is refused for this reason.
    pub fn failure(reason: impl Into<String>) -> LogonAck {
        LogonAck::success().status("failure").reason(reason)
    }

    /// The client shall answer a challenge: log on again as `user`, with a password made from `challenge`.
    pub fn retry(user: impl Into<String>, challenge: impl Into<String>) -> LogonAck {
        LogonAck { challenge: Some((user.into(), challenge.into())), ..LogonAck::success().status("retry") }
    }

    /// The last publish sequence the server holds of this client; written as `s` and within `bm`. Default 0.
    pub fn sequence(self, sequence: u64) -> LogonAck {
        LogonAck { sequence, ..self }
    }

    /// The hash of the client name. Default [`NAME_HASH`](LogonAck::NAME_HASH).
    pub fn name_hash(self, name_hash: u64) -> LogonAck {
        LogonAck { name_hash, ..self }
    }

    /// The version of the server. Default `5.3.5.1`.
    pub fn version(self, version: impl Into<String>) -> LogonAck {
        LogonAck { version: version.into(), ..self }
    }

    /// The status. Default that of the constructor. Only a `success` carries sequence, client name and version.
    pub fn status(self, status: impl Into<String>) -> LogonAck {
        LogonAck { status: status.into(), ..self }
    }

    /// The reason. Default that of the constructor, else none.
    pub fn reason(self, reason: impl Into<String>) -> LogonAck {
        LogonAck { reason: Some(reason.into()), ..self }
    }

    /// What the server grants, written as `opts`, such as `connection_name=…`. Default none.
    pub fn options(self, options: impl Into<String>) -> LogonAck {
        LogonAck { options: Some(options.into()), ..self }
    }

    /// The header text that answers this logon. An id or a name that the logon does not have is left out.
    pub fn answer(&self, logon: &Frame) -> String {
        let granted = self.status == "success";
        let mut out = Answer(r#"{"c":"ack""#.to_owned());
        out.text("cid", logon.header("cid"));
        if granted {
            let bookmark = format!("{}|{}|", self.name_hash, self.sequence);
            out.number("s", self.sequence).text("bm", Some(&bookmark));
            out.text("client_name", logon.header("client_name"));
        }
        out.text("a", Some("processed")).text("status", Some(&self.status));
        out.text("version", granted.then_some(&self.version));
        if let Some((user, challenge)) = &self.challenge {
            out.text("user_id", Some(user)).text("pw", Some(challenge));
        }
        out.text("opts", self.options.as_deref()).text("reason", self.reason.as_deref());
        out.0 + "}"
    }
}

impl Default for LogonAck {
    fn default() -> LogonAck {
        LogonAck::success()
    }
}

impl fmt::Debug for LogonAck {
    /// Shows no challenge: it goes where a password goes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("LogonAck");
        out.field("status", &self.status)
            .field("sequence", &self.sequence)
            .field("name_hash", &self.name_hash);
        out.field("version", &self.version).field("options", &self.options).field("reason", &self.reason);
        out.finish_non_exhaustive()
    }
}

/// A header text under construction.
struct Answer(String);

impl Answer {
    fn text(&mut self, key: &str, value: Option<&str>) -> &mut Answer {
        if let Some(value) = value {
            self.0 += &format!(",\"{key}\":\"{}\"", escaped(value));
        }
        self
    }

    fn number(&mut self, key: &str, value: u64) -> &mut Answer {
        self.0 += &format!(",\"{key}\":{value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ack: LogonAck) -> String {
        ack.answer(
            &Frame::parse(br#"{"c":"logon","cid":"auto0","client_name":"py-1","user_id":"alice"}"#).unwrap(),
        )
    }

    /// `wire-protocol` section 16, examples 2, 3 and 4.
    #[test]
    fn the_answers_are_those_of_the_protocol() {
        let table = [
            (
                LogonAck::success(),
                r#"{"c":"ack","cid":"auto0","s":0,"bm":"7094790850998930143|0|","client_name":"py-1","a":"processed","status":"success","version":"5.3.5.1"}"#,
            ),
            (
                LogonAck::retry("alice", "chal").reason("token"),
                r#"{"c":"ack","cid":"auto0","a":"processed","status":"retry","user_id":"alice","pw":"chal","reason":"token"}"#,
            ),
            (
                LogonAck::failure("auth failure"),
                r#"{"c":"ack","cid":"auto0","a":"processed","status":"failure","reason":"auth failure"}"#,
            ),
        ];
        for (ack, text) in table {
            assert_eq!(answer(ack), text);
        }
    }

    #[test]
    fn every_value_can_be_set() {
        let ack =
            LogonAck::default().sequence(u64::MAX).name_hash(9).version("6.0").options("a=b").reason("\"");
        assert_eq!(
            answer(ack),
            r#"{"c":"ack","cid":"auto0","s":18446744073709551615,"bm":"9|18446744073709551615|","client_name":"py-1","a":"processed","status":"success","version":"6.0","opts":"a=b","reason":"\""}"#
        );
    }

    #[test]
    fn a_logon_without_ids_is_answered_without_them() {
        let bare = Frame::parse(br#"{"c":"logon"}"#).unwrap();
        assert_eq!(
            LogonAck::failure("no client name").answer(&bare),
            r#"{"c":"ack","a":"processed","status":"failure","reason":"no client name"}"#
        );
        assert!(Frame::parse(LogonAck::success().answer(&bare).as_bytes()).is_ok());
    }

    #[test]
    fn debug_shows_no_challenge() {
        assert!(!format!("{:?}", LogonAck::retry("u", "s3cret")).contains("s3cret"));
    }
}
