//! The cases of the sweep, and what is to come of each.

use std::time::Duration;

use amps_client::ErrorKind;
use amps_client::testing::{Damage, Expectation, Fault, Frame, Gate, When};

/// The first and the last message that is replayed.
pub(super) const REPLAYED: [u64; 2] = [1, 5];
/// The subscriptions, in the order in which they are placed.
pub(super) const SUBSCRIPTIONS: [&str; 2] = ["first", "second"];
/// How late a late answer is.
const LATE: Duration = Duration::from_millis(30);
/// The message that there is no header, and no more than its length.
const GARBAGE: &[u8] = b"\0\0\0\x0cno header at";

/// What the client is doing when the fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Connect,
    Logon,
    HeartbeatStart,
    FirstPublish,
    LastPublish,
    FirstSubscription,
    LastSubscription,
}

impl Step {
    pub(super) const ALL: [Step; 7] = [
        Step::Connect,
        Step::Logon,
        Step::HeartbeatStart,
        Step::FirstPublish,
        Step::LastPublish,
        Step::FirstSubscription,
        Step::LastSubscription,
    ];

    /// The number of the message that is replayed in this step.
    pub(super) fn publish(self) -> Option<u64> {
        match self {
            Step::FirstPublish => Some(REPLAYED[0]),
            Step::LastPublish => Some(REPLAYED[1]),
            _ => None,
        }
    }

    fn subscription(self) -> Option<&'static str> {
        match self {
            Step::FirstSubscription => Some(SUBSCRIPTIONS[0]),
            Step::LastSubscription => Some(SUBSCRIPTIONS[1]),
            _ => None,
        }
    }

    /// When the server has the frame of this step before it.
    fn moment(self) -> When {
        match self {
            Step::Connect => When::accepted(),
            Step::Logon => When::receives("logon"),
            Step::HeartbeatStart => When::receives("heartbeat"),
            Step::FirstPublish | Step::LastPublish => {
                let id = self.publish().unwrap_or_default();
                When::receives(Expectation::command("publish").payload(order(id)))
            }
            Step::FirstSubscription | Step::LastSubscription => {
                let sub_id = self.subscription().unwrap_or_default();
                When::receives(Expectation::command("subscribe").header("sub_id", sub_id))
            }
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    Close,
    Reset,
    Silence,
    HalfFrame,
    Garbage,
    Refusal,
    LateAnswer,
}

impl Trouble {
    pub(super) const ALL: [Trouble; 7] = [
        Trouble::Close,
        Trouble::Reset,
        Trouble::Silence,
        Trouble::HalfFrame,
        Trouble::Garbage,
        Trouble::Refusal,
        Trouble::LateAnswer,
    ];
}

/// Who makes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// An `HAClient` that has lost its connection, on its receive thread.
    Reconnecting,
    /// An `HAClient` that was closed, on the thread of the application.
    Connecting,
    /// The disconnect handler of a plain client, which has a subscription manager.
    Handler,
}

impl Who {
    pub(super) const ALL: [Who; 3] = [Who::Reconnecting, Who::Connecting, Who::Handler];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Case {
    pub(super) step: Step,
    pub(super) trouble: Trouble,
    pub(super) who: Who,
}

/// Every combination that there can be. A heartbeat is not answered, so that it cannot be refused.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for step in Step::ALL {
        for trouble in Trouble::ALL {
            if (step, trouble) != (Step::HeartbeatStart, Trouble::Refusal) {
                cases.extend(Who::ALL.map(|who| Case { step, trouble, who }));
            }
        }
    }
    cases
}

impl Case {
    /// The fault, to strike once on each server. A refused connection is no fault of a server that is there.
    pub(super) fn fault(self) -> Option<Fault> {
        let moment = self.step.moment();
        Some(match self.trouble {
            Trouble::Close => Fault::close().when(moment),
            Trouble::Reset => Fault::reset().when(moment),
            Trouble::Silence => Fault::freeze().when(moment),
            Trouble::HalfFrame if self.step == Step::Connect => Fault::truncate(2).when(moment),
            Trouble::HalfFrame => Fault::truncate(10).when(moment),
            Trouble::Garbage if self.step == Step::Connect => Fault::insert(GARBAGE).when(moment),
            Trouble::Garbage => Fault::damage(Damage::UnclosedHeader).when(moment),
            Trouble::Refusal => match self.step {
                Step::Connect => return None,
                Step::Logon => Fault::refuse("name in use").when(moment),
                _ => Fault::refuse("not entitled").when(moment),
            },
            Trouble::LateAnswer => self.late_answer(),
        })
    }

    fn late_answer(self) -> Fault {
        let late = match self.step {
            Step::Connect => Fault::freeze().when(self.step.moment()),
            Step::Logon => Fault::delay().when(When::at(Gate::BeforeLogonAck)),
            Step::HeartbeatStart => Fault::delay().when(self.step.moment()),
            Step::FirstPublish | Step::LastPublish => Fault::delay().when(When::at(Gate::BeforePersistedAck)),
            Step::FirstSubscription | Step::LastSubscription => {
                let sub_id = self.step.subscription();
                let answer =
                    move |frame: &Frame| frame.header("c") == Some("ack") && frame.header("sub_id") == sub_id;
                Fault::delay().when(When::sends(answer))
            }
        };
        late.lasting(LATE)
    }

    /// What whoever chooses the server is told of the attempt; `None` if the attempt succeeds all the same.
    pub(super) fn failure(self) -> Option<ErrorKind> {
        match (self.trouble, self.step) {
            (Trouble::LateAnswer, _) => None,
            (Trouble::Refusal, Step::Connect) => Some(ErrorKind::ConnectionRefused),
            (Trouble::Refusal, Step::Logon) => Some(ErrorKind::NameInUse),
            (Trouble::Refusal, Step::FirstSubscription | Step::LastSubscription) => {
                Some(ErrorKind::NotEntitled)
            }
            (Trouble::Refusal, _) => None,
            (Trouble::Silence, _) => Some(ErrorKind::TimedOut),
            _ => Some(ErrorKind::Disconnected),
        }
    }

    /// The message that the server refuses to keep.
    pub(super) fn refused(self) -> Option<u64> {
        self.step.publish().filter(|_| self.trouble == Trouble::Refusal)
    }
}

/// The payload of a message.
pub(super) fn order(id: u64) -> String {
    format!(r#"{{"id":{id}}}"#)
}
