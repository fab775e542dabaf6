//! `sow_delete` on a queue: a consumer acknowledges, cancels or expires messages.

use super::Command;
use super::unsubscribe::list;
use crate::bookmark::bookmark_parts;
use crate::testing::journal::Mark;
use crate::testing::options::Options;
use crate::testing::queue::AckTerms;
use crate::testing::refusal::Refusal;

/// The bookmarks of a command.
pub(super) fn read_marks(command: &Command<'_>) -> Result<Vec<Mark>, Refusal> {
    let marks = list(command.message.bookmark().unwrap_or_default()).map(|text| {
        bookmark_parts(text.as_bytes()).map(|(publisher, sequence)| Mark { publisher, sequence })
    });
    marks.collect::<Option<_>>().ok_or(Refusal::InvalidBookmark)
}

pub(super) fn read_terms(options: &Options) -> Result<AckTerms, Refusal> {
    match (options.cancel, options.expire) {
        (false, false) => Ok(AckTerms::Done),
        (true, false) => Ok(AckTerms::Cancel),
        (false, true) => Ok(AckTerms::Expire),
        (true, true) => Err(Refusal::InvalidOptions),
    }
}
