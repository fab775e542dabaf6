//! Pulling messages: a blocking iterator with bounded memory and a clear end.

mod conflated;
mod queue;

use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use queue::{Batch, Taken};
pub(crate) use queue::{Depth, End, Selection, StreamQueue};

use crate::client::{AckHandle, Core, some_waits_hang};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;

/// The messages of a subscription or a query, in order, as a blocking iterator.
///
/// `None` means that the stream has ended and nothing else. A query ends after its result and the last acknowledgement
/// that was asked for; a subscription ends when it is closed, when the client is closed or its last handle dropped, or
/// when the connection is lost. On a loss the messages already queued come first, then one
/// [`Disconnected`](ErrorKind::Disconnected) error, then `None`.
///
/// The stream is bounded, by default at 10,000 messages and 2 MiB of receive buffers kept alive, of which a message of a
/// quiet connection pins 4 KiB and a read of a busy one up to 256 KiB. When either bound is reached the client stops
/// reading from its connection until there is room; nothing is lost or reordered, heartbeats go on, and all other
/// subscriptions of the client wait as well. At least one message is always taken.
///
/// A stream may be read on any thread. Inside a handler and a state listener of the same client it gives what is there, and
/// a [`Usage`](ErrorKind::Usage) error where it would have to wait: nobody else could receive what it waits for. Dropping it
/// unsubscribes and discards what is queued.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{Client, ErrorKind};
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// let server = Server::quick()?;
/// let client = Client::builder("reader").build()?;
/// client.connect(&server.uri("json"))?;
/// client.logon()?;
/// let mut ticks = client.subscribe("ticks", "")?;
/// client.publish("ticks", "1")?;
/// client.publish("ticks", "2")?;
///
/// assert_eq!(ticks.next().unwrap()?.data(), b"1");
/// assert_eq!(ticks.next_timeout(Duration::from_secs(5)).unwrap()?.data(), b"2");
/// let nothing = ticks.try_next().unwrap().unwrap_err();
/// assert_eq!(nothing.kind(), ErrorKind::TimedOut); // nothing yet, and the stream goes on
/// ticks.close();
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a stream unsubscribes it"]
pub struct MessageStream {
    lease: Arc<Lease>,
    batch: Batch,
    timeout: Option<Duration>,
    /// The queue message that was read last, if it is to be acknowledged when the next one is asked for (Q-6).
    held: Option<AckHandle>,
    /// Something is held, or may have to be.
    holds: bool,
    /// Its reader acknowledges, whatever the client does.
    leaves_acks: bool,
}

/// What the handles on one stream share: when the last one goes, the stream is unsubscribed.
#[derive(Debug)]
pub(crate) struct Lease {
    queue: Arc<StreamQueue>,
    client: Weak<Core>,
    command_id: String,
    sub_id: Option<String>,
    query_id: Option<String>,
}

impl Lease {
    /// `ids` are those of the command, the subscription and the query.
    pub(crate) fn new(queue: Arc<StreamQueue>, client: Weak<Core>, ids: [Option<&str>; 3]) -> Lease {
        let [command_id, sub_id, query_id] = ids.map(|id| id.map(str::to_owned));
        Lease { queue, client, command_id: command_id.unwrap_or_default(), sub_id, query_id }
    }

    pub(crate) fn queue(&self) -> &Arc<StreamQueue> {
        &self.queue
    }

    pub(crate) fn sub_id(&self) -> Option<&str> {
        self.sub_id.as_deref()
    }

    pub(crate) fn query_id(&self) -> Option<&str> {
        self.query_id.as_deref()
    }

    /// Every id that may lead to the stream.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        [self.sub_id(), self.query_id(), Some(self.command_id.as_str())].into_iter().flatten()
    }

    /// Why waiting until this time for a message would wait in vain (T-6, S-3).
    fn refusal(&self, deadline: Option<Instant>) -> Option<Error> {
        let waits = deadline.is_none_or(|deadline| deadline > Instant::now());
        let client = self.client.upgrade().filter(|_| waits)?;
        client.refuse_to_hang("next").err()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let ended = self.queue.close();
        if let (false, Some(client)) = (ended, self.client.upgrade()) {
            client.release_stream(self);
        }
    }
}

impl MessageStream {
    pub(crate) fn new(lease: Arc<Lease>) -> MessageStream {
        MessageStream {
            lease,
            batch: Batch::default(),
            timeout: None,
            held: None,
            holds: false,
            leaves_acks: false,
        }
    }

    /// A stream without messages that has ended.
    pub(crate) fn ended(command_id: Option<&str>) -> MessageStream {
        let queue = Arc::new(StreamQueue::new(Depth::DEFAULT));
        queue.finish(End::Complete);
        MessageStream::new(Arc::new(Lease::new(queue, Weak::new(), [command_id, None, None])))
    }

    /// The same stream, whose reader acknowledges the messages of queues in any case.
    pub(crate) fn leaving_acks(mut self) -> MessageStream {
        self.leaves_acks = true;
        self
    }

    pub(crate) fn queue(&self) -> &Arc<StreamQueue> {
        self.lease.queue()
    }

    /// The next message if there is one already. Never blocks.
    ///
    /// `None` if the stream has ended.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if there is nothing yet; [`Disconnected`](ErrorKind::Disconnected) once, if the
    /// stream ended because the connection was lost.
    pub fn try_next(&mut self) -> Option<Result<Message>> {
        self.next_until(Some(Instant::now()))
    }

    /// The next message, waiting for at most `limit`.
    ///
    /// `None` if the stream has ended.
    ///
    /// # Errors
    ///
    /// [`TimedOut`](ErrorKind::TimedOut) if nothing came; [`Disconnected`](ErrorKind::Disconnected) once, if the stream
    /// ended because the connection was lost; [`Usage`](ErrorKind::Usage) where nothing may wait.
    pub fn next_timeout(&mut self, limit: Duration) -> Option<Result<Message>> {
        self.next_until(Instant::now().checked_add(limit))
    }

    /// Iterates without consuming the stream, as `by_ref` does; blocks as [`next`](Iterator::next) does.
    ///
    /// ```
    /// # use amps_client::{testing::Server, Client};
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("reader").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// let mut ticks = client.subscribe("ticks", "")?;
    /// for n in ["1", "2", "3"] {
    ///     client.publish("ticks", n)?;
    /// }
    /// assert_eq!(ticks.iter().take(2).count(), 2); // and the subscription goes on
    /// assert_eq!(ticks.next().unwrap()?.data(), b"3");
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&mut self) -> impl Iterator<Item = Result<Message>> + '_ {
        self
    }

    #[inline]
    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Result<Message>> {
        match self.batch.take() {
            Some(message) if !self.holds => Some(Ok(message)),
            taken => self.go_on(taken, deadline),
        }
    }

    /// Acknowledges what was read before, if that is to be done, and goes on with what was taken from the batch or with
    /// another batch.
    fn go_on(&mut self, taken: Option<Message>, deadline: Option<Instant>) -> Option<Result<Message>> {
        self.acknowledge();
        let next = match taken {
            Some(message) => Some(Ok(message)),
            None => self.refill(deadline),
        };
        self.holds = self.batch.is_leased() && !self.leaves_acks;
        if let (true, Some(Ok(message))) = (self.holds, &next) {
            self.held = message.ack_handle();
        }
        next
    }

    fn acknowledge(&mut self) {
        if let Some(handle) = self.held.take() {
            handle.decide(None);
        }
    }

    fn refill(&mut self, deadline: Option<Instant>) -> Option<Result<Message>> {
        let used = std::mem::take(&mut self.batch);
        let refusal = if some_waits_hang() { self.lease.refusal(deadline) } else { None };
        let deadline = if refusal.is_some() { Some(Instant::now()) } else { deadline };
        match self.lease.queue.take(used, deadline) {
            Taken::Batch(batch) => {
                self.batch = batch;
                self.batch.take().map(Ok)
            }
            Taken::One(message) => Some(Ok(message)),
            Taken::Nothing => Some(Err(refusal.unwrap_or_else(nothing_yet))),
            Taken::Failed(error) => Some(Err(error)),
            Taken::Ended => None,
        }
    }

    /// How long [`next`](Iterator::next) waits before it gives a [`TimedOut`](ErrorKind::TimedOut) error, after which the
    /// stream goes on. Default: for ever.
    ///
    /// ```
    /// # use amps_client::{testing::Server, Client, ErrorKind};
    /// # use std::time::Duration;
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("reader").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// let mut ticks = client.subscribe("ticks", "")?;
    /// ticks.set_timeout(Some(Duration::from_millis(10)));
    /// assert_eq!(ticks.next().unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    /// client.publish("ticks", "1")?;
    /// client.publish_flush()?;
    /// # ticks.set_timeout(Some(Duration::from_secs(5)));
    /// assert_eq!(ticks.next().unwrap()?.data(), b"1");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_timeout(&mut self, limit: Option<Duration>) {
        self.timeout = limit;
    }

    /// What [`set_timeout`](MessageStream::set_timeout) was set to.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Bounds the stream: at most so many messages, and so many bytes of receive buffers kept alive. Default:
    /// [what the client says](crate::Client::set_default_max_depth). Never blocks; what is queued already stays.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if either is 0.
    pub fn set_max_depth(&self, messages: usize, bytes: usize) -> Result<()> {
        self.lease.queue.set_depth(checked_depth(messages, bytes)?);
        Ok(())
    }

    /// Takes the bounds away: a reader that is too slow then costs memory without limit.
    pub fn set_unbounded(&self) {
        self.lease.queue.set_depth(Depth::UNBOUNDED);
    }

    /// The bounds in messages and bytes; `None` if there are none.
    pub fn max_depth(&self) -> Option<(usize, usize)> {
        let depth = self.lease.queue.depth();
        (depth != Depth::UNBOUNDED).then_some((depth.messages, depth.bytes))
    }

    /// How many messages wait to be read.
    pub fn depth(&self) -> usize {
        self.lease.queue.len() + self.batch.len()
    }

    /// From now on a message takes the place of a waiting one with the same topic and SOW key, so that a slow reader sees
    /// the newest of each key only. Messages without a key are queued as before. Never blocks. There is no way back. Not for
    /// the messages of a queue: those of a conflated stream are not acknowledged by themselves.
    ///
    /// On a bookmark subscription of a client with a [bookmark store](crate::BookmarkStore) nobody is done with a message that
    /// was replaced: it stays outstanding unless the application [discards it by
    /// number](crate::BookmarkStore::discard_seq). Until then it takes memory, holds back where the subscription goes on,
    /// and comes again after a restart, and perhaps after a loss. What comes again may be older than what was read and
    /// discarded; it never takes the place of a newer message that is still waiting.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if the stream is not a subscription.
    ///
    /// ```
    /// # use amps_client::{testing::Server, Client, ErrorKind};
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("glances").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// let quotes = client.subscribe("sow/quotes", "")?;
    /// quotes.conflate()?;
    ///
    /// let query = client.sow("sow/quotes", "")?;
    /// assert_eq!(query.conflate().unwrap_err().kind(), ErrorKind::Usage);
    /// # Ok(())
    /// # }
    /// ```
    pub fn conflate(&self) -> Result<()> {
        if self.lease.sub_id.is_none() {
            return Err(Error::new(ErrorKind::Usage, "only a subscription can be conflated"));
        }
        self.lease.queue.conflate();
        Ok(())
    }

    /// The id of the subscription, if it is one.
    pub fn sub_id(&self) -> Option<&str> {
        self.lease.sub_id.as_deref()
    }

    /// The id of the command that the stream is for; empty if it has none.
    pub fn command_id(&self) -> &str {
        &self.lease.command_id
    }

    /// The id of the query, if it is one.
    pub fn query_id(&self) -> Option<&str> {
        self.lease.query_id.as_deref()
    }

    /// How many failovers this stream went through: 0 on a plain client, where a stream ends with its connection. A
    /// failover is counted before the first message that comes behind it; messages from before may still be queued then.
    pub fn reconnects(&self) -> u64 {
        self.lease.queue.reconnects()
    }

    /// Unsubscribes and discards what is queued; the same as dropping the stream. Another handle on the same stream keeps
    /// it alive. Never waits for an answer, and is allowed on the receive thread; a failure goes to the exception listener.
    pub fn close(self) {}
}

impl Iterator for MessageStream {
    type Item = Result<Message>;

    /// The next message. Blocks until there is one, until the stream ends, or for the
    /// [timeout](MessageStream::set_timeout).
    #[inline]
    fn next(&mut self) -> Option<Result<Message>> {
        match self.batch.take() {
            Some(message) if !self.holds => Some(Ok(message)),
            taken => self.go_on(taken, self.timeout.and_then(|limit| Instant::now().checked_add(limit))),
        }
    }
}

impl Drop for MessageStream {
    /// Unsubscribes, as [`close`](MessageStream::close) does. With [auto-ack](crate::Client::set_auto_ack) the queue message
    /// that was read last counts as dealt with, unless the thread is panicking.
    fn drop(&mut self) {
        if !thread::panicking() {
            self.acknowledge();
        }
    }
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream")
            .field("command_id", &self.command_id())
            .field("sub_id", &self.sub_id())
            .field("query_id", &self.query_id())
            .field("depth", &self.depth())
            .finish()
    }
}

/// Refuses a bound that nothing could pass.
pub(crate) fn checked_depth(messages: usize, bytes: usize) -> Result<Depth> {
    if messages == 0 || bytes == 0 {
        let text =
            format!("a stream of at most {messages} messages and {bytes} bytes could not hold a message");
        return Err(Error::new(ErrorKind::Usage, text));
    }
    Ok(Depth { messages, bytes })
}

/// Polling a stream must not allocate.
fn nothing_yet() -> Error {
    static NOTHING: LazyLock<Error> =
        LazyLock::new(|| Error::new(ErrorKind::TimedOut, "no message on the stream within the time allowed"));
    NOTHING.clone()
}
