//! Faults on demand: trouble at a chosen moment on a chosen connection (section 15).
//!
//! * `Fault`, in this file: what a test asks for; [`when`], [`gate`], [`damage`]: its parts.
//! * [`registry`]: the faults of one server, and which of them strike at a moment; [`armed`]: one of them, and the handle
//!   that a test has of it.
//! * [`effect`]: something that lasts until it is released; [`hindrance`]: what lasts on a connection.
//!
//! The reader and the writer of a connection ask the registry at every frame and carry out what strikes.

mod armed;
mod damage;
mod effect;
mod gate;
mod hindrance;
mod registry;
mod when;

use std::fmt;
use std::time::Duration;

pub(crate) use self::armed::Strike;
pub use self::armed::{ArmedFault, FaultInfo};
pub use self::damage::Damage;
pub(crate) use self::effect::Effect;
pub use self::gate::{Gate, ShutGate};
pub(crate) use self::hindrance::{Hindrance, Hindrances, Obstacle, Reading, Writing};
pub(crate) use self::registry::Faults;
pub use self::when::When;
pub(crate) use self::when::{Counts, Moment};
use super::connection::Connection;
use crate::wire::CommandType;

/// Trouble that a [`Server`](super::Server) makes: what, [when](Fault::when), on whose connections, and how often.
///
/// [`Server::fault`](super::Server::fault) arms it. Unless told otherwise it strikes at once, on any connection, once. All
/// of it is deterministic: a fault strikes at events and counts, never by chance, and only the connection that it strikes
/// is affected.
///
/// There are faults of a connection and faults of a frame. A fault of a frame strikes the frame that its moment is about;
/// if it is about none, the next frame that fits: the next incoming one after [`When::frames_in`] or
/// [`When::bytes_in`], else the next outgoing one. At [`When::now`], [`close`](Fault::close) closes all connections there
/// are, and [`swallow`](Fault::swallow) swallows the next frame that leaves. Of several faults that fit one frame the one
/// armed first strikes it.
///
/// ```
/// use amps_client::testing::{Fault, Server, When};
/// use amps_client::{Client, ErrorKind};
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let subscribed = When::receives("subscribe");
/// let fault = server.fault(Fault::close().when(subscribed).on_client("desk"));
///
/// let client = Client::builder("desk").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// let error = client.subscribe("orders", "").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Disconnected);
/// fault.wait_fired(Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a fault does nothing until `Server::fault` arms it"]
pub struct Fault {
    pub(crate) what: What,
    pub(crate) when: When,
    whom: Whom,
    /// `None`: every time.
    times: Option<u64>,
    pub(crate) lasting: Option<Duration>,
}

/// What a fault does.
#[derive(Debug, Clone)]
pub(crate) enum What {
    End(Ending),
    Hamper { reading: Option<Reading>, writing: Option<Writing> },
    RefuseConnections,
    Alter(Alteration),
    Damage(Damage),
    Answer(Answer),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    /// After a command was carried out, and without a word of its answer.
    CloseUnanswered,
    /// After so many bytes of a frame.
    Truncate(usize),
    Reset,
}

/// What becomes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Alteration {
    Delay,
    Swallow,
    Repeat,
    Insert(Vec<u8>),
    Replace(Vec<u8>),
    Swap,
}

/// How a command is answered instead of being carried out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Refuse { reason: String },
    RetryLogon { user_id: String, password: String },
}

/// Whose connections: those that fit every word of it.
#[derive(Debug, Clone, Default)]
struct Whom {
    client: Option<String>,
    connection: Option<u64>,
    listener: Option<usize>,
}

/// The faults of a connection.
impl Fault {
    /// Closes the connection in an orderly way: the client reads what was sent before, then the end of the stream.
    ///
    /// A command at which it strikes is not carried out. At [`When::accepted`] nothing else happens on the connection:
    /// with [`times`](Fault::times) this is a server that turns the next clients away and then works. (The system has
    /// accepted such a connection; for one that is refused see [`refuse_connections`](Fault::refuse_connections).)
    pub fn close() -> Fault {
        Fault::new(What::End(Ending::Close))
    }

    /// Carries out a command, and closes the connection in an orderly way without having answered it.
    ///
    /// A fault of an incoming frame. Nothing that the command causes is sent on its own connection; others get theirs.
    pub fn close_unanswered() -> Fault {
        Fault::new(What::End(Ending::CloseUnanswered))
    }

    /// Resets the connection: the client's next read or write fails. A Unix socket knows no reset; it is closed.
    ///
    /// A command at which it strikes is not carried out.
    pub fn reset() -> Fault {
        Fault::new(What::End(Ending::Reset))
    }

    /// Sends only the first bytes of a frame, and closes the connection in an orderly way.
    ///
    /// A fault of an outgoing frame. The first four bytes of a frame are its length, so that 2 is half of that, and 10
    /// lies within the header.
    pub fn truncate(bytes: usize) -> Fault {
        Fault::new(What::End(Ending::Truncate(bytes)))
    }

    /// Reads nothing more, so that in the end the client can write nothing more, until it is
    /// [released](ArmedFault::release).
    ///
    /// What has been read already waits as well, and so does a command at which it strikes.
    pub fn stop_reading() -> Fault {
        Fault::new(What::Hamper { reading: Some(Reading::Stop), writing: None })
    }

    /// Writes nothing more until it is [released](ArmedFault::release). Commands are still carried out.
    ///
    /// What was queued before it strikes is still written; a frame at which it strikes is not.
    pub fn stop_writing() -> Fault {
        Fault::new(What::Hamper { reading: None, writing: Some(Writing::Stop) })
    }

    /// Neither reads nor writes, while the connection stays open, until it is [released](ArmedFault::release).
    pub fn freeze() -> Fault {
        Fault::new(What::Hamper { reading: Some(Reading::Stop), writing: Some(Writing::Stop) })
    }

    /// Sends no heartbeats, and all the rest, until it is [released](ArmedFault::release).
    pub fn mute_heartbeats() -> Fault {
        Fault::new(What::Hamper { reading: None, writing: Some(Writing::Mute) })
    }

    /// Reads at most so many bytes, at least 1, per tick of the server's clock, until it is
    /// [released](ArmedFault::release).
    pub fn read_slowly(bytes: usize, tick: Duration) -> Fault {
        Fault::new(What::Hamper { reading: Some(Reading::Slow { bytes, tick }), writing: None })
    }

    /// Writes at most so many bytes, at least 1, per tick of the server's clock, until it is
    /// [released](ArmedFault::release).
    ///
    /// With a manual clock each tick that it is advanced by lets exactly so many bytes go, as long as there are any.
    pub fn write_slowly(bytes: usize, tick: Duration) -> Fault {
        Fault::new(What::Hamper { reading: None, writing: Some(Writing::Slow { bytes, tick }) })
    }

    /// Hands the system at most so many bytes at a time, at least 1, until it is [released](ArmedFault::release).
    ///
    /// The client may still find several pieces together, if it reads late.
    pub fn write_in_chunks(bytes: usize) -> Fault {
        Fault::new(What::Hamper { reading: None, writing: Some(Writing::Chunks(bytes)) })
    }

    /// Writes only when so many frames are there, and these in one piece, until it is [released](ArmedFault::release).
    pub fn merge_writes(frames: usize) -> Fault {
        Fault::new(What::Hamper { reading: None, writing: Some(Writing::Merge(frames)) })
    }

    /// Closes the listener: connections are refused until it is [released](ArmedFault::release).
    ///
    /// At [`When::now`] all listeners, or the one of [`on_listener`](Fault::on_listener); else the one over which the
    /// connection came. Connections that are there stay.
    pub fn refuse_connections() -> Fault {
        Fault::new(What::RefuseConnections)
    }
}

/// The faults of a frame.
impl Fault {
    /// Sets a frame aside until it is [released](ArmedFault::release), or for [as long](Fault::lasting) as the server's
    /// clock says.
    ///
    /// Other outgoing frames pass it. An incoming frame holds up those behind it: the commands of a connection are
    /// carried out in their order.
    pub fn delay() -> Fault {
        Fault::alter(Alteration::Delay)
    }

    /// Loses a frame.
    pub fn swallow() -> Fault {
        Fault::alter(Alteration::Swallow)
    }

    /// Sends a frame twice, or carries out a command twice.
    pub fn repeat() -> Fault {
        Fault::alter(Alteration::Repeat)
    }

    /// Puts bytes in front of a frame, as they are. [`Frame::encode`](super::Frame::encode) makes those of a frame.
    ///
    /// In front of an incoming frame they are taken as if they had been received; they must be whole frames.
    pub fn insert(bytes: impl Into<Vec<u8>>) -> Fault {
        Fault::alter(Alteration::Insert(bytes.into()))
    }

    /// Puts bytes in the place of a frame, as they are, otherwise as [`insert`](Fault::insert) does.
    pub fn replace(bytes: impl Into<Vec<u8>>) -> Fault {
        Fault::alter(Alteration::Replace(bytes.into()))
    }

    /// Lets a frame and the one after it change places. Until there is one after it, it waits.
    pub fn swap() -> Fault {
        Fault::alter(Alteration::Swap)
    }

    /// Damages an outgoing frame; one that has what is to be damaged.
    pub fn damage(damage: Damage) -> Fault {
        Fault::new(What::Damage(damage))
    }

    /// Answers a command with a failure for this reason instead of carrying it out.
    ///
    /// A fault of an incoming frame that is no heartbeat. The failure is told as every other is: in the `processed`
    /// acknowledgement if that was asked for, and in the `persisted` one of a publish or a delete. A refused logon costs
    /// the connection.
    pub fn refuse(reason: impl Into<String>) -> Fault {
        Fault::new(What::Answer(Answer::Refuse { reason: reason.into() }))
    }

    /// Answers a logon with the request to try again as this user, with this password.
    pub fn retry_logon(user_id: impl Into<String>, password: impl Into<String>) -> Fault {
        Fault::new(What::Answer(Answer::RetryLogon { user_id: user_id.into(), password: password.into() }))
    }

    fn alter(how: Alteration) -> Fault {
        Fault::new(What::Alter(how))
    }
}

/// When, where and how often.
impl Fault {
    fn new(what: What) -> Fault {
        Fault { what, when: When::now(), whom: Whom::default(), times: Some(1), lasting: None }
    }

    /// The moment at which it strikes. Default: [`When::now`].
    pub fn when(mut self, when: When) -> Fault {
        self.when = when;
        self
    }

    /// Only on connections of this client: those whose last logon gave this name, granted or not. Default: all.
    pub fn on_client(mut self, name: impl Into<String>) -> Fault {
        self.whom.client = Some(name.into());
        self
    }

    /// Only on this connection: the first that was accepted is 1. Default: all.
    pub fn on_connection(mut self, number: u64) -> Fault {
        self.whom.connection = Some(number);
        self
    }

    /// Only on connections over this listener: the first is 0. Default: all.
    pub fn on_listener(mut self, number: usize) -> Fault {
        self.whom.listener = Some(number);
        self
    }

    /// How often it strikes, on all connections together. Default: once.
    ///
    /// A fault of a connection at [`When::now`] strikes each connection that is there, once.
    pub fn times(mut self, times: u64) -> Fault {
        self.times = Some(times);
        self
    }

    /// Strikes every time.
    pub fn always(mut self) -> Fault {
        self.times = None;
        self
    }

    /// Releases what lasts after this time on the server's clock. Default: it lasts until
    /// [`release`](ArmedFault::release).
    pub fn lasting(mut self, time: Duration) -> Fault {
        self.lasting = Some(time);
        self
    }

    /// Whether it is about this connection at all.
    fn concerns(&self, connection: &Connection) -> bool {
        self.whom.connection.is_none_or(|number| number == connection.id.number)
            && self.whom.listener.is_none_or(|listener| listener == connection.listener)
            && self.whom.client.as_ref().is_none_or(|name| connection.is_of(name))
    }
}

/// Which kind of thing a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Connection,
    Incoming,
    Outgoing,
}

impl Fault {
    fn target(&self) -> Target {
        match &self.what {
            What::End(Ending::Close | Ending::Reset) | What::Hamper { .. } | What::RefuseConnections => {
                Target::Connection
            }
            What::End(Ending::CloseUnanswered) | What::Answer(_) => Target::Incoming,
            What::End(Ending::Truncate(_)) | What::Damage(_) => Target::Outgoing,
            What::Alter(_) if self.when.is_about_input() => Target::Incoming,
            What::Alter(_) => Target::Outgoing,
        }
    }
}

impl What {
    /// How much of a frame goes out before it strikes.
    fn offset(&self) -> usize {
        match self {
            What::End(Ending::Truncate(bytes)) => *bytes,
            _ => 0,
        }
    }

    /// Whether the frame of this moment has what it takes to be struck.
    fn fits(&self, moment: &Moment<'_>) -> bool {
        let (Moment::Receiving { frame, .. } | Moment::Sending { frame, .. }) = moment else { return true };
        let command = frame.message().command();
        match self {
            What::Damage(damage) => damage.fits(frame),
            What::Answer(Answer::Refuse { .. }) => command != CommandType::Heartbeat,
            What::Answer(Answer::RetryLogon { .. }) => command == CommandType::Logon,
            _ => true,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.what, self.when)?;
        if let Some(name) = &self.whom.client {
            write!(f, ", of client `{name}`")?;
        }
        if let Some(number) = self.whom.connection {
            write!(f, ", on connection {number}")?;
        }
        if let Some(number) = self.whom.listener {
            write!(f, ", on listener {number}")?;
        }
        Ok(())
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::End(Ending::Close) => f.write_str("close"),
            What::End(Ending::CloseUnanswered) => f.write_str("close unanswered"),
            What::End(Ending::Truncate(bytes)) => write!(f, "truncate to {bytes} bytes"),
            What::End(Ending::Reset) => f.write_str("reset"),
            What::Hamper { reading: Some(_), writing: Some(_) } => f.write_str("freeze"),
            What::Hamper { reading: Some(reading), .. } => reading.fmt(f),
            What::Hamper { writing: Some(writing), .. } => writing.fmt(f),
            What::Hamper { .. } => Ok(()),
            What::RefuseConnections => f.write_str("refuse connections"),
            What::Alter(Alteration::Delay) => f.write_str("delay"),
            What::Alter(Alteration::Swallow) => f.write_str("swallow"),
            What::Alter(Alteration::Repeat) => f.write_str("repeat"),
            What::Alter(Alteration::Insert(bytes)) => write!(f, "insert {} bytes", bytes.len()),
            What::Alter(Alteration::Replace(bytes)) => write!(f, "replace by {} bytes", bytes.len()),
            What::Alter(Alteration::Swap) => f.write_str("swap"),
            What::Damage(damage) => write!(f, "damage ({damage:?})"),
            What::Answer(Answer::Refuse { reason }) => write!(f, "refuse with `{reason}`"),
            What::Answer(Answer::RetryLogon { user_id, .. }) => write!(f, "retry logon as `{user_id}`"),
        }
    }
}

/// Shows no password.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Refuse { reason } => f.debug_struct("Refuse").field("reason", reason).finish(),
            Answer::RetryLogon { user_id, .. } => {
                f.debug_struct("RetryLogon").field("user_id", user_id).finish_non_exhaustive()
            }
        }
    }
}
