//! `unsubscribe`.

use super::Command;
use crate::testing::refusal::Refusal;
use crate::testing::session::SessionId;
use crate::testing::world::World;

/// Ends subscriptions, queries, or both (B-2). Ids that are not known do no harm.
pub(super) fn unsubscribe(command: &Command<'_>) -> Result<(), Refusal> {
    let (sub_ids, query_ids) = (command.message.sub_id(), command.message.query_id());
    if sub_ids.is_none() && query_ids.is_none() {
        return Err(Refusal::InvalidSubId);
    }
    let mut turn = command.hub.lock();
    for id in list(sub_ids.unwrap_or_default()) {
        turn.end_subscriptions(command.session(), id);
    }
    for id in list(query_ids.unwrap_or_default()) {
        command.connection.outbox().cancel_query(id);
    }
    command.processed(turn.now);
    Ok(())
}

/// The items of a comma list.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

impl World {
    /// Ends one subscription of a session, or all of them.
    fn end_subscriptions(&mut self, session: SessionId, id: &str) {
        let Some(instance) = self.instances.get_mut(session.instance) else { return };
        let ended = match id {
            "all" => instance.subscriptions.remove_session(session),
            id => instance.subscriptions.remove(session, id).into_iter().collect(),
        };
        self.retire(ended);
    }
}
