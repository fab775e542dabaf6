//! An adapter that keeps recovery points in a SOW topic.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::{RecoveryPoint, RecoveryPointAdapter, record};
use crate::bookmark::{Bookmark, BookmarkKind};
use crate::callbacks::{ExceptionListener, Origin, UnhandledError};
use crate::client::Client;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::wire::{AckType, CommandType};

/// Keeps recovery points on a server, as records of a SOW topic: a subscriber that starts on another machine goes on where
/// this one stopped.
///
/// Each subscription is a JSON record with the name of the client whose subscriptions these are, the subscription id, and the
/// bookmark. The topic must have the first two as its keys:
///
/// | Setting | Default |
/// |---|---|
/// | [`topic`](SowRecoveryPointAdapterBuilder::topic) | `/ADMIN/bookmark_store` |
/// | [`client_name_field`](SowRecoveryPointAdapterBuilder::client_name_field) | `clientName` |
/// | [`sub_id_field`](SowRecoveryPointAdapterBuilder::sub_id_field) | `subId` |
/// | [`bookmark_field`](SowRecoveryPointAdapterBuilder::bookmark_field) | `bookmark` |
/// | [`timeout`](SowRecoveryPointAdapterBuilder::timeout) | 5 s |
/// | [`use_timestamp`](SowRecoveryPointAdapterBuilder::use_timestamp) | no |
/// | [`close_client`](SowRecoveryPointAdapterBuilder::close_client) | yes |
/// | [`update_failure_raises`](SowRecoveryPointAdapterBuilder::update_failure_raises) | no |
///
/// It uses a second client, with a name of its own, connected with the message type `json` and logged on before the store is
/// made; a [`Client`], or an [`HAClient`](crate::HAClient), which outlives an outage. An update is a publish: it does not wait
/// for the server, and one made during an outage fails unless that client has a publish store. A purge waits up to 5
/// seconds for the server, and so must not be made on the receive thread of that client. Closing waits until the server has
/// everything, with a publish store until it has made it durable.
///
/// A subscription that discards message by message makes a publish of each:
/// [conflate](crate::ConflatingRecoveryPointAdapter) them.
///
/// ```
/// use amps_client::testing::{Server, Topic};
/// use amps_client::{
///     Client, Command, ConflatingRecoveryPointAdapter, MemoryBookmarkStore, RecoveryPointFactory,
///     SowRecoveryPointAdapter,
/// };
///
/// # fn main() -> amps_client::Result<()> {
/// let topic = Topic::sow("/ADMIN/bookmark_store").key("/clientName").key("/subId");
/// let server = Server::builder().topic(topic).listen_tcp().start()?;
///
/// let keeper = Client::builder("desk-pricer-bookmarks").build()?;
/// keeper.connect(&server.uri("json"))?;
/// keeper.logon()?;
/// let adapter = SowRecoveryPointAdapter::new(keeper, "desk-pricer")?;
/// let adapter = ConflatingRecoveryPointAdapter::new(adapter)?;
///
/// let store = MemoryBookmarkStore::with_adapter(adapter, RecoveryPointFactory::Dynamic)?;
/// let client = Client::builder("desk-pricer").bookmark_store(store).build()?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
pub struct SowRecoveryPointAdapter {
    settings: SowRecoveryPointAdapterBuilder,
}

impl SowRecoveryPointAdapter {
    /// An adapter for the subscriptions of the client with this name, with the defaults. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage): the client that it is given has that name itself.
    pub fn new(
        client: impl AsRef<Client> + Send + Sync + 'static,
        tracked_client_name: impl Into<String>,
    ) -> Result<SowRecoveryPointAdapter> {
        SowRecoveryPointAdapter::builder(client, tracked_client_name).build()
    }

    /// Starts from the defaults and changes some.
    pub fn builder(
        client: impl AsRef<Client> + Send + Sync + 'static,
        tracked_client_name: impl Into<String>,
    ) -> SowRecoveryPointAdapterBuilder {
        SowRecoveryPointAdapterBuilder {
            client: Box::new(client),
            tracked_client_name: tracked_client_name.into(),
            topic: "/ADMIN/bookmark_store".to_owned(),
            client_name_field: "clientName".to_owned(),
            sub_id_field: "subId".to_owned(),
            bookmark_field: "bookmark".to_owned(),
            timeout: Duration::from_secs(5),
            use_timestamp: false,
            close_client: true,
            update_failure_raises: false,
            exception_listener: None,
        }
    }

    fn client(&self) -> &Client {
        (*self.settings.client).as_ref()
    }

    /// What selects the records of the client, or of one of its subscriptions.
    fn filter(&self, sub_id: Option<&str>) -> String {
        let SowRecoveryPointAdapterBuilder { client_name_field, sub_id_field, tracked_client_name, .. } =
            &self.settings;
        let mut filter = format!("/{client_name_field} = {}", literal(tracked_client_name));
        if let Some(sub_id) = sub_id {
            filter.push_str(&format!(" AND /{sub_id_field} = {}", literal(sub_id)));
        }
        filter
    }

    fn read(&self, message: &Message) -> Result<RecoveryPoint> {
        let names = [self.settings.sub_id_field.as_str(), self.settings.bookmark_field.as_str()];
        let text = message.data_str()?;
        let Some([sub_id, bookmark]) = record::read(text, names) else {
            let topic = &self.settings.topic;
            let text = format!("a record of {topic} is no recovery point: {text}");
            return Err(Error::new(ErrorKind::Store, text).with_topic(topic));
        };
        let bookmark = Bookmark::parse(&bookmark).map_err(|error| error.with_sub_id(&sub_id))?;
        Ok(RecoveryPoint::new(sub_id, self.with_time(bookmark, message)))
    }

    /// Adds the time at which the record was written, if that is wanted. A range has no place for it.
    fn with_time(&self, bookmark: Bookmark, message: &Message) -> Bookmark {
        let time = message.timestamp_utc().filter(|_| self.settings.use_timestamp);
        match (time, bookmark.kind()) {
            (None, _) | (_, BookmarkKind::Range { .. } | BookmarkKind::Epoch) => bookmark,
            (Some(time), _) => Bookmark::list([bookmark.clone(), Bookmark::time(time)]).unwrap_or(bookmark),
        }
    }

    fn delete(&self, sub_id: Option<&str>) -> Result<()> {
        let deleted = self.client().sow_delete(&self.settings.topic, &self.filter(sub_id));
        self.outcome(sub_id, deleted.map(drop))
    }

    /// Returns a failure, or tells the listener.
    fn outcome(&self, sub_id: Option<&str>, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if !self.settings.update_failure_raises => {
                self.tell(UnhandledError::new(error, Origin::BookmarkStore).with_id(sub_id));
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn tell(&self, failure: UnhandledError) {
        match &self.settings.exception_listener {
            // What goes wrong in it goes nowhere.
            Some(listener) => drop(catch_unwind(AssertUnwindSafe(|| listener.on_exception(&failure)))),
            None => log::warn!(target: "amps::store", "a recovery point cannot be kept: {failure}"),
        }
    }

    /// Waits until the server has everything, and closes the client.
    fn finish(&self) -> Result<()> {
        let flushed = self.client().publish_flush_with(AckType::PROCESSED, Some(self.settings.timeout));
        if self.settings.close_client {
            self.client().close();
        }
        flushed
    }
}

impl RecoveryPointAdapter for SowRecoveryPointAdapter {
    fn recover(&self) -> Result<Vec<RecoveryPoint>> {
        let SowRecoveryPointAdapterBuilder { topic, timeout, use_timestamp, .. } = &self.settings;
        let deadline = Instant::now().checked_add(*timeout);
        let mut query = Command::sow(topic).filter(self.filter(None)).batch_size(100).timeout(*timeout);
        if *use_timestamp {
            query = query.options("timestamp");
        }
        let mut stream = self.client().execute(query)?;
        let mut points = Vec::new();
        let remaining = || deadline.map_or(*timeout, |at| at.saturating_duration_since(Instant::now()));
        while let Some(message) = stream.next_timeout(remaining()) {
            let message = message?;
            if message.command() == CommandType::Sow {
                points.push(self.read(&message)?);
            }
        }
        Ok(points)
    }

    fn update(&self, point: &RecoveryPoint) -> Result<()> {
        let settings = &self.settings;
        let bookmark = point.bookmark();
        let record = record::write([
            (&settings.client_name_field, &settings.tracked_client_name),
            (&settings.sub_id_field, point.sub_id()),
            (&settings.bookmark_field, bookmark.as_str()),
        ]);
        let published = self.client().publish(&settings.topic, record);
        self.outcome(Some(point.sub_id()), published.map(drop))
    }

    fn purge(&self) -> Result<()> {
        self.delete(None)
    }

    fn purge_sub_id(&self, sub_id: &str) -> Result<()> {
        self.delete(Some(sub_id))
    }

    fn close(&self) -> Result<()> {
        self.outcome(None, self.finish())
    }
}

impl fmt::Debug for SowRecoveryPointAdapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SowRecoveryPointAdapter").field("settings", &self.settings).finish()
    }
}

/// Where a [`SowRecoveryPointAdapter`] keeps its records, and what it does about failures.
///
/// ```
/// use std::time::Duration;
///
/// use amps_client::{Client, SowRecoveryPointAdapter, UnhandledError};
///
/// # fn main() -> amps_client::Result<()> {
/// let keeper = Client::builder("desk-pricer-bookmarks").build()?;
/// let adapter = SowRecoveryPointAdapter::builder(keeper, "desk-pricer")
///     .topic("desk/bookmarks")
///     .timeout(Duration::from_secs(20))
///     .exception_listener(|failure: &UnhandledError| eprintln!("{failure}"))
///     .build()?;
/// # drop(adapter);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct SowRecoveryPointAdapterBuilder {
    client: Box<dyn AsRef<Client> + Send + Sync>,
    tracked_client_name: String,
    topic: String,
    client_name_field: String,
    sub_id_field: String,
    bookmark_field: String,
    timeout: Duration,
    use_timestamp: bool,
    close_client: bool,
    update_failure_raises: bool,
    exception_listener: Option<Box<dyn ExceptionListener>>,
}

impl SowRecoveryPointAdapterBuilder {
    /// The topic of the records. Default: `/ADMIN/bookmark_store`.
    pub fn topic(mut self, topic: impl Into<String>) -> SowRecoveryPointAdapterBuilder {
        self.topic = topic.into();
        self
    }

    /// The field for the name of the client, a key of the topic. Default: `clientName`.
    pub fn client_name_field(mut self, name: impl Into<String>) -> SowRecoveryPointAdapterBuilder {
        self.client_name_field = name.into();
        self
    }

    /// The field for the subscription id, a key of the topic. Default: `subId`.
    pub fn sub_id_field(mut self, name: impl Into<String>) -> SowRecoveryPointAdapterBuilder {
        self.sub_id_field = name.into();
        self
    }

    /// The field for the bookmark. Default: `bookmark`.
    pub fn bookmark_field(mut self, name: impl Into<String>) -> SowRecoveryPointAdapterBuilder {
        self.bookmark_field = name.into();
        self
    }

    /// How long the recovery may take, and how long closing waits for the server. Default: 5 s.
    pub fn timeout(mut self, limit: Duration) -> SowRecoveryPointAdapterBuilder {
        self.timeout = limit;
        self
    }

    /// Whether a recovered subscription goes on no later than at the time at which its record was written: for a server
    /// whose log may no longer have the bookmarks. Default: no.
    pub fn use_timestamp(mut self, on: bool) -> SowRecoveryPointAdapterBuilder {
        self.use_timestamp = on;
        self
    }

    /// Whether the client is closed with the adapter, which is when the store is dropped. Default: yes.
    pub fn close_client(mut self, on: bool) -> SowRecoveryPointAdapterBuilder {
        self.close_client = on;
        self
    }

    /// Whether a failing update, purge or close is returned to the store, and so to who has discarded, instead of being told
    /// to the [listener](SowRecoveryPointAdapterBuilder::exception_listener). A failing recovery always is. Default: no.
    pub fn update_failure_raises(mut self, on: bool) -> SowRecoveryPointAdapterBuilder {
        self.update_failure_raises = on;
        self
    }

    /// Who is told of failures that are not returned. It runs where they happen: on a discarding thread, on the receive
    /// thread of the tracked client, or on that of a conflating adapter. Default: nobody, they are logged.
    pub fn exception_listener(
        mut self,
        listener: impl ExceptionListener + 'static,
    ) -> SowRecoveryPointAdapterBuilder {
        self.exception_listener = Some(Box::new(listener));
        self
    }

    /// The adapter. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage): the client has the name of the tracked client, or a field cannot have such a name.
    pub fn build(self) -> Result<SowRecoveryPointAdapter> {
        let name = (*self.client).as_ref().name();
        if name == self.tracked_client_name {
            let text =
                format!("the recovery points of client {name} need a second client, with another name");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        let fields = [&self.client_name_field, &self.sub_id_field, &self.bookmark_field];
        if let Some(field) = fields.into_iter().find(|field| !is_field_name(field)) {
            let text = format!("a recovery point cannot be kept in a field {field:?}");
            return Err(Error::new(ErrorKind::Usage, text));
        }
        Ok(SowRecoveryPointAdapter { settings: self })
    }
}

impl fmt::Debug for SowRecoveryPointAdapterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SowRecoveryPointAdapterBuilder")
            .field("client", &(*self.client).as_ref().name())
            .field("tracked_client_name", &self.tracked_client_name)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// Whether a field with this name can be written in a filter as it is.
fn is_field_name(name: &str) -> bool {
    let is_allowed = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-');
    !name.is_empty() && name.chars().all(is_allowed)
}

/// A text in a filter.
fn literal(text: &str) -> String {
    let mut literal = String::from("'");
    for char in text.chars() {
        match char {
            '\'' | '\\' => literal.extend(['\\', char]),
            '\0'..' ' => literal.push_str(&format!("\\x{:02x}", u32::from(char))),
            _ => literal.push(char),
        }
    }
    literal.push('\'');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_a_filter_ends_where_it_should() {
        assert_eq!(literal("orders-1"), "'orders-1'");
        assert_eq!(literal("' OR 1=1 OR 'a\\"), r"'\' OR 1=1 OR \'a\\'");
        assert_eq!(literal("a\nb"), r"'a\x0ab'");
    }

    #[test]
    fn a_field_name_needs_no_quotes() {
        for (name, fits) in [("subId", true), ("sub_id-2", true), ("", false), ("a/b", false), ("a b", false)]
        {
            assert_eq!(is_field_name(name), fits, "{name}");
        }
    }
}
