//! Consuming queues: telling the server what became of the messages it has leased (`resilience.md` section 11).
//!
//! ```text
//!  Message::ack, Client::ack, auto-ack ──► batches, by topic ──► one frame     when full, when old enough, on flush_acks,
//!                                                                               before an unsubscribe, on close
//!  cancel, expire ───────────────────────────────────────────► a frame of its own, at once
//! ```
//!
//! * [`batches`]: what waits, and until when. Pure.
//! * [`sending`]: when something is sent, and what becomes of it if it cannot be.
//! * [`handle`]: acknowledging a message through the client that received it.
//! * [`workers`]: threads that work on the messages of one subscription.

mod batches;
mod handle;
mod sending;
mod workers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use self::batches::{Batch, Batches};
pub use self::handle::AckHandle;
pub(crate) use self::handle::Source;
pub use self::workers::{QueueHandler, QueueWorkers, QueueWorkersBuilder};
use super::Client;
use crate::error::{Error, ErrorKind, Result};

/// What becomes of a queue message that is not simply acknowledged.
///
/// ```
/// use amps_client::{AckOption, Message, Result};
///
/// fn judge(order: &Message) -> Result<()> {
///     match order.data_str() {
///         Ok(_) => order.ack(),
///         Err(_) => order.ack_with(AckOption::Expire), // nobody will ever be able to read it
///     }
/// }
/// # let _ = judge;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AckOption {
    /// Gives it back: the server delivers it again, to this consumer or to another one.
    Cancel,
    /// Removes it from the queue as if it had expired: nobody gets it any more.
    Expire,
}

impl AckOption {
    fn name(self) -> &'static str {
        match self {
            AckOption::Cancel => "cancel",
            AckOption::Expire => "expire",
        }
    }
}

/// # Queues
///
/// A message from a queue is leased: the server gives it to one consumer, and takes it back if the lease ends before it is
/// acknowledged, or the subscription, or the connection. So a message may come twice, here or elsewhere, and
/// whoever works on it must bear that. How many messages a subscription may have at a time is its backlog, the option
/// [`max_backlog`](crate::SubscribeOptions::max_backlog).
///
/// Acknowledge with [`Message::ack`](crate::Message::ack), with an [`AckHandle`] on another thread, or have it done:
/// [`set_auto_ack`](Client::set_auto_ack), [`QueueWorkers`]. Acknowledging never waits for an answer and is allowed on the
/// receive thread; it blocks, on other threads, only while the server does not take its bytes. Without a connection an
/// acknowledgement is kept and sent by the next logon; the server may have delivered the message again by then.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{Client, Command, SubscribeOptions};
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("digger").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// client.publish("queue/jobs", "dig")?;
///
/// let command = Command::subscribe("queue/jobs").options(SubscribeOptions::new().max_backlog(10));
/// let mut jobs = client.execute(command)?;
/// let job = jobs.next().unwrap()?;
/// assert!(job.lease_period().is_some()); // it is from a queue
/// println!("{}", job.data_str()?);
/// job.ack()?;
///
/// client.publish_flush()?; // the server has processed it
/// assert_eq!(server.queue("queue/jobs").unwrap().acked, 1);
/// # Ok(())
/// # }
/// ```
impl Client {
    /// Tells the server that the application is done with the messages of a topic that have these bookmarks, a comma list:
    /// they are removed from the queue. Usually [`Message::ack`](crate::Message::ack) is what you want.
    ///
    /// With a [batch size](Client::set_ack_batch_size) above 1 it is sent together with others. Does nothing for an empty
    /// bookmark, and while [auto-ack](Client::set_auto_ack) is on. Blocks, and where it may be called, as the
    /// [section](#queues) says.
    ///
    /// # Errors
    ///
    /// * [`Disconnected`](ErrorKind::Disconnected): there is no connection, and none is being made: the server has taken the
    ///   message back.
    /// * [`Store`](ErrorKind::Store), and [`Connection`](ErrorKind::Connection), "outbox full": it could not be sent now; it is
    ///   kept and tried again.
    /// * [`Usage`](ErrorKind::Usage): the topic or the bookmark holds a control character that cannot be sent.
    pub fn ack(&self, topic: &str, bookmark: &str) -> Result<()> {
        if self.auto_ack() {
            return Ok(());
        }
        self.core().acknowledge(topic, bookmark)
    }

    /// Gives messages back, or removes them as expired. It is sent at once, apart from acknowledgements that are collected.
    /// Usually [`Message::ack_with`](crate::Message::ack_with) is what you want.
    ///
    /// Does nothing for an empty bookmark, and while [auto-ack](Client::set_auto_ack) is on. Without a connection there is
    /// nothing to give back: the server has done that already.
    ///
    /// # Errors
    ///
    /// * [`Disconnected`](ErrorKind::Disconnected) and [`RetryOperation`](ErrorKind::RetryOperation): messages could not be
    ///   removed for want of a connection. They will come again.
    /// * [`Store`](ErrorKind::Store), [`Connection`](ErrorKind::Connection) and [`Usage`](ErrorKind::Usage) as for
    ///   [`ack`](Client::ack), but nothing is kept.
    pub fn ack_with(&self, topic: &str, bookmark: &str, option: AckOption) -> Result<()> {
        if self.auto_ack() {
            return Ok(());
        }
        self.core().settle(topic, bookmark, option, None)
    }

    /// Sends the acknowledgements that are being collected and waits until the server has processed them, without a time
    /// limit. Does nothing if there are none: where each is [sent at once](Client::set_ack_batch_size), as by default,
    /// [`publish_flush`](Client::publish_flush) is what waits for the server.
    ///
    /// Waits for the end of an outage first, as [`publish_flush`](Client::publish_flush) does. Not to be called on the
    /// receive thread or inside a state listener.
    ///
    /// # Errors
    ///
    /// As for [`flush_acks_timeout`](Client::flush_acks_timeout).
    pub fn flush_acks(&self) -> Result<()> {
        sending::flush_acks(self.core(), None)
    }

    /// The same for at most `limit`; acknowledgements that could not be sent meanwhile are kept.
    ///
    /// # Errors
    ///
    /// * [`TimedOut`](ErrorKind::TimedOut).
    /// * [`Disconnected`](ErrorKind::Disconnected): not connected, or lost while waiting.
    /// * [`Store`](ErrorKind::Store): the publish store refused them; they are kept.
    /// * [`Usage`](ErrorKind::Usage): called where nothing may wait.
    pub fn flush_acks_timeout(&self, limit: Duration) -> Result<()> {
        sending::flush_acks(self.core(), Some(limit))
    }

    /// Has every message from a queue acknowledged by the client itself: when its handler has returned without an error, or
    /// when the reader of its stream asks for the next message or lets go of the stream. A message whose handler fails or
    /// panics is given back at once. Default: off.
    ///
    /// Set it before subscribing: it counts for messages that are received from then on. While it is on,
    /// [`ack`](Client::ack) and its like do nothing. [`QueueWorkers`] are not concerned; they acknowledge on their own.
    ///
    /// ```
    /// # use amps_client::testing::Server;
    /// # use amps_client::{Client, Message};
    /// # use std::time::Duration;
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("digger").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// client.set_auto_ack(true);
    /// client.subscribe_async("queue/jobs", "", |job: &Message| job.data_str().map(|text| println!("{text}")))?;
    /// # client.publish("queue/jobs", "dig")?;
    /// # let acked = |server: &Server| server.queue("queue/jobs").is_some_and(|queue| queue.acked == 1);
    /// # server.wait_for(acked, Duration::from_secs(5))
    /// # }
    /// ```
    pub fn set_auto_ack(&self, on: bool) {
        self.core().queue_acks.automatic.store(on, Ordering::Release);
    }

    /// Whether [auto-ack](Client::set_auto_ack) is on.
    pub fn auto_ack(&self) -> bool {
        self.core().queue_acks.is_automatic()
    }

    /// How many acknowledgements of one topic are sent together. Default: 0, which like 1 means that each is sent at once.
    ///
    /// A larger number saves frames. It should not exceed half the backlog of the subscription, because the server sends
    /// nothing more while all of its backlog waits for acknowledgements that are still being collected. A subscription that
    /// is granted a smaller backlog lowers the number to that. Above 1 an [`ack_timeout`](Client::set_ack_timeout) of zero is
    /// set back to one second. What is full by the new number is sent at once.
    ///
    /// ```
    /// use amps_client::Client;
    /// use std::time::Duration;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let client = Client::builder("consumer").build()?;
    /// client.set_ack_batch_size(50);
    /// client.set_ack_timeout(Duration::from_millis(200))?;
    /// assert_eq!(client.ack_batch_size(), 50);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_ack_batch_size(&self, count: usize) {
        self.core().queue_acks.change(|batches| batches.set_size(count));
        self.core().send_full_acks();
    }

    /// The batch size that counts at present: [as set](Client::set_ack_batch_size), or lower.
    pub fn ack_batch_size(&self) -> usize {
        self.core().queue_acks.change(|batches| batches.size())
    }

    /// How long an acknowledgement waits for others at most. Default: one second.
    ///
    /// The receive thread looks for it after each read and every 100 milliseconds, so a handler that takes its time delays
    /// it.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) for zero with a [batch size](Client::set_ack_batch_size) above 1.
    pub fn set_ack_timeout(&self, limit: Duration) -> Result<()> {
        if self.core().queue_acks.change(|batches| batches.set_timeout(limit)) {
            return Ok(());
        }
        let size = self.ack_batch_size();
        let text = format!("with an ack timeout of 0 a batch of fewer than {size} would never be sent");
        Err(Error::new(ErrorKind::Usage, text))
    }

    /// What [`set_ack_timeout`](Client::set_ack_timeout) was set to.
    pub fn ack_timeout(&self) -> Duration {
        self.core().queue_acks.change(|batches| batches.timeout())
    }
}

/// The acknowledgements of one client that were not sent yet, and how they are sent.
#[derive(Debug, Default)]
pub(crate) struct QueueAcks {
    batches: Mutex<Batches>,
    /// Some wait. Kept beside them for the receive thread, which looks after each read.
    waiting: AtomicBool,
    automatic: AtomicBool,
    /// The client has logged on once. From then on nothing is sent over a connection before it has again.
    logs_on: AtomicBool,
    /// A handler is at work on a message that is acknowledged when it is done.
    delivering: Mutex<bool>,
    delivered: Condvar,
}

impl QueueAcks {
    /// True if the client acknowledges by itself.
    #[inline]
    pub(crate) fn is_automatic(&self) -> bool {
        self.automatic.load(Ordering::Acquire)
    }

    /// The client has logged on.
    pub(crate) fn logged_on(&self) {
        self.logs_on.store(true, Ordering::Release);
    }

    /// A handler is about to be called with a message that is acknowledged afterwards, while the guard lives.
    pub(crate) fn delivery(&self) -> Delivery<'_> {
        *self.delivering.lock() = true;
        Delivery { acks: self }
    }

    /// Waits for the message that is being worked on, so that its acknowledgement is not missed.
    fn await_delivery(&self, deadline: Instant) {
        self.delivered.wait_while_until(&mut self.delivering.lock(), |delivering| *delivering, deadline);
    }

    /// What could not be sent is forgotten: the server will deliver its messages again.
    pub(crate) fn clear(&self) {
        drop(self.take(Batches::take_all));
    }

    #[inline]
    fn are_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    /// Adds one. Returns its batch if that is full.
    fn add(&self, topic: &str, bookmark: &str) -> Option<Batch> {
        let now = Instant::now();
        self.change(|batches| batches.add(topic, bookmark, now))
    }

    fn take(&self, which: impl FnOnce(&mut Batches) -> Vec<Batch>) -> Vec<Batch> {
        if self.are_waiting() { self.change(which) } else { Vec::new() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Batches) -> T) -> T {
        let mut batches = self.batches.lock();
        let outcome = change(&mut batches);
        self.waiting.store(!batches.is_empty(), Ordering::Release);
        outcome
    }
}

/// While it lives, a message is being worked on and not acknowledged.
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    acks: &'a QueueAcks,
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        *self.acks.delivering.lock() = false;
        self.acks.delivered.notify_all();
    }
}
