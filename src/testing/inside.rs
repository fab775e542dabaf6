//! The server as a participant: it publishes and deletes, and decides who stays.

use super::commands::write_questions;
use super::entitlement::Verdict;
use super::filter::Filter;
use super::payload::PayloadType;
use super::query::Query;
use super::refusal::Refusal;
use super::server::Server;
use super::session::Identity;
use super::state::Publication;
use crate::error::{Error, ErrorKind, Reason, Result};

impl Server {
    /// Publishes a message as if a client had. Its message type is the one its topic is configured for, else `json`.
    ///
    /// Returns when the message is queued for every subscriber. The entitlement hook is not asked about the publish, only
    /// about those who would read it.
    ///
    /// ```
    /// use amps_client::testing::{Server, Topic};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().topic(Topic::sow("orders").key("/id")).start()?;
    /// server.publish("orders", r#"{"id":1,"px":10}"#)?;
    /// let refused = server.publish("orders", "no JSON").unwrap_err();
    /// assert_eq!(refused.reason(), Some("bad sow key"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The kind that the server's refusal has for clients, such as [`BadSowKey`](ErrorKind::BadSowKey);
    /// [`reason`](Error::reason) has its text.
    pub fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> Result<()> {
        self.publish_for(self.type_of(topic), topic, payload.as_ref())
    }

    /// Publishes a message of the given message type, otherwise as [`publish`](Server::publish) does.
    ///
    /// # Errors
    ///
    /// [`Usage`](ErrorKind::Usage) if the message type is not known, else as [`publish`](Server::publish).
    pub fn publish_as(&self, message_type: &str, topic: &str, payload: impl AsRef<[u8]>) -> Result<()> {
        match PayloadType::of(message_type) {
            Some(known) => {
                let payload_type = known.with_separator(self.settings.separator);
                self.publish_for(payload_type, topic, payload.as_ref())
            }
            None => Err(Error::new(ErrorKind::Usage, format!("unknown message type `{message_type}`"))),
        }
    }

    /// Deletes the records of a SOW topic that match a filter, all of them if it is empty, and returns how many there
    /// were. The message type is chosen as by [`publish`](Server::publish).
    ///
    /// Returns when every subscriber that asked for out-of-focus messages has them queued.
    ///
    /// ```
    /// use amps_client::testing::{Server, Topic};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::builder().topic(Topic::sow("orders").key("/id")).start()?;
    /// server.publish("orders", r#"{"id":1}"#)?;
    /// server.publish("orders", r#"{"id":2}"#)?;
    /// assert_eq!(server.sow_delete("orders", "/id = 2")?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BadFilter`](ErrorKind::BadFilter), or [`InvalidTopic`](ErrorKind::InvalidTopic) if the topic keeps no records.
    pub fn sow_delete(&self, topic: &str, filter: &str) -> Result<u64> {
        let refused = |refusal| refused("sow_delete on", topic, refusal);
        let filter = Filter::parse(filter).map_err(|_| refused(Refusal::BadFilter))?;
        let query = Query { filter: filter.map(Into::into), ..Query::default() };
        let payload_type = self.type_of(topic);
        let mut turn = self.hub.lock();
        let place = turn.state.place(payload_type, topic);
        if turn.state.sow(place).is_none() {
            return Err(refused(Refusal::InvalidTopic));
        }
        let selection = query.select(&turn.state, &[(place, Verdict::Allow)], |_| false);
        turn.delete(&selection);
        Ok(selection.found.len() as u64)
    }

    /// Closes the connections of a client name and returns how many there were.
    ///
    /// The clients see the connection end without a word, as in a real failure.
    pub fn disconnect(&self, client_name: &str) -> usize {
        self.close_sessions(|identity| identity.client_name == client_name)
    }

    /// Forgets what the entitlement hook said about a user, and closes the user's connections. Returns how many there
    /// were.
    pub fn reset_entitlements(&self, user_id: &str) -> usize {
        if let Some(instance) = self.hub.lock().instances.get_mut(self.instance) {
            instance.verdicts.forget(user_id);
        }
        self.close_sessions(|identity| identity.user_id == user_id)
    }

    /// Denies a user everything from now on, whatever the entitlement hook says: commands fail with `not entitled`, and
    /// nothing more is delivered to subscriptions that are there. Connections stay.
    ///
    /// [`reset_entitlements`](Server::reset_entitlements) takes it back.
    ///
    /// ```
    /// use amps_client::testing::Server;
    /// use amps_client::{Client, ErrorKind};
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::quick()?;
    /// let client = Client::builder("desk").build()?;
    /// client.connect(&server.uri("json").replace("tcp://", "tcp://alice@"))?;
    /// client.logon()?;
    /// client.subscribe("orders", "")?;
    /// server.revoke_entitlements("alice");
    /// assert_eq!(client.subscribe("ticks", "").unwrap_err().kind(), ErrorKind::NotEntitled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn revoke_entitlements(&self, user_id: &str) {
        if let Some(instance) = self.hub.lock().instances.get_mut(self.instance) {
            instance.verdicts.revoke(user_id);
        }
    }

    /// Forgets the sequence numbers of a client: what it published before is no duplicate any more. Returns the highest
    /// number it had, if it had any.
    ///
    /// A client that is logged on is not told; its next logon is answered as if it had never published.
    pub fn forget_sequence(&self, client_name: &str) -> Option<u64> {
        self.hub.lock().state.sequences.forget(client_name)
    }

    /// Forgets the oldest messages of the journal, and keeps so many of the last ones; 0 forgets them all.
    ///
    /// Their bookmarks are unknown from then on: a client that resumes at one starts at the end of the journal, or as its
    /// option `bookmark_not_found` says. Records and sequence numbers stay.
    ///
    /// ```
    /// use amps_client::testing::Server;
    ///
    /// # fn main() -> amps_client::Result<()> {
    /// let server = Server::quick()?;
    /// (1..=3).try_for_each(|n| server.publish("ticks", n.to_string()))?;
    /// server.truncate_journal(1);
    /// assert_eq!(server.journal()[0].payload, b"3");
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate_journal(&self, keep: usize) {
        self.hub.lock().state.journal.keep(keep);
    }

    /// Lets clients log on, or refuses every logon with `authentication disabled`. Sessions that are there stay.
    pub fn allow_logons(&self, allow: bool) {
        if let Some(instance) = self.hub.lock().instances.get_mut(self.instance) {
            instance.logon_enabled = allow;
        }
    }

    fn close_sessions(&self, fits: impl Fn(&Identity) -> bool) -> usize {
        let mut turn = self.hub.lock();
        let sessions = turn.instances.get(self.instance).into_iter().flat_map(|i| i.sessions.values());
        let fitting = sessions.filter(|session| session.identity.as_ref().is_some_and(|i| fits(i)));
        let closed: Vec<_> = fitting.map(|session| session.connection.clone()).collect();
        for connection in &closed {
            connection.close();
            turn.remove_session(connection.id);
        }
        closed.len()
    }

    fn publish_for(&self, payload_type: PayloadType, topic: &str, payload: &[u8]) -> Result<()> {
        let publication =
            Publication { instance: self.instance, ..Publication::new(payload_type, topic, payload) };
        if topic.is_empty() {
            return Err(refused("publish to", topic, Refusal::NoTopic));
        }
        let mut turn = self.hub.lock_entitled(|world| write_questions(world, None, payload_type, topic));
        turn.publish(&publication, None).map(drop).map_err(|refusal| refused("publish to", topic, refusal))
    }

    /// The message type that a topic is bound to.
    fn type_of(&self, topic: &str) -> PayloadType {
        let mut bound = self.rules.iter().filter_map(|rule| rule.payload_type.map(|kind| (rule, kind)));
        bound.find(|(rule, kind)| rule.covers(*kind, topic)).map_or(PayloadType::Json, |(_, kind)| kind)
    }
}

fn refused(what: &str, topic: &str, refusal: Refusal) -> Error {
    let reason = refusal.text();
    Error::new(Reason::of(reason).kind(), format!("{what} `{topic}` refused: {reason}"))
        .with_reason(reason)
        .with_topic(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_becomes_an_error_of_the_kind_a_client_would_see() {
        let server = Server::builder().start().unwrap();
        let error = server.publish("", "x").unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::MissingFields, Some("no topic")));
        let error = server.sow_delete("ticks", "").unwrap_err();
        assert_eq!((error.kind(), error.topic()), (ErrorKind::InvalidTopic, Some("ticks")));
        assert_eq!(server.sow_delete("ticks", "(").unwrap_err().kind(), ErrorKind::BadFilter);
        assert_eq!(server.publish_as("morse", "t", "x").unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn the_type_of_a_message_is_that_of_its_topic_else_json() {
        let fix = super::super::topic::Topic::sow("orders").message_type("nvfix").key("/id");
        let server = Server::builder().topic(fix).start().unwrap();
        assert_eq!(server.type_of("orders"), PayloadType::of("nvfix").unwrap());
        assert_eq!(server.type_of("other"), PayloadType::Json);
        server.publish("orders", "id=1\x01").unwrap();
        server.publish("orders", "id=2\x01").unwrap();
        assert_eq!(server.sow_delete("orders", "/id = 2").unwrap(), 1);
    }
}
