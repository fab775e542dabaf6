//! How a queue is configured (Q-1).

use std::time::Duration;

use crate::testing::topic::Expiration;

/// Which of several subscriptions with room gets the next message of a queue.
///
/// ```
/// use amps_client::testing::{Fairness, Server, Topic};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder().topic(Topic::queue("jobs").fairness(Fairness::RoundRobin)).start()?;
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fairness {
    /// The one that has least to do: the smallest part of its backlog taken. The default.
    #[default]
    Proportional,
    /// Each in its turn.
    RoundRobin,
    /// The first one that is found.
    Fast,
}

/// Who may acknowledge a message of a queue that is leased to a subscription.
///
/// ```
/// use amps_client::testing::{Leasing, Server, Topic};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::builder().topic(Topic::queue("jobs").leasing(Leasing::Strict)).start()?;
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Leasing {
    /// Every client, also one whose lease has ended. The default.
    #[default]
    Sublet,
    /// The client that has the lease. A message that nobody has may be acknowledged by every client.
    Strict,
}

/// The settings of one queue.
#[derive(Debug, Clone)]
pub(crate) struct QueueRules {
    /// How long a subscription has a message for itself; `None`: until it ends.
    pub(crate) lease: Option<Duration>,
    pub(crate) max_per_subscription_backlog: u64,
    /// How many messages may be leased at a time, to all subscriptions together.
    pub(crate) max_backlog: Option<u64>,
    pub(crate) fairness: Fairness,
    pub(crate) leasing: Leasing,
    /// 0: any number.
    pub(crate) max_deliveries: u32,
    /// 0: any number.
    pub(crate) max_cancels: u32,
    pub(crate) expiration: Expiration,
}

impl Default for QueueRules {
    fn default() -> QueueRules {
        QueueRules {
            lease: None,
            max_per_subscription_backlog: 1,
            max_backlog: None,
            fairness: Fairness::default(),
            leasing: Leasing::default(),
            max_deliveries: 0,
            max_cancels: 0,
            expiration: Expiration::PerMessage,
        }
    }
}
