//! Acknowledging a message through the client that has received it.

use std::fmt;
use std::sync::{Arc, Weak};

use super::AckOption;
use crate::client::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::block::Receiver;

/// The connection that messages are received over.
#[derive(Debug)]
pub(crate) struct Source {
    client: Weak<Core>,
    version: u64,
}

impl Source {
    /// The connection of this version.
    pub(crate) fn connection(client: &Core, version: u64) -> Receiver {
        Arc::new(Source { client: Weak::clone(&client.me), version })
    }

    /// Where a message comes from; `None` if it was not received by a client.
    fn of(message: &Message) -> Option<Arc<Source>> {
        Arc::clone(message.block().receiver()?).downcast().ok()
    }

    /// The application says what became of a message; without an option, that it is done with it.
    fn tell(&self, topic: &str, bookmark: &str, option: Option<AckOption>) -> Result<()> {
        let client = self.client()?;
        if client.queue_acks.is_automatic() {
            return Ok(());
        }
        self.decide(&client, topic, bookmark, option)
    }

    fn decide(&self, client: &Core, topic: &str, bookmark: &str, option: Option<AckOption>) -> Result<()> {
        match option {
            None => client.acknowledge(topic, bookmark),
            Some(option) => client.settle(topic, bookmark, option, Some(self.version)),
        }
    }

    fn client(&self) -> Result<Arc<Core>> {
        let gone = || Error::new(ErrorKind::Disconnected, "the client that received the message is gone");
        self.client.upgrade().ok_or_else(gone)
    }
}

/// # Acknowledging
///
/// A message from a queue is to be acknowledged; see the [client](crate::Client#queues).
impl Message {
    /// Tells the server that the application is done with this message of a queue, through the client that has received it.
    ///
    /// Otherwise as [`Client::ack`](crate::Client::ack); does nothing for a message that is not from a queue.
    ///
    /// # Errors
    ///
    /// As for [`Client::ack`](crate::Client::ack). [`Disconnected`](ErrorKind::Disconnected) too if the client does not exist
    /// any more.
    pub fn ack(&self) -> Result<()> {
        self.tell(None)
    }

    /// Gives this message of a queue back, or removes it as expired, through the client that has received it.
    ///
    /// Otherwise as [`Client::ack_with`](crate::Client::ack_with); does nothing for a message that is not from a queue. To
    /// give back a message that came over an earlier connection does nothing either: the server has taken that back itself.
    ///
    /// # Errors
    ///
    /// As for [`Client::ack_with`](crate::Client::ack_with). [`Disconnected`](ErrorKind::Disconnected) too if the client does
    /// not exist any more.
    pub fn ack_with(&self, option: AckOption) -> Result<()> {
        self.tell(Some(option))
    }

    /// What another thread needs to acknowledge this message when it is done, and nothing else of it. `None` if the message
    /// is not from a queue.
    ///
    /// See [`AckHandle`].
    pub fn ack_handle(&self) -> Option<AckHandle> {
        let (topic, bookmark) = self.leased()?;
        let lease = Lease { source: Source::of(self)?, topic: topic.into(), bookmark: bookmark.into() };
        Some(AckHandle { lease: Arc::new(lease) })
    }

    fn tell(&self, option: Option<AckOption>) -> Result<()> {
        match (self.leased(), Source::of(self)) {
            (Some((topic, bookmark)), Some(source)) => source.tell(topic, bookmark, option),
            _ => Ok(()),
        }
    }

    /// Topic and bookmark, if it is from a queue.
    fn leased(&self) -> Option<(&str, &str)> {
        self.lease_period()?;
        Some((self.topic()?, self.bookmark()?))
    }
}

/// Acknowledges one message of a queue, on any thread, at any time.
///
/// Made by [`Message::ack_handle`]. It holds topic and bookmark of the message: neither its payload nor the receive buffer,
/// and it does not keep the client alive. It may be cloned and sent to other threads. To use it twice is harmless.
///
/// ```
/// use amps_client::testing::Server;
/// use amps_client::{AckHandle, AckOption, Client, HandlerError, Message};
/// use std::sync::mpsc;
/// use std::thread;
///
/// # fn main() -> amps_client::Result<()> {
/// # let server = Server::quick()?;
/// # let client = Client::builder("digger").build()?;
/// # client.connect(&server.uri("json"))?;
/// # client.logon()?;
/// let (sender, jobs) = mpsc::channel::<(u32, AckHandle)>();
/// client.subscribe_async("queue/jobs", "", move |job: &Message| -> Result<(), HandlerError> {
///     if let Some(handle) = job.ack_handle() {
///         sender.send((job.data_str()?.parse()?, handle))?;
///     }
///     Ok(())
/// })?;
/// let worker = thread::spawn(move || {
///     let (number, handle) = jobs.recv().unwrap();
///     if number > 0 { handle.ack() } else { handle.ack_with(AckOption::Cancel) }
/// });
/// # client.publish("queue/jobs", "7")?;
/// worker.join().unwrap()?;
/// # client.publish_flush()?;
/// # assert_eq!(server.queue("queue/jobs").unwrap().acked, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AckHandle {
    lease: Arc<Lease>,
}

struct Lease {
    source: Arc<Source>,
    topic: Box<str>,
    bookmark: Box<str>,
}

impl AckHandle {
    /// Tells the server that the application is done with the message.
    ///
    /// # Errors
    ///
    /// As for [`Message::ack`].
    pub fn ack(&self) -> Result<()> {
        self.lease.source.tell(self.topic(), self.bookmark(), None)
    }

    /// Gives the message back, or removes it as expired.
    ///
    /// # Errors
    ///
    /// As for [`Message::ack_with`].
    pub fn ack_with(&self, option: AckOption) -> Result<()> {
        self.lease.source.tell(self.topic(), self.bookmark(), Some(option))
    }

    /// The topic of the message.
    pub fn topic(&self) -> &str {
        &self.lease.topic
    }

    /// The bookmark of the message, as text.
    pub fn bookmark(&self) -> &str {
        &self.lease.bookmark
    }

    /// True if the lease may still hold: the connection that the message came over is up.
    pub(crate) fn is_leased(&self) -> bool {
        let source = &self.lease.source;
        source.client().is_ok_and(|client| client.link.is_current(source.version))
    }

    /// Does the same for the client's own part, whether it acknowledges by itself or not. A failure is for the exception
    /// listener.
    pub(crate) fn decide(&self, option: Option<AckOption>) {
        let source = &self.lease.source;
        if let Ok(client) = source.client() {
            client.report_ack(source.decide(&client, self.topic(), self.bookmark(), option), None);
        }
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckHandle").field("topic", &self.topic()).field("bookmark", &self.bookmark()).finish()
    }
}
