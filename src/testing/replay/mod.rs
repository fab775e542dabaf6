//! Bookmark subscriptions: they read the journal from a place of their choice, and go on with what comes (section 10).

mod feed;
mod pace;
mod reports;
mod span;

use super::journal::{Journal, Mark};
use super::timers::TimerId;

pub(crate) use pace::{Pace, Rate};
pub(crate) use reports::Reports;
pub(crate) use span::{NotFound, Span, Until};

/// How far a bookmark subscription has come, and what it is to do on the way.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) progress: Progress,
    /// The end of a range.
    until: Option<Until>,
    /// The end of the journal when the subscription was placed: behind it messages are live.
    target: u64,
    target_mark: Option<Mark>,
    /// The command that is told when the replay is complete.
    completes: Option<String>,
    /// Whether the client wants to know what is persisted.
    pub(crate) reports: bool,
    /// What it was told last.
    reported: Option<Mark>,
    /// How many messages it may still get.
    left: Option<u64>,
    pace: Option<Pace>,
    /// Messages are delivered before they are safe, which rules out a pause (T-10).
    pub(crate) is_live: bool,
    /// Messages wait until every instance has them that is waited for.
    pub(crate) is_fully_durable: bool,
    /// Whether a live message was sent.
    has_gone_live: bool,
    /// When it goes on by itself.
    pub(crate) alarm: Option<TimerId>,
}

/// Where a bookmark subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// At the end of the journal, whatever is added.
    Live,
    /// It has still to read what stands here, and what follows.
    Behind(u64),
    /// The same, at a later time.
    Resting(u64),
    /// It reads on from here when it is resumed.
    Paused(u64),
    /// It gets nothing more.
    Over,
}

/// What a command says about the replay it wants.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    pub(crate) pace: Option<Pace>,
    pub(crate) top_n: Option<u64>,
    /// The id of the command, if it wants to know when the replay is complete.
    pub(crate) completes: Option<String>,
    pub(crate) reports: bool,
    pub(crate) is_paused: bool,
    pub(crate) is_live: bool,
    pub(crate) is_fully_durable: bool,
}

impl Replay {
    pub(crate) fn new(span: Span, terms: Terms, journal: &Journal) -> Replay {
        let progress = match terms.is_paused {
            true => Progress::Paused(span.start),
            false => Progress::Behind(span.start),
        };
        Replay {
            progress,
            until: span.until,
            target: journal.end(),
            target_mark: journal.mark_before(journal.end()),
            completes: terms.completes,
            reports: terms.reports,
            reported: None,
            left: terms.top_n,
            pace: terms.pace,
            is_live: terms.is_live,
            is_fully_durable: terms.is_fully_durable,
            has_gone_live: false,
            alarm: None,
        }
    }

    /// The place of the next entry it reads; `None` if it reads no more.
    pub(crate) fn place(&self, journal: &Journal) -> Option<u64> {
        match self.progress {
            Progress::Live => Some(journal.end()),
            Progress::Behind(place) | Progress::Resting(place) | Progress::Paused(place) => Some(place),
            Progress::Over => None,
        }
    }

    /// The last entry that it is past.
    pub(crate) fn mark(&self, journal: &Journal) -> Option<Mark> {
        journal.mark_before(self.place(journal)?)
    }

    /// The last entry that it is past and that every instance has which is waited for.
    fn safe_mark(&self, journal: &Journal, unconfirmed: Option<u64>) -> Option<Mark> {
        let place = self.place(journal)?;
        journal.mark_before(unconfirmed.map_or(place, |unconfirmed| place.min(unconfirmed)))
    }

    /// Whether a message has to wait because other instances do not have it.
    fn has_to_wait(&self, place: u64, unconfirmed: Option<u64>) -> bool {
        self.is_fully_durable && unconfirmed.is_some_and(|unconfirmed| place >= unconfirmed)
    }

    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.progress, Progress::Paused(_))
    }
}
