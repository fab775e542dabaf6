//! `flush`.

use super::Command;
use crate::testing::frames::Ack;
use crate::testing::refusal::Refusal;
use crate::wire::AckType;

/// Everything before it on the connection is done when a flush is read, so it is answered at once; the answers carry
/// its command id and no sequence number (K-5).
pub(super) fn flush(command: &Command<'_>) -> Result<(), Refusal> {
    let mut turn = command.hub.lock();
    if command.asked.contains(AckType::PERSISTED) {
        // What it is about first.
        turn.send_persisted(command.session());
    }
    let now = turn.now;
    for kind in [AckType::PROCESSED, AckType::COMPLETED] {
        command.ack(Ack { kind, ..Ack::default() }, now);
    }
    if command.asked.contains(AckType::PERSISTED) {
        turn.answer(command, None);
    }
    Ok(())
}
