//! The moments at which faults strike.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Gate;
use crate::testing::LOG;
use crate::testing::expectation::Expectation;
use crate::testing::frame::Frame;
use crate::testing::frames::Point;

/// The moment at which a [`Fault`](super::Fault) strikes a connection, or the frame that it strikes.
///
/// ```
/// use amps_client::testing::{Expectation, Frame, Gate, When};
///
/// let _ = When::receives("subscribe");
/// let _ = When::receives(Expectation::command("publish").header("s", "3"));
/// let _ = When::sends(|frame: &Frame| frame.header("a") == Some("persisted"));
/// let _ = When::at(Gate::BeforeGroupEnd);
/// let _ = When::frames_out(5).since_armed();
/// ```
#[derive(Debug, Clone)]
pub struct When {
    event: Event,
    since_armed: bool,
}

#[derive(Debug, Clone)]
enum Event {
    Now,
    Accepted,
    Receives(Expectation),
    Sends(Expectation),
    At(Gate),
    FramesIn(u64),
    FramesOut(u64),
    BytesIn(u64),
    BytesOut(u64),
}

impl When {
    /// At once, on the connections that are there. The default.
    pub fn now() -> When {
        When::new(Event::Now)
    }

    /// When a connection is accepted, from now on.
    ///
    /// For a fault of a frame: the next frame that leaves on a connection accepted from now on.
    pub fn accepted() -> When {
        When::new(Event::Accepted)
    }

    /// When a frame like this has come, before it is carried out.
    ///
    /// The predicate of an expectation runs on the thread that reads the connection.
    pub fn receives(expectation: impl Into<Expectation>) -> When {
        When::new(Event::Receives(expectation.into()))
    }

    /// When a frame like this is about to be sent.
    ///
    /// The predicate of an expectation runs on the thread that writes to the connection.
    pub fn sends(expectation: impl Into<Expectation>) -> When {
        When::new(Event::Sends(expectation.into()))
    }

    /// When the frame is about to be sent that this gate stands before.
    pub fn at(gate: Gate) -> When {
        When::new(Event::At(gate))
    }

    /// After so many frames have come on the connection since it was accepted, and were carried out.
    pub fn frames_in(frames: u64) -> When {
        When::new(Event::FramesIn(frames))
    }

    /// After so many frames have been sent on the connection since it was accepted.
    pub fn frames_out(frames: u64) -> When {
        When::new(Event::FramesOut(frames))
    }

    /// After so many bytes have come on the connection since it was accepted. Frames that end behind them are not
    /// carried out before it strikes.
    pub fn bytes_in(bytes: u64) -> When {
        When::new(Event::BytesIn(bytes))
    }

    /// After exactly so many bytes have been sent on the connection since it was accepted, be it within a frame.
    pub fn bytes_out(bytes: u64) -> When {
        When::new(Event::BytesOut(bytes))
    }

    /// Counts frames and bytes from the time at which the fault is armed. Without a count it means nothing.
    #[must_use]
    pub fn since_armed(mut self) -> When {
        self.since_armed = true;
        self
    }

    fn new(event: Event) -> When {
        When { event, since_armed: false }
    }

    pub(super) fn counts_since_armed(&self) -> bool {
        self.since_armed
    }

    /// True for the moments of incoming frames.
    pub(super) fn is_about_input(&self) -> bool {
        matches!(self.event, Event::Receives(_) | Event::FramesIn(_) | Event::BytesIn(_))
    }

    /// True for the moments of outgoing frames.
    pub(super) fn is_about_output(&self) -> bool {
        matches!(self.event, Event::Sends(_) | Event::At(_) | Event::FramesOut(_) | Event::BytesOut(_))
    }

    pub(super) fn is_now(&self) -> bool {
        matches!(self.event, Event::Now)
    }

    pub(super) fn is_count(&self) -> bool {
        matches!(
            self.event,
            Event::FramesIn(_) | Event::FramesOut(_) | Event::BytesIn(_) | Event::BytesOut(_)
        )
    }

    /// Whether a connection has come to this moment, and after how many bytes of the frame that is about to be sent.
    pub(super) fn has_come(&self, moment: &Moment<'_>, counts: Counts) -> Option<usize> {
        let within = |come: u64, n: u64, frame: usize| come < n && n - come < frame as u64;
        let come = match (&self.event, moment) {
            (Event::Now, Moment::Armed) | (Event::Accepted, Moment::Accepted) => true,
            (Event::Receives(wanted), Moment::Receiving { frame, .. }) => is_met(wanted, frame),
            (Event::Sends(wanted), Moment::Sending { frame, .. }) => is_met(wanted, frame),
            (Event::At(gate), Moment::Sending { point, .. }) => *point == Some(gate.point()),
            (Event::BytesIn(n), Moment::Receiving { size, .. }) => within(counts.bytes_in, *n, *size),
            (Event::BytesOut(n), Moment::Sending { size, .. }) if within(counts.bytes_out, *n, *size) => {
                return usize::try_from(*n - counts.bytes_out).ok();
            }
            (Event::FramesIn(n), Moment::Received | Moment::Accepted | Moment::Armed) => {
                counts.frames_in >= *n
            }
            (Event::BytesIn(n), Moment::Received | Moment::Accepted | Moment::Armed) => counts.bytes_in >= *n,
            (Event::FramesOut(n), Moment::Sent | Moment::Accepted | Moment::Armed) => counts.frames_out >= *n,
            (Event::BytesOut(n), Moment::Sent | Moment::Accepted | Moment::Armed) => counts.bytes_out >= *n,
            _ => false,
        };
        come.then_some(0)
    }

    /// Whether the frame of this moment is the one that a fault of a frame is to strike; `is_new` tells whether its
    /// connection was accepted after the fault was armed.
    pub(super) fn is_about(&self, moment: &Moment<'_>, counts: Counts, is_new: bool) -> bool {
        match &self.event {
            Event::Now => true,
            Event::Accepted => is_new,
            Event::FramesIn(n) => counts.frames_in >= *n,
            Event::FramesOut(n) => counts.frames_out >= *n,
            Event::BytesIn(n) => counts.bytes_in + moment.size() > *n,
            Event::BytesOut(n) => counts.bytes_out + moment.size() > *n,
            Event::Receives(_) | Event::Sends(_) | Event::At(_) => self.has_come(moment, counts).is_some(),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.event {
            Event::Now => f.write_str("now")?,
            Event::Accepted => f.write_str("when a connection is accepted")?,
            Event::Receives(wanted) => write!(f, "when {wanted} is received")?,
            Event::Sends(wanted) => write!(f, "when {wanted} is sent")?,
            Event::At(gate) => write!(f, "at {gate:?}")?,
            Event::FramesIn(n) => write!(f, "after {n} frames in")?,
            Event::FramesOut(n) => write!(f, "after {n} frames out")?,
            Event::BytesIn(n) => write!(f, "after {n} bytes in")?,
            Event::BytesOut(n) => write!(f, "after {n} bytes out")?,
        }
        if self.since_armed { f.write_str(" since it was armed") } else { Ok(()) }
    }
}

/// What is happening on a connection.
#[derive(Debug)]
pub(crate) enum Moment<'a> {
    /// A fault has just been armed.
    Armed,
    Accepted,
    /// A frame has come and is about to be carried out.
    Receiving {
        frame: &'a Frame,
        size: usize,
    },
    /// What has come so far was carried out.
    Received,
    /// A frame is about to be written.
    Sending {
        frame: &'a Frame,
        size: usize,
        point: Option<Point>,
        /// Its number in the queue.
        number: u64,
    },
    /// A frame has been written.
    Sent,
}

impl Moment<'_> {
    /// The size of its frame in bytes, the length prefix included.
    fn size(&self) -> u64 {
        match self {
            Moment::Receiving { size, .. } | Moment::Sending { size, .. } => *size as u64,
            _ => 0,
        }
    }
}

/// What went over a connection so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) frames_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_out: u64,
}

impl Counts {
    /// What went over it since then.
    pub(super) fn since(self, before: Counts) -> Counts {
        Counts {
            frames_in: self.frames_in.saturating_sub(before.frames_in),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            frames_out: self.frames_out.saturating_sub(before.frames_out),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
        }
    }
}

/// Asks the test, which may panic.
fn is_met(wanted: &Expectation, frame: &Frame) -> bool {
    catch_unwind(AssertUnwindSafe(|| wanted.is_met_by(frame))).unwrap_or_else(|_| {
        log::error!(target: LOG, "the predicate of a fault panicked; the frame is passed over");
        false
    })
}
