//! The named operations: thin sentences over placing a command.

use std::time::Duration;

use super::execute::{Wanted, place, place_again, send_only, unanswered};
use super::recovery::reviving;
use super::registry::cell;
use super::sinks::Sink;
use super::{Client, Core, SharedHandler, flushing, publishing, streams};
use crate::callbacks::MessageHandler;
use crate::command::{Command, check_text, too_large};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::store::{Selector, StoreEntry};
use crate::stream::{End, MessageStream};
use crate::wire::frame::push_publish;
use crate::wire::{AckType, CommandType};

/// The time limit of the named queries.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// What may go along with a published message.
///
/// ```
/// use amps_client::PublishOptions;
/// use std::time::Duration;
///
/// let options = PublishOptions::new().expiration(Duration::from_secs(30)).correlation_id("YWJj");
/// # let _ = options;
/// ```
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    pub(crate) expiration: Duration,
    pub(crate) correlation_id: String,
    pub(crate) sow_key: String,
}

impl PublishOptions {
    /// Nothing goes along.
    pub fn new() -> PublishOptions {
        PublishOptions::default()
    }

    /// How long the message lives in the SOW or in a queue, rounded up to whole seconds. Default: the server's.
    #[must_use]
    pub fn expiration(mut self, lifetime: Duration) -> PublishOptions {
        self.expiration = lifetime;
        self
    }

    /// Passed on to subscribers as it is; letters of the base64 alphabet only. Default: none.
    #[must_use]
    pub fn correlation_id(mut self, id: impl Into<String>) -> PublishOptions {
        self.correlation_id = id.into();
        self
    }

    /// The key of the record, for topics whose publishers choose it. Default: none.
    #[must_use]
    pub fn sow_key(mut self, key: impl Into<String>) -> PublishOptions {
        self.sow_key = key.into();
        self
    }
}

/// # Commands
///
/// Anything that a named operation leaves at its default is said with a [`Command`].
///
/// What asks the server something blocks until the server has agreed or refused; within the command's time limit if it
/// has one, 5 seconds for the named queries and deletes, and in an outage until that has ended. It may be called on any
/// thread but the receive thread and not inside a state listener, where it returns [`Usage`](ErrorKind::Usage) at once.
///
/// ```
/// # use amps_client::{testing::Server, Client, CommandType};
/// # fn main() -> amps_client::Result<()> {
/// # let server = Server::quick()?;
/// # let client = Client::builder("verbs").build()?;
/// # client.connect(&server.uri("json"))?;
/// # client.logon()?;
/// client.publish("sow/orders", r#"{"id":1,"px":10}"#)?;
/// client.publish_flush()?;
/// let mut orders = client.sow_and_subscribe("sow/orders", "/px > 5")?;
/// client.delta_publish("sow/orders", r#"{"id":1,"px":11}"#)?;
/// let mut live = orders.iter().skip_while(|m| m.as_ref().is_ok_and(|m| m.command() != CommandType::Publish));
/// assert_eq!(live.next().unwrap()?.data(), br#"{"id":1,"px":11}"#);
///
/// assert_eq!(client.sow_delete("sow/orders", "/id = 1")?.records_deleted(), Some(1));
/// # Ok(())
/// # }
/// ```
impl Client {
    /// Places a command and returns what it brings as a stream.
    ///
    /// Blocks for the server's consent, within the command's time limit. A command that brings nothing back, and asks for no
    /// acknowledgement, gives a stream that has ended. With the option `replace` on a live stream's subscription, the results
    /// go into that stream, and what is returned is a second handle on it.
    ///
    /// # Errors
    ///
    /// * The kind of the server's reason, such as [`BadFilter`](ErrorKind::BadFilter); nothing of the command is left behind.
    /// * [`TimedOut`](ErrorKind::TimedOut): what the server may still start was taken back.
    /// * [`Disconnected`](ErrorKind::Disconnected): not connected, or lost while waiting.
    /// * [`RetryOperation`](ErrorKind::RetryOperation): a logon is in progress, and the client does not wait for its end.
    /// * [`Command`](ErrorKind::Command): a verb that no client sends, or a frame above 1 GiB.
    /// * [`Usage`](ErrorKind::Usage): called where nothing may wait, `replace` without an id, a command id that another
    ///   command waits with, or a control character in a topic or an id.
    ///
    /// ```
    /// # use amps_client::{testing::Server, Client, Command};
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("asks").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// let command = Command::sow("sow/orders").order_by("/px DESC").top_n(3);
    /// for message in client.execute(command)? {
    ///     println!("{}", message?.data_str()?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn execute(&self, command: Command) -> Result<MessageStream> {
        streams::execute(self.core(), command)
    }

    /// Places a command whose results go to a handler. Returns the id of the subscription for a verb that subscribes, else
    /// that of the command.
    ///
    /// Blocks for the server's consent, within the command's time limit; results may come before it returns. They are
    /// delivered on the receive thread, see [`MessageHandler`]; the handler is dropped when nothing more can come.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn execute_async(&self, command: Command, handler: impl MessageHandler + 'static) -> Result<String> {
        place_with_handler(self.core(), command, handler, Wanted::default().managed(true))
    }

    /// The same as [`execute_async`](Client::execute_async), but a subscription is not given to the subscription manager: it
    /// ends with the connection. Returns an empty id if the subscription replaced had a handler, which goes on.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn execute_async_no_resubscribe(
        &self,
        command: Command,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        let replaced = command.sub_id_text().is_some_and(|id| self.core().routes.contains(id));
        let id = place_with_handler(self.core(), command, handler, Wanted::default())?;
        Ok(if replaced { String::new() } else { id })
    }

    /// Places a subscription once more, for a [`SubscriptionManager`](crate::SubscriptionManager): under a new command id,
    /// with the subscription id it has, and without telling the manager. Without a handler it is a command for
    /// subscriptions that have theirs, such as `resume`.
    ///
    /// Blocks for the server's consent, within the command's time limit. To be called from
    /// [`resubscribe`](crate::SubscriptionManager::resubscribe) only.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn place_again(
        &self,
        handler: Option<&SharedHandler>,
        command: Command,
        acks: AckType,
    ) -> Result<()> {
        place_again(self.core(), handler.map(|handler| handler.0.clone()), command, acks)
    }

    /// Writes a command as it is: no id, no acknowledgement and no route is added. For special cases. Does not wait for an
    /// answer, and blocks as [`publish`](Client::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Client::publish), and [`Command`](ErrorKind::Command) for a verb that no client sends.
    pub fn send(&self, command: &Command) -> Result<()> {
        send_only(self.core(), command)
    }

    /// Publishes a message. Returns its sequence number, which is 0 without a publish store.
    ///
    /// Does not wait for the server. The frame is written before the call returns; only in a burst, when calls follow each
    /// other faster than a write takes, frames leave together: none much later than 50 µs while the calls go on, the last
    /// ones within about 200 µs. Blocks while the server does not take its bytes, and in an outage until it has ended (see
    /// [`set_retry_on_disconnect`](Client::set_retry_on_disconnect)). On the receive thread and in a state listener it never
    /// blocks.
    ///
    /// With a publish store the message is kept until the server has acknowledged it. It does not wait for the end of an
    /// outage then; it blocks while a resize handler refuses to let the store grow. Without one, success says nothing about
    /// the server: what is published before the logon, or refused, is lost without a word.
    ///
    /// # Errors
    ///
    /// * [`Disconnected`](ErrorKind::Disconnected): not connected, or the outage did not end well. With a store only on a
    ///   plain client, which keeps the message and sends it after the next logon.
    /// * [`RetryOperation`](ErrorKind::RetryOperation): a logon is in progress, and the client does not wait for its end.
    /// * [`Connection`](ErrorKind::Connection): on the receive thread, "outbox full".
    /// * [`Store`](ErrorKind::Store): the publish store could not keep the message; nothing was sent.
    /// * [`Usage`](ErrorKind::Usage): the topic holds a control character that cannot be sent.
    /// * [`Command`](ErrorKind::Command): the frame would exceed 1 GiB.
    #[inline]
    pub fn publish(&self, topic: &str, data: impl AsRef<[u8]>) -> Result<u64> {
        let data = data.as_ref();
        check_text("topic", topic)?;
        let core = self.core();
        if let Some(store) = &core.config.publish_store {
            let entry = StoreEntry::new(CommandType::Publish, topic, Selector::Data(data));
            return publishing::publish(core, &**store, entry);
        }
        let encode = |buffer: &mut Vec<u8>| push_publish(buffer, topic, data).map_err(too_large);
        reviving(core, || core.link.publish(|| core.sender(None), encode))
            .map_err(|refusal| core.refusal(refusal, "publish").with_topic(topic))?;
        Ok(0)
    }

    /// Publishes a message that has something going along. Blocks as [`publish`](Client::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Client::publish).
    pub fn publish_with(&self, topic: &str, data: impl AsRef<[u8]>, options: &PublishOptions) -> Result<u64> {
        publishing::publish_with(self.core(), CommandType::Publish, topic, data.as_ref(), options)
    }

    /// Publishes a prepared `publish` or `delta_publish`. One that has a filter or asks for `processed` waits for that
    /// acknowledgement, within its time limit, and so is told of a refusal; others block as [`publish`](Client::publish)
    /// does.
    ///
    /// ```
    /// # use amps_client::{testing::Server, AckType, Client, Command, ErrorKind};
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("checks").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// let command = Command::publish("sow/orders").data("no JSON").ack_type(AckType::PROCESSED);
    /// assert_eq!(client.publish_command(command).unwrap_err().kind(), ErrorKind::BadSowKey);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`publish`](Client::publish); [`Usage`](ErrorKind::Usage) for another verb; if it waits, as for
    /// [`execute`](Client::execute).
    pub fn publish_command(&self, command: Command) -> Result<u64> {
        match command.command_type() {
            CommandType::Publish | CommandType::DeltaPublish => {
                place(self.core(), command, None, Wanted::default()).map(|placed| placed.sequence)
            }
            other => Err(Error::new(ErrorKind::Usage, format!("`{other}` is not a publish"))),
        }
    }

    /// Publishes changed fields, which the server merges into the record. Blocks as [`publish`](Client::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Client::publish).
    pub fn delta_publish(&self, topic: &str, data: impl AsRef<[u8]>) -> Result<u64> {
        self.delta_publish_with(topic, data, &PublishOptions::new())
    }

    /// Publishes changed fields with something going along. Blocks as [`publish`](Client::publish) does.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Client::publish).
    pub fn delta_publish_with(
        &self,
        topic: &str,
        data: impl AsRef<[u8]>,
        options: &PublishOptions,
    ) -> Result<u64> {
        publishing::publish_with(self.core(), CommandType::DeltaPublish, topic, data.as_ref(), options)
    }

    /// Waits until the server has processed everything sent before, and with a publish store until the store has let go of
    /// what it holds now; without a time limit. In an outage it waits for the end of that, on an
    /// [`HAClient`](crate::HAClient) for as long as that takes.
    ///
    /// # Errors
    ///
    /// As for [`publish_flush_with`](Client::publish_flush_with).
    pub fn publish_flush(&self) -> Result<()> {
        self.publish_flush_with(AckType::PROCESSED, None)
    }

    /// Waits until the server has processed, or with [`AckType::PERSISTED`] made durable, everything sent before; for at
    /// most `limit` if there is one. With a publish store it then waits, within the same limit, until the store has let go
    /// of what it holds now. A server before 5.3.3 is asked for `processed` in both cases.
    ///
    /// # Errors
    ///
    /// * [`TimedOut`](ErrorKind::TimedOut).
    /// * [`Disconnected`](ErrorKind::Disconnected): not connected, or lost while waiting.
    /// * [`Command`](ErrorKind::Command): any other acknowledgement, or the server refused.
    /// * [`Usage`](ErrorKind::Usage): called where nothing may wait.
    pub fn publish_flush_with(&self, ack: AckType, limit: Option<Duration>) -> Result<()> {
        flushing::publish_flush(self.core(), ack, limit)
    }

    /// Subscribes to a topic, or to all topics that match a regular expression; an empty filter takes everything. Blocks for
    /// the server's consent, without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn subscribe(&self, topic: &str, filter: &str) -> Result<MessageStream> {
        self.execute(Command::subscribe(topic).filter(filter))
    }

    /// Subscribes with a handler. Returns the id of the subscription. Blocks for the server's consent, without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn subscribe_async(
        &self,
        topic: &str,
        filter: &str,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        self.execute_async(Command::subscribe(topic).filter(filter), handler)
    }

    /// Subscribes to changed fields only. Blocks for the server's consent, without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn delta_subscribe(&self, topic: &str, filter: &str) -> Result<MessageStream> {
        self.execute(Command::delta_subscribe(topic).filter(filter))
    }

    /// Subscribes to changed fields only, with a handler. Returns the id of the subscription. Blocks for the server's
    /// consent, without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn delta_subscribe_async(
        &self,
        topic: &str,
        filter: &str,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        self.execute_async(Command::delta_subscribe(topic).filter(filter), handler)
    }

    /// Subscribes from a place in the server's transaction log: text or a [`Bookmark`](crate::Bookmark). Blocks for the
    /// server's consent, without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn bookmark_subscribe(
        &self,
        topic: &str,
        bookmark: impl Into<String>,
        filter: &str,
    ) -> Result<MessageStream> {
        self.execute(Command::subscribe(topic).bookmark(bookmark).filter(filter))
    }

    /// Subscribes from a place in the server's transaction log, with a handler. Returns the id of the subscription. Blocks
    /// for the server's consent, without a time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn bookmark_subscribe_async(
        &self,
        topic: &str,
        bookmark: impl Into<String>,
        filter: &str,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        self.execute_async(Command::subscribe(topic).bookmark(bookmark).filter(filter), handler)
    }

    /// Queries the state of the world: `group_begin`, the records, `group_end`. Records come ten a frame. Blocks for the
    /// server's consent, at most 5 seconds.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow(&self, topic: &str, filter: &str) -> Result<MessageStream> {
        self.execute(query(Command::sow(topic), filter))
    }

    /// Queries with a handler. Returns the id of the query. Blocks for the server's consent, at most 5 seconds.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_async(
        &self,
        topic: &str,
        filter: &str,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        let wanted = Wanted::default().with_end_of_query();
        place_with_handler(self.core(), query(Command::sow(topic), filter), handler, wanted)
    }

    /// Queries and subscribes in one atomic step: no change is missed or comes twice. Blocks for the server's consent, at
    /// most 5 seconds.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_and_subscribe(&self, topic: &str, filter: &str) -> Result<MessageStream> {
        self.execute(query(Command::sow_and_subscribe(topic), filter))
    }

    /// Queries and subscribes in one atomic step, with a handler. Returns the id of the subscription. Blocks for the server's
    /// consent, at most 5 seconds.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_and_subscribe_async(
        &self,
        topic: &str,
        filter: &str,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        self.execute_async(query(Command::sow_and_subscribe(topic), filter), handler)
    }

    /// Queries and subscribes to changed fields in one atomic step; updates that change nothing are not sent (option
    /// `no_empties`). Blocks for the server's consent, at most 5 seconds.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_and_delta_subscribe(&self, topic: &str, filter: &str) -> Result<MessageStream> {
        self.execute(query(Command::sow_and_delta_subscribe(topic), filter).options("no_empties"))
    }

    /// Queries and subscribes to changed fields in one atomic step, with a handler; otherwise as
    /// [`sow_and_delta_subscribe`](Client::sow_and_delta_subscribe). Returns the id of the subscription.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_and_delta_subscribe_async(
        &self,
        topic: &str,
        filter: &str,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        let command = query(Command::sow_and_delta_subscribe(topic), filter).options("no_empties");
        self.execute_async(command, handler)
    }

    /// Deletes the records that match a filter (`1=1` for all), and returns the server's `stats` acknowledgement, which says
    /// how many [they were](Message::records_deleted). Blocks until it comes, at most 5 seconds.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_delete(&self, topic: &str, filter: &str) -> Result<Message> {
        delete(self.core(), Command::sow_delete(topic).filter(filter))
    }

    /// Deletes the records with these keys, a comma list; otherwise as [`sow_delete`](Client::sow_delete).
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_delete_by_keys(&self, topic: &str, keys: &str) -> Result<Message> {
        delete(self.core(), Command::sow_delete(topic).sow_keys(keys))
    }

    /// Deletes the record that a publish of this message would update; otherwise as [`sow_delete`](Client::sow_delete).
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    pub fn sow_delete_by_data(&self, topic: &str, data: impl AsRef<[u8]>) -> Result<Message> {
        delete(self.core(), Command::sow_delete(topic).data(data.as_ref()))
    }

    /// Deletes by any selector, the `stats` acknowledgement going to a handler. Returns the id of the command. Blocks for the
    /// server's consent, within the command's time limit.
    ///
    /// # Errors
    ///
    /// As for [`execute`](Client::execute).
    ///
    /// ```
    /// # use amps_client::{testing::Server, Client, Command, Message};
    /// # fn main() -> amps_client::Result<()> {
    /// # let server = Server::quick()?;
    /// # let client = Client::builder("deletes").build()?;
    /// # client.connect(&server.uri("json"))?;
    /// # client.logon()?;
    /// # client.publish("sow/orders", r#"{"id":1}"#)?;
    /// let (sender, counts) = std::sync::mpsc::channel();
    /// client.sow_delete_async(Command::sow_delete("sow/orders").filter("/id = 1"), move |ack: &Message| {
    ///     drop(sender.send(ack.records_deleted()));
    /// })?;
    /// assert_eq!(counts.recv().unwrap(), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn sow_delete_async(
        &self,
        command: Command,
        handler: impl MessageHandler + 'static,
    ) -> Result<String> {
        let command = command.with_result_ids().add_ack_type(AckType::STATS);
        place_with_handler(self.core(), command, handler, Wanted::default())
    }

    /// Ends a subscription, or several in a comma list. When it returns no later message reaches the handler, apart from
    /// one call that may be running. Does not wait for an answer or for the end of an outage; allowed on the receive thread.
    ///
    /// # Errors
    ///
    /// [`Disconnected`](ErrorKind::Disconnected): the server could not be told; the subscription is gone nevertheless.
    pub fn unsubscribe(&self, sub_id: &str) -> Result<()> {
        self.core().end_subscriptions(sub_id);
        unanswered(self.core(), Command::unsubscribe(sub_id))
    }

    /// Ends every subscription of this client. Otherwise as [`unsubscribe`](Client::unsubscribe).
    ///
    /// # Errors
    ///
    /// As for [`unsubscribe`](Client::unsubscribe).
    pub fn unsubscribe_all(&self) -> Result<()> {
        self.unsubscribe("all")
    }

    /// Stops a query whose result is still coming: records on their way are dropped. Does not wait for an answer; allowed on
    /// the receive thread.
    ///
    /// # Errors
    ///
    /// As for [`unsubscribe`](Client::unsubscribe).
    pub fn cancel_query(&self, query_id: &str) -> Result<()> {
        self.core().routes.end_one(query_id, &End::Complete);
        unanswered(self.core(), Command::new("unsubscribe").query_id(query_id))
    }
}

fn query(command: Command, filter: &str) -> Command {
    command.filter(filter).timeout(QUERY_LIMIT)
}

fn place_with_handler(
    core: &Core,
    command: Command,
    handler: impl MessageHandler + 'static,
    wanted: Wanted,
) -> Result<String> {
    let placed = place(core, command, Some(Sink::Handler(cell(handler))), wanted)?;
    let command = placed.command;
    let id = if command.is_subscribe() { command.sub_id_text() } else { command.command_id_text() };
    Ok(id.unwrap_or_default().to_owned())
}

fn delete(core: &Core, command: Command) -> Result<Message> {
    let command = command.with_result_ids().timeout(QUERY_LIMIT);
    let placed = place(core, command, None, Wanted::default().with_counters())?;
    placed.reply.ok_or_else(|| Error::new(ErrorKind::Unknown, "the server did not say what it deleted"))
}
