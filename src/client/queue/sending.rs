//! When acknowledgements are sent, and what becomes of those that cannot be.
//!
//! None is lost for want of a connection: it goes back to where it waits, and the next logon sends it. With a publish
//! store it is stored instead, as any write. A message that is given back is another matter: the loss of the connection
//! has done that, so there is nothing left to send.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::batches::{Batch, Batches};
use super::{AckOption, QueueAcks};
use crate::callbacks::{Origin, UnhandledError};
use crate::client::core::Core;
use crate::client::execute::{Wanted, place};
use crate::client::link::{Outgoing, Patience, Refusal, Sender, Sent};
use crate::client::reply::Reply;
use crate::client::session::Phase;
use crate::command::{Command, check_text, next_id, too_large};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::options::text;
use crate::store::{PublishStore, Selector, StoreEntry};
use crate::wire::{AckType, CommandType, Field, FrameWriter};

/// The command id of every acknowledgement.
const COMMAND_ID: &str = "AMPS-queue-ack";

/// How long a close waits for the server to have processed the last acknowledgements.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why acknowledgements were not sent.
enum Unsent {
    /// There is no connection that they may go over.
    Unconnected(Refusal),
    /// Something failed that may do better the next time.
    Failed(Error),
    /// They cannot be sent at all.
    Impossible(Error),
}

impl Core {
    /// The application is done with a message: sends that, or adds it to a batch.
    pub(crate) fn acknowledge(&self, topic: &str, bookmark: &str) -> Result<()> {
        if bookmark.is_empty() {
            return Ok(());
        }
        check_texts(topic, bookmark)?;
        let stored = self.config.publish_store.is_some();
        if !stored && !self.is_connected() && !self.will_recover() {
            return Err(self.refusal(Refusal::NotConnected, "a queue acknowledgement"));
        }
        let Some(full) = self.queue_acks.add(topic, bookmark) else { return Ok(()) };
        if stored || self.may_send_acks() {
            return self.send_batch(full, &self.ack_sender());
        }
        self.queue_acks.change(|batches| batches.put_back(full));
        Ok(())
    }

    /// Something else became of a message: says so at once. `over` is the connection that it came over, if that is known.
    pub(crate) fn settle(
        &self,
        topic: &str,
        bookmark: &str,
        option: AckOption,
        over: Option<u64>,
    ) -> Result<()> {
        if bookmark.is_empty() {
            return Ok(());
        }
        check_texts(topic, bookmark)?;
        let cancels = option == AckOption::Cancel;
        let was_lost = over.is_some_and(|version| !self.link.is_current(version));
        let has_leases = self.is_logged_on() && self.link.is_up();
        if cancels && (was_lost || !has_leases) {
            return Ok(());
        }
        // While the client recovers, messages come already that the server must hear of when that is done.
        let sender = Sender { patience: Patience::Aside, ..self.sender(None) };
        let sent = match has_leases || self.config.publish_store.is_some() {
            true => self.write_acks(topic, bookmark, option.name(), &sender),
            false => Err(Unsent::Unconnected(Refusal::NotConnected)),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(Unsent::Unconnected(_)) if cancels => Ok(()),
            Err(Unsent::Unconnected(refusal)) => Err(self.refusal(refusal, "a queue acknowledgement")),
            Err(Unsent::Failed(error) | Unsent::Impossible(error)) => Err(error),
        }
    }

    /// Sends what has waited for long enough. For the receive thread, after each read.
    #[inline]
    pub(crate) fn send_due_acks(&self) {
        if self.queue_acks.are_waiting() {
            self.send_those_due();
        }
    }

    #[cold]
    fn send_those_due(&self) {
        // While the client reconnects the batches wait for the logon.
        if !self.may_send_acks() {
            return;
        }
        let now = Instant::now();
        let due = self.queue_acks.take(|batches| batches.take_due(now));
        if due.is_empty() {
            return;
        }
        self.report_ack(self.send_batches(due, &self.ack_sender()), None);
        self.link.flush();
    }

    /// The batch size has become smaller.
    pub(crate) fn send_full_acks(&self) {
        self.send_acks(Batches::take_full);
    }

    /// Sends everything that waits, because the subscription or the connection is about to end.
    pub(crate) fn send_all_acks(&self) {
        self.send_acks(Batches::take_all);
    }

    fn send_acks(&self, which: impl FnOnce(&mut Batches) -> Vec<Batch>) {
        if self.queue_acks.are_waiting() && self.may_send_acks() {
            let batches = self.queue_acks.take(which);
            self.report_ack(self.send_batches(batches, &self.ack_sender()), None);
        }
    }

    /// Sends what was kept from before, on the thread that logs on. Before the subscriptions are placed, so that the server
    /// does not deliver again what is done.
    pub(crate) fn send_kept_acks(&self) {
        self.queue_acks.logged_on();
        let kept = self.queue_acks.take(Batches::take_all);
        self.report_ack(self.send_batches(kept, &self.ack_sender()), None);
    }

    /// Sends what waits, for the last time. If the caller may wait, a handler that is at a message is given time to be done
    /// with it, and the server to process everything.
    pub(crate) fn send_last_acks(&self, waits: bool) {
        let deadline = Instant::now() + CLOSE_LIMIT;
        if waits {
            self.queue_acks.await_delivery(deadline);
        }
        if !self.queue_acks.are_waiting() || !self.may_send_acks() {
            return;
        }
        // A server that does not read must not hold up the end.
        let sender = Sender { never_waits: true, ..self.ack_sender() };
        let batches = self.queue_acks.take(Batches::take_all);
        let sent = self.send_batches(batches, &sender);
        let done = sent.and_then(|()| if waits { self.await_flush(&sender, deadline) } else { Ok(()) });
        self.report_ack(done, None);
        self.link.flush();
    }

    /// A subscription was granted a backlog, which no batch may exceed.
    pub(crate) fn cap_acks(&self, granted: &Message) {
        let backlog = text::value_of(granted.options().unwrap_or_default(), "max_backlog");
        if let Some(backlog) = backlog.and_then(|backlog| backlog.parse().ok()) {
            self.queue_acks.change(|batches| batches.cap(backlog));
            self.send_full_acks();
        }
    }

    /// Nobody asked for this acknowledgement, so its failure is for the exception listener. A loss is none.
    pub(crate) fn report_ack(&self, outcome: Result<()>, sub_id: Option<&str>) {
        if let Err(error) = outcome
            && !error.is_disconnect()
        {
            let failure = UnhandledError::new(error, Origin::QueueAcknowledgement);
            self.registry.report(failure.with_id(sub_id));
        }
    }

    /// True if acknowledgements may go out.
    fn may_send_acks(&self) -> bool {
        self.is_logged_on() && self.link.is_open()
    }

    /// True if the client has logged on over this connection, or never does.
    fn is_logged_on(&self) -> bool {
        !self.queue_acks.logs_on.load(Ordering::Acquire) || self.session.lock().phase == Phase::LoggedOn
    }

    /// How acknowledgements are sent: an outage is not waited for.
    fn ack_sender(&self) -> Sender {
        Sender { patience: Patience::None, ..self.sender(None) }
    }

    /// Sends batches, each for itself. The first failure is returned, if it is more than the want of a connection.
    fn send_batches(&self, batches: Vec<Batch>, sender: &Sender) -> Result<()> {
        let outcomes = batches.into_iter().map(|batch| self.send_batch(batch, sender));
        // Not a lazy one: the others are to be tried too.
        outcomes.fold(Ok(()), Result::and)
    }

    fn send_batch(&self, batch: Batch, sender: &Sender) -> Result<()> {
        let Err(unsent) = self.write_acks(&batch.topic, &batch.bookmarks, "", sender) else { return Ok(()) };
        if let Unsent::Impossible(error) = unsent {
            return Err(error);
        }
        self.queue_acks.change(|batches| batches.put_back(batch));
        if let Unsent::Failed(error) = unsent { Err(error) } else { Ok(()) }
    }

    /// Writes one frame, by way of the publish store if there is one.
    fn write_acks(&self, topic: &str, bookmarks: &str, options: &str, sender: &Sender) -> Result<(), Unsent> {
        if let Some(store) = &self.config.publish_store {
            let entry = StoreEntry::new(CommandType::SowDelete, topic, Selector::Bookmark(bookmarks))
                .with_command_id(COMMAND_ID)
                .with_options(options)
                .with_may_wait(!sender.never_waits);
            return self.store_acks(&**store, &entry, sender).map_err(Unsent::Failed);
        }
        let encode = |buffer: &mut Vec<u8>| encode(topic, bookmarks, options, buffer);
        self.link.publish(|| *sender, encode).map_err(|refusal| match refusal {
            Refusal::Frame(error) => Unsent::Impossible(error),
            Refusal::OutboxFull => Unsent::Failed(self.refusal(refusal, "a queue acknowledgement")),
            refusal => Unsent::Unconnected(refusal),
        })
    }

    fn store_acks(&self, store: &dyn PublishStore, entry: &StoreEntry<'_>, sender: &Sender) -> Result<()> {
        if let (sequence, Sent::Later) = self.link.store_and_send(store, entry, || *sender, |_| {})? {
            // It is in the store: what cannot be sent now is sent by the next logon.
            let _ = self.link.publish_stored(|| *sender, sequence, entry, |_| {});
        }
        Ok(())
    }

    /// Waits until the server has processed everything sent before, or is gone.
    fn await_flush(&self, sender: &Sender, deadline: Instant) -> Result<()> {
        let id = next_id();
        let reply = Arc::new(Reply::default());
        self.acks.lock().register(&id, AckType::PROCESSED, Arc::clone(&reply));
        let sent = self.link.send(sender, &mut Flush { core: self, id: &id });
        let answer = if sent.is_ok() { reply.wait(Some(deadline)) } else { Some(Err(gone())) };
        self.acks.lock().cancel(&id);
        match answer {
            Some(answer) => answer.map(drop),
            None => {
                let text =
                    format!("the last queue acknowledgements were not processed within {CLOSE_LIMIT:?}");
                Err(Error::new(ErrorKind::TimedOut, text))
            }
        }
    }
}

/// Sends what waits, and waits until the server has processed it.
pub(super) fn flush_acks(core: &Core, limit: Option<Duration>) -> Result<()> {
    core.refuse_to_hang("flush_acks")?;
    let acks: &QueueAcks = &core.queue_acks;
    if !acks.are_waiting() {
        return Ok(());
    }
    if core.may_send_acks() {
        core.send_batches(acks.take(Batches::take_all), &core.ack_sender())?;
    }
    // In an outage the flush waits for its end, and what was kept goes before it.
    let command = Command::flush().ack_type(AckType::PROCESSED);
    let command = match limit {
        Some(limit) => command.timeout(limit),
        None => command,
    };
    place(core, command, None, Wanted::default()).map(drop)
}

fn check_texts(topic: &str, bookmark: &str) -> Result<()> {
    check_text("topic", topic)?;
    check_text("bookmark", bookmark)
}

fn encode(topic: &str, bookmarks: &str, options: &str, buffer: &mut Vec<u8>) -> Result<()> {
    let mut frame = FrameWriter::new(buffer, CommandType::SowDelete);
    frame
        .text(Field::Topic, topic)
        .text(Field::CommandId, COMMAND_ID)
        .text(Field::Bookmark, bookmarks)
        .text(Field::Options, options);
    frame.finish(b"").map_err(too_large)
}

fn gone() -> Error {
    Error::new(
        ErrorKind::Disconnected,
        "the connection was lost before the last queue acknowledgements were sent",
    )
}

/// The flush behind the last acknowledgements. It belongs to its connection.
struct Flush<'a> {
    core: &'a Core,
    id: &'a str,
}

impl Outgoing for Flush<'_> {
    fn encode(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        Command::flush().command_id(self.id).encode(AckType::PROCESSED, buffer)
    }

    fn queued(&mut self, version: u64) {
        self.core.acks.lock().queued(self.id, version);
    }

    fn reclaim(&mut self) -> bool {
        if let Some(waiter) = self.core.acks.lock().cancel(self.id) {
            waiter.fulfil(Err(gone()));
        }
        false
    }
}
