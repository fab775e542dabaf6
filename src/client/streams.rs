//! Streams as sinks: placing a command whose result is pulled, and ending it.

use std::sync::Arc;

use super::Core;
use super::execute::{Wanted, place, unanswered};
use super::sinks::Sink;
use crate::callbacks::Origin;
use crate::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::options::text;
use crate::stream::{Lease, MessageStream, StreamQueue};

/// Places a command and returns the stream of what it brings.
pub(crate) fn execute(core: &Arc<Core>, command: Command) -> Result<MessageStream> {
    let kind = command.command_type();
    let brings_data = kind.is_subscribe() || kind.is_query();
    if !brings_data && command.ack_type_value().is_empty() {
        let placed = place(core, command, None, Wanted::default())?;
        return Ok(MessageStream::ended(placed.command.command_id_text()));
    }
    if let Some(lease) = existing(core, &command)? {
        let sink = Sink::Stream(Arc::clone(lease.queue()));
        place(core, command, Some(sink), Wanted::default().managed(core.config.driven))?;
        return Ok(MessageStream::new(lease));
    }
    let queue = Arc::new(StreamQueue::new(*core.settings.default_depth.lock()));
    let sink = Sink::Stream(Arc::clone(&queue));
    let wanted = Wanted::default().with_end_of_query().managed(core.config.driven);
    let placed = place(core, command, Some(sink), wanted)?;
    if placed.reply.is_some() {
        queue.placed();
    }
    let command = &placed.command;
    let sub_id = command.sub_id_text().filter(|_| kind.is_subscribe());
    let query_id = command.query_id_text().filter(|_| kind.is_query());
    let ids = [command.command_id_text(), sub_id, query_id];
    let lease = Arc::new(Lease::new(Arc::clone(&queue), Arc::downgrade(core), ids));
    queue.set_lease(&lease);
    Ok(MessageStream::new(lease))
}

/// The stream that a subscription is to be replaced on.
fn existing(core: &Core, command: &Command) -> Result<Option<Arc<Lease>>> {
    let replaces = text::has(command.options_text().unwrap_or_default(), "replace");
    let Some(id) = command.sub_id_text().filter(|_| replaces && command.is_subscribe()) else {
        return Ok(None);
    };
    match core.routes.sink(id) {
        None => Ok(None),
        Some(Sink::Stream(queue)) => Ok(queue.lease()),
        Some(Sink::Handler(_)) => {
            let text = format!("the subscription `{id}` has a handler: replace it with `execute_async`");
            Err(Error::new(ErrorKind::Usage, text))
        }
    }
}

impl Core {
    /// The last handle on a live stream has gone: its routes go, and the server is told.
    pub(crate) fn release_stream(&self, lease: &Lease) {
        let leads_here = |id: &str| match self.routes.sink(id) {
            Some(Sink::Stream(queue)) => Arc::ptr_eq(&queue, lease.queue()),
            _ => false,
        };
        let mut live = false;
        for id in lease.ids().filter(|id| leads_here(id)) {
            live |= !self.routes.remove(id).is_empty();
        }
        if let Some(sub_id) = lease.sub_id() {
            self.forget_subscription(sub_id);
        }
        let undo = match (lease.sub_id(), lease.query_id()) {
            (Some(sub), _) => Command::unsubscribe(sub),
            (None, Some(query)) => Command::new("unsubscribe").query_id(query),
            (None, None) => return,
        };
        if !live || !self.is_connected() {
            return;
        }
        self.send_all_acks();
        if let Err(error) = unanswered(self, undo) {
            self.report(error, Origin::Unsubscribe);
        }
    }
}
