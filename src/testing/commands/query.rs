//! `sow`, and the query part of the commands that subscribe as well (8.2).

use std::collections::HashSet;
use std::sync::Arc;

use super::selector::Selector;
use super::unsubscribe::list;
use super::{Command, Who};
use crate::testing::clock::Time;
use crate::testing::entitlement::Action;
use crate::testing::filter::Filter;
use crate::testing::frames::{Ack, group_begin, group_end};
use crate::testing::options::Options;
use crate::testing::order::OrderBy;
use crate::testing::query::{Found, Query, Results, Selection, Shown};
use crate::testing::refusal::Refusal;
use crate::testing::state::is_base64;
use crate::wire::{AckType, Field};

/// The largest order-by clause.
const MAX_ORDER: usize = 64 * 1024;
/// The most records a client may ask for per frame.
const MAX_BATCH: u64 = 10_000;

pub(super) fn sow(command: &Command<'_>, identity: &Who) -> Result<(), Refusal> {
    let options = command.options()?;
    let selector = Selector::read(command, &options)?;
    let asked = Asked::read(command, &options, read_filter(command)?)?;
    if options.unsupported || command.message.bookmark().is_some() {
        return Err(Refusal::NotSupported);
    }
    if options.skip_n.is_some() && asked.query.order.is_none() {
        return Err(Refusal::OrderByRequired);
    }
    command.connection.outbox().wait_for_query_room();
    let id = command.session();
    let mut turn = command.turn(|world| world.questions_about(id, identity, Action::Read, &selector))?;
    turn.check_topic(id, identity, Action::Read, &selector)?;
    if turn.queue_of(identity, &selector).is_some() {
        return Err(Refusal::NotSupported);
    }
    let topics = turn.sow_topics(id, identity, Action::Read, &selector);
    if topics.is_empty() && selector.is_literal() {
        return Err(Refusal::InvalidTopic);
    }
    let selection = asked.query.select(&turn.state, &topics, |_| false);
    let query_id = command.query_id();
    command.ack(Ack { kind: AckType::PROCESSED, query_id, ..Ack::default() }, turn.now);
    let counts = Counts::of(&selection);
    asked.send(command, selection.found, turn.now);
    counts.conclude(command, "", turn.now);
    Ok(())
}

/// The content filter of a command.
pub(super) fn read_filter(command: &Command<'_>) -> Result<Option<Arc<Filter>>, Refusal> {
    let filter = Filter::parse(command.text(Field::Filter)).map_err(|_| Refusal::BadFilter)?;
    Ok(filter.map(Arc::new))
}

/// A query as its command states it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) query: Query,
    batch_size: u64,
    shown: Shown,
}

impl Asked {
    pub(super) fn read(
        command: &Command<'_>,
        options: &Options,
        filter: Option<Arc<Filter>>,
    ) -> Result<Asked, Refusal> {
        let batch_size = command.message.batch_size().unwrap_or(1).max(1);
        let top_n = options.top_n.or(command.message.top_n());
        if batch_size > MAX_BATCH || (options.skip_n.is_some() && top_n.is_none()) {
            return Err(Refusal::InvalidOptions);
        }
        let query = Query {
            filter,
            sow_keys: read_keys(command)?,
            order: read_order(command.text(Field::OrderBy))?,
            skip_n: options.skip_n.unwrap_or(0),
            top_n,
        };
        let shown =
            Shown { sow_key: !options.no_sowkey, timestamp: options.timestamp, bookmark: options.bookmark };
        Ok(Asked { query, batch_size, shown })
    }

    /// Queues the result, which its two delimiters enclose even when it is empty (S-6).
    pub(super) fn send(&self, command: &Command<'_>, found: Vec<Found>, now: Time) {
        let query_id = command.query_id();
        command.connection.send(group_begin(query_id), now);
        if !found.is_empty() {
            let results = Results::new(query_id, self.batch_size, self.shown, found);
            command.connection.send_results(results, now);
        }
        command.connection.send(group_end(query_id), now);
    }
}

/// The records a command names by their keys.
pub(super) fn read_keys(command: &Command<'_>) -> Result<Option<HashSet<String>>, Refusal> {
    let Some(keys) = command.message.sow_keys() else { return Ok(None) };
    match list(keys).all(is_base64) {
        true => Ok(Some(list(keys).map(str::to_owned).collect())),
        false => Err(Refusal::BadSowKey),
    }
}

fn read_order(text: &str) -> Result<Option<OrderBy>, Refusal> {
    match text {
        "" => Ok(None),
        text if text.len() > MAX_ORDER => Err(Refusal::OrderByTooLarge),
        text => OrderBy::parse(text).map(Some).map_err(|_| Refusal::InvalidOrderBy),
    }
}

/// The counters of a query's `stats` acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    topic_matches: u64,
    matches: u64,
    returned: u64,
}

impl Counts {
    pub(super) fn of(selection: &Selection) -> Counts {
        Counts {
            topic_matches: selection.topic_matches,
            matches: selection.matches,
            returned: selection.found.len() as u64,
        }
    }

    /// The acknowledgements after the data: `completed`, then `stats` (K-2).
    pub(super) fn conclude(&self, command: &Command<'_>, sub_id: &str, now: Time) {
        let query_id = command.query_id();
        command.ack(Ack { kind: AckType::COMPLETED, query_id, sub_id, ..Ack::default() }, now);
        let counters = [
            (Field::TopicMatches, self.topic_matches),
            (Field::Matches, self.matches),
            (Field::RecordsReturned, self.returned),
        ];
        let stats = Ack { kind: AckType::STATS, query_id, sub_id, counters: &counters, ..Ack::default() };
        command.ack(stats, now);
    }
}
