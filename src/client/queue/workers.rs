//! A pool of threads that work on the messages of one queue subscription.
//!
//! The workers take turns at the stream: whoever has the turn waits for the next message, passes the turn on, and works on
//! the message. So there is no thread in between, and what no worker has begun waits in the stream, which is bounded.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::AckOption;
use crate::callbacks::{Origin, Outcome};
use crate::client::execute::{Wanted, place, unanswered};
use crate::client::registry::contain;
use crate::client::worker::Worker;
use crate::client::{Client, DROP_LIMIT};
use crate::command::Command;
use crate::error::{Error, ErrorKind, HandlerError, Result};
use crate::message::Message;
use crate::stream::{End, MessageStream, StreamQueue};
use crate::wire::AckType;

/// Works on the messages of a queue, on several threads at once.
///
/// Runs on a thread of [`QueueWorkers`], outside of the receive thread: it may take its time, and call whatever it likes,
/// waiting calls of the same client included. When it returns without an error the message is acknowledged. After an error
/// or a panic it is given back, so it is delivered again, here or to another consumer, and the
/// [`ExceptionListener`](crate::ExceptionListener) is told. The thread goes on in any case.
///
/// ```
/// use amps_client::{Message, QueueHandler};
///
/// fn takes(_: impl QueueHandler) {}
/// takes(|job: &Message| println!("{}", job.data().len()));
/// takes(|job: &Message| job.data_str().map(drop));
/// ```
pub trait QueueHandler: Send + Sync {
    /// Works on one message. It may come a second time.
    ///
    /// # Errors
    ///
    /// Whatever went wrong: the message is given back.
    fn on_message(&self, message: &Message) -> Result<(), HandlerError>;
}

impl<F, R> QueueHandler for F
where
    F: Fn(&Message) -> R + Send + Sync,
    R: Outcome,
{
    fn on_message(&self, message: &Message) -> Result<(), HandlerError> {
        self(message).into_result()
    }
}

/// Threads that work on the messages of a queue, and acknowledge each when it is done.
///
/// Each thread takes one message after the other and calls the [`QueueHandler`]. On an
/// [`HAClient`](crate::HAClient) they go on over a failover; on a plain client they end with the connection. A message that
/// has not been begun when its connection is lost is left alone, because the server delivers it again. Acknowledgements are collected as [`Client::set_ack_batch_size`] says;
/// [auto-ack](Client::set_auto_ack) does not concern them.
///
/// The threads are named `amps-queue-`, the client's name, and a number from 1. [`shutdown`](QueueWorkers::shutdown) ends
/// them in good order. Dropping the pool ends it within 100 ms: no further message is begun, and the server takes back
/// what is not done. A pool keeps its client alive. Close the client after the pool: acknowledgements have nowhere to go
/// then.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{Client, Message, QueueWorkers};
/// use std::time::Duration;
///
/// # fn main() -> amps_client::Result<()> {
/// # let server = Server::quick()?;
/// # let client = Client::builder("digger").build()?;
/// # client.connect(&server.uri("json"))?;
/// # client.logon()?;
/// let work = |job: &Message| job.data_str().map(|text| println!("{text}")); // an error gives it back
/// let workers = QueueWorkers::builder("queue/jobs").workers(4).max_backlog(20).start(&client, work)?;
/// # client.publish("queue/jobs", "dig")?;
/// # let acked = |server: &Server| server.queue("queue/jobs").is_some_and(|queue| queue.acked == 1);
/// # server.wait_for(acked, Duration::from_secs(5))?;
/// // … until it is time to go:
/// workers.shutdown(Duration::from_secs(10))?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it ends the workers"]
pub struct QueueWorkers {
    pool: Arc<Pool>,
    threads: Vec<Worker>,
}

/// What the workers share.
struct Pool {
    client: Client,
    sub_id: String,
    /// Held by the one worker whose turn it is, and while it waits for a message too: nobody else needs it meanwhile.
    turn: Mutex<MessageStream>,
    queue: Arc<StreamQueue>,
    handler: Box<dyn QueueHandler>,
    /// Nothing comes a second time, so that a lost lease is no reason to leave a message alone.
    at_most_once: bool,
    /// No further message is begun.
    stopped: AtomicBool,
    /// Why the stream has ended, if it was no orderly end.
    failure: Mutex<Option<Error>>,
}

impl QueueWorkers {
    /// Starts describing a pool for the messages of this topic.
    pub fn builder(topic: impl Into<String>) -> QueueWorkersBuilder {
        QueueWorkersBuilder {
            command: Command::subscribe(topic),
            workers: DEFAULT_WORKERS,
            max_backlog: None,
            at_most_once: false,
            options: String::new(),
        }
    }

    /// The id of the subscription.
    pub fn sub_id(&self) -> &str {
        &self.pool.sub_id
    }

    /// True while at least one worker runs. Never blocks.
    pub fn is_running(&self) -> bool {
        self.threads.iter().any(|thread| !thread.has_ended())
    }

    /// Waits until the workers end by themselves: because the client was closed, the subscription ended, or, on a plain
    /// client, the connection was lost. Not to be called by a worker.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ErrorKind::Disconnected): the connection was lost.
    pub fn join(self) -> Result<()> {
        self.wait(None);
        let failure = self.pool.failure.lock().take();
        failure.map_or(Ok(()), Err)
    }

    /// Ends the pool in good order: no more messages are taken in, those that have arrived are worked on, the last
    /// acknowledgements are sent, the subscription is ended, and the server is given time to process that. When it returns
    /// without an error nothing that was done will come again.
    ///
    /// Blocks for at most about `limit`. What is not begun by then is not begun any more, and the server takes it back. A
    /// handler that runs for longer is left alone: its thread ends with it, and its acknowledgement may come too late. Not to
    /// be called by a worker, on the receive thread or inside a state listener.
    ///
    /// # Errors
    ///
    /// * [`TimedOut`](ErrorKind::TimedOut): handlers were still running, or the server did not answer.
    /// * [`Disconnected`](ErrorKind::Disconnected): there is no connection: what was done may come again.
    /// * [`Usage`](ErrorKind::Usage): called where nothing may wait. The pool ends as if it were dropped.
    pub fn shutdown(self, limit: Duration) -> Result<()> {
        let core = self.pool.client.core();
        core.refuse_to_hang("shutdown")?;
        let start = Instant::now();
        self.pool.queue.finish(End::Complete);
        self.wait(Some(limit));
        let busy = self.end();
        if busy > 0 {
            let text = format!("{busy} workers were still busy after {limit:?}");
            return Err(Error::new(ErrorKind::TimedOut, text).with_sub_id(self.sub_id()));
        }
        if !core.is_connected() {
            let text = "there was no connection when the workers ended: what they did may come again";
            return Err(Error::new(ErrorKind::Disconnected, text).with_sub_id(self.sub_id()));
        }
        let left = limit.saturating_sub(start.elapsed()).max(LAST_ANSWER);
        let flush = Command::flush().ack_type(AckType::PROCESSED).timeout(left);
        place(core, flush, None, Wanted::default()).map(drop)
    }

    /// Ends what there is to end, without waiting. Returns how many workers are still busy.
    fn end(&self) -> usize {
        self.pool.stopped.store(true, Ordering::Release);
        self.pool.queue.finish(End::Complete);
        self.pool.leave();
        self.threads.iter().filter(|thread| !thread.has_ended()).count()
    }

    fn wait(&self, limit: Option<Duration>) {
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.threads.iter().for_each(|thread| thread.wait(left()));
    }
}

/// How long the last answer of a shutdown is waited for, however little is left of the limit.
const LAST_ANSWER: Duration = Duration::from_millis(100);

impl Drop for QueueWorkers {
    fn drop(&mut self) {
        self.end();
        self.wait(Some(DROP_LIMIT));
    }
}

impl fmt::Debug for QueueWorkers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueWorkers")
            .field("sub_id", &self.sub_id())
            .field("workers", &self.threads.len())
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

/// Describes a pool of [`QueueWorkers`]; made by [`QueueWorkers::builder`].
///
/// ```
/// use amps_client::QueueWorkers;
/// use std::time::Duration;
///
/// let builder = QueueWorkers::builder("queue/jobs")
///     .workers(8)
///     .max_backlog(100)
///     .filter("/region = 'EMEA'")
///     .timeout(Duration::from_secs(5));
/// # let _ = builder;
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `start`"]
pub struct QueueWorkersBuilder {
    command: Command,
    workers: usize,
    max_backlog: Option<u32>,
    at_most_once: bool,
    options: String,
}

/// So many messages are worked on at a time unless told otherwise.
const DEFAULT_WORKERS: usize = 4;

impl QueueWorkersBuilder {
    /// How many threads work, and so how many messages at a time. Default: 4.
    pub fn workers(mut self, count: usize) -> QueueWorkersBuilder {
        self.workers = count;
        self
    }

    /// How many messages the server may hand out before the first is acknowledged: those that are worked on, those that
    /// wait, and those whose acknowledgements are being collected. The server may grant less. Default: twice the number of
    /// workers, so that there is a next message at hand for each.
    pub fn max_backlog(mut self, messages: u32) -> QueueWorkersBuilder {
        self.max_backlog = Some(messages);
        self
    }

    /// Whether the queue removes messages when it delivers them, so that none comes a second time: then those are worked on
    /// too that arrived over a connection that is gone by now. Default: false.
    pub fn at_most_once(mut self, at_most_once: bool) -> QueueWorkersBuilder {
        self.at_most_once = at_most_once;
        self
    }

    /// Which messages: a content filter. Default: all.
    pub fn filter(mut self, filter: impl Into<String>) -> QueueWorkersBuilder {
        self.command = self.command.filter(filter);
        self
    }

    /// Further options of the subscription: text, or [`SubscribeOptions`](crate::SubscribeOptions). Default: none.
    pub fn options(mut self, options: impl Into<String>) -> QueueWorkersBuilder {
        self.options = options.into();
        self
    }

    /// The id of the subscription. Default: a generated one.
    pub fn sub_id(mut self, id: impl Into<String>) -> QueueWorkersBuilder {
        self.command = self.command.sub_id(id);
        self
    }

    /// How long [`start`](QueueWorkersBuilder::start) may wait for the server's consent. Default: no limit.
    pub fn timeout(mut self, limit: Duration) -> QueueWorkersBuilder {
        self.command = self.command.timeout(limit);
        self
    }

    /// Subscribes and starts the workers. Blocks for the server's consent, within the
    /// [time limit](QueueWorkersBuilder::timeout).
    ///
    /// # Errors
    ///
    /// As for [`Client::execute`]; [`Usage`](ErrorKind::Usage) too for a pool without workers, and
    /// [`Connection`](ErrorKind::Connection) if a thread could not be started.
    pub fn start(self, client: &Client, handler: impl QueueHandler + 'static) -> Result<QueueWorkers> {
        if self.workers == 0 {
            return Err(Error::new(ErrorKind::Usage, "a pool of 0 workers would do nothing"));
        }
        let stream = client.execute(self.command())?.leaving_acks();
        let pool = Arc::new(Pool {
            client: client.clone(),
            sub_id: stream.sub_id().unwrap_or_default().to_owned(),
            queue: Arc::clone(stream.queue()),
            turn: Mutex::new(stream),
            handler: Box::new(handler),
            at_most_once: self.at_most_once,
            stopped: AtomicBool::new(false),
            failure: Mutex::default(),
        });
        let mut workers = QueueWorkers { pool, threads: Vec::new() };
        for number in 1..=self.workers {
            let pool = Arc::clone(&workers.pool);
            let name = format!("amps-queue-{}-{number}", client.name());
            let thread = Worker::spawn(name, move || pool.work()).map_err(|e| {
                Error::new(ErrorKind::Connection, "a queue worker cannot be started").with_source(e)
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    fn command(&self) -> Command {
        let twice = || u32::try_from(self.workers.saturating_mul(2)).unwrap_or(u32::MAX);
        let backlog = self.max_backlog.unwrap_or_else(twice);
        let more = if self.options.is_empty() { "" } else { "," };
        self.command.clone().options(format!("max_backlog={backlog}{more}{}", self.options))
    }
}

impl Pool {
    /// The life of one worker.
    fn work(&self) {
        while let Some(message) = self.next() {
            self.handle(message);
        }
    }

    fn next(&self) -> Option<Message> {
        let mut stream = self.turn.lock();
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        match stream.next()? {
            Ok(message) => Some(message).filter(|_| !self.stopped.load(Ordering::Acquire)),
            Err(error) => {
                *self.failure.lock() = Some(error);
                None
            }
        }
    }

    fn handle(&self, message: Message) {
        let handle = message.ack_handle();
        if !self.at_most_once && handle.as_ref().is_some_and(|handle| !handle.is_leased()) {
            // The server has taken it back, and delivers it again.
            return;
        }
        let outcome = contain(|| self.handler.on_message(&message));
        drop(message);
        if let Some(handle) = handle {
            handle.decide(outcome.is_err().then_some(AckOption::Cancel));
        }
        if let Err(failure) = outcome {
            let failure = failure.unhandled(Origin::MessageHandler).with_id(Some(&self.sub_id));
            self.client.core().registry.report(failure);
        }
    }

    /// Ends the subscription, if there still is one.
    fn leave(&self) {
        let core = self.client.core();
        if !core.routes.contains(&self.sub_id) {
            return;
        }
        core.end_subscriptions(&self.sub_id);
        if core.is_connected()
            && let Err(error) = unanswered(core, Command::unsubscribe(self.sub_id.as_str()))
        {
            core.report(error, Origin::Unsubscribe);
        }
    }
}
